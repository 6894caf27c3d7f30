/*
 * tree/tree_checkpoint_test.c -- checkpoints and openings of small trees on a simulated disk: what
 * a restart finds, what space and numbers are left, what damage and full disks do.
 */
#include "tree/rig_calls_priv.h"

#include "base/fault.h"

/* ---- memtables only ---- */

TEST(checkpoint_of_memtables_is_found_again)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1);
    CHECK_TRUE(r->tree.found.index == 0 && r->tree.found.older == 0 && !r->tree.found.fell_back);
    commits(r, 5);
    CHECK_OK(checkpoint(r));
    CHECK_EQ(kv_checkpoints(r->tree.kv).durable_index, 5);
    commits(r, 3);
    reopen(r, true);
    CHECK_TRUE(r->tree.found.index == 5 && r->tree.found.term == 5);
    CHECK_EQ(kv_checkpoints(r->tree.kv).durable_index, 5);
    check_all(r);
    commits(r, 4);
    CHECK_OK(checkpoint(r)); /* of the memtable that was loaded, and of another one */
    commits(r, 1);
    reopen(r, false);
    CHECK_TRUE(r->tree.found.index == 9 && r->tree.found.older == 5);
    check_all(r);
}

TEST(checkpoint_of_nothing)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1);
    CHECK_EQ(kv_checkpoints(r->tree.kv).next_bytes, 0);
    CHECK_OK(checkpoint(r));
    CHECK_OK(checkpoint(r));
    reopen(r, true);
    CHECK_EQ(r->tree.found.index, 0);
    check_all(r);
}

/* What an older checkpoint has kept is listed, not written again. */
TEST(checkpoint_keeps_a_memtable_once)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1);
    commits(r, 6);
    uint64_t before = kv_checkpoints(r->tree.kv).next_bytes;
    CHECK_TRUE(before > 0);
    CHECK_OK(checkpoint(r));
    CHECK_EQ(kv_checkpoints(r->tree.kv).next_bytes, 0);
    look(r);
    uint64_t first = r->counts.written_bytes;
    CHECK_OK(checkpoint(r));
    look(r);
    uint64_t second = r->counts.written_bytes - first;
    CHECK_OK(checkpoint(r));
    look(r);
    CHECK_EQ(r->counts.written_bytes - first - second, second);
    CHECK_TRUE(second < first); /* index, list, superblock: as much each time */
    reopen(r, true);
    CHECK_EQ(r->tree.found.index, 6);
    check_all(r);
}

/* What was kept with a large cache must be loaded: an administrator may have made it smaller. */
TEST(a_smaller_cache_opens_what_a_larger_one_has_kept)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1);
    const uint64_t kept = 256u << 10;
    struct tree_statistics s = {0};
    for (unsigned i = 0; s.memtable_bytes < kept + (64u << 10); i++) {
        CHECK_TRUE(i < 10000);
        commits(r, 1);
        tree_statistics(r->tree.kv, &s);
    }
    uint64_t index = kv_applied_index(r->tree.kv);
    CHECK_OK(checkpoint(r));
    r->tree.opt.cache_bytes = kept;
    reopen(r, true);
    CHECK_EQ(r->tree.found.index, index);
    r->tree.opt.cache_bytes = 8u << 20;
    reopen(r, true);
    check_all(r);
}

TEST(checkpoint_is_one_at_a_time)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1);
    commits(r, 3);
    run(r, checkpoint_in);
    run(r, second_in);
    CHECK_EQ(r->second.index, 3);
    CHECK_TRUE(testing_machine_until(&r->tree.machine, is_second_done, r, 600000));
    CHECK_RC(r->second_rc, EALREADY);
    CHECK_OK(wait_checkpoint(r));
    run(r, second_in);
    CHECK_TRUE(testing_machine_until(&r->tree.machine, is_second_done, r, 600000));
    CHECK_OK(r->second_rc);
}

/* The state is that of the call, whatever is committed while it is written. */
TEST(checkpoint_is_of_the_moment_of_its_call)
{
    for (unsigned steps = 0; steps < 40; steps++) {
        CLEANUP(rig_freep) struct rig *r = rig_new(steps);
        commits(r, 4);
        run(r, checkpoint_in);
        for (unsigned i = 0; !r->done; i++) {
            if (i % 40 == steps) {
                commits(r, 1);
            }
            testing_machine_steps(&r->tree.machine, 1);
        }
        CHECK_OK(r->rc);
        reopen(r, true);
        CHECK_EQ(r->tree.found.index, 4);
        check_all(r);
    }
}

TEST(checkpoint_is_cancelled_at_any_moment)
{
    unsigned cancelled = 0, finished = 0;
    for (unsigned steps = 0; steps < 60; steps++) {
        CLEANUP(rig_freep) struct rig *r = rig_new(steps);
        commits(r, 4);
        run(r, cancel_in); /* of none */
        run(r, checkpoint_in);
        testing_machine_steps(&r->tree.machine, steps);
        run(r, cancel_in);
        int rc = wait_checkpoint(r);
        CHECK_TRUE(rc == 0 || rc == -ECANCELED);
        cancelled += rc < 0;
        finished += rc == 0;
        CHECK_EQ(kv_checkpoints(r->tree.kv).durable_index, rc < 0 ? 0 : 4);
        commits(r, 2);
        CHECK_OK(checkpoint(r));
        reopen(r, true);
        CHECK_EQ(r->tree.found.index, 6);
        check_all(r);
    }
    CHECK_TRUE(cancelled > 0 && finished > 0);
}

/* ---- openings ---- */

/* All that is not needed for anything else is full of what was read. */
static void fill_cache_in(void *ctx)
{
    struct tree_cache *c = tree_of(((struct rig *)ctx)->tree.kv)->cache;
    struct tree_cache_info info;
    tree_cache_info(c, &info);
    CHECK_TRUE(info.clean > 0);
    tree_cache_budget(c)->limit_bytes = info.used;
}

TEST(a_cache_full_of_what_is_clean_stops_neither_checkpoints_nor_commits)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(11);
    commits(r, 200);
    CHECK_OK(settle(r));
    CHECK_OK(checkpoint(r));
    commits(r, 1);
    check_all(r);
    run(r, fill_cache_in);
    CHECK_OK(checkpoint(r)); /* a new memtable begins */
    check_all(r);
    run(r, fill_cache_in);
    commits(r, 1);
    check_all(r);
}

TEST(tree_of_another_owner_is_refused)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1);
    commits(r, 2);
    CHECK_OK(checkpoint(r));
    r->tree.opt.owner = (const uint8_t *)"another owner!!!";
    CHECK_RC(rig_tree_reopen(&r->tree, true), ERR_wrong_cluster);
    r->tree.opt.owner = RIG_OWNER;
    reopen(r, true);
    CHECK_EQ(r->tree.found.index, 2);
    check_all(r);
}

TEST(tree_is_made_once)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1);
    rig_stop(r);
    loop_sim_enter(r->tree.machine.loop, rig_tree_create_in, &r->tree);
    CHECK_RC(r->tree.rc, EEXIST);
    r->tree.opt.path = "/other";
    loop_sim_enter(r->tree.machine.loop, rig_tree_open_in, &r->tree);
    CHECK_RC(r->tree.rc, ENOENT);
    CHECK_TRUE(r->tree.kv == NULL && r->tree.budget.used_bytes == 0);
}

TEST(tree_opened_for_reading_changes_nothing)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1);
    commits(r, 5);
    CHECK_OK(checkpoint(r));
    r->tree.opt.read_only = true;
    reopen(r, true);
    disk_sim_fail(r->tree.machine.disk, DISK_WRITE, NULL, 1, 0, -EIO);
    CHECK_EQ(r->tree.found.index, 5);
    check_all(r);
    CHECK_RC(checkpoint(r), EROFS);
    CHECK_RC(settle(r), EROFS);
    CHECK_RC(commit(r), EROFS);
}

static void arm_in(void *ctx)
{
    struct mem_domain *d = mem_domain_enter(NULL);
    (void)mem_domain_enter(d);
    mem_domain_set_fault(d, ctx);
}

static void held_in(void *ctx)
{
    struct mem_domain *d = mem_domain_enter(NULL);
    (void)mem_domain_enter(d);
    *(size_t *)ctx = mem_domain_bytes(d);
}

/* Of a tree with nodes, memtables and something that is being drained. */
TEST(open_without_memory_leaves_nothing)
{
    struct fault *f = fault_new();
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(1);
    CHECK(f != NULL);
    commits(r, 150);
    run(r, settle_in);
    for (unsigned n = 0; tree_of(r->tree.kv)->state->drained_len == 0 && n < 3000; n++) {
        testing_machine_steps(&r->tree.machine, 1);
    }
    CHECK_OK(checkpoint(r));
    unsigned failed = 0;
    for (uint64_t nth = 1;; nth++) {
        size_t before = 0, after = 0;
        testing_machine_kill(&r->tree.machine, false);
        rig_tree_start(&r->tree);
        loop_sim_enter(r->tree.machine.loop, held_in, &before);
        loop_sim_enter(r->tree.machine.loop, arm_in, f);
        fault_arm(f, "mem.alloc", nth, 1);
        loop_sim_enter(r->tree.machine.loop, rig_tree_open_in, &r->tree);
        fault_disarm(f, NULL);
        loop_sim_enter(r->tree.machine.loop, arm_in, NULL);
        if (r->tree.rc == 0) {
            break;
        }
        CHECK_RC(r->tree.rc, ENOMEM);
        loop_sim_enter(r->tree.machine.loop, held_in, &after);
        CHECK_EQ(after, before);
        CHECK_EQ(r->tree.budget.used_bytes, 0);
        failed++;
    }
    CHECK_TRUE(failed > 20);
    model_at(r, r->tree.found.index);
    CHECK_EQ(r->model.index, 150);
    check_all(r);
    fault_free(f);
}

/* Where the pieces of the newest checkpoint are. */
struct pieces {
    struct rig *rig;
    uint64_t offset[8], len[8];
    size_t count;
};
static void pieces_in(void *ctx)
{
    struct pieces *p = ctx;
    struct tree_file_options opt = {.env = &p->rig->tree.env, .path = RIG_PATH, .read_only = true};
    struct tree_file *f = NULL;
    struct tree_file_found found;
    CHECK_OK(tree_file_open(&opt, &f, &found, NULL));
    CHECK_TRUE(found.piece_count <= ARRAY_COUNT(p->offset));
    for (p->count = 0; p->count < found.piece_count; p->count++) {
        p->offset[p->count] = found.piece[p->count].offset;
        p->len[p->count] = found.piece[p->count].len;
    }
    tree_file_found_fini(&found);
    tree_file_free(f);
}

static struct pieces find_pieces(struct rig *r)
{
    struct pieces p = {.rig = r};
    rig_stop(r);
    loop_sim_enter(r->tree.machine.loop, pieces_in, &p);
    return p;
}

/* Memtables are in one piece each. */
static struct rig *rig_new_whole(uint64_t seed)
{
    struct rig *r = rig_new(seed);
    r->tree.opt.piece_bytes = 0;
    reopen(r, false);
    return r;
}

/* A damaged memtable: the checkpoint before is used, loudly; from then on it is the newest. */
TEST(tree_falls_back_when_a_memtable_is_damaged)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_whole(1);
    commits(r, 3);
    CHECK_OK(checkpoint(r));
    CHECK_EQ(find_pieces(r).count, 1);
    reopen(r, false);
    commits(r, 3);
    CHECK_OK(checkpoint(r));
    struct pieces p = find_pieces(r);
    CHECK_EQ(p.count, 2);
    for (uint64_t at = 5; at < p.len[0]; at += p.len[0] / 7) {
        CHECK_OK(disk_sim_corrupt(r->tree.machine.disk, RIG_PATH, p.offset[0] + at, 4));
        r->tree.opt.read_only = true; /* it is not given up for good */
        reopen(r, false);
        CHECK_TRUE(r->tree.found.fell_back && r->tree.found.index == 3);
        CHECK_TRUE(strstr(r->tree.found.note.text, "memtable") != NULL);
        check_all(r);
        testing_machine_kill(&r->tree.machine, false);
        CHECK_OK(disk_sim_corrupt(r->tree.machine.disk, RIG_PATH, p.offset[0] + at, 4));
        rig_tree_start(&r->tree);
    }
    CHECK_OK(disk_sim_corrupt(r->tree.machine.disk, RIG_PATH, p.offset[0] + 70, 4));
    r->tree.opt.read_only = false;
    reopen(r, false);
    CHECK_TRUE(r->tree.found.fell_back && r->tree.found.index == 3 && r->tree.found.older == 0);
    commits(r, 4);
    CHECK_OK(checkpoint(r));
    reopen(r, true);
    CHECK_TRUE(!r->tree.found.fell_back && r->tree.found.index == 7 && r->tree.found.older == 3);
    check_all(r);
}

TEST(tree_says_what_is_damaged_when_there_is_no_other)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_whole(1);
    commits(r, 3);
    CHECK_OK(checkpoint(r));
    CHECK_OK(checkpoint(r)); /* both have the same memtable */
    struct pieces p = find_pieces(r);
    CHECK_EQ(p.count, 1);
    CHECK_OK(disk_sim_corrupt(r->tree.machine.disk, RIG_PATH, p.offset[0] + 100, 1));
    CHECK_ERR(rig_tree_reopen(&r->tree, false), ERR_corrupt);
    CHECK_TRUE(strstr(r->tree.err.text, "memtable 1, piece 0") != NULL);
    CHECK_TRUE(strstr(r->tree.err.text, "checkpoint 2") != NULL);
    CHECK_EQ(r->tree.budget.used_bytes, 0);
}

/* ---- failures ---- */

TEST(checkpoint_of_a_full_disk_fails_and_comes_later)
{
    for (unsigned nth = 1; nth < 8; nth++) {
        CLEANUP(rig_freep) struct rig *r = rig_new(nth);
        commits(r, 4);
        CHECK_OK(checkpoint(r));
        commits(r, 4);
        disk_sim_fail(r->tree.machine.disk, DISK_WRITE, RIG_PATH, nth, 1, -ENOSPC);
        int rc = checkpoint(r);
        disk_sim_heal(r->tree.machine.disk);
        CHECK_TRUE(rc == 0 || rc == -ENOSPC);
        CHECK_TRUE(rc < 0 || nth > 2);
        CHECK_EQ(kv_checkpoints(r->tree.kv).durable_index, rc < 0 ? 4 : 8);
        CHECK_OK(tree_failed(r->tree.kv, NULL));
        commits(r, 1);
        CHECK_OK(checkpoint(r));
        reopen(r, true);
        CHECK_EQ(r->tree.found.index, 9);
        check_all(r);
    }
}

TEST(checkpoint_with_a_failed_sync_is_the_last)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1);
    struct err e = {0};
    commits(r, 4);
    CHECK_OK(checkpoint(r));
    commits(r, 4);
    disk_sim_fail(r->tree.machine.disk, DISK_SYNC, RIG_PATH, 1, 1, -EIO);
    CHECK_RC(checkpoint(r), EIO);
    disk_sim_heal(r->tree.machine.disk);
    CHECK_TRUE(tree_failed(r->tree.kv, &e) < 0 && e.text[0] != 0);
    CHECK_ERR(commit(r), EIO);
    r->model.index--;
    model_at(r, 8);
    CHECK_TRUE(checkpoint(r) < 0);
    check_all(r);
}
