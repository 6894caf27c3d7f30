/*
 * chunk/record_format.h -- layout of what the `file` engine stores: doc/format/chunk.md. Pure: no
 * I/O; decoders take any bytes and answer with an -ERR_corrupt class.
 */
#pragma once

#include "base/text.h"
#include "chunk/chunk.h"

#define CHUNK_BLOCK 4096u
#define CHUNK_SLOTS 4u
#define CHUNK_SLOT_BYTES 512u /* one sector: never torn */
#define CHUNK_TABLE_INLINE 168u
#define CHUNK_TABLE_MAX (4u + 4u * CHUNK_CELLS_MAX + 12u * CHUNK_CELLS_MAX + 36u * CHUNK_RECENT_MAX)
#define CHUNK_SUPER_BYTES 512u
#define CHUNK_SUPER_COPIES 2u
#define CHUNK_DEAD_BYTES 32u

/* A version as its record describes it. */
struct chunk_meta {
    struct chunk_identity identity, base;
    uint8_t kind;
    bool whole; /* nothing of the base is left in it */
    uint32_t length, digest, tgen;
    uint16_t flags;
    unsigned recent_count;
    uint32_t table_block; /* 0: the table is in the record */
    uint32_t table_bytes, table_crc;
    const uint8_t *table; /* in the record */
};

struct chunk_record {
    struct chunk_key key;
    uint8_t target[16];
    uint32_t chain;
    uint64_t seq, era, last_ver;
    bool damaged;
    bool has_committed, has_pending;
    struct chunk_meta committed, pending;
};

/* Exactly one sector. */
void chunk_record_encode(const struct chunk_record *r, uint8_t to[CHUNK_SLOT_BYTES]);
/* Points into `from`. */
NODISCARD int chunk_record_decode(const uint8_t from[CHUNK_SLOT_BYTES], struct chunk_record *ret);
bool chunk_record_begins(const uint8_t from[CHUNK_SLOT_BYTES]); /* has the magic number */
bool chunk_record_empty(const uint8_t from[CHUNK_SLOT_BYTES]);  /* all zeros: never written */

/* Table of a version: CRCs, places, who made it. Encodes to `to` (NULL: only the size). */
struct chunk_table {
    uint32_t length;
    uint32_t *crc; /* of each cell; out: room for them */
    uint64_t *block;
    struct chunk_recent *recent;
    unsigned recent_count;
};
size_t chunk_table_encode(const struct chunk_table *t, uint8_t *to, size_t size);
/* length and recent_count say how many; checks bounds and that blocks are above 0. */
NODISCARD int chunk_table_decode(const uint8_t *from, size_t len, struct chunk_table *t);

struct chunk_super {
    uint64_t number; /* the higher one of the two copies counts */
    struct uuid cluster, target;
    uint8_t boot_id[16];
    uint64_t incarnation;
    uint64_t stable_era; /* records of older eras are stable */
    uint32_t fan_out;
    bool lossy, clean;
};
void chunk_super_encode(const struct chunk_super *x, uint8_t to[CHUNK_SUPER_BYTES]);
NODISCARD int chunk_super_decode(const uint8_t from[CHUNK_SUPER_BYTES], struct chunk_super *ret);

struct chunk_dead_record {
    uint64_t data_id, time_ms;
    uint64_t position; /* its number in the file */
    bool forget;
};
void chunk_dead_encode(const struct chunk_dead_record *x, uint8_t to[CHUNK_DEAD_BYTES]);
NODISCARD int chunk_dead_decode(const uint8_t from[CHUNK_DEAD_BYTES],
                                struct chunk_dead_record *ret);
