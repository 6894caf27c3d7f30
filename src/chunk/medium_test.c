/*
 * chunk/medium_test.c -- what the page cache shows and what the medium has are not the same: who
 * checks or believes something looks at the medium, also when pages cannot be dropped.
 */
#include "chunk/rig_put_priv.h"

#include "chunk/extent_priv.h"
#include "chunk/rebuild.h"

#define LENGTH 30000u
#define SEEDS 60u

static const enum chunk_engine engines[] = {CHUNK_ENGINE_FILE, CHUNK_ENGINE_EXTENT};
static const struct chunk_key the_key = {.data_id = 9}, other_key = {.data_id = 10};

/* Where its first byte lies in the file. */
struct place {
    struct store_rig *r;
    struct chunk_piece piece;
};
static void place_in(void *ctx)
{
    struct place *p = ctx;
    struct chunk_pin pin = {.key = the_key, .which = CHUNK_COMMITTED, .length = 1};
    unsigned count = 0;
    CHECK_OK(chunk_store_pin(p->r->store, &pin));
    (void)chunk_pin_pieces(p->r->store, &pin, 0, &p->piece, 1, &count);
    CHECK_EQ(count, 1);
    chunk_store_unpin(p->r->store, &pin);
}

static int verify(struct store_rig *r, struct chunk_key key, bool medium);

/* A chunk that is stable and in memory; a bit of it on the medium flips. */
static void rot(struct store_rig *r)
{
    struct place p = {.r = r};
    const char *path = r->opt.engine == CHUNK_ENGINE_FILE ? "/data/00/00/0000000000000009.00000000"
                                                          : "/data/space.0000";
    CHECK_OK(rig_put_whole(r, the_key, 1, LENGTH));
    CHECK_OK(rig_sync(r));
    rig_pass(r, 3000);
    CHECK_OK(verify(r, the_key, true));
    loop_sim_enter(r->loop, place_in, &p);
    CHECK_OK(disk_sim_rot(r->machine, path, p.piece.offset + 5000, 4));
}

static void verify_done(struct chunk_verify *v, int rc)
{
    rig_over(container_of(v, struct store_rig, verify), rc);
}
static void verify_in(void *ctx)
{
    struct store_rig *r = ctx;
    chunk_store_verify(r->store, &r->verify);
}
static int verify(struct store_rig *r, struct chunk_key key, bool medium)
{
    r->verify = (struct chunk_verify){.done = verify_done, .key = key, .medium = medium};
    return rig_wait(r, verify_in);
}

/* ---- Scrub ---- */

TEST(rot_is_found_below_pages_that_stay)
{
    for (size_t i = 0; i < ARRAY_COUNT(engines); i++) {
        struct store_rig *r = rig_new(engines[i], testing_seed());
        rot(r);
        disk_sim_hold_pages(r->machine, true);
        CHECK_OK(verify(r, the_key, false));
        CHECK_EQ(r->damages, 0);
        CHECK_ERR(verify(r, the_key, true), ERR_corrupt);
        CHECK_EQ(r->damages, 1);
        rig_end(r);
    }
}

/* What is not stable is no damage: it goes to the medium first. */
TEST(what_is_dirty_is_no_damage)
{
    for (size_t i = 0; i < ARRAY_COUNT(engines); i++) {
        for (unsigned seed = 0; seed < 20; seed++) {
            struct store_rig *r = rig_new(engines[i], testing_seed() + seed);
            for (uint64_t ver = 1; ver <= 5; ver++) {
                CHECK_OK(rig_put_whole(r, the_key, ver, LENGTH + (uint32_t)ver * 1000));
                CHECK_OK(verify(r, the_key, true));
            }
            CHECK_OK(rig_put(r, (struct rig_piece){other_key, 1, CHUNK_WRITE, 0, 100}));
            CHECK_OK(verify(r, other_key, true));
            CHECK_EQ(r->damages, 0);
            rig_end(r);
        }
    }
}

/* Where nothing can be read past the page cache, it is dropped before. */
TEST(without_direct_transfers_it_is_read_as_well_as_can_be)
{
    for (size_t i = 0; i < ARRAY_COUNT(engines); i++) {
        struct store_rig *r = rig_new(engines[i], testing_seed());
        disk_sim_no_direct(r->machine, true);
        CHECK_OK(rig_put_whole(r, other_key, 1, LENGTH));
        CHECK_OK(verify(r, other_key, true));
        rot(r);
        int rc = 0;
        for (unsigned k = 0; k < 64 && rc == 0; k++) { /* of a part perhaps nothing is dropped */
            rc = verify(r, the_key, true);
        }
        CHECK_ERR(rc, ERR_corrupt);
        CHECK_OK(verify(r, other_key, true));
        rig_end(r);
    }
}

/* ---- Making anew ---- */

static int rebuild(struct store_rig *r, struct chunk_rebuild *how)
{
    *how = (struct chunk_rebuild){.without_journal = false};
    loop_sim_kill(r->loop);
    r->opt.rebuild = how;
    int rc = rig_boot(r);
    if (r->store != NULL) {
        CHECK_TRUE(rig_wait(r, rig_stop_in) < 0);
        CHECK_OK(rig_wait(r, rig_free_in));
    }
    loop_sim_kill(r->loop);
    r->opt.rebuild = NULL;
    return rc;
}

TEST(a_rebuild_keeps_what_the_medium_has)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    struct chunk_rebuild how;
    CHECK_OK(rig_put_whole(r, other_key, 1, LENGTH));
    rot(r);
    disk_sim_hold_pages(r->machine, true);
    (void)rebuild(r, &how);
    CHECK_EQ(how.chunks, 2);
    CHECK_EQ(how.lost_count, 1);
    CHECK_OK(rig_boot(r));
    CHECK_OK(rig_check(r, other_key, 1, LENGTH));
    CHECK_ERR(rig_check(r, the_key, 1, LENGTH), ERR_corrupt);
    rig_end(r);
}

/* ---- Starts ---- */

/* What a sync that failed had to do with is held in memory over the next start. */
static void fail_and_start(struct store_rig *r, uint64_t versions)
{
    CHECK_OK(rig_put_whole(r, the_key, 1, LENGTH));
    CHECK_OK(rig_sync(r));
    for (uint64_t ver = 2; ver <= versions; ver++) {
        CHECK_OK(rig_put_whole(r, the_key, ver, LENGTH));
    }
    disk_sim_fail(r->machine, DISK_SYNC, NULL, 1, 0, -EIO);
    disk_sim_fail(r->machine, DISK_SYNC_ALL, NULL, 1, 0, -EIO);
    CHECK_TRUE(rig_sync(r) < 0);
    loop_sim_kill(r->loop);
    disk_sim_heal(r->machine);
    disk_sim_hold_pages(r->machine, true);
    CHECK_OK(rig_boot(r));
}

/* The pages leave memory, and power goes. */
static void let_go(struct store_rig *r)
{
    disk_sim_hold_pages(r->machine, false);
    CHECK_OK(rig_restart(r, true));
}

TEST(what_a_start_believes_is_on_the_medium)
{
    unsigned seen[3] = {0};
    for (unsigned i = 0; i < SEEDS; i++) {
        struct store_rig *r = rig_new(CHUNK_ENGINE_FILE, testing_seed() + i);
        struct chunk_info before, after;
        fail_and_start(r, 2);
        CHECK_OK(rig_look_up(r, the_key, &before));
        CHECK_OK(rig_sync(r));
        let_go(r);
        CHECK_OK(rig_look_up(r, the_key, &after));
        CHECK_EQ(after.flags & CHUNK_DAMAGED, 0);
        CHECK_EQ(after.committed.ver, before.committed.ver);
        CHECK_EQ(after.has_pending, before.has_pending);
        CHECK_OK(rig_check(r, the_key, after.committed.ver, LENGTH));
        seen[after.committed.ver + (after.has_pending ? 1 : 0)]++;
        rig_end(r);
    }
    CHECK_TRUE(seen[1] > 0 && seen[2] > 0);
}

/* Nor does a record come back that was only in memory, and is written with what lies beside it. */
TEST(what_a_start_rejects_does_not_come_back)
{
    for (unsigned i = 0; i < 20 * SEEDS; i++) {
        struct store_rig *r = rig_new(CHUNK_ENGINE_FILE, testing_seed() + i);
        struct chunk_info info;
        fail_and_start(r, 3);
        CHECK_OK(rig_look_up(r, the_key, &info));
        if (info.has_pending) {
            r->update.key = the_key;
            r->update.identity = info.pending;
            CHECK_OK(rig_wait(r, rig_commit_in));
        }
        uint64_t ver = (info.has_pending ? info.pending.ver : info.committed.ver) + 1;
        CHECK_OK(rig_put_whole(r, the_key, ver, LENGTH - 1000)); /* perhaps of the same number */
        CHECK_OK(rig_sync(r));
        rig_pass(r, 3000);
        let_go(r);
        CHECK_OK(rig_look_up(r, the_key, &info));
        CHECK_EQ(info.has_pending ? info.pending.ver : info.committed.ver, ver);
        if (!info.has_pending) {
            CHECK_OK(rig_check(r, the_key, ver, LENGTH - 1000));
        }
        CHECK_EQ(info.has_pending ? info.pending_length : info.length, LENGTH - 1000);
        rig_end(r);
    }
}
