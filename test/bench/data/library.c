/* bench/data/library.c -- put, read, overwrite: through the library, as programs do; see main.c. */
#include "data.h"

#include "base/rand.h"
#include "opendfs/async.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY_PIECE (UINT64_C(4) << 20)
#define LIBRARY_DEPTH 8u
#define LIBRARY_DEPTH_MAX 64u
#define OVERWRITE_BYTES 4096u

struct library;
struct library_slot {
    struct opendfs_op op;
    struct library *x;
    uint8_t *memory;
    double began;
};
struct library {
    struct opendfs *fs;
    struct opendfs_file *file;
    struct library_slot slot[LIBRARY_DEPTH_MAX];
    unsigned active;
    uint64_t bytes, next, piece, done_bytes, count;
    bool reads;
    double end;
    struct rand rand;
    struct data_meter meter;
    sem_t over;
};

/* By SIGTERM: nothing more is read. */
static atomic_bool library_stopped;

static void library_good(int64_t rc, const char *what)
{
    if (rc < 0) {
        const char *said = opendfs_last_error();
        data_die(what, said != NULL && said[0] != '\0' ? said : opendfs_error_text((int)rc));
    }
}

static struct opendfs *library_connect(const struct data_args *a)
{
    struct opendfs_options opt = {.api_version = OPENDFS_API_VERSION,
                                  .cluster = data_text(a, "cluster", NULL),
                                  .uid = UINT32_MAX,
                                  .gid = UINT32_MAX};
    struct opendfs *fs = NULL;
    library_good(opendfs_connect(&opt, &fs), "connect");
    return fs;
}

/* --- Many at a time, on the library's thread -------------------------------------------------- */

static void library_done(struct opendfs_op *op);

/* False: there is nothing left to do. */
static bool library_next(struct library_slot *s)
{
    struct library *x = s->x;
    s->op = (struct opendfs_op){.done = library_done};
    s->began = data_now();
    if (x->reads && s->began < x->end && !atomic_load(&library_stopped)) {
        uint64_t at = rand_below(&x->rand, x->bytes / x->piece) * x->piece;
        opendfs_async_pread(x->fs, &s->op, x->file, s->memory, x->piece, at);
        return true;
    }
    if (!x->reads && x->next < x->bytes) {
        uint64_t at = x->next, len = base_min(x->piece, x->bytes - at);
        x->next += len;
        opendfs_async_pwrite_lent(x->fs, &s->op, x->file, s->memory, len, at);
        return true;
    }
    return false;
}

static void library_done(struct opendfs_op *op)
{
    struct library_slot *s = container_of(op, struct library_slot, op);
    struct library *x = s->x;
    if (op->result <= 0) {
        data_die(x->reads ? "read" : "write", op->error);
    }
    x->done_bytes += (uint64_t)op->result;
    x->count++;
    data_meter_took(&x->meter, data_now() - s->began);
    if (!library_next(s) && --x->active == 0) {
        sem_post(&x->over);
    }
}

/* All of the first ones are started before the library's thread can end any of them. */
static void library_started(struct opendfs_op *op)
{
    struct library *x = container_of(op, struct library_slot, op)->x;
    unsigned depth = x->active;
    unsigned idle = 0;
    for (unsigned i = 0; i < depth; i++) {
        idle += library_next(&x->slot[i]) ? 0U : 1U;
    }
    x->active -= idle;
    if (x->active == 0) {
        sem_post(&x->over);
    }
}

static void library_run(struct library *x, unsigned depth)
{
    struct library_slot kick = {.op.done = library_started, .x = x};
    if (depth == 0 || depth > LIBRARY_DEPTH_MAX || sem_init(&x->over, 0, 0) < 0) {
        data_die("depth", "out of range");
    }
    for (unsigned i = 0; i < depth; i++) {
        x->slot[i].x = x;
        x->slot[i].memory = aligned_alloc(4096, LIBRARY_PIECE);
        if (x->slot[i].memory == NULL) {
            data_die("memory", strerror(errno));
        }
        data_fill(i, 0, x->slot[i].memory, LIBRARY_PIECE);
    }
    x->active = depth;
    opendfs_async_statfs(x->fs, &kick.op);
    while (sem_wait(&x->over) < 0) {
    }
    for (unsigned i = 0; i < depth; i++) {
        free(x->slot[i].memory);
    }
    sem_destroy(&x->over);
}

/* --- put -------------------------------------------------------------------------------------- */

void data_put(const struct data_args *a)
{
    static struct library x;
    const char *path = data_text(a, "path", NULL);
    x.fs = library_connect(a);
    x.bytes = data_number(a, "bytes", LIBRARY_PIECE);
    x.piece = LIBRARY_PIECE;
    data_meter_begin(&x.meter, data_text(a, "server", ""));
    library_good(
        opendfs_open(x.fs, path, OPENDFS_WRITE | OPENDFS_CREATE | OPENDFS_TRUNCATE, 0644, &x.file),
        path);
    library_run(&x, (unsigned)data_number(a, "depth", LIBRARY_DEPTH));
    library_good(opendfs_fsync(x.file), "fsync");
    data_meter_end(&x.meter, "put", x.count, x.done_bytes);
    library_good(opendfs_close(x.file), "close");
    opendfs_disconnect(x.fs);
}

/* --- read ------------------------------------------------------------------------------------- */

static void library_stop(int signo)
{
    (void)signo;
    atomic_store(&library_stopped, true);
}

void data_read(const struct data_args *a)
{
    static struct library x;
    const char *path = data_text(a, "path", NULL);
    uint64_t seconds = data_number(a, "seconds", 0);
    const struct sigaction stop = {.sa_handler = library_stop};
    x.fs = library_connect(a);
    x.reads = true;
    x.bytes = data_number(a, "bytes", LIBRARY_PIECE);
    x.piece = data_number(a, "piece", 65536);
    if (x.piece == 0 || x.piece > LIBRARY_PIECE || x.bytes < x.piece) {
        data_die("piece", "out of range");
    }
    rand_seed(&x.rand, (uint64_t)getpid());
    library_good(opendfs_open(x.fs, path, OPENDFS_READ, 0, &x.file), path);
    data_meter_begin(&x.meter, data_text(a, "server", ""));
    x.end = seconds == 0 ? 1e18 : data_now() + (double)seconds;
    if (sigaction(SIGTERM, &stop, NULL) < 0) {
        data_die("SIGTERM", strerror(errno));
    }
    library_run(&x, (unsigned)data_number(a, "depth", 4));
    data_meter_end(&x.meter, "read", x.count, x.done_bytes);
    library_good(opendfs_close(x.file), "close");
    opendfs_disconnect(x.fs);
}

/* --- overwrite -------------------------------------------------------------------------------- */

/* The same writer on either kind of file. */
struct overwrite {
    struct opendfs *fs;
    struct opendfs_file *file; /* NULL: `fd` */
    int fd;
};

static void overwrite_write(struct overwrite *o, const uint8_t *from, size_t len, uint64_t at)
{
    int64_t n = o->file != NULL ? opendfs_pwrite(o->file, from, len, at)
                                : pwrite(o->fd, from, len, (off_t)at);
    if (n != (int64_t)len) {
        data_die("overwrite", o->file != NULL ? opendfs_last_error() : strerror(errno));
    }
}

static void overwrite_sync(struct overwrite *o)
{
    if ((o->file != NULL ? opendfs_fsync(o->file) : fsync(o->fd)) < 0) {
        data_die("fsync", o->file != NULL ? opendfs_last_error() : strerror(errno));
    }
}

static void overwrite_open(struct overwrite *o, const struct data_args *a, uint64_t bytes)
{
    const char *way = data_text(a, "way", NULL), *path = data_text(a, "path", NULL);
    uint8_t *piece = malloc(LIBRARY_PIECE);
    if (piece == NULL) {
        data_die("memory", strerror(errno));
    }
    if (strcmp(way, "cluster") == 0) {
        o->fs = library_connect(a);
        library_good(opendfs_open(o->fs, path, OPENDFS_WRITE | OPENDFS_READ | OPENDFS_CREATE, 0644,
                                  &o->file),
                     path);
    } else {
        o->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (o->fd < 0) {
            data_die(path, strerror(errno));
        }
    }
    for (uint64_t at = 0; at < bytes; at += LIBRARY_PIECE) {
        data_fill(0, at, piece, LIBRARY_PIECE);
        overwrite_write(o, piece, (size_t)base_min(LIBRARY_PIECE, bytes - at), at);
    }
    overwrite_sync(o);
    free(piece);
}

struct overwrite_plan {
    uint64_t bytes, each, done;
    struct rand rand;
};

/* One batch, made stable at its end. */
static void overwrite_batch(struct overwrite *o, struct overwrite_plan *p)
{
    uint8_t cell[OVERWRITE_BYTES];
    for (uint64_t i = 0; i < p->each; i++) {
        data_fill(1 + p->done++, 0, cell, sizeof cell);
        overwrite_write(o, cell, sizeof cell,
                        rand_below(&p->rand, p->bytes / OVERWRITE_BYTES) * OVERWRITE_BYTES);
    }
    overwrite_sync(o);
}

void data_overwrite(const struct data_args *a)
{
    struct overwrite o = {.fd = -1};
    struct overwrite_plan p = {.bytes = data_number(a, "bytes", UINT64_C(256) << 20),
                               .each = data_number(a, "each", 32)};
    struct data_meter meter;
    uint64_t count = data_number(a, "count", 100000);
    if (p.bytes < OVERWRITE_BYTES || p.each == 0) {
        data_die("bytes or each", "out of range");
    }
    overwrite_open(&o, a, p.bytes);
    rand_seed(&p.rand, 1);
    overwrite_batch(&o, &p); /* a file just made may have something to wait for: seconds, MooseFS */
    p.done = 0;
    data_meter_begin(&meter, data_text(a, "server", ""));
    double end = data_now() + (double)data_number(a, "seconds", 60);
    while (p.done < count && data_now() < end) {
        double began = data_now();
        overwrite_batch(&o, &p);
        data_meter_took(&meter, data_now() - began);
    }
    data_meter_end(&meter, "overwrite", p.done, p.done * OVERWRITE_BYTES);
    if (o.file != NULL) {
        library_good(opendfs_close(o.file), "close");
        opendfs_disconnect(o.fs);
    } else if (close(o.fd) < 0) {
        data_die("close", strerror(errno));
    }
}
