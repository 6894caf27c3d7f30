#include "namespace/audit_priv.h"
#include "namespace/lock.h"
#include "namespace/plan_priv.h"
#include "namespace/trash_priv.h"

#include "namespace/stats_priv.h"

/*
 * From the bytes of a command to its result. Everything that a plan does goes through here:
 * namespace_apply() commits it, namespace_check() drops it.
 */

/* A failure of this machine: it must not become the command's result. */
static bool namespace_is_local(int rc)
{
    return rc == -ERR_need || rc == -ENOMEM || rc == -ENOBUFS || rc == -ECANCELED ||
           (rc < 0 && err_is(rc, EIO));
}

/* The body was made by somebody else: what is wrong with it is an answer, not damage. */
static int namespace_decode_body(struct namespace_plan *p, const struct proto_type *t, void *ret)
{
    struct proto_bytes body = p->command->body;
    int rc = proto_decode(t, body.at, body.len, p->view.arena, ret);
    return rc < 0 && rc != -ENOMEM ? -EPROTO : rc;
}

#define NAMESPACE_RUN(kind_, tag, function)                 \
    case kind_: {                                           \
        struct tag r;                                       \
        int rc = namespace_decode_body(p, &tag##_type, &r); \
        return rc < 0 ? rc : function(p, &r);               \
    }
#define NAMESPACE_MUTATION(name) \
    NAMESPACE_RUN(PROTO_OP_##name, proto_##name##_request, namespace_##name)

static int namespace_dispatch_mutation(struct namespace_plan *p)
{
    switch (p->command->kind) {
        NAMESPACE_MUTATION(create)
        NAMESPACE_MUTATION(link)
        NAMESPACE_MUTATION(unlink)
        NAMESPACE_MUTATION(rmdir)
        NAMESPACE_MUTATION(rename)
        NAMESPACE_MUTATION(setattr)
        NAMESPACE_MUTATION(setxattr)
        NAMESPACE_MUTATION(removexattr)
        NAMESPACE_MUTATION(wopen)
        NAMESPACE_MUTATION(commit)
        NAMESPACE_MUTATION(release)
        NAMESPACE_MUTATION(lease_return)
        NAMESPACE_MUTATION(append_turn)
        NAMESPACE_MUTATION(append_done)
        NAMESPACE_MUTATION(unlock)
        NAMESPACE_MUTATION(set_quota)
        NAMESPACE_MUTATION(trash_restore)
        NAMESPACE_MUTATION(trash_purge)
    default:
        return -EOPNOTSUPP;
    }
}

static int namespace_dispatch_session(struct namespace_plan *p)
{
    switch (p->command->kind) {
        NAMESPACE_MUTATION(session_open)
        NAMESPACE_MUTATION(session_close)
        NAMESPACE_MUTATION(slot_cancel)
        NAMESPACE_MUTATION(credential)
    default:
        return -EOPNOTSUPP;
    }
}

static int namespace_dispatch_leader(struct namespace_plan *p)
{
    switch (p->command->kind) {
        NAMESPACE_RUN(NAMESPACE_FORMAT_ROOT, namespace_format, namespace_plan_format)
        NAMESPACE_RUN(NAMESPACE_EXPIRE, namespace_expire, namespace_session_expire)
        NAMESPACE_RUN(NAMESPACE_FENCE_DONE, namespace_fence_done, namespace_fence_finish)
        NAMESPACE_RUN(NAMESPACE_TRIM_DONE, namespace_trim_done, namespace_trim_finish)
        NAMESPACE_RUN(NAMESPACE_GARBAGE_DONE, namespace_garbage_done, namespace_garbage_finish)
        NAMESPACE_RUN(NAMESPACE_ORPHAN_DROP, namespace_orphan_drop, namespace_orphans_of_session)
        NAMESPACE_RUN(NAMESPACE_TARGET_PUT, namespace_target_put, namespace_target_change)
        NAMESPACE_RUN(NAMESPACE_ROWS_PUT, namespace_rows_put, namespace_rows_change)
        NAMESPACE_RUN(NAMESPACE_TABLE_PUT, namespace_table_put, namespace_table_change)
        NAMESPACE_RUN(NAMESPACE_DEFAULT_CLASS, namespace_default_class,
                      namespace_default_class_change)
        NAMESPACE_RUN(NAMESPACE_BALANCE, namespace_balance, namespace_balance_change)
        NAMESPACE_RUN(NAMESPACE_TRASH_PURGE, namespace_trash_expire, namespace_trash_expire)
        NAMESPACE_RUN(NAMESPACE_AUDIT_BEGIN, namespace_audit_begin, namespace_audit_start)
        NAMESPACE_RUN(NAMESPACE_AUDIT_FOUND, namespace_audit_found, namespace_audit_judge)
        NAMESPACE_RUN(NAMESPACE_AUDIT_END, namespace_audit_end, namespace_audit_finish)
        NAMESPACE_RUN(NAMESPACE_AUDIT_RELEASE, namespace_audit_release, namespace_audit_let_go)
        NAMESPACE_RUN(NAMESPACE_LOCK_GRANT, namespace_lock_grant, namespace_lock_take)
    default:
        return -EOPNOTSUPP;
    }
}

/* The op stands first in every mutation, as a record of its own. */
static int namespace_decode_op(struct namespace_plan *p)
{
    struct proto_bytes body = p->command->body;
    struct wire_reader r = wire_reader_over(body.at, body.len);
    size_t len = 0;
    const uint8_t *at = wire_read_counted(&r, body.len, &len);
    int rc = at == NULL ? -EPROTO : proto_op_crc(p->command->kind, body.at, body.len, &p->crc);
    rc = rc < 0 ? rc : PROTO_DECODE(proto_op, at, len, p->view.arena, &p->op);
    p->session_id = p->op.session;
    return rc < 0 && rc != -ENOMEM ? -EPROTO : rc;
}

/* No credential: the client acts for itself, which is enough to let go of what it holds. */
static bool namespace_is_own(const struct namespace_plan *p)
{
    uint16_t kind = p->command->kind;
    return p->op.cred == 0 && (kind == PROTO_OP_commit || kind == PROTO_OP_release ||
                               kind == PROTO_OP_lease_return || kind == PROTO_OP_unlock);
}

static int namespace_read_caller(struct namespace_plan *p)
{
    struct namespace_session s;
    int found = namespace_view_session(&p->view, p->op.session, &s);
    int rc =
        p->op.cred == 0 ? 0 : namespace_view_cred_of(&p->view, p->op.session, p->op.cred, &p->cred);
    if (found == -ERR_need || rc == -ERR_need) {
        return -ERR_need;
    }
    p->slots = found < 0 ? 0 : s.slots;
    return found == -ENOENT ? -ERR_session_expired : found < 0 ? found : rc;
}

/* From the table, which reads what it lacks and keeps what exists. */
static int namespace_known_caller(struct namespace_plan *p)
{
    const struct namespace_known *k;
    int rc = namespace_known_get(&p->memory->callers, &p->view, p->op.session, p->op.cred, &k);
    if (rc == 0) {
        p->slots = k->slots;
        p->cred = k->who;
    }
    return rc == -EPERM ? namespace_read_caller(p) : rc;
}

/* Session, slot and rights of whoever asks. 1: answered from the slot. */
static int namespace_plan_caller(struct namespace_plan *p)
{
    int caller = p->memory != NULL ? namespace_known_caller(p) : namespace_read_caller(p);
    if (caller < 0 && caller != -EPERM) {
        return caller;
    }
    int rc = namespace_slot_check(p, &p->op, p->crc);
    if (rc != 0) {
        return rc;
    }
    p->runs = true;
    p->reply->session = p->op.session;
    p->reply->result.opcode = p->command->kind;
    p->reply->result.version = p->state.version;
    bool nobody = p->op.cred == 0 && !namespace_is_own(p);
    return nobody ? -EPERM : caller;
}

static int namespace_plan_operation(struct namespace_plan *p)
{
    int rc = namespace_plan_caller(p);
    if (rc != 0) {
        return rc < 0 ? rc : namespace_quota_room(p);
    }
    rc = namespace_plan_folds(p);
    rc = rc < 0 ? rc : namespace_dispatch_mutation(p);
    rc = rc < 0 ? rc : namespace_stats_apply(p);
    rc = rc < 0 ? rc : namespace_quota_room(p);
    return rc < 0 ? rc : namespace_plan_flush(p);
}

static int namespace_plan_mutation(struct namespace_plan *p)
{
    int rc = namespace_decode_op(p);
    rc = rc < 0 ? rc : namespace_plan_operation(p);
    if (rc == -ERR_need) {
        namespace_plan_wants(p);
    }
    return rc;
}

static bool namespace_is_mutation(uint16_t kind)
{
    return (kind >= PROTO_OP_create && kind <= PROTO_OP_append_done) ||
           kind == PROTO_OP_lease_return || kind == PROTO_OP_unlock;
}

int namespace_plan_dispatch(struct namespace_plan *p)
{
    uint16_t kind = p->command->kind;
    if (p->state.format == 0 && kind != NAMESPACE_FORMAT_ROOT) {
        return -ENXIO;
    }
    if (namespace_is_mutation(kind)) {
        return namespace_plan_mutation(p);
    }
    if (p->memory != NULL) {
        namespace_memory_clear(p->memory); /* sessions may begin and end */
    }
    return kind >= NAMESPACE_FORMAT_ROOT ? namespace_dispatch_leader(p)
                                         : namespace_dispatch_session(p);
}

int namespace_plan_format(struct namespace_plan *p, const struct namespace_format *r)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_INODE, PROTO_ROOT_INO);
    if (p->state.format != 0) {
        return -EEXIST;
    }
    p->state.format = NAMESPACE_FORMAT;
    p->state.next_ino = PROTO_ROOT_INO + 1;
    p->state.next_data_id = 1;
    p->state.leaps_from = 1;
    p->state.next_session = 1;
    p->state.cap_epoch = 1;
    p->state.map_epoch = 1;
    p->state.next_target = 1;
    p->state.next_chain = 1;
    p->state.next_class = 1;
    p->state.inodes = 1;
    struct namespace_inode root = {.type = PROTO_INODE_DIRECTORY,
                                   .mode = r->mode & 07777U,
                                   .nlink = 2,
                                   .uid = r->uid,
                                   .gid = r->gid,
                                   .atime_ns = p->now_ns,
                                   .mtime_ns = p->now_ns,
                                   .ctime_ns = p->now_ns,
                                   .btime_ns = p->now_ns,
                                   .generation = (uint32_t)(p->command->random >> 32) | 1U,
                                   .version = p->state.version,
                                   .parent = PROTO_ROOT_INO};
    int rc = namespace_stats_put_new(p, PROTO_ROOT_INO, PROTO_ROOT_INO);
    return rc < 0 ? rc : NAMESPACE_PUT(p, &key, namespace_inode, &root);
}

int namespace_plan_state(const struct namespace_plan *p, struct namespace_state *ret)
{
    int rc = namespace_view_state(&p->view, ret);
    if (rc == -ENXIO) {
        *ret = (struct namespace_state){0};
        return 0;
    }
    return rc;
}

/* What a writer handed over is written nowhere else any more. */
static int namespace_plan_folds_only(struct namespace_plan *p)
{
    p->held_count = 0;
    int rc = namespace_plan_folds(p);
    rc = rc < 0 ? rc : namespace_stats_apply(p);
    rc = rc < 0 ? rc : namespace_plan_flush(p);
    p->reply->change_count = 0;
    return rc;
}

/* Nothing of the operation remains but its number, its time, what others said for it and, in its
 * slot, what it said. */
static int namespace_plan_settle(struct namespace_plan *p, const struct namespace_state *before,
                                 int rc)
{
    struct namespace_reply *reply = p->reply;
    bool kept = rc == 0 || !(err_is(rc, EAGAIN) || err_is(rc, EPROTO));
    int folded = 0;
    if (rc < 0) {
        uint64_t version = p->state.version;
        kv_batch_clear(p->batch);
        p->state = *before;
        p->state.version = version;
        p->state.time_ns = p->now_ns;
        *reply = (struct namespace_reply){.rc = rc,
                                          .kind = reply->kind,
                                          .holder = reply->holder,
                                          .moved = reply->moved,
                                          .refusal = reply->refusal};
        reply->result = (struct namespace_result){.opcode = p->command->kind, .rc = rc};
        folded = p->runs && p->command->folds.count > 0 ? namespace_plan_folds_only(p) : 0;
    }
    if (folded < 0) {
        return folded;
    }
    p->stored = p->runs && kept;
    rc = p->stored ? namespace_slot_store(p, &p->op, p->crc) : 0;
    reply->result.touched = (struct namespace_touched_list){0}; /* see `change` */
    return rc;
}

static int namespace_plan_command(struct namespace_plan *p, struct namespace_command *c,
                                  const void *bytes, size_t len)
{
    int rc = PROTO_DECODE(namespace_command, bytes, len, p->view.arena, c);
    if (rc < 0) {
        return rc == -ENOMEM ? rc : -EPROTO;
    }
    if (c->version < NAMESPACE_COMMAND_FIRST || c->version > NAMESPACE_COMMAND_VERSION) {
        return -ERR_bad_version; /* this program is too old for this log: it must not guess */
    }
    p->command = c;
    p->reply->kind = c->kind;
    p->now_ns = c->time_ns > p->state.time_ns ? c->time_ns : p->state.time_ns;
    p->state.time_ns = p->now_ns;
    p->state.version++;
    return namespace_plan_dispatch(p);
}

int namespace_plan_run(struct namespace_plan *p, const struct namespace_state *before,
                       const void *bytes, size_t len)
{
    static const struct namespace_command none;
    struct namespace_command c;
    p->state = *before;
    p->now_ns = before->time_ns;
    p->command = &none;
    *p->reply = (struct namespace_reply){0};
    kv_batch_clear(p->batch);
    int rc = namespace_plan_command(p, &c, bytes, len);
    if (namespace_is_local(rc)) {
        return rc;
    }
    rc = namespace_plan_settle(p, before, rc);
    return rc < 0 ? rc : p->batch->rc;
}
