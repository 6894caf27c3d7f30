/*
 * base/mpsc.h -- a bounded FIFO queue of nodes of their owners' for many producers and one consumer
 * (Vyukov's, with a count so that it is bounded).
 */
#pragma once

#include "base/base.h"

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
