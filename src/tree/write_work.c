/*
 * tree/write_work.c -- who packs: see write.h.
 *
 * The executor, as far as it has threads. What it cannot take, or has not begun after a while (its
 * threads may be busy for long, with streams to other machines), is packed by the loop, so that a
 * checkpoint goes on whatever else there is to do; and all of it where the user has no other
 * threads to give (`serial`). A loop that serves must not stand still for that: it does one piece,
 * a partition of a node or a block of a memtable, and then what else is due.
 */
#include "tree/write_priv.h"

#define WORK_HELP_NS UINT64_C(100000000)

static struct writer_work *work_of(struct list *node)
{
    return LIST_ENTRY(node, struct writer_work, node);
}

static void work_own(struct writer_work *k)
{
    struct tree_writer *w = k->writer;
    list_push_back(&w->own, &k->node);
    loop_defer(w->options.env->loop, &w->own_task);
}

static void work_own_run(struct loop_task *t)
{
    struct tree_writer *w = container_of(t, struct tree_writer, own_task);
    struct writer_work *k = work_of(w->own.next);
    w->helped++;
    bool more = k->step(k);
    if (!more) {
        list_remove(&k->node);
    }
    if (!list_empty(&w->own)) {
        loop_defer(w->options.env->loop, t); /* others first */
    }
    if (!more) {
        k->done(k);
    }
}

static void work_all(struct loop_executor_job *job)
{
    struct writer_work *k = container_of(job, struct writer_work, job);
    while (k->step(k)) {
    }
}

static void work_over(struct loop_executor_job *job)
{
    struct writer_work *k = container_of(job, struct writer_work, job);
    list_remove(&k->node);
    if (job->cancelled) {
        work_own(k);
    } else {
        k->done(k);
    }
}

/* What runs already goes on where it is. */
static void work_help(struct loop_timer *t)
{
    struct tree_writer *w = container_of(t, struct tree_writer, help);
    uint64_t now_ns = loop_now_ns(w->options.env->loop);
    while (!list_empty(&w->queued)) {
        struct writer_work *k = work_of(w->queued.next);
        if (k->since_ns + WORK_HELP_NS > now_ns) {
            loop_timer_at(w->options.env->loop, t, k->since_ns + WORK_HELP_NS);
            return;
        }
        list_remove(&k->node);
        list_init(&k->node);
        (void)loop_executor_cancel(w->options.executor, &k->job);
    }
}

void tree_writer_work(struct tree_writer *w, struct writer_work *k)
{
    const struct tree_writer_options *o = &w->options;
    k->writer = w;
    k->job = (struct loop_executor_job){.work = work_all, .done = work_over};
    if (o->serial || loop_executor_submit(o->executor, o->env->loop, &k->job) < 0) {
        work_own(k);
        return;
    }
    k->since_ns = loop_now_ns(o->env->loop);
    list_push_back(&w->queued, &k->node);
    if (!loop_timer_active(&w->help)) {
        loop_timer_at(o->env->loop, &w->help, k->since_ns + WORK_HELP_NS);
    }
}

void tree_writer_work_init(struct tree_writer *w)
{
    list_init(&w->queued);
    list_init(&w->own);
    w->own_task.run = work_own_run;
    w->help.fire = work_help;
}

void tree_writer_work_fini(struct tree_writer *w)
{
    CHECK(list_empty(&w->queued) && list_empty(&w->own));
    loop_undefer(w->options.env->loop, &w->own_task);
    loop_timer_cancel(w->options.env->loop, &w->help);
}
