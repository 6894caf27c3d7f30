/* tree/rig_fetch_file_priv.h -- for tests (which include testing/testing.h and machine.h before
 * it): a tree file on a simulated disk that can be spoilt, and all that a fetcher needs. */
#pragma once

#include "disk/sim.h"
#include "loop/executor.h"
#include "loop/sim.h"
#include "tree/rig_fetch_priv.h"
#include "tree/rig_fetch_tap_priv.h"

#define PATH "/tree"
#define NODES_MAX 8u

struct rig_options {
    uint64_t cache_bytes; /* 0: plenty */
    size_t max_queued;    /* of the executor; 0: plenty */
    unsigned reads_max;
};

struct rig {
    struct testing_machine machine;
    struct rig_options opt;
    struct env env;
    struct tap tap;
    struct kv kv;
    struct tree_file *file;
    struct tree_file_found found;
    struct tree_file_write write;
    struct tree_cache *cache;
    struct tree_nodes *nodes;
    struct loop_executor *executor;
    struct tree_fetcher *x;
    struct tree_times times;
    struct made_spec spec[NODES_MAX];
    struct made made[NODES_MAX];
    size_t count;
    uint64_t version; /* of the tree */
    uint64_t hogged;  /* bytes of the cache that the test has */
    size_t heap;      /* bytes of the process before there was a fetcher */
    bool over, inside;
    int rc;
};

/* ---- a file with nodes ---- */

static inline void rig_unpin(struct kv *kv, struct kv_need_item *item)
{
    (void)kv;
    tree_need_unpin(item);
}
static const struct kv_ops rig_kv_ops = {.unpin = rig_unpin};

static inline bool rig_is_over(void *ctx)
{
    return ((struct rig *)ctx)->over;
}

static inline void rig_until(struct rig *r, bool (*done)(void *ctx), void *ctx)
{
    CHECK_TRUE(testing_machine_until(&r->machine, done, ctx, 60000));
}

static inline void rig_start_in(void *ctx)
{
    struct rig *r = ctx;
    const struct tree_super first = {.fanout = 32};
    const struct tree_file_options opt = {.env = &r->env, .path = PATH};
    struct err e = {0};
    CHECK_OK(tree_file_create(&opt, &first, &e));
    CHECK_OK(tree_file_open(&opt, &r->file, &r->found, &e));
}

static inline struct rig *rig_new(const struct rig_options *opt)
{
    struct rig *r = mem_zalloc(sizeof *r);
    CHECK(r != NULL);
    testing_machine_init(&r->machine, testing_seed());
    testing_machine_start(&r->machine, "tree", &r->env);
    r->opt = *opt;
    r->kv.ops = &rig_kv_ops;
    r->tap.tap = (struct rig_tap){
        .base = {.ops = &rig_tap_ops, .loop = r->env.loop}, .below = r->env.disk, .seen = tap_seen};
    r->env.disk = &r->tap.tap.base;
    loop_sim_enter(r->machine.loop, rig_start_in, r);
    return r;
}

static inline void rig_written(struct tree_file_write *w, int rc)
{
    struct rig *r = container_of(w, struct rig, write);
    r->rc = rc;
    r->over = true;
}

static inline void rig_write_in(void *ctx)
{
    struct rig *r = ctx;
    struct made_spec *s = &r->spec[r->count];
    struct made *m = &r->made[r->count];
    uint64_t birth = tree_file_number(r->file);
    if (s->older == NULL) {
        CHECK_OK(tree_file_block_new(r->file, s->level, &s->block));
    }
    made_node(m, s, r->found.super.file_id, birth);
    r->write = (struct tree_file_write){.done = rig_written,
                                        .block = s->block,
                                        .birth = birth,
                                        .buf = m->bytes,
                                        .len = m->header.total_len,
                                        .header_len = (uint32_t)base_align_up(m->head_len, 512),
                                        .checksum = m->sum,
                                        .level = s->level,
                                        .append = s->older != NULL};
    r->over = false;
    tree_file_write(r->file, &r->write);
}

/* Returns its index. */
static inline size_t rig_write(struct rig *r, const struct made_spec *s)
{
    CHECK(r->count < NODES_MAX);
    r->spec[r->count] = *s;
    loop_sim_enter(r->machine.loop, rig_write_in, r);
    rig_until(r, rig_is_over, r);
    CHECK_OK(r->rc);
    return r->count++;
}

static inline size_t rig_heap(void)
{
    struct mem_domain *d = mem_domain_enter(NULL);
    (void)mem_domain_enter(d);
    return mem_domain_bytes(d);
}

static inline void rig_open_in(void *ctx)
{
    struct rig *r = ctx;
    r->heap = rig_heap();
    struct tree_cache_options co = {.limit_bytes =
                                        r->opt.cache_bytes == 0 ? 64u << 20 : r->opt.cache_bytes};
    CHECK_OK(tree_cache_new(&co, &r->cache));
    struct tree_nodes_options no = {.file = r->file, .cache = r->cache};
    CHECK_OK(tree_nodes_new(&no, &r->nodes));
    struct loop_executor_options eo = {.name = "tree",
                                       .max_threads = 2,
                                       .max_queued =
                                           r->opt.max_queued == 0 ? 64 : r->opt.max_queued,
                                       .simulated = r->env.loop};
    CHECK_OK(loop_executor_new(&eo, &r->executor));
    struct tree_fetcher_options fo = {.env = &r->env,
                                      .file = r->file,
                                      .nodes = r->nodes,
                                      .cache = r->cache,
                                      .executor = r->executor,
                                      .times = &r->times,
                                      .file_id = r->found.super.file_id,
                                      .idle = tap_idle,
                                      .idle_arg = &r->tap,
                                      .reads_max = r->opt.reads_max};
    CHECK_OK(tree_fetcher_new(&fo, &r->x));
    r->tap.reads = 0;
    r->tap.in_flight_max = 0;
}

/* The nodes that were written, none in memory. */
static inline void rig_open(struct rig *r)
{
    loop_sim_enter(r->machine.loop, rig_open_in, r);
}

static inline void rig_close_in(void *ctx)
{
    struct rig *r = ctx;
    CHECK_TRUE(!tree_fetcher_busy(r->x));
    r->x = tree_fetcher_free(r->x);
    r->nodes = tree_nodes_free(r->nodes);
    r->cache = tree_cache_free(r->cache); /* all that was charged was given back */
    r->executor = loop_executor_free(r->executor);
    CHECK_TRUE(r->version > 0 || rig_heap() == r->heap); /* the file notes what was dropped */
}

static inline struct rig *rig_free(struct rig *r)
{
    if (r != NULL) {
        if (r->x != NULL) {
            loop_sim_enter(r->machine.loop, rig_close_in, r);
        }
        for (size_t i = 0; i < r->count; i++) {
            r->made[i].bytes = NULL; /* of the process */
        }
        testing_machine_kill(&r->machine, false);
        testing_machine_fini(&r->machine);
        mem_free(r);
    }
    return NULL;
}
DEFINE_FREEP(rig)
