#include "client/io_priv.h"

#include "client/fake_world_priv.h"
#include "testing/testing.h"

/* Written data that are lost: each handle of the file is told, also those that only read, and
 * whoever asks first does not take that from the others. */

#define RW (OPENDFS_READ | OPENDFS_WRITE)
#define CHUNK ((size_t)FAKE_CHUNK_BYTES)

static uint8_t bytes[2 * CHUNK];

/* Acknowledged by the chains, not synced: and then they lose power. */
static struct opendfs_file *lose(struct world *w, unsigned flags, struct opendfs_file **other)
{
    world_open(w, testing_seed());
    world_start(w);
    struct opendfs_file *f = world_file(w, "/f", RW | OPENDFS_CREATE);
    *other = world_file(w, "/f", flags);
    world_fill(bytes, sizeof bytes, 1);
    CHECK_EQ(DO(w, pwrite, f, bytes, sizeof bytes, 0), sizeof bytes);
    CHECK_EQ(DO(w, pread, f, bytes, 1, 0), 1); /* both chunks have been sent */
    world_run(w, SECOND);
    w->cluster->chain[0].loss_gen++;
    w->cluster->chain[0].epoch++;
    return f;
}

static bool told(unsigned flags, bool other_first)
{
    struct world w;
    struct opendfs_file *g, *f = lose(&w, flags, &g);
    struct opendfs_file *first = other_first ? g : f, *second = other_first ? f : g;
    CHECK_EQ(DO(&w, fsync, first), -EIO);
    CHECK_OK(DO(&w, fsync, first)); /* it has been told; the other one not */
    CHECK_EQ(DO(&w, fsync, second), -EIO);
    CHECK_OK(DO(&w, fsync, second));
    CHECK_EQ(DO(&w, close, f, NULL, 0), -EIO);
    CHECK_EQ(DO(&w, close, g, NULL, 0), (flags & OPENDFS_WRITE) != 0 ? -EIO : 0);
    world_close(&w);
    return true;
}

TEST(lost_data_are_told_to_each_handle_by_its_fsync)
{
    for (unsigned first = 0; first < 2; first++) {
        CHECK_TRUE(told(RW, first != 0));
        CHECK_TRUE(told(OPENDFS_READ, first != 0));
    }
}

/* Who has written has closed the file: who has it still, and asks, hears it. */
TEST(lost_data_of_a_closed_writer_are_told_to_readers)
{
    struct world w;
    struct opendfs_file *g, *f = lose(&w, OPENDFS_READ, &g);
    CHECK_OK(DO(&w, close, f, NULL, 0)); /* nobody has noticed yet */
    CHECK_EQ(DO(&w, fsync, g), -EIO);
    CHECK_OK(DO(&w, fsync, g));
    CHECK_OK(DO(&w, close, g, NULL, 0));
    world_close(&w);
}

/* What another handle has written, and what a closed one had. */
TEST(readers_sync_what_others_have_written)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    struct opendfs_file *f = world_file(&w, "/f", RW | OPENDFS_CREATE);
    struct opendfs_file *g = world_file(&w, "/f", OPENDFS_READ);
    world_fill(bytes, sizeof bytes, 1);
    CHECK_EQ(DO(&w, pwrite, f, bytes, sizeof bytes, 0), sizeof bytes);
    CHECK_OK(DO(&w, fsync, g));
    unsigned syncs = w.cluster->syncs;
    CHECK_TRUE(syncs > 0);
    CHECK_EQ(fake_path(w.cluster, "f")->attr.size, sizeof bytes); /* the size is on record, too */
    CHECK_OK(DO(&w, fsync, f));
    CHECK_EQ(w.cluster->syncs, syncs); /* nothing is left */
    CHECK_OK(DO(&w, close, g, NULL, 0));
    CHECK_EQ(DO(&w, pwrite, f, bytes, CHUNK, 0), CHUNK);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    g = world_file(&w, "/f", OPENDFS_READ);
    CHECK_OK(DO(&w, fsync, g));
    CHECK_TRUE(w.cluster->syncs > syncs);
    CHECK_OK(DO(&w, close, g, NULL, 0));
    world_close(&w);
}
