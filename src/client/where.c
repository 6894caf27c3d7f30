#include "opendfs/where.h"
#include "client/inode_priv.h"
#include "client/op_priv.h"

#include <stdio.h>
#include <string.h>

/*
 * Where the pieces of a file are, a page of chunks at a time: the inode; a right to ask, because
 * members do not answer without; the map, asked anew, because the present state is wanted; then one
 * STAT to each serving member of each chunk, all at once. A member that does not answer within
 * STAT_MS is one of which nothing is known.
 */

#define STAT_MS 5000u

struct where;
struct where_ask {
    struct where *where;
    struct peer_call call;
    struct proto_stat_request request;
    struct opendfs_where_member *member; /* of the answer */
};
struct where_target {
    struct opendfs_where_target told; /* its texts are those below */
    char name[CLIENT_LABEL_MAX + 1], host[CLIENT_LABEL_MAX + 1], rack[CLIENT_LABEL_MAX + 1];
    char address[NET_ADDRESS_SIZE];
};
/* What the caller gets, in one block, members and targets behind it. */
struct where_page {
    struct opendfs_where told;
    struct opendfs_where_chunk chunk[OPENDFS_WHERE_MAX];
    char class_name[CLIENT_LABEL_MAX + 1];
    struct opendfs_where_member member[];
};
struct where {
    struct opendfs *fs;
    struct client_task *task;
    struct client_cap cap;
    struct proto_attr attr;
    struct proto_layout layout;
    struct client_map_waiter map;
    struct proto_capability_want want;
    struct where_page *page;
    struct where_target *target; /* in the page, target_count of them are used */
    size_t target_count;
    struct where_ask *ask;
    size_t first, count, waiting;
    int refused; /* the right to ask was */
};

_Static_assert((int)PROTO_MEMBER_SERVING == OPENDFS_MEMBER_SERVING &&
                   (int)PROTO_MEMBER_SYNCING == OPENDFS_MEMBER_SYNCING &&
                   (int)PROTO_MEMBER_WAITING == OPENDFS_MEMBER_WAITING &&
                   (int)PROTO_MEMBER_LAST_SERVING == OPENDFS_MEMBER_LAST_SERVING &&
                   (int)PROTO_MEMBER_OFFLINE == OPENDFS_MEMBER_OFFLINE,
               "public and protocol numbers are one");

static void where_end(struct where *w, int rc)
{
    struct client_task *t = w->task;
    if (rc == 0) {
        t->op->data = w->page;
        t->op->data_len = sizeof *w->page;
        client_op_hold(t->op, w->page, client_op_free_held);
    } else {
        mem_free(w->page);
    }
    mem_free(w->ask);
    mem_free(w);
    client_task_finish(t, rc);
}

/* ---- The answers ---- */

static void member_says(struct opendfs_where_member *m, int rc)
{
    m->result = rc == 0 ? 0 : -err_to_errno(rc);
    m->why = rc == 0 ? "" : err_text(rc);
}

static void where_answered(struct peer_call *c, const struct peer_reply *r)
{
    struct where_ask *a = container_of(c, struct where_ask, call);
    struct where *w = a->where;
    const struct proto_stat_reply *reply = r->body;
    member_says(a->member, r->rc);
    for (size_t i = 0; r->rc == 0 && i < reply->chunks.count; i++) {
        const struct proto_chunk_stat *s = &reply->chunks.at[i];
        if (s->index == a->request.first_index) {
            a->member->there = 1;
            a->member->damaged = (s->chunk_flags & PROTO_CHUNK_DAMAGED) != 0;
            a->member->epoch = s->identity.aepoch;
            a->member->version = s->identity.ver;
            a->member->length_bytes = s->length;
            a->member->allocated_bytes = s->allocated;
        }
    }
    if (--w->waiting == 0) {
        where_end(w, w->fs->freeing ? -ECANCELED : 0);
    }
}

/* ---- The questions ---- */

/* Each target once. */
static const struct opendfs_where_target *where_target(struct where *w, uint32_t id)
{
    for (size_t i = 0; i < w->target_count; i++) {
        if (w->target[i].told.id == id) {
            return &w->target[i].told;
        }
    }
    struct where_target *t = &w->target[w->target_count++];
    struct client_map_target about;
    client_map_target(w->fs, id, &about);
    (void)snprintf(t->name, sizeof t->name, "%s", about.name);
    (void)snprintf(t->host, sizeof t->host, "%s", about.host);
    (void)snprintf(t->rack, sizeof t->rack, "%s", about.rack);
    (void)snprintf(t->address, sizeof t->address, "%s", about.address);
    t->told = (struct opendfs_where_target){
        .id = id, .name = t->name, .host = t->host, .rack = t->rack, .address = t->address};
    return &t->told;
}

static void where_stat(struct where *w, struct where_ask *a, const struct opendfs_where_chunk *k,
                       struct opendfs_where_member *m)
{
    struct peer *p;
    int rc = m->state != OPENDFS_MEMBER_SERVING ? -ERR_not_serving : w->refused;
    rc = rc < 0 ? rc : client_map_peer(w->fs, m->target->id, &p);
    if (rc < 0) {
        member_says(m, rc);
        return;
    }
    a->where = w;
    a->member = m;
    a->request = (struct proto_stat_request){.route = {.chain = k->chain, .epoch = k->epoch},
                                             .capability = w->cap.cap,
                                             .data_id = w->layout.data_id,
                                             .first_index = k->index,
                                             .count = 1};
    a->call = (struct peer_call){.done = where_answered,
                                 .request = &a->request,
                                 .opcode = PROTO_OP_stat,
                                 .flags = PEER_CALL_AGAIN | PEER_CALL_RAW,
                                 .timeout_ms = STAT_MS};
    w->waiting++;
    peer_call(p, &a->call);
}

/* The rows of the page's chunks, and how many members they have. A row that is not known has none.
 */
static size_t where_rows(const struct where *w, const struct cluster_row **ret)
{
    size_t members = 0;
    for (size_t i = 0; i < w->count; i++) {
        uint32_t chain;
        int rc = client_map_chain(w->fs, &w->layout, (uint32_t)(w->first + i), &chain);
        ret[i] = rc < 0 ? NULL : client_map_row(w->fs, chain);
        members += ret[i] == NULL ? 0 : ret[i]->count;
    }
    return members;
}

static void where_tell(struct where *w)
{
    struct opendfs_where *p = &w->page->told;
    const struct client_class *class = client_map_class(w->fs, w->layout.class_id);
    if (class != NULL) {
        (void)snprintf(w->page->class_name, sizeof w->page->class_name, "%s", class->name);
    }
    *p = (struct opendfs_where){.in_metadata = w->layout.data_id == 0 ||
                                               (w->attr.flags & PROTO_INODE_INLINE) != 0,
                                .data_id = w->layout.data_id,
                                .chunk_bytes = w->layout.chunk_size,
                                .class_id = w->layout.class_id,
                                .table_version = w->layout.table_version,
                                .seed = w->layout.seed,
                                .stripe_width = w->layout.stripe_width,
                                .class_name = w->page->class_name,
                                .copies = class == NULL ? 0 : class->copies,
                                .chunks = w->page->chunk,
                                .count = w->count};
    client_stat_from(&w->attr, &p->stat);
    p->chunk_count = p->in_metadata || p->chunk_bytes == 0
                         ? 0
                         : (w->attr.size + p->chunk_bytes - 1) / p->chunk_bytes;
}

static void where_fill(struct where *w, const struct cluster_row *const *row)
{
    struct opendfs_where_member *m = w->page->member;
    for (size_t i = 0; i < w->count; i++) {
        struct opendfs_where_chunk *k = &w->page->chunk[i];
        *k = (struct opendfs_where_chunk){.index = (uint32_t)(w->first + i), .members = m};
        if (row[i] == NULL) {
            continue;
        }
        k->chain = row[i]->chain;
        k->epoch = row[i]->epoch;
        k->member_count = row[i]->count;
        for (size_t n = 0; n < row[i]->count; n++, m++) {
            m->target = where_target(w, row[i]->member[n].target);
            m->state = row[i]->member[n].state;
        }
    }
}

static void where_ask_all(struct where *w)
{
    struct where_ask *a = w->ask;
    struct opendfs_where_member *m = w->page->member;
    w->waiting = 1; /* ours: answers may come from anywhere, but not before all are asked */
    for (size_t i = 0; i < w->count; i++) {
        for (size_t n = 0; n < w->page->chunk[i].member_count; n++) {
            where_stat(w, a++, &w->page->chunk[i], m++);
        }
    }
    if (--w->waiting == 0) {
        where_end(w, 0);
    }
}

static void where_mapped(struct client_map_waiter *waiter, int rc)
{
    struct where *w = container_of(waiter, struct where, map);
    const struct cluster_row *row[OPENDFS_WHERE_MAX];
    if (rc < 0 || w->fs->freeing) {
        where_end(w, rc < 0 ? rc : -ECANCELED);
        return;
    }
    size_t members = where_rows(w, row);
    size_t bytes = members * (sizeof(struct opendfs_where_member) + sizeof(struct where_target));
    w->page = mem_zalloc(sizeof *w->page + bytes);
    w->ask = mem_calloc(members + 1, sizeof *w->ask);
    if (w->page == NULL || w->ask == NULL) {
        where_end(w, -ENOMEM);
        return;
    }
    w->target = (struct where_target *)(void *)&w->page->member[members];
    where_tell(w);
    where_fill(w, row);
    where_ask_all(w);
}

/* ---- The file ---- */

static void where_capability(struct client_task *t, const struct peer_reply *r)
{
    struct where *w = t->own;
    const struct proto_capability_renew_reply *m = r->body;
    if (r->rc < 0) {
        where_end(w, r->rc);
        return;
    }
    bool given = m->capabilities.count == 1 && m->capabilities.at[0].data_id != 0;
    w->refused = given ? 0 : -EACCES;
    if (given) {
        client_cap_take(w->fs, &w->cap, &m->capabilities.at[0]);
    }
    client_map_refresh(w->fs, &w->map);
}

static void where_begin(struct client_task *t, const struct proto_attr *attr,
                        const struct proto_layout *layout)
{
    const struct opendfs_where_query *q = client_op_of(t->op)->in;
    struct where *w = mem_zalloc(sizeof *w);
    if (w == NULL) {
        client_task_finish(t, -ENOMEM);
        return;
    }
    w->fs = t->fs;
    w->task = t;
    w->attr = *attr;
    w->layout = *layout;
    w->map.done = where_mapped;
    list_init(&w->map.node);
    bool chunked = attr->type == PROTO_INODE_FILE && layout->data_id != 0 &&
                   layout->chunk_size != 0 && (attr->flags & PROTO_INODE_INLINE) == 0;
    uint64_t all = chunked ? (attr->size + layout->chunk_size - 1) / layout->chunk_size : 0;
    all = base_min(all, UINT64_C(1) << 32); /* no chunk has a larger number */
    uint64_t max = q->max == 0 ? OPENDFS_WHERE_MAX : base_min(q->max, OPENDFS_WHERE_MAX);
    w->first = (size_t)base_min(q->first, all);
    w->count = (size_t)base_min(max, all - w->first);
    if (w->count == 0) {
        client_map_refresh(w->fs, &w->map);
        return;
    }
    t->own = w;
    w->want = (struct proto_capability_want){.ino = attr->ino, .rights = PROTO_RIGHT_READ};
    t->request.capability_renew =
        (struct proto_capability_renew_request){.wanted = {.at = &w->want, .count = 1}};
    client_task_query(t, PROTO_OP_capability_renew, where_capability);
}

static void where_attr(struct client_task *t, const struct peer_reply *r)
{
    const struct proto_getattr_reply *m = r->body;
    if (r->rc < 0) {
        client_task_fail(t, r);
    } else {
        where_begin(t, &m->attr, &m->layout);
    }
}

/* The size as a writer elsewhere has it, too: only getattr tells. */
static void where_ino(struct client_task *t, uint64_t ino)
{
    t->request.getattr = (struct proto_getattr_request){.ino = ino};
    client_task_query(t, PROTO_OP_getattr, where_attr);
}

static void where_walked(struct client_task *t, int rc)
{
    rc = client_walk_found(t, rc);
    if (rc < 0) {
        client_task_finish(t, rc);
    } else {
        where_ino(t, t->walk.attr.ino);
    }
}

static void where_run(struct opendfs_op *op)
{
    const struct opendfs_where_query *q = client_op_of(op)->in;
    if (q->path != NULL) {
        client_op_walk(op, false, where_walked);
        return;
    }
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        where_ino(t, q->ino);
    }
}

void opendfs_async_where(struct opendfs *fs, struct opendfs_op *op,
                         const struct opendfs_where_query *query)
{
    client_op_of(op)->path = query->path;
    client_op_of(op)->in = query;
    client_op_start(fs, op, where_run);
}
