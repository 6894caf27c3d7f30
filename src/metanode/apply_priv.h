/*
 * metanode/apply_priv.h -- executing the log (apply.c).
 */
#pragma once

#include "base/mem.h"
#include "consensus/consensus.h"
#include "kv/kv.h"
#include "loop/loop.h"
#include "namespace/namespace.h"

struct metanode;

/* Do mutations find in memory what they read? */
#define METANODE_COLD_MANY 64u  /* are looked at together */
#define METANODE_COLD_MISSES 4u /* of them have missed something: the next ones will, too */
struct metanode_warmth {
    uint32_t seen, missed;
    bool cold; /* many do not: what they read is looked for before they are proposed, for many of
                  them at a time; else it is cheaper to let the few wait while applied */
};
/* Of each mutation once: did it miss something that had to be read from the disk? */
static inline void metanode_warmth_note(struct metanode_warmth *w, bool missed)
{
    w->missed += missed ? 1 : 0;
    if (++w->seen == METANODE_COLD_MANY) {
        w->cold = w->missed > METANODE_COLD_MISSES;
        w->seen = w->missed = 0;
    }
}

/* Where the log is being applied. */
struct metanode_apply {
    struct consensus_entry *entry; /* NULL: none */
    size_t entry_bytes;
    struct consensus_operation op;
    bool have_op;
    uint32_t part;
    struct kv_need need;
    struct kv_fetch fetch;
    bool fetching;
    bool missed;         /* the operation under way: something, for which it waited */
    bool waiting;        /* for room in the engine, */
    uint64_t waiting_ns; /* since then */
    struct kv_room room;
    struct loop_task task;
    struct loop_timer retry;
    struct mem_arena arena; /* of commands that are decoded for metanode_applied() */
    struct namespace_reply reply;
};

extern const struct consensus_fsm_ops metanode_fsm_ops;
void metanode_apply_init(struct metanode *m);
void metanode_apply_fini(struct metanode *m);
