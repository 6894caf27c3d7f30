/* tree/rig_commit_priv.h -- for tests only: checkpoints of the file of rig_write_priv.h. */
#pragma once

#include "tree/rig_write_priv.h"

static inline void rig_commit_done(struct tree_file_commit *c, int rc)
{
    rig_over(container_of(c, struct rig_write, commit), rc);
}

static inline void rig_commit_in(void *ctx)
{
    struct rig_write *r = ctx;
    r->commit.done = rig_commit_done;
    tree_file_commit(r->file, &r->commit);
}

static inline void rig_freeze_in(void *ctx)
{
    struct rig_write *r = ctx;
    uint64_t k = 0;
    r->rc = tree_file_freeze(r->file, &k);
}

/* What the next write is born for is frozen. Returns its number. */
static inline uint64_t rig_freeze(struct rig_write *r)
{
    uint64_t k = tree_file_number(r->file);
    loop_sim_enter(r->machine.loop, rig_freeze_in, r);
    CHECK_OK(r->rc);
    return k;
}
