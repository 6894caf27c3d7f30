#include "base/lock.h"

#include "base/mem.h"
#include "testing/testing.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define THREAD_COUNT 4u
#define TURNS_EACH 5000u

struct shared {
    struct lock lock;
    struct lock_cond turned;
    unsigned turn, sum;
};

struct worker {
    struct shared *shared;
    unsigned number;
    pthread_t thread;
};

static void shared_init(struct shared *s)
{
    *s = (struct shared){.turn = 0};
    lock_init(&s->lock, LOCK_RANK_leaf);
    lock_cond_init(&s->turned);
}

static void shared_fini(struct shared *s)
{
    lock_cond_fini(&s->turned);
    lock_fini(&s->lock);
}

static void *count_up(void *arg)
{
    struct shared *s = arg;
    for (unsigned i = 0; i < TURNS_EACH; i++) {
        lock_take(&s->lock);
        s->sum++;
        lock_release(&s->lock);
    }
    return NULL;
}

TEST(lock_excludes)
{
    struct shared s;
    pthread_t thread[THREAD_COUNT];
    shared_init(&s);
    unsigned started = 0;
    while (started < THREAD_COUNT && pthread_create(&thread[started], NULL, count_up, &s) == 0) {
        started++;
    }
    for (unsigned i = 0; i < started; i++) {
        (void)pthread_join(thread[i], NULL);
    }
    CHECK_EQ(started, THREAD_COUNT);
    CHECK_EQ(s.sum, THREAD_COUNT * TURNS_EACH);
    shared_fini(&s);
}

static void *take_turns(void *arg)
{
    struct worker *w = arg;
    struct shared *s = w->shared;
    for (unsigned i = 0; i < 100; i++) {
        lock_take(&s->lock);
        while (s->turn % THREAD_COUNT != w->number) {
            lock_cond_wait(&s->turned, &s->lock);
        }
        s->turn++;
        lock_cond_broadcast(&s->turned);
        lock_release(&s->lock);
    }
    return NULL;
}

TEST(lock_cond_wakes_the_one_whose_turn_it_is)
{
    struct shared s;
    struct worker worker[THREAD_COUNT];
    shared_init(&s);
    for (unsigned i = 0; i < THREAD_COUNT; i++) {
        worker[i] = (struct worker){.shared = &s, .number = i};
        CHECK_EQ(pthread_create(&worker[i].thread, NULL, take_turns, &worker[i]), 0);
    }
    for (unsigned i = 0; i < THREAD_COUNT; i++) {
        (void)pthread_join(worker[i].thread, NULL);
    }
    CHECK_EQ(s.turn, THREAD_COUNT * 100);
    shared_fini(&s);
}

TEST(lock_cond_wait_ms_gives_up)
{
    struct shared s;
    struct timespec from, to;
    shared_init(&s);
    CHECK_EQ(clock_gettime(CLOCK_MONOTONIC, &from), 0);
    lock_take(&s.lock);
    unsigned woken = 0;
    while (woken < 1000 && lock_cond_wait_ms(&s.turned, &s.lock, 20)) {
        woken++; /* spurious */
    }
    lock_release(&s.lock);
    CHECK_EQ(clock_gettime(CLOCK_MONOTONIC, &to), 0);
    int64_t ms = (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000;
    CHECK_TRUE(woken < 1000);
    CHECK_TRUE(ms >= 19);
    shared_fini(&s);
}

static void *signal_turn(void *arg)
{
    struct shared *s = arg;
    lock_take(&s->lock);
    s->turn = 1;
    lock_cond_signal(&s->turned);
    lock_release(&s->lock);
    return NULL;
}

TEST(lock_cond_wait_ms_is_woken)
{
    struct shared s;
    pthread_t thread;
    shared_init(&s);
    lock_take(&s.lock);
    int rc = pthread_create(&thread, NULL, signal_turn, &s);
    bool in_time = true;
    while (rc == 0 && in_time && s.turn == 0) {
        in_time = lock_cond_wait_ms(&s.turned, &s.lock, UINT64_MAX);
    }
    lock_release(&s.lock);
    CHECK_EQ(rc, 0);
    (void)pthread_join(thread, NULL);
    CHECK_TRUE(in_time);
    CHECK_EQ(s.turn, 1);
    shared_fini(&s);
}

static void *event_sets(void *arg)
{
    lock_event_set(arg);
    return NULL;
}

/* Who has waited may free it at once: the sanitizers look. */
TEST(event_is_waited_for_and_gone)
{
    for (unsigned i = 0; i < 200; i++) {
        struct lock_event *e = mem_alloc(sizeof *e);
        pthread_t setter;
        lock_event_init(e);
        CHECK_TRUE(!lock_event_wait_ms(e, 0));
        CHECK_TRUE(pthread_create(&setter, NULL, event_sets, e) == 0);
        if (i % 2 == 0) {
            lock_event_wait(e);
        } else {
            while (!lock_event_wait_ms(e, 1000)) {
            }
        }
        lock_event_fini(e);
        mem_free(e);
        CHECK_TRUE(pthread_join(setter, NULL) == 0);
    }
}

/* True when `body` aborts. It runs in a child, which is quiet and leaves no core. */
static bool aborts(void (*body)(struct lock *low, struct lock *high))
{
    struct lock low, high;
    lock_init(&low, LOCK_RANK_loop);
    lock_init(&high, LOCK_RANK_log);
    (void)fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        const struct rlimit none = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)signal(SIGABRT, SIG_DFL);
        (void)close(STDERR_FILENO);
        body(&low, &high);
        _exit(0);
    }
    int status = 0;
    CHECK_TRUE(child > 0 && waitpid(child, &status, 0) == child);
    lock_fini(&low);
    lock_fini(&high);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void take_upwards(struct lock *low, struct lock *high)
{
    lock_take(low);
    lock_take(high);
    lock_release(low); /* any order */
    lock_release(high);
    lock_take(low);
    lock_release(low);
}

static void take_downwards(struct lock *low, struct lock *high)
{
    lock_take(high);
    lock_take(low);
}

static void take_twice(struct lock *low, struct lock *high)
{
    (void)high;
    lock_take(low);
    lock_take(low);
}

static void release_what_is_free(struct lock *low, struct lock *high)
{
    (void)high;
    lock_release(low);
}

static void wait_below_another(struct lock *low, struct lock *high)
{
    struct lock_cond c;
    lock_cond_init(&c);
    lock_take(low);
    lock_take(high);
    (void)lock_cond_wait_ms(&c, low, 1);
}

TEST(lock_ranks_are_enforced)
{
    CHECK_TRUE(!aborts(take_upwards));
    CHECK_TRUE(aborts(take_downwards));
    CHECK_TRUE(aborts(take_twice));
    CHECK_TRUE(aborts(release_what_is_free));
    CHECK_TRUE(aborts(wait_below_another));
}
