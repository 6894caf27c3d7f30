/* client/fake_lease_priv.h -- for tests only: small queries of fake_priv.h, and write authority
 * that goes back (coherence.md section 6). */
#pragma once

#include "client/fake_query_priv.h"

static inline void fake_credential(struct peer_user *u, struct peer_request *r)
{
    const struct proto_credential_request *q = r->body;
    struct fake_cluster *c = fake_of(u);
    CHECK(fake_session(c, q->session) != NULL && c->people.count < ARRAY_COUNT(c->people.cred));
    const struct fake_fault *f = &c->meta_fault;
    c->people.registered++;
    if (f->count > 0 && c->meta_fault_op == PROTO_OP_credential) {
        peer_request_fail(r, f->rc, NULL);
        return;
    }
    const struct proto_credential_reply m = {.trailer = fake_trailer,
                                             .cred = FAKE_CRED + c->people.count};
    c->people.cred[c->people.count].uid = q->uid;
    c->people.cred[c->people.count].gid = q->gid;
    c->people.cred[c->people.count++].group_count = q->groups.count;
    peer_request_answer(r, &m, NULL);
}
static inline void fake_getattr(struct peer_user *u, struct peer_request *r)
{
    const struct proto_getattr_request *q = r->body;
    struct fake_people *p = &fake_of(u)->people;
    p->asked_by = p->cred[q->caller.cred - FAKE_CRED].uid;
    const struct fake_inode *n = fake_find(fake_of(u), q->ino);
    if (n == NULL) {
        peer_request_fail(r, -ENOENT, NULL);
        return;
    }
    struct proto_getattr_reply m = {.attr = n->attr, .layout = n->layout, .parent = n->parent};
    m.trimming = fake_of(u)->trimming;
    m.attr.size = base_max(m.attr.size, fake_of(u)->remote_size);
    peer_request_answer(r, &m, NULL);
}
static inline void fake_lookup_asked(struct peer_user *u, struct peer_request *r)
{
    const struct proto_lookup_request *q = r->body;
    const struct fake_inode *n = fake_lookup(fake_of(u), q->parent, q->name);
    struct proto_lookup_reply m = {0};
    if (n != NULL) {
        m.attr = n->attr;
        m.layout = n->layout;
    }
    peer_request_answer(r, &m, NULL);
}
static inline void fake_readlink(struct peer_user *u, struct peer_request *r)
{
    const struct proto_readlink_request *q = r->body;
    const struct fake_inode *n = fake_find(fake_of(u), q->ino);
    if (n == NULL) {
        peer_request_fail(r, -ENOENT, NULL);
        return;
    }
    const struct proto_readlink_reply m = {.target = {n->data, n->data_len}};
    peer_request_answer(r, &m, NULL);
}
static inline void fake_statfs(struct peer_user *u, struct peer_request *r)
{
    const uint64_t available = fake_of(u)->available;
    const struct proto_statfs_reply m = {.total = 1000, .available = available, .files = 3};
    peer_request_answer(r, &m, NULL);
}
static inline void fake_status(struct peer_user *u, struct peer_request *r)
{
    const struct proto_status_reply m = {.body = proto_bytes_text("{\"health\":\"good\"}")};
    (void)u;
    peer_request_answer(r, &m, NULL);
}
static inline void fake_slot_cancel(struct peer_user *u, struct peer_request *r)
{
    const struct proto_slot_cancel_request *q = r->body;
    struct fake_session *s = fake_session(fake_of(u), q->session);
    if (s == NULL) {
        peer_request_fail(r, -ERR_session_expired, NULL);
        return;
    }
    struct proto_slot_cancel_reply m = {.trailer = fake_trailer,
                                        .was_done = s->slot[q->slot].sequence == q->sequence};
    if (m.was_done) {
        uint8_t *bytes = mem_arena_alloc(&r->arena, 4096);
        struct wire_writer w = wire_writer_over(bytes, 4096);
        m.opcode = (uint16_t)s->slot[q->slot].opcode;
        m.rc = s->slot[q->slot].rc;
        CHECK(proto_encode(proto_message_find(m.opcode)->reply, &s->slot[q->slot].reply, &w) == 0);
        m.body = proto_bytes_of(bytes, w.len);
    }
    s->slot[q->slot].sequence = q->sequence;
    peer_request_answer(r, &m, NULL);
}
/* W goes back with the last word on the size; who still has the file open shares it. */
static inline int fake_lease_return(struct fake_cluster *c,
                                    const struct proto_lease_return_request *q)
{
    struct fake_inode *n = fake_find(c, q->ino);
    if (n == NULL || n->cap_epoch != q->cap_epoch || !q->has_final) {
        return -ESTALE;
    }
    n->attr.size = base_max(n->attr.size, q->size);
    n->attr.mtime_ns = q->mtime_ns;
    n->cap_epoch = q->keep.count > 0 ? n->cap_epoch : 0;
    c->returns++;
    return 0;
}

/* The leader asks for W back, or for the size of what is written. */
struct fake_ask {
    struct peer_call call;
    struct proto_recall_request recall;
    struct proto_query_request query;
    struct proto_inval_request inval;
    struct proto_inval_item item;
    struct proto_inval_ack ack;
    struct fake_node *meta;
    uint64_t ino;
    struct proto_query_reply answer;
    unsigned done;
};
static inline void fake_ask_done(struct peer_call *call, const struct peer_reply *r)
{
    struct fake_ask *a = container_of(call, struct fake_ask, call);
    CHECK(r->rc == 0);
    if (call->opcode == PROTO_OP_inval) {
        const struct proto_inval_reply *m = r->body;
        CHECK(m->acks.count == 1);
        a->ack = m->acks.at[0];
    }
    a->answer =
        call->opcode == PROTO_OP_query ? *(const struct proto_query_reply *)r->body : a->answer;
    a->done++;
}
static inline void fake_ask_recall(void *ctx)
{
    struct fake_ask *a = ctx;
    a->recall =
        (struct proto_recall_request){.kind = PROTO_OBJECT_INO, .ino = a->ino, .to_shared = true};
    a->call =
        (struct peer_call){.done = fake_ask_done, .request = &a->recall, .opcode = PROTO_OP_recall};
    peer_link_call(a->meta->newest, &a->call);
}
static inline void fake_ask_query(void *ctx)
{
    struct fake_ask *a = ctx;
    a->query = (struct proto_query_request){.ino = a->ino};
    a->call =
        (struct peer_call){.done = fake_ask_done, .request = &a->query, .opcode = PROTO_OP_query};
    peer_link_call(a->meta->newest, &a->call);
}
static inline void fake_ask_inval(void *ctx)
{
    struct fake_ask *a = ctx;
    a->item.kind = PROTO_INVAL_ATTR;
    a->item.ino = a->ino;
    a->inval = (struct proto_inval_request){.items = {.at = &a->item, .count = 1}};
    a->call =
        (struct peer_call){.done = fake_ask_done, .request = &a->inval, .opcode = PROTO_OP_inval};
    peer_link_call(a->meta->newest, &a->call);
}
