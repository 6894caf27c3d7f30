/* tree/space_test.c -- tree/space.h against a model that knows the state of every unit. */
#include "tree/space.h"

#include "base/mem.h"
#include "base/rand.h"
#include "testing/testing.h"

#include <string.h>

#define UNITS_MAX (UINT64_C(3) * TREE_SPACE_REGION_UNITS)
#define LIVE_MAX 600u
#define DEAD_MAX 4000u

static struct tree_space *space_new(uint64_t grow, uint64_t units)
{
    struct tree_space_options opt = {.grow_units = grow};
    struct tree_space *s = NULL;
    CHECK_OK(tree_space_new(&opt, &s));
    CHECK_OK(tree_space_prepare(s, units));
    tree_space_resize(s, units);
    return s;
}

static uint64_t take(struct tree_space *s, uint32_t count)
{
    struct tree_space_extent x;
    return tree_space_take(s, count, &x) < 0 ? UINT64_MAX : x.unit;
}

TEST(space_takes_small_from_small_and_large_from_low)
{
    CLEANUP(tree_space_freep) struct tree_space *s = space_new(1024, 4096);
    CHECK_EQ(take(s, 10), 0);
    CHECK_EQ(take(s, 300), 10);
    CHECK_EQ(take(s, 5), 310);
    CHECK_EQ(take(s, 3), 315);
    CHECK_EQ(take(s, 1), 318);
    tree_space_give(s, (struct tree_space_extent){.unit = 10, .count = 300});
    tree_space_give(s, (struct tree_space_extent){.unit = 315, .count = 3});
    CHECK_EQ(take(s, 2), 315); /* not from the large one, although that is lower */
    CHECK_EQ(take(s, 64), 10); /* large: the lowest */
    CHECK_EQ(take(s, 4000), UINT64_MAX);
    CHECK_TRUE(tree_space_sound(s));
}

TEST(space_joins_neighbours)
{
    CLEANUP(tree_space_freep) struct tree_space *s = space_new(64, 100);
    for (uint64_t i = 0; i < 10; i++) {
        CHECK_EQ(take(s, 10), i * 10);
    }
    CHECK_EQ(take(s, 1), UINT64_MAX);
    tree_space_give(s, (struct tree_space_extent){.unit = 20, .count = 10});
    tree_space_give(s, (struct tree_space_extent){.unit = 40, .count = 10});
    CHECK_EQ(take(s, 11), UINT64_MAX);
    tree_space_give(s, (struct tree_space_extent){.unit = 30, .count = 10});
    CHECK_EQ(take(s, 30), 20);
}

TEST(space_gets_what_another_has_free)
{
    const uint64_t units = TREE_SPACE_REGION_UNITS + 100;
    CLEANUP(tree_space_freep) struct tree_space *from = space_new(64, units);
    CLEANUP(tree_space_freep) struct tree_space *s = space_new(64, units);
    struct tree_space_info info;
    CHECK_OK(tree_space_claim(s, (struct tree_space_extent){0, TREE_SPACE_REGION_UNITS}));
    CHECK_OK(tree_space_claim(s, (struct tree_space_extent){TREE_SPACE_REGION_UNITS, 100}));
    CHECK_OK(tree_space_claim(from, (struct tree_space_extent){10, 90}));
    CHECK_OK(tree_space_claim(from, (struct tree_space_extent){TREE_SPACE_REGION_UNITS, 99}));
    tree_space_give(s, (struct tree_space_extent){20, 5}); /* its owner has gone meanwhile */
    CHECK_OK(tree_space_prepare(s, units + 50));
    tree_space_resize(s, units + 50);
    CHECK_EQ(take(s, 50), units);
    tree_space_join(s, from);
    CHECK_TRUE(tree_space_sound(s));
    tree_space_info(s, &info);
    CHECK_EQ(info.free, units - 90 - 99 + 5);
    CHECK_EQ(take(s, 5), 20);
    CHECK_EQ(take(s, 10), 0);
    CHECK_EQ(take(s, 1), units - 1);
    CHECK_EQ(take(s, 64), 100);
}

TEST(space_says_how_far_to_grow)
{
    CLEANUP(tree_space_freep) struct tree_space *s = space_new(64, 0);
    CHECK_EQ(tree_space_grow_target(s, 10, false), 64);
    CHECK_EQ(tree_space_grow_target(s, 10, true), 10);
    CHECK_EQ(tree_space_grow_target(s, 65, false), 128);
    CHECK_OK(tree_space_prepare(s, 64));
    tree_space_resize(s, 64);
    CHECK_EQ(take(s, 60), 0);
    CHECK_EQ(tree_space_grow_target(s, 10, true), 70); /* goes on from the free end */
    /* An extent lies in one region. */
    CHECK_OK(tree_space_prepare(s, TREE_SPACE_REGION_UNITS - 2));
    tree_space_resize(s, TREE_SPACE_REGION_UNITS - 2);
    CHECK_EQ(take(s, TREE_SPACE_REGION_UNITS - 62), 60);
    CHECK_EQ(tree_space_grow_target(s, 2, true), TREE_SPACE_REGION_UNITS);
    CHECK_EQ(tree_space_grow_target(s, 3, true), TREE_SPACE_REGION_UNITS + 3);
    uint64_t target = tree_space_grow_target(s, TREE_SPACE_REGION_UNITS, true);
    CHECK_EQ(target, 2 * TREE_SPACE_REGION_UNITS);
    CHECK_OK(tree_space_prepare(s, target));
    tree_space_resize(s, target);
    CHECK_EQ(take(s, TREE_SPACE_REGION_UNITS), TREE_SPACE_REGION_UNITS);
}

TEST(space_shrinks_with_a_step_to_spare)
{
    CLEANUP(tree_space_freep) struct tree_space *s = space_new(64, 640);
    CHECK_EQ(take(s, 10), 0);
    CHECK_EQ(tree_space_trim_target(s), 128);
    CHECK_EQ(take(s, 500), 10);
    CHECK_EQ(tree_space_trim_target(s), 640); /* 576 would be only one step less */
    tree_space_give(s, (struct tree_space_extent){.unit = 10, .count = 500});
    tree_space_resize(s, tree_space_trim_target(s));
    CHECK_EQ(tree_space_size(s), 128);
    CHECK_EQ(tree_space_trim_target(s), 128);
    CHECK_TRUE(tree_space_sound(s));
}

TEST(space_refuses_overlap_when_opening)
{
    CLEANUP(tree_space_freep) struct tree_space *s = space_new(64, TREE_SPACE_REGION_UNITS + 10);
    CHECK_OK(tree_space_claim(s, (struct tree_space_extent){.unit = 5, .count = 5}));
    CHECK_RC(tree_space_claim(s, (struct tree_space_extent){.unit = 9, .count = 2}), ERR_corrupt);
    CHECK_TRUE(!tree_space_all_used(s, (struct tree_space_extent){.unit = 9, .count = 2}));
    CHECK_TRUE(tree_space_all_used(s, (struct tree_space_extent){.unit = 6, .count = 2}));
    struct tree_space_extent wrong[] = {
        {.unit = 20, .count = 0},
        {.unit = TREE_SPACE_REGION_UNITS, .count = 11},
        {.unit = TREE_SPACE_REGION_UNITS + 10, .count = 1},
        {.unit = UINT64_MAX - 1, .count = 5},
        {.unit = TREE_SPACE_REGION_UNITS - 1, .count = 2},
    };
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        CHECK_RC(tree_space_claim(s, wrong[i]), ERR_bad_value);
    }
    CHECK_TRUE(tree_space_sound(s));
}

/* Birth 3, death 5: checkpoints 3 and 4 contain it, and snapshots below version 20. */
TEST(space_waits_for_checkpoints_and_snapshots)
{
    CLEANUP(tree_space_freep) struct tree_space *s = space_new(64, 64);
    struct tree_space_extent x;
    struct tree_space_life life = {.birth = 3, .death = 5, .version = 20};
    CHECK_OK(tree_space_take(s, 64, &x));
    tree_space_retain(s, (uint64_t[]){3, 4}, 2);
    CHECK_OK(tree_space_reserve(s, 1));
    tree_space_defer(s, x, &life);
    CHECK_EQ(take(s, 1), UINT64_MAX);
    tree_space_retain(s, (uint64_t[]){5, 6}, 2);
    CHECK_EQ(take(s, 1), UINT64_MAX);
    tree_space_oldest(s, 19);
    CHECK_EQ(take(s, 1), UINT64_MAX);
    tree_space_retain(s, (uint64_t[]){4, 6}, 2); /* 4 is pinned */
    tree_space_oldest(s, 20);
    CHECK_EQ(take(s, 1), UINT64_MAX);
    struct tree_space_info info;
    tree_space_info(s, &info);
    CHECK_TRUE(info.deferred == 64 && info.used == 0 && info.free == 0);
    tree_space_retain(s, (uint64_t[]){2, 6, 5}, 3);
    tree_space_info(s, &info);
    CHECK_TRUE(info.deferred == 0 && info.free == 64 && info.largest == 64);
    CHECK_EQ(take(s, 64), 0);
}

/* Those that came to nothing count until one is durable; what never was in any does not. */
TEST(space_waits_behind_failed_checkpoints)
{
    CLEANUP(tree_space_freep) struct tree_space *s = space_new(64, 64);
    struct tree_space_extent x[4];
    static const struct tree_space_life life[4] = {{.birth = 3, .death = 4},
                                                   {.birth = 3, .death = 3},
                                                   {.birth = 2, .death = 3},
                                                   {.birth = 5, .death = 7}};
    struct tree_space_info info;
    CHECK_OK(tree_space_reserve(s, 4));
    for (unsigned i = 0; i < 4; i++) {
        CHECK_OK(tree_space_take(s, 16, &x[i]));
    }
    tree_space_retain(s, (uint64_t[]){1, 3}, 2);
    tree_space_defer(s, x[0], &life[0]);
    tree_space_retain_from(s, 3);
    tree_space_retain(s, (uint64_t[]){1}, 1);
    for (unsigned i = 1; i < 4; i++) {
        tree_space_defer(s, x[i], &life[i]);
    }
    tree_space_info(s, &info);
    CHECK_TRUE(info.deferred == 32 && info.free == 32);
    tree_space_retain_from(s, 5);
    tree_space_info(s, &info);
    CHECK_TRUE(info.deferred == 16 && info.free == 48);
    tree_space_retain_from(s, 0);
    tree_space_info(s, &info);
    CHECK_TRUE(info.deferred == 0 && info.free == 64);
    CHECK_TRUE(tree_space_sound(s));
}

TEST(space_punches_once)
{
    CLEANUP(tree_space_freep) struct tree_space *s = space_new(64, 256);
    struct tree_space_extent x, y;
    CHECK_EQ(take(s, 256), 0);
    tree_space_give(s, (struct tree_space_extent){.unit = 20, .count = 50});
    tree_space_give(s, (struct tree_space_extent){.unit = 100, .count = 10});
    CHECK_TRUE(tree_space_hole(s, 16, &x));
    CHECK_TRUE(x.unit == 20 && x.count == 50);
    CHECK_EQ(take(s, 11), UINT64_MAX); /* nobody gets it meanwhile */
    CHECK_TRUE(!tree_space_hole(s, 16, &y));
    tree_space_hole_done(s, x, true);
    CHECK_TRUE(!tree_space_hole(s, 16, &y));
    CHECK_EQ(take(s, 20), 20);
    tree_space_give(s, (struct tree_space_extent){.unit = 20, .count = 20});
    CHECK_TRUE(tree_space_hole(s, 16, &x)); /* only what was used since */
    CHECK_TRUE(x.unit == 20 && x.count == 20);
    tree_space_hole_done(s, x, false);
    struct tree_space_info info;
    tree_space_info(s, &info);
    CHECK_EQ(info.punched, 30);
    CHECK_TRUE(tree_space_sound(s));
}

/* ---- against a model ---- */

struct dead {
    struct tree_space_extent x;
    struct tree_space_life life;
};
struct model {
    struct rand rand;
    struct tree_space *space;
    uint8_t used[UNITS_MAX]; /* 1: used, 2: given back */
    struct tree_space_extent live[LIVE_MAX];
    uint64_t birth[LIVE_MAX];
    size_t live_count;
    struct dead dead[DEAD_MAX];
    size_t dead_count;
    uint64_t checkpoint, version, oldest, last_version;
    uint64_t retained[4];
    size_t retained_count;
};

static void model_mark(struct model *m, struct tree_space_extent x, uint8_t from, uint8_t to)
{
    for (uint32_t i = 0; i < x.count; i++) {
        CHECK_EQ(m->used[x.unit + i], from);
        m->used[x.unit + i] = to;
    }
}

static void model_release(struct model *m)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->dead_count; i++) {
        struct dead *d = &m->dead[i];
        bool needed = d->life.version > m->oldest;
        for (size_t j = 0; j < m->retained_count; j++) {
            needed = needed || (d->life.birth <= m->retained[j] && m->retained[j] < d->life.death);
        }
        if (needed) {
            m->dead[kept++] = *d;
        } else {
            model_mark(m, d->x, 2, 0);
        }
    }
    m->dead_count = kept;
}

static bool model_has_run(const struct model *m, uint32_t count)
{
    uint64_t size = tree_space_size(m->space);
    uint32_t run = 0;
    for (uint64_t i = 0; i < size; i++) {
        run = i % TREE_SPACE_REGION_UNITS == 0 ? 0 : run;
        run = m->used[i] == 0 ? run + 1 : 0;
        if (run == count) {
            return true;
        }
    }
    return false;
}

static void model_take(struct model *m)
{
    uint32_t count = (uint32_t)rand_range(&m->rand, 1, rand_chance(&m->rand, 1, 4) ? 700 : 40);
    struct tree_space_extent x;
    if (m->live_count == LIVE_MAX) {
        return;
    }
    if (tree_space_take(m->space, count, &x) < 0) {
        CHECK_TRUE(!model_has_run(m, count));
        uint64_t target = tree_space_grow_target(m->space, count, rand_chance(&m->rand, 1, 2));
        if (target > UNITS_MAX) {
            return;
        }
        CHECK_OK(tree_space_prepare(m->space, target));
        tree_space_resize(m->space, target);
        CHECK_OK(tree_space_take(m->space, count, &x));
    }
    CHECK_TRUE(x.unit + count <= tree_space_size(m->space) && x.count == count);
    model_mark(m, x, 0, 1);
    m->live[m->live_count] = x;
    m->birth[m->live_count++] = m->checkpoint;
}

static void model_drop(struct model *m)
{
    if (m->live_count == 0 || m->dead_count == DEAD_MAX) {
        return;
    }
    size_t i = (size_t)rand_below(&m->rand, m->live_count);
    struct tree_space_extent x = m->live[i];
    struct tree_space_life life = {.birth = m->birth[i], .death = m->checkpoint};
    m->live[i] = m->live[--m->live_count];
    m->birth[i] = m->birth[m->live_count];
    if (rand_chance(&m->rand, 1, 8)) {
        tree_space_give(m->space, x);
        model_mark(m, x, 1, 0);
        return;
    }
    if (rand_chance(&m->rand, 2, 3)) {
        life.version = ++m->version;
    }
    CHECK_OK(tree_space_reserve(m->space, 2));
    tree_space_defer(m->space, x, &life);
    tree_space_unreserve(m->space, 1);
    model_mark(m, x, 1, 2);
    m->dead[m->dead_count++] = (struct dead){.x = x, .life = life};
    model_release(m);
}

static void model_checkpoint(struct model *m)
{
    m->retained[0] = m->checkpoint;
    m->retained[1] = m->checkpoint - 1;
    m->retained_count = 2;
    if (rand_chance(&m->rand, 1, 3)) {
        m->retained[2] = rand_range(&m->rand, 1, m->checkpoint);
        m->retained_count = 3;
    }
    m->checkpoint++;
    tree_space_retain(m->space, m->retained, m->retained_count);
    model_release(m);
}

static void model_shape(struct model *m)
{
    struct tree_space_extent x;
    uint64_t target = tree_space_trim_target(m->space);
    tree_space_resize(m->space, target);
    if (tree_space_hole(m->space, 64, &x)) {
        model_mark(m, x, 0, 1);
        tree_space_hole_done(m->space, x, rand_chance(&m->rand, 1, 2));
        model_mark(m, x, 1, 0);
    }
}

static void model_compare(struct model *m)
{
    struct tree_space_info info;
    uint64_t count[3] = {0};
    tree_space_info(m->space, &info);
    for (uint64_t i = 0; i < info.size; i++) {
        count[m->used[i]]++;
    }
    CHECK_EQ(info.free, count[0]);
    CHECK_EQ(info.used, count[1]);
    CHECK_EQ(info.deferred, count[2]);
    CHECK_TRUE(tree_space_sound(m->space));
    CHECK_TRUE(info.largest == 0 || model_has_run(m, (uint32_t)info.largest));
    CHECK_TRUE(!model_has_run(m, (uint32_t)info.largest + 1));
}

static void model_run(struct model *m, uint64_t seed, unsigned steps)
{
    memset(m, 0, sizeof *m);
    rand_seed(&m->rand, seed);
    m->checkpoint = 2;
    m->space = space_new(rand_range(&m->rand, 16, 3000), 0);
    for (unsigned i = 0; i < steps; i++) {
        uint64_t what = rand_below(&m->rand, 100);
        if (what < 50) {
            model_take(m);
        } else if (what < 90) {
            model_drop(m);
        } else if (what < 94) {
            model_checkpoint(m);
        } else if (what < 97) {
            m->oldest = rand_range(&m->rand, m->oldest, m->version);
            tree_space_oldest(m->space, m->oldest);
            model_release(m);
        } else {
            model_shape(m);
        }
        if (i % 64 == 0) {
            model_compare(m);
        }
    }
    model_compare(m);
    tree_space_free(m->space);
}

TEST(space_agrees_with_a_model)
{
    struct model *m = mem_alloc(sizeof *m);
    CHECK_TRUE(m != NULL);
    for (uint64_t i = 0; i < 8; i++) {
        model_run(m, testing_seed() + i, 3000);
    }
    mem_free(m);
}

TEST_TORTURE(space_survives_without_memory)
{
    CLEANUP(tree_space_freep) struct tree_space *s = NULL;
    struct tree_space_options opt = {0};
    struct tree_space_extent x;
    TRY(tree_space_new(&opt, &s));
    for (uint64_t i = 1; i <= 3; i++) {
        int rc = tree_space_prepare(s, i * TREE_SPACE_REGION_UNITS);
        if (testing_torturing() && rc == -ENOMEM) {
            CHECK_TRUE(tree_space_sound(s));
            return;
        }
        TRY(rc);
        tree_space_resize(s, i * TREE_SPACE_REGION_UNITS);
    }
    for (uint64_t i = 0; i < 40; i++) {
        CHECK_OK(tree_space_take(s, 7, &x));
        int rc = tree_space_reserve(s, 1);
        CHECK_TRUE(tree_space_sound(s));
        TRY(rc);
        struct tree_space_life life = {.birth = 1, .death = i, .version = i};
        life.birth = base_min(life.birth, life.death);
        tree_space_defer(s, x, &life);
    }
    tree_space_oldest(s, 100);
    CHECK_TRUE(tree_space_sound(s));
}
