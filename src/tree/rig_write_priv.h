/*
 * tree/rig_write_priv.h -- for tests (which include testing/testing.h and machine.h before it): a
 * simulated machine with a process that has a tree file, a cache, nodes and a writer, on a disk
 * that fails when it is told to.
 */
#pragma once

#include "base/env.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/rand.h"
#include "disk/sim.h"
#include "loop/executor.h"
#include "loop/loop.h"
#include "loop/sim.h"
#include "tree/rig_tap_priv.h"
#include "tree/write.h"

#include <string.h>

#define RIG_PATH "/tree"

struct rig_write {
    struct testing_machine machine;
    struct env env;
    struct rig_tap tap;
    enum disk_op fail_op; /* the nth of these from now is carried out and said to have failed */
    uint64_t fail_nth, reads_seen;
    uint64_t fail_count; /* so many one after the other */
    int fail_rc;
    struct disk_req lie, *about;
    /* what the next process is made with */
    struct tree_file_options opt;
    struct tree_shape shape;
    uint64_t cache_bytes;
    unsigned writes_max;
    size_t max_queued; /* by the executor; 0: 64 */
    bool serial;
    bool real; /* no simulation: env is the caller's */
    /* the process's */
    struct tree_file *file;
    struct tree_file_found found;
    struct tree_cache *cache;
    struct tree_nodes *nodes;
    struct loop_executor *executor;
    struct tree_writer *writer;
    struct tree_times times;
    struct err err;
    int rc;
    bool over;
    struct tree_file_commit commit;
    struct tree_file_info info;
    struct fault *fault;
};

static inline void rig_lied(struct disk_req *req, int64_t rc)
{
    struct rig_write *r = container_of(req, struct rig_write, lie);
    (void)rc;
    r->about->done(r->about, r->fail_rc);
}

static inline struct disk_req *rig_seen(struct rig_tap *tap, struct disk_req *req, bool now)
{
    struct rig_write *r = container_of(tap, struct rig_write, tap);
    r->reads_seen += req->op == DISK_READ ? 1 : 0;
    if (now || r->fail_count == 0 || req->op != r->fail_op) {
        return req;
    }
    if (r->fail_nth > 0 && --r->fail_nth > 0) {
        return req;
    }
    r->fail_count--;
    r->about = req;
    r->lie = *req;
    r->lie.done = rig_lied;
    return &r->lie;
}

static inline void rig_create_in(void *ctx)
{
    struct rig_write *r = ctx;
    struct tree_super first = {.fanout = 32};
    r->rc = tree_file_create(&r->opt, &first, &r->err);
}

static inline int rig_make(struct rig_write *r)
{
    struct tree_cache_options co = {.limit_bytes = r->cache_bytes};
    struct loop_executor_options xo = {.name = "tree",
                                       .max_threads = 2,
                                       .max_queued = r->max_queued == 0 ? 64 : r->max_queued,
                                       .simulated = r->real ? NULL : r->env.loop};
    int rc = tree_file_open(&r->opt, &r->file, &r->found, &r->err);
    rc = rc < 0 ? rc : tree_cache_new(&co, &r->cache);
    rc = rc < 0 ? rc : loop_executor_new(&xo, &r->executor);
    if (rc < 0) {
        return rc;
    }
    memcpy(r->shape.file_id, r->found.super.file_id, TREE_FILE_ID_BYTES);
    struct tree_nodes_options no = {.file = r->file, .cache = r->cache};
    rc = tree_nodes_new(&no, &r->nodes);
    struct tree_writer_options wo = {.env = &r->env,
                                     .file = r->file,
                                     .nodes = r->nodes,
                                     .cache = r->cache,
                                     .executor = r->executor,
                                     .times = &r->times,
                                     .shape = &r->shape,
                                     .writes_max = r->writes_max,
                                     .serial = r->serial};
    return rc < 0 ? rc : tree_writer_new(&wo, &r->writer);
}

static inline void rig_open_in(void *ctx)
{
    struct rig_write *r = ctx;
    r->err = (struct err){0};
    r->rc = rig_make(r);
}

static inline void rig_start(struct rig_write *r)
{
    testing_machine_start(&r->machine, "tree", &r->env);
    r->tap = (struct rig_tap){
        .base = {.ops = &rig_tap_ops, .loop = r->env.loop}, .below = r->env.disk, .seen = rig_seen};
    r->env.disk = &r->tap.base;
    r->opt.env = &r->env;
    r->opt.path = RIG_PATH;
    r->file = NULL;
    r->writer = NULL;
    r->nodes = NULL;
    r->cache = NULL;
    r->executor = NULL;
}

static inline void rig_reopen(struct rig_write *r, bool power)
{
    testing_machine_kill(&r->machine, power);
    rig_start(r);
    loop_sim_enter(r->machine.loop, rig_open_in, r);
    CHECK_OK(r->rc);
}

static inline struct rig_write *rig_write_new(uint64_t seed, const struct tree_shape *shape)
{
    struct rig_write *r = mem_zalloc(sizeof *r);
    CHECK(r != NULL);
    testing_machine_init(&r->machine, seed);
    r->fault = fault_new();
    CHECK(r->fault != NULL);
    r->opt = (struct tree_file_options){.grow_bytes = 1U << 20};
    r->shape = *shape;
    r->cache_bytes = 64U << 20;
    rig_start(r);
    loop_sim_enter(r->machine.loop, rig_create_in, r);
    CHECK_OK(r->rc);
    rig_reopen(r, true);
    return r;
}

static inline struct rig_write *rig_write_free(struct rig_write *r)
{
    if (r != NULL) {
        testing_machine_kill(&r->machine, false);
        testing_machine_fini(&r->machine);
        fault_free(r->fault);
        mem_free(r);
    }
    return NULL;
}
DEFINE_FREEP(rig_write)

static inline bool rig_is_over(void *ctx)
{
    return ((struct rig_write *)ctx)->over;
}

static inline void rig_over(struct rig_write *r, int rc)
{
    r->rc = rc;
    r->over = true;
}

/* Runs `fn`, and the world until it is over. */
static inline int rig_wait(struct rig_write *r, void (*fn)(void *ctx))
{
    r->over = false;
    loop_sim_enter(r->machine.loop, fn, r);
    CHECK_TRUE(!r->over);
    CHECK_TRUE(testing_machine_until(&r->machine, rig_is_over, r, 60000));
    return r->rc;
}
