/* datanode/chain_priv.h -- chains of this target: rows and roles. See chain.c. */
#pragma once

#include "base/dict.h"
#include "base/list.h"
#include "chunk/store.h"
#include "cluster/chain.h"
#include "loop/loop.h"

struct datanode_worker;

struct datanode_resync; /* source's side of a session, resync_source.c */
struct datanode_sink;   /* syncing member's side, resync_sink.c */

/* Epochs rise by one for each change; those of a metadata server that was restored from a backup
 * leap to the seconds of the clock. Its rows are old ones: who has left by them may have the only
 * copies of what moved since. Whoever has missed as many changes only looks as if it had left. */
#define DATANODE_LEAP 512u

struct datanode_chain {
    struct dict_node node;
    struct list all;
    struct datanode_worker *worker;
    uint32_t id;
    struct cluster_row row;
    enum proto_member_state state; /* own, in the row; OFFLINE when it is not in it */
    bool head, in_path;            /* in_path: serving or syncing, and not fenced */
    bool fenced;                   /* R4 */
    bool held;                     /* it has a whole copy: datanode_hold_decide() */
    bool stale;                    /* datanode_stale_decide() */
    bool refused;                  /* it is said to serve, and does not: one of these two */
    bool noted_lost;               /* what the file says of that: hold.h */
    uint32_t noted_epoch;          /* and up to which epoch it knows its place in the rows */
    bool met;                      /* chunks of it were found before a row was known */
    bool released; /* it was a member and has left, by rows that followed each other: what it has of
                      it is not needed any more */
    uint32_t registered_epoch;
    uint32_t revoked_epoch; /* R5: stopped in this epoch */
    uint32_t successor;     /* target id, 0: none */
    bool successor_syncing;
    unsigned behind;      /* members that get what this one gets */
    uint32_t predecessor; /* target id, 0: none */
    uint8_t report;       /* enum proto_report */
    uint32_t synced_epoch;
    uint64_t low_until_ns; /* a member further on was short of space; section 10.5 */
    bool resync_wanted;    /* there was no memory for a session */
    uint32_t attempts;     /* the newest number given */
    uint32_t turn;         /* rises whenever what is under way becomes void */
    struct list items;
    /* Pendings that an earlier process left (R12.3): found by a walk of the index. */
    bool recovering;
    struct chunk_key recover_at;
    struct loop_task recover;
    struct loop_timer recover_again;
    struct datanode_resync *resync;
    struct datanode_sink *sink;
    /* digest.c: what there was of it at the last look, and what the leader has heard last. */
    struct chunk_sum seen, told;
    uint32_t seen_epoch, told_epoch; /* 0: nothing */
    bool resting;                    /* the look before found the same */
};
struct datanode_chain *datanode_chain_find(struct datanode_worker *w, uint32_t id);
/* One of which there are chunks, and no row yet: the leader is asked for it. NULL: no memory. */
struct datanode_chain *datanode_chain_meet(struct datanode_worker *w, uint32_t id);
bool datanode_chain_is_member(const struct datanode_chain *c);
/* Is it a member, and not one that an administrator's promotion has set aside? */
bool datanode_chain_takes_part(const struct datanode_chain *c);
/* Takes a row if it is newer. `registration`: of a register reply. */
int datanode_chain_take(struct datanode_worker *w, const struct proto_row *row, bool registration);
/* R9. 0; -ERR_stale_epoch, -ERR_ahead_epoch, -ERR_not_serving. */
NODISCARD int datanode_chain_route(struct datanode_worker *w, const struct proto_route *route,
                                   struct datanode_chain **ret);
/* Serving, with a lease, not revoked. */
bool datanode_chain_serves(const struct datanode_chain *c);
NODISCARD int datanode_chain_head_ready(const struct datanode_chain *c);
/* Is this member, or one further on, under its low-water mark? */
bool datanode_chain_low(const struct datanode_chain *c);
void datanode_chains_tick(struct datanode_worker *w); /* what there was no memory for */
/* At the end: as if the row did not name this target any more. */
void datanode_chain_leave(struct datanode_chain *c);
void datanode_chain_gone(struct datanode_chain *c, const char *reason);
void datanode_chain_recover(struct datanode_chain *c);
/* Clears the store's lossy mark when no chain waits for a resync of this target any more. */
void datanode_lossy_check(struct datanode_worker *w);
extern const struct dict_ops datanode_chain_ops;
