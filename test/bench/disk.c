/*
 * bench/disk.c -- requests to a file, by turns with bare system calls, with the threads of the pool
 * and with io_uring; each of the two also on a loop that looks before it sleeps (".look"), as those
 * of servers do.
 *
 * disk.read4k.N   random direct reads of 4 KiB, N at a time
 * disk.read16k.N  the same of 16 KiB
 * disk.cold4k.N   random reads of 4 KiB through the page cache, which was emptied before
 * disk.sync4k.N   random direct writes of 4 KiB, each of them stable when it is done
 * disk.append4k.1 writes behind the end through the page cache, each of them stable when it is done
 *
 * For each: requests per second, CPU time of the process per request, and both beside the bare
 * calls and the threads.
 */
#include "bench.h"
#include "machine.h"

#include "base/env.h"
#include "base/mem.h"
#include "base/rand.h"
#include "disk/disk.h"
#include "loop/loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DISK_FILE_BYTES (UINT64_C(256) << 20)
#define DISK_CHUNK (1u << 20)
#define DISK_DEPTH_MAX 16u
#define DISK_WAIT_NS UINT64_C(1000000000)

enum disk_way { DISK_BARE, DISK_THREADS, DISK_URING, DISK_THREADS_LOOK, DISK_URING_LOOK };
#define DISK_WAYS 5u
static const char *const disk_ways[DISK_WAYS] = {"bare", "threads", "uring", "threads.look",
                                                 "uring.look"};

static const struct disk_work {
    const char *name;
    enum disk_op op;
    bool direct, append;
    unsigned bytes, depth, count;
} disk_works[] = {
    {"read4k.1", DISK_READ, true, false, 4096, 1, 3000},
    {"read4k.4", DISK_READ, true, false, 4096, 4, 6000},
    {"read4k.16", DISK_READ, true, false, 4096, 16, 12000},
    {"read16k.1", DISK_READ, true, false, 16384, 1, 3000},
    {"read16k.4", DISK_READ, true, false, 16384, 4, 6000},
    {"read16k.16", DISK_READ, true, false, 16384, 16, 12000},
    {"cold4k.1", DISK_READ, false, false, 4096, 1, 3000},
    {"cold4k.4", DISK_READ, false, false, 4096, 4, 3000},
    {"sync4k.1", DISK_WRITE, true, false, 4096, 1, 500},
    {"sync4k.4", DISK_WRITE, true, false, 4096, 4, 1000},
    {"append4k.1", DISK_WRITE, false, true, 4096, 1, 500},
};
#define DISK_WORKS ARRAY_COUNT(disk_works)

struct disk_bench;
struct disk_slot {
    struct disk_req req;
    struct disk_bench *bench;
    uint8_t *memory;
};

struct disk_bench {
    struct env env[DISK_WAYS]; /* DISK_BARE: of the file only */
    struct disk_file *direct, *cached;
    const struct disk_work *work;
    struct disk *disk; /* of the way that is measured */
    struct disk_slot slot[DISK_DEPTH_MAX];
    struct rand rand;
    uint64_t end; /* for what appends */
    unsigned started, done;
    int64_t rc; /* the first error */
    struct bench_figure rate[DISK_WORKS][DISK_WAYS], cpu[DISK_WORKS][DISK_WAYS];
    char names[DISK_WORKS][DISK_WAYS][2][48];
};

/* ---- One request ---- */

static struct disk_req disk_next(struct disk_bench *x, struct disk_slot *s)
{
    const struct disk_work *w = x->work;
    uint64_t at = rand_below(&x->rand, DISK_FILE_BYTES / w->bytes) * w->bytes;
    if (w->append) {
        at = x->end;
        x->end += w->bytes;
    }
    x->started++;
    return (struct disk_req){.op = w->op,
                             .flags = w->op == DISK_WRITE ? DISK_STABLE : 0,
                             .file = w->direct ? x->direct : x->cached,
                             .offset = at,
                             .buf = s->memory,
                             .len = w->bytes};
}

static void disk_check(struct disk_bench *x, int64_t rc)
{
    if (rc != (int64_t)x->work->bytes && x->rc == 0) {
        x->rc = rc < 0 ? rc : -EIO;
    }
    x->done++;
}

static void disk_done(struct disk_req *req, int64_t rc)
{
    struct disk_slot *s = container_of(req, struct disk_slot, req);
    struct disk_bench *x = s->bench;
    disk_check(x, rc);
    if (x->started < x->work->count && x->rc == 0) {
        s->req = disk_next(x, s);
        s->req.done = disk_done;
        disk_submit(x->disk, &s->req);
    }
}

static int64_t disk_bare(const struct disk_req *req)
{
    int fd = disk_file_fd(req->file);
    int64_t rc = 0;
    if (req->op == DISK_READ) {
        rc = pread(fd, req->buf, req->len, (off_t)req->offset);
    } else {
        rc = pwrite(fd, req->buf, req->len, (off_t)req->offset);
        rc = rc >= 0 && fdatasync(fd) < 0 ? -1 : rc;
    }
    return rc < 0 ? -errno : rc;
}

/* ---- One round of one way ---- */

static void disk_run_bare(struct disk_bench *x)
{
    while (x->started < x->work->count && x->rc == 0) {
        const struct disk_req req = disk_next(x, &x->slot[0]);
        disk_check(x, disk_bare(&req));
    }
}

static void disk_run_loop(struct disk_bench *x, const struct env *env)
{
    x->disk = env->disk;
    for (unsigned i = 0; i < x->work->depth; i++) {
        struct disk_slot *s = &x->slot[i];
        s->req = disk_next(x, s);
        s->req.done = disk_done;
        disk_submit(x->disk, &s->req);
    }
    while (disk_in_flight(x->disk) > 0) {
        loop_run_once(env->loop, DISK_WAIT_NS);
    }
}

/* Every way begins with the file as it was and nothing of it cached. */
static int disk_prepare(struct disk_bench *x)
{
    struct disk_req req = {.op = DISK_TRUNCATE, .file = x->cached, .len = DISK_FILE_BYTES};
    struct disk *d = x->env[DISK_THREADS].disk;
    int64_t rc = disk_now(d, &req);
    req.op = DISK_SYNC_ALL;
    rc = rc < 0 ? rc : disk_now(d, &req);
    req.op = DISK_DROP;
    rc = rc < 0 ? rc : disk_now(d, &req);
    x->end = DISK_FILE_BYTES;
    x->started = x->done = 0;
    return (int)rc;
}

static int disk_round(struct disk_bench *x, size_t work, enum disk_way way)
{
    const struct env *env = &x->env[way];
    struct loop *clock = x->env[DISK_THREADS].loop;
    x->work = &disk_works[work];
    int rc = disk_prepare(x);
    if (rc < 0) {
        return rc;
    }
    uint64_t cpu_ns = loop_process_cpu_ns(clock);
    double began = machine_now();
    if (way == DISK_BARE) {
        disk_run_bare(x);
    } else {
        disk_run_loop(x, env);
    }
    double seconds = machine_now() - began;
    double cpu = (double)(loop_process_cpu_ns(clock) - cpu_ns) / 1e9;
    if (x->rc < 0) {
        return (int)x->rc;
    }
    bench_add(&x->rate[work][way], x->done / seconds, cpu);
    bench_add(&x->cpu[work][way], cpu * 1e6 / x->done, cpu);
    return 0;
}

/* ---- The whole ---- */

static int disk_fill(struct disk_bench *x)
{
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(DISK_CHUNK);
    if (bytes == NULL) {
        return -ENOMEM;
    }
    rand_bytes(&x->rand, bytes, DISK_CHUNK);
    for (uint64_t at = 0; at < DISK_FILE_BYTES; at += DISK_CHUNK) {
        struct disk_req req = {
            .op = DISK_WRITE, .file = x->cached, .offset = at, .buf = bytes, .len = DISK_CHUNK};
        int64_t rc = disk_now(x->env[DISK_THREADS].disk, &req);
        if (rc < 0) {
            return (int)rc;
        }
    }
    return 0;
}

static int disk_open_files(struct disk_bench *x)
{
    const char *directory = getenv("OPENDFS_BENCH_WORK"); /* NOLINT(concurrency-mt-unsafe) */
    char path[512];
    (void)snprintf(path, sizeof path, "%s/data", directory == NULL ? "." : directory);
    struct disk *d = x->env[DISK_THREADS].disk;
    struct disk_req req = {
        .op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE | DISK_CREATE | DISK_EXCLUSIVE};
    int64_t rc = disk_now(d, &req);
    x->cached = req.file;
    req.flags = DISK_READ_WRITE | DISK_DIRECT;
    rc = rc < 0 ? rc : disk_now(d, &req);
    x->direct = rc < 0 ? NULL : req.file;
    req = (struct disk_req){.op = DISK_REMOVE, .path = path};
    return rc < 0 ? (int)rc : (int)disk_now(d, &req);
}

static int disk_open_way(struct disk_bench *x, enum disk_way way)
{
    struct env *env = &x->env[way];
    struct err e = {0};
    int rc = loop_new(&(struct loop_options){.name = disk_ways[way]}, &env->loop, &e);
    rc = rc < 0 ? rc : disk_pool_new(env, &(struct disk_pool_options){0}, &env->disk);
    if (rc == 0 && (way == DISK_THREADS_LOOK || way == DISK_URING_LOOK)) {
        loop_set_polling(env->loop, LOOP_POLL_US);
    }
    if (rc == 0 && (way == DISK_URING || way == DISK_URING_LOOK)) {
        rc = disk_pool_use_uring(env->disk);
    }
    return rc;
}

static int disk_open_all(struct disk_bench *x)
{
    int rc = 0;
    for (enum disk_way way = DISK_THREADS; way < DISK_WAYS && rc == 0; way++) {
        rc = disk_open_way(x, way);
    }
    for (unsigned i = 0; i < DISK_DEPTH_MAX && rc == 0; i++) {
        x->slot[i].bench = x;
        x->slot[i].memory = mem_aligned(4096, DISK_CHUNK);
        rc = x->slot[i].memory == NULL ? -ENOMEM : 0;
        if (rc == 0) {
            memset(x->slot[i].memory, 'b', DISK_CHUNK);
        }
    }
    rc = rc < 0 ? rc : disk_open_files(x);
    return rc < 0 ? rc : disk_fill(x);
}

static void disk_close_all(struct disk_bench *x)
{
    struct disk_file *files[] = {x->direct, x->cached};
    for (size_t i = 0; i < ARRAY_COUNT(files); i++) {
        struct disk_req req = {.op = DISK_CLOSE, .file = files[i]};
        if (files[i] != NULL) {
            (void)disk_now(x->env[DISK_THREADS].disk, &req);
        }
    }
    for (unsigned i = 0; i < DISK_DEPTH_MAX; i++) {
        mem_free(x->slot[i].memory);
    }
    for (unsigned way = 0; way < DISK_WAYS; way++) {
        disk_free(x->env[way].disk);
        loop_free(x->env[way].loop);
    }
}

static void disk_name_figures(struct disk_bench *x)
{
    for (size_t i = 0; i < DISK_WORKS; i++) {
        for (size_t k = 0; k < DISK_WAYS; k++) {
            char(*name)[48] = x->names[i][k];
            (void)snprintf(name[0], sizeof name[0], "%s.%s", disk_works[i].name, disk_ways[k]);
            (void)snprintf(name[1], sizeof name[1], "%s.%s.cpu", disk_works[i].name, disk_ways[k]);
            x->rate[i][k] = (struct bench_figure){.bench = "disk", .name = name[0], .unit = "/s"};
            x->cpu[i][k] =
                (struct bench_figure){.bench = "disk", .name = name[1], .unit = "us/req"};
        }
    }
}

static void disk_print(const struct disk_bench *x)
{
    for (size_t i = 0; i < DISK_WORKS; i++) {
        double bare = bench_median(&x->rate[i][DISK_BARE]);
        double threads = bench_median(&x->rate[i][DISK_THREADS]);
        double threads_cpu = bench_median(&x->cpu[i][DISK_THREADS]);
        for (size_t k = 0; k < DISK_WAYS; k++) {
            bench_print(&x->rate[i][k]);
            bench_print(&x->cpu[i][k]);
            fprintf(stderr, "    %.2f of bare, %.2f of threads; CPU %.2f of threads\n",
                    bench_median(&x->rate[i][k]) / bare, bench_median(&x->rate[i][k]) / threads,
                    bench_median(&x->cpu[i][k]) / threads_cpu);
        }
    }
}

int bench_disk(unsigned rounds)
{
    struct disk_bench *x = mem_zalloc(sizeof *x);
    if (x == NULL) {
        return 1;
    }
    rand_seed(&x->rand, 1);
    disk_name_figures(x);
    int rc = disk_open_all(x);
    for (unsigned round = 0; round < rounds && rc == 0; round++) {
        for (size_t work = 0; work < DISK_WORKS && rc == 0; work++) {
            for (enum disk_way way = DISK_BARE; way < DISK_WAYS && rc == 0; way++) {
                rc = disk_round(x, work, way);
            }
        }
    }
    if (rc < 0) {
        fprintf(stderr, "disk: %s\n", err_text(rc));
    } else {
        disk_print(x);
    }
    disk_close_all(x);
    mem_free(x);
    return rc < 0 ? 1 : 0;
}
