/*
 * bench/meta.c -- names and attributes on the cluster in the directory OPENDFS_CLUSTER
 * (tools/bench.sh makes one), through the asynchronous client library over loopback. Every change
 * is on the disk of the metadata server before it is answered; the client caches nothing.
 *
 * meta.create_128         empty files in 100 directories, names of 16 bytes, 128 in flight
 * meta.cpu_create         CPU of it, servers and client together, per file
 * meta.create_1           the same one at a time
 * meta.create_inline_128  with 4 KiB of contents in the same request
 * meta.stat_128           random ones of the files of create_128
 * meta.rename_128         within their directories
 * meta.unlink_128         what rename has renamed
 * meta.list               a directory of 200,000 entries with attributes, page after page
 * meta.du                 what lies below a directory with 1,000,000 files in it, milliseconds
 *
 * machine.echo_* are round trips of this machine without any of that, by turns (machine.h).
 */
#include "machine.h"

#include "base/rand.h"
#include "opendfs/async.h"
#include "opendfs/usage.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define META_IN_FLIGHT 128u
#define META_DIRS 100u
#define META_FILES 100000u
#define META_RENAMES 30000u
#define META_INLINE 15000u
#define META_SINGLE 5000u
#define META_LISTED 200000u
#define META_BELOW 1000000u
#define META_DUS 61u
#define META_ECHO_SECONDS 0.3
#define META_NAME_BYTES 17u
#define META_INLINE_BYTES 4096u

struct meta;

/* One kind of operation, many times: `start` begins number i on a request. */
struct meta_request {
    struct opendfs_op op;
    struct meta *x;
    char name[META_NAME_BYTES], other[META_NAME_BYTES];
};
struct meta {
    const char *cluster;
    struct opendfs *fs;
    struct meta_request request[META_IN_FLIGHT];
    void (*start)(struct meta *x, struct meta_request *r, uint64_t i);
    uint64_t next, end;
    unsigned active;
    int64_t rc;
    sem_t over;
    uint64_t dir[META_DIRS], listed_dir;
    const char *prefix; /* of names: one letter */
    struct rand rand;
    uint8_t contents[META_INLINE_BYTES];
    char text[OPENDFS_ERROR_SIZE]; /* of the first failure */
};

/* --- Many at a time, on the library's thread -------------------------------------------------- */

static void meta_done(struct opendfs_op *op);

/* False: there is nothing left to do. */
static bool meta_next(struct meta *x, struct meta_request *r)
{
    if (x->next == x->end || x->rc < 0) {
        return false;
    }
    r->op = (struct opendfs_op){.done = meta_done};
    x->start(x, r, x->next++);
    return true;
}
static void meta_done(struct opendfs_op *op)
{
    struct meta_request *r = container_of(op, struct meta_request, op);
    struct meta *x = r->x;
    if (op->result < 0 && x->rc == 0) {
        x->rc = op->result;
        memcpy(x->text, op->error, sizeof x->text);
    }
    if (!meta_next(x, r) && --x->active == 0) {
        sem_post(&x->over);
    }
}

/* The library's thread does all the rest: what it works on is not touched until it is over. */
struct meta_kick {
    struct opendfs_op op;
    struct meta *x;
    unsigned in_flight;
};
static void meta_kicked(struct opendfs_op *op)
{
    struct meta_kick *k = container_of(op, struct meta_kick, op);
    struct meta *x = k->x;
    x->active = k->in_flight;
    for (unsigned i = 0; i < k->in_flight; i++) {
        x->request[i].x = x;
        if (!meta_next(x, &x->request[i])) {
            x->active--;
        }
    }
    if (x->active == 0) {
        sem_post(&x->over);
    }
}

static double meta_cpu(const struct meta *x)
{
    struct rusage own;
    (void)getrusage(RUSAGE_SELF, &own);
    double seconds = (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) +
                     (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6;
    return seconds + machine_cluster_cpu(x->cluster, "");
}

struct meta_run {
    void (*start)(struct meta *x, struct meta_request *r, uint64_t i);
    const char *prefix;
    uint64_t count;
    unsigned in_flight;
    double per_second, cpu_seconds; /* results */
};
static int meta_measure(struct meta *x, struct meta_run *run)
{
    struct meta_kick kick = {.op.done = meta_kicked, .x = x, .in_flight = run->in_flight};
    x->start = run->start;
    x->prefix = run->prefix;
    x->next = 0;
    x->end = run->count;
    x->rc = 0;
    double cpu = meta_cpu(x), began = machine_now();
    opendfs_async_statfs(x->fs, &kick.op);
    while (sem_wait(&x->over) < 0) {
    }
    run->per_second = (double)run->count / (machine_now() - began);
    run->cpu_seconds = meta_cpu(x) - cpu;
    if (x->rc < 0) {
        fprintf(stderr, "bench meta: %s\n", x->text);
    }
    return (int)x->rc;
}

/* --- The operations --------------------------------------------------------------------------- */

static void meta_name(char out[META_NAME_BYTES], const char *prefix, uint64_t i)
{
    snprintf(out, META_NAME_BYTES, "%s%015llu", prefix, (unsigned long long)i);
}
static void meta_at(struct meta *x, struct meta_request *r, uint64_t i)
{
    meta_name(r->name, x->prefix, i);
    r->op.at = x->dir[i % META_DIRS];
}
static void start_create(struct meta *x, struct meta_request *r, uint64_t i)
{
    meta_at(x, r, i);
    opendfs_async_create(x->fs, &r->op, r->name, NULL, 0, NULL, 0);
}
static void start_create_inline(struct meta *x, struct meta_request *r, uint64_t i)
{
    meta_at(x, r, i);
    opendfs_async_create(x->fs, &r->op, r->name, NULL, 0, x->contents, sizeof x->contents);
}
static void start_create_listed(struct meta *x, struct meta_request *r, uint64_t i)
{
    meta_name(r->name, x->prefix, i);
    r->op.at = x->listed_dir;
    opendfs_async_create(x->fs, &r->op, r->name, NULL, 0, NULL, 0);
}
static void start_stat(struct meta *x, struct meta_request *r, uint64_t i)
{
    (void)i;
    meta_at(x, r, rand_below(&x->rand, META_FILES));
    opendfs_async_lstat(x->fs, &r->op, r->name);
}
/* Scattered over the directories and within them, and every one just once. */
static void start_rename(struct meta *x, struct meta_request *r, uint64_t i)
{
    meta_at(x, r, i * 3);
    meta_name(r->other, "r", i * 3);
    opendfs_async_rename(x->fs, &r->op, r->name, r->other, 0);
}
static void start_unlink(struct meta *x, struct meta_request *r, uint64_t i)
{
    meta_at(x, r, i * 3);
    opendfs_async_unlink(x->fs, &r->op, r->name);
}

/* --- Figures ---------------------------------------------------------------------------------- */

struct meta_figures {
    struct bench_figure create, cpu, single, small, stat, rename, unlink, list, du, echo;
};

static int meta_mkdirs(struct meta *x, unsigned round)
{
    char path[64];
    struct opendfs_stat st;
    for (unsigned i = 0; i < META_DIRS; i++) {
        snprintf(path, sizeof path, "/round%u/dir%u", round, i);
        int rc = opendfs_make_directories(x->fs, path, 0755);
        rc = rc < 0 ? rc : opendfs_stat(x->fs, path, &st);
        if (rc < 0) {
            fprintf(stderr, "bench meta: %s\n", opendfs_last_error());
            return rc;
        }
        x->dir[i] = st.ino;
    }
    return 0;
}
static int meta_add(struct meta *x, struct bench_figure *f, struct meta_run run, bool counts)
{
    int rc = meta_measure(x, &run);
    if (rc == 0 && counts) {
        bench_add(f, run.per_second, run.cpu_seconds);
    }
    return rc;
}
static int meta_creates(struct meta *x, struct meta_figures *f, bool counts)
{
    struct meta_run run = {start_create, "f", META_FILES, META_IN_FLIGHT, 0, 0};
    int rc = meta_measure(x, &run);
    if (rc == 0 && counts) {
        bench_add(&f->create, run.per_second, run.cpu_seconds);
        bench_add(&f->cpu, run.cpu_seconds / META_FILES * 1e6, run.cpu_seconds);
    }
    return rc;
}
static int meta_round(struct meta *x, struct meta_figures *f, unsigned round, bool counts)
{
    const struct meta_run single = {start_create, "s", META_SINGLE, 1, 0, 0};
    const struct meta_run small = {start_create_inline, "i", META_INLINE, META_IN_FLIGHT, 0, 0};
    const struct meta_run stat = {start_stat, "f", META_FILES, META_IN_FLIGHT, 0, 0};
    const struct meta_run rename = {start_rename, "f", META_RENAMES, META_IN_FLIGHT, 0, 0};
    const struct meta_run unlink = {start_unlink, "r", META_RENAMES, META_IN_FLIGHT, 0, 0};
    double echo = 0;
    int rc = meta_mkdirs(x, round);
    rc = rc < 0 ? rc : meta_creates(x, f, counts);
    rc = rc < 0 ? rc : meta_add(x, &f->single, single, counts);
    rc = rc < 0 ? rc : meta_add(x, &f->small, small, counts);
    rc = rc < 0 ? rc : meta_add(x, &f->stat, stat, counts);
    rc = rc < 0 ? rc : meta_add(x, &f->rename, rename, counts);
    rc = rc < 0 ? rc : meta_add(x, &f->unlink, unlink, counts);
    rc = rc < 0 ? rc : machine_echo(1, META_ECHO_SECONDS, &echo);
    if (rc == 0 && counts) {
        bench_add(&f->echo, echo, 0);
    }
    return rc;
}

static int meta_list(struct meta *x, struct bench_figure *f, bool counts)
{
    struct opendfs_dir *dir;
    struct opendfs_entry e;
    uint64_t count = 0;
    double cpu = meta_cpu(x), began = machine_now();
    int rc = opendfs_opendir(x->fs, "/listed", &dir);
    if (rc < 0) {
        return rc;
    }
    while ((rc = opendfs_readdir(dir, &e)) == 1) {
        count += e.stat.type == OPENDFS_TYPE_FILE ? 1 : 0;
    }
    opendfs_closedir(dir);
    if (rc == 0 && count != META_LISTED) {
        fprintf(stderr, "bench meta: %llu entries are listed\n", (unsigned long long)count);
        return -EIO;
    }
    if (rc == 0 && counts) {
        bench_add(f, (double)count / (machine_now() - began), meta_cpu(x) - cpu);
    }
    return rc;
}
static int meta_make_listed(struct meta *x)
{
    struct meta_run run = {start_create_listed, "l", META_LISTED, META_IN_FLIGHT, 0, 0};
    struct opendfs_stat st;
    int rc = opendfs_mkdir(x->fs, "/listed", 0755);
    rc = rc < 0 ? rc : opendfs_stat(x->fs, "/listed", &st);
    x->listed_dir = rc < 0 ? 0 : st.ino;
    return rc < 0 ? rc : meta_measure(x, &run);
}

/* The root, when there are as many files below it as there have to be. */
static int meta_du(struct meta *x, struct bench_figure *f, unsigned rounds)
{
    struct opendfs_dir_stats s = {0};
    int rc = opendfs_dir_stats(x->fs, "/", &s);
    if (rc == 0 && s.files < META_BELOW) {
        struct meta_run more = {start_create, "d", META_BELOW - s.files, META_IN_FLIGHT, 0, 0};
        rc = meta_mkdirs(x, rounds + 1);
        rc = rc < 0 ? rc : meta_measure(x, &more);
    }
    for (unsigned i = 0; i < META_DUS && rc == 0; i++) {
        double began = machine_now();
        rc = opendfs_dir_stats(x->fs, "/", &s);
        bench_add(f, (machine_now() - began) * 1e3, 0);
    }
    if (rc == 0 && s.files < META_BELOW) {
        fprintf(stderr, "bench meta: only %llu files are counted\n", (unsigned long long)s.files);
        return -EIO;
    }
    return rc;
}

static int meta_rounds(struct meta *x, struct meta_figures *f, unsigned rounds)
{
    int rc = meta_make_listed(x);
    for (unsigned i = 0; i <= rounds && rc == 0; i++) { /* round 0 warms up and does not count */
        rc = meta_round(x, f, i, i > 0);
        rc = rc < 0 ? rc : meta_list(x, &f->list, i > 0);
    }
    return rc < 0 ? rc : meta_du(x, &f->du, rounds);
}

static void meta_print(const struct meta_figures *f)
{
    bench_print(&f->create);
    bench_print(&f->cpu);
    bench_print(&f->single);
    bench_print(&f->small);
    bench_print(&f->stat);
    bench_print(&f->rename);
    bench_print(&f->unlink);
    bench_print(&f->list);
    bench_print(&f->du);
    bench_print(&f->echo);
}
#define META_FIGURE(name_, unit_, target_)                                     \
    {                                                                          \
        .bench = "meta", .name = (name_), .unit = (unit_), .target = (target_) \
    }

int bench_meta(unsigned rounds)
{
    static struct meta x;
    static struct meta_figures f = {
        .create = META_FIGURE("meta.create_128", "1/s", 40000),
        .cpu = {.bench = "meta",
                .name = "meta.cpu_create",
                .unit = "us",
                .target = 25,
                .at_most = true},
        .single = META_FIGURE("meta.create_1", "1/s", 7000),
        .small = META_FIGURE("meta.create_inline_128", "1/s", 15000),
        .stat = META_FIGURE("meta.stat_128", "1/s", 200000),
        .rename = META_FIGURE("meta.rename_128", "1/s", 30000),
        .unlink = META_FIGURE("meta.unlink_128", "1/s", 30000),
        .list = META_FIGURE("meta.list", "1/s", 1000000),
        .du = {.bench = "meta", .name = "meta.du", .unit = "ms", .target = 5, .at_most = true},
        .echo = META_FIGURE("machine.echo_1", "1/s", 0),
    };
    x.cluster = getenv("OPENDFS_CLUSTER");
    if (x.cluster == NULL || sem_init(&x.over, 0, 0) < 0) {
        fprintf(stderr, "bench meta: OPENDFS_CLUSTER is not set; see tools/bench.sh\n");
        return 1;
    }
    rand_seed(&x.rand, 1);
    struct opendfs_options opt = {.api_version = OPENDFS_API_VERSION,
                                  .cluster = x.cluster,
                                  .uid = UINT32_MAX,
                                  .gid = UINT32_MAX};
    int rc = opendfs_connect(&opt, &x.fs);
    rc = rc < 0 ? rc : meta_rounds(&x, &f, rounds);
    opendfs_disconnect(x.fs);
    sem_destroy(&x.over);
    if (rc < 0) {
        fprintf(stderr, "bench meta: %s\n", opendfs_error_text(rc));
        return 1;
    }
    meta_print(&f);
    return 0;
}
