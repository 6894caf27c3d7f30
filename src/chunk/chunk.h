/*
 * chunk/chunk.h -- the values that describe a chunk: key, identity, record. Plain data, no
 * functions with state; shared by all engines, the record format and their users.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

#define CHUNK_CELL 4096u          /* bytes per checksum; the last cell of a chunk is shorter */
#define CHUNK_CELLS_MAX 1024u     /* cells of a chunk */
#define CHUNK_LENGTH_MAX 4194304u /* CHUNK_CELL * CHUNK_CELLS_MAX */
#define CHUNK_RECENT_MAX 32u

struct chunk_key {
    uint64_t data_id;
    uint32_t index;
};
static inline int chunk_key_compare(struct chunk_key a, struct chunk_key b)
{
    if (a.data_id != b.data_id) {
        return a.data_id < b.data_id ? -1 : 1;
    }
    return a.index == b.index ? 0 : a.index < b.index ? -1 : 1;
}
/* To the key behind it; false: there is none. */
static inline bool chunk_key_step(struct chunk_key *k)
{
    k->index++;
    k->data_id += k->index == 0 ? 1 : 0;
    return k->index != 0 || k->data_id != 0;
}

/* Names one content of one chunk: equal identity is equal bytes. {0, 0}: none. */
struct chunk_identity {
    uint32_t aepoch;
    uint64_t ver;
};
static inline bool chunk_identity_equal(struct chunk_identity a, struct chunk_identity b)
{
    return a.aepoch == b.aepoch && a.ver == b.ver;
}
static inline bool chunk_identity_none(struct chunk_identity a)
{
    return a.aepoch == 0 && a.ver == 0;
}

/* Who made one of the newest updates; opaque to the store. */
struct chunk_recent {
    uint64_t client, seq, ver;
    uint32_t result;
    uint64_t time_ms;
};

#define CHUNK_TOMBSTONE 1u
#define CHUNK_DAMAGED 2u
#define CHUNK_DEDUPE_OVERFLOW 4u
#define CHUNK_FLAGS_ALL 7u

enum chunk_kind {
    CHUNK_WRITE = 1,  /* offset, length, data; also an append, its offset known */
    CHUNK_SET_LENGTH, /* new_length; no data */
    CHUNK_WHOLE,      /* new_length bytes replace everything; the base does not matter */
};

/* The record of a chunk as it is in memory. */
struct chunk_info {
    struct chunk_key key;
    uint32_t chain;                  /* it belongs to this one; kept in the record */
    struct chunk_identity committed; /* none: only a pending update exists */
    uint32_t length, digest;         /* of the committed content */
    uint32_t tgen;  /* of the committed content; of the pending one when there is no other */
    uint16_t flags; /* of the committed content */
    uint64_t last_ver;
    bool has_pending;
    bool unstable; /* a loss of power may leave an older state of it */
    struct chunk_identity pending, pending_base;
    uint32_t pending_length, pending_digest, pending_tgen;
    uint16_t pending_flags;
    uint8_t pending_kind;
    uint64_t allocated_bytes; /* of both, without the record */
    unsigned recent_count;    /* of the newest content, pending or committed */
    struct chunk_recent recent[CHUNK_RECENT_MAX];
};

static inline uint32_t chunk_cells(uint32_t length)
{
    return (uint32_t)(((uint64_t)length + CHUNK_CELL - 1) / CHUNK_CELL);
}
/* Bytes of cell `cell` in a chunk of `length` bytes. */
static inline uint32_t chunk_cell_bytes(uint32_t length, uint32_t cell)
{
    uint64_t from = (uint64_t)cell * CHUNK_CELL;
    return from >= length ? 0 : (uint32_t)base_min(CHUNK_CELL, length - from);
}
/* What there is of a chain: how many chunks have a committed content, and two numbers over their
 * keys, identities and digests (sums.c says what each is for). */
struct chunk_sum {
    uint64_t count, digest, mark;
};
static inline bool chunk_sum_equal(const struct chunk_sum *a, const struct chunk_sum *b)
{
    return a->count == b->count && a->digest == b->digest && a->mark == b->mark;
}
/* CRC-32C over the length and the cells' CRCs, each as four little-endian bytes. */
uint32_t chunk_digest(uint32_t length, const uint32_t *crc);
