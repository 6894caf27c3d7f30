/* loop/executor_priv.h -- the two kinds of executor: threads (executor.c), simulation
 * (executor_sim.c). */
#pragma once

#include "loop/executor.h"

struct executor_ops {
    int (*submit)(struct loop_executor *x, struct loop_executor_job *j); /* 0, -ERR_busy */
    bool (*cancel)(struct loop_executor *x, struct loop_executor_job *j);
    size_t (*help)(struct loop_executor *x, size_t enough);
    unsigned (*threads)(const struct loop_executor *x);
    struct loop_executor *(*free)(struct loop_executor *x);
};
struct loop_executor {
    const struct executor_ops *ops;
};

/* First in, first out; the owner's lock covers it. */
struct executor_queue {
    struct list jobs; /* loop_executor_job.node */
    size_t count, limit;
};
void loop_executor_queue_init(struct executor_queue *q, size_t limit);
bool loop_executor_queue_push(struct executor_queue *q,
                              struct loop_executor_job *j);                  /* false: full */
struct loop_executor_job *loop_executor_queue_pop(struct executor_queue *q); /* NULL: empty */
bool loop_executor_queue_remove(struct executor_queue *q, struct loop_executor_job *j);

NODISCARD int loop_executor_sim_new(const struct loop_executor_options *opt,
                                    struct loop_executor **ret);
