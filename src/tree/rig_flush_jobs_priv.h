/*
 * tree/rig_flush_jobs_priv.h -- for tests of flushes: runs jobs as the owner of a tree does, with
 * parts that are missing and allocations that fail.
 */
#pragma once

#include "tree/rig_flush_again_priv.h"
#include "tree/rig_flush_parts_priv.h"

static inline struct tree_node_at rig_at(const struct rig *r, uint64_t block)
{
    CHECK(block < RIG_BLOCKS && r->head[block] != NULL);
    return (struct tree_node_at){
        .head = r->head[block], .block = block, .version = r->version[block]};
}

/* The way down to the node of a level that has the key, as the path of a job. */
static inline uint64_t rig_path(const struct rig *r, struct kv_slice key, unsigned level,
                                struct tree_flush *f)
{
    uint64_t block = r->root;
    f->depth = 0;
    while (r->head[block]->header.level > level) {
        const struct tree_head *h = r->head[block];
        f->path[f->depth] = rig_at(r, block);
        f->slot[f->depth] = tree_pivots_slot(&h->pivots, key);
        block = tree_pivots_child(&h->pivots, f->slot[f->depth++]);
    }
    return block;
}

static inline void rig_install(struct rig *r, struct tree_flush *f)
{
    r->now++;
    for (size_t i = 0; i < f->gone_count; i++) {
        CHECK_TRUE(r->head[f->gone[i]] != NULL);
        r->head[f->gone[i]] = tree_head_unref(r->head[f->gone[i]]);
    }
    for (size_t i = 0; i < f->out_count; i++) {
        struct tree_head *h = f->out[i].head;
        uint64_t block = f->out[i].block;
        CHECK_EQ(h->header.block, block);
        for (size_t k = 0; k < i; k++) {
            CHECK_NE(f->out[k].block, block);
        }
        tree_head_unref(r->head[block]);
        r->head[block] = h;
        r->version[block] = r->now;
        for (uint32_t p = 0; p < h->header.partition_count; p++) {
            rig_written(r, h->part[p], block);
        }
    }
    f->out_count = 0;
    r->next_block += f->spare_used;
    r->root = f->root;
    r->height = f->height;
}

/* All below a dropped node. */
static inline void rig_drop(struct rig *r, uint64_t top)
{
    uint64_t todo[RIG_BLOCKS];
    size_t count = 1;
    todo[0] = top;
    while (count > 0) {
        uint64_t block = todo[--count];
        struct tree_head *h = r->head[block];
        for (uint16_t s = 0; h->header.level > 0 && s < h->header.slots; s++) {
            todo[count++] = tree_pivots_child(&h->pivots, s);
        }
        r->head[block] = tree_head_unref(h);
    }
    r->dropped++;
}

/* Gathers, fetching what is missed; sometimes much was evicted. */
static inline void rig_gather(struct rig *r, struct tree_flush *f, struct kv_need *need)
{
    unsigned rounds = 0;
    if (rand_chance(&r->rand, 1, 2)) {
        (void)tree_cache_shrink(r->cache, 0);
    }
    int rc = tree_flush_gather(f);
    while (rc == -ERR_need) {
        CHECK_TRUE(++rounds < 4);
        rig_fetch(r, need);
        rc = tree_flush_gather(f);
    }
    CHECK_OK(rc);
    (void)tree_cache_shrink(r->cache, 0); /* what is not pinned goes */
}

static inline void rig_note(struct rig *r, const struct tree_flush *f)
{
    bool buffered = f->source_count == 0;
    r->jobs++;
    r->splits += f->spare_used > 0 ? 1 : 0;
    r->lowered += f->gone_count > 1 || (f->gone_count == 1 && f->child_count == 1) ? 1 : 0;
    r->partial += !f->all && !buffered ? 1 : 0;
    r->rests += !f->all && buffered ? 1 : 0;
}

static inline void rig_run(struct rig *r, struct tree_flush *f)
{
    uint64_t spare[TREE_FLUSH_OUT_MAX];
    struct kv_need need = {0};
    struct tree_cache_info before, after;
    for (size_t i = 0; i < TREE_FLUSH_OUT_MAX; i++) {
        spare[i] = r->next_block + i;
    }
    CHECK(r->next_block + TREE_FLUSH_OUT_MAX < RIG_BLOCKS);
    f->shape = &r->shape;
    f->cache = r->cache;
    f->from = (struct tree_need_from){.kv = &r->kv, .need = &need};
    f->spare = spare;
    f->spare_count = TREE_FLUSH_OUT_MAX;
    rig_gather(r, f, &need);
    uint64_t cost = tree_flush_cost(f);
    if (rand_chance(&r->rand, 1, 50)) {
        rig_run_without_memory(f);
    }
    tree_cache_info(r->cache, &before);
    CHECK_OK(tree_flush_run(f));
    tree_cache_info(r->cache, &after);
    CHECK_TRUE(after.used - before.used <= cost + cost / 8); /* about: charged with force */
    rig_run_again(f);
    kv_need_release(&need);
    if (f->child_count == 2) {
        rig_apart(f);
    }
    for (size_t i = 0; i < f->dropped_count; i++) {
        rig_drop(r, f->dropped[i]);
    }
    rig_note(r, f);
    rig_install(r, f);
    tree_flush_fini(f);
    rig_sweep(r);
}
