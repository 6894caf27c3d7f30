/*
 * sim/world.h -- a whole cluster in one thread: a metadata server, targets and clients as simulated
 * processes on machines of their own, with a network between them and disks below.
 *
 * Hosts: 1 the metadata server, 2.. the targets, then the clients. All of it is determined by the
 * seed. Processes live in memory domains: killing one frees what it held, without destructors.
 */
#pragma once

#include "base/env.h"
#include "base/log.h"
#include "base/mem.h"
#include "datanode/worker.h"
#include "disk/sim.h"
#include "loop/sim.h"
#include "metanode/metanode.h"
#include "net/sim.h"
#include "opendfs/async.h"
#include "peer/auth.h"

#define WORLD_TARGETS 4u
#define WORLD_CLIENTS 2u
#define WORLD_HOSTS (1u + WORLD_TARGETS + WORLD_CLIENTS)
#define WORLD_META 0u
#define WORLD_TARGET(i) (1u + (i))
#define WORLD_CLIENT(i) (1u + WORLD_TARGETS + (i))
#define WORLD_MS UINT64_C(1000000)
#define WORLD_S UINT64_C(1000000000)
#define WORLD_LEASE_MS 1000u

struct world;

/* One machine with at most one process. */
struct world_node {
    struct world *w;
    unsigned index, host;
    char name[16];
    struct disk_sim *disk;
    /* of the running process; what they point to is in its memory domain */
    struct loop *loop; /* NULL: not running */
    struct env env;
    struct mem_budget budget;
    struct log_sink sink;
    struct metanode_user meta_user;
    struct datanode_worker_user worker_user;
    struct metanode *meta;
    struct datanode_worker *worker;
    struct opendfs *fs;
    bool formatted; /* it was started once, with success */
    int start_rc;
    uint64_t starts;
};
struct world {
    struct loop_sim *sim;
    struct net_sim *net;
    struct rand *rand;
    bool verbose;
    struct world_node node[WORLD_HOSTS];
    struct uuid cluster_id;
    struct peer_secrets secrets;
    struct net_address meta_address;
    uint32_t copies;
    uint64_t power_losses;    /* of targets, so far */
    uint64_t possible_losses; /* how often unsynced data could have been lost for good */
    char failure[400];        /* what broke the rules; empty: nothing so far */
};

void world_init(struct world *w, uint64_t seed, bool verbose);
void world_fini(struct world *w);
/* Runs until `done`, a failure, or the limit (world time): then that is the failure. */
void world_run(struct world *w, bool (*done)(void *context), void *context, uint64_t limit_ns,
               const char *what);
void world_fail(struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool world_failed(const struct world *w);
uint64_t world_now_ns(const struct world *w);
/* [from, to] */
uint64_t world_between(struct world *w, uint64_t from, uint64_t to);

void world_start(struct world *w, unsigned node);
bool world_is_running(const struct world *w, unsigned node);
void world_kill(struct world *w, unsigned node); /* SIGKILL */
void world_power_cut(struct world *w, unsigned node);
/* Does the leader say that all chains have all copies, and all targets are up? */
bool world_is_healthy(struct world *w);
