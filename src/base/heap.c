/*
 * base/heap.c -- see heap.h. Positions are 1-based, so that the children of i are 2i and 2i + 1.
 *
 * Invariants: no node orders before its parent; node[i - 1]->index == i.
 */
#include "base/heap.h"

#include "base/mem.h"

#include <errno.h>

void heap_init(struct heap *h)
{
    *h = (struct heap){.node = NULL};
}

void heap_fini(struct heap *h)
{
    mem_free(h->node);
    heap_init(h);
}

int heap_reserve(struct heap *h, size_t count)
{
    return count <= h->capacity
               ? 0
               : mem_grow(&h->node, &h->capacity, count, sizeof(struct heap_node *));
}

static bool before(const struct heap_node *a, const struct heap_node *b)
{
    return a->key != b->key ? a->key < b->key : a->order < b->order;
}

static void put(struct heap *h, size_t index, struct heap_node *n)
{
    h->node[index - 1] = n;
    n->index = index;
}

/* `n` belongs at `index` or nearer to the root; what it passes moves down. */
static void sift_up(struct heap *h, size_t index, struct heap_node *n)
{
    while (index > 1 && before(n, h->node[index / 2 - 1])) {
        put(h, index, h->node[index / 2 - 1]);
        index /= 2;
    }
    put(h, index, n);
}

/* `n` belongs at `index` or farther from the root; what it passes moves up. */
static void sift_down(struct heap *h, size_t index, struct heap_node *n)
{
    while (index <= h->count / 2) {
        size_t child = 2 * index;
        if (child < h->count && before(h->node[child], h->node[child - 1])) {
            child++;
        }
        if (!before(h->node[child - 1], n)) {
            break;
        }
        put(h, index, h->node[child - 1]);
        index = child;
    }
    put(h, index, n);
}

int heap_insert(struct heap *h, struct heap_node *n, uint64_t key)
{
    CHECK(n->index == 0);
    int rc = heap_reserve(h, h->count + 1);
    if (rc < 0) {
        return rc;
    }
    n->key = key;
    n->order = h->next_order++;
    h->count++;
    sift_up(h, h->count, n);
    return 0;
}

void heap_remove(struct heap *h, struct heap_node *n)
{
    if (n->index == 0) {
        return;
    }
    size_t hole = n->index;
    CHECK(hole <= h->count && h->node[hole - 1] == n); /* it is in this heap */
    struct heap_node *last = h->node[h->count - 1];
    h->count--;
    n->index = 0;
    if (last == n) {
        return;
    }
    if (hole > 1 && before(last, h->node[hole / 2 - 1])) {
        sift_up(h, hole, last);
    } else {
        sift_down(h, hole, last);
    }
}

struct heap_node *heap_first(const struct heap *h)
{
    return h->count > 0 ? h->node[0] : NULL;
}
