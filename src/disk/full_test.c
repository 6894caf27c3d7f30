/*
 * disk/full_test.c -- what a kernel says when a device is full or broken, with threads and with
 * io_uring: a small file system of the test's own, and files of the kernel that fail by design.
 */
#include "disk/disk.h"

#include "base/env.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "testing/testing.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUNDS_MAX 20000
#define SMALL_BYTES (1u << 20)
#define PIECE_BYTES (64u << 10)

struct bench {
    struct env env;
    struct disk *disk;
    char mount[300], path[400];
    uint8_t *piece;
};

static void bench_fini(struct bench *b)
{
    disk_free(b->disk);
    loop_free(b->env.loop);
    mem_free(b->piece);
    if (b->mount[0] != '\0') {
        CHECK_EQ(umount2(b->mount, MNT_DETACH), 0);
    }
}
static void bench_init(struct bench *b, bool uring)
{
    *b = (struct bench){.disk = NULL};
    CHECK_OK(loop_new(&(struct loop_options){.name = "test"}, &b->env.loop, NULL));
    CHECK_OK(disk_pool_new(&b->env, &(struct disk_pool_options){.max_threads = 2}, &b->disk));
    if (uring && disk_pool_use_uring(b->disk) < 0) {
        bench_fini(b);
        testing_skip("this kernel has no io_uring for us");
    }
    b->piece = mem_alloc(SMALL_BYTES);
    CHECK_TRUE(b->piece != NULL);
    memset(b->piece, 'p', SMALL_BYTES);
}
/* A file system of one MiB that only this thread and those it starts see. */
static void mount_small(struct bench *b)
{
    if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) {
        bench_fini(b);
        testing_skip("needs the right to mount, or user namespaces");
    }
    snprintf(b->path, sizeof b->path, "%s/small", testing_directory());
    struct disk_req req = {.op = DISK_MKDIR, .path = b->path};
    CHECK_EQ(disk_now(b->disk, &req), 0);
    bool mounted = mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                   mount("small", b->path, "tmpfs", 0, "size=1m,mode=0700") == 0;
    if (!mounted) {
        bench_fini(b);
        testing_skip("cannot mount a tmpfs");
    }
    memcpy(b->mount, b->path, sizeof b->mount);
    snprintf(b->path, sizeof b->path, "%s/f", b->mount);
}

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
static struct disk_file *opened(struct bench *b, const char *path, uint32_t flags)
{
    struct disk_req req = {.op = DISK_OPEN, .path = path, .flags = flags};
    CHECK_EQ(disk_now(b->disk, &req), 0);
    return req.file;
}
static void closed(struct bench *b, struct disk_file *f)
{
    CHECK_EQ(run(b, &(struct disk_req){.op = DISK_CLOSE, .file = f}), 0);
}
static int64_t put(struct bench *b, struct disk_file *f, uint64_t offset, size_t len)
{
    return run(b, &(struct disk_req){
                      .op = DISK_WRITE, .file = f, .offset = offset, .buf = b->piece, .len = len});
}
/* Writes until it is full; returns how much went in. */
static uint64_t fill_up(struct bench *b, struct disk_file *f)
{
    uint64_t at = 0;
    int64_t rc = PIECE_BYTES;
    for (; at <= SMALL_BYTES && rc == PIECE_BYTES; at += PIECE_BYTES) {
        rc = put(b, f, at, PIECE_BYTES);
    }
    CHECK_EQ(rc, -ENOSPC);
    return at - PIECE_BYTES;
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

BOTH(a_full_disk_refuses_writes_and_keeps_the_rest)
{
    struct bench b;
    bench_init(&b, uring);
    mount_small(&b);
    struct disk_file *f = opened(&b, b.path, DISK_READ_WRITE | DISK_CREATE);
    uint64_t full = fill_up(&b, f);
    CHECK_TRUE(full > 0);
    uint8_t byte = 0;
    struct disk_req get = {.op = DISK_READ, .file = f, .offset = full - 1, .buf = &byte, .len = 1};
    CHECK_EQ(run(&b, &get), 1);
    CHECK_EQ(byte, 'p');
    CHECK_EQ(put(&b, f, 5, 1000), 1000); /* in place needs no space */
    CHECK_EQ(run(&b, &(struct disk_req){.op = DISK_SYNC_ALL, .file = f}), 0);
    struct disk_req stat = {.op = DISK_STATFS, .path = b.mount};
    CHECK_EQ(disk_now(b.disk, &stat), 0);
    CHECK_TRUE(stat.stat.free_bytes < PIECE_BYTES && stat.stat.total_bytes == SMALL_BYTES);
    CHECK_EQ(run(&b, &(struct disk_req){.op = DISK_TRUNCATE, .file = f, .len = 4096}), 0);
    CHECK_EQ(put(&b, f, 4096, PIECE_BYTES), PIECE_BYTES); /* it has come back */
    closed(&b, f);
    bench_fini(&b);
}

BOTH(a_full_disk_refuses_reservations)
{
    struct bench b;
    bench_init(&b, uring);
    mount_small(&b);
    struct disk_file *f = opened(&b, b.path, DISK_READ_WRITE | DISK_CREATE);
    struct disk_req reserve = {.op = DISK_ALLOCATE, .file = f, .len = 2 * (uint64_t)SMALL_BYTES};
    CHECK_EQ(run(&b, &reserve), -ENOSPC);
    reserve.len = SMALL_BYTES / 2;
    CHECK_EQ(run(&b, &reserve), 0);
    for (uint64_t at = 0; at < SMALL_BYTES / 2; at += PIECE_BYTES) {
        CHECK_EQ(put(&b, f, at, PIECE_BYTES), PIECE_BYTES); /* what was promised holds */
    }
    closed(&b, f);
    bench_fini(&b);
}

/* The old contents stay, and no half of the new lies about. */
BOTH(a_full_disk_does_not_hurt_what_is_replaced)
{
    struct bench b;
    bench_init(&b, uring);
    mount_small(&b);
    CLEANUP(mem_freep) void *bytes = NULL;
    size_t len = 0;
    CHECK_OK(disk_store(b.disk, b.path, b.piece, SMALL_BYTES / 2));
    memset(b.piece, 'n', SMALL_BYTES);
    CHECK_RC(disk_store(b.disk, b.path, b.piece, SMALL_BYTES - 4096), ENOSPC);
    CHECK_OK(disk_load(b.disk, b.path, SMALL_BYTES, &bytes, &len));
    CHECK_TRUE(len == SMALL_BYTES / 2 && memcmp(bytes, "pppp", 4) == 0);
    struct disk_req list = {.op = DISK_LIST, .path = b.mount};
    CHECK_EQ(disk_now(b.disk, &list), 1);
    mem_free(list.names);
    bench_fini(&b);
}

BOTH(a_device_that_is_always_full)
{
    struct bench b;
    bench_init(&b, uring);
    struct disk_file *f = opened(&b, "/dev/full", DISK_READ_WRITE);
    CHECK_EQ(put(&b, f, 0, 100), -ENOSPC);
    CHECK_EQ(put(&b, f, 0, PIECE_BYTES), -ENOSPC);
    closed(&b, f);
    bench_fini(&b);
}

/* Memory of the process as a file: behind the end of a mapped file, the kernel says EIO. */
BOTH(errors_of_the_medium_come_back)
{
    struct bench b;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    bench_init(&b, uring);
    memset(b.piece, 'm', page);
    snprintf(b.path, sizeof b.path, "%s/f", testing_directory());
    CHECK_OK(disk_store(b.disk, b.path, b.piece, page));
    struct disk_file *mapped = opened(&b, b.path, DISK_READ_WRITE);
    uint8_t *at = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, disk_file_fd(mapped), 0);
    CHECK_TRUE(at != MAP_FAILED);
    struct disk_file *f = opened(&b, "/proc/self/mem", DISK_READ_WRITE);
    memset(b.piece, 0, page);
    struct disk_req req = {
        .op = DISK_READ, .file = f, .offset = (uintptr_t)at, .buf = b.piece, .len = page};
    CHECK_EQ(run(&b, &req), page);
    CHECK_EQ(b.piece[page - 1], 'm');
    req.len = 2 * page; /* half of it can be read: that is no end of the file */
    CHECK_EQ(run(&b, &req), -EIO);
    CHECK_EQ(disk_now(b.disk, &req), -EIO);
    CHECK_EQ(disk_try_read(b.disk, &req), -EAGAIN); /* submit it, and hear */
    CHECK_EQ(put(&b, f, (uintptr_t)at + page, 10), -EIO);
    CHECK_EQ(put(&b, f, (uintptr_t)at + page - 5, 10), -EIO); /* of a part that went in */
    closed(&b, f);
    closed(&b, mapped);
    CHECK_EQ(munmap(at, 2 * page), 0);
    bench_fini(&b);
}

BOTH(sending_to_a_closed_socket_is_an_error_not_a_signal)
{
    struct bench b;
    int fd[2];
    bench_init(&b, uring);
    snprintf(b.path, sizeof b.path, "%s/f", testing_directory());
    CHECK_OK(disk_store(b.disk, b.path, b.piece, SMALL_BYTES));
    struct disk_file *f = opened(&b, b.path, DISK_READ_ONLY);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    struct disk_sink sink = {.fd = fd[0]};
    struct disk_req send = {.op = DISK_SEND, .file = f, .len = SMALL_BYTES, .sink = &sink};
    int64_t sent = run(&b, &send);
    CHECK_TRUE(sent > 0 && sent < SMALL_BYTES); /* short: the buffers of the socket are full */
    CHECK_EQ(run(&b, &send), -EAGAIN);
    close(fd[1]);
    CHECK_EQ(run(&b, &send), -EPIPE);
    close(fd[0]);
    closed(&b, f);
    bench_fini(&b);
}
