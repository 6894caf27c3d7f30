/*
 * loop/source.h -- what reaches a loop through memory that it shares with the kernel and not
 * through a descriptor: the completions of io_uring (disk/).
 *
 * The loop asks its sources before it waits, while it looks (loop_set_polling()) and after it has
 * waited. Loops of the operating system only, and not under a foreign event loop. All on the loop's
 * thread; `run` may remove and free its own source.
 */
#pragma once

#include "loop/loop.h"

struct loop_source {
    /* Passes on what was gathered since the last time. Once per round, before the loop waits. */
    void (*flush)(struct loop_source *s);
    /* Has something come? Asked again and again while the loop looks: memory only, no calls. */
    bool (*ready)(struct loop_source *s);
    /* As `flush`; and from now until `run` a write to `wake_fd` has to follow whatever comes. True:
     * something is there already. */
    bool (*rest)(struct loop_source *s);
    /* Hands out what has come. Once per round, after the loop has waited; at most so much as one
     * round may hold. */
    void (*run)(struct loop_source *s);
    struct list node; /* the loop's */
};
void loop_source_add(struct loop *l, struct loop_source *s);
void loop_source_remove(struct loop *l, struct loop_source *s);
/* An eventfd that ends the sleep of the loop. It is the loop's. */
int loop_source_wake_fd(const struct loop *l);
/* The kernel's number of the thread that owns the loop: what is bound to a thread is made anew when
 * a loop has moved to another. */
int64_t loop_source_thread(const struct loop *l);
