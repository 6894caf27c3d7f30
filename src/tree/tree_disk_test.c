/*
 * tree/tree_disk_test.c -- a disk that is full or cannot be read, under a tree: it is told before
 * anything is lost or waits, removing and checkpoints go on, and all goes on when that is over.
 */
#include "tree/rig_fill_priv.h"
#include "tree/tree_maintain_priv.h"

#include <stdlib.h>

#define KIB UINT64_C(1024)

struct ask {
    struct rig *r;
    enum kv_disk disk;
    struct kv_statistics counts;
    struct err why;
    int failed;
};

static void ask_in(void *ctx)
{
    struct ask *a = ctx;
    a->disk = kv_disk(a->r->tree.kv);
    a->counts = kv_statistics(a->r->tree.kv);
    a->failed = kv_failed(a->r->tree.kv, &a->why);
}

static struct ask ask(struct rig *r)
{
    struct ask a = {.r = r};
    loop_sim_enter(r->tree.machine.loop, ask_in, &a);
    return a;
}

static void rest(struct rig *r, uint64_t ns)
{
    uint64_t end = loop_now_ns(r->tree.env.loop) + ns;
    (void)loop_sim_run(r->tree.machine.sim, rig_tree_over, &(struct rig_tree){0}, end);
}

static struct rig *rig_small(uint64_t seed, uint64_t room)
{
    struct rig *r = rig_new_nodes(seed);
    struct disk_sim *disk = r->tree.machine.disk;
    disk_sim_capacity(disk, disk_sim_used_bytes(disk) + 200 * KIB + room);
    reopen_as(r, false);
    fill((struct fill){.r = r, .count = 100, .len = 500});
    CHECK_OK(checkpoint(r));
    CHECK_EQ(ask(r).disk, KV_DISK_ROOM);
    return r;
}

/* As the owner of a log does: while he may. How many there are. */
static uint32_t fill_while_room(struct rig *r, uint32_t first)
{
    uint32_t count = 0;
    while (ask(r).disk == KV_DISK_ROOM) {
        CHECK_TRUE(count < 20000);
        fill((struct fill){.r = r, .first = first + count, .count = 10, .len = 500});
        testing_machine_steps(&r->tree.machine, 20);
        count += 10;
    }
    return count;
}

/* Told early enough that everything is kept, however it was reached. */
TEST(a_full_disk_is_told_in_time)
{
    for (uint64_t i = 0; i < 6; i++) {
        CLEANUP(rig_freep) struct rig *r = rig_small(i, 600 * KIB + i * 300 * KIB);
        struct fill before = {.r = r, .count = 100, .len = 500}, more = {.r = r, .len = 500};
        more.first = 1000;
        more.count = fill_while_room(r, more.first);
        CHECK_TRUE(more.count >= 20);
        uint64_t busy = ask(r).counts.busy;
        CHECK_OK(checkpoint(r));
        CHECK_OK(settle(r));
        CHECK_OK(checkpoint(r));
        CHECK_EQ(ask(r).counts.busy, busy);
        CHECK_OK(ask(r).failed);
        fill_check(before, true);
        fill_check(more, true);
        reopen_as(r, true);
        fill_check(before, true);
        fill_check(more, true);
    }
}

/* What is removed is back after two checkpoints, and there is room for as much as before. */
TEST(removing_makes_room)
{
    CLEANUP(rig_freep) struct rig *r = rig_small(1, 1500 * KIB);
    struct fill more = {.r = r, .first = 1000, .len = 500};
    for (unsigned rounds = 0; rounds < 4; rounds++) {
        more.count = fill_while_room(r, more.first);
        CHECK_TRUE(more.count > 100);
        CHECK_OK(checkpoint(r));
        for (uint32_t i = 0; i < more.count; i += 10) {
            for (unsigned waits = 0; ask(r).disk == KV_DISK_FULL; waits++) {
                CHECK_TRUE(waits < 20);
                CHECK_OK(checkpoint(r));
                rest(r, 1100 * 1000000);
            }
            fill_delete((struct fill){.r = r, .first = more.first + i, .count = 10});
        }
        CHECK_OK(settle(r));
        CHECK_OK(checkpoint(r));
        CHECK_TRUE(ask(r).counts.held_bytes > 0);
        CHECK_OK(checkpoint(r));
        rest(r, UINT64_C(2200) * 1000000);
        CHECK_EQ(ask(r).disk, KV_DISK_ROOM);
        fill_check(more, false);
    }
}

/* Nobody asks, and nothing is begun anew. */
TEST(room_that_comes_back_is_noticed)
{
    CLEANUP(rig_freep) struct rig *r = rig_small(2, 900 * KIB);
    struct fill more = {.r = r, .first = 1000, .len = 500};
    more.count = fill_while_room(r, more.first);
    CHECK_EQ(ask(r).counts.disk_bytes, 0);
    disk_sim_capacity(r->tree.machine.disk, 0);
    rest(r, UINT64_C(2200) * 1000000);
    CHECK_EQ(ask(r).disk, KV_DISK_ROOM);
    CHECK_TRUE(ask(r).counts.disk_bytes > 0);
    CHECK_OK(settle(r));
    fill_check(more, true);
}

/* Whatever was computed: a write that is refused is believed, for a while. */
TEST(refused_writes_are_told)
{
    CLEANUP(rig_freep) struct rig *r = rig_small(3, 64u << 20);
    struct fill more = {.r = r, .first = 1000, .count = 200, .len = 500};
    fill(more);
    disk_sim_fail(r->tree.machine.disk, DISK_WRITE, RIG_PATH, 1, 0, -ENOSPC);
    CHECK_RC(checkpoint(r), ENOSPC);
    CHECK_EQ(ask(r).disk, KV_DISK_FULL);
    disk_sim_heal(r->tree.machine.disk);
    rest(r, UINT64_C(3200) * 1000000);
    CHECK_EQ(ask(r).disk, KV_DISK_ROOM);
    CHECK_OK(checkpoint(r));
    fill_check(more, true);
}

/* The log of the same directory finds its part free, though the file takes all it may. */
TEST(others_find_what_is_left_to_them)
{
    for (uint64_t i = 0; i < 3; i++) {
        CLEANUP(rig_freep) struct rig *r = rig_new_nodes(4 + i);
        struct disk_sim *disk = r->tree.machine.disk;
        uint64_t capacity = 4096 * KIB, reserve = 256 * KIB;
        r->tree.opt.reserve_bytes = reserve;
        disk_sim_capacity(disk, capacity);
        reopen_as(r, false);
        struct fill more = {.r = r, .len = 500};
        more.count = fill_while_room(r, 0);
        CHECK_TRUE(more.count > 100);
        CHECK_OK(checkpoint(r));
        CHECK_TRUE(disk_sim_used_bytes(disk) + reserve <= capacity);
        fill((struct fill){.r = r, .first = 50000, .count = 300, .len = 500}); /* all the same */
        for (unsigned k = 0; k < 3; k++) {
            int rc = checkpoint(r);
            CHECK_TRUE(rc == 0 || rc == -ENOSPC);
            CHECK_TRUE(disk_sim_used_bytes(disk) + reserve <= capacity);
        }
        fill_check(more, true);
    }
}

/* ---- what cannot be read ---- */

static void evict_in(void *ctx)
{
    (void)tree_cache_shrink(tree_of(((struct rig *)ctx)->tree.kv)->cache, 0);
}

/* Longer than one read is tried; and for ever. */
TEST(jobs_wait_for_a_disk_that_cannot_be_read)
{
    for (unsigned ends = 0; ends < 2; ends++) {
        CLEANUP(rig_freep) struct rig *r = rig_new_nodes(6);
        struct fill all = {.r = r, .count = 400, .len = 100};
        fill(all);
        CHECK_OK(settle(r));
        CHECK_OK(checkpoint(r));
        reopen_as(r, true);
        r->model.index = kv_applied_index(r->tree.kv);
        run(r, evict_in);
        disk_sim_fail(r->tree.machine.disk, DISK_READ, RIG_PATH, 1, ends == 1 ? 0 : 12, -EIO);
        fill((struct fill){.r = r, .first = 100, .count = 10, .len = 100});
        int rc = settle(r);
        disk_sim_heal(r->tree.machine.disk);
        struct ask a = ask(r);
        CHECK_EQ(rc, ends == 1 ? -EIO : 0);
        CHECK_EQ(a.failed, ends == 1 ? -EIO : 0);
        if (ends == 1) {
            CHECK_TRUE(strstr(a.why.text, "memtables down, level ") != NULL);
            CHECK_TRUE(strstr(a.why.text, "from key 7e") != NULL); /* '~' */
            CHECK_TRUE(strstr(a.why.text, "block ") != NULL);
        }
        fill_check(all, true);
    }
}

/* ---- waiting when it ends ---- */

static void stall_in(void *ctx)
{
    struct tree *t = tree_of(((struct rig *)ctx)->tree.kv);
    t->maintain->rest_ns = UINT64_MAX / 2;
}

static void rotate_in(void *ctx)
{
    struct rig *r = ctx;
    r->rc = tree_rotate(tree_of(r->tree.kv), TREE_FROZEN_MAX);
}

static void fail_in(void *ctx)
{
    const struct err why = {.text = "for a test"};
    tree_fail(tree_of(((struct rig *)ctx)->tree.kv), -EIO, "test", &why);
}

/* It waits for room for one more memtable, and there will be none. */
TEST(a_checkpoint_that_waits_ends_with_the_tree)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(7);
    run(r, stall_in);
    for (uint32_t i = 0; i <= TREE_FROZEN_MAX; i++) {
        fill((struct fill){.r = r, .first = i, .count = 1, .len = 10});
        run(r, rotate_in);
        CHECK_EQ(r->rc, i < TREE_FROZEN_MAX ? 0 : -ERR_busy);
    }
    run(r, checkpoint_in);
    run(r, fail_in);
    CHECK_RC(wait_checkpoint(r), EIO);
    CHECK_TEXT(ask(r).why.text, RIG_PATH ": test: for a test: Input/output error");
}
