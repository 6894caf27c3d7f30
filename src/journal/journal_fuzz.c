/*
 * journal/journal_fuzz.c -- the reader of segments over arbitrary bytes: raw ones, and ones whose
 * checksums are made good so that what lies behind them is reached.
 */
#include "base/crc32c.h"
#include "base/mem.h"
#include "journal/journal_scan.h"
#include "wire/wire.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_source {
    struct journal_source base;
    const uint8_t *bytes;
    size_t size;
};

static int64_t fuzz_read(struct journal_source *base, uint64_t offset, void *to, size_t len)
{
    struct fuzz_source *s = container_of(base, struct fuzz_source, base);
    size_t at = (size_t)base_min(offset, s->size);
    size_t n = (size_t)base_min(len, s->size - at);
    if (n > 0) {
        memcpy(to, s->bytes + at, n);
    }
    return (int64_t)n;
}

struct fuzz_user {
    struct journal_user base;
    const struct journal_batch *batch;
    uint64_t seen_bytes;
};

static int fuzz_record(struct journal_user *u, const struct journal_record *r)
{
    struct fuzz_user *f = container_of(u, struct fuzz_user, base);
    CHECK(r->index > 0 && r->len <= JOURNAL_BODY_MAX);
    for (size_t i = 0; i < r->len; i++) {
        f->seen_bytes += r->bytes[i]; /* the sanitizer checks that all of it is there */
    }
    return 0;
}

static int fuzz_cut(struct journal_user *u, uint64_t index)
{
    (void)u;
    CHECK(index > 0);
    return 0;
}

static void fuzz_failed(struct journal_user *u, int rc, const char *reason)
{
    (void)u;
    (void)rc;
    (void)reason;
    CHECK(false); /* nothing here can fail in the background */
}

static const struct journal_user_ops fuzz_ops = {
    .record = fuzz_record, .cut = fuzz_cut, .failed = fuzz_failed};

static void fuzz_read_all(const uint8_t *bytes, size_t size)
{
    struct fuzz_source source = {.base.read = fuzz_read, .bytes = bytes, .size = size};
    struct fuzz_user user = {.base.ops = &fuzz_ops};
    struct journal_scan scan;
    struct journal_chain chain = {.index = 1};
    if (journal_scan_begin(&scan, &source.base) == 0) {
        struct journal_batch b;
        const uint8_t *body = NULL;
        uint64_t last = 0;
        while (journal_scan_next(&scan, &chain, &b, &body) == 1) {
            CHECK(last == 0 || b.sequence == last + 1);
            last = b.sequence;
            CHECK(journal_scan_deliver(&b, body, &user.base) <= 0);
        }
        uint64_t claimed = 0;
        CHECK(journal_scan_claims(&scan, &claimed) == 0);
    }
    journal_scan_end(&scan);
}

/* Puts a valid header in front and good magic numbers, chain and checksums into the batches. */
static void fuzz_repair(uint8_t *bytes, size_t size)
{
    struct journal_header h = {.number = 1, .nonce = 7, .size_bytes = size};
    journal_header_encode(&h, bytes);
    uint32_t previous = 0;
    uint64_t sequence = 0;
    size_t at = JOURNAL_DATA_OFFSET;
    while (size - at >= JOURNAL_BATCH_BYTES) {
        uint8_t *b = bytes + at;
        uint32_t body_len = wire_load_u32(b + 8);
        if (body_len > size - at - JOURNAL_BATCH_BYTES) {
            body_len = 0;
        }
        wire_store_u32(b, JOURNAL_BATCH_MAGIC);
        wire_store_u32(b + 8, body_len);
        wire_store_u64(b + 16, ++sequence);
        wire_store_u32(b + 40, crc32c(0, b + JOURNAL_BATCH_BYTES, body_len));
        wire_store_u32(b + 44, previous);
        uint8_t place[8];
        wire_store_u64(place, at);
        previous = crc32c(crc32c(h.crc, place, sizeof place), b + 8, JOURNAL_BATCH_BYTES - 8);
        wire_store_u32(b + 4, previous);
        at += JOURNAL_BATCH_BYTES + body_len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_read_all(data, size);
    uint8_t *bytes = mem_zalloc(JOURNAL_DATA_OFFSET + size);
    if (bytes == NULL) {
        return 0;
    }
    if (size > 0) {
        memcpy(bytes + JOURNAL_DATA_OFFSET, data, size);
    }
    fuzz_repair(bytes, JOURNAL_DATA_OFFSET + size);
    fuzz_read_all(bytes, JOURNAL_DATA_OFFSET + size);
    mem_free(bytes);
    return 0;
}
