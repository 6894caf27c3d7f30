/*
 * tree/rebuild.h -- saves what can be saved of a damaged tree file, into a new one: superblocks,
 * translation table and lists are made anew, nodes are found by scanning where the table does not
 * know them. The old file is only read.
 *
 * The new file is one checkpoint: that of the newest good superblock, or without any that of the
 * newest index of a table, or the newest birth of a node. Every node of it is
 *   copied, when all of it is sound;
 *   mended, when partitions are damaged: without them;
 *   replaced by an older state, if it is a leaf: what was changed since is lost;
 *   else made anew: an internal node over those of its children that are found (the messages it
 *   buffered are lost), a leaf without records.
 * Memtable segments likewise: whole, or without damaged blocks. Each loss is told.
 *
 * A file that is made of the older checkpoint, because the newer one's superblock is damaged (its
 * index is found) or because that was asked for, lacks what was committed in between: that is told,
 * and is a loss.
 *
 * Without a superblock nobody knows the applied index and the owner. Then the new file has those of
 * the options, or none: no server opens a file without its owner.
 *
 * Blocks. One thread. Memory: 70 bytes for each state of a node that is found, 70 for each block of
 * the table, two nodes of up to 16 MiB, a memtable segment.
 */
#pragma once

#include "tree/check.h"

#define TREE_REBUILD_OWNER_BYTES 16u

struct tree_rebuild_options {
    struct disk *disk;
    const char *path, *out;
    bool older;           /* the checkpoint before the newest, if its superblock is there */
    uint64_t index, term; /* applied, when no superblock says it; 0: not known */
    const uint8_t *owner; /* 16 bytes, likewise; NULL: not known */
    void (*found)(void *arg, const struct tree_finding *f);
    void *arg;
};
struct tree_rebuild_result {
    uint64_t checkpoint, applied_index;
    uint64_t copied, mended, older, made; /* nodes */
    uint64_t pieces, pieces_mended, pieces_lost;
    uint64_t losses;         /* findings of severity damage */
    uint64_t left_out;       /* a newer checkpoint than that of the new file; 0: none */
    uint64_t left_out_index; /* to which it was applied; 0: not known */
    bool has_super;          /* else applied index and owner are those of the options */
};
/* -EEXIST: `out` is there. -ERR_bad_magic and others of class ERR_corrupt: nothing of a tree is in
 * the file, or it contradicts itself. -ENOSPC, -EIO ..., -ENOMEM. Nothing is left of `out` then. */
NODISCARD int tree_rebuild(const struct tree_rebuild_options *opt, struct tree_rebuild_result *ret,
                           struct err *e);
