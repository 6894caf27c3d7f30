/*
 * metanode/grant.c -- which sessions have a file open for reading. Nobody announces that for its
 * own sake: `open` is asked anyway, and leaves a grant here, before the state is read for it (L1).
 * A change that readers must know of latches the file: an `open` that comes meanwhile waits until
 * the change is through, so that it either was asked or sees what has become of the file.
 *
 * Where nobody has anything open, removals ask nobody and are not even looked up before the log.
 * The first `open` after that waits for those that are under way.
 */
#include "metanode/metanode_priv.h"

struct grant_object {
    struct dict_node node;
    uint64_t ino;
    struct list holders, parked; /* struct grant; struct metanode_latch_wait */
    bool latched;
};
struct grant_key {
    uint64_t ino, session;
};
struct grant {
    struct dict_node node;
    struct grant_key key;
    struct list of_object, of_session;
    struct grant_object *object;
    unsigned opening; /* requests under way */
    bool is_open, claimed;
    bool telling, tell_again; /* that something has changed */
};

static bool grant_equal(const struct dict_node *node, const void *key)
{
    const struct grant *g = container_of(node, const struct grant, node);
    const struct grant_key *k = key;
    return g->key.ino == k->ino && g->key.session == k->session;
}
static const struct dict_ops grant_dict_ops = {.equal = grant_equal};

static bool object_equal(const struct dict_node *node, const void *key)
{
    return container_of(node, const struct grant_object, node)->ino == *(const uint64_t *)key;
}
static const struct dict_ops object_dict_ops = {.equal = object_equal};

static uint64_t grant_hash(const struct dict *d, const struct grant_key *k)
{
    return dict_hash_u64(d, k->ino ^ dict_hash_u64(d, k->session));
}

static struct grant_object *object_find(struct metanode *m, uint64_t ino)
{
    struct dict *d = &m->grants.by_ino;
    struct dict_node *node = d->count == 0 ? NULL : dict_find(d, dict_hash_u64(d, ino), &ino);
    return node == NULL ? NULL : container_of(node, struct grant_object, node);
}

static struct grant_object *object_get(struct metanode *m, uint64_t ino)
{
    struct dict *d = &m->grants.by_ino;
    struct grant_object *o = object_find(m, ino);
    if (o != NULL) {
        return o;
    }
    o = mem_zalloc(sizeof *o);
    if (o == NULL || dict_insert(d, dict_hash_u64(d, ino), &o->node) < 0) {
        mem_free(o);
        return NULL;
    }
    o->ino = ino;
    list_init(&o->holders);
    list_init(&o->parked);
    return o;
}

static void object_put(struct metanode *m, struct grant_object *o)
{
    if (!o->latched && list_empty(&o->holders) && list_empty(&o->parked)) {
        dict_remove(&m->grants.by_ino, &o->node);
        mem_free(o);
    }
}

static struct grant *grant_find(struct metanode *m, uint64_t session, uint64_t ino)
{
    struct dict *d = &m->grants.by_key;
    const struct grant_key k = {.ino = ino, .session = session};
    struct dict_node *node = m->grants.count == 0 ? NULL : dict_find(d, grant_hash(d, &k), &k);
    return node == NULL ? NULL : container_of(node, struct grant, node);
}

static void grant_free(struct metanode *m, struct grant *g)
{
    struct grant_object *o = g->object;
    dict_remove(&m->grants.by_key, &g->node);
    list_remove(&g->of_object);
    list_remove(&g->of_session);
    m->grants.count--;
    stats_gauge_set(&m->grants.gauge, (int64_t)m->grants.count);
    mem_free(g);
    object_put(m, o);
}

/* NULL: there is no room; the session is asked about everything from now on. */
static struct grant *grant_get(struct metanode *m, struct metanode_session *s, uint64_t ino)
{
    struct dict *d = &m->grants.by_key;
    struct grant *g = grant_find(m, s->id, ino);
    if (g != NULL) {
        return g;
    }
    struct grant_object *o = m->grants.count < METANODE_GRANTS_MAX ? object_get(m, ino) : NULL;
    g = o == NULL ? NULL : mem_zalloc(sizeof *g);
    if (g != NULL) {
        g->key = (struct grant_key){.ino = ino, .session = s->id};
    }
    if (g == NULL || dict_insert(d, grant_hash(d, &g->key), &g->node) < 0) {
        mem_free(g);
        if (o != NULL) {
            object_put(m, o);
        }
        m->grants.losers += s->grants_lost ? 0 : 1;
        s->grants_lost = s->claims_lost = true;
        return NULL;
    }
    g->object = o;
    list_push_back(&o->holders, &g->of_object);
    list_push_back(&s->grants, &g->of_session);
    m->grants.count++;
    stats_gauge_set(&m->grants.gauge, (int64_t)m->grants.count);
    return g;
}

/* ---- Latches ---- */

int metanode_latch(struct metanode *m, uint64_t ino, struct metanode_latch_wait *w)
{
    struct grant_object *o = object_get(m, ino);
    if (o == NULL) {
        return -ENOMEM;
    }
    if (o->latched) {
        list_push_back(&o->parked, &w->node);
        return 0;
    }
    o->latched = true;
    return 1;
}

bool metanode_is_latched(struct metanode *m, uint64_t ino)
{
    const struct grant_object *o = object_find(m, ino);
    return o != NULL && o->latched;
}

void metanode_unlatch(struct metanode *m, uint64_t ino)
{
    struct grant_object *o = object_find(m, ino);
    CHECK(o != NULL && o->latched);
    o->latched = false;
    if (!list_empty(&o->parked)) {
        list_splice_back(&m->grants.ready, &o->parked);
        loop_defer(m->env->loop, &m->grants.task);
    }
    object_put(m, o);
}

void metanode_grants_blind(struct metanode *m, int delta)
{
    m->grants.blind += (size_t)delta;
    if (m->grants.blind == 0 && !list_empty(&m->grants.blinded)) {
        list_splice_back(&m->grants.ready, &m->grants.blinded);
        loop_defer(m->env->loop, &m->grants.task);
    }
}

static void grants_run(struct loop_task *t)
{
    struct metanode *m = container_of(t, struct metanode, grants.task);
    struct list due, *node;
    list_init(&due);
    list_splice_back(&due, &m->grants.ready);
    while ((node = list_pop_front(&due)) != NULL) {
        struct metanode_latch_wait *w = LIST_ENTRY(node, struct metanode_latch_wait, node);
        w->go(w);
    }
}

/* ---- Opening, closing ---- */

int metanode_grant_open(struct metanode *m, struct metanode_session *s, uint64_t ino,
                        struct metanode_latch_wait *w)
{
    struct grant_object *o = object_find(m, ino);
    bool latched = o != NULL && o->latched;
    if (m->stop != NULL && (latched || m->grants.blind > 0)) {
        return -ERR_shutting_down;
    }
    if (latched) {
        list_push_back(&o->parked, &w->node);
        return 0;
    }
    struct grant *g = grant_get(m, s, ino);
    if (m->grants.blind > 0) {
        list_push_back(&m->grants.blinded, &w->node); /* from now on removals ask */
        return 0;
    }
    if (g != NULL) {
        g->opening++;
    }
    return 1;
}

void metanode_grant_opened(struct metanode *m, uint64_t session, uint64_t ino, bool is_open)
{
    struct grant *g = grant_find(m, session, ino);
    if (g == NULL || g->opening == 0) {
        return; /* its session has ended meanwhile, or there was no room */
    }
    g->opening--;
    g->is_open = g->is_open || is_open;
    g->claimed = g->is_open; /* later than the list of claims that may be on its way */
    if (!g->is_open && g->opening == 0) {
        grant_free(m, g);
    }
}

void metanode_grant_claim(struct metanode *m, struct metanode_session *s, uint64_t ino)
{
    struct grant *g = grant_get(m, s, ino);
    if (g != NULL) {
        g->is_open = true;
        g->claimed = true;
    }
}

bool metanode_grant_has(struct metanode *m, uint64_t session, uint64_t ino)
{
    return grant_find(m, session, ino) != NULL;
}

void metanode_grant_return(struct metanode *m, uint64_t session, uint64_t ino)
{
    struct grant *g = grant_find(m, session, ino);
    if (g != NULL) {
        g->is_open = false;
        if (g->opening == 0) {
            grant_free(m, g);
        }
    }
}

void metanode_grants_claimed(struct metanode *m, struct metanode_session *s)
{
    LIST_FOR_EACH_SAFE(node, &s->grants)
    {
        struct grant *g = LIST_ENTRY(node, struct grant, of_session);
        if (!g->claimed && g->opening == 0) {
            grant_free(m, g);
        } else {
            g->claimed = false;
        }
    }
    m->grants.unclaimed -= s->unclaimed ? 1 : 0;
    m->grants.losers -= s->grants_lost && !s->claims_lost ? 1 : 0;
    s->grants_lost = s->claims_lost;
    s->unclaimed = s->claims_lost = false;
}

void metanode_grants_drop(struct metanode *m, struct metanode_session *s)
{
    while (!list_empty(&s->grants)) {
        grant_free(m, LIST_ENTRY(s->grants.next, struct grant, of_session));
    }
    s->claims_lost = false;
    metanode_grants_claimed(m, s);
}

/* ---- Who is asked ---- */

/* Has it anything open that is not known here? */
static bool session_is_vague(const struct metanode_session *s)
{
    return s->grants_lost || s->unclaimed;
}

int metanode_grant_holders(struct metanode *m, uint64_t ino, uint64_t but, uint64_t **ret,
                           size_t *ret_count)
{
    struct grant_object *o = object_find(m, ino);
    bool vague = m->grants.losers > 0 || m->grants.unclaimed > 0;
    size_t n = 0, room = vague ? m->sessions.by_id.count : 0;
    if (o != NULL) {
        LIST_FOR_EACH(node, &o->holders)
        {
            room++;
        }
    }
    uint64_t *ids = mem_calloc(room + 1, sizeof *ids);
    if (ids == NULL) {
        return -ENOMEM;
    }
    if (o != NULL) {
        LIST_FOR_EACH(node, &o->holders)
        {
            const struct grant *g = LIST_ENTRY(node, struct grant, of_object);
            const struct metanode_session *s = metanode_session_find(m, g->key.session);
            if (g->key.session != but && s != NULL && !session_is_vague(s)) {
                ids[n++] = g->key.session;
            }
        }
    }
    LIST_FOR_EACH(node, &m->sessions.all)
    {
        const struct metanode_session *s = LIST_ENTRY(node, struct metanode_session, all);
        if (!vague) {
            break;
        }
        if (s->id != but && session_is_vague(s)) {
            ids[n++] = s->id;
        }
    }
    *ret = ids;
    *ret_count = n;
    return 0;
}

/* ---- What nobody waits for ---- */

/* A push that is lost is no harm beyond its time: the holder learns it with the next one, or when
 * it opens the file again. */
struct grant_tell {
    struct metanode_inval_call push;
    struct metanode *m;
    uint64_t session;
};

static void grant_tell(struct metanode *m, struct grant *g, uint64_t session, uint64_t ino,
                       uint32_t bits);

static void grant_told(struct peer_call *c, const struct peer_reply *r)
{
    struct grant_tell *t = container_of(c, struct grant_tell, push.call);
    struct metanode *m = t->m;
    uint64_t ino = t->push.item.ino;
    uint32_t bits = t->push.item.bits;
    const struct proto_inval_ack *ack = metanode_inval_ack(r);
    bool closed = ack != NULL && (ack->bits & PROTO_ACK_OPEN) == 0;
    bool ends = m->phase == METANODE_ENDED;
    struct grant *g = ends ? NULL : grant_find(m, t->session, ino);
    bool again = g != NULL && g->tell_again;
    if (g != NULL) {
        g->telling = g->tell_again = false;
        if (closed && g->opening == 0) {
            grant_free(m, g);
        } else if (again) {
            grant_tell(m, g, t->session, ino, bits);
        }
    }
    if (closed && !ends && (bits & PROTO_INVAL_UNLINK) != 0) {
        metanode_orphan_let_go(m, t->session, ino); /* closed before it was told */
    }
    mem_free(t);
}

static void grant_tell(struct metanode *m, struct grant *g, uint64_t session, uint64_t ino,
                       uint32_t bits)
{
    struct metanode_session *s = metanode_session_find(m, session);
    struct grant_tell *t = s == NULL || s->link == NULL ? NULL : mem_zalloc(sizeof *t);
    if (t == NULL) {
        return;
    }
    t->m = m;
    t->session = session;
    t->push.call.done = grant_told;
    if (g != NULL) {
        g->telling = true;
    }
    metanode_inval_send(m, s, &t->push, ino, bits);
}

void metanode_grants_changed(struct metanode *m, uint64_t ino, uint64_t but)
{
    struct grant_object *o = object_find(m, ino);
    if (o == NULL) {
        return;
    }
    LIST_FOR_EACH(node, &o->holders)
    {
        struct grant *g = LIST_ENTRY(node, struct grant, of_object);
        if (g->telling) {
            g->tell_again = true;
        } else if (g->key.session != but) {
            grant_tell(m, g, g->key.session, ino, 0);
        }
    }
}

void metanode_grants_tell_unlinked(struct metanode *m, uint64_t session, uint64_t ino)
{
    grant_tell(m, NULL, session, ino, PROTO_INVAL_UNLINK);
}

/* ---- Begin and end ---- */

void metanode_grants_init(struct metanode *m)
{
    struct metanode_grants *g = &m->grants;
    dict_init(&g->by_key, &grant_dict_ops, m, loop_random(m->env->loop));
    dict_init(&g->by_ino, &object_dict_ops, m, loop_random(m->env->loop));
    list_init(&g->blinded);
    list_init(&g->ready);
    list_init(&g->asking);
    g->task.run = grants_run;
}

void metanode_grants_statistics(struct metanode *m)
{
    stats_add_gauge(m->stats, "grants", &m->grants.gauge);
    stats_add_counter(m->stats, "invalidations", &m->grants.asked);
    stats_add_counter(m->stats, "invalidations_kept", &m->grants.kept);
}

size_t metanode_grants_bytes(const struct metanode *m)
{
    return m->grants.count * (sizeof(struct grant) + sizeof(void *)) +
           m->grants.by_ino.count * (sizeof(struct grant_object) + sizeof(void *));
}

void metanode_grants_stop(struct metanode *m)
{
    struct dict_iter it;
    struct dict_node *n;
    dict_iter_init(&it, &m->grants.by_ino);
    while ((n = dict_iter_next(&it)) != NULL) {
        struct grant_object *o = container_of(n, struct grant_object, node);
        list_splice_back(&m->grants.ready, &o->parked);
    }
    list_splice_back(&m->grants.ready, &m->grants.blinded);
    if (!list_empty(&m->grants.ready)) {
        loop_defer(m->env->loop, &m->grants.task);
    }
}

void metanode_grants_fini(struct metanode *m)
{
    struct dict_iter it;
    struct dict_node *n;
    metanode_invals_fini(m); /* whose changes end, so that those who wait for them go on */
    while (!list_empty(&m->grants.ready)) {
        grants_run(&m->grants.task); /* they see the phase, and are refused */
    }
    loop_undefer(m->env->loop, &m->grants.task);
    dict_iter_init(&it, &m->grants.by_key);
    while ((n = dict_iter_next(&it)) != NULL) {
        grant_free(m, container_of(n, struct grant, node));
    }
    CHECK(m->grants.by_ino.count == 0 && list_empty(&m->grants.blinded));
    dict_fini(&m->grants.by_key);
    dict_fini(&m->grants.by_ino);
}
