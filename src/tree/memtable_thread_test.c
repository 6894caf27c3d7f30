/*
 * tree/memtable_thread_test.c -- one writer, four readers who pin snapshots and read them again and
 * again: for the thread sanitizer. Each batch moves an amount from one key to another, so that the
 * sum of all is the same in every snapshot; at times it deletes all as a range and puts it again.
 */
#include "tree/memtable.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rand.h"
#include "testing/testing.h"
#include "tree/merge.h"
#include "wire/wire.h"

#define KEYS 200u
#define READERS 4u
#define BATCHES 1500u
#define TABLES_MAX 6u
#define SUM (UINT64_C(1000) * KEYS)

struct state {
    struct tree_memtable *table[TABLES_MAX]; /* newest first; the oldest began with all keys */
    size_t count;
};

struct world {
    pthread_mutex_t mutex; /* of `state` */
    struct state state;
    struct tree_snapshots *snapshots;
    uint64_t msn;
    struct rand rand;
    struct kv_batch batch;
    uint64_t value[KEYS];
    _Atomic bool over;
};

struct reader {
    struct world *world;
    pthread_t thread;
    uint64_t seed;
    unsigned read, given_up;
    const char *wrong; /* NULL: nothing was */
};

static struct kv_slice key_of(uint32_t k, uint8_t buf[16])
{
    int len = snprintf((char *)buf, 16, "key%05u", k * 7919U % 100000U);
    return kv_slice_of(buf, (size_t)len);
}

static struct kv_slice value_of(uint64_t v, uint8_t buf[32])
{
    memset(buf, 0, 32);
    wire_store_u64(buf, v);
    return kv_slice_of(buf, 24);
}

/* ---- the writer ---- */

static void world_commit(struct world *w)
{
    struct tree_superseded superseded;
    CHECK_OK(tree_memtable_apply(w->state.table[0], &w->batch, w->msn + 1,
                                 tree_snapshots_look(w->snapshots), &superseded));
    w->msn += w->batch.count;
    tree_snapshots_publish(w->snapshots, w->msn, &superseded);
    kv_batch_clear(&w->batch);
}

static void world_put_all(struct world *w)
{
    uint8_t kb[16], vb[32];
    for (uint32_t k = 0; k < KEYS; k++) {
        CHECK_OK(kv_batch_put(&w->batch, key_of(k, kb), value_of(w->value[k], vb)));
    }
}

static void world_move(struct world *w)
{
    uint8_t kb[16], vb[32];
    for (uint64_t n = rand_range(&w->rand, 1, 4); n > 0; n--) {
        uint32_t from = (uint32_t)rand_below(&w->rand, KEYS);
        uint32_t to = rand_chance(&w->rand, 1, 2) ? 0 : (uint32_t)rand_below(&w->rand, KEYS);
        uint64_t amount = rand_below(&w->rand, 100);
        struct kv_field less = {.op = KV_FIELD_ADD, .operand = 0 - amount};
        struct kv_field more = {.op = KV_FIELD_ADD, .operand = amount};
        w->value[from] -= amount;
        w->value[to] += amount;
        if (rand_chance(&w->rand, 1, 2)) {
            CHECK_OK(kv_batch_upsert(&w->batch, key_of(from, kb), 24, &less, 1));
            CHECK_OK(kv_batch_upsert(&w->batch, key_of(to, kb), 24, &more, 1));
        } else {
            CHECK_OK(kv_batch_put(&w->batch, key_of(from, kb), value_of(w->value[from], vb)));
            CHECK_OK(kv_batch_put(&w->batch, key_of(to, kb), value_of(w->value[to], vb)));
        }
    }
}

/* A new memtable in front; what is behind a full one is not needed any more. */
static void world_freeze(struct world *w)
{
    struct tree_memtable_options opt = {.base_msn = w->msn, .block_bytes = 4096};
    struct tree_memtable *m = NULL;
    CHECK_OK(tree_memtable_new(&opt, &m));
    if (w->state.count > 0) {
        tree_memtable_freeze(w->state.table[0]);
    }
    (void)pthread_mutex_lock(&w->mutex);
    memmove(&w->state.table[1], &w->state.table[0], w->state.count * sizeof(void *));
    w->state.table[0] = m;
    w->state.count++;
    (void)pthread_mutex_unlock(&w->mutex);
    if (w->state.count == TABLES_MAX) {
        world_put_all(w);
        world_commit(w);
        (void)pthread_mutex_lock(&w->mutex);
        while (w->state.count > 1) {
            tree_memtable_unref(w->state.table[--w->state.count]);
        }
        (void)pthread_mutex_unlock(&w->mutex);
    }
}

static void world_write(struct world *w)
{
    for (unsigned i = 0; i < BATCHES; i++) {
        if (rand_chance(&w->rand, 1, 50)) {
            CHECK_OK(kv_batch_delete_range(&w->batch, kv_slice_of("key", 3), kv_slice_of("l", 1)));
            world_put_all(w);
        } else {
            world_move(w);
        }
        world_commit(w);
        if (rand_chance(&w->rand, 1, 60)) {
            world_freeze(w);
        }
        if (i % 32 == 0) {
            (void)sched_yield();
        }
    }
}

/* ---- readers: what is wrong is handed over, for only the thread of the test may check ---- */

struct view {
    struct tree_snapshot snapshot;
    struct state state;
    struct tree_memtable_cursor cursor[TABLES_MAX];
    struct tree_source *source[TABLES_MAX];
};

/* Snapshot and tables of one moment. */
static bool view_open(struct world *w, struct view *v)
{
    (void)pthread_mutex_lock(&w->mutex);
    bool taken = tree_snapshots_take(w->snapshots, &v->snapshot) == 0;
    v->state = w->state;
    for (size_t i = 0; i < v->state.count && taken; i++) {
        tree_memtable_ref(v->state.table[i]);
    }
    (void)pthread_mutex_unlock(&w->mutex);
    if (!taken) {
        return false;
    }
    for (size_t i = 0; i < v->state.count; i++) {
        tree_memtable_cursor_init(&v->cursor[i], v->state.table[i], v->snapshot.limit);
        v->source[i] = &v->cursor[i].base;
    }
    return true;
}

static void view_close(struct world *w, struct view *v)
{
    tree_snapshots_release(w->snapshots, &v->snapshot);
    for (size_t i = 0; i < v->state.count; i++) {
        tree_memtable_unref(v->state.table[i]);
    }
}

/* Sum and order of all keys; -ECANCELED if the snapshot was given up. */
static int view_scan(struct view *v, bool backwards, uint64_t *ret_sum, size_t *ret_count)
{
    CLEANUP(tree_merge_freep) struct tree_merge *m = NULL;
    struct tree_merge_options opt = {
        .sources = v->source, .count = v->state.count, .snapshot = &v->snapshot};
    int rc = tree_merge_new(&opt, &m);
    *ret_sum = 0;
    *ret_count = 0;
    if (rc == 0) {
        rc = backwards ? tree_merge_seek_back(m, kv_slice_of(NULL, 0))
                       : tree_merge_seek(m, kv_slice_of(NULL, 0));
    }
    while (rc == 1) {
        *ret_sum += wire_load_u64(tree_merge_value(m).at);
        (*ret_count)++;
        rc = backwards ? tree_merge_prev(m) : tree_merge_next(m);
    }
    return rc;
}

static int view_get_all(struct view *v, struct tree_fold *fold, uint64_t *ret_sum)
{
    *ret_sum = 0;
    for (uint32_t k = 0; k < KEYS; k++) {
        uint8_t kb[16];
        struct kv_slice got;
        int rc = tree_merge_get(v->source, v->state.count, key_of(k, kb), fold, &got);
        if (rc == 1 && got.len >= 8) {
            *ret_sum += wire_load_u64(got.at);
        }
    }
    return tree_snapshot_check(&v->snapshot);
}

static int view_read(struct view *v, struct tree_fold *fold, unsigned how, const char **wrong)
{
    uint64_t sum = SUM;
    size_t count = KEYS;
    int rc = how == 0 ? view_get_all(v, fold, &sum) : view_scan(v, how == 1, &sum, &count);
    if (rc == 0 && (sum != SUM || count != KEYS)) {
        *wrong = how == 0 ? "gets" : how == 1 ? "backwards" : "forwards";
    }
    return rc;
}

static void *read_all_the_time(void *arg)
{
    struct reader *r = arg;
    struct world *w = r->world;
    struct tree_fold fold = {0};
    struct rand rand;
    rand_seed(&rand, r->seed);
    while (r->wrong == NULL && (!w->over || r->read == 0)) { /* once, however late it began */
        struct view v;
        int rc = 0;
        if (!view_open(w, &v)) { /* others hold all there may be: given up, and not noticed yet */
            (void)sched_yield();
            continue;
        }
        for (uint64_t n = rand_range(&rand, 1, 6); n > 0 && rc == 0; n--) {
            rc = view_read(&v, &fold, (unsigned)rand_below(&rand, 3), &r->wrong);
        }
        view_close(w, &v);
        r->read++;
        r->given_up += rc == -ECANCELED ? 1U : 0U;
        if (rc < 0 && rc != -ECANCELED) {
            r->wrong = "an error";
        }
    }
    tree_fold_fini(&fold);
    return NULL;
}

/* One snapshot is held all the time, too: what becomes of that? */
static int run(uint64_t kept_bytes)
{
    static struct world w;
    struct reader reader[READERS];
    struct tree_snapshot held;
    w = (struct world){.mutex = PTHREAD_MUTEX_INITIALIZER};
    rand_seed(&w.rand, testing_seed());
    struct tree_snapshots_options opt = {.count_max = 8, .budget_bytes = kept_bytes};
    CHECK_OK(tree_snapshots_new(&opt, &w.snapshots));
    for (uint32_t k = 0; k < KEYS; k++) {
        w.value[k] = SUM / KEYS;
    }
    world_freeze(&w);
    world_put_all(&w);
    world_commit(&w);
    for (unsigned i = 0; i < READERS; i++) {
        reader[i] = (struct reader){.world = &w, .seed = testing_seed() + i};
        CHECK_EQ(pthread_create(&reader[i].thread, NULL, read_all_the_time, &reader[i]), 0);
    }
    CHECK_OK(tree_snapshots_take(w.snapshots, &held));
    world_write(&w);
    int rc = tree_snapshot_check(&held);
    tree_snapshots_release(w.snapshots, &held);
    w.over = true;
    for (unsigned i = 0; i < READERS; i++) {
        CHECK_EQ(pthread_join(reader[i].thread, NULL), 0);
    }
    for (unsigned i = 0; i < READERS; i++) {
        CHECK_TRUE(reader[i].wrong == NULL);
        CHECK_TRUE(reader[i].read > 0);
        CHECK_TRUE(kept_bytes < UINT64_MAX || reader[i].given_up == 0);
    }
    CHECK_EQ(tree_snapshots_state(w.snapshots).kept_bytes, 0);
    while (w.state.count > 0) {
        tree_memtable_unref(w.state.table[--w.state.count]);
    }
    tree_snapshots_free(w.snapshots);
    kv_batch_fini(&w.batch);
    return rc;
}

TEST(readers_see_whole_batches_while_the_writer_goes_on)
{
    CHECK_OK(run(UINT64_MAX));
}

TEST(readers_that_keep_too_much_are_told)
{
    CHECK_RC(run(1000), ECANCELED);
}
