#include "kv/frame.h"

#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

#include "wire/wire.h"

#define FRAME_MAGIC 0x5453564bu  /* "KVST" */
#define CURSOR_MAGIC 0x4353564bu /* "KVSC" */
#define FRAME_VERSION 1u
#define FRAME_LAST 1u /* flag */
#define FRAME_SUM_AT 88u
#define CURSOR_SUM_AT 56u

static void place_write(struct wire_writer *w, const struct kv_place *p)
{
    wire_write_u32(w, p->kind);
    wire_write_u32(w, p->part);
    wire_write_u64(w, p->item);
    wire_write_u64(w, p->offset);
}

static void place_read(struct wire_reader *r, struct kv_place *p)
{
    p->kind = wire_read_u32(r);
    p->part = wire_read_u32(r);
    p->item = wire_read_u64(r);
    p->offset = wire_read_u64(r);
}

static bool place_same(const struct kv_place *a, const struct kv_place *b)
{
    return a->kind == b->kind && a->part == b->part && a->item == b->item && a->offset == b->offset;
}

/* ---- cursors ---- */

void kv_cursor_encode(const struct kv_cursor *c, uint8_t out[KV_CURSOR_BYTES])
{
    struct wire_writer w = wire_writer_over(out, KV_CURSOR_BYTES);
    wire_write_u32(&w, CURSOR_MAGIC);
    wire_write_u32(&w, FRAME_VERSION);
    wire_write_u64(&w, c->stream);
    wire_write_u64(&w, c->number);
    wire_write_u64(&w, c->chain);
    place_write(&w, &c->place);
    CHECK(w.len == CURSOR_SUM_AT);
    wire_write_u64(&w, XXH3_64bits(out, CURSOR_SUM_AT));
    CHECK(!w.bad && w.len == KV_CURSOR_BYTES);
}

int kv_cursor_decode(const uint8_t in[KV_CURSOR_BYTES], struct kv_cursor *ret)
{
    struct wire_reader r = wire_reader_over(in, KV_CURSOR_BYTES);
    struct kv_cursor c = {0};
    if (wire_read_u32(&r) != CURSOR_MAGIC) {
        return -ERR_bad_magic;
    }
    if (wire_load_u64(in + CURSOR_SUM_AT) != XXH3_64bits(in, CURSOR_SUM_AT)) {
        return -ERR_bad_crc;
    }
    if (wire_read_u32(&r) != FRAME_VERSION) {
        return -ERR_bad_version;
    }
    c.stream = wire_read_u64(&r);
    c.number = wire_read_u64(&r);
    c.chain = wire_read_u64(&r);
    place_read(&r, &c.place);
    *ret = c;
    return 0;
}

/* ---- frames ---- */

/* Of everything but itself. */
static uint64_t frame_sum(const uint8_t *frame, size_t payload_len)
{
    return XXH3_64bits_withSeed(frame + KV_FRAME_HEADER_BYTES, payload_len,
                                XXH3_64bits(frame, FRAME_SUM_AT));
}

static uint64_t frame_chain(uint64_t chain, uint64_t sum)
{
    uint8_t bytes[8];
    wire_store_u64(bytes, sum);
    return XXH3_64bits_withSeed(bytes, sizeof bytes, chain);
}

static void frame_after(struct kv_frame *f, uint64_t sum)
{
    f->next.stream = f->at.stream;
    f->next.number = f->at.number + 1;
    f->next.chain = frame_chain(f->at.chain, sum);
}

size_t kv_frame_seal(struct kv_frame *f, uint8_t *out)
{
    static const struct kv_place none = {0};
    CHECK(f->len <= KV_FRAME_PAYLOAD_MAX && f->at.stream != 0);
    CHECK(!f->last || place_same(&f->next.place, &none));
    struct wire_writer w = wire_writer_over(out, KV_FRAME_HEADER_BYTES);
    wire_write_u32(&w, FRAME_MAGIC);
    wire_write_u16(&w, FRAME_VERSION);
    wire_write_u16(&w, f->last ? FRAME_LAST : 0);
    wire_write_u64(&w, f->at.stream);
    wire_write_u64(&w, f->at.number);
    wire_write_u64(&w, f->at.chain);
    place_write(&w, &f->at.place);
    place_write(&w, &f->next.place);
    wire_write_u32(&w, (uint32_t)f->len);
    wire_write_u32(&w, 0);
    CHECK(w.len == FRAME_SUM_AT);
    uint64_t sum = frame_sum(out, f->len);
    wire_write_u64(&w, sum);
    CHECK(!w.bad && w.len == KV_FRAME_HEADER_BYTES);
    f->payload = out + KV_FRAME_HEADER_BYTES;
    frame_after(f, sum);
    return KV_FRAME_HEADER_BYTES + f->len;
}

/* Is the frame, which is sound, the one that is expected? */
static int frame_fits(const struct kv_cursor *at, const struct kv_frame *f, struct err *e)
{
    static const struct kv_place none = {0};
    if (at->stream != 0 && f->at.stream != at->stream) {
        return err_set(e, -ESTALE,
                       "frame %" PRIu64 " is of stream %016" PRIx64 ", and not of %016" PRIx64,
                       f->at.number, f->at.stream, at->stream);
    }
    if (f->at.number != at->number) {
        return err_set(e, -ERR_bad_value, "frame %" PRIu64 " came %s, %" PRIu64 " is expected",
                       f->at.number, f->at.number < at->number ? "again" : "too early", at->number);
    }
    if (f->at.chain != at->chain || !place_same(&f->at.place, &at->place)) {
        return err_set(e, -ERR_bad_value,
                       "frame %" PRIu64 " does not continue the frames before it", f->at.number);
    }
    return f->at.stream != 0 && (!f->last || place_same(&f->next.place, &none))
               ? 0
               : err_set(e, -ERR_bad_value, "frame %" PRIu64, f->at.number);
}

/* What a damaged frame says of itself is no use to anyone. */
static int frame_wrong(const struct kv_cursor *at, int rc, struct err *e)
{
    return err_set(e, rc, "where frame %" PRIu64 " is expected", at->number);
}

int kv_frame_open(const struct kv_cursor *at, const uint8_t *bytes, size_t len,
                  struct kv_frame *ret, struct err *e)
{
    struct wire_reader r = wire_reader_over(bytes, len);
    struct kv_frame f = {0};
    if (len < KV_FRAME_HEADER_BYTES) {
        return frame_wrong(at, -ERR_short_msg, e);
    }
    if (wire_read_u32(&r) != FRAME_MAGIC) {
        return frame_wrong(at, -ERR_bad_magic, e);
    }
    uint16_t version = wire_read_u16(&r), flags = wire_read_u16(&r);
    if (version != FRAME_VERSION) {
        return frame_wrong(at, -ERR_bad_version, e);
    }
    f.at.stream = wire_read_u64(&r);
    f.at.number = wire_read_u64(&r);
    f.at.chain = wire_read_u64(&r);
    place_read(&r, &f.at.place);
    place_read(&r, &f.next.place);
    f.len = wire_read_u32(&r);
    uint32_t zero = wire_read_u32(&r);
    uint64_t sum = wire_read_u64(&r);
    if (f.len > KV_FRAME_PAYLOAD_MAX || f.len != r.left) {
        return frame_wrong(at, f.len > r.left ? -ERR_short_msg : -ERR_bad_length, e);
    }
    if (frame_sum(bytes, f.len) != sum) {
        return frame_wrong(at, -ERR_bad_crc, e);
    }
    if (zero != 0 || (flags & ~FRAME_LAST) != 0) {
        return frame_wrong(at, -ERR_bad_value, e);
    }
    f.last = (flags & FRAME_LAST) != 0;
    f.payload = r.at;
    int rc = frame_fits(at, &f, e);
    if (rc == 0) {
        frame_after(&f, sum);
        *ret = f;
    }
    return rc;
}
