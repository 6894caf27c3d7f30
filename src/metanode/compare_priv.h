/*
 * metanode/compare_priv.h -- do the members of a chain have the same? See compare.c. Thread of the
 * loop.
 */
#pragma once

#include "base/text.h"
#include "cluster/chain.h"
#include "loop/loop.h"
#include "proto/proto.h"

struct metanode;
struct metanode_chain;
struct metanode_target;

#define METANODE_DIFFERS_MS 60000u    /* a difference that lasts so long is looked into */
#define METANODE_DIFFERENCES_MAX 256u /* that are named */

/* What members have said of a chain. */
struct metanode_digests {
    struct {
        uint32_t target, epoch; /* target 0: nothing */
        uint64_t count, digest;
    } at[CLUSTER_MEMBERS_MAX];
    uint64_t differs_ns; /* since then, all of one epoch; 0: they do not */
    uint32_t differs_epoch;
    uint64_t looked_ns; /* into it, last; 0: not yet */
};

/* A chunk that members do not have the same of, found twice. */
struct metanode_difference {
    uint32_t chain, epoch;
    struct proto_chunk chunk;
    char text[160]; /* who has what */
};
struct metanode_comparing; /* one chain */
struct metanode_compares {
    struct metanode *m;
    struct loop_timer timer;
    struct metanode_comparing *now;
    bool stopped;
    size_t count;
    struct metanode_difference named[METANODE_DIFFERENCES_MAX];
};

int metanode_compare_init(struct metanode *m);
void metanode_compare_stop(struct metanode *m);
void metanode_compare_fini(struct metanode *m);
void metanode_digest_heard(struct metanode_target *t, const struct proto_chain_digest *d);
/* What its members said last differs, for so long that it is worth a closer look. */
bool metanode_chain_differs(const struct metanode_chain *c);
/* Chunks that are named. */
size_t metanode_differences(struct metanode *m);
/* Does this name still hold? */
bool metanode_difference_stands(struct metanode *m, const struct metanode_difference *d);
