/*
 * disk/ring_test.c -- what only io_uring does: being refused, being full, taking a part, doing a
 * part, moving to another thread. That it does what the threads do is in disk_test.c, pool_test.c
 * and full_test.c.
 */
#include "disk/disk.h"

#include "base/env.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/stats.h"
#include "disk/known_priv.h"
#include "loop/executor.h"
#include "loop/loop.h"
#include "testing/testing.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#define ROUNDS_MAX 100000
#define UNIT INT64_C(4096)
#define UNITS 16
#define THREADS 3u

struct bench {
    struct env env;
    struct disk *disk;
    char path[512];
    struct disk_file *file, *direct; /* of the same; direct: NULL where there is no such thing */
    uint8_t *bytes, *back;           /* UNITS each */
};

struct waiting {
    struct disk_req req;
    bool done;
    int64_t rc;
};

static void waiting_done(struct disk_req *req, int64_t rc)
{
    struct waiting *w = container_of(req, struct waiting, req);
    CHECK(!w->done);
    w->done = true;
    w->rc = rc;
}

static void start(struct bench *b, struct waiting *w, const struct disk_req *req)
{
    *w = (struct waiting){.req = *req};
    w->req.done = waiting_done;
    disk_submit(b->disk, &w->req);
    CHECK_TRUE(!w->done);
}

static int64_t finish(struct bench *b, struct waiting *w)
{
    for (int i = 0; i < ROUNDS_MAX && !w->done; i++) {
        loop_run_once(b->env.loop, 100000000);
    }
    CHECK_TRUE(w->done);
    return w->rc;
}

static int64_t run(struct bench *b, const struct disk_req *req)
{
    struct waiting w;
    start(b, &w, req);
    return finish(b, &w);
}

static void bench_fini(struct bench *b)
{
    struct disk_file *files[] = {b->file, b->direct};
    for (size_t i = 0; i < ARRAY_COUNT(files); i++) {
        if (files[i] != NULL) {
            CHECK(b->disk != NULL);
            CHECK_EQ(run(b, &(struct disk_req){.op = DISK_CLOSE, .file = files[i]}), 0);
        }
    }
    disk_free(b->disk);
    stats_free(b->env.stats);
    fault_free(b->env.fault);
    loop_free(b->env.loop);
    mem_free(b->bytes);
    mem_free(b->back);
}

/* Without io_uring yet. */
static void bench_init(struct bench *b)
{
    *b = (struct bench){.disk = NULL};
    CHECK_OK(loop_new(&(struct loop_options){.name = "test"}, &b->env.loop, NULL));
    b->env.fault = fault_new();
    b->env.stats = stats_new(NULL, "test");
    CHECK_OK(disk_pool_new(&b->env, &(struct disk_pool_options){.max_threads = THREADS}, &b->disk));
    snprintf(b->path, sizeof b->path, "%s/f", testing_directory());
    b->bytes = mem_aligned(UNIT, UNITS * UNIT);
    b->back = mem_aligned(UNIT, UNITS * UNIT);
    CHECK_TRUE(b->bytes != NULL && b->back != NULL);
    for (size_t i = 0; i < UNITS * UNIT; i++) {
        b->bytes[i] = (uint8_t)(i / UNIT * 31 + i);
    }
    struct disk_req req = {
        .op = DISK_OPEN, .path = b->path, .flags = DISK_READ_WRITE | DISK_CREATE};
    CHECK_EQ(disk_now(b->disk, &req), 0);
    b->file = req.file;
    req.flags = DISK_READ_WRITE | DISK_DIRECT;
    b->direct = disk_now(b->disk, &req) == 0 ? req.file : NULL;
}

static void with_uring(struct bench *b)
{
    bench_init(b);
    if (disk_pool_use_uring(b->disk) < 0) {
        bench_fini(b);
        testing_skip("this kernel has no io_uring for us");
    }
}

struct finder {
    struct stats_visitor base;
    const char *path;
    int64_t value;
};

static void finder_visit(struct stats_visitor *v, const struct stats_value *value)
{
    struct finder *f = container_of(v, struct finder, base);
    if (strcmp(value->path, f->path) == 0) {
        f->value = value->value;
    }
}

static int64_t counter(struct bench *b, const char *path)
{
    struct finder f = {.base = {.visit = finder_visit}, .path = path, .value = -1};
    stats_walk(b->env.stats, &f.base);
    CHECK_TRUE(f.value >= 0);
    return f.value;
}

static int64_t in_ring(struct bench *b)
{
    return counter(b, "test/disk/uring");
}

/* What a thread had to finish. */
static int64_t again(struct bench *b)
{
    return counter(b, "test/disk/uring_again");
}

static struct disk_req write_all(struct bench *b, struct disk_file *f, uint32_t flags)
{
    return (struct disk_req){
        .op = DISK_WRITE, .flags = flags, .file = f, .buf = b->bytes, .len = UNITS * UNIT};
}

static void reads_back(struct bench *b, struct disk_file *f)
{
    const int64_t len = (int64_t)UNITS * UNIT;
    memset(b->back, 0, (size_t)len);
    struct disk_req req = {.op = DISK_READ, .file = f, .buf = b->back, .len = (uint64_t)len};
    CHECK_EQ(run(b, &req), len);
    CHECK_BYTES(b->back, b->bytes, (size_t)len);
}

TEST(where_it_is_refused_threads_serve)
{
    struct bench b;
    bench_init(&b);
    fault_arm(b.env.fault, "disk.uring_setup", 1, 1);
    CHECK_RC(disk_pool_use_uring(b.disk), EPERM);
    struct disk_req req = write_all(&b, b.file, DISK_STABLE);
    CHECK_EQ(run(&b, &req), UNITS * UNIT);
    reads_back(&b, b.file);
    CHECK_EQ(in_ring(&b), 0);
    if (disk_pool_use_uring(b.disk) == 0) {
        CHECK_OK(disk_pool_use_uring(b.disk)); /* once is enough */
        CHECK_EQ(run(&b, &req), UNITS * UNIT);
        CHECK_EQ(in_ring(&b), 1);
    }
    bench_fini(&b);
}

/* One entry per call: also between a write and its sync, which then are no pair. */
TEST(what_is_taken_in_parts_is_whole)
{
    enum { COUNT = 40 };
    struct bench b;
    struct waiting w[COUNT];
    with_uring(&b);
    fault_arm(b.env.fault, "disk.uring_part", 1, 0);
    for (size_t i = 0; i < COUNT; i++) {
        struct disk_req req = write_all(&b, b.file, i % 3 == 0 ? DISK_STABLE : 0);
        req.offset = i * UNITS * UNIT;
        if (i % 5 == 4) {
            req = (struct disk_req){.op = DISK_SYNC, .file = b.file};
        }
        start(&b, &w[i], &req);
    }
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_EQ(finish(&b, &w[i]), i % 5 == 4 ? 0 : UNITS * UNIT);
    }
    CHECK_EQ(in_ring(&b), COUNT);
    CHECK_TRUE(again(&b) > 0); /* writes without their sync */
    reads_back(&b, b.file);
    bench_fini(&b);
}

static void in_halves(struct bench *b, struct disk_file *f)
{
    for (unsigned i = 0; i < 2; i++) {
        struct disk_req req = write_all(b, f, i == 0 ? 0 : DISK_STABLE);
        CHECK_EQ(run(b, &(struct disk_req){.op = DISK_TRUNCATE, .file = b->file}), 0);
        CHECK_EQ(run(b, &req), UNITS * UNIT);
        CHECK_EQ(run(b, &(struct disk_req){.op = DISK_SYNC, .file = f}), 0);
        CHECK_EQ(run(b, &(struct disk_req){.op = DISK_DROP, .file = b->file}), 0);
        reads_back(b, f);
    }
}

/* The kernel does half of each transfer: the rest is done too, and ends are still ends. */
TEST(what_is_done_in_parts_is_whole)
{
    struct bench b;
    with_uring(&b);
    fault_arm(b.env.fault, "disk.uring_short", 1, 0);
    in_halves(&b, b.file);
    if (b.direct != NULL) {
        in_halves(&b, b.direct);
        struct disk_req req = {.op = DISK_TRUNCATE, .file = b.file, .len = 2 * UNIT + 5};
        CHECK_EQ(run(&b, &req), 0);
        req = (struct disk_req){
            .op = DISK_READ, .file = b.direct, .buf = b.back, .len = UNITS * UNIT};
        CHECK_EQ(run(&b, &req), 2 * UNIT + 5);
        req.offset = 4 * UNIT;
        CHECK_EQ(run(&b, &req), 0);
    }
    CHECK_TRUE(fault_passed(b.env.fault, "disk.uring_short") > 4);
    CHECK_EQ(again(&b), b.direct != NULL ? 4 : 2); /* the writes; reads go on in the ring */
    bench_fini(&b);
}

/* More than the ring has room for at once. */
TEST(more_than_there_is_room_for)
{
    enum { COUNT = 3000 };
    struct bench b;
    with_uring(&b);
    CLEANUP(mem_freep) struct waiting *w = mem_calloc(COUNT, sizeof *w);
    CHECK_TRUE(w != NULL);
    struct disk_req req = write_all(&b, b.file, 0);
    CHECK_EQ(run(&b, &req), UNITS * UNIT);
    int64_t before = in_ring(&b);
    for (size_t i = 0; i < COUNT; i++) {
        req = (struct disk_req){.op = DISK_WRITE,
                                .file = b.file,
                                .offset = i % UNITS * UNIT,
                                .buf = b.bytes + i % UNITS * UNIT,
                                .len = UNIT};
        start(&b, &w[i], &req);
    }
    CHECK_EQ(disk_in_flight(b.disk), COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_EQ(finish(&b, &w[i]), UNIT);
    }
    CHECK_EQ(disk_in_flight(b.disk), 0);
    CHECK_EQ(in_ring(&b), before + COUNT);
    reads_back(&b, b.file);
    bench_fini(&b);
}

/* Requests of a callback, and freeing in the last one. */
struct chain {
    struct disk_req req;
    struct bench *bench;
    unsigned left;
};

static void chain_done(struct disk_req *req, int64_t rc)
{
    struct chain *c = container_of(req, struct chain, req);
    CHECK(rc == 0);
    if (--c->left > 0) {
        disk_submit(c->bench->disk, &c->req);
        return;
    }
    struct disk_req now = {.op = DISK_CLOSE, .file = c->bench->file};
    CHECK(disk_now(c->bench->disk, &now) == 0);
    c->bench->file = NULL;
    now.file = c->bench->direct;
    CHECK(now.file == NULL || disk_now(c->bench->disk, &now) == 0);
    c->bench->direct = NULL;
    c->bench->disk = disk_free(c->bench->disk);
}

TEST(callbacks_submit_and_free)
{
    struct bench b;
    with_uring(&b);
    struct chain c = {.bench = &b, .left = 50};
    c.req = (struct disk_req){.op = DISK_SYNC, .file = b.file, .done = chain_done};
    disk_submit(b.disk, &c.req);
    for (int i = 0; i < ROUNDS_MAX && c.left > 0; i++) {
        loop_run_once(b.env.loop, 100000000);
    }
    CHECK_EQ(c.left, 0);
    CHECK_TRUE(b.disk == NULL);
    bench_fini(&b);
}

/* Nothing but completions wakes the loop. */
struct sleeper {
    struct disk_req req;
    struct loop_timer patience;
    struct bench *bench;
    unsigned left;
    bool refused;
};

static void sleeper_done(struct disk_req *req, int64_t rc)
{
    struct sleeper *s = container_of(req, struct sleeper, req);
    CHECK(rc == (req->op == DISK_SYNC ? 0 : UNITS * UNIT));
    if (--s->left == 0) {
        loop_stop(s->bench->env.loop, 1);
        return;
    }
    if (s->left % 8 == 0) {
        *req = (struct disk_req){.op = DISK_SYNC, .file = s->bench->file};
    } else {
        *req = write_all(s->bench, s->bench->file, s->left % 8 == 1 ? DISK_STABLE : 0);
        req->op = s->left % 2 == 0 ? DISK_READ : DISK_WRITE;
        req->file = s->bench->direct != NULL ? s->bench->direct : s->bench->file;
    }
    if (s->refused && s->left % 16 == 3) {
        fault_arm(s->bench->env.fault, "disk.uring_again", 1, 1 + s->left % 3);
    }
    req->done = sleeper_done;
    disk_submit(s->bench->disk, req);
}

static void sleeper_lost(struct loop_timer *t)
{
    loop_stop(container_of(t, struct sleeper, patience)->bench->env.loop, 2);
}

static void check_wakes(uint32_t polling_us, bool refused)
{
    struct bench b;
    with_uring(&b);
    loop_set_polling(b.env.loop, polling_us);
    struct sleeper s = {
        .bench = &b, .left = 300, .refused = refused, .patience.fire = sleeper_lost};
    s.req = write_all(&b, b.file, 0);
    s.req.done = sleeper_done;
    disk_submit(b.disk, &s.req);
    loop_timer_in(b.env.loop, &s.patience, UINT64_C(60000000000));
    CHECK_EQ(loop_run(b.env.loop), 1);
    loop_timer_cancel(b.env.loop, &s.patience);
    reads_back(&b, b.file);
    bench_fini(&b);
}

TEST(completions_wake_the_loop)
{
    check_wakes(0, false);
}

TEST(completions_come_while_the_loop_looks)
{
    check_wakes(LOOP_POLL_US, false);
}

/* It says EAGAIN now and then: what waits is given again, without anybody who asks. */
TEST(what_is_not_taken_is_given_again)
{
    check_wakes(0, true);
}

/* ---- What the kernel knows beforehand ---- */

static int64_t known_files(struct bench *b)
{
    return counter(b, "test/disk/uring_files");
}

static int64_t known_memory(struct bench *b)
{
    return counter(b, "test/disk/uring_memory");
}

static struct disk_file *another(struct bench *b, unsigned number)
{
    char path[600];
    snprintf(path, sizeof path, "%s.%u", b->path, number);
    struct disk_req req = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE | DISK_CREATE};
    CHECK_EQ(disk_now(b->disk, &req), 0);
    return req.file;
}

static int64_t closed(struct bench *b, struct disk_file *f)
{
    return run(b, &(struct disk_req){.op = DISK_CLOSE, .file = f});
}

/* `count` writes; the file ends up holding its number. */
static void use_often(struct bench *b, struct disk_file *f, uint32_t number, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct disk_req req = {.op = DISK_WRITE,
                               .flags = i == count - 1 ? DISK_STABLE : 0,
                               .file = f,
                               .buf = &number,
                               .len = sizeof number};
        CHECK_EQ(run(b, &req), sizeof number);
    }
}

static uint32_t number_in(struct bench *b, unsigned number)
{
    struct disk_file *f = another(b, number);
    uint32_t found = 0;
    struct disk_req req = {.op = DISK_READ, .file = f, .buf = &found, .len = sizeof found};
    CHECK_EQ(disk_now(b->disk, &req), sizeof found);
    req = (struct disk_req){.op = DISK_CLOSE, .file = f};
    CHECK_EQ(disk_now(b->disk, &req), 0);
    return found;
}

TEST(a_file_that_is_used_often_becomes_known)
{
    struct bench b;
    with_uring(&b);
    use_often(&b, b.file, 7, DISK_KNOWN_USES - 1);
    CHECK_EQ(known_files(&b), 0);
    use_often(&b, b.file, 7, 10);
    CHECK_EQ(known_files(&b), 10);
    bench_fini(&b);
}

/* Numbers of files are used again: what goes to one file does not go to another one. */
TEST(known_files_are_told_apart)
{
    enum { ROUNDS = 3, FILES = 6 };
    struct bench b;
    with_uring(&b);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct disk_file *f[FILES];
        for (unsigned i = 0; i < FILES; i++) {
            f[i] = another(&b, i);
            use_often(&b, f[i], round * 100 + i, DISK_KNOWN_USES + 2);
        }
        for (unsigned i = 0; i < FILES; i++) {
            unsigned k = (i + round) % FILES; /* freed in another order each time */
            CHECK_EQ(closed(&b, f[k]), 0);
            CHECK_EQ(number_in(&b, k), round * 100 + k);
        }
    }
    CHECK_EQ(known_files(&b), ROUNDS * FILES * 3);
    CHECK_EQ(again(&b), 0);
    bench_fini(&b);
}

TEST(more_files_than_can_be_known)
{
    enum { FILES = DISK_KNOWN_FILES + 4 };
    struct bench b;
    static struct disk_file *f[FILES];
    with_uring(&b);
    for (unsigned i = 0; i < FILES; i++) {
        f[i] = another(&b, i);
        use_often(&b, f[i], i, DISK_KNOWN_USES);
    }
    CHECK_EQ(known_files(&b), DISK_KNOWN_FILES);
    CHECK_EQ(closed(&b, f[3]), 0);
    use_often(&b, f[FILES - 1], FILES - 1, DISK_KNOWN_USES); /* there is room now */
    CHECK_EQ(known_files(&b), DISK_KNOWN_FILES + 1);
    for (unsigned i = 0; i < FILES; i++) {
        if (i != 3) {
            CHECK_EQ(closed(&b, f[i]), 0);
        }
        CHECK_EQ(number_in(&b, i), i);
    }
    bench_fini(&b);
}

/* A lock ends when its file is closed, not some time later. */
TEST(a_locked_file_is_not_known)
{
    struct bench b;
    with_uring(&b);
    for (unsigned i = 0; i < 20; i++) {
        struct disk_file *f = another(&b, 1), *other = another(&b, 1);
        const struct disk_req lock = {.op = DISK_LOCK, .file = f};
        const struct disk_req lock_other = {.op = DISK_LOCK, .file = other};
        int64_t before = known_files(&b);
        if (i % 2 == 0) {
            use_often(&b, f, 1, DISK_KNOWN_USES);
            CHECK_EQ(known_files(&b), before + 1);
        }
        CHECK_EQ(run(&b, &lock), 0);
        use_often(&b, f, 1, DISK_KNOWN_USES + 1);
        CHECK_EQ(known_files(&b), before + (i % 2 == 0 ? 1 : 0));
        CHECK_EQ(run(&b, &lock_other), -ERR_in_use);
        CHECK_EQ(closed(&b, f), 0);
        CHECK_EQ(run(&b, &lock_other), 0);
        CHECK_EQ(closed(&b, other), 0);
    }
    bench_fini(&b);
}

/* Direct transfers only, and where all of it lies in what was lent. */
TEST(memory_that_is_lent_is_known)
{
    struct bench b;
    with_uring(&b);
    const size_t len = (size_t)UNITS * UNIT;
    if (b.direct == NULL) {
        bench_fini(&b);
        testing_skip("no direct I/O here");
    }
    int rc = disk_lend(b.disk, b.bytes, len);
    if (rc == 0) {
        rc = disk_lend(b.disk, b.back, len / 2);
    }
    if (rc < 0) {
        bench_fini(&b);
        testing_skip("no memory may be locked here");
    }
    struct disk_req req = write_all(&b, b.direct, DISK_STABLE);
    CHECK_EQ(run(&b, &req), (int64_t)len);
    CHECK_EQ(known_memory(&b), 1);
    reads_back(&b, b.direct); /* into more than was lent */
    CHECK_EQ(known_memory(&b), 1);
    memset(b.back, 0, len);
    req = (struct disk_req){.op = DISK_READ, .file = b.direct, .buf = b.back, .len = len / 2};
    CHECK_EQ(run(&b, &req), (int64_t)len / 2);
    CHECK_EQ(known_memory(&b), 2);
    CHECK_BYTES(b.back, b.bytes, len / 2);
    req.offset = (uint64_t)UNIT;
    req.buf = b.back + UNIT;
    req.len = len / 2 - (size_t)UNIT;
    fault_arm(b.env.fault, "disk.uring_short", 1, 1);
    CHECK_EQ(run(&b, &req), (int64_t)req.len);
    CHECK_EQ(known_memory(&b), 3);
    CHECK_BYTES(b.back, b.bytes, len / 2);
    CHECK_EQ(run(&b, &(struct disk_req){.op = DISK_DROP, .file = b.file}), 0);
    reads_back(&b, b.file);
    CHECK_EQ(known_memory(&b), 3); /* through the page cache there is nothing to look up */
    disk_unlend(b.disk, b.bytes);
    disk_unlend(b.disk, b.bytes);
    disk_unlend(b.disk, b.back);
    req = write_all(&b, b.direct, 0);
    CHECK_EQ(run(&b, &req), (int64_t)len);
    CHECK_EQ(known_memory(&b), 3);
    bench_fini(&b);
}

TEST(only_so_much_memory_may_be_lent)
{
    struct bench b;
    with_uring(&b);
    unsigned lent = 0;
    while (lent < DISK_KNOWN_PIECES && disk_lend(b.disk, b.bytes, UNIT) == 0) {
        lent++;
    }
    if (lent == DISK_KNOWN_PIECES) {
        CHECK_RC(disk_lend(b.disk, b.bytes, UNIT), ENOSPC);
    }
    disk_unlend(b.disk, b.bytes);
    CHECK_EQ(disk_lend(b.disk, b.bytes, UNIT), lent > 0 ? 0 : -ENOMEM);
    bench_fini(&b);
}

/* Where the kernel keeps nothing, all goes on as without. */
static void check_goes_without(struct bench *b)
{
    CHECK_TRUE(disk_lend(b->disk, b->bytes, UNITS * UNIT) < 0);
    struct disk_file *f = b->direct != NULL ? b->direct : b->file;
    for (unsigned i = 0; i < 2 * DISK_KNOWN_USES + 5; i++) {
        struct disk_req req = write_all(b, f, 0);
        CHECK_EQ(run(b, &req), UNITS * UNIT);
    }
    reads_back(b, f);
    CHECK_EQ(known_files(b), 0);
    CHECK_EQ(known_memory(b), 0);
    CHECK_TRUE(in_ring(b) > 2 * DISK_KNOWN_USES);
}

TEST(what_is_not_kept_is_looked_up)
{
    struct bench b;
    with_uring(&b);
    fault_arm(b.env.fault, "disk.uring_register", 1, 0);
    check_goes_without(&b);
    bench_fini(&b);
    bench_init(&b);
    fault_arm(b.env.fault, "disk.uring_register", 1, 1); /* no tables */
    CHECK_OK(disk_pool_use_uring(b.disk));
    check_goes_without(&b);
    bench_fini(&b);
}

TEST(threads_keep_nothing)
{
    struct bench b;
    bench_init(&b);
    CHECK_RC(disk_lend(b.disk, b.bytes, UNIT), EOPNOTSUPP);
    disk_unlend(b.disk, b.bytes);
    bench_fini(&b);
}

/* ---- The threads of the kernel ---- */

#define SYNCED 16u

/* Those that work for rings of this process; idle ones stay for some seconds. */
static unsigned kernel_workers(void)
{
    unsigned count = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK_TRUE(tasks != NULL);
    for (struct dirent *e = readdir(tasks); e != NULL; e = readdir(tasks)) {
        char path[300], name[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
        FILE *f = fopen(path, "re");
        if (f != NULL) {
            count += fgets(name, sizeof name, f) != NULL && strncmp(name, "iou-wrk", 7) == 0;
            fclose(f);
        }
    }
    closedir(tasks);
    return count;
}

/* Syncs block: without a bound the kernel would start a thread for each, up to four per core. */
TEST(threads_of_the_kernel_are_bounded)
{
    struct bench b;
    with_uring(&b);
    static struct waiting w[SYNCED];
    struct disk_file *file[SYNCED];
    for (unsigned i = 0; i < SYNCED; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s%u", b.path, i);
        struct disk_req req = {
            .op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE | DISK_CREATE};
        CHECK_EQ(disk_now(b.disk, &req), 0);
        file[i] = req.file;
    }
    unsigned most = 0;
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned i = 0; i < SYNCED; i++) {
            struct disk_req req = write_all(&b, file[i], 0);
            CHECK_EQ(run(&b, &req), UNITS * UNIT);
        }
        for (unsigned i = 0; i < SYNCED; i++) {
            start(&b, &w[i], &(struct disk_req){.op = DISK_SYNC, .file = file[i]});
        }
        for (unsigned i = 0; i < SYNCED; i++) {
            CHECK_EQ(finish(&b, &w[i]), 0);
            most = (unsigned)base_max(most, kernel_workers());
        }
    }
    CHECK_TRUE(most > 0);
    CHECK_TRUE(most <= THREADS);
    for (unsigned i = 0; i < SYNCED; i++) {
        CHECK_EQ(run(&b, &(struct disk_req){.op = DISK_CLOSE, .file = file[i]}), 0);
    }
    bench_fini(&b);
}

/* ---- A loop that changes its thread ---- */

struct guest {
    struct loop_message message;
    struct disk_req req;
    struct bench *bench;
    int64_t rc;
    struct loop_message answer;
    struct loop *home;
};

static void guest_home(struct loop_message *m)
{
    loop_stop(container_of(m, struct guest, answer)->home, 0);
}

static void guest_done(struct disk_req *req, int64_t rc)
{
    struct guest *g = container_of(req, struct guest, req);
    g->rc = rc;
    loop_complete(g->home, &g->answer);
}

static void guest_asks(struct loop_message *m)
{
    struct guest *g = container_of(m, struct guest, message);
    disk_submit(g->bench->disk, &g->req);
}

TEST(it_follows_the_loop_to_another_thread)
{
    struct bench b;
    CLEANUP(loop_freep) struct loop *home = NULL;
    with_uring(&b);
    CHECK_OK(loop_new(&(struct loop_options){.name = "home"}, &home, NULL));
    for (unsigned i = 0; i < 3; i++) {
        struct disk_req here = write_all(&b, b.file, DISK_STABLE);
        CHECK_EQ(run(&b, &here), UNITS * UNIT);
        struct guest g = {.message.run = guest_asks,
                          .answer.run = guest_home,
                          .req = write_all(&b, b.file, DISK_STABLE),
                          .bench = &b,
                          .home = home};
        g.req.done = guest_done;
        struct loop_thread *t = NULL;
        CHECK_OK(loop_thread_start(b.env.loop, &t));
        CHECK_OK(loop_post(b.env.loop, &g.message));
        loop_run(home);
        loop_thread_stop(t);
        CHECK_EQ(g.rc, UNITS * UNIT);
        CHECK_EQ(in_ring(&b), 2 * i + 2);
    }
    /* What one ring knew, the next one learns anew. */
    use_often(&b, b.file, 7, DISK_KNOWN_USES);
    int64_t known = known_files(&b);
    struct disk_req all = write_all(&b, b.file, DISK_STABLE);
    CHECK_TRUE(known > 0);
    struct guest g = {
        .message.run = guest_asks, .answer.run = guest_home, .req = all, .bench = &b, .home = home};
    g.req.done = guest_done;
    struct loop_thread *t = NULL;
    CHECK_OK(loop_thread_start(b.env.loop, &t));
    CHECK_OK(loop_post(b.env.loop, &g.message));
    loop_run(home);
    loop_thread_stop(t);
    CHECK_EQ(g.rc, UNITS * UNIT);
    CHECK_EQ(known_files(&b), known);
    reads_back(&b, b.file);
    bench_fini(&b);
}

/* And where it finds no io_uring there, threads serve. */
TEST(it_does_without_on_another_thread)
{
    struct bench b;
    CLEANUP(loop_freep) struct loop *home = NULL;
    with_uring(&b);
    CHECK_OK(loop_new(&(struct loop_options){.name = "home"}, &home, NULL));
    struct guest g = {.message.run = guest_asks,
                      .answer.run = guest_home,
                      .req = write_all(&b, b.file, DISK_STABLE),
                      .bench = &b,
                      .home = home};
    g.req.done = guest_done;
    struct loop_thread *t = NULL;
    fault_arm(b.env.fault, "disk.uring_setup", 1, 1);
    CHECK_OK(loop_thread_start(b.env.loop, &t));
    CHECK_OK(loop_post(b.env.loop, &g.message));
    loop_run(home);
    loop_thread_stop(t);
    CHECK_EQ(g.rc, UNITS * UNIT);
    CHECK_EQ(in_ring(&b), 0);
    reads_back(&b, b.file);
    bench_fini(&b);
}
