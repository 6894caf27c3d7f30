/*
 * base/mpsc.c -- see mpsc.h.
 *
 * Dmitry Vyukov's intrusive queue: producers swap themselves in at the head, then link the
 * node before them; the consumer follows the links from the tail. Between swap and link the chain
 * is cut, so the consumer may see nothing although nodes are queued. The stub node keeps the chain
 * from being empty.
 *
 * The count goes up before the swap and down after the node is out. So it is never below the number
 * of queued nodes, and when it is 0 the next push is told that the queue was empty.
 */
#include "base/mpsc.h"

#include <stdatomic.h>

void mpsc_init(struct mpsc *q, size_t limit)
{
    atomic_init(&q->stub.next, NULL);
    atomic_init(&q->head, &q->stub);
    atomic_init(&q->count, 0);
    q->tail = &q->stub;
    q->limit = limit;
}

static void mpsc_append(struct mpsc *q, struct mpsc_node *n)
{
    atomic_store_explicit(&n->next, NULL, memory_order_relaxed);
    struct mpsc_node *before = atomic_exchange_explicit(&q->head, n, memory_order_acq_rel);
    /* Here the chain is cut: `n` is the head, but nothing leads to it. */
    atomic_store_explicit(&before->next, n, memory_order_release);
}

bool mpsc_push(struct mpsc *q, struct mpsc_node *n, bool *ret_was_empty)
{
    size_t before = atomic_fetch_add(&q->count, 1);
    if (before >= q->limit) {
        (void)atomic_fetch_sub(&q->count, 1);
        return false;
    }
    mpsc_append(q, n);
    if (ret_was_empty != NULL) {
        *ret_was_empty = before == 0;
    }
    return true;
}

static struct mpsc_node *mpsc_next(struct mpsc_node *n)
{
    return atomic_load_explicit(&n->next, memory_order_acquire);
}

struct mpsc_node *mpsc_pop(struct mpsc *q)
{
    struct mpsc_node *first = q->tail, *next = mpsc_next(first);
    if (first == &q->stub) {
        if (next == NULL) {
            return NULL;
        }
        q->tail = next; /* the stub is out of the chain until the last node leaves */
        first = next;
        next = mpsc_next(first);
    }
    if (next == NULL) {
        if (first != atomic_load_explicit(&q->head, memory_order_acquire)) {
            return NULL; /* a push behind `first` is half done */
        }
        mpsc_append(q, &q->stub); /* so that `first` can leave */
        next = mpsc_next(first);
    }
    if (next == NULL) {
        return NULL; /* a push came between; it links itself in a moment */
    }
    q->tail = next;
    (void)atomic_fetch_sub(&q->count, 1);
    return first;
}

bool mpsc_empty(struct mpsc *q)
{
    return atomic_load(&q->count) == 0;
}
