/*
 * chunk/plan_priv.h -- what one update does to the cells of a chunk. Pure but for memory: says
 * which old cells must be read, then makes the new version and the pieces to be written.
 */
#pragma once

#include "chunk/parts_priv.h"
#include "tree/space.h"

/* A cell that keeps bytes of its old content, or zeros beside the new bytes. */
struct chunk_edge {
    bool used, read; /* read: the old bytes must be fetched and verified */
    uint32_t cell, old_bytes;
    uint32_t from, to; /* the new bytes in it */
    uint8_t *bytes;    /* CHUNK_CELL, zeros where nothing was read */
};

struct chunk_plan {
    struct chunk_version *old; /* counted; NULL: nothing of it is kept */
    uint32_t old_length, new_length;
    uint32_t from, to; /* the new data, from == to: none */
    bool tail_append;  /* the first new bytes go behind the old ones, in their block */
    struct chunk_edge edge[2];
    uint32_t new_blocks; /* at most, table included */
    uint32_t new_cells;  /* at most, without */
    uint64_t reserved_bytes;
    uint32_t reserved_block, reserved_count; /* allocated in the file; 0: only counted */
    struct tree_space_extent *taken;         /* `extent`: units that are its own ... */
    unsigned taken_count, taken_used;        /* ... and which of them have a cell: all before */
    uint32_t taken_part, taken_wanted;       /* taken_used, and so many units of that one */
    uint32_t carried_bytes;                  /* its record has them, too; 0: it has not */
    /* Made with the data: */
    struct iovec *iov;
    unsigned iov_count, iov_capacity;
    struct iovec *tail; /* pieces of the append in place */
    unsigned tail_count;
    uint64_t tail_block;
    uint32_t tail_offset;
    uint8_t *table;
    uint32_t first_block, table_blocks, cell_blocks;
};

/* -EINVAL: the request contradicts itself. `e` is hot. */
NODISCARD int chunk_plan_new(const struct chunk_update *u, const struct chunk_entry *e,
                             struct chunk_plan **ret);
struct chunk_plan *chunk_plan_free(struct chunk_plan *p);
/* The new version, its blocks counted from 0 at `first_new` on, to be placed; pieces in order. The
 * edges hold their bytes. */
NODISCARD int chunk_plan_build(struct chunk_plan *p, const struct chunk_update *u,
                               const struct chunk_entry *e, struct chunk_version **ret);
/* Gives the new cells (blocks CHUNK_NEW_BLOCK + n) their places; with `with_table` a table that
 * does not fit the record goes before them. */
#define CHUNK_NEW_BLOCK (UINT64_C(1) << 63)
NODISCARD int chunk_plan_place(struct chunk_plan *p, struct chunk_version *v, uint32_t first_block);
