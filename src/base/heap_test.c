#include "base/heap.h"

#include "base/mem.h"
#include "base/rand.h"
#include "testing/testing.h"

static void heap_finip(struct heap *h)
{
    heap_fini(h);
}

static void check_invariant(const struct heap *h)
{
    for (size_t i = 1; i <= h->count; i++) {
        const struct heap_node *n = h->node[i - 1], *parent = h->node[(i > 1 ? i / 2 : 1) - 1];
        CHECK_EQ(n->index, i);
        CHECK_TRUE(parent->key < n->key || (parent->key == n->key && parent->order <= n->order));
    }
}

TEST(heap_begins_empty)
{
    CLEANUP(heap_finip) struct heap h;
    heap_init(&h);
    CHECK_TRUE(heap_first(&h) == NULL);
}

TEST(heap_keeps_the_order_of_insertion_among_equal_keys)
{
    CLEANUP(heap_finip) struct heap h;
    struct heap_node n[40] = {{.key = 0}};
    heap_init(&h);
    for (size_t i = 0; i < ARRAY_COUNT(n); i++) {
        CHECK_OK(heap_insert(&h, &n[i], 7 - i % 2));
    }
    for (size_t i = 0; i < ARRAY_COUNT(n); i++) {
        size_t expected = i < 20 ? 2 * i + 1 : 2 * (i - 20);
        CHECK_EQ(heap_first(&h) - n, expected);
        heap_remove(&h, heap_first(&h));
    }
    CHECK_EQ(h.count, 0);
}

TEST(heap_remove_is_fine_for_a_node_outside)
{
    CLEANUP(heap_finip) struct heap h;
    struct heap_node in = {.index = 0}, out = {.index = 0};
    heap_init(&h);
    CHECK_OK(heap_insert(&h, &in, 1));
    heap_remove(&h, &out);
    CHECK_EQ(h.count, 1);
    heap_remove(&h, &in);
    heap_remove(&h, &in);
    CHECK_EQ(h.count, 0);
}

/* Against the plainest model: a linear search for the smallest of those that are in. */
TEST(heap_agrees_with_a_linear_search)
{
    CLEANUP(heap_finip) struct heap h;
    struct heap_node n[200] = {{.key = 0}};
    struct rand r;
    rand_seed(&r, testing_seed());
    heap_init(&h);
    for (unsigned step = 0; step < 5000; step++) {
        struct heap_node *one = &n[rand_below(&r, ARRAY_COUNT(n))];
        if (one->index != 0) {
            heap_remove(&h, one);
        } else {
            CHECK_OK(heap_insert(&h, one, rand_below(&r, 50)));
        }
        const struct heap_node *first = NULL;
        for (size_t i = 0; i < ARRAY_COUNT(n); i++) {
            bool earlier = first == NULL || n[i].key < first->key ||
                           (n[i].key == first->key && n[i].order < first->order);
            first = n[i].index != 0 && earlier ? &n[i] : first;
        }
        CHECK_TRUE(heap_first(&h) == first);
        if (step % 64 == 0) {
            check_invariant(&h);
        }
    }
}

TEST_TORTURE(heap_stands_without_memory)
{
    CLEANUP(heap_finip) struct heap h;
    struct heap_node n[70] = {{.key = 0}};
    heap_init(&h);
    for (size_t i = 0; i < ARRAY_COUNT(n); i++) {
        int rc = heap_insert(&h, &n[i], i);
        if (testing_torturing() && rc == -ENOMEM) {
            CHECK_EQ(h.count, i); /* nothing changed, and it goes on */
            CHECK_EQ(n[i].index, 0);
            rc = heap_insert(&h, &n[i], i);
        }
        CHECK_OK(rc);
    }
    check_invariant(&h);
}

TEST(heap_insert_cannot_fail_within_what_was_reserved)
{
    CLEANUP(heap_finip) struct heap h;
    struct heap_node n[100] = {{.key = 0}};
    heap_init(&h);
    CHECK_OK(heap_reserve(&h, ARRAY_COUNT(n)));
    mem_fail_at(1);
    for (size_t i = 0; i < ARRAY_COUNT(n); i++) {
        CHECK_OK(heap_insert(&h, &n[i], i));
    }
    mem_fail_at(0);
}
