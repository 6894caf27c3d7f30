/*
 * kv/mem.h -- the engine of kv/kv.h that keeps all records in memory: a copy-on-write B+tree with
 * reference counts. A snapshot is a reference on a root; a commit copies the nodes it changes and
 * publishes a new root, or drops the copies and has changed nothing.
 *
 * Thread: all calls on one thread. With a directory, checkpoints are images there (kv/image.h), the
 * two newest kept, and opening loads the newest that is sound; without one a checkpoint writes
 * nothing and all is gone at the end. For tests and the simulator it can pretend that records are
 * not in memory, that fetching takes time and that there is no room, all decided by a seed.
 */
#pragma once

#include "kv/kv.h"

struct env;
struct mem_budget;

struct kv_mem_options {
    struct mem_budget *budget; /* may be NULL; commits answer -ENOMEM when it is used up */
    struct kv_owner *owner;    /* may be NULL: the caller polls by itself */
    uint64_t seed;             /* of the next three */
    uint32_t need_permille;    /* how often a read of an unpinned record says -ERR_need; 0: never */
    uint32_t fetch_polls_max;  /* a fetch ends in poll 1 + (0 .. this) after its submission */
    uint32_t busy_permille; /* how often a commit finds no room; then none does for 1 to 3 polls */
    uint64_t cache_bytes;   /* it says that it has such a cache, and that a checkpoint writes only
                             * what   has changed; 0: how it is */
    bool strict;            /* what is lent is a copy, which is gone when it is not lent any more */
};

NODISCARD int kv_mem_new(const struct kv_mem_options *opt, struct kv **ret);

struct kv_mem_open_options {
    struct kv_mem_options mem;
    const struct env *env;  /* loop, disk, log */
    const char *directory;  /* exists; copied */
    const uint8_t *owner;   /* 16 bytes, kept with images: another's is refused */
    uint64_t reserve_bytes; /* of the disk, left to others: else a checkpoint fails with -ENOSPC */
    size_t image_block_bytes; /* 0: chosen; smaller for tests */
};
/*
 * Start-up only: blocks. Loads the newest sound image; what is damaged is skipped, with a warning
 * to the log. -ENOMEM, -ERR_wrong_cluster, errno of the directory. kv_free() must come after the
 * end of a checkpoint.
 */
NODISCARD int kv_mem_open(const struct kv_mem_open_options *opt, struct kv **ret, struct err *e);

/* For tests: writes no more, as after a failure of a disk. */
void kv_mem_fail(struct kv *kv, int rc);
/* For tests: no commit finds room until it is told otherwise. */
void kv_mem_set_full(struct kv *kv, bool full);
/* For tests: stops it by polling, and frees it. NULL is fine. */
struct kv *kv_mem_end(struct kv *kv);
static inline void kv_mem_endp(struct kv **at)
{
    *at = kv_mem_end(*at);
}
/* Walks all nodes and CHECKs order, counts, heights and reference counts > 0. For tests. */
void kv_mem_verify(struct kv *kv);
