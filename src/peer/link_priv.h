/* peer/link_priv.h -- what servers and clients share below the user. */
#pragma once

#include "base/env.h"
#include "base/log.h"
#include "base/stats.h"
#include "peer/link.h"

struct peer_dispatch_options {
    const struct env *env;
    struct peer_user *user;
    const struct peer_handler *handlers;
    size_t handler_count;
    size_t max_requests; /* unanswered, of all links together; beyond: -ERR_busy */
    struct stats *stats; /* may be NULL */
};
NODISCARD int peer_dispatch_new(const struct peer_dispatch_options *opt,
                                struct peer_dispatch **ret);
/* CHECKs that all requests were answered. */
struct peer_dispatch *peer_dispatch_free(struct peer_dispatch *d);
size_t peer_dispatch_open_requests(const struct peer_dispatch *d);
size_t
peer_dispatch_bytes(const struct peer_dispatch *d); /* of the unanswered and the spare, about */

void peer_link_begin(struct peer_link *l, struct peer_dispatch *d, struct net_conn *c);
/* The connection has ended: requests that are still to be answered lose their link. */
void peer_link_end(struct peer_link *l);
void peer_link_request(struct peer_link *l, struct net_conn_request *wire);
void peer_link_pushed(struct peer_link *l, uint16_t opcode, const uint8_t *body, size_t len);

/* Encoded bytes: in place when they are few, else allocated. */
#define PEER_BODY_BYTES 2048u
struct peer_body {
    uint8_t small[PEER_BODY_BYTES];
    uint8_t *large; /* owned, or NULL */
    uint8_t *at;
    size_t len;
};
NODISCARD int peer_body_encode(struct peer_body *b, const struct proto_type *t, const void *record);
void peer_body_fini(struct peer_body *b);

/* Answers a request that has no struct peer_request: failure with a text. */
void peer_wire_fail(struct net_conn_request *wire, int rc, const struct proto_failure *f);
