/*
 * tree/tree_range_test.c -- so many range deletes for one slot that they make runs beyond what a
 * slot usually has: everything reads them, and moves them down.
 */
#include "tree/rig_fill_priv.h"

#include "tree/check.h"

#define RANGES_KEYS 40000u /* all in one place, every other one of them deleted by a range */
#define RANGES_THERE 200u  /* of so many two are there: they are in one leaf */
#define RANGES_AT_ONCE 100u

static struct kv_slice ranges_key(uint32_t i, char buf[40])
{
    return kv_slice_of(buf, (size_t)snprintf(buf, 40, "~000150-a-long-common-part-%06u", i));
}

/* In an order that is not theirs; one range is one key. */
static uint32_t ranges_nth(uint32_t n)
{
    return (uint32_t)((uint64_t)n * 7919 % RANGES_KEYS);
}

static void ranges_put(struct rig *r, bool *gone)
{
    char key[40];
    kv_batch_clear(&r->batch);
    for (uint32_t i = 0; i < RANGES_KEYS; i++) {
        gone[i] = i % RANGES_THERE > 1;
        if (!gone[i]) {
            CHECK_OK(kv_batch_put(&r->batch, ranges_key(i, key), kv_slice_of("v", 1)));
        }
    }
    CHECK_OK(commit_batch(r));
}

static void ranges_delete(struct rig *r, uint32_t first, bool *gone)
{
    char low[40], high[40];
    kv_batch_clear(&r->batch);
    for (uint32_t n = first; n < first + RANGES_AT_ONCE; n++) {
        uint32_t i = ranges_nth(n);
        if (i % 2 == 0) {
            CHECK_OK(kv_batch_delete_range(&r->batch, ranges_key(i, low), ranges_key(i + 1, high)));
            gone[i] = true;
        }
    }
    CHECK_OK(commit_batch(r));
}

struct ranges_walk {
    struct rig *r;
    struct kv_iter *it;
    bool back, begun;
    int rc;
};

static void walk_in(void *ctx)
{
    struct ranges_walk *w = ctx;
    struct kv_slice none = {0};
    if (w->it == NULL) {
        struct kv_iter_options opt = {.lower = kv_slice_of("~000150-", 8),
                                      .upper = kv_slice_of("~000151", 7)};
        opt.need = &w->r->tree.need;
        CHECK_OK(kv_iter_new(w->r->snapshot, &opt, &w->it));
    }
    if (!w->begun) {
        w->rc = w->back ? kv_iter_seek_back(w->it, none) : kv_iter_seek(w->it, none);
    } else {
        w->rc = w->back ? kv_iter_prev(w->it) : kv_iter_next(w->it);
    }
    w->begun = w->begun || w->rc == 1;
}

static void walk_free_in(void *ctx)
{
    struct ranges_walk *w = ctx;
    w->it = kv_iter_free(w->it);
}

static void check_walk(struct rig *r, const bool *gone, bool back)
{
    struct ranges_walk w = {.r = r, .back = back};
    run(r, snapshot_in);
    CHECK_OK(r->rc);
    for (uint32_t n = 0; n <= RANGES_KEYS; n++) {
        uint32_t i = back ? RANGES_KEYS - 1 - n : n;
        char key[40];
        if (n < RANGES_KEYS && gone[i]) {
            continue;
        }
        loop_sim_enter(r->tree.machine.loop, walk_in, &w);
        for (unsigned tries = 0; w.rc == -ERR_need && tries < 1000; tries++) {
            CHECK_OK(rig_tree_fetch(&r->tree));
            loop_sim_enter(r->tree.machine.loop, walk_in, &w);
        }
        CHECK_EQ(w.rc, n < RANGES_KEYS ? 1 : 0);
        if (n < RANGES_KEYS) {
            CHECK_EQ(kv_slice_compare(w.it->key, ranges_key(i, key)), 0);
        }
        if (r->tree.need.count > 64) {
            rig_tree_release(&r->tree);
        }
    }
    loop_sim_enter(r->tree.machine.loop, walk_free_in, &w);
    rig_tree_release(&r->tree);
    run(r, snapshot_free_in);
}

static void check_found(void *arg, const struct tree_finding *f)
{
    (void)arg;
    fprintf(stderr, "%s, block %llu: %s\n", f->code, (unsigned long long)f->block, f->text);
}

static void check_file_in(void *ctx)
{
    struct rig *r = ctx;
    struct tree_check_result result = {0};
    struct tree_check_options opt = {.disk = r->tree.env.disk,
                                     .path = r->tree.opt.path,
                                     .level = TREE_CHECK_LEVEL_MAX,
                                     .found = check_found};
    CHECK_OK(tree_check(&opt, &result, NULL));
    CHECK_EQ(result.warnings + result.damages, 0);
}

/* Buffers are large beside parts, so that a slot could have hundreds of runs; the leaves are small
 * ones, and there are inner nodes on several levels. */
static struct rig *ranges_rig(uint64_t seed)
{
    struct rig *r = rig_new_nodes(seed);
    rig_stop(r);
    r->tree.opt.path = "/ranges";
    r->tree.opt.shape.internal_raw = 256u << 10;
    r->tree.opt.shape.part_raw = 512;
    r->tree.opt.shape.leaf_raw = 16u << 10;
    r->tree.opt.cache_bytes = 16u << 20;
    r->tree.opt.memtable_bytes = 1u << 20;
    loop_sim_enter(r->tree.machine.loop, rig_tree_create_in, &r->tree);
    CHECK_OK(r->tree.rc);
    CHECK_OK(rig_tree_reopen(&r->tree, false));
    return r;
}

TEST(very_many_range_deletes_of_one_slot_are_read_and_moved_down)
{
    CLEANUP(rig_freep) struct rig *r = ranges_rig(1);
    static bool gone[RANGES_KEYS];
    fill((struct fill){.r = r, .count = 3000, .len = 300});
    ranges_put(r, gone);
    CHECK_OK(settle(r));
    look(r);
    CHECK_TRUE(r->counts.height >= 3);
    for (uint32_t n = 0; n < RANGES_KEYS; n += RANGES_AT_ONCE) {
        ranges_delete(r, n, gone);
        if (n % (RANGES_KEYS / 8) == 0) {
            check_walk(r, gone, n % (RANGES_KEYS / 4) == 0);
        }
    }
    check_walk(r, gone, false);
    CHECK_OK(settle(r));
    check_walk(r, gone, true);
    fill_check((struct fill){.r = r, .first = 100, .count = 100, .len = 300}, true);
    CHECK_OK(checkpoint(r));
    CHECK_OK(rig_tree_reopen(&r->tree, true));
    check_walk(r, gone, false);
    rig_stop(r);
    run(r, check_file_in);
    CHECK_OK(rig_tree_reopen(&r->tree, false));
}
