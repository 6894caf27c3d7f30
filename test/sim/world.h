/*
 * sim/world.h -- a whole cluster in one thread: a metadata server, data nodes and clients as
 * simulated processes on machines of their own, with a network between them and disks below.
 *
 * Hosts: 1 the metadata server, 2.. the data nodes (a master each, which starts the worker of one
 * target), then the clients. All of it is determined by the seed. Processes live in memory domains:
 * killing one frees what it held, without destructors.
 */
#pragma once

#include "base/env.h"
#include "base/log.h"
#include "base/mem.h"
#include "datanode/master.h"
#include "datanode/supervised.h"
#include "datanode/worker.h"
#include "disk/sim.h"
#include "loop/sim.h"
#include "metanode/metanode.h"
#include "net/sim.h"
#include "opendfs/async.h"
#include "peer/auth.h"

#define WORLD_TARGETS 4u
#define WORLD_CLIENTS 3u
#define WORLD_LOADS 2u /* clients that have a tree of their own; all share a file */
#define WORLD_HOSTS (1u + WORLD_TARGETS + WORLD_CLIENTS)
#define WORLD_META 0u
#define WORLD_TARGET(i) (1u + (i))
#define WORLD_CLIENT(i) (1u + WORLD_TARGETS + (i))
#define WORLD_MS UINT64_C(1000000)
#define WORLD_S UINT64_C(1000000000)
#define WORLD_LEASE_MS 1000u

struct world;
struct world_node;

/* In its own memory domain; one of the services is there. */
struct world_process {
    struct world_node *node;
    struct world_process **place; /* the node's, that points to it */
    struct loop *loop;
    struct env env;
    struct mem_budget budget;
    struct log_sink sink;
    struct loop_sim_death death;
    struct loop_signal term;
    struct loop_task end;
    bool stopping;
    struct metanode_user meta_user;
    struct metanode *meta;
    struct metanode_stop meta_stop;
    struct datanode_master_user master_user;
    struct datanode_master *master;
    struct datanode_worker_user worker_user;
    struct datanode_worker *worker;
    struct net_address address; /* the worker's */
    struct datanode_supervised_user supervised_user;
    struct datanode_supervised *supervised;
    struct opendfs *fs;
};
/* One machine. */
struct world_node {
    struct world *w;
    unsigned index, host;
    char name[24], text[12]; /* text: the index, an argument of the worker */
    struct disk_sim *disk;
    struct world_process *process; /* metadata server, worker or client; NULL: not running */
    struct world_process *master;  /* of a data node */
    bool formatted;                /* it was started once, with success */
    bool extents;                  /* a target whose chunks lie in containers: every other one */
    bool absent;                   /* a target that joins later */
    bool forgets;                  /* and keeps nothing of them in memory: half of those */
    bool disk_full, disk_trouble;  /* now; ever: starting may fail, and writing */
    uint64_t starts;
    char damaged[64];       /* the checkpoint whose bits flipped last */
    unsigned sessions_lost; /* of a client: ended by the leader, with all that was not flushed */
    uint64_t unsteady_until_ns;    /* it stood still: what it thinks of itself may be old */
    struct loop_sim_event replace; /* a worker whose store has failed */
    const char *argv[4];
};
struct world {
    struct loop_sim *sim;
    struct net_sim *net;
    struct rand *rand;
    bool verbose;
    struct world_node node[WORLD_HOSTS];
    struct loop_sim_program worker_program;
    struct uuid cluster_id;
    struct peer_secrets secrets;
    struct net_address meta_address;
    enum metanode_engine_kind engine; /* of the metadata: a tree with odd seeds */
    uint64_t rebuild_ms;              /* so long a target is waited for; 0: longer than a run */
    uint32_t copies, need_permille;   /* how often a read of metadata is told to fetch first */
    bool plants;                      /* chunks are put into stores, past the chains */
    bool cut;                         /* some hosts cannot reach each other */
    uint64_t store_failures;          /* of targets, so far */
    unsigned full_disks;              /* now */
    uint64_t full_until_ns;           /* for what began until then there may be no space */
    uint64_t possible_losses;         /* how often unsynced data could have been lost for good */
    /* Stored bytes that went bad, all on one machine. Where another member of their chains has ever
     * been missing since, its copy may be older, and theirs the only one. */
    unsigned rotten; /* node; 0: none */
    uint64_t rots, rots_alone;
    char failure[400]; /* what broke the rules; empty: nothing so far */
};

void world_init(struct world *w, uint64_t seed, bool verbose);
void world_fini(struct world *w);
/* Runs until `done`, a failure, or the limit (world time): then that is the failure. */
/* As long as a server needs to see by itself that a full disk has room again. */
void world_settle(struct world *w);
void world_run(struct world *w, bool (*done)(void *context), void *context, uint64_t limit_ns,
               const char *what);
void world_fail(struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool world_failed(const struct world *w);
void world_say(const struct world *w, const char *what, const char *name); /* when verbose */
uint64_t world_now_ns(const struct world *w);
/* [from, to] */
uint64_t world_between(struct world *w, uint64_t from, uint64_t to);

/* The process that a machine runs by itself: metadata server, master, client. Does nothing while
 * the one before still ends. */
void world_start(struct world *w, unsigned node);
bool world_is_running(const struct world *w, unsigned node);
void world_kill(struct world *w, unsigned node);        /* SIGKILL of that process */
void world_kill_worker(struct world *w, unsigned node); /* its master goes on */
void world_stop(struct world *w, unsigned node);        /* SIGTERM of that process */
void world_power_cut(struct world *w, unsigned node);
/* Something happens to the bytes that a node has stored. False: another has bad ones already. */
bool world_may_rot(struct world *w, unsigned node);
/* What is damaged may be so for good. */
bool world_may_lack_good_copies(const struct world *w);
/* Does everybody say that all chains have all copies, and all targets are up? `but`: this node is
 * not asked; WORLD_HOSTS: all are. */
bool world_is_healthy(struct world *w, unsigned but);
/* Why not: what each target says of itself. */
void world_health(const struct world *w, char *to, size_t size);
