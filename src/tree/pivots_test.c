/*
 * tree/pivots_test.c -- every key finds its slot and its partition; bytes are the golden ones;
 * what contradicts itself or its header is refused.
 */
#include "tree/pivots.h"

#include "base/mem.h"
#include "base/rand.h"
#include "testing/testing.h"
#include "tree/message.h"
#include "wire/wire.h"

#include <stdio.h>
#include <string.h>

#define KEYS_MAX 64u
#define PARTS_MAX 200u

/* Keys "0000", "0002", ...: fences, pivots and cuts in their order. */
struct example {
    char key[KEYS_MAX * 2][5];
    struct kv_slice pivot[KEYS_MAX], cut[KEYS_MAX];
    uint64_t child[KEYS_MAX];
    struct tree_partition partition[PARTS_MAX];
    struct tree_pivots_source source;
    struct tree_node_header header;
    uint8_t *bytes; /* owned, exactly as long as it is */
    size_t len;
};

static struct kv_slice next_key(struct example *x, unsigned *at)
{
    snprintf(x->key[*at], 5, "%04u", *at * 2 % 10000);
    struct kv_slice key = kv_slice_of(x->key[*at], 4);
    (*at)++;
    return key;
}

/* Slots of an internal node with 0 to 2 runs, some in several partitions. */
static void example_runs(struct example *x, struct rand *r, uint16_t slot, unsigned *at)
{
    struct kv_slice cut[2] = {0};
    unsigned cuts = (unsigned)rand_below(r, 3);
    for (unsigned i = 0; i < cuts; i++) {
        cut[i] = next_key(x, at);
    }
    for (uint8_t run = 0; run < 2; run++) {
        unsigned parts = run == 0 ? 1 + cuts : (unsigned)rand_below(r, 2);
        for (unsigned i = 0; i < parts; i++) {
            x->partition[x->header.partition_count++] =
                (struct tree_partition){.kind = TREE_PARTITION_RUN,
                                        .run = run,
                                        .slot = slot,
                                        .flags = i > 0 ? TREE_PARTITION_MORE : 0,
                                        .cut = i > 0 ? x->source.cuts : 0};
            if (i > 0) {
                x->cut[x->source.cuts++] = cut[i - 1];
            }
        }
    }
}

static void example_random(struct example *x, struct rand *r, unsigned level)
{
    *x = (struct example){.source = {.pivot = x->pivot, .cut = x->cut},
                          .header = {.level = (uint8_t)level, .partition = x->partition}};
    unsigned at = 0;
    struct tree_pivots_source *s = &x->source;
    s->slots = (uint16_t)rand_range(r, level == 0 ? 0 : 1, 20);
    s->child = level == 0 ? NULL : x->child;
    s->low = rand_chance(r, 1, 2) ? kv_slice_of("", 0) : next_key(x, &at);
    for (uint16_t slot = 0; slot < s->slots; slot++) {
        if (slot > 0) {
            x->pivot[slot - 1] = next_key(x, &at);
        }
        x->child[slot] = rand_u64(r);
        if (level > 0) {
            example_runs(x, r, slot, &at);
        }
    }
    s->high = rand_chance(r, 1, 2) ? kv_slice_of("", 0) : next_key(x, &at);
    x->header.slots = s->slots;
    x->header.low_print = tree_fingerprint(s->low);
    x->header.high_print = tree_fingerprint(s->high);
    uint8_t *room = mem_alloc(tree_pivots_bound(s));
    CHECK_TRUE(room != NULL);
    CHECK_OK(tree_pivots_encode(s, room, &x->len));
    CHECK_TRUE(x->len <= tree_pivots_bound(s));
    x->bytes = mem_dup(room, x->len);
    CHECK_TRUE(x->bytes != NULL);
    mem_free(room);
}

/* Which partition of slot and run, counted by hand. */
static uint32_t find_slowly(const struct example *x, uint16_t slot, uint8_t run,
                            struct kv_slice key)
{
    uint32_t found = x->header.partition_count;
    for (uint32_t i = 0; i < x->header.partition_count; i++) {
        const struct tree_partition *p = &x->partition[i];
        bool after = p->flags == 0 || kv_slice_compare(x->cut[p->cut], key) <= 0;
        found = p->slot == slot && p->run == run && after ? i : found;
    }
    return found;
}

static void check_key(const struct example *x, const struct tree_pivots *p, struct kv_slice key)
{
    const struct tree_pivots_source *s = &x->source;
    struct tree_pivots_bounds bounds;
    uint16_t slot = 0;
    bool above = kv_slice_compare(s->low, key) <= 0;
    bool below = s->high.len == 0 || kv_slice_compare(key, s->high) < 0;
    CHECK_EQ(tree_pivots_hold(p, key), above && below);
    if (!above || !below || s->slots == 0) {
        return;
    }
    while (slot + 1 < s->slots && kv_slice_compare(s->pivot[slot], key) <= 0) {
        slot++;
    }
    CHECK_EQ(tree_pivots_slot(p, key), slot);
    tree_pivots_bounds(p, slot, &bounds);
    CHECK_TRUE(kv_slice_compare(bounds.low, key) <= 0);
    CHECK_TRUE(bounds.high.len == 0 || kv_slice_compare(key, bounds.high) < 0);
    for (uint8_t run = 0; run < 3; run++) {
        CHECK_EQ(tree_pivots_find_run(p, &x->header, slot, run, key),
                 find_slowly(x, slot, run, key));
    }
}

TEST(every_key_finds_its_slot_and_its_partition)
{
    struct rand rand;
    rand_seed(&rand, testing_seed());
    for (unsigned round = 0; round < 60; round++) {
        struct example x;
        struct tree_pivots p;
        example_random(&x, &rand, round % 2);
        CHECK_OK(tree_pivots_open(x.bytes, x.len, &x.header, &p));
        for (uint16_t i = 0; round % 2 == 1 && i < x.source.slots; i++) {
            CHECK_EQ(tree_pivots_child(&p, i), x.child[i]);
        }
        for (uint16_t i = 0; i < x.source.cuts; i++) {
            CHECK_EQ(kv_slice_compare(tree_pivots_cut(&p, i), x.cut[i]), 0);
        }
        for (unsigned i = 0; i < 4 * KEYS_MAX; i++) {
            char key[8];
            snprintf(key, sizeof key, "%04u%s", i / 2 % 10000, i % 2 == 0 ? "" : "x");
            check_key(&x, &p, kv_slice_of(key, strlen(key)));
        }
        check_key(&x, &p, kv_slice_of("zzzzz", 5));
        check_key(&x, &p, kv_slice_of("!", 1));
        mem_free(x.bytes);
    }
}

TEST(pivots_cut_off_are_refused_and_flipped_ones_stay_sound)
{
    struct rand rand;
    struct example x;
    struct tree_pivots p;
    unsigned refused = 0;
    rand_seed(&rand, testing_seed());
    for (unsigned round = 0; round < 6; round++) {
        example_random(&x, &rand, round % 2);
        for (size_t len = 0; len < x.len; len++) {
            uint8_t *cut = mem_dup(x.bytes, len > 0 ? len : 1);
            CHECK_TRUE(cut != NULL);
            CHECK_ERR(tree_pivots_open(cut, len, &x.header, &p), ERR_corrupt);
            mem_free(cut);
        }
        for (size_t bit = 0; bit < 8 * x.len; bit++) {
            x.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            int rc = tree_pivots_open(x.bytes, x.len, &x.header, &p);
            CHECK_TRUE(rc == 0 || err_is(rc, ERR_corrupt));
            refused += rc < 0 ? 1 : 0;
            for (uint16_t slot = 0; rc == 0 && slot < p.slots; slot++) {
                struct tree_pivots_bounds b;
                tree_pivots_bounds(&p, slot, &b);
                CHECK_TRUE(b.high.len == 0 || kv_slice_compare(b.low, b.high) < 0);
                CHECK_TRUE(b.low.len == 0 || tree_pivots_slot(&p, b.low) == slot);
            }
            x.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        mem_free(x.bytes);
    }
    CHECK_TRUE(refused > 1000);
}

/* Two children "a" .. "m" .. "z", of the second one run in two parts, cut at "p". */
static void two_children(struct example *x)
{
    *x = (struct example){.source = {.slots = 2, .cuts = 1}, .header = {.level = 1, .slots = 2}};
    x->pivot[0] = kv_slice_of("m", 1);
    x->cut[0] = kv_slice_of("p", 1);
    x->child[0] = 5;
    x->child[1] = 258;
    x->source.low = kv_slice_of("a", 1);
    x->source.high = kv_slice_of("z", 1);
    x->source.pivot = x->pivot;
    x->source.cut = x->cut;
    x->source.child = x->child;
    x->header.low_print = tree_fingerprint(x->source.low);
    x->header.high_print = tree_fingerprint(x->source.high);
    x->header.partition = x->partition;
    x->header.partition_count = 2;
    x->partition[0] = (struct tree_partition){.kind = TREE_PARTITION_RUN, .slot = 1};
    x->partition[1] = x->partition[0];
    x->partition[1].flags = TREE_PARTITION_MORE;
}

static const char golden[] =
    "010102000100010001000000250000000100000000000000"
    "05000000000000000201000000000000"
    "0300010001000000000000000000000000000000000000000000000000000000000000006d"
    "0100000070617a";

TEST(the_bytes_are_the_golden_ones)
{
    struct example x;
    uint8_t bytes[128];
    char hex[257] = "";
    size_t len = 0;
    two_children(&x);
    CHECK_OK(tree_pivots_encode(&x.source, bytes, &len));
    for (size_t i = 0; i < len; i++) {
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    }
    CHECK_TEXT(hex, golden);
}

TEST(pivots_that_lie_about_themselves_are_refused)
{
    static const struct {
        size_t at;
        uint8_t to;
        int code;
    } edits[] = {
        {0, 2, ERR_bad_version},  {1, 0, ERR_bad_value},   {1, 3, ERR_bad_value},
        {2, 3, ERR_bad_value},    {4, 0, ERR_bad_length},  {7, 8, ERR_bad_length},
        {9, 8, ERR_bad_length},   {10, 1, ERR_bad_value},  {12, 1, ERR_bad_length},
        {15, 1, ERR_bad_length},  {16, 0, ERR_bad_length}, {20, 1, ERR_bad_value},
        {40, 1, ERR_bad_magic},   /* the block of pivots is a block */
        {76, 'a', ERR_bad_value}, /* a pivot at the low fence */
        {76, 'z', ERR_bad_value}, /* at the high one */
        {77, 0, ERR_bad_length},  /* a cut that is empty */
        {77, 2, ERR_bad_length},  /* one beyond the end */
        {81, 'm', ERR_bad_value}, /* at the pivot */
        {81, 'z', ERR_bad_value}, /* at the fence */
        {82, 'b', ERR_bad_value}, /* fences that are not the header's */
        {83, 'y', ERR_bad_value},
    };
    struct example x;
    uint8_t bytes[128];
    size_t len = 0;
    struct tree_pivots p;
    two_children(&x);
    CHECK_OK(tree_pivots_encode(&x.source, bytes, &len));
    CHECK_EQ(len, 84);
    CHECK_OK(tree_pivots_open(bytes, len, &x.header, &p));
    for (size_t i = 0; i < ARRAY_COUNT(edits); i++) {
        uint8_t kept = bytes[edits[i].at];
        bytes[edits[i].at] = edits[i].to;
        int rc = tree_pivots_open(bytes, len, &x.header, &p);
        if (rc != -edits[i].code) {
            (void)fprintf(stderr, "edit %zu: %s\n", i, err_name(rc));
        }
        CHECK_RC(rc, edits[i].code);
        bytes[edits[i].at] = kept;
    }
    x.partition[1].flags = 0; /* nobody needs the cut */
    CHECK_RC(tree_pivots_open(bytes, len, &x.header, &p), ERR_bad_value);
    x.partition[1].flags = TREE_PARTITION_MORE;
    x.partition[2] = x.partition[1]; /* more than there are */
    x.header.partition_count = 3;
    CHECK_RC(tree_pivots_open(bytes, len, &x.header, &p), ERR_bad_value);
}

/* A block of one or two keys as partition i, of the second child "m" .. "p" .. "z". */
static int open_block(const struct example *x, const struct tree_pivots *p, uint32_t i,
                      const char *keys)
{
    struct tree_block_builder builder;
    struct tree_block b;
    uint8_t raw[128];
    struct tree_node_header n = x->header;
    tree_block_builder_init(&builder, TREE_BLOCK_MESSAGE);
    for (; *keys != 0; keys++) {
        struct tree_block_entry e = {.key = kv_slice_of(keys, 1), .type = 1, .msn = 5};
        CHECK_OK(tree_block_builder_add(&builder, &e));
    }
    n.partition[i].raw_len = (uint32_t)tree_block_builder_finish(&builder, raw);
    n.partition[i].entries = builder.count;
    int rc = tree_pivots_open_block(p, &n, i, raw, &b);
    n.partition[i].entries++;
    CHECK_ERR(tree_pivots_open_block(p, &n, i, raw, &b), ERR_corrupt);
    raw[0] = TREE_BLOCK_LEAF;
    CHECK_ERR(tree_pivots_open_block(p, &n, i, raw, &b), ERR_corrupt);
    tree_block_builder_fini(&builder);
    return rc;
}

/* One message of "m" as partition 0, a run. */
static int open_message(const struct example *x, const struct tree_pivots *p, uint8_t type,
                        struct kv_slice body)
{
    struct tree_block_builder builder;
    struct tree_block b;
    struct tree_block_entry e = {.key = kv_slice_of("m", 1), .body = body, .type = type, .msn = 5};
    uint8_t raw[256];
    struct tree_node_header n = x->header;
    tree_block_builder_init(&builder, TREE_BLOCK_MESSAGE);
    CHECK_OK(tree_block_builder_add(&builder, &e));
    n.partition[0].raw_len = (uint32_t)tree_block_builder_finish(&builder, raw);
    n.partition[0].entries = 1;
    tree_block_builder_fini(&builder);
    return tree_pivots_open_block(p, &n, 0, raw, &b);
}

/* Whoever folds them trusts their bodies. */
TEST(messages_that_are_none_are_refused)
{
    struct example x;
    struct tree_pivots p;
    const struct kv_field field = {.offset = 8, .op = KV_FIELD_ADD, .operand = 1};
    uint8_t bytes[128], body[TREE_UPSERT_MAX];
    size_t len = 0, upsert = tree_upsert_encode(16, &field, 1, body);
    two_children(&x);
    CHECK_OK(tree_pivots_encode(&x.source, bytes, &len));
    CHECK_OK(tree_pivots_open(bytes, len, &x.header, &p));
    CHECK_OK(open_message(&x, &p, TREE_PUT, kv_slice_of("value", 5)));
    CHECK_OK(open_message(&x, &p, TREE_DELETE, kv_slice_of("", 0)));
    CHECK_OK(open_message(&x, &p, TREE_NOTE, kv_slice_of("note", 4)));
    CHECK_OK(open_message(&x, &p, TREE_UPSERT, kv_slice_of(body, upsert)));
    CHECK_RC(open_message(&x, &p, TREE_DELETE, kv_slice_of("value", 5)), ERR_bad_length);
    CHECK_RC(open_message(&x, &p, TREE_UPSERT, kv_slice_of(body, upsert - 1)), ERR_bad_length);
    CHECK_RC(open_message(&x, &p, TREE_RANGE_DELETE, kv_slice_of("z", 1)), ERR_bad_value);
    body[5]++; /* the field ends behind the value */
    CHECK_RC(open_message(&x, &p, TREE_UPSERT, kv_slice_of(body, upsert)), ERR_bad_value);
}

static int open_range(const struct example *x, const struct tree_pivots *p, const char *low,
                      const char *high)
{
    const struct tree_ranges_item item = {
        .low = kv_slice_of(low, 1), .high = kv_slice_of(high, 1), .msn = 1};
    struct tree_ranges ranges;
    uint8_t raw[64];
    struct tree_node_header n = x->header;
    n.partition_count = 3;
    n.partition[2] =
        (struct tree_partition){.kind = TREE_PARTITION_RANGES, .slot = TREE_SLOT_ALL, .entries = 1};
    n.partition[2].raw_len = (uint32_t)tree_ranges_encode(&item, 1, raw);
    int rc = tree_pivots_open_ranges(p, &n, 2, raw, &ranges);
    n.partition[2].entries++;
    CHECK_ERR(tree_pivots_open_ranges(p, &n, 2, raw, &ranges), ERR_corrupt);
    return rc;
}

TEST(what_lies_outside_its_slot_is_refused)
{
    struct example x;
    struct tree_pivots p;
    uint8_t bytes[128];
    size_t len = 0;
    two_children(&x);
    CHECK_OK(tree_pivots_encode(&x.source, bytes, &len));
    CHECK_OK(tree_pivots_open(bytes, len, &x.header, &p));
    CHECK_OK(open_block(&x, &p, 0, "mo")); /* up to the cut */
    CHECK_RC(open_block(&x, &p, 0, "lo"), ERR_bad_value);
    CHECK_RC(open_block(&x, &p, 0, "mp"), ERR_bad_value);
    x.partition[1].cut = 0;
    CHECK_OK(open_block(&x, &p, 1, "py"));
    CHECK_RC(open_block(&x, &p, 1, "oy"), ERR_bad_value);
    CHECK_RC(open_block(&x, &p, 1, "pz"), ERR_bad_value);
    CHECK_OK(open_range(&x, &p, "a", "z"));
    CHECK_RC(open_range(&x, &p, "A", "z"), ERR_bad_value);
    CHECK_RC(open_range(&x, &p, "a", "{"), ERR_bad_value);
    x.partition[0].slot = 0;
    x.partition[1].slot = 0;
    x.partition[1].flags = 0;
    CHECK_OK(open_block(&x, &p, 0, "al"));
    CHECK_RC(open_block(&x, &p, 0, "am"), ERR_bad_value);
    CHECK_RC(open_block(&x, &p, 0, "Al"), ERR_bad_value);
}

TEST_TORTURE(encoding_without_memory_leaves_nothing)
{
    struct example x;
    uint8_t bytes[128];
    size_t len = 0;
    two_children(&x);
    TRY(tree_pivots_encode(&x.source, bytes, &len));
    CHECK_EQ(len, 84);
}
