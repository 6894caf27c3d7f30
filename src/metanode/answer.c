#include "metanode/metanode_priv.h"

/* What goes back to clients. */

#define METANODE_KEY_MS (UINT64_C(24) * 3600 * 1000) /* a signing key is of one day */

uint64_t metanode_wall_ms(const struct metanode *m)
{
    return (m->wall_base_ns + metanode_now(m)) / METANODE_NS_PER_MS;
}

void metanode_sign(struct metanode *m, struct proto_capability *c, uint8_t *mac)
{
    if (c->data_id == 0) {
        *c = (struct proto_capability){0};
        return;
    }
    uint64_t now_ms = metanode_wall_ms(m);
    bool writes = (c->rights & PROTO_RIGHT_WRITE) != 0;
    c->expiry_wall_ms =
        now_ms + (writes ? METANODE_WRITE_CAPABILITY_MS : METANODE_READ_CAPABILITY_MS);
    c->key_id = (uint32_t)(now_ms / METANODE_KEY_MS);
    if (cluster_capability_sign(&m->secret, c, mac) < 0) {
        *c = (struct proto_capability){0}; /* as if refused: the client asks again */
    }
}

void metanode_refuse(struct metanode *m, struct metanode_session *s, struct peer_request *r, int rc,
                     const char *text)
{
    struct proto_failure f = {.text = proto_bytes_text(text == NULL ? err_text(rc) : text)};
    if (rc == -ERR_not_leader) {
        f.term = m->term;
    }
    if (rc == -ERR_busy && metanode_memory_is_short(m)) {
        f.text = proto_bytes_text("the memory of the metadata server is nearly used up");
        f.retry_ms = METANODE_SHORT_MS;
    } else if (rc == -ERR_busy) {
        f.retry_ms = m->turns.waiting > METANODE_CROWDED ? METANODE_CROWDED_MS : PEER_BUSY_MS;
    }
    if (s != NULL) {
        f.trailer = metanode_trailer(m, s);
    }
    stats_count(&m->refused, 1);
    peer_request_fail(r, rc, &f);
}

bool metanode_admit(struct metanode *m, struct peer_request *r)
{
    if (metanode_leads(m)) {
        return true;
    }
    int rc = m->phase == METANODE_ENDED ? (m->stop != NULL ? -ERR_shutting_down : -ERR_unavailable)
                                        : -ERR_busy;
    metanode_refuse(m, NULL, r, rc,
                    rc == -ERR_busy ? "the metadata server is starting: it reads its log" : NULL);
    return false;
}

/* Who may write now also gets what it needs at the data nodes. */
static struct proto_capability answer_capability(struct metanode *m,
                                                 const struct metanode_session *s,
                                                 const struct namespace_reply *reply, uint8_t *mac)
{
    struct proto_capability c = {0};
    if (reply->result.mode == PROTO_OPEN_W || reply->result.mode == PROTO_OPEN_S) {
        c = (struct proto_capability){.data_id = reply->layout.data_id,
                                      .last_data_id = reply->layout.data_id,
                                      .session = s->id,
                                      .rights = PROTO_RIGHT_READ | PROTO_RIGHT_WRITE,
                                      .cap_epoch = reply->result.cap_epoch};
        metanode_sign(m, &c, mac);
    }
    return c;
}

/* One reply, with the memory of its lists. */
struct answer {
    union answer_body {
        struct proto_create_reply create;
        struct proto_link_reply link;
        struct proto_unlink_reply unlink;
        struct proto_rmdir_reply rmdir;
        struct proto_rename_reply rename;
        struct proto_setattr_reply setattr;
        struct proto_setxattr_reply setxattr;
        struct proto_removexattr_reply removexattr;
        struct proto_wopen_reply wopen;
        struct proto_commit_reply commit;
        struct proto_release_reply release;
        struct proto_unlock_reply unlock;
        struct proto_set_quota_reply set_quota;
        struct proto_lease_return_reply lease_return;
        struct proto_append_turn_reply append_turn;
        struct proto_append_done_reply append_done;
        struct proto_trash_restore_reply trash_restore;
        struct proto_trash_purge_reply trash_purge;
    } body;
    struct proto_change change[NAMESPACE_CHANGES_MAX];
    struct proto_change_list changes;
    uint8_t mac[CLUSTER_MAC_BYTES];
};

static void answer_writer(struct metanode *m, struct metanode_session *s, uint16_t opcode,
                          const struct namespace_reply *reply, struct answer *answer)
{
    union answer_body *a = &answer->body;
    const struct namespace_result *result = &reply->result;
    struct proto_trailer trailer = metanode_trailer(m, s);
    if (opcode == PROTO_OP_create) {
        a->create =
            (struct proto_create_reply){.trailer = trailer,
                                        .created = result->created,
                                        .attr = reply->attr,
                                        .layout = reply->layout,
                                        .mode = result->mode,
                                        .cap_epoch = result->cap_epoch,
                                        .capability = answer_capability(m, s, reply, answer->mac),
                                        .changes = answer->changes,
                                        .limited = reply->limited,
                                        .size_limit = reply->size_limit};
        return;
    }
    bool wait = result->mode == PROTO_OPEN_S && !result->shared_now;
    if (wait) {
        metanode_share_wait(m, result->ino, s->id);
    }
    a->wopen = (struct proto_wopen_reply){.trailer = trailer,
                                          .mode = result->mode,
                                          .cap_epoch = result->cap_epoch,
                                          .shared_now = !wait,
                                          .attr = reply->attr,
                                          .layout = reply->layout,
                                          .data_version = reply->data_version,
                                          .capability = answer_capability(m, s, reply, answer->mac),
                                          .limited = reply->limited,
                                          .size_limit = reply->size_limit};
}

static void answer_other(struct metanode *m, struct metanode_session *s, uint16_t opcode,
                         const struct namespace_reply *reply, struct answer *answer)
{
    union answer_body *a = &answer->body;
    const struct namespace_result *result = &reply->result;
    struct proto_trailer trailer = metanode_trailer(m, s);
    struct proto_change_list changes = answer->changes;
    switch (opcode) {
    case PROTO_OP_link:
        a->link =
            (struct proto_link_reply){.trailer = trailer, .attr = reply->attr, .changes = changes};
        break;
    case PROTO_OP_unlink:
        a->unlink =
            (struct proto_unlink_reply){.trailer = trailer, .ino = result->ino, .changes = changes};
        break;
    case PROTO_OP_rmdir:
        a->rmdir =
            (struct proto_rmdir_reply){.trailer = trailer, .ino = result->ino, .changes = changes};
        break;
    case PROTO_OP_rename:
        a->rename = (struct proto_rename_reply){.trailer = trailer,
                                                .ino = result->ino,
                                                .victim_ino = result->victim,
                                                .changes = changes};
        break;
    case PROTO_OP_setattr:
        a->setattr = (struct proto_setattr_reply){
            .trailer = trailer, .attr = reply->attr, .changes = changes, .layout = reply->layout};
        break;
    case PROTO_OP_commit:
        a->commit = (struct proto_commit_reply){.trailer = trailer,
                                                .attr = reply->attr,
                                                .layout = reply->layout,
                                                .data_version = reply->data_version,
                                                .changes = changes,
                                                .limited = reply->limited,
                                                .size_limit = reply->size_limit};
        break;
    case PROTO_OP_setxattr:
        a->setxattr = (struct proto_setxattr_reply){.trailer = trailer, .changes = changes};
        break;
    case PROTO_OP_removexattr:
        a->removexattr = (struct proto_removexattr_reply){.trailer = trailer, .changes = changes};
        break;
    case PROTO_OP_set_quota:
        a->set_quota = (struct proto_set_quota_reply){.trailer = trailer};
        break;
    case PROTO_OP_trash_restore:
        a->trash_restore = (struct proto_trash_restore_reply){
            .trailer = trailer, .attr = reply->attr, .changes = changes};
        break;
    case PROTO_OP_trash_purge:
        a->trash_purge = (struct proto_trash_purge_reply){.trailer = trailer};
        break;
    case PROTO_OP_release:
        a->release = (struct proto_release_reply){.trailer = trailer};
        break;
    case PROTO_OP_unlock:
        a->unlock = (struct proto_unlock_reply){.trailer = trailer};
        break;
    case PROTO_OP_append_turn:
        a->append_turn = (struct proto_append_turn_reply){.trailer = trailer,
                                                          .turn = result->turn,
                                                          .end = result->end,
                                                          .attr = reply->attr,
                                                          .layout = reply->layout};
        break;
    case PROTO_OP_append_done:
        a->append_done = (struct proto_append_done_reply){.trailer = trailer,
                                                          .attr = reply->attr,
                                                          .layout = reply->layout,
                                                          .data_version = reply->data_version,
                                                          .changes = changes};
        break;
    default:
        CHECK(opcode == PROTO_OP_lease_return);
        a->lease_return = (struct proto_lease_return_reply){.trailer = trailer, .changes = changes};
        break;
    }
}

/* Which quota it was: "quota of /home: 1000 files". */
static void answer_refused(struct metanode *m, struct metanode_session *s, struct peer_request *r,
                           const struct namespace_reply *reply)
{
    const struct namespace_refusal *f = &reply->refusal;
    char line[240], bytes[TEXT_UNIT_SIZE];
    struct text t;
    if (reply->rc != -EDQUOT || f->limit == NAMESPACE_LIMIT_NONE) {
        metanode_refuse(m, s, r, reply->rc, NULL);
        return;
    }
    bool soft = f->limit == NAMESPACE_LIMIT_BYTES_SOFT || f->limit == NAMESPACE_LIMIT_FILES_SOFT;
    text_init(&t, line, sizeof line);
    text_add(&t, "quota of %s: ", f->path);
    if (f->limit == NAMESPACE_LIMIT_FILES_HARD || f->limit == NAMESPACE_LIMIT_FILES_SOFT) {
        text_add(&t, "%llu files and directories", (unsigned long long)f->value);
    } else {
        text_add(&t, "%s", text_from_bytes(f->value, bytes));
    }
    text_add(&t, "%s", soft ? ", and the grace time is over" : "");
    metanode_refuse(m, s, r, reply->rc, line);
}

void metanode_answer(struct metanode *m, struct metanode_session *s, struct peer_request *r,
                     const struct namespace_reply *reply)
{
    struct answer a;
    uint16_t opcode = r->message->opcode;
    if (reply->rc < 0) {
        answer_refused(m, s, r, reply);
        return;
    }
    memset(&a.body, 0, sizeof a.body);
    memcpy(a.change, reply->change, reply->change_count * sizeof *a.change);
    a.changes = (struct proto_change_list){.at = a.change, .count = reply->change_count};
    if (opcode == PROTO_OP_create || opcode == PROTO_OP_wopen) {
        if (reply->result.mode == PROTO_OPEN_W || reply->result.mode == PROTO_OPEN_S) {
            metanode_writer_add(m, reply->result.ino, s->id);
        }
        answer_writer(m, s, opcode, reply, &a);
    } else {
        const struct proto_commit_request *q = opcode == PROTO_OP_commit ? r->body : NULL;
        if (q != NULL && (q->flags & PROTO_COMMIT_RELEASE) != 0) {
            metanode_writer_gone(m, q->ino, s->id);
        }
        answer_other(m, s, opcode, reply, &a);
    }
    peer_request_answer(r, &a.body, NULL);
}
