/*
 * tree/rig_flush_priv.h -- for tests (which include testing/testing.h before it): a tree of heads
 * in memory, that jobs of flush.h change, with memtables above it and a sorted table of what it
 * should hold.
 */
#pragma once

#include "tree/flush.h"

#include <string.h>

#include "base/mem.h"
#include "base/rand.h"
#include "tree/memtable.h"
#include "tree/merge.h"
#include "tree/node_source.h"

#define RIG_BLOCKS 4096u
#define RIG_KEYS 2000u
#define RIG_VALUE_MAX 160u
#define RIG_TABLES 4u

struct rig_value {
    bool present;
    uint8_t len;
    uint8_t bytes[RIG_VALUE_MAX];
};

struct rig_copy { /* of a part that may be evicted */
    struct tree_part *part;
    uint8_t *bytes;
};

struct rig {
    struct rand rand;
    struct tree_shape shape;
    struct tree_cache *cache;
    struct tree_snapshots *snapshots;
    struct kv kv;
    struct tree_head *head[RIG_BLOCKS]; /* by block */
    uint64_t version[RIG_BLOCKS];
    uint64_t next_block, now, msn;
    uint64_t root;
    unsigned height;                         /* 0: no tree */
    struct tree_memtable *table[RIG_TABLES]; /* newest first; the last `draining` go down */
    size_t table_count, draining;
    uint8_t drained_key[TREE_KEY_MAX];
    struct kv_slice drained;
    uint64_t take_bytes;
    struct rig_copy *copy;
    size_t copy_count, copy_capacity;
    uint64_t fetches, dropped, splits, merges, jobs, lowered, partial, rests, grown, raw_max;
    struct rig_value model[RIG_KEYS];
};

/* Keys ascend with their numbers. */
static inline struct kv_slice rig_key(uint32_t k, uint8_t buf[32])
{
    memset(buf, 'x', 32);
    buf[0] = 'k';
    buf[1] = (uint8_t)(k >> 8);
    memset(buf + 2, 'p', 6);
    buf[8] = (uint8_t)k;
    return kv_slice_of(buf, 9 + (k * 7u) % 13);
}

static inline uint32_t rig_key_back(struct kv_slice key)
{
    const uint8_t *b = key.at;
    return (uint32_t)b[1] << 8 | b[8];
}

/* ---- life ---- */

static inline void rig_unpin(struct kv *kv, struct kv_need_item *item)
{
    (void)kv;
    tree_need_unpin(item);
}
static const struct kv_ops rig_kv_ops = {.unpin = rig_unpin};

static inline void rig_init(struct rig *r, uint64_t seed, const struct tree_shape *shape)
{
    struct tree_cache_options cache = {.limit_bytes = 64u << 20};
    struct tree_snapshots_options snapshots = {.count_max = 4, .budget_bytes = 1u << 20};
    memset(r, 0, sizeof *r);
    rand_seed(&r->rand, seed);
    r->shape = *shape;
    r->kv.ops = &rig_kv_ops;
    r->next_block = 1;
    r->take_bytes = 4096;
    CHECK_OK(tree_cache_new(&cache, &r->cache));
    CHECK_OK(tree_snapshots_new(&snapshots, &r->snapshots));
}

static inline void rig_fini(struct rig *r)
{
    for (size_t i = 0; i < r->table_count; i++) {
        tree_memtable_unref(r->table[i]);
    }
    for (size_t i = 0; i < RIG_BLOCKS; i++) {
        tree_head_unref(r->head[i]);
    }
    for (size_t i = 0; i < r->copy_count; i++) {
        tree_part_unref(r->copy[i].part);
        mem_free(r->copy[i].bytes);
    }
    mem_free(r->copy);
    tree_snapshots_free(r->snapshots);
    tree_cache_free(r->cache);
}

/* ---- writing ---- */

static inline void rig_table_new(struct rig *r)
{
    struct tree_memtable_options opt = {.base_msn = r->msn, .block_bytes = 4096};
    CHECK(r->table_count < RIG_TABLES);
    memmove(r->table + 1, r->table, r->table_count * sizeof(struct tree_memtable *));
    CHECK_OK(tree_memtable_new(&opt, &r->table[0]));
    r->table_count++;
}

static inline void rig_apply(struct rig *r, struct kv_batch *b)
{
    struct tree_superseded superseded;
    CHECK_OK(b->rc);
    CHECK_OK(tree_memtable_apply(r->table[0], b, r->msn + 1, tree_snapshots_look(r->snapshots),
                                 &superseded));
    r->msn += b->count;
    (void)tree_snapshots_publish(r->snapshots, r->msn, &superseded);
    kv_batch_fini(b);
}

static inline void rig_put(struct rig *r, struct kv_batch *b, uint32_t k)
{
    uint8_t key[32];
    struct rig_value *v = &r->model[k];
    v->present = true;
    v->len = (uint8_t)rand_below(&r->rand, rand_chance(&r->rand, 1, 8) ? RIG_VALUE_MAX : 40);
    rand_bytes(&r->rand, v->bytes, v->len);
    CHECK_OK(kv_batch_put(b, rig_key(k, key), kv_slice_of(v->bytes, v->len)));
}

static inline void rig_delete(struct rig *r, struct kv_batch *b, uint32_t k)
{
    uint8_t key[32];
    r->model[k].present = false;
    CHECK_OK(kv_batch_delete(b, rig_key(k, key)));
}

/* Some fold and some do not. */
static inline void rig_upsert(struct rig *r, struct kv_batch *b, uint32_t k)
{
    uint8_t key[32];
    struct rig_value *v = &r->model[k];
    struct kv_field f[KV_FIELDS_MAX];
    size_t count = rand_chance(&r->rand, 1, 6) ? 20 : 1;
    for (size_t i = 0; i < count; i++) {
        f[i] = (struct kv_field){.offset = (uint16_t)(rand_below(&r->rand, 3) * 4),
                                 .op = rand_chance(&r->rand, 1, 2) ? KV_FIELD_ADD : KV_FIELD_MAX,
                                 .operand = rand_u64(&r->rand)};
    }
    size_t old = v->present ? v->len : 0;
    memset(v->bytes + old, 0, RIG_VALUE_MAX - old);
    v->present = true;
    v->len = (uint8_t)base_max(old, 16);
    kv_fields_apply(v->bytes, v->len, f, count);
    CHECK_OK(kv_batch_upsert(b, rig_key(k, key), 16, f, count));
}

static inline void rig_delete_range(struct rig *r, struct kv_batch *b, uint32_t from, uint32_t to)
{
    uint8_t low[32], high[32];
    for (uint32_t k = from; k < to; k++) {
        r->model[k].present = false;
    }
    CHECK_OK(kv_batch_delete_range(b, rig_key(from, low), rig_key(to, high)));
}
