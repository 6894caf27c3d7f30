/*
 * datanode/blocks.h -- what reads past the page cache have read, kept in memory of our own
 * (disk/cache.h), in blocks as large as a part of such a read: the disk reads into them, and they
 * are sent from there, so that nothing is copied (doc/design/0066).
 *
 * A block belongs to one content of one chunk: it is found by whoever has pinned a content of that
 * identity and those checksums, by nobody else, whatever has become of the chunk, or of the space
 * where the content was. So nothing has to be forgotten for what is served to be right; it is
 * forgotten early to make room. What was read is held against its checksums when it is asked for
 * again, once; what does not fit goes.
 *
 * Owner: the loop of the disk. Nothing here blocks.
 */
#pragma once

#include "chunk/read.h"
#include "datanode/way.h"
#include "disk/cache.h"

#define DATANODE_BLOCK_CELLS (DATANODE_STREAM_PART / CHUNK_CELL)
#define DATANODE_BLOCKS_MIN (UINT64_C(17) << 20) /* bytes: less would not hold DISK_CACHE_MIN */

struct datanode_blocks;

/* `limit_bytes` is charged at once, notes about blocks included. `stats` (may be NULL) gets a group
 * "cache". -EINVAL: less than DATANODE_BLOCKS_MIN; -ENOMEM. */
NODISCARD int datanode_blocks_new(uint64_t limit_bytes, struct mem_budget *budget,
                                  struct stats *stats, struct datanode_blocks **ret);
struct datanode_blocks *datanode_blocks_free(struct datanode_blocks *b); /* nothing is held */
DEFINE_FREEP(datanode_blocks)

/* Block `number` of the chunk whose content is pinned, held; the pinned range touches it. */
bool datanode_blocks_get(struct datanode_blocks *b, const struct chunk_pin *pin, uint32_t number,
                         struct disk_cache_hold *ret);
/* Room for it; the pinned range has all that the chunk has of it. Negative: read it elsewhere. */
NODISCARD int datanode_blocks_reserve(struct datanode_blocks *b, const struct chunk_pin *pin,
                                      uint32_t number, struct disk_cache_hold *ret);
/* It has been read; the content is still pinned. */
void datanode_blocks_fill(struct datanode_blocks *b, const struct chunk_pin *pin, uint32_t number,
                          struct disk_cache_hold *h);
void datanode_blocks_release(struct datanode_blocks *b, struct disk_cache_hold *h);
/* So much of what was found is sent. */
void datanode_blocks_served(struct datanode_blocks *b, uint64_t bytes);
/* All of a chunk goes: it has changed, or somebody doubts its bytes. `b` NULL is fine. */
void datanode_blocks_forget(struct datanode_blocks *b, struct chunk_key key);
/* Where all blocks lie, for the disk to know them (disk_lend()). */
void *datanode_blocks_memory(const struct datanode_blocks *b, size_t *ret_len);

struct datanode_blocks_info {
    uint64_t limit_bytes, bytes; /* of blocks */
    uint64_t held;               /* blocks */
    uint64_t hits, misses, hit_bytes;
    uint64_t stale; /* of misses: it was there of another content */
    uint64_t bad;   /* of misses: its bytes did not fit their checksums */
};
void datanode_blocks_info(const struct datanode_blocks *b, struct datanode_blocks_info *ret);
