/*
 * bench/bench.h -- what every benchmark shares: rounds, medians, the table for people, the lines
 * for programs.
 *
 * A figure is measured in rounds; a table goes to standard error, and one line of JSON per figure
 * to standard output: {"bench","name","value","unit","cpu_seconds","against","peer_value","ratio",
 * "samples","q1","q3"}.
 */
#pragma once

#include "base/base.h"

#define BENCH_ROUNDS_MAX 64u

struct bench_figure {
    const char *bench, *name, *unit;
    double value[BENCH_ROUNDS_MAX];
    double cpu_seconds; /* of all rounds together, all threads */
    size_t count;
    double target; /* 0: none; smaller is better when `at_most` */
    bool at_most;
};

void bench_add(struct bench_figure *f, double value, double cpu_seconds);
void bench_print(const struct bench_figure *f);
double bench_median(const struct bench_figure *f);

/* Each benchmark is declared here and has a row in the table of bench.c. An exit code. */
int bench_rpc(unsigned rounds);
int bench_first(unsigned rounds);
int bench_meta(unsigned rounds);
int bench_restart(unsigned rounds);
int bench_size(unsigned rounds);
int bench_apply(unsigned rounds);
int bench_apply_tree(unsigned rounds);
int bench_disk(unsigned rounds);
int bench_small(unsigned rounds);
