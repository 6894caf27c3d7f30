/*
 * disk/sim_test.c -- what only the simulation does: crashes, dying processes, faults on command,
 * and that all of it follows from the seed.
 */
#include "disk/sim.h"

#include "base/mem.h"
#include "base/rand.h"
#include "disk/rig_sim_priv.h"

#include <string.h>

#define STEPS_MAX 100000

/* ---- Requests, over time ---- */

struct waiting {
    struct disk_req req;
    bool done;
    int64_t rc;
};

static void waiting_done(struct disk_req *req, int64_t rc)
{
    struct waiting *w = container_of(req, struct waiting, req);
    CHECK(!w->done);
    w->done = true;
    w->rc = rc;
}

static void start(struct world *w, struct waiting *wait, const struct disk_req *req)
{
    *wait = (struct waiting){.req = *req};
    wait->req.done = waiting_done;
    disk_submit(w->disk, &wait->req);
}

static int64_t finish(struct world *w, struct waiting *wait)
{
    for (int i = 0; i < STEPS_MAX && !wait->done; i++) {
        CHECK_TRUE(loop_sim_step(w->sim));
    }
    CHECK_TRUE(wait->done);
    return wait->rc;
}

/* ---- Crashes ---- */

/* A model of one file: random changes, a sync at times; the synced state must come back exactly. */
#define MODEL_SIZE 40000u
struct model {
    uint8_t live[MODEL_SIZE], durable[MODEL_SIZE];
    size_t live_size, durable_size;
};

static void model_write(struct world *w, struct disk_file *f, struct model *m, struct rand *r)
{
    uint8_t bytes[6000];
    size_t offset = rand_below(r, MODEL_SIZE - sizeof bytes), len = 1 + rand_below(r, sizeof bytes);
    rand_bytes(r, bytes, len);
    CHECK_EQ(put(w, f, offset, bytes, len), len);
    memcpy(m->live + offset, bytes, len);
    m->live_size = base_max(m->live_size, offset + len);
}

static void model_reshape(struct world *w, struct disk_file *f, struct model *m, struct rand *r)
{
    size_t offset = rand_below(r, MODEL_SIZE - 9000), len = 1 + rand_below(r, 9000);
    switch (rand_below(r, 3)) {
    case 0:
        CHECK_EQ(now_range(w, DISK_TRUNCATE, f, 0, offset), 0);
        memset(m->live + offset, 0, MODEL_SIZE - offset);
        m->live_size = offset;
        break;
    case 1:
        CHECK_EQ(now_range(w, DISK_PUNCH, f, offset, len), 0);
        memset(m->live + offset, 0, len);
        break;
    default:
        CHECK_EQ(now_range(w, DISK_ALLOCATE, f, offset, len), 0);
        m->live_size = base_max(m->live_size, offset + len);
        break;
    }
}

static void model_change(struct world *w, struct disk_file *f, struct model *m, struct rand *r)
{
    if (rand_chance(r, 2, 3)) {
        model_write(w, f, m, r);
    } else {
        model_reshape(w, f, m, r);
    }
}

static void model_sync(struct world *w, struct disk_file *f, struct model *m)
{
    CHECK_EQ(now_file(w, DISK_SYNC_ALL, f), 0);
    memcpy(m->durable, m->live, MODEL_SIZE);
    m->durable_size = m->live_size;
}

static void model_compare(struct world *w, const uint8_t *bytes, size_t size)
{
    static uint8_t out[MODEL_SIZE + 1];
    CHECK_EQ(content(w, "/f", out, sizeof out), size);
    CHECK_BYTES(out, bytes, size);
}

/* Returns how many crashes it compared. */
static int synced_survives(uint64_t seed)
{
    static struct model m;
    struct world w = world_of(seed);
    struct rand r;
    memset(&m, 0, sizeof m);
    rand_seed(&r, seed);
    int life = 0;
    for (; life < 3; life++) {
        struct disk_file *f = created(&w, "/f");
        unsigned changes = (unsigned)rand_below(&r, 8);
        for (unsigned i = 0; i < changes; i++) {
            model_change(&w, f, &m, &r);
            if (rand_chance(&r, 1, 4)) {
                model_sync(&w, f, &m);
            }
        }
        model_compare(&w, m.live, m.live_size);
        model_sync(&w, f, &m);
        world_crash(&w);
        model_compare(&w, m.durable, m.durable_size);
        CHECK_EQ(disk_sim_used_bytes(w.machine) % 4096, 0);
    }
    world_end(&w);
    return life;
}

TEST(what_was_synced_survives_exactly)
{
    for (unsigned i = 0; i < SEEDS; i++) {
        CHECK_EQ(synced_survives(testing_seed() + i), 3);
    }
}

/* Unsynced changes over a synced state: each sector is one of those it has ever been. */
enum fate { LOST, KEPT, TORN };

static enum fate unsynced_fate(uint64_t seed)
{
    uint8_t old[4096], new[4096], out[4096] = {0};
    struct world w = world_of(seed);
    memset(old, 'o', sizeof old);
    memset(new, 'n', sizeof new);
    store(&w, "/f", 'o', sizeof old);
    struct disk_file *f = created(&w, "/f");
    CHECK_EQ(put(&w, f, 0, new, sizeof new), sizeof new);
    world_crash(&w);
    CHECK_EQ(content(&w, "/f", out, sizeof out), sizeof out);
    size_t fresh = 0;
    for (size_t i = 0; i < sizeof out; i += 512) {
        bool is_new = out[i] == 'n';
        CHECK_BYTES(out + i, is_new ? new : old, 512);
        fresh += is_new ? 1 : 0;
    }
    world_end(&w);
    return fresh == 0 ? LOST : fresh == sizeof out / 512 ? KEPT : TORN;
}

TEST(what_was_not_synced_is_lost_kept_or_torn)
{
    unsigned count[3] = {0};
    for (unsigned i = 0; i < SEEDS; i++) {
        count[unsynced_fate(testing_seed() + i)]++;
    }
    CHECK_TRUE(count[LOST] > SEEDS / 10);
    CHECK_TRUE(count[KEPT] > SEEDS / 20);
    CHECK_TRUE(count[TORN] > SEEDS / 20);
}

/* Small writes behind each other in one sector: the medium has the first so many of them. */
TEST(unsynced_sectors_have_no_gaps)
{
    unsigned some = 0;
    for (unsigned i = 0; i < SEEDS; i++) {
        struct world w = world_of(testing_seed() + i);
        char out[512] = {0};
        store(&w, "/f", '0', 1);
        struct disk_file *f = created(&w, "/f");
        for (uint64_t at = 1; at < sizeof out; at += 73) {
            CHECK_EQ(put(&w, f, at,
                         "0000000000000000000000000000000000000000000000000000000000000"
                         "000000000000",
                         73),
                     73);
        }
        world_crash(&w);
        int64_t len = content(&w, "/f", out, sizeof out);
        CHECK_TRUE(len > 0 && len <= (int64_t)sizeof out);
        size_t end = strnlen(out, sizeof out);
        for (size_t k = end; k < sizeof out; k++) {
            CHECK_EQ(out[k], 0);
        }
        CHECK_EQ(end % 73, 1);
        some += end > 1 && end < sizeof out ? 1 : 0;
        world_end(&w);
    }
    CHECK_TRUE(some > SEEDS / 20);
}

/* Two unsynced writes to one place: the second may be lost and the first be there. */
TEST(unsynced_writes_are_reordered)
{
    unsigned first = 0, second = 0, neither = 0;
    for (unsigned i = 0; i < SEEDS; i++) {
        struct world w = world_of(testing_seed() + i);
        char out = 0;
        store(&w, "/f", '0', 1);
        struct disk_file *f = created(&w, "/f");
        CHECK_EQ(put(&w, f, 0, "1", 1), 1);
        CHECK_EQ(put(&w, f, 0, "2", 1), 1);
        world_crash(&w);
        CHECK_EQ(content(&w, "/f", &out, 1), 1);
        CHECK_TRUE(out == '0' || out == '1' || out == '2');
        first += out == '1' ? 1 : 0;
        second += out == '2' ? 1 : 0;
        neither += out == '0' ? 1 : 0;
        world_end(&w);
    }
    CHECK_TRUE(first > SEEDS / 20);
    CHECK_TRUE(second > SEEDS / 20);
    CHECK_TRUE(neither > SEEDS / 20);
}

TEST(crash_modes_keep_or_lose_all)
{
    static const enum disk_sim_crash_mode mode[] = {DISK_SIM_KEEP_ALL, DISK_SIM_LOSE_ALL};
    for (unsigned i = 0; i < 200; i++) {
        struct world w = world_of(testing_seed() + i);
        char out[8] = {0};
        disk_sim_crash_mode(w.machine, mode[i % 2]);
        store(&w, "/f", '0', 3);
        struct disk_file *f = created(&w, "/f");
        CHECK_EQ(put(&w, f, 0, "12", 2), 2);
        CHECK_EQ(put(&w, f, 1, "x", 1), 1);
        CHECK_EQ(now_range(&w, DISK_TRUNCATE, f, 0, 2), 0);
        CHECK_EQ(now_path(&w, DISK_MKDIR, "/d"), 0);
        world_crash(&w);
        CHECK_EQ(content(&w, "/f", out, sizeof out), i % 2 == 0 ? 2 : 3);
        CHECK_TEXT(out, i % 2 == 0 ? "1x" : "000");
        CHECK_EQ(now_path(&w, DISK_STAT, "/d"), i % 2 == 0 ? 0 : -ENOENT);
        world_end(&w);
    }
}

/* A sync covers what was done before it was submitted, and nothing later. */
TEST(sync_covers_what_came_before_it)
{
    unsigned lost = 0;
    for (unsigned i = 0; i < 200; i++) {
        struct world w = world_of(testing_seed() + i);
        char out[2] = {0};
        struct waiting sync;
        struct disk_file *f = created(&w, "/f");
        CHECK_EQ(put(&w, f, 0, "ab", 2), 2);
        start(&w, &sync, &(struct disk_req){.op = DISK_SYNC_ALL, .file = f});
        CHECK_EQ(put(&w, f, 1, "X", 1), 1); /* done while the sync is under way */
        CHECK_EQ(finish(&w, &sync), 0);
        disk_sim_crash_mode(w.machine, i % 2 == 0 ? DISK_SIM_LOSE_ALL : DISK_SIM_RANDOM);
        world_crash(&w);
        CHECK_EQ(content(&w, "/f", out, sizeof out), 2);
        CHECK_EQ(out[0], 'a');
        CHECK_TRUE(out[1] == 'b' || (out[1] == 'X' && i % 2 == 1));
        lost += out[1] == 'b' ? 1 : 0;
        world_end(&w);
    }
    CHECK_TRUE(lost > 100 && lost < 200);
}

/* ---- Names in crashes ---- */

TEST(rename_is_old_or_new_never_neither)
{
    unsigned old = 0, new = 0;
    for (unsigned i = 0; i < SEEDS; i++) {
        struct world w = world_of(testing_seed() + i);
        char out = 0;
        store(&w, "/f", 'o', 1);
        store(&w, "/f.new", 'n', 1);
        CHECK_EQ(now_rename(&w, "/f.new", "/f"), 0);
        world_crash(&w);
        CHECK_EQ(content(&w, "/f", &out, 1), 1);
        CHECK_TRUE(out == 'o' || out == 'n');
        bool left = now_path(&w, DISK_STAT, "/f.new") == 0;
        CHECK_EQ(left, out == 'o'); /* both of its ends, or none */
        old += out == 'o' ? 1 : 0;
        new += out == 'n' ? 1 : 0;
        world_end(&w);
    }
    CHECK_TRUE(old > SEEDS / 10);
    CHECK_TRUE(new > SEEDS / 10);
}

TEST(synced_rename_survives)
{
    for (unsigned i = 0; i < SEEDS; i++) {
        struct world w = world_of(testing_seed() + i);
        char out = 0;
        CHECK_EQ(now_path(&w, DISK_MKDIR, "/d"), 0);
        CHECK_EQ(now_path(&w, DISK_SYNC_DIR, "/"), 0);
        store(&w, "/d/f", 'o', 1);
        store(&w, "/d/f.new", 'n', 1);
        CHECK_EQ(now_rename(&w, "/d/f.new", "/d/f"), 0);
        CHECK_EQ(now_path(&w, DISK_SYNC_DIR, "/d"), 0);
        world_crash(&w);
        CHECK_EQ(content(&w, "/d/f", &out, 1), 1);
        CHECK_EQ(out, 'n');
        CHECK_RC((int)now_path(&w, DISK_STAT, "/d/f.new"), ENOENT);
        world_end(&w);
    }
}

/* Names need a sync of their directory: created ones (unless the file was synced), removed ones,
 * linked ones, and the directories above. */
TEST(names_without_sync_dir_are_lost_at_times)
{
    unsigned kept[5] = {0};
    for (unsigned i = 0; i < SEEDS; i++) {
        struct world w = world_of(testing_seed() + i);
        store(&w, "/removed", 'r', 1);
        CHECK_EQ(now_path(&w, DISK_MKDIR, "/d"), 0);
        store(&w, "/d/inside", 'i', 1);
        struct disk_file *f = created(&w, "/data");
        CHECK_EQ(put(&w, f, 0, "x", 1), 1);
        CHECK_EQ(now_file(&w, DISK_SYNC, f), 0);
        struct disk_req link = {.op = DISK_LINK, .path = "/removed", .path_to = "/linked"};
        CHECK_EQ(disk_now(w.disk, &link), 0);
        store(&w, "/all", 'a', 1);
        CHECK_EQ(now_path(&w, DISK_REMOVE, "/removed"), 0);
        world_crash(&w);
        kept[0] += now_path(&w, DISK_STAT, "/removed") == 0 ? 1 : 0;
        kept[1] += now_path(&w, DISK_STAT, "/d") == 0 ? 1 : 0;
        kept[2] += now_path(&w, DISK_STAT, "/data") == 0 ? 1 : 0;
        kept[3] += now_path(&w, DISK_STAT, "/linked") == 0 ? 1 : 0;
        CHECK_EQ(now_path(&w, DISK_STAT, "/all"), 0);
        CHECK_EQ(now_path(&w, DISK_STAT, "/d"), now_path(&w, DISK_STAT, "/d/inside"));
        CHECK_TRUE(now_path(&w, DISK_STAT, "/removed") == 0 ||
                   now_path(&w, DISK_STAT, "/linked") == 0);
        world_end(&w);
    }
    for (int i = 0; i < 4; i++) {
        CHECK_TRUE(kept[i] > SEEDS / 20);
        CHECK_TRUE(kept[i] < SEEDS - SEEDS / 20);
    }
}

/* A later name that was synced is not undone by an earlier removal that was not. */
TEST(synced_name_beats_earlier_changes_of_it)
{
    for (unsigned i = 0; i < SEEDS; i++) {
        struct world w = world_of(testing_seed() + i);
        char out = 0;
        store(&w, "/f", '1', 1);
        CHECK_EQ(now_path(&w, DISK_REMOVE, "/f"), 0);
        store(&w, "/f", '2', 1);
        CHECK_EQ(now_rename(&w, "/f", "/g"), 0);
        store(&w, "/f", '3', 1);
        world_crash(&w);
        CHECK_EQ(content(&w, "/f", &out, 1), 1);
        CHECK_EQ(out, '3');
        CHECK_EQ(content(&w, "/g", &out, 1), 1); /* what the third needs has happened before */
        CHECK_EQ(out, '2');
        world_end(&w);
    }
}

/* Directories moved below each other, in any unsynced order, stay a tree. */
TEST(moved_directories_stay_a_tree)
{
    for (unsigned i = 0; i < SEEDS; i++) {
        struct world w = world_of(testing_seed() + i);
        CHECK_OK(disk_make_directories(w.disk, "/a/b"));
        CHECK_EQ(now_rename(&w, "/a/b", "/b"), 0);
        CHECK_EQ(now_rename(&w, "/a", "/b/a"), 0);
        world_crash(&w);
        bool before = now_path(&w, DISK_STAT, "/a/b") == 0;
        bool between = now_path(&w, DISK_STAT, "/a") == 0 && now_path(&w, DISK_STAT, "/b") == 0;
        bool after = now_path(&w, DISK_STAT, "/b/a") == 0;
        CHECK_EQ((before ? 1 : 0) + (between ? 1 : 0) + (after ? 1 : 0), 1);
        world_end(&w);
    }
}

TEST(stored_file_is_old_or_new_whole)
{
    for (unsigned i = 0; i < SEEDS; i++) {
        struct world w = world_of(testing_seed() + i);
        uint8_t out[5000] = {0}, bytes[5000];
        memset(bytes, '1', sizeof bytes);
        CHECK_OK(disk_make_directories(w.disk, "/etc/x"));
        CHECK_OK(disk_store(w.disk, "/etc/x/f", bytes, sizeof bytes));
        memset(bytes, '2', sizeof bytes);
        disk_sim_fail(w.machine, (enum disk_op)(i % 15), "/etc", 1 + i % 3, 1, -EIO);
        int rc = disk_store(w.disk, "/etc/x/f", bytes, sizeof bytes);
        disk_sim_heal(w.machine);
        world_crash(&w);
        CHECK_EQ(content(&w, "/etc/x/f", out, sizeof out), sizeof out);
        CHECK_TRUE(out[0] == '2' || (out[0] == '1' && rc < 0));
        memset(bytes, out[0], sizeof bytes);
        CHECK_BYTES(out, bytes, sizeof out);
        world_end(&w);
    }
}

/* ---- Dying processes ---- */

struct counted {
    struct disk_req req;
    unsigned *count;
};

static void counted_done(struct disk_req *req, int64_t rc)
{
    (void)rc;
    (*container_of(req, struct counted, req)->count)++;
}

TEST(a_dead_process_leaves_part_of_what_it_was_doing)
{
    unsigned count[3] = {0}, answered = 0;
    for (unsigned i = 0; i < SEEDS; i++) {
        struct world w = world_of(testing_seed() + i);
        uint8_t out[1001];
        char bytes[1000];
        memset(bytes, 'w', sizeof bytes);
        struct disk_file *f = created(&w, "/f"), *other = created(&w, "/f");
        CHECK_EQ(now_file(&w, DISK_LOCK, f), 0);
        CHECK_RC((int)now_file(&w, DISK_LOCK, other), ERR_in_use);
        struct counted c[3] = {
            {{.op = DISK_WRITE, .file = f, .buf = bytes, .len = sizeof bytes}, &answered},
            {{.op = DISK_MKDIR, .path = "/d"}, &answered},
            {{.op = DISK_OPEN, .path = "/n", .flags = DISK_CREATE | DISK_READ_WRITE}, &answered},
        };
        for (size_t k = 0; k < ARRAY_COUNT(c); k++) {
            c[k].req.done = counted_done;
            disk_submit(w.disk, &c[k].req);
        }
        world_kill(&w);
        while (loop_sim_step(w.sim)) {
        }
        world_boot(&w);
        int64_t len = content(&w, "/f", out, sizeof out);
        CHECK_TRUE(len >= 0 && len <= 1000);
        CHECK_BYTES(out, bytes, (size_t)len);
        count[len == 0 ? LOST : len == 1000 ? KEPT : TORN]++;
        f = created(&w, "/f");
        CHECK_EQ(now_file(&w, DISK_LOCK, f), 0); /* its lock went with it */
        world_end(&w);
    }
    CHECK_EQ(answered, 0);
    CHECK_TRUE(count[LOST] > SEEDS / 5);
    CHECK_TRUE(count[KEPT] > SEEDS / 5);
    CHECK_TRUE(count[TORN] > SEEDS / 5);
}

/* What was waiting for its turn did not happen: of ten copies beside a request of people one at
 * most. */
TEST(a_dead_process_did_not_do_what_waited_for_its_turn)
{
    enum { COUNT = 10 };
    unsigned answered = 0, most = 0;
    for (unsigned i = 0; i < 100; i++) {
        struct world w = world_of(testing_seed() + i);
        struct counted c[COUNT + 1];
        struct disk_file *f = created(&w, "/f");
        uint8_t out[COUNT + 1] = {0};
        char byte = 'w';
        for (unsigned k = 0; k <= COUNT; k++) {
            c[k] = (struct counted){{.op = DISK_WRITE, .file = f, .offset = k}, &answered};
            c[k].req.lane = k == 0 ? DISK_FOREGROUND : DISK_COPYING;
            c[k].req.buf = &byte;
            c[k].req.len = 1;
            c[k].req.done = counted_done;
            disk_submit(w.disk, &c[k].req);
        }
        CHECK_EQ(disk_sim_begun(w.machine, DISK_COPYING), 1);
        world_kill(&w);
        while (loop_sim_step(w.sim)) {
        }
        world_boot(&w);
        int64_t len = content(&w, "/f", out, sizeof out);
        unsigned found = 0;
        CHECK_TRUE(len >= 0);
        for (unsigned k = 1; k <= COUNT; k++) {
            found += out[k] == 'w' ? 1 : 0;
        }
        CHECK_TRUE(found <= 1);
        most = found > most ? found : most;
        world_end(&w);
    }
    CHECK_EQ(answered, 0);
    CHECK_EQ(most, 1);
}

/* What was written, synced or not, is there after the process has died. */
TEST(a_dead_process_loses_nothing_written)
{
    struct world w = world_of(testing_seed());
    char out[4] = {0};
    struct disk_file *f = created(&w, "/f");
    CHECK_EQ(put(&w, f, 0, "abc", 3), 3);
    CHECK_EQ(now_path(&w, DISK_REMOVE, "/none"), -ENOENT);
    struct disk_file *gone = created(&w, "/gone");
    CHECK_EQ(put(&w, gone, 0, "abc", 3), 3);
    CHECK_EQ(now_path(&w, DISK_REMOVE, "/gone"), 0);
    CHECK_EQ(disk_sim_used_bytes(w.machine), 8192);
    world_kill(&w);
    CHECK_EQ(disk_sim_used_bytes(w.machine), 4096); /* its last descriptor is closed */
    world_boot(&w);
    CHECK_EQ(content(&w, "/f", out, 3), 3);
    CHECK_TEXT(out, "abc");
    CHECK_RC((int)content(&w, "/gone", out, 3), ENOENT);
    world_end(&w);
}

/* Calls from inside of a process: what it gets is its own and goes with it, files stay. */
struct inside {
    struct disk_req list, again;
    struct world *world;
    bool done;
};

static void inside_done(struct disk_req *req, int64_t rc)
{
    struct inside *in = container_of(req, struct inside, again);
    CHECK(rc == 1);
    CHECK(req->names->count == 1);
    in->done = true;
}

static void inside_run(void *ctx)
{
    struct inside *in = ctx;
    store(in->world, "/f", 'i', 8192);
    struct disk_file *left_open = created(in->world, "/f");
    CHECK_EQ(put(in->world, left_open, 1, "x", 1), 1);
    in->list = (struct disk_req){.op = DISK_LIST, .path = "/"};
    CHECK_EQ(disk_now(in->world->disk, &in->list), 1);
    in->again = (struct disk_req){.op = DISK_LIST, .path = "/", .done = inside_done};
    disk_submit(in->world->disk, &in->again);
}

TEST(memory_belongs_to_process_or_machine)
{
    struct world w = world_of(testing_seed());
    struct inside in = {.world = &w};
    char out[3] = {0};
    loop_sim_enter(w.loop, inside_run, &in);
    for (int i = 0; i < STEPS_MAX && !in.done; i++) {
        CHECK_TRUE(loop_sim_step(w.sim));
    }
    CHECK_TEXT(in.list.names->name[0], "f"); /* neither list is freed: the process dies */
    world_kill(&w);
    world_boot(&w);
    CHECK_EQ(content(&w, "/f", out, 2), 2);
    CHECK_TEXT(out, "ix");
    CHECK_EQ(disk_sim_used_bytes(w.machine), 8192);
    world_end(&w);
}

/* The machine may be freed before its processes are dead. */
TEST(machine_is_freed_first)
{
    struct world w = world_of(testing_seed());
    struct waiting a, b;
    start(&w, &a, &(struct disk_req){.op = DISK_MKDIR, .path = "/d"});
    start(&w, &b, &(struct disk_req){.op = DISK_OPEN, .path = "/f", .flags = DISK_CREATE});
    disk_sim_free(w.machine);
    while (loop_sim_step(w.sim)) {
    }
    CHECK_TRUE(!a.done && !b.done);
    loop_sim_free(w.sim);
}

/* ---- Faults, space, speed ---- */

TEST(fails_the_nth_matching_request)
{
    struct world w = world_of(testing_seed());
    struct disk_file *f = created(&w, "/log.1"), *other = created(&w, "/other");
    disk_sim_fail(w.machine, DISK_WRITE, "log", 2, 2, -EIO);
    CHECK_EQ(put(&w, f, 0, "x", 1), 1);
    CHECK_EQ(put(&w, other, 0, "x", 1), 1);
    CHECK_RC((int)put(&w, f, 0, "x", 1), EIO);
    CHECK_EQ(put(&w, other, 0, "x", 1), 1);
    CHECK_RC((int)put(&w, f, 0, "x", 1), EIO);
    CHECK_EQ(put(&w, f, 0, "x", 1), 1);
    disk_sim_fail(w.machine, DISK_RENAME, "new", 1, 0, -ENOSPC);
    CHECK_RC((int)now_rename(&w, "/other", "/new"), ENOSPC);
    CHECK_RC((int)now_rename(&w, "/other", "/new"), ENOSPC);
    disk_sim_fail(w.machine, DISK_CLOSE, NULL, 1, 1, -EIO);
    CHECK_RC((int)now_file(&w, DISK_CLOSE, other), EIO);
    struct waiting wait;
    disk_sim_fail(w.machine, DISK_STAT, NULL, 1, 1, -EIO);
    start(&w, &wait, &(struct disk_req){.op = DISK_STAT, .path = "/"});
    CHECK_RC((int)finish(&w, &wait), EIO);
    disk_sim_heal(w.machine);
    CHECK_EQ(now_rename(&w, "/other", "/new"), 0);
    world_end(&w);
}

TEST(a_read_may_end_early)
{
    struct world w = world_of(testing_seed());
    struct disk_file *f = created(&w, "/f");
    char out[8], rest[5];
    memset(rest, 0xdb, sizeof rest);
    CHECK_EQ(put(&w, f, 0, "12345678", 8), 8);
    disk_sim_fail(w.machine, DISK_READ, "/f", 1, 1, 3);
    struct disk_req req = {.op = DISK_READ, .file = f, .buf = out, .len = sizeof out};
    struct waiting wait;
    start(&w, &wait, &req);
    CHECK_EQ(finish(&w, &wait), 3);
    CHECK_BYTES(out, "123", 3);
    CHECK_BYTES(out + 3, rest, sizeof rest);
    start(&w, &wait, &req);
    CHECK_EQ(finish(&w, &wait), 8);
    CHECK_BYTES(out, "12345678", 8);
    CHECK_EQ(now_file(&w, DISK_CLOSE, f), 0);
    world_end(&w);
}

TEST(space_runs_out_and_comes_back)
{
    struct world w =
        world_new(testing_seed(), &(struct disk_sim_options){.capacity_bytes = UINT64_C(3) * 4096});
    uint8_t bytes[8192] = {1};
    struct disk_file *a = created(&w, "/a"), *b = created(&w, "/b");
    CHECK_EQ(put(&w, a, 0, bytes, 8192), 8192);
    CHECK_RC((int)put(&w, b, 0, bytes, 8192), ENOSPC);
    CHECK_RC((int)now_range(&w, DISK_ALLOCATE, b, 0, 8192), ENOSPC);
    CHECK_RC((int)now_range(&w, DISK_ALLOCATE, b, 0, UINT64_C(1) << 43), ENOSPC);
    CHECK_EQ(put(&w, b, 4000, bytes, 96), 96);
    CHECK_EQ(disk_sim_used_bytes(w.machine), 3 * 4096);
    CHECK_EQ(put(&w, a, 100, bytes, 4096), 4096); /* rewriting needs no space */
    struct disk_req statfs = {.op = DISK_STATFS, .path = "/"};
    CHECK_EQ(disk_now(w.disk, &statfs), 0);
    CHECK_EQ(statfs.stat.total_bytes, 3 * 4096);
    CHECK_EQ(statfs.stat.free_bytes, 0);
    CHECK_EQ(now_range(&w, DISK_PUNCH, a, 0, 4096), 0);
    CHECK_EQ(disk_sim_used_bytes(w.machine), 2 * 4096);
    CHECK_EQ(now_range(&w, DISK_TRUNCATE, a, 0, 0), 0);
    CHECK_EQ(now_file(&w, DISK_CLOSE, b), 0);
    CHECK_EQ(now_path(&w, DISK_REMOVE, "/b"), 0);
    CHECK_EQ(disk_sim_used_bytes(w.machine), 0);
    disk_sim_capacity(w.machine, 4096);
    CHECK_RC((int)put(&w, a, 0, bytes, 8192), ENOSPC);
    world_end(&w);
}

TEST(corrupts_behind_everyones_back)
{
    struct world w = world_of(testing_seed());
    char out[4] = {0};
    store(&w, "/f", 'a', 3);
    CHECK_RC(disk_sim_corrupt(w.machine, "/none", 0, 1), ENOENT);
    CHECK_RC(disk_sim_corrupt(w.machine, "/f", 3, 1), ERANGE);
    CHECK_OK(disk_sim_corrupt(w.machine, "/f", 1, 3));
    CHECK_EQ(content(&w, "/f", out, 3), 3);
    CHECK_TEXT(out, "aba");
    world_crash(&w);
    CHECK_EQ(content(&w, "/f", out, 3), 3);
    CHECK_TEXT(out, "aba");
    struct disk_file *f = created(&w, "/f");
    CHECK_EQ(put(&w, f, 0, "X", 1), 1);
    CHECK_OK(disk_sim_corrupt(w.machine, "/f", 2, 1)); /* the two sides differ */
    disk_sim_crash_mode(w.machine, DISK_SIM_LOSE_ALL);
    world_crash(&w);
    CHECK_EQ(content(&w, "/f", out, 3), 3);
    CHECK_TEXT(out, "ab`");
    world_end(&w);
}

TEST(takes_the_time_that_was_asked_for)
{
    struct world w =
        world_new(testing_seed(), &(struct disk_sim_options){.min_ns = 1000, .max_ns = 2000});
    struct waiting wait;
    uint64_t before = loop_sim_now_ns(w.sim);
    start(&w, &wait, &(struct disk_req){.op = DISK_STAT, .path = "/"});
    CHECK_EQ(finish(&w, &wait), 0);
    CHECK_TRUE(loop_sim_now_ns(w.sim) - before >= 1000);
    CHECK_TRUE(loop_sim_now_ns(w.sim) - before <= 32000);
    disk_sim_slow(w.machine, 5000000000);
    before = loop_sim_now_ns(w.sim);
    start(&w, &wait, &(struct disk_req){.op = DISK_STAT, .path = "/"});
    CHECK_EQ(finish(&w, &wait), 0);
    CHECK_TRUE(loop_sim_now_ns(w.sim) - before >= 5000001000);
    world_end(&w);
}

/* What went through it and was not put out, to the page; not what went past it. */
TEST(the_page_cache_is_what_is_said)
{
    struct world w = world_of(testing_seed());
    CLEANUP(mem_freep) uint8_t *bytes = mem_aligned(4096, 65536);
    struct disk_file *f = created(&w, "/f");
    CHECK_TRUE(bytes != NULL);
    memset(bytes, 'a', 65536);
    CHECK_EQ(put(&w, f, 0, bytes, 65536), 65536);
    disk_sim_cache_mode(w.machine, DISK_SIM_CACHE_EXACT);
    struct disk_req req = {.op = DISK_READ, .file = f, .buf = bytes, .len = 65536};
    CHECK_RC((int)disk_try_read(w.disk, &req), EAGAIN);
    req.flags = DISK_PAST_CACHE;
    CHECK_EQ(disk_now(w.disk, &req), 65536);
    CHECK_EQ(disk_sim_cached_bytes(w.machine), 0);
    CHECK_EQ(now_range(&w, DISK_FETCH, f, 5000, 10000), 10000);
    CHECK_EQ(disk_sim_cached_bytes(w.machine), 3 * 4096);
    CHECK_TRUE(disk_resident(w.disk, f, 4096, 12288));
    CHECK_TRUE(!disk_resident(w.disk, f, 4095, 2) && !disk_resident(w.disk, f, 16383, 2));
    CHECK_EQ(put(&w, f, 16384, "b", 1), 1);
    CHECK_TRUE(disk_resident(w.disk, f, 16383, 2));
    CHECK_OK(disk_refresh(w.disk, f));
    CHECK_EQ(disk_sim_cached_bytes(w.machine), 0);
    req = (struct disk_req){.op = DISK_READ, .file = f, .buf = bytes, .len = 4096};
    CHECK_EQ(disk_now(w.disk, &req), 4096);
    CHECK_EQ(disk_try_read(w.disk, &req), 4096);
    disk_sim_cache_empty(w.machine);
    CHECK_TRUE(!disk_resident(w.disk, f, 0, 1));
    disk_sim_no_direct(w.machine, true);
    req.flags = DISK_PAST_CACHE;
    CHECK_RC((int)disk_now(w.disk, &req), EOPNOTSUPP);
    world_end(&w);
}

/* Refused above the limit, answered all the same; closing always works. */
TEST(refuses_when_the_queue_is_full)
{
    enum { COUNT = 4200 };
    struct world w = world_of(testing_seed());
    static struct waiting wait[COUNT];
    unsigned busy = 0;
    struct disk_file *f = created(&w, "/f");
    for (size_t i = 0; i < COUNT; i++) {
        start(&w, &wait[i], &(struct disk_req){.op = DISK_STAT, .path = "/"});
    }
    struct waiting close;
    start(&w, &close, &(struct disk_req){.op = DISK_CLOSE, .file = f});
    for (size_t i = 0; i < COUNT; i++) {
        int64_t rc = finish(&w, &wait[i]);
        CHECK_TRUE(rc == 0 || rc == -ERR_busy);
        busy += rc == 0 ? 0 : 1;
    }
    CHECK_EQ(busy, COUNT - 4096);
    CHECK_EQ(finish(&w, &close), 0);
    CHECK_EQ(disk_in_flight(w.disk), 0);
    disk_free(w.disk);
    world_end(&w);
}

/* ---- Cost and determinism ---- */

TEST(holds_much_data_cheaply)
{
    enum { PIECE = 1 << 20, COUNT = 100 };
    struct world w = world_of(testing_seed());
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(PIECE);
    CHECK_TRUE(bytes != NULL);
    memset(bytes, 5, PIECE);
    struct disk_file *f = created(&w, "/f");
    for (uint64_t i = 0; i < COUNT; i++) {
        CHECK_EQ(put(&w, f, i * PIECE, bytes, PIECE), PIECE);
    }
    CHECK_EQ(now_file(&w, DISK_SYNC_ALL, f), 0);
    CHECK_EQ(disk_sim_used_bytes(w.machine), (uint64_t)COUNT * PIECE);
    CHECK_EQ(put(&w, f, UINT64_C(1) << 43, bytes, 1), 1); /* sparse */
    CHECK_EQ(disk_sim_used_bytes(w.machine), (uint64_t)COUNT * PIECE + 4096);
    world_crash(&w);
    CHECK_EQ(disk_sim_used_bytes(w.machine) / PIECE, COUNT);
    world_end(&w);
}

static uint64_t scenario(uint64_t seed)
{
    enum { COUNT = 60 };
    static struct waiting wait[COUNT];
    static const char *const path[] = {"/a", "/b", "/c"};
    struct world w = world_of(seed);
    uint8_t bytes[3000];
    struct rand r;
    rand_seed(&r, seed);
    rand_bytes(&r, bytes, sizeof bytes);
    for (int life = 0; life < 3; life++) {
        struct disk_file *f = created(&w, path[life]);
        for (size_t i = 0; i < COUNT; i++) {
            struct disk_req req = {
                .op = i % 7 == 0   ? DISK_SYNC
                      : i % 5 == 0 ? DISK_RENAME
                                   : DISK_WRITE,
                .file = f,
                .offset = rand_below(&r, 9000),
                .buf = bytes,
                .len = rand_below(&r, sizeof bytes),
                .path = path[rand_below(&r, 3)],
                .path_to = path[rand_below(&r, 3)],
            };
            start(&w, &wait[i], &req);
        }
        for (int steps = 0; steps < 40; steps++) {
            CHECK_TRUE(loop_sim_step(w.sim));
        }
        world_crash(&w);
    }
    uint64_t digest = loop_sim_digest(w.sim) + disk_sim_used_bytes(w.machine);
    for (size_t i = 0; i < ARRAY_COUNT(path); i++) {
        uint8_t out[12000];
        int64_t len = content(&w, path[i], out, sizeof out);
        digest = digest * 31 + (uint64_t)len;
        for (int64_t k = 0; k < len; k++) {
            digest = digest * 31 + out[k];
        }
    }
    world_end(&w);
    return digest;
}

TEST(the_seed_determines_everything)
{
    unsigned different = 0;
    for (unsigned i = 0; i < 50; i++) {
        uint64_t digest = scenario(testing_seed() + i);
        CHECK_EQ(digest, scenario(testing_seed() + i));
        different += digest != scenario(testing_seed() + i + 1) ? 1 : 0;
    }
    CHECK_EQ(different, 50);
}

/* ---- Out of memory ---- */

TEST_TORTURE(survives_without_memory)
{
    CLEANUP(loop_sim_freep) struct loop_sim *sim = loop_sim_new(1);
    TRY_PTR(sim);
    CLEANUP(disk_sim_freep)
    struct disk_sim *machine = disk_sim_new(&(struct disk_sim_options){.sim = sim});
    TRY_PTR(machine);
    struct world w = {.sim = sim, .machine = machine};
    TRY(loop_sim_process(sim, "test", 1, &w.loop));
    TRY(disk_sim_open(machine, w.loop, &w.disk));
    TRY(disk_make_directories(w.disk, "/a/b"));
    TRY(disk_store(w.disk, "/a/b/f", "content", 7));
    TRY((int)now_rename(&w, "/a/b/f", "/a/g"));
    CLEANUP(mem_freep) void *bytes = NULL;
    size_t len = 0;
    TRY(disk_load(w.disk, "/a/g", 100, &bytes, &len));
    CHECK_BYTES(bytes, "content", 7);
    struct disk_req list = {.op = DISK_LIST, .path = "/a"};
    int64_t rc = disk_now(w.disk, &list);
    TRY(rc < 0 ? (int)rc : 0);
    mem_free(list.names);
    struct disk_req open = {.op = DISK_OPEN, .path = "/a/g", .flags = DISK_READ_WRITE};
    TRY((int)disk_now(w.disk, &open));
    rc = put(&w, open.file, 2, "NEW", 3);
    TRY(rc < 0 ? (int)rc : 0);
    loop_sim_kill(w.loop);
    disk_sim_crash(machine);
}
