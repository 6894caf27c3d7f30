#include "metanode/metanode_priv.h"

/* What has become true, told to the parts that keep it in memory or have to act on it. */

static void applied_target(struct metanode *m, const struct namespace_command *c,
                           const struct namespace_reply *reply)
{
    struct namespace_target_put put;
    int rc = PROTO_DECODE(namespace_target_put, c->body.at, c->body.len, &m->apply.arena, &put);
    put.target.id = reply->id;
    rc = rc < 0 ? rc : metanode_target_put(m, &put.target);
    if (rc < 0) {
        metanode_fail(m, rc, "cannot keep a target");
        return;
    }
    metanode_tables_touch(m);
    metanode_moves_touch(m);
}

static void applied_row_list(struct metanode *m, const struct proto_row_list *rows)
{
    int rc = 0;
    for (size_t i = 0; i < rows->count && rc == 0; i++) {
        rc = metanode_chain_put(m, &rows->at[i]);
    }
    if (rc < 0) {
        metanode_fail(m, rc, "cannot keep a chain");
    }
}

static void applied_rows(struct metanode *m, const struct namespace_command *c)
{
    struct namespace_rows_put put;
    if (PROTO_DECODE(namespace_rows_put, c->body.at, c->body.len, &m->apply.arena, &put) == 0) {
        applied_row_list(m, &put.rows);
    }
}

static void applied_table(struct metanode *m, const struct namespace_command *c,
                          const struct namespace_reply *reply)
{
    struct namespace_table_put put;
    if (PROTO_DECODE(namespace_table_put, c->body.at, c->body.len, &m->apply.arena, &put) == 0) {
        for (size_t i = 0; i < put.rows.count; i++) {
            put.rows.at[i].class_id = reply->id; /* a new class has got its number just now */
        }
        applied_row_list(m, &put.rows);
        metanode_tables_touch(m);
    }
}

static void applied_end_of_session(struct metanode *m, const struct namespace_command *c)
{
    uint64_t id = 0;
    struct namespace_expire expire;
    struct proto_session_close_request close;
    if (c->kind == NAMESPACE_EXPIRE &&
        PROTO_DECODE(namespace_expire, c->body.at, c->body.len, &m->apply.arena, &expire) == 0) {
        id = expire.session;
    } else if (c->kind == PROTO_OP_session_close &&
               PROTO_DECODE(proto_session_close_request, c->body.at, c->body.len, &m->apply.arena,
                            &close) == 0) {
        id = close.session;
    }
    metanode_share_moved(m, 0, id);
    metanode_append_moved(m, 0, id);
    metanode_session_remove(m, id);
    metanode_locks_moved(m, 0);
}

/* A writer has said its last word on a file, or has written all that it had. */
static void applied_flush(struct metanode *m, const struct namespace_command *c)
{
    struct proto_lease_return_request ret;
    struct proto_commit_request commit;
    if (m->shares.count == 0 && m->appends.count == 0) {
        return;
    }
    if (c->kind == PROTO_OP_lease_return) {
        if (PROTO_DECODE(proto_lease_return_request, c->body.at, c->body.len, &m->apply.arena,
                         &ret) == 0 &&
            ret.has_final) {
            metanode_share_moved(m, ret.ino, 0);
            if (ret.keep.count == 0) {
                metanode_append_moved(m, ret.ino, ret.op.session);
            }
        }
    } else if (PROTO_DECODE(proto_commit_request, c->body.at, c->body.len, &m->apply.arena,
                            &commit) == 0 &&
               (commit.flags & PROTO_COMMIT_RELEASE) != 0) {
        metanode_share_moved(m, commit.ino, 0);
        metanode_append_moved(m, commit.ino, commit.op.session);
    }
}

static void applied_append(struct metanode *m, const struct namespace_command *c)
{
    struct proto_append_done_request done;
    if (m->appends.count > 0 && PROTO_DECODE(proto_append_done_request, c->body.at, c->body.len,
                                             &m->apply.arena, &done) == 0) {
        metanode_append_moved(m, done.ino, done.op.session);
    }
}

/* What a dead writer left behind the end of a file is cut; its fence was done before. */
static void applied_trim(struct metanode *m, const struct namespace_command *c)
{
    struct namespace_trim_done done;
    if (m->shares.count > 0 &&
        PROTO_DECODE(namespace_trim_done, c->body.at, c->body.len, &m->apply.arena, &done) == 0) {
        metanode_share_moved(m, done.ino, 0);
    }
}

/* Those who read are told that it has changed; those who write, that it has lost its last name. */
static void applied_to_file(struct metanode *m, const struct namespace_command *c,
                            const struct namespace_reply *reply)
{
    uint64_t ino = c->kind == PROTO_OP_rename ? reply->result.victim : reply->result.ino;
    switch (c->kind) {
    case PROTO_OP_commit:
    case PROTO_OP_lease_return:
    case PROTO_OP_append_done:
    case PROTO_OP_setattr:
    case PROTO_OP_link:
        metanode_grants_changed(m, ino, reply->session);
        break;
    case PROTO_OP_unlink:
    case PROTO_OP_rename:
        metanode_grants_changed(m, reply->result.ino, reply->session);
        metanode_grants_changed(m, reply->result.victim, reply->session);
        if (ino != 0 && metanode_writer_elsewhere(m, ino, reply->session)) {
            metanode_orphans_tell(m, ino, reply->session);
        }
        break;
    default:
        break;
    }
}

void metanode_applied(struct metanode *m, const struct namespace_command *c,
                      const struct namespace_reply *reply)
{
    if (reply->rc == 0 && !reply->replayed) {
        applied_to_file(m, c, reply);
    }
    if (reply->rc == 0 && !reply->replayed) {
        switch (c->kind) {
        case NAMESPACE_TARGET_PUT:
            applied_target(m, c, reply);
            break;
        case NAMESPACE_ROWS_PUT:
            applied_rows(m, c);
            break;
        case NAMESPACE_TABLE_PUT:
            applied_table(m, c, reply);
            break;
        case NAMESPACE_BALANCE:
            metanode_moves_touch(m);
            break;
        case NAMESPACE_AUDIT_BEGIN:
        case NAMESPACE_AUDIT_FOUND:
        case NAMESPACE_AUDIT_END:
        case NAMESPACE_AUDIT_RELEASE:
            metanode_audit_touch(m);
            break;
        case NAMESPACE_EXPIRE:
        case PROTO_OP_session_close:
            applied_end_of_session(m, c);
            break;
        case PROTO_OP_lease_return:
        case PROTO_OP_commit:
            applied_flush(m, c);
            break;
        case PROTO_OP_append_done:
            applied_append(m, c);
            break;
        case PROTO_OP_unlock:
            metanode_locks_moved(m, reply->result.ino);
            break;
        case NAMESPACE_TRIM_DONE:
            applied_trim(m, c);
            break;
        default:
            break;
        }
    }
    if (reply->removed_data_id != 0) {
        metanode_errand_kick(&m->cleanup.garbage);
    }
    if (reply->trash_expiry_ns != 0) {
        metanode_trash_came(m, reply->trash_expiry_ns);
    }
    if (reply->trim_ino != 0) {
        metanode_errand_kick(&m->cleanup.trims);
    }
    if (reply->fenced_session != 0) {
        m->cleanup.fences++; /* from now on; counted anew by the next look */
        metanode_fence_kick(m);
    }
    if (reply->map_epoch > m->map_epoch) {
        m->map_epoch = reply->map_epoch;
        metanode_push_map_changed(m);
    }
}
