/* bench/bench.c -- chooses a benchmark and prints figures. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BENCH_ROUNDS 7u

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void bench_add(struct bench_figure *f, double value, double cpu_seconds)
{
    CHECK(f->count < BENCH_ROUNDS_MAX);
    f->value[f->count++] = value;
    f->cpu_seconds += cpu_seconds;
}

static void sort(const struct bench_figure *f, double *out)
{
    CHECK(f->count > 0);
    memcpy(out, f->value, f->count * sizeof out[0]);
    qsort(out, f->count, sizeof out[0], compare);
}

double bench_median(const struct bench_figure *f)
{
    double sorted[BENCH_ROUNDS_MAX];
    sort(f, sorted);
    return sorted[f->count / 2];
}

void bench_print(const struct bench_figure *f)
{
    double sorted[BENCH_ROUNDS_MAX];
    sort(f, sorted);
    double median = sorted[f->count / 2], q1 = sorted[f->count / 4], q3 = sorted[3 * f->count / 4];
    double ratio = f->target > 0 ? median / f->target : 0;
    fprintf(stderr, "%-16s %12.2f %-8s q1 %.2f q3 %.2f", f->name, median, f->unit, q1, q3);
    if (f->target > 0) {
        bool met = f->at_most ? median <= f->target : median >= f->target;
        fprintf(stderr, "  target %s %.2f: %s (%.2f)", f->at_most ? "at most" : "at least",
                f->target, met ? "met" : "MISSED", ratio);
    }
    fprintf(stderr, "\n");
    printf("{\"bench\":\"%s\",\"name\":\"%s\",\"value\":%.3f,\"unit\":\"%s\",\"cpu_seconds\":%.3f,"
           "\"against\":\"%s\",\"peer_value\":%.3f,\"ratio\":%.3f,\"samples\":%zu,\"q1\":%.3f,"
           "\"q3\":%.3f}\n",
           f->bench, f->name, median, f->unit, f->cpu_seconds / (double)f->count,
           f->target > 0 ? "target" : "none", f->target, ratio, f->count, q1, q3);
    fflush(stdout);
}

/* A name runs the rows that bear it, or belong to the group of that name. */
static const struct {
    const char *name, *group;
    int (*run)(unsigned rounds);
} bench_table[] = {
    {"rpc", "first", bench_rpc},     {"data", "first", bench_first},
    {"apply", "meta", bench_apply},  {"apply_tree", "meta", bench_apply_tree},
    {"names", "meta", bench_meta},   {"restart", "restart", bench_restart},
    {"size", "size", bench_size},    {"disk", "disk", bench_disk},
    {"small", "small", bench_small},
};

static int usage(void)
{
    fprintf(stderr, "usage: bench NAME [ROUNDS]   (at most %u)\n", BENCH_ROUNDS_MAX);
    for (size_t i = 0; i < ARRAY_COUNT(bench_table); i++) {
        fprintf(stderr, "  %-8s of group %s\n", bench_table[i].name, bench_table[i].group);
    }
    return 2;
}

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : BENCH_ROUNDS;
    if (argc < 2 || rounds == 0 || rounds > BENCH_ROUNDS_MAX) {
        return usage();
    }
    bool found = false;
    int code = 0;
    for (size_t i = 0; i < ARRAY_COUNT(bench_table) && code == 0; i++) {
        if (strcmp(argv[1], bench_table[i].name) == 0 ||
            strcmp(argv[1], bench_table[i].group) == 0) {
            found = true;
            code = bench_table[i].run((unsigned)rounds);
        }
    }
    return found ? code : usage();
}
