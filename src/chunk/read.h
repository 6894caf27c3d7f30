/*
 * chunk/read.h -- reading a chunk store: pins for sending without copying, reads into memory,
 * verification. Thread and errors as in chunk/store.h.
 */
#pragma once

#include "chunk/store.h"

/* Bytes of one content: in a file (for sendfile), in memory (`ram`), or zeros that nobody stored.
 */
struct chunk_piece {
    struct disk_file *file; /* NULL: see `bytes` */
    uint64_t offset;        /* in the file */
    const uint8_t *bytes;   /* NULL and no file: zeros */
    uint32_t len;
};

/*
 * Holds one content in place: until chunk_store_unpin() its bytes stay where they are and the files
 * stay open, whatever happens to the chunk. Zero-initialise, set key, which, offset, length. The
 * range is cut to the content; it may be empty (crc_count 0). `crc` is that of the cells from
 * `first_cell` on that the range touches, whole cells.
 */
enum chunk_which { CHUNK_COMMITTED, CHUNK_PENDING };
struct chunk_pin {
    void (*done)(struct chunk_pin *p, int rc); /* not used by chunk_store_pin() */
    struct chunk_key key;
    enum chunk_which which;
    uint32_t offset, length;        /* in; out: cut to the content */
    struct chunk_identity identity; /* out, as all below */
    uint32_t chunk_length, digest, tgen;
    uint16_t flags;
    uint32_t first_cell, crc_count;
    const uint32_t *crc;
    /* the store's */
    struct chunk_entry *entry;
    struct chunk_version *version;
    struct chunk_file *file;
    uint64_t number;
    struct list node;
    struct chunk_work *work;
};
/* At once: 0, -ENOENT, -ERR_corrupt (flagged damaged, committed only), -ERR_need: not possible
 * without waiting, use the other. */
NODISCARD int chunk_store_pin(struct chunk_store *s, struct chunk_pin *p);
void chunk_store_pin_wait(struct chunk_store *s, struct chunk_pin *p);
void chunk_store_unpin(struct chunk_store *s, struct chunk_pin *p);
/* Pieces from byte `from` (of the chunk, inside the range) on, in order, up to `max`; *ret_count.
 * Returns where they end: the end of the range, or go on from there. */
uint32_t chunk_pin_pieces(struct chunk_store *s, const struct chunk_pin *p, uint32_t from,
                          struct chunk_piece *piece, unsigned max, unsigned *ret_count);

/* A range into memory. `verify`: the cells that lie wholly in the range are checked against their
 * CRCs; bad: -ERR_corrupt, and the chunk is flagged. Damaged chunks are read only when
 * `damaged_too`. pin.key, which, offset, length in; the pin's results out, though it is released by
 * then. */
struct chunk_read {
    void (*done)(struct chunk_read *r, int rc);
    struct chunk_pin pin;
    bool verify, damaged_too;
    enum disk_lane lane;
    uint8_t *to;             /* pin.length bytes */
    uint32_t *crc;           /* NULL, or room for the CRCs: CHUNK_CELLS_MAX */
    struct chunk_work *work; /* the store's */
};
void chunk_store_read(struct chunk_store *s, struct chunk_read *r);

/* Reads and checks all of a chunk, pending content too. 0, -ENOENT, -ERR_corrupt class (bad CRC or
 * EIO; `pending_bad` says whether only that), -ENOMEM. A chunk whose committed content is bad is
 * flagged damaged; one that is good keeps its flag. `medium`: past the page cache, to which what is
 * dirty is written first; where the file system cannot, not from the cache as far as what is there
 * is stable, and what was not there before is not left there. */
struct chunk_verify {
    void (*done)(struct chunk_verify *v, int rc);
    struct chunk_key key;
    bool medium;
    enum disk_lane lane;
    bool pending_bad;
    struct chunk_work *work; /* the store's */
};
void chunk_store_verify(struct chunk_store *s, struct chunk_verify *v);
