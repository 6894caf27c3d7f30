#include "measure.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define MEASURE_BUCKETS 400
#define MEASURE_STEPS 12.0 /* buckets to a doubling; the first ends at 0.1 us */

static struct {
    double begun;
    struct rusage usage;
    uint64_t read, written;
    uint64_t bucket[MEASURE_BUCKETS];
    double longest, longest_cpu;
    bool stops; /* measure_stop() is used: with a histogram */
} measure;

static struct {
    const struct engine *engine;
    double seconds, last;
    pthread_t thread;
    atomic_bool wanted, running, ended;
    unsigned count;
    bool own; /* the engine's way */
} checkpoints;

double measure_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double measure_cpu(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

uint64_t measure_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

uint64_t measure_random(void)
{
    static uint64_t state = UINT64_C(88172645463325252);
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * UINT64_C(2685821657736338717);
}

/* Of this process, from the kernel; 0 where it does not tell. */
static uint64_t measure_io(const char *field)
{
    char line[256];
    unsigned long long value = 0;
    size_t len = strlen(field);
    FILE *f = fopen("/proc/self/io", "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, field, len) == 0 && line[len] == ':') {
            value = strtoull(line + len + 1, NULL, 10);
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return value;
}

void measure_begin(void)
{
    memset(&measure, 0, sizeof measure);
    measure.read = measure_io("read_bytes");
    measure.written = measure_io("write_bytes");
    (void)getrusage(RUSAGE_SELF, &measure.usage);
    measure.begun = measure_now();
}

void measure_latency(double seconds)
{
    double us = seconds * 1e6;
    int i = us <= 0.1 ? 0 : (int)(log2(us / 0.1) * MEASURE_STEPS);
    measure.bucket[i >= MEASURE_BUCKETS ? MEASURE_BUCKETS - 1 : i]++;
    measure.longest = seconds > measure.longest ? seconds : measure.longest;
}

void measure_stop(double seconds, double cpu_seconds)
{
    measure_latency(seconds);
    measure.stops = true;
    measure.longest_cpu = cpu_seconds > measure.longest_cpu ? cpu_seconds : measure.longest_cpu;
}

/* How many took longer than 1, 2, 4, ... ms. */
static void measure_histogram(void)
{
    printf(",\"longest_cpu_ms\":%.2f,\"over_ms\":{", measure.longest_cpu * 1e3);
    for (unsigned ms = 1; ms <= 1024; ms *= 2) {
        uint64_t count = 0;
        for (int i = (int)(log2(ms * 1e4) * MEASURE_STEPS); i < MEASURE_BUCKETS; i++) {
            count += measure.bucket[i];
        }
        printf("%s\"%u\":%llu", ms == 1 ? "" : ",", ms, (unsigned long long)count);
    }
    printf("}");
}

static double measure_percentile_us(double part)
{
    uint64_t all = 0, so_far = 0;
    for (int i = 0; i < MEASURE_BUCKETS; i++) {
        all += measure.bucket[i];
    }
    for (int i = 0; i < MEASURE_BUCKETS && all > 0; i++) {
        so_far += measure.bucket[i];
        if ((double)so_far >= part * (double)all) {
            return 0.1 * exp2((i + 1) / MEASURE_STEPS);
        }
    }
    return 0;
}

static double measure_seconds(const struct timeval *t)
{
    return (double)t->tv_sec + (double)t->tv_usec * 1e-6;
}

void measure_end(const struct engine *e, const char *phase, uint64_t ops, uint64_t raw_bytes)
{
    struct rusage now;
    double seconds = measure_now() - measure.begun;
    (void)getrusage(RUSAGE_SELF, &now);
    double user = measure_seconds(&now.ru_utime) - measure_seconds(&measure.usage.ru_utime);
    double sys = measure_seconds(&now.ru_stime) - measure_seconds(&measure.usage.ru_stime);
    uint64_t read = measure_io("read_bytes") - measure.read;
    uint64_t written = measure_io("write_bytes") - measure.written;
    printf("{\"engine\":\"%s\",\"phase\":\"%s\",\"ops\":%llu,\"seconds\":%.2f,\"per_second\":%.0f,"
           "\"user_s\":%.2f,\"sys_s\":%.2f,\"read_bytes\":%llu,\"written_bytes\":%llu,"
           "\"amplification\":%.2f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,"
           "\"longest_ms\":%.2f,\"rss_mib\":%ld,\"checkpoints\":%u",
           e->name, phase, (unsigned long long)ops, seconds, (double)ops / seconds, user, sys,
           (unsigned long long)read, (unsigned long long)written,
           raw_bytes == 0 ? 0 : (double)written / (double)raw_bytes, measure_percentile_us(0.5),
           measure_percentile_us(0.99), measure_percentile_us(0.999), measure.longest * 1e3,
           now.ru_maxrss / 1024, checkpoints.count);
    if (measure.stops) {
        measure_histogram();
    }
    printf("}\n");
    (void)fflush(stdout);
}

/* ---- checkpoints ---- */

static void *checkpoints_run(void *arg)
{
    (void)arg;
    while (!atomic_load(&checkpoints.ended)) {
        if (atomic_exchange(&checkpoints.wanted, false)) {
            checkpoints.engine->checkpoint();
            atomic_store(&checkpoints.running, false);
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return NULL;
}

void checkpoints_start(const struct engine *e, double seconds)
{
    checkpoints.engine = e;
    checkpoints.seconds = seconds;
    checkpoints.last = measure_now();
    checkpoints.own = e->checkpoint_begin != NULL;
    checkpoints.count = 0;
    atomic_store(&checkpoints.ended, false);
    if (seconds > 0 && !checkpoints.own &&
        pthread_create(&checkpoints.thread, NULL, checkpoints_run, NULL) != 0) {
        engine_die("pthread_create", "no thread");
    }
}

static bool checkpoints_running(void)
{
    return checkpoints.own ? !checkpoints.engine->checkpoint_over()
                           : atomic_load(&checkpoints.running);
}

void checkpoints_look(void)
{
    double now = measure_now();
    if (checkpoints.seconds <= 0 || now - checkpoints.last < checkpoints.seconds ||
        checkpoints_running()) {
        return;
    }
    checkpoints.last = now;
    checkpoints.count++;
    if (checkpoints.own) {
        checkpoints.engine->checkpoint_begin(checkpoints.seconds);
    } else {
        atomic_store(&checkpoints.running, true);
        atomic_store(&checkpoints.wanted, true);
    }
}

void checkpoints_stop(void)
{
    if (checkpoints.seconds > 0 && !checkpoints.own) {
        atomic_store(&checkpoints.ended, true);
        (void)pthread_join(checkpoints.thread, NULL);
    }
    checkpoints.seconds = 0;
}
