/*
 * chunk/rig_store_priv.h -- for tests: a store on a simulated machine, and requests that are waited
 * for. Contents are made of their key and version, so that they can be told apart.
 */
#pragma once

#include "base/crc32c.h"
#include "base/env.h"
#include "base/mem.h"
#include "chunk/hold.h"
#include "chunk/read.h"
#include "chunk/store.h"
#include "disk/disk.h"
#include "disk/sim.h"
#include "loop/loop.h"
#include "loop/sim.h"
#include "testing/testing.h"

#define RIG static inline __attribute__((unused))
#define RIG_LIMIT_NS UINT64_C(600000000000)

struct store_rig {
    struct loop_sim *sim;
    struct disk_sim *machine;
    struct loop *loop;
    struct disk *disk;
    struct env env;
    struct fault *fault;      /* the test's; may be NULL */
    struct chunk_options opt; /* without env and user */
    struct chunk_store *store;
    struct chunk_user user;
    struct chunk_start start;
    unsigned failures, damages;
    bool format, over;
    int rc;
    struct err error;
    struct chunk_update update; /* the request that is waited for */
    struct chunk_change change;
    struct chunk_sync sync;
    struct chunk_read read;
    struct chunk_verify verify;
    struct chunk_stop stop;
    struct chunk_hold hold;
    struct chunk_ahead ahead;
};

RIG void rig_failed(struct chunk_user *u, int rc, const char *reason)
{
    (void)rc;
    (void)reason;
    container_of(u, struct store_rig, user)->failures++;
}
RIG void rig_damaged(struct chunk_user *u, struct chunk_key key)
{
    (void)key;
    container_of(u, struct store_rig, user)->damages++;
}
static const struct chunk_user_ops rig_user_ops = {.failed = rig_failed, .damaged = rig_damaged};

/* ---- Waiting: one request at a time ---- */

RIG void rig_over(struct store_rig *r, int rc)
{
    CHECK_TRUE(!r->over);
    r->over = true;
    r->rc = rc;
}
RIG bool rig_is_over(void *ctx)
{
    return ((struct store_rig *)ctx)->over;
}
RIG int rig_wait(struct store_rig *r, void (*submit)(void *ctx))
{
    r->over = false;
    loop_sim_enter(r->loop, submit, r);
    CHECK_TRUE(loop_sim_run(r->sim, rig_is_over, r, loop_sim_now_ns(r->sim) + RIG_LIMIT_NS));
    return r->rc;
}
RIG bool rig_never(void *ctx)
{
    (void)ctx;
    return false;
}
RIG void rig_pass(struct store_rig *r, uint64_t ms)
{
    (void)loop_sim_run(r->sim, rig_never, NULL, loop_sim_now_ns(r->sim) + ms * 1000000);
}

/* ---- Life ---- */

RIG void rig_started(struct chunk_start *s, int rc)
{
    rig_over(container_of(s, struct store_rig, start), rc);
}
RIG void rig_open_in(void *ctx)
{
    struct store_rig *r = ctx;
    struct chunk_options opt = r->opt;
    opt.env = &r->env;
    opt.user = &r->user;
    if (r->format) {
        const struct chunk_format_options f = {.target = {.bytes = "target"}, .fan_out = 1};
        CHECK_OK(disk_make_directories(r->disk, opt.directory));
        CHECK_OK(chunk_store_format(&opt, &f, NULL));
    }
    r->format = false;
    r->store = NULL;
    r->start.done = rig_started;
    int rc = chunk_store_open(&opt, &r->store, &r->error);
    if (rc < 0) {
        rig_over(r, rc);
    } else {
        chunk_store_start(r->store, &r->start);
    }
}
RIG int rig_boot(struct store_rig *r)
{
    CHECK_OK(loop_sim_process(r->sim, "data", 1, &r->loop));
    CHECK_OK(disk_sim_open(r->machine, r->loop, &r->disk));
    r->env = (struct env){.loop = r->loop, .disk = r->disk, .fault = r->fault};
    return rig_wait(r, rig_open_in);
}
RIG struct store_rig *rig_new(enum chunk_engine engine, uint64_t seed)
{
    struct store_rig *r = mem_zalloc(sizeof *r);
    CHECK_TRUE(r != NULL);
    r->user.ops = &rig_user_ops;
    r->opt = (struct chunk_options){.engine = engine,
                                    .directory = "/data",
                                    .cluster = {.bytes = "cluster"},
                                    .index_bytes = 16 << 20,
                                    .journal_bytes = 1 << 20,
                                    .low_bytes = 65536,
                                    .flush_ms = 50,
                                    .rest_ms = 20};
    r->sim = loop_sim_new(seed);
    CHECK_TRUE(r->sim != NULL);
    const struct disk_sim_options opt = {.sim = r->sim};
    r->machine = disk_sim_new(&opt);
    CHECK_TRUE(r->machine != NULL);
    r->format = true;
    CHECK_OK(rig_boot(r));
    return r;
}
/* kill -9, and with `power` the machine, too; then it is started again. */
RIG int rig_restart(struct store_rig *r, bool power)
{
    loop_sim_kill(r->loop);
    if (power) {
        disk_sim_crash(r->machine);
        loop_sim_reboot(r->sim, 1);
    }
    return rig_boot(r);
}
RIG void rig_end(struct store_rig *r)
{
    loop_sim_free(r->sim);
    disk_sim_free(r->machine);
    mem_free(r);
}
RIG void rig_stopped(struct chunk_stop *s, int rc)
{
    rig_over(container_of(s, struct store_rig, stop), rc);
}
RIG void rig_stop_in(void *ctx)
{
    struct store_rig *r = ctx;
    r->stop.done = rig_stopped;
    chunk_store_stop(r->store, &r->stop);
}
RIG void rig_free_in(void *ctx)
{
    struct store_rig *r = ctx;
    r->store = chunk_store_free(r->store);
    rig_over(r, 0);
}
/* All is stable, the process ends. */
RIG void rig_stop(struct store_rig *r)
{
    CHECK_OK(rig_wait(r, rig_stop_in));
    CHECK_OK(rig_wait(r, rig_free_in));
    loop_sim_kill(r->loop);
}
