/*
 * tree/stream_receive_priv.h -- how the sources of tree/stream_receive.h share a receiver:
 * stream_receive.c (frames), stream_plan.c (tables, and where everything will lie), stream_store.c
 * (the partial file, its record, how it becomes a tree).
 */
#pragma once

#include "tree/stream_format.h"
#include "tree/stream_receive.h"

#define RECEIVE_OWNER_BYTES 16u

/* Units of the partial file: 0 and 16 are for superblocks; two records; the header of the stream;
 * from 17 on pages of the table as they came (page n at 17 + n), list, drop queue. */
#define RECEIVE_RECORD_UNIT 1u
#define RECEIVE_HEADER_UNIT 3u
#define RECEIVE_TABLE_UNIT 17u

struct tree_receive {
    struct disk *disk;
    char *path, *partial;
    bool owned;
    uint8_t owner[RECEIVE_OWNER_BYTES];
    uint64_t sync_bytes;
    struct disk_file *file;
    bool failed;           /* a sync has: nothing is written any more */
    struct kv_cursor next; /* of what was taken */
    uint64_t stored, unsynced;
    uint64_t reach;  /* where the last one of what was stored ends */
    uint64_t record; /* number of the next one */
    struct tree_codec codec;

    /* tables, as they came */
    bool begun; /* the header is known */
    struct tree_stream_header header;
    uint8_t *pages; /* page_count of them, void ones are zeros */
    uint64_t page_got;
    uint8_t *list, *drops;

    /* once they are complete: */
    bool planned;
    struct tree_btt_piece *piece;
    uint64_t *unit;       /* of each entry of the table: where its extent will be */
    uint64_t *piece_unit; /* of each segment */
    struct tree_stream_totals totals;
    uint64_t end; /* unit behind all of them */

    /* what is coming in */
    uint8_t *buf;
    size_t capacity;
    struct tree_node_header node;
    uint64_t block; /* whose header that is; 0: none */
};

/* ---- stream_plan.c ---- */

/* Memory for the tables of x->header. -ENOMEM. */
NODISCARD int tree_receive_begin(struct tree_receive *x);
void tree_receive_forget(struct tree_receive *x); /* all of a stream */
void tree_receive_entry(const struct tree_receive *x, uint64_t block, struct tree_btt_entry *ret);
/* The tables are one whole; where everything will lie. Class ERR_corrupt, -ENOMEM. */
NODISCARD int tree_receive_plan(struct tree_receive *x, struct err *e);
/* The number of the entry that has the older extent of a block; 0: none. */
uint64_t tree_receive_extent(const struct tree_receive *x, uint64_t block,
                             const struct tree_extent *extent);
/* What comes behind the tables, a piece, a node; part of the latter. */
void tree_receive_after_pages(const struct tree_receive *x, struct kv_place *ret);
void tree_receive_after_drops(const struct tree_receive *x, uint64_t offset, struct kv_place *ret);
void tree_receive_after_piece(const struct tree_receive *x, uint64_t i, struct kv_place *ret);
void tree_receive_after_node(const struct tree_receive *x, uint64_t block, struct kv_place *ret);
/* Behind *end, within one region; *end moves behind it. */
uint64_t tree_receive_take(uint64_t *end, uint64_t units);

/* ---- stream_store.c ---- */

NODISCARD int tree_receive_write(struct tree_receive *x, uint64_t unit, const void *bytes,
                                 size_t len);
NODISCARD int tree_receive_open(struct tree_receive *x, bool again, struct err *e);
/* The tables, which are complete. */
NODISCARD int tree_receive_store_tables(struct tree_receive *x);
/* All that was written is durable, and the record says so: it goes on at `at`. */
NODISCARD int tree_receive_record(struct tree_receive *x, const struct kv_cursor *at);
/* Everything is there: it becomes a tree with its name. */
NODISCARD int tree_receive_finish(struct tree_receive *x, struct err *e);
