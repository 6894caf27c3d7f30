/*
 * tree/rig_inside_priv.h -- for tests only: calls of a tree inside its simulated process.
 */
#pragma once

#include "tree/rig_tree_priv.h"
#include "tree/tree_priv.h"

struct rig {
    struct rig_tree tree;
    struct rig_model model;
    struct kv_batch batch;
    struct kv_checkpoint checkpoint, second;
    uint64_t pace_ns; /* of the first */
    int rc, second_rc;
    bool done, second_done;
    struct kv_snapshot *snapshot;
    struct kv_slice value;
    uint32_t key;
    uint64_t forced; /* bytes of memory that are somebody's */
    struct tree_statistics counts;
    struct tree_file_info space;
};

/* ---- inside the process ---- */

static inline void commit_in(void *ctx)
{
    struct rig *r = ctx;
    r->rc = kv_commit(r->tree.kv, &r->batch, r->model.index);
}

static inline void checkpoint_done(struct kv_checkpoint *c, int rc)
{
    struct rig *r = container_of(c, struct rig, checkpoint);
    r->rc = rc;
    r->done = true;
}

static inline void second_done(struct kv_checkpoint *c, int rc)
{
    struct rig *r = container_of(c, struct rig, second);
    r->second_rc = rc;
    r->second_done = true;
}

static inline void checkpoint_in(void *ctx)
{
    struct rig *r = ctx;
    r->done = false;
    r->checkpoint =
        (struct kv_checkpoint){.done = checkpoint_done, .term = 5, .pace_ns = r->pace_ns};
    kv_checkpoint(r->tree.kv, &r->checkpoint);
    CHECK_EQ(r->checkpoint.index, kv_applied_index(r->tree.kv));
    CHECK_TRUE(!r->done);
}

static inline void second_in(void *ctx)
{
    struct rig *r = ctx;
    r->second_done = false;
    r->second = (struct kv_checkpoint){.done = second_done, .term = 6};
    kv_checkpoint(r->tree.kv, &r->second);
    CHECK_TRUE(!r->second_done);
}

static inline void hurry_in(void *ctx)
{
    kv_checkpoint_hurry(((struct rig *)ctx)->tree.kv);
}

static inline void cancel_in(void *ctx)
{
    kv_checkpoint_cancel(((struct rig *)ctx)->tree.kv);
}

static inline void settled(struct tree_settle *s, int rc)
{
    struct rig_tree *r = container_of(s, struct rig_tree, settle);
    r->rc = rc;
    r->over = true;
}

static inline void settle_in(void *ctx)
{
    struct rig *r = ctx;
    r->tree.over = false;
    r->tree.settle.done = settled;
    tree_settle(r->tree.kv, &r->tree.settle);
}

static inline void stopped(struct kv_stop *s)
{
    container_of(s, struct rig_tree, stop)->over = true;
}

static inline void stop_in(void *ctx)
{
    struct rig *r = ctx;
    r->tree.over = false;
    r->tree.stop.done = stopped;
    kv_stop(r->tree.kv, &r->tree.stop);
}

static inline void free_in(void *ctx)
{
    struct rig *r = ctx;
    r->tree.kv = kv_free(r->tree.kv);
    CHECK_EQ(r->tree.budget.used_bytes, 0);
}

static inline void look_in(void *ctx)
{
    struct rig *r = ctx;
    struct tree *t = tree_of(r->tree.kv);
    CHECK_TRUE(tree_file_sound(t->file));
    tree_file_info(t->file, &r->space);
    tree_statistics(r->tree.kv, &r->counts);
}

static inline void snapshot_in(void *ctx)
{
    struct rig *r = ctx;
    r->rc = kv_snapshot_new(r->tree.kv, &r->snapshot);
}

static inline void snapshot_free_in(void *ctx)
{
    struct rig *r = ctx;
    r->snapshot = kv_snapshot_free(r->snapshot);
}

static inline void get_in(void *ctx)
{
    struct rig *r = ctx;
    uint8_t buf[40];
    r->rc = kv_get(r->snapshot, rig_key(r->key, buf), &r->tree.need, &r->value);
}
