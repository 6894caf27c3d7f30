/* sim/faults.h -- what goes wrong meanwhile, and when, from the seed. */
#pragma once

#include "world.h"

struct faults;
struct faults_return { /* of a node that was ended */
    struct loop_sim_event event;
    struct faults *faults;
    unsigned node;
};
struct faults {
    struct world *w;
    struct loop_sim_event next;
    struct faults_return back[WORLD_HOSTS];
    bool stopped;
    uint64_t kills, power_cuts, partitions, resets; /* for the summary */
    bool cut; /* some hosts cannot reach each other */
};
void faults_init(struct faults *f, struct world *w);
void faults_begin(struct faults *f);
/* No more of it: everything is healed, and what is down starts. */
void faults_end(struct faults *f);
