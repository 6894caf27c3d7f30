/*
 * metanode/query.c -- reads of clients, on a snapshot under the read lease: the lease is checked
 * before the snapshot is taken and again when the answer is built, so an answer is never older than
 * what another leader may have said.
 */
#include "metanode/metanode_priv.h"

#define METANODE_MAP_ROWS 2048u
#define METANODE_OPEN_WAIT_NS (60000 * METANODE_NS_PER_MS)

union query_reply {
    struct proto_trailer trailer; /* the first field of all but cluster_map */
    struct proto_lookup_reply lookup;
    struct proto_walk_reply walk;
    struct proto_getattr_reply getattr;
    struct proto_readdir_reply readdir;
    struct proto_readlink_reply readlink;
    struct proto_access_reply access;
    struct proto_open_reply open;
    struct proto_read_inline_reply read_inline;
    struct proto_getxattr_reply getxattr;
    struct proto_listxattr_reply listxattr;
    struct proto_capability_renew_reply capability_renew;
    struct proto_statfs_reply statfs;
    struct proto_dir_stats_reply dir_stats;
    struct proto_cluster_map_reply cluster_map;
    struct proto_trash_list_reply trash_list;
    struct proto_names_reply names;
    struct proto_lock_test_reply lock_test;
};

struct query {
    struct metanode_read read;
    struct metanode *m;
    struct peer_request *request;
    uint64_t session; /* 0: none */
    uint8_t mac[CLUSTER_MAC_BYTES];
    bool asked; /* those who write the file; not again */
    /* open: */
    bool known;          /* that it has the file open, or is about to: metanode_grant_open() */
    bool held;           /* another session writes alone, or has not flushed */
    uint64_t give_up_ns; /* when that has lasted too long; 0: it does not wait */
    struct metanode_latch_wait latch;
    struct metanode_share_reader reader;
    struct proto_grant remote;
    struct metanode_ask ask;
    union query_reply reply;
};

static uint64_t query_ino(const struct query *q)
{
    const struct proto_open_request *r = q->request->body;
    return r->ino;
}

static int query_renew(struct query *q, const struct namespace_view *v)
{
    const struct proto_capability_renew_request *r = q->request->body;
    struct proto_capability_list *list = &q->reply.capability_renew.capabilities;
    size_t n = r->wanted.count;
    uint8_t *macs = mem_arena_alloc(v->arena, n * CLUSTER_MAC_BYTES + 1);
    list->at = mem_arena_alloc(v->arena, n * sizeof *list->at + 1);
    list->count = n;
    int rc = macs == NULL || list->at == NULL ? -ENOMEM : 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = namespace_capability(v, &r->caller, &r->wanted.at[i], &list->at[i]);
        if (rc == 0) {
            metanode_sign(q->m, &list->at[i], macs + i * CLUSTER_MAC_BYTES);
        }
    }
    return rc;
}

static int query_open(struct query *q, const struct namespace_view *v)
{
    const struct proto_open_request *r = q->request->body;
    struct proto_open_reply *reply = &q->reply.open;
    struct namespace_sharing sharing = {0};
    int rc = namespace_open(v, r, reply);
    bool others = rc == 0 && reply->mode == PROTO_OPEN_S && (r->access & PROTO_RIGHT_READ) != 0;
    rc = others ? namespace_sharing(v, r->ino, &sharing) : rc;
    q->held = (sharing.holder != 0 && sharing.holder != q->session) ||
              (sharing.alone != 0 && sharing.alone != q->session);
    if (rc < 0 || q->held || reply->layout.data_id == 0) {
        return rc;
    }
    /* Authority to write comes from `wopen` only. */
    struct proto_capability_want want = {.ino = r->ino, .rights = PROTO_RIGHT_READ};
    rc = namespace_capability(v, &r->caller, &want, &reply->capability);
    if (rc == -EACCES) {
        return 0; /* opened for writing alone */
    }
    if (rc == 0) {
        metanode_sign(q->m, &reply->capability, q->mac);
    }
    return rc;
}

/* What targets said last counts, not what was logged when they registered. */
static int query_statfs(struct query *q, const struct namespace_view *v)
{
    const struct proto_statfs_request *r = q->request->body;
    struct proto_statfs_reply *reply = &q->reply.statfs;
    struct proto_storage_class class = {0};
    int rc = namespace_statfs(v, reply);
    int found = rc < 0 ? rc : namespace_view_class(v, 0, &class);
    if (found < 0 && found != -ENOENT) {
        return found;
    }
    uint64_t copies = found == 0 && class.copies > 0 ? class.copies : q->m->opt.copies;
    uint64_t total = 0, available = 0;
    LIST_FOR_EACH(node, &q->m->targets.all)
    {
        const struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        if (metanode_target_stays(t)) { /* what is to be emptied takes nothing */
            total += t->total;
            available += t->free;
        }
    }
    reply->total = total / copies;
    reply->free = available / copies;
    reply->available = available / copies;
    return r->ino == 0 ? 0 : namespace_statfs_quota(v, r->ino, reply);
}

static int query_map(struct query *q, const struct namespace_view *v)
{
    const struct proto_cluster_map_request *r = q->request->body;
    struct proto_cluster_map_reply *reply = &q->reply.cluster_map;
    int rc = namespace_cluster_map(v, r, METANODE_MAP_ROWS, reply);
    for (size_t i = 0; rc == 0 && i < reply->targets.count; i++) {
        struct proto_target *t = &reply->targets.at[i];
        const struct metanode_target *known = metanode_target_find(q->m, t->id);
        if (known != NULL) { /* what is not logged: space, and whether it lives */
            t->total = known->total;
            t->free = known->free;
            t->used = known->used;
            t->state = known->alive ? PROTO_TARGET_UP : PROTO_TARGET_DOWN;
        }
    }
    return rc;
}

static int query_names(struct query *q, const struct namespace_view *v)
{
    const void *body = q->request->body;
    switch (q->request->message->opcode) {
    case PROTO_OP_lookup:
        return namespace_lookup(v, body, &q->reply.lookup);
    case PROTO_OP_walk:
        return namespace_walk(v, body, &q->reply.walk);
    case PROTO_OP_getattr:
        return namespace_getattr(v, body, &q->reply.getattr);
    case PROTO_OP_readdir:
        return namespace_readdir(v, body, &q->reply.readdir);
    case PROTO_OP_readlink:
        return namespace_readlink(v, body, &q->reply.readlink);
    case PROTO_OP_access:
        return namespace_access(v, body, &q->reply.access);
    case PROTO_OP_read_inline:
        return namespace_read_inline(v, body, &q->reply.read_inline);
    case PROTO_OP_getxattr:
        return namespace_getxattr(v, body, &q->reply.getxattr);
    default:
        CHECK(q->request->message->opcode == PROTO_OP_listxattr);
        return namespace_listxattr(v, body, &q->reply.listxattr);
    }
}

static int query_ask(struct query *q, const struct namespace_view *v)
{
    memset(&q->reply, 0, sizeof q->reply);
    switch (q->request->message->opcode) {
    case PROTO_OP_open:
        return query_open(q, v);
    case PROTO_OP_capability_renew:
        return query_renew(q, v);
    case PROTO_OP_statfs:
        return query_statfs(q, v);
    case PROTO_OP_dir_stats:
        return namespace_dir_stats(v, q->request->body, &q->reply.dir_stats);
    case PROTO_OP_cluster_map:
        return query_map(q, v);
    case PROTO_OP_trash_list:
        return namespace_trash_list(v, q->request->body, &q->reply.trash_list);
    case PROTO_OP_lock_test:
        return namespace_lock_test(v, q->request->body, &q->reply.lock_test);
    case PROTO_OP_names:
        return namespace_names(v, q->request->body, &q->reply.names);
    default:
        return query_names(q, v);
    }
}

static int query_run(struct metanode_read *read, const struct namespace_view *v)
{
    struct query *q = container_of(read, struct query, read);
    struct namespace_view view = *v;
    struct metanode_session *s = q->session == 0 ? NULL : metanode_session_find(q->m, q->session);
    int rc = 0;
    if (s != NULL) {
        const struct proto_caller *caller = q->request->body;
        rc = metanode_session_know(s, v, caller->cred, &view.known);
    }
    return rc < 0 ? rc : query_ask(q, &view);
}

/* The attributes that are told, if another client may know better. */
static struct proto_attr *query_written_elsewhere(struct query *q)
{
    struct proto_walk_step_list *steps = &q->reply.walk.steps;
    struct proto_attr *a = NULL;
    switch (q->request->message->opcode) {
    case PROTO_OP_getattr:
        a = &q->reply.getattr.attr;
        break;
    case PROTO_OP_lookup:
        a = &q->reply.lookup.attr;
        break;
    case PROTO_OP_walk:
        a = steps->count == 0 ? NULL : &steps->at[steps->count - 1].attr;
        break;
    default:
        break;
    }
    bool file = a != NULL && a->type == PROTO_INODE_FILE;
    return file && metanode_writer_elsewhere(q->m, a->ino, q->session) ? a : NULL;
}

static void query_asked(struct metanode_ask *a, int rc);

static void query_refuse(struct query *q, int rc, const char *text)
{
    if (q->known) {
        metanode_grant_opened(q->m, q->session, query_ino(q), false);
    }
    metanode_refuse(q->m, q->session == 0 ? NULL : metanode_session_find(q->m, q->session),
                    q->request, rc, text);
}

static void query_let_read(struct metanode_share_reader *r)
{
    struct query *q = container_of(r, struct query, reader);
    metanode_read(q->m, &q->read);
}

/* True: whoever writes alone is asked to let others see it, and the read comes again (6.1). */
static bool query_waits(struct query *q)
{
    struct metanode *m = q->m;
    uint64_t now = metanode_now(m);
    if (q->give_up_ns == 0) {
        q->give_up_ns = now + METANODE_OPEN_WAIT_NS + 3 * metanode_lease_ns(m);
    }
    q->reader.go = query_let_read;
    return m->phase == METANODE_SERVING && m->stop == NULL && now < q->give_up_ns &&
           metanode_share_read(m, query_ino(q), &q->reader);
}

static void query_done(struct metanode_read *read, int rc)
{
    struct query *q = container_of(read, struct query, read);
    struct metanode *m = q->m;
    struct metanode_session *s = q->session == 0 ? NULL : metanode_session_find(m, q->session);
    if (rc == 0 && !metanode_leads(m)) {
        rc = -ERR_not_leader;
    }
    if (rc < 0) {
        query_refuse(q, rc, NULL);
        return;
    }
    if (q->held) {
        if (!query_waits(q)) {
            query_refuse(q, -ERR_busy, "another client writes it and has not flushed");
        }
        return;
    }
    struct proto_attr *written = s == NULL ? NULL : query_written_elsewhere(q);
    if (written != NULL && q->request->message->opcode == PROTO_OP_getattr && !q->asked) {
        q->asked = true;
        q->ask = (struct metanode_ask){.attr = written, .done = query_asked};
        metanode_ask(m, &q->ask, written->ino, q->session);
        return;
    }
    if (s != NULL) {
        q->reply.trailer = metanode_trailer(m, s);
    }
    if (written != NULL) { /* who wants to know its size asks by getattr */
        q->remote = (struct proto_grant){.kind = PROTO_OBJECT_INO,
                                         .ino = written->ino,
                                         .version = written->version,
                                         .flags = PROTO_GRANT_REMOTE_WRITER};
        q->reply.trailer.grants = (struct proto_grant_list){.at = &q->remote, .count = 1};
    }
    if (q->known) {
        metanode_grant_opened(m, q->session, query_ino(q), s != NULL);
    }
    peer_request_answer(q->request, &q->reply, NULL);
}

static void query_asked(struct metanode_ask *a, int rc)
{
    struct query *q = container_of(a, struct query, ask);
    if (rc == 0 && a->stale) {
        metanode_read(q->m, &q->read); /* what it let go of is in the record now */
    } else {
        query_done(&q->read, rc);
    }
}

static void query_begin(struct query *q);

static void query_unlatched(struct metanode_latch_wait *w)
{
    struct query *q = container_of(w, struct query, latch);
    if (q->m->phase != METANODE_SERVING) {
        query_refuse(q, -ERR_unavailable, NULL);
    } else {
        query_begin(q);
    }
}

/* Who opens a file to read it is known before it is read (L1). */
static void query_begin(struct query *q)
{
    const struct proto_open_request *r = q->request->body;
    struct metanode_session *s = q->session == 0 ? NULL : metanode_session_find(q->m, q->session);
    bool opens =
        q->request->message->opcode == PROTO_OP_open && (r->access & PROTO_RIGHT_READ) != 0;
    if (opens && s != NULL) {
        q->latch.go = query_unlatched;
        int rc = metanode_grant_open(q->m, s, r->ino, &q->latch);
        if (rc < 0) {
            query_refuse(q, rc, NULL);
        }
        if (rc <= 0) {
            return;
        }
        q->known = true;
    }
    metanode_read(q->m, &q->read);
}

void metanode_query(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    uint64_t session = 0;
    if (!metanode_admit(m, r)) {
        return;
    }
    if (r->message->opcode != PROTO_OP_cluster_map) { /* which anybody may ask */
        const struct proto_caller *caller = r->body;  /* the first field of every read */
        struct metanode_session *s = metanode_session_of(m, r, caller->session);
        if (s == NULL || !metanode_turn_take(m, s, r, metanode_query, false)) {
            return;
        }
        session = s->id;
    }
    stats_count(&m->queries, 1);
    struct query *q = mem_arena_alloc(&r->arena, sizeof *q); /* goes with the request */
    if (q == NULL) {
        metanode_refuse(m, NULL, r, -ERR_busy, NULL);
        return;
    }
    *q = (struct query){
        .m = m, .request = r, .session = session, .read = {.run = query_run, .done = query_done}};
    query_begin(q);
}
