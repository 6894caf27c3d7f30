/*
 * tree/tree_same_test.c -- what is in a tree does not depend on how its work was shared out: the
 * same batches with the simulated executor (one job after the other on the loop's thread) and with
 * real executors of one and of four threads, and packed by the caller, give the same records at the
 * same indexes, also in what checkpoints hold; and they are those of the model.
 */
#include "tree/rig_life_priv.h"
#include "tree/rig_life_read_priv.h"

#include <xxhash.h>

#include "loop/executor.h"

#define BATCHES 600u
#define LOOK_EACH 50u
#define SAVE_EACH 200u
#define LOOKS (BATCHES / LOOK_EACH)
#define MS UINT64_C(1000000)

struct digest {
    uint64_t records, sum;
};

/* What was there at some indexes, in their order, and what the file had at its end. */
struct seen {
    uint64_t index;
    struct digest is;
};
struct sequence {
    struct seen at[LOOKS + 1];
    size_t count;
};

static void sequence_add(struct sequence *s, uint64_t index, struct digest is)
{
    CHECK_TRUE(s->count < ARRAY_COUNT(s->at));
    s->at[s->count++] = (struct seen){.index = index, .is = is};
}

static void check_sequence(const struct sequence *is, const struct sequence *expected)
{
    CHECK_EQ(is->count, LOOKS + 1);
    CHECK_EQ(expected->count, LOOKS + 1);
    for (size_t i = 0; i < is->count; i++) {
        CHECK_EQ(is->at[i].index, expected->at[i].index);
        CHECK_EQ(is->at[i].is.records, expected->at[i].is.records);
        CHECK_TRUE(is->at[i].is.sum == expected->at[i].is.sum);
    }
}

static void digest_add(struct digest *d, struct kv_slice key, struct kv_slice value)
{
    uint64_t part[3] = {d->sum, XXH3_64bits(key.at, key.len), XXH3_64bits(value.at, value.len)};
    d->sum = XXH3_64bits(part, sizeof part);
    d->records++;
}

static struct digest digest_of_model(const struct rig_model *m)
{
    struct digest d = {0};
    for (uint32_t k = 0; k < RIG_KEYS; k++) {
        const struct rig_value *v = &m->value[k];
        uint8_t buf[40];
        if (v->present) {
            digest_add(&d, rig_key(k, buf), kv_slice_of(v->bytes, v->len));
        }
    }
    return d;
}

static void options(struct tree_options *o)
{
    o->shape = rig_shape;
    o->owner = RIG_OWNER;
    o->cache_bytes = 1u << 20;
    o->memtable_bytes = 16u << 10;
    o->snapshot_bytes = 64u << 20;
}

/* ---- simulated ---- */

static struct seen look_simulated(struct rig_life *l)
{
    struct seen s = {0};
    l->back = false;
    l->first = true;
    rig_life_run(l, rig_life_snapshot_in);
    CHECK_OK(l->rig.rc);
    s.index = l->snapshot->index;
    rig_life_run(l, rig_life_iter_in);
    CHECK_OK(l->rig.rc);
    while (rig_life_fetching(l, rig_life_move_in) == 1) {
        digest_add(&s.is, l->it->key, l->it->value);
        l->first = false;
    }
    CHECK_EQ(l->rig.rc, 0);
    rig_life_run(l, rig_life_iter_free_in);
    rig_tree_release(&l->rig);
    rig_life_run(l, rig_life_snapshot_free_in);
    return s;
}

/* Of the model, and of a simulated tree. */
static void sequence_simulated(uint64_t seed, struct sequence *model, struct sequence *ret)
{
    struct rig_life l;
    struct seen s;
    rig_life_init(&l, seed);
    options(&l.rig.opt);
    rig_life_kill(&l, true);
    CHECK_OK(rig_life_open(&l));
    while (l.model->index < BATCHES) {
        rig_life_commit_to(&l, l.model->index + LOOK_EACH);
        s = look_simulated(&l);
        sequence_add(ret, s.index, s.is);
        sequence_add(model, l.model->index, digest_of_model(l.model));
        if (l.model->index % SAVE_EACH == 0) {
            CHECK_OK(rig_life_save(&l));
        }
    }
    CHECK_OK(rig_life_check(&l, 3));
    rig_life_kill(&l, true);
    CHECK_OK(rig_life_open(&l));
    s = look_simulated(&l);
    sequence_add(ret, s.index, s.is);
    sequence_add(model, BATCHES, digest_of_model(l.model));
    rig_life_stop(&l);
    rig_life_fini(&l);
}

/* ---- real ---- */

struct real {
    struct env env;
    struct loop_executor *executor;
    struct tree_options opt;
    struct kv *kv;
    struct rig_model *model;
    struct kv_batch batch;
    struct kv_need need;
    struct kv_fetch fetch;
    struct kv_checkpoint checkpoint;
    struct kv_stop stop;
    bool waits;
    int rc;
};

static void real_wait(struct real *r)
{
    uint64_t end = loop_now_ns(r->env.loop) + 60000 * MS;
    while (r->waits) {
        CHECK_TRUE(loop_now_ns(r->env.loop) < end);
        loop_run_once(r->env.loop, 10 * MS);
    }
}

static void real_fetched(struct kv_fetch *f, int rc)
{
    struct real *r = container_of(f, struct real, fetch);
    CHECK_TRUE(rc == 0 || rc == -ENOMEM);
    r->waits = false;
}

static void real_checkpointed(struct kv_checkpoint *c, int rc)
{
    struct real *r = container_of(c, struct real, checkpoint);
    CHECK_OK(rc);
    r->waits = false;
}

static void real_stopped(struct kv_stop *s)
{
    container_of(s, struct real, stop)->waits = false;
}

static struct seen real_look(struct real *r)
{
    struct digest d = {0};
    struct kv_snapshot *s = NULL;
    struct kv_iter *it = NULL;
    struct kv_iter_options opt = {.need = &r->need};
    struct kv_slice first = {0};
    CHECK_OK(kv_snapshot_new(r->kv, &s));
    CHECK_OK(kv_iter_new(s, &opt, &it));
    int rc = 1;
    for (bool begun = false; rc == 1 || rc == -ERR_need;) {
        rc = begun ? kv_iter_next(it) : kv_iter_seek(it, first);
        if (rc == -ERR_need) {
            r->fetch = (struct kv_fetch){.need = &r->need, .done = real_fetched};
            r->waits = true;
            kv_fetch(r->kv, &r->fetch);
            real_wait(r);
        } else if (rc == 1) {
            begun = true;
            digest_add(&d, it->key, it->value);
        }
    }
    CHECK_EQ(rc, 0);
    kv_iter_free(it);
    kv_need_release(&r->need);
    uint64_t index = s->index;
    kv_snapshot_free(s);
    return (struct seen){.index = index, .is = d};
}

static void real_open(struct real *r)
{
    struct tree_found found;
    struct err e = {0};
    CHECK_OK(tree_open(&r->opt, &r->kv, &found, &e));
}

static void real_close(struct real *r)
{
    r->stop.done = real_stopped;
    r->waits = true;
    kv_stop(r->kv, &r->stop);
    real_wait(r);
    r->kv = kv_free(r->kv);
}

static void real_commit(struct real *r, uint64_t seed)
{
    rig_model_step(r->model, seed, &r->batch);
    int rc = kv_commit(r->kv, &r->batch, r->model->index);
    for (unsigned i = 0; rc == -ERR_busy && i < 60000; i++) {
        loop_run_once(r->env.loop, MS);
        rc = kv_commit(r->kv, &r->batch, r->model->index);
    }
    CHECK_OK(rc);
    loop_run_once(r->env.loop, 0);
}

static void real_checkpoint(struct real *r)
{
    r->checkpoint = (struct kv_checkpoint){.done = real_checkpointed, .term = 1};
    r->waits = true;
    kv_checkpoint(r->kv, &r->checkpoint);
    real_wait(r);
}

static void real_sequence(struct real *r, uint64_t seed, struct sequence *ret)
{
    struct seen s;
    real_open(r);
    while (r->model->index < BATCHES) {
        real_commit(r, seed);
        if (r->model->index % LOOK_EACH == 0) {
            s = real_look(r);
            sequence_add(ret, s.index, s.is);
        }
        if (r->model->index % SAVE_EACH == 0) {
            real_checkpoint(r);
            CHECK_EQ(r->checkpoint.index, r->model->index);
        }
    }
    real_close(r);
    real_open(r);
    CHECK_EQ(kv_applied_index(r->kv), BATCHES);
    s = real_look(r);
    sequence_add(ret, s.index, s.is);
    real_close(r);
}

static void sequence_real(uint64_t seed, unsigned threads, bool serial, struct sequence *ret)
{
    struct real r = {0};
    struct err e = {0};
    const struct loop_options lo = {.name = "tree"};
    const struct disk_pool_options po = {.max_threads = 2};
    const struct loop_executor_options eo = {
        .name = "tree", .max_threads = threads, .max_queued = 64};
    CLEANUP(mem_freep)
    char *path = mem_printf("%s/tree%u%s", testing_directory(), threads, serial ? "s" : "");
    CHECK_OK(loop_new(&lo, &r.env.loop, &e));
    CHECK_OK(disk_pool_new(&r.env, &po, &r.env.disk));
    CHECK_OK(loop_executor_new(&eo, &r.executor));
    r.opt = (struct tree_options){.env = &r.env, .path = path, .executor = r.executor};
    r.opt.writes_max = threads;
    r.opt.serial = serial;
    options(&r.opt);
    r.model = mem_zalloc(sizeof *r.model);
    CHECK_TRUE(r.model != NULL);
    CHECK_OK(tree_create(&r.opt, &e));
    real_sequence(&r, seed, ret);
    mem_free(r.model);
    kv_batch_fini(&r.batch);
    r.executor = loop_executor_free(r.executor);
    (void)disk_free(r.env.disk);
    (void)loop_free(r.env.loop);
}

TEST(threads_do_not_change_what_is_there)
{
    uint64_t seed = testing_seed();
    struct sequence model = {0}, simulated = {0};
    sequence_simulated(seed, &model, &simulated);
    CHECK_TRUE(model.at[LOOKS].is.records > 50);
    check_sequence(&simulated, &model);
    for (unsigned way = 0; way < 3; way++) { /* one thread, four, packed by the caller */
        struct sequence is = {0};
        sequence_real(seed, way == 1 ? 4 : 1, way == 2, &is);
        check_sequence(&is, &model);
    }
}

/* ---- several at once ---- */

#define MANY 40u
struct many {
    struct rig_life life;
    uint32_t key[MANY];
    uint8_t buf[MANY][40];
    struct kv_wanted at[MANY];
};

static void many_in(void *ctx)
{
    struct rig_life *w = ctx;
    struct many *x = container_of(w, struct many, life);
    w->rig.rc = kv_multiget(w->snapshot, x->at, MANY, &w->rig.need);
}

static void many_ask(struct many *x)
{
    struct rig_life *w = &x->life;
    for (unsigned i = 0; i < MANY; i++) {
        x->key[i] = (uint32_t)rand_below(&w->rig.rand, RIG_KEYS);
        x->at[i] = (struct kv_wanted){.key = rig_key(x->key[i], x->buf[i])};
    }
    CHECK_OK(rig_life_fetching(w, many_in));
    for (unsigned i = 0; i < MANY; i++) {
        CHECK_EQ(x->at[i].rc, w->model->value[x->key[i]].present ? 1 : 0);
        CHECK_TRUE(x->at[i].rc == 0 || rig_life_same(w, x->key[i], x->at[i].value));
    }
    rig_tree_release(&w->rig);
}

TEST(many_keys_at_once_are_what_each_of_them_is)
{
    CLEANUP(mem_freep) struct many *x = mem_zalloc(sizeof *x);
    CHECK_TRUE(x != NULL);
    struct rig_life *w = &x->life;
    rig_life_init(w, testing_seed());
    options(&w->rig.opt);
    rig_life_kill(w, true);
    CHECK_OK(rig_life_open(w));
    for (unsigned life = 0; life < 4; life++) {
        rig_life_commit_to(w, (life + 1) * BATCHES / 4);
        CHECK_OK(rig_life_save(w));
        if (life % 2 == 1) { /* nothing is in memory then */
            rig_life_kill(w, true);
            CHECK_OK(rig_life_open(w));
        }
        rig_life_run(w, rig_life_snapshot_in);
        CHECK_OK(w->rig.rc);
        for (unsigned n = 0; n < 20; n++) {
            many_ask(x);
        }
        rig_life_run(w, rig_life_snapshot_free_in);
    }
    rig_life_stop(w);
    rig_life_fini(w);
}

/* A seed determines everything that a simulated machine does. */
TEST(a_seed_determines_the_run)
{
    uint64_t digest[2];
    for (unsigned i = 0; i < 2; i++) {
        struct rig_life l;
        rig_life_init(&l, testing_seed() + 1);
        options(&l.rig.opt);
        rig_life_kill(&l, true);
        CHECK_OK(rig_life_open(&l));
        rig_life_commit_to(&l, BATCHES / 2);
        CHECK_OK(rig_life_save(&l));
        digest[i] = loop_sim_digest(l.rig.machine.sim);
        rig_life_stop(&l);
        rig_life_fini(&l);
    }
    CHECK_TRUE(digest[0] == digest[1]);
}
