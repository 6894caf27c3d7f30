/*
 * tree/credit.h -- how much a writer who is faster than the disk may commit, and when.
 *
 * Memory of memtables comes back in large pieces: when all of a group of them is in nodes. Until
 * then there is a room that commits fill, and work that has to be done. Credit comes with the time,
 * as fast as work is done lately, times the room there is for each byte of that work: so the room
 * is used up when the work is over, and not before, however long single jobs take; and a writer is
 * slowed to the pace of the disk in many small waits.
 *
 * Pure: time is told. Owner: the caller's thread. All zero is a good beginning.
 */
#pragma once

#include "base/base.h"

struct tree_credit {
    int64_t bytes;                /* that may be taken; negative: owed */
    uint64_t rate;                /* of work, bytes per second, as done lately: */
    uint64_t span_bytes, span_ns; /* the newest jobs count most */
    uint64_t since_ns, look_ns;   /* when work was last told of; when the time was looked at */
};

/* What there is at a time. */
struct tree_credit_room {
    uint64_t room; /* bytes that may come until no more can */
    uint64_t work; /* bytes to be done until there is more room; 0: none */
    uint64_t most; /* that is saved up */
};

/* Work begins after there was none: the time before does not count. */
void tree_credit_begin(struct tree_credit *c, uint64_t now_ns);
/* `bytes` of work were done since the last time. */
void tree_credit_work(struct tree_credit *c, uint64_t now_ns, uint64_t bytes);
/* A commit of `bytes`; a large one is owed. False: there is nothing to take just now. */
NODISCARD bool tree_credit_take(struct tree_credit *c, uint64_t now_ns,
                                const struct tree_credit_room *r, uint64_t bytes);
/* How long until there may be some; UINT64_MAX: not while things are as they are. */
uint64_t tree_credit_wait_ns(const struct tree_credit *c, const struct tree_credit_room *r);
/* Nobody needs any: nothing is saved up, nothing owed. */
void tree_credit_rest(struct tree_credit *c, uint64_t now_ns);
