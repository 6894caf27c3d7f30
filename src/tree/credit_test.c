/* tree/credit_test.c -- a writer who is faster than jobs is slowed to their pace in small steps. */
#include "tree/credit.h"

#include "base/rand.h"
#include "testing/testing.h"

#define MS UINT64_C(1000000)
#define JOB_BYTES (UINT64_C(4) << 20)
#define BATCH_BYTES (UINT64_C(144) << 10)

/* A writer who always has one more batch, beside jobs that end by turns. */
struct world {
    struct rand rand;
    struct tree_credit credit;
    uint64_t now_ns, job_ends_ns;
    uint64_t earned, taken;
    uint64_t waits_since_ns, longest_ns; /* 0: it does not wait */
};

static void world_step(struct world *w, uint64_t job_ns)
{
    w->now_ns += MS / 10;
    if (w->now_ns >= w->job_ends_ns) {
        tree_credit_earn(&w->credit, w->now_ns, JOB_BYTES, 2 * JOB_BYTES);
        w->earned += JOB_BYTES;
        w->job_ends_ns = w->now_ns + job_ns / 2 + rand_below(&w->rand, job_ns);
    }
    bool wants = true;
    while (wants && tree_credit_take(&w->credit, w->now_ns, BATCH_BYTES)) {
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
    for (unsigned i = 0; i < 2000; i++) { /* the rate is found */
        world_step(&w, 60 * MS);
    }
    w.longest_ns = w.earned = w.taken = 0;
    for (unsigned i = 0; i < 40000; i++) {
        world_step(&w, 60 * MS);
    }
    CHECK_TRUE(w.taken < w.earned + 3 * JOB_BYTES);
    CHECK_TRUE(w.taken + 3 * JOB_BYTES > w.earned / 10 * 9);
    CHECK_TRUE(w.longest_ns < 50 * MS); /* a job takes up to 90 */
}

TEST(no_more_than_one_job_is_advanced)
{
    struct tree_credit c = {0};
    uint64_t now_ns = 3 * MS, taken = 0;
    CHECK_TRUE(!tree_credit_take(&c, now_ns, 1));
    CHECK_EQ(tree_credit_wait_ns(&c), UINT64_MAX);
    tree_credit_rest(&c, now_ns);
    tree_credit_earn(&c, now_ns + 50 * MS, JOB_BYTES, JOB_BYTES);
    for (unsigned i = 0; i < 10000; i++) { /* jobs never end again */
        taken += tree_credit_take(&c, now_ns + 50 * MS + i * MS, 1000) ? 1000 : 0;
    }
    CHECK_TRUE(taken >= 2 * JOB_BYTES && taken < 2 * JOB_BYTES + 2000);
    CHECK_EQ(tree_credit_wait_ns(&c), UINT64_MAX);
    tree_credit_earn(&c, now_ns + 99999 * MS, JOB_BYTES, JOB_BYTES); /* what was advanced */
    CHECK_TRUE(!tree_credit_take(&c, now_ns + 99999 * MS, 1));
    CHECK_TRUE(tree_credit_wait_ns(&c) < 10 * MS);
}

TEST(what_is_saved_up_is_bounded_and_goes_in_a_rest)
{
    struct tree_credit c = {0};
    for (unsigned i = 1; i < 10; i++) {
        tree_credit_earn(&c, i * MS, JOB_BYTES, JOB_BYTES / 2);
    }
    CHECK_EQ(c.bytes, JOB_BYTES / 2);
    CHECK_TRUE(tree_credit_take(&c, 9 * MS, JOB_BYTES)); /* a large one is owed */
    CHECK_TRUE(!tree_credit_take(&c, 9 * MS, 1));
    tree_credit_rest(&c, 20 * MS);
    CHECK_EQ(c.bytes, 0);
    CHECK_TRUE(!tree_credit_take(&c, 20 * MS, 1));
    CHECK_TRUE(tree_credit_take(&c, 21 * MS, 1)); /* at the rate that there was */
}

/* However large numbers are. */
TEST(rates_do_not_overflow)
{
    struct tree_credit c = {0};
    tree_credit_earn(&c, 1, UINT64_C(1) << 40, UINT64_C(1) << 41);
    CHECK_TRUE(tree_credit_take(&c, 2, UINT64_C(1) << 41));
    tree_credit_earn(&c, UINT64_C(1) << 62, 1, 1);
    CHECK_TRUE(!tree_credit_take(&c, (UINT64_C(1) << 62) + 1, 1));
    CHECK_TRUE(tree_credit_wait_ns(&c) == UINT64_MAX);
}
