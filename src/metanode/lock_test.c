/*
 * metanode/lock_test.c -- locks of files as clients ask for them (coherence.md section 8): who gets
 * one when, who waits for whom, deadlocks, questions that are asked again, sessions that end.
 */
#include "metanode/rig_session_priv.h"
#include "testing/testing.h"

#define LEASE (2 * RIG_SECOND)

/* One question; a client may have several under way. */
struct ask {
    struct peer_call call;
    struct proto_lock_request q;
    struct rig_client *c;
    bool done;
    int rc;
    uint8_t outcome;
};
struct locks {
    struct rig rig;
    struct rig_client *a, *b, *c;
    uint64_t ino, other;
    uint64_t cookies;
};

static uint64_t make(struct rig_client *c, const char *name)
{
    struct proto_create_request q = rig_file(c, name, "x");
    c->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(c, PROTO_OP_create, &q));
    return ((const struct proto_create_reply *)c->reply)->attr.ino;
}

static void locks_open(struct locks *x)
{
    *x = (struct locks){0};
    rig_new(&x->rig, testing_seed());
    rig_serve(&x->rig);
    for (unsigned i = 0; i < RIG_CLIENTS; i++) {
        rig_client_ready(&x->rig, i);
    }
    x->a = &x->rig.client[0];
    x->b = &x->rig.client[1];
    x->c = &x->rig.client[2];
    x->ino = make(x->a, "f");
    x->other = make(x->a, "g");
}
static void locks_close(struct locks *x)
{
    rig_stop(&x->rig);
    rig_close(&x->rig);
}

static void ask_done(struct peer_call *call, const struct peer_reply *r)
{
    struct ask *k = container_of(call, struct ask, call);
    const struct proto_lock_reply *m = r->body;
    k->done = true;
    k->rc = r->rc;
    k->outcome = r->rc == 0 ? m->outcome : 0;
}
static void ask_in(void *ctx)
{
    struct ask *k = ctx;
    k->call = (struct peer_call){.done = ask_done,
                                 .request = &k->q,
                                 .opcode = PROTO_OP_lock,
                                 .flags = PEER_CALL_AGAIN,
                                 .timeout_ms = 200000};
    peer_call(k->c->peer, &k->call);
}
static void ask_again(struct ask *k)
{
    k->done = false;
    loop_sim_enter(k->c->env.loop, ask_in, k);
}
/* From `start`, ten bytes; the client's owner 1. */
static void ask_set(struct locks *x, struct ask *k, struct rig_client *c, uint64_t ino,
                    uint8_t type, uint64_t start)
{
    *k = (struct ask){.c = c,
                      .q = {.caller = rig_caller(c),
                            .ino = ino,
                            .kind = PROTO_LOCK_POSIX,
                            .type = type,
                            .owner = 1,
                            .pid = 42,
                            .start = start,
                            .last = start + 9,
                            .wait = true,
                            .cookie = ++x->cookies}};
}
static void ask(struct locks *x, struct ask *k, struct rig_client *c, uint64_t ino, uint8_t type,
                uint64_t start)
{
    ask_set(x, k, c, ino, type, start);
    ask_again(k);
}
static bool ask_is_done(void *ctx)
{
    return ((struct ask *)ctx)->done;
}
static uint8_t outcome(struct locks *x, struct ask *k)
{
    CHECK_TRUE(rig_until(&x->rig, ask_is_done, k));
    CHECK_OK(k->rc);
    return k->outcome;
}
static uint8_t attempt(struct locks *x, struct rig_client *c, uint64_t ino, uint8_t type,
                       uint64_t start)
{
    struct ask k;
    ask_set(x, &k, c, ino, type, start);
    k.q.wait = false;
    ask_again(&k);
    return outcome(x, &k);
}
static void unlock(struct rig_client *c, uint64_t ino, uint64_t start)
{
    struct proto_unlock_request q = {.op = rig_op(c, 1),
                                     .ino = ino,
                                     .kind = PROTO_LOCK_POSIX,
                                     .owner = 1,
                                     .start = start,
                                     .last = start + 9};
    c->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(c, PROTO_OP_unlock, &q));
}
static void renew(struct rig_client *c)
{
    struct proto_renew_request q = {.session = c->session};
    c->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(c, PROTO_OP_renew, &q));
}
/* Those say that they live. */
static void pass(struct locks *x, uint64_t ns, struct rig_client *one, struct rig_client *two)
{
    for (uint64_t t = 0; t < ns; t += RIG_SECOND / 4) {
        renew(one);
        if (two != NULL) {
            renew(two);
        }
        rig_run(&x->rig, RIG_SECOND / 4);
    }
}

TEST(conflicting_locks_wait_and_others_do_not)
{
    struct locks x;
    struct ask k;
    locks_open(&x);
    CHECK_EQ(attempt(&x, x.a, x.ino, PROTO_LOCK_WRITE, 0), PROTO_LOCK_GRANTED);
    CHECK_EQ(attempt(&x, x.a, x.ino, PROTO_LOCK_WRITE, 0), PROTO_LOCK_GRANTED); /* it has it */
    CHECK_EQ(attempt(&x, x.b, x.ino, PROTO_LOCK_READ, 5), PROTO_LOCK_CONFLICT);
    CHECK_EQ(attempt(&x, x.b, x.ino, PROTO_LOCK_READ, 10), PROTO_LOCK_GRANTED);
    CHECK_EQ(attempt(&x, x.b, x.other, PROTO_LOCK_WRITE, 0), PROTO_LOCK_GRANTED);
    CHECK_EQ(attempt(&x, x.c, x.ino, PROTO_LOCK_READ, 10), PROTO_LOCK_GRANTED); /* two read */
    ask(&x, &k, x.b, x.ino, PROTO_LOCK_WRITE, 0);
    pass(&x, 3 * LEASE, x.a, x.b);
    CHECK_TRUE(!k.done);
    unlock(x.a, x.ino, 0);
    CHECK_EQ(outcome(&x, &k), PROTO_LOCK_GRANTED);
    CHECK_EQ(attempt(&x, x.a, x.ino, PROTO_LOCK_READ, 0), PROTO_LOCK_CONFLICT);
    CHECK_EQ(x.rig.m->locks.waiting, 0);
    CHECK_TRUE(list_empty(&x.rig.m->locks.files));
    locks_close(&x);
}

/* The kernel of A says that its file is closed, and tells us a moment later. */
TEST(a_try_for_a_flock_is_not_refused_at_once)
{
    struct locks x;
    struct ask a, b;
    locks_open(&x);
    ask_set(&x, &a, x.a, x.ino, PROTO_LOCK_WRITE, 0);
    a.q.kind = PROTO_LOCK_FLOCK;
    a.q.wait = false;
    b = a;
    ask_again(&a);
    CHECK_EQ(outcome(&x, &a), PROTO_LOCK_GRANTED);
    b.c = x.b;
    b.q.caller = rig_caller(x.b);
    ask_again(&b);
    rig_run(&x.rig, RIG_SECOND / 100);
    CHECK_TRUE(!b.done);
    struct proto_unlock_request q = {.op = rig_op(x.a, 1),
                                     .ino = x.ino,
                                     .kind = PROTO_LOCK_FLOCK,
                                     .owner = 1,
                                     .last = PROTO_LOCK_LAST};
    x.a->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(x.a, PROTO_OP_unlock, &q));
    CHECK_EQ(outcome(&x, &b), PROTO_LOCK_GRANTED);
    a.q.cookie = ++x.cookies;
    uint64_t began = loop_sim_now_ns(x.rig.sim);
    ask_again(&a);
    CHECK_EQ(outcome(&x, &a), PROTO_LOCK_CONFLICT);
    CHECK_TRUE(loop_sim_now_ns(x.rig.sim) - began < RIG_SECOND / 5);
    locks_close(&x);
}

/* First come, first served: a writer is not passed for ever by readers. */
TEST(who_comes_later_does_not_overtake)
{
    struct locks x;
    struct ask w, r;
    locks_open(&x);
    CHECK_EQ(attempt(&x, x.a, x.ino, PROTO_LOCK_READ, 0), PROTO_LOCK_GRANTED);
    ask(&x, &w, x.b, x.ino, PROTO_LOCK_WRITE, 0);
    pass(&x, RIG_SECOND / 2, x.a, NULL);
    ask(&x, &r, x.c, x.ino, PROTO_LOCK_READ, 0);
    pass(&x, RIG_SECOND, x.a, NULL);
    CHECK_TRUE(!w.done && !r.done);
    /* Who has something there goes before: else it would wait for those who wait for it. */
    CHECK_EQ(attempt(&x, x.a, x.ino, PROTO_LOCK_READ, 5), PROTO_LOCK_GRANTED);
    unlock(x.a, x.ino, 0);
    unlock(x.a, x.ino, 5);
    CHECK_EQ(outcome(&x, &w), PROTO_LOCK_GRANTED);
    CHECK_TRUE(!r.done);
    unlock(x.b, x.ino, 0);
    CHECK_EQ(outcome(&x, &r), PROTO_LOCK_GRANTED);
    locks_close(&x);
}

TEST(who_closes_a_circle_is_told)
{
    struct locks x;
    struct ask ab, bc, ca;
    locks_open(&x);
    CHECK_EQ(attempt(&x, x.a, x.ino, PROTO_LOCK_WRITE, 0), PROTO_LOCK_GRANTED);
    CHECK_EQ(attempt(&x, x.b, x.other, PROTO_LOCK_WRITE, 0), PROTO_LOCK_GRANTED);
    CHECK_EQ(attempt(&x, x.c, x.ino, PROTO_LOCK_WRITE, 100), PROTO_LOCK_GRANTED);
    ask(&x, &ab, x.a, x.other, PROTO_LOCK_WRITE, 0);
    rig_run(&x.rig, RIG_SECOND / 4);
    ask(&x, &bc, x.b, x.ino, PROTO_LOCK_READ, 100);
    rig_run(&x.rig, RIG_SECOND / 4);
    CHECK_TRUE(!ab.done && !bc.done);
    ask(&x, &ca, x.c, x.ino, PROTO_LOCK_WRITE, 5); /* c waits for a, a for b, b for c */
    CHECK_EQ(outcome(&x, &ca), PROTO_LOCK_DEADLOCK);
    CHECK_TRUE(!ab.done && !bc.done);
    unlock(x.c, x.ino, 100);
    CHECK_EQ(outcome(&x, &bc), PROTO_LOCK_GRANTED);
    unlock(x.b, x.other, 0);
    CHECK_EQ(outcome(&x, &ab), PROTO_LOCK_GRANTED);
    locks_close(&x);
}

/* Two that read and both want to write, in one place: the second one is told. */
TEST(two_upgrades_are_a_circle)
{
    struct locks x;
    struct ask a, b;
    locks_open(&x);
    CHECK_EQ(attempt(&x, x.a, x.ino, PROTO_LOCK_READ, 0), PROTO_LOCK_GRANTED);
    CHECK_EQ(attempt(&x, x.b, x.ino, PROTO_LOCK_READ, 0), PROTO_LOCK_GRANTED);
    ask(&x, &a, x.a, x.ino, PROTO_LOCK_WRITE, 0);
    rig_run(&x.rig, RIG_SECOND / 4);
    ask(&x, &b, x.b, x.ino, PROTO_LOCK_WRITE, 0);
    CHECK_EQ(outcome(&x, &b), PROTO_LOCK_DEADLOCK);
    unlock(x.b, x.ino, 0);
    CHECK_EQ(outcome(&x, &a), PROTO_LOCK_GRANTED);
    locks_close(&x);
}

TEST(a_question_asked_again_keeps_its_place)
{
    struct locks x;
    struct ask b, again, c;
    locks_open(&x);
    CHECK_EQ(attempt(&x, x.a, x.ino, PROTO_LOCK_WRITE, 0), PROTO_LOCK_GRANTED);
    ask(&x, &b, x.b, x.ino, PROTO_LOCK_WRITE, 0);
    pass(&x, RIG_SECOND / 2, x.a, NULL);
    ask(&x, &c, x.c, x.ino, PROTO_LOCK_WRITE, 0);
    pass(&x, RIG_SECOND / 2, x.a, NULL);
    again = b;
    b.call.flags = PEER_CALL_RAW;
    ask_again(&again);
    pass(&x, RIG_SECOND / 2, x.a, NULL);
    CHECK_EQ(x.rig.m->locks.waiting, 2);
    unlock(x.a, x.ino, 0);
    CHECK_EQ(outcome(&x, &again), PROTO_LOCK_GRANTED);
    CHECK_TRUE(!c.done);
    ask_again(&again); /* its answer was lost: it is the same */
    CHECK_EQ(outcome(&x, &again), PROTO_LOCK_GRANTED);
    unlock(x.b, x.ino, 0);
    CHECK_EQ(outcome(&x, &c), PROTO_LOCK_GRANTED);
    CHECK_TRUE(rig_until(&x.rig, ask_is_done, &b)); /* by itself, with the newer question's */
    locks_close(&x);
}

TEST(who_does_not_want_to_wait_any_more_is_told_whether_it_was_granted)
{
    struct locks x;
    struct ask b, cancel, c;
    locks_open(&x);
    CHECK_EQ(attempt(&x, x.a, x.ino, PROTO_LOCK_WRITE, 0), PROTO_LOCK_GRANTED);
    ask(&x, &b, x.b, x.ino, PROTO_LOCK_WRITE, 0);
    pass(&x, RIG_SECOND / 2, x.a, NULL);
    ask(&x, &c, x.c, x.ino, PROTO_LOCK_READ, 0);
    cancel = b;
    cancel.q.cancel = true;
    ask_again(&cancel);
    CHECK_EQ(outcome(&x, &cancel), PROTO_LOCK_INTERRUPTED);
    unlock(x.a, x.ino, 0);
    CHECK_EQ(outcome(&x, &c), PROTO_LOCK_GRANTED); /* nobody is before it any more */
    cancel.q.type = PROTO_LOCK_READ;
    cancel.q.cancel = false;
    cancel.q.cookie = ++x.cookies;
    ask_again(&cancel);
    CHECK_EQ(outcome(&x, &cancel), PROTO_LOCK_GRANTED);
    cancel.q.cancel = true;
    ask_again(&cancel);
    CHECK_EQ(outcome(&x, &cancel), PROTO_LOCK_GRANTED);
    locks_close(&x);
}

/* L5: nobody waits for ever for one that is silent, and nobody is ended as long as nobody waits. */
TEST(locks_of_the_dead_hold_until_somebody_wants_them)
{
    struct locks x;
    struct ask b;
    locks_open(&x);
    uint64_t dead = x.a->session;
    CHECK_EQ(attempt(&x, x.a, x.ino, PROTO_LOCK_WRITE, 0), PROTO_LOCK_GRANTED);
    pass(&x, 3 * LEASE, x.b, NULL);
    CHECK_TRUE(metanode_session_find(x.rig.m, dead) != NULL);
    CHECK_EQ(attempt(&x, x.b, x.other, PROTO_LOCK_WRITE, 0), PROTO_LOCK_GRANTED);
    CHECK_TRUE(metanode_session_find(x.rig.m, dead) != NULL);
    uint64_t began = loop_sim_now_ns(x.rig.sim);
    CHECK_EQ(attempt(&x, x.b, x.ino, PROTO_LOCK_WRITE, 0), PROTO_LOCK_GRANTED); /* try, too */
    CHECK_TRUE(metanode_session_find(x.rig.m, dead) == NULL);
    CHECK_TRUE(loop_sim_now_ns(x.rig.sim) - began < RIG_SECOND);
    ask(&x, &b, x.c, x.ino, PROTO_LOCK_WRITE, 0); /* waits when b falls silent, too */
    pass(&x, 2 * LEASE, x.c, NULL);
    CHECK_EQ(outcome(&x, &b), PROTO_LOCK_GRANTED);
    locks_close(&x);
}

static bool all_resumed(void *ctx)
{
    const struct rig *r = ctx;
    return r->client[0].resumes > 0 && r->client[1].resumes > 0;
}

/* Held is in the log; who waits asks again by itself. */
TEST(a_restart_forgets_no_lock)
{
    struct locks x;
    struct ask b;
    locks_open(&x);
    CHECK_EQ(attempt(&x, x.a, x.ino, PROTO_LOCK_WRITE, 0), PROTO_LOCK_GRANTED);
    ask(&x, &b, x.b, x.ino, PROTO_LOCK_READ, 0);
    pass(&x, RIG_SECOND / 2, x.a, NULL);
    x.a->resumes = x.b->resumes = 0;
    rig_kill(&x.rig);
    rig_serve(&x.rig);
    CHECK_TRUE(rig_until(&x.rig, all_resumed, &x.rig));
    pass(&x, RIG_SECOND, x.a, NULL);
    CHECK_TRUE(!b.done);
    CHECK_EQ(x.rig.m->locks.waiting, 1);
    struct proto_lock_test_request q = {.caller = rig_caller(x.b),
                                        .ino = x.ino,
                                        .kind = PROTO_LOCK_POSIX,
                                        .type = PROTO_LOCK_READ,
                                        .owner = 1,
                                        .last = PROTO_LOCK_LAST};
    x.b->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(x.b, PROTO_OP_lock_test, &q));
    const struct proto_lock_test_reply *reply = x.b->reply;
    CHECK_EQ(reply->type, PROTO_LOCK_WRITE);
    CHECK_EQ(reply->pid, 42);
    CHECK_EQ(reply->session, x.a->session);
    unlock(x.a, x.ino, 0);
    CHECK_EQ(outcome(&x, &b), PROTO_LOCK_GRANTED);
    locks_close(&x);
}

TEST(nonsense_is_refused)
{
    struct locks x;
    struct ask k;
    locks_open(&x);
    ask(&x, &k, x.a, 4711, PROTO_LOCK_WRITE, 0);
    CHECK_TRUE(rig_until(&x.rig, ask_is_done, &k));
    CHECK_RC(k.rc, ESTALE);
    ask(&x, &k, x.a, x.ino, PROTO_LOCK_NONE, 0);
    CHECK_TRUE(rig_until(&x.rig, ask_is_done, &k));
    CHECK_RC(k.rc, EINVAL);
    ask(&x, &k, x.a, x.ino, PROTO_LOCK_WRITE, PROTO_LOCK_LAST);
    CHECK_TRUE(rig_until(&x.rig, ask_is_done, &k));
    CHECK_RC(k.rc, EINVAL);
    CHECK_TRUE(list_empty(&x.rig.m->locks.files));
    locks_close(&x);
}

/* What waits when the server ends is no leak, and no crash. */
TEST(who_waits_when_the_server_stops_is_told)
{
    struct locks x;
    struct ask b;
    locks_open(&x);
    CHECK_EQ(attempt(&x, x.a, x.ino, PROTO_LOCK_WRITE, 0), PROTO_LOCK_GRANTED);
    ask(&x, &b, x.b, x.ino, PROTO_LOCK_READ, 0);
    rig_run(&x.rig, RIG_SECOND / 4);
    CHECK_EQ(x.rig.m->locks.waiting, 1);
    locks_close(&x);
}
