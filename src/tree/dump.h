/*
 * tree/dump.h -- what is in a tree file, as lines: for a file that nobody writes. What is damaged
 * becomes a line "damage" and the rest is shown. Blocks; one thread.
 */
#pragma once

#include "tree/line.h"

struct disk;

struct tree_dump_options {
    struct disk *disk;
    const char *path;
    bool older;                /* the other retained checkpoint */
    uint64_t block;            /* only this node; 0: none */
    bool segments;             /* the memtable segments with their blocks */
    bool keys;                 /* records and messages, of the node, the segments, or the range */
    bool values;               /* with their values */
    struct kv_slice low, high; /* low <= key < high; empty: no bound */
    struct tree_lines to;
};
/*
 * Without `block`, `segments` and `keys`: superblocks, checkpoint, the table, segments. Keys of a
 * range: what the nodes have for it, from the root down, in the order of the keys of each; and the
 * segments. *ret_damages: how many lines "damage" there are. -ENOENT: no file, no such block, no
 * older checkpoint; class ERR_corrupt: no superblock; -ENOMEM.
 */
NODISCARD int tree_dump(const struct tree_dump_options *opt, uint64_t *ret_damages, struct err *e);

struct tree_stats_options {
    struct disk *disk;
    const char *path;
    bool older;
    struct tree_lines to;
};
/* Sizes: of the file and its free space, of each level, of the memtable segments. Reads headers,
 * and of each partition the byte that names its codec. The same errors. */
NODISCARD int tree_stats(const struct tree_stats_options *opt, uint64_t *ret_damages,
                         struct err *e);
