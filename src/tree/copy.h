/*
 * tree/copy.h -- a compact copy of one checkpoint of a tree file that nobody writes: the frames of
 * a stream (stream_send.h), given to a receiver (stream_receive.h) at once. What the copy does not
 * have: free space, the other checkpoint, extents that no header uses. Everything is verified; a
 * copy that was interrupted goes on.
 *
 * Blocks. One thread.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

struct disk;

struct tree_copy_options {
    struct disk *disk;
    const char *path, *out;
    bool older; /* the other retained checkpoint */
};
struct tree_copy_result {
    uint64_t checkpoint, applied_index;
    uint64_t frames, bytes; /* of segments and nodes */
    uint64_t before_bytes;  /* length of the file */
};
/* -EEXIST: `out` is there; -ERR_corrupt class: what is damaged is named (a rebuild saves the rest);
 * errors of reading and writing. */
NODISCARD int tree_copy(const struct tree_copy_options *opt, struct tree_copy_result *ret,
                        struct err *e);
