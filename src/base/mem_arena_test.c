#include "base/mem.h"
#include "testing/testing.h"

#include <string.h>

TEST_TORTURE(mem_arena_gives_aligned_memory_up_to_the_limit)
{
    CLEANUP(mem_arena_fini) struct mem_arena a;
    mem_arena_init(&a, 10000);
    CHECK_TRUE(mem_arena_alloc(&a, 10001) == NULL);
    size_t total = 0;
    uint8_t *last = NULL;
    for (size_t size = 1; total + base_align_up(size, 8) <= 10000; size++) {
        uint8_t *at = mem_arena_alloc(&a, size);
        TRY_PTR(at);
        CHECK_EQ((uintptr_t)at % 8, 0);
        memset(at, (int)size, size);
        CHECK_TRUE(last == NULL || last[size - 2] == (uint8_t)(size - 1));
        last = at;
        total += base_align_up(size, 8);
        CHECK_EQ(a.used_bytes, total);
    }
    CHECK_TRUE(mem_arena_alloc(&a, 10000 - total + 1) == NULL);
    TRY_PTR(mem_arena_alloc(&a, 10000 - total)); /* exactly full */
    CHECK_EQ(a.used_bytes, 10000);
    CHECK_TRUE(mem_arena_alloc(&a, 1) == NULL);
    CHECK_TRUE(mem_arena_alloc(&a, SIZE_MAX) == NULL);
}

TEST_TORTURE(mem_arena_reset_keeps_one_block)
{
    CLEANUP(mem_arena_fini) struct mem_arena a;
    mem_arena_init(&a, 1u << 20);
    for (int i = 0; i < 100; i++) {
        TRY_PTR(mem_arena_alloc(&a, 1000));
    }
    mem_arena_reset(&a);
    CHECK_EQ(a.used_bytes, 0);
    uint64_t allocations = mem_count();
    uint8_t *at = mem_arena_alloc(&a, 1000);
    CHECK_TRUE(at != NULL);
    CHECK_EQ(mem_count(), allocations);
    mem_arena_reset(&a);
    CHECK_TRUE(mem_arena_alloc(&a, 1000) == at); /* from the front again */
}

TEST_TORTURE(mem_arena_reset_does_not_keep_a_giant)
{
    CLEANUP(mem_arena_fini) struct mem_arena a;
    mem_arena_init(&a, 1u << 20);
    TRY_PTR(mem_arena_alloc(&a, 500000));
    mem_arena_reset(&a);
    CHECK_TRUE(a.block == NULL);
    TRY_PTR(mem_arena_alloc(&a, 10));
    CHECK_EQ(a.used_bytes, 16);
}

TEST_TORTURE(mem_arena_large_one_does_not_waste_the_open_block)
{
    CLEANUP(mem_arena_fini) struct mem_arena a;
    mem_arena_init(&a, 1u << 20);
    uint8_t *first = mem_arena_alloc(&a, 8);
    TRY_PTR(first);
    TRY_PTR(mem_arena_alloc(&a, 100000));
    CHECK_TRUE(mem_arena_alloc(&a, 8) == first + 8);
}

TEST_TORTURE(mem_arena_dup_copies)
{
    CLEANUP(mem_arena_fini) struct mem_arena a;
    mem_arena_init(&a, 100);
    char *text = mem_arena_dup(&a, "hello", 6);
    TRY_PTR(text);
    CHECK_TEXT(text, "hello");
    CHECK_TRUE(mem_arena_dup(&a, NULL, 0) != NULL);
    CHECK_TRUE(mem_arena_dup(&a, text, 1000) == NULL);
    mem_arena_fini(&a);
    mem_arena_fini(&a); /* twice is fine */
}
