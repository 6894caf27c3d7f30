/* datanode/rig_world_priv.h -- for tests only: workers of rig_priv.h, and all of it together. */
#pragma once

#include "datanode/rig_ask_priv.h"
#include "datanode/rig_meta_priv.h"

/* ---- Workers ---- */

RIG void rig_registered(struct datanode_worker_user *u, uint32_t target)
{
    (void)u;
    (void)target;
}
RIG void rig_failed(struct datanode_worker_user *u, int rc, const char *reason)
{
    (void)rc;
    (void)reason;
    container_of(u, struct rig_target, user)->fails++;
}
RIG void rig_stopped(struct datanode_worker_user *u, int rc)
{
    CHECK((rc) == 0);
    container_of(u, struct rig_target, user)->stops++;
}
static const struct datanode_worker_user_ops rig_user_ops = {
    .registered = rig_registered, .failed = rig_failed, .stopped = rig_stopped};
RIG int rig_start_now(struct rig_target *t)
{
    struct rig *r = t->rig;
    unsigned host = (unsigned)(t - r->target);
    char name[] = {'h', (char)('0' + host), 0};
    struct net_address meta = rig_address(RIG_META);
    const struct datanode_worker_options opt = {
        .env = &t->process.env,
        .user = &t->user,
        .directory = "/store",
        .engine = r->opt.engine,
        .format = true,
        .cluster_id = rig_cluster(),
        .secrets = rig_secrets(),
        .meta = &meta,
        .meta_count = 1,
        .listen = rig_address(host),
        .host = name,
        .buffer_bytes = r->opt.buffer_bytes,
        .max_updates = r->opt.max_updates,
        .max_reads = r->opt.max_reads,
        .max_read_bytes = r->opt.max_read_bytes,
        .stream_bytes = r->opt.stream_bytes,
        .cache_bytes = r->opt.cache_bytes,
        .dead_keep_ms = r->opt.dead_keep_ms,
        .health = r->opt.health,
        .scrub_ms = r->opt.scrub_ms,
        .move_rate = r->opt.move_rate,
        .ram_bytes = r->opt.small == host ? r->opt.small_bytes : 64u << 20,
        .low_bytes = r->opt.small == host && r->opt.low_bytes > 0 ? r->opt.low_bytes : 1};
    struct err e = {0};
    t->user.ops = &rig_user_ops;
    return datanode_worker_start(&opt, &t->worker, &e);
}
RIG void rig_start_inside(void *ctx)
{
    struct rig_target *t = ctx;
    if (t->rig->opt.engine != DATANODE_ENGINE_RAM) {
        struct disk_req req = {.op = DISK_MKDIR, .path = "/store"};
        int64_t rc = disk_now(t->process.env.disk, &req);
        CHECK(rc == 0 || rc == -EEXIST);
        struct disk_req sync = {.op = DISK_SYNC_DIR, .path = "/"};
        CHECK(disk_now(t->process.env.disk, &sync) == 0);
    }
    CHECK(rig_start_now(t) == 0);
}
RIG void rig_start(struct rig *r, unsigned host)
{
    struct rig_target *t = &r->target[host];
    t->rig = r;
    t->alive = true;
    t->leased = true;
    t->stops = 0;
    rig_process(r, &t->process, host);
    rig_in(t->process.loop, rig_start_inside, t);
}
/* kill -9 */
RIG void rig_kill(struct rig *r, unsigned host)
{
    r->target[host].alive = false;
    r->target[host].worker = NULL;
    loop_sim_kill(r->target[host].process.loop);
}
/* The machine loses power: what was not synced is up to the seed. */
RIG void rig_crash(struct rig *r, unsigned host)
{
    rig_kill(r, host);
    disk_sim_crash(r->disk[host]);
    loop_sim_reboot(r->world, host);
}

/* What it has allocated; from now on allocations fail as `fault` says (NULL: they do not). */
struct rig_domain_call {
    struct fault *fault;
    size_t bytes;
};
RIG void rig_domain_inside(void *ctx)
{
    struct rig_domain_call *c = ctx;
    struct mem_domain *d = mem_domain_enter(NULL);
    mem_domain_set_fault(d, c->fault);
    c->bytes = mem_domain_bytes(d);
    (void)mem_domain_enter(d);
}
RIG size_t rig_domain(struct rig *r, unsigned host, struct fault *fault)
{
    struct rig_domain_call c = {.fault = fault};
    rig_in(r->target[host].process.loop, rig_domain_inside, &c);
    return c.bytes;
}

/* ---- All of it ---- */

RIG void rig_open(struct rig *r, const struct rig_options *opt)
{
    *r = (struct rig){.opt = *opt};
    r->world = loop_sim_new(opt->seed);
    const struct net_sim_options net = {.sim = r->world};
    r->net = net_sim_new(&net);
    for (unsigned i = 1; i <= opt->targets; i++) {
        const struct disk_sim_options disk = {.sim = r->world};
        r->disk[i] = disk_sim_new(&disk);
        CHECK(r->disk[i] != NULL);
    }
    CHECK(r->world != NULL && r->net != NULL);
    rig_process(r, &r->meta, RIG_META);
    rig_in(r->meta.loop, rig_meta_inside, r);
    for (unsigned i = 1; i <= opt->targets; i++) {
        rig_start(r, i);
    }
    rig_process(r, &r->client, RIG_CLIENT);
    rig_in(r->client.loop, rig_client_inside, r);
}
RIG void rig_stop_inside(void *ctx)
{
    struct rig_target *t = ctx;
    datanode_worker_stop(t->worker, 2000);
}
RIG void rig_free_inside(void *ctx)
{
    struct rig_target *t = ctx;
    t->worker = datanode_worker_free(t->worker);
}
RIG void rig_stop(struct rig *r, unsigned host)
{
    struct rig_target *t = &r->target[host];
    rig_in(t->process.loop, rig_stop_inside, t);
    RIG_UNTIL(r, t->stops == 1);
    rig_in(t->process.loop, rig_free_inside, t);
    t->alive = false;
    loop_sim_kill(t->process.loop);
}
RIG void rig_close(struct rig *r)
{
    r->world = loop_sim_free(r->world);
    r->net = net_sim_free(r->net);
    for (unsigned i = 1; i <= RIG_TARGETS; i++) {
        r->disk[i] = disk_sim_free(r->disk[i]);
    }
}
/* `targets` workers, one chain that all of them serve in order, everybody has a lease. */
RIG void rig_chain_with(struct rig *r, const struct rig_options *opt)
{
    unsigned n = opt->targets;
    rig_open(r, opt);
    for (unsigned i = 1; i <= n; i++) {
        RIG_UNTIL(r, rig_info(r, i).target != 0);
    }
    rig_row(r, 1, n == 1 ? "1s" : n == 2 ? "1s 2s" : n == 3 ? "1s 2s 3s" : "1s 2s 3s 4o");
    RIG_UNTIL(r, rig_settled(r, 1));
    for (unsigned i = 1; i <= n; i++) {
        RIG_UNTIL(r, rig_info(r, i).leased);
    }
}
RIG void rig_chain(struct rig *r, unsigned targets, enum datanode_engine engine, uint64_t seed)
{
    const struct rig_options opt = {.seed = seed, .targets = targets, .engine = engine};
    rig_chain_with(r, &opt);
}
