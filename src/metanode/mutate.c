/*
 * metanode/mutate.c -- the path of a client's mutation: session and slot (L7), the same function on
 * a snapshot (early answers, and what apply will read is warm), the log, the answer. Where all
 * records are in memory anyway, or nothing has been missing of late, apply is the first to look.
 *
 * At most one mutation of a slot is under way. The same one again attaches to it and gets the same
 * answer; what was answered before is answered from the slot's record by the state machine.
 */
#include "metanode/mutate_priv.h"

const struct peer_request *metanode_mutation_request(const struct metanode_mutation *u)
{
    return LIST_ENTRY(u->requests.next, struct mutation_request, node)->request;
}

/* Only here is it known whose end was applied before this: nobody may write while one of them still
 * can (L6). The answer is in the slot; the same question gets it when they are shut out. */
static bool mutation_must_wait(const struct metanode_mutation *u,
                               const struct namespace_reply *reply)
{
    bool writes = u->opcode == PROTO_OP_wopen || u->opcode == PROTO_OP_append_turn;
    return writes && reply->rc == 0 && u->m->cleanup.fences > 0;
}

/* A truncation by the rights waits for whoever writes; one that is gone does not come back (L5). */
static void mutation_press(struct metanode_mutation *u, const struct namespace_reply *reply)
{
    struct metanode_session *holder =
        u->opcode == PROTO_OP_setattr && reply->rc == -ERR_busy && reply->holder != 0
            ? metanode_session_find(u->m, reply->holder)
            : NULL;
    if (holder != NULL && metanode_session_is_lapsed(u->m, holder)) {
        metanode_session_expire(u->m, holder->id);
    }
}

void metanode_mutation_end(struct metanode_mutation *u, int rc, const struct namespace_reply *reply)
{
    struct metanode *m = u->m;
    struct metanode_session *s = metanode_session_find(m, u->session);
    metanode_consult_fini(u);
    metanode_turn_end(m, s);
    if (s != NULL && s->slot != NULL && u->slot < s->slots && s->slot[u->slot].busy == u) {
        s->slot[u->slot].busy = NULL;
    }
    struct list *node = u->requests.next;
    if (u->opcode == PROTO_OP_append_turn) {
        metanode_append_turned(m, u->session,
                               LIST_ENTRY(node, struct mutation_request, node)->request, rc, reply);
    }
    if (rc == 0) {
        mutation_press(u, reply);
    }
    while ((node = list_pop_front(&u->requests)) != NULL) {
        struct mutation_request *w = LIST_ENTRY(node, struct mutation_request, node);
        if (rc == 0 && s != NULL && mutation_must_wait(u, reply)) {
            metanode_refuse(m, s, w->request, -ERR_busy, "a lost writer is being shut out");
        } else if (rc == 0 && s != NULL) {
            metanode_answer(m, s, w->request, reply);
        } else {
            metanode_refuse(m, s, w->request, rc == 0 ? -ERR_session_expired : rc, NULL);
        }
    }
    stats_sample(&m->mutation_ns, loop_tick_ns(m->env->loop) - u->began_ns);
    mem_free(u->proposal);
    mem_free(u);
}

static void mutation_applied(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    struct metanode_mutation *u = container_of(w, struct metanode_mutation, waiter);
    if (metanode_consult_applied(u, rc, reply)) {
        metanode_mutation_check(u);
        return;
    }
    metanode_mutation_end(u, rc, reply);
}

void metanode_mutation_submit(struct metanode_mutation *u)
{
    struct metanode_proposal *p = u->proposal;
    u->proposal = NULL;
    u->waiter.done = mutation_applied;
    metanode_submit(p, &u->waiter);
}

static int mutation_check(struct metanode_read *r, const struct namespace_view *v)
{
    struct metanode_mutation *u = container_of(r, struct metanode_mutation, check);
    int rc = namespace_check(u->m->ns, v, u->proposal->bytes, u->proposal->len, u->m->scratch,
                             &u->reply);
    return rc == 0 && u->consult != NULL ? metanode_consult_read(u, v) : rc;
}

/* Is this verdict one that the state machine would not keep in the slot? Then it is final here. */
static bool mutation_is_early(int rc)
{
    return err_is(rc, EAGAIN) || rc == -ERR_bad_sequence || rc == -ERR_session_expired ||
           err_is(rc, EPROTO);
}

static void mutation_checked(struct metanode_read *r, int rc)
{
    struct metanode_mutation *u = container_of(r, struct metanode_mutation, check);
    if (u->m->warmth.cold) {
        metanode_warmth_note(&u->m->warmth, r->rounds > 0);
    }
    if (rc < 0) { /* of this machine: the slot knows nothing of it */
        metanode_mutation_end(u, err_is(rc, EAGAIN) ? rc : -ERR_busy, NULL);
        return;
    }
    if (u->reply.replayed || (u->reply.rc < 0 && mutation_is_early(u->reply.rc))) {
        stats_count(&u->m->replays, u->reply.replayed ? 1 : 0);
        metanode_mutation_end(u, 0, &u->reply);
        return;
    }
    if (!metanode_memory_allows(u->m, u->opcode)) {
        metanode_mutation_end(u, -ERR_busy, NULL);
    } else if (u->consult != NULL) {
        metanode_consult(u);
    } else {
        metanode_mutation_submit(u);
    }
}

void metanode_mutation_check(struct metanode_mutation *u)
{
    if (u->proposal == NULL) { /* not the first time */
        const struct peer_request *r = metanode_mutation_request(u);
        struct proto_bytes body = proto_bytes_of(r->wire->body, r->wire->body_len);
        if (metanode_command(u->m, u->opcode, body, NULL, &u->proposal) < 0) {
            metanode_mutation_end(u, -ERR_busy, NULL);
            return;
        }
    }
    u->check = (struct metanode_read){.run = mutation_check, .done = mutation_checked};
    metanode_read(u->m, &u->check);
}

static bool mutation_attach(struct metanode_mutation *u, struct peer_request *r)
{
    struct mutation_request *w = mem_arena_alloc(&r->arena, sizeof *w);
    if (w != NULL) {
        *w = (struct mutation_request){.request = r};
        list_push_back(&u->requests, &w->node);
    }
    return w != NULL;
}

static int mutation_start(struct metanode *m, struct metanode_session *s, struct peer_request *r,
                          const struct proto_op *op)
{
    if (s->slot == NULL) {
        s->slot = mem_calloc(s->slots, sizeof *s->slot);
    }
    struct metanode_mutation *u = mem_zalloc(sizeof *u);
    if (s->slot == NULL || u == NULL) {
        mem_free(u);
        return -ENOMEM;
    }
    u->m = m;
    u->session = op->session;
    u->slot = op->slot;
    u->sequence = op->sequence;
    u->crc = op->crc;
    u->opcode = r->message->opcode;
    u->began_ns = loop_tick_ns(m->env->loop);
    list_init(&u->requests);
    struct proto_bytes body = proto_bytes_of(r->wire->body, r->wire->body_len);
    int rc = metanode_command(m, r->message->opcode, body, NULL, &u->proposal);
    if (rc == 0 && !mutation_attach(u, r)) {
        rc = -ENOMEM;
    }
    rc = rc < 0 ? rc : metanode_consult_init(u);
    if (rc < 0) {
        mem_free(u->proposal);
        mem_free(u);
        return rc;
    }
    s->slot[op->slot].busy = u;
    metanode_turn_begin(m, s);
    bool warm = m->kv->resident || !m->warmth.cold;
    if (warm && u->consult == NULL && metanode_memory_allows(m, u->opcode)) {
        metanode_mutation_submit(u); /* apply says the same, and mostly waits for nothing */
    } else { /* was it done before? Then there is an answer, whatever else is short */
        metanode_mutation_check(u);
    }
    return 0;
}

/* Who writes it is known as that; with the end of that it is one of those who have it open. Before,
 * so that a removal that comes in between asks it in any case. */
static void mutation_stays_open(struct metanode *m, struct metanode_session *s,
                                const struct peer_request *r)
{
    const struct proto_commit_request *q = r->body;
    if (r->message->opcode == PROTO_OP_commit && (q->flags & PROTO_COMMIT_OPEN) != 0) {
        metanode_grant_claim(m, s, q->ino);
    }
}

void metanode_mutate(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_op *op = r->body; /* the first field of every mutation */
    struct metanode_session *s =
        metanode_admit(m, r) ? metanode_session_of(m, r, op->session) : NULL;
    if (s == NULL || !metanode_turn_take(m, s, r, metanode_mutate, true)) {
        return;
    }
    stats_count(&m->mutations, 1);
    if (op->slot >= s->slots) {
        metanode_refuse(m, s, r, -ERR_bad_sequence, "no such slot");
        return;
    }
    struct metanode_mutation *busy = s->slot == NULL ? NULL : s->slot[op->slot].busy;
    if (busy != NULL) {
        bool same = busy->sequence == op->sequence && busy->crc == op->crc;
        if (!same) {
            metanode_refuse(m, s, r, -ERR_bad_sequence, "another request of the slot is under way");
        } else if (!mutation_attach(busy, r)) {
            metanode_refuse(m, s, r, -ERR_busy, NULL);
        }
        return;
    }
    bool turn = r->message->opcode == PROTO_OP_append_turn;
    if ((turn || r->message->opcode == PROTO_OP_wopen) && m->cleanup.fences > 0) {
        metanode_refuse(m, s, r, -ERR_busy, "a lost writer is being shut out"); /* L6 */
        return;
    }
    if (turn && !metanode_append_take(m, s, r)) {
        return;
    }
    mutation_stays_open(m, s, r);
    int rc = mutation_start(m, s, r, op);
    if (rc < 0) {
        if (turn) {
            metanode_append_turned(m, s->id, r, rc, NULL);
        }
        metanode_refuse(m, s, r, rc == -ENOMEM ? -ERR_busy : rc, NULL);
    }
}
