/*
 * chunk/extent_sync_test.c -- syncs that fail, of containers and of the list of removed data: who
 * was told that something is stable finds it after a power cut.
 */
#include "chunk/rig_put_priv.h"

#include "chunk/extent_priv.h"

#define LENGTH (100u * CHUNK_CELL)
#define SEEDS 40u
#define SLOW_NS UINT64_C(50000000)

static const struct chunk_key old_key = {.data_id = 9}, new_key = {.data_id = 10};

/* ---- A container that grows ---- */

/* Two requests under way at once. */
struct pair {
    struct store_rig *r;
    struct chunk_update update;
    struct chunk_sync sync;
    struct iovec iov;
    uint8_t bytes[LENGTH];
    uint32_t crc[LENGTH / CHUNK_CELL];
    int update_rc, sync_rc;
    unsigned over;
};

static void pair_updated(struct chunk_update *u, int rc)
{
    struct pair *p = container_of(u, struct pair, update);
    p->update_rc = rc;
    p->over++;
}
static void pair_synced(struct chunk_sync *s, int rc)
{
    struct pair *p = container_of(s, struct pair, sync);
    p->sync_rc = rc;
    p->over++;
}
static void pair_update_in(void *ctx)
{
    struct pair *p = ctx;
    p->iov = (struct iovec){.iov_base = p->bytes, .iov_len = LENGTH};
    p->update = (struct chunk_update){.done = pair_updated,
                                      .key = new_key,
                                      .chain = 5,
                                      .kind = CHUNK_WHOLE,
                                      .identity = {.aepoch = 1, .ver = 1},
                                      .last_ver = 1,
                                      .new_length = LENGTH,
                                      .crc = p->crc,
                                      .crc_count = LENGTH / CHUNK_CELL,
                                      .data = &p->iov,
                                      .data_count = 1};
    chunk_store_update(p->r->store, &p->update);
}
static void pair_sync_in(void *ctx)
{
    struct pair *p = ctx;
    p->sync = (struct chunk_sync){.done = pair_synced, .scope = CHUNK_SYNC_ALL};
    chunk_store_sync(p->r->store, &p->sync);
}
static bool pair_is_over(void *ctx)
{
    return ((struct pair *)ctx)->over == 2;
}

static bool grows(void *ctx)
{
    return ((struct pair *)ctx)->r->store->extent->growing;
}
static bool grow_syncs(void *ctx)
{
    return ((struct pair *)ctx)->r->store->extent->grow_made;
}
static void pair_until(struct pair *p, bool (*done)(void *ctx))
{
    CHECK_TRUE(loop_sim_run(p->r->sim, done, p, loop_sim_now_ns(p->r->sim) + RIG_LIMIT_NS));
}

/* A content is not stable yet, and nothing is free: the next one makes the container longer. While
 * that is being synced, which takes long, somebody asks for a sync. */
static struct pair *pair_run(uint64_t seed, bool fails)
{
    struct pair *p = mem_zalloc(sizeof *p);
    CHECK_TRUE(p != NULL);
    struct store_rig *r = p->r = rig_new(CHUNK_ENGINE_EXTENT, seed);
    struct tree_space_extent taken;
    CHECK_OK(rig_put_whole(r, old_key, 1, LENGTH));
    for (unsigned i = 0; tree_space_take_some(r->store->extent->space, 1024, &taken) == 0; i++) {
        CHECK_TRUE(i < 100000);
    }
    rig_fill(p->bytes, LENGTH, new_key, 1);
    for (uint32_t i = 0; i < ARRAY_COUNT(p->crc); i++) {
        p->crc[i] = crc32c(0, p->bytes + (size_t)i * CHUNK_CELL, CHUNK_CELL);
    }
    if (fails) {
        disk_sim_fail(r->machine, DISK_SYNC_ALL, "space.", 1, 1, -EIO);
    }
    loop_sim_enter(r->loop, pair_update_in, p);
    pair_until(p, grows);
    disk_sim_slow(r->machine, SLOW_NS);
    pair_until(p, grow_syncs);
    disk_sim_slow(r->machine, 0);
    loop_sim_enter(r->loop, pair_sync_in, p);
    pair_until(p, pair_is_over);
    return p;
}

/* The sync of the length may be the one that hears of an error of the contents. */
TEST(a_sync_waits_for_a_container_that_grows)
{
    for (unsigned i = 0; i < SEEDS; i++) {
        struct pair *p = pair_run(testing_seed() + i, true);
        CHECK_RC(p->sync_rc, ERR_failed_before);
        CHECK_TRUE(p->update_rc < 0);
        CHECK_EQ(p->r->failures, 1);
        rig_end(p->r);
        mem_free(p);
    }
}

TEST(a_container_that_grows_keeps_nobody_from_a_sync)
{
    for (unsigned i = 0; i < 5; i++) {
        struct pair *p = pair_run(testing_seed() + i, false);
        CHECK_OK(p->sync_rc);
        CHECK_OK(p->update_rc);
        disk_sim_crash_mode(p->r->machine, DISK_SIM_LOSE_ALL);
        CHECK_OK(rig_restart(p->r, true));
        CHECK_OK(rig_check(p->r, old_key, 1, LENGTH));
        rig_end(p->r);
        mem_free(p);
    }
}

/* ---- The list of removed data ---- */

static int remove_data(struct store_rig *r, uint64_t data_id)
{
    r->change = (struct chunk_change){.op = CHUNK_REMOVE_DATA, .key = {.data_id = data_id}};
    return rig_wait(r, rig_change_in);
}

/* Nobody knows what of it is there: the same place is not written once more in this life. */
TEST(a_sync_of_the_removed_that_finds_no_room_is_the_end)
{
    static const enum chunk_engine engines[] = {CHUNK_ENGINE_FILE, CHUNK_ENGINE_EXTENT};
    for (size_t i = 0; i < ARRAY_COUNT(engines); i++) {
        struct store_rig *r = rig_new(engines[i], testing_seed());
        struct chunk_store_info info;
        CHECK_OK(remove_data(r, 70));
        disk_sim_fail(r->machine, DISK_SYNC, "/data/dead", 1, 1, -ENOSPC);
        CHECK_RC(remove_data(r, 71), ENOSPC);
        chunk_store_info(r->store, &info);
        CHECK_EQ(info.failed, -ENOSPC);
        CHECK_EQ(r->failures, 1);
        CHECK_RC(remove_data(r, 72), ERR_failed_before);
        disk_sim_crash_mode(r->machine, DISK_SIM_LOSE_ALL);
        CHECK_OK(rig_restart(r, true));
        CHECK_TRUE(chunk_store_dead(r->store, 70));
        CHECK_TRUE(!chunk_store_dead(r->store, 72));
        CHECK_OK(remove_data(r, 72));
        CHECK_OK(rig_restart(r, true));
        CHECK_TRUE(chunk_store_dead(r->store, 72));
        rig_end(r);
    }
}
