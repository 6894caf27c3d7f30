/*
 * chunk/extent_index_priv.h -- the parts of the `extent` engine that stand between what is in
 * memory of chunks and its index.
 */
#pragma once

#include "chunk/extent_priv.h"

/* ---- extent_entry.c ---- */
NODISCARD struct chunk_version *chunk_load_content(const struct chunk_content *c);
/* What the index has of it, if all of that can be had; -ERR_need. */
NODISCARD int chunk_entry_read(struct chunk_extent *x, struct chunk_entry *e, struct kv_need *need);
void chunk_entry_recount(struct chunk_store *s, struct chunk_entry *e); /* its blocks */
void chunk_entry_charge(struct chunk_store *s, struct chunk_entry *e); /* the memory it takes now */
int chunk_index_failed(struct chunk_extent *x, int rc); /* an error of kv, as callers see it */
int chunk_extent_know(struct chunk_store *s, struct chunk_entry *e);
void chunk_extent_load(struct chunk_work *w, chunk_next *next);
void chunk_extent_forget(struct chunk_store *s);
void chunk_forget_soon(struct chunk_store *s); /* if there is too much in memory */

/* ---- extent_walk.c ---- */
int chunk_extent_next(struct chunk_store *s, struct chunk_key from, struct chunk_info *ret);
int chunk_extent_next_of(struct chunk_store *s, struct chunk_key from, struct chunk_key *ret);
int chunk_extent_ahead(struct chunk_store *s, struct chunk_ahead *a);
void chunk_extent_ahead_end(struct chunk_store *s, struct chunk_ahead *a);
void chunk_walk_changed(struct chunk_extent *x); /* the index has changed */

/* ---- extent_damage.c ---- */
int chunk_extent_next_damaged(struct chunk_store *s, struct chunk_damage *d);

/* ---- extent_rewrite.c ---- */
void chunk_rewrite_look(struct chunk_extent *x, const struct chunk_entry *e); /* is it in pieces? */
void chunk_rewrite_tick(struct chunk_extent *x);
void chunk_rewrite_free(struct chunk_extent *x);

/* ---- extent_index.c ---- */
/* Adds to `b` what makes of the index's state of the entry that of the shot; -ENOMEM is sticky. */
void chunk_index_shot(struct kv_batch *b, const struct chunk_shot *shot);
/* The index has it. */
void chunk_index_shot_done(struct chunk_shot *shot);
void chunk_shot_fini(struct chunk_shot *shot);
