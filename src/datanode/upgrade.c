/*
 * datanode/upgrade.c -- what a master hands to its own next program, and how that one goes on.
 *
 * The text has a line of words for each target; what a later version adds stands behind them, so
 * that both directions of an upgrade understand each other:
 *
 *     target NAME ADDRESS LISTENER CONTROL PID UUID INCARNATION SERVING RESTARTS HANGS
 *
 * CONTROL (-1: none) is the master's end of the connection to the worker. Nobody reads from it any
 * more; but as long as it is open, the worker does not believe that its master is gone.
 */
#include "datanode/master_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_SIZE 160u
#define WORDS 11u

/* ---- Handing over ---- */

int datanode_master_hand_over(const struct datanode_master *m, struct datanode_master_legacy *ret)
{
    struct text t;
    text_init(&t, ret->text, sizeof ret->text);
    ret->fd_count = 0;
    LIST_FOR_EACH(at, &m->children)
    {
        const struct datanode_child *c = LIST_ENTRY(at, struct datanode_child, node);
        char uuid[UUID_TEXT_SIZE];
        if (c->leaving) {
            continue; /* it hears that its master is gone, and has been asked to end anyway */
        }
        if (ret->fd_count + 2 > DATANODE_MASTER_FDS) {
            return -E2BIG;
        }
        int listener = net_listener_fd(m->opt.env->net, c->listener);
        uuid_to_text(&c->info.uuid, uuid);
        text_add(&t, "target %s %s %d %d %lld %s %llu %d %llu %llu\n", c->target.name,
                 c->target.listen.text, listener, c->control_fd, (long long)c->process.pid, uuid,
                 (unsigned long long)c->info.incarnation, c->info.serving ? 1 : 0,
                 (unsigned long long)c->info.restarts, (unsigned long long)c->info.hangs);
        ret->fd[ret->fd_count++] = listener;
        if (c->control_fd >= 0) {
            ret->fd[ret->fd_count++] = c->control_fd;
        }
    }
    return t.cut ? -E2BIG : 0;
}

/* ---- Taking over ---- */

struct line {
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

static int line_parse(struct line *ret)
{
    uint64_t listener = 0, control = 0, pid = 0, serving = 0;
    struct datanode_master_info *i = &ret->info;
    bool connected = strcmp(ret->word[4], "-1") != 0;
    if (strcmp(ret->word[0], "target") != 0 || text_to_u64(ret->word[3], &listener) < 0 ||
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

/* A socket whose address is not wanted any more is closed; the worker is restarted anyway. */
static int take_over(struct datanode_master *m, const struct line *l, struct err *e)
{
    const struct datanode_master_target *t = NULL;
    for (size_t i = 0; t == NULL && i < m->opt.target_count; i++) {
        t = strcmp(m->opt.targets[i].name, l->word[1]) == 0 ? &m->opt.targets[i] : NULL;
    }
    struct datanode_master_target unnamed = {.name = l->word[1],
                                             .argv = (const char *const[]){NULL, NULL}};
    bool same = t != NULL && strcmp(t->listen.text, l->word[2]) == 0;
    struct datanode_child *c = NULL;
    int rc =
        datanode_child_new(m, t == NULL ? &unnamed : t, same || t == NULL ? l->listener : 0, &c, e);
    if (rc < 0) {
        return rc;
    }
    if (!same && t != NULL) {
        net_fd_close(m->opt.env->net, l->listener);
    }
    if (l->info.pid > 0 && datanode_child_adopt(c, &l->info, l->control) < 0) {
        log_warn(m->opt.env->log, "a worker of the former program is gone",
                 LOG_TEXT("target", l->word[1])); /* then it is started like any other */
        c->control_fd = l->control;               /* of nobody any more */
    }
    if (t == NULL) {
        datanode_child_leave(c);
    }
    return 0;
}

int datanode_master_inherit(struct datanode_master *m, struct err *e)
{
    const char *at = m->opt.inherited;
    struct line l;
    while (*at != 0) {
        size_t len = strcspn(at, "\n");
        l = (struct line){0};
        int rc = line_words(at, len, &l);
        rc = rc < 0 ? rc : line_parse(&l);
        if (rc < 0) {
            return err_set(e, rc, "what the former program left says '%.*s'", (int)len, at);
        }
        rc = take_over(m, &l, e);
        if (rc < 0) {
            return rc;
        }
        at += len + (at[len] == '\n' ? 1 : 0);
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
