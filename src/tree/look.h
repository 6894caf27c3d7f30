/*
 * tree/look.h -- reads a tree file as it lies, for tools: superblocks, what one of them names,
 * nodes, segments. What is damaged says so and the rest is read on; nothing is changed, and nothing
 * is kept but what the caller holds.
 *
 * Blocks (disk_now). One thread. What a function allocates it frees itself when it fails. Errors of
 * reading: class ERR_corrupt (-ERR_short_msg: the file ends before), -EIO and the like, -ENOMEM.
 */
#pragma once

#include "disk/disk.h"
#include "tree/btt.h"
#include "tree/filter.h"
#include "tree/pivots.h"
#include "tree/segment.h"
#include "tree/super.h"

struct tree_look {
    struct disk *disk;
    struct disk_file *file;
    uint64_t size_bytes;
    struct tree_super_pair pair; /* what lies in the two places */
    struct tree_super_choice choice;
    int choice_rc; /* of tree_super_choose() */
    struct err choice_err;
    struct tree_codec codec;
    uint8_t *packed; /* what was read last, before it is unpacked */
    size_t packed_capacity;
    uint64_t read_bytes;
};

/* Fails only when there is no file to look into. */
NODISCARD int tree_look_open(struct disk *d, const char *path, struct tree_look *ret,
                             struct err *e);
void tree_look_close(struct tree_look *l); /* all zero is fine */
/* Exactly `len` bytes. */
NODISCARD int tree_look_read(struct tree_look *l, uint64_t offset, void *out, size_t len);
/* Are the superblocks others than at the open? Then somebody writes the file. */
bool tree_look_changed(struct tree_look *l);

/* An open has given the superblock up that was there. */
bool tree_look_is_void(struct tree_look *l, unsigned place);

/* ---- a checkpoint ---- */

/* A part that is damaged has its error, and counts as empty. */
struct tree_look_table {
    struct tree_super super;
    int index_rc;
    struct tree_btt_index index;
    uint8_t *pages; /* as they lie on disk; zeros for damaged ones, which is void */
    int *page_rc;   /* index.page_count of them, as is: */
    int pieces_rc;
    struct tree_btt_piece *piece;
    size_t piece_count;
    int drops_rc;
    uint8_t *drops;
    size_t drops_len;
};
/* Whatever is damaged: 0. -ENOMEM. */
NODISCARD int tree_look_table(struct tree_look *l, const struct tree_super *s,
                              struct tree_look_table *ret);
void tree_look_table_fini(struct tree_look_table *t);
/* Its page is known. */
bool tree_look_knows(const struct tree_look_table *t, uint64_t block);
/* TREE_BTT_VOID where nothing is known. */
void tree_look_entry(const struct tree_look_table *t, uint64_t block, struct tree_btt_entry *ret);
/* The superblock to look at; `older`: of the other retained checkpoint. Class ERR_corrupt; -ENOENT:
 * there is no other. */
NODISCARD int tree_look_choose(const struct tree_look *l, bool older, const struct tree_super **ret,
                               struct err *e);
/* Sets a bit for each unit of the file that the checkpoint uses: (size_bytes / 4 KiB + 63) / 64
 * words. */
void tree_look_mark(const struct tree_look *l, const struct tree_look_table *t, uint64_t *bits);
static inline uint64_t tree_look_blocks(const struct tree_look_table *t)
{
    return t->index_rc < 0 ? 0 : t->index.next_block;
}

/* ---- nodes ---- */

struct tree_look_at {
    const uint8_t *file_id;
    uint64_t block, birth, sum, offset;
    uint32_t len; /* of the extent; 0: as the header says */
};
struct tree_look_node {
    struct tree_node_header header;
    uint64_t offset;
    uint8_t *pivot_bytes, *filter_bytes; /* owned; the second may be NULL */
    struct tree_pivots pivots;
    int filter_rc; /* the header's filter may be damaged, the node is not */
    struct tree_filter filter;
};
struct tree_look_at tree_look_at_entry(const struct tree_look_table *t, uint64_t block,
                                       const struct tree_btt_entry *e);
/* `e` says which part of it is damaged. */
NODISCARD int tree_look_node(struct tree_look *l, const struct tree_look_at *at,
                             struct tree_look_node *ret, struct err *e);
void tree_look_node_fini(struct tree_look_node *n); /* all zero is fine */
/* Where partition i is in the file. */
uint64_t tree_look_part_offset(const struct tree_look_node *n, uint32_t i);
/* Read, checked and unpacked into fresh memory (mem_free). */
NODISCARD int tree_look_part(struct tree_look *l, const struct tree_look_node *n, uint32_t i,
                             uint8_t **ret);
const char *tree_look_kind(uint8_t kind); /* "basement" */
/* Between which keys partition i lies. */
void tree_look_bounds(const struct tree_look_node *n, uint32_t i, struct tree_pivots_bounds *ret);

/* ---- memtable segments ---- */

struct tree_look_segment {
    uint64_t offset;
    uint32_t number;
    struct tree_segment s;
    uint8_t *index; /* owned, unpacked; may be NULL */
};
NODISCARD int tree_look_segment(struct tree_look *l, const uint8_t *file_id,
                                const struct tree_btt_piece *p, struct tree_look_segment *ret,
                                struct err *e);
void tree_look_segment_fini(struct tree_look_segment *s); /* all zero is fine */
/* Block i, or its ranges, unpacked into fresh memory. */
NODISCARD int tree_look_segment_block(struct tree_look *l, const struct tree_look_segment *s,
                                      uint32_t i, uint8_t **ret_raw, struct tree_block *ret);
NODISCARD int tree_look_segment_ranges(struct tree_look *l, const struct tree_look_segment *s,
                                       uint8_t **ret_raw, struct tree_ranges *ret);
