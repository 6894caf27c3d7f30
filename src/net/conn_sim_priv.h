/* net/conn_sim_priv.h -- for tests only: a client and a server on two simulated hosts, the server
 * with a simulated disk. */
#pragma once

#include "disk/sim.h"
#include "loop/sim.h"
#include "net/conn_rig_priv.h"
#include "net/sim.h"

#define SECOND UINT64_C(1000000000)

/* Two processes on two simulated hosts with one connection between them. */
struct sim_rig {
    struct loop_sim *sim;
    struct net_sim *world;
    struct rig_end client, server;
    struct loop *loops[2];
    struct net_listener *listener;
    struct net_listener_user accept;
    struct net_connect connect;
    int connect_rc;
    bool connected;
    struct rand rand;
    size_t window_bytes;
    struct disk_sim *machine; /* the server's disk */
};

static inline void rig_accepted(struct net_listener_user *u, struct stream *s)
{
    struct sim_rig *r = container_of(u, struct sim_rig, accept);
    rig_end_start(&r->server, s);
}
static inline void rig_connected(struct net_connect *c, int rc, struct stream *s)
{
    struct sim_rig *r = container_of(c, struct sim_rig, connect);
    r->connected = true;
    r->connect_rc = rc;
    if (rc == 0) {
        rig_end_start(&r->client, s);
    }
}
static inline void server_setup(void *ctx)
{
    struct sim_rig *r = ctx;
    struct net_address at;
    r->accept.accepted = rig_accepted;
    CHECK(net_address_parse("host1:9400", 0, &at, NULL) == 0);
    CHECK(net_listen(r->server.env.net, &at, &r->accept, &r->listener) == 0);
}
static inline void client_setup(void *ctx)
{
    struct sim_rig *r = ctx;
    r->connect.done = rig_connected;
    CHECK(net_address_parse("host1", 9400, &r->connect.to, NULL) == 0);
    net_connect(r->client.env.net, &r->connect);
}
static inline bool rig_is_up(void *ctx)
{
    struct sim_rig *r = ctx;
    return r->connected && (r->connect_rc < 0 || r->server.conn != NULL);
}

static inline void sim_rig_processes(struct sim_rig *r, uint64_t seed)
{
    rand_seed(&r->rand, seed);
    r->client.rand = rand_fork(&r->rand);
    r->server.rand = rand_fork(&r->rand);
    r->sim = loop_sim_new(seed);
    CHECK(r->sim != NULL);
    const struct net_sim_options opt = {.sim = r->sim, .window_bytes = r->window_bytes};
    r->world = net_sim_new(&opt);
    CHECK(r->world != NULL);
    CHECK(loop_sim_process(r->sim, "client", 0, &r->loops[0]) == 0);
    CHECK(loop_sim_process(r->sim, "server", 1, &r->loops[1]) == 0);
    r->client.env.loop = r->loops[0];
    r->server.env.loop = r->loops[1];
    CHECK(net_sim_open(r->world, 0, r->loops[0], &r->client.env.net) == 0);
    CHECK(net_sim_open(r->world, 1, r->loops[1], &r->server.env.net) == 0);
    const struct disk_sim_options disk = {.sim = r->sim};
    r->machine = disk_sim_new(&disk);
    CHECK(r->machine != NULL);
    CHECK(disk_sim_open(r->machine, r->loops[1], &r->server.env.disk) == 0);
}
static inline void sim_rig_connect(struct sim_rig *r)
{
    loop_sim_enter(r->loops[1], server_setup, r);
    loop_sim_enter(r->loops[0], client_setup, r);
    CHECK(loop_sim_run(r->sim, rig_is_up, r, loop_sim_now_ns(r->sim) + 10 * SECOND));
    CHECK(r->connect_rc == 0);
}
static inline void sim_rig_start(struct sim_rig *r, uint64_t seed)
{
    sim_rig_processes(r, seed);
    sim_rig_connect(r);
}

static inline void end_stop(void *ctx)
{
    rig_end_stop(ctx);
}
static inline void listener_stop(void *ctx)
{
    struct sim_rig *r = ctx;
    r->listener = net_listener_close(r->server.env.net, r->listener);
}
static inline bool never(void *ctx)
{
    (void)ctx;
    return false;
}
static inline void sim_rig_run(struct sim_rig *r, uint64_t ns)
{
    (void)loop_sim_run(r->sim, never, NULL, loop_sim_now_ns(r->sim) + ns);
}
/* Frees everything in order, so that what is left over shows. */
static inline void sim_rig_stop(struct sim_rig *r)
{
    loop_sim_enter(r->loops[0], end_stop, &r->client);
    loop_sim_enter(r->loops[1], end_stop, &r->server);
    sim_rig_run(r, SECOND); /* what has been deferred */
    loop_sim_enter(r->loops[0], end_stop, &r->client);
    loop_sim_enter(r->loops[1], end_stop, &r->server);
    CHECK(r->client.pool == NULL && r->server.pool == NULL); /* no buffer is out */
    CHECK(r->server.pins == 0);
    loop_sim_enter(r->loops[1], listener_stop, r);
    net_free(r->client.env.net);
    net_free(r->server.env.net);
    net_sim_free(r->world);
    disk_free(r->server.env.disk);
    disk_sim_free(r->machine);
    loop_sim_free(r->sim);
}
