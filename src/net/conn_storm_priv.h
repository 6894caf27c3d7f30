/* net/conn_storm_priv.h -- for tests only: a client that makes random calls and checks each answer.
 */
#pragma once

#include "net/conn_rig_priv.h"

struct storm_call {
    struct net_conn_call call;
    struct storm *storm;
    uint64_t key;
    uint8_t *body, *data;
    struct buf *buf;
    size_t data_len;
    bool busy;
};
struct storm {
    struct rig_end *client;
    struct storm_call calls[RIG_CALLS];
    unsigned started, limit, done, good, deadline, cancelled, lost, running;
    struct loop_timer tick;
    bool mild; /* no deadlines, cancels or resets: everything must succeed */
};

static inline void storm_check(struct storm_call *sc, const struct net_conn_reply *r)
{
    struct storm *s = sc->storm;
    if (r->rc == 0) {
        CHECK(r->answered);
        CHECK(r->body_len == sc->call.body_len);
        CHECK(rig_same(r->body, sc->key, r->body_len));
        CHECK(r->data.len == sc->data_len);
        CHECK(rig_same(r->data.at, sc->key + 5, r->data.len));
        s->good++;
    } else if (r->rc == -ENOENT) {
        CHECK(sc->call.opcode == RIG_FAIL);
        s->good++;
    } else {
        s->deadline += r->rc == -ERR_deadline;
        s->cancelled += r->rc == -ERR_cancelled;
        s->lost += r->rc == -ERR_closed;
        CHECK(r->rc == -ERR_deadline || r->rc == -ERR_cancelled || r->rc == -ERR_closed);
    }
}
static inline void storm_call_done(struct net_conn_call *c, const struct net_conn_reply *reply)
{
    struct storm_call *sc = container_of(c, struct storm_call, call);
    struct storm *s = sc->storm;
    CHECK(sc->busy);
    storm_check(sc, reply);
    /* Lent memory is the caller's again: nobody may look at it any more. */
    memset(sc->body, 0xdd, sc->call.body_len);
    if (sc->buf != NULL) {
        sc->buf = buf_unref(sc->buf);
    } else if (sc->data_len > 0) {
        memset(sc->data, 0xdd, sc->data_len);
    }
    mem_free(sc->body);
    mem_free(sc->data);
    sc->body = sc->data = NULL;
    sc->busy = false;
    s->done++;
    s->running--;
}
static inline size_t storm_size(struct rand *r, size_t max)
{
    uint64_t kind = rand_below(r, 100);
    return kind < 40 ? 0 : kind < 90 ? rand_below(r, 2000) : rand_below(r, max);
}
static inline void storm_start_one(struct storm *s, struct storm_call *sc)
{
    struct rand *r = &s->client->rand;
    size_t body_len = storm_size(r, RIG_BODY_MAX);
    sc->storm = s;
    sc->busy = true;
    sc->key = rand_u64(r);
    sc->data_len = storm_size(r, RIG_DATA_MAX);
    sc->body = mem_alloc(body_len + 1);
    CHECK(sc->body != NULL);
    rig_fill(sc->body, sc->key, body_len);
    uint16_t opcode = (uint16_t)(RIG_ECHO + rand_below(r, 2));
    opcode = rand_chance(r, 1, 30) ? RIG_FAIL : opcode;
    sc->call = (struct net_conn_call){.done = storm_call_done,
                                      .body = sc->body,
                                      .body_len = body_len,
                                      .opcode = opcode,
                                      .trace = s->started};
    if (!s->mild && rand_chance(r, 1, 10)) {
        sc->call.timeout_ms = (uint32_t)rand_range(r, 1, 20);
    }
    if (sc->data_len > 0) {
        bool pooled = rand_chance(r, 1, 2);
        sc->buf = pooled ? buf_get(s->client->pool, sc->data_len) : NULL;
        sc->data = sc->buf == NULL ? mem_alloc(sc->data_len) : NULL;
        uint8_t *at = sc->buf != NULL ? sc->buf->at : sc->data;
        rig_fill(at, sc->key + 5, sc->data_len);
        size_t cut = rand_below(r, sc->data_len + 1);
        sc->call.data[0] = (struct slice){.buf = sc->buf, .at = at, .len = cut};
        sc->call.data[1] =
            (struct slice){.buf = sc->buf, .at = at + cut, .len = sc->data_len - cut};
        sc->call.data_count = 2;
    }
    s->started++;
    s->running++;
    net_conn_call(s->client->conn, &sc->call);
}
static inline void storm_tick(struct loop_timer *t)
{
    struct storm *s = container_of(t, struct storm, tick);
    struct rand *r = &s->client->rand;
    for (unsigned i = 0; i < RIG_CALLS && s->client->closed == 0; i++) {
        struct storm_call *sc = &s->calls[i];
        if (!sc->busy && s->started < s->limit && rand_chance(r, 1, 2) &&
            !net_conn_full(s->client->conn)) {
            storm_start_one(s, sc);
        } else if (sc->busy && !s->mild && rand_chance(r, 1, 60)) {
            net_conn_call_cancel(&sc->call);
        }
    }
    if (s->client->closed == 0 && s->started < s->limit) {
        loop_timer_in(s->client->env.loop, t, rand_below(r, 4000000));
    }
}
static inline void storm_begin(void *ctx)
{
    struct storm *s = ctx;
    s->tick.fire = storm_tick;
    loop_timer_in(s->client->env.loop, &s->tick, 0);
}
static inline bool storm_over(void *ctx)
{
    struct storm *s = ctx;
    bool ended = s->started == s->limit || s->client->closed > 0;
    return ended && s->running == 0;
}
static inline void storm_end(void *ctx)
{
    struct storm *s = ctx;
    loop_timer_cancel(s->client->env.loop, &s->tick);
}
