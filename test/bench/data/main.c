/*
 * bench/data/main.c -- one run of one command: bench_data COMMAND [name=value ...]. run.py beside
 * it starts servers and peers, calls it by turns and makes the table.
 *
 * fetch      whole objects over kept connections, thrown away as they come. way=chunk cluster=DIR:
 *            READ of the chunk protocol, from the one target of that cluster; way=http port=N: GET
 *            /o/NUMBER. objects= bytes= connections= depth= piece= order=random|sequence seconds=
 *            stream=1: with the STREAM flag; check=1: every byte is looked at, each object once
 * store      WRITE of whole chunks: cluster=DIR objects= bytes= base= connections= depth= sync=1
 * files      the same objects as files o/NUMBER below directory=
 * put        a file on the cluster, in order, and fsync: cluster=DIR path= bytes=
 * read       random pieces of it by the library: bytes= piece= depth= seconds=, 0: until SIGTERM
 * overwrite  random 4 KiB, and fsync after each=32. way=cluster: by the library; way=file: path= in
 *            any file system. bytes= of the file, which is made first, count= seconds=
 * model      what plain files and sockets cost here: directory= bytes= copies=
 * start      a store of the engine `extent` alone: directory= objects= crash=1 (the process ends as
 *            if it was killed, when the chunks are made); the first run makes the
 *            chunks, each later one starts it, and looks some of them up
 *
 * Objects have numbers from base= on. With server=PID,PID the line has their CPU seconds and bytes.
 */
#include "data.h"

#include "../machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DATA_SAMPLES_MAX ((size_t)1 << 21)

static const struct {
    const char *name;
    void (*run)(const struct data_args *a);
} data_commands[] = {
    {"fetch", data_fetch}, {"store", data_store}, {"files", data_files},
    {"put", data_put},     {"read", data_read},   {"overwrite", data_overwrite},
    {"model", data_model}, {"start", data_start},
};

void data_die(const char *what, const char *why)
{
    fprintf(stderr, "bench_data: %s: %s\n", what, why == NULL ? "?" : why);
    exit(2);
}

double data_now(void)
{
    return machine_now();
}

/* --- Arguments -------------------------------------------------------------------------------- */

const char *data_text(const struct data_args *a, const char *name, const char *otherwise)
{
    size_t len = strlen(name);
    for (int i = 0; i < a->count; i++) {
        if (strncmp(a->at[i], name, len) == 0 && a->at[i][len] == '=') {
            return a->at[i] + len + 1;
        }
    }
    if (otherwise == NULL) {
        data_die("there is no argument", name);
    }
    return otherwise;
}

uint64_t data_number(const struct data_args *a, const char *name, uint64_t otherwise)
{
    const char *text = data_text(a, name, "");
    if (*text == '\0') {
        return otherwise;
    }
    char *end = NULL;
    uint64_t value = strtoull(text, &end, 10);
    unsigned shift = *end == 'k' ? 10 : *end == 'm' ? 20 : *end == 'g' ? 30 : 0;
    if (end == text || end[shift > 0] != '\0' || value > UINT64_MAX >> shift) {
        data_die("not a number", text);
    }
    return value << shift;
}

/* --- Bytes ------------------------------------------------------------------------------------ */

static uint64_t data_word(uint64_t object, uint64_t word)
{
    uint64_t x = (object << 32 ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 32;
}

void data_fill(uint64_t object, uint64_t offset, uint8_t *out, size_t len)
{
    CHECK(offset % 8 == 0 && len % 8 == 0);
    for (size_t i = 0; i < len; i += 8) {
        uint64_t v = data_word(object, (offset + i) / 8);
        memcpy(out + i, &v, 8);
    }
}

bool data_same(uint64_t object, uint64_t offset, const uint8_t *got, size_t len)
{
    CHECK(offset % 8 == 0 && len % 8 == 0);
    for (size_t i = 0; i < len; i += 8) {
        uint64_t v = data_word(object, (offset + i) / 8);
        if (memcmp(got + i, &v, 8) != 0) {
            return false;
        }
    }
    return true;
}

/* --- What a run takes ------------------------------------------------------------------------- */

static uint64_t meter_field(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at == NULL ? 0 : strtoull(at + strlen(name), NULL, 10);
}

static void meter_look(const char *servers, double *ret_cpu, struct data_io *ret_io)
{
    char text[512], path[64];
    *ret_cpu = 0;
    *ret_io = (struct data_io){0};
    unsigned looked = 0;
    for (const char *at = servers; *at != '\0' && looked < DATA_SERVERS_MAX; looked++) {
        size_t len = strcspn(at, ",");
        char pid[24];
        (void)snprintf(pid, sizeof pid, "%.*s", (int)base_min(len, sizeof pid - 1), at);
        *ret_cpu += machine_process_cpu(pid);
        (void)snprintf(path, sizeof path, "/proc/%s/io", pid);
        FILE *f = fopen(path, "re");
        size_t got = f == NULL ? 0 : fread(text, 1, sizeof text - 1, f);
        text[got] = '\0';
        if (f != NULL) {
            (void)fclose(f);
        }
        ret_io->read_bytes += meter_field(text, "\nread_bytes: ");
        ret_io->written_bytes += meter_field(text, "\nwrite_bytes: ");
        at += len + (at[len] == ',' ? 1 : 0);
    }
}

static double meter_own_cpu(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void data_meter_begin(struct data_meter *m, const char *servers)
{
    *m = (struct data_meter){.servers = servers};
    m->sample = malloc(DATA_SAMPLES_MAX * sizeof *m->sample);
    if (m->sample == NULL) {
        data_die("samples", "no memory");
    }
    meter_look(servers, &m->server_cpu, &m->io);
    m->own_cpu = meter_own_cpu();
    m->began = data_now();
}

void data_meter_took(struct data_meter *m, double seconds)
{
    if (m->samples < DATA_SAMPLES_MAX) {
        double us = seconds * 1e6;
        m->sample[m->samples++] = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
    }
}

static int meter_compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

void data_meter_end(struct data_meter *m, const char *command, uint64_t count, uint64_t bytes)
{
    double seconds = data_now() - m->began, own = meter_own_cpu() - m->own_cpu, cpu = 0;
    struct data_io io;
    meter_look(m->servers, &cpu, &io);
    size_t n = m->samples;
    qsort(m->sample, n, sizeof *m->sample, meter_compare);
    printf("{\"command\":\"%s\",\"count\":%llu,\"bytes\":%llu,\"seconds\":%.6f,"
           "\"server_cpu\":%.6f,\"client_cpu\":%.6f,\"server_read\":%llu,\"server_written\":%llu,"
           "\"p50_us\":%u,\"p99_us\":%u,\"worst_us\":%u,\"busy\":%llu}\n",
           command, (unsigned long long)count, (unsigned long long)bytes, seconds,
           cpu - m->server_cpu, own, (unsigned long long)(io.read_bytes - m->io.read_bytes),
           (unsigned long long)(io.written_bytes - m->io.written_bytes),
           n == 0 ? 0 : m->sample[n / 2], n == 0 ? 0 : m->sample[n - 1 - n / 100],
           n == 0 ? 0 : m->sample[n - 1], (unsigned long long)m->busy);
    free(m->sample);
    m->sample = NULL;
}

int main(int argc, char **argv)
{
    const struct data_args a = {.count = argc - 2, .at = argv + 2};
    for (size_t i = 0; argc > 1 && i < ARRAY_COUNT(data_commands); i++) {
        if (strcmp(argv[1], data_commands[i].name) == 0) {
            data_commands[i].run(&a);
            return 0;
        }
    }
    data_die("usage", "bench_data COMMAND [name=value ...]; test/bench/data/main.c says which");
}
