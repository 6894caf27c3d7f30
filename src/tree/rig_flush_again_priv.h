/*
 * tree/rig_flush_again_priv.h -- for tests: a gathered job runs without memory, and again.
 */
#pragma once

#include "tree/rig_flush_priv.h"

/* Each allocation that a run makes fails once: nothing is left behind. */
static inline void rig_run_without_memory(struct tree_flush *f)
{
    struct tree_cache_info before, after;
    int rc = -ENOMEM;
    tree_cache_info(f->cache, &before);
    for (uint64_t nth = 1; rc == -ENOMEM; nth++) {
        mem_fail_at(nth);
        rc = tree_flush_run(f);
        mem_fail_at(0);
        tree_cache_info(f->cache, &after);
        CHECK_TRUE(rc == 0 || (f->out_count == 0 && f->spare_used == 0 && f->gone_count == 0));
        CHECK_TRUE(rc == 0 || (before.used == after.used && before.dirty == after.dirty));
    }
    CHECK_OK(rc);
}

static inline void rig_same_head(const struct tree_head *a, const struct tree_head *b)
{
    CHECK_EQ(a->header.partition_count, b->header.partition_count);
    CHECK_EQ(a->header.pivots.raw_len, b->header.pivots.raw_len);
    CHECK_BYTES(a->pivot_bytes, b->pivot_bytes, a->header.pivots.raw_len);
    CHECK_EQ(a->filter_len, b->filter_len);
    CHECK_BYTES(a->filter_bytes, b->filter_bytes, a->filter_len);
    for (uint32_t i = 0; i < a->header.partition_count; i++) {
        CHECK_EQ(a->part[i]->raw_len, b->part[i]->raw_len);
        if (a->part[i] != b->part[i]) {
            CHECK_BYTES(a->part[i]->bytes, b->part[i]->bytes, a->part[i]->raw_len);
        }
    }
}

/* Again: the same comes out. */
static inline void rig_run_again(struct tree_flush *f)
{
    struct tree_flush_out out[TREE_FLUSH_OUT_MAX];
    size_t count = f->out_count, spare = f->spare_used;
    memcpy(out, f->out, sizeof out);
    f->out_count = 0;
    CHECK_OK(tree_flush_run(f));
    CHECK_TRUE(f->out_count == count && f->spare_used == spare);
    for (size_t i = 0; i < count; i++) {
        CHECK_EQ(out[i].block, f->out[i].block);
        rig_same_head(out[i].head, f->out[i].head);
        tree_head_unref(out[i].head);
    }
}

static inline bool rig_shares(const struct tree_head *a, const struct tree_head *b)
{
    for (uint32_t i = 0; i < a->header.partition_count; i++) {
        for (uint32_t k = 0; k < b->header.partition_count; k++) {
            if (a->part[i] == b->part[k]) {
                return true;
            }
        }
    }
    return false;
}

/* Two neighbours: what one has is no part of the other, unless it was copied. */
static inline void rig_apart(const struct tree_flush *f)
{
    for (size_t i = 0; i < f->out_count; i++) {
        const struct tree_head *h = f->out[i].head;
        for (unsigned c = 0; c < 2; c++) {
            const struct tree_head *old = f->child[c].head;
            bool other =
                old->header.level == h->header.level && f->child[c].block != f->out[i].block;
            CHECK_TRUE(!other || !rig_shares(h, old));
        }
    }
}
