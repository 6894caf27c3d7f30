/* datanode/hold_test.c -- what a target still knows after a start of the chains that it has left.
 */
#include "datanode/hold.h"

#include "datanode/rig_world_priv.h"
#include "testing/testing.h"

#define CHUNKS 5u

TEST(hold_records_are_checked)
{
    const struct datanode_hold_record x = {.chain = 7, .epoch = 9, .lost = true};
    struct datanode_hold_record y;
    uint8_t bytes[DATANODE_HOLD_BYTES];
    datanode_hold_encode(&x, 3, bytes);
    CHECK_OK(datanode_hold_decode(bytes, 3, &y));
    CHECK_EQ(y.chain, 7);
    CHECK_EQ(y.epoch, 9);
    CHECK_TRUE(y.lost);
    const struct datanode_hold_record unknown = {.chain = 7, .lost = true};
    datanode_hold_encode(&unknown, 3, bytes);
    CHECK_OK(datanode_hold_decode(bytes, 3, &y));
    CHECK_EQ(y.epoch, 0);
    CHECK_TRUE(y.lost);
    datanode_hold_encode(&x, 3, bytes);
    CHECK_RC(datanode_hold_decode(bytes, 4, &y), ERR_bad_crc); /* it was somewhere else */
    for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_RC(datanode_hold_decode(bytes, 3, &y), ERR_bad_crc);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t len = sizeof bytes; len > 0; len--) { /* the file ended early */
        bytes[len - 1] = 0;
        CHECK_RC(datanode_hold_decode(bytes, 3, &y), ERR_bad_crc);
    }
    CHECK_RC(datanode_hold_decode(bytes, 0, &y), ERR_bad_crc);
}

static void row(struct rig *r, const char *members)
{
    rig_row(r, 1, members);
    RIG_UNTIL(r, rig_settled(r, 1));
}

/* A chain that target 3 has left, and deleted. */
static void leave(struct rig *r)
{
    rig_chain(r, 3, DATANODE_ENGINE_FILE, testing_seed());
    for (uint32_t i = 0; i < CHUNKS; i++) {
        struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 4096, .fill = 7};
        io.index = i;
        CHECK_OK(rig_write(r, &io));
    }
    row(r, "1s 2s");
    RIG_UNTIL(r, rig_info(r, 3).chunk_count == 0);
}

/* Its next process: registers while the row says `serving`, and then nobody is left. */
static void next_life(struct rig *r, bool power, const char *serving, const char *dark)
{
    if (power) {
        rig_crash(r, 3);
    } else {
        rig_kill(r, 3);
    }
    rig_row(r, 1, serving);
    rig_start(r, 3);
    RIG_UNTIL(r, rig_info(r, 3).target != 0);
    row(r, dark);
}

/* By R4 it would be a good copy: it is intact, and the row says that it served. */
static void check_lives(bool power)
{
    struct rig r;
    leave(&r);
    r.row[1].epoch += 400000000; /* the metadata are those of a backup */
    next_life(&r, power, "1s 2s 3s", "1l 2l 3l");
    CHECK_EQ(r.target[3].report[1], PROTO_REPORT_GONE);
    CHECK_EQ(r.target[1].report[1], PROTO_REPORT_OK);
    next_life(&r, power, "1l 2l 3l", "1l 2l 3l"); /* and the one after that */
    CHECK_EQ(r.target[3].report[1], PROTO_REPORT_GONE);
    row(&r, "1s 3o 2o");
    RIG_UNTIL(&r, r.target[3].report[1] == PROTO_REPORT_OK);
    row(&r, "1s 3w 2o");
    row(&r, "1s 3y 2o");
    RIG_UNTIL(&r, r.target[3].synced[1] == r.row[1].epoch);
    next_life(&r, power, "1s 3s 2o", "1l 3l 2o"); /* now it has all: the session said so */
    CHECK_EQ(r.target[3].report[1], PROTO_REPORT_OK);
    CHECK_EQ(rig_info(&r, 3).chunk_count, CHUNKS);
    rig_close(&r);
}
TEST(what_it_has_left_is_known_after_a_restart)
{
    check_lives(false);
}
TEST(what_it_has_left_is_known_after_a_power_cut)
{
    check_lives(true);
}

/* A part of a copy is none either. */
TEST(a_session_that_has_not_ended_is_known_after_a_restart)
{
    struct rig r;
    leave(&r);
    row(&r, "1s 2s 3w");
    rig_for_ms(&r, 1000);
    r.row[1].epoch += 400000000;
    next_life(&r, false, "1s 2s 3s", "1l 2l 3l");
    CHECK_EQ(r.target[3].report[1], PROTO_REPORT_GONE);
    rig_close(&r);
}

/* Nothing is deleted before it is sure that this will be known; and it is tried again. */
TEST(nothing_goes_before_it_is_noted)
{
    struct rig r;
    rig_chain(&r, 3, DATANODE_ENGINE_FILE, testing_seed());
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 4096, .fill = 7};
    CHECK_OK(rig_write(&r, &io));
    disk_sim_fail(r.disk[3], DISK_WRITE, "/store/chains", 1, 3, -ENOSPC);
    row(&r, "1s 2s");
    rig_for_ms(&r, 1500);
    CHECK_EQ(rig_info(&r, 3).chunk_count, 1);
    RIG_UNTIL(&r, rig_info(&r, 3).chunk_count == 0);
    CHECK_EQ(r.target[3].fails, 0);
    rig_close(&r);
}

/* Nobody knows what of it is there then: the same place is not written once more. */
TEST(a_sync_of_the_list_that_finds_no_room_is_the_end)
{
    struct rig r;
    rig_chain(&r, 3, DATANODE_ENGINE_FILE, testing_seed());
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 4096, .fill = 7};
    CHECK_OK(rig_write(&r, &io));
    disk_sim_fail(r.disk[3], DISK_SYNC, "/store/chains", 1, 1, -ENOSPC);
    rig_row(&r, 1, "1s 2s");
    RIG_UNTIL(&r, r.target[3].fails == 1);
    rig_for_ms(&r, 3000);
    CHECK_EQ(rig_info(&r, 3).chunk_count, 1);
    CHECK_EQ(r.target[3].fails, 1);
    rig_close(&r);
}

/* What a failed sync has left in the page cache looks as if it were noted, and may be nowhere else:
 * what a life says of it the one after a power cut says, too. */
TEST(what_a_life_knows_the_next_one_does)
{
    unsigned gone = 0;
    for (unsigned i = 0; i < 16; i++) {
        struct rig r;
        rig_chain(&r, 3, DATANODE_ENGINE_FILE, testing_seed() + i);
        struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 4096, .fill = 7};
        CHECK_OK(rig_write(&r, &io));
        disk_sim_fail(r.disk[3], DISK_SYNC, "/store/chains", 1, 1, -EIO);
        rig_row(&r, 1, "1s 2s");
        RIG_UNTIL(&r, r.target[3].fails == 1);
        r.row[1].epoch += 400000000; /* the metadata are those of a backup */
        next_life(&r, false, "1s 2s 3s", "1l 2l 3l");
        unsigned says = r.target[3].report[1];
        CHECK_TRUE(says == PROTO_REPORT_GONE || says == PROTO_REPORT_OK); /* nothing was deleted */
        gone += says == PROTO_REPORT_GONE ? 1 : 0;
        next_life(&r, true, "1l 2l 3l", "1l 2l 3l");
        CHECK_EQ(r.target[3].report[1], says);
        rig_close(&r);
    }
    CHECK_TRUE(gone > 0 && gone < 16);
}

/* A list that is damaged keeps nobody from starting; what can be read of it counts. */
TEST(a_damaged_list_is_read_as_far_as_it_goes)
{
    struct rig r;
    leave(&r);
    rig_row(&r, 2, "1s 3s");
    RIG_UNTIL(&r, rig_settled(&r, 2));
    rig_row(&r, 2, "1s 2s");
    RIG_UNTIL(&r, rig_settled(&r, 2));
    rig_for_ms(&r, 1000);
    CHECK_EQ(disk_sim_corrupt(r.disk[3], "/store/chains", 21, 0x10), 0); /* of chain 1 */
    r.row[1].epoch += 400000000;
    r.row[2].epoch += 400000000;
    rig_kill(&r, 3);
    rig_row(&r, 1, "1s 2s 3s");
    rig_row(&r, 2, "1s 2s 3s");
    rig_start(&r, 3);
    RIG_UNTIL(&r, rig_info(&r, 3).target != 0);
    row(&r, "1l 2l 3l");
    rig_row(&r, 2, "1l 2l 3l");
    RIG_UNTIL(&r, rig_settled(&r, 2));
    CHECK_EQ(r.target[3].report[2], PROTO_REPORT_GONE);
    CHECK_EQ(r.target[3].report[1], PROTO_REPORT_OK); /* as if it had never been noted */
    rig_close(&r);
}

/* ---- What was left while the process was down ---- */

static void begin(struct rig *r)
{
    rig_chain(r, 3, DATANODE_ENGINE_FILE, testing_seed());
    for (uint32_t i = 0; i < CHUNKS; i++) {
        struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 4096, .fill = 7};
        io.index = i;
        CHECK_OK(rig_write(r, &io));
    }
    rig_for_ms(r, 1000); /* it has noted that it is a member */
}

/* Target 3 begins again, with these rows behind it. */
static void away(struct rig *r, bool power, const char *const *rows, size_t count)
{
    if (power) {
        rig_crash(r, 3);
    } else {
        rig_kill(r, 3);
    }
    for (size_t i = 0; i < count; i++) {
        rig_row(r, 1, rows[i]);
    }
    rig_start(r, 3);
    RIG_UNTIL(r, rig_info(r, 3).target != 0);
}

static void check_left(bool power)
{
    static const char *const rows[] = {"1s 2s 3o", "1s 2s"};
    struct rig r;
    begin(&r);
    away(&r, power, rows, 2);
    RIG_UNTIL(&r, rig_info(&r, 3).chunk_count == 0);
    CHECK_EQ(rig_info(&r, 1).chunk_count, CHUNKS);
    CHECK_EQ(rig_info(&r, 2).chunk_count, CHUNKS);
    rig_close(&r);
}
TEST(what_it_left_while_it_was_down_goes)
{
    check_left(false);
}
TEST(what_it_left_while_it_had_no_power_goes)
{
    check_left(true);
}

/* The rows are those of a backup: they may be older than what it has. */
TEST(what_it_left_by_the_rows_of_a_backup_stays)
{
    static const char *const rows[] = {"1s 2s"};
    struct rig r;
    begin(&r);
    r.row[1].epoch += 600; /* two restores that are ten minutes apart */
    away(&r, false, rows, 1);
    rig_for_ms(&r, 5000);
    CHECK_EQ(rig_info(&r, 3).chunk_count, CHUNKS);
    away(&r, true, rows, 1); /* nor by the rows after that */
    rig_for_ms(&r, 5000);
    CHECK_EQ(rig_info(&r, 3).chunk_count, CHUNKS);
    rig_close(&r);
}

/* A target that lives through many changes notes them now and then. */
TEST(what_it_knows_of_its_place_is_noted_again)
{
    static const char *const rows[] = {"1s 2s"};
    struct rig r;
    begin(&r);
    r.row[1].epoch += 400;
    row(&r, "1s 2s 3s");
    rig_for_ms(&r, 1000);
    r.row[1].epoch += 400;
    away(&r, false, rows, 1);
    RIG_UNTIL(&r, rig_info(&r, 3).chunk_count == 0);
    CHECK_EQ(rig_info(&r, 2).chunk_count, CHUNKS);
    rig_close(&r);
}

/* It has seen itself leave, but nobody served the chain; the end of that comes in its next life. */
TEST(what_it_began_to_leave_goes_after_a_restart)
{
    static const char *const rows[] = {"1s 2s"};
    struct rig r;
    begin(&r);
    row(&r, "1l 2l");
    rig_for_ms(&r, 2000);
    CHECK_EQ(rig_info(&r, 3).chunk_count, CHUNKS);
    away(&r, true, rows, 1);
    RIG_UNTIL(&r, rig_info(&r, 3).chunk_count == 0);
    rig_close(&r);
}

/* What could not be noted is not known. */
TEST(what_was_not_noted_stays)
{
    static const char *const rows[] = {"1s 2s"};
    struct rig r;
    begin(&r);
    CHECK_EQ(disk_sim_corrupt(r.disk[3], "/store/chains", 5, 0x10), 0);
    away(&r, false, rows, 1);
    rig_for_ms(&r, 5000);
    CHECK_EQ(rig_info(&r, 3).chunk_count, CHUNKS);
    CHECK_EQ(r.target[3].fails, 0);
    rig_close(&r);
}
