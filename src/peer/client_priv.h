/* peer/client_priv.h -- the parts of a client. */
#pragma once

#include "peer/client.h"
#include "peer/link_priv.h"

enum slot_state { SLOT_DOWN, SLOT_RESTING, SLOT_CONNECTING, SLOT_HELLO, SLOT_AUTH, SLOT_UP };
struct peer_slot {
    struct peer *peer;
    unsigned number;
    enum slot_state state;
    struct net_connect connect;
    struct net_conn *conn;
    struct net_conn_user user;
    struct net_conn_call shake; /* hello, auth */
    struct peer_link link;
    uint64_t link_number; /* of the newest attempt */
    uint64_t rest_ms;
    struct loop_timer rest;
    struct list queue, early; /* calls that wait for the link */
    struct net_conn_room room;
    uint8_t nonce[PEER_NONCE_BYTES];
    struct proto_hello_request hello;
};
struct peer_counters {
    struct stats_counter connects, redirects, failures, losses, calls, retries, unknown, refused;
};
struct peer {
    struct peer_options opt;
    struct loop *loop;
    struct net_address *addresses; /* owned copy */
    struct uuid cluster_id;
    size_t at;                /* address whose turn it is */
    struct net_address hint;  /* the leader, as somebody said; empty: none */
    struct net_address using; /* of the newest attempt of slot 0 */
    bool hinted;              /* `using` is a hint */
    unsigned hops;            /* redirects followed since the last rest */
    size_t failed, refused;   /* attempts since the last rest; of them: for good */
    uint64_t term;            /* newest in which somebody led */
    struct err trouble;
    int refusal;           /* all refuse us for good: why */
    struct stream *stream; /* for the first control link */
    bool started, gate_open, closing;
    size_t waiting; /* calls in queues and resting */
    struct list resting;
    struct list in_flight;
    struct peer_dispatch *dispatch;
    struct peer_counters counters;
    struct stats *stats;
    struct peer_slot slot[1 + PEER_BULK_MAX];
};

/* client_link.c: from an address to a link that is up. */
void peer_slot_init(struct peer *p, unsigned number);
void peer_slot_fini(struct peer_slot *s);
void peer_slot_connect(struct peer_slot *s);
/* Lets the link go and tries again (slot 0) or when it is wanted (bulk). */
void peer_slot_lose(struct peer_slot *s, int rc, const char *reason);
/* Somebody said who leads: the control link goes there. Empty: unknown. */
void peer_follow(struct peer *p, struct proto_bytes leader, uint64_t term);

/* client_call.c: queues. */
void peer_slot_pump(struct peer_slot *s);
void peer_calls_fail_waiting(struct peer *p, int rc);
void peer_calls_fail_linked(struct peer *p); /* the control link has ended */
void peer_calls_fini(struct peer *p);
