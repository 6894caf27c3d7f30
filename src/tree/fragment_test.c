/* tree/fragment_test.c -- whoever looks sees the same ranges before and after, in order. */
#include "tree/fragment.h"

#include "base/mem.h"
#include "base/rand.h"
#include "testing/testing.h"

#include <stdio.h>
#include <string.h>

#define BOUNDS 24u
#define ITEMS_MAX 30u

struct example {
    char bound[BOUNDS][3];
    struct tree_ranges_item item[ITEMS_MAX];
    uint64_t live[6];
    size_t count, live_count;
};

static void example_random(struct example *x, struct rand *r)
{
    *x = (struct example){.count = (size_t)rand_range(r, 1, ITEMS_MAX),
                          .live_count = (size_t)rand_below(r, 7)};
    for (unsigned i = 0; i < BOUNDS; i++) {
        (void)snprintf(x->bound[i], sizeof x->bound[i], "%02u", i % 100);
    }
    for (size_t i = 0; i < x->count; i++) {
        unsigned low = (unsigned)rand_below(r, BOUNDS - 1);
        unsigned high = (unsigned)rand_range(r, low + 1, BOUNDS - 1);
        x->item[i] = (struct tree_ranges_item){.low = kv_slice_of(x->bound[low], 2),
                                               .high = kv_slice_of(x->bound[high], 2),
                                               .msn = rand_range(r, 1, 40)};
        x->item[i].low.len = low == 0 ? 0 : 2;
    }
    for (size_t i = 0; i < x->live_count; i++) {
        x->live[i] = i * 7 + rand_below(r, 7);
    }
}

static uint64_t cover_slowly(const struct tree_ranges_item *item, size_t count, struct kv_slice key,
                             uint64_t msn_max)
{
    uint64_t best = 0;
    for (size_t i = 0; i < count; i++) {
        bool holds =
            kv_slice_compare(item[i].low, key) <= 0 && kv_slice_compare(key, item[i].high) < 0;
        best = holds && item[i].msn <= msn_max ? base_max(best, item[i].msn) : best;
    }
    return best;
}

static void check_seen(const struct example *x, const struct tree_ranges *r, uint64_t msn_max)
{
    for (unsigned i = 0; i < 2 * BOUNDS; i++) {
        char key[8];
        int len = snprintf(key, sizeof key, "%02u%s", i / 2 % 100, i % 2 == 0 ? "" : "x");
        struct kv_slice k = kv_slice_of(key, (size_t)len);
        CHECK_EQ(tree_ranges_cover(r, k, msn_max), cover_slowly(x->item, x->count, k, msn_max));
    }
}

/* No number is kept that nobody needs, no piece is cut that need not be. */
static void check_small(const struct example *x, const struct tree_ranges_item *out, size_t count)
{
    for (size_t i = 0; i + 1 < count; i++) {
        bool copy = kv_slice_compare(out[i].low, out[i + 1].low) == 0;
        bool goes_on = !copy && kv_slice_compare(out[i].high, out[i + 1].low) == 0;
        bool needed = false;
        for (size_t n = 0; n < x->live_count; n++) {
            needed = needed || (x->live[n] < out[i].msn && x->live[n] >= out[i + 1].msn);
        }
        CHECK_TRUE(!copy || needed);
        CHECK_TRUE(!goes_on || x->live_count > 0 || out[i].msn != out[i + 1].msn);
    }
}

TEST_TORTURE(whoever_looks_sees_the_same_before_and_after)
{
    struct rand rand;
    int rc = 0;
    rand_seed(&rand, testing_torturing() ? 1 : testing_seed());
    for (unsigned round = 0; round < (testing_torturing() ? 3 : 300) && rc == 0; round++) {
        struct example x;
        struct tree_ranges r;
        struct tree_ranges_item *out = NULL;
        size_t count = 0;
        example_random(&x, &rand);
        const struct tree_fragment_live live = {.msn = x.live, .count = x.live_count};
        rc = tree_fragment(x.item, x.count, live, &out, &count);
        if (rc < 0) {
            CHECK_TRUE(rc == -ENOMEM && out == NULL);
            break;
        }
        uint8_t bytes[1u << 14];
        CHECK_TRUE(tree_ranges_bytes(out, count) <= sizeof bytes);
        size_t len = tree_ranges_encode(out, count, bytes); /* CHECKs the order */
        CHECK_OK(tree_ranges_open(bytes, len, &r));
        check_seen(&x, &r, UINT64_MAX);
        for (size_t i = 0; i < x.live_count; i++) {
            check_seen(&x, &r, x.live[i]);
        }
        check_small(&x, out, count);
        mem_free(out);
    }
    TRY(rc);
}

TEST(neighbours_that_are_alike_become_one)
{
    const struct tree_ranges_item items[] = {
        {.low = kv_slice_of("c", 1), .high = kv_slice_of("e", 1), .msn = 5},
        {.low = kv_slice_of("a", 1), .high = kv_slice_of("c", 1), .msn = 5},
        {.low = kv_slice_of("b", 1), .high = kv_slice_of("d", 1), .msn = 4},
        {.low = kv_slice_of("x", 1), .high = kv_slice_of("y", 1), .msn = 5},
    };
    const uint64_t sees_four = 4;
    struct tree_ranges_item *out = NULL;
    size_t count = 0;
    CHECK_OK(tree_fragment(items, 4, (struct tree_fragment_live){0}, &out, &count));
    CHECK_EQ(count, 2);
    CHECK_EQ(kv_slice_compare(out[0].low, kv_slice_of("a", 1)), 0);
    CHECK_EQ(kv_slice_compare(out[0].high, kv_slice_of("e", 1)), 0);
    CHECK_EQ(kv_slice_compare(out[1].low, kv_slice_of("x", 1)), 0);
    mem_free(out);
    const struct tree_fragment_live live = {.msn = &sees_four, .count = 1};
    CHECK_OK(tree_fragment(items, 4, live, &out, &count));
    CHECK_EQ(count, 5); /* a-b 5, b-d 5 and 4, d-e 5, x-y 5 */
    CHECK_EQ(kv_slice_compare(out[1].low, out[2].low), 0);
    CHECK_EQ(out[1].msn, 5);
    CHECK_EQ(out[2].msn, 4);
    CHECK_EQ(kv_slice_compare(out[2].high, kv_slice_of("d", 1)), 0);
    mem_free(out);
}
