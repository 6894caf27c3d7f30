/*
 * peer/link.c -- messages in and out of one connection.
 *
 * Requests are objects of a list that is kept, so that their arenas keep a block each; there are at
 * most max_requests of them. A body that does not decode ends the connection: the peer is broken or
 * hostile, and guessing what it meant helps neither.
 */
#include "peer/link.h"

#include "base/mem.h"
#include "peer/link_priv.h"
#include "wire/frame.h"

#define OPCODE_LIMIT 0x0800u
#define ARENA_LIMIT_BYTES (8u << 20)
#define SPARE_REQUESTS 64u
#define REQUEST_BYTES (sizeof(struct peer_request) + 4096) /* with the first block of its arena */

struct opcode_stats {
    struct stats_counter requests, failed;
    struct stats_histogram latency;
};
struct peer_dispatch {
    struct peer_dispatch_options opt;
    uint8_t place[OPCODE_LIMIT]; /* opcode -> index in opt.handlers + 1 */
    struct opcode_stats *opcodes;
    struct stats *stats;
    struct stats_counter unknown, refused, busy, malformed;
    struct list spare;
    size_t spare_count, open_count;
    struct mem_arena arena; /* replies and pushes: for the callback that gets them */
};

/* --- The table -------------------------------------------------------------------------------- */

static void dispatch_list_stats(struct peer_dispatch *d)
{
    stats_add_counter(d->stats, "unknown", &d->unknown);
    stats_add_counter(d->stats, "refused", &d->refused);
    stats_add_counter(d->stats, "busy", &d->busy);
    stats_add_counter(d->stats, "malformed", &d->malformed);
    for (size_t i = 0; i < d->opt.handler_count; i++) {
        const char *name = proto_opcode_name(d->opt.handlers[i].opcode);
        struct stats *s = d->stats == NULL ? NULL : stats_new(d->stats, name);
        stats_add_counter(s, "requests", &d->opcodes[i].requests);
        stats_add_counter(s, "failed", &d->opcodes[i].failed);
        stats_add_histogram(s, "latency", &d->opcodes[i].latency);
    }
}

int peer_dispatch_new(const struct peer_dispatch_options *opt, struct peer_dispatch **ret)
{
    CHECK(opt->handler_count < UINT8_MAX);
    struct peer_dispatch *d = mem_zalloc(sizeof *d);
    struct opcode_stats *opcodes = mem_calloc(opt->handler_count + 1, sizeof *opcodes);
    if (d == NULL || opcodes == NULL) {
        mem_free(d);
        mem_free(opcodes);
        return -ENOMEM;
    }
    d->opt = *opt;
    d->opcodes = opcodes;
    list_init(&d->spare);
    mem_arena_init(&d->arena, ARENA_LIMIT_BYTES);
    for (size_t i = 0; i < opt->handler_count; i++) {
        const struct peer_handler *h = &opt->handlers[i];
        const struct proto_message *m = proto_message_find(h->opcode);
        CHECK(m != NULL && h->opcode < OPCODE_LIMIT && d->place[h->opcode] == 0);
        CHECK((m->reply != NULL) == (h->request != NULL) &&
              (m->reply == NULL) == (h->push != NULL));
        d->place[h->opcode] = (uint8_t)(i + 1);
    }
    d->stats = opt->stats == NULL ? NULL : stats_new(opt->stats, "messages");
    dispatch_list_stats(d);
    *ret = d;
    return 0;
}

static void request_destroy(struct peer_request *r)
{
    mem_arena_fini(&r->arena);
    mem_free(r);
}

struct peer_dispatch *peer_dispatch_free(struct peer_dispatch *d)
{
    if (d == NULL) {
        return NULL;
    }
    CHECK(d->open_count == 0);
    struct list *at;
    while ((at = list_pop_front(&d->spare)) != NULL) {
        request_destroy(LIST_ENTRY(at, struct peer_request, node));
    }
    stats_free(d->stats);
    mem_arena_fini(&d->arena);
    mem_free(d->opcodes);
    mem_free(d);
    return NULL;
}

size_t peer_dispatch_open_requests(const struct peer_dispatch *d)
{
    return d->open_count;
}

size_t peer_dispatch_bytes(const struct peer_dispatch *d)
{
    return (d->open_count + d->spare_count) * REQUEST_BYTES;
}

static const struct peer_handler *dispatch_find(const struct peer_dispatch *d, uint16_t opcode)
{
    uint8_t place = opcode < OPCODE_LIMIT ? d->place[opcode] : 0;
    return place == 0 ? NULL : &d->opt.handlers[place - 1];
}

static struct opcode_stats *stats_of(struct peer_dispatch *d, const struct peer_handler *h)
{
    return &d->opcodes[h - d->opt.handlers];
}

static bool role_allowed(const struct peer_handler *h, const struct proto_message *m, uint32_t role)
{
    return ((h->roles == 0 ? m->roles : h->roles) & role) != 0;
}

/* --- Bodies ----------------------------------------------------------------------------------- */

int peer_body_encode(struct peer_body *b, const struct proto_type *t, const void *record)
{
    b->large = NULL;
    b->at = b->small;
    struct wire_writer w = wire_writer_over(b->small, sizeof b->small);
    int rc = proto_encode(t, record, &w);
    size_t size = 0;
    if (rc == -EMSGSIZE) {
        rc = proto_encoded_bytes(t, record, &size);
    }
    if (rc == 0 && size > FRAME_BODY_MAX) {
        rc = -EMSGSIZE;
    }
    if (rc == 0 && size > 0) {
        b->large = mem_alloc(size);
        b->at = b->large;
        w = wire_writer_over(b->large, size);
        rc = b->large == NULL ? -ENOMEM : proto_encode(t, record, &w);
    }
    b->len = w.len;
    if (rc < 0) {
        peer_body_fini(b);
    }
    return rc;
}

void peer_body_fini(struct peer_body *b)
{
    mem_free(b->large);
    b->large = NULL;
    b->len = 0;
}

static bool begins_with_op(const struct proto_type *t)
{
    return t->field_count > 0 && t->fields[0].type == &proto_op_type;
}

/* --- Requests --------------------------------------------------------------------------------- */

void peer_wire_fail(struct net_conn_request *wire, int rc, const struct proto_failure *f)
{
    struct proto_failure plain = {.text = proto_bytes_text(err_text(rc)),
                                  .retry_ms = rc == -ERR_busy ? PEER_BUSY_MS : 0};
    struct peer_body b;
    if (peer_body_encode(&b, &proto_failure_type, f == NULL ? &plain : f) < 0) {
        net_conn_respond_rc(wire, rc);
        return;
    }
    const struct net_conn_response resp = {.rc = rc, .body = b.at, .body_len = b.len};
    net_conn_respond(wire, &resp);
    peer_body_fini(&b);
}

static struct peer_request *request_get(struct peer_dispatch *d)
{
    if (d->open_count >= d->opt.max_requests) {
        return NULL;
    }
    struct list *at = list_pop_front(&d->spare);
    if (at != NULL) {
        d->spare_count--;
        d->open_count++;
        return LIST_ENTRY(at, struct peer_request, node);
    }
    struct peer_request *r = mem_zalloc(sizeof *r);
    if (r != NULL) {
        mem_arena_init(&r->arena, ARENA_LIMIT_BYTES);
        list_init(&r->node);
        list_init(&r->on_link);
        d->open_count++;
    }
    return r;
}

static void request_put(struct peer_request *r)
{
    struct peer_dispatch *d = r->dispatch;
    d->open_count--;
    list_remove(&r->on_link);
    if (d->spare_count >= SPARE_REQUESTS) {
        request_destroy(r);
        return;
    }
    mem_arena_reset(&r->arena);
    list_push_front(&d->spare, &r->node);
    d->spare_count++;
}

static void request_gone(struct net_conn_request *wire)
{
    struct peer_request *r = wire->context;
    if (r->cancelled != NULL) {
        r->cancelled(r);
    }
}

/* The op of a mutation must be that of its body: a slot is answered by this CRC. */
static int check_op(const struct proto_message *m, const struct net_conn_request *wire,
                    const void *record)
{
    if (!begins_with_op(m->request)) {
        return 0;
    }
    uint32_t crc = 0;
    int rc = proto_op_crc(wire->opcode, wire->body, wire->body_len, &crc);
    const struct proto_op *op = record; /* first field */
    return rc == 0 && crc != op->crc ? -ERR_bad_crc : rc;
}

static int request_decode(struct peer_request *r)
{
    const struct proto_type *t = r->message->request;
    void *record = mem_arena_alloc(&r->arena, t->size + 1);
    if (record == NULL) {
        return -ENOMEM;
    }
    int rc = proto_decode(t, r->wire->body, r->wire->body_len, &r->arena, record);
    if (rc == 0) {
        rc = check_op(r->message, r->wire, record);
    }
    r->body = record;
    return rc;
}

static void request_malformed(struct peer_request *r, int rc)
{
    struct peer_link *l = r->link;
    if (rc == -ENOMEM) {
        stats_count(&r->dispatch->busy, 1);
        peer_request_fail(r, -ERR_busy, NULL);
        return;
    }
    stats_count(&r->dispatch->malformed, 1);
    char reason[120];
    struct text t;
    text_init(&t, reason, sizeof reason);
    text_add(&t, "request '%s': %s", r->message->name, err_text(rc));
    peer_request_fail(r, rc, NULL);
    peer_link_close(l, rc, reason);
}

void peer_link_request(struct peer_link *l, struct net_conn_request *wire)
{
    struct peer_dispatch *d = l->dispatch;
    const struct peer_handler *h = dispatch_find(d, wire->opcode);
    if (h == NULL || h->request == NULL) {
        stats_count(&d->unknown, 1);
        peer_wire_fail(wire, -ERR_unknown_message, NULL);
        return;
    }
    const struct proto_message *m = proto_message_find(wire->opcode);
    stats_count(&stats_of(d, h)->requests, 1);
    if (!role_allowed(h, m, l->role)) {
        stats_count(&d->refused, 1);
        peer_wire_fail(wire, -EPERM, NULL);
        return;
    }
    struct peer_request *r = request_get(d);
    if (r == NULL) {
        stats_count(&d->busy, 1);
        peer_wire_fail(wire, -ERR_busy, NULL);
        return;
    }
    r->wire = wire;
    r->link = l;
    r->message = m;
    r->context = NULL;
    r->cancelled = NULL;
    r->dispatch = d;
    r->handler = h;
    r->began_ns = wire->received_ns;
    l->heard_ns = wire->received_ns;
    wire->context = r;
    wire->cancelled = request_gone;
    list_push_back(&l->requests, &r->on_link);
    int rc = request_decode(r);
    if (rc < 0) {
        request_malformed(r, rc);
        return;
    }
    h->request(d->opt.user, r);
}

/* Counts it and gives it back. The connection has taken the answer. */
static void request_finish(struct peer_request *r, int rc)
{
    struct opcode_stats *s = stats_of(r->dispatch, r->handler);
    stats_count(&s->failed, rc < 0 ? 1U : 0U);
    stats_sample(&s->latency, loop_now_ns(r->dispatch->opt.env->loop) - r->began_ns);
    request_put(r);
}

void peer_request_answer(struct peer_request *r, const void *reply,
                         const struct net_conn_response *data)
{
    struct peer_body b;
    int rc = peer_body_encode(&b, r->message->reply, reply);
    if (rc < 0) { /* ours to make fit; the other side must not wait for ever */
        log_error(r->dispatch->opt.env->log, "reply does not encode",
                  LOG_TEXT("message", r->message->name), LOG_RC(rc));
        peer_request_fail(r, rc == -ENOMEM ? -ERR_busy : rc, NULL);
        return;
    }
    struct net_conn_response resp = data == NULL ? (struct net_conn_response){0} : *data;
    resp.rc = 0;
    resp.body = b.at;
    resp.body_len = b.len;
    net_conn_respond(r->wire, &resp);
    peer_body_fini(&b);
    request_finish(r, 0);
}

void peer_request_fail(struct peer_request *r, int rc, const struct proto_failure *f)
{
    CHECK(rc < 0);
    peer_wire_fail(r->wire, rc, f);
    request_finish(r, rc);
}

/* --- Pushes ----------------------------------------------------------------------------------- */

void peer_link_pushed(struct peer_link *l, uint16_t opcode, const uint8_t *body, size_t len)
{
    struct peer_dispatch *d = l->dispatch;
    const struct peer_handler *h = dispatch_find(d, opcode);
    if (h == NULL || h->push == NULL) {
        stats_count(&d->unknown, 1);
        return; /* of a newer version; nobody waits for an answer */
    }
    const struct proto_message *m = proto_message_find(opcode);
    stats_count(&stats_of(d, h)->requests, 1);
    if (!role_allowed(h, m, l->role)) {
        stats_count(&d->refused, 1);
        return;
    }
    mem_arena_reset(&d->arena);
    void *record = mem_arena_alloc(&d->arena, m->request->size + 1);
    int rc = record == NULL ? -ENOMEM : proto_decode(m->request, body, len, &d->arena, record);
    if (rc < 0) { /* a push that is not heard may not be passed over: the link starts anew */
        stats_count(&d->malformed, 1);
        peer_link_close(l, rc, "push does not decode");
        return;
    }
    h->push(d->opt.user, l, record);
}

int peer_link_push(struct peer_link *l, uint16_t opcode, const void *record)
{
    const struct proto_message *m = proto_message_find(opcode);
    CHECK(m != NULL && m->reply == NULL);
    struct peer_body b;
    int rc = peer_body_encode(&b, m->request, record);
    if (rc == 0) {
        rc = net_conn_push(l->conn, opcode, 0, b.at, b.len);
        peer_body_fini(&b);
    }
    return rc;
}

/* --- Calls ------------------------------------------------------------------------------------ */

static void call_land(struct peer_call *c, const struct peer_reply *r)
{
    c->link = NULL;
    if (c->landed != NULL) {
        c->landed(c, r);
    } else {
        c->done(c, r);
    }
}

static int reply_decode(struct mem_arena *a, const struct proto_type *t,
                        const struct net_conn_reply *wire, const void **ret)
{
    mem_arena_reset(a);
    void *record = mem_arena_alloc(a, t->size + 1);
    if (record == NULL) {
        return -ENOMEM;
    }
    *ret = record;
    return proto_decode(t, wire->body, wire->body_len, a, record);
}

static void call_answered(struct net_conn_call *wire, const struct net_conn_reply *w)
{
    struct peer_call *c = container_of(wire, struct peer_call, wire);
    struct peer_reply r = {.rc = w->rc, .answered = w->answered, .data = w->data};
    if (!w->answered) {
        r.unknown = w->rc != -ERR_busy;
        call_land(c, &r);
        return;
    }
    struct mem_arena *a = &c->link->dispatch->arena;
    const struct proto_message *m = proto_message_find(c->opcode);
    const struct proto_failure empty = {0};
    const void *record = NULL;
    int rc = reply_decode(a, w->rc < 0 ? &proto_failure_type : m->reply, w, &record);
    if (w->rc < 0) {
        r.failure = rc < 0 ? &empty : record; /* the code alone says enough */
    } else if (rc < 0) {
        r = (struct peer_reply){.rc = rc == -ENOMEM ? -ENOMEM : -ERR_protocol, .unknown = true};
        peer_link_close(c->link, r.rc, "reply does not decode");
    } else {
        r.body = record;
    }
    call_land(c, &r);
}

static void call_failed_run(struct loop_task *t)
{
    struct peer_call *c = container_of(t, struct peer_call, task);
    const struct peer_reply r = {.rc = c->rc};
    call_land(c, &r);
}

void peer_link_call(struct peer_link *l, struct peer_call *c)
{
    const struct proto_message *m = proto_message_find(c->opcode);
    CHECK(m != NULL && m->reply != NULL && c->done != NULL);
    struct peer_body b;
    c->link = l;
    int rc = peer_body_encode(&b, m->request, c->request);
    if (rc < 0) { /* never from inside */
        c->rc = rc == -ENOMEM ? -ERR_busy : rc;
        c->task.run = call_failed_run;
        loop_defer(l->dispatch->opt.env->loop, &c->task);
        return;
    }
    if (begins_with_op(m->request)) {
        rc = proto_op_seal(c->opcode, b.at, b.len);
        CHECK(rc == 0); /* we have just encoded it */
    }
    c->wire.done = call_answered;
    c->wire.opcode = c->opcode;
    c->wire.trace = c->trace;
    c->wire.timeout_ms = c->timeout_ms;
    c->wire.body = b.at;
    c->wire.body_len = b.len;
    net_conn_call(l->conn, &c->wire);
    peer_body_fini(&b);
}

/* --- The link --------------------------------------------------------------------------------- */

void peer_link_begin(struct peer_link *l, struct peer_dispatch *d, struct net_conn *c)
{
    l->conn = c;
    l->dispatch = d;
    l->up_ns = l->heard_ns = loop_now_ns(d->opt.env->loop);
    list_init(&l->requests);
}

void peer_link_end(struct peer_link *l)
{
    struct list *at;
    while ((at = list_pop_front(&l->requests)) != NULL) {
        LIST_ENTRY(at, struct peer_request, on_link)->link = NULL;
    }
}

void peer_link_close(struct peer_link *l, int rc, const char *reason)
{
    net_conn_close(l->conn, rc, reason);
}

void peer_link_to_text(const struct peer_link *l, struct text *out)
{
    char address[NET_ADDRESS_SIZE] = "closed";
    if (l->conn != NULL) {
        net_conn_peer(l->conn, address, sizeof address);
    }
    text_add(out, "link{%s role=%u name=\"", address, l->role);
    text_add_bytes(out, l->name, strlen(l->name));
    text_add(out, "\" session=%llu generation=%llu slot=%u number=%llu}",
             (unsigned long long)l->session, (unsigned long long)l->generation, l->slot,
             (unsigned long long)l->number);
}
