/*
 * tree/tree_extra.h -- what a checkpoint knows besides nodes and messages (super.drops): which
 * memtables there are, how far they are drained, subtrees that are being freed. Pure.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "kv/batch.h"

#define TREE_EXTRA_TABLES_MAX 4u

struct tree_extra {
    struct tree_extra_table {
        uint32_t number, draining; /* draining: 1: keys below `drained` are in nodes; else 0 */
        uint64_t msn_min, msn_max;
    } table[TREE_EXTRA_TABLES_MAX]; /* newest first; those that drain are the oldest */
    unsigned table_count;
    struct kv_slice drained;
    const uint8_t *drops; /* drop_count of u64, not aligned: roots of the subtrees */
    size_t drop_count;
};
size_t tree_extra_bytes(const struct tree_extra *x);
/* CHECKs what a decoder would refuse. `drops` are its drop_count blocks. */
void tree_extra_encode(const struct tree_extra *x, const uint64_t *drops, uint8_t *out);
/* What it leads to is lent by `bytes`. Class ERR_corrupt. */
NODISCARD int tree_extra_decode(const uint8_t *bytes, size_t len, struct tree_extra *ret);
