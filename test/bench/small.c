/*
 * bench/small.c -- files of one small chunk on the cluster in the directory OPENDFS_CLUSTER, stored
 * and removed. Run with an earlier build of the servers it measures those.
 *
 * small.store    created, written (26 KiB) and closed, per second
 * small.delete   removed, until no data node has anything of them, per second: from the first
 * unlink on, while they come, to the moment when the metadata server waits for nobody small.unlink
 * the part of it that clients wait for
 */
#include "machine.h"

#include "opendfs/async.h"

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SMALL_FILES 20000u
#define SMALL_BYTES 26624u
#define SMALL_IN_FLIGHT 64u
#define SMALL_LOOK_NS 5000000L

struct small;
enum small_step { SMALL_OPEN, SMALL_WRITE, SMALL_CLOSE, SMALL_UNLINK };
struct small_request {
    struct opendfs_op op;
    struct small *x;
    struct opendfs_file *file;
    enum small_step step;
    char name[48];
};
struct small {
    struct opendfs *fs;
    struct small_request request[SMALL_IN_FLIGHT];
    unsigned next, end, active, round;
    bool removes;
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
    (void)snprintf(r->name, sizeof r->name, "/small%u/dir%u/file%u", x->round, x->next % 100,
                   x->next);
    x->next++;
    r->op = (struct opendfs_op){.done = small_done};
    r->step = x->removes ? SMALL_UNLINK : SMALL_OPEN;
    if (x->removes) {
        opendfs_async_unlink(x->fs, &r->op, r->name);
    } else {
        opendfs_async_open(x->fs, &r->op, r->name, OPENDFS_WRITE | OPENDFS_CREATE, 0644);
    }
    return true;
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
    if (r->step == SMALL_WRITE) {
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

static int small_run(struct small *x, bool removes)
{
    struct small_kick kick = {.op.done = small_kicked, .x = x};
    x->removes = removes;
    x->next = 0;
    x->end = SMALL_FILES;
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

struct small_figures {
    struct bench_figure store, unlink, delete;
};

static int small_round(struct small *x, struct small_figures *f)
{
    char path[64];
    for (unsigned i = 0; i < 100; i++) {
        (void)snprintf(path, sizeof path, "/small%u/dir%u", x->round, i);
        int rc = opendfs_make_directories(x->fs, path, 0755);
        if (rc < 0) {
            return rc;
        }
    }
    double began = machine_now();
    int rc = small_run(x, false);
    if (rc < 0) {
        return rc;
    }
    bench_add(&f->store, SMALL_FILES / (machine_now() - began), 0);
    began = machine_now();
    rc = small_run(x, true);
    if (rc < 0) {
        return rc;
    }
    bench_add(&f->unlink, SMALL_FILES / (machine_now() - began), 0);
    int64_t left = small_left(x);
    for (; left > 0; left = small_left(x)) {
        const struct timespec pause = {.tv_nsec = SMALL_LOOK_NS};
        (void)nanosleep(&pause, NULL);
    }
    bench_add(&f->delete, SMALL_FILES / (machine_now() - began), 0);
    return (int)left;
}

#define SMALL_FIGURE(name_, target_)                                          \
    {                                                                         \
        .bench = "small", .name = (name_), .unit = "1/s", .target = (target_) \
    }

int bench_small(unsigned rounds)
{
    static struct small x;
    static struct small_figures f = {.store = SMALL_FIGURE("small.store", 0),
                                     .unlink = SMALL_FIGURE("small.unlink", 0),
                                     .delete = SMALL_FIGURE("small.delete", 2000)};
    const char *cluster = getenv("OPENDFS_CLUSTER");
    if (cluster == NULL || sem_init(&x.over, 0, 0) < 0) {
        fprintf(stderr, "bench small: OPENDFS_CLUSTER is not set; see tools/bench.sh\n");
        return 1;
    }
    memset(x.contents, 7, sizeof x.contents);
    struct opendfs_options opt = {.api_version = OPENDFS_API_VERSION,
                                  .cluster = cluster,
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
    bench_print(&f.unlink);
    bench_print(&f.delete);
    return 0;
}
