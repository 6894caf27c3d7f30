/*
 * base/mem_pool.c -- equal objects cut from slabs. Free ones form a list through their first bytes;
 * the last one put is the next one got, because it is still in the cache. Slabs go back when the
 * pool does.
 */
#include "base/mem.h"

#include "base/mem_priv.h"

#include <string.h>

#define MEM_POOL_UNIT 16u          /* alignment and granule of objects */
#define MEM_POOL_SLAB_BYTES 65536u /* aim when slab_count is chosen */

struct mem_pool_object {
    struct mem_pool_object *next;
};

struct mem_pool_slab {
    struct mem_pool_slab *next;
    size_t size_bytes;
};
_Static_assert(sizeof(struct mem_pool_slab) == MEM_POOL_UNIT, "objects behind it stay aligned");

struct mem_pool {
    struct mem_pool_object *unused;
    size_t object_size; /* rounded up */
    size_t used_count;
    size_t made_count, max_count, slab_count;
    struct mem_pool_slab *slabs;
    struct mem_budget *budget; /* may be NULL */
};

struct mem_pool *mem_pool_new(const struct mem_pool_options *opt)
{
    CHECK(opt->object_size > 0 && opt->object_size <= PTRDIFF_MAX / 2);
    CHECK(opt->max_count > 0);
    struct mem_pool *p = mem_zalloc(sizeof *p);
    if (p == NULL) {
        return NULL;
    }
    p->object_size = base_align_up(opt->object_size, MEM_POOL_UNIT);
    p->max_count = opt->max_count;
    p->slab_count = opt->slab_count;
    if (p->slab_count == 0) {
        p->slab_count =
            base_max(1, (MEM_POOL_SLAB_BYTES - sizeof(struct mem_pool_slab)) / p->object_size);
    }
    p->budget = opt->budget;
    return p;
}

struct mem_pool *mem_pool_free(struct mem_pool *p)
{
    if (p == NULL) {
        return NULL;
    }
    CHECK(p->used_count == 0);
    while (p->slabs != NULL) {
        struct mem_pool_slab *slab = p->slabs;
        p->slabs = slab->next;
        if (p->budget != NULL) {
            mem_budget_give(p->budget, slab->size_bytes);
        }
        mem_unpoison(slab, slab->size_bytes);
        mem_free(slab);
    }
    mem_free(p);
    return NULL;
}

static void mem_pool_push(struct mem_pool *p, struct mem_pool_object *o)
{
    o->next = p->unused;
    p->unused = o;
    mem_poison(o, p->object_size); /* its next write is our bug; a second put as well */
}

static COLD bool mem_pool_grow(struct mem_pool *p)
{
    size_t count = base_min(p->slab_count, p->max_count - p->made_count);
    size_t bytes;
    if (count == 0 || __builtin_mul_overflow(count, p->object_size, &bytes) ||
        __builtin_add_overflow(bytes, sizeof(struct mem_pool_slab), &bytes) ||
        (p->budget != NULL && !mem_budget_take(p->budget, bytes))) {
        return false;
    }
    struct mem_pool_slab *slab = mem_alloc(bytes);
    if (slab == NULL) {
        if (p->budget != NULL) {
            mem_budget_give(p->budget, bytes);
        }
        return false;
    }
    slab->next = p->slabs;
    slab->size_bytes = bytes;
    p->slabs = slab;
    p->made_count += count;
    uint8_t *first = (uint8_t *)(slab + 1);
    for (size_t i = count; i > 0; i--) { /* so that they are handed out in order of address */
        mem_pool_push(p, (void *)(first + (i - 1) * p->object_size));
    }
    return true;
}

void *mem_pool_get(struct mem_pool *p)
{
    if (p->unused == NULL && !mem_pool_grow(p)) {
        return NULL;
    }
    struct mem_pool_object *o = p->unused;
    mem_unpoison(o, p->object_size);
    p->unused = o->next;
    p->used_count++;
    return memset(o, 0, p->object_size);
}

void mem_pool_put(struct mem_pool *p, void *object)
{
    CHECK(object != NULL && p->used_count > 0);
    p->used_count--;
    mem_pool_push(p, object);
}

size_t mem_pool_used(const struct mem_pool *p)
{
    return p->used_count;
}
