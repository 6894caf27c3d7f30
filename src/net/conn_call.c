/*
 * net/conn_call.c -- our calls: slots, answers, cancel, deadline.
 *
 * A slot is given back when the response frame has come, not when the caller stopped waiting; see
 * conn_priv.h.
 */
#include "net/conn_priv.h"

#include "base/mem.h"

#include <string.h>

#define DEFAULT_TIMEOUT_MS 30000u
#define FIRST_SLOTS 32u
#define NS_PER_MS UINT64_C(1000000)

enum { CALL_IDLE, CALL_IN_FLIGHT, CALL_FAILED };

static int slots_grow(struct net_conn *c)
{
    uint32_t count = c->slot_count == 0 ? FIRST_SLOTS : c->slot_count * 2;
    if (count > CONN_CALLS_MAX) {
        return -ERR_busy;
    }
    struct conn_slot *slot = mem_calloc(count, sizeof *slot);
    if (slot == NULL) {
        return -ENOMEM;
    }
    if (c->slot_count > 0) {
        memcpy(slot, c->slot, c->slot_count * sizeof *slot);
    }
    for (uint32_t i = count; i > c->slot_count; i--) {
        slot[i - 1] = (struct conn_slot){.id = i - 1, .next_free = c->slot_free};
        c->slot_free = i - 1;
    }
    mem_free(c->slot);
    c->slot = slot;
    c->slot_count = count;
    return 0;
}

static struct conn_slot *slot_of(const struct net_conn *c, uint32_t id)
{
    uint32_t i = id & CONN_SLOT_MASK;
    bool mine = i < c->slot_count && c->slot[i].in_use && c->slot[i].id == id;
    return mine ? &c->slot[i] : NULL;
}

static int slot_take(struct net_conn *c, struct net_conn_call *call)
{
    if (c->slot_free == UINT32_MAX) {
        int rc = slots_grow(c);
        if (rc < 0) {
            return rc;
        }
    }
    struct conn_slot *s = &c->slot[c->slot_free];
    c->slot_free = s->next_free;
    s->id += CONN_CALLS_MAX; /* the next generation; wraps after a million uses */
    s->call = call;
    s->in_use = true;
    s->data_unsent = call->data_count > 0;
    call->id = s->id;
    return 0;
}

static void slot_give(struct net_conn *c, struct conn_slot *s)
{
    s->in_use = false;
    s->call = NULL;
    s->next_free = c->slot_free;
    c->slot_free = s->id & CONN_SLOT_MASK;
}

/* `done` comes from the loop. */
static void fail_later(struct net_conn *c, struct net_conn_call *call, int rc)
{
    call->state = CALL_FAILED;
    call->id = (uint32_t)-rc;
    list_push_back(&c->failed, &call->node);
    net_conn_finish_later(c);
}

static int refusal(const struct net_conn *c)
{
    switch (c->state) {
    case CONN_OPEN:
        return net_conn_full(c) ? -ERR_busy : 0;
    case CONN_DRAINING:
    case CONN_CLOSED:
        return -ERR_closed;
    }
    return -ERR_closed;
}

static int put_call(struct net_conn *c, const struct net_conn_call *call, uint32_t timeout_ms)
{
    struct wire_frame f = {.kind = FRAME_REQUEST,
                           .opcode = call->opcode,
                           .id = call->id,
                           .deadline_ms = timeout_ms,
                           .body_len = (uint32_t)call->body_len,
                           .trace = call->trace};
    for (unsigned i = 0; i < call->data_count; i++) {
        f.data_len += (uint32_t)call->data[i].len;
    }
    CHECK(call->body_len <= FRAME_BODY_MAX && f.data_len <= FRAME_DATA_MAX);
    int rc = net_conn_put_frame(c, &f, call->body);
    for (unsigned i = 0; i < call->data_count && rc == 0; i++) {
        rc = net_conn_put_slice(c, &call->data[i], call->id);
    }
    if (rc == 0 && call->data_count > 0) {
        const struct conn_piece end = {
            .kind = CONN_END, .call_id = call->id, .u.end.of_call = true};
        rc = net_conn_put_end(c, &end);
    }
    return rc;
}

void net_conn_call(struct net_conn *c, struct net_conn_call *call)
{
    LOOP_OWNED(c->loop);
    CHECK(!c->freed && call->state == CALL_IDLE);
    CHECK(call->done != NULL && call->data_count <= CONN_SLICES);
    uint32_t timeout_ms = call->timeout_ms == 0 ? DEFAULT_TIMEOUT_MS : call->timeout_ms;
    call->conn = c;
    call->sent_ns = loop_tick_ns(c->loop);
    call->deadline_ns = call->sent_ns + timeout_ms * NS_PER_MS;
    c->calls_active++;
    int rc = refusal(c);
    if (rc == 0) {
        rc = slot_take(c, call);
        rc = rc == -ENOMEM ? -ERR_busy : rc;
    }
    if (rc < 0) {
        fail_later(c, call, rc);
        return;
    }
    stats_count(&c->counters.calls, 1);
    call->state = CALL_IN_FLIGHT;
    net_conn_deadline_add(c, false, &call->node, timeout_ms);
    rc = put_call(c, call, timeout_ms);
    if (rc < 0) {
        net_conn_fail(c, rc, "no memory to send a request"); /* a frame may be half queued */
        return;
    }
    net_conn_flush_soon(c);
}

/* The caller stops waiting; what the queue still has of its memory is made our own. */
static void abandon(struct net_conn *c, struct net_conn_call *call, struct conn_slot *s)
{
    list_remove(&call->node);
    if (s->data_unsent && c->state != CONN_CLOSED) {
        net_conn_detach_call_data(c, s->id);
    }
    s->call = NULL;
}

static void call_end(struct net_conn *c, struct net_conn_call *call, const struct net_conn_reply *r)
{
    call->state = CALL_IDLE;
    call->conn = NULL;
    c->calls_active--;
    call->done(call, r);
}

void net_conn_call_expire(struct net_conn *c, struct net_conn_call *call)
{
    abandon(c, call, slot_of(c, call->id));
    const struct net_conn_reply r = {.rc = -ERR_deadline};
    call_end(c, call, &r);
}

void net_conn_call_cancel(struct net_conn_call *call)
{
    struct net_conn *c = call->conn;
    if (call->state != CALL_IN_FLIGHT) {
        return;
    }
    LOOP_OWNED(c->loop);
    struct wire_frame f = {
        .kind = FRAME_CANCEL, .opcode = call->opcode, .id = call->id, .trace = call->trace};
    abandon(c, call, slot_of(c, call->id));
    fail_later(c, call, -ERR_cancelled);
    if (c->state == CONN_CLOSED) {
        return;
    }
    int rc = net_conn_put_frame(c, &f, NULL);
    if (rc < 0) {
        net_conn_fail(c, rc, "no memory to send a cancel");
        return;
    }
    net_conn_flush_soon(c);
}

bool net_conn_call_waits(const struct net_conn *c, uint32_t id)
{
    const struct conn_slot *s = slot_of(c, id);
    return s != NULL && s->call != NULL;
}

void net_conn_call_sent(struct net_conn *c, uint32_t id)
{
    struct conn_slot *s = slot_of(c, id);
    if (s != NULL) {
        s->data_unsent = false;
    }
}

void net_conn_call_answered(struct net_conn *c, const struct net_conn_reply *r)
{
    struct conn_slot *s = slot_of(c, c->frame.id);
    struct net_conn_call *call = s == NULL ? NULL : s->call;
    if (call == NULL) {
        stats_count(&c->counters.late, 1);
    } else {
        abandon(c, call, s);
    }
    if (s != NULL) {
        slot_give(c, s);
    }
    if (call != NULL) {
        call_end(c, call, r);
    }
}

/* Pops from the connection's own lists, one by one: a callback may cancel others, or free the
 * connection, which then tells the rest from inside. */
void net_conn_calls_run_failed(struct net_conn *c)
{
    size_t due = 0; /* those that are added meanwhile have their turn later */
    LIST_FOR_EACH(at, &c->failed)
    {
        due++;
    }
    struct list *at = NULL;
    for (; due > 0 && (at = list_pop_front(&c->failed)) != NULL; due--) {
        struct net_conn_call *call = LIST_ENTRY(at, struct net_conn_call, node);
        const struct net_conn_reply r = {.rc = -(int)call->id};
        call_end(c, call, &r);
    }
}

void net_conn_calls_fail(struct net_conn *c)
{
    struct list *at = NULL;
    for (unsigned i = 0; i < CONN_DEADLINE_CLASSES; i++) {
        while ((at = list_pop_front(&c->call_deadlines[i])) != NULL) {
            struct net_conn_call *call = LIST_ENTRY(at, struct net_conn_call, node);
            slot_of(c, call->id)->call = NULL;
            const struct net_conn_reply r = {.rc = -ERR_closed};
            call_end(c, call, &r);
        }
    }
    while (c->freed && !list_empty(&c->failed)) {
        net_conn_calls_run_failed(c);
    }
}
