/*
 * namespace/restore.h -- what a state must become before a server begins with it that once was, but
 * is not any more: the servers and clients that went on from it in between must be able to tell.
 */
#pragma once

#include "namespace/view.h"

struct namespace_restoring {
    uint64_t index;       /* of the state afterwards; above the one it has */
    uint64_t floor;       /* numbers given from now on are above it, and far above the old ones */
    uint32_t epoch_floor; /* the same for the epochs of chains */
    int64_t time_ns;      /* wall clock: when it was restored, for people */
};
/*
 * Puts into `batch` what changes: every counter from which inodes, data, sessions, capabilities and
 * versions get their numbers leaps, so that none is given twice; so do the epochs of all chains,
 * because data nodes take none that is not higher. The data ids that were leapt over are written
 * down for good: files of the state that went on have them, and a newer backup may still be found.
 * What looks for orphans have found before counts no more. Sessions are not ended: EXPIRE them
 * afterwards. -ENXIO: there is no file system in this state. Else as of reading.
 */
NODISCARD int namespace_restore(const struct namespace_view *v, const struct namespace_restoring *r,
                                struct kv_batch *batch);
