/* kv/mem_load_priv.h -- an image file into a tree of the memory engine. */
#pragma once

#include "kv/image.h"
#include "kv/mem_tree_priv.h"

struct disk;

/* Blocks. `tree` gets a root, or stays as it is. Class ERR_corrupt and others of kv/image.h, errno
 * of the disk; `e` names file and offset. */
NODISCARD int kv_mem_load(struct disk *d, const char *path, struct kv_mem_tree *tree,
                          struct kv_image_info *ret, struct err *e);
