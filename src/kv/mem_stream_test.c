/*
 * kv/mem_stream_test.c -- images that are streamed into another directory while commits and
 * checkpoints go on; the connection breaks, the receiving process dies, the disk fails. What is
 * opened there has what the checkpoint had.
 */
#include "kv/mem_receiver.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/env.h"
#include "base/mem.h"
#include "base/rand.h"
#include "disk/sim.h"
#include "kv/mem.h"
#include "loop/loop.h"
#include "loop/sim.h"
#include "testing/machine.h"
#include "testing/testing.h"

#define FROM "/from"
#define TO "/to"
#define KEYS 400u
#define VALUE 3000u

static const uint8_t owner[16] = {9, 9};

struct world {
    struct rand rand;
    struct testing_machine machine;
    struct env env;
    struct mem_budget budget;
    const char *directory;
    struct kv *kv;
    struct kv_owner owner;
    struct loop_task task;
    struct kv_checkpoint checkpoint;
    struct kv_pin *pin, *second;
    struct kv_pin_read read;
    struct kv_receiver *receiver;
    struct kv_receive put;
    uint8_t *buf;
    uint64_t index, wanted;
    bool busy;
    int rc;
    struct err err;
};

/* ---- inside the process ---- */

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
    w->owner.wake = woken;
    w->task.run = poll_kv;
    CHECK_OK(disk_make_directories(w->env.disk, FROM));
    CHECK_OK(disk_make_directories(w->env.disk, TO));
    struct kv_mem_open_options opt = {.mem = {.budget = &w->budget, .owner = &w->owner, .seed = 1},
                                      .env = &w->env,
                                      .directory = w->directory,
                                      .owner = owner,
                                      .image_block_bytes = 600u << 10};
    w->rc = kv_mem_open(&opt, &w->kv, &w->err);
    w->index = w->rc == 0 ? kv_applied_index(w->kv) : 0;
}

static struct kv_slice key_of(uint64_t k, char out[16])
{
    return kv_slice_of(out, (size_t)snprintf(out, 16, "key%06" PRIu64, k));
}

/* Key k has, at each index, the newest index that is k modulo KEYS. */
static void commits_in(void *ctx)
{
    struct world *w = ctx;
    static const uint8_t zeros[VALUE];
    while (w->index < w->wanted) {
        uint8_t value[VALUE];
        char key[16];
        struct kv_batch b;
        kv_batch_init(&b);
        w->index++;
        memcpy(value, zeros, sizeof value);
        memcpy(value, &w->index, sizeof w->index);
        CHECK_OK(kv_batch_put(&b, key_of(w->index % KEYS, key), kv_slice_of(value, VALUE)));
        CHECK_OK(kv_commit(w->kv, &b, w->index));
        kv_batch_fini(&b);
    }
}

static void check_in(void *ctx)
{
    struct world *w = ctx;
    struct kv_snapshot *s = NULL;
    struct kv_need need = {0};
    CHECK_OK(kv_snapshot_new(w->kv, &s));
    CHECK_EQ(s->index, w->index);
    for (uint64_t k = 0; k < KEYS; k++) {
        char key[16];
        struct kv_slice got;
        uint64_t newest = w->index - (w->index + KEYS - k) % KEYS, has = 0;
        CHECK_EQ(kv_get(s, key_of(k, key), &need, &got), newest <= w->index && newest > 0);
        if (newest <= w->index && newest > 0) {
            memcpy(&has, got.at, sizeof has);
            CHECK_EQ(has, newest);
        }
    }
    kv_snapshot_free(s);
}

static void checkpointed(struct kv_checkpoint *c, int rc)
{
    struct world *w = container_of(c, struct world, checkpoint);
    w->busy = false;
    w->rc = rc;
}
static void checkpoint_in(void *ctx)
{
    struct world *w = ctx;
    w->checkpoint = (struct kv_checkpoint){.done = checkpointed, .term = 4};
    kv_checkpoint(w->kv, &w->checkpoint);
}
static void was_read(struct kv_pin_read *r, int rc)
{
    struct world *w = container_of(r, struct world, read);
    w->busy = false;
    w->rc = rc;
}
static void read_in(void *ctx)
{
    struct world *w = ctx;
    kv_pin_read(w->pin, &w->read);
}
static void was_put(struct kv_receive *r, int rc)
{
    struct world *w = container_of(r, struct world, put);
    w->busy = false;
    w->rc = rc;
}
static void put_in(void *ctx)
{
    struct world *w = ctx;
    kv_receiver_put(w->receiver, &w->put);
}
static void pin_in(void *ctx)
{
    struct world *w = ctx;
    w->rc = kv_pin_new(w->kv, &w->pin);
}
static void second_in(void *ctx)
{
    struct world *w = ctx;
    struct kv_pin *third = NULL;
    CHECK_OK(kv_pin_new(w->kv, &w->second));
    CHECK_RC(kv_pin_new(w->kv, &third), ENOBUFS);
    w->second = kv_pin_free(w->second);
}
static void unpin_in(void *ctx)
{
    struct world *w = ctx;
    w->pin = kv_pin_free(w->pin);
}
static void receiver_in(void *ctx)
{
    struct world *w = ctx;
    struct kv_mem_receiver_options opt = {.env = &w->env, .directory = TO, .owner = owner};
    w->rc = kv_mem_receiver_open(&opt, &w->receiver, &w->err);
}
static void receiver_free_in(void *ctx)
{
    struct world *w = ctx;
    w->receiver = kv_receiver_free(w->receiver);
}
static void end_in(void *ctx)
{
    struct world *w = ctx;
    w->kv = kv_mem_end(w->kv);
    loop_undefer(w->env.loop, &w->task);
}

/* ---- from outside ---- */

static bool is_over(void *ctx)
{
    return !((struct world *)ctx)->busy;
}
static void enter(struct world *w, void (*fn)(void *ctx))
{
    loop_sim_enter(w->machine.loop, fn, w);
}
static int wait(struct world *w, void (*fn)(void *ctx))
{
    w->busy = true;
    enter(w, fn);
    CHECK_TRUE(testing_machine_until(&w->machine, is_over, w, 60000));
    return w->rc;
}

static void begin(struct world *w, const char *directory)
{
    testing_machine_start(&w->machine, "kv", &w->env);
    w->directory = directory;
    w->kv = NULL;
    w->pin = NULL;
    w->receiver = NULL;
    enter(w, open_in);
    CHECK_OK(w->rc);
}

static void commit_to(struct world *w, uint64_t index)
{
    w->wanted = index;
    enter(w, commits_in);
}

static void init(struct world *w, uint64_t index)
{
    *w = (struct world){.buf = mem_alloc(KV_FRAME_MAX)};
    CHECK(w->buf != NULL);
    rand_seed(&w->rand, testing_seed());
    testing_machine_init(&w->machine, testing_seed());
    begin(w, FROM);
    commit_to(w, index);
    CHECK_OK(wait(w, checkpoint_in));
}

static void fini(struct world *w)
{
    testing_machine_kill(&w->machine, false);
    testing_machine_fini(&w->machine);
    mem_free(w->buf);
}

static int read_at(struct world *w, const struct kv_cursor *at)
{
    w->read = (struct kv_pin_read){.done = was_read, .from = *at, .buf = w->buf};
    return wait(w, read_in);
}

static int put(struct world *w)
{
    w->put = (struct kv_receive){.done = was_put, .bytes = w->buf, .len = w->read.len};
    return wait(w, put_in);
}

/* One frame; true: the last one. */
static bool step(struct world *w)
{
    struct kv_cursor at = kv_receiver_cursor(w->receiver);
    CHECK_OK(read_at(w, &at));
    int rc = put(w);
    if (rc < 0) {
        fprintf(stderr, "%s\n", w->put.err.text);
    }
    CHECK_OK(rc);
    CHECK_TRUE(w->put.whole == w->read.last);
    return w->put.whole;
}

static void check_copy(struct world *w, uint64_t index)
{
    testing_machine_kill(&w->machine, true);
    begin(w, TO);
    CHECK_EQ(w->index, index);
    enter(w, check_in);
    commit_to(w, index + 10);
    CHECK_OK(wait(w, checkpoint_in));
    enter(w, end_in);
}

TEST(an_image_is_streamed_while_others_are_written)
{
    struct world w;
    init(&w, 1000);
    enter(&w, pin_in);
    CHECK_OK(w.rc);
    CHECK_EQ(w.pin->index, 1000);
    CHECK_EQ(w.pin->term, 4);
    enter(&w, second_in);
    enter(&w, receiver_in);
    CHECK_OK(w.rc);
    CHECK_EQ(kv_statistics(w.kv).pins, 1);
    while (!step(&w)) {
        commit_to(&w, w.index + 7);
        CHECK_OK(wait(&w, checkpoint_in));
    }
    CHECK_TRUE(kv_statistics(w.kv).pinned_bytes > (uint64_t)KEYS * VALUE);
    enter(&w, receiver_free_in);
    enter(&w, unpin_in);
    CHECK_EQ(kv_statistics(w.kv).pinned_bytes, 0);
    enter(&w, check_in);
    enter(&w, end_in);
    check_copy(&w, 1000);
    fini(&w);
}

/* After each frame the receiver dies, or its machine; also the sender, whose newest image is the
 * same. */
TEST(a_receiver_dies_behind_any_frame)
{
    uint64_t frames = 100;
    for (uint64_t at = 0; at < frames; at++) {
        struct world w;
        init(&w, 500);
        enter(&w, pin_in);
        enter(&w, receiver_in);
        uint64_t i = 0;
        bool whole = false;
        for (; i <= at && !whole; i++) {
            whole = step(&w);
        }
        frames = whole ? i : frames;
        testing_machine_kill(&w.machine, at % 2 == 1);
        begin(&w, FROM);
        enter(&w, pin_in);
        CHECK_OK(w.rc);
        if (!whole) {
            enter(&w, receiver_in);
            CHECK_OK(w.rc);
            CHECK_TRUE(kv_receiver_cursor(w.receiver).number <= at + 1);
            CHECK_TRUE(at < 6 || at % 2 == 1 || kv_receiver_cursor(w.receiver).number > 0);
            while (!step(&w)) {
            }
        }
        check_copy(&w, 500);
        fini(&w);
    }
    CHECK_TRUE(frames > 6);
}

TEST(a_damaged_image_is_not_sent)
{
    struct world w;
    init(&w, 500);
    enter(&w, pin_in);
    uint64_t bytes = w.pin->bytes;
    for (unsigned i = 0; i < 10; i++) {
        char path[64];
        uint64_t at = rand_below(&w.rand, bytes);
        snprintf(path, sizeof path, FROM "/%016x.image", 500u);
        CHECK_OK(disk_sim_corrupt(w.machine.disk, path, at, 0x40));
        struct kv_cursor c = {0};
        uint64_t sent = 0;
        int rc = 0;
        while (rc == 0) {
            rc = read_at(&w, &c);
            sent += rc == 0 ? w.read.len - KV_FRAME_HEADER_BYTES : 0;
            CHECK_TRUE(rc < 0 || !w.read.last);
            c = w.read.next;
        }
        CHECK_ERR(rc, ERR_corrupt);
        CHECK_TRUE(strstr(w.read.err.text, path) != NULL);
        CHECK_TRUE(sent <= at);
        CHECK_OK(disk_sim_corrupt(w.machine.disk, path, at, 0x40));
    }
    enter(&w, receiver_in);
    while (!step(&w)) {
    }
    check_copy(&w, 500);
    fini(&w);
}

TEST(another_checkpoint_does_not_go_on)
{
    struct world w;
    init(&w, 500);
    enter(&w, pin_in);
    enter(&w, receiver_in);
    for (unsigned i = 0; i < 4; i++) {
        CHECK_TRUE(!step(&w));
    }
    enter(&w, unpin_in);
    commit_to(&w, 600);
    CHECK_OK(wait(&w, checkpoint_in));
    enter(&w, pin_in);
    struct kv_cursor at = kv_receiver_cursor(w.receiver);
    CHECK_RC(read_at(&w, &at), ESTALE);
    struct kv_cursor wrong = {.place = {.kind = 1, .item = 77}};
    CHECK_RC(read_at(&w, &wrong), ERR_bad_value);
    fini(&w);
}

static const struct {
    enum disk_op op;
    int rc;
} failures[] = {{DISK_WRITE, -EIO},    {DISK_WRITE, -ENOSPC}, {DISK_SYNC_ALL, -EIO},
                {DISK_TRUNCATE, -EIO}, {DISK_RENAME, -EIO},   {DISK_READ, -EIO}};

TEST(requests_that_fail)
{
    for (size_t i = 0; i < 3 * ARRAY_COUNT(failures); i++) {
        struct world w;
        init(&w, 500);
        enter(&w, pin_in);
        size_t f = i % ARRAY_COUNT(failures);
        disk_sim_fail(w.machine.disk, failures[f].op, TO "/", 1 + i / ARRAY_COUNT(failures), 1,
                      failures[f].rc);
        bool whole = false;
        for (unsigned tries = 0; !whole; tries++) {
            CHECK_TRUE(tries < 200);
            if (w.receiver == NULL) {
                enter(&w, receiver_in);
                CHECK_TRUE(w.rc == 0 || w.rc == failures[f].rc);
                continue;
            }
            struct kv_cursor at = kv_receiver_cursor(w.receiver);
            CHECK_OK(read_at(&w, &at));
            int rc = put(&w);
            CHECK_TRUE(rc == 0 || rc == failures[f].rc || rc == -ERR_failed_before);
            whole = w.put.whole;
            if (rc == -ERR_failed_before) {
                enter(&w, receiver_free_in);
            }
        }
        disk_sim_heal(w.machine.disk);
        check_copy(&w, 500);
        fini(&w);
    }
}
