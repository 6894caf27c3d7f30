/* sim/faults.h -- what goes wrong meanwhile, and when, from the seed. */
#pragma once

#include "world.h"

struct faults;
struct faults_node {
    struct loop_sim_event heal; /* of its disk, its clock, its standing still */
    struct faults *faults;
    unsigned node;
    uint64_t down_until_ns;
    bool busy;               /* something is to be healed */
    struct loop *stopped[2]; /* processes that stand still */
};
struct faults {
    struct world *w;
    struct loop_sim_event next, watch;
    uint64_t cut_until_ns; /* the network heals by then */
    bool rots_early;       /* stored bytes go bad during the work; else before the last look */
    bool only_names;       /* no trouble with disks, and often */
    struct faults_node node[WORLD_HOSTS];
    uint64_t kills, power_cuts, partitions, disks, others; /* for the summary */
    struct faults_rot {
        struct faults *faults;
        unsigned node;
        uint64_t count;
    } rot;
};
void faults_init(struct faults *f, struct world *w);
void faults_begin(struct faults *f);
/* Some stored bytes of one target go bad. */
void faults_rot(struct faults *f);
/* A target that is there for the first time after so much time of the world. Before the start. */
void faults_add_later(struct faults *f, unsigned node, uint64_t ms);
/* A machine's process ends, and is not started any more. */
void faults_leave_down(struct faults *f, unsigned node);
/* No more of it: everything is healed, and what is down starts. */
void faults_end(struct faults *f);
