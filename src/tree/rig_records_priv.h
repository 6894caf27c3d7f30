/* tree/rig_records_priv.h -- for tests: messages and deleted ranges in an array, counted. */
#pragma once

#include "tree/source.h"

#include <string.h>

#include "base/mem.h"

struct rig_record {
    struct kv_slice key;
    struct tree_message message;
};
struct rig_run {
    unsigned refs;
    struct rig_record *record;
    size_t count, capacity;
    struct tree_range *range;
    size_t range_count, range_capacity;
};

static inline struct kv_slice rig_dup(struct kv_slice from)
{
    uint8_t *p = mem_alloc(from.len + 1);
    CHECK(p != NULL);
    if (from.len > 0) {
        memcpy(p, from.at, from.len);
    }
    return kv_slice_of(p, from.len);
}

static inline void rig_drop(struct kv_slice s)
{
    mem_free((void *)s.at);
}

static inline struct rig_run *rig_run_new(void)
{
    struct rig_run *r = mem_zalloc(sizeof *r);
    CHECK(r != NULL);
    r->refs = 1;
    return r;
}

static inline struct rig_run *rig_run_unref(struct rig_run *r)
{
    if (--r->refs == 0) {
        for (size_t i = 0; i < r->count; i++) {
            rig_drop(r->record[i].key);
            rig_drop(r->record[i].message.body);
        }
        for (size_t i = 0; i < r->range_count; i++) {
            rig_drop(r->range[i].low);
            rig_drop(r->range[i].high);
        }
        mem_free(r->record);
        mem_free(r->range);
        mem_free(r);
    }
    return NULL;
}

static inline void rig_run_add(struct rig_run *r, struct kv_slice key, const struct tree_message *m)
{
    CHECK(mem_grow(&r->record, &r->capacity, r->count + 1, sizeof r->record[0]) == 0);
    struct rig_record *e = &r->record[r->count++];
    e->key = rig_dup(key);
    e->message = *m;
    e->message.body = rig_dup(m->body);
}

static inline void rig_run_add_range(struct rig_run *r, const struct tree_range *range)
{
    CHECK(mem_grow(&r->range, &r->range_capacity, r->range_count + 1, sizeof r->range[0]) == 0);
    r->range[r->range_count++] = (struct tree_range){
        .msn = range->msn, .low = rig_dup(range->low), .high = rig_dup(range->high)};
}
