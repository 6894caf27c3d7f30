#include "metanode/rig_session_priv.h"
#include "testing/testing.h"

/* What a client is told of a file that another one writes (coherence.md section 6, `getattr`). */

struct asked { /* A has made a file and writes it alone; B looks at it */
    struct rig rig;
    struct rig_client *a, *b;
    uint64_t ino, epoch;
};

static void asked_new(struct asked *x)
{
    rig_ready(&x->rig, 2, testing_seed());
    x->a = &x->rig.client[0];
    x->b = &x->rig.client[1];
    struct proto_create_request q = rig_file(x->a, "f", NULL);
    CHECK_OK(rig_call(x->a, PROTO_OP_create, &q));
    const struct proto_create_reply *made = x->a->reply;
    x->ino = made->attr.ino;
    x->epoch = made->cap_epoch;
}

static struct proto_attr asked_attr(struct asked *x, struct rig_client *c)
{
    struct proto_getattr_request q = {.caller = rig_caller(c), .ino = x->ino};
    c->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(c, PROTO_OP_getattr, &q));
    return ((struct proto_getattr_reply *)c->reply)->attr;
}

static bool is_remote(struct rig_client *c)
{
    (void)rig_lookup(c, "f");
    const struct proto_grant_list *g = &((struct proto_lookup_reply *)c->reply)->trailer.grants;
    return g->count == 1 && (g->at[0].flags & PROTO_GRANT_REMOTE_WRITER) != 0;
}

static void asked_commit(struct asked *x, uint64_t size, uint32_t flags)
{
    struct proto_commit_request q = {.op = rig_op(x->a, 1),
                                     .ino = x->ino,
                                     .cap_epoch = x->epoch,
                                     .data = proto_bytes_text("hello"),
                                     .size = size,
                                     .flags = PROTO_COMMIT_HAS_DATA | flags};
    CHECK_OK(rig_call(x->a, PROTO_OP_commit, &q));
}

/* The holder's word counts, for others; a lookup waits for nobody, and says that there is one. */
TEST(a_writer_is_asked_for_the_size)
{
    struct asked x;
    asked_new(&x);
    x.a->written = 777;
    CHECK_TRUE(is_remote(x.b) && !is_remote(x.a));
    CHECK_EQ(x.a->queries, 0);
    CHECK_EQ(asked_attr(&x, x.b).size, 777);
    CHECK_EQ(asked_attr(&x, x.b).mtime_ns, INT64_MAX / 2);
    CHECK_EQ(x.a->queries, 2);
    CHECK_EQ(asked_attr(&x, x.a).size, 0); /* it knows better by itself */
    CHECK_EQ(x.a->queries, 2);
    asked_commit(&x, 5, PROTO_COMMIT_RELEASE);
    CHECK_TRUE(!is_remote(x.b));
    CHECK_EQ(asked_attr(&x, x.b).size, 5);
    CHECK_EQ(x.a->queries, 2);
    rig_over(&x.rig);
}

/* It has just closed the file: then the record is read again. */
TEST(a_writer_that_has_let_go_is_in_the_record)
{
    struct asked x;
    asked_new(&x);
    x.a->written = 0;
    CHECK_EQ(asked_attr(&x, x.b).size, 0);
    CHECK_EQ(x.a->queries, 1);
    asked_commit(&x, 5, 0);
    CHECK_EQ(asked_attr(&x, x.b).size, 5);
    CHECK_EQ(x.a->queries, 2);
    rig_over(&x.rig);
}

/* L3: it is waited for until its lease is over, and not longer. */
TEST(L3_a_silent_writer_is_waited_for_until_its_lease_is_over)
{
    struct asked x;
    asked_new(&x);
    x.a->written = 777;
    loop_sim_pause(x.a->env.loop, true);
    uint64_t began = loop_sim_now_ns(x.rig.sim);
    CHECK_EQ(asked_attr(&x, x.b).size, 0);
    uint64_t took = loop_sim_now_ns(x.rig.sim) - began;
    CHECK_TRUE(took > RIG_SECOND && took < 6 * RIG_SECOND); /* T is two */
    loop_sim_pause(x.a->env.loop, false);
    rig_keep_alive(&x.rig, x.a, 1);
    rig_over(&x.rig);
}

/* A new leader hears from the writer what it writes. */
TEST(a_restart_finds_the_writers_again)
{
    struct asked x;
    asked_new(&x);
    x.a->written = 777;
    rig_kill(&x.rig);
    rig_serve(&x.rig);
    for (unsigned i = 0; i < 100 && (x.a->resumes == 0 || x.b->resumes == 0); i++) {
        rig_run(&x.rig, RIG_SECOND / 10);
    }
    rig_run(&x.rig, RIG_SECOND / 2);
    CHECK_TRUE(is_remote(x.b));
    CHECK_EQ(asked_attr(&x, x.b).size, 777);
    rig_over(&x.rig);
}

static void asked_restart(struct asked *x)
{
    unsigned before = x->b->resumes;
    x->a->written = 777;
    loop_sim_pause(x->a->env.loop, true);
    rig_kill(&x->rig);
    rig_serve(&x->rig);
    for (unsigned i = 0; i < 100 && x->b->resumes == before; i++) {
        rig_run(&x->rig, RIG_SECOND / 10);
    }
    CHECK_TRUE(x->b->resumes > before);
}

/* Grace: who writes, and is slow to come back, is waited for as if it had only been silent. */
TEST(L3_a_restart_waits_for_a_writer_that_has_not_resumed)
{
    struct asked x;
    asked_new(&x);
    asked_restart(&x);
    CHECK_TRUE(is_remote(x.b));
    struct proto_getattr_request q = {.caller = rig_caller(x.b), .ino = x.ino};
    x.b->flags = PEER_CALL_AGAIN;
    rig_begin(x.b, PROTO_OP_getattr, &q);
    rig_run(&x.rig, RIG_SECOND / 2);
    CHECK_TRUE(!x.b->done);
    loop_sim_pause(x.a->env.loop, false);
    CHECK_OK(rig_end(x.b));
    CHECK_EQ(((struct proto_getattr_reply *)x.b->reply)->attr.size, 777);
    rig_run(&x.rig, RIG_SECOND);
    asked_commit(&x, 5,
                 PROTO_COMMIT_RELEASE); /* all are back: an unwritten file is not asked for */
    CHECK_TRUE(!is_remote(x.b));
    rig_over(&x.rig);
}

/* One that never comes back holds nobody up for longer than its lease. */
TEST(L3_a_restart_waits_for_a_lost_writer_until_its_lease_is_over)
{
    struct asked x;
    asked_new(&x);
    asked_restart(&x);
    CHECK_EQ(asked_attr(&x, x.b).size, 0);
    uint64_t took = metanode_now(x.rig.m) - x.rig.m->serve_ns;
    CHECK_TRUE(took > 2 * RIG_SECOND && took < 3 * RIG_SECOND);
    CHECK_TRUE(!is_remote(x.b));
    rig_over(&x.rig);
}

/* More files are written than are kept in memory: the others are looked up. */
/* As the server itself, whose memory it is. */
static void add_writers_in(void *ctx)
{
    struct asked *x = ctx;
    for (uint64_t i = 0; i < METANODE_WRITERS_MAX; i++) {
        metanode_writer_add(x->rig.m, 1000000 + i, x->a->session);
    }
}

TEST(what_does_not_fit_into_memory_is_asked_for_all_the_same)
{
    struct asked x;
    asked_new(&x);
    x.a->written = 777;
    loop_sim_enter(x.rig.loop, add_writers_in, &x);
    CHECK_EQ(x.rig.m->writers.count, METANODE_WRITERS_MAX);
    CHECK_EQ(asked_attr(&x, x.b).size, 777);
    rig_over(&x.rig);
}
