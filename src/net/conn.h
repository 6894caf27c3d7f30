/*
 * net/conn.h -- requests and responses in frames (wire/frame.h) over one stream.
 *
 * Both sides may call, answer and push. Many requests in flight, answered in any order; deadlines
 * are relative in the frame and absolute here; cancel travels; bytes for the peer are gathered per
 * round into one system call. Bad frames close the connection with a reason. Owner: the loop of the
 * stream. Body bytes of the peer are lent for the callback (requests: until answered); data comes
 * in pooled aligned buffers and is kept by taking a reference.
 */
#pragma once

#include "base/buf.h"
#include "net/stream.h"

struct net_conn;
struct net_conn_reply;
struct net_conn_request;
struct net_conn_response_pin; /* the owner's: whatever must stay until data was sent */

#define CONN_SLICES 4u
#define CONN_RANGES 40u
#define CONN_CALLS_MAX 4096u     /* in flight per connection; beyond: -ERR_busy */
#define CONN_OPCODE_KEEPALIVE 0u /* of pushes: the connection's own, never seen by the user */

/* What the owner of a connection hears. */
struct net_conn_user {
    const struct net_conn_user_ops *ops;
};
struct net_conn_user_ops {
    /* A request: answer with net_conn_respond() now or later, exactly once. */
    void (*request)(struct net_conn_user *u, struct net_conn_request *r);
    void (*push)(struct net_conn_user *u, struct net_conn *c, uint16_t opcode, const uint8_t *body,
                 size_t len);
    /* Last call for this connection; all calls have been answered with -ERR_closed before. `rc` is
     * 0 after a shutdown that went well. Free it with net_conn_free, now or later. */
    void (*closed)(struct net_conn_user *u, struct net_conn *c, int rc, const char *reason);
};

/* What the connections of one owner hold together, and memory that goes to whoever needs it just
 * now: one that is idle has none. Counted references: a connection may outlive its owner. */
struct net_conn_share {
    size_t queued_bytes; /* to be sent */
    size_t body_bytes;   /* large bodies of unanswered requests */
    size_t memory_bytes; /* buffers that have to be there for both */
    /* private */
    size_t refs;
    void *spare_in, *spare_block;
};
NODISCARD struct net_conn_share *net_conn_share_new(void);             /* NULL: no memory */
struct net_conn_share *net_conn_share_unref(struct net_conn_share *s); /* NULL */

struct net_conn_options {
    const struct env *env;
    struct net_conn_user *user;
    struct buf_pool *pool; /* for incoming data; shared by the connections of a loop; its buffers
                              must reach FRAME_DATA_MAX. NULL: data is refused */
    struct stats *stats;   /* group to list counters in; may be NULL */
    unsigned max_requests; /* of the peer, unanswered; then reading stops. 0: 256 */
    size_t max_send_bytes; /* queued for the peer beyond which net_conn_full(). 0: 8 MiB */
    uint64_t keepalive_ms; /* silence after which the peer is asked; three times: dead. 0: 5,000 */
    uint64_t stall_ms;     /* so long the peer has taken none of what is queued for it: closed,
                              -ETIMEDOUT,     within a keepalive_ms. 0: 60,000 */
    struct net_conn_share *share; /* may be NULL */
    uint32_t first_body_max;      /* body limit until net_conn_trust() (before hello). 0: 4,096 */
};
/* Takes the stream over, also on failure. Any callback may call any function here, net_conn_free()
 * included. */
NODISCARD int net_conn_new(const struct net_conn_options *opt, struct stream *s,
                           struct net_conn **ret);
struct net_conn *net_conn_free(
    struct net_conn *c); /* closes at once if open, without `closed`; calls get -ERR_closed first */
DEFINE_FREEP(net_conn)
bool net_conn_is_open(
    const struct net_conn *c); /* false: calls on it fail, `closed` is on its way */
void net_conn_trust(
    struct net_conn *c); /* the peer has said a valid hello: full limits, data allowed */
/* Its data goes into buffers of `pool` from now on; before net_conn_trust(). The peer is not held
 * up: a request that is too much, or whose data finds no buffer, is answered with -ERR_busy, so
 * that pushes and answers behind it are heard. For peers that wait for each other in circles. */
void net_conn_never_pause(struct net_conn *c, struct buf_pool *pool);
void net_conn_close(struct net_conn *c, int rc,
                    const char *reason); /* at once; `closed` comes later from the loop */
/* No new requests are taken (they get -ERR_shutting_down); closes when those in progress are
 * answered and sent, at the latest after `limit_ms`. */
void net_conn_shutdown(struct net_conn *c, uint64_t limit_ms);
size_t net_conn_queued(const struct net_conn *c); /* bytes that have not left */
bool net_conn_full(const struct net_conn *c); /* more is queued than max_send_bytes: hold back; see
                                                 net_conn_wait_room */
void net_conn_peer(const struct net_conn *c, char *out, size_t size);
bool net_conn_within_host(const struct net_conn *c); /* both ends have one IP address */

/* One waiter for room in the send queue; called once, in FIFO order; also when the connection ends
 * (then calls say -ERR_closed), not when it is freed. */
struct net_conn_room {
    void (*room)(struct net_conn_room *w);
    struct list node;
    bool queued;
};
void net_conn_wait_room(struct net_conn *c, struct net_conn_room *w);
void net_conn_unwait_room(struct net_conn *c, struct net_conn_room *w);

/* A call: caller-owned. `done` exactly once, never from inside net_conn_call. The body is copied by
 * net_conn_call; data slices are lent and referenced until done. */
struct net_conn_call {
    void (*done)(struct net_conn_call *c, const struct net_conn_reply *r);
    const void *body;
    size_t body_len;
    struct slice data[CONN_SLICES];
    unsigned data_count;
    uint16_t opcode;
    uint32_t timeout_ms; /* 0: 30,000 */
    uint64_t trace;
    /* the connection's */
    struct net_conn *conn;
    uint32_t id;
    struct list node;
    uint64_t deadline_ns, sent_ns;
    unsigned state;
};
struct net_conn_reply {
    int rc; /* 0 or negative: of the peer, or -ERR_closed, -ERR_deadline, -ERR_cancelled, -ERR_busy
               of ours */
    bool answered; /* the peer answered (rc is the peer's verdict); false: whether it was executed
                      is unknown, except for -ERR_busy */
    const uint8_t *body; /* lent for the call */
    size_t body_len;
    struct slice data; /* lent: buf_ref(data.buf) to keep it */
};
void net_conn_call(struct net_conn *c, struct net_conn_call *call);
void net_conn_call_cancel(struct net_conn_call *call); /* `done` with -ERR_cancelled comes later,
                                                          unless an answer is there */

/* A request of the peer: the connection's memory, valid until net_conn_respond(). Survives the
 * connection's end. */
struct net_conn_request {
    struct net_conn *conn; /* stays valid until answered, open or not */
    uint16_t opcode;
    uint64_t trace, deadline_ns, received_ns;
    const uint8_t *body;
    size_t body_len;
    struct slice data;                             /* the request's reference */
    void *context;                                 /* the handler's */
    void (*cancelled)(struct net_conn_request *r); /* the handler's, may be NULL: cancel, deadline
                                                  or lost connection; it still answers */
};
/* A range of a file to send as data. */
struct net_conn_range {
    struct disk_file *file; /* NULL: zeros */
    uint64_t offset, len;
    uint64_t seen_ns; /* loop_tick_ns() of when all of it was in the page cache: what is sent in the
                         same round is not looked at again. 0: not known */
};
struct net_conn_response {
    int rc;
    const void *body; /* copied */
    size_t body_len;
    struct slice data[CONN_SLICES]; /* referenced until sent */
    unsigned data_count;
    const struct net_conn_range
        *range; /* copied; sent after the slices, by sendfile if resident, else through the disk */
    unsigned range_count;
    void (*sent)(struct net_conn_response_pin *pin,
                 int rc); /* may be NULL: data has left or the connection ended */
    struct net_conn_response_pin *pin;
};
void net_conn_respond(struct net_conn_request *r, const struct net_conn_response *resp);
void net_conn_respond_rc(struct net_conn_request *r, int rc); /* without body */
bool net_conn_request_gone(
    const struct net_conn_request *r); /* connection closed or cancelled: the answer goes nowhere */

/* One-way message; copied. -ERR_closed, -ERR_busy when more than twice max_send_bytes are queued:
 * calls that fill the queue to its limit do not keep the messages that belong to them from going.
 */
NODISCARD int net_conn_push(struct net_conn *c, uint16_t opcode, uint64_t trace, const void *body,
                            size_t len);
