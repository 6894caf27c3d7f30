/*
 * tree/tree_crash_test.c -- the machine loses its power, or the process dies, at any request to the
 * disk, also while it opens the tree and right after: what is found is the state of an index that
 * it says, not older than the newest checkpoint that was told to be durable; it goes on from there.
 */
#include "tree/rig_life_priv.h"
#include "tree/rig_life_read_priv.h"

#define ACTS 110u
#define POINTS 60u

/* Sizes so that there are many nodes, and writes between checkpoints. */
static void sizes(struct rig_life *w, uint64_t seed)
{
    struct tree_options *o = &w->rig.opt;
    o->memtable_bytes = seed % 3 == 0 ? 8u << 10 : 16u << 10;
    o->cache_bytes = seed % 2 == 0 ? 320u << 10 : 1u << 20;
    o->writes_max = 1 + (unsigned)(seed % 3);
    o->snapshot_bytes = 64u << 20;
    if (seed % 4 == 1) {
        o->shape.leaf_raw = 2048;
        o->shape.basement_raw = 256;
        o->shape.internal_raw = 4096;
        o->shape.part_raw = 512;
        o->shape.fanout = 4;
    }
}

/* A life with a few checkpoints behind it. */
static void begin(struct rig_life *w, uint64_t seed)
{
    rig_life_init(w, seed);
    sizes(w, seed);
    rig_life_kill(w, true);
    CHECK_OK(rig_life_open(w));
    rig_life_commit_to(w, 80);
    CHECK_OK(rig_life_save(w));
    rig_life_commit_to(w, 110);
}

static void act(struct rig_life *w)
{
    struct rand *r = &w->rig.rand;
    uint64_t dice = rand_below(r, 100);
    bool halfway = tree_of(w->rig.kv)->state->drained_len > 0; /* of moving a memtable down */
    bool save = !w->checkpointing && (halfway ? rand_chance(r, 1, 3) : dice >= 75 && dice < 83);
    if (save) {
        rig_life_run(w, rig_life_checkpoint_in);
    } else if (dice < 75) {
        int rc = rig_life_commit(w);
        CHECK_TRUE(rc == 0 || rc == -ERR_busy || w->crashed);
        rig_life_steps(w, rc == 0 ? rand_below(r, 8) : 15);
    } else if (dice >= 83 && dice < 86) {
        rig_life_run(w, rig_life_evict_in);
    } else {
        rig_life_steps(w, rand_below(r, 40));
    }
}

static void run(struct rig_life *w, unsigned acts)
{
    for (unsigned i = 0; i < acts && !w->crashed; i++) {
        act(w);
    }
}

static void found_again(struct rig_life *w, uint64_t last)
{
    uint64_t found = w->rig.found.index;
    if (found < w->durable || found > last || w->rig.found.fell_back) {
        fprintf(stderr, "found %llu, durable %llu, last %llu: %s\n", (unsigned long long)found,
                (unsigned long long)w->durable, (unsigned long long)last, w->rig.found.note.text);
    }
    CHECK_TRUE(found >= w->durable && found <= last);
    CHECK_TRUE(!w->rig.found.fell_back);
    w->durable = found;
    CHECK_OK(rig_life_check(w, 7));
}

/* Opens after a kill; `at` > 0: it ends once more at that request of the opening or behind. */
static void open_again(struct rig_life *w, uint64_t last, uint64_t at, bool power)
{
    w->crash_at = at > 0 ? w->rig.tapped + at : 0;
    int rc = rig_life_open(w);
    if (rc < 0 && !w->crashed) {
        fprintf(stderr, "open: %s\n", w->rig.err.text);
    }
    CHECK_TRUE(rc == 0 || w->crashed);
    if (at > 0) {
        if (rc == 0) {
            run(w, 25);
            last = base_max(last, w->model->index);
        }
        rig_life_kill(w, power);
        CHECK_OK(rig_life_open(w));
    }
    found_again(w, last);
    rig_life_commit_to(w, last);
}

struct newest {
    struct rig_life *life;
    struct tree_file_info info;
};

static void newest_in(void *ctx)
{
    struct newest *n = ctx;
    tree_file_info(tree_of(n->life->rig.kv)->file, &n->info);
}

/* The newest superblock is damaged after a while of work: the checkpoint before is whole still. */
static void check_fall_back(struct rig_life *w)
{
    struct newest n = {.life = w};
    rig_life_commit_to(w, w->model->index + 5);
    CHECK_OK(rig_life_save(w));
    uint64_t last = w->model->index + 40, older = w->before;
    while (w->model->index < last) {
        rig_life_commit_to(w, w->model->index + 1);
        rig_life_run(w, rig_life_evict_in);
        rig_life_steps(w, 20);
    }
    loop_sim_enter(w->rig.machine.loop, newest_in, &n);
    rig_life_kill(w, true);
    uint64_t at = n.info.newest % 2 == 0 ? 0 : 64u << 10;
    CHECK_OK(disk_sim_corrupt(w->rig.machine.disk, RIG_PATH, at + 40, 1));
    CHECK_OK(rig_life_open(w));
    CHECK_EQ(w->rig.found.index, older);
    w->durable = older;
    CHECK_OK(rig_life_check(w, 3));
    rig_life_commit_to(w, last);
    CHECK_OK(rig_life_save(w));
}

static void end(struct rig_life *w)
{
    CHECK_OK(rig_life_check(w, 5));
    rig_life_stop(w);
    rig_life_fini(w);
}

static uint64_t run_length(uint64_t seed, uint64_t *ret_first)
{
    struct rig_life w;
    begin(&w, seed);
    *ret_first = w.rig.tapped;
    run(&w, ACTS);
    uint64_t last = w.rig.tapped;
    end(&w);
    CHECK_TRUE(last > *ret_first + 20);
    return last;
}

static void crash_run(uint64_t seed, uint64_t at, enum disk_sim_crash_mode mode)
{
    struct rig_life w;
    begin(&w, seed);
    w.crash_at = at;
    disk_sim_crash_mode(w.rig.machine.disk, mode);
    run(&w, ACTS);
    CHECK_TRUE(w.crashed);
    bool power = mode != DISK_SIM_RANDOM || at % 4 != 0; /* or only the process is killed */
    uint64_t last = w.model->index;
    rig_life_kill(&w, power);
    open_again(&w, last, at % 3 == 0 ? 1 + at / 3 % 12 : 0, at % 2 == 0);
    run(&w, 20);
    last = w.model->index;
    rig_life_kill(&w, true);
    open_again(&w, last, 0, true);
    CHECK_OK(rig_life_save(&w));
    if (at % 3 == 1) {
        check_fall_back(&w);
    }
    end(&w);
}

TEST(a_crash_at_any_request)
{
    static const enum disk_sim_crash_mode modes[] = {DISK_SIM_RANDOM, DISK_SIM_LOSE_ALL,
                                                     DISK_SIM_RANDOM, DISK_SIM_KEEP_ALL};
    struct rand r;
    rand_seed(&r, testing_seed());
    uint64_t points = 0, first = 0;
    for (uint64_t seed = testing_seed(); points < POINTS; seed++) {
        uint64_t last = run_length(seed, &first);
        for (unsigned i = 0; i < POINTS / 3; i++, points++) {
            uint64_t at = rand_range(&r, first + 1, last);
            crash_run(seed, at, modes[rand_below(&r, ARRAY_COUNT(modes))]);
        }
    }
    CHECK_EQ(points, POINTS);
}
