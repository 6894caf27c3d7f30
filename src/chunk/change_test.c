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

/* ---- The list ---- */

/* Two removals, submitted one behind the other; what each was told. */
struct two {
    struct store_rig *r;
    struct chunk_change first, second;
    uint64_t first_id, second_id;
    int first_rc, second_rc;
};

static void first_done(struct chunk_change *c, int rc)
{
    container_of(c, struct two, first)->first_rc = rc;
}

static void second_done(struct chunk_change *c, int rc)
{
    struct two *t = container_of(c, struct two, second);
    t->second_rc = rc;
    rig_over(t->r, rc);
}

static void two_in(void *ctx)
{
    struct two *t = ctx;
    t->first_rc = t->second_rc = 1;
    t->first = (struct chunk_change){
        .done = first_done, .op = CHUNK_REMOVE_DATA, .key = {.data_id = t->first_id}};
    t->second = (struct chunk_change){
        .done = second_done, .op = CHUNK_REMOVE_DATA, .key = {.data_id = t->second_id}};
    chunk_store_change(t->r->store, &t->first);
    chunk_store_change(t->r->store, &t->second);
}

static bool first_over(void *ctx)
{
    return ((struct two *)ctx)->first_rc <= 0;
}

/* Until the second is told. */
static void two_run(struct two *t)
{
    t->r->over = false;
    loop_sim_enter(t->r->loop, two_in, t);
    uint64_t limit = loop_sim_now_ns(t->r->sim) + RIG_LIMIT_NS;
    CHECK_TRUE(loop_sim_run(t->r->sim, rig_is_over, t->r, limit));
}

static unsigned repeated(enum chunk_engine engine)
{
    struct store_rig *r = rig_quiet(engine);
    struct two t = {.r = r, .first_id = DATA_ID, .second_id = DATA_ID};
    two_run(&t);
    CHECK_OK(t.second_rc);
    CHECK_OK(rig_restart(r, true));
    CHECK_TRUE(chunk_store_dead(r->store, DATA_ID));
    rig_stop(r);
    rig_end(r);
    return 1;
}

/* Whoever repeats it hears no sooner that it is done. */
TEST(a_repeated_removal_waits_for_the_list)
{
    CHECK_EQ(repeated(CHUNK_ENGINE_FILE) + repeated(CHUNK_ENGINE_EXTENT), 2);
}

/* `count` writes of the list find no room. */
static struct two full(struct store_rig *r, uint64_t first_id, unsigned count)
{
    struct two t = {.r = r, .first_id = first_id, .second_id = DATA_ID};
    disk_sim_fail(r->machine, DISK_WRITE, "/data/dead", 1, count, -ENOSPC);
    two_run(&t);
    uint64_t limit = loop_sim_now_ns(r->sim) + RIG_LIMIT_NS;
    CHECK_TRUE(loop_sim_run(r->sim, first_over, &t, limit));
    disk_sim_heal(r->machine);
    CHECK_RC(t.first_rc, ENOSPC);
    return t;
}

static unsigned without_room(enum chunk_engine engine)
{
    struct store_rig *r = rig_quiet(engine);
    struct two t = full(r, DATA_ID, 0);
    CHECK_RC(t.second_rc, ENOSPC);
    CHECK_TRUE(!chunk_store_dead(r->store, DATA_ID));
    t = full(r, DATA_ID, 1);
    CHECK_OK(t.second_rc);
    CHECK_TRUE(chunk_store_dead(r->store, DATA_ID));
    t = full(r, DATA_ID + 5, 0); /* what is dead stays so */
    CHECK_OK(t.second_rc);
    CHECK_TRUE(chunk_store_dead(r->store, DATA_ID));
    CHECK_TRUE(!chunk_store_dead(r->store, DATA_ID + 5));
    CHECK_OK(rig_restart(r, true));
    CHECK_TRUE(chunk_store_dead(r->store, DATA_ID));
    r->change = (struct chunk_change){.op = CHUNK_FORGET_DEAD, .key = {.data_id = DATA_ID}};
    CHECK_OK(rig_wait(r, rig_change_in));
    CHECK_TRUE(!chunk_store_dead(r->store, DATA_ID));
    CHECK_OK(rig_restart(r, true));
    CHECK_TRUE(!chunk_store_dead(r->store, DATA_ID));
    rig_stop(r);
    rig_end(r);
    return 1;
}

TEST(a_list_without_room_says_so_to_all)
{
    CHECK_EQ(without_room(CHUNK_ENGINE_FILE) + without_room(CHUNK_ENGINE_EXTENT), 2);
}
