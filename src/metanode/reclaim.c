/*
 * metanode/reclaim.c -- a client says what it has open to a leader that does not know it, or whose
 * lease was over (coherence.md sections 7 and 9). What was kept for it meanwhile because it could
 * not be asked is confirmed, or dropped.
 */
#include "metanode/metanode_priv.h"

#define ORPHANS_PAGE 256u

struct confirm {
    struct metanode_read read;
    struct metanode_waiter waiter;
    struct metanode *m;
    uint64_t session, after;
    struct namespace_orphans page; /* lent by the read */
    bool more;
    uint64_t drop[ORPHANS_PAGE];
};

static int confirm_run(struct metanode_read *r, const struct namespace_view *v)
{
    struct confirm *c = container_of(r, struct confirm, read);
    return namespace_session_orphans(v, c->session, c->after, ORPHANS_PAGE, &c->page);
}

/* What it has open it is told of; how many of a page it has not. */
static size_t confirm_page(struct confirm *c)
{
    const struct namespace_orphans *page = &c->page;
    const struct metanode_session *s = metanode_session_find(c->m, c->session);
    bool sure = s != NULL && !s->unclaimed && !s->grants_lost; /* that it has nothing else open */
    size_t n = 0;
    for (size_t i = 0; i < page->count; i++) {
        bool has = metanode_grant_has(c->m, c->session, page->ids[i]);
        if (page->at[i].maybe && sure && !has) {
            c->drop[n++] = page->ids[i];
        } else { /* it says if it does not have it */
            metanode_grants_tell_unlinked(c->m, c->session, page->ids[i]);
        }
    }
    c->more = page->more && page->count > 0;
    c->after = page->count > 0 ? page->ids[page->count - 1] : c->after;
    return n;
}

static void confirm_next(struct confirm *c)
{
    const struct metanode_session *s = metanode_session_find(c->m, c->session);
    if (c->more && c->m->phase == METANODE_SERVING && c->m->stop == NULL && s != NULL) {
        metanode_read(c->m, &c->read);
    } else {
        mem_free(c);
    }
}

/* A failure leaves the files until the session claims again, or ends. */
static void confirm_dropped(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    struct confirm *c = container_of(w, struct confirm, waiter);
    (void)reply;
    c->more = c->more && rc == 0;
    confirm_next(c);
}

static void confirm_done(struct metanode_read *r, int rc)
{
    struct confirm *c = container_of(r, struct confirm, read);
    size_t drops = rc == 0 ? confirm_page(c) : 0;
    struct namespace_orphan_drop body = {.session = c->session,
                                         .inos = {.at = c->drop, .count = drops}};
    c->more = c->more && rc == 0;
    if (drops == 0 || metanode_propose(c->m, NAMESPACE_ORPHAN_DROP, &namespace_orphan_drop_type,
                                       &body, &c->waiter) < 0) {
        confirm_next(c);
    }
}

void metanode_orphans_confirm(struct metanode *m, struct metanode_session *s)
{
    struct confirm *c = mem_zalloc(sizeof *c);
    if (c == NULL) {
        return; /* they stay until the session claims again, or ends */
    }
    *c = (struct confirm){.m = m,
                          .session = s->id,
                          .read = {.run = confirm_run, .done = confirm_done},
                          .waiter.done = confirm_dropped};
    metanode_read(m, &c->read);
}

struct let_go {
    struct metanode_waiter waiter;
    uint64_t ino;
};

static void let_go_done(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    (void)rc; /* or it goes with its session */
    (void)reply;
    mem_free(container_of(w, struct let_go, waiter));
}

void metanode_orphan_let_go(struct metanode *m, uint64_t session, uint64_t ino)
{
    struct let_go *x = mem_zalloc(sizeof *x);
    if (x == NULL) {
        return; /* it goes with its session */
    }
    *x = (struct let_go){.waiter.done = let_go_done, .ino = ino};
    struct namespace_orphan_drop body = {.session = session, .inos = {.at = &x->ino, .count = 1}};
    if (metanode_propose(m, NAMESPACE_ORPHAN_DROP, &namespace_orphan_drop_type, &body, &x->waiter) <
        0) {
        mem_free(x);
    }
}

/* ---- Who writes a file keeps it without having been asked ---- */

struct tell {
    struct metanode_read read;
    struct metanode *m;
    uint64_t ino, but;
    struct namespace_orphans page;
};

static int tell_run(struct metanode_read *r, const struct namespace_view *v)
{
    struct tell *t = container_of(r, struct tell, read);
    return namespace_keepers(v, t->ino, 0, ORPHANS_PAGE, &t->page);
}

/* Who is not told lets it go with its session. */
static void tell_done(struct metanode_read *r, int rc)
{
    struct tell *t = container_of(r, struct tell, read);
    for (size_t i = 0; rc == 0 && i < t->page.count; i++) {
        if (t->page.ids[i] != t->but) {
            metanode_grants_tell_unlinked(t->m, t->page.ids[i], t->ino);
        }
    }
    mem_free(t);
}

void metanode_orphans_tell(struct metanode *m, uint64_t ino, uint64_t but)
{
    struct tell *t = mem_zalloc(sizeof *t);
    if (t != NULL) {
        *t = (struct tell){
            .m = m, .ino = ino, .but = but, .read = {.run = tell_run, .done = tell_done}};
        metanode_read(m, &t->read);
    }
}

/* ---- The claims ---- */

void metanode_reclaim(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_reclaim_request *q = r->body;
    struct metanode_session *s =
        metanode_admit(m, r) ? metanode_session_of(m, r, q->session) : NULL;
    if (s == NULL) {
        return;
    }
    if (s->verifier != q->verifier) {
        metanode_refuse(m, NULL, r, -EPERM, "the session is another client's");
        return;
    }
    for (size_t i = 0; i < q->claims.count; i++) {
        const struct proto_claim *c = &q->claims.at[i];
        if (c->kind == PROTO_OBJECT_INO && c->open != 0) {
            metanode_grant_claim(m, s, c->ino);
            if (metanode_writer_elsewhere(m, c->ino, s->id)) {
                metanode_share_press(m, c->ino); /* one that began while nobody could ask */
            }
        }
    }
    if (q->last) {
        metanode_grants_claimed(m, s);
        s->maybes = 0;
        metanode_session_bind(m, s, r, s->generation);
        metanode_orphans_confirm(m, s);
    }
    struct proto_reclaim_reply answer = {.trailer = metanode_trailer(m, s)};
    peer_request_answer(r, &answer, NULL);
}
