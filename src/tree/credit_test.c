/* tree/credit_test.c -- a writer who is faster than jobs is slowed to their pace in small steps. */
#include "tree/credit.h"

#include "base/rand.h"
#include "testing/testing.h"

#define MS UINT64_C(1000000)
#define MIB (UINT64_C(1) << 20)
#define JOB_BYTES (4 * MIB)
#define BATCH_BYTES (UINT64_C(144) << 10)
#define ROOM_BYTES (128 * MIB)
#define SAVED_BYTES (4 * MIB)
#define SPARE_BYTES (8 * MIB) /* kept back */

/* A writer who always has one more batch, beside jobs that end by turns. What is written fills the
 * room; what jobs have moved makes room when all is moved that there was when they began. */
struct world {
    struct rand rand;
    struct tree_credit credit;
    uint64_t now_ns, job_ends_ns;
    uint64_t used, group, moved; /* bytes in the room; of them the group's; of it moved */
    uint64_t earned, taken;
    uint64_t waits_since_ns, longest_ns; /* 0: it does not wait */
    uint64_t stops;                      /* steps in which there was no room at all */
};

static uint64_t world_job_ns(struct world *w, uint64_t job_ns)
{
    bool cascade = rand_below(&w->rand, 8) == 0;
    return job_ns / 2 + rand_below(&w->rand, job_ns) + (cascade ? 3 * job_ns : 0);
}

static void world_jobs(struct world *w, uint64_t job_ns)
{
    if (w->group == 0 && w->used >= ROOM_BYTES / 4) {
        w->group = w->used;
        w->job_ends_ns = w->now_ns + world_job_ns(w, job_ns);
        tree_credit_begin(&w->credit, w->now_ns);
    }
    if (w->group > 0 && w->now_ns >= w->job_ends_ns) {
        uint64_t bytes = base_min(JOB_BYTES, w->group - w->moved);
        w->moved += bytes;
        w->earned += bytes;
        tree_credit_work(&w->credit, w->now_ns, bytes);
        w->job_ends_ns = w->now_ns + world_job_ns(w, job_ns);
    }
    if (w->group > 0 && w->moved == w->group) {
        w->used -= w->group;
        w->group = w->moved = 0;
    }
}

static struct tree_credit_room world_room(const struct world *w)
{
    uint64_t room = ROOM_BYTES - w->used, work = w->group - w->moved + w->group / 32;
    room -= base_min(SPARE_BYTES, room - room / 8);
    return (struct tree_credit_room){.room = room, .work = work, .most = SAVED_BYTES};
}

static void world_step(struct world *w, uint64_t job_ns)
{
    w->now_ns += MS / 10;
    world_jobs(w, job_ns);
    bool wants = true;
    while (wants) {
        struct tree_credit_room room = world_room(w);
        bool full = ROOM_BYTES - w->used < BATCH_BYTES;
        w->stops += full ? 1 : 0;
        if (full || !tree_credit_take(&w->credit, w->now_ns, &room, BATCH_BYTES)) {
            break;
        }
        w->used += BATCH_BYTES;
        w->taken += BATCH_BYTES;
        if (w->waits_since_ns > 0) {
            w->longest_ns = base_max(w->longest_ns, w->now_ns - w->waits_since_ns);
        }
        w->waits_since_ns = 0;
        wants = rand_below(&w->rand, 4) != 0;
    }
    if (wants && w->waits_since_ns == 0) {
        w->waits_since_ns = w->now_ns;
    }
}

TEST(a_writer_goes_on_in_small_steps_at_the_pace_of_jobs)
{
    struct world w = {.now_ns = 5 * MS};
    rand_seed(&w.rand, testing_seed());
    tree_credit_rest(&w.credit, w.now_ns);
    for (unsigned i = 0; i < 50000; i++) { /* the rate is found */
        world_step(&w, 60 * MS);
    }
    w.longest_ns = w.earned = w.taken = w.stops = 0;
    for (unsigned i = 0; i < 600000; i++) {
        world_step(&w, 60 * MS);
    }
    CHECK_TRUE(w.taken < w.earned + ROOM_BYTES);
    CHECK_TRUE(w.taken + ROOM_BYTES > w.earned);
    CHECK_TRUE(w.earned >
               600000 / 10 / 120 * JOB_BYTES / 2); /* the jobs never lack work for long */
    CHECK_TRUE(w.stops < 12000);                   /* 2 % of the time */
    CHECK_TRUE(w.longest_ns < 300 * MS);           /* one job takes up to 270, a group seconds */
}

TEST(nobody_waits_while_there_is_much_room_for_the_work)
{
    struct tree_credit c = {0};
    struct tree_credit_room r = {.room = 100 * MIB, .work = 25 * MIB, .most = SAVED_BYTES};
    tree_credit_begin(&c, 10 * MS);
    tree_credit_work(&c, 50 * MS, JOB_BYTES);
    for (unsigned i = 0; i < 1000; i++) {
        CHECK_TRUE(tree_credit_take(&c, 50 * MS, &r, MIB));
    }
    CHECK_EQ(c.bytes, 0);
    r.work++;
    CHECK_TRUE(!tree_credit_take(&c, 50 * MS, &r, MIB));
    r.work = 0;
    r.room = 0;
    CHECK_TRUE(tree_credit_take(&c, 50 * MS, &r, MIB)); /* it is not this that stops a writer */
}

TEST(what_is_not_known_yet_slows_nobody)
{
    struct tree_credit c = {0};
    struct tree_credit_room r = {.room = 1, .work = 100 * MIB, .most = SAVED_BYTES};
    CHECK_TRUE(tree_credit_take(&c, 3 * MS, &r, MIB));
    tree_credit_begin(&c, 3 * MS);
    tree_credit_work(&c, 5 * MS, 1000); /* a small job: so little that it says nothing */
    CHECK_TRUE(!tree_credit_take(&c, 5 * MS, &r, MIB));
    tree_credit_begin(&c, 6 * MS);
    CHECK_TRUE(tree_credit_take(&c, 6 * MS, &r, MIB));
    tree_credit_work(&c, 26 * MS, JOB_BYTES);
    tree_credit_begin(&c, 30 * MS); /* this one counts */
    CHECK_TRUE(!tree_credit_take(&c, 30 * MS, &r, MIB));
}

TEST(credit_comes_with_the_time_and_the_room)
{
    struct tree_credit c = {0};
    struct tree_credit_room r = {.room = 50 * MIB, .work = 50 * MIB, .most = SAVED_BYTES};
    tree_credit_begin(&c, 0);
    tree_credit_work(&c, 100 * MS, JOB_BYTES); /* 40 MiB a second */
    tree_credit_rest(&c, 100 * MS);
    CHECK_TRUE(!tree_credit_take(&c, 100 * MS, &r, 1));
    CHECK_TRUE(tree_credit_take(&c, 150 * MS, &r, 2 * MIB));
    CHECK_TRUE(!tree_credit_take(&c, 150 * MS, &r, 1));
    r.room = 25 * MIB; /* half as fast */
    CHECK_TRUE(tree_credit_take(&c, 200 * MS, &r, MIB));
    CHECK_TRUE(c.bytes < (int64_t)(MIB / 10) && c.bytes > -(int64_t)(MIB / 10));
    c.bytes = -(int64_t)MIB;
    uint64_t wait_ns = tree_credit_wait_ns(&c, &r);
    CHECK_TRUE(wait_ns > 45 * MS && wait_ns < 55 * MS);
    r.room = 0;
    CHECK_EQ(tree_credit_wait_ns(&c, &r), UINT64_MAX);
}

TEST(what_is_saved_up_is_bounded_and_goes_in_a_rest)
{
    struct tree_credit c = {0};
    struct tree_credit_room r = {.room = 50 * MIB, .work = 50 * MIB, .most = MIB};
    tree_credit_begin(&c, 0);
    tree_credit_work(&c, 100 * MS, JOB_BYTES);
    for (unsigned i = 2; i < 50; i++) {
        CHECK_TRUE(tree_credit_take(&c, i * 100 * MS, &r, 1));
    }
    CHECK_EQ(c.bytes, MIB - 1);
    CHECK_TRUE(tree_credit_take(&c, 4900 * MS, &r, JOB_BYTES)); /* a large one is owed */
    CHECK_TRUE(!tree_credit_take(&c, 4900 * MS, &r, 1));
    tree_credit_rest(&c, 4950 * MS);
    CHECK_EQ(c.bytes, 0);
}

/* However large numbers are. */
TEST(rates_do_not_overflow)
{
    struct tree_credit c = {0};
    struct tree_credit_room r = {
        .room = UINT64_MAX / 2, .work = UINT64_MAX / 4, .most = INT64_MAX / 2};
    tree_credit_begin(&c, 0);
    tree_credit_work(&c, 1, UINT64_C(1) << 40);
    CHECK_TRUE(tree_credit_take(&c, 2000 * MS, &r, UINT64_C(1) << 41));
    CHECK_TRUE(c.bytes > -(INT64_C(1) << 40) && c.bytes < (INT64_C(1) << 40));
    tree_credit_work(&c, UINT64_C(1) << 62, 1);
    CHECK_TRUE(tree_credit_wait_ns(&c, &r) > 0);
    r.work = UINT64_MAX;
    CHECK_TRUE(tree_credit_wait_ns(&c, &r) > 0);
}
