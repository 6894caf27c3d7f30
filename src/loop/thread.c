/* loop/thread.c -- a loop on its own thread; see executor.h. */
#include "base/mem.h"
#include "loop/executor.h"
#include "loop/loop_priv.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

struct loop_thread {
    struct loop *loop;
    pthread_t thread;
};

static void *run_loop(void *arg)
{
    struct loop_thread *t = arg;
    char name[16]; /* the kernel's limit */
    (void)snprintf(name, sizeof name, "%s", loop_name(t->loop));
    (void)pthread_setname_np(pthread_self(), name);
    (void)loop_run(t->loop);
    return NULL;
}

int loop_thread_create(pthread_t *ret, void *(*run)(void *arg), void *arg)
{
    sigset_t all, before;
    sigfillset(&all);
    int rc = pthread_sigmask(SIG_SETMASK, &all, &before);
    CHECK(rc == 0);
    int created = pthread_create(ret, NULL, run, arg);
    rc = pthread_sigmask(SIG_SETMASK, &before, NULL);
    CHECK(rc == 0);
    return -created;
}

int loop_thread_start(struct loop *l, struct loop_thread **ret)
{
    if (loop_is_simulated(l)) {
        return -EOPNOTSUPP;
    }
    struct loop_thread *t = mem_zalloc(sizeof *t);
    if (t == NULL) {
        return -ENOMEM;
    }
    t->loop = l;
    int rc = loop_thread_create(&t->thread, run_loop, t);
    if (rc < 0) {
        mem_free(t);
        return rc;
    }
    *ret = t;
    return 0;
}

struct loop_thread *loop_thread_stop(struct loop_thread *t)
{
    if (t == NULL) {
        return NULL;
    }
    loop_ask_stop(t->loop);
    int rc = pthread_join(t->thread, NULL);
    CHECK(rc == 0);
    loop_own(t->loop);
    atomic_store_explicit(&t->loop->stop_asked, false, memory_order_relaxed);
    mem_free(t);
    return NULL;
}
