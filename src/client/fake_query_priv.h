/* client/fake_query_priv.h -- for tests only: sessions, slots and queries of fake_priv.h. */
#pragma once

#include "client/fake_write_priv.h"
#include "client/fake_xattr_priv.h"

static inline struct fake_session *fake_session(struct fake_cluster *c, uint64_t id)
{
    for (size_t i = 0; id != 0 && i < FAKE_SESSIONS; i++) {
        if (c->session[i].id == id) {
            return &c->session[i];
        }
    }
    return NULL;
}
static inline struct fake_cluster *fake_of(struct peer_user *u)
{
    return container_of(u, struct fake_node, user)->cluster;
}
static const struct proto_trailer fake_trailer = {.renewed = true, .lease_epoch = 7};

static inline void fake_session_open(struct peer_user *u, struct peer_request *r)
{
    struct fake_cluster *c = fake_of(u);
    const struct proto_session_open_request *q = r->body;
    struct fake_session *s = &c->session[c->next_session % FAKE_SESSIONS];
    if (c->log_full) {
        peer_request_fail(r, -ERR_log_full, NULL);
        return;
    }
    if (c->meta_fault.count > 0 && c->meta_fault_op == PROTO_OP_session_open) {
        peer_request_fail(r, c->meta_fault.rc, NULL);
        return;
    }
    memset(s, 0, sizeof *s);
    s->id = c->next_session++;
    c->people.count = 0;
    s->verifier = q->verifier;
    const struct proto_session_open_reply m = {
        .trailer = fake_trailer, .session = s->id, .slots = 8, .lease_ms = 2000};
    peer_request_answer(r, &m, NULL);
}
static inline void fake_session_resume(struct peer_user *u, struct peer_request *r)
{
    const struct proto_session_resume_request *q = r->body;
    const struct fake_session *s = fake_session(fake_of(u), q->session);
    if (s == NULL || s->verifier != q->verifier) {
        peer_request_fail(r, -ERR_session_expired, NULL);
        return;
    }
    const struct proto_session_resume_reply m = {.trailer = fake_trailer, .slots = 8};
    peer_request_answer(r, &m, NULL);
}
static inline void fake_session_close(struct peer_user *u, struct peer_request *r)
{
    const struct proto_session_close_request *q = r->body;
    struct fake_session *s = fake_session(fake_of(u), q->session);
    if (s != NULL) {
        s->id = 0;
    }
    peer_request_answer(r, &(struct proto_session_close_reply){}, NULL);
}
static inline void fake_renew(struct peer_user *u, struct peer_request *r)
{
    const struct proto_renew_request *q = r->body;
    struct proto_renew_reply m = {.trailer = fake_trailer};
    m.trailer.renewed = !fake_of(u)->lapsed;
    fake_of(u)->closed += (unsigned)q->closed.count;
    if (fake_session(fake_of(u), q->session) == NULL) {
        peer_request_fail(r, -ERR_session_expired, NULL);
        return;
    }
    peer_request_answer(r, &m, NULL);
}
static inline void fake_reclaim(struct peer_user *u, struct peer_request *r)
{
    const struct proto_reclaim_request *q = r->body;
    const struct proto_reclaim_reply m = {.trailer = fake_trailer};
    fake_of(u)->lapsed = false;
    fake_of(u)->claims += (unsigned)q->claims.count;
    peer_request_answer(r, &m, NULL);
}

static inline int fake_lease_return(struct fake_cluster *c,
                                    const struct proto_lease_return_request *q);
static inline int fake_execute(struct fake_cluster *c, const struct peer_request *r,
                               union fake_reply *m)
{
    switch (r->message->opcode) {
    case PROTO_OP_create:
        return fake_create(c, r->body, &m->create);
    case PROTO_OP_unlink:
        return fake_unlink(c, r->body, &m->unlink);
    case PROTO_OP_rename:
        return fake_rename(c, r->body, &m->rename);
    case PROTO_OP_setattr:
        return fake_setattr(c, r->body, &m->setattr);
    case PROTO_OP_setxattr:
        return fake_setxattr(c, r->body);
    case PROTO_OP_removexattr:
        return fake_removexattr(c, r->body);
    case PROTO_OP_wopen:
        return fake_wopen(c, r->body, &m->wopen);
    case PROTO_OP_commit:
        return fake_commit(c, r->body, &m->commit);
    case PROTO_OP_lease_return:
        return fake_lease_return(c, r->body);
    case PROTO_OP_unlock:
        c->locks.let_go = *(const struct proto_unlock_request *)r->body;
        return 0;
    case PROTO_OP_release: {
        const struct proto_release_request *q = r->body;
        struct fake_inode *n = fake_find(c, q->ino);
        CHECK(n != NULL && n->attr.nlink == 0);
        n->ino = 0;
        return 0;
    }
    default:
        return -EOPNOTSUPP;
    }
}
/* L7: the same again is answered again, the next one is executed, anything else is an error. */
static inline void fake_mutation(struct peer_user *u, struct peer_request *r)
{
    struct fake_cluster *c = fake_of(u);
    const struct proto_op *op = r->body;
    struct fake_session *s = fake_session(c, op->session);
    if (s == NULL || op->slot >= FAKE_SLOTS) {
        peer_request_fail(r, -ERR_session_expired, NULL);
        return;
    }
    bool mine = c->meta_fault_op == 0 || c->meta_fault_op == r->message->opcode;
    bool hit = mine && fake_fault_hits(&c->meta_fault);
    if (hit && !c->meta_fault.after) {
        if (!err_is(c->meta_fault.rc, EAGAIN)) { /* an answer like any other */
            s->slot[op->slot].sequence = op->sequence;
            s->slot[op->slot].crc = op->crc;
            s->slot[op->slot].rc = c->meta_fault.rc;
        }
        peer_request_fail(r, c->meta_fault.rc, NULL);
        return;
    }
    bool repeat = op->sequence == s->slot[op->slot].sequence;
    if (!repeat && op->sequence != s->slot[op->slot].sequence + 1) {
        peer_request_fail(r, -ERR_bad_sequence, NULL);
        return;
    }
    CHECK(op->cred - FAKE_CRED < c->people.count);
    if (!repeat) {
        memset(&s->slot[op->slot].reply, 0, sizeof s->slot[op->slot].reply);
        s->slot[op->slot].crc = op->crc;
        s->slot[op->slot].sequence = op->sequence;
        s->slot[op->slot].opcode = r->message->opcode;
        s->slot[op->slot].rc = fake_execute(c, r, &s->slot[op->slot].reply);
        c->mutations++;
        c->executed[r->message->opcode % 1024]++;
    } else {
        CHECK(s->slot[op->slot].crc == op->crc); /* the same bytes */
        c->repeats++;
        fake_answer_again(c, r->message->opcode, &s->slot[op->slot].reply);
    }
    if (hit) {
        fake_break(r);
    }
    if (s->slot[op->slot].rc < 0) {
        peer_request_fail(r, s->slot[op->slot].rc, NULL);
        return;
    }
    peer_request_answer(r, &s->slot[op->slot].reply, NULL);
}

static inline void fake_walk(struct peer_user *u, struct peer_request *r)
{
    struct fake_cluster *c = fake_of(u);
    const struct proto_walk_request *q = r->body;
    struct proto_walk_step steps[64];
    struct proto_walk_reply m = {.steps.at = steps};
    uint64_t at = q->ino;
    for (size_t i = 0; i < q->names.count && m.rc == 0; i++) {
        const struct fake_inode *dir = fake_find(c, at);
        bool is_dir = dir->attr.type == PROTO_INODE_DIRECTORY;
        const struct fake_inode *n = is_dir ? fake_lookup(c, at, q->names.at[i].name) : NULL;
        bool hidden = n != NULL && c->hide_symlinks && n->attr.type == PROTO_INODE_SYMLINK;
        if (!is_dir || hidden) {
            m.rc = -ENOTDIR;
        } else if (n == NULL) {
            m.rc = -ENOENT;
        } else {
            steps[m.steps.count++] = (struct proto_walk_step){.attr = n->attr, .layout = n->layout};
            at = n->ino;
        }
    }
    struct proto_grant remote = {
        .kind = PROTO_OBJECT_INO, .ino = at, .flags = PROTO_GRANT_REMOTE_WRITER};
    m.trailer.grants = (struct proto_grant_list){.at = &remote, .count = c->remote_size > 0};
    struct fake_inode *last = m.rc == 0 ? fake_find(c, at) : NULL;
    peer_request_answer(r, &m, NULL);
    fake_replace(c, last);
}
