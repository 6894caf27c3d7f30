#include "client/scan_priv.h"

#include "client/fake_world_priv.h"
#include "opendfs/sparse.h"
#include "testing/testing.h"

/* Files that are far larger than what is in them: nothing is asked, or done, for what is not there.
 */

#define MAKE (OPENDFS_READ | OPENDFS_WRITE | OPENDFS_CREATE)
#define CHUNK ((uint64_t)FAKE_CHUNK_BYTES)
#define LARGEST (UINT64_C(1) << 60)
#define FAR (CHUNK << 31)

static uint8_t bytes[2 * FAKE_CHUNK_BYTES], got[2 * FAKE_CHUNK_BYTES];

static struct opendfs_file *begin(struct world *w)
{
    world_open(w, testing_seed());
    world_start(w);
    world_fill(bytes, sizeof bytes, 1);
    return world_file(w, "/f", MAKE);
}

static struct fake_chunk *chunk_of(struct world *w, uint64_t offset)
{
    const struct fake_inode *n = fake_path(w->cluster, "f");
    CHECK_TRUE(n != NULL);
    return fake_chunk(w->cluster,
                      (struct proto_chunk){n->layout.data_id, (uint32_t)(offset / CHUNK)}, false);
}

static void check_zeros(struct world *w, struct opendfs_file *f, uint64_t offset)
{
    memset(got, 1, 100);
    CHECK_EQ(DO(w, pread, f, got, 100, offset), 100);
    for (unsigned i = 0; i < 100; i++) {
        CHECK_EQ(got[i], 0);
    }
}

TEST(a_truncation_cuts_only_chunks_that_are_there)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    static const uint64_t at[] = {0, 3000 * CHUNK, 90000 * CHUNK, FAR};
    for (size_t i = 0; i < ARRAY_COUNT(at); i++) {
        CHECK_EQ(DO(&w, pwrite, f, bytes, 6000, at[i]), 6000);
    }
    CHECK_OK(DO(&w, fsync, f));
    CHECK_EQ(fake_path(w.cluster, "f")->attr.size, FAR + 6000);
    unsigned writes = w.cluster->writes;
    CHECK_OK(DO(&w, ftruncate, f, 3000 * CHUNK + 5000));
    CHECK_EQ(w.cluster->writes - writes, 3);
    CHECK_EQ(chunk_of(&w, 0)->length, 6000);
    CHECK_EQ(chunk_of(&w, 3000 * CHUNK)->length, 5000);
    CHECK_EQ(chunk_of(&w, FAR)->length, 0);
    CHECK_OK(DO(&w, ftruncate, f, FAR + CHUNK));
    check_zeros(&w, f, FAR);
    check_zeros(&w, f, 3000 * CHUNK + 5000);
    CHECK_EQ(DO(&w, pread, f, got, 5000, 3000 * CHUNK), 5000);
    CHECK_BYTES(got, bytes, 5000);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

/* More chunks than an answer of the fake servers has. */
TEST(a_truncation_cuts_page_by_page)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    for (unsigned i = 0; i < 100; i++) {
        CHECK_EQ(DO(&w, pwrite, f, bytes, 5000, 7 * i * CHUNK), 5000);
    }
    CHECK_OK(DO(&w, fsync, f));
    CHECK_OK(DO(&w, ftruncate, f, 10));
    for (unsigned i = 1; i < 100; i++) {
        CHECK_EQ(chunk_of(&w, 7 * i * CHUNK)->length, 0);
    }
    CHECK_EQ(chunk_of(&w, 0)->length, 10);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

TEST(sizes_up_to_the_largest_cost_nothing)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, bytes, 6000, 0), 6000);
    CHECK_OK(DO(&w, ftruncate, f, LARGEST));
    CHECK_OK(DO(&w, fsync, f));
    CHECK_EQ(fake_path(w.cluster, "f")->attr.size, LARGEST);
    check_zeros(&w, f, LARGEST / 2);       /* by a number of 32 bits it would be the first chunk */
    check_zeros(&w, f, LARGEST / 2 + 100); /* read on in order */
    check_zeros(&w, f, (CHUNK << 32) - 50);
    CHECK_EQ(DO(&w, pread_lent, f, 100, LARGEST / 2), 100);
    CHECK_EQ(((const uint8_t *)w.op.data)[0], 0);
    opendfs_async_release(w.fs, &w.op);
    unsigned writes = w.cluster->writes, asked = w.cluster->stats;
    CHECK_OK(DO(&w, ftruncate, f, LARGEST / 2 + 1)); /* behind all that can be there */
    CHECK_OK(DO(&w, ftruncate, f, 100));
    CHECK_EQ(w.cluster->writes - writes, 1);
    CHECK_TRUE(w.cluster->stats - asked <= 3 * FAKE_CHAINS);
    CHECK_OK(DO(&w, fstat, f));
    CHECK_EQ(w.op.stat.size_bytes, 100);
    CHECK_EQ(DO(&w, pread, f, got, 200, 0), 100);
    CHECK_BYTES(got, bytes, 100);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

TEST(beyond_the_largest_size_is_too_large)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, ftruncate, f, LARGEST + 1), -EFBIG);
    CHECK_EQ(DO(&w, pwrite, f, bytes, 1, LARGEST), -EFBIG);
    CHECK_EQ(DO(&w, pwrite, f, bytes, 2, CHUNK << 32), -EFBIG); /* a chunk without a number */
    CHECK_EQ(DO(&w, pwrite, f, bytes, 2, (CHUNK << 32) - 1), -EFBIG);
    CHECK_EQ(DO(&w, pwrite, f, bytes, 1, (CHUNK << 32) - 1), 1);
    CHECK_OK(DO(&w, fsync, f));
    CHECK_OK(DO(&w, fstat, f));
    CHECK_EQ(w.op.stat.size_bytes, CHUNK << 32);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

/* Members that are busy, or lose their role, or have a change under way, while they are asked. */
TEST(members_that_cannot_say_are_asked_again)
{
    static const int codes[] = {ERR_busy, ERR_pending, ERR_not_serving, ERR_stale_epoch};
    for (size_t k = 0; k < ARRAY_COUNT(codes); k++) {
        struct world w;
        struct opendfs_file *f = begin(&w);
        CHECK_EQ(DO(&w, pwrite, f, bytes, 6000, 0), 6000);
        CHECK_EQ(DO(&w, pwrite, f, bytes, 6000, FAR), 6000);
        CHECK_OK(DO(&w, fsync, f));
        for (unsigned i = 1; i < NODES; i++) {
            w.node[i].stat_fault = (struct fake_fault){.rc = -codes[k], .count = 2};
        }
        CHECK_OK(DO(&w, ftruncate, f, 5000));
        CHECK_EQ(chunk_of(&w, FAR)->length, 0);
        CHECK_OK(DO(&w, close, f, NULL, 0));
        world_close(&w);
    }
}

/* The client ends in the middle of it. */
TEST(a_client_ends_while_it_asks)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, bytes, 6000, FAR), 6000);
    CHECK_OK(DO(&w, fsync, f));
    for (unsigned i = 1; i < NODES; i++) {
        w.node[i].stat_fault = (struct fake_fault){.rc = -ERR_busy, .count = 1000000};
    }
    opendfs_async_ftruncate(w.fs, world_op(&w), f, 5000);
    world_run(&w, SECOND);
    CHECK_EQ(w.done, false);
    world_close(&w);
    CHECK_EQ(w.op.result, -ECANCELED);
}
