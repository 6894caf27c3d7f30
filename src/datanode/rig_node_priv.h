/*
 * datanode/rig_node_priv.h -- for tests only: the world of a master: a metadata server that notes
 * reports, lives of workers that only pretend, and how far it has got. See rig_master_priv.h.
 */
#pragma once

#include "datanode/master.h"

#include "base/env.h"
#include "base/mem.h"
#include "base/stats.h"
#include "datanode/rig_peer_priv.h"
#include "datanode/supervised.h"
#include "loop/sim.h"
#include "net/sim.h"
#include "peer/server.h"
#include "testing/testing.h"

#include <signal.h>
#include <stdio.h>

#define META_HOST 1u
#define DATA_HOST 2u
#define OTHER_HOST 3u
#define TARGETS 3u
#define LIVES 64u
#define REPORTS 64u
#define MS UINT64_C(1000000)

enum behaviour {
    SERVES,   /* says so, and takes connections */
    SILENT,   /* lives, and says nothing */
    STUBBORN, /* serves, and does not mind SIGTERM */
    FROZEN,   /* as STUBBORN, and stands still before it says anything */
    EXITS,    /* at once, with code 3 */
};
struct rig;
struct process {
    struct loop *loop;
    struct env env;
};
struct life { /* of a worker */
    struct rig *rig;
    struct process process;
    unsigned target;
    uint64_t began_ns;
    int fds[2];
    struct datanode_supervised_user user;
    struct datanode_supervised *supervised;
    struct net_listener_user acceptor;
    struct net_listener *listener;
    struct loop_signal term;
    unsigned accepted, terms, lost;
    uint32_t disk_failures; /* as the master told */
};
struct rig {
    struct loop_sim *world;
    struct net_sim *net;
    struct process meta, data, other;
    struct peer_user meta_user;
    struct peer_server *server;
    struct proto_exited_request report[REPORTS];
    uint64_t report_ns[REPORTS];
    unsigned report_count;
    struct loop_sim_program program;
    enum behaviour behaviour;
    struct life life[LIVES];
    unsigned life_count;
    struct datanode_master_user user;
    struct datanode_master *master;
    struct datanode_master_options opt;
    unsigned stops;
    int start_rc;
    struct err start_error;
    struct net_connect connect;
    struct stream *stream;
    struct datanode_master_info info;
    uint64_t limit_ms;
    unsigned asked;
    bool unsettled; /* workers never say that they are settled */
    struct datanode_master_target wanted[TARGETS];
    unsigned wanted_count;
    struct datanode_master_change change;
    struct datanode_master_legacy *legacy;
    unsigned port; /* of target.0, for a master that starts; 0: its own */
    bool any_port; /* whatever it is */
};

static const struct uuid cluster = {{1, 2, 3}};

RIG struct net_address address(unsigned host, unsigned port)
{
    struct net_address a = {0};
    snprintf(a.text, sizeof a.text, "host%u:%u", host, port);
    return a;
}

RIG bool never(void *ctx)
{
    (void)ctx;
    return false;
}
RIG void for_ms(struct rig *r, uint64_t ms)
{
    (void)loop_sim_run(r->world, never, NULL, loop_sim_now_ns(r->world) + ms * MS);
}
/* At most 200 s; then the test fails. */
#define UNTIL(r, condition)                                              \
    do {                                                                 \
        uint64_t until_ns = loop_sim_now_ns((r)->world) + 200000 * MS;   \
        while (!(condition) && loop_sim_now_ns((r)->world) < until_ns) { \
            CHECK_TRUE(loop_sim_step((r)->world));                       \
        }                                                                \
        CHECK_TRUE(condition);                                           \
    } while (0)

RIG void process_env(struct rig *r, struct process *p, unsigned host)
{
    p->env = (struct env){.loop = p->loop};
    CHECK_OK(net_sim_open(r->net, host, p->loop, &p->env.net));
}

/* ---- The metadata server ---- */

RIG void on_exited(struct peer_user *u, struct peer_request *q)
{
    struct rig *r = container_of(u, struct rig, meta_user);
    const struct proto_exited_reply answer = {};
    CHECK_TRUE(r->report_count < REPORTS);
    r->report_ns[r->report_count] = loop_sim_now_ns(r->world);
    r->report[r->report_count++] = *(const struct proto_exited_request *)q->body;
    peer_request_answer(q, &answer, NULL);
}
static const struct peer_handler meta_handlers[] = {
    {.opcode = PROTO_OP_exited, .request = on_exited}};

RIG void meta_inside(void *ctx)
{
    struct rig *r = ctx;
    process_env(r, &r->meta, META_HOST);
    r->meta_user.ops = &rig_nothing_ops;
    const struct peer_server_options opt = {.env = &r->meta.env,
                                            .user = &r->meta_user,
                                            .handlers = meta_handlers,
                                            .handler_count = ARRAY_COUNT(meta_handlers),
                                            .secrets = rig_secrets(),
                                            .cluster_id = cluster,
                                            .role = PROTO_ROLE_META,
                                            .name = "meta"};
    struct net_address at = address(META_HOST, 9400);
    CHECK_OK(peer_server_new(&opt, &r->server));
    CHECK_OK(peer_server_listen(r->server, &at, NULL));
}

RIG void start_meta(struct rig *r)
{
    CHECK_OK(loop_sim_process(r->world, "meta", META_HOST, &r->meta.loop));
    loop_sim_enter(r->meta.loop, meta_inside, r);
}
