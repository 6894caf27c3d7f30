/*
 * metanode/session.c -- what the leader knows of each session beside its records: when its lease
 * was renewed, where its client is, what it has under way.
 *
 * A session that is silent for T(1+e) is lapsed: its answers do not say `renewed` until it has
 * resumed or reclaimed (L4). It ends only by a command in the log: when somebody needs what it
 * holds (share.c), when its client closes or replaces it, or after a long silence.
 */
#include "metanode/metanode_priv.h"

#include "base/log.h"
#include "namespace/known.h"

#define METANODE_MAP_PUSH_NS (10 * METANODE_NS_PER_MS)
#define METANODE_EXPIRE_BURST 64u /* per round of housekeeping */
#define METANODE_IDLE_LEASES 6u   /* so long a connection may have no session and ask nothing */

static bool session_equal(const struct dict_node *node, const void *key)
{
    return container_of(node, const struct metanode_session, node)->id == *(const uint64_t *)key;
}

static void session_dropped(struct dict_node *node, void *owner)
{
    struct metanode_session *s = container_of(node, struct metanode_session, node);
    (void)owner;
    mem_free(s->slot);
    if (s->known != NULL) {
        namespace_known_clear(s->known);
        mem_free(s->known);
    }
    mem_free(s);
}

static const struct dict_ops session_dict_ops = {.equal = session_equal,
                                                 .dropped = session_dropped};

static void sessions_housekeeping(struct loop_timer *t);
static void sessions_push_map(struct loop_timer *t);

int metanode_sessions_init(struct metanode *m)
{
    dict_init(&m->sessions.by_id, &session_dict_ops, m, loop_random(m->env->loop));
    list_init(&m->sessions.all);
    m->sessions.housekeeping.fire = sessions_housekeeping;
    m->sessions.map_push.fire = sessions_push_map;
    return 0;
}

void metanode_sessions_fini(struct metanode *m)
{
    loop_timer_cancel(m->env->loop, &m->sessions.housekeeping);
    loop_timer_cancel(m->env->loop, &m->sessions.map_push);
    if (m->sessions.by_id.ops != NULL) {
        dict_fini(&m->sessions.by_id);
    }
}

struct metanode_session *metanode_session_find(struct metanode *m, uint64_t id)
{
    struct dict *d = &m->sessions.by_id;
    struct dict_node *node = dict_find(d, dict_hash_u64(d, id), &id);
    return node == NULL ? NULL : container_of(node, struct metanode_session, node);
}

int metanode_session_know(struct metanode_session *s, const struct namespace_view *v, uint32_t cred,
                          const struct namespace_known **ret)
{
    if (cred == 0) {
        return 0; /* nobody: the read itself says so */
    }
    if (s->known == NULL) {
        s->known = mem_zalloc(sizeof *s->known);
    }
    return s->known == NULL ? -ENOMEM : namespace_known_get(s->known, v, s->id, cred, ret);
}

int metanode_session_add(struct metanode *m, uint64_t id, struct metanode_session **ret)
{
    struct dict *d = &m->sessions.by_id;
    struct metanode_session *s = metanode_session_find(m, id);
    if (s == NULL) {
        s = mem_zalloc(sizeof *s);
        if (s == NULL) {
            return -ENOMEM;
        }
        s->id = id;
        list_init(&s->turn);
        list_init(&s->grants);
        list_init(&s->waiting);
        s->renewed_ns = metanode_now(m);
        int rc = dict_insert(d, dict_hash_u64(d, id), &s->node);
        if (rc < 0) {
            mem_free(s);
            return rc;
        }
        list_push_back(&m->sessions.all, &s->all);
    }
    *ret = s;
    return 0;
}

void metanode_session_remove(struct metanode *m, uint64_t id)
{
    struct metanode_session *s = metanode_session_find(m, id);
    if (s != NULL) { /* mutations under way find it gone when they end */
        dict_remove(&m->sessions.by_id, &s->node);
        list_remove(&s->all);
        metanode_writers_heard(m, s);
        metanode_grants_drop(m, s);
        metanode_turn_drop(m, s);
        metanode_locks_drop(m, s);
        session_dropped(&s->node, m);
    }
}

struct metanode_session *metanode_session_of(struct metanode *m, struct peer_request *r,
                                             uint64_t id)
{
    struct metanode_session *s = metanode_session_find(m, id);
    if (r->link == NULL) {
        metanode_refuse(m, NULL, r, -ERR_closed, NULL);
        return NULL;
    }
    if (s == NULL || s->expiring) {
        metanode_refuse(m, NULL, r, s == NULL ? -ERR_session_expired : -ERR_busy, NULL);
        return NULL;
    }
    if (r->link->session != id) {
        metanode_refuse(m, NULL, r, -ERR_protocol, "the connection is of another session");
        return NULL;
    }
    if (r->link->generation != s->generation) {
        bool newer = r->link->generation > s->generation;
        metanode_refuse(m, NULL, r, newer ? -ERR_busy : -ERR_closed,
                        newer ? "the session is not resumed yet" : "a newer connection has come");
        return NULL;
    }
    return s;
}

bool metanode_session_is_lapsed(struct metanode *m, struct metanode_session *s)
{
    if (metanode_now(m) > s->renewed_ns + metanode_lapse_ns(m)) {
        s->lapsed = true;
    }
    return s->lapsed;
}

struct proto_trailer metanode_trailer(struct metanode *m, struct metanode_session *s)
{
    struct proto_trailer t = {.as_of = s->push_seq, .lease_epoch = s->lease_epoch};
    if (s->lease_epoch != 0 && !metanode_session_is_lapsed(m, s) && metanode_leads(m)) {
        t.renewed = true;
        s->renewed_ns = metanode_now(m);
    }
    return t;
}

void metanode_session_down(struct metanode *m, struct peer_link *l)
{
    struct metanode_session *s =
        l->role == PROTO_ROLE_CLIENT ? metanode_session_find(m, l->session) : NULL;
    if (s != NULL && s->link == l) {
        s->link = NULL; /* nothing else: a broken connection is no lapse (L3) */
    }
}

/* One push for all that changes in a moment: rows change by the dozen. */
void metanode_push_map_changed(struct metanode *m)
{
    if (!loop_timer_active(&m->sessions.map_push)) {
        loop_timer_in(m->env->loop, &m->sessions.map_push, METANODE_MAP_PUSH_NS);
    }
}

static void sessions_push_map(struct loop_timer *t)
{
    struct metanode *m = container_of(t, struct metanode, sessions.map_push);
    LIST_FOR_EACH(node, &m->sessions.all)
    {
        struct metanode_session *s = LIST_ENTRY(node, struct metanode_session, all);
        struct proto_map_changed_push push = {
            .push_seq = s->push_seq + 1, .lease_epoch = s->lease_epoch, .epoch = m->map_epoch};
        if (s->link != NULL && peer_link_push(s->link, PROTO_OP_map_changed, &push) == 0) {
            s->push_seq++; /* else: a stale row is refused by its targets, which tells the client */
        }
    }
}

struct session_expiry {
    struct metanode_waiter waiter;
    struct metanode *m;
    uint64_t session;
};

static void session_expired(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    struct session_expiry *x = container_of(w, struct session_expiry, waiter);
    struct metanode_session *s = metanode_session_find(x->m, x->session);
    rc = rc == 0 ? reply->rc : rc;
    if (s != NULL) { /* applied ones are gone by now; this one has to be tried again */
        s->expiring = false;
        log_warn(x->m->env->log, "cannot end a session", LOG_U64("session", x->session),
                 LOG_RC(rc));
    }
    mem_free(x);
}

void metanode_session_expire(struct metanode *m, uint64_t id)
{
    struct metanode_session *s = metanode_session_find(m, id);
    struct namespace_expire body = {.session = id};
    if (s == NULL || s->expiring) {
        return;
    }
    struct session_expiry *x = mem_zalloc(sizeof *x);
    if (x == NULL) {
        return; /* asked for again by the next round */
    }
    *x = (struct session_expiry){.m = m, .session = id, .waiter.done = session_expired};
    s->expiring = true;
    if (metanode_propose(m, NAMESPACE_EXPIRE, &namespace_expire_type, &body, &x->waiter) < 0) {
        s->expiring = false;
        mem_free(x);
        return;
    }
    log_info(m->env->log, "session ends: it was silent", LOG_U64("session", id));
}

/* A client without a session, or an administrator, that has not asked for anything. */
static bool session_link_is_idle(struct metanode *m, const struct peer_link *l, uint64_t now)
{
    bool asks = (l->role & (PROTO_ROLE_CLIENT | PROTO_ROLE_ADMIN)) != 0;
    return asks && now > l->heard_ns + METANODE_IDLE_LEASES * metanode_lease_ns(m) &&
           list_empty(&l->requests) && metanode_session_find(m, l->session) == NULL;
}

static void sessions_close_idle(struct metanode *m)
{
    uint64_t now = metanode_now(m);
    struct peer_link *next = peer_server_next(m->server, NULL);
    while (next != NULL) {
        struct peer_link *l = next;
        next = peer_server_next(m->server, l);
        if (session_link_is_idle(m, l, now)) {
            peer_link_close(l, -ETIMEDOUT, "it is idle and has no session");
        }
    }
}

static void sessions_housekeeping(struct loop_timer *t)
{
    struct metanode *m = container_of(t, struct metanode, sessions.housekeeping);
    uint64_t now = metanode_now(m), keep = m->opt.session_keep_ms * METANODE_NS_PER_MS;
    unsigned ended = 0;
    LIST_FOR_EACH(node, &m->sessions.all)
    {
        struct metanode_session *s = LIST_ENTRY(node, struct metanode_session, all);
        uint64_t limit = (s->flags & PROTO_SESSION_STATEFUL) != 0 ? keep : keep / 24;
        limit = base_max(limit, metanode_lease_ns(m) * 2);
        if (now > s->renewed_ns + limit && ended < METANODE_EXPIRE_BURST) {
            ended++;
            metanode_session_expire(m, s->id);
        }
    }
    sessions_close_idle(m);
    loop_timer_in(m->env->loop, t, metanode_lease_ns(m));
}

/* The leader before may have renewed its lease until a moment ago, and nobody could resume earlier,
 * however long the log was: all have the time of one lease. */
void metanode_sessions_start(struct metanode *m)
{
    LIST_FOR_EACH(node, &m->sessions.all)
    {
        LIST_ENTRY(node, struct metanode_session, all)->renewed_ns = m->serve_ns;
    }
    loop_timer_in(m->env->loop, &m->sessions.housekeeping, metanode_lease_ns(m));
}
