/*
 * tree/rig_calls_priv.h -- for tests only: a tree in a simulated process, called as if it waited,
 * and what has to be in it.
 */
#pragma once

#include "tree/rig_inside_priv.h"

#include <stdio.h>

static inline void run(struct rig *r, void (*fn)(void *ctx))
{
    loop_sim_enter(r->tree.machine.loop, fn, r);
}

static inline bool is_done(void *ctx)
{
    return ((struct rig *)ctx)->done;
}

static inline bool is_second_done(void *ctx)
{
    return ((struct rig *)ctx)->second_done;
}

static inline int wait_checkpoint(struct rig *r)
{
    CHECK_TRUE(testing_machine_until(&r->tree.machine, is_done, r, 600000));
    return r->rc;
}

static inline int checkpoint(struct rig *r)
{
    run(r, checkpoint_in);
    return wait_checkpoint(r);
}

static inline void wait_over(struct rig *r)
{
    CHECK_TRUE(testing_machine_until(&r->tree.machine, rig_tree_over, &r->tree, 600000));
}

static inline int settle(struct rig *r)
{
    run(r, settle_in);
    wait_over(r);
    return r->tree.rc;
}

static inline int commit(struct rig *r)
{
    rig_model_step(&r->model, r->tree.seed, &r->batch);
    run(r, commit_in);
    for (unsigned rounds = 0; r->rc == -ERR_busy && rounds < 20000; rounds++) {
        testing_machine_steps(&r->tree.machine, 5);
        run(r, commit_in);
    }
    return r->rc;
}

static inline void commits(struct rig *r, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        CHECK_OK(commit(r));
    }
}

static inline void check_key(struct rig *r, uint32_t k)
{
    const struct rig_value *v = &r->model.value[k];
    r->key = k;
    run(r, get_in);
    for (unsigned rounds = 0; r->rc == -ERR_need && rounds < 1000; rounds++) {
        CHECK_OK(rig_tree_fetch(&r->tree));
        run(r, get_in);
    }
    CHECK_EQ(r->rc, v->present);
    CHECK_TRUE(!v->present || (r->value.len == v->len &&
                               (v->len == 0 || memcmp(r->value.at, v->bytes, v->len) == 0)));
}

static inline void check_all(struct rig *r)
{
    run(r, snapshot_in);
    CHECK_OK(r->rc);
    CHECK_EQ(r->snapshot->index, r->model.index);
    for (uint32_t k = 0; k < RIG_KEYS; k++) {
        check_key(r, k);
        if (k % 64 == 0) {
            rig_tree_release(&r->tree);
        }
    }
    rig_tree_release(&r->tree);
    run(r, snapshot_free_in);
}

static inline void model_at(struct rig *r, uint64_t index)
{
    memset(&r->model, 0, sizeof r->model);
    while (r->model.index < index) {
        rig_model_step(&r->model, r->tree.seed, &r->batch);
    }
}

/* The model stays as it is. */
static inline void reopen_as(struct rig *r, bool power)
{
    int rc = rig_tree_reopen(&r->tree, power);
    if (rc < 0) {
        fprintf(stderr, "open: %s\n", r->tree.err.text);
    }
    CHECK_OK(rc);
}

static inline void reopen(struct rig *r, bool power)
{
    reopen_as(r, power);
    model_at(r, kv_applied_index(r->tree.kv));
}

static inline void look(struct rig *r)
{
    run(r, look_in);
}

static inline struct rig *rig_new_nodes(uint64_t seed)
{
    struct rig *r = mem_zalloc(sizeof *r);
    CHECK(r != NULL);
    rig_tree_init(&r->tree, testing_seed() + seed);
    r->tree.opt.cache_bytes = 2u << 20; /* work memory of packing is a good part of it */
    r->tree.opt.writes_max = 2;
    CHECK_OK(rig_tree_reopen(&r->tree, false));
    return r;
}

/* With memtables so large that nothing gets into nodes. */
static inline struct rig *rig_new(uint64_t seed)
{
    struct rig *r = rig_new_nodes(seed);
    r->tree.opt.cache_bytes = 8u << 20;
    r->tree.opt.memtable_bytes = 1u << 20;
    CHECK_OK(rig_tree_reopen(&r->tree, false));
    return r;
}

static inline void rig_stop(struct rig *r)
{
    run(r, stop_in);
    wait_over(r);
    run(r, free_in);
}

static inline struct rig *rig_free(struct rig *r)
{
    if (r != NULL) {
        if (r->tree.kv != NULL) {
            rig_stop(r);
        }
        rig_tree_fini(&r->tree);
        kv_batch_fini(&r->batch);
        mem_free(r);
    }
    return NULL;
}
DEFINE_FREEP(rig)
