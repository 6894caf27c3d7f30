/*
 * tree/tree_checkpoint_priv.h -- checkpoints of a tree, for the rest of it: tree_checkpoint.c.
 * Thread: the loop's.
 */
#pragma once

#include "tree/tree_priv.h"

NODISCARD int tree_checkpointer_new(struct tree *t);
void tree_checkpointer_free(struct tree *t);
void tree_checkpoint(struct kv *kv, struct kv_checkpoint *c);
void tree_checkpoint_hurry(struct kv *kv); /* also when memory or space is short */
void tree_checkpoint_cancel(struct kv *kv);
void tree_checkpoints(struct kv *kv, struct kv_checkpoints *ret);
bool tree_checkpoint_busy(const struct tree *t);
uint64_t tree_checkpoint_memory(const struct tree *t); /* bytes that are charged to nobody */
/* A version that the checkpoint under way has to write before a newer one of its block may be. */
bool tree_checkpoint_wants(const struct tree *t, const struct tree_node *node);
/* It waits for room for one more memtable. */
bool tree_checkpoint_holds(const struct tree *t);
void tree_checkpoint_rotated(struct tree *t);       /* the active memtable was frozen */
bool tree_checkpoint_freezes(const struct tree *t); /* soon: no job may begin */
void tree_checkpoint_kick(struct tree *t);          /* a memtable has gone, a write has ended */
/* The table leaves for good: its pieces are given back. False: later, once older ones have been. */
NODISCARD bool tree_checkpoint_retire(struct tree *t, struct tree_table *const *table,
                                      unsigned count);
