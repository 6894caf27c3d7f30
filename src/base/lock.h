/*
 * base/lock.h -- ranked mutexes and conditions. A thread may take a lock only if its rank is above
 * those it holds; test builds abort otherwise. No lock is held across a callback.
 */
#pragma once

#include "base/base.h"

#include <pthread.h>
#include <semaphore.h>

#define LOCK_RANKS(X) \
    X(simulation) X(executor) X(disk_pool) X(loop) X(client) X(tree) X(stats) X(log) X(leaf)
#define LOCK_RANK_ENUM(name) LOCK_RANK_##name,
enum lock_rank { LOCK_RANK_none, LOCK_RANKS(LOCK_RANK_ENUM) LOCK_RANK_count };

struct lock {
    pthread_mutex_t mutex;
    enum lock_rank rank;
};
struct lock_cond {
    pthread_cond_t cond; /* CLOCK_MONOTONIC */
};
void lock_init(struct lock *l, enum lock_rank rank);
void lock_fini(struct lock *l);
void lock_take(struct lock *l);
void lock_release(struct lock *l);
void lock_cond_init(struct lock_cond *c);
void lock_cond_fini(struct lock_cond *c);
void lock_cond_wait(struct lock_cond *c, struct lock *l);
bool lock_cond_wait_ms(struct lock_cond *c, struct lock *l, uint64_t ms); /* false: timed out */
void lock_cond_signal(struct lock_cond *c);
void lock_cond_broadcast(struct lock_cond *c);

/* Something that one thread waits for, which then may free it at once: one call of the kernel on
 * each side, where a lock and a condition wake the waiter into a lock that is still held. */
struct lock_event {
    sem_t sem;
};
void lock_event_init(struct lock_event *e);
void lock_event_fini(struct lock_event *e);
void lock_event_set(struct lock_event *e);                  /* once */
void lock_event_wait(struct lock_event *e);                 /* once */
bool lock_event_wait_ms(struct lock_event *e, uint64_t ms); /* false: not yet, wait again */
