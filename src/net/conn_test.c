#include "net/conn.h"

#include "net/conn_sim_priv.h"
#include "net/conn_storm_priv.h"
#include "testing/testing.h"

#include <stdio.h>

/* --- One call -----------------------------------------------------------------------------------
 */

struct one_call {
    struct net_conn_call call;
    struct net_conn *on;
    unsigned done;
    int rc;
    bool answered;
    uint8_t body[64];
    size_t body_len, data_len;
    uint64_t key;
    bool data_good;
};
static void one_done(struct net_conn_call *c, const struct net_conn_reply *reply)
{
    struct one_call *o = container_of(c, struct one_call, call);
    o->done++;
    o->rc = reply->rc;
    o->answered = reply->answered;
    o->body_len = reply->body_len;
    memcpy(o->body, reply->body == NULL ? (const uint8_t *)"" : reply->body,
           base_min(reply->body_len, sizeof o->body));
    o->data_len = reply->data.len;
    o->data_good = rig_same(reply->data.at, o->key, reply->data.len);
}
static void one_start(void *ctx)
{
    struct one_call *o = ctx;
    o->call.done = one_done;
    net_conn_call(o->on, &o->call);
    CHECK_EQ(o->done, 0); /* never from inside */
}
static void one_cancel(void *ctx)
{
    struct one_call *o = ctx;
    net_conn_call_cancel(&o->call);
}
static bool one_is_done(void *ctx)
{
    return ((struct one_call *)ctx)->done > 0;
}
static void run_one(struct sim_rig *r, struct one_call *o)
{
    o->on = r->client.conn;
    loop_sim_enter(r->loops[0], one_start, o);
    CHECK_TRUE(loop_sim_run(r->sim, one_is_done, o, loop_sim_now_ns(r->sim) + 100 * SECOND));
    CHECK_EQ(o->done, 1);
}

TEST(conn_answers_a_call)
{
    struct sim_rig r = {.connected = false};
    sim_rig_start(&r, testing_seed());
    struct one_call o = {.call = {.opcode = RIG_ECHO, .body = "hello", .body_len = 5}};
    run_one(&r, &o);
    CHECK_OK(o.rc);
    CHECK_TRUE(o.answered);
    CHECK_EQ(o.body_len, 5);
    CHECK_BYTES(o.body, "hello", 5);
    struct one_call bad = {.call = {.opcode = RIG_FAIL}};
    run_one(&r, &bad);
    CHECK_RC(bad.rc, ENOENT);
    CHECK_TRUE(bad.answered);
    sim_rig_stop(&r);
}

TEST(conn_keeps_deadlines)
{
    struct sim_rig r = {.connected = false};
    sim_rig_start(&r, testing_seed());
    struct one_call o = {.call = {.opcode = RIG_HOLD, .timeout_ms = 1500}};
    uint64_t before = loop_sim_now_ns(r.sim);
    run_one(&r, &o);
    CHECK_RC(o.rc, ERR_deadline);
    CHECK_TRUE(!o.answered);
    uint64_t took = loop_sim_now_ns(r.sim) - before;
    CHECK_TRUE(took >= 1500000000u && took < 1600000000u);
    sim_rig_run(&r, SECOND);
    CHECK_EQ(r.server.cancelled, 1); /* the server's own clock says the same */
    sim_rig_stop(&r);
}

TEST(conn_cancels)
{
    struct sim_rig r = {.connected = false};
    sim_rig_start(&r, testing_seed());
    struct one_call o = {.call = {.opcode = RIG_HOLD}, .on = r.client.conn};
    loop_sim_enter(r.loops[0], one_start, &o);
    sim_rig_run(&r, SECOND);
    CHECK_EQ(r.server.held_count, 1);
    loop_sim_enter(r.loops[0], one_cancel, &o);
    CHECK_EQ(o.done, 0);
    sim_rig_run(&r, SECOND);
    CHECK_RC(o.rc, ERR_cancelled);
    CHECK_EQ(r.server.cancelled, 1);
    CHECK_TRUE(r.client.conn->slot[0].in_use); /* until the answer frame has come */
    rig_release_all(&r.server);
    sim_rig_run(&r, SECOND);
    CHECK_TRUE(!r.client.conn->slot[0].in_use);
    CHECK_EQ(r.client.conn->counters.late.value, 1);
    CHECK_EQ(r.client.closed, 0);
    sim_rig_stop(&r);
}

#define BEYOND 6u

struct beyond {
    struct one_call o[BEYOND];
};
static void beyond_start(void *ctx)
{
    struct beyond *b = ctx;
    for (unsigned i = 0; i < BEYOND; i++) {
        one_start(&b->o[i]);
    }
    uint8_t body[5];
    rig_fill(body, 77, sizeof body);
    CHECK_OK(net_conn_push(b->o[0].on, 77, 0, body, sizeof body));
}
static bool beyond_refused(void *ctx)
{
    struct beyond *b = ctx;
    return b->o[BEYOND - 1].done > 0;
}

/* Requests beyond what the server takes, each with data, all held there; then a push. */
static void go_beyond(struct sim_rig *r, unsigned taken, const struct slice *data)
{
    struct beyond b = {.o = {{.done = 0}}};
    r->server.never_pauses = true;
    sim_rig_start(r, testing_seed());
    for (unsigned i = 0; i < BEYOND; i++) {
        b.o[i] = (struct one_call){.call = {.opcode = RIG_HOLD, .body = "hello", .body_len = 5},
                                   .on = r->client.conn,
                                   .key = 9};
        b.o[i].call.data[0] = *data;
        b.o[i].call.data_count = 1;
    }
    loop_sim_enter(r->loops[0], beyond_start, &b);
    CHECK_TRUE(loop_sim_run(r->sim, beyond_refused, &b, loop_sim_now_ns(r->sim) + 100 * SECOND));
    sim_rig_run(r, SECOND);
    CHECK_EQ(r->server.held_count, taken);
    CHECK_EQ(r->server.pushes, 1); /* it was behind all of them */
    for (unsigned i = taken; i < BEYOND; i++) {
        CHECK_RC(b.o[i].rc, ERR_busy);
        CHECK_TRUE(b.o[i].answered);
    }
    rig_release_all(&r->server);
    sim_rig_run(r, SECOND);
    for (unsigned i = 0; i < taken; i++) {
        CHECK_OK(b.o[i].rc);
        CHECK_EQ(b.o[i].data_len, data->len);
        CHECK_TRUE(b.o[i].data_good);
    }
    CHECK_EQ(r->client.closed + r->server.closed, 0);
    sim_rig_stop(r);
}

TEST(conn_that_never_pauses_refuses_what_is_too_much)
{
    uint8_t *bytes = mem_alloc(RIG_DATA_MAX);
    CHECK_TRUE(bytes != NULL);
    rig_fill(bytes, 9, RIG_DATA_MAX);
    struct slice data = {.at = bytes, .len = RIG_DATA_MAX};
    struct sim_rig few_buffers = {.connected = false};
    few_buffers.server.pool_bytes = 4u << 20; /* buffers of 1 MiB */
    go_beyond(&few_buffers, 4, &data);
    struct sim_rig few_requests = {.connected = false};
    few_requests.server.opt.max_requests = 3;
    data.len = 40;
    go_beyond(&few_requests, 3, &data);
    mem_free(bytes);
}

/* --- Random traffic ------------------------------------------------------------------------------
 */

/* A storm over the simulated network. */
struct sim_storm {
    struct storm storm;
    struct sim_rig rig;
};
static void sim_storm_begin(void *ctx)
{
    storm_begin(ctx);
}
static void sim_storm_end(void *ctx)
{
    storm_end(ctx);
}
static bool sim_storm_over(void *ctx)
{
    return storm_over(ctx);
}
static struct sim_storm *sim_storm_new(unsigned limit)
{
    struct sim_storm *s = mem_zalloc(sizeof *s);
    CHECK(s != NULL);
    s->storm.limit = limit;
    s->storm.client = &s->rig.client;
    return s;
}
static void sim_storm_free(struct sim_storm *s)
{
    sim_rig_stop(&s->rig);
    mem_free(s);
}
static void sim_storm_run(struct sim_storm *s)
{
    loop_sim_enter(s->rig.loops[0], sim_storm_begin, &s->storm);
    CHECK_TRUE(loop_sim_run(s->rig.sim, sim_storm_over, &s->storm,
                            loop_sim_now_ns(s->rig.sim) + 1000 * SECOND));
    CHECK_EQ(s->storm.done, s->storm.started);
    loop_sim_enter(s->rig.loops[0], sim_storm_end, &s->storm);
}

TEST(conn_survives_storms)
{
    unsigned deadlines = 0, cancels = 0;
    for (uint64_t seed = 0; seed < 30; seed++) {
        struct sim_storm *s = sim_storm_new(200);
        sim_rig_start(&s->rig, testing_seed() + seed);
        sim_storm_run(s);
        CHECK_EQ(s->rig.client.closed, 0);
        CHECK_EQ(s->storm.started, s->storm.limit);
        deadlines += s->storm.deadline;
        cancels += s->storm.cancelled;
        sim_storm_free(s);
    }
    CHECK_TRUE(deadlines > 0 && cancels > 0);
}

/* Narrow everything: bytes are cut everywhere and everybody waits for everybody. */
TEST(conn_holds_back_and_goes_on)
{
    uint64_t pauses = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct sim_storm *s = sim_storm_new(150);
        s->storm.mild = true;
        s->rig.window_bytes = 5000;
        s->rig.server.opt.max_requests = 3;
        s->rig.server.opt.max_send_bytes = 10000;
        s->rig.client.opt.max_send_bytes = 10000;
        s->rig.server.pool_bytes = 2u << 20;
        sim_rig_start(&s->rig, testing_seed() + seed);
        sim_storm_run(s);
        CHECK_EQ(s->rig.client.closed, 0);
        CHECK_EQ(s->storm.good, s->storm.limit);
        CHECK_TRUE(s->rig.server.most_held <= 3);
        pauses += s->rig.server.conn->counters.pauses.value;
        sim_storm_free(s);
    }
    CHECK_TRUE(pauses > 0);
}

TEST(conn_ends_cleanly_when_the_network_breaks)
{
    unsigned lost = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct sim_storm *s = sim_storm_new(150);
        sim_rig_start(&s->rig, testing_seed() + seed);
        net_sim_faults(s->rig.world, 3000, 1000);
        sim_storm_run(s);
        lost += s->storm.lost;
        sim_rig_run(&s->rig, SECOND);
        CHECK_TRUE(s->rig.client.closed <= 1 && s->rig.server.closed <= 1);
        sim_storm_free(s);
    }
    CHECK_TRUE(lost > 0);
}

/* Equal seeds, equal runs. */
TEST(conn_is_determined_by_the_seed)
{
    uint64_t digest[2], bytes[2];
    for (unsigned i = 0; i < 2; i++) {
        struct sim_storm *s = sim_storm_new(100);
        sim_rig_start(&s->rig, testing_seed());
        sim_storm_run(s);
        digest[i] = loop_sim_digest(s->rig.sim);
        bytes[i] = net_sim_delivered_bytes(s->rig.world);
        sim_storm_free(s);
    }
    CHECK_TRUE(digest[0] == digest[1] && bytes[0] == bytes[1]);
    CHECK_TRUE(bytes[0] > 0);
}
