/*
 * tree/tree_maintain_test.c -- what is moved down in the background, on a simulated disk: that it
 * gets there, that space and numbers of blocks come back, and what happens when memory or space run
 * out, or a checkpoint comes at a bad moment.
 */
#include "tree/memtable_priv.h"
#include "tree/rig_fill_priv.h"

#include "base/fault.h"
#include "tree/check.h"
#include "tree/tree_checkpoint_priv.h"
#include "tree/tree_maintain_priv.h"

/* Until commits have waited for long; how many there are. */
static uint32_t fill_until_busy(struct rig *r, uint32_t first)
{
    uint8_t value[1000];
    char key[16];
    for (uint32_t count = 0; count < 20000; count++) {
        kv_batch_clear(&r->batch);
        fill_value(first + count, 1000, value);
        CHECK_OK(kv_batch_put(&r->batch, fill_key(first + count, key), kv_slice_of(value, 1000)));
        r->model.index++;
        run(r, commit_in);
        for (unsigned i = 0; i < 300 && r->rc == -ERR_busy; i++) {
            testing_machine_steps(&r->tree.machine, 20);
            run(r, commit_in);
        }
        if (r->rc < 0) {
            CHECK_RC(r->rc, ERR_busy);
            r->model.index--;
            return count;
        }
    }
    CHECK_TRUE(false);
    return 0;
}

/* So much memory is somebody's from now on. */
static void force_in(void *ctx)
{
    struct rig *r = ctx;
    struct tree *t = tree_of(r->tree.kv);
    tree_cache_force(t->cache, r->forced);
    tree_maintain_kick(t);
}

static void give_in(void *ctx)
{
    struct rig *r = ctx;
    tree_cache_give(tree_of(r->tree.kv)->cache, r->forced);
}

static void tighten(struct rig *r, unsigned percent)
{
    r->forced = r->tree.opt.cache_bytes / 100 * percent;
    run(r, force_in);
}

static void evict_in(void *ctx)
{
    (void)tree_cache_shrink(tree_of(((struct rig *)ctx)->tree.kv)->cache, 0);
}

/* ---- what must be so whenever nothing is to be done ---- */

static void check_found(void *arg, const struct tree_finding *f)
{
    const struct rig *r = arg;
    fprintf(stderr, "seed %llu, %s, block %llu: %s\n", (unsigned long long)r->tree.seed, f->code,
            (unsigned long long)f->block, f->text);
}

static void check_file_in(void *ctx)
{
    struct rig *r = ctx;
    for (unsigned older = 0; older < 2; older++) {
        struct tree_check_result result = {0};
        struct tree_check_options opt = {.disk = r->tree.env.disk,
                                         .path = RIG_PATH,
                                         .level = TREE_CHECK_LEVEL_MAX,
                                         .older = older == 1,
                                         .found = check_found,
                                         .arg = r};
        CHECK_OK(tree_check(&opt, &result, NULL));
        CHECK_EQ(result.warnings + result.damages, 0);
    }
}

/* Space that is named by a checkpoint or waits: what an open counts must be what is counted now;
 * and both checkpoints are sound, without a block that nothing leads to. */
static void check_space(struct rig *r)
{
    CHECK_OK(settle(r));
    CHECK_OK(checkpoint(r));
    CHECK_OK(checkpoint(r));
    testing_machine_steps(&r->tree.machine, 1000); /* holes are being punched */
    look(r);
    uint64_t units = r->space.space.used + r->space.space.deferred, nodes = r->counts.nodes;
    rig_stop(r);
    run(r, check_file_in);
    reopen_as(r, false);
    look(r);
    CHECK_EQ(r->space.space.used + r->space.space.deferred, units);
    CHECK_EQ(r->counts.nodes, nodes);
}

TEST(memtables_get_into_nodes)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(1);
    commits(r, 300);
    CHECK_OK(settle(r));
    look(r);
    CHECK_TRUE(r->counts.height >= 2 && r->counts.nodes > 8);
    CHECK_EQ(tree_of(r->tree.kv)->state->count, 1);
    check_all(r);
    CHECK_OK(settle(r)); /* of nothing */
    CHECK_OK(checkpoint(r));
    reopen(r, true);
    CHECK_EQ(r->tree.found.index, 300);
    check_all(r);
}

TEST(tree_in_the_middle_of_a_drain_is_found_again)
{
    unsigned draining = 0;
    for (unsigned i = 0; i < 14; i++) {
        CLEANUP(rig_freep) struct rig *r = rig_new_nodes(i);
        commits(r, 120 + i);
        run(r, settle_in); /* it is under way */
        for (unsigned n = 0; tree_of(r->tree.kv)->state->drained_len == 0 && n < 3000; n++) {
            testing_machine_steps(&r->tree.machine, 1);
        }
        testing_machine_steps(&r->tree.machine, i);
        CHECK_OK(checkpoint(r));
        reopen(r, true);
        CHECK_EQ(r->tree.found.index, 120 + i);
        if (tree_of(r->tree.kv)->state->drained_len > 0) { /* commits are paced by what is left */
            CHECK_TRUE(tree_of(r->tree.kv)->drain.messages > 0);
            draining++;
        }
        check_all(r);
        CHECK_OK(settle(r));
        check_all(r);
        check_space(r);
    }
    CHECK_TRUE(draining > 0);
}

TEST(no_space_and_no_block_is_lost)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(3);
    for (unsigned i = 0; i < 12; i++) {
        commits(r, 40);
        run(r, checkpoint_in);
        commits(r, 15);
        if (i % 3 == 2) {
            testing_machine_steps(&r->tree.machine, i);
            run(r, cancel_in);
        }
        int rc = wait_checkpoint(r);
        CHECK_TRUE(rc == 0 || rc == -ECANCELED);
        if (i % 4 == 3) {
            check_space(r);
            check_all(r);
        }
    }
}

TEST(subtrees_that_are_deleted_are_freed)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(4);
    struct fill all = {.r = r, .count = 1500, .len = 100};
    fill(all);
    CHECK_OK(settle(r));
    look(r);
    uint64_t nodes = r->counts.nodes;
    CHECK_TRUE(nodes > 40 && r->counts.height >= 4);
    run(r, snapshot_in); /* it needs them, as memory */
    fill_delete(all);
    CHECK_OK(settle(r));
    look(r);
    CHECK_TRUE(r->counts.drops > 0 && r->counts.nodes < nodes);
    run(r, snapshot_free_in);
    fill_check(all, false);
    check_space(r);
    fill(all);
    CHECK_OK(settle(r));
    fill_check(all, true);
    check_space(r);
}

static size_t drop_count(struct rig *r)
{
    uint64_t *drops = NULL;
    size_t count = 0;
    CHECK_OK(tree_maintain_drops(tree_of(r->tree.kv), &drops, &count));
    mem_free(drops);
    return count;
}

/* Wherever the process dies, the next one goes on with what is to be freed. */
TEST(freeing_goes_on_after_a_restart)
{
    unsigned dropping = 0;
    for (unsigned i = 0; i < 6; i++) {
        CLEANUP(rig_freep) struct rig *r = rig_new_nodes(5);
        struct fill all = {.r = r, .count = 1500, .len = 100};
        fill(all);
        CHECK_OK(settle(r));
        CHECK_OK(checkpoint(r));
        reopen_as(r, true); /* nothing is in memory, so that it takes its time */
        look(r);
        uint64_t nodes = r->counts.nodes, index = kv_applied_index(r->tree.kv);
        r->model.index = index;
        fill_delete(all);
        run(r, settle_in);
        for (unsigned steps = 0; drop_count(r) == 0 && steps < 3000; steps++) {
            testing_machine_steps(&r->tree.machine, 1);
        }
        testing_machine_steps(&r->tree.machine, i);
        CHECK_OK(checkpoint(r));
        reopen_as(r, true);
        CHECK_EQ(r->tree.found.index, index + 1);
        dropping += drop_count(r) > 0;
        fill_check(all, false);
        CHECK_OK(settle(r));
        CHECK_EQ(drop_count(r), 0);
        look(r);
        CHECK_TRUE(r->counts.nodes < nodes);
        check_space(r);
    }
    CHECK_TRUE(dropping > 0);
}

/* Nothing but memory makes it write, and what is dirty stays a part of it. */
TEST(dirty_nodes_are_written_between_checkpoints)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(6);
    struct fill all = {.r = r, .count = 3000, .len = 1000};
    uint64_t most = 0;
    for (all.first = 0; all.first < 3000; all.first += 100) {
        fill((struct fill){.r = r, .first = all.first, .count = 100, .len = all.len});
        look(r);
        most = base_max(most, r->counts.dirty_bytes);
    }
    all.first = 0;
    CHECK_OK(settle(r));
    testing_machine_steps(&r->tree.machine, 3000);
    look(r);
    CHECK_EQ(r->counts.checkpoints, 0);
    CHECK_TRUE(r->counts.written_bytes > 1u << 20);
    CHECK_TRUE(r->counts.dirty_bytes <= r->tree.opt.cache_bytes / 4);
    CHECK_TRUE(most <= r->tree.opt.cache_bytes / 2);
    fill_check(all, true);
    check_space(r);
    fill_check(all, true);
}

/* No job begins until then. */
static void rest_in(void *ctx)
{
    struct tree *t = tree_of(((struct rig *)ctx)->tree.kv);
    t->maintain->rest_ns = UINT64_MAX;
}

static void wake_in(void *ctx)
{
    struct tree *t = tree_of(((struct rig *)ctx)->tree.kv);
    t->maintain->rest_ns = 0;
    tree_maintain_kick(t);
}

/* Once, without waiting. */
static int commit_at_once(struct rig *r)
{
    rig_model_step(&r->model, r->tree.seed, &r->batch);
    run(r, commit_in);
    if (r->rc < 0) {
        model_at(r, r->model.index - 1);
    }
    return r->rc;
}

/* As many frozen memtables as there may be, and something in the active one. */
static void fill_memtables(struct rig *r)
{
    run(r, rest_in);
    while (tree_of(r->tree.kv)->state->count < TREE_MEMTABLES_MAX) {
        CHECK_OK(commit_at_once(r));
        if (tree_of(r->tree.kv)->state->count == TREE_MEMTABLES_MAX - 1) {
            CHECK_OK(checkpoint(r));
        }
    }
    CHECK_OK(commit_at_once(r));
}

/* When there is no room for one more memtable, the checkpoint waits for it, and commits go on. */
TEST(commits_go_on_while_a_checkpoint_waits_for_room)
{
    for (unsigned i = 0; i < 12; i++) {
        CLEANUP(rig_freep) struct rig *r = rig_new_nodes(700 + i);
        fill_memtables(r);
        uint64_t index = r->model.index;
        run(r, checkpoint_in);
        const struct tree *t = tree_of(r->tree.kv);
        const struct tree_table *active = t->state->tables[0];
        CHECK_TRUE(tree_checkpoint_holds(t));
        uint64_t msn = t->msn;
        if (i % 3 == 0) { /* only when nothing more fits is there a wait */
            while (commit_at_once(r) == 0) {
            }
            CHECK_RC(r->rc, ERR_busy);
            CHECK_TRUE(tree_memtable_state(active->memtable).full);
        } else {
            for (unsigned n = 0; n < i && !tree_memtable_state(active->memtable).full; n++) {
                CHECK_OK(commit_at_once(r));
            }
        }
        CHECK_TRUE(t->msn > msn && t->state->tables[0] == active && tree_checkpoint_holds(t));
        check_all(r);
        testing_machine_steps(&r->tree.machine, 200);
        CHECK_TRUE(tree_checkpoint_holds(t) && !r->done);
        run(r, wake_in);
        for (unsigned n = 0; !r->done; n++) {
            (void)commit_at_once(r);
            testing_machine_steps(&r->tree.machine, 1 + n % 7);
        }
        CHECK_OK(r->rc);
        CHECK_EQ(r->checkpoint.index, index);
        if (i % 2 == 0) {
            check_all(r);
            check_space(r); /* with two more checkpoints */
            check_all(r);
        } else {
            reopen(r, true);
            CHECK_EQ(r->tree.found.index, index);
            check_all(r);
            rig_stop(r);
            run(r, check_file_in);
            reopen(r, false);
            CHECK_EQ(r->tree.found.index, index);
            commits(r, 20);
            check_space(r);
        }
    }
}

/* Nobody's snapshot is given up for it, and it ends at any moment. */
TEST(checkpoint_that_waits_for_room_is_cancelled)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(7);
    fill_memtables(r);
    run(r, checkpoint_in);
    CHECK_TRUE(tree_checkpoint_holds(tree_of(r->tree.kv)));
    CHECK_OK(commit_at_once(r));
    CHECK_EQ(tree_snapshots_state(tree_of(r->tree.kv)->snapshots).live_count, 1);
    run(r, cancel_in);
    CHECK_RC(wait_checkpoint(r), ECANCELED);
    CHECK_EQ(tree_snapshots_state(tree_of(r->tree.kv)->snapshots).live_count, 0);
    run(r, wake_in);
    commits(r, 10);
    CHECK_OK(checkpoint(r));
    reopen(r, true);
    check_all(r);
}

TEST(checkpoint_takes_its_time)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(8);
    r->pace_ns = UINT64_C(20000000000);
    commits(r, 300);
    CHECK_OK(settle(r));
    uint64_t begin = loop_now_ns(r->tree.env.loop);
    CHECK_OK(checkpoint(r));
    uint64_t took = loop_now_ns(r->tree.env.loop) - begin;
    CHECK_TRUE(took > r->pace_ns / 2 && took < r->pace_ns * 5 / 4);
    reopen(r, false);
    CHECK_EQ(r->tree.found.index, 300);
    commits(r, 300);
    CHECK_OK(settle(r));
    run(r, checkpoint_in);
    testing_machine_steps(&r->tree.machine, 40);
    CHECK_TRUE(!r->done);
    begin = loop_now_ns(r->tree.env.loop);
    run(r, cancel_in);
    CHECK_RC(wait_checkpoint(r), ECANCELED);
    CHECK_TRUE(loop_now_ns(r->tree.env.loop) - begin < r->pace_ns / 20);
    commits(r, 300);
    reopen(r, true);
    CHECK_EQ(r->tree.found.index, 300);
    check_all(r);
}

/* What it writes is spread over its time; who commits meanwhile never waits for it. */
TEST(checkpoint_is_spread_over_its_time)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(14);
    uint64_t quarter[4] = {0}, all = 0;
    r->pace_ns = UINT64_C(40000000000);
    fill((struct fill){.r = r, .count = 600, .len = 300});
    CHECK_OK(settle(r));
    look(r);
    uint64_t busy = r->counts.busy, begin = loop_now_ns(r->tree.env.loop), tapped = r->tree.tapped;
    run(r, checkpoint_in);
    for (unsigned i = 0; !r->done; i++) {
        testing_machine_steps(&r->tree.machine, 1);
        uint64_t part = (loop_now_ns(r->tree.env.loop) - begin) / (r->pace_ns / 4);
        quarter[base_min(part, 3)] += r->tree.tapped - tapped;
        all += r->tree.tapped - tapped;
        if (i % 16 == 0 && i < 160) {
            fill((struct fill){.r = r, .first = 1000 + i, .count = 1, .len = 10});
        }
        tapped = r->tree.tapped;
    }
    CHECK_OK(r->rc);
    look(r);
    CHECK_EQ(r->counts.busy, busy);
    for (unsigned i = 0; i < ARRAY_COUNT(quarter); i++) {
        CHECK_TRUE(quarter[i] * 10 > all);
    }
}

/* Of one that may take its time, what is to be kept of a memtable is written first, and then its
 * memory is not needed for it any more. */
TEST(checkpoint_does_not_keep_memtables_in_memory)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(15);
    r->pace_ns = UINT64_C(1000000000000);
    commits(r, 300);
    CHECK_OK(settle(r));
    commits(r, 3);
    struct tree_memtable *m = tree_of(r->tree.kv)->state->tables[0]->memtable;
    tree_memtable_ref(m);
    run(r, checkpoint_in);
    CHECK_OK(settle(r));
    for (unsigned i = 0; i < 4000 && atomic_load(&m->refs) > 1; i++) {
        testing_machine_steps(&r->tree.machine, 1);
    }
    CHECK_TRUE(atomic_load(&m->refs) == 1 && !r->done);
    tree_memtable_unref(m);
    uint64_t begin = loop_now_ns(r->tree.env.loop);
    run(r, hurry_in);
    CHECK_OK(wait_checkpoint(r));
    CHECK_TRUE(loop_now_ns(r->tree.env.loop) - begin < r->pace_ns / 100);
    reopen(r, true);
    CHECK_EQ(r->tree.found.index, 303);
    check_all(r);
}

/* A snapshot lives on while ten times its budget comes after it and is moved down. */
TEST(what_came_after_a_snapshot_is_not_counted_for_it)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(21);
    struct fill later = {.r = r, .count = 2600, .len = 1000};
    commits(r, 100);
    CHECK_OK(settle(r));
    CHECK_OK(checkpoint(r));
    run(r, snapshot_in);
    CHECK_OK(r->rc);
    fill(later);
    CHECK_OK(settle(r));
    const struct tree *t = tree_of(r->tree.kv);
    struct tree_snapshots_state s = tree_snapshots_state(t->snapshots);
    CHECK_TRUE(later.count * later.len > 10 * t->opt.snapshot_bytes);
    CHECK_TRUE(s.live_count == 1 && s.kept_bytes > 0);
    CHECK_TRUE(s.kept_bytes < t->opt.snapshot_bytes / 2);
    for (uint32_t k = 0; k < RIG_KEYS; k++) {
        check_key(r, k);
        rig_tree_release(&r->tree);
    }
    run(r, snapshot_free_in);
    fill_check(later, true);
}

/* It does not keep memory dirty for as long as it may take. */
TEST(checkpoint_hurries_when_memory_is_short)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(12);
    r->pace_ns = UINT64_C(1000000000000);
    fill((struct fill){.r = r, .count = 300, .len = 1000});
    CHECK_OK(settle(r));
    uint64_t begin = loop_now_ns(r->tree.env.loop);
    run(r, checkpoint_in);
    fill((struct fill){.r = r, .first = 300, .count = 2000, .len = 1000});
    CHECK_OK(wait_checkpoint(r));
    CHECK_TRUE(loop_now_ns(r->tree.env.loop) - begin < r->pace_ns / 4);
    CHECK_OK(settle(r));
    fill_check((struct fill){.r = r, .count = 2300, .len = 1000}, true);
}

/* Nodes that are split off share parts that are not in memory, in extents that only their neighbour
 * keeps: over and over, with nothing in memory and all of it written at once. */
TEST(split_nodes_keep_what_they_share)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(13);
    for (uint32_t i = 0; i < 60; i++) {
        for (uint32_t n = 0; n < 40; n++) { /* everywhere */
            fill((struct fill){.r = r, .first = n * 1000 + i, .count = 1, .len = 120});
        }
        if (i % 4 == 3) {
            CHECK_OK(settle(r));
            tighten(r, 100); /* all of it is written */
            testing_machine_steps(&r->tree.machine, 600);
            run(r, give_in);
            run(r, evict_in);
        }
    }
    CHECK_OK(settle(r));
    for (uint32_t n = 0; n < 40; n++) {
        fill_check((struct fill){.r = r, .first = n * 1000, .count = 60, .len = 120}, true);
    }
    check_space(r);
}

/* Jobs are much faster than the disk: nodes change again while they are being written. */
TEST(block_is_written_once_at_a_time)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(14);
    r->tree.opt.cache_bytes = 6u << 20;
    CHECK_OK(rig_tree_reopen(&r->tree, false));
    disk_sim_slow(r->tree.machine.disk, UINT64_C(300000000));
    tighten(r, 80);
    for (uint32_t i = 0; i < 12; i++) {
        fill((struct fill){.r = r, .first = i, .count = 300, .len = 30});
        run(r, settle_in);
        testing_machine_steps(&r->tree.machine, 60);
        if (i == 6) {
            run(r, give_in);
        }
        wait_over(r);
        CHECK_OK(r->tree.rc);
    }
    disk_sim_slow(r->tree.machine.disk, 0);
    look(r);
    CHECK_TRUE(r->counts.written_bytes > 0);
    fill_check((struct fill){.r = r, .count = 311, .len = 30}, true);
    check_space(r);
}

/* It is tried again, by nobody's asking. */
TEST(write_that_fails_comes_later)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(15);
    struct fill all = {.r = r, .len = 1000};
    disk_sim_fail(r->tree.machine.disk, DISK_WRITE, RIG_PATH, 1, 0, -ENOSPC);
    all.count = fill_until_busy(r, 0);
    run(r, settle_in);
    testing_machine_steps(&r->tree.machine, 800);
    CHECK_TRUE(!r->tree.over); /* there is no space for so much */
    disk_sim_heal(r->tree.machine.disk);
    wait_over(r);
    CHECK_OK(r->tree.rc);
    fill_check(all, true);
    check_space(r);
}

/* What a job needs cannot be read for want of memory: it neither spins nor gives up. */
TEST(job_without_memory_comes_later)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(16);
    struct fill all = {.r = r, .count = 500, .len = 100};
    fill(all);
    CHECK_OK(settle(r));
    CHECK_OK(checkpoint(r));
    reopen_as(r, true);
    r->model.index = kv_applied_index(r->tree.kv);
    fill((struct fill){.r = r, .first = 500, .count = 3, .len = 100});
    CHECK_OK(checkpoint(r)); /* freezes the memtable */
    tighten(r, 100);
    uint64_t begin = loop_now_ns(r->tree.env.loop);
    run(r, settle_in);
    testing_machine_steps(&r->tree.machine, 3000);
    CHECK_TRUE(!r->tree.over && loop_now_ns(r->tree.env.loop) - begin > 1000000000);
    run(r, give_in);
    wait_over(r);
    CHECK_OK(r->tree.rc);
    all.count += 3;
    fill_check(all, true);
}

/* A full disk: commits wait sooner or later; reads and what is there do not suffer. */
TEST(full_disk_holds_up_commits_until_there_is_space)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(9);
    struct fill before = {.r = r, .count = 500, .len = 1000}, after = {.r = r, .first = 20000};
    fill(before);
    CHECK_OK(checkpoint(r));
    disk_sim_fail(r->tree.machine.disk, DISK_WRITE, RIG_PATH, 1, 0, -ENOSPC);
    after.count = fill_until_busy(r, after.first);
    CHECK_OK(tree_failed(r->tree.kv, NULL));
    CHECK_TRUE(r->tree.budget.used_bytes < 2 * r->tree.opt.cache_bytes);
    int rc = checkpoint(r);
    CHECK_TRUE(rc == -ENOSPC || rc == -ENOMEM); /* there is neither */
    disk_sim_heal(r->tree.machine.disk);
    CHECK_OK(settle(r));
    after.len = 1000;
    fill_check(before, true);
    fill_check(after, true);
    check_space(r);
    fill_check(after, true);
}

/* Damage that moving comes across is the end of writing, not of reading the rest. */
TEST(failed_sync_ends_maintenance)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(10);
    commits(r, 100);
    CHECK_OK(checkpoint(r));
    commits(r, 50);
    disk_sim_fail(r->tree.machine.disk, DISK_SYNC, RIG_PATH, 1, 1, -EIO);
    CHECK_RC(checkpoint(r), EIO);
    disk_sim_heal(r->tree.machine.disk);
    CHECK_TRUE(settle(r) < 0);
    check_all(r);
    reopen(r, true);
    CHECK_TRUE(r->tree.found.index == 100 || r->tree.found.index == 150);
    check_all(r);
}

static void arm_in(void *ctx)
{
    struct mem_domain *d = mem_domain_enter(NULL);
    (void)mem_domain_enter(d);
    mem_domain_set_fault(d, ctx);
}

/* The nth allocation of settling and of a checkpoint fails: that is tried again or said. */
TEST(allocation_that_fails_changes_nothing)
{
    struct fault *f = fault_new();
    CHECK(f != NULL);
    for (unsigned nth = 1; nth < 700; nth += 1 + nth / 4) {
        CLEANUP(rig_freep) struct rig *r = rig_new_nodes(11);
        commits(r, 100);
        loop_sim_enter(r->tree.machine.loop, arm_in, f);
        fault_arm(f, "mem.alloc", nth, 1 + nth % 3);
        CHECK_OK(settle(r));
        int rc = checkpoint(r);
        fault_disarm(f, NULL);
        CHECK_TRUE(rc == 0 || rc == -ENOMEM);
        CHECK_OK(tree_failed(r->tree.kv, NULL));
        check_all(r);
        check_space(r);
        check_all(r);
        loop_sim_enter(r->tree.machine.loop, arm_in, NULL);
    }
    fault_free(f);
}
