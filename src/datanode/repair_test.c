/* datanode/repair_test.c -- damaged chunks: section 10 of the protocol, cases 20, 24 and 25. */
#include "datanode/repair.h"

#include "datanode/rig_spoil_priv.h"
#include "testing/testing.h"

/* 10.1, 10.2: from any other serving member. */
static bool repair_at(unsigned host)
{
    struct rig r;
    open_chain(&r, 3);
    spoil(&r, host);
    CHECK_RC(check_at(&r, host), ERR_corrupt);
    RIG_UNTIL(&r, read_at(&r, host, 1) == 0);
    CHECK_EQ(rig_info(&r, host).damaged_count, 0);
    struct rig_io io = io_first;
    io.offset = 100; /* goes on as a delta */
    io.length = 10;
    io.fill = 5;
    CHECK_OK(rig_write(&r, &io));
    io.host = host;
    CHECK_OK(rig_read(&r, &io));
    rig_close(&r);
    return true;
}
TEST(repair_by_other_members)
{
    for (unsigned host = 1; host <= 3; host++) {
        CHECK_TRUE(repair_at(host));
    }
}

/* Case 20: a partial overwrite of a cell with bad bytes is never merged, wherever it is. */
static bool overwrite_at(unsigned host)
{
    struct rig r;
    open_chain(&r, 3);
    spoil(&r, host);
    struct rig_io io = io_first;
    io.offset = 100;
    io.length = 10;
    io.fill = 5;
    io.seq = 60;
    int rc;
    do { /* the head repairs first, others ask for the whole content */
        rc = rig_write(&r, &io);
        io.retry = true;
    } while (err_is(rc, EAGAIN) || err_is(rc, ERR_corrupt));
    CHECK_OK(rc);
    for (unsigned at = 1; at <= 3; at++) {
        struct rig_call c;
        struct rig_io all = io_first;
        all.host = at;
        rig_read_begin(&r, &c, &all);
        RIG_UNTIL(&r, c.done);
        CHECK_OK(c.rc);
        CHECK_TRUE(c.data_good);
        CHECK_EQ(c.data[10], 1);
        CHECK_EQ(c.data[99], 1);
        CHECK_EQ(c.data[100], 5);
        CHECK_EQ(c.data[110], 1);
        rig_call_end(&c);
    }
    rig_close(&r);
    return true;
}
TEST(repair_before_a_partial_overwrite)
{
    for (unsigned host = 1; host <= 3; host++) {
        CHECK_TRUE(overwrite_at(host));
    }
}

/* Case 25: the last serving member's copy is bad; one that waits has the same identity. */
TEST(repair_by_a_member_that_waits)
{
    struct rig r;
    open_chain(&r, 2);
    rig_row(&r, 1, "1s 2w");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    spoil(&r, 1);
    CHECK_RC(check_at(&r, 1), ERR_corrupt);
    RIG_UNTIL(&r, read_at(&r, 1, 1) == 0);
    rig_close(&r);
}

#define MANY 65u
/* That many small chunks, all of them bad at one member, which cannot ask the other one. */
static void spoil_many(struct rig *r, unsigned host, uint64_t first, unsigned count)
{
    struct rig_io io = io_first;
    for (unsigned i = 0; i < count; i++) {
        io.data_id = first + i;
        CHECK_OK(rig_write(r, &io));
        CHECK_OK(rig_sync(r, &io));
        spoil_data(r, host, (uint8_t)io.data_id, 4096 + 10);
    }
    net_sim_cut(r->net, 1, 2, true);
    net_sim_cut(r->net, 2, 1, true);
    io.host = host;
    io.check = true;
    for (unsigned i = 0; i < count; i++) {
        io.data_id = first + i;
        CHECK_RC(rig_read(r, &io), ERR_corrupt);
    }
}
/* 10.1: too many to be repaired one by one. It leaves, and is made whole by a resync. */
TEST(repair_of_many_is_a_resync)
{
    struct rig r;
    open_chain(&r, 2);
    spoil_many(&r, 2, 101, MANY - 1);
    rig_for_ms(&r, 500);
    CHECK_EQ(r.target[2].report[1], PROTO_REPORT_OK);
    net_sim_heal(r.net);
    RIG_UNTIL(&r, rig_info(&r, 2).damaged_count == 0);
    spoil_many(&r, 2, 101 + MANY, MANY);
    RIG_UNTIL(&r, r.target[2].report[1] == PROTO_REPORT_GONE);
    CHECK_RC(read_at(&r, 2, 1), ERR_not_serving); /* nothing of it is shown any more */
    CHECK_OK(read_at(&r, 1, 1));
    net_sim_heal(r.net);
    static const char *const rows[] = {"1s 2o", "1s 2w", "1s 2y"};
    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
        rig_row(&r, 1, rows[i]);
        RIG_UNTIL(&r, rig_settled(&r, 1));
    }
    RIG_UNTIL(&r, r.target[2].synced[1] == r.row[1].epoch);
    CHECK_EQ(rig_info(&r, 2).damaged_count, 0);
    rig_row(&r, 1, "1s 2s");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    struct rig_io io = io_first;
    io.host = 2;
    for (unsigned i = 0; i < MANY; i++) {
        io.data_id = 101 + MANY + i;
        CHECK_OK(rig_read(&r, &io));
    }
    rig_close(&r);
}
/* Nobody else serves: what is good of it goes on being served. */
TEST(repair_of_many_never_empties_a_chain)
{
    struct rig r;
    open_chain(&r, 2);
    rig_row(&r, 1, "1s 2w");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    spoil_many(&r, 1, 101, MANY);
    rig_for_ms(&r, 500);
    CHECK_EQ(r.target[1].report[1], PROTO_REPORT_OK);
    CHECK_OK(read_at(&r, 1, 1));
    rig_close(&r);
}

/* The other member could not be reached when the damage was found: nobody has to find it again. */
TEST(repair_is_tried_again)
{
    struct rig r;
    open_chain(&r, 2);
    spoil(&r, 2);
    net_sim_cut(r.net, 1, 2, true);
    net_sim_cut(r.net, 2, 1, true);
    CHECK_RC(check_at(&r, 2), ERR_corrupt);
    rig_for_ms(&r, 8000);
    CHECK_EQ(rig_info(&r, 2).damaged_count, 1);
    net_sim_heal(r.net);
    RIG_UNTIL(&r, rig_info(&r, 2).damaged_count == 0);
    CHECK_OK(read_at(&r, 2, 1));
    rig_close(&r);
}

/* Case 25: another identity is no help. A whole overwrite heals. */
TEST(repair_never_invents)
{
    struct rig r;
    open_chain(&r, 2);
    rig_row(&r, 1, "1s 2w");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    struct rig_io io = io_first;
    io.fill = 2;
    CHECK_OK(rig_write(&r, &io));
    rig_row(&r, 1, "1s 2w");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    CHECK_OK(rig_sync(&r, &io));
    spoil_block(&r, 1, 3); /* the second write's first cell */
    CHECK_RC(check_at(&r, 1), ERR_corrupt);
    rig_for_ms(&r, 3000);
    CHECK_RC(read_at(&r, 1, 2), ERR_corrupt);
    io.length = 4096; /* a part: no, and for good */
    CHECK_RC(rig_write(&r, &io), ERR_corrupt);
    io.length = 8192;
    io.fill = 3;
    CHECK_OK(rig_write(&r, &io));
    CHECK_OK(read_at(&r, 1, 3));
    rig_close(&r);
}

/* 10.4: all copies are bad. What needs the old bytes is told so; what does not need them heals. */
static void check_all_bad(bool dead, bool cut)
{
    struct rig r;
    open_chain(&r, 3);
    for (unsigned host = 1; host <= 3; host++) {
        spoil(&r, host);
    }
    if (dead) { /* one that cannot be asked does not keep the client waiting */
        rig_kill(&r, 3);
        rig_row(&r, 1, "1s 2s 3o");
        RIG_UNTIL(&r, rig_settled(&r, 1));
    }
    struct rig_io io = io_first;
    io.offset = 100;
    io.length = 10;
    io.seq = 60;
    int rc;
    do { /* it is found out with the first */
        rc = rig_write(&r, &io);
        io.retry = true;
    } while (err_is(rc, EAGAIN));
    CHECK_RC(rc, ERR_corrupt);
    for (unsigned host = 1; host <= 2; host++) {
        struct rig_io all = io_first;
        all.host = host;
        all.check = true; /* whether that member has found out or not */
        CHECK_RC(rig_read(&r, &all), ERR_corrupt);
    }
    io = io_first;
    io.kind = cut ? PROTO_WRITE_SET_LENGTH : PROTO_WRITE_AT;
    io.length = cut ? 0 : 8192;
    io.fill = 3;
    io.seq = 61;
    CHECK_OK(rig_write(&r, &io));
    for (unsigned host = 1; host <= 2; host++) {
        io.host = host;
        CHECK_OK(rig_read(&r, &io));
        CHECK_EQ(rig_info(&r, host).damaged_count, 0);
    }
    rig_close(&r);
}
TEST(repair_says_that_there_is_no_good_copy)
{
    check_all_bad(false, false);
    check_all_bad(false, true);
    check_all_bad(true, false);
    check_all_bad(true, true);
}

TEST(repair_does_not_hold_up_a_removal)
{
    struct rig r;
    struct rig_call w;
    open_chain(&r, 2);
    spoil(&r, 1);
    rig_kill(&r, 2); /* cannot be asked */
    rig_row(&r, 1, "1s 2o");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    CHECK_RC(check_at(&r, 1), ERR_corrupt);
    struct rig_io io = io_first;
    io.length = 10;
    rig_write_begin(&r, &w, &io);
    rig_for_ms(&r, 10);
    CHECK_OK(rig_remove(&r, &io));
    RIG_UNTIL(&r, w.done);
    CHECK_TRUE(w.rc == -ERR_gone || w.rc == -ERR_corrupt);
    rig_call_end(&w);
    rig_close(&r);
}

/* A member that serves and does not answer may have a good copy: the client asks again. */
TEST(repair_waits_for_a_serving_member)
{
    struct rig r;
    open_chain(&r, 2);
    spoil(&r, 1);
    net_sim_cut(r.net, 1, 2, true);
    net_sim_cut(r.net, 2, 1, true);
    CHECK_RC(check_at(&r, 1), ERR_corrupt);
    struct rig_io io = io_first;
    io.offset = 100;
    io.length = 10;
    io.fill = 5;
    io.seq = 60;
    CHECK_RC(rig_write(&r, &io), ERR_busy);
    net_sim_cut(r.net, 1, 2, false);
    net_sim_cut(r.net, 2, 1, false);
    int rc;
    do {
        io.retry = true;
        rc = rig_write(&r, &io);
    } while (err_is(rc, EAGAIN));
    CHECK_OK(rc);
    CHECK_OK(rig_read(&r, &io));
    rig_close(&r);
}

/* Nothing is left of the record: not even the length is known, so only what leaves no old byte
 * heals. */
static void check_unknown(bool cut)
{
    struct rig r;
    rig_chain(&r, 1, DATANODE_ENGINE_FILE, testing_seed());
    CHECK_OK(rig_write(&r, &io_first));
    CHECK_OK(rig_sync(&r, &io_first));
    rig_kill(&r, 1);
    for (uint64_t slot = 0; slot < 4; slot++) {
        spoil_at(&r, 1, slot * 512 + 10);
    }
    rig_start(&r, 1);
    RIG_UNTIL(&r, rig_info(&r, 1).target != 0);
    rig_row(&r, 1, "1l");
    rig_row(&r, 1, "1s");
    RIG_UNTIL(&r, rig_settled(&r, 1) && rig_info(&r, 1).leased);
    CHECK_EQ(rig_info(&r, 1).damaged_count, 1);
    CHECK_RC(read_at(&r, 1, 1), ERR_corrupt);
    struct rig_io io = io_first;
    CHECK_RC(rig_write(&r, &io), ERR_corrupt); /* it may have been longer */
    io.kind = cut ? PROTO_WRITE_SET_LENGTH : PROTO_WRITE_AT;
    io.length = cut ? 0 : 4u << 20;
    io.fill = 7;
    CHECK_OK(rig_write(&r, &io));
    CHECK_OK(rig_read(&r, &io));
    CHECK_EQ(rig_info(&r, 1).damaged_count, 0);
    rig_close(&r);
}
TEST(repair_of_what_is_not_known_any_more)
{
    check_unknown(false);
    check_unknown(true);
}

/* Case 24, I9: a send under way keeps its bytes although newer contents are stable. */
TEST(repair_slow_send_keeps_its_content)
{
    struct rig r;
    struct rig_call c;
    rig_chain(&r, 1, DATANODE_ENGINE_FILE, testing_seed());
    struct rig_io io = io_first;
    io.length = 4u << 20;
    CHECK_OK(rig_write(&r, &io));
    rig_read_begin(&r, &c, &io);
    uint64_t reads = 0;
    RIG_UNTIL(&r, ++reads > 200 || c.done);
    for (uint8_t fill = 2; fill < 5; fill++) {
        io.fill = fill;
        io.sync = true;
        CHECK_OK(rig_write(&r, &io));
    }
    RIG_UNTIL(&r, c.done);
    CHECK_OK(c.rc);
    CHECK_TRUE(c.data_good);
    CHECK_EQ(c.data_len, 4u << 20);
    rig_call_end(&c);
    rig_close(&r);
}
