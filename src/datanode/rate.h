/*
 * datanode/rate.h -- what copies for members that are brought up to date may take of this target:
 * how many at a time, and bytes per second. A bucket that is kept as the time at which what was
 * taken is paid for: what is large goes when anything may, and is paid for afterwards. Pure.
 * Private to the folder.
 */
#pragma once

#include "base/base.h"

#define DATANODE_RATE_SAVED_NS UINT64_C(100000000) /* who rested may take that much at once */

struct datanode_copying {
    unsigned keys;    /* in the hands of sessions */
    uint64_t bytes;   /* of those */
    uint64_t rate;    /* bytes per second; 0: no limit */
    uint64_t paid_ns; /* when all that was taken is paid for */
};
/* How long nothing more may be taken; 0: now. */
uint64_t datanode_rate_wait_ns(const struct datanode_copying *c, uint64_t now_ns);
void datanode_rate_take(struct datanode_copying *c, uint64_t bytes, uint64_t now_ns);
/* Another rate: what was taken is paid for with it. */
void datanode_rate_set(struct datanode_copying *c, uint64_t rate, uint64_t now_ns);
