/*
 * datanode/master.c -- see master.h.
 *
 * A worker is PAUSED (waits for its next start) or RUNNING; its connection is a peer_server of its
 * own, made for each life, so that nothing of a former life is heard. Exits are reported one by one
 * in order: the queue is bounded by one report per target, because a life ends once and the next
 * begins only when the report of the one before is answered or superseded.
 */
#include "datanode/master.h"

#include "base/env.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stats.h"
#include "loop/loop.h"
#include "peer/client.h"
#include "peer/server.h"

#include <signal.h>
#include <string.h>

#define NS_PER_MS 1000000ull
#define PATIENCE_MS 86400000ull /* opening a large store takes its time, and is no silence */

struct worker {
    struct datanode_master *master;
    struct datanode_master_target target;
    struct net_listener *listener;
    struct loop_child child;
    struct loop_timer restart;
    struct peer_user peer_user;
    struct peer_server *control; /* of this life; NULL: none */
    uint64_t started_ns, back_off_ms;
    struct datanode_master_info info;
    struct peer_call report;
    struct proto_exited_request exited;
    bool report_again; /* a life ended while the report of the one before was under way */
    struct proto_exited_request next_exited;
};

struct datanode_master {
    struct datanode_master_options opt;
    struct peer_user peer_user;
    struct peer *meta;
    struct worker *workers;
    size_t worker_count;
    bool stopping, told;
    struct loop_timer kill;
    struct loop_task stopped;
    struct stats *stats;
    struct stats_counter starts, exits;
};

static void worker_start(struct worker *w);

/* ---- Reports to the metadata leader ---- */

static void report_done(struct peer_call *c, const struct peer_reply *r)
{
    struct worker *w = container_of(c, struct worker, report);
    struct datanode_master *m = w->master;
    if (r->rc < 0) {
        log_warn(m->opt.env->log, "could not report an ended worker",
                 LOG_TEXT("target", w->target.name), LOG_RC(r->rc));
    }
    if (w->report_again) {
        w->report_again = false;
        w->exited = w->next_exited;
        peer_call(m->meta, &w->report);
    }
}

static void report_exit(struct worker *w, int status)
{
    struct proto_exited_request x = {
        .uuid = w->info.uuid, .incarnation = w->info.incarnation, .status = status};
    if (peer_call_active(&w->report)) {
        w->next_exited = x; /* a newer life of the same target: the older need not be told */
        w->report_again = true;
        return;
    }
    w->exited = x;
    w->report.done = report_done;
    w->report.request = &w->exited;
    w->report.opcode = PROTO_OP_exited;
    w->report.flags = PEER_CALL_AGAIN;
    w->report.timeout_ms = 60000; /* the lease has run out by then */
    peer_call(w->master->meta, &w->report);
}

/* ---- The connection to a worker ---- */

static void started(struct peer_user *u, struct peer_link *l, const void *body)
{
    (void)l;
    const struct proto_started_push *m = body;
    struct worker *w = container_of(u, struct worker, peer_user);
    w->info.uuid = m->uuid;
    w->info.incarnation = m->incarnation;
    w->info.serving = true;
    log_info(w->master->opt.env->log, "worker serves", LOG_TEXT("target", w->target.name),
             LOG_I64("pid", w->child.pid));
}

/* The worker tells it with its own statistics: the master listens for nobody. */
static void link_up(struct peer_user *u, struct peer_link *l)
{
    const struct worker *w = container_of(u, struct worker, peer_user);
    const struct proto_life_push m = {.restarts = w->info.restarts,
                                      .last_status = w->info.last_status};
    int rc = peer_link_push(l, PROTO_OP_life, &m);
    if (rc < 0) {
        log_warn(w->master->opt.env->log, "cannot tell a worker its life", LOG_RC(rc));
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
static const struct peer_handler handlers[] = {{.opcode = PROTO_OP_started, .push = started}};

/* ---- Lives of a worker ---- */

static uint64_t or_default(uint64_t v, uint64_t otherwise)
{
    return v == 0 ? otherwise : v;
}

static void pause_worker(struct worker *w)
{
    const struct datanode_master_options *o = &w->master->opt;
    struct loop *l = o->env->loop;
    uint64_t lived_ns = w->started_ns == 0 ? 0 : loop_now_ns(l) - w->started_ns;
    if (w->back_off_ms == 0 || lived_ns >= or_default(o->stable_ms, 60000) * NS_PER_MS) {
        w->back_off_ms = or_default(o->back_off_min_ms, 100);
    } else {
        w->back_off_ms = base_min(2 * w->back_off_ms, or_default(o->back_off_max_ms, 30000));
    }
    log_info(o->env->log, "worker starts again", LOG_TEXT("target", w->target.name),
             LOG_U64("after_ms", w->back_off_ms));
    loop_timer_in(l, &w->restart, w->back_off_ms * NS_PER_MS);
}

static void tell_stopped(struct loop_task *t)
{
    struct datanode_master *m = container_of(t, struct datanode_master, stopped);
    m->opt.user->ops->stopped(m->opt.user);
}

static void check_stopped(struct datanode_master *m)
{
    for (size_t i = 0; i < m->worker_count; i++) {
        if (m->workers[i].child.pid != 0) {
            return;
        }
    }
    if (m->stopping && !m->told) {
        m->told = true;
        loop_timer_cancel(m->opt.env->loop, &m->kill);
        loop_defer(m->opt.env->loop, &m->stopped);
    }
}

static void worker_exited(struct loop_child *c, int status)
{
    struct worker *w = container_of(c, struct worker, child);
    struct datanode_master *m = w->master;
    c->pid = 0;
    w->control = peer_server_free(w->control);
    w->info.pid = 0;
    w->info.last_status = status;
    stats_count(&m->exits, 1);
    if (status < 0) {
        log_warn(m->opt.env->log, "worker was killed", LOG_TEXT("target", w->target.name),
                 LOG_I64("signal", -status));
    } else if (status > 0 || !m->stopping) {
        log_warn(m->opt.env->log, "worker ended", LOG_TEXT("target", w->target.name),
                 LOG_I64("status", status));
    }
    if (w->info.serving) {
        w->info.serving = false;
        report_exit(w, status);
    }
    if (m->stopping) {
        check_stopped(m);
    } else {
        pause_worker(w);
    }
}

/* The worker's connection and process. Its end of the pair is ours only until it has it. */
static int spawn(struct worker *w, struct err *e)
{
    const struct datanode_master_options *o = &w->master->opt;
    struct peer_server_options so = {.env = o->env,
                                     .user = &w->peer_user,
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
    int rc = peer_server_new(&so, &w->control);
    if (rc < 0) {
        return rc;
    }
    struct stream *stream = NULL;
    int fd = -1;
    rc = net_pair(o->env->net, &stream, &fd);
    if (rc < 0) {
        return err_set(e, rc, "connection to the worker");
    }
    peer_server_adopt(w->control, stream);
    int fds[] = {net_listener_fd(o->env->net, w->listener), fd};
    struct loop_spawn_options so2 = {.argv = w->target.argv,
                                     .fds = fds,
                                     .fd_count = ARRAY_COUNT(fds),
                                     .log_path = w->target.log_path};
    w->child.exited = worker_exited;
    rc = loop_spawn(o->env->loop, &so2, &w->child, e);
    net_fd_close(o->env->net, fd);
    return rc;
}

static void worker_start(struct worker *w)
{
    struct datanode_master *m = w->master;
    struct err e = {0};
    w->info.restarts += w->started_ns == 0 ? 0 : 1;
    w->started_ns = loop_now_ns(m->opt.env->loop);
    stats_count(&m->starts, 1);
    int rc = spawn(w, &e);
    if (rc < 0) {
        log_error(m->opt.env->log, "cannot start a worker", LOG_TEXT("target", w->target.name),
                  LOG_TEXT("error", err_message(&e, rc)));
        w->control = peer_server_free(w->control);
        w->child.pid = 0;
        pause_worker(w);
        return;
    }
    w->info.pid = w->child.pid;
    log_info(m->opt.env->log, "worker started", LOG_TEXT("target", w->target.name),
             LOG_I64("pid", w->child.pid));
}

static void restart_due(struct loop_timer *t)
{
    worker_start(container_of(t, struct worker, restart));
}

/* ---- The master ---- */

static int listen_for(struct datanode_master *m, struct worker *w, struct err *e)
{
    int rc = net_listen(m->opt.env->net, &w->target.listen, NULL, &w->listener);
    if (rc < 0) {
        return err_set(e, rc, "listen on %s for %s", w->target.listen.text, w->target.name);
    }
    return 0;
}

static int add_workers(struct datanode_master *m, struct err *e)
{
    m->workers = mem_calloc(m->opt.target_count + 1, sizeof *m->workers);
    if (m->workers == NULL) {
        return -ENOMEM;
    }
    for (; m->worker_count < m->opt.target_count; m->worker_count++) {
        struct worker *w = &m->workers[m->worker_count];
        w->master = m;
        w->target = m->opt.targets[m->worker_count];
        w->peer_user.ops = &link_ops;
        w->restart.fire = restart_due;
        int rc = listen_for(m, w, e);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static void kill_due(struct loop_timer *t)
{
    struct datanode_master *m = container_of(t, struct datanode_master, kill);
    for (size_t i = 0; i < m->worker_count; i++) {
        struct worker *w = &m->workers[i];
        if (w->child.pid != 0) {
            log_warn(m->opt.env->log, "worker does not end, killing it",
                     LOG_TEXT("target", w->target.name));
            (void)loop_child_signal(m->opt.env->loop, &w->child, SIGKILL);
        }
    }
}

int datanode_master_start(const struct datanode_master_options *opt, struct datanode_master **ret,
                          struct err *e)
{
    CLEANUP(datanode_master_freep) struct datanode_master *m = mem_zalloc(sizeof *m);
    if (m == NULL) {
        return -ENOMEM;
    }
    m->opt = *opt;
    m->peer_user.ops = &link_ops;
    m->kill.fire = kill_due;
    m->stopped.run = tell_stopped;
    m->stats = opt->env->stats == NULL ? NULL : stats_new(opt->env->stats, "master");
    stats_add_counter(m->stats, "worker_starts", &m->starts);
    stats_add_counter(m->stats, "worker_exits", &m->exits);
    struct peer_options p = {.env = opt->env,
                             .user = &m->peer_user,
                             .secrets = opt->secrets,
                             .cluster_id = opt->cluster_id,
                             .role = PROTO_ROLE_MASTER,
                             .name = opt->name,
                             .addresses = opt->meta,
                             .address_count = opt->meta_count,
                             .wants_leader = true,
                             .max_queued = opt->target_count + 1};
    int rc = peer_new(&p, &m->meta);
    rc = rc < 0 ? rc : add_workers(m, e);
    if (rc < 0) {
        return rc;
    }
    peer_start(m->meta);
    for (size_t i = 0; i < m->worker_count; i++) {
        loop_timer_in(opt->env->loop, &m->workers[i].restart, 0);
    }
    *ret = m;
    m = NULL;
    return 0;
}

void datanode_master_stop(struct datanode_master *m, uint64_t limit_ms)
{
    uint64_t at_ns = loop_now_ns(m->opt.env->loop) + limit_ms * NS_PER_MS;
    if (!m->stopping || at_ns < m->kill.node.key) {
        loop_timer_at(m->opt.env->loop, &m->kill, at_ns);
    }
    for (size_t i = 0; i < m->worker_count && !m->stopping; i++) {
        loop_timer_cancel(m->opt.env->loop, &m->workers[i].restart);
    }
    m->stopping = true;
    datanode_master_signal(m, SIGTERM);
    check_stopped(m);
}

void datanode_master_signal(struct datanode_master *m, int signo)
{
    for (size_t i = 0; i < m->worker_count; i++) {
        if (m->workers[i].child.pid != 0) {
            (void)loop_child_signal(m->opt.env->loop, &m->workers[i].child, signo);
        }
    }
}

struct datanode_master *datanode_master_free(struct datanode_master *m)
{
    if (m == NULL) {
        return NULL;
    }
    struct loop *l = m->opt.env->loop;
    for (size_t i = 0; i < m->worker_count; i++) {
        m->workers[i].report_again = false;
    }
    m->meta = peer_free(m->meta); /* answers what is under way */
    for (size_t i = 0; i < m->worker_count; i++) {
        struct worker *w = &m->workers[i];
        loop_timer_cancel(l, &w->restart);
        if (w->child.pid != 0) {
            loop_child_forget(l, &w->child);
        }
        w->control = peer_server_free(w->control);
        w->listener = net_listener_close(m->opt.env->net, w->listener);
    }
    loop_timer_cancel(l, &m->kill);
    loop_undefer(l, &m->stopped);
    stats_free(m->stats);
    mem_free(m->workers);
    mem_free(m);
    return NULL;
}

void datanode_master_info(const struct datanode_master *m, size_t target,
                          struct datanode_master_info *ret)
{
    CHECK(target < m->worker_count);
    *ret = m->workers[target].info;
}
