/* tree/filter_test.c -- no key is denied, few absent ones pass, and damage is noticed. */
#include "tree/filter.h"

#include "base/mem.h"
#include "base/rand.h"
#include "testing/testing.h"
#include "wire/wire.h"

#include <stdio.h>
#include <string.h>

#define SEED 99u

static uint64_t fingerprint_of(uint64_t number)
{
    uint8_t key[16] = {0};
    wire_store_u64(key, number);
    return tree_fingerprint(kv_slice_of(key, sizeof key));
}

static uint8_t *filter_of(uint64_t keys, unsigned bits, size_t *ret_len)
{
    uint64_t *fp = mem_calloc((size_t)keys, sizeof *fp);
    uint8_t *bytes = mem_alloc(tree_filter_bytes(keys, bits));
    CHECK_TRUE(fp != NULL && bytes != NULL);
    for (uint64_t i = 0; i < keys; i++) {
        fp[i] = fingerprint_of(i);
    }
    *ret_len = tree_filter_build(fp, keys, bits, SEED, bytes);
    CHECK_EQ(*ret_len, tree_filter_bytes(keys, bits));
    mem_free(fp);
    return bytes;
}

/* Absent keys that pass, of a hundred thousand. */
static unsigned wrong(uint64_t keys, unsigned bits)
{
    size_t len = 0;
    struct tree_filter f;
    unsigned passed = 0;
    uint8_t *bytes = filter_of(keys, bits, &len);
    CHECK_OK(tree_filter_open(bytes, len, SEED, &f));
    CHECK_EQ(f.keys, keys);
    for (uint64_t i = 0; i < keys; i++) {
        CHECK_TRUE(tree_filter_may_contain(&f, fingerprint_of(i)));
    }
    for (uint64_t i = 0; i < 100000; i++) {
        passed += tree_filter_may_contain(&f, fingerprint_of(keys + i)) ? 1 : 0;
    }
    mem_free(bytes);
    return passed;
}

TEST(filters_pass_few_absent_keys_and_all_present_ones)
{
    CHECK_TRUE(wrong(7000, 10) < 1500);
    CHECK_TRUE(wrong(30000, 10) < 1500);
    CHECK_TRUE(wrong(100000, 8) < 3500);
    CHECK_TRUE(wrong(100000, 16) < 300);
    CHECK_TRUE(wrong(100000, 4) < 20000);
    CHECK_TRUE(wrong(100000, TREE_FILTER_BITS_LEAST) < 7500);
    CHECK_TRUE(wrong(20, 10) < 2500);
    CHECK_TRUE(wrong(1, 10) < 100);
}

/* As many as there is room for, and never so few that nearly all pass. */
TEST(bits_are_fewer_where_there_is_little_room)
{
    CHECK_EQ(tree_filter_bits_fit(1000, 0, 10), 10);
    CHECK_EQ(tree_filter_bits_fit(1000, 800, 10), 10);
    CHECK_EQ(tree_filter_bits_fit(1000, 1000, 10), 8);
    CHECK_EQ(tree_filter_bits_fit(1000, 1001, 10), 7);
    CHECK_EQ(tree_filter_bits_fit(1000, 1000000, 10), TREE_FILTER_BITS_LEAST);
    CHECK_EQ(tree_filter_bits_fit(0, 1, 10), TREE_FILTER_BITS_LEAST);
    CHECK_EQ(tree_filter_bits_fit(UINT64_MAX, 1, 10), 10);
    CHECK_EQ(tree_filter_bits_fit(0, 1, 4), 4);
    CHECK_EQ(tree_filter_bits_fit(1000, 1000, 0), 0); /* there are none */
}

TEST(filters_of_very_many_keys_stay_within_a_partition)
{
    CHECK_TRUE(tree_filter_bytes(UINT64_MAX, 10) <= TREE_RAW_MAX);
    CHECK_TRUE(tree_filter_bytes(100u << 20, 32) <= TREE_RAW_MAX);
    CHECK_EQ(tree_filter_bytes(1, 1), TREE_FILTER_HEADER_BYTES + TREE_FILTER_BLOCK_BYTES);
}

TEST(a_filter_that_moves_is_sealed_anew)
{
    size_t len = 0;
    struct tree_filter f;
    uint8_t *bytes = filter_of(50, 10, &len);
    tree_filter_seal(bytes, len, SEED + 1);
    CHECK_RC(tree_filter_open(bytes, len, SEED, &f), ERR_bad_crc);
    CHECK_OK(tree_filter_open(bytes, len, SEED + 1, &f));
    CHECK_EQ(f.keys, 50);
    tree_filter_seal(bytes, len, SEED);
    CHECK_OK(tree_filter_open(bytes, len, SEED, &f));
    mem_free(bytes);
}

TEST(every_flipped_bit_and_every_truncation_is_noticed)
{
    size_t len = 0;
    struct tree_filter f;
    uint8_t *bytes = filter_of(200, 10, &len);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_ERR(tree_filter_open(bytes, len, SEED, &f), ERR_corrupt);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *copy = mem_dup(bytes, cut > 0 ? cut : 1);
        CHECK_TRUE(copy != NULL);
        CHECK_ERR(tree_filter_open(copy, cut, SEED, &f), ERR_corrupt);
        mem_free(copy);
    }
    CHECK_RC(tree_filter_open(bytes, len, SEED + 1, &f), ERR_bad_crc);
    CHECK_OK(tree_filter_open(bytes, len, SEED, &f));
    mem_free(bytes);
}

static void fix(uint8_t *bytes, size_t len)
{
    uint64_t head = tree_sum(SEED, bytes, 56);
    wire_store_u64(bytes + 56, tree_sum(head, bytes + 64, len - 64));
}

TEST(nonsense_behind_a_good_checksum_is_refused)
{
    static const struct {
        size_t at;
        uint8_t to;
        int code;
    } edits[] = {
        {0, 0, ERR_bad_magic},   {4, 2, ERR_bad_version}, {6, 3, ERR_bad_version},
        {7, 0, ERR_bad_value},   {7, 13, ERR_bad_value},  {8, 0, ERR_bad_length},
        {11, 1, ERR_bad_length}, {12, 1, ERR_bad_value},  {16, 0, ERR_bad_value},
        {24, 1, ERR_bad_value},  {55, 1, ERR_bad_value},
    };
    size_t len = 0;
    struct tree_filter f;
    uint8_t *bytes = filter_of(200, 10, &len);
    for (size_t i = 0; i < ARRAY_COUNT(edits); i++) {
        uint8_t kept = bytes[edits[i].at];
        bytes[edits[i].at] = edits[i].to;
        fix(bytes, len);
        CHECK_RC(tree_filter_open(bytes, len, SEED, &f), edits[i].code);
        bytes[edits[i].at] = kept;
    }
    mem_free(bytes);
}

/* A filter that grows says the same as one that was made at once, and counts what it did not have.
 */
TEST(a_filter_may_grow)
{
    size_t len = tree_filter_bytes(1000, 10);
    uint8_t *bytes = mem_alloc(len);
    CHECK_TRUE(bytes != NULL);
    CHECK_EQ(tree_filter_begin(TREE_FILTER_BLOOM, 1000, 10, bytes), len);
    CHECK_TRUE(tree_filter_capacity(len, 10) >= 1000 && tree_filter_capacity(len, 10) < 1052);
    for (uint64_t i = 0; i < 800; i++) {
        uint64_t fp = fingerprint_of(i);
        tree_filter_add(bytes, &fp, 1);
        tree_filter_add(bytes, &fp, 1);
    }
    struct tree_filter f;
    unsigned passed = 0;
    tree_filter_seal(bytes, len, SEED);
    CHECK_OK(tree_filter_open(bytes, len, SEED, &f));
    CHECK_TRUE(f.keys <= 800 && f.keys > 780);
    for (uint64_t i = 0; i < 10000; i++) {
        bool may = tree_filter_may_contain(&f, fingerprint_of(i));
        CHECK_TRUE(may || i >= 800);
        passed += may && i >= 800 ? 1 : 0;
    }
    CHECK_TRUE(passed < 150);
    mem_free(bytes);
}

static const char golden[] = "425442460100010c010000000000000001000000000000000000000000000000"
                             "000000000000000000000000000000000000000000000000aa4d5fd9401c57b5"
                             "0000040000000000000000000000000800010000000000000000000000000000"
                             "0000000680000000000000004800800020400000000000000004000000000000";

TEST(the_bytes_are_the_golden_ones)
{
    size_t len = 0;
    char hex[257] = "";
    uint8_t *bytes = filter_of(1, 10, &len);
    CHECK_EQ(len, 128);
    for (size_t i = 0; i < len; i++) {
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    }
    CHECK_TEXT(hex, golden);
    mem_free(bytes);
}

/* Each run of a node is asked for by itself. */
TEST(a_filter_of_runs_knows_them_apart)
{
    size_t len = tree_filter_bytes(4000, 10);
    uint8_t *bytes = mem_alloc(len);
    CHECK_TRUE(bytes != NULL);
    CHECK_EQ(tree_filter_begin(TREE_FILTER_RUNS, 4000, 10, bytes), len);
    for (uint64_t i = 0; i < 4000; i++) {
        uint64_t fp = tree_filter_of_run(fingerprint_of(i), (uint8_t)(i % 5));
        CHECK_EQ(fp >> 32, fingerprint_of(i) >> 32); /* in one line */
        tree_filter_add(bytes, &fp, 1);
    }
    struct tree_filter f;
    unsigned passed = 0;
    tree_filter_seal(bytes, len, SEED);
    CHECK_OK(tree_filter_open(bytes, len, SEED, &f));
    CHECK_EQ(f.kind, TREE_FILTER_RUNS);
    for (uint64_t i = 0; i < 4000; i++) {
        for (unsigned run = 0; run < 256; run += run < 8 ? 1 : 31) {
            uint64_t fp = tree_filter_of_run(fingerprint_of(i), (uint8_t)run);
            bool may = tree_filter_may_contain(&f, fp);
            CHECK_TRUE(may || run != i % 5);
            passed += may && run != i % 5 ? 1 : 0;
        }
    }
    CHECK_TRUE(passed < 4000 * 15 / 40); /* of 60,000 about 1.2 % */
    mem_free(bytes);
}
