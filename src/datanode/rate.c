/* datanode/rate.c -- see rate.h. */
#include "datanode/rate.h"

#define NS_PER_SECOND 1e9

/* No rounding may add up: a rate may be low, and what is taken at a time little. */
static uint64_t rate_ns(uint64_t bytes, uint64_t rate)
{
    return (uint64_t)((double)bytes * NS_PER_SECOND / (double)rate + 0.5);
}

uint64_t datanode_rate_wait_ns(const struct datanode_copying *c, uint64_t now_ns)
{
    return c->rate == 0 || c->paid_ns <= now_ns ? 0 : c->paid_ns - now_ns;
}

void datanode_rate_take(struct datanode_copying *c, uint64_t bytes, uint64_t now_ns)
{
    if (c->rate > 0) {
        uint64_t saved = base_min(now_ns, DATANODE_RATE_SAVED_NS);
        c->paid_ns = base_max(c->paid_ns, now_ns - saved) + rate_ns(bytes, c->rate);
    }
}

void datanode_rate_set(struct datanode_copying *c, uint64_t rate, uint64_t now_ns)
{
    double owed = (double)datanode_rate_wait_ns(c, now_ns) * (double)c->rate / NS_PER_SECOND;
    c->rate = rate;
    c->paid_ns = rate == 0 ? 0 : now_ns + rate_ns((uint64_t)owed, rate);
}
