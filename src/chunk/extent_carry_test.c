/*
 * chunk/extent_carry_test.c -- small contents that are in the journal, too: which ones, what a sync
 * of them waits for, and that none is lost or put where another's are, whenever power fails.
 */
#include "chunk/rig_put_priv.h"

#include "base/rand.h"
#include "chunk/extent_room_priv.h"

#define CELLS 20u
#define LENGTH (CELLS * CHUNK_CELL - 100u) /* the last cell is a short one */
#define NEVER_MS 3600000u                  /* for rounds that nobody asks for */

static struct chunk_key key_of(uint64_t i)
{
    return (struct chunk_key){.data_id = 100 + i};
}

static void verify_done(struct chunk_verify *v, int rc)
{
    rig_over(container_of(v, struct store_rig, verify), rc);
}
static void verify_in(void *ctx)
{
    struct store_rig *r = ctx;
    r->verify.done = verify_done;
    chunk_store_verify(r->store, &r->verify);
}
/* All cells match their CRCs. */
static void check_cells(struct store_rig *r, struct chunk_key key, bool medium)
{
    r->verify = (struct chunk_verify){.key = key, .medium = medium};
    CHECK_OK(rig_wait(r, verify_in));
}

static void round_in(void *ctx)
{
    struct store_rig *r = ctx;
    chunk_extent_round(r->store);
}
/* The containers are flushed, and the index is told. */
static void whole_round(struct store_rig *r)
{
    loop_sim_enter(r->loop, round_in, r);
    rig_pass(r, 500);
}

static struct store_rig *rig_late(void)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    rig_stop(r);
    r->opt.flush_ms = NEVER_MS;
    CHECK_OK(rig_boot(r));
    return r;
}

static const struct chunk_container *container_of_rig(const struct store_rig *r)
{
    return r->store->extent->container[0];
}

static void check_sound(const struct store_rig *r)
{
    struct chunk_store_info info;
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.wrong, 0);
    CHECK_EQ(info.failed, 0);
    CHECK_EQ(info.damaged_count, 0);
}

static int overwrite(struct store_rig *r, uint64_t ver, uint32_t offset, uint32_t length)
{
    return rig_put(r, (struct rig_piece){key_of(1), ver, CHUNK_WRITE, offset, length});
}

/* Chunk 1 with its version 1, stable, and in the index. */
static struct store_rig *rig_with_one(void)
{
    struct store_rig *r = rig_late();
    CHECK_OK(rig_put_whole(r, key_of(1), 1, LENGTH));
    CHECK_OK(rig_sync(r));
    CHECK_TRUE(!container_of_rig(r)->dirty && !container_of_rig(r)->late);
    return r;
}

static void power_cut(struct store_rig *r, enum disk_sim_crash_mode mode)
{
    disk_sim_heal(r->machine);
    disk_sim_crash_mode(r->machine, mode);
    CHECK_OK(rig_restart(r, true));
}

/* ---- Which ---- */

/* `carried`, or its container has something that a sync waits for. */
static void check_carried(struct store_rig *r, bool carried)
{
    CHECK_EQ(container_of_rig(r)->late, carried);
    CHECK_EQ(container_of_rig(r)->dirty, !carried);
    CHECK_OK(rig_sync(r));
    whole_round(r);
    CHECK_TRUE(!container_of_rig(r)->dirty && !container_of_rig(r)->late);
}

TEST(small_contents_are_carried)
{
    struct store_rig *r = rig_with_one();
    CHECK_OK(overwrite(r, 2, 3 * CHUNK_CELL, CHUNK_CELL));
    check_carried(r, true);
    CHECK_OK(overwrite(r, 3, 3 * CHUNK_CELL + 100, 2 * CHUNK_CELL)); /* with edges */
    check_carried(r, true);
    CHECK_OK(overwrite(r, 4, 0, 8 * CHUNK_CELL));
    check_carried(r, true);
    CHECK_OK(overwrite(r, 5, 0, 9 * CHUNK_CELL));
    check_carried(r, false);
    CHECK_OK(overwrite(r, 6, LENGTH - 200, 200)); /* the last cell of the chunk */
    check_carried(r, true);
    CHECK_OK(overwrite(r, 7, LENGTH, 50)); /* goes behind it, in place */
    check_carried(r, false);
    CHECK_OK(rig_put_whole(r, key_of(2), 1, 100)); /* a new chunk */
    check_carried(r, true);
    check_sound(r);
    rig_stop(r);
    rig_end(r);
}

TEST(what_nobody_syncs_is_not_carried)
{
    struct store_rig *r = rig_late();
    CHECK_OK(rig_put_whole(r, key_of(1), 1, LENGTH));
    for (uint64_t i = 2; i < 10; i++) {
        CHECK_OK(rig_put_whole(r, key_of(i), 1, CHUNK_CELL));
    }
    CHECK_EQ(r->store->extent->carry.since_bytes, 0);
    CHECK_OK(rig_sync(r));
    for (uint64_t i = 0; i < 300; i++) { /* more than one may expect to be synced together */
        CHECK_OK(overwrite(r, 2 + i, 0, CHUNK_CELL));
    }
    CHECK_TRUE(container_of_rig(r)->dirty);
    CHECK_TRUE(r->store->extent->carry.since_bytes <= UINT64_C(1) << 20);
    check_sound(r);
    rig_stop(r);
    rig_end(r);
}

/* ---- What a sync waits for ---- */

TEST(a_sync_of_carried_contents_is_one_request)
{
    struct store_rig *r = rig_with_one();
    uint64_t least = UINT64_MAX;
    for (uint64_t ver = 2; ver < 12; ver++) {
        CHECK_OK(overwrite(r, ver, (uint32_t)ver * CHUNK_CELL, CHUNK_CELL));
        uint64_t before = disk_sim_begun(r->machine, DISK_FOREGROUND);
        CHECK_OK(rig_sync(r)); /* commits, and that all is stable */
        least = base_min(least, disk_sim_begun(r->machine, DISK_FOREGROUND) - before);
    }
    CHECK_EQ(least, 1);
    rig_stop(r);
    rig_end(r);
}

struct two {
    struct store_rig *r;
    struct chunk_sync sync[2];
    unsigned left;
};

static void two_done(struct two *t, int rc)
{
    CHECK_OK(rc);
    if (--t->left == 0) {
        rig_over(t->r, 0);
    }
}
static void two_first(struct chunk_sync *s, int rc)
{
    two_done(container_of(s, struct two, sync[0]), rc);
}
static void two_second(struct chunk_sync *s, int rc)
{
    two_done(container_of(s, struct two, sync[1]), rc);
}
static void two_in(void *ctx)
{
    struct two *t = ctx;
    for (unsigned i = 0; i < 2; i++) {
        chunk_store_sync(t->r->store, &t->sync[i]);
    }
}

/* Who asks for what a round under way makes stable waits for no other one. */
TEST(syncs_share_a_round)
{
    struct store_rig *r = rig_with_one();
    struct chunk_key keys[2] = {key_of(1), key_of(2)};
    uint64_t least = UINT64_MAX;
    CHECK_OK(rig_put_whole(r, key_of(2), 1, LENGTH));
    CHECK_OK(rig_sync(r));
    for (uint64_t ver = 2; ver < 12; ver++) {
        struct two t = {.r = r, .left = 2};
        CHECK_OK(overwrite(r, ver, 0, CHUNK_CELL));
        CHECK_OK(rig_put(r, (struct rig_piece){key_of(2), ver, CHUNK_WRITE, 0, CHUNK_CELL}));
        for (unsigned i = 0; i < 2; i++) {
            t.sync[i] = (struct chunk_sync){.done = i == 0 ? two_first : two_second,
                                            .scope = CHUNK_SYNC_KEYS,
                                            .key = &keys[i],
                                            .key_count = 1};
        }
        uint64_t before = disk_sim_begun(r->machine, DISK_FOREGROUND);
        r->over = false;
        loop_sim_enter(r->loop, two_in, &t);
        CHECK_TRUE(loop_sim_run(r->sim, rig_is_over, r, loop_sim_now_ns(r->sim) + RIG_LIMIT_NS));
        least = base_min(least, disk_sim_begun(r->machine, DISK_FOREGROUND) - before);
    }
    CHECK_EQ(least, 1);
    rig_stop(r);
    rig_end(r);
}

/* The container cannot be flushed: those who sync do not notice, and nothing is lost. */
TEST(what_is_carried_outlives_a_container_that_cannot_be_flushed)
{
    struct store_rig *r = rig_with_one();
    disk_sim_fail(r->machine, DISK_SYNC, "space.", 1, 0, -EIO);
    CHECK_OK(overwrite(r, 2, CHUNK_CELL, 2 * CHUNK_CELL));
    CHECK_OK(rig_sync(r));
    CHECK_EQ(r->failures, 0);
    CHECK_OK(rig_put_whole(r, key_of(2), 1, LENGTH)); /* not carried */
    CHECK_ERR(rig_sync(r), EIO);
    CHECK_EQ(r->failures, 1);
    power_cut(r, DISK_SIM_LOSE_ALL);
    struct chunk_info info;
    CHECK_OK(rig_look_up(r, key_of(1), &info));
    CHECK_EQ(info.committed.ver, 2);
    check_cells(r, key_of(1), true);
    CHECK_EQ(rig_look_up(r, key_of(2), &info), -ENOENT);
    rig_stop(r);
    rig_end(r);
}

/* ---- What a start makes of it ---- */

/* Carried, synced; all that was not flushed is lost. And again, before the store has done more. */
TEST(carried_contents_outlive_power_cuts)
{
    static const enum disk_sim_crash_mode mode[] = {DISK_SIM_LOSE_ALL, DISK_SIM_RANDOM,
                                                    DISK_SIM_KEEP_ALL};
    for (unsigned i = 0; i < 9; i++) {
        struct store_rig *r = rig_with_one();
        CHECK_OK(rig_put_whole(r, key_of(2), 1, 7 * CHUNK_CELL + 5));
        CHECK_OK(rig_put(r, (struct rig_piece){key_of(2), 2, CHUNK_WHOLE, 0, 5 * CHUNK_CELL + 1}));
        CHECK_OK(rig_put_whole(r, key_of(3), 1, CHUNK_CELL));
        CHECK_OK(rig_sync(r));
        CHECK_OK(rig_delete(r, key_of(3)));
        CHECK_OK(rig_put_whole(r, key_of(4), 1, 3000));
        CHECK_OK(rig_sync(r));
        CHECK_TRUE(container_of_rig(r)->late);
        for (unsigned again = 0; again < 3; again++) {
            struct chunk_info info;
            power_cut(r, mode[i % 3]);
            CHECK_OK(rig_check(r, key_of(1), 1, LENGTH));
            CHECK_OK(rig_check(r, key_of(2), 2, 5 * CHUNK_CELL + 1));
            CHECK_EQ(rig_look_up(r, key_of(3), &info), -ENOENT);
            CHECK_OK(rig_check(r, key_of(4), 1, 3000));
            check_sound(r);
        }
        rig_stop(r);
        rig_end(r);
    }
}

/* An append goes behind a carried cell, in place. It is lost: what is there is the carried one. */
TEST(an_append_behind_a_carried_cell_may_be_lost)
{
    for (unsigned synced = 0; synced < 2; synced++) {
        struct store_rig *r = rig_with_one();
        CHECK_OK(rig_put_whole(r, key_of(2), 1, 1000));
        CHECK_OK(rig_sync(r));
        CHECK_TRUE(container_of_rig(r)->late);
        CHECK_OK(rig_put(r, (struct rig_piece){key_of(2), 2, CHUNK_WRITE, 1000, 500}));
        CHECK_TRUE(container_of_rig(r)->dirty);
        if (synced == 1) {
            CHECK_OK(rig_sync(r));
        }
        power_cut(r, DISK_SIM_LOSE_ALL);
        struct chunk_info info;
        CHECK_OK(rig_look_up(r, key_of(2), &info));
        CHECK_EQ(info.committed.ver, 1 + synced);
        CHECK_EQ(info.length, 1000 + 500 * synced);
        check_cells(r, key_of(2), true);
        check_sound(r);
        rig_stop(r);
        rig_end(r);
    }
}

static int cut(struct store_rig *r, struct chunk_key key, uint64_t ver, uint32_t length)
{
    r->update = (struct chunk_update){.key = key,
                                      .chain = 5,
                                      .kind = CHUNK_SET_LENGTH,
                                      .base = {.aepoch = 1, .ver = ver - 1},
                                      .identity = {.aepoch = 1, .ver = ver},
                                      .last_ver = ver,
                                      .new_length = length};
    int rc = rig_wait(r, rig_update_in);
    return rc < 0 ? rc : rig_wait(r, rig_commit_in);
}

/* A cut keeps the unit, and its first bytes, without writing anything. */
TEST(a_carried_cell_may_be_cut)
{
    for (unsigned synced = 0; synced < 2; synced++) {
        struct store_rig *r = rig_with_one();
        CHECK_OK(rig_put_whole(r, key_of(2), 1, 2 * CHUNK_CELL));
        CHECK_OK(rig_sync(r));
        CHECK_OK(cut(r, key_of(2), 2, 5000));
        CHECK_TRUE(container_of_rig(r)->late && !container_of_rig(r)->dirty);
        if (synced == 1) {
            CHECK_OK(rig_sync(r));
        }
        power_cut(r, DISK_SIM_LOSE_ALL);
        struct chunk_info info;
        CHECK_OK(rig_look_up(r, key_of(2), &info));
        CHECK_TRUE(info.committed.ver == 2 || synced == 0);
        CHECK_EQ(info.length, info.committed.ver == 2 ? 5000 : 2 * CHUNK_CELL);
        check_cells(r, key_of(2), true);
        check_sound(r);
        rig_stop(r);
        rig_end(r);
    }
}

static uint64_t unit_of(struct store_rig *r, struct chunk_key key, uint32_t cell)
{
    struct chunk_info info;
    CHECK_OK(rig_look_up(r, key, &info));
    return chunk_entry_get(r->store, key, false)->committed->block[cell];
}

/* What was not carried did not reach the medium, but its record did. What it was before was carried
 * and did not reach it either; `behind`: it lies in the same unit. */
TEST(what_a_chunk_falls_back_to_is_put_there_too)
{
    for (unsigned behind = 0; behind < 2; behind++) {
        struct store_rig *r = rig_with_one();
        CHECK_OK(rig_put_whole(r, key_of(2), 1, 1000));
        CHECK_OK(rig_sync(r));
        CHECK_TRUE(container_of_rig(r)->late);
        uint64_t was = unit_of(r, key_of(2), 0) * CHUNK_UNIT;
        const struct rig_piece next = {key_of(2), 2, behind == 1 ? CHUNK_WRITE : CHUNK_WHOLE,
                                       behind == 1 ? 1000 : 0, behind == 1 ? 500 : LENGTH};
        CHECK_OK(rig_put(r, next));
        CHECK_TRUE(container_of_rig(r)->dirty);
        uint64_t is = unit_of(r, key_of(2), 0) * CHUNK_UNIT;
        CHECK_EQ(is == was, behind == 1);
        r->change = (struct chunk_change){.op = CHUNK_SET_FLAGS, .key = key_of(2)};
        CHECK_OK(rig_wait(r, rig_change_in)); /* so that the commit is in the journal */
        loop_sim_kill(r->loop);
        disk_sim_crash_mode(r->machine, DISK_SIM_KEEP_ALL);
        disk_sim_crash(r->machine);
        loop_sim_reboot(r->sim, 1);
        CHECK_OK(disk_sim_corrupt(r->machine, "/data/space.0000", was + 5, 1));
        CHECK_OK(disk_sim_corrupt(r->machine, "/data/space.0000", is + 1005, 1));
        CHECK_OK(rig_boot(r));
        CHECK_OK(rig_check(r, key_of(2), 1, 1000));
        check_cells(r, key_of(2), true);
        check_sound(r);
        rig_stop(r);
        rig_end(r);
    }
}

/* The journal still tells of a carried cell when its unit is another chunk's. */
TEST(a_unit_that_is_anothers_by_now_is_left_alone)
{
    for (unsigned power = 0; power < 2; power++) {
        struct store_rig *r = rig_with_one();
        for (uint64_t i = 0; i < 30; i++) { /* many side by side */
            CHECK_OK(rig_put_whole(r, key_of(5000 + i), 1, 8 * CHUNK_CELL));
        }
        CHECK_OK(rig_sync(r));
        CHECK_TRUE(container_of_rig(r)->late && !container_of_rig(r)->dirty);
        uint64_t unit = unit_of(r, key_of(5015), 3);
        for (uint64_t i = 0; i < 30; i++) {
            CHECK_OK(rig_delete(r, key_of(5000 + i)));
        }
        whole_round(r);
        rig_pass(r, 3000);
        uint64_t others = 0;
        for (bool found = false; !found && others < 2000; others++) {
            CHECK_OK(rig_put_whole(r, key_of(10 + others), 1, 16 * CHUNK_CELL));
            uint64_t first = unit_of(r, key_of(10 + others), 0);
            uint64_t last = unit_of(r, key_of(10 + others), 15);
            found = unit >= first && unit <= last && last - first == 15;
        }
        CHECK_TRUE(others < 2000);
        if (power == 1) {
            CHECK_OK(rig_sync(r));
        }
        disk_sim_crash_mode(r->machine, DISK_SIM_LOSE_ALL);
        CHECK_OK(rig_restart(r, power == 1));
        for (uint64_t i = 0; i < others; i++) {
            struct chunk_info info;
            CHECK_OK(rig_look_up(r, key_of(10 + i), &info));
            check_cells(r, key_of(10 + i), false);
        }
        check_sound(r);
        rig_stop(r);
        rig_end(r);
    }
}

/* The check of all chunks sees what is not flushed, too. */
TEST(late_contents_are_not_taken_for_damage)
{
    struct store_rig *r = rig_with_one();
    CHECK_OK(overwrite(r, 2, CHUNK_CELL, 2 * CHUNK_CELL));
    CHECK_OK(rig_sync(r));
    CHECK_TRUE(container_of_rig(r)->late);
    check_cells(r, key_of(1), true);
    check_sound(r);
    rig_stop(r);
    rig_end(r);
}

/* ---- How much ---- */

TEST(the_journal_has_a_limit_for_what_it_carries)
{
    struct store_rig *r = rig_with_one();
    const uint64_t segment = r->opt.journal_bytes;
    uint64_t most = 0, carried = 0, ver = 1;
    while (ver < 5000) {
        ver++;
        bool late = container_of_rig(r)->late;
        CHECK_OK(overwrite(r, ver, (uint32_t)(ver % CELLS) * CHUNK_CELL, 96));
        carried += container_of_rig(r)->late && !late ? 1 : 0;
        if (ver % 4 == 0) {
            struct journal_info info;
            CHECK_OK(rig_sync(r));
            journal_info(r->store->extent->journal, &info);
            most = base_max(most, info.size_bytes);
            CHECK_TRUE(r->store->extent->carry.late_bytes <= 3 * segment);
        }
    }
    CHECK_TRUE(carried > 10); /* it began anew after each whole round */
    CHECK_TRUE(most > 2 * segment && most <= 8 * segment);
    struct chunk_info info;
    power_cut(r, DISK_SIM_LOSE_ALL);
    CHECK_OK(rig_look_up(r, key_of(1), &info));
    CHECK_EQ(info.committed.ver, ver);
    check_cells(r, key_of(1), true);
    check_sound(r);
    rig_stop(r);
    rig_end(r);
}

/* The index cannot be written, so that the journal is not trimmed: contents go the other way until
 * they are refused. */
TEST(nothing_is_carried_when_the_journal_cannot_be_trimmed)
{
    struct store_rig *r = rig_with_one();
    disk_sim_fail(r->machine, DISK_WRITE, "index", 1, 0, -ENOSPC);
    int rc = 0;
    uint64_t ver = 1;
    for (; rc == 0 && ver < 4000; ver += rc == 0 ? 1 : 0) {
        rc = overwrite(r, ver + 1, (uint32_t)(ver % CELLS) * CHUNK_CELL, CHUNK_CELL);
        if (rc == 0 && ver % 4 == 0) {
            CHECK_OK(rig_sync(r));
        }
    }
    struct journal_info info;
    journal_info(r->store->extent->journal, &info);
    CHECK_TRUE(info.size_bytes <= 8 * r->opt.journal_bytes);
    CHECK_TRUE(rc == 0 || rc == -ENOSPC);
    CHECK_EQ(r->failures, 0);
    disk_sim_heal(r->machine);
    rig_pass(r, 15000);
    CHECK_OK(overwrite(r, ver + 1, 0, CHUNK_CELL));
    CHECK_OK(rig_sync(r));
    power_cut(r, DISK_SIM_LOSE_ALL);
    CHECK_OK(rig_look_up(r, key_of(1), &(struct chunk_info){0}));
    check_sound(r);
    rig_stop(r);
    rig_end(r);
}

TEST(nothing_is_carried_when_the_disk_is_full)
{
    struct store_rig *r = rig_with_one();
    disk_sim_capacity(r->machine, disk_sim_used_bytes(r->machine) + 4096);
    rig_pass(r, 6000); /* it looks at the disk */
    CHECK_OK(overwrite(r, 2, 0, CHUNK_CELL));
    check_carried(r, false);
    disk_sim_capacity(r->machine, 0);
    rig_pass(r, 6000);
    CHECK_OK(overwrite(r, 3, 0, CHUNK_CELL));
    check_carried(r, true);
    rig_stop(r);
    rig_end(r);
}

/* ---- A story, cut off anywhere ---- */

#define STORY_KEYS 3u
#define STORY_VERSIONS 600u

/* Of one chunk: what each version is, NULL: it is not there. */
struct tale {
    uint8_t *was[STORY_VERSIONS];
    uint32_t length[STORY_VERSIONS];
    uint64_t newest, acked, synced;
};

struct story {
    struct store_rig *r;
    struct rand rand;
    struct tale tale[STORY_KEYS];
    uint64_t steps; /* until the end of this life */
    bool over;
    struct chunk_update update;
    struct chunk_sync sync;
    struct chunk_change change;
    uint32_t crc[CELLS + 2];
    struct iovec iov;
    unsigned carried;
};

static void story_over(struct story *s, int rc)
{
    CHECK_OK(rc);
    s->over = true;
}
static void story_updated(struct chunk_update *u, int rc)
{
    story_over(container_of(u, struct story, update), rc);
}
static void story_synced(struct chunk_sync *x, int rc)
{
    story_over(container_of(x, struct story, sync), rc);
}
static void story_changed(struct chunk_change *x, int rc)
{
    story_over(container_of(x, struct story, change), rc);
}
static void story_update_in(void *ctx)
{
    struct story *s = ctx;
    chunk_store_update(s->r->store, &s->update);
}
static void story_sync_in(void *ctx)
{
    struct story *s = ctx;
    chunk_store_sync(s->r->store, &s->sync);
}
static void story_change_in(void *ctx)
{
    struct story *s = ctx;
    chunk_store_change(s->r->store, &s->change);
}

/* False: this life was over before. */
static bool story_call(struct story *s, void (*submit)(void *ctx))
{
    s->over = false;
    loop_sim_enter(s->r->loop, submit, s);
    while (!s->over && s->steps > 0) {
        s->steps--;
        CHECK_TRUE(loop_sim_step(s->r->sim));
    }
    return s->over;
}

/* The newest version of what was there with some bytes written over, or of all new bytes. */
static void tale_next(struct story *s, struct tale *t, struct chunk_update *u)
{
    const uint8_t *old = t->was[t->acked];
    uint32_t had = old == NULL ? 0 : t->length[t->acked];
    uint32_t length = 1 + (uint32_t)rand_below(&s->rand, 3 * CHUNK_CELL), from = 0;
    bool cut = had > 1 && rand_chance(&s->rand, 1, 6);
    u->kind = old == NULL || rand_chance(&s->rand, 1, 6) ? CHUNK_WHOLE
              : cut                                      ? CHUNK_SET_LENGTH
                                                         : CHUNK_WRITE;
    if (u->kind == CHUNK_WHOLE && rand_chance(&s->rand, 1, 3)) {
        length = LENGTH; /* too much to be carried */
    } else if (u->kind == CHUNK_WRITE) {
        from = rand_chance(&s->rand, 1, 5) ? had : (uint32_t)rand_below(&s->rand, had + 1);
        from = rand_chance(&s->rand, 1, 2) ? from / CHUNK_CELL * CHUNK_CELL : from;
        from = (uint32_t)base_min(from, LENGTH - 1);
        length = (uint32_t)base_min(length, LENGTH - from);
    } else if (u->kind == CHUNK_SET_LENGTH) {
        from = had - (uint32_t)rand_range(&s->rand, 1, base_min(had - 1, 2 * CHUNK_CELL));
        length = 0;
    }
    uint32_t all = u->kind == CHUNK_WRITE ? (uint32_t)base_max(had, from + length) : from + length;
    uint8_t *now = mem_zalloc(LENGTH);
    CHECK_TRUE(now != NULL && t->newest + 1 < STORY_VERSIONS);
    if (u->kind != CHUNK_WHOLE) {
        memcpy(now, old, base_min(had, all));
    }
    rand_bytes(&s->rand, now + from, length);
    t->newest++;
    t->was[t->newest] = now;
    t->length[t->newest] = all;
    u->offset = u->kind == CHUNK_WRITE ? from : 0;
    u->length = u->kind == CHUNK_WRITE ? length : 0;
    u->new_length = all;
    s->iov = (struct iovec){.iov_base = now + from, .iov_len = length};
}

static bool story_update(struct story *s, unsigned k)
{
    struct tale *t = &s->tale[k];
    struct chunk_update *u = &s->update;
    *u = (struct chunk_update){.done = story_updated,
                               .key = key_of(k),
                               .chain = 5,
                               .install = true,
                               .crc = s->crc,
                               .data = &s->iov,
                               .data_count = 1};
    tale_next(s, t, u);
    u->identity = (struct chunk_identity){.aepoch = 1, .ver = t->newest};
    u->last_ver = t->newest;
    const uint8_t *bytes = s->iov.iov_base;
    for (uint32_t at = 0; at < s->iov.iov_len;) {
        uint32_t n =
            (uint32_t)base_min(CHUNK_CELL - (u->offset + at) % CHUNK_CELL, s->iov.iov_len - at);
        s->crc[u->crc_count++] = crc32c(0, bytes + at, n);
        at += n;
    }
    if (!story_call(s, story_update_in)) {
        return false;
    }
    t->acked = t->newest;
    s->carried += container_of_rig(s->r)->late ? 1 : 0;
    return true;
}

static bool story_delete(struct story *s, unsigned k)
{
    struct tale *t = &s->tale[k];
    CHECK_TRUE(t->newest + 1 < STORY_VERSIONS);
    t->newest++; /* of which there is nothing */
    s->change = (struct chunk_change){.done = story_changed, .op = CHUNK_DELETE, .key = key_of(k)};
    if (!story_call(s, story_change_in)) {
        return false;
    }
    t->acked = t->newest;
    return true;
}

static bool story_sync(struct story *s)
{
    uint64_t acked[STORY_KEYS];
    for (unsigned k = 0; k < STORY_KEYS; k++) {
        acked[k] = s->tale[k].acked;
    }
    s->sync = (struct chunk_sync){.done = story_synced, .scope = CHUNK_SYNC_ALL};
    if (!story_call(s, story_sync_in)) {
        return false;
    }
    for (unsigned k = 0; k < STORY_KEYS; k++) {
        s->tale[k].synced = acked[k];
    }
    return true;
}

static bool story_goes_on(struct story *s)
{
    uint64_t what = rand_below(&s->rand, 16);
    unsigned k = (unsigned)rand_below(&s->rand, STORY_KEYS);
    if (what < 6) {
        return story_sync(s);
    }
    if (what == 6) { /* rounds, and units that come back */
        rig_pass(s->r, rand_below(&s->rand, 150));
        return true;
    }
    bool there = s->tale[k].was[s->tale[k].acked] != NULL;
    return what == 7 && there ? story_delete(s, k) : story_update(s, k);
}

/* Which version there is, or that there is none: neither older than what was synced, nor, if only
 * the process was killed, than what was done. */
static void tale_check(struct story *s, unsigned k, bool power)
{
    struct tale *t = &s->tale[k];
    struct chunk_info info;
    int rc = rig_look_up(s->r, key_of(k), &info);
    CHECK_TRUE(rc == 0 || rc == -ENOENT);
    uint64_t least = power ? t->synced : t->acked, found = rc == 0 ? info.committed.ver : least;
    while (rc == -ENOENT && found < t->newest && t->was[found] != NULL) {
        found++; /* the first that might be it */
    }
    CHECK_TRUE(found >= least && found <= t->newest);
    CHECK_EQ(t->was[found] != NULL, rc == 0);
    if (rc == 0) {
        uint8_t *got = mem_zalloc(LENGTH);
        CHECK_EQ(info.length, t->length[found]);
        CHECK_EQ(info.flags & CHUNK_DAMAGED, 0);
        s->r->read = (struct chunk_read){
            .pin = {.key = key_of(k), .length = CHUNK_LENGTH_MAX}, .verify = true, .to = got};
        CHECK_OK(rig_wait(s->r, rig_read_in));
        CHECK_BYTES(got, t->was[found], t->length[found]);
        mem_free(got);
        check_cells(s->r, key_of(k), true);
    }
    t->acked = found;
    t->synced = power ? found : t->synced; /* a start makes stable what it believes */
}

static void story_power(struct story *s)
{
    loop_sim_kill(s->r->loop);
    disk_sim_crash(s->r->machine);
    loop_sim_reboot(s->r->sim, 1);
}

/* The power fails once more before the start is over. */
static void story_half_start(struct story *s)
{
    struct store_rig *r = s->r;
    CHECK_OK(loop_sim_process(r->sim, "data", 1, &r->loop));
    CHECK_OK(disk_sim_open(r->machine, r->loop, &r->disk));
    r->env = (struct env){.loop = r->loop, .disk = r->disk};
    r->over = false;
    loop_sim_enter(r->loop, rig_open_in, r);
    for (uint64_t n = rand_below(&s->rand, 60); n > 0 && !r->over; n--) {
        CHECK_TRUE(loop_sim_step(r->sim));
    }
    story_power(s);
}

static void story_life(struct story *s)
{
    s->steps = UINT64_MAX;
    for (uint64_t n = rand_below(&s->rand, 20); n > 0; n--) {
        CHECK_TRUE(story_goes_on(s));
    }
    s->steps = rand_range(&s->rand, 1, 120);
    while (s->steps > 0 && story_goes_on(s)) {
    }
    bool power = rand_chance(&s->rand, 3, 4);
    if (power) {
        story_power(s);
    } else {
        loop_sim_kill(s->r->loop);
    }
    while (power && rand_chance(&s->rand, 1, 3)) {
        story_half_start(s);
    }
    CHECK_OK(rig_boot(s->r));
    for (unsigned k = 0; k < STORY_KEYS; k++) {
        tale_check(s, k, power);
    }
    check_sound(s->r);
}

static unsigned story(uint64_t seed)
{
    struct story *s = mem_zalloc(sizeof *s);
    CHECK_TRUE(s != NULL);
    s->r = rig_new(CHUNK_ENGINE_EXTENT, seed);
    rand_seed(&s->rand, seed);
    CHECK_OK(rig_put_whole(s->r, key_of(99), 1, 100)); /* there is a container */
    rig_stop(s->r);
    s->r->opt.journal_bytes = 256 << 10;
    s->r->opt.flush_ms = seed % 3 == 0 ? NEVER_MS : 40;
    s->r->opt.thorough = seed % 2 == 0;
    CHECK_OK(rig_boot(s->r));
    disk_sim_crash_mode(s->r->machine, seed % 4 == 0   ? DISK_SIM_LOSE_ALL
                                       : seed % 4 == 1 ? DISK_SIM_KEEP_ALL
                                                       : DISK_SIM_RANDOM);
    for (unsigned life = 0; life < 8; life++) {
        story_life(s);
    }
    unsigned carried = s->carried;
    CHECK_EQ(s->r->failures, 0);
    rig_stop(s->r);
    rig_end(s->r);
    for (unsigned k = 0; k < STORY_KEYS; k++) {
        for (unsigned i = 0; i < STORY_VERSIONS; i++) {
            mem_free(s->tale[k].was[i]);
        }
    }
    mem_free(s);
    return carried;
}

TEST(what_is_carried_survives_what_it_must)
{
    unsigned carried = 0;
    for (uint64_t i = 0; i < 60; i++) {
        carried += story(testing_seed() * 1000 + i);
    }
    CHECK_TRUE(carried > 200);
}
