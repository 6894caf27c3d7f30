/*
 * tree/tree_memory_test.c -- what a tree says it has in memory is what it has: after random runs
 * the figure of the budget, with what is said to be outside of it, is compared with the sum of all
 * that the process has allocated since before the open.
 *
 * The caches are so small that they take everything from mem_alloc(), which knows the sum. (What a
 * slab takes beyond that is charged by itself: base/mem_slab_test.c.)
 */
#include "tree/rig_fill_priv.h"

/* Some small objects: states, memtables, snapshots, names, jobs that have just begun. */
#define SMALL_BYTES (24u << 10)
/* And what of a job, a fetch or a checkpoint is not counted. */
#define BUSY_BYTES (64u << 10)
/* A job that runs is charged with what it may make at most, before it makes it. */
#define JOB_BYTES (1u << 20)
#define WALKS 24u

struct memory {
    struct rig *r;
    uint64_t before; /* the open */
    uint64_t held, said;
    struct kv_iter *walk[WALKS];
    struct kv_need need[WALKS];
};

static void held_in(void *ctx)
{
    struct memory *m = ctx;
    struct mem_domain *d = mem_domain_enter(NULL);
    (void)mem_domain_enter(d);
    m->held = mem_domain_bytes(d);
    if (m->r->tree.kv != NULL) {
        struct tree_statistics s;
        tree_statistics(m->r->tree.kv, &s);
        m->said = s.cache_used + s.outside_bytes;
    }
}

static void look_at(struct memory *m)
{
    loop_sim_enter(m->r->tree.machine.loop, held_in, m);
    m->held -= m->before;
}

/* At any time no more is there than is said. */
static void check_bound(struct memory *m)
{
    look_at(m);
    CHECK_TRUE(m->said <= m->held + JOB_BYTES);
}

/* While nothing is under way both are the same. */
static void check_rest(struct memory *m)
{
    look_at(m);
    CHECK_TRUE(m->held <= m->said + SMALL_BYTES);
    CHECK_TRUE(m->said <= m->held + SMALL_BYTES);
}

static void open_again(struct memory *m)
{
    struct rig *r = m->r;
    testing_machine_kill(&r->tree.machine, false);
    rig_tree_start(&r->tree);
    m->before = 0;
    look_at(m);
    m->before = m->held;
    loop_sim_enter(r->tree.machine.loop, rig_tree_open_in, &r->tree);
    CHECK_OK(r->tree.rc);
    check_rest(m);
}

/* Each stands somewhere else, with the parts that it needs. */
static void walks_in(void *ctx)
{
    struct memory *m = ctx;
    char key[16];
    for (uint32_t i = 0; i < WALKS; i++) {
        struct kv_iter_options opt = {.need = &m->need[i]};
        CHECK_OK(kv_iter_new(m->r->snapshot, &opt, &m->walk[i]));
        int rc = kv_iter_seek(m->walk[i], fill_key(i * 50, key));
        CHECK_TRUE(rc == 1 || rc == -ERR_need);
        kv_need_release(&m->need[i]);
    }
}

static void walks_end_in(void *ctx)
{
    struct memory *m = ctx;
    for (uint32_t i = 0; i < WALKS; i++) {
        m->walk[i] = kv_iter_free(m->walk[i]);
        kv_need_release(&m->need[i]);
    }
}

static void check_walks(struct memory *m)
{
    struct rig *r = m->r;
    look_at(m);
    uint64_t said = m->said;
    run(r, snapshot_in);
    CHECK_OK(r->rc);
    loop_sim_enter(r->tree.machine.loop, walks_in, m);
    check_rest(m);
    CHECK_TRUE(m->said > said + (uint64_t)WALKS * 4096); /* they take some */
    loop_sim_enter(r->tree.machine.loop, walks_end_in, m);
    run(r, snapshot_free_in);
    check_rest(m);
}

static void random_run(struct memory *m)
{
    struct rig *r = m->r;
    for (unsigned n = 0; n < 8; n++) {
        for (unsigned i = 0; i < 30; i++) {
            commits(r, 2);
            check_bound(m);
        }
        fill((struct fill){.r = r, .first = n * 300, .count = 300, .len = 500});
        check_bound(m);
        if (n % 3 == 0) {
            run(r, checkpoint_in);
            for (unsigned i = 0; !r->done; i++) {
                testing_machine_steps(&r->tree.machine, 3);
                check_bound(m);
            }
            CHECK_OK(r->rc);
        }
        check_all(r);
        CHECK_OK(settle(r));
        check_rest(m);
    }
    check_walks(m);
}

TEST(what_is_said_to_be_in_memory_is_there)
{
    for (unsigned i = 0; i < 4; i++) {
        CLEANUP(rig_freep) struct rig *r = rig_new_nodes(i);
        struct memory m = {.r = r};
        r->tree.opt.cache_bytes = (uint64_t)(3 + 4 * i) << 20;
        open_again(&m);
        random_run(&m);
        CHECK_OK(checkpoint(r));
        open_again(&m);
        check_all(r);
        check_rest(&m);
        rig_stop(r);
        look_at(&m);
        CHECK_EQ(r->tree.budget.used_bytes, 0);
        CHECK_EQ(m.held, 0);
        CHECK_OK(rig_tree_reopen(&r->tree, false));
    }
}
