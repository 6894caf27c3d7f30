/*
 * loop/executor.h -- worker threads for blocking or heavy work; and threads that run loops.
 *
 * Jobs are caller-owned. `work` runs on some worker (or on a helping caller), `done` afterwards on
 * the loop that submitted it, exactly once, never inside submit. The pool grows up to max_threads
 * while jobs wait and shrinks when idle. In simulation `work` runs at a random later virtual time
 * on the loop's own thread.
 */
#pragma once

#include "loop/loop.h"

struct loop_executor;
struct loop_executor_options {
    const char *name;     /* of the threads; lent */
    unsigned max_threads; /* at least 1 */
    size_t max_queued;    /* jobs not yet running; beyond: -ERR_busy */
    uint64_t idle_ms;     /* a surplus thread ends after so long without work; 0: 10 s */
    struct loop
        *simulated; /* NULL: real threads; else the process it belongs to, whose jobs it runs */
};
struct loop_executor_job {
    void (*work)(struct loop_executor_job *j); /* any thread; no access to loop-owned objects */
    void (*done)(struct loop_executor_job *j); /* the submitting loop */
    struct loop *loop;                         /* set by submit */
    struct loop_message message;
    struct list node;
    bool cancelled; /* work did not run: loop_executor_cancel() came first */
    int refused;    /* work did not run: why, of loop_executor_start(); else 0 */
};
NODISCARD int loop_executor_new(const struct loop_executor_options *opt,
                                struct loop_executor **ret);
struct loop_executor *loop_executor_free(
    struct loop_executor *x); /* waits for running jobs; queued ones are CHECKed to be none */
DEFINE_FREEP(loop_executor)
NODISCARD int loop_executor_submit(struct loop_executor *x, struct loop *l,
                                   struct loop_executor_job *j); /* 0, -ERR_busy */
/* For who has no other way when it is refused: `done` comes in any case, with `refused` set. */
void loop_executor_start(struct loop_executor *x, struct loop *l, struct loop_executor_job *j);
/* `done` comes, as if the job had been refused with rc. */
void loop_executor_refuse(struct loop *l, struct loop_executor_job *j, int rc);
/* In `done`: what became of it, when `rc` is what its work has said. */
static inline int loop_executor_result(const struct loop_executor_job *j, int rc)
{
    return j->refused < 0 ? j->refused : rc;
}
/* Owner of the job's loop. True: it was still queued, `work` will not run, `done` comes as usual.
 */
bool loop_executor_cancel(struct loop_executor *x, struct loop_executor_job *j);
/* Takes queued jobs and runs them on the calling thread until `enough` jobs ran or none waits.
 * Returns how many. */
size_t loop_executor_help(struct loop_executor *x, size_t enough);
unsigned loop_executor_threads(const struct loop_executor *x); /* now; for tests and statistics */

/* A loop on its own thread. */
struct loop_thread;
NODISCARD int loop_thread_start(struct loop *l, struct loop_thread **ret);
/* Asks the loop to stop and joins its thread. Any thread but its own. */
struct loop_thread *loop_thread_stop(struct loop_thread *t);
