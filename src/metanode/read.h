/*
 * metanode/read.h -- reading the state of the metadata on a snapshot: what queries, the jobs in the
 * background and checks of a whole cluster do. Owner and thread: the loop of the metadata server.
 */
#pragma once

#include "base/mem.h"
#include "namespace/query.h"

struct metanode;

/* One read of the state, run again until nothing is missing. Caller-owned. */
struct metanode_read {
    int (*run)(struct metanode_read *r, const struct namespace_view *v);
    /* Exactly once, also from inside metanode_read(). Results of `run` are lent for this call. */
    void (*done)(struct metanode_read *r, int rc);
    /* private */
    struct metanode *m;
    struct kv_snapshot *snapshot;
    struct kv_need need;
    struct kv_fetch fetch;
    struct mem_arena arena;
    unsigned rounds, given_up;
};

void metanode_read(struct metanode *m, struct metanode_read *r);
