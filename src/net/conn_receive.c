/*
 * net/conn_receive.c -- from bytes to frames.
 *
 * Small frames are read many at a time into one buffer and parsed in place, also those with little
 * data, which is copied. A longer data part goes directly into a buffer of the pool: while such are
 * expected (the last frame had one), only as much is read as the next header and body need, and
 * each read of data takes the next header along. So what has to be copied is what came before the
 * parser knew.
 */
#include "net/conn_priv.h"

#include "base/crc32c.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define DATA_COPIED (8u << 10) /* what is not longer is copied: a call for each costs more */

static size_t available(const struct net_conn *c)
{
    return c->in_len - c->in_at;
}

/* Bytes of the body in the receive buffer once it is complete. */
static size_t body_in_place(const struct net_conn *c)
{
    return c->large != NULL ? 0 : c->frame.body_len;
}

static bool has_own_body(const struct net_conn *c)
{
    return c->frame.body_len > CONN_BODY_IN_PLACE;
}

static bool has_bulk(const struct net_conn *c)
{
    return c->frame.data_len > DATA_COPIED;
}

/* --- Back-pressure ------------------------------------------------------------------------------
 */

void net_conn_buf_ready(struct buf_waiter *w)
{
    struct net_conn *c = container_of(w, struct net_conn, buf_waiter);
    loop_defer(c->loop, &c->receive_task);
}

void net_conn_receive_soon(struct net_conn *c)
{
    if (c->paused && c->state != CONN_CLOSED) {
        loop_defer(c->loop, &c->receive_task);
    }
}

/* Before each new request. Answers are always read: they need nothing of the send queue, and two
 * ends that stopped reading them because their own queues are full would wait for each other. */
static bool must_pause(const struct net_conn *c)
{
    if (c->frame.kind != FRAME_REQUEST) {
        return false;
    }
    return c->requests_open >= c->opt.max_requests || net_conn_full(c) ||
           c->bodies_bytes > CONN_BODIES_MAX;
}

static void pause_reading(struct net_conn *c)
{
    if (!c->paused) {
        c->paused = true;
        stats_count(&c->counters.pauses, 1);
    }
}

/* --- Parsing: each step returns whether it got anywhere -----------------------------------------
 */

static void fail_frame(struct net_conn *c, int rc, const char *what)
{
    char reason[120];
    (void)snprintf(reason, sizeof reason, "bad frame: %s: %s", what, err_text(rc));
    net_conn_fail(c, rc, reason);
}

static bool frame_allowed(struct net_conn *c, const struct wire_frame *f)
{
    if (c->trusted) {
        return true;
    }
    if (f->data_len > 0) {
        fail_frame(c, -ERR_protocol, "data before hello");
        return false;
    }
    if (f->body_len > c->opt.first_body_max) {
        fail_frame(c, -ERR_bad_length, "body before hello");
        return false;
    }
    return true;
}

static bool parse_header(struct net_conn *c)
{
    if (available(c) < FRAME_BYTES) {
        return false;
    }
    int rc = wire_frame_decode(c->in + c->in_at, &c->frame);
    if (rc < 0) {
        fail_frame(c, rc, "header");
        return false;
    }
    bool much = must_pause(c);
    if (much && (!c->never_pauses || net_conn_full(c))) { /* a full queue empties by itself */
        pause_reading(c);
        return false;
    }
    c->refused = much;
    c->paused = false;
    if (!frame_allowed(c, &c->frame)) {
        return false;
    }
    c->in_at += FRAME_BYTES;
    c->stage = CONN_BODY;
    return true;
}

/* A large body gets memory of its own and what is there of it. */
static bool own_body_fill(struct net_conn *c)
{
    if (c->large == NULL) {
        c->large = mem_alloc(c->frame.body_len);
        c->large_got = 0;
        if (c->large == NULL) {
            net_conn_fail(c, -ENOMEM, "no memory for a body");
            return false;
        }
    }
    size_t n = base_min(available(c), c->frame.body_len - c->large_got);
    memcpy(c->large + c->large_got, c->in + c->in_at, n);
    c->large_got += n;
    c->in_at += n;
    return c->large_got == c->frame.body_len;
}

static const uint8_t *body_of(const struct net_conn *c)
{
    return c->large != NULL ? c->large : c->in + c->in_at;
}

static bool parse_body(struct net_conn *c)
{
    bool complete = has_own_body(c) ? own_body_fill(c) : available(c) >= c->frame.body_len;
    if (!complete) {
        return false;
    }
    uint32_t crc = c->frame.body_len > 0 ? crc32c(0, body_of(c), c->frame.body_len) : 0;
    if (crc != c->frame.body_crc) {
        fail_frame(c, -ERR_bad_crc, "body");
        return false;
    }
    c->bulk_want = has_bulk(c) ? FRAME_BYTES + base_min(c->frame.body_len, CONN_BODY_IN_PLACE) : 0;
    c->data_got = 0;
    c->data_in_place = 0;
    c->data_left = c->frame.data_len;
    bool unwanted = c->refused ||
                    (c->frame.kind == FRAME_RESPONSE && !net_conn_call_waits(c, c->frame.id)) ||
                    (c->frame.kind == FRAME_REQUEST && c->state == CONN_DRAINING);
    c->stage = unwanted ? CONN_SKIP : CONN_DATA;
    return true;
}

/* false: the pool has none; comes back when it has, or goes on without. */
static bool data_get(struct net_conn *c)
{
    if (c->pool == NULL) {
        fail_frame(c, -ERR_protocol, "data is not taken here");
        return false;
    }
    c->data = buf_get(c->pool, c->frame.data_len);
    if (c->data != NULL) {
        c->paused = false;
        buf_unwait(c->pool, &c->buf_waiter);
        return true;
    }
    if (buf_pool_used_bytes(c->pool) == 0) {
        net_conn_fail(c, -ENOMEM, "data part does not fit the buffer pool");
        return false;
    }
    if (c->never_pauses && c->frame.kind == FRAME_REQUEST) {
        c->refused = true;
        c->stage = CONN_SKIP;
        return false;
    }
    pause_reading(c);
    if (!c->buf_waiter.queued) {
        buf_wait(c->pool, &c->buf_waiter);
    }
    return false;
}

/* The piece of the data that came together with the header. */
static void data_copy_prefix(struct net_conn *c)
{
    size_t at = c->in_at + body_in_place(c);
    size_t n = base_min(c->in_len - at, c->frame.data_len);
    if (n > 0) {
        const struct slice s = {.at = c->in + at, .len = n};
        buf_copy(c->pool, c->data->at, &s);
    }
    c->data_got = n;
    if (n < c->frame.data_len) {
        c->in_len = at; /* the rest comes into the buffer itself */
    } else {
        c->data_in_place = n;
    }
}

static void dispatch(struct net_conn *c);

static bool parse_data(struct net_conn *c)
{
    if (c->frame.data_len > 0 && c->data == NULL) {
        if (!data_get(c)) {
            return c->stage == CONN_SKIP;
        }
        data_copy_prefix(c);
    }
    if (c->data_got < c->frame.data_len) {
        return false;
    }
    dispatch(c);
    return true;
}

/* Data that nobody waits for. It lies behind the body, which nobody needs either. */
static bool parse_skip(struct net_conn *c)
{
    size_t body = body_in_place(c);
    size_t n = base_min(available(c) - body, c->data_left);
    c->in_at += n;
    c->data_left -= n;
    if (c->data_left > 0) {
        return false;
    }
    dispatch(c);
    return true;
}

static void push_arrived(struct net_conn *c, const uint8_t *body)
{
    if (c->frame.opcode != CONN_OPCODE_KEEPALIVE) {
        stats_count(&c->counters.pushes, 1);
        c->user->ops->push(c->user, c, c->frame.opcode, body, c->frame.body_len);
        return;
    }
    if (c->frame.id != 0) { /* a question; id 0 is the answer */
        struct wire_frame f = {.kind = FRAME_PUSH, .opcode = CONN_OPCODE_KEEPALIVE};
        int rc = net_conn_put_frame(c, &f, NULL);
        if (rc < 0) {
            net_conn_fail(c, rc, "keep-alive");
        }
    }
}

static void response_arrived(struct net_conn *c, const uint8_t *body)
{
    struct buf *data = c->data;
    c->data = NULL;
    struct net_conn_reply r = {
        .rc = c->frame.status, .answered = true, .body = body, .body_len = c->frame.body_len};
    if (data != NULL) {
        r.data = (struct slice){.buf = data, .at = data->at, .len = c->frame.data_len};
    }
    net_conn_call_answered(c, &r);
    buf_unref(data);
}

/* The frame is complete. The receive buffer stays as it is until the callback has returned. */
static void dispatch(struct net_conn *c)
{
    uint8_t *large = c->large;
    const uint8_t *body = body_of(c);
    size_t behind = c->stage == CONN_SKIP ? 0 : c->data_in_place;
    c->in_at += body_in_place(c) + behind;
    c->stage = CONN_HEADER;
    switch ((enum wire_frame_kind)c->frame.kind) {
    case FRAME_REQUEST:
        net_conn_request_arrived(c, large != NULL ? NULL : body); /* may keep c->large */
        break;
    case FRAME_RESPONSE:
        c->large = NULL;
        response_arrived(c, body);
        mem_free(large);
        return;
    case FRAME_PUSH:
        c->large = NULL;
        push_arrived(c, body);
        mem_free(large);
        return;
    case FRAME_CANCEL:
        net_conn_request_cancel(c, c->frame.id);
        break;
    }
    mem_free(c->large);
    c->large = NULL;
    c->data = buf_unref(c->data); /* of a request that was refused */
}

static void parse(struct net_conn *c)
{
    bool going = true;
    while (going && c->state != CONN_CLOSED && c->in != NULL) {
        switch (c->stage) {
        case CONN_HEADER:
            going = parse_header(c);
            break;
        case CONN_BODY:
            going = parse_body(c);
            break;
        case CONN_DATA:
            going = parse_data(c);
            break;
        case CONN_SKIP:
            going = parse_skip(c);
            break;
        }
    }
}

/* --- Reading -------------------------------------------------------------------------------------
 */

/* Room at the end of the buffer: what is left of a frame moves to the front. */
static void make_room(struct net_conn *c)
{
    if (c->in_at == c->in_len) {
        c->in_at = c->in_len = 0;
    } else if (CONN_IN_BYTES - c->in_at < CONN_BODY_IN_PLACE + 2 * FRAME_BYTES) {
        memmove(c->in, c->in + c->in_at, available(c));
        c->in_len -= c->in_at;
        c->in_at = 0;
    }
}

/* How much to read into the receive buffer. */
static size_t want_in(const struct net_conn *c)
{
    size_t room = CONN_IN_BYTES - c->in_len;
    size_t have = available(c);
    if (c->stage == CONN_HEADER && c->bulk_want > 0) {
        return base_min(room, c->bulk_want > have ? c->bulk_want - have : FRAME_BYTES);
    }
    if (c->stage == CONN_BODY && has_bulk(c) && !has_own_body(c)) {
        return base_min(room, c->frame.body_len - have);
    }
    if (c->stage == CONN_DATA && has_bulk(c)) {
        return base_min(room, c->bulk_want);
    }
    return room;
}

struct read_plan {
    struct iovec iov[2];
    unsigned count;
    size_t direct, total;
};

static void plan_add(struct read_plan *p, uint8_t *at, size_t len)
{
    if (len > 0) {
        p->iov[p->count++] = (struct iovec){.iov_base = at, .iov_len = len};
        p->total += len;
    }
}

static void plan_read(struct net_conn *c, struct read_plan *p)
{
    *p = (struct read_plan){.count = 0};
    if (c->stage == CONN_BODY && c->large != NULL) {
        plan_add(p, c->large + c->large_got, c->frame.body_len - c->large_got);
    } else if (c->stage == CONN_DATA && c->data != NULL) {
        plan_add(p, c->data->at + c->data_got, c->frame.data_len - c->data_got);
    }
    p->direct = p->total;
    bool data_follows = c->stage == CONN_BODY && c->large != NULL && c->frame.data_len > 0;
    if (!data_follows) {
        plan_add(p, c->in + c->in_len, want_in(c));
    }
}

static void account(struct net_conn *c, const struct read_plan *p, size_t n)
{
    size_t direct = base_min(n, p->direct);
    if (c->stage == CONN_BODY) {
        c->large_got += direct;
    } else {
        c->data_got += direct;
    }
    c->in_len += n - direct;
    c->heard = true;
    stats_count(&c->counters.received_bytes, n);
}

/* Reads once; 0 when there is nothing more. */
static size_t fill(struct net_conn *c)
{
    struct read_plan p;
    make_room(c);
    plan_read(c, &p);
    CHECK(p.total > 0);
    stats_count(&c->counters.reads, 1);
    int64_t n = stream_read(c->stream, p.iov, p.count);
    if (n > 0) {
        /* A short read has emptied the stream, unless its end is already behind. */
        c->readable = (size_t)n == p.total || c->hangup;
        account(c, &p, (size_t)n);
        return (size_t)n;
    }
    c->readable = false;
    if (n == 0) {
        net_conn_fail(c, -ERR_closed, "closed by the peer");
    } else if (n != -EAGAIN) {
        net_conn_fail(c, (int)n, "read");
    }
    return 0;
}

static void in_take(struct net_conn *c)
{
    c->in = c->share->spare_in;
    c->share->spare_in = NULL;
    c->in = c->in == NULL ? mem_alloc(CONN_IN_BYTES) : c->in;
    if (c->in == NULL) {
        net_conn_fail(c, -ENOMEM, "no memory to receive");
        return;
    }
    c->share->memory_bytes += CONN_IN_BYTES;
}

static void in_give(struct net_conn *c)
{
    if (c->in != NULL) {
        c->share->memory_bytes -= CONN_IN_BYTES;
        mem_free(c->share->spare_in);
        c->share->spare_in = c->in;
        c->in = NULL;
    }
}

void net_conn_receive(struct net_conn *c)
{
    if (c->in == NULL && c->state != CONN_CLOSED) {
        in_take(c);
    }
    size_t total = 0;
    for (;;) {
        parse(c);
        if (c->state == CONN_CLOSED || c->paused || !c->readable) {
            break;
        }
        if (total >= CONN_READ_ROUND) {
            loop_defer(c->loop, &c->receive_task); /* others first */
            break;
        }
        total += fill(c);
    }
    if (c->in_at == c->in_len && c->stage == CONN_HEADER) {
        c->in_at = c->in_len = 0;
        in_give(c);
    }
}

void net_conn_receive_fini(struct net_conn *c)
{
    c->data = buf_unref(c->data);
    if (c->depth == 0) { /* else a callback may still read a body in it */
        in_give(c);
        mem_free(c->large);
        c->large = NULL;
    }
}
