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
