/* peer/server_priv.h -- the parts of a server. */
#pragma once

#include "base/dict.h"
#include "peer/link_priv.h"
#include "peer/server.h"

enum guest_state { GUEST_NEW, GUEST_AUTH, GUEST_UP, GUEST_LEAVING };
/* One accepted connection. */
struct peer_guest {
    struct net_conn_user user;
    struct peer_server *server;
    struct net_conn *conn;
    enum guest_state state;
    bool was_up;
    struct peer_link link;
    struct loop_timer hello_timer;
    struct list node;
    struct list stranger; /* until it is up */
    struct list by_sender;
    struct peer_seen *sender; /* NULL: it named no session */
    /* What was said and answered, for the proof of `auth`. */
    struct proto_hello_request hello;
    struct proto_hello_reply reply;
    uint8_t nonce[PEER_NONCE_BYTES], own_nonce[PEER_NONCE_BYTES];
};
struct peer_server_counters {
    struct stats_counter accepted, up, refused_full, refused_hello, refused_auth, refused_stale,
        refused_many, timeouts, replaced, pushed_out, no_descriptors;
    struct stats_gauge links;
};
struct peer_server {
    struct peer_server_options opt;
    struct loop *loop;
    struct net_listener_user listener_user;
    struct net_listener *listener;
    struct net_address address;
    struct list guests;
    struct list strangers; /* those that are not up, the oldest first */
    struct net_conn_share *share;
    uint64_t full_said_ns;
    size_t guest_count, up_count;
    struct peer_dispatch *dispatch;
    struct dict seen;
    struct list seen_order; /* least recently used first */
    uint64_t term;
    char leader[NET_ADDRESS_SIZE];
    bool is_leader, stopping;
    void (*stopped)(struct peer_user *u);
    struct loop_timer stop_timer;
    struct peer_server_counters counters;
    struct stats *stats;
};

/* server_hello.c: before a connection is a link. */
void peer_guest_request(struct net_conn_user *u, struct net_conn_request *r);
/* Answers and lets the connection go. */
void peer_guest_refuse(struct peer_guest *g, struct net_conn_request *r, int rc, const char *why);

/* server_seen.c: the newest generation and link number of each sender. */
void peer_seen_init(struct peer_server *s);
void peer_seen_fini(struct peer_server *s);
/* 0 and noted, or -ERR_stale_request: there was a newer one. */
NODISCARD int peer_seen_note(struct peer_server *s, const struct peer_link *l);
/* One more link of its sender; -ERR_busy: it has too many. Closes the links that it replaces. */
NODISCARD int peer_seen_join(struct peer_server *s, struct peer_guest *g);
void peer_seen_leave(struct peer_guest *g);
