#include "base/rand.h"

#include "testing/testing.h"

#include <string.h>

/* From the authors' programs: splitmix64 seeded with 0 begins with these; xoshiro256** follows from
 * the state {1, 2, 3, 4}. */
TEST(rand_gives_the_published_numbers)
{
    static const uint64_t expanded[] = {0xe220a8397b1dcdafu, 0x6e789e6aa1b965f4u,
                                        0x06c45d188009454fu, 0xf88bb8a8724c81ecu};
    static const uint64_t expected[] = {11520, 0, 1509978240, 1215971899390074240};
    struct rand r;
    rand_seed(&r, 0);
    CHECK_BYTES(r.s, expanded, sizeof expanded);
    r = (struct rand){.s = {1, 2, 3, 4}};
    for (size_t i = 0; i < ARRAY_COUNT(expected); i++) {
        CHECK_EQ(rand_u64(&r), expected[i]);
    }
}

TEST(rand_repeats_from_its_seed)
{
    struct rand a, b, c;
    rand_seed(&a, testing_seed());
    rand_seed(&b, testing_seed());
    rand_seed(&c, testing_seed() + 1);
    unsigned same = 0;
    for (unsigned i = 0; i < 100; i++) {
        uint64_t v = rand_u64(&a);
        CHECK_EQ(v, rand_u64(&b));
        same += v == rand_u64(&c) ? 1U : 0U;
    }
    CHECK_EQ(same, 0);
}

TEST(rand_below_reaches_every_value_evenly)
{
    unsigned seen[10] = {0};
    struct rand r;
    rand_seed(&r, 42); /* fixed: a bound on luck fails now and then */
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t v = rand_below(&r, ARRAY_COUNT(seen));
        CHECK_TRUE(v < ARRAY_COUNT(seen));
        seen[v]++;
    }
    for (size_t i = 0; i < ARRAY_COUNT(seen); i++) {
        CHECK_TRUE(seen[i] > 9500 && seen[i] < 10500);
    }
}

/* With 3/4 of 2^64 the multiplication alone would give every third value twice as often. */
TEST(rand_below_is_fair_for_a_huge_bound)
{
    const uint64_t bound = (UINT64_C(3) << 62);
    unsigned third[3] = {0};
    struct rand r;
    rand_seed(&r, 42);
    for (unsigned i = 0; i < 30000; i++) {
        uint64_t v = rand_below(&r, bound);
        CHECK_TRUE(v < bound);
        third[v >> 62]++;
    }
    for (size_t i = 0; i < ARRAY_COUNT(third); i++) {
        CHECK_TRUE(third[i] > 9500 && third[i] < 10500);
    }
}

TEST(rand_range_includes_both_ends)
{
    bool low = false, high = false;
    struct rand r;
    rand_seed(&r, 1);
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t v = rand_range(&r, 5, 8);
        CHECK_TRUE(v >= 5 && v <= 8);
        low = low || v == 5;
        high = high || v == 8;
    }
    CHECK_TRUE(low && high);
    CHECK_EQ(rand_range(&r, 9, 9), 9);
    (void)rand_range(&r, 0, UINT64_MAX); /* the span does not fit: must not divide by 0 */
    CHECK_EQ(rand_range(&r, UINT64_MAX, UINT64_MAX), UINT64_MAX);
}

TEST(rand_chance_knows_never_and_always)
{
    unsigned hits = 0;
    struct rand r;
    rand_seed(&r, 1);
    for (unsigned i = 0; i < 10000; i++) {
        CHECK_TRUE(!rand_chance(&r, 0, 7));
        CHECK_TRUE(rand_chance(&r, 7, 7));
        hits += rand_chance(&r, 1, 4) ? 1U : 0U;
    }
    CHECK_TRUE(hits > 2300 && hits < 2700);
}

TEST(rand_bytes_writes_exactly_what_was_asked)
{
    struct rand r;
    for (size_t len = 0; len <= 17; len++) {
        uint8_t bytes[20], again[20];
        memset(bytes, 0xaa, sizeof bytes);
        rand_seed(&r, 7);
        rand_bytes(&r, bytes, len);
        rand_seed(&r, 7);
        rand_bytes(&r, again, 17);
        CHECK_BYTES(bytes, again, len);
        for (size_t i = len; i < sizeof bytes; i++) {
            CHECK_EQ(bytes[i], 0xaa);
        }
    }
}

TEST(rand_fork_is_another_stream)
{
    struct rand r, fork;
    unsigned same = 0;
    rand_seed(&r, testing_seed());
    fork = rand_fork(&r);
    for (unsigned i = 0; i < 100; i++) {
        same += rand_u64(&r) == rand_u64(&fork) ? 1U : 0U;
    }
    CHECK_EQ(same, 0);
}
