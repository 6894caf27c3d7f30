#include "kv/image.h"

#include <lz4.h>
#include <string.h>
#include <zstd.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "wire/wire.h"

#define IMAGE_MAGIC UINT64_C(0x31474d495344464f)  /* "OFDSIMG1" */
#define FOOTER_MAGIC UINT64_C(0x31444e455344464f) /* "OFDSEND1" */
#define BLOCK_MAGIC UINT32_C(0x4b4c4249)          /* "IBLK" */
#define IMAGE_VERSION 1u
#define IMAGE_ZSTD_LEVEL 1

/* Checksums begin with whose and which part it is, so that none fits elsewhere. */
static uint32_t image_seed(const struct kv_image_info *info, uint64_t number)
{
    uint8_t seed[24];
    memcpy(seed, info->id, 16);
    wire_store_u64(seed + 16, number);
    return crc32c(0, seed, sizeof seed);
}

static bool image_is_zero(const uint8_t *at, size_t len)
{
    uint8_t any = 0;
    for (size_t i = 0; i < len; i++) {
        any |= at[i];
    }
    return any == 0;
}

/* ---- writing ---- */

int kv_image_writer_init(struct kv_image_writer *w, const struct kv_image_info *info,
                         enum kv_image_codec codec, size_t block_bytes)
{
    CHECK(block_bytes <= KV_IMAGE_BLOCK_BYTES);
    *w = (struct kv_image_writer){.info = *info,
                                  .codec = codec,
                                  .block_bytes =
                                      block_bytes == 0 ? KV_IMAGE_BLOCK_BYTES : block_bytes};
    size_t room = w->block_bytes + KV_IMAGE_RECORD_BYTES + KV_KEY_MAX + KV_VALUE_MAX;
    w->block = mem_alloc(KV_IMAGE_BLOCK_HEADER_BYTES + room);
    w->packed = codec == KV_IMAGE_PLAIN ? NULL : mem_alloc(KV_IMAGE_BLOCK_HEADER_BYTES + room);
    if (w->block == NULL || (w->packed == NULL && codec != KV_IMAGE_PLAIN)) {
        kv_image_writer_fini(w);
        return -ENOMEM;
    }
    return 0;
}

void kv_image_writer_fini(struct kv_image_writer *w)
{
    mem_free(w->block);
    mem_free(w->packed);
    w->block = NULL;
    w->packed = NULL;
}

void kv_image_header(struct kv_image_writer *w, uint8_t out[KV_IMAGE_HEADER_BYTES])
{
    struct wire_writer h = wire_writer_over(out, KV_IMAGE_HEADER_BYTES);
    memset(out, 0, KV_IMAGE_HEADER_BYTES);
    wire_write_u64(&h, IMAGE_MAGIC);
    wire_write_u32(&h, IMAGE_VERSION);
    wire_write_u32(&h, 0);
    wire_write_bytes(&h, w->info.id, sizeof w->info.id);
    wire_write_bytes(&h, w->info.owner, sizeof w->info.owner);
    wire_write_u64(&h, w->info.index);
    wire_write_u64(&h, w->info.term);
    wire_write_u64(&h, w->info.records);
    CHECK(!h.bad && h.len == 72);
    wire_store_u32(out + KV_IMAGE_HEADER_BYTES - 4, crc32c(0, out, KV_IMAGE_HEADER_BYTES - 4));
    w->file_bytes += KV_IMAGE_HEADER_BYTES;
}

bool kv_image_add(struct kv_image_writer *w, struct kv_slice key, struct kv_slice value)
{
    size_t len = KV_IMAGE_RECORD_BYTES + key.len + value.len;
    if (w->count > 0 && w->len + len > w->block_bytes) {
        return false;
    }
    CHECK(key.len > 0 && key.len <= KV_KEY_MAX && value.len <= KV_VALUE_MAX);
    uint8_t *at = w->block + KV_IMAGE_BLOCK_HEADER_BYTES + w->len;
    wire_store_u16(at, (uint16_t)key.len);
    wire_store_u32(at + 2, (uint32_t)value.len);
    memcpy(at + KV_IMAGE_RECORD_BYTES, key.at, key.len);
    if (value.len > 0) {
        memcpy(at + KV_IMAGE_RECORD_BYTES + key.len, value.at, value.len);
    }
    w->len += len;
    w->count++;
    return true;
}

/* Bytes of the packed block, 0 when it would not become smaller. */
static size_t image_pack(const struct kv_image_writer *w)
{
    const uint8_t *from = w->block + KV_IMAGE_BLOCK_HEADER_BYTES;
    uint8_t *to = w->packed == NULL ? NULL : w->packed + KV_IMAGE_BLOCK_HEADER_BYTES;
    if (w->codec == KV_IMAGE_LZ4) {
        int len = LZ4_compress_default((const char *)from, (char *)to, (int)w->len, (int)w->len);
        return len > 0 ? (size_t)len : 0;
    }
    if (w->codec == KV_IMAGE_ZSTD) {
        size_t len = ZSTD_compress(to, w->len, from, w->len, IMAGE_ZSTD_LEVEL);
        return ZSTD_isError(len) ? 0 : len;
    }
    return 0;
}

struct kv_slice kv_image_block(struct kv_image_writer *w)
{
    CHECK(w->count > 0);
    size_t packed = image_pack(w);
    uint8_t *block = packed > 0 ? w->packed : w->block;
    size_t stored = packed > 0 ? packed : w->len;
    struct wire_writer h = wire_writer_over(block, KV_IMAGE_BLOCK_HEADER_BYTES);
    wire_write_u32(&h, BLOCK_MAGIC);
    wire_write_u32(&h, 0); /* the checksum */
    wire_write_u64(&h, w->blocks);
    wire_write_u64(&h, w->records);
    wire_write_u32(&h, (uint32_t)stored);
    wire_write_u32(&h, (uint32_t)w->len);
    wire_write_u32(&h, w->count);
    wire_write_u8(&h, (uint8_t)(packed > 0 ? w->codec : KV_IMAGE_PLAIN));
    memset(block + h.len, 0, KV_IMAGE_BLOCK_HEADER_BYTES - h.len);
    size_t len = KV_IMAGE_BLOCK_HEADER_BYTES + stored;
    uint32_t crc = crc32c(image_seed(&w->info, w->blocks), block + 8, len - 8);
    wire_store_u32(block + 4, crc);
    w->chain = crc32c(w->chain, block + 4, 4);
    w->blocks++;
    w->records += w->count;
    w->bytes += w->len;
    w->file_bytes += len;
    w->count = 0;
    w->len = 0;
    return kv_slice_of(block, len);
}

void kv_image_footer(struct kv_image_writer *w, uint8_t out[KV_IMAGE_FOOTER_BYTES])
{
    CHECK(w->count == 0);
    struct wire_writer f = wire_writer_over(out, KV_IMAGE_FOOTER_BYTES);
    w->file_bytes += KV_IMAGE_FOOTER_BYTES;
    memset(out, 0, KV_IMAGE_FOOTER_BYTES);
    wire_write_u64(&f, FOOTER_MAGIC);
    wire_write_u64(&f, w->blocks);
    wire_write_u64(&f, w->records);
    wire_write_u64(&f, w->bytes);
    wire_write_u64(&f, w->file_bytes);
    wire_write_u32(&f, w->chain);
    CHECK(!f.bad && f.len == 44);
    wire_store_u32(out + KV_IMAGE_FOOTER_BYTES - 4,
                   crc32c(image_seed(&w->info, UINT64_MAX), out, KV_IMAGE_FOOTER_BYTES - 4));
}

/* ---- reading ---- */

int kv_image_reader_init(struct kv_image_reader *r, const uint8_t header[KV_IMAGE_HEADER_BYTES])
{
    struct wire_reader h = wire_reader_over(header, KV_IMAGE_HEADER_BYTES);
    *r = (struct kv_image_reader){0};
    uint64_t magic = wire_read_u64(&h);
    uint32_t version = wire_read_u32(&h), flags = wire_read_u32(&h);
    if (magic != IMAGE_MAGIC) {
        return -ERR_bad_magic;
    }
    if (wire_load_u32(header + KV_IMAGE_HEADER_BYTES - 4) !=
        crc32c(0, header, KV_IMAGE_HEADER_BYTES - 4)) {
        return -ERR_bad_crc;
    }
    if (version != IMAGE_VERSION || flags != 0) {
        return -ERR_bad_version;
    }
    memcpy(r->info.id, wire_read_bytes(&h, 16), 16);
    memcpy(r->info.owner, wire_read_bytes(&h, 16), 16);
    r->info.index = wire_read_u64(&h);
    r->info.term = wire_read_u64(&h);
    r->info.records = wire_read_u64(&h);
    r->offset = KV_IMAGE_HEADER_BYTES;
    return image_is_zero(h.at, h.left - 4) ? 0 : -ERR_bad_value;
}

void kv_image_reader_fini(struct kv_image_reader *r)
{
    mem_free(r->raw);
    r->raw = NULL;
}

struct image_head {
    uint32_t magic, crc, stored, raw, count;
    uint64_t number, before;
    uint8_t codec;
    bool sound;
};

static struct image_head image_head(const uint8_t *head)
{
    struct wire_reader h = wire_reader_over(head, KV_IMAGE_BLOCK_HEADER_BYTES);
    struct image_head ret = {.magic = wire_read_u32(&h), .crc = wire_read_u32(&h)};
    ret.number = wire_read_u64(&h);
    ret.before = wire_read_u64(&h);
    ret.stored = wire_read_u32(&h);
    ret.raw = wire_read_u32(&h);
    ret.count = wire_read_u32(&h);
    ret.codec = wire_read_u8(&h);
    ret.sound = image_is_zero(h.at, h.left);
    return ret;
}

int kv_image_block_size(const struct kv_image_reader *r,
                        const uint8_t head[KV_IMAGE_BLOCK_HEADER_BYTES], size_t *ret)
{
    struct image_head h = image_head(head);
    if (h.magic != BLOCK_MAGIC) {
        return -ERR_bad_magic;
    }
    if (h.stored == 0 || h.raw > KV_IMAGE_BLOCK_MAX || h.stored > h.raw ||
        h.count > h.raw / (KV_IMAGE_RECORD_BYTES + 1)) {
        return -ERR_bad_length;
    }
    if (h.number != r->blocks || h.before != r->records || h.count == 0 || !h.sound ||
        h.codec > KV_IMAGE_ZSTD || (h.codec == KV_IMAGE_PLAIN && h.stored != h.raw)) {
        return -ERR_bad_value;
    }
    *ret = h.stored;
    return 0;
}

static int image_unpack(struct kv_image_reader *r, const struct image_head *h, const uint8_t *from)
{
    if (h->codec == KV_IMAGE_PLAIN) {
        r->at = from;
        return 0;
    }
    if (r->raw == NULL) {
        r->raw = mem_alloc(KV_IMAGE_BLOCK_MAX);
    }
    if (r->raw == NULL) {
        return -ENOMEM;
    }
    bool good = false;
    if (h->codec == KV_IMAGE_LZ4) {
        int len =
            LZ4_decompress_safe((const char *)from, (char *)r->raw, (int)h->stored, (int)h->raw);
        good = len >= 0 && (uint32_t)len == h->raw;
    } else {
        good = ZSTD_decompress(r->raw, h->raw, from, h->stored) == h->raw;
    }
    r->at = r->raw;
    return good ? 0 : -ERR_bad_value;
}

int kv_image_block_open(struct kv_image_reader *r, const uint8_t *block, size_t len)
{
    size_t stored = 0;
    CHECK(r->count == 0 && len >= KV_IMAGE_BLOCK_HEADER_BYTES);
    CHECK(r->last.len == 0 || r->last.at == r->last_key);
    int rc = kv_image_block_size(r, block, &stored);
    if (rc < 0) {
        return rc;
    }
    if (len != KV_IMAGE_BLOCK_HEADER_BYTES + stored) {
        return -ERR_bad_length;
    }
    struct image_head h = image_head(block);
    if (h.crc != crc32c(image_seed(&r->info, r->blocks), block + 8, len - 8)) {
        return -ERR_bad_crc;
    }
    rc = image_unpack(r, &h, block + KV_IMAGE_BLOCK_HEADER_BYTES);
    if (rc < 0) {
        return rc;
    }
    r->left = h.raw;
    r->count = h.count;
    r->chain = crc32c(r->chain, block + 4, 4);
    r->blocks++;
    r->records += h.count;
    r->bytes += h.raw;
    r->offset += len;
    return 0;
}

int kv_image_next(struct kv_image_reader *r, struct kv_slice *ret_key, struct kv_slice *ret_value)
{
    if (r->count == 0) {
        if (r->last.at != r->last_key && r->last.len > 0) { /* it lies in the block */
            memcpy(r->last_key, r->last.at, r->last.len);
            r->last.at = r->last_key;
        }
        return r->left == 0 ? 0 : -ERR_bad_length;
    }
    if (r->left < KV_IMAGE_RECORD_BYTES) {
        return -ERR_short_msg;
    }
    size_t key = wire_load_u16(r->at), value = wire_load_u32(r->at + 2);
    if (key == 0 || key > KV_KEY_MAX || value > KV_VALUE_MAX) {
        return -ERR_bad_length;
    }
    size_t len = KV_IMAGE_RECORD_BYTES + key + value;
    if (r->left < len) {
        return -ERR_short_msg;
    }
    struct kv_slice k = kv_slice_of(r->at + KV_IMAGE_RECORD_BYTES, key);
    if (r->last.len > 0 && kv_slice_compare(r->last, k) >= 0) {
        return -ERR_bad_value;
    }
    *ret_key = r->last = k;
    *ret_value = kv_slice_of(r->at + KV_IMAGE_RECORD_BYTES + key, value);
    r->at += len;
    r->left -= len;
    r->count--;
    return 1;
}

int kv_image_end(const struct kv_image_reader *r, const uint8_t footer[KV_IMAGE_FOOTER_BYTES],
                 uint64_t file_bytes)
{
    struct wire_reader f = wire_reader_over(footer, KV_IMAGE_FOOTER_BYTES);
    if (wire_read_u64(&f) != FOOTER_MAGIC) {
        return -ERR_bad_magic;
    }
    if (wire_load_u32(footer + KV_IMAGE_FOOTER_BYTES - 4) !=
        crc32c(image_seed(&r->info, UINT64_MAX), footer, KV_IMAGE_FOOTER_BYTES - 4)) {
        return -ERR_bad_crc;
    }
    bool all = wire_read_u64(&f) == r->blocks;
    all = wire_read_u64(&f) == r->records && all;
    all = wire_read_u64(&f) == r->bytes && all;
    all = wire_read_u64(&f) == file_bytes && all;
    all = file_bytes == r->offset + KV_IMAGE_FOOTER_BYTES && all;
    all = wire_read_u32(&f) == r->chain && all;
    all = image_is_zero(f.at, f.left - 4) && all;
    all = (r->info.records == 0 || r->info.records == r->records) && all;
    return all && r->count == 0 ? 0 : -ERR_bad_value;
}
