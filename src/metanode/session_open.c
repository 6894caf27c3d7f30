#include "metanode/metanode_priv.h"

/* Messages about sessions: begin, go on, end; credentials; slots; renewals. */

/* A logged request that has no slot of its own. */
struct session_command {
    struct metanode_waiter waiter;
    struct metanode *m;
    struct peer_request *request;
};

static uint64_t session_new_epoch(struct metanode *m)
{
    return ++m->epochs;
}

void metanode_session_bind(struct metanode *m, struct metanode_session *s, struct peer_request *r,
                           uint64_t generation)
{
    s->generation = generation;
    s->lapsed = false;
    s->renewed_ns = metanode_now(m);
    s->lease_epoch = session_new_epoch(m);
    if (r->link != NULL) {
        s->link = r->link;
        peer_server_name_session(m->server, r->link, s->id, generation);
    }
}

static void session_answer_open(struct session_command *c, const struct namespace_reply *reply)
{
    struct metanode *m = c->m;
    const struct proto_session_open_request *q = c->request->body;
    struct metanode_session *s;
    int rc = metanode_session_add(m, reply->session, &s);
    if (rc < 0) {
        metanode_refuse(m, NULL, c->request, -ERR_busy, NULL);
        return;
    }
    s->slots = reply->slots;
    s->verifier = q->verifier;
    s->flags = q->flags;
    uint64_t generation = c->request->link == NULL ? 0 : c->request->link->generation;
    metanode_session_bind(m, s, c->request, base_max(generation, s->generation));
    struct proto_session_open_reply answer = {.trailer = metanode_trailer(m, s),
                                              .session = s->id,
                                              .slots = s->slots,
                                              .lease_ms = (uint32_t)m->opt.lease_ms,
                                              .clock_ppm = METANODE_CLOCK_PPM,
                                              .kernel_ms = 0};
    peer_request_answer(c->request, &answer, NULL);
}

static void session_answer_cancel(struct session_command *c, const struct namespace_reply *reply)
{
    const struct proto_slot_cancel_request *q = c->request->body;
    struct metanode_session *s = metanode_session_find(c->m, q->session);
    struct proto_slot_cancel_reply answer = {.was_done = reply->was_done};
    struct proto_trailer none = {0};
    uint8_t *bytes = mem_arena_alloc(&c->request->arena, 4096);
    if (s == NULL || bytes == NULL) {
        metanode_refuse(c->m, s, c->request, s == NULL ? -ERR_session_expired : -ERR_busy, NULL);
        return;
    }
    answer.trailer = metanode_trailer(c->m, s);
    if (reply->was_done) {
        struct wire_writer w = wire_writer_over(bytes, 4096);
        struct namespace_reply stored = *reply; /* as it was answered, or would have been */
        stored.kind = reply->result.opcode;
        answer.opcode = reply->result.opcode;
        answer.rc = reply->result.rc;
        if (answer.rc == 0 && namespace_reply_encode(&stored, &none, NULL, &w) == 0) {
            answer.body = proto_bytes_of(bytes, w.len);
        }
    }
    peer_request_answer(c->request, &answer, NULL);
}

static void session_answer_credential(struct session_command *c,
                                      const struct namespace_reply *reply)
{
    const struct proto_credential_request *q = c->request->body;
    struct metanode_session *s = metanode_session_find(c->m, q->session);
    if (s == NULL) {
        metanode_refuse(c->m, NULL, c->request, -ERR_session_expired, NULL);
        return;
    }
    struct proto_credential_reply answer = {.trailer = metanode_trailer(c->m, s),
                                            .cred = reply->id};
    peer_request_answer(c->request, &answer, NULL);
}

static void session_command_done(struct metanode_waiter *w, int rc,
                                 const struct namespace_reply *reply)
{
    struct session_command *c = container_of(w, struct session_command, waiter);
    struct proto_session_close_reply closed = {};
    rc = rc == 0 ? reply->rc : rc;
    if (rc < 0) {
        metanode_refuse(c->m, NULL, c->request, rc, NULL);
        return;
    }
    switch (c->request->message->opcode) {
    case PROTO_OP_session_open:
        session_answer_open(c, reply);
        break;
    case PROTO_OP_slot_cancel:
        session_answer_cancel(c, reply);
        break;
    case PROTO_OP_credential:
        session_answer_credential(c, reply);
        break;
    default:
        CHECK(c->request->message->opcode == PROTO_OP_session_close);
        peer_request_answer(c->request, &closed, NULL);
        break;
    }
}

static void session_propose(struct metanode *m, struct metanode_session *s, struct peer_request *r)
{
    struct metanode_proposal *p;
    struct session_command *c = mem_arena_alloc(&r->arena, sizeof *c); /* goes with the request */
    int rc = c == NULL
                 ? -ENOMEM
                 : metanode_command(m, r->message->opcode,
                                    proto_bytes_of(r->wire->body, r->wire->body_len), NULL, &p);
    if (rc < 0) {
        metanode_refuse(m, s, r, rc == -ENOMEM ? -ERR_busy : rc, NULL);
        return;
    }
    *c = (struct session_command){.m = m, .request = r, .waiter.done = session_command_done};
    metanode_submit(p, &c->waiter);
}

void metanode_session_open(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    if (!metanode_admit(m, r)) {
        return;
    }
    if (!metanode_memory_allows(m, r->message->opcode)) {
        metanode_refuse(m, NULL, r, -ERR_busy, NULL);
        return;
    }
    session_propose(m, NULL, r);
}

void metanode_session_close(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    if (metanode_admit(m, r)) {
        session_propose(m, NULL, r); /* the verifier says who may */
    }
}

void metanode_credential(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_credential_request *q = r->body;
    struct metanode_session *s =
        metanode_admit(m, r) ? metanode_session_of(m, r, q->session) : NULL;
    if (s == NULL) {
        return;
    }
    if (!metanode_memory_allows(m, r->message->opcode)) {
        metanode_refuse(m, s, r, -ERR_busy, NULL);
        return;
    }
    session_propose(m, s, r);
}

void metanode_slot_cancel(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_slot_cancel_request *q = r->body;
    struct metanode_session *s =
        metanode_admit(m, r) ? metanode_session_of(m, r, q->session) : NULL;
    if (s != NULL) {
        session_propose(m, s, r);
    }
}

void metanode_session_resume(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_session_resume_request *q = r->body;
    if (!metanode_admit(m, r)) {
        return;
    }
    struct metanode_session *s = metanode_session_find(m, q->session);
    if (s == NULL) {
        metanode_refuse(m, NULL, r, -ERR_session_expired, NULL);
        return;
    }
    if (s->verifier != q->verifier) {
        metanode_refuse(m, NULL, r, -EPERM, "the session is another client's");
        return;
    }
    if (s->expiring || q->generation < s->generation) {
        metanode_refuse(m, NULL, r, s->expiring ? -ERR_busy : -ERR_closed,
                        s->expiring ? NULL : "a newer connection has come");
        return;
    }
    /* What another leader knew to be open here has to be claimed; nothing is cached that another
     * epoch would forbid, so a new one begins at once. */
    bool must_reclaim = s->unclaimed || s->grants_lost || s->lapsed;
    metanode_session_bind(m, s, r, q->generation);
    metanode_writers_resumed(m, s->id);
    metanode_orphans_confirm(m, s); /* what it was told on the old connection may be lost */
    struct proto_session_resume_reply answer = {
        .trailer = metanode_trailer(m, s), .must_reclaim = must_reclaim, .slots = s->slots};
    peer_request_answer(r, &answer, NULL);
}

void metanode_renew(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_renew_request *q = r->body;
    struct metanode_session *s =
        metanode_admit(m, r) ? metanode_session_of(m, r, q->session) : NULL;
    if (s != NULL) {
        for (size_t i = 0; i < q->closed.count && s->link == r->link; i++) {
            metanode_grant_return(m, s->id, q->closed.at[i]);
        }
        struct proto_renew_reply answer = {.trailer = metanode_trailer(m, s)};
        peer_request_answer(r, &answer, NULL);
    }
}

/* No push of this leader lets an answer be deferred, so nothing can be late. */
void metanode_inval_done(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_inval_done_request *q = r->body;
    struct metanode_session *s =
        metanode_admit(m, r) ? metanode_session_of(m, r, q->session) : NULL;
    if (s != NULL) {
        struct proto_inval_done_reply answer = {.trailer = metanode_trailer(m, s)};
        peer_request_answer(r, &answer, NULL);
    }
}
