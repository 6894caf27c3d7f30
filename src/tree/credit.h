/*
 * tree/credit.h -- how much a writer who is faster than the disk may commit, and when.
 *
 * What jobs move into nodes earns credit, and commits take it. Jobs are large and take long, so a
 * writer would stop for a whole one, go on, and stop again. Instead credit comes with the time, as
 * fast as it was earned lately, and is settled when the job ends: never more than that of one job,
 * or than may be saved up, is advanced. So a writer is slowed to the pace of the disk in many small
 * waits.
 *
 * Pure: time is told. Owner: the caller's thread. All zero is a good beginning.
 */
#pragma once

#include "base/base.h"

struct tree_credit {
    int64_t bytes;                    /* that may be taken; negative: owed */
    uint64_t rate;                    /* bytes per second, as earned lately: */
    uint64_t span_bytes, span_ns;     /* the newest jobs count most */
    uint64_t advanced, advanced_most; /* since jobs have earned some */
    uint64_t earned_ns, look_ns;      /* when they did; when the time was last looked at */
};

/* `bytes` were earned since the last time; no more than `most` is saved up. */
void tree_credit_earn(struct tree_credit *c, uint64_t now_ns, uint64_t bytes, uint64_t most);
/* A commit of `bytes`; a large one is owed. False: there is nothing to take just now. */
NODISCARD bool tree_credit_take(struct tree_credit *c, uint64_t now_ns, uint64_t bytes);
/* How long until there may be some, with the time alone; UINT64_MAX: not before jobs earn it. */
uint64_t tree_credit_wait_ns(const struct tree_credit *c);
/* Nobody needs any: nothing is saved up, nothing owed. */
void tree_credit_rest(struct tree_credit *c, uint64_t now_ns);
