#include "peer/server.h"

#include "peer/rig_sim_priv.h"
#include "peer/server_priv.h"
#include "testing/testing.h"

/* How many may come, how many of one sender, and when those who are told "busy" come again. */

#define BOUNDS_MORE 6u

struct bounds_stranger {
    struct net_connect connect;
    struct net *net;
    struct stream *stream;
};
static void stranger_connected(struct net_connect *c, int rc, struct stream *s)
{
    CHECK_OK(rc);
    container_of(c, struct bounds_stranger, connect)->stream = s; /* and says nothing */
}
static void stranger_start(void *ctx)
{
    struct bounds_stranger *x = ctx;
    x->connect.done = stranger_connected;
    net_connect(x->net, &x->connect);
}
static void stranger_stop(void *ctx)
{
    struct bounds_stranger *x = ctx;
    x->stream = stream_close(x->stream);
}

/* With as many connections as there may be, those who have not said who they are give way. */
TEST(server_full_of_strangers_lets_others_in)
{
    struct rig_world w = {.server_count = 0};
    struct bounds_stranger x[BOUNDS_MORE] = {0};
    rig_open(&w, testing_seed(), 1);
    w.server[0].opt.max_connections = 4;
    w.server[0].opt.hello_ms = 60000;
    rig_on(w.server_loop[0], rig_server_enter, &w.server[0]);
    for (unsigned i = 0; i < BOUNDS_MORE; i++) {
        x[i].net = w.client.env.net;
        x[i].connect.to = w.server[0].at;
        rig_on(w.client_loop, stranger_start, &x[i]);
    }
    rig_run(&w, SECOND);
    CHECK_EQ(w.server[0].server->guest_count, 4);
    CHECK_EQ(w.server[0].server->counters.pushed_out.value, BOUNDS_MORE - 4);
    rig_on(w.client_loop, rig_client_enter, &w.client);
    struct rig_call c = {.call = {.timeout_ms = 5000}};
    rig_do_ping(&w, &c, 1);
    CHECK_OK(c.rc);
    CHECK_EQ(w.client.downs, 0);
    CHECK_EQ(w.server[0].server->guest_count, 4);
    for (unsigned i = 0; i < BOUNDS_MORE; i++) {
        rig_on(w.client_loop, stranger_stop, &x[i]);
    }
    rig_close(&w);
}

/* One sender has only so many links; what it has goes on. */
TEST(server_bounds_the_links_of_one_sender)
{
    struct rig_world w = {.server_count = 0};
    struct rig_call c[BOUNDS_MORE] = {0};
    rig_open(&w, testing_seed(), 1);
    w.server[0].opt.max_sender_links = 3;
    w.client.opt.session = 40;
    w.client.opt.bulk_count = BOUNDS_MORE - 1;
    rig_start(&w);
    rig_until(&w, rig_is_up, &w);
    for (unsigned i = 0; i < BOUNDS_MORE; i++) {
        c[i].call.slot = (uint16_t)i;
        c[i].call.timeout_ms = 5000;
        rig_begin_ping(&w, &c[i], i);
    }
    rig_run(&w, 8 * SECOND);
    unsigned good = 0;
    for (unsigned i = 0; i < BOUNDS_MORE; i++) {
        CHECK_EQ(c[i].done, 1);
        good += c[i].rc == 0;
    }
    CHECK_EQ(good, 3);
    CHECK_OK(c[0].rc);
    CHECK_EQ(w.server[0].server->up_count, 3);
    CHECK_TRUE(w.server[0].server->counters.refused_many.value > 0);
    rig_close(&w);
}

/* Whoever is told when to come again does not come before, and not exactly then either. */
TEST(client_waits_as_long_as_it_is_told)
{
    uint64_t least = UINT64_MAX, most = 0;
    for (unsigned i = 0; i < 8; i++) {
        struct rig_world w = {.server_count = 0};
        rig_open(&w, testing_seed() + i, 1);
        rig_start(&w);
        rig_until(&w, rig_is_up, &w);
        w.server[0].busy_left = 1;
        w.server[0].retry_ms = 3000;
        uint64_t began = loop_sim_now_ns(w.sim);
        struct rig_call c = {.call = {.timeout_ms = 60000}};
        rig_do_ping(&w, &c, rig_cookie(RIG_BUSY, i));
        uint64_t took = loop_sim_now_ns(w.sim) - began;
        CHECK_OK(c.rc);
        CHECK_EQ(w.server[0].pings, 2);
        CHECK_TRUE(took >= 3 * SECOND - SECOND / 20 && took < 5 * SECOND); /* clocks differ */
        least = base_min(least, took);
        most = base_max(most, took);
        rig_close(&w);
    }
    CHECK_TRUE(most - least > SECOND / 20);
}
