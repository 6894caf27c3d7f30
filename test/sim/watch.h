/*
 * sim/watch.h -- the invariants of doc/chain.md (I2, I3, I5 to I9) while everything goes on.
 *
 * At moments that the seed picks all workers stand still for a look: at every record of every
 * store and every row, those of members that are cut off, behind or about to be told that they are
 * gone included. What the protocol says of them has to hold at each of these moments, not only
 * when all is quiet.
 */
#pragma once

#include "world.h"

struct watch;
struct watch *watch_new(struct world *w);
struct watch *watch_free(struct watch *x);
void watch_begin(struct watch *x);
void watch_end(struct watch *x);
/* A sync of that file, which one client alone writes, was asked for at `began_ns` and has just been
 * answered: I6. Of what lies behind its end nothing is promised. */
struct watch_sync {
    uint64_t ino, len, began_ns;
};
void watch_synced(struct watch *x, const struct watch_sync *sync);
/* Syncs, and chunks whose places were compared with all others of their target. */
uint64_t watch_syncs(const struct watch *x);
uint64_t watch_places(const struct watch *x);
/* Looks at workers, and contents that were compared with an earlier look or another member. */
uint64_t watch_looks(const struct watch *x);
uint64_t watch_compared(const struct watch *x);
