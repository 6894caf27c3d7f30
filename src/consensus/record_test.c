/* consensus/record_test.c -- the small files: round trips, every truncation, every flipped bit. */
#include "consensus/record.h"

#include "base/mem.h"
#include "testing/testing.h"

#include <string.h>

TEST(consensus_term_comes_back)
{
    struct consensus_term t = {.cluster = "some cluster", .id = 3, .term = 1ull << 40, .vote = 5};
    uint8_t bytes[CONSENSUS_TERM_BYTES];
    consensus_term_encode(&t, bytes);
    struct consensus_term back;
    CHECK_OK(consensus_term_decode(bytes, sizeof bytes, &back));
    CHECK_BYTES(back.cluster, t.cluster, sizeof t.cluster);
    CHECK_TRUE(back.id == t.id && back.term == t.term && back.vote == t.vote);
}

TEST(consensus_term_damage_is_seen)
{
    struct consensus_term t = {.cluster = "some cluster", .id = 3, .term = 9, .vote = 5};
    uint8_t bytes[CONSENSUS_TERM_BYTES + 1] = {0};
    consensus_term_encode(&t, bytes);
    struct consensus_term back;
    for (size_t len = 0; len < CONSENSUS_TERM_BYTES; len++) {
        CHECK_RC(consensus_term_decode(bytes, len, &back), ERR_short_msg);
    }
    CHECK_RC(consensus_term_decode(bytes, sizeof bytes, &back), ERR_bad_length);
    for (size_t bit = 0; bit < (size_t)8 * CONSENSUS_TERM_BYTES; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_ERR(consensus_term_decode(bytes, CONSENSUS_TERM_BYTES, &back), ERR_corrupt);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static const struct consensus_snapshot example = {.cluster = "some cluster",
                                                  .installed = true,
                                                  .index = 100,
                                                  .term = 7,
                                                  .log_begin = 101,
                                                  .configuration_index = 1,
                                                  .configuration = (const uint8_t *)"voters",
                                                  .configuration_len = 6,
                                                  .reference = (const uint8_t *)"checkpoint 5",
                                                  .reference_len = 12};

TEST(consensus_snapshot_comes_back)
{
    size_t size = consensus_snapshot_size(&example);
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(size);
    consensus_snapshot_encode(&example, bytes);
    struct consensus_snapshot back;
    CHECK_OK(consensus_snapshot_decode(bytes, size, &back));
    CHECK_BYTES(back.cluster, example.cluster, sizeof example.cluster);
    CHECK_TRUE(back.installed && back.index == 100 && back.term == 7 && back.log_begin == 101);
    CHECK_EQ(back.configuration_index, 1);
    CHECK_EQ(back.configuration_len, 6);
    CHECK_BYTES(back.configuration, "voters", 6);
    CHECK_EQ(back.reference_len, 12);
    CHECK_BYTES(back.reference, "checkpoint 5", 12);
}

TEST(consensus_snapshot_damage_is_seen)
{
    size_t size = consensus_snapshot_size(&example);
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(size);
    consensus_snapshot_encode(&example, bytes);
    struct consensus_snapshot back;
    for (size_t len = 0; len < size; len++) {
        CHECK_ERR(consensus_snapshot_decode(bytes, len, &back), ERR_corrupt);
    }
    for (size_t bit = 0; bit < 8 * size; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_ERR(consensus_snapshot_decode(bytes, size, &back), ERR_corrupt);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

/* Behind a good checksum. */
TEST(consensus_snapshot_refuses_nonsense)
{
    struct consensus_snapshot bad[5] = {example, example, example, example, example};
    bad[0].index = 0;
    bad[1].term = 0;
    bad[2].log_begin = 102;
    bad[3].configuration_index = 101;
    bad[4].log_begin = 0;
    size_t size = consensus_snapshot_size(&example);
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(size);
    struct consensus_snapshot back;
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        consensus_snapshot_encode(&bad[i], bytes);
        CHECK_RC(consensus_snapshot_decode(bytes, size, &back), ERR_bad_value);
    }
}
