/*
 * disk/sim_sync_test.c -- syncs that fail in the simulation do what they do on Linux
 * (doc/design/0050).
 */
#include "disk/rig_sim_priv.h"

/* "1" is written to the beginning, and the sync of that fails. */
static void sync_fails(struct world *w, struct disk_file *f)
{
    CHECK_EQ(put(w, f, 0, "1", 1), 1);
    disk_sim_fail(w->machine, DISK_SYNC, NULL, 1, 1, -EIO);
    CHECK_RC((int)now_file(w, DISK_SYNC, f), EIO);
}

static struct disk_file *put_unsynced(struct world *w)
{
    struct disk_file *f = created(w, "/f");
    sync_fails(w, f);
    return f;
}

/* As on Linux: a sync that failed is not repeated by the next, what it covered may be lost. */
TEST(failed_sync_may_lose_what_it_covered)
{
    unsigned lost = 0, kept = 0;
    for (unsigned i = 0; i < SEEDS; i++) {
        struct world w = world_of(testing_seed() + i);
        char out[4] = {0};
        store(&w, "/f", '0', 3);
        struct disk_file *f = put_unsynced(&w);
        CHECK_EQ(put(&w, f, 2, "2", 1), 1);
        CHECK_EQ(now_file(&w, DISK_SYNC, f), 0);
        CHECK_EQ(content(&w, "/f", out, 3), 3);
        CHECK_TEXT(out, "102");
        world_crash(&w);
        CHECK_EQ(content(&w, "/f", out, 3), 3);
        CHECK_TRUE(strcmp(out, "102") == 0 || strcmp(out, "002") == 0);
        lost += out[0] == '0' ? 1 : 0;
        kept += out[0] == '1' ? 1 : 0;
        world_end(&w);
    }
    CHECK_TRUE(lost > SEEDS / 20);
    CHECK_TRUE(kept > SEEDS / 20);
}

/* The page cache shows what a failed sync has left behind until it is told to forget that. */
TEST(drop_shows_what_a_failed_sync_has_left)
{
    unsigned lost = 0, kept = 0;
    for (unsigned i = 0; i < SEEDS; i++) {
        struct world w = world_of(testing_seed() + i);
        char out[4] = {0}, after[4] = {0};
        store(&w, "/f", '0', 3);
        struct disk_file *f = put_unsynced(&w);
        CHECK_EQ(put(&w, f, 2, "2", 1), 1);
        CHECK_EQ(now_file(&w, DISK_DROP, f), 0); /* dirty: not forgotten */
        CHECK_EQ(content(&w, "/f", out, 3), 3);
        CHECK_TEXT(out, "102");
        CHECK_OK(disk_refresh(w.disk, f));
        CHECK_EQ(content(&w, "/f", out, 3), 3);
        CHECK_TRUE(strcmp(out, "102") == 0 || strcmp(out, "002") == 0);
        CHECK_EQ(now_file(&w, DISK_SYNC, f), 0);
        world_crash(&w);
        CHECK_EQ(content(&w, "/f", after, 3), 3);
        CHECK_TEXT(after, out);
        lost += out[0] == '0' ? 1 : 0;
        kept += out[0] == '1' ? 1 : 0;
        world_end(&w);
    }
    CHECK_TRUE(lost > SEEDS / 20);
    CHECK_TRUE(kept > SEEDS / 20);
}

/* A page whose first writeback has failed is written in vain until it has left the page cache; past
 * which the medium is seen as it is. Returns how often the second attempt was lost. */
static unsigned written_again(bool refresh)
{
    unsigned lost = 0;
    for (unsigned i = 0; i < SEEDS; i++) {
        struct world w = world_of(testing_seed() + i);
        char out[4] = {0};
        _Alignas(4096) char past[4096] = {0};
        struct disk_file *f = created(&w, "/f");
        CHECK_EQ(now_range(&w, DISK_ALLOCATE, f, 0, 4096), 0);
        CHECK_EQ(now_file(&w, DISK_SYNC_ALL, f), 0);
        sync_fails(&w, f);
        if (refresh) {
            CHECK_OK(disk_refresh(w.disk, f));
        }
        CHECK_EQ(put(&w, f, 0, "2", 1), 1);
        CHECK_EQ(now_file(&w, DISK_SYNC, f), 0);
        CHECK_EQ(content(&w, "/f", out, 1), 1);
        CHECK_TEXT(out, "2");
        struct disk_req req = {
            .op = DISK_READ, .flags = DISK_PAST_CACHE, .file = f, .buf = past, .len = sizeof past};
        CHECK_EQ(disk_now(w.disk, &req), 4096);
        world_crash(&w);
        CHECK_EQ(content(&w, "/f", out, 1), 1);
        CHECK_EQ(out[0], past[0]);
        CHECK_TRUE(out[0] == '2' || out[0] == 0);
        lost += out[0] == '2' ? 0 : 1;
        world_end(&w);
    }
    return lost;
}

TEST(what_was_never_written_is_written_in_vain_after_a_failed_sync)
{
    CHECK_TRUE(written_again(false) > SEEDS / 20);
    CHECK_EQ(written_again(true), 0);
}
