/* consensus/heap.c -- see heap.h. The table is constant: nothing in it belongs to a node, so a
 * simulated process may die at any moment. */
#include "consensus/heap.h"

#include "base/base.h"
#include "base/mem.h"

#include <raft.h>
#include <stdint.h>

static void *heap_malloc(void *data, size_t size)
{
    (void)data;
    void *p = mem_alloc(size > 0 ? size : 1);
    CHECK(p != NULL);
    return p;
}

static void heap_free(void *data, void *p)
{
    (void)data;
    mem_free(p);
}

static void *heap_calloc(void *data, size_t count, size_t size)
{
    (void)data;
    void *p = mem_calloc(count > 0 ? count : 1, size > 0 ? size : 1);
    CHECK(p != NULL);
    return p;
}

static void *heap_realloc(void *data, void *p, size_t size)
{
    (void)data;
    void *bigger = mem_realloc(p, size > 0 ? size : 1);
    CHECK(bigger != NULL);
    return bigger;
}

static void *heap_aligned_alloc(void *data, size_t alignment, size_t size)
{
    (void)data;
    void *p = mem_aligned(alignment, size);
    CHECK(p != NULL);
    return p;
}

static void heap_aligned_free(void *data, size_t alignment, void *p)
{
    (void)data;
    (void)alignment;
    mem_free(p);
}

static const struct raft_heap heap_table = {.malloc = heap_malloc,
                                            .free = heap_free,
                                            .calloc = heap_calloc,
                                            .realloc = heap_realloc,
                                            .aligned_alloc = heap_aligned_alloc,
                                            .aligned_free = heap_aligned_free};

void consensus_heap_use(void)
{
    if (raft_heap_get() != &heap_table) {
        raft_heap_set((struct raft_heap *)&heap_table); /* the library only reads it */
    }
}
