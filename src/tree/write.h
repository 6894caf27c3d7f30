/*
 * tree/write.h -- writes a node version: packs its parts on the executor, and hands header and
 * parts to the file as one extent; either all of them, or (append) only those that are not on disk
 * yet, with a header that goes on using the older extents.
 *
 * Appended while the block has no more than TREE_APPEND_EXTENTS extents and no more than 30 % of
 * their bytes are dead, and where that saves something. Of a whole write, what is not in memory is
 * copied from disk as it is packed there.
 *
 * Basements that have lain on disk for many checkpoints are cold: when they are written again, with
 * the rest of their leaf, they are packed with zstd, also those that are not in memory.
 *
 * Nodes are packed beside each other, by the executor; by the loop what that cannot take, or has
 * not begun after a while: a partition at a time, with what else is due in between.
 *
 * So many writes at a time, the others wait in order. Memory is charged before; who finds none
 * waits for those under way to give theirs back. When there are none it is overdrawn by this one:
 * dirty memory becomes free by being written only.
 *
 * Thread: the loop's.
 */
#pragma once

#include "tree/fetch.h"
#include "tree/memtable.h"

#define TREE_APPEND_EXTENTS 4u

struct tree_writer;
struct tree_writer_options {
    const struct env *env;
    struct tree_file *file;
    struct tree_nodes *nodes;
    struct tree_cache *cache;
    struct loop_executor *executor;
    struct tree_times *times;
    const struct tree_shape *shape; /* file_id and codec; lent */
    unsigned writes_max;            /* nodes at a time, besides one memtable; at most 64. 0: 4 */
    unsigned cold_checkpoints;      /* as in tree_options; 0: never */
    bool serial; /* packs on the loop's thread, a partition at a time, without the executor */
};
NODISCARD int tree_writer_new(const struct tree_writer_options *opt, struct tree_writer **ret);
struct tree_writer *tree_writer_free(struct tree_writer *w); /* nothing under way; NULL is fine */
bool tree_writer_busy(const struct tree_writer *w);
/* The text of the last failure of class EIO: block, place, reason. */
const struct err *tree_writer_error(const struct tree_writer *w);

/* A node version that is not on disk. Of one block, versions are written in their order: the caller
 * does not begin a newer one while an older one is under way. When it is done the node and its
 * parts say where they are (tree_nodes_written), and may be evicted; after a failure all is as it
 * was. `done` is not called from inside the call.
 *
 * A part that is in no memory is copied from where it says it is. In an extent of another block it
 * does not stay there: that extent is given back when the other block is written whole or dropped.
 * So whoever moves parts to another block makes copies, which are dirty, and no references. */
struct tree_node_write {
    void (*done)(struct tree_node_write *w, int rc); /* -ENOSPC, -EIO, -ENOMEM, ... */
    struct tree_node *node; /* stays: a snapshot of its version is held, or it is the newest */
    uint64_t birth;         /* tree_file_number() or the frozen number */
    uint64_t written_bytes; /* out */
    bool appended;          /* out */
    struct list link;       /* the writer's, as is: */
    void *inside;
};
void tree_writer_write(struct tree_writer *w, struct tree_node_write *req);

/* ---- memtables ---- */

/* Writes a frozen memtable into pieces of the file: segments (segment.h) of about piece_bytes.
 * After a failure what was written is given back. One at a time, the others wait in order. */
#define TREE_KEEP_PIECES_MAX 512u
struct tree_keep {
    void (*done)(struct tree_keep *k, int rc);
    struct tree_memtable *memtable; /* lent */
    struct kv_slice from;           /* keys below are left out, and deleted ranges clipped; lent */
    uint64_t msn_max;               /* what is newer is left out; 0: all of it */
    uint64_t birth;                 /* the frozen number */
    uint32_t memtable_number;       /* kept in the pieces */
    size_t piece_bytes;             /* unpacked; 0: 4 MiB; more if there would be too many */
    struct tree_btt_piece *piece;   /* out: mem_alloc, the caller's; NULL: there is none */
    size_t piece_count;
    uint64_t written_bytes;
    void *inside;
};
void tree_writer_keep(struct tree_writer *w, struct tree_keep *k);
/* Which memtable a piece belongs to, which of its pieces it is, and how many there are.
 * -ERR_bad_value. */
struct tree_keep_owner {
    uint32_t memtable_number, piece_number, piece_count;
};
NODISCARD int tree_keep_owner(const struct tree_btt_piece *p, struct tree_keep_owner *ret);
/* The number of the segment that it is: in its header, and a seed of its checksums. */
uint32_t tree_keep_number(uint32_t memtable, uint32_t piece);
/* Reads all pieces of one memtable, in order, into an empty memtable: start-up only, blocks. Their
 * messages keep their numbers, all greater than base_msn. Class ERR_corrupt, errno; `e` says which
 * piece and where. */
NODISCARD int tree_keep_load(struct tree_file *f, const uint8_t *file_id,
                             const struct tree_btt_piece *piece, size_t count,
                             struct tree_memtable *into, struct err *e);
