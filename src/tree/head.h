/*
 * tree/head.h -- what a node version consists of, in memory: its header, pivots, filter, and
 * references on its parts. Immutable once made; where its parts are on disk is said by themselves
 * (part.h), and changes when they are written.
 *
 * `part[i]` belongs to header.partition[i], whose kind, run, flags, slot, cut, raw_len and entries
 * are always right, while extent, offset, packed_len and sum, like birth, lengths and extents of
 * the header, are of the disk: only in a head that was read, and as they were then. So
 * tree_node_find() and the calls of pivots.h work on it.
 *
 * Threads: references on any; made on any.
 */
#pragma once

#include "tree/filter.h"
#include "tree/node.h"
#include "tree/part.h"
#include "tree/pivots.h"

struct tree_head {
    _Atomic uint32_t refs;
    _Atomic uint8_t turns;          /* looks for what may go that it stays */
    struct tree_node_header header; /* owns its arrays */
    uint8_t *pivot_bytes;           /* unpacked; owned, as they have room for: */
    size_t pivot_room;
    struct tree_pivots pivots; /* a view of them */
    uint8_t *filter_bytes; /* internal nodes: over all keys of runs; owned; NULL: there is none */
    size_t filter_len;
    struct tree_filter filter;
    struct tree_part **part; /* header.partition_count references; owned */
    uint32_t leaf_filter;    /* of a leaf: the partition with its filter; partition_count: none */
    bool has_ranges;         /* some partition has deleted ranges */
    uint64_t charged;        /* to the cache, without parts */
    struct tree_cache *cache;
};

struct tree_head *tree_head_ref(struct tree_head *h);
struct tree_head *tree_head_unref(struct tree_head *h); /* NULL is fine */

/* Builds the head of a node that is changed: add parts in the order of node.h, then finish. One
 * thread. */
struct tree_head_builder {
    struct tree_cache *cache;
    struct tree_node_header
        header;              /* level, block (0: later), file_id, codec, version: the caller's */
    struct tree_part **part; /* owned references */
    struct kv_slice *cut;    /* owned array; the keys are lent until finish */
    size_t part_capacity, partition_capacity, cut_count, cut_capacity;
    int rc;
};
void tree_head_builder_init(struct tree_head_builder *b, struct tree_cache *cache);
void tree_head_builder_fini(struct tree_head_builder *b); /* all zero is fine */
/* Takes a reference of its own. `cut` (its first key): of a run that goes on from the part before;
 * else empty. A key's messages lie in one part: whoever fills parts ends them behind the last
 * message of a key (CHECKed where bytes are there). Sticky: a failure is told by finish. */
struct tree_head_add {
    uint8_t kind, run;
    uint16_t slot;
    struct kv_slice cut;
};
void tree_head_builder_add(struct tree_head_builder *b, struct tree_part *p,
                           const struct tree_head_add *a);
/*
 * `s` says fences, pivots and children (its cuts are filled in). `filter` (tree_cache_get, or NULL)
 * becomes the head's, also on failure freed. Charges the cache with force. Counts of the header
 * (slots, entries, raw bytes, msn range given by the caller) and fingerprints are set. -ENOMEM,
 * -E2BIG: too many partitions, or it would not fit into a node.
 */
NODISCARD int tree_head_builder_finish(struct tree_head_builder *b, struct tree_pivots_source *s,
                                       uint8_t *filter, size_t filter_len, struct tree_head **ret);

/*
 * Out of what was read: header_len bytes of header, packed pivots and filter, as one piece. Parts
 * are absent. Any thread (the memory is charged with force; about tree_head_cost()). Class
 * ERR_corrupt, -ENOMEM; `e` says what.
 */
struct tree_head_read {
    struct tree_cache *cache;
    const uint8_t *bytes;
    size_t len;
    const struct tree_node_expect *expect;
    uint64_t extent_offset;   /* where they are in the file */
    struct tree_codec *codec; /* one that unpacks is enough */
};
NODISCARD int tree_head_decode(const struct tree_head_read *r, struct tree_head **ret,
                               struct err *e);
/* What a head of so many bytes on disk takes in memory, with its absent parts. */
static inline uint64_t tree_head_cost(size_t header_len)
{
    return sizeof(struct tree_head) + 5 * (uint64_t)header_len;
}

/* Bytes of messages it buffers (internal), or of records (leaf). */
static inline uint64_t tree_head_raw_bytes(const struct tree_head *h)
{
    return h->header.raw_bytes;
}
/* Runs of a slot, newest first: their numbers; returns how many. */
unsigned tree_head_runs(const struct tree_head *h, uint16_t slot, uint8_t ret[256]);
/* Unpacked bytes of runs and ranges of a slot. */
uint64_t tree_head_slot_bytes(const struct tree_head *h, uint16_t slot);
