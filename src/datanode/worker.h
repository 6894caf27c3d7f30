/*
 * datanode/worker.h -- the worker of a data node: one target (one chunk store), one loop.
 *
 * A worker opens its store, registers with the metadata leader, holds a lease by heartbeats, and is
 * a member of the chains that the leader puts it into: it serves clients and replicates, as the
 * protocol of chains says (its rules R.. and invariants I.. are cited in the code).
 *
 * Owner: the loop of env. Start, free block (they open files); nothing else does. A worker that is
 * killed (its memory dropped) loses nothing that it has acknowledged.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "base/text.h"
#include "cluster/chain.h"
#include "datanode/health.h"
#include "net/stream.h"
#include "peer/auth.h"

struct chunk_store;
struct datanode_worker;
struct env;

/* Who runs a worker; embedded in the owner. */
struct datanode_worker_user {
    const struct datanode_worker_user_ops *ops;
};
struct datanode_worker_user_ops {
    /* The first registration was answered: the leader knows this target. Once. */
    void (*registered)(struct datanode_worker_user *u, uint32_t target);
    /* The disk has failed for writing: the target has reported itself gone, goes on reading for
     * repairs and should be restarted or replaced. Once. */
    void (*failed)(struct datanode_worker_user *u, int rc, const char *reason);
    /* After datanode_worker_stop(): nothing is in flight, the store is clean. Free it. */
    void (*stopped)(struct datanode_worker_user *u, int rc);
};

#define DATANODE_SCRUB_NEVER UINT64_MAX /* `scrub_ms` */
enum datanode_engine {
    DATANODE_ENGINE_DEFAULT, /* what the directory was made with; a new one: EXTENT */
    DATANODE_ENGINE_FILE,
    DATANODE_ENGINE_RAM,
    DATANODE_ENGINE_EXTENT
};

/* Everything is copied, except env and user. */
struct datanode_worker_options {
    const struct env *env;
    struct datanode_worker_user *user;
    const char *directory; /* of the engines on a disk; must exist */
    const char *device;    /* chunk/store.h; lent for the start */
    const char *name;      /* for people: "target.0"; NULL: "target" */
    enum datanode_engine engine;
    bool format; /* an empty directory becomes a new target */
    struct uuid cluster_id;
    struct peer_secrets secrets;    /* server and client secret, both needed */
    const struct net_address *meta; /* metadata servers */
    size_t meta_count;
    struct net_address listen;        /* port 0: chosen; see datanode_worker_address() */
    int listen_fd;                    /* above 0: inherited, instead of `listen` */
    const char *advertise;            /* address that others are told; NULL: that of the listener */
    const char *host, *rack, *labels; /* NULL: empty */
    uint32_t weight;                  /* 0: 100 */
    uint64_t ram_bytes;               /* capacity of `ram`; 0: 1 GiB */
    uint64_t low_bytes;               /* chunk/store.h, with the next three */
    uint32_t rest_ms;
    uint64_t index_bytes, entry_bytes;
    uint64_t send_limit_ms; /* a connection that takes nothing of what it is sent is closed within
                               it; what it was sent from rests (rest_ms) longer. 0: 60,000 */
    uint64_t buffer_bytes; /* data of requests in progress, half for those of members, and a quarter
                              as much again for answers. 0: 256 MiB */
    uint64_t stream_bytes; /* buffers of reads that go past the page cache; 0: 64 MiB */
    uint64_t cache_bytes;  /* what such reads have read is kept; 0: it is not (datanode/blocks.h) */
    size_t max_reads; /* of clients in progress, being sent included; beyond: "busy". 0: 8,192 */
    uint64_t max_read_bytes; /* that they ask for; one link gets a quarter of both. 0: 1 GiB */
    uint64_t dead_keep_ms;   /* removed data ids are known that long at least; 0: 24 h */
    size_t max_updates;      /* writes in progress; beyond: "busy". 0: 1,024 */
    bool blind;              /* it does not judge its disk */
    struct datanode_health_limits health;
    uint64_t scrub_ms;       /* all chunks are checked once in that time. 0: three weeks */
    uint32_t scrub_permille; /* of the disk's time, at most. 0: 100 */
    uint64_t move_rate;      /* see datanode_worker_move_rate() */
};

/* -ERR_in_use, -ERR_wrong_cluster, -ENOENT, -ERR_corrupt class (not a store), -EADDRINUSE, -errno;
 * `e` (may be NULL) says which path or address. Registers in the background, for as long as it
 * takes. */
NODISCARD int datanode_worker_start(const struct datanode_worker_options *opt,
                                    struct datanode_worker **ret, struct err *e);
/* Tells the metadata leader, answers what is in progress (at most `limit_ms`), makes the store
 * stable and clean; `stopped` comes from the loop. At most once. */
void datanode_worker_stop(struct datanode_worker *w, uint64_t limit_ms);
/* After `stopped`, or before the loop has run; NULL is fine. A process that has to end at once just
 * exits: nothing acknowledged is lost. */
struct datanode_worker *datanode_worker_free(struct datanode_worker *w);
DEFINE_FREEP(datanode_worker)

/* Bytes per second that are copied from here to members that are brought up to date, at most
 * DATANODE_MOVE_RATE_MAX; 0: they yield to clients only. At any time. */
#define DATANODE_MOVE_RATE_MAX (UINT64_C(1) << 40)
void datanode_worker_move_rate(struct datanode_worker *w, uint64_t bytes);

/* What is known of the disk from processes before; see health.h. */
void datanode_worker_failures(struct datanode_worker *w, uint32_t count);
void datanode_worker_address(const struct datanode_worker *w, struct net_address *ret);

struct datanode_worker_info {
    struct uuid uuid;
    uint64_t incarnation;
    uint32_t target; /* 0: not registered yet */
    bool leased;     /* serves what its rows let it serve */
    bool settled;    /* and it serves in every chain that has it */
    size_t chain_count, serving_count, syncing_count;
    size_t update_count; /* writes in progress */
    uint64_t total_bytes, free_bytes, used_bytes, chunk_count, damaged_count;
    int failed; /* 0, or why the store is read-only */
    bool sick;  /* the disk is judged so: the leader does without it where it can */
};
void datanode_worker_info(const struct datanode_worker *w, struct datanode_worker_info *ret);
/* Its chains, in any order, as it knows them now; returns how many were stored. For checks of a
 * whole cluster, as is the store below. */
struct datanode_worker_chain {
    struct cluster_row row;
    bool in_path; /* by this row it takes updates */
    bool serves;  /* and shows what it has: its lease is good as well */
};
size_t datanode_worker_chains(const struct datanode_worker *w, struct datanode_worker_chain *ret,
                              size_t max);
struct chunk_store *datanode_worker_store(struct datanode_worker *w);
