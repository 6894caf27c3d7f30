#include "base/mem.h"

#include <stdatomic.h>

void mem_budget_init(struct mem_budget *b, struct mem_budget *parent, uint64_t limit_bytes)
{
    b->parent = parent;
    b->limit_bytes = limit_bytes;
    atomic_init(&b->used_bytes, 0);
}

static bool mem_budget_take_one(struct mem_budget *b, uint64_t bytes)
{
    uint64_t used = atomic_load_explicit(&b->used_bytes, memory_order_relaxed);
    do {
        if (used > b->limit_bytes || bytes > b->limit_bytes - used) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&b->used_bytes, &used, used + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

void mem_budget_force(struct mem_budget *b, uint64_t bytes)
{
    for (; b != NULL; b = b->parent) {
        (void)atomic_fetch_add_explicit(&b->used_bytes, bytes, memory_order_relaxed);
    }
}

/* Gives back from `b` up to, not including, `end`. */
static void mem_budget_give_below(struct mem_budget *b, const struct mem_budget *end,
                                  uint64_t bytes)
{
    for (; b != end; b = b->parent) {
        uint64_t before = atomic_fetch_sub_explicit(&b->used_bytes, bytes, memory_order_relaxed);
        CHECK(before >= bytes);
    }
}

bool mem_budget_take(struct mem_budget *b, uint64_t bytes)
{
    for (struct mem_budget *at = b; at != NULL; at = at->parent) {
        if (!mem_budget_take_one(at, bytes)) {
            mem_budget_give_below(b, at, bytes);
            return false;
        }
    }
    return true;
}

void mem_budget_give(struct mem_budget *b, uint64_t bytes)
{
    mem_budget_give_below(b, NULL, bytes);
}
