#include "testing/testing.h"

#include "namespace/rig_cluster_priv.h"

/* Turns to append (coherence.md section 6.1, append-append-crash). */

struct pair { /* a file that sessions A and B share */
    struct rig r;
    struct proto_op other; /* of the one who does not speak now */
    uint64_t ino, a_epoch, b_epoch, a_session, b_session;
};

static void pair_switch(struct pair *x)
{
    struct proto_op was = x->r.op;
    x->r.op = x->other;
    x->other = was;
}

/* A and B share; A speaks. */
static void pair_open(struct pair *x)
{
    struct rig *r = &x->r;
    rig_open(r);
    rig_make_class(r, 4);
    x->a_session = r->op.session;
    x->other = rig_machine(r, 2, 22);
    x->b_session = x->other.session;
    CHECK_OK(RIG_OP(r, create, .parent = 1, .name = rig_text("log"), .type = PROTO_INODE_FILE,
                    .mode = 0644, .flags = PROTO_CREATE_WOPEN));
    x->ino = r->reply.result.ino;
    x->a_epoch = r->reply.result.cap_epoch;
    CHECK_OK(
        RIG_OP(r, commit, .ino = x->ino, .cap_epoch = x->a_epoch, .size = 10, .allocated = 10));
    pair_switch(x);
    CHECK_OK(RIG_OP(r, wopen, .ino = x->ino));
    x->b_epoch = r->reply.result.cap_epoch;
    pair_switch(x);
    uint64_t keep = x->ino;
    CHECK_OK(RIG_OP(r, lease_return, .has_final = true, .ino = x->ino, .cap_epoch = x->a_epoch,
                    .size = 10, .keep = {.at = &keep, .count = 1}));
}

static uint64_t turn_of(struct pair *x, uint64_t epoch)
{
    CHECK_OK(RIG_OP(&x->r, append_turn, .ino = x->ino, .cap_epoch = epoch, .wanted = 100));
    return x->r.reply.result.turn;
}

TEST(one_appends_at_a_time)
{
    struct pair x;
    pair_open(&x);
    uint64_t a = turn_of(&x, x.a_epoch);
    CHECK_TRUE(a != 0);
    CHECK_EQ(x.r.reply.result.end, 10);
    pair_switch(&x);
    CHECK_RC(RIG_OP(&x.r, append_turn, .ino = x.ino, .cap_epoch = x.b_epoch), ERR_busy);
    CHECK_EQ(x.r.reply.holder, x.a_session);
    CHECK_RC(RIG_OP(&x.r, append_done, .ino = x.ino, .cap_epoch = x.b_epoch, .turn = a, .size = 50),
             ESTALE); /* not its turn */
    pair_switch(&x);
    CHECK_RC(
        RIG_OP(&x.r, append_done, .ino = x.ino, .cap_epoch = x.a_epoch, .turn = a + 1, .size = 50),
        ESTALE);
    CHECK_OK(RIG_OP(&x.r, append_done, .ino = x.ino, .cap_epoch = x.a_epoch, .turn = a, .size = 30,
                    .mtime_ns = 5, .allocated = 30));
    CHECK_EQ(x.r.reply.attr.size, 30);
    CHECK_RC(RIG_OP(&x.r, append_done, .ino = x.ino, .cap_epoch = x.a_epoch, .turn = a, .size = 40),
             ESTALE); /* it is over */
    pair_switch(&x);
    uint64_t b = turn_of(&x, x.b_epoch);
    CHECK_TRUE(b > a);
    CHECK_EQ(x.r.reply.result.end, 30);
    CHECK_OK(RIG_OP(&x.r, append_done, .ino = x.ino, .cap_epoch = x.b_epoch, .turn = b, .size = 0));
    CHECK_EQ(x.r.reply.attr.size, 30); /* nothing was written */
    rig_close(&x.r);
}

/* Bytes of an append that failed may lie behind the end: whoever closes the file last has them cut.
 */
static uint64_t trim_after_a_turn(uint64_t size)
{
    struct pair x;
    pair_open(&x);
    uint64_t turn = turn_of(&x, x.a_epoch);
    CHECK_OK(RIG_OP(&x.r, append_done, .ino = x.ino, .cap_epoch = x.a_epoch, .turn = turn,
                    .size = size, .allocated = size));
    CHECK_OK(
        RIG_OP(&x.r, commit, .ino = x.ino, .cap_epoch = x.a_epoch, .flags = PROTO_COMMIT_RELEASE));
    CHECK_EQ(x.r.reply.trim_ino, 0); /* the other one still writes */
    pair_switch(&x);
    CHECK_OK(
        RIG_OP(&x.r, commit, .ino = x.ino, .cap_epoch = x.b_epoch, .flags = PROTO_COMMIT_RELEASE));
    uint64_t trimmed = x.r.reply.trim_ino;
    CHECK_TRUE(trimmed == 0 || trimmed == x.ino);
    rig_close(&x.r);
    return trimmed;
}

TEST(an_append_that_failed_leaves_a_trim)
{
    CHECK_TRUE(trim_after_a_turn(0) != 0);
    CHECK_EQ(trim_after_a_turn(30), 0);
}

/* Closing, or the end of the session, ends the turn, too. */
TEST(a_turn_ends_with_its_writer)
{
    struct pair x;
    pair_open(&x);
    (void)turn_of(&x, x.a_epoch);
    CHECK_OK(
        RIG_OP(&x.r, commit, .ino = x.ino, .cap_epoch = x.a_epoch, .flags = PROTO_COMMIT_RELEASE));
    CHECK_OK(RIG_OP(&x.r, wopen, .ino = x.ino));
    x.a_epoch = x.r.reply.result.cap_epoch;
    CHECK_EQ(x.r.reply.result.mode, PROTO_OPEN_S);
    pair_switch(&x);
    (void)turn_of(&x, x.b_epoch);
    CHECK_EQ(x.r.reply.result.end, 10);
    pair_switch(&x);
    CHECK_RC(RIG_OP(&x.r, append_turn, .ino = x.ino, .cap_epoch = x.a_epoch), ERR_busy);
    CHECK_OK(RIG_DO(&x.r, NAMESPACE_EXPIRE, namespace_expire, .session = x.b_session));
    CHECK_EQ(x.r.reply.fenced_session, x.b_session); /* the leader waits for that (L6) */
    (void)turn_of(&x, x.a_epoch);
    CHECK_EQ(x.r.reply.result.end, 10); /* what the dead one wrote does not count */
    rig_close(&x.r);
}

/* Who writes alone has no turn; nor has who has not said its last word, or waits for one. */
TEST(turns_are_for_those_who_share)
{
    struct pair x;
    pair_open(&x);
    pair_switch(&x);
    CHECK_OK(
        RIG_OP(&x.r, commit, .ino = x.ino, .cap_epoch = x.b_epoch, .flags = PROTO_COMMIT_RELEASE));
    pair_switch(&x);
    CHECK_OK(RIG_OP(&x.r, wopen, .ino = x.ino));
    CHECK_EQ(x.r.reply.result.mode, PROTO_OPEN_W);
    CHECK_RC(RIG_OP(&x.r, append_turn, .ino = x.ino, .cap_epoch = x.a_epoch), EINVAL);
    CHECK_RC(RIG_OP(&x.r, append_turn, .ino = x.ino, .cap_epoch = x.a_epoch + 1), ESTALE);
    pair_switch(&x);
    CHECK_OK(RIG_OP(&x.r, wopen, .ino = x.ino));
    x.b_epoch = x.r.reply.result.cap_epoch;
    CHECK_TRUE(!x.r.reply.result.shared_now);
    CHECK_RC(RIG_OP(&x.r, append_turn, .ino = x.ino, .cap_epoch = x.b_epoch), ERR_busy);
    pair_switch(&x);
    CHECK_RC(RIG_OP(&x.r, append_turn, .ino = x.ino, .cap_epoch = x.a_epoch), EINVAL);
    rig_close(&x.r);
}

/* L7: the same question again gets the same turn, although the file has grown meanwhile. */
TEST(a_repeated_question_gets_the_same_turn)
{
    struct pair x;
    pair_open(&x);
    struct proto_op before = x.r.op;
    uint64_t a = turn_of(&x, x.a_epoch);
    struct proto_op after = x.r.op;
    pair_switch(&x);
    CHECK_OK(RIG_OP(&x.r, commit, .ino = x.ino, .cap_epoch = x.b_epoch, .size = 99,
                    .allocated = 99)); /* an ordinary write */
    pair_switch(&x);
    x.r.op = before;
    CHECK_EQ(turn_of(&x, x.a_epoch), a);
    CHECK_TRUE(x.r.reply.replayed);
    CHECK_EQ(x.r.reply.result.end, 10);
    x.r.op = after;
    CHECK_OK(RIG_OP(&x.r, append_done, .ino = x.ino, .cap_epoch = x.a_epoch, .turn = a, .size = 20,
                    .allocated = 99));
    CHECK_EQ(x.r.reply.attr.size, 99); /* the greatest wins */
    rig_close(&x.r);
}

/* Who gets the turn has room for what it wants; what was appended is taken in any case. */
TEST(a_quota_is_asked_with_the_turn)
{
    struct pair x;
    pair_open(&x);
    struct rig *r = &x.r;
    CHECK_OK(RIG_OP(r, set_quota, .ino = 1, .mask = PROTO_QUOTA_BYTES, .bytes_hard = 100));
    CHECK_RC(RIG_OP(r, append_turn, .ino = x.ino, .cap_epoch = x.a_epoch, .wanted = 91), EDQUOT);
    CHECK_EQ(r->reply.refusal.limit, NAMESPACE_LIMIT_BYTES_HARD);
    CHECK_RC(RIG_OP(r, append_turn, .ino = x.ino, .cap_epoch = x.a_epoch, .wanted = UINT64_MAX),
             EDQUOT);
    CHECK_OK(RIG_OP(r, append_turn, .ino = x.ino, .cap_epoch = x.a_epoch, .wanted = 90));
    uint64_t turn = r->reply.result.turn;
    CHECK_OK(RIG_OP(r, append_done, .ino = x.ino, .cap_epoch = x.a_epoch, .turn = turn, .size = 150,
                    .mtime_ns = 5, .allocated = 150));
    CHECK_EQ(r->reply.attr.size, 150);
    CHECK_OK(RIG_OP(r, append_turn, .ino = x.ino, .cap_epoch = x.a_epoch, .wanted = 0));
    rig_close(r);
}
