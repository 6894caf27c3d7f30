/*
 * tree/rig_head_priv.h -- for tests: parts and heads of nodes in memory, and a fetch that fills
 * what a need list misses out of copies.
 */
#pragma once

#include <string.h>

#include "base/mem.h"
#include "kv/kv.h"
#include "testing/testing.h"
#include "tree/head.h"
#include "tree/need.h"

#define RIG_BLOCK 7u
#define RIG_VERSION 42u

struct rig_cache {
    struct tree_cache *cache;
    struct kv kv; /* to name what is missing */
    struct kv_need need;
    struct tree_need_from from;
};

static inline void rig_unpin(struct kv *kv, struct kv_need_item *item)
{
    (void)kv;
    tree_need_unpin(item);
}

static const struct kv_ops rig_kv_ops = {.unpin = rig_unpin};

static inline void rig_cache_init(struct rig_cache *c)
{
    *c = (struct rig_cache){.kv.ops = &rig_kv_ops};
    struct tree_cache_options opt = {.limit_bytes = 1u << 30, .seed = 1, .plain = true};
    CHECK(tree_cache_new(&opt, &c->cache) == 0);
    c->from = (struct tree_need_from){.kv = &c->kv, .need = &c->need};
}

static inline uint64_t rig_cache_used(struct rig_cache *c)
{
    struct tree_cache_info info;
    tree_cache_info(c->cache, &info);
    return info.used;
}

/* Nothing is left in it. */
static inline void rig_cache_fini(struct rig_cache *c)
{
    kv_need_release(&c->need);
    CHECK_EQ(rig_cache_used(c), 0);
    tree_cache_free(c->cache);
}

static inline uint8_t *rig_bytes(struct rig_cache *c, const uint8_t *from, size_t len)
{
    uint8_t *bytes = mem_aligned(TREE_PART_ALIGN, len);
    CHECK(bytes != NULL);
    memcpy(bytes, from, len);
    tree_cache_force(c->cache, len);
    return bytes;
}

/* A part with a copy of these bytes; with a place it is not there. */
struct rig_part_of {
    uint8_t kind;
    uint32_t entries;
    const uint8_t *bytes;
    size_t len;
    bool absent;
};
static inline struct tree_part *rig_part_new(struct rig_cache *c, const struct rig_part_of *of)
{
    static const struct tree_part_place place = {.block = RIG_BLOCK, .extent = 4096, .birth = 1};
    struct tree_part *p = NULL;
    struct tree_part_options opt = {
        .cache = c->cache, .kind = of->kind, .raw_len = (uint32_t)of->len, .entries = of->entries};
    if (of->absent) {
        opt.place = &place;
    } else {
        opt.bytes = rig_bytes(c, of->bytes, of->len);
    }
    CHECK(tree_part_new(&opt, &p) == 0);
    return p;
}

/* Adds a part to a head that is built. */
static inline void rig_add(struct tree_head_builder *b, struct tree_part *p,
                           const struct tree_head_add *a)
{
    tree_head_builder_add(b, p, a);
    tree_part_unref(p);
}

/* What a block builder holds; it is cleared. */
static inline uint8_t *rig_block_bytes(struct tree_block_builder *b, size_t *ret_len,
                                       uint32_t *ret_entries)
{
    uint8_t *bytes = mem_alloc(tree_block_builder_bytes(b));
    CHECK(bytes != NULL);
    *ret_len = tree_block_builder_finish(b, bytes);
    *ret_entries = b->count;
    tree_block_builder_clear(b);
    return bytes;
}

/* Fills what is missing, from copies[number of the part]. Returns how many parts were asked for. */
static inline size_t rig_fetch(struct rig_cache *c, const struct tree_head *h,
                               uint8_t *const *copies)
{
    size_t count = 0;
    for (size_t i = 0; i < c->need.count; i++) {
        struct kv_need_item *item = &c->need.item[i];
        if (item->pin != NULL) {
            continue;
        }
        struct tree_need_name name = tree_need_name(item);
        CHECK_TRUE(name.block == RIG_BLOCK && name.version == RIG_VERSION);
        CHECK_TRUE(name.part < h->header.partition_count);
        struct tree_part *p = h->part[name.part];
        CHECK_TRUE(tree_part_fill(p, rig_bytes(c, copies[name.part], p->raw_len)));
        CHECK_TRUE(tree_part_pin(p));
        tree_need_set_part(item, p);
        count++;
    }
    CHECK_EQ(c->need.missing, count);
    c->need.missing = 0;
    return count;
}
