/*
 * tree/tree_pin.c -- checkpoints that are pinned while somebody reads them as a stream. What a pin
 * names is on the disk and changes no more, so frames are made on a thread of the executor, without
 * a look at anything that the loop owns.
 */
#include "tree/tree_pin_priv.h"

#include "base/mem.h"
#include "kv/stream.h"
#include "tree/stream_send.h"

struct tree_pin {
    struct kv_pin base;
    struct tree *t;
    struct list node; /* of tree.pins */
    uint64_t checkpoint;
    struct tree_send *send;
    bool gone; /* freed while it is being read */
    struct kv_pin_read *read;
    /* the executor's while it runs */
    struct loop_executor_job job;
    struct kv_frame frame;
    size_t len;
    int rc;
};

static struct tree_pin *pin_of(struct kv_pin *p)
{
    return container_of(p, struct tree_pin, base);
}

unsigned tree_pins(const struct tree *t, bool reading)
{
    unsigned count = 0;
    LIST_FOR_EACH(node, &t->pins)
    {
        count += !reading || LIST_ENTRY(node, struct tree_pin, node)->base.reading ? 1 : 0;
    }
    return count;
}

static int pin_read_file(const void *from, uint64_t offset, void *buf, size_t len)
{
    return tree_file_read_now(from, offset, buf, len);
}

static void pin_end(struct tree_pin *p)
{
    struct tree *t = p->t;
    list_remove(&p->node);
    tree_file_unpin(t->file, p->checkpoint);
    tree_send_free(p->send);
    mem_free(p);
}

static void pin_over(struct tree_pin *p)
{
    struct tree *t = p->t;
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
    tree_stop_check(t);
}

static void pin_work(struct loop_executor_job *job)
{
    struct tree_pin *p = container_of(job, struct tree_pin, job);
    struct kv_pin_read *r = p->read;
    p->rc = tree_send_frame(p->send, &r->from, r->buf, &p->frame, &p->len, &r->err);
}

static void pin_worked(struct loop_executor_job *job)
{
    struct tree_pin *p = container_of(job, struct tree_pin, job);
    p->rc = loop_executor_result(job, p->rc);
    pin_over(p);
}

static void pin_read(struct kv_pin *base, struct kv_pin_read *r)
{
    struct tree_pin *p = pin_of(base);
    struct tree *t = p->t;
    LOOP_OWNED(t->env.loop);
    p->read = r;
    p->job = (struct loop_executor_job){.work = pin_work, .done = pin_worked};
    if (t->stopping) {
        loop_executor_refuse(t->env.loop, &p->job, -ECANCELED);
    } else {
        loop_executor_start(t->executor, t->env.loop, &p->job);
    }
}

static void pin_free(struct kv_pin *base)
{
    struct tree_pin *p = pin_of(base);
    LOOP_OWNED(p->t->env.loop);
    p->gone = true;
    if (!base->reading) {
        pin_end(p);
    }
}

static const struct kv_pin_ops tree_pin_ops = {.read = pin_read, .free = pin_free};

static int pin_new(struct tree *t, struct tree_pin **ret)
{
    const struct tree_super *s = tree_file_super(t->file);
    struct tree_send_options opt = {.read = pin_read_file, .from = t->file, .super = s};
    struct tree_file_info info;
    struct tree_pin *p = mem_zalloc(sizeof *p);
    int rc = p == NULL ? -ENOMEM : tree_send_new(&opt, &p->send);
    rc = rc < 0 ? rc : tree_file_pin(t->file, s->checkpoint);
    if (rc < 0) {
        if (p != NULL) {
            tree_send_free(p->send);
        }
        mem_free(p);
        return rc;
    }
    tree_file_info(t->file, &info);
    p->t = t;
    p->checkpoint = s->checkpoint;
    p->base = (struct kv_pin){.ops = &tree_pin_ops,
                              .index = s->applied_index,
                              .term = s->applied_term,
                              .bytes = info.space.used * TREE_UNIT};
    list_push_back(&t->pins, &p->node);
    *ret = p;
    return 0;
}

int tree_pin(struct kv *kv, struct kv_pin **ret)
{
    struct tree *t = tree_of(kv);
    struct tree_pin *p = NULL;
    LOOP_OWNED(t->env.loop);
    if (t->stopping) {
        return -ECANCELED;
    }
    int rc = tree_pins(t, false) >= KV_PINS_MAX ? -ENOBUFS : pin_new(t, &p);
    if (rc == 0) {
        *ret = &p->base;
    }
    return rc;
}
