/* kv/statistics.h -- what an engine says of itself: see kv_statistics(). */
#pragma once

#include "base/base.h"

/* For people and for those who share out memory. */
struct kv_statistics {
    const char *engine;               /* its name; for ever */
    uint64_t cache_used, cache_limit; /* memory; limit 0: there is none, it has everything there */
    uint64_t dirty_bytes;             /* changed since the newest checkpoint, about */
    uint64_t file_bytes;              /* on the disk */
    uint64_t disk_bytes; /* that changes may still take there; UINT64_MAX: it does not know */
    uint64_t held_bytes; /* of the file: the next checkpoint gives them back, or the one after */
    uint64_t busy;       /* commits that were told -ERR_busy */
    uint64_t pinned_bytes, pins;      /* on the disk, kept for pinned checkpoints only; of those */
    uint64_t hits, misses, evictions; /* so far, of pieces: found in memory, read, put out of it */
    uint64_t read_bytes, written_bytes;
    uint64_t time_ns[6]; /* by enum kv_time, of all threads that worked for it */
};
/* Making parts and headers; checking and opening them is what undoes it. */
enum kv_time {
    KV_TIME_SERIALISE,
    KV_TIME_COMPRESS,
    KV_TIME_WRITE,
    KV_TIME_READ,
    KV_TIME_DECOMPRESS,
    KV_TIME_DESERIALISE,
};
