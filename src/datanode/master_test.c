/*
 * datanode/master_test.c -- a master and its workers in the simulator: sockets that outlive
 * workers, starts with a pause, reports to the metadata server, stopping, and workers without a
 * master.
 */
#include "datanode/master.h"

#include "datanode/rig_master_priv.h"

TEST(one_worker_for_each_target_says_what_it_serves)
{
    struct rig r;
    rig_open(&r, SERVES, TARGETS);
    start_master(&r);
    CHECK_OK(r.start_rc);
    for (unsigned i = 0; i < TARGETS; i++) {
        UNTIL(&r, info(&r, i)->serving);
        CHECK_EQ(r.info.uuid.bytes[0], i + 1);
        CHECK_NE(r.info.pid, 0);
        CHECK_EQ(r.info.restarts, 0);
    }
    CHECK_EQ(r.life_count, TARGETS);
    CHECK_EQ(r.report_count, 0);
    rig_close(&r);
}

TEST(a_killed_worker_is_reported_at_once_and_started_again)
{
    struct rig r;
    rig_open(&r, SERVES, TARGETS);
    start_all(&r, false);
    struct life *f = &r.life[1];
    unsigned target = f->target;
    uint64_t at_ns = loop_sim_now_ns(r.world);
    loop_sim_kill(f->process.loop);
    UNTIL(&r, r.report_count == 1);
    CHECK_TRUE(r.report_ns[0] - at_ns < 50 * MS);
    CHECK_EQ(r.report[0].uuid.bytes[0], target + 1);
    CHECK_EQ(r.report[0].incarnation, 2);
    CHECK_EQ(r.report[0].status, -SIGKILL);
    UNTIL(&r, info(&r, target)->serving);
    CHECK_EQ(r.info.restarts, 1);
    CHECK_EQ(r.info.incarnation, TARGETS + 1);
    CHECK_EQ(r.info.last_status, -SIGKILL);
    CHECK_EQ(r.life_count, TARGETS + 1);
    UNTIL(&r, number(last_life(&r), "master/worker_restarts") == 1); /* the worker was told */
    CHECK_EQ(number(last_life(&r), "master/worker_last_status"), -SIGKILL);
    CHECK_EQ(number(&r.life[0], "master/worker_restarts"), 0);
    loop_sim_kill(last_life(&r)->process.loop);
    UNTIL(&r, r.report_count == 2);
    CHECK_EQ(r.report[1].incarnation, TARGETS + 1);
    rig_close(&r);
}

TEST(a_worker_that_never_served_is_not_reported)
{
    struct rig r;
    rig_open(&r, SILENT, 1);
    start_master(&r);
    UNTIL(&r, r.life_count == 1);
    for_ms(&r, 50);
    CHECK_TRUE(!info(&r, 0)->serving);
    loop_sim_kill(r.life[0].process.loop);
    UNTIL(&r, r.life_count == 2);
    r.behaviour = EXITS;
    loop_sim_kill(r.life[1].process.loop);
    UNTIL(&r, r.life_count == 5);
    CHECK_EQ(r.report_count, 0);
    /* Nor is what a former life said taken for the word of this one. */
    r.behaviour = SERVES;
    UNTIL(&r, info(&r, 0)->serving);
    r.behaviour = SILENT;
    loop_sim_kill(last_life(&r)->process.loop);
    UNTIL(&r, r.report_count == 1);
    unsigned count = r.life_count;
    UNTIL(&r, r.life_count > count);
    loop_sim_kill(last_life(&r)->process.loop);
    UNTIL(&r, r.life_count > count + 1);
    for_ms(&r, 100);
    CHECK_EQ(r.report_count, 1);
    rig_close(&r);
}

TEST(the_pause_doubles_up_to_a_cap_and_begins_anew_after_a_long_life)
{
    static const uint64_t pauses[] = {100, 200, 400, 800, 800, 800};
    struct rig r;
    rig_open(&r, EXITS, 1);
    r.opt.back_off_min_ms = 100;
    r.opt.back_off_max_ms = 800;
    r.opt.stable_ms = 5000;
    start_master(&r);
    UNTIL(&r, r.life_count == ARRAY_COUNT(pauses) + 1);
    for (unsigned i = 0; i < ARRAY_COUNT(pauses); i++) {
        CHECK_TRUE(is_about(gap_ms(&r, i + 1), pauses[i]));
    }
    CHECK_EQ(info(&r, 0)->last_status, 3);
    r.behaviour = SERVES;
    UNTIL(&r, info(&r, 0)->serving);
    for_ms(&r, 4000); /* not long enough */
    unsigned last = r.life_count;
    loop_sim_kill(last_life(&r)->process.loop);
    UNTIL(&r, info(&r, 0)->serving && r.life_count > last);
    CHECK_TRUE(is_about(gap_ms(&r, last), 4800) || gap_ms(&r, last) > 4800);
    for_ms(&r, 5000);
    uint64_t at_ns = loop_sim_now_ns(r.world);
    loop_sim_kill(last_life(&r)->process.loop);
    UNTIL(&r, r.life_count == last + 2);
    CHECK_TRUE(is_about((last_life(&r)->began_ns - at_ns) / MS, 100));
    rig_close(&r);
}

static void connected(struct net_connect *c, int rc, struct stream *s)
{
    CHECK_OK(rc);
    container_of(c, struct rig, connect)->stream = s;
}

static void connect_inside(void *ctx)
{
    struct rig *r = ctx;
    process_env(r, &r->other, OTHER_HOST);
    r->connect = (struct net_connect){.done = connected, .to = address(DATA_HOST, 9500)};
    net_connect(r->other.env.net, &r->connect);
}

TEST(connections_wait_while_a_worker_is_started_again)
{
    struct rig r;
    rig_open(&r, SERVES, 1);
    r.opt.back_off_min_ms = 1000;
    start_all(&r, false);
    loop_sim_kill(r.life[0].process.loop);
    for_ms(&r, 100);
    CHECK_OK(loop_sim_process(r.world, "other", OTHER_HOST, &r.other.loop));
    loop_sim_enter(r.other.loop, connect_inside, &r);
    UNTIL(&r, r.stream != NULL);
    CHECK_EQ(r.life_count, 1); /* nobody is there yet */
    UNTIL(&r, r.life_count == 2);
    UNTIL(&r, r.life[1].accepted == 1);
    rig_close(&r);
}

TEST(stop_ends_all_workers_and_starts_none)
{
    struct rig r;
    rig_open(&r, SERVES, TARGETS);
    start_all(&r, false);
    stop_master(&r, 10000);
    CHECK_EQ(r.stops, 0); /* never from inside */
    UNTIL(&r, r.stops == 1);
    for (unsigned i = 0; i < TARGETS; i++) {
        int code = 0;
        CHECK_TRUE(loop_sim_exited(r.life[i].process.loop, &code));
        CHECK_EQ(code, -SIGTERM);
        CHECK_EQ(info(&r, i)->pid, 0);
    }
    UNTIL(&r, r.report_count == TARGETS); /* their chains need not wait for leases */
    for_ms(&r, 60000);
    CHECK_EQ(r.stops, 1);
    CHECK_EQ(r.life_count, TARGETS);
    loop_sim_enter(r.data.loop, free_inside, &r);
    rig_close(&r);
}

TEST(stop_kills_a_worker_that_does_not_end)
{
    struct rig r;
    rig_open(&r, STUBBORN, 2);
    start_all(&r, false);
    uint64_t at_ns = loop_sim_now_ns(r.world);
    stop_master(&r, 60000);
    for_ms(&r, 1000);
    CHECK_EQ(r.life[0].terms, 1);
    CHECK_EQ(r.life[1].terms, 1);
    stop_master(&r, 2000); /* shorter counts */
    stop_master(&r, 30000);
    for_ms(&r, 1900);
    CHECK_EQ(r.stops, 0);
    UNTIL(&r, r.stops == 1);
    CHECK_TRUE(is_about((loop_sim_now_ns(r.world) - at_ns) / MS, 3000));
    int code = 0;
    CHECK_TRUE(loop_sim_exited(r.life[0].process.loop, &code));
    CHECK_EQ(code, -SIGKILL);
    rig_close(&r);
}

TEST(stop_during_a_pause_is_done_at_once)
{
    struct rig r;
    rig_open(&r, EXITS, 1);
    r.opt.back_off_min_ms = 1000;
    start_master(&r);
    UNTIL(&r, r.life_count == 1);
    UNTIL(&r, info(&r, 0)->pid == 0);
    stop_master(&r, 10000);
    UNTIL(&r, r.stops == 1);
    for_ms(&r, 5000);
    CHECK_EQ(r.life_count, 1);
    rig_close(&r);
}

TEST(a_worker_hears_that_its_master_is_gone)
{
    struct rig r;
    rig_open(&r, STUBBORN, 2);
    start_all(&r, false);
    loop_sim_kill(r.data.loop);
    UNTIL(&r, r.life[0].lost == 1 && r.life[1].lost == 1);
    for_ms(&r, 60000);
    CHECK_EQ(r.life[0].lost, 1);
    rig_close(&r);
}

TEST(a_worker_hears_that_its_master_was_gone_before_it_could_greet_it)
{
    struct rig r;
    rig_open(&r, FROZEN, 1);
    start_master(&r);
    UNTIL(&r, r.life_count == 1);
    loop_sim_kill(r.data.loop);
    for_ms(&r, 100);
    loop_sim_pause(r.life[0].process.loop, false);
    UNTIL(&r, r.life[0].lost == 1);
    for_ms(&r, 60000);
    CHECK_EQ(r.life[0].lost, 1);
    rig_close(&r);
}

TEST(a_worker_may_take_long_to_open_its_store)
{
    struct rig r;
    rig_open(&r, FROZEN, 1);
    r.opt.watchdog_ms = 8000;
    start_master(&r);
    UNTIL(&r, r.life_count == 1);
    for_ms(&r, 600000);
    loop_sim_pause(r.life[0].process.loop, false);
    UNTIL(&r, info(&r, 0)->serving);
    CHECK_EQ(r.life[0].lost, 0);
    CHECK_EQ(r.life_count, 1);
    rig_close(&r);
}

TEST(a_worker_whose_master_stands_still_waits_for_it)
{
    struct rig r;
    rig_open(&r, SERVES, 1);
    start_all(&r, false);
    loop_sim_pause(r.data.loop, true);
    for_ms(&r, 120000);
    CHECK_EQ(r.life[0].lost, 0);
    loop_sim_pause(r.data.loop, false);
    for_ms(&r, 1000);
    CHECK_EQ(r.life[0].lost, 0);
    loop_sim_kill(r.life[0].process.loop);
    UNTIL(&r, r.report_count == 1);
    rig_close(&r);
}

TEST(start_says_which_address_is_taken)
{
    struct rig r;
    rig_open(&r, SERVES, 2);
    CHECK_OK(loop_sim_process(r.world, "other", DATA_HOST, &r.other.loop));
    loop_sim_enter(r.other.loop, listen_inside, &r);
    start_master(&r);
    CHECK_RC(r.start_rc, EADDRINUSE);
    CHECK_TRUE(strstr(r.start_error.text, "host2:9501") != NULL);
    CHECK_TRUE(strstr(r.start_error.text, "target.1") != NULL);
    CHECK_TRUE(r.master == NULL);
    for_ms(&r, 1000);
    CHECK_EQ(r.life_count, 0);
    loop_sim_kill(r.data.loop);
    loop_sim_kill(r.other.loop);
    start_master(&r);
    CHECK_OK(r.start_rc);
    UNTIL(&r, info(&r, 1)->serving);
    rig_close(&r);
}

TEST(a_program_that_cannot_be_run_is_tried_again)
{
    struct rig r;
    rig_open(&r, SERVES, 1);
    r.program.name = "gone";
    r.opt.back_off_max_ms = 1000;
    start_master(&r);
    CHECK_OK(r.start_rc);
    for_ms(&r, 10000);
    CHECK_EQ(r.life_count, 0);
    CHECK_EQ(info(&r, 0)->pid, 0);
    r.program.name = "worker";
    for_ms(&r, 1100);
    CHECK_TRUE(info(&r, 0)->serving);
    CHECK_EQ(r.report_count, 0);
    rig_close(&r);
}

TEST(reports_wait_for_a_metadata_server)
{
    struct rig r;
    rig_open(&r, SERVES, 1);
    start_all(&r, false);
    loop_sim_kill(r.meta.loop);
    for (unsigned i = 1; i <= 3; i++) { /* the newest is what matters */
        loop_sim_kill(last_life(&r)->process.loop);
        UNTIL(&r, r.life_count == i + 1);
        UNTIL(&r, info(&r, 0)->serving);
    }
    for_ms(&r, 5000);
    start_meta(&r);
    UNTIL(&r, r.report_count == 2);
    CHECK_EQ(r.report[0].incarnation, 1);
    CHECK_EQ(r.report[1].incarnation, 3);
    for_ms(&r, 70000);
    CHECK_EQ(r.report_count, 2);
    rig_close(&r);
}

TEST(workers_outlive_the_end_of_the_object)
{
    struct rig r;
    rig_open(&r, SERVES, 2);
    start_all(&r, false);
    loop_sim_enter(r.data.loop, free_inside, &r);
    UNTIL(&r, r.life[0].lost == 1); /* they are told, and end on their own */
    CHECK_TRUE(!loop_sim_exited(r.life[0].process.loop, NULL));
    rig_close(&r);
}
