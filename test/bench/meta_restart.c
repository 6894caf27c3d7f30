/*
 * bench/meta_restart.c -- the metadata server of the cluster in OPENDFS_CLUSTER is killed (SIGKILL)
 * in the middle of a load of creates and started again by OPENDFS (the program), round after round.
 *
 * meta.restart         seconds from the start of the process to the first answer that a client
 *                      gets, with BENCH_FILES files there (default 1,000,000)
 * meta.restart_worst   the longest of them
 *
 * How much log lies behind the newest checkpoint decides, so the rounds are unequal on purpose.
 * After each start, files that were acknowledged are looked up.
 */
#include "server.h"

#include "opendfs/async.h"

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#define RESTART_IN_FLIGHT 128u
#define RESTART_DIRS 100u
#define RESTART_FILES 1000000u
#define RESTART_MORE 37000u /* between two kills */
#define RESTART_LOOKS 200u
#define RESTART_NAME_BYTES 17u

struct restart;
struct restart_request {
    struct opendfs_op op;
    struct restart *x;
    uint64_t number;
    char name[RESTART_NAME_BYTES];
};
struct restart {
    struct server server;
    struct opendfs *fs;
    struct restart_request request[RESTART_IN_FLIGHT];
    uint64_t dir[RESTART_DIRS];
    uint64_t next, done, kill_at; /* files: begun, acknowledged in all, when the server dies */
    unsigned active;
    bool dead;
    int rc;
    sem_t over;
};

/* --- The load, on the library's thread -------------------------------------------------------- */

static void restart_done(struct opendfs_op *op);

static void restart_create(struct restart *x, struct restart_request *r)
{
    r->op = (struct opendfs_op){.done = restart_done};
    r->x = x;
    r->number = x->next++;
    (void)snprintf(r->name, sizeof r->name, "f%015llu", (unsigned long long)r->number);
    r->op.at = x->dir[r->number % RESTART_DIRS];
    opendfs_async_create(x->fs, &r->op, r->name, NULL, 0, NULL, 0);
}

/* What is under way when the server dies ends after it is back: it is waited for then. */
static void restart_done(struct opendfs_op *op)
{
    struct restart_request *r = container_of(op, struct restart_request, op);
    struct restart *x = r->x;
    if (op->result < 0 && x->rc == 0) {
        fprintf(stderr, "bench restart: %s\n", op->error);
        x->rc = (int)op->result;
    }
    x->done++;
    if (x->done == x->kill_at) {
        x->dead = true;
        server_kill(&x->server);
        sem_post(&x->over);
    }
    if (x->dead || x->rc < 0) {
        if (--x->active == 0) {
            sem_post(&x->over);
        }
        return;
    }
    restart_create(x, r);
}

struct restart_kick {
    struct opendfs_op op;
    struct restart *x;
};
static void restart_kicked(struct opendfs_op *op)
{
    struct restart *x = container_of(op, struct restart_kick, op)->x;
    x->dead = false;
    x->active = RESTART_IN_FLIGHT;
    for (unsigned i = 0; i < RESTART_IN_FLIGHT; i++) {
        restart_create(x, &x->request[i]);
    }
}
static void restart_wait(struct restart *x)
{
    while (sem_wait(&x->over) < 0) {
    }
}

/* --- A round ---------------------------------------------------------------------------------- */

static int restart_look(struct restart *x, uint64_t count)
{
    struct opendfs_stat st;
    char path[64];
    int rc = 0;
    for (uint64_t i = 0; i < RESTART_LOOKS && rc == 0; i++) {
        uint64_t n = i % 2 == 0 ? count - 1 - i : count / RESTART_LOOKS * i;
        (void)snprintf(path, sizeof path, "/restart/dir%u/f%015llu", (unsigned)(n % RESTART_DIRS),
                       (unsigned long long)n);
        rc = opendfs_stat(x->fs, path, &st);
    }
    return rc;
}

static int restart_round(struct restart *x, uint64_t files, struct server_time *ret)
{
    struct restart_kick kick = {.op.done = restart_kicked, .x = x};
    x->kill_at = files;
    opendfs_async_statfs(x->fs, &kick.op);
    restart_wait(x); /* it is dead */
    if (x->rc < 0) {
        return x->rc;
    }
    server_until_gone(&x->server);
    uint64_t sure = x->next - RESTART_IN_FLIGHT;
    int rc = server_start(&x->server, ret);
    restart_wait(x); /* what was under way has ended, too */
    rc = rc < 0 ? rc : x->rc;
    return rc < 0 ? rc : restart_look(x, sure);
}

static int restart_mkdirs(struct restart *x)
{
    char path[64];
    struct opendfs_stat st;
    int rc = 0;
    for (unsigned i = 0; i < RESTART_DIRS && rc == 0; i++) {
        (void)snprintf(path, sizeof path, "/restart/dir%u", i);
        rc = opendfs_make_directories(x->fs, path, 0755);
        rc = rc < 0 ? rc : opendfs_stat(x->fs, path, &st);
        x->dir[i] = rc < 0 ? 0 : st.ino;
    }
    return rc;
}

static int restart_rounds(struct restart *x, struct bench_figure *f, double *ret_worst,
                          unsigned rounds)
{
    const char *text = getenv("BENCH_FILES");
    uint64_t files = text == NULL ? RESTART_FILES : strtoull(text, NULL, 10);
    int rc = restart_mkdirs(x);
    for (unsigned i = 0; i < rounds && rc == 0; i++) {
        struct server_time time = {0};
        rc = restart_round(x, files + (uint64_t)i * RESTART_MORE, &time);
        if (rc == 0) {
            fprintf(stderr, "  %llu files: %.3f s, %.3f s of a core\n", (unsigned long long)x->done,
                    time.seconds, time.cpu_seconds);
            bench_add(f, time.seconds, time.cpu_seconds);
            *ret_worst = time.seconds > *ret_worst ? time.seconds : *ret_worst;
        }
    }
    return rc;
}

#define RESTART_FIGURE(name_)                                                            \
    {                                                                                    \
        .bench = "restart", .name = (name_), .unit = "s", .target = 3.0, .at_most = true \
    }

int bench_restart(unsigned rounds)
{
    static struct restart x;
    struct bench_figure f = RESTART_FIGURE("meta.restart");
    struct bench_figure worst = RESTART_FIGURE("meta.restart_worst");
    double longest = 0;
    if (!server_init(&x.server, "restart") || sem_init(&x.over, 0, 0) < 0) {
        return 1;
    }
    int rc = server_connect(&x.server, &x.fs);
    rc = rc < 0 ? rc : restart_rounds(&x, &f, &longest, rounds);
    opendfs_disconnect(x.fs);
    sem_destroy(&x.over);
    if (rc < 0) {
        fprintf(stderr, "bench restart: %s\n", opendfs_error_text(rc));
        return 1;
    }
    bench_add(&worst, longest, 0);
    bench_print(&f);
    bench_print(&worst);
    return 0;
}
