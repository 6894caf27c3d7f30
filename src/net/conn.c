/* net/conn.c -- a connection's life: construction, events, deadlines, keep-alive, the end. */
#include "net/conn.h"

#include "net/conn_priv.h"

#include "base/mem.h"
#include "wire/wire.h"

#include <stdio.h>
#include <string.h>

#define DEFAULT_REQUESTS 256u
#define DEFAULT_SEND_BYTES (8u << 20)
#define DEFAULT_KEEPALIVE_MS 5000u
#define DEFAULT_STALL_MS 60000u
#define DEFAULT_FIRST_BODY 4096u
#define SILENCES_MAX 3u
#define NS_PER_MS UINT64_C(1000000)

void net_conn_enter(struct net_conn *c)
{
    LOOP_OWNED(c->loop);
    c->depth++;
}

static void finish_if_drained(struct net_conn *c)
{
    if (c->state == CONN_DRAINING && c->requests_open == 0 && c->calls_active == 0 &&
        net_conn_queue_empty(c)) {
        net_conn_fail(c, 0, "shut down");
    }
}

void net_conn_leave(struct net_conn *c)
{
    if (c->depth == 1 && c->state != CONN_CLOSED) {
        net_conn_flush(c);
        finish_if_drained(c);
    }
    c->depth--;
    net_conn_destroy_if_idle(c);
}

/* --- What connections have together ----------------------------------------------------------- */

struct net_conn_share *net_conn_share_new(void)
{
    struct net_conn_share *s = mem_zalloc(sizeof *s);
    if (s != NULL) {
        s->refs = 1;
    }
    return s;
}

static void share_release(struct net_conn_share *s)
{
    mem_free(s->spare_in);
    mem_free(s->spare_block);
}

struct net_conn_share *net_conn_share_unref(struct net_conn_share *s)
{
    if (s != NULL && --s->refs == 0) {
        share_release(s);
        mem_free(s);
    }
    return NULL;
}

/* --- The end ---------------------------------------------------------------------------------- */

void net_conn_close_stream(struct net_conn *c)
{
    if (!c->sending_file) { /* else when the disk has let go of it */
        c->stream = stream_close(c->stream);
    }
}

void net_conn_finish_later(struct net_conn *c)
{
    loop_defer(c->loop, &c->finish_task);
}

void net_conn_fail(struct net_conn *c, int rc, const char *reason)
{
    if (c->state == CONN_CLOSED) {
        return;
    }
    c->state = CONN_CLOSED;
    c->rc = rc;
    (void)snprintf(c->reason, sizeof c->reason, "%s", reason == NULL ? err_text(rc) : reason);
    loop_timer_cancel(c->loop, &c->keepalive);
    loop_timer_cancel(c->loop, &c->deadline_timer);
    loop_timer_cancel(c->loop, &c->drain_limit);
    loop_timer_cancel(c->loop, &c->disk_retry);
    loop_undefer(c->loop, &c->receive_task);
    loop_undefer(c->loop, &c->flush_task);
    if (c->pool != NULL) {
        buf_unwait(c->pool, &c->buf_waiter);
    }
    net_conn_receive_fini(c);
    net_conn_close_stream(c);
    net_conn_finish_later(c);
}

/* Everybody hears of it; may be called again, also from inside itself. */
static void tell_the_end(struct net_conn *c)
{
    net_conn_calls_fail(c);
    net_conn_requests_gone(c);
    if (!c->sending_file) {
        net_conn_drop_queue(c);
    }
}

static void finish_run(struct loop_task *t)
{
    struct net_conn *c = container_of(t, struct net_conn, finish_task);
    net_conn_enter(c);
    net_conn_calls_run_failed(c);
    if (c->state == CONN_CLOSED) {
        tell_the_end(c);
        if (!c->freed) {
            net_conn_wake_rooms(c);
        }
        bool last = !c->reported && !c->freed && !c->sending_file;
        if (last) {
            c->reported = true;
            c->user->ops->closed(c->user, c, c->rc, c->reason);
        }
    }
    net_conn_leave(c);
}

void net_conn_destroy_if_idle(struct net_conn *c)
{
    if (!c->freed || c->depth > 0 || c->requests_open > 0 || c->sending_file ||
        !net_conn_queue_empty(c)) {
        return;
    }
    CHECK(c->calls_active == 0 && list_empty(&c->failed));
    loop_undefer(c->loop, &c->finish_task);
    net_conn_receive_fini(c);
    net_conn_serve_fini(c);
    net_conn_send_fini(c);
    net_conn_share_unref(c->share);
    share_release(&c->own_share);
    mem_free(c->slot);
    stats_free(c->stats);
    mem_free(c);
}

struct net_conn *net_conn_free(struct net_conn *c)
{
    if (c == NULL || c->freed) {
        return NULL;
    }
    net_conn_enter(c);
    c->freed = true;
    net_conn_fail(c, -ERR_closed, "freed by its owner");
    struct list *at;
    while ((at = list_pop_front(&c->rooms)) != NULL) {
        LIST_ENTRY(at, struct net_conn_room, node)->queued = false;
    }
    tell_the_end(c);
    net_conn_leave(c);
    return NULL;
}

void net_conn_close(struct net_conn *c, int rc, const char *reason)
{
    LOOP_OWNED(c->loop);
    net_conn_fail(c, rc, reason);
}

static void drain_limit_fired(struct loop_timer *t)
{
    struct net_conn *c = container_of(t, struct net_conn, drain_limit);
    net_conn_fail(c, -ERR_shutting_down, "shutdown took too long");
}

void net_conn_shutdown(struct net_conn *c, uint64_t limit_ms)
{
    LOOP_OWNED(c->loop);
    if (c->state != CONN_OPEN) {
        return;
    }
    c->state = CONN_DRAINING;
    loop_timer_in(c->loop, &c->drain_limit, limit_ms * NS_PER_MS);
    net_conn_flush_soon(c);
}

/* --- Events ----------------------------------------------------------------------------------- */

static void stream_ready(struct stream_user *u, unsigned events)
{
    struct net_conn *c = container_of(u, struct net_conn, events);
    net_conn_enter(c);
    c->writable = c->writable || (events & STREAM_WRITABLE) != 0;
    c->readable = c->readable || (events & (STREAM_READABLE | STREAM_CLOSED)) != 0;
    c->hangup = c->hangup || (events & STREAM_CLOSED) != 0;
    if (c->readable && c->state != CONN_CLOSED) {
        net_conn_receive(c);
    }
    net_conn_leave(c);
}

static void receive_run(struct loop_task *t)
{
    struct net_conn *c = container_of(t, struct net_conn, receive_task);
    net_conn_enter(c);
    net_conn_receive(c);
    net_conn_leave(c);
}

static void flush_run(struct loop_task *t)
{
    struct net_conn *c = container_of(t, struct net_conn, flush_task);
    net_conn_enter(c);
    net_conn_leave(c); /* flushes */
}

static void ask_peer(struct net_conn *c)
{
    struct wire_frame f = {.kind = FRAME_PUSH, .opcode = CONN_OPCODE_KEEPALIVE, .id = 1};
    int rc = net_conn_put_frame(c, &f, NULL);
    if (rc < 0) {
        net_conn_fail(c, rc, "keep-alive");
    }
}

/* Has it taken nothing for too long? What waits for our own disk is not its fault. */
static bool peer_stalls(struct net_conn *c)
{
    bool waits = !net_conn_queue_empty(c) && !c->writable && !c->moved && !c->sending_file;
    c->stalled_ms = waits ? c->stalled_ms + c->opt.keepalive_ms : 0;
    c->moved = false;
    return c->stalled_ms >= c->opt.stall_ms;
}

static void keepalive_fired(struct loop_timer *t)
{
    struct net_conn *c = container_of(t, struct net_conn, keepalive);
    net_conn_enter(c);
    if (peer_stalls(c)) {
        net_conn_fail(c, -ETIMEDOUT, "the peer does not take what it is sent");
        net_conn_leave(c);
        return;
    }
    /* While we do not read, the silence is ours. */
    c->silent = c->heard || c->paused ? 0 : c->silent + 1;
    c->heard = false;
    if (c->silent > SILENCES_MAX) {
        net_conn_fail(c, -ETIMEDOUT, "peer is silent");
    } else {
        if (c->silent > 0) {
            ask_peer(c);
        }
        loop_timer_lazy_in(c->loop, &c->keepalive, c->opt.keepalive_ms * NS_PER_MS);
    }
    net_conn_leave(c);
}

/* --- Deadlines -------------------------------------------------------------------------------- */

static uint64_t deadline_of(bool request, struct list *node)
{
    return request ? LIST_ENTRY(node, struct conn_incoming, deadline)->pub.deadline_ns
                   : LIST_ENTRY(node, struct net_conn_call, node)->deadline_ns;
}

void net_conn_deadline_add(struct net_conn *c, bool request, struct list *node, uint64_t timeout_ms)
{
    unsigned class = 63u - (unsigned)__builtin_clzll(timeout_ms | 1);
    class = class < CONN_DEADLINE_CLASSES ? class : CONN_DEADLINE_CLASSES - 1;
    struct list *head = request ? &c->request_deadlines[class] : &c->call_deadlines[class];
    uint64_t at_ns = deadline_of(request, node);
    struct list *after = head->prev;
    while (after != head && deadline_of(request, after) > at_ns) {
        after = after->prev;
    }
    list_insert_after(after, node);
    if (at_ns < c->timer_ns) {
        c->timer_ns = at_ns;
        loop_timer_at(c->loop, &c->deadline_timer, at_ns);
    }
}

static void expire_first(struct net_conn *c, bool request, struct list *head)
{
    if (request) {
        struct conn_incoming *in = LIST_ENTRY(head->next, struct conn_incoming, deadline);
        list_remove(&in->deadline);
        net_conn_incoming_gone(in, -ERR_deadline);
    } else {
        net_conn_call_expire(c, LIST_ENTRY(head->next, struct net_conn_call, node));
    }
}

/* Expires what is due in one class; returns its next deadline. */
static uint64_t expire_class(struct net_conn *c, bool request, struct list *head, uint64_t now)
{
    while (c->state != CONN_CLOSED && !list_empty(head)) {
        uint64_t at_ns = deadline_of(request, head->next);
        if (at_ns > now) {
            return at_ns;
        }
        expire_first(c, request, head);
    }
    return UINT64_MAX;
}

static void deadline_fired(struct loop_timer *t)
{
    struct net_conn *c = container_of(t, struct net_conn, deadline_timer);
    net_conn_enter(c);
    uint64_t now = loop_now_ns(c->loop), next = UINT64_MAX;
    c->timer_ns = UINT64_MAX;
    for (unsigned i = 0; i < CONN_DEADLINE_CLASSES; i++) {
        next = base_min(next, expire_class(c, false, &c->call_deadlines[i], now));
        next = base_min(next, expire_class(c, true, &c->request_deadlines[i], now));
    }
    if (c->state != CONN_CLOSED && next < c->timer_ns) {
        c->timer_ns = next;
        loop_timer_at(c->loop, &c->deadline_timer, next);
    }
    net_conn_leave(c);
}

/* --- Construction ----------------------------------------------------------------------------- */

static void fill_defaults(struct net_conn_options *o)
{
    o->max_requests = o->max_requests == 0 ? DEFAULT_REQUESTS : o->max_requests;
    o->max_send_bytes = o->max_send_bytes == 0 ? DEFAULT_SEND_BYTES : o->max_send_bytes;
    o->keepalive_ms = o->keepalive_ms == 0 ? DEFAULT_KEEPALIVE_MS : o->keepalive_ms;
    o->stall_ms = o->stall_ms == 0 ? DEFAULT_STALL_MS : o->stall_ms;
    o->first_body_max = o->first_body_max == 0 ? DEFAULT_FIRST_BODY : o->first_body_max;
}

static void add_counters(struct net_conn *c, struct stats *parent)
{
    c->stats = parent == NULL ? NULL : stats_new(parent, "connection");
    struct conn_counters *n = &c->counters;
    stats_add_counter(c->stats, "requests", &n->requests);
    stats_add_counter(c->stats, "responses", &n->responses);
    stats_add_counter(c->stats, "calls", &n->calls);
    stats_add_counter(c->stats, "late_answers", &n->late);
    stats_add_counter(c->stats, "pushes", &n->pushes);
    stats_add_counter(c->stats, "received_bytes", &n->received_bytes);
    stats_add_counter(c->stats, "sent_bytes", &n->sent_bytes);
    stats_add_counter(c->stats, "reads", &n->reads);
    stats_add_counter(c->stats, "writes", &n->writes);
    stats_add_counter(c->stats, "files_cached", &n->files_cached);
    stats_add_counter(c->stats, "files_cold", &n->files_cold);
    stats_add_counter(c->stats, "reading_paused", &n->pauses);
}

static void init_lists(struct net_conn *c)
{
    list_init(&c->rooms);
    list_init(&c->failed);
    list_init(&c->requests);
    list_init(&c->gone_requests);
    list_init(&c->idle_requests);
    for (unsigned i = 0; i < CONN_DEADLINE_CLASSES; i++) {
        list_init(&c->call_deadlines[i]);
        list_init(&c->request_deadlines[i]);
    }
}

int net_conn_new(const struct net_conn_options *opt, struct stream *s, struct net_conn **ret)
{
    struct net_conn *c = mem_zalloc(sizeof *c);
    if (c == NULL) {
        stream_close(s);
        return -ENOMEM;
    }
    c->env = opt->env;
    c->loop = opt->env->loop;
    c->user = opt->user;
    c->pool = opt->pool;
    c->opt = *opt;
    fill_defaults(&c->opt);
    c->own_share.refs = 1; /* goes with us */
    c->share = opt->share == NULL ? &c->own_share : opt->share;
    c->share->refs++;
    c->stream = s;
    c->writable = true;
    c->timer_ns = UINT64_MAX;
    c->slot_free = UINT32_MAX;
    c->events.ready = stream_ready;
    c->flush_task.run = flush_run;
    c->receive_task.run = receive_run;
    c->finish_task.run = finish_run;
    c->keepalive.fire = keepalive_fired;
    c->deadline_timer.fire = deadline_fired;
    c->drain_limit.fire = drain_limit_fired;
    c->buf_waiter.ready = net_conn_buf_ready;
    init_lists(c);
    add_counters(c, opt->stats);
    s->ops->peer(s, c->peer, sizeof c->peer);
    c->within_host = s->ops->within_host(s);
    loop_timer_lazy_in(c->loop, &c->keepalive, c->opt.keepalive_ms * NS_PER_MS);
    stream_attach(s, &c->events);
    *ret = c;
    return 0;
}

bool net_conn_is_open(const struct net_conn *c)
{
    return c->state == CONN_OPEN;
}

size_t net_conn_queued(const struct net_conn *c)
{
    return c->queued_bytes;
}

void net_conn_trust(struct net_conn *c)
{
    c->trusted = true;
}

void net_conn_never_pause(struct net_conn *c, struct buf_pool *pool)
{
    LOOP_OWNED(c->loop);
    CHECK(!c->trusted && c->data == NULL && !c->buf_waiter.queued);
    c->pool = pool;
    c->never_pauses = true;
}

bool net_conn_full(const struct net_conn *c)
{
    return c->queued_bytes > c->opt.max_send_bytes;
}

void net_conn_peer(const struct net_conn *c, char *out, size_t size)
{
    (void)snprintf(out, size, "%s", c->peer);
}

bool net_conn_within_host(const struct net_conn *c)
{
    return c->within_host;
}
