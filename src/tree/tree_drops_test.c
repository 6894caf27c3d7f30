/*
 * tree/tree_drops_test.c -- a range that is deleted by name, so large that whole subtrees leave the
 * tree, with each allocation failing once: it is refused as a whole or done as a whole, goes on by
 * itself when there is memory again, and neither memory nor a block of the file is lost.
 */
#include "tree/check.h"
#include "tree/rig_image_file_priv.h"
#include "tree/rig_life_priv.h"
#include "tree/rig_life_read_priv.h"
#include "tree/rig_starve_priv.h"

#define FILLED 100u            /* the commits before it; it is the next one */
#define BEHIND (RIG_KEYS - 1u) /* the only key that it leaves */

struct world {
    struct rig_life life;
    struct rig_image_file file; /* as it is before the deletion */
    struct rig_starve x;
    uint64_t used;    /* bytes of it */
    size_t idle;      /* bytes that a process without a tree has */
    unsigned held_up; /* checkpoints */
    uint64_t drops;
};

static void model_delete(struct rig_model *m, struct kv_batch *b)
{
    uint8_t high[40];
    m->index++;
    kv_batch_clear(b);
    CHECK_OK(kv_batch_delete_range(b, kv_slice_of("", 1), rig_key(BEHIND, high)));
    for (uint32_t k = 0; k < BEHIND; k++) {
        m->value[k].present = false;
    }
}

/* What rig_life_open() knows nothing of. */
static void model_again(struct rig_life *l)
{
    uint64_t found = l->rig.found.index;
    memset(l->model, 0, sizeof *l->model);
    while (l->model->index < found) {
        if (l->model->index == FILLED) {
            model_delete(l->model, &l->batch);
        } else {
            rig_model_step(l->model, l->rig.seed, &l->batch);
        }
    }
}

static void settled(struct tree_settle *s, int rc)
{
    struct rig_tree *r = container_of(s, struct rig_tree, settle);
    r->rc = rc;
    r->over = true;
}
static void settle_in(void *ctx)
{
    struct rig_tree *r = ctx;
    r->over = false;
    r->settle.done = settled;
    tree_settle(r->kv, &r->settle);
}

/* Everything is in nodes, and what has left the tree is free. */
static void settle(struct rig_life *l)
{
    loop_sim_enter(l->rig.machine.loop, settle_in, &l->rig);
    CHECK_TRUE(testing_machine_until(&l->rig.machine, rig_tree_over, &l->rig, 600000));
    CHECK_OK(l->rig.rc);
}

static void begin(struct world *w)
{
    struct rig_life *l = &w->life;
    *w = (struct world){.x = {.life = l, .fault = fault_new(), .nth = 1}};
    CHECK_TRUE(w->x.fault != NULL);
    rig_life_init(l, testing_seed());
    l->rig.opt.memtable_bytes = 8u << 10;
    l->rig.opt.shape.leaf_raw = 2048;
    l->rig.opt.shape.basement_raw = 256;
    l->rig.opt.shape.internal_raw = 4096;
    l->rig.opt.shape.part_raw = 512;
    l->rig.opt.shape.fanout = 4;
    rig_life_kill(l, true);
    CHECK_OK(rig_life_open(l));
    rig_life_commit_to(l, FILLED);
    settle(l);
    CHECK_OK(rig_life_save(l));
    struct tree_statistics s;
    tree_statistics(l->rig.kv, &s);
    CHECK_TRUE(s.height >= 3);
    rig_life_kill(l, false);
    rig_image_file_init(&w->file, l);
    rig_image_file_take(&w->file);
    for (uint64_t unit = 0; unit < RIG_IMAGE_BYTES / RIG_IMAGE_UNIT; unit++) {
        w->used = rig_image_file_empty(&w->file, unit) ? w->used : (unit + 1) * RIG_IMAGE_UNIT;
    }
    rig_tree_start(&l->rig);
    w->idle = rig_starve_bytes(&w->x);
    rig_life_kill(l, false);
}

static void end(struct world *w)
{
    rig_image_file_fini(&w->file);
    rig_life_fini(&w->life);
    w->x.fault = fault_free(w->x.fault);
}

static void found(void *arg, const struct tree_finding *f)
{
    (void)arg;
    fprintf(stderr, "%s, %s: %s\n", tree_finding_severity(f), f->code, f->text);
}

static void check_file_in(void *ctx)
{
    struct world *w = ctx;
    struct tree_check_result result = {0};
    struct tree_check_options opt = {.disk = w->life.rig.env.disk,
                                     .path = RIG_PATH,
                                     .level = TREE_CHECK_LEVEL_MAX,
                                     .found = found};
    CHECK_OK(tree_check(&opt, &result, NULL));
    CHECK_EQ(result.damages, 0);
    CHECK_EQ(result.warnings, 0);
    CHECK_EQ(result.applied_index, FILLED + 1);
}

/* The deletion, until all that it has cut off is free; and a checkpoint. */
static void delete_all(struct world *w)
{
    struct rig_life *l = &w->life;
    struct tree_statistics s;
    memcpy(l->next, l->model, sizeof *l->next);
    model_delete(l->next, &l->batch);
    l->pending = true;
    int rc = rig_life_commit(l);
    CHECK_TRUE(rc == 0 || rc == -ENOMEM || rc == -ERR_busy);
    if (rc == -ENOMEM) { /* nothing of it is there; then all */
        CHECK_OK(rig_life_check(l, 50));
    }
    rig_life_commit_to(l, FILLED + 1);
    settle(l);
    rc = rig_life_checkpoint(l);
    CHECK_TRUE(rc == 0 || rc == -ENOMEM);
    w->held_up += rc < 0;
    tree_statistics(l->rig.kv, &s);
    w->drops = s.drops;
}

/* With the nth allocation from the deletion on failing; true: there is none so late. */
static bool starve(struct world *w)
{
    struct rig_life *l = &w->life;
    rig_image_file_put(&w->file, 0, w->used);
    CHECK_OK(rig_life_open(l));
    CHECK_EQ(l->rig.found.index, FILLED);
    l->durable = 0;
    rig_starve_begin(&w->x);
    l->hasty = false; /* readers try again */
    delete_all(w);
    bool all = rig_starve_end(&w->x);
    CHECK_OK(kv_failed(l->rig.kv, NULL));
    CHECK_OK(rig_life_save(l));
    CHECK_EQ(l->durable, FILLED + 1);
    CHECK_TRUE(w->drops > 0);
    CHECK_OK(rig_life_check(l, 50));
    rig_life_stop(l);                           /* what it was charged it has given back, */
    CHECK_EQ(rig_starve_bytes(&w->x), w->idle); /* and what it had */
    rig_life_kill(l, true);
    CHECK_OK(rig_life_open(l));
    model_again(l);
    CHECK_OK(rig_life_check(l, 50));
    loop_sim_enter(l->rig.machine.loop, check_file_in, w); /* no block is nobody's */
    rig_life_kill(l, false);
    return all;
}

TEST(each_allocation_of_a_range_delete_with_drops_fails_once)
{
    struct world w;
    begin(&w);
    while (!starve(&w)) {
        CHECK_TRUE(++w.x.nth < 20000);
    }
    CHECK_TRUE(w.x.nth > 100 && w.held_up > 0);
    end(&w);
}
