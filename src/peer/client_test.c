#include "peer/client.h"

#include "peer/rig_sim_priv.h"
#include "testing/testing.h"

/* --- Finding the leader ----------------------------------------------------------------------- */

struct leader_set {
    struct rig_world *w;
    unsigned server, leader;
    uint64_t term;
};
static void leader_enter(void *ctx)
{
    const struct leader_set *l = ctx;
    struct rig_server *s = &l->w->server[l->server];
    const char *address = l->leader < RIG_SERVERS ? l->w->server[l->leader].at.text : NULL;
    peer_server_set_leader(s->server, l->term, address, l->server == l->leader);
}
/* What server `i` says; `leader` RIG_SERVERS: it knows none. */
static void say_leader(struct rig_world *w, unsigned i, unsigned leader, uint64_t term)
{
    struct leader_set l = {.w = w, .server = i, .leader = leader, .term = term};
    w->server[i].term = term;
    w->server[i].elsewhere.text[0] = 0;
    if (leader < RIG_SERVERS) {
        w->server[i].elsewhere = w->server[leader].at;
    }
    rig_on(w->server_loop[i], leader_enter, &l);
}
static void all_say(struct rig_world *w, unsigned leader, uint64_t term)
{
    for (unsigned i = 0; i < w->server_count; i++) {
        say_leader(w, i, leader, term);
    }
}
static void three_servers(struct rig_world *w, uint64_t seed, unsigned leader)
{
    rig_open(w, seed, 3);
    w->client.opt.wants_leader = true;
    for (unsigned i = 0; i < 3; i++) {
        rig_on(w->server_loop[i], rig_server_enter, &w->server[i]);
    }
    all_say(w, leader, 1);
    rig_on(w->client_loop, rig_client_enter, &w->client);
}
static bool leader_is(const struct rig_world *w, unsigned i)
{
    struct net_address at;
    peer_address(w->client.peer, &at);
    return strcmp(at.text, w->server[i].at.text) == 0;
}

TEST(client_finds_the_leader)
{
    for (unsigned leader = 0; leader < 3; leader++) {
        struct rig_world w = {.server_count = 0};
        three_servers(&w, testing_seed() + leader, leader);
        struct rig_call c = {.call = {.timeout_ms = 1000}};
        rig_do_ping(&w, &c, 5);
        CHECK_OK(c.rc);
        CHECK_TRUE(c.good);
        CHECK_TRUE(leader_is(&w, leader));
        CHECK_EQ(w.server[leader].pings, 1);
        rig_close(&w);
    }
}

TEST(client_follows_the_leader)
{
    struct rig_world w = {.server_count = 0};
    three_servers(&w, testing_seed(), 0);
    struct rig_call c = {.call = {.timeout_ms = 5000}};
    rig_do_ping(&w, &c, 5);
    CHECK_OK(c.rc);
    all_say(&w, 2, 2);
    rig_do_ping(&w, &c, rig_cookie(RIG_ELSEWHERE, 6)); /* the new one would say so for ever */
    CHECK_RC(c.rc, ERR_not_leader);
    rig_do_ping(&w, &c, 7);
    CHECK_OK(c.rc);
    CHECK_TRUE(leader_is(&w, 2));
    CHECK_TRUE(w.client.downs > 0);
    rig_close(&w);
}

TEST(client_waits_for_an_election)
{
    struct rig_world w = {.server_count = 0};
    three_servers(&w, testing_seed(), RIG_SERVERS);
    struct rig_call c = {.call = {.timeout_ms = 20000}};
    struct rig_call hasty = {.call = {.timeout_ms = 1000}};
    rig_begin_ping(&w, &c, 5);
    rig_begin_ping(&w, &hasty, 6);
    rig_run(&w, 5 * SECOND);
    CHECK_EQ(c.done, 0);
    CHECK_EQ(hasty.done, 1);
    CHECK_RC(hasty.rc, ERR_unavailable);
    CHECK_TRUE(!hasty.unknown);
    all_say(&w, 1, 2);
    rig_until(&w, rig_call_is_done, &c);
    CHECK_OK(c.rc);
    CHECK_TRUE(leader_is(&w, 1));
    rig_close(&w);
}

/* Servers that name each other do not keep us running in circles. */
TEST(client_leaves_redirect_loops)
{
    struct rig_world w = {.server_count = 0};
    three_servers(&w, testing_seed(), RIG_SERVERS);
    for (unsigned i = 0; i < 3; i++) {
        say_leader(&w, i, (i + 1) % 3, 4);
    }
    uint64_t before = loop_sim_steps(w.sim);
    rig_run(&w, 20 * SECOND);
    CHECK_TRUE(loop_sim_steps(w.sim) - before < 40000);
    CHECK_EQ(w.client.ups, 0);
    CHECK_ERR(peer_trouble(w.client.peer)->code, ERR_redirect);
    all_say(&w, 2, 5);
    rig_until(&w, rig_is_up, &w);
    CHECK_TRUE(leader_is(&w, 2));
    rig_close(&w);
}

TEST(client_does_not_believe_leaders_of_the_past)
{
    struct rig_world w = {.server_count = 0};
    three_servers(&w, testing_seed(), 2);
    rig_until(&w, rig_is_up, &w);
    all_say(&w, RIG_SERVERS, 9);
    say_leader(&w, 0, 1, 3); /* old news */
    say_leader(&w, 1, 1, 9);
    net_sim_reset(w.net, 0, 3);
    rig_run(&w, SECOND / 10);
    rig_until(&w, rig_is_up, &w);
    CHECK_TRUE(leader_is(&w, 1));
    rig_close(&w);
}

static void kill_server(struct rig_world *w, unsigned i)
{
    loop_sim_kill(w->server_loop[i]);
    w->server[i].server = NULL;
    w->server[i].pool = NULL;
}
TEST(client_goes_on_with_the_servers_that_live)
{
    struct rig_world w = {.server_count = 0};
    three_servers(&w, testing_seed(), 0);
    rig_until(&w, rig_is_up, &w);
    struct rig_call c = {.call = {.timeout_ms = 60000, .flags = PEER_CALL_AGAIN}};
    rig_begin_ping(&w, &c, 8);
    kill_server(&w, 0);
    say_leader(&w, 1, 2, 2);
    say_leader(&w, 2, 2, 2);
    rig_until(&w, rig_call_is_done, &c);
    CHECK_OK(c.rc);
    CHECK_TRUE(leader_is(&w, 2));
    rig_close(&w);
}

/* --- What becomes of calls -------------------------------------------------------------------- */

TEST(client_tries_again_when_busy)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    rig_start(&w);
    w.server[0].busy_left = 5;
    struct rig_call c = {.call = {.timeout_ms = 20000}};
    rig_do_ping(&w, &c, rig_cookie(RIG_BUSY, 1));
    CHECK_OK(c.rc);
    CHECK_EQ(w.server[0].pings, 6);
    w.server[0].busy_left = 1000000;
    c.call.timeout_ms = 3000;
    rig_do_ping(&w, &c, rig_cookie(RIG_BUSY, 2));
    CHECK_RC(c.rc, ERR_busy);
    CHECK_TRUE(c.answered);
    c.call.flags = PEER_CALL_RAW;
    unsigned pings = w.server[0].pings;
    rig_do_ping(&w, &c, rig_cookie(RIG_BUSY, 3));
    CHECK_RC(c.rc, ERR_busy);
    CHECK_EQ(w.server[0].pings, pings + 1);
    rig_close(&w);
}

TEST(client_tells_what_the_server_said)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    rig_start(&w);
    struct rig_call c = {.call = {.timeout_ms = 20000}};
    rig_do_ping(&w, &c, rig_cookie(RIG_FAIL, 1));
    CHECK_RC(c.rc, ENOENT);
    CHECK_TRUE(c.answered && !c.unknown);
    CHECK_TEXT(c.text, "no such thing");
    rig_close(&w);
}

TEST(client_keeps_deadlines)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    rig_start(&w);
    rig_until(&w, rig_is_up, &w);
    struct rig_call c = {.call = {.timeout_ms = 1500}};
    uint64_t began = loop_sim_now_ns(w.sim);
    rig_do_ping(&w, &c, rig_cookie(RIG_HOLD, 1));
    CHECK_RC(c.rc, ERR_deadline);
    CHECK_TRUE(c.unknown);
    uint64_t took = loop_sim_now_ns(w.sim) - began;
    CHECK_TRUE(took >= 3 * SECOND / 2 && took < 2 * SECOND);
    rig_run(&w, SECOND);
    CHECK_EQ(w.server[0].cancelled, 1);
    rig_close(&w);
}

/* What may have happened is repeated only when the caller says that it may happen twice. */
TEST(client_says_when_the_outcome_is_unknown)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    rig_start(&w);
    rig_until(&w, rig_is_up, &w);
    struct rig_call once = {.call = {.timeout_ms = 20000}};
    struct rig_call again = {.call = {.timeout_ms = 20000, .flags = PEER_CALL_AGAIN}};
    rig_begin_ping(&w, &once, rig_cookie(RIG_HOLD, 1));
    rig_begin_ping(&w, &again, rig_cookie(RIG_LATER, 2));
    while (w.server[0].pings < 1) {
        CHECK_TRUE(loop_sim_step(w.sim));
    }
    net_sim_reset(w.net, 0, 1);
    rig_until(&w, rig_call_is_done, &once);
    CHECK_RC(once.rc, ERR_closed);
    CHECK_TRUE(once.unknown && !once.answered);
    rig_until(&w, rig_call_is_done, &again);
    CHECK_OK(again.rc);
    CHECK_TRUE(again.good);
    rig_close(&w);
}

TEST(client_never_gives_up_when_told_so)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    rig_start(&w);
    rig_until(&w, rig_is_up, &w);
    struct rig_call c = {.call = {.timeout_ms = PEER_FOREVER, .flags = PEER_CALL_AGAIN}};
    rig_begin_ping(&w, &c, rig_cookie(RIG_HOLD, 1)); /* lost there: never answered */
    rig_run(&w, SECOND);
    net_sim_cut(w.net, 0, 1, true);
    net_sim_cut(w.net, 1, 0, true);
    rig_run(&w, 200 * SECOND);
    CHECK_EQ(c.done, 0);
    net_sim_heal(w.net);
    c.ping.cookie = 1; /* read at each sending */
    rig_until(&w, rig_call_is_done, &c);
    CHECK_OK(c.rc);
    rig_close(&w);
}
/* An answer that does not come makes the link suspect: the next attempt goes out on another. */
TEST(client_takes_a_new_link_when_an_answer_is_late)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    w.client.opt.session = 3;
    rig_start(&w);
    struct rig_call c = {.call = {.timeout_ms = PEER_FOREVER, .flags = PEER_CALL_AGAIN}};
    rig_begin_ping(&w, &c, rig_cookie(RIG_HOLD, 1));
    rig_run(&w, 70 * SECOND);
    CHECK_EQ(c.done, 0);
    CHECK_EQ(w.server[0].pings, 3);
    CHECK_EQ(w.server[0].ups, 3);
    CHECK_EQ(w.server[0].newest->number, 3);
    CHECK_EQ(w.server[0].held_count, 1);
    rig_close(&w);
    CHECK_EQ(c.done, 1);
}

TEST(client_fails_calls_fast_when_it_is_refused_for_good)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 3);
    w.client.opt.cluster_id = rig_cluster(9);
    rig_start(&w);
    struct rig_call c = {.call = {.timeout_ms = 60000}};
    rig_begin_ping(&w, &c, 1);
    rig_run(&w, SECOND);
    CHECK_EQ(c.done, 1);
    CHECK_RC(c.rc, ERR_wrong_cluster);
    rig_do_ping(&w, &c, 1);
    CHECK_RC(c.rc, ERR_wrong_cluster);
    rig_close(&w);
}

/* --- The gate, sessions, bulk links ----------------------------------------------------------- */

static void open_gate_enter(void *ctx)
{
    peer_open_gate(((struct rig_world *)ctx)->client.peer);
}
TEST(client_holds_calls_until_the_gate_is_open)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    w.client.opt.gated = true;
    rig_start(&w);
    struct rig_call plain = {.call = {.timeout_ms = 60000}};
    struct rig_call early = {.call = {.timeout_ms = 60000, .flags = PEER_CALL_EARLY}};
    for (unsigned i = 0; i < 2; i++) { /* shut again by each new link */
        rig_begin_ping(&w, &plain, 1);
        rig_do_ping(&w, &early, 2);
        CHECK_OK(early.rc);
        rig_run(&w, SECOND);
        CHECK_EQ(plain.done, 0);
        rig_on(w.client_loop, open_gate_enter, &w);
        rig_until(&w, rig_call_is_done, &plain);
        CHECK_OK(plain.rc);
        net_sim_reset(w.net, 0, 1);
        rig_run(&w, SECOND);
    }
    rig_close(&w);
}

static void set_session_enter(void *ctx)
{
    peer_set_session(((struct rig_world *)ctx)->client.peer, 71, 2, true);
}
TEST(client_names_its_new_session)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    rig_start(&w);
    rig_until(&w, rig_is_up, &w);
    rig_on(w.client_loop, set_session_enter, &w);
    rig_run(&w, SECOND);
    CHECK_EQ(w.client.ups, 2);
    CHECK_EQ(w.server[0].newest->session, 71);
    CHECK_EQ(w.server[0].newest->generation, 2);
    CHECK_EQ(w.server[0].newest->number, 2);
    rig_close(&w);
}

TEST(client_makes_bulk_links_when_wanted)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    w.client.opt.bulk_count = 2;
    w.client.opt.session = 9;
    rig_start(&w);
    rig_run(&w, SECOND);
    CHECK_EQ(w.client.ups, 1);
    struct rig_call c = {.call = {.slot = 2, .timeout_ms = 5000}};
    rig_do_ping(&w, &c, 1);
    CHECK_OK(c.rc);
    CHECK_EQ(w.client.ups, 2);
    CHECK_EQ(w.server[0].newest->slot, 2);
    CHECK_TRUE(peer_link_of(w.client.peer, 1) == NULL);
    CHECK_TRUE(peer_link_of(w.client.peer, 2) != NULL);
    net_sim_reset(w.net, 0, 1);
    rig_run(&w, SECOND);
    CHECK_EQ(w.client.downs, 2);
    CHECK_EQ(w.client.ups, 3); /* the control link only */
    rig_do_ping(&w, &c, 2);
    CHECK_OK(c.rc);
    CHECK_EQ(w.client.ups, 4);
    rig_close(&w);
}

/* A call that would rather be made elsewhere waits while a bulk link is made, and no longer than
 * the control link is there; the next one waits for neither. Others do. */
TEST(client_ends_calls_with_the_control_link)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    w.client.opt.bulk_count = 2;
    rig_start(&w);
    rig_until(&w, rig_is_up, &w);
    struct rig_call linked = {.call = {.slot = 2, .flags = PEER_CALL_LINKED, .timeout_ms = 30000}};
    struct rig_call other = {.call = {.slot = 2, .timeout_ms = 30000}};
    rig_begin_ping(&w, &linked, 1);
    rig_begin_ping(&w, &other, 2);
    loop_sim_kill(w.server_loop[0]); /* before the bulk link is there */
    rig_until(&w, rig_call_is_done, &linked);
    CHECK_RC(linked.rc, ERR_unavailable);
    CHECK_TRUE(!linked.unknown);
    CHECK_TRUE(loop_sim_now_ns(w.sim) < SECOND);
    CHECK_EQ(other.done, 0);
    rig_do_ping(&w, &linked, 3);
    CHECK_RC(linked.rc, ERR_unavailable);
    CHECK_TRUE(loop_sim_now_ns(w.sim) < SECOND);
    rig_server_process(&w, 0);
    rig_on(w.server_loop[0], rig_server_enter, &w.server[0]);
    rig_until(&w, rig_call_is_done, &other);
    CHECK_OK(other.rc);
    rig_do_ping(&w, &linked, 4);
    CHECK_OK(linked.rc);
    rig_close(&w);
}

struct drop_and_call {
    struct rig_world *w;
    struct rig_call *c;
};
static void drop_and_call_enter(void *ctx)
{
    struct drop_and_call *d = ctx;
    peer_drop_link(d->w->client.peer, 0, "an attempt is given up");
    rig_call_ping(d->c, &d->w->client, 3);
}
/* R10, R11: a retry after drop_link goes out on a newer link, never on the one that was dropped. */
TEST(client_never_sends_on_a_dropped_link)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    w.client.opt.session = 9;
    rig_start(&w);
    rig_until(&w, rig_is_up, &w);
    struct rig_call c = {.call = {.timeout_ms = 5000}};
    struct drop_and_call d = {.w = &w, .c = &c};
    rig_on(w.client_loop, drop_and_call_enter, &d);
    rig_until(&w, rig_call_is_done, &c);
    CHECK_OK(c.rc);
    CHECK_EQ(w.server[0].newest->number, 2);
    rig_close(&w);
}

/* --- Cancel, end ------------------------------------------------------------------------------ */

TEST(client_cancels_in_every_state)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    w.client.opt.gated = true;
    rig_start(&w);
    struct rig_call c = {.call = {.timeout_ms = 60000}};
    rig_on(w.client_loop, rig_cancel_enter, &c.call); /* idle: nothing */
    CHECK_EQ(c.done, 0);
    rig_begin_ping(&w, &c, 1); /* queued */
    rig_on(w.client_loop, rig_cancel_enter, &c.call);
    CHECK_EQ(c.done, 0);
    rig_until(&w, rig_call_is_done, &c);
    CHECK_RC(c.rc, ERR_cancelled);
    CHECK_TRUE(!c.unknown);
    rig_until(&w, rig_is_up, &w);
    rig_on(w.client_loop, open_gate_enter, &w);

    rig_begin_ping(&w, &c, rig_cookie(RIG_HOLD, 1)); /* in flight */
    rig_run(&w, SECOND);
    rig_on(w.client_loop, rig_cancel_enter, &c.call);
    rig_on(w.client_loop, rig_cancel_enter, &c.call); /* about to say so: nothing more */
    rig_until(&w, rig_call_is_done, &c);
    CHECK_RC(c.rc, ERR_cancelled);
    CHECK_TRUE(c.unknown);
    rig_run(&w, SECOND);
    CHECK_EQ(w.server[0].cancelled, 1);

    w.server[0].busy_left = 1000000;
    rig_begin_ping(&w, &c, rig_cookie(RIG_BUSY, 1)); /* resting */
    rig_run(&w, 2 * SECOND);
    rig_on(w.client_loop, rig_cancel_enter, &c.call);
    rig_until(&w, rig_call_is_done, &c);
    CHECK_RC(c.rc, ERR_cancelled);
    CHECK_EQ(c.done, 1);
    rig_close(&w);
}

TEST(client_refuses_calls_beyond_its_queue)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    w.client.opt.max_queued = 2;
    rig_on(w.client_loop, rig_client_enter, &w.client); /* nobody listens */
    struct rig_call c[3] = {0};
    for (unsigned i = 0; i < 3; i++) {
        rig_begin_ping(&w, &c[i], i);
    }
    rig_run(&w, SECOND);
    CHECK_EQ(c[2].done, 1);
    CHECK_RC(c[2].rc, ERR_busy);
    CHECK_EQ(c[0].done + c[1].done, 0);
    rig_on(w.server_loop[0], rig_server_enter, &w.server[0]);
    rig_until(&w, rig_call_is_done, &c[1]);
    CHECK_OK(c[1].rc);
    rig_close(&w);
}

TEST(client_ends_with_calls_under_way)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    w.client.opt.bulk_count = 1;
    rig_start(&w);
    w.server[0].busy_left = 1000000;
    struct rig_call c[6] = {0};
    c[3].call.slot = 1;
    rig_begin_ping(&w, &c[0], rig_cookie(RIG_HOLD, 1));
    rig_begin_ping(&w, &c[1], rig_cookie(RIG_BUSY, 1));
    rig_begin_ping(&w, &c[2], rig_cookie(RIG_HOLD, 2));
    rig_begin_ping(&w, &c[3], rig_cookie(RIG_HOLD, 3));
    rig_run(&w, 2 * SECOND);
    rig_on(w.client_loop, rig_cancel_enter, &c[2].call); /* failed, not yet told */
    rig_begin_ping(&w, &c[4], 4);                        /* just sent */
    net_sim_reset(w.net, 0, 1);
    rig_begin_ping(&w, &c[5], 5);
    rig_close(&w);
    for (unsigned i = 0; i < 6; i++) {
        CHECK_EQ(c[i].done, 1);
        CHECK_TRUE(c[i].rc < 0);
    }
    CHECK_TRUE(c[0].unknown && c[3].unknown);
}

/* --- Everything at once ----------------------------------------------------------------------- */

#define CHAOS_CALLS 24u
struct chaos {
    struct rig_world w;
    struct rig_call call[CHAOS_CALLS];
    struct loop_timer tick;
    uint64_t until_ns;
    unsigned started, good, failed;
    uint64_t term;
};
static void chaos_note(struct chaos *x, struct rig_call *c)
{
    bool expected = err_is(c->rc, EAGAIN) || c->rc == -ERR_closed || c->rc == -ERR_deadline ||
                    c->rc == -ERR_cancelled || c->rc == -ENOENT;
    CHECK_TRUE(c->rc == 0 || expected);
    CHECK_TRUE(c->rc != 0 || c->good);
    CHECK_TRUE(c->rc != -ERR_closed || (c->call.flags & PEER_CALL_AGAIN) == 0);
    x->good += c->rc == 0 ? 1 : 0;
    x->failed += c->rc < 0 ? 1 : 0;
}
static void chaos_begin(struct chaos *x, struct rig_call *c)
{
    struct rand *r = &x->w.rand;
    struct rig_client *client = &x->w.client;
    *c = (struct rig_call){.call = {.timeout_ms = (uint32_t)rand_range(r, 1, 8000),
                                    .slot = (uint16_t)rand_below(r, 3)}};
    c->call.flags = rand_chance(r, 1, 2) ? PEER_CALL_AGAIN : 0;
    x->started++;
    switch (rand_below(r, 4)) {
    case 0:
        rig_call_read(c, client, rand_u64(r), rand_below(r, 300000) + 1);
        return;
    case 1:
        rig_call_write(c, client, rand_u64(r), rand_below(r, 300000) + 1);
        return;
    default:
        rig_call_ping(c, client, rig_cookie((enum rig_mode)rand_below(r, 6), rand_below(r, 1000)));
    }
}
static void chaos_tick(struct loop_timer *t)
{
    struct chaos *x = container_of(t, struct chaos, tick);
    struct rand *r = &x->w.rand;
    for (unsigned i = 0; i < CHAOS_CALLS; i++) {
        struct rig_call *c = &x->call[i];
        if (c->done > 0) {
            CHECK_EQ(c->done, 1);
            chaos_note(x, c);
            c->done = 0;
            c->client = NULL;
        } else if (peer_call_active(&c->call)) {
            if (rand_chance(r, 1, 300)) {
                peer_call_cancel(&c->call);
            }
        } else if (rand_chance(r, 1, 3) && loop_now_ns(x->w.client_loop) < x->until_ns) {
            chaos_begin(x, c);
        }
    }
    if (rand_chance(r, 1, 400)) {
        peer_drop_link(x->w.client.peer, (unsigned)rand_below(r, 3), "chaos");
    }
    loop_timer_in(x->w.client_loop, t, rand_below(r, 20000000));
}
static void chaos_begin_enter(void *ctx)
{
    struct chaos *x = ctx;
    x->tick.fire = chaos_tick;
    x->until_ns = loop_now_ns(x->w.client_loop) + 40 * SECOND;
    loop_timer_in(x->w.client_loop, &x->tick, 0);
}
static void chaos_end_enter(void *ctx)
{
    struct chaos *x = ctx;
    loop_timer_cancel(x->w.client_loop, &x->tick);
    for (unsigned i = 0; i < CHAOS_CALLS; i++) {
        CHECK_TRUE(!peer_call_active(&x->call[i].call));
    }
}
static void chaos_trouble(struct chaos *x)
{
    struct rig_world *w = &x->w;
    unsigned i = (unsigned)rand_below(&w->rand, 3);
    switch (rand_below(&w->rand, 6)) {
    case 0:
        net_sim_reset(w->net, 0, i + 1);
        break;
    case 1:
        net_sim_cut(w->net, 0, i + 1, true);
        break;
    case 2:
        net_sim_heal(w->net);
        break;
    case 3: /* the others have not heard of it yet */
        x->term++;
        say_leader(w, i, i, x->term);
        say_leader(w, (i + 1) % 3, i, x->term);
        say_leader(w, (i + 2) % 3, RIG_SERVERS, x->term - 1);
        break;
    case 4:
        w->server[i].busy_left = 3;
        break;
    default:
        kill_server(w, i);
        rig_server_process(w, i);
        w->server[i].server = NULL;
        rig_on(w->server_loop[i], rig_server_enter, &w->server[i]);
        say_leader(w, i, i, ++x->term);
    }
}
/* How many calls went well. */
static unsigned chaos_run(uint64_t seed)
{
    struct chaos *x = mem_zalloc(sizeof *x);
    CHECK_TRUE(x != NULL);
    x->w.client.opt.bulk_count = 2;
    x->w.client.opt.session = 8;
    three_servers(&x->w, seed, 0);
    net_sim_faults(x->w.net, 200, 500);
    rig_on(x->w.client_loop, chaos_begin_enter, x);
    x->term = 1;
    for (unsigned i = 0; i < 40; i++) {
        rig_run(&x->w, rand_below(&x->w.rand, 2 * SECOND));
        chaos_trouble(x);
    }
    net_sim_faults(x->w.net, 0, 0);
    net_sim_heal(x->w.net);
    all_say(&x->w, 1, x->term + 1);
    rig_run(&x->w, 40 * SECOND);
    rig_on(x->w.client_loop, chaos_end_enter, x);
    CHECK_EQ(x->good + x->failed, x->started);
    struct rig_call last = {.call = {.timeout_ms = 5000}};
    rig_do_ping(&x->w, &last, 1);
    CHECK_OK(last.rc);
    rig_close(&x->w);
    unsigned good = x->good;
    mem_free(x);
    return good;
}
TEST(client_survives_everything_at_once)
{
    for (unsigned i = 0; i < 12; i++) {
        CHECK_TRUE(chaos_run(testing_seed() + i) > 100);
    }
}

static uint64_t digest_of(uint64_t seed)
{
    struct rig_world w = {.server_count = 0};
    three_servers(&w, seed, 2);
    struct rig_call c = {.call = {.timeout_ms = 1000}};
    rig_do_ping(&w, &c, rig_cookie(RIG_LATER, 5));
    rig_run(&w, 5 * SECOND);
    uint64_t digest = loop_sim_digest(w.sim);
    rig_close(&w);
    return digest;
}
TEST(client_runs_are_determined_by_the_seed)
{
    uint64_t seed = testing_seed();
    CHECK_EQ(digest_of(seed), digest_of(seed));
}

/* --- Real sockets ----------------------------------------------------------------------------- */

struct real_rig {
    struct rig_server server;
    struct rig_client client;
    struct loop *loop;
    struct net *net;
    struct loop_timer limit;
    bool late;
};
static void real_limit_fired(struct loop_timer *t)
{
    container_of(t, struct real_rig, limit)->late = true;
}
static void real_open(struct real_rig *r, const char *at)
{
    CHECK_OK(loop_new(&(struct loop_options){.name = "test"}, &r->loop, NULL));
    struct env env = {.loop = r->loop};
    CHECK_OK(net_socket_new(&env, &r->net));
    env.net = r->net;
    r->server.env = env;
    r->client.env = env;
    r->limit.fire = real_limit_fired;
    rand_seed(&r->server.rand, testing_seed());
    CHECK_OK(net_address_parse(at, 0, &r->server.at, NULL));
    rig_server_start(&r->server);
}
static void real_start(struct real_rig *r)
{
    r->client.addresses[0] = r->server.at;
    r->client.opt.address_count = 1;
    rig_client_start(&r->client);
}
static void real_wait(struct real_rig *r, const unsigned *done)
{
    r->late = false;
    loop_timer_in(r->loop, &r->limit, 20 * SECOND);
    while (*done == 0 && !r->late) {
        loop_run_once(r->loop, SECOND);
    }
    loop_timer_cancel(r->loop, &r->limit);
    CHECK_TRUE(!r->late);
}
static void real_close(struct real_rig *r)
{
    rig_client_end(&r->client);
    rig_server_end(&r->server);
    for (unsigned i = 0; i < 20; i++) {
        loop_run_once(r->loop, 0);
    }
    rig_client_pool_end(&r->client);
    rig_server_pool_end(&r->server);
    net_free(r->net);
    loop_free(r->loop);
}
/* How many calls were answered as they should be. */
static unsigned real_talk(struct real_rig *r)
{
    unsigned good = 0;
    struct rig_call c[64] = {0}, read = {0}, write = {0}, fails = {0};
    for (unsigned i = 0; i < 64; i++) {
        rig_call_ping(&c[i], &r->client, rig_cookie(i % 2 == 0 ? RIG_ECHO : RIG_LATER, i));
    }
    rig_call_read(&read, &r->client, 5, 4000000);
    rig_call_write(&write, &r->client, 6, 4000000);
    rig_call_ping(&fails, &r->client, rig_cookie(RIG_FAIL, 0));
    for (unsigned i = 0; i < 64; i++) {
        real_wait(r, &c[i].done);
        CHECK_OK(c[i].rc);
        good += c[i].good ? 1 : 0;
    }
    real_wait(r, &read.done);
    real_wait(r, &write.done);
    real_wait(r, &fails.done);
    CHECK_TRUE(read.rc == 0 && read.good && write.rc == 0);
    CHECK_RC(fails.rc, ENOENT);
    return good;
}
TEST(client_talks_over_tcp)
{
    struct real_rig r = {.late = false};
    real_open(&r, "127.0.0.1:0");
    real_start(&r);
    CHECK_EQ(real_talk(&r), 64);
    real_close(&r);
}
TEST(client_talks_over_unix_sockets)
{
    struct real_rig r = {.late = false};
    char at[200];
    (void)snprintf(at, sizeof at, "unix:%s/s", testing_directory());
    real_open(&r, at);
    real_start(&r);
    CHECK_EQ(real_talk(&r), 64);
    real_close(&r);
}

/* An inherited stream: it serves as the only link; when it ends, calls fail at once. */
TEST(client_talks_over_an_inherited_stream)
{
    struct real_rig r = {.late = false};
    real_open(&r, "127.0.0.1:0");
    struct stream *near = NULL, *far = NULL;
    int fd = -1;
    CHECK_OK(net_pair(r.net, &near, &fd));
    CHECK_OK(net_adopt(r.net, fd, &far));
    peer_server_adopt(r.server.server, near);
    r.client.opt.stream = far;
    rig_client_start(&r.client);
    CHECK_EQ(real_talk(&r), 64);
    peer_link_close(r.server.newest, -ERR_closed, "test");
    struct rig_call c = {.call = {.timeout_ms = 20000}};
    real_wait(&r, &r.client.downs);
    rig_call_ping(&c, &r.client, 1);
    real_wait(&r, &c.done);
    CHECK_RC(c.rc, ERR_closed);
    real_close(&r);
}

TEST_TORTURE(client_runs_out_of_memory)
{
    struct loop *loop = NULL;
    TRY(loop_new(&(struct loop_options){.name = "test"}, &loop, NULL));
    CLEANUP(loop_freep) struct loop *owned_loop = loop;
    struct env env = {.loop = loop};
    CLEANUP(net_freep) struct net *net = NULL;
    TRY(net_socket_new(&env, &net));
    env.net = net;
    const struct net_address at = {"127.0.0.1:1"};
    const struct peer_options opt = {.env = &env, .addresses = &at, .address_count = 1};
    CLEANUP(peer_freep) struct peer *p = NULL;
    TRY(peer_new(&opt, &p));
    const struct peer_server_options so = {.env = &env};
    CLEANUP(peer_server_freep) struct peer_server *s = NULL;
    TRY(peer_server_new(&so, &s));
    CHECK_TRUE(owned_loop != NULL);
}
