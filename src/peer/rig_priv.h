/*
 * peer/rig_priv.h -- for tests only: a server that behaves as the cookie of a ping says, and a
 * client that checks what comes back. The same over simulation and sockets.
 */
#pragma once

#include "base/env.h"
#include "base/mem.h"
#include "base/rand.h"
#include "peer/client.h"
#include "peer/server.h"

#define RIG_HELD 512u
#define RIG_TEXT 200u

/* What a ping makes the server do; in the top byte of its cookie. */
enum rig_mode { RIG_ECHO, RIG_HOLD, RIG_LATER, RIG_BUSY, RIG_FAIL, RIG_ELSEWHERE };
static inline uint64_t rig_cookie(enum rig_mode mode, uint64_t key)
{
    return (uint64_t)mode << 56 | key;
}
static inline uint8_t rig_byte(uint64_t key, size_t i)
{
    return (uint8_t)(((key + i / 5 + 1) * 0x9e3779b97f4a7c15u) >> (8 * (i % 5)));
}
static inline bool rig_same(const struct slice *s, uint64_t key, size_t len)
{
    bool same = s->len == len;
    for (size_t i = 0; i < len && same; i++) {
        same = s->at[i] == rig_byte(key, i);
    }
    return same;
}
static inline struct buf *rig_data(struct buf_pool *pool, uint64_t key, size_t len)
{
    struct buf *b = buf_get(pool, len);
    CHECK(b != NULL);
    for (size_t i = 0; i < len; i++) {
        b->at[i] = rig_byte(key, i);
    }
    return b;
}

struct rig_server {
    struct peer_user user;
    struct env env;
    struct peer_server_options opt;
    struct peer_server *server;
    struct buf_pool *pool;
    struct rand rand;
    struct loop_timer later;
    struct net_address at, elsewhere; /* where it listens; whom it names */
    uint64_t term;
    uint32_t retry_ms; /* what busy says */
    unsigned ups, downs, pings, cancelled, busy_left, stopped, pushes, rmdirs;
    int down_rc;
    char down_reason[RIG_TEXT];
    struct peer_link *newest; /* that is up, or NULL */
    struct peer_request *held[RIG_HELD];
    unsigned held_count;
};

static inline void rig_secrets(struct peer_secrets *s)
{
    s->server.known = true;
    s->client.known = true;
    memset(s->server.bytes, 7, sizeof s->server.bytes);
    memset(s->client.bytes, 9, sizeof s->client.bytes);
}
static inline struct uuid rig_cluster(uint8_t n)
{
    struct uuid id = {{n}};
    return id;
}

static inline void rig_echo(struct peer_request *r)
{
    const struct proto_ping_request *q = r->body;
    const struct proto_ping_reply reply = {.cookie = q->cookie};
    r->cancelled = NULL;
    peer_request_answer(r, &reply, NULL);
}
static inline void rig_release(struct rig_server *s, unsigned i)
{
    struct peer_request *r = s->held[i];
    s->held[i] = s->held[--s->held_count];
    rig_echo(r);
}
static inline void rig_release_all(struct rig_server *s)
{
    while (s->held_count > 0) {
        rig_release(s, s->held_count - 1);
    }
}
static inline void rig_later_fired(struct loop_timer *t)
{
    struct rig_server *s = container_of(t, struct rig_server, later);
    for (unsigned n = 0; n < 3 && s->held_count > 0; n++) {
        rig_release(s, (unsigned)rand_below(&s->rand, s->held_count));
    }
    if (s->held_count > 0) {
        loop_timer_in(s->env.loop, t, rand_below(&s->rand, 3000000));
    }
}
static inline void rig_gone(struct peer_request *r)
{
    struct rig_server *s = r->context;
    s->cancelled++;
    for (unsigned i = 0; i < s->held_count; i++) {
        if (s->held[i] == r) {
            rig_release(s, i);
            return;
        }
    }
    CHECK(false);
}
static inline void rig_hold(struct rig_server *s, struct peer_request *r)
{
    CHECK(s->held_count < RIG_HELD);
    r->context = s;
    r->cancelled = rig_gone;
    s->held[s->held_count++] = r;
}
