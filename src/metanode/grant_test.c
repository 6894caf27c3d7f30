/*
 * metanode/grant_test.c -- files that are open for reading while others change them: who is asked
 * before, who waits, what is kept (coherence.md sections 4, 6 and 7).
 */
#include "metanode/rig_session_priv.h"
#include "testing/testing.h"

struct grants { /* A has made a small file; B and C are there */
    struct rig rig;
    struct rig_client *a, *b, *c;
    uint64_t ino, epoch; /* epoch: if A writes it */
};

static uint64_t grants_make(struct rig_client *c, const char *name, const char *data)
{
    struct proto_create_request q = rig_file(c, name, data);
    c->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(c, PROTO_OP_create, &q));
    return ((struct proto_create_reply *)c->reply)->attr.ino;
}

static void grants_new(struct grants *x, uint64_t seed, const char *data)
{
    rig_ready(&x->rig, 3, seed);
    x->a = &x->rig.client[0];
    x->b = &x->rig.client[1];
    x->c = &x->rig.client[2];
    x->ino = grants_make(x->a, "f", data);
    x->epoch = data == NULL ? ((struct proto_create_reply *)x->a->reply)->cap_epoch : 0;
}

static struct proto_open_request open_of(const struct rig_client *c, uint64_t ino)
{
    return (struct proto_open_request){
        .caller = rig_caller(c), .ino = ino, .access = PROTO_RIGHT_READ};
}
static int grants_open(struct rig_client *c, uint64_t ino)
{
    struct proto_open_request q = open_of(c, ino);
    c->flags = PEER_CALL_AGAIN;
    c->acks = PROTO_ACK_OPEN | PROTO_ACK_KEEP;
    return rig_call(c, PROTO_OP_open, &q);
}
static int grants_read(struct rig_client *c, uint64_t ino)
{
    struct proto_read_inline_request q = {.caller = rig_caller(c), .ino = ino};
    c->flags = PEER_CALL_AGAIN;
    return rig_call(c, PROTO_OP_read_inline, &q);
}
static struct proto_unlink_request unlink_of(struct rig_client *c, const char *name)
{
    return (struct proto_unlink_request){
        .op = rig_op(c, 0), .parent = PROTO_ROOT_INO, .name = proto_bytes_text(name)};
}
static int grants_unlink(struct rig_client *c, const char *name)
{
    struct proto_unlink_request q = unlink_of(c, name);
    c->flags = PEER_CALL_AGAIN;
    return rig_call(c, PROTO_OP_unlink, &q);
}
static int grants_rename(struct rig_client *c, const char *name, const char *new_name)
{
    struct proto_rename_request q = {.op = rig_op(c, 0),
                                     .parent = PROTO_ROOT_INO,
                                     .name = proto_bytes_text(name),
                                     .new_parent = PROTO_ROOT_INO,
                                     .new_name = proto_bytes_text(new_name)};
    c->flags = PEER_CALL_AGAIN;
    return rig_call(c, PROTO_OP_rename, &q);
}
static int grants_release(struct rig_client *c, uint64_t ino)
{
    struct proto_release_request q = {.op = rig_op(c, 1), .ino = ino};
    c->flags = PEER_CALL_AGAIN;
    return rig_call(c, PROTO_OP_release, &q);
}
static int grants_claim(struct rig_client *c, uint64_t ino)
{
    struct proto_claim claim = {.kind = PROTO_OBJECT_INO, .ino = ino, .open = PROTO_RIGHT_READ};
    struct proto_reclaim_request q = {.session = c->session,
                                      .verifier = c->verifier,
                                      .claims = {.at = &claim, .count = ino == 0 ? 0 : 1},
                                      .last = true};
    c->flags = PEER_CALL_AGAIN;
    return rig_call(c, PROTO_OP_reclaim, &q);
}
static void grants_restart(struct grants *x)
{
    for (unsigned i = 0; i < RIG_CLIENTS; i++) {
        x->rig.client[i].resumes = 0;
    }
    rig_kill(&x->rig);
    rig_serve(&x->rig);
    for (unsigned i = 0; i < 100 && x->a->resumes * x->b->resumes * x->c->resumes == 0; i++) {
        rig_run(&x->rig, RIG_SECOND / 10);
    }
    CHECK_TRUE(x->a->resumes > 0 && x->b->resumes > 0 && x->c->resumes > 0);
}

TEST(an_unlinked_file_lives_while_another_client_reads_it)
{
    struct grants x;
    grants_new(&x, testing_seed(), "data");
    CHECK_OK(grants_open(x.b, x.ino));
    CHECK_OK(grants_unlink(x.a, "f"));
    CHECK_EQ(x.b->unlinks, 1);
    CHECK_TRUE(x.a->unlinks == 0 && x.c->unlinks == 0);
    CHECK_OK(grants_read(x.b, x.ino));
    CHECK_OK(grants_release(x.b, x.ino));
    CHECK_RC(grants_read(x.b, x.ino), ENOENT);
    rig_over(&x.rig);
}

TEST(a_replaced_file_lives_while_another_client_reads_it)
{
    struct grants x;
    grants_new(&x, testing_seed(), "data");
    (void)grants_make(x.a, "g", "other");
    CHECK_OK(grants_open(x.b, x.ino));
    CHECK_OK(grants_rename(x.a, "g", "f"));
    CHECK_EQ(x.b->unlinks, 1);
    CHECK_OK(grants_read(x.b, x.ino));
    CHECK_TRUE(rig_lookup(x.c, "f").ino != x.ino);
    CHECK_OK(grants_release(x.b, x.ino));
    CHECK_RC(grants_read(x.b, x.ino), ENOENT);
    rig_over(&x.rig);
}

/* Its descriptor was closed, but it is still mapped, say. */
TEST(who_has_written_and_keeps_it_open_is_asked)
{
    struct grants x;
    grants_new(&x, testing_seed(), NULL);
    struct proto_create_request q = rig_file(x.b, "g", NULL);
    x.b->flags = PEER_CALL_AGAIN;
    x.b->acks = PROTO_ACK_OPEN | PROTO_ACK_KEEP;
    CHECK_OK(rig_call(x.b, PROTO_OP_create, &q));
    const struct proto_create_reply made = *(const struct proto_create_reply *)x.b->reply;
    struct proto_commit_request commit = {.op = rig_op(x.b, 0),
                                          .ino = made.attr.ino,
                                          .cap_epoch = made.cap_epoch,
                                          .flags = PROTO_COMMIT_RELEASE | PROTO_COMMIT_HAS_DATA |
                                                   PROTO_COMMIT_OPEN};
    CHECK_OK(rig_call(x.b, PROTO_OP_commit, &commit));
    CHECK_OK(grants_unlink(x.a, "g"));
    CHECK_EQ(x.b->unlinks, 1);
    CHECK_OK(grants_read(x.b, made.attr.ino));
    CHECK_OK(grants_release(x.b, made.attr.ino));
    CHECK_RC(grants_read(x.b, made.attr.ino), ENOENT);
    rig_over(&x.rig);
}

/* Found out when it is asked, or told with a renewal: then nobody is asked at all. */
TEST(who_has_closed_a_file_keeps_nothing)
{
    struct grants x;
    grants_new(&x, testing_seed(), "data");
    uint64_t second = grants_make(x.a, "g", "more");
    CHECK_OK(grants_open(x.b, x.ino));
    CHECK_OK(grants_open(x.b, second));
    x.b->acks = 0;
    CHECK_OK(grants_unlink(x.a, "f"));
    CHECK_EQ(x.b->unlinks, 1);
    CHECK_RC(grants_read(x.b, x.ino), ENOENT);
    struct proto_renew_request q = {.session = x.b->session, .closed = {.at = &second, .count = 1}};
    CHECK_OK(rig_call(x.b, PROTO_OP_renew, &q));
    CHECK_OK(grants_unlink(x.a, "g"));
    CHECK_EQ(x.b->unlinks, 1);
    CHECK_RC(grants_read(x.b, second), ENOENT);
    rig_over(&x.rig);
}

/* L1: no grant on what is latched: the open waits, and sees what has become of the file. */
TEST(L1_an_open_waits_while_others_are_asked)
{
    struct grants x;
    grants_new(&x, testing_seed(), "data");
    CHECK_OK(grants_open(x.b, x.ino));
    x.b->mute = true;
    struct proto_unlink_request u = unlink_of(x.a, "f");
    struct proto_open_request o = open_of(x.c, x.ino);
    rig_begin(x.a, PROTO_OP_unlink, &u);
    rig_run(&x.rig, RIG_SECOND / 4);
    x.c->flags = PEER_CALL_AGAIN;
    rig_begin(x.c, PROTO_OP_open, &o);
    rig_run(&x.rig, RIG_SECOND / 4);
    CHECK_TRUE(x.b->muted != NULL && !x.a->done && !x.c->done);
    x.b->acks = 0;
    rig_unmute(x.b);
    CHECK_OK(rig_end(x.a));
    CHECK_RC(rig_end(x.c), ENOENT);
    rig_over(&x.rig);
}

/* It goes when those have closed it who had it open. */
TEST(nobody_else_opens_a_file_without_a_name)
{
    struct grants x;
    grants_new(&x, testing_seed(), "data");
    CHECK_OK(grants_open(x.b, x.ino));
    CHECK_OK(grants_unlink(x.a, "f"));
    CHECK_RC(grants_open(x.c, x.ino), ESTALE);
    CHECK_OK(grants_open(x.b, x.ino)); /* once more */
    CHECK_OK(grants_release(x.b, x.ino));
    CHECK_RC(grants_open(x.b, x.ino), ENOENT);
    rig_over(&x.rig);
}

/* Its client did not know yet that it was opened when it began to remove it. */
TEST(who_removes_a_file_is_asked_about_what_it_has_opened_meanwhile)
{
    struct grants x;
    grants_new(&x, testing_seed(), "data");
    CHECK_OK(grants_open(x.a, x.ino));
    CHECK_OK(grants_unlink(x.a, "f"));
    CHECK_EQ(x.a->unlinks, 1);
    CHECK_OK(grants_read(x.a, x.ino));
    CHECK_OK(grants_release(x.a, x.ino));
    CHECK_RC(grants_read(x.a, x.ino), ENOENT);
    rig_over(&x.rig);
}

/* It says that it keeps the file, and closes it before the name is gone. */
TEST(a_release_does_not_overtake_the_removal)
{
    struct grants x;
    grants_new(&x, testing_seed(), "data");
    CHECK_OK(grants_open(x.b, x.ino));
    CHECK_OK(grants_open(x.c, x.ino));
    x.c->mute = true;
    struct proto_unlink_request u = unlink_of(x.a, "f");
    struct proto_release_request q = {.op = rig_op(x.b, 1), .ino = x.ino};
    rig_begin(x.a, PROTO_OP_unlink, &u);
    rig_run(&x.rig, RIG_SECOND / 4);
    CHECK_TRUE(x.b->unlinks == 1 && x.c->muted != NULL);
    rig_begin(x.b, PROTO_OP_release, &q);
    rig_run(&x.rig, RIG_SECOND / 4);
    CHECK_TRUE(!x.b->done);
    x.c->acks = 0;
    rig_unmute(x.c);
    CHECK_OK(rig_end(x.a));
    CHECK_OK(rig_end(x.b));
    CHECK_RC(grants_read(x.b, x.ino), ENOENT);
    rig_over(&x.rig);
}

/* While the holders of one file are asked, the name comes to stand for another one, with others. */
TEST(a_name_that_moves_is_asked_about_again)
{
    struct grants x;
    grants_new(&x, testing_seed(), "data");
    CHECK_OK(grants_open(x.b, x.ino));
    x.b->mute = true;
    struct proto_unlink_request u = unlink_of(x.a, "f");
    rig_begin(x.a, PROTO_OP_unlink, &u);
    rig_run(&x.rig, RIG_SECOND / 4);
    CHECK_OK(grants_rename(x.c, "f", "h"));
    uint64_t other = grants_make(x.c, "f", "new");
    CHECK_OK(grants_open(x.c, other));
    rig_unmute(x.b);
    CHECK_OK(rig_end(x.a));
    CHECK_EQ(x.c->unlinks, 1);
    CHECK_OK(grants_read(x.c, other)); /* nameless, and kept */
    CHECK_EQ(rig_lookup(x.b, "f").ino, 0);
    CHECK_EQ(rig_lookup(x.b, "h").ino, x.ino);
    CHECK_OK(grants_release(x.c, other));
    CHECK_RC(grants_read(x.c, other), ENOENT);
    rig_over(&x.rig);
}

/* Nobody had anything open when the removal began, so it asks nobody: who opens the file at that
 * moment sees it go, or keeps it, but never has a file that is gone. */
TEST(an_open_beside_a_blind_removal)
{
    unsigned both = 0, gone = 0;
    for (unsigned i = 0; i < 24; i++) {
        struct grants x;
        grants_new(&x, testing_seed() + i, "data");
        struct proto_unlink_request u = unlink_of(x.a, "f");
        struct proto_open_request o = open_of(x.b, x.ino);
        x.b->acks = PROTO_ACK_OPEN | PROTO_ACK_KEEP;
        x.b->flags = PEER_CALL_AGAIN;
        rig_begin(x.a, PROTO_OP_unlink, &u);
        rig_run(&x.rig, i % 8 * (RIG_SECOND / 4000));
        rig_begin(x.b, PROTO_OP_open, &o);
        CHECK_OK(rig_end(x.a));
        int rc = rig_end(x.b);
        CHECK_TRUE(rc == 0 || rc == -ENOENT);
        CHECK_EQ(grants_read(x.b, x.ino), rc);
        both += rc == 0;
        gone += rc == -ENOENT;
        rig_over(&x.rig);
    }
    CHECK_TRUE(both + gone == 24 && gone > 0);
}

/* open-unlinked-lapsed: it cannot be asked, comes back before it is ended, and still reads. */
static int lapsed(bool still_open)
{
    struct grants x;
    grants_new(&x, testing_seed(), "data");
    CHECK_OK(grants_open(x.b, x.ino));
    loop_sim_pause(x.b->env.loop, true);
    uint64_t began = loop_sim_now_ns(x.rig.sim);
    CHECK_OK(grants_unlink(x.a, "f"));
    uint64_t took = loop_sim_now_ns(x.rig.sim) - began;
    CHECK_TRUE(took > RIG_SECOND && took < 6 * RIG_SECOND); /* L3; T is two */
    loop_sim_pause(x.b->env.loop, false);
    x.b->acks = still_open ? PROTO_ACK_OPEN | PROTO_ACK_KEEP : 0;
    rig_run(&x.rig, RIG_SECOND);
    unsigned before = x.b->unlinks;
    CHECK_OK(grants_claim(x.b, still_open ? x.ino : 0));
    rig_run(&x.rig, RIG_SECOND);
    CHECK_EQ(x.b->unlinks, before + (still_open ? 1 : 0)); /* so that it lets go at the end */
    int read = grants_read(x.b, x.ino);
    CHECK_OK(grants_release(x.b, x.ino));
    CHECK_RC(grants_read(x.b, x.ino), ENOENT);
    rig_over(&x.rig);
    return read;
}
TEST(a_file_is_kept_for_a_reader_that_lapsed)
{
    CHECK_OK(lapsed(true));
}
TEST(a_reader_that_lapsed_and_has_closed_it_lets_it_go)
{
    CHECK_RC(lapsed(false), ENOENT);
}

/* The leader that knew who reads is gone. */
TEST(after_a_restart_readers_are_asked_before_they_have_claimed)
{
    struct grants x;
    grants_new(&x, testing_seed(), "data");
    uint64_t second = grants_make(x.a, "g", "more");
    CHECK_OK(grants_open(x.b, x.ino));
    CHECK_OK(grants_open(x.b, second));
    grants_restart(&x);
    CHECK_OK(grants_unlink(x.a, "f"));
    CHECK_EQ(x.b->unlinks, 1);
    CHECK_OK(grants_read(x.b, x.ino));
    CHECK_OK(grants_claim(x.b, second));
    CHECK_OK(grants_claim(x.c, 0));
    unsigned c_before = x.c->unlinks;
    CHECK_OK(grants_unlink(x.a, "g"));
    CHECK_OK(grants_read(x.b, second));
    CHECK_EQ(x.c->unlinks, c_before); /* it has said that it has nothing */
    CHECK_OK(grants_release(x.b, x.ino));
    CHECK_OK(grants_release(x.b, second));
    CHECK_RC(grants_read(x.b, second), ENOENT);
    rig_over(&x.rig);
}

static void fill_in(void *ctx)
{
    struct grants *x = ctx;
    struct metanode_session *s = metanode_session_find(x->rig.m, x->b->session);
    for (uint64_t i = 0; i <= METANODE_GRANTS_MAX; i++) {
        metanode_grant_claim(x->rig.m, s, 1000000 + i);
    }
}
TEST(what_does_not_fit_into_memory_is_asked_about_all_the_same)
{
    struct grants x;
    grants_new(&x, testing_seed(), "data");
    loop_sim_enter(x.rig.loop, fill_in, &x);
    CHECK_EQ(x.rig.m->grants.count, METANODE_GRANTS_MAX);
    CHECK_OK(grants_open(x.b, x.ino));
    CHECK_OK(grants_unlink(x.a, "f"));
    CHECK_EQ(x.b->unlinks, 1);
    CHECK_OK(grants_read(x.b, x.ino));
    CHECK_OK(grants_claim(x.b, x.ino)); /* there is no room for it either */
    CHECK_EQ(x.rig.m->grants.losers, 1);
    CHECK_OK(grants_claim(x.b, 0)); /* of all that it claimed before it has nothing any more */
    CHECK_OK(grants_claim(x.b, x.ino));
    CHECK_EQ(x.rig.m->grants.losers, 0);
    CHECK_EQ(x.rig.m->grants.count, 1);
    rig_over(&x.rig);
}

/* ---- Writers ---- */

static int set_mtime(struct rig_client *c, uint64_t ino, int64_t mtime_ns)
{
    struct proto_setattr_request q = {
        .op = rig_op(c, 0), .ino = ino, .mask = PROTO_SET_MTIME, .mtime_ns = mtime_ns};
    c->flags = PEER_CALL_AGAIN;
    return rig_call(c, PROTO_OP_setattr, &q);
}
static int commit(struct grants *x, uint32_t flags, int64_t mtime_ns)
{
    struct proto_commit_request q = {.op = rig_op(x->a, 1),
                                     .ino = x->ino,
                                     .cap_epoch = x->epoch,
                                     .data = proto_bytes_text("hello"),
                                     .size = 5,
                                     .mtime_ns = mtime_ns,
                                     .flags = PROTO_COMMIT_HAS_DATA | flags};
    x->a->flags = PEER_CALL_AGAIN;
    return rig_call(x->a, PROTO_OP_commit, &q);
}

/* dirty-vs-utimens: no old time comes after the one that was set. */
TEST(a_time_that_is_set_outlives_the_commit_of_an_earlier_write)
{
    struct grants x;
    grants_new(&x, testing_seed(), NULL);
    x.a->acks = PROTO_ACK_OPEN | PROTO_ACK_KEEP | PROTO_ACK_HAS_TIMES;
    x.a->mtime_ns = 5000;
    CHECK_OK(set_mtime(x.b, x.ino, 777));
    CHECK_EQ(x.a->invals, 1);
    CHECK_EQ(x.a->inval_bits, PROTO_INVAL_TIMES);
    CHECK_OK(commit(&x, PROTO_COMMIT_TOLD | PROTO_COMMIT_RELEASE, 5000));
    CHECK_EQ(rig_lookup(x.b, "f").mtime_ns, 777);
    CHECK_OK(set_mtime(x.b, x.ino, 888)); /* nobody writes it any more */
    CHECK_EQ(x.a->invals, 1);
    rig_over(&x.rig);
}

static int lease_return(struct grants *x)
{
    struct proto_lease_return_request q = {.op = rig_op(x->a, 2),
                                           .has_final = true,
                                           .ino = x->ino,
                                           .cap_epoch = x->epoch,
                                           .keep = {.at = &x->ino, .count = 1}};
    x->a->flags = PEER_CALL_AGAIN;
    return rig_call(x->a, PROTO_OP_lease_return, &q);
}

/* Section 6: `open` to read recalls W to S, and waits. */
TEST(who_opens_to_read_waits_until_the_writer_holds_nothing_back)
{
    struct grants x;
    grants_new(&x, testing_seed(), NULL);
    struct proto_open_request o = open_of(x.b, x.ino);
    x.b->flags = PEER_CALL_AGAIN;
    rig_begin(x.b, PROTO_OP_open, &o);
    rig_run(&x.rig, RIG_SECOND);
    CHECK_TRUE(!x.b->done);
    CHECK_TRUE(x.a->recalls > 0 && x.a->recalled_ino == x.ino);
    CHECK_OK(lease_return(&x));
    CHECK_OK(rig_end(x.b));
    CHECK_EQ(((struct proto_open_reply *)x.b->reply)->mode, PROTO_OPEN_S);
    rig_over(&x.rig);
}

TEST(L5_a_writer_that_lapsed_is_ended_for_who_opens_to_read)
{
    struct grants x;
    grants_new(&x, testing_seed(), NULL);
    loop_sim_pause(x.a->env.loop, true);
    uint64_t began = loop_sim_now_ns(x.rig.sim);
    CHECK_OK(grants_open(x.b, x.ino));
    CHECK_EQ(((struct proto_open_reply *)x.b->reply)->mode, PROTO_OPEN_R);
    uint64_t took = loop_sim_now_ns(x.rig.sim) - began;
    CHECK_TRUE(took > RIG_SECOND && took < 8 * RIG_SECOND);
    loop_sim_pause(x.a->env.loop, false);
    rig_over(&x.rig);
}

static int wopen(struct rig_client *c, uint64_t ino, uint8_t *ret_mode)
{
    struct proto_wopen_request q = {.op = rig_op(c, 0), .ino = ino};
    c->flags = PEER_CALL_AGAIN;
    int rc = rig_call(c, PROTO_OP_wopen, &q);
    *ret_mode = rc == 0 ? ((struct proto_wopen_reply *)c->reply)->mode : 0;
    return rc;
}

/* 6.2: nobody may hold back what he writes while another one has the file open. */
TEST(who_becomes_a_writer_shares_with_readers)
{
    struct grants x;
    uint8_t mode;
    grants_new(&x, testing_seed(), "");
    CHECK_OK(grants_open(x.b, x.ino));
    CHECK_OK(wopen(x.c, x.ino, &mode));
    CHECK_EQ(x.b->inval_bits, PROTO_INVAL_WOPEN);
    CHECK_EQ(mode, PROTO_OPEN_S);
    unsigned before = x.b->invals;
    struct proto_commit_request q = {.op = rig_op(x.c, 1),
                                     .ino = x.ino,
                                     .cap_epoch =
                                         ((struct proto_wopen_reply *)x.c->reply)->cap_epoch,
                                     .data = proto_bytes_text("more"),
                                     .size = 4,
                                     .flags = PROTO_COMMIT_APPEND | PROTO_COMMIT_RELEASE};
    CHECK_OK(rig_call(x.c, PROTO_OP_commit, &q));
    rig_run(&x.rig, RIG_SECOND / 4);
    CHECK_EQ(x.b->invals, before + 1); /* told of the change */
    CHECK_EQ(x.b->inval_bits, 0);
    x.b->acks = 0;
    CHECK_OK(wopen(x.c, x.ino, &mode)); /* B has closed it */
    CHECK_EQ(mode, PROTO_OPEN_W);
    rig_over(&x.rig);
}

/* A writer keeps its file by the log; it is told, so that it lets go at the end. */
TEST(a_writer_is_told_that_the_name_has_gone)
{
    struct grants x;
    grants_new(&x, testing_seed(), NULL);
    x.a->acks = PROTO_ACK_OPEN | PROTO_ACK_KEEP;
    CHECK_OK(grants_unlink(x.b, "f"));
    rig_run(&x.rig, RIG_SECOND / 2);
    CHECK_EQ(x.a->invals, 1);
    CHECK_EQ(x.a->inval_bits, PROTO_INVAL_UNLINK);
    CHECK_OK(commit(&x, PROTO_COMMIT_RELEASE, 0));
    CHECK_OK(grants_read(x.a, x.ino));
    CHECK_OK(grants_release(x.a, x.ino));
    CHECK_RC(grants_read(x.a, x.ino), ENOENT);
    rig_over(&x.rig);
}

/* It had closed the file before it heard of that. */
TEST(a_writer_that_has_closed_a_nameless_file_loses_it)
{
    struct grants x;
    grants_new(&x, testing_seed(), NULL);
    x.a->mute = true;
    CHECK_OK(grants_unlink(x.b, "f"));
    CHECK_OK(commit(&x, PROTO_COMMIT_RELEASE, 0));
    CHECK_OK(grants_read(x.a, x.ino));
    x.a->acks = 0;
    rig_unmute(x.a);
    rig_run(&x.rig, RIG_SECOND);
    CHECK_RC(grants_read(x.a, x.ino), ENOENT);
    rig_over(&x.rig);
}

/* Small contents cannot be shared, but a writer beside a reader must not hold them back, either: it
 * is asked at once to move them. */
TEST(who_writes_small_contents_beside_a_reader_is_recalled)
{
    struct grants x;
    uint8_t mode;
    grants_new(&x, testing_seed(), "data");
    CHECK_OK(grants_open(x.b, x.ino));
    CHECK_OK(wopen(x.c, x.ino, &mode));
    CHECK_EQ(mode, PROTO_OPEN_W);
    rig_run(&x.rig, RIG_SECOND / 2);
    CHECK_TRUE(x.c->recalls > 0 && x.c->recalled_ino == x.ino);
    rig_over(&x.rig);
}

/* It lapsed, another one began to write alone, and it comes back with the file still open. */
TEST(a_reader_that_comes_back_has_the_writer_recalled)
{
    struct grants x;
    uint8_t mode;
    grants_new(&x, testing_seed(), "");
    grants_restart(&x); /* nothing is known of B */
    CHECK_OK(grants_claim(x.c, 0));
    x.b->acks = 0;
    CHECK_OK(wopen(x.c, x.ino, &mode));
    CHECK_EQ(mode, PROTO_OPEN_W);
    CHECK_EQ(x.c->recalls, 0);
    CHECK_OK(grants_claim(x.b, x.ino));
    rig_run(&x.rig, RIG_SECOND / 2);
    CHECK_TRUE(x.c->recalls > 0);
    rig_over(&x.rig);
}
