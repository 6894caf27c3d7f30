/*
 * tree/compact.h -- merges sources of messages into one stream of messages, for those who move
 * them: a flush, the merging of runs, a memtable on its way to disk.
 *
 * Of each key the newest message remains, and older ones only while upserts do not fold; what a
 * deleted range covers is gone, and so are notes. Deleted ranges come out as a list of their own.
 * Unlike merge.h it does not know what is below: a DELETE and an upsert remain what they are.
 *
 * Everything that the sources need is in memory: -ERR_need from them is passed on, and then the
 * whole has to be begun again. One thread, any.
 */
#pragma once

#include "tree/fragment.h"
#include "tree/source.h"

struct tree_compact;

struct tree_compact_options {
    struct tree_source *const *sources; /* newest first, lent until it is freed; at most
                                           TREE_SOURCES_MAX (merge.h) */
    size_t count;
    struct kv_slice low, high; /* what is moved: low <= key < high; empty: no bound; copied */
};
/* Also gathers the deleted ranges, clipped to the bounds. -ENOMEM, class EIO. */
NODISCARD int tree_compact_new(const struct tree_compact_options *opt, struct tree_compact **ret);
struct tree_compact *tree_compact_free(struct tree_compact *c);
DEFINE_FREEP(tree_compact)

/* 1: it stands on the next key; 0: there is none; -ENOMEM, class EIO: it is of no use any more. */
NODISCARD int tree_compact_next(struct tree_compact *c);
/* Of the key it stands on; lent until the next call. Newest first, at least one; no RANGE_DELETE.
 */
struct kv_slice tree_compact_key(const struct tree_compact *c);
const struct tree_message *tree_compact_messages(const struct tree_compact *c, size_t *ret_count);

/* All deleted ranges: ascending, without overlap, of each piece the newest number. Lent until it is
 * freed. */
const struct tree_ranges_item *tree_compact_ranges(const struct tree_compact *c, size_t *ret_count);
