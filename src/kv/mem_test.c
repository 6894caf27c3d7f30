#include "kv/mem.h"

#include <string.h>

#include "base/mem.h"
#include "base/rand.h"
#include "testing/testing.h"

/* The model: every key is a small number, its value a byte string or absent. */
#define KEYS 400u
#define VALUE_SIZE 24u
struct model {
    struct model_value {
        bool present;
        uint8_t len;
        uint8_t bytes[VALUE_SIZE];
    } value[KEYS];
};

struct fixture {
    struct kv_owner owner;
    struct kv *kv;
    struct kv_need need;
    struct mem_budget budget;
    int wakes;
};

static void fixture_wake(struct kv_owner *o)
{
    container_of(o, struct fixture, owner)->wakes++;
}

static int fixture_open(struct fixture *f, uint32_t need_permille)
{
    *f = (struct fixture){.owner.wake = fixture_wake};
    mem_budget_init(&f->budget, NULL, 64U << 20);
    struct kv_mem_options opt = {.budget = &f->budget,
                                 .owner = &f->owner,
                                 .seed = testing_seed(),
                                 .need_permille = need_permille,
                                 .fetch_polls_max = 3,
                                 .strict = need_permille > 0};
    return kv_mem_new(&opt, &f->kv);
}

static void fixture_close(struct fixture *f)
{
    if (f->kv != NULL) {
        kv_need_release(&f->need);
        f->kv = kv_mem_end(f->kv);
        CHECK_EQ(f->budget.used_bytes, 0);
    }
}

struct fetch {
    struct kv_fetch base;
    bool done;
};

static void fetch_done(struct kv_fetch *f, int rc)
{
    CHECK_OK(rc);
    container_of(f, struct fetch, base)->done = true;
}

static void fixture_fetch(struct fixture *f)
{
    struct fetch fetch = {.base = {.need = &f->need, .done = fetch_done}};
    f->wakes = 0;
    CHECK_TRUE(f->need.missing > 0);
    kv_fetch(f->kv, &fetch.base);
    CHECK_TRUE(!fetch.done);
    for (int polls = 0; !fetch.done; polls++) {
        CHECK_TRUE(f->wakes > 0); /* nobody polls without having been woken */
        CHECK_TRUE(polls < 5);
        f->wakes = 0;
        kv_poll(f->kv);
    }
    CHECK_EQ(f->need.missing, 0);
}

/* Runs `call` until it does not need anything. */
#define FETCHING(f, call)                  \
    (__extension__({                       \
        int fetching_rc = (call);          \
        while (fetching_rc == -ERR_need) { \
            fixture_fetch(f);              \
            fetching_rc = (call);          \
        }                                  \
        fetching_rc;                       \
    }))

static struct kv_slice key_of(uint32_t k, uint8_t buf[8])
{
    /* Lengths differ, and some keys are prefixes of others. */
    buf[0] = (uint8_t)(k >> 4);
    buf[1] = (uint8_t)(k >> 2 & 3);
    buf[2] = (uint8_t)(k & 3);
    size_t len = (k & 3) == 0 ? (k >> 2 & 3) == 0 ? 1 : 2 : 3;
    return kv_slice_of(buf, len);
}

static uint32_t key_back(struct kv_slice key)
{
    const uint8_t *b = key.at;
    return (uint32_t)b[0] << 4 | (key.len > 1 ? (uint32_t)b[1] << 2 : 0) | (key.len > 2 ? b[2] : 0);
}

static int model_put(struct model *m, struct kv_batch *b, struct rand *r, uint32_t k)
{
    uint8_t buf[8];
    struct model_value *v = &m->value[k];
    v->present = true;
    v->len = (uint8_t)rand_below(r, VALUE_SIZE + 1);
    rand_bytes(r, v->bytes, v->len);
    return kv_batch_put(b, key_of(k, buf), kv_slice_of(v->bytes, v->len));
}

static int model_upsert(struct model *m, struct kv_batch *b, struct rand *r, uint32_t k)
{
    uint8_t buf[8];
    struct model_value *v = &m->value[k];
    struct kv_field f[2] = {
        {.offset = (uint16_t)rand_below(r, 5), .op = KV_FIELD_ADD, .operand = rand_u64(r)},
        {.offset = 8, .op = KV_FIELD_MAX, .operand = rand_below(r, 1000)}};
    size_t old = v->present ? v->len : 0;
    memset(v->bytes + old, 0, VALUE_SIZE - old);
    v->present = true;
    v->len = (uint8_t)base_max(old, 16);
    kv_fields_apply(v->bytes, v->len, f, 2);
    return kv_batch_upsert(b, key_of(k, buf), 16, f, 2);
}

static int model_delete_range(struct model *m, struct kv_batch *b, struct rand *r, uint32_t k)
{
    uint8_t low[8], high[8];
    uint32_t end = (uint32_t)base_min(KEYS - 1, k + rand_below(r, 60));
    for (uint32_t i = k; i < end; i++) {
        m->value[i].present = false;
    }
    return kv_batch_delete_range(b, key_of(k, low), key_of(end, high));
}

static int model_step(struct model *m, struct kv_batch *b, struct rand *r, unsigned deletes)
{
    uint8_t buf[8];
    uint32_t k = (uint32_t)rand_below(r, KEYS);
    uint64_t dice = rand_below(r, 100);
    if (dice < deletes) {
        m->value[k].present = false;
        return kv_batch_delete(b, key_of(k, buf));
    }
    if (dice < deletes + 2) {
        return model_delete_range(m, b, r, k);
    }
    return dice < 80 ? model_put(m, b, r, k) : model_upsert(m, b, r, k);
}

static void check_value(const struct model_value *v, struct kv_slice got)
{
    CHECK_EQ(got.len, v->len);
    CHECK_BYTES(got.at, v->bytes, v->len);
}

static void check_gets(struct fixture *f, struct kv_snapshot *s, const struct model *m,
                       struct rand *r)
{
    for (unsigned n = 0; n < 20; n++) {
        uint8_t buf[8];
        struct kv_slice got;
        uint32_t k = (uint32_t)rand_below(r, KEYS);
        int rc = FETCHING(f, kv_get(s, key_of(k, buf), &f->need, &got));
        CHECK_EQ(rc, m->value[k].present ? 1 : 0);
        if (rc == 1) {
            check_value(&m->value[k], got);
        }
    }
    kv_need_release(&f->need);
}

static bool model_after(const struct model *m, uint32_t from, uint32_t high, uint32_t *ret)
{
    for (*ret = from; *ret < high; (*ret)++) {
        if (m->value[*ret].present) {
            return true;
        }
    }
    return false;
}

static bool model_before(const struct model *m, uint32_t below, uint32_t low, uint32_t *ret)
{
    for (*ret = below; *ret > low; (*ret)--) {
        if (m->value[*ret - 1].present) {
            (*ret)--;
            return true;
        }
    }
    return false;
}

static void check_landed(const struct model *m, struct kv_iter *it, int rc, bool expected,
                         uint32_t k)
{
    CHECK_EQ(rc, expected ? 1 : 0);
    if (rc == 1 && expected) {
        CHECK_EQ(key_back(it->key), k);
        check_value(&m->value[k], it->value);
    }
}

/* Some of them twice, in no order: one fetch brings what all of them miss. */
static void check_multiget(struct fixture *f, struct kv_snapshot *s, const struct model *m,
                           struct rand *r)
{
    enum { WANTED = 40 };
    uint8_t buf[WANTED][8];
    uint32_t k[WANTED];
    struct kv_wanted at[WANTED];
    size_t count = (size_t)rand_below(r, WANTED + 1);
    unsigned fetches = 0;
    bool all = true; /* of those that are there by chance some may be missing the next time */
    for (size_t i = 0; i < count; i++) {
        k[i] = (uint32_t)rand_below(r, KEYS);
        at[i] = (struct kv_wanted){.key = key_of(k[i], buf[i])};
    }
    int rc = kv_multiget(s, at, count, &f->need);
    while (rc == -ERR_need) {
        unsigned missing = 0;
        for (size_t i = 0; i < count; i++) {
            missing += at[i].rc == -ERR_need ? 1 : 0;
        }
        CHECK_TRUE(missing > 0 && f->need.missing > 0);
        all = all && missing == count;
        fixture_fetch(f);
        fetches++;
        rc = kv_multiget(s, at, count, &f->need);
    }
    CHECK_OK(rc);
    CHECK_TRUE(fetches <= 1 || !all);
    for (size_t i = 0; i < count; i++) {
        CHECK_EQ(at[i].rc, m->value[k[i]].present ? 1 : 0);
        if (at[i].rc == 1) {
            check_value(&m->value[k[i]], at[i].value);
        }
    }
    kv_need_release(&f->need);
}

/* An iterator over the keys low .. high - 1 and where it stands. */
struct walk {
    struct fixture *f;
    struct kv_iter *it;
    const struct model *model;
    uint32_t low, high, at;
    bool on;
};

static void check_walk_step(struct walk *w, struct rand *r)
{
    uint8_t kb[8];
    uint64_t dice = rand_below(r, 10);
    uint32_t to = (uint32_t)rand_below(r, KEYS);
    int rc = 0;
    bool found = false;
    if (!w->on && dice % 2 == 0) {
        rc = FETCHING(w->f, kv_iter_seek(w->it, key_of(to, kb)));
        found = model_after(w->model, to > w->low ? to : w->low, w->high, &w->at);
    } else if (!w->on) {
        rc = FETCHING(w->f, kv_iter_seek_back(w->it, key_of(to, kb)));
        found = model_before(w->model, to + 1 < w->high ? to + 1 : w->high, w->low, &w->at);
    } else if (dice < 6) {
        rc = FETCHING(w->f, kv_iter_next(w->it));
        found = model_after(w->model, w->at + 1, w->high, &w->at);
    } else {
        rc = FETCHING(w->f, kv_iter_prev(w->it));
        found = model_before(w->model, w->at, w->low, &w->at);
    }
    check_landed(w->model, w->it, rc, found, w->at);
    w->on = rc == 1;
}

/* Walks to and fro between random bounds and compares each step. */
static int check_walk(struct fixture *f, struct kv_snapshot *s, const struct model *m,
                      struct rand *r)
{
    uint8_t lb[8], ub[8];
    struct walk w = {.f = f, .model = m, .high = KEYS};
    struct kv_iter_options opt = {.need = &f->need, .ahead = (uint32_t)rand_below(r, 10)};
    if (rand_chance(r, 1, 2)) {
        w.low = (uint32_t)rand_below(r, KEYS);
        w.high = w.low + (uint32_t)rand_below(r, KEYS - w.low);
        opt.lower = key_of(w.low, lb);
        opt.upper = key_of(w.high, ub);
    }
    CLEANUP(kv_iter_freep) struct kv_iter *it = NULL;
    int rc = kv_iter_new(s, &opt, &it);
    if (rc < 0) {
        return rc;
    }
    w.it = it;
    for (unsigned n = 0; n < 40; n++) {
        check_walk_step(&w, r);
    }
    kv_need_release(&f->need);
    return 0;
}

struct held {
    struct kv_snapshot *snapshot;
    struct model model;
};
#define HELD 4u

static void verify_against_model(uint64_t seed, uint32_t need_permille, unsigned deletes)
{
    struct fixture f;
    struct rand r;
    rand_seed(&r, seed);
    CHECK_OK(fixture_open(&f, need_permille));
    struct held *held = mem_calloc(HELD, sizeof *held);
    struct model *m = mem_zalloc(sizeof *m);
    struct kv_batch b = {0};
    for (uint64_t index = 1; index <= 60; index++) {
        kv_batch_clear(&b);
        for (uint64_t n = rand_below(&r, 40); n > 0; n--) {
            CHECK_OK(model_step(m, &b, &r, deletes));
        }
        CHECK_OK(kv_commit(f.kv, &b, index));
        CHECK_EQ(kv_applied_index(f.kv), index);
        kv_mem_verify(f.kv);
        struct held *h = &held[rand_below(&r, HELD)];
        h->snapshot = kv_snapshot_free(h->snapshot);
        CHECK_OK(kv_snapshot_new(f.kv, &h->snapshot));
        CHECK_EQ(h->snapshot->index, index);
        h->model = *m;
        h = &held[rand_below(&r, HELD)]; /* perhaps an old one: still what it was */
        if (h->snapshot != NULL) {
            check_gets(&f, h->snapshot, &h->model, &r);
            CHECK_OK(check_walk(&f, h->snapshot, &h->model, &r));
            check_multiget(&f, h->snapshot, &h->model, &r);
        }
    }
    for (unsigned i = 0; i < HELD; i++) {
        held[i].snapshot = kv_snapshot_free(held[i].snapshot);
    }
    kv_batch_fini(&b);
    mem_free(m);
    mem_free(held);
    fixture_close(&f);
}

TEST(engine_agrees_with_the_model)
{
    for (uint64_t i = 0; i < 30; i++) {
        verify_against_model(testing_seed() + i, (uint32_t)(i % 5) * 100,
                             10 + (unsigned)(i % 3) * 25);
    }
}

TEST(engine_agrees_when_everything_must_be_fetched)
{
    verify_against_model(testing_seed(), 1000, 30);
}

static void fixture_freep(struct fixture *f)
{
    fixture_close(f);
}
static void batch_freep(struct kv_batch *b)
{
    kv_batch_fini(b);
}

/* A commit that fails changes nothing; the same batch succeeds later. */
TEST_TORTURE(commit_is_atomic)
{
    CLEANUP(fixture_freep) struct fixture f = {0};
    CLEANUP(batch_freep) struct kv_batch b = {0};
    TRY(fixture_open(&f, 0));
    for (uint32_t k = 0; k < KEYS; k++) {
        uint8_t buf[8];
        TRY(kv_batch_put(&b, key_of(k, buf), kv_slice_of("old", 3)));
    }
    TRY(kv_commit(f.kv, &b, 1));
    kv_batch_clear(&b);
    struct kv_field field = {.offset = 0, .op = KV_FIELD_ADD, .operand = 1};
    for (uint32_t k = 0; k < KEYS; k += 7) {
        uint8_t buf[8], end[8];
        TRY(kv_batch_delete_range(&b, key_of(k, buf), key_of(k + 5, end)));
        TRY(kv_batch_upsert(&b, key_of(k + 6, buf), 8, &field, 1));
    }
    int rc = kv_commit(f.kv, &b, 2);
    kv_mem_verify(f.kv);
    CHECK_EQ(kv_applied_index(f.kv), rc == 0 ? 2 : 1);
    if (rc < 0) {
        CLEANUP(kv_snapshot_freep) struct kv_snapshot *s = NULL;
        struct kv_slice got;
        uint8_t buf[8];
        CHECK_OK(kv_snapshot_new(f.kv, &s));
        for (uint32_t k = 0; k < KEYS; k++) {
            CHECK_EQ(kv_get(s, key_of(k, buf), &f.need, &got), 1);
            CHECK_EQ(got.len, 3);
        }
    }
    TRY(rc);
}

TEST_TORTURE(reads_survive_every_failed_allocation)
{
    CLEANUP(fixture_freep) struct fixture f = {0};
    CLEANUP(batch_freep) struct kv_batch b = {0};
    CLEANUP(kv_snapshot_freep) struct kv_snapshot *s = NULL;
    CLEANUP(kv_iter_freep) struct kv_iter *it = NULL;
    struct kv_slice got;
    TRY(fixture_open(&f, 1000));
    TRY(kv_batch_put(&b, kv_slice_of("a", 1), kv_slice_of("1", 1)));
    TRY(kv_commit(f.kv, &b, 1));
    TRY(kv_snapshot_new(f.kv, &s));
    int rc = kv_get(s, kv_slice_of("a", 1), &f.need, &got);
    TRY(rc == -ERR_need ? 0 : rc);
    fixture_fetch(&f);
    CHECK_EQ(kv_get(s, kv_slice_of("a", 1), &f.need, &got), 1);
    struct kv_iter_options opt = {.need = &f.need};
    TRY(kv_iter_new(s, &opt, &it));
    CHECK_EQ(kv_iter_seek(it, kv_slice_of(NULL, 0)), 1); /* pinned by the get */
    it = kv_iter_free(it);
    kv_need_release(&f.need);
}

TEST(budget_bounds_the_engine)
{
    struct fixture f;
    struct kv_batch b = {0};
    static uint8_t big[KV_VALUE_MAX];
    CHECK_OK(fixture_open(&f, 0));
    f.budget.limit_bytes = 1U << 20;
    int rc = 0;
    uint32_t k = 0;
    for (; rc == 0 && k < KEYS; k++) {
        uint8_t buf[8];
        kv_batch_clear(&b);
        CHECK_OK(kv_batch_put(&b, key_of(k, buf), kv_slice_of(big, sizeof big)));
        rc = kv_commit(f.kv, &b, k + 1);
    }
    CHECK_RC(rc, ENOMEM);
    CHECK_TRUE(k > 5 && k < 9);
    kv_mem_verify(f.kv);
    kv_batch_fini(&b);
    fixture_close(&f);
}

struct checkpoint {
    struct kv_checkpoint base;
    int rc;
};

static void checkpoint_done(struct kv_checkpoint *c, int rc)
{
    container_of(c, struct checkpoint, base)->rc = rc;
}

TEST(checkpoint_tells_its_index_and_only_one_runs)
{
    struct fixture f;
    struct kv_batch b = {0};
    struct checkpoint one = {.base.done = checkpoint_done, .rc = 1}, two = one;
    CHECK_OK(fixture_open(&f, 0));
    CHECK_OK(kv_commit(f.kv, &b, 7));
    kv_checkpoint(f.kv, &one.base);
    CHECK_OK(kv_commit(f.kv, &b, 8));
    kv_checkpoint(f.kv, &two.base);
    CHECK_EQ(one.rc, 1);
    CHECK_TRUE(f.wakes > 0);
    CHECK_EQ(kv_poll(f.kv), 2);
    CHECK_OK(one.rc);
    CHECK_EQ(one.base.index, 7);
    CHECK_RC(two.rc, EALREADY);
    fixture_close(&f);
}

TEST(need_list_is_bounded)
{
    struct fixture f;
    CHECK_OK(fixture_open(&f, 1000));
    for (uint64_t i = 0; i < KV_NEED_MAX; i++) {
        CHECK_OK(kv_need_add(&f.need, f.kv, i, 9));
    }
    CHECK_OK(kv_need_add(&f.need, f.kv, 5, 9)); /* listed: no new item */
    CHECK_RC(kv_need_add(&f.need, f.kv, 5, 10), ENOBUFS);
    CHECK_EQ(f.need.missing, KV_NEED_MAX);
    fixture_fetch(&f);
    fixture_close(&f);
}

/* Ascending, descending and random insertion of many records, then removal of all. */
TEST(many_records_come_and_go)
{
    struct fixture f;
    struct kv_batch b = {0};
    const uint32_t count = 50000;
    CHECK_OK(fixture_open(&f, 0));
    for (uint32_t i = 0; i < count; i++) {
        uint32_t v = i % 3 == 0 ? i : i % 3 == 1 ? count * 2 - i : (i * 2654435761U) | 1U << 31;
        uint8_t key[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
        CHECK_OK(kv_batch_put(&b, kv_slice_of(key, 4), kv_slice_of(key, 4)));
    }
    CHECK_OK(kv_commit(f.kv, &b, 1));
    kv_mem_verify(f.kv);
    struct kv_snapshot *s;
    CHECK_OK(kv_snapshot_new(f.kv, &s));
    struct kv_estimate all = kv_estimate(s, kv_slice_of("\0", 1), kv_slice_of(NULL, 0));
    struct kv_estimate half = kv_estimate(s, kv_slice_of("\x80", 1), kv_slice_of(NULL, 0));
    CHECK_TRUE(all.key_count > count - 10 && all.bytes > UINT64_C(8) * (count - 10));
    CHECK_TRUE(half.key_count > count / 4 && half.key_count < count / 2);
    kv_batch_clear(&b);
    CHECK_OK(
        kv_batch_delete_range(&b, kv_slice_of("\0", 1), kv_slice_of("\xff\xff\xff\xff\xff", 5)));
    CHECK_OK(kv_commit(f.kv, &b, 2));
    kv_mem_verify(f.kv);
    struct kv_iter *it;
    CHECK_OK(kv_iter_new(s, &(struct kv_iter_options){.need = &f.need}, &it));
    CHECK_EQ(kv_iter_seek(it, kv_slice_of(NULL, 0)), 1);
    kv_iter_free(it);
    kv_snapshot_free(s);
    CHECK_OK(kv_snapshot_new(f.kv, &s));
    CHECK_EQ(kv_estimate(s, kv_slice_of("\0", 1), kv_slice_of(NULL, 0)).key_count, 0);
    kv_snapshot_free(s);
    kv_batch_fini(&b);
    fixture_close(&f);
}

/* ---- commits that fail, and keys that searching by prefix and hint must not confuse ---- */

#define HARD_KEYS 3000u

/* Long common beginnings, ends of zeros and of 0xff, one key the beginning of another. */
static struct kv_slice hard_key(uint32_t k, uint8_t buf[80])
{
    size_t common = k % 4 == 0 ? 0 : k % 4 == 1 ? 9 : k % 4 == 2 ? 43 : 60;
    memset(buf, 'p', common);
    buf[common] = (uint8_t)(k % 4);
    memset(buf + common + 1, k % 3 == 0 ? 0 : 0xff, k % 9);
    size_t len = common + 1 + k % 9;
    for (uint32_t v = k / 36; v > 0; v /= 7) {
        buf[len++] = (uint8_t)(v % 7 == 6 ? 0xff : v % 7);
    }
    return kv_slice_of(buf, len);
}

static void hard_batch(struct kv_batch *b, struct rand *r)
{
    uint8_t one[80], two[80], value[64];
    size_t count = rand_range(r, 1, 70);
    kv_batch_clear(b);
    for (size_t i = 0; i < count; i++) {
        struct kv_slice key = hard_key((uint32_t)rand_below(r, HARD_KEYS), one);
        uint64_t what = rand_below(r, 20);
        if (what < 11) {
            memset(value, (int)(what + i), sizeof value);
            CHECK_OK(kv_batch_put(b, key, kv_slice_of(value, rand_below(r, sizeof value))));
        } else if (what < 17) {
            CHECK_OK(kv_batch_delete(b, key));
        } else if (what < 19) {
            struct kv_field add = {.offset = 8, .op = KV_FIELD_ADD, .operand = i};
            CHECK_OK(kv_batch_upsert(b, key, 16, &add, 1));
        } else {
            struct kv_slice high = hard_key((uint32_t)rand_below(r, HARD_KEYS), two);
            bool far = kv_slice_compare(key, high) > 0 || rand_chance(r, 9, 10);
            high = far ? kv_slice_of(key.at, key.len) : high;
            one[79] = 0;
            CHECK_OK(kv_batch_delete_range(b, key, far ? kv_slice_of(one, key.len + 1) : high));
        }
    }
}

static void hard_equal(struct kv *a, struct kv *b)
{
    struct kv_snapshot *x, *y;
    struct kv_need need = {0};
    struct kv_iter *i, *j;
    CHECK_OK(kv_snapshot_new(a, &x));
    CHECK_OK(kv_snapshot_new(b, &y));
    struct kv_iter_options opt = {.need = &need};
    CHECK_OK(kv_iter_new(x, &opt, &i));
    CHECK_OK(kv_iter_new(y, &opt, &j));
    int more = kv_iter_seek(i, kv_slice_of(NULL, 0));
    CHECK_EQ(kv_iter_seek(j, kv_slice_of(NULL, 0)), more);
    while (more == 1) {
        CHECK_EQ(kv_slice_compare(i->key, j->key), 0);
        CHECK_EQ(kv_slice_compare(i->value, j->value), 0);
        more = kv_iter_next(i);
        CHECK_EQ(kv_iter_next(j), more);
    }
    kv_iter_free(i);
    kv_iter_free(j);
    kv_snapshot_free(x);
    kv_snapshot_free(y);
}

/* One engine has too little memory at times; the other one, without limits, gets what it took. */
TEST(a_commit_that_fails_changes_nothing)
{
    struct fixture f, whole;
    struct kv_batch b = {0};
    struct rand r;
    struct kv_snapshot *held = NULL;
    unsigned failures = 0;
    CHECK_OK(fixture_open(&f, 0));
    CHECK_OK(fixture_open(&whole, 0));
    rand_seed(&r, testing_seed());
    for (uint64_t round = 1; round <= 1500; round++) {
        hard_batch(&b, &r);
        if (rand_chance(&r, 1, 10)) {
            held = kv_snapshot_free(held);
            CHECK_OK(rand_chance(&r, 1, 2) ? kv_snapshot_new(f.kv, &held) : 0);
        }
        bool tight = rand_chance(&r, 1, 2);
        uint64_t room = rand_below(&r, rand_chance(&r, 1, 2) ? 400000 : 8000);
        f.budget.limit_bytes = tight ? f.budget.used_bytes + room : UINT64_C(64) << 20;
        int rc = kv_commit(f.kv, &b, round);
        CHECK_TRUE(rc == 0 || (rc == -ENOMEM && tight));
        failures += rc < 0 ? 1 : 0;
        if (rc == 0) {
            CHECK_OK(kv_commit(whole.kv, &b, round));
        }
        if (rc < 0 || round % 16 == 0) {
            kv_mem_verify(f.kv);
            hard_equal(f.kv, whole.kv);
        }
    }
    CHECK_TRUE(failures > 50);
    kv_snapshot_free(held);
    kv_batch_fini(&b);
    fixture_close(&f);
    fixture_close(&whole);
}
