/*
 * tree/tree_test.c -- the whole engine in a simulated process, with tiny sizes: random batches,
 * held snapshots, walks both ways, checkpoints, deaths of the process and of the machine, against a
 * model. What a life finds must be the state of an index that it says, not older than the newest
 * checkpoint that was told to be durable; then it is given the batches behind that index again. Now
 * and then the file of the living tree is checked, at the highest level.
 */
#include "tree/tree.h"

#include "tree/check.h"
#include "tree/rig_tree_priv.h"
#include "tree/tree_priv.h"

#include <stdio.h>

#define HELD 5u
#define CHECKED_EACH 100u /* of what a world does */

struct held {
    struct kv_snapshot *snapshot;
    struct rig_model *model; /* the world's memory */
};

struct world {
    struct rig_tree rig;
    struct rig_model *model; /* of what was committed */
    struct kv_batch batch;
    struct held held[HELD];
    struct kv_checkpoint checkpoint;
    bool checkpointing;
    uint64_t durable, begun; /* index of checkpoints */
    unsigned checkpoints, lives, busy, cancelled, gets, walks, starved, evicted;
    unsigned acts, checked;
    /* of what runs inside the process */
    const struct held *at;
    uint32_t key;
    struct kv_slice value;
    struct kv_iter *it;
    struct kv_slice lower, upper, to;
    enum { SEEK, SEEK_BACK, NEXT, PREV } move;
};

static struct rig_model *model_copy(const struct rig_model *m)
{
    struct rig_model *copy = mem_alloc(sizeof *copy);
    CHECK(copy != NULL);
    memcpy(copy, m, sizeof *copy);
    return copy;
}

/* ---- inside the process ---- */

static void commit_in(void *ctx)
{
    struct world *w = ctx;
    w->rig.rc = kv_commit(w->rig.kv, &w->batch, w->model->index);
}

static void snapshot_in(void *ctx)
{
    struct world *w = ctx;
    struct held *h = NULL;
    for (unsigned i = 0; i < HELD; i++) {
        h = w->held[i].snapshot == NULL ? &w->held[i] : h;
    }
    w->rig.rc = kv_snapshot_new(w->rig.kv, &h->snapshot);
    w->at = h;
}

static void snapshot_free_in(void *ctx)
{
    struct world *w = ctx;
    kv_snapshot_free(w->at->snapshot);
}

static void get_in(void *ctx)
{
    struct world *w = ctx;
    uint8_t buf[40];
    w->rig.rc = kv_get(w->at->snapshot, rig_key(w->key, buf), &w->rig.need, &w->value);
}

static void iter_new_in(void *ctx)
{
    struct world *w = ctx;
    struct kv_iter_options opt = {.lower = w->lower,
                                  .upper = w->upper,
                                  .need = &w->rig.need,
                                  .ahead = (uint32_t)rand_below(&w->rig.rand, 200)};
    w->rig.rc = kv_iter_new(w->at->snapshot, &opt, &w->it);
}

static void iter_free_in(void *ctx)
{
    struct world *w = ctx;
    w->it = kv_iter_free(w->it);
}

static void move_in(void *ctx)
{
    struct world *w = ctx;
    switch (w->move) {
    case SEEK:
        w->rig.rc = kv_iter_seek(w->it, w->to);
        break;
    case SEEK_BACK:
        w->rig.rc = kv_iter_seek_back(w->it, w->to);
        break;
    case NEXT:
        w->rig.rc = kv_iter_next(w->it);
        break;
    case PREV:
        w->rig.rc = kv_iter_prev(w->it);
        break;
    }
}

static void checkpoint_done(struct kv_checkpoint *c, int rc)
{
    struct world *w = container_of(c, struct world, checkpoint);
    w->checkpointing = false;
    if (rc == 0) {
        CHECK_TRUE(c->index >= w->durable);
        w->durable = c->index;
        w->checkpoints++;
    } else {
        CHECK_RC(rc, ECANCELED);
        w->cancelled++;
    }
}

static void checkpoint_in(void *ctx)
{
    struct world *w = ctx;
    w->checkpointing = true;
    w->checkpoint = (struct kv_checkpoint){.done = checkpoint_done, .term = 7};
    kv_checkpoint(w->rig.kv, &w->checkpoint);
    CHECK_EQ(w->checkpoint.index, w->model->index);
}

/* All that may go. */
static void evict_in(void *ctx)
{
    struct world *w = ctx;
    (void)tree_cache_shrink(tree_of(w->rig.kv)->cache, 0);
    w->evicted++;
}

static void found_in_file(void *arg, const struct tree_finding *f)
{
    (void)arg;
    if (f->severity != TREE_FINDING_NOTE) {
        fprintf(stderr, "%s at %llu: %s\n", f->code, (unsigned long long)f->offset, f->text);
    }
}

/* The newest checkpoint, while the tree goes on behind it: nothing of it may be written over. */
static void check_file_in(void *ctx)
{
    struct world *w = ctx;
    struct tree_check_result result = {0};
    struct tree_check_options opt = {.disk = w->rig.env.disk,
                                     .path = RIG_PATH,
                                     .level = TREE_CHECK_LEVEL_MAX,
                                     .found = found_in_file};
    CHECK_OK(tree_check(&opt, &result, NULL));
    CHECK_TRUE(!result.changed);
    CHECK_EQ(result.damages, 0);
    CHECK_EQ(result.warnings, 0);
    CHECK_TRUE(result.applied_index >= w->durable && result.applied_index <= w->model->index);
    w->checked++;
}

static void cancel_in(void *ctx)
{
    kv_checkpoint_cancel(((struct world *)ctx)->rig.kv);
}

/* ---- outside ---- */

static void run(struct world *w, void (*fn)(void *ctx))
{
    loop_sim_enter(w->rig.machine.loop, fn, w);
}

static void say_memory(const struct world *w)
{
    struct tree_statistics s;
    tree_statistics(w->rig.kv, &s);
    fprintf(stderr,
            "cache %llu of %llu: clean %llu, dirty %llu, memtables %llu, retired %llu; "
            "nodes %llu\n",
            (unsigned long long)s.cache_used, (unsigned long long)s.cache_limit,
            (unsigned long long)s.clean_bytes, (unsigned long long)s.dirty_bytes,
            (unsigned long long)s.memtable_bytes, (unsigned long long)s.retired_bytes,
            (unsigned long long)s.nodes);
}

/* Until it needs nothing. */
static int run_fetching(struct world *w, void (*fn)(void *ctx))
{
    run(w, fn);
    for (unsigned rounds = 0; w->rig.rc == -ERR_need; rounds++) {
        CHECK_TRUE(rounds < 1000);
        int rc = rig_tree_fetch(&w->rig);
        CHECK_TRUE(rc == 0 || rc == -ENOMEM); /* what has the memory is under way */
        if (rc == -ENOMEM) {
            w->starved++;
            testing_machine_steps(&w->rig.machine, 20);
        }
        if (rounds == 999) {
            say_memory(w);
        }
        run(w, fn);
    }
    return w->rig.rc;
}

static void drop_held(struct world *w, unsigned i)
{
    if (w->held[i].snapshot != NULL) {
        w->at = &w->held[i];
        run(w, snapshot_free_in);
        mem_free(w->held[i].model);
        w->held[i] = (struct held){0};
    }
}

static void hold(struct world *w)
{
    drop_held(w, (unsigned)rand_below(&w->rig.rand, HELD));
    unsigned free_slots = 0;
    for (unsigned i = 0; i < HELD; i++) {
        free_slots += w->held[i].snapshot == NULL;
    }
    CHECK(free_slots > 0);
    run(w, snapshot_in);
    CHECK_OK(w->rig.rc);
    struct held *h = &w->held[w->at - w->held];
    CHECK_EQ(h->snapshot->index, w->model->index);
    h->model = model_copy(w->model);
}

static bool same_value(const struct rig_value *v, struct kv_slice got)
{
    return v->present && v->len == got.len &&
           (got.len == 0 || memcmp(v->bytes, got.at, got.len) == 0);
}

static void get(struct world *w, const struct held *h, uint32_t k)
{
    const struct rig_value *v = &h->model->value[k];
    w->at = h;
    w->key = k;
    int rc = run_fetching(w, get_in);
    w->gets++;
    if (rc != -ECANCELED) {
        if (rc != v->present || (rc == 1 && !same_value(v, w->value))) {
            fprintf(stderr, "key %u at index %llu: rc %d, expected %d\n", k,
                    (unsigned long long)h->model->index, rc, v->present);
        }
        CHECK_EQ(rc, v->present);
        CHECK_TRUE(rc == 0 || same_value(v, w->value));
    }
    if (rand_chance(&w->rig.rand, 1, 3)) {
        rig_tree_release(&w->rig);
    }
}

static int64_t model_next(const struct rig_model *m, int64_t k, int64_t low, int64_t high, int step)
{
    for (k += step; k >= low && k < high; k += step) {
        if (m->value[k].present) {
            return k;
        }
    }
    return -1;
}

static int64_t walk_to(struct world *w, unsigned move)
{
    w->move = move;
    int rc = run_fetching(w, move_in);
    CHECK_TRUE(rc == 0 || rc == 1 || rc == -ECANCELED);
    if (rc == -ECANCELED) {
        return -2;
    }
    if (rc == 0) {
        CHECK_TRUE(w->it->key.at == NULL);
        return -1;
    }
    int64_t k = rig_key_back(w->it->key);
    uint8_t buf[40];
    CHECK_EQ(kv_slice_compare(rig_key((uint32_t)k, buf), w->it->key), 0);
    CHECK_TRUE(same_value(&w->at->model->value[k], w->it->value));
    return k;
}

struct walk {
    const struct held *h;
    int64_t low, high; /* bounds, and where it stands: -1 nowhere, -2 it was given up */
    int64_t at;
};

/* Somewhere anew. What has to be found. */
static int64_t walk_seek(struct world *w, const struct walk *x, bool back, uint8_t to_buf[40])
{
    struct rand *r = &w->rig.rand;
    bool end = rand_chance(r, 1, 4);
    int64_t k = (int64_t)rand_below(r, RIG_KEYS), first = end ? 0 : k;
    int64_t last = end ? (int64_t)RIG_KEYS : k + 1;
    w->to = end ? (struct kv_slice){0} : rig_key((uint32_t)k, to_buf);
    if (back) {
        return model_next(x->h->model, last < x->high ? last : x->high, x->low, x->high, -1);
    }
    return model_next(x->h->model, (first > x->low ? first : x->low) - 1, x->low, x->high, 1);
}

static void walk_step(struct world *w, struct walk *x)
{
    struct rand *r = &w->rig.rand;
    uint8_t to_buf[40];
    int64_t expected;
    bool seek = x->at < 0 || rand_chance(r, 1, 20), back = rand_chance(r, 1, seek ? 2 : 10);
    if (seek) {
        expected = walk_seek(w, x, back, to_buf);
    } else {
        expected = model_next(x->h->model, x->at, x->low, x->high, back ? -1 : 1);
    }
    unsigned move = seek ? (back ? SEEK_BACK : SEEK) : back ? PREV : NEXT;
    x->at = walk_to(w, move);
    if (x->at != -2 && x->at != expected) {
        fprintf(stderr, "move %u: at %lld, expected %lld, index %llu\n", move, (long long)x->at,
                (long long)expected, (unsigned long long)x->h->model->index);
    }
    CHECK_TRUE(x->at == -2 || x->at == expected);
}

static void walk(struct world *w, const struct held *h, unsigned steps)
{
    struct rand *r = &w->rig.rand;
    uint8_t low_buf[40], high_buf[40];
    struct walk x = {.h = h, .high = RIG_KEYS, .at = -1};
    w->lower = w->upper = (struct kv_slice){0};
    if (rand_chance(r, 1, 2)) {
        x.low = (int64_t)rand_below(r, RIG_KEYS);
        w->lower = rig_key((uint32_t)x.low, low_buf);
    }
    if (rand_chance(r, 1, 2)) {
        x.high = (int64_t)rand_range(r, (uint64_t)x.low, RIG_KEYS - 1);
        w->upper = rig_key((uint32_t)x.high, high_buf);
    }
    w->at = h;
    run(w, iter_new_in);
    CHECK_OK(w->rig.rc);
    w->walks++;
    for (unsigned i = 0; i < steps && x.at != -2; i++) {
        walk_step(w, &x);
    }
    run(w, iter_free_in);
    rig_tree_release(&w->rig);
}

static void check_all(struct world *w)
{
    hold(w);
    struct held h = *w->at;
    uint32_t found = 0;
    w->lower = w->upper = w->to = (struct kv_slice){0};
    run(w, iter_new_in);
    CHECK_OK(w->rig.rc);
    for (int64_t at = walk_to(w, SEEK), before = -1; at >= 0; at = walk_to(w, NEXT)) {
        CHECK_EQ(at, model_next(h.model, before, 0, RIG_KEYS, 1));
        before = at;
        found++;
    }
    for (uint32_t k = 0; k < RIG_KEYS; k++) {
        found -= h.model->value[k].present;
    }
    CHECK_EQ(found, 0);
    run(w, iter_free_in);
    rig_tree_release(&w->rig);
}

static void commit(struct world *w)
{
    rig_model_step(w->model, w->rig.seed, &w->batch);
    run(w, commit_in);
    for (unsigned rounds = 0; w->rig.rc == -ERR_busy; rounds++) {
        CHECK_TRUE(rounds < 20000);
        w->busy++;
        testing_machine_steps(&w->rig.machine, 5);
        for (unsigned i = 0; rounds == 2000 && i < HELD; i++) {
            drop_held(w, i); /* what is kept for them may be what is missing */
        }
        run(w, commit_in);
    }
    if (w->rig.rc < 0) {
        say_memory(w);
    }
    CHECK_OK(w->rig.rc);
}

/* The process dies; the next one has to be given what is behind its index. */
static void die(struct world *w, bool power)
{
    w->lives++;
    for (unsigned i = 0; i < HELD; i++) {
        mem_free(w->held[i].model);
        w->held[i] = (struct held){0};
    }
    w->checkpointing = false;
    int rc = rig_tree_reopen(&w->rig, power);
    if (rc < 0) {
        fprintf(stderr, "open: %s\n", w->rig.err.text);
    }
    CHECK_OK(rc);
    uint64_t last = w->model->index, found = kv_applied_index(w->rig.kv);
    CHECK_EQ(found, w->rig.found.index);
    CHECK_TRUE(found >= w->durable && found <= last);
    w->durable = found;
    memset(w->model, 0, sizeof *w->model);
    while (w->model->index < found) {
        rig_model_step(w->model, w->rig.seed, &w->batch);
    }
    check_all(w);
    while (w->model->index < last) {
        commit(w);
    }
}

static void world_init(struct world *w, uint64_t seed)
{
    *w = (struct world){0};
    rig_tree_init(&w->rig, seed);
    w->model = mem_zalloc(sizeof *w->model);
    CHECK(w->model != NULL);
}

static void settled(struct tree_settle *s, int rc)
{
    struct rig_tree *r = container_of(s, struct rig_tree, settle);
    r->rc = rc;
    r->over = true;
}

static void settle_in(void *ctx)
{
    struct world *w = ctx;
    w->rig.over = false;
    w->rig.settle.done = settled;
    tree_settle(w->rig.kv, &w->rig.settle);
}

static void settle(struct world *w)
{
    run(w, settle_in);
    CHECK_TRUE(testing_machine_until(&w->rig.machine, rig_tree_over, &w->rig, 600000));
    CHECK_OK(w->rig.rc);
}

static void stopped(struct kv_stop *s)
{
    container_of(s, struct rig_tree, stop)->over = true;
}

static void stop_in(void *ctx)
{
    struct world *w = ctx;
    w->rig.over = false;
    w->rig.stop.done = stopped;
    kv_stop(w->rig.kv, &w->rig.stop);
}

static void free_in(void *ctx)
{
    struct world *w = ctx;
    w->rig.kv = kv_free(w->rig.kv);
    CHECK_EQ(w->rig.budget.used_bytes, 0);
}

static void world_fini(struct world *w)
{
    for (unsigned i = 0; i < HELD; i++) {
        drop_held(w, i);
    }
    rig_tree_release(&w->rig);
    run(w, stop_in);
    CHECK_TRUE(testing_machine_until(&w->rig.machine, rig_tree_over, &w->rig, 600000));
    run(w, free_in);
    rig_tree_fini(&w->rig);
    kv_batch_fini(&w->batch);
    mem_free(w->model);
}

static void something(struct world *w)
{
    struct rand *r = &w->rig.rand;
    const struct held *h = &w->held[rand_below(r, HELD)];
    uint64_t dice = rand_below(r, 100);
    if (dice < 50) {
        commit(w);
    } else if (dice < 55) {
        hold(w);
    } else if (dice < 80 && h->snapshot != NULL) {
        get(w, h, (uint32_t)rand_below(r, RIG_KEYS));
    } else if (dice < 84 && h->snapshot != NULL) {
        walk(w, h, (unsigned)rand_range(r, 1, 60));
    } else if (dice < 86 && !w->checkpointing) {
        run(w, checkpoint_in);
    } else if (dice == 86 && rand_chance(r, 1, 4)) {
        run(w, cancel_in);
    } else if (dice == 87) {
        run(w, evict_in);
    } else {
        testing_machine_steps(&w->rig.machine, rand_below(r, 40));
    }
    if (++w->acts % CHECKED_EACH == 0) {
        run(w, check_file_in);
    }
}

/* ---- tests ---- */

TEST(an_empty_tree)
{
    struct world w;
    world_init(&w, testing_seed());
    CHECK_EQ(kv_applied_index(w.rig.kv), 0);
    check_all(&w);
    hold(&w);
    struct kv_estimate e = kv_estimate(w.at->snapshot, (struct kv_slice){0}, (struct kv_slice){0});
    CHECK_EQ(e.key_count, 0);
    world_fini(&w);
}

TEST(what_is_committed_is_read_from_nodes)
{
    struct world w;
    struct tree_statistics s;
    world_init(&w, testing_seed() + 1);
    while (w.model->index < 400) {
        commit(&w);
    }
    settle(&w);
    tree_statistics(w.rig.kv, &s);
    CHECK_TRUE(s.height >= 2 && s.nodes > 5 && s.flushes > 10);
    check_all(&w);
    for (uint32_t k = 0; k < RIG_KEYS; k += 3) {
        get(&w, w.at, k);
    }
    world_fini(&w);
}

TEST(a_checkpoint_is_found_again)
{
    struct world w;
    world_init(&w, testing_seed() + 2);
    for (unsigned life = 0; life < 4; life++) {
        for (unsigned i = 0; i < 120; i++) {
            commit(&w);
        }
        run(&w, checkpoint_in);
        while (w.checkpointing) {
            testing_machine_steps(&w.rig.machine, 1);
        }
        CHECK_EQ(w.durable, w.model->index);
        die(&w, true);
    }
    CHECK_EQ(w.checkpoints, 4);
    world_fini(&w);
}

TEST(a_model_with_snapshots)
{
    struct world w;
    world_init(&w, testing_seed() + 3);
    for (unsigned i = 0; i < 2500; i++) {
        something(&w);
    }
    check_all(&w);
    settle(&w);
    check_all(&w);
    CHECK_TRUE(w.gets > 50 && w.walks > 20 && w.checkpoints > 2);
    CHECK_EQ(w.checked, 2500 / CHECKED_EACH);
    world_fini(&w);
}

TEST(lives_that_end_at_any_moment)
{
    struct world w;
    world_init(&w, testing_seed() + 4);
    for (unsigned life = 0; life < 12; life++) {
        uint64_t steps = rand_range(&w.rig.rand, 20, 400);
        for (uint64_t i = 0; i < steps; i++) {
            something(&w);
        }
        die(&w, rand_chance(&w.rig.rand, 2, 3));
        run(&w, check_file_in);
    }
    check_all(&w);
    world_fini(&w);
}
