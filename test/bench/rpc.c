/*
 * bench/rpc.c -- small requests through the whole service: client and server of peer/ on two
 * threads, one connection over loopback TCP. Each request is encoded, sent, decoded, dispatched by
 * the table, given its deadline, answered, decoded again.
 *
 * rpc.pipelined keeps 32 in flight, rpc.single one; rpc.lookup is rpc.pipelined with a name in the
 * request and attributes in the reply. machine.echo_* are the same round trips without any of that,
 * measured by turns: see machine.h.
 */
#include "bench.h"
#include "machine.h"

#include "base/env.h"
#include "base/stats.h"
#include "loop/executor.h"
#include "peer/client.h"
#include "peer/server.h"

#include <stdio.h>

#define RPC_IN_FLIGHT 32u
#define RPC_ROUND_NS UINT64_C(1000000000)
#define RPC_WARM_NS UINT64_C(200000000)

struct rpc_side {
    struct peer_user user;
    struct env env;
};
struct rpc_call {
    struct peer_call call;
    struct rpc *rpc;
    struct proto_ping_request ping;
    struct proto_lookup_request lookup;
};
struct rpc {
    struct rpc_side server_side, client_side;
    struct peer_server *server;
    struct loop_thread *thread;
    struct peer *peer;
    struct rpc_call call[RPC_IN_FLIGHT];
    struct loop_timer timer;
    uint64_t answered;
    unsigned active;
    int rc;
    bool stopping;
};

/* --- The server ------------------------------------------------------------------------------- */

static void rpc_ping(struct peer_user *u, struct peer_request *r)
{
    (void)u;
    const struct proto_ping_request *q = r->body;
    const struct proto_ping_reply reply = {.cookie = q->cookie};
    peer_request_answer(r, &reply, NULL);
}
static void rpc_lookup(struct peer_user *u, struct peer_request *r)
{
    (void)u;
    const struct proto_lookup_request *q = r->body;
    const struct proto_lookup_reply reply = {.attr = {.ino = q->parent, .size = q->name.len}};
    peer_request_answer(r, &reply, NULL);
}
static void rpc_up(struct peer_user *u, struct peer_link *l)
{
    (void)u;
    (void)l;
}
static void rpc_down(struct peer_user *u, struct peer_link *l, int rc, const char *reason)
{
    (void)u;
    (void)l;
    (void)rc;
    (void)reason;
}
static const struct peer_user_ops rpc_ops = {.up = rpc_up, .down = rpc_down};
static const struct peer_handler rpc_handlers[] = {
    {.opcode = PROTO_OP_ping, .request = rpc_ping},
    {.opcode = PROTO_OP_lookup, .request = rpc_lookup},
};

static int rpc_side_open(struct rpc_side *s, const char *name)
{
    s->user.ops = &rpc_ops;
    s->env.stats = stats_new(NULL, name);
    int rc = s->env.stats == NULL ? -ENOMEM : 0;
    if (rc == 0) {
        rc = loop_new(&(struct loop_options){.name = name}, &s->env.loop, NULL);
    }
    if (rc == 0) {
        loop_set_polling(s->env.loop, LOOP_POLL_US); /* as metadata servers and clients do */
    }
    return rc == 0 ? net_socket_new(&s->env, &s->env.net) : rc;
}
static void rpc_side_close(struct rpc_side *s)
{
    net_free(s->env.net);
    loop_free(s->env.loop);
    stats_free(s->env.stats);
}

static void rpc_secrets(struct peer_secrets *s)
{
    *s = (struct peer_secrets){.server.known = true, .client.known = true};
}
static int rpc_server_start(struct rpc *x)
{
    struct peer_server_options opt = {.env = &x->server_side.env,
                                      .user = &x->server_side.user,
                                      .handlers = rpc_handlers,
                                      .handler_count = ARRAY_COUNT(rpc_handlers),
                                      .role = PROTO_ROLE_META,
                                      .name = "bench server"};
    rpc_secrets(&opt.secrets);
    int rc = peer_server_new(&opt, &x->server);
    const struct net_address at = {"127.0.0.1:0"};
    if (rc == 0) {
        rc = peer_server_listen(x->server, &at, NULL);
    }
    return rc == 0 ? loop_thread_start(x->server_side.env.loop, &x->thread) : rc;
}

/* --- The client ------------------------------------------------------------------------------- */

static void rpc_done(struct peer_call *pc, const struct peer_reply *r)
{
    struct rpc_call *c = container_of(pc, struct rpc_call, call);
    struct rpc *x = c->rpc;
    if (r->rc < 0) {
        x->rc = r->rc;
        x->stopping = true;
    }
    x->answered++;
    if (x->stopping) {
        x->active--;
        if (x->active == 0) {
            loop_stop(x->client_side.env.loop, 0);
        }
        return;
    }
    c->ping.cookie++;
    peer_call(x->peer, pc);
}
static void rpc_time_is_up(struct loop_timer *t)
{
    container_of(t, struct rpc, timer)->stopping = true;
}
/* Requests per second over about `ns`. */
static double rpc_measure(struct rpc *x, uint16_t opcode, unsigned in_flight, uint64_t ns)
{
    struct loop *loop = x->client_side.env.loop;
    x->stopping = false;
    x->answered = 0;
    x->active = in_flight;
    x->timer.fire = rpc_time_is_up;
    loop_timer_in(loop, &x->timer, ns);
    uint64_t began = loop_now_ns(loop);
    for (unsigned i = 0; i < in_flight; i++) {
        struct rpc_call *c = &x->call[i];
        c->rpc = x;
        c->lookup = (struct proto_lookup_request){.parent = i + 1,
                                                  .name = proto_bytes_text("some-file-name.txt")};
        c->call.opcode = opcode;
        c->call.done = rpc_done;
        c->call.request = opcode == PROTO_OP_ping ? (const void *)&c->ping : &c->lookup;
        peer_call(x->peer, &c->call);
    }
    (void)loop_run(loop);
    return (double)x->answered * 1e9 / (double)(loop_now_ns(loop) - began);
}
/* Adds a round to the figure, and one of the bare machine to `bare` if there is one. */
static void rpc_round(struct rpc *x, struct bench_figure *f, struct bench_figure *bare,
                      uint16_t opcode, unsigned in_flight)
{
    (void)rpc_measure(x, opcode, in_flight, RPC_WARM_NS);
    uint64_t cpu_ns = loop_process_cpu_ns(x->client_side.env.loop);
    double value = rpc_measure(x, opcode, in_flight, RPC_ROUND_NS);
    cpu_ns = loop_process_cpu_ns(x->client_side.env.loop) - cpu_ns;
    bench_add(f, value, (double)cpu_ns / 1e9);
    if (bare == NULL || x->rc < 0) {
        return;
    }
    cpu_ns = loop_process_cpu_ns(x->client_side.env.loop);
    x->rc = machine_echo(in_flight, (double)RPC_ROUND_NS / 1e9, &value);
    cpu_ns = loop_process_cpu_ns(x->client_side.env.loop) - cpu_ns;
    bench_add(bare, value, (double)cpu_ns / 1e9);
}
static int rpc_figures(struct rpc *x, unsigned rounds)
{
    struct bench_figure pipelined = {
        .bench = "rpc", .name = "rpc.pipelined", .unit = "1/s", .target = 400000};
    struct bench_figure single = {
        .bench = "rpc", .name = "rpc.single", .unit = "1/s", .target = 50000};
    struct bench_figure lookup = {.bench = "rpc", .name = "rpc.lookup", .unit = "1/s"};
    struct bench_figure echo_32 = {.bench = "rpc", .name = "machine.echo_32", .unit = "1/s"};
    struct bench_figure echo_1 = {.bench = "rpc", .name = "machine.echo_1", .unit = "1/s"};
    for (unsigned i = 0; i < rounds && x->rc == 0; i++) {
        rpc_round(x, &pipelined, &echo_32, PROTO_OP_ping, RPC_IN_FLIGHT);
        rpc_round(x, &single, &echo_1, PROTO_OP_ping, 1);
        rpc_round(x, &lookup, NULL, PROTO_OP_lookup, RPC_IN_FLIGHT);
    }
    if (x->rc == 0) {
        bench_print(&pipelined);
        bench_print(&single);
        bench_print(&lookup);
        bench_print(&echo_32);
        bench_print(&echo_1);
    }
    return x->rc;
}
static int rpc_run(struct rpc *x, unsigned rounds)
{
    int rc = rpc_side_open(&x->server_side, "server");
    if (rc == 0) {
        rc = rpc_side_open(&x->client_side, "client");
    }
    if (rc == 0) {
        rc = rpc_server_start(x);
    }
    if (rc < 0) {
        return rc;
    }
    struct net_address at;
    peer_server_address(x->server, &at);
    struct peer_options opt = {.env = &x->client_side.env,
                               .user = &x->client_side.user,
                               .role = PROTO_ROLE_CLIENT,
                               .name = "bench client",
                               .addresses = &at,
                               .address_count = 1};
    rpc_secrets(&opt.secrets);
    rc = peer_new(&opt, &x->peer);
    if (rc == 0) {
        peer_start(x->peer);
        rc = rpc_figures(x, rounds);
    }
    return rc;
}

int bench_rpc(unsigned rounds)
{
    struct rpc x = {.rc = 0};
    int rc = rpc_run(&x, rounds);
    peer_free(x.peer);
    if (x.thread != NULL) {
        loop_thread_stop(x.thread);
    }
    peer_server_free(x.server);
    rpc_side_close(&x.client_side);
    rpc_side_close(&x.server_side);
    if (rc < 0) {
        fprintf(stderr, "bench rpc: %s\n", err_text(rc));
    }
    return rc < 0 ? 1 : 0;
}
