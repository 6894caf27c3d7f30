/*
 * datanode/change_test.c -- a master whose workers hang, which gets another configuration, and
 * which goes on as another program.
 */
#include "datanode/master_priv.h"
#include "datanode/rig_master_priv.h"

/* ---- Hanging workers ---- */

TEST(a_worker_whose_loop_stands_still_is_killed_and_started_again)
{
    struct rig r;
    rig_open(&r, SERVES, 2);
    r.opt.watchdog_ms = 8000;
    start_all(&r, false);
    for_ms(&r, 120000);
    CHECK_EQ(r.life_count, 2);
    struct life *f = &r.life[1];
    unsigned target = f->target;
    uint64_t at_ns = loop_sim_now_ns(r.world);
    loop_sim_pause(f->process.loop, true);
    UNTIL(&r, r.report_count == 1);
    uint64_t took_ms = (loop_sim_now_ns(r.world) - at_ns) / MS;
    CHECK_TRUE(took_ms >= 6000 - 20 && took_ms <= 8000 + 50); /* since its last word, not since */
    CHECK_EQ(r.report[0].status, -SIGKILL);
    CHECK_EQ(r.report[0].uuid.bytes[0], target + 1);
    UNTIL(&r, info(&r, target)->serving);
    CHECK_EQ(r.info.hangs, 1);
    CHECK_EQ(r.info.restarts, 1);
    CHECK_EQ(r.life_count, 3);
    UNTIL(&r, number(last_life(&r), "master/worker_hangs") == 1);
    CHECK_EQ(info(&r, 1 - target)->restarts, 0);
    for_ms(&r, 60000);
    CHECK_EQ(r.life_count, 3);
    rig_close(&r);
}

TEST(a_worker_that_hangs_again_and_again_is_started_later_and_later)
{
    struct rig r;
    rig_open(&r, SERVES, 1);
    r.opt.watchdog_ms = 4000;
    r.opt.back_off_min_ms = 100;
    start_master(&r);
    for (unsigned i = 0; i < 4; i++) {
        UNTIL(&r, info(&r, 0)->serving && r.life_count == i + 1);
        for_ms(&r, 100); /* it has said a first word */
        loop_sim_pause(r.life[i].process.loop, true);
        UNTIL(&r, info(&r, 0)->pid == 0);
        uint64_t at_ns = loop_sim_now_ns(r.world);
        UNTIL(&r, r.life_count == i + 2);
        CHECK_TRUE(is_about((last_life(&r)->began_ns - at_ns) / MS, 100u << i));
    }
    CHECK_EQ(info(&r, 0)->hangs, 4);
    rig_close(&r);
}

TEST(workers_are_not_killed_for_a_pause_of_their_master)
{
    struct rig r;
    rig_open(&r, SERVES, TARGETS);
    r.opt.watchdog_ms = 8000;
    start_all(&r, true);
    for (unsigned i = 0; i < 3; i++) {
        loop_sim_pause(r.data.loop, true);
        for_ms(&r, 120000);
        loop_sim_pause(r.data.loop, false);
        for_ms(&r, 20000);
    }
    CHECK_EQ(r.life_count, TARGETS);
    CHECK_EQ(info(&r, 0)->hangs, 0);
    rig_close(&r);
}

TEST(nobody_is_watched_who_is_not_to_be)
{
    struct rig r;
    rig_open(&r, SERVES, 1);
    start_all(&r, true);
    loop_sim_pause(r.life[0].process.loop, true);
    for_ms(&r, 600000);
    CHECK_EQ(r.life_count, 1);
    rig_close(&r);
}

static void exit_inside(void *ctx)
{
    loop_stop(ctx, DATANODE_EXIT_DISK);
}

TEST(a_worker_hears_how_often_its_disk_failed_the_ones_before)
{
    struct rig r;
    rig_open(&r, SERVES, 1);
    start_master(&r);
    for (unsigned i = 0; i < 4; i++) {
        UNTIL(&r, info(&r, 0)->serving && r.life_count == i + 1);
        for_ms(&r, 100);
        CHECK_EQ(last_life(&r)->disk_failures, i);
        loop_sim_enter(last_life(&r)->process.loop, exit_inside, last_life(&r)->process.loop);
        UNTIL(&r, info(&r, 0)->pid == 0);
        CHECK_EQ(r.info.last_status, DATANODE_EXIT_DISK);
    }
    UNTIL(&r, info(&r, 0)->serving && r.life_count == 5);
    for_ms(&r, 3700000); /* long ago */
    loop_sim_kill(last_life(&r)->process.loop);
    UNTIL(&r, info(&r, 0)->serving && r.life_count == 6);
    for_ms(&r, 100);
    CHECK_EQ(last_life(&r)->disk_failures, 0);
    rig_close(&r);
}

/* ---- Another configuration ---- */

static void reload_inside(void *ctx)
{
    struct rig *r = ctx;
    r->start_error = (struct err){0};
    r->start_rc =
        datanode_master_reload(r->master, r->wanted, r->wanted_count, &r->change, &r->start_error);
}

static int reload(struct rig *r)
{
    r->change = (struct datanode_master_change){0};
    loop_sim_enter(r->data.loop, reload_inside, r);
    return r->start_rc;
}

static void want(struct rig *r, unsigned first, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        r->wanted[i] = target_of(first + i);
    }
    r->wanted_count = count;
}

TEST(reload_starts_and_stops_targets_and_leaves_the_others_alone)
{
    struct rig r;
    rig_open(&r, SERVES, 2);
    start_all(&r, false);
    want(&r, 0, 2);
    CHECK_OK(reload(&r)); /* the same as before */
    CHECK_EQ(r.change.added + r.change.removed + r.change.changed, 0);
    int64_t stays = info(&r, 1)->pid, goes = info(&r, 0)->pid;
    want(&r, 1, 2);
    CHECK_OK(reload(&r));
    CHECK_EQ(r.change.added, 1);
    CHECK_EQ(r.change.removed, 1);
    CHECK_EQ(r.change.changed, 0);
    UNTIL(&r, r.report_count == 1); /* nobody waits for its lease */
    CHECK_EQ(r.report[0].uuid.bytes[0], 1);
    CHECK_EQ(r.report[0].status, -SIGTERM);
    UNTIL(&r, info(&r, 1)->serving); /* target.2 */
    CHECK_EQ(r.info.uuid.bytes[0], 3);
    CHECK_EQ(info(&r, 0)->pid, stays);
    CHECK_NE(goes, stays);
    for_ms(&r, 60000);
    CHECK_EQ(r.life_count, 3);
    CHECK_EQ(r.report_count, 1);
    want(&r, 0, 1); /* its address is free again */
    CHECK_OK(reload(&r));
    UNTIL(&r, info(&r, 0)->serving);
    CHECK_EQ(r.info.uuid.bytes[0], 1);
    rig_close(&r);
}

TEST(reload_restarts_a_target_with_other_settings_only)
{
    struct rig r;
    rig_open(&r, SERVES, 2);
    r.opt.back_off_min_ms = 10000;
    start_all(&r, false);
    int64_t stays = info(&r, 1)->pid;
    want(&r, 0, 2);
    r.wanted[0].settings = "disk=2";
    uint64_t at_ns = loop_sim_now_ns(r.world);
    CHECK_OK(reload(&r));
    CHECK_EQ(r.change.changed, 1);
    UNTIL(&r, r.life_count == 3);
    CHECK_TRUE(loop_sim_now_ns(r.world) - at_ns < 50 * MS); /* without the pause */
    UNTIL(&r, info(&r, 0)->serving);
    CHECK_EQ(r.info.restarts, 0); /* it was wanted */
    CHECK_EQ(info(&r, 1)->pid, stays);
    r.wanted[0].listen = address(DATA_HOST, 9600); /* elsewhere */
    CHECK_OK(reload(&r));
    CHECK_EQ(r.change.changed, 1);
    UNTIL(&r, info(&r, 0)->serving && r.life_count == 4);
    CHECK_OK(reload(&r));
    CHECK_EQ(r.change.changed, 0);
    r.wanted[0].listen = address(DATA_HOST, 9500); /* nobody is there any more */
    CHECK_OK(reload(&r));
    UNTIL(&r, info(&r, 0)->serving && r.life_count == 5);
    rig_close(&r);
}

TEST(a_reload_that_fails_changes_nothing)
{
    struct rig r;
    rig_open(&r, SERVES, 1);
    start_all(&r, false);
    CHECK_OK(loop_sim_process(r.world, "other", DATA_HOST, &r.other.loop));
    loop_sim_enter(r.other.loop, listen_inside, &r);
    want(&r, 0, 3); /* the second one's address is taken */
    r.wanted[0].settings = "disk=2";
    CHECK_RC(reload(&r), EADDRINUSE);
    CHECK_TRUE(strstr(r.start_error.text, "target.1") != NULL);
    for_ms(&r, 1000);
    CHECK_EQ(r.life_count, 1);
    CHECK_EQ(datanode_master_count(r.master), 1);
    want(&r, 0, 1);
    r.wanted[0].listen = address(DATA_HOST, 9501);
    CHECK_RC(reload(&r), EADDRINUSE);
    for_ms(&r, 1000);
    CHECK_EQ(r.life_count, 1);
    loop_sim_kill(r.other.loop);
    r.other.loop = NULL;
    want(&r, 0, 3);
    CHECK_OK(reload(&r));
    UNTIL(&r, info(&r, 1)->serving && info(&r, 2)->serving);
    stop_master(&r, 1000);
    UNTIL(&r, r.stops == 1);
    CHECK_RC(reload(&r), ERR_shutting_down);
    rig_close(&r);
}

TEST(a_removed_target_that_does_not_end_is_killed)
{
    struct rig r;
    rig_open(&r, STUBBORN, 2);
    r.opt.stop_ms = 3000;
    start_all(&r, false);
    want(&r, 0, 1);
    CHECK_OK(reload(&r));
    for_ms(&r, 2500);
    CHECK_EQ(r.report_count, 0);
    UNTIL(&r, r.report_count == 1);
    CHECK_EQ(r.report[0].status, -SIGKILL);
    stop_master(&r, 1000);
    UNTIL(&r, r.stops == 1);
    rig_close(&r);
}

/* ---- Another program ---- */

static void hand_over_inside(void *ctx)
{
    struct rig *r = ctx;
    CHECK_OK(datanode_master_hand_over(r->master, r->legacy));
}

/* The process goes on with another program, which knows what it is told. */
static void upgrade(struct rig *r)
{
    loop_sim_enter(r->data.loop, hand_over_inside, r);
    loop_sim_enter(r->data.loop, free_inside, r);
    r->opt.inherited = r->legacy->text;
    loop_sim_enter(r->data.loop, master_inside, r);
    r->opt.inherited = NULL;
}

TEST(an_upgrade_restarts_one_worker_after_the_other)
{
    struct rig r;
    struct datanode_master_legacy legacy = {.fd_count = 0};
    rig_open(&r, SERVES, TARGETS);
    r.legacy = &legacy;
    start_all(&r, true);
    upgrade(&r);
    CHECK_OK(r.start_rc);
    CHECK_TRUE(legacy.fd_count >= TARGETS);
    unsigned former = 0;
    for (unsigned i = 0; i < TARGETS; i++) {
        CHECK_TRUE(info(&r, i)->serving);
        former += r.info.former;
    }
    CHECK_EQ(former, TARGETS);
    for (unsigned i = 0; i < TARGETS; i++) {
        UNTIL(&r, r.life_count == TARGETS + i + 1);
        UNTIL(&r, r.report_count == i + 1); /* with what the former program knew of it */
        CHECK_EQ(r.report[i].status, -SIGTERM);
        CHECK_NE(r.report[i].incarnation, 0);
        if (i > 0) { /* the one before was settled, which takes it a second */
            CHECK_TRUE(gap_ms(&r, TARGETS + i) >= 1000 && gap_ms(&r, TARGETS + i) < 2000);
        }
    }
    UNTIL(&r, info(&r, 0)->settled && info(&r, 1)->settled && info(&r, 2)->settled);
    for_ms(&r, 120000);
    CHECK_EQ(r.life_count, 2 * TARGETS);
    for (unsigned i = 0; i < TARGETS; i++) {
        CHECK_TRUE(!info(&r, i)->former);
        CHECK_EQ(r.info.restarts, 0);
    }
    rig_close(&r);
}

TEST(an_upgrade_does_not_wait_for_ever_for_one_worker)
{
    struct rig r;
    struct datanode_master_legacy legacy = {.fd_count = 0};
    rig_open(&r, SERVES, TARGETS);
    r.legacy = &legacy;
    r.opt.roll_ms = 5000;
    start_all(&r, false);
    r.unsettled = true;
    upgrade(&r);
    UNTIL(&r, r.life_count == 2 * TARGETS);
    CHECK_TRUE(is_about(gap_ms(&r, TARGETS + 1) + 10, 5000)); /* one may start a little faster */
    CHECK_TRUE(is_about(gap_ms(&r, TARGETS + 2) + 10, 5000));
    for_ms(&r, 60000);
    CHECK_EQ(r.life_count, 2 * TARGETS);
    rig_close(&r);
}

TEST(a_worker_that_dies_during_an_upgrade_is_one_that_dies)
{
    struct rig r;
    struct datanode_master_legacy legacy = {.fd_count = 0};
    rig_open(&r, SERVES, 2);
    r.legacy = &legacy;
    start_all(&r, true);
    r.unsettled = true; /* the first one keeps the other waiting */
    upgrade(&r);
    UNTIL(&r, r.life_count == 3);
    unsigned rolled = last_life(&r)->target;
    struct life *other = r.life[0].target == rolled ? &r.life[1] : &r.life[0];
    loop_sim_kill(other->process.loop);
    UNTIL(&r, r.life_count == 4);
    CHECK_EQ(last_life(&r)->target, other->target);
    CHECK_EQ(r.report[1].status, -SIGKILL);
    UNTIL(&r, info(&r, other->target)->serving);
    CHECK_EQ(r.info.restarts, 1);
    CHECK_TRUE(!r.info.former);
    for_ms(&r, 120000);
    CHECK_EQ(r.life_count, 4);
    rig_close(&r);
}

TEST(an_upgrade_with_another_configuration)
{
    struct rig r;
    struct datanode_master_legacy legacy = {.fd_count = 0};
    rig_open(&r, SERVES, 2);
    r.legacy = &legacy;
    start_all(&r, true);
    r.opt.target_count = 1; /* target.1 is not named any more */
    upgrade(&r);
    UNTIL(&r, r.report_count == 2);
    UNTIL(&r, info(&r, 0)->settled);
    for_ms(&r, 60000);
    CHECK_EQ(datanode_master_count(r.master), 1);
    CHECK_EQ(r.life_count, 3);
    rig_close(&r);
}

/* What the configuration says by now may be wrong: nothing that runs ends for that. */
TEST(an_upgrade_does_without_addresses_that_are_taken)
{
    struct rig r;
    struct datanode_master_legacy legacy = {.fd_count = 0};
    rig_open(&r, SERVES, 1);
    r.legacy = &legacy;
    start_all(&r, true);
    CHECK_OK(loop_sim_process(r.world, "other", DATA_HOST, &r.other.loop));
    loop_sim_enter(r.other.loop, listen_inside, &r); /* 9501 */
    r.opt.target_count = 2;                          /* target.1 is to be there, */
    r.port = 9501;                                   /* and so is target.0 */
    upgrade(&r);
    CHECK_OK(r.start_rc);
    CHECK_EQ(datanode_master_count(r.master), 1);
    UNTIL(&r, r.life_count == 2 && info(&r, 0)->settled);
    CHECK_TRUE(!r.info.former);
    want(&r, 0, 1);
    CHECK_OK(reload(&r)); /* where it is: at its old address */
    CHECK_EQ(r.change.changed, 0);
    loop_sim_kill(r.other.loop);
    r.other.loop = NULL;
    want(&r, 0, 2); /* and now there is room */
    CHECK_OK(reload(&r));
    CHECK_EQ(r.change.added, 1);
    UNTIL(&r, info(&r, 1)->serving);
    rig_close(&r);
}

/* With port 0 it was chosen once; that is where it stays. */
TEST(a_chosen_port_stays)
{
    struct rig r;
    struct datanode_master_legacy legacy = {.fd_count = 0};
    rig_open(&r, SERVES, 1);
    r.legacy = &legacy;
    start_all(&r, true); /* as if 9500 was that of last time */
    want(&r, 0, 1);
    r.wanted[0].listen = address(DATA_HOST, 0);
    CHECK_OK(reload(&r));
    CHECK_EQ(r.change.changed, 0);
    r.any_port = true;
    upgrade(&r);
    CHECK_OK(r.start_rc);
    UNTIL(&r, r.life_count == 2 && info(&r, 0)->settled);
    want(&r, 0, 1);
    CHECK_OK(reload(&r));
    CHECK_EQ(r.change.changed, 0); /* still at 9500 */
    r.wanted[0].listen = address(OTHER_HOST, 0);
    CHECK_EQ(datanode_stays_at("host2:9500", r.wanted[0].listen.text), false);
    rig_close(&r);
}

/* Who was asked to end before the upgrade has to end after it, and that is reported. */
TEST(an_upgrade_does_not_forget_who_is_leaving)
{
    struct rig r;
    struct datanode_master_legacy legacy = {.fd_count = 0};
    rig_open(&r, STUBBORN, 2);
    r.legacy = &legacy;
    r.opt.stop_ms = 3000;
    start_all(&r, true);
    want(&r, 0, 1);
    CHECK_OK(reload(&r));
    CHECK_EQ(r.change.removed, 1);
    r.opt.target_count = 1;
    upgrade(&r);
    CHECK_OK(r.start_rc);
    upgrade(&r); /* and once more */
    CHECK_OK(r.start_rc);
    UNTIL(&r, r.report_count == 2); /* the other one is restarted with the new program */
    CHECK_EQ(r.report[0].uuid.bytes[0] + r.report[1].uuid.bytes[0], 1 + 2);
    CHECK_EQ(r.report[0].status, -SIGKILL);
    CHECK_EQ(r.report[1].status, -SIGKILL);
    UNTIL(&r, r.life_count == 3 && info(&r, 0)->serving);
    for_ms(&r, 60000);
    CHECK_EQ(r.life_count, 3);
    CHECK_EQ(r.report_count, 2);
    rig_close(&r);
}

TEST(what_a_former_program_left_may_be_damaged)
{
    static const char *const texts[] = {
        "nonsense",
        "target target.0 host2:9500 3 4 5\n",
        "target target.0 host2:9500 x 4 5 01020300-0000-0000-0000-000000000000 1 1 0 0\n",
        "target target.0 host2:9500 3 4 5 01020300 1 1 0 0\n",
        "target target.0 host2:9500 99999999999 4 5 01020300-0000-0000-0000-000000000000 1 1 0 0\n",
        "target target.0 host2:9500 12345 4 5 01020300-0000-0000-0000-000000000000 1 1 0 0\n",
        "target target.0 host2:9500 0 -1 0 01020300-0000-0000-0000-000000000000 1 0 0 0 leaving x "
        "y\n",
        "target target.0 host2:9500 0 -1 0 01020300-0000-0000-0000-000000000000 1 0 0 0 of 2\n",
        "target target.0 host2:9500 0 -1 0 01020300-0000-0000-0000-000000000000 1 0 0 0 of x\n"};
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        struct rig r;
        rig_open(&r, SERVES, 1);
        r.opt.inherited = texts[i];
        start_master(&r);
        CHECK_TRUE(r.start_rc < 0);
        CHECK_TRUE(r.master == NULL);
        CHECK_TRUE(r.start_error.text[0] != 0);
        rig_close(&r);
    }
}

/* Of so many bytes of what a program with two targets, and a third one that leaves, has left.
 * Nothing at all is what a program without targets leaves. True: that was all of it. */
static bool check_cut(size_t len)
{
    static struct datanode_master_legacy legacy;
    struct rig r;
    rig_open(&r, STUBBORN, TARGETS);
    r.legacy = &legacy;
    r.opt.stop_ms = 600000;
    start_all(&r, false);
    want(&r, 0, TARGETS - 1);
    CHECK_OK(reload(&r));
    CHECK_EQ(r.change.removed, 1);
    int64_t pid[TARGETS - 1] = {info(&r, 0)->pid, info(&r, 1)->pid};
    r.opt.target_count = TARGETS - 1;
    loop_sim_enter(r.data.loop, hand_over_inside, &r);
    loop_sim_enter(r.data.loop, free_inside, &r);
    size_t whole = strlen(legacy.text);
    CHECK_TRUE(strstr(legacy.text, " leaving ") != NULL && legacy.text[whole - 1] == '\n');
    legacy.text[len] = 0;
    r.opt.inherited = legacy.text;
    loop_sim_enter(r.data.loop, master_inside, &r);
    r.opt.inherited = NULL;
    if (len > 0 && len < whole) {
        CHECK_RC(r.start_rc, EINVAL);
        CHECK_TRUE(r.master == NULL);
        CHECK_TRUE(strstr(r.start_error.text, "what the former program left") != NULL);
    } else {
        CHECK_OK(r.start_rc);
        unsigned former = 0;
        for (unsigned i = 0; i < TARGETS - 1 && len > 0; i++) {
            former += info(&r, i)->former ? 1 : 0;
            CHECK_EQ(r.info.pid, pid[i]);
        }
        CHECK_EQ(former, len > 0 ? TARGETS - 1 : 0);
        stop_master(&r, 1000);
        UNTIL(&r, r.stops == 1);
    }
    rig_close(&r);
    return len == whole;
}

TEST(what_a_former_program_left_is_cut_anywhere)
{
    size_t len = 0;
    while (!check_cut(len)) {
        len++;
    }
    CHECK_TRUE(len > 200);
}
