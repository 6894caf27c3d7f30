/*
 * datanode/supervised.c -- see supervised.h. One link, never made anew.
 *
 * Both ends are on one machine, so the system tells when the other process ends; silence means
 * nothing (a stopped master is still there), and no limit but a day's applies.
 */
#include "datanode/supervised.h"

#include "base/env.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stats.h"
#include "peer/client.h"

#define NS_PER_MS 1000000ull
#define PATIENCE_MS 86400000u
#define LOOK_MS 1000u
#define UNSETTLED_MS 250u /* the master may wait for this one before it takes the next */

struct datanode_supervised {
    struct peer_user peer_user;
    struct datanode_supervised_options opt;
    struct peer *peer;
    struct stats *stats;
    struct stats_gauge restarts, last_status, hangs;
    struct peer_link *link; /* NULL: not up */
    uint64_t alive_ms;      /* 0: the master does not ask */
    struct loop_timer alive;
    struct loop_task lost;
    struct loop_timer look; /* a link that never came up has no end that would be told */
};

static void link_up(struct peer_user *u, struct peer_link *l)
{
    struct datanode_supervised *s = container_of(u, struct datanode_supervised, peer_user);
    loop_timer_cancel(s->opt.env->loop, &s->look);
    s->link = l;
    struct proto_started_push m = {.uuid = s->opt.uuid,
                                   .incarnation = s->opt.incarnation,
                                   .address = proto_bytes_text(s->opt.address)};
    int rc = peer_link_push(l, PROTO_OP_started, &m);
    if (rc < 0) {
        log_warn(s->opt.env->log, "cannot tell the master what is served", LOG_RC(rc));
    }
}

/* Told from the loop: the owner may free us then. */
static void tell_lost(struct loop_task *t)
{
    struct datanode_supervised *s = container_of(t, struct datanode_supervised, lost);
    s->opt.user->ops->lost(s->opt.user);
}

static void link_down(struct peer_user *u, struct peer_link *l, int rc, const char *reason)
{
    (void)l;
    (void)rc;
    (void)reason;
    struct datanode_supervised *s = container_of(u, struct datanode_supervised, peer_user);
    s->link = NULL;
    loop_timer_cancel(s->opt.env->loop, &s->alive);
    if (s->peer != NULL) { /* else it is our own end */
        loop_defer(s->opt.env->loop, &s->lost);
    }
}

static void look(struct loop_timer *t)
{
    struct datanode_supervised *s = container_of(t, struct datanode_supervised, look);
    if (peer_trouble(s->peer)->code < 0) {
        s->opt.user->ops->lost(s->opt.user);
    } else {
        loop_timer_in(s->opt.env->loop, &s->look, LOOK_MS * NS_PER_MS);
    }
}

/* From a timer of the loop that serves: when it hangs, nobody says so. */
static void say_alive(struct loop_timer *t)
{
    struct datanode_supervised *s = container_of(t, struct datanode_supervised, alive);
    const struct proto_alive_push m = {.settled = s->opt.user->ops->settled(s->opt.user)};
    int rc = s->link == NULL ? 0 : peer_link_push(s->link, PROTO_OP_alive, &m);
    if (rc < 0) { /* a stopped master does not read; it asks nothing of us when it goes on */
        log_debug(s->opt.env->log, "cannot tell the master that the loop turns", LOG_RC(rc));
    }
    uint64_t rest_ms = m.settled ? s->alive_ms : base_min(s->alive_ms, UNSETTLED_MS);
    loop_timer_lazy_in(s->opt.env->loop, t, rest_ms * NS_PER_MS);
}

static void life(struct peer_user *u, struct peer_link *l, const void *body)
{
    struct datanode_supervised *s = container_of(u, struct datanode_supervised, peer_user);
    const struct proto_life_push *m = body;
    (void)l;
    s->alive_ms = m->alive_ms;
    if (s->alive_ms > 0) {
        loop_timer_in(s->opt.env->loop, &s->alive, 0);
    } else { /* it does not ask any more */
        loop_timer_cancel(s->opt.env->loop, &s->alive);
    }
    if (m->disk_failures > 0) {
        s->opt.user->ops->disk_failures(s->opt.user, m->disk_failures);
    }
    stats_gauge_set(&s->hangs, (int64_t)base_min(m->hangs, INT64_MAX));
    stats_gauge_set(&s->restarts, (int64_t)base_min(m->restarts, INT64_MAX));
    stats_gauge_set(&s->last_status, m->last_status);
}

static const struct peer_user_ops link_ops = {.up = link_up, .down = link_down};
static const struct peer_handler handlers[] = {{.opcode = PROTO_OP_life, .push = life}};

int datanode_supervised_start(const struct datanode_supervised_options *opt,
                              struct datanode_supervised **ret)
{
    CLEANUP(datanode_supervised_freep) struct datanode_supervised *s = mem_zalloc(sizeof *s);
    if (s == NULL) {
        net_fd_close(opt->env->net, opt->fd);
        return -ENOMEM;
    }
    s->opt = *opt;
    s->peer_user.ops = &link_ops;
    s->lost.run = tell_lost;
    s->look.fire = look;
    s->alive.fire = say_alive;
    s->stats = opt->env->stats == NULL ? NULL : stats_new(opt->env->stats, "master");
    stats_add_gauge(s->stats, "worker_restarts", &s->restarts);
    stats_add_gauge(s->stats, "worker_last_status", &s->last_status);
    stats_add_gauge(s->stats, "worker_hangs", &s->hangs);
    struct stream *stream = NULL;
    int rc = net_adopt(opt->env->net, opt->fd, &stream);
    if (rc < 0) {
        return rc;
    }
    struct peer_options p = {.env = opt->env,
                             .user = &s->peer_user,
                             .handlers = handlers,
                             .handler_count = ARRAY_COUNT(handlers),
                             .secrets = opt->secrets,
                             .cluster_id = opt->cluster_id,
                             .role = PROTO_ROLE_TARGET,
                             .name = opt->name,
                             .stream = stream,
                             .connect_ms = PATIENCE_MS,
                             .keepalive_ms = PATIENCE_MS};
    rc = peer_new(&p, &s->peer);
    if (rc < 0) {
        return rc;
    }
    peer_start(s->peer);
    loop_timer_in(opt->env->loop, &s->look, LOOK_MS * NS_PER_MS);
    *ret = s;
    s = NULL;
    return 0;
}

struct datanode_supervised *datanode_supervised_free(struct datanode_supervised *s)
{
    if (s != NULL) {
        struct peer *peer = s->peer;
        s->peer = NULL;
        peer_free(peer);
        loop_undefer(s->opt.env->loop, &s->lost);
        loop_timer_cancel(s->opt.env->loop, &s->look);
        loop_timer_cancel(s->opt.env->loop, &s->alive);
        stats_free(s->stats);
        mem_free(s);
    }
    return NULL;
}
