#include "metanode/rig_session_priv.h"
#include "testing/testing.h"

/* Turns to append at the leader (coherence.md section 6.1, append-append-crash). */

struct appending { /* three clients share a file in chunks */
    struct rig rig;
    uint64_t ino, epoch[RIG_CLIENTS];
    struct proto_append_turn_request turn[RIG_CLIENTS];
};

static void share_in(struct appending *x, unsigned i)
{
    struct rig_client *c = &x->rig.client[i];
    struct proto_wopen_request q = {.op = rig_op(c, 0), .ino = x->ino};
    c->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(c, PROTO_OP_wopen, &q));
    const struct proto_wopen_reply *reply = c->reply;
    CHECK_EQ(reply->mode, PROTO_OPEN_S);
    x->epoch[i] = reply->cap_epoch;
}

static void appending_new(struct appending *x)
{
    struct rig *r = &x->rig;
    rig_ready(r, RIG_CLIENTS, testing_seed());
    struct rig_client *a = &r->client[0];
    struct proto_create_request q = rig_file(a, "log", NULL);
    CHECK_OK(rig_call(a, PROTO_OP_create, &q));
    const struct proto_create_reply *made = a->reply;
    x->ino = made->attr.ino;
    x->epoch[0] = made->cap_epoch;
    share_in(x, 1);
    struct proto_lease_return_request ret = {.op = rig_op(a, 0),
                                             .has_final = true,
                                             .ino = x->ino,
                                             .cap_epoch = x->epoch[0],
                                             .keep = {.at = &x->ino, .count = 1}};
    a->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(a, PROTO_OP_lease_return, &ret));
    share_in(x, 2);
}

static void begin_turn(struct appending *x, unsigned i)
{
    struct rig_client *c = &x->rig.client[i];
    x->turn[i] = (struct proto_append_turn_request){
        .op = rig_op(c, 0), .ino = x->ino, .cap_epoch = x->epoch[i], .wanted = 10};
    c->flags = PEER_CALL_AGAIN;
    c->timeout_ms = 60000;
    rig_begin(c, PROTO_OP_append_turn, &x->turn[i]);
}

static uint64_t end_turn(struct appending *x, unsigned i)
{
    struct rig_client *c = &x->rig.client[i];
    CHECK_OK(rig_end(c));
    return ((struct proto_append_turn_reply *)c->reply)->turn;
}

static void give_back(struct appending *x, unsigned i, uint64_t turn)
{
    struct rig_client *c = &x->rig.client[i];
    struct proto_append_done_request q = {
        .op = rig_op(c, 0), .ino = x->ino, .cap_epoch = x->epoch[i], .turn = turn};
    c->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(c, PROTO_OP_append_done, &q));
}

static void renew_all(struct appending *x, unsigned from)
{
    for (unsigned i = from; i < RIG_CLIENTS; i++) {
        if (x->rig.client[i].done) {
            struct proto_renew_request q = {.session = x->rig.client[i].session};
            CHECK_OK(rig_call(&x->rig.client[i], PROTO_OP_renew, &q));
        }
    }
}

TEST(turns_go_in_the_order_of_asking)
{
    struct appending x;
    appending_new(&x);
    begin_turn(&x, 0);
    uint64_t a = end_turn(&x, 0);
    begin_turn(&x, 2);
    rig_run(&x.rig, RIG_SECOND / 10);
    begin_turn(&x, 1);
    rig_run(&x.rig, RIG_SECOND / 10);
    CHECK_TRUE(!x.rig.client[1].done && !x.rig.client[2].done);
    give_back(&x, 0, a);
    uint64_t c = end_turn(&x, 2);
    rig_run(&x.rig, RIG_SECOND / 10);
    CHECK_TRUE(c > a && !x.rig.client[1].done);
    give_back(&x, 2, c);
    uint64_t b = end_turn(&x, 1);
    CHECK_TRUE(b > c);
    give_back(&x, 1, b);
    CHECK_EQ(x.rig.m->turns.mutations, 0);
    rig_run(&x.rig, RIG_SECOND / 10);
    CHECK_EQ(x.rig.m->appends.count, 0); /* nothing is kept of it */
    rig_over(&x.rig);
}

/* append-append-crash, L5: who has died with the turn is ended first, when its lease is over. */
TEST(L5_a_turn_goes_on_when_its_holder_is_dead)
{
    struct appending x;
    appending_new(&x);
    begin_turn(&x, 0);
    (void)end_turn(&x, 0);
    loop_sim_pause(x.rig.client[0].env.loop, true);
    uint64_t began = loop_sim_now_ns(x.rig.sim);
    begin_turn(&x, 1);
    uint64_t b = end_turn(&x, 1);
    uint64_t took = loop_sim_now_ns(x.rig.sim) - began;
    CHECK_TRUE(took > RIG_SECOND && took < 8 * RIG_SECOND); /* T is two */
    CHECK_TRUE(metanode_session_find(x.rig.m, x.rig.client[0].session) == NULL);
    give_back(&x, 1, b);
    rig_over(&x.rig);
}

/* A restart forgets neither the turn nor that others have to wait for it. */
TEST(a_restart_does_not_forget_a_turn)
{
    struct appending x;
    appending_new(&x);
    begin_turn(&x, 0);
    uint64_t a = end_turn(&x, 0);
    rig_kill(&x.rig);
    rig_serve(&x.rig);
    begin_turn(&x, 1);
    for (unsigned i = 0; i < 10; i++) {
        rig_run(&x.rig, RIG_SECOND / 4);
        renew_all(&x, 0);
    }
    CHECK_TRUE(!x.rig.client[1].done);
    give_back(&x, 0, a);
    CHECK_TRUE(end_turn(&x, 1) > a);
    rig_over(&x.rig);
}
