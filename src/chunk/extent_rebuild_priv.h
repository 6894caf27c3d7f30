/* chunk/extent_rebuild_priv.h -- the `extent` engine, while a store is made anew: see rebuild.h. */
#pragma once

#include "chunk/extent_start_priv.h"
#include "chunk/rebuild.h"
#include "tree/tree.h"

#define CHUNK_INDEX_MADE "index.made" /* the new one */
#define CHUNK_INDEX_LEFT "index.left" /* what is left of the old one, if it is damaged */

/* ---- extent.c ---- */
struct tree_options chunk_extent_index_options(const struct chunk_options *opt, const char *path,
                                               const struct uuid *target);

/* ---- extent_salvage.c; blocks ---- */
/* An index that can be opened, the caller's path; the store is lossy. */
NODISCARD int chunk_salvage_index(struct chunk_extent *x, char **ret_path, struct err *e);
/* The new index takes the place of the old one. */
NODISCARD int chunk_salvage_finish(struct chunk_extent *x, bool drop_journal);

/* ---- extent_rebuild.c: a start as of a store that is made anew ---- */
void chunk_rebuild_begin(struct chunk_loading *l);
/* The journal was done again, as far as it goes: all chunks are looked at. */
void chunk_rebuild_walk(struct chunk_loading *l, uint64_t journal_index);
