/* net/conn_serve.c -- the peer's requests: from the frame to the answer. Objects are recycled. */
#include "net/conn_priv.h"

#include "base/mem.h"

#include <string.h>

#define FIRST_INCOMING 32u
#define DEADLINE_MAX_MS 3600000u
#define DEADLINE_DEFAULT_MS 30000u
#define NS_PER_MS UINT64_C(1000000)

/* Makes the table reach the slot. */
static int table_reach(struct net_conn *c, uint32_t slot)
{
    if (slot < c->incoming_count) {
        return 0;
    }
    uint32_t count = c->incoming_count == 0 ? FIRST_INCOMING : c->incoming_count;
    while (count <= slot) {
        count *= 2; /* at most CONN_CALLS_MAX: slots have 12 bits */
    }
    struct conn_incoming **table = mem_calloc(count, sizeof(struct conn_incoming *));
    if (table == NULL) {
        return -ENOMEM;
    }
    if (c->incoming_count > 0) {
        memcpy(table, c->incoming, c->incoming_count * sizeof(struct conn_incoming *));
    }
    mem_free(c->incoming);
    c->incoming = table;
    c->incoming_count = count;
    return 0;
}

static struct conn_incoming *incoming_get(struct net_conn *c)
{
    struct list *at = list_pop_front(&c->idle_requests);
    if (at != NULL) {
        c->idle_count--;
        return LIST_ENTRY(at, struct conn_incoming, all);
    }
    struct conn_incoming *in = mem_zalloc(sizeof *in);
    if (in != NULL) {
        list_init(&in->deadline);
        list_init(&in->all);
    }
    return in;
}

static void incoming_put(struct net_conn *c, struct conn_incoming *in)
{
    c->incoming[in->id & CONN_SLOT_MASK] = NULL;
    list_remove(&in->deadline);
    list_remove(&in->all);
    buf_slice_drop(&in->pub.data);
    if (in->large != NULL) {
        c->bodies_bytes -= in->pub.body_len;
        c->share->body_bytes -= in->pub.body_len;
        mem_free(in->large);
        in->large = NULL;
    }
    c->requests_open--;
    if (c->idle_count >= CONN_IDLE_REQUESTS) {
        mem_free(in->spare);
        mem_free(in);
        return;
    }
    c->idle_count++;
    list_push_front(&c->idle_requests, &in->all); /* the warm one next */
}

/* The body has to outlive the receive buffer. */
static int keep_body(struct net_conn *c, struct conn_incoming *in, const uint8_t *body, size_t len)
{
    in->pub.body_len = len;
    if (c->large != NULL) {
        in->large = c->large; /* received into its own memory: handed over */
        c->large = NULL;
    } else if (len > CONN_BODY_SPARE) {
        in->large = mem_alloc(len);
    } else if (len > CONN_BODY_INLINE && in->spare == NULL) {
        in->spare = mem_alloc(CONN_BODY_SPARE);
    }
    if (len > CONN_BODY_SPARE) {
        in->pub.body = in->large;
        c->bodies_bytes += in->large == NULL ? 0 : len;
        c->share->body_bytes += in->large == NULL ? 0 : len;
    } else {
        in->pub.body = len > CONN_BODY_INLINE ? in->spare : in->small;
    }
    if (in->pub.body == NULL) {
        return -ENOMEM;
    }
    if (len > 0 && body != NULL) {
        memcpy((uint8_t *)in->pub.body, body, len);
    }
    return 0;
}

void net_conn_refuse(struct net_conn *c, uint32_t id, uint64_t trace, int rc)
{
    struct wire_frame f = {.kind = FRAME_RESPONSE, .id = id, .status = rc, .trace = trace};
    rc = net_conn_put_frame(c, &f, NULL);
    if (rc < 0) {
        net_conn_fail(c, rc, "no memory to send an answer");
    }
}

static void set_deadline(struct net_conn *c, struct conn_incoming *in, uint32_t deadline_ms)
{
    uint64_t ms = deadline_ms == 0 ? DEADLINE_DEFAULT_MS : base_min(deadline_ms, DEADLINE_MAX_MS);
    in->pub.received_ns = loop_tick_ns(c->loop);
    in->pub.deadline_ns = in->pub.received_ns + ms * NS_PER_MS;
    net_conn_deadline_add(c, true, &in->deadline, ms);
}

/* Fills what the handler sees. `body` NULL: c->large. */
static int request_set_up(struct net_conn *c, struct conn_incoming *in, const uint8_t *body)
{
    const struct wire_frame *f = &c->frame;
    in->id = f->id;
    in->gone = 0;
    in->pub = (struct net_conn_request){.conn = c, .opcode = f->opcode, .trace = f->trace};
    int rc = keep_body(c, in, body, f->body_len);
    if (c->data != NULL) {
        in->pub.data = (struct slice){.buf = c->data, .at = c->data->at, .len = f->data_len};
        c->data = NULL;
    }
    return rc;
}

void net_conn_request_arrived(struct net_conn *c, const uint8_t *body)
{
    const struct wire_frame *f = &c->frame;
    uint32_t slot = f->id & CONN_SLOT_MASK;
    if (slot < c->incoming_count && c->incoming[slot] != NULL) {
        net_conn_fail(c, -ERR_protocol, "request id is in use");
        return;
    }
    if (c->state == CONN_DRAINING) {
        net_conn_refuse(c, f->id, f->trace, -ERR_shutting_down);
        return;
    }
    struct conn_incoming *in = c->refused || table_reach(c, slot) < 0 ? NULL : incoming_get(c);
    if (in == NULL) {
        net_conn_refuse(c, f->id, f->trace, -ERR_busy);
        return;
    }
    int rc = request_set_up(c, in, body);
    c->incoming[slot] = in;
    c->requests_open++;
    list_push_back(&c->requests, &in->all);
    stats_count(&c->counters.requests, 1);
    if (rc < 0) {
        incoming_put(c, in);
        net_conn_refuse(c, f->id, f->trace, -ERR_busy);
        return;
    }
    set_deadline(c, in, f->deadline_ms);
    c->user->ops->request(c->user, &in->pub);
}

void net_conn_incoming_gone(struct conn_incoming *in, int why)
{
    if (in->gone != 0) {
        return;
    }
    struct net_conn *c = in->pub.conn;
    in->gone = why;
    list_remove(&in->deadline);
    list_remove(&in->all);
    list_push_back(&c->gone_requests, &in->all);
    if (in->pub.cancelled != NULL) {
        in->pub.cancelled(&in->pub);
    }
}

void net_conn_request_cancel(struct net_conn *c, uint32_t id)
{
    uint32_t slot = id & CONN_SLOT_MASK;
    struct conn_incoming *in = slot < c->incoming_count ? c->incoming[slot] : NULL;
    if (in != NULL && in->id == id) { /* else it was answered just before */
        net_conn_incoming_gone(in, -ERR_cancelled);
    }
}

void net_conn_requests_gone(struct net_conn *c)
{
    while (!list_empty(&c->requests)) {
        net_conn_incoming_gone(LIST_ENTRY(c->requests.next, struct conn_incoming, all),
                               -ERR_closed);
    }
}

bool net_conn_request_gone(const struct net_conn_request *r)
{
    const struct conn_incoming *in = (const struct conn_incoming *)(const void *)r;
    return in->gone != 0 || r->conn->state == CONN_CLOSED;
}
_Static_assert(offsetof(struct conn_incoming, pub) == 0, "net_conn_request_gone relies on it");

/* --- Answers ---------------------------------------------------------------------------------- */

static int put_data(struct net_conn *c, const struct net_conn_response *resp)
{
    int rc = 0;
    for (unsigned i = 0; i < resp->data_count && rc == 0; i++) {
        rc = net_conn_put_slice(c, &resp->data[i], 0);
    }
    for (unsigned i = 0; i < resp->range_count && rc == 0; i++) {
        rc = net_conn_put_range(c, &resp->range[i]);
    }
    return rc;
}

static void put_answer(struct net_conn *c, struct conn_incoming *in,
                       const struct net_conn_response *resp)
{
    uint64_t data_len = 0;
    for (unsigned i = 0; i < resp->data_count; i++) {
        data_len += resp->data[i].len;
    }
    for (unsigned i = 0; i < resp->range_count; i++) {
        data_len += resp->range[i].len;
    }
    CHECK(resp->body_len <= FRAME_BODY_MAX && data_len <= FRAME_DATA_MAX);
    struct wire_frame f = {.kind = FRAME_RESPONSE,
                           .opcode = in->pub.opcode,
                           .id = in->id,
                           .status = resp->rc,
                           .body_len = (uint32_t)resp->body_len,
                           .data_len = (uint32_t)data_len,
                           .trace = in->pub.trace};
    int rc = net_conn_put_frame(c, &f, resp->body);
    if (rc == 0 && data_len > 0) {
        rc = put_data(c, resp);
    }
    if (rc < 0) {
        net_conn_fail(c, rc, "no memory to send an answer"); /* a frame may be half queued */
    }
}

/* Behind the data, or on its way to the drain when the connection is closed. */
static void put_pin(struct net_conn *c, const struct net_conn_response *resp)
{
    if (resp->sent == NULL) {
        return;
    }
    const struct conn_piece end = {.kind = CONN_END,
                                   .u.end = {.sent = resp->sent, .pin = resp->pin}};
    int rc = net_conn_put_end(c, &end);
    if (rc < 0) {
        net_conn_fail(c, rc, "no memory to send an answer");
        resp->sent(resp->pin, rc); /* better at once than never */
    } else if (c->state == CONN_CLOSED) {
        net_conn_finish_later(c);
    }
}

void net_conn_respond(struct net_conn_request *r, const struct net_conn_response *resp)
{
    struct conn_incoming *in = container_of(r, struct conn_incoming, pub);
    struct net_conn *c = r->conn;
    LOOP_OWNED(c->loop);
    CHECK(c->incoming[in->id & CONN_SLOT_MASK] == in); /* answered once */
    CHECK(resp->rc <= 0 && resp->data_count <= CONN_SLICES && resp->range_count <= CONN_RANGES);
    if (c->state != CONN_CLOSED) {
        if (in->gone != 0) {
            net_conn_refuse(c, in->id, r->trace, in->gone); /* frees the peer's slot */
        } else {
            put_answer(c, in, resp);
            stats_count(&c->counters.responses, 1);
        }
    }
    put_pin(c, resp);
    incoming_put(c, in);
    if (c->state != CONN_CLOSED) {
        net_conn_flush_soon(c);
        net_conn_receive_soon(c);
    }
    net_conn_destroy_if_idle(c); /* it waited for this answer */
}

void net_conn_respond_rc(struct net_conn_request *r, int rc)
{
    const struct net_conn_response resp = {.rc = rc};
    net_conn_respond(r, &resp);
}

void net_conn_serve_fini(struct net_conn *c)
{
    struct list *at = NULL;
    while ((at = list_pop_front(&c->idle_requests)) != NULL) {
        struct conn_incoming *in = LIST_ENTRY(at, struct conn_incoming, all);
        mem_free(in->spare);
        mem_free(in);
    }
    mem_free(c->incoming);
    c->incoming = NULL;
}

/* --- One-way messages ------------------------------------------------------------------------- */

int net_conn_push(struct net_conn *c, uint16_t opcode, uint64_t trace, const void *body, size_t len)
{
    LOOP_OWNED(c->loop);
    CHECK(opcode != CONN_OPCODE_KEEPALIVE && len <= FRAME_BODY_MAX);
    if (c->state == CONN_CLOSED) {
        return -ERR_closed;
    }
    if (c->queued_bytes > 2 * c->opt.max_send_bytes) {
        return -ERR_busy;
    }
    struct wire_frame f = {
        .kind = FRAME_PUSH, .opcode = opcode, .body_len = (uint32_t)len, .trace = trace};
    int rc = net_conn_put_frame(c, &f, body);
    if (rc < 0) {
        net_conn_fail(c, rc, "no memory to send a push");
        return -ERR_closed;
    }
    net_conn_flush_soon(c);
    return 0;
}
