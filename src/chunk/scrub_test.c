/*
 * chunk/scrub_test.c -- the check of all chunks: how long it rests, the file that says where it is,
 * and rounds over a store on a simulated machine.
 */
#include "chunk/scrub.h"

#include "base/crc32c.h"
#include "base/env.h"
#include "base/mem.h"
#include "base/rand.h"
#include "chunk/scrub_format.h"
#include "disk/sim.h"
#include "loop/sim.h"
#include "testing/testing.h"

#include <stdio.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
#define CHUNKS 40u
#define LENGTH 20000u
#define ROUND_MS 1000000u

/* ---- How long it rests ---- */

TEST(scrub_spreads_what_is_left_over_the_time_that_is_left)
{
    struct chunk_scrub_pace p = {
        .round_ms = 100000, .share_permille = 100, .weight = 1010, .now = 10, .took_ns = 1000};
    p.done = 20;
    CHECK_EQ(chunk_scrub_pause_ns(&p), SECOND); /* 10 of 1,000 in 100 s */
    p.gone_ms = 50000;
    CHECK_EQ(chunk_scrub_pause_ns(&p), SECOND / 2); /* it is late */
    p.done = 520;
    CHECK_EQ(chunk_scrub_pause_ns(&p), SECOND);
    p.took_ns = SECOND; /* the disk is slow: nine times as long for others */
    CHECK_EQ(chunk_scrub_pause_ns(&p), 9 * SECOND);
    p.busy = true;
    CHECK_EQ(chunk_scrub_pause_ns(&p), 79 * SECOND);
    p.busy = false;
    p.share_permille = 1000;
    CHECK_EQ(chunk_scrub_pause_ns(&p), SECOND);
    p.gone_ms = 200000; /* the time is over: as fast as its share allows */
    p.share_permille = 500;
    CHECK_EQ(chunk_scrub_pause_ns(&p), SECOND);
    p.took_ns = 0;
    CHECK_EQ(chunk_scrub_pause_ns(&p), 0);
    p.gone_ms = 0;
    p.done = 2000; /* more than there was at the beginning */
    CHECK_EQ(chunk_scrub_pause_ns(&p), 0);
    p.done = 0;
    p.weight = 11;
    p.round_ms = UINT64_MAX;
    CHECK_EQ(chunk_scrub_pause_ns(&p), CHUNK_SCRUB_PAUSE_MAX_NS);
}

/* What a record names is not ours: any figures make a pause that has an end. */
TEST(scrub_rests_for_a_while_whatever_the_figures_are)
{
    static const uint64_t some[] = {0, 1, 65536, UINT64_MAX - 65535, UINT64_MAX};
    const size_t n = ARRAY_COUNT(some);
    for (size_t i = 0; i < n * n * n; i++) {
        const struct chunk_scrub_pace p = {.round_ms = UINT64_MAX,
                                           .share_permille = 1000,
                                           .weight = some[i % n],
                                           .done = some[i / n % n],
                                           .now = some[i / n / n]};
        CHECK_TRUE(chunk_scrub_pause_ns(&p) <= CHUNK_SCRUB_PAUSE_MAX_NS);
    }
}

/* ---- The file ---- */

TEST(scrub_record_is_what_was_written_or_refused)
{
    struct chunk_scrub_record x = {.number = 7, .target = {.bytes = "target"}}, y;
    uint8_t bytes[CHUNK_SCRUB_BYTES];
    x.info = (struct chunk_scrub_info){
        .round = {1, {2, 3}, 4, 5, 6, 7, 8}, .rounds = 9, .last_end_ms = 10, .found = 11};
    chunk_scrub_encode(&x, bytes);
    CHECK_OK(chunk_scrub_decode(bytes, &y));
    CHECK_EQ(memcmp(&x, &y, sizeof x), 0);
    for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_ERR(chunk_scrub_decode(bytes, &y), ERR_corrupt);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t len = sizeof bytes; len > 0; len--) { /* the file ended early */
        bytes[len - 1] = 0;
        CHECK_ERR(chunk_scrub_decode(bytes, &y), ERR_corrupt);
    }
    CHECK_RC(chunk_scrub_decode(bytes, &y), ERR_bad_magic);
}

/* ---- Rounds ---- */

struct bench {
    struct chunk_start start;
    struct loop_sim *sim;
    struct disk_sim *machine;
    struct loop *loop;
    struct disk *disk;
    struct env env;
    struct chunk_store *store;
    struct chunk_user user;
    struct chunk_scrub_user scrub_user;
    struct chunk_scrub *scrub;
    unsigned damages;
    bool format, busy;
    uint64_t first_id; /* of make() */
    struct chunk_update update;
    struct chunk_sync sync;
    struct chunk_stop stop;
    bool done;
    uint8_t bytes[LENGTH];
    uint32_t crc[8];
    struct iovec iov;
};
static const struct uuid cluster = {.bytes = "cluster of tests"};

static void user_failed(struct chunk_user *u, int rc, const char *reason)
{
    (void)u;
    (void)reason;
    CHECK_OK(rc);
}
static void user_damaged(struct chunk_user *u, struct chunk_key key)
{
    (void)key;
    container_of(u, struct bench, user)->damages++;
}
static const struct chunk_user_ops user_ops = {.failed = user_failed, .damaged = user_damaged};
static bool user_busy(struct chunk_scrub_user *u)
{
    return container_of(u, struct bench, scrub_user)->busy;
}
static const struct chunk_scrub_user_ops scrub_ops = {.busy = user_busy};

static void store_started(struct chunk_start *start, int rc)
{
    (void)start;
    CHECK_OK(rc);
}

static void open_in(void *ctx)
{
    struct bench *b = ctx;
    const struct chunk_options opt = {.env = &b->env,
                                      .engine = CHUNK_ENGINE_FILE,
                                      .directory = "/data",
                                      .cluster = cluster,
                                      .user = &b->user,
                                      .low_bytes = 65536,
                                      .flush_ms = 100};
    if (b->format) {
        const struct chunk_format_options f = {.target = {.bytes = "target"}, .fan_out = 1};
        CHECK_OK(disk_make_directories(b->disk, "/data"));
        CHECK_OK(chunk_store_format(&opt, &f, NULL));
    }
    b->format = false;
    CHECK_OK(chunk_store_open(&opt, &b->store, NULL));
    b->start.done = store_started;
    chunk_store_start(b->store, &b->start);
}
static void scrub_in(void *ctx)
{
    struct bench *b = ctx;
    const struct chunk_scrub_options opt = {.env = &b->env,
                                            .store = b->store,
                                            .user = &b->scrub_user,
                                            .directory = "/data",
                                            .round_ms = ROUND_MS};
    CHECK_OK(chunk_scrub_new(&opt, &b->scrub));
}
static void boot(struct bench *b)
{
    CHECK_OK(loop_sim_process(b->sim, "data", 1, &b->loop));
    CHECK_OK(disk_sim_open(b->machine, b->loop, &b->disk));
    b->env = (struct env){.loop = b->loop, .disk = b->disk};
    loop_sim_enter(b->loop, open_in, b);
}
static bool is_done(void *ctx)
{
    return ((struct bench *)ctx)->done;
}
static void wait_done(struct bench *b)
{
    CHECK(loop_sim_run(b->sim, is_done, b, loop_sim_now_ns(b->sim) + 600 * SECOND));
    b->done = false;
}
static void updated(struct chunk_update *u, int rc)
{
    CHECK_OK(rc);
    container_of(u, struct bench, update)->done = true;
}
static void update_in(void *ctx)
{
    struct bench *b = ctx;
    chunk_store_update(b->store, &b->update);
}
static void sync_done(struct chunk_sync *x, int rc)
{
    CHECK_OK(rc);
    container_of(x, struct bench, sync)->done = true;
}
static void sync_in(void *ctx)
{
    struct bench *b = ctx;
    b->sync = (struct chunk_sync){.done = sync_done, .scope = CHUNK_SYNC_ALL};
    chunk_store_sync(b->store, &b->sync);
}
static void make(struct bench *b, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        b->update = (struct chunk_update){.done = updated,
                                          .key = {.data_id = b->first_id + i, .index = i % 3},
                                          .chain = 1,
                                          .identity = {.aepoch = 1, .ver = 1},
                                          .kind = CHUNK_WHOLE,
                                          .install = true,
                                          .new_length = LENGTH,
                                          .last_ver = 1,
                                          .crc = b->crc,
                                          .crc_count = chunk_cells(LENGTH),
                                          .data = &b->iov,
                                          .data_count = 1};
        loop_sim_enter(b->loop, update_in, b);
        wait_done(b);
    }
    b->first_id += count;
    loop_sim_enter(b->loop, sync_in, b);
    wait_done(b);
}
static struct bench *bench_new(void)
{
    struct bench *b = mem_zalloc(sizeof *b);
    struct rand rand;
    CHECK(b != NULL);
    b->user.ops = &user_ops;
    b->scrub_user.ops = &scrub_ops;
    b->sim = loop_sim_new(testing_seed());
    const struct disk_sim_options opt = {.sim = b->sim};
    b->machine = disk_sim_new(&opt);
    CHECK(b->sim != NULL && b->machine != NULL);
    rand_seed(&rand, 1);
    rand_bytes(&rand, b->bytes, sizeof b->bytes);
    b->iov = (struct iovec){.iov_base = b->bytes, .iov_len = LENGTH};
    for (uint32_t cell = 0; cell < chunk_cells(LENGTH); cell++) {
        b->crc[cell] =
            crc32c(0, b->bytes + (size_t)cell * CHUNK_CELL, chunk_cell_bytes(LENGTH, cell));
    }
    b->format = true;
    b->first_id = 100;
    boot(b);
    return b;
}
static void bench_end(struct bench *b)
{
    loop_sim_free(b->sim);
    disk_sim_free(b->machine);
    mem_free(b);
}
static void spoil(struct bench *b, uint64_t data_id, uint32_t index)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/data/00/00/%016llx.%08x", (unsigned long long)data_id,
                   index);
    CHECK_OK(disk_sim_corrupt(b->machine, path, 3 * CHUNK_CELL + 5, 1));
}
static bool never(void *ctx)
{
    (void)ctx;
    return false;
}
static void run_ms(struct bench *b, uint64_t ms)
{
    (void)loop_sim_run(b->sim, never, NULL, loop_sim_now_ns(b->sim) + ms * 1000000);
}
static struct chunk_scrub_info info_of(struct bench *b)
{
    struct chunk_scrub_info info;
    chunk_scrub_info(b->scrub, &info);
    return info;
}
static void stop_scrub_in(void *ctx)
{
    chunk_scrub_stop(((struct bench *)ctx)->scrub);
}
static void free_in(void *ctx)
{
    struct bench *b = ctx;
    b->scrub = chunk_scrub_free(b->scrub);
    b->store = chunk_store_free(b->store);
}
static void stopped(struct chunk_stop *x, int rc)
{
    CHECK_OK(rc);
    container_of(x, struct bench, stop)->done = true;
}
static void stop_in(void *ctx)
{
    struct bench *b = ctx;
    b->stop.done = stopped;
    chunk_store_stop(b->store, &b->stop);
}
static bool is_quiet(void *ctx)
{
    return !chunk_scrub_active(((struct bench *)ctx)->scrub);
}
/* In good order. */
static void end_process(struct bench *b)
{
    loop_sim_enter(b->loop, stop_scrub_in, b);
    CHECK(loop_sim_run(b->sim, is_quiet, b, loop_sim_now_ns(b->sim) + 10 * SECOND));
    loop_sim_enter(b->loop, stop_in, b);
    wait_done(b);
    loop_sim_enter(b->loop, free_in, b);
    loop_sim_kill(b->loop);
}

TEST(scrub_finds_what_is_bad_on_the_medium)
{
    struct bench *b = bench_new();
    make(b, CHUNKS);
    spoil(b, 107, 1);
    spoil(b, 121, 0);
    loop_sim_enter(b->loop, scrub_in, b);
    run_ms(b, ROUND_MS / 2);
    uint32_t half;
    struct chunk_scrub_info i = info_of(b);
    half = chunk_scrub_permille(&i);
    CHECK_TRUE(i.rounds == 0 && half > 300 && half < 700); /* it takes its time */
    run_ms(b, ROUND_MS * 6 / 10);
    i = info_of(b);
    CHECK_EQ(i.rounds, 1);
    CHECK_EQ(i.last_chunks, CHUNKS);
    CHECK_EQ(i.last_found, 2);
    CHECK_EQ(b->damages, 2);
    CHECK_TRUE(i.last_took_ms > ROUND_MS / 2 && i.last_took_ms <= ROUND_MS * 11 / 10);
    run_ms(b, ROUND_MS * 12 / 10);
    i = info_of(b);
    CHECK_EQ(i.rounds, 2);
    CHECK_EQ(i.last_found, 0); /* those that are known are not found again */
    CHECK_EQ(i.found, 2);
    end_process(b);
    bench_end(b);
}

TEST(scrub_goes_on_where_a_killed_process_was)
{
    struct bench *b = bench_new();
    make(b, CHUNKS);
    loop_sim_enter(b->loop, scrub_in, b);
    run_ms(b, ROUND_MS * 6 / 10);
    struct chunk_scrub_info before = info_of(b);
    CHECK_TRUE(before.round.chunks > 10);
    loop_sim_kill(b->loop);
    boot(b);
    loop_sim_enter(b->loop, scrub_in, b);
    struct chunk_scrub_info i = info_of(b);
    CHECK_EQ(i.round.begun_ms, before.round.begun_ms);
    CHECK_TRUE(i.round.chunks + 20 > before.round.chunks && i.round.chunks > 0);
    CHECK_TRUE(i.round.next.data_id <= before.round.next.data_id && i.round.next.data_id > 100);
    run_ms(b, ROUND_MS * 5 / 10);
    i = info_of(b);
    CHECK_EQ(i.rounds, 1);
    CHECK_TRUE(i.last_chunks >= CHUNKS - 1 && i.last_chunks <= CHUNKS + 1);
    end_process(b); /* and nothing is lost by an end in good order */
    struct chunk_scrub_info last = i;
    boot(b);
    loop_sim_enter(b->loop, scrub_in, b);
    i = info_of(b);
    CHECK_EQ(i.rounds, last.rounds);
    CHECK_EQ(i.last_end_ms, last.last_end_ms);
    end_process(b);
    bench_end(b);
}

TEST(scrub_begins_anew_with_a_bad_file_and_goes_on_without_any)
{
    struct bench *b = bench_new();
    make(b, 5);
    loop_sim_enter(b->loop, scrub_in, b);
    run_ms(b, ROUND_MS * 2);
    CHECK_TRUE(info_of(b).rounds >= 1);
    end_process(b);
    for (uint64_t copy = 0; copy < CHUNK_SCRUB_COPIES; copy++) { /* one may not be there */
        int rc = disk_sim_corrupt(b->machine, "/data/scrub", copy * CHUNK_SCRUB_DISTANCE + 20, 1);
        CHECK_TRUE(rc == 0 || rc == -ERANGE);
    }
    boot(b);
    loop_sim_enter(b->loop, scrub_in, b);
    CHECK_EQ(info_of(b).rounds, 0);
    disk_sim_fail(b->machine, DISK_WRITE, "scrub", 1, 0, -ENOSPC);
    run_ms(b, ROUND_MS * 2);
    CHECK_TRUE(info_of(b).rounds >= 1);
    end_process(b);
    disk_sim_heal(b->machine);
    disk_sim_fail(b->machine, DISK_OPEN, "scrub", 1, 1, -EACCES);
    boot(b);
    loop_sim_enter(b->loop, scrub_in, b);
    CHECK_EQ(info_of(b).rounds, 0);
    end_process(b);
    bench_end(b);
}

TEST(scrub_looks_at_what_was_there_when_the_round_began)
{
    struct bench *b = bench_new();
    loop_sim_enter(b->loop, scrub_in, b);
    run_ms(b, ROUND_MS * 2);
    CHECK_EQ(info_of(b).rounds, 0); /* nothing to look at */
    make(b, 10);
    run_ms(b, ROUND_MS / 4);
    CHECK_TRUE(info_of(b).round.chunks > 0);
    make(b, 10);
    run_ms(b, ROUND_MS);
    struct chunk_scrub_info i = info_of(b);
    CHECK_EQ(i.rounds, 1);
    CHECK_EQ(i.last_chunks, 10);
    run_ms(b, ROUND_MS * 11 / 10);
    CHECK_EQ(info_of(b).rounds, 2);
    CHECK_EQ(info_of(b).last_chunks, 20);
    end_process(b);
    bench_end(b);
}

/* A disk that others need: no more than a tenth of its time, and an eightieth while they do. */
TEST(scrub_leaves_the_disk_to_others)
{
    struct bench *b = bench_new();
    make(b, CHUNKS);
    disk_sim_slow(b->machine, 20 * SECOND);
    loop_sim_enter(b->loop, scrub_in, b);
    run_ms(b, ROUND_MS);
    unsigned idle = (unsigned)info_of(b).round.chunks;
    CHECK_TRUE(info_of(b).rounds == 0 && idle > 0 && idle < CHUNKS / 2);
    b->busy = true;
    run_ms(b, ROUND_MS);
    unsigned busy = (unsigned)info_of(b).round.chunks - idle;
    CHECK_TRUE(busy < idle);
    end_process(b);
    bench_end(b);
}
