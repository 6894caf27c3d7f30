/*
 * The reader of images: the bytes as they are, and again with every checksum made right, so that
 * what lies behind them is reached. What is accepted holds what it says: keys ascend, counts agree.
 */
#include "kv/image.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "wire/wire.h"

#include <string.h>

#define FUZZ_MAX (256u << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t seed_of(const uint8_t *file, uint64_t number)
{
    uint8_t seed[24];
    memcpy(seed, file + 16, 16);
    wire_store_u64(seed + 16, number);
    return crc32c(0, seed, sizeof seed);
}

static void fix_header(uint8_t *file)
{
    wire_store_u32(file + KV_IMAGE_HEADER_BYTES - 4, crc32c(0, file, KV_IMAGE_HEADER_BYTES - 4));
}

static void fix_block(const uint8_t *file, uint8_t *block, size_t len, uint64_t number)
{
    wire_store_u32(block + 4, crc32c(seed_of(file, number), block + 8, len - 8));
}

static void fix_footer(const uint8_t *file, uint8_t *footer)
{
    uint32_t crc = crc32c(seed_of(file, UINT64_MAX), footer, KV_IMAGE_FOOTER_BYTES - 4);
    wire_store_u32(footer + KV_IMAGE_FOOTER_BYTES - 4, crc);
}

static void read_block(struct kv_image_reader *r)
{
    struct kv_slice key, value, last = {0};
    uint8_t kept[KV_KEY_MAX];
    int rc = kv_image_next(r, &key, &value);
    for (; rc == 1; rc = kv_image_next(r, &key, &value)) {
        CHECK(key.len > 0 && key.len <= KV_KEY_MAX && value.len <= KV_VALUE_MAX);
        CHECK(kv_slice_compare(last, key) < 0);
        memcpy(kept, key.at, key.len);
        last = kv_slice_of(kept, key.len);
    }
    r->count = rc < 0 ? UINT32_MAX : r->count; /* marks that it was bad */
}

static void walk(uint8_t *file, size_t size, bool fix)
{
    struct kv_image_reader r;
    size_t at = KV_IMAGE_HEADER_BYTES, stored = 0;
    if (fix) {
        fix_header(file);
    }
    if (kv_image_reader_init(&r, file) < 0) {
        return;
    }
    while (size - at >= KV_IMAGE_BLOCK_HEADER_BYTES &&
           kv_image_block_size(&r, file + at, &stored) == 0 &&
           stored <= size - at - KV_IMAGE_BLOCK_HEADER_BYTES) {
        size_t len = KV_IMAGE_BLOCK_HEADER_BYTES + stored;
        if (fix) {
            fix_block(file, file + at, len, r.blocks);
        }
        if (kv_image_block_open(&r, file + at, len) < 0) {
            break;
        }
        read_block(&r);
        if (r.count != 0) {
            break;
        }
        at += len;
    }
    if (r.count == 0 && size - at == KV_IMAGE_FOOTER_BYTES) {
        if (fix) {
            fix_footer(file, file + at);
        }
        if (kv_image_end(&r, file + at, size) == 0) {
            CHECK(r.offset == at && (r.info.records == 0 || r.info.records == r.records));
        }
    }
    kv_image_reader_fini(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < KV_IMAGE_HEADER_BYTES || size > FUZZ_MAX) {
        return 0;
    }
    uint8_t *file = mem_dup(data, size);
    CHECK(file != NULL);
    walk(file, size, false);
    walk(file, size, true);
    mem_free(file);
    return 0;
}
