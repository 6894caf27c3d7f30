/*
 * base/mem_slab.h -- memory for objects of many sizes (64 bytes to megabytes) that come and go for
 * as long as a process lives, and must not take more than a budget says. malloc() keeps what such
 * objects leave behind; here whole pages go back to the system, and what is really taken is known.
 *
 * Sizes are rounded up to one of eight classes per power of two: of 512 bytes and more at most an
 * eighth is wasted. Objects of a class lie together in regions of addresses; the largest have
 * mappings of their own. Some of what was put is kept for the next ones, the rest given back.
 *
 * What is charged to the budget: what the caller charges for an object is its size. The slab
 * itself charges all that its pages take beyond that: what was rounded up, and what is kept, of
 * which keep_bytes are charged from the beginning. It does so whatever the budget says, so that
 * used_bytes is never less than what is in memory, and whoever evicts sees it.
 *
 * Any thread.
 */
#pragma once

#include "base/mem.h"

#define MEM_SLAB_ALIGN 64u /* of every object */
#define MEM_SLAB_PAGE \
    4096u /* of an object whose size is a multiple of it, as direct I/O wants it */

struct mem_slab;
struct mem_slab_options {
    struct mem_budget *budget; /* may be NULL */
    uint64_t keep_bytes;       /* about so much stays for the next objects */
    bool plain; /* each object by itself from mem_aligned(): for budgets that a few regions would
                   fill. Nothing is kept, or charged by the slab */
};
NODISCARD struct mem_slab *mem_slab_new(const struct mem_slab_options *opt);
struct mem_slab *mem_slab_free(struct mem_slab *s); /* CHECKs that nothing is out */
DEFINE_FREEP(mem_slab)
NODISCARD void *mem_slab_get(struct mem_slab *s, size_t size); /* not zeroed; NULL: no memory */
/* What was got with this size. NULL is fine. */
void mem_slab_put(struct mem_slab *s, void *p, size_t size);
/* What an object of that size takes. */
size_t mem_slab_rounded(size_t size);

struct mem_slab_info {
    uint64_t asked_bytes;       /* by those who have objects */
    uint64_t rounded_bytes;     /* that these take */
    uint64_t resident_bytes;    /* of pages that were touched and not given back */
    uint64_t kept_bytes;        /* of these, in objects that were put */
    uint64_t charged_bytes;     /* by the slab itself */
    uint64_t regions, returned; /* that there are; times that something was given back */
};
void mem_slab_info(struct mem_slab *s, struct mem_slab_info *ret);
