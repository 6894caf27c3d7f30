/*
 * metanode/restore.h -- a new metadata directory from a backup. Blocks, runs the loop of env: for
 * tools only.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "base/text.h"
#include "metanode/metanode.h"

struct env;

struct metanode_restore {
    const struct env *env;         /* loop, disk, log, budget */
    const char *backup;            /* an image: kv/image.h */
    const char *directory;         /* is made, or is empty */
    const struct uuid *cluster_id; /* that the backup must be of */
    enum metanode_engine_kind engine;
    uint64_t cache_bytes; /* as those of metanode_options */
    uint32_t need_permille, busy_permille;
};
struct metanode_restored {
    uint64_t index;    /* of the backup */
    uint64_t records;  /* in it */
    uint32_t sessions; /* that were ended */
};
/*
 * Verifies all of the backup first and writes nothing if anything is wrong with it. The state that
 * the server begins with differs from that of the backup: all sessions are over (their clients are
 * told so and open new ones), numbers and epochs of before are not given again
 * (namespace/restore.h). The records go into the engine in batches: an engine on disk needs no more
 * memory for a large backup than for a small one. Until it returns the directory is none that a
 * server starts on.
 * ERR_corrupt class; -ERR_wrong_cluster; -ENOTEMPTY; errno of the disk; -ENOMEM.
 */
NODISCARD int metanode_restore(const struct metanode_restore *r, struct metanode_restored *ret,
                               struct err *e);
