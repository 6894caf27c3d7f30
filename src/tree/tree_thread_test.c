/*
 * tree/tree_thread_test.c -- the tree with real threads and a real disk, for the thread sanitizer:
 * readers with snapshots and iterators on threads of their own, while the loop's thread commits,
 * and drains, flushes, evictions and checkpoints go on. What they need is fetched by the loop.
 *
 * What a snapshot must show is known from its index alone: commit i writes, or deletes, the keys of
 * one group with i in their values, and adds to a counter.
 */
#include "tree/tree.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

#include "base/rand.h"
#include "disk/disk.h"
#include "loop/executor.h"
#include "loop/loop.h"
#include "testing/testing.h"
#include "tree/tree_priv.h"
#include "wire/wire.h"

#define GROUPS 97u
#define MEMBERS 9u
#define COUNTERS 5u
#define READERS 3u
#define COMMITS 2500u
#define MS UINT64_C(1000000)

struct world {
    struct env env;
    struct tree_options opt;
    struct kv *kv;
    struct rand rand;
    struct kv_batch batch;
    struct kv_checkpoint checkpoint;
    bool checkpointing;
    unsigned checkpoints;
    struct kv_stop stop;
    bool stopped;
    char path[400];
    _Atomic bool over;
    _Atomic unsigned readers;
};

struct reader {
    struct world *world;
    pthread_t thread;
    struct rand rand;
    struct kv_snapshot *snapshot;
    struct kv_need need;
    struct kv_fetch fetch;
    struct loop_message message;
    sem_t fetched;
    int rc;
    size_t gets, scans, fetches, given_up;
    char wrong[160];
};

/* ---- what must be there ---- */

static struct kv_slice key_of(unsigned group, unsigned member, char buf[24])
{
    int len = snprintf(buf, 24, "g%03u/%u", group, member);
    return kv_slice_of(buf, (size_t)len);
}

static struct kv_slice counter_of(unsigned c, char buf[24])
{
    int len = snprintf(buf, 24, "z%u", c);
    return kv_slice_of(buf, (size_t)len);
}

/* The newest commit up to `index` that changed the group; 0: none. */
static uint64_t commit_of(unsigned group, uint64_t index)
{
    return index < group ? 0 : index - (index - group) % GROUPS;
}

static bool deletes(uint64_t commit)
{
    return commit % 13 == 5 || commit % 13 == 6;
}

static size_t value_of(unsigned group, unsigned member, uint64_t commit, char buf[100])
{
    size_t len = 20 + (commit * 7 + member) % 60;
    memset(buf, (int)('a' + commit % 26), len);
    int head = snprintf(buf, 100, "%u.%u.%llu", group, member, (unsigned long long)commit);
    buf[head] = '.';
    return len > (size_t)head ? len : (size_t)head;
}

static bool group_present(unsigned group, uint64_t index)
{
    uint64_t commit = commit_of(group, index);
    return commit != 0 && !deletes(commit);
}

static uint64_t counter_at(unsigned c, uint64_t index)
{
    return index < c ? 0 : (index - c) / COUNTERS + (c == 0 ? 0 : 1);
}

/* ---- readers ---- */

static void reader_fetched(struct kv_fetch *f, int rc)
{
    struct reader *r = container_of(f, struct reader, fetch);
    r->rc = rc;
    sem_post(&r->fetched);
}

static void reader_asked(struct loop_message *m)
{
    struct reader *r = container_of(m, struct reader, message);
    r->fetch = (struct kv_fetch){.need = &r->need, .done = reader_fetched};
    kv_fetch(r->world->kv, &r->fetch);
}

static void reader_fetch(struct reader *r)
{
    r->fetches++;
    r->message.run = reader_asked;
    loop_complete(r->world->env.loop, &r->message);
    while (sem_wait(&r->fetched) != 0) {
    }
    if (r->rc < 0 && r->rc != -ENOMEM) {
        (void)snprintf(r->wrong, sizeof r->wrong, "fetch: %s", err_name(r->rc));
    }
}

static void reader_wrong(struct reader *r, const char *what, unsigned group, uint64_t found)
{
    (void)snprintf(r->wrong, sizeof r->wrong, "%s %u at index %llu: %llu", what, group,
                   (unsigned long long)r->snapshot->index, (unsigned long long)found);
}

static bool same(unsigned group, unsigned member, uint64_t index, struct kv_slice value)
{
    char buf[100];
    size_t len = value_of(group, member, commit_of(group, index), buf);
    return value.len == len && memcmp(buf, value.at, len) == 0;
}

static int reader_get(struct reader *r, struct kv_slice key, struct kv_slice *ret)
{
    int rc = kv_get(r->snapshot, key, &r->need, ret);
    while (rc == -ERR_need && r->wrong[0] == 0) {
        reader_fetch(r);
        rc = kv_get(r->snapshot, key, &r->need, ret);
    }
    r->gets++;
    return rc;
}

static int reader_gets(struct reader *r)
{
    char buf[24];
    struct kv_slice value;
    unsigned group = (unsigned)rand_below(&r->rand, GROUPS);
    unsigned member = (unsigned)rand_below(&r->rand, MEMBERS);
    uint64_t index = r->snapshot->index;
    int rc = reader_get(r, key_of(group, member, buf), &value);
    if (rc >= 0 &&
        (rc != group_present(group, index) || (rc == 1 && !same(group, member, index, value)))) {
        reader_wrong(r, "group", group, (uint64_t)rc);
    }
    unsigned c = (unsigned)rand_below(&r->rand, COUNTERS);
    if (rc >= 0) {
        rc = reader_get(r, counter_of(c, buf), &value);
    }
    uint64_t count = rc == 1 ? wire_load_u64(value.at) : 0;
    if (rc >= 0 && count != counter_at(c, index)) {
        reader_wrong(r, "counter", c, count);
    }
    kv_need_release(&r->need);
    return rc < 0 ? rc : 0;
}

static int reader_move(struct reader *r, struct kv_iter *it, bool first, bool back)
{
    struct kv_slice all = {0};
    int rc;
    do {
        rc = first  ? back ? kv_iter_seek_back(it, all) : kv_iter_seek(it, all)
              : back ? kv_iter_prev(it)
                    : kv_iter_next(it);
        if (rc == -ERR_need) {
            reader_fetch(r);
        }
    } while (rc == -ERR_need && r->wrong[0] == 0);
    return rc;
}

/* The next key that must be there. */
static bool scan_expects(unsigned *at, bool back, uint64_t index)
{
    unsigned all = GROUPS * MEMBERS;
    while (*at < all && !group_present(*at / MEMBERS, index)) {
        *at += back ? -1U : 1U;
    }
    return *at < all;
}

static int reader_scan(struct reader *r, bool back)
{
    uint64_t index = r->snapshot->index;
    unsigned at = back ? GROUPS * MEMBERS - 1 : 0;
    char from[24], to[24];
    struct kv_iter *it = NULL;
    struct kv_iter_options opt = {.lower = key_of(0, 0, from), .upper = counter_of(0, to)};
    opt.upper.len = 1;
    opt.need = &r->need;
    int rc = kv_iter_new(r->snapshot, &opt, &it);
    for (bool first = true; rc >= 0 && r->wrong[0] == 0; first = false) {
        bool expected = scan_expects(&at, back, index);
        rc = reader_move(r, it, first, back);
        if (rc < 0 || (rc == 0 && !expected)) {
            break;
        }
        char buf[24];
        if (rc == 0 || !expected ||
            kv_slice_compare(key_of(at / MEMBERS, at % MEMBERS, buf), it->key) != 0 ||
            !same(at / MEMBERS, at % MEMBERS, index, it->value)) {
            reader_wrong(r, "scan", at, (uint64_t)rc);
        }
        at += back ? -1U : 1U;
    }
    kv_iter_free(it);
    kv_need_release(&r->need);
    r->scans++;
    return rc < 0 ? rc : 0;
}

static void *reader_run(void *arg)
{
    struct reader *r = arg;
    struct world *w = r->world;
    while (r->wrong[0] == 0 && !w->over) {
        int rc = kv_snapshot_new(w->kv, &r->snapshot);
        if (rc == -ERR_busy) {
            continue;
        }
        uint64_t turns = rand_below(&r->rand, 30);
        for (uint64_t i = 0; i < turns && rc == 0 && r->wrong[0] == 0 && !w->over; i++) {
            rc = rand_chance(&r->rand, 1, 10) ? reader_scan(r, rand_chance(&r->rand, 1, 2))
                                              : reader_gets(r);
        }
        if (rc < 0 && rc != -ECANCELED && rc != -ENOMEM && r->wrong[0] == 0) {
            (void)snprintf(r->wrong, sizeof r->wrong, "read: %s", err_name(rc));
        }
        r->given_up += rc < 0 ? 1 : 0;
        r->snapshot = kv_snapshot_free(r->snapshot);
    }
    w->readers--;
    return NULL;
}

/* ---- the loop's thread ---- */

static void make_batch(struct world *w, uint64_t index)
{
    char key[24], high[24], value[100];
    unsigned group = (unsigned)(index % GROUPS);
    struct kv_field add = {.offset = 0, .op = KV_FIELD_ADD, .operand = 1};
    kv_batch_clear(&w->batch);
    if (index % 13 == 5) {
        struct kv_slice to = key_of(group, MEMBERS - 1, high);
        high[to.len - 1]++;
        (void)kv_batch_delete_range(&w->batch, key_of(group, 0, key), to);
    }
    for (unsigned m = 0; m < MEMBERS && index % 13 != 5; m++) {
        if (deletes(index)) {
            (void)kv_batch_delete(&w->batch, key_of(group, m, key));
        } else {
            size_t len = value_of(group, m, index, value);
            (void)kv_batch_put(&w->batch, key_of(group, m, key), kv_slice_of(value, len));
        }
    }
    (void)kv_batch_upsert(&w->batch, counter_of((unsigned)(index % COUNTERS), key), 8, &add, 1);
    CHECK_OK(w->batch.rc);
}

static void checkpointed(struct kv_checkpoint *c, int rc)
{
    struct world *w = container_of(c, struct world, checkpoint);
    CHECK_TRUE(rc == 0 || rc == -ENOMEM || rc == -ECANCELED);
    w->checkpointing = false;
    w->checkpoints += rc == 0;
}

static void something(struct world *w)
{
    uint64_t dice = rand_below(&w->rand, 60);
    if (dice == 0 && !w->checkpointing) {
        w->checkpointing = true;
        w->checkpoint = (struct kv_checkpoint){.done = checkpointed, .term = 1};
        kv_checkpoint(w->kv, &w->checkpoint);
    } else if (dice < 6) {
        (void)tree_cache_shrink(tree_of(w->kv)->cache, 0);
    }
    loop_run_once(w->env.loop, 0);
}

static void world_open(struct world *w)
{
    struct tree_found found;
    struct err e = {0};
    CHECK_OK(tree_open(&w->opt, &w->kv, &found, &e));
}

static void world_init(struct world *w)
{
    struct err e = {0};
    const struct loop_options lo = {.name = "tree"};
    const struct disk_pool_options po = {.max_threads = 2};
    rand_seed(&w->rand, testing_seed());
    CHECK_OK(loop_new(&lo, &w->env.loop, &e));
    CHECK_OK(disk_pool_new(&w->env, &po, &w->env.disk));
    (void)snprintf(w->path, sizeof w->path, "%s/tree", testing_directory());
    w->opt = (struct tree_options){.env = &w->env,
                                   .path = w->path,
                                   .owner = (const uint8_t *)"owner of a tree!",
                                   .shape = {.leaf_raw = 4096,
                                             .basement_raw = 512,
                                             .internal_raw = 8192,
                                             .part_raw = 1024,
                                             .fanout = 6,
                                             .runs_max = 3,
                                             .filter_bits = 10,
                                             .codec = TREE_CODEC_LZ4},
                                   .cache_bytes = 2u << 20,
                                   .memtable_bytes = 24u << 10,
                                   .snapshots_max = 64,
                                   .writes_max = 2};
    CHECK_OK(tree_create(&w->opt, &e));
    world_open(w);
}

static void world_stopped(struct kv_stop *s)
{
    container_of(s, struct world, stop)->stopped = true;
}

static void world_close(struct world *w)
{
    w->stop.done = world_stopped;
    w->stopped = false;
    kv_stop(w->kv, &w->stop);
    uint64_t end = loop_now_ns(w->env.loop) + 60000 * MS;
    while (!w->stopped && loop_now_ns(w->env.loop) < end) {
        loop_run_once(w->env.loop, 10 * MS);
    }
    CHECK_TRUE(w->stopped);
    w->kv = kv_free(w->kv);
}

/* It has been closed and opened. */
static void check_all(struct world *w)
{
    struct reader r = {.world = w};
    char buf[24];
    struct kv_slice value;
    CHECK_OK(kv_snapshot_new(w->kv, &r.snapshot));
    CHECK_EQ(r.snapshot->index, COMMITS);
    for (unsigned g = 0; g < GROUPS; g++) {
        int rc = kv_get(r.snapshot, key_of(g, 3, buf), &r.need, &value);
        for (unsigned rounds = 0; rc == -ERR_need && rounds < 10000; rounds++) {
            r.rc = 1;
            r.fetch = (struct kv_fetch){.need = &r.need, .done = reader_fetched};
            kv_fetch(w->kv, &r.fetch);
            while (r.rc == 1) {
                loop_run_once(w->env.loop, 10 * MS);
            }
            rc = kv_get(r.snapshot, key_of(g, 3, buf), &r.need, &value);
        }
        CHECK_EQ(rc, group_present(g, COMMITS));
        CHECK_TRUE(rc == 0 || same(g, 3, COMMITS, value));
        kv_need_release(&r.need);
    }
    kv_snapshot_free(r.snapshot);
}

static void commit_all(struct world *w)
{
    uint64_t end = loop_now_ns(w->env.loop) + 120000 * MS;
    for (uint64_t index = 1; index <= COMMITS && w->readers == READERS; index++) {
        make_batch(w, index);
        int rc = kv_commit(w->kv, &w->batch, index);
        while (rc == -ERR_busy && w->readers == READERS) {
            CHECK_TRUE(loop_now_ns(w->env.loop) < end);
            loop_run_once(w->env.loop, MS);
            rc = kv_commit(w->kv, &w->batch, index);
        }
        CHECK_TRUE(rc == 0 || w->readers < READERS);
        something(w);
    }
}

TEST(threads_read_while_the_tree_is_busy)
{
    static struct world w;
    static struct reader reader[READERS];
    w = (struct world){.readers = READERS};
    world_init(&w);
    for (unsigned i = 0; i < READERS; i++) {
        reader[i] = (struct reader){.world = &w};
        rand_seed(&reader[i].rand, testing_seed() + i);
        CHECK_EQ(sem_init(&reader[i].fetched, 0, 0), 0);
        CHECK_EQ(pthread_create(&reader[i].thread, NULL, reader_run, &reader[i]), 0);
    }
    commit_all(&w);
    w.over = true;
    while (w.readers > 0 || w.checkpointing) {
        loop_run_once(w.env.loop, MS);
    }
    size_t gets = 0, scans = 0, fetches = 0;
    for (unsigned i = 0; i < READERS; i++) {
        CHECK_EQ(pthread_join(reader[i].thread, NULL), 0);
        CHECK_TEXT(reader[i].wrong, "");
        gets += reader[i].gets;
        scans += reader[i].scans;
        fetches += reader[i].fetches;
        (void)sem_destroy(&reader[i].fetched);
    }
    CHECK_TRUE(gets > 100 && scans > 10 && fetches > 0 && w.checkpoints > 0);
    w.checkpointing = true;
    w.checkpoint = (struct kv_checkpoint){.done = checkpointed, .term = 1};
    kv_checkpoint(w.kv, &w.checkpoint);
    while (w.checkpointing) {
        loop_run_once(w.env.loop, MS);
    }
    world_close(&w);
    world_open(&w);
    check_all(&w);
    world_close(&w);
    kv_batch_fini(&w.batch);
    (void)disk_free(w.env.disk);
    (void)loop_free(w.env.loop);
}
