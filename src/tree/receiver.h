/*
 * tree/receiver.h -- kv/stream.h of the tree: a file is made of a stream that comes from another
 * machine, and opened with tree_open() when it is whole.
 */
#pragma once

#include "kv/stream.h"

struct env;
struct loop_executor;

struct tree_receiver_options {
    const struct env *env;          /* loop, disk */
    const char *path;               /* of the file that will be there; copied */
    const uint8_t *owner;           /* 16 bytes, as of tree_open(); another's stream is refused */
    struct loop_executor *executor; /* NULL: one of its own */
    bool again;                     /* forget what an earlier receiver has left in PATH.partial */
    uint64_t sync_bytes;            /* made durable after so many; 0: 64 MiB */
};
/* Goes on where an earlier one, also of an earlier life, was: kv_receiver_cursor(). Blocks.
 * -EEXIST: the file is there already; -ERR_in_use; -EIO ... */
NODISCARD int tree_receiver_open(const struct tree_receiver_options *opt, struct kv_receiver **ret,
                                 struct err *e);
