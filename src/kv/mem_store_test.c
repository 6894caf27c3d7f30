/*
 * kv/mem_store_test.c -- checkpoints of the memory engine on a simulated disk: what an index holds
 * is a function of the index, so whatever a restart loads can be checked. It must be at least the
 * newest checkpoint that was told to be stable, and what lies on the disk is all there is.
 */
#include "kv/mem.h"

#include "base/env.h"
#include "base/mem.h"
#include "base/rand.h"
#include "disk/disk.h"
#include "disk/sim.h"
#include "kv/mem_build_priv.h"
#include "loop/loop.h"
#include "loop/sim.h"
#include "testing/machine.h"
#include "testing/testing.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DIRECTORY "/state"
#define KEYS 300u
#define MS 1000000u

static const uint8_t owner[16] = {7, 7, 7};

struct world {
    struct rand rand;
    struct testing_machine machine;
    struct env env;
    struct mem_budget budget;
    struct kv *kv;
    struct kv_checkpoint checkpoint;
    struct loop_timer timer;
    struct kv_owner owner;
    struct loop_task task;
    struct kv_stop stop;
    bool stopped;
    uint64_t index;  /* committed */
    uint64_t stable; /* the newest checkpoint that succeeded */
    uint64_t before; /* the one before it */
    bool under_way, quiet;
    int open_rc, rc;
    unsigned succeeded, failed;
    struct err err;
};

/* Key k holds the newest index <= `index` that is k modulo KEYS, but for some that are deleted. */
static size_t value_of(uint64_t index, uint8_t out[600])
{
    size_t len = 8 + index * 131 % 500;
    memset(out, (int)(index & 0xff), len);
    memcpy(out, &index, sizeof index);
    return len;
}

static struct kv_slice key_of(uint64_t k, char out[16])
{
    return kv_slice_of(out, (size_t)snprintf(out, 16, "key%" PRIu64, k % KEYS));
}

static bool index_deletes(uint64_t index)
{
    return index % 11 == 3;
}

static void commit(struct world *w)
{
    struct kv_batch b;
    uint8_t value[600];
    char key[16];
    kv_batch_init(&b);
    w->index++;
    if (index_deletes(w->index)) {
        CHECK_OK(kv_batch_delete(&b, key_of(w->index, key)));
    } else {
        CHECK_OK(
            kv_batch_put(&b, key_of(w->index, key), kv_slice_of(value, value_of(w->index, value))));
    }
    CHECK_OK(kv_commit(w->kv, &b, w->index));
    kv_batch_fini(&b);
}

static void check_content(struct world *w)
{
    struct kv_snapshot *s;
    struct kv_need need = {0};
    uint64_t index = kv_applied_index(w->kv);
    kv_mem_verify(w->kv);
    CHECK_OK(kv_snapshot_new(w->kv, &s));
    for (uint64_t k = 0; k < KEYS; k++) {
        uint8_t value[600];
        char key[16];
        struct kv_slice got;
        uint64_t newest = index - (index + KEYS - k) % KEYS;
        bool there = newest <= index && newest > 0 && !index_deletes(newest);
        CHECK_EQ(kv_get(s, key_of(k, key), &need, &got), there);
        if (there) {
            CHECK_EQ(got.len, value_of(newest, value));
            CHECK_BYTES(got.at, value, got.len);
        }
    }
    kv_snapshot_free(s);
}

static void checkpoint_done(struct kv_checkpoint *c, int rc)
{
    struct world *w = container_of(c, struct world, checkpoint);
    w->under_way = false;
    w->rc = rc;
    w->succeeded += rc == 0;
    w->failed += rc < 0;
    if (rc == 0) {
        CHECK_EQ(kv_checkpoints(w->kv).durable_index, c->index);
        w->before = c->index != w->stable ? w->stable : w->before;
        w->stable = c->index;
    } else {
        CHECK_EQ(kv_checkpoints(w->kv).durable_index, w->stable);
    }
}

static void begin_checkpoint(void *ctx)
{
    struct world *w = ctx;
    w->under_way = true;
    w->checkpoint = (struct kv_checkpoint){.done = checkpoint_done, .term = 4};
    kv_checkpoint(w->kv, &w->checkpoint);
    CHECK_EQ(w->checkpoint.index, w->index);
}

static void woken(struct kv_owner *o)
{
    struct world *w = container_of(o, struct world, owner);
    loop_defer(w->env.loop, &w->task);
}
static void poll_kv(struct loop_task *t)
{
    (void)kv_poll(container_of(t, struct world, task)->kv);
}

static void open_in(void *ctx)
{
    struct world *w = ctx;
    mem_budget_init(&w->budget, NULL, 64u << 20);
    w->env.budget = &w->budget;
    CHECK_OK(disk_make_directories(w->env.disk, DIRECTORY));
    w->owner.wake = woken;
    w->task.run = poll_kv;
    w->stopped = false;
    struct kv_mem_open_options opt = {.mem = {.budget = &w->budget, .owner = &w->owner, .seed = 1},
                                      .env = &w->env,
                                      .directory = DIRECTORY,
                                      .owner = owner,
                                      .image_block_bytes = 4096};
    w->under_way = false;
    w->kv = NULL;
    w->err = (struct err){0};
    w->open_rc = kv_mem_open(&opt, &w->kv, &w->err);
    w->index = w->open_rc == 0 ? kv_applied_index(w->kv) : 0;
}

static void world_open(struct world *w)
{
    testing_machine_start(&w->machine, "kv", &w->env);
    loop_sim_enter(w->machine.loop, open_in, w);
}

static void world_new(struct world *w, uint64_t seed)
{
    *w = (struct world){0};
    rand_seed(&w->rand, seed);
    testing_machine_init(&w->machine, seed);
}

static void commits_in(void *ctx)
{
    struct world *w = ctx;
    for (unsigned i = 0; i < 500; i++) {
        commit(w);
    }
}

static void check_in(void *ctx)
{
    check_content(ctx);
}

static void free_in(void *ctx)
{
    struct world *w = ctx;
    w->kv = kv_mem_end(w->kv);
    loop_undefer(w->env.loop, &w->task);
    CHECK_EQ(w->budget.used_bytes, 0);
}

static bool is_over(void *ctx)
{
    return !((struct world *)ctx)->under_way;
}

static void world_checkpoint(struct world *w)
{
    loop_sim_enter(w->machine.loop, begin_checkpoint, w);
    CHECK_TRUE(testing_machine_until(&w->machine, is_over, w, 60000));
}

static void world_close(struct world *w)
{
    if (w->kv != NULL) {
        loop_sim_enter(w->machine.loop, free_in, w);
    }
    testing_machine_kill(&w->machine, false);
    testing_machine_fini(&w->machine);
}

TEST(a_checkpoint_is_what_the_next_life_begins_with)
{
    struct world w;
    world_new(&w, testing_seed());
    world_open(&w);
    CHECK_OK(w.open_rc);
    CHECK_EQ(w.index, 0);
    loop_sim_enter(w.machine.loop, commits_in, &w);
    CHECK_EQ(kv_checkpoints(w.kv).durable_index, 0);
    loop_sim_enter(w.machine.loop, begin_checkpoint, &w);
    loop_sim_enter(w.machine.loop, commits_in, &w); /* it does not stop the writer, nor see it */
    CHECK_TRUE(testing_machine_until(&w.machine, is_over, &w, 60000));
    CHECK_OK(w.rc);
    CHECK_EQ(w.stable, 500);
    loop_sim_enter(w.machine.loop, check_in, &w);
    loop_sim_enter(w.machine.loop, free_in, &w);
    testing_machine_kill(&w.machine, true);
    world_open(&w);
    CHECK_OK(w.open_rc);
    CHECK_EQ(w.index, 500);
    loop_sim_enter(w.machine.loop, check_in, &w);
    loop_sim_enter(w.machine.loop, commits_in, &w);
    loop_sim_enter(w.machine.loop, check_in, &w); /* what was built takes changes */
    world_close(&w);
}

static unsigned count_files(struct world *w)
{
    struct disk_req list = {.op = DISK_LIST, .path = DIRECTORY};
    CHECK_TRUE(disk_now(w->env.disk, &list) >= 0);
    unsigned count = (unsigned)list.names->count;
    mem_free(list.names);
    return count;
}

static void damage(struct world *w, uint64_t index)
{
    char path[64];
    snprintf(path, sizeof path, DIRECTORY "/%016" PRIx64 ".image", index);
    uint64_t at = 300 + rand_below(&w->rand, 3000);
    int rc = -ERANGE;
    for (; rc == -ERANGE && at > 0; at /= 2) { /* some images are small */
        rc = disk_sim_corrupt(w->machine.disk, path, at, 0x10);
    }
    CHECK_OK(rc);
}

TEST(two_are_kept_and_the_older_one_serves_when_the_newest_is_damaged)
{
    struct world w;
    world_new(&w, testing_seed());
    world_open(&w);
    for (unsigned i = 0; i < 5; i++) {
        loop_sim_enter(w.machine.loop, commits_in, &w);
        world_checkpoint(&w);
        CHECK_OK(w.rc);
        CHECK_EQ(count_files(&w), i == 0 ? 1 : 2);
    }
    loop_sim_enter(w.machine.loop, free_in, &w);
    testing_machine_kill(&w.machine, false);
    damage(&w, 2500);
    world_open(&w);
    CHECK_OK(w.open_rc);
    CHECK_EQ(w.index, 2000);
    loop_sim_enter(w.machine.loop, check_in, &w);
    CHECK_EQ(kv_checkpoints(w.kv).durable_index, 2000);
    CHECK_EQ(count_files(&w), 2);
    w.stable = 2000;
    commit(&w);
    world_checkpoint(&w);
    CHECK_EQ(count_files(&w), 2); /* the damaged one is gone, 2000 and 2001 are there */
    loop_sim_enter(w.machine.loop, free_in, &w);
    testing_machine_kill(&w.machine, false);
    damage(&w, 2000);
    damage(&w, 2001);
    world_open(&w);
    CHECK_OK(w.open_rc); /* whether that will do is the log's business */
    CHECK_EQ(w.index, 0);
    world_close(&w);
}

TEST(the_image_of_another_cluster_is_refused)
{
    struct world w;
    world_new(&w, testing_seed());
    world_open(&w);
    world_checkpoint(&w);
    struct kv_mem_open_options opt = {
        .env = &w.env, .directory = DIRECTORY, .owner = (const uint8_t *)"another cluster"};
    struct kv *other = NULL;
    CHECK_RC(kv_mem_open(&opt, &other, &w.err), ERR_wrong_cluster);
    CHECK_TRUE(strstr(w.err.text, DIRECTORY) != NULL);
    world_close(&w);
}

TEST(one_at_a_time_and_cancelled_on_demand)
{
    struct world w, second = {0};
    world_new(&w, testing_seed());
    world_open(&w);
    loop_sim_enter(w.machine.loop, commits_in, &w);
    loop_sim_enter(w.machine.loop, begin_checkpoint, &w);
    second.checkpoint.done = checkpoint_done;
    second.kv = w.kv;
    second.under_way = true;
    kv_checkpoint(w.kv, &second.checkpoint);
    kv_poll(w.kv);
    CHECK_TRUE(!second.under_way && second.rc == -EALREADY);
    kv_checkpoint_cancel(w.kv);
    CHECK_TRUE(testing_machine_until(&w.machine, is_over, &w, 60000));
    CHECK_RC(w.rc, ECANCELED);
    CHECK_EQ(count_files(&w), 0);
    world_checkpoint(&w);
    CHECK_OK(w.rc);
    CHECK_EQ(count_files(&w), 1);
    kv_checkpoint_cancel(w.kv); /* nothing is under way */
    world_close(&w);
}

static void stop_done(struct kv_stop *s)
{
    container_of(s, struct world, stop)->stopped = true;
}
static void stop_in(void *ctx)
{
    struct world *w = ctx;
    w->stop.done = stop_done;
    kv_stop(w->kv, &w->stop);
}
static bool is_stopped(void *ctx)
{
    return ((struct world *)ctx)->stopped;
}
static void free_stopped_in(void *ctx)
{
    struct world *w = ctx;
    w->kv = kv_free(w->kv);
    loop_undefer(w->env.loop, &w->task);
    CHECK_EQ(w->budget.used_bytes, 0);
}

TEST(its_end_waits_for_the_checkpoint_that_it_cancels)
{
    struct world w;
    world_new(&w, testing_seed());
    world_open(&w);
    loop_sim_enter(w.machine.loop, commits_in, &w);
    world_checkpoint(&w);
    CHECK_TRUE(kv_statistics(w.kv).file_bytes > 0 && kv_statistics(w.kv).dirty_bytes == 0);
    uint64_t bytes = kv_statistics(w.kv).file_bytes;
    loop_sim_enter(w.machine.loop, commits_in, &w);
    CHECK_TRUE(kv_statistics(w.kv).dirty_bytes > 0);
    loop_sim_enter(w.machine.loop, begin_checkpoint, &w);
    loop_sim_enter(w.machine.loop, stop_in, &w);
    CHECK_TRUE(testing_machine_until(&w.machine, is_stopped, &w, 60000));
    CHECK_TRUE(!w.under_way);
    CHECK_RC(w.rc, ECANCELED);
    loop_sim_enter(w.machine.loop, free_stopped_in, &w);
    world_open(&w);
    CHECK_EQ(w.index, 500);
    CHECK_EQ(kv_statistics(w.kv).file_bytes, bytes);
    world_close(&w);
}

/* ---- crash at every step ---- */

/* Two checkpoints, then a third that dies after `steps` of the world. False: it was over by then.
 */
static bool crash_at(uint64_t seed, uint64_t steps, bool power)
{
    struct world w;
    world_new(&w, seed);
    world_open(&w);
    for (unsigned i = 0; i < 2; i++) {
        loop_sim_enter(w.machine.loop, commits_in, &w);
        world_checkpoint(&w);
        CHECK_OK(w.rc);
    }
    loop_sim_enter(w.machine.loop, commits_in, &w);
    loop_sim_enter(w.machine.loop, begin_checkpoint, &w);
    testing_machine_steps(&w.machine, steps);
    bool died = w.under_way;
    testing_machine_kill(&w.machine, power);
    world_open(&w);
    CHECK_OK(w.open_rc);
    CHECK_TRUE(w.index == 1500 || (w.index == 1000 && w.stable == 1000));
    loop_sim_enter(w.machine.loop, check_in, &w);
    w.stable = w.index;
    commit(&w);
    world_checkpoint(&w);
    CHECK_OK(w.rc);
    CHECK_EQ(count_files(&w), 2);
    world_close(&w);
    return died;
}

TEST(a_crash_at_every_step_of_a_checkpoint_loses_nothing)
{
    for (unsigned power = 0; power < 2; power++) {
        uint64_t steps = 0;
        while (crash_at(testing_seed() + steps, steps, power != 0)) {
            steps++;
            CHECK_TRUE(steps < 2000);
        }
        CHECK_TRUE(steps > 50);
    }
}

/* ---- failures at every request ---- */

static void check_failures_of(enum disk_op op, int rc)
{
    for (uint64_t nth = 1;; nth++) {
        struct world w;
        world_new(&w, testing_seed() + nth);
        world_open(&w);
        loop_sim_enter(w.machine.loop, commits_in, &w);
        world_checkpoint(&w);
        CHECK_OK(w.rc);
        loop_sim_enter(w.machine.loop, commits_in, &w);
        disk_sim_fail(w.machine.disk, op, NULL, nth, 1, rc);
        world_checkpoint(&w);
        bool failed = w.rc < 0;
        disk_sim_heal(w.machine.disk);
        if (failed) {
            CHECK_EQ(w.rc, rc);
            CHECK_EQ(w.stable, 500);
        }
        testing_machine_kill(&w.machine, true);
        world_open(&w);
        CHECK_OK(w.open_rc);
        CHECK_TRUE(w.index == 1000 || (failed && w.index == 500));
        loop_sim_enter(w.machine.loop, check_in, &w);
        w.stable = w.index;
        commit(&w);
        world_checkpoint(&w); /* it can be done again */
        CHECK_OK(w.rc);
        CHECK_EQ(count_files(&w), 2);
        world_close(&w);
        if (!failed) {
            CHECK_TRUE(nth > 1 || op == DISK_REMOVE || op == DISK_LIST);
            return;
        }
    }
}

TEST(a_failure_at_every_request_keeps_what_was_there)
{
    static const enum disk_op ops[] = {DISK_OPEN,     DISK_TRUNCATE, DISK_WRITE,
                                       DISK_SYNC_ALL, DISK_CLOSE,    DISK_RENAME,
                                       DISK_SYNC_DIR, DISK_LIST,     DISK_REMOVE};
    for (unsigned i = 0; i < ARRAY_COUNT(ops); i++) {
        check_failures_of(ops[i], ops[i] == DISK_WRITE ? -ENOSPC : -EIO);
    }
}

TEST(a_full_disk_gets_its_room_back)
{
    struct world w;
    world_new(&w, testing_seed());
    world_open(&w);
    loop_sim_enter(w.machine.loop, commits_in, &w);
    world_checkpoint(&w);
    uint64_t used = disk_sim_used_bytes(w.machine.disk);
    disk_sim_capacity(w.machine.disk, used + 20000);
    loop_sim_enter(w.machine.loop, commits_in, &w);
    world_checkpoint(&w);
    CHECK_RC(w.rc, ENOSPC);
    CHECK_EQ(disk_sim_used_bytes(w.machine.disk), used);
    CHECK_EQ(count_files(&w), 1);
    disk_sim_capacity(w.machine.disk, 0);
    world_checkpoint(&w);
    CHECK_OK(w.rc);
    world_close(&w);
}

/* ---- seeds ---- */

static void life_fire(struct loop_timer *t)
{
    struct world *w = container_of(t, struct world, timer);
    uint64_t burst = rand_below(&w->rand, 60);
    for (uint64_t i = 0; i < burst; i++) {
        commit(w);
    }
    if (!w->under_way && rand_chance(&w->rand, 1, 3)) {
        begin_checkpoint(w);
    }
    if (w->under_way && rand_chance(&w->rand, 1, 40)) {
        kv_checkpoint_cancel(w->kv);
    }
    loop_timer_in(w->machine.loop, t, rand_below(&w->rand, UINT64_C(5) * MS));
}

static void life_in(void *ctx)
{
    struct world *w = ctx;
    w->timer = (struct loop_timer){.fire = life_fire};
    loop_timer_in(w->machine.loop, &w->timer, 0);
}

static void world_lives(struct world *w)
{
    for (unsigned life = 0; life < 8; life++) {
        uint64_t stable = w->stable, before = w->before;
        bool rotten = false;
        if (stable > 0 && rand_chance(&w->rand, 1, 4)) {
            damage(w, stable);
            rotten = true;
        }
        world_open(w);
        CHECK_OK(w->open_rc);
        CHECK_TRUE(w->index >= (rotten ? before : stable));
        loop_sim_enter(w->machine.loop, check_in, w);
        w->before = rotten ? 0 : before;
        w->stable = w->index;
        if (rand_chance(&w->rand, 1, 3)) {
            testing_machine_spoil(&w->machine, &w->rand, DIRECTORY, 30);
        }
        loop_sim_enter(w->machine.loop, life_in, w);
        testing_machine_steps(&w->machine, rand_below(&w->rand, 3000));
        disk_sim_heal(w->machine.disk);
        testing_machine_kill(&w->machine, rand_chance(&w->rand, 1, 2));
    }
}

TEST(checkpoints_survive_whatever_happens)
{
    unsigned succeeded = 0, failed = 0;
    for (unsigned i = 0; i < 150; i++) {
        struct world w;
        world_new(&w, testing_seed() + i);
        world_lives(&w);
        succeeded += w.succeeded;
        failed += w.failed;
        testing_machine_fini(&w.machine);
    }
    CHECK_TRUE(succeeded > 300 && failed > 30);
}

/* ---- want of memory ---- */

TEST(want_of_memory_fails_and_leaks_nothing)
{
    struct world w;
    world_new(&w, testing_seed());
    world_open(&w);
    loop_sim_enter(w.machine.loop, commits_in, &w);
    world_checkpoint(&w);
    loop_sim_enter(w.machine.loop, free_in, &w);
    struct kv_mem_open_options opt = {
        .mem = {.budget = &w.budget}, .env = &w.env, .directory = DIRECTORY, .owner = owner};
    int rc = -ENOMEM;
    for (uint64_t limit = 1000; rc == -ENOMEM; limit += 3000) { /* the budget's */
        mem_budget_init(&w.budget, NULL, limit);
        rc = kv_mem_open(&opt, &w.kv, &w.err);
        CHECK_TRUE(rc == 0 || w.budget.used_bytes == 0);
    }
    CHECK_OK(rc);
    CHECK_EQ(kv_applied_index(w.kv), 500);
    loop_sim_enter(w.machine.loop, free_in, &w);
    rc = -ENOMEM;
    for (uint64_t nth = 1; rc == -ENOMEM; nth++) { /* each allocation */
        mem_fail_at(nth);
        rc = kv_mem_open(&opt, &w.kv, &w.err);
        mem_fail_at(0);
        CHECK_TRUE(rc == 0 || (rc == -ENOMEM && w.budget.used_bytes == 0));
    }
    CHECK_OK(rc);
    CHECK_EQ(kv_applied_index(w.kv), 500);
    w.index = 500;
    for (uint64_t nth = 1; nth < 8; nth++) { /* of a checkpoint */
        mem_fail_at(nth);
        begin_checkpoint(&w);
        mem_fail_at(0);
        CHECK_TRUE(testing_machine_until(&w.machine, is_over, &w, 60000));
        CHECK_TRUE(w.rc == 0 || w.rc == -ENOMEM);
    }
    CHECK_OK(w.rc);
    CHECK_TRUE(w.failed > 0);
    world_close(&w);
}

/* ---- the tree that is built from the leaves up ---- */

static void check_build(unsigned count)
{
    struct kv_mem_build b;
    struct kv_mem_tree t;
    struct kv_mem_path p;
    struct mem_budget budget;
    struct kv_mem_pool pool = {.budget = &budget};
    mem_budget_init(&budget, NULL, 64u << 20);
    kv_mem_build_init(&b, &pool);
    for (unsigned i = 0; i < count; i++) {
        uint8_t key[4] = {(uint8_t)(i >> 24), (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};
        CHECK_OK(kv_mem_build_add(&b, kv_slice_of(key, 4), kv_slice_of(key, i % 5)));
    }
    CHECK_OK(kv_mem_build_finish(&b, &t));
    kv_mem_build_fini(&b);
    CHECK_EQ(t.key_count, count);
    unsigned seen = 0;
    kv_mem_path_seek(&p, t.root, kv_slice_of(NULL, 0));
    for (struct kv_mem_entry *e; (e = kv_mem_path_entry(&p)) != NULL; kv_mem_path_next(&p)) {
        CHECK_TRUE(kv_mem_find(t.root, kv_mem_key(e)) == e);
        for (unsigned d = 0; d < p.depth; d++) {
            CHECK_EQ(p.node[d]->height, p.depth - 1 - d);
            CHECK_TRUE(d == 0 || p.node[d]->count >= KV_MEM_FILL_MIN);
            CHECK_TRUE(p.node[d]->height == 0 || p.node[d]->entry[0] == NULL);
        }
        seen++;
    }
    CHECK_EQ(seen, count);
    kv_mem_node_unref(t.pool, t.root);
    CHECK_EQ(budget.used_bytes, 0);
}

TEST(a_tree_of_every_size_can_be_built)
{
    for (unsigned n = 0; n < 300; n++) {
        check_build(n);
    }
    const unsigned whole = KV_MEM_BUILD_FILL * KV_MEM_BUILD_FILL;
    for (unsigned n = whole - 3; n < whole + 5 * KV_MEM_BUILD_HELD; n++) {
        check_build(n);
    }
    check_build(300000);
}
