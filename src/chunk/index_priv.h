/* chunk/index_priv.h -- items in key order: chunks, removed data ids. Thread: the store's. */
#pragma once

#include "chunk/chunk.h"

struct chunk_item { /* first in what is indexed */
    struct chunk_key key;
};
struct chunk_leaf;
struct chunk_index {
    struct chunk_leaf **leaf;
    size_t leaf_count, leaf_capacity, count;
};
NODISCARD int chunk_index_insert(struct chunk_index *x, struct chunk_item *item); /* not there */
void chunk_index_remove(struct chunk_index *x, struct chunk_key key);
struct chunk_item *chunk_index_next(const struct chunk_index *x, struct chunk_key from);
struct chunk_item *chunk_index_find(const struct chunk_index *x, struct chunk_key key);
void chunk_index_fini(struct chunk_index *x); /* not the items */
