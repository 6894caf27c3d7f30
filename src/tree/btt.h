/*
 * tree/btt.h -- the block translation table: where block n is, and what to expect there.
 *
 * In memory it has two levels of pages that are kept as they lie on disk. A checkpoint freezes the
 * table: both share all pages until one of them changes one, so freezing costs a pointer for each
 * 65,024 blocks, and the frozen table stays as it is while the live one goes on. Memory for such
 * copies is reserved before a write begins: what happens at its end cannot fail.
 *
 * A node that was appended to has more than one extent: its entry names the newest, which begins
 * with its header, and links to entries of their own for the older ones, the newest first. Numbers
 * that are free form a chain through their entries, from the head in the index. Block 0 is none.
 *
 * Pure, no I/O. A table, what was frozen from it and their pool belong to one thread.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

#define TREE_BTT_PAGE_BYTES 4096u
#define TREE_BTT_PAGE_ENTRIES 127u
#define TREE_BTT_ENTRY_BYTES 32u
#define TREE_BTT_BLOCK_MAX ((UINT64_C(1) << 40) - 1)
#define TREE_BTT_UNIT 4096u
#define TREE_BTT_HEADER_UNIT 512u
#define TREE_BTT_SEGMENTS_MAX 255u
#define TREE_BTT_ID_BYTES 16u

/* ---- format ---- */

enum tree_btt_kind {
    TREE_BTT_VOID = 0, /* never used */
    TREE_BTT_FREE = 1, /* link: the next free one, 0: the last */
    TREE_BTT_NODE = 2, /* units 0: not written yet */
    TREE_BTT_SEGMENT = 3,
};
struct tree_btt_entry {
    enum tree_btt_kind kind;
    uint8_t flags; /* of the owner, 6 bits */
    uint8_t level;
    uint8_t segment_count; /* older extents */
    uint16_t units;        /* of 4 KiB */
    uint32_t header_len;   /* rounded up to 512 */
    uint64_t unit;         /* of the file */
    uint64_t checksum;     /* of the header */
    uint64_t birth;        /* checkpoint */
    uint64_t link;         /* entry of the next older extent; 0: none */
};
void tree_btt_entry_encode(const struct tree_btt_entry *e, uint8_t out[TREE_BTT_ENTRY_BYTES]);
/* -ERR_bad_value. */
NODISCARD int tree_btt_entry_decode(const uint8_t in[TREE_BTT_ENTRY_BYTES],
                                    struct tree_btt_entry *ret);

/* Fills in magic, number, count and checksum, which it returns. */
uint64_t tree_btt_page_seal(uint8_t page[TREE_BTT_PAGE_BYTES], const uint8_t *file_id,
                            uint64_t page_no);
/* All of it, entries too. -ERR_bad_magic, -ERR_bad_crc (`expected` is the index's), -ERR_bad_value.
 */
NODISCARD int tree_btt_page_check(const uint8_t page[TREE_BTT_PAGE_BYTES], const uint8_t *file_id,
                                  uint64_t page_no, uint64_t expected);
/* Entry `i` of a page. -ERR_bad_value. */
NODISCARD int tree_btt_page_entry(const uint8_t page[TREE_BTT_PAGE_BYTES], unsigned i,
                                  struct tree_btt_entry *ret);

struct tree_btt_place { /* of a page on disk; offset 0: it has never been written, all void */
    uint64_t offset, checksum, birth;
};
struct tree_btt_index {
    uint64_t checkpoint, next_block, free_head, free_count;
    size_t page_count;
    struct tree_btt_place *place; /* page_count of them */
};
size_t tree_btt_index_bytes(size_t page_count);
uint64_t tree_btt_index_encode(const struct tree_btt_index *x, const uint8_t *file_id,
                               uint8_t *out);
/* Allocates ret->place (mem_free). -ERR_bad_*, -ERR_short_msg, -ENOMEM. */
NODISCARD int tree_btt_index_decode(const uint8_t *in, size_t len, const uint8_t *file_id,
                                    uint64_t expected, struct tree_btt_index *ret);

/* What else a checkpoint consists of: pieces of the file that are no blocks (memtable segments). */
#define TREE_BTT_PIECES_MAX 4096u
struct tree_btt_piece {
    uint64_t offset, len; /* bytes; the offset in units of 4 KiB */
    uint64_t checksum, birth;
    uint8_t owner[16]; /* the owner's */
};
size_t tree_btt_pieces_bytes(size_t count);
uint64_t tree_btt_pieces_encode(const struct tree_btt_piece *p, size_t count, uint64_t checkpoint,
                                const uint8_t *file_id, uint8_t *out);
struct tree_btt_pieces_in {
    const uint8_t *bytes, *file_id;
    size_t len, count; /* as the superblock says */
    uint64_t checkpoint, expected;
};
NODISCARD int tree_btt_pieces_decode(const struct tree_btt_pieces_in *in,
                                     struct tree_btt_piece *ret); /* in->count of them */

/* Of bytes that are the owner's, of a checkpoint. */
uint64_t tree_btt_blob_sum(const uint8_t *file_id, uint64_t checkpoint, const void *bytes,
                           size_t len);

/* ---- the table ---- */

struct tree_btt;
NODISCARD int tree_btt_new(struct tree_btt **ret);
struct tree_btt *tree_btt_free(struct tree_btt *t); /* the live one last */
DEFINE_FREEP(tree_btt)

/* The table as of now. At most one at a time. -ENOMEM. */
NODISCARD int tree_btt_freeze(struct tree_btt *t, struct tree_btt **ret);
/* It will not be on disk: what was changed for it, the live one has to write. Frees it. */
void tree_btt_abandon(struct tree_btt *t, struct tree_btt *frozen);

/* Any number: what was never used is void. */
void tree_btt_get(const struct tree_btt *t, uint64_t block, struct tree_btt_entry *ret);
uint64_t tree_btt_next_block(const struct tree_btt *t);

/* Memory for `count` changed entries, in either table, from now until it is given back. -ENOMEM. */
NODISCARD int tree_btt_reserve(struct tree_btt *t, size_t count);
void tree_btt_unreserve(struct tree_btt *t, size_t count);
/* Room for an entry of that number; nothing changes. -ENOMEM. */
NODISCARD int tree_btt_extend(struct tree_btt *t, uint64_t block);

/* These take from what is reserved, one each: */
void tree_btt_put(struct tree_btt *t, uint64_t block, const struct tree_btt_entry *e);
void tree_btt_release(struct tree_btt *t, uint64_t block); /* free; first of the chain */
/* A number: from the chain, or (`fresh`) one that no table has seen. extended for next_block. */
uint64_t tree_btt_alloc(struct tree_btt *t, bool fresh, uint8_t level, uint64_t birth);

/* ---- to and from disk ---- */

#define TREE_BTT_NO_PAGE UINT64_MAX
uint64_t tree_btt_dirty(const struct tree_btt *t, uint64_t from); /* the next changed page */
uint64_t tree_btt_page_count(const struct tree_btt *t);
/* Bytes in memory, with what is spare; of a frozen one only what the live one has not. */
uint64_t tree_btt_memory(const struct tree_btt *t);
/* A copy, sealed; its checksum. CHECKs that it is not void. */
uint64_t tree_btt_page(const struct tree_btt *t, uint64_t page_no, const uint8_t *file_id,
                       uint8_t out[TREE_BTT_PAGE_BYTES]);
void tree_btt_describe(const struct tree_btt *t, struct tree_btt_index *ret); /* all but places */

/* Loading: an empty table of this shape; then each page, checked; then adopt: it is one whole, or
 * -ERR_corrupt and why. Numbers that are
 * void, or of blocks never written, join the chain when it is `writable`. */
NODISCARD int tree_btt_load(struct tree_btt *t, const struct tree_btt_index *x);
NODISCARD int tree_btt_load_page(struct tree_btt *t, uint64_t page_no,
                                 const uint8_t page[TREE_BTT_PAGE_BYTES]);
NODISCARD int tree_btt_adopt(struct tree_btt *t, bool writable, struct err *e);
