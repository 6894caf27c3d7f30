/* tree/copy_test.c -- copies of files that nobody writes: what they hold, that they go on after an
 * interruption, what they say of damage. */
#include "tree/copy.h"

#include "tree/check.h"
#include "tree/rig_life_priv.h"
#include "tree/rig_life_read_priv.h"

#define COPY "/new"

struct world {
    struct rig_life life;
    uint64_t newest, older;
    bool take_older;
    struct tree_copy_result result;
    struct tree_check_result check;
    struct err err;
    int rc;
};

/* A file with two checkpoints, which nobody has open. */
static void begin(struct world *w, uint64_t seed)
{
    *w = (struct world){0};
    rig_life_init(&w->life, seed);
    rig_life_commit_to(&w->life, 150);
    CHECK_OK(rig_life_save(&w->life));
    rig_life_commit_to(&w->life, 190);
    CHECK_OK(rig_life_save(&w->life));
    w->older = w->life.before;
    w->newest = w->life.durable;
    rig_life_kill(&w->life, false);
    rig_tree_start(&w->life.rig);
}

static void copy_in(void *ctx)
{
    struct world *w = ctx;
    struct tree_copy_options opt = {
        .disk = w->life.rig.env.disk, .path = RIG_PATH, .out = COPY, .older = w->take_older};
    w->err = (struct err){0};
    w->rc = tree_copy(&opt, &w->result, &w->err);
}
static int copy(struct world *w)
{
    loop_sim_enter(w->life.rig.machine.loop, copy_in, w);
    return w->rc;
}

static void no_finding(void *arg, const struct tree_finding *f)
{
    (void)arg;
    CHECK_TRUE(f->severity == TREE_FINDING_NOTE);
}
static void check_in(void *ctx)
{
    struct world *w = ctx;
    struct tree_check_options opt = {
        .disk = w->life.rig.env.disk, .path = COPY, .level = 4, .found = no_finding};
    w->rc = tree_check(&opt, &w->check, &w->err);
}

/* The copy is a sound tree of that index. */
static void finish(struct world *w, uint64_t index)
{
    struct rig_life *l = &w->life;
    loop_sim_enter(l->rig.machine.loop, check_in, w);
    CHECK_OK(w->rc);
    CHECK_EQ(w->check.applied_index, index);
    rig_life_kill(l, true);
    l->rig.opt.path = COPY;
    l->durable = 0;
    CHECK_OK(rig_life_open(l));
    CHECK_EQ(l->model->index, index);
    CHECK_OK(rig_life_check(l, 3));
    rig_life_commit_to(l, index + 30);
    CHECK_OK(rig_life_save(l));
    rig_life_stop(l);
    rig_life_fini(l);
}

TEST(a_copy_has_the_newest_checkpoint)
{
    struct world w;
    begin(&w, testing_seed());
    CHECK_OK(copy(&w));
    CHECK_EQ(w.result.applied_index, w.newest);
    CHECK_TRUE(w.result.frames > 3 && w.result.bytes > 0);
    CHECK_TRUE(w.result.bytes < w.result.before_bytes);
    CHECK_RC(copy(&w), EEXIST);
    CHECK_TRUE(strstr(w.err.text, COPY) != NULL);
    finish(&w, w.newest);
}

TEST(a_copy_of_the_older_one)
{
    struct world w;
    begin(&w, testing_seed());
    w.take_older = true;
    CHECK_OK(copy(&w));
    CHECK_EQ(w.result.applied_index, w.older);
    finish(&w, w.older);
}

/* It goes on with what there is, unless that is of another checkpoint. */
TEST(a_copy_is_interrupted)
{
    struct world w;
    struct rand r;
    rand_seed(&r, testing_seed());
    begin(&w, testing_seed());
    for (unsigned i = 0; i < 10; i++) {
        disk_sim_fail(w.life.rig.machine.disk, i % 2 == 0 ? DISK_WRITE : DISK_READ, NULL,
                      rand_range(&r, 3, 20), 2, -EIO);
        w.take_older = i == 4;
        CHECK_ERR(copy(&w), EIO);
        CHECK_TRUE(w.err.text[0] != 0);
        disk_sim_heal(w.life.rig.machine.disk);
    }
    CHECK_OK(copy(&w));
    finish(&w, w.newest);
}

TEST(damage_ends_a_copy)
{
    struct world w;
    begin(&w, testing_seed());
    size_t ended = 0;
    for (uint64_t unit = 17; unit < 60; unit++) {
        CHECK_OK(disk_sim_corrupt(w.life.rig.machine.disk, RIG_PATH, unit * 4096 + 9, 4));
        int rc = copy(&w);
        CHECK_OK(disk_sim_corrupt(w.life.rig.machine.disk, RIG_PATH, unit * 4096 + 9, 4));
        if (rc == 0) { /* nobody uses it */
            break;
        }
        CHECK_ERR(rc, ERR_corrupt);
        CHECK_TRUE(strstr(w.err.text, "at offset ") != NULL);
        ended++;
    }
    CHECK_TRUE(ended > 0 || w.rc == 0);
    if (w.rc < 0) {
        CHECK_OK(copy(&w));
    }
    finish(&w, w.newest);
}
