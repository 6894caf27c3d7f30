/*
 * bench/data/start.c -- how long a store of the engine `extent` with many chunks takes to start,
 * and how much memory it has then. The first run in an empty directory makes the chunks: records,
 * of which one in STORED_EACH has a cell as well, the others are zeros, which lie nowhere. Each
 * later run starts the store, looks up LOOKS chunks by pins, one after the other, and ends it.
 */
#include "data.h"

#include "base/crc32c.h"
#include "base/env.h"
#include "base/mem.h"
#include "chunk/look.h"
#include "chunk/read.h"
#include "chunk/store.h"
#include "disk/disk.h"
#include "loop/loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IN_FLIGHT 256u
#define STORED_EACH 16u
#define LENGTH 100u
#define CHAINS 64u
#define LOOKS 20000u

struct start;
struct start_put {
    struct start *x;
    struct chunk_update update;
    struct iovec iov;
};
struct start {
    struct env env;
    struct chunk_user user;
    struct chunk_store *store;
    struct chunk_start start;
    struct chunk_stop stop;
    struct chunk_sync sync;
    struct chunk_pin pin;
    struct loop_task more;
    struct start_put put[IN_FLIGHT];
    uint8_t data[LENGTH], zeros[LENGTH];
    uint32_t crc_data, crc_zeros;
    uint64_t wanted, next, done, looked, busy;
    bool crash; /* it ends at once when all are made: the next run finds a long journal */
    double began, started, looking;
    uint64_t kib; /* of memory, after the start */
};

static void start_failed(struct chunk_user *u, int rc, const char *reason)
{
    (void)u;
    (void)rc;
    data_die("the store has failed", reason);
}

static void start_damaged(struct chunk_user *u, struct chunk_key key)
{
    (void)u;
    (void)key;
    data_die("the store", "a chunk is damaged");
}

static const struct chunk_user_ops start_user = {.failed = start_failed, .damaged = start_damaged};

static struct chunk_key start_key(uint64_t i)
{
    return (struct chunk_key){.data_id = 1000 + i};
}

static uint64_t start_memory(void)
{
    char line[256];
    uint64_t kib = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "VmRSS:", 6) == 0) {
            kib = strtoull(line + 6, NULL, 10);
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return kib;
}

/* --- The end ---------------------------------------------------------------------------------- */

static void start_stopped(struct chunk_stop *s, int rc)
{
    struct start *x = container_of(s, struct start, stop);
    if (rc < 0) {
        data_die("the end of the store", err_text(rc));
    }
    loop_stop(x->env.loop, 0);
}

static void start_end(struct start *x)
{
    x->stop.done = start_stopped;
    chunk_store_stop(x->store, &x->stop);
}

/* --- Making chunks ---------------------------------------------------------------------------- */

static void start_put(struct start *x, struct start_put *p);

static void start_synced(struct chunk_sync *s, int rc)
{
    struct start *x = container_of(s, struct start, sync);
    if (rc < 0) {
        data_die("sync", err_text(rc));
    }
    start_end(x);
}

/* Busy: tried again, while the journal is trimmed. */
static void start_stored(struct chunk_update *u, int rc)
{
    struct start_put *p = container_of(u, struct start_put, update);
    struct start *x = p->x;
    if (rc == -ERR_busy) {
        x->busy++;
        chunk_store_update(x->store, u);
        return;
    }
    rc = rc < 0 ? rc : chunk_store_commit(x->store, u->key, u->identity);
    if (rc < 0) {
        data_die("update", err_text(rc));
    }
    x->done++;
    if (x->next < x->wanted) {
        start_put(x, p);
    } else if (x->done == x->wanted && x->crash) {
        printf("{\"command\": \"start\", \"made\": %llu, \"seconds\": %.3f}\n",
               (unsigned long long)x->done, data_now() - x->began);
        fflush(stdout);
        _exit(0);
    } else if (x->done == x->wanted) {
        x->sync = (struct chunk_sync){.done = start_synced, .scope = CHUNK_SYNC_ALL};
        chunk_store_sync(x->store, &x->sync);
    }
}

static void start_put(struct start *x, struct start_put *p)
{
    uint64_t i = x->next++;
    bool stored = i % STORED_EACH == 0;
    p->x = x;
    p->iov = (struct iovec){.iov_base = stored ? x->data : x->zeros, .iov_len = LENGTH};
    p->update = (struct chunk_update){.done = start_stored,
                                      .key = start_key(i),
                                      .chain = 1 + (uint32_t)(i % CHAINS),
                                      .identity = {.aepoch = 1, .ver = 1},
                                      .kind = CHUNK_WHOLE,
                                      .new_length = LENGTH,
                                      .last_ver = 1,
                                      .crc = stored ? &x->crc_data : &x->crc_zeros,
                                      .crc_count = 1,
                                      .data = &p->iov,
                                      .data_count = 1};
    chunk_store_update(x->store, &p->update);
}

static void start_make(struct loop_task *t)
{
    struct start *x = container_of(t, struct start, more);
    for (unsigned i = 0; i < IN_FLIGHT && x->next < x->wanted; i++) {
        start_put(x, &x->put[i]);
    }
}

/* --- Looking ---------------------------------------------------------------------------------- */

static void start_look(struct start *x);

/* A process that was killed had told nobody of its last commits: those are pending again. */
static bool lost_commit(const struct start *x, int rc)
{
    struct chunk_info info;
    return rc == -ENOENT && x->crash && chunk_store_lookup(x->store, x->pin.key, &info) == 0 &&
           info.has_pending;
}

static void start_pinned(struct chunk_pin *p, int rc)
{
    struct start *x = container_of(p, struct start, pin);
    if (rc < 0 && !lost_commit(x, rc)) {
        data_die("a chunk is not there", err_text(rc));
    }
    if (rc == 0) {
        chunk_store_unpin(x->store, p);
    }
    x->looked++;
    start_look(x);
}

static void start_look(struct start *x)
{
    while (x->looked < LOOKS) {
        uint64_t i = x->looked * UINT64_C(0x9e3779b97f4a7c15) % x->wanted;
        x->pin = (struct chunk_pin){.done = start_pinned, .key = start_key(i), .length = LENGTH};
        int rc = chunk_store_pin(x->store, &x->pin);
        if (rc == -ERR_need) {
            chunk_store_pin_wait(x->store, &x->pin);
            return;
        }
        if (rc < 0 && !lost_commit(x, rc)) {
            data_die("a chunk is not there", err_text(rc));
        }
        if (rc == 0) {
            chunk_store_unpin(x->store, &x->pin);
        }
        x->looked++;
    }
    x->looking = data_now() - x->looking;
    start_end(x);
}

/* --- The store -------------------------------------------------------------------------------- */

static void start_started(struct chunk_start *s, int rc)
{
    struct start *x = container_of(s, struct start, start);
    struct chunk_store_info info;
    if (rc < 0) {
        data_die("the start of the store", err_text(rc));
    }
    x->started = data_now() - x->began;
    x->kib = start_memory();
    chunk_store_info(x->store, &info);
    if (info.chunk_count == 0) {
        x->more.run = start_make;
        loop_defer(x->env.loop, &x->more);
        return;
    }
    if (info.chunk_count != x->wanted) {
        data_die("the store", "it has another number of chunks");
    }
    x->looking = data_now();
    start_look(x);
}

static void start_open(struct start *x, const char *directory)
{
    struct chunk_options opt = {.env = &x->env,
                                .engine = CHUNK_ENGINE_EXTENT,
                                .directory = directory,
                                .cluster = {.bytes = "a benchmark's"},
                                .user = &x->user};
    const struct chunk_format_options f = {.target = {.bytes = "its target"}};
    struct chunk_looked looked;
    struct err e = {0};
    if (disk_make_directories(x->env.disk, directory) < 0) {
        data_die(directory, "it cannot be made");
    }
    int rc = chunk_store_look(x->env.disk, directory, &looked, &e);
    rc = rc < 0 ? chunk_store_format(&opt, &f, &e) : 0;
    rc = rc < 0 ? rc : chunk_store_open(&opt, &x->store, &e);
    if (rc < 0) {
        data_die(directory, err_message(&e, rc));
    }
}

void data_start(const struct data_args *a)
{
    struct start *x = mem_zalloc(sizeof *x);
    struct err e = {0};
    if (x == NULL || loop_new(&(struct loop_options){.name = "start"}, &x->env.loop, &e) < 0 ||
        disk_pool_new(&x->env, &(struct disk_pool_options){0}, &x->env.disk) < 0) {
        data_die("start", err_message(&e, -ENOMEM));
    }
    x->wanted = data_number(a, "objects", 5000000);
    x->crash = data_number(a, "crash", 0) != 0;
    x->user.ops = &start_user;
    memset(x->data, 7, sizeof x->data);
    x->crc_data = crc32c(0, x->data, LENGTH);
    x->crc_zeros = crc32c(0, x->zeros, LENGTH);
    x->began = data_now();
    start_open(x, data_text(a, "directory", NULL));
    x->start.done = start_started;
    chunk_store_start(x->store, &x->start);
    loop_run(x->env.loop);
    double seconds = data_now() - x->began;
    printf("{\"command\": \"start\", \"chunks\": %llu, \"made\": %llu, \"seconds\": %.3f, "
           "\"start_seconds\": %.3f, \"start_kib\": %llu, \"end_kib\": %llu, "
           "\"lookups_per_second\": %.0f, \"busy\": %llu}\n",
           (unsigned long long)x->wanted, (unsigned long long)x->done, seconds, x->started,
           (unsigned long long)x->kib, (unsigned long long)start_memory(),
           x->looked == 0 ? 0.0 : (double)x->looked / x->looking, (unsigned long long)x->busy);
    x->store = chunk_store_free(x->store);
    disk_free(x->env.disk);
    loop_free(x->env.loop);
    mem_free(x);
}
