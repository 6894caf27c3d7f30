/*
 * loop/executor.c -- worker threads; see executor.h.
 *
 * One lock, one queue, one condition. A thread is added when more jobs wait than threads are idle,
 * and ends when it was idle for long and is not the last; the last one sleeps without a time limit,
 * so that an idle process is not woken. One thread is started at once, so that a job that was taken
 * in will run even if the system refuses more threads.
 *
 * Waking a thread costs more than most jobs. So only one is on its way at a time: whoever takes a
 * job and sees more of them wakes the next. Jobs that are over sooner than a thread wakes up are
 * all run by the first; those that block get as many threads as there are. Signals are sent without
 * the lock, which who wakes up takes first.
 */
#include "loop/executor.h"

#include "base/lock.h"
#include "base/mem.h"
#include "loop/executor_priv.h"
#include "loop/loop_priv.h"

#include <pthread.h>
#include <stdio.h>

#define DEFAULT_IDLE_MS 10000u

enum worker_state { WORKER_FREE, WORKER_RUNNING, WORKER_ENDED /* to be joined */ };

struct executor_worker {
    struct executor_pool *pool;
    pthread_t thread;
    enum worker_state state;
};

struct executor_pool {
    struct loop_executor base;
    const char *name;
    uint64_t idle_ms;
    unsigned max_threads;
    struct lock lock; /* all below */
    struct lock_cond changed;
    struct executor_queue queue;
    unsigned threads, idle, woken; /* woken: of those that slept, signalled but not running yet */
    bool stopping;
    struct executor_worker worker[];
};

/* --- the queue --- */

void loop_executor_queue_init(struct executor_queue *q, size_t limit)
{
    list_init(&q->jobs);
    q->count = 0;
    q->limit = limit;
}

bool loop_executor_queue_push(struct executor_queue *q, struct loop_executor_job *j)
{
    if (q->count >= q->limit) {
        return false;
    }
    list_push_back(&q->jobs, &j->node);
    q->count++;
    return true;
}

struct loop_executor_job *loop_executor_queue_pop(struct executor_queue *q)
{
    struct list *node = list_pop_front(&q->jobs);
    if (node == NULL) {
        return NULL;
    }
    q->count--;
    return LIST_ENTRY(node, struct loop_executor_job, node);
}

bool loop_executor_queue_remove(struct executor_queue *q, struct loop_executor_job *j)
{
    if (list_empty(&j->node)) {
        return false; /* taken by a worker, or done */
    }
    list_remove(&j->node);
    q->count--;
    return true;
}

/* --- workers --- */

static void run_job(struct loop_executor_job *j)
{
    j->work(j);
    loop_complete(j->loop, &j->message);
}

/* Locked. True: the caller signals when it has released the lock. */
static bool wake_one(struct executor_pool *p)
{
    bool wanted = p->queue.count > 0 && p->idle > 0 && p->woken == 0;
    if (wanted) {
        p->idle--;
        p->woken++;
    }
    return wanted;
}

/* Locked. A job, or NULL when the worker shall end. */
static struct loop_executor_job *next_job(struct executor_pool *p)
{
    bool patient = true;
    while (p->queue.count == 0) {
        if (p->stopping || (!patient && p->threads > 1)) {
            return NULL;
        }
        p->idle++;
        if (p->threads > 1) {
            patient = lock_cond_wait_ms(&p->changed, &p->lock, p->idle_ms);
        } else {
            lock_cond_wait(&p->changed, &p->lock);
        }
        /* Whether it was signalled or its time was over: the sum of both is what matters. */
        if (p->woken > 0) {
            p->woken--;
        } else {
            p->idle--;
        }
    }
    return loop_executor_queue_pop(&p->queue);
}

static void *work(void *arg)
{
    struct executor_worker *w = arg;
    struct executor_pool *p = w->pool;
    char name[16]; /* the kernel's limit */
    (void)snprintf(name, sizeof name, "%s", p->name);
    (void)pthread_setname_np(pthread_self(), name);
    loop_block_sigpipe();
    lock_take(&p->lock);
    for (struct loop_executor_job *j = next_job(p); j != NULL; j = next_job(p)) {
        bool wake = wake_one(p);
        lock_release(&p->lock);
        if (wake) {
            lock_cond_signal(&p->changed);
        }
        run_job(j);
        lock_take(&p->lock);
    }
    w->state = WORKER_ENDED;
    p->threads--;
    lock_release(&p->lock);
    return NULL;
}

static void join(struct executor_worker *w)
{
    int rc = pthread_join(w->thread, NULL);
    CHECK(rc == 0);
    w->state = WORKER_FREE;
}

/* Locked. One that ended has released the lock for the last time, so joining it does not wait for
 * us. */
static int add_worker(struct executor_pool *p)
{
    struct executor_worker *w = p->worker;
    while (w->state == WORKER_RUNNING) {
        w++;
        CHECK(w < p->worker + p->max_threads);
    }
    if (w->state == WORKER_ENDED) {
        join(w);
    }
    w->pool = p;
    int rc = loop_thread_create(&w->thread, work, w);
    if (rc == 0) {
        w->state = WORKER_RUNNING;
        p->threads++;
    }
    return rc;
}

/* --- the operations --- */

static struct executor_pool *pool_of(struct loop_executor *x)
{
    return container_of(x, struct executor_pool, base);
}

static int pool_submit(struct loop_executor *x, struct loop_executor_job *j)
{
    struct executor_pool *p = pool_of(x);
    lock_take(&p->lock);
    bool taken = loop_executor_queue_push(&p->queue, j);
    if (taken && p->queue.count > p->idle + p->woken && p->threads < p->max_threads) {
        (void)add_worker(p); /* without it the job waits for one of the others */
    }
    bool wake = taken && wake_one(p);
    lock_release(&p->lock);
    if (wake) {
        lock_cond_signal(&p->changed);
    }
    return taken ? 0 : -ERR_busy;
}

static bool pool_cancel(struct loop_executor *x, struct loop_executor_job *j)
{
    struct executor_pool *p = pool_of(x);
    lock_take(&p->lock);
    bool removed = loop_executor_queue_remove(&p->queue, j);
    lock_release(&p->lock);
    return removed;
}

static size_t pool_help(struct loop_executor *x, size_t enough)
{
    struct executor_pool *p = pool_of(x);
    size_t ran = 0;
    while (ran < enough) {
        lock_take(&p->lock);
        struct loop_executor_job *j = loop_executor_queue_pop(&p->queue);
        lock_release(&p->lock);
        if (j == NULL) {
            break;
        }
        run_job(j);
        ran++;
    }
    return ran;
}

static unsigned pool_threads(const struct loop_executor *x)
{
    union { /* counting takes the lock */
        const struct loop_executor *given;
        struct loop_executor *own;
    } u = {.given = x};
    struct executor_pool *p = pool_of(u.own);
    lock_take(&p->lock);
    unsigned threads = p->threads;
    lock_release(&p->lock);
    return threads;
}

static struct loop_executor *pool_free(struct loop_executor *x)
{
    struct executor_pool *p = pool_of(x);
    lock_take(&p->lock);
    CHECK(p->queue.count == 0);
    p->stopping = true;
    lock_cond_broadcast(&p->changed);
    lock_release(&p->lock);
    for (unsigned i = 0; i < p->max_threads; i++) {
        lock_take(&p->lock);
        enum worker_state state = p->worker[i].state;
        lock_release(&p->lock);
        if (state != WORKER_FREE) {
            join(&p->worker[i]);
        }
    }
    lock_cond_fini(&p->changed);
    lock_fini(&p->lock);
    mem_free(p);
    return NULL;
}

static const struct executor_ops pool_ops = {.submit = pool_submit,
                                             .cancel = pool_cancel,
                                             .help = pool_help,
                                             .threads = pool_threads,
                                             .free = pool_free};

static int pool_new(const struct loop_executor_options *opt, struct loop_executor **ret)
{
    struct executor_pool *p =
        mem_zalloc(sizeof *p + opt->max_threads * sizeof(struct executor_worker));
    if (p == NULL) {
        return -ENOMEM;
    }
    p->base.ops = &pool_ops;
    p->name = opt->name != NULL ? opt->name : "worker";
    p->idle_ms = opt->idle_ms > 0 ? opt->idle_ms : DEFAULT_IDLE_MS;
    p->max_threads = opt->max_threads;
    lock_init(&p->lock, LOCK_RANK_executor);
    lock_cond_init(&p->changed);
    loop_executor_queue_init(&p->queue, opt->max_queued);
    lock_take(&p->lock);
    int rc = add_worker(p);
    lock_release(&p->lock);
    if (rc < 0) {
        (void)pool_free(&p->base);
        return rc;
    }
    *ret = &p->base;
    return 0;
}

/* --- the interface --- */

int loop_executor_new(const struct loop_executor_options *opt, struct loop_executor **ret)
{
    CHECK(opt->max_threads > 0 && opt->max_threads <= 1024);
    return opt->simulated != NULL ? loop_executor_sim_new(opt, ret) : pool_new(opt, ret);
}

struct loop_executor *loop_executor_free(struct loop_executor *x)
{
    return x == NULL ? NULL : x->ops->free(x);
}

static void tell_done(struct loop_message *m)
{
    struct loop_executor_job *j = container_of(m, struct loop_executor_job, message);
    j->done(j);
}

static void prepare(struct loop *l, struct loop_executor_job *j)
{
    LOOP_OWNED(l);
    j->loop = l;
    j->message.run = tell_done;
    j->cancelled = false;
    j->refused = 0;
    list_init(&j->node);
}

int loop_executor_submit(struct loop_executor *x, struct loop *l, struct loop_executor_job *j)
{
    prepare(l, j);
    return x->ops->submit(x, j);
}

void loop_executor_start(struct loop_executor *x, struct loop *l, struct loop_executor_job *j)
{
    int rc = loop_executor_submit(x, l, j);
    if (rc < 0) {
        loop_executor_refuse(l, j, rc);
    }
}

void loop_executor_refuse(struct loop *l, struct loop_executor_job *j, int rc)
{
    CHECK(rc < 0);
    prepare(l, j);
    j->refused = rc;
    loop_complete(l, &j->message);
}

bool loop_executor_cancel(struct loop_executor *x, struct loop_executor_job *j)
{
    LOOP_OWNED(j->loop);
    if (!x->ops->cancel(x, j)) {
        return false;
    }
    j->cancelled = true;
    loop_complete(j->loop, &j->message);
    return true;
}

size_t loop_executor_help(struct loop_executor *x, size_t enough)
{
    return x->ops->help(x, enough);
}

unsigned loop_executor_threads(const struct loop_executor *x)
{
    return x->ops->threads(x);
}
