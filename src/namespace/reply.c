#include "namespace/plan_priv.h"

/* The bodies of answers, from what became of a mutation. */

struct namespace_answer {
    const struct namespace_reply *reply;
    struct proto_trailer trailer;
    struct proto_capability capability;
    struct proto_change_list changes;
};

static int namespace_encode_create(const struct namespace_answer *a, struct wire_writer *w)
{
    const struct namespace_reply *r = a->reply;
    struct proto_create_reply m = {.trailer = a->trailer,
                                   .created = r->result.created,
                                   .attr = r->attr,
                                   .layout = r->layout,
                                   .mode = r->result.mode,
                                   .cap_epoch = r->result.cap_epoch,
                                   .capability = a->capability,
                                   .changes = a->changes,
                                   .limited = r->limited,
                                   .size_limit = r->size_limit};
    return PROTO_ENCODE(proto_create_reply, &m, w);
}

static int namespace_encode_wopen(const struct namespace_answer *a, struct wire_writer *w)
{
    const struct namespace_reply *r = a->reply;
    struct proto_wopen_reply m = {.trailer = a->trailer,
                                  .mode = r->result.mode,
                                  .cap_epoch = r->result.cap_epoch,
                                  .shared_now = r->result.shared_now,
                                  .attr = r->attr,
                                  .layout = r->layout,
                                  .data_version = r->data_version,
                                  .capability = a->capability,
                                  .limited = r->limited,
                                  .size_limit = r->size_limit};
    return PROTO_ENCODE(proto_wopen_reply, &m, w);
}

static int namespace_encode_commit(const struct namespace_answer *a, struct wire_writer *w)
{
    const struct namespace_reply *r = a->reply;
    struct proto_commit_reply m = {.trailer = a->trailer,
                                   .attr = r->attr,
                                   .layout = r->layout,
                                   .data_version = r->data_version,
                                   .changes = a->changes,
                                   .limited = r->limited,
                                   .size_limit = r->size_limit};
    return PROTO_ENCODE(proto_commit_reply, &m, w);
}

static int namespace_encode_setattr(const struct namespace_answer *a, struct wire_writer *w)
{
    const struct namespace_reply *r = a->reply;
    struct proto_setattr_reply m = {
        .trailer = a->trailer, .attr = r->attr, .changes = a->changes, .layout = r->layout};
    return PROTO_ENCODE(proto_setattr_reply, &m, w);
}

static int namespace_encode_rename(const struct namespace_answer *a, struct wire_writer *w)
{
    const struct namespace_result *r = &a->reply->result;
    struct proto_rename_reply m = {
        .trailer = a->trailer, .ino = r->ino, .victim_ino = r->victim, .changes = a->changes};
    return PROTO_ENCODE(proto_rename_reply, &m, w);
}

/* Those whose replies differ in their names only. */
#define NAMESPACE_ENCODE_PLAIN(name, ...)                                     \
    case PROTO_OP_##name: {                                                   \
        struct proto_##name##_reply m = {.trailer = a->trailer, __VA_ARGS__}; \
        return PROTO_ENCODE(proto_##name##_reply, &m, w);                     \
    }

static int namespace_encode_mutation(const struct namespace_answer *a, struct wire_writer *w)
{
    const struct namespace_reply *r = a->reply;
    switch (r->result.opcode) {
    case PROTO_OP_create:
        return namespace_encode_create(a, w);
    case PROTO_OP_wopen:
        return namespace_encode_wopen(a, w);
    case PROTO_OP_commit:
        return namespace_encode_commit(a, w);
    case PROTO_OP_setattr:
        return namespace_encode_setattr(a, w);
    case PROTO_OP_rename:
        return namespace_encode_rename(a, w);
        NAMESPACE_ENCODE_PLAIN(link, .attr = r->attr, .changes = a->changes)
        NAMESPACE_ENCODE_PLAIN(unlink, .ino = r->result.ino, .changes = a->changes)
        NAMESPACE_ENCODE_PLAIN(rmdir, .ino = r->result.ino, .changes = a->changes)
        NAMESPACE_ENCODE_PLAIN(setxattr, .changes = a->changes)
        NAMESPACE_ENCODE_PLAIN(removexattr, .changes = a->changes)
        NAMESPACE_ENCODE_PLAIN(lease_return, .changes = a->changes)
        NAMESPACE_ENCODE_PLAIN(trash_restore, .attr = r->attr, .changes = a->changes)
        NAMESPACE_ENCODE_PLAIN(trash_purge, )
        NAMESPACE_ENCODE_PLAIN(release, )
        NAMESPACE_ENCODE_PLAIN(unlock, )
        NAMESPACE_ENCODE_PLAIN(append_turn, .turn = r->result.turn, .end = r->result.end,
                               .attr = r->attr, .layout = r->layout)
        NAMESPACE_ENCODE_PLAIN(append_done, .attr = r->attr, .layout = r->layout,
                               .data_version = r->data_version, .changes = a->changes)
        NAMESPACE_ENCODE_PLAIN(set_quota, )
    default:
        return -EINVAL;
    }
}

/* The stored answer as the body of the answer to the question for it. */
static int namespace_encode_slot_cancel(const struct namespace_answer *a, struct wire_writer *w)
{
    const struct namespace_reply *r = a->reply;
    uint8_t body[4096];
    struct wire_writer inner = wire_writer_over(body, sizeof body);
    struct proto_slot_cancel_reply m = {.trailer = a->trailer,
                                        .was_done = r->was_done,
                                        .opcode = r->result.opcode,
                                        .rc = r->was_done ? r->result.rc : -ECANCELED};
    if (r->was_done && r->result.rc == 0) {
        struct namespace_answer stored = {.reply = r, .changes = a->changes};
        int rc = namespace_encode_mutation(&stored, &inner);
        if (rc < 0) {
            return rc;
        }
        m.body = proto_bytes_of(body, inner.len);
    }
    return PROTO_ENCODE(proto_slot_cancel_reply, &m, w);
}

int namespace_reply_encode(const struct namespace_reply *reply, const struct proto_trailer *trailer,
                           const struct proto_capability *capability, struct wire_writer *w)
{
    struct proto_change change[NAMESPACE_CHANGES_MAX];
    struct namespace_answer a = {.reply = reply, .trailer = *trailer};
    CHECK(reply->change_count <= NAMESPACE_CHANGES_MAX);
    memcpy(change, reply->change, reply->change_count * sizeof *change);
    a.changes = (struct proto_change_list){.at = change, .count = reply->change_count};
    if (capability != NULL) {
        a.capability = *capability;
    }
    if (reply->kind == PROTO_OP_slot_cancel) {
        return namespace_encode_slot_cancel(&a, w);
    }
    if (reply->kind == PROTO_OP_credential) {
        struct proto_credential_reply m = {.trailer = *trailer, .cred = reply->id};
        return PROTO_ENCODE(proto_credential_reply, &m, w);
    }
    return reply->kind == reply->result.opcode ? namespace_encode_mutation(&a, w) : -EINVAL;
}
