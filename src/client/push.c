#include "client/map_priv.h"
#include "client/share_priv.h"
#include "client/update_priv.h"

/*
 * What the leader asks and says. This client caches no names, and attributes only of open files:
 * those it asks for again before the next look. Files that are open are named, so that their inodes
 * live on; times of writes that were not committed are handed over.
 */

static void push_seen(struct opendfs *fs, uint64_t push_seq)
{
    fs->session.push_seq = base_max(fs->session.push_seq, push_seq);
}

/* A question about a file of which a mutation is under way: what that says comes first. Lives in
 * the request's own memory. */
struct client_asked {
    struct list node;
    struct peer_request *request;
};

static struct client_inode *item_inode(struct opendfs *fs, const struct proto_inval_item *item)
{
    return client_inode_find(fs, item->kind == PROTO_INVAL_NAME ? item->child : item->ino);
}

static void ack_item(struct opendfs *fs, const struct proto_inval_item *item,
                     struct proto_inval_ack *ack)
{
    struct client_inode *i = item_inode(fs, item);
    if (i == NULL) {
        return;
    }
    ack->bits = PROTO_ACK_OPEN | PROTO_ACK_KEEP;
    i->kept = i->kept || (item->bits & PROTO_INVAL_UNLINK) != 0;
    i->outdated = true;
    bool writes = i->mode == PROTO_OPEN_W || i->mode == PROTO_OPEN_S;
    i->writes += writes ? 0 : 1; /* somebody else has: what was read ahead is of before that */
    if ((item->bits & PROTO_INVAL_TIMES) != 0 && writes && !i->told) {
        ack->bits |= i->dirty ? PROTO_ACK_HAS_TIMES : 0;
        ack->mtime_ns = i->mtime_ns;
        ack->ctime_ns = i->mtime_ns;
        ack->atime_ns = i->attr.atime_ns;
        i->told = true; /* the leader logs them with what it asks for */
    }
}

/* A commit that is on its way has the times of before. */
static bool asked_waits(struct opendfs *fs, struct peer_request *r)
{
    const struct proto_inval_request *m = r->body;
    for (size_t k = 0; k < m->items.count; k++) {
        struct client_inode *i = item_inode(fs, &m->items.at[k]);
        bool times = (m->items.at[k].bits & PROTO_INVAL_TIMES) != 0;
        if (i != NULL && times && i->committing && i->dead == 0) {
            struct client_asked *a = mem_arena_alloc(&r->arena, sizeof *a);
            if (a != NULL) {
                a->request = r;
                list_push_back(&i->asked, &a->node);
                return true;
            }
        }
    }
    return false;
}

static void inval_asked(struct peer_user *u, struct peer_request *r)
{
    struct opendfs *fs = container_of(u, struct opendfs, meta_user);
    const struct proto_inval_request *m = r->body;
    struct proto_inval_reply reply = {.lease_epoch = fs->session.lease_epoch};
    if (asked_waits(fs, r)) {
        return;
    }
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

void client_push_step(struct client_inode *i)
{
    struct list due, *node;
    if (i->committing && i->dead == 0) {
        return;
    }
    list_init(&due);
    list_splice_back(&due, &i->asked);
    while ((node = list_pop_front(&due)) != NULL) {
        inval_asked(&i->fs->meta_user, LIST_ENTRY(node, struct client_asked, node)->request);
    }
}

void client_push_fini(struct opendfs *fs)
{
    struct dict_iter it;
    struct dict_node *n;
    struct list *node;
    dict_iter_init(&it, &fs->inodes);
    while ((n = dict_iter_next(&it)) != NULL) {
        struct client_inode *i = container_of(n, struct client_inode, node);
        while ((node = list_pop_front(&i->asked)) != NULL) {
            peer_request_fail(LIST_ENTRY(node, struct client_asked, node)->request, -ERR_busy,
                              NULL);
        }
    }
}

static void recall_asked(struct peer_user *u, struct peer_request *r)
{
    struct opendfs *fs = container_of(u, struct opendfs, meta_user);
    const struct proto_recall_request *m = r->body;
    const struct client_inode *i = client_inode_find(fs, m->ino);
    const struct proto_recall_reply reply = {.lease_epoch = fs->session.lease_epoch,
                                             .left = i == NULL ? 0 : client_update_left(i)};
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
        reply.told = i->told;
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
    {.opcode = PROTO_OP_shared_now, .push = shared_now_pushed},
};

const struct peer_handler *client_meta_handlers(size_t *ret_count)
{
    *ret_count = ARRAY_COUNT(handlers);
    return handlers;
}
