#include "client/map_priv.h"
#include "client/update_priv.h"

/*
 * What the leader asks and says. This client caches no names and attributes, so invalidations are
 * acknowledged at once; files that are open are named, so that their inodes live on.
 */

static void push_seen(struct opendfs *fs, uint64_t push_seq)
{
    fs->session.push_seq = base_max(fs->session.push_seq, push_seq);
}

static void ack_item(struct opendfs *fs, const struct proto_inval_item *item,
                     struct proto_inval_ack *ack)
{
    uint64_t ino = item->kind == PROTO_INVAL_NAME ? item->child : item->ino;
    const struct client_inode *i = client_inode_find(fs, ino);
    if (i == NULL) {
        return;
    }
    ack->bits = PROTO_ACK_OPEN | PROTO_ACK_KEEP;
    if (item->kind == PROTO_INVAL_ATTR && i->mode == PROTO_OPEN_W) {
        ack->bits |= PROTO_ACK_HAS_TIMES;
        ack->size = i->size;
        ack->mtime_ns = i->mtime_ns;
        ack->ctime_ns = i->mtime_ns;
        ack->atime_ns = i->attr.atime_ns;
    }
}

static void inval_asked(struct peer_user *u, struct peer_request *r)
{
    struct opendfs *fs = container_of(u, struct opendfs, meta_user);
    const struct proto_inval_request *m = r->body;
    struct proto_inval_reply reply = {.lease_epoch = fs->session.lease_epoch};
    reply.acks.at = mem_arena_alloc(&r->arena, (m->items.count + 1) * sizeof *reply.acks.at);
    if (reply.acks.at == NULL) {
        peer_request_fail(r, -ENOMEM, NULL);
        return;
    }
    for (size_t i = 0; i < m->items.count; i++) {
        reply.acks.at[i] = (struct proto_inval_ack){0};
        ack_item(fs, &m->items.at[i], &reply.acks.at[i]);
    }
    reply.acks.count = m->items.count;
    push_seen(fs, m->push_seq);
    peer_request_answer(r, &reply, NULL);
}

static void recall_asked(struct peer_user *u, struct peer_request *r)
{
    struct opendfs *fs = container_of(u, struct opendfs, meta_user);
    const struct proto_recall_request *m = r->body;
    const struct proto_recall_reply reply = {.lease_epoch = fs->session.lease_epoch};
    push_seen(fs, m->push_seq);
    if (m->kind == PROTO_OBJECT_INO) {
        client_inode_recall(fs, m->ino);
    }
    peer_request_answer(r, &reply, NULL);
}

static void query_asked(struct peer_user *u, struct peer_request *r)
{
    struct opendfs *fs = container_of(u, struct opendfs, meta_user);
    const struct proto_query_request *m = r->body;
    const struct client_inode *i = client_inode_find(fs, m->ino);
    struct proto_query_reply reply = {.lease_epoch = fs->session.lease_epoch};
    if (i != NULL && (i->mode == PROTO_OPEN_W || i->mode == PROTO_OPEN_S)) {
        reply.known = true;
        reply.size = i->size;
        reply.mtime_ns = i->mtime_ns;
        reply.ctime_ns = i->mtime_ns;
        reply.allocated = i->attr.allocated;
    }
    push_seen(fs, m->push_seq);
    peer_request_answer(r, &reply, NULL);
}

static void drop_all_pushed(struct peer_user *u, struct peer_link *l, const void *body)
{
    struct opendfs *fs = container_of(u, struct opendfs, meta_user);
    const struct proto_drop_all_push *m = body;
    (void)l;
    push_seen(fs, m->push_seq);
}

static void map_changed_pushed(struct peer_user *u, struct peer_link *l, const void *body)
{
    struct opendfs *fs = container_of(u, struct opendfs, meta_user);
    const struct proto_map_changed_push *m = body;
    (void)l;
    push_seen(fs, m->push_seq);
    client_map_changed(fs, m->epoch);
}

static void lock_granted_pushed(struct peer_user *u, struct peer_link *l, const void *body)
{
    struct opendfs *fs = container_of(u, struct opendfs, meta_user);
    const struct proto_lock_granted_push *m = body;
    (void)l;
    push_seen(fs, m->push_seq);
}

static void shared_now_pushed(struct peer_user *u, struct peer_link *l, const void *body)
{
    struct opendfs *fs = container_of(u, struct opendfs, meta_user);
    const struct proto_shared_now_push *m = body;
    (void)l;
    push_seen(fs, m->push_seq);
    client_share_pushed(fs, m->ino);
}

static const struct peer_handler handlers[] = {
    {.opcode = PROTO_OP_inval, .request = inval_asked},
    {.opcode = PROTO_OP_recall, .request = recall_asked},
    {.opcode = PROTO_OP_query, .request = query_asked},
    {.opcode = PROTO_OP_drop_all, .push = drop_all_pushed},
    {.opcode = PROTO_OP_map_changed, .push = map_changed_pushed},
    {.opcode = PROTO_OP_lock_granted, .push = lock_granted_pushed},
    {.opcode = PROTO_OP_shared_now, .push = shared_now_pushed},
};

const struct peer_handler *client_meta_handlers(size_t *ret_count)
{
    *ret_count = ARRAY_COUNT(handlers);
    return handlers;
}
