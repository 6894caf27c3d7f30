/* datanode/digest_test.c -- members say what they have of a chain as one number: the same when they
 * have the same, another one when they do not, once for each state. */
#include "datanode/digest.h"

#include "chunk/store.h"
#include "datanode/rig_spoil_priv.h"
#include "testing/testing.h"

static bool both_say(const struct rig *r, uint64_t count)
{
    const struct proto_chain_digest *a = &r->target[1].digest[1], *b = &r->target[2].digest[1];
    return a->epoch == r->row[1].epoch && b->epoch == r->row[1].epoch && a->count == count &&
           b->count == count;
}

static void write_one(struct rig *r, uint64_t data_id, uint8_t fill)
{
    struct rig_io io = io_first;
    io.data_id = data_id;
    io.fill = fill;
    CHECK_OK(rig_write(r, &io));
}

TEST(members_that_have_the_same_say_the_same)
{
    struct rig r;
    open_chain(&r, 2);
    RIG_UNTIL(&r, both_say(&r, 1));
    uint64_t first = r.target[1].digest[1].digest;
    CHECK_EQ(first, r.target[2].digest[1].digest);
    write_one(&r, 200, 1);
    write_one(&r, 201, 1);
    RIG_UNTIL(&r, both_say(&r, 3));
    uint64_t three = r.target[1].digest[1].digest;
    CHECK_TRUE(three != first && three == r.target[2].digest[1].digest);
    write_one(&r, 201, 2); /* another content: as many chunks */
    RIG_UNTIL(&r, both_say(&r, 3) && r.target[1].digest[1].digest != three &&
                      r.target[2].digest[1].digest != three);
    CHECK_EQ(r.target[1].digest[1].digest, r.target[2].digest[1].digest);
    for (uint64_t id = 200; id < 202; id++) {
        struct rig_io io = {.host = 1, .chain = 1, .data_id = id};
        CHECK_OK(rig_remove(&r, &io));
    }
    RIG_UNTIL(&r, both_say(&r, 1));
    CHECK_EQ(r.target[1].digest[1].digest, first); /* whatever order they came and went in */
    CHECK_EQ(r.target[2].digest[1].digest, first);
    rig_close(&r);
}

TEST(a_start_finds_the_same_number_again)
{
    struct rig r;
    open_chain(&r, 2);
    write_one(&r, 200, 1);
    CHECK_OK(rig_sync(&r, &io_first));
    RIG_UNTIL(&r, both_say(&r, 2));
    uint64_t before = r.target[2].digest[1].digest;
    rig_for_ms(&r, 10000);
    rig_kill(&r, 2);
    rig_row(&r, 1, "1s 2o");
    memset(&r.target[2].digest[1], 0, sizeof r.target[2].digest[1]);
    rig_start(&r, 2);
    RIG_UNTIL(&r, rig_settled(&r, 1));
    rig_row(&r, 1, "1s 2y");
    RIG_UNTIL(&r, r.target[2].synced[1] == r.row[1].epoch);
    rig_for_ms(&r, 10000);
    CHECK_EQ(r.target[2].digest[1].epoch, 0); /* while it is filled it says nothing */
    rig_row(&r, 1, "1s 2s");
    RIG_UNTIL(&r, both_say(&r, 2));
    CHECK_EQ(r.target[2].digest[1].digest, before);
    CHECK_EQ(r.target[1].digest[1].digest, before);
    rig_close(&r);
}

TEST(a_number_is_said_once_and_again_to_a_new_leader)
{
    struct rig r;
    open_chain(&r, 2);
    RIG_UNTIL(&r, both_say(&r, 1));
    rig_for_ms(&r, 200000);
    unsigned said = r.target[2].digests;
    rig_for_ms(&r, 60000);
    CHECK_EQ(r.target[2].digests, said);
    r.target[2].stranger = true;
    RIG_UNTIL(&r, !r.target[2].stranger);
    RIG_UNTIL(&r, r.target[2].digests > said);
    r.target[2].ignores = true; /* until it was heard */
    write_one(&r, 200, 1);
    said = r.target[2].digests;
    rig_for_ms(&r, 30000);
    CHECK_TRUE(r.target[2].digests > said + 1);
    rig_close(&r);
}

/* A chunk that one member loses. */
struct losing {
    struct rig_target *t;
    struct chunk_change change;
    int rc;
    bool done;
};
static void lost(struct chunk_change *c, int rc)
{
    struct losing *x = container_of(c, struct losing, change);
    x->rc = rc;
    x->done = true;
}
static void lose_inside(void *ctx)
{
    struct losing *x = ctx;
    x->change = (struct chunk_change){
        .done = lost, .op = CHUNK_DELETE, .key = {.data_id = io_first.data_id}};
    chunk_store_change(datanode_worker_store(x->t->worker), &x->change);
}

TEST(members_that_do_not_have_the_same_say_so)
{
    struct rig r;
    open_chain(&r, 2);
    write_one(&r, 200, 1);
    RIG_UNTIL(&r, both_say(&r, 2));
    struct losing x = {.t = &r.target[2]};
    rig_in(r.target[2].process.loop, lose_inside, &x);
    RIG_UNTIL(&r, x.done);
    CHECK_OK(x.rc);
    RIG_UNTIL(&r, r.target[2].digest[1].count == 1);
    CHECK_TRUE(r.target[1].digest[1].count == 2 &&
               r.target[1].digest[1].digest != r.target[2].digest[1].digest);
    rig_close(&r);
}
