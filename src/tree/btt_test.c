/* tree/btt_test.c -- tree/btt.h: every bit and truncation of what is on disk; the table against a
 * model, with a frozen one that must stay as it was. */
#include "tree/btt.h"

#include "base/mem.h"
#include "base/rand.h"
#include "testing/testing.h"

#include <string.h>

static const uint8_t id[TREE_BTT_ID_BYTES] = "0123456789abcde";

static struct tree_btt_entry random_entry(struct rand *r)
{
    struct tree_btt_entry e = {.kind = (enum tree_btt_kind)rand_below(r, 4)};
    if (e.kind == TREE_BTT_FREE) {
        e.link = rand_below(r, 1000);
    } else if (e.kind != TREE_BTT_VOID) {
        e.flags = (uint8_t)rand_below(r, 64);
        e.level = (uint8_t)rand_below(r, 8);
        e.birth = rand_range(r, 1, (UINT64_C(1) << 48) - 1);
        if (e.kind == TREE_BTT_SEGMENT || rand_chance(r, 3, 4)) {
            e.units = (uint16_t)rand_range(r, 1, 65535);
            e.unit = rand_range(r, 1, (UINT64_C(1) << 48) - 1);
            e.header_len =
                (uint32_t)rand_range(r, 0, e.units * 8u < 65535 ? e.units * 8u : 65535) * 512;
            e.checksum = rand_range(r, 0, UINT64_MAX - 1);
            e.link = rand_chance(r, 1, 2) ? rand_range(r, 1, TREE_BTT_BLOCK_MAX) : 0;
            e.segment_count =
                e.kind == TREE_BTT_NODE && e.link != 0 ? (uint8_t)rand_range(r, 1, 255) : 0;
        }
    }
    return e;
}

static void check_entries(const struct tree_btt_entry *a, const struct tree_btt_entry *b)
{
    CHECK_EQ(a->kind, b->kind);
    CHECK_TRUE(a->flags == b->flags && a->level == b->level);
    CHECK_EQ(a->segment_count, b->segment_count);
    CHECK_EQ(a->units, b->units);
    CHECK_EQ(a->header_len, b->header_len);
    CHECK_EQ(a->unit, b->unit);
    CHECK_EQ(a->checksum, b->checksum);
    CHECK_EQ(a->birth, b->birth);
    CHECK_EQ(a->link, b->link);
}

TEST(btt_entry_round_trip)
{
    struct rand r;
    rand_seed(&r, testing_seed());
    for (unsigned i = 0; i < 2000; i++) {
        struct tree_btt_entry e = random_entry(&r), got;
        uint8_t bytes[TREE_BTT_ENTRY_BYTES];
        tree_btt_entry_encode(&e, bytes);
        CHECK_OK(tree_btt_entry_decode(bytes, &got));
        check_entries(&e, &got);
    }
}

static void random_page(struct rand *r, uint8_t *page)
{
    memset(page, 0, TREE_BTT_PAGE_BYTES);
    for (size_t i = 0; i < TREE_BTT_PAGE_ENTRIES; i++) {
        struct tree_btt_entry e = random_entry(r);
        tree_btt_entry_encode(&e, page + 16 + i * TREE_BTT_ENTRY_BYTES);
    }
}

TEST(btt_page_sees_every_flipped_bit_and_every_place)
{
    struct rand r;
    rand_seed(&r, testing_seed());
    uint8_t page[TREE_BTT_PAGE_BYTES], other[TREE_BTT_ID_BYTES];
    random_page(&r, page);
    uint64_t sum = tree_btt_page_seal(page, id, 7);
    CHECK_OK(tree_btt_page_check(page, id, 7, sum));
    CHECK_ERR(tree_btt_page_check(page, id, 6, sum), ERR_corrupt);
    CHECK_RC(tree_btt_page_check(page, id, 7, sum + 1), ERR_bad_crc);
    memcpy(other, id, sizeof other);
    other[0] ^= 1;
    CHECK_RC(tree_btt_page_check(page, other, 7, sum), ERR_bad_crc);
    for (size_t bit = 0; bit < sizeof page * 8; bit++) {
        page[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_ERR(tree_btt_page_check(page, id, 7, sum), ERR_corrupt);
        page[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t len = 0; len < sizeof page; len += 8) {
        uint8_t torn[TREE_BTT_PAGE_BYTES] = {0};
        memcpy(torn, page, len);
        CHECK_ERR(tree_btt_page_check(torn, id, 7, sum), ERR_corrupt);
    }
}

/* Behind a good checksum. */
TEST(btt_page_refuses_entries_that_cannot_be)
{
    static const struct tree_btt_entry wrong[] = {
        {.kind = TREE_BTT_VOID, .link = 4},
        {.kind = TREE_BTT_FREE, .birth = 1},
        {.kind = TREE_BTT_NODE},
        {.kind = TREE_BTT_NODE, .birth = 1, .units = 1},
        {.kind = TREE_BTT_NODE, .birth = 1, .link = 3},
        {.kind = TREE_BTT_NODE, .birth = 1, .segment_count = 3},
        {.kind = TREE_BTT_NODE, .birth = 1, .units = 1, .unit = 9, .link = 3},
        {.kind = TREE_BTT_NODE, .birth = 1, .units = 1, .unit = 9, .segment_count = 1},
        {.kind = TREE_BTT_NODE, .birth = 1, .units = 1, .unit = 9, .header_len = 4608},
        {.kind = TREE_BTT_NODE, .units = 1, .unit = 9},
        {.kind = TREE_BTT_SEGMENT, .birth = 1},
        {.kind = TREE_BTT_SEGMENT, .birth = 1, .units = 1, .unit = 9, .segment_count = 1},
    };
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        uint8_t page[TREE_BTT_PAGE_BYTES] = {0};
        tree_btt_entry_encode(&wrong[i], page + 16 + (size_t)126 * TREE_BTT_ENTRY_BYTES);
        uint64_t sum = tree_btt_page_seal(page, id, 0);
        CHECK_RC(tree_btt_page_check(page, id, 0, sum), ERR_bad_value);
    }
}

TEST(btt_index_sees_every_flipped_bit_and_truncation)
{
    struct tree_btt_place place[] = {{4096, 11, 3}, {0, 0, 0}, {1u << 20, 22, 5}};
    struct tree_btt_index x = {.checkpoint = 5,
                               .next_block = 300,
                               .free_head = 17,
                               .free_count = 4,
                               .page_count = 3,
                               .place = place},
                          got = {0};
    uint8_t bytes[256];
    size_t len = tree_btt_index_bytes(3);
    CHECK_TRUE(len <= sizeof bytes);
    uint64_t sum = tree_btt_index_encode(&x, id, bytes);
    CHECK_OK(tree_btt_index_decode(bytes, len, id, sum, &got));
    CHECK_TRUE(got.checkpoint == 5 && got.next_block == 300 && got.free_head == 17 &&
               got.free_count == 4 && got.page_count == 3);
    CHECK_BYTES(got.place, place, sizeof place);
    mem_free(got.place);
    for (size_t bit = 0; bit < len * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_ERR(tree_btt_index_decode(bytes, len, id, sum, &got), ERR_corrupt);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t n = 0; n < len; n++) {
        uint8_t *exact = mem_dup(bytes, n); /* so that a sanitizer sees reads behind it */
        CHECK_ERR(tree_btt_index_decode(exact, n, id, sum, &got), ERR_corrupt);
        mem_free(exact);
    }
    struct tree_btt_index wrong[] = {x, x, x, x, x};
    wrong[0].next_block = 400; /* more pages */
    wrong[1].free_head = 0;
    wrong[2].free_count = 300;
    wrong[3].checkpoint = 4; /* a page of a later one */
    wrong[4].next_block = 0;
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        sum = tree_btt_index_encode(&wrong[i], id, bytes);
        CHECK_RC(tree_btt_index_decode(bytes, len, id, sum, &got), ERR_bad_value);
    }
}

TEST(btt_pieces_see_every_flipped_bit_and_truncation)
{
    struct tree_btt_piece p[] = {
        {.offset = 8192, .len = 5000, .checksum = 1, .birth = 2, .owner = "one"},
        {.offset = 65536, .len = 1, .checksum = 3, .birth = 4, .owner = "two"}};
    struct tree_btt_piece got[2];
    uint8_t bytes[256];
    size_t len = tree_btt_pieces_bytes(2);
    struct tree_btt_pieces_in in = {
        .bytes = bytes, .file_id = id, .len = len, .count = 2, .checkpoint = 4};
    in.expected = tree_btt_pieces_encode(p, 2, 4, id, bytes);
    CHECK_OK(tree_btt_pieces_decode(&in, got));
    CHECK_BYTES(got, p, sizeof p);
    for (size_t bit = 0; bit < len * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_ERR(tree_btt_pieces_decode(&in, got), ERR_corrupt);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t n = 0; n < len; n++) {
        CLEANUP(mem_freep) uint8_t *exact = mem_dup(bytes, n);
        struct tree_btt_pieces_in cut = in;
        cut.bytes = exact;
        cut.len = n;
        CHECK_ERR(tree_btt_pieces_decode(&cut, got), ERR_corrupt);
    }
    p[1].birth = 5; /* later than the checkpoint */
    in.expected = tree_btt_pieces_encode(p, 2, 4, id, bytes);
    CHECK_RC(tree_btt_pieces_decode(&in, got), ERR_bad_value);
}

/* ---- the table against a model ---- */

#define BLOCKS 2000u
struct model {
    struct tree_btt_entry live[BLOCKS], frozen[BLOCKS];
    uint64_t next;
};

static void check_table(const struct tree_btt *t, const struct tree_btt_entry *expected)
{
    for (uint64_t b = 0; b < BLOCKS; b++) {
        struct tree_btt_entry e;
        tree_btt_get(t, b, &e);
        if (e.kind == TREE_BTT_FREE) {
            e = (struct tree_btt_entry){0}; /* the model does not know the chain */
        }
        check_entries(&e, &expected[b]);
    }
}

static uint64_t table_new_block(struct tree_btt *t, struct model *m, bool fresh)
{
    CHECK_OK(tree_btt_extend(t, tree_btt_next_block(t)));
    CHECK_OK(tree_btt_reserve(t, 1));
    uint64_t b = tree_btt_alloc(t, fresh, 1, 9);
    tree_btt_unreserve(t, 1);
    CHECK_TRUE(b < BLOCKS && m->live[b].kind == TREE_BTT_VOID);
    m->live[b] = (struct tree_btt_entry){.kind = TREE_BTT_NODE, .level = 1, .birth = 9};
    m->next = base_max(m->next, b + 1);
    return b;
}

static void table_change(struct tree_btt *t, struct model *m, struct rand *r)
{
    uint64_t b = rand_range(r, 1, m->next - 1);
    if (m->next < BLOCKS - 1 && rand_chance(r, 1, 3)) {
        (void)table_new_block(t, m, rand_chance(r, 1, 4));
        return;
    }
    if (m->live[b].kind == TREE_BTT_VOID) {
        return;
    }
    CHECK_OK(tree_btt_reserve(t, 1));
    if (rand_chance(r, 1, 4)) {
        tree_btt_release(t, b);
        m->live[b] = (struct tree_btt_entry){0};
    } else {
        m->live[b].units = 3;
        m->live[b].unit = rand_range(r, 1, 1000000);
        tree_btt_put(t, b, &m->live[b]);
    }
    tree_btt_unreserve(t, 1);
}

TEST(btt_frozen_stays_as_it_was)
{
    struct rand r;
    CLEANUP(mem_freep) struct model *m = mem_zalloc(sizeof *m);
    CLEANUP(tree_btt_freep) struct tree_btt *t = NULL;
    rand_seed(&r, testing_seed());
    CHECK_OK(tree_btt_new(&t));
    (void)table_new_block(t, m, false);
    for (unsigned round = 0; round < 6; round++) {
        struct tree_btt *frozen = NULL;
        CHECK_OK(tree_btt_freeze(t, &frozen));
        memcpy(m->frozen, m->live, sizeof m->live);
        CHECK_EQ(tree_btt_dirty(t, 0), TREE_BTT_NO_PAGE);
        for (unsigned i = 0; i < 500; i++) {
            table_change(t, m, &r);
        }
        check_table(frozen, m->frozen);
        check_table(t, m->live);
        uint64_t first = tree_btt_dirty(frozen, 0);
        tree_btt_abandon(t, frozen); /* what was dirty in either */
        CHECK_TRUE(tree_btt_dirty(t, 0) <= first);
        check_table(t, m->live);
    }
    CHECK_OK(tree_btt_adopt(t, false, NULL));
}

/* A freeze between the reservation and the change: both tables change without new memory. */
TEST(btt_changes_need_no_memory_when_reserved)
{
    CLEANUP(mem_freep) struct model *m = mem_zalloc(sizeof *m);
    CLEANUP(tree_btt_freep) struct tree_btt *t = NULL;
    CHECK_OK(tree_btt_new(&t));
    uint64_t a = table_new_block(t, m, false), b = 0;
    while (b < 200) { /* on another page */
        b = table_new_block(t, m, false);
    }
    CLEANUP(tree_btt_freep) struct tree_btt *frozen = NULL;
    CHECK_OK(tree_btt_reserve(t, 2));
    CHECK_OK(tree_btt_freeze(t, &frozen));
    memcpy(m->frozen, m->live, sizeof m->live);
    uint64_t before = mem_count();
    m->live[a].units = 1;
    m->live[a].unit = 7;
    m->frozen[a] = m->live[a];
    m->live[b] = m->live[a];
    m->frozen[b] = m->live[a];
    tree_btt_put(frozen, a, &m->frozen[a]);
    tree_btt_put(t, a, &m->live[a]);
    tree_btt_put(t, b, &m->live[b]);
    tree_btt_put(frozen, b, &m->frozen[b]);
    CHECK_EQ(mem_count(), before);
    tree_btt_unreserve(t, 2);
    check_table(t, m->live);
    check_table(frozen, m->frozen);
}

TEST(btt_gives_free_numbers_again)
{
    CLEANUP(mem_freep) struct model *m = mem_zalloc(sizeof *m);
    CLEANUP(tree_btt_freep) struct tree_btt *t = NULL;
    CHECK_OK(tree_btt_new(&t));
    for (uint64_t i = 1; i <= 300; i++) {
        CHECK_EQ(table_new_block(t, m, false), i);
    }
    CHECK_OK(tree_btt_reserve(t, 2));
    tree_btt_release(t, 200);
    tree_btt_release(t, 5);
    tree_btt_unreserve(t, 2);
    m->live[200] = m->live[5] = (struct tree_btt_entry){0};
    CHECK_EQ(table_new_block(t, m, true), 301);
    CHECK_EQ(table_new_block(t, m, false), 5);
    CHECK_EQ(table_new_block(t, m, false), 200);
    CHECK_EQ(table_new_block(t, m, false), 302);
}

/* ---- loading ---- */

/* Through the bytes into another table. */
static int reload(const struct tree_btt *t, struct tree_btt **ret, struct err *e)
{
    struct tree_btt_index x;
    struct tree_btt *into = NULL;
    uint8_t page[TREE_BTT_PAGE_BYTES];
    tree_btt_describe(t, &x);
    int rc = tree_btt_new(&into);
    rc = rc < 0 ? rc : tree_btt_load(into, &x);
    for (uint64_t i = 0; i < x.page_count && rc == 0; i++) {
        uint64_t sum = tree_btt_page(t, i, id, page);
        CHECK_OK(tree_btt_page_check(page, id, i, sum));
        rc = tree_btt_load_page(into, i, page);
    }
    rc = rc < 0 ? rc : tree_btt_adopt(into, true, e);
    if (rc < 0) {
        tree_btt_free(into);
        return rc;
    }
    *ret = into;
    return 0;
}

static void put(struct tree_btt *t, uint64_t block, struct tree_btt_entry e)
{
    CHECK_OK(tree_btt_extend(t, block));
    CHECK_OK(tree_btt_reserve(t, 1));
    tree_btt_put(t, block, &e);
    tree_btt_unreserve(t, 1);
}

static struct tree_btt_entry node(uint64_t unit, uint64_t link, unsigned count)
{
    return (struct tree_btt_entry){.kind = TREE_BTT_NODE,
                                   .units = 1,
                                   .unit = unit,
                                   .birth = 1,
                                   .link = link,
                                   .segment_count = (uint8_t)count};
}

static struct tree_btt_entry segment(uint64_t unit, uint64_t link)
{
    struct tree_btt_entry e = node(unit, link, 0);
    e.kind = TREE_BTT_SEGMENT;
    return e;
}

/* 10 -> 11 -> 12, 20 -> 21; 150 is free. */
static struct tree_btt *table_example(void)
{
    struct tree_btt *t = NULL;
    CHECK_OK(tree_btt_new(&t));
    put(t, 10, node(100, 11, 2));
    put(t, 11, segment(101, 12));
    put(t, 12, segment(102, 0));
    put(t, 20, node(103, 21, 1));
    put(t, 21, segment(104, 0));
    put(t, 140, node(105, 0, 0));
    put(t, 150, node(106, 0, 0));
    CHECK_OK(tree_btt_reserve(t, 1));
    tree_btt_release(t, 150);
    tree_btt_unreserve(t, 1);
    return t;
}

TEST(btt_loads_what_was_written)
{
    CLEANUP(tree_btt_freep) struct tree_btt *t = table_example();
    CLEANUP(tree_btt_freep) struct tree_btt *got = NULL;
    struct err e = {0};
    CHECK_OK(reload(t, &got, &e));
    struct tree_btt_entry a, b;
    tree_btt_get(t, 11, &a);
    tree_btt_get(got, 11, &b);
    check_entries(&a, &b);
    /* Void numbers have joined the chain: all below 150 but 6, and 150 itself. */
    struct tree_btt_index x;
    tree_btt_describe(got, &x);
    CHECK_EQ(x.free_count, 150 - 6);
    CHECK_OK(tree_btt_adopt(got, true, &e));
}

TEST(btt_refuses_tables_that_are_not_one_whole)
{
    struct wrong {
        uint64_t block;
        struct tree_btt_entry e;
        const char *text;
    } wrong[] = {
        {21, node(104, 0, 0), "block 20: older extent 21"},
        {20, node(103, 12, 1), "block 20: older extent 12"}, /* of another */
        {20, node(103, 0, 0), "belong to nothing"},
        {10, node(100, 11, 3), "block 10: 2 older extents"},
        {12, segment(102, 11), "block 10: older extent 11"}, /* a ring */
        {150, {.kind = TREE_BTT_FREE, .link = 150}, "chain of free blocks"},
        {150, {.kind = TREE_BTT_FREE, .link = 9999}, "chain of free blocks"},
        {149, {.kind = TREE_BTT_FREE}, "belong to nothing"},
        {150, node(106, 0, 0), "chain of free blocks"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        CLEANUP(tree_btt_freep) struct tree_btt *t = table_example();
        struct tree_btt *got = NULL;
        struct err e = {0};
        put(t, wrong[i].block, wrong[i].e);
        CHECK_RC(reload(t, &got, &e), ERR_corrupt);
        CHECK_TRUE(strstr(e.text, wrong[i].text) != NULL);
    }
}

TEST_TORTURE(btt_survives_without_memory)
{
    CLEANUP(tree_btt_freep) struct tree_btt *t = NULL;
    CLEANUP(tree_btt_freep) struct tree_btt *frozen = NULL;
    CLEANUP(tree_btt_freep) struct tree_btt *got = NULL;
    TRY(tree_btt_new(&t));
    for (uint64_t i = 1; i < 70000; i += 9000) { /* two chunks */
        TRY(tree_btt_extend(t, i));
        TRY(tree_btt_reserve(t, 1));
        struct tree_btt_entry e = node(i, 0, 0);
        tree_btt_put(t, i, &e);
        tree_btt_unreserve(t, 1);
    }
    TRY(tree_btt_freeze(t, &frozen));
    TRY(tree_btt_reserve(t, 1));
    tree_btt_release(t, 9001);
    tree_btt_unreserve(t, 1);
    struct tree_btt_entry e;
    tree_btt_get(frozen, 9001, &e);
    CHECK_EQ(e.unit, 9001);
    CLEANUP(tree_btt_freep) struct tree_btt *small = NULL;
    TRY(tree_btt_new(&small));
    TRY(tree_btt_extend(small, 5));
    TRY(tree_btt_reserve(small, 1));
    e = node(7, 0, 0);
    tree_btt_put(small, 5, &e);
    tree_btt_unreserve(small, 1);
    TRY(reload(small, &got, NULL));
}
