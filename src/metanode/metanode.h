/*
 * metanode/metanode.h -- the metadata server: consensus log, state machine, sessions, chains and
 * everything that clients, data nodes and administrators ask, on one port.
 *
 * Start-up blocks (directory, log); afterwards nothing does. Owner and thread: the loop of env. A
 * process that is killed at any moment loses nothing that it has answered.
 *
 * What others rely on:
 *  - Clients: session_open or session_resume comes first on the control link (slot 0); other links
 *    are heard when their `hello` names that session and its newest generation, before that they
 *    get -ERR_busy. -ERR_session_expired: there is no such session. No caching grants are given
 *    yet: trailers hold none, and nothing has to be reclaimed.
 *  - Targets: `register`, then `heartbeat` on the same link. A heartbeat of a target or incarnation
 *    that is not registered here (this server was restarted) gets -ESTALE: register again.
 *    Everything that this server asks of a target (row_changed, revoke, remove, fence, stat, write
 *    of kind SET_LENGTH) comes over the link that the target registered on.
 *  - The metadata's own updates of chunks are of client METANODE_CLIENT; their seq is the truncate
 *    generation.
 */
#pragma once

#include "base/text.h"
#include "net/stream.h"

struct env;
struct metanode;
struct peer_secrets;

#define METANODE_CLIENT UINT64_MAX

struct metanode_user {
    const struct metanode_user_ops *ops;
};
struct metanode_user_ops {
    /* It has replayed its log, leads and answers. Once. */
    void (*serving)(struct metanode_user *u);
    /* Once: it wants to be stopped. rc 0: an administrator said so; else it can go on no more (a
     * failed write of the log): nothing is acknowledged any more. The owner calls metanode_stop()
     * and then ends the process. */
    void (*ended)(struct metanode_user *u, int rc, const char *reason);
};

/* What keeps the records. By default what has kept those of the directory; of a new one the tree.
 */
enum metanode_engine_kind { METANODE_ENGINE_DEFAULT, METANODE_ENGINE_MEMORY, METANODE_ENGINE_TREE };

struct metanode_options {
    const struct env *env;
    struct metanode_user *user; /* may be NULL */
    const char *directory;      /* copied */
    bool create; /* an absent or empty directory becomes a new cluster; else that is -ENOENT */
    struct uuid cluster_id;
    const char *cluster_name;            /* for people; copied; NULL: empty */
    const struct peer_secrets *secrets;  /* server: needed; client: without it no client comes in */
    const struct net_address *listen;    /* port 0: chosen, see metanode_address(); or */
    int listen_fd;                       /* an inherited one, above 0 */
    const struct net_address *advertise; /* what others are told; NULL: the listening address */
    const char *name;                    /* for the logs of others; copied; NULL: "meta" */
    uint64_t lease_ms;                   /* T of targets and sessions; 0: 10,000 */
    uint64_t heartbeat_ms;               /* 0: T / 10 */
    uint64_t dark_wait_ms;               /* R3; 0: 60,000 */
    uint64_t rebuild_ms;      /* a target is away for so long: its copies are made elsewhere; 0:
                                 600,000 */
    uint32_t moves;           /* copies made at a time, to a target or from one; 0: 2 */
    uint64_t table_quiet_ms;  /* targets come no more for so long: a table is published; 0: 1,000 */
    uint64_t session_keep_ms; /* silent stateful sessions end after it; 0: 24 h; others: a 24th */
    /* Of the storage class `default`, when the cluster is made. */
    uint32_t copies; /* 0: 2 */
    uint32_t
        failure_domain; /* enum proto_failure_domain; 0: host when there are enough, else target */
    uint32_t chunk_bytes;                   /* 0: 4 MiB */
    uint32_t inline_bytes;                  /* 0: 4,096 */
    uint32_t root_uid, root_gid, root_mode; /* of the root directory; mode 0: 0755 */
    uint64_t checkpoint_bytes;              /* of log, at least, from one to the next; 0: 24 MiB */
    uint64_t checkpoint_interval_ms; /* one after that time, too, if it is worth it; 0: 60,000, or
                                      * 300,000 where each writes everything */
    uint64_t memory_bytes;           /* for all that grows with the load; 0: 4 GiB */
    enum metanode_engine_kind engine;
    uint64_t cache_bytes;   /* part of it, for an engine on disk; 0: the engine's choice */
    size_t max_connections; /* 0: 16,384 */
    size_t mutations_max;   /* under way at a time; 0: 4,096 */
    uint64_t audit_wait_ms; /* between two looks that find the same orphan; 0: a day */
    uint64_t audit_window;  /* tests: data ids that are looked at together; 0: 2^27 */
    /* Tests (kv/mem.h): how often a read says that it needs what is not in memory, a commit finds
     * no room; what is lent is gone in time; a cache that is not there. */
    uint32_t need_permille, busy_permille;
    bool strict;
    uint64_t pretended_cache_bytes;
};

/*
 * -ERR_wrong_cluster; -ERR_config: the records are of another engine; -ERR_in_use: another process
 * has the directory; -ENOENT; -EEXIST: to be created, but it holds something else; -ERR_corrupt
 * class; -EADDRINUSE and others of listening. `e` names the path or address and the cause.
 */
NODISCARD int metanode_start(const struct metanode_options *opt, struct metanode **ret,
                             struct err *e);
/* What others are told. */
void metanode_address(const struct metanode *m, struct net_address *ret);
bool metanode_is_serving(const struct metanode *m);
/* How much of the log is in the state. */
uint64_t metanode_applied_index(const struct metanode *m);

/* In good order: no new requests, those in progress are answered for at most `limit_ms`, the log is
 * closed. `done` once, from the loop. */
struct metanode_stop {
    void (*done)(struct metanode_stop *s, int rc);
};
void metanode_stop(struct metanode *m, struct metanode_stop *s, uint64_t limit_ms);
/* After `done` of metanode_stop(). NULL is fine. */
struct metanode *metanode_free(struct metanode *m);
DEFINE_FREEP(metanode)
