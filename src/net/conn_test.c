#include "net/conn.h"

#include "net/conn_rig_priv.h"

#include "disk/sim.h"
#include "loop/sim.h"
#include "net/sim.h"
#include "testing/testing.h"
#include "wire/wire.h"

#include <stdio.h>

#define SECOND UINT64_C(1000000000)

/* Two processes on two simulated hosts with one connection between them. */
struct sim_rig {
    struct loop_sim *sim;
    struct net_sim *world;
    struct rig_end client, server;
    struct loop *loops[2];
    struct net_listener *listener;
    struct net_listener_user accept;
    struct net_connect connect;
    int connect_rc;
    bool connected;
    struct rand rand;
};

static void rig_accepted(struct net_listener_user *u, struct stream *s)
{
    struct sim_rig *r = container_of(u, struct sim_rig, accept);
    rig_end_start(&r->server, s);
}
static void rig_connected(struct net_connect *c, int rc, struct stream *s)
{
    struct sim_rig *r = container_of(c, struct sim_rig, connect);
    r->connected = true;
    r->connect_rc = rc;
    if (rc == 0) {
        rig_end_start(&r->client, s);
    }
}
static void server_setup(void *ctx)
{
    struct sim_rig *r = ctx;
    struct net_address at;
    r->accept.accepted = rig_accepted;
    CHECK_OK(net_address_parse("host1:9400", 0, &at, NULL));
    CHECK_OK(net_listen(r->server.env.net, &at, &r->accept, &r->listener));
}
static void client_setup(void *ctx)
{
    struct sim_rig *r = ctx;
    r->connect.done = rig_connected;
    CHECK_OK(net_address_parse("host1", 9400, &r->connect.to, NULL));
    net_connect(r->client.env.net, &r->connect);
}
static bool rig_is_up(void *ctx)
{
    struct sim_rig *r = ctx;
    return r->connected && (r->connect_rc < 0 || r->server.conn != NULL);
}

static void sim_rig_processes(struct sim_rig *r, uint64_t seed)
{
    rand_seed(&r->rand, seed);
    r->client.rand = rand_fork(&r->rand);
    r->server.rand = rand_fork(&r->rand);
    r->sim = loop_sim_new(seed);
    CHECK(r->sim != NULL);
    const struct net_sim_options opt = {.sim = r->sim};
    r->world = net_sim_new(&opt);
    CHECK(r->world != NULL);
    CHECK_OK(loop_sim_process(r->sim, "client", 0, &r->loops[0]));
    CHECK_OK(loop_sim_process(r->sim, "server", 1, &r->loops[1]));
    r->client.env.loop = r->loops[0];
    r->server.env.loop = r->loops[1];
    CHECK_OK(net_sim_open(r->world, 0, r->loops[0], &r->client.env.net));
    CHECK_OK(net_sim_open(r->world, 1, r->loops[1], &r->server.env.net));
}
static void sim_rig_connect(struct sim_rig *r)
{
    loop_sim_enter(r->loops[1], server_setup, r);
    loop_sim_enter(r->loops[0], client_setup, r);
    CHECK_TRUE(loop_sim_run(r->sim, rig_is_up, r, loop_sim_now_ns(r->sim) + 10 * SECOND));
    CHECK_OK(r->connect_rc);
}
static void sim_rig_start(struct sim_rig *r, uint64_t seed)
{
    sim_rig_processes(r, seed);
    sim_rig_connect(r);
}

static void end_stop(void *ctx)
{
    rig_end_stop(ctx);
}
static void listener_stop(void *ctx)
{
    struct sim_rig *r = ctx;
    r->listener = net_listener_close(r->server.env.net, r->listener);
}
static bool never(void *ctx)
{
    (void)ctx;
    return false;
}
static void sim_rig_run(struct sim_rig *r, uint64_t ns)
{
    (void)loop_sim_run(r->sim, never, NULL, loop_sim_now_ns(r->sim) + ns);
}
/* Frees everything in order, so that what is left over shows. */
static void sim_rig_stop(struct sim_rig *r)
{
    loop_sim_enter(r->loops[0], end_stop, &r->client);
    loop_sim_enter(r->loops[1], end_stop, &r->server);
    sim_rig_run(r, SECOND); /* what has been deferred */
    loop_sim_enter(r->loops[0], end_stop, &r->client);
    loop_sim_enter(r->loops[1], end_stop, &r->server);
    CHECK_TRUE(r->client.pool == NULL && r->server.pool == NULL); /* no buffer is out */
    CHECK_EQ(r->server.pins, 0);
    loop_sim_enter(r->loops[1], listener_stop, r);
    net_free(r->client.env.net);
    net_free(r->server.env.net);
    net_sim_free(r->world);
    loop_sim_free(r->sim);
}

/* --- One call -----------------------------------------------------------------------------------
 */

struct one_call {
    struct conn_call call;
    struct conn *on;
    unsigned done;
    int rc;
    bool answered;
    uint8_t body[64];
    size_t body_len, data_len;
    uint64_t key;
    bool data_good;
};
static void one_done(struct conn_call *c, const struct conn_reply *reply)
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
    conn_call(o->on, &o->call);
    CHECK_EQ(o->done, 0); /* never from inside */
}
static void one_cancel(void *ctx)
{
    struct one_call *o = ctx;
    conn_call_cancel(&o->call);
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

/* --- Random traffic ------------------------------------------------------------------------------
 */

struct storm_call {
    struct conn_call call;
    struct storm *storm;
    uint64_t key;
    uint8_t *body, *data;
    struct buf *buf;
    size_t data_len;
    bool busy;
};
struct storm {
    struct sim_rig rig;
    struct storm_call calls[RIG_CALLS];
    unsigned started, limit, done, good, deadline, cancelled, lost, running;
    struct loop_timer tick;
    bool mild; /* no deadlines, cancels or resets: everything must succeed */
};

static void storm_start_one(struct storm *s, struct storm_call *sc);

static void storm_check(struct storm_call *sc, const struct conn_reply *r)
{
    struct storm *s = sc->storm;
    if (r->rc == 0) {
        CHECK_TRUE(r->answered);
        CHECK_EQ(r->body_len, sc->call.body_len);
        CHECK_TRUE(rig_same(r->body, sc->key, r->body_len));
        CHECK_EQ(r->data.len, sc->data_len);
        CHECK_TRUE(rig_same(r->data.at, sc->key + 5, r->data.len));
        s->good++;
    } else if (r->rc == -ENOENT) {
        CHECK_EQ(sc->call.opcode, RIG_FAIL);
        s->good++;
    } else {
        s->deadline += r->rc == -ERR_deadline;
        s->cancelled += r->rc == -ERR_cancelled;
        s->lost += r->rc == -ERR_closed;
        CHECK_TRUE(r->rc == -ERR_deadline || r->rc == -ERR_cancelled || r->rc == -ERR_closed);
    }
}
static void storm_call_done(struct conn_call *c, const struct conn_reply *reply)
{
    struct storm_call *sc = container_of(c, struct storm_call, call);
    struct storm *s = sc->storm;
    CHECK_TRUE(sc->busy);
    storm_check(sc, reply);
    /* Lent memory is the caller's again: nobody may look at it any more. */
    memset(sc->body, 0xdd, sc->call.body_len);
    if (sc->buf != NULL) {
        sc->buf = buf_unref(sc->buf);
    } else if (sc->data_len > 0) {
        memset(sc->data, 0xdd, sc->data_len);
    }
    mem_free(sc->body);
    mem_free(sc->data);
    sc->body = sc->data = NULL;
    sc->busy = false;
    s->done++;
    s->running--;
}
static size_t storm_size(struct rand *r, size_t max)
{
    uint64_t kind = rand_below(r, 100);
    return kind < 40 ? 0 : kind < 90 ? rand_below(r, 2000) : rand_below(r, max);
}
static void storm_start_one(struct storm *s, struct storm_call *sc)
{
    struct rand *r = &s->rig.client.rand;
    size_t body_len = storm_size(r, RIG_BODY_MAX);
    sc->storm = s;
    sc->busy = true;
    sc->key = rand_u64(r);
    sc->data_len = storm_size(r, RIG_DATA_MAX);
    sc->body = mem_alloc(body_len + 1);
    CHECK(sc->body != NULL);
    rig_fill(sc->body, sc->key, body_len);
    uint16_t opcode = (uint16_t)(RIG_ECHO + rand_below(r, 2));
    opcode = rand_chance(r, 1, 30) ? RIG_FAIL : opcode;
    sc->call = (struct conn_call){.done = storm_call_done,
                                  .body = sc->body,
                                  .body_len = body_len,
                                  .opcode = opcode,
                                  .trace = s->started};
    if (!s->mild && rand_chance(r, 1, 10)) {
        sc->call.timeout_ms = (uint32_t)rand_range(r, 1, 20);
    }
    if (sc->data_len > 0) {
        bool pooled = rand_chance(r, 1, 2);
        sc->buf = pooled ? buf_get(s->rig.client.pool, sc->data_len) : NULL;
        sc->data = sc->buf == NULL ? mem_alloc(sc->data_len) : NULL;
        uint8_t *at = sc->buf != NULL ? sc->buf->at : sc->data;
        rig_fill(at, sc->key + 5, sc->data_len);
        size_t cut = rand_below(r, sc->data_len + 1);
        sc->call.data[0] = (struct slice){.buf = sc->buf, .at = at, .len = cut};
        sc->call.data[1] =
            (struct slice){.buf = sc->buf, .at = at + cut, .len = sc->data_len - cut};
        sc->call.data_count = 2;
    }
    s->started++;
    s->running++;
    conn_call(s->rig.client.conn, &sc->call);
}
static void storm_tick(struct loop_timer *t)
{
    struct storm *s = container_of(t, struct storm, tick);
    struct rand *r = &s->rig.client.rand;
    for (unsigned i = 0; i < RIG_CALLS && s->rig.client.closed == 0; i++) {
        struct storm_call *sc = &s->calls[i];
        if (!sc->busy && s->started < s->limit && rand_chance(r, 1, 2) &&
            !conn_full(s->rig.client.conn)) {
            storm_start_one(s, sc);
        } else if (sc->busy && !s->mild && rand_chance(r, 1, 60)) {
            conn_call_cancel(&sc->call);
        }
    }
    if (s->rig.client.closed == 0 && s->started < s->limit) {
        loop_timer_in(s->rig.loops[0], t, rand_below(r, 4000000));
    }
}
static void storm_begin(void *ctx)
{
    struct storm *s = ctx;
    s->tick.fire = storm_tick;
    loop_timer_in(s->rig.loops[0], &s->tick, 0);
}
static bool storm_over(void *ctx)
{
    struct storm *s = ctx;
    bool ended = s->started == s->limit || s->rig.client.closed > 0;
    return ended && s->running == 0;
}
static void storm_end(void *ctx)
{
    struct storm *s = ctx;
    loop_timer_cancel(s->rig.loops[0], &s->tick);
}
static void storm_run(struct storm *s, uint64_t seed)
{
    sim_rig_start(&s->rig, seed);
    loop_sim_enter(s->rig.loops[0], storm_begin, s);
    CHECK_TRUE(loop_sim_run(s->rig.sim, storm_over, s, 1000 * SECOND));
    CHECK_EQ(s->done, s->started);
    loop_sim_enter(s->rig.loops[0], storm_end, s);
}

TEST(conn_survives_storms)
{
    unsigned deadlines = 0, cancels = 0;
    for (uint64_t seed = 0; seed < 30; seed++) {
        struct storm *s = mem_zalloc(sizeof *s);
        CHECK(s != NULL);
        s->limit = 200;
        storm_run(s, testing_seed() + seed);
        CHECK_EQ(s->rig.client.closed, 0);
        CHECK_EQ(s->started, s->limit);
        deadlines += s->deadline;
        cancels += s->cancelled;
        sim_rig_stop(&s->rig);
        mem_free(s);
    }
    CHECK_TRUE(deadlines > 0 && cancels > 0);
}

TEST(conn_ends_cleanly_when_the_network_breaks)
{
    unsigned lost = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct storm *s = mem_zalloc(sizeof *s);
        CHECK(s != NULL);
        s->limit = 150;
        sim_rig_start(&s->rig, testing_seed() + seed);
        net_sim_faults(s->rig.world, 3000, 1000);
        loop_sim_enter(s->rig.loops[0], storm_begin, s);
        CHECK_TRUE(loop_sim_run(s->rig.sim, storm_over, s, 1000 * SECOND));
        CHECK_EQ(s->done, s->started);
        lost += s->lost;
        loop_sim_enter(s->rig.loops[0], storm_end, s);
        sim_rig_run(&s->rig, SECOND);
        CHECK_TRUE(s->rig.client.closed <= 1 && s->rig.server.closed <= 1);
        sim_rig_stop(&s->rig);
        mem_free(s);
    }
    CHECK_TRUE(lost > 0);
}
