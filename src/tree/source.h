/*
 * tree/source.h -- a sorted set of messages that reads are merged from: a memtable, a run of a
 * buffer, the records of a leaf.
 *
 * A source stands on one message of one key, or nowhere. Of most keys it has one message; where two
 * upserts could not be folded it has more, newest first. It may have deleted ranges as well. What
 * it answers belongs to one snapshot and does not change.
 *
 * Every call may say -ERR_need (-ENOMEM, -ENOBUFS, class EIO): then the source has not moved and
 * the same call may be repeated.
 */
#pragma once

#include "tree/message.h"

struct tree_source;

/* Of all keys with low <= key < high the newest message that deletes them as a range has this msn.
 * An empty low: from the first key; an empty high: to the last. */
struct tree_range {
    uint64_t msn; /* 0: none deletes them */
    struct kv_slice low, high;
    bool bare; /* and the source has no newer message of any of them; false: it may have */
};

struct tree_source_ops {
    /* 1: it stands on the newest message of a key; 0: there is no such key, it stands nowhere.
     * seek: the first key >= `key`; seek_back: the last key <= `key`, an empty one being the last;
     * next, prev: need a key to stand on; find: exactly this key, and neither next nor prev may
     * follow. */
    int (*seek)(struct tree_source *s, struct kv_slice key);
    int (*seek_back)(struct tree_source *s, struct kv_slice key);
    int (*next)(struct tree_source *s);
    int (*prev)(struct tree_source *s);
    int (*find)(struct tree_source *s, struct kv_slice key);
    /* 1: it stands on the next older message of the same key; 0: there is none, it has not moved.
     */
    int (*older)(struct tree_source *s);
    /* 0: *ret is what covers `key`, wherever the source stands, which does not move. The slices are
     * lent until the next call, or for ever if the source is stable. */
    int (*covering)(struct tree_source *s, struct kv_slice key, struct tree_range *ret);
    /* For those who move all of it: 1: *ret is the first deleted range that ends behind `from`
     * (empty: the first of all), lent likewise; neighbours may have the same msn; 0: there is none.
     * May be NULL where `has_ranges` is false. */
    int (*range)(struct tree_source *s, struct kv_slice from, struct tree_range *ret);
    /* Both may be NULL. plain: how many keys follow, at least, that are below `limit` (empty: any)
     * and have one message, a PUT. So many calls of step are as many of next, none of which fails,
     * until the source moves in another way. */
    uint32_t (*plain)(struct tree_source *s, struct kv_slice limit);
    void (*step)(struct tree_source *s);
};

struct tree_source {
    const struct tree_source_ops *ops;
    bool stable; /* what it lends stays for as long as the source itself; else until it stands on
                    another key */
    bool has_ranges;     /* else `covering` is not asked */
    struct kv_slice key; /* where it stands: the next two are lent */
    struct tree_message message;
};
