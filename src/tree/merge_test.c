/*
 * Reads of a small engine of memtables, runs and a base, against a sorted table with a copy for
 * each snapshot: random histories, and all short ones.
 */
#include "tree/merge.h"

#include <string.h>

#include "testing/testing.h"
#include "tree/memtable.h"
#include "tree/rig_run_priv.h"
#include "tree/rig_shell_priv.h"

#define KEYS 60u
#define VALUE_SIZE 24u
#define LAYERS_MAX 8u
#define HELD 4u

/* ---- the model ---- */

struct model_value {
    bool present;
    uint8_t len;
    uint8_t bytes[VALUE_SIZE];
};
struct model {
    struct model_value value[KEYS];
};

/* Lengths differ, and some keys are the beginning of others. */
static struct kv_slice key_of(uint32_t k, uint8_t buf[8])
{
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

static int model_delete(struct model *m, struct kv_batch *b, uint32_t k)
{
    uint8_t buf[8];
    m->value[k].present = false;
    return kv_batch_delete(b, key_of(k, buf));
}

/* Some of them do not fold: overlapping fields, and two operations on one. */
static int model_upsert(struct model *m, struct kv_batch *b, struct rand *r, uint32_t k)
{
    uint8_t buf[8];
    struct model_value *v = &m->value[k];
    struct kv_field f[KV_FIELDS_MAX];
    size_t count = rand_chance(r, 1, 6) ? KV_FIELDS_MAX : (size_t)rand_range(r, 1, 3);
    for (size_t i = 0; i < count; i++) {
        f[i] = (struct kv_field){.offset = (uint16_t)(rand_below(r, 5) * 2),
                                 .op = rand_chance(r, 1, 2) ? KV_FIELD_ADD : KV_FIELD_MAX,
                                 .operand = rand_u64(r)};
    }
    size_t old = v->present ? v->len : 0;
    memset(v->bytes + old, 0, VALUE_SIZE - old);
    v->present = true;
    v->len = (uint8_t)base_max(old, 16);
    kv_fields_apply(v->bytes, v->len, f, count);
    return kv_batch_upsert(b, key_of(k, buf), 16, f, count);
}

static int model_delete_range(struct model *m, struct kv_batch *b, uint32_t low, uint32_t high)
{
    uint8_t lb[8], hb[8];
    for (uint32_t i = low; i < high; i++) {
        m->value[i].present = false;
    }
    return kv_batch_delete_range(b, key_of(low, lb), key_of(high, hb));
}

static int model_step(struct model *m, struct kv_batch *b, struct rand *r, unsigned deletes)
{
    uint32_t k = (uint32_t)rand_below(r, KEYS);
    uint64_t dice = rand_below(r, 100);
    if (dice < deletes) {
        return model_delete(m, b, k);
    }
    if (dice < deletes + 4) {
        uint64_t end = rand_chance(r, 1, 8) ? KEYS - 1 : k + rand_below(r, 12);
        return model_delete_range(m, b, k, (uint32_t)base_min(KEYS - 1, end));
    }
    return dice < 65 ? model_put(m, b, r, k) : model_upsert(m, b, r, k);
}

/* ---- the engine ---- */

/* Newest first: memtables, runs; a reader keeps its own references. */
struct layer {
    struct tree_memtable *memtable; /* or */
    struct rig_run *run;
};
struct state {
    struct layer layer[LAYERS_MAX];
    size_t count;
};

struct engine {
    struct tree_snapshots *snapshots;
    struct mem_budget budget;
    struct state state;
    struct model model;
    uint64_t msn; /* the last given */
    struct kv_batch batch;
    struct rand rand;
    struct tree_fold fold;
    uint32_t need_permille;
    bool short_lived;
};

static struct layer layer_ref(struct layer l)
{
    if (l.memtable != NULL) {
        tree_memtable_ref(l.memtable);
    } else {
        l.run->refs++;
    }
    return l;
}

static void layer_unref(struct layer l)
{
    if (l.memtable != NULL) {
        tree_memtable_unref(l.memtable);
    } else {
        rig_run_unref(l.run);
    }
}

static struct state state_ref(const struct state *s)
{
    for (size_t i = 0; i < s->count; i++) {
        layer_ref(s->layer[i]);
    }
    return *s;
}

static void state_unref(struct state *s)
{
    for (size_t i = 0; i < s->count; i++) {
        layer_unref(s->layer[i]);
    }
    s->count = 0;
}

static int engine_add_memtable(struct engine *e)
{
    struct tree_memtable_options opt = {
        .budget = &e->budget, .base_msn = e->msn, .limit_bytes = 16384, .block_bytes = 4096};
    struct tree_memtable *m = NULL;
    int rc = tree_memtable_new(&opt, &m);
    if (rc == 0) {
        memmove(&e->state.layer[1], &e->state.layer[0], e->state.count * sizeof(struct layer));
        e->state.layer[0] = (struct layer){.memtable = m};
        e->state.count++;
    }
    return rc;
}

static int engine_open(struct engine *e, uint64_t seed, uint64_t kept_bytes)
{
    *e = (struct engine){0};
    struct tree_snapshots_options opt = {.count_max = 8, .budget_bytes = kept_bytes};
    rand_seed(&e->rand, seed);
    mem_budget_init(&e->budget, NULL, 16U << 20);
    int rc = tree_snapshots_new(&opt, &e->snapshots);
    return rc < 0 ? rc : engine_add_memtable(e);
}

static void engine_close(struct engine *e)
{
    state_unref(&e->state);
    tree_fold_fini(&e->fold);
    kv_batch_fini(&e->batch);
    tree_snapshots_free(e->snapshots);
    e->snapshots = NULL;
    CHECK_EQ(e->budget.used_bytes, 0);
}

static int engine_commit(struct engine *e)
{
    struct tree_superseded superseded;
    int rc = tree_memtable_apply(e->state.layer[0].memtable, &e->batch, e->msn + 1,
                                 tree_snapshots_look(e->snapshots), &superseded);
    if (rc == 0) {
        e->msn += e->batch.count;
        tree_snapshots_publish(e->snapshots, e->msn, &superseded);
    }
    kv_batch_clear(&e->batch);
    return rc;
}

/* Writes a frozen memtable out, perhaps without what its own range deletes cover. */
static void engine_flush(struct engine *e, size_t at, bool clean)
{
    struct tree_memtable *m = e->state.layer[at].memtable;
    struct rig_run *run = rig_run_new();
    struct tree_memtable_cursor c;
    struct tree_range range;
    struct kv_slice from = {0};
    tree_memtable_cursor_init(&c, m, UINT64_MAX);
    for (int rc = c.base.ops->seek(&c.base, from); rc == 1; rc = c.base.ops->next(&c.base)) {
        CHECK_OK(c.base.ops->covering(&c.base, c.base.key, &range));
        do {
            if (!clean || c.base.message.msn > range.msn) {
                rig_run_add(run, c.base.key, &c.base.message);
            }
        } while (c.base.ops->older(&c.base) == 1);
        if (rand_chance(&e->rand, 1, 4)) { /* without effect, perhaps alone */
            struct tree_message note = {.type = TREE_NOTE, .msn = c.base.message.msn};
            rig_run_add(run, c.base.key, &note);
        }
    }
    while (c.base.ops->range(&c.base, from, &range) == 1) {
        CHECK_TRUE(kv_slice_compare(range.low, range.high) < 0);
        CHECK_TRUE(kv_slice_compare(from, range.low) <= 0);
        rig_run_add_range(run, &range);
        from = range.high;
    }
    layer_unref(e->state.layer[at]);
    e->state.layer[at] = (struct layer){.run = run};
}

struct reader {
    union {
        struct tree_memtable_cursor cursor;
        struct rig_run_source run;
    } source[LAYERS_MAX];
    struct rig_shell shell[LAYERS_MAX];
    struct tree_source *list[LAYERS_MAX];
    size_t count;
};

static void reader_open(struct engine *e, struct reader *r, const struct state *s, uint64_t limit)
{
    r->count = s->count;
    for (size_t i = 0; i < s->count; i++) {
        struct tree_source *inner;
        if (s->layer[i].memtable != NULL) {
            tree_memtable_cursor_init(&r->source[i].cursor, s->layer[i].memtable, limit);
            inner = &r->source[i].cursor.base;
        } else {
            rig_run_source_init(&r->source[i].run, s->layer[i].run);
            inner = &r->source[i].run.base;
        }
        rig_shell_init(&r->shell[i], inner, &e->rand, e->need_permille, e->short_lived);
        r->list[i] = &r->shell[i].base;
    }
}

static void reader_close(struct reader *r)
{
    for (size_t i = 0; i < r->count; i++) {
        rig_shell_fini(&r->shell[i]);
    }
    r->count = 0;
}

#define NEEDING(call)                     \
    (__extension__({                      \
        int needing_rc = (call);          \
        while (needing_rc == -ERR_need) { \
            needing_rc = (call);          \
        }                                 \
        needing_rc;                       \
    }))

/* The two oldest layers become the base: values only. */
static void engine_compact(struct engine *e)
{
    size_t at = e->state.count - 2;
    struct state two = {.layer = {e->state.layer[at], e->state.layer[at + 1]}, .count = 2};
    struct rig_run *base = rig_run_new();
    struct reader r;
    struct tree_merge *merge;
    reader_open(e, &r, &two, UINT64_MAX);
    CHECK_OK(tree_merge_new(&(struct tree_merge_options){.sources = r.list, .count = 2}, &merge));
    int rc = NEEDING(tree_merge_seek(merge, kv_slice_of(NULL, 0)));
    for (; rc == 1; rc = NEEDING(tree_merge_next(merge))) {
        struct tree_message put = {.type = TREE_PUT, .body = tree_merge_value(merge)};
        rig_run_add(base, tree_merge_key(merge), &put);
    }
    CHECK_OK(rc);
    tree_merge_free(merge);
    reader_close(&r);
    layer_unref(two.layer[0]);
    layer_unref(two.layer[1]);
    e->state.layer[at] = (struct layer){.run = base};
    e->state.count--;
}

/* What goes on in the background. */
static void engine_maintain(struct engine *e)
{
    uint64_t dice = rand_below(&e->rand, 10);
    if (dice < 3 || tree_memtable_state(e->state.layer[0].memtable).full) {
        tree_memtable_freeze(e->state.layer[0].memtable);
        CHECK_OK(engine_add_memtable(e));
    }
    for (size_t i = 1; i < e->state.count; i++) {
        if (e->state.layer[i].memtable != NULL && rand_chance(&e->rand, 1, 4)) {
            engine_flush(e, i, rand_chance(&e->rand, 1, 2));
        }
    }
    if (e->state.count >= LAYERS_MAX - 1 || (e->state.count >= 3 && dice == 9)) {
        engine_compact(e);
    }
}

/* ---- comparing ---- */

struct held {
    bool on;
    struct tree_snapshot snapshot;
    struct state state;
    struct model model;
};

static void held_take(struct engine *e, struct held *h)
{
    CHECK_OK(tree_snapshots_take(e->snapshots, &h->snapshot));
    CHECK_EQ(h->snapshot.limit, e->msn);
    h->state = state_ref(&e->state);
    h->model = e->model;
    h->on = true;
}

static void held_release(struct engine *e, struct held *h)
{
    if (h->on) {
        state_unref(&h->state);
        tree_snapshots_release(e->snapshots, &h->snapshot);
        h->on = false;
    }
}

static void check_value(const struct model_value *v, struct kv_slice got)
{
    CHECK_EQ(got.len, v->len);
    CHECK_BYTES(got.at, v->bytes, v->len);
}

/* The short way into a memtable says what a cursor says. */
static void check_found(const struct tree_memtable *m, struct kv_slice key, uint64_t limit)
{
    struct tree_memtable_found found;
    struct tree_memtable_cursor c;
    struct tree_range range;
    tree_memtable_get(m, key, limit, &found);
    tree_memtable_cursor_init(&c, m, limit);
    int rc = c.base.ops->find(&c.base, key);
    CHECK_EQ(rc, found.message.msn > 0 ? 1 : 0);
    CHECK_OK(c.base.ops->covering(&c.base, key, &range));
    CHECK_EQ(found.range_msn, range.msn > found.message.msn ? range.msn : 0);
    if (rc == 1) {
        CHECK_EQ(found.message.msn, c.base.message.msn);
        CHECK_EQ(found.message.type, c.base.message.type);
        CHECK_EQ(kv_slice_compare(found.message.body, c.base.message.body), 0);
        CHECK_EQ(found.more, c.base.ops->older(&c.base) == 1);
    }
}

/* One source after the other; a call that failed is repeated, or all of it. */
static int fold_stepwise(struct engine *e, struct reader *r, struct kv_slice key,
                         struct kv_slice *ret)
{
    int rc = 0;
    tree_fold_begin(&e->fold);
    for (size_t i = 0; i < r->count && rc == 0;) {
        mem_fail_at(!e->short_lived && rand_chance(&e->rand, 1, 4) ? 1 : 0);
        rc = tree_fold_ask(&e->fold, r->list[i], key);
        mem_fail_at(0);
        bool failed = rc == -ERR_need || rc == -ENOMEM;
        if (failed && rand_chance(&e->rand, 1, 8)) {
            tree_fold_begin(&e->fold);
            i = 0;
        } else if (!failed) {
            i++;
        }
        rc = failed ? 0 : rc;
    }
    CHECK_TRUE(rc == 0 || rc == 1);
    CHECK_EQ(e->fold.decided, rc == 1);
    bool fails = rand_chance(&e->rand, 1, 4);
    mem_fail_at(fails ? 1 : 0);
    rc = tree_fold_end(&e->fold, ret);
    mem_fail_at(0);
    CHECK_TRUE(fails || rc != -ENOMEM);
    return rc == -ENOMEM ? tree_fold_end(&e->fold, ret) : rc;
}

static void check_get(struct engine *e, const struct held *h, uint32_t k)
{
    uint8_t buf[8];
    struct reader r;
    struct kv_slice got, key = key_of(k, buf);
    reader_open(e, &r, &h->state, h->snapshot.limit);
    int rc = NEEDING(tree_merge_get(r.list, r.count, key, &e->fold, &got));
    CHECK_EQ(rc, h->model.value[k].present ? 1 : 0);
    if (rc == 1) {
        check_value(&h->model.value[k], got);
    }
    if (rand_chance(&e->rand, 1, 4)) {
        CHECK_EQ(fold_stepwise(e, &r, key, &got), rc);
    }
    if (rc == 1) {
        check_value(&h->model.value[k], got);
    }
    reader_close(&r);
    for (size_t i = 0; i < h->state.count; i++) {
        if (h->state.layer[i].memtable != NULL) {
            check_found(h->state.layer[i].memtable, key, h->snapshot.limit);
        }
    }
}

/* A merge over the keys low .. high - 1 and where it stands. */
struct walk {
    struct tree_merge *merge;
    const struct model *model;
    uint32_t low, high, at;
    bool on;
};

static bool model_after(const struct walk *w, uint32_t from, uint32_t *ret)
{
    for (*ret = (uint32_t)base_max(from, w->low); *ret < w->high; (*ret)++) {
        if (w->model->value[*ret].present) {
            return true;
        }
    }
    return false;
}

static bool model_before(const struct walk *w, uint32_t below, uint32_t *ret)
{
    for (*ret = (uint32_t)base_min(below, w->high); *ret > w->low; (*ret)--) {
        if (w->model->value[*ret - 1].present) {
            (*ret)--;
            return true;
        }
    }
    return false;
}

static void check_stands(const struct walk *w)
{
    if (w->on) {
        CHECK_EQ(key_back(tree_merge_key(w->merge)), w->at);
        check_value(&w->model->value[w->at], tree_merge_value(w->merge));
    }
}

enum { TO_SEEK, TO_SEEK_BACK, TO_NEXT, TO_PREV };

static int walk_move(struct walk *w, unsigned what, uint32_t to, bool whole)
{
    uint8_t kb[8];
    struct kv_slice key = whole ? kv_slice_of(NULL, 0) : key_of(to, kb);
    return what == TO_SEEK        ? tree_merge_seek(w->merge, key)
           : what == TO_SEEK_BACK ? tree_merge_seek_back(w->merge, key)
           : what == TO_NEXT      ? tree_merge_next(w->merge)
                                  : tree_merge_prev(w->merge);
}

/* Memory may be missing; but not to the shell, which is of the test. */
static int walk_call(struct engine *e, struct walk *w, unsigned what, uint32_t to, bool whole)
{
    bool fails = !e->short_lived && rand_chance(&e->rand, 1, 4);
    mem_fail_at(fails ? 1 : 0);
    int rc = walk_move(w, what, to, whole);
    mem_fail_at(0);
    CHECK_TRUE(fails || rc != -ENOMEM);
    return rc;
}

/* After a failure it stands where it stood, and any call may follow. */
static void check_walk_step(struct engine *e, struct walk *w)
{
    uint32_t to = (uint32_t)rand_below(&e->rand, KEYS);
    unsigned what = (unsigned)rand_below(&e->rand, w->on ? 12 : 2);
    bool whole = rand_chance(&e->rand, 1, 8), found = false;
    what = what < 2 ? what : what < 8 ? TO_NEXT : TO_PREV;
    int rc = walk_call(e, w, what, to, whole);
    while (rc == -ERR_need || rc == -ENOMEM) {
        check_stands(w);
        if (rand_chance(&e->rand, 1, 8)) {
            return;
        }
        rc = walk_call(e, w, what, to, whole);
    }
    switch (what) {
    case TO_SEEK:
        found = model_after(w, whole ? 0 : to, &w->at);
        break;
    case TO_SEEK_BACK:
        found = model_before(w, whole ? KEYS : to + 1, &w->at);
        break;
    case TO_NEXT:
        found = model_after(w, w->at + 1, &w->at);
        break;
    default:
        found = model_before(w, w->at, &w->at);
        break;
    }
    CHECK_EQ(rc, found ? 1 : 0);
    w->on = rc == 1;
    check_stands(w);
}

static void check_walk(struct engine *e, const struct held *h, unsigned steps)
{
    uint8_t lb[8], ub[8];
    struct reader r;
    struct walk w = {.model = &h->model, .high = KEYS};
    reader_open(e, &r, &h->state, h->snapshot.limit);
    struct tree_merge_options opt = {.sources = r.list, .count = r.count, .snapshot = &h->snapshot};
    if (rand_chance(&e->rand, 1, 2)) {
        w.low = (uint32_t)rand_below(&e->rand, KEYS);
        w.high = w.low + (uint32_t)rand_below(&e->rand, KEYS - w.low);
        opt.lower = key_of(w.low, lb);
        opt.upper = key_of(w.high, ub);
    }
    CHECK_OK(tree_merge_new(&opt, &w.merge));
    for (unsigned n = 0; n < steps; n++) {
        check_walk_step(e, &w);
    }
    tree_merge_free(w.merge);
    reader_close(&r);
}

/* One that was given up says so, whatever it found. */
static void check_cancelled(struct engine *e, const struct held *h)
{
    struct reader r;
    struct tree_merge *merge;
    reader_open(e, &r, &h->state, h->snapshot.limit);
    struct tree_merge_options opt = {.sources = r.list, .count = r.count, .snapshot = &h->snapshot};
    CHECK_OK(tree_merge_new(&opt, &merge));
    CHECK_RC(tree_merge_seek(merge, kv_slice_of(NULL, 0)), ECANCELED);
    CHECK_RC(tree_merge_seek_back(merge, kv_slice_of(NULL, 0)), ECANCELED);
    tree_merge_free(merge);
    reader_close(&r);
}

static void check_held(struct engine *e, const struct held *h)
{
    if (tree_snapshot_check(&h->snapshot) < 0) {
        check_cancelled(e, h);
        return;
    }
    for (unsigned n = 0; n < 10; n++) {
        check_get(e, h, (uint32_t)rand_below(&e->rand, KEYS));
    }
    check_walk(e, h, 30);
}

/* A batch; perhaps with too little memory, and then nothing has changed. */
static bool commit_random(struct engine *e, unsigned deletes, bool tight)
{
    struct model before = e->model;
    for (uint64_t n = rand_range(&e->rand, 1, 30); n > 0; n--) {
        CHECK_OK(model_step(&e->model, &e->batch, &e->rand, deletes));
    }
    uint64_t room = tight && rand_chance(&e->rand, 1, 2) ? 0 : 16U << 20;
    e->budget.limit_bytes = e->budget.used_bytes + room;
    int rc = engine_commit(e);
    e->budget.limit_bytes = UINT64_MAX;
    if (rc == -ENOMEM && room == 0) {
        e->model = before;
        return false;
    }
    CHECK_OK(rc);
    return true;
}

static unsigned verify_history(uint64_t seed, unsigned number, uint64_t kept_bytes, bool tight)
{
    struct engine e;
    struct held held[HELD] = {0};
    unsigned deletes = 5 + number % 3 * 20, counted = 0;
    CHECK_OK(engine_open(&e, seed, kept_bytes));
    e.need_permille = number % 4 * 100;
    e.short_lived = number % 2 == 1;
    for (unsigned round = 0; round < 60; round++) {
        counted += commit_random(&e, deletes, tight) ? 0 : 1;
        engine_maintain(&e);
        struct held *h = &held[rand_below(&e.rand, HELD)];
        if (h->on && tree_snapshot_check(&h->snapshot) < 0) {
            counted++;
        }
        held_release(&e, h);
        held_take(&e, h);
        h = &held[rand_below(&e.rand, HELD)]; /* perhaps an old one: still what it was */
        if (h->on) {
            check_held(&e, h);
        }
    }
    for (size_t i = 0; i < HELD; i++) {
        held_release(&e, &held[i]);
    }
    CHECK_EQ(tree_snapshots_state(e.snapshots).kept_bytes, 0);
    engine_close(&e);
    return counted;
}

TEST(reads_agree_with_the_model)
{
    for (unsigned i = 0; i < 40; i++) {
        CHECK_EQ(verify_history(testing_seed() + i, i, UINT64_MAX, false), 0);
    }
}

TEST(snapshots_that_keep_too_much_say_so_and_others_stay_right)
{
    unsigned cancelled = 0;
    for (unsigned i = 0; i < 30; i++) {
        cancelled += verify_history(testing_seed() + i, i, 1500, false);
    }
    CHECK_TRUE(cancelled > 30);
}

TEST(a_batch_that_fails_changes_nothing)
{
    unsigned failed = 0;
    for (unsigned i = 0; i < 30; i++) {
        failed += verify_history(testing_seed() + i, i, UINT64_MAX, true);
    }
    CHECK_TRUE(failed > 100);
}

/* ---- very many sources ---- */

#define MANY TREE_SOURCES_MAX

struct many {
    struct rand rand;
    struct rig_run *run[MANY]; /* newest first */
    struct rig_run_source source[MANY];
    struct tree_source *list[MANY];
    size_t count;
};

static void many_range(struct many *w, struct rig_run *run, uint64_t msn)
{
    uint8_t low[8], high[8];
    uint32_t k = (uint32_t)rand_below(&w->rand, KEYS - 8);
    uint32_t end = k + 1 + (uint32_t)rand_below(&w->rand, 7);
    rig_run_add_range(
        run, &(struct tree_range){.msn = msn, .low = key_of(k, low), .high = key_of(end, high)});
}

/* Each has a few of the keys, and some a deleted range. */
static void many_init(struct many *w, uint64_t seed, size_t count)
{
    *w = (struct many){.count = count};
    rand_seed(&w->rand, seed);
    for (size_t i = 0; i < count; i++) {
        uint64_t msn = 3 * (count - i);
        struct rig_run *run = w->run[i] = rig_run_new();
        if (rand_chance(&w->rand, 1, 4)) {
            many_range(w, run, msn + rand_below(&w->rand, 2) * 2);
        }
        for (uint32_t k = (uint32_t)rand_below(&w->rand, KEYS); k < KEYS;
             k += 1 + (uint32_t)rand_below(&w->rand, KEYS / 2)) {
            uint8_t key[8], value[2] = {(uint8_t)i, (uint8_t)k};
            struct tree_message m = {.type = rand_chance(&w->rand, 1, 4) ? TREE_DELETE : TREE_PUT,
                                     .msn = msn + 1};
            m.body = kv_slice_of(value, m.type == TREE_PUT ? sizeof value : 0);
            rig_run_add(run, key_of(k, key), &m);
        }
        rig_run_source_init(&w->source[i], run);
        w->list[i] = &w->source[i].base;
    }
}

/* As a get of each key says it, which asks one source after the other. */
static uint32_t many_check(struct many *w, bool back)
{
    struct tree_merge_options opt = {.sources = w->list, .count = w->count};
    CLEANUP(tree_merge_freep) struct tree_merge *m = NULL;
    struct tree_fold fold = {0};
    uint32_t found = 0;
    CHECK_OK(tree_merge_new(&opt, &m));
    int rc = back ? tree_merge_seek_back(m, (struct kv_slice){0})
                  : tree_merge_seek(m, (struct kv_slice){0});
    for (uint32_t i = 0; i < KEYS; i++) {
        uint8_t buf[8];
        struct rig_run_source source[MANY];
        struct tree_source *list[MANY];
        struct kv_slice key = key_of(back ? KEYS - 1 - i : i, buf), value = {0};
        for (size_t n = 0; n < w->count; n++) {
            rig_run_source_init(&source[n], w->run[n]);
            list[n] = &source[n].base;
        }
        if (tree_merge_get(list, w->count, key, &fold, &value) == 0) {
            continue;
        }
        CHECK_EQ(rc, 1);
        CHECK_EQ(kv_slice_compare(tree_merge_key(m), key), 0);
        CHECK_EQ(kv_slice_compare(tree_merge_value(m), value), 0);
        rc = back ? tree_merge_prev(m) : tree_merge_next(m);
        found++;
    }
    CHECK_EQ(rc, 0);
    tree_fold_fini(&fold);
    return found;
}

TEST(as_many_sources_as_there_may_be_are_merged)
{
    static const size_t counts[] = {63, 64, 65, 128, 129, 200, MANY};
    uint32_t found = 0;
    for (size_t i = 0; i < ARRAY_COUNT(counts); i++) {
        static struct many w;
        many_init(&w, testing_seed() + i, counts[i]);
        uint32_t there = many_check(&w, false);
        CHECK_EQ(many_check(&w, true), there);
        found += there;
        for (size_t n = 0; n < w.count; n++) {
            rig_run_unref(w.run[n]);
        }
    }
    CHECK_TRUE(found > KEYS);
}

/* ---- all short histories of three keys ---- */

#define SMALL_KEYS 3u
#define SMALL_OPS 13u
#define SMALL_DEPTH 5u
#define SMALL_SLICES                                                            \
    16u /* seeds 0 .. 15 are all histories of SMALL_DEPTH; any seed all shorter \
         */

struct small {
    struct engine engine;
    struct held held[SMALL_DEPTH];
    size_t held_count;
    bool
        every; /* a snapshot after each operation; operation 12 releases the newest, or takes one */
};

static void small_apply(struct small *s, unsigned op)
{
    struct engine *e = &s->engine;
    uint32_t k = op % SMALL_KEYS;
    if (op < 3) {
        CHECK_OK(model_put(&e->model, &e->batch, &e->rand, k));
    } else if (op < 6) {
        CHECK_OK(model_delete(&e->model, &e->batch, k));
    } else if (op < 9) {
        CHECK_OK(model_upsert(&e->model, &e->batch, &e->rand, k));
    } else if (op < 11) {
        CHECK_OK(model_delete_range(&e->model, &e->batch, op - 9, op - 7));
    } else if (op == 11) {
        tree_memtable_freeze(e->state.layer[0].memtable);
        CHECK_OK(engine_add_memtable(e));
    } else if (s->held_count > 0) {
        held_release(e, &s->held[--s->held_count]);
    } else if (!s->every) {
        held_take(e, &s->held[s->held_count++]);
    }
    CHECK_OK(engine_commit(e));
    if (s->every) {
        held_take(e, &s->held[s->held_count++]);
    }
}

/* Every key, and all of them in both directions. */
static void small_check(struct engine *e, const struct held *h)
{
    struct reader r;
    struct walk w = {.model = &h->model, .high = KEYS};
    for (uint32_t k = 0; k < SMALL_KEYS; k++) {
        check_get(e, h, k);
    }
    reader_open(e, &r, &h->state, h->snapshot.limit);
    struct tree_merge_options opt = {.sources = r.list, .count = r.count};
    CHECK_OK(tree_merge_new(&opt, &w.merge));
    w.on = tree_merge_seek(w.merge, kv_slice_of(NULL, 0)) == 1;
    CHECK_EQ(w.on, model_after(&w, 0, &w.at));
    while (w.on) {
        check_stands(&w);
        w.on = tree_merge_next(w.merge) == 1;
        CHECK_EQ(w.on, model_after(&w, w.at + 1, &w.at));
    }
    w.on = tree_merge_seek_back(w.merge, kv_slice_of(NULL, 0)) == 1;
    CHECK_EQ(w.on, model_before(&w, KEYS, &w.at));
    while (w.on) {
        check_stands(&w);
        w.on = tree_merge_prev(w.merge) == 1;
        CHECK_EQ(w.on, model_before(&w, w.at, &w.at));
    }
    tree_merge_free(w.merge);
    reader_close(&r);
}

static void verify_small(uint64_t number, unsigned depth, bool every)
{
    struct small s = {.every = every};
    struct held now = {0};
    CHECK_OK(engine_open(&s.engine, number, UINT64_MAX));
    for (uint64_t n = number, i = 0; i < depth; i++, n /= SMALL_OPS) {
        small_apply(&s, (unsigned)(n % SMALL_OPS));
    }
    held_take(&s.engine, &now);
    small_check(&s.engine, &now);
    held_release(&s.engine, &now);
    while (s.held_count > 0) {
        small_check(&s.engine, &s.held[--s.held_count]);
        held_release(&s.engine, &s.held[s.held_count]);
    }
    engine_close(&s.engine);
}

static uint64_t small_count(unsigned depth)
{
    uint64_t count = 1;
    for (unsigned i = 0; i < depth; i++) {
        count *= SMALL_OPS;
    }
    return count;
}

TEST(all_short_histories_read_right)
{
    unsigned checked = 0;
    for (unsigned depth = 1; depth < SMALL_DEPTH; depth++) {
        for (uint64_t n = 0; n < small_count(depth); n++, checked++) {
            verify_small(n, depth, n % 2 == depth % 2);
        }
    }
    for (uint64_t n = testing_seed() % SMALL_SLICES; n < small_count(SMALL_DEPTH);
         n += SMALL_SLICES, checked++) {
        verify_small(n, SMALL_DEPTH, n / SMALL_SLICES % 4 != 0);
    }
    CHECK_TRUE(checked > 40000);
}
