/*
 * sim/orphans.h -- data that belongs to no file, put into the stores of a cluster at rest: the
 * first look finds and keeps it, a later one has it removed from every member, and nothing else
 * goes.
 */
#pragma once

#include "cluster/chain.h"
#include "world.h"

struct orphans_place {
    uint64_t data_id; /* nobody's, but given once */
    uint32_t chain;
    unsigned node[CLUSTER_MEMBERS_MAX]; /* its members */
    size_t count;
};
/* No client runs, before and afterwards. What is wrong is the world's failure. */
void orphans_check(struct world *w, const struct orphans_place *place);
