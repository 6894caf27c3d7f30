/*
 * tree/file_crash_test.c -- a simulated process writes, appends to and frees blocks at random,
 * takes checkpoints meanwhile, and dies or loses its machine at every single request to the disk;
 * or a request fails, once or for ever. What the next life finds must be the state of a checkpoint
 * that was begun, not older than the newest that was told to be durable, in every byte; and the run
 * goes on from there.
 *
 * The world (the states of all checkpoints) lives outside of the simulated process.
 */
#include "base/env.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/rand.h"
#include "disk/sim.h"
#include "loop/loop.h"
#include "loop/sim.h"
#include "testing/machine.h"
#include "testing/testing.h"
#include "tree/file.h"
#include "tree/rig_tap_priv.h"

#include <stdio.h>
#include <string.h>

#define PATH "/tree"
#define SLOTS 10u
#define EXTENTS_MAX 5u
#define UNITS_MAX 4u
#define PIECES_MAX 3u
#define STATES 256u
#define JOBS 5u
#define UNIT UINT64_C(4096)
#define READS ((SLOTS * EXTENTS_MAX) + PIECES_MAX)

struct slot { /* a block; what it consists of, the newest first */
    uint64_t block, birth;
    unsigned count;
    uint64_t id[EXTENTS_MAX];
    uint32_t units[EXTENTS_MAX];
};
struct piece {
    struct tree_space_extent x;
    uint64_t id, birth;
};
struct state {
    bool known;
    struct slot slot[SLOTS];
    struct piece piece[PIECES_MAX];
    size_t piece_count;
    uint64_t index;
};

struct job {
    struct tree_file_write w;
    struct world *world;
    bool busy;
    unsigned slot;
    uint64_t id;
};
struct probe {
    struct tree_file_read r;
    struct world *world;
    uint64_t id;
};

/* Counts what changes the disk, and stops the world at one of them. */
struct tap {
    struct rig_tap tap;
    uint64_t count;
};

struct world {
    struct rand rand;
    struct testing_machine machine;
    struct env env;
    struct tap tap;
    struct tree_file *file;
    struct tree_file_found found;
    struct err err;
    int open_rc;
    struct state live;
    struct state state[STATES]; /* by number of the checkpoint */
    uint64_t frozen;            /* 0: none */
    uint64_t durable, before;   /* the newest that was said to be, and the one before it */
    uint64_t next_id, version;
    bool committing, stopped, quiet;
    struct tree_file_commit commit;
    struct tree_btt_piece list[PIECES_MAX];
    struct tree_file_stop stop;
    struct job job[JOBS];
    struct probe probe[READS];
    unsigned reads_left, failures, commits;
    int last_failure;
    uint64_t crash_at;
    struct tree_file_info info;
    struct fault *fault;
};

/* ---- the tap ---- */

static bool tap_counts(const struct disk_req *req)
{
    return req->op == DISK_WRITE || req->op == DISK_SYNC || req->op == DISK_ALLOCATE ||
           req->op == DISK_PUNCH || req->op == DISK_TRUNCATE;
}

static struct disk_req *tap_seen(struct rig_tap *tap, struct disk_req *req, bool now)
{
    (void)now;
    container_of(tap, struct tap, tap)->count += tap_counts(req) ? 1 : 0;
    return req;
}

/* ---- contents ---- */

static void fill(uint64_t id, uint8_t *at, size_t len)
{
    for (size_t i = 0; i < len; i += 8) {
        uint64_t v = (id << 20 | i) * UINT64_C(0x9e3779b97f4a7c15);
        memcpy(at + i, &v, 8);
    }
}

static bool is_filled(uint64_t id, const uint8_t *at, size_t len)
{
    uint64_t differ = 0;
    for (size_t i = 0; i < len; i += 8) {
        uint64_t v = (id << 20 | i) * UINT64_C(0x9e3779b97f4a7c15), got;
        memcpy(&got, at + i, 8);
        differ |= v ^ got;
    }
    return differ == 0;
}

/* ---- what the process does ---- */

static bool is_frozen(const struct world *w, const struct job *j)
{
    return w->frozen != 0 && j->w.birth <= w->frozen;
}

static bool slot_writes(const struct world *w, uint64_t block, bool frozen)
{
    for (unsigned i = 0; i < JOBS; i++) {
        const struct job *j = &w->job[i];
        if (j->busy && j->w.block == block && is_frozen(w, j) == frozen) {
            return true;
        }
    }
    return false;
}

static void slot_apply(struct slot *s, const struct job *j)
{
    if (j->w.append) {
        memmove(&s->id[1], &s->id[0], s->count * sizeof s->id[0]);
        memmove(&s->units[1], &s->units[0], s->count * sizeof s->units[0]);
        s->count++;
    } else {
        s->count = 1;
    }
    s->id[0] = j->id;
    s->units[0] = j->w.extent.count;
    s->birth = j->w.birth;
}

static void note_failure(struct world *w, int rc)
{
    w->failures++;
    w->last_failure = rc;
}

static void job_done(struct tree_file_write *tw, int rc)
{
    struct job *j = container_of(tw, struct job, w);
    struct world *w = j->world;
    j->busy = false;
    mem_free(tw->buf);
    if (rc < 0) {
        note_failure(w, rc);
        return;
    }
    if (tw->block == 0) {
        struct piece p = {.x = tw->extent, .id = j->id, .birth = tw->birth};
        CHECK(w->live.piece_count < PIECES_MAX);
        w->live.piece[w->live.piece_count++] = p;
        return;
    }
    struct slot *live = &w->live.slot[j->slot];
    if (is_frozen(w, j)) {
        struct slot *frozen = &w->state[w->frozen].slot[j->slot];
        CHECK(frozen->block == tw->block);
        slot_apply(frozen, j);
    }
    if (live->block == tw->block && live->birth <= tw->birth) {
        slot_apply(live, j);
    }
}

static struct job *job_free(struct world *w)
{
    for (unsigned i = 0; i < JOBS; i++) {
        if (!w->job[i].busy) {
            return &w->job[i];
        }
    }
    return NULL;
}

static void job_start(struct world *w, struct job *j, uint64_t block, uint64_t birth, bool append)
{
    uint32_t units = (uint32_t)rand_range(&w->rand, 1, UNITS_MAX);
    uint8_t *buf = mem_aligned(UNIT, (size_t)units * UNIT);
    if (buf == NULL) {
        return;
    }
    j->id = w->next_id++;
    j->busy = true;
    j->world = w;
    fill(j->id, buf, (size_t)units * UNIT);
    j->w = (struct tree_file_write){.done = job_done,
                                    .block = block,
                                    .birth = birth,
                                    .version = ++w->version,
                                    .buf = buf,
                                    .len = (size_t)units * UNIT,
                                    .header_len = 512,
                                    .checksum = j->id,
                                    .level = 1,
                                    .append = append};
    tree_file_write(w->file, &j->w);
}

static void act_write(struct world *w)
{
    struct job *j = job_free(w);
    bool frozen = w->frozen != 0 && !w->committing && rand_chance(&w->rand, 1, 2);
    unsigned at = (unsigned)rand_below(&w->rand, SLOTS);
    struct slot *s = frozen ? &w->state[w->frozen].slot[at] : &w->live.slot[at];
    if (j == NULL || (s->block == 0 && frozen)) {
        return;
    }
    if (s->block == 0) {
        uint64_t block = 0;
        int rc = tree_file_block_new(w->file, 1, &block);
        if (rc < 0) {
            note_failure(w, rc);
            return;
        }
        *s = (struct slot){.block = block, .birth = tree_file_number(w->file)};
    }
    if (slot_writes(w, s->block, frozen)) {
        return;
    }
    j->slot = at;
    /* One more may be appended for the other table in the meantime. */
    bool append = s->count > 0 && s->count < EXTENTS_MAX - 1 && rand_chance(&w->rand, 2, 5);
    job_start(w, j, s->block, frozen ? w->frozen : tree_file_number(w->file), append);
}

static void act_free(struct world *w)
{
    struct slot *s = &w->live.slot[rand_below(&w->rand, SLOTS)];
    if (s->block == 0 || slot_writes(w, s->block, false)) {
        return;
    }
    int rc = tree_file_block_free(w->file, s->block, ++w->version);
    if (rc < 0) {
        note_failure(w, rc);
    } else {
        *s = (struct slot){0};
    }
}

static void act_piece(struct world *w)
{
    struct job *j = job_free(w);
    if (w->live.piece_count == PIECES_MAX) {
        struct piece *p = &w->live.piece[0];
        int rc = tree_file_piece_free(w->file, p->x, p->birth, 0);
        if (rc < 0) {
            note_failure(w, rc);
            return;
        }
        w->live.piece[0] = w->live.piece[--w->live.piece_count];
    } else if (j != NULL && !slot_writes(w, 0, false) && !slot_writes(w, 0, true)) {
        job_start(w, j, 0, tree_file_number(w->file), false);
    }
}

static void act_freeze(struct world *w)
{
    uint64_t k = 0;
    if (w->frozen != 0 || slot_writes(w, 0, false)) {
        return;
    }
    int rc = tree_file_freeze(w->file, &k);
    if (rc < 0) {
        note_failure(w, rc);
        return;
    }
    CHECK(k < STATES);
    w->frozen = k;
    w->live.index++;
    w->state[k] = w->live;
    w->state[k].known = false; /* until it is committed */
}

static void commit_done(struct tree_file_commit *c, int rc)
{
    struct world *w = container_of(c, struct world, commit);
    w->committing = false;
    if (rc < 0) {
        note_failure(w, rc);
    } else {
        CHECK_EQ(c->super.checkpoint, w->frozen);
        w->before = w->durable;
        w->durable = w->frozen;
        w->commits++;
    }
    w->frozen = 0;
}

static void act_commit(struct world *w)
{
    if (w->frozen == 0 || w->committing) {
        return;
    }
    struct state *s = &w->state[w->frozen];
    s->known = true;
    w->committing = true;
    w->commit = (struct tree_file_commit){.done = commit_done,
                                          .super = {.applied_index = s->index, .max_msn = 7},
                                          .piece = w->list,
                                          .piece_count = s->piece_count,
                                          .drops = &w->live.index,
                                          .drops_len = s->index % 3};
    for (size_t i = 0; i < s->piece_count; i++) {
        w->list[i] = (struct tree_btt_piece){.offset = tree_space_offset(s->piece[i].x),
                                             .len = tree_space_bytes(s->piece[i].x),
                                             .checksum = s->piece[i].id,
                                             .birth = s->piece[i].birth};
    }
    tree_file_commit(w->file, &w->commit);
}

static void act(void *ctx)
{
    struct world *w = ctx;
    uint64_t what = rand_below(&w->rand, 100);
    if (what < 55) {
        act_write(w);
    } else if (what < 65) {
        act_free(w);
    } else if (what < 72) {
        act_piece(w);
    } else if (what < 80) {
        act_freeze(w);
    } else if (what < 92) {
        act_commit(w);
    } else if (what < 95 && w->frozen != 0 && !w->committing) {
        tree_file_thaw(w->file);
        w->frozen = 0;
    } else {
        tree_file_oldest(w->file, w->version - w->version / 8);
    }
}

/* ---- opening ---- */

static void options(struct world *w, struct tree_file_options *opt)
{
    *opt = (struct tree_file_options){
        .env = &w->env, .path = PATH, .grow_bytes = 32 * UNIT, .punch_bytes = 6 * UNIT};
}

static void create_in(void *ctx)
{
    struct world *w = ctx;
    struct tree_file_options opt;
    struct tree_super first = {.fanout = 32};
    options(w, &opt);
    CHECK_OK(tree_file_create(&opt, &first, &w->err));
}

static void open_in(void *ctx)
{
    struct world *w = ctx;
    struct tree_file_options opt;
    options(w, &opt);
    w->err = (struct err){0};
    w->open_rc = tree_file_open(&opt, &w->file, &w->found, &w->err);
}

static void start(struct world *w)
{
    testing_machine_start(&w->machine, "tree", &w->env);
    w->tap.tap = (struct rig_tap){
        .base = {.ops = &rig_tap_ops, .loop = w->env.loop}, .below = w->env.disk, .seen = tap_seen};
    w->env.disk = &w->tap.tap.base;
    w->file = NULL;
    w->frozen = 0;
    w->committing = false;
    w->stopped = false;
    w->version = 0;
    for (unsigned i = 0; i < JOBS; i++) {
        w->job[i].busy = false;
    }
}

/* What the next life finds is the state of which it says it is. */
static void adopt(struct world *w)
{
    uint64_t k = w->found.super.checkpoint;
    CHECK_TRUE(k < STATES && w->state[k].known);
    const struct state *s = &w->state[k];
    CHECK_EQ(w->found.super.applied_index, s->index);
    CHECK_EQ(w->found.piece_count, s->piece_count);
    for (size_t i = 0; i < s->piece_count; i++) {
        CHECK_EQ(w->found.piece[i].offset, tree_space_offset(s->piece[i].x));
        CHECK_EQ(w->found.piece[i].checksum, s->piece[i].id);
        CHECK_EQ(w->found.piece[i].birth, s->piece[i].birth);
    }
    CHECK_EQ(w->found.super.drops.len, s->index % 3);
    w->live = *s;
    for (unsigned i = 0; i < SLOTS; i++) { /* numbers of what was never written are free again */
        if (w->live.slot[i].count == 0) {
            w->live.slot[i] = (struct slot){0};
        }
    }
    tree_file_found_fini(&w->found);
}

/* ---- reading everything ---- */

static void probe_done(struct tree_file_read *r, int rc)
{
    struct probe *p = container_of(r, struct probe, r);
    CHECK_OK(rc);
    CHECK_TRUE(is_filled(p->id, r->buf, r->len));
    mem_free(r->buf);
    p->world->reads_left--;
}

static void probe_start(struct world *w, uint64_t block, struct tree_space_extent x, uint64_t id)
{
    struct probe *p = &w->probe[w->reads_left++];
    p->world = w;
    p->id = id;
    p->r = (struct tree_file_read){.done = probe_done,
                                   .block = block,
                                   .extent = x,
                                   .len = (uint32_t)tree_space_bytes(x),
                                   .buf = mem_aligned(UNIT, tree_space_bytes(x))};
    CHECK(p->r.buf != NULL);
    tree_file_read(w->file, &p->r);
}

static void verify_slot(struct world *w, const struct slot *s)
{
    struct tree_file_place place = {.older_count = 0};
    struct tree_space_extent older[EXTENTS_MAX] = {0};
    int rc = s->block == 0 ? -ENOENT : tree_file_find(w->file, s->block, &place);
    if (s->count == 0) {
        CHECK_RC(rc, ENOENT);
        return;
    }
    CHECK_OK(rc);
    CHECK_EQ(place.checksum, s->id[0]);
    CHECK_EQ(place.birth, s->birth);
    CHECK_EQ(place.header_len, 512);
    CHECK_EQ(place.older_count, s->count - 1);
    CHECK_EQ(tree_file_older(w->file, s->block, older, EXTENTS_MAX), s->count - 1);
    for (unsigned i = 0; i < s->count; i++) {
        struct tree_space_extent x = i == 0 ? place.extent : older[i - 1];
        CHECK_EQ(x.count, s->units[i]);
        probe_start(w, s->block, x, s->id[i]);
    }
}

static void verify_in(void *ctx)
{
    struct world *w = ctx;
    CHECK_TRUE(tree_file_sound(w->file));
    for (unsigned i = 0; i < SLOTS; i++) {
        verify_slot(w, &w->live.slot[i]);
    }
    for (size_t i = 0; i < w->live.piece_count; i++) {
        probe_start(w, 0, w->live.piece[i].x, w->live.piece[i].id);
    }
}

static bool reads_over(void *ctx)
{
    return ((struct world *)ctx)->reads_left == 0;
}

static void verify(struct world *w)
{
    w->reads_left = 0;
    loop_sim_enter(w->machine.loop, verify_in, w);
    CHECK_TRUE(testing_machine_until(&w->machine, reads_over, w, 60000));
}

/* ---- lives ---- */

static void stop_done(struct tree_file_stop *s)
{
    struct world *w = container_of(s, struct world, stop);
    w->stopped = true;
}

static void stop_in(void *ctx)
{
    struct world *w = ctx;
    w->stop = (struct tree_file_stop){.done = stop_done};
    tree_file_stop(w->file, &w->stop);
}

static bool is_stopped(void *ctx)
{
    return ((struct world *)ctx)->stopped;
}

static void settle(struct world *w)
{
    w->stopped = false;
    loop_sim_enter(w->machine.loop, stop_in, w);
    CHECK_TRUE(testing_machine_until(&w->machine, is_stopped, w, 60000));
}

static void info_in(void *ctx)
{
    struct world *w = ctx;
    CHECK_TRUE(tree_file_sound(w->file));
    tree_file_info(w->file, &w->info);
}

static void free_in(void *ctx)
{
    struct world *w = ctx;
    w->file = tree_file_free(w->file);
}

static void end(struct world *w, bool power)
{
    testing_machine_kill(&w->machine, power);
    w->file = NULL;
}

static bool crashed(const struct world *w)
{
    return w->crash_at != 0 && w->tap.count >= w->crash_at;
}

/* Until the tap says so. True: it has. */
static bool run(struct world *w, unsigned acts)
{
    for (unsigned i = 0; i < acts && !crashed(w); i++) {
        loop_sim_enter(w->machine.loop, act, w);
        uint64_t steps = rand_below(&w->rand, 6);
        for (uint64_t j = 0; j < steps && !crashed(w) && loop_sim_step(w->machine.sim); j++) {
        }
    }
    return crashed(w);
}

static void commit_in(void *ctx)
{
    struct world *w = ctx;
    act_freeze(w);
    act_commit(w);
}

/* One checkpoint with nothing beside it. */
static void commit_alone(struct world *w)
{
    settle(w);
    loop_sim_enter(w->machine.loop, commit_in, w);
    settle(w);
    if (w->frozen != 0) { /* it was frozen for long */
        loop_sim_enter(w->machine.loop, commit_in, w);
        settle(w);
    }
    loop_sim_enter(w->machine.loop, commit_in, w);
    settle(w);
}

/* Numbers that are free in the first life, so that those in use lie on two pages of the table. */
static void numbers_in(void *ctx)
{
    struct world *w = ctx;
    uint64_t block = 0;
    while (block < 3 * TREE_BTT_PAGE_ENTRIES + 9) {
        CHECK_OK(tree_file_block_new(w->file, 0, &block));
    }
}

static void life_begins(struct world *w)
{
    start(w);
    loop_sim_enter(w->machine.loop, open_in, w);
    if (w->open_rc < 0) {
        fprintf(stderr, "open: %s\n", w->err.text);
    }
    CHECK_OK(w->open_rc);
    CHECK_TRUE(!w->found.fell_back);
    CHECK_TRUE(w->found.super.checkpoint >= w->durable);
    adopt(w);
    w->durable = w->found.super.checkpoint;
    verify(w);
}

static void world_begin(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    rand_seed(&w->rand, seed);
    testing_machine_init(&w->machine, seed);
    w->next_id = 1;
    w->state[1] = (struct state){.known = true};
    w->durable = 1;
    start(w);
    loop_sim_enter(w->machine.loop, create_in, w);
    end(w, true);
    life_begins(w);
    loop_sim_enter(w->machine.loop, numbers_in, w);
    commit_alone(w);
    end(w, true);
    life_begins(w);
    w->commits = 0;
}

/* Nothing has leaked: an open finds as much in use as there was before. */
static void check_leaks(struct world *w)
{
    loop_sim_enter(w->machine.loop, info_in, w);
    struct tree_space_info was = w->info.space;
    loop_sim_enter(w->machine.loop, free_in, w);
    end(w, false);
    life_begins(w);
    loop_sim_enter(w->machine.loop, info_in, w);
    CHECK_EQ(w->info.space.used, was.used);
}

static void write_in(void *ctx)
{
    struct world *w = ctx;
    act_write(w);
    act_free(w);
    tree_file_oldest(w->file, w->version);
}

/* Writes on, without a checkpoint: over whatever is not retained. */
static void scribble(struct world *w)
{
    for (unsigned i = 0; i < 60; i++) {
        loop_sim_enter(w->machine.loop, write_in, w);
        testing_machine_steps(&w->machine, 2);
    }
    settle(w);
}

/* The newest checkpoint's index is damaged: the one before is used, whole, and the run goes on. */
static void check_fall_back(struct world *w, bool reopened)
{
    uint64_t at = w->commit.super.table.offset;
    if (reopened) {
        check_leaks(w);
    }
    scribble(w);
    loop_sim_enter(w->machine.loop, info_in, w);
    uint64_t newest = w->info.newest, older = w->info.older;
    CHECK_TRUE(newest == w->commit.super.checkpoint && older == w->before);
    end(w, true);
    CHECK_OK(disk_sim_corrupt(w->machine.disk, PATH, at + 17, 4));
    start(w);
    loop_sim_enter(w->machine.loop, open_in, w);
    CHECK_OK(w->open_rc);
    CHECK_TRUE(w->found.fell_back && w->found.super.checkpoint == older);
    CHECK_TRUE(strstr(w->found.note.text, "index of the translation table") != NULL);
    adopt(w);
    verify(w);
    w->durable = older;
    /* What was damaged is healed by magic: it must not come back. */
    CHECK_OK(disk_sim_corrupt(w->machine.disk, PATH, at + 17, 4));
    w->state[newest].known = false;
    (void)run(w, 30);
    end(w, true);
    life_begins(w);
    (void)run(w, 60);
    commit_alone(w);
    verify(w);
}

enum { ACTS = 110 };

static uint64_t run_length(struct world *w, uint64_t seed)
{
    world_begin(w, seed);
    uint64_t first = w->tap.count;
    (void)run(w, ACTS);
    CHECK_EQ(w->failures, 0);
    commit_alone(w);
    verify(w);
    check_leaks(w);
    uint64_t last = w->tap.count;
    testing_machine_kill(&w->machine, false);
    testing_machine_fini(&w->machine);
    CHECK_TRUE(last > first + 20);
    return last;
}

static void crash_run(struct world *w, uint64_t seed, uint64_t at, enum disk_sim_crash_mode mode)
{
    world_begin(w, seed);
    w->crash_at = at;
    disk_sim_crash_mode(w->machine.disk, mode);
    (void)run(w, ACTS);
    bool power = mode != DISK_SIM_RANDOM || at % 4 != 0; /* or only the process is killed */
    end(w, power);
    w->crash_at = 0;
    life_begins(w);
    (void)run(w, 25);
    end(w, true);
    life_begins(w);
    (void)run(w, 25);
    commit_alone(w);
    verify(w);
    check_leaks(w);
    if (at % 3 == 0) {
        (void)run(w, 50);
        commit_alone(w);
        check_fall_back(w, at % 2 == 0);
    }
    testing_machine_kill(&w->machine, false);
    testing_machine_fini(&w->machine);
}

TEST(file_survives_a_crash_at_every_request)
{
    CLEANUP(mem_freep) struct world *w = mem_zalloc(sizeof *w);
    CHECK_TRUE(w != NULL);
    uint64_t seed = testing_seed();
    uint64_t count = run_length(w, seed);
    for (uint64_t at = 1; at <= count; at++) {
        crash_run(w, seed, at, DISK_SIM_RANDOM);
        crash_run(w, seed, at, at % 2 == 0 ? DISK_SIM_LOSE_ALL : DISK_SIM_KEEP_ALL);
    }
}

/* ---- faults ---- */

static void refused_in(void *ctx)
{
    struct world *w = ctx;
    uint64_t k = 0;
    struct err e = {0};
    CHECK_RC(tree_file_failed(w->file, &e), ERR_failed_before);
    CHECK_TRUE(strstr(e.text, "nothing is written any more") != NULL);
    CHECK_RC(tree_file_block_new(w->file, 1, &k), ERR_failed_before);
    CHECK_RC(tree_file_freeze(w->file, &k), ERR_failed_before);
    w->failures = 0;
    act_write(w);
}

/* It stays so, whatever the disk says now; what is there can be read. */
static void check_read_only(struct world *w)
{
    uint64_t before = w->tap.count;
    loop_sim_enter(w->machine.loop, refused_in, w);
    settle(w);
    CHECK_TRUE(w->failures <= 1 && (w->failures == 0 || w->last_failure == -ERR_failed_before));
    CHECK_EQ(w->tap.count, before);
    verify(w);
}

static void failed_in(void *ctx)
{
    struct world *w = ctx;
    w->open_rc = tree_file_failed(w->file, NULL);
}

/* It was healed: the run goes on, in this life or the next. */
static void check_recovery(struct world *w, bool sync)
{
    settle(w);
    loop_sim_enter(w->machine.loop, failed_in, w);
    if (w->open_rc < 0) {
        check_read_only(w);
        end(w, rand_chance(&w->rand, 1, 2));
        life_begins(w);
        end(w, true); /* what an open has found is on the medium */
        life_begins(w);
    } else {
        CHECK_TRUE(!sync || w->failures == 0);
        verify(w);
    }
    (void)run(w, 25);
    uint64_t durable = w->durable;
    w->failures = 0;
    commit_alone(w);
    CHECK_TRUE(w->durable > durable && w->failures == 0);
    verify(w);
    check_leaks(w);
    end(w, false);
}

struct fault_plan {
    enum disk_op op;
    uint64_t nth, count;
    int rc;
};

static void fault_run(struct world *w, uint64_t seed, const struct fault_plan *p)
{
    world_begin(w, seed);
    disk_sim_fail(w->machine.disk, p->op, PATH, p->nth, p->count, p->rc);
    (void)run(w, ACTS / 2);
    settle(w);
    disk_sim_heal(w->machine.disk);
    check_recovery(w, p->op == DISK_SYNC);
    testing_machine_fini(&w->machine);
}

TEST(file_survives_every_fault)
{
    static const struct fault_plan plans[] = {
        {DISK_WRITE, 40, 1, -EIO},       {DISK_WRITE, 40, 1, -ENOSPC},
        {DISK_WRITE, 20, 0, -EIO},       {DISK_WRITE, 20, 0, -ENOSPC},
        {DISK_SYNC, 6, 1, -EIO},         {DISK_SYNC, 3, 0, -EIO},
        {DISK_SYNC, 6, 1, -ENOSPC},      {DISK_ALLOCATE, 4, 1, -EIO},
        {DISK_ALLOCATE, 2, 0, -ENOSPC},  {DISK_ALLOCATE, 4, 0, -EOPNOTSUPP},
        {DISK_TRUNCATE, 2, 0, -EIO},     {DISK_PUNCH, 3, 1, -EIO},
        {DISK_PUNCH, 1, 0, -EOPNOTSUPP},
    };
    CLEANUP(mem_freep) struct world *w = mem_zalloc(sizeof *w);
    CHECK_TRUE(w != NULL);
    for (size_t i = 0; i < ARRAY_COUNT(plans); i++) {
        struct fault_plan p = plans[i]; /* nth: how far to go */
        for (p.nth = 1; p.nth <= plans[i].nth; p.nth++) {
            fault_run(w, testing_seed() + p.nth % 4, &p);
        }
    }
}

/* Opening: it works, falls back loudly, or fails; and the next life has all of it. */
TEST(file_opens_or_says_why_not)
{
    CLEANUP(mem_freep) struct world *w = mem_zalloc(sizeof *w);
    CHECK_TRUE(w != NULL);
    for (uint64_t i = 0; i < 20; i++) {
        uint64_t nth = 1 + i / 2, count = 1 + i % 2; /* an error that passes is none */
        world_begin(w, testing_seed());
        (void)run(w, 40);
        commit_alone(w);
        commit_alone(w);
        end(w, true);
        start(w);
        enum disk_op op = nth <= 8 ? DISK_READ : nth == 9 ? DISK_SYNC : DISK_STAT;
        disk_sim_fail(w->machine.disk, op, PATH, nth <= 8 ? nth : 1, count, -EIO);
        loop_sim_enter(w->machine.loop, open_in, w);
        disk_sim_heal(w->machine.disk);
        if (w->open_rc < 0) {
            CHECK_ERR(w->open_rc, EIO);
            CHECK_TRUE(strstr(w->err.text, PATH) != NULL);
        } else {
            uint64_t k = w->found.super.checkpoint;
            CHECK_TRUE(k == w->durable || (k == w->before && w->found.note.code < 0));
            CHECK_TRUE(k == w->durable || count == 2);
            w->durable = k;
            adopt(w);
            verify(w);
        }
        end(w, true);
        life_begins(w);
        check_recovery(w, false);
        testing_machine_fini(&w->machine);
    }
}

/* Without memory for the nth request of the process, or for the nth and all later ones. */
static void domain_in(void *ctx)
{
    struct world *w = ctx;
    struct mem_domain *d = mem_domain_enter(NULL);
    mem_domain_set_fault(d, w->fault);
    (void)mem_domain_enter(d);
}

static void memory_run(struct world *w, uint64_t seed, uint64_t nth, uint64_t count)
{
    struct fault *fault = fault_new();
    CHECK_TRUE(fault != NULL);
    world_begin(w, seed);
    w->fault = fault;
    loop_sim_enter(w->machine.loop, domain_in, w);
    fault_arm(fault, "mem.alloc", nth, count);
    (void)run(w, ACTS / 2);
    settle(w);
    fault_disarm(fault, NULL);
    CHECK_TRUE(w->failures == 0 || w->last_failure == -ENOMEM);
    check_recovery(w, false);
    (void)fault_free(fault);
    testing_machine_fini(&w->machine);
}

TEST(file_survives_without_memory)
{
    CLEANUP(mem_freep) struct world *w = mem_zalloc(sizeof *w);
    CHECK_TRUE(w != NULL);
    for (uint64_t nth = 1; nth <= 60; nth++) {
        memory_run(w, testing_seed() + nth % 3, nth * 2, nth % 2);
    }
}

TEST(file_opens_or_is_out_of_memory)
{
    CLEANUP(mem_freep) struct world *w = mem_zalloc(sizeof *w);
    CHECK_TRUE(w != NULL);
    struct fault *fault = fault_new();
    CHECK_TRUE(fault != NULL);
    world_begin(w, testing_seed());
    (void)run(w, 60);
    commit_alone(w);
    w->open_rc = -ENOMEM;
    for (uint64_t nth = 1; nth < 200 && w->open_rc == -ENOMEM; nth++) {
        end(w, true);
        start(w);
        w->fault = fault;
        loop_sim_enter(w->machine.loop, domain_in, w);
        fault_arm(fault, "mem.alloc", nth, 1);
        loop_sim_enter(w->machine.loop, open_in, w);
        fault_disarm(fault, NULL);
        CHECK_TRUE(w->open_rc == 0 || w->open_rc == -ENOMEM);
        CHECK_TRUE(w->open_rc == 0 || w->found.piece == NULL);
    }
    CHECK_OK(w->open_rc);
    CHECK_EQ(w->found.super.checkpoint, w->durable);
    adopt(w);
    verify(w);
    check_recovery(w, false);
    (void)fault_free(fault);
    testing_machine_fini(&w->machine);
}
