/* chunk/update_test.c -- a store in a real directory, on the pool of threads. */
#include "base/crc32c.h"
#include "base/env.h"
#include "base/mem.h"
#include "chunk/read.h"
#include "chunk/store.h"
#include "disk/disk.h"
#include "loop/loop.h"
#include "testing/testing.h"

#include <string.h>

#define BIG CHUNK_LENGTH_MAX
#define SMALL_COUNT 50u
#define SMALL 700u

struct bench {
    struct chunk_start start;
    enum chunk_engine engine;
    char *directory;
    struct loop *loop;
    struct disk *disk;
    struct env env;
    struct chunk_store *store;
    struct chunk_user user;
    unsigned done;
    int rc;
};

static void user_failed(struct chunk_user *u, int rc, const char *reason)
{
    (void)reason;
    container_of(u, struct bench, user)->rc = rc;
}
static void user_damaged(struct chunk_user *u, struct chunk_key key)
{
    (void)key;
    container_of(u, struct bench, user)->rc = -EIO;
}
static const struct chunk_user_ops user_ops = {.failed = user_failed, .damaged = user_damaged};

struct call {
    struct bench *b;
    struct chunk_update update;
    struct chunk_sync sync;
    struct chunk_read read;
    struct chunk_stop stop;
};

static void over(struct call *c, int rc)
{
    c->b->done++;
    c->b->rc = c->b->rc == 0 ? rc : c->b->rc;
}
static void update_done(struct chunk_update *u, int rc)
{
    over(container_of(u, struct call, update), rc);
}
static void sync_done(struct chunk_sync *x, int rc)
{
    over(container_of(x, struct call, sync), rc);
}
static void read_done(struct chunk_read *x, int rc)
{
    over(container_of(x, struct call, read), rc);
}
static void stop_done(struct chunk_stop *x, int rc)
{
    over(container_of(x, struct call, stop), rc);
}

static void wait_for(struct bench *b, unsigned count)
{
    for (unsigned rounds = 0; b->done < count; rounds++) {
        CHECK_TRUE(rounds < 1000000);
        loop_run_once(b->loop, 100000000);
    }
    CHECK_OK(b->rc);
    b->done = 0;
}

static void store_started(struct chunk_start *start, int rc)
{
    struct bench *b = container_of(start, struct bench, start);
    b->done++;
    b->rc = rc;
}

static void bench_open(struct bench *b, bool format)
{
    struct chunk_options opt = {.env = &b->env,
                                .engine = b->engine,
                                .directory = b->directory,
                                .cluster = {.bytes = "cluster"},
                                .user = &b->user};
    if (format) {
        struct chunk_format_options f = {.target = {.bytes = "target"}, .fan_out = 4};
        CHECK_OK(chunk_store_format(&opt, &f, NULL));
    }
    CHECK_OK(chunk_store_open(&opt, &b->store, NULL));
    b->start.done = store_started;
    chunk_store_start(b->store, &b->start);
    wait_for(b, 1);
}

static void bench_close(struct bench *b)
{
    struct call c = {.b = b, .stop = {.done = stop_done}};
    chunk_store_stop(b->store, &c.stop);
    wait_for(b, 1);
    b->store = chunk_store_free(b->store);
}

static void update(struct call *c, uint8_t *bytes, uint32_t *crc, struct iovec *iov)
{
    struct chunk_update *u = &c->update;
    u->done = update_done;
    u->kind = CHUNK_WHOLE;
    u->identity = (struct chunk_identity){.aepoch = 1, .ver = 1};
    u->crc_count = chunk_cells(u->new_length);
    for (uint32_t i = 0; i < u->crc_count; i++) {
        crc[i] = crc32c(0, bytes + (size_t)i * CHUNK_CELL, chunk_cell_bytes(u->new_length, i));
    }
    *iov = (struct iovec){.iov_base = bytes, .iov_len = u->new_length};
    u->crc = crc;
    u->data = iov;
    u->data_count = 1;
    chunk_store_update(c->b->store, u);
}

static void read_back(struct bench *b, struct chunk_key key, const uint8_t *bytes, uint32_t length)
{
    uint8_t *to = mem_zalloc(length);
    struct call c = {
        .b = b,
        .read = {
            .done = read_done, .pin = {.key = key, .length = length}, .verify = true, .to = to}};
    CHECK_TRUE(to != NULL);
    chunk_store_read(b->store, &c.read);
    wait_for(b, 1);
    CHECK_EQ(c.read.pin.length, length);
    CHECK_BYTES(to, bytes, length);
    mem_free(to);
}

/* One of 4 MiB and many small ones at once; synced, committed, there after a restart. */
static uint64_t real_directory(enum chunk_engine engine)
{
    struct bench b = {.user = {.ops = &user_ops}, .engine = engine};
    CHECK_OK(loop_new(&(struct loop_options){.name = "test"}, &b.loop, NULL));
    b.env = (struct env){.loop = b.loop};
    CHECK_OK(disk_pool_new(&b.env, &(struct disk_pool_options){.max_threads = 4}, &b.disk));
    b.env.disk = b.disk;
    b.directory = mem_printf("%s/%d", testing_directory(), (int)engine);
    CHECK_OK(disk_make_directories(b.disk, b.directory));
    bench_open(&b, true);
    uint8_t *bytes = mem_alloc(BIG);
    uint32_t *crc = mem_calloc((size_t)CHUNK_CELLS_MAX * (SMALL_COUNT + 1), sizeof *crc);
    struct call *calls = mem_calloc(SMALL_COUNT + 1, sizeof *calls);
    struct iovec iov[SMALL_COUNT + 1];
    CHECK_TRUE(bytes != NULL && crc != NULL && calls != NULL);
    for (uint32_t i = 0; i < BIG; i++) {
        bytes[i] = (uint8_t)(i * 13 + i / 4099 + 1);
    }
    for (uint32_t i = 0; i <= SMALL_COUNT; i++) {
        calls[i].b = &b;
        calls[i].update.key = (struct chunk_key){.data_id = 1 + i};
        calls[i].update.new_length = i == 0 ? BIG : SMALL + i;
        update(&calls[i], bytes, crc + (size_t)i * CHUNK_CELLS_MAX, &iov[i]);
    }
    wait_for(&b, SMALL_COUNT + 1);
    for (uint32_t i = 0; i <= SMALL_COUNT; i++) {
        struct chunk_key key = {.data_id = 1 + i};
        CHECK_OK(chunk_store_commit(b.store, key, (struct chunk_identity){1, 1}));
    }
    struct call sync = {.b = &b, .sync = {.done = sync_done, .scope = CHUNK_SYNC_ALL}};
    chunk_store_sync(b.store, &sync.sync);
    wait_for(&b, 1);
    struct chunk_store_info info;
    chunk_store_info(b.store, &info);
    CHECK_EQ(info.dirty_count, 0);
    for (unsigned restarts = 0; restarts < 2; restarts++) {
        read_back(&b, (struct chunk_key){.data_id = 1}, bytes, BIG);
        read_back(&b, (struct chunk_key){.data_id = 7}, bytes, SMALL + 6);
        bench_close(&b);
        bench_open(&b, false);
    }
    chunk_store_info(b.store, &info);
    CHECK_EQ(info.chunk_count, SMALL_COUNT + 1);
    CHECK_TRUE(!info.lossy);
    bench_close(&b);
    mem_free(bytes);
    mem_free(crc);
    mem_free(calls);
    disk_free(b.disk);
    loop_free(b.loop);
    mem_free(b.directory);
    return info.chunk_count;
}

TEST(file_in_a_real_directory)
{
    CHECK_EQ(real_directory(CHUNK_ENGINE_FILE), SMALL_COUNT + 1);
}

TEST(extent_in_a_real_directory)
{
    CHECK_EQ(real_directory(CHUNK_ENGINE_EXTENT), SMALL_COUNT + 1);
}
