/*
 * datanode/rig_master_priv.h -- for tests only: a master on rig_node_priv.h, and what is asked of
 * it from inside of its process.
 */
#pragma once

#include "datanode/rig_life_priv.h"

/* ---- The master ---- */

RIG void master_stopped(struct datanode_master_user *u)
{
    container_of(u, struct rig, user)->stops++;
}
static const struct datanode_master_user_ops user_ops = {.stopped = master_stopped};

RIG struct datanode_master_target target_of(unsigned i)
{
    static const char *const argv[TARGETS][4] = {
        {NULL, "worker", "0", NULL}, {NULL, "worker", "1", NULL}, {NULL, "worker", "2", NULL}};
    static const char *const names[TARGETS] = {"target.0", "target.1", "target.2"};
    return (struct datanode_master_target){.name = names[i],
                                           .listen = address(DATA_HOST, 9500 + i),
                                           .argv = argv[i],
                                           .settings = "disk=1"};
}

RIG void master_inside(void *ctx)
{
    struct rig *r = ctx;
    struct datanode_master_target targets[TARGETS] = {0};
    struct net_address meta = address(META_HOST, 9400);
    if (r->data.env.net == NULL) { /* else it is the next program of this process */
        process_env(r, &r->data, DATA_HOST);
    }
    r->user.ops = &user_ops;
    for (unsigned i = 0; i < TARGETS; i++) {
        targets[i] = target_of(i);
    }
    if (r->port > 0 || r->any_port) {
        targets[0].listen = address(DATA_HOST, r->port);
    }
    r->opt.env = &r->data.env;
    r->opt.user = &r->user;
    r->opt.cluster_id = cluster;
    r->opt.secrets = rig_secrets();
    r->opt.name = "node.a";
    r->opt.meta = &meta;
    r->opt.meta_count = 1;
    r->opt.targets = targets;
    r->start_rc = datanode_master_start(&r->opt, &r->master, &r->start_error);
    r->opt.targets = NULL;
    r->opt.meta = NULL;
}

RIG void start_master(struct rig *r)
{
    r->data.env.net = NULL;
    CHECK_OK(loop_sim_process(r->world, "data", DATA_HOST, &r->data.loop));
    loop_sim_enter(r->data.loop, master_inside, r);
}

RIG void rig_open(struct rig *r, enum behaviour behaviour, unsigned targets)
{
    *r = (struct rig){.behaviour = behaviour, .opt.target_count = targets};
    r->world = loop_sim_new(testing_seed());
    CHECK_TRUE(r->world != NULL);
    const struct net_sim_options net = {.sim = r->world};
    r->net = net_sim_new(&net);
    CHECK_TRUE(r->net != NULL);
    r->program = (struct loop_sim_program){.name = "worker", .start = worker_start};
    loop_sim_program(r->world, &r->program);
    start_meta(r);
}

/* Processes, then what they stood on. */
RIG void rig_close(struct rig *r)
{
    struct loop *loops[LIVES + 3] = {r->meta.loop, r->data.loop, r->other.loop};
    for (unsigned i = 0; i < r->life_count; i++) {
        loops[3 + i] = r->life[i].process.loop;
    }
    for (size_t i = 0; i < ARRAY_COUNT(loops); i++) {
        if (loops[i] != NULL) {
            loop_sim_kill(loops[i]);
        }
    }
    r->net = net_sim_free(r->net);
    r->world = loop_sim_free(r->world);
}

RIG void ask_info(void *ctx)
{
    struct rig *r = ctx;
    datanode_master_info(r->master, r->asked, &r->info);
}

RIG const struct datanode_master_info *info(struct rig *r, unsigned target)
{
    r->asked = target;
    loop_sim_enter(r->data.loop, ask_info, r);
    return &r->info;
}

/* Until all targets serve; or until they say that all their chains do so. */
RIG void start_all(struct rig *r, bool settled)
{
    start_master(r);
    for (unsigned i = 0; i < r->opt.target_count; i++) {
        UNTIL(r, settled ? info(r, i)->settled : info(r, i)->serving);
    }
}

RIG void stop_inside(void *ctx)
{
    struct rig *r = ctx;
    datanode_master_stop(r->master, r->limit_ms);
}

RIG void stop_master(struct rig *r, uint64_t limit_ms)
{
    r->limit_ms = limit_ms;
    loop_sim_enter(r->data.loop, stop_inside, r);
}

RIG void free_inside(void *ctx)
{
    struct rig *r = ctx;
    r->master = datanode_master_free(r->master);
}

RIG uint64_t gap_ms(const struct rig *r, unsigned life)
{
    return (r->life[life].began_ns - r->life[life - 1].began_ns) / MS;
}

RIG bool is_about(uint64_t ms, uint64_t expected)
{
    return ms >= expected && ms <= expected + 20; /* starting and noticing takes a moment */
}

RIG void listen_inside(void *ctx)
{
    struct rig *r = ctx;
    struct net_address at = address(DATA_HOST, 9501);
    struct net_listener *listener = NULL;
    process_env(r, &r->other, DATA_HOST);
    CHECK_OK(net_listen(r->other.env.net, &at, NULL, &listener));
}
