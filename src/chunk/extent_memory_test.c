/*
 * chunk/extent_memory_test.c -- what the `extent` engine knows of chunks and may not forget has a
 * bound, and what makes it less goes on when that is reached.
 */
#include "chunk/rig_put_priv.h"

#include "chunk/extent_priv.h"

#define MANY_BYTES (UINT64_C(64) << 20) /* updates are refused from there on */
#define LENGTH (3 * CHUNK_CELL)

static struct chunk_key key_of(uint32_t i)
{
    return (struct chunk_key){.data_id = 7, .index = i};
}

static struct store_rig *rig_little(void)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    rig_stop(r);
    r->opt.entry_bytes = 1;
    r->opt.flush_ms = 60000;
    r->opt.index_bytes = 256 << 20; /* so that it is not what takes long */
    CHECK_OK(rig_boot(r));
    return r;
}

static void reserve_in(void *ctx)
{
    struct store_rig *r = ctx;
    r->update.done = rig_update_done;
    chunk_store_reserve(r->store, &r->update);
}

/* As all updates are made. */
static int reserve_and_update(struct store_rig *r)
{
    int rc = rig_wait(r, reserve_in);
    return rc < 0 ? rc : rig_wait(r, rig_update_in);
}

/* Large in memory, and nothing on the medium. */
static int put_zeros(struct store_rig *r, uint32_t i)
{
    r->update = (struct chunk_update){.key = key_of(i),
                                      .chain = 5,
                                      .kind = CHUNK_SET_LENGTH,
                                      .identity = {.aepoch = 1, .ver = 1},
                                      .last_ver = 1,
                                      .new_length = CHUNK_LENGTH_MAX};
    int rc = reserve_and_update(r);
    return rc < 0 ? rc : rig_wait(r, rig_commit_in);
}

/* A whole content, as a repair brings it. */
static int install(struct store_rig *r, uint32_t i)
{
    uint8_t bytes[LENGTH];
    uint32_t crc[LENGTH / CHUNK_CELL];
    struct iovec iov = {.iov_base = bytes, .iov_len = LENGTH};
    rig_fill(bytes, LENGTH, key_of(i), 2);
    for (uint32_t cell = 0; cell < LENGTH / CHUNK_CELL; cell++) {
        crc[cell] = crc32c(0, bytes + (size_t)cell * CHUNK_CELL, CHUNK_CELL);
    }
    r->update = (struct chunk_update){.key = key_of(i),
                                      .chain = 5,
                                      .kind = CHUNK_WHOLE,
                                      .install = true,
                                      .identity = {.aepoch = 1, .ver = 2},
                                      .last_ver = 2,
                                      .new_length = LENGTH,
                                      .crc = crc,
                                      .crc_count = ARRAY_COUNT(crc),
                                      .data = &iov,
                                      .data_count = 1};
    return reserve_and_update(r);
}

static void damage(struct store_rig *r, uint32_t i)
{
    r->change =
        (struct chunk_change){.op = CHUNK_SET_FLAGS, .key = key_of(i), .set = CHUNK_DAMAGED};
    CHECK_OK(rig_wait(r, rig_change_in));
}

static int put_patiently(struct store_rig *r, uint32_t i)
{
    int rc = put_zeros(r, i);
    for (unsigned tries = 0; rc == -ERR_busy && tries < 20; tries++) {
        rig_pass(r, 100);
        rc = put_zeros(r, i);
    }
    return rc;
}

/* ---- Damaged chunks ---- */

#define DAMAGED 7000u /* they take more than there is room for */

/* What a walk tells, each once. */
static void check_walk(struct store_rig *r, uint32_t step)
{
    uint8_t *told = mem_zalloc(DAMAGED);
    struct chunk_damage d = {0};
    uint32_t count = 0, tries = 0;
    CHECK_TRUE(told != NULL);
    int rc = chunk_store_next_damaged(r->store, &d);
    while (rc != -ENOENT) {
        if (rc == -EAGAIN) {
            rig_pass(r, 10);
            CHECK_TRUE(++tries < 2 * DAMAGED);
        } else {
            CHECK_OK(rc);
            CHECK_EQ(d.chain, 5);
            CHECK_EQ(d.key.data_id, 7);
            CHECK_TRUE(d.key.index < DAMAGED);
            CHECK_EQ(told[d.key.index]++, 0);
            count++;
        }
        rc = chunk_store_next_damaged(r->store, &d);
    }
    CHECK_EQ(count, DAMAGED / step);
    for (uint32_t i = 0; i < DAMAGED; i++) {
        CHECK_EQ(told[i], i % step == step - 1 ? 1 : 0);
    }
    mem_free(told);
}

static void check_damaged(struct store_rig *r, uint32_t step)
{
    struct chunk_store_info all;
    chunk_store_info(r->store, &all);
    CHECK_EQ(all.damaged_count, DAMAGED / step);
    CHECK_EQ(all.chunk_count, DAMAGED);
    check_walk(r, step);
    for (uint32_t i = 0; i < DAMAGED; i++) {
        struct chunk_info info;
        CHECK_OK(rig_look_up(r, key_of(i), &info));
        CHECK_EQ(info.flags & CHUNK_DAMAGED, i % step == step - 1 ? CHUNK_DAMAGED : 0);
    }
    rig_pass(r, 1000);
    CHECK_TRUE(r->store->cached_bytes < MANY_BYTES / 8);
}

static struct store_rig *rig_all_damaged(void)
{
    struct store_rig *r = rig_little();
    for (uint32_t i = 0; i < DAMAGED; i++) {
        CHECK_OK(put_patiently(r, i));
        damage(r, i);
    }
    CHECK_OK(rig_sync(r));
    rig_pass(r, 1000);
    return r;
}

/* They are in the index like all others, and so is that they are damaged. */
TEST(any_number_of_damaged_chunks_leaves_room)
{
    struct store_rig *r = rig_all_damaged();
    CHECK_TRUE(r->store->cached_bytes < MANY_BYTES / 8);
    check_damaged(r, 1);
    rig_stop(r);
    CHECK_OK(rig_boot(r));
    CHECK_TRUE(r->store->cached_bytes < MANY_BYTES / 8); /* nor does a start need them */
    check_damaged(r, 1);
    rig_stop(r);
    rig_end(r);
}

TEST(many_damaged_chunks_can_be_repaired)
{
    struct store_rig *r = rig_all_damaged();
    CHECK_OK(rig_restart(r, false));
    for (uint32_t i = 0; i < DAMAGED; i += 2) {
        CHECK_OK(install(r, i));
    }
    CHECK_OK(rig_sync(r));
    check_damaged(r, 2);
    CHECK_OK(rig_restart(r, true));
    check_walk(r, 2);
    for (uint32_t i = 0; i < DAMAGED; i += 2) {
        CHECK_OK(rig_check(r, key_of(i), 2, LENGTH));
    }
    rig_stop(r);
    rig_end(r);
}

/* ---- Starts ---- */

#define NAMED 4000u
#define NAMED_BYTES (UINT64_C(8) << 20) /* a sixth of what they take in memory */

struct started {
    struct store_rig *r;
    uint64_t most_bytes;
};

static bool start_is_over(void *ctx)
{
    struct started *b = ctx;
    b->most_bytes = base_max(b->most_bytes, b->r->store == NULL ? 0 : b->r->store->cached_bytes);
    return rig_is_over(b->r);
}

/* Small records name chunks that are large in memory: they wait for a checkpoint. */
TEST(a_start_needs_little_memory)
{
    struct store_rig *r = rig_little();
    struct started b = {.r = r};
    struct chunk_store_info info;
    rig_stop(r);
    r->opt.journal_bytes = 64 << 20; /* so that it is not what brings checkpoints */
    CHECK_OK(rig_boot(r));
    r->store->extent->backlog.most_bytes = NAMED_BYTES;
    for (uint32_t i = 0; i < NAMED; i++) {
        CHECK_OK(put_patiently(r, i));
        CHECK_TRUE(r->store->extent->backlog.bytes < 2 * NAMED_BYTES);
    }
    loop_sim_kill(r->loop);
    CHECK_OK(loop_sim_process(r->sim, "data", 1, &r->loop));
    CHECK_OK(disk_sim_open(r->machine, r->loop, &r->disk));
    r->env = (struct env){.loop = r->loop, .disk = r->disk};
    r->over = false;
    r->store = NULL;
    loop_sim_enter(r->loop, rig_open_in, r);
    uint64_t limit = loop_sim_now_ns(r->sim) + RIG_LIMIT_NS;
    CHECK_TRUE(loop_sim_run(r->sim, start_is_over, &b, limit));
    CHECK_OK(r->rc);
    CHECK_TRUE(b.most_bytes > NAMED_BYTES / 8); /* it had something to do */
    CHECK_TRUE(b.most_bytes < 2 * NAMED_BYTES);
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.chunk_count, NAMED);
    CHECK_EQ(info.wrong, 0);
    rig_stop(r);
    rig_end(r);
}

/* ---- Removal ---- */

#define REMOVED 7000u
#define REMOVED_BYTES UINT64_C(84000000) /* less than all of them take */

static struct store_rig *rig_removed(void)
{
    struct store_rig *r = rig_little();
    for (uint32_t i = 0; i < REMOVED; i++) {
        CHECK_OK(put_patiently(r, i));
    }
    CHECK_OK(rig_sync(r));
    return r;
}

static void delete_in(void *ctx)
{
    struct store_rig *r = ctx;
    rig_change_in(r);
}

/* False: it waits. */
static bool delete_some_time(struct store_rig *r, uint32_t i)
{
    do {
        r->over = false;
        r->change = (struct chunk_change){.op = CHUNK_DELETE, .key = key_of(i)};
        loop_sim_enter(r->loop, delete_in, r);
        (void)loop_sim_run(r->sim, rig_is_over, r, loop_sim_now_ns(r->sim) + UINT64_C(2000000000));
    } while (r->over && r->rc == -ERR_busy); /* the index is being written to */
    if (r->over) {
        CHECK_OK(r->rc);
    }
    return r->over;
}

static void check_removed(struct store_rig *r)
{
    struct chunk_store_info info;
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.chunk_count, 0);
    CHECK_OK(rig_restart(r, false));
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.chunk_count, 0);
    CHECK_EQ(info.wrong, 0);
    rig_stop(r);
    rig_end(r);
}

static void round_in(void *ctx)
{
    struct store_rig *r = ctx;
    r->store->round_active = false;
    chunk_extent_round(r->store);
}

/* The index is told in time of what has gone; while it cannot be, removal waits. */
TEST(removal_needs_little_memory)
{
    struct store_rig *r = rig_removed();
    uint64_t most = 0;
    bool held = true, waited = false;
    while (r->store->round_active) {
        rig_pass(r, 10);
    }
    r->store->round_active = true; /* none begins */
    for (uint32_t i = 0; i < REMOVED; i++) {
        bool over = delete_some_time(r, i);
        most = base_max(most, r->store->cached_bytes);
        waited = waited || !over;
        if (!over && held) {
            CHECK_TRUE(most >= MANY_BYTES);
            loop_sim_enter(r->loop, round_in, r);
            held = false;
        }
        if (!over) {
            uint64_t limit = loop_sim_now_ns(r->sim) + RIG_LIMIT_NS;
            CHECK_TRUE(loop_sim_run(r->sim, rig_is_over, r, limit));
            CHECK_OK(r->rc);
        }
    }
    CHECK_TRUE(waited);
    CHECK_TRUE(most < REMOVED_BYTES);
    check_removed(r);
}

/* ---- What the next start would take ---- */

#define HELD 300u
#define HELD_BYTES (UINT64_C(1) << 20) /* less than all of them take */

/* No checkpoint begins. */
static void hold_checkpoints(struct store_rig *r, bool held)
{
    while (held && (r->store->extent->checkpointing || r->store->round_active)) {
        rig_pass(r, 10);
    }
    r->store->extent->checkpointing = held;
}

static int update_only(struct store_rig *r, uint32_t i)
{
    r->update = (struct chunk_update){.key = key_of(i),
                                      .chain = 5,
                                      .kind = CHUNK_SET_LENGTH,
                                      .base = {.aepoch = 1, .ver = 1},
                                      .identity = {.aepoch = 1, .ver = 2},
                                      .last_ver = 2,
                                      .new_length = CHUNK_LENGTH_MAX / 2};
    return reserve_and_update(r);
}

static struct store_rig *rig_held(bool pending)
{
    struct store_rig *r = rig_little();
    for (uint32_t i = 0; i < HELD; i++) {
        CHECK_OK(put_patiently(r, i));
        CHECK_OK(pending ? update_only(r, i) : 0);
    }
    rig_stop(r);
    r->opt.journal_bytes = 64 << 20;
    CHECK_OK(rig_boot(r));
    rig_pass(r, 1000);
    hold_checkpoints(r, true);
    CHECK_EQ(r->store->extent->backlog.bytes, 0);
    r->store->extent->backlog.most_bytes = HELD_BYTES;
    return r;
}

/* Those that cannot be told to come again wait, and then go on, all of them. */
static void check_storm(struct chunk_change c)
{
    struct store_rig *r = rig_held(c.op == CHUNK_DROP_PENDING);
    const struct chunk_backlog *b = &r->store->extent->backlog;
    unsigned waited = 0;
    for (uint32_t i = 0; i < HELD; i++) {
        r->over = false;
        r->change = c;
        r->change.key = key_of(i);
        loop_sim_enter(r->loop, rig_change_in, r);
        uint64_t now = loop_sim_now_ns(r->sim);
        if (!loop_sim_run(r->sim, rig_is_over, r, now + UINT64_C(5000000000))) {
            waited++;
            CHECK_TRUE(b->bytes >= b->most_bytes);
            hold_checkpoints(r, false);
            CHECK_TRUE(loop_sim_run(r->sim, rig_is_over, r, now + RIG_LIMIT_NS));
            hold_checkpoints(r, true);
        }
        CHECK_OK(r->rc);
        CHECK_TRUE(b->bytes < b->most_bytes + HELD_BYTES / 4);
    }
    CHECK_TRUE(waited > 0);
    hold_checkpoints(r, false);
    rig_stop(r);
    rig_end(r);
}

TEST(a_storm_of_deletes_waits_for_the_index)
{
    check_storm((struct chunk_change){.op = CHUNK_DELETE});
}

TEST(a_storm_of_flags_waits_for_the_index)
{
    check_storm((struct chunk_change){.op = CHUNK_SET_FLAGS, .set = CHUNK_DEDUPE_OVERFLOW});
}

TEST(a_storm_of_drops_waits_for_the_index)
{
    check_storm((struct chunk_change){.op = CHUNK_DROP_PENDING});
}

/* On a disk where it has none, what removes is what brings some. */
TEST(removal_does_not_wait_for_an_index_without_room)
{
    struct store_rig *r = rig_held(false);
    r->store->extent->backlog.most_bytes = 0;
    r->over = false;
    r->change = (struct chunk_change){.op = CHUNK_DELETE, .key = key_of(0)};
    loop_sim_enter(r->loop, rig_change_in, r);
    rig_pass(r, 3000);
    CHECK_TRUE(!r->over);
    r->store->extent->index_full = true;
    rig_pass(r, 3000);
    CHECK_TRUE(r->over);
    CHECK_OK(r->rc);
    hold_checkpoints(r, false);
    rig_stop(r);
    rig_end(r);
}

/* A start begins with what it took, so that the next one does not take twice as much. */
TEST(what_a_start_takes_counts)
{
    struct store_rig *r = rig_held(false);
    for (uint32_t i = 0; i < HELD / 4; i++) {
        CHECK_OK(put_patiently(r, HELD + i));
    }
    uint64_t bytes = r->store->extent->backlog.bytes;
    CHECK_TRUE(bytes > HELD_BYTES / 2);
    CHECK_OK(rig_restart(r, false));
    CHECK_TRUE(r->store->extent->checkpointing || r->store->round_active);
    CHECK_TRUE(r->store->extent->backlog.bytes >= bytes / 10 * 9);
    rig_pass(r, 5000);
    CHECK_TRUE(r->store->extent->backlog.bytes < bytes / 10);
    rig_stop(r);
    rig_end(r);
}

/* ---- A small index ---- */

#define TOLD 2000u

static bool round_is_over(void *ctx)
{
    return !((struct store_rig *)ctx)->store->round_active;
}

/* What a round tells takes more memory than there is for the index: it goes in pieces, none of them
 * too large for it. */
TEST(a_round_is_told_to_a_small_index_in_pieces)
{
    struct store_rig *r = rig_little();
    rig_stop(r);
    r->opt.index_bytes = 4 << 20;
    CHECK_OK(rig_boot(r));
    rig_pass(r, 1000);
    CHECK_TRUE(!r->store->round_active);
    r->store->round_active = true; /* none begins */
    for (uint32_t i = 0; i < TOLD; i++) {
        CHECK_OK(put_patiently(r, i));
    }
    CHECK_TRUE(r->store->dirty_count >= TOLD);
    loop_sim_enter(r->loop, round_in, r);
    CHECK_TRUE(r->store->round_active);
    uint64_t from = loop_sim_now_ns(r->sim);
    CHECK_TRUE(loop_sim_run(r->sim, round_is_over, r, from + UINT64_C(60000000000)));
    CHECK_EQ(r->store->dirty_count, 0);
    CHECK_TRUE(kv_statistics(r->store->extent->index).busy > 0);
    CHECK_EQ(r->store->failed, 0);
    rig_stop(r);
    r->opt.index_bytes = 8 << 20; /* the least that a configuration may say */
    CHECK_OK(rig_boot(r));
    struct chunk_store_info info;
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.chunk_count, TOLD);
    CHECK_EQ(info.wrong, 0);
    rig_stop(r);
    rig_end(r);
}
