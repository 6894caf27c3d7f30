/*
 * tree/memtable_priv.h -- the parts of a memtable: its memory, versions, and the sorted tables.
 *
 * A table is a skip list: one writer inserts, nothing is ever removed. Whoever reads while an entry
 * is linked in sees it or not; either is right, for the entry has no version that a reader of that
 * moment may see. There are two: the keys; and the boundaries of deleted ranges, where an entry
 * tells what covers the keys from its own to the next one's.
 */
#pragma once

#include "base/mem.h"
#include "base/rand.h"
#include "tree/memtable.h"

#include <stdatomic.h>

#define MEMTABLE_HEIGHT_MAX 12u
#define MEMTABLE_RETIRED_MAX 256u

/* Sizes of versions: steps of 16 bytes to 512, then four to each doubling. */
#define MEMTABLE_CLASSES 80u

/* A message. All but `older` and `msn` are read by those only who may see it. */
struct tree_memtable_version {
    _Atomic uint64_t msn;
    _Atomic(struct tree_memtable_version *) older; /* for smaller limits */
    struct tree_memtable_version *rest; /* precedes this one, and does not fold into it */
    uint32_t len;
    uint8_t type;
    uint8_t size_class;
    bool held; /* the writer's: somebody's `rest` */
    uint8_t body[];
};

struct tree_memtable_entry {
    uint64_t hint; /* the first bytes of the key, padded with zeros, big-endian */
    _Atomic(struct tree_memtable_version *) head;
    _Atomic(struct tree_memtable_entry *) prev; /* NULL: it is the first */
    uint16_t key_len;
    uint8_t height;
    _Atomic(struct tree_memtable_entry *) next[]; /* height; then the key */
};

struct memtable_table {
    struct tree_memtable_entry *head; /* without a key, as high as can be */
    _Atomic uint32_t height;
    /* The writer's: where the last search ended. finger[i] is the last on level i before it. */
    struct tree_memtable_entry *finger[MEMTABLE_HEIGHT_MAX];
};

struct memtable_block {
    struct memtable_block *next;
    size_t size; /* with this header */
};

struct memtable_retired { /* unlinked, but a reader below `msn` may stand on it */
    struct tree_memtable_version *version;
    uint64_t msn;
};

struct tree_memtable {
    _Atomic uint64_t refs;
    struct mem_budget *budget;
    size_t limit_bytes, block_bytes;
    uint64_t base_msn;
    struct memtable_table keys, ranges;
    _Atomic uint64_t range_msn; /* of the newest range delete; 0: none */

    /* the writer's */
    struct memtable_block *blocks;
    uint8_t *at; /* of the block that is being filled */
    size_t left;
    uint64_t bytes;
    struct rand rand;
    bool frozen;
    uint64_t key_count, range_count, min_msn, max_msn;
    struct tree_memtable_version *spare[MEMTABLE_CLASSES]; /* by `rest` */
    struct memtable_retired retired[MEMTABLE_RETIRED_MAX];
    size_t retired_first, retired_count;
};

static inline struct kv_slice memtable_entry_key(const struct tree_memtable_entry *e)
{
    return kv_slice_of((const uint8_t *)&e->next[e->height], e->key_len);
}

static inline struct tree_memtable_version *memtable_visible(const struct tree_memtable_entry *e,
                                                             uint64_t limit)
{
    struct tree_memtable_version *v = atomic_load_explicit(&e->head, memory_order_acquire);
    while (v != NULL && atomic_load_explicit(&v->msn, memory_order_relaxed) > limit) {
        v = atomic_load_explicit(&v->older, memory_order_acquire);
    }
    return v;
}

/* memtable_table.c */
void *tree_memtable_take(struct tree_memtable *m, size_t size); /* 8-aligned; NULL: -ENOMEM */
struct tree_memtable_version *tree_memtable_version_new(struct tree_memtable *m, size_t len);
size_t tree_memtable_version_size(const struct tree_memtable_version *v);
/* Nobody can be reading it. */
void tree_memtable_version_put(struct tree_memtable *m, struct tree_memtable_version *v);
NODISCARD int tree_memtable_table_init(struct tree_memtable *m, struct memtable_table *t);
/* The first with a key >= `key`, or NULL. */
struct tree_memtable_entry *tree_memtable_seek(const struct memtable_table *t, struct kv_slice key);
struct tree_memtable_entry *tree_memtable_last(const struct memtable_table *t);
/* The last with a key <= `key`, or NULL. */
struct tree_memtable_entry *tree_memtable_seek_back(const struct memtable_table *t,
                                                    struct kv_slice key);
/* The writer's: the entry of this very key or NULL; and a new one there, right after that. */
struct tree_memtable_entry *tree_memtable_place(struct memtable_table *t, struct kv_slice key);
struct tree_memtable_entry *tree_memtable_insert(struct tree_memtable *m, struct memtable_table *t,
                                                 struct kv_slice key,
                                                 struct tree_memtable_version *head);
