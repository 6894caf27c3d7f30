/*
 * tree/write_priv.h -- a writer, and what its two halves share: write.c (nodes) and keep.c
 * (memtables): memory, work memory for packing, and who packs (write_work.c).
 */
#pragma once

#include "base/env.h"
#include "base/mem.h"
#include "loop/executor.h"
#include "loop/loop.h"
#include "tree/write.h"

#define WRITE_NODES_DEFAULT 4u
#define WRITE_NODES_MAX 64u

/* Packing, in pieces so small that a loop that serves may do one at a time. */
struct writer_work {
    struct loop_executor_job job;
    struct tree_writer *writer;
    bool (*step)(struct writer_work *k); /* any thread: a partition, a block; false: the last one */
    void (*done)(struct writer_work *k); /* the loop's */
    struct list node;                    /* of `queued` or `own` */
    uint64_t since_ns;
};

struct tree_writer {
    struct tree_writer_options options;
    struct list waiting;                   /* tree_node_write.link */
    struct tree_keep *keep, *keep_last;    /* waiting ones, by `inside` */
    unsigned nodes_running, keeps_running; /* keeps: at most one */
    size_t codec_bytes;                    /* that the work memory of one job takes; */
    size_t cold_codec_bytes;               /* of one that packs with zstd */
    struct loop_task task;                 /* begins what waits */
    /* write_work.c */
    struct list queued; /* at the executor, which may not have begun with them */
    struct list own;    /* the loop does them */
    struct loop_task own_task;
    struct loop_timer help; /* when the first of `queued` has waited for long */
    uint64_t helped;        /* pieces that the loop has done */
    struct err error;
};

/* Memory is charged; or (`wait`) there is none, and something under way will give some back. When
 * nothing is, the budget is overdrawn by this one: to write is what makes memory free. */
NODISCARD bool tree_writer_take(struct tree_writer *w, uint64_t bytes);
static inline unsigned tree_writer_running(const struct tree_writer *w)
{
    return w->nodes_running + w->keeps_running;
}
/* Work memory of codec_bytes (`cold`: cold_codec_bytes), which are charged with the rest of a job.
 * -ENOMEM. */
NODISCARD int tree_writer_codec(const struct tree_writer *w, bool cold, struct tree_codec *ret);
/* write_work.c: by the executor, or the loop; `done` comes later. */
void tree_writer_work(struct tree_writer *w, struct writer_work *k);
void tree_writer_work_init(struct tree_writer *w);
void tree_writer_work_fini(struct tree_writer *w);
/* Something has ended. */
void tree_writer_kick(struct tree_writer *w);
/* Any thread; `ns` of the loop's clock. */
void tree_writer_time(const struct tree_writer *w, enum tree_time kind, uint64_t ns,
                      uint64_t bytes);
static inline uint64_t tree_writer_now(const struct tree_writer *w)
{
    return loop_now_ns(w->options.env->loop);
}

/* keep.c: 0: it runs; -ERR_busy: memory is to be waited for; -ENOMEM. */
NODISCARD int tree_writer_keep_start(struct tree_writer *w, struct tree_keep *k);
