/*
 * tree/memtable_priv.h -- the parts of a memtable: its memory, versions, and the sorted tables.
 *
 * A table is a list of entries in the order of their keys, and a B+-tree that leads into it. One
 * writer inserts, nothing is ever removed. Whoever reads while an entry is linked in sees it or
 * not; either is right, for it has no version that a reader of that moment may see. The list is the
 * truth; memtable_table.c says when what the tree tells can be trusted without looking there.
 *
 * There are two tables: the keys; and the boundaries of deleted ranges, where an entry tells what
 * covers the keys from its own to the next one's.
 */
#pragma once

#include "base/mem_slab.h"
#include "tree/memtable.h"
#include "tree/tree_format.h"

#include <stdatomic.h>

#define MEMTABLE_FANOUT 64u
#define MEMTABLE_DEPTH_MAX 12u
#define MEMTABLE_PREFIX_WORDS 5u
#define MEMTABLE_RETIRED_MAX 256u
#define MEMTABLE_BUCKET 7u

/* Sizes of versions: steps of 8 bytes to 512, then four to each doubling. */
#define MEMTABLE_CLASSES 112u

/* A message. All but `older` and `msn` are read by those only who may see it. */
struct tree_memtable_version {
    _Atomic uint64_t msn;
    _Atomic(struct tree_memtable_version *) older; /* for smaller limits */
    struct tree_memtable_version *rest; /* precedes this one, and does not fold into it */
    uint32_t len;
    uint8_t type;
    uint8_t size_class;
    bool held;           /* the writer's: somebody's `rest` */
    _Atomic bool inside; /* of a range delete: there are newer messages of keys that it covers */
    uint8_t body[];
};

struct tree_memtable_entry {
    _Atomic(struct tree_memtable_version *) head;
    _Atomic(struct tree_memtable_entry *) prev; /* NULL: it is the first */
    _Atomic(struct tree_memtable_entry *) next; /* NULL: it is the last */
    uint16_t key_len;
    uint8_t key[];
};

/* Slots ascend. All keys that belong into a node begin with its prefix; a hint is the eight bytes
 * that follow, padded with zeros, as big-endian numbers are. */
struct memtable_node {
    _Atomic uint32_t sequence; /* of a leaf: odd while it changes */
    _Atomic uint16_t count;
    uint8_t height;                                 /* 0: leaf */
    _Atomic uint8_t skip;                           /* length of the prefix */
    _Atomic uint64_t prefix[MEMTABLE_PREFIX_WORDS]; /* big-endian */
    _Atomic uint64_t hint[MEMTABLE_FANOUT];
    _Atomic(struct tree_memtable_entry *) entry[MEMTABLE_FANOUT]; /* inner: first of the child;
                                                                     slot 0 has none */
    _Atomic(struct memtable_node *) child[]; /* inner: MEMTABLE_FANOUT of them */
};

struct memtable_table {
    _Atomic(struct tree_memtable_entry *) first;
    _Atomic(struct memtable_node *) root; /* NULL: it is empty */
    _Atomic(struct memtable_index *) index;
    _Atomic bool index_lacks; /* entries that found no place there */
    bool indexed;             /* it has one, or will */

    /* The writer's: where tree_memtable_place() ended when it last found none. */
    struct memtable_node *leaf;
    unsigned at;                        /* first slot of the leaf with a key >= that one */
    struct tree_memtable_entry *before; /* the entry before that key, or NULL */
    uint64_t print;                     /* of the key, if indexed */
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
    struct mem_slab *slab;
    size_t limit_bytes, block_bytes;
    bool force; /* beyond the budget */
    uint64_t base_msn;
    struct memtable_table keys, ranges;
    _Atomic uint64_t range_msn; /* of the newest range delete; 0: none */

    /* the writer's */
    struct memtable_block *blocks;
    uint8_t *at; /* of the block that is being filled */
    size_t left;
    uint64_t bytes;
    bool frozen;
    _Atomic uint64_t key_count; /* for estimates of anybody, too */
    uint64_t range_count, min_msn, max_msn;
    struct tree_memtable_version *loaded;                  /* the last one that was put back */
    struct tree_memtable_version *spare[MEMTABLE_CLASSES]; /* by `rest` */
    struct memtable_retired retired[MEMTABLE_RETIRED_MAX];
    size_t retired_first, retired_count;
};

static inline struct kv_slice memtable_entry_key(const struct tree_memtable_entry *e)
{
    return kv_slice_of(e->key, e->key_len);
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

/* memtable_memory.c */
NODISCARD bool tree_memtable_charge(struct mem_budget *b, bool force, size_t size); /* b: or NULL */
void *tree_memtable_take(struct tree_memtable *m, size_t size); /* 8-aligned; NULL: -ENOMEM */
struct tree_memtable_version *tree_memtable_version_new(struct tree_memtable *m, size_t len);
size_t tree_memtable_version_size(const struct tree_memtable_version *v);
/* Nobody can be reading it. */
void tree_memtable_version_put(struct tree_memtable *m, struct tree_memtable_version *v);

/* The writer's. */
static inline void memtable_count_keys(struct tree_memtable *m, int64_t more)
{
    uint64_t now = atomic_load_explicit(&m->key_count, memory_order_relaxed);
    atomic_store_explicit(&m->key_count, now + (uint64_t)more, memory_order_relaxed);
}

/* memtable_index.c: entries by tree_fingerprint() of their keys. */
/* True: *ret is the entry of the key, or NULL as there is none; false: it does not know. */
bool tree_memtable_index_find(const struct memtable_table *t, struct kv_slice key, uint64_t print,
                              struct tree_memtable_entry **ret);
/* The writer's: room for one more, and that one. */
NODISCARD int tree_memtable_index_room(struct tree_memtable *m, struct memtable_table *t);
void tree_memtable_index_put(struct memtable_table *t, struct tree_memtable_entry *e,
                             uint64_t print);

/* memtable_table.c */
/* How much of the table is before a key, in parts of 2^32, as the shape of the tree says. */
uint64_t tree_memtable_rank(const struct memtable_table *t, struct kv_slice key);
/* The first with a key >= `key`, or NULL. An empty key is the first. */
struct tree_memtable_entry *tree_memtable_seek(const struct memtable_table *t, struct kv_slice key);
/* The one with this key, or NULL. */
struct tree_memtable_entry *tree_memtable_find(const struct memtable_table *t, struct kv_slice key);
/* The same; `print` is its fingerprint. */
struct tree_memtable_entry *tree_memtable_find_print(const struct memtable_table *t,
                                                     struct kv_slice key, uint64_t print);
/* The last with a key <= `key`, or NULL. An empty key is the last. */
struct tree_memtable_entry *tree_memtable_seek_back(const struct memtable_table *t,
                                                    struct kv_slice key);
/* The writer's: the entry of this very key; or NULL, and then a new one there, right after that. */
struct tree_memtable_entry *tree_memtable_place(struct memtable_table *t, struct kv_slice key);
struct tree_memtable_entry *tree_memtable_insert(struct tree_memtable *m, struct memtable_table *t,
                                                 struct kv_slice key,
                                                 struct tree_memtable_version *head);
