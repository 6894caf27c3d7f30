#include "datanode/rate.h"

#include "testing/testing.h"

#define SECOND UINT64_C(1000000000)

/* Takes pieces of `bytes` as soon as they may be taken; returns when `all` are paid for. */
static uint64_t take_all(struct datanode_copying *c, uint64_t all, uint64_t bytes, uint64_t now_ns)
{
    for (uint64_t taken = 0; taken < all; taken += bytes) {
        now_ns += datanode_rate_wait_ns(c, now_ns);
        datanode_rate_take(c, bytes, now_ns);
    }
    return now_ns + datanode_rate_wait_ns(c, now_ns);
}

TEST(rate_takes_as_long_as_it_says)
{
    static const uint64_t pieces[] = {1, 4096, 1 << 20, 4 << 20};
    for (size_t i = 0; i < ARRAY_COUNT(pieces); i++) {
        struct datanode_copying c = {0};
        uint64_t begin = 1000 * SECOND, all = pieces[i] == 1 ? 65536 : UINT64_C(8) << 20;
        datanode_rate_set(&c, pieces[i] == 1 ? 8192 : 1 << 20, begin);
        uint64_t took = take_all(&c, all, pieces[i], begin) - begin;
        CHECK_TRUE(took <= 8 * SECOND && took >= 8 * SECOND - DATANODE_RATE_SAVED_NS - 1000000);
    }
}

TEST(rate_of_zero_is_none)
{
    struct datanode_copying c = {0};
    CHECK_EQ(take_all(&c, UINT64_C(1) << 30, 4096, 5), 5);
    datanode_rate_set(&c, 1000, 5);
    datanode_rate_take(&c, 1000000, 5);
    CHECK_TRUE(datanode_rate_wait_ns(&c, 5) > 900 * SECOND);
    datanode_rate_set(&c, 0, 5);
    CHECK_EQ(datanode_rate_wait_ns(&c, 5), 0);
}

/* What was taken is not forgotten by another rate, and does not wait as long as the old one said.
 */
TEST(rate_that_changes_counts_for_what_was_taken)
{
    struct datanode_copying c = {0};
    datanode_rate_set(&c, 1000, SECOND);
    datanode_rate_take(&c, 100000, SECOND);
    datanode_rate_set(&c, 10000, SECOND);
    uint64_t wait = datanode_rate_wait_ns(&c, SECOND);
    CHECK_TRUE(wait > 9 * SECOND && wait <= 10 * SECOND);
    CHECK_EQ(datanode_rate_wait_ns(&c, 100 * SECOND), 0);
    datanode_rate_take(&c, 1000, 100 * SECOND); /* who rested may begin with a little more */
    CHECK_EQ(datanode_rate_wait_ns(&c, 100 * SECOND), 0);
    datanode_rate_take(&c, 1000, 100 * SECOND);
    CHECK_EQ(datanode_rate_wait_ns(&c, 100 * SECOND), SECOND / 10);
}
