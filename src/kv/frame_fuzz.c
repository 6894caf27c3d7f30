/*
 * kv/frame_fuzz.c -- frames and cursors from arbitrary bytes, raw and with magic, version, length
 * and checksum made good. What is accepted is what an encoder writes.
 */
#include "kv/frame.h"

#include <string.h>
#include <xxhash.h>

#include "wire/wire.h"

#define FUZZ_MAX 1024u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_frame(const struct kv_cursor *at, const uint8_t *bytes, size_t len)
{
    struct kv_frame f;
    struct err e = {0};
    int rc = kv_frame_open(at, bytes, len, &f, &e);
    if (rc < 0) {
        CHECK(e.code == rc);
        return;
    }
    uint8_t again[FUZZ_MAX];
    struct kv_frame copy = f;
    CHECK(f.len + KV_FRAME_HEADER_BYTES == len && len <= sizeof again);
    memcpy(again + KV_FRAME_HEADER_BYTES, f.payload, f.len);
    CHECK(kv_frame_seal(&copy, again) == len && memcmp(again, bytes, len) == 0);
    CHECK(copy.next.chain == f.next.chain && copy.next.number == f.next.number);
}

static void fuzz_cursor(const uint8_t *bytes)
{
    struct kv_cursor c;
    uint8_t again[KV_CURSOR_BYTES];
    if (kv_cursor_decode(bytes, &c) == 0) {
        kv_cursor_encode(&c, again);
        CHECK(memcmp(again, bytes, sizeof again) == 0);
    }
}

/* Where the bytes say that they are. */
static struct kv_cursor fuzz_at(const uint8_t *b)
{
    return (struct kv_cursor){.stream = wire_load_u64(b + 8),
                              .number = wire_load_u64(b + 16),
                              .chain = wire_load_u64(b + 24),
                              .place = {.kind = wire_load_u32(b + 32),
                                        .part = wire_load_u32(b + 36),
                                        .item = wire_load_u64(b + 40),
                                        .offset = wire_load_u64(b + 48)}};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kv_cursor none = {0};
    uint8_t b[FUZZ_MAX] = {0};
    size_t len = base_max(base_min(size, sizeof b), KV_FRAME_HEADER_BYTES);
    if (size > 0) {
        memcpy(b, data, base_min(size, sizeof b));
    }
    fuzz_frame(&none, b, base_min(size, sizeof b));
    fuzz_cursor(b);
    wire_store_u32(b, 0x4353564bu); /* "KVSC" */
    wire_store_u32(b + 4, 1);
    wire_store_u64(b + 56, XXH3_64bits(b, 56));
    fuzz_cursor(b);
    wire_store_u32(b, 0x5453564bu); /* "KVST" */
    wire_store_u16(b + 4, 1);
    wire_store_u32(b + 80, (uint32_t)(len - KV_FRAME_HEADER_BYTES));
    wire_store_u32(b + 84, 0);
    wire_store_u64(b + 88, XXH3_64bits_withSeed(b + KV_FRAME_HEADER_BYTES,
                                                len - KV_FRAME_HEADER_BYTES, XXH3_64bits(b, 88)));
    struct kv_cursor at = fuzz_at(b);
    fuzz_frame(&at, b, len);
    fuzz_frame(&none, b, len);
    return 0;
}
