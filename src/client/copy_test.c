#include "client/io_priv.h"

#include "client/fake_beside_priv.h"
#include "testing/testing.h"

/* copy_file_range: bytes, holes, ends, and what cannot be. */

#define RW (OPENDFS_READ | OPENDFS_WRITE)
#define MAKE (RW | OPENDFS_CREATE)
#define CHUNK ((uint64_t)FAKE_CHUNK_BYTES)
#define CELL 4096u
#define FILE_BYTES (8 * CHUNK)

static uint8_t bytes[FILE_BYTES], got[FILE_BYTES + 1];

struct two {
    struct world w;
    struct opendfs_file *from, *to;
};

static void begin(struct two *t)
{
    world_open(&t->w, testing_seed());
    t->w.cluster->available = UINT64_C(1) << 40;
    world_start(&t->w);
    world_fill(bytes, sizeof bytes, 1);
    t->from = world_file(&t->w, "/from", MAKE);
    t->to = world_file(&t->w, "/to", MAKE);
}
static void finish(struct two *t)
{
    CHECK_OK(DO(&t->w, close, t->from, NULL, 0));
    CHECK_OK(DO(&t->w, close, t->to, NULL, 0));
    world_close(&t->w);
}
static int64_t copy(struct two *t, uint64_t from, uint64_t to, uint64_t len)
{
    const struct opendfs_copy what = {t->from, t->to, from, to, len};
    (void)DO(&t->w, copy_range, &what);
    return t->w.op.result;
}
static void put(struct two *t, struct opendfs_file *f, uint64_t at, size_t len)
{
    CHECK_EQ(DO(&t->w, pwrite, f, bytes + at, len, at), (int)len);
}
static void check_to(struct two *t, uint64_t at, const uint8_t *expected, size_t len)
{
    CHECK_EQ(DO(&t->w, pread, t->to, got, len, at), (int)len);
    CHECK_BYTES(got, expected, len);
}

TEST(files_of_all_sizes_are_copied)
{
    static const size_t sizes[] = {1, 100, 4096, 5000, CHUNK, CHUNK + 1, FILE_BYTES};
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        struct two t;
        begin(&t);
        put(&t, t.from, 0, sizes[i]);
        CHECK_EQ(copy(&t, 0, 0, FILE_BYTES * 2), (int64_t)sizes[i]); /* the source ends */
        check_to(&t, 0, bytes, sizes[i]);
        CHECK_EQ(copy(&t, sizes[i], 0, 10), 0);
        CHECK_OK(DO(&t.w, fstat, t.to));
        CHECK_EQ(t.w.op.stat.size_bytes, sizes[i]);
        finish(&t);
    }
}

TEST(any_range_goes_anywhere)
{
    struct two t;
    struct rand r;
    static uint8_t model[FILE_BYTES];
    begin(&t);
    rand_seed(&r, testing_seed());
    put(&t, t.from, 0, FILE_BYTES);
    memset(model, 0, sizeof model);
    CHECK_OK(DO(&t.w, ftruncate, t.to, FILE_BYTES));
    for (unsigned i = 0; i < 40; i++) {
        uint64_t len = rand_below(&r, 3 * CHUNK) + 1, from = rand_below(&r, FILE_BYTES - len);
        uint64_t to = rand_below(&r, FILE_BYTES - len);
        CHECK_EQ(copy(&t, from, to, len), (int64_t)len);
        memcpy(model + to, bytes + from, len);
        check_to(&t, 0, model, FILE_BYTES);
    }
    finish(&t);
}

TEST(holes_stay_holes_also_over_bytes)
{
    struct two t;
    static uint8_t expected[FILE_BYTES];
    begin(&t);
    put(&t, t.from, CHUNK, CHUNK);
    CHECK_OK(DO(&t.w, ftruncate, t.from, 5 * CHUNK));
    put(&t, t.to, 0, 2 * CHUNK + 100);
    unsigned writes = t.w.cluster->writes;
    CHECK_EQ(copy(&t, 0, 0, 5 * CHUNK), (int64_t)(5 * CHUNK));
    memset(expected, 0, sizeof expected);
    memcpy(expected + CHUNK, bytes + CHUNK, CHUNK);
    check_to(&t, 0, expected, 5 * CHUNK);
    CHECK_OK(DO(&t.w, fstat, t.to));
    CHECK_EQ(t.w.op.stat.size_bytes, 5 * CHUNK);
    (void)DO(&t.w, seek, t.to, 0, OPENDFS_SEEK_DATA);
    CHECK_EQ(t.w.op.result, (int64_t)CHUNK);
    (void)DO(&t.w, seek, t.to, CHUNK, OPENDFS_SEEK_HOLE);
    CHECK_EQ(t.w.op.result, (int64_t)(2 * CHUNK));
    CHECK_TRUE(t.w.cluster->writes - writes < 10);
    finish(&t);
}

TEST(a_hole_of_any_size_is_one_call)
{
    struct two t;
    begin(&t);
    uint64_t far = CHUNK << 30;
    CHECK_EQ(DO(&t.w, pwrite, t.from, bytes, 100, far), 100);
    CHECK_OK(DO(&t.w, ftruncate, t.from, OPENDFS_SIZE_MAX / 2));
    /* The largest size that could be written ends the destination. */
    CHECK_EQ(copy(&t, 0, 0, CHUNK << 32), (int64_t)(CHUNK << 32));
    check_to(&t, far, bytes, 100);
    finish(&t);
}

TEST(within_one_file_ranges_must_not_touch)
{
    struct two t;
    begin(&t);
    put(&t, t.from, 0, 3 * CHUNK);
    struct opendfs_copy what = {t.from, t.from, 0, CHUNK - 1, CHUNK};
    CHECK_EQ(DO(&t.w, copy_range, &what), -EINVAL);
    what.to_offset = CHUNK;
    CHECK_EQ(DO(&t.w, copy_range, &what), (int)CHUNK);
    CHECK_EQ(DO(&t.w, pread, t.from, got, CHUNK, CHUNK), (int)CHUNK);
    CHECK_BYTES(got, bytes, CHUNK);
    finish(&t);
}

TEST(files_that_are_not_open_for_it_are_refused)
{
    struct two t;
    begin(&t);
    put(&t, t.from, 0, 100);
    struct opendfs_file *r = world_file(&t.w, "/to", OPENDFS_READ);
    struct opendfs_file *a = world_file(&t.w, "/to", RW | OPENDFS_APPEND);
    const struct opendfs_copy unread = {t.from, r, 0, 0, 10}, append = {t.from, a, 0, 0, 10};
    CHECK_EQ(DO(&t.w, copy_range, &unread), -EBADF);
    CHECK_EQ(DO(&t.w, copy_range, &append), -EBADF);
    CHECK_EQ(copy(&t, 0, OPENDFS_SIZE_MAX, 10), -EFBIG);
    CHECK_OK(DO(&t.w, close, r, NULL, 0));
    CHECK_OK(DO(&t.w, close, a, NULL, 0));
    finish(&t);
}

TEST(a_client_ends_while_it_copies)
{
    struct two t;
    begin(&t);
    put(&t, t.from, 0, FILE_BYTES);
    CHECK_OK(DO(&t.w, fsync, t.from));
    for (unsigned i = 1; i < NODES; i++) {
        t.w.node[i].slow_ns = 10 * SECOND;
    }
    const struct opendfs_copy what = {t.from, t.to, 0, 0, FILE_BYTES};
    opendfs_async_copy_range(t.w.fs, world_op(&t.w), &what);
    world_run(&t.w, SECOND);
    CHECK_EQ(t.w.done, false);
    world_close(&t.w);
    CHECK_EQ(t.w.done, true);
    CHECK_EQ(t.w.op.result, -ECANCELED);
}

/* Nothing is counted that was not written. */
TEST(a_failure_tells_what_was_copied)
{
    struct two t;
    begin(&t);
    put(&t, t.from, 0, CHUNK);
    put(&t, t.from, 4 * CHUNK, CHUNK);
    CHECK_OK(DO(&t.w, fsync, t.from));
    CHECK_EQ(copy(&t, 0, 0, 2 * CHUNK), (int64_t)(2 * CHUNK));
    for (unsigned i = 1; i < NODES; i++) {
        t.w.node[i].write_fault = (struct fake_fault){.rc = -ENOSPC, .count = 1000};
    }
    CHECK_EQ(copy(&t, 0, 0, 6 * CHUNK), -ENOSPC);
    for (unsigned i = 1; i < NODES; i++) {
        t.w.node[i].write_fault.count = 0;
    }
    (void)DO(&t.w, close, t.to, NULL, 0);
    CHECK_OK(DO(&t.w, close, t.from, NULL, 0));
    world_close(&t.w);
}
