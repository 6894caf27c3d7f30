/* bench/data/fetch.c -- fetch, store, files: objects read and stored; see main.c. */
#include "chunk.h"
#include "data.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

#define FETCH_ASK ((size_t)1 << 10)
#define FETCH_HEAD ((size_t)16 << 10) /* enough for a small answer in one call */
#define FETCH_CHECK ((size_t)6 << 20)
#define FETCH_SECONDS 3600u

static struct flow_options fetch_options(const struct data_args *a, const char *command)
{
    return (struct flow_options){.connections = (unsigned)data_number(a, "connections", 1),
                                 .depth = (unsigned)data_number(a, "depth", 1),
                                 .seconds = (double)data_number(a, "seconds", FETCH_SECONDS),
                                 .ask_bytes = FETCH_ASK,
                                 .answer_bytes = FETCH_HEAD,
                                 .command = command,
                                 .servers = data_text(a, "server", "")};
}

void data_fetch(const struct data_args *a)
{
    struct flow_options opt = fetch_options(a, "fetch");
    const char *way = data_text(a, "way", NULL);
    if (strcmp(way, "http") == 0) {
        opt.way = http_way_new(a);
    } else if (strcmp(way, "chunk") == 0) {
        opt.way = &chunk_way_new(a, false)->way;
    } else {
        data_die("no such way", way);
    }
    if (data_number(a, "check", 0) != 0) {
        opt.answer_bytes = FETCH_CHECK;
    }
    flow_run(&opt);
    opt.way->ops->free(opt.way);
}

void data_store(const struct data_args *a)
{
    struct flow_options opt = fetch_options(a, "store");
    struct chunk_way *x = chunk_way_new(a, true);
    opt.way = &x->way;
    opt.ask_bytes = FETCH_ASK + base_min(x->set.bytes, CHUNK_BYTES) / PROTO_CELL_BYTES * 4 +
                    base_min(x->set.bytes, CHUNK_BYTES);
    flow_run(&opt);
    opt.way->ops->free(opt.way);
}

static void files_write(const char *path, uint64_t object, uint64_t bytes, uint8_t *piece)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    for (uint64_t at = 0; fd >= 0 && at < bytes; at += CHUNK_BYTES) {
        size_t len = (size_t)base_min(CHUNK_BYTES, bytes - at);
        data_fill(object, at, piece, len);
        if (write(fd, piece, len) != (ssize_t)len) {
            data_die(path, strerror(errno));
        }
    }
    if (fd < 0 || close(fd) < 0) {
        data_die(path, strerror(errno));
    }
}

void data_files(const struct data_args *a)
{
    const char *directory = data_text(a, "directory", NULL);
    uint64_t base = data_number(a, "base", 0), objects = data_number(a, "objects", 1);
    uint64_t bytes = data_number(a, "bytes", CHUNK_BYTES);
    char path[4096];
    uint8_t *piece = malloc(CHUNK_BYTES);
    struct data_meter meter;
    (void)snprintf(path, sizeof path, "%s/o", directory);
    if (piece == NULL || (mkdir(path, 0755) < 0 && errno != EEXIST)) {
        data_die(path, strerror(errno));
    }
    data_meter_begin(&meter, "");
    for (uint64_t i = 0; i < objects; i++) {
        uint64_t object = base + i;
        (void)snprintf(path, sizeof path, "%s/o/%llu", directory, (unsigned long long)object);
        files_write(path, object, bytes, piece);
    }
    data_meter_end(&meter, "files", objects, objects * bytes);
    free(piece);
}
