/*
 * datanode/spoilt_test.c -- a member is brought up to date by one that has chunks of which there is
 * no good copy: doc/design/0051.
 */
#include "datanode/spoilt.h"

#include "datanode/resync.h"
#include "datanode/rig_spoil_priv.h"
#include "datanode/worker_priv.h"
#include "testing/testing.h"

#define FIRST 100u
#define COUNT 40u
#define BAD 117u
#define UNTOLD 12u
#define SETTLED_MS 12000u /* by then records say so */

static struct rig_io chunk(unsigned host, uint64_t data_id)
{
    struct rig_io io = io_first;
    io.host = host;
    io.data_id = data_id;
    return io;
}
static int get(struct rig *r, unsigned host, uint64_t data_id)
{
    struct rig_io io = chunk(host, data_id);
    return rig_read(r, &io);
}
static void row(struct rig *r, const char *members)
{
    rig_row(r, 1, members);
    RIG_UNTIL(r, rig_settled(r, 1));
}
static bool synced(struct rig *r, unsigned host)
{
    const struct rig_target *t = &r->target[host];
    return t->report[1] == PROTO_REPORT_SYNCED && t->synced[1] == r->row[1].epoch &&
           t->known[1] == r->row[1].epoch;
}
static void fill(struct rig *r)
{
    for (uint64_t id = FIRST; id < FIRST + COUNT; id++) {
        struct rig_io io = chunk(1, id);
        CHECK_OK(rig_write(r, &io));
        CHECK_OK(rig_sync(r, &io));
    }
}
static void found_bad(struct rig *r, unsigned host, uint64_t data_id)
{
    struct rig_io io = chunk(host, data_id);
    io.check = true;
    spoil_data(r, host, (uint8_t)data_id, 4096 + 10);
    CHECK_RC(rig_read(r, &io), ERR_corrupt);
}
/* `bad` chunks of target 1, which alone serves; the others are blank. */
static void open_spoilt(struct rig *r, unsigned targets, unsigned bad)
{
    rig_chain(r, targets, DATANODE_ENGINE_FILE, testing_seed());
    row(r, targets == 2 ? "1s 2o" : "1s 2o 3o");
    fill(r);
    for (unsigned i = 0; i < bad; i++) {
        found_bad(r, 1, BAD + i);
    }
    rig_for_ms(r, SETTLED_MS);
}
static void check_all(struct rig *r, unsigned host, unsigned bad)
{
    for (uint64_t id = FIRST; id < FIRST + COUNT; id++) {
        if (id >= BAD && id < BAD + bad) {
            CHECK_RC(get(r, host, id), ERR_corrupt);
        } else {
            CHECK_OK(get(r, host, id));
        }
    }
    CHECK_EQ(rig_info(r, host).damaged_count, bad);
}
static bool joins(unsigned bad)
{
    struct rig r;
    open_spoilt(&r, 2, bad);
    row(&r, "1s 2w");
    row(&r, "1s 2y");
    RIG_UNTIL(&r, synced(&r, 2));
    row(&r, "1s 2s");
    check_all(&r, 1, bad);
    check_all(&r, 2, bad);
    RIG_UNTIL(&r, r.target[2].no_copy >= bad); /* the leader knows of both copies */
    struct rig_io io = chunk(1, BAD);
    io.offset = 100; /* a part of it: no, and for good */
    io.length = 10;
    CHECK_RC(rig_write(&r, &io), ERR_corrupt);
    io = chunk(1, BAD);
    io.fill = 7; /* all of it heals both */
    CHECK_OK(rig_write(&r, &io));
    for (unsigned host = 1; host <= 2; host++) {
        io.host = host;
        CHECK_OK(rig_read(&r, &io));
        CHECK_EQ(rig_info(&r, host).damaged_count, bad - 1);
    }
    rig_close(&r);
    return true;
}
TEST(spoilt_chunk_is_told_and_all_others_come)
{
    CHECK_TRUE(joins(1));
    CHECK_TRUE(joins(20));
}

/* Both have the same, but that one of a copy is bad: no sum hides it (doc/design/0068). */
static uint64_t bad_one(unsigned where)
{
    struct rig r;
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    row(&r, "1s 2s");
    fill(&r);
    rig_kill(&r, 3 - where);
    row(&r, where == 1 ? "1s 2o" : "2s 1o");
    found_bad(&r, where, BAD);
    rig_for_ms(&r, SETTLED_MS);
    rig_start(&r, 3 - where);
    RIG_UNTIL(&r, rig_info(&r, 3 - where).target != 0);
    if (where == 2) {
        rig_kill(&r, 2);
        row(&r, "1s 2o");
        rig_start(&r, 2);
        RIG_UNTIL(&r, rig_info(&r, 2).target != 0);
    }
    CHECK_EQ(rig_info(&r, where).damaged_count, 1);
    row(&r, "1s 2w");
    row(&r, "1s 2y");
    RIG_UNTIL(&r, synced(&r, 2));
    row(&r, "1s 2s");
    RIG_UNTIL(&r, rig_info(&r, 1).damaged_count == 0); /* by the good one of target 2 */
    check_all(&r, 1, 0);
    check_all(&r, 2, 0);
    uint64_t ret = stats_counter_value(&r.target[1].worker->counters.resync_equal);
    rig_close(&r);
    return ret;
}
TEST(spoilt_chunk_is_not_hidden_by_a_sum)
{
    CHECK_EQ(bad_one(1), 0);
    CHECK_EQ(bad_one(2), 0);
}

/* It stays what it is in whatever way that member ends; also as the only one that is left. */
static bool stays(bool power_cut)
{
    struct rig r;
    open_spoilt(&r, 2, 3);
    row(&r, "1s 2w");
    row(&r, "1s 2y");
    RIG_UNTIL(&r, synced(&r, 2));
    row(&r, "1s 2s");
    rig_kill(&r, 1);
    row(&r, "2s 1o");
    check_all(&r, 2, 3);
    if (power_cut) {
        rig_crash(&r, 2);
    } else {
        rig_kill(&r, 2);
    }
    rig_row(&r, 1, "2l 1o");
    rig_start(&r, 2);
    RIG_UNTIL(&r, rig_info(&r, 2).target != 0);
    row(&r, "2s 1o");
    RIG_UNTIL(&r, rig_info(&r, 2).leased);
    check_all(&r, 2, 3);
    rig_close(&r);
    return true;
}
TEST(spoilt_chunk_stays_spoilt)
{
    CHECK_TRUE(stays(false));
    CHECK_TRUE(stays(true));
}

/* A member with a good copy comes back: both others have it from there. */
TEST(spoilt_chunk_is_repaired_later)
{
    struct rig r;
    rig_chain(&r, 3, DATANODE_ENGINE_FILE, testing_seed());
    row(&r, "1s 3s 2o");
    fill(&r);
    rig_kill(&r, 3);
    row(&r, "1s 2o 3o");
    found_bad(&r, 1, BAD);
    row(&r, "1s 2w 3o");
    row(&r, "1s 2y 3o");
    RIG_UNTIL(&r, synced(&r, 2));
    row(&r, "1s 2s 3o");
    check_all(&r, 1, 1);
    check_all(&r, 2, 1);
    rig_start(&r, 3);
    RIG_UNTIL(&r, rig_info(&r, 3).target != 0);
    row(&r, "1s 2s 3w");
    rig_for_ms(&r, 30000);
    RIG_UNTIL(&r, rig_info(&r, 1).damaged_count == 0 && rig_info(&r, 2).damaged_count == 0);
    check_all(&r, 1, 0);
    check_all(&r, 2, 0);
    rig_close(&r);
}

/* The member that joins has the only good copy: it gives, and loses nothing. */
TEST(spoilt_chunk_is_repaired_by_whom_it_is_told)
{
    struct rig r;
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    fill(&r);
    rig_kill(&r, 2);
    row(&r, "1s 2o");
    found_bad(&r, 1, BAD);
    rig_start(&r, 2);
    RIG_UNTIL(&r, rig_info(&r, 2).target != 0);
    row(&r, "1s 2w");
    row(&r, "1s 2y");
    RIG_UNTIL(&r, synced(&r, 2));
    row(&r, "1s 2s");
    RIG_UNTIL(&r, rig_info(&r, 1).damaged_count == 0);
    check_all(&r, 1, 0);
    check_all(&r, 2, 0);
    rig_close(&r);
}

/* What it had before is older: it is not shown in place of what was damaged since. */
TEST(spoilt_chunk_takes_the_place_of_an_older_one)
{
    struct rig r;
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    fill(&r);
    row(&r, "1s 2o");
    struct rig_io io = chunk(1, BAD);
    io.fill = 9;
    CHECK_OK(rig_write(&r, &io));
    CHECK_OK(rig_sync(&r, &io));
    spoil_data(&r, 1, BAD, 3 * 4096 + 10); /* the second write's first cell */
    io.check = true;
    CHECK_RC(rig_read(&r, &io), ERR_corrupt);
    row(&r, "1s 2w");
    row(&r, "1s 2y");
    RIG_UNTIL(&r, synced(&r, 2));
    row(&r, "1s 2s");
    check_all(&r, 2, 1);
    rig_close(&r);
}

/* The lists of their checksums are lost, too: they cannot be told, and are more than are worked on
 * at a time. All others are there before long, and the session ends when those are no more. */
TEST(spoilt_chunks_that_cannot_be_told_come_last)
{
    struct rig r;
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    row(&r, "1s 2o");
    fill(&r);
    for (uint64_t id = BAD; id < BAD + UNTOLD; id++) {
        struct rig_io io = chunk(1, id);
        io.length = 1u << 20; /* its list does not fit into the record */
        CHECK_OK(rig_write(&r, &io));
        CHECK_OK(rig_sync(&r, &io));
    }
    rig_stop(&r, 1);
    row(&r, "1l 2o");
    for (uint64_t id = BAD; id < BAD + UNTOLD; id++) {
        spoil_data(&r, 1, (uint8_t)id, 3 * 4096 + 10);
    }
    rig_start(&r, 1);
    RIG_UNTIL(&r, rig_info(&r, 1).target != 0);
    row(&r, "1s 2o");
    RIG_UNTIL(&r, rig_info(&r, 1).leased);
    CHECK_EQ(rig_info(&r, 1).damaged_count, UNTOLD);
    row(&r, "1s 2w");
    row(&r, "1s 2y");
    RIG_UNTIL(&r, rig_info(&r, 2).chunk_count == COUNT - UNTOLD);
    rig_for_ms(&r, 5000);
    CHECK_TRUE(!synced(&r, 2));
    struct rig_io gone = chunk(1, BAD);
    CHECK_OK(rig_remove_many(&r, &gone, UNTOLD, 1));
    RIG_UNTIL(&r, synced(&r, 2));
    row(&r, "1s 2s");
    CHECK_RC(get(&r, 2, BAD), ERR_gone);
    CHECK_OK(get(&r, 2, BAD + UNTOLD));
    rig_close(&r);
}

/* The disk says that it cannot read: `reads` times from the session on, 0: for ever. */
static void unreadable(struct rig *r, uint64_t reads)
{
    static const char *const path = "00000075.00000000"; /* BAD */
    rig_chain(r, 2, DATANODE_ENGINE_FILE, testing_seed());
    row(r, "1s 2o");
    fill(r);
    struct rig_io io = chunk(1, BAD);
    io.check = true;
    disk_sim_fail(r->disk[1], DISK_READ, path, 1, 1, -EIO);
    CHECK_RC(rig_read(r, &io), ERR_corrupt);
    disk_sim_heal(r->disk[1]);
    disk_sim_fail(r->disk[1], DISK_READ, path, 1, reads, -EIO);
    row(r, "1s 2w");
    row(r, "1s 2y");
    RIG_UNTIL(r, synced(r, 2));
    row(r, "1s 2s");
}
TEST(spoilt_chunk_that_cannot_be_read_is_told)
{
    struct rig r;
    unreadable(&r, 0);
    check_all(&r, 1, 1);
    check_all(&r, 2, 1);
    rig_close(&r);
}
/* In one go it cannot be read, cell by cell it can: all that is there is good. */
TEST(spoilt_chunk_is_read_cell_by_cell)
{
    struct rig r;
    unreadable(&r, 1);
    RIG_UNTIL(&r, rig_info(&r, 1).damaged_count == 0);
    check_all(&r, 1, 0);
    check_all(&r, 2, 0);
    rig_close(&r);
}

/* Either side dies in the middle of it, at any time. */
TEST(spoilt_chunks_survive_deaths)
{
    for (uint64_t ms = 1; ms < 60; ms += 7) {
        struct rig r;
        open_spoilt(&r, 2, 10);
        row(&r, "1s 2w");
        row(&r, "1s 2y");
        rig_for_ms(&r, ms);
        unsigned victim = ms % 2 == 1 ? 1 : 2;
        rig_kill(&r, victim);
        rig_row(&r, 1, victim == 1 ? "1l 2w" : "1s 2o");
        rig_start(&r, victim);
        RIG_UNTIL(&r, rig_info(&r, victim).target != 0);
        row(&r, "1s 2w");
        RIG_UNTIL(&r, rig_info(&r, 1).leased);
        row(&r, "1s 2y");
        RIG_UNTIL(&r, synced(&r, 2));
        row(&r, "1s 2s");
        check_all(&r, 2, 10);
        rig_close(&r);
    }
}
