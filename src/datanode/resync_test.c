/*
 * datanode/resync_test.c -- members that come back (section 9 of the protocol, and the cases of
 * section 13 that need a resync), intact and lossy.
 */
#include "datanode/resync.h"

#include "datanode/rig_world_priv.h"
#include "datanode/worker_priv.h"
#include "testing/testing.h"

static struct rig_io chunk(unsigned host, uint32_t index, uint8_t fill)
{
    struct rig_io io = {.host = host, .chain = 1, .data_id = 100, .length = 8192};
    io.index = index;
    io.fill = fill;
    return io;
}
static int put(struct rig *r, unsigned host, uint32_t index, uint8_t fill)
{
    struct rig_io io = chunk(host, index, fill);
    return rig_write(r, &io);
}
static int get(struct rig *r, unsigned host, uint32_t index, uint8_t fill)
{
    struct rig_io io = chunk(host, index, fill);
    return rig_read(r, &io);
}
static void settle(struct rig *r)
{
    RIG_UNTIL(r, rig_settled(r, 1));
}
static void row(struct rig *r, const char *members)
{
    rig_row(r, 1, members);
    settle(r);
}
static bool synced(struct rig *r, unsigned host)
{
    const struct rig_target *t = &r->target[host];
    return t->report[1] == PROTO_REPORT_SYNCED && t->synced[1] == r->row[1].epoch &&
           t->known[1] == r->row[1].epoch;
}
/* Starts `host` anew; the rows let it in up to syncing, behind `others`. */
static void come_back(struct rig *r, unsigned host, const char *others)
{
    char members[32];
    struct text t;
    rig_start(r, host);
    RIG_UNTIL(r, rig_info(r, host).target != 0);
    text_init(&t, members, sizeof members);
    text_add(&t, "%s %uw", others, host);
    row(r, members);
    text_init(&t, members, sizeof members);
    text_add(&t, "%s %uy", others, host);
    row(r, members);
}

/* Section 8.5: returns intact, takes over only what changed meanwhile. */
TEST(resync_intact_member_takes_differences)
{
    struct rig r;
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    for (uint32_t i = 0; i < 30; i++) {
        CHECK_OK(put(&r, 1, i, 1));
    }
    rig_kill(&r, 2);
    row(&r, "1s 2o");
    CHECK_OK(put(&r, 1, 3, 2));
    CHECK_OK(put(&r, 1, 40, 3));
    come_back(&r, 2, "1s");
    CHECK_TRUE(!r.target[2].lossy);
    RIG_UNTIL(&r, synced(&r, 2));
    CHECK_RC(get(&r, 2, 0, 1), ERR_not_serving); /* I5: not before the row says so */
    row(&r, "1s 2s");
    for (uint32_t i = 0; i < 30; i++) {
        CHECK_OK(get(&r, 2, i, i == 3 ? 2 : 1));
    }
    CHECK_OK(get(&r, 2, 40, 3));
    CHECK_OK(put(&r, 1, 3, 4)); /* goes on as a delta */
    CHECK_OK(get(&r, 2, 3, 4));
    rig_close(&r);
}

static uint64_t looks(const struct rig *r)
{
    return stats_counter_value(&r->target[1].worker->counters.resync_looks) +
           stats_counter_value(&r->target[2].worker->counters.resync_looks);
}
static uint64_t copies(const struct rig *r)
{
    return stats_counter_value(&r->target[1].worker->counters.copies);
}
/* Both chains, one after the other, with target 2 in this state. */
static void rows(struct rig *r, const char *members)
{
    for (uint32_t chain = 1; chain <= 2; chain++) {
        rig_row(r, chain, members);
        RIG_UNTIL(r, rig_settled(r, chain));
    }
}
static bool both_synced(struct rig *r)
{
    const struct rig_target *t = &r->target[2];
    return synced(r, 2) && t->report[2] == PROTO_REPORT_SYNCED && t->synced[2] == r->row[2].epoch &&
           t->known[2] == r->row[2].epoch;
}
static void both_come_back(struct rig *r)
{
    rig_start(r, 2);
    RIG_UNTIL(r, rig_info(r, 2).target != 0);
    rows(r, "1s 2w");
    rows(r, "1s 2y");
    RIG_UNTIL(r, both_synced(r));
}
#define EACH 40u

static void check_many(struct rig *r, uint32_t chain, unsigned host)
{
    for (uint32_t i = 0; i < EACH; i++) {
        struct rig_io io = chunk(host, i, (uint8_t)(i == 3 && chain == 1 ? 77 : 1));
        io.chain = chain;
        io.data_id = 100 + chain;
        CHECK_OK(rig_read(r, &io));
    }
}

/* A member that has all comes back without a look at one chunk, of however many chains; where one
 * chunk differs that one is copied, and the other chain costs nothing. */
static uint64_t equal_members(enum datanode_engine engine, bool power)
{
    struct rig r;
    rig_chain(&r, 2, engine, testing_seed());
    rows(&r, "1s 2s");
    for (uint32_t chain = 1; chain <= 2; chain++) {
        for (uint32_t i = 0; i < EACH; i++) {
            struct rig_io io = chunk(1, i, 1);
            io.chain = chain;
            io.data_id = 100 + chain;
            CHECK_OK(rig_write(&r, &io));
            CHECK_OK(rig_sync(&r, &io));
        }
    }
    if (power) {
        rig_crash(&r, 2);
    } else {
        rig_kill(&r, 2);
    }
    rows(&r, "1s 2o");
    both_come_back(&r);
    CHECK_EQ(looks(&r), 0);
    CHECK_EQ(copies(&r), 0);
    CHECK_EQ(stats_counter_value(&r.target[1].worker->counters.resync_equal), 2);
    rows(&r, "1s 2s");
    rig_kill(&r, 2);
    rows(&r, "1s 2o");
    struct rig_io io = chunk(1, 3, 77);
    io.data_id = 101;
    CHECK_OK(rig_write(&r, &io));
    both_come_back(&r);
    CHECK_EQ(copies(&r), 1);
    CHECK_EQ(stats_counter_value(&r.target[1].worker->counters.resync_equal), 3);
    rows(&r, "1s 2s");
    check_many(&r, 1, 2);
    check_many(&r, 2, 2);
    uint64_t ret = looks(&r);
    rig_close(&r);
    return ret;
}

TEST(resync_of_equal_members_looks_at_nothing)
{
    CHECK_TRUE(equal_members(DATANODE_ENGINE_FILE, false) >= 2 * EACH);
    CHECK_TRUE(equal_members(DATANODE_ENGINE_FILE, true) >= 2 * EACH);
    CHECK_TRUE(equal_members(DATANODE_ENGINE_EXTENT, false) >= 2 * EACH);
    CHECK_TRUE(equal_members(DATANODE_ENGINE_EXTENT, true) >= 2 * EACH);
}

/* A blank disk gets everything. */
TEST(resync_new_member_gets_all)
{
    struct rig r;
    rig_chain(&r, 3, DATANODE_ENGINE_FILE, testing_seed());
    row(&r, "1s 2s 3o");
    for (uint32_t i = 0; i < 50; i++) {
        CHECK_OK(put(&r, 1, i, (uint8_t)i));
    }
    CHECK_EQ(disk_sim_begun(r.disk[2], DISK_COPYING), 0);
    row(&r, "1s 2s 3w");
    row(&r, "1s 2s 3y");
    RIG_UNTIL(&r, synced(&r, 3));
    /* Both ends do it in the background. */
    CHECK_TRUE(disk_sim_begun(r.disk[2], DISK_COPYING) >= 50);
    CHECK_TRUE(disk_sim_begun(r.disk[3], DISK_COPYING) >= 50);
    row(&r, "1s 2s 3s");
    for (uint32_t i = 0; i < 50; i++) {
        CHECK_OK(get(&r, 3, i, (uint8_t)i));
    }
    rig_close(&r);
}

/* Fifty chunks that target 3 does not have; it is about to get them from 2. */
static void behind(struct rig *r, uint64_t rate)
{
    const struct rig_options opt = {
        .seed = testing_seed(), .targets = 3, .engine = DATANODE_ENGINE_FILE, .move_rate = rate};
    rig_chain_with(r, &opt);
    row(r, "1s 2s 3o");
    for (uint32_t i = 0; i < 50; i++) {
        CHECK_OK(put(r, 1, i, (uint8_t)i));
    }
    row(r, "1s 2s 3w");
}
static uint64_t now_ms(const struct rig *r)
{
    return loop_sim_now_ns(r->world) / 1000000;
}

/* What is copied takes as long as `move_rate` says; who reads at the source, or writes, waits for
 * nothing of that. */
TEST(resync_keeps_to_its_rate)
{
    struct rig r;
    behind(&r, 50 * 8192 / 4);
    uint64_t begin = now_ms(&r), slowest = 0;
    rig_row(&r, 1, "1s 2s 3y");
    settle(&r);
    for (uint32_t i = 0; !synced(&r, 3); i++) {
        uint64_t asked = now_ms(&r);
        CHECK_OK(get(&r, 2, i % 50, (uint8_t)(i % 50)));
        CHECK_OK(put(&r, 1, 50, (uint8_t)i));
        slowest = base_max(slowest, now_ms(&r) - asked);
        rig_for_ms(&r, 20);
    }
    uint64_t took = now_ms(&r) - begin;
    CHECK_TRUE(took >= 3700 && took <= 4800);
    CHECK_TRUE(slowest <= 50);
    row(&r, "1s 2s 3s");
    for (uint32_t i = 0; i < 50; i++) {
        CHECK_OK(get(&r, 3, i, (uint8_t)i));
    }
    rig_close(&r);
}

static void rate_inside(void *ctx)
{
    struct rig *r = ctx;
    datanode_worker_move_rate(r->target[2].worker, r->opt.move_rate);
}
/* Another rate counts at once, also for who waits for the old one; and is told. */
TEST(resync_takes_another_rate)
{
    struct rig r;
    behind(&r, 100);
    row(&r, "1s 2s 3y");
    rig_for_ms(&r, 10000);
    CHECK_TRUE(!synced(&r, 3));
    RIG_UNTIL(&r, r.target[2].figures.move_rate == 100);
    uint64_t begin = now_ms(&r);
    r.opt.move_rate = 0;
    rig_in(r.target[2].process.loop, rate_inside, &r);
    RIG_UNTIL(&r, synced(&r, 3));
    CHECK_TRUE(now_ms(&r) - begin <= 1000);
    RIG_UNTIL(&r, r.target[2].figures.move_rate == 0);
    rig_close(&r);
}

/* Writes go on: whole FORWARDs and COPYs of the same chunks, in any order (case 12, I3). */
TEST(resync_runs_while_writes_go_on)
{
    struct rig r;
    rig_chain(&r, 3, DATANODE_ENGINE_FILE, testing_seed());
    row(&r, "1s 2s 3o");
    for (uint32_t i = 0; i < 20; i++) {
        CHECK_OK(put(&r, 1, i, 1));
    }
    row(&r, "1s 2s 3w");
    rig_row(&r, 1, "1s 2s 3y");
    unsigned done = 0;
    for (unsigned n = 0; n < 200 && (done == 0 || n < done + 20); n++) {
        struct rig_io io = chunk(1, n % 25, (uint8_t)n);
        int rc = rig_write(&r, &io);
        CHECK_TRUE(rc == 0 || rc == -ERR_ahead_epoch || rc == -ERR_stale_epoch);
        if (rc != 0) {
            n--;
            continue;
        }
        done = done == 0 && synced(&r, 3) ? n : done;
    }
    RIG_UNTIL(&r, synced(&r, 3));
    row(&r, "1s 2s 3s");
    for (uint32_t i = 0; i < 25; i++) {
        struct rig_call a;
        struct rig_call b;
        struct rig_io io = chunk(1, i, 0);
        rig_read_begin(&r, &a, &io);
        io.host = 3;
        rig_read_begin(&r, &b, &io);
        RIG_UNTIL(&r, a.done && b.done);
        CHECK_OK(a.rc);
        CHECK_OK(b.rc);
        CHECK_EQ(a.identity.ver, b.identity.ver);
        CHECK_EQ(a.data_len, b.data_len);
        CHECK_BYTES(a.data, b.data, a.data_len);
        rig_call_end(&a);
        rig_call_end(&b);
        CHECK_OK(put(&r, 1, i, 9));
        CHECK_OK(get(&r, 3, i, 9));
    }
    rig_close(&r);
}

/* A truncation that reaches a syncing member as a whole FORWARD keeps its generation: as the head
 * it refuses what was written before. */
TEST(resync_truncation_keeps_its_generation)
{
    struct rig r;
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    row(&r, "1s 2o");
    CHECK_OK(put(&r, 1, 0, 1));
    row(&r, "1s 2w");
    row(&r, "1s 2y");
    RIG_UNTIL(&r, synced(&r, 2));
    struct rig_io cut = chunk(1, 0, 1);
    cut.kind = PROTO_WRITE_SET_LENGTH;
    cut.length = 5000;
    cut.tgen = 3;
    CHECK_OK(rig_write(&r, &cut));
    row(&r, "1s 2s");
    row(&r, "2s 1o");
    CHECK_RC(put(&r, 2, 0, 2), ERR_stale_trunc);
    rig_close(&r);
}

static void leave_inside(void *ctx)
{
    struct rig *r = ctx;
    datanode_chain_gone(datanode_chain_find(r->target[2].worker, 1), "the test says so");
}
/* Who has said that it leaves does not report itself as whole in the same epoch. */
TEST(resync_end_does_not_take_back_that_it_leaves)
{
    struct rig r;
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    CHECK_OK(put(&r, 1, 0, 1));
    row(&r, "1s 2w");
    rig_for_ms(&r, 2000);
    disk_sim_slow(r.disk[2], RIG_SECOND); /* what it has is being made stable for a while */
    row(&r, "1s 2y");
    RIG_UNTIL(&r, r.target[2].worker->sink_count == 2); /* the session, and its end */
    rig_in(r.target[2].process.loop, leave_inside, &r);
    RIG_UNTIL(&r, r.target[2].report[1] == PROTO_REPORT_GONE);
    for (unsigned i = 0; i < 20; i++) {
        rig_for_ms(&r, 500);
        CHECK_EQ(r.target[2].report[1], PROTO_REPORT_GONE);
    }
    disk_sim_slow(r.disk[2], 0);
    rig_close(&r);
}

static bool stores(struct rig *r)
{
    bool found = false;
    LIST_FOR_EACH(at, &r->target[2].worker->updates)
    {
        const struct datanode_update *u = LIST_ENTRY(at, struct datanode_update, node);
        found = found || u->state == DATANODE_UPDATE_STORE;
    }
    return found;
}
static bool session_begun(struct rig *r)
{
    return datanode_chain_find(r->target[2].worker, 1)->sink != NULL;
}
/* What is being stored for an older row is in no index and not pending: a session waits for it. */
TEST(resync_begins_when_what_is_older_is_stored)
{
    struct rig r;
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    row(&r, "1s 2o");
    CHECK_OK(put(&r, 1, 0, 1));
    row(&r, "1s 2w");
    rig_for_ms(&r, 2000);
    row(&r, "1s 2y");
    RIG_UNTIL(&r, session_begun(&r));
    disk_sim_slow(r.disk[2], 3 * RIG_SECOND);
    RIG_UNTIL(&r, stores(&r)); /* a COPY */
    row(&r, "1s 2w");
    rig_row(&r, 1, "1s 2y");
    for (unsigned i = 0; i < 100 && stores(&r); i++) {
        CHECK_TRUE(!session_begun(&r));
        rig_for_ms(&r, 20);
    }
    disk_sim_slow(r.disk[2], 0);
    RIG_UNTIL(&r, synced(&r, 2));
    row(&r, "1s 2s");
    CHECK_OK(get(&r, 2, 0, 1));
    rig_close(&r);
}

/* Case 11 (and 10): what comes back is of a dead epoch, with equal and with higher numbers. */
TEST(resync_overwrites_higher_versions)
{
    struct rig r;
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    for (uint32_t i = 0; i < 4; i++) {
        CHECK_OK(put(&r, 1, i, 1));
    }
    rig_kill(&r, 1);
    row(&r, "2s 1o");
    for (uint8_t n = 0; n < 5; n++) {
        CHECK_OK(put(&r, 2, 0, (uint8_t)(10 + n)));
    }
    CHECK_OK(put(&r, 2, 1, 20)); /* the number that 1 will give as well: case 10 */
    CHECK_OK(put(&r, 2, 9, 30)); /* only here */
    rig_kill(&r, 2);
    row(&r, "2l 1o");
    rig_start(&r, 1);
    RIG_UNTIL(&r, rig_info(&r, 1).target != 0);
    r.row[1].loss_gen++; /* by an administrator's command */
    row(&r, "1s 2o");
    RIG_UNTIL(&r, rig_info(&r, 1).leased);
    CHECK_OK(put(&r, 1, 1, 21));
    come_back(&r, 2, "1s");
    RIG_UNTIL(&r, synced(&r, 2));
    row(&r, "1s 2s");
    CHECK_OK(get(&r, 2, 0, 1));
    CHECK_OK(get(&r, 2, 1, 21));
    CHECK_OK(get(&r, 2, 2, 1));
    CHECK_EQ(rig_info(&r, 2).chunk_count, 4); /* DROP */
    CHECK_OK(put(&r, 1, 0, 40));
    CHECK_OK(get(&r, 2, 0, 40));
    rig_close(&r);
}

/* Case 14: synced while a member was syncing; that member alone comes back after a power cut. */
TEST(resync_member_has_what_was_synced)
{
    struct rig r;
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    row(&r, "1s 2o");
    for (uint32_t i = 0; i < 10; i++) {
        CHECK_OK(put(&r, 1, i, 1));
    }
    row(&r, "1s 2w");
    row(&r, "1s 2y");
    CHECK_OK(put(&r, 1, 5, 2));
    struct rig_io io = chunk(1, 5, 2);
    CHECK_OK(rig_sync(&r, &io));
    RIG_UNTIL(&r, synced(&r, 2));
    row(&r, "1s 2s");
    for (unsigned host = 1; host <= 2; host++) {
        disk_sim_crash_mode(r.disk[host], DISK_SIM_LOSE_ALL);
        rig_crash(&r, host);
    }
    rig_row(&r, 1, "2l 1l");
    rig_start(&r, 2);
    RIG_UNTIL(&r, rig_info(&r, 2).target != 0);
    row(&r, "2s 1o");
    RIG_UNTIL(&r, rig_info(&r, 2).leased);
    CHECK_OK(get(&r, 2, 5, 2));
    CHECK_OK(get(&r, 2, 4, 1)); /* SYNC_END made everything stable */
    rig_close(&r);
}

/* Lossy: power fails at one member, unsynced data of it is gone or torn. */
TEST(resync_lossy_member_is_made_whole)
{
    struct rig r;
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    for (uint32_t i = 0; i < 30; i++) {
        CHECK_OK(put(&r, 1, i, 1));
    }
    struct rig_io io = chunk(1, 0, 1);
    CHECK_OK(rig_sync(&r, &io));
    for (uint32_t i = 0; i < 30; i++) {
        CHECK_OK(put(&r, 1, i, 2));
    }
    rig_crash(&r, 2);
    row(&r, "1s 2o");
    come_back(&r, 2, "1s");
    CHECK_TRUE(r.target[2].lossy);
    RIG_UNTIL(&r, synced(&r, 2));
    row(&r, "1s 2s");
    for (uint32_t i = 0; i < 30; i++) {
        CHECK_OK(get(&r, 2, i, 2));
    }
    RIG_UNTIL(&r, rig_info(&r, 2).leased);
    rig_for_ms(&r, 500);
    rig_kill(&r, 2); /* the lossy mark is gone: intact this time */
    row(&r, "1s 2o");
    rig_start(&r, 2);
    RIG_UNTIL(&r, rig_info(&r, 2).target != 0);
    CHECK_TRUE(!r.target[2].lossy);
    rig_close(&r);
}

/* Case 13, I10: removed while a member is away; while its session runs. */
TEST(resync_removed_data_stays_removed)
{
    struct rig r;
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    CHECK_OK(put(&r, 1, 0, 1));
    CHECK_OK(put(&r, 1, 1, 1));
    struct rig_io other = {.host = 1, .chain = 1, .data_id = 7, .length = 100, .fill = 5};
    CHECK_OK(rig_write(&r, &other));
    rig_kill(&r, 2);
    row(&r, "1s 2o");
    struct rig_io io = chunk(1, 0, 1);
    CHECK_OK(rig_remove(&r, &io));
    come_back(&r, 2, "1s");
    CHECK_OK(rig_remove(&r, &other)); /* the session may be under way */
    RIG_UNTIL(&r, synced(&r, 2));
    row(&r, "1s 2s");
    CHECK_EQ(rig_info(&r, 2).chunk_count, 0);
    CHECK_RC(get(&r, 2, 0, 1), ERR_gone);
    CHECK_RC(put(&r, 1, 0, 1), ERR_gone);
    rig_close(&r);
}

/* Much was removed while it was away: what is on its list of removed data is stable together. */
TEST(resync_removes_many_at_once)
{
    enum { MANY = 3000, AT_A_TIME = 60 };
    struct rig r;
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    struct rig_io last = {.host = 1, .chain = 1, .data_id = 2 * MANY, .length = 100, .fill = 5};
    CHECK_OK(rig_write(&r, &last));
    rig_kill(&r, 2);
    row(&r, "1s 2o");
    for (unsigned i = 0; i < MANY; i += AT_A_TIME) {
        struct rig_io io = {.host = 1, .chain = 1, .data_id = MANY + 1 + i};
        CHECK_OK(rig_remove_many(&r, &io, AT_A_TIME, 1));
    }
    come_back(&r, 2, "1s");
    uint64_t began_ns = loop_sim_now_ns(r.world);
    RIG_UNTIL(&r, synced(&r, 2));
    uint64_t took_ms = (loop_sim_now_ns(r.world) - began_ns) / NS_PER_MS;
    CHECK_TRUE(took_ms < MANY / 3); /* of the world: one after the other takes a sync each */
    row(&r, "1s 2s");
    CHECK_EQ(rig_info(&r, 2).chunk_count, 0);
    CHECK_RC(put(&r, 1, 0, 1), 0);
    rig_close(&r);
}

/* Case 15: the source dies after SYNC_END, before the row; synced(e) counts in e alone. */
TEST(resync_session_ends_with_its_row)
{
    struct rig r;
    rig_chain(&r, 3, DATANODE_ENGINE_FILE, testing_seed());
    row(&r, "1s 2s 3o");
    for (uint32_t i = 0; i < 10; i++) {
        CHECK_OK(put(&r, 1, i, 1));
    }
    row(&r, "1s 2s 3w");
    row(&r, "1s 2s 3y");
    RIG_UNTIL(&r, synced(&r, 3));
    rig_kill(&r, 2);
    rig_row(&r, 1, "1s 3y 2o");
    RIG_UNTIL(&r, r.target[3].known[1] == r.row[1].epoch);
    CHECK_EQ(r.target[3].synced[1], 0);
    RIG_UNTIL(&r, synced(&r, 3)); /* a new session, of the new predecessor */
    row(&r, "1s 3s 2o");
    CHECK_OK(get(&r, 3, 7, 1));
    rig_close(&r);
}

/* Either side dies in the middle of a session, at any time. */
TEST(resync_survives_deaths)
{
    for (uint64_t ms = 1; ms < 40; ms += 6) {
        struct rig r;
        rig_chain(&r, 3, DATANODE_ENGINE_FILE, testing_seed() + ms);
        row(&r, "1s 2s 3o");
        for (uint32_t i = 0; i < 20; i++) {
            CHECK_OK(put(&r, 1, i, 1));
        }
        row(&r, "1s 2s 3w");
        row(&r, "1s 2s 3y");
        rig_for_ms(&r, ms);
        unsigned victim = ms % 4 == 1 ? 2 : 3;
        rig_kill(&r, victim);
        row(&r, victim == 2 ? "1s 3y 2o" : "1s 2s 3o");
        CHECK_OK(put(&r, 1, 4, 2));
        if (victim == 3) {
            come_back(&r, 3, "1s 2s");
        }
        RIG_UNTIL(&r, synced(&r, 3));
        row(&r, victim == 2 ? "1s 3s 2o" : "1s 2s 3s");
        for (uint32_t i = 0; i < 20; i++) {
            CHECK_OK(get(&r, 3, i, i == 4 ? 2 : 1));
        }
        rig_close(&r);
    }
}

/* Case 19, R15: a syncing member without space leaves; the write goes on. */
/* Copies that are still waiting for space when it has left do not make it leave again. */
TEST(resync_member_leaves_once)
{
    struct rig r;
    const struct rig_options opt = {
        .seed = testing_seed(), .targets = 2, .engine = DATANODE_ENGINE_FILE};
    rig_chain_with(&r, &opt);
    row(&r, "1s 2o");
    for (uint32_t i = 0; i < 8; i++) {
        CHECK_OK(put(&r, 1, i, 1));
    }
    row(&r, "1s 2w");
    disk_sim_capacity(r.disk[2], disk_sim_used_bytes(r.disk[2]) + 1);
    disk_sim_slow(r.disk[2], 50000000);
    rig_row(&r, 1, "1s 2y");
    RIG_UNTIL(&r, r.target[2].report[1] == PROTO_REPORT_GONE);
    rig_row(&r, 1, "1s 2o");
    rig_for_ms(&r, 3000);
    CHECK_EQ(r.target[2].known[1], r.row[1].epoch);
    CHECK_EQ(r.target[2].report[1], PROTO_REPORT_OK);
    disk_sim_capacity(r.disk[2], 0);
    disk_sim_slow(r.disk[2], 0);
    row(&r, "1s 2w");
    row(&r, "1s 2y");
    RIG_UNTIL(&r, synced(&r, 2));
    rig_close(&r);
}

TEST(resync_member_without_space_leaves)
{
    struct rig r;
    const struct rig_options opt = {.seed = testing_seed(),
                                    .targets = 2,
                                    .engine = DATANODE_ENGINE_RAM,
                                    .small = 2,
                                    .small_bytes = 1u << 20};
    rig_chain_with(&r, &opt);
    row(&r, "1s 2o");
    struct rig_io big = chunk(1, 0, 1);
    big.length = 3u << 20;
    CHECK_OK(rig_write(&r, &big));
    row(&r, "1s 2w");
    row(&r, "1s 2y");
    struct rig_call w;
    big.fill = 2;
    rig_write_begin(&r, &w, &big);
    RIG_UNTIL(&r, r.target[2].report[1] == PROTO_REPORT_GONE);
    row(&r, "1s 2o");
    RIG_UNTIL(&r, w.done);
    CHECK_TRUE(w.rc == 0 || w.rc == -ERR_stale_epoch); /* it may have waited behind a COPY */
    big.retry = true;
    big.seq = w.m.write.seq;
    CHECK_OK(rig_write(&r, &big));
    CHECK_OK(rig_read(&r, &big));
    rig_call_end(&w);
    rig_close(&r);
}
