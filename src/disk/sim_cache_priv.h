/* disk/sim_cache_priv.h -- what the page cache of a simulated machine has: sim_cache.c. */
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

/* The range was read or written through it. Nothing is kept in mode DISK_SIM_CACHE_CHANCE. */
void disk_sim_cache_add(struct sim_node *n, uint64_t offset, uint64_t len);
void disk_sim_cache_forget(struct sim_node *n);
bool disk_sim_cache_has(struct sim_node *n, uint64_t offset, uint64_t len);
