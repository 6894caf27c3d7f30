#include "client/core_priv.h"

/*
 * Calls of the metadata service. A mutation has a slot from the first sending until its answer, so
 * that a retry, to whoever leads now, is recognised (coherence.md C5, L7). One that is given up
 * leaves its slot burning: slot_cancel makes sure that it can never run later; only then the slot
 * is used again.
 */

#define ATTEMPT_MS 15000u

struct client_burn {
    struct peer_call call;
    struct proto_slot_cancel_request request;
    struct opendfs *fs;
    uint64_t session_number;
};

static void call_send(struct client_call *c);
static void query_send(struct client_call *c);

static void slot_free(struct opendfs *fs, uint32_t slot)
{
    struct client_slot *s = &fs->session.slot[slot];
    CHECK(s->taken);
    s->taken = false;
    s->sequence++;
}

static void call_finish(struct client_call *c, const struct peer_reply *r)
{
    list_remove(&c->node);
    c->done(c, r);
}

static void burn_done(struct peer_call *call, const struct peer_reply *r)
{
    struct client_burn *b = container_of(call, struct client_burn, call);
    struct opendfs *fs = b->fs;
    bool current = b->session_number == fs->session.number;
    if ((!r->answered || err_is(r->rc, EAGAIN)) && current && !fs->freeing) {
        peer_call(fs->meta, &b->call);
        return;
    }
    if (r->rc >= 0 && current) {
        slot_free(fs, b->request.slot); /* a failure: the slot stays out of use */
        client_undo(fs, r->body);
    }
    mem_free(b);
    if (!fs->freeing) {
        client_slots_pump(fs);
    }
}

/* The mutation in this slot was given up; its outcome is open. */
static void slot_burn(struct opendfs *fs, uint32_t slot)
{
    struct client_burn *b = mem_zalloc(sizeof *b);
    if (b == NULL || fs->freeing) {
        mem_free(b);
        return;
    }
    b->fs = fs;
    b->session_number = fs->session.number;
    b->request = (struct proto_slot_cancel_request){.session = fs->session.id,
                                                    .slot = slot,
                                                    .sequence = fs->session.slot[slot].sequence,
                                                    .lease_epoch = fs->session.lease_epoch};
    b->call = (struct peer_call){.done = burn_done,
                                 .request = &b->request,
                                 .opcode = PROTO_OP_slot_cancel,
                                 .flags = PEER_CALL_AGAIN,
                                 .timeout_ms = ATTEMPT_MS};
    peer_call(fs->meta, &b->call);
}

static void call_leave_slot(struct client_call *c, bool settled)
{
    struct opendfs *fs = c->fs;
    bool same = c->slotted && c->session_number == fs->session.number;
    c->slotted = false;
    if (same && (settled || !c->doubtful)) {
        if (!settled) {
            fs->session.slot[c->slot].sequence--; /* was never used */
        }
        slot_free(fs, c->slot);
    } else if (same) {
        slot_burn(fs, c->slot);
    }
}

/* The metadata server takes no changes, or no session of this client, and has said so. */
static void call_finish_refused(struct client_call *c, int rc)
{
    const struct peer_reply r = {
        .rc = c->doubtful ? -ERR_unknown_outcome : rc, .answered = true, .unknown = c->doubtful};
    call_finish(c, &r);
}

static void slots_watch(struct opendfs *fs);

static void call_again_run(struct loop_task *t)
{
    struct client_call *c = container_of(t, struct client_call, again);
    if (c->cancelled) {
        const struct peer_reply r = {.rc = -ERR_cancelled};
        call_finish(c, &r);
        return;
    }
    if (c->no_session != 0) {
        call_leave_slot(c, false);
        call_finish_refused(c, c->no_session);
        return;
    }
    if (c->mutation && c->session_number != c->fs->session.number) {
        if (c->doubtful) {
            const struct peer_reply lost = {.rc = -ERR_unknown_outcome, .unknown = true};
            call_finish(c, &lost);
            return;
        }
        c->slotted = false;
        list_remove(&c->node);
        list_push_back(&c->fs->slot_queue, &c->node);
        client_slots_pump(c->fs);
        slots_watch(c->fs);
        return;
    }
    if (!c->mutation) {
        query_send(c);
        return;
    }
    call_send(c);
}

static bool call_late(const struct client_call *c)
{
    return c->deadline_ns != 0 && loop_now_ns(c->fs->loop) >= c->deadline_ns;
}

/* Without a session, or a slot, nobody asks a mutation whether its time is over. */
static void slots_late(struct loop_timer *t)
{
    struct opendfs *fs = container_of(t, struct opendfs, slot_timer);
    LIST_FOR_EACH(node, &fs->slot_queue)
    {
        struct client_call *c = LIST_ENTRY(node, struct client_call, node);
        if (!c->again.queued && call_late(c)) {
            c->no_session = -ERR_deadline;
            loop_defer(fs->loop, &c->again);
        }
    }
    slots_watch(fs);
}

static void slots_watch(struct opendfs *fs)
{
    uint64_t first = UINT64_MAX, now = loop_now_ns(fs->loop);
    LIST_FOR_EACH(node, &fs->slot_queue)
    {
        const struct client_call *c = LIST_ENTRY(node, struct client_call, node);
        if (c->deadline_ns != 0 && !c->again.queued) {
            first = base_min(first, c->deadline_ns);
        }
    }
    if (first != UINT64_MAX) {
        fs->slot_timer.fire = slots_late;
        loop_timer_in(fs->loop, &fs->slot_timer, first > now ? first - now : 0);
    }
}

/* Its session has gone. What may have happened there cannot be known any more. */
static void call_sessionless(struct client_call *c)
{
    const struct peer_reply lost = {.rc = -ERR_unknown_outcome, .unknown = true};
    client_session_expired(c->fs, c->session_number);
    if (c->mutation && c->doubtful) {
        call_finish(c, &lost);
        return;
    }
    stats_count(&c->fs->counters.retries, 1);
    loop_defer(c->fs->loop, &c->again);
}

/* The leader says whether it has counted the request as a renewal (L4). If it has not, the timer
 * of the session asks, and a client that was busy all the time learns that its lease is over. */
static bool call_renewed(const struct client_call *c, const struct peer_reply *r)
{
    const struct proto_trailer *first = r->body; /* of all but bare replies */
    return r->answered && r->rc == 0 && !c->bare && first->renewed;
}

static void call_landed(struct peer_call *call, const struct peer_reply *r)
{
    struct client_call *c = container_of(call, struct client_call, peer);
    struct opendfs *fs = c->fs;
    bool late = r->rc == -ERR_deadline; /* also as the server's word: it has heard, no more */
    c->doubtful = c->doubtful || r->unknown || late || c->peer.maybe_done;
    bool nameless = c->nameless;
    c->nameless = false;
    if (nameless && r->rc == -ERR_cancelled && !c->cancelled && !fs->freeing) {
        query_send(c);
        return;
    }
    if (call_renewed(c, r)) {
        fs->session.renewed_ns = loop_tick_ns(fs->loop);
    }
    bool expired = r->answered && r->rc == -ERR_session_expired && !fs->freeing;
    if (expired && (!call_late(c) || (c->mutation && c->doubtful))) {
        call_sessionless(c); /* late or not: it may have happened */
        return;
    }
    bool settled = r->answered && !late && !err_is(r->rc, EAGAIN);
    bool full = r->answered && r->rc == -ERR_log_full;
    int refused = full                                       ? -ERR_no_log_space
                  : !c->cancelled && r->rc == -ERR_cancelled ? c->no_session
                                                             : 0;
    bool hopeless = err_is(r->rc, EPERM) || err_is(r->rc, EACCES) || err_is(r->rc, EPROTO);
    if (!settled && !hopeless && refused == 0 && !c->cancelled && !fs->freeing && !call_late(c) &&
        r->rc != -EMSGSIZE && r->rc != -ENOMEM) {
        stats_count(&fs->counters.retries, 1);
        loop_defer(fs->loop, &c->again);
        return;
    }
    call_leave_slot(c, settled);
    if (refused != 0) {
        call_finish_refused(c, refused);
    } else {
        call_finish(c, r);
    }
    if (!fs->freeing) {
        client_slots_pump(fs);
    }
}

/* Who asks: of the session that there is now. */
static void call_name(struct client_call *c)
{
    const struct client_session *s = &c->fs->session;
    if (!c->mutation && !c->bare) {
        struct proto_caller *head = c->request;
        *head = (struct proto_caller){.session = s->id,
                                      .cred = client_identity_cred(c->fs, c->as),
                                      .lease_epoch = s->lease_epoch};
    }
    c->session_number = s->number;
}

void client_calls_rename(struct opendfs *fs)
{
    for (struct list *n = fs->calls.next; n != &fs->calls; n = n->next) {
        struct client_call *c = LIST_ENTRY(n, struct client_call, node);
        if (!c->mutation && client_identity_known(fs, c->as)) {
            call_name(c);
        } else if (!c->mutation) { /* it is back before it could be sent */
            c->nameless = true;
            peer_call_cancel(&c->peer);
        }
    }
}

static void call_send(struct client_call *c)
{
    struct opendfs *fs = c->fs;
    uint32_t limit_ms = ATTEMPT_MS;
    if (c->deadline_ns != 0) {
        uint64_t now = loop_now_ns(fs->loop);
        uint64_t left = c->deadline_ns > now ? (c->deadline_ns - now) / CLIENT_NS_PER_MS + 1 : 1;
        limit_ms = (uint32_t)base_min(left, ATTEMPT_MS);
    }
    call_name(c);
    c->peer.timeout_ms = limit_ms;
    c->peer.done = call_landed;
    peer_call(fs->meta, &c->peer);
}

static void call_init(struct opendfs *fs, struct client_call *c, uint16_t opcode, void *request)
{
    c->fs = fs;
    c->request = request;
    c->cancelled = false;
    c->doubtful = false;
    c->nameless = false;
    c->no_session = 0;
    c->slotted = false;
    c->deadline_ns =
        fs->timeout_ms == 0 ? 0 : loop_now_ns(fs->loop) + fs->timeout_ms * CLIENT_NS_PER_MS;
    c->session_number = fs->session.number;
    c->again = (struct loop_task){.run = call_again_run};
    c->peer = (struct peer_call){.request = request,
                                 .opcode = opcode,
                                 .flags = PEER_CALL_AGAIN,
                                 .give_back = ERR_log_full,
                                 .done = call_landed};
    list_init(&c->node);
}

void client_query(struct opendfs *fs, struct client_call *c, uint16_t opcode, void *request)
{
    LOOP_OWNED(fs->loop);
    call_init(fs, c, opcode, request);
    c->mutation = false;
    c->bare = false;
    query_send(c);
}

/* In the name of somebody whom the session does not know yet: that comes first. */
static void query_send(struct client_call *c)
{
    struct opendfs *fs = c->fs;
    bool known = client_identity_known(fs, c->as);
    list_remove(&c->node);
    list_push_back(known ? &fs->calls : &fs->identities.waiting, &c->node);
    if (known) {
        call_send(c);
    } else {
        client_identity_want(fs, c->as);
    }
}

void client_calls_named(struct opendfs *fs, const struct opendfs_identity *as, int rc, bool late)
{
    struct list *lists[] = {&fs->slot_queue, &fs->identities.waiting};
    for (size_t i = 0; i < ARRAY_COUNT(lists); i++) {
        LIST_FOR_EACH(node, lists[i])
        {
            struct client_call *c = LIST_ENTRY(node, struct client_call, node);
            if (c->as == as && !c->again.queued && (!late || call_late(c))) {
                c->no_session = rc;
                if (rc < 0 || !c->mutation) {
                    loop_defer(fs->loop, &c->again);
                }
            }
        }
    }
    client_slots_pump(fs);
}

void client_ask(struct opendfs *fs, struct client_call *c, uint16_t opcode, void *request)
{
    LOOP_OWNED(fs->loop);
    call_init(fs, c, opcode, request);
    c->mutation = false;
    c->bare = true;
    list_push_back(&fs->calls, &c->node);
    call_send(c);
}

void client_mutate(struct opendfs *fs, struct client_call *c, uint16_t opcode, void *request)
{
    LOOP_OWNED(fs->loop);
    call_init(fs, c, opcode, request);
    c->mutation = true;
    c->bare = false;
    list_push_back(&fs->slot_queue, &c->node);
    client_slots_pump(fs);
    if (!c->slotted && c->deadline_ns != 0) {
        slots_watch(fs);
    }
}

void client_call_cancel(struct client_call *c)
{
    if (c->done == NULL || list_empty(&c->node)) {
        return;
    }
    c->cancelled = true;
    if (!peer_call_active(&c->peer)) { /* waits for a slot, or a credential */
        loop_defer(c->fs->loop, &c->again);
    } else if (!c->mutation) {
        peer_call_cancel(&c->peer);
    }
}

void client_calls_no_session(struct opendfs *fs, int rc)
{
    struct list *lists[] = {&fs->slot_queue, &fs->calls, &fs->identities.waiting};
    for (size_t i = 0; i < ARRAY_COUNT(lists); i++) {
        LIST_FOR_EACH(node, lists[i])
        {
            struct client_call *c = LIST_ENTRY(node, struct client_call, node);
            c->no_session = rc;
            if (peer_call_active(&c->peer)) {
                peer_call_cancel(&c->peer);
            } else {
                loop_defer(fs->loop, &c->again);
            }
        }
    }
}

static bool slot_take(struct client_session *s, uint32_t *ret)
{
    for (uint32_t i = 0; i < s->slot_count; i++) {
        if (!s->slot[i].taken) {
            s->slot[i].taken = true;
            *ret = i;
            return true;
        }
    }
    return false;
}

void client_slots_pump(struct opendfs *fs)
{
    struct client_session *s = &fs->session;
    struct list *next = fs->slot_queue.next;
    while (s->state == SESSION_READY && next != &fs->slot_queue) {
        struct client_call *c = LIST_ENTRY(next, struct client_call, node);
        next = next->next;
        if (c->again.queued) {
            continue; /* about to be cancelled */
        }
        if (!client_identity_known(fs, c->as)) {
            client_identity_want(fs, c->as);
            continue;
        }
        if (!slot_take(s, &c->slot)) {
            break;
        }
        struct proto_op *head = c->request;
        *head = (struct proto_op){.session = s->id,
                                  .slot = c->slot,
                                  .sequence = s->slot[c->slot].sequence,
                                  .unanswered = s->slot[c->slot].sequence,
                                  .cred = client_identity_cred(fs, c->as),
                                  .lease_epoch = s->lease_epoch};
        c->session_number = s->number;
        c->slotted = true;
        list_remove(&c->node);
        list_push_back(&fs->calls, &c->node);
        call_send(c);
    }
}

void client_slots_reset(struct opendfs *fs)
{
    for (uint32_t i = 0; i < CLIENT_SLOTS; i++) {
        fs->session.slot[i] = (struct client_slot){.sequence = 1};
    }
}

void client_calls_fini(struct opendfs *fs)
{
    const struct peer_reply r = {.rc = -ERR_cancelled};
    struct list *lists[] = {&fs->slot_queue, &fs->calls, &fs->identities.waiting};
    loop_timer_cancel(fs->loop, &fs->slot_timer);
    for (size_t i = 0; i < ARRAY_COUNT(lists); i++) {
        while (!list_empty(lists[i])) {
            struct client_call *c = LIST_ENTRY(lists[i]->next, struct client_call, node);
            loop_undefer(fs->loop, &c->again);
            call_finish(c, &r);
        }
    }
}
