/*
 * disk/short_test.c -- system calls that move less than they were asked for, which those of Linux
 * may do at any time: what is left is done by further calls, at the right places of file and
 * memory, and the end of a file is still told from that.
 */
#include "disk/disk.h"

#include "base/env.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/rand.h"
#include "base/stats.h"
#include "loop/loop.h"
#include "testing/testing.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUNDS_MAX 20000
#define UNIT 4096u
#define UNITS 40u
#define BYTES (UNITS * (size_t)UNIT)
#define PIECES 100u /* more than one call takes */

struct bench {
    struct env env;
    struct disk *disk;
    char path[512];
    struct disk_file *file, *direct; /* of the same; direct: NULL where there is no such thing */
    uint8_t *bytes, *back, *model;   /* BYTES each */
};

struct waiting {
    struct disk_req req;
    bool done;
    int64_t rc;
};

static void waiting_done(struct disk_req *req, int64_t rc)
{
    struct waiting *w = container_of(req, struct waiting, req);
    w->done = true;
    w->rc = rc;
}

static int64_t run(struct bench *b, const struct disk_req *req)
{
    struct waiting w = {.req = *req};
    w.req.done = waiting_done;
    disk_submit(b->disk, &w.req);
    for (int i = 0; i < ROUNDS_MAX && !w.done; i++) {
        loop_run_once(b->env.loop, 100000000);
    }
    CHECK_TRUE(w.done);
    return w.rc;
}

static void bench_fini(struct bench *b)
{
    struct disk_file *files[] = {b->file, b->direct};
    for (size_t i = 0; i < ARRAY_COUNT(files); i++) {
        if (files[i] != NULL) {
            CHECK_EQ(run(b, &(struct disk_req){.op = DISK_CLOSE, .file = files[i]}), 0);
        }
    }
    disk_free(b->disk);
    stats_free(b->env.stats);
    fault_free(b->env.fault);
    loop_free(b->env.loop);
    mem_free(b->bytes);
    mem_free(b->back);
    mem_free(b->model);
}

static void bench_init(struct bench *b, bool uring)
{
    *b = (struct bench){.disk = NULL};
    CHECK_OK(loop_new(&(struct loop_options){.name = "test"}, &b->env.loop, NULL));
    b->env.fault = fault_new();
    b->env.stats = stats_new(NULL, "test");
    CHECK_OK(disk_pool_new(&b->env, &(struct disk_pool_options){.max_threads = 2}, &b->disk));
    if (uring && disk_pool_use_uring(b->disk) < 0) {
        bench_fini(b);
        testing_skip("this kernel has no io_uring for us");
    }
    b->bytes = mem_aligned(UNIT, BYTES);
    b->back = mem_aligned(UNIT, BYTES);
    b->model = mem_zalloc(BYTES);
    CHECK_TRUE(b->bytes != NULL && b->back != NULL && b->model != NULL);
    snprintf(b->path, sizeof b->path, "%s/f", testing_directory());
    struct disk_req req = {
        .op = DISK_OPEN, .path = b->path, .flags = DISK_READ_WRITE | DISK_CREATE};
    CHECK_EQ(disk_now(b->disk, &req), 0);
    b->file = req.file;
    req.flags = DISK_READ_WRITE | DISK_DIRECT;
    b->direct = disk_now(b->disk, &req) == 0 ? req.file : NULL;
}

/* Once with threads only and once with io_uring, which then begins and has threads go on. */
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

static struct disk_req whole(const struct bench *b, enum disk_op op, void *buf)
{
    return (struct disk_req){.op = op, .file = b->file, .buf = buf, .len = BYTES};
}

/* The file as `model` has it. */
static void fill(struct bench *b, uint64_t seed)
{
    struct rand r;
    rand_seed(&r, seed);
    rand_bytes(&r, b->model, BYTES);
    memcpy(b->bytes, b->model, BYTES);
    struct disk_req req = whole(b, DISK_WRITE, b->bytes);
    CHECK_EQ(run(b, &req), (int64_t)BYTES);
}

/* ---- any transfer ---- */

struct transfer {
    struct disk_req req;
    struct iovec piece[PIECES];
};

/* Pieces lie in memory in the order of the file, with holes between them. */
static void cut_up(struct rand *r, struct transfer *x, uint8_t *buf, size_t unit)
{
    size_t at = 0, room = BYTES / unit;
    unsigned count = 1 + (unsigned)rand_below(r, unit == 1 ? PIECES : UNITS / 4);
    for (unsigned i = 0; i < count; i++) {
        size_t max = room / count - 1, len = 1 + rand_below(r, base_max(max, 1));
        size_t hole = rand_below(r, 2) * (len < max);
        x->piece[i].iov_base = buf + at * unit;
        x->piece[i].iov_len = len * unit;
        at += len + hole;
    }
    x->req.iov = x->piece;
    x->req.iov_count = count;
}

static size_t pieces_len(const struct transfer *x)
{
    size_t sum = 0;
    for (unsigned i = 0; i < x->req.iov_count; i++) {
        sum += x->piece[i].iov_len;
    }
    return sum;
}

static void any_transfer(struct bench *b, struct rand *r)
{
    struct transfer x = {.req = {.op = rand_chance(r, 1, 2) ? DISK_READ : DISK_WRITE}};
    bool direct = b->direct != NULL && rand_chance(r, 1, 2), write = x.req.op == DISK_WRITE;
    size_t unit = direct ? UNIT : 1;
    uint8_t *buf = write ? b->bytes : b->back;
    rand_bytes(r, buf, BYTES);
    cut_up(r, &x, buf, unit);
    size_t len = pieces_len(&x), done = 0;
    x.req.file = direct ? b->direct : b->file;
    x.req.offset = rand_below(r, (BYTES - len) / unit + 1) * unit;
    x.req.flags = write && rand_chance(r, 1, 3) ? DISK_STABLE : 0;
    x.req.flags |= write && !direct && rand_chance(r, 1, 3) ? DISK_SOON : 0;
    fault_arm(b->env.fault, "disk.short", 1 + rand_below(r, 3), rand_below(r, 4));
    int64_t rc = rand_chance(r, 1, 4) ? disk_now(b->disk, &x.req) : run(b, &x.req);
    fault_disarm(b->env.fault, NULL);
    CHECK_EQ(rc, (int64_t)len);
    for (unsigned i = 0; i < x.req.iov_count; i++) {
        uint8_t *file = b->model + x.req.offset + done;
        if (write) {
            memcpy(file, x.piece[i].iov_base, x.piece[i].iov_len);
        }
        CHECK_BYTES(x.piece[i].iov_base, file, x.piece[i].iov_len);
        done += x.piece[i].iov_len;
    }
}

BOTH(any_transfer_is_whole)
{
    struct bench b;
    struct rand r;
    bench_init(&b, uring);
    rand_seed(&r, testing_seed());
    fill(&b, testing_seed());
    for (unsigned i = 0; i < 400; i++) {
        if (uring) {
            fault_arm(b.env.fault, "disk.uring_short", 1, 1);
        }
        any_transfer(&b, &r);
    }
    struct disk_req req = whole(&b, DISK_READ, b.back);
    CHECK_EQ(run(&b, &req), (int64_t)BYTES);
    CHECK_BYTES(b.back, b.model, BYTES);
    CHECK_TRUE(fault_passed(b.env.fault, "disk.short") > 400);
    bench_fini(&b);
}

/* ---- the end of the file ---- */

/* Of a file of `size` bytes from `offset` on as much as there is, and no more. */
static void check_end(struct bench *b, struct disk_file *f, uint64_t size, uint64_t offset)
{
    struct disk_req req = {
        .op = DISK_READ, .file = f, .offset = offset, .buf = b->back, .len = BYTES};
    uint64_t want = base_min(size - base_min(size, offset), BYTES);
    memset(b->back, 0xee, BYTES);
    CHECK_EQ(run(b, &req), (int64_t)want);
    CHECK_BYTES(b->back, b->model + offset, want);
    for (size_t i = want; i < BYTES && f == b->file; i++) {
        CHECK_EQ(b->back[i], 0xee);
    }
}

BOTH(the_end_of_a_file_is_still_its_end)
{
    static const uint64_t sizes[] = {BYTES, BYTES - 1, 2 * UNIT + 5, 2 * UNIT, UNIT, 1, 0};
    struct bench b;
    bench_init(&b, uring);
    fill(&b, testing_seed());
    fault_arm(b.env.fault, "disk.short", 1, 0);
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        struct disk_req cut = {.op = DISK_TRUNCATE, .file = b.file, .len = sizes[i]};
        CHECK_EQ(run(&b, &cut), 0);
        for (uint64_t offset = 0; offset < 4; offset++) {
            check_end(&b, b.file, sizes[i], offset * (UNIT - 1));
            if (b.direct != NULL) {
                check_end(&b, b.direct, sizes[i], offset * UNIT);
            }
        }
        struct disk_req fetch = {.op = DISK_FETCH, .file = b.file, .offset = 1, .len = BYTES};
        CHECK_EQ(run(&b, &fetch), (int64_t)(sizes[i] - base_min(sizes[i], 1)));
    }
    bench_fini(&b);
}

/* ---- what moves bytes otherwise ---- */

BOTH(reads_from_the_page_cache_and_past_it)
{
    struct bench b;
    bench_init(&b, uring);
    fill(&b, testing_seed());
    CHECK_EQ(run(&b, &(struct disk_req){.op = DISK_SYNC, .file = b.file}), 0);
    fault_arm(b.env.fault, "disk.short", 1, 0);
    struct disk_req req = whole(&b, DISK_READ, b.back);
    uint64_t before = fault_passed(b.env.fault, "disk.short");
    int64_t rc = disk_try_read(b.disk, &req);
    if (rc != -EAGAIN) { /* the file system tells what is cached */
        CHECK_EQ(rc, (int64_t)BYTES);
        CHECK_BYTES(b.back, b.model, BYTES);
        CHECK_TRUE(fault_passed(b.env.fault, "disk.short") > before + 2);
    }
    memset(b.back, 0, BYTES);
    req.flags = DISK_PAST_CACHE;
    rc = run(&b, &req);
    if (rc != -EOPNOTSUPP) {
        CHECK_EQ(rc, (int64_t)BYTES);
        CHECK_BYTES(b.back, b.model, BYTES);
    }
    bench_fini(&b);
}

BOTH(what_is_sent_is_whole)
{
    enum { LEN = 20000 };
    struct bench b;
    int pair[2];
    bench_init(&b, uring);
    fill(&b, testing_seed());
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    struct disk_sink sink = {.fd = pair[0]};
    struct disk_req req = {
        .op = DISK_SEND, .file = b.file, .offset = 77, .len = LEN, .sink = &sink};
    fault_arm(b.env.fault, "disk.short", 1, 0);
    uint64_t before = fault_passed(b.env.fault, "disk.short");
    CHECK_EQ(run(&b, &req), LEN);
    CHECK_TRUE(fault_passed(b.env.fault, "disk.short") > before + 10);
    size_t got = 0;
    while (got < LEN) {
        ssize_t n = read(pair[1], b.back + got, BYTES - got);
        CHECK_TRUE(n > 0);
        got += (size_t)n;
    }
    CHECK_EQ(got, LEN);
    CHECK_BYTES(b.back, b.model + 77, LEN);
    CHECK_TRUE(close(pair[0]) == 0 && close(pair[1]) == 0);
    bench_fini(&b);
}
