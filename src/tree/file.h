/*
 * tree/file.h -- one tree file: blocks that are written out of place, and checkpoints that make a
 * set of them durable at once. Below nodes and memtables, which it does not look into.
 *
 * The live table says where each block is now. tree_file_freeze() begins checkpoint k: a copy of
 * the table that live writes no longer change. What belongs to k and is not written yet is written
 * with birth k, goes into the frozen table and, unless the block has changed since, into the live
 * one. tree_file_commit() then makes k durable: changed pages of the table, index, lists, sync,
 * superblock k mod 2, sync. Two checkpoints are kept, and those that are pinned; what they contain
 * is not overwritten. Layout and recovery: doc/format/tree_store.md.
 *
 * Thread: the loop of env. Requests are the caller's, `done` is called exactly once, on that loop,
 * never from inside the call that submits; it may submit more. Only create, open and free block.
 * Memory for I/O is 4 KiB-aligned, also where the file system cannot do direct I/O.
 *
 * After a failed sync nothing is written any more: -ERR_failed_before for ever, tree_file_failed()
 * says why. Reads go on. -ENOSPC, and -EIO of a write, leave everything as it was.
 */
#pragma once

#include "disk/disk.h"
#include "loop/loop.h"
#include "tree/btt.h"
#include "tree/space.h"
#include "tree/super.h"

struct tree_file;

struct tree_file_options {
    const struct env *env;
    const char *path;         /* lent for the call */
    bool read_only, buffered; /* buffered: no direct I/O */
    bool older;               /* the newest checkpoint is of no use to the caller: the one before */
    uint64_t grow_bytes;      /* 0: 64 MiB */
    uint64_t punch_bytes;     /* free ranges from here on are given to the file system; 0: 1 MiB */
    uint64_t ahead_bytes;     /* above 0: so much is kept free and allocated, nothing is punched */
};

/* A new file with checkpoint 1, which is empty; `first`: what its superblock says besides (id and
 * places are filled in). Appears whole or not at all. -EEXIST, -ENOSPC, -EIO ... Blocks. */
NODISCARD int tree_file_create(const struct tree_file_options *opt, const struct tree_super *first,
                               struct err *e);

/* What an open has found. */
struct tree_file_found {
    struct tree_super super; /* of the checkpoint that is used */
    struct tree_btt_piece *piece;
    size_t piece_count;
    uint8_t *drops;       /* super.drops.len bytes */
    uint64_t older;       /* the other retained checkpoint; 0: there is none */
    uint64_t older_index; /* what it has applied */
    bool fell_back;       /* the newest was damaged, this is the older one: say it loudly */
    struct err note;      /* what was wrong, also if it does not matter (a torn superblock) */
};
void tree_file_found_fini(struct tree_file_found *found);
/* -ENOENT, -ERR_corrupt class, -ERR_bad_version, -EIO, -ENOMEM; `e` says what and where. Blocks. */
NODISCARD int tree_file_open(const struct tree_file_options *opt, struct tree_file **ret,
                             struct tree_file_found *found, struct err *e);
/* Nothing may be under way (tree_file_stop). NULL is fine. Blocks for close. */
struct tree_file *tree_file_free(struct tree_file *f);
DEFINE_FREEP(tree_file)

/* Done when nothing is under way any more. */
struct tree_file_stop {
    void (*done)(struct tree_file_stop *s);
};
void tree_file_stop(struct tree_file *f, struct tree_file_stop *s);

/* ---- blocks ---- */

/* A number, for a node that will be written. -ENOMEM, -ERR_failed_before. */
NODISCARD int tree_file_block_new(struct tree_file *f, uint8_t level, uint64_t *ret);
/* The live tree does without it since `version`. The same errors. No live write of it is under
 * way. */
NODISCARD int tree_file_block_free(struct tree_file *f, uint64_t block, uint64_t version);

struct tree_file_place {
    struct tree_space_extent extent; /* of the header; the newest */
    uint32_t header_len;             /* rounded up to 512 */
    uint64_t checksum, birth;        /* that the header must have */
    uint8_t level, flags, older_count;
};
/* Where it is in the live table. -ENOENT: no such block, or not written yet. */
NODISCARD int tree_file_find(const struct tree_file *f, uint64_t block,
                             struct tree_file_place *ret);
/* Its older extents, the newest first; returns place.older_count, fills in at most `max`. */
size_t tree_file_older(const struct tree_file *f, uint64_t block, struct tree_space_extent *ret,
                       size_t max);
/* The number of a block behind all that were ever given out. */
uint64_t tree_file_block_limit(const struct tree_file *f);

/* What is written now belongs to this checkpoint (and to later ones). */
uint64_t tree_file_number(const struct tree_file *f);

/* Somebody who waits for an extent; the file's. */
struct tree_file_room {
    uint32_t count;
    void (*ready)(struct tree_file_room *r, int rc); /* rc 0: `extent` is theirs */
    struct tree_space_extent extent;
    struct list node;
};

/*
 * One block, whole; or (`append`) an extent with a new header, and the extents it had stay: then it
 * has been written before and has less than TREE_BTT_SEGMENTS_MAX of them. `birth` is
 * tree_file_number(), or the number of the frozen checkpoint. Of one block at most one write for
 * each of the two at a time. Block 0: a piece of the file that is no block; the caller keeps its
 * extent and lists it in commits (struct tree_btt_piece).
 */
struct tree_file_write {
    void (*done)(struct tree_file_write *w,
                 int rc); /* -ENOSPC, -EIO, -ENOMEM, -ERR_failed_before */
    uint64_t block, birth;
    uint64_t version; /* of the tree: snapshots before it need what is replaced */
    uint64_t gone;    /* the live tree does without this since that version; 0: it has it */
    void *buf;        /* lent, 4 KiB-aligned */
    size_t len;       /* in units of 4 KiB; at most 64 MiB */
    uint32_t header_len;
    uint64_t checksum;
    uint8_t level, flags; /* flags: 6 bits */
    bool append;
    struct tree_space_extent extent; /* out */
    /* the file's */
    struct tree_file *file;
    struct list node;           /* of those under way, or of the refused */
    struct tree_file_room room; /* while it waits for an extent */
    struct disk_req req;
    uint64_t link; /* number for the extent it had */
    size_t reserved_blocks, reserved_extents;
    int rc;
};
void tree_file_write(struct tree_file *f, struct tree_file_write *w);

/* A piece that no commit from now on will list. -ENOMEM, -ERR_failed_before. */
NODISCARD int tree_file_piece_free(struct tree_file *f, struct tree_space_extent x, uint64_t birth,
                                   uint64_t version);
/* No live snapshot is of a version of the tree below this one. */
void tree_file_oldest(struct tree_file *f, uint64_t version);

/* Bytes of an extent; offset and length in units of 4 KiB. Nothing of them is checked here: the
 * header's checksum is in tree_file_find(), the header has those of the rest. */
struct tree_file_read {
    void (*done)(struct tree_file_read *r, int rc); /* -EIO, after some tries, and the like */
    uint64_t block;                                 /* for the message */
    struct tree_space_extent extent;
    uint32_t offset, len;
    void *buf;      /* lent, 4 KiB-aligned */
    struct err err; /* out: block, place and reason */
    /* the file's */
    struct tree_file *file;
    struct disk_req req;
    struct loop_timer again; /* with `tries` */
    unsigned tries;
};
void tree_file_read(struct tree_file *f, struct tree_file_read *r);
/* Start-up only, blocks. Exactly `len` bytes; in units of 4 KiB. -EIO; -ERR_short_msg: its end. */
NODISCARD int tree_file_read_now(const struct tree_file *f, uint64_t offset, void *buf, size_t len);

/* ---- checkpoints ---- */

/* Begins checkpoint *ret, which tree_file_number() was until now. -EALREADY, -ENOMEM,
 * -ERR_failed_before. */
NODISCARD int tree_file_freeze(struct tree_file *f, uint64_t *ret);
/* It will not be. Not while a commit is under way. */
void tree_file_thaw(struct tree_file *f);

/* Makes the frozen checkpoint durable, when its writes under way are done. Frozen no longer when it
 * is done; after a failure the next one has another number, and all is as before. */
struct tree_file_commit {
    void (*done)(struct tree_file_commit *c, int rc);
    struct tree_super super; /* in: all but number, places, size and chain; out: as written */
    const struct tree_btt_piece *piece; /* lent, as drops */
    size_t piece_count;                 /* at most TREE_BTT_PIECES_MAX */
    const void *drops;
    size_t drops_len;       /* at most 16 MiB */
    uint64_t written_bytes; /* out */
    struct list late;       /* the file's */
    struct tree_file *file;
    int rc;
};
void tree_file_commit(struct tree_file *f, struct tree_file_commit *c);

/* A retained checkpoint stays until it is unpinned as often. -ENOENT, -ENOBUFS (8 pinned). */
NODISCARD int tree_file_pin(struct tree_file *f, uint64_t checkpoint);
void tree_file_unpin(struct tree_file *f, uint64_t checkpoint);
const struct tree_super *tree_file_super(const struct tree_file *f); /* of the newest durable one */
/* Units that were given back and are kept for pinned checkpoints only. As long as what is kept. */
uint64_t tree_file_pinned(const struct tree_file *f);

struct tree_file_info {
    uint64_t newest, older; /* durable checkpoints; older 0: none */
    bool direct;
    struct tree_space_info space;
    uint64_t size_bytes, memory; /* memory: of the tables of blocks and space, and the rest */
};
void tree_file_info(struct tree_file *f, struct tree_file_info *ret);
/* 0, or -ERR_failed_before or -EROFS, and why. */
int tree_file_failed(const struct tree_file *f, struct err *e);
/* All invariants of space and table; for tests and verification. Nothing may be under way. */
bool tree_file_sound(const struct tree_file *f);
