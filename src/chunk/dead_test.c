/* chunk/dead_test.c -- the list of removed data gets shorter again while its store lives. */
#include "chunk/parts_priv.h"

#include "base/rand.h"
#include "chunk/rig_put_priv.h"

#include <string.h>

#define MANY 3000u
#define SHORT 2048u /* so much history is left alone */
#define IDS 600u
#define LIVES 25u
#define PASS_MS 4000u /* the store looks once a second */

/* ---- Many changes at the same time, and what is known to be so ---- */

struct many;
struct one {
    struct many *m;
    struct chunk_change change;
    bool flies, removes;
    bool unsure; /* it was under way when the process died */
    bool dead;   /* was answered */
};
struct many {
    struct store_rig *r;
    struct one *one; /* of data id 1 and up */
    size_t flying, first, count;
    unsigned refused;
    bool removes;
};

static void many_done(struct chunk_change *c, int rc)
{
    struct one *o = container_of(c, struct one, change);
    o->flies = false;
    o->dead = rc == 0 ? o->removes : o->dead;
    o->m->refused += rc < 0;
    o->m->flying--;
}

static void many_in(void *ctx)
{
    struct many *m = ctx;
    for (size_t i = m->first; i < m->first + m->count; i++) {
        struct one *o = &m->one[i];
        if (!o->flies) {
            o->m = m;
            o->flies = true;
            o->removes = m->removes;
            o->change =
                (struct chunk_change){.done = many_done,
                                      .op = m->removes ? CHUNK_REMOVE_DATA : CHUNK_FORGET_DEAD,
                                      .key = {.data_id = i + 1}};
            m->flying++;
            chunk_store_change(m->r->store, &o->change);
        }
    }
}

static void many_begin(struct many *m, size_t first, size_t count, bool removes)
{
    m->first = first;
    m->count = count;
    m->removes = removes;
    loop_sim_enter(m->r->loop, many_in, m);
}

static bool many_over(void *ctx)
{
    return ((struct many *)ctx)->flying == 0;
}

static bool copying(void *ctx)
{
    return ((struct many *)ctx)->r->store->dead_copy != NULL;
}

static bool not_copying(void *ctx)
{
    return !copying(ctx);
}

static bool until(struct many *m, bool (*so)(void *ctx))
{
    return loop_sim_run(m->r->sim, so, m, loop_sim_now_ns(m->r->sim) + RIG_LIMIT_NS);
}

static void many_run(struct many *m, size_t first, size_t count, bool removes)
{
    many_begin(m, first, count, removes);
    CHECK_TRUE(until(m, many_over));
}

/* It looks once a second. */
static struct many many_new(enum chunk_engine engine, size_t count)
{
    struct many m = {.r = rig_new(engine, testing_seed()), .one = mem_calloc(count, sizeof *m.one)};
    CHECK_TRUE(m.one != NULL);
    rig_stop(m.r);
    m.r->opt.flush_ms = 5000;
    CHECK_OK(rig_boot(m.r));
    return m;
}

static void many_end(struct many *m)
{
    rig_end(m->r);
    mem_free(m->one);
}

static void check_all(const struct many *m, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct one *o = &m->one[i];
        bool dead = chunk_store_dead(m->r->store, i + 1);
        CHECK_TRUE(o->unsure || o->dead == dead);
        o->dead = dead;
        o->unsure = o->flies = false;
    }
}

static void many_restart(struct many *m, size_t count, bool power)
{
    for (size_t i = 0; i < count; i++) {
        m->one[i].unsure = m->one[i].flies;
    }
    m->flying = 0;
    CHECK_OK(rig_restart(m->r, power));
    check_all(m, count);
}

/* ---- */

static uint64_t lives(enum chunk_engine engine)
{
    struct many m = many_new(engine, MANY + 1);
    disk_sim_crash_mode(m.r->machine, DISK_SIM_LOSE_ALL);
    many_run(&m, 0, MANY, true);
    many_run(&m, 0, MANY - 10, false);
    CHECK_EQ(m.refused, 0);
    CHECK_EQ(m.r->store->dead_records, 2 * MANY - 10);
    rig_pass(m.r, PASS_MS);
    uint64_t ret = m.r->store->dead_records;
    many_run(&m, MANY, 1, true);
    many_restart(&m, MANY + 1, true);
    CHECK_EQ(m.r->store->dead_records, ret + 1);
    rig_stop(m.r);
    CHECK_OK(rig_boot(m.r));
    check_all(&m, MANY + 1);
    rig_stop(m.r);
    many_end(&m);
    return ret;
}

TEST(a_long_list_gets_short_while_its_store_lives)
{
    CHECK_EQ(lives(CHUNK_ENGINE_FILE), 10);
    CHECK_EQ(lives(CHUNK_ENGINE_EXTENT), 10);
}

static void make_history(struct many *m)
{
    CHECK_TRUE(until(m, not_copying));
    for (unsigned i = 0; m->r->store->dead_records <= SHORT + 2 * IDS; i++) {
        many_run(m, 0, IDS, i % 2 == 0);
    }
    many_run(m, 0, IDS / 2, false); /* some are dead */
    many_run(m, 0, IDS / 2, true);
}

/* So much history that a shorter list is begun: just now. */
static void make_long(struct many *m)
{
    rig_pass(m->r, PASS_MS);
    make_history(m);
    for (unsigned i = 0; copying(m) || m->r->store->dead_records <= SHORT + 2 * IDS; i++) {
        CHECK_TRUE(i < 10); /* it was begun on the way */
        make_history(m);
    }
    CHECK_TRUE(until(m, copying));
}

/* The machine stops at any moment of it, with changes under way. */
static unsigned cuts(enum chunk_engine engine)
{
    struct many m = many_new(engine, IDS);
    struct rand rng;
    unsigned met = 0;
    rand_seed(&rng, testing_seed() + (uint64_t)engine);
    for (unsigned life = 0; life < LIVES; life++) {
        make_long(&m);
        uint64_t most_ns = UINT64_C(1) << rand_range(&rng, 16, 22);
        unsigned steps = (unsigned)rand_below(&rng, 10);
        for (unsigned i = 0; i < steps; i++) {
            many_begin(&m, rand_below(&rng, IDS / 2), 1 + rand_below(&rng, IDS / 2),
                       rand_below(&rng, 2) == 0);
            uint64_t ns = rand_below(&rng, most_ns);
            (void)loop_sim_run(m.r->sim, rig_never, NULL, loop_sim_now_ns(m.r->sim) + ns);
        }
        met += copying(&m);
        many_restart(&m, IDS, rand_below(&rng, 4) != 0);
    }
    rig_stop(m.r);
    many_end(&m);
    return met;
}

TEST(a_list_that_gets_shorter_survives_deaths)
{
    CHECK_TRUE(cuts(CHUNK_ENGINE_FILE) > 0);
    CHECK_TRUE(cuts(CHUNK_ENGINE_EXTENT) > 0);
}

/* More is appended than is copied at a time; some of it may be there twice. */
static uint64_t overtaken(enum chunk_engine engine)
{
    struct many m = many_new(engine, 2 * SHORT + IDS);
    make_long(&m);
    many_run(&m, IDS, 2 * SHORT, true);
    CHECK_TRUE(until(&m, not_copying));
    CHECK_EQ(m.refused, 0);
    many_restart(&m, 2 * SHORT + IDS, true);
    CHECK_TRUE(m.r->store->dead_records <= 2 * m.r->store->dead.count + SHORT);
    uint64_t ret = m.r->store->dead.count;
    rig_stop(m.r);
    many_end(&m);
    return ret;
}

TEST(a_list_that_gets_shorter_takes_what_comes_meanwhile)
{
    CHECK_TRUE(overtaken(CHUNK_ENGINE_FILE) >= 2 * SHORT);
    CHECK_TRUE(overtaken(CHUNK_ENGINE_EXTENT) >= 2 * SHORT);
}

/* What fails leaves the old list; another time it is made. */
static uint64_t fails(enum disk_op op, int rc)
{
    struct many m = many_new(CHUNK_ENGINE_EXTENT, IDS);
    make_long(&m);
    disk_sim_fail(m.r->machine, op, "/data/dead.new", 1, 1, rc);
    CHECK_TRUE(until(&m, not_copying));
    CHECK_TRUE(m.r->store->dead_records > SHORT);
    CHECK_EQ(m.r->failures, 0);
    disk_sim_heal(m.r->machine);
    many_run(&m, 0, IDS / 2, true);
    many_restart(&m, IDS, true);
    many_run(&m, 0, IDS / 2, false);
    CHECK_EQ(m.refused, 0);
    rig_pass(m.r, PASS_MS);
    uint64_t ret = m.r->store->dead_records;
    many_restart(&m, IDS, true);
    rig_stop(m.r);
    many_end(&m);
    return ret;
}

TEST(a_list_that_cannot_get_shorter_goes_on)
{
    CHECK_TRUE(fails(DISK_OPEN, -EMFILE) <= IDS);
    CHECK_TRUE(fails(DISK_WRITE, -ENOSPC) <= IDS);
    CHECK_TRUE(fails(DISK_SYNC_ALL, -EIO) <= IDS);
    CHECK_TRUE(fails(DISK_ALLOCATE, -ENOSPC) <= IDS);
    CHECK_TRUE(fails(DISK_RENAME, -ENOSPC) <= IDS);
}

/* Nobody knows which of both a power cut would leave: nothing is answered any more. */
static unsigned name_is_unsure(enum chunk_engine engine)
{
    struct many m = many_new(engine, IDS);
    make_long(&m);
    disk_sim_fail(m.r->machine, DISK_SYNC_DIR, "/data", 1, 1, -EIO);
    many_begin(&m, 0, IDS, true);
    CHECK_TRUE(until(&m, not_copying));
    CHECK_TRUE(until(&m, many_over));
    CHECK_EQ(m.r->failures, 1);
    unsigned refused = m.refused;
    many_run(&m, 0, IDS, false);
    CHECK_TRUE(m.refused > refused);
    disk_sim_heal(m.r->machine);
    m.refused = 0;
    for (size_t i = 0; i < IDS; i++) {
        m.one[i].flies = true; /* of those that were refused nobody knows */
    }
    many_restart(&m, IDS, true);
    many_run(&m, 0, IDS, true);
    CHECK_EQ(m.refused, 0);
    rig_stop(m.r);
    many_end(&m);
    return 1;
}

TEST(a_list_without_a_certain_name_ends_all_writing)
{
    CHECK_EQ(name_is_unsure(CHUNK_ENGINE_FILE) + name_is_unsure(CHUNK_ENGINE_EXTENT), 2);
}

/* An orderly end does not wait for it. */
TEST(a_list_is_left_long_by_an_end)
{
    struct many m = many_new(CHUNK_ENGINE_EXTENT, IDS);
    make_long(&m);
    rig_stop(m.r);
    CHECK_OK(rig_boot(m.r));
    check_all(&m, IDS);
    CHECK_TRUE(m.r->store->dead_records > SHORT);
    rig_pass(m.r, PASS_MS);
    CHECK_TRUE(m.r->store->dead_records <= IDS);
    rig_stop(m.r);
    many_end(&m);
}
