/*
 * tree/btt_fuzz.c -- the translation table from arbitrary bytes: pages, index and list raw and with
 * their checksums made good; and tables of sound entries with arbitrary links, which must be
 * refused or be one whole.
 */
#include "base/mem.h"
#include "tree/btt.h"
#include "wire/wire.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TABLE_PAGES 3u
static const uint8_t fuzz_id[TREE_BTT_ID_BYTES] = "fuzz";

static void fuzz_page(const uint8_t *data, size_t size)
{
    uint8_t page[TREE_BTT_PAGE_BYTES] = {0};
    if (size > 0) {
        memcpy(page, data, base_min(size, sizeof page));
    }
    uint64_t claimed = wire_load_u64(page + TREE_BTT_PAGE_BYTES - 8);
    (void)!tree_btt_page_check(page, fuzz_id, 0, claimed);
    uint64_t sum = tree_btt_page_seal(page, fuzz_id, 5);
    int rc = tree_btt_page_check(page, fuzz_id, 5, sum);
    CHECK(rc == 0 || rc == -ERR_bad_value);
    for (unsigned i = 0; i < TREE_BTT_PAGE_ENTRIES && rc == 0; i++) {
        struct tree_btt_entry e;
        uint8_t again[TREE_BTT_ENTRY_BYTES];
        CHECK(tree_btt_page_entry(page, i, &e) == 0);
        tree_btt_entry_encode(&e, again);
        CHECK(memcmp(again, page + 16 + (size_t)i * sizeof again, sizeof again) == 0);
    }
}

static void fuzz_index(const uint8_t *data, size_t size)
{
    struct tree_btt_index got;
    uint64_t claimed = size < 8 ? 0 : wire_load_u64(data + size - 8);
    if (tree_btt_index_decode(data, size, fuzz_id, claimed, &got) == 0) {
        mem_free(got.place);
    }
    struct wire_reader r = wire_reader_over(data, size);
    struct tree_btt_place place[4];
    struct tree_btt_index x = {.place = place};
    uint8_t bytes[256];
    x.page_count = wire_read_u8(&r) % 5;
    x.checkpoint = wire_read_u8(&r);
    x.next_block = wire_read_u16(&r);
    x.free_head = wire_read_u16(&r);
    x.free_count = wire_read_u16(&r);
    for (size_t i = 0; i < ARRAY_COUNT(place); i++) {
        place[i].offset = wire_read_u16(&r) * UINT64_C(2048);
        place[i].checksum = wire_read_u8(&r);
        place[i].birth = wire_read_u8(&r);
    }
    uint64_t sum = tree_btt_index_encode(&x, fuzz_id, bytes);
    int rc = tree_btt_index_decode(bytes, tree_btt_index_bytes(x.page_count), fuzz_id, sum, &got);
    CHECK(rc == 0 || rc == -ERR_bad_value);
    if (rc == 0) {
        CHECK(got.next_block == x.next_block && got.page_count == x.page_count);
        mem_free(got.place);
    }
}

static void fuzz_pieces(const uint8_t *data, size_t size)
{
    struct tree_btt_piece p[4] = {0}, got[4];
    struct tree_btt_pieces_in in = {
        .bytes = data, .file_id = fuzz_id, .len = size, .checkpoint = 7};
    uint8_t bytes[256];
    in.count = size % 5;
    in.expected = size < 8 ? 0 : wire_load_u64(data + size - 8);
    (void)!tree_btt_pieces_decode(&in, got);
    if (size > 0) {
        memcpy(p, data, base_min(size, sizeof p));
    }
    in.expected = tree_btt_pieces_encode(p, in.count, 7, fuzz_id, bytes);
    in.bytes = bytes;
    in.len = tree_btt_pieces_bytes(in.count);
    int rc = tree_btt_pieces_decode(&in, got);
    CHECK(rc == 0 || rc == -ERR_bad_value);
    CHECK(rc < 0 || memcmp(got, p, in.count * sizeof *p) == 0);
}

/* Three bytes for an entry: what it is, and where it leads. */
static struct tree_btt_entry fuzz_entry(struct wire_reader *r)
{
    uint8_t what = wire_read_u8(r);
    struct tree_btt_entry e = {.kind = (enum tree_btt_kind)(what & 3u),
                               .link = wire_read_u16(r) % 400u};
    if (e.kind == TREE_BTT_VOID) {
        e.link = 0;
    } else if (e.kind != TREE_BTT_FREE) {
        e.units = 1;
        e.unit = 9;
        e.birth = 1;
        e.segment_count = e.kind == TREE_BTT_NODE && e.link != 0 ? 1u + (what >> 2) % 4u : 0;
    }
    return e;
}

static int fuzz_fill(struct tree_btt *t, struct wire_reader *r)
{
    int rc = 0;
    for (uint64_t no = 0; no < TABLE_PAGES && rc == 0; no++) {
        uint8_t page[TREE_BTT_PAGE_BYTES] = {0};
        for (size_t i = 0; i < TREE_BTT_PAGE_ENTRIES; i++) {
            struct tree_btt_entry e = fuzz_entry(r);
            tree_btt_entry_encode(&e, page + 16 + i * TREE_BTT_ENTRY_BYTES);
        }
        rc = tree_btt_load_page(t, no, page);
    }
    return rc;
}

static void fuzz_table(const uint8_t *data, size_t size)
{
    struct wire_reader r = wire_reader_over(data, size);
    struct tree_btt_index x = {.page_count = TABLE_PAGES};
    CLEANUP(tree_btt_freep) struct tree_btt *t = NULL;
    x.next_block = 2 * TREE_BTT_PAGE_ENTRIES + 1 + wire_read_u8(&r) % TREE_BTT_PAGE_ENTRIES;
    x.free_head = wire_read_u16(&r) % 400u;
    x.free_count = wire_read_u8(&r);
    int rc = tree_btt_new(&t);
    rc = rc < 0 ? rc : tree_btt_load(t, &x);
    rc = rc < 0 ? rc : fuzz_fill(t, &r);
    rc = rc < 0 ? rc : tree_btt_adopt(t, true, NULL);
    CHECK(rc == 0 || rc == -ERR_corrupt || rc == -ENOMEM);
    if (rc == 0) { /* and it stays one whole when it is used */
        CHECK(tree_btt_extend(t, tree_btt_next_block(t)) == 0 && tree_btt_reserve(t, 1) == 0);
        (void)tree_btt_alloc(t, false, 0, 2);
        tree_btt_unreserve(t, 1);
        CHECK(tree_btt_adopt(t, false, NULL) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_page(data, size);
    fuzz_index(data, size);
    fuzz_pieces(data, size);
    fuzz_table(data, size);
    return 0;
}
