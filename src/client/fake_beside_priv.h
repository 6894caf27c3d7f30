/* client/fake_beside_priv.h -- for tests only: more than one operation at a time. */
#pragma once

#include "client/fake_world_priv.h"

/* An operation beside the one of the world. */
struct beside {
    struct opendfs_op op;
    bool done;
};
static inline void beside_done(struct opendfs_op *op)
{
    ((struct beside *)op->context)->done = true;
}
static inline struct opendfs_op *beside_op(struct beside *b)
{
    *b = (struct beside){.op = {.done = beside_done, .context = b}};
    return &b->op;
}
static inline bool beside_is_done(void *ctx)
{
    return ((struct beside *)ctx)->done;
}
static inline int64_t beside_wait(struct world *w, struct beside *b)
{
    CHECK(loop_sim_run(w->sim, beside_is_done, b, loop_sim_now_ns(w->sim) + 600 * SECOND));
    return b->op.result;
}
