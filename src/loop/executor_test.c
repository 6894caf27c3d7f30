/* loop/executor_test.c -- worker threads, their twin in simulation, loops on threads. */
#include "loop/executor.h"

#include "base/mem.h"
#include "loop/sim.h"
#include "testing/testing.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#define JOBS 2000u
#define NS_PER_MS 1000000ull

struct round {
    struct loop *loop;
    unsigned done, cancelled, expected;
    _Atomic unsigned worked;
    sem_t gate, entered;
};

struct job {
    struct loop_executor_job job;
    struct round *round;
    bool gated;
    unsigned seen_done;
    pthread_t worker;
};

static void job_work(struct loop_executor_job *j)
{
    struct job *k = container_of(j, struct job, job);
    if (k->gated) {
        (void)sem_post(&k->round->entered);
        while (sem_wait(&k->round->gate) != 0) {
        }
    }
    k->worker = pthread_self();
    atomic_fetch_add(&k->round->worked, 1);
}

static void job_done(struct loop_executor_job *j)
{
    struct job *k = container_of(j, struct job, job);
    k->seen_done++;
    k->round->done++;
    k->round->cancelled += j->cancelled ? 1u : 0u;
    if (k->round->done == k->round->expected && !loop_is_simulated(k->round->loop)) {
        loop_stop(k->round->loop, 0);
    }
}

static void round_init(struct round *r, unsigned expected)
{
    struct loop_options opt = {.name = "test", .mailbox_limit = 4};
    *r = (struct round){.expected = expected};
    CHECK_OK(sem_init(&r->gate, 0, 0));
    CHECK_OK(sem_init(&r->entered, 0, 0));
    CHECK_OK(loop_new(&opt, &r->loop, NULL));
}

static void round_fini(struct round *r)
{
    r->loop = loop_free(r->loop);
    (void)sem_destroy(&r->gate);
    (void)sem_destroy(&r->entered);
}

static void wait_entered(struct round *r)
{
    while (sem_wait(&r->entered) != 0) {
    }
}

/* Far more completions than the mailbox holds: none may be lost. */
TEST(executor_completes_every_job_once)
{
    static struct job job[JOBS];
    struct round r;
    round_init(&r, JOBS);
    struct loop_executor *x = NULL;
    CHECK_OK(loop_executor_new(
        &(struct loop_executor_options){.name = "w", .max_threads = 4, .max_queued = JOBS}, &x));
    for (unsigned i = 0; i < JOBS; i++) {
        job[i] = (struct job){.job = {.work = job_work, .done = job_done}, .round = &r};
        CHECK_OK(loop_executor_submit(x, r.loop, &job[i].job));
        CHECK_EQ(r.done, 0); /* never inside submit */
    }
    CHECK_EQ(loop_run(r.loop), 0);
    CHECK_EQ(r.done, JOBS);
    CHECK_EQ(atomic_load(&r.worked), JOBS);
    for (unsigned i = 0; i < JOBS; i++) {
        CHECK_EQ(job[i].seen_done, 1);
    }
    loop_executor_free(x);
    round_fini(&r);
}

TEST(executor_refuses_helps_and_cancels)
{
    struct round r;
    round_init(&r, 4);
    struct loop_executor *x = NULL;
    CHECK_OK(loop_executor_new(
        &(struct loop_executor_options){.name = "w", .max_threads = 1, .max_queued = 3}, &x));
    struct job job[5];
    for (unsigned i = 0; i < ARRAY_COUNT(job); i++) {
        job[i] =
            (struct job){.job = {.work = job_work, .done = job_done}, .round = &r, .gated = i == 0};
    }
    CHECK_OK(loop_executor_submit(x, r.loop, &job[0].job));
    wait_entered(&r); /* the only worker is busy from here on */
    for (unsigned i = 1; i < 4; i++) {
        CHECK_OK(loop_executor_submit(x, r.loop, &job[i].job));
    }
    CHECK_ERR(loop_executor_submit(x, r.loop, &job[4].job), ERR_busy);
    CHECK_TRUE(!loop_executor_cancel(x, &job[0].job)); /* it runs */
    CHECK_TRUE(loop_executor_cancel(x, &job[3].job));
    CHECK_TRUE(!loop_executor_cancel(x, &job[3].job));
    CHECK_EQ(loop_executor_help(x, 1), 1);
    CHECK_TRUE(pthread_equal(job[1].worker, pthread_self()));
    CHECK_EQ(loop_executor_help(x, 100), 1);
    CHECK_EQ(loop_executor_help(x, 1), 0);
    CHECK_EQ(r.done, 0);
    CHECK_OK(sem_post(&r.gate));
    CHECK_EQ(loop_run(r.loop), 0);
    CHECK_EQ(r.done, 4);
    CHECK_EQ(r.cancelled, 1);
    CHECK_EQ(atomic_load(&r.worked), 3);
    loop_executor_free(x);
    round_fini(&r);
}

TEST(executor_tells_of_refusals_later)
{
    struct round r;
    round_init(&r, 4);
    struct loop_executor *x = NULL;
    CHECK_OK(loop_executor_new(
        &(struct loop_executor_options){.name = "w", .max_threads = 1, .max_queued = 1}, &x));
    struct job job[4];
    for (unsigned i = 0; i < ARRAY_COUNT(job); i++) {
        job[i] =
            (struct job){.job = {.work = job_work, .done = job_done}, .round = &r, .gated = i == 0};
    }
    loop_executor_start(x, r.loop, &job[0].job);
    wait_entered(&r);
    loop_executor_start(x, r.loop, &job[1].job);
    loop_executor_start(x, r.loop, &job[2].job);
    loop_executor_refuse(r.loop, &job[3].job, -ECANCELED);
    CHECK_RC(job[2].job.refused, ERR_busy);
    CHECK_EQ(r.done, 0);
    CHECK_OK(sem_post(&r.gate));
    CHECK_EQ(loop_run(r.loop), 0);
    for (unsigned i = 0; i < ARRAY_COUNT(job); i++) {
        CHECK_EQ(job[i].seen_done, 1);
    }
    CHECK_EQ(atomic_load(&r.worked), 2);
    CHECK_TRUE(job[0].job.refused == 0 && job[1].job.refused == 0);
    CHECK_RC(job[3].job.refused, ECANCELED);
    CHECK_TRUE(!job[2].job.cancelled);
    loop_executor_free(x);
    round_fini(&r);
}

/* Only one thread is woken at a time, but all of them come when jobs block. */
TEST(executor_wakes_as_many_threads_as_jobs_that_block)
{
    enum { THREADS = 6 };
    struct job job[THREADS];
    struct round r;
    round_init(&r, THREADS);
    struct loop_executor *x = NULL;
    CHECK_OK(loop_executor_new(
        &(struct loop_executor_options){.name = "w", .max_threads = THREADS, .max_queued = THREADS},
        &x));
    for (unsigned turn = 0; turn < 50; turn++) { /* they sleep at the end of each */
        r.done = 0;
        for (unsigned i = 0; i < THREADS; i++) {
            job[i] = (struct job){
                .job = {.work = job_work, .done = job_done}, .round = &r, .gated = true};
            CHECK_OK(loop_executor_submit(x, r.loop, &job[i].job));
        }
        for (unsigned i = 0; i < THREADS; i++) {
            wait_entered(&r);
        }
        for (unsigned i = 0; i < THREADS; i++) {
            CHECK_EQ(sem_post(&r.gate), 0);
        }
        CHECK_EQ(loop_run(r.loop), 0);
        CHECK_EQ(r.done, THREADS);
    }
    loop_executor_free(x);
    round_fini(&r);
}

TEST(executor_grows_while_jobs_wait_and_shrinks_when_idle)
{
    struct round r;
    round_init(&r, 3);
    struct loop_executor *x = NULL;
    struct loop_executor_options opt = {
        .name = "w", .max_threads = 3, .max_queued = 8, .idle_ms = 1};
    CHECK_OK(loop_executor_new(&opt, &x));
    CHECK_EQ(loop_executor_threads(x), 1);
    struct job job[3];
    for (unsigned i = 0; i < ARRAY_COUNT(job); i++) {
        job[i] =
            (struct job){.job = {.work = job_work, .done = job_done}, .round = &r, .gated = true};
        CHECK_OK(loop_executor_submit(x, r.loop, &job[i].job));
        wait_entered(&r);
    }
    CHECK_EQ(loop_executor_threads(x), 3);
    for (unsigned i = 0; i < ARRAY_COUNT(job); i++) {
        CHECK_OK(sem_post(&r.gate));
    }
    CHECK_EQ(loop_run(r.loop), 0);
    uint64_t give_up = loop_now_ns(r.loop) + 20000 * NS_PER_MS;
    while (loop_executor_threads(x) > 1 && loop_now_ns(r.loop) < give_up) {
        loop_run_once(r.loop, NS_PER_MS);
    }
    CHECK_EQ(loop_executor_threads(x), 1);
    r.expected = 4; /* the slots of those that ended are used again */
    job[0].gated = false;
    CHECK_OK(loop_executor_submit(x, r.loop, &job[0].job));
    CHECK_EQ(loop_run(r.loop), 0);
    loop_executor_free(x);
    round_fini(&r);
}

TEST(executor_in_simulation)
{
    CLEANUP(loop_sim_freep) struct loop_sim *s = loop_sim_new(testing_seed());
    struct round r = {.expected = 3};
    CHECK_OK(loop_sim_process(s, "p", 1, &r.loop));
    struct loop_executor *x = NULL;
    struct loop_executor_options opt = {.max_threads = 2, .max_queued = 3, .simulated = r.loop};
    CHECK_OK(loop_executor_new(&opt, &x));
    struct job job[4];
    for (unsigned i = 0; i < ARRAY_COUNT(job); i++) {
        job[i] = (struct job){.job = {.work = job_work, .done = job_done}, .round = &r};
        int rc = loop_executor_submit(x, r.loop, &job[i].job);
        CHECK_EQ(rc, i < 3 ? 0 : -ERR_busy);
    }
    CHECK_TRUE(loop_executor_cancel(x, &job[2].job));
    CHECK_EQ(atomic_load(&r.worked), 0);
    while (loop_sim_step(s)) {
    }
    CHECK_EQ(r.done, 3);
    CHECK_EQ(r.cancelled, 1);
    CHECK_EQ(atomic_load(&r.worked), 2);
    CHECK_TRUE(loop_sim_now_ns(s) > 0); /* work takes time */
    CHECK_OK(loop_executor_submit(x, r.loop, &job[3].job));
    CHECK_EQ(loop_executor_help(x, 5), 1);
    loop_executor_free(x);
}

/* --- loops on threads --- */

struct letter {
    struct loop_message message;
    struct loop *home; /* posted back there */
    unsigned *count, limit;
};

static void letter_home(struct loop_message *m)
{
    struct letter *k = container_of(m, struct letter, message);
    if (++*k->count == k->limit) {
        loop_stop(k->home, 3);
    }
}

static void letter_away(struct loop_message *m)
{
    struct letter *k = container_of(m, struct letter, message);
    m->run = letter_home;
    loop_complete(k->home, m);
}

TEST(loop_thread_answers_messages)
{
    struct loop *home = NULL, *away = NULL;
    CHECK_OK(loop_new(&(struct loop_options){.name = "home"}, &home, NULL));
    CHECK_OK(loop_new(&(struct loop_options){.name = "away"}, &away, NULL));
    struct loop_thread *t = NULL;
    CHECK_OK(loop_thread_start(away, &t));
    unsigned count = 0;
    struct letter letter[50];
    for (unsigned i = 0; i < 50; i++) {
        letter[i] =
            (struct letter){.message.run = letter_away, .home = home, .count = &count, .limit = 50};
        CHECK_OK(loop_post(away, &letter[i].message));
    }
    CHECK_EQ(loop_run(home), 3);
    CHECK_EQ(count, 50);
    t = loop_thread_stop(t);
    CHECK_TRUE(loop_is_mine(away));        /* ours again */
    CHECK_OK(loop_thread_start(away, &t)); /* and it can run again */
    t = loop_thread_stop(t);
    loop_free(away);
    loop_free(home);
}

/* Each message finds the other loop asleep, or on its way there: a lost wake-up would hang. */
struct ball {
    struct loop_message message;
    struct loop *side[2];
    unsigned hits;
};

static void hit(struct loop_message *m)
{
    struct ball *b = container_of(m, struct ball, message);
    b->hits++;
    if (b->hits == 20001) {
        loop_stop(b->side[0], 0);
        return;
    }
    int rc = loop_post(b->side[b->hits % 2], m);
    CHECK(rc == 0);
}

TEST(loop_threads_lose_no_wakeup)
{
    struct ball ball = {.message.run = hit};
    struct loop_options opt = {.name = "side", .mailbox_limit = 1};
    CHECK_OK(loop_new(&opt, &ball.side[0], NULL));
    CHECK_OK(loop_new(&opt, &ball.side[1], NULL));
    struct loop_thread *t = NULL;
    CHECK_OK(loop_thread_start(ball.side[1], &t));
    CHECK_OK(loop_post(ball.side[0], &ball.message));
    CHECK_EQ(loop_run(ball.side[0]), 0);
    CHECK_EQ(ball.hits, 20001);
    t = loop_thread_stop(t);
    CHECK_TRUE(t == NULL);
    loop_free(ball.side[1]);
    loop_free(ball.side[0]);
}
