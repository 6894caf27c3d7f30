/*
 * metanode/write_priv.h -- target.c: changes of the stored record of a target. A record is written
 * as a whole, made from what was applied last; so only one write of a target is under way at a
 * time, or the later one would take back what the other said.
 */
#pragma once

#include "metanode/metanode_priv.h"

struct metanode_target_write {
    /* rc 0: applied; then `reply`, lent for the call, says more. */
    void (*done)(struct metanode_target_write *x, int rc, const struct namespace_reply *reply);
    struct metanode_waiter waiter;
    struct list node;
    struct uuid uuid;
};
/* -ERR_busy: another one is under way; and others. `done` is not called when this fails. */
NODISCARD int metanode_target_write(struct metanode *m, struct metanode_target_write *x,
                                    const struct proto_target *record);
