/*
 * metanode/errand_priv.h -- what data nodes are asked until all of it is done: a stored queue is
 * gone through in pages, each item of a page asks its own questions, what failed is asked again
 * with the next round, for ever, with growing pauses. Thread of the loop.
 */
#pragma once

#include "base/list.h"
#include "loop/loop.h"
#include "metanode/read.h"

struct metanode;
struct metanode_errand;

/* First in what `page` allocates. */
struct metanode_errand_item {
    struct list node;
    struct metanode_errand *errand;
};
struct metanode_errand_ops {
    /* Reads what follows `after`: metanode_errand_add() of each item, then `after` and `more`. Is
     * called again, without items, when the read is repeated. Errors of reading, -ENOMEM. */
    int (*page)(struct metanode_errand *e, const struct namespace_view *v);
    /* Asks; metanode_errand_end() then or later. */
    void (*start)(struct metanode_errand_item *x);
};
struct metanode_errand {
    struct metanode *m;
    const struct metanode_errand_ops *ops;
    struct loop_timer timer;
    struct metanode_read read;
    struct list items; /* of the page, under way */
    uint64_t after, wait_ms;
    bool more, failed, stopped;
    bool reading, again;
};
void metanode_errand_init(struct metanode_errand *e, struct metanode *m,
                          const struct metanode_errand_ops *ops);
void metanode_errand_stop(struct metanode_errand *e);  /* what is under way ends soon */
void metanode_errand_fini(struct metanode_errand *e);  /* all zero is fine */
void metanode_errand_kick(struct metanode_errand *e);  /* there is something new */
void metanode_errand_hurry(struct metanode_errand *e); /* what had failed may go now */
void metanode_errand_add(struct metanode_errand *e, struct metanode_errand_item *x);
/* The item is freed. Not good: the queue is gone through again after a pause. */
void metanode_errand_end(struct metanode_errand_item *x, bool good);
