/*
 * tree/rig_run_priv.h -- a source for tests: a run in an array, messages by key and then from new
 * to old, and deleted ranges that do not overlap.
 */
#pragma once

#include "tree/rig_records_priv.h"

struct rig_run_source {
    struct tree_source base;
    const struct rig_run *run;
    size_t at, message; /* the newest of its key; the one it stands on */
};

static inline bool rig_run_same(const struct rig_run *r, size_t a, size_t b)
{
    return a < r->count && b < r->count &&
           kv_slice_compare(r->record[a].key, r->record[b].key) == 0;
}

static inline int rig_run_stand(struct rig_run_source *s, size_t at)
{
    if (at >= s->run->count) {
        return 0;
    }
    while (at > 0 && rig_run_same(s->run, at - 1, at)) {
        at--;
    }
    s->at = at;
    s->message = at;
    s->base.key = s->run->record[at].key;
    s->base.message = s->run->record[at].message;
    return 1;
}

static inline int rig_run_seek(struct tree_source *base, struct kv_slice key)
{
    struct rig_run_source *s = container_of(base, struct rig_run_source, base);
    size_t i = 0;
    while (i < s->run->count && kv_slice_compare(s->run->record[i].key, key) < 0) {
        i++;
    }
    return rig_run_stand(s, i);
}

static inline int rig_run_seek_back(struct tree_source *base, struct kv_slice key)
{
    struct rig_run_source *s = container_of(base, struct rig_run_source, base);
    size_t i = s->run->count;
    while (i > 0 && key.len > 0 && kv_slice_compare(s->run->record[i - 1].key, key) > 0) {
        i--;
    }
    return rig_run_stand(s, i - 1);
}

static inline int rig_run_next(struct tree_source *base)
{
    struct rig_run_source *s = container_of(base, struct rig_run_source, base);
    size_t i = s->at + 1;
    while (rig_run_same(s->run, i, s->at)) {
        i++;
    }
    return rig_run_stand(s, i);
}

static inline int rig_run_prev(struct tree_source *base)
{
    struct rig_run_source *s = container_of(base, struct rig_run_source, base);
    return rig_run_stand(s, s->at - 1); /* before the first: beyond all */
}

static inline int rig_run_find(struct tree_source *base, struct kv_slice key)
{
    struct rig_run_source *s = container_of(base, struct rig_run_source, base);
    for (size_t i = 0; i < s->run->count; i++) {
        if (kv_slice_compare(s->run->record[i].key, key) == 0) {
            return rig_run_stand(s, i);
        }
    }
    return 0;
}

static inline int rig_run_older(struct tree_source *base)
{
    struct rig_run_source *s = container_of(base, struct rig_run_source, base);
    bool more = rig_run_same(s->run, s->message + 1, s->at);
    s->message += more ? 1 : 0;
    s->base.message = s->run->record[s->message].message;
    return more ? 1 : 0;
}

static inline int rig_run_covering(struct tree_source *base, struct kv_slice key,
                                   struct tree_range *ret)
{
    struct rig_run_source *s = container_of(base, struct rig_run_source, base);
    *ret = (struct tree_range){0};
    for (size_t i = 0; i < s->run->range_count; i++) {
        const struct tree_range *r = &s->run->range[i];
        if (kv_slice_compare(key, r->low) < 0) {
            ret->high = r->low;
            return 0;
        }
        if (kv_slice_compare(key, r->high) < 0) {
            *ret = *r;
            return 0;
        }
        ret->low = r->high;
    }
    return 0;
}

static inline int rig_run_range(struct tree_source *base, struct kv_slice from,
                                struct tree_range *ret)
{
    struct rig_run_source *s = container_of(base, struct rig_run_source, base);
    for (size_t i = 0; i < s->run->range_count; i++) {
        const struct tree_range *r = &s->run->range[i];
        if (from.len == 0 || kv_slice_compare(r->high, from) > 0) {
            *ret = *r;
            return 1;
        }
    }
    return 0;
}

static inline uint32_t rig_run_plain(struct tree_source *base, struct kv_slice limit)
{
    const struct rig_run_source *s = container_of(base, struct rig_run_source, base);
    const struct rig_run *r = s->run;
    uint32_t count = 0;
    for (size_t i = s->at + 1; i < r->count; i++, count++) {
        bool single = !rig_run_same(r, i - 1, i) && !rig_run_same(r, i, i + 1);
        bool below = limit.len == 0 || kv_slice_compare(r->record[i].key, limit) < 0;
        if (!single || !below || r->record[i].message.type != TREE_PUT) {
            break;
        }
    }
    return count;
}

static inline void rig_run_step(struct tree_source *base)
{
    CHECK(rig_run_next(base) == 1);
}

static const struct tree_source_ops rig_run_ops = {
    .seek = rig_run_seek,
    .seek_back = rig_run_seek_back,
    .next = rig_run_next,
    .prev = rig_run_prev,
    .find = rig_run_find,
    .older = rig_run_older,
    .covering = rig_run_covering,
    .range = rig_run_range,
    .plain = rig_run_plain,
    .step = rig_run_step,
};

static inline void rig_run_source_init(struct rig_run_source *s, const struct rig_run *run)
{
    *s = (struct rig_run_source){.base.ops = &rig_run_ops, .run = run};
    s->base.stable = true;
    s->base.has_ranges = run->range_count > 0;
}
