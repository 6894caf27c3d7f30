/*
 * tree/stream_receive.h -- makes a file out of the frames of a checkpoint: compact, with a table
 * and a superblock of its own, and only checkpoint the sender's. Its name, PATH, appears when all
 * of it is there, synced and checked; before, it is PATH.partial, which no open takes for a tree.
 *
 * Where everything will lie follows from the table and the lists, which come first: they are kept
 * in the partial file, beside a record of how far it has come that is renewed when what came before
 * is durable. So a receiver that is killed goes on near where it was. Memory: 40 bytes for each
 * block of the table, and one extent or segment, which is verified before it is written.
 *
 * Blocks: on a thread of an executor, or in a tool. One thread at a time.
 */
#pragma once

#include "kv/frame.h"

struct disk;
struct tree_receive;

struct tree_receive_options {
    struct disk *disk;
    const char *path;     /* copied */
    const uint8_t *owner; /* 16 bytes, copied: another's is refused; NULL: anybody's is taken */
    bool again;           /* what an earlier attempt has left is of no use */
    uint64_t sync_bytes;  /* made durable after so many; 0: 64 MiB */
};
/* Goes on with what there is: tree_receive_next(). -EEXIST: the file is there; -ERR_in_use: another
 * receiver has the partial one; -EIO, -ENOMEM ... */
NODISCARD int tree_receive_new(const struct tree_receive_options *opt, struct tree_receive **ret,
                               struct err *e);
struct tree_receive *tree_receive_free(struct tree_receive *x); /* keeps the partial file */
DEFINE_FREEP(tree_receive)

const struct kv_cursor *tree_receive_next(const struct tree_receive *x);
uint64_t tree_receive_stored(const struct tree_receive *x); /* bytes of segments and nodes */
/* Errors and meaning of kv_receiver_put(). */
NODISCARD int tree_receive_put(struct tree_receive *x, const uint8_t *bytes, size_t len,
                               bool *ret_whole, struct err *e);
