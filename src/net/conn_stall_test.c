#include "net/conn.h"

#include "net/conn_sim_priv.h"
#include "testing/testing.h"

/* What one end may cost the other that takes nothing, or does nothing. */

#define STALL_CALLS 200u
#define STALL_BODY 4000u
#define STALL_HELD 20u /* requests that the server takes at a time */

struct stall_call {
    struct net_conn_call call;
    struct stall *of;
};
struct stall {
    struct sim_rig rig;
    struct stall_call call[STALL_CALLS];
    uint8_t body[STALL_BODY];
    unsigned done, good;
    uint16_t opcode;
};

static void stall_done(struct net_conn_call *c, const struct net_conn_reply *r)
{
    struct stall *s = container_of(c, struct stall_call, call)->of;
    s->done++;
    s->good += r->rc == 0 && r->body_len == sizeof s->body;
}

static void stall_calls(void *ctx)
{
    struct stall *s = ctx;
    for (unsigned i = 0; i < STALL_CALLS; i++) {
        s->call[i] = (struct stall_call){.of = s,
                                         .call = {.done = stall_done,
                                                  .opcode = s->opcode,
                                                  .body = s->body,
                                                  .body_len = sizeof s->body,
                                                  .timeout_ms = 300000}};
        net_conn_call(s->rig.client.conn, &s->call[i].call);
    }
}

static struct stall *stall_new(uint16_t opcode)
{
    struct stall *s = mem_zalloc(sizeof *s);
    CHECK(s != NULL);
    s->rig.window_bytes = 20000;
    s->rig.server.opt.max_send_bytes = 10000;
    s->rig.server.opt.stall_ms = 10000;
    s->rig.server.opt.max_requests = STALL_HELD;
    s->opcode = opcode;
    sim_rig_start(&s->rig, testing_seed());
    return s;
}

static void stall_free(struct stall *s)
{
    sim_rig_stop(&s->rig);
    mem_free(s);
}

static bool stall_all_held(void *ctx)
{
    return ((struct stall *)ctx)->rig.server.held_count == STALL_HELD;
}
static void stall_release(void *ctx)
{
    rig_release_all(ctx);
}

/* The client asks much and is stopped; then the server answers what it has taken. */
static void stall_begin(struct stall *s)
{
    loop_sim_enter(s->rig.loops[0], stall_calls, s);
    CHECK_TRUE(loop_sim_run(s->rig.sim, stall_all_held, s, loop_sim_now_ns(s->rig.sim) + SECOND));
    loop_sim_pause(s->rig.loops[0], true);
    loop_sim_enter(s->rig.loops[1], stall_release, &s->rig.server);
}

TEST(conn_of_a_peer_that_takes_nothing_is_bounded_and_ends)
{
    struct stall *s = stall_new(RIG_HOLD);
    stall_begin(s);
    sim_rig_run(&s->rig, 4 * SECOND);
    const struct net_conn *c = s->rig.server.conn;
    CHECK_EQ(s->rig.server.closed, 0);
    CHECK_TRUE(c->paused); /* it is not heard any more, */
    CHECK_EQ(s->rig.server.requests, STALL_HELD);
    CHECK_TRUE(net_conn_queued(c) > 10000 && net_conn_queued(c) < (size_t)STALL_HELD * STALL_BODY);
    CHECK_EQ(c->share->queued_bytes, net_conn_queued(c));
    sim_rig_run(&s->rig, 12 * SECOND); /* and then let go */
    CHECK_EQ(s->rig.server.closed, 1);
    CHECK_EQ(s->rig.server.closed_rc, -ETIMEDOUT);
    CHECK_TEXT(s->rig.server.reason, "the peer does not take what it is sent");
    CHECK_EQ(c->share->queued_bytes, 0);
    loop_sim_pause(s->rig.loops[0], false);
    sim_rig_run(&s->rig, SECOND);
    CHECK_EQ(s->done, STALL_CALLS); /* each heard of its end */
    stall_free(s);
}

/* One that takes a little now and then is only slow. */
TEST(conn_of_a_slow_peer_goes_on)
{
    struct stall *s = stall_new(RIG_HOLD);
    stall_begin(s);
    for (unsigned i = 0; i < 12 && s->done < STALL_CALLS; i++) {
        sim_rig_run(&s->rig, 8 * SECOND);
        loop_sim_pause(s->rig.loops[0], false);
        for (unsigned was = s->done, n = 0; n < 100000 && s->done < was + 2; n++) {
            (void)loop_sim_step(s->rig.sim);
        }
        loop_sim_pause(s->rig.loops[0], true);
        loop_sim_enter(s->rig.loops[1], stall_release, &s->rig.server);
    }
    CHECK_EQ(s->rig.server.closed, 0);
    CHECK_TRUE(s->good >= 12);
    loop_sim_pause(s->rig.loops[0], false);
    stall_free(s);
}

/* After much work a connection keeps no more than a few small objects. */
TEST(conn_that_is_idle_holds_no_buffers)
{
    struct stall *s = stall_new(RIG_ECHO);
    loop_sim_enter(s->rig.loops[0], stall_calls, s);
    sim_rig_run(&s->rig, 5 * SECOND);
    CHECK_EQ(s->good, STALL_CALLS);
    for (unsigned i = 0; i < 2; i++) {
        const struct net_conn *c = i == 0 ? s->rig.server.conn : s->rig.client.conn;
        CHECK_EQ(c->share->memory_bytes, 0);
        CHECK_EQ(c->share->queued_bytes, 0);
        CHECK_TRUE(c->in == NULL && c->block_first == NULL);
        CHECK_TRUE(c->idle_count <= CONN_IDLE_REQUESTS);
    }
    stall_free(s);
}
