/*
 * chunk/extent_memory_test.c -- what the `extent` engine knows of chunks and may not forget has a
 * bound, and what makes it less goes on when that is reached.
 */
#include "chunk/rig_put_priv.h"

#include "chunk/extent_priv.h"

#define MANY_BYTES (UINT64_C(64) << 20) /* updates are refused from there on */
#define LENGTH (3 * CHUNK_CELL)

static struct chunk_key key_of(uint32_t i)
{
    return (struct chunk_key){.data_id = 7, .index = i};
}

static struct store_rig *rig_little(void)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    rig_stop(r);
    r->opt.entry_bytes = 1;
    r->opt.flush_ms = 60000;
    r->opt.index_bytes = 256 << 20; /* so that it is not what takes long */
    CHECK_OK(rig_boot(r));
    return r;
}

static void reserve_in(void *ctx)
{
    struct store_rig *r = ctx;
    r->update.done = rig_update_done;
    chunk_store_reserve(r->store, &r->update);
}

/* As all updates are made. */
static int reserve_and_update(struct store_rig *r)
{
    int rc = rig_wait(r, reserve_in);
    return rc < 0 ? rc : rig_wait(r, rig_update_in);
}

/* Large in memory, and nothing on the medium. */
static int put_zeros(struct store_rig *r, uint32_t i)
{
    r->update = (struct chunk_update){.key = key_of(i),
                                      .chain = 5,
                                      .kind = CHUNK_SET_LENGTH,
                                      .identity = {.aepoch = 1, .ver = 1},
                                      .last_ver = 1,
                                      .new_length = CHUNK_LENGTH_MAX};
    int rc = reserve_and_update(r);
    return rc < 0 ? rc : rig_wait(r, rig_commit_in);
}

/* A whole content, as a repair brings it. */
static int install(struct store_rig *r, uint32_t i)
{
    uint8_t bytes[LENGTH];
    uint32_t crc[LENGTH / CHUNK_CELL];
    struct iovec iov = {.iov_base = bytes, .iov_len = LENGTH};
    rig_fill(bytes, LENGTH, key_of(i), 2);
    for (uint32_t cell = 0; cell < LENGTH / CHUNK_CELL; cell++) {
        crc[cell] = crc32c(0, bytes + (size_t)cell * CHUNK_CELL, CHUNK_CELL);
    }
    r->update = (struct chunk_update){.key = key_of(i),
                                      .chain = 5,
                                      .kind = CHUNK_WHOLE,
                                      .install = true,
                                      .identity = {.aepoch = 1, .ver = 2},
                                      .last_ver = 2,
                                      .new_length = LENGTH,
                                      .crc = crc,
                                      .crc_count = ARRAY_COUNT(crc),
                                      .data = &iov,
                                      .data_count = 1};
    return reserve_and_update(r);
}

static void damage(struct store_rig *r, uint32_t i)
{
    r->change =
        (struct chunk_change){.op = CHUNK_SET_FLAGS, .key = key_of(i), .set = CHUNK_DAMAGED};
    CHECK_OK(rig_wait(r, rig_change_in));
}

static int put_patiently(struct store_rig *r, uint32_t i)
{
    int rc = put_zeros(r, i);
    for (unsigned tries = 0; rc == -ERR_busy && tries < 20; tries++) {
        rig_pass(r, 100);
        rc = put_zeros(r, i);
    }
    return rc;
}

/* Damaged ones are not forgotten; repairs are what makes them fewer. */
TEST(many_damaged_chunks_can_be_repaired)
{
    struct store_rig *r = rig_little();
    struct chunk_store_info info;
    uint32_t count = 0;
    int rc = 0;
    for (rc = put_patiently(r, count); rc == 0; rc = put_patiently(r, count)) {
        damage(r, count++);
        CHECK_TRUE(count < 20000);
    }
    CHECK_RC(rc, ERR_busy);
    CHECK_TRUE(r->store->cached_bytes >= MANY_BYTES);
    for (uint32_t i = 0; i < count; i += 2) {
        CHECK_OK(install(r, i));
    }
    CHECK_OK(rig_sync(r));
    rig_pass(r, 1000);
    CHECK_TRUE(r->store->cached_bytes < MANY_BYTES * 3 / 4);
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.damaged_count, count / 2);
    CHECK_OK(put_zeros(r, count));
    for (uint32_t i = 0; i < count; i += 2) {
        CHECK_OK(rig_check(r, key_of(i), 2, LENGTH));
    }
    rig_stop(r);
    rig_end(r);
}

/* ---- Starts ---- */

#define NAMED 4000u
#define NAMED_BYTES (UINT64_C(8) << 20) /* a sixth of what they take in memory */

struct started {
    struct store_rig *r;
    uint64_t most_bytes;
};

static bool start_is_over(void *ctx)
{
    struct started *b = ctx;
    b->most_bytes = base_max(b->most_bytes, b->r->store == NULL ? 0 : b->r->store->cached_bytes);
    return rig_is_over(b->r);
}

/* Small records name chunks that are large in memory: they wait for a checkpoint. */
TEST(a_start_needs_little_memory)
{
    struct store_rig *r = rig_little();
    struct started b = {.r = r};
    struct chunk_store_info info;
    rig_stop(r);
    r->opt.journal_bytes = 64 << 20; /* so that it is not what brings checkpoints */
    CHECK_OK(rig_boot(r));
    r->store->extent->backlog.most_bytes = NAMED_BYTES;
    for (uint32_t i = 0; i < NAMED; i++) {
        CHECK_OK(put_patiently(r, i));
        CHECK_TRUE(r->store->extent->backlog.bytes < 2 * NAMED_BYTES);
    }
    loop_sim_kill(r->loop);
    CHECK_OK(loop_sim_process(r->sim, "data", 1, &r->loop));
    CHECK_OK(disk_sim_open(r->machine, r->loop, &r->disk));
    r->env = (struct env){.loop = r->loop, .disk = r->disk};
    r->over = false;
    r->store = NULL;
    loop_sim_enter(r->loop, rig_open_in, r);
    uint64_t limit = loop_sim_now_ns(r->sim) + RIG_LIMIT_NS;
    CHECK_TRUE(loop_sim_run(r->sim, start_is_over, &b, limit));
    CHECK_OK(r->rc);
    CHECK_TRUE(b.most_bytes > NAMED_BYTES / 8); /* it had something to do */
    CHECK_TRUE(b.most_bytes < 2 * NAMED_BYTES);
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.chunk_count, NAMED);
    CHECK_EQ(info.wrong, 0);
    rig_stop(r);
    rig_end(r);
}

/* ---- Removal ---- */

#define REMOVED 7000u
#define REMOVED_BYTES UINT64_C(84000000) /* less than all of them take */

static struct store_rig *rig_removed(void)
{
    struct store_rig *r = rig_little();
    for (uint32_t i = 0; i < REMOVED; i++) {
        CHECK_OK(put_patiently(r, i));
    }
    CHECK_OK(rig_sync(r));
    return r;
}

static void delete_in(void *ctx)
{
    struct store_rig *r = ctx;
    rig_change_in(r);
}

/* False: it waits. */
static bool delete_some_time(struct store_rig *r, uint32_t i)
{
    do {
        r->over = false;
        r->change = (struct chunk_change){.op = CHUNK_DELETE, .key = key_of(i)};
        loop_sim_enter(r->loop, delete_in, r);
        (void)loop_sim_run(r->sim, rig_is_over, r, loop_sim_now_ns(r->sim) + UINT64_C(2000000000));
    } while (r->over && r->rc == -ERR_busy); /* the index is being written to */
    if (r->over) {
        CHECK_OK(r->rc);
    }
    return r->over;
}

static void check_removed(struct store_rig *r)
{
    struct chunk_store_info info;
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.chunk_count, 0);
    CHECK_OK(rig_restart(r, false));
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.chunk_count, 0);
    CHECK_EQ(info.wrong, 0);
    rig_stop(r);
    rig_end(r);
}

static void round_in(void *ctx)
{
    struct store_rig *r = ctx;
    r->store->round_active = false;
    chunk_extent_round(r->store);
}

/* The index is told in time of what has gone; while it cannot be, removal waits. */
TEST(removal_needs_little_memory)
{
    struct store_rig *r = rig_removed();
    uint64_t most = 0;
    bool held = true, waited = false;
    while (r->store->round_active) {
        rig_pass(r, 10);
    }
    r->store->round_active = true; /* none begins */
    for (uint32_t i = 0; i < REMOVED; i++) {
        bool over = delete_some_time(r, i);
        most = base_max(most, r->store->cached_bytes);
        waited = waited || !over;
        if (!over && held) {
            CHECK_TRUE(most >= MANY_BYTES);
            loop_sim_enter(r->loop, round_in, r);
            held = false;
        }
        if (!over) {
            uint64_t limit = loop_sim_now_ns(r->sim) + RIG_LIMIT_NS;
            CHECK_TRUE(loop_sim_run(r->sim, rig_is_over, r, limit));
            CHECK_OK(r->rc);
        }
    }
    CHECK_TRUE(waited);
    CHECK_TRUE(most < REMOVED_BYTES);
    check_removed(r);
}
