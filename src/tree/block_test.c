/*
 * tree/block_test.c -- what was built is found by every way of looking; the bytes are the golden
 * ones; whatever is done to them is refused or still a sound block.
 */
#include "tree/block.h"

#include "base/mem.h"
#include "base/rand.h"
#include "testing/testing.h"
#include "wire/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORDS_MAX 400u
#define KEY_ROOM 24u

/* Records of a test, sorted, and the block of them. */
struct records {
    enum tree_block_kind kind;
    uint32_t count;
    struct {
        uint8_t key[KEY_ROOM], body[40], type;
        size_t key_len, body_len;
        uint64_t msn;
    } at[RECORDS_MAX];
    uint8_t *bytes; /* exactly as long as it is */
    size_t len;
};

static struct tree_block_entry entry_of(const struct records *r, uint32_t i)
{
    return (struct tree_block_entry){.key = kv_slice_of(r->at[i].key, r->at[i].key_len),
                                     .body = kv_slice_of(r->at[i].body, r->at[i].body_len),
                                     .msn = r->at[i].msn,
                                     .type = r->at[i].type};
}

static int record_compare(const struct records *r, uint32_t i, struct kv_slice key)
{
    return kv_slice_compare(kv_slice_of(r->at[i].key, r->at[i].key_len), key);
}

static bool has_messages(enum tree_block_kind kind)
{
    return kind == TREE_BLOCK_MESSAGE || kind == TREE_BLOCK_INDEX;
}

/* True when record i may follow the one before it. */
static bool in_order(const struct records *r, uint32_t i)
{
    struct kv_slice key = kv_slice_of(r->at[i].key, r->at[i].key_len);
    int order = i == 0 ? -1 : record_compare(r, i - 1, key);
    return order < 0 || (order == 0 && has_messages(r->kind) && r->at[i - 1].msn > r->at[i].msn);
}

/* Few letters and short keys, so that heads, prefixes and whole keys are often equal. */
static void record_random(struct records *r, uint32_t i, struct rand *rand, unsigned prefix)
{
    static const uint8_t types[] = {1, 2, 3, 4, 6};
    memset(r->at[i].key, 'p', prefix);
    r->at[i].key_len = prefix + (size_t)rand_range(rand, prefix == 0 ? 1 : 0, 10);
    for (size_t n = prefix; n < r->at[i].key_len; n++) {
        static const uint8_t letters[] = {0, 1, 'a', 255};
        r->at[i].key[n] = letters[rand_below(rand, 4)];
    }
    r->at[i].body_len = r->kind == TREE_BLOCK_PIVOT ? 0 : (size_t)rand_below(rand, 41);
    rand_bytes(rand, r->at[i].body, r->at[i].body_len);
    r->at[i].msn = has_messages(r->kind) ? rand_u64(rand) >> rand_below(rand, 64) : 0;
    r->at[i].type = r->kind == TREE_BLOCK_MESSAGE ? types[rand_below(rand, 5)] : 0;
}

static void records_swap(struct records *r, uint32_t i, uint32_t j)
{
    uint8_t kept[sizeof r->at[0]];
    memcpy(kept, &r->at[i], sizeof kept);
    r->at[i] = r->at[j];
    memcpy(&r->at[j], kept, sizeof kept);
}

/* Sorts record i into those before it; false when there is one like it. */
static bool record_sort(struct records *r, uint32_t i)
{
    for (uint32_t at = i; at > 0 && !in_order(r, at); at--) {
        struct kv_slice key = kv_slice_of(r->at[at].key, r->at[at].key_len);
        bool same = record_compare(r, at - 1, key) == 0;
        if (same && (!has_messages(r->kind) || r->at[at - 1].msn == r->at[at].msn)) {
            for (uint32_t back = at; back < i; back++) {
                records_swap(r, back, back + 1);
            }
            return false;
        }
        records_swap(r, at, at - 1);
    }
    return true;
}

static void records_build(struct records *r)
{
    struct tree_block_builder b;
    tree_block_builder_init(&b, r->kind);
    for (uint32_t i = 0; i < r->count; i++) {
        struct tree_block_entry e = entry_of(r, i);
        size_t with = tree_block_builder_bytes_with(&b, &e);
        CHECK_OK(tree_block_builder_add(&b, &e));
        CHECK_EQ(tree_block_builder_bytes(&b), with);
    }
    size_t most = tree_block_builder_bytes(&b);
    uint8_t *room = mem_alloc(most);
    CHECK_TRUE(room != NULL);
    r->len = tree_block_builder_finish(&b, room);
    CHECK_TRUE(r->len <= most && (has_messages(r->kind) || r->len == most));
    r->bytes = mem_dup(room, r->len);
    CHECK_TRUE(r->bytes != NULL);
    mem_free(room);
    tree_block_builder_fini(&b);
}

static void records_random(struct records *r, struct rand *rand, enum tree_block_kind kind)
{
    *r = (struct records){.kind = kind};
    unsigned prefix = (unsigned)rand_below(rand, 12);
    uint32_t wanted = (uint32_t)rand_range(rand, 1, rand_chance(rand, 1, 4) ? RECORDS_MAX : 20);
    for (uint32_t tries = 0; tries < 2 * wanted && r->count < wanted; tries++) {
        record_random(r, r->count, rand, prefix);
        r->count += record_sort(r, r->count) ? 1 : 0;
    }
    records_build(r);
}

static void check_entry(const struct records *r, uint32_t i, const struct tree_block_entry *e)
{
    CHECK_EQ(e->key.len, r->at[i].key_len);
    CHECK_BYTES(e->key.at, r->at[i].key, e->key.len);
    CHECK_EQ(e->body.len, r->at[i].body_len);
    CHECK_BYTES(e->body.at, r->at[i].body, e->body.len);
    CHECK_EQ(e->msn, r->at[i].msn);
    CHECK_EQ(e->type, r->at[i].type);
}

static void check_walks(const struct records *r, const struct tree_block *b)
{
    struct tree_block_iter it;
    tree_block_iter_init(&it, b);
    CHECK_TRUE(!tree_block_iter_next(&it));
    bool on = tree_block_iter_seek(&it, 0);
    for (uint32_t i = 0; i < r->count; i++) {
        uint8_t key[TREE_KEY_MAX];
        CHECK_TRUE(on && it.at == i);
        check_entry(r, i, &it.entry);
        CHECK_EQ(tree_block_key(b, i, key), r->at[i].key_len);
        CHECK_BYTES(key, r->at[i].key, r->at[i].key_len);
        on = tree_block_iter_next(&it);
    }
    CHECK_TRUE(!on && !tree_block_iter_next(&it));
    on = tree_block_iter_seek(&it, r->count - 1);
    for (uint32_t i = r->count; i-- > 0;) {
        CHECK_TRUE(on && it.at == i);
        check_entry(r, i, &it.entry);
        on = tree_block_iter_prev(&it);
    }
    CHECK_TRUE(!on && it.at == r->count);
}

static void check_search(const struct records *r, const struct tree_block *b, struct kv_slice key)
{
    uint32_t lower = 0, upper = 0;
    bool equal = false;
    while (lower < r->count && record_compare(r, lower, key) < 0) {
        lower++;
    }
    upper = lower;
    while (upper < r->count && record_compare(r, upper, key) == 0) {
        upper++;
    }
    CHECK_EQ(tree_block_lower(b, key, &equal), lower);
    CHECK_EQ(equal, upper > lower);
    CHECK_EQ(tree_block_upper(b, key), upper);
}

static void check_searches(const struct records *r, const struct tree_block *b, struct rand *rand)
{
    for (uint32_t i = 0; i < r->count; i++) {
        struct records *x = mem_dup(r, sizeof *r);
        CHECK_TRUE(x != NULL);
        uint8_t *key = x->at[i].key;
        size_t len = x->at[i].key_len;
        check_search(r, b, kv_slice_of(key, len));
        check_search(r, b, kv_slice_of(key, len - 1));
        key[len - 1] ^= (uint8_t)(1u << rand_below(rand, 8));
        check_search(r, b, kv_slice_of(key, len));
        key[len] = (uint8_t)rand_below(rand, 2);
        check_search(r, b, kv_slice_of(key, len + 1));
        key[rand_below(rand, len)] = (uint8_t)rand_u64(rand);
        check_search(r, b, kv_slice_of(key, len));
        mem_free(x);
    }
    check_search(r, b, kv_slice_of("", 0));
    check_search(r, b, kv_slice_of("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 13));
}

TEST(blocks_hold_what_was_put_into_them)
{
    struct rand rand;
    rand_seed(&rand, testing_seed());
    struct records *r = mem_alloc(sizeof *r);
    CHECK_TRUE(r != NULL);
    for (unsigned i = 0; i < 200; i++) {
        struct tree_block b;
        records_random(r, &rand, (enum tree_block_kind)(1 + i % 4));
        CHECK_OK(tree_block_open(r->bytes, r->len, r->kind, &b));
        struct tree_block again = tree_block_view(r->bytes);
        CHECK_EQ(b.count, r->count);
        CHECK_EQ(again.count, r->count);
        CHECK_TRUE(again.bodies == b.bodies && again.base_msn == b.base_msn);
        check_walks(r, &b);
        check_searches(r, &again, &rand);
        mem_free(r->bytes);
    }
    mem_free(r);
}

TEST(blocks_of_another_kind_or_length_are_refused)
{
    struct rand rand;
    struct tree_block b;
    rand_seed(&rand, testing_seed());
    struct records *r = mem_alloc(sizeof *r);
    CHECK_TRUE(r != NULL);
    for (unsigned kind = 1; kind <= 4; kind++) {
        records_random(r, &rand, (enum tree_block_kind)kind);
        for (unsigned other = 1; other <= 4; other++) {
            int rc = tree_block_open(r->bytes, r->len, (enum tree_block_kind)other, &b);
            CHECK_RC(rc, other == kind ? 0 : ERR_bad_magic);
        }
        for (size_t len = 0; len < r->len; len++) {
            uint8_t *cut = mem_dup(r->bytes, len > 0 ? len : 1);
            CHECK_TRUE(cut != NULL);
            CHECK_ERR(tree_block_open(cut, len, r->kind, &b), ERR_corrupt);
            mem_free(cut);
        }
        uint8_t *longer = mem_alloc(r->len + 1);
        CHECK_TRUE(longer != NULL);
        memcpy(longer, r->bytes, r->len);
        longer[r->len] = 0;
        CHECK_RC(tree_block_open(longer, r->len + 1, r->kind, &b), ERR_bad_length);
        mem_free(longer);
        mem_free(r->bytes);
    }
    mem_free(r);
}

/* Without a checksum some flips make another sound block: then all it says must be in order. */
static void check_sound(const struct tree_block *b)
{
    struct tree_block_iter it;
    uint8_t last[TREE_KEY_MAX];
    struct kv_slice before = {0};
    uint64_t msn = 0;
    tree_block_iter_init(&it, b);
    for (bool on = tree_block_iter_seek(&it, 0); on; on = tree_block_iter_next(&it)) {
        int order = kv_slice_compare(before, it.entry.key);
        bool equal = false;
        CHECK_TRUE(order < 0 || (order == 0 && has_messages(b->kind) && msn > it.entry.msn));
        CHECK_TRUE(it.entry.key.len <= TREE_KEY_MAX && it.entry.body.len <= TREE_BODY_MAX);
        CHECK_TRUE(tree_block_lower(b, it.entry.key, &equal) <= it.at && equal);
        memcpy(last, it.entry.key.at, it.entry.key.len);
        before = kv_slice_of(last, it.entry.key.len);
        msn = it.entry.msn;
    }
}

TEST(every_flipped_bit_is_refused_or_makes_a_sound_block)
{
    struct rand rand;
    unsigned sound = 0, refused = 0;
    rand_seed(&rand, testing_seed());
    struct records *r = mem_alloc(sizeof *r);
    CHECK_TRUE(r != NULL);
    for (unsigned i = 0; i < 8; i++) {
        records_random(r, &rand, (enum tree_block_kind)(1 + i % 4));
        for (size_t bit = 0; bit < 8 * base_min(r->len, 600); bit++) {
            struct tree_block b;
            r->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            int rc = tree_block_open(r->bytes, r->len, r->kind, &b);
            if (rc == 0) {
                check_sound(&b);
                sound++;
            } else {
                CHECK_ERR(rc, ERR_corrupt);
                refused++;
            }
            r->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        mem_free(r->bytes);
    }
    CHECK_TRUE(sound > 100 && refused > 100);
    mem_free(r);
}

/* A builder is used again, and holds entries of the largest size. */
TEST_TORTURE(builder_takes_the_largest_entries_until_it_is_full)
{
    struct tree_block_builder b;
    struct tree_block view;
    uint8_t key[TREE_KEY_MAX];
    uint8_t *body = mem_zalloc(TREE_BODY_MAX), *out = mem_alloc(TREE_RAW_MAX);
    int rc = body == NULL || out == NULL ? -ENOMEM : 0;
    tree_block_builder_init(&b, TREE_BLOCK_MESSAGE);
    memset(key, 'k', sizeof key);
    for (unsigned round = 0; round < 2 && rc == 0; round++) {
        tree_block_builder_clear(&b);
        unsigned count = 0;
        while (rc == 0) {
            key[TREE_KEY_MAX - 1] = (uint8_t)count++;
            struct tree_block_entry e = {.key = kv_slice_of(key, sizeof key),
                                         .body = kv_slice_of(body, TREE_BODY_MAX),
                                         .msn = UINT64_MAX - count,
                                         .type = 1};
            rc = tree_block_builder_add(&b, &e);
        }
        CHECK_TRUE(rc == -E2BIG || testing_torturing());
        if (rc == -E2BIG) {
            CHECK_EQ(b.count, TREE_RAW_MAX / TREE_BODY_MAX - 1);
            size_t len = tree_block_builder_finish(&b, out);
            CHECK_TRUE(len <= TREE_RAW_MAX && len > TREE_RAW_MAX - TREE_BODY_MAX - 2048);
            CHECK_OK(tree_block_open(out, len, TREE_BLOCK_MESSAGE, &view));
            rc = 0;
        }
    }
    tree_block_builder_fini(&b);
    mem_free(body);
    mem_free(out);
    TRY(rc);
}

/* ---- bytes that nobody builds ---- */

static size_t two_messages(uint8_t *out)
{
    struct tree_block_builder b;
    struct tree_block_entry e = {
        .key = kv_slice_of("aab", 3), .body = kv_slice_of("xy", 2), .msn = 300, .type = 1};
    tree_block_builder_init(&b, TREE_BLOCK_MESSAGE);
    CHECK_OK(tree_block_builder_add(&b, &e));
    e = (struct tree_block_entry){.key = kv_slice_of("aacde", 5), .msn = 100, .type = 2};
    CHECK_OK(tree_block_builder_add(&b, &e));
    size_t len = tree_block_builder_finish(&b, out);
    tree_block_builder_fini(&b);
    return len;
}

static const char golden[] = "0200020002000000640000000000000004000000070000000000006200656463"
                             "00000000000000000100000005000000616162636465"
                             "01c80178790200";

static void hex_of(const uint8_t *bytes, size_t len, char *text)
{
    for (size_t i = 0; i < len; i++) {
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    }
}

TEST(the_bytes_are_the_golden_ones)
{
    uint8_t bytes[128];
    char text[257];
    hex_of(bytes, two_messages(bytes), text);
    CHECK_TEXT(text, golden);
}

struct edit {
    size_t at;
    uint8_t to;
    int code;
};

/* 24 heads, 32 offsets, 48 prefix "aa", 50 keys "b" "cde", 54 bodies 01 c801 "xy", 02 00. */
static const struct edit edits[] = {
    {0, 9, ERR_bad_magic},                              /* kind */
    {1, 1, ERR_bad_version},                            /* flags */
    {4, 0, ERR_bad_length},                             /* no entries */
    {7, 0x80, ERR_bad_length},                          /* many entries */
    {16, 5, ERR_bad_length},                            /* areas that do not fit */
    {24, 1, ERR_bad_value},                             /* a head that is not of its key */
    {32, 1, ERR_bad_length},                            /* the first key does not begin the area */
    {36, 1, ERR_bad_length},                            /* nor the first body */
    {40, 5, ERR_bad_length},                            /* a key ends beyond the area */
    {44, 8, ERR_bad_length},                            /* a body, too */
    {43, 0x80, ERR_bad_length}, {54, 5, ERR_bad_value}, /* types */
    {54, 0, ERR_bad_value},     {54, 7, ERR_bad_value},
    {56, 0, ERR_bad_value},    /* a number that is not in its shortest form */
    {60, 0x80, ERR_bad_value}, /* one that does not end */
};

TEST(blocks_that_lie_about_themselves_are_refused)
{
    uint8_t bytes[128];
    struct tree_block b;
    size_t len = two_messages(bytes);
    CHECK_OK(tree_block_open(bytes, len, TREE_BLOCK_MESSAGE, &b));
    for (size_t i = 0; i < ARRAY_COUNT(edits); i++) {
        uint8_t kept = bytes[edits[i].at];
        bytes[edits[i].at] = edits[i].to;
        int rc = tree_block_open(bytes, len, TREE_BLOCK_MESSAGE, &b);
        if (rc != -edits[i].code) {
            (void)fprintf(stderr, "edit %zu: %d\n", i, rc);
        }
        CHECK_RC(rc, edits[i].code);
        bytes[edits[i].at] = kept;
    }
    memset(bytes + 8, 0xff, 8); /* base + 200 goes beyond the last number */
    CHECK_RC(tree_block_open(bytes, len, TREE_BLOCK_MESSAGE, &b), ERR_bad_value);
}

/* At every length of a varint, with the base at one end. */
TEST(message_numbers_of_every_size_come_back)
{
    static const uint64_t deltas[] = {
        1, 0x7f, 0x80, 0x3fff, 0x4000, 0x7fffffffffffffff, 0x8000000000000000, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(deltas); i++) {
        struct tree_block_builder builder;
        struct tree_block b;
        struct tree_block_entry e = {.key = kv_slice_of("k", 1), .msn = UINT64_MAX, .type = 1};
        uint8_t bytes[128];
        tree_block_builder_init(&builder, TREE_BLOCK_MESSAGE);
        CHECK_OK(tree_block_builder_add(&builder, &e));
        e.msn -= deltas[i];
        CHECK_OK(tree_block_builder_add(&builder, &e));
        size_t len = tree_block_builder_finish(&builder, bytes);
        tree_block_builder_fini(&builder);
        CHECK_OK(tree_block_open(bytes, len, TREE_BLOCK_MESSAGE, &b));
        tree_block_get(&b, 0, &e);
        CHECK_TRUE(e.msn == UINT64_MAX && e.body.len == 0);
        tree_block_get(&b, 1, &e);
        CHECK_TRUE(e.msn == UINT64_MAX - deltas[i] && e.body.len == 0);
        CHECK_TRUE(b.base_msn == e.msn);
        if (deltas[i] == UINT64_MAX) { /* ten bytes; the last holds one bit */
            CHECK_EQ(bytes[len - 3], 1);
            bytes[len - 3] = 2;
            CHECK_RC(tree_block_open(bytes, len, TREE_BLOCK_MESSAGE, &b), ERR_bad_value);
        }
    }
}

/* Keys that are equal or descend are refused, whether their heads say it or not. */
TEST(blocks_out_of_order_are_refused)
{
    uint8_t bytes[128];
    struct tree_block b;
    size_t len = two_messages(bytes);
    bytes[50] = 'd'; /* "d", "cde" */
    wire_store_u32(bytes + 24, 0x64000000);
    CHECK_RC(tree_block_open(bytes, len, TREE_BLOCK_MESSAGE, &b), ERR_bad_value);
    bytes[50] = 'c';
    wire_store_u32(bytes + 24, 0x63000000); /* "c", "cde" */
    CHECK_OK(tree_block_open(bytes, len, TREE_BLOCK_MESSAGE, &b));
    memcpy(bytes + 50, "acac", 4); /* "ac", "ac" */
    wire_store_u32(bytes + 40, 2);
    wire_store_u32(bytes + 24, 0x61630000);
    wire_store_u32(bytes + 28, 0x61630000);
    CHECK_OK(tree_block_open(bytes, len, TREE_BLOCK_MESSAGE, &b));
    bytes[55] = 0x80 | 0x00; /* both are number 100 */
    bytes[56] = 0x00;
    CHECK_RC(tree_block_open(bytes, len, TREE_BLOCK_MESSAGE, &b), ERR_bad_value);
}
