/*
 * tree/tree_tools_test.c -- the check and the rebuild on files that the engine wrote: nothing is
 * found at any checkpoint, whenever the machine dies; and an engine that opens a rebuilt file has
 * the records of the index that it says.
 */
#include "tree/check.h"
#include "tree/rebuild.h"
#include "tree/rig_bytes_priv.h"
#include "tree/rig_tree_priv.h"

#include <stdio.h>

struct world {
    struct rig_tree rig;
    struct rig_model model;
    struct kv_batch batch;
    struct kv_checkpoint checkpoint;
    bool checkpointing;
    struct rig_bytes disk;
    struct disk_file *file; /* "/f": what the engine wrote */
    struct tree_check_result result;
    struct tree_rebuild_result saved;
    struct err err;
    /* inside the process */
    struct kv_snapshot *snapshot;
    struct kv_iter *it;
    struct kv_slice to;
    bool first;
};

static void world_found(void *arg, const struct tree_finding *f)
{
    struct world *w = arg;
    if (f->severity == TREE_FINDING_DAMAGE) {
        fprintf(stderr, "%s: block %lld: %s\n", tree_finding_severity(f), (long long)f->block,
                f->text);
        err_set(&w->err, -ERR_corrupt, "%s", f->text);
    }
}

/* ---- a life ---- */

static void run(struct world *w, void (*fn)(void *ctx))
{
    loop_sim_enter(w->rig.machine.loop, fn, w);
}

static void commit_in(void *ctx)
{
    struct world *w = ctx;
    w->rig.rc = kv_commit(w->rig.kv, &w->batch, w->model.index);
}

static void commit(struct world *w)
{
    rig_model_step(&w->model, w->rig.seed, &w->batch);
    run(w, commit_in);
    for (unsigned rounds = 0; w->rig.rc == -ERR_busy; rounds++) {
        CHECK_TRUE(rounds < 20000);
        testing_machine_steps(&w->rig.machine, 5);
        run(w, commit_in);
    }
    CHECK_OK(w->rig.rc);
}

static void checkpoint_done(struct kv_checkpoint *c, int rc)
{
    struct world *w = container_of(c, struct world, checkpoint);
    w->checkpointing = false;
    w->rig.rc = rc;
}

static void checkpoint_in(void *ctx)
{
    struct world *w = ctx;
    w->checkpointing = true;
    w->checkpoint = (struct kv_checkpoint){.done = checkpoint_done, .term = 7};
    kv_checkpoint(w->rig.kv, &w->checkpoint);
}

static void checkpoint(struct world *w)
{
    run(w, checkpoint_in);
    while (w->checkpointing) {
        testing_machine_steps(&w->rig.machine, 1);
    }
    CHECK_OK(w->rig.rc);
}

/* What is in the simulated machine's file, as /f. */
static void take_in(void *ctx)
{
    static const uint8_t zeros[4096];
    struct world *w = ctx;
    struct disk *d = w->rig.env.disk;
    struct disk_req open = {.op = DISK_OPEN, .path = RIG_PATH};
    CHECK_TRUE(disk_now(d, &open) >= 0);
    struct disk_req stat = {.op = DISK_STAT, .file = open.file};
    CHECK_TRUE(disk_now(d, &stat) >= 0);
    struct mem_domain *was = mem_domain_enter(NULL);
    CLEANUP(mem_freep) uint8_t *bytes = mem_zalloc((size_t)stat.stat.size_bytes);
    w->file = rig_bytes_put(&w->disk, "/f", bytes, stat.stat.size_bytes);
    mem_domain_enter(was);
    struct disk_req read = {.op = DISK_READ,
                            .file = open.file,
                            .buf = w->file->at,
                            .len = (size_t)stat.stat.size_bytes};
    CHECK_EQ(disk_now(d, &read), stat.stat.size_bytes);
    while (w->file->len > 4096 && memcmp(w->file->at + w->file->len - 4096, zeros, 4096) == 0) {
        w->file->len -= 4096; /* what was allocated and never used */
    }
    struct disk_req close = {.op = DISK_CLOSE, .file = open.file};
    (void)disk_now(d, &close);
}

/* The machine dies, and starts with the file as it is then. */
static void cut(struct world *w)
{
    testing_machine_kill(&w->rig.machine, true);
    rig_tree_start(&w->rig);
    run(w, take_in);
}

static void put_in(void *ctx)
{
    struct world *w = ctx;
    struct disk *d = w->rig.env.disk;
    const struct disk_file *f = rig_bytes_find(&w->disk, "/n");
    struct disk_req open = {.op = DISK_OPEN, .path = RIG_PATH, .flags = DISK_READ_WRITE};
    CHECK_TRUE(disk_now(d, &open) >= 0);
    struct disk_req trim = {.op = DISK_TRUNCATE, .file = open.file};
    struct disk_req write = {
        .op = DISK_WRITE, .file = open.file, .buf = f->at, .len = (size_t)f->len};
    CHECK_TRUE(disk_now(d, &trim) >= 0 && disk_now(d, &write) >= 0);
    struct disk_req close = {.op = DISK_CLOSE, .file = open.file};
    (void)disk_now(d, &close);
}

/* ---- what is in it ---- */

static void iter_new_in(void *ctx)
{
    struct world *w = ctx;
    struct kv_iter_options opt = {.need = &w->rig.need};
    CHECK_OK(kv_snapshot_new(w->rig.kv, &w->snapshot));
    CHECK_OK(kv_iter_new(w->snapshot, &opt, &w->it));
    w->first = true;
}

static void iter_free_in(void *ctx)
{
    struct world *w = ctx;
    w->it = kv_iter_free(w->it);
    kv_need_release(&w->rig.need);
    kv_snapshot_free(w->snapshot);
}

static void move_in(void *ctx)
{
    struct world *w = ctx;
    w->rig.rc = w->first ? kv_iter_seek(w->it, (struct kv_slice){0}) : kv_iter_next(w->it);
}

static bool walk_on(struct world *w)
{
    run(w, move_in);
    while (w->rig.rc == -ERR_need) {
        CHECK_OK(rig_tree_fetch(&w->rig));
        run(w, move_in);
    }
    CHECK_TRUE(w->rig.rc == 0 || w->rig.rc == 1);
    w->first = false;
    return w->rig.rc == 1;
}

/* All that the model of `index` has, and nothing else. */
static void check_records(struct world *w, uint64_t index)
{
    CLEANUP(mem_freep) struct rig_model *m = mem_zalloc(sizeof *m);
    CHECK_TRUE(m != NULL);
    while (m->index < index) {
        rig_model_step(m, w->rig.seed, &w->batch);
    }
    uint32_t k = 0;
    run(w, iter_new_in);
    while (walk_on(w)) {
        while (k < RIG_KEYS && !m->value[k].present) {
            k++;
        }
        CHECK_TRUE(k < RIG_KEYS);
        CHECK_EQ(rig_key_back(w->it->key), k);
        CHECK_EQ(w->it->value.len, m->value[k].len);
        CHECK_BYTES(w->it->value.at, m->value[k].bytes, m->value[k].len);
        k++;
    }
    while (k < RIG_KEYS) {
        CHECK_TRUE(!m->value[k++].present);
    }
    run(w, iter_free_in);
}

/* ---- tests ---- */

static struct world *world_new(uint64_t seed)
{
    struct world *w = mem_zalloc(sizeof *w);
    CHECK(w != NULL);
    rig_bytes_init(&w->disk);
    rig_tree_init(&w->rig, seed);
    return w;
}

static struct world *world_free(struct world *w)
{
    if (w != NULL) {
        rig_tree_fini(&w->rig);
        rig_bytes_fini(&w->disk);
        kv_batch_fini(&w->batch);
        mem_free(w);
    }
    return NULL;
}
DEFINE_FREEP(world)

static void world_sound(struct world *w, const char *path, bool older)
{
    struct tree_check_options opt = {.disk = &w->disk.base,
                                     .path = path,
                                     .level = TREE_CHECK_LEVEL_MAX,
                                     .older = older,
                                     .found = world_found,
                                     .arg = w};
    int rc = tree_check(&opt, &w->result, &w->err);
    CHECK_TRUE(rc == 0 || (older && rc == -ENOENT));
    CHECK_EQ(w->result.damages, 0);
}

TEST(a_check_finds_nothing_in_what_the_engine_wrote)
{
    CLEANUP(world_freep) struct world *w = world_new(testing_seed());
    uint64_t nodes = 0, segments = 0;
    for (unsigned life = 0; life < 6; life++) {
        uint64_t count = rand_range(&w->rig.rand, 50, 250);
        for (uint64_t i = 0; i < count; i++) {
            commit(w);
            if (rand_chance(&w->rig.rand, 1, 60)) {
                checkpoint(w);
            }
        }
        cut(w);
        world_sound(w, "/f", false);
        CHECK_EQ(w->result.warnings, 0);
        nodes = base_max(nodes, w->result.nodes);
        segments += w->result.segments;
        uint64_t index = w->result.applied_index;
        world_sound(w, "/f", true);
        CHECK_OK(rig_tree_reopen(&w->rig, false));
        CHECK_EQ(kv_applied_index(w->rig.kv), index);
        memset(&w->model, 0, sizeof w->model);
        while (w->model.index < index) {
            rig_model_step(&w->model, w->rig.seed, &w->batch);
        }
    }
    CHECK_TRUE(nodes > 5 && segments > 0);
}

/* Superblocks and tables are gone; what was appended to is there in parts. */
TEST(an_engine_opens_a_rebuilt_file)
{
    CLEANUP(world_freep) struct world *w = world_new(testing_seed() + 1);
    for (unsigned i = 0; i < 300; i++) {
        commit(w);
        if (i % 100 == 99) {
            checkpoint(w);
        }
    }
    uint64_t index = w->model.index;
    for (unsigned i = 0; i < 150; i++) { /* of a checkpoint that was never made */
        commit(w);
    }
    cut(w);
    for (unsigned wipe = 0; wipe < 3; wipe++) {
        for (uint64_t at = 0; at < w->file->len && wipe > 0; at += 4096) {
            bool super = at == 0 || at == TREE_SUPER_SECOND;
            bool table = memcmp(w->file->at + at, "BTT", 3) == 0 && wipe > 1;
            memset(w->file->at + at, 0, super || table ? 4096 : 0);
        }
        struct tree_rebuild_options opt = {.disk = &w->disk.base,
                                           .path = "/f",
                                           .out = "/n",
                                           .index = index,
                                           .term = 7,
                                           .owner = RIG_OWNER,
                                           .found = world_found,
                                           .arg = w};
        CHECK_OK(tree_rebuild(&opt, &w->saved, &w->err));
        CHECK_EQ(w->saved.losses, 0);
        world_sound(w, "/n", false);
        CHECK_EQ(w->result.applied_index, index);
        run(w, put_in);
        CHECK_OK(rig_tree_reopen(&w->rig, false));
        check_records(w, index);
        rig_bytes_forget(rig_bytes_find(&w->disk, "/n"));
    }
}

/* Somewhere in use: noise, a flipped bit, another unit of the file. */
static void spoil(struct world *w)
{
    struct rand *r = &w->rig.rand;
    uint64_t units = w->file->len / 4096, dice = rand_below(r, 3);
    uint8_t *to = w->file->at + rand_below(r, units) * 4096;
    if (dice == 0) {
        rand_bytes(r, to, 4096);
    } else if (dice == 1) {
        memmove(to, w->file->at + rand_below(r, units) * 4096, 4096);
    } else {
        to[rand_below(r, 4096)] ^= (uint8_t)(1u << rand_below(r, 8));
    }
}

static unsigned walk_all(struct world *w)
{
    unsigned count = 0;
    run(w, iter_new_in);
    while (walk_on(w)) {
        count++;
    }
    run(w, iter_free_in);
    return count;
}

static void ignore(void *arg, const struct tree_finding *f)
{
    (void)arg;
    (void)f;
}

/* What the engine wrote, damaged at random: the check ends, and an engine reads what is saved. */
TEST(damaged_files_become_files_that_an_engine_reads)
{
    CLEANUP(world_freep) struct world *w = world_new(testing_seed() + 2);
    unsigned saved = 0, records = 0;
    for (unsigned i = 0; i < 250; i++) {
        commit(w);
        if (i % 80 == 79) {
            checkpoint(w);
        }
    }
    uint64_t index = w->model.index;
    cut(w);
    CLEANUP(mem_freep) uint8_t *golden = mem_dup(w->file->at, (size_t)w->file->len);
    for (unsigned round = 0; round < 25; round++) {
        for (uint64_t n = rand_range(&w->rig.rand, 1, 6); n > 0; n--) {
            spoil(w);
        }
        struct tree_check_options check = {
            .disk = &w->disk.base, .path = "/f", .level = TREE_CHECK_LEVEL_MAX, .found = ignore};
        CHECK_OK(tree_check(&check, &w->result, &w->err));
        struct tree_rebuild_options opt = {.disk = &w->disk.base,
                                           .path = "/f",
                                           .out = "/n",
                                           .index = index,
                                           .owner = RIG_OWNER,
                                           .found = ignore};
        int rc = tree_rebuild(&opt, &w->saved, &w->err);
        CHECK_TRUE(rc == 0 || err_is(rc, ERR_corrupt));
        if (rc == 0) {
            run(w, put_in);
            CHECK_OK(rig_tree_reopen(&w->rig, false));
            records += walk_all(w);
            saved++;
            rig_bytes_forget(rig_bytes_find(&w->disk, "/n"));
        }
        memcpy(w->file->at, golden, (size_t)w->file->len);
    }
    CHECK_TRUE(saved > 20 && records > 1000);
}
