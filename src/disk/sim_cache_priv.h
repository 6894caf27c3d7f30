/* disk/sim_cache_priv.h -- what the page cache of a simulated machine has, and how it gets to the
 * medium: sim_cache.c, sim_crash.c. */
#pragma once

#include "disk/sim_priv.h"

/* sim_file.c. NULL: nothing of that MiB was ever written. */
struct sim_leaf *disk_sim_leaf(const struct sim_node *n, uint64_t page);

/* As disk_sim_read(), without the page cache: what the medium would have if what is dirty were
 * written back now. */
size_t disk_sim_read_medium(const struct sim_node *n, uint64_t offset, void *to, size_t len);
/* The change's pages cannot be written back any more, and a sync says nothing of it, until they
 * leave the page cache: ext4 takes blocks that were allocated and never written for written ones
 * when their first writeback has failed, and never notes in the file that they were. */
void disk_sim_stick(struct sim_node *n, const struct sim_change *c);
/* Each of its pages by the toss of a coin: whole, or as disk_sim_stick(). */
void disk_sim_settle_pages(struct sim_node *n, const struct sim_change *c);

/* ---- sim_crash.c ---- */
/* A writeback has failed: what it covered is written or lost, and never tried again. */
void disk_sim_strand(struct sim_node *n, uint64_t mark);
/* It is read from the medium from now on, unless something of it is dirty or it is held. */
void disk_sim_drop(struct sim_node *n);
/* A request has ended: perhaps the kernel writes back by itself. */
void disk_sim_write_back(struct disk_sim *m);
/* As in Linux each open file hears of a failed writeback once, and one that was opened later only
 * if nobody has heard of it before. */
void disk_sim_failed(struct sim_node *n);
void disk_sim_opened(struct sim_file *f);
bool disk_sim_deaf(const struct sim_file *f); /* there is something to hear */
bool disk_sim_hear(struct sim_file *f);
/* Its sync fails. */
void disk_sim_fail_sync(struct sim_file *f, uint64_t mark);

/* The range was read or written through it. Nothing is kept in mode DISK_SIM_CACHE_CHANCE. */
void disk_sim_cache_add(struct sim_node *n, uint64_t offset, uint64_t len);
void disk_sim_cache_forget(struct sim_node *n);
bool disk_sim_cache_has(struct sim_node *n, uint64_t offset, uint64_t len);
