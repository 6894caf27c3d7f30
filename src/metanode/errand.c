/* metanode/errand.c -- see errand_priv.h. */
#include "metanode/metanode_priv.h"

static void errand_schedule(struct metanode_errand *e, uint64_t ms)
{
    if (!e->stopped && !e->reading && list_empty(&e->items)) {
        loop_timer_in(e->m->env->loop, &e->timer, ms * METANODE_NS_PER_MS);
    }
}

/* All items of the page are through. */
static void errand_page_end(struct metanode_errand *e)
{
    if (e->more) {
        errand_schedule(e, 0);
        return;
    }
    e->after = 0;
    if (e->failed) {
        e->wait_ms =
            base_min(base_max(e->wait_ms * 2, METANODE_BACKOFF_MIN_MS), METANODE_BACKOFF_MAX_MS);
        errand_schedule(e, e->wait_ms);
    } else if (e->again) {
        errand_schedule(e, 0);
    }
    e->failed = false;
}

void metanode_errand_add(struct metanode_errand *e, struct metanode_errand_item *x)
{
    x->errand = e;
    list_push_back(&e->items, &x->node);
}

void metanode_errand_end(struct metanode_errand_item *x, bool good)
{
    struct metanode_errand *e = x->errand;
    e->failed = e->failed || !good;
    e->wait_ms = good ? 0 : e->wait_ms; /* something goes on */
    list_remove(&x->node);
    mem_free(x);
    if (list_empty(&e->items) && !e->reading) {
        errand_page_end(e);
    }
}

static void errand_drop(struct metanode_errand *e)
{
    struct list *node;
    while ((node = list_pop_front(&e->items)) != NULL) {
        mem_free(LIST_ENTRY(node, struct metanode_errand_item, node));
    }
}

static int errand_read(struct metanode_read *read, const struct namespace_view *v)
{
    struct metanode_errand *e = container_of(read, struct metanode_errand, read);
    errand_drop(e); /* of an earlier round of this read */
    return e->ops->page(e, v);
}

static void errand_read_done(struct metanode_read *read, int rc)
{
    struct metanode_errand *e = container_of(read, struct metanode_errand, read);
    if (rc < 0 || e->stopped) {
        errand_drop(e);
        e->failed = true;
        e->more = false;
    }
    /* `reading` stays set: the page does not end while its items are being started. */
    LIST_FOR_EACH_SAFE(node, &e->items)
    {
        e->ops->start(LIST_ENTRY(node, struct metanode_errand_item, node));
    }
    e->reading = false;
    if (list_empty(&e->items)) {
        errand_page_end(e);
    }
}

static void errand_run(struct loop_timer *t)
{
    struct metanode_errand *e = container_of(t, struct metanode_errand, timer);
    if (e->m->phase != METANODE_SERVING || e->stopped || e->reading || !list_empty(&e->items)) {
        return;
    }
    e->again = false;
    e->reading = true;
    e->read = (struct metanode_read){.run = errand_read, .done = errand_read_done};
    metanode_read(e->m, &e->read);
}

void metanode_errand_kick(struct metanode_errand *e)
{
    e->again = true;
    if (!loop_timer_active(&e->timer)) {
        errand_schedule(e, 0);
    }
}

void metanode_errand_hurry(struct metanode_errand *e)
{
    e->again = true;
    e->wait_ms = 0;
    errand_schedule(e, 0);
}

void metanode_errand_init(struct metanode_errand *e, struct metanode *m,
                          const struct metanode_errand_ops *ops)
{
    *e = (struct metanode_errand){.m = m, .ops = ops, .timer.fire = errand_run};
    list_init(&e->items);
}

void metanode_errand_stop(struct metanode_errand *e)
{
    e->stopped = true;
    loop_timer_cancel(e->m->env->loop, &e->timer);
}

void metanode_errand_fini(struct metanode_errand *e)
{
    if (e->m != NULL) {
        metanode_errand_stop(e);
        errand_drop(e);
    }
}
