/*
 * tree/super.h -- the superblock of a tree file: where everything of one checkpoint is, and what
 * the checkpoint stands for. Pure: bytes in, bytes out. Layout: doc/format/tree_store.md.
 *
 * There are two places, at 0 and at 64 KiB; checkpoint k goes to place k mod 2, so that the one
 * before stays while it is written. The checksum is seeded with the file's id; `previous` repeats
 * the checksum of the superblock before, so that a stale one in the other place is recognised.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

#define TREE_SUPER_BYTES 4096u
#define TREE_SUPER_USED_BYTES 512u /* the fields; zeros follow, and the checksum */
#define TREE_SUPER_PLACES 2u
#define TREE_SUPER_SECOND (64u << 10)                      /* offset of place 1 */
#define TREE_SUPER_VOID_MAGIC UINT64_C(0x4545525444494f56) /* "VOIDTREE": given up by an open */
#define TREE_SUPER_FORMAT 1u
#define TREE_SUPER_APP_MAX 128u
#define TREE_SUPER_ID_BYTES 16u

/* Bytes that are somewhere in the file, with their checksum. None: all zero. */
struct tree_super_blob {
    uint64_t offset;
    uint32_t len;
    uint64_t checksum;
};

struct tree_super {
    uint32_t format, min_reader; /* out: as found; written as TREE_SUPER_FORMAT */
    uint8_t file_id[TREE_SUPER_ID_BYTES];
    uint64_t checkpoint; /* k, from 1 */
    uint64_t applied_index, applied_term, max_msn, tree_version, root_block;
    uint32_t height, fanout, leaf_raw, basement_raw, internal_raw;
    uint8_t codec, hash;
    uint64_t next_block;
    struct tree_super_blob table;    /* index of the block translation table */
    uint32_t segment_count;          /* memtable segments, listed in: */
    struct tree_super_blob segments; /* see tree/btt.h */
    struct tree_super_blob drops;    /* the owner's */
    uint64_t size_used, key_count, logical_bytes;
    uint64_t previous; /* checksum of the superblock before; 0: this is the first */
    uint16_t app_len;
    uint8_t app[TREE_SUPER_APP_MAX];   /* the owner's */
    uint64_t compatible, incompatible; /* features; unknown ones of the second kind are refused */
    uint64_t checksum;                 /* out, of both */
};

static inline uint64_t tree_super_offset(uint64_t checkpoint)
{
    return checkpoint % TREE_SUPER_PLACES * TREE_SUPER_SECOND;
}

/* CHECKs what a decoder would refuse. */
void tree_super_encode(struct tree_super *s, uint8_t out[TREE_SUPER_BYTES]);

/*
 * What lies in the place at `offset`. -ERR_bad_magic (also all zeros: nothing was ever written),
 * -ERR_bad_crc, and, behind a good checksum, -ERR_bad_version (made for a newer program: the file
 * must not be touched), -ERR_bad_value, -ERR_bad_length. `e` says what and where.
 */
NODISCARD int tree_super_decode(const uint8_t in[TREE_SUPER_BYTES], uint64_t offset,
                                struct tree_super *ret, struct err *e);

/* What was found in the two places. */
struct tree_super_pair {
    struct tree_super super[TREE_SUPER_PLACES];
    int rc[TREE_SUPER_PLACES]; /* of reading and decoding */
    struct err err[TREE_SUPER_PLACES];
};
struct tree_super_choice {
    int newest, older; /* places; older -1: none that the newest one goes on from */
};
/*
 * The newest that is valid. -ERR_bad_version when either is of a newer program, -ERR_corrupt when
 * both are valid but of different files or of one number, the first one's error when none is valid.
 */
NODISCARD int tree_super_choose(const struct tree_super_pair *pair, struct tree_super_choice *ret,
                                struct err *e);

/* "checkpoint 7, applied 120/3, root 5, height 2, next block 31, 65536 bytes" */
void tree_super_to_text(const struct tree_super *s, char *out, size_t size);
