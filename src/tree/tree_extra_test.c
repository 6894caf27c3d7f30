/* tree/tree_extra_test.c -- what a checkpoint knows besides nodes, there and back. */
#include "tree/tree_extra.h"

#include "base/rand.h"
#include "testing/testing.h"
#include "wire/wire.h"

#include <string.h>

#define DROPS 5u
#define BYTES_MAX 2048u

static const uint64_t drops[DROPS] = {7, 3, UINT64_C(1) << 39, 1, 9};

static struct tree_extra extra_full(void)
{
    static const char drained[] = "drained up to here";
    return (struct tree_extra){
        .table = {{.number = 9, .draining = 0, .msn_min = 90, .msn_max = 99},
                  {.number = 7, .draining = 1, .msn_min = 50, .msn_max = 89},
                  {.number = 6, .draining = 1, .msn_min = 1, .msn_max = 1}},
        .table_count = 3,
        .drained = kv_slice_of(drained, sizeof drained - 1),
        .drop_count = DROPS,
    };
}

static void check_same(const struct tree_extra *a, const struct tree_extra *b)
{
    CHECK_EQ(a->table_count, b->table_count);
    CHECK_EQ(a->drop_count, b->drop_count);
    CHECK_EQ(a->drained.len, b->drained.len);
    CHECK_BYTES(a->drained.at, b->drained.at, a->drained.len);
    for (unsigned i = 0; i < a->table_count; i++) {
        CHECK_EQ(a->table[i].number, b->table[i].number);
        CHECK_EQ(a->table[i].draining, b->table[i].draining);
        CHECK_EQ(a->table[i].msn_min, b->table[i].msn_min);
        CHECK_EQ(a->table[i].msn_max, b->table[i].msn_max);
    }
}

TEST(extra_goes_there_and_back)
{
    struct tree_extra x = extra_full(), y;
    uint8_t bytes[BYTES_MAX];
    size_t len = tree_extra_bytes(&x);
    CHECK_EQ(len, 24 + 3 * 24 + 18 + DROPS * 8);
    tree_extra_encode(&x, drops, bytes);
    CHECK_OK(tree_extra_decode(bytes, len, &y));
    check_same(&x, &y);
    for (size_t i = 0; i < DROPS; i++) {
        CHECK_EQ(wire_load_u64(y.drops + i * 8), drops[i]);
    }
}

TEST(extra_of_nothing)
{
    struct tree_extra x = {0}, y;
    uint8_t bytes[64];
    CHECK_EQ(tree_extra_bytes(&x), 24);
    tree_extra_encode(&x, NULL, bytes);
    CHECK_OK(tree_extra_decode(bytes, 24, &y));
    check_same(&x, &y);
}

/* The layout is what files have: it changes with a new version number only. */
TEST(extra_has_golden_bytes)
{
    static const uint8_t golden[] = {
        'B', 'T', 'E', 'X', 1, 0, 0, 0, 1,   0,   0, 0, 2, 0, 0, 0, 1, 0, 0, 0,
        0,   0,   0,   0,   4, 0, 0, 0, 1,   0,   0, 0, 5, 0, 0, 0, 0, 0, 0, 0,
        6,   0,   0,   0,   0, 0, 0, 0, 'k', '1', 8, 0, 0, 0, 0, 0, 0, 0,
    };
    struct tree_extra x = {.table = {{.number = 4, .draining = 1, .msn_min = 5, .msn_max = 6}},
                           .table_count = 1,
                           .drained = kv_slice_of("k1", 2),
                           .drop_count = 1};
    uint8_t bytes[sizeof golden];
    uint64_t drop = 8;
    CHECK_EQ(tree_extra_bytes(&x), sizeof golden);
    tree_extra_encode(&x, &drop, bytes);
    CHECK_BYTES(bytes, golden, sizeof golden);
}

TEST(extra_cut_off_or_with_more_is_refused)
{
    struct tree_extra x = extra_full(), y;
    uint8_t bytes[BYTES_MAX] = {0};
    size_t len = tree_extra_bytes(&x);
    tree_extra_encode(&x, drops, bytes);
    for (size_t i = 0; i < len; i++) {
        CHECK_ERR(tree_extra_decode(bytes, i, &y), ERR_corrupt);
    }
    CHECK_RC(tree_extra_decode(bytes, len + 1, &y), ERR_bad_length);
}

static int decode_changed(size_t at, uint8_t to)
{
    struct tree_extra x = extra_full(), y;
    uint8_t bytes[BYTES_MAX];
    tree_extra_encode(&x, drops, bytes);
    bytes[at] = to;
    return tree_extra_decode(bytes, tree_extra_bytes(&x), &y);
}

TEST(extra_that_makes_no_sense_is_refused)
{
    enum { FIRST = 24, SECOND = FIRST + 24, THIRD = SECOND + 24, DROP = THIRD + 24 + 18 };
    CHECK_RC(decode_changed(0, 'X'), ERR_bad_magic);
    CHECK_RC(decode_changed(4, 2), ERR_bad_version);
    CHECK_RC(decode_changed(8, TREE_EXTRA_TABLES_MAX + 1), ERR_bad_value);
    CHECK_RC(decode_changed(13, 0xff), ERR_bad_value); /* a key of that length */
    CHECK_RC(decode_changed(14, 1), ERR_bad_value);
    CHECK_RC(decode_changed(23, 1), ERR_bad_value);    /* drops */
    CHECK_RC(decode_changed(FIRST, 7), ERR_bad_value); /* the number of the next older one */
    CHECK_RC(decode_changed(FIRST + 4, 2), ERR_bad_value);
    CHECK_OK(decode_changed(FIRST + 4, 1)); /* all of them are drained */
    CHECK_OK(decode_changed(SECOND + 4, 0));
    CHECK_RC(decode_changed(THIRD + 4, 0), ERR_bad_value);  /* it is older than one that drains */
    CHECK_RC(decode_changed(FIRST + 8, 89), ERR_bad_value); /* messages of the older one */
    CHECK_RC(decode_changed(FIRST + 8, 100), ERR_bad_value);
    CHECK_RC(decode_changed(THIRD + 8, 0), ERR_bad_value);
    CHECK_RC(decode_changed(DROP, 0), ERR_bad_value); /* no block */
    CHECK_RC(decode_changed(DROP + 7, 1), ERR_bad_value);
}

TEST(extra_has_a_place_to_go_on_only_while_draining)
{
    struct tree_extra x = {.table = {{.number = 4, .draining = 1, .msn_min = 5, .msn_max = 6}},
                           .table_count = 1,
                           .drained = kv_slice_of("k", 1)},
                      y;
    uint8_t bytes[64];
    tree_extra_encode(&x, NULL, bytes);
    CHECK_OK(tree_extra_decode(bytes, tree_extra_bytes(&x), &y));
    bytes[28] = 0;
    CHECK_RC(tree_extra_decode(bytes, tree_extra_bytes(&x), &y), ERR_bad_value);
}
