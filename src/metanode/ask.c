/*
 * metanode/ask.c -- the size and times of a file that another client writes (coherence.md section
 * 6, `getattr`): who writes alone knows them, and is asked; of those who share, the size is the
 * recorded one, and the newest time counts. One is waited for until it answers or its lease is over
 * (L3); then the record is all there is.
 */
#include "metanode/metanode_priv.h"

#define WRITERS_PAGE 256u
#define ASK_AGAIN_NS (50 * METANODE_NS_PER_MS)

struct writer {
    struct dict_node node;
    struct list all;
    uint64_t ino, session;
    bool several;
};

static bool writer_equal(const struct dict_node *node, const void *key)
{
    return container_of(node, const struct writer, node)->ino == *(const uint64_t *)key;
}
static const struct dict_ops writer_dict_ops = {.equal = writer_equal};

static struct writer *writer_find(struct metanode *m, uint64_t ino)
{
    struct dict *d = &m->writers.by_ino;
    struct dict_node *node =
        m->writers.count == 0 ? NULL : dict_find(d, dict_hash_u64(d, ino), &ino);
    return node == NULL ? NULL : container_of(node, struct writer, node);
}

static void writer_free(struct metanode *m, struct writer *w)
{
    dict_remove(&m->writers.by_ino, &w->node);
    list_remove(&w->all);
    m->writers.count--;
    mem_free(w);
}

void metanode_writer_add(struct metanode *m, uint64_t ino, uint64_t session)
{
    struct dict *d = &m->writers.by_ino;
    struct writer *w = writer_find(m, ino);
    if (w != NULL) {
        w->several = w->several || w->session != session;
        return;
    }
    if (m->writers.count >= METANODE_WRITERS_MAX) {
        writer_free(m, LIST_ENTRY(m->writers.all.next, struct writer, all));
        m->writers.lost = true;
    }
    w = mem_zalloc(sizeof *w);
    if (w == NULL || dict_insert(d, dict_hash_u64(d, ino), &w->node) < 0) {
        m->writers.lost = true;
        mem_free(w);
        return;
    }
    w->ino = ino;
    w->session = session;
    list_push_back(&m->writers.all, &w->all);
    m->writers.count++;
}

void metanode_writer_gone(struct metanode *m, uint64_t ino, uint64_t session)
{
    struct writer *w = writer_find(m, ino);
    if (w != NULL && !w->several && w->session == session) {
        writer_free(m, w);
    }
}

/* A session that has not resumed may write any file, until its lease is over (L3). */
static bool writers_are_missing(struct metanode *m)
{
    bool grace = m->writers.unheard > 0 && metanode_now(m) <= m->serve_ns + metanode_lapse_ns(m);
    return m->writers.lost || grace;
}

bool metanode_writer_elsewhere(struct metanode *m, uint64_t ino, uint64_t session)
{
    const struct writer *w = writer_find(m, ino);
    return w == NULL ? writers_are_missing(m) : w->several || w->session != session;
}

void metanode_writers_init(struct metanode *m)
{
    dict_init(&m->writers.by_ino, &writer_dict_ops, m, loop_random(m->env->loop));
    list_init(&m->writers.all);
}

void metanode_writers_fini(struct metanode *m)
{
    while (!list_empty(&m->writers.all)) {
        writer_free(m, LIST_ENTRY(m->writers.all.next, struct writer, all));
    }
    dict_fini(&m->writers.by_ino);
}

/* ---- After a fail-over ---- */

struct writers_of {
    struct metanode_read read;
    struct metanode *m;
    uint64_t session, after;
    bool more;
};

static int writers_read(struct metanode_read *r, const struct namespace_view *v)
{
    struct writers_of *x = container_of(r, struct writers_of, read);
    struct namespace_wopens page;
    int rc = namespace_session_wopens(v, x->session, x->after, WRITERS_PAGE, &page);
    for (size_t i = 0; rc == 0 && i < page.count; i++) {
        metanode_writer_add(x->m, page.ids[i], x->session);
    }
    x->more = rc == 0 && page.more && page.count > 0;
    x->after = rc == 0 && page.count > 0 ? page.ids[page.count - 1] : x->after;
    return rc;
}

static void writers_read_done(struct metanode_read *r, int rc)
{
    struct writers_of *x = container_of(r, struct writers_of, read);
    if (rc == 0 && x->more && x->m->phase == METANODE_SERVING) {
        metanode_read(x->m, &x->read);
        return;
    }
    struct metanode_session *s = metanode_session_find(x->m, x->session);
    x->m->writers.lost = x->m->writers.lost || rc < 0;
    if (s != NULL) {
        metanode_writers_heard(x->m, s);
    }
    mem_free(x);
}

void metanode_writers_heard(struct metanode *m, struct metanode_session *s)
{
    m->writers.unheard -= s->unheard ? 1 : 0;
    s->unheard = false;
}

void metanode_writers_resumed(struct metanode *m, uint64_t session)
{
    struct writers_of *x = mem_zalloc(sizeof *x);
    m->writers.lost = m->writers.lost || x == NULL;
    if (x != NULL) {
        *x = (struct writers_of){
            .m = m, .session = session, .read = {.run = writers_read, .done = writers_read_done}};
        metanode_read(m, &x->read);
    }
}

/* ---- One question ---- */

static void ask_next(struct metanode_ask *a);

static void ask_again(struct loop_timer *t)
{
    ask_next(container_of(t, struct metanode_ask, again));
}

static void ask_fold(struct metanode_ask *a, const struct proto_query_reply *q)
{
    if (a->alone) {
        a->attr->size = q->size;
        a->attr->mtime_ns = q->told ? a->attr->mtime_ns : q->mtime_ns;
    } else {
        bool newer = !q->told && q->mtime_ns > a->attr->mtime_ns;
        a->attr->mtime_ns = newer ? q->mtime_ns : a->attr->mtime_ns;
    }
    a->attr->ctime_ns = q->ctime_ns > a->attr->ctime_ns ? q->ctime_ns : a->attr->ctime_ns;
}

static void ask_answered(struct peer_call *c, const struct peer_reply *r)
{
    struct metanode_ask *a = container_of(c, struct metanode_ask, call);
    const struct proto_query_reply *q = r->rc == 0 ? r->body : NULL;
    if (!r->answered) { /* on its next connection, if its lease lasts */
        a->again.fire = ask_again;
        loop_timer_in(a->m->env->loop, &a->again, ASK_AGAIN_NS);
        return;
    }
    if (q != NULL && q->known) {
        ask_fold(a, q);
    } else {
        a->stale = true;
    }
    a->at++;
    ask_next(a);
}

/* Is this one waited for any longer? */
static bool ask_must_wait(struct metanode_ask *a, struct metanode_session *s)
{
    return s != NULL && !s->expiring && !metanode_session_is_lapsed(a->m, s) &&
           metanode_now(a->m) < a->until_ns;
}

static void ask_next(struct metanode_ask *a)
{
    struct metanode *m = a->m;
    for (; a->at < a->count; a->at++) {
        struct metanode_session *s = metanode_session_find(m, a->writer[a->at]);
        if (m->phase != METANODE_SERVING || m->stop != NULL) {
            break;
        }
        if (!ask_must_wait(a, s)) {
            continue;
        }
        if (s->link == NULL) {
            a->again.fire = ask_again;
            loop_timer_in(m->env->loop, &a->again, ASK_AGAIN_NS);
            return;
        }
        a->request = (struct proto_query_request){
            .push_seq = ++s->push_seq, .lease_epoch = s->lease_epoch, .ino = a->ino};
        a->call = (struct peer_call){.done = ask_answered,
                                     .request = &a->request,
                                     .opcode = PROTO_OP_query,
                                     .timeout_ms = (uint32_t)m->opt.lease_ms};
        peer_link_call(s->link, &a->call);
        return;
    }
    a->done(a, 0);
}

static int ask_read(struct metanode_read *r, const struct namespace_view *v)
{
    struct metanode_ask *a = container_of(r, struct metanode_ask, read);
    struct namespace_wopens w;
    int rc = namespace_writers(v, a->ino, 0, METANODE_ASK_WRITERS, &w);
    a->count = 0;
    a->alone = rc == 0 && w.count == 1 && w.at[0].mode == PROTO_OPEN_W;
    for (size_t i = 0; rc == 0 && i < w.count; i++) {
        if (w.ids[i] == a->session) {
            a->count = 0; /* who writes it, too, knows what it needs from the record */
            break;
        }
        a->writer[a->count++] = w.ids[i];
    }
    return rc;
}

static void ask_read_done(struct metanode_read *r, int rc)
{
    struct metanode_ask *a = container_of(r, struct metanode_ask, read);
    struct writer *w = rc == 0 && a->count == 0 ? writer_find(a->m, a->ino) : NULL;
    if (w != NULL && w->session != a->session) {
        writer_free(a->m, w); /* nobody writes it any more */
    }
    if (rc < 0) {
        a->done(a, rc);
    } else {
        ask_next(a);
    }
}

void metanode_ask(struct metanode *m, struct metanode_ask *a, uint64_t ino, uint64_t session)
{
    a->m = m;
    a->ino = ino;
    a->session = session;
    a->at = 0;
    a->until_ns = metanode_now(m) + 3 * metanode_lease_ns(m);
    a->read = (struct metanode_read){.run = ask_read, .done = ask_read_done};
    metanode_read(m, &a->read);
}
