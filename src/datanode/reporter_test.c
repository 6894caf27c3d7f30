/* datanode/reporter_test.c -- what a worker notices reaches its leader: repeated until it was
 * answered, and told again to a new one. */
#include "datanode/reporter.h"

#include "datanode/rig_spoil_priv.h"
#include "testing/testing.h"

TEST(reporter_tells_of_damage_and_of_its_repair)
{
    struct rig r;
    open_chain(&r, 2);
    RIG_UNTIL(&r, r.target[2].figures.chunks == 1); /* figures come by themselves */
    CHECK_EQ(r.target[2].found, 0);
    spoil(&r, 2);
    CHECK_RC(check_at(&r, 2), ERR_corrupt);
    RIG_UNTIL(&r, r.target[2].repaired == 1);
    CHECK_EQ(r.target[2].no_copy, 0);
    CHECK_EQ(r.target[1].found + r.target[1].repaired, 0);
    rig_for_ms(&r, 200000);
    unsigned before = r.target[2].reports;
    rig_for_ms(&r, 60000); /* a quiet worker has nothing to say */
    CHECK_EQ(r.target[2].reports, before);
    rig_close(&r);
}

TEST(reporter_repeats_until_it_is_answered)
{
    struct rig r;
    open_chain(&r, 2);
    rig_for_ms(&r, 1000);
    r.target[2].ignores = true;
    spoil(&r, 2);
    CHECK_RC(check_at(&r, 2), ERR_corrupt);
    RIG_UNTIL(&r, rig_info(&r, 2).damaged_count == 0);
    rig_for_ms(&r, 30000);
    CHECK_TRUE(r.target[2].repaired >= 2); /* was sent, and nobody said that it was heard */
    r.target[2].ignores = false;
    r.target[2].repaired = r.target[2].found = 0;
    RIG_UNTIL(&r, r.target[2].repaired > 0);
    rig_for_ms(&r, 30000);
    CHECK_EQ(r.target[2].repaired, 1);
    CHECK_EQ(r.target[2].found, 0); /* the newer word only */
    rig_close(&r);
}

TEST(reporter_tells_a_new_leader_what_stands)
{
    struct rig r;
    open_chain(&r, 1);
    spoil(&r, 1);
    CHECK_RC(check_at(&r, 1), ERR_corrupt);
    RIG_UNTIL(&r, r.target[1].no_copy > 0); /* there is no other member */
    rig_for_ms(&r, 1000);
    r.target[1].found = r.target[1].no_copy = 0;
    r.target[1].figures.chunks = 0;
    r.target[1].stranger = true;
    RIG_UNTIL(&r, !r.target[1].stranger);
    RIG_UNTIL(&r, r.target[1].found + r.target[1].no_copy > 0);
    RIG_UNTIL(&r, r.target[1].figures.chunks == 1);
    rig_close(&r);
}

/* All places for repairs are taken when its turn comes: that is no reason to leave it out. */
TEST(reporter_tells_a_new_leader_while_others_are_repaired)
{
    struct rig r;
    open_chain(&r, 2);
    for (uint8_t id = 101; id < 121; id++) {
        struct rig_io io = io_first;
        io.data_id = id;
        CHECK_OK(rig_write(&r, &io));
        CHECK_OK(rig_sync(&r, &io));
        spoil_data(&r, 2, id, 4096 + 10);
    }
    loop_sim_pause(r.target[1].process.loop, true); /* asked for a good copy, it says nothing */
    for (uint8_t id = 101; id < 121; id++) {
        struct rig_io io = io_first;
        io.host = 2;
        io.data_id = id;
        io.check = true;
        CHECK_RC(rig_read(&r, &io), ERR_corrupt);
    }
    CHECK_EQ(rig_info(&r, 2).damaged_count, 20);
    rig_for_ms(&r, 100);
    r.target[2].stranger = true;
    RIG_UNTIL(&r, !r.target[2].stranger);
    r.target[2].found = 0;
    RIG_UNTIL(&r, r.target[2].found >= 20);
    loop_sim_pause(r.target[1].process.loop, false);
    RIG_UNTIL(&r, rig_info(&r, 2).damaged_count == 0);
    rig_close(&r);
}

TEST(reporter_tells_of_a_resync)
{
    struct rig r;
    open_chain(&r, 2);
    rig_row(&r, 1, "1s 2o");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    struct rig_io io = io_first;
    io.data_id = 101;
    CHECK_OK(rig_write(&r, &io));
    rig_row(&r, 1, "1s 2y");
    RIG_UNTIL(&r, r.target[2].synced[1] == r.row[1].epoch);
    RIG_UNTIL(&r, r.target[2].resynced == 1);
    CHECK_EQ(r.target[1].resynced, 0);
    rig_close(&r);
}

TEST(reporter_tells_why_its_disk_writes_no_more)
{
    struct rig r;
    open_chain(&r, 2);
    disk_sim_fail(r.disk[2], DISK_SYNC, NULL, 1, 0, -EIO);
    disk_sim_fail(r.disk[2], DISK_SYNC_ALL, NULL, 1, 0, -EIO);
    struct rig_io io = io_first;
    io.fill = 2;
    struct rig_call w;
    rig_write_begin(&r, &w, &io);
    RIG_UNTIL(&r, r.target[2].fails == 1 && r.target[2].disk_error == -EIO);
    rig_row(&r, 1, "1s 2o");
    RIG_UNTIL(&r, w.done);
    rig_call_end(&w);
    CHECK_EQ(r.target[1].disk_error, 0);
    rig_close(&r);
}
