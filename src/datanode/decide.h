/*
 * datanode/decide.h -- what a member does with a request, as pure functions: no clock, no I/O, no
 * memory. Rule numbers are those of the protocol of chains.
 */
#pragma once

#include "chunk/chunk.h"
#include "cluster/chain.h"

#define DATANODE_RECENT_MS 600000u /* an entry of `recent` lives this long after its update */

/* ---- `recent`: who made the newest updates ---- */
enum datanode_seen { DATANODE_SEEN_NEW, DATANODE_SEEN_SAME, DATANODE_SEEN_NEWER };
/* SAME: *ret is the entry. NEWER: a later request of this client was executed. */
enum datanode_seen datanode_recent_find(const struct chunk_info *info, uint64_t client,
                                        uint64_t seq, struct chunk_recent *ret);

/* An update's own entry, the head's time, and which clients' entries go with it. */
struct datanode_recent_change {
    struct chunk_recent entry;
    uint64_t evicted[CHUNK_RECENT_MAX];
    size_t evicted_count;
};
/* At the head: fills in what is evicted for `change->entry`. */
void datanode_recent_plan(const struct chunk_info *info, struct datanode_recent_change *change);
/* At every member, with the same result: the new list and flags of the record. `list` has room for
 * CHUNK_RECENT_MAX; returns how many there are. -ERR_bad_value: it does not fit the record. */
NODISCARD int datanode_recent_apply(const struct chunk_info *info,
                                    const struct datanode_recent_change *change,
                                    struct chunk_recent *list, uint16_t *ret_flags);

/* ---- WRITE at the head: section 6, step 2, in order, behind epoch, head and lease ---- */
struct datanode_write_view {
    const struct chunk_info *info; /* all zero: no record */
    bool dead;
    bool set_length, retry;
    bool uncut; /* whoever writes does not know whether all is cut that `tgen` cuts */
    uint32_t tgen;
    uint64_t client, seq;
};
enum datanode_write_action {
    DATANODE_WRITE_ACCEPT,
    DATANODE_WRITE_AGAIN, /* executed before: *ret says with what result */
    DATANODE_WRITE_DONE,  /* a truncation that is done already */
};
/* Or -ERR_gone, -ERR_stale_trunc, -ERR_stale_request, -ERR_unknown_outcome, -ERR_busy. */
NODISCARD int datanode_write_decide(const struct datanode_write_view *v, struct chunk_recent *ret);
/* Identity of an update that a head of this epoch assigns. */
struct chunk_identity datanode_identity_next(const struct chunk_info *info, uint32_t epoch);

/* ---- FORWARD: the table of section 6 ---- */
struct datanode_forward_view {
    const struct chunk_info *info; /* all zero: no record */
    struct chunk_identity identity, base;
    bool whole, dead, syncing;
};
enum datanode_forward_action {
    DATANODE_FORWARD_GOOD,       /* committed here: answer */
    DATANODE_FORWARD_JOIN,       /* pending here: answer when the successor has it */
    DATANODE_FORWARD_ACCEPT,     /* store as pending */
    DATANODE_FORWARD_INSTALL,    /* syncing: store as committed */
    DATANODE_FORWARD_NEED_WHOLE, /* cannot apply a delta */
    DATANODE_FORWARD_GONE,       /* removed */
    DATANODE_FORWARD_DIVERGED,   /* I3 does not hold */
};
enum datanode_forward_action datanode_forward_decide(const struct datanode_forward_view *v);

/* ---- Resync and repair: section 9 ---- */
/* A COPY or DROP at the syncing member: has it any effect? */
struct datanode_copy_view {
    const struct chunk_info *info; /* all zero: no record */
    bool dead, touched;            /* touched in this session */
    uint64_t ver;
};
bool datanode_copy_takes(const struct datanode_copy_view *v);

/* One key of the walk at the source; a side that has no record has `there` unset. */
struct datanode_walk_side {
    bool there, damaged;
    struct chunk_identity identity;
    uint32_t digest;
};
enum datanode_walk_action { DATANODE_WALK_SAME, DATANODE_WALK_COPY, DATANODE_WALK_DROP };
enum datanode_walk_action datanode_walk_decide(const struct datanode_walk_side *source,
                                               const struct datanode_walk_side *syncing);

/* ---- A new row: may this target serve, if it says so? ---- */
struct datanode_hold_view {
    enum proto_member_state before, now; /* own, in the row known before and in the new one */
    bool is;                             /* it is a member in the new one */
    bool first;                          /* no row was known */
    bool met;                            /* but chunks were found */
    bool lost;                           /* an earlier process has left it, or had not all of it */
    bool registration; /* the new one came with this process's first registration */
    bool leaps;       /* its epoch is far above the known one: the metadata are those of a backup */
    bool synced;      /* a session has ended in the known epoch */
    bool held, stale; /* as of the known row */
};
/* Has it a whole copy, or had it when it was last there? */
bool datanode_hold_decide(const struct datanode_hold_view *v);
/* Is it said to serve by the rows of a backup, and was not there when they were made? */
bool datanode_stale_decide(const struct datanode_hold_view *v);

/* ---- R4: may a member whose process started anew take part? ---- */
struct datanode_fence_view {
    const struct cluster_row *row;
    uint32_t target, registered_epoch;
};
bool datanode_restart_over(const struct datanode_fence_view *v);
