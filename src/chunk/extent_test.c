/*
 * chunk/extent_test.c -- what is of the `extent` engine alone: units and who has them, containers,
 * index and journal that are damaged or gone.
 */
#include "chunk/rig_put_priv.h"

#include "base/rand.h"
#include "chunk/extent_priv.h"

#define COUNT 40u
#define SMALL 26624u /* 26 KiB */

static struct chunk_key key_of(uint64_t i)
{
    return (struct chunk_key){.data_id = 100 + i};
}

static uint64_t units_used(const struct store_rig *r)
{
    struct tree_space_info info;
    tree_space_info(r->store->extent->space, &info);
    return info.used - r->store->extent->open.count; /* taken for the next ones */
}

static void check_sound(const struct store_rig *r)
{
    struct chunk_store_info info;
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.wrong, 0);
    CHECK_EQ(info.failed, 0);
}

/* ---- Units ---- */

TEST(units_come_back)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    uint64_t before = 1; /* the header */
    for (unsigned round = 1; round <= 3; round++) {
        for (uint64_t i = 0; i < COUNT; i++) {
            CHECK_OK(rig_put_whole(r, key_of(i), 1, SMALL));
        }
        CHECK_EQ(units_used(r), before + COUNT * 7);
        for (uint64_t i = 0; i < COUNT; i++) {
            CHECK_OK(rig_check(r, key_of(i), 1, SMALL));
            CHECK_OK(rig_delete(r, key_of(i)));
        }
        rig_pass(r, 4000);
        CHECK_EQ(units_used(r), before);
        check_sound(r);
    }
    rig_stop(r);
    CHECK_OK(rig_boot(r));
    CHECK_EQ(units_used(r), before);
    check_sound(r);
    rig_stop(r);
    rig_end(r);
}

TEST(units_of_an_overwritten_content_come_back)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    uint64_t before = 1; /* the header */
    CHECK_OK(rig_put_whole(r, key_of(1), 1, 64 * CHUNK_CELL));
    for (uint64_t ver = 2; ver < 40; ver++) {
        const struct rig_piece p = {key_of(1), ver, CHUNK_WHOLE, 0, 64 * CHUNK_CELL};
        CHECK_OK(rig_put(r, p));
    }
    CHECK_OK(rig_sync(r));
    rig_pass(r, 4000);
    CHECK_EQ(units_used(r), before + 64);
    CHECK_OK(rig_restart(r, true));
    CHECK_EQ(units_used(r), before + 64);
    CHECK_OK(rig_check(r, key_of(1), 39, 64 * CHUNK_CELL));
    check_sound(r);
    rig_stop(r);
    rig_end(r);
}

/* Holes of one unit each: a content takes as many as it needs. */
TEST(a_content_may_lie_in_many_places)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    const uint32_t big = 900;
    uint64_t free_units = CHUNK_GROW_UNITS - 1 - 3 * 1024; /* of the first step of growth */
    for (uint64_t i = 0; i < 3; i++) {
        CHECK_OK(rig_put_whole(r, key_of(i), 1, CHUNK_LENGTH_MAX));
    }
    while (free_units > 2 * (uint64_t)big) {
        uint64_t n = base_min(free_units - 2 * (uint64_t)big, 1024);
        CHECK_OK(rig_put_whole(r, key_of(1000 + free_units), 1, (uint32_t)n * CHUNK_CELL));
        free_units -= n;
    }
    for (uint64_t i = 0; i < free_units; i++) {
        CHECK_OK(rig_put_whole(r, key_of(100000 + i), 1, 100));
    }
    CHECK_EQ(r->store->extent->units, CHUNK_GROW_UNITS);
    disk_sim_capacity(r->machine, disk_sim_used_bytes(r->machine) + (10 << 20));
    for (uint64_t i = 0; i < free_units; i += 2) {
        CHECK_OK(rig_delete(r, key_of(100000 + i)));
    }
    rig_pass(r, 5000);
    CHECK_OK(rig_put_whole(r, key_of(5), 1, big * CHUNK_CELL));
    CHECK_EQ(r->store->extent->units, CHUNK_GROW_UNITS); /* there was no room to grow */
    CHECK_OK(rig_check(r, key_of(5), 1, big * CHUNK_CELL));
    CHECK_OK(rig_sync(r));
    CHECK_OK(rig_restart(r, true));
    CHECK_OK(rig_check(r, key_of(5), 1, big * CHUNK_CELL));
    for (uint64_t i = 1; i < free_units; i += 200) {
        CHECK_OK(rig_check(r, key_of(100000 + i), 1, 100));
    }
    check_sound(r);
    rig_stop(r);
    rig_end(r);
}

/* Who sends from a pinned content reads its bytes, whatever became of the chunk, and nobody gets
 * its units. */
TEST(pinned_units_are_nobody_elses)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    const uint32_t length = 16 * CHUNK_CELL;
    CHECK_OK(rig_put_whole(r, key_of(1), 1, length));
    struct chunk_pin pin = {.key = key_of(1), .length = length};
    CHECK_OK(chunk_store_pin(r->store, &pin));
    struct chunk_piece piece;
    unsigned count = 0;
    CHECK_EQ(chunk_pin_pieces(r->store, &pin, 0, &piece, 1, &count), length);
    for (uint64_t ver = 2; ver < 10; ver++) {
        CHECK_OK(rig_put_whole(r, key_of(1), ver, length));
        CHECK_OK(rig_put_whole(r, key_of(ver), 1, length));
        CHECK_OK(rig_sync(r));
        rig_pass(r, 2000);
    }
    uint8_t *got = mem_zalloc(length), *want = mem_zalloc(length);
    struct disk_req req = {
        .op = DISK_READ, .file = piece.file, .offset = piece.offset, .buf = got, .len = length};
    CHECK_EQ(disk_now(r->disk, &req), length);
    rig_fill(want, length, key_of(1), 1);
    CHECK_BYTES(got, want, length);
    CHECK_TRUE(units_used(r) >= 1 + 10 * 16);
    chunk_store_unpin(r->store, &pin);
    rig_pass(r, 3000);
    CHECK_EQ(units_used(r), 1 + 9 * 16);
    mem_free(got);
    mem_free(want);
    rig_stop(r);
    rig_end(r);
}

/* Cells of zeros lie nowhere: also while there is no container yet. */
TEST(zeros_need_no_container)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    uint8_t *bytes = mem_zalloc(SMALL);
    uint32_t crc[SMALL / CHUNK_CELL + 1];
    struct iovec iov = {.iov_base = bytes, .iov_len = SMALL};
    for (uint32_t at = 0; at < SMALL; at += CHUNK_CELL) {
        crc[at / CHUNK_CELL] = crc32c(0, bytes, base_min(CHUNK_CELL, SMALL - at));
    }
    r->update = (struct chunk_update){.key = key_of(1),
                                      .chain = 5,
                                      .kind = CHUNK_WHOLE,
                                      .identity = {.aepoch = 1, .ver = 1},
                                      .last_ver = 1,
                                      .new_length = SMALL,
                                      .crc = crc,
                                      .crc_count = ARRAY_COUNT(crc),
                                      .data = &iov,
                                      .data_count = 1};
    CHECK_OK(rig_wait(r, rig_update_in));
    CHECK_OK(rig_wait(r, rig_commit_in));
    mem_free(bytes);
    CHECK_OK(rig_sync(r));
    for (unsigned life = 0; life < 3; life++) {
        CHECK_EQ(r->store->extent->units, 0);
        CHECK_OK(rig_restart(r, false)); /* then it is read from the index */
        uint8_t *got = mem_alloc(SMALL), *zeros = mem_zalloc(SMALL);
        r->read = (struct chunk_read){
            .pin = {.key = key_of(1), .length = SMALL}, .verify = true, .to = got};
        CHECK_OK(rig_wait(r, rig_read_in));
        CHECK_BYTES(got, zeros, SMALL);
        mem_free(got);
        mem_free(zeros);
        check_sound(r);
    }
    rig_stop(r);
    rig_end(r);
}

/* ---- The medium ---- */

/* Whatever bit of whatever file is another: the store says so, or the chunk, or nothing was lost.
 */
static unsigned flip(const char *path, uint64_t bytes, uint64_t step)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    unsigned found = 0;
    for (uint64_t i = 0; i < 8; i++) {
        CHECK_OK(rig_put_whole(r, key_of(i), 1, 20 * CHUNK_CELL + 7));
    }
    CHECK_OK(rig_sync(r));
    rig_stop(r);
    for (uint64_t at = testing_seed() % step; at < bytes; at += step) {
        CHECK_OK(disk_sim_corrupt(r->machine, path, at, (uint8_t)(1u << (at % 8))));
        int rc = rig_boot(r);
        found += rc < 0 ? 1 : 0;
        if (rc < 0) {
            CHECK_ERR(rc, EIO);
        }
        for (uint64_t i = 0; rc == 0 && i < 8; i++) {
            int one = rig_check(r, key_of(i), 1, 20 * CHUNK_CELL + 7);
            if (one < 0) {
                CHECK_ERR(one, ERR_corrupt);
                found++;
            }
        }
        loop_sim_kill(r->loop);
        CHECK_OK(disk_sim_corrupt(r->machine, path, at, (uint8_t)(1u << (at % 8))));
    }
    rig_end(r);
    return found;
}

TEST(damaged_cells_are_found)
{
    CHECK_TRUE(flip("/data/space.0000", (8 * 21 + 1) * CHUNK_UNIT, 8 * 997) > 10);
}

/* One chunk, and somebody has found that all of its cells are damaged. */
static struct store_rig *with_found_damage(void)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    CHECK_OK(rig_put_whole(r, key_of(1), 1, SMALL));
    CHECK_OK(rig_sync(r));
    for (uint64_t unit = 1; unit <= 7; unit++) {
        CHECK_OK(disk_sim_corrupt(r->machine, "/data/space.0000", unit * CHUNK_UNIT, 1));
    }
    CHECK_ERR(rig_check(r, key_of(1), 1, SMALL), ERR_corrupt);
    return r;
}

/* That it is damaged is kept, though no record tells of it; and the store ends. */
TEST(found_damage_outlives_an_end)
{
    struct store_rig *r = with_found_damage();
    CHECK_EQ(r->damages, 1);
    rig_stop(r);
    CHECK_OK(rig_boot(r));
    struct chunk_store_info info;
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.damaged_count, 1);
    check_sound(r);
    CHECK_OK(rig_put(r, (struct rig_piece){key_of(1), 2, CHUNK_WHOLE, 0, SMALL}));
    CHECK_OK(rig_check(r, key_of(1), 2, SMALL));
    rig_stop(r);
    rig_end(r);
}

/* A start that has failed is ended like any other. */
TEST(a_failed_start_ends)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    CHECK_OK(rig_put_whole(r, key_of(1), 1, SMALL));
    rig_stop(r);
    disk_sim_fail(r->machine, DISK_LIST, "journal", 1, 0, -EIO);
    CHECK_RC(rig_boot(r), EIO);
    CHECK_TRUE(r->store != NULL);
    CHECK_RC(rig_wait(r, rig_stop_in), EIO);
    CHECK_OK(rig_wait(r, rig_free_in));
    loop_sim_kill(r->loop);
    disk_sim_heal(r->machine);
    CHECK_OK(rig_boot(r));
    CHECK_OK(rig_check(r, key_of(1), 1, SMALL));
    rig_stop(r);
    rig_end(r);
}

TEST(a_damaged_header_of_a_container_is_refused)
{
    CHECK_TRUE(flip("/data/space.0000", 512, 37) > 0);
}

/* One superblock of two may be damaged; of both, nothing is believed. */
TEST(a_damaged_index_is_never_believed)
{
    (void)flip("/data/index", 4096, 61);
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    CHECK_OK(rig_put_whole(r, key_of(1), 1, SMALL));
    rig_stop(r);
    CHECK_OK(disk_sim_corrupt(r->machine, "/data/index", 40, 1));
    CHECK_OK(disk_sim_corrupt(r->machine, "/data/index", 65536 + 40, 1));
    CHECK_ERR(rig_boot(r), ERR_corrupt);
    rig_end(r);
}

/* A journal that ends before what the index has of it, or begins behind it, has lost something. */
TEST(a_journal_that_is_gone_is_missed)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    CHECK_OK(rig_put_whole(r, key_of(1), 1, SMALL));
    CHECK_OK(rig_sync(r));
    loop_sim_kill(r->loop); /* the index has no checkpoint that knows of it */
    CHECK_OK(loop_sim_process(r->sim, "data", 1, &r->loop));
    CHECK_OK(disk_sim_open(r->machine, r->loop, &r->disk));
    struct disk_req req = {.op = DISK_LIST, .path = "/data/journal"};
    CHECK_TRUE(disk_now(r->disk, &req) > 0);
    struct disk_names *names = req.names;
    for (size_t i = 0; i < names->count; i++) {
        CLEANUP(mem_freep) char *path = mem_printf("/data/journal/%s", names->name[i]);
        struct disk_req remove = {.op = DISK_REMOVE, .path = path};
        CHECK_EQ(disk_now(r->disk, &remove), 0);
    }
    mem_free(names);
    loop_sim_kill(r->loop);
    int rc = rig_boot(r); /* nobody can know, for nothing says that there was more */
    if (rc == 0) {
        CHECK_RC(rig_check(r, key_of(1), 1, SMALL), ENOENT);
    }
    rig_end(r);
}

TEST(another_targets_container_is_refused)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    CHECK_OK(rig_put_whole(r, key_of(1), 1, SMALL));
    rig_stop(r);
    CHECK_OK(loop_sim_process(r->sim, "data", 1, &r->loop));
    CHECK_OK(disk_sim_open(r->machine, r->loop, &r->disk));
    struct disk_req req = {
        .op = DISK_RENAME, .path = "/data/space.0000", .path_to = "/data/space.0001"};
    CHECK_EQ(disk_now(r->disk, &req), 0);
    loop_sim_kill(r->loop);
    CHECK_RC(rig_boot(r), ERR_bad_value); /* it has a chunk, and lacks the container */
    loop_sim_kill(r->loop);
    rig_end(r);
}

/* A crash does not forget it either, when nothing but the journal can know. */
TEST(found_damage_outlives_a_crash)
{
    struct store_rig *r = with_found_damage();
    rig_pass(r, 1000);
    CHECK_TRUE(!r->store->extent->checkpointed); /* the index on the disk does not know it */
    CHECK_OK(rig_restart(r, true));
    struct chunk_store_info info;
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.damaged_count, 1);
    CHECK_ERR(rig_check(r, key_of(1), 1, SMALL), ERR_corrupt);
    check_sound(r);
    rig_stop(r);
    rig_end(r);
}

/* ---- What is not in memory ---- */

static uint64_t walk_count(struct store_rig *r)
{
    struct chunk_key from = {0};
    struct chunk_info info;
    uint64_t count = 0;
    int rc = 0;
    while ((rc = rig_next(r, from, &info)) == 0) {
        CHECK_EQ(info.committed.ver, 1);
        CHECK_EQ(info.allocated_bytes, 7 * CHUNK_UNIT);
        CHECK_EQ(info.key.data_id, key_of(count).data_id);
        count++;
        from = info.key;
        CHECK_TRUE(chunk_key_step(&from));
    }
    CHECK_RC(rc, ENOENT);
    return count;
}

static void fill(struct store_rig *r)
{
    for (uint64_t i = 0; i < COUNT; i++) {
        CHECK_OK(rig_put_whole(r, key_of(i), 1, SMALL));
    }
}

static void check_all(struct store_rig *r)
{
    struct chunk_store_info info;
    struct chunk_sum sum;
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.chunk_count, COUNT);
    CHECK_EQ(info.used_bytes, COUNT * 7 * CHUNK_UNIT);
    CHECK_TRUE(chunk_store_sum(r->store, 5, &sum));
    CHECK_EQ(sum.count, COUNT);
    CHECK_EQ(units_used(r), 1 + COUNT * 7);
    CHECK_EQ(walk_count(r), COUNT);
    check_sound(r);
}

TEST(what_nobody_uses_is_forgotten)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    struct chunk_sum before, after;
    rig_stop(r);
    r->opt.entry_bytes = 1;
    CHECK_OK(rig_boot(r));
    fill(r);
    CHECK_OK(rig_sync(r));
    rig_pass(r, 3000);
    CHECK_EQ(r->store->index.count, 0);
    CHECK_EQ(r->store->cached_bytes, 0);
    check_all(r);
    CHECK_TRUE(chunk_store_sum(r->store, 5, &before));
    for (uint64_t i = 0; i < COUNT; i++) {
        CHECK_OK(rig_check(r, key_of(i), 1, SMALL));
    }
    rig_stop(r);
    for (unsigned thorough = 0; thorough < 2; thorough++) {
        r->opt.thorough = thorough == 1;
        CHECK_OK(rig_boot(r));
        CHECK_EQ(r->store->index.count, 0); /* nothing of the chunks is read to start */
        check_all(r);
        CHECK_TRUE(chunk_store_sum(r->store, 5, &after));
        CHECK_BYTES(&after, &before, sizeof after);
        for (uint64_t i = 0; i < COUNT; i++) {
            CHECK_OK(rig_check(r, key_of(i), 1, SMALL));
        }
        rig_stop(r);
    }
    rig_end(r);
}

/* The index as version 1, or 2, had it. */
static void make_old(struct store_rig *r, uint8_t version)
{
    struct kv *kv = r->store->extent->index;
    struct kv_batch b;
    struct kv_need need = {0};
    struct kv_snapshot *snapshot = NULL;
    struct kv_slice value;
    uint8_t bytes[CHUNK_HEAD_BYTES_MAX];
    kv_batch_init(&b);
    CHECK_OK(kv_snapshot_new(kv, &snapshot));
    for (uint64_t i = 0; i < COUNT && version == 1; i++) {
        struct chunk_index_key k = chunk_key_part(key_of(i), CHUNK_PART_HEAD);
        CHECK_EQ(kv_get(snapshot, chunk_index_slice(&k), &need, &value), 1);
        const uint8_t *at = value.at;
        memcpy(bytes, at, 22);
        memcpy(bytes + 22, at + 26, value.len - 26); /* without the number of units */
        bytes[0] = 1;
        CHECK_OK(kv_batch_put(&b, chunk_index_slice(&k), kv_slice_of(bytes, value.len - 4)));
    }
    struct chunk_index_key about = chunk_key_about(), sum = chunk_key_sum(5);
    CHECK_EQ(kv_get(snapshot, chunk_index_slice(&about), &need, &value), 1);
    memcpy(bytes, value.at, CHUNK_ABOUT_BYTES);
    bytes[0] = version;
    size_t len = version == 1 ? CHUNK_ABOUT_KNOWN : CHUNK_ABOUT_BYTES;
    CHECK_OK(kv_batch_put(&b, chunk_index_slice(&about), kv_slice_of(bytes, len)));
    CHECK_EQ(kv_get(snapshot, chunk_index_slice(&sum), &need, &value), 1);
    memcpy(bytes, value.at, CHUNK_SUM_BYTES);
    if (version == 1) {
        CHECK_OK(kv_batch_delete(&b, chunk_index_slice(&sum)));
    } else {
        CHECK_OK(kv_batch_put(&b, chunk_index_slice(&sum), kv_slice_of(bytes, 16)));
    }
    CHECK_OK(kv_commit(kv, &b, kv_applied_index(kv)));
    kv_need_release(&need);
    snapshot = kv_snapshot_free(snapshot);
    kv_batch_fini(&b);
    r->store->extent->checkpointed = false;
}

static bool converted(uint8_t version)
{
    struct chunk_sum was, is;
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    fill(r);
    CHECK_OK(rig_sync(r));
    rig_pass(r, 1000);
    CHECK_TRUE(chunk_store_sum(r->store, 5, &was));
    make_old(r, version);
    rig_stop(r);
    r->opt.entry_bytes = 1;
    for (unsigned life = 0; life < 3; life++) {
        CHECK_OK(rig_boot(r));
        check_all(r);
        struct chunk_about about;
        struct chunk_index_key k = chunk_key_about();
        struct kv_need need = {0};
        struct kv_slice value;
        struct kv_snapshot *snapshot = NULL;
        CHECK_OK(kv_snapshot_new(r->store->extent->index, &snapshot));
        CHECK_EQ(kv_get(snapshot, chunk_index_slice(&k), &need, &value), 1);
        CHECK_OK(chunk_about_decode(value, &about));
        CHECK_EQ(about.version, CHUNK_ABOUT_VERSION);
        CHECK_TRUE(about.known > 0);
        CHECK_TRUE(chunk_store_sum(r->store, 5, &is) && chunk_sum_equal(&is, &was));
        kv_need_release(&need);
        snapshot = kv_snapshot_free(snapshot);
        for (uint64_t i = 0; i < COUNT; i++) {
            CHECK_OK(rig_check(r, key_of(i), 1, SMALL));
        }
        r->opt.thorough = true; /* and it is right */
        rig_stop(r);
    }
    rig_end(r);
    return true;
}

TEST(an_older_index_is_converted)
{
    CHECK_TRUE(converted(1));
    CHECK_TRUE(converted(2));
}

/* Bits of the index that do not say what its chunks say. */
TEST(a_contradiction_is_found)
{
    for (unsigned more = 0; more < 2; more++) {
        struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
        fill(r);
        CHECK_OK(rig_sync(r));
        struct kv *kv = r->store->extent->index;
        struct chunk_index_key k = chunk_key_slab(0);
        uint64_t bit = UINT64_C(1) << (more == 1 ? 60 : 5); /* of units 576 to 639; of the first */
        const struct kv_field f = {
            .offset = more == 1 ? 72 : 0, .op = KV_FIELD_ADD, .operand = more == 1 ? bit : -bit};
        struct kv_batch b;
        kv_batch_init(&b);
        CHECK_OK(kv_batch_upsert(&b, chunk_index_slice(&k), CHUNK_SLAB_UNITS / 8, &f, 1));
        CHECK_OK(kv_commit(kv, &b, kv_applied_index(kv)));
        kv_batch_fini(&b);
        r->store->extent->checkpointed = false;
        rig_stop(r);
        r->opt.thorough = true;
        CHECK_OK(rig_boot(r));
        struct chunk_store_info info;
        chunk_store_info(r->store, &info);
        CHECK_EQ(info.wrong, 1);
        CHECK_EQ(units_used(r), 1 + COUNT * 7 + more); /* what a chunk has is nobody else's */
        rig_stop(r);
        rig_end(r);
    }
}

/* ---- Pieces ---- */

static void check_same(const struct chunk_info *a, const struct chunk_info *b)
{
    CHECK_TRUE(chunk_identity_equal(a->committed, b->committed));
    CHECK_EQ(a->digest, b->digest);
    CHECK_EQ(a->length, b->length);
    CHECK_EQ(a->tgen, b->tgen);
    CHECK_EQ(a->flags, b->flags);
    CHECK_EQ(a->last_ver, b->last_ver);
    CHECK_EQ(a->allocated_bytes, b->allocated_bytes);
}

static uint32_t pieces(struct store_rig *r, struct chunk_key key, uint32_t length)
{
    struct chunk_pin pin = {.key = key, .length = length};
    struct chunk_piece piece[256];
    unsigned count = 0;
    int rc = chunk_store_pin(r->store, &pin);
    CHECK_OK(rc);
    CHECK_EQ(chunk_pin_pieces(r->store, &pin, 0, piece, 256, &count), length);
    chunk_store_unpin(r->store, &pin);
    return count;
}

TEST(what_lies_in_pieces_is_put_together)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    const uint32_t length = 100 * CHUNK_CELL;
    uint64_t ver = 1, other = 0;
    CHECK_OK(rig_put_whole(r, key_of(1), ver, length));
    for (uint32_t cell = 0; cell < 60; cell += 2) {
        CHECK_OK(rig_put(
            r, (struct rig_piece){key_of(1), ++ver, CHUNK_WRITE, cell * CHUNK_CELL, CHUNK_CELL}));
        CHECK_OK(rig_put_whole(r, key_of(2), ++other, CHUNK_CELL)); /* so that no two are beside */
    }
    CHECK_TRUE(pieces(r, key_of(1), length) > 32);
    struct chunk_info before, after;
    CHECK_OK(rig_look_up(r, key_of(1), &before));
    struct chunk_pin pin = {.key = key_of(1), .length = length};
    CHECK_OK(chunk_store_pin(r->store, &pin));
    rig_pass(r, 5000);
    CHECK_EQ(pieces(r, key_of(1), length), 1);
    CHECK_OK(rig_look_up(r, key_of(1), &after));
    check_same(&after, &before);
    CHECK_EQ(units_used(r), 1 + 2 * 100 + 1); /* those of the pin are there */
    chunk_store_unpin(r->store, &pin);
    CHECK_OK(rig_sync(r));
    rig_pass(r, 3000);
    CHECK_EQ(units_used(r), 1 + 100 + 1);
    CHECK_OK(rig_restart(r, true));
    CHECK_OK(rig_look_up(r, key_of(1), &after));
    check_same(&after, &before);
    CHECK_EQ(pieces(r, key_of(1), length), 1);
    check_sound(r);
    rig_stop(r);
    rig_end(r);
}

/* ---- Many ---- */

/* Kills and power cuts among many chunks: what was synced is there, sound, and nothing is counted
 * wrongly. */
TEST(many_chunks_survive)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    struct rand rand;
    uint64_t ver[COUNT] = {0}, synced[COUNT] = {0};
    rand_seed(&rand, testing_seed());
    for (unsigned life = 0; life < 12; life++) {
        for (unsigned i = 0; i < 60; i++) {
            uint64_t k = rand_below(&rand, COUNT);
            CHECK_OK(rig_put_whole(r, key_of(k), ++ver[k], (uint32_t)(1 + k * 3000)));
            if (rand_chance(&rand, 1, 12)) {
                CHECK_OK(rig_sync(r));
                memcpy(synced, ver, sizeof ver);
            }
        }
        CHECK_OK(rig_restart(r, rand_chance(&rand, 1, 2)));
        check_sound(r);
        for (uint64_t k = 0; k < COUNT; k++) {
            struct chunk_info info = {0};
            int rc = rig_look_up(r, key_of(k), &info);
            CHECK_TRUE(rc == 0 || synced[k] == 0);
            uint64_t newest = info.has_pending ? info.pending.ver : info.committed.ver;
            CHECK_TRUE(newest >= synced[k]);
            CHECK_TRUE(newest <= ver[k]);
            CHECK_EQ(info.flags & CHUNK_DAMAGED, 0);
            if (info.committed.ver > 0) {
                CHECK_OK(rig_check(r, key_of(k), info.committed.ver, (uint32_t)(1 + k * 3000)));
            }
            if (rc == 0 && info.has_pending) {
                CHECK_OK(rig_delete(r, key_of(k))); /* so that the next one begins anew */
                newest = 0;
            }
            ver[k] = synced[k] = newest;
        }
        CHECK_OK(rig_sync(r));
    }
    rig_stop(r);
    rig_end(r);
}

/* ---- Starts that end early ---- */

#define TORN 70u                           /* more than 64: a list of commits is behind them */
#define TORN_LENGTH (9 * CHUNK_CELL + 100) /* more than a record carries */

/* As after a power cut that took some of what was not stable: of every other chunk, bytes. */
static void put_torn(struct store_rig *r)
{
    uint64_t offset[TORN];
    for (uint64_t i = 0; i < TORN; i++) {
        CHECK_OK(rig_put_whole(r, key_of(i), 2, TORN_LENGTH));
        const struct chunk_entry *e = chunk_entry_get(r->store, key_of(i), false);
        offset[i] = e->committed->block[3] * CHUNK_UNIT;
    }
    rig_pass(r, 100);
    loop_sim_kill(r->loop);
    for (uint64_t i = 0; i < TORN; i += 2) {
        CHECK_OK(disk_sim_corrupt(r->machine, "/data/space.0000", offset[i], 1));
    }
}

/* Of some milliseconds; then the process is killed, and sometimes the power fails, too. */
static void start_a_little(struct store_rig *r, struct rand *rand)
{
    CHECK_OK(loop_sim_process(r->sim, "data", 1, &r->loop));
    CHECK_OK(disk_sim_open(r->machine, r->loop, &r->disk));
    r->env = (struct env){.loop = r->loop, .disk = r->disk};
    r->over = false;
    loop_sim_enter(r->loop, rig_open_in, r);
    (void)loop_sim_run(r->sim, rig_never, r, loop_sim_now_ns(r->sim) + rand_below(rand, 80000000));
    loop_sim_kill(r->loop);
    if (rand_chance(rand, 1, 2)) {
        disk_sim_crash(r->machine);
        loop_sim_reboot(r->sim, 1);
    }
}

/* What a start did not believe no later one believes, however early that one ended: what was stable
 * is there, or what came behind it, whole. */
TEST(what_a_start_does_not_believe_the_next_one_does_not_either)
{
    struct rand rand;
    rand_seed(&rand, testing_seed());
    for (unsigned seed = 0; seed < 30; seed++) {
        struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed() + seed);
        rig_stop(r);
        r->opt.flush_ms = 600000;
        CHECK_OK(rig_boot(r));
        for (uint64_t i = 0; i < TORN; i++) {
            CHECK_OK(rig_put_whole(r, key_of(i), 1, TORN_LENGTH));
        }
        CHECK_OK(rig_sync(r));
        put_torn(r);
        for (unsigned life = 0; life < 3; life++) {
            start_a_little(r, &rand);
        }
        CHECK_OK(rig_boot(r));
        for (uint64_t i = 0; i < TORN; i++) {
            struct chunk_info info;
            CHECK_OK(rig_look_up(r, key_of(i), &info));
            CHECK_EQ(info.flags & CHUNK_DAMAGED, 0);
            CHECK_TRUE(info.committed.ver == 1 || (info.committed.ver == 2 && i % 2 == 1));
            CHECK_OK(rig_check(r, key_of(i), info.committed.ver, TORN_LENGTH));
        }
        check_sound(r);
        rig_stop(r);
        rig_end(r);
    }
}
