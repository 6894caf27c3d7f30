/* tree/ranges_test.c -- every key finds the newest range that holds it; nonsense is refused. */
#include "tree/ranges.h"

#include "base/mem.h"
#include "base/rand.h"
#include "testing/testing.h"
#include "wire/wire.h"

#include <stdio.h>
#include <string.h>

#define BOUNDS 60u
#define RANGES_MAX 120u

/* Bounds "00", "01", ..., so that keys between them and equal to them are easily made. */
struct list {
    char bound[BOUNDS][3];
    struct tree_ranges_item range[RANGES_MAX];
    size_t count;
};

static struct kv_slice text(const char *t)
{
    return kv_slice_of(t, strlen(t));
}

static void list_random(struct list *l, struct rand *r)
{
    *l = (struct list){0};
    for (unsigned i = 0; i < BOUNDS; i++) {
        snprintf(l->bound[i], 3, "%02u", i % 100);
    }
    if (rand_chance(r, 1, 3)) {
        l->bound[0][0] = 0; /* from the first key */
    }
    for (unsigned low = (unsigned)rand_below(r, 3); low + 1 < BOUNDS;) {
        unsigned high = low + 1 + (unsigned)rand_below(r, 3);
        uint64_t msn = rand_range(r, 1, 1000);
        high = high < BOUNDS ? high : BOUNDS - 1;
        for (unsigned copies = 0; copies < 3 && l->count < RANGES_MAX && msn > 0; copies++) {
            l->range[l->count++] = (struct tree_ranges_item){
                .low = text(l->bound[low]), .high = text(l->bound[high]), .msn = msn};
            msn = rand_chance(r, 1, 2) ? 0 : rand_below(r, msn);
        }
        low = high + (unsigned)rand_below(r, 2);
    }
}

static uint64_t cover_slowly(const struct list *l, struct kv_slice key, uint64_t msn_max)
{
    uint64_t best = 0;
    for (size_t i = 0; i < l->count; i++) {
        const struct tree_ranges_item *r = &l->range[i];
        bool holds = kv_slice_compare(r->low, key) <= 0 && kv_slice_compare(key, r->high) < 0;
        if (holds && r->msn <= msn_max && r->msn > best) {
            best = r->msn;
        }
    }
    return best;
}

static uint8_t *list_encode(const struct list *l, size_t *ret_len)
{
    *ret_len = tree_ranges_bytes(l->range, l->count);
    uint8_t *bytes = mem_alloc(*ret_len);
    CHECK_TRUE(bytes != NULL);
    CHECK_EQ(tree_ranges_encode(l->range, l->count, bytes), *ret_len);
    return bytes;
}

TEST(ranges_come_back_and_cover_what_they_hold)
{
    struct rand rand;
    rand_seed(&rand, testing_seed());
    for (unsigned round = 0; round < 50; round++) {
        struct list l;
        struct tree_ranges r;
        size_t len = 0;
        list_random(&l, &rand);
        uint8_t *bytes = list_encode(&l, &len);
        CHECK_OK(tree_ranges_open(bytes, len, &r));
        CHECK_EQ(r.count, l.count);
        for (uint32_t i = 0; i < r.count; i++) {
            struct tree_ranges_item got = tree_ranges_get(&r, i);
            CHECK_EQ(kv_slice_compare(got.low, l.range[i].low), 0);
            CHECK_EQ(kv_slice_compare(got.high, l.range[i].high), 0);
            CHECK_EQ(got.msn, l.range[i].msn);
        }
        for (unsigned i = 0; i < 3 * BOUNDS; i++) {
            char key[8];
            size_t key_len = (size_t)snprintf(key, sizeof key, "%02u%s", i / 3 % 100,
                                              i % 3 == 0 ? "" : (i % 3 == 1 ? "!" : "~"));
            struct kv_slice k = kv_slice_of(key, i % 7 == 0 ? 1 : key_len);
            uint64_t max = i % 2 == 0 ? UINT64_MAX : rand_below(&rand, 1000);
            CHECK_EQ(tree_ranges_cover(&r, k, max), cover_slowly(&l, k, max));
        }
        mem_free(bytes);
    }
}

TEST(ranges_cut_off_are_refused)
{
    struct rand rand;
    struct list l;
    struct tree_ranges r;
    size_t len = 0;
    rand_seed(&rand, testing_seed());
    list_random(&l, &rand);
    uint8_t *bytes = list_encode(&l, &len);
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *copy = mem_dup(bytes, cut > 0 ? cut : 1);
        CHECK_TRUE(copy != NULL);
        CHECK_ERR(tree_ranges_open(copy, cut, &r), ERR_corrupt);
        mem_free(copy);
    }
    mem_free(bytes);
}

/* Without a checksum some flips make another sound list: then it is in order. */
TEST(every_flipped_bit_is_refused_or_makes_a_sound_list)
{
    struct rand rand;
    struct list l;
    size_t len = 0;
    unsigned refused = 0;
    rand_seed(&rand, testing_seed());
    list_random(&l, &rand);
    uint8_t *bytes = list_encode(&l, &len);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        struct tree_ranges r;
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int rc = tree_ranges_open(bytes, len, &r);
        CHECK_TRUE(rc == 0 || err_is(rc, ERR_corrupt));
        refused += rc < 0 ? 1 : 0;
        for (uint32_t i = 0; rc == 0 && i < r.count; i++) {
            struct tree_ranges_item range = tree_ranges_get(&r, i);
            CHECK_TRUE(kv_slice_compare(range.low, range.high) < 0);
            CHECK_TRUE(tree_ranges_cover(&r, range.low, range.msn) == range.msn);
        }
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    CHECK_TRUE(refused > 8 * TREE_RANGES_HEADER_BYTES);
    mem_free(bytes);
}

static size_t two_ranges(uint8_t *out)
{
    const struct tree_ranges_item two[] = {
        {.low = text("b"), .high = text("cc"), .msn = 7},
        {.low = text("d"), .high = text("e"), .msn = 258},
    };
    return tree_ranges_encode(two, 2, out);
}

static const char golden[] = "01000000020000000500000000000000"
                             "07000000000000000000000001000200"
                             "02010000000000000300000001000100"
                             "6263636465";

TEST(the_bytes_are_the_golden_ones)
{
    uint8_t bytes[64];
    char hex[129] = "";
    size_t len = two_ranges(bytes);
    for (size_t i = 0; i < len; i++) {
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    }
    CHECK_TEXT(hex, golden);
}

TEST(ranges_that_lie_about_themselves_are_refused)
{
    static const struct {
        size_t at;
        uint8_t to;
        int code;
    } edits[] = {
        {0, 2, ERR_bad_version},   {12, 1, ERR_bad_version}, {4, 0, ERR_bad_length},
        {7, 0x80, ERR_bad_length}, {8, 4, ERR_bad_length},   {16, 0, ERR_bad_value},
        {24, 1, ERR_bad_length},   {28, 2, ERR_bad_length},  {29, 8, ERR_bad_length},
        {40, 2, ERR_bad_length},   {48, 'x', ERR_bad_value}, {49, 'z', ERR_bad_value},
        {51, 'a', ERR_bad_value},  {52, 'd', ERR_bad_value},
    };
    uint8_t bytes[64];
    struct tree_ranges r;
    size_t len = two_ranges(bytes);
    CHECK_OK(tree_ranges_open(bytes, len, &r));
    for (size_t i = 0; i < ARRAY_COUNT(edits); i++) {
        uint8_t kept = bytes[edits[i].at];
        bytes[edits[i].at] = edits[i].to;
        CHECK_RC(tree_ranges_open(bytes, len, &r), edits[i].code);
        bytes[edits[i].at] = kept;
    }
}

TEST(ranges_have_keys_of_the_largest_size)
{
    uint8_t low[TREE_KEY_MAX], high[TREE_KEY_MAX], bytes[4096];
    struct tree_ranges r;
    memset(low, 'a', sizeof low);
    memset(high, 'b', sizeof high);
    const struct tree_ranges_item one = {.low = kv_slice_of(low, sizeof low),
                                         .high = kv_slice_of(high, sizeof high),
                                         .msn = UINT64_MAX};
    size_t len = tree_ranges_encode(&one, 1, bytes);
    CHECK_OK(tree_ranges_open(bytes, len, &r));
    CHECK_TRUE(tree_ranges_cover(&r, one.low, UINT64_MAX) == UINT64_MAX);
    wire_store_u32(bytes + 8, 2 * TREE_KEY_MAX + 1);
    wire_store_u16(bytes + TREE_RANGES_HEADER_BYTES + 14, TREE_KEY_MAX + 1);
    CHECK_RC(tree_ranges_open(bytes, len + 1, &r), ERR_bad_length);
}

TEST(copies_of_a_range_must_be_older)
{
    uint8_t bytes[64];
    struct tree_ranges r;
    struct tree_ranges_item two[] = {
        {.low = text("b"), .high = text("c"), .msn = 9},
        {.low = text("b"), .high = text("c"), .msn = 7},
    };
    size_t len = tree_ranges_encode(two, 2, bytes);
    CHECK_OK(tree_ranges_open(bytes, len, &r));
    CHECK_EQ(tree_ranges_cover(&r, text("b"), 8), 7);
    CHECK_EQ(tree_ranges_cover(&r, text("b"), 6), 0);
    wire_store_u64(bytes + TREE_RANGES_HEADER_BYTES + TREE_RANGES_ENTRY_BYTES, 9);
    CHECK_RC(tree_ranges_open(bytes, len, &r), ERR_bad_value);
}
