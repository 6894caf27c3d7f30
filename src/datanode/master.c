/*
 * datanode/master.c -- see master.h: the whole; its children are in child.c.
 *
 * A child that the configuration does not name any more stays in the list until its process has
 * ended and that was reported.
 */
#include "datanode/master.h"

#include "datanode/master_priv.h"

#include <signal.h>
#include <string.h>

struct datanode_child *datanode_master_find(const struct datanode_master *m, const char *name)
{
    LIST_FOR_EACH(at, &m->children)
    {
        struct datanode_child *c = LIST_ENTRY(at, struct datanode_child, node);
        if (!c->leaving && strcmp(c->target.name, name) == 0) {
            return c;
        }
    }
    return NULL;
}

/* ---- End ---- */

static void tell_stopped(struct loop_task *t)
{
    struct datanode_master *m = container_of(t, struct datanode_master, stopped);
    m->opt.user->ops->stopped(m->opt.user);
}

void datanode_master_look(struct datanode_master *m)
{
    bool running = false;
    LIST_FOR_EACH(at, &m->children)
    {
        running = running || LIST_ENTRY(at, struct datanode_child, node)->process.pid != 0;
    }
    if (m->stopping && !m->told && !running) {
        m->told = true;
        loop_timer_cancel(m->opt.env->loop, &m->kill);
        loop_defer(m->opt.env->loop, &m->stopped);
    }
    datanode_master_roll(m);
}

static void kill_due(struct loop_timer *t)
{
    struct datanode_master *m = container_of(t, struct datanode_master, kill);
    LIST_FOR_EACH(at, &m->children)
    {
        struct datanode_child *c = LIST_ENTRY(at, struct datanode_child, node);
        if (c->process.pid != 0) {
            log_warn(m->opt.env->log, "worker does not end, killing it",
                     LOG_TEXT("target", c->target.name));
            (void)loop_child_signal(m->opt.env->loop, &c->process, SIGKILL);
        }
    }
}

void datanode_master_stop(struct datanode_master *m, uint64_t limit_ms)
{
    struct loop *l = m->opt.env->loop;
    uint64_t at_ns = loop_now_ns(l) + limit_ms * NS_PER_MS;
    if (!m->stopping || at_ns < m->kill.node.key) {
        loop_timer_at(l, &m->kill, at_ns);
    }
    m->stopping = true;
    LIST_FOR_EACH(at, &m->children)
    {
        struct datanode_child *c = LIST_ENTRY(at, struct datanode_child, node);
        loop_timer_cancel(l, &c->restart);
        (void)loop_child_signal(l, &c->process, SIGTERM); /* -ESRCH: it pauses */
    }
    datanode_master_look(m);
}

void datanode_master_signal(struct datanode_master *m, int signo)
{
    LIST_FOR_EACH(at, &m->children)
    {
        struct datanode_child *c = LIST_ENTRY(at, struct datanode_child, node);
        if (c->process.pid != 0 && c->info.serving) {
            (void)loop_child_signal(m->opt.env->loop, &c->process, signo);
        }
    }
}

/* ---- Start ---- */

static void link_up(struct peer_user *u, struct peer_link *l)
{
    (void)u;
    (void)l;
}

static void link_down(struct peer_user *u, struct peer_link *l, int rc, const char *reason)
{
    (void)u; /* reports wait, and are sent again */
    (void)l;
    (void)rc;
    (void)reason;
}

static const struct peer_user_ops link_ops = {.up = link_up, .down = link_down};

static void roll_due(struct loop_timer *t)
{
    struct datanode_master *m = container_of(t, struct datanode_master, roll);
    log_warn(m->opt.env->log, "a restarted worker is not settled yet, the next one follows",
             LOG_TEXT("target", m->rolled == NULL ? "" : m->rolled->target.name));
    m->rolled = NULL;
    datanode_master_roll(m);
}

static int add_child(struct datanode_master *m, const struct datanode_master_target *t,
                     struct err *e)
{
    struct datanode_child *c = NULL;
    struct err why = {0};
    int rc = datanode_child_new(m, t, 0, &c, &why);
    if (rc < 0 && m->opt.inherited != NULL) { /* what runs does not end for that */
        log_error(m->opt.env->log, "a new target is not started", LOG_TEXT("target", t->name),
                  LOG_TEXT("error", err_message(&why, rc)));
        return 0;
    }
    if (rc < 0 && e != NULL) {
        *e = why;
    }
    return rc;
}

/* Those that run already stay; all others are started. */
static int add_children(struct datanode_master *m, struct err *e)
{
    int rc = m->opt.inherited == NULL ? 0 : datanode_master_inherit(m, e);
    for (size_t i = 0; rc == 0 && i < m->opt.target_count; i++) {
        const struct datanode_master_target *t = &m->opt.targets[i];
        rc = datanode_master_find(m, t->name) != NULL ? 0 : add_child(m, t, e);
    }
    return rc;
}

static int connect_meta(struct datanode_master *m)
{
    const struct datanode_master_options *o = &m->opt;
    struct peer_options p = {.env = o->env,
                             .user = &m->peer_user,
                             .secrets = o->secrets,
                             .cluster_id = o->cluster_id,
                             .role = PROTO_ROLE_MASTER,
                             .name = o->name,
                             .addresses = o->meta,
                             .address_count = o->meta_count,
                             .wants_leader = true,
                             .max_queued = DATANODE_MASTER_FDS};
    return peer_new(&p, &m->meta);
}

int datanode_master_start(const struct datanode_master_options *opt, struct datanode_master **ret,
                          struct err *e)
{
    CLEANUP(datanode_master_freep) struct datanode_master *m = mem_zalloc(sizeof *m);
    if (m == NULL) {
        return -ENOMEM;
    }
    m->opt = *opt;
    list_init(&m->children);
    m->peer_user.ops = &link_ops;
    m->kill.fire = kill_due;
    m->roll.fire = roll_due;
    m->stopped.run = tell_stopped;
    m->stats = opt->env->stats == NULL ? NULL : stats_new(opt->env->stats, "master");
    stats_add_counter(m->stats, "worker_starts", &m->starts);
    stats_add_counter(m->stats, "worker_exits", &m->exits);
    stats_add_counter(m->stats, "worker_kills", &m->hangs);
    int rc = connect_meta(m);
    rc = rc < 0 ? rc : add_children(m, e);
    if (rc < 0) {
        return rc;
    }
    m->opt.targets = NULL; /* lent */
    m->opt.inherited = NULL;
    peer_start(m->meta);
    LIST_FOR_EACH(at, &m->children)
    {
        struct datanode_child *c = LIST_ENTRY(at, struct datanode_child, node);
        if (c->process.pid == 0) {
            datanode_child_start(c);
        }
    }
    datanode_master_roll(m);
    *ret = m;
    m = NULL;
    return 0;
}

struct datanode_master *datanode_master_free(struct datanode_master *m)
{
    if (m == NULL) {
        return NULL;
    }
    struct loop *l = m->opt.env->loop;
    LIST_FOR_EACH(at, &m->children)
    {
        LIST_ENTRY(at, struct datanode_child, node)->report_again = false;
    }
    m->stopping = true;           /* nobody is restarted any more */
    m->meta = peer_free(m->meta); /* answers what is under way */
    while (!list_empty(&m->children)) {
        datanode_child_free(LIST_ENTRY(m->children.next, struct datanode_child, node));
    }
    loop_timer_cancel(l, &m->kill);
    loop_timer_cancel(l, &m->roll);
    loop_undefer(l, &m->stopped);
    stats_free(m->stats);
    mem_free(m);
    return NULL;
}

/* ---- Another configuration ---- */

/* One entry of it, prepared before anything is changed. */
struct entry {
    struct datanode_child *child; /* that there is, or the new one */
    struct datanode_master_target target;
    struct net_listener *listener; /* NULL: stays */
    bool fresh, changed;
};

static bool text_equal(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool arguments_equal(const char *const *a, const char *const *b)
{
    size_t i = 0;
    while (text_equal(a[i], b[i]) && (i == 0 || a[i] != NULL)) {
        i++;
    }
    return text_equal(a[i], b[i]);
}

bool datanode_stays_at(const char *has, const char *wanted)
{
    size_t len = strlen(wanted);
    bool any_port = len > 2 && strcmp(wanted + len - 2, ":0") == 0;
    return strcmp(has, wanted) == 0 || (any_port && strncmp(has, wanted, len - 1) == 0);
}

static int entry_prepare(struct datanode_master *m, const struct datanode_master_target *t,
                         struct entry *n, struct err *e)
{
    n->child = datanode_master_find(m, t->name);
    n->fresh = n->child == NULL;
    if (n->fresh) {
        return datanode_child_new(m, t, 0, &n->child, e);
    }
    const struct datanode_master_target *old = &n->child->target;
    bool moved = !datanode_stays_at(old->listen.text, t->listen.text);
    n->changed = moved || !text_equal(old->settings, t->settings) ||
                 !text_equal(old->log_path, t->log_path) || !arguments_equal(old->argv, t->argv);
    int rc = datanode_target_copy(t, &n->target);
    n->target.listen = moved ? t->listen : old->listen;
    if (rc == 0 && moved) {
        rc = net_listen(m->opt.env->net, &t->listen, NULL, &n->listener);
        rc = rc < 0 ? err_set(e, rc, "listen on %s for %s", t->listen.text, t->name) : 0;
    }
    return rc;
}

static void entries_undo(struct datanode_master *m, struct entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (entries[i].fresh && entries[i].child != NULL) {
            datanode_child_free(entries[i].child);
        }
        net_listener_close(m->opt.env->net, entries[i].listener);
        datanode_target_fini(&entries[i].target);
    }
}

static void entries_apply(struct datanode_master *m, struct entry *entries, size_t count,
                          struct datanode_master_change *ret)
{
    struct list all;
    list_init(&all);
    list_splice_back(&all, &m->children);
    for (size_t i = 0; i < count; i++) {
        struct entry *n = &entries[i];
        list_remove(&n->child->node);
        list_push_back(&m->children, &n->child->node); /* in the new order */
        ret->added += n->fresh;
        ret->changed += n->changed;
        if (n->changed) {
            datanode_child_change(n->child, &n->target, n->listener);
            n->listener = NULL;
            datanode_child_restart(n->child);
        } else if (n->fresh) {
            datanode_child_start(n->child);
        }
        datanode_target_fini(&n->target);
    }
    for (struct list *at; (at = list_pop_front(&all)) != NULL;) {
        struct datanode_child *c = LIST_ENTRY(at, struct datanode_child, node);
        list_push_back(&m->children, at);
        if (!c->leaving) {
            ret->removed++;
            datanode_child_leave(c);
        }
    }
}

int datanode_master_reload(struct datanode_master *m, const struct datanode_master_target *targets,
                           size_t target_count, struct datanode_master_change *ret, struct err *e)
{
    struct datanode_master_change change = {0};
    CLEANUP(mem_freep) struct entry *entries = mem_calloc(target_count + 1, sizeof *entries);
    int rc = m->stopping ? -ERR_shutting_down : entries == NULL ? -ENOMEM : 0;
    for (size_t i = 0; rc == 0 && i < target_count; i++) {
        rc = entry_prepare(m, &targets[i], &entries[i], e);
    }
    if (rc < 0) {
        if (entries != NULL) {
            entries_undo(m, entries, target_count);
        }
        return rc;
    }
    entries_apply(m, entries, target_count, &change);
    *ret = change;
    return 0;
}

/* ---- Questions ---- */

size_t datanode_master_count(const struct datanode_master *m)
{
    size_t count = 0;
    LIST_FOR_EACH(at, &m->children)
    {
        count += LIST_ENTRY(at, const struct datanode_child, node)->leaving ? 0 : 1;
    }
    return count;
}

void datanode_master_info(const struct datanode_master *m, size_t target,
                          struct datanode_master_info *ret)
{
    LIST_FOR_EACH(at, &m->children)
    {
        const struct datanode_child *c = LIST_ENTRY(at, struct datanode_child, node);
        if (!c->leaving && target-- == 0) {
            *ret = c->info;
            ret->former = c->former;
            return;
        }
    }
    CHECK(false && "such a target");
}
