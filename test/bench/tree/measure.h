/* bench/tree/measure.h -- time, CPU, bytes and latencies of one phase; checkpoints meanwhile. */
#pragma once

#include "engine.h"

double measure_now(void); /* seconds of a steady clock */
double measure_cpu(void); /* that this thread has had */
uint64_t measure_mix(uint64_t x);
uint64_t measure_random(void); /* the same in every run */

void measure_begin(void);
void measure_latency(double seconds);
/* Of what may be late because others have the processor: what it took of it itself, too. */
void measure_stop(double seconds, double cpu_seconds);
/* Prints one line of JSON. `raw_bytes`: what the user gave; 0: no write amplification. */
void measure_end(const struct engine *e, const char *phase, uint64_t ops, uint64_t raw_bytes);

/* A durable checkpoint each `seconds`, in the background; 0: none. */
void checkpoints_start(const struct engine *e, double seconds);
void checkpoints_look(void); /* between groups */
void checkpoints_stop(void); /* waits for the one under way */
