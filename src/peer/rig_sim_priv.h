/* peer/rig_sim_priv.h -- for tests only: servers and a client as processes of a simulated world. */
#pragma once

#include "loop/sim.h"
#include "net/sim.h"
#include "peer/rig_client_priv.h"

#include <stdio.h>

#define SECOND UINT64_C(1000000000)
#define RIG_SERVERS 3u

/* Server i runs on host i + 1, the client on host 0. */
struct rig_world {
    struct loop_sim *sim;
    struct net_sim *net;
    struct rand rand;
    struct rig_server server[RIG_SERVERS];
    struct loop *server_loop[RIG_SERVERS];
    unsigned server_count;
    struct rig_client client;
    struct loop *client_loop;
};

static inline void rig_on(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
    loop_sim_enter(l, fn, ctx);
}
static inline bool rig_never(void *ctx)
{
    (void)ctx;
    return false;
}
static inline void rig_run(struct rig_world *w, uint64_t ns)
{
    (void)loop_sim_run(w->sim, rig_never, NULL, loop_sim_now_ns(w->sim) + ns);
}
static inline void rig_until(struct rig_world *w, bool (*done)(void *ctx), void *ctx)
{
    CHECK(loop_sim_run(w->sim, done, ctx, loop_sim_now_ns(w->sim) + 300 * SECOND));
}

static inline void rig_server_enter(void *ctx)
{
    rig_server_start(ctx);
}
static inline void rig_server_leave(void *ctx)
{
    rig_server_end(ctx);
}
static inline void rig_server_pool_leave(void *ctx)
{
    rig_server_pool_end(ctx);
}
static inline void rig_client_enter(void *ctx)
{
    rig_client_start(ctx);
}
static inline void rig_client_leave(void *ctx)
{
    rig_client_end(ctx);
}
static inline void rig_client_pool_leave(void *ctx)
{
    rig_client_pool_end(ctx);
}

/* A process for server i, new or instead of one that was killed. */
static inline void rig_server_process(struct rig_world *w, unsigned i)
{
    struct rig_server *s = &w->server[i];
    const struct rig_server fresh = {
        .opt = s->opt, .rand = rand_fork(&w->rand), .elsewhere = s->elsewhere, .term = s->term};
    *s = fresh;
    (void)snprintf(s->at.text, sizeof s->at.text, "host%u:9400", i + 1);
    CHECK(loop_sim_process(w->sim, "server", i + 1, &w->server_loop[i]) == 0);
    s->env.loop = w->server_loop[i];
    CHECK(net_sim_open(w->net, i + 1, s->env.loop, &s->env.net) == 0);
}
static inline void rig_open(struct rig_world *w, uint64_t seed, unsigned servers)
{
    CHECK(servers <= RIG_SERVERS);
    rand_seed(&w->rand, seed);
    w->sim = loop_sim_new(seed);
    CHECK(w->sim != NULL);
    const struct net_sim_options opt = {.sim = w->sim};
    w->net = net_sim_new(&opt);
    CHECK(w->net != NULL);
    w->server_count = servers;
    for (unsigned i = 0; i < servers; i++) {
        rig_server_process(w, i);
        w->client.addresses[i] = w->server[i].at;
    }
    w->client.opt.address_count = servers;
    CHECK(loop_sim_process(w->sim, "client", 0, &w->client_loop) == 0);
    w->client.env.loop = w->client_loop;
    CHECK(net_sim_open(w->net, 0, w->client_loop, &w->client.env.net) == 0);
}
static inline void rig_start(struct rig_world *w)
{
    for (unsigned i = 0; i < w->server_count; i++) {
        rig_on(w->server_loop[i], rig_server_enter, &w->server[i]);
    }
    rig_on(w->client_loop, rig_client_enter, &w->client);
}
/* Frees everything in order, so that what is left over shows. */
static inline void rig_close(struct rig_world *w)
{
    if (w->client.peer != NULL) {
        rig_on(w->client_loop, rig_client_leave, &w->client);
    }
    for (unsigned i = 0; i < w->server_count; i++) {
        if (w->server[i].server != NULL) {
            rig_on(w->server_loop[i], rig_server_leave, &w->server[i]);
        }
    }
    rig_run(w, SECOND); /* what was deferred */
    if (w->client.pool != NULL) {
        rig_on(w->client_loop, rig_client_pool_leave, &w->client);
        net_free(w->client.env.net);
    }
    for (unsigned i = 0; i < w->server_count; i++) {
        if (w->server[i].pool != NULL) {
            rig_on(w->server_loop[i], rig_server_pool_leave, &w->server[i]);
            net_free(w->server[i].env.net);
        }
    }
    net_sim_free(w->net);
    loop_sim_free(w->sim);
}

static inline bool rig_is_up(void *ctx)
{
    const struct rig_world *w = ctx;
    return w->client.peer != NULL && peer_link_of(w->client.peer, 0) != NULL;
}
static inline bool rig_call_is_done(void *ctx)
{
    return ((const struct rig_call *)ctx)->done > 0;
}
/* A ping of the client, to its end. */
struct rig_ping_start {
    struct rig_world *w;
    struct rig_call *c;
    uint64_t cookie;
};
static inline void rig_ping_enter(void *ctx)
{
    const struct rig_ping_start *s = ctx;
    rig_call_ping(s->c, &s->w->client, s->cookie);
}
static inline void rig_begin_ping(struct rig_world *w, struct rig_call *c, uint64_t cookie)
{
    struct rig_ping_start s = {.w = w, .c = c, .cookie = cookie};
    rig_on(w->client_loop, rig_ping_enter, &s);
}
static inline void rig_do_ping(struct rig_world *w, struct rig_call *c, uint64_t cookie)
{
    rig_begin_ping(w, c, cookie);
    rig_until(w, rig_call_is_done, c);
    CHECK(c->done == 1);
}
static inline void rig_cancel_enter(void *ctx)
{
    peer_call_cancel(ctx);
}
