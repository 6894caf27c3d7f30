/*
 * disk/sim.h -- simulated machines' file systems: what a page cache and a disk may do, from the
 * seed.
 *
 * One struct disk_sim per machine holds files and directories in memory; each process on it opens
 * its own struct disk on its loop. A process that dies loses nothing that was written; a machine
 * that crashes loses, tears (in units of 512 bytes) and reorders whatever was not synced, names
 * included (a created, renamed or removed name is safe only after DISK_SYNC_DIR of its directory
 * or, for a create, DISK_SYNC_ALL of the file). Latency is random. A request that its process did
 * not live to see the end of happened, happened in part (writes) or did not. As on Linux, what a
 * failed sync covered may be lost although the next one succeeds. disk_now() takes no time;
 * disk_resident() and disk_try_read() say yes or no at random, or as disk_sim_cache_mode() says.
 * Allocations of simulated space cost 16 bytes per 4 KiB until written. Paths start at the root; no
 * "..", no symbolic links.
 */
#pragma once

#include "disk/disk.h"

struct loop_sim;
struct disk_sim;

struct disk_sim_options {
    struct loop_sim *sim;
    uint64_t capacity_bytes; /* 0: unlimited; else -ENOSPC beyond */
    uint64_t min_ns, max_ns; /* latency of one request; 0: chosen */
};
NODISCARD struct disk_sim *disk_sim_new(const struct disk_sim_options *opt);
struct disk_sim *disk_sim_free(struct disk_sim *m);
DEFINE_FREEP(disk_sim)
/* A process's view: constructor for its env. */
NODISCARD int disk_sim_open(struct disk_sim *m, struct loop *l, struct disk **ret);

/* Power cut: the caller has killed the machine's processes. What was synced stays exactly; the rest
 * is up to the seed. */
void disk_sim_crash(struct disk_sim *m);
/* How much chance at a crash: none lost, all lost, random subset with tears (default). */
enum disk_sim_crash_mode { DISK_SIM_RANDOM, DISK_SIM_KEEP_ALL, DISK_SIM_LOSE_ALL };
void disk_sim_crash_mode(struct disk_sim *m, enum disk_sim_crash_mode mode);

/* Faults: the nth matching request from now fails with `rc`, `count` times (0: for ever).
 * `path_part` NULL: any file. DISK_READ, rc > 0: it ends after so many bytes, as if the file did.
 */
void disk_sim_fail(struct disk_sim *m, enum disk_op op, const char *path_part, uint64_t nth,
                   uint64_t count, int rc);
void disk_sim_heal(struct disk_sim *m);
void disk_sim_slow(struct disk_sim *m, uint64_t extra_ns);
void disk_sim_capacity(struct disk_sim *m, uint64_t capacity_bytes);
/* Flips bits of stored data behind everyone's back; offset within the file. -ENOENT, -ERANGE. */
NODISCARD int disk_sim_corrupt(struct disk_sim *m, const char *path, uint64_t offset,
                               uint8_t xor_with);
/* The same by an open file (of some process's view). */
NODISCARD int disk_sim_corrupt_file(struct disk_file *f, uint64_t offset, uint8_t xor_with);
uint64_t disk_sim_used_bytes(const struct disk_sim *m);
/* Requests of that lane, of all processes, that have had their turn. */
uint64_t disk_sim_begun(const struct disk_sim *m, enum disk_lane lane);
/* What the page cache has: at the toss of a coin (default), or what was read and written through it
 * and is not dropped since the mode was set. */
enum disk_sim_cache_mode { DISK_SIM_CACHE_CHANCE, DISK_SIM_CACHE_EXACT };
void disk_sim_cache_mode(struct disk_sim *m, enum disk_sim_cache_mode mode);
void disk_sim_cache_empty(struct disk_sim *m);            /* what is there is put out */
uint64_t disk_sim_cached_bytes(const struct disk_sim *m); /* in mode EXACT */
/* One time of `one_of` (0: never) that a request ends, the kernel writes back something of a file
 * by itself; one time of `fail_one_of` (0: never, also after disk_sim_heal()) that fails: what it
 * covered is as after a failed sync, and the next sync of each open file says -EIO, once. */
void disk_sim_writeback(struct disk_sim *m, uint32_t one_of, uint32_t fail_one_of);
/* Sockets, or large folios, keep what is dropped; nothing is dropped while they do. */
void disk_sim_hold_pages(struct disk_sim *m, bool on);
void disk_sim_evict(
    struct disk_sim *m); /* memory is short: files without dirty pages are dropped */
/* Flips bits of the medium alone: who has the page in memory does not see it. -ENOENT, -ERANGE. */
NODISCARD int disk_sim_rot(struct disk_sim *m, const char *path, uint64_t offset, uint8_t xor_with);
/* Its file system has no direct I/O for DISK_PAST_CACHE. */
void disk_sim_no_direct(struct disk_sim *m, bool on);
