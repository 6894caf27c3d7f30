/*
 * chunk/extent_format.h -- what the `extent` engine keeps: keys and values of its index, records of
 * its journal; layout: doc/format/extent.md. Pure: no I/O; decoders take any bytes and answer with
 * an -ERR_corrupt class, -ENOMEM where they say so.
 */
#pragma once

#include "chunk/chunk.h"
#include "chunk/record_format.h"
#include "kv/batch.h"

#define CHUNK_UNIT 4096u
#define CHUNK_UNITS_MAX (UINT64_C(1) << 44) /* numbers of units are below; 0: no unit */
#define CHUNK_GROUP 16u                     /* cells whose places and CRCs are kept together */
#define CHUNK_GROUPS_MAX (CHUNK_CELLS_MAX / CHUNK_GROUP)
#define CHUNK_SLAB_UNITS 8192u /* whose use is told by the bits of one record */
#define CHUNK_ABOUT_VERSION 3u /* of an older one a start reads all: extent_check.c */
#define CHUNK_INDEX_VERSION 2u /* of records in the journal, and maps */

/* ---- Keys of the index ---- */

enum chunk_part {
    CHUNK_PART_HEAD = 0,                       /* of a chunk: chunk_head */
    CHUNK_PART_COMMITTED = 1,                  /* + group: cells of the committed content */
    CHUNK_PART_PENDING = 1 + CHUNK_GROUPS_MAX, /* the same of the pending one */
    CHUNK_PART_END = 1 + 2 * CHUNK_GROUPS_MAX,
};
#define CHUNK_INDEX_KEY_MAX 24u
struct chunk_index_key {
    size_t len;
    uint8_t bytes[CHUNK_INDEX_KEY_MAX];
};
static inline struct kv_slice chunk_index_slice(const struct chunk_index_key *k)
{
    return kv_slice_of(k->bytes, k->len);
}
struct chunk_index_key chunk_key_about(void); /* about the whole: chunk_about */
struct chunk_index_key chunk_key_part(struct chunk_key key, unsigned part);
struct chunk_index_key chunk_key_slab(uint64_t slab); /* CHUNK_SLAB_UNITS bits, 1: in use */
struct chunk_index_key chunk_key_sum(uint32_t chain); /* struct chunk_sum */
/* Without values: what a start, a resync or an audit looks for among many. */
enum chunk_mark { CHUNK_MARK_PENDING = 3, CHUNK_MARK_DAMAGED, CHUNK_MARK_CHAIN };
struct chunk_index_key chunk_key_mark(enum chunk_mark mark, uint32_t chain, struct chunk_key key);
/* Which part of which chunk, or -ERR_bad_value. */
NODISCARD int chunk_key_part_decode(struct kv_slice key, struct chunk_key *ret, unsigned *ret_part);
NODISCARD int chunk_key_slab_decode(struct kv_slice key, uint64_t *ret);
NODISCARD int chunk_key_sum_decode(struct kv_slice key, uint32_t *ret);
NODISCARD int chunk_key_mark_decode(struct kv_slice key, enum chunk_mark mark, uint32_t *ret_chain,
                                    struct chunk_key *ret);

/* ---- Values of the index ---- */

/* Fields of 8 bytes each, changed by adding, but for the last, which only rises. */
struct chunk_about {
    uint64_t version; /* CHUNK_ABOUT_VERSION, or an older one */
    uint64_t chunks, damaged, pending, units;
    uint64_t known; /* index of the newest record of the journal that any chunk knows */
};
#define CHUNK_ABOUT_BYTES 48u
#define CHUNK_ABOUT_KNOWN 40u /* where that field is */
void chunk_about_encode(const struct chunk_about *a, uint8_t to[CHUNK_ABOUT_BYTES]);
NODISCARD int chunk_about_decode(struct kv_slice from, struct chunk_about *ret);

/* What there is of a chain: three fields, changed by adding. */
#define CHUNK_SUM_BYTES 24u
void chunk_sum_encode(const struct chunk_sum *x, uint8_t to[CHUNK_SUM_BYTES]);
NODISCARD int chunk_sum_decode(struct kv_slice from, struct chunk_sum *ret);

/* Where the cells of a content lie, and their CRCs. 0: zeros, which lie nowhere. */
struct chunk_cells {
    uint32_t length;
    uint32_t *crc;
    uint64_t *unit;
};
/* What an update of `length` bytes keeps of an old content (NULL: there is none): its cells, and
 * zeros behind them. to->crc and to->unit have room. */
void chunk_cells_keep(const struct chunk_cells *old, struct chunk_cells *to);

/* One content: its description, who made it; its cells, when they are few. */
struct chunk_content {
    struct chunk_meta meta; /* without its table */
    struct chunk_recent recent[CHUNK_RECENT_MAX];
    bool has_cells; /* at most CHUNK_GROUP of them, here: */
    uint32_t crc[CHUNK_GROUP];
    uint64_t unit[CHUNK_GROUP];
};
#define CHUNK_UNITS_UNKNOWN UINT32_MAX
struct chunk_head {
    uint32_t chain;
    uint32_t units; /* of both contents; CHUNK_UNITS_UNKNOWN: an older version did not say */
    uint64_t last_ver;
    uint64_t known; /* index of the newest record of the journal that is in here */
    bool damaged, has_committed, has_pending;
    struct chunk_content committed, pending;
};
static inline bool chunk_content_is_small(uint32_t length)
{
    return chunk_cells(length) <= CHUNK_GROUP;
}
#define CHUNK_CONTENT_BYTES_MAX (48u + 36u * CHUNK_RECENT_MAX + CHUNK_GROUP * 12u + 1u)
#define CHUNK_HEAD_BYTES_MAX (28u + 2u * CHUNK_CONTENT_BYTES_MAX)
/* Returns the length. */
size_t chunk_head_encode(const struct chunk_head *h, uint8_t to[CHUNK_HEAD_BYTES_MAX]);
NODISCARD int chunk_head_decode(struct kv_slice from, struct chunk_head *ret);

/* A group: `cells` of them, 1 to CHUNK_GROUP. */
#define CHUNK_GROUP_BYTES_MAX (2u + CHUNK_GROUP * 12u + 1u)
size_t chunk_group_encode(const uint32_t *crc, const uint64_t *unit, unsigned cells,
                          uint8_t to[CHUNK_GROUP_BYTES_MAX]);
NODISCARD int chunk_group_decode(struct kv_slice from, unsigned cells, uint32_t *crc,
                                 uint64_t *unit);

/* ---- Records of the journal ---- */

enum chunk_journal_type {
    CHUNK_JOURNAL_UPDATE = 1, /* chunk_delta and cells: a new content, pending or installed */
    CHUNK_JOURNAL_COMMIT,     /* keys and identities: pending contents that became committed */
    CHUNK_JOURNAL_CHANGE,     /* chunk_delta alone: no pending content any more; flags */
    CHUNK_JOURNAL_DELETE,     /* keys */
    CHUNK_JOURNAL_STABLE,     /* an index: all that records up to it describe is stable */
};

/* What became of a chunk. A content is told as what differs from what it was made from: the cells
 * that were committed before, or none if it is `whole`. */
struct chunk_delta {
    struct chunk_key key;
    uint32_t chain;
    uint64_t last_ver;
    bool damaged;
    bool install;           /* UPDATE: committed at once, no pending one is left */
    bool drops;             /* CHANGE: the pending content goes */
    uint16_t flags;         /* CHANGE: of the committed content, or the pending one if none is */
    struct chunk_meta meta; /* UPDATE; without its table */
    uint32_t carried_bytes; /* UPDATE: the record ends with all cells that it gives a unit */
    struct chunk_recent recent[CHUNK_RECENT_MAX];
};
/* What it was made from. All zero: nothing. */
struct chunk_delta_base {
    struct chunk_cells cells;
    const struct chunk_recent *recent;
    unsigned recent_count;
};

/* *ret: mem_alloc, the caller's. -ENOMEM. `to` (of UPDATE only, else NULL) has meta.length. Carried
 * cells, in order, each whole but the last one of the chunk, are for the caller to put behind it.
 */
NODISCARD int chunk_delta_encode(enum chunk_journal_type type, const struct chunk_delta *d,
                                 const struct chunk_delta_base *base, const struct chunk_cells *to,
                                 uint8_t **ret, size_t *ret_len);
/* The first half, which needs no base: key and meta. `recent` comes with the second. */
NODISCARD int chunk_delta_decode(enum chunk_journal_type type, const uint8_t *from, size_t len,
                                 struct chunk_delta *ret);
/* The second: recent, and the cells; to->length is meta.length, crc and unit have room. The digest
 * fits, or -ERR_bad_crc: it is another base. */
NODISCARD int chunk_delta_apply(const uint8_t *from, size_t len,
                                const struct chunk_delta_base *base, struct chunk_delta *d,
                                struct chunk_cells *to);
/* Of an UPDATE: the cells that it carries, in order. Returns how many, or -ERR_bad_value. */
#define CHUNK_CARRIED_MAX 8u
struct chunk_carried {
    uint32_t cell, crc, len;
    uint64_t unit;
    const uint8_t *bytes; /* in the record */
};
NODISCARD int chunk_delta_carried(const uint8_t *from, size_t len, struct chunk_delta *d,
                                  struct chunk_carried ret[CHUNK_CARRIED_MAX]);

/* Lists: COMMIT with identities, DELETE without. */
#define CHUNK_LIST_MAX 1024u
struct chunk_listed {
    struct chunk_key key;
    struct chunk_identity identity;
};
#define CHUNK_LIST_BYTES_MAX (4u + CHUNK_LIST_MAX * 24u)
size_t chunk_list_encode(enum chunk_journal_type type, const struct chunk_listed *item,
                         size_t count, uint8_t to[CHUNK_LIST_BYTES_MAX]);
/* STABLE: up to which record. */
#define CHUNK_STABLE_BYTES 16u
void chunk_stable_encode(uint64_t index, uint8_t to[CHUNK_STABLE_BYTES]);
NODISCARD int chunk_stable_decode(const uint8_t *from, size_t len, uint64_t *ret);
NODISCARD int chunk_list_decode(enum chunk_journal_type type, const uint8_t *from, size_t len,
                                struct chunk_listed *ret, size_t *ret_count); /* CHUNK_LIST_MAX */
