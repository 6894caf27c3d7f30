/*
 * cluster/placement.h -- which targets make up the chains of a storage class, and which chain holds
 * a chunk.
 *
 * Pure. New chains are chosen so that each target takes part in about as many as its weight says,
 * each pair of targets shares about equally many (so that the load and the rebuild of a lost one
 * fall evenly on all others), and each target is head about equally often; no two members of a
 * chain share a failure domain. A table only grows: chains once published keep their ids and
 * places, a new version appends.
 */
#pragma once

#include "cluster/chain.h"

#define CLUSTER_TABLE_MAX 65536u
#define CLUSTER_CHAINS_PER_TARGET 16u /* of a target of average weight */
#define CLUSTER_STRIPE_MAX 64u

struct cluster_target {
    uint32_t id;
    uint32_t weight;   /* 0: takes no new chains */
    uint64_t host_key; /* equal: same host. Any hash of the label */
    uint64_t rack_key;
};

struct cluster_placement {
    size_t copies; /* 1 .. CLUSTER_MEMBERS_MAX */
    enum proto_failure_domain domain;
    const struct cluster_target *target; /* those that may hold data of the class */
    size_t target_count;
    const struct cluster_row *row; /* chains that the class has */
    size_t row_count;
};

/*
 * Chains to add: *ret is an array (mem_free) of *ret_count rows with epoch 1, all members serving,
 * chain ids from first_chain on. None (count 0, *ret NULL) when every target has its share or when
 * there are fewer failure domains than copies: then *ret_enough is false. -ENOMEM, -ERR_bad_value
 * (more than CLUSTER_TABLE_MAX chains, bad copies).
 */
NODISCARD int cluster_placement_grow(const struct cluster_placement *p, uint32_t first_chain,
                                     struct cluster_row **ret, size_t *ret_count, bool *ret_enough);

/* Stripe width of new files: `wanted`, 0 meaning all chains up to CLUSTER_STRIPE_MAX, at most the
 * table's size. */
uint32_t cluster_stripe_width(uint32_t wanted, size_t table_size);

/* Place in the table of chunk `index` of a file: (seed + index mod width) mod size. CHECKs size >
 * 0. */
size_t cluster_chunk_place(const struct proto_layout *layout, uint32_t index, size_t table_size);
