/*
 * kv/iter.h -- iterators: walks over a snapshot of kv.h, which has the rules of threads and the
 * errors of every read.
 */
#pragma once

#include "base/base.h"
#include "kv/batch.h"

struct kv_iter_ops;
struct kv_need;
struct kv_snapshot;

/* A walk over a snapshot in key order, both ways, within [lower, upper). */
struct kv_iter_options {
    struct kv_slice lower; /* inclusive; empty: from the first key */
    struct kv_slice upper; /* exclusive; empty: to the last key */
    struct kv_need *need;  /* must outlive the iterator */
    uint32_t ahead; /* about how many records forward will be read: what is missing of so many is
                     * listed together. A hint; 0: one by one */
};
struct kv_iter {
    const struct kv_iter_ops *ops;
    struct kv_slice key, value; /* of the record it stands on, lent until it moves or is freed */
};
struct kv_iter_ops { /* see the calls of the same name */
    int (*seek)(struct kv_iter *it, struct kv_slice key);
    int (*seek_back)(struct kv_iter *it, struct kv_slice key);
    int (*next)(struct kv_iter *it);
    int (*prev)(struct kv_iter *it);
    void (*free)(struct kv_iter *it);
};

/* 0, -ENOMEM. Bounds are copied. A new iterator stands nowhere: seek first. Free it before the
 * snapshot. */
NODISCARD int kv_iter_new(struct kv_snapshot *s, const struct kv_iter_options *opt,
                          struct kv_iter **ret);
struct kv_iter *kv_iter_free(struct kv_iter *it);
DEFINE_FREEP(kv_iter)

/*
 * 1: it stands on a record; 0: beyond the end (next) or the beginning (prev), where it stands
 * nowhere. On any error, -ERR_need among them, it has not moved: the same call may be repeated
 * after the fetch. seek: the first key >= `key`; seek_back: the last key <= `key`; both clamp to
 * the bounds, an empty key means the first and the last. next and prev need a record to stand on.
 */
NODISCARD int kv_iter_seek(struct kv_iter *it, struct kv_slice key);
NODISCARD int kv_iter_seek_back(struct kv_iter *it, struct kv_slice key);
NODISCARD int kv_iter_next(struct kv_iter *it);
NODISCARD int kv_iter_prev(struct kv_iter *it);
