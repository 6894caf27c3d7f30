/*
 * peer/link.h -- typed messages over one authenticated connection, the same on both of its sides:
 * calls, answers, pushes, and the table that says who handles what.
 *
 * Owner: the loop of the connection; nothing blocks. Records (struct proto_...) that a function is
 * given are lent for the call, except where said; records that a callback is given are lent for the
 * callback, those of a request until it is answered.
 */
#pragma once

#include "net/conn.h"
#include "proto/proto.h"

struct peer_dispatch;
struct peer_link;
struct peer_request;

/* Who uses a server or a client; embedded in the owner. */
struct peer_user {
    const struct peer_user_ops *ops;
};
struct peer_user_ops {
    /* Both sides have proven who they are. Before it nothing of this link is heard. */
    void (*up)(struct peer_user *u, struct peer_link *l);
    /* It has ended, l->conn is NULL and `l` is gone after the call. Its calls were answered and its
     * requests cancelled before. */
    void (*down)(struct peer_user *u, struct peer_link *l, int rc, const char *reason);
};
/* One row of the owner's table; constant memory. */
struct peer_handler {
    uint16_t opcode;
    uint32_t roles; /* of the sender; 0: those of proto's table */
    void (*request)(struct peer_user *u, struct peer_request *r); /* calls: answer exactly once */
    void (*push)(struct peer_user *u, struct peer_link *l, const void *body); /* one-way messages */
};

struct peer_link {
    struct net_conn *conn; /* for net_conn_full(), net_conn_peer() and the like */
    uint32_t role;         /* of the other side, PROTO_ROLE_... */
    uint16_t version;
    uint64_t features;
    uint64_t session, generation, number; /* as the side that connected named them */
    uint32_t slot;
    uint64_t up_ns, heard_ns; /* heard_ns: when its last request came */
    char name[64];            /* for logs */
    void *context;            /* the user's */
    /* private */
    struct peer_dispatch *dispatch;
    struct list requests;
};

/* A call that came in. Valid until answered, also when its link has ended. */
struct peer_request {
    struct net_conn_request *wire; /* data, deadline, trace */
    struct peer_link *link;        /* NULL: has ended */
    const struct proto_message *message;
    const void *body;       /* struct proto_<name>_request, decoded */
    struct mem_arena arena; /* of this request; the handler may use it too */
    void *context;          /* the handler's */
    /* The handler's, may be NULL: nobody waits any more (cancel, deadline, lost connection). It
     * still answers. */
    void (*cancelled)(struct peer_request *r);
    /* private */
    struct peer_dispatch *dispatch;
    const struct peer_handler *handler;
    uint64_t began_ns;
    struct list node, on_link;
};
/* Answers. `reply` is a struct proto_<name>_reply; `data` may be NULL, else its data fields count.
 */
void peer_request_answer(struct peer_request *r, const void *reply,
                         const struct net_conn_response *data);
/* Answers with an error; `f` may be NULL: then the text of the code goes out, and with -ERR_busy
 * that it may be tried again after PEER_BUSY_MS. */
#define PEER_BUSY_MS 50u
void peer_request_fail(struct peer_request *r, int rc, const struct proto_failure *f);

/* A call of ours: caller-owned. */
struct peer_reply {
    int rc;
    bool answered;                       /* `rc` is the peer's word */
    bool unknown;                        /* not answered, and it may have been executed */
    const void *body;                    /* rc 0: struct proto_<name>_reply */
    const struct proto_failure *failure; /* answered and rc < 0, else NULL */
    struct slice data;                   /* buf_ref(data.buf) to keep it */
};
#define PEER_FOREVER UINT32_MAX
struct peer_call {
    /* Exactly once, never from inside the call that starts it. The call may be used again then. */
    void (*done)(struct peer_call *c, const struct peer_reply *r);
    const void *request; /* struct proto_<name>_request, lent until done; encoded at each sending */
    uint16_t opcode;
    uint16_t slot;       /* client.h: which of its links */
    uint32_t flags;      /* client.h */
    uint32_t timeout_ms; /* 0: 30,000; with retries for all of them together. PEER_FOREVER: each
                            attempt has 30,000, their number is not bounded; client.h only */
    int give_back; /* client.h: this failure of class EAGAIN is told, not tried again; 0: none */
    uint64_t trace;
    struct net_conn_call
        wire; /* `data` and `data_count` are the caller's; sent_ns tells when it went */
    /* private */
    struct peer_link *link;
    void (*landed)(struct peer_call *c, const struct peer_reply *r);
    struct peer *peer;
    struct list node;
    struct loop_timer timer;
    struct loop_task task;
    uint64_t deadline_ns, wait_ms;
    int rc;
    unsigned state;
    bool maybe_done;
};
/* Once, on this link, no retry. A mutation (its record begins with an op) gets its CRC here. */
void peer_link_call(struct peer_link *l, struct peer_call *c);
/* -ERR_closed, -ERR_busy as net_conn_push(); errors of the encoder. */
NODISCARD int peer_link_push(struct peer_link *l, uint16_t opcode, const void *record);
/* At once; `down` comes later from the loop. */
void peer_link_close(struct peer_link *l, int rc, const char *reason);
void peer_link_to_text(const struct peer_link *l, struct text *out);
