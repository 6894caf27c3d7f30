/*
 * journal/journal_format.h -- headers of segments, batches and records on disk; see
 * doc/format/journal.md. Pure functions, no I/O. Little-endian.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "journal/journal.h"

/*
 * Segment header, 64 bytes, at the start of a block of JOURNAL_DATA_OFFSET bytes of its own:
 *  0 magic u64 | 8 version u32 | 12 zero u32 | 16 owner 16 bytes | 32 number u64 | 40 nonce u64
 * 48 segment size u64 | 56 zero u32 | 60 CRC u32 over bytes 0..59
 */
#define JOURNAL_HEADER_BYTES 64u
#define JOURNAL_DATA_OFFSET 4096u
#define JOURNAL_MAGIC 0x4c4e524a5344464fULL /* "OFDSJRNL" */
#define JOURNAL_VERSION 1u

struct journal_header {
    uint8_t owner[JOURNAL_OWNER_BYTES];
    uint64_t number, nonce, size_bytes;
    uint32_t crc; /* out; the seed of the checksums of the segment's batches */
};
void journal_header_encode(struct journal_header *h, uint8_t out[JOURNAL_HEADER_BYTES]);
/* -ERR_bad_magic, -ERR_bad_crc, -ERR_bad_version. */
NODISCARD int journal_header_decode(const uint8_t in[JOURNAL_HEADER_BYTES],
                                    struct journal_header *ret);

/*
 * Batch header, 56 bytes, at a multiple of 8, followed by the body:
 *  0 magic u32 | 4 CRC u32 over segment CRC, file offset u64 and bytes 8..55
 *  8 body length u32 (multiple of 8) | 12 record count u32 | 16 sequence u64 | 24 index u64
 * 32 stable sequence u64 | 40 body CRC u32 | 44 CRC of the batch before u32 | 48 kind u32 | 52 zero
 * u32
 */
#define JOURNAL_BATCH_BYTES 56u
#define JOURNAL_BATCH_MAGIC 0x54414244u /* "DBAT" */
#define JOURNAL_BODY_MAX (64u << 20)

enum journal_kind {
    JOURNAL_KIND_RECORDS = 1, /* `count` records; the first has `index` */
    JOURNAL_KIND_CUT = 2,     /* no body; the next record has `index` */
    JOURNAL_KIND_SEAL = 3,    /* no body: only says what is stable */
};

struct journal_batch {
    uint32_t body_len, count;
    uint64_t sequence, index;
    uint64_t
        stable_sequence; /* batches up to this one were on stable storage when it was written */
    uint32_t body_crc, previous_crc;
    enum journal_kind kind;
    uint32_t crc; /* out; the next batch's previous_crc */
};
void journal_batch_encode(struct journal_batch *b, uint32_t segment_crc, uint64_t offset,
                          uint8_t out[JOURNAL_BATCH_BYTES]);
/* -ERR_bad_magic, -ERR_bad_crc, and, behind a good checksum, -ERR_bad_value, -ERR_bad_length. */
NODISCARD int journal_batch_decode(const uint8_t in[JOURNAL_BATCH_BYTES], uint32_t segment_crc,
                                   uint64_t offset, struct journal_batch *ret);

/* Record header, 8 bytes: length u32 | type u16 | zero u16; the payload; zeros up to 8. */
#define JOURNAL_RECORD_BYTES 8u
static inline size_t journal_record_size(size_t len)
{
    return JOURNAL_RECORD_BYTES + (size_t)base_align_up(len, 8);
}
void journal_record_encode(size_t len, uint16_t type, uint8_t out[JOURNAL_RECORD_BYTES]);
/* Takes the next record out of what is left of a body. -ERR_short_msg, -ERR_bad_value. */
NODISCARD int journal_record_decode(const uint8_t **at, size_t *left, struct journal_record *ret);
