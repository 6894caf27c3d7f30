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
        CHECK_EQ(put(&w, f, 8192, "2", 1), 1); /* not of the same sector */
        CHECK_EQ(now_file(&w, DISK_SYNC, f), 0);
        CHECK_EQ(content(&w, "/f", out, 3), 3);
        CHECK_TEXT(out, "100");
        world_crash(&w);
        CHECK_EQ(content(&w, "/f", out, 3), 3);
        CHECK_TRUE(strcmp(out, "100") == 0 || strcmp(out, "000") == 0);
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
        CHECK_EQ(put(&w, f, 8192, "2", 1), 1);   /* not of the same sector */
        CHECK_EQ(now_file(&w, DISK_DROP, f), 0); /* dirty: not forgotten */
        CHECK_EQ(content(&w, "/f", out, 3), 3);
        CHECK_TEXT(out, "100");
        CHECK_OK(disk_refresh(w.disk, f));
        CHECK_EQ(content(&w, "/f", out, 3), 3);
        CHECK_TRUE(strcmp(out, "100") == 0 || strcmp(out, "000") == 0);
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

/* ---- What nobody has asked for ---- */

/* Requests that do nothing but let time go by for the kernel. */
static void kernel_writes_back(struct world *w, uint32_t fails_one_of)
{
    struct disk_req req = {.op = DISK_STATFS, .path = "/"};
    disk_sim_writeback(w->machine, 1, fails_one_of);
    for (unsigned i = 0; i < 64; i++) {
        CHECK_EQ(disk_now(w->disk, &req), 0);
    }
    disk_sim_writeback(w->machine, 0, 0);
}

TEST(what_is_dirty_gets_to_the_medium_by_itself)
{
    struct world w = world_of(testing_seed());
    char out[4] = {0};
    store(&w, "/f", '0', 3);
    struct disk_file *f = created(&w, "/f");
    CHECK_EQ(put(&w, f, 0, "1", 1), 1);
    CHECK_EQ(put(&w, f, 0, "23", 2), 2);
    kernel_writes_back(&w, 0);
    disk_sim_crash_mode(w.machine, DISK_SIM_LOSE_ALL);
    world_crash(&w);
    CHECK_EQ(content(&w, "/f", out, 3), 3);
    CHECK_TEXT(out, "230");
    world_end(&w);
}

/* Once for each open file; who opens it afterwards hears of it only if nobody has. */
TEST(a_writeback_that_failed_is_told_once_to_each)
{
    unsigned lost = 0;
    for (unsigned i = 0; i < SEEDS; i++) {
        struct world w = world_of(testing_seed() + i);
        char out[4] = {0};
        store(&w, "/f", '0', 3);
        struct disk_file *f = created(&w, "/f"), *other = created(&w, "/f");
        CHECK_EQ(put(&w, f, 0, "1", 1), 1);
        kernel_writes_back(&w, 1);
        struct disk_file *later = created(&w, "/f");
        CHECK_RC((int)now_file(&w, DISK_SYNC, f), EIO);
        struct disk_file *last = created(&w, "/f");
        CHECK_EQ(now_file(&w, DISK_SYNC, f), 0);
        CHECK_RC((int)now_file(&w, DISK_SYNC_ALL, other), EIO);
        CHECK_EQ(now_file(&w, DISK_SYNC, other), 0);
        CHECK_RC((int)now_file(&w, DISK_SYNC, later), EIO);
        CHECK_EQ(now_file(&w, DISK_SYNC, last), 0);
        CHECK_EQ(content(&w, "/f", out, 3), 3);
        CHECK_TEXT(out, "100"); /* as if it had been written */
        world_crash(&w);
        CHECK_EQ(content(&w, "/f", out, 3), 3);
        lost += out[0] == '0' ? 1 : 0;
        world_end(&w);
    }
    CHECK_TRUE(lost > SEEDS / 20 && lost < SEEDS);
}

/* The error of a process that died goes to the next one that syncs, whoever that is. */
TEST(a_writeback_that_failed_is_told_to_the_next_life)
{
    struct world w = world_of(testing_seed());
    store(&w, "/f", '0', 3);
    struct disk_file *f = created(&w, "/f");
    CHECK_EQ(put(&w, f, 0, "1", 1), 1);
    kernel_writes_back(&w, 1);
    world_kill(&w);
    world_boot(&w);
    f = created(&w, "/f");
    CHECK_RC(disk_refresh(w.disk, f), EIO);
    CHECK_OK(disk_refresh(w.disk, f));
    world_end(&w);
}

/* Of what lies in several pages that were never written some may get there, and others neither
 * then nor later. */
TEST(a_first_writeback_fails_for_some_pages)
{
    unsigned torn = 0;
    char bytes[8192], past[1] = {0}, out[1] = {0};
    memset(bytes, '1', sizeof bytes);
    for (unsigned i = 0; i < SEEDS; i++) {
        struct world w = world_of(testing_seed() + i);
        struct disk_file *f = created(&w, "/f");
        CHECK_EQ(now_range(&w, DISK_ALLOCATE, f, 0, sizeof bytes), 0);
        CHECK_EQ(now_file(&w, DISK_SYNC_ALL, f), 0);
        CHECK_EQ(put(&w, f, 0, bytes, sizeof bytes), (int64_t)sizeof bytes);
        kernel_writes_back(&w, 1);
        CHECK_RC((int)now_file(&w, DISK_SYNC, f), EIO);
        CHECK_EQ(put(&w, f, 0, "2", 1), 1);
        CHECK_EQ(put(&w, f, 4096, "2", 1), 1);
        CHECK_EQ(now_file(&w, DISK_SYNC, f), 0);
        disk_sim_evict(w.machine);
        struct disk_req first = {.op = DISK_READ, .file = f, .buf = out, .len = 1};
        struct disk_req second = {
            .op = DISK_READ, .file = f, .offset = 4096, .buf = past, .len = 1};
        CHECK_EQ(disk_now(w.disk, &first), 1);
        CHECK_EQ(disk_now(w.disk, &second), 1);
        CHECK_TRUE((out[0] == '2' || out[0] == 0) && (past[0] == '2' || past[0] == 0));
        torn += out[0] != past[0] ? 1 : 0;
        world_end(&w);
    }
    CHECK_TRUE(torn > SEEDS / 20);
}

/* One of two syncs of an open file hears of the error; the other one may be over before. */
struct two {
    struct world *w;
    struct disk_req req[2];
    int64_t rc[2];
    unsigned over;
    bool first_is_last; /* the one that failed said so after the other one was over */
};
static void two_done(struct disk_req *req, int64_t rc)
{
    struct two *t = (struct two *)req->buf;
    size_t i = (size_t)(req - t->req);
    t->rc[i] = rc;
    t->first_is_last = t->first_is_last || (i == 0 && t->over == 1);
    t->over++;
}
static void two_submit(void *ctx)
{
    struct two *t = ctx;
    disk_submit(t->w->disk, &t->req[0]);
    disk_submit(t->w->disk, &t->req[1]);
}
static bool two_are_over(void *ctx)
{
    return ((struct two *)ctx)->over == 2;
}
TEST(one_of_two_syncs_hears_of_an_error)
{
    unsigned late = 0;
    for (unsigned i = 0; i < SEEDS; i++) {
        struct world w = world_of(testing_seed() + i);
        char out[4] = {0};
        store(&w, "/f", '0', 3);
        struct disk_file *f = created(&w, "/f");
        CHECK_EQ(put(&w, f, 0, "1", 1), 1);
        struct two t = {.w = &w};
        for (size_t k = 0; k < 2; k++) {
            t.req[k] = (struct disk_req){.op = DISK_SYNC, .file = f, .buf = &t, .done = two_done};
        }
        disk_sim_fail(w.machine, DISK_SYNC, NULL, 1, 1, -EIO);
        loop_sim_enter(w.loop, two_submit, &t);
        CHECK_TRUE(
            loop_sim_run(w.sim, two_are_over, &t, loop_sim_now_ns(w.sim) + UINT64_C(10000000000)));
        CHECK_EQ(t.rc[0], -EIO);
        CHECK_EQ(t.rc[1], 0);
        world_crash(&w);
        CHECK_EQ(content(&w, "/f", out, 3), 3);
        late += t.first_is_last && out[0] == '0' ? 1 : 0;
        world_end(&w);
    }
    CHECK_TRUE(late > SEEDS / 50);
}

/* ---- What stays in memory ---- */

TEST(held_pages_are_not_dropped)
{
    struct world w = world_of(testing_seed());
    char out[4] = {0};
    _Alignas(4096) char past[4096] = {0};
    store(&w, "/f", '0', 3);
    struct disk_file *f = created(&w, "/f");
    struct disk_req req = {
        .op = DISK_READ, .flags = DISK_PAST_CACHE, .file = f, .buf = past, .len = sizeof past};
    CHECK_OK(disk_sim_rot(w.machine, "/f", 1, 1));
    CHECK_RC(disk_sim_rot(w.machine, "/f", 4096, 1), ERANGE);
    CHECK_RC(disk_sim_rot(w.machine, "/none", 1, 1), ENOENT);
    disk_sim_hold_pages(w.machine, true);
    CHECK_OK(disk_refresh(w.disk, f));
    CHECK_EQ(content(&w, "/f", out, 3), 3);
    CHECK_TEXT(out, "000");
    CHECK_EQ(disk_now(w.disk, &req), 3);
    CHECK_BYTES(past, "010", 3);
    disk_sim_hold_pages(w.machine, false);
    CHECK_OK(disk_refresh(w.disk, f));
    CHECK_EQ(content(&w, "/f", out, 3), 3);
    CHECK_TEXT(out, "010");
    world_end(&w);
}
