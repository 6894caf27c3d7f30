/*
 * bench/data/data.h -- what the commands of bench_data share: arguments, bytes that can be checked
 * again, and what one run has taken. One process per run, one line of JSON per run; whatever fails
 * ends the process.
 */
#pragma once

#include "base/base.h"

void data_die(const char *what, const char *why) __attribute__((noreturn));
double data_now(void); /* seconds of a steady clock */

/* Arguments "name=value"; numbers may end in k, m or g. */
struct data_args {
    int count;
    char **at;
};
/* `otherwise` NULL: it must be there. */
const char *data_text(const struct data_args *a, const char *name, const char *otherwise);
uint64_t data_number(const struct data_args *a, const char *name, uint64_t otherwise);

/* The bytes of an object from `offset` on, which is a multiple of 8, as `len` is. */
void data_fill(uint64_t object, uint64_t offset, uint8_t *out, size_t len);
bool data_same(uint64_t object, uint64_t offset, const uint8_t *got, size_t len);

/* What a run takes of the servers (process ids with commas between) and of this process. */
#define DATA_SERVERS_MAX 8u
struct data_io {
    uint64_t read_bytes, written_bytes; /* from and to disks */
};
struct data_meter {
    const char *servers;
    double began, server_cpu, own_cpu;
    struct data_io io;
    uint32_t *sample; /* microseconds */
    size_t samples;
    uint64_t busy; /* how often a server had no room */
};
void data_meter_begin(struct data_meter *m, const char *servers);
void data_meter_took(struct data_meter *m, double seconds); /* one request */
/* Prints the line. */
void data_meter_end(struct data_meter *m, const char *command, uint64_t count, uint64_t bytes);

/* The commands; main.c says what they do. */
void data_fetch(const struct data_args *a);
void data_store(const struct data_args *a);
void data_files(const struct data_args *a);
void data_put(const struct data_args *a);
void data_read(const struct data_args *a);
void data_overwrite(const struct data_args *a);
void data_model(const struct data_args *a);
void data_start(const struct data_args *a);
