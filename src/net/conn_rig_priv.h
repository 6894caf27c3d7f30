/*
 * net/conn_rig_priv.h -- for tests only: two connected ends, one that serves by opcode and one that
 * makes random calls and knows what each answer must be. The same over simulation and sockets.
 */
#pragma once

#include "base/env.h"
#include "base/mem.h"
#include "base/rand.h"
#include "net/conn_priv.h"

#include <stdio.h>
#include <string.h>

#define RIG_CALLS 64u
#define RIG_HELD 300u
#define RIG_BODY_MAX (96u << 10)
#define RIG_DATA_MAX (600u << 10)

enum { RIG_ECHO = 1, RIG_LATER, RIG_HOLD, RIG_FAIL, RIG_FILE };

struct rig_end {
    struct net_conn_user user;
    struct env env;
    struct buf_pool *pool;
    struct net_conn *conn;
    struct net_conn_options opt;
    struct rand rand;
    unsigned closed, requests, cancelled, pushes;
    int closed_rc;
    char reason[120];
    bool free_when_closed, never_pauses, sees; /* sees: that `range` is in the page cache */
    struct net_conn_request *held[RIG_HELD];
    unsigned held_count, most_held, pins;
    uint64_t pool_bytes; /* 0: plenty */
    struct loop_timer later;
    struct net_conn_range range; /* what RIG_FILE answers */
};

/* Byte i of the data numbered `key`. */
static inline uint8_t rig_byte(uint64_t key, size_t i)
{
    uint64_t v = (key + i / 7 + 1) * 0x9e3779b97f4a7c15u;
    return (uint8_t)(v >> (8 * (i % 7)));
}
static inline void rig_fill(uint8_t *to, uint64_t key, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        to[i] = rig_byte(key, i);
    }
}
static inline bool rig_same(const uint8_t *at, uint64_t key, size_t len)
{
    size_t i = 0;
    for (; i < len && at[i] == rig_byte(key, i); i++) {
    }
    return i == len;
}

static inline void rig_echo(struct net_conn_request *r)
{
    struct net_conn_response resp = {.body = r->body, .body_len = r->body_len};
    if (r->data.len > 0) {
        resp.data[0] = r->data;
        resp.data_count = 1;
    }
    net_conn_respond(r, &resp);
}
static inline void rig_release(struct rig_end *e, unsigned index)
{
    struct net_conn_request *r = e->held[index];
    e->held[index] = e->held[--e->held_count];
    r->cancelled = NULL;
    rig_echo(r);
}
static inline void rig_release_all(struct rig_end *e)
{
    for (; e->held_count > 0; rig_release(e, e->held_count - 1)) {
    }
}
static inline void rig_later_fired(struct loop_timer *t)
{
    struct rig_end *e = container_of(t, struct rig_end, later);
    for (unsigned n = 0; n < 3 && e->held_count > 0; n++) {
        rig_release(e, (unsigned)rand_below(&e->rand, e->held_count));
    }
    if (e->held_count > 0) {
        loop_timer_in(e->env.loop, t, rand_below(&e->rand, 3000000));
    }
}
static inline void rig_cancelled(struct net_conn_request *r)
{
    struct rig_end *e = r->context;
    CHECK(net_conn_request_gone(r));
    e->cancelled++;
}
static inline void rig_hold(struct rig_end *e, struct net_conn_request *r)
{
    CHECK(e->held_count < RIG_HELD);
    r->context = e;
    r->cancelled = rig_cancelled;
    e->held[e->held_count++] = r;
    e->most_held = e->held_count > e->most_held ? e->held_count : e->most_held;
}

struct net_conn_response_pin {
    struct rig_end *end;
};
static inline void rig_sent(struct net_conn_response_pin *pin, int rc)
{
    CHECK(rc <= 0);
    pin->end->pins--;
    mem_free(pin);
}
static inline void rig_answer_file(struct rig_end *e, struct net_conn_request *r)
{
    struct net_conn_response_pin *pin = mem_alloc(sizeof *pin);
    CHECK(pin != NULL);
    pin->end = e;
    e->pins++;
    e->range.seen_ns = e->sees ? loop_tick_ns(e->env.loop) : e->range.seen_ns;
    const struct net_conn_response resp = {
        .range = &e->range, .range_count = 1, .sent = rig_sent, .pin = pin};
    net_conn_respond(r, &resp);
}
static inline void rig_request(struct net_conn_user *u, struct net_conn_request *r)
{
    struct rig_end *e = container_of(u, struct rig_end, user);
    e->requests++;
    CHECK(r->data.len == 0 || ((uintptr_t)r->data.at & (BUF_ALIGN - 1)) == 0);
    switch (r->opcode) {
    case RIG_LATER:
        rig_hold(e, r);
        if (!loop_timer_active(&e->later)) {
            loop_timer_in(e->env.loop, &e->later, rand_below(&e->rand, 3000000));
        }
        break;
    case RIG_HOLD:
        rig_hold(e, r);
        break;
    case RIG_FAIL:
        net_conn_respond_rc(r, -ENOENT);
        break;
    case RIG_FILE:
        rig_answer_file(e, r);
        break;
    default:
        rig_echo(r);
    }
}
static inline void rig_push(struct net_conn_user *u, struct net_conn *c, uint16_t opcode,
                            const uint8_t *body, size_t len)
{
    struct rig_end *e = container_of(u, struct rig_end, user);
    (void)c;
    e->pushes += rig_same(body, opcode, len) ? 1 : 1000000;
}
static inline void rig_closed(struct net_conn_user *u, struct net_conn *c, int rc,
                              const char *reason)
{
    struct rig_end *e = container_of(u, struct rig_end, user);
    e->closed++;
    e->closed_rc = rc;
    (void)snprintf(e->reason, sizeof e->reason, "%s", reason);
    loop_timer_cancel(e->env.loop, &e->later);
    rig_release_all(e);
    if (e->free_when_closed) {
        e->conn = net_conn_free(c);
    }
}
static const struct net_conn_user_ops rig_ops = {
    .request = rig_request, .push = rig_push, .closed = rig_closed};

/* Within the process of `e->env.loop`. */
static inline void rig_end_start(struct rig_end *e, struct stream *s)
{
    const struct buf_pool_options pool = {
        .limit_bytes = e->pool_bytes == 0 ? 64u << 20 : e->pool_bytes, .max_size = 4u << 20};
    e->user.ops = &rig_ops;
    e->later.fire = rig_later_fired;
    e->pool = e->pool == NULL ? buf_pool_new(&pool) : e->pool;
    CHECK(e->pool != NULL);
    e->opt.env = &e->env;
    e->opt.user = &e->user;
    e->opt.pool = e->pool;
    int rc = net_conn_new(&e->opt, s, &e->conn);
    CHECK(rc == 0);
    if (e->never_pauses) {
        net_conn_never_pause(e->conn, e->pool);
    }
    net_conn_trust(e->conn);
}
static inline void rig_end_stop(struct rig_end *e)
{
    e->conn = net_conn_free(e->conn);
    loop_timer_cancel(e->env.loop, &e->later);
    rig_release_all(e);
    e->pool =
        e->pool != NULL && buf_pool_used_bytes(e->pool) == 0 ? buf_pool_free(e->pool) : e->pool;
}
