/*
 * chunk/extent_full_test.c -- the `extent` engine on a disk without room: what removes goes on, as
 * do the rounds and checkpoints that give room back, and contents when there is some.
 */
#include "chunk/rig_put_priv.h"

#include "chunk/extent_room_priv.h"

#define MIB (UINT64_C(1) << 20)
#define BIG ((uint32_t)MIB)
#define SMALL 4000u
#define CYCLES 8000u
#define KEPT 400u /* small chunks that are there at a time */

static struct chunk_key big_key(uint64_t i)
{
    return (struct chunk_key){.data_id = 1000000 + i};
}

static struct chunk_key small_key(uint64_t i)
{
    return (struct chunk_key){.data_id = 1 + i};
}

static struct store_rig *rig_small(uint64_t bytes)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    rig_stop(r);
    r->opt.journal_bytes = MIB;
    r->opt.index_bytes = 8 * MIB;
    disk_sim_capacity(r->machine, bytes);
    CHECK_OK(rig_boot(r));
    return r;
}

/* How many there are then. */
static uint64_t fill_up(struct store_rig *r)
{
    uint64_t count = 0;
    int rc = 0;
    while (rc == 0) {
        rc = rig_put_whole(r, big_key(count), 1, BIG);
        count += rc == 0 ? 1 : 0;
        if (rc == -ENOSPC && chunk_room_step(r->store->extent) > 0) {
            rig_pass(r, 1500); /* what is free is looked at each second */
            rc = 0;
        }
        CHECK_TRUE(count < 10000);
    }
    CHECK_RC(rc, ENOSPC);
    return count;
}

/* Others have taken what the store left. */
static void others_fill(struct store_rig *r)
{
    CHECK_OK(rig_sync(r));
    rig_pass(r, 70000); /* a checkpoint, and all is at rest */
    disk_sim_capacity(r->machine, disk_sim_used_bytes(r->machine));
    rig_pass(r, 3000);
}

static void check_sound(const struct store_rig *r)
{
    struct chunk_store_info info;
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.wrong, 0);
    CHECK_EQ(info.failed, 0);
    CHECK_EQ(info.damaged_count, 0);
}

TEST(containers_leave_room_for_the_rest)
{
    struct store_rig *r = rig_small(200 * MIB);
    uint64_t count = fill_up(r);
    CHECK_TRUE(count > 140);
    uint64_t kept = chunk_room_kept(r->store);
    CHECK_TRUE(kept >= 3 * MIB);
    CHECK_TRUE(200 * MIB - disk_sim_used_bytes(r->machine) >= kept / 2);
    struct chunk_store_info info;
    rig_pass(r, 2000);
    chunk_store_info(r->store, &info);
    CHECK_TRUE(info.free_bytes < MIB); /* what is kept is not told as free */
    for (uint64_t i = 0; i < count; i++) {
        CHECK_OK(rig_check(r, big_key(i), 1, BIG));
    }
    check_sound(r);
    rig_stop(r);
    rig_end(r);
}

/* Segments of the journal go by, with nothing free on the disk. */
TEST(removing_goes_on_at_a_full_disk)
{
    struct store_rig *r = rig_small(160 * MIB);
    uint64_t count = fill_up(r), put = 0, gone = 0;
    bool there[CYCLES] = {false};
    others_fill(r);
    for (uint64_t i = 0; i < 8; i++) {
        CHECK_OK(rig_delete(r, big_key(i)));
    }
    rig_pass(r, 5000);
    for (uint64_t i = 0; i < CYCLES; i++) {
        int rc = rig_put_whole(r, small_key(i), 1, SMALL);
        CHECK_TRUE(rc == 0 || rc == -ENOSPC);
        there[i] = rc == 0;
        put += rc == 0 ? 1 : 0;
        if (rc < 0) {
            rig_pass(r, 1500);
        }
        if (i >= KEPT && there[i - KEPT]) {
            CHECK_OK(rig_delete(r, small_key(i - KEPT)));
            gone++;
        }
        if (i % 500 == 0) {
            rig_pass(r, 3000);
        }
    }
    CHECK_TRUE(put > CYCLES / 10 * 9);
    CHECK_TRUE(gone > CYCLES / 10 * 8);
    struct journal_info info;
    journal_info(r->store->extent->journal, &info);
    CHECK_TRUE(info.size_bytes < 4 * r->opt.journal_bytes);
    CHECK_OK(rig_restart(r, true));
    for (uint64_t i = 8; i < count; i++) {
        CHECK_OK(rig_check(r, big_key(i), 1, BIG));
        CHECK_OK(rig_delete(r, big_key(i)));
    }
    CHECK_OK(rig_sync(r));
    rig_pass(r, 15000);
    CHECK_OK(rig_put_whole(r, big_key(count), 1, BIG));
    CHECK_OK(rig_check(r, big_key(count), 1, BIG));
    check_sound(r);
    rig_stop(r);
    rig_end(r);
}

/* The list of removed data has room of its own, too. */
TEST(data_is_removed_at_a_full_disk)
{
    struct store_rig *r = rig_small(160 * MIB);
    uint64_t count = fill_up(r);
    others_fill(r);
    for (uint64_t i = 0; i < 5000; i++) {
        r->change =
            (struct chunk_change){.op = CHUNK_REMOVE_DATA, .key = {i < count ? 1000000 + i : i}};
        CHECK_OK(rig_wait(r, rig_change_in));
    }
    CHECK_OK(rig_sync(r));
    struct chunk_store_info info;
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.chunk_count, 0);
    CHECK_OK(rig_restart(r, true));
    CHECK_TRUE(chunk_store_dead(r->store, 1000000));
    CHECK_TRUE(chunk_store_dead(r->store, 4999));
    check_sound(r);
    rig_stop(r);
    rig_end(r);
}

/* While the index cannot be written contents are refused, and removing goes on with what the
 * journal has; when it can be, all goes on by itself. */
TEST(contents_wait_for_the_index)
{
    struct store_rig *r = rig_small(400 * MIB);
    uint64_t i = 0;
    int rc = 0;
    disk_sim_fail(r->machine, DISK_WRITE, "index", 1, 0, -ENOSPC);
    for (; rc == 0; i++) {
        CHECK_TRUE(i < 100000);
        rc = rig_put_whole(r, small_key(i), 1, SMALL);
        if (i % 1000 == 0) {
            rig_pass(r, 10000);
        }
    }
    CHECK_RC(rc, ENOSPC);
    for (uint64_t k = 0; k + 1 < base_min(i, 1500); k++) {
        CHECK_OK(rig_delete(r, small_key(k)));
    }
    CHECK_OK(rig_sync(r));
    disk_sim_heal(r->machine);
    rig_pass(r, 12000);
    CHECK_OK(rig_put_whole(r, small_key(i), 1, SMALL));
    check_sound(r);
    rig_stop(r);
    rig_end(r);
}

/* ---- Attempts that came to nothing ---- */

static struct store_rig *rig_resting(void)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    rig_stop(r);
    r->opt.rest_ms = 60000;
    CHECK_OK(rig_boot(r));
    return r;
}

static uint64_t resting_bytes(const struct store_rig *r)
{
    struct chunk_store_info info;
    chunk_store_info(r->store, &info);
    return info.resting_bytes;
}

/* A pending content, and nothing more. */
static int put_pending(struct store_rig *r, struct chunk_key key)
{
    static uint8_t bytes[BIG];
    static uint32_t crc[BIG / CHUNK_CELL];
    struct iovec iov = {.iov_base = bytes, .iov_len = sizeof bytes};
    rig_fill(bytes, BIG, key, 1);
    for (uint32_t i = 0; i < ARRAY_COUNT(crc); i++) {
        crc[i] = crc32c(0, bytes + (size_t)i * CHUNK_CELL, CHUNK_CELL);
    }
    r->update = (struct chunk_update){.key = key,
                                      .chain = 5,
                                      .kind = CHUNK_WHOLE,
                                      .identity = {.aepoch = 1, .ver = 1},
                                      .last_ver = 1,
                                      .new_length = BIG,
                                      .crc = crc,
                                      .crc_count = ARRAY_COUNT(crc),
                                      .data = &iov,
                                      .data_count = 1};
    return rig_wait(r, rig_update_in);
}

static int drop_pending(struct store_rig *r, struct chunk_key key)
{
    r->change = (struct chunk_change){.op = CHUNK_DROP_PENDING, .key = key};
    return rig_wait(r, rig_change_in);
}

/* The disk refuses what is written: who tries again each second finds the same units. */
TEST(writes_that_found_no_room_take_none)
{
    struct store_rig *r = rig_resting();
    CHECK_OK(rig_put_whole(r, big_key(0), 1, BIG));
    uint64_t units = r->store->extent->units;
    disk_sim_fail(r->machine, DISK_WRITE, "space.", 1, 0, -ENOSPC);
    for (uint64_t i = 0; i < 100; i++) {
        CHECK_RC(rig_put_whole(r, big_key(1 + i % 2), 1, BIG), ENOSPC);
        CHECK_EQ(resting_bytes(r), 0);
    }
    CHECK_EQ(r->store->extent->units, units);
    disk_sim_heal(r->machine);
    CHECK_OK(rig_put_whole(r, big_key(1), 1, BIG));
    CHECK_OK(rig_check(r, big_key(0), 1, BIG));
    CHECK_OK(rig_check(r, big_key(1), 1, BIG));
    CHECK_OK(rig_sync(r));
    CHECK_OK(rig_restart(r, true));
    CHECK_OK(rig_check(r, big_key(1), 1, BIG));
    check_sound(r);
    rig_stop(r);
    rig_end(r);
}

/* What failed because of the disk itself rests: others are tried first. */
TEST(units_that_cannot_be_written_rest)
{
    struct store_rig *r = rig_resting();
    CHECK_OK(rig_put_whole(r, big_key(0), 1, BIG));
    disk_sim_fail(r->machine, DISK_WRITE, "space.", 1, 1, -EIO);
    CHECK_RC(rig_put_whole(r, big_key(1), 1, BIG), EIO);
    CHECK_EQ(resting_bytes(r), BIG);
    CHECK_OK(rig_put_whole(r, big_key(1), 1, BIG));
    rig_pass(r, 65000);
    CHECK_EQ(resting_bytes(r), 0);
    rig_stop(r);
    rig_end(r);
}

/* Another member had no room: the pending content is dropped here. Its space is free as soon as
 * that is stable, and a disk without room waits for nothing else. */
TEST(contents_that_nobody_was_sent_do_not_rest)
{
    struct store_rig *r = rig_resting();
    for (uint64_t i = 0; i < 200; i++) {
        CHECK_OK(put_pending(r, big_key(i % 3)));
        CHECK_OK(drop_pending(r, big_key(i % 3)));
        rig_pass(r, 1000);
    }
    CHECK_EQ(r->store->extent->units, CHUNK_GROW_UNITS); /* 64 MiB */
    CHECK_OK(rig_sync(r));
    rig_pass(r, 2000);
    CHECK_EQ(resting_bytes(r), 0);
    CHECK_OK(rig_put_whole(r, big_key(9), 1, BIG));
    CHECK_OK(rig_sync(r));
    CHECK_OK(rig_restart(r, true));
    CHECK_OK(rig_check(r, big_key(9), 1, BIG));
    check_sound(r);
    rig_stop(r);
    rig_end(r);
}

/* One that somebody had a pin of may be in a socket; one that was committed, too. */
TEST(contents_that_may_have_been_sent_rest)
{
    struct store_rig *r = rig_resting();
    CHECK_OK(put_pending(r, big_key(1)));
    struct chunk_pin pin = {.key = big_key(1), .which = CHUNK_PENDING, .length = BIG};
    CHECK_OK(chunk_store_pin(r->store, &pin));
    chunk_store_unpin(r->store, &pin);
    CHECK_OK(drop_pending(r, big_key(1)));
    CHECK_OK(rig_put_whole(r, big_key(2), 1, BIG));
    CHECK_OK(rig_delete(r, big_key(2)));
    CHECK_OK(rig_sync(r));
    rig_pass(r, 50000);
    CHECK_EQ(resting_bytes(r), 2 * BIG);
    rig_pass(r, 15000);
    CHECK_EQ(resting_bytes(r), 0);
    check_sound(r);
    rig_stop(r);
    rig_end(r);
}

/* A power cut before the drop is stable: the pending content is there again, and whole. */
TEST(what_was_dropped_is_nobody_elses_until_that_is_stable)
{
    struct store_rig *r = rig_resting();
    CHECK_OK(put_pending(r, big_key(1)));
    CHECK_OK(rig_sync(r));
    CHECK_OK(drop_pending(r, big_key(1)));
    CHECK_EQ(resting_bytes(r), BIG);
    CHECK_OK(rig_put_whole(r, big_key(2), 1, BIG)); /* would get what is free */
    disk_sim_crash_mode(r->machine, DISK_SIM_LOSE_ALL);
    CHECK_OK(rig_restart(r, true));
    struct chunk_info info;
    CHECK_OK(rig_look_up(r, big_key(1), &info));
    CHECK_TRUE(info.has_pending);
    r->update.key = big_key(1);
    r->update.identity = (struct chunk_identity){.aepoch = 1, .ver = 1};
    CHECK_OK(rig_wait(r, rig_commit_in));
    CHECK_OK(rig_check(r, big_key(1), 1, BIG));
    check_sound(r);
    rig_stop(r);
    rig_end(r);
}

/* When the journal is long it gets shorter, also if nothing is new for a checkpoint. */
TEST(contents_wait_for_the_journal)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    uint64_t i = 0;
    rig_stop(r);
    r->opt.journal_bytes = MIB / 4;
    CHECK_OK(rig_boot(r));
    r->store->extent->journal_most_bytes = MIB;
    struct journal_info info = {0};
    for (; info.size_bytes < MIB; i++) {
        CHECK_TRUE(i < 100000);
        CHECK_OK(rig_put_whole(r, small_key(i), 1, SMALL));
        journal_info(r->store->extent->journal, &info);
    }
    CHECK_OK(rig_sync(r));
    rig_pass(r, 1000); /* the index knows all */
    int rc = rig_put_whole(r, small_key(i), 1, SMALL);
    CHECK_RC(rc, ERR_busy);
    for (unsigned wait = 0; rc == -ERR_busy && wait < 30; wait++) {
        rig_pass(r, 2000); /* nothing is under way then */
        rc = rig_put_whole(r, small_key(i), 1, SMALL);
    }
    CHECK_OK(rc);
    journal_info(r->store->extent->journal, &info);
    CHECK_TRUE(info.size_bytes < MIB);
    check_sound(r);
    rig_stop(r);
    rig_end(r);
}
