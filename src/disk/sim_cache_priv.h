/* disk/sim_cache_priv.h -- what the page cache of a simulated machine has: sim_cache.c. */
#pragma once

#include "disk/sim_priv.h"

/* sim_file.c. NULL: nothing of that MiB was ever written. */
struct sim_leaf *disk_sim_leaf(const struct sim_node *n, uint64_t page);

/* The range was read or written through it. Nothing is kept in mode DISK_SIM_CACHE_CHANCE. */
void disk_sim_cache_add(struct sim_node *n, uint64_t offset, uint64_t len);
void disk_sim_cache_forget(struct sim_node *n);
bool disk_sim_cache_has(struct sim_node *n, uint64_t offset, uint64_t len);
