/*
 * chunk/scan_test.c -- damage and failing disks: every bit of a chunk's file flipped, the file cut
 * at every byte, every request to the disk failing once or for ever. Never wrong data.
 */
#include "base/crc32c.h"
#include "base/env.h"
#include "base/mem.h"
#include "chunk/hold.h"
#include "chunk/read.h"
#include "chunk/store.h"
#include "disk/disk.h"
#include "disk/sim.h"
#include "loop/loop.h"
#include "loop/sim.h"
#include "testing/testing.h"

#include <stdio.h>
#include <string.h>

#define LENGTH_MAX 16384u
#define VERSIONS 5u
#define SUPER_SIZE 4608u
#define FILE_MAX 65536u

/* `extent` without room for what nobody uses at the moment; its starts compare the whole index. */
#define FORGETFUL ((enum chunk_engine)100)

struct bench {
    enum chunk_engine engine;
    struct chunk_start start;
    bool started;
    struct loop_sim *sim;
    struct disk_sim *machine;
    struct loop *loop;
    struct disk *disk;
    struct env env;
    struct chunk_store *store;
    struct chunk_user user;
    unsigned failures, damages;
    bool format;
    int rc;
    uint8_t bytes[VERSIONS + 1][LENGTH_MAX]; /* of each version */
    uint32_t length[VERSIONS + 1];
};

static const struct uuid cluster = {.bytes = "cluster of tests"};
static const struct chunk_key the_key = {.data_id = 9, .index = 1};

static void user_failed(struct chunk_user *u, int rc, const char *reason)
{
    (void)rc;
    (void)reason;
    container_of(u, struct bench, user)->failures++;
}

static void user_damaged(struct chunk_user *u, struct chunk_key key)
{
    (void)key;
    container_of(u, struct bench, user)->damages++;
}

static const struct chunk_user_ops user_ops = {.failed = user_failed, .damaged = user_damaged};

static void store_started(struct chunk_start *start, int rc)
{
    struct bench *b = container_of(start, struct bench, start);
    b->started = true;
    b->rc = rc;
}

static void open_now(void *ctx)
{
    struct bench *b = ctx;
    bool forgets = b->engine == FORGETFUL;
    struct chunk_options opt = {.env = &b->env,
                                .engine = forgets ? CHUNK_ENGINE_EXTENT : b->engine,
                                .entry_bytes = forgets ? 1 : 0,
                                .thorough = forgets,
                                .directory = "/data",
                                .cluster = cluster,
                                .user = &b->user,
                                .index_bytes = 16 << 20,
                                .journal_bytes = 1 << 20,
                                .low_bytes = 65536,
                                .rest_ms = 1};
    if (b->format) {
        CHECK_OK(disk_make_directories(b->disk, "/data"));
        struct chunk_format_options f = {.target = {.bytes = "target"}, .fan_out = 1};
        CHECK_OK(chunk_store_format(&opt, &f, NULL));
    }
    b->format = false;
    b->store = NULL;
    b->rc = chunk_store_open(&opt, &b->store, NULL);
    b->start.done = store_started;
    if (b->rc == 0) {
        chunk_store_start(b->store, &b->start);
    }
}

static bool is_open(void *ctx)
{
    const struct bench *b = ctx;
    return b->started || b->rc < 0;
}

static int boot(struct bench *b)
{
    CHECK_OK(loop_sim_process(b->sim, "data", 1, &b->loop));
    CHECK_OK(disk_sim_open(b->machine, b->loop, &b->disk));
    b->env = (struct env){.loop = b->loop, .disk = b->disk};
    b->started = false;
    loop_sim_enter(b->loop, open_now, b);
    CHECK_TRUE(loop_sim_run(b->sim, is_open, b, loop_sim_now_ns(b->sim) + UINT64_C(60000000000)));
    return b->rc;
}

static struct bench *bench_new(enum chunk_engine engine, uint64_t seed)
{
    struct bench *b = mem_zalloc(sizeof *b);
    CHECK_TRUE(b != NULL);
    b->engine = engine;
    b->user.ops = &user_ops;
    b->sim = loop_sim_new(seed);
    CHECK_TRUE(b->sim != NULL);
    struct disk_sim_options opt = {.sim = b->sim};
    b->machine = disk_sim_new(&opt);
    CHECK_TRUE(b->machine != NULL);
    b->format = true;
    CHECK_OK(boot(b));
    return b;
}

static void bench_end(struct bench *b)
{
    loop_sim_free(b->sim);
    disk_sim_free(b->machine);
    mem_free(b);
}

/* ---- Calls that wait ---- */

struct call {
    struct bench *b;
    void (*submit)(struct call *c);
    bool done;
    int rc;
    struct chunk_update update;
    struct chunk_change change;
    struct chunk_sync sync;
    struct chunk_read read;
    struct chunk_stop stop;
    struct chunk_hold hold;
    uint32_t crc[8];
    struct iovec iov;
};

static void over(struct call *c, int rc)
{
    CHECK_TRUE(!c->done);
    c->done = true;
    c->rc = rc;
}
static void update_done(struct chunk_update *u, int rc)
{
    over(container_of(u, struct call, update), rc);
}
static void change_done(struct chunk_change *x, int rc)
{
    over(container_of(x, struct call, change), rc);
}
static void sync_done(struct chunk_sync *x, int rc)
{
    over(container_of(x, struct call, sync), rc);
}
static void read_done(struct chunk_read *x, int rc)
{
    over(container_of(x, struct call, read), rc);
}
static void stop_done(struct chunk_stop *x, int rc)
{
    over(container_of(x, struct call, stop), rc);
}

static void submit(void *ctx)
{
    struct call *c = ctx;
    c->submit(c);
}

static bool is_done(void *ctx)
{
    return ((struct call *)ctx)->done;
}

static int run(struct bench *b, struct call *c, void (*how)(struct call *c))
{
    c->b = b;
    c->submit = how;
    c->done = false;
    loop_sim_enter(b->loop, submit, c);
    CHECK_TRUE(loop_sim_run(b->sim, is_done, c, loop_sim_now_ns(b->sim) + UINT64_C(60000000000)));
    return c->rc;
}

static void submit_update(struct call *c)
{
    c->update.done = update_done;
    chunk_store_update(c->b->store, &c->update);
}
static void submit_reserve(struct call *c)
{
    c->update.done = update_done;
    chunk_store_reserve(c->b->store, &c->update);
}
static void submit_commit(struct call *c)
{
    over(c, chunk_store_commit(c->b->store, c->update.key, c->update.identity));
}
static void submit_change(struct call *c)
{
    c->change.done = change_done;
    chunk_store_change(c->b->store, &c->change);
}
static void submit_sync(struct call *c)
{
    c->sync.done = sync_done;
    chunk_store_sync(c->b->store, &c->sync);
}
static void submit_read(struct call *c)
{
    c->read.done = read_done;
    chunk_store_read(c->b->store, &c->read);
}
static void submit_stop(struct call *c)
{
    c->stop.done = stop_done;
    chunk_store_stop(c->b->store, &c->stop);
}
static void submit_free(struct call *c)
{
    c->b->store = chunk_store_free(c->b->store);
    over(c, 0);
}

static void hold_done(struct chunk_hold *h, int rc)
{
    over(container_of(h, struct call, hold), rc);
}
static void submit_hold(struct call *c)
{
    c->hold = (struct chunk_hold){.done = hold_done, .key = the_key};
    int rc = chunk_store_hold(c->b->store, &c->hold);
    if (rc == -ERR_need) {
        chunk_store_hold_wait(c->b->store, &c->hold);
    } else {
        over(c, rc);
    }
}
static void submit_let_go(struct call *c)
{
    chunk_store_let_go(c->b->store, &c->hold);
    over(c, 0);
}

/* As chunk_store_lookup(), also what is not in memory. */
static int look_up(struct bench *b, struct chunk_info *ret)
{
    struct call c = {0};
    int rc = run(b, &c, submit_hold);
    if (rc == 0) {
        rc = chunk_store_lookup(b->store, the_key, ret);
        CHECK_OK(run(b, &c, submit_let_go));
    }
    return rc;
}

/* ---- The versions: whole, a piece in the middle, an append, cut, whole ---- */

static void fill(uint8_t *to, uint32_t len, uint8_t seed)
{
    for (uint32_t i = 0; i < len; i++) {
        to[i] = (uint8_t)(seed * 31u + i * 7u + i / 251u + 1u);
    }
}

/* Sets *u and what bytes[ver] will be. */
static void version(struct bench *b, unsigned ver, struct call *c)
{
    static const struct {
        enum chunk_kind kind;
        uint32_t offset, length;
    } step[VERSIONS + 1] = {[1] = {CHUNK_WHOLE, 0, 10000},
                            [2] = {CHUNK_WRITE, 5000, 3000},
                            [3] = {CHUNK_WRITE, 10000, 500},
                            [4] = {CHUNK_SET_LENGTH, 0, 6000},
                            [5] = {CHUNK_WHOLE, 0, 100}};
    struct chunk_update *u = &c->update;
    uint32_t offset = step[ver].offset, length = step[ver].length;
    *u = (struct chunk_update){.key = the_key,
                               .kind = step[ver].kind,
                               .base = {.aepoch = ver > 1 ? 1 : 0, .ver = ver - 1},
                               .identity = {.aepoch = 1, .ver = ver},
                               .last_ver = ver};
    memcpy(b->bytes[ver], b->bytes[ver - 1], LENGTH_MAX);
    b->length[ver] = length;
    if (u->kind == CHUNK_SET_LENGTH) {
        memset(b->bytes[ver] + length, 0, LENGTH_MAX - length);
        u->new_length = length;
        return;
    }
    if (u->kind == CHUNK_WHOLE) {
        memset(b->bytes[ver], 0, LENGTH_MAX);
        u->new_length = length;
    } else {
        u->offset = offset;
        u->length = length;
        b->length[ver] = (uint32_t)base_max(b->length[ver - 1], offset + length);
    }
    fill(b->bytes[ver] + offset, length, (uint8_t)ver);
    c->iov = (struct iovec){.iov_base = b->bytes[ver] + offset, .iov_len = length};
    u->data = &c->iov;
    u->data_count = 1;
    u->crc = c->crc;
    for (uint32_t at = offset; at < offset + length;) {
        uint32_t n = (uint32_t)base_min(CHUNK_CELL - at % CHUNK_CELL, offset + length - at);
        c->crc[u->crc_count++] = crc32c(0, b->bytes[ver] + at, n);
        at += n;
    }
}

/* What can be read of one content is that of its identity. 0, or the error class EIO. */
static int check_which(struct bench *b, enum chunk_which which, uint64_t ver)
{
    static uint8_t bytes[LENGTH_MAX];
    struct call c = {.read = {.pin = {.key = the_key, .which = which, .length = LENGTH_MAX},
                              .verify = true,
                              .to = bytes}};
    int rc = run(b, &c, submit_read);
    if (rc < 0) {
        CHECK_ERR(rc, EIO);
        return rc;
    }
    CHECK_TRUE(ver >= 1 && ver <= VERSIONS);
    CHECK_EQ(c.read.pin.identity.ver, ver);
    CHECK_EQ(c.read.pin.chunk_length, b->length[ver]);
    CHECK_BYTES(bytes, b->bytes[ver], b->length[ver]);
    return 0;
}

/* ---- Damage ---- */

#define CHUNK_PATH "/data/00/00/0000000000000009.00000001"

static size_t slurp(struct bench *b, const char *path, uint8_t *to, size_t size)
{
    struct disk_req req = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_ONLY};
    CHECK_EQ(disk_now(b->disk, &req), 0);
    struct disk_file *f = req.file;
    req = (struct disk_req){.op = DISK_READ, .file = f, .buf = to, .len = size};
    int64_t got = disk_now(b->disk, &req);
    CHECK_TRUE(got > 0);
    req = (struct disk_req){.op = DISK_CLOSE, .file = f};
    CHECK_EQ(disk_now(b->disk, &req), 0);
    return (size_t)got;
}

static void spill(struct bench *b, const char *path, const uint8_t *from, size_t len)
{
    struct disk_req req = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE | DISK_CREATE};
    CHECK_EQ(disk_now(b->disk, &req), 0);
    struct disk_file *f = req.file;
    req = (struct disk_req){.op = DISK_TRUNCATE, .file = f, .len = 0};
    CHECK_EQ(disk_now(b->disk, &req), 0);
    req = (struct disk_req){.op = DISK_WRITE, .file = f, .buf = (void *)from, .len = len};
    CHECK_EQ(disk_now(b->disk, &req), (int64_t)len);
    req = (struct disk_req){.op = DISK_CLOSE, .file = f};
    CHECK_EQ(disk_now(b->disk, &req), 0);
}

struct image {
    uint8_t super[SUPER_SIZE], unclean[SUPER_SIZE];
    uint8_t file[FILE_MAX];
    size_t len;
};

static void make_version(struct bench *b, unsigned ver)
{
    struct call c = {0};
    version(b, ver, &c);
    CHECK_OK(run(b, &c, submit_update));
    CHECK_OK(run(b, &c, submit_commit));
}

/* A store that was stopped with all five versions done, the last one of 100 bytes. */
static struct bench *damaged_new(struct image *m)
{
    struct bench *b = bench_new(CHUNK_ENGINE_FILE, testing_seed());
    for (unsigned ver = 1; ver <= VERSIONS; ver++) {
        make_version(b, ver);
    }
    struct call c = {0};
    CHECK_OK(run(b, &c, submit_stop));
    CHECK_EQ(slurp(b, "/data/super", m->super, SUPER_SIZE), SUPER_SIZE);
    m->len = slurp(b, CHUNK_PATH, m->file, FILE_MAX);
    CHECK_TRUE(m->len < FILE_MAX);
    CHECK_OK(run(b, &c, submit_free));
    loop_sim_kill(b->loop);
    CHECK_OK(boot(b));
    CHECK_EQ(slurp(b, "/data/super", m->unclean, SUPER_SIZE), SUPER_SIZE);
    return b;
}

static void next_life(struct bench *b, const uint8_t *super, const uint8_t *file, size_t len)
{
    spill(b, "/data/super", super, SUPER_SIZE);
    spill(b, CHUNK_PATH, file, len);
    loop_sim_kill(b->loop);
    CHECK_OK(boot(b));
}

/* Either the newest content, or an error; and never no chunk. */
static void check_detected(struct bench *b)
{
    struct chunk_info info;
    CHECK_OK(look_up(b, &info));
    if (info.has_pending && (info.flags & CHUNK_DAMAGED) == 0) {
        CHECK_EQ(info.pending.ver, VERSIONS);
    }
    (void)check_which(b, CHUNK_COMMITTED, VERSIONS);
}

/* How many flips it tried. */
static size_t flip_bits(bool clean)
{
    struct image *m = mem_zalloc(sizeof *m);
    struct bench *b = damaged_new(m);
    for (size_t bit = 0; bit < m->len * 8; bit++) {
        bool table = bit >= (size_t)4 * 512 * 8;
        if (table && bit % 13 != testing_seed() % 13) {
            continue; /* of the cells, most of them superseded, some will do */
        }
        m->file[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        next_life(b, clean ? m->super : m->unclean, m->file, m->len);
        check_detected(b);
        m->file[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    next_life(b, m->super, m->file, m->len);
    CHECK_OK(check_which(b, CHUNK_COMMITTED, VERSIONS));
    size_t bits = m->len * 8;
    bench_end(b);
    mem_free(m);
    return bits;
}

TEST(flipped_bits_are_found)
{
    CHECK_TRUE(flip_bits(true) > 4096);
}

TEST(flipped_bits_are_found_after_a_kill)
{
    CHECK_TRUE(flip_bits(false) > 4096);
}

TEST(cut_files_are_found)
{
    struct image *m = mem_zalloc(sizeof *m);
    struct bench *b = damaged_new(m);
    CHECK_TRUE(m->len > 4096);
    for (size_t len = 0; len < m->len; len++) {
        next_life(b, m->super, m->file, len);
        check_detected(b);
    }
    bench_end(b);
    mem_free(m);
}

/* A damaged chunk takes whole contents only, and is healed by one; also when nothing is left. */
TEST(whole_contents_heal)
{
    struct image *m = mem_zalloc(sizeof *m);
    struct bench *b = damaged_new(m);
    for (size_t len = 0; len < m->len; len += 511) {
        next_life(b, m->super, m->file, len);
        struct call c = {0};
        version(b, 1, &c);
        c.update.install = true;
        CHECK_OK(run(b, &c, submit_update));
        CHECK_OK(check_which(b, CHUNK_COMMITTED, 1));
        CHECK_OK(run(b, &c, submit_stop));
        CHECK_OK(run(b, &c, submit_free));
        loop_sim_kill(b->loop);
        CHECK_OK(boot(b));
        CHECK_OK(check_which(b, CHUNK_COMMITTED, 1));
        struct chunk_store_info info;
        chunk_store_info(b->store, &info);
        CHECK_EQ(info.damaged_count, 0);
    }
    bench_end(b);
    mem_free(m);
}

/* ---- Bytes that go bad, and then a power cut ---- */

static void sync_one(struct bench *b)
{
    struct call c = {.sync = {.scope = CHUNK_SYNC_KEYS, .key = &the_key, .key_count = 1}};
    CHECK_OK(run(b, &c, submit_sync));
}

static void wait_s(struct bench *b, uint64_t seconds)
{
    (void)loop_sim_run(b->sim, is_done, &(struct call){.done = false},
                       loop_sim_now_ns(b->sim) + seconds * UINT64_C(1000000000));
}

static void cut_power(struct bench *b)
{
    loop_sim_kill(b->loop);
    disk_sim_crash(b->machine);
    loop_sim_reboot(b->sim, 1);
    CHECK_OK(boot(b));
}

/* Of the cell that has this byte, as it lies on the medium: one bit. */
static void goes_bad(struct bench *b, uint32_t byte)
{
    struct chunk_pin pin = {.key = the_key, .which = CHUNK_COMMITTED, .length = LENGTH_MAX};
    struct chunk_piece piece;
    unsigned count = 0;
    CHECK_OK(chunk_store_pin(b->store, &pin));
    chunk_pin_pieces(b->store, &pin, byte, &piece, 1, &count);
    CHECK_TRUE(count == 1 && piece.file != NULL);
    CHECK_OK(disk_sim_corrupt_file(piece.file, piece.offset, 0x10));
    chunk_store_unpin(b->store, &pin);
}

struct goes_bad {
    struct bench *b;
    uint32_t byte;
};
static void goes_bad_in(void *ctx)
{
    const struct goes_bad *x = ctx;
    goes_bad(x->b, x->byte);
}

/* The chunk is there, with its identity, and says that it is damaged; also when it is looked at
 * once more. */
static void check_told(struct bench *b, uint64_t ver)
{
    for (unsigned i = 0; i < 3; i++) {
        struct chunk_info info;
        CHECK_ERR(check_which(b, CHUNK_COMMITTED, ver), EIO);
        CHECK_OK(look_up(b, &info));
        CHECK_EQ(info.committed.ver, ver);
        CHECK_EQ(info.flags & CHUNK_DAMAGED, CHUNK_DAMAGED);
        wait_s(b, i * 4);
        cut_power(b);
    }
}

/* `before`: versions that were stable long ago; then one more is synced, a byte of it goes bad, and
 * after some time power is lost. */
static void synced_and_bad(unsigned before, uint32_t byte, uint64_t seconds)
{
    struct bench *b = bench_new(CHUNK_ENGINE_FILE, testing_seed() + before + byte + seconds);
    for (unsigned ver = 1; ver <= before; ver++) {
        make_version(b, ver);
    }
    sync_one(b);
    wait_s(b, before > 0 ? 20 : 0);
    make_version(b, before + 1);
    sync_one(b);
    struct goes_bad x = {b, byte};
    wait_s(b, seconds);
    loop_sim_enter(b->loop, goes_bad_in, &x);
    cut_power(b);
    check_told(b, before + 1);
    bench_end(b);
}

TEST(synced_chunks_that_go_bad_before_a_power_cut_are_kept_as_damaged)
{
    unsigned runs = 0;
    for (uint64_t seconds = 0; seconds <= 20; seconds += 10) {
        for (uint32_t byte = 100; byte < 10000; byte += 1500, runs++) {
            synced_and_bad(0, byte, seconds);
            synced_and_bad(1, byte, seconds); /* neither are they what they were before */
        }
        synced_and_bad(2, 10200, seconds);
    }
    CHECK_EQ(runs, 21);
}

/* Zeros at the end of sectors look like what was never written; but not for long. */
TEST(synced_chunks_of_zeros_that_go_bad_before_a_power_cut_are_kept_as_damaged)
{
    struct bench *b = bench_new(CHUNK_ENGINE_FILE, testing_seed());
    struct call c = {0};
    version(b, 1, &c);
    memset(b->bytes[1], 0, 4096);
    b->bytes[1][7] = 1;
    c.crc[0] = crc32c(0, b->bytes[1], 4096);
    CHECK_OK(run(b, &c, submit_update));
    CHECK_OK(run(b, &c, submit_commit));
    sync_one(b);
    wait_s(b, 20);
    struct goes_bad x = {b, 7};
    loop_sim_enter(b->loop, goes_bad_in, &x);
    cut_power(b);
    check_told(b, 1);
    bench_end(b);
}

/* What was never stable, and is there in part: what was before it, else nothing. */
TEST(what_a_power_cut_takes_of_unsynced_chunks_is_not_called_damage)
{
    unsigned gone = 0, older = 0, newer = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct bench *b = bench_new(CHUNK_ENGINE_FILE, testing_seed() + seed);
        unsigned before = (unsigned)(seed % 4);
        for (unsigned ver = 1; ver <= before; ver++) {
            make_version(b, ver);
        }
        sync_one(b);
        make_version(b, before + 1);
        cut_power(b);
        struct chunk_info info = {0};
        if (look_up(b, &info) == 0) {
            uint64_t ver = info.has_pending ? info.pending.ver : info.committed.ver;
            CHECK_EQ(info.flags & CHUNK_DAMAGED, 0);
            CHECK_TRUE(ver == before || ver == before + 1);
            CHECK_OK(check_which(b, info.has_pending ? CHUNK_PENDING : CHUNK_COMMITTED, ver));
            newer += ver > before ? 1 : 0;
            older += ver == before ? 1 : 0;
        } else {
            CHECK_EQ(before, 0);
            gone++;
        }
        bench_end(b);
    }
    CHECK_TRUE(gone > 5);
    CHECK_TRUE(older > 5);
    CHECK_TRUE(newer > 5);
}

/* ---- Failing disks ---- */

struct story {
    uint64_t tried, acked, synced; /* versions */
    bool deleted, any_error;
};

static bool tell_version(struct bench *b, struct story *s, unsigned ver)
{
    struct call c = {0};
    version(b, ver, &c);
    struct chunk_info before = {0}, after = {0};
    int had = look_up(b, &before);
    int rc = ver % 2 == 0 ? run(b, &c, submit_reserve) : 0;
    if (rc == 0) {
        s->tried = ver;
        rc = run(b, &c, submit_update);
    }
    if (rc < 0) { /* nothing has changed but, perhaps, what is known of damage */
        s->any_error = true;
        CHECK_EQ(look_up(b, &after), had);
        CHECK_EQ(after.committed.ver, before.committed.ver);
        CHECK_EQ(after.has_pending, before.has_pending);
        return false;
    }
    s->acked = ver;
    CHECK_OK(run(b, &c, submit_commit));
    return true;
}

static void tell_sync(struct bench *b, struct story *s)
{
    struct call c = {.sync = {.scope = CHUNK_SYNC_ALL}};
    uint64_t acked = s->acked;
    if (run(b, &c, submit_sync) == 0) {
        s->synced = acked;
    } else {
        s->any_error = true;
    }
}

/* All that a store does; any of it may fail. */
static void tell(struct bench *b, struct story *s)
{
    bool good = true;
    for (unsigned ver = 1; ver <= VERSIONS && good; ver++) {
        good = tell_version(b, s, ver);
        good = good || tell_version(b, s, ver); /* a second time, if the first one failed */
        if (ver % 2 == 1) {
            tell_sync(b, s);
        }
    }
    struct call c = {.change = {.op = CHUNK_REMOVE_DATA, .key = {.data_id = 77}}};
    s->any_error = run(b, &c, submit_change) < 0 || s->any_error;
    if (s->acked > 0) {
        (void)check_which(b, CHUNK_COMMITTED, s->acked);
    }
    struct chunk_store_info info;
    chunk_store_info(b->store, &info);
    CHECK_EQ(b->failures, info.failed != 0 ? 1 : 0);
    if (info.failed != 0) {
        CHECK_TRUE(info.lossy);
        version(b, VERSIONS, &c);
        CHECK_RC(run(b, &c, submit_update), ERR_failed_before);
        c.sync = (struct chunk_sync){.scope = CHUNK_SYNC_ALL};
        CHECK_RC(run(b, &c, submit_sync), ERR_failed_before);
    }
}

/* What the next start finds: at least what was acknowledged (synced, when the store is lossy). */
static void check_story(struct bench *b, const struct story *s, bool damage_too)
{
    struct chunk_store_info store;
    chunk_store_info(b->store, &store);
    struct chunk_info info = {0};
    uint64_t ver = 0;
    if (look_up(b, &info) == 0) {
        ver = info.has_pending ? info.pending.ver : info.committed.ver;
    }
    bool damaged = (info.flags & CHUNK_DAMAGED) != 0;
    bool never = store.lossy && s->synced == 0; /* stable: then it may be known no more */
    CHECK_TRUE(damage_too || never || !damaged);
    CHECK_TRUE(ver >= (store.lossy ? s->synced : s->acked));
    CHECK_TRUE(ver <= s->tried);
    if (!chunk_identity_none(info.committed)) {
        CHECK_EQ(check_which(b, CHUNK_COMMITTED, info.committed.ver) < 0, damaged);
    }
    if (info.has_pending) {
        CHECK_OK(check_which(b, CHUNK_PENDING, info.pending.ver));
    }
}

/* What a start has believed and a sync has confirmed outlives a power cut, also when a sync before
 * it had failed: the page cache shows what such a sync has left behind, and calls it written. */
static void check_kept(struct bench *b, bool damage_too)
{
    struct call c = {.sync = {.scope = CHUNK_SYNC_ALL}};
    struct chunk_info before = {0}, after = {0};
    int had = look_up(b, &before);
    damage_too = damage_too || (before.flags & CHUNK_DAMAGED) != 0;
    CHECK_OK(run(b, &c, submit_sync));
    loop_sim_kill(b->loop);
    disk_sim_crash(b->machine);
    loop_sim_reboot(b->sim, 1);
    CHECK_OK(boot(b));
    if ((before.flags & CHUNK_DAMAGED) != 0 && chunk_identity_none(before.committed)) {
        return; /* it was never stable, and power was lost now */
    }
    CHECK_EQ(look_up(b, &after), had);
    CHECK_EQ(after.committed.ver, before.committed.ver);
    CHECK_EQ(after.has_pending, before.has_pending);
    CHECK_TRUE(damage_too || (after.flags & CHUNK_DAMAGED) == 0);
    if (!damage_too && !chunk_identity_none(after.committed)) {
        CHECK_OK(check_which(b, CHUNK_COMMITTED, after.committed.ver));
    }
    if (!damage_too && after.has_pending) {
        CHECK_OK(check_which(b, CHUNK_PENDING, after.pending.ver));
    }
}

/* true: the story met the fault. */
struct fault {
    enum disk_op op;
    int rc;
    uint64_t nth, count;
};
static bool fail_once(enum chunk_engine engine, struct fault f, uint64_t seed)
{
    enum disk_op op = f.op;
    bool power = seed == 0 && (f.nth + (uint64_t)op) % 2 == 0;
    struct bench *b = bench_new(engine, testing_seed() + f.nth + seed);
    struct story s = {0};
    disk_sim_fail(b->machine, op, NULL, f.nth, f.count, f.rc);
    tell(b, &s);
    bool met = s.any_error || b->failures > 0;
    loop_sim_kill(b->loop);
    disk_sim_heal(b->machine);
    if (power) {
        disk_sim_crash(b->machine);
        loop_sim_reboot(b->sim, 1);
    }
    b->failures = 0;
    CHECK_OK(boot(b));
    check_story(b, &s, op == DISK_READ); /* what gave EIO is flagged */
    check_kept(b, op == DISK_READ);
    bench_end(b);
    return met;
}

/* `must`: what the engine cannot do without. */
static unsigned failing_disks(enum chunk_engine engine, enum disk_op must)
{
    unsigned all = 0;
    static const enum disk_op ops[] = {DISK_OPEN,   DISK_CLOSE,    DISK_READ,     DISK_WRITE,
                                       DISK_SYNC,   DISK_SYNC_ALL, DISK_SYNC_DIR, DISK_ALLOCATE,
                                       DISK_REMOVE, DISK_PUNCH,    DISK_STATFS};
    for (size_t i = 0; i < ARRAY_COUNT(ops); i++) {
        unsigned met = 0;
        bool fills = ops[i] == DISK_WRITE || ops[i] == DISK_ALLOCATE || ops[i] == DISK_SYNC;
        for (uint64_t nth = 1; nth <= 24; nth++) {
            for (uint64_t count = 0; count < 2; count++) {
                struct fault f = {ops[i], -EIO, nth, count};
                met += fail_once(engine, f, 0) ? 1 : 0;
                f.rc = -ENOSPC;
                met += fills && fail_once(engine, f, 0) ? 1 : 0;
            }
        }
        CHECK_TRUE(met > 0 || (ops[i] != DISK_WRITE && ops[i] != must));
        all += met;
    }
    return all;
}

TEST(failing_disks_lose_nothing)
{
    CHECK_TRUE(failing_disks(CHUNK_ENGINE_FILE, DISK_SYNC_ALL) > 0);
}

TEST(failing_disks_lose_nothing_of_containers)
{
    CHECK_TRUE(failing_disks(CHUNK_ENGINE_EXTENT, DISK_SYNC) > 0);
}

TEST(failing_disks_lose_nothing_that_is_not_in_memory)
{
    CHECK_TRUE(failing_disks(FORGETFUL, DISK_SYNC) > 0);
}

TEST(failed_syncs_are_not_believed_later)
{
    for (uint64_t seed = 1; seed <= 50; seed++) {
        const struct fault data = {DISK_SYNC, -EIO, 1 + seed % 2, 1};
        const struct fault all = {DISK_SYNC_ALL, -EIO, 1, 1};
        CHECK_TRUE(fail_once(CHUNK_ENGINE_FILE, data, seed));
        CHECK_TRUE(fail_once(CHUNK_ENGINE_FILE, all, seed));
        CHECK_TRUE(fail_once(CHUNK_ENGINE_EXTENT, data, seed));
        CHECK_TRUE(fail_once(FORGETFUL, data, seed));
    }
}

/* What a writeback that nobody had asked for could not do ends the first start that syncs. */
static int boot_at_last(struct bench *b)
{
    int rc = boot(b);
    for (unsigned i = 0; i < 8 && rc == -EIO; i++) {
        loop_sim_kill(b->loop);
        rc = boot(b);
    }
    return rc;
}

/* The kernel writes back by itself, and fails. */
static unsigned failing_writebacks(enum chunk_engine engine, uint64_t seed)
{
    struct bench *b = bench_new(engine, testing_seed() + seed);
    struct story s = {0};
    disk_sim_writeback(b->machine, 2, 4 + (uint32_t)seed % 16);
    tell(b, &s);
    bool met = s.any_error || b->failures > 0;
    loop_sim_kill(b->loop);
    disk_sim_heal(b->machine);
    b->failures = 0;
    if (seed % 4 == 0) {
        disk_sim_crash(b->machine);
        loop_sim_reboot(b->sim, 1);
    }
    int synced = -EIO;
    for (unsigned i = 0; i < 4 && synced < 0; i++) { /* the same of a file that a start believes */
        struct call c = {.sync = {.scope = CHUNK_SYNC_ALL}};
        CHECK_OK(boot_at_last(b));
        check_story(b, &s, false);
        synced = run(b, &c, submit_sync);
        if (synced < 0) {
            loop_sim_kill(b->loop);
        }
    }
    CHECK_OK(synced);
    check_kept(b, false);
    bench_end(b);
    return met ? 1 : 0;
}

TEST(failing_writebacks_lose_nothing)
{
    static const enum chunk_engine engines[] = {CHUNK_ENGINE_FILE, CHUNK_ENGINE_EXTENT, FORGETFUL};
    unsigned met = 0;
    for (uint64_t seed = 0; seed < 300; seed++) {
        met += failing_writebacks(engines[seed % ARRAY_COUNT(engines)], seed);
    }
    CHECK_TRUE(met > 50);
}

/* A disk that fills up refuses growth and loses nothing; deleting makes room. */
TEST(full_disks_refuse)
{
    struct bench *b = bench_new(CHUNK_ENGINE_FILE, testing_seed());
    disk_sim_capacity(b->machine, disk_sim_used_bytes(b->machine) + UINT64_C(4) * CHUNK_CELL);
    struct story s = {0};
    CHECK_TRUE(tell_version(b, &s, 1)); /* block 0 and three cells */
    CHECK_TRUE(!tell_version(b, &s, 2));
    CHECK_OK(check_which(b, CHUNK_COMMITTED, 1));
    tell_sync(b, &s);
    CHECK_EQ(s.synced, 1);
    disk_sim_capacity(b->machine, 1 << 24);
    (void)loop_sim_run(b->sim, is_done, &(struct call){.done = false},
                       loop_sim_now_ns(b->sim) + UINT64_C(3000000000));
    CHECK_TRUE(tell_version(b, &s, 2));
    CHECK_EQ(b->failures, 0);
    bench_end(b);
}
