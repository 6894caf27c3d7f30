/*
 * tree/nodes.h -- all nodes of a tree: for each block its versions, the newest first, and of each
 * its head, in memory or not.
 *
 * A reader who holds a snapshot of version V of the tree finds of each block the newest version of
 * it that is at most V. Versions that nobody can look for are reclaimed in the order in which they
 * were replaced.
 *
 * Versions are charged to the cache with force, heads by who makes them (head.h); the array of
 * blocks, 8 bytes of each, is not.
 *
 * Threads: find and pin on any that holds a snapshot, unpin on any; everything else on the loop's.
 */
#pragma once

#include "tree/file.h"
#include "tree/head.h"

#define TREE_NO_VERSION UINT64_MAX
#define TREE_NODES_MAX (UINT64_C(1) << 28) /* numbers of blocks are below */

struct tree_nodes;

/* A version of a node. Lives while a snapshot may look for it, its head is pinned, or it is being
 * written: who has none of these on its side asks for it again by block and version. */
struct tree_node {
    uint64_t block, version;   /* of the tree, that brought it */
    _Atomic uint64_t replaced; /* version that did without it; TREE_NO_VERSION: it is the newest */
    _Atomic(struct tree_node *) older;
    _Atomic uint32_t state; /* pins of its head; TREE_PART_ABSENT: not in memory */
    struct tree_head *head; /* valid while pinned, or on the loop's thread while present */
    _Atomic uint32_t raw_bytes, entries; /* of its head; until that was there, a guess */
    bool sized;                          /* the loop's: no guess any more */
    uint8_t level;
    /* the loop's */
    struct tree_file_place place; /* where it is, if `written` */
    bool written;                 /* it is on disk: its head may be evicted */
    bool dropped;                 /* `replaced` by nothing: the block is free from then on */
    bool writing;                 /* tree/write.h has it, and sets this */
    bool untold;                  /* dropped, and the file does not know */
    bool gone;                    /* nobody can look for it any more */
    _Atomic bool hollow;  /* the same, but readers may stand on it, on their way to older ones */
    bool apart;           /* hollow, and no chain leads to it */
    uint64_t dirty_bytes; /* counted by nodes: of parts and head not on disk */
    uint64_t kept_bytes;  /* of parts not on disk that what replaced it does without */
    struct tree_node *newer;
    struct list clock;   /* heads in memory that may go */
    struct list dirty;   /* those not written, the oldest first */
    struct list retired; /* replaced ones; then those that are gone, but still pinned */
    struct list frees;   /* those that are untold */
};

struct tree_nodes_options {
    struct tree_file *file;
    struct tree_cache *cache;
    uint64_t logical_bytes, key_count; /* of all, about, for guesses; 0: not known */
};
/* Knows all blocks of the live table of the file, as version 0. -ENOMEM, -ENOSPC: too many. */
NODISCARD int tree_nodes_new(const struct tree_nodes_options *opt, struct tree_nodes **ret);
struct tree_nodes *tree_nodes_free(struct tree_nodes *n); /* nothing pinned; NULL is fine */

/* NULL: there is none. Where it is used without the snapshot of `version` (the loop's thread, for a
 * need list): the result is a version that was there at `version`, if it is still to be had. */
struct tree_node *tree_nodes_find(struct tree_nodes *n, uint64_t block, uint64_t version);
/* True: node->head stays until unpin. */
NODISCARD bool tree_node_pin(struct tree_node *node);
void tree_node_unpin(struct tree_node *node);
/* Its head has been read. Takes the reference; if somebody was faster, it is given back. */
void tree_node_fill(struct tree_nodes *n, struct tree_node *node, struct tree_head *head);

/*
 * A version of a block, new or changed; takes the reference of the head. What it replaces is
 * retired. prepare() makes room for the next `count` installs and drops, of blocks up to
 * `block_max`, so that none of them can fail: -ENOMEM, -ENOSPC (TREE_NODES_MAX). What was made room
 * for before and is not used is counted in.
 */
NODISCARD int tree_nodes_prepare(struct tree_nodes *n, size_t count, uint64_t block_max);
struct tree_node *tree_nodes_install(struct tree_nodes *n, uint64_t block, uint64_t version,
                                     struct tree_head *head);
/* The tree does without the block from `version` on. The file is told at once, or when the write of
 * it that is under way has ended (`frees_pending`: no checkpoint may be frozen before): by
 * tree_nodes_written() or, if it has failed, by the next tree_nodes_reclaim(). */
void tree_nodes_drop(struct tree_nodes *n, uint64_t block, uint64_t version);
/* Snapshots from this version on need nothing of what is written of this node; 0: the live tree has
 * it. Versions that replaced it have parts in common with it, which are where it was written, until
 * they are written themselves; that may never be, when the block was dropped. So it is not the
 * version that replaced it, nor can the last one of the block always be told: its shell may be
 * gone. */
uint64_t tree_nodes_unneeded(const struct tree_nodes *n, const struct tree_node *node);
/* Bytes that stay in memory, of what `version`, the newest one, has replaced or dropped, for
 * whoever has a snapshot of the version `seen`. */
uint64_t tree_nodes_replaced(const struct tree_nodes *n, uint64_t version, uint64_t seen);
/* No snapshot is of a version below `oldest`: frees what nobody looks for, tells the file
 * (tree_file_oldest), and tries again what it could not be told before (-ENOMEM). */
void tree_nodes_reclaim(struct tree_nodes *n, uint64_t oldest);
/* Snapshots are of these versions only (ascending), the newest state's among them: what none of
 * them sees gives its memory back and is not dirty any more, though it is younger than the oldest.
 * Not between an install and the moment when readers may see it. */
void tree_nodes_hollow(struct tree_nodes *n, const uint64_t *held, size_t count);

/* Any version of it, also one that nobody can look for any more. */
bool tree_nodes_block_writing(const struct tree_nodes *n, uint64_t block);
/* It was written: see tree/write.h. Parts were told before; `writing` is cleared. The node stays
 * until the next tree_nodes_reclaim(), if not for longer. */
void tree_nodes_written(struct tree_nodes *n, struct tree_node *node,
                        const struct tree_file_place *place);

struct tree_nodes_info {
    uint64_t nodes, versions, heads; /* blocks, all versions, heads in memory */
    /* retired: what versions that were replaced keep in memory: heads, and parts not on disk */
    uint64_t dirty_count, dirty_bytes, retired_bytes;
    uint64_t frees_pending;
    uint64_t memory; /* of the table by which they are found */
};
void tree_nodes_info(const struct tree_nodes *n, struct tree_nodes_info *ret);
/* The newest versions of the nodes of a level: how many, and what they hold: of those whose head
 * was in memory since the opening as it is there, of the others as their size on disk says. Any
 * thread. */
struct tree_nodes_level {
    uint64_t nodes, raw_bytes, entries;
};
struct tree_nodes_level tree_nodes_level(const struct tree_nodes *n, unsigned level);
/* Nodes that are not on disk, in the order in which they came. NULL: the first; none is left. A
 * version that was replaced and that only a checkpoint under way needs is among them. */
struct tree_node *tree_nodes_dirty(const struct tree_nodes *n, const struct tree_node *after);
/* All blocks in order: the newest version of each. For tests. */
struct tree_node *tree_nodes_next(const struct tree_nodes *n, uint64_t block);
