/*
 * base/mem.h -- all allocation. Out of line, checked, countable.
 *
 * Allocators return NULL on failure (also when a torture run says so); sizes of arrays are checked
 * for overflow. Thread-safe except where said. A *domain* groups the allocations of one simulated
 * process: when the simulator kills the process, mem_domain_drop() frees everything it held without
 * running destructors, as a kernel would. Domains exist in test builds only; elsewhere the calls do
 * nothing.
 */
#pragma once

#include "base/base.h"

NODISCARD void *mem_alloc(size_t size);
NODISCARD void *mem_zalloc(size_t size);
NODISCARD void *mem_calloc(size_t count, size_t size); /* zeroed */
/* p may be NULL; on a NULL result p is unchanged. The result has the alignment of mem_alloc, 16. */
NODISCARD void *mem_realloc(void *p, size_t size);
NODISCARD void *mem_aligned(size_t alignment, size_t size); /* freed by mem_free */
/* A buffer of many pages, aligned to 4 KiB; from MEM_HUGE_BYTES on to that, and the kernel is asked
 * for huge pages: one piece instead of hundreds for a disk, and one page fault. Not zeroed. */
#define MEM_HUGE_BYTES ((size_t)2 << 20)
NODISCARD void *mem_pages(size_t size); /* freed by mem_free */
NODISCARD void *mem_dup(const void *from, size_t size);
NODISCARD char *mem_strdup(const char *text);
NODISCARD char *mem_printf(const char *fmt, ...) PRINTF_LIKE(1, 2);
void mem_free(void *p); /* NULL is fine */
static inline void mem_freep(void *at)
{
    mem_free(*(void **)at);
    *(void **)at = NULL;
}

/* Grows *array (element size `size`) so that it holds `need` elements, at least doubling. -ENOMEM.
 */
NODISCARD int mem_grow(void *array, size_t *capacity, size_t need, size_t size);

/* Test support, of this thread: the nth allocation from now fails (0: none); counts those tried.
 * Always 0 and without effect outside test builds. */
void mem_fail_at(uint64_t nth);
uint64_t mem_count(void);

/* A domain and all that was allocated in it belong to one thread. A block stays in the domain in
 * which it was made: it may be freed while another one is entered, and mem_realloc keeps it where
 * it was. NULL is "no domain". */
struct mem_domain;
struct fault;
struct mem_domain *mem_domain_new(void);
/* Frees all of it and itself. CHECKs that it is not entered. */
void mem_domain_drop(struct mem_domain *d);
struct mem_domain *mem_domain_enter(struct mem_domain *d); /* returns the previous one */
size_t mem_domain_bytes(const struct mem_domain *d); /* what callers asked for and did not free */
/* Allocations in `d` pass the fault point "mem.alloc" of `f` (NULL: no longer). */
void mem_domain_set_fault(struct mem_domain *d, struct fault *f);

/* A byte budget, charged before allocation. Thread-safe. `parent` may be NULL and is charged as
 * well. */
struct mem_budget {
    struct mem_budget *parent;
    uint64_t limit_bytes;
    _Atomic uint64_t used_bytes;
};
void mem_budget_init(struct mem_budget *b, struct mem_budget *parent, uint64_t limit_bytes);
NODISCARD bool mem_budget_take(struct mem_budget *b,
                               uint64_t bytes); /* false: full, nothing charged */
/* Whatever the limit says: for what has been taken already. */
void mem_budget_force(struct mem_budget *b, uint64_t bytes);
void mem_budget_give(struct mem_budget *b, uint64_t bytes);

/* A pool of equal objects: grows by slabs up to its limit, then says NULL. One thread. */
struct mem_pool;
struct mem_pool_options {
    size_t object_size;
    size_t max_count;
    size_t slab_count;         /* objects per slab; 0: chosen */
    struct mem_budget *budget; /* may be NULL */
};
NODISCARD struct mem_pool *mem_pool_new(const struct mem_pool_options *opt);
struct mem_pool *mem_pool_free(struct mem_pool *p); /* CHECKs that nothing is out */
DEFINE_FREEP(mem_pool)
NODISCARD void *mem_pool_get(struct mem_pool *p); /* zeroed */
void mem_pool_put(struct mem_pool *p, void *object);
size_t mem_pool_used(const struct mem_pool *p);

/* A bump allocator for what one request decodes; freed all at once. One thread. */
struct mem_arena {
    struct mem_arena_block *block;
    size_t used_bytes;
    size_t limit_bytes;
};
void mem_arena_init(struct mem_arena *a, size_t limit_bytes);
void mem_arena_fini(struct mem_arena *a);
void mem_arena_reset(struct mem_arena *a); /* keeps one block for the next request */
NODISCARD void *mem_arena_alloc(struct mem_arena *a,
                                size_t size); /* 8-aligned, not zeroed; NULL at the limit */
NODISCARD void *mem_arena_dup(struct mem_arena *a, const void *from, size_t size);
