/* metanode/seat_priv.h -- the chains of the cluster, and which of them a target is in: seat.c. */
#pragma once

#include "base/dict.h"
#include "base/list.h"
#include "cluster/chain.h"
#include "loop/loop.h"

struct metanode;
struct metanode_chain;

/* A member's place of a row, in the list of all places of its target. */
struct metanode_seat {
    struct list node;
    struct metanode_chain *chain;
    uint64_t heartbeat; /* the last look that its target reported this chain for, */
    uint32_t epoch;     /* and the epoch that it named */
};
struct metanode_chains {
    struct dict by_id, by_target;
    struct list all, dirty, thin;
    struct list none;    /* the chains of a target that has none */
    uint64_t heartbeats; /* looks at what targets have reported */
    uint64_t visits;     /* of chains, for targets and by timers: statistics */
    size_t proposing;    /* chains with a row on its way */
    struct list revokes;
    struct loop_task task;
    struct loop_timer tick;
    size_t count;
};
/* The chains of a target, as a list of its seats; not to be changed while it is walked. */
struct list *metanode_seats_of(struct metanode *m, uint32_t target);
/* Of the row of its chain. */
size_t metanode_seat_place(const struct metanode_seat *s);
void metanode_seats_init(struct metanode *m);
void metanode_seats_fini(struct metanode *m);
/* Room for all members of a row, so that metanode_seats_take() cannot fail. */
int metanode_seats_reserve(struct metanode *m, const struct cluster_row *row);
/* The members of its row have other places now, or others have come. */
void metanode_seats_take(struct metanode_chain *c, size_t old_count);
