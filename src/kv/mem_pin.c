/*
 * The image of a pinned checkpoint stays in its directory (mem_store.c); frames are made of it on a
 * thread of the pin's own, so that a checkpoint under way has its own executor for itself.
 */
#include "kv/mem_pin_priv.h"

#include "base/env.h"
#include "base/mem.h"
#include "kv/mem_stream_priv.h"
#include "loop/executor.h"
#include "loop/loop.h"

struct kv_mem_pin {
    struct kv_pin base;
    struct kv_mem_pin_options opt;
    char *path;
    struct loop_executor *executor;
    struct kv_mem_frames frames;
    bool gone;
    struct kv_pin_read *read;
    struct loop_executor_job job;
    struct kv_frame frame;
    size_t len;
    int rc;
    struct loop_task task;
};

static struct kv_mem_pin *pin_of(struct kv_pin *p)
{
    return container_of(p, struct kv_mem_pin, base);
}

static void pin_end(struct kv_mem_pin *p)
{
    loop_undefer(p->opt.env->loop, &p->task);
    kv_mem_frames_fini(&p->frames);
    loop_executor_free(p->executor);
    mem_free(p->path);
    mem_free(p);
}

static void pin_over(struct kv_mem_pin *p)
{
    struct kv_pin_read *r = p->read;
    int rc = p->gone ? -ECANCELED : p->rc;
    p->read = NULL;
    p->base.reading = false;
    if (rc == 0) {
        r->len = p->len;
        r->next = p->frame.next;
        r->last = p->frame.last;
    }
    if (p->gone) {
        pin_end(p);
    }
    r->done(r, rc);
}

static void pin_work(struct loop_executor_job *job)
{
    struct kv_mem_pin *p = container_of(job, struct kv_mem_pin, job);
    struct kv_pin_read *r = p->read;
    p->rc = kv_mem_frames_get(&p->frames, &r->from, r->buf, &p->frame, &p->len, &r->err);
}

/* The end may free the executor: not from its own callback. */
static void pin_worked(struct loop_executor_job *job)
{
    struct kv_mem_pin *p = container_of(job, struct kv_mem_pin, job);
    p->rc = loop_executor_result(job, p->rc);
    loop_defer(p->opt.env->loop, &p->task);
}

static void pin_task(struct loop_task *task)
{
    pin_over(container_of(task, struct kv_mem_pin, task));
}

static void pin_read(struct kv_pin *base, struct kv_pin_read *r)
{
    struct kv_mem_pin *p = pin_of(base);
    p->read = r;
    p->job = (struct loop_executor_job){.work = pin_work, .done = pin_worked};
    loop_executor_start(p->executor, p->opt.env->loop, &p->job);
}

static void pin_free(struct kv_pin *base)
{
    struct kv_mem_pin *p = pin_of(base);
    p->gone = true;
    p->opt.unpin(p->opt.store, p->opt.index);
    if (!base->reading) {
        pin_end(p);
    }
}

static const struct kv_pin_ops kv_mem_pin_ops = {.read = pin_read, .free = pin_free};

int kv_mem_pin_new(const struct kv_mem_pin_options *opt, struct kv_pin **ret)
{
    struct loop *l = opt->env->loop;
    struct loop_executor_options x = {.name = "pin",
                                      .max_threads = 1,
                                      .max_queued = 1,
                                      .simulated = loop_is_simulated(l) ? l : NULL};
    struct kv_mem_pin *p = mem_zalloc(sizeof *p);
    char *path = mem_strdup(opt->path);
    int rc = p == NULL || path == NULL ? -ENOMEM : loop_executor_new(&x, &p->executor);
    if (rc < 0) {
        mem_free(path);
        mem_free(p);
        return rc;
    }
    p->opt = *opt;
    p->path = path;
    p->opt.path = path;
    p->task.run = pin_task;
    p->base = (struct kv_pin){
        .ops = &kv_mem_pin_ops, .index = opt->index, .term = opt->term, .bytes = opt->bytes};
    kv_mem_frames_init(&p->frames, opt->env->disk, path);
    *ret = &p->base;
    return 0;
}
