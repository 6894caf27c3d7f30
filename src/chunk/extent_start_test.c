/*
 * chunk/extent_start_test.c -- starts of the `extent` engine that reject what a power cut left half
 * done: nothing may bring it back, neither a start that fails nor an older checkpoint.
 */
#include "chunk/rig_put_priv.h"

#include "base/fault.h"
#include "chunk/extent_priv.h"
#include "tree/super.h"

#define LENGTH (9 * CHUNK_CELL + 100) /* more than a record carries */
#define FAULTS_MAX 200u

#define CARRIED (3 * CHUNK_CELL + 100) /* one that does */

static const struct chunk_key the_key = {.data_id = 7}, other_key = {.data_id = 8},
                              carried_key = {.data_id = 9};

static void flips_in(void *ctx)
{
    struct store_rig *r = ctx;
    rig_over(r, chunk_extent_flush_flips(r->store->extent));
}

static bool recorded(void *ctx)
{
    const struct store_rig *r = ctx;
    return list_empty(&r->store->extent->appending);
}

static void commits_recorded(struct store_rig *r)
{
    CHECK_OK(rig_wait(r, flips_in));
    CHECK_TRUE(loop_sim_run(r->sim, recorded, r, loop_sim_now_ns(r->sim) + RIG_LIMIT_NS));
}

/* The medium has lost what was written there for a content. */
static void lose(struct store_rig *r, uint64_t unit)
{
    CHECK_OK(disk_sim_corrupt(r->machine, "/data/space.0000", unit * CHUNK_UNIT + 5, 4));
}

static uint64_t second_unit(struct store_rig *r, struct chunk_key key)
{
    return chunk_entry_get(r->store, key, false)->committed->block[1];
}

/* A content that is stable, and a newer one of which the medium has the records only; beside it
 * another of which it has the records only, but they carry it. The machine was started again. */
static struct store_rig *rig_half(bool committed)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    rig_stop(r);
    r->opt.flush_ms = 10000000;
    CHECK_OK(rig_boot(r));
    CHECK_OK(rig_put_whole(r, the_key, 1, LENGTH));
    CHECK_OK(rig_sync(r));
    CHECK_OK(rig_put_whole(r, carried_key, 1, CARRIED));
    CHECK_TRUE(r->store->extent->container[0]->late && !r->store->extent->container[0]->dirty);
    commits_recorded(r);
    CHECK_OK(rig_put_whole(r, the_key, 2, LENGTH));
    uint64_t unit = second_unit(r, the_key), carried = second_unit(r, carried_key);
    if (committed) {
        commits_recorded(r);
    }
    disk_sim_crash_mode(r->machine, DISK_SIM_KEEP_ALL);
    loop_sim_kill(r->loop);
    disk_sim_crash(r->machine);
    loop_sim_reboot(r->sim, 1);
    lose(r, unit);
    lose(r, carried);
    return r;
}

/* The first content is there, and no trace of the second; so is what a record carried. */
static void check_first(struct store_rig *r)
{
    struct chunk_info info;
    struct chunk_store_info all;
    CHECK_OK(rig_check(r, carried_key, 1, CARRIED));
    CHECK_OK(rig_check(r, the_key, 1, LENGTH));
    CHECK_OK(rig_look_up(r, the_key, &info));
    CHECK_TRUE(!info.has_pending);
    CHECK_EQ(info.flags & CHUNK_DAMAGED, 0);
    chunk_store_info(r->store, &all);
    CHECK_EQ(all.wrong, 0);
    CHECK_EQ(all.pending_count, 0);
}

/* Of the index; nobody has it open. */
static void damage_newest(struct store_rig *r)
{
    struct tree_super super;
    uint64_t newest = 0, at = 0;
    CHECK_OK(loop_sim_process(r->sim, "data", 1, &r->loop));
    CHECK_OK(disk_sim_open(r->machine, r->loop, &r->disk));
    struct disk_req req = {.op = DISK_OPEN, .path = "/data/index", .flags = DISK_READ_ONLY};
    CHECK_EQ(disk_now(r->disk, &req), 0);
    struct disk_file *file = req.file;
    for (uint64_t place = 0; place < TREE_SUPER_PLACES; place++) {
        uint8_t bytes[TREE_SUPER_BYTES];
        uint64_t offset = tree_super_offset(place);
        req = (struct disk_req){
            .op = DISK_READ, .file = file, .offset = offset, .buf = bytes, .len = sizeof bytes};
        CHECK_EQ(disk_now(r->disk, &req), sizeof bytes);
        if (tree_super_decode(bytes, offset, &super, NULL) == 0 && super.checkpoint > newest) {
            newest = super.checkpoint;
            at = offset;
        }
    }
    CHECK_TRUE(newest > 0);
    loop_sim_kill(r->loop);
    CHECK_OK(disk_sim_corrupt(r->machine, "/data/index", at + 40, 1));
}

/* Rounds make more stable; then the newest checkpoint of the index is damaged. */
static void check_older(struct store_rig *r)
{
    CHECK_OK(rig_put_whole(r, other_key, 1, LENGTH));
    CHECK_OK(rig_sync(r));
    loop_sim_kill(r->loop);
    damage_newest(r);
    CHECK_OK(rig_boot(r));
    check_first(r);
    CHECK_OK(rig_check(r, other_key, 1, LENGTH));
}

static unsigned rejected(bool committed)
{
    struct store_rig *r = rig_half(committed);
    struct chunk_store_info info;
    CHECK_OK(rig_boot(r));
    check_first(r);
    chunk_store_info(r->store, &info);
    CHECK_TRUE(info.lossy);
    check_older(r);
    rig_stop(r);
    CHECK_OK(rig_boot(r));
    check_first(r);
    rig_stop(r);
    rig_end(r);
    return 1;
}

/* The checkpoint before the start's own, and the journal behind it, do not bring it back. */
TEST(an_older_checkpoint_does_not_know_what_was_rejected)
{
    CHECK_EQ(rejected(true) + rejected(false), 2);
}

/* A start that fails at its nth request of the kind; false: it needs fewer. */
static bool interrupted(bool committed, enum disk_op op, unsigned nth)
{
    struct store_rig *r = rig_half(committed);
    disk_sim_fail(r->machine, op, "/data/index", nth, 0, -EIO);
    bool failed = rig_boot(r) < 0;
    loop_sim_kill(r->loop);
    disk_sim_heal(r->machine);
    if (failed) {
        CHECK_OK(rig_boot(r));
        check_first(r);
        check_older(r);
        rig_stop(r);
    }
    rig_end(r);
    return failed;
}

/* Nor does a start that rejected it and did not come to its end. */
TEST(what_a_failed_start_rejected_stays_rejected)
{
    static const enum disk_op ops[] = {DISK_WRITE, DISK_SYNC};
    for (unsigned i = 0; i < 2 * ARRAY_COUNT(ops); i++) {
        unsigned nth = 1;
        while (interrupted(i % 2 == 0, ops[i / 2], nth)) {
            nth++;
            CHECK_TRUE(nth < FAULTS_MAX);
        }
        CHECK_TRUE(nth > 2); /* one in each of two checkpoints at least */
    }
}

/* The index moves what it had in memory while a start reads it, and may give up what that looks at:
 * the start goes on with a newer state, whichever read it was. */
TEST(a_start_goes_on_when_the_index_gives_up_its_snapshot)
{
    struct fault *f = fault_new();
    CHECK(f != NULL);
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    for (uint64_t i = 0; i < 40; i++) {
        CHECK_OK(rig_put_whole(r, (struct chunk_key){.data_id = 100 + i}, 1, LENGTH));
    }
    CHECK_OK(rig_sync(r));
    rig_stop(r);
    r->fault = f;
    uint64_t reads = 0, before = fault_passed(f, "tree.snapshot");
    for (uint64_t nth = 1; nth <= reads + 1; nth++) {
        fault_arm(f, "tree.snapshot", nth, 1 + nth % 2);
        CHECK_OK(rig_boot(r));
        fault_disarm(f, NULL);
        reads = base_max(reads, fault_passed(f, "tree.snapshot") - before);
        CHECK_OK(rig_check(r, (struct chunk_key){.data_id = 100 + nth % 40}, 1, LENGTH));
        rig_stop(r);
        before = fault_passed(f, "tree.snapshot");
    }
    CHECK_TRUE(reads > 3);
    rig_end(r);
    fault_free(f);
}
