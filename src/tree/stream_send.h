/*
 * tree/stream_send.h -- makes the frames of one checkpoint out of a file. What it reads must stay
 * as it is meanwhile: the checkpoint is pinned, or nobody writes the file.
 *
 * Blocks: on a thread of an executor, or in a tool. One thread at a time. Memory: the index of the
 * table (24 bytes for 127 blocks), the lists, and one extent of a node or one segment, which is
 * verified before anything of it is sent.
 */
#pragma once

#include "tree/stream_format.h"

struct tree_send_options {
    /* Exactly `len` bytes; offset and length in units of 4 KiB, as is `buf`. */
    int (*read)(const void *from, uint64_t offset, void *buf, size_t len);
    const void *from;
    const struct tree_super *super; /* of the checkpoint; copied */
};

struct tree_send;
NODISCARD int tree_send_new(const struct tree_send_options *opt, struct tree_send **ret);
struct tree_send *tree_send_free(struct tree_send *s); /* NULL is fine */
DEFINE_FREEP(tree_send)
bool tree_send_is(const struct tree_send *s, uint64_t stream); /* its name */

/* The frame at `from` (all zero: the first one) into KV_FRAME_MAX bytes. Errors of kv_pin_read();
 * nothing but *e is written then, which says block and place. */
NODISCARD int tree_send_frame(struct tree_send *s, const struct kv_cursor *from, uint8_t *out,
                              struct kv_frame *ret, size_t *ret_len, struct err *e);
