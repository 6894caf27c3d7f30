#include "client/io_priv.h"

#include "client/fake_world_priv.h"
#include "testing/testing.h"

/* Open files that another client changes: what this one says when it is asked, what it forgets. */

#define RW (OPENDFS_READ | OPENDFS_WRITE)
#define SMALL "small contents"

static bool ask_is_done(void *ctx)
{
    return ((struct fake_ask *)ctx)->done > 0;
}
static struct proto_inval_ack ask(struct world *w, const char *name, uint32_t bits)
{
    struct fake_ask a = {
        .meta = &w->node[0], .ino = fake_path(w->cluster, name)->ino, .item.bits = bits};
    loop_sim_enter(w->loop[0], fake_ask_inval, &a);
    CHECK_TRUE(loop_sim_run(w->sim, ask_is_done, &a, loop_sim_now_ns(w->sim) + SECOND));
    return a.ack;
}
/* A small file, closed. */
static void begin(struct world *w)
{
    world_open(w, testing_seed());
    world_start(w);
    struct opendfs_file *f = world_file(w, "/f", RW | OPENDFS_CREATE);
    CHECK_EQ(DO(w, pwrite, f, SMALL, sizeof SMALL, 0), sizeof SMALL);
    CHECK_OK(DO(w, close, f, NULL, 0));
}
static unsigned releases(const struct world *w)
{
    return w->cluster->executed[PROTO_OP_release % 1024];
}

TEST(a_reader_keeps_what_loses_its_name_and_lets_it_go_at_the_end)
{
    struct world w;
    begin(&w);
    CHECK_EQ(ask(&w, "f", PROTO_INVAL_UNLINK).bits, 0); /* nobody has it open */
    struct opendfs_file *f = world_file(&w, "/f", OPENDFS_READ);
    struct opendfs_file *g = world_file(&w, "/f", OPENDFS_READ);
    CHECK_EQ(ask(&w, "f", PROTO_INVAL_UNLINK).bits, PROTO_ACK_OPEN | PROTO_ACK_KEEP);
    fake_path(w.cluster, "f")->attr.nlink = 0; /* the other one has removed it */
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(releases(&w), 0);
    CHECK_OK(DO(&w, close, g, NULL, 0));
    world_run(&w, SECOND);
    CHECK_EQ(releases(&w), 1);
    world_close(&w);
}

/* What it has closed it says by itself, once; what is open again meanwhile is not closed. */
TEST(closed_files_are_told_with_a_renewal)
{
    struct world w;
    begin(&w);
    struct opendfs_file *f = world_file(&w, "/f", OPENDFS_READ);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    f = world_file(&w, "/f", OPENDFS_READ);
    world_run(&w, 5 * SECOND);
    CHECK_EQ(w.cluster->closed, 0);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_run(&w, 5 * SECOND);
    CHECK_EQ(w.cluster->closed, 1);
    world_run(&w, 5 * SECOND);
    CHECK_EQ(w.cluster->closed, 1);
    world_close(&w);
}

TEST(a_new_leader_gets_claims_of_what_is_open)
{
    struct world w;
    begin(&w);
    struct opendfs_file *f = world_file(&w, "/f", OPENDFS_READ);
    struct opendfs_file *g = world_file(&w, "/g", RW | OPENDFS_CREATE);
    w.cluster->lapsed = true;
    world_run(&w, 5 * SECOND);
    CHECK_TRUE(!w.cluster->lapsed);
    CHECK_EQ(w.cluster->claims, 2);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_OK(DO(&w, close, g, NULL, 0));
    world_close(&w);
}

/* dirty-vs-utimens: times that were handed over are not committed after the one that was set. */
TEST(times_are_handed_over_once)
{
    struct world w;
    begin(&w);
    struct opendfs_file *f = world_file(&w, "/f", RW);
    CHECK_EQ(DO(&w, pwrite, f, "x", 1, 0), 1);
    struct proto_inval_ack ack = ask(&w, "f", PROTO_INVAL_TIMES);
    CHECK_TRUE((ack.bits & PROTO_ACK_HAS_TIMES) != 0 && ack.mtime_ns > 0);
    CHECK_TRUE((ask(&w, "f", PROTO_INVAL_TIMES).bits & PROTO_ACK_HAS_TIMES) == 0);
    fake_path(w.cluster, "f")->attr.mtime_ns = 777; /* what the other one has set */
    CHECK_OK(DO(&w, fsync, f));
    uint32_t both = PROTO_COMMIT_TIMES | PROTO_COMMIT_TOLD;
    CHECK_EQ(w.cluster->commit_flags & both, PROTO_COMMIT_TOLD);
    CHECK_EQ(fake_path(w.cluster, "f")->attr.mtime_ns, 777);
    CHECK_EQ(DO(&w, pwrite, f, "y", 1, 0), 1);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(w.cluster->commit_flags & both, PROTO_COMMIT_TIMES); /* of the newer write */
    CHECK_TRUE(fake_path(w.cluster, "f")->attr.mtime_ns != 777);
    world_close(&w);
}

/* As tar and cp -p do it: what is set of a file that is written here is newer than its writes. */
TEST(a_time_that_is_set_here_is_not_overwritten_by_earlier_writes)
{
    struct world w;
    begin(&w);
    const struct opendfs_stat v = {.mtime_ns = 777};
    struct opendfs_file *f = world_file(&w, "/f", RW);
    CHECK_EQ(DO(&w, pwrite, f, "x", 1, 0), 1);
    CHECK_OK(DO(&w, setattr_ino, fake_path(w.cluster, "f")->ino, &v, OPENDFS_SET_MTIME));
    CHECK_EQ(w.op.stat.mtime_ns, 777);
    CHECK_OK(DO(&w, fstat, f));
    CHECK_EQ(w.op.stat.mtime_ns, 777);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(fake_path(w.cluster, "f")->attr.mtime_ns, 777);
    f = world_file(&w, "/f", RW);
    CHECK_EQ(DO(&w, pwrite, f, "y", 1, 0), 1);
    CHECK_OK(DO(&w, setattr, "/f", &v, OPENDFS_SET_MTIME_NOW));
    CHECK_EQ(DO(&w, pwrite, f, "z", 1, 0), 1);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    int64_t last = fake_path(w.cluster, "f")->attr.mtime_ns;
    CHECK_TRUE(last != 777 && last != FAKE_NOW_NS); /* of the write that came after it */
    world_close(&w);
}

/* One that is refused leaves them as they are. */
TEST(a_time_that_was_not_set_leaves_those_of_writes)
{
    struct world w;
    begin(&w);
    const struct opendfs_stat v = {.mtime_ns = 777};
    struct opendfs_file *f = world_file(&w, "/f", RW);
    CHECK_EQ(DO(&w, pwrite, f, "x", 1, 0), 1);
    w.cluster->refuse_setattr = true;
    CHECK_EQ(DO(&w, setattr, "/f", &v, OPENDFS_SET_MTIME), -EPERM);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(w.cluster->commit_flags & PROTO_COMMIT_TIMES, PROTO_COMMIT_TIMES);
    world_close(&w);
}

static void nothing(struct opendfs_op *op)
{
    CHECK_EQ(op->result, 0);
}
/* A commit that is on its way has the time of before, and none begins until it is set. */
TEST(a_time_that_is_set_and_a_commit_do_not_pass_each_other)
{
    for (uint64_t after = 0; after < 40; after++) {
        struct world w;
        begin(&w);
        const struct opendfs_stat v = {.mtime_ns = 777};
        struct opendfs_op set = {.done = nothing};
        struct opendfs_file *f = world_file(&w, "/f", RW);
        uint64_t ino = fake_path(w.cluster, "f")->ino;
        CHECK_EQ(DO(&w, pwrite, f, "x", 1, 0), 1);
        bool sync_first = after % 2 != 0;
        if (sync_first) {
            opendfs_async_fsync(w.fs, world_op(&w), f);
        }
        world_run(&w, after * 25000);
        opendfs_async_setattr_ino(w.fs, &set, ino, &v, OPENDFS_SET_MTIME);
        world_run(&w, after * 25000);
        if (!sync_first) {
            opendfs_async_fsync(w.fs, world_op(&w), f);
        }
        world_run(&w, 5 * SECOND);
        CHECK_TRUE(w.done);
        CHECK_EQ(fake_path(w.cluster, "f")->attr.mtime_ns, 777);
        CHECK_OK(DO(&w, close, f, NULL, 0));
        CHECK_EQ(fake_path(w.cluster, "f")->attr.mtime_ns, 777);
        world_close(&w);
    }
}

static void ended(struct opendfs_op *op)
{
    *(int64_t *)op->context = op->result;
}
TEST(a_time_that_waits_for_a_commit_can_be_given_up)
{
    struct world w;
    begin(&w);
    const struct opendfs_stat v = {.mtime_ns = 777};
    int64_t rc[2] = {0};
    struct opendfs_op sync = {.done = ended, .context = &rc[0]};
    struct opendfs_op set = {.done = ended, .context = &rc[1]};
    struct opendfs_file *f = world_file(&w, "/f", RW);
    uint64_t ino = fake_path(w.cluster, "f")->ino;
    CHECK_EQ(DO(&w, pwrite, f, "x", 1, 0), 1);
    world_kill(&w, 0);
    opendfs_async_fsync(w.fs, &sync, f);
    world_run(&w, SECOND);
    opendfs_async_setattr_ino(w.fs, world_op(&w), ino, &v, OPENDFS_SET_MTIME);
    world_run(&w, SECOND);
    CHECK_TRUE(!w.done && !list_empty(&client_inode_find(w.fs, ino)->setters));
    opendfs_async_cancel(w.fs, &w.op);
    CHECK_EQ(world_wait(&w), -ECANCELED);
    CHECK_TRUE(list_empty(&client_inode_find(w.fs, ino)->setters));
    opendfs_async_setattr_ino(w.fs, &set, ino, &v, OPENDFS_SET_MTIME);
    world_run(&w, SECOND);
    world_close(&w); /* the client ends while both wait */
    CHECK_EQ(rc[0], -ECANCELED);
    CHECK_EQ(rc[1], -ECANCELED);
}

/* Nobody wrote here: the time that is on record when the file is closed is not the one of before.
 */
TEST(an_authority_without_a_write_brings_no_time_back)
{
    struct world w;
    begin(&w);
    struct opendfs_file *f = world_file(&w, "/f", RW);
    CHECK_TRUE((ask(&w, "f", PROTO_INVAL_TIMES).bits & PROTO_ACK_HAS_TIMES) == 0);
    fake_path(w.cluster, "f")->attr.mtime_ns = 777;
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(fake_path(w.cluster, "f")->attr.mtime_ns, 777);
    world_close(&w);
}

/* Section 11: reads may lag until the push, and not longer. */
TEST(a_reader_that_was_told_of_a_change_reads_the_new_contents)
{
    struct world w;
    char got[64] = {0};
    begin(&w);
    struct opendfs_file *f = world_file(&w, "/f", OPENDFS_READ);
    CHECK_EQ(DO(&w, pread, f, got, sizeof got, 0), sizeof SMALL);
    struct fake_inode *n = fake_path(w.cluster, "f");
    CHECK(n != NULL);
    memcpy(n->data, "longer contents of another client", 34);
    n->data_len = n->attr.size = 34;
    fake_touch(w.cluster, n);
    CHECK_EQ(ask(&w, "f", 0).bits, PROTO_ACK_OPEN | PROTO_ACK_KEEP);
    CHECK_EQ(DO(&w, pread, f, got, sizeof got, 0), 34);
    CHECK_BYTES(got, "longer contents of another client", 34);
    CHECK_OK(DO(&w, fstat, f));
    CHECK_EQ(w.op.stat.size_bytes, 34);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(releases(&w), 0); /* its name was never in question */
    world_close(&w);
}

/* Who opens to write has the contents of now, not those that a reader beside it has. */
TEST(a_writer_does_not_take_the_old_contents_of_a_reader)
{
    struct world w;
    begin(&w);
    struct opendfs_file *r = world_file(&w, "/f", OPENDFS_READ);
    struct fake_inode *n = fake_path(w.cluster, "f");
    CHECK(n != NULL);
    memcpy(n->data, "other", 5); /* another client has written */
    n->attr.version++;
    struct opendfs_file *f = world_file(&w, "/f", OPENDFS_WRITE);
    CHECK_EQ(DO(&w, pwrite, f, "X", 1, 0), 1);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_OK(DO(&w, close, r, NULL, 0));
    CHECK_BYTES(n->data, "Xther contents", 14);
    world_close(&w);
}
