/* tree/rig_nodes_priv.h -- for tests of nodes.h: a file on a simulated disk, a cache, and heads
 * that consist of nothing but their parts. */
#pragma once

#include "base/env.h"
#include "base/mem.h"
#include "disk/sim.h"
#include "loop/sim.h"
#include "testing/machine.h"
#include "testing/testing.h"
#include "tree/nodes.h"

#include <string.h>

#define RIG_NODES_RAW ((size_t)256) /* of each part */
#define RIG_NODES_CHARGE 1000u      /* for each head */

struct rig_nodes {
    struct testing_machine machine;
    struct env env;
    struct tree_file_options opt;
    struct tree_file *file;
    struct tree_file_found found;
    struct tree_cache *cache;
    struct tree_nodes *nodes;
    struct tree_nodes_info info;
    uint64_t version; /* of the tree */
    struct tree_file_stop stop;
    bool stopped;
    int rc;
    bool ran; /* the process is alive */
    void (*run)(struct rig_nodes *r);
};

/* As a callback of the loop does, but with memory that a leak checker sees. */
static inline void rig_nodes_run(void *ctx)
{
    struct rig_nodes *r = ctx;
    struct mem_domain *domain = mem_domain_enter(NULL);
    r->run(r);
    (void)mem_domain_enter(domain);
    r->ran = true;
}
static inline bool rig_nodes_in(struct rig_nodes *r, void (*fn)(struct rig_nodes *r))
{
    r->run = fn;
    r->ran = false;
    loop_sim_enter(r->machine.loop, rig_nodes_run, r);
    return r->ran;
}

static inline void rig_nodes_create(struct rig_nodes *r)
{
    struct tree_super first = {.fanout = 32, .app_len = 2, .app = "ab"};
    struct err e;
    CHECK_OK(tree_file_create(&r->opt, &first, &e));
}

static inline void rig_nodes_open(struct rig_nodes *r)
{
    struct err e;
    CHECK_OK(tree_file_open(&r->opt, &r->file, &r->found, &e));
    struct tree_cache_options opt = {.limit_bytes = UINT64_C(1) << 30, .plain = true};
    CHECK_OK(tree_cache_new(&opt, &r->cache));
    struct tree_nodes_options nodes = {.file = r->file, .cache = r->cache};
    CHECK_OK(tree_nodes_new(&nodes, &r->nodes));
    r->version = 1;
}

static inline void rig_nodes_init(struct rig_nodes *r, uint64_t seed)
{
    testing_machine_init(&r->machine, seed);
    testing_machine_start(&r->machine, "tree", &r->env);
    r->opt = (struct tree_file_options){.env = &r->env, .path = "/tree", .grow_bytes = 1 << 20};
    CHECK(rig_nodes_in(r, rig_nodes_create));
    CHECK(rig_nodes_in(r, rig_nodes_open));
}

/* All was given back: the cache CHECKs that, the leak checker sees the rest. */
static inline void rig_nodes_free_nodes(struct rig_nodes *r)
{
    r->nodes = tree_nodes_free(r->nodes);
    r->cache = tree_cache_free(r->cache);
}
static inline void rig_nodes_stopped(struct tree_file_stop *s)
{
    container_of(s, struct rig_nodes, stop)->stopped = true;
}
static inline void rig_nodes_stop(struct rig_nodes *r)
{
    r->stop.done = rig_nodes_stopped;
    r->stopped = false;
    tree_file_stop(r->file, &r->stop);
}
static inline bool rig_nodes_is_stopped(void *ctx)
{
    return ((struct rig_nodes *)ctx)->stopped;
}
static inline void rig_nodes_close(struct rig_nodes *r)
{
    r->file = tree_file_free(r->file);
    tree_file_found_fini(&r->found);
}
static inline void rig_nodes_fini(struct rig_nodes *r)
{
    CHECK(rig_nodes_in(r, rig_nodes_free_nodes));
    CHECK(rig_nodes_in(r, rig_nodes_stop));
    CHECK_TRUE(testing_machine_until(&r->machine, rig_nodes_is_stopped, r, 60000));
    CHECK(rig_nodes_in(r, rig_nodes_close));
    testing_machine_kill(&r->machine, false);
    testing_machine_fini(&r->machine);
}

static inline const struct tree_nodes_info *rig_nodes_info(struct rig_nodes *r)
{
    tree_nodes_info(r->nodes, &r->info);
    return &r->info;
}

/* ---- heads ---- */

static inline struct tree_part *rig_nodes_part(struct rig_nodes *r, uint32_t id)
{
    uint8_t *bytes = mem_aligned(TREE_PART_ALIGN, RIG_NODES_RAW);
    CHECK(bytes != NULL);
    memset(bytes, (int)id, RIG_NODES_RAW);
    tree_cache_force(r->cache, RIG_NODES_RAW);
    struct tree_part *p = NULL;
    struct tree_part_options opt = {
        .cache = r->cache, .raw_len = (uint32_t)RIG_NODES_RAW, .entries = id, .bytes = bytes};
    CHECK_OK(tree_part_new(&opt, &p));
    return p;
}

/* With `count` parts; takes references on those of `old` (may be NULL) that it has, too. */
static inline struct tree_head *rig_nodes_head(struct rig_nodes *r, uint8_t level, uint16_t count,
                                               const struct tree_head *old)
{
    struct tree_head *h = mem_zalloc(sizeof *h);
    CHECK(h != NULL);
    h->refs = 1;
    h->cache = r->cache;
    h->header.level = level;
    h->part = mem_calloc(count, sizeof(struct tree_part *));
    CHECK(h->part != NULL);
    for (uint16_t i = 0; i < count; i++) {
        bool shared = old != NULL && i < old->header.partition_count && i % 2 == 0;
        h->part[i] = shared ? tree_part_ref(old->part[i]) : rig_nodes_part(r, i);
    }
    h->header.partition_count = count;
    h->charged = RIG_NODES_CHARGE;
    tree_cache_force(r->cache, h->charged);
    return h;
}

/* As it comes from disk: its parts are not there. */
static inline struct tree_head *rig_nodes_head_read(struct rig_nodes *r, uint8_t level,
                                                    const struct tree_part_place *place)
{
    struct tree_head *h = rig_nodes_head(r, level, 0, NULL);
    mem_free(h->part);
    h->part = mem_calloc(1, sizeof(struct tree_part *));
    CHECK(h->part != NULL);
    struct tree_part_options opt = {
        .cache = r->cache, .raw_len = (uint32_t)RIG_NODES_RAW, .place = place};
    CHECK_OK(tree_part_new(&opt, &h->part[0]));
    h->header.partition_count = 1;
    return h;
}
