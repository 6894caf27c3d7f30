/*
 * tree/flush_filter_priv.h -- fingerprints of what a job writes, and the filters made of them:
 * flush_filter.c.
 */
#pragma once

#include "tree/flush_priv.h"

/* Of a record; of a message in a run. */
int tree_flush_print(struct flush_job *j, struct kv_slice key);
int tree_flush_print_run(struct flush_job *j, struct kv_slice key, unsigned run);
/* Fingerprints [first, end) into a copy of `base`, or into a new one with some room for more. */
struct flush_filter {
    enum tree_filter_kind kind; /* of a new one */
    const uint8_t *base;        /* may be NULL */
    size_t base_len;
    size_t first, end;
};
int tree_flush_filter(struct flush_job *j, const struct flush_filter *x, uint8_t **ret,
                      size_t *ret_len);
/* Is a filter with so many keys no good for so many entries? */
struct flush_worn {
    enum tree_filter_kind kind;
    uint64_t keys, entries;
    size_t len;
};
bool tree_flush_filter_worn(const struct tree_flush *f, const struct flush_worn *x);
