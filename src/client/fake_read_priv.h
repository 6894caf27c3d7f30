/* client/fake_read_priv.h -- for tests only: reads from the targets of fake_priv.h, which may be
 * slow, lie, or send what does not fit its checksums. */
#pragma once

#include "client/fake_stats_priv.h"

static inline void fake_row(struct fake_cluster *c, uint32_t chain, struct proto_member *members,
                            struct proto_row *ret)
{
    *ret = (struct proto_row){.chain = chain,
                              .epoch = c->chain[chain - 1].epoch,
                              .loss_gen = c->chain[chain - 1].loss_gen,
                              .members = {.at = members, .count = 2},
                              .class_id = 1};
    for (size_t i = 0; i < 2; i++) {
        bool serves = i < c->chain[chain - 1].serving;
        members[i] =
            (struct proto_member){.target = c->chain[chain - 1].order[i],
                                  .state = serves ? PROTO_MEMBER_SERVING : PROTO_MEMBER_OFFLINE};
    }
}
/* 0, or it was refused: epoch and capability. */
static inline bool fake_refused(struct fake_node *n, struct peer_request *r,
                                const struct proto_route *route, const struct proto_capability *cap)
{
    struct fake_cluster *c = n->cluster;
    struct proto_member members[2];
    struct proto_failure f = {0};
    if (route->chain == 0 || route->chain > FAKE_CHAINS) {
        peer_request_fail(r, -ERR_not_serving, NULL);
        return true;
    }
    if (route->epoch != c->chain[route->chain - 1].epoch) {
        bool older = route->epoch < c->chain[route->chain - 1].epoch;
        fake_row(c, route->chain, members, &f.row);
        peer_request_fail(r, older ? -ERR_stale_epoch : -ERR_ahead_epoch, &f);
        return true;
    }
    if (cap->key_id < n->key_min) {
        peer_request_fail(r, -ERR_capability_expired, NULL);
        return true;
    }
    return false;
}

/* What is wrong with it a client can see. */
static inline void fake_lie(struct fake_node *n, struct proto_read_reply *m, struct slice *data)
{
    m->offset += n->lie == FAKE_ELSEWHERE ? PROTO_CELL_BYTES : 0;
    m->crcs.count = n->lie == FAKE_NO_SUMS ? 0 : m->crcs.count;
    data->len -= n->lie == FAKE_SHORT ? 1 : 0;
}

static inline void fake_read_answer(struct fake_node *n, struct peer_request *r)
{
    const struct proto_read_request *q = r->body;
    const struct fake_chunk *k = fake_chunk(n->cluster, q->chunk, false);
    uint32_t length = k == NULL ? 0 : k->length, crcs[FAKE_CELLS];
    uint32_t from = (uint32_t)base_align_down(q->offset, PROTO_CELL_BYTES);
    uint32_t end = (uint32_t)base_min(base_align_up(q->offset + q->length, 4096), length);
    uint32_t len = end > from ? end - from : 0;
    struct proto_read_reply reply = {
        .route = q->route, .length = length, .offset = from, .crcs.at = crcs};
    if (len == 0) {
        peer_request_answer(r, &reply, NULL);
        return;
    }
    struct buf *b = buf_get(n->pool, len);
    CHECK(b != NULL);
    memcpy(b->at, k->bytes + from, len);
    for (uint32_t at = 0; at < len; at += PROTO_CELL_BYTES) {
        crcs[reply.crcs.count++] = crc32c(0, b->at + at, base_min(PROTO_CELL_BYTES, len - at));
    }
    b->at[len / 2] ^= n->corrupt ? 1 : 0;
    struct net_conn_response data = {.data = {{.buf = b, .at = b->at, .len = len}},
                                     .data_count = 1};
    fake_lie(n, &reply, &data.data[0]);
    peer_request_answer(r, &reply, &data);
    buf_unref(b);
}

static inline void fake_slow_fire(struct loop_timer *t)
{
    struct fake_slow *s = container_of(t, struct fake_slow, timer);
    struct peer_request *r = s->request;
    s->request = NULL;
    fake_read_answer(s->node, r);
}
static inline void fake_slow_gone(struct peer_request *r)
{
    struct fake_node *n = r->context;
    n->cancelled++;
}
static inline void fake_slow_begin(struct fake_node *n, struct peer_request *r)
{
    struct fake_slow *s = NULL;
    for (size_t i = 0; i < FAKE_SLOW; i++) {
        s = n->slow[i].request == NULL ? &n->slow[i] : s;
    }
    CHECK(s != NULL);
    s->node = n;
    s->request = r;
    s->timer.fire = fake_slow_fire;
    r->context = n;
    r->cancelled = fake_slow_gone;
    loop_timer_in(n->env.loop, &s->timer, n->slow_ns);
}
static inline void fake_slow_end(struct fake_node *n)
{
    for (size_t i = 0; i < FAKE_SLOW; i++) {
        if (n->slow[i].request != NULL) {
            loop_timer_cancel(n->env.loop, &n->slow[i].timer);
            fake_slow_fire(&n->slow[i].timer);
        }
    }
}

static inline void fake_read(struct peer_user *u, struct peer_request *r)
{
    struct fake_node *n = container_of(u, struct fake_node, user);
    const struct proto_read_request *q = r->body;
    bool check = (q->flags & PROTO_READ_CHECK) != 0;
    n->reads++;
    n->checks += check ? 1 : 0;
    n->streams += (q->flags & PROTO_READ_STREAM) != 0 ? 1 : 0;
    n->cluster->reads++;
    n->corrupt = n->corrupt && !(check && n->repairs);
    if (fake_refused(n, r, &q->route, &q->capability)) {
        return;
    }
    if (fake_fault_hits(&n->read_fault)) {
        peer_request_fail(r, n->read_fault.rc, NULL);
    } else if (n->slow_ns > 0) {
        fake_slow_begin(n, r);
    } else {
        fake_read_answer(n, r);
    }
}
