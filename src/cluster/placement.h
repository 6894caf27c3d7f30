/*
 * cluster/placement.h -- which targets make up the chains of a storage class, and which chain holds
 * a chunk.
 *
 * Pure. New chains are chosen so that each target takes part in about as many as its weight says,
 * each pair of targets shares about equally many (so that the load and the rebuild of a lost one
 * fall evenly on all others), and each target is head about equally often; no two members of a
 * chain share a failure domain. Chains keep their ids; a new version of a table
 * has them all, but for those without room, and new ones behind them.
 */
#pragma once

#include "cluster/chain.h"

#define CLUSTER_TABLE_MAX 16384u      /* chains of a class, */
#define CLUSTER_ROWS_MAX 4096u        /* that come at a time: what one command holds, */
#define CLUSTER_ROWS_MEMBERS 16384u   /* also by the members of them all */
#define CLUSTER_CHAINS_PER_TARGET 16u /* of a target of average weight, at least */
#define CLUSTER_PAIRS 2u              /* chains that two targets share, on average, at least */
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
    const struct cluster_target *target; /* that may hold data of the class; ascending by id */
    size_t target_count;
    const struct cluster_row *row; /* chains that the class has */
    size_t row_count;
};

/* How many chains a target of average weight is to be in: so many that each other target shares
 * some with it, or a lost one would be rebuilt by few; but at most half of what a table holds, for
 * targets that come and go leave chains behind (doc/design/0069). */
uint32_t cluster_chains_per_target(size_t copies, size_t targets);
/* How many chains of so many copies come at a time: who gets so many asks again. */
size_t cluster_rows_at_once(size_t copies);

/*
 * Chains to add: *ret is an array (mem_free) of *ret_count rows with epoch 1, all members serving,
 * chain ids from first_chain on. None (count 0, *ret NULL) when every target has its share or when
 * there are fewer failure domains than copies: then *ret_enough is false. At most
 * cluster_rows_at_once(), and not beyond CLUSTER_TABLE_MAX. -ENOMEM, -ERR_bad_value (bad copies).
 */
NODISCARD int cluster_placement_grow(const struct cluster_placement *p, uint32_t first_chain,
                                     struct cluster_row **ret, size_t *ret_count, bool *ret_enough);

/*
 * How even a table is: of each figure, what the target with most has, relative to the mean, both by
 * weight: 1000 is even, 0 that there is nothing. `rebuild`: what a target that survives the loss of
 * another one has in common with that, and so has to read or write for its rebuild; of the lost
 * target (`worst`) for which it is the least even. -ENOMEM.
 */
struct cluster_spread {
    uint32_t load_permille, heads_permille, rebuild_permille;
    uint32_t worst; /* 0: none */
};
NODISCARD int cluster_placement_spread(const struct cluster_placement *p,
                                       struct cluster_spread *ret);

/* Stripe width of new files: `wanted`, 0 meaning all chains up to CLUSTER_STRIPE_MAX, at most the
 * table's size. */
uint32_t cluster_stripe_width(uint32_t wanted, size_t table_size);

/* Place in the table of chunk `index` of a file: (seed + index mod width) mod size. CHECKs size >
 * 0. */
size_t cluster_chunk_place(const struct proto_layout *layout, uint32_t index, size_t table_size);
