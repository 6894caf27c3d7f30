/* chunk/change_test.c -- removed data: what is answered outlives a power cut. */
#include "chunk/rig_put_priv.h"

#include "chunk/store_priv.h"

#define LENGTH (2 * CHUNK_CELL)
#define COUNT 8u
#define DATA_ID 7u

static struct chunk_key key_of(uint32_t i)
{
    return (struct chunk_key){.data_id = DATA_ID, .index = i};
}

static const struct chunk_key other_key = {.data_id = DATA_ID + 1};

/* Nothing runs in the background; power cuts take all that they may. */
static struct store_rig *rig_quiet(enum chunk_engine engine)
{
    struct store_rig *r = rig_new(engine, testing_seed());
    rig_stop(r);
    r->opt.flush_ms = 10000000;
    CHECK_OK(rig_boot(r));
    disk_sim_crash_mode(r->machine, DISK_SIM_LOSE_ALL);
    return r;
}

static int remove_data(struct store_rig *r)
{
    r->change = (struct chunk_change){.op = CHUNK_REMOVE_DATA, .key = {.data_id = DATA_ID}};
    return rig_wait(r, rig_change_in);
}

static void check_gone(struct store_rig *r)
{
    struct chunk_info info;
    CHECK_TRUE(chunk_store_dead(r->store, DATA_ID));
    CHECK_OK(rig_next(r, (struct chunk_key){0}, &info));
    CHECK_EQ(info.key.data_id, other_key.data_id);
    CHECK_OK(rig_check(r, other_key, 1, LENGTH));
}

static unsigned removed(enum chunk_engine engine, bool twice)
{
    struct store_rig *r = rig_quiet(engine);
    for (uint32_t i = 0; i < COUNT; i++) {
        CHECK_OK(rig_put_whole(r, key_of(i), 1, LENGTH));
    }
    CHECK_OK(rig_put_whole(r, other_key, 1, LENGTH));
    CHECK_OK(rig_sync(r));
    CHECK_OK(remove_data(r));
    if (twice) {
        CHECK_OK(remove_data(r));
    }
    CHECK_OK(rig_restart(r, true));
    check_gone(r);
    CHECK_OK(remove_data(r)); /* there is nothing left to wait for */
    CHECK_EQ(r->store->dirty_count, 0);
    rig_stop(r);
    rig_end(r);
    return 1;
}

TEST(removed_chunks_do_not_come_back)
{
    CHECK_EQ(removed(CHUNK_ENGINE_FILE, false) + removed(CHUNK_ENGINE_FILE, true), 2);
    CHECK_EQ(removed(CHUNK_ENGINE_EXTENT, false) + removed(CHUNK_ENGINE_EXTENT, true), 2);
}
