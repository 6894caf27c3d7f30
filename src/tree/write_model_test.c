/*
 * tree/write_model_test.c -- writes of nodes at random, on a simulated disk that fails and a
 * machine that crashes; parts that move meanwhile; and the same work on real threads.
 */
#include "disk/disk.h"
#include "testing/machine.h"
#include "testing/testing.h"
#include "tree/rig_subject_check_priv.h"

static bool is_current(const struct subject *s)
{
    return s->node->written;
}

static void random_change(struct subject *s)
{
    struct rand *rand = &s->rig->rand;
    uint64_t mask = UINT64_C(1) << rand_below(rand, s->spec->count);
    change(s, rand_below(rand, 4) == 0 ? mask | rand_below(rand, 256) : mask);
}

static void random_evict(struct rig *r)
{
    wait_idle(r);
    bool all = true;
    for (unsigned i = 0; i < r->subjects; i++) {
        all = all && is_current(&r->s[i]);
    }
    if (!all) {
        (void)inside(r, shrink_in);
        return;
    }
    for (unsigned i = 0; i < r->subjects; i++) {
        evict(&r->s[i]);
    }
}

static void write_all(struct rig *r, uint64_t birth)
{
    unsigned left = 1;
    for (unsigned tries = 0; left > 0; tries++) {
        CHECK_TRUE(tries < 50);
        left = 0;
        for (unsigned i = 0; i < r->subjects; i++) {
            struct subject *s = &r->s[i];
            const struct tree_node *n = birth == 0 ? s->node : s->frozen;
            if (!n->written) {
                r->birth = birth;
                write_begin(s);
                left++;
            }
        }
        r->birth = 0;
        wait_idle(r);
    }
}

static void random_checkpoint(struct rig *r)
{
    wait_idle(r);
    freeze(r);
    uint64_t birth = r->birth;
    for (unsigned i = 0; i < r->subjects; i++) {
        if (rand_below(&r->rand, 3) == 0) {
            random_change(&r->s[i]);
        }
    }
    write_all(r, birth);
    if (rand_below(&r->rand, 2) == 0) {
        write_all(r, 0);
    }
    rig_fail(r->w, DISK_WRITE, 0, 0);
    CHECK_OK(rig_wait(r->w, rig_commit_in));
    for (unsigned i = 0; i < r->subjects; i++) {
        r->s[i].durable = r->s[i].frozen_raw;
        r->s[i].is_durable = true;
    }
}

static void random_crash(struct rig *r)
{
    rig_fail(r->w, DISK_WRITE, 0, 0);
    rig_reopen(r->w, true);
    r->version = 0;
    r->running = 0;
    for (unsigned i = 0; i < r->subjects; i++) {
        r->s[i].raw = r->s[i].durable;
        check(&r->s[i]);
        r->on = &r->s[i];
        (void)inside(r, fill_in);
    }
}

static void random_act(struct rig *r)
{
    struct subject *s = &r->s[rand_below(&r->rand, r->subjects)];
    uint64_t what = rand_below(&r->rand, 40);
    if (what < 12) {
        random_change(s);
    } else if (what < 30) {
        bool under_way = s->req.inside != NULL || !s->over;
        if (!s->node->written && !under_way) {
            write_begin(s);
        }
    } else if (what < 33) {
        random_evict(r);
    } else if (what < 36) {
        rig_fail(r->w, rand_below(&r->rand, 3) == 0 ? DISK_READ : DISK_WRITE,
                 rand_range(&r->rand, 1, 5), -ENOSPC);
    } else if (what < 39) {
        random_checkpoint(r);
    } else {
        random_crash(r);
    }
}

static void check_random_run(uint64_t seed)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(seed);
    r->w->writes_max = (unsigned)rand_range(&r->rand, 1, 4);
    r->w->serial = rand_below(&r->rand, 3) == 0;
    r->w->cache_bytes = rand_below(&r->rand, 3) == 0 ? 100U << 10 : 64U << 20;
    rig_reopen(r->w, true);
    for (unsigned i = 0; i < BLOCKS; i++) {
        change(subject_new(r, i % 2 == 0 ? &leaf : &inner), 0);
        r->s[i].over = true;
    }
    random_checkpoint(r);
    for (unsigned i = 0; i < 150; i++) {
        random_act(r);
        testing_machine_steps(&r->w->machine, rand_below(&r->rand, 5));
    }
    wait_idle(r);
    rig_fail(r->w, DISK_WRITE, 0, 0);
    write_all(r, 0);
    for (unsigned i = 0; i < BLOCKS; i++) {
        check(&r->s[i]);
        check_places(&r->s[i]);
    }
    CHECK_TRUE(rig_space_used(r->w) > 0);
}

TEST(whatever_happens_it_is_what_it_ought_to_be)
{
    for (uint64_t i = 0; i < 4; i++) {
        check_random_run(testing_seed() + i);
    }
}

/* ---- parts that move ---- */

/* Another node has had the same part, and was written anew while this one was copying it: what was
 * read is not what it was, but the part says by now where it is. */
static void move_in(void *ctx)
{
    struct rig *r = ctx;
    const struct tree_head *from = r->s[1].node->head, *to = r->s[2].node->head;
    for (uint32_t i = 1; i < from->header.partition_count; i++) {
        tree_part_written(from->part[i], &to->part[i]->place);
    }
}

static void share_in(void *ctx)
{
    struct rig *r = ctx;
    struct subject *s = r->on;
    struct tree_head *h = NULL;
    struct rig_head_make m = {.cache = r->w->cache,
                              .shape = &r->w->shape,
                              .spec = s->spec,
                              .raw = &s->raw,
                              .older = r->s[0].node->head,
                              .changed = 1};
    CHECK_OK(rig_head_new(&m, &h));
    CHECK_TRUE(h != NULL);
    CHECK_OK(tree_nodes_prepare(r->w->nodes, 1, s->block));
    h->header.block = s->block;
    s->node = tree_nodes_install(r->w->nodes, s->block, ++r->version, h);
}

static void check_moving(const struct rig_head_spec *spec)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1);
    struct subject *was = subject_new(r, spec), *s = subject_new(r, spec);
    struct subject *same = subject_new(r, spec);
    change(was, 0);
    same->raw = was->raw;
    change(same, 0);
    CHECK_OK(write_out(was));
    CHECK_OK(write_out(same));
    evict(was); /* and all others */
    r->on = same;
    (void)inside(r, fill_in);
    s->raw = was->raw;
    r->on = s;
    (void)inside(r, share_in);
    rig_make_part(spec, 0, &r->rand, &s->raw);
    const struct tree_part_place at = was->node->head->part[2]->place;
    rig_damage(r->w, at.extent + at.offset + 100, 1);
    write_begin(s);
    uint64_t before = r->w->reads_seen;
    for (unsigned i = 0; i < 100 && r->w->reads_seen == before; i++) {
        testing_machine_steps(&r->w->machine, 1);
    }
    CHECK_EQ(r->w->reads_seen, before + 1);
    r->on = s;
    (void)inside(r, move_in);
    wait_idle(r);
    CHECK_OK(s->rc);
    CHECK_TRUE(r->w->reads_seen > before + 1);
    s->raw = was->raw;
    change(s, 1); /* part 0 is not what the model has */
    CHECK_OK(write_out(s));
    check(s);
}

TEST(a_part_that_moves_is_read_again)
{
    check_moving(&leaf);
    check_moving(&inner);
}

/* ---- real threads ---- */

static void real_open(struct rig_write *w, const char *path)
{
    struct loop_options lo = {.name = "tree"};
    struct disk_pool_options po = {.max_threads = 2};
    struct tree_super first = {.fanout = 32};
    w->real = true;
    w->shape = shape;
    w->cache_bytes = 64U << 20;
    CHECK_OK(loop_new(&lo, &w->env.loop, &w->err));
    CHECK_OK(disk_pool_new(&w->env, &po, &w->env.disk));
    w->opt = (struct tree_file_options){.env = &w->env, .path = path, .grow_bytes = 1U << 20};
    CHECK_OK(tree_file_create(&w->opt, &first, &w->err));
    CHECK_OK(rig_make(w));
}

static void stopped(struct tree_file_stop *s)
{
    s->done = NULL;
}

/* All that was charged was given back: the cache CHECKs it. */
static void real_close(struct rig_write *w)
{
    struct tree_file_stop stop = {.done = stopped};
    w->writer = tree_writer_free(w->writer);
    w->nodes = tree_nodes_free(w->nodes);
    w->cache = tree_cache_free(w->cache);
    tree_file_stop(w->file, &stop);
    for (unsigned i = 0; i < 1000 && stop.done != NULL; i++) {
        loop_run_once(w->env.loop, 10000000);
    }
    CHECK_TRUE(stop.done == NULL);
    w->file = tree_file_free(w->file);
    tree_file_found_fini(&w->found);
    (void)loop_executor_free(w->executor);
    (void)disk_free(w->env.disk);
    (void)loop_free(w->env.loop);
}

static void check_real_run(bool serial)
{
    struct rig_write w = {.serial = serial};
    struct rig *r = mem_zalloc(sizeof *r);
    CLEANUP(mem_freep) char *path = mem_printf("%s/tree%d", testing_directory(), serial ? 1 : 0);
    CHECK_TRUE(path != NULL && r != NULL);
    rand_seed(&r->rand, testing_seed());
    real_open(&w, path);
    r->w = &w;
    for (unsigned i = 0; i < BLOCKS; i++) {
        change(subject_new(r, i % 2 == 0 ? &leaf : &inner), 0);
    }
    for (unsigned round = 0; round < 12; round++) {
        for (unsigned i = 0; i < BLOCKS; i++) {
            write_begin(&r->s[i]);
        }
        wait_idle(r);
        for (unsigned i = 0; i < BLOCKS; i++) {
            CHECK_OK(r->s[i].rc);
            check(&r->s[i]);
            if (round % 3 == 0) {
                evict(&r->s[i]);
            }
        }
        for (unsigned i = 0; i < BLOCKS && round < 11; i++) {
            random_change(&r->s[i]);
        }
    }
    CHECK_TRUE(w.times.bytes[TREE_TIME_WRITE] > 0 && w.times.ns[TREE_TIME_WRITE] > 0);
    (void)inside(r, reclaim_in);
    real_close(&w);
    mem_free(r);
}

TEST(on_real_threads)
{
    check_real_run(false);
    check_real_run(true);
}
