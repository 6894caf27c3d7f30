/*
 * bench/meta_size.c -- as many files as do not fit in memory: BENCH_FILES (default 10 million) are
 * created through the asynchronous client library, 128 in flight, in directories of 1,000 by turns
 * that look random, on the cluster in OPENDFS_CLUSTER (tools/bench.sh makes one whose metadata are
 * in a tree, with little memory). Around the middle the server is killed and started again, thrice.
 *
 * meta.10m_flat      creates per second in the last tenth / in the first
 * meta.10m_cpu_flat  CPU of the server for a create in the first tenth / in the last
 * meta.10m_rss       resident memory of the server, the most at any time, MiB
 * meta.10m_restart   the longest start: until a new client has an answer, seconds
 * meta.10m_stat      random files looked up afterwards, 128 in flight, per second
 * meta.10m_disk      bytes on the disk for each file, log included
 *
 * With another number of files another number in the names. Each tenth prints a line of its own,
 * for people and as JSON ("name":"window"). BENCH_SECONDS (default 21600) bounds the load: what was
 * not created by then is missing in the names, too. At the end the statistics of the directory
 * above all must say exactly what was created.
 */
#include "machine.h"
#include "server.h"

#include "base/mem.h"
#include "base/rand.h"
#include "opendfs/async.h"
#include "opendfs/usage.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_FILES 10000000u
#define SIZE_FILES_MIN 20000u /* a tenth is much more than what is in flight */
#define SIZE_SECONDS 21600.0
#define SIZE_IN_FLIGHT 128u
#define SIZE_DIRECTORY 1000u /* files */
#define SIZE_WINDOWS 10u
#define SIZE_KILLS 3u
#define SIZE_LOOKS 100000u
#define SIZE_NAME_BYTES 17u
#define SIZE_SOAK 50000000u /* from so many on another target */

struct size;
struct size_request {
    struct opendfs_op op;
    struct size *x;
    double begun;
    char name[SIZE_NAME_BYTES];
};

/* Reached when so many files are there. */
struct size_mark {
    uint64_t at;
    bool kills;
    double when, longest; /* seconds; the longest create of this part */
    double cpu_seconds;   /* of the server since the mark before */
    struct server_size size;
    struct server_work work;
};

struct size_ask {
    struct opendfs_op op;
    struct size *x;
    struct size_mark *mark;
};

struct size {
    struct server server;
    struct opendfs *fs;
    struct size_request request[SIZE_IN_FLIGHT];
    struct size_ask ask;
    uint64_t *dir;
    uint64_t dirs, files, next, done, end;
    struct size_mark mark[SIZE_WINDOWS + SIZE_KILLS];
    unsigned marks, reached;  /* how many; the library's thread alone, until `event` */
    double cpu_base, longest; /* CPU of the server at the mark before */
    double deadline;
    unsigned active;
    bool looking;
    int rc;
    struct rand rand;
    sem_t event; /* a mark is reached, or all is over */
};

/* --- On the library's thread ------------------------------------------------------------------ */

static uint64_t size_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void size_done(struct opendfs_op *op);

static void size_next(struct size *x, struct size_request *r)
{
    uint64_t i = x->looking ? rand_below(&x->rand, x->files) : x->next;
    x->next++;
    r->op = (struct opendfs_op){.done = size_done};
    r->begun = machine_now();
    (void)snprintf(r->name, sizeof r->name, "f%015llu", (unsigned long long)i);
    r->op.at = x->dir[size_mix(i) % x->dirs];
    if (x->looking) {
        opendfs_async_lstat(x->fs, &r->op, r->name);
    } else {
        opendfs_async_create(x->fs, &r->op, r->name, NULL, 0, NULL, 0);
    }
}

static void size_told(struct opendfs_op *op)
{
    struct size_ask *a = container_of(op, struct size_ask, op);
    if (op->result >= 0) {
        server_parse(op->data, &a->mark->work);
        opendfs_async_release(a->x->fs, op);
    }
    (void)sem_post(&a->x->event);
}

static void size_reached(struct size *x, struct size_mark *m)
{
    double cpu = machine_cluster_cpu(x->server.cluster, "meta.");
    server_look(&x->server, &m->size);
    m->cpu_seconds = cpu - x->cpu_base;
    m->longest = x->longest;
    x->cpu_base = m->kills ? 0 : cpu; /* the next process begins with nothing */
    x->longest = 0;
    m->when = machine_now();
    x->reached++;
    if (m->kills) {
        server_kill(&x->server);
        (void)sem_post(&x->event);
    } else {
        x->ask = (struct size_ask){.op.done = size_told, .x = x, .mark = m};
        opendfs_async_metrics(x->fs, &x->ask.op, 0);
    }
}

static void size_done(struct opendfs_op *op)
{
    struct size_request *r = container_of(op, struct size_request, op);
    struct size *x = r->x;
    double now = machine_now(), took = now - r->begun;
    if (op->result < 0 && x->rc == 0) {
        fprintf(stderr, "bench size: %s: %s\n", r->name, op->error);
        x->rc = (int)op->result;
    }
    x->done++;
    x->longest = took > x->longest ? took : x->longest;
    if (!x->looking && now > x->deadline) {
        x->end = x->next;
    }
    if (!x->looking && x->reached < x->marks && x->done == x->mark[x->reached].at) {
        size_reached(x, &x->mark[x->reached]);
    }
    if (x->next < x->end && x->rc == 0) {
        size_next(x, r);
    } else if (--x->active == 0) {
        (void)sem_post(&x->event);
    }
}

struct size_kick {
    struct opendfs_op op;
    struct size *x;
};

static void size_kicked(struct opendfs_op *op)
{
    struct size *x = container_of(op, struct size_kick, op)->x;
    x->active = SIZE_IN_FLIGHT;
    for (unsigned i = 0; i < SIZE_IN_FLIGHT; i++) {
        x->request[i].x = x;
        size_next(x, &x->request[i]);
    }
}

/* --- The load --------------------------------------------------------------------------------- */

static void size_wait(struct size *x)
{
    while (sem_wait(&x->event) < 0) {
    }
}

static const char *size_label(uint64_t files, char out[32])
{
    bool millions = files >= 1000000;
    (void)snprintf(out, 32, "%llu%s", (unsigned long long)(files / (millions ? 1000000 : 1000)),
                   millions ? "m" : "k");
    return out;
}

static int size_mkdirs(struct size *x)
{
    char path[64];
    struct opendfs_stat st;
    int rc = 0;
    x->dirs = x->files / SIZE_DIRECTORY + 1;
    x->dir = mem_calloc(x->dirs, sizeof *x->dir);
    if (x->dir == NULL) {
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < x->dirs && rc == 0; i++) {
        (void)snprintf(path, sizeof path, "/size/%llu/%llu", (unsigned long long)(i / 100),
                       (unsigned long long)i);
        rc = opendfs_make_directories(x->fs, path, 0755);
        rc = rc < 0 ? rc : opendfs_stat(x->fs, path, &st);
        x->dir[i] = rc < 0 ? 0 : st.ino;
    }
    return rc;
}

/* Tenths; kills in the fifth, sixth and seventh, so that the first and the last are without. */
static void size_plan(struct size *x)
{
    for (unsigned i = 0; i < SIZE_WINDOWS; i++) {
        if (i >= 4 && i < 4 + SIZE_KILLS) {
            uint64_t part = x->files / SIZE_WINDOWS;
            x->mark[x->marks++] =
                (struct size_mark){.at = part * i + part / 2 + part / 10 * (i - 4), .kills = true};
        }
        x->mark[x->marks++] = (struct size_mark){.at = x->files * (i + 1) / SIZE_WINDOWS};
    }
    for (unsigned i = 1; i < x->marks; i++) {
        CHECK(x->mark[i - 1].at < x->mark[i].at);
    }
}

struct size_result {
    double first_rate, last_rate, first_cpu, last_cpu; /* per second; us for a create */
    double rss_mib, restart_seconds, stat_rate, disk_bytes;
    double began, cpu_seconds, longest; /* of the tenth under way */
    uint64_t files;                     /* at its beginning; in all at the end */
};

static int size_restart(struct size *x, const struct size_mark *m, struct size_result *r)
{
    struct server_time time = {0};
    server_until_gone(&x->server);
    int rc = server_start(&x->server, &time);
    r->restart_seconds = time.seconds > r->restart_seconds ? time.seconds : r->restart_seconds;
    fprintf(stderr, "  killed with %llu files, log %llu MiB: started in %.3f s, %.3f s of a core\n",
            (unsigned long long)m->at, (unsigned long long)m->size.log_bytes >> 20, time.seconds,
            time.cpu_seconds);
    printf("{\"bench\":\"size\",\"name\":\"restart\",\"files\":%llu,\"log_mib\":%llu,"
           "\"seconds\":%.3f,\"cpu_seconds\":%.3f}\n",
           (unsigned long long)m->at, (unsigned long long)m->size.log_bytes >> 20, time.seconds,
           time.cpu_seconds);
    return rc;
}

static void size_numbers(const struct size_mark *m)
{
    const struct server_size *s = &m->size;
    const struct server_work *w = &m->work;
    const struct {
        const char *name;
        uint64_t value;
    } table[] = {{"rss_mib", s->rss_bytes >> 20},
                 {"state_mib", s->state_bytes >> 20},
                 {"log_mib", s->log_bytes >> 20},
                 {"written_mib", w->written_bytes >> 20},
                 {"read_mib", w->read_bytes >> 20},
                 {"reads", w->reads},
                 {"checkpoints", w->checkpoints},
                 {"cache_mib", w->cache_bytes >> 20},
                 {"unsaved_mib", w->unsaved_bytes >> 20},
                 {"log_full", w->log_full},
                 {"busy", w->busy}};
    for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
        printf(",\"%s\":%llu", table[i].name, (unsigned long long)table[i].value);
        fprintf(stderr, ", %s %llu", table[i].name, (unsigned long long)table[i].value);
    }
    printf("}\n");
    fprintf(stderr, "\n");
}

static void size_window(const struct size_mark *m, struct size_result *r)
{
    uint64_t count = m->at - r->files;
    double rate = (double)count / (m->when - r->began), cpu = r->cpu_seconds / (double)count * 1e6;
    const struct server_size *s = &m->size;
    if (r->files == 0) {
        r->first_rate = rate;
        r->first_cpu = cpu;
    }
    r->last_rate = rate;
    r->last_cpu = cpu;
    r->disk_bytes = (double)(s->state_bytes + s->log_bytes) / (double)m->at;
    printf("{\"bench\":\"size\",\"name\":\"window\",\"files\":%llu,\"per_second\":%.0f,"
           "\"cpu_us\":%.2f,\"longest_ms\":%.1f",
           (unsigned long long)m->at, rate, cpu, r->longest * 1e3);
    fprintf(stderr, "  %10llu files %8.0f/s, server %6.2f us, longest %8.1f ms",
            (unsigned long long)m->at, rate, cpu, r->longest * 1e3);
    size_numbers(m);
    r->began = m->when;
    r->files = m->at;
    r->cpu_seconds = r->longest = 0;
}

static int size_load(struct size *x, struct size_result *r)
{
    struct size_kick kick = {.op.done = size_kicked, .x = x};
    int rc = 0;
    size_plan(x);
    x->end = x->files;
    x->cpu_base = machine_cluster_cpu(x->server.cluster, "meta.");
    r->began = machine_now();
    opendfs_async_statfs(x->fs, &kick.op);
    for (unsigned i = 0;; i++) {
        size_wait(x);
        if (x->rc < 0 || i == x->marks || x->end < x->mark[i].at) {
            break;
        }
        const struct size_mark *m = &x->mark[i];
        double peak = (double)m->size.rss_peak_bytes / (1 << 20);
        r->rss_mib = peak > r->rss_mib ? peak : r->rss_mib;
        r->cpu_seconds += m->cpu_seconds;
        r->longest = m->longest > r->longest ? m->longest : r->longest;
        if (m->kills) {
            rc = size_restart(x, m, r);
        } else {
            size_window(m, r);
        }
        if (rc < 0) {
            return rc; /* what is under way is left behind: the program ends */
        }
    }
    r->files = x->done;
    return x->rc;
}

/* --- What is there afterwards ----------------------------------------------------------------- */

static int size_stats(struct size *x, const struct size_result *r)
{
    struct size_kick kick = {.op.done = size_kicked, .x = x};
    struct opendfs_dir_stats s = {0};
    int rc = opendfs_dir_stats(x->fs, "/size", &s);
    if (rc == 0 && s.files != r->files) {
        fprintf(stderr, "bench size: the statistics say %llu files, and %llu were created\n",
                (unsigned long long)s.files, (unsigned long long)r->files);
        return -EIO;
    }
    x->files = r->files;
    x->next = x->done = 0;
    x->end = SIZE_LOOKS;
    x->looking = true;
    if (rc == 0) {
        opendfs_async_statfs(x->fs, &kick.op);
        size_wait(x);
        rc = x->rc;
    }
    return rc;
}

static int size_run(struct size *x, struct size_result *r)
{
    int rc = size_mkdirs(x);
    rc = rc < 0 ? rc : size_load(x, r);
    double began = machine_now();
    rc = rc < 0 ? rc : size_stats(x, r);
    r->stat_rate = SIZE_LOOKS / (machine_now() - began);
    return rc;
}

static void size_say(const struct size_result *r, const char *what, const char *unit, double value,
                     double target)
{
    char label[32], name[64];
    (void)snprintf(name, sizeof name, "meta.%s_%s", size_label(r->files, label), what);
    struct bench_figure f = {.bench = "size",
                             .name = name,
                             .unit = unit,
                             .target = target,
                             .at_most = strcmp(unit, "") != 0};
    bench_add(&f, value, 0);
    bench_print(&f);
}

static void size_print(const struct size_result *r)
{
    size_say(r, "flat", "", r->last_rate / r->first_rate, r->files < SIZE_SOAK ? 0.75 : 0.6);
    size_say(r, "cpu_flat", "", r->first_cpu / r->last_cpu, 0);
    size_say(r, "rss", "MiB", r->rss_mib, 450);
    size_say(r, "restart", "s", r->restart_seconds, 3);
    size_say(r, "stat", "1/s", r->stat_rate, 0);
    size_say(r, "disk", "bytes", r->disk_bytes, 0);
}

int bench_size(unsigned rounds)
{
    static struct size x;
    struct size_result r = {0};
    const char *files = getenv("BENCH_FILES"), *seconds = getenv("BENCH_SECONDS");
    (void)rounds; /* one is long enough */
    if (!server_init(&x.server, "size") || sem_init(&x.event, 0, 0) < 0) {
        return 1;
    }
    x.files = files == NULL ? SIZE_FILES : strtoull(files, NULL, 10);
    x.deadline = machine_now() + (seconds == NULL ? SIZE_SECONDS : strtod(seconds, NULL));
    if (x.files < SIZE_FILES_MIN) {
        fprintf(stderr, "bench size: BENCH_FILES is less than %u\n", SIZE_FILES_MIN);
        return 2;
    }
    rand_seed(&x.rand, 1);
    int rc = server_connect(&x.server, &x.fs);
    rc = rc < 0 ? rc : size_run(&x, &r);
    if (rc < 0) {
        fprintf(stderr, "bench size: %s: %s\n", opendfs_error_text(rc), opendfs_last_error());
        return 1;
    }
    opendfs_disconnect(x.fs);
    sem_destroy(&x.event);
    mem_free(x.dir);
    size_print(&r);
    return 0;
}
