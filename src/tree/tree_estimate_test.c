/* tree/tree_estimate_test.c -- guesses of how much there is, beside how much there is. */
#include "tree/rig_calls_priv.h"

#include <stdio.h>

#define RECORDS 12000u
#define VALUE 60u

struct guess {
    struct rig *r;
    struct kv_slice low, high;
    struct kv_estimate result;
};

static struct kv_slice key_of(uint32_t n, char at[16])
{
    return kv_slice_of(at, (size_t)snprintf(at, 16, "k%08u", n));
}

static void snapshot_and_guess_in(void *ctx)
{
    struct guess *g = ctx;
    struct kv_snapshot *s = NULL;
    CHECK_OK(kv_snapshot_new(g->r->tree.kv, &s));
    g->result = kv_estimate(s, g->low, g->high);
    kv_snapshot_free(s);
}

static struct kv_estimate guess(struct rig *r, struct kv_slice low, struct kv_slice high)
{
    struct guess g = {.r = r, .low = low, .high = high};
    loop_sim_enter(r->tree.machine.loop, snapshot_and_guess_in, &g);
    return g.result;
}

static void commit_now(struct rig *r)
{
    r->model.index++;
    run(r, commit_in);
    for (unsigned rounds = 0; r->rc == -ERR_busy && rounds < 20000; rounds++) {
        testing_machine_steps(&r->tree.machine, 5);
        run(r, commit_in);
    }
    CHECK_OK(r->rc);
}

/* Of all numbers below `records` those that `step` divides, in a scattered order. */
static void put_all(struct rig *r, uint32_t records, uint32_t step)
{
    uint8_t value[VALUE];
    char key[16];
    memset(value, 'v', sizeof value);
    for (uint32_t i = 0; i < records / step;) {
        kv_batch_clear(&r->batch);
        for (unsigned n = 0; n < 20 && i < records / step; n++, i++) {
            uint32_t k = (uint32_t)((uint64_t)i * 7919 % (records / step)) * step;
            memcpy(value, &k, sizeof k);
            CHECK_OK(kv_batch_put(&r->batch, key_of(k, key), kv_slice_of(value, VALUE)));
        }
        commit_now(r);
    }
}

static void check_within(uint64_t got, uint64_t real, double factor)
{
    if ((double)got * factor < (double)real || (double)got > (double)real * factor) {
        (void)printf("guessed %llu of %llu\n", (unsigned long long)got, (unsigned long long)real);
        CHECK_TRUE(false);
    }
}

/* Ranges of some leaves and more, of records that are as many everywhere. */
static void check_ranges(struct rig *r, uint32_t least, double factor)
{
    char low[16], high[16];
    for (unsigned i = 0; i < 200; i++) {
        uint32_t a = (uint32_t)rand_below(&r->tree.rand, RECORDS - least);
        uint32_t b = (uint32_t)rand_range(&r->tree.rand, a + least, RECORDS);
        struct kv_estimate e =
            guess(r, key_of(a, low), b == RECORDS ? kv_slice_of(NULL, 0) : key_of(b, high));
        check_within(e.key_count, b - a, factor);
        check_within(e.bytes, (uint64_t)(b - a) * (VALUE + 20), factor);
    }
}

static struct rig *new_filled(unsigned seed)
{
    struct rig *r = rig_new_nodes(seed);
    put_all(r, RECORDS, 1);
    return r;
}

TEST(estimates_of_nodes)
{
    CLEANUP(rig_freep) struct rig *r = new_filled(21);
    struct kv_slice all = {0};
    CHECK_OK(settle(r));
    look(r);
    CHECK_TRUE(r->counts.height >= 3);
    check_within(guess(r, all, all).key_count, RECORDS, 1.3);
    check_ranges(r, 400, 2);
    check_ranges(r, 4000, 1.5);
}

/* In memtables and on the way: as they are while a writer goes on. */
TEST(estimates_of_what_is_not_settled)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(22);
    struct kv_slice all = {0};
    put_all(r, RECORDS, 1);
    check_within(guess(r, all, all).key_count, RECORDS, 1.5);
    check_ranges(r, 400, 2);
}

/* Heads are not in memory: sizes on disk say about what lies where. */
TEST(estimates_of_a_tree_that_was_just_opened)
{
    CLEANUP(rig_freep) struct rig *r = new_filled(23);
    struct kv_slice all = {0};
    CHECK_OK(settle(r));
    CHECK_OK(checkpoint(r));
    reopen(r, true);
    struct kv_estimate e = guess(r, all, all);
    check_within(e.key_count, RECORDS, 2);
    check_within(e.bytes, (uint64_t)RECORDS * (VALUE + 20), 2);
}

static void look_at_in(void *ctx)
{
    struct guess *g = ctx;
    struct kv_slice value;
    g->r->rc = kv_get(g->r->snapshot, g->low, &g->r->tree.need, &value);
}

/* All that leads to where it is, or would be, is in memory then. */
static void look_at(struct rig *r, struct kv_slice key)
{
    struct guess g = {.r = r, .low = key};
    run(r, snapshot_in);
    loop_sim_enter(r->tree.machine.loop, look_at_in, &g);
    for (unsigned i = 0; r->rc == -ERR_need && i < 20; i++) {
        CHECK_OK(rig_tree_fetch(&r->tree));
        loop_sim_enter(r->tree.machine.loop, look_at_in, &g);
    }
    CHECK_TRUE(r->rc >= 0);
    rig_tree_release(&r->tree);
    run(r, snapshot_free_in);
}

/* Nothing, and little. */
TEST(estimates_of_what_is_not_there)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(24);
    struct kv_slice all = {0};
    char low[16], high[16];
    struct kv_estimate e = guess(r, all, all);
    CHECK_TRUE(e.key_count == 0 && e.bytes == 0);
    put_all(r, 40, 1);
    CHECK_EQ(guess(r, all, all).key_count, 40); /* few are counted */
    CHECK_EQ(guess(r, key_of(10, low), key_of(30, high)).key_count, 20);
    CHECK_EQ(guess(r, key_of(30, low), key_of(30, high)).key_count, 0);
    CHECK_EQ(guess(r, key_of(30, low), key_of(10, high)).key_count, 0);
    CHECK_EQ(guess(r, key_of(40, low), all).key_count, 0);
    put_all(r, RECORDS, 1);
    CHECK_OK(settle(r));
    look_at(r, key_of(RECORDS, low)); /* else the size of a whole leaf is all that is known */
    e = guess(r, key_of(RECORDS, low), all);
    CHECK_TRUE(e.bytes <= 2 * (uint64_t)rig_shape.basement_raw);
    /* Parts of nodes are not looked into: one of each level. */
    CHECK_TRUE(guess(r, key_of(500, low), key_of(501, high)).key_count < 100);
}

/* A part of the keys has ten times as much as the others. */
TEST(estimates_know_where_much_is)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(25);
    char low[16], high[16];
    put_all(r, RECORDS, 10);
    put_all(r, RECORDS / 4, 1);
    CHECK_OK(settle(r));
    struct kv_estimate dense = guess(r, kv_slice_of(NULL, 0), key_of(RECORDS / 4, high));
    struct kv_estimate sparse = guess(r, key_of(RECORDS / 4, low), kv_slice_of(NULL, 0));
    check_within(dense.key_count, RECORDS / 4, 2);
    check_within(sparse.key_count, RECORDS * 3 / 40, 2);
}
