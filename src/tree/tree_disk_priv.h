/*
 * tree/tree_disk_priv.h -- the disk under the file: how much room there is, and for whom. See
 * tree_disk.c.
 *
 * Thread: the loop's.
 */
#pragma once

#include "base/base.h"
#include "kv/kv.h"

struct tree;

/* Looks at the disk: blocks. -ENOMEM. What the disk does not say is not known. */
NODISCARD int tree_disk_new(struct tree *t);
void tree_disk_free(struct tree *t); /* not while it is busy */
bool tree_disk_busy(const struct tree *t);
/* Nothing begins any more. */
void tree_disk_stop(struct tree *t);
/* So much was committed. */
void tree_disk_committed(struct tree *t, size_t bytes);
/* A write has found no room. */
void tree_disk_refused(struct tree *t);
/* A checkpoint has ended, so what is needed is something else now. */
void tree_disk_look(struct tree *t);
/* Bytes that changes may still take; UINT64_MAX: it is not known. */
uint64_t tree_disk_room(const struct tree *t);
enum kv_disk tree_disk(struct kv *kv); /* kv_ops.disk */
