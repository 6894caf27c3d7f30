/*
 * metanode/engine_priv.h -- the engine that keeps the records (kv/kv.h): the one place that knows
 * which there are. `<directory>/engine` says which one a directory's records are of.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "kv/kv.h"
#include "loop/loop.h"
#include "metanode/metanode.h"

struct env;
struct mem_budget;

struct metanode_engine {
    const struct env *env;
    struct kv *kv;
    uint64_t cache_limit; /* of its statistics, which are too much work for each change */
    struct kv_owner owner;
    struct loop_task task; /* kv_poll() */
};
struct metanode_engine_options {
    const struct env *env;
    const char *directory; /* of the server; its `state` is made where it is missing */
    enum metanode_engine_kind kind;
    uint64_t cache_bytes; /* of an engine that does not keep everything in memory; 0: its choice */
    const uint8_t *owner; /* 16 bytes, kept with the records: another's are refused */
    struct mem_budget *budget; /* of an engine that keeps everything in memory; it outlives it */
    uint64_t reserve_bytes;    /* of the disk, left to others */
    uint32_t need_permille, busy_permille; /* tests: kv/mem.h; */
    bool strict;                           /* the same, */
    uint64_t pretended_cache_bytes;        /* and this */
};
/*
 * Start-up only: blocks. -ERR_config: the records are another engine's, `e` names both. Errors of
 * the engine and of the directory.
 */
NODISCARD int metanode_engine_open(struct metanode_engine *g,
                                   const struct metanode_engine_options *opt, struct err *e);
/* All zero is fine; else as kv_free(). */
void metanode_engine_close(struct metanode_engine *g);
