/*
 * base/mem_arena.c -- a bump allocator. Blocks start small, as most requests are, and double, so
 * that a large request takes few of them; what the caller may use is bounded exactly, by
 * limit_bytes.
 */
#include "base/mem.h"

#include "base/mem_priv.h"

#include <string.h>

#define MEM_ARENA_UNIT 8u
#define MEM_ARENA_FIRST 4096u
#define MEM_ARENA_LARGEST 65536u /* doubling stops; also the largest block that a reset keeps */

struct mem_arena_block {
    struct mem_arena_block *next; /* older */
    size_t size, left;            /* of bytes[]; it is handed out from the front */
    uint8_t bytes[];
};
_Static_assert(sizeof(struct mem_arena_block) % MEM_ARENA_UNIT == 0, "bytes[] is aligned");

void mem_arena_init(struct mem_arena *a, size_t limit_bytes)
{
    CHECK(limit_bytes <= PTRDIFF_MAX / 2); /* so that no sum below can wrap */
    *a = (struct mem_arena){.limit_bytes = limit_bytes};
}

static void mem_arena_block_free(struct mem_arena_block *b)
{
    mem_unpoison(b->bytes, b->size);
    mem_free(b);
}

void mem_arena_fini(struct mem_arena *a)
{
    while (a->block != NULL) {
        struct mem_arena_block *b = a->block;
        a->block = b->next;
        mem_arena_block_free(b);
    }
    a->used_bytes = 0;
}

/* Keeps the foremost block of ordinary size, which is a large one of those. */
void mem_arena_reset(struct mem_arena *a)
{
    struct mem_arena_block *kept = NULL;
    while (a->block != NULL) {
        struct mem_arena_block *b = a->block;
        a->block = b->next;
        if (kept == NULL && b->size <= MEM_ARENA_LARGEST) {
            kept = b;
        } else {
            mem_arena_block_free(b);
        }
    }
    if (kept != NULL) {
        kept->next = NULL;
        kept->left = kept->size;
        mem_poison(kept->bytes, kept->size);
    }
    a->block = kept;
    a->used_bytes = 0;
}

static void *mem_arena_take(struct mem_arena *a, struct mem_arena_block *b, size_t size)
{
    uint8_t *at = b->bytes + (b->size - b->left);
    b->left -= size;
    a->used_bytes += size;
    mem_unpoison(at, size);
    return at;
}

static COLD void *mem_arena_alloc_block(struct mem_arena *a, size_t size)
{
    size_t next = a->block == NULL ? MEM_ARENA_FIRST : a->block->size * 2;
    next = base_min(next, MEM_ARENA_LARGEST);
    next = base_max(next, size);
    struct mem_arena_block *b = mem_alloc(sizeof *b + next);
    if (b == NULL) {
        return NULL;
    }
    b->size = next;
    b->left = next;
    mem_poison(b->bytes, b->size);
    if (a->block != NULL && a->block->left > next - size) {
        b->next = a->block->next; /* the older one has more room: it stays in front */
        a->block->next = b;
    } else {
        b->next = a->block;
        a->block = b;
    }
    return mem_arena_take(a, b, size);
}

void *mem_arena_alloc(struct mem_arena *a, size_t size)
{
    if (size > a->limit_bytes - a->used_bytes) {
        return NULL;
    }
    size_t rounded = base_align_up(size, MEM_ARENA_UNIT);
    rounded = base_min(rounded, a->limit_bytes - a->used_bytes); /* the last few bytes count too */
    struct mem_arena_block *b = a->block;
    if (b != NULL && rounded <= b->left) {
        return mem_arena_take(a, b, rounded);
    }
    return mem_arena_alloc_block(a, rounded);
}

void *mem_arena_dup(struct mem_arena *a, const void *from, size_t size)
{
    void *p = mem_arena_alloc(a, size);
    if (p != NULL && size > 0) {
        memcpy(p, from, size);
    }
    return p;
}
