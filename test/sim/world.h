/*
 * sim/world.h -- a whole cluster in one thread: a metadata server, data nodes and clients as
 * simulated processes on machines of their own, with a network between them and disks below.
 *
 * Nodes: the metadata server, the targets (a master each, which starts the worker), then the
 * clients. Each is on a host of its own, but two targets may share one: it loses power as a whole.
 * All of it is determined by the seed. Processes live in memory domains:
 * killing one frees what it held, without destructors.
 */
#pragma once

#include "base/env.h"
#include "base/log.h"
#include "base/mem.h"
#include "chunk/chunk.h"
#include "datanode/master.h"
#include "datanode/supervised.h"
#include "datanode/worker.h"
#include "disk/sim.h"
#include "features.h"
#include "loop/sim.h"
#include "metanode/metanode.h"
#include "net/sim.h"
#include "opendfs/async.h"
#include "peer/auth.h"

#define WORLD_TARGETS 6u     /* at most */
#define WORLD_TARGETS_FEW 4u /* mostly */
#define WORLD_RACKS 3u
#define WORLD_ROTTEN_MAX 256u
#define WORLD_SEEN_MAX 1024u
#define WORLD_CLIENTS 3u
#define WORLD_LOADS 2u /* clients that have a tree of their own; all share a file */
#define WORLD_HOSTS (1u + WORLD_TARGETS + WORLD_CLIENTS)
#define WORLD_META 0u
#define WORLD_TARGET(i) (1u + (i))
#define WORLD_CLIENT(i) (1u + WORLD_TARGETS + (i))
#define WORLD_MS UINT64_C(1000000)
#define WORLD_S UINT64_C(1000000000)
#define WORLD_LEASE_MS 1000u
#define WORLD_CHUNK_BYTES (64u << 10)

struct world;
struct world_node;
struct watch;

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
    char name[24], text[12];    /* text: the index, an argument of the worker */
    char machine[16], rack[16]; /* labels of a target */
    struct disk_sim *disk;
    struct world_process *process; /* metadata server, worker or client; NULL: not running */
    struct world_process *master;  /* of a data node */
    bool formatted;                /* it was started once, with success */
    bool extents;                  /* a target whose chunks lie in containers: every other one */
    bool absent;                   /* a target that joins later */
    bool unused;                   /* or never: this world has fewer */
    uint32_t rest_ms; /* superseded space is used again so soon; 0: after a minute, hardly ever */
    bool forgets;     /* and keeps nothing of them in memory: half of those */
    bool disk_full, disk_trouble; /* now; ever: starting may fail, and writing */
    bool store_failed;            /* ever: what was never stable there may be found damaged */
    uint64_t starts;
    char damaged[64];       /* the checkpoint whose bits flipped last */
    unsigned sessions_lost; /* of a client: ended by the leader, with all that was not flushed */
    uint64_t unsteady_until_ns;    /* it stood still: what it thinks of itself may be old */
    struct loop_sim_event replace; /* a worker whose store has failed */
    const char *argv[4];
};
/* A file as the last look has found it. */
struct world_seen {
    uint64_t ino;
    bool failed; /* it could not be read */
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
    unsigned targets;                 /* that there are, or will be */
    uint32_t copies, other_copies;    /* of the first storage class; the second: 0: there is none */
    uint32_t domain;                  /* enum proto_failure_domain; 0: chosen */
    uint32_t need_permille;           /* how often a read of metadata is told to fetch first */
    bool racks;                       /* they lose power as a whole, now and then */
    struct watch *watch;              /* NULL: nobody looks */
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
    struct chunk_key rotten_key[WORLD_ROTTEN_MAX]; /* which, if it is known of all */
    unsigned rotten_count;
    bool rotten_unknown;
    struct world_seen seen[WORLD_SEEN_MAX];
    size_t seen_count;
    char failure[400]; /* what broke the rules; empty: nothing so far */
};

/* Four targets, one on each machine, with two to four copies. */
void world_init(struct world *w, uint64_t seed, bool verbose);
void world_init_with(struct world *w, uint64_t seed, const struct features *f, bool verbose);
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
void world_power_cut(struct world *w, unsigned node);   /* of its machine */
/* All that are there from the beginning. */
void world_start_all(struct world *w);
/* Targets that would be lost at the same time as this one, itself included: a bit for each node. */
uint32_t world_machine_of(const struct world *w, unsigned node);
uint32_t world_rack_of(const struct world *w, unsigned node);
/* These nodes lose what they have not synced. Have others all of it? If not, it is counted. */
void world_may_lose(struct world *w, uint32_t nodes);
/* Is one of these the last serving member of a chain, or are all that serve it among them? */
bool world_have_all_of_a_chain(const struct world *w, uint32_t nodes);
/* Something happens to the bytes that a node has stored. False: another has bad ones already. */
bool world_may_rot(struct world *w, unsigned node);
/* What is damaged may be so for good. */
bool world_may_lack_good_copies(const struct world *w);
/* Does everybody say that all chains have all copies, and all targets are up? `but`: this node is
 * not asked; WORLD_HOSTS: all are. */
bool world_is_healthy(struct world *w, unsigned but);
bool world_others_are_healthy(struct world *w, uint32_t but); /* a bit for each node */
/* Why not: what each target says of itself. */
void world_health(const struct world *w, char *to, size_t size);
