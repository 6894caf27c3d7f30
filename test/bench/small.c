/*
 * bench/small.c -- files of one small chunk on the cluster in the directory OPENDFS_CLUSTER,
 * stored, listed, read and removed; BENCH_FILES of them. Run with an earlier build of the servers
 * it measures those.
 *
 * small.store    created, written (26 KiB) and closed, per second
 * small.list     names with their attributes, directory by directory, per second
 * small.read     opened, read, compared and closed, per second
 * small.delete   removed, until no data node has anything of them, per second: from the first
 *                unlink on, while they come, to the moment when the metadata server waits for
 * nobody small.unlink   the part of it that clients wait for small.space    bytes that the data
 * directories have taken for them on their disks, of the first round, / bytes of all copies
 */
#include "machine.h"

#include "opendfs/usage.h"

#include <errno.h>
#include <ftw.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/stat.h>

#define SMALL_FILES 20000u
#define SMALL_DIRECTORIES 100u
#define SMALL_OPEN_MAX 16 /* directories at a time, where space is counted */
#define SMALL_BYTES 26624u
#define SMALL_IN_FLIGHT 64u
#define SMALL_LOOK_NS 5000000L

struct small;
enum small_work { SMALL_STORE, SMALL_READ, SMALL_REMOVE };
enum small_step { SMALL_OPEN, SMALL_DATA, SMALL_CLOSE, SMALL_UNLINK };
struct small_request {
    struct opendfs_op op;
    struct small *x;
    struct opendfs_file *file;
    enum small_step step;
    char name[48];
    uint8_t got[SMALL_BYTES];
};
struct small {
    struct opendfs *fs;
    const char *cluster;
    struct small_request request[SMALL_IN_FLIGHT];
    unsigned files, next, end, active, round;
    enum small_work work;
    int64_t rc;
    char text[OPENDFS_ERROR_SIZE]; /* of the first failure */
    uint8_t contents[SMALL_BYTES];
    sem_t over;
};

/* --- Many at a time, on the library's thread -------------------------------------------------- */

static void small_done(struct opendfs_op *op);

/* False: there is nothing left to do. */
static bool small_next(struct small *x, struct small_request *r)
{
    if (x->next == x->end || x->rc < 0) {
        return false;
    }
    (void)snprintf(r->name, sizeof r->name, "/small%u/dir%u/file%u", x->round,
                   x->next % SMALL_DIRECTORIES, x->next);
    x->next++;
    r->op = (struct opendfs_op){.done = small_done};
    r->step = x->work == SMALL_REMOVE ? SMALL_UNLINK : SMALL_OPEN;
    if (x->work == SMALL_REMOVE) {
        opendfs_async_unlink(x->fs, &r->op, r->name);
    } else {
        unsigned flags = x->work == SMALL_READ ? OPENDFS_READ : OPENDFS_WRITE | OPENDFS_CREATE;
        opendfs_async_open(x->fs, &r->op, r->name, flags, 0644);
    }
    return true;
}

/* What was read is what was written. */
static bool small_same(const struct small *x, const struct small_request *r)
{
    return x->work != SMALL_READ || r->step != SMALL_DATA ||
           (r->op.result == SMALL_BYTES && memcmp(r->got, x->contents, SMALL_BYTES) == 0);
}

/* The next step of the same file; false: it was the last. */
static bool small_go_on(struct small *x, struct small_request *r)
{
    r->file = r->step == SMALL_OPEN ? r->op.file : r->file;
    if (r->step == SMALL_CLOSE || r->step == SMALL_UNLINK) {
        return false;
    }
    r->step++;
    r->op = (struct opendfs_op){.done = small_done};
    if (r->step == SMALL_DATA && x->work == SMALL_READ) {
        opendfs_async_pread(x->fs, &r->op, r->file, r->got, SMALL_BYTES, 0);
    } else if (r->step == SMALL_DATA) {
        opendfs_async_pwrite(x->fs, &r->op, r->file, x->contents, SMALL_BYTES, 0);
    } else {
        opendfs_async_close(x->fs, &r->op, r->file, NULL, 0);
    }
    return true;
}

static void small_done(struct opendfs_op *op)
{
    struct small_request *r = container_of(op, struct small_request, op);
    struct small *x = r->x;
    if (op->result < 0 && x->rc == 0) {
        x->rc = op->result;
        memcpy(x->text, op->error, sizeof x->text);
    } else if (!small_same(x, r) && x->rc == 0) {
        x->rc = -EIO;
        (void)snprintf(x->text, sizeof x->text, "%s has other bytes", r->name);
    }
    bool goes_on = op->result >= 0 && small_go_on(x, r);
    if (!goes_on && !small_next(x, r) && --x->active == 0) {
        sem_post(&x->over);
    }
}

/* The library's thread does all the rest. */
struct small_kick {
    struct opendfs_op op;
    struct small *x;
};
static void small_kicked(struct opendfs_op *op)
{
    struct small *x = container_of(op, struct small_kick, op)->x;
    x->active = SMALL_IN_FLIGHT;
    for (unsigned i = 0; i < SMALL_IN_FLIGHT; i++) {
        x->request[i].x = x;
        (void)small_next(x, &x->request[i]);
    }
}

static int small_run(struct small *x, enum small_work work)
{
    struct small_kick kick = {.op.done = small_kicked, .x = x};
    x->work = work;
    x->next = 0;
    x->end = x->files;
    x->rc = 0;
    opendfs_async_statfs(x->fs, &kick.op);
    while (sem_wait(&x->over) < 0) {
    }
    if (x->rc < 0) {
        fprintf(stderr, "bench small: %s\n", x->text);
    }
    return (int)x->rc;
}

/* --- Figures ---------------------------------------------------------------------------------- */

struct small_look {
    struct opendfs_op op;
    sem_t over;
};
static void small_looked(struct opendfs_op *op)
{
    sem_post(&container_of(op, struct small_look, op)->over);
}

/* Removed files that some data node still has; a negative errno. */
static int64_t small_left(struct small *x)
{
    struct small_look look = {.op.done = small_looked};
    if (sem_init(&look.over, 0, 0) < 0) {
        return -1;
    }
    opendfs_async_status_json(x->fs, &look.op);
    while (sem_wait(&look.over) < 0) {
    }
    const char *at = look.op.result < 0 ? NULL : strstr(look.op.data, "\"garbage\":");
    int64_t left = at == NULL ? -1 : strtoll(at + strlen("\"garbage\":"), NULL, 10);
    opendfs_async_release(x->fs, &look.op);
    sem_destroy(&look.over);
    return left;
}

/* All names of this round, with their attributes. */
static int small_list(struct small *x)
{
    char path[64];
    unsigned seen = 0;
    int rc = 0;
    for (unsigned i = 0; i < SMALL_DIRECTORIES && rc == 0; i++) {
        struct opendfs_dir *dir = NULL;
        struct opendfs_entry entry;
        (void)snprintf(path, sizeof path, "/small%u/dir%u", x->round, i);
        rc = opendfs_opendir(x->fs, path, &dir);
        while (rc == 0 && (rc = opendfs_readdir(dir, &entry)) > 0) {
            seen += entry.stat.size_bytes == SMALL_BYTES ? 1U : 0U;
            rc = 0;
        }
        if (dir != NULL) {
            opendfs_closedir(dir);
        }
    }
    if (rc == 0 && seen != x->files) {
        fprintf(stderr, "bench small: %u files are listed, and %u were made\n", seen, x->files);
        rc = -EIO;
    }
    return rc;
}

/* --- Space ------------------------------------------------------------------------------------ */

static uint64_t small_blocks; /* of the walk under way */

static int small_visit(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)path;
    (void)where;
    small_blocks += kind == FTW_F ? (uint64_t)st->st_blocks * 512 : 0;
    return 0;
}

/* Bytes that all data directories take on their disks; 0: none is found here. */
static uint64_t small_taken(const struct small *x)
{
    char path[4096];
    struct stat st;
    sync(); /* what is written later has its blocks now */
    small_blocks = 0;
    for (unsigned i = 0;; i++) {
        (void)snprintf(path, sizeof path, "%s/target.%u", x->cluster, i);
        if (stat(path, &st) < 0 || nftw(path, small_visit, SMALL_OPEN_MAX, FTW_PHYS) < 0) {
            return small_blocks;
        }
    }
}

static unsigned small_copies(const struct small *x)
{
    struct opendfs_class *class = NULL;
    int count = opendfs_classes(x->fs, &class);
    unsigned copies = 1;
    for (int i = 0; i < count; i++) {
        copies = class[i].is_default ? class[i].copies : copies;
    }
    opendfs_free(class);
    return copies;
}

/* --- Rounds ----------------------------------------------------------------------------------- */

struct small_figures {
    struct bench_figure store, list, read, unlink, delete, space;
};

static int small_make(struct small *x)
{
    char path[64];
    int rc = 0;
    for (unsigned i = 0; i < SMALL_DIRECTORIES && rc == 0; i++) {
        (void)snprintf(path, sizeof path, "/small%u/dir%u", x->round, i);
        rc = opendfs_make_directories(x->fs, path, 0755);
    }
    return rc;
}

static int small_store(struct small *x, struct small_figures *f)
{
    uint64_t before = x->round == 0 ? small_taken(x) : 0;
    double began = machine_now();
    int rc = small_run(x, SMALL_STORE);
    double seconds = machine_now() - began;
    if (rc < 0) {
        return rc;
    }
    bench_add(&f->store, x->files / seconds, 0);
    if (x->round == 0) {
        double raw = (double)x->files * SMALL_BYTES * small_copies(x);
        bench_add(&f->space, (double)(small_taken(x) - before) / raw, 0);
    }
    return 0;
}

static int small_delete(struct small *x, struct small_figures *f)
{
    double began = machine_now();
    int rc = small_run(x, SMALL_REMOVE);
    if (rc < 0) {
        return rc;
    }
    bench_add(&f->unlink, x->files / (machine_now() - began), 0);
    int64_t left = small_left(x);
    for (; left > 0; left = small_left(x)) {
        const struct timespec pause = {.tv_nsec = SMALL_LOOK_NS};
        (void)nanosleep(&pause, NULL);
    }
    bench_add(&f->delete, x->files / (machine_now() - began), 0);
    return (int)left;
}

static int small_round(struct small *x, struct small_figures *f)
{
    int rc = small_make(x);
    rc = rc < 0 ? rc : small_store(x, f);
    double began = machine_now();
    rc = rc < 0 ? rc : small_list(x);
    if (rc < 0) {
        return rc;
    }
    bench_add(&f->list, x->files / (machine_now() - began), 0);
    began = machine_now();
    rc = small_run(x, SMALL_READ);
    if (rc < 0) {
        return rc;
    }
    bench_add(&f->read, x->files / (machine_now() - began), 0);
    return small_delete(x, f);
}

#define SMALL_FIGURE(name_, target_)                                          \
    {                                                                         \
        .bench = "small", .name = (name_), .unit = "1/s", .target = (target_) \
    }

int bench_small(unsigned rounds)
{
    static struct small x;
    static struct small_figures f = {
        .store = SMALL_FIGURE("small.store", 0),
        .list = SMALL_FIGURE("small.list", 0),
        .read = SMALL_FIGURE("small.read", 0),
        .unlink = SMALL_FIGURE("small.unlink", 0),
        .delete = SMALL_FIGURE("small.delete", 2000),
        .space = {
            .bench = "small", .name = "small.space", .unit = "", .target = 1.1, .at_most = 1}};
    const char *files = getenv("BENCH_FILES");
    x.cluster = getenv("OPENDFS_CLUSTER");
    x.files = files == NULL ? SMALL_FILES : (unsigned)strtoul(files, NULL, 10);
    if (x.cluster == NULL || x.files == 0 || sem_init(&x.over, 0, 0) < 0) {
        fprintf(stderr, "bench small: OPENDFS_CLUSTER is not set, or BENCH_FILES is no number; see "
                        "tools/bench.sh\n");
        return 1;
    }
    memset(x.contents, 7, sizeof x.contents);
    struct opendfs_options opt = {.api_version = OPENDFS_API_VERSION,
                                  .cluster = x.cluster,
                                  .uid = UINT32_MAX,
                                  .gid = UINT32_MAX};
    int rc = opendfs_connect(&opt, &x.fs);
    for (x.round = 0; x.round < rounds && rc == 0; x.round++) {
        rc = small_round(&x, &f);
    }
    opendfs_disconnect(x.fs);
    sem_destroy(&x.over);
    if (rc < 0) {
        fprintf(stderr, "bench small: %s\n", opendfs_error_text(rc));
        return 1;
    }
    bench_print(&f.store);
    bench_print(&f.list);
    bench_print(&f.read);
    bench_print(&f.unlink);
    bench_print(&f.delete);
    bench_print(&f.space);
    return 0;
}
