/*
 * tree/fetch.h -- reads heads and parts that are not in memory: what a need list names, and what
 * other work of the tree lacks.
 *
 * What several want is read once; what lies side by side is read at once. Bounded: so many reads at
 * a time, and memory is charged before (who finds none waits until some is given back). Packed
 * bytes are checked and unpacked by the executor.
 *
 * Thread: the loop's. `done` comes once for each fetch, never from inside the call.
 */
#pragma once

#include "tree/flush.h"
#include "tree/need.h"
#include "tree/nodes.h"

struct loop_executor;
struct tree_fetcher;

/* Time that each kind of work took, in ns, and how often: for statistics. */
struct tree_times {
    _Atomic uint64_t count[6], ns[6], bytes[6]; /* by enum tree_time */
};
enum tree_time {
    TREE_TIME_SERIALISE, /* making parts and headers */
    TREE_TIME_COMPRESS,
    TREE_TIME_WRITE,
    TREE_TIME_READ,
    TREE_TIME_DECOMPRESS,
    TREE_TIME_DESERIALISE, /* checking and opening */
};

/* Any thread. */
static inline void tree_time_add(struct tree_times *t, enum tree_time what, uint64_t ns,
                                 uint64_t bytes)
{
    atomic_fetch_add_explicit(&t->count[what], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->ns[what], ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->bytes[what], bytes, memory_order_relaxed);
}

struct tree_fetcher_options {
    const struct env *env;
    struct tree_file *file;
    struct tree_nodes *nodes;
    struct tree_cache *cache;
    struct loop_executor *executor;
    struct tree_times *times;
    const uint8_t *file_id;
    unsigned reads_max;      /* 0: 32 */
    void (*idle)(void *arg); /* the last fetch was told; may be NULL */
    void *idle_arg;
};
NODISCARD int tree_fetcher_new(const struct tree_fetcher_options *opt, struct tree_fetcher **ret);
/* Nothing may be under way: tree_fetcher_busy(). NULL is fine. */
struct tree_fetcher *tree_fetcher_free(struct tree_fetcher *x);
bool tree_fetcher_busy(const struct tree_fetcher *x);
uint64_t tree_fetcher_memory(const struct tree_fetcher *x); /* bytes that are charged to nobody */
/* Who waits for it: somebody who reads is served before jobs of the tree, which read much at once;
 * these have some of the reads for themselves, and leave some to readers. */
enum tree_fetch_lane { TREE_FETCH_READER, TREE_FETCH_JOB, TREE_FETCH_LANES };
/* As kv_fetch(). Names that fit nothing any more are passed over. A part whose head is not there
 * gets its head only: its turn comes when it is asked for again. */
void tree_fetcher_fetch(struct tree_fetcher *x, enum tree_fetch_lane lane, struct kv_fetch *f);
/* Read-ahead: the parts of a node from `first` on, or its head if that is not there, are read and
 * nobody is told. Fewer of them, or none, where much is being read already. */
void tree_fetcher_ahead(struct tree_fetcher *x, struct tree_node *node, uint32_t first,
                        uint32_t count);
/* Memory was given back, or time has passed: those who wait for some may try again. */
void tree_fetcher_retry(struct tree_fetcher *x);
/* The text of a failure of class EIO: block, place, reason. That of `f`, as long as few others have
 * come since its end; NULL: the last one. NULL: there is none. */
const struct err *tree_fetcher_error(const struct tree_fetcher *x, const struct kv_fetch *f);
