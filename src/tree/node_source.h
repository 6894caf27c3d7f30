/*
 * tree/node_source.h -- sources (source.h) over what a head holds: one run of one slot of an
 * internal node, or the records of a leaf, as messages PUT with number 0.
 *
 * All messages of a key lie in one part: cuts are keys, and who makes parts ends them behind the
 * last message of a key.
 *
 * A part that is not in memory is added to the need list and -ERR_need is said. The part that a
 * source stands in is pinned by it. The head is the caller's and outlives the source. One thread.
 */
#pragma once

#include "kv/kv.h"
#include "tree/block.h"
#include "tree/head.h"
#include "tree/need.h"
#include "tree/source.h"

struct tree_node_source {
    struct tree_source base;
    const struct tree_need_from *from; /* whom to ask for; lent */
    const struct tree_head *head;
    uint64_t block, version; /* names of what is missing */
    uint32_t first, count;   /* partitions of the run or of the leaf */
    uint32_t at;             /* the one that is pinned; first + count: none */
    uint32_t ranges;         /* partition with the deleted ranges; partition_count: none */
    struct tree_part *pinned, *pinned_ranges;
    struct tree_ranges list;
    uint32_t group;              /* entry where the messages of the present key begin */
    struct tree_block_iter iter; /* after find() only `block` and `at` */
};

/* A run of a slot: number as in tree_head_runs(). */
void tree_node_source_run(struct tree_node_source *s, const struct tree_need_from *from,
                          const struct tree_node_at *node, uint16_t slot, uint8_t run);
void tree_node_source_leaf(struct tree_node_source *s, const struct tree_need_from *from,
                           const struct tree_node_at *node);
void tree_node_source_fini(struct tree_node_source *s); /* unpins */

/* Hands the pin of the part it stands in over to the need list, so that what was read stays lent
 * for as long as that; it stands nowhere then. 0; -ENOMEM, -ENOBUFS: it stands where it stood. */
NODISCARD int tree_node_source_keep(struct tree_node_source *s);
