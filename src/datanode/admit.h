/*
 * datanode/admit.h -- how many reads of clients a target has under way, answers that are being sent
 * included: requests and bytes, of all and of one link. Beyond it: -ERR_busy. One link gets a
 * part only, so that a receiver that does not read leaves room for the others.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

struct datanode_worker;
struct peer_link;

#define DATANODE_LINK_PART 4u /* of the limits: a quarter */

struct datanode_share; /* what one link has; outlives it */
struct datanode_ticket {
    struct datanode_share *share;
    uint64_t bytes;
};
/* 0, -ERR_busy. `l` is up. */
NODISCARD int datanode_admit(struct datanode_worker *w, struct peer_link *l, uint64_t bytes,
                             struct datanode_ticket *ret);
void datanode_admit_end(struct datanode_worker *w, struct datanode_ticket *t);
void datanode_admit_down(struct peer_link *l); /* the link has ended */
