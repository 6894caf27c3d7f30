#include "namespace/plan_priv.h"

/*
 * Exactly once (coherence.md L7): a slot holds the sequence, checksum and answer of its newest
 * mutation. The same again is answered from it, the next one runs, all else is refused.
 */

static struct namespace_key namespace_slot_key(uint64_t session, uint32_t slot)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_SLOT, session);
    namespace_key_add_u32(&key, slot);
    return key;
}

/* 1, or 0 and all zero for a slot that was never used. */
static int namespace_slot_get(struct namespace_plan *p, uint64_t session, uint32_t slot,
                              struct namespace_slot *ret)
{
    struct namespace_key key = namespace_slot_key(session, slot);
    int rc = NAMESPACE_GET(&p->view, &key, namespace_slot, ret);
    if (rc == 0) {
        *ret = (struct namespace_slot){0};
    }
    return rc;
}

/* What the caller sees of an inode now; a removed one has nlink 0 and no more than its number. */
static int namespace_replay_inode(struct namespace_plan *p, uint64_t ino,
                                  struct namespace_inode *ret)
{
    int rc = namespace_view_inode(&p->view, ino, ret);
    if (rc == -ENOENT) {
        *ret = (struct namespace_inode){0};
        return 0;
    }
    return rc;
}

static int namespace_slot_replay(struct namespace_plan *p, const struct namespace_slot *s)
{
    struct namespace_reply *reply = p->reply;
    const struct namespace_result *result = &s->result;
    struct namespace_inode n;
    int rc = namespace_replay_inode(p, result->ino, &n);
    namespace_inode_attr(result->ino, &n, &reply->attr);
    namespace_inode_layout(&n, &reply->layout);
    reply->data_version = n.data_version;
    for (size_t i = 0; i < result->touched.count && i < NAMESPACE_CHANGES_MAX && rc == 0; i++) {
        const struct namespace_touched *t = &result->touched.at[i];
        struct proto_change *c = &reply->change[i];
        rc = namespace_replay_inode(p, t->ino, &n);
        *c = (struct proto_change){
            .ino = t->ino, .version_before = t->version_before, .version_after = result->version};
        namespace_inode_attr(t->ino, &n, &c->attr);
        reply->change_parent[i] = n.parent;
        reply->change_count = i + 1;
    }
    reply->result = *result;
    reply->rc = result->rc;
    reply->replayed = true;
    return rc < 0 ? rc : 1;
}

int namespace_slot_check(struct namespace_plan *p, const struct proto_op *op, uint32_t crc)
{
    struct namespace_slot s;
    if (op->slot >= p->slots || op->crc != crc) {
        return -ERR_bad_sequence;
    }
    if (p->memory != NULL &&
        namespace_memory_is_newest(p->memory, op->session, op->slot, op->sequence - 1)) {
        return 0;
    }
    int rc = namespace_slot_get(p, op->session, op->slot, &s);
    if (rc < 0) {
        return rc;
    }
    if (op->sequence == s.sequence + 1) {
        return 0;
    }
    bool same = rc == 1 && op->sequence == s.sequence && s.crc == crc && s.result.opcode != 0;
    return same ? namespace_slot_replay(p, &s) : -ERR_bad_sequence;
}

int namespace_slot_store(struct namespace_plan *p, const struct proto_op *op, uint32_t crc)
{
    struct namespace_key key = namespace_slot_key(op->session, op->slot);
    struct namespace_touched touched[NAMESPACE_CHANGES_MAX];
    struct namespace_reply *reply = p->reply;
    struct namespace_slot s = {.sequence = op->sequence, .crc = crc, .result = reply->result};
    uint8_t bytes[NAMESPACE_RESULT_MAX];
    struct wire_writer w = wire_writer_over(bytes, sizeof bytes);
    for (size_t i = 0; i < reply->change_count; i++) {
        touched[i] = (struct namespace_touched){.ino = reply->change[i].ino,
                                                .version_before = reply->change[i].version_before};
    }
    s.result.touched.at = touched;
    s.result.touched.count = reply->change_count;
    int rc = PROTO_ENCODE(namespace_slot, &s, &w);
    CHECK(rc == 0); /* it is never longer */
    return kv_batch_put(p->batch, namespace_key_slice(&key), kv_slice_of(w.at, w.len));
}

/* A burnt sequence has no opcode: nothing that comes later is taken for it. */
int namespace_slot_cancel(struct namespace_plan *p, const struct proto_slot_cancel_request *r)
{
    struct namespace_session session;
    struct namespace_slot s;
    int rc = namespace_view_session(&p->view, r->session, &session);
    int found = namespace_slot_get(p, r->session, r->slot, &s);
    rc = namespace_view_both(rc, found);
    if (rc < 0) {
        return rc == -ENOENT ? -ERR_session_expired : rc;
    }
    if (r->slot >= session.slots) {
        return -ERR_bad_sequence;
    }
    if (found == 1 && r->sequence == s.sequence) {
        p->reply->was_done = s.result.opcode != 0;
        rc = p->reply->was_done ? namespace_slot_replay(p, &s) : 0;
        p->reply->replayed = false;
        return rc < 0 ? rc : 0;
    }
    if (r->sequence != s.sequence + 1) {
        return -ERR_bad_sequence;
    }
    struct namespace_key key = namespace_slot_key(r->session, r->slot);
    s = (struct namespace_slot){.sequence = r->sequence, .result = {.rc = -ECANCELED}};
    return NAMESPACE_PUT(p, &key, namespace_slot, &s);
}
