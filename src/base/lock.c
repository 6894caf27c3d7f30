/*
 * base/lock.c -- see lock.h.
 *
 * Test builds keep the locks that a thread holds on a thread-local stack. It is the one state that
 * cannot hang on an object: the question is about the thread. Every failure here is our own bug,
 * hence CHECK.
 */
#include "base/lock.h"

#include <errno.h>
#include <time.h>

#define WAIT_MS_MAX (UINT64_C(1) << 40) /* 35 years; more would overflow time_t on some hosts */

#ifdef ODFS_FAULTS

#define HELD_MAX 16u

struct held {
    const struct lock *lock[HELD_MAX];
    unsigned count;
};

static struct held *held_locks(void)
{
    static _Thread_local struct held held;
    return &held;
}

/* Before the lock is taken, so that a wrong order aborts instead of blocking for ever. */
static void held_check(const struct lock *l)
{
    const struct held *h = held_locks();
    CHECK(h->count < HELD_MAX);
    for (unsigned i = 0; i < h->count; i++) {
        bool lock_rank_is_above_those_held = l->rank > h->lock[i]->rank;
        CHECK(lock_rank_is_above_those_held);
    }
}

static void held_add(const struct lock *l)
{
    struct held *h = held_locks();
    h->lock[h->count++] = l;
}

static void held_remove(const struct lock *l)
{
    struct held *h = held_locks();
    unsigned i = 0;
    while (i < h->count && h->lock[i] != l) {
        i++;
    }
    bool lock_is_held_by_this_thread = i < h->count;
    CHECK(lock_is_held_by_this_thread);
    h->count--;
    for (; i < h->count; i++) {
        h->lock[i] = h->lock[i + 1];
    }
}

#else

static void held_check(const struct lock *l)
{
    (void)l;
}

static void held_add(const struct lock *l)
{
    (void)l;
}

static void held_remove(const struct lock *l)
{
    (void)l;
}

#endif

void lock_init(struct lock *l, enum lock_rank rank)
{
    CHECK(rank > LOCK_RANK_none && rank < LOCK_RANK_count);
    CHECK(pthread_mutex_init(&l->mutex, NULL) == 0);
    l->rank = rank;
}

void lock_fini(struct lock *l)
{
    CHECK(pthread_mutex_destroy(&l->mutex) == 0);
}

void lock_take(struct lock *l)
{
    held_check(l);
    CHECK(pthread_mutex_lock(&l->mutex) == 0);
    held_add(l);
}

void lock_release(struct lock *l)
{
    held_remove(l);
    CHECK(pthread_mutex_unlock(&l->mutex) == 0);
}

void lock_cond_init(struct lock_cond *c)
{
    pthread_condattr_t attr;
    CHECK(pthread_condattr_init(&attr) == 0);
    CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_cond_init(&c->cond, &attr) == 0);
    (void)pthread_condattr_destroy(&attr);
}

void lock_cond_fini(struct lock_cond *c)
{
    CHECK(pthread_cond_destroy(&c->cond) == 0);
}

/* Waiting takes the lock again, which is as bound to the order of ranks as taking it the first
 * time. */
void lock_cond_wait(struct lock_cond *c, struct lock *l)
{
    held_remove(l);
    held_check(l);
    CHECK(pthread_cond_wait(&c->cond, &l->mutex) == 0);
    held_add(l);
}

static struct timespec lock_until(uint64_t ms)
{
    struct timespec until;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
    ms = base_min(ms, WAIT_MS_MAX);
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    return until;
}

bool lock_cond_wait_ms(struct lock_cond *c, struct lock *l, uint64_t ms)
{
    struct timespec until = lock_until(ms);
    held_remove(l);
    held_check(l);
    int rc = pthread_cond_timedwait(&c->cond, &l->mutex, &until);
    held_add(l);
    CHECK(rc == 0 || rc == ETIMEDOUT);
    return rc == 0;
}

void lock_cond_signal(struct lock_cond *c)
{
    CHECK(pthread_cond_signal(&c->cond) == 0);
}

void lock_cond_broadcast(struct lock_cond *c)
{
    CHECK(pthread_cond_broadcast(&c->cond) == 0);
}

void lock_event_init(struct lock_event *e)
{
    CHECK(sem_init(&e->sem, 0, 0) == 0);
}

void lock_event_fini(struct lock_event *e)
{
    CHECK(sem_destroy(&e->sem) == 0);
}

void lock_event_set(struct lock_event *e)
{
    CHECK(sem_post(&e->sem) == 0);
}

void lock_event_wait(struct lock_event *e)
{
    int rc;
    while ((rc = sem_wait(&e->sem)) < 0 && errno == EINTR) {
    }
    CHECK(rc == 0);
}

bool lock_event_wait_ms(struct lock_event *e, uint64_t ms)
{
    struct timespec until = lock_until(ms);
    int rc;
    while ((rc = sem_clockwait(&e->sem, CLOCK_MONOTONIC, &until)) < 0 && errno == EINTR) {
    }
    CHECK(rc == 0 || errno == ETIMEDOUT);
    return rc == 0;
}
