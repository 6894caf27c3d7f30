/*
 * journal/journal_scan.c -- see journal_scan.h.
 *
 * A place that does not continue the chain ends the good part. Whether that is a torn tail or lost
 * data is for the caller to judge, with what journal_scan_claims() finds behind it.
 */
#include "journal/journal_scan.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "wire/wire.h"

#include <string.h>

#define WINDOW_BYTES (256u << 10)

int journal_scan_begin(struct journal_scan *s, struct journal_source *source)
{
    *s = (struct journal_scan){.source = source, .offset = JOURNAL_DATA_OFFSET};
    uint8_t bytes[JOURNAL_HEADER_BYTES];
    int64_t got = source->read(source, 0, bytes, sizeof bytes);
    if (got < 0) {
        return (int)got;
    }
    if (got < (int64_t)sizeof bytes) {
        return -ERR_short_msg;
    }
    return journal_header_decode(bytes, &s->header);
}

void journal_scan_end(struct journal_scan *s)
{
    mem_free(s->window);
    s->window = NULL;
}

static int window_grow(struct journal_scan *s, size_t size)
{
    if (size <= s->window_size) {
        return 0;
    }
    uint8_t *bigger = mem_aligned(64, size);
    if (bigger == NULL) {
        return -ENOMEM;
    }
    mem_free(s->window);
    s->window = bigger;
    s->window_size = size;
    s->window_len = 0;
    return 0;
}

/* Makes [offset, offset + len) visible: 1 and where, 0: the file ends before, negative. */
static int window_at(struct journal_scan *s, uint64_t offset, size_t len, const uint8_t **ret)
{
    bool inside = s->window_len > 0 && offset >= s->window_offset &&
                  offset - s->window_offset <= s->window_len &&
                  len <= s->window_len - (size_t)(offset - s->window_offset);
    if (!inside) {
        size_t want = len > WINDOW_BYTES ? len : WINDOW_BYTES;
        int rc = window_grow(s, want);
        if (rc < 0) {
            return rc;
        }
        s->window_len = 0;
        int64_t got = s->source->read(s->source, offset, s->window, s->window_size);
        if (got < 0) {
            return (int)got;
        }
        s->window_offset = offset;
        s->window_len = (size_t)got;
    }
    *ret = s->window + (offset - s->window_offset);
    return len <= s->window_len - (size_t)(offset - s->window_offset) ? 1 : 0;
}

static bool chain_fits(const struct journal_chain *c, const struct journal_batch *b)
{
    return !c->begun || (b->sequence == c->sequence + 1 && b->previous_crc == c->crc &&
                         (b->kind == JOURNAL_KIND_CUT || b->index == c->index));
}

static void chain_take(struct journal_chain *c, const struct journal_batch *b)
{
    c->begun = true;
    c->sequence = b->sequence;
    c->crc = b->crc;
    c->index = b->index + b->count;
    c->claimed = base_max(c->claimed, b->stable_sequence);
}

int journal_scan_next(struct journal_scan *s, struct journal_chain *chain,
                      struct journal_batch *ret, const uint8_t **ret_body)
{
    const uint8_t *at = NULL;
    int rc = window_at(s, s->offset, JOURNAL_BATCH_BYTES, &at);
    if (rc <= 0) {
        return rc;
    }
    struct journal_batch b;
    rc = journal_batch_decode(at, s->header.crc, s->offset, &b);
    if (rc == -ERR_bad_magic || rc == -ERR_bad_crc) {
        return 0;
    }
    if (rc < 0) {
        return rc;
    }
    if (!chain_fits(chain, &b)) {
        return 0;
    }
    rc = window_at(s, s->offset, JOURNAL_BATCH_BYTES + b.body_len, &at);
    if (rc <= 0) {
        return rc;
    }
    const uint8_t *body = at + JOURNAL_BATCH_BYTES;
    if (crc32c(0, body, b.body_len) != b.body_crc) {
        return 0;
    }
    chain_take(chain, &b);
    s->offset += JOURNAL_BATCH_BYTES + b.body_len;
    *ret = b;
    *ret_body = body;
    return 1;
}

/* Of `len` bytes that stand at `offset`; a whole batch header at each multiple of 8. Nearly all of
 * them are zeros that were never written: the magic number alone tells. */
static uint64_t claims_in(const struct journal_scan *s, const uint8_t *at, size_t len,
                          uint64_t offset)
{
    uint64_t claimed = 0;
    for (size_t i = 0; i + JOURNAL_BATCH_BYTES <= len; i += 8) {
        struct journal_batch b;
        if (wire_load_u32(at + i) == JOURNAL_BATCH_MAGIC &&
            journal_batch_decode(at + i, s->header.crc, offset + i, &b) == 0) {
            claimed = base_max(claimed, b.stable_sequence);
        }
    }
    return claimed;
}

int journal_scan_claims(struct journal_scan *s, uint64_t *ret_claimed)
{
    uint64_t claimed = 0, offset = s->offset;
    const uint8_t *at = NULL;
    int rc = window_at(s, offset, JOURNAL_BATCH_BYTES, &at);
    while (rc > 0) {
        size_t len = s->window_len - (size_t)(offset - s->window_offset);
        claimed = base_max(claimed, claims_in(s, at, len, offset));
        offset += (len - JOURNAL_BATCH_BYTES) / 8 * 8 + 8;
        rc = window_at(s, offset, JOURNAL_BATCH_BYTES, &at);
    }
    if (rc == 0) {
        *ret_claimed = claimed;
    }
    return rc;
}

int journal_scan_deliver(const struct journal_batch *b, const uint8_t *body,
                         struct journal_user *user)
{
    if (b->kind == JOURNAL_KIND_CUT) {
        return user->ops->cut(user, b->index);
    }
    size_t left = b->body_len;
    for (uint32_t i = 0; i < b->count; i++) {
        struct journal_record r;
        int rc = journal_record_decode(&body, &left, &r);
        if (rc < 0) {
            return rc;
        }
        r.index = b->index + i;
        rc = user->ops->record(user, &r);
        if (rc < 0) {
            return rc;
        }
    }
    return left == 0 ? 0 : -ERR_bad_length;
}
