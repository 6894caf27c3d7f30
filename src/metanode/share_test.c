/*
 * metanode/share_test.c -- a file on its way from one writer to several (coherence.md 6.3): who is
 * asked, who waits for what, how long, and that a restart forgets none of it.
 */
#include "metanode/rig_session_priv.h"
#include "metanode/rig_target_priv.h"
#include "testing/testing.h"

#define LIMIT_SECONDS 30u /* that a holder has */

static bool all_leased(void *ctx)
{
    const struct rig *r = ctx;
    bool all = r->m->chains.count > 0;
    for (unsigned i = 0; i < RIG_TARGETS; i++) {
        all = all && (!r->target[i].running || r->target[i].leased);
    }
    return all;
}
static bool all_resumed(void *ctx)
{
    const struct rig *r = ctx;
    bool all = true;
    for (unsigned i = 0; i < RIG_CLIENTS; i++) {
        all = all && (r->client[i].session == 0 || r->client[i].resumes > 0);
    }
    return all;
}

/* What all tests begin with: A writes alone. */
struct share_file {
    struct rig rig;
    struct rig_client *a, *b, *c;
    uint64_t ino, a_epoch;
};
static void file_new(struct share_file *f, unsigned targets)
{
    struct rig *r = &f->rig;
    rig_new(r, testing_seed());
    rig_serve(r);
    for (unsigned i = 0; i < targets; i++) {
        rig_target_start(r, i, false);
    }
    CHECK_TRUE(targets == 0 || rig_until(r, all_leased, r));
    for (unsigned i = 0; i < RIG_CLIENTS; i++) {
        rig_client_ready(r, i);
    }
    f->a = &r->client[0];
    f->b = &r->client[1];
    f->c = &r->client[2];
    struct proto_create_request q = rig_file(f->a, "f", NULL);
    f->a->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(f->a, PROTO_OP_create, &q));
    const struct proto_create_reply *made = f->a->reply;
    f->ino = made->attr.ino;
    f->a_epoch = made->cap_epoch;
    CHECK_EQ(made->mode, PROTO_OPEN_W);
}
static void file_free(struct share_file *f)
{
    rig_stop(&f->rig);
    rig_close(&f->rig);
}

/* Mode S; the result: may it begin at once? */
static bool file_open(struct share_file *f, struct rig_client *c)
{
    struct proto_wopen_request w = {.op = rig_op(c, 0), .ino = f->ino};
    c->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(c, PROTO_OP_wopen, &w));
    const struct proto_wopen_reply *reply = c->reply;
    CHECK_EQ(reply->mode, PROTO_OPEN_S);
    return reply->shared_now;
}
static void file_return(struct share_file *f)
{
    struct proto_lease_return_request back = {.op = rig_op(f->a, 0),
                                              .has_final = true,
                                              .ino = f->ino,
                                              .cap_epoch = f->a_epoch,
                                              .keep = {.at = &f->ino, .count = 1}};
    f->a->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(f->a, PROTO_OP_lease_return, &back));
    rig_run(&f->rig, RIG_SECOND);
}
static int file_renew(struct rig_client *c)
{
    struct proto_renew_request q = {.session = c->session};
    c->flags = PEER_CALL_AGAIN;
    return rig_call(c, PROTO_OP_renew, &q);
}
/* All but A say every half second that they live; A too while `with_a`. */
static void file_wait(struct share_file *f, unsigned seconds, bool with_a)
{
    for (unsigned i = 0; i < 2 * seconds; i++) {
        CHECK_TRUE(!with_a || file_renew(f->a) == 0);
        CHECK_OK(file_renew(f->b));
        CHECK_OK(file_renew(f->c));
        rig_run(&f->rig, RIG_SECOND / 2);
    }
}
static void file_restart(struct share_file *f)
{
    for (unsigned i = 0; i < RIG_CLIENTS; i++) {
        f->rig.client[i].resumes = 0;
    }
    rig_kill(&f->rig);
    rig_serve(&f->rig);
    CHECK_TRUE(rig_until(&f->rig, all_resumed, &f->rig));
}

TEST(all_who_wait_are_told)
{
    struct share_file f;
    file_new(&f, 0);
    CHECK_TRUE(!file_open(&f, f.b));
    CHECK_TRUE(!file_open(&f, f.c));
    CHECK_TRUE(!file_open(&f, f.b)); /* asked again: told once all the same */
    file_wait(&f, 1, true);
    CHECK_EQ(f.a->recalls, 1);
    CHECK_EQ(f.a->recalled_ino, f.ino);
    CHECK_TRUE(f.b->shared == 0 && f.c->shared == 0);
    file_return(&f);
    CHECK_TRUE(f.b->shared == 1 && f.c->shared == 1);
    CHECK_TRUE(file_open(&f, f.b));
    file_free(&f);
}

/* The leader that knew who waits is gone; that A has not flushed is in the log. */
TEST(a_restart_does_not_forget_who_has_not_flushed)
{
    struct share_file f;
    file_new(&f, 0);
    CHECK_TRUE(!file_open(&f, f.b));
    for (unsigned i = 1; i <= 2; i++) {
        file_restart(&f);
        f.a->recalls = 0;
        CHECK_TRUE(!file_open(&f, f.c)); /* the third one */
        CHECK_TRUE(!file_open(&f, f.b)); /* asks again, as clients do that wait */
        file_wait(&f, 1, true);
        CHECK_TRUE(f.a->recalls > 0);
        CHECK_TRUE(f.b->shared == 0 && f.c->shared == 0);
    }
    file_return(&f);
    CHECK_TRUE(f.b->shared == 1 && f.c->shared == 1);
    file_restart(&f);
    CHECK_TRUE(file_open(&f, f.b));
    file_free(&f);
}

/* An answer to the recall, of any kind, is not the last word on the file. */
TEST(a_recall_is_repeated_until_the_last_word)
{
    struct share_file f;
    file_new(&f, 0);
    f.a->recall_rc = -ERR_busy;
    CHECK_TRUE(!file_open(&f, f.b));
    file_wait(&f, 4, true);
    CHECK_TRUE(f.a->recalls > 1 && f.a->recalls < 5);
    CHECK_EQ(f.b->shared, 0);
    f.a->recall_rc = 0;
    file_wait(&f, 4, true);
    CHECK_TRUE(f.a->recalls > 2);
    CHECK_EQ(f.b->shared, 0);
    file_return(&f);
    CHECK_EQ(f.b->shared, 1);
    file_free(&f);
}

/* It lives and renews, but does not give W back: after the time limit its session ends. */
TEST(a_holder_that_never_returns_is_ended_after_the_limit)
{
    struct share_file f;
    file_new(&f, 2);
    CHECK_TRUE(!file_open(&f, f.b));
    file_wait(&f, LIMIT_SECONDS - 2, true);
    CHECK_EQ(f.b->shared, 0);
    CHECK_TRUE(metanode_session_find(f.rig.m, f.a->session) != NULL);
    for (unsigned i = 0; i < 8; i++) {
        file_wait(&f, 1, false);
        (void)file_renew(f.a);
    }
    CHECK_TRUE(metanode_session_find(f.rig.m, f.a->session) == NULL);
    CHECK_EQ(file_renew(f.a), -ERR_session_expired);
    CHECK_EQ(f.b->shared, 1);
    CHECK_TRUE(f.rig.target[0].fences > 0 && f.rig.target[1].fences > 0);
    file_free(&f);
}

/* L6: a target that is down as well serves nobody once its own lease is over: nobody waits for its
 * word, nor until the capabilities of the dead one have run out. */
TEST(L6_a_target_that_is_down_holds_no_writer_up)
{
    struct share_file f;
    file_new(&f, 3);
    CHECK_TRUE(!file_open(&f, f.b));
    loop_sim_pause(f.a->env.loop, true);
    rig_target_kill(&f.rig, 2);
    uint64_t began = loop_sim_now_ns(f.rig.sim);
    for (unsigned i = 0; i < 60 && f.b->shared == 0; i++) {
        file_wait(&f, 1, false);
    }
    CHECK_EQ(f.b->shared, 1);
    CHECK_TRUE(loop_sim_now_ns(f.rig.sim) - began < 15 * RIG_SECOND); /* T is two */
    file_free(&f);
}

/* L6: A's session has ended, but it can still write where its fence has not come, and what it left
 * behind the recorded size is not cut. */
TEST(who_waits_for_a_dead_writer_waits_for_its_fence_and_trim)
{
    struct share_file f;
    file_new(&f, 2);
    for (unsigned i = 0; i < 2; i++) {
        f.rig.target[i].refuse_fences = true;
        f.rig.target[i].refuse_stats = true;
        f.rig.target[i].chunk_length = 4096;
    }
    CHECK_TRUE(!file_open(&f, f.b));
    loop_sim_pause(f.a->env.loop, true);
    file_wait(&f, 5, false);
    CHECK_TRUE(metanode_session_find(f.rig.m, f.a->session) == NULL);
    CHECK_EQ(f.b->shared, 0);
    for (unsigned i = 0; i < 2; i++) {
        f.rig.target[i].refuse_fences = false;
    }
    file_wait(&f, 5, false);
    CHECK_TRUE(f.rig.target[0].fences > 0 && f.rig.target[1].fences > 0);
    CHECK_EQ(f.b->shared, 0); /* not before the trim */
    for (unsigned i = 0; i < 2; i++) {
        f.rig.target[i].refuse_stats = false;
    }
    file_wait(&f, 10, false);
    CHECK_TRUE(f.rig.target[0].cuts + f.rig.target[1].cuts > 0);
    CHECK_EQ(f.b->shared, 1);
    file_free(&f);
}

/* The same, and the leader that began it has died in between. */
TEST(a_restart_does_not_forget_the_trim_of_a_dead_writer)
{
    struct share_file f;
    file_new(&f, 2);
    f.rig.target[0].refuse_stats = f.rig.target[1].refuse_stats = true;
    CHECK_TRUE(!file_open(&f, f.b));
    loop_sim_pause(f.a->env.loop, true);
    file_wait(&f, 5, false);
    f.a->session = 0; /* ended */
    CHECK_EQ(f.b->shared, 0);
    file_restart(&f);
    CHECK_TRUE(!file_open(&f, f.b)); /* asks again: nobody else writes, and yet */
    file_wait(&f, 3, false);
    CHECK_EQ(f.b->shared, 0);
    f.rig.target[0].refuse_stats = f.rig.target[1].refuse_stats = false;
    file_wait(&f, 10, false);
    CHECK_EQ(f.b->shared, 1);
    file_free(&f);
}

TEST(a_waiter_that_has_gone_is_no_harm)
{
    struct share_file f;
    file_new(&f, 0);
    CHECK_TRUE(!file_open(&f, f.b));
    CHECK_TRUE(!file_open(&f, f.c));
    struct proto_session_close_request bye = {.session = f.b->session, .verifier = f.b->verifier};
    CHECK_OK(rig_call(f.b, PROTO_OP_session_close, &bye));
    f.b->session = 0;
    rig_run(&f.rig, RIG_SECOND);
    CHECK_EQ(f.c->shared, 0);
    file_return(&f);
    CHECK_EQ(f.c->shared, 1);
    CHECK_TRUE(file_open(&f, f.c));
    file_free(&f);
}

/* The limit counts from the newest progress of its flush. */
TEST(a_holder_that_flushes_is_given_the_time_for_it)
{
    struct share_file f;
    file_new(&f, 2);
    f.a->left = 1u << 30;
    f.a->flushes = 1u << 20;
    CHECK_TRUE(!file_open(&f, f.b));
    file_wait(&f, 2 * LIMIT_SECONDS, true);
    CHECK_TRUE(metanode_session_find(f.rig.m, f.a->session) != NULL);
    CHECK_EQ(f.b->shared, 0);
    f.a->flushes = 0; /* it is stuck */
    for (unsigned i = 0; i < LIMIT_SECONDS + 8; i++) {
        file_wait(&f, 1, false);
        (void)file_renew(f.a);
    }
    CHECK_TRUE(metanode_session_find(f.rig.m, f.a->session) == NULL);
    CHECK_EQ(f.b->shared, 1);
    file_free(&f);
}
