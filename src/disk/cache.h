/*
 * disk/cache.h -- blocks that were read from a medium past the page cache, kept in memory: index
 * pages, checksums, small hot data. A fixed number of blocks in one piece of aligned memory, taken
 * at the start; nothing is allocated later.
 *
 * Blocks are named by {owner, number}; what an owner is (a file, a container) the user says. Owners
 * are never taken by somebody else while blocks of theirs may be here: disk_cache_forget() first.
 * Who is replaced is found by S3-FIFO (see cache.c): what is read once, as by a scan, passes
 * through a tenth of the cache. A hit moves nothing.
 *
 * A block is held by whoever looks at its bytes or sends them, and stays in place until then. A
 * held block that is forgotten is found no more, and its memory is free when it is released.
 *
 * Thread: one. Nothing here blocks.
 */
#pragma once

#include "base/base.h"
#include "base/mem.h"
#include "base/stats.h"

struct disk_cache;

struct disk_cache_options {
    uint64_t limit_bytes;      /* blocks and all that is kept about them */
    uint32_t block_bytes;      /* a power of two, 4 KiB or more */
    struct mem_budget *budget; /* what it takes is charged at once; may be NULL */
    struct stats *stats;       /* gets a group "cache"; may be NULL */
};
/* -EINVAL: less than DISK_CACHE_MIN blocks, or more than can be counted; -ENOMEM. */
#define DISK_CACHE_MIN 16u
NODISCARD int disk_cache_new(const struct disk_cache_options *opt, struct disk_cache **ret);
struct disk_cache *disk_cache_free(struct disk_cache *c); /* CHECKs that nothing is held */
DEFINE_FREEP(disk_cache)

struct disk_cache_key {
    uint64_t owner, block;
};
struct disk_cache_hold {
    uint8_t *at;    /* block_bytes, aligned to 4 KiB */
    uint32_t len;   /* that are filled */
    uint32_t entry; /* the cache's */
};

/* A hit: held until it is released. */
bool disk_cache_get(struct disk_cache *c, struct disk_cache_key key, struct disk_cache_hold *ret);
/*
 * After a miss: room for the block, held, which nobody finds before it is filled. -EEXIST: it is
 * here, or somebody else is about to fill it; -ERR_busy: all blocks are held. Who gets no room
 * reads into memory of his own.
 */
NODISCARD int disk_cache_reserve(struct disk_cache *c, struct disk_cache_key key,
                                 struct disk_cache_hold *ret);
/* `len` bytes at h->at are what the block is, unless it was forgotten meanwhile: then they may be
 * older than what has been stored since, and only the holder has them. Once per reserve. */
void disk_cache_fill(struct disk_cache *c, struct disk_cache_hold *h, uint32_t len);
/* What was reserved and not filled goes. Clears h. */
void disk_cache_release(struct disk_cache *c, struct disk_cache_hold *h);
/* Blocks first, first + 1 ... of the owner are found no more, nor are those that are being filled.
 * Before the call that changes them is answered, and before their place goes to others. A range
 * that is longer than the cache, such as UINT64_MAX for all of an owner, takes a walk over it. */
void disk_cache_forget(struct disk_cache *c, uint64_t owner, uint64_t first, uint64_t count);

/* Where all blocks lie, for the disk to know them (disk_lend()). */
void *disk_cache_memory(const struct disk_cache *c, size_t *ret_len);

struct disk_cache_info {
    uint64_t limit_blocks, blocks, held, ghosts; /* held: blocks, not holders */
    uint64_t small, main;                        /* blocks of the two queues */
    uint64_t hits, misses;
    uint64_t ghost_hits; /* misses of what was given up lately */
    uint64_t evictions, forgotten, refused;
};
void disk_cache_info(const struct disk_cache *c, struct disk_cache_info *ret);
/* For tests: CHECKs that all that is kept agrees. Walks over everything. */
void disk_cache_check(const struct disk_cache *c);
