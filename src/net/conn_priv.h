/*
 * net/conn_priv.h -- the insides of a connection, shared by conn.c and the other conn_*.c.
 *
 * Ids: the low 12 bits are a slot of the caller's table, the rest a generation. Each request gets
 * exactly one response frame, also when it was cancelled or came too late, and the caller keeps the
 * slot until then: so a slot in use is a duplicate for the peer, and neither side needs a hash.
 *
 * Everything that calls the user runs between net_conn_enter() and net_conn_leave(): the outermost
 * leave flushes what they have queued in one system call, and frees what was given up inside.
 */
#pragma once

#include "base/env.h"
#include "base/list.h"
#include "base/stats.h"
#include "net/conn.h"
#include "wire/frame.h"

#define CONN_SLOT_MASK (CONN_CALLS_MAX - 1)
#define CONN_IN_BYTES (64u << 10)
#define CONN_BODY_IN_PLACE (16u << 10) /* larger bodies are received into memory of their own */
#define CONN_BODY_INLINE 256u
#define CONN_BODY_SPARE (4u << 10)
#define CONN_BODIES_MAX (8u << 20) /* bytes of unanswered large bodies; then reading stops */
#define CONN_BLOCK_BYTES (32u << 10)
#define CONN_IOV 64u
#define CONN_RANGE_SMALL (32u << 10) /* read and gathered; larger ones by sendfile */
#define CONN_READ_ROUND (512u << 10) /* per round, then others get their turn */
#define CONN_WRITE_ROUND (512u << 10)
#define CONN_DEADLINE_CLASSES 32u
#define CONN_IDLE_REQUESTS 32u /* objects kept for the next ones */

enum conn_state { CONN_OPEN, CONN_DRAINING, CONN_CLOSED };
enum conn_stage { CONN_HEADER, CONN_BODY, CONN_DATA, CONN_SKIP };

enum conn_piece_kind {
    CONN_BYTES, /* in a block of ours */
    CONN_SLICE, /* a buffer, lent memory, or `owned` */
    CONN_FILE,  /* a range that was not looked at yet */
    CONN_FILE_CACHED,
    CONN_FILE_COLD,
    CONN_END, /* all before has left */
};
struct conn_piece {
    enum conn_piece_kind kind;
    uint32_t call_id; /* slices and ends of calls */
    size_t len;
    union {
        struct {
            const uint8_t *at;
            struct buf *buf;
            void *owned;
        } bytes;
        struct {
            struct disk_file *file;
            uint64_t offset, seen_ns;
        } range;
        struct {
            void (*sent)(struct net_conn_response_pin *pin, int rc);
            struct net_conn_response_pin *pin;
            bool of_call;
        } end;
    } u;
};

struct conn_block {
    struct conn_block *next;
    size_t size, len, sent;
    uint8_t bytes[];
};

struct conn_slot {
    struct net_conn_call *call; /* NULL while in use: nobody waits for the answer any more */
    uint32_t id, next_free;
    bool in_use, data_unsent;
};

/* A request of the peer. */
struct conn_incoming {
    struct net_conn_request pub;
    uint32_t id;
    int gone; /* 0, or why nobody wants the answer */
    struct list deadline;
    struct list all; /* in one of the connection's three lists */
    uint8_t *large;  /* body with memory of its own */
    uint8_t *spare;  /* kept for the next body above CONN_BODY_INLINE */
    uint8_t small[CONN_BODY_INLINE];
};

struct conn_counters {
    struct stats_counter requests, responses, calls, late, pushes, received_bytes, sent_bytes;
    struct stats_counter reads, writes, files_cached, files_cold, pauses;
};

struct net_conn {
    const struct env *env;
    struct loop *loop;
    struct net_conn_user *user;
    struct buf_pool *pool;
    struct stats *stats;
    struct net_conn_options opt; /* defaults filled in */
    struct net_conn_share *share, own_share;
    struct stream *stream; /* NULL: closed */
    struct stream_user events;
    enum conn_state state;
    bool trusted, freed, reported, within_host;
    unsigned depth;
    int rc;
    char reason[120];
    char peer[NET_ADDRESS_SIZE];
    struct loop_task flush_task, receive_task, finish_task;
    struct loop_timer keepalive, deadline_timer, drain_limit, disk_retry;
    struct conn_counters counters;

    /* receiving */
    uint8_t *in;
    size_t in_at, in_len;
    enum conn_stage stage;
    struct wire_frame frame;
    uint8_t *large; /* body being received into its own memory */
    size_t large_got;
    struct buf *data;
    size_t data_got, data_left; /* data_left: to skip */
    size_t data_in_place;       /* data bytes behind the body in `in`, already copied */
    size_t bulk_want;           /* header and body expected before data; 0: read what is there */
    bool readable, hangup, paused, heard, never_pauses, refused; /* the last: the present request */
    unsigned silent;
    uint64_t stalled_ms; /* nothing has for so long */
    struct buf_waiter buf_waiter;
    /* sending */
    struct conn_piece *piece;
    size_t piece_mask, piece_head, piece_tail;
    struct conn_block *block_first, *block_last;
    size_t queued_bytes;
    bool writable, sending_file, moved; /* the last: something has left since the last look */
    struct disk_req disk_send;
    struct list rooms;
    /* our calls */
    struct conn_slot *slot;
    uint32_t slot_count, slot_free, calls_active;
    struct list failed; /* calls whose `done` is due */
    /* the peer's requests */
    struct conn_incoming **incoming;
    uint32_t incoming_count, requests_open;
    size_t bodies_bytes, idle_count;
    struct list requests, gone_requests, idle_requests;
    /* by log2 of the timeout, each sorted: in the common case an insertion is an append */
    struct list call_deadlines[CONN_DEADLINE_CLASSES];
    struct list request_deadlines[CONN_DEADLINE_CLASSES];
    uint64_t timer_ns;
};

/* conn.c */
void net_conn_enter(struct net_conn *c);
void net_conn_leave(struct net_conn *c);
void net_conn_fail(struct net_conn *c, int rc, const char *reason);
void net_conn_finish_later(struct net_conn *c);
void net_conn_destroy_if_idle(struct net_conn *c);
void net_conn_close_stream(struct net_conn *c);
/* Sorted into the class of its timeout; arms the timer. */
void net_conn_deadline_add(struct net_conn *c, bool request, struct list *node, uint64_t ms);

/* conn_send.c */
NODISCARD int net_conn_put_frame(struct net_conn *c, struct wire_frame *f, const void *body);
NODISCARD int net_conn_put_slice(struct net_conn *c, const struct slice *s, uint32_t call_id);
NODISCARD int net_conn_put_range(struct net_conn *c, const struct net_conn_range *r);
NODISCARD int net_conn_put_end(struct net_conn *c, const struct conn_piece *end);
void net_conn_detach_call_data(struct net_conn *c, uint32_t call_id);
void net_conn_flush(struct net_conn *c);
void net_conn_flush_soon(struct net_conn *c);
void net_conn_drop_queue(struct net_conn *c); /* tells the pins */
void net_conn_wake_rooms(struct net_conn *c);
void net_conn_send_idle(struct net_conn *c); /* gives memory back that nothing is in */
void net_conn_send_fini(struct net_conn *c);
static inline bool net_conn_queue_empty(const struct net_conn *c)
{
    return c->piece_head == c->piece_tail;
}

/* conn_receive.c */
void net_conn_receive(struct net_conn *c);
void net_conn_receive_soon(struct net_conn *c); /* what had stopped reading may be over */
void net_conn_receive_fini(struct net_conn *c);
void net_conn_buf_ready(struct buf_waiter *w);

/* conn_call.c */
void net_conn_call_answered(struct net_conn *c, const struct net_conn_reply *r);
void net_conn_call_expire(struct net_conn *c, struct net_conn_call *call);
void net_conn_call_sent(struct net_conn *c, uint32_t id);
bool net_conn_call_waits(const struct net_conn *c, uint32_t id);
void net_conn_calls_fail(struct net_conn *c); /* all of them, at the end */
void net_conn_calls_run_failed(struct net_conn *c);

/* conn_serve.c */
void net_conn_request_arrived(struct net_conn *c, const uint8_t *body);
void net_conn_request_cancel(struct net_conn *c, uint32_t id);
void net_conn_incoming_gone(struct conn_incoming *in, int why);
void net_conn_requests_gone(struct net_conn *c);
void net_conn_refuse(struct net_conn *c, uint32_t id, uint64_t trace, int rc);
void net_conn_serve_fini(struct net_conn *c);
