/*
 * loop/executor_sim.c -- the executor of a simulated process; see executor.h.
 *
 * A worker is an event of the world: it comes a random time after a job was given to it, runs the
 * job at the head of the queue, and comes again while there are more. All of it is memory of the
 * process and vanishes with it.
 */
#include "base/mem.h"
#include "loop/executor_priv.h"
#include "loop/sim.h"

#define SIM_WORK_MAX_NS 1000000u

struct executor_sim_worker {
    struct executor_sim *executor;
    struct loop_sim_event turn;
    bool busy;
};

struct executor_sim {
    struct loop_executor base;
    struct loop *loop;
    struct executor_queue queue;
    unsigned busy, worker_count;
    struct executor_sim_worker worker[];
};

static struct executor_sim *sim_of(struct loop_executor *x)
{
    return container_of(x, struct executor_sim, base);
}

static void set_to_work(struct executor_sim_worker *w)
{
    struct loop_sim *s = loop_sim_of(w->executor->loop);
    uint64_t delay = rand_range(loop_sim_rand(s), 1, SIM_WORK_MAX_NS);
    loop_sim_at(s, &w->turn, loop_sim_now_ns(s) + delay);
}

static bool run_job(struct executor_sim *x)
{
    struct loop_executor_job *j = loop_executor_queue_pop(&x->queue);
    if (j == NULL) {
        return false;
    }
    j->work(j);
    loop_complete(j->loop, &j->message);
    return true;
}

static void take_turn(struct loop_sim_event *ev)
{
    struct executor_sim_worker *w = container_of(ev, struct executor_sim_worker, turn);
    struct executor_sim *x = w->executor;
    (void)run_job(x); /* none: cancelled, or a helper was faster */
    if (x->queue.count > 0) {
        set_to_work(w);
    } else {
        w->busy = false;
        x->busy--;
    }
}

static int sim_submit(struct loop_executor *x, struct loop_executor_job *j)
{
    struct executor_sim *s = sim_of(x);
    CHECK(j->loop == s->loop); /* processes share no memory */
    if (!loop_executor_queue_push(&s->queue, j)) {
        return -ERR_busy;
    }
    for (unsigned i = 0; i < s->worker_count && s->busy < s->worker_count; i++) {
        struct executor_sim_worker *w = &s->worker[i];
        if (!w->busy) {
            w->busy = true;
            s->busy++;
            set_to_work(w);
            break;
        }
    }
    return 0;
}

static bool sim_cancel(struct loop_executor *x, struct loop_executor_job *j)
{
    return loop_executor_queue_remove(&sim_of(x)->queue, j);
}

static size_t sim_help(struct loop_executor *x, size_t enough)
{
    size_t ran = 0;
    while (ran < enough && run_job(sim_of(x))) {
        ran++;
    }
    return ran;
}

static unsigned sim_threads(const struct loop_executor *x)
{
    const struct executor_sim *s = (const void *)x; /* `base` is first */
    return s->busy > 0 ? s->busy : 1;
}

static struct loop_executor *sim_free(struct loop_executor *x)
{
    struct executor_sim *s = sim_of(x);
    CHECK(s->queue.count == 0);
    for (unsigned i = 0; i < s->worker_count; i++) {
        loop_sim_cancel(loop_sim_of(s->loop), &s->worker[i].turn);
    }
    mem_free(s);
    return NULL;
}

static const struct executor_ops sim_ops = {.submit = sim_submit,
                                            .cancel = sim_cancel,
                                            .help = sim_help,
                                            .threads = sim_threads,
                                            .free = sim_free};

int loop_executor_sim_new(const struct loop_executor_options *opt, struct loop_executor **ret)
{
    struct executor_sim *s =
        mem_zalloc(sizeof *s + opt->max_threads * sizeof(struct executor_sim_worker));
    if (s == NULL) {
        return -ENOMEM;
    }
    s->base.ops = &sim_ops;
    s->loop = opt->simulated;
    s->worker_count = opt->max_threads;
    loop_executor_queue_init(&s->queue, opt->max_queued);
    for (unsigned i = 0; i < s->worker_count; i++) {
        s->worker[i].executor = s;
        s->worker[i].turn.run = take_turn;
        s->worker[i].turn.on = opt->simulated;
    }
    *ret = &s->base;
    return 0;
}
