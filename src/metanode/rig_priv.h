/* metanode/rig_priv.h -- for tests only: a metadata server, raw clients and fake targets as
 * processes of one simulated world. The server runs on host 1 and machine 1, which has a disk;
 * clients and targets are peers of their own, with no logic but what is written here. */
#pragma once

#include "base/env.h"
#include "base/fault.h"
#include "base/rand.h"
#include "disk/sim.h"
#include "loop/sim.h"
#include "metanode/metanode_priv.h"
#include "net/sim.h"
#include "peer/client.h"

#include <stdio.h>
#include <stdlib.h>

#define RIG_SECOND UINT64_C(1000000000)
#define RIG_CLIENTS 3u
#define RIG_TARGETS 4u
#define RIG_ROWS 256u
#define RIG_SLOTS 8u

struct rig;

/* A chunk that a fake target says it has; in the order of their keys. */
struct rig_held {
    uint64_t data_id;
    uint32_t index, chain;
    uint32_t ver, digest; /* of listings of one chain */
    bool busy;
};

struct rig_client {
    struct rig *rig;
    struct peer_user user;
    struct env env;
    struct peer *peer;
    struct peer_call call, resume_call;
    struct proto_session_resume_request resume;
    unsigned resumes;
    const void *request;
    uint16_t opcode;
    uint32_t role, flags, timeout_ms; /* role 0: a client */
    bool done, unknown;
    int rc;
    struct mem_arena arena;
    uint8_t *bytes;
    void *reply; /* decoded, until the next call */
    struct uuid uuid, boot_id;
    uint64_t session, verifier, generation, sequence[RIG_SLOTS];
    uint32_t cred;
    bool opened;
    unsigned maps, recalls, shared; /* pushes and questions heard */
    int recall_rc;                  /* what it answers */
    unsigned queries;
    uint64_t written;                     /* what it says of the size of any file */
    uint64_t recalled_ino, left, flushes; /* what it has to flush; how much of it between recalls */
    unsigned invals, unlinks;             /* heard; of them, about a last name */
    uint32_t inval_bits, acks;            /* of the newest; what it answers to all */
    bool mute;                            /* or it does not answer at all */
    struct peer_request *muted;
    int64_t mtime_ns; /* that it hands over */
};

struct rig_target {
    struct rig *rig;
    struct peer_user user;
    struct env env;
    struct peer *peer;
    struct net_address at;
    char name[24];
    struct uuid uuid, boot_id;
    uint64_t incarnation;
    bool lossy, running, registered, leased, deaf, low_space;
    char refused[241]; /* why, when it last was, as it registered */
    bool blind;        /* it has no memory for the rows that heartbeats bring */
    const char *sick;  /* NULL: its disk is well */
    bool cut;          /* its heartbeats do not come any more */
    const char *rack;  /* NULL: none */
    bool part, silent; /* it has no whole copies; it does not say what it has */
    uint32_t id, suspect, damaged;
    uint64_t used;
    uint64_t heartbeat_ms, lease_ms, leased_until_ns;
    struct cluster_row row[RIG_ROWS];
    size_t row_count;
    /* R4: rows as this incarnation learned them first, and how many the one before had known. */
    struct cluster_row first[RIG_ROWS];
    size_t before;
    struct peer_call call;
    struct proto_register_request reg;
    struct proto_heartbeat_request beat;
    struct proto_chain_report report[RIG_ROWS];
    size_t report_count;
    struct loop_timer timer;
    uint64_t dead;      /* named in heartbeats; 0: none */
    unsigned forgotten; /* answers that name it */
    unsigned removes, remove_requests, refuse_removes, revokes, fences, stats, cuts;
    bool early; /* of a version that removes one data id at a time, and names what it has left */
    bool refuse_fences, refuse_stats;
    bool old; /* STAT of an older version: so many numbers a page */
    uint64_t removed[64];
    uint64_t fenced_session;
    uint32_t chunk_length; /* what `stat` says of chunks 0 and 1; 0: there are none */
    uint32_t cut_length[2];
    const struct rig_held *held;  /* what it names when it is asked; removed ones no more */
    size_t held_count, held_page; /* so many at a time; 0: 2 */
    unsigned inventories, busy_inventories; /* so often it is busy first */
    bool backwards;                         /* it names them in a wrong order */
};

struct rig {
    struct rand rand;
    struct loop_sim *sim;
    struct net_sim *net;
    struct disk_sim *disk;
    struct loop *loop; /* of the server */
    struct env env;
    struct fault *fault; /* of the server, in all its lives */
    struct peer_secrets secrets;
    struct uuid cluster;
    struct metanode *m;
    struct metanode_user user;
    struct metanode_options opt; /* set before rig_start() */
    struct metanode_stop stop;
    struct err err;
    int rc, ended_rc;
    unsigned serving, ended;
    char reason[320]; /* of its end */
    bool stopped;
    struct net_address address;
    struct rig_client client[RIG_CLIENTS];
    struct rig_target target[RIG_TARGETS];
    unsigned processes;
};

/* rig.c has no place in the library: all of it is here. */
static inline bool rig_never(void *ctx)
{
    (void)ctx;
    return false;
}
static inline void rig_run(struct rig *r, uint64_t ns)
{
    (void)loop_sim_run(r->sim, rig_never, NULL, loop_sim_now_ns(r->sim) + ns);
}
static inline bool rig_until(struct rig *r, bool (*done)(void *ctx), void *ctx)
{
    return loop_sim_run(r->sim, done, ctx, loop_sim_now_ns(r->sim) + 300 * RIG_SECOND);
}

/* Each test is run with both: OPENDFS_TEST_ENGINE=tree. */
static inline enum metanode_engine_kind rig_engine(void)
{
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody changes it */
    const char *name = getenv("OPENDFS_TEST_ENGINE");
    return name != NULL && strcmp(name, "tree") == 0 ? METANODE_ENGINE_TREE
                                                     : METANODE_ENGINE_MEMORY;
}

static inline void rig_new(struct rig *r, uint64_t seed)
{
    *r = (struct rig){.cluster = {{1, 2, 3}}};
    rand_seed(&r->rand, seed);
    r->sim = loop_sim_new(seed);
    CHECK(r->sim != NULL);
    const struct net_sim_options net = {.sim = r->sim};
    const struct disk_sim_options disk = {.sim = r->sim};
    r->fault = fault_new();
    CHECK(r->fault != NULL);
    r->net = net_sim_new(&net);
    r->disk = disk_sim_new(&disk);
    CHECK(r->net != NULL && r->disk != NULL);
    r->secrets.server.known = r->secrets.client.known = true;
    memset(r->secrets.server.bytes, 7, sizeof r->secrets.server.bytes);
    memset(r->secrets.client.bytes, 9, sizeof r->secrets.client.bytes);
    (void)snprintf(r->address.text, sizeof r->address.text, "host1:9400");
    r->opt = (struct metanode_options){.directory = "/meta",
                                       .engine = rig_engine(),
                                       .cluster_name = "demo \"2\"",
                                       .create = true,
                                       .lease_ms = 2000,
                                       .dark_wait_ms = 8000,
                                       .need_permille = 200,
                                       .busy_permille = 50,
                                       .strict = true};
    for (unsigned i = 0; i < RIG_CLIENTS; i++) {
        r->client[i].rig = r;
    }
    for (unsigned i = 0; i < RIG_TARGETS; i++) {
        r->target[i].rig = r;
    }
}
/* A process with its network; the disk only for the server. */
static inline void rig_process(struct rig *r, const char *name, unsigned host, struct env *env)
{
    *env = (struct env){0};
    CHECK(loop_sim_process(r->sim, name, host, &env->loop) == 0);
    CHECK(net_sim_open(r->net, host, env->loop, &env->net) == 0);
}
