#include "base/mem.h"
#include "testing/testing.h"

#include <string.h>

TEST_TORTURE(mem_pool_gives_up_to_its_limit)
{
    const struct mem_pool_options opt = {.object_size = 40, .max_count = 10, .slab_count = 4};
    CLEANUP(mem_pool_freep) struct mem_pool *p = mem_pool_new(&opt);
    TRY_PTR(p);
    uint8_t *object[10];
    size_t count = 0;
    while (count < 10 && (object[count] = mem_pool_get(p)) != NULL) {
        for (size_t i = 0; i < 40; i++) {
            CHECK_EQ(object[count][i], 0);
        }
        CHECK_EQ((uintptr_t)object[count] % 16, 0);
        memset(object[count], 0xff, 40); /* overlaps no other one */
        count++;
    }
    CHECK_TRUE(count == 10 || testing_torturing());
    CHECK_EQ(mem_pool_used(p), count);
    if (count == 10) {
        CHECK_TRUE(mem_pool_get(p) == NULL);
    }
    while (count > 0) {
        mem_pool_put(p, object[--count]);
    }
    CHECK_EQ(mem_pool_used(p), 0);
}

TEST_TORTURE(mem_pool_reuses_the_last_one_zeroed)
{
    const struct mem_pool_options opt = {.object_size = 100, .max_count = 100};
    CLEANUP(mem_pool_freep) struct mem_pool *p = mem_pool_new(&opt);
    TRY_PTR(p);
    uint8_t *a = mem_pool_get(p);
    TRY_PTR(a);
    memset(a, 0xff, 100);
    mem_pool_put(p, a);
    uint64_t allocations = mem_count();
    uint8_t *b = mem_pool_get(p);
    CHECK_TRUE(a == b);
    CHECK_EQ(b[0] + b[8] + b[99], 0);
    CHECK_EQ(mem_count(), allocations);
    mem_pool_put(p, b);
}

TEST_TORTURE(mem_pool_charges_its_budget_by_slabs)
{
    struct mem_budget budget;
    mem_budget_init(&budget, NULL, 1100);
    const struct mem_pool_options opt = {
        .object_size = 128, .max_count = 100, .slab_count = 4, .budget = &budget};
    struct mem_pool *p = mem_pool_new(&opt);
    TRY_PTR(p);
    CHECK_EQ(budget.used_bytes, 0);
    void *object[8] = {NULL};
    for (size_t i = 0; i < ARRAY_COUNT(object); i++) {
        object[i] = mem_pool_get(p);
        CHECK_TRUE(object[i] != NULL || testing_torturing());
    }
    CHECK_TRUE(budget.used_bytes > 0 && budget.used_bytes <= 1100);
    if (!testing_torturing()) {
        CHECK_TRUE(mem_pool_get(p) == NULL); /* a third slab does not fit */
    }
    for (size_t i = 0; i < ARRAY_COUNT(object); i++) {
        if (object[i] != NULL) {
            mem_pool_put(p, object[i]);
        }
    }
    p = mem_pool_free(p);
    CHECK_TRUE(p == NULL);
    CHECK_EQ(budget.used_bytes, 0);
}

TEST_TORTURE(mem_pool_of_objects_larger_than_a_slab)
{
    const struct mem_pool_options opt = {.object_size = 200000, .max_count = 2};
    CLEANUP(mem_pool_freep) struct mem_pool *p = mem_pool_new(&opt);
    TRY_PTR(p);
    void *a = mem_pool_get(p);
    TRY_PTR(a);
    void *b = mem_pool_get(p);
    CHECK_TRUE(b == NULL || b != a);
    mem_pool_put(p, a);
    if (b != NULL) {
        mem_pool_put(p, b);
    }
    CHECK_TRUE(b != NULL || testing_torturing());
}
