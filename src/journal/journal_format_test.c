/* journal/journal_format_test.c */
#include "journal/journal_format.h"

#include "base/crc32c.h"
#include "testing/testing.h"
#include "wire/wire.h"

#include <string.h>

static struct journal_batch some_batch(void)
{
    return (struct journal_batch){.kind = JOURNAL_KIND_RECORDS,
                                  .body_len = 48,
                                  .count = 3,
                                  .sequence = 9,
                                  .index = 100,
                                  .stable_sequence = 7,
                                  .body_crc = 0x1234,
                                  .previous_crc = 0x5678};
}

TEST(journal_header_survives_the_disk)
{
    struct journal_header h = {.number = 3, .nonce = 77, .size_bytes = 1u << 20};
    memcpy(h.owner, "0123456789abcdef", 16);
    uint8_t bytes[JOURNAL_HEADER_BYTES];
    journal_header_encode(&h, bytes);
    struct journal_header got;
    CHECK_OK(journal_header_decode(bytes, &got));
    CHECK_EQ(got.number, 3);
    CHECK_EQ(got.nonce, 77);
    CHECK_EQ(got.size_bytes, 1u << 20);
    CHECK_EQ(got.crc, h.crc);
    CHECK_BYTES(got.owner, h.owner, 16);
}

TEST(journal_header_every_flipped_bit_is_seen)
{
    struct journal_header h = {.number = 3, .nonce = 77, .size_bytes = 1u << 20};
    uint8_t bytes[JOURNAL_HEADER_BYTES];
    journal_header_encode(&h, bytes);
    for (unsigned bit = 0; bit < 8 * JOURNAL_HEADER_BYTES; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct journal_header got;
        CHECK_ERR(journal_header_decode(bytes, &got), ERR_corrupt);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

TEST(journal_batch_survives_the_disk)
{
    struct journal_batch b = some_batch(), got;
    uint8_t bytes[JOURNAL_BATCH_BYTES];
    journal_batch_encode(&b, 42, 4096, bytes);
    CHECK_OK(journal_batch_decode(bytes, 42, 4096, &got));
    CHECK_EQ(memcmp(&got, &b, sizeof b), 0);
}

/* A batch that was copied to another place or another segment is not one. */
TEST(journal_batch_belongs_to_its_place)
{
    struct journal_batch b = some_batch(), got;
    uint8_t bytes[JOURNAL_BATCH_BYTES];
    journal_batch_encode(&b, 42, 4096, bytes);
    CHECK_RC(journal_batch_decode(bytes, 43, 4096, &got), ERR_bad_crc);
    CHECK_RC(journal_batch_decode(bytes, 42, 4104, &got), ERR_bad_crc);
}

TEST(journal_batch_every_flipped_bit_is_seen)
{
    struct journal_batch b = some_batch(), got;
    uint8_t bytes[JOURNAL_BATCH_BYTES];
    journal_batch_encode(&b, 42, 4096, bytes);
    for (unsigned bit = 0; bit < 8 * JOURNAL_BATCH_BYTES; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_ERR(journal_batch_decode(bytes, 42, 4096, &got), ERR_corrupt);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

TEST(journal_batch_refuses_nonsense_behind_a_good_checksum)
{
    struct journal_batch bad[8];
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        bad[i] = some_batch();
    }
    bad[0].body_len = 47;
    bad[1].body_len = JOURNAL_BODY_MAX + 8;
    bad[2].count = 0;
    bad[3].count = 7;
    bad[4].sequence = 0;
    bad[5].stable_sequence = 9;
    bad[6].kind = (enum journal_kind)9;
    bad[7].index = UINT64_MAX;
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        uint8_t bytes[JOURNAL_BATCH_BYTES];
        struct journal_batch got;
        journal_batch_encode(&bad[i], 42, 4096, bytes);
        CHECK_ERR(journal_batch_decode(bytes, 42, 4096, &got), ERR_corrupt);
    }
}

TEST(journal_record_stands_every_truncation)
{
    uint8_t bytes[32] = {0};
    journal_record_encode(13, 5, bytes);
    size_t whole = journal_record_size(13);
    CHECK_EQ(whole, 24);
    for (size_t len = 0; len <= whole; len++) {
        const uint8_t *at = bytes;
        size_t left = len;
        struct journal_record r = {0};
        int rc = journal_record_decode(&at, &left, &r);
        CHECK_EQ(rc, len < whole ? -ERR_short_msg : 0);
        CHECK_EQ(r.len, len < whole ? 0 : 13);
        CHECK_EQ(left, len < whole ? len : 0);
    }
}
