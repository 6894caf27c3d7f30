/*
 * tree/tree_real_test.c -- a tree on a real file system, with real threads for work in the
 * background and one that reads all the time.
 */
#include "tree/tree.h"

#include "base/env.h"
#include "base/mem.h"
#include "base/rand.h"
#include "loop/executor.h"
#include "loop/loop.h"
#include "testing/testing.h"
#include "tree/tree_priv.h"
#include "tree/write_priv.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define RECORDS 16000u
#define VALUE_BYTES 100u
#define MS UINT64_C(1000000)

struct real {
    struct env env;
    struct tree_options opt;
    struct kv *kv;
    struct tree_found found;
    struct kv_batch batch;
    struct kv_checkpoint checkpoint;
    struct tree_settle settle;
    struct kv_stop stop;
    struct kv_need need;
    struct kv_fetch fetch;
    uint64_t index;
    unsigned left;
    int rc;
    _Atomic bool enough; /* of reading */
    _Atomic uint64_t reads, wrong;
};

static struct kv_slice real_key(uint64_t i, uint8_t out[20])
{
    uint64_t mixed = i * UINT64_C(0x9e3779b97f4a7c15);
    return kv_slice_of(out,
                       (size_t)snprintf((char *)out, 20, "%016llx", (unsigned long long)mixed));
}

static struct kv_slice real_value(uint64_t i, uint8_t out[VALUE_BYTES])
{
    struct rand r;
    rand_seed(&r, i + 1);
    rand_bytes(&r, out, VALUE_BYTES);
    return kv_slice_of(out, VALUE_BYTES);
}

static void real_wait(struct real *r)
{
    uint64_t end = loop_now_ns(r->env.loop) + 60000 * MS;
    while (r->left > 0 && loop_now_ns(r->env.loop) < end) {
        loop_run_once(r->env.loop, 10 * MS);
    }
    CHECK_EQ(r->left, 0);
}

static void checkpoint_done(struct kv_checkpoint *c, int rc)
{
    struct real *r = container_of(c, struct real, checkpoint);
    r->left--;
    r->rc = rc;
}

static void settle_done(struct tree_settle *s, int rc)
{
    struct real *r = container_of(s, struct real, settle);
    r->left--;
    r->rc = rc;
}

static void stop_done(struct kv_stop *s)
{
    container_of(s, struct real, stop)->left--;
}

static void fetch_done(struct kv_fetch *f, int rc)
{
    struct real *r = container_of(f, struct real, fetch);
    r->left--;
    r->rc = rc;
}

static void real_settle(struct real *r)
{
    r->settle.done = settle_done;
    r->left = 1;
    tree_settle(r->kv, &r->settle);
    real_wait(r);
    CHECK_OK(r->rc);
}

static void checkpoint_begin(struct real *r)
{
    r->checkpoint = (struct kv_checkpoint){.done = checkpoint_done};
    r->left = 1;
    kv_checkpoint(r->kv, &r->checkpoint);
}

static void real_close(struct real *r)
{
    r->stop.done = stop_done;
    r->left = 1;
    kv_stop(r->kv, &r->stop);
    real_wait(r);
    r->kv = kv_free(r->kv);
}

static void put_some(struct real *r, uint64_t first)
{
    uint8_t key[20], value[VALUE_BYTES];
    kv_batch_clear(&r->batch);
    for (uint64_t i = first; i < first + 20; i++) {
        CHECK_OK(kv_batch_put(&r->batch, real_key(i, key), real_value(i, value)));
    }
    r->index++;
    int rc = kv_commit(r->kv, &r->batch, r->index);
    for (unsigned rounds = 0; rc == -ERR_busy && rounds < 100000; rounds++) {
        loop_run_once(r->env.loop, MS);
        rc = kv_commit(r->kv, &r->batch, r->index);
    }
    CHECK_OK(rc);
}

/* In any order, of any snapshot: a record that is there has its one value. */
static void *read_all_the_time(void *arg)
{
    struct real *r = arg;
    struct rand rand;
    struct kv_need need = {0};
    rand_seed(&rand, 5);
    while (!atomic_load(&r->enough)) {
        struct kv_snapshot *s = NULL;
        if (kv_snapshot_new(r->kv, &s) < 0) {
            continue;
        }
        for (unsigned n = 0; n < 50; n++) {
            uint8_t key[20], expected[VALUE_BYTES];
            struct kv_slice value;
            uint64_t i = rand_below(&rand, RECORDS);
            if (kv_get(s, real_key(i, key), &need, &value) == 1) {
                struct kv_slice right = real_value(i, expected);
                bool same = value.len == right.len && memcmp(value.at, right.at, right.len) == 0;
                atomic_fetch_add(&r->wrong, same ? 0 : 1);
                atomic_fetch_add(&r->reads, 1);
            }
            kv_need_release(&need); /* what is missing would be fetched by the loop */
        }
        kv_snapshot_free(s);
    }
    return NULL;
}

static void check_records(struct real *r, uint64_t count)
{
    struct kv_snapshot *s = NULL;
    CHECK_OK(kv_snapshot_new(r->kv, &s));
    for (uint64_t i = 0; i < count; i += 7) {
        uint8_t key[20], expected[VALUE_BYTES];
        struct kv_slice value = {0}, right = real_value(i, expected);
        int rc = kv_get(s, real_key(i, key), &r->need, &value);
        for (unsigned rounds = 0; rc == -ERR_need && rounds < 100; rounds++) {
            r->fetch = (struct kv_fetch){.need = &r->need, .done = fetch_done};
            r->left = 1;
            kv_fetch(r->kv, &r->fetch);
            real_wait(r);
            CHECK_OK(r->rc);
            rc = kv_get(s, real_key(i, key), &r->need, &value);
        }
        CHECK_EQ(rc, 1);
        CHECK_EQ(value.len, right.len);
        CHECK_BYTES(value.at, right.at, right.len);
        kv_need_release(&r->need);
    }
    kv_snapshot_free(s);
}

static void real_open(struct real *r)
{
    struct err e = {0};
    int rc = tree_open(&r->opt, &r->kv, &r->found, &e);
    if (rc < 0) {
        fprintf(stderr, "%s\n", e.text);
    }
    CHECK_OK(rc);
    r->index = r->found.index;
}

/* Writes all of it, with a checkpoint from time to time. */
static void real_load(struct real *r)
{
    pthread_t reader;
    CHECK_EQ(pthread_create(&reader, NULL, read_all_the_time, r), 0);
    for (uint64_t i = 0; i < RECORDS; i += 20) {
        put_some(r, i);
        if (i % 4000 == 0) {
            real_wait(r);
            CHECK_OK(r->rc);
            checkpoint_begin(r);
        }
    }
    real_wait(r);
    CHECK_OK(r->rc);
    real_settle(r);
    atomic_store(&r->enough, true);
    CHECK_EQ(pthread_join(reader, NULL), 0);
    CHECK_TRUE(atomic_load(&r->reads) > 0 && atomic_load(&r->wrong) == 0);
}

static void real_init(struct real *r, const char *path)
{
    struct err e = {0};
    struct loop_options lo = {.name = "tree"};
    struct disk_pool_options po = {.max_threads = 2};
    CHECK_TRUE(path != NULL);
    CHECK_OK(loop_new(&lo, &r->env.loop, &e));
    CHECK_OK(disk_pool_new(&r->env, &po, &r->env.disk));
    r->opt = (struct tree_options){.env = &r->env,
                                   .path = path,
                                   .owner = (const uint8_t *)"owner of a tree!",
                                   .shape = TREE_SHAPE_DEFAULT,
                                   .cache_bytes = 6u << 20,
                                   .memtable_bytes = 200u << 10};
    r->opt.shape.leaf_raw = 64u << 10;
    r->opt.shape.internal_raw = 128u << 10;
    r->opt.shape.fanout = 8;
    CHECK_OK(tree_create(&r->opt, &e));
}

static void real_fini(struct real *r)
{
    kv_batch_fini(&r->batch);
    (void)disk_free(r->env.disk);
    (void)loop_free(r->env.loop);
}

TEST(tree_works_on_a_real_disk)
{
    struct real r = {.left = 0};
    CLEANUP(mem_freep) char *path = mem_printf("%s/tree", testing_directory());
    real_init(&r, path);
    real_open(&r);
    real_load(&r);
    checkpoint_begin(&r);
    real_wait(&r);
    CHECK_OK(r.rc);
    real_close(&r);
    real_open(&r);
    CHECK_EQ(r.found.index, RECORDS / 20);
    check_records(&r, RECORDS);
    real_close(&r);
    real_fini(&r);
}

/* ---- all threads are somebody else's ---- */

#define THREADS 2u

struct blocker {
    struct loop_executor_job job[THREADS];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned running, over;
    bool enough;
};

static struct blocker blocker = {.lock = PTHREAD_MUTEX_INITIALIZER,
                                 .changed = PTHREAD_COND_INITIALIZER};

static void block(struct loop_executor_job *j)
{
    (void)j;
    pthread_mutex_lock(&blocker.lock);
    blocker.running++;
    pthread_cond_broadcast(&blocker.changed);
    while (!blocker.enough) {
        pthread_cond_wait(&blocker.changed, &blocker.lock);
    }
    pthread_mutex_unlock(&blocker.lock);
}

static void blocked(struct loop_executor_job *j)
{
    (void)j;
    blocker.over++;
}

static void block_all(struct real *r)
{
    for (unsigned i = 0; i < THREADS; i++) {
        blocker.job[i] = (struct loop_executor_job){.work = block, .done = blocked};
        CHECK_OK(loop_executor_submit(r->opt.executor, r->env.loop, &blocker.job[i]));
    }
    pthread_mutex_lock(&blocker.lock);
    while (blocker.running < THREADS) {
        pthread_cond_wait(&blocker.changed, &blocker.lock);
    }
    pthread_mutex_unlock(&blocker.lock);
}

static void block_none(struct real *r)
{
    pthread_mutex_lock(&blocker.lock);
    blocker.enough = true;
    pthread_cond_broadcast(&blocker.changed);
    pthread_mutex_unlock(&blocker.lock);
    while (blocker.over < THREADS) {
        loop_run_once(r->env.loop, 10 * MS);
    }
}

/* Nodes and a memtable are packed by the loop when no thread comes for them. */
TEST(checkpoint_goes_on_when_no_thread_is_free)
{
    struct real r = {.left = 0};
    struct loop_executor_options xo = {.name = "tree", .max_threads = THREADS, .max_queued = 64};
    CLEANUP(mem_freep) char *path = mem_printf("%s/busy", testing_directory());
    real_init(&r, path);
    CHECK_OK(loop_executor_new(&xo, &r.opt.executor));
    real_open(&r);
    for (uint64_t i = 0; i < 4000; i += 20) {
        put_some(&r, i);
    }
    real_settle(&r);
    struct tree *t = tree_of(r.kv);
    struct tree_nodes_info info;
    tree_nodes_info(t->nodes, &info);
    CHECK_TRUE(info.dirty_bytes > 0);
    block_all(&r);
    put_some(&r, 4000);
    checkpoint_begin(&r);
    real_wait(&r);
    CHECK_OK(r.rc);
    CHECK_EQ(blocker.over, 0);
    tree_nodes_info(t->nodes, &info);
    CHECK_EQ(info.dirty_bytes, 0);
    CHECK_TRUE(t->writer->helped > 10);
    block_none(&r);
    real_close(&r);
    real_open(&r);
    CHECK_EQ(r.found.index, 4020 / 20);
    check_records(&r, 4020);
    struct loop_executor *x = r.opt.executor;
    real_close(&r);
    (void)loop_executor_free(x);
    real_fini(&r);
}
