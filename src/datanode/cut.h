/*
 * datanode/cut.h -- damaged chunks that are cut although nobody has a good copy. Private to the
 * folder.
 */
#pragma once

#include "base/base.h"

struct chunk_info;
struct datanode_update;

/* A WRITE that holds the lock, after its repair: is it one of those? */
bool datanode_cut_may(const struct datanode_update *u, const struct chunk_info *info);
/* Reads what there is; then `done`, after which everything is looked at again. False: busy. */
NODISCARD bool datanode_cut_begin(struct datanode_update *u, const struct chunk_info *info,
                                  void (*done)(struct datanode_update *u));
/* ... and makes it the content of `u`. -ERR_busy: it has changed meanwhile. -ERR_corrupt: it is not
 * even known how it should be. */
NODISCARD int datanode_cut_take(struct datanode_update *u, const struct chunk_info *info);
