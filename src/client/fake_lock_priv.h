/* client/fake_lock_priv.h -- for tests only: locks of fake_priv.h. The test says what is answered;
 * a question that is held back is answered later, or when it is asked again. */
#pragma once

#include "client/fake_query_priv.h"

static inline void fake_lock_answer(struct fake_cluster *c, struct peer_request *r)
{
    const struct proto_lock_reply m = {.trailer = fake_trailer,
                                       .outcome = (uint8_t)c->locks.outcome,
                                       .data_version = c->locks.data_version};
    peer_request_answer(r, &m, NULL);
}
static inline void fake_lock_gone(struct peer_request *r)
{
    struct fake_cluster *c = r->context;
    c->locks.held_back = NULL;
    c->locks.gone++;
    peer_request_fail(r, -ERR_busy, NULL);
}
static inline void fake_lock(struct peer_user *u, struct peer_request *r)
{
    struct fake_cluster *c = fake_of(u);
    c->locks.newest = *(const struct proto_lock_request *)r->body;
    c->locks.asked++;
    if (c->locks.newest.cancel) {
        const struct proto_lock_reply m = {
            .trailer = fake_trailer,
            .outcome = c->locks.granted_late ? PROTO_LOCK_GRANTED : PROTO_LOCK_INTERRUPTED};
        peer_request_answer(r, &m, NULL);
        return;
    }
    if (c->locks.late > 0) {
        c->locks.late--;
        peer_request_fail(r, -ERR_deadline, NULL);
        return;
    }
    if (!c->locks.hold) {
        fake_lock_answer(c, r);
        return;
    }
    if (c->locks.held_back != NULL) {
        c->locks.held_back->cancelled = NULL;
        peer_request_fail(c->locks.held_back, -ERR_busy, NULL);
    }
    c->locks.held_back = r;
    r->context = c;
    r->cancelled = fake_lock_gone;
}
static inline void fake_lock_let(void *ctx)
{
    struct fake_cluster *c = ctx;
    struct peer_request *r = c->locks.held_back;
    c->locks.hold = false;
    c->locks.held_back = NULL;
    if (r != NULL) {
        r->cancelled = NULL;
        fake_lock_answer(c, r);
    }
}
static inline void fake_lock_test(struct peer_user *u, struct peer_request *r)
{
    struct fake_cluster *c = fake_of(u);
    const struct proto_lock_test_request *q = r->body;
    struct proto_lock_test_reply m = c->locks.found;
    m.trailer = fake_trailer;
    m.session = m.session == 0 ? q->caller.session : m.session;
    peer_request_answer(r, &m, NULL);
}
