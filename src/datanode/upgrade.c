/*
 * datanode/upgrade.c -- what a master hands to its own next program, and how that one goes on.
 *
 * The text has a line of words for each target; what a later version adds stands behind them, so
 * that both directions of an upgrade understand each other:
 *
 *     target NAME ADDRESS LISTENER CONTROL PID UUID INCARNATION SERVING RESTARTS HANGS
 *
 * CONTROL (-1: none) is the master's end of the connection to the worker. Nobody reads from it any
 * more; but as long as it is open, the worker does not believe that its master is gone. Behind the
 * first line's words are `of` and how many lines there are (not from former versions), so that no
 * worker is forgotten; then those of workers that are just ending for good, with `leaving` for
 * `target` and no listener (0): somebody has to see to it that they do end, and to report it.
 *
 * Nothing that the configuration says by now may end what runs. A target whose new address cannot
 * be had keeps the socket that it has.
 */
#include "datanode/master_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_SIZE 160u
#define WORDS 11u

/* ---- Handing over ---- */

static size_t count_lines(const struct datanode_master *m)
{
    size_t count = 0;
    LIST_FOR_EACH(at, &m->children)
    {
        count += LIST_ENTRY(at, struct datanode_child, node)->leaving ? 0 : 1;
    }
    return count;
}

static int put_child(const struct datanode_child *c, struct text *t,
                     struct datanode_master_legacy *ret)
{
    char uuid[UUID_TEXT_SIZE];
    int listener = c->leaving ? 0 : net_listener_fd(c->master->opt.env->net, c->listener);
    if (ret->fd_count + 2 > DATANODE_MASTER_FDS) {
        return -E2BIG;
    }
    uuid_to_text(&c->info.uuid, uuid);
    text_add(t, "%s %s %s %d %d %lld %s %llu %d %llu %llu", c->leaving ? "leaving" : "target",
             c->target.name, c->target.listen.text, listener, c->control_fd,
             (long long)c->process.pid, uuid, (unsigned long long)c->info.incarnation,
             c->info.serving ? 1 : 0, (unsigned long long)c->info.restarts,
             (unsigned long long)c->info.hangs);
    if (!c->leaving) {
        ret->fd[ret->fd_count++] = listener;
    }
    if (c->control_fd >= 0) {
        ret->fd[ret->fd_count++] = c->control_fd;
    }
    return 0;
}

static int put_leaving(const struct datanode_master *m, struct text *t,
                       struct datanode_master_legacy *ret)
{
    int rc = 0;
    LIST_FOR_EACH(at, &m->children)
    {
        const struct datanode_child *c = LIST_ENTRY(at, struct datanode_child, node);
        if (rc == 0 && c->leaving && c->process.pid != 0) {
            text_add(t, " ");
            rc = put_child(c, t, ret);
        }
    }
    return rc;
}

int datanode_master_hand_over(const struct datanode_master *m, struct datanode_master_legacy *ret)
{
    struct text t;
    bool first = true;
    int rc = 0;
    text_init(&t, ret->text, sizeof ret->text);
    ret->fd_count = 0;
    LIST_FOR_EACH(at, &m->children)
    {
        const struct datanode_child *c = LIST_ENTRY(at, struct datanode_child, node);
        if (rc < 0 || c->leaving) {
            continue;
        }
        rc = put_child(c, &t, ret);
        if (rc == 0 && first) {
            text_add(&t, " of %zu", count_lines(m));
            rc = put_leaving(m, &t, ret);
        }
        first = false;
        text_add(&t, "\n");
    }
    return rc < 0 ? rc : t.cut ? -E2BIG : 0;
}

/* ---- Taking over ---- */

struct line { /* of one child */
    char word[WORDS][WORD_SIZE];
    int listener, control;
    struct datanode_master_info info;
};

static int line_words(const char *text, size_t len, struct line *ret)
{
    size_t at = 0;
    for (size_t i = 0; i < WORDS; i++) {
        size_t n = at < len ? strcspn(text + at, " \n") : 0;
        if (n == 0 || n >= WORD_SIZE) {
            return -EINVAL;
        }
        memcpy(ret->word[i], text + at, n);
        ret->word[i][n] = 0;
        at += n + 1;
    }
    return 0;
}

static int line_parse(const char *text, size_t len, const char *kind, struct line *ret)
{
    uint64_t listener = 0, control = 0, pid = 0, serving = 0;
    struct datanode_master_info *i = &ret->info;
    *ret = (struct line){0};
    int rc = line_words(text, len, ret);
    if (rc < 0) {
        return rc;
    }
    bool connected = strcmp(ret->word[4], "-1") != 0;
    if (strcmp(ret->word[0], kind) != 0 || text_to_u64(ret->word[3], &listener) < 0 ||
        (connected && text_to_u64(ret->word[4], &control) < 0) ||
        text_to_u64(ret->word[5], &pid) < 0 || uuid_from_text(&i->uuid, ret->word[6]) < 0 ||
        text_to_u64(ret->word[7], &i->incarnation) < 0 || text_to_u64(ret->word[8], &serving) < 0 ||
        text_to_u64(ret->word[9], &i->restarts) < 0 || text_to_u64(ret->word[10], &i->hangs) < 0 ||
        listener > INT32_MAX || control > INT32_MAX || pid > INT32_MAX) {
        return -EINVAL;
    }
    ret->listener = (int)listener;
    ret->control = connected ? (int)control : -1;
    i->pid = (int64_t)pid;
    i->serving = serving != 0;
    return 0;
}

static void adopt(struct datanode_child *c, const struct line *l)
{
    if (l->info.pid > 0 && datanode_child_adopt(c, &l->info, l->control) < 0) {
        log_warn(c->master->opt.env->log, "a worker of the former program is gone",
                 LOG_TEXT("target", l->word[1])); /* then it is started like any other */
        c->control_fd = l->control;               /* of nobody any more */
    }
}

/* At the address that it has; `t`: what else the configuration says, or NULL. */
static struct datanode_master_target line_target(const struct datanode_master_target *t,
                                                 const struct line *l)
{
    static const char *const nothing[] = {NULL, NULL};
    struct datanode_master_target own = {.name = l->word[1], .argv = nothing};
    own = t == NULL ? own : *t;
    struct text at;
    text_init(&at, own.listen.text, sizeof own.listen.text);
    text_add(&at, "%s", l->word[2]);
    return own;
}

/* It is to be at another address by now. */
static int take_moved(struct datanode_master *m, const struct datanode_master_target *t,
                      const struct line *l, struct datanode_child **ret, struct err *e)
{
    struct err why = {0};
    int rc = datanode_child_new(m, t, 0, ret, &why);
    if (rc == 0) {
        net_fd_close(m->opt.env->net, l->listener);
        return 0;
    }
    log_error(m->opt.env->log, "a target stays at its old address", LOG_TEXT("target", t->name),
              LOG_TEXT("address", l->word[2]), LOG_TEXT("error", err_message(&why, rc)));
    const struct datanode_master_target stays = line_target(t, l);
    return datanode_child_new(m, &stays, l->listener, ret, e);
}

/* A socket whose address is not wanted any more is closed; the worker is restarted anyway. */
static int take_over(struct datanode_master *m, const struct line *l, struct err *e)
{
    const struct datanode_master_target *t = NULL;
    for (size_t i = 0; t == NULL && i < m->opt.target_count; i++) {
        t = strcmp(m->opt.targets[i].name, l->word[1]) == 0 ? &m->opt.targets[i] : NULL;
    }
    const struct datanode_master_target stays = line_target(t, l);
    struct datanode_child *c = NULL;
    int rc = t != NULL && !datanode_stays_at(l->word[2], t->listen.text)
                 ? take_moved(m, t, l, &c, e)
                 : datanode_child_new(m, &stays, l->listener, &c, e);
    if (rc < 0) {
        return rc;
    }
    adopt(c, l);
    if (t == NULL) {
        datanode_child_leave(c);
    }
    return 0;
}

/* Workers that are ending for good: all that is behind the words of a target. */
static int take_leaving(struct datanode_master *m, const char *text, size_t len, struct err *e)
{
    static const char mark[] = " leaving ";
    struct line l;
    const char *end = text + len;
    for (const char *at = strstr(text, mark); at != NULL && at < end; at = strstr(at + 1, mark)) {
        struct datanode_child *c = NULL;
        int rc = line_parse(at + 1, (size_t)(end - at - 1), "leaving", &l);
        if (rc < 0) {
            return err_set(e, rc, "what the former program left says '%.*s'", (int)len, text);
        }
        const struct datanode_master_target t = line_target(NULL, &l);
        rc = datanode_child_new(m, &t, DATANODE_CHILD_NO_SOCKET, &c, e);
        if (rc < 0) {
            return rc;
        }
        adopt(c, &l);
        datanode_child_leave(c);
    }
    return 0;
}

/* Of a text that was cut nothing is taken: numbers at its end may be others, and of workers that
 * are not in it nobody would know. */
static int check_whole(const char *text, struct err *e)
{
    static const char mark[] = " of ";
    size_t len = strlen(text), lines = 0;
    const char *of = strstr(text, mark);
    if (len > 0 && text[len - 1] != '\n') {
        return err_set(e, -EINVAL, "what the former program left ends within a line: '%s'", text);
    }
    for (size_t i = 0; i < len; i++) {
        lines += text[i] == '\n';
    }
    uint64_t want = of == NULL ? lines : strtoull(of + strlen(mark), NULL, 10);
    if (want != lines) {
        return err_set(e, -EINVAL,
                       "what the former program left has %zu lines of %" PRIu64 ": '%s'", lines,
                       want, text);
    }
    return 0;
}

int datanode_master_inherit(struct datanode_master *m, struct err *e)
{
    const char *at = m->opt.inherited;
    struct line l;
    int whole = check_whole(at, e);
    if (whole < 0) {
        return whole;
    }
    while (*at != 0) {
        size_t len = strcspn(at, "\n");
        int rc = line_parse(at, len, "target", &l);
        if (rc < 0) {
            return err_set(e, rc, "what the former program left says '%.*s'", (int)len, at);
        }
        rc = take_over(m, &l, e);
        rc = rc < 0 ? rc : take_leaving(m, at, len, e);
        if (rc < 0) {
            return rc;
        }
        at += len + 1;
    }
    return 0;
}

/* ---- One worker after the other ---- */

void datanode_master_roll(struct datanode_master *m)
{
    struct loop *l = m->opt.env->loop;
    struct datanode_child *next = NULL;
    if (m->stopping || (m->rolled != NULL && !m->rolled->info.settled)) {
        return;
    }
    LIST_FOR_EACH(at, &m->children)
    {
        struct datanode_child *c = LIST_ENTRY(at, struct datanode_child, node);
        if (next == NULL && c->former && !c->planned && !c->leaving) {
            next = c;
        }
    }
    if (m->rolled != NULL && next == NULL) {
        log_info(m->opt.env->log, "all workers run the new program");
    }
    m->rolled = next;
    loop_timer_cancel(l, &m->roll);
    if (next != NULL) {
        log_info(m->opt.env->log, "worker is restarted with the new program",
                 LOG_TEXT("target", next->target.name));
        loop_timer_in(l, &m->roll, datanode_or_default(m->opt.roll_ms, 60000) * NS_PER_MS);
        datanode_child_restart(next);
    }
}
