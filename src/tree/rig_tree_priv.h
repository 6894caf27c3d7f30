/* tree/rig_tree_priv.h -- for tests only: a simulated machine with a process that has a tree. */
#pragma once

#include "base/env.h"
#include "base/mem.h"
#include "base/rand.h"
#include "disk/sim.h"
#include "loop/loop.h"
#include "loop/sim.h"
#include "testing/machine.h"
#include "testing/testing.h"
#include "tree/rig_model_priv.h"
#include "tree/rig_tap_priv.h"
#include "tree/tree.h"

#include <string.h>

#define RIG_PATH "/tree"
#define RIG_OWNER ((const uint8_t *)"owner of a tree!")

struct rig_tree {
    struct rand rand;
    uint64_t seed;
    struct testing_machine machine;
    struct env env;
    struct mem_budget budget;
    struct rig_tap tap;
    struct tree_options opt;
    struct kv *kv;
    struct tree_found found;
    struct err err;
    int rc;
    bool over;
    uint64_t tapped; /* requests that change the disk */
    struct kv_need need;
    struct kv_fetch fetch;
    struct kv_stop stop;
    struct tree_settle settle;
};

static inline struct disk_req *rig_tree_seen(struct rig_tap *tap, struct disk_req *req, bool now)
{
    struct rig_tree *r = container_of(tap, struct rig_tree, tap);
    (void)now;
    r->tapped += req->op == DISK_WRITE || req->op == DISK_SYNC || req->op == DISK_ALLOCATE ||
                 req->op == DISK_PUNCH || req->op == DISK_TRUNCATE;
    return req;
}

static const struct tree_shape rig_shape = {.leaf_raw = 4096,
                                            .basement_raw = 512,
                                            .internal_raw = 8192,
                                            .part_raw = 1024,
                                            .fanout = 6,
                                            .runs_max = 3,
                                            .filter_bits = 10,
                                            .codec = TREE_CODEC_LZ4};

static inline void rig_tree_start(struct rig_tree *r)
{
    testing_machine_start(&r->machine, "tree", &r->env);
    r->tap = (struct rig_tap){.base = {.ops = &rig_tap_ops, .loop = r->env.loop},
                              .below = r->env.disk,
                              .seen = rig_tree_seen};
    r->env.disk = &r->tap.base;
    r->opt.env = &r->env;
    r->kv = NULL;
    r->need = (struct kv_need){0};
    mem_budget_init(&r->budget, NULL, 64u << 20);
    r->env.budget = &r->budget;
}

static inline void rig_tree_open_in(void *ctx)
{
    struct rig_tree *r = ctx;
    r->err = (struct err){0};
    r->rc = tree_open(&r->opt, &r->kv, &r->found, &r->err);
}
static inline void rig_tree_create_in(void *ctx)
{
    struct rig_tree *r = ctx;
    r->rc = tree_create(&r->opt, &r->err);
}

static inline int rig_tree_reopen(struct rig_tree *r, bool power)
{
    testing_machine_kill(&r->machine, power);
    rig_tree_start(r);
    loop_sim_enter(r->machine.loop, rig_tree_open_in, r);
    return r->rc;
}

static inline void rig_tree_init(struct rig_tree *r, uint64_t seed)
{
    *r = (struct rig_tree){.seed = seed};
    rand_seed(&r->rand, seed);
    testing_machine_init(&r->machine, seed);
    r->opt = (struct tree_options){.path = RIG_PATH,
                                   .owner = RIG_OWNER,
                                   .shape = rig_shape,
                                   .cache_bytes = 2u << 20,
                                   .memtable_bytes = 24u << 10,
                                   .piece_bytes = seed % 3 == 0 ? 0 : 4096, /* one, or several */
                                   .snapshots_max = 64,
                                   .cold_checkpoints = seed % 2 == 0 ? 2 : 0, /* both codecs */
                                   .writes_max = 2};
    rig_tree_start(r);
    loop_sim_enter(r->machine.loop, rig_tree_create_in, r);
    CHECK_OK(r->rc);
    CHECK_OK(rig_tree_reopen(r, true));
}

static inline void rig_tree_fini(struct rig_tree *r)
{
    testing_machine_kill(&r->machine, false);
    testing_machine_fini(&r->machine);
}

static inline bool rig_tree_over(void *ctx)
{
    return ((struct rig_tree *)ctx)->over;
}

static inline void rig_tree_fetched(struct kv_fetch *f, int rc)
{
    struct rig_tree *r = container_of(f, struct rig_tree, fetch);
    r->rc = rc;
    r->over = true;
}
static inline void rig_tree_fetch_in(void *ctx)
{
    struct rig_tree *r = ctx;
    r->over = false;
    r->fetch = (struct kv_fetch){.need = &r->need, .done = rig_tree_fetched};
    kv_fetch(r->kv, &r->fetch);
}
static inline int rig_tree_fetch(struct rig_tree *r)
{
    loop_sim_enter(r->machine.loop, rig_tree_fetch_in, r);
    CHECK_TRUE(testing_machine_until(&r->machine, rig_tree_over, r, 60000));
    return r->rc;
}

static inline void rig_tree_release_in(void *ctx)
{
    kv_need_release(&((struct rig_tree *)ctx)->need);
}
static inline void rig_tree_release(struct rig_tree *r)
{
    loop_sim_enter(r->machine.loop, rig_tree_release_in, r);
}
