/*
 * tree/flush.h -- moves messages one level down, and what follows from it for the shape of the
 * tree. Content does not change: who reads before and after finds the same.
 *
 * A job reads immutable heads and parts, and makes new heads: of the children that took messages
 * (one or two neighbours; more come out when they are split), and of the nodes above whose children
 * or buffers have changed, up to the root. Nothing is installed here.
 *
 * Three steps: tree_flush_gather() on the loop's thread until nothing is missing; tree_flush_run()
 * on any thread; the owner installs `out`, or drops it with tree_flush_fini().
 *
 * What else was decided:
 * - A drain into a buffer ends where that is twice as large as it should be, and what a buffer
 *   takes from the one above where it is three times: the rest stays above, as one run.
 * - A leaf that will be split or merged, or whose filter is worn out, is read as a whole; else
 *   basements that no message touches are shared, read or not. Parts of leaves, and of internal
 *   nodes that are merged, always belong to the block of their node: what comes from another one is
 *   copied. Parts of an internal node that is split are not: they have to be written again.
 * - When a node is split, what the node above buffers for it is split as well, and has to be read.
 *   So a node that is not full yet may grow beyond `fanout`; the next job below it splits it.
 * - A run has at most 16 part_raw of deleted ranges; more make several runs at once, also beyond
 *   runs_max.
 * - Numbers of messages in a header are bounds: what has left a buffer still counts.
 * - The entries of a FILTER partition are the keys in it.
 */
#pragma once

#include "tree/compact.h"
#include "tree/head.h"
#include "tree/need.h"

/* Sizes, in unpacked bytes. All of them small in tests. */
struct tree_shape {
    uint32_t leaf_raw;     /* 1 MiB: a leaf with more is split, below a quarter merged */
    uint32_t basement_raw; /* 16 KiB */
    uint32_t internal_raw; /* 4 MiB of messages: with more a node is flushed */
    uint32_t part_raw;     /* 16 KiB: of a partition of a run */
    uint32_t fanout;       /* 32 children: with more a node is split, below a quarter merged */
    uint32_t runs_max;     /* 4 runs of a slot: instead of one more they become one */
    uint32_t filter_bits;  /* 10 per key of a leaf, half as many more of buffers; 0: no filters */
    uint8_t codec;         /* enum tree_codec_id */
    uint8_t file_id[TREE_FILE_ID_BYTES];
};
#define TREE_SHAPE_DEFAULT                                                         \
    {                                                                              \
        .leaf_raw = 1u << 20, .basement_raw = 16u << 10, .internal_raw = 4u << 20, \
        .part_raw = 16u << 10, .fanout = 32, .runs_max = 4, .filter_bits = 10,     \
        .codec = TREE_CODEC_LZ4                                                    \
    }

#define TREE_HEIGHT_MAX 12u
#define TREE_FLUSH_OUT_MAX 96u /* nodes that a job makes at most */
#define TREE_FLUSH_TAKE_MAX (8u << 20)

/* One node that a job made. */
struct tree_flush_out {
    uint64_t block;
    struct tree_head *head; /* a reference */
};

struct tree_flush {
    /* in: lent until the job is over */
    const struct tree_shape *shape;
    uint32_t leaf_bits; /* per key of a leaf's filter, if less than the shape says; 0: as it says */
    struct tree_cache *cache;
    struct tree_need_from from; /* what gather pins stays with this list */
    /* The path from the root down to the parent of the children; empty: the child is the root, or
     * there is no tree yet (child_count 0). slot[i]: where path[i] leads to path[i + 1], and at the
     * end to child[0]. The heads are pinned. */
    struct tree_node_at path[TREE_HEIGHT_MAX];
    uint16_t slot[TREE_HEIGHT_MAX];
    unsigned depth;
    struct tree_node_at child[2]; /* the second: the right neighbour, to be merged with the first */
    unsigned child_count;
    /* Messages. Memtables: `source` (newest first) from `drain_from` on, at most about `take_bytes`
     * (TREE_FLUSH_TAKE_MAX) of them, and only those of the children. Else (source_count 0): all
     * that the parent buffers for the children. */
    struct tree_source *const *source;
    size_t source_count;
    struct kv_slice drain_from;
    uint64_t take_bytes;
    const uint64_t *spare; /* numbers for new nodes: TREE_FLUSH_OUT_MAX of them */
    size_t spare_count;
    /* out */
    struct tree_flush_out out[TREE_FLUSH_OUT_MAX]; /* bottom up; of a block at most one */
    size_t out_count;
    size_t spare_used;
    uint64_t root;                      /* block; the same as before, mostly */
    uint8_t height;                     /* levels, 1: the root is a leaf */
    uint64_t gone[TREE_HEIGHT_MAX + 2]; /* blocks that are no part of the tree any more, */
    size_t gone_count;
    uint64_t dropped[2]; /* and ones that are gone with all that is below them */
    size_t dropped_count;
    bool all; /* drained: no message of the children's keys is left behind; else: */
    uint8_t drained_to[TREE_KEY_MAX]; /* messages of keys below this one were taken */
    size_t drained_len;
    uint64_t taken_bytes, taken_count; /* of messages */
    uint64_t moved_bytes;              /* written into new parts, for the caller's statistics */
    /* inside */
    void *inside;
};

/* 0: everything that run needs is pinned; -ERR_need: fetch and call again; -ENOMEM, -ENOBUFS. */
NODISCARD int tree_flush_gather(struct tree_flush *f);
/* What run will allocate at most, about: to be charged before. */
uint64_t tree_flush_cost(const struct tree_flush *f);
/* -ENOMEM: nothing was made, may be tried again; class EIO. Parts and heads are charged with force.
 */
NODISCARD int tree_flush_run(struct tree_flush *f);
/* Drops what was made and is still in `out`. All zero is fine. */
void tree_flush_fini(struct tree_flush *f);

/* ---- whom to flush ---- */

/* The slot that has most to gain: bytes, and more for deletes; lowest first. False: the node
 * buffers nothing. */
bool tree_flush_heaviest(const struct tree_head *h, uint16_t *ret_slot);
/* Is it too small beside its neighbours (see struct tree_shape)? */
bool tree_head_is_small(const struct tree_head *h, const struct tree_shape *shape);
