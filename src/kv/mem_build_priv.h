/*
 * kv/mem_build_priv.h -- a tree of the memory engine from records in key order, from the leaves up:
 * no search, no split.
 */
#pragma once

#include "kv/mem_tree_priv.h"

#define KV_MEM_BUILD_FILL 56u /* slots of a finished node: the next puts find room */
#define KV_MEM_BUILD_HELD (KV_MEM_BUILD_FILL + KV_MEM_FILL_MIN)

/* Slots that no node has yet; a node is made when more than enough for the next one are there. */
struct kv_mem_build_level {
    struct kv_mem_entry
        *entry[KV_MEM_BUILD_HELD]; /* leaf: records; inner: least key of the child */
    struct kv_mem_node *child[KV_MEM_BUILD_HELD];
    size_t count;
};
struct kv_mem_build {
    struct kv_mem_pool *pool;
    uint64_t key_count, bytes;
    unsigned height; /* of the highest level that has slots */
    struct kv_mem_build_level level[KV_MEM_DEPTH_MAX];
};

void kv_mem_build_init(struct kv_mem_build *b, struct kv_mem_pool *pool);
void kv_mem_build_fini(struct kv_mem_build *b); /* drops what is not in a tree */
/* Keys ascend. -ENOMEM: only _fini() may follow. */
NODISCARD int kv_mem_build_add(struct kv_mem_build *b, struct kv_slice key, struct kv_slice value);
/* The tree, the caller's. */
NODISCARD int kv_mem_build_finish(struct kv_mem_build *b, struct kv_mem_tree *ret);
