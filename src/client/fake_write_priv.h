/* client/fake_write_priv.h -- for tests only: write authority and commits of fake_priv.h. */
#pragma once

#include "client/fake_meta_priv.h"

static inline int fake_wopen(struct fake_cluster *c, const struct proto_wopen_request *q,
                             struct proto_wopen_reply *m)
{
    struct fake_inode *n = fake_find(c, q->ino);
    c->asked += q->want_size > 0 ? 1 : 0;
    if (n == NULL || (c->size_quota > 0 && q->want_size > c->size_quota)) {
        return n == NULL ? -ENOENT : -EDQUOT;
    }
    n->cap_epoch = n->cap_epoch == 0 ? ++c->cap_epoch : n->cap_epoch;
    c->appends = q->append;
    fake_place(c, n);
    *m = (struct proto_wopen_reply){.mode = c->shared ? PROTO_OPEN_S : PROTO_OPEN_W,
                                    .cap_epoch = n->cap_epoch,
                                    .shared_now = !c->share_waits,
                                    .attr = n->attr,
                                    .layout = n->layout,
                                    .capability = fake_cap(c, n, q->op.session),
                                    .limited = c->size_quota > 0,
                                    .size_limit = c->size_quota};
    return 0;
}

static inline int fake_commit(struct fake_cluster *c, const struct proto_commit_request *q,
                              struct proto_commit_reply *m)
{
    struct fake_inode *n = fake_find(c, q->ino);
    if (n == NULL || n->cap_epoch != q->cap_epoch) {
        return -ESTALE;
    }
    if ((q->flags & PROTO_COMMIT_HAS_DATA) != 0) {
        if (n->chunked || q->data.len > sizeof n->data) {
            return -EINVAL;
        }
        n->data_len = q->data.len;
        memcpy(n->data, q->data.at, q->data.len);
        n->attr.size = q->size;
    } else if (q->size > n->attr.size || q->allocated > 0) {
        n->chunked = true;
        n->attr.flags &= ~PROTO_INODE_INLINE;
        n->attr.size = base_max(n->attr.size, q->size);
    }
    n->attr.allocated = q->allocated;
    c->commit_flags = q->flags;
    n->attr.mtime_ns = (q->flags & PROTO_COMMIT_TIMES) ? q->mtime_ns : n->attr.mtime_ns;
    fake_touch(c, n);
    n->cap_epoch = (q->flags & PROTO_COMMIT_RELEASE) ? 0 : n->cap_epoch;
    m->limited = c->size_quota > 0;
    m->size_limit = c->size_quota;
    m->attr = n->attr;
    m->layout = n->layout;
    return 0;
}

static inline void fake_answer_again(struct fake_cluster *c, uint16_t opcode, union fake_reply *m)
{
    struct proto_attr *a = opcode == PROTO_OP_create    ? &m->create.attr
                           : opcode == PROTO_OP_setattr ? &m->setattr.attr
                           : opcode == PROTO_OP_commit  ? &m->commit.attr
                                                        : NULL;
    if (a != NULL && fake_find(c, a->ino) == NULL) {
        *a = (struct proto_attr){.ino = a->ino}; /* all that is known of what is gone */
    }
}
