/*
 * metanode/metanode_priv.h -- the server as its parts see it. Each part has a file, a structure
 * in parts_priv.h or data_priv.h and a few functions; all run on the one loop of the process.
 *
 * Changes go one way only: metanode_propose() -> log -> namespace_apply() -> metanode_applied(),
 * which tells every part what has become true. Reads go through metanode_read() on a snapshot.
 */
#pragma once

#include "base/env.h"
#include "base/stats.h"
#include "cluster/capability.h"
#include "cluster/placement.h"
#include "consensus/consensus.h"
#include "metanode/append_priv.h"
#include "metanode/apply_priv.h"
#include "metanode/ask_priv.h"
#include "metanode/audit_priv.h"
#include "metanode/data_priv.h"
#include "metanode/engine_priv.h"
#include "metanode/grant_priv.h"
#include "metanode/health_priv.h"
#include "metanode/lock_priv.h"
#include "metanode/metanode.h"
#include "metanode/moves_priv.h"
#include "metanode/parts_priv.h"
#include "metanode/read.h"
#include "metanode/report_priv.h"
#include "metanode/share_priv.h"
#include "namespace/namespace.h"
#include "peer/server.h"

struct disk_file;
#define METANODE_NS_PER_MS UINT64_C(1000000)
#define METANODE_ARENA_BYTES (8u << 20) /* of one read */
#define METANODE_MEMORY_BYTES (UINT64_C(4) << 30)
#define METANODE_CROWDED 512u /* requests that wait; then it is longer until it makes sense */
#define METANODE_CROWDED_MS 250u
#define METANODE_SHORT_MS 1000u   /* when to come again while memory is short */
#define METANODE_CLOCK_PPM 10000u /* e of coherence.md: 1 % */
#define METANODE_WRITE_CAPABILITY_MS CLUSTER_CAPABILITY_WRITE_MS
#define METANODE_READ_CAPABILITY_MS CLUSTER_CAPABILITY_READ_MS

enum metanode_phase {
    METANODE_REPLAYING, /* the log is being applied; nobody is answered */
    METANODE_LOADING,   /* leads; reads what it keeps in memory, makes what a new cluster lacks */
    METANODE_SERVING,
    METANODE_ENDED, /* nothing is acknowledged any more */
};

/* Waits for one command. Caller-owned; `done` exactly once, never from inside metanode_propose().
 */
struct metanode_waiter {
    /* rc 0: applied, `reply` (lent for the call) tells what became of it. Else class EAGAIN: not
     * taken, or nobody knows (-ERR_unavailable); `reply` is NULL. */
    void (*done)(struct metanode_waiter *w, int rc, const struct namespace_reply *reply);
};
struct metanode_proposal {
    struct consensus_proposal base;
    struct metanode *m;
    struct metanode_waiter *waiter; /* NULL when it was told */
    bool removes;
    size_t len;
    uint8_t bytes[]; /* namespace_command, encoded */
};

struct metanode {
    const struct env *env;
    struct metanode_options opt; /* defaults filled in; its pointers are ours */
    char *directory, *name, *cluster_name;
    enum metanode_phase phase;
    bool created;  /* this start has made the directory */
    bool log_full; /* its disk has no room: said once */
    struct uuid uuid;
    struct peer_secrets secrets;
    struct cluster_secret secret;
    struct net_address address;
    struct disk_file *lock;
    struct consensus_fsm fsm;
    struct consensus *consensus;
    struct metanode_engine engine;
    struct kv *kv; /* the engine's */
    struct metanode_warmth warmth;
    struct kv_stop kv_stop;
    struct loop_timer engine_look;
    struct kv_batch *scratch; /* of namespace_check() */
    struct namespace *ns;
    struct peer_user peer_user;
    struct peer_server *server;
    struct stats *stats;
    size_t reads;          /* under way */
    uint64_t term, epochs; /* the newest lease epoch of any session */
    uint64_t lead_ns;      /* since when it leads */
    uint64_t serve_ns;     /* since when it serves: t0 of coherence.md section 9 */
    uint64_t wall_base_ns; /* wall clock at its start less the uptime then */
    uint64_t map_epoch;
    struct metanode_stop *stop;
    uint64_t stop_limit_ms;
    struct loop_timer stop_late;
    bool links_stopping, links_stopped, log_stopping, log_stopped;
    struct consensus_stop consensus_stop;
    struct metanode_apply apply;
    struct metanode_load load;
    struct metanode_sessions sessions;
    struct metanode_memory memory;
    struct metanode_turns turns;
    struct metanode_grants grants;
    struct metanode_shares shares;
    struct metanode_appends appends;
    struct metanode_locks locks;
    struct metanode_writers writers;
    struct metanode_targets targets;
    struct metanode_reports reports;
    struct metanode_chains chains;
    struct metanode_tables tables;
    struct metanode_moves moves;
    struct metanode_cleanup cleanup;
    struct metanode_checkpoints checkpoints;
    struct loop_task checkpoints_stopped;
    struct metanode_backups backups;
    struct metanode_space space;
    struct loop_task space_stopped;
    int stop_rc;
    struct metanode_gauges gauges;
    struct stats_counter mutations, queries, replays, refused;
    struct stats_histogram mutation_ns;
};

/* server.c */
void metanode_fail(struct metanode *m, int rc, const char *reason);
/* True: the engine writes no more, and that has ended this server, too. */
bool metanode_engine_failed(struct metanode *m);
static inline uint64_t metanode_now(const struct metanode *m)
{
    return loop_now_ns(m->env->loop);
}
static inline uint64_t metanode_lease_ns(const struct metanode *m)
{
    return m->opt.lease_ms * METANODE_NS_PER_MS;
}
/* T(1+e): after so long without a renewal a session has lapsed. */
static inline uint64_t metanode_lapse_ns(const struct metanode *m)
{
    uint64_t lease = metanode_lease_ns(m);
    return lease + lease / (1000000 / METANODE_CLOCK_PPM);
}
/* Is what is applied here the truth at this moment (and R7a)? */
bool metanode_leads(struct metanode *m);

/* identity.c: opens, locks and checks the directory; start-up only. */
int metanode_identity_open(struct metanode *m, bool *ret_bootstrap, struct err *e);
int metanode_identity_made(struct metanode *m, struct err *e);
struct disk_file *metanode_lock_free(struct disk *d, struct disk_file *f);

/* propose.c */
/* Encodes a command; `said`: what others said for it (keeps, folds, victim, readers), or NULL.
 * -ENOMEM, -EMSGSIZE. Then metanode_submit() or mem_free(). */
NODISCARD int metanode_command(struct metanode *m, uint16_t kind, struct proto_bytes body,
                               const struct namespace_command *said,
                               struct metanode_proposal **ret);
void metanode_submit(struct metanode_proposal *p, struct metanode_waiter *w);
/* A command of our own; `w` is not called when this fails. */
NODISCARD int metanode_propose(struct metanode *m, uint16_t kind, const struct proto_type *type,
                               const void *body, struct metanode_waiter *w);

/* mutate.c, answer.c, query.c, admin.c: handlers of requests (handlers.c lists them). */
extern const struct peer_handler metanode_handlers[];
extern const size_t metanode_handler_count;
void metanode_mutate(struct peer_user *u, struct peer_request *r);
void metanode_query(struct peer_user *u, struct peer_request *r);
void metanode_status(struct peer_user *u, struct peer_request *r);
void metanode_shutdown(struct peer_user *u, struct peer_request *r);
void metanode_target_list(struct peer_user *u, struct peer_request *r);
void metanode_target_change(struct peer_user *u, struct peer_request *r);
void metanode_class_create(struct peer_user *u, struct peer_request *r);
void metanode_plan_change(struct peer_user *u, struct peer_request *r);
void metanode_backup_open(struct peer_user *u, struct peer_request *r);
void metanode_backup_read(struct peer_user *u, struct peer_request *r);
void metanode_backup_close(struct peer_user *u, struct peer_request *r);
void metanode_fsck(struct peer_user *u, struct peer_request *r);
static inline struct metanode *metanode_of(struct peer_user *u)
{
    return container_of(u, struct metanode, peer_user);
}
/* Answers what a command of this opcode became, with the session's trailer. */
void metanode_answer(struct metanode *m, struct metanode_session *s, struct peer_request *r,
                     const struct namespace_reply *reply);
/* With a text, and for clients with the trailer. `s` may be NULL. */
void metanode_refuse(struct metanode *m, struct metanode_session *s, struct peer_request *r, int rc,
                     const char *text);
/* Refuses while this server cannot speak for the cluster; true: go on. */
bool metanode_admit(struct metanode *m, struct peer_request *r);
/* Dates capabilities and fences: the wall clock, but without its jumps. */
uint64_t metanode_wall_ms(const struct metanode *m);
/* Adds expiry and MAC (CLUSTER_MAC_BYTES at `mac`); c->data_id 0 stays empty. */
void metanode_sign(struct metanode *m, struct proto_capability *c, uint8_t *mac);
