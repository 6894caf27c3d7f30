/*
 * journal/crash_test.c -- seeds: a simulated process appends, cuts and trims at random, dies or
 * loses its machine at a random moment, with or without disk faults, and opens the journal again.
 * What a replay gives must be the effect of a prefix of the submitted operations that holds all
 * that were acknowledged as stable: nothing lost, nothing invented, order kept.
 *
 * The world (what was submitted and answered) lives outside of the simulated process.
 */
#include "base/env.h"
#include "base/mem.h"
#include "base/rand.h"
#include "disk/sim.h"
#include "journal/journal.h"
#include "loop/sim.h"
#include "testing/machine.h"
#include "testing/testing.h"

#include <string.h>

#define OPS_MAX 1024u
#define LOG_MAX 2048u
#define PAYLOAD_MAX 3000u
#define MS 1000000u
#define DIRECTORY "/journal"

struct op {
    bool cut, taken_back; /* by -ENOSPC: its index was given again */
    uint64_t index, id;
};

struct log {
    uint64_t id[LOG_MAX]; /* by index; 0: none */
    uint64_t next;
};

struct world {
    bool faults; /* of the disk */
    struct rand rand;
    struct testing_machine machine;
    struct journal *journal; /* the process' */
    struct journal_user user;
    struct env env;
    struct op op[OPS_MAX];
    size_t op_count;
    size_t stable; /* the first so many operations are known to be stable */
    uint64_t last_id, trimmed;
    struct log base, replayed, model;
    bool stopped, quiet;
    int open_rc, failed, stop_rc;
    unsigned failed_calls, lives, records_checked;
    struct err err;
};

static void log_cut(struct log *l, uint64_t index)
{
    for (uint64_t i = index > l->next ? 0 : index; i < l->next; i++) {
        l->id[i] = 0;
    }
    l->next = index;
}

static void log_apply(struct log *l, const struct op *op)
{
    if (op->taken_back) {
        return;
    }
    if (op->cut) {
        log_cut(l, op->index);
    } else {
        l->id[op->index] = op->id;
        l->next = op->index + 1;
    }
}

static int world_record(struct journal_user *u, const struct journal_record *r)
{
    struct world *w = container_of(u, struct world, user);
    uint8_t expected[PAYLOAD_MAX];
    uint64_t id = 0;
    CHECK_TRUE(r->len >= sizeof id && r->index < LOG_MAX);
    memcpy(&id, r->bytes, sizeof id);
    CHECK_EQ(testing_payload(id, PAYLOAD_MAX, expected), r->len);
    CHECK_BYTES(r->bytes, expected, r->len);
    CHECK_EQ(r->type, id % 1000);
    CHECK_EQ((uintptr_t)r->bytes % 8, 0);
    w->replayed.id[r->index] = id;
    w->replayed.next = r->index + 1;
    w->records_checked++;
    return 0;
}

static int world_cut(struct journal_user *u, uint64_t index)
{
    struct world *w = container_of(u, struct world, user);
    log_cut(&w->replayed, index);
    return 0;
}

static void world_failed(struct journal_user *u, int rc, const char *reason)
{
    struct world *w = container_of(u, struct world, user);
    CHECK_TRUE(rc < 0 && reason[0] != 0);
    w->failed = rc;
    w->failed_calls++;
    CHECK_EQ(w->failed_calls, 1);
}

static const struct journal_user_ops world_ops = {
    .record = world_record, .cut = world_cut, .failed = world_failed};

/* --- the process ---------------------------------------------------------------------------------
 */

struct actor { /* one operation under way */
    struct world *world;
    struct journal_append append;
    struct journal_cut cut;
    struct journal_sync sync;
    struct iovec iov[3];
    size_t position; /* in world.op, + 1 */
    uint8_t bytes[PAYLOAD_MAX];
};

static void stable_up_to(struct world *w, size_t position)
{
    if (position > w->stable) {
        w->stable = position;
    }
}

static void take_back(struct world *w, size_t position, uint64_t index)
{
    if (index != 0) {
        w->op[position - 1].taken_back = true;
    }
}

static void actor_append_done(struct journal_append *a, int rc)
{
    struct actor *x = container_of(a, struct actor, append);
    if (rc == 0 && a->durability == JOURNAL_STABLE) {
        stable_up_to(x->world, x->position);
    } else if (rc == -ENOSPC) {
        take_back(x->world, x->position, a->index);
    }
    mem_free(x);
}

static void actor_cut_done(struct journal_cut *c, int rc)
{
    struct actor *x = container_of(c, struct actor, cut);
    if (rc == 0) {
        stable_up_to(x->world, x->position);
    } else if (rc == -ENOSPC) {
        take_back(x->world, x->position, c->append.index);
    }
    mem_free(x);
}

static void actor_sync_done(struct journal_sync *s, int rc)
{
    struct actor *x = container_of(s, struct actor, sync);
    if (rc == 0) {
        stable_up_to(x->world, x->position);
    }
    mem_free(x);
}

static void act_append(struct world *w, struct actor *x)
{
    uint64_t id = ++w->last_id;
    size_t len = testing_payload(id, PAYLOAD_MAX, x->bytes);
    size_t a = rand_below(&w->rand, len + 1), b = rand_range(&w->rand, a, len);
    x->iov[0] = (struct iovec){x->bytes, a};
    x->iov[1] = (struct iovec){x->bytes + a, b - a};
    x->iov[2] = (struct iovec){x->bytes + b, len - b};
    x->append = (struct journal_append){
        .done = actor_append_done,
        .iov = x->iov,
        .iov_count = 3,
        .type = (uint16_t)(id % 1000),
        .durability = rand_chance(&w->rand, 1, 2) ? JOURNAL_STABLE : JOURNAL_WRITTEN};
    journal_append(w->journal, &x->append);
    if (x->append.index != 0) {
        w->op[w->op_count++] = (struct op){.index = x->append.index, .id = id};
    }
    x->position = w->op_count;
}

static void act_cut(struct world *w, struct actor *x)
{
    struct journal_info info;
    journal_info(w->journal, &info);
    uint64_t low = base_max(w->trimmed + 1, info.next_index > 8 ? info.next_index - 8 : 1);
    uint64_t index = rand_chance(&w->rand, 1, 8)
                         ? info.next_index + rand_below(&w->rand, 5)
                         : base_max(low, info.next_index > 3 ? info.next_index - 3 : 1);
    x->cut = (struct journal_cut){.done = actor_cut_done, .index = index};
    journal_cut(w->journal, &x->cut);
    if (info.failed == 0) {
        w->op[w->op_count++] = (struct op){.cut = true, .index = index};
    }
    x->position = w->op_count;
}

static void act(void *ctx)
{
    struct world *w = ctx;
    struct journal_info info;
    journal_info(w->journal, &info);
    if (w->op_count + 2 > OPS_MAX || info.next_index + 16 > LOG_MAX) {
        return;
    }
    struct actor *x = mem_zalloc(sizeof *x);
    CHECK_TRUE(x != NULL);
    x->world = w;
    uint64_t what = rand_below(&w->rand, 40);
    if (what == 0) {
        act_cut(w, x);
    } else if (what < 4) {
        x->sync.done = actor_sync_done;
        x->position = w->op_count;
        journal_sync(w->journal, &x->sync);
    } else if (what == 4) {
        /* what is trimmed must be stable: the owner has it elsewhere */
        w->trimmed = base_max(w->trimmed, info.stable_index > 4 ? info.stable_index - 4 : 0);
        journal_trim(w->journal, w->trimmed);
        mem_free(x);
    } else {
        act_append(w, x);
    }
}

struct driver {
    struct world *world;
    struct loop_timer timer;
};

static void driver_fire(struct loop_timer *t)
{
    struct driver *d = container_of(t, struct driver, timer);
    uint64_t burst = rand_below(&d->world->rand, 6);
    for (uint64_t i = 0; i < burst && !d->world->quiet; i++) {
        act(d->world);
    }
    if (!d->world->quiet) {
        loop_timer_in(d->world->machine.loop, t, rand_below(&d->world->rand, 2 * (uint64_t)MS));
    }
}

static void process_open(void *ctx)
{
    struct world *w = ctx;
    w->open_rc = disk_make_directories(w->env.disk, DIRECTORY);
    struct journal_options opt = {.env = &w->env,
                                  .directory = DIRECTORY,
                                  .user = &w->user,
                                  .owner = "owner",
                                  .segment_bytes = 32768,
                                  .max_record_bytes = 4096,
                                  .queue_bytes = 65536,
                                  .keep_segments = (unsigned)rand_below(&w->rand, 3),
                                  .sparse = !w->faults && rand_chance(&w->rand, 1, 4)};
    memset(&w->replayed, 0, sizeof w->replayed);
    w->replayed.next = 1;
    w->err = (struct err){0};
    if (w->open_rc == 0) {
        w->open_rc = journal_open(&opt, &w->journal, &w->err);
    }
    if (w->open_rc == 0) {
        struct journal_info info;
        journal_info(w->journal, &info);
        w->replayed.next = info.next_index; /* a seal alone tells it, too */
    }
}

static void process_drive(void *ctx)
{
    struct world *w = ctx;
    struct driver *d = mem_zalloc(sizeof *d);
    CHECK_TRUE(d != NULL);
    d->world = w;
    d->timer.fire = driver_fire;
    loop_timer_in(w->machine.loop, &d->timer, 0);
}

struct stopper {
    struct world *world;
    struct journal_stop stop;
};

static void stopper_done(struct journal_stop *s, int rc)
{
    struct stopper *x = container_of(s, struct stopper, stop);
    x->world->stopped = true;
    x->world->stop_rc = rc;
    x->world->journal = journal_free(x->world->journal);
    mem_free(x);
}

static void process_stop(void *ctx)
{
    struct world *w = ctx;
    struct stopper *x = mem_zalloc(sizeof *x);
    CHECK_TRUE(x != NULL);
    x->world = w;
    x->stop.done = stopper_done;
    journal_stop(w->journal, &x->stop);
}

static bool world_stopped(void *ctx)
{
    return ((struct world *)ctx)->stopped;
}

/* --- the check -----------------------------------------------------------------------------------
 */

static bool logs_equal(const struct world *w, const struct log *model)
{
    if (model->next != w->replayed.next) {
        return false;
    }
    for (uint64_t i = 0; i < model->next; i++) {
        bool may_be_gone = i < w->trimmed && w->replayed.id[i] == 0;
        if (model->id[i] != w->replayed.id[i] && !may_be_gone) {
            return false;
        }
    }
    return true;
}

/* The replayed log is that of a prefix with everything stable in it; it is the new base. */
static void world_check(struct world *w)
{
    w->model = w->base;
    bool found = w->stable == 0 && logs_equal(w, &w->model);
    for (size_t i = 0; i < w->op_count && !found; i++) {
        log_apply(&w->model, &w->op[i]);
        found = i + 1 >= w->stable && logs_equal(w, &w->model);
    }
    CHECK_TRUE(found);
    w->base = w->model;
    w->op_count = 0;
    w->stable = 0;
}

static void world_reopen(struct world *w)
{
    w->failed = 0;
    w->failed_calls = 0;
    w->stopped = false;
    w->quiet = false;
    w->journal = NULL;
    testing_machine_start(&w->machine, "journal", &w->env);
    loop_sim_enter(w->machine.loop, process_open, w);
    w->lives++;
}

enum end { END_KILL, END_CRASH, END_STOP };

static void world_end(struct world *w, enum end end)
{
    if (end == END_STOP) {
        w->quiet = true;
        loop_sim_enter(w->machine.loop, process_stop, w);
        CHECK_TRUE(testing_machine_until(&w->machine, world_stopped, w, 60000));
        if (w->stop_rc == 0) {
            w->stable = w->op_count;
        }
    }
    testing_machine_kill(&w->machine, end == END_CRASH);
}

static void world_begin(struct world *w, uint64_t seed)
{
    *w = (struct world){.user.ops = &world_ops, .base.next = 1};
    rand_seed(&w->rand, seed);
    testing_machine_init(&w->machine, seed);
}

static void world_play(struct world *w, unsigned lives, bool faults)
{
    w->faults = faults;
    for (unsigned life = 0; life < lives; life++) {
        if (faults) {
            testing_machine_spoil(&w->machine, &w->rand, DIRECTORY, 12);
        }
        disk_sim_writeback(w->machine.disk, 4, faults && rand_chance(&w->rand, 1, 2) ? 32 : 0);
        world_reopen(w);
        if (w->open_rc == 0) {
            world_check(w);
            loop_sim_enter(w->machine.loop, process_drive, w);
            testing_machine_steps(&w->machine, rand_below(&w->rand, 600));
        } else {
            CHECK_TRUE(faults && !err_is(w->open_rc, ERR_corrupt));
            CHECK_TRUE(w->open_rc == -EIO || w->open_rc == -ENOSPC);
        }
        bool can_stop = w->open_rc == 0;
        world_end(w, can_stop ? (enum end)rand_below(&w->rand, 3) : END_KILL);
        disk_sim_heal(w->machine.disk);
    }
    world_reopen(w);
    for (unsigned i = 0; i < 8 && faults && w->open_rc == -EIO; i++) { /* of a life before */
        world_end(w, END_KILL);
        world_reopen(w);
    }
    CHECK_OK(w->open_rc);
    world_check(w);
    world_end(w, END_STOP);
}

static struct world *world_new(void)
{
    struct world *w = mem_zalloc(sizeof *w);
    CHECK_TRUE(w != NULL);
    return w;
}

static void check_seeds(uint64_t first, unsigned count, bool faults)
{
    struct world *w = world_new();
    uint64_t records = 0;
    for (unsigned i = 0; i < count; i++) {
        world_begin(w, first + i);
        world_play(w, 6, faults);
        records += w->records_checked;
        testing_machine_fini(&w->machine);
    }
    CHECK_TRUE(records > count);
    mem_free(w);
}

TEST(journal_survives_kills_and_power_cuts)
{
    check_seeds(testing_seed(), 500, false);
}

TEST(journal_survives_faults_of_the_disk)
{
    check_seeds(testing_seed() + 1000000, 500, true);
}

/* After an orderly end every flipped bit in front of the seal is reported; before one, a flipped
 * bit is reported or ends the log, but invents nothing. */
static void check_flipped(struct world *w, uint64_t seed)
{
    world_begin(w, seed);
    world_reopen(w);
    CHECK_OK(w->open_rc);
    loop_sim_enter(w->machine.loop, process_drive, w);
    testing_machine_steps(&w->machine, 40);
    bool sealed = rand_chance(&w->rand, 1, 2);
    world_end(w, sealed ? END_STOP : END_CRASH);
    char path[64] = DIRECTORY "/0000000000000001.journal";
    uint64_t offset =
        rand_chance(&w->rand, 1, 8) ? rand_below(&w->rand, 64) : 4096 + rand_below(&w->rand, 6000);
    int rc =
        disk_sim_corrupt(w->machine.disk, path, offset, (uint8_t)(1u << rand_below(&w->rand, 8)));
    CHECK_TRUE(rc == 0 || rc == -ERANGE || rc == -ENOENT);
    if (!sealed) {
        w->stable = 0; /* damage of the last batch cannot be told from a torn one */
    }
    world_reopen(w);
    if (w->open_rc == 0) {
        world_check(w);
        world_end(w, END_STOP);
    } else {
        CHECK_ERR(w->open_rc, ERR_corrupt);
        CHECK_TRUE(strstr(w->err.text, "segment") != NULL);
        world_end(w, END_KILL);
    }
    testing_machine_fini(&w->machine);
}

struct cutter {
    struct world *world;
    uint64_t len;
};

static void process_cut_file(void *ctx)
{
    struct cutter *x = ctx;
    struct disk *disk = x->world->env.disk;
    struct disk_req req = {
        .op = DISK_OPEN, .path = DIRECTORY "/0000000000000001.journal", .flags = DISK_READ_WRITE};
    CHECK_EQ(disk_now(disk, &req), 0);
    struct disk_req cut = {.op = DISK_TRUNCATE, .file = req.file, .len = x->len};
    CHECK_EQ(disk_now(disk, &cut), 0);
}

/* A file that ends anywhere: a prefix, or, inside the header, an error. */
static uint64_t truncate_seed(struct world *w, uint64_t seed, uint64_t len)
{
    world_begin(w, seed);
    world_reopen(w);
    CHECK_OK(w->open_rc);
    for (size_t i = 0; i < 12; i++) {
        loop_sim_enter(w->machine.loop, act, w);
        testing_machine_steps(&w->machine, 12);
    }
    world_end(w, END_KILL);
    testing_machine_start(&w->machine, "cutter", &w->env);
    loop_sim_enter(w->machine.loop, process_cut_file, &(struct cutter){w, len});
    testing_machine_kill(&w->machine, false);
    w->stable = 0;
    world_reopen(w);
    uint64_t records = w->records_checked;
    if (len < 64) {
        CHECK_RC(w->open_rc, ERR_short_msg);
        world_end(w, END_KILL);
    } else {
        CHECK_OK(w->open_rc);
        world_check(w);
        world_end(w, END_STOP);
    }
    testing_machine_fini(&w->machine);
    return records;
}

TEST(journal_stands_a_file_that_ends_anywhere)
{
    struct world *w = world_new();
    uint64_t last = 0;
    for (uint64_t len = 0; len < 4096 + 2500; len += len < 64 || len >= 4080 ? 1 : 17) {
        uint64_t records = truncate_seed(w, 77, len);
        CHECK_TRUE(records >= last);
        last = records;
    }
    CHECK_TRUE(last > 2);
    mem_free(w);
}

TEST(journal_sees_flipped_bits)
{
    struct world *w = world_new();
    for (unsigned i = 0; i < 500; i++) {
        check_flipped(w, testing_seed() + 2000000 + i);
    }
    mem_free(w);
}
