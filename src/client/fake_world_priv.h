/* client/fake_world_priv.h -- for tests only: the fake cluster and a client in a simulated world.
 */
#pragma once

#include "client/client.h"
#include "client/core_priv.h"
#include "client/fake_serve_priv.h"
#include "loop/sim.h"
#include "net/sim.h"

#include <stdio.h>

#define SECOND UINT64_C(1000000000)
#define NODES (1u + FAKE_TARGETS)

struct world {
    struct loop_sim *sim;
    struct net_sim *net;
    struct fake_cluster *cluster;
    struct fake_node node[NODES]; /* the metadata server, the targets */
    struct loop *loop[NODES], *client_loop;
    unsigned client_host; /* node i is on i + 1 */
    struct env env;
    struct client_options opt;
    struct opendfs *fs;
    struct opendfs_op op; /* of the steps below */
    bool done;
};
static inline bool world_never(void *ctx)
{
    (void)ctx;
    return false;
}
static inline void world_run(struct world *w, uint64_t ns)
{
    (void)loop_sim_run(w->sim, world_never, NULL, loop_sim_now_ns(w->sim) + ns);
}
static inline void world_start_node(void *ctx)
{
    fake_start(ctx);
}
static inline void world_end_node(void *ctx)
{
    fake_end(ctx);
}
static inline void world_end_pool(void *ctx)
{
    fake_pool_end(ctx);
}
/* A process for a node, new or in place of a dead one. */
static inline void world_node(struct world *w, unsigned i)
{
    struct fake_node *n = &w->node[i];
    *n = (struct fake_node){.cluster = w->cluster, .target = i};
    (void)snprintf(n->at.text, sizeof n->at.text, "host%u:9400", i + 1);
    CHECK(loop_sim_process(w->sim, "node", i + 1, &w->loop[i]) == 0);
    n->env.loop = w->loop[i];
    CHECK(net_sim_open(w->net, i + 1, w->loop[i], &n->env.net) == 0);
    loop_sim_enter(w->loop[i], world_start_node, n);
}
static inline void world_kill(struct world *w, unsigned i)
{
    loop_sim_kill(w->loop[i]);
    w->node[i].server = NULL;
    w->node[i].pool = NULL;
    w->node[i].env.net = NULL;
}
static inline void world_new_client(void *ctx)
{
    struct world *w = ctx;
    CHECK(client_new(&w->opt, &w->fs) == 0);
}
static inline void world_open_at(struct world *w, uint64_t seed, unsigned client_host)
{
    memset(w, 0, sizeof *w);
    w->client_host = client_host;
    w->cluster = mem_zalloc(sizeof *w->cluster);
    CHECK(w->cluster != NULL);
    fake_cluster_init(w->cluster);
    w->sim = loop_sim_new(seed);
    CHECK(w->sim != NULL);
    const struct net_sim_options net = {.sim = w->sim};
    w->net = net_sim_new(&net);
    CHECK(w->net != NULL);
    for (unsigned i = 0; i < NODES; i++) {
        world_node(w, i);
        if (i > 0) {
            w->cluster->target[i - 1] = &w->node[i];
        }
    }
    CHECK(loop_sim_process(w->sim, "client", 0, &w->client_loop) == 0);
    w->env.loop = w->client_loop;
    CHECK(net_sim_open(w->net, w->client_host, w->client_loop, &w->env.net) == 0);
    w->opt = (struct client_options){.env = &w->env,
                                     .addresses = &w->node[0].at,
                                     .address_count = 1,
                                     .uid = 1000,
                                     .cache_bytes = CLIENT_CACHE_MIN};
    fake_secrets(&w->opt.secrets);
}
static inline void world_open(struct world *w, uint64_t seed)
{
    world_open_at(w, seed, 0);
}
static inline void world_start(struct world *w)
{
    loop_sim_enter(w->client_loop, world_new_client, w);
}
static inline void world_free_client(void *ctx)
{
    struct world *w = ctx;
    w->fs = client_free(w->fs);
}
static inline void world_free_net(void *ctx)
{
    struct env *e = ctx;
    e->net = net_free(e->net);
}
static inline void world_close(struct world *w)
{
    loop_sim_enter(w->client_loop, world_free_client, w);
    for (unsigned i = 0; i < NODES; i++) {
        if (w->node[i].server != NULL) {
            loop_sim_enter(w->loop[i], world_end_node, &w->node[i]);
        }
    }
    world_run(w, SECOND);
    loop_sim_enter(w->client_loop, world_free_net, &w->env);
    for (unsigned i = 0; i < NODES; i++) {
        if (w->node[i].pool != NULL) {
            loop_sim_enter(w->loop[i], world_end_pool, &w->node[i]);
            loop_sim_enter(w->loop[i], world_free_net, &w->node[i].env);
        }
    }
    net_sim_free(w->net);
    loop_sim_free(w->sim);
    mem_free(w->cluster);
}

/* --- one operation at a time ----------------------------------------------------------------- */

static inline void world_done(struct opendfs_op *op)
{
    ((struct world *)op->context)->done = true;
}
static inline void world_stopped(void *context)
{
    ((struct world *)context)->done = true;
}
static inline void world_stop_client(void *ctx)
{
    struct world *w = ctx;
    client_stop(w->fs, world_stopped, w);
}
static inline bool world_is_done(void *ctx)
{
    return ((struct world *)ctx)->done;
}
static inline struct opendfs_op *world_op(struct world *w)
{
    memset(&w->op, 0, sizeof w->op);
    w->op.done = world_done;
    w->op.context = w;
    w->done = false;
    return &w->op;
}
static inline int world_wait(struct world *w)
{
    CHECK(!w->done); /* never inside the start */
    CHECK(loop_sim_run(w->sim, world_is_done, w, loop_sim_now_ns(w->sim) + 600 * SECOND));
    return (int)w->op.result;
}
/* DO(&w, stat, "/x") is the result of opendfs_async_stat(). */
#define DO(w, name, ...) (opendfs_async_##name((w)->fs, world_op(w), ##__VA_ARGS__), world_wait(w))
static inline struct opendfs_file *world_file(struct world *w, const char *path, unsigned flags)
{
    int rc = DO(w, open, path, flags, 0644);
    CHECK(rc == 0);
    return w->op.file;
}
static inline void world_fill(uint8_t *to, size_t len, uint64_t key)
{
    for (size_t i = 0; i < len; i++) {
        to[i] = (uint8_t)((key + i / 3 + 1) * 0x9e3779b97f4a7c15u >> 13);
    }
}
