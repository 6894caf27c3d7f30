/*
 * kv/mem_receiver.h -- kv/stream.h of the memory engine: an image that comes from another machine
 * and is found by the next kv_mem_open() of the directory. Until all of it is there and verified
 * its name is `receiving`.
 */
#pragma once

#include "kv/stream.h"

struct env;

struct kv_mem_receiver_options {
    const struct env *env; /* loop, disk */
    const char *directory; /* exists; nobody has its engine open; copied */
    const uint8_t *owner;  /* 16 bytes, as of kv_mem_open(); another's stream is refused */
    bool again;            /* forget what an earlier receiver has left */
};
/* Goes on where an earlier one was: kv_receiver_cursor(). Blocks, as long as it takes to read that.
 * -EIO ... */
NODISCARD int kv_mem_receiver_open(const struct kv_mem_receiver_options *opt,
                                   struct kv_receiver **ret, struct err *e);
