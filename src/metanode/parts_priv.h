/* metanode/parts_priv.h -- the parts of the server that see to clients (metanode_priv.h): what each
 * keeps, what the others call. */
#pragma once

#include "base/dict.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/stats.h"
#include "cluster/chain.h"
#include "kv/kv.h"
#include "loop/loop.h"
#include "peer/link.h"

struct consensus_reference;
struct metanode;
struct metanode_mutation;
struct namespace_command;
struct namespace_known;
struct namespace_known_table;
struct namespace_reply;
struct namespace_view;
struct peer_request;

/* applied.c: every command that was applied while this server leads, for the parts that care. */
void metanode_applied(struct metanode *m, const struct namespace_command *c,
                      const struct namespace_reply *reply);

/* load.c: from "the log is applied" to "serving". */
struct metanode_load {
    struct loop_timer retry, page;
    struct metanode_loading *loading;
    bool active; /* its first command is under way */
};
void metanode_load_start(struct metanode *m);
void metanode_load_fini(struct metanode *m);

/* checkpoint.c: makes the state durable and lets the log go. */
struct metanode_checkpoints {
    struct kv_checkpoint base;
    uint64_t since_bytes; /* of the log since the newest began */
    uint64_t begun_bytes, begun_ns;
    unsigned idle;      /* that came to an end one after the other with nothing new */
    uint64_t log_index; /* what the log calls the one under way; 0: it does not know */
    uint64_t retry_ns;  /* not before, after a failure */
    bool active;
    bool failing;            /* it was said */
    bool last_tried;         /* the one of the end */
    struct loop_timer timer; /* the interval */
    struct loop_timer late;
    struct loop_task *stopped; /* the server ends */
    struct stats_counter count, failures;
    struct stats_histogram time_ns;
};
void metanode_checkpoints_init(struct metanode *m); /* behind the options */
void metanode_checkpoints_fini(struct metanode *m);
void metanode_checkpoints_start(struct metanode *m);
void metanode_checkpoint_look(struct metanode *m); /* from time to time */
/* Waits for the one under way or, when there is enough to save, makes a last one; then `stopped`.
 */
void metanode_checkpoints_stop(struct metanode *m, struct loop_task *stopped);
/* An entry of so many bytes was applied. */
void metanode_checkpoint_applied(struct metanode *m, size_t bytes);
/* How the log names the checkpoint of this index. */
void metanode_checkpoint_reference(uint64_t index, struct consensus_reference *ret);
/* As consensus_fsm_ops.snapshot. */
int metanode_checkpoint_snapshot(struct metanode *m, struct consensus_reference *ret);

/* backup.c: frozen states that administrators read. */
#define METANODE_BACKUPS_MAX 2u
struct metanode_backup;
struct metanode_backups {
    struct metanode_backup *at[METANODE_BACKUPS_MAX]; /* NULL: free */
    struct loop_timer timer;                          /* while there are any */
};
void metanode_backups_fini(struct metanode *m);

/* ---- session.c, session_open.c: clients ---- */
struct metanode_slot {
    struct metanode_mutation *busy; /* under way, or NULL */
};
struct metanode_session {
    struct dict_node node;
    struct list all;
    uint64_t id, verifier;
    uint32_t slots, flags;
    uint64_t generation;
    uint64_t renewed_ns; /* when the last renewal was issued, or this leader began */
    uint64_t lease_epoch;
    uint64_t push_seq;
    bool lapsed, expiring;
    bool unheard; /* of before this leader, and what it writes is not known here yet (ask.c) */
    bool unclaimed,
        grants_lost;  /* grant.c: of before this leader; some of its grants are missing */
    bool claims_lost; /* for some of what it claims there was no room */
    unsigned maybes;  /* files kept for it because it could not be asked */
    struct list grants;
    struct peer_link *link;              /* control link, NULL: none */
    struct metanode_slot *slot;          /* `slots` of them; NULL before the first mutation */
    struct namespace_known_table *known; /* its credentials; NULL before the first read */
    struct list turn, waiting;           /* turn.c */
    size_t waiting_count, mutations;
    uint64_t round;
    unsigned in_round;
};
struct metanode_sessions {
    struct dict by_id;
    struct list all;
    struct loop_timer housekeeping, map_push;
};
int metanode_sessions_init(struct metanode *m);
void metanode_sessions_fini(struct metanode *m);
void metanode_sessions_start(struct metanode *m);
struct metanode_session *metanode_session_find(struct metanode *m, uint64_t id);
int metanode_session_add(struct metanode *m, uint64_t id, struct metanode_session **ret);
void metanode_session_remove(struct metanode *m, uint64_t id);
/* The session that a request of this link names; else it is refused and NULL. */
struct metanode_session *metanode_session_of(struct metanode *m, struct peer_request *r,
                                             uint64_t id);
/* A credential of it for reads: read with `v` if it is not kept yet. Errors of reading. */
int metanode_session_know(struct metanode_session *s, const struct namespace_view *v, uint32_t cred,
                          const struct namespace_known **ret);
/* Silent for T(1+e): its lease is over. */
bool metanode_session_is_lapsed(struct metanode *m, struct metanode_session *s);
/* A logged end, once; L5. */
void metanode_session_expire(struct metanode *m, uint64_t id);
void metanode_session_down(struct metanode *m, struct peer_link *l);
struct proto_trailer metanode_trailer(struct metanode *m, struct metanode_session *s);
void metanode_push_map_changed(struct metanode *m);
void metanode_session_open(struct peer_user *u, struct peer_request *r);
void metanode_session_resume(struct peer_user *u, struct peer_request *r);
void metanode_session_close(struct peer_user *u, struct peer_request *r);
void metanode_credential(struct peer_user *u, struct peer_request *r);
void metanode_slot_cancel(struct peer_user *u, struct peer_request *r);
void metanode_renew(struct peer_user *u, struct peer_request *r);
void metanode_reclaim(struct peer_user *u, struct peer_request *r); /* reclaim.c */
/* This link is the session's control link from now on, with a new epoch; older ones end. */
void metanode_session_bind(struct metanode *m, struct metanode_session *s, struct peer_request *r,
                           uint64_t generation);
void metanode_inval_done(struct peer_user *u, struct peer_request *r);

/* ---- memory.c: one budget for everything that grows with the load ---- */
struct metanode_memory {
    struct mem_budget state; /* of the key-value engine: counts, never refuses */
    unsigned looked;         /* admissions since the last look */
    uint64_t used;
    struct stats_gauge kv, log, sessions, connections, requests, replies, total, limit;
    struct stats_counter refused;
};
void metanode_memory_init(struct metanode *m);
void metanode_memory_statistics(struct metanode *m);
/* Adds up; what all of it takes now, in bytes. */
uint64_t metanode_memory_look(struct metanode *m);
/* May a request of this opcode go on? When nearly all is used, nothing that grows may. */
bool metanode_memory_allows(struct metanode *m, uint16_t opcode);
/* Used bytes from which it may not; and were there so many at the last look? */
uint64_t metanode_memory_near(const struct metanode *m);
bool metanode_memory_is_short(const struct metanode *m);
/* Does this link not take what it is answered, so that it gets no more? */
bool metanode_memory_is_slow(struct metanode *m, const struct peer_link *l);

/* ---- turn.c: who is served next ---- */
#define METANODE_MUTATIONS_MAX 4096u /* under way */
struct metanode_turns {
    struct list ready; /* sessions that have something waiting */
    struct loop_task task;
    struct loop_timer look;
    struct peer_request *serving;
    uint64_t round;
    size_t mutations, busy_sessions, waiting, ready_count;
    struct stats_counter waited, refused;
    struct stats_gauge under_way;
};
void metanode_turns_init(struct metanode *m);
void metanode_turns_statistics(struct metanode *m);
void metanode_turns_fini(struct metanode *m);
/* True: the request may run now. False: it waits, and `handler` gets it again; or it was refused.
 */
bool metanode_turn_take(struct metanode *m, struct metanode_session *s, struct peer_request *r,
                        void (*handler)(struct peer_user *u, struct peer_request *r),
                        bool mutation);
/* A mutation is under way, until it is not; `s` NULL: its session has ended meanwhile. */
void metanode_turn_begin(struct metanode *m, struct metanode_session *s);
void metanode_turn_end(struct metanode *m, struct metanode_session *s);
/* The session ends: what waits is refused. */
void metanode_turn_drop(struct metanode *m, struct metanode_session *s);
