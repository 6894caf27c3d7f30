/*
 * disk/pool_test.c -- what only the backend of a real machine does: its limits, its threads, fault
 * points, the page cache. All else is in disk_test.c, and of io_uring in ring_test.c.
 */
#include "disk/disk.h"

#include "base/env.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/stats.h"
#include "loop/loop.h"
#include "testing/testing.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROUNDS_MAX 20000

struct bench {
    struct env env;
    struct disk *disk;
    char path[512];
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

static void bench_fini(struct bench *b)
{
    disk_free(b->disk);
    stats_free(b->env.stats);
    fault_free(b->env.fault);
    loop_free(b->env.loop);
}

static void bench_init(struct bench *b, const struct disk_pool_options *opt, bool uring)
{
    *b = (struct bench){.disk = NULL};
    CHECK_OK(loop_new(&(struct loop_options){.name = "test"}, &b->env.loop, NULL));
    b->env.fault = fault_new();
    b->env.stats = stats_new(NULL, "test");
    CHECK_OK(disk_pool_new(&b->env, opt, &b->disk));
    if (uring && disk_pool_use_uring(b->disk) < 0) {
        bench_fini(b);
        testing_skip("this kernel has no io_uring for us");
    }
    snprintf(b->path, sizeof b->path, "%s/f", testing_directory());
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

static struct disk_file *opened(struct bench *b)
{
    struct disk_req req = {
        .op = DISK_OPEN, .path = b->path, .flags = DISK_READ_WRITE | DISK_CREATE};
    CHECK_EQ(disk_now(b->disk, &req), 0);
    return req.file;
}

static void closed(struct bench *b, struct disk_file *f)
{
    CHECK_EQ(run(b, &(struct disk_req){.op = DISK_CLOSE, .file = f}), 0);
}

/* Once with threads only and once with io_uring. */
#define BOTH(name)                \
    static void name(bool uring); \
    TEST(threads_##name)          \
    {                             \
        name(false);              \
    }                             \
    TEST(uring_##name)            \
    {                             \
        name(true);               \
    }                             \
    static void name(bool uring)

BOTH(refuses_what_is_above_the_limit)
{
    enum { LIMIT = 8, COUNT = 20 };
    struct bench b;
    struct waiting w[COUNT], last;
    uint8_t byte = 1;
    unsigned busy = 0;
    bench_init(&b, &(struct disk_pool_options){.max_threads = 2, .max_in_flight = LIMIT}, uring);
    struct disk_file *f = opened(&b), *other = opened(&b);
    for (size_t i = 0; i < COUNT; i++) {
        start(&b, &w[i],
              &(struct disk_req){.op = DISK_WRITE, .file = f, .offset = i, .buf = &byte, .len = 1});
    }
    start(&b, &last, &(struct disk_req){.op = DISK_CLOSE, .file = other});
    CHECK_EQ(disk_in_flight(b.disk), COUNT + 1);
    for (size_t i = 0; i < COUNT; i++) {
        int64_t rc = finish(&b, &w[i]);
        CHECK_TRUE(rc == 1 || rc == -ERR_busy);
        CHECK_EQ(rc == 1, i < LIMIT);
        busy += rc == 1 ? 0 : 1;
    }
    CHECK_EQ(busy, COUNT - LIMIT);
    CHECK_EQ(finish(&b, &last), 0); /* closing is never refused */
    CHECK_EQ(disk_in_flight(b.disk), 0);
    CHECK_EQ(run(&b, &(struct disk_req){.op = DISK_WRITE, .file = f, .buf = &byte, .len = 1}), 1);
    closed(&b, f);
    bench_fini(&b);
}

struct counted {
    struct disk_observer observer;
    unsigned begun, ended;
};

static void counted_begun(struct disk_observer *o)
{
    container_of(o, struct counted, observer)->begun++;
}

static void counted_ended(struct disk_observer *o, const struct disk_req *req, int64_t rc,
                          uint64_t ns)
{
    (void)req;
    (void)rc;
    (void)ns;
    container_of(o, struct counted, observer)->ended++;
}

/* So that nobody waits behind megabytes: each part has a turn of its own, and what comes of all of
 * them is what would have come of one. */
BOTH(the_background_moves_much_in_parts)
{
    enum { PART = 256 << 10, COUNT = 5, LEN = (COUNT - 1) * PART + 77 };
    struct bench b;
    struct counted c = {.observer = {.begun = counted_begun, .ended = counted_ended}};
    bench_init(&b, &(struct disk_pool_options){.max_threads = 3}, uring);
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(LEN), *back = mem_zalloc(2 * LEN);
    CHECK_TRUE(bytes != NULL && back != NULL);
    for (size_t i = 0; i < LEN; i++) {
        bytes[i] = (uint8_t)(i % 251 + i / PART);
    }
    struct disk_file *f = opened(&b);
    b.disk->observer = &c.observer;
    struct disk_req write = {
        .op = DISK_WRITE, .flags = DISK_STABLE, .file = f, .offset = 5, .buf = bytes, .len = LEN};
    CHECK_EQ(run(&b, &write), LEN);
    CHECK_EQ(c.begun, 1);
    write.lane = DISK_COPYING;
    CHECK_EQ(run(&b, &write), LEN);
    CHECK_EQ(c.begun, 1 + COUNT);
    CHECK_EQ(run(&b, &(struct disk_req){.op = DISK_DROP, .file = f}), 0);
    struct disk_req read = {
        .op = DISK_READ, .lane = DISK_SCRUBBING, .file = f, .buf = back, .len = LEN + 5};
    CHECK_EQ(run(&b, &read), LEN + 5);
    CHECK_EQ(c.begun, 2 + 2 * COUNT);
    CHECK_BYTES(back + 5, bytes, LEN);
    memset(back, 0, LEN + 5);
    read.len = 2 * LEN; /* beyond the end: as one, short */
    CHECK_EQ(run(&b, &read), LEN + 5);
    CHECK_BYTES(back + 5, bytes, LEN);
    read.offset = LEN + 5;
    CHECK_EQ(run(&b, &read), 0);
    CHECK_EQ(c.begun, c.ended);
    b.disk->observer = NULL;
    closed(&b, f);
    bench_fini(&b);
}

/* Also what lies in pieces, a few or many for a part; and with the flags that writes may have. */
BOTH(the_background_moves_pieces_in_parts)
{
    enum { LEN = 1 << 20, LARGE = 300 << 10, SMALL = 1000 };
    struct iovec few[4], many[LEN / SMALL + 1];
    unsigned count = 0;
    struct bench b;
    bench_init(&b, &(struct disk_pool_options){.max_threads = 3}, uring);
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(LEN), *back = mem_alloc(LEN);
    CHECK_TRUE(bytes != NULL && back != NULL);
    for (size_t at = 0, i = 0; at < LEN; at += LARGE, i++) {
        few[i] = (struct iovec){.iov_base = bytes + at, .iov_len = base_min(LARGE, LEN - at)};
    }
    for (size_t at = 0; at < LEN; at += SMALL, count++) {
        many[count] = (struct iovec){.iov_base = bytes + at, .iov_len = base_min(SMALL, LEN - at)};
    }
    struct disk_file *f = opened(&b);
    const uint32_t flags[] = {0, DISK_SOON, DISK_STABLE, DISK_SOON | DISK_STABLE};
    for (unsigned i = 0; i < 2 * ARRAY_COUNT(flags); i++) {
        for (size_t k = 0; k < LEN; k++) {
            bytes[k] = (uint8_t)(k % 251 + k / 4096 + i);
        }
        CHECK_EQ(run(&b, &(struct disk_req){.op = DISK_WRITE,
                                            .flags = flags[i / 2],
                                            .lane = DISK_COPYING,
                                            .file = f,
                                            .offset = i,
                                            .iov = i % 2 == 0 ? few : many,
                                            .iov_count = i % 2 == 0 ? 4 : count}),
                 LEN);
        CHECK_EQ(run(&b,
                     &(struct disk_req){
                         .op = DISK_READ, .file = f, .offset = i, .buf = back, .len = LEN}),
                 LEN);
        CHECK_BYTES(back, bytes, LEN);
    }
    closed(&b, f);
    bench_fini(&b);
}

BOTH(fault_points_fail_requests)
{
    struct bench b;
    uint8_t byte = 1;
    bench_init(&b, &(struct disk_pool_options){.max_threads = 2}, uring);
    struct disk_file *f = opened(&b);
    const struct disk_req req[] = {
        {.op = DISK_OPEN, .path = b.path},
        {.op = DISK_READ, .file = f, .buf = &byte, .len = 1},
        {.op = DISK_WRITE, .file = f, .buf = &byte, .len = 1},
        {.op = DISK_SYNC, .file = f},
        {.op = DISK_SYNC_ALL, .file = f},
        {.op = DISK_SYNC_DIR, .path = testing_directory()},
    };
    static const char *const point[] = {"disk.open", "disk.read", "disk.write",
                                        "disk.sync", "disk.sync", "disk.sync"};
    for (size_t i = 0; i < ARRAY_COUNT(req); i++) {
        struct disk_req now = req[i];
        fault_arm(b.env.fault, point[i], 1, 2);
        CHECK_RC((int)run(&b, &req[i]), EIO);
        CHECK_RC((int)disk_now(b.disk, &now), EIO);
        struct disk_req good = req[i];
        CHECK_TRUE(disk_now(b.disk, &good) >= 0);
        if (good.op == DISK_OPEN) {
            closed(&b, good.file);
        }
    }
    CHECK_EQ(fault_passed(b.env.fault, "disk.sync"), 9);
    closed(&b, f);
    bench_fini(&b);
}

struct finder {
    struct stats_visitor base;
    const char *path;
    int64_t value;
    bool found;
};

static void finder_visit(struct stats_visitor *v, const struct stats_value *value)
{
    struct finder *f = container_of(v, struct finder, base);
    if (strcmp(value->path, f->path) == 0) {
        f->value = value->value;
        f->found = true;
    }
}

static int64_t counter(struct bench *b, const char *name)
{
    struct finder f = {.base = {.visit = finder_visit}, .path = name};
    stats_walk(b->env.stats, &f.base);
    CHECK_TRUE(f.found);
    return f.value;
}

BOTH(cached_reads_need_no_thread)
{
    enum { LEN = 128 << 10 };
    struct bench b;
    CLEANUP(mem_freep) uint8_t *bytes = mem_zalloc(LEN + 1);
    CHECK_TRUE(bytes != NULL);
    bench_init(&b, &(struct disk_pool_options){.max_threads = 2}, uring);
    struct disk_file *f = opened(&b);
    struct disk_req req = {.op = DISK_WRITE, .file = f, .buf = bytes, .len = LEN + 1};
    CHECK_EQ(run(&b, &req), LEN + 1);
    req.op = DISK_READ;
    req.len = LEN;
    if (disk_try_read(b.disk, &req) == -EAGAIN) {
        testing_skip("the file system of the test cannot tell what is cached");
    }
    int64_t before = counter(&b, "test/disk/cached_reads");
    CHECK_EQ(run(&b, &req), LEN);
    CHECK_EQ(counter(&b, "test/disk/cached_reads"), before + 1);
    req.len = LEN + 1; /* too large to be copied on the loop */
    CHECK_EQ(run(&b, &req), LEN + 1);
    req.offset = 1; /* ends early: whether that is the end, a thread finds out */
    req.len = LEN;
    CHECK_EQ(run(&b, &req), LEN);
    req.offset = 2;
    CHECK_EQ(run(&b, &req), LEN - 1);
    CHECK_EQ(counter(&b, "test/disk/cached_reads"), before + 2);
    CHECK_EQ(counter(&b, "test/disk/writes"), 1);
    CHECK_EQ(counter(&b, "test/disk/write_bytes"), LEN + 1);
    closed(&b, f);
    bench_fini(&b);
}

BOTH(residency_follows_the_page_cache)
{
    enum { LEN = 1 << 20 };
    struct bench b;
    CLEANUP(mem_freep) uint8_t *bytes = mem_zalloc(LEN);
    CHECK_TRUE(bytes != NULL);
    bench_init(&b, &(struct disk_pool_options){.max_threads = 1}, uring);
    struct disk_file *f = opened(&b);
    struct disk_req req = {.op = DISK_WRITE, .file = f, .buf = bytes, .len = LEN};
    CHECK_EQ(run(&b, &req), LEN);
    CHECK_EQ(run(&b, &(struct disk_req){.op = DISK_SYNC, .file = f}), 0);
    bool before = disk_resident(b.disk, f, 1, LEN - 1);
    CHECK_EQ(run(&b, &(struct disk_req){.op = DISK_DROP, .file = f}), 0);
    bool after = disk_resident(b.disk, f, 1, LEN - 1);
    if (!before || after) {
        testing_skip("the file system of the test does not drop or tell what is cached");
    }
    CHECK_TRUE(!disk_resident(b.disk, f, LEN / 2, 1));
    req.op = DISK_READ;
    CHECK_EQ(run(&b, &req), LEN);
    CHECK_TRUE(disk_resident(b.disk, f, 1, LEN - 1));
    CHECK_TRUE(!disk_resident(b.disk, f, 0, UINT64_MAX));
    closed(&b, f);
    bench_fini(&b);
}

/* Twice: the second time a ring, if there is one, has the descriptor. */
static int64_t read_past(struct bench *b, struct disk_file *f, uint8_t *bytes, size_t len)
{
    struct disk_req req = {
        .op = DISK_READ, .flags = DISK_PAST_CACHE, .file = f, .buf = bytes, .len = len};
    int64_t rc = run(b, &req);
    return rc < 0 ? rc : run(b, &req);
}

BOTH(reads_past_the_page_cache_leave_it_alone)
{
    enum { LEN = 1 << 20 };
    struct bench b;
    CLEANUP(mem_freep) uint8_t *bytes = mem_aligned(4096, LEN);
    CHECK_TRUE(bytes != NULL);
    memset(bytes, 'x', LEN);
    bench_init(&b, &(struct disk_pool_options){.max_threads = 1}, uring);
    struct disk_file *f = opened(&b);
    struct disk_req req = {.op = DISK_WRITE, .file = f, .buf = bytes, .len = LEN};
    CHECK_EQ(run(&b, &req), LEN);
    CHECK_EQ(run(&b, &(struct disk_req){.op = DISK_SYNC, .file = f}), 0);
    bool before = disk_resident(b.disk, f, 0, LEN);
    CHECK_EQ(run(&b, &(struct disk_req){.op = DISK_DROP, .file = f}), 0);
    bool after = disk_resident(b.disk, f, 0, LEN);
    memset(bytes, 0, LEN);
    int64_t ringed = counter(&b, "test/disk/uring");
    int64_t rc = read_past(&b, f, bytes, LEN);
    if (!before || after || rc == -EOPNOTSUPP) {
        testing_skip("the file system of the test does not drop or tell what is cached");
    }
    CHECK_EQ(rc, LEN);
    CHECK_EQ(counter(&b, "test/disk/uring") - ringed, uring ? 1 : 0);
    CHECK_TRUE(bytes[0] == 'x' && bytes[LEN - 1] == 'x');
    CHECK_TRUE(!disk_resident(b.disk, f, 0, 1) && !disk_resident(b.disk, f, LEN - 1, 1));
    CHECK_EQ(run(&b, &(struct disk_req){.op = DISK_FETCH, .file = f, .len = LEN}), LEN);
    CHECK_TRUE(disk_resident(b.disk, f, 0, LEN));
    closed(&b, f);
    bench_fini(&b);
}

/* A socket, say, which has been given them and whose peer takes nothing. */
static void hold_pages(const int to[2], int fd, off_t offset, size_t len)
{
    CHECK_EQ(splice(fd, &offset, to[1], NULL, len, 0), (ssize_t)len);
}

BOTH(pages_that_others_hold_leave_the_cache)
{
    enum { LEN = 3 << 20, HELD = 32768 };
    struct bench b;
    int first[2], last[2];
    uint8_t out[4096];
    CLEANUP(mem_freep) uint8_t *bytes = mem_aligned(4096, LEN);
    CHECK_TRUE(bytes != NULL && pipe(first) == 0 && pipe(last) == 0);
    for (size_t i = 0; i < LEN; i++) {
        bytes[i] = (uint8_t)(i * 7 + i / 4096);
    }
    bench_init(&b, &(struct disk_pool_options){.max_threads = 1}, uring);
    struct disk_file *f = opened(&b);
    struct disk_req req = {.op = DISK_WRITE, .file = f, .buf = bytes, .len = LEN};
    CHECK_EQ(run(&b, &req), LEN);
    CHECK_EQ(run(&b, &(struct disk_req){.op = DISK_SYNC, .file = f}), 0);
    CHECK_EQ(run(&b, &(struct disk_req){.op = DISK_DROP, .file = f}), 0);
    hold_pages(first, disk_file_fd(f), 4096, HELD);
    hold_pages(last, disk_file_fd(f), LEN - HELD, HELD);
    CHECK_EQ(posix_fadvise(disk_file_fd(f), 0, 0, POSIX_FADV_DONTNEED), 0);
    bool stays = disk_resident(b.disk, f, 4096, 1) && disk_resident(b.disk, f, LEN - 1, 1);
    CHECK_EQ(run(&b, &(struct disk_req){.op = DISK_DROP, .file = f}), 0);
    bool gone = !disk_resident(b.disk, f, 4096, 1) && !disk_resident(b.disk, f, LEN - 1, 1);
    if (!stays || (!gone && read_past(&b, f, bytes, 4096) == -EOPNOTSUPP)) {
        testing_skip("the file system of the test does not hold or tell what is cached");
    }
    CHECK_TRUE(gone);
    CHECK_EQ(read(first[0], out, sizeof out), (ssize_t)sizeof out); /* they still have it */
    CHECK_BYTES(out, bytes + 4096, sizeof out);
    CLEANUP(mem_freep) uint8_t *after = mem_zalloc(LEN);
    req = (struct disk_req){.op = DISK_READ, .file = f, .buf = after, .len = LEN};
    CHECK_EQ(run(&b, &req), LEN);
    CHECK_BYTES(after, bytes, LEN);
    closed(&b, f);
    bench_fini(&b);
    for (unsigned i = 0; i < 2; i++) {
        CHECK_TRUE(close(first[i]) == 0 && close(last[i]) == 0);
    }
}

static unsigned mode_of(const char *path)
{
    struct stat st;
    CHECK_EQ(stat(path, &st), 0);
    return st.st_mode & 0777;
}

TEST(files_are_private_unless_asked_otherwise)
{
    struct bench b;
    char public[600];
    mode_t before = umask(022);
    bench_init(&b, &(struct disk_pool_options){.max_threads = 1}, false);
    closed(&b, opened(&b));
    CHECK_EQ(mode_of(b.path), 0600);
    snprintf(public, sizeof public, "%s/public", testing_directory());
    struct disk_req req = {.op = DISK_MKDIR, .path = public, .flags = DISK_PUBLIC};
    CHECK_EQ(disk_now(b.disk, &req), 0);
    CHECK_EQ(mode_of(public), 0755);
    snprintf(public, sizeof public, "%s/public/f", testing_directory());
    req = (struct disk_req){
        .op = DISK_OPEN, .path = public, .flags = DISK_READ_WRITE | DISK_CREATE | DISK_PUBLIC};
    CHECK_EQ(disk_now(b.disk, &req), 0);
    closed(&b, req.file);
    CHECK_EQ(mode_of(public), 0644);
    umask(before);
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
    CHECK(rc == 0 || rc == -EINVAL);
    if (--c->left > 0) {
        c->req.op = c->left % 2 == 0 ? DISK_STAT : DISK_OPEN; /* the second is refused */
        disk_submit(c->bench->disk, &c->req);
        return;
    }
    c->bench->disk = disk_free(c->bench->disk);
}

BOTH(callbacks_submit_and_free)
{
    struct bench b;
    bench_init(&b, &(struct disk_pool_options){.max_threads = 1}, uring);
    struct chain c = {.bench = &b, .left = 100};
    c.req =
        (struct disk_req){.op = DISK_STAT, .path = "/", .flags = DISK_CREATE, .done = chain_done};
    disk_submit(b.disk, &c.req);
    for (int i = 0; i < ROUNDS_MAX && c.left > 0; i++) {
        loop_run_once(b.env.loop, 100000000);
    }
    CHECK_EQ(c.left, 0);
    CHECK_TRUE(b.disk == NULL);
    bench_fini(&b);
}

/* Where there is no io_uring, it is the threads' turn twice. */
static void check_begins_without_memory(bool uring)
{
    CLEANUP(loop_freep) struct loop *loop = NULL;
    TRY(loop_new(&(struct loop_options){.name = "test"}, &loop, NULL));
    CLEANUP(disk_freep) struct disk *d = NULL;
    const struct env env = {.loop = loop};
    TRY(disk_pool_new(&env, &(struct disk_pool_options){.max_threads = 1}, &d));
    int have = uring ? disk_pool_use_uring(d) : 0;
    TRY(have == -ENOMEM ? have : 0);
    char path[512];
    snprintf(path, sizeof path, "%s/f", testing_directory());
    TRY(disk_store(d, path, "x", 1));
    struct disk_req list = {.op = DISK_LIST, .path = testing_directory()};
    int64_t rc = disk_now(d, &list);
    TRY(rc < 0 ? (int)rc : 0);
    CHECK_EQ(list.names->count, 1);
    mem_free(list.names);
}

TEST_TORTURE(begins_without_memory)
{
    check_begins_without_memory(false);
}

TEST_TORTURE(uring_begins_without_memory)
{
    check_begins_without_memory(true);
}
