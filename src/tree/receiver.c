/* tree/receiver.c -- see receiver.h: frames are taken on a thread of an executor, one at a time. */
#include "tree/receiver.h"

#include "base/env.h"
#include "base/mem.h"
#include "loop/executor.h"
#include "loop/loop.h"
#include "tree/stream_receive.h"

struct tree_receiver {
    struct kv_receiver base;
    struct loop *loop;
    struct loop_executor *executor, *own_executor;
    struct tree_receive *core;
    struct kv_receive *put;
    struct loop_executor_job job;
    int rc;
};

static struct tree_receiver *receiver_of(struct kv_receiver *x)
{
    return container_of(x, struct tree_receiver, base);
}

static void receiver_over(struct tree_receiver *x)
{
    struct kv_receive *r = x->put;
    int rc = x->rc;
    x->put = NULL;
    x->base.putting = false;
    x->base.next = *tree_receive_next(x->core);
    x->base.stored_bytes = tree_receive_stored(x->core);
    r->done(r, rc);
}

static void receiver_work(struct loop_executor_job *job)
{
    struct tree_receiver *x = container_of(job, struct tree_receiver, job);
    struct kv_receive *r = x->put;
    x->rc = tree_receive_put(x->core, r->bytes, r->len, &r->whole, &r->err);
}

static void receiver_worked(struct loop_executor_job *job)
{
    struct tree_receiver *x = container_of(job, struct tree_receiver, job);
    x->rc = loop_executor_result(job, x->rc);
    receiver_over(x);
}

static void receiver_put(struct kv_receiver *base, struct kv_receive *r)
{
    struct tree_receiver *x = receiver_of(base);
    LOOP_OWNED(x->loop);
    x->put = r;
    x->job = (struct loop_executor_job){.work = receiver_work, .done = receiver_worked};
    loop_executor_start(x->executor, x->loop, &x->job);
}

static void receiver_free(struct kv_receiver *base)
{
    struct tree_receiver *x = receiver_of(base);
    tree_receive_free(x->core);
    loop_executor_free(x->own_executor);
    mem_free(x);
}

static const struct kv_receiver_ops tree_receiver_ops = {.put = receiver_put,
                                                         .free = receiver_free};

static int receiver_init(struct tree_receiver *x, const struct tree_receiver_options *opt,
                         struct err *e)
{
    struct loop *l = opt->env->loop;
    struct loop_executor_options own = {.name = "receiver",
                                        .max_threads = 1,
                                        .max_queued = 1,
                                        .simulated = loop_is_simulated(l) ? l : NULL};
    struct tree_receive_options core = {.disk = opt->env->disk,
                                        .path = opt->path,
                                        .owner = opt->owner,
                                        .again = opt->again,
                                        .sync_bytes = opt->sync_bytes};
    int rc = opt->executor != NULL ? 0 : loop_executor_new(&own, &x->own_executor);
    x->executor = opt->executor != NULL ? opt->executor : x->own_executor;
    return rc < 0 ? rc : tree_receive_new(&core, &x->core, e);
}

int tree_receiver_open(const struct tree_receiver_options *opt, struct kv_receiver **ret,
                       struct err *e)
{
    struct tree_receiver *x = mem_zalloc(sizeof *x);
    if (x == NULL) {
        return -ENOMEM;
    }
    x->base.ops = &tree_receiver_ops;
    x->loop = opt->env->loop;
    int rc = receiver_init(x, opt, e);
    if (rc < 0) {
        receiver_free(&x->base);
        return rc;
    }
    x->base.next = *tree_receive_next(x->core);
    x->base.stored_bytes = tree_receive_stored(x->core);
    *ret = &x->base;
    return 0;
}
