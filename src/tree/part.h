/*
 * tree/part.h -- a partition of a node in memory, or on its way there: its unpacked bytes, and
 * where they are on disk; and the cache that holds all that is in memory within one budget.
 *
 * The bytes of a part never change, so any number of node versions share it. Bytes are there while
 * they are pinned; those that are on disk as well may be evicted else. What was read or written
 * stands in a queue of its own first, a small part of all, and goes from its end unless it was used
 * since it came for a reader: so neither walks nor what jobs read and write, more than fits in
 * memory every few seconds, push out what is asked for again and again. The rest is a clock, whose
 * hand leaves those alone that were used since it last came by, and filters, which are asked before
 * all else of their leaf, for some turns more. After Yang et al., "FIFO queues are all you need for
 * cache eviction", SOSP 2023; instead of their memory of what was evicted, the hand of the clock
 * moves, slowly, while the queue is emptied: what nobody uses any more leaves more room to the
 * queue. Heads have clocks of their own (nodes.c), whose hands move as this one
 * does. What is not written yet ("dirty") stays.
 *
 * What is charged to the cache for a part: its raw_len by whoever makes the bytes, for as long as
 * they are in memory, and sizeof(struct tree_part) by tree_part_new(), until it is freed.
 *
 * Threads: pin, unpin, ref and unref on any (the last unref takes a lock of rank leaf); everything
 * else on the loop's, where nothing else is said. Only there do bytes come and go while somebody
 * has a reference.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "base/list.h"
#include "tree/tree_format.h"

#include <stdatomic.h>

struct mem_budget;
struct tree_cache;

/* Where the packed bytes are. birth 0: nowhere yet. */
struct tree_part_place {
    uint64_t block;         /* whose extent it is */
    uint64_t version;       /* of the node that put it there, or was read from there */
    uint64_t extent, birth; /* offset in the file of the extent, and its birth */
    uint32_t extent_len;
    uint32_t offset, packed_len; /* in the extent */
    bool cold;                   /* known to be packed with zstd */
    uint64_t sum;
};

#define TREE_PART_ALIGN 64u /* of bytes, as of all that tree_cache_get() gives */
#define TREE_PART_ABSENT (UINT32_C(1) << 31)
#define TREE_PART_NEW UINT8_MAX /* nobody has used it since it was read */
struct tree_part {
    _Atomic uint32_t refs;  /* by heads and pins */
    _Atomic uint32_t state; /* number of pins; TREE_PART_ABSENT: no bytes */
    _Atomic uint8_t turns;  /* of the clock's hand that it stays; TREE_PART_NEW */
    uint8_t queue;          /* of the cache, that it is in; of its lock */
    uint8_t kind;           /* enum tree_partition_kind */
    uint32_t raw_len, entries;
    uint32_t mark;  /* the loop's: a note of nodes.c */
    uint8_t *bytes; /* 64-byte-aligned; valid while pinned */
    struct tree_cache *cache;
    struct tree_part_place place; /* the loop's */
    struct list node;             /* of a queue */
};

/* A new part with one reference. `bytes` (tree_cache_get of raw_len, charged to the cache by the
 * caller) become its own; NULL: absent, `place` says where it is. -ENOMEM: bytes and what was
 * charged for them stay the caller's. Any thread. */
struct tree_part_options {
    struct tree_cache *cache;
    uint8_t kind;
    uint32_t raw_len, entries;
    uint8_t *bytes;
    const struct tree_part_place *place; /* NULL: not written */
};
NODISCARD int tree_part_new(const struct tree_part_options *opt, struct tree_part **ret);
struct tree_part *tree_part_ref(struct tree_part *p);
/* Frees it, and its bytes, and gives back what was charged, with the last one. NULL is fine. */
struct tree_part *tree_part_unref(struct tree_part *p);

/* True: its bytes stay until tree_part_unpin(), which also gives the reference back that this
 * takes. False: they are not there. */
NODISCARD bool tree_part_pin(struct tree_part *p);
/* The same for somebody who will pin it: this is no use of it. */
NODISCARD bool tree_part_hold(struct tree_part *p);
void tree_part_unpin(struct tree_part *p);
/* The loop's: nobody has its bytes. */
static inline bool tree_part_is_absent(const struct tree_part *p)
{
    return (atomic_load_explicit(&p->state, memory_order_relaxed) & TREE_PART_ABSENT) != 0;
}
/* They have been read: `bytes` as in tree_part_new(). False: somebody was faster, `bytes` and what
 * was charged for them stay the caller's. */
NODISCARD bool tree_part_fill(struct tree_part *p, uint8_t *bytes);
/* It is on disk now (again: somewhere else): it may be evicted. Where a newer node has put it, it
 * stays: of two blocks that share it, of which one goes on without it, that one may be written
 * last, and gives its extent back when nobody who has the part knows. */
void tree_part_written(struct tree_part *p, const struct tree_part_place *place);
static inline bool tree_part_is_dirty(const struct tree_part *p)
{
    return p->place.birth == 0;
}

/* ---- the cache ---- */

struct tree_cache_options {
    struct mem_budget *parent; /* may be NULL */
    uint64_t limit_bytes;
    uint64_t seed; /* nothing of it shows outside */
    bool plain;    /* tree_cache_get() is mem_aligned(), whatever the limit: for tests */
};
NODISCARD int tree_cache_new(const struct tree_cache_options *opt, struct tree_cache **ret);
struct tree_cache *tree_cache_free(struct tree_cache *c); /* CHECKs that nothing is in it */

/*
 * Before memory is allocated. False: it is not to be had now, though all that may go has gone.
 * Evicts parts, then heads (head.h) through tree_cache_heads(). The loop's; other threads take what
 * was charged for them before.
 */
NODISCARD bool tree_cache_charge(struct tree_cache *c, uint64_t bytes);
/* Goes through whatever the budget says: for the excess of an estimate, bounded by the caller. Any
 * thread. */
void tree_cache_force(struct tree_cache *c, uint64_t bytes);
void tree_cache_give(struct tree_cache *c, uint64_t bytes); /* any thread */
/* Evicts until at most `bytes` are in use, or nothing more may go. Returns what is in use. */
uint64_t tree_cache_shrink(struct tree_cache *c, uint64_t bytes);
/* For memory that counts itself (memtables). */
struct mem_budget *tree_cache_budget(struct tree_cache *c);
/* Memory for bytes of parts, filters, buffers: base/mem_slab.h, which charges by itself what such
 * an object takes beyond its size; the size is the caller's to charge. Any thread. */
NODISCARD void *tree_cache_get(struct tree_cache *c, size_t size);
void tree_cache_put(struct tree_cache *c, void *p, size_t size); /* got with it; NULL is fine */
struct mem_slab *tree_cache_slab(struct tree_cache *c);
/* Who lets go of heads; both return the bytes. evict: some, for no part is left; 0: none may go.
 * sweep: looks at `looked` of each `of` heads, and those that nobody has used since it last did so
 * go. */
struct tree_cache_heads {
    uint64_t (*evict)(void *arg, uint64_t want);
    uint64_t (*sweep)(void *arg, size_t looked, size_t of);
    void *arg;
};
void tree_cache_set_heads(struct tree_cache *c,
                          const struct tree_cache_heads *heads); /* NULL: nobody */

struct tree_cache_info {
    uint64_t limit, used;  /* bytes, all */
    uint64_t clean, dirty; /* bytes of parts */
    uint64_t hits, fills, evictions;
};
void tree_cache_info(struct tree_cache *c, struct tree_cache_info *ret);
