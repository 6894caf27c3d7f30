/* journal/journal_format.c -- see journal_format.h. */
#include "journal/journal_format.h"

#include "base/crc32c.h"
#include "wire/wire.h"

_Static_assert(JOURNAL_HEADER_BYTES == 64, "disk layout");
_Static_assert(JOURNAL_BATCH_BYTES == 56, "disk layout");

void journal_header_encode(struct journal_header *h, uint8_t out[JOURNAL_HEADER_BYTES])
{
    struct wire_writer w = wire_writer_over(out, JOURNAL_HEADER_BYTES);
    wire_write_u64(&w, JOURNAL_MAGIC);
    wire_write_u32(&w, JOURNAL_VERSION);
    wire_write_u32(&w, 0);
    wire_write_bytes(&w, h->owner, sizeof h->owner);
    wire_write_u64(&w, h->number);
    wire_write_u64(&w, h->nonce);
    wire_write_u64(&w, h->size_bytes);
    wire_write_u32(&w, 0);
    h->crc = crc32c(0, out, w.len);
    wire_write_u32(&w, h->crc);
    CHECK(!w.bad && w.len == JOURNAL_HEADER_BYTES);
}

int journal_header_decode(const uint8_t in[JOURNAL_HEADER_BYTES], struct journal_header *ret)
{
    struct wire_reader r = wire_reader_over(in, JOURNAL_HEADER_BYTES);
    if (wire_read_u64(&r) != JOURNAL_MAGIC) {
        return -ERR_bad_magic;
    }
    if (wire_load_u32(in + 60) != crc32c(0, in, 60)) {
        return -ERR_bad_crc;
    }
    if (wire_read_u32(&r) != JOURNAL_VERSION) {
        return -ERR_bad_version;
    }
    (void)wire_read_u32(&r);
    memcpy(ret->owner, wire_read_bytes(&r, sizeof ret->owner), sizeof ret->owner);
    ret->number = wire_read_u64(&r);
    ret->nonce = wire_read_u64(&r);
    ret->size_bytes = wire_read_u64(&r);
    ret->crc = wire_load_u32(in + 60);
    return 0;
}

/* The place is part of the checksum, so that a batch copied elsewhere (also inside a payload) is
 * none. */
static uint32_t batch_crc(const uint8_t bytes[JOURNAL_BATCH_BYTES], uint32_t segment_crc,
                          uint64_t offset)
{
    uint8_t place[8];
    wire_store_u64(place, offset);
    return crc32c(crc32c(segment_crc, place, sizeof place), bytes + 8, JOURNAL_BATCH_BYTES - 8);
}

void journal_batch_encode(struct journal_batch *b, uint32_t segment_crc, uint64_t offset,
                          uint8_t out[JOURNAL_BATCH_BYTES])
{
    struct wire_writer w = wire_writer_over(out, JOURNAL_BATCH_BYTES);
    wire_write_u32(&w, JOURNAL_BATCH_MAGIC);
    wire_write_u32(&w, 0);
    wire_write_u32(&w, b->body_len);
    wire_write_u32(&w, b->count);
    wire_write_u64(&w, b->sequence);
    wire_write_u64(&w, b->index);
    wire_write_u64(&w, b->stable_sequence);
    wire_write_u32(&w, b->body_crc);
    wire_write_u32(&w, b->previous_crc);
    wire_write_u32(&w, (uint32_t)b->kind);
    wire_write_u32(&w, 0);
    CHECK(!w.bad && w.len == JOURNAL_BATCH_BYTES);
    b->crc = batch_crc(out, segment_crc, offset);
    wire_patch_u32(&w, 4, b->crc);
}

static int batch_check(const struct journal_batch *b, uint32_t kind)
{
    bool records = kind == JOURNAL_KIND_RECORDS;
    bool known = records || kind == JOURNAL_KIND_CUT || kind == JOURNAL_KIND_SEAL;
    if (!known || b->sequence == 0 || b->index == 0 || b->stable_sequence >= b->sequence) {
        return -ERR_bad_value;
    }
    if (b->body_len > JOURNAL_BODY_MAX || b->body_len % 8 != 0 || (b->count > 0) != records ||
        b->count > b->body_len / JOURNAL_RECORD_BYTES || (!records && b->body_len != 0)) {
        return -ERR_bad_length;
    }
    return b->index > UINT64_MAX - b->count ? -ERR_bad_value : 0;
}

int journal_batch_decode(const uint8_t in[JOURNAL_BATCH_BYTES], uint32_t segment_crc,
                         uint64_t offset, struct journal_batch *ret)
{
    struct wire_reader r = wire_reader_over(in, JOURNAL_BATCH_BYTES);
    if (wire_read_u32(&r) != JOURNAL_BATCH_MAGIC) {
        return -ERR_bad_magic;
    }
    struct journal_batch b = {.crc = wire_read_u32(&r)};
    if (b.crc != batch_crc(in, segment_crc, offset)) {
        return -ERR_bad_crc;
    }
    b.body_len = wire_read_u32(&r);
    b.count = wire_read_u32(&r);
    b.sequence = wire_read_u64(&r);
    b.index = wire_read_u64(&r);
    b.stable_sequence = wire_read_u64(&r);
    b.body_crc = wire_read_u32(&r);
    b.previous_crc = wire_read_u32(&r);
    uint32_t kind = wire_read_u32(&r);
    int rc = batch_check(&b, kind);
    if (rc == 0) {
        b.kind = (enum journal_kind)kind;
        *ret = b;
    }
    return rc;
}

void journal_record_encode(size_t len, uint16_t type, uint8_t out[JOURNAL_RECORD_BYTES])
{
    wire_store_u32(out, (uint32_t)len);
    wire_store_u16(out + 4, type);
    wire_store_u16(out + 6, 0);
}

int journal_record_decode(const uint8_t **at, size_t *left, struct journal_record *ret)
{
    struct wire_reader r = wire_reader_over(*at, *left);
    uint32_t len = wire_read_u32(&r);
    uint16_t type = wire_read_u16(&r);
    uint16_t zero = wire_read_u16(&r);
    const uint8_t *bytes = r.at;
    (void)wire_read_bytes(&r, (size_t)base_align_up(len, 8));
    if (r.bad) {
        return -ERR_short_msg;
    }
    if (zero != 0) {
        return -ERR_bad_value;
    }
    ret->type = type;
    ret->bytes = bytes;
    ret->len = len;
    *at = r.at;
    *left = r.left;
    return 0;
}
