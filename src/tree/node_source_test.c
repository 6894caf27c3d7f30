/*
 * tree/node_source_test.c -- sources over the parts of a head against arrays of records: every call
 * in any order, with parts that are evicted between any two calls and fetched when one asks.
 */
#include "tree/node_source.h"

#include <string.h>

#include "base/rand.h"
#include "testing/testing.h"
#include "tree/merge.h"
#include "tree/rig_head_priv.h"
#include "tree/rig_keys_priv.h"
#include "tree/rig_run_priv.h"

#define KEYS 150u
#define SLOTS 4u
#define RUNS 4u
#define PARTS_MAX 256u

struct key {
    struct kv_slice slice;
    uint8_t bytes[RIG_KEY_SIZE];
};

/* A run as it should be: slot and number, or the records of a leaf. */
struct model_run {
    uint16_t slot;
    uint8_t number;
    struct rig_run *run;
};

struct world {
    struct rig_cache cache;
    struct rand rand;
    struct key key[KEYS];      /* ascending */
    uint32_t first[SLOTS + 1]; /* of each slot, the first key */
    struct kv_slice pivot[SLOTS];
    struct model_run run[SLOTS * RUNS];
    size_t run_count;
    uint8_t *copies[PARTS_MAX]; /* of the bytes of all parts */
    struct tree_head_builder builder;
    struct tree_head *head;
    struct tree_node_at at;
    bool dirty; /* some parts are in memory only */
};

static struct kv_slice nothing(void)
{
    return kv_slice_of(NULL, 0);
}

/* ---- making a node ---- */

static void world_keys(struct world *w)
{
    uint32_t start = (uint32_t)rand_below(&w->rand, 1000);
    for (uint32_t i = 0; i < KEYS; i++) {
        uint8_t bytes[RIG_KEY_SIZE];
        struct kv_slice key = rig_hard_key(start + i, bytes);
        uint32_t at = i;
        for (; at > 0 && kv_slice_compare(w->key[at - 1].slice, key) > 0; at--) {
            size_t len = w->key[at - 1].slice.len;
            memcpy(w->key[at].bytes, w->key[at - 1].bytes, len);
            w->key[at].slice = kv_slice_of(w->key[at].bytes, len);
        }
        memcpy(w->key[at].bytes, key.at, key.len);
        w->key[at].slice = kv_slice_of(w->key[at].bytes, key.len);
    }
}

/* Adds a part; its number is right as parts come in the order of the table. */
static void world_add(struct world *w, uint8_t *bytes, struct rig_part_of *of,
                      const struct tree_head_add *a)
{
    uint32_t i = w->builder.header.partition_count;
    CHECK_TRUE(i < PARTS_MAX);
    w->copies[i] = bytes;
    of->kind = a->kind;
    of->bytes = bytes;
    of->absent = !w->dirty || rand_chance(&w->rand, 1, 2);
    rig_add(&w->builder, rig_part_new(&w->cache, of), a);
}

static void world_add_block(struct world *w, struct tree_block_builder *b,
                            const struct tree_head_add *a)
{
    struct rig_part_of of = {0};
    uint8_t *bytes = rig_block_bytes(b, &of.len, &of.entries);
    world_add(w, bytes, &of, a);
}

static void block_add(struct tree_block_builder *b, const struct rig_record *r)
{
    struct tree_block_entry e = {.key = r->key, .body = r->message.body};
    if (b->kind == TREE_BLOCK_MESSAGE) {
        e.msn = r->message.msn;
        e.type = (uint8_t)r->message.type;
    }
    CHECK_OK(tree_block_builder_add(b, &e));
}

/* Messages of one key, newest first; older ones are there where upserts do not fold. */
static void run_add_key(struct rig_run *run, struct rand *r, struct kv_slice key, uint64_t msn)
{
    uint8_t body[TREE_UPSERT_MAX];
    uint64_t count = rand_chance(r, 1, 3) ? rand_range(r, 2, 4) : 1;
    for (uint64_t i = count; i > 0; i--) {
        struct tree_message m = {.type = TREE_UPSERT, .msn = msn + i};
        struct kv_field f = {.op = KV_FIELD_ADD, .operand = rand_u64(r)};
        uint64_t dice = i > 1 ? 9 : rand_below(r, 10);
        if (dice < 4) {
            m.type = TREE_PUT;
            rand_bytes(r, body, sizeof body);
            m.body = kv_slice_of(body, rand_below(r, 30));
        } else if (dice < 6) {
            m.type = dice == 4 ? TREE_DELETE : TREE_NOTE;
        } else {
            m.body = kv_slice_of(body, tree_upsert_encode(8, &f, 1, body));
        }
        rig_run_add(run, key, &m);
    }
}

/* One run of a slot, in parts of a few keys. */
static void world_add_run(struct world *w, uint16_t slot, uint8_t number)
{
    struct rig_run *run = rig_run_new();
    struct tree_block_builder b;
    struct tree_head_add a = {.kind = TREE_PARTITION_RUN, .run = number, .slot = slot};
    uint64_t part_keys = rand_range(&w->rand, 1, 8);
    size_t keys = 0;
    bool empty = rand_chance(&w->rand, 1, 10); /* but for deleted ranges, perhaps */
    w->run[w->run_count++] = (struct model_run){.slot = slot, .number = number, .run = run};
    tree_block_builder_init(&b, TREE_BLOCK_MESSAGE);
    for (uint32_t k = w->first[slot]; k < w->first[slot + 1]; k++) {
        size_t at = run->count;
        if (empty || rand_chance(&w->rand, 1, 2)) {
            continue;
        }
        if (keys == part_keys) {
            world_add_block(w, &b, &a);
            keys = 0;
            a.cut = w->key[k].slice;
        }
        run_add_key(run, &w->rand, w->key[k].slice, UINT64_C(1000) * (number + 1u));
        for (keys++; at < run->count; at++) {
            block_add(&b, &run->record[at]);
        }
    }
    if (keys > 0) {
        world_add_block(w, &b, &a);
    }
    tree_block_builder_fini(&b);
}

static void world_add_ranges(struct world *w, struct model_run *m)
{
    struct tree_ranges_item item[KEYS];
    struct tree_head_add a = {.kind = TREE_PARTITION_RANGES, .run = m->number, .slot = m->slot};
    size_t count = 0;
    for (uint32_t k = w->first[m->slot]; k + 1 < w->first[m->slot + 1]; k++) {
        uint32_t end = k + 1 + (uint32_t)rand_below(&w->rand, 3);
        if (rand_chance(&w->rand, 2, 3) || end >= w->first[m->slot + 1]) {
            continue;
        }
        uint64_t msn = UINT64_C(1000) * (m->number + 1u) + rand_range(&w->rand, 1, 5);
        for (uint64_t copies = rand_range(&w->rand, 1, 3); copies > 0; copies--) {
            struct tree_range range = {
                .low = w->key[k].slice, .high = w->key[end].slice, .msn = msn + 10 * copies};
            item[count++] = (struct tree_ranges_item){range.low, range.high, range.msn};
            rig_run_add_range(m->run, &range);
        }
        k = end - 1;
    }
    if (count > 0) {
        struct rig_part_of of = {.entries = (uint32_t)count, .len = tree_ranges_bytes(item, count)};
        uint8_t *bytes = mem_alloc(of.len);
        CHECK_TRUE(bytes != NULL);
        (void)tree_ranges_encode(item, count, bytes);
        world_add(w, bytes, &of, &a);
    }
}

static void world_begin(struct world *w, uint64_t seed, uint8_t level, bool dirty)
{
    *w = (struct world){.dirty = dirty};
    rig_cache_init(&w->cache);
    rand_seed(&w->rand, seed);
    world_keys(w);
    for (uint32_t i = 0; i <= SLOTS; i++) {
        w->first[i] = i * KEYS / SLOTS;
    }
    for (uint32_t i = 1; i < SLOTS; i++) {
        w->pivot[i - 1] = w->key[w->first[i]].slice;
    }
    tree_head_builder_init(&w->builder, w->cache.cache);
    w->builder.header.level = level;
}

static void world_end(struct world *w, const uint64_t *child)
{
    struct tree_pivots_source s = {.pivot = w->pivot, .child = child, .slots = SLOTS};
    CHECK_OK(tree_head_builder_finish(&w->builder, &s, NULL, 0, &w->head));
    tree_head_builder_fini(&w->builder);
    w->at = (struct tree_node_at){w->head, RIG_BLOCK, RIG_VERSION};
}

static void world_internal(struct world *w, uint64_t seed, bool dirty)
{
    static const uint64_t child[SLOTS] = {1, 2, 3, 4};
    world_begin(w, seed, 1, dirty);
    for (uint16_t slot = 0; slot < SLOTS; slot++) {
        for (uint8_t i = 0; i < RUNS; i++) {
            if (rand_chance(&w->rand, 4, 5)) {
                world_add_run(w, slot, i == RUNS - 1 ? UINT8_MAX : i);
            }
        }
    }
    for (size_t i = 0; i < w->run_count; i++) {
        if (rand_chance(&w->rand, 1, 2)) {
            world_add_ranges(w, &w->run[i]);
        }
    }
    world_end(w, child);
}

/* In the first slots there is only one record each, at an end. */
static void world_leaf(struct world *w, uint64_t seed, bool dirty)
{
    struct rig_run *run = rig_run_new();
    struct tree_block_builder b;
    world_begin(w, seed, 0, dirty);
    w->run[w->run_count++] = (struct model_run){.run = run};
    tree_block_builder_init(&b, TREE_BLOCK_LEAF);
    for (uint16_t slot = 0; slot < SLOTS; slot++) {
        struct tree_head_add a = {.kind = TREE_PARTITION_LEAF, .slot = slot};
        for (uint32_t k = w->first[slot]; k < w->first[slot + 1]; k++) {
            uint8_t value[20];
            bool last = k + 1 == w->first[slot + 1] && b.count == 0;
            rand_bytes(&w->rand, value, sizeof value);
            struct tree_message m = {.type = TREE_PUT,
                                     .body = kv_slice_of(value, rand_below(&w->rand, 20))};
            if (last || rand_chance(&w->rand, slot, SLOTS)) {
                rig_run_add(run, w->key[k].slice, &m);
                block_add(&b, &run->record[run->count - 1]);
            }
        }
        world_add_block(w, &b, &a);
    }
    tree_block_builder_fini(&b);
    world_end(w, NULL);
}

static void world_fini(struct world *w)
{
    kv_need_release(&w->cache.need);
    tree_head_unref(w->head);
    for (size_t i = 0; i < PARTS_MAX; i++) {
        mem_free(w->copies[i]);
    }
    for (size_t i = 0; i < w->run_count; i++) {
        rig_run_unref(w->run[i].run);
    }
    rig_cache_fini(&w->cache);
}

static void world_open(const struct world *w, size_t run, struct tree_node_source *s)
{
    if (w->head->header.level == 0) {
        tree_node_source_leaf(s, &w->cache.from, &w->at);
    } else {
        tree_node_source_run(s, &w->cache.from, &w->at, w->run[run].slot, w->run[run].number);
    }
}

/* ---- one source and its model ---- */

enum op { SEEK, SEEK_BACK, FIND, NEXT, PREV, OLDER, COVERING, RANGE, OPS };

struct pair {
    struct world *w;
    struct tree_node_source s;
    struct rig_run_source m;
    bool on, walks; /* it stands on a key, and next or prev may follow */
};

static int call(struct tree_source *s, enum op op, struct kv_slice key, struct tree_range *range)
{
    switch (op) {
    case SEEK:
        return s->ops->seek(s, key);
    case SEEK_BACK:
        return s->ops->seek_back(s, key);
    case FIND:
        return s->ops->find(s, key);
    case NEXT:
        return s->ops->next(s);
    case PREV:
        return s->ops->prev(s);
    case OLDER:
        return s->ops->older(s);
    case COVERING:
        return s->ops->covering(s, key, range);
    case RANGE:
        return s->ops->range(s, key, range);
    case OPS:
    default:
        CHECK_TRUE(false);
        return 0;
    }
}

static void check_same(struct kv_slice a, struct kv_slice b)
{
    CHECK_EQ(kv_slice_compare(a, b), 0);
}

static void check_stands(const struct pair *p)
{
    const struct tree_message *a = &p->s.base.message, *b = &p->m.base.message;
    if (p->on) {
        check_same(p->s.base.key, p->m.base.key);
        check_same(a->body, b->body);
        CHECK_TRUE(a->type == b->type && a->msn == b->msn);
        CHECK_TRUE(p->s.pinned != NULL);
    } else {
        CHECK_TRUE(p->s.pinned == NULL); /* and what it stood in may go */
    }
}

static void evict_all(struct world *w)
{
    (void)tree_cache_shrink(w->cache.cache, 0);
}

/* It has asked for one part, of its own. */
static void check_asked(const struct pair *p, enum op op)
{
    const struct kv_need *need = &p->w->cache.need;
    uint32_t part = tree_need_name(&need->item[need->count - 1]).part;
    const struct tree_partition *x = &p->w->head->header.partition[part];
    CHECK_EQ(need->missing, 1);
    if (op == COVERING || op == RANGE) {
        CHECK_EQ(x->kind, TREE_PARTITION_RANGES);
    } else {
        CHECK_TRUE(part >= p->s.first && part < p->s.first + p->s.count);
    }
}

/* The call until it succeeds, with what it asks for. False: given up, and nothing has changed. */
static bool call_until(struct pair *p, enum op op, struct kv_slice key, struct tree_range *range,
                       int *ret)
{
    struct world *w = p->w;
    unsigned asked = 0;
    for (;;) {
        mem_fail_at(rand_chance(&w->rand, 1, 10) ? 1 : 0);
        *ret = call(&p->s.base, op, key, range);
        mem_fail_at(0);
        if (*ret >= 0) {
            CHECK_TRUE(asked <= (op == SEEK || op == SEEK_BACK ? 2u : op == OLDER ? 0 : 1u));
            return true;
        }
        check_stands(p);
        if (*ret == -ENOMEM) {
            continue;
        }
        CHECK_RC(*ret, ERR_need);
        check_asked(p, op);
        if (rand_chance(&w->rand, 1, 10)) {
            kv_need_release(&w->cache.need);
            return false;
        }
        CHECK_EQ(rig_fetch(&w->cache, w->head, w->copies), 1);
        asked++;
    }
}

static void check_range(const struct tree_range *a, const struct tree_range *b)
{
    CHECK_EQ(a->msn, b->msn);
    check_same(a->low, b->low);
    check_same(a->high, b->high);
}

static void step(struct pair *p)
{
    struct world *w = p->w;
    struct tree_range range = {0}, expected = {0};
    enum op op = (enum op)rand_below(&w->rand, OPS);
    uint64_t k = rand_below(&w->rand, KEYS + 1);
    bool goes = op != FIND && op != COVERING; /* takes an empty key, too */
    struct kv_slice key = k < KEYS ? w->key[k].slice : goes ? nothing() : w->key[0].slice;
    int rc = 0;
    if ((!p->on && op == OLDER) || (!p->walks && (op == NEXT || op == PREV)) ||
        (op == RANGE && !p->s.base.has_ranges)) {
        return;
    }
    if (rand_chance(&w->rand, 1, 3)) {
        kv_need_release(&w->cache.need);
        evict_all(w);
    }
    if (call_until(p, op, key, &range, &rc)) {
        CHECK_EQ(rc, call(&p->m.base, op, key, &expected));
        if (op < OLDER) {
            p->on = rc == 1;
            p->walks = p->on && op != FIND;
        }
        if (op == COVERING || (op == RANGE && rc == 1)) {
            check_range(&range, &expected);
        }
    }
    check_stands(p);
}

static void check_steps(struct world *w, unsigned steps)
{
    for (size_t i = 0; i < w->run_count; i++) {
        struct pair p = {.w = w};
        world_open(w, i, &p.s);
        rig_run_source_init(&p.m, w->run[i].run);
        CHECK_EQ(p.s.base.has_ranges, w->run[i].run->range_count > 0);
        for (unsigned n = 0; n < steps; n++) {
            step(&p);
        }
        tree_node_source_fini(&p.s);
        kv_need_release(&w->cache.need);
    }
}

TEST(runs_are_what_was_put_into_them)
{
    for (unsigned i = 0; i < 30; i++) {
        struct world w;
        world_internal(&w, testing_seed() + i, i % 2 == 0);
        check_steps(&w, 200);
        world_fini(&w);
    }
}

TEST(leaves_are_what_was_put_into_them)
{
    for (unsigned i = 0; i < 60; i++) {
        struct world w;
        world_leaf(&w, testing_seed() + i, i % 2 == 0);
        check_steps(&w, 400);
        world_fini(&w);
    }
}

/* ---- what is pinned ---- */

static unsigned present(const struct world *w)
{
    unsigned count = 0;
    for (uint32_t i = 0; i < w->head->header.partition_count; i++) {
        count += w->head->part[i]->bytes != NULL ? 1 : 0;
    }
    return count;
}

/* A walk over all of a run pins the part it stands in, and no other; and asks for each part once.
 */
static void check_walk_pins(struct world *w, size_t run, bool backwards)
{
    struct tree_node_source s;
    struct tree_range range;
    unsigned asked = 0, keys = 0;
    world_open(w, run, &s);
    bool first = true;
    for (int rc = 1; rc != 0;) {
        enum op op = first ? (backwards ? SEEK_BACK : SEEK) : (backwards ? PREV : NEXT);
        rc = call(&s.base, op, nothing(), &range);
        if (rc == -ERR_need) {
            CHECK_EQ(rig_fetch(&w->cache, w->head, w->copies), 1);
            asked++;
            rc = call(&s.base, op, nothing(), &range);
        }
        kv_need_release(&w->cache.need);
        evict_all(w);
        CHECK_EQ(present(w), rc == 1 ? 1 : 0);
        first = false;
        keys += rc == 1 ? 1 : 0;
    }
    CHECK_EQ(asked, s.count);
    CHECK_TRUE(keys >= s.count);
    if (s.base.has_ranges) {
        CHECK_RC(call(&s.base, COVERING, w->key[0].slice, &range), ERR_need);
        CHECK_EQ(rig_fetch(&w->cache, w->head, w->copies), 1);
        CHECK_OK(call(&s.base, COVERING, w->key[0].slice, &range));
        kv_need_release(&w->cache.need);
        evict_all(w);
        CHECK_EQ(present(w), 1); /* as long as the source lives */
    }
    tree_node_source_fini(&s);
    evict_all(w);
    CHECK_EQ(present(w), 0);
}

TEST(a_source_pins_what_it_stands_in)
{
    for (unsigned i = 0; i < 20; i++) {
        struct world w;
        if (i % 2 == 0) {
            world_internal(&w, testing_seed() + i, false);
        } else {
            world_leaf(&w, testing_seed() + i, false);
        }
        for (size_t run = 0; run < w.run_count; run++) {
            check_walk_pins(&w, run, false);
            check_walk_pins(&w, run, true);
        }
        world_fini(&w);
    }
}

/* On which side of a slot a key lies is known without any part of it. */
TEST(keys_beyond_a_slot_ask_for_nothing)
{
    struct world w;
    struct tree_node_source s;
    world_internal(&w, testing_seed(), false);
    for (size_t i = 0; i < w.run_count; i++) {
        uint32_t first = w.first[w.run[i].slot], end = w.first[w.run[i].slot + 1];
        world_open(&w, i, &s);
        for (uint32_t k = 0; k < KEYS && s.count > 0; k++) {
            bool inside = k >= first && k < end;
            int need = -ERR_need;
            CHECK_EQ(s.base.ops->find(&s.base, w.key[k].slice), inside ? need : 0);
            CHECK_EQ(s.base.ops->seek(&s.base, w.key[k].slice), k < end ? need : 0);
            CHECK_EQ(s.base.ops->seek_back(&s.base, w.key[k].slice), k >= first ? need : 0);
        }
        CHECK_TRUE(s.pinned == NULL);
        tree_node_source_fini(&s);
        kv_need_release(&w.cache.need);
    }
    world_fini(&w);
}

/* What a list keeps stays when the source has gone, until the list is released. */
TEST(a_need_list_keeps_what_was_read)
{
    struct world w;
    struct tree_node_source s;
    world_leaf(&w, testing_seed(), false);
    const struct rig_record *r = &w.run[0].run->record[0];
    world_open(&w, 0, &s);
    CHECK_OK(tree_node_source_keep(&s)); /* it stands nowhere */
    CHECK_RC(s.base.ops->find(&s.base, r->key), ERR_need);
    CHECK_EQ(rig_fetch(&w.cache, w.head, w.copies), 1);
    CHECK_EQ(s.base.ops->find(&s.base, r->key), 1);
    struct kv_slice value = s.base.message.body;
    kv_need_release(&w.cache.need); /* the source has a pin of its own */
    mem_fail_at(1);
    CHECK_RC(tree_node_source_keep(&s), ENOMEM);
    mem_fail_at(0);
    evict_all(&w);
    check_same(value, r->message.body);
    CHECK_OK(tree_node_source_keep(&s));
    tree_node_source_fini(&s);
    evict_all(&w);
    check_same(value, r->message.body);
    kv_need_release(&w.cache.need);
    evict_all(&w);
    CHECK_EQ(present(&w), 0);
    world_fini(&w);
}

/* Whoever gathers everything before needs no list. */
TEST(a_source_without_a_list_reads_what_is_there)
{
    struct world w;
    struct tree_node_source s;
    struct tree_need_from from = {0};
    size_t count = 0;
    world_leaf(&w, testing_seed(), false);
    for (uint32_t i = 0; i < SLOTS; i++) {
        struct tree_part *p = w.head->part[i];
        CHECK_TRUE(tree_part_fill(p, rig_bytes(&w.cache, w.copies[i], p->raw_len)));
    }
    tree_node_source_leaf(&s, &from, &w.at);
    for (int rc = s.base.ops->seek(&s.base, nothing()); rc == 1; rc = s.base.ops->next(&s.base)) {
        check_same(s.base.key, w.run[0].run->record[count++].key);
    }
    CHECK_EQ(count, w.run[0].run->count);
    tree_node_source_fini(&s);
    world_fini(&w);
}

TEST(an_empty_leaf_has_nothing)
{
    struct rig_cache c;
    struct tree_head_builder b;
    struct tree_head *h = NULL;
    struct tree_node_source s;
    struct tree_pivots_source p = {0};
    struct tree_range range = {.msn = 5};
    rig_cache_init(&c);
    tree_head_builder_init(&b, c.cache);
    CHECK_OK(tree_head_builder_finish(&b, &p, NULL, 0, &h));
    tree_node_source_leaf(&s, &c.from, &(struct tree_node_at){h, RIG_BLOCK, RIG_VERSION});
    CHECK_EQ(s.base.ops->seek(&s.base, nothing()), 0);
    CHECK_EQ(s.base.ops->seek_back(&s.base, nothing()), 0);
    CHECK_EQ(s.base.ops->find(&s.base, kv_slice_of("a", 1)), 0);
    CHECK_EQ(s.base.ops->range(&s.base, nothing(), &range), 0);
    CHECK_OK(s.base.ops->covering(&s.base, kv_slice_of("a", 1), &range));
    CHECK_EQ(range.msn, 0);
    tree_node_source_fini(&s);
    tree_head_unref(h);
    tree_head_builder_fini(&b);
    rig_cache_fini(&c);
}

/* ---- together ---- */

/* All runs of a slot as a merge sees them, and the same of the models. */
struct together {
    struct world *w;
    struct tree_node_source s[RUNS];
    struct rig_run_source m[RUNS];
    struct tree_source *real[RUNS], *model[RUNS];
    size_t count;
};

static void together_open(struct together *t, struct world *w, uint16_t slot)
{
    uint8_t number[256];
    t->w = w;
    t->count = 0;
    unsigned count = tree_head_runs(w->head, slot, number);
    for (unsigned n = 0; n < count; n++) {
        for (size_t i = 0; i < w->run_count; i++) {
            if (w->run[i].slot == slot && w->run[i].number == number[n]) {
                world_open(w, i, &t->s[t->count]);
                rig_run_source_init(&t->m[t->count], w->run[i].run);
                t->real[t->count] = &t->s[t->count].base;
                t->model[t->count] = &t->m[t->count].base;
                t->count++;
            }
        }
    }
    CHECK_EQ(t->count, count);
}

static void check_together_get(struct together *t, struct kv_slice key)
{
    struct tree_fold real = {0}, model = {0};
    struct kv_slice a = {0}, b = {0};
    int rc = -ERR_need;
    while (rc == -ERR_need) {
        evict_all(t->w);
        rc = tree_merge_get(t->real, t->count, key, &real, &a);
        if (rc == -ERR_need) {
            CHECK_EQ(rig_fetch(&t->w->cache, t->w->head, t->w->copies), 1);
        }
    }
    CHECK_EQ(rc, tree_merge_get(t->model, t->count, key, &model, &b));
    if (rc == 1) {
        check_same(a, b);
    }
    tree_fold_fini(&real);
    tree_fold_fini(&model);
}

/* What all runs lack to begin with is said at once. */
static void check_together_lack(struct together *t, struct tree_merge *merge)
{
    size_t lack = 0;
    kv_need_release(&t->w->cache.need);
    evict_all(t->w);
    for (size_t n = 0; n < t->count; n++) {
        const struct tree_node_source *s = &t->s[n];
        lack += s->count > 0 && tree_part_is_absent(s->head->part[s->first]) ? 1 : 0;
    }
    if (lack > 0) {
        CHECK_RC(tree_merge_seek(merge, nothing()), ERR_need);
        CHECK_EQ(rig_fetch(&t->w->cache, t->w->head, t->w->copies), lack);
    }
}

static void check_together_walk(struct together *t, bool backwards)
{
    struct tree_merge *real = NULL, *model = NULL;
    struct tree_merge_options opt = {.sources = t->real, .count = t->count};
    CHECK_OK(tree_merge_new(&opt, &real));
    opt.sources = t->model;
    CHECK_OK(tree_merge_new(&opt, &model));
    int rc = backwards ? tree_merge_seek_back(model, nothing()) : tree_merge_seek(model, nothing());
    bool first = true;
    check_together_lack(t, real);
    for (;;) {
        int got = -ERR_need;
        while (got == -ERR_need) {
            got = first ? (backwards ? tree_merge_seek_back : tree_merge_seek)(real, nothing())
                        : (backwards ? tree_merge_prev : tree_merge_next)(real);
            if (got == -ERR_need) {
                size_t more = rig_fetch(&t->w->cache, t->w->head, t->w->copies);
                CHECK_TRUE(first ? more >= 1 : more == 1);
            }
        }
        first = false;
        kv_need_release(&t->w->cache.need);
        evict_all(t->w);
        CHECK_EQ(got, rc);
        if (rc == 0) {
            break;
        }
        check_same(tree_merge_key(real), tree_merge_key(model));
        check_same(tree_merge_value(real), tree_merge_value(model));
        rc = backwards ? tree_merge_prev(model) : tree_merge_next(model);
    }
    tree_merge_free(real);
    tree_merge_free(model);
}

TEST(merged_runs_read_as_their_models_do)
{
    for (unsigned i = 0; i < 10; i++) {
        struct world w;
        world_internal(&w, testing_seed() + i, i % 2 == 0);
        for (uint16_t slot = 0; slot < SLOTS; slot++) {
            struct together t;
            together_open(&t, &w, slot);
            for (uint32_t k = w.first[slot]; k < w.first[slot + 1]; k++) {
                check_together_get(&t, w.key[k].slice);
                kv_need_release(&w.cache.need);
            }
            check_together_walk(&t, false);
            check_together_walk(&t, true);
            for (size_t n = 0; n < t.count; n++) {
                tree_node_source_fini(&t.s[n]);
            }
        }
        world_fini(&w);
    }
}
