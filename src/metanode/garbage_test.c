/* metanode/garbage_test.c -- many removed files at once: few questions, few commands, and each data
 * id is asked for until every chain has removed it. */
#include "metanode/metanode_priv.h"

#include "metanode/rig_session_priv.h"
#include "metanode/rig_target_priv.h"
#include "testing/testing.h"

#include <stdio.h>

#define FILES 300u

static bool all_serve(void *ctx)
{
    const struct rig *r = ctx;
    bool all = r->m->chains.count > 0;
    LIST_FOR_EACH(node, &r->m->chains.all)
    {
        const struct cluster_row *row = &LIST_ENTRY(node, struct metanode_chain, all)->row;
        all = all && cluster_row_serving_count(row) == row->count;
    }
    return all;
}
static void start_with_files(struct rig *r, unsigned targets)
{
    rig_new(r, testing_seed());
    rig_serve(r);
    for (unsigned i = 0; i < targets; i++) {
        rig_target_start(r, i, false);
    }
    CHECK(rig_until(r, all_serve, r));
    rig_client_ready(r, 0);
    struct rig_client *c = &r->client[0];
    for (unsigned i = 0; i < FILES; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "f%u", i);
        struct proto_create_request q = rig_file(c, name, NULL);
        c->flags = PEER_CALL_AGAIN;
        CHECK_OK(rig_call(c, PROTO_OP_create, &q));
        const struct proto_create_reply *made = c->reply;
        CHECK_TRUE(made->layout.data_id != 0);
        struct proto_commit_request commit = {.op = rig_op(c, 0),
                                              .ino = made->attr.ino,
                                              .cap_epoch = made->cap_epoch,
                                              .size = 10000,
                                              .allocated = 12288,
                                              .flags = PROTO_COMMIT_RELEASE};
        CHECK_OK(rig_call(c, PROTO_OP_commit, &commit));
    }
}
static void remove_files(struct rig *r, unsigned from, unsigned end)
{
    struct rig_client *c = &r->client[0];
    for (unsigned i = from; i < end; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "f%u", i);
        struct proto_unlink_request q = {
            .op = rig_op(c, 0), .parent = PROTO_ROOT_INO, .name = proto_bytes_text(name)};
        CHECK_OK(rig_call(c, PROTO_OP_unlink, &q));
    }
}

struct left {
    struct metanode_read read;
    struct rig *rig;
    uint64_t count;
    bool done;
};
static int left_read(struct metanode_read *read, const struct namespace_view *v)
{
    struct namespace_state state;
    int rc = namespace_view_state(v, &state);
    container_of(read, struct left, read)->count = state.garbage;
    return rc;
}
static void left_done(struct metanode_read *read, int rc)
{
    CHECK_OK(rc);
    container_of(read, struct left, read)->done = true;
}
static void left_in(void *ctx)
{
    struct left *x = ctx;
    x->read = (struct metanode_read){.run = left_read, .done = left_done};
    metanode_read(x->rig->m, &x->read);
}
static bool left_is_done(void *ctx)
{
    return ((struct left *)ctx)->done;
}
static uint64_t garbage_left(struct rig *r)
{
    struct left x = {.rig = r};
    loop_sim_enter(r->loop, left_in, &x);
    CHECK(rig_until(r, left_is_done, &x));
    return x.count;
}
static unsigned requests(const struct rig *r)
{
    unsigned n = 0;
    for (unsigned i = 0; i < RIG_TARGETS; i++) {
        n += r->target[i].remove_requests;
    }
    return n;
}
static unsigned removes(const struct rig *r)
{
    unsigned n = 0;
    for (unsigned i = 0; i < RIG_TARGETS; i++) {
        n += r->target[i].removes;
    }
    return n;
}

TEST(garbage_of_many_files_takes_few_questions)
{
    struct rig r;
    start_with_files(&r, 3);
    for (unsigned i = 0; i < 3; i++) {
        r.target[i].refuse_removes = 100000; /* it piles up */
    }
    remove_files(&r, 0, FILES);
    CHECK_EQ(garbage_left(&r), FILES);
    for (unsigned i = 0; i < 3; i++) {
        r.target[i].refuse_removes = 0;
    }
    rig_run(&r, 30 * RIG_SECOND);
    CHECK_EQ(garbage_left(&r), 0);
    CHECK_TRUE(removes(&r) >= FILES * (unsigned)r.m->chains.count);
    CHECK_TRUE(requests(&r) <= 10 * (unsigned)r.m->chains.count);
    rig_over(&r);
}

/* Answers that do not come, a chain whose head is not there, a server that dies in between: what
 * was answered by all is gone, the rest is asked for again, and only of those who have not. */
TEST(garbage_waits_for_every_chain)
{
    struct rig r;
    start_with_files(&r, 3);
    for (unsigned i = 0; i < 3; i++) {
        r.target[i].refuse_removes = 100000;
    }
    remove_files(&r, 0, FILES);
    r.target[0].refuse_removes = 0; /* the chains that it heads */
    rig_run(&r, 30 * RIG_SECOND);
    CHECK_EQ(garbage_left(&r), FILES);
    unsigned first = removes(&r);
    CHECK_TRUE(first >= FILES);
    rig_kill(&r);
    rig_serve(&r);
    CHECK(rig_until(&r, all_serve, &r));
    rig_run(&r, 30 * RIG_SECOND);
    CHECK_EQ(removes(&r), first); /* they are not asked again: that is in the log */
    for (unsigned i = 0; i < 3; i++) {
        r.target[i].refuse_removes = 0;
    }
    rig_run(&r, 30 * RIG_SECOND);
    CHECK_EQ(garbage_left(&r), 0);
    CHECK_TRUE(removes(&r) >= FILES * (unsigned)r.m->chains.count);
    rig_over(&r);
}

TEST(garbage_is_named_one_by_one_to_targets_of_an_earlier_version)
{
    struct rig r;
    start_with_files(&r, 2);
    r.target[0].early = r.target[1].early = true;
    remove_files(&r, 0, 40);
    rig_run(&r, 30 * RIG_SECOND);
    CHECK_EQ(garbage_left(&r), 0);
    CHECK_TRUE(removes(&r) >= 40 * (unsigned)r.m->chains.count);
    CHECK_EQ(removes(&r), requests(&r));
    rig_over(&r);
}
