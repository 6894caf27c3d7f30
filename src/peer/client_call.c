/*
 * peer/client_call.c -- calls: queues, sending, and what becomes of one that failed.
 *
 * A call is in exactly one place: the queue of its slot, resting (it failed and goes again later),
 * in flight on a link, or failed and about to say so. Its timer runs while it waits only; in flight
 * the connection keeps the time.
 */
#include "peer/client_priv.h"

#define DEFAULT_TIMEOUT_MS 30000u
#define HINT_MAX_MS 10000u
#define NS_PER_MS UINT64_C(1000000)

enum { CALL_IDLE, CALL_QUEUED, CALL_RESTING, CALL_FLYING, CALL_FAILED };

static void call_finish(struct peer_call *c, const struct peer_reply *r)
{
    struct peer_reply told = *r;
    told.unknown = r->unknown || (!r->answered && c->maybe_done);
    stats_count(&c->peer->counters.unknown, told.unknown ? 1 : 0);
    c->state = CALL_IDLE;
    c->peer = NULL;
    c->done(c, &told);
}

static void call_failed_run(struct loop_task *t)
{
    struct peer_call *c = container_of(t, struct peer_call, task);
    const struct peer_reply r = {.rc = c->rc};
    list_remove(&c->node);
    call_finish(c, &r);
}

/* Out of whatever list it waits in. */
static void call_unwait(struct peer_call *c)
{
    struct peer *p = c->peer;
    CHECK(c->state == CALL_QUEUED || c->state == CALL_RESTING);
    list_remove(&c->node);
    loop_timer_cancel(p->loop, &c->timer);
    p->waiting--;
}

/* `done` comes from the loop. In in_flight meanwhile, so that peer_free finds it. */
static void call_fail_later(struct peer_call *c, int rc)
{
    struct peer *p = c->peer;
    c->state = CALL_FAILED;
    c->rc = rc;
    c->task.run = call_failed_run;
    list_push_back(&p->in_flight, &c->node);
    loop_defer(p->loop, &c->task);
}

static uint64_t left_ms(const struct peer_call *c)
{
    uint64_t now = loop_tick_ns(c->peer->loop);
    return now >= c->deadline_ns ? 0 : (c->deadline_ns - now - 1) / NS_PER_MS + 1;
}

static int call_late_code(const struct peer_call *c)
{
    const struct peer *p = c->peer;
    return p->slot[0].state == SLOT_UP ? -ERR_deadline : -ERR_unavailable;
}

static void call_queue(struct peer_call *c)
{
    struct peer *p = c->peer;
    struct peer_slot *s = &p->slot[c->slot];
    c->state = CALL_QUEUED;
    p->waiting++;
    list_push_back((c->flags & PEER_CALL_EARLY) != 0 ? &s->early : &s->queue, &c->node);
    if (c->deadline_ns != UINT64_MAX) {
        loop_timer_at(p->loop, &c->timer, c->deadline_ns);
    }
}

/* Time is up in the queue, or the rest is over. */
static void call_timer_fired(struct loop_timer *t)
{
    struct peer_call *c = container_of(t, struct peer_call, timer);
    struct peer *p = c->peer;
    bool resting = c->state == CALL_RESTING;
    call_unwait(c);
    if (left_ms(c) == 0) {
        const struct peer_reply r = {.rc = call_late_code(c)};
        call_finish(c, &r);
        return;
    }
    CHECK(resting);
    call_queue(c);
    peer_slot_pump(&p->slot[c->slot]);
}

/* The server's own word on when to come back is a minimum; those who got it together do not come
 * together. */
static uint64_t rest_ns(const struct peer_call *c, const struct peer_reply *r)
{
    uint64_t hint_ms = r->failure == NULL ? 0 : base_min(r->failure->retry_ms, HINT_MAX_MS);
    uint64_t half = base_max(c->wait_ms, hint_ms) * NS_PER_MS / 2;
    uint64_t least = base_max(half, hint_ms * NS_PER_MS);
    return least + (half == 0 ? 0 : loop_random(c->peer->loop) % half);
}

/* Again after a while, or never when its time would be up. */
static void call_rest(struct peer_call *c, const struct peer_reply *r)
{
    struct peer *p = c->peer;
    uint64_t delay = rest_ns(c, r);
    uint64_t at_ns = loop_now_ns(p->loop) + delay;
    if (at_ns >= c->deadline_ns) {
        call_finish(c, r);
        return;
    }
    stats_count(&p->counters.retries, 1);
    c->wait_ms = base_min(c->wait_ms * 2, p->opt.rest_max_ms);
    c->state = CALL_RESTING;
    p->waiting++;
    list_push_back(&p->resting, &c->node);
    loop_timer_at(p->loop, &c->timer, at_ns);
}

/* On the next link, which sends what is queued when it is up. */
static void call_again(struct peer_call *c, const struct peer_reply *r)
{
    c->maybe_done = c->maybe_done || r->unknown;
    if ((c->flags & PEER_CALL_AGAIN) == 0) {
        call_finish(c, r);
        return;
    }
    if (left_ms(c) == 0) {
        const struct peer_reply late = {.rc = -ERR_deadline};
        call_finish(c, &late);
        return;
    }
    stats_count(&c->peer->counters.retries, 1);
    call_queue(c);
}

/* The server answered with a failure. */
static void call_refused(struct peer_call *c, const struct peer_reply *r)
{
    struct peer *p = c->peer;
    if (p->opt.wants_leader && err_is(r->rc, ERR_redirect)) {
        peer_follow(p, r->failure->leader, r->failure->term);
        call_rest(c, r); /* short at first: until there is a link it waits in the queue */
        return;
    }
    bool given_back = c->give_back != 0 && r->rc == -c->give_back;
    if (err_is(r->rc, EAGAIN) && (c->flags & PEER_CALL_RAW) == 0 && !given_back) {
        call_rest(c, r);
        return;
    }
    call_finish(c, r);
}

static void call_landed(struct peer_call *c, const struct peer_reply *r)
{
    struct peer *p = c->peer;
    list_remove(&c->node);
    bool failed = r->rc < 0 && !p->closing;
    if (failed && r->answered) {
        call_refused(c, r);
    } else if (failed && r->rc == -ERR_busy) { /* the connection has no room: never sent */
        call_rest(c, r);
    } else if (failed && r->rc == -ERR_closed) {
        call_again(c, r);
    } else if (failed && r->rc == -ERR_deadline && c->timeout_ms == PEER_FOREVER) {
        peer_drop_link(p, c->slot, "an answer is late");
        call_again(c, r);
    } else {
        call_finish(c, r);
    }
}

/* `c` waits nowhere. */
static void call_send(struct peer_slot *s, struct peer_call *c)
{
    uint64_t left = left_ms(c);
    if (left == 0) {
        call_fail_later(c, call_late_code(c));
        return;
    }
    c->state = CALL_FLYING;
    c->landed = call_landed;
    list_push_back(&s->peer->in_flight, &c->node);
    uint32_t whole_ms = c->timeout_ms;
    c->timeout_ms = (uint32_t)base_min(left, whole_ms == PEER_FOREVER ? DEFAULT_TIMEOUT_MS : left);
    peer_link_call(&s->link, c);
    c->timeout_ms = whole_ms;
}

static struct list *slot_next(struct peer_slot *s)
{
    if (!list_empty(&s->early)) {
        return s->early.next;
    }
    return s->peer->gate_open && !list_empty(&s->queue) ? s->queue.next : NULL;
}

void peer_slot_pump(struct peer_slot *s)
{
    struct peer *p = s->peer;
    struct list *at;
    bool wanted = !list_empty(&s->queue);
    if (s->number > 0 && s->state == SLOT_DOWN && wanted && p->slot[0].state == SLOT_UP &&
        p->gate_open) {
        peer_slot_connect(s);
        return;
    }
    while (s->state == SLOT_UP && net_conn_is_open(s->conn) && (at = slot_next(s)) != NULL) {
        if (net_conn_full(s->conn)) {
            net_conn_unwait_room(s->conn, &s->room);
            net_conn_wait_room(s->conn, &s->room);
            return;
        }
        struct peer_call *c = LIST_ENTRY(at, struct peer_call, node);
        call_unwait(c);
        call_send(s, c);
    }
}

/* Nothing stands before it: no need to queue it, and to set its timer, for an instant. */
static bool may_go_at_once(const struct peer_slot *s, const struct peer_call *c)
{
    bool gate = s->peer->gate_open || (c->flags & PEER_CALL_EARLY) != 0;
    return s->state == SLOT_UP && gate && list_empty(&s->early) && list_empty(&s->queue) &&
           net_conn_is_open(s->conn) && !net_conn_full(s->conn);
}

void peer_call(struct peer *p, struct peer_call *c)
{
    LOOP_OWNED(p->loop);
    CHECK(c->state == CALL_IDLE && c->done != NULL && c->slot <= p->opt.bulk_count);
    CHECK((c->flags & PEER_CALL_EARLY) == 0 || c->slot == 0);
    stats_count(&p->counters.calls, 1);
    uint64_t timeout_ms = c->timeout_ms == 0 ? DEFAULT_TIMEOUT_MS : c->timeout_ms;
    c->peer = p;
    c->maybe_done = false;
    c->wait_ms = p->opt.rest_min_ms;
    c->deadline_ns =
        timeout_ms == PEER_FOREVER ? UINT64_MAX : loop_now_ns(p->loop) + timeout_ms * NS_PER_MS;
    c->timer.fire = call_timer_fired;
    list_init(&c->node);
    if (p->waiting >= p->opt.max_queued) {
        stats_count(&p->counters.refused, 1);
        call_fail_later(c, -ERR_busy);
        return;
    }
    if (p->refusal < 0) {
        call_fail_later(c, p->refusal);
        return;
    }
    if ((c->flags & PEER_CALL_LINKED) != 0 && p->slot[0].state != SLOT_UP) {
        call_fail_later(c, -ERR_unavailable);
        return;
    }
    struct peer_slot *s = &p->slot[c->slot];
    if (may_go_at_once(s, c)) {
        call_send(s, c);
        return;
    }
    call_queue(c);
    peer_slot_pump(s);
}

bool peer_call_active(const struct peer_call *c)
{
    return c->state != CALL_IDLE;
}

void peer_call_cancel(struct peer_call *c)
{
    switch (c->state) {
    case CALL_QUEUED:
    case CALL_RESTING:
        call_unwait(c);
        call_fail_later(c, -ERR_cancelled);
        break;
    case CALL_FLYING:
        net_conn_call_cancel(&c->wire);
        break;
    default: /* idle, or about to say that it failed */
        break;
    }
}

static void fail_list(struct list *l, int rc)
{
    struct list due, *at;
    list_init(&due);
    list_splice_back(&due, l);
    while ((at = list_pop_front(&due)) != NULL) {
        list_push_front(&due, at); /* call_unwait takes it out */
        struct peer_call *c = LIST_ENTRY(at, struct peer_call, node);
        call_unwait(c);
        call_fail_later(c, rc);
    }
}

void peer_calls_fail_waiting(struct peer *p, int rc)
{
    for (unsigned i = 0; i <= p->opt.bulk_count; i++) {
        fail_list(&p->slot[i].early, rc);
        fail_list(&p->slot[i].queue, rc);
    }
    fail_list(&p->resting, rc);
}

static void fail_linked(struct list *l)
{
    for (struct list *at = l->next, *next; at != l; at = next) {
        struct peer_call *c = LIST_ENTRY(at, struct peer_call, node);
        next = at->next;
        if ((c->flags & PEER_CALL_LINKED) != 0) {
            call_unwait(c);
            call_fail_later(c, -ERR_unavailable);
        }
    }
}

void peer_calls_fail_linked(struct peer *p)
{
    for (unsigned i = 0; i <= p->opt.bulk_count; i++) {
        fail_linked(&p->slot[i].early);
        fail_linked(&p->slot[i].queue);
    }
    fail_linked(&p->resting);
}

/* Those in flight on a link are failed by their connection when it is freed. */
void peer_calls_fini(struct peer *p)
{
    peer_calls_fail_waiting(p, -ERR_closed);
    for (struct list *at = p->in_flight.next; at != &p->in_flight;) {
        struct peer_call *c = LIST_ENTRY(at, struct peer_call, node);
        if (c->state != CALL_FAILED && !c->task.queued) {
            at = at->next;
            continue;
        }
        loop_undefer(p->loop, &c->task);
        c->rc = -ERR_closed;
        call_failed_run(&c->task);
        at = p->in_flight.next; /* `done` may have done anything */
    }
}
