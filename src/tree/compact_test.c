/*
 * What a compaction leaves does to any value what all messages together did: random histories in
 * several sources, against applying them one after the other.
 */
#include "tree/compact.h"

#include <string.h>

#include "base/mem.h"
#include "base/rand.h"
#include "testing/testing.h"
#include "tree/merge.h"
#include "tree/rig_run_priv.h"

#define KEYS 40u
#define LAYERS_MAX 250u
#define LAYERS_FEW 6u
#define STEPS_MAX 8u /* messages of one key in one layer */
#define WIDTH 24u

/* ---- sources ---- */

struct test_source {
    struct rig_run_source run;
    unsigned *need_in; /* the call that says -ERR_need; NULL: none */
};

static int test_range(struct tree_source *base, struct kv_slice from, struct tree_range *ret)
{
    const struct rig_run_source *s = container_of(base, struct rig_run_source, base);
    for (size_t i = 0; i < s->run->range_count; i++) {
        if (kv_slice_compare(from, s->run->range[i].high) < 0) {
            *ret = s->run->range[i];
            return 1;
        }
    }
    return 0;
}

static bool test_needs(struct tree_source *base)
{
    struct test_source *s = container_of(base, struct test_source, run.base);
    return s->need_in != NULL && --*s->need_in == 0;
}

static int needy_seek(struct tree_source *s, struct kv_slice key)
{
    return test_needs(s) ? -ERR_need : rig_run_seek(s, key);
}

static int needy_next(struct tree_source *s)
{
    return test_needs(s) ? -ERR_need : rig_run_next(s);
}

static int needy_older(struct tree_source *s)
{
    return test_needs(s) ? -ERR_need : rig_run_older(s);
}

static int needy_range(struct tree_source *s, struct kv_slice from, struct tree_range *ret)
{
    return test_needs(s) ? -ERR_need : test_range(s, from, ret);
}

static const struct tree_source_ops needy_ops = {
    .seek = needy_seek,
    .seek_back = rig_run_seek_back,
    .next = needy_next,
    .prev = rig_run_prev,
    .find = rig_run_find,
    .older = needy_older,
    .covering = rig_run_covering,
    .range = needy_range,
};

/* ---- random histories ---- */

struct world {
    struct rand rand;
    uint64_t msn;
    size_t count;
    struct rig_run *run[LAYERS_MAX]; /* newest first */
    struct test_source source[LAYERS_MAX];
    struct tree_source *list[LAYERS_MAX];
    unsigned need_in;
};

/* Some are the beginning of others, some longer than what is compared at once. */
static struct kv_slice key_of(uint32_t k, uint8_t buf[16])
{
    memset(buf, 'k', 16);
    buf[0] = (uint8_t)(k >> 3);
    buf[9] = (uint8_t)k;
    return kv_slice_of(buf, (k & 7) == 0 ? 1 : (k & 7) == 1 ? 9 : 10 + (k & 1) * 3);
}

static struct tree_message random_message(struct world *w, uint8_t body[TREE_UPSERT_MAX])
{
    struct tree_message m = {.type = TREE_PUT, .msn = 0};
    size_t len = (size_t)rand_below(&w->rand, WIDTH);
    switch (rand_below(&w->rand, 8)) {
    case 0:
        m.type = TREE_DELETE;
        break;
    case 1:
        m.type = TREE_NOTE;
        break;
    case 2:
    case 3:
        rand_bytes(&w->rand, body, len);
        m.body = kv_slice_of(body, len);
        break;
    default: {
        struct kv_field f[KV_FIELDS_MAX];
        size_t count = rand_chance(&w->rand, 1, 4) ? KV_FIELDS_MAX : 1;
        for (size_t i = 0; i < count; i++) {
            f[i] =
                (struct kv_field){.offset = (uint16_t)(rand_below(&w->rand, 3) * 4),
                                  .op = rand_chance(&w->rand, 1, 2) ? KV_FIELD_ADD : KV_FIELD_MAX,
                                  .operand = rand_u64(&w->rand)};
        }
        m.type = TREE_UPSERT;
        m.body = kv_slice_of(body, tree_upsert_encode(16, f, count, body));
        break;
    }
    }
    return m;
}

/* Ranges of a layer do not overlap; their numbers are among those of its messages. */
static void fill_ranges(struct world *w, struct rig_run *run, uint64_t base)
{
    uint32_t at = 0;
    while (at < KEYS) {
        uint8_t low[16], high[16];
        uint32_t from = at + (uint32_t)rand_below(&w->rand, KEYS);
        uint32_t to = from + 1 + (uint32_t)rand_below(&w->rand, 8);
        if (from >= KEYS) {
            break;
        }
        struct tree_range r = {.low = from == 0 && rand_chance(&w->rand, 1, 2) ? kv_slice_of("", 0)
                                                                               : key_of(from, low),
                               .high = key_of(to, high),
                               .msn =
                                   base + 2 * rand_range(&w->rand, 1, (uint64_t)KEYS * STEPS_MAX)};
        rig_run_add_range(run, &r);
        at = to;
    }
}

static void fill_layer(struct world *w, struct rig_run *run)
{
    uint64_t base = w->msn;
    bool empty = rand_chance(&w->rand, 1, 10);
    w->msn += (uint64_t)2 * KEYS * STEPS_MAX;
    if (rand_chance(&w->rand, 1, 2)) {
        fill_ranges(w, run, base);
    }
    for (uint32_t k = 0; k < KEYS && !empty; k++) {
        uint64_t msn = base + 1 + (uint64_t)2 * STEPS_MAX * rand_below(&w->rand, KEYS - 1);
        size_t count = rand_chance(&w->rand, 1, 2) ? 0 : (size_t)rand_range(&w->rand, 1, STEPS_MAX);
        for (size_t i = count; i > 0; i--) {
            uint8_t key[16], body[TREE_UPSERT_MAX];
            struct tree_message m = random_message(w, body);
            m.msn = msn + 2 * i;
            rig_run_add(run, key_of(k, key), &m);
        }
    }
}

static void world_init(struct world *w, uint64_t seed, size_t layers_max)
{
    *w = (struct world){0};
    rand_seed(&w->rand, seed);
    w->count = (size_t)rand_range(&w->rand, 1, layers_max);
    for (size_t i = w->count; i > 0; i--) {
        struct test_source *s = &w->source[i - 1];
        w->run[i - 1] = rig_run_new();
        fill_layer(w, w->run[i - 1]);
        rig_run_source_init(&s->run, w->run[i - 1]);
        s->run.base.ops = &needy_ops;
        w->list[i - 1] = &s->run.base;
    }
}

static void world_fini(struct world *w)
{
    for (size_t i = 0; i < w->count; i++) {
        rig_run_unref(w->run[i]);
    }
}

/* ---- the model ---- */

static bool range_has(struct kv_slice low, struct kv_slice high, struct kv_slice key)
{
    return kv_slice_compare(low, key) <= 0 && kv_slice_compare(key, high) < 0;
}

static uint64_t model_cover(const struct rig_run *run, struct kv_slice key)
{
    for (size_t i = 0; i < run->range_count; i++) {
        if (range_has(run->range[i].low, run->range[i].high, key)) {
            return run->range[i].msn;
        }
    }
    return 0;
}

/* A value and what is done to it. */
struct model {
    bool present;
    size_t len;
    uint8_t bytes[64];
    struct tree_room room;
};

static void model_apply(struct model *v, const struct tree_message *m)
{
    struct kv_slice value = kv_slice_of(v->present ? v->bytes : NULL, v->len);
    int rc = tree_message_apply(m, value, &v->room, &value);
    CHECK_TRUE(rc >= 0);
    v->present = rc == 1;
    v->len = rc == 1 ? value.len : 0;
    CHECK(v->len <= sizeof v->bytes);
    if (v->len > 0) {
        memmove(v->bytes, value.at, v->len);
    }
}

/* All of a layer, the oldest first. */
static void model_layer(const struct rig_run *run, struct kv_slice key, struct model *v)
{
    uint64_t cover = model_cover(run, key);
    struct tree_message delete = {.type = TREE_DELETE, .msn = cover};
    bool covered = cover == 0;
    for (size_t i = run->count; i > 0; i--) {
        const struct rig_record *e = &run->record[i - 1];
        if (kv_slice_compare(e->key, key) != 0) {
            continue;
        }
        if (!covered && e->message.msn > cover) {
            model_apply(v, &delete);
            covered = true;
        }
        model_apply(v, &e->message);
    }
    if (!covered) {
        model_apply(v, &delete);
    }
}

static void model_start(struct model *v, bool present)
{
    *v = (struct model){.present = present, .len = present ? 20 : 0};
    memset(v->bytes, 7, sizeof v->bytes);
}

static bool model_equal(const struct model *a, const struct model *b)
{
    return a->present == b->present && a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

/* ---- what came out ---- */

struct result {
    struct rig_run *run;
};

static void result_messages(struct result *r, struct tree_compact *c)
{
    size_t count = 0;
    const struct tree_message *m = tree_compact_messages(c, &count);
    struct kv_slice key = tree_compact_key(c);
    if (r->run->count > 0) {
        CHECK_TRUE(kv_slice_compare(r->run->record[r->run->count - 1].key, key) < 0);
    }
    for (size_t i = 0; i < count; i++) {
        struct tree_room room = {0};
        struct tree_message one;
        CHECK_TRUE(i == 0 || m[i - 1].msn > m[i].msn);
        CHECK_TRUE(m[i].type == TREE_PUT || m[i].type == TREE_DELETE || m[i].type == TREE_UPSERT);
        CHECK_EQ(i > 0 ? tree_message_combine(&m[i - 1], &m[i], &room, &one) : 0, 0);
        CHECK_TRUE(model_cover(r->run, key) < m[i].msn);
        CHECK_TRUE(m[i].type != TREE_UPSERT || model_cover(r->run, key) == 0);
        tree_room_fini(&room);
        rig_run_add(r->run, key, &m[i]);
    }
}

static int result_take(struct world *w, const struct tree_compact_options *opt, struct result *r)
{
    CLEANUP(tree_compact_freep) struct tree_compact *c = NULL;
    int rc = tree_compact_new(opt, &c);
    size_t count = 0;
    if (rc < 0) {
        return rc;
    }
    const struct tree_ranges_item *range = tree_compact_ranges(c, &count);
    for (size_t i = 0; i < count; i++) {
        struct tree_range one = {.msn = range[i].msn, .low = range[i].low, .high = range[i].high};
        CHECK_TRUE(kv_slice_compare(one.low, one.high) < 0);
        CHECK_TRUE(i == 0 || kv_slice_compare(range[i - 1].high, one.low) <= 0);
        rig_run_add_range(r->run, &one);
    }
    CHECK_EQ(opt->count, w->count);
    while ((rc = tree_compact_next(c)) == 1) {
        result_messages(r, c);
    }
    return rc < 0 ? rc : tree_compact_next(c); /* still at the end */
}

static void check_key(const struct world *w, const struct rig_run *run, uint32_t k, bool inside)
{
    uint8_t buf[16];
    struct kv_slice key = key_of(k, buf);
    uint64_t cover = 0;
    for (unsigned present = 0; present < 2; present++) {
        struct model expected, found;
        model_start(&expected, present == 1);
        model_start(&found, present == 1);
        for (size_t i = w->count; i > 0 && inside; i--) {
            model_layer(w->run[i - 1], key, &expected);
            cover = base_max(cover, model_cover(w->run[i - 1], key));
        }
        model_layer(run, key, &found);
        CHECK_TRUE(model_equal(&expected, &found));
        tree_room_fini(&expected.room);
        tree_room_fini(&found.room);
    }
    CHECK_EQ(model_cover(run, key), cover);
}

static void check_world(struct world *w)
{
    uint8_t low[16], high[16];
    uint32_t from = (uint32_t)rand_below(&w->rand, KEYS);
    uint32_t to = from + 1 + (uint32_t)rand_below(&w->rand, KEYS);
    struct result r = {.run = rig_run_new()};
    struct tree_compact_options opt = {.sources = w->list, .count = w->count};
    bool all = rand_chance(&w->rand, 1, 3);
    if (!all) {
        opt.low = key_of(from, low);
        opt.high = to < KEYS ? key_of(to, high) : kv_slice_of("", 0);
    }
    CHECK_OK(result_take(w, &opt, &r));
    for (uint32_t k = 0; k < KEYS; k++) {
        check_key(w, r.run, k, all || (k >= from && (k < to || to >= KEYS)));
    }
    rig_run_unref(r.run);
}

/* ---- tests ---- */

TEST(compaction_does_what_all_messages_did)
{
    for (uint64_t i = 0; i < 150; i++) {
        struct world w;
        world_init(&w, testing_seed() * 1000 + i, i % 25 == 0 ? LAYERS_MAX : LAYERS_FEW);
        check_world(&w);
        world_fini(&w);
    }
}

/* Nothing to do at all, and nothing within the bounds. */
TEST(compaction_of_nothing)
{
    struct rig_run *run = rig_run_new();
    struct test_source s = {0};
    struct tree_source *list = &s.run.base;
    CLEANUP(tree_compact_freep) struct tree_compact *none = NULL, *outside = NULL;
    struct tree_compact_options opt = {.count = 0};
    struct tree_message m = {.type = TREE_PUT, .msn = 4};
    size_t count = 1;
    CHECK_OK(tree_compact_new(&opt, &none));
    CHECK_EQ(tree_compact_next(none), 0);
    (void)tree_compact_ranges(none, &count);
    CHECK_EQ(count, 0);
    rig_run_add(run, kv_slice_of("b", 1), &m);
    rig_run_add(run, kv_slice_of("h", 1), &m);
    rig_run_source_init(&s.run, run);
    s.run.base.ops = &needy_ops;
    opt = (struct tree_compact_options){
        .sources = &list, .count = 1, .low = kv_slice_of("c", 1), .high = kv_slice_of("h", 1)};
    CHECK_OK(tree_compact_new(&opt, &outside));
    CHECK_EQ(tree_compact_next(outside), 0);
    rig_run_unref(run);
}

/* -ERR_need of any call is passed on. */
TEST(what_sources_need_is_passed_on)
{
    struct world w;
    world_init(&w, testing_seed(), LAYERS_FEW);
    struct tree_compact_options opt = {.sources = w.list, .count = w.count};
    int rc = -ERR_need;
    unsigned calls = 0;
    for (size_t i = 0; i < w.count; i++) {
        w.source[i].need_in = &w.need_in;
    }
    for (; rc == -ERR_need && calls < 20000; calls++) {
        struct result r = {.run = rig_run_new()};
        w.need_in = calls + 1;
        rc = result_take(&w, &opt, &r);
        rig_run_unref(r.run);
        calls += calls / 20;
    }
    CHECK_EQ(rc, 0);
    CHECK_TRUE(calls > 1);
    world_fini(&w);
}

static int walk(const struct tree_compact_options *opt)
{
    CLEANUP(tree_compact_freep) struct tree_compact *c = NULL;
    int rc = tree_compact_new(opt, &c);
    if (rc == 0) {
        do {
            rc = tree_compact_next(c);
        } while (rc == 1);
    }
    return rc;
}

TEST(compaction_survives_every_failed_allocation)
{
    for (uint64_t i = 0; i < 5; i++) {
        struct world w;
        world_init(&w, testing_seed() + i, LAYERS_FEW);
        struct tree_compact_options opt = {.sources = w.list, .count = w.count};
        int rc = -ENOMEM;
        uint64_t nth = 0;
        while (rc == -ENOMEM) {
            mem_fail_at(++nth);
            rc = walk(&opt);
            mem_fail_at(0);
            CHECK_TRUE(rc == 0 || rc == -ENOMEM);
        }
        CHECK_TRUE(nth > 1);
        world_fini(&w);
    }
}
