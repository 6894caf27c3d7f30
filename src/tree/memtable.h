/*
 * tree/memtable.h -- the newest changes, sorted, in memory: the root buffer of the tree.
 *
 * The writer folds on insert: the newest version of a key answers alone for all older ones of this
 * memtable (only upserts that do not fold hang together), and a batch leaves one version of a key.
 * Older versions stay in a chain for those who read at an older msn limit; what nobody can be
 * reading is used again, so that a key that changes all the time takes no more memory than others.
 *
 * Threads: one writer at a time (apply, freeze); any number of readers (get, cursors, ranges), who
 * take no locks. A reader holds a reference on the memtable and a snapshot of the same
 * tree_snapshots that the writer looks at, reads with its limit, and asks tree_snapshot_check()
 * when it has read. What a reader is lent stays until it releases its snapshot.
 *
 * Memory is taken in blocks, charged to the budget before it is allocated, and given back as a
 * whole with the last reference.
 */
#pragma once

#include "tree/snapshots.h"
#include "tree/source.h"

struct mem_budget;
struct mem_slab;

#define TREE_MEMTABLE_BYTES (32u << 20)

struct tree_memtable;

struct tree_memtable_options {
    struct mem_budget *budget; /* may be NULL */
    struct mem_slab *slab;     /* its memory; NULL: mem_alloc */
    uint64_t base_msn;         /* all it will hold is newer */
    size_t limit_bytes;        /* from when on it says it is full; 0: TREE_MEMTABLE_BYTES */
    size_t block_bytes;        /* taken at a time; 0: chosen; smaller for tests */
    bool force;                /* takes memory beyond the budget: what is loaded must be there */
};
/* -ENOMEM. The caller has the one reference. */
NODISCARD int tree_memtable_new(const struct tree_memtable_options *opt,
                                struct tree_memtable **ret);
void tree_memtable_bound(struct tree_memtable *m); /* from now on within the budget */
struct tree_memtable *tree_memtable_ref(struct tree_memtable *m);   /* any thread */
struct tree_memtable *tree_memtable_unref(struct tree_memtable *m); /* any thread; NULL is fine */

/*
 * Applies a batch whose operations get `msn`, msn + 1, ...: all greater than what came before and
 * than what is published. Nobody sees any of it before tree_snapshots_publish() of the last of
 * them, which takes *ret and must come before the next batch. -ENOMEM: nothing has changed.
 */
NODISCARD int tree_memtable_apply(struct tree_memtable *m, const struct kv_batch *b, uint64_t msn,
                                  const struct tree_snapshots_view *v, struct tree_superseded *ret);

/*
 * Start-up: puts back what was kept of a memtable, into a new one that nobody else sees yet. Keys
 * ascend, of one key messages come newest first, their bodies passed tree_message_check(); and
 * ranges, which ascend without overlap and end somewhere. What is read at a limit that covers all
 * of it is what was kept. Batches may follow. -ERR_bad_value: out of order, no message of a key, or
 * not newer than base_msn; -ENOMEM. After either it is of no use.
 */
NODISCARD int tree_memtable_load(struct tree_memtable *m, struct kv_slice key,
                                 const struct tree_message *message);
NODISCARD int tree_memtable_load_range(struct tree_memtable *m, const struct tree_range *range);

/* No batch comes any more. */
void tree_memtable_freeze(struct tree_memtable *m);

/* The writer's, or anybody's once it is frozen. */
struct tree_memtable_state {
    uint64_t bytes;            /* allocated */
    uint64_t key_count;        /* with a message */
    uint64_t range_count;      /* range deletes applied */
    uint64_t min_msn, max_msn; /* 0: it is empty */
    bool full;                 /* at its limit: the next batch belongs into another one */
};
struct tree_memtable_state tree_memtable_state(const struct tree_memtable *m);

/* What a key has at a limit. */
struct tree_memtable_found {
    struct tree_message message; /* newest message; its msn is 0 if there is none */
    uint64_t range_msn;          /* of the newest range delete that covers the key, if that is newer
                                    than the message; else 0 */
    bool more;                   /* the message is an upsert that an older one of here precedes:
                                    use a cursor */
};
void tree_memtable_get(const struct tree_memtable *m, struct kv_slice key, uint64_t limit,
                       struct tree_memtable_found *ret);

/* How many keys have a message in [low, high) (an empty `high`: to the end), and their bytes. A few
 * are counted; of many it is a guess, mostly within a factor of two. Any thread. */
struct tree_memtable_estimate {
    uint64_t key_count, bytes;
};
struct tree_memtable_estimate tree_memtable_estimate(const struct tree_memtable *m,
                                                     struct kv_slice low, struct kv_slice high);

/* The first deleted range that ends behind `from` (empty: the first of all). Neighbours may have
 * the same msn. False: none. */
bool tree_memtable_range(const struct tree_memtable *m, uint64_t limit, struct kv_slice from,
                         struct tree_range *ret);

/* Reads in order. No memory of its own, nothing to end; never needs anything. */
struct tree_memtable_cursor {
    struct tree_source base;
    const struct tree_memtable *memtable;
    uint64_t limit;
    uint64_t print; /* of the only key that is looked for by find(), if its caller says so; or 0 */
    const struct tree_memtable_entry *entry;
    const struct tree_memtable_version *version;
};
void tree_memtable_cursor_init(struct tree_memtable_cursor *c, const struct tree_memtable *m,
                               uint64_t limit);
