/*
 * tree/stream_format_fuzz.c -- what frames hold, from arbitrary bytes: header and end raw, and a
 * header with its magic, numbers and the checksum of its superblock made good.
 */
#include "tree/stream_format.h"

#include "wire/wire.h"

#include <string.h>
#include <xxhash.h>

#define SUPER_AT (TREE_STREAM_HEADER_BYTES - TREE_SUPER_BYTES)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_header(const uint8_t *bytes, size_t len)
{
    struct tree_stream_header h;
    struct err e = {0};
    uint8_t again[TREE_STREAM_HEADER_BYTES];
    int rc = tree_stream_header_decode(bytes, len, &h, &e);
    if (rc < 0) {
        CHECK(e.code == rc);
        return;
    }
    CHECK(h.page_sent <= h.page_count && tree_stream_name(&h.super) != 0);
    tree_stream_header_encode(&h, again);
    CHECK(memcmp(again, bytes, SUPER_AT) == 0); /* the writer's format is this one's then */
}

static void fuzz_end(const uint8_t *bytes, size_t len)
{
    struct tree_stream_totals t;
    uint8_t again[TREE_STREAM_END_BYTES];
    if (tree_stream_end_decode(bytes, len, &t) == 0) {
        tree_stream_end_encode(&t, again);
        CHECK(len == sizeof again && memcmp(again, bytes, len) == 0);
    }
}

static void fuzz_repair(uint8_t *b)
{
    uint8_t *s = b + SUPER_AT;
    wire_store_u32(b, 0x48535442u); /* "BTSH" */
    wire_store_u32(b + 4, 1);
    wire_store_u64(b + 40, 0);
    wire_store_u64(s, UINT64_C(0x3176004545525442)); /* "BTREE", 0, "v1" */
    wire_store_u32(s + 8, 1);
    wire_store_u32(s + 12, 1);
    wire_store_u64(
        s + TREE_SUPER_BYTES - 8,
        XXH3_64bits_withSeed(s, TREE_SUPER_BYTES - 8, XXH3_64bits(s + 16, TREE_SUPER_ID_BYTES)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t b[TREE_STREAM_HEADER_BYTES] = {0};
    fuzz_header(data, size);
    fuzz_end(data, size);
    if (size > 0) {
        memcpy(b, data, base_min(size, sizeof b));
    }
    fuzz_repair(b);
    fuzz_header(b, sizeof b);
    wire_store_u32(b, 0x45535442u); /* "BTSE" */
    fuzz_end(b, TREE_STREAM_END_BYTES);
    return 0;
}
