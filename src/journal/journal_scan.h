/*
 * journal/journal_scan.h -- the reader of segments: arbitrary bytes in, batches or a verdict out.
 * No disk: the bytes come through a struct journal_source, so that fuzzing and tests need none.
 */
#pragma once

#include "journal/journal_format.h"

struct journal_source {
    /* Bytes read, fewer only at the end; negative: error. */
    int64_t (*read)(struct journal_source *s, uint64_t offset, void *to, size_t len);
};

/* What the batches so far lead one to expect of the next. */
struct journal_chain {
    bool begun;        /* false: the next batch may be any (the oldest segment's first) */
    uint64_t sequence; /* of the last batch */
    uint32_t crc;      /* of the last batch */
    uint64_t index;    /* of the next record */
    uint64_t claimed;  /* highest stable sequence that a batch spoke of */
};

/* Reads one segment. Zero-initialise, journal_scan_begin(), journal_scan_end() in any case. */
struct journal_scan {
    struct journal_source *source;
    struct journal_header header;
    uint64_t offset; /* of the next batch: the end of the good part */
    /* a window of the file */
    uint8_t *window;
    size_t window_size;
    uint64_t window_offset;
    size_t window_len;
};
/* Reads the header. -ERR_short_msg: the file ends inside it; -ERR_bad_...; -ENOMEM; of the source.
 */
NODISCARD int journal_scan_begin(struct journal_scan *s, struct journal_source *source);
void journal_scan_end(struct journal_scan *s);
/* The next batch that continues the chain: 1, and the body is lent until the next call; 0: there is
 * none at s->offset. Negative: read error or a batch with a good checksum that makes no sense. */
NODISCARD int journal_scan_next(struct journal_scan *s, struct journal_chain *chain,
                                struct journal_batch *ret, const uint8_t **ret_body);
/* Looks at every place from s->offset on for batch headers of this segment and returns in
 * *ret_claimed the highest stable sequence that one speaks of (0: none). */
NODISCARD int journal_scan_claims(struct journal_scan *s, uint64_t *ret_claimed);
/* Hands the records of a body to the user. */
NODISCARD int journal_scan_deliver(const struct journal_batch *b, const uint8_t *body,
                                   struct journal_user *user);
