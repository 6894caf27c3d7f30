/* kv/mem_pin_priv.h -- a pinned image of the memory engine as a struct kv_pin. */
#pragma once

#include "kv/stream.h"

struct env;
struct kv_mem_store;

struct kv_mem_pin_options {
    const struct env *env;
    struct kv_mem_store *store;
    void (*unpin)(struct kv_mem_store *s, uint64_t index); /* when it is freed */
    const char *path;                                      /* copied */
    uint64_t index, term, bytes;
};
NODISCARD int kv_mem_pin_new(const struct kv_mem_pin_options *opt, struct kv_pin **ret);
