/* tree/super_test.c -- tree/super.h: round trip, a golden block, every bit, every truncation. */
#include "tree/super.h"

#include "base/rand.h"
#include "testing/testing.h"
#include "wire/wire.h"

#include <string.h>
#include <xxhash.h>

static struct tree_super example(uint64_t k)
{
    struct tree_super s = {
        .checkpoint = k,
        .applied_index = 1000 + k,
        .applied_term = 3,
        .max_msn = 77,
        .tree_version = 9,
        .root_block = 5,
        .height = 2,
        .fanout = 32,
        .leaf_raw = 1u << 20,
        .basement_raw = 16384,
        .internal_raw = 4u << 20,
        .codec = 1,
        .next_block = 31,
        .table = {.offset = 1u << 20, .len = 80, .checksum = 0x1122334455667788},
        .segment_count = 2,
        .segments = {.offset = 2u << 20, .len = 128, .checksum = 0x99aabbccddeeff00},
        .drops = {.offset = 3u << 20, .len = 10, .checksum = 7},
        .size_used = 4u << 20,
        .key_count = 12345,
        .logical_bytes = 678910,
        .previous = 42,
        .app_len = 5,
        .compatible = 1,
    };
    memcpy(s.file_id, "0123456789abcdef", sizeof s.file_id);
    memcpy(s.app, "hello", 5);
    return s;
}

TEST(super_round_trip)
{
    struct tree_super s = example(7), got = {0};
    uint8_t bytes[TREE_SUPER_BYTES];
    tree_super_encode(&s, bytes);
    struct err e = {0};
    CHECK_OK(tree_super_decode(bytes, TREE_SUPER_SECOND, &got, &e));
    CHECK_EQ(got.checksum, s.checksum);
    CHECK_EQ(got.drops.offset, s.drops.offset);
    uint8_t again[TREE_SUPER_BYTES];
    tree_super_encode(&got, again);
    CHECK_BYTES(again, bytes, sizeof bytes);
    for (size_t i = TREE_SUPER_USED_BYTES; i < TREE_SUPER_BYTES - 8; i++) {
        CHECK_EQ(bytes[i], 0);
    }
    char text[200];
    tree_super_to_text(&got, text, sizeof text);
    CHECK_TEXT(text,
               "checkpoint 7, applied 1007/3, root 5, height 2, next block 31, 4194304 bytes");
}

/* The format of version 1 stays what it is. */
TEST(super_golden)
{
    struct tree_super s = example(7);
    uint8_t bytes[TREE_SUPER_BYTES];
    tree_super_encode(&s, bytes);
    CHECK_EQ(s.checksum, 0xfb03575bdc7e8edf);
    static const uint8_t head[] = {'B', 'T', 'R', 'E', 'E', 0,   'v', '1', 1,   0,   0,   0,   1,
                                   0,   0,   0,   '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'};
    CHECK_BYTES(bytes, head, sizeof head);
    CHECK_EQ(bytes[32], 7);    /* checkpoint */
    CHECK_EQ(bytes[40], 0xef); /* applied index */
}

TEST(super_sees_every_flipped_bit)
{
    struct tree_super s = example(8), got;
    uint8_t bytes[TREE_SUPER_BYTES];
    tree_super_encode(&s, bytes);
    for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct err e = {0};
        int rc = tree_super_decode(bytes, 0, &got, &e);
        CHECK_ERR(rc, ERR_corrupt);
        CHECK_TRUE(strstr(e.text, "superblock at offset 0") != NULL);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    CHECK_OK(tree_super_decode(bytes, 0, &got, NULL));
}

/* Torn at any byte: the rest is what was there before, zeros or an older one. */
TEST(super_sees_every_truncation)
{
    struct tree_super s = example(8), old = example(6), got;
    uint8_t bytes[TREE_SUPER_BYTES], before[TREE_SUPER_BYTES], torn[TREE_SUPER_BYTES] = {0};
    tree_super_encode(&s, bytes);
    tree_super_encode(&old, before);
    for (size_t len = 0; len < sizeof bytes; len++) {
        memset(torn, 0, sizeof torn);
        memcpy(torn, bytes, len);
        CHECK_ERR(tree_super_decode(torn, 0, &got, NULL), ERR_corrupt);
        memcpy(torn + len, before + len, sizeof torn - len);
        bool same = memcmp(torn, bytes, sizeof torn) == 0 || memcmp(torn, before, len) == 0;
        if (!same) {
            CHECK_ERR(tree_super_decode(torn, 0, &got, NULL), ERR_corrupt);
        }
    }
}

/* With a good checksum. */
static int decode_patched(size_t at, uint64_t v, unsigned width, struct err *e)
{
    struct tree_super s = example(8), got;
    uint8_t bytes[TREE_SUPER_BYTES];
    tree_super_encode(&s, bytes);
    for (unsigned i = 0; i < width; i++) {
        bytes[at + i] = (uint8_t)(v >> (8 * i));
    }
    uint64_t seed = XXH3_64bits(bytes + 16, TREE_SUPER_ID_BYTES);
    wire_store_u64(bytes + TREE_SUPER_BYTES - 8,
                   XXH3_64bits_withSeed(bytes, TREE_SUPER_BYTES - 8, seed));
    return tree_super_decode(bytes, 0, &got, e);
}

TEST(super_refuses_what_it_does_not_know)
{
    struct err e = {0};
    CHECK_RC(decode_patched(12, 2, 4, &e), ERR_bad_version); /* min reader */
    CHECK_TRUE(strstr(e.text, "needs a reader of format 2") != NULL);
    CHECK_OK(decode_patched(8, 2, 4, NULL));               /* a newer format that this can read */
    CHECK_RC(decode_patched(32, 7, 8, &e), ERR_bad_value); /* belongs into the other place */
    CHECK_TRUE(strstr(e.text, "belongs into the other place") != NULL);
    CHECK_RC(decode_patched(32, 0, 8, &e), ERR_bad_value);
    CHECK_RC(decode_patched(80, 65, 4, &e), ERR_bad_value); /* height */
    CHECK_TRUE(strstr(e.text, "height") != NULL);
    CHECK_RC(decode_patched(101, 1, 1, &e), ERR_bad_value);     /* kind of checksum */
    CHECK_RC(decode_patched(102, 1, 2, &e), ERR_bad_value);     /* padding */
    CHECK_RC(decode_patched(112, 1, 8, &e), ERR_bad_value);     /* place of the table */
    CHECK_RC(decode_patched(112, 65536, 8, &e), ERR_bad_value); /* on a superblock */
    CHECK_RC(decode_patched(132, 0, 4, &e), ERR_bad_value);     /* no segments, but a list */
    CHECK_RC(decode_patched(600, 1, 1, &e), ERR_bad_value);     /* behind the fields */
}

static void pair_put(struct tree_super_pair *p, uint64_t k, uint64_t previous)
{
    struct tree_super s = example(k);
    s.previous = previous;
    uint8_t bytes[TREE_SUPER_BYTES];
    tree_super_encode(&s, bytes);
    unsigned at = (unsigned)(k % 2);
    p->rc[at] = tree_super_decode(bytes, tree_super_offset(k), &p->super[at], &p->err[at]);
}

TEST(super_chooses_the_newest_valid)
{
    struct tree_super_pair p = {.rc = {-ERR_bad_magic, -ERR_bad_crc}};
    struct tree_super_choice c;
    struct err e = {0};
    err_set(&p.err[0], p.rc[0], "one");
    err_set(&p.err[1], p.rc[1], "two");
    CHECK_RC(tree_super_choose(&p, &c, &e), ERR_bad_magic);
    CHECK_TRUE(strstr(e.text, "one") != NULL && strstr(e.text, "two") != NULL);
    pair_put(&p, 4, 0);
    CHECK_OK(tree_super_choose(&p, &c, &e));
    CHECK_TRUE(c.newest == 0 && c.older == -1);
    pair_put(&p, 5, p.super[0].checksum);
    CHECK_OK(tree_super_choose(&p, &c, &e));
    CHECK_TRUE(c.newest == 1 && c.older == 0);
    pair_put(&p, 6, p.super[1].checksum);
    CHECK_OK(tree_super_choose(&p, &c, &e));
    CHECK_TRUE(c.newest == 0 && c.older == 1);
    pair_put(&p, 6, 1); /* does not go on from 5 */
    CHECK_OK(tree_super_choose(&p, &c, &e));
    CHECK_TRUE(c.newest == 0 && c.older == -1);
    p.super[1].file_id[3] ^= 1;
    CHECK_RC(tree_super_choose(&p, &c, &e), ERR_corrupt);
    p.rc[1] = -ERR_bad_version;
    CHECK_RC(tree_super_choose(&p, &c, &e), ERR_bad_version);
}
