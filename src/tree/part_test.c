/* tree/part_test.c -- tree/part.h on one thread: what is charged, what may go and in which order.
 */
#include "tree/part.h"

#include "base/mem.h"
#include "base/rand.h"
#include "testing/testing.h"
#include "tree/node.h"

#include <string.h>

#define UNIT ((size_t)1024)
#define PARTS 64u

struct rig {
    struct tree_cache *cache;
    struct tree_part *part[PARTS]; /* a reference each, or NULL */
    struct tree_cache_info info;
};

static void rig_fini(struct rig *r)
{
    for (size_t i = 0; i < PARTS; i++) {
        r->part[i] = tree_part_unref(r->part[i]);
    }
    r->cache = tree_cache_free(r->cache); /* CHECKs that all was given back */
}

static int rig_init(struct rig *r, uint64_t limit)
{
    struct tree_cache_options opt = {.limit_bytes = limit};
    return tree_cache_new(&opt, &r->cache);
}

static const struct tree_part_place somewhere = {
    .block = 7, .extent = 4096, .birth = 3, .extent_len = 8192, .packed_len = 100};

static uint8_t *bytes_new(struct rig *r, uint8_t fill)
{
    uint8_t *bytes = mem_aligned(TREE_PART_ALIGN, UNIT);
    if (bytes != NULL) {
        tree_cache_force(r->cache, UNIT);
        memset(bytes, fill, UNIT);
    }
    return bytes;
}

static void bytes_drop(struct rig *r, uint8_t *bytes)
{
    if (bytes != NULL) {
        mem_free(bytes);
        tree_cache_give(r->cache, UNIT);
    }
}

enum how { DIRTY, CLEAN, ABSENT };

static int part_new(struct rig *r, size_t i, enum how how)
{
    uint8_t *bytes = NULL;
    if (how != ABSENT && (bytes = bytes_new(r, (uint8_t)i)) == NULL) {
        return -ENOMEM;
    }
    struct tree_part_options opt = {.cache = r->cache,
                                    .kind = 1,
                                    .raw_len = (uint32_t)UNIT,
                                    .entries = 5,
                                    .bytes = bytes,
                                    .place = how == DIRTY ? NULL : &somewhere};
    int rc = tree_part_new(&opt, &r->part[i]);
    if (rc < 0) {
        bytes_drop(r, bytes);
    }
    return rc;
}

static bool part_fill(struct rig *r, size_t i)
{
    uint8_t *bytes = bytes_new(r, (uint8_t)i);
    CHECK(bytes != NULL);
    bool filled = tree_part_fill(r->part[i], bytes);
    if (!filled) {
        bytes_drop(r, bytes);
    }
    return filled;
}

static bool part_is_there(struct rig *r, size_t i)
{
    bool there = tree_part_pin(r->part[i]);
    if (there) {
        CHECK_EQ(r->part[i]->bytes[UNIT - 1], i);
        tree_part_unpin(r->part[i]);
    }
    return there;
}

static const struct tree_cache_info *info(struct rig *r)
{
    tree_cache_info(r->cache, &r->info);
    return &r->info;
}

#define OVERHEAD sizeof(struct tree_part)

/* A cache that is full of `count` parts. */
static void rig_fill(struct rig *r, size_t count, enum how how)
{
    CHECK_OK(rig_init(r, count * (UNIT + OVERHEAD)));
    for (size_t i = 0; i < count; i++) {
        CHECK_OK(part_new(r, i, how));
    }
}

TEST(a_part_is_charged_and_given_back)
{
    CLEANUP(rig_fini) struct rig r = {0};
    CHECK_OK(rig_init(&r, 100 * UNIT));
    CHECK_OK(part_new(&r, 0, DIRTY));
    CHECK_OK(part_new(&r, 1, CLEAN));
    CHECK_OK(part_new(&r, 2, ABSENT));
    CHECK_EQ(info(&r)->used, 2 * UNIT + 3 * OVERHEAD);
    CHECK_EQ(r.info.dirty, UNIT);
    CHECK_EQ(r.info.clean, UNIT);
    CHECK_EQ(r.info.limit, 100 * UNIT);
    CHECK_TRUE(!part_is_there(&r, 2));
    CHECK_TRUE(part_fill(&r, 2));
    CHECK_TRUE(part_is_there(&r, 2));
    CHECK_TRUE(!part_fill(&r, 2)); /* somebody was faster */
    CHECK_TRUE(!part_fill(&r, 0));
    CHECK_EQ(info(&r)->used, 3 * UNIT + 3 * OVERHEAD);
    CHECK_EQ(r.info.clean, 2 * UNIT);
    CHECK_EQ(r.info.fills, 1);
    CHECK_EQ(r.info.hits, 1);
    for (size_t i = 0; i < 3; i++) {
        r.part[i] = tree_part_unref(r.part[i]);
    }
    CHECK_EQ(info(&r)->used, 0);
    CHECK_EQ(r.info.dirty + r.info.clean, 0);
}

TEST(a_pin_is_a_reference_and_keeps_the_bytes)
{
    CLEANUP(rig_fini) struct rig r = {0};
    CHECK_OK(rig_init(&r, 100 * UNIT));
    CHECK_OK(part_new(&r, 0, CLEAN));
    struct tree_part *p = r.part[0];
    CHECK_TRUE(tree_part_pin(p));
    CHECK_TRUE(tree_part_pin(p));
    r.part[0] = tree_part_unref(r.part[0]);
    CHECK_EQ(tree_cache_shrink(r.cache, 0), UNIT + OVERHEAD);
    CHECK_EQ(p->bytes[0], 0);
    tree_part_unpin(p);
    CHECK_EQ(tree_cache_shrink(r.cache, 0), UNIT + OVERHEAD);
    tree_part_unpin(p);
    CHECK_EQ(info(&r)->used, 0);
}

TEST(what_is_dirty_stays_until_it_is_written)
{
    CLEANUP(rig_fini) struct rig r = {0};
    CHECK_OK(rig_init(&r, 100 * UNIT));
    CHECK_OK(part_new(&r, 0, DIRTY));
    CHECK_TRUE(tree_part_is_dirty(r.part[0]));
    CHECK_EQ(tree_cache_shrink(r.cache, 0), UNIT + OVERHEAD);
    tree_part_written(r.part[0], &somewhere);
    CHECK_TRUE(!tree_part_is_dirty(r.part[0]));
    CHECK_EQ(info(&r)->dirty, 0);
    CHECK_EQ(r.info.clean, UNIT);
    struct tree_part_place elsewhere = somewhere;
    elsewhere.extent = 1 << 20;
    tree_part_written(r.part[0], &elsewhere);
    CHECK_EQ(r.part[0]->place.extent, 1 << 20);
    CHECK_EQ(info(&r)->clean, UNIT);
    CHECK_EQ(tree_cache_shrink(r.cache, 0), OVERHEAD);
    CHECK_EQ(info(&r)->clean, 0);
    CHECK_EQ(r.info.evictions, 1);
    tree_part_written(r.part[0], &somewhere); /* while it is away */
    CHECK_TRUE(!part_is_there(&r, 0));
    CHECK_TRUE(part_fill(&r, 0));
    CHECK_TRUE(part_is_there(&r, 0));
}

/* Used, so that it stands with those that stay for a while. */
static void rig_settle(struct rig *r, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        CHECK_TRUE(part_is_there(r, i));
    }
    CHECK_TRUE(tree_cache_charge(r->cache, 1)); /* one unused part goes: the last of them */
    tree_cache_give(r->cache, 1);
}

TEST(what_was_used_gets_a_second_chance)
{
    CLEANUP(rig_fini) struct rig r = {0};
    rig_fill(&r, 9, CLEAN);
    rig_settle(&r, 8);
    CHECK_TRUE(!part_is_there(&r, 8));
    for (size_t i = 0; i < 8; i++) {
        atomic_store(&r.part[i]->turns, 0);
    }
    CHECK_TRUE(part_is_there(&r, 0));
    CHECK_TRUE(part_is_there(&r, 2));
    tree_cache_force(r.cache, UNIT);
    CHECK_TRUE(tree_cache_charge(r.cache, 2 * UNIT)); /* two go */
    CHECK_EQ(info(&r)->evictions, 3);
    CHECK_TRUE(tree_cache_charge(r.cache, 4 * UNIT)); /* the other four: the hand has come around */
    for (size_t i = 0; i < 8; i++) {
        CHECK_EQ((r.part[i]->state & TREE_PART_ABSENT) == 0, i == 0 || i == 2);
    }
    CHECK_TRUE(part_is_there(&r, 0));
    CHECK_TRUE(part_is_there(&r, 2));
    CHECK_TRUE(tree_cache_charge(r.cache, 2 * UNIT)); /* their use helps no more than once */
    CHECK_TRUE(!part_is_there(&r, 0));
    CHECK_TRUE(!part_is_there(&r, 2));
    CHECK_TRUE(!tree_cache_charge(r.cache, 1));
    tree_cache_give(r.cache, 9 * UNIT);
}

/* What jobs write goes through, however much it is; what readers use again and again stays. */
TEST(what_is_written_and_not_used_goes_before_what_is_used)
{
    CLEANUP(rig_fini) struct rig r = {0};
    rig_fill(&r, 33, CLEAN);
    rig_settle(&r, 24);
    for (unsigned n = 0; n < 2000; n++) {
        size_t i = 24 + n % 40;
        CHECK_TRUE(tree_cache_charge(r.cache, UNIT + OVERHEAD));
        tree_cache_give(r.cache, UNIT + OVERHEAD);
        r.part[i] = tree_part_unref(r.part[i]);
        CHECK_OK(part_new(&r, i, DIRTY));
        tree_part_written(r.part[i], &somewhere);
        CHECK_TRUE(n % 2 != 0 || part_is_there(&r, n / 2 % 24)); /* after 48 others each */
    }
    for (size_t i = 0; i < 24; i++) {
        CHECK_TRUE(part_is_there(&r, i));
    }
}

/* What is not used any more makes room in time, though what comes is not used either. */
TEST(what_was_used_long_ago_goes)
{
    CLEANUP(rig_fini) struct rig r = {0};
    rig_fill(&r, 33, CLEAN);
    rig_settle(&r, 32);
    for (unsigned round = 0; round < 40; round++) {
        for (size_t i = 32; i < PARTS; i++) {
            CHECK_TRUE(tree_cache_charge(r.cache, UNIT + OVERHEAD));
            tree_cache_give(r.cache, UNIT + OVERHEAD);
            r.part[i] = tree_part_unref(r.part[i]);
            CHECK_OK(part_new(&r, i, CLEAN));
        }
    }
    for (size_t i = 0; i < 32; i++) {
        CHECK_TRUE(!part_is_there(&r, i));
    }
}

/* What a walk goes through once does not push out what is asked for again. */
TEST(what_was_used_once_since_it_was_read_goes_before_what_was_used_again)
{
    CLEANUP(rig_fini) struct rig r = {0};
    rig_fill(&r, 8, CLEAN);
    (void)tree_cache_shrink(r.cache, 0);
    for (size_t i = 0; i < 8; i++) {
        CHECK_TRUE(part_fill(&r, i));
        CHECK_TRUE(tree_part_hold(r.part[i])); /* for whoever waited: no use of it */
        tree_part_unpin(r.part[i]);
        CHECK_TRUE(part_is_there(&r, i));
    }
    CHECK_TRUE(part_is_there(&r, 0)); /* again */
    CHECK_TRUE(part_is_there(&r, 3));
    CHECK_TRUE(tree_cache_charge(r.cache, 6 * UNIT));
    for (size_t i = 0; i < 8; i++) {
        CHECK_EQ(part_is_there(&r, i), i == 0 || i == 3);
    }
    tree_cache_give(r.cache, 6 * UNIT);
}

TEST(what_nobody_has_used_since_it_was_read_stays_for_a_turn)
{
    CLEANUP(rig_fini) struct rig r = {0};
    CHECK_OK(rig_init(&r, 4 * UNIT + 4 * OVERHEAD));
    for (size_t i = 0; i < 4; i++) {
        CHECK_OK(part_new(&r, i, i < 2 ? ABSENT : CLEAN));
        CHECK_TRUE(i >= 2 || part_fill(&r, i));
    }
    CHECK_TRUE(tree_cache_charge(r.cache, 2 * UNIT));
    CHECK_TRUE(part_is_there(&r, 0) && part_is_there(&r, 1));
    tree_cache_give(r.cache, 2 * UNIT);
}

TEST(a_filter_stays_for_some_turns)
{
    CLEANUP(rig_fini) struct rig r = {0};
    rig_fill(&r, 8, CLEAN);
    r.part[0]->kind = TREE_PARTITION_FILTER;
    CHECK_TRUE(part_is_there(&r, 0));
    unsigned turns = 0;
    for (; (r.part[0]->state & TREE_PART_ABSENT) == 0 && turns < 20; turns++) {
        CHECK_TRUE(tree_cache_charge(r.cache, 7 * UNIT));
        tree_cache_give(r.cache, 7 * UNIT);
        for (size_t i = 1; i < 8; i++) { /* the others go and come */
            if (!part_is_there(&r, i)) {
                CHECK_TRUE(part_fill(&r, i));
                CHECK_TRUE(part_is_there(&r, i));
            }
        }
    }
    CHECK_TRUE(turns >= 3 && turns < 10); /* not for ever */
}

TEST(a_charge_evicts_no_more_than_it_needs)
{
    CLEANUP(rig_fini) struct rig r = {0};
    rig_fill(&r, PARTS, CLEAN);
    CHECK_TRUE(tree_cache_charge(r.cache, 10 * UNIT));
    CHECK_EQ(info(&r)->evictions, 10);
    CHECK_TRUE(!tree_cache_charge(r.cache, 64 * UNIT + 64 * OVERHEAD + 1)); /* never to be had */
    CHECK_EQ(info(&r)->evictions, 10);
    tree_cache_force(r.cache, 100 * UNIT);
    CHECK_TRUE(!tree_cache_charge(r.cache, 0)); /* all went, and it was not enough */
    CHECK_EQ(info(&r)->evictions, 64);
    CHECK_TRUE(!tree_cache_charge(r.cache, 1));
    tree_cache_give(r.cache, 110 * UNIT);
}

TEST(the_parent_of_the_budget_is_heard)
{
    struct mem_budget parent;
    mem_budget_init(&parent, NULL, 10 * UNIT);
    CLEANUP(rig_fini) struct rig r = {0};
    struct tree_cache_options opt = {.limit_bytes = 100 * UNIT, .parent = &parent};
    CHECK_OK(tree_cache_new(&opt, &r.cache));
    for (size_t i = 0; i < 6; i++) {
        CHECK_OK(part_new(&r, i, CLEAN));
    }
    CHECK_EQ(parent.used_bytes, 6 * UNIT + 6 * OVERHEAD);
    CHECK_TRUE(tree_cache_charge(r.cache, 8 * UNIT));
    CHECK_TRUE(parent.used_bytes <= 10 * UNIT);
    tree_cache_force(r.cache, 8 * UNIT);
    CHECK_EQ(parent.used_bytes, info(&r)->used);
    tree_cache_give(r.cache, 16 * UNIT);
    CHECK_TRUE(tree_cache_budget(r.cache)->parent == &parent);
}

/* Heads: they hold references on parts. */
struct heads {
    struct rig *r;
    uint64_t asked;
    unsigned left;
    size_t looked, of;
};

static uint64_t heads_sweep(void *arg, size_t looked, size_t of)
{
    struct heads *h = arg;
    h->looked += looked;
    h->of = of;
    return 0;
}

static uint64_t heads_evict(void *arg, uint64_t want)
{
    struct heads *h = arg;
    h->asked = want;
    if (h->left == 0) {
        return 0;
    }
    h->left--;
    h->r->part[h->left] = tree_part_unref(h->r->part[h->left]);
    tree_cache_give(h->r->cache, UNIT);
    return UNIT;
}

TEST(heads_go_when_no_part_is_left)
{
    CLEANUP(rig_fini) struct rig r = {0};
    struct heads heads = {.r = &r, .left = 4};
    CHECK_OK(rig_init(&r, 10 * UNIT + 4 * OVERHEAD));
    const struct tree_cache_heads calls = {
        .evict = heads_evict, .sweep = heads_sweep, .arg = &heads};
    tree_cache_set_heads(r.cache, &calls);
    tree_cache_force(r.cache, 4 * UNIT);
    for (size_t i = 0; i < 4; i++) {
        CHECK_OK(part_new(&r, i, CLEAN));
    }
    CHECK_TRUE(tree_cache_charge(r.cache, 6 * UNIT));
    CHECK_EQ(heads.left, 4);
    CHECK_TRUE(tree_cache_charge(r.cache, 2 * UNIT));
    CHECK_EQ(heads.left, 2);
    CHECK_EQ(tree_cache_shrink(r.cache, 0), 8 * UNIT);
    CHECK_EQ(heads.left, 0);
    CHECK_EQ(heads.asked, 8 * UNIT);
    tree_cache_set_heads(r.cache, NULL);
    CHECK_EQ(tree_cache_shrink(r.cache, 0), 8 * UNIT);
    tree_cache_give(r.cache, 8 * UNIT);
}

/* A hand goes over heads as fast as one goes over the parts that stay for a while. */
TEST(heads_are_looked_at_as_parts_are)
{
    CLEANUP(rig_fini) struct rig r = {0};
    struct heads heads = {.r = &r};
    rig_fill(&r, 33, CLEAN);
    const struct tree_cache_heads calls = {
        .evict = heads_evict, .sweep = heads_sweep, .arg = &heads};
    rig_settle(&r, 32);
    tree_cache_set_heads(r.cache, &calls);
    tree_cache_force(r.cache, UNIT);
    CHECK_TRUE(tree_cache_charge(r.cache, 16 * UNIT));
    CHECK_TRUE(heads.of >= 24 && heads.of <= 32);
    CHECK_TRUE(heads.looked >= 16 && heads.looked <= 3 * 32);
    CHECK_EQ(heads.asked, 0); /* those that are in use stay while parts may go */
    tree_cache_set_heads(r.cache, NULL);
    tree_cache_give(r.cache, 17 * UNIT);
}

TEST_TORTURE(a_part_or_nothing)
{
    CLEANUP(rig_fini) struct rig r = {0};
    TRY(rig_init(&r, 100 * UNIT));
    for (size_t i = 0; i < 6; i++) {
        TRY(part_new(&r, i, (enum how)(i % 3)));
    }
    CHECK_EQ(info(&r)->used, 4 * UNIT + 6 * OVERHEAD);
}

/* ---- random operations against a model ---- */

struct model {
    bool there[PARTS], dirty[PARTS];
    unsigned pins[PARTS];
    uint64_t others; /* bytes charged for something else */
};

static void model_check(struct rig *r, struct model *m)
{
    uint64_t clean = 0, dirty = 0, overhead = 0;
    for (size_t i = 0; i < PARTS; i++) {
        struct tree_part *p = r->part[i];
        if (p != NULL) {
            bool there = (p->state & TREE_PART_ABSENT) == 0;
            CHECK_EQ(tree_part_is_dirty(p), m->dirty[i]);
            CHECK_TRUE(there || !m->dirty[i]);    /* what is not on disk stays */
            CHECK_TRUE(there || m->pins[i] == 0); /* so does what is pinned */
            CHECK_TRUE(!there || m->there[i]);    /* and nothing comes by itself */
            CHECK_TRUE(!there || p->bytes[9] == i);
            m->there[i] = there;
            clean += there && !m->dirty[i] ? UNIT : 0;
            dirty += m->dirty[i] ? UNIT : 0;
            overhead += OVERHEAD;
        }
    }
    CHECK_EQ(info(r)->clean, clean);
    CHECK_EQ(r->info.dirty, dirty);
    CHECK_EQ(r->info.used, clean + dirty + overhead + m->others);
}

static void model_new(struct rig *r, struct model *m, size_t i, enum how how)
{
    CHECK_OK(part_new(r, i, how));
    m->there[i] = how != ABSENT;
    m->dirty[i] = how == DIRTY;
}

static void model_pin(struct rig *r, struct model *m, size_t i)
{
    bool pinned = tree_part_pin(r->part[i]);
    CHECK_EQ(pinned, m->there[i]);
    m->pins[i] += pinned ? 1 : 0;
}

static void model_charge(struct rig *r, struct model *m, uint64_t bytes)
{
    uint64_t before = info(r)->used, evictions = r->info.evictions;
    bool fits = before + bytes <= r->info.limit;
    if (tree_cache_charge(r->cache, bytes)) {
        m->others += bytes;
        CHECK_TRUE(info(r)->used <= r->info.limit);
        CHECK_TRUE(!fits || r->info.evictions == evictions);
        return;
    }
    CHECK_TRUE(!fits);
    model_check(r, m);
    for (size_t i = 0; i < PARTS && bytes <= r->info.limit; i++) { /* all that may go has gone */
        CHECK_TRUE(r->part[i] == NULL || !m->there[i] || m->dirty[i] || m->pins[i] > 0);
    }
}

static void model_step(struct rig *r, struct model *m, struct rand *rand)
{
    size_t i = (size_t)rand_below(rand, PARTS);
    unsigned what = (unsigned)rand_below(rand, 100);
    if (what < 10) {
        model_charge(r, m, rand_below(rand, 8 * UNIT));
    } else if (what < 15) {
        uint64_t less = rand_below(rand, m->others + 1);
        tree_cache_give(r->cache, less);
        m->others -= less;
    } else if (what < 17) {
        (void)tree_cache_shrink(r->cache, rand_below(rand, 40 * UNIT));
    } else if (r->part[i] == NULL) {
        model_new(r, m, i, (enum how)rand_below(rand, 3));
    } else if (what < 30) {
        while (m->pins[i] > 0) {
            m->pins[i]--;
            tree_part_unpin(r->part[i]);
        }
        r->part[i] = tree_part_unref(r->part[i]);
    } else if (what < 50) {
        model_pin(r, m, i);
    } else if (what < 70 && m->pins[i] > 0) {
        m->pins[i]--;
        tree_part_unpin(r->part[i]);
    } else if (what < 85) {
        CHECK_EQ(part_fill(r, i), !m->there[i]);
        m->there[i] = true;
    } else {
        tree_part_written(r->part[i], &somewhere);
        m->dirty[i] = false;
    }
}

TEST(random_operations)
{
    CLEANUP(rig_fini) struct rig r = {0};
    struct rand rand;
    struct model m = {0};
    rand_seed(&rand, testing_seed());
    CHECK_OK(rig_init(&r, 40 * UNIT));
    for (unsigned n = 0; n < 20000; n++) {
        model_step(&r, &m, &rand);
        model_check(&r, &m);
    }
    for (size_t i = 0; i < PARTS; i++) {
        for (; r.part[i] != NULL && m.pins[i] > 0; m.pins[i]--) {
            tree_part_unpin(r.part[i]);
        }
    }
    tree_cache_give(r.cache, m.others);
}
