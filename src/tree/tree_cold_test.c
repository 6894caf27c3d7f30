/* tree/tree_cold_test.c -- what has not changed for long is packed with another codec. */
#include "tree/rig_calls_priv.h"

#include "tree/check.h"
#include "tree/dump.h"

#include <stdio.h>
#include <stdlib.h>

#define RECORDS 3000u
#define VALUE 100u

struct cold {
    struct rig *rig;
    uint64_t lz4, zstd; /* partitions of leaves */
};

static struct kv_slice key_of(uint32_t n, char at[16])
{
    return kv_slice_of(at, (size_t)snprintf(at, 16, "k%08u", n));
}

/* Text that shrinks, of a number and a round. */
static void value_of(uint32_t n, uint32_t round, char at[VALUE])
{
    memset(at, 'x', VALUE);
    (void)snprintf(at, VALUE, "%u of round %u, and what more there is to say of number %u ", n,
                   round, n);
}

static void put_all(struct rig *r, uint32_t first, uint32_t step, uint32_t round)
{
    char key[16], value[VALUE];
    for (uint32_t i = first; i < RECORDS;) {
        kv_batch_clear(&r->batch);
        for (unsigned n = 0; n < 10 && i < RECORDS; n++, i += step) {
            value_of(i, round, value);
            CHECK_OK(kv_batch_put(&r->batch, key_of(i, key), kv_slice_of(value, VALUE)));
        }
        r->model.index++;
        run(r, commit_in);
        for (unsigned rounds = 0; r->rc == -ERR_busy && rounds < 20000; rounds++) {
            testing_machine_steps(&r->tree.machine, 5);
            run(r, commit_in);
        }
        CHECK_OK(r->rc);
    }
}

static void get_record_in(void *ctx)
{
    struct rig *r = ctx;
    char key[16];
    r->rc = kv_get(r->snapshot, key_of(r->key, key), &r->tree.need, &r->value);
}

/* Of which round a number is: those that `step` divides of `round`, the others of round 0. */
static void check_records(struct rig *r, uint32_t step, uint32_t round)
{
    char value[VALUE];
    run(r, snapshot_in);
    CHECK_OK(r->rc);
    for (r->key = 0; r->key < RECORDS; r->key++) {
        run(r, get_record_in);
        for (unsigned rounds = 0; r->rc == -ERR_need && rounds < 1000; rounds++) {
            CHECK_OK(rig_tree_fetch(&r->tree));
            run(r, get_record_in);
        }
        CHECK_EQ(r->rc, 1);
        value_of(r->key, r->key % step == 0 ? round : 0, value);
        CHECK_EQ(r->value.len, VALUE);
        CHECK_BYTES(r->value.at, value, VALUE);
        rig_tree_release(&r->tree);
    }
    run(r, snapshot_free_in);
}

static void cold_line(void *arg, const char *text, size_t len)
{
    struct cold *c = arg;
    const char *lz4 = strstr(text, "\"partitions_lz4\":"), *zstd = strstr(text, "\"bytes_zstd\":");
    (void)len;
    if (strstr(text, "\"level\":0,") != NULL) {
        CHECK_TRUE(lz4 != NULL && zstd != NULL);
        c->lz4 += strtoull(strchr(lz4, ':') + 1, NULL, 10);
        c->zstd += strtoull(strchr(zstd, ':') + 1, NULL, 10);
    }
}

/* The file of a tree that was stopped: sound, and how its leaves are packed. */
static void look_at_file_in(void *ctx)
{
    struct cold *c = ctx;
    struct disk *disk = c->rig->tree.env.disk;
    uint64_t damages = 0;
    struct tree_check_result result = {0};
    struct tree_check_options check = {
        .disk = disk, .path = RIG_PATH, .level = TREE_CHECK_LEVEL_MAX};
    struct tree_stats_options stats = {
        .disk = disk, .path = RIG_PATH, .to = {.json = true, .line = cold_line, .arg = c}};
    CHECK_OK(tree_check(&check, &result, NULL));
    CHECK_EQ(result.warnings + result.damages, 0);
    CHECK_OK(tree_stats(&stats, &damages, NULL));
    CHECK_EQ(damages, 0);
}

static void evict_in(void *ctx)
{
    (void)tree_cache_shrink(tree_of(((struct rig *)ctx)->tree.kv)->cache, 0);
}

/* All records lie on disk for some checkpoints; then a part of each leaf changes. */
static struct cold cold_run(struct rig *r, unsigned cold_checkpoints, bool evict)
{
    struct cold c = {.rig = r};
    r->tree.opt.cold_checkpoints = cold_checkpoints;
    CHECK_OK(rig_tree_reopen(&r->tree, false));
    put_all(r, 0, 1, 0);
    CHECK_OK(settle(r));
    for (unsigned i = 0; i < 4; i++) {
        CHECK_OK(checkpoint(r));
    }
    for (uint32_t round = 1; round < 5; round++) {
        if (evict) {
            run(r, evict_in);
        }
        put_all(r, 0, 12, round);
        CHECK_OK(settle(r));
        CHECK_OK(checkpoint(r));
    }
    rig_stop(r);
    loop_sim_enter(r->tree.machine.loop, look_at_file_in, &c);
    reopen_as(r, false);
    check_records(r, 12, 4);
    return c;
}

TEST(what_is_cold_is_packed_with_zstd)
{
    for (unsigned evict = 0; evict < 2; evict++) {
        CLEANUP(rig_freep) struct rig *r = rig_new_nodes(31 + evict);
        struct cold c = cold_run(r, 3, evict == 1);
        CHECK_TRUE(c.zstd > 0 && c.lz4 > 0);
    }
}

TEST(what_is_not_cold_is_not)
{
    CLEANUP(rig_freep) struct rig *r = rig_new_nodes(33);
    CHECK_EQ(cold_run(r, 30, false).zstd, 0);
    CLEANUP(rig_freep) struct rig *never = rig_new_nodes(34);
    CHECK_EQ(cold_run(never, TREE_COLD_NEVER, true).zstd, 0);
}
