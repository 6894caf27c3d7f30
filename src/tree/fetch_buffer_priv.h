/*
 * tree/fetch_buffer_priv.h -- memory that reads go to, charged to the cache; a few idle pieces are
 * kept for the next ones. The loop's.
 */
#pragma once

#include "tree/part.h"

#define FETCH_KEPT_MAX 16u /* idle buffers */

struct fetch_buffer {
    uint8_t *bytes;
    size_t size;
};

struct fetch_buffers {
    struct tree_cache *cache;
    struct fetch_buffer kept[FETCH_KEPT_MAX];
    size_t kept_count;
    uint64_t kept_bytes, kept_limit;
    uint64_t beyond; /* the cache may be overdrawn by so much: of the call under way */
};

void tree_fetch_buffers_init(struct fetch_buffers *x, struct tree_cache *cache);
void tree_fetch_buffers_fini(struct fetch_buffers *x); /* those that are kept */
/* A buffer of `size`, and `cost` bytes more charged. -ENOMEM. */
NODISCARD int tree_fetch_buffer_get(struct fetch_buffers *x, size_t size, uint64_t cost,
                                    struct fetch_buffer *ret);
void tree_fetch_buffer_put(struct fetch_buffers *x, struct fetch_buffer b);
