/* base/heap.h -- intrusive binary min-heap over an array of pointers (timers, schedules). Not
 * thread-safe. */
#pragma once

#include "base/base.h"

struct heap_node {
    uint64_t key;   /* smallest first */
    uint64_t order; /* set by heap_insert: equal keys come out in order of insertion */
    size_t index;   /* 1-based position; 0 = not in a heap */
};
struct heap {
    struct heap_node **node;
    size_t count, capacity;
    uint64_t next_order;
};
void heap_init(struct heap *h);
void heap_fini(struct heap *h); /* nodes are the owner's */
NODISCARD int heap_reserve(struct heap *h,
                           size_t count); /* later inserts up to count cannot fail */
NODISCARD int heap_insert(struct heap *h, struct heap_node *n, uint64_t key); /* -ENOMEM */
void heap_remove(struct heap *h, struct heap_node *n); /* fine when it is in none */
struct heap_node *heap_first(const struct heap *h);    /* NULL when empty */
