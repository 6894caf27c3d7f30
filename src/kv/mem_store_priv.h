/*
 * kv/mem_store_priv.h -- the checkpoints of the memory engine: images in one directory, the two
 * newest kept. Named by index: 16 hexadecimal digits and ".image".
 *
 * One at a time: an executor's thread fills a block from the frozen tree, the disk writes it, and
 * so on: one block of memory, and the writer's thread only passes on what is next. The file gets
 * its name when it is stable, older ones go when the name is. A failure removes the unfinished file
 * and nothing else.
 */
#pragma once

#include "kv/mem_tree_priv.h"

struct env;
struct kv_mem_store;

struct kv_mem_store_options {
    const struct env *env; /* loop, disk, log */
    const char *directory; /* exists; copied */
    const uint8_t *owner;  /* 16 bytes */
    uint64_t reserve_bytes;
    uint64_t found_index; /* out: of what was loaded; 0: nothing */
    size_t block_bytes;   /* of images; 0: KV_IMAGE_BLOCK_BYTES */
};
/* Loads the newest image that is sound; blocks. None: an empty tree of index 0. `tree` has only its
 * pool. -ENOMEM, -ERR_wrong_cluster, or an errno of looking at the directory. */
NODISCARD int kv_mem_store_open(struct kv_mem_store_options *opt, struct kv_mem_tree *tree,
                                struct kv_mem_store **ret, struct err *e);
struct kv_mem_store *kv_mem_store_free(struct kv_mem_store *s); /* not busy; NULL is fine */
bool kv_mem_store_busy(const struct kv_mem_store *s);
/* Not while it is busy. The tree is frozen by a reference on its root. */
void kv_mem_store_checkpoint(struct kv_mem_store *s, const struct kv_mem_tree *tree,
                             struct kv_checkpoint *c);
void kv_mem_store_cancel(struct kv_mem_store *s);
/* Of the newest stable image; 0: none. */
uint64_t kv_mem_store_durable(const struct kv_mem_store *s);
/* Its size; 0: none. */
uint64_t kv_mem_store_bytes(const struct kv_mem_store *s);
/* As kv_pin_new(). NULL: there is no directory. */
NODISCARD int kv_mem_store_pin(struct kv_mem_store *s, struct kv_pin **ret);
/* Bytes of files, and pins. NULL is fine. */
void kv_mem_store_statistics(const struct kv_mem_store *s, struct kv_statistics *ret);
