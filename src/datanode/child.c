/*
 * datanode/child.c -- a target's worker process as its master sees it: started, watched, ended,
 * reported.
 *
 * A child is pausing (its restart timer runs) or running; its connection is a peer_server of its
 * own, made for each life, so that nothing of a former life is heard. Exits are reported one by one
 * in order: the queue is bounded by one report per target, because a life ends once and the next
 * begins only when the report of the one before is answered or superseded.
 *
 * The watch: a worker says from a timer of its serving loop that it turns, four times in the limit.
 * Three quarters of the limit without a word make a doubt, the rest of it must pass as well before
 * it is killed: a master that was itself stopped reads meanwhile what has long been said.
 */
#include "datanode/master_priv.h"
#include "datanode/supervised.h"

#include <signal.h>
#include <string.h>

#define PATIENCE_MS 86400000ull /* opening a large store takes its time, and is no silence */
#define WATCH_PARTS 4u
#define DISK_MEMORY_MS 3600000ull

/* ---- Reports to the metadata leader ---- */

/* Nothing of it is left to be told. */
static void look_whether_over(struct datanode_child *c)
{
    struct datanode_master *m = c->master;
    if (c->leaving && c->process.pid == 0 && !peer_call_active(&c->report)) {
        datanode_child_free(c);
    }
    datanode_master_look(m);
}

static void report_done(struct peer_call *call, const struct peer_reply *r)
{
    struct datanode_child *c = container_of(call, struct datanode_child, report);
    struct datanode_master *m = c->master;
    if (r->rc < 0) {
        log_warn(m->opt.env->log, "could not report an ended worker",
                 LOG_TEXT("target", c->target.name), LOG_RC(r->rc));
    }
    if (c->report_again) {
        c->report_again = false;
        c->exited = c->next_exited;
        peer_call(m->meta, &c->report);
        return;
    }
    look_whether_over(c);
}

static void report_exit(struct datanode_child *c, int status)
{
    struct proto_exited_request x = {
        .uuid = c->info.uuid, .incarnation = c->info.incarnation, .status = status};
    if (peer_call_active(&c->report)) {
        c->next_exited = x; /* a newer life of the same target: the older need not be told */
        c->report_again = true;
        return;
    }
    c->exited = x;
    c->report.done = report_done;
    c->report.request = &c->exited;
    c->report.opcode = PROTO_OP_exited;
    c->report.flags = PEER_CALL_AGAIN;
    c->report.timeout_ms = 60000; /* the lease has run out by then */
    peer_call(c->master->meta, &c->report);
}

/* ---- The connection to a worker ---- */

static void started(struct peer_user *u, struct peer_link *l, const void *body)
{
    (void)l;
    const struct proto_started_push *m = body;
    struct datanode_child *c = container_of(u, struct datanode_child, peer_user);
    c->info.uuid = m->uuid;
    c->info.incarnation = m->incarnation;
    c->info.serving = true;
    log_info(c->master->opt.env->log, "worker serves", LOG_TEXT("target", c->target.name),
             LOG_I64("pid", c->process.pid));
}

static void alive(struct peer_user *u, struct peer_link *l, const void *body)
{
    (void)l;
    const struct proto_alive_push *m = body;
    struct datanode_child *c = container_of(u, struct datanode_child, peer_user);
    uint64_t limit_ms = c->master->opt.watchdog_ms;
    c->doubted = false;
    if (limit_ms > 0) {
        uint64_t doubt_ms = limit_ms - limit_ms / WATCH_PARTS;
        loop_timer_in(c->master->opt.env->loop, &c->watch, doubt_ms * NS_PER_MS);
    }
    if (m->settled != c->info.settled) {
        c->info.settled = m->settled;
        datanode_master_roll(c->master);
    }
}

static void watch_due(struct loop_timer *t)
{
    struct datanode_child *c = container_of(t, struct datanode_child, watch);
    struct datanode_master *m = c->master;
    if (!c->doubted) {
        c->doubted = true;
        loop_timer_in(m->opt.env->loop, t, m->opt.watchdog_ms / WATCH_PARTS * NS_PER_MS);
        return;
    }
    log_error(m->opt.env->log, "worker hangs, killing it", LOG_TEXT("target", c->target.name),
              LOG_I64("pid", c->process.pid), LOG_U64("silent_ms", m->opt.watchdog_ms));
    c->info.hangs++;
    stats_count(&m->hangs, 1);
    (void)loop_child_signal(m->opt.env->loop, &c->process, SIGKILL); /* gone: its exit comes */
}

/* The worker tells it with its own statistics: the master listens for nobody. */
static void link_up(struct peer_user *u, struct peer_link *l)
{
    const struct datanode_child *c = container_of(u, struct datanode_child, peer_user);
    const struct proto_life_push m = {
        .restarts = c->info.restarts,
        .last_status = c->info.last_status,
        .alive_ms = (uint32_t)base_max(
            datanode_or_default(c->master->opt.watchdog_ms, 10000) / WATCH_PARTS, 1),
        .hangs = c->info.hangs,
        .disk_failures = c->disk_failures};
    int rc = peer_link_push(l, PROTO_OP_life, &m);
    if (rc < 0) {
        log_warn(c->master->opt.env->log, "cannot tell a worker its life", LOG_RC(rc));
    }
}

static void link_down(struct peer_user *u, struct peer_link *l, int rc, const char *reason)
{
    (void)u; /* a worker that ended shows by its exit */
    (void)l;
    (void)rc;
    (void)reason;
}

static const struct peer_user_ops link_ops = {.up = link_up, .down = link_down};
static const struct peer_handler handlers[] = {{.opcode = PROTO_OP_started, .push = started},
                                               {.opcode = PROTO_OP_alive, .push = alive}};

/* ---- Lives of a worker ---- */

/* One that the former program had has no server here, only its descriptor. */
static void disconnect(struct datanode_child *c)
{
    if (c->control == NULL && c->control_fd >= 0) {
        net_fd_close(c->master->opt.env->net, c->control_fd);
    }
    c->control = peer_server_free(c->control);
    c->control_fd = -1;
}

static void pause_child(struct datanode_child *c)
{
    const struct datanode_master_options *o = &c->master->opt;
    struct loop *l = o->env->loop;
    uint64_t lived_ns = c->started_ns == 0 ? 0 : loop_now_ns(l) - c->started_ns;
    if (c->back_off_ms == 0 || lived_ns >= datanode_or_default(o->stable_ms, 60000) * NS_PER_MS) {
        c->back_off_ms = datanode_or_default(o->back_off_min_ms, 100);
    } else {
        c->back_off_ms =
            base_min(2 * c->back_off_ms, datanode_or_default(o->back_off_max_ms, 30000));
    }
    c->info.restarts++; /* it will have been */
    log_info(o->env->log, "worker starts again", LOG_TEXT("target", c->target.name),
             LOG_U64("after_ms", c->back_off_ms));
    loop_timer_in(l, &c->restart, c->back_off_ms * NS_PER_MS);
}

static void log_exit(const struct datanode_child *c, int status)
{
    struct log *log = c->master->opt.env->log;
    bool wanted = c->master->stopping || c->planned || c->leaving;
    if (status < 0) {
        log_warn(log, "worker was killed", LOG_TEXT("target", c->target.name),
                 LOG_I64("signal", -status));
    } else if (status > 0 || !wanted) {
        log_warn(log, "worker ended", LOG_TEXT("target", c->target.name),
                 LOG_I64("status", status));
    }
}

/* What a life has learned of its disk the next one would have to learn again. */
static void count_disk_failure(struct datanode_child *c, int status)
{
    uint64_t now_ns = loop_now_ns(c->master->opt.env->loop);
    if (now_ns - c->disk_failed_ns > DISK_MEMORY_MS * NS_PER_MS) {
        c->disk_failures = 0;
    }
    if (status == DATANODE_EXIT_DISK) {
        c->disk_failures++;
        c->disk_failed_ns = now_ns;
    }
}

static void child_exited(struct loop_child *process, int status)
{
    struct datanode_child *c = container_of(process, struct datanode_child, process);
    struct datanode_master *m = c->master;
    struct loop *l = m->opt.env->loop;
    process->pid = 0;
    loop_timer_cancel(l, &c->watch);
    loop_timer_cancel(l, &c->kill);
    disconnect(c);
    c->info.pid = 0;
    c->info.last_status = status;
    c->info.settled = false;
    c->former = false;
    stats_count(&m->exits, 1);
    count_disk_failure(c, status);
    log_exit(c, status);
    if (c->info.serving) {
        c->info.serving = false;
        report_exit(c, status);
    }
    if (c->planned && !m->stopping && !c->leaving) {
        c->back_off_ms = 0;
        loop_timer_in(l, &c->restart, 0);
    } else if (!m->stopping && !c->leaving) {
        pause_child(c);
    }
    c->planned = false;
    look_whether_over(c);
}

/* The worker's connection and process. Its end of the pair is ours only until it has it. */
static int spawn(struct datanode_child *c, struct err *e)
{
    const struct datanode_master_options *o = &c->master->opt;
    struct peer_server_options so = {.env = o->env,
                                     .user = &c->peer_user,
                                     .handlers = handlers,
                                     .handler_count = ARRAY_COUNT(handlers),
                                     .secrets = o->secrets,
                                     .cluster_id = o->cluster_id,
                                     .role = PROTO_ROLE_MASTER,
                                     .accept_roles = PROTO_ROLE_TARGET,
                                     .name = o->name,
                                     .max_connections = 1,
                                     .hello_ms = PATIENCE_MS,
                                     .keepalive_ms = PATIENCE_MS};
    int rc = peer_server_new(&so, &c->control);
    if (rc < 0) {
        return rc;
    }
    struct stream *stream = NULL;
    int fd = -1;
    rc = net_pair(o->env->net, &stream, &fd);
    if (rc < 0) {
        return err_set(e, rc, "connection to the worker");
    }
    c->control_fd = stream_sink(stream)->fd;
    peer_server_adopt(c->control, stream);
    int fds[] = {net_listener_fd(o->env->net, c->listener), fd};
    struct loop_spawn_options so2 = {.argv = c->target.argv,
                                     .fds = fds,
                                     .fd_count = ARRAY_COUNT(fds),
                                     .log_path = c->target.log_path};
    c->process.exited = child_exited;
    rc = loop_spawn(o->env->loop, &so2, &c->process, e);
    net_fd_close(o->env->net, fd);
    return rc;
}

static void restart_due(struct loop_timer *t)
{
    struct datanode_child *c = container_of(t, struct datanode_child, restart);
    struct datanode_master *m = c->master;
    struct err e = {0};
    disconnect(c); /* from what could not be taken over */
    c->started_ns = loop_now_ns(m->opt.env->loop);
    c->doubted = false;
    stats_count(&m->starts, 1);
    int rc = spawn(c, &e);
    if (rc < 0) {
        log_error(m->opt.env->log, "cannot start a worker", LOG_TEXT("target", c->target.name),
                  LOG_TEXT("error", err_message(&e, rc)));
        disconnect(c);
        c->process.pid = 0;
        pause_child(c);
        return;
    }
    c->info.pid = c->process.pid;
    log_info(m->opt.env->log, "worker started", LOG_TEXT("target", c->target.name),
             LOG_I64("pid", c->process.pid));
}

void datanode_child_start(struct datanode_child *c)
{
    loop_timer_in(c->master->opt.env->loop, &c->restart, 0);
}

int datanode_child_adopt(struct datanode_child *c, const struct datanode_master_info *i,
                         int control_fd)
{
    struct loop *l = c->master->opt.env->loop;
    c->process.exited = child_exited;
    int rc = loop_child_adopt(l, i->pid, &c->process);
    if (rc < 0) {
        return rc;
    }
    c->info = *i;
    c->info.settled = false; /* nobody says so any more */
    c->control_fd = control_fd;
    c->started_ns = loop_now_ns(l);
    c->former = true;
    return 0;
}

/* ---- Ends that are wanted ---- */

static void kill_due(struct loop_timer *t)
{
    struct datanode_child *c = container_of(t, struct datanode_child, kill);
    log_warn(c->master->opt.env->log, "worker does not end, killing it",
             LOG_TEXT("target", c->target.name));
    (void)loop_child_signal(c->master->opt.env->loop, &c->process, SIGKILL);
}

/* False: nothing runs. */
static bool ask_to_end(struct datanode_child *c)
{
    const struct datanode_master_options *o = &c->master->opt;
    loop_timer_cancel(o->env->loop, &c->restart);
    if (c->process.pid == 0) {
        return false;
    }
    (void)loop_child_signal(o->env->loop, &c->process, SIGTERM);
    loop_timer_in(o->env->loop, &c->kill, datanode_or_default(o->stop_ms, 10000) * NS_PER_MS);
    return true;
}

void datanode_child_restart(struct datanode_child *c)
{
    c->planned = ask_to_end(c);
    if (!c->planned) {
        c->back_off_ms = 0;
        datanode_child_start(c);
    }
}

void datanode_child_leave(struct datanode_child *c)
{
    c->leaving = true;
    c->listener = net_listener_close(c->master->opt.env->net, c->listener);
    if (!ask_to_end(c)) {
        look_whether_over(c);
    }
}

/* ---- New and freed ---- */

void datanode_target_fini(struct datanode_master_target *t)
{
    union { /* the copy's texts are its own */
        const char *lent;
        char *owned;
    } u;
    const char *const texts[] = {t->name, t->settings, t->log_path};
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        u.lent = texts[i];
        mem_free(u.owned);
    }
    for (size_t i = 0; t->argv != NULL && i < DATANODE_MASTER_ARGUMENTS; i++) {
        u.lent = t->argv[i];
        mem_free(u.owned);
    }
    union {
        const char *const *lent;
        void *owned;
    } v = {.lent = t->argv};
    mem_free(v.owned);
    *t = (struct datanode_master_target){0};
}

/* NULL is copied as NULL. False: no memory. */
static bool text_copy(const char *from, const char **ret)
{
    *ret = from == NULL ? NULL : mem_strdup(from);
    return from == NULL || *ret != NULL;
}

int datanode_target_copy(const struct datanode_master_target *from,
                         struct datanode_master_target *ret)
{
    struct datanode_master_target t = {.listen = from->listen};
    const char **argv = mem_calloc(DATANODE_MASTER_ARGUMENTS + 1, sizeof *argv);
    t.argv = argv;
    bool good = argv != NULL && text_copy(from->name, &t.name) &&
                text_copy(from->settings, &t.settings) && text_copy(from->log_path, &t.log_path);
    /* The first one may be NULL: this executable. */
    for (size_t i = 0; good && (i == 0 || from->argv[i] != NULL); i++) {
        CHECK(i < DATANODE_MASTER_ARGUMENTS);
        good = text_copy(from->argv[i], &argv[i]);
    }
    if (!good) {
        datanode_target_fini(&t);
        return -ENOMEM;
    }
    *ret = t;
    return 0;
}

void datanode_child_change(struct datanode_child *c, struct datanode_master_target *t,
                           struct net_listener *li)
{
    datanode_target_fini(&c->target);
    c->target = *t;
    *t = (struct datanode_master_target){0};
    if (li != NULL) {
        net_listener_close(c->master->opt.env->net, c->listener);
        c->listener = li;
    }
}

static int listen_for(struct datanode_child *c, int fd, struct err *e)
{
    struct net *net = c->master->opt.env->net;
    const struct net_address *at = &c->target.listen;
    int rc = fd == DATANODE_CHILD_NO_SOCKET ? 0
             : fd > 0                       ? net_listen_fd(net, fd, NULL, &c->listener)
                                            : net_listen(net, at, NULL, &c->listener);
    return rc < 0 ? err_set(e, rc, "listen on %s for %s", at->text, c->target.name) : 0;
}

int datanode_child_new(struct datanode_master *m, const struct datanode_master_target *t, int fd,
                       struct datanode_child **ret, struct err *e)
{
    struct datanode_child *c = mem_zalloc(sizeof *c);
    if (c == NULL) {
        return -ENOMEM;
    }
    c->master = m;
    c->control_fd = -1;
    c->peer_user.ops = &link_ops;
    c->restart.fire = restart_due;
    c->watch.fire = watch_due;
    c->kill.fire = kill_due;
    list_push_back(&m->children, &c->node);
    int rc = datanode_target_copy(t, &c->target);
    rc = rc < 0 ? rc : listen_for(c, fd, e);
    if (rc < 0) {
        datanode_child_free(c);
        return rc;
    }
    *ret = c;
    return 0;
}

void datanode_child_free(struct datanode_child *c)
{
    struct datanode_master *m = c->master;
    struct loop *l = m->opt.env->loop;
    CHECK(!peer_call_active(&c->report));
    m->rolled = m->rolled == c ? NULL : m->rolled;
    loop_timer_cancel(l, &c->restart);
    loop_timer_cancel(l, &c->watch);
    loop_timer_cancel(l, &c->kill);
    if (c->process.pid != 0) {
        loop_child_forget(l, &c->process);
    }
    disconnect(c);
    c->listener = net_listener_close(m->opt.env->net, c->listener);
    list_remove(&c->node);
    datanode_target_fini(&c->target);
    mem_free(c);
}
