#include "metanode/rig_session_priv.h"
#include "testing/testing.h"

/* Sessions and what they hold, over restarts of the server (coherence.md sections 7 and 9). */

struct holds { /* A writes a file alone; B is there, too */
    struct rig rig;
    struct rig_client *a, *b;
    uint64_t ino, epoch;
};

static void holds_new(struct holds *x)
{
    rig_ready(&x->rig, 2, testing_seed());
    x->a = &x->rig.client[0];
    x->b = &x->rig.client[1];
    x->a->flags = x->b->flags = PEER_CALL_AGAIN;
    struct proto_create_request q = rig_file(x->a, "f", NULL);
    CHECK_OK(rig_call(x->a, PROTO_OP_create, &q));
    const struct proto_create_reply *made = x->a->reply;
    x->ino = made->attr.ino;
    x->epoch = made->cap_epoch;
    x->a->acks = x->b->acks = PROTO_ACK_OPEN | PROTO_ACK_KEEP;
}

static bool both_resumed(void *ctx)
{
    struct holds *x = ctx;
    return x->a->resumes > 0 && x->b->resumes > 0;
}

static void holds_restart(struct holds *x)
{
    x->a->resumes = x->b->resumes = 0;
    rig_kill(&x->rig);
    rig_serve(&x->rig);
    CHECK_TRUE(rig_until(&x->rig, both_resumed, x));
}

static int holds_commit(struct holds *x, uint32_t flags)
{
    struct proto_commit_request q = {.op = rig_op(x->a, 1),
                                     .ino = x->ino,
                                     .cap_epoch = x->epoch,
                                     .data = proto_bytes_text("hello"),
                                     .size = 5,
                                     .flags = PROTO_COMMIT_HAS_DATA | flags};
    return rig_call(x->a, PROTO_OP_commit, &q);
}

static bool leads_but_does_not_serve(void *ctx)
{
    const struct rig *r = ctx;
    return r->m != NULL && r->m->lead_ns != 0 && r->m->phase != METANODE_SERVING;
}

/* Section 9, t0: a start that takes longer than a lease lapses nobody. */
TEST(a_slow_start_takes_no_lease_away)
{
    struct holds x;
    holds_new(&x);
    x.a->resumes = x.b->resumes = 0;
    loop_sim_pause(x.a->env.loop, true); /* A is a little later than B */
    rig_kill(&x.rig);
    CHECK_OK(rig_start(&x.rig));
    CHECK_TRUE(rig_until(&x.rig, leads_but_does_not_serve, &x.rig));
    loop_sim_pause(x.rig.loop, true);
    rig_run(&x.rig, 6 * RIG_SECOND); /* T is two */
    loop_sim_pause(x.rig.loop, false);
    CHECK_TRUE(rig_until(&x.rig, rig_is_serving, &x.rig));
    struct proto_wopen_request w = {.op = rig_op(x.b, 0), .ino = x.ino};
    CHECK_OK(rig_call(x.b, PROTO_OP_wopen, &w)); /* somebody wants what A holds */
    rig_run(&x.rig, RIG_SECOND / 2);
    loop_sim_pause(x.a->env.loop, false);
    CHECK_OK(holds_commit(&x, 0));
    CHECK_TRUE(metanode_session_find(x.rig.m, x.a->session) != NULL);
    rig_over(&x.rig);
}

static int attr_rc(struct rig_client *c, uint64_t ino)
{
    struct proto_getattr_request q = {.caller = rig_caller(c), .ino = ino};
    return rig_call(c, PROTO_OP_getattr, &q);
}

static void unlink_f(struct rig_client *c, bool is_open)
{
    struct proto_unlink_request q = {.op = rig_op(c, 0),
                                     .parent = PROTO_ROOT_INO,
                                     .name = proto_bytes_text("f"),
                                     .is_open = is_open};
    CHECK_OK(rig_call(c, PROTO_OP_unlink, &q));
}

/* Section 7: open files without a name live as long as somebody has them open, whoever leads. */
TEST(a_restart_keeps_unlinked_files_that_are_open)
{
    struct holds x;
    holds_new(&x);
    unlink_f(x.b, true); /* A writes it, B has it open */
    holds_restart(&x);
    CHECK_OK(holds_commit(&x, 0));
    CHECK_OK(attr_rc(x.b, x.ino));
    struct proto_release_request q = {.op = rig_op(x.a, 0), .ino = x.ino};
    CHECK_OK(rig_call(x.a, PROTO_OP_release, &q));
    holds_restart(&x);
    CHECK_OK(attr_rc(x.b, x.ino));
    q = (struct proto_release_request){.op = rig_op(x.b, 0), .ino = x.ino};
    CHECK_OK(rig_call(x.b, PROTO_OP_release, &q));
    CHECK_RC(attr_rc(x.b, x.ino), ENOENT);
    rig_over(&x.rig);
}

/* Section 7: they go with the session, too, when nobody says goodbye. */
TEST(unlinked_files_go_with_their_session)
{
    struct holds x;
    holds_new(&x);
    unlink_f(x.b, false);
    holds_restart(&x);
    CHECK_OK(attr_rc(x.b, x.ino));
    struct proto_session_close_request q = {.session = x.a->session, .verifier = x.a->verifier};
    CHECK_OK(rig_call(x.a, PROTO_OP_session_close, &q));
    CHECK_RC(attr_rc(x.b, x.ino), ENOENT);
    x.a->session = 0;
    rig_over(&x.rig);
}

static int cut_f(struct holds *x, uint64_t size)
{
    struct proto_setattr_request q = {
        .op = rig_op(x->b, 0), .ino = x->ino, .mask = PROTO_SET_SIZE, .size = size};
    return rig_call(x->b, PROTO_OP_setattr, &q);
}

/* L5: a lapsed writer is ended when somebody needs what it holds, and not before; here by a
 * truncation that asks for no authority of its own. */
TEST(L5_a_lapsed_writer_ends_when_it_is_in_the_way)
{
    struct holds x;
    holds_new(&x);
    CHECK_OK(holds_commit(&x, 0));
    loop_sim_pause(x.a->env.loop, true);
    rig_keep_alive(&x.rig, x.b, 10);
    CHECK_TRUE(metanode_session_find(x.rig.m, x.a->session) != NULL); /* nobody wanted anything */
    CHECK_OK(cut_f(&x, 2));
    CHECK_TRUE(metanode_session_find(x.rig.m, x.a->session) == NULL);
    CHECK_EQ(rig_lookup(x.b, "f").size, 2);
    loop_sim_pause(x.a->env.loop, false);
    CHECK_RC(holds_commit(&x, 0), ERR_session_expired);
    x.a->session = 0;
    rig_over(&x.rig);
}

/* One that lives is waited for (L3). */
TEST(L5_a_living_writer_is_not_ended_by_a_truncation)
{
    struct holds x;
    holds_new(&x);
    struct proto_setattr_request q = {
        .op = rig_op(x.b, 0), .ino = x.ino, .mask = PROTO_SET_SIZE, .size = 2};
    rig_begin(x.b, PROTO_OP_setattr, &q);
    rig_keep_alive(&x.rig, x.a, 5);
    CHECK_TRUE(!x.b->done);
    CHECK_OK(holds_commit(&x, PROTO_COMMIT_RELEASE));
    CHECK_OK(rig_end(x.b));
    CHECK_EQ(rig_lookup(x.b, "f").size, 2);
    rig_over(&x.rig);
}

static struct proto_trailer renew(struct rig_client *c)
{
    struct proto_renew_request q = {.session = c->session};
    CHECK_OK(rig_call(c, PROTO_OP_renew, &q));
    return ((struct proto_renew_reply *)c->reply)->trailer;
}

static struct proto_trailer reclaim(struct rig_client *c, bool last)
{
    struct proto_reclaim_request q = {.session = c->session, .verifier = c->verifier, .last = last};
    CHECK_OK(rig_call(c, PROTO_OP_reclaim, &q));
    return ((struct proto_reclaim_reply *)c->reply)->trailer;
}

/* L4: answers to a lapsed session renew nothing, of whatever they are, until it has claimed what it
 * has; then it has another epoch, and never one that it had before. */
TEST(L4_a_lapsed_session_renews_nothing_until_it_reclaims)
{
    struct holds x;
    holds_new(&x);
    struct proto_trailer before = renew(x.a);
    CHECK_TRUE(before.renewed && before.lease_epoch != 0);
    rig_run(&x.rig, 3 * RIG_SECOND); /* T is two */
    CHECK_TRUE(!renew(x.a).renewed);
    (void)rig_lookup(x.a, "f");
    CHECK_TRUE(!((struct proto_lookup_reply *)x.a->reply)->trailer.renewed);
    CHECK_OK(holds_commit(&x, 0)); /* it is served all the same, and nobody wanted its file */
    CHECK_TRUE(!((struct proto_commit_reply *)x.a->reply)->trailer.renewed);
    CHECK_TRUE(!reclaim(x.a, false).renewed);
    struct proto_trailer after = reclaim(x.a, true);
    CHECK_TRUE(after.renewed && after.lease_epoch > before.lease_epoch);
    CHECK_EQ(renew(x.a).lease_epoch, after.lease_epoch);
    CHECK_TRUE(renew(x.a).renewed);
    for (unsigned i = 0; i < 3; i++) {
        holds_restart(&x);
        struct proto_trailer next = renew(x.a);
        CHECK_TRUE(next.renewed && next.lease_epoch > after.lease_epoch);
        after = next;
    }
    rig_over(&x.rig);
}

/* Section 3, `slot_cancel`: what was given up never runs later, whoever leads. */
TEST(a_cancelled_sequence_of_one_who_waits_never_runs)
{
    struct holds x;
    holds_new(&x);
    struct proto_setattr_request q = {
        .op = rig_op(x.b, 0), .ino = x.ino, .mask = PROTO_SET_SIZE, .size = 2};
    x.b->timeout_ms = 500;
    x.b->flags = 0;
    CHECK_TRUE(rig_call(x.b, PROTO_OP_setattr, &q) < 0); /* given up: A writes it */
    x.b->timeout_ms = 0;
    x.b->flags = PEER_CALL_AGAIN;
    struct proto_slot_cancel_request burn = {
        .session = x.b->session, .slot = 0, .sequence = q.op.sequence};
    CHECK_OK(rig_call(x.b, PROTO_OP_slot_cancel, &burn));
    CHECK_TRUE(!((struct proto_slot_cancel_reply *)x.b->reply)->was_done);
    CHECK_OK(holds_commit(&x, PROTO_COMMIT_RELEASE));
    CHECK_RC(rig_call(x.b, PROTO_OP_setattr, &q), ERR_bad_sequence); /* a late copy */
    CHECK_EQ(rig_lookup(x.b, "f").size, 5);
    holds_restart(&x);
    CHECK_RC(rig_call(x.b, PROTO_OP_setattr, &q), ERR_bad_sequence);
    CHECK_OK(rig_call(x.b, PROTO_OP_slot_cancel, &burn)); /* asked again: the same */
    CHECK_TRUE(!((struct proto_slot_cancel_reply *)x.b->reply)->was_done);
    q.op = rig_op(x.b, 0);
    CHECK_OK(rig_call(x.b, PROTO_OP_setattr, &q));
    CHECK_EQ(rig_lookup(x.b, "f").size, 2);
    rig_over(&x.rig);
}
