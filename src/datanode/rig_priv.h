/*
 * datanode/rig_priv.h -- for tests only: workers on simulated machines, a metadata server that says
 * what the test wants, a client that asks what the test wants. One object, one thread.
 *
 * Hosts: 0 the metadata server, 1 to RIG_TARGETS the workers (target id = host), 9 the client.
 */
#pragma once

#include "base/crc32c.h"
#include "base/env.h"
#include "base/stats.h"
#include "chunk/chunk.h"
#include "cluster/capability.h"
#include "cluster/chain.h"
#include "datanode/rig_peer_priv.h"
#include "datanode/worker.h"
#include "disk/sim.h"
#include "loop/sim.h"
#include "net/sim.h"
#include "peer/client.h"
#include "peer/server.h"

#define RIG_TARGETS 4u
#define RIG_CHAINS 4u
#define RIG_SECOND UINT64_C(1000000000)
#define RIG_LEASE_MS UINT64_C(2000)
#define RIG_META 0u
#define RIG_CLIENT 9u
#define RIG_SESSION 77u
#define RIG_CELLS 1024u

struct rig;
struct rig_process {
    struct loop *loop;
    struct env env;
};
struct rig_row_room { /* memory of a row in a message */
    struct proto_member members[CLUSTER_MEMBERS_MAX];
    struct cluster_row_rest rest;
};
struct rig_target {
    struct rig *rig;
    struct rig_process process;
    struct datanode_worker_user user;
    struct datanode_worker *worker;
    bool alive, leased, deaf; /* deaf: it hears of no rows */
    struct peer_link *link;   /* at the metadata server */
    struct proto_register_request registered;
    unsigned registers, stops, fails;
    char sick[121]; /* as in the newest heartbeat */
    bool lossy;
    uint32_t known[RIG_CHAINS + 1];
    bool named[RIG_CHAINS + 1]; /* in its newest heartbeat */
    uint8_t report[RIG_CHAINS + 1];
    uint8_t held[RIG_CHAINS + 1]; /* enum proto_held */
    uint32_t synced[RIG_CHAINS + 1];
    uint32_t suspect;              /* named last */
    unsigned suspicions;           /* heartbeats that named somebody */
    size_t dead;                   /* data ids named by the newest heartbeat */
    uint64_t heard_ns, granted_ns; /* of the world: its newest heartbeat; one with a lease */
    bool stranger;                 /* a new leader: does not know it until it has registered */
    bool ignores;                  /* its leader does not answer reports, but has heard them */
    unsigned reports;              /* that came */
    unsigned found, repaired, no_copy, resynced, whole; /* items of them */
    int disk_error;
    struct proto_report_figures figures;              /* the newest */
    struct proto_chain_digest digest[RIG_CHAINS + 1]; /* the newest of each chain */
    unsigned digests;                                 /* that came */
    struct peer_user client_user;
    struct peer *client, *meta_client; /* the test's ways to it */
};
struct rig_options {
    uint64_t seed;
    unsigned targets;
    enum datanode_engine engine;
    unsigned small;                  /* this one has a capacity of small_bytes (ram) */
    uint64_t small_bytes, low_bytes; /* low_bytes 0: no low-water mark */
    uint64_t buffer_bytes;           /* 0: plenty */
    size_t max_updates, max_reads;
    uint64_t stream_bytes, max_read_bytes, cache_bytes;
    uint64_t scrub_ms; /* 0: as if nobody had said anything */
    uint64_t move_rate;
    uint64_t dead_keep_ms; /* not 0: its leader lets everything go that is named */
    struct datanode_health_limits health;
    struct fault *fault; /* points of the worker on host `faulty` */
    unsigned faulty;
};
struct rig {
    struct rig_options opt;
    struct loop_sim *world;
    struct net_sim *net;
    struct disk_sim *disk[RIG_TARGETS + 1];
    struct rig_process meta, client;
    struct peer_user meta_user;
    struct peer_server *server;
    struct rig_target target[RIG_TARGETS + 1];
    struct cluster_row row[RIG_CHAINS + 1];
    struct buf_pool *pool;
    uint64_t seq;
    uint8_t mac[CLUSTER_MAC_BYTES];
};

/* ---- Constants ---- */

RIG struct uuid rig_cluster(void)
{
    struct uuid u = {{1, 2, 3}};
    return u;
}
RIG uint64_t rig_ms(const struct rig *r) /* the leader's clock */
{
    return loop_wall_ns(r->meta.loop) / 1000000;
}
RIG struct net_address rig_address(unsigned host)
{
    struct net_address a;
    char text[NET_ADDRESS_SIZE];
    struct text t;
    text_init(&t, text, sizeof text);
    text_add(&t, "host%u:%u", host, 9000 + host);
    CHECK((net_address_parse(text, 0, &a, NULL)) == 0);
    return a;
}

/* ---- Processes ---- */

RIG void rig_in(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
    loop_sim_enter(l, fn, ctx);
}
struct rig_opening {
    struct rig *rig;
    struct rig_process *p;
    unsigned host;
};
RIG void rig_open_inside(void *ctx)
{
    const struct rig_opening *o = ctx;
    struct rig_process *p = o->p;
    p->env = (struct env){.loop = p->loop};
    CHECK((net_sim_open(o->rig->net, o->host, p->loop, &p->env.net)) == 0);
    if (o->host >= 1 && o->host <= RIG_TARGETS) {
        CHECK((disk_sim_open(o->rig->disk[o->host], p->loop, &p->env.disk)) == 0);
        p->env.fault = o->host == o->rig->opt.faulty ? o->rig->opt.fault : NULL;
        p->env.stats = stats_new(NULL, "");
        CHECK(p->env.stats != NULL);
    }
}
RIG void rig_process(struct rig *r, struct rig_process *p, unsigned host)
{
    struct rig_opening o = {.rig = r, .p = p, .host = host};
    CHECK((loop_sim_process(r->world, "p", host, &p->loop)) == 0);
    rig_in(p->loop, rig_open_inside, &o);
}

/* ---- Running ---- */

RIG void rig_for_ms(struct rig *r, uint64_t ms)
{
    uint64_t end = loop_sim_now_ns(r->world) + ms * 1000000;
    while (loop_sim_now_ns(r->world) < end && loop_sim_step(r->world)) {
    }
}
/* Until `done`, at most 60 s; then the test fails. */
#define RIG_UNTIL(r, condition)                                           \
    do {                                                                  \
        uint64_t rig_end = loop_sim_now_ns((r)->world) + 60 * RIG_SECOND; \
        while (!(condition) && loop_sim_now_ns((r)->world) < rig_end &&   \
               loop_sim_step((r)->world)) {                               \
        }                                                                 \
        CHECK(condition);                                                 \
    } while (0)

RIG struct datanode_worker_info rig_info(struct rig *r, unsigned host)
{
    struct datanode_worker_info info;
    datanode_worker_info(r->target[host].worker, &info);
    return info;
}
/* All living workers hold a lease and have told that they know the newest row of the chain. */
RIG bool rig_settled(struct rig *r, uint32_t chain)
{
    for (unsigned i = 1; i <= r->opt.targets; i++) {
        const struct rig_target *t = &r->target[i];
        bool member = cluster_row_find(&r->row[chain], i) < r->row[chain].count;
        if (t->alive && member && !t->deaf && t->known[chain] != r->row[chain].epoch) {
            return false;
        }
        if (t->alive && t->leased && rig_info(r, i).target == 0) {
            return false;
        }
    }
    return true;
}
