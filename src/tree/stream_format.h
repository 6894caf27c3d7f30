/*
 * tree/stream_format.h -- what frames of a tree's checkpoint hold (doc/format/tree_stream.md), and
 * the checks that sender and receiver do alike. Pure; any thread.
 *
 * Kinds of places, in the order of the stream. A checkpoint's numbers of blocks, births and
 * checksums stay what they are; where things lie in the file is the receiver's business.
 */
#pragma once

#include "kv/frame.h"
#include "tree/btt.h"
#include "tree/node.h"
#include "tree/super.h"

enum tree_stream_kind {
    TREE_STREAM_HEADER = 0,
    TREE_STREAM_PAGES = 1, /* item: number of the first page of the table; whole pages follow */
    TREE_STREAM_LIST = 2,  /* of memtable segments, whole */
    TREE_STREAM_DROPS = 3, /* offset */
    TREE_STREAM_PIECE = 4, /* item: which of the list; offset */
    TREE_STREAM_NODE = 5,  /* item: block; part: 0 the newest extent, n the n-th that its header
                              names; offset */
    TREE_STREAM_END = 6,
};
#define TREE_STREAM_PAGES_MAX (KV_FRAME_PAYLOAD_MAX / TREE_BTT_PAGE_BYTES)
#define TREE_STREAM_HEADER_BYTES (48u + TREE_SUPER_BYTES)
#define TREE_STREAM_END_BYTES 56u

struct tree_stream_header {
    struct tree_super super; /* as the sender has it */
    uint64_t page_count;     /* of the table, those that are void included */
    uint64_t page_sent;      /* those that are not */
    uint64_t free_head, free_count;
};
void tree_stream_header_encode(const struct tree_stream_header *h,
                               uint8_t out[TREE_STREAM_HEADER_BYTES]);
/* Class ERR_corrupt, -ERR_bad_version. */
NODISCARD int tree_stream_header_decode(const uint8_t *in, size_t len,
                                        struct tree_stream_header *ret, struct err *e);

struct tree_stream_totals {
    uint64_t pages, nodes, extents, units, pieces, piece_bytes;
};
void tree_stream_end_encode(const struct tree_stream_totals *t, uint8_t out[TREE_STREAM_END_BYTES]);
NODISCARD int tree_stream_end_decode(const uint8_t *in, size_t len, struct tree_stream_totals *ret);
/* Adds what an entry of the table stands for. */
void tree_stream_count(struct tree_stream_totals *t, const struct tree_btt_entry *e);

/* The name of the stream: the same as long as the checkpoint is. Not 0. */
uint64_t tree_stream_name(const struct tree_super *s);

/* The extent `part` of a node whose header was decoded: do all parts that the header names in it
 * have their checksums? -ERR_bad_crc and the like; `e` says which part. */
NODISCARD int tree_stream_check_extent(const struct tree_node_header *h, unsigned part,
                                       const uint8_t *bytes, size_t len, struct err *e);
/* The same of a memtable segment: piece->len bytes. */
NODISCARD int tree_stream_check_piece(const uint8_t *file_id, const struct tree_btt_piece *p,
                                      const uint8_t *bytes, struct tree_codec *c, struct err *e);
