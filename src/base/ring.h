/*
 * base/ring.h -- bounded FIFO queues: `ring` of pointers for one thread, `mpsc` intrusive for many
 * producers and one consumer (Vyukov's, with a count so that it is bounded).
 */
#pragma once

#include "base/base.h"

struct ring {
    void **slot;
    size_t mask, head, tail; /* tail - head = count; capacity = mask + 1 */
};
NODISCARD int ring_init(struct ring *r, size_t capacity); /* rounded up to a power of two */
void ring_fini(struct ring *r);
NODISCARD bool ring_push(struct ring *r, void *item); /* false: full; item is not NULL */
void *ring_pop(struct ring *r);                       /* NULL: empty */
size_t ring_count(const struct ring *r);

struct mpsc_node {
    _Atomic(struct mpsc_node *) next;
};
struct mpsc {
    _Atomic(struct mpsc_node *) head;
    struct mpsc_node *tail;
    struct mpsc_node stub;
    _Atomic size_t count;
    size_t limit;
};
void mpsc_init(struct mpsc *q, size_t limit); /* nothing to undo: nodes are their owners' */
/* Any thread, never blocks. false: full. *ret_was_empty (may be NULL): the consumer may need a
 * wake-up. */
NODISCARD bool mpsc_push(struct mpsc *q, struct mpsc_node *n, bool *ret_was_empty);
/* Consumer only; NULL: empty, or a push is half done. The consumer may sleep only when mpsc_empty()
 * says so (a push that it could not see yet was not told to wake it); else it polls again. */
struct mpsc_node *mpsc_pop(struct mpsc *q);
bool mpsc_empty(struct mpsc *q);
