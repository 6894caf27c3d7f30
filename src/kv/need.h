/*
 * kv/need.h -- need lists: what one operation lacks of a state, and the pins of what was brought.
 * How they are used: kv.h.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

struct kv;

/*
 * What one operation needs and has: the missing items that kv_fetch() will bring, and pins of what
 * it brought. Owner: the caller, who passes the same list to every read of the operation and
 * releases it at its end. Bounded: a read that finds the list full says -ENOBUFS, and the caller
 * works in smaller steps. All zero is an empty list.
 */
#define KV_NEED_MAX 16384u
struct kv_need_item {
    uint64_t id[2]; /* the engine's name for the piece */
    void *pin;      /* the engine's; not NULL when present */
};
struct kv_need {
    struct kv *kv; /* set by the first read that adds to it */
    struct kv_need_item *item;
    size_t count, capacity;
    size_t missing; /* items not fetched yet */
};
/* Unpins all and frees its memory; usable again as empty. Not while a fetch is under way. */
void kv_need_release(struct kv_need *n);
/* For engines: adds a missing item, unless it is listed. 0, -ENOMEM, -ENOBUFS. */
NODISCARD int kv_need_add(struct kv_need *n, struct kv *kv, uint64_t id0, uint64_t id1);
struct kv_need_item *kv_need_find(const struct kv_need *n, uint64_t id0, uint64_t id1);
