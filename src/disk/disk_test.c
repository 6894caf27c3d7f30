/*
 * disk/disk_test.c -- every operation and its errors, on the thread pool, with io_uring and in
 * simulation: the three must be one thing to those above.
 */
#include "disk/disk.h"

#include "base/env.h"
#include "base/mem.h"
#include "disk/sim.h"
#include "loop/loop.h"
#include "loop/sim.h"
#include "testing/testing.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUNDS_MAX 20000 /* of the loop, for one request */
#define PATHS 4

struct bench {
    struct loop_sim *sim; /* NULL: a real machine */
    struct disk_sim *machine;
    struct loop *loop;
    struct disk *disk;
    const char *root;
    char path[PATHS][512];
    unsigned next_path;
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

static void bench_turn(struct bench *b)
{
    if (b->sim != NULL) {
        CHECK_TRUE(loop_sim_step(b->sim));
    } else {
        loop_run_once(b->loop, 100000000);
    }
}

/* Submits and waits. */
static int64_t run(struct bench *b, struct disk_req *req)
{
    struct waiting w = {.req = *req};
    w.req.done = waiting_done;
    disk_submit(b->disk, &w.req);
    CHECK_TRUE(!w.done); /* never inside submit */
    for (int i = 0; i < ROUNDS_MAX && !w.done; i++) {
        bench_turn(b);
    }
    CHECK_TRUE(w.done);
    req->file = w.req.file;
    req->stat = w.req.stat;
    req->names = w.req.names;
    return w.rc;
}

static const char *in(struct bench *b, const char *name)
{
    char *at = b->path[b->next_path++ % PATHS];
    snprintf(at, sizeof b->path[0], "%s/%s", b->root, name);
    return at;
}

static int64_t on_path(struct bench *b, enum disk_op op, const char *name)
{
    struct disk_req req = {.op = op, .path = in(b, name)};
    return run(b, &req);
}

static int64_t on_paths(struct bench *b, enum disk_op op, const char *name, const char *name_to)
{
    struct disk_req req = {.op = op, .path = in(b, name), .path_to = in(b, name_to)};
    return run(b, &req);
}

static int64_t open_file(struct bench *b, const char *name, uint32_t flags, struct disk_file **ret)
{
    struct disk_req req = {.op = DISK_OPEN, .path = in(b, name), .flags = flags};
    int64_t rc = run(b, &req);
    *ret = req.file;
    return rc;
}

static struct disk_file *create(struct bench *b, const char *name)
{
    struct disk_file *f = NULL;
    CHECK_EQ(open_file(b, name, DISK_READ_WRITE | DISK_CREATE, &f), 0);
    return f;
}

static int64_t on_file(struct bench *b, enum disk_op op, struct disk_file *f)
{
    struct disk_req req = {.op = op, .file = f};
    return run(b, &req);
}

static int64_t on_range(struct bench *b, enum disk_op op, struct disk_file *f, uint64_t offset,
                        uint64_t len)
{
    struct disk_req req = {.op = op, .file = f, .offset = offset, .len = len};
    return run(b, &req);
}

static int64_t put(struct bench *b, struct disk_file *f, uint64_t offset, const void *bytes,
                   size_t len)
{
    struct disk_req req = {.op = DISK_WRITE, .file = f, .offset = offset, .len = len};
    req.buf = (void *)bytes;
    return run(b, &req);
}

static int64_t get(struct bench *b, struct disk_file *f, uint64_t offset, void *bytes, size_t len)
{
    struct disk_req req = {.op = DISK_READ, .file = f, .offset = offset, .buf = bytes, .len = len};
    return run(b, &req);
}

static struct disk_stat stat_file(struct bench *b, struct disk_file *f)
{
    struct disk_req req = {.op = DISK_STAT, .file = f};
    CHECK_EQ(run(b, &req), 0);
    return req.stat;
}

static void on_real(void (*body)(struct bench *b), bool uring)
{
    const struct loop_options options = {.name = "test"};
    struct bench b = {.root = testing_directory()};
    CHECK_OK(loop_new(&options, &b.loop, NULL));
    const struct env env = {.loop = b.loop};
    CHECK_OK(disk_pool_new(&env, &(struct disk_pool_options){.max_threads = 3}, &b.disk));
    if (uring && disk_pool_use_uring(b.disk) < 0) {
        disk_free(b.disk);
        loop_free(b.loop);
        testing_skip("this kernel has no io_uring for us");
    }
    body(&b);
    disk_free(b.disk);
    loop_free(b.loop);
}

static void on_sim(void (*body)(struct bench *b))
{
    struct bench b = {.root = "/"};
    b.sim = loop_sim_new(testing_seed());
    CHECK_TRUE(b.sim != NULL);
    b.machine = disk_sim_new(&(struct disk_sim_options){.sim = b.sim});
    CHECK_TRUE(b.machine != NULL);
    CHECK_OK(loop_sim_process(b.sim, "test", 1, &b.loop));
    CHECK_OK(disk_sim_open(b.machine, b.loop, &b.disk));
    body(&b);
    disk_free(b.disk);
    loop_sim_free(b.sim);
    disk_sim_free(b.machine);
}

#define BOTH(name)                     \
    static void name(struct bench *b); \
    TEST(pool_##name)                  \
    {                                  \
        on_real(name, false);          \
    }                                  \
    TEST(uring_##name)                 \
    {                                  \
        on_real(name, true);           \
    }                                  \
    TEST(sim_##name)                   \
    {                                  \
        on_sim(name);                  \
    }                                  \
    static void name(struct bench *b)

BOTH(opens_and_closes)
{
    struct disk_file *f = NULL;
    CHECK_RC((int)open_file(b, "a", DISK_READ_ONLY, &f), ENOENT);
    CHECK_RC((int)open_file(b, "none/a", DISK_READ_WRITE | DISK_CREATE, &f), ENOENT);
    CHECK_RC((int)open_file(b, "a", DISK_CREATE, &f), EINVAL);
    f = create(b, "a");
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
    CHECK_RC((int)open_file(b, "a", DISK_READ_WRITE | DISK_CREATE | DISK_EXCLUSIVE, &f), EEXIST);
    CHECK_RC((int)open_file(b, "a/b", DISK_READ_ONLY, &f), ENOTDIR);
    CHECK_EQ(on_path(b, DISK_MKDIR, "d"), 0);
    CHECK_RC((int)open_file(b, "d", DISK_READ_ONLY, &f), EISDIR);
    CHECK_RC((int)open_file(b, "d", DISK_READ_WRITE, &f), EISDIR);
    CHECK_EQ(open_file(b, "a", DISK_READ_ONLY, &f), 0);
    CHECK_RC((int)put(b, f, 0, "x", 1), EBADF);
    CHECK_RC((int)on_range(b, DISK_TRUNCATE, f, 0, 5), EBADF);
    CHECK_RC((int)on_range(b, DISK_ALLOCATE, f, 0, 5), EBADF);
    CHECK_RC((int)on_range(b, DISK_PUNCH, f, 0, 5), EBADF);
    CHECK_EQ(on_file(b, DISK_SYNC, f), 0);
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
    CHECK_EQ(disk_in_flight(b->disk), 0);
}

BOTH(refuses_names_that_are_too_long)
{
    char name[300];
    struct disk_file *f = NULL;
    memset(name, 'n', sizeof name);
    name[256] = 0;
    CHECK_RC((int)open_file(b, name, DISK_READ_WRITE | DISK_CREATE, &f), ENAMETOOLONG);
    name[255] = 0;
    CHECK_EQ(on_path(b, DISK_MKDIR, name), 0);
    struct disk_req req = {.op = DISK_MKDIR, .path = ""};
    CHECK_RC((int)run(b, &req), ENOENT);
}

BOTH(reads_what_was_written)
{
    uint8_t out[32];
    struct disk_file *f = create(b, "a");
    CHECK_EQ(get(b, f, 0, out, sizeof out), 0);
    CHECK_EQ(put(b, f, 0, "0123456789", 10), 10);
    CHECK_EQ(get(b, f, 0, out, 10), 10);
    CHECK_BYTES(out, "0123456789", 10);
    CHECK_EQ(get(b, f, 7, out, sizeof out), 3); /* short at the end */
    CHECK_BYTES(out, "789", 3);
    CHECK_EQ(get(b, f, 10, out, 1), 0);
    CHECK_EQ(get(b, f, UINT64_C(1) << 40, out, 1), 0);
    CHECK_EQ(put(b, f, 4, "AB", 2), 2);
    CHECK_EQ(get(b, f, 3, out, 4), 4);
    CHECK_BYTES(out, "3AB6", 4);
    CHECK_EQ(put(b, f, 12, "z", 1), 1); /* leaves a hole of two */
    CHECK_EQ(get(b, f, 9, out, sizeof out), 4);
    CHECK_BYTES(out, "9\0\0z", 4);
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
}

BOTH(takes_nothing_and_refuses_too_much)
{
    uint8_t byte = 7;
    struct disk_file *f = create(b, "a");
    CHECK_EQ(put(b, f, 100, &byte, 0), 0);
    CHECK_EQ(stat_file(b, f).size_bytes, 0);
    CHECK_EQ(get(b, f, 0, &byte, 0), 0);
    CHECK_RC((int)put(b, f, UINT64_MAX, &byte, 1), EINVAL);
    CHECK_RC((int)put(b, f, INT64_MAX, &byte, 1), EINVAL);
    CHECK_RC((int)get(b, f, UINT64_MAX, &byte, 1), EINVAL);
    CHECK_RC((int)get(b, f, (uint64_t)INT64_MAX + 1, &byte, 0), EINVAL);
    CHECK_EQ(get(b, f, INT64_MAX - 1, &byte, 1), 0);
    CHECK_RC((int)put(b, f, UINT64_C(1) << 60, &byte, 1), EFBIG);
    CHECK_RC((int)on_range(b, DISK_TRUNCATE, f, 0, UINT64_MAX), EINVAL);
    CHECK_RC((int)on_range(b, DISK_TRUNCATE, f, 0, UINT64_C(1) << 60), EFBIG);
    CHECK_RC((int)on_range(b, DISK_ALLOCATE, f, 0, 0), EINVAL);
    CHECK_RC((int)on_range(b, DISK_ALLOCATE, f, UINT64_C(1) << 60, 5), EFBIG);
    CHECK_RC((int)on_range(b, DISK_ALLOCATE, f, INT64_MAX, 5), EINVAL);
    CHECK_RC((int)on_range(b, DISK_PUNCH, f, 3, 0), EINVAL);
    const struct iovec huge[2] = {{&byte, SIZE_MAX}, {&byte, SIZE_MAX}};
    struct disk_req req = {.op = DISK_WRITE, .file = f, .iov = huge, .iov_count = 2};
    CHECK_RC((int)run(b, &req), EINVAL);
    CHECK_EQ(stat_file(b, f).size_bytes, 0);
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
}

/* More pieces than the window of one system call, empty ones among them. */
BOTH(gathers_and_scatters)
{
    enum { PIECES = 150, LEN = PIECES * 7 };
    uint8_t from[LEN], to[LEN + 8];
    struct iovec out[PIECES], back[PIECES];
    size_t out_at = 0;
    for (size_t i = 0; i < LEN; i++) {
        from[i] = (uint8_t)(i * 31 + i / 251);
    }
    for (size_t i = 0; i < PIECES; i++) {
        size_t len = i == PIECES - 1 ? LEN - out_at : i % 14;
        out[i] = (struct iovec){from + out_at, len};
        back[i] = (struct iovec){to + i * 7, 7};
        out_at += len;
    }
    memset(to, 0, sizeof to);
    struct disk_file *f = create(b, "a");
    struct disk_req req = {
        .op = DISK_WRITE, .file = f, .offset = 3, .iov = out, .iov_count = PIECES};
    CHECK_EQ(run(b, &req), LEN);
    req = (struct disk_req){
        .op = DISK_READ, .file = f, .offset = 3, .iov = back, .iov_count = PIECES};
    CHECK_EQ(run(b, &req), LEN);
    CHECK_BYTES(to, from, LEN);
    req.offset = 3 + 100; /* ends within the vector */
    CHECK_EQ(run(b, &req), LEN - 100);
    CHECK_BYTES(to, from + 100, LEN - 100);
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
}

BOTH(moves_large_data)
{
    size_t len = (3u << 20) + 12345;
    CLEANUP(mem_freep) uint8_t *from = mem_alloc(len), *to = mem_zalloc(len + 1);
    CHECK_TRUE(from != NULL && to != NULL);
    for (size_t i = 0; i < len; i++) {
        from[i] = (uint8_t)(i * 2654435761u >> 13);
    }
    struct disk_file *f = create(b, "a");
    CHECK_EQ(put(b, f, 777, from, len), len);
    CHECK_EQ(on_file(b, DISK_SYNC, f), 0);
    CHECK_EQ(get(b, f, 777, to, len + 1), len);
    CHECK_BYTES(to, from, len);
    CHECK_EQ(stat_file(b, f).size_bytes, 777 + len);
    CHECK_TRUE(stat_file(b, f).allocated_bytes >= len);
    CHECK_TRUE(stat_file(b, f).mtime_ns > 0 || b->sim != NULL);
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
}

BOTH(truncates)
{
    uint8_t out[16] = {1};
    struct disk_file *f = create(b, "a");
    CHECK_EQ(put(b, f, 4090, "0123456789", 10), 10);
    CHECK_EQ(on_range(b, DISK_TRUNCATE, f, 0, 4093), 0);
    CHECK_EQ(stat_file(b, f).size_bytes, 4093);
    CHECK_EQ(on_range(b, DISK_TRUNCATE, f, 0, 8192), 0);
    CHECK_EQ(get(b, f, 4090, out, 10), 10);
    CHECK_BYTES(out, "012\0\0\0\0\0\0\0", 10); /* what was cut off does not come back */
    CHECK_EQ(on_range(b, DISK_TRUNCATE, f, 0, 0), 0);
    CHECK_EQ(get(b, f, 0, out, 10), 0);
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
}

BOTH(allocates_and_punches)
{
    uint8_t out[8], full[4096];
    memset(full, 'f', sizeof full);
    struct disk_file *f = create(b, "a");
    struct disk_req keep = {.op = DISK_ALLOCATE, .file = f, .len = 65536, .flags = DISK_KEEP_SIZE};
    CHECK_EQ(run(b, &keep), 0);
    CHECK_EQ(stat_file(b, f).size_bytes, 0);
    CHECK_TRUE(stat_file(b, f).allocated_bytes >= 65536);
    CHECK_EQ(on_range(b, DISK_ALLOCATE, f, 4096, 61440), 0);
    CHECK_EQ(stat_file(b, f).size_bytes, 65536);
    for (uint64_t at = 0; at < 65536; at += 4096) {
        CHECK_EQ(put(b, f, at, full, sizeof full), 4096);
    }
    CHECK_EQ(on_range(b, DISK_PUNCH, f, 4095, 32768), 0);
    CHECK_EQ(stat_file(b, f).size_bytes, 65536);
    CHECK_TRUE(stat_file(b, f).allocated_bytes <= 65536 - 7 * 4096);
    CHECK_EQ(get(b, f, 4094, out, 3), 3);
    CHECK_BYTES(out, "f\0\0", 3);
    CHECK_EQ(get(b, f, 4095 + 32767, out, 2), 2);
    CHECK_BYTES(out, "\0f", 2);
    CHECK_EQ(on_range(b, DISK_PUNCH, f, 1 << 20, 4096), 0); /* behind the end: nothing there */
    CHECK_EQ(stat_file(b, f).size_bytes, 65536);
    CHECK_EQ(put(b, f, 8192, full, sizeof full), 4096);
    uint64_t allocated = stat_file(b, f).allocated_bytes;
    struct disk_req zero = {
        .op = DISK_PUNCH, .file = f, .offset = 8192, .len = 4096, .flags = DISK_KEEP_SIZE};
    int64_t rc = run(b, &zero); /* not everywhere */
    CHECK_TRUE(rc == 0 || rc == -EOPNOTSUPP);
    if (rc == 0) {
        CHECK_EQ(get(b, f, 8192, out, 3), 3);
        CHECK_BYTES(out, "\0\0\0", 3);
        CHECK_TRUE(stat_file(b, f).allocated_bytes >= allocated);
    }
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
}

BOTH(renames)
{
    struct disk_file *a = create(b, "a"), *c = create(b, "c");
    uint8_t out[4];
    CHECK_EQ(put(b, a, 0, "aaa", 3), 3);
    CHECK_EQ(put(b, c, 0, "ccc", 3), 3);
    CHECK_EQ(on_paths(b, DISK_RENAME, "a", "c"), 0);
    CHECK_RC((int)on_path(b, DISK_STAT, "a"), ENOENT);
    CHECK_EQ(get(b, c, 0, out, 3), 3); /* replaced, still open */
    CHECK_BYTES(out, "ccc", 3);
    CHECK_EQ(on_file(b, DISK_CLOSE, c), 0);
    CHECK_EQ(on_file(b, DISK_CLOSE, a), 0);
    CHECK_EQ(open_file(b, "c", DISK_READ_ONLY, &c), 0);
    CHECK_EQ(get(b, c, 0, out, 3), 3);
    CHECK_BYTES(out, "aaa", 3);
    CHECK_EQ(on_file(b, DISK_CLOSE, c), 0);
    CHECK_RC((int)on_paths(b, DISK_RENAME, "a", "b"), ENOENT);
    CHECK_RC((int)on_paths(b, DISK_RENAME, "c", "none/c"), ENOENT);
    CHECK_RC((int)on_paths(b, DISK_RENAME, "c", "c/x"), ENOTDIR);
    CHECK_EQ(on_paths(b, DISK_RENAME, "c", "c"), 0);
    CHECK_EQ(on_path(b, DISK_MKDIR, "d"), 0);
    CHECK_EQ(on_path(b, DISK_MKDIR, "e"), 0);
    CHECK_RC((int)on_paths(b, DISK_RENAME, "c", "d"), EISDIR);
    CHECK_RC((int)on_paths(b, DISK_RENAME, "d", "c"), ENOTDIR);
    CHECK_RC((int)on_paths(b, DISK_RENAME, "d", "d/x"), EINVAL);
    CHECK_EQ(on_paths(b, DISK_RENAME, "c", "d/c"), 0);
    CHECK_RC((int)on_paths(b, DISK_RENAME, "e", "d"), ENOTEMPTY);
    CHECK_EQ(on_paths(b, DISK_RENAME, "d", "e"), 0); /* replaces an empty one */
    CHECK_EQ(on_path(b, DISK_STAT, "e/c"), 0);
}

BOTH(links_and_removes)
{
    uint8_t out[4];
    struct disk_file *f = create(b, "a");
    CHECK_EQ(put(b, f, 0, "one", 3), 3);
    CHECK_EQ(on_paths(b, DISK_LINK, "a", "b"), 0);
    CHECK_RC((int)on_paths(b, DISK_LINK, "a", "b"), EEXIST);
    CHECK_RC((int)on_paths(b, DISK_LINK, "none", "c"), ENOENT);
    CHECK_EQ(on_path(b, DISK_REMOVE, "a"), 0);
    CHECK_RC((int)on_path(b, DISK_REMOVE, "a"), ENOENT);
    CHECK_EQ(on_path(b, DISK_STAT, "b"), 0);
    CHECK_EQ(on_path(b, DISK_REMOVE, "b"), 0);
    CHECK_EQ(get(b, f, 0, out, 3), 3); /* without a name, still open */
    CHECK_BYTES(out, "one", 3);
    CHECK_EQ(on_file(b, DISK_SYNC, f), 0);
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
    CHECK_EQ(on_path(b, DISK_MKDIR, "d"), 0);
    CHECK_RC((int)on_path(b, DISK_MKDIR, "d"), EEXIST);
    CHECK_RC((int)on_paths(b, DISK_LINK, "d", "e"), EPERM);
    CHECK_EQ(on_path(b, DISK_MKDIR, "d/e"), 0);
    CHECK_RC((int)on_path(b, DISK_REMOVE, "d"), ENOTEMPTY);
    CHECK_EQ(on_path(b, DISK_REMOVE, "d/e"), 0);
    CHECK_EQ(on_path(b, DISK_REMOVE, "d"), 0);
    CHECK_RC((int)on_path(b, DISK_MKDIR, "none/d"), ENOENT);
}

BOTH(lists_sorted)
{
    struct disk_req req = {.op = DISK_LIST, .path = in(b, "d")};
    CHECK_RC((int)run(b, &req), ENOENT);
    CHECK_EQ(on_path(b, DISK_MKDIR, "d"), 0);
    CHECK_EQ(run(b, &req), 0);
    CHECK_EQ(req.names->count, 0);
    mem_free(req.names);
    static const char *const names[] = {"d/b", "d/a", "d/\xff", "d/aa", "d/B", "d/.x"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        CHECK_EQ(on_file(b, DISK_CLOSE, create(b, names[i])), 0);
    }
    req.path = in(b, "d");
    CHECK_EQ(run(b, &req), 6);
    CHECK_EQ(req.names->count, 6);
    static const char *const sorted[] = {".x", "B", "a", "aa", "b", "\xff"};
    for (size_t i = 0; i < ARRAY_COUNT(sorted); i++) {
        CHECK_TEXT(req.names->name[i], sorted[i]);
    }
    mem_free(req.names);
    CHECK_RC((int)on_path(b, DISK_LIST, "d/a"), ENOTDIR);
    CHECK_RC((int)on_path(b, DISK_SYNC_DIR, "d/a"), ENOTDIR);
    CHECK_RC((int)on_path(b, DISK_SYNC_DIR, "none"), ENOENT);
    CHECK_EQ(on_path(b, DISK_SYNC_DIR, "d"), 0);
}

BOTH(tells_what_there_is)
{
    struct disk_req req = {.op = DISK_STAT, .path = in(b, "")};
    CHECK_EQ(run(b, &req), 0);
    CHECK_TRUE(req.stat.directory);
    struct disk_file *f = create(b, "a");
    CHECK_EQ(put(b, f, 8191, "x", 1), 1);
    req = (struct disk_req){.op = DISK_STAT, .path = in(b, "a")};
    CHECK_EQ(run(b, &req), 0);
    CHECK_TRUE(!req.stat.directory);
    CHECK_EQ(req.stat.size_bytes, 8192);
    CHECK_TRUE(req.stat.allocated_bytes < 8192 || b->sim == NULL);
    req = (struct disk_req){.op = DISK_STATFS, .path = in(b, "a")};
    CHECK_EQ(run(b, &req), 0);
    CHECK_TRUE(req.stat.free_bytes > 0 && req.stat.free_bytes <= req.stat.total_bytes);
    CHECK_RC((int)on_path(b, DISK_STATFS, "none"), ENOENT);
    CHECK_RC((int)on_path(b, DISK_STAT, "none"), ENOENT);
    CHECK_EQ(disk_file_fd(f) >= 0, b->sim == NULL);
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
}

BOTH(locks_out_other_opens)
{
    struct disk_file *first = create(b, "a"), *second = create(b, "a");
    CHECK_EQ(on_file(b, DISK_LOCK, first), 0);
    CHECK_EQ(on_file(b, DISK_LOCK, first), 0);
    CHECK_RC((int)on_file(b, DISK_LOCK, second), ERR_in_use);
    struct disk_file *third = create(b, "a");
    CHECK_EQ(on_file(b, DISK_CLOSE, third), 0); /* does not drop it, as fcntl's locks would */
    CHECK_RC((int)on_file(b, DISK_LOCK, second), ERR_in_use);
    CHECK_EQ(on_file(b, DISK_CLOSE, first), 0);
    CHECK_EQ(on_file(b, DISK_LOCK, second), 0);
    CHECK_EQ(on_file(b, DISK_CLOSE, second), 0);
}

BOTH(wants_alignment_for_direct)
{
    CLEANUP(mem_freep) uint8_t *bytes = mem_aligned(4096, 8192);
    struct disk_file *f = NULL;
    CHECK_TRUE(bytes != NULL);
    memset(bytes, 'd', 8192);
    int64_t rc = open_file(b, "a", DISK_READ_WRITE | DISK_CREATE | DISK_DIRECT, &f);
    if (rc == -EINVAL) {
        testing_skip("no direct I/O on the file system of the test");
    }
    CHECK_EQ(rc, 0);
    CHECK_EQ(put(b, f, 4096, bytes, 4096), 4096);
    CHECK_RC((int)put(b, f, 512, bytes, 4096), EINVAL);
    CHECK_RC((int)put(b, f, 0, bytes, 4095), EINVAL);
    CHECK_RC((int)put(b, f, 0, bytes + 8, 4096), EINVAL);
    memset(bytes, 0, 8192);
    struct disk_req req = {.op = DISK_READ, .file = f, .offset = 4096, .buf = bytes, .len = 4096};
    CHECK_RC((int)disk_try_read(b->disk, &req), EAGAIN); /* would wait for the device */
    CHECK_EQ(get(b, f, 4096, bytes, 8192), 4096);
    CHECK_EQ(bytes[4095], 'd');
    CHECK_EQ(on_range(b, DISK_TRUNCATE, f, 0, 4196), 0); /* ends within a unit */
    CHECK_EQ(get(b, f, 0, bytes, 8192), 4196);
    CHECK_EQ(get(b, f, 4096, bytes, 8192), 100);
    CHECK_TRUE(!disk_resident(b->disk, f, 0, 4096));
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
}

static void need_direct(struct bench *b)
{
    struct disk_file *f = NULL;
    if (open_file(b, "direct", DISK_READ_WRITE | DISK_CREATE | DISK_DIRECT, &f) == -EINVAL) {
        testing_skip("no direct I/O on the file system of the test");
    }
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
}

/* Of a file that others read and write through the page cache at the same time. */
BOTH(reads_past_the_page_cache)
{
    CLEANUP(mem_freep) uint8_t *bytes = mem_aligned(4096, 12288);
    need_direct(b);
    struct disk_file *f = create(b, "a");
    CHECK_TRUE(bytes != NULL);
    memset(bytes, 'p', 12288);
    CHECK_EQ(put(b, f, 0, bytes, 10000), 10000); /* and nobody has synced it */
    memset(bytes, 0, 12288);
    struct disk_req req = {.op = DISK_READ,
                           .flags = DISK_PAST_CACHE,
                           .file = f,
                           .offset = 4096,
                           .buf = bytes,
                           .len = 8192};
    CHECK_EQ(run(b, &req), 5904); /* the end of the file */
    CHECK_EQ(bytes[0], 'p');
    CHECK_EQ(bytes[5903], 'p');
    CHECK_EQ(put(b, f, 4096, "new", 3), 3);
    req.len = 4096;
    CHECK_EQ(run(b, &req), 4096); /* by the descriptor that is there now */
    CHECK_BYTES(bytes, "newp", 4);
    CHECK_RC((int)disk_try_read(b->disk, &req), EAGAIN);
    req.offset = 12288;
    CHECK_EQ(run(b, &req), 0);
    req.offset = 512;
    CHECK_RC((int)run(b, &req), EINVAL);
    req.offset = 0;
    req.len = 100;
    CHECK_RC((int)run(b, &req), EINVAL);
    CHECK_EQ(on_path(b, DISK_REMOVE, "a"), 0); /* whoever has the name now, it is not asked */
    struct disk_file *other = create(b, "a");
    req.len = 4096;
    CHECK_EQ(run(b, &req), 4096);
    CHECK_EQ(bytes[0], 'p');
    CHECK_EQ(on_file(b, DISK_CLOSE, other), 0);
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
}

/* The name is another file's already when the first such read comes. */
BOTH(reads_past_the_page_cache_of_a_file_without_a_name)
{
    CLEANUP(mem_freep) uint8_t *bytes = mem_aligned(4096, 4096);
    need_direct(b);
    struct disk_file *f = create(b, "a");
    CHECK_TRUE(bytes != NULL);
    CHECK_EQ(put(b, f, 0, "mine", 4), 4);
    CHECK_EQ(on_path(b, DISK_REMOVE, "a"), 0);
    struct disk_file *other = create(b, "a");
    CHECK_EQ(put(b, other, 0, "others", 6), 6);
    struct disk_req req = {
        .op = DISK_READ, .flags = DISK_PAST_CACHE, .file = f, .buf = bytes, .len = 4096};
    CHECK_EQ(run(b, &req), 4);
    CHECK_BYTES(bytes, "mine", 4);
    CHECK_EQ(on_file(b, DISK_CLOSE, other), 0);
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
}

BOTH(brings_into_the_page_cache)
{
    CLEANUP(mem_freep) uint8_t *bytes = mem_zalloc(100000);
    struct disk_file *f = create(b, "a");
    CHECK_TRUE(bytes != NULL);
    CHECK_EQ(put(b, f, 0, bytes, 100000), 100000);
    CHECK_EQ(on_range(b, DISK_FETCH, f, 0, 100000), 100000);
    CHECK_EQ(on_range(b, DISK_FETCH, f, 4096, 1), 1);
    CHECK_EQ(on_range(b, DISK_FETCH, f, 90000, 100000), 10000); /* the end of the file */
    CHECK_EQ(on_range(b, DISK_FETCH, f, 100000, 4096), 0);
    CHECK_RC((int)on_range(b, DISK_FETCH, f, UINT64_MAX, 1), EINVAL);
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
}

BOTH(reads_at_once_or_not_at_all)
{
    uint8_t out[8];
    struct disk_file *f = create(b, "a");
    CHECK_EQ(put(b, f, 0, "01234567", 8), 8);
    unsigned now = 0;
    for (int i = 0; i < 50; i++) {
        struct disk_req req = {.op = DISK_READ, .file = f, .offset = 2, .buf = out, .len = 4};
        int64_t rc = disk_try_read(b->disk, &req);
        CHECK_TRUE(rc == 4 || rc == -EAGAIN);
        if (rc == 4) {
            CHECK_BYTES(out, "2345", 4);
            now++;
        }
        now += disk_resident(b->disk, f, 0, 8) ? 1 : 0;
    }
    CHECK_TRUE(now > 0);
    CHECK_TRUE(now < 100 || b->sim == NULL); /* in simulation both ways are taken */
    CHECK_TRUE(disk_resident(b->disk, f, 0, 0));
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
}

struct sink {
    struct disk_sink base;
    uint8_t bytes[64];
    size_t len, room;
};

static int64_t sink_write(struct disk_sink *s, const void *bytes, size_t len)
{
    struct sink *k = container_of(s, struct sink, base);
    size_t take = len < k->room - k->len ? len : k->room - k->len;
    memcpy(k->bytes + k->len, bytes, take);
    k->len += take;
    return take == 0 ? -EAGAIN : (int64_t)take;
}

static int64_t send_range(struct bench *b, struct disk_file *f, struct disk_sink *s,
                          uint64_t offset, uint64_t len)
{
    struct disk_req req = {.op = DISK_SEND, .file = f, .offset = offset, .len = len, .sink = s};
    return run(b, &req);
}

/* Fills the socket, or what stands for it, so that nothing goes in any more. */
static void sink_fill(struct bench *b, struct sink *s, struct disk_file *f)
{
    for (int i = 0; i < 10000; i++) {
        int64_t rc = send_range(b, f, &s->base, 0, 10);
        if (rc == -EAGAIN) {
            return;
        }
        CHECK_TRUE(rc > 0);
    }
    CHECK_TRUE(!"full at some time");
}

BOTH(sends)
{
    int pair[2] = {-1, -1};
    struct sink s = {.base = {.fd = -1, .write = sink_write}, .room = sizeof s.bytes};
    if (b->sim == NULL) {
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
        s.base.fd = pair[0];
    }
    struct disk_file *f = create(b, "a");
    CHECK_EQ(put(b, f, 0, "0123456789", 10), 10);
    CHECK_EQ(send_range(b, f, &s.base, 2, 5), 5);
    CHECK_EQ(send_range(b, f, &s.base, 8, 100), 2);
    CHECK_EQ(send_range(b, f, &s.base, 10, 1), 0);
    CHECK_EQ(send_range(b, f, &s.base, 0, 0), 0);
    CHECK_RC((int)send_range(b, f, &s.base, UINT64_MAX, 1), EINVAL);
    if (b->sim == NULL) {
        s.len = (size_t)read(pair[1], s.bytes, sizeof s.bytes);
    }
    CHECK_EQ(s.len, 7);
    CHECK_BYTES(s.bytes, "2345689", 7);
    sink_fill(b, &s, f);
    if (b->sim == NULL) {
        close(pair[1]);
        CHECK_RC((int)send_range(b, f, &s.base, 0, 4), EPIPE); /* and no signal */
        close(pair[0]);
    }
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
}

/* Many at once: each is answered exactly once, whatever the order. */
BOTH(runs_many_at_once)
{
    enum { COUNT = 300 };
    static struct waiting w[COUNT];
    static uint32_t value[COUNT];
    struct disk_file *f = create(b, "a");
    for (unsigned round = 0; round < 2; round++) {
        memset(w, 0, sizeof w);
        for (uint32_t i = 0; i < COUNT; i++) {
            value[i] = round == 0 ? i * 3 : UINT32_MAX;
            w[i].req = (struct disk_req){.op = round == 0 ? DISK_WRITE : DISK_READ,
                                         .file = f,
                                         .offset = (uint64_t)i * 4,
                                         .buf = &value[i],
                                         .len = 4,
                                         .done = waiting_done};
            disk_submit(b->disk, &w[i].req);
        }
        CHECK_EQ(disk_in_flight(b->disk), COUNT);
        for (int i = 0; i < ROUNDS_MAX && disk_in_flight(b->disk) > 0; i++) {
            bench_turn(b);
        }
        for (uint32_t i = 0; i < COUNT; i++) {
            CHECK_TRUE(w[i].done);
            CHECK_EQ(w[i].rc, 4);
            CHECK_EQ(value[i], i * 3);
        }
    }
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
}

BOTH(answers_now)
{
    uint8_t out[4] = {'a', 'b', 'c', 'd'};
    struct disk_req req = {
        .op = DISK_OPEN, .path = in(b, "a"), .flags = DISK_READ_WRITE | DISK_CREATE};
    CHECK_EQ(disk_now(b->disk, &req), 0);
    struct disk_file *f = req.file;
    req = (struct disk_req){.op = DISK_WRITE, .file = f, .buf = out, .len = 4};
    CHECK_EQ(disk_now(b->disk, &req), 4);
    req = (struct disk_req){.op = DISK_READ, .file = f, .offset = 2, .buf = out, .len = 4};
    CHECK_EQ(disk_now(b->disk, &req), 2);
    CHECK_BYTES(out, "cd", 2);
    req = (struct disk_req){.op = DISK_READ, .file = f, .offset = UINT64_MAX};
    CHECK_RC((int)disk_now(b->disk, &req), EINVAL);
    req = (struct disk_req){.op = DISK_CLOSE, .file = f};
    CHECK_EQ(disk_now(b->disk, &req), 0);
}

BOTH(stores_and_loads)
{
    void *bytes = NULL;
    size_t len = 0;
    const char *path = in(b, "config");
    CHECK_RC(disk_load(b->disk, path, 100, &bytes, &len), ENOENT);
    CHECK_OK(disk_store(b->disk, path, "first", 5));
    CHECK_OK(disk_store(b->disk, path, "second one", 10));
    CHECK_OK(disk_load(b->disk, path, 100, &bytes, &len));
    CHECK_EQ(len, 10);
    CHECK_TEXT((const char *)bytes, "second one"); /* ends with a zero */
    mem_free(bytes);
    CHECK_OK(disk_load(b->disk, path, 10, &bytes, &len));
    mem_free(bytes);
    CHECK_RC(disk_load(b->disk, path, 9, &bytes, &len), EFBIG);
    CHECK_OK(disk_store(b->disk, path, "", 0));
    CHECK_OK(disk_load(b->disk, path, 0, &bytes, &len));
    CHECK_EQ(len, 0);
    mem_free(bytes);
    struct disk_req list = {.op = DISK_LIST, .path = in(b, "")};
    CHECK_EQ(run(b, &list), 1); /* no temporary file is left */
    mem_free(list.names);
    CHECK_RC(disk_store(b->disk, in(b, "none/x"), "x", 1), ENOENT);
    CHECK_EQ(on_path(b, DISK_MKDIR, "d"), 0);
    CHECK_RC(disk_store(b->disk, in(b, "d"), "x", 1), EISDIR);
    CHECK_RC(disk_load(b->disk, in(b, "d"), 9, &bytes, &len), EISDIR);
}

struct seen {
    struct disk_observer observer;
    unsigned begun, ended, errors;
    enum disk_op last;
    uint64_t longest_ns;
};

static void seen_begun(struct disk_observer *o)
{
    container_of(o, struct seen, observer)->begun++;
}

static void seen_ended(struct disk_observer *o, const struct disk_req *req, int64_t rc, uint64_t ns)
{
    struct seen *s = container_of(o, struct seen, observer);
    s->ended++;
    s->errors += rc < 0;
    s->last = req->op;
    s->longest_ns = base_max(s->longest_ns, ns);
}

BOTH(tells_an_observer_what_requests_take_and_return)
{
    struct seen s = {.observer = {.begun = seen_begun, .ended = seen_ended}};
    b->disk->observer = &s.observer;
    struct disk_file *f = create(b, "file");
    CHECK_EQ(s.begun, 1);
    CHECK_EQ(s.ended, 1);
    CHECK_EQ(s.last, DISK_OPEN);
    char bytes[] = "abc";
    struct disk_req write = {.op = DISK_WRITE, .file = f, .buf = bytes, .len = 3};
    CHECK_EQ(run(b, &write), 3);
    CHECK_EQ(s.last, DISK_WRITE);
    CHECK_EQ(on_file(b, DISK_SYNC, f), 0);
    CHECK_EQ(s.last, DISK_SYNC);
    CHECK_TRUE(s.longest_ns > 0);
    CHECK_EQ(s.errors, 0);
    CHECK_RC((int)on_path(b, DISK_REMOVE, "none"), ENOENT);
    CHECK_EQ(s.errors, 1);
    CHECK_EQ(s.begun, 4);
    struct disk_req bad = {.op = DISK_PUNCH, .file = f}; /* refused: it never gets there */
    CHECK_RC((int)run(b, &bad), EINVAL);
    CHECK_EQ(s.begun, 4);
    CHECK_EQ(s.ended, 4);
    b->disk->observer = NULL;
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
    CHECK_EQ(s.begun, 4);
}

/* Beside a request of people few others begin, and those are told apart; all are answered. */
BOTH(begins_little_of_the_background_beside_people)
{
    enum { COUNT = 4 };
    static const struct {
        enum disk_lane lane;
        unsigned begun;
    } lanes[] = {{DISK_COPYING, 1}, {DISK_SCRUBBING, 1}, {DISK_FOREGROUND, COUNT}};
    static struct waiting w[COUNT + 1];
    struct disk_file *f = create(b, "file");
    struct seen s = {.observer = {.begun = seen_begun, .ended = seen_ended}};
    b->disk->observer = &s.observer;
    for (size_t k = 0; k < ARRAY_COUNT(lanes); k++) {
        char byte = 'x';
        s.begun = s.ended = 0;
        for (unsigned i = 0; i <= COUNT; i++) {
            w[i] = (struct waiting){.req = {.op = DISK_WRITE,
                                            .lane = i == 0 ? DISK_FOREGROUND : lanes[k].lane,
                                            .file = f,
                                            .offset = i,
                                            .buf = &byte,
                                            .len = 1,
                                            .done = waiting_done}};
            disk_submit(b->disk, &w[i].req);
        }
        CHECK_EQ(disk_in_flight(b->disk), COUNT + 1);
        CHECK_EQ(s.begun, 1 + lanes[k].begun);
        for (int i = 0; i < ROUNDS_MAX && disk_in_flight(b->disk) > 0; i++) {
            bench_turn(b);
        }
        CHECK_EQ(s.begun, COUNT + 1);
        CHECK_EQ(s.ended, COUNT + 1);
        for (unsigned i = 0; i <= COUNT; i++) {
            CHECK_TRUE(w[i].done);
            CHECK_EQ(w[i].rc, 1);
        }
    }
    b->disk->observer = NULL;
    CHECK_EQ(on_file(b, DISK_CLOSE, f), 0);
}

BOTH(makes_directories)
{
    CHECK_OK(disk_make_directories(b->disk, in(b, "x//y/z/")));
    CHECK_OK(disk_make_directories(b->disk, in(b, "x/y/z")));
    CHECK_OK(disk_make_directories(b->disk, "/"));
    CHECK_EQ(on_path(b, DISK_STAT, "x/y/z"), 0);
    CHECK_RC(disk_make_directories(b->disk, ""), ENOENT);
    CHECK_EQ(on_file(b, DISK_CLOSE, create(b, "file")), 0);
    CHECK_RC(disk_make_directories(b->disk, in(b, "file")), ENOTDIR);
    CHECK_RC(disk_make_directories(b->disk, in(b, "file/x")), ENOTDIR);
}

/* A file whose size the kernel does not tell. */
TEST(pool_loads_what_has_no_size)
{
    const struct loop_options options = {.name = "test"};
    struct loop *loop = NULL;
    struct disk *d = NULL;
    void *bytes = NULL;
    size_t len = 0;
    CHECK_OK(loop_new(&options, &loop, NULL));
    const struct env env = {.loop = loop};
    CHECK_OK(disk_pool_new(&env, &(struct disk_pool_options){.max_threads = 1}, &d));
    CHECK_OK(disk_load(d, "/proc/self/status", DISK_SMALL_MAX, &bytes, &len));
    CHECK_TRUE(len > 100);
    CHECK_EQ(strlen(bytes), len);
    mem_free(bytes);
    CHECK_RC(disk_load(d, "/proc/self/status", 100, &bytes, &len), EFBIG);
    disk_free(d);
    loop_free(loop);
}
