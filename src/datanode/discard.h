/*
 * datanode/discard.h -- chunks of chains that this target is no member of any more. They go when
 * this process was a member and has seen it leave, by rows that follow each other, and another one
 * serves. What is found after a start, or after rows that leap (a metadata server that was restored
 * from a backup), stays: it may be the only copy. Of what is found of chains of which no row is
 * known, one is asked for in heartbeats. Private to the folder.
 */
#pragma once

#include "chunk/hold.h"
#include "loop/loop.h"

#define DATANODE_DISCARDS 8u /* at a time */

struct datanode_chain;
struct datanode_item;
struct datanode_worker;

struct datanode_discard_job {
    struct datanode_worker *worker;
    struct datanode_item *item; /* locked; NULL: idle */
    struct chunk_change change;
};
struct datanode_discard {
    struct loop_task task;
    struct loop_timer later;
    struct chunk_key at;
    struct chunk_ahead ahead;
    bool walking, again; /* again: from the beginning, when this walk is over */
    struct datanode_discard_job job[DATANODE_DISCARDS];
};

void datanode_discard_init(struct datanode_worker *w);
/* There may be something: looks through the index, in pieces. */
void datanode_discard_start(struct datanode_worker *w);
void datanode_discard_fini(struct datanode_worker *w); /* what is under way ends first */
bool datanode_discard_busy(const struct datanode_worker *w);
/* Is a chunk of this chain just going? A session of it has to wait. */
bool datanode_discards(const struct datanode_chain *c);
