/*
 * bench/first.c -- the main job on the cluster in the directory OPENDFS_CLUSTER (tools/bench.sh
 * makes one): a large file goes in, comes back, and the cluster rests.
 *
 * put.2copies  from open to the return of fsync: bytes lent, stable on both copies at the end.
 * get.warm     verified and thrown away; the nodes have all of it in their page cache.
 * get.node_cpu seconds of all processes of the data nodes, masters included, per GB of get.warm.
 * idle.cpu     of all processes of the cluster while nobody asks for anything.
 *
 * The same rounds measure what this machine does without us, see machine.c.
 */
#include "machine.h"

#include "opendfs/async.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PIECE_BYTES (UINT64_C(4) << 20)
#define PIECES (MACHINE_FILE_BYTES / PIECE_BYTES)
#define IN_FLIGHT 16u
#define IDLE_SECONDS 10
#define REST_SECONDS 8 /* what follows a write in the background ends */

struct transfer {
    struct opendfs *fs;
    struct opendfs_file *file;
    uint8_t *source; /* IN_FLIGHT pieces, all different */
    bool reads;
    uint64_t next, bytes;
    unsigned active;
    int64_t rc;
    sem_t over;
};
struct piece {
    struct opendfs_op op;
    struct transfer *t;
    unsigned slot;
    uint64_t offset, end; /* what is left of it: reading may come in parts */
};
struct first {
    const char *cluster;
    struct transfer t;
    struct piece piece[IN_FLIGHT];
    struct bench_figure put, get, get_cpu, idle, files, socket, socket_cpu;
};

/* --- Pieces, on the library's thread ---------------------------------------------------------- */

static void piece_done(struct opendfs_op *op);

/* False: there is nothing left to do. */
static bool piece_start(struct piece *p)
{
    struct transfer *t = p->t;
    if (p->offset == p->end) {
        if (t->next == PIECES || t->rc < 0) {
            return false;
        }
        p->offset = t->next++ * PIECE_BYTES;
        p->end = p->offset + PIECE_BYTES;
    }
    p->op = (struct opendfs_op){.done = piece_done};
    if (t->reads) {
        opendfs_async_pread_lent(t->fs, &p->op, t->file, p->end - p->offset, p->offset);
    } else {
        opendfs_async_pwrite_lent(t->fs, &p->op, t->file, t->source + p->slot * PIECE_BYTES,
                                  PIECE_BYTES, p->offset);
    }
    return true;
}
static void piece_done(struct opendfs_op *op)
{
    struct piece *p = container_of(op, struct piece, op);
    struct transfer *t = p->t;
    int64_t n = op->result;
    opendfs_async_release(t->fs, op);
    if (n <= 0) {
        t->rc = n < 0 ? n : -EIO;
        p->offset = p->end;
    } else {
        p->offset += (uint64_t)n;
        t->bytes += (uint64_t)n;
    }
    if (!piece_start(p) && --t->active == 0) {
        sem_post(&t->over);
    }
}

/* --- One file --------------------------------------------------------------------------------- */

static int transfer_run(struct first *x, const char *path, unsigned flags)
{
    struct transfer *t = &x->t;
    int rc = opendfs_open(t->fs, path, flags, 0644, &t->file);
    if (rc < 0) {
        return rc;
    }
    t->reads = (flags & OPENDFS_WRITE) == 0;
    t->next = t->bytes = 0;
    t->rc = 0;
    t->active = IN_FLIGHT;
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        x->piece[i] = (struct piece){.t = t, .slot = i};
    }
    /* All of the first ones are given their place before any can end and take the next one's. */
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        x->piece[i].offset = t->next++ * PIECE_BYTES;
        x->piece[i].end = x->piece[i].offset + PIECE_BYTES;
    }
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        (void)piece_start(&x->piece[i]);
    }
    while (sem_wait(&t->over) < 0) {
    }
    rc = (int)t->rc;
    if (rc == 0 && t->bytes != MACHINE_FILE_BYTES) {
        rc = -EIO;
    }
    if (rc == 0 && !t->reads) {
        rc = opendfs_fsync(t->file);
    }
    return rc;
}
static int transfer_close(struct first *x, int rc)
{
    int closed = x->t.file == NULL ? 0 : opendfs_close(x->t.file);
    x->t.file = NULL;
    return rc < 0 ? rc : closed;
}
static int first_put(struct first *x, bool counts)
{
    double cpu = machine_cluster_cpu(x->cluster, ""), began = machine_now();
    int rc = transfer_run(x, "/bench", OPENDFS_WRITE | OPENDFS_CREATE | OPENDFS_EXCLUSIVE);
    double seconds = machine_now() - began;
    cpu = machine_cluster_cpu(x->cluster, "") - cpu;
    if (rc == 0 && counts) {
        bench_add(&x->put, MACHINE_FILE_BYTES / 1e6 / seconds, cpu);
    }
    return transfer_close(x, rc);
}
static int first_get(struct first *x, bool counts)
{
    double masters = machine_cluster_cpu(x->cluster, "node.");
    double workers = machine_cluster_cpu(x->cluster, "target."), began = machine_now();
    int rc = transfer_run(x, "/bench", OPENDFS_READ);
    double seconds = machine_now() - began;
    masters = machine_cluster_cpu(x->cluster, "node.") - masters;
    workers = machine_cluster_cpu(x->cluster, "target.") - workers;
    if (rc == 0 && counts) {
        bench_add(&x->get, MACHINE_FILE_BYTES / 1e6 / seconds, masters + workers);
        bench_add(&x->get_cpu, (masters + workers) / (MACHINE_FILE_BYTES / 1e9), masters + workers);
    }
    return transfer_close(x, rc);
}
static int first_idle(struct first *x, unsigned rounds)
{
    (void)sleep(REST_SECONDS);
    for (unsigned i = 0; i < rounds; i++) {
        double cpu = machine_cluster_cpu(x->cluster, ""), began = machine_now();
        (void)sleep(IDLE_SECONDS);
        cpu = machine_cluster_cpu(x->cluster, "") - cpu;
        bench_add(&x->idle, 100 * cpu / (machine_now() - began), cpu);
    }
    return 0;
}

/* --- All -------------------------------------------------------------------------------------- */

/* Round 0 warms up and does not count. */
static int first_rounds(struct first *x, unsigned rounds)
{
    int rc = 0;
    for (unsigned i = 0; i <= rounds && rc == 0; i++) {
        double seconds = 0, cpu = 0;
        rc = first_put(x, i > 0);
        rc = rc == 0 ? first_get(x, i > 0) : rc;
        rc = rc == 0 ? opendfs_unlink(x->t.fs, "/bench") : rc;
        rc = rc == 0 ? machine_files(x->cluster, &seconds) : rc;
        if (rc == 0 && i > 0) {
            bench_add(&x->files, MACHINE_FILE_BYTES / 1e6 / seconds, 0);
        }
        rc = rc == 0 ? machine_socket(x->cluster, &seconds, &cpu) : rc;
        if (rc == 0 && i > 0) {
            bench_add(&x->socket, MACHINE_FILE_BYTES / 1e6 / seconds, cpu);
            bench_add(&x->socket_cpu, cpu / (MACHINE_FILE_BYTES / 1e9), cpu);
        }
    }
    return rc;
}
static int first_open(struct first *x)
{
    struct opendfs_options opt = {.api_version = OPENDFS_API_VERSION,
                                  .cluster = x->cluster,
                                  .uid = UINT32_MAX,
                                  .gid = UINT32_MAX};
    if (x->cluster == NULL) {
        fprintf(stderr, "bench: OPENDFS_CLUSTER names no cluster\n");
        return -ENOENT;
    }
    x->t.source = malloc(IN_FLIGHT * PIECE_BYTES);
    if (x->t.source == NULL || sem_init(&x->t.over, 0, 0) < 0) {
        return -ENOMEM;
    }
    uint64_t state = 88172645463325252u;
    for (size_t i = 0; i < IN_FLIGHT * PIECE_BYTES; i += sizeof state) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        memcpy(x->t.source + i, &state, sizeof state);
    }
    return opendfs_connect(&opt, &x->t.fs);
}
static void first_print(const struct first *x)
{
    bench_print(&x->put);
    bench_print(&x->get);
    bench_print(&x->get_cpu);
    bench_print(&x->idle);
    bench_print(&x->files);
    bench_print(&x->socket);
    bench_print(&x->socket_cpu);
}

int bench_first(unsigned rounds)
{
    static const struct first empty = {
        .put = {.bench = "first", .name = "put.2copies", .unit = "MB/s", .target = 350},
        .get = {.bench = "first", .name = "get.warm", .unit = "MB/s", .target = 1200},
        .get_cpu = {.bench = "first",
                    .name = "get.node_cpu",
                    .unit = "s/GB",
                    .target = 0.25,
                    .at_most = true},
        .idle = {.bench = "first", .name = "idle.cpu", .unit = "%", .target = 1, .at_most = true},
        .files = {.bench = "first", .name = "machine.files", .unit = "MB/s"},
        .socket = {.bench = "first", .name = "machine.socket", .unit = "MB/s"},
        .socket_cpu = {.bench = "first", .name = "machine.send_cpu", .unit = "s/GB"},
    };
    struct first x = empty;
    x.cluster = getenv("OPENDFS_CLUSTER");
    int rc = first_open(&x);
    rc = rc == 0 ? first_rounds(&x, rounds) : rc;
    if (x.t.fs != NULL) {
        opendfs_disconnect(x.t.fs);
    }
    rc = rc == 0 ? first_idle(&x, rounds) : rc;
    if (rc == 0) {
        first_print(&x);
    } else {
        fprintf(stderr, "bench first: %s\n", opendfs_error_text(rc));
    }
    free(x.t.source);
    return rc < 0 ? 1 : 0;
}
