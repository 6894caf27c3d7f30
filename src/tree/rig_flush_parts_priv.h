/*
 * tree/rig_flush_parts_priv.h -- for tests of flushes: parts count as written once they are
 * installed, so they can be evicted; what is missed is brought back from a copy.
 */
#pragma once

#include "tree/rig_flush_priv.h"

static inline bool rig_has_copy(const struct rig *r, const struct tree_part *p)
{
    for (size_t i = 0; i < r->copy_count; i++) {
        if (r->copy[i].part == p) {
            return true;
        }
    }
    return false;
}

static inline void rig_written(struct rig *r, struct tree_part *p, uint64_t block)
{
    struct tree_part_place place = {.block = block, .extent = 4096, .birth = 1, .packed_len = 9};
    if (!tree_part_is_dirty(p)) {
        return;
    }
    CHECK(!rig_has_copy(r, p));
    CHECK(mem_grow(&r->copy, &r->copy_capacity, r->copy_count + 1, sizeof r->copy[0]) == 0);
    struct rig_copy *copy = &r->copy[r->copy_count++];
    *copy = (struct rig_copy){.part = tree_part_ref(p), .bytes = mem_dup(p->bytes, p->raw_len)};
    CHECK(copy->bytes != NULL);
    tree_part_written(p, &place);
}

static inline void rig_fill(struct rig *r, struct tree_part *p)
{
    size_t i = 0;
    while (i < r->copy_count && r->copy[i].part != p) {
        i++;
    }
    CHECK(i < r->copy_count);
    uint8_t *bytes = tree_cache_get(r->cache, p->raw_len);
    CHECK(bytes != NULL);
    memcpy(bytes, r->copy[i].bytes, p->raw_len);
    tree_cache_force(r->cache, p->raw_len);
    if (!tree_part_fill(p, bytes)) {
        tree_cache_give(r->cache, p->raw_len);
        tree_cache_put(r->cache, bytes, p->raw_len);
    }
}

/* Copies of parts that no head has any more. */
static inline void rig_sweep(struct rig *r)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->copy_count; i++) {
        struct rig_copy *c = &r->copy[i];
        if (atomic_load(&c->part->refs) == 1) {
            tree_part_unref(c->part);
            mem_free(c->bytes);
        } else {
            r->copy[kept++] = *c;
        }
    }
    r->copy_count = kept;
}

static inline void rig_fill_all(struct rig *r)
{
    for (size_t i = 0; i < r->copy_count; i++) {
        if ((atomic_load(&r->copy[i].part->state) & TREE_PART_ABSENT) != 0) {
            rig_fill(r, r->copy[i].part);
        }
    }
}

/* Brings what a list misses. */
static inline void rig_fetch(struct rig *r, struct kv_need *need)
{
    for (size_t i = 0; i < need->count; i++) {
        struct kv_need_item *item = &need->item[i];
        if (item->pin != NULL) {
            continue;
        }
        struct tree_need_name name = tree_need_name(item);
        const struct tree_head *h = r->head[name.block];
        CHECK_TRUE(h != NULL && name.version == r->version[name.block]);
        CHECK_TRUE(name.part < h->header.partition_count);
        rig_fill(r, h->part[name.part]);
        bool pinned = tree_part_pin(h->part[name.part]);
        CHECK(pinned);
        tree_need_set_part(item, h->part[name.part]);
        r->fetches++;
    }
    need->missing = 0;
}
