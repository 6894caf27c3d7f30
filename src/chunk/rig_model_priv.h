/*
 * chunk/rig_model_priv.h -- for tests: a store with each engine on a simulated machine, and what
 * its chunks should be. store_test.c has what is done with it.
 */
#pragma once

#include "base/crc32c.h"
#include "base/env.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/rand.h"
#include "chunk/hold.h"
#include "chunk/read.h"
#include "disk/disk.h"
#include "disk/sim.h"
#include "loop/loop.h"
#include "loop/sim.h"
#include "testing/testing.h"

#define RIG static inline __attribute__((unused))
#define KEYS 3u
#define CONTENTS 512u
#define LIMIT_NS UINT64_C(600000000000)

struct content {
    uint64_t ver;
    uint32_t length, tgen;
    uint8_t *bytes;
};
struct state { /* indices of contents; 0: none */
    unsigned committed, pending;
};
struct model {
    struct state history[CONTENTS];
    unsigned count;  /* states */
    unsigned synced; /* at least this one is stable */
    bool next_too;   /* an update was under way: `next` may be found */
    struct state next;
};

struct bench {
    struct loop_sim *sim;
    struct disk_sim *machine;
    struct loop *loop;
    struct disk *disk;
    struct env env;
    struct fault *fault;
    enum chunk_engine engine;
    struct chunk_store *store;
    struct chunk_user user;
    unsigned failures, damages;
    uint64_t ver;
    struct content content[CONTENTS];
    unsigned content_count;
    struct model model[KEYS];
    struct rand rand;
    struct chunk_key some_keys[2];
    struct job *orphan; /* of a request that was under way when the process died */
};

static const struct uuid cluster = {.bytes = "cluster of tests"};
static const struct uuid target = {.bytes = "target of tests."};
/* `extent` without room for what nobody uses at the moment; its starts compare the whole index. */
#define FORGETFUL ((enum chunk_engine)100)

/* ---- World ---- */

RIG void user_failed(struct chunk_user *u, int rc, const char *reason)
{
    struct bench *b = container_of(u, struct bench, user);
    CHECK_TRUE(rc < 0);
    CHECK_TRUE(reason[0] != 0);
    b->failures++;
}

RIG void user_damaged(struct chunk_user *u, struct chunk_key key)
{
    struct bench *b = container_of(u, struct bench, user);
    CHECK_TRUE(key.data_id != 0);
    b->damages++;
}

static const struct chunk_user_ops user_ops = {.failed = user_failed, .damaged = user_damaged};

struct opening {
    struct bench *b;
    bool format, started;
    int rc;
    struct chunk_start start;
};

RIG void open_started(struct chunk_start *s, int rc)
{
    struct opening *o = container_of(s, struct opening, start);
    CHECK_TRUE(!o->started);
    o->started = true;
    o->rc = rc;
}

RIG struct chunk_options bench_options(struct bench *b)
{
    bool forgets = b->engine == FORGETFUL;
    return (struct chunk_options){.env = &b->env,
                                  .engine = forgets ? CHUNK_ENGINE_EXTENT : b->engine,
                                  .entry_bytes = forgets ? 1 : 0,
                                  .thorough = forgets,
                                  .pieces_max = forgets ? 1 : 0,
                                  .directory = "/data",
                                  .cluster = cluster,
                                  .user = &b->user,
                                  .ram_bytes = 8 << 20,
                                  .index_bytes = 16 << 20,
                                  .journal_bytes = 1 << 20,
                                  .low_bytes = 65536,
                                  .open_files = 2,
                                  .flush_ms = 40,
                                  .rest_ms = 20};
}

RIG void open_now(void *ctx)
{
    struct opening *o = ctx;
    struct bench *b = o->b;
    struct chunk_options opt = bench_options(b);
    if (o->format) {
        CHECK_OK(disk_make_directories(b->disk, "/data"));
        struct chunk_format_options f = {.target = target, .fan_out = 2};
        CHECK_OK(chunk_store_format(&opt, &f, NULL));
    }
    b->store = NULL;
    o->rc = chunk_store_open(&opt, &b->store, NULL);
    o->start.done = open_started;
    if (o->rc == 0) {
        chunk_store_start(b->store, &o->start);
    }
}

RIG bool open_is_over(void *ctx)
{
    const struct opening *o = ctx;
    return o->started || o->rc < 0;
}

RIG int bench_open(struct bench *b, bool format)
{
    CHECK_OK(loop_sim_process(b->sim, "data", 1, &b->loop));
    CHECK_OK(disk_sim_open(b->machine, b->loop, &b->disk));
    b->env = (struct env){.loop = b->loop, .disk = b->disk, .fault = b->fault};
    struct opening o = {.b = b, .format = format};
    loop_sim_enter(b->loop, open_now, &o);
    CHECK_TRUE(loop_sim_run(b->sim, open_is_over, &o, loop_sim_now_ns(b->sim) + LIMIT_NS));
    if (o.rc == 0) {
        struct chunk_store_info info;
        chunk_store_info(b->store, &info);
        CHECK_EQ(info.wrong, 0);
    }
    return o.rc;
}

RIG struct bench *bench_new(enum chunk_engine engine, uint64_t seed)
{
    struct bench *b = mem_zalloc(sizeof *b);
    CHECK_TRUE(b != NULL);
    b->engine = engine;
    b->fault = fault_new();
    CHECK_TRUE(b->fault != NULL);
    b->user.ops = &user_ops;
    b->content_count = 1;
    b->some_keys[0] = (struct chunk_key){7, 0};
    b->some_keys[1] = (struct chunk_key){8, 0};
    rand_seed(&b->rand, seed);
    b->sim = loop_sim_new(seed);
    CHECK_TRUE(b->sim != NULL);
    struct disk_sim_options opt = {.sim = b->sim};
    b->machine = disk_sim_new(&opt);
    CHECK_TRUE(b->machine != NULL);
    CHECK_OK(bench_open(b, true));
    for (unsigned i = 0; i < KEYS; i++) {
        b->model[i].count = 1; /* state 0: no chunk */
    }
    return b;
}

RIG void free_now(void *ctx)
{
    struct bench *b = ctx;
    b->store = chunk_store_free(b->store);
}

RIG void bench_end(struct bench *b)
{
    loop_sim_free(b->sim);
    disk_sim_free(b->machine);
    fault_free(b->fault);
    for (unsigned i = 0; i < b->content_count; i++) {
        mem_free(b->content[i].bytes);
    }
    mem_free(b);
}
