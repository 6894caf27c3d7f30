#include "base/mem.h"

#include "base/err.h"
#include "base/fault.h"
#include "testing/testing.h"

#include <pthread.h>
#include <string.h>

static bool is_filled_with(const uint8_t *at, size_t len, uint8_t byte)
{
    for (size_t i = 0; i < len; i++) {
        if (at[i] != byte) {
            return false;
        }
    }
    return true;
}

TEST_TORTURE(mem_zalloc_and_calloc_are_zeroed)
{
    CLEANUP(mem_freep) uint8_t *a = mem_zalloc(100);
    TRY_PTR(a);
    CHECK_TRUE(is_filled_with(a, 100, 0));
    memset(a, 0xee, 100);
    mem_freep(&a);
    CHECK_TRUE(a == NULL);
    CLEANUP(mem_freep) uint8_t *b = mem_calloc(10, 10);
    TRY_PTR(b);
    CHECK_TRUE(is_filled_with(b, 100, 0));
}

TEST(mem_refuses_sizes_that_do_not_fit)
{
    volatile size_t huge = SIZE_MAX; /* not known to the compiler, which would warn */
    CHECK_TRUE(mem_alloc(huge) == NULL);
    CHECK_TRUE(mem_zalloc(huge - 64) == NULL);
    CHECK_TRUE(mem_calloc(huge / 2 + 1, 2) == NULL); /* wraps to 0 */
    CHECK_TRUE(mem_aligned(4096, huge - 4096) == NULL);
    CHECK_TRUE(mem_aligned((size_t)1 << 63, 1) == NULL);
}

TEST_TORTURE(mem_alloc_of_nothing_is_a_pointer)
{
    CLEANUP(mem_freep) void *a = mem_alloc(0);
    TRY_PTR(a);
    CLEANUP(mem_freep) void *b = mem_realloc(NULL, 0);
    TRY_PTR(b);
    CHECK_TRUE(a != b);
    void *c = mem_realloc(b, 0);
    TRY_PTR(c);
    b = c;
    CHECK_TRUE(b != a);
    mem_free(NULL);
}

TEST_TORTURE(mem_realloc_keeps_the_bytes_or_the_block)
{
    CLEANUP(mem_freep) uint8_t *a = mem_realloc(NULL, 10);
    TRY_PTR(a);
    memset(a, 0x5a, 10);
    uint8_t *b = mem_realloc(a, 1000);
    CHECK_TRUE(is_filled_with(b != NULL ? b : a, 10, 0x5a));
    TRY_PTR(b);
    a = b;
    b = mem_realloc(a, 5);
    CHECK_TRUE(is_filled_with(b != NULL ? b : a, 5, 0x5a));
    TRY_PTR(b);
    a = b;
    CHECK_EQ(a[4], 0x5a);
}

static int check_aligned(size_t alignment, size_t size)
{
    CLEANUP(mem_freep) uint8_t *a = mem_aligned(alignment, size);
    if (a == NULL) {
        return -ENOMEM;
    }
    CHECK_EQ((uintptr_t)a % alignment, 0);
    memset(a, 0x11, size);
    return 0;
}

TEST_TORTURE(mem_aligned_keeps_its_alignment)
{
    int rc = 0;
    for (size_t alignment = 1; alignment <= 65536; alignment *= 2) {
        for (size_t size = 1; size < 5000 && rc == 0; size = size * 3 + 1) {
            rc = check_aligned(alignment, size);
        }
    }
    TRY(rc);
}

TEST_TORTURE(mem_dup_strdup_printf)
{
    CLEANUP(mem_freep) uint8_t *bytes = mem_dup("a\0b", 3);
    TRY_PTR(bytes);
    CHECK_BYTES(bytes, "a\0b", 3);
    CLEANUP(mem_freep) char *text = mem_strdup("hello");
    TRY_PTR(text);
    CHECK_TEXT(text, "hello");
    CLEANUP(mem_freep) char *printed = mem_printf("%s-%0*d", text, 100, 7);
    TRY_PTR(printed);
    CHECK_EQ(strlen(printed), 106);
    CLEANUP(mem_freep) char *empty = mem_printf("%s", "");
    TRY_PTR(empty);
    CHECK_TEXT(empty, "");
}

TEST_TORTURE(mem_grow_doubles_and_keeps)
{
    CLEANUP(mem_freep) uint32_t *array = NULL;
    size_t capacity = 0;
    for (uint32_t i = 0; i < 100; i++) {
        size_t before = capacity;
        int rc = mem_grow(&array, &capacity, i + 1, sizeof *array);
        if (rc < 0) {
            CHECK_EQ(capacity, before);
        }
        TRY(rc);
        CHECK_TRUE(capacity == before || capacity >= 2 * before);
        array[i] = i;
    }
    for (uint32_t i = 0; i < 100; i++) {
        CHECK_EQ(array[i], i);
    }
    size_t full = capacity;
    CHECK_RC(mem_grow(&array, &capacity, SIZE_MAX / 2, sizeof *array), ENOMEM);
    CHECK_EQ(capacity, full);
}

TEST(mem_fail_at_fails_exactly_one)
{
    uint64_t before = mem_count();
    mem_fail_at(2);
    CLEANUP(mem_freep) void *a = mem_alloc(1);
    CLEANUP(mem_freep) void *b = mem_alloc(1);
    CLEANUP(mem_freep) void *c = mem_alloc(1);
    mem_fail_at(0);
    CHECK_TRUE(a != NULL && b == NULL && c != NULL);
    CHECK_EQ(mem_count() - before, 3);
}

TEST(mem_fail_at_zero_cancels)
{
    mem_fail_at(1);
    mem_fail_at(0);
    CLEANUP(mem_freep) void *a = mem_alloc(1);
    CHECK_TRUE(a != NULL);
}

TEST(mem_domain_counts_what_is_in_it)
{
    struct mem_domain *d = mem_domain_new();
    CHECK_TRUE(d != NULL);
    CLEANUP(mem_freep) void *outside = mem_alloc(1000);
    struct mem_domain *previous = mem_domain_enter(d);
    void *a = mem_alloc(100);
    void *b = mem_aligned(4096, 4096);
    CHECK_EQ(mem_domain_bytes(d), 4196);
    a = mem_realloc(a, 300);
    CHECK_TRUE(a != NULL);
    CHECK_EQ(mem_domain_bytes(d), 4396);
    mem_free(b);
    CHECK_EQ(mem_domain_bytes(d), 300);
    CHECK_TRUE(mem_domain_enter(previous) == d);
    mem_domain_drop(d); /* frees a; the leak checker says so if it does not */
}

TEST(mem_domain_block_stays_in_its_domain)
{
    struct mem_domain *one = mem_domain_new(), *two = mem_domain_new();
    struct mem_domain *previous = mem_domain_enter(one);
    void *a = mem_alloc(10);
    void *b = mem_alloc(20);
    CHECK_TRUE(mem_domain_enter(two) == one);
    void *c = mem_alloc(40);
    mem_free(a); /* made in the other domain */
    b = mem_realloc(b, 25);
    CHECK_TRUE(b != NULL && c != NULL);
    CHECK_EQ(mem_domain_bytes(one), 25);
    CHECK_EQ(mem_domain_bytes(two), 40);
    CHECK_TRUE(mem_domain_enter(NULL) == two);
    CLEANUP(mem_freep) void *none = mem_alloc(80);
    mem_free(c);
    CHECK_EQ(mem_domain_bytes(two), 0);
    mem_domain_enter(previous);
    mem_domain_drop(one);
    mem_domain_drop(two);
    mem_domain_drop(NULL);
    CHECK_EQ(mem_domain_bytes(NULL), 0);
    CHECK_TRUE(none != NULL); /* outlives both */
}

TEST_TORTURE(mem_domain_passes_the_fault_point_of_its_node)
{
    CLEANUP(fault_freep) struct fault *f = fault_new();
    TRY_PTR(f);
    struct mem_domain *d = mem_domain_new();
    mem_domain_set_fault(d, f);
    fault_arm(f, "mem.alloc", 2, 1);
    CLEANUP(mem_freep) void *outside = mem_alloc(1); /* of another node: not counted */
    struct mem_domain *previous = mem_domain_enter(d);
    CLEANUP(mem_freep) void *a = mem_alloc(1);
    CLEANUP(mem_freep) void *b = mem_alloc(1);
    CLEANUP(mem_freep) void *c = mem_alloc(1);
    mem_domain_enter(previous);
    mem_domain_set_fault(d, NULL);
    if (!testing_torturing()) {
        CHECK_TRUE(outside != NULL && a != NULL && b == NULL && c != NULL);
    }
    mem_freep(&a);
    mem_freep(&b);
    mem_freep(&c);
    CHECK_EQ(mem_domain_bytes(d), 0);
    mem_domain_drop(d);
}

TEST(mem_budget_charges_parents_or_nobody)
{
    struct mem_budget root, child, other;
    mem_budget_init(&root, NULL, 100);
    mem_budget_init(&child, &root, 80);
    mem_budget_init(&other, &root, 1000);
    CHECK_TRUE(mem_budget_take(&child, 60));
    CHECK_TRUE(!mem_budget_take(&child, 21)); /* its own limit */
    CHECK_TRUE(!mem_budget_take(&other, 41)); /* the parent's */
    CHECK_TRUE(!mem_budget_take(&other, UINT64_MAX));
    CHECK_EQ(root.used_bytes, 60);
    CHECK_EQ(child.used_bytes, 60);
    CHECK_EQ(other.used_bytes, 0);
    CHECK_TRUE(mem_budget_take(&other, 40));
    CHECK_EQ(root.used_bytes, 100);
    mem_budget_give(&child, 60);
    mem_budget_give(&other, 40);
    CHECK_EQ(root.used_bytes, 0);
    CHECK_EQ(child.used_bytes, 0);
}

static void *take_and_give(void *at)
{
    struct mem_budget *b = at;
    for (int i = 0; i < 20000; i++) {
        if (mem_budget_take(b, 3)) {
            mem_budget_give(b, 3);
        }
    }
    return NULL;
}

TEST(mem_budget_is_exact_under_threads)
{
    struct mem_budget root, child;
    mem_budget_init(&root, NULL, 4); /* one at a time: the other is refused */
    mem_budget_init(&child, &root, 100);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, take_and_give, &child), 0);
    take_and_give(&child);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(root.used_bytes, 0);
    CHECK_EQ(child.used_bytes, 0);
}
