#include "client/io_priv.h"

#include "client/fake_world_priv.h"
#include "testing/testing.h"

/*
 * What is probably the last close of a file that was written gives the authority back with its
 * commit. Was it not the last one, then who writes on gets it again.
 */

#define RW (OPENDFS_READ | OPENDFS_WRITE)
#define MAKE (RW | OPENDFS_CREATE)

static int flush_last(struct world *w, struct opendfs_file *f)
{
    client_flush_last(w->fs, world_op(w), f);
    return world_wait(w);
}
static unsigned executed(const struct world *w, unsigned opcode)
{
    return w->cluster->executed[opcode % 1024];
}
static struct fake_inode *file(struct world *w)
{
    struct fake_inode *n = fake_path(w->cluster, "f");
    CHECK(n != NULL);
    return n;
}
static struct opendfs_file *begin(struct world *w)
{
    world_open(w, testing_seed());
    world_start(w);
    return world_file(w, "/f", MAKE);
}

TEST(a_small_file_costs_two_mutations)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, "hello", 5, 0), 5);
    CHECK_OK(flush_last(&w, f));
    CHECK_EQ(file(&w)->data_len, 5);
    CHECK_EQ(executed(&w, PROTO_OP_commit), 1);
    CHECK_TRUE((w.cluster->commit_flags & PROTO_COMMIT_RELEASE) != 0);
    CHECK_TRUE((w.cluster->commit_flags & PROTO_COMMIT_OPEN) != 0);
    CHECK_EQ(w.cluster->closed, 0);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_run(&w, SECOND);
    CHECK_EQ(w.cluster->closed, 1); /* which the leader is told of soon */
    CHECK_EQ(w.cluster->mutations, 2);
    world_close(&w);
}

/* That it is there was told when it was made. */
TEST(an_empty_file_says_nothing_when_it_is_closed)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_OK(flush_last(&w, f));
    CHECK_EQ(executed(&w, PROTO_OP_commit), 0);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(executed(&w, PROTO_OP_commit), 1);
    CHECK_TRUE((w.cluster->commit_flags & PROTO_COMMIT_RELEASE) != 0);
    world_close(&w);
}

/* The shell opens, its child writes, both close. */
TEST(who_writes_on_gets_the_authority_again)
{
    struct world w;
    char got[16] = "";
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, "hello", 5, 0), 5);
    CHECK_OK(flush_last(&w, f));
    CHECK_EQ(executed(&w, PROTO_OP_wopen), 0);
    CHECK_EQ(DO(&w, pwrite, f, " world", 6, 5), 6);
    CHECK_EQ(executed(&w, PROTO_OP_wopen), 1);
    CHECK_EQ(DO(&w, pread, f, got, sizeof got, 0), 11);
    CHECK_BYTES(got, "hello world", 11);
    CHECK_OK(flush_last(&w, f)); /* not a second time */
    CHECK_TRUE((w.cluster->commit_flags & PROTO_COMMIT_RELEASE) == 0);
    CHECK_EQ(file(&w)->data_len, 11);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_TRUE((w.cluster->commit_flags & PROTO_COMMIT_RELEASE) != 0);
    CHECK_BYTES(file(&w)->data, "hello world", 11);
    world_close(&w);
}

TEST(what_others_have_written_meanwhile_is_kept)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, "hello", 5, 0), 5);
    CHECK_OK(flush_last(&w, f));
    memcpy(file(&w)->data, "J", 1); /* another client */
    file(&w)->attr.version++;
    CHECK_EQ(DO(&w, pwrite, f, "!", 1, 4), 1);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_BYTES(file(&w)->data, "Jell!", 5);
    world_close(&w);
}

/* In chunks, and longer: also what looks at it, without writing. */
TEST(a_large_file_is_written_on)
{
    static uint8_t bytes[3 * FAKE_CHUNK_BYTES], got[3 * FAKE_CHUNK_BYTES];
    struct world w;
    struct opendfs_file *f = begin(&w);
    world_fill(bytes, sizeof bytes, 9);
    CHECK_EQ(DO(&w, pwrite, f, bytes, FAKE_CHUNK_BYTES + 100, 0), FAKE_CHUNK_BYTES + 100);
    CHECK_OK(flush_last(&w, f));
    CHECK_TRUE((w.cluster->commit_flags & PROTO_COMMIT_RELEASE) != 0);
    CHECK_OK(DO(&w, fstat, f));
    CHECK_EQ(w.op.stat.size_bytes, FAKE_CHUNK_BYTES + 100);
    CHECK_EQ(DO(&w, pread, f, got, sizeof got, 0), FAKE_CHUNK_BYTES + 100);
    size_t rest = sizeof bytes - FAKE_CHUNK_BYTES - 100;
    CHECK_EQ(DO(&w, pwrite, f, bytes + FAKE_CHUNK_BYTES + 100, rest, FAKE_CHUNK_BYTES + 100),
             (int)rest);
    CHECK_OK(DO(&w, fsync, f));
    CHECK_OK(DO(&w, close, f, NULL, 0));
    f = world_file(&w, "/f", OPENDFS_READ);
    CHECK_EQ(DO(&w, pread, f, got, sizeof got, 0), (int)sizeof got);
    CHECK_BYTES(got, bytes, sizeof bytes);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

/* Another handle that writes is no last close. */
TEST(of_two_handles_neither_is_the_last)
{
    struct world w;
    struct opendfs_file *f = begin(&w), *g = world_file(&w, "/f", RW);
    CHECK_EQ(DO(&w, pwrite, f, "hello", 5, 0), 5);
    CHECK_OK(flush_last(&w, f));
    CHECK_TRUE((w.cluster->commit_flags & PROTO_COMMIT_RELEASE) == 0);
    CHECK_EQ(DO(&w, pwrite, g, "J", 1, 0), 1);
    CHECK_EQ(executed(&w, PROTO_OP_wopen), 1); /* that of g */
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_OK(DO(&w, close, g, NULL, 0));
    CHECK_BYTES(file(&w)->data, "Jello", 5);
    world_close(&w);
}

/* The commit fails: the authority stays, the end of the handle tries again. */
TEST(a_commit_that_fails_parks_nothing)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, "hello", 5, 0), 5);
    w.cluster->meta_fault_op = PROTO_OP_commit;
    w.cluster->meta_fault = (struct fake_fault){.count = 1, .rc = -EDQUOT};
    CHECK_EQ(flush_last(&w, f), -EDQUOT);
    CHECK_EQ(DO(&w, pwrite, f, "J", 1, 0), 1);
    CHECK_EQ(executed(&w, PROTO_OP_wopen), 0);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_BYTES(file(&w)->data, "Jello", 5);
    world_close(&w);
}

TEST(who_may_not_have_it_again_is_told)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, "hello", 5, 0), 5);
    CHECK_OK(flush_last(&w, f));
    w.cluster->meta_fault_op = PROTO_OP_wopen;
    w.cluster->meta_fault = (struct fake_fault){.count = 1, .rc = -EACCES};
    CHECK_EQ(DO(&w, pwrite, f, "J", 1, 0), -EACCES);
    (void)DO(&w, close, f, NULL, 0);
    CHECK_BYTES(file(&w)->data, "hello", 5);
    world_close(&w);
}
