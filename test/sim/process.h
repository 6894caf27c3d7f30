/* sim/process.h -- what runs on the machines of world.h, as prog/ runs it on real ones. */
#pragma once

#include "world.h"

void process_init_node(struct world *w, unsigned index);
/* Starts what the machine runs by itself. -errno: it did not start, and has ended. */
int process_start(struct world_node *n);
void process_kill(struct world_process *p); /* NULL: nothing */
void process_stop(struct world_process *p); /* in good order; NULL: nothing */
/* The workers of masters. */
extern const struct loop_sim_program process_worker_program;
