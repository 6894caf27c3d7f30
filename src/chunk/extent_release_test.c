/*
 * chunk/extent_release_test.c -- units of the `extent` engine that have rested come back, whatever
 * becomes of others.
 */
#include "chunk/rig_put_priv.h"

#include "chunk/extent_priv.h"

#define MIB (UINT32_C(1) << 20)
#define REST_MS 200u

static const struct chunk_key busy_key = {.data_id = 7};

static struct chunk_key key_of(uint64_t i)
{
    return (struct chunk_key){.data_id = 100 + i};
}

static struct store_rig *rig_resting(void)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    rig_stop(r);
    r->opt.rest_ms = REST_MS;
    CHECK_OK(rig_boot(r));
    return r;
}

static uint64_t units_used(const struct store_rig *r)
{
    struct tree_space_info info;
    tree_space_info(r->store->extent->space, &info);
    return info.used - r->store->extent->open.count; /* taken for the next ones */
}

static uint64_t resting_bytes(const struct store_rig *r)
{
    struct chunk_store_info info;
    chunk_store_info(r->store, &info);
    return info.resting_bytes;
}

/* Something of it rests at every moment. */
TEST(a_chunk_that_is_always_overwritten_holds_up_no_other)
{
    struct store_rig *r = rig_resting();
    uint64_t ver = 1;
    CHECK_OK(rig_put_whole(r, busy_key, ver, MIB));
    CHECK_OK(rig_put_whole(r, key_of(1), 1, MIB));
    for (unsigned i = 0; i < 300; i++) {
        CHECK_OK(rig_put(r, (struct rig_piece){busy_key, ++ver, CHUNK_WRITE, 0, CHUNK_CELL}));
        if (i == 10) {
            CHECK_OK(rig_delete(r, key_of(1)));
        }
        rig_pass(r, 10);
    }
    CHECK_TRUE(resting_bytes(r) > 0);
    CHECK_TRUE(resting_bytes(r) < MIB / 2);
    CHECK_TRUE(units_used(r) < 1 + MIB / CHUNK_UNIT * 3 / 2);
    rig_pass(r, 2000);
    CHECK_EQ(resting_bytes(r), 0);
    CHECK_EQ(units_used(r), 1 + MIB / CHUNK_UNIT);
    rig_stop(r);
    rig_end(r);
}

/* Always the next one fails. */
static void fail_some(struct store_rig *r)
{
    for (unsigned i = 0; i < 400; i++) {
        disk_sim_heal(r->machine);
        disk_sim_fail(r->machine, DISK_PUNCH, "/data/space", 1, 1, -EIO);
        rig_pass(r, 10);
    }
}

/* A few of many cannot be punched at the moment: nobody gets them, and the others come back. */
TEST(units_that_cannot_be_punched_hold_up_no_others)
{
    const uint32_t count = 100, length = 4 * CHUNK_CELL;
    struct store_rig *r = rig_resting();
    for (uint64_t i = 0; i < count; i++) {
        CHECK_OK(rig_put_whole(r, key_of(i), 1, length));
    }
    for (uint64_t i = 0; i < count; i += 2) {
        CHECK_OK(rig_delete(r, key_of(i)));
    }
    CHECK_OK(rig_sync(r));
    uint64_t used = units_used(r), rests = resting_bytes(r);
    CHECK_EQ(rests, (uint64_t)count / 2 * length);
    disk_sim_fail(r->machine, DISK_PUNCH, "/data/space", 1, 0, -EIO);
    rig_pass(r, 5000);
    CHECK_EQ(units_used(r), used);
    CHECK_EQ(resting_bytes(r), rests);
    fail_some(r);
    CHECK_TRUE(resting_bytes(r) < rests / 2);
    CHECK_EQ(used - units_used(r), (rests - resting_bytes(r)) / CHUNK_UNIT);
    disk_sim_heal(r->machine);
    rig_pass(r, 3000);
    CHECK_EQ(resting_bytes(r), 0);
    CHECK_EQ(units_used(r), 1 + (uint64_t)count / 2 * (length / CHUNK_UNIT));
    for (uint64_t i = 1; i < count; i += 2) {
        CHECK_OK(rig_check(r, key_of(i), 1, length));
    }
    rig_stop(r);
    rig_end(r);
}

/* Also when what they were of is not in memory any more. */
TEST(forgotten_units_that_cannot_be_punched_hold_up_no_others)
{
    struct store_rig *r = rig_resting();
    const uint32_t count = 200, length = 4 * CHUNK_CELL;
    rig_stop(r);
    r->opt.entry_bytes = 1;
    CHECK_OK(rig_boot(r));
    disk_sim_fail(r->machine, DISK_PUNCH, "/data/space", 1, 0, -EIO);
    for (uint64_t ver = 1; ver <= 2; ver++) {
        for (uint64_t i = 0; i < count; i++) {
            CHECK_OK(rig_put_whole(r, key_of(i), ver, length));
        }
    }
    CHECK_OK(rig_sync(r));
    rig_pass(r, 5000);
    CHECK_EQ(resting_bytes(r), (uint64_t)count * length);
    CHECK_EQ(r->store->index.count, 0);
    fail_some(r);
    CHECK_TRUE(resting_bytes(r) < (uint64_t)count * length / 2);
    CHECK_OK(rig_delete(r, key_of(0)));
    disk_sim_heal(r->machine);
    rig_pass(r, 10000);
    CHECK_EQ(resting_bytes(r), 0);
    CHECK_EQ(units_used(r), 1 + (uint64_t)(count - 1) * (length / CHUNK_UNIT));
    rig_stop(r);
    rig_end(r);
}

static uint64_t tail_of(struct store_rig *r)
{
    return chunk_entry_get(r->store, busy_key, false)->tail_block;
}

/* What it may be next is written whole, not behind bytes that are there. */
TEST(nothing_is_appended_to_a_unit_that_was_given_back)
{
    struct store_rig *r = rig_resting();
    const uint32_t length = 2 * CHUNK_CELL + 100;
    CHECK_OK(rig_put_whole(r, busy_key, 1, length));
    CHECK_TRUE(tail_of(r) != 0);
    CHECK_OK(rig_put(r, (struct rig_piece){busy_key, 2, CHUNK_WRITE, length, 50}));
    CHECK_TRUE(tail_of(r) != 0); /* it went behind those */
    r->update = (struct chunk_update){.key = busy_key,
                                      .chain = 5,
                                      .kind = CHUNK_SET_LENGTH,
                                      .base = {.aepoch = 1, .ver = 2},
                                      .identity = {.aepoch = 1, .ver = 3},
                                      .last_ver = 3,
                                      .new_length = CHUNK_CELL};
    CHECK_OK(rig_wait(r, rig_update_in));
    CHECK_OK(rig_wait(r, rig_commit_in));
    CHECK_EQ(tail_of(r), 0);
    rig_stop(r);
    rig_end(r);
}

/* ---- What a life before may still be sending ---- */

#define LONG_MS 60000u

static uint64_t first_unit(struct store_rig *r, struct chunk_key key)
{
    const struct chunk_entry *e = chunk_entry_get(r->store, key, false);
    CHECK_TRUE(e != NULL && e->committed != NULL);
    return e->committed->block[0];
}

/* Its units are given back, and rest, when its life ends. */
static struct store_rig *rig_given_back(uint64_t *ret)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    rig_stop(r);
    r->opt.rest_ms = LONG_MS;
    CHECK_OK(rig_boot(r));
    CHECK_OK(rig_put_whole(r, key_of(1), 1, MIB));
    *ret = first_unit(r, key_of(1));
    CHECK_OK(rig_delete(r, key_of(1)));
    CHECK_OK(rig_sync(r));
    rig_pass(r, 1000);
    CHECK_EQ(resting_bytes(r), MIB);
    return r;
}

TEST(what_a_killed_process_may_be_sending_rests)
{
    uint64_t unit = 0;
    struct store_rig *r = rig_given_back(&unit);
    struct chunk_store_info info;
    CHECK_OK(rig_restart(r, false));
    uint64_t units = r->store->extent->units;
    chunk_store_info(r->store, &info);
    uint64_t free_bytes = info.free_bytes;
    for (unsigned i = 2; i < 12; i++) {
        CHECK_OK(rig_put_whole(r, key_of(i), 1, MIB));
        CHECK_TRUE(first_unit(r, key_of(i)) >= units);
    }
    rig_pass(r, LONG_MS - 10000);
    CHECK_OK(rig_put_whole(r, key_of(12), 1, MIB));
    CHECK_TRUE(first_unit(r, key_of(12)) >= units);
    chunk_store_info(r->store, &info);
    CHECK_TRUE(info.free_bytes >= free_bytes - 40 * (uint64_t)MIB); /* it is told as free */
    rig_pass(r, 11000);
    CHECK_OK(rig_put_whole(r, key_of(13), 1, MIB));
    CHECK_EQ(first_unit(r, key_of(13)), unit);
    for (unsigned i = 2; i < 14; i++) {
        CHECK_OK(rig_check(r, key_of(i), 1, MIB));
    }
    CHECK_EQ(units_used(r), 1 + 12 * MIB / CHUNK_UNIT);
    rig_stop(r);
    CHECK_OK(rig_boot(r));
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.wrong, 0);
    rig_stop(r);
    rig_end(r);
}

/* Sockets go with the machine. */
TEST(nothing_rests_behind_a_power_cut)
{
    uint64_t unit = 0;
    struct store_rig *r = rig_given_back(&unit);
    CHECK_OK(rig_restart(r, true));
    CHECK_OK(rig_put_whole(r, key_of(2), 1, MIB));
    CHECK_EQ(first_unit(r, key_of(2)), unit);
    rig_stop(r);
    rig_end(r);
}

/* Who finds no other room comes again. */
TEST(a_full_disk_waits_for_what_rests)
{
    uint64_t unit = 0;
    struct store_rig *r = rig_given_back(&unit);
    disk_sim_capacity(r->machine, disk_sim_used_bytes(r->machine) + MIB);
    CHECK_OK(rig_restart(r, false));
    CHECK_RC(rig_put_whole(r, key_of(2), 1, MIB), ERR_busy);
    rig_pass(r, LONG_MS + 1000);
    CHECK_OK(rig_put_whole(r, key_of(2), 1, MIB));
    CHECK_EQ(first_unit(r, key_of(2)), unit);
    rig_stop(r);
    rig_end(r);
}
