/* chunk/extent_gather_test.c -- small contents that are stored at the same time: side by side, in
 * few writes, and each with an outcome of its own. */
#include "chunk/rig_put_priv.h"

#include "chunk/extent_priv.h"

#define TOGETHER 48u
#define MIB (1u << 20)

struct crowd {
    struct store_rig *r;
    struct crowd_one {
        struct crowd *all;
        struct chunk_update update;
        struct iovec iov;
        uint8_t *bytes;
        uint32_t crc[MIB / CHUNK_CELL], length;
        int rc;
    } one[TOGETHER];
    unsigned left;
};

static struct chunk_key key_of(uint64_t i)
{
    return (struct chunk_key){.data_id = 100 + i};
}

static void crowd_done(struct chunk_update *u, int rc)
{
    struct crowd_one *one = container_of(u, struct crowd_one, update);
    one->rc = rc;
    if (rc == 0) {
        one->rc = chunk_store_commit(one->all->r->store, u->key, u->identity);
    }
    if (--one->all->left == 0) {
        rig_over(one->all->r, 0);
    }
}

static void crowd_prepare(struct crowd_one *one, unsigned i, uint32_t each)
{
    static const uint32_t length[] = {4096, 100, 8192, 5000, 1, 12288};
    uint32_t len = each > 0 ? each : length[i % ARRAY_COUNT(length)];
    one->length = len;
    one->bytes = mem_zalloc(len);
    CHECK_TRUE(one->bytes != NULL);
    rig_fill(one->bytes, len, key_of(i), 1);
    one->iov = (struct iovec){.iov_base = one->bytes, .iov_len = len};
    for (uint32_t at = 0; at < len; at += CHUNK_CELL) {
        one->crc[at / CHUNK_CELL] = crc32c(0, one->bytes + at, base_min(CHUNK_CELL, len - at));
    }
    one->update = (struct chunk_update){.done = crowd_done,
                                        .key = key_of(i),
                                        .chain = 5,
                                        .kind = CHUNK_WHOLE,
                                        .identity = {.aepoch = 1, .ver = 1},
                                        .last_ver = 1,
                                        .new_length = len,
                                        .crc = one->crc,
                                        .crc_count = chunk_cells(len),
                                        .data = &one->iov,
                                        .data_count = 1};
}

static void crowd_in(void *ctx)
{
    struct crowd *c = ctx;
    for (unsigned i = 0; i < TOGETHER; i++) {
        chunk_store_update(c->r->store, &c->one[i].update);
    }
}

/* All at once, of some bytes each (0: small ones). */
static struct crowd *crowd_begin(struct store_rig *r, uint32_t each)
{
    struct crowd *c = mem_zalloc(sizeof *c);
    CHECK_TRUE(c != NULL);
    c->r = r;
    c->left = TOGETHER;
    for (unsigned i = 0; i < TOGETHER; i++) {
        c->one[i].all = c;
        crowd_prepare(&c->one[i], i, each);
    }
    r->over = false;
    loop_sim_enter(r->loop, crowd_in, c);
    return c;
}

/* The same; ends when each has its outcome. */
static struct crowd *crowd_store(struct store_rig *r, uint32_t each)
{
    struct crowd *c = crowd_begin(r, each);
    CHECK_TRUE(loop_sim_run(r->sim, rig_is_over, r, loop_sim_now_ns(r->sim) + RIG_LIMIT_NS));
    return c;
}

/* Each has its content. */
static void crowd_check(struct crowd *c)
{
    for (unsigned i = 0; i < TOGETHER; i++) {
        CHECK_OK(rig_check(c->r, key_of(i), 1, c->one[i].length));
    }
}

static void crowd_free(struct crowd *c)
{
    for (unsigned i = 0; i < TOGETHER; i++) {
        mem_free(c->one[i].bytes);
    }
    mem_free(c);
}

TEST(contents_stored_together_share_writes)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    CHECK_OK(rig_put_whole(r, key_of(1000), 1, 100)); /* there is a container */
    CHECK_OK(rig_sync(r));
    uint64_t before = disk_sim_begun(r->machine, DISK_FOREGROUND);
    struct crowd *c = crowd_store(r, 0);
    CHECK_TRUE(disk_sim_begun(r->machine, DISK_FOREGROUND) - before < TOGETHER / 2);
    for (unsigned i = 0; i < TOGETHER; i++) {
        CHECK_OK(c->one[i].rc);
    }
    crowd_check(c);
    CHECK_OK(rig_sync(r));
    CHECK_OK(rig_restart(r, true));
    crowd_check(c);
    crowd_free(c);
    rig_stop(r);
    rig_end(r);
}

/* A write that fails is one of many: those have failed without a trace, the others are there. */
TEST(a_shared_write_fails_for_all_of_it)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    CHECK_OK(rig_put_whole(r, key_of(1000), 1, 100));
    CHECK_OK(rig_sync(r));
    disk_sim_fail(r->machine, DISK_WRITE, "space.", 1, 1, -ENOSPC);
    struct crowd *c = crowd_store(r, 0);
    disk_sim_heal(r->machine);
    unsigned failed = 0;
    for (unsigned i = 0; i < TOGETHER; i++) {
        struct chunk_info info;
        failed += c->one[i].rc < 0 ? 1U : 0U;
        CHECK_TRUE(c->one[i].rc == 0 || c->one[i].rc == -ENOSPC);
        if (c->one[i].rc == 0) {
            CHECK_OK(rig_check(r, key_of(i), 1, c->one[i].length));
        } else {
            CHECK_EQ(rig_look_up(r, key_of(i), &info), -ENOENT);
            CHECK_OK(rig_put_whole(r, key_of(i), 1, c->one[i].length));
        }
    }
    CHECK_TRUE(failed > 1 && failed < TOGETHER);
    CHECK_EQ(r->failures, 0);
    CHECK_OK(rig_sync(r));
    CHECK_OK(rig_restart(r, true));
    crowd_check(c);
    crowd_free(c);
    rig_stop(r);
    rig_end(r);
}

/* Killed in the middle of it: what is there is whole, and the store starts. */
TEST(a_shared_write_may_be_cut_off)
{
    for (unsigned steps = 1; steps < 400; steps += 13) {
        struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
        CHECK_OK(rig_put_whole(r, key_of(1000), 1, 100));
        struct crowd *c = crowd_begin(r, 0);
        for (unsigned n = 0; n < steps && !r->over; n++) {
            CHECK_TRUE(loop_sim_step(r->sim));
        }
        CHECK_OK(rig_restart(r, steps % 2 == 0));
        for (unsigned i = 0; i < TOGETHER; i++) {
            struct chunk_info info = {0};
            int rc = rig_look_up(r, key_of(i), &info);
            CHECK_TRUE(rc == 0 || rc == -ENOENT);
            CHECK_EQ(info.flags & CHUNK_DAMAGED, 0);
            if (info.committed.ver == 1) {
                CHECK_OK(rig_check(r, key_of(i), 1, c->one[i].length));
            }
        }
        crowd_free(c);
        rig_stop(r);
        rig_end(r);
    }
}

/* The containers grow as often as it takes for all who wait: nobody is told of a full disk because
 * others were faster. */
TEST(there_is_room_for_all_who_wait_while_it_grows)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    rig_stop(r);
    r->opt.journal_bytes = MIB;
    r->opt.index_bytes = UINT64_C(8) * MIB;
    disk_sim_capacity(r->machine, 100 * UINT64_C(1048576));
    CHECK_OK(rig_boot(r));
    struct crowd *c = crowd_store(r, MIB);
    for (unsigned i = 0; i < TOGETHER; i++) {
        CHECK_OK(c->one[i].rc);
    }
    crowd_check(c);
    crowd_free(c);
    rig_end(r);
}
