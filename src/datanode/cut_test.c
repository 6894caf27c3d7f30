/* datanode/cut_test.c -- damaged chunks of which there is no good copy are cut: doc/design/0067. */
#include "datanode/cut.h"

#include "datanode/rig_spoil_priv.h"
#include "testing/testing.h"

#define LENGTH 8192u /* two cells */

static int cut(struct rig *r, uint32_t length, uint32_t tgen)
{
    struct rig_io io = io_first;
    io.kind = PROTO_WRITE_SET_LENGTH;
    io.length = length;
    io.tgen = tgen;
    io.sync = true;
    return rig_write(r, &io);
}

/* As the metadata leader does, until it is answered. */
static void cut_at_last(struct rig *r, uint32_t length, uint32_t tgen)
{
    int rc;
    unsigned tries = 0;
    do {
        rc = cut(r, length, tgen);
        rig_for_ms(r, rc == 0 ? 0 : 100);
    } while (rc < 0 && ++tries < 200);
    CHECK_OK(rc);
}

static uint32_t length_at(struct rig *r, unsigned host)
{
    struct rig_call c;
    struct rig_io io = io_first;
    io.host = host;
    rig_stat_begin(r, &c, &io);
    RIG_UNTIL(r, c.done);
    CHECK_OK(c.rc);
    return c.length;
}

static int read_length(struct rig *r, unsigned host, uint32_t length)
{
    struct rig_io io = io_first;
    io.host = host;
    io.length = length;
    return rig_read(r, &io);
}

/* It may have been found already, by a member that has asked for a good copy. */
static void found_at(struct rig *r, unsigned host)
{
    struct rig_io io = io_first;
    io.host = host;
    io.check = true;
    CHECK_RC(rig_read(r, &io), ERR_corrupt);
}

/* Cell `bad[host - 1]` of each member is, and they know it. */
static void open_bad(struct rig *r, unsigned targets, const unsigned *bad)
{
    open_chain(r, targets);
    for (unsigned host = 1; host <= targets; host++) {
        spoil_block(r, host, 1 + bad[host - 1]);
    }
    for (unsigned host = 1; host <= targets; host++) {
        found_at(r, host);
    }
}

static void check_all(struct rig *r, unsigned targets, uint32_t length, bool good)
{
    for (unsigned host = 1; host <= targets; host++) {
        CHECK_EQ(length_at(r, host), length);
        CHECK_RC(read_length(r, host, length), good ? 0 : ERR_corrupt);
        CHECK_EQ(rig_info(r, host).damaged_count, good ? 0 : 1);
    }
}

static void restart_all(struct rig *r, unsigned targets, bool power)
{
    char row[32] = {0};
    for (unsigned host = 1; host <= targets; host++) {
        if (power) {
            rig_crash(r, host);
        } else {
            rig_kill(r, host);
        }
        row[3 * host - 3] = (char)('0' + host);
        row[3 * host - 2] = 'l';
        row[3 * host - 1] = host == targets ? 0 : ' ';
    }
    rig_row(r, 1, row);
    for (unsigned host = 1; host <= targets; host++) {
        rig_start(r, host);
        RIG_UNTIL(r, rig_info(r, host).target != 0);
    }
    rig_row(r, 1, targets == 1 ? "1s" : targets == 2 ? "1s 2o" : "1s 2o 3o");
    RIG_UNTIL(r, rig_settled(r, 1) && rig_info(r, 1).leased);
}

/* It is as long as it should be at every member, as damaged as before, and stays so. */
static bool stays_damaged(unsigned targets, bool power)
{
    static const unsigned bad[3] = {0, 0, 0};
    struct rig r;
    open_bad(&r, targets, bad);
    cut_at_last(&r, 6000, 2);
    check_all(&r, targets, 6000, false);
    CHECK_OK(cut(&r, 6000, 2)); /* repeated: it is done */
    cut_at_last(&r, 6000, 3);   /* as long as it is */
    cut_at_last(&r, 1000, 4);   /* inside the bad cell */
    check_all(&r, targets, 1000, false);
    struct rig_io io = io_first;
    io.offset = 10; /* a part of it: no */
    io.length = 10;
    io.tgen = 4;
    CHECK_RC(rig_write(&r, &io), ERR_corrupt);
    restart_all(&r, targets, power);
    check_all(&r, 1, 1000, false);
    io = io_first;
    io.length = 1000;
    io.fill = 9;
    io.tgen = 4;
    CHECK_OK(rig_write(&r, &io)); /* all of it heals */
    CHECK_OK(rig_read(&r, &io));
    rig_close(&r);
    return true;
}
TEST(cut_keeps_what_is_damaged_damaged)
{
    for (unsigned targets = 1; targets <= 3; targets++) {
        CHECK_TRUE(stays_damaged(targets, false));
        CHECK_TRUE(stays_damaged(targets, true));
    }
}

/* What was bad is cut off: the rest is good, also at those who have lost something else. */
static bool heals(uint32_t length, const unsigned *bad)
{
    struct rig r;
    open_bad(&r, 3, bad);
    cut_at_last(&r, length, 2);
    check_all(&r, 3, length, true);
    rig_close(&r);
    return true;
}
TEST(cut_to_what_is_good_heals)
{
    static const unsigned same[3] = {1, 1, 1}, other[3] = {1, 0, 0};
    CHECK_TRUE(heals(4096, same));
    CHECK_TRUE(heals(3000, same));
    CHECK_TRUE(heals(4096, other));
}

/* One that is away may have a good copy: nothing is cut before it is back, or its place is
 * another's. */
TEST(cut_waits_for_who_may_have_a_good_copy)
{
    struct rig r;
    open_chain(&r, 3);
    rig_kill(&r, 3);
    rig_row(&r, 1, "1s 2s 3o");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    spoil(&r, 1);
    spoil(&r, 2);
    found_at(&r, 1);
    found_at(&r, 2);
    for (unsigned i = 0; i < 5; i++) {
        CHECK_TRUE(cut(&r, 6000, 2) < 0);
    }
    CHECK_EQ(length_at(&r, 1), LENGTH);
    rig_start(&r, 3);
    RIG_UNTIL(&r, rig_info(&r, 3).target != 0);
    rig_row(&r, 1, "1s 2s 3w");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    cut_at_last(&r, 6000, 2);
    for (unsigned host = 1; host <= 2; host++) {
        CHECK_OK(read_length(&r, host, 6000));
    }
    rig_close(&r);
}

/* A member dies in the middle of it, at any time; then the others have to go on, or all begin from
 * what is on the disk. They agree in the end. */
static void dies(uint64_t us, unsigned victim)
{
    static const unsigned bad[3] = {0, 0, 0};
    struct rig r;
    struct rig_call c;
    struct rig_io io = io_first;
    open_bad(&r, 3, bad);
    io.kind = PROTO_WRITE_SET_LENGTH;
    io.length = 6000;
    io.tgen = 2;
    rig_write_begin(&r, &c, &io);
    uint64_t from_ns = loop_sim_now_ns(r.world);
    RIG_UNTIL(&r, loop_sim_now_ns(r.world) - from_ns >= us * 1000 || c.done);
    rig_kill(&r, victim);
    static const char *const rows[3] = {"2s 3s 1o", "1s 3s 2o", "1s 2s 3o"};
    rig_row(&r, 1, rows[victim - 1]);
    RIG_UNTIL(&r, rig_settled(&r, 1));
    RIG_UNTIL(&r, c.done);
    rig_start(&r, victim);
    RIG_UNTIL(&r, rig_info(&r, victim).target != 0);
    static const char *const waits[3] = {"2s 3s 1w", "1s 3s 2w", "1s 2s 3w"};
    static const char *const syncs[3] = {"2s 3s 1y", "1s 3s 2y", "1s 2s 3y"};
    static const char *const serves[3] = {"2s 3s 1s", "1s 3s 2s", "1s 2s 3s"};
    rig_row(&r, 1, waits[victim - 1]);
    RIG_UNTIL(&r, rig_settled(&r, 1));
    rig_row(&r, 1, syncs[victim - 1]);
    RIG_UNTIL(&r, r.target[victim].synced[1] == r.row[1].epoch);
    rig_row(&r, 1, serves[victim - 1]);
    RIG_UNTIL(&r, rig_settled(&r, 1));
    io.host = victim == 1 ? 2 : 1;
    io.sync = true;
    int rc;
    do {
        rc = rig_write(&r, &io);
        rig_for_ms(&r, rc == 0 ? 0 : 100);
    } while (rc < 0);
    check_all(&r, 3, 6000, false);
    rig_close(&r);
}
TEST(cut_survives_deaths)
{
    unsigned runs = 0;
    for (uint64_t us = 50; us < 20000; us += us / 4, runs++) {
        dies(us, 1 + runs % 3);
    }
    CHECK_TRUE(runs > 20);
}

/* It joins while there is such a chunk, and has it as the others have it. */
TEST(cut_chunks_come_with_a_resync)
{
    static const unsigned bad[3] = {0, 0, 0};
    struct rig r;
    open_bad(&r, 2, bad);
    cut_at_last(&r, 6000, 2);
    rig_kill(&r, 2);
    rig_row(&r, 1, "1s 2o");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    cut_at_last(&r, 6000, 2);
    rig_start(&r, 2);
    RIG_UNTIL(&r, rig_info(&r, 2).target != 0);
    rig_row(&r, 1, "1s 2w");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    cut_at_last(&r, 5000, 3);
    rig_row(&r, 1, "1s 2y");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    cut_at_last(&r, 4500, 4);
    RIG_UNTIL(&r, r.target[2].synced[1] == r.row[1].epoch);
    rig_row(&r, 1, "1s 2s");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    check_all(&r, 2, 4500, false);
    rig_close(&r);
}
