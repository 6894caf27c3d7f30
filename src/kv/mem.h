/*
 * kv/mem.h -- the engine of kv/kv.h that keeps all records in memory: a copy-on-write B+tree with
 * reference counts. A snapshot is a reference on a root; a commit copies the nodes it changes and
 * publishes a new root, or drops the copies and has changed nothing.
 *
 * Thread: all calls on one thread. A checkpoint writes nothing: after a restart the log is replayed
 * from the beginning. For tests and the simulator it can pretend that records are not in memory and
 * that fetching takes time, both decided by a seed.
 */
#pragma once

#include "kv/kv.h"

struct mem_budget;

struct kv_mem_options {
    struct mem_budget *budget; /* may be NULL; commits answer -ENOMEM when it is used up */
    struct kv_owner *owner;    /* may be NULL: the caller polls by itself */
    uint64_t seed;             /* of the next two */
    uint32_t need_permille;    /* how often a read of an unpinned record says -ERR_need; 0: never */
    uint32_t fetch_polls_max;  /* a fetch ends in poll 1 + (0 .. this) after its submission */
};

NODISCARD int kv_mem_new(const struct kv_mem_options *opt, struct kv **ret);

/* Walks all nodes and CHECKs order, counts, heights and reference counts > 0. For tests. */
void kv_mem_verify(struct kv *kv);
