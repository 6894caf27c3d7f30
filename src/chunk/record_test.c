/* chunk/record_test.c -- records, tables, superblocks, removed data: there and back, and damaged.
 */
#include "chunk/record_format.h"

#include "base/crc32c.h"
#include "base/rand.h"
#include "testing/testing.h"

#include <string.h>

static struct chunk_record sample(uint8_t *table, size_t len)
{
    struct chunk_record r = {.key = {.data_id = 0x1122334455667788, .index = 77},
                             .target = "target of tests",
                             .chain = 5,
                             .seq = 9,
                             .era = 3,
                             .last_ver = 12,
                             .has_committed = true,
                             .has_pending = true};
    for (size_t i = 0; i < len; i++) {
        table[i] = (uint8_t)(i * 3);
    }
    r.committed = (struct chunk_meta){.identity = {2, 11},
                                      .kind = CHUNK_WHOLE,
                                      .whole = true,
                                      .length = CHUNK_LENGTH_MAX,
                                      .table_block = 6,
                                      .table_bytes = 4200,
                                      .table_crc = 99};
    r.pending = (struct chunk_meta){.identity = {2, 12},
                                    .base = {2, 11},
                                    .kind = CHUNK_WRITE,
                                    .length = 5,
                                    .flags = CHUNK_TOMBSTONE,
                                    .table = table,
                                    .table_bytes = (uint32_t)len,
                                    .table_crc = crc32c(0, table, len)};
    return r;
}

TEST(record_comes_back)
{
    uint8_t table[CHUNK_TABLE_INLINE], slot[CHUNK_SLOT_BYTES];
    struct chunk_record r = sample(table, sizeof table), back;
    chunk_record_encode(&r, slot);
    CHECK_OK(chunk_record_decode(slot, &back));
    CHECK_EQ(chunk_key_compare(back.key, r.key), 0);
    CHECK_EQ(back.seq, 9);
    CHECK_EQ(back.era, 3);
    CHECK_EQ(back.last_ver, 12);
    CHECK_EQ(back.committed.table_block, 6);
    CHECK_TRUE(chunk_identity_equal(back.pending.base, r.committed.identity));
    CHECK_EQ(back.pending.table_bytes, sizeof table);
    CHECK_BYTES(back.pending.table, table, sizeof table);
    CHECK_TRUE(!chunk_record_empty(slot));
    memset(slot, 0, sizeof slot);
    CHECK_TRUE(chunk_record_empty(slot));
    CHECK_ERR(chunk_record_decode(slot, &back), ERR_corrupt);
}

TEST(record_notices_each_bit)
{
    uint8_t table[CHUNK_TABLE_INLINE], slot[CHUNK_SLOT_BYTES];
    struct chunk_record r = sample(table, 40), back;
    chunk_record_encode(&r, slot);
    for (size_t bit = 0; bit < sizeof slot * 8; bit++) {
        slot[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        CHECK_ERR(chunk_record_decode(slot, &back), ERR_corrupt);
        slot[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    for (size_t len = 0; len + 1 < sizeof slot; len++) { /* torn: the beginning only */
        uint8_t torn[CHUNK_SLOT_BYTES] = {0};
        memcpy(torn, slot, len);
        CHECK_ERR(chunk_record_decode(torn, &back), ERR_corrupt);
    }
}

TEST(table_comes_back)
{
    uint32_t crc[6], crc_back[6];
    uint64_t block[6] = {0, 4, 5, 6, 0, 2}, block_back[6];
    struct chunk_recent recent[2] = {{1, 2, 3, 4, 5}, {6, 7, 8, 9, 10}}, recent_back[2];
    for (uint32_t i = 0; i < 6; i++) {
        crc[i] = i * 1000003;
    }
    struct chunk_table t = {.length = 5 * CHUNK_CELL + 1,
                            .crc = crc,
                            .block = block,
                            .recent = recent,
                            .recent_count = 2};
    uint8_t bytes[256];
    size_t len = chunk_table_encode(&t, bytes, sizeof bytes);
    CHECK_EQ(len, chunk_table_encode(&t, NULL, 0));
    CHECK_EQ(len, 6 * 4 + 4 + 2 * 12 + 2 * 36);
    struct chunk_table back = {.length = t.length,
                               .crc = crc_back,
                               .block = block_back,
                               .recent = recent_back,
                               .recent_count = 2};
    CHECK_OK(chunk_table_decode(bytes, len, &back));
    CHECK_BYTES(crc_back, crc, sizeof crc);
    CHECK_BYTES(block_back, block, sizeof block);
    CHECK_EQ(recent_back[1].time_ms, 10);
    for (size_t cut = 0; cut < len; cut++) {
        CHECK_ERR(chunk_table_decode(bytes, cut, &back), ERR_corrupt);
    }
}

/* A table in the worst order fits where the format says it does. */
TEST(table_fits)
{
    static uint32_t crc[CHUNK_CELLS_MAX];
    static uint64_t block[CHUNK_CELLS_MAX];
    static uint8_t bytes[CHUNK_TABLE_MAX];
    static struct chunk_recent recent[CHUNK_RECENT_MAX];
    for (uint32_t i = 0; i < CHUNK_CELLS_MAX; i++) {
        block[i] = CHUNK_CELLS_MAX - i;
    }
    struct chunk_table t = {.length = CHUNK_LENGTH_MAX,
                            .crc = crc,
                            .block = block,
                            .recent = recent,
                            .recent_count = CHUNK_RECENT_MAX};
    CHECK_EQ(chunk_table_encode(&t, bytes, sizeof bytes), CHUNK_TABLE_MAX);
    CHECK_OK(chunk_table_decode(bytes, sizeof bytes, &t));
}

TEST(super_comes_back)
{
    struct chunk_super x = {.number = 7,
                            .cluster = {.bytes = "cluster of tests"},
                            .target = {.bytes = "target of tests."},
                            .boot_id = "boot",
                            .incarnation = 3,
                            .stable_era = 8,
                            .fan_out = 32,
                            .lossy = true};
    uint8_t bytes[CHUNK_SUPER_BYTES];
    struct chunk_super back;
    chunk_super_encode(&x, bytes);
    CHECK_OK(chunk_super_decode(bytes, &back));
    CHECK_EQ(back.number, 7);
    CHECK_EQ(back.incarnation, 3);
    CHECK_EQ(back.stable_era, 8);
    CHECK_TRUE(back.lossy && !back.clean);
    CHECK_TRUE(uuid_equal(&back.target, &x.target));
    for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        CHECK_ERR(chunk_super_decode(bytes, &back), ERR_corrupt);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    x.fan_out = 3;
    chunk_super_encode(&x, bytes);
    CHECK_RC(chunk_super_decode(bytes, &back), ERR_bad_value);
}

TEST(dead_comes_back)
{
    struct chunk_dead_record x = {.data_id = 5, .time_ms = 6, .position = 7, .forget = true}, back;
    uint8_t bytes[CHUNK_DEAD_BYTES];
    chunk_dead_encode(&x, bytes);
    CHECK_OK(chunk_dead_decode(bytes, &back));
    CHECK_EQ(back.data_id, 5);
    CHECK_EQ(back.position, 7);
    CHECK_TRUE(back.forget);
    for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        CHECK_ERR(chunk_dead_decode(bytes, &back), ERR_corrupt);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}
