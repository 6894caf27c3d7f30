/* tree/file_test.c -- tree/file.h, one thing at a time, on a simulated disk. */
#include "tree/file.h"

#include "base/env.h"
#include "base/mem.h"
#include "base/rand.h"
#include "disk/sim.h"
#include "loop/loop.h"
#include "loop/sim.h"
#include "testing/machine.h"
#include "testing/testing.h"
#include "tree/file_priv.h"
#include "tree/rig_tap_priv.h"

#include <string.h>
#include <xxhash.h>

#define PATH "/tree"
#define UNIT UINT64_C(4096)
#define BYTES_MAX (64 * UNIT)

/* Stands before the disk: one request is carried out, and said to have failed. */
struct tap {
    struct rig_tap tap;
    uint64_t lie_nth; /* write from now; 0: none */
    int lie_rc;
    struct disk_req lie, *about;
};

struct rig {
    struct testing_machine machine;
    struct env env;
    struct tap tap;
    struct tree_file_options opt;
    struct tree_file *file;
    struct tree_file_found found;
    struct err err;
    int rc;
    bool over;
    uint8_t *bytes; /* aligned, BYTES_MAX */
    struct tree_file_write write;
    struct tree_file_read read;
    struct tree_file_commit commit;
    struct tree_file_stop stop;
    struct tree_file_info info;
};

static void tap_lied(struct disk_req *req, int64_t rc)
{
    struct tap *t = container_of(req, struct tap, lie);
    CHECK(rc >= 0);
    t->about->done(t->about, t->lie_rc);
}

static struct disk_req *tap_seen(struct rig_tap *tap, struct disk_req *req, bool now)
{
    struct tap *t = container_of(tap, struct tap, tap);
    if (now || req->op != DISK_WRITE || t->lie_nth == 0 || --t->lie_nth > 0) {
        return req;
    }
    t->about = req;
    t->lie = *req;
    t->lie.done = tap_lied;
    return &t->lie;
}

/* ---- a process with a file ---- */

static void create_in(void *ctx)
{
    struct rig *r = ctx;
    struct tree_super first = {.fanout = 32, .app_len = 2, .app = "ab"};
    r->rc = tree_file_create(&r->opt, &first, &r->err);
}

static void open_in(void *ctx)
{
    struct rig *r = ctx;
    r->err = (struct err){0};
    r->rc = tree_file_open(&r->opt, &r->file, &r->found, &r->err);
    r->bytes = mem_aligned(UNIT, BYTES_MAX);
    CHECK(r->bytes != NULL);
}

static void start(struct rig *r)
{
    testing_machine_start(&r->machine, "tree", &r->env);
    r->tap.tap = (struct rig_tap){
        .base = {.ops = &rig_tap_ops, .loop = r->env.loop}, .below = r->env.disk, .seen = tap_seen};
    r->env.disk = &r->tap.tap.base;
    r->opt.env = &r->env;
    r->opt.path = PATH;
    r->file = NULL;
}

static void reopen(struct rig *r, bool power)
{
    testing_machine_kill(&r->machine, power);
    start(r);
    loop_sim_enter(r->machine.loop, open_in, r);
}

static struct rig *rig_new(uint64_t seed, const struct tree_file_options *opt)
{
    struct rig *r = mem_zalloc(sizeof *r);
    CHECK(r != NULL);
    testing_machine_init(&r->machine, seed);
    r->opt = *opt;
    start(r);
    loop_sim_enter(r->machine.loop, create_in, r);
    CHECK_OK(r->rc);
    reopen(r, true);
    CHECK_OK(r->rc);
    return r;
}

static struct rig *rig_free(struct rig *r)
{
    if (r != NULL) {
        testing_machine_kill(&r->machine, false);
        testing_machine_fini(&r->machine);
        mem_free(r);
    }
    return NULL;
}
DEFINE_FREEP(rig)

static const struct tree_file_options small = {.grow_bytes = 32 * UNIT, .punch_bytes = 8 * UNIT};

static bool is_over(void *ctx)
{
    return ((struct rig *)ctx)->over;
}

/* Runs `fn`, and the world until it is over. */
static int wait_for(struct rig *r, void (*fn)(void *ctx))
{
    r->over = false;
    loop_sim_enter(r->machine.loop, fn, r);
    CHECK_TRUE(testing_machine_until(&r->machine, is_over, r, 60000));
    return r->rc;
}

static void over(struct rig *r, int rc)
{
    r->rc = rc;
    r->over = true;
}

/* ---- blocks with contents ---- */

/* A header of 512 bytes whose checksum is bound to block and birth, as nodes have it. */
static void content(uint8_t *at, size_t len, uint64_t id)
{
    for (size_t i = 0; i < len; i += 8) {
        uint64_t v = (id * 1000003 + i) * UINT64_C(0x9e3779b97f4a7c15);
        memcpy(at + i, &v, 8);
    }
}

static uint64_t header_sum(const uint8_t *at, uint64_t block, uint64_t birth)
{
    return XXH3_64bits_withSeed(at, 512, block * 31 + birth);
}

static void write_done(struct tree_file_write *w, int rc)
{
    over(container_of(w, struct rig, write), rc);
}

static void write_in(void *ctx)
{
    struct rig *r = ctx;
    tree_file_write(r->file, &r->write);
}

struct put {
    uint64_t block, birth, id, version;
    uint32_t units;
    bool append;
};

static int put(struct rig *r, struct put p)
{
    content(r->bytes, (size_t)p.units * UNIT, p.id);
    uint64_t birth = p.birth != 0 ? p.birth : tree_file_number(r->file);
    r->write = (struct tree_file_write){.done = write_done,
                                        .block = p.block,
                                        .birth = birth,
                                        .version = p.version,
                                        .buf = r->bytes,
                                        .len = (size_t)p.units * UNIT,
                                        .header_len = 512,
                                        .checksum = header_sum(r->bytes, p.block, birth),
                                        .level = 1,
                                        .append = p.append};
    return wait_for(r, write_in);
}

static void read_done(struct tree_file_read *q, int rc)
{
    over(container_of(q, struct rig, read), rc);
}

static void read_in(void *ctx)
{
    struct rig *r = ctx;
    tree_file_read(r->file, &r->read);
}

static int get(struct rig *r, uint64_t block, struct tree_space_extent x)
{
    r->read = (struct tree_file_read){.done = read_done,
                                      .block = block,
                                      .extent = x,
                                      .len = (uint32_t)tree_space_bytes(x),
                                      .buf = r->bytes};
    return wait_for(r, read_in);
}

static void check_extent(struct rig *r, struct tree_space_extent x, uint64_t id)
{
    uint8_t expected[UNIT];
    content(expected, UNIT, id);
    CHECK_OK(get(r, 0, x));
    CHECK_BYTES(r->bytes, expected, UNIT);
}

static struct tree_space_extent where(struct rig *r, uint64_t block)
{
    struct tree_file_place p;
    CHECK_OK(tree_file_find(r->file, block, &p));
    return p.extent;
}

static void new_in(void *ctx)
{
    struct rig *r = ctx;
    CHECK_OK(tree_file_block_new(r->file, 1, &r->write.block));
}

static uint64_t block_new(struct rig *r)
{
    loop_sim_enter(r->machine.loop, new_in, r);
    return r->write.block;
}

static uint64_t block_put(struct rig *r, uint64_t id, uint32_t units)
{
    uint64_t block = block_new(r);
    CHECK_OK(put(r, (struct put){.block = block, .id = id, .units = units}));
    return block;
}

static void free_in(void *ctx)
{
    struct rig *r = ctx;
    CHECK_OK(tree_file_block_free(r->file, r->write.block, 0));
}

static void block_free(struct rig *r, uint64_t block)
{
    r->write.block = block;
    loop_sim_enter(r->machine.loop, free_in, r);
}

static void commit_done(struct tree_file_commit *c, int rc)
{
    over(container_of(c, struct rig, commit), rc);
}

static void commit_in(void *ctx)
{
    struct rig *r = ctx;
    tree_file_commit(r->file, &r->commit);
}

static void freeze_in(void *ctx)
{
    struct rig *r = ctx;
    uint64_t k = 0;
    r->rc = tree_file_freeze(r->file, &k);
    CHECK_TRUE(r->rc < 0 || k + 1 == tree_file_number(r->file));
}

static int commit_frozen(struct rig *r)
{
    r->commit.done = commit_done;
    return wait_for(r, commit_in);
}

static int commit(struct rig *r)
{
    loop_sim_enter(r->machine.loop, freeze_in, r);
    return r->rc < 0 ? r->rc : commit_frozen(r);
}

static void stop_done(struct tree_file_stop *s)
{
    over(container_of(s, struct rig, stop), 0);
}

static void stop_in(void *ctx)
{
    struct rig *r = ctx;
    r->stop.done = stop_done;
    tree_file_stop(r->file, &r->stop);
}

static void info_in(void *ctx)
{
    struct rig *r = ctx;
    CHECK_TRUE(tree_file_sound(r->file));
    tree_file_info(r->file, &r->info);
}

static void info(struct rig *r)
{
    loop_sim_enter(r->machine.loop, info_in, r);
}

/* ---- tests ---- */

TEST(file_keeps_what_a_checkpoint_names)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1, &small);
    CHECK_TRUE(r->found.super.checkpoint == 1 && r->found.older == 0 && !r->found.fell_back);
    CHECK_TRUE(r->found.super.fanout == 32 && memcmp(r->found.super.app, "ab", 3) == 0);
    uint64_t a = block_put(r, 7, 3);
    struct tree_space_extent first = where(r, a);
    CHECK_OK(put(r, (struct put){.block = a, .id = 8, .units = 1, .append = true}));
    CHECK_OK(put(r, (struct put){.id = 9, .units = 2}));
    struct tree_btt_piece piece = {.offset = tree_space_offset(r->write.extent),
                                   .len = 2 * UNIT - 5,
                                   .checksum = 99,
                                   .birth = tree_file_number(r->file),
                                   .owner = "me"};
    r->commit =
        (struct tree_file_commit){.super = {.applied_index = 55, .root_block = a, .height = 1},
                                  .piece = &piece,
                                  .piece_count = 1,
                                  .drops = "drop",
                                  .drops_len = 4};
    CHECK_OK(commit(r));
    CHECK_TRUE(r->commit.written_bytes == 5 * UNIT);
    reopen(r, true);
    CHECK_OK(r->rc);
    CHECK_EQ(r->found.super.applied_index, 55);
    CHECK_EQ(r->found.older, 1);
    CHECK_EQ(r->found.piece_count, 1);
    CHECK_BYTES(r->found.piece, &piece, sizeof piece);
    CHECK_BYTES(r->found.drops, "drop", 4);
    struct tree_file_place p;
    struct tree_space_extent older[2];
    CHECK_OK(tree_file_find(r->file, a, &p));
    CHECK_TRUE(p.older_count == 1 && p.level == 1 && p.header_len == 512);
    CHECK_EQ(tree_file_older(r->file, a, older, 2), 1);
    CHECK_TRUE(older[0].unit == first.unit && older[0].count == 3);
    check_extent(r, older[0], 7);
    check_extent(r, p.extent, 8);
    check_extent(r, (struct tree_space_extent){piece.offset / UNIT, 2}, 9);
    info(r);
    CHECK_TRUE(r->info.direct && r->info.newest == 2 && r->info.older == 1);
    CHECK_RC(tree_file_find(r->file, a + 1, &p), ENOENT);
}

TEST(file_is_made_whole_or_not_at_all)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1, &small);
    loop_sim_enter(r->machine.loop, create_in, r);
    CHECK_RC(r->rc, EEXIST);
    for (unsigned op = 0; op < 3; op++) {
        static const enum disk_op ops[] = {DISK_WRITE, DISK_SYNC_ALL, DISK_RENAME};
        struct rig *other = mem_zalloc(sizeof *other);
        testing_machine_init(&other->machine, op);
        other->opt = small;
        start(other);
        disk_sim_fail(other->machine.disk, ops[op], PATH, 1, 1, -EIO);
        loop_sim_enter(other->machine.loop, create_in, other);
        CHECK_RC(other->rc, EIO);
        CHECK_TRUE(strstr(other->err.text, PATH) != NULL);
        reopen(other, true);
        CHECK_RC(other->rc, ENOENT);
        loop_sim_enter(other->machine.loop, create_in, other);
        CHECK_OK(other->rc);
        reopen(other, true);
        CHECK_OK(other->rc);
        rig_free(other);
    }
}

TEST(file_read_error_names_block_and_place)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1, &small);
    uint64_t a = block_put(r, 7, 4);
    disk_sim_fail(r->machine.disk, DISK_READ, PATH, 1, FILE_READ_TRIES, -EIO);
    CHECK_RC(get(r, a, where(r, a)), EIO);
    CHECK_TEXT(r->read.err.text, "block 1, read of 16384 bytes at 4096+0: Input/output error");
    CHECK_OK(get(r, a, where(r, a)));
}

/* Others wait meanwhile; what the disk says for good is not asked again. */
TEST(file_reads_that_fail_are_tried_again)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1, &small);
    uint64_t a = block_put(r, 7, 4);
    for (unsigned count = 1; count < FILE_READ_TRIES; count++) {
        uint64_t begin = loop_now_ns(r->env.loop);
        disk_sim_fail(r->machine.disk, DISK_READ, PATH, 1, count, -EIO);
        CHECK_OK(get(r, a, where(r, a)));
        uint64_t took = loop_now_ns(r->env.loop) - begin;
        CHECK_TRUE(took >= ((FILE_READ_AGAIN_NS << count) - FILE_READ_AGAIN_NS));
        CHECK_TRUE(took < 2 * (FILE_READ_AGAIN_NS << count));
    }
    disk_sim_fail(r->machine.disk, DISK_READ, PATH, 1, 1, -ENXIO);
    CHECK_RC(get(r, a, where(r, a)), ENXIO);
}

/* XOR with both: what lies at `at` becomes `to`. */
static void overwrite(struct rig *r, uint64_t at, const uint8_t *from, const uint8_t *to)
{
    for (uint64_t i = 0; i < 512; i++) {
        uint8_t x = from[i] ^ to[i];
        CHECK_OK(x == 0 ? 0 : disk_sim_corrupt(r->machine.disk, PATH, at + i, x));
    }
}

/* The header of another block, or an older one of the same: not what the table expects. */
TEST(file_tells_swapped_and_lost_writes)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1, &small);
    uint64_t a = block_put(r, 1, 1), b = block_put(r, 2, 1);
    CHECK_OK(commit(r));
    CHECK_OK(put(r, (struct put){.block = a, .id = 3, .units = 1}));
    struct tree_file_place pa, pb;
    uint8_t one[UNIT], two[UNIT], three[UNIT];
    content(one, UNIT, 1);
    content(two, UNIT, 2);
    content(three, UNIT, 3);
    CHECK_OK(tree_file_find(r->file, a, &pa));
    CHECK_OK(tree_file_find(r->file, b, &pb));
    CHECK_EQ(pa.birth, pb.birth + 1);
    CHECK_OK(get(r, a, pa.extent));
    CHECK_EQ(header_sum(r->bytes, a, pa.birth), pa.checksum);
    overwrite(r, tree_space_offset(pa.extent), three, two); /* misdirected */
    CHECK_OK(get(r, a, pa.extent));
    CHECK_NE(header_sum(r->bytes, a, pa.birth), pa.checksum);
    overwrite(r, tree_space_offset(pa.extent), two, one); /* lost: the one before */
    CHECK_OK(get(r, a, pa.extent));
    CHECK_NE(header_sum(r->bytes, a, pa.birth), pa.checksum);
    overwrite(r, tree_space_offset(pb.extent), two, three);
    CHECK_OK(get(r, b, pb.extent));
    CHECK_NE(header_sum(r->bytes, b, pb.birth), pb.checksum);
}

static void oldest_in(void *ctx)
{
    struct rig *r = ctx;
    tree_file_oldest(r->file, 20);
}

TEST(file_keeps_extents_for_snapshots)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1, &small);
    uint64_t a = block_put(r, 7, 2);
    struct tree_space_extent x = where(r, a);
    CHECK_OK(put(r, (struct put){.block = a, .id = 8, .units = 2, .version = 20}));
    for (uint64_t i = 0; i < 30; i++) { /* would use it if they could */
        CHECK_OK(put(r, (struct put){.block = a, .id = 10 + i, .units = 2, .version = 20}));
        CHECK_OK(i % 10 == 0 ? commit(r) : 0);
    }
    check_extent(r, x, 7);
    info(r);
    CHECK_TRUE(r->info.space.deferred >= 60);
    loop_sim_enter(r->machine.loop, oldest_in, r);
    CHECK_OK(commit(r));
    CHECK_OK(commit(r));
    CHECK_OK(commit(r));
    info(r);
    CHECK_TRUE(r->info.space.deferred <= 1); /* an index */
}

static void pin_in(void *ctx)
{
    struct rig *r = ctx;
    r->rc = tree_file_pin(r->file, r->write.version);
}

static int pin(struct rig *r, uint64_t k)
{
    r->write.version = k;
    loop_sim_enter(r->machine.loop, pin_in, r);
    return r->rc;
}

static void unpin_in(void *ctx)
{
    struct rig *r = ctx;
    tree_file_unpin(r->file, r->write.version);
}

TEST(file_pins_checkpoints)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1, &small);
    uint64_t a = block_put(r, 7, 2);
    CHECK_OK(commit(r));
    struct tree_space_extent x = where(r, a);
    CHECK_RC(pin(r, 3), ENOENT);
    CHECK_OK(pin(r, 2));
    CHECK_OK(pin(r, 2));
    for (uint64_t i = 0; i < 30; i++) {
        CHECK_OK(put(r, (struct put){.block = a, .id = 10 + i, .units = 2}));
        CHECK_OK(i % 5 == 0 ? commit(r) : 0);
    }
    check_extent(r, x, 7);
    r->write.version = 2;
    loop_sim_enter(r->machine.loop, unpin_in, r);
    CHECK_OK(put(r, (struct put){.block = a, .id = 77, .units = 2}));
    check_extent(r, x, 7);
    info(r);
    uint64_t deferred = r->info.space.deferred;
    r->write.version = 2;
    loop_sim_enter(r->machine.loop, unpin_in, r);
    CHECK_RC(pin(r, 2), ENOENT);
    info(r);
    CHECK_EQ(r->info.space.deferred, deferred - 4); /* x, a page of the table, the index */
}

/* A step is not to be had, what is needed is; then not even that, which changes nothing. */
TEST(file_grows_by_what_there_is)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1, &small);
    uint64_t a = block_put(r, 7, 16);
    info(r);
    uint64_t used = disk_sim_used_bytes(r->machine.disk);
    CHECK_EQ(r->info.size_bytes, 64 * UNIT);
    disk_sim_capacity(r->machine.disk, used + 10 * UNIT);
    uint64_t b = block_put(r, 8, 36);
    info(r);
    CHECK_EQ(r->info.size_bytes, 70 * UNIT);
    CHECK_RC(put(r, (struct put){.block = a, .id = 9, .units = 16}), ENOSPC);
    check_extent(r, where(r, a), 7);
    check_extent(r, where(r, b), 8);
    disk_sim_capacity(r->machine.disk, used + 1000 * UNIT);
    CHECK_OK(put(r, (struct put){.block = a, .id = 9, .units = 16}));
    CHECK_OK(commit(r));
    check_extent(r, where(r, a), 9);
}

TEST(file_gives_space_back)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1, &small);
    uint64_t block[40];
    for (unsigned i = 0; i < 40; i++) {
        block[i] = block_put(r, i + 1, 16);
    }
    CHECK_OK(commit(r));
    uint64_t full = disk_sim_used_bytes(r->machine.disk);
    for (unsigned i = 0; i < 38; i++) { /* the last ones keep the end where it is */
        block_free(r, block[i]);
    }
    for (unsigned i = 0; i < 3; i++) {
        CHECK_OK(commit(r));
        wait_for(r, stop_in);
    }
    info(r);
    CHECK_TRUE(r->info.space.punched >= 560);
    CHECK_TRUE(disk_sim_used_bytes(r->machine.disk) < full - 560 * UNIT);
    CHECK_TRUE(r->info.size_bytes >= 640 * UNIT);
    block_free(r, block[38]);
    block_free(r, block[39]);
    for (unsigned i = 0; i < 4; i++) {
        CHECK_OK(commit(r));
        (void)block_put(r, 5, 1);
        CHECK_OK(commit(r));
        testing_machine_steps(&r->machine, 100);
    }
    info(r);
    CHECK_TRUE(r->info.size_bytes <= 96 * UNIT);
}

/* Others have filled the disk: checkpoints go on in what was kept for them. */
TEST(file_keeps_room_ahead)
{
    struct tree_file_options opt = small;
    opt.ahead_bytes = 24 * UNIT;
    CLEANUP(rig_freep) struct rig *r = rig_new(1, &opt);
    uint64_t block[4];
    for (unsigned i = 0; i < 4; i++) {
        block[i] = block_put(r, i + 1, 16);
    }
    CHECK_OK(commit(r));
    testing_machine_steps(&r->machine, 100);
    info(r);
    CHECK_TRUE(r->info.space.free >= 24);
    disk_sim_capacity(r->machine.disk, disk_sim_used_bytes(r->machine.disk));
    for (unsigned i = 0; i < 20; i++) {
        CHECK_OK(put(r, (struct put){.block = block[i % 4], .id = 10 + i, .units = 2}));
        CHECK_OK(commit(r));
        testing_machine_steps(&r->machine, 100);
    }
    info(r);
    CHECK_EQ(r->info.space.punched, 0);
    CHECK_TRUE(r->info.space.free >= 24);
    for (unsigned i = 0; i < 4; i++) {
        check_extent(r, where(r, block[i]), 26 + i);
    }
}

static void thaw_in(void *ctx)
{
    struct rig *r = ctx;
    tree_file_thaw(r->file);
}

TEST(file_goes_on_after_a_checkpoint_that_was_not)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1, &small);
    uint64_t a = block_put(r, 7, 1);
    CHECK_OK(commit(r)); /* 2 */
    CHECK_EQ(tree_file_number(r->file), 3);
    loop_sim_enter(r->machine.loop, freeze_in, r);
    loop_sim_enter(r->machine.loop, freeze_in, r);
    CHECK_RC(r->rc, EALREADY);
    CHECK_OK(put(r, (struct put){.block = a, .id = 8, .units = 1})); /* birth 4 */
    CHECK_OK(put(r, (struct put){.block = a, .id = 9, .units = 1, .birth = 3}));
    check_extent(r, where(r, a), 8); /* the live one is newer */
    loop_sim_enter(r->machine.loop, thaw_in, r);
    CHECK_EQ(tree_file_number(r->file), 5); /* not to the place of 2 */
    CHECK_OK(commit(r));
    CHECK_EQ(r->commit.super.checkpoint, 5);
    reopen(r, true);
    CHECK_TRUE(r->rc == 0 && r->found.super.checkpoint == 5 && r->found.older == 2);
    check_extent(r, where(r, a), 8);
}

/* The superblock was written, and said not to be: either is found, whole, whatever comes between.
 */
TEST(file_keeps_both_when_a_superblock_is_in_doubt)
{
    for (uint64_t seed = 0; seed < 6; seed++) {
        CLEANUP(rig_freep) struct rig *r = rig_new(seed, &small);
        uint64_t a = block_put(r, 7, 2);
        CHECK_OK(commit(r));
        CHECK_OK(put(r, (struct put){.block = a, .id = 8, .units = 2}));
        r->tap.lie_nth = 3; /* page, index, superblock */
        r->tap.lie_rc = -ENOSPC;
        CHECK_RC(commit(r), ENOSPC);
        CHECK_EQ(r->tap.lie_nth, 0);
        CHECK_OK(tree_file_failed(r->file, NULL));
        for (uint64_t i = 0; i < 12; i++) {
            CHECK_OK(put(r, (struct put){.block = a, .id = 20 + i, .units = 2}));
        }
        disk_sim_crash_mode(r->machine.disk, DISK_SIM_KEEP_ALL);
        reopen(r, true);
        CHECK_OK(r->rc);
        CHECK_TRUE(!r->found.fell_back && r->found.super.checkpoint == 3);
        check_extent(r, where(r, a), 8);
        CHECK_OK(commit(r));
    }
}

/* What a life has found must be what the next one finds, although the kernel had it as clean. */
TEST(file_does_not_believe_memory_after_a_failed_sync)
{
    for (uint64_t seed = 0; seed < 60; seed++) {
        CLEANUP(rig_freep) struct rig *r = rig_new(seed, &small);
        uint64_t a = block_put(r, 7, 1);
        CHECK_OK(commit(r));
        CHECK_OK(put(r, (struct put){.block = a, .id = 8, .units = 1}));
        disk_sim_fail(r->machine.disk, DISK_SYNC, PATH, 2, 1, -EIO);
        CHECK_RC(commit(r), EIO);
        disk_sim_heal(r->machine.disk);
        struct err e = {0};
        CHECK_RC(tree_file_failed(r->file, &e), ERR_failed_before);
        CHECK_TEXT(e.text, "sync failed (Input/output error) at checkpoint 3: "
                           "nothing is written any more");
        CHECK_RC(put(r, (struct put){.block = a, .id = 9, .units = 1}), ERR_failed_before);
        CHECK_RC(commit(r), ERR_failed_before);
        reopen(r, false);
        CHECK_OK(r->rc);
        uint64_t k = r->found.super.checkpoint;
        disk_sim_crash_mode(r->machine.disk, DISK_SIM_LOSE_ALL);
        reopen(r, true);
        CHECK_OK(r->rc);
        CHECK_EQ(r->found.super.checkpoint, k);
        check_extent(r, where(r, a), k == 3 ? 8 : 7);
    }
}

static void many_in(void *ctx)
{
    struct rig *r = ctx;
    uint64_t block = 0;
    while (block < 65020) {
        CHECK_OK(tree_file_block_new(r->file, 0, &block));
    }
}

/* Beyond one part of the upper level, also for a checkpoint that was begun before. */
TEST(file_has_many_blocks)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1, &small);
    loop_sim_enter(r->machine.loop, many_in, r);
    uint64_t a = block_put(r, 7, 1);
    loop_sim_enter(r->machine.loop, freeze_in, r);
    uint64_t b = a;
    while (b < 65030) {
        b = block_new(r);
    }
    CHECK_OK(put(r, (struct put){.block = a, .id = 8, .units = 1, .append = true, .birth = 2}));
    CHECK_OK(commit_frozen(r));
    CHECK_OK(put(r, (struct put){.block = b, .id = 9, .units = 1}));
    CHECK_OK(commit(r));
    reopen(r, true);
    CHECK_OK(r->rc);
    CHECK_TRUE(tree_file_block_limit(r->file) > b);
    check_extent(r, where(r, a), 8);
    check_extent(r, where(r, b), 9);
}

TEST(file_opened_for_reading_changes_nothing)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1, &small);
    uint64_t a = block_put(r, 7, 1);
    CHECK_OK(commit(r));
    CHECK_OK(put(r, (struct put){.block = a, .id = 8, .units = 1}));
    CHECK_OK(commit(r));
    uint64_t at = r->commit.super.table.offset;
    testing_machine_kill(&r->machine, true);
    CHECK_OK(disk_sim_corrupt(r->machine.disk, PATH, at, 1));
    r->opt.read_only = true;
    start(r);
    disk_sim_fail(r->machine.disk, DISK_WRITE, NULL, 1, 0, -EIO);
    loop_sim_enter(r->machine.loop, open_in, r);
    CHECK_OK(r->rc);
    CHECK_TRUE(r->found.fell_back && r->found.super.checkpoint == 2);
    check_extent(r, where(r, a), 7);
    CHECK_RC(commit(r), EROFS);
}

/* What the newest one names is sound, but its owner does not like what it found there. From then on
 * it is gone. */
TEST(file_is_opened_at_the_older_checkpoint)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1, &small);
    uint64_t a = block_put(r, 7, 1);
    r->commit.super.applied_index = 70;
    CHECK_OK(commit(r)); /* 2 */
    CHECK_OK(put(r, (struct put){.block = a, .id = 8, .units = 1}));
    r->commit.super.applied_index = 80;
    CHECK_OK(commit(r)); /* 3 */
    reopen(r, true);
    CHECK_TRUE(r->rc == 0 && r->found.super.checkpoint == 3 && r->found.older_index == 70);
    r->opt.older = true;
    reopen(r, false);
    CHECK_OK(r->rc);
    CHECK_TRUE(r->found.fell_back && r->found.super.checkpoint == 2 && r->found.older == 0);
    CHECK_EQ(r->found.super.applied_index, 70);
    CHECK_TEXT(r->found.note.text, "checkpoint 3 is not wanted: data failed verification");
    check_extent(r, where(r, a), 7);
    CHECK_EQ(tree_file_number(r->file), 5);
    reopen(r, false); /* there is only one now */
    CHECK_RC(r->rc, ERR_corrupt);
    r->opt.older = false;
    reopen(r, true);
    CHECK_TRUE(r->rc == 0 && r->found.super.checkpoint == 2 && !r->found.fell_back);
    CHECK_EQ(r->found.older_index, 0);
    check_extent(r, where(r, a), 7);
}

/* One bit of each third byte of everything that an open looks at. */
TEST(file_sees_flipped_bits)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1, &small);
    uint64_t a = block_put(r, 7, 1);
    r->commit = (struct tree_file_commit){.drops = "drop", .drops_len = 4};
    CHECK_OK(commit(r));
    CHECK_OK(put(r, (struct put){.block = a, .id = 8, .units = 1}));
    CHECK_OK(commit(r));
    struct tree_super s = r->commit.super;
    uint64_t places[] = {0, TREE_SUPER_SECOND, s.table.offset, s.drops.offset};
    uint64_t len[] = {TREE_SUPER_USED_BYTES, TREE_SUPER_USED_BYTES, s.table.len, s.drops.len};
    r->opt.read_only = true;
    for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
        for (uint64_t at = 0; at < len[i]; at += 3) {
            uint8_t bit = (uint8_t)(1u << (at / 3 + i) % 8);
            testing_machine_kill(&r->machine, true);
            CHECK_OK(disk_sim_corrupt(r->machine.disk, PATH, places[i] + at, bit));
            start(r);
            loop_sim_enter(r->machine.loop, open_in, r);
            CHECK_OK(r->rc);
            CHECK_TRUE(r->found.note.code < 0 && r->found.note.text[0] != 0);
            uint64_t k = r->found.super.checkpoint;
            CHECK_EQ(k, i == 0 ? 3 : 2);
            check_extent(r, where(r, a), k == 3 ? 8 : 7);
            CHECK_OK(disk_sim_corrupt(r->machine.disk, PATH, places[i] + at, bit));
        }
    }
}
