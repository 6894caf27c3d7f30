/*
 * datanode/rig_life_priv.h -- for tests only: workers of rig_node_priv.h, which only pretend: they
 * take connections, say what they serve and that they turn, or do not.
 */
#pragma once

#include "datanode/rig_node_priv.h"

/* ---- Workers ---- */

RIG void worker_accepted(struct net_listener_user *u, struct stream *s)
{
    struct life *f = container_of(u, struct life, acceptor);
    f->accepted++;
    stream_close(s);
}
RIG void worker_lost(struct datanode_supervised_user *u)
{
    container_of(u, struct life, user)->lost++;
}
RIG bool worker_settled(const struct datanode_supervised_user *u)
{
    const struct life *f = container_of(u, const struct life, user);
    return !f->rig->unsettled && loop_sim_now_ns(f->rig->world) - f->began_ns > 1000 * MS;
}
RIG void worker_disk_failures(struct datanode_supervised_user *u, uint32_t count)
{
    container_of(u, struct life, user)->disk_failures = count;
}
static const struct datanode_supervised_user_ops supervised_ops = {
    .lost = worker_lost, .settled = worker_settled, .disk_failures = worker_disk_failures};

RIG void worker_signalled(struct loop_signal *s, int signo)
{
    CHECK_EQ(signo, SIGTERM);
    container_of(s, struct life, term)->terms++;
}

RIG void worker_serve(void *ctx)
{
    struct life *f = ctx;
    f->user.ops = &supervised_ops;
    f->acceptor.accepted = worker_accepted;
    CHECK_OK(net_listen_fd(f->process.env.net, f->fds[0], &f->acceptor, &f->listener));
    struct datanode_supervised_options o = {.env = &f->process.env,
                                            .user = &f->user,
                                            .secrets = rig_secrets(),
                                            .cluster_id = cluster,
                                            .name = "target",
                                            .fd = f->fds[1],
                                            .incarnation = (uint64_t)(f - f->rig->life) + 1,
                                            .address = "host2:1"};
    o.uuid.bytes[0] = (uint8_t)(f->target + 1);
    CHECK_OK(datanode_supervised_start(&o, &f->supervised));
}

RIG void worker_mind_nothing(struct life *f)
{
    f->term = (struct loop_signal){.caught = worker_signalled, .signo = SIGTERM};
    CHECK_OK(loop_signal_add(f->process.loop, &f->term));
}

RIG int worker_start(struct loop_sim_program *p, struct loop *l,
                     const struct loop_spawn_options *opt)
{
    struct rig *r = container_of(p, struct rig, program);
    CHECK_TRUE(r->life_count < LIVES);
    CHECK_EQ(opt->fd_count, 2);
    struct life *f = &r->life[r->life_count++];
    *f = (struct life){.rig = r,
                       .process.loop = l,
                       .target = (unsigned)(opt->argv[2][0] - '0'),
                       .began_ns = loop_sim_now_ns(r->world),
                       .fds = {opt->fds[0], opt->fds[1]}};
    process_env(r, &f->process, DATA_HOST);
    f->process.env.stats = stats_new(NULL, ""); /* goes with the process */
    CHECK_TRUE(f->process.env.stats != NULL);
    if (r->behaviour == EXITS) {
        return 3;
    }
    if (r->behaviour == STUBBORN || r->behaviour == FROZEN) {
        worker_mind_nothing(f);
    }
    if (r->behaviour != SILENT) {
        worker_serve(f);
    }
    if (r->behaviour == FROZEN) {
        loop_sim_pause(l, true);
    }
    return 0;
}

struct looked {
    struct stats_visitor visitor;
    const char *path;
    int64_t value;
};
RIG void look(struct stats_visitor *v, const struct stats_value *value)
{
    struct looked *x = container_of(v, struct looked, visitor);
    x->value = strcmp(value->path, x->path) == 0 ? value->value : x->value;
}
/* What the worker's statistics say; -1,000: nothing of that name. */
RIG int64_t number(struct life *f, const char *path)
{
    struct looked x = {.visitor.visit = look, .path = path, .value = -1000};
    CHECK_OK(stats_walk(f->process.env.stats, &x.visitor));
    return x.value;
}

RIG struct life *last_life(struct rig *r)
{
    return &r->life[r->life_count - 1];
}
