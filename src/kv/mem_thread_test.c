/*
 * kv/mem_thread_test.c -- a checkpoint is written by a thread of its own while the writer goes on:
 * for the thread sanitizer, on a real disk.
 */
#include "kv/mem.h"

#include "base/env.h"
#include "base/rand.h"
#include "base/stats.h"
#include "disk/disk.h"
#include "loop/loop.h"
#include "testing/testing.h"

#include <stdio.h>
#include <string.h>

#define KEYS 4000u
#define ROUNDS 6u

struct world {
    struct env env;
    struct kv *kv;
    char directory[400];
    uint32_t value[KEYS]; /* 0: absent */
    uint32_t frozen[KEYS];
    uint64_t index;
    struct kv_batch batch;
    struct rand rand;
};

struct checkpoint {
    struct kv_checkpoint base;
    bool done;
};

static void checkpoint_done(struct kv_checkpoint *c, int rc)
{
    CHECK_OK(rc);
    container_of(c, struct checkpoint, base)->done = true;
}

static void world_open(struct world *w)
{
    static const uint8_t owner[16] = "threads";
    struct err e = {0};
    struct kv_mem_open_options opt = {.mem.seed = 1,
                                      .env = &w->env,
                                      .directory = w->directory,
                                      .owner = owner,
                                      .image_block_bytes = 4096};
    CHECK_OK(kv_mem_open(&opt, &w->kv, &e));
}

static struct kv_slice key_of(uint32_t i, uint8_t buf[16])
{
    int len = snprintf((char *)buf, 16, "key%08u", i);
    return kv_slice_of(buf, (size_t)len);
}

/* Some of all that changes a tree in place: puts, deletes, counters. */
static void world_commit(struct world *w)
{
    uint8_t key[16];
    kv_batch_clear(&w->batch);
    for (unsigned i = 0; i < 8; i++) {
        uint32_t k = (uint32_t)rand_below(&w->rand, KEYS);
        uint64_t what = rand_below(&w->rand, 4);
        if (what == 0) {
            CHECK_OK(kv_batch_delete(&w->batch, key_of(k, key)));
            w->value[k] = 0;
        } else if (what == 1) {
            uint32_t v[4] = {++w->value[k], 0, 0, 0};
            CHECK_OK(kv_batch_put(&w->batch, key_of(k, key), kv_slice_of(v, sizeof v)));
        } else {
            struct kv_field one = {.offset = 0, .op = KV_FIELD_ADD, .operand = 1};
            CHECK_OK(kv_batch_upsert(&w->batch, key_of(k, key), 16, &one, 1));
            w->value[k]++;
        }
    }
    CHECK_OK(kv_commit(w->kv, &w->batch, ++w->index));
}

static void world_compare(struct world *w)
{
    struct kv_need need = {0};
    struct kv_snapshot *s;
    uint8_t key[16];
    CHECK_OK(kv_snapshot_new(w->kv, &s));
    for (uint32_t k = 0; k < KEYS; k++) {
        struct kv_slice got;
        uint32_t v = 0;
        int rc = kv_get(s, key_of(k, key), &need, &got);
        CHECK_EQ(rc, w->frozen[k] > 0 ? 1 : 0);
        if (rc == 1) {
            CHECK_EQ(got.len, 16);
            memcpy(&v, got.at, sizeof v);
        }
        CHECK_EQ(v, w->frozen[k]);
    }
    kv_snapshot_free(s);
}

TEST(a_checkpoint_and_the_writer_do_not_meet)
{
    static struct world w;
    w = (struct world){0};
    rand_seed(&w.rand, testing_seed());
    CHECK_OK(loop_new(&(struct loop_options){.name = "kv"}, &w.env.loop, NULL));
    w.env.stats = stats_new(NULL, "kv");
    CHECK_TRUE(w.env.stats != NULL);
    CHECK_OK(disk_pool_new(&w.env, &(struct disk_pool_options){.max_threads = 2}, &w.env.disk));
    snprintf(w.directory, sizeof w.directory, "%s/images", testing_directory());
    CHECK_OK(disk_make_directories(w.env.disk, w.directory));
    world_open(&w);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct checkpoint c = {.base.done = checkpoint_done};
        world_commit(&w);
        memcpy(w.frozen, w.value, sizeof w.frozen);
        kv_checkpoint(w.kv, &c.base);
        for (unsigned i = 0; i < 100000 && !c.done; i++) {
            world_commit(&w);
            loop_run_once(w.env.loop, 0);
        }
        CHECK_TRUE(c.done);
    }
    kv_mem_end(w.kv);
    world_open(&w);
    world_compare(&w);
    kv_mem_end(w.kv);
    kv_batch_fini(&w.batch);
    disk_free(w.env.disk);
    stats_free(w.env.stats);
    loop_free(w.env.loop);
}
