/*
 * tree/segment.h -- a memtable segment: the messages of a frozen memtable as a checkpoint keeps
 * them, in blocks, with its deleted ranges and an index at the end.
 *
 * Header, packed blocks, packed ranges, packed index, trailer; nothing between them. Written as a
 * stream into the caller's buffer and read from the end. Checksums are seeded with file, number of
 * the segment and checkpoint; the trailer's is what the checkpoint has to expect. Pure; writers
 * belong to one thread; an opened segment is read by any number. Errors of reading: class
 * ERR_corrupt.
 */
#pragma once

#include "tree/block.h"
#include "tree/codec.h"
#include "tree/ranges.h"

#define TREE_SEGMENT_HEADER_BYTES 64u
#define TREE_SEGMENT_TRAILER_BYTES 136u
#define TREE_SEGMENT_BLOCK_BYTES (64u << 10) /* unpacked, but for a block of one larger entry */

struct tree_segment_id {
    const uint8_t *file_id;
    uint64_t checkpoint;
    uint32_t number; /* within the checkpoint */
};

/* ---- writing: begin, add and block until all is in, end ---- */

struct tree_segment_options {
    struct tree_segment_id id;
    struct tree_codec *packer; /* must outlive the writer */
    enum tree_codec_id codec;
    size_t block_bytes; /* 0: TREE_SEGMENT_BLOCK_BYTES, which is the most */
};
struct tree_segment_writer {
    struct tree_segment_options options;
    uint8_t file_id[TREE_FILE_ID_BYTES];
    uint64_t seed, offset; /* of the next byte */
    uint64_t entries, raw_bytes, msn_min, msn_max;
    struct tree_block_builder block, index;
    uint8_t *raw; /* owned */
    size_t raw_capacity;
};
void tree_segment_writer_init(struct tree_segment_writer *w,
                              const struct tree_segment_options *opt);
void tree_segment_writer_fini(struct tree_segment_writer *w); /* all zero is fine */
void tree_segment_begin(struct tree_segment_writer *w, uint8_t out[TREE_SEGMENT_HEADER_BYTES]);
/* Messages in the order of a block of messages. 1: taken; 0: the block is full, write it out and
 * add again; -ENOMEM. */
NODISCARD int tree_segment_add(struct tree_segment_writer *w, const struct tree_block_entry *e);
static inline bool tree_segment_has_block(const struct tree_segment_writer *w)
{
    return w->block.count > 0;
}
/* Writes out what was added, into room for tree_segment_block_bound(). -ENOMEM; -E2BIG: too many
 * blocks; either way nothing has changed. */
size_t tree_segment_block_bound(const struct tree_segment_writer *w);
NODISCARD int tree_segment_block(struct tree_segment_writer *w, uint8_t *out, size_t *ret_len);
/* The rest, with an encoded list of ranges (ranges.h; len 0: none), into room for
 * tree_segment_end_bound(). A segment has a block or a range. *ret_sum is the trailer's. -ENOMEM.
 */
size_t tree_segment_end_bound(const struct tree_segment_writer *w, size_t ranges_len);
struct tree_segment_end {
    size_t len;
    uint64_t sum;
};
NODISCARD int tree_segment_end(struct tree_segment_writer *w, struct kv_slice ranges, uint8_t *out,
                               struct tree_segment_end *ret);

/* ---- reading: open the trailer, then the index, then what is wanted ---- */

struct tree_segment_part {
    uint64_t offset; /* in the segment */
    uint32_t packed_len, raw_len;
    uint64_t sum;
    uint32_t entries; /* of a block */
};
struct tree_segment {
    uint64_t seed, len, entries, raw_bytes, msn_min, msn_max;
    uint32_t block_count;
    struct tree_segment_part ranges, index; /* raw_len 0: there is none */
    struct tree_block blocks;               /* the index, once it is open */
};
struct tree_segment_expect {
    struct tree_segment_id id;
    uint64_t len, sum; /* of the segment; its trailer's */
};
NODISCARD int tree_segment_open(const uint8_t trailer[TREE_SEGMENT_TRAILER_BYTES],
                                const struct tree_segment_expect *x, struct tree_segment *ret);
/* The header says only who it is, for those who scan. */
NODISCARD int tree_segment_check_header(const uint8_t header[TREE_SEGMENT_HEADER_BYTES],
                                        const struct tree_segment_id *id);
/* `raw` has room for index.raw_len and outlives the segment; not for a segment without blocks. */
NODISCARD int tree_segment_open_index(struct tree_segment *s, const uint8_t *packed,
                                      struct tree_codec *c, uint8_t *raw);
/* `raw` has room for ranges.raw_len and outlives *ret. */
NODISCARD int tree_segment_open_ranges(const struct tree_segment *s, const uint8_t *packed,
                                       struct tree_codec *c, uint8_t *raw, struct tree_ranges *ret);
/* Where block i < block_count is. */
struct tree_segment_part tree_segment_part(const struct tree_segment *s, uint32_t i);
struct tree_segment_block_in {
    uint32_t i;
    const uint8_t *packed;
    uint8_t *raw; /* room for its raw_len; outlives *ret */
};
NODISCARD int tree_segment_open_block(const struct tree_segment *s,
                                      const struct tree_segment_block_in *in, struct tree_codec *c,
                                      struct tree_block *ret);
/* The block in which a search for the first key >= `key` begins: it, or else the next one, has it
 * if there is one. */
uint32_t tree_segment_find(const struct tree_segment *s, struct kv_slice key);
