/*
 * kv/mem_tree_priv.h -- the persistent B+tree of the memory engine.
 *
 * A node may be changed exactly when it and all nodes above it have one reference; otherwise it is
 * copied on the way down. Slot 0 of an inner node has no separator. Nodes are split and filled up
 * on the way down, so that no change ever climbs back. Nothing here recurses.
 *
 * Searching in a node touches the node only: it knows what all its keys begin with, and the eight
 * bytes of each that follow, as a big-endian number. An inner node knows eight more: its keys have
 * less in common and would be equal often. Keys themselves are read where all those are equal.
 */
#pragma once

#include "kv/kv.h"

struct mem_budget;

#define KV_MEM_FANOUT 64u
#define KV_MEM_FILL_MIN 16u
#define KV_MEM_MERGE_MAX 48u
#define KV_MEM_DEPTH_MAX 16u
#define KV_MEM_PREFIX_MAX 44u

struct kv_mem_entry { /* immutable; shared by nodes of several roots */
    uint32_t ref;
    uint32_t key_len, value_len;
    uint8_t bytes[]; /* key, value */
};

struct kv_mem_node {
    uint32_t ref;
    uint16_t count, height; /* height 0: leaf */
    bool wide;              /* has room for children, whatever its height */
    uint8_t prefix_len;     /* all keys of this node begin with `prefix` */
    uint8_t prefix[KV_MEM_PREFIX_MAX];
    struct kv_mem_node *dying;                 /* list of kv_mem_node_unref(), and of spare ones */
    uint64_t hint[KV_MEM_FANOUT];              /* what follows the prefix, padded with zeros */
    struct kv_mem_entry *entry[KV_MEM_FANOUT]; /* leaf: records; inner: least key of the child */
    struct kv_mem_inner {
        uint64_t more[KV_MEM_FANOUT]; /* what follows the hint */
        struct kv_mem_node *child[KV_MEM_FANOUT];
    } in[]; /* one of an inner node */
};

/* Where nodes come from. The spare ones are for undoing: that must not fail. */
struct kv_mem_pool {
    struct mem_budget *budget; /* may be NULL */
    struct kv_mem_node *spare;
    size_t spare_count;
    bool undoing;
};

struct kv_mem_tree {
    struct kv_mem_pool *pool;
    struct kv_mem_node *root;
    uint64_t key_count, bytes;
};

struct kv_mem_path {
    struct kv_mem_node *node[KV_MEM_DEPTH_MAX]; /* [0] is the root, [depth - 1] a leaf */
    uint16_t slot[KV_MEM_DEPTH_MAX];
    unsigned depth;
};

static inline struct kv_slice kv_mem_key(const struct kv_mem_entry *e)
{
    return kv_slice_of(e->bytes, e->key_len);
}
static inline struct kv_slice kv_mem_value(const struct kv_mem_entry *e)
{
    return kv_slice_of(e->bytes + e->key_len, e->value_len);
}

/* NULL: out of memory or budget. The value is left unset when value.at is NULL. */
struct kv_mem_entry *kv_mem_entry_new(struct mem_budget *b, struct kv_slice key,
                                      struct kv_slice value);
void kv_mem_entry_unref(struct mem_budget *b, struct kv_mem_entry *e);

struct kv_mem_node *kv_mem_node_new(struct kv_mem_pool *pool, unsigned height);
void kv_mem_node_unref(struct kv_mem_pool *pool, struct kv_mem_node *n); /* NULL is fine */
/* At least so many spare nodes. -ENOMEM. */
NODISCARD int kv_mem_pool_reserve(struct kv_mem_pool *pool, size_t count);
void kv_mem_pool_fini(struct kv_mem_pool *pool);

/* Where a key is or would be: found once, for a look at what is there and for a change. */
struct kv_mem_place {
    struct kv_mem_node *leaf; /* may be changed, has room */
    size_t slot;
    struct kv_mem_entry *entry; /* what is there; NULL: nothing */
};
/* Nothing is there in another way than before. Good until the tree changes. 0, -ENOMEM. */
NODISCARD int kv_mem_tree_place(struct kv_mem_tree *t, struct kv_slice key,
                                struct kv_mem_place *ret);
/* Takes over one reference of `e`, which has the key of the place. *ret_old (may be NULL): what had
 * it before, with a reference, or NULL. */
void kv_mem_place_put(struct kv_mem_tree *t, const struct kv_mem_place *at, struct kv_mem_entry *e,
                      struct kv_mem_entry **ret_old);
/* Both. Takes over the reference also on failure. 0, -ENOMEM. */
NODISCARD int kv_mem_tree_put(struct kv_mem_tree *t, struct kv_mem_entry *e,
                              struct kv_mem_entry **ret_old);
/* *ret_old (may be NULL): the same. */
NODISCARD int kv_mem_tree_delete(struct kv_mem_tree *t, struct kv_slice key,
                                 struct kv_mem_entry **ret_old);
/* The entry of `key` if nobody else has it or a node on the way to it: it may be changed. Else
 * NULL.
 */
struct kv_mem_entry *kv_mem_tree_own_entry(const struct kv_mem_tree *t, struct kv_slice key);
/* The first entry with low <= key < high, or NULL. */
struct kv_mem_entry *kv_mem_tree_first(const struct kv_mem_tree *t, struct kv_slice low,
                                       struct kv_slice high);
NODISCARD int kv_mem_tree_delete_range(struct kv_mem_tree *t, struct kv_slice low,
                                       struct kv_slice high);
/* The first slot whose key is >= `key`; of an inner node: the child that `key` belongs to. */
size_t kv_mem_slot(const struct kv_mem_node *n, struct kv_slice key);
/* Puts an entry (and a child) into a node that may be changed and has room. Slots come in the order
 * of their keys; takes over the references. */
void kv_mem_slot_insert(struct kv_mem_node *n, size_t i, struct kv_mem_entry *e,
                        struct kv_mem_node *child);
struct kv_mem_entry *kv_mem_find(struct kv_mem_node *root, struct kv_slice key);

/* Stands on the first entry >= key, or behind the last. An empty key is the first. */
void kv_mem_path_seek(struct kv_mem_path *p, struct kv_mem_node *root, struct kv_slice key);
void kv_mem_path_end(struct kv_mem_path *p, struct kv_mem_node *root); /* behind the last */
struct kv_mem_entry *kv_mem_path_entry(const struct kv_mem_path *p);   /* NULL behind the last */
void kv_mem_path_next(struct kv_mem_path *p);                          /* from an entry */
bool kv_mem_path_prev(struct kv_mem_path *p); /* false: was the first; the path is then void */
/* Where `key` lies between 0 (first) and 1. */
double kv_mem_rank(struct kv_mem_node *root, struct kv_slice key);
