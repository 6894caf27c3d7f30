/*
 * tree/stream_real_test.c -- a checkpoint that is streamed on a real file system, by real threads,
 * while commits go on; and a copy of what has arrived.
 */
#include "base/env.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "testing/testing.h"
#include "tree/copy.h"
#include "tree/receiver.h"
#include "tree/tree.h"

#include <stdio.h>
#include <string.h>

#define RECORDS 4000u
#define VALUE_BYTES 200u
#define MS UINT64_C(1000000)

struct real {
    struct env env;
    struct tree_options opt;
    struct kv *kv;
    struct tree_found found;
    struct kv_checkpoint checkpoint;
    struct kv_stop stop;
    struct kv_need need;
    struct kv_fetch fetch;
    struct kv_pin *pin;
    struct kv_pin_read read;
    struct kv_receiver *receiver;
    struct kv_receive put;
    uint8_t *buf;
    uint64_t index;
    bool busy;
    int rc;
    struct err err;
};

static void real_over(struct real *r, int rc)
{
    r->busy = false;
    r->rc = rc;
}
static void checkpointed(struct kv_checkpoint *c, int rc)
{
    real_over(container_of(c, struct real, checkpoint), rc);
}
static void stopped(struct kv_stop *s)
{
    real_over(container_of(s, struct real, stop), 0);
}
static void fetched(struct kv_fetch *f, int rc)
{
    real_over(container_of(f, struct real, fetch), rc);
}
static void was_read(struct kv_pin_read *p, int rc)
{
    real_over(container_of(p, struct real, read), rc);
}
static void was_put(struct kv_receive *p, int rc)
{
    real_over(container_of(p, struct real, put), rc);
}

static void real_wait(struct real *r)
{
    uint64_t end = loop_now_ns(r->env.loop) + 60000 * MS;
    while (r->busy && loop_now_ns(r->env.loop) < end) {
        loop_run_once(r->env.loop, 10 * MS);
    }
    CHECK_TRUE(!r->busy);
    if (r->rc < 0) {
        fprintf(stderr, "%s %s %s\n", err_name(r->rc), r->read.err.text, r->put.err.text);
    }
    CHECK_OK(r->rc);
}

/* Record i has the value of the index that wrote it last. */
static void commit(struct real *r)
{
    char key[32];
    uint8_t value[VALUE_BYTES] = {0};
    struct kv_batch b;
    kv_batch_init(&b);
    r->index++;
    for (uint64_t i = r->index % 16; i < RECORDS; i += 16) {
        int len = snprintf(key, sizeof key, "%06llx", (unsigned long long)(i * 7919 % 1000003));
        memcpy(value, &r->index, sizeof r->index);
        memcpy(value + 8, &i, sizeof i);
        CHECK_OK(kv_batch_put(&b, kv_slice_of(key, (size_t)len), kv_slice_of(value, VALUE_BYTES)));
    }
    int rc = kv_commit(r->kv, &b, r->index);
    for (unsigned rounds = 0; rc == -ERR_busy && rounds < 100000; rounds++) {
        loop_run_once(r->env.loop, MS);
        rc = kv_commit(r->kv, &b, r->index);
    }
    CHECK_OK(rc);
    kv_batch_fini(&b);
}

static void save(struct real *r)
{
    r->busy = true;
    r->checkpoint = (struct kv_checkpoint){.done = checkpointed};
    kv_checkpoint(r->kv, &r->checkpoint);
    real_wait(r);
}

static void check(struct real *r)
{
    struct kv_snapshot *s = NULL;
    CHECK_OK(kv_snapshot_new(r->kv, &s));
    for (uint64_t i = 0; i < RECORDS; i += 3) {
        char key[32];
        uint64_t has = 0, last = s->index - (s->index + 16 - i % 16) % 16;
        struct kv_slice value;
        int len = snprintf(key, sizeof key, "%06llx", (unsigned long long)(i * 7919 % 1000003));
        int rc = kv_get(s, kv_slice_of(key, (size_t)len), &r->need, &value);
        for (unsigned rounds = 0; rc == -ERR_need && rounds < 100; rounds++) {
            r->busy = true;
            r->fetch = (struct kv_fetch){.need = &r->need, .done = fetched};
            kv_fetch(r->kv, &r->fetch);
            real_wait(r);
            rc = kv_get(s, kv_slice_of(key, (size_t)len), &r->need, &value);
        }
        CHECK_EQ(rc, 1);
        memcpy(&has, value.at, sizeof has);
        CHECK_EQ(has, last);
        kv_need_release(&r->need);
    }
    kv_snapshot_free(s);
}

static void open_tree(struct real *r, const char *path)
{
    r->opt.path = path;
    CHECK_OK(tree_open(&r->opt, &r->kv, &r->found, &r->err));
}

static void close_tree(struct real *r)
{
    r->busy = true;
    r->stop.done = stopped;
    kv_stop(r->kv, &r->stop);
    real_wait(r);
    r->kv = kv_free(r->kv);
}

static void stream(struct real *r, const char *to)
{
    struct tree_receiver_options opt = {.env = &r->env, .path = to, .owner = r->opt.owner};
    CHECK_OK(kv_pin_new(r->kv, &r->pin));
    CHECK_OK(tree_receiver_open(&opt, &r->receiver, &r->err));
    while (!r->put.whole) {
        r->read = (struct kv_pin_read){
            .done = was_read, .from = kv_receiver_cursor(r->receiver), .buf = r->buf};
        r->busy = true;
        kv_pin_read(r->pin, &r->read);
        real_wait(r);
        commit(r); /* meanwhile */
        r->put = (struct kv_receive){.done = was_put, .bytes = r->buf, .len = r->read.len};
        r->busy = true;
        kv_receiver_put(r->receiver, &r->put);
        real_wait(r);
    }
    r->receiver = kv_receiver_free(r->receiver);
    r->pin = kv_pin_free(r->pin);
}

TEST(a_stream_on_a_real_disk)
{
    struct real r = {.buf = mem_alloc(KV_FRAME_MAX)};
    struct loop_options lo = {.name = "tree"};
    struct disk_pool_options po = {.max_threads = 2};
    struct tree_copy_result copied;
    CLEANUP(mem_freep) char *path = mem_printf("%s/tree", testing_directory());
    CLEANUP(mem_freep) char *to = mem_printf("%s/streamed", testing_directory());
    CLEANUP(mem_freep) char *last = mem_printf("%s/copied", testing_directory());
    CHECK_TRUE(path != NULL && to != NULL && last != NULL && r.buf != NULL);
    CHECK_OK(loop_new(&lo, &r.env.loop, &r.err));
    CHECK_OK(disk_pool_new(&r.env, &po, &r.env.disk));
    r.opt = (struct tree_options){.env = &r.env,
                                  .path = path,
                                  .owner = (const uint8_t *)"owner of a tree!",
                                  .shape = TREE_SHAPE_DEFAULT,
                                  .cache_bytes = 6u << 20,
                                  .memtable_bytes = 200u << 10};
    r.opt.shape.leaf_raw = 64u << 10;
    r.opt.shape.internal_raw = 128u << 10;
    r.opt.shape.fanout = 8;
    CHECK_OK(tree_create(&r.opt, &r.err));
    open_tree(&r, path);
    for (unsigned i = 0; i < 24; i++) {
        commit(&r);
    }
    save(&r);
    stream(&r, to);
    close_tree(&r);
    struct tree_copy_options copy = {.disk = r.env.disk, .path = to, .out = last};
    CHECK_OK(tree_copy(&copy, &copied, &r.err));
    CHECK_EQ(copied.applied_index, 24);
    open_tree(&r, last);
    CHECK_EQ(r.found.index, 24);
    check(&r);
    close_tree(&r);
    mem_free(r.buf);
    (void)disk_free(r.env.disk);
    (void)loop_free(r.env.loop);
}
