/*
 * metanode/inval.c -- invalidate first, then propose: all who have a file open are asked at once
 * (push `inval`), each is waited for until it has answered or its lease is over (L3), and what they
 * say goes into the command: who keeps the file though its last name goes, the times that a writer
 * had not committed.
 */
#include "metanode/metanode_priv.h"

#include <stdlib.h>

#define INVAL_AGAIN_NS (50 * METANODE_NS_PER_MS)

struct inval_ask {
    struct metanode_inval *x;
    uint64_t session;
    struct metanode_inval_call push;
    struct loop_timer again;
    bool ended, keeps, maybe;
};

static void inval_step(struct inval_ask *a);

void metanode_inval_send(struct metanode *m, struct metanode_session *s,
                         struct metanode_inval_call *c, uint64_t ino, uint32_t bits)
{
    c->item = (struct proto_inval_item){.kind = PROTO_INVAL_ATTR, .ino = ino, .bits = bits};
    c->request = (struct proto_inval_request){.push_seq = ++s->push_seq,
                                              .lease_epoch = s->lease_epoch,
                                              .items = {.at = &c->item, .count = 1}};
    c->call = (struct peer_call){.done = c->call.done,
                                 .request = &c->request,
                                 .opcode = PROTO_OP_inval,
                                 .timeout_ms = (uint32_t)m->opt.lease_ms};
    peer_link_call(s->link, &c->call);
}

const struct proto_inval_ack *metanode_inval_ack(const struct peer_reply *r)
{
    const struct proto_inval_reply *reply = r->rc == 0 ? r->body : NULL;
    return reply != NULL && reply->acks.count == 1 ? &reply->acks.at[0] : NULL;
}

static int keep_compare(const void *a, const void *b)
{
    const struct namespace_keep *x = a, *y = b;
    return x->session < y->session ? -1 : x->session > y->session;
}

static void inval_collect(struct metanode_inval *x)
{
    for (size_t i = 0; i < x->count; i++) {
        const struct inval_ask *a = &x->ask[i];
        if (a->keeps || a->maybe) {
            x->keep[x->keep_count++] =
                (struct namespace_keep){.session = a->session, .maybe = !a->keeps, .ino = x->ino};
        }
    }
    qsort(x->keep, x->keep_count, sizeof *x->keep, keep_compare);
    stats_count(&x->m->grants.kept, x->keep_count);
}

static void inval_done(struct metanode_inval *x)
{
    struct metanode *m = x->m;
    bool serves = m->phase == METANODE_SERVING && m->stop == NULL;
    CHECK(x->left == 0 && !x->ended);
    x->ended = true;
    list_remove(&x->node);
    if (serves) {
        inval_collect(x);
    }
    x->done(x, serves ? 0 : -ERR_unavailable);
}

static void inval_end(struct loop_task *t)
{
    inval_done(container_of(t, struct metanode_inval, end));
}

/* `done` never comes from inside metanode_inval_start(). */
static void inval_answered_one(struct inval_ask *a)
{
    CHECK(!a->ended);
    a->ended = true;
    a->x->left--;
    if (a->x->left == 0) {
        loop_defer(a->x->m->env->loop, &a->x->end);
    }
}

static void inval_again(struct loop_timer *t)
{
    inval_step(container_of(t, struct inval_ask, again));
}

static void inval_times(struct metanode_inval *x, const struct proto_inval_ack *ack)
{
    x->mtime_ns = x->has_times && x->mtime_ns > ack->mtime_ns ? x->mtime_ns : ack->mtime_ns;
    x->ctime_ns = x->has_times && x->ctime_ns > ack->ctime_ns ? x->ctime_ns : ack->ctime_ns;
    x->atime_ns = x->has_times && x->atime_ns > ack->atime_ns ? x->atime_ns : ack->atime_ns;
    x->has_times = true;
}

static void inval_replied(struct peer_call *c, const struct peer_reply *r)
{
    struct inval_ask *a = container_of(c, struct inval_ask, push.call);
    struct metanode_inval *x = a->x;
    const struct proto_inval_ack *ack = metanode_inval_ack(r);
    if (!r->answered) { /* on its next connection, if its lease lasts */
        loop_timer_in(x->m->env->loop, &a->again, INVAL_AGAIN_NS);
        return;
    }
    /* Who cannot say keeps it. */
    uint32_t bits = ack == NULL ? PROTO_ACK_OPEN | PROTO_ACK_KEEP : ack->bits;
    if (ack != NULL && (bits & PROTO_ACK_HAS_TIMES) != 0) {
        inval_times(x, ack);
    }
    a->keeps = (x->bits & PROTO_INVAL_UNLINK) != 0 && (bits & PROTO_ACK_KEEP) != 0;
    x->is_open = x->is_open || (bits & PROTO_ACK_OPEN) != 0;
    if ((bits & PROTO_ACK_OPEN) == 0) {
        metanode_grant_return(x->m, a->session, x->ino);
    }
    inval_answered_one(a);
}

/* Nobody can ask it, and it may come back: a nameless file is kept for it, if that is known to be
 * open, or its client has something to lose. What others have read stays as it is. */
static void inval_silent(struct inval_ask *a, struct metanode_session *s)
{
    struct metanode *m = a->x->m;
    bool known = metanode_grant_has(m, s->id, a->x->ino);
    bool stateful = (s->flags & PROTO_SESSION_STATEFUL) != 0;
    bool fresh = metanode_now(m) <= m->serve_ns + metanode_lapse_ns(m);
    a->maybe = (a->x->bits & PROTO_INVAL_UNLINK) != 0 &&
               (known || ((stateful || fresh) && s->maybes < METANODE_MAYBES_MAX));
    s->maybes += a->maybe ? 1 : 0;
    a->x->is_open = a->x->is_open || known;
    inval_answered_one(a);
}

/* Lapsed; or of before this leader and not waited for (section 9). */
static bool inval_is_silent(struct metanode *m, struct metanode_session *s)
{
    bool plain = (s->flags & PROTO_SESSION_STATEFUL) == 0;
    return metanode_session_is_lapsed(m, s) || (s->link == NULL && s->unclaimed && plain);
}

static void inval_step(struct inval_ask *a)
{
    struct metanode *m = a->x->m;
    struct metanode_session *s = metanode_session_find(m, a->session);
    if (m->phase != METANODE_SERVING || m->stop != NULL || s == NULL) {
        inval_answered_one(a); /* it has ended: so has what it had open */
    } else if (!s->expiring && inval_is_silent(m, s)) {
        inval_silent(a, s);
    } else if (s->expiring || s->link == NULL) { /* to end it may fail */
        loop_timer_in(m->env->loop, &a->again, INVAL_AGAIN_NS);
    } else {
        stats_count(&m->grants.asked, 1);
        a->push.call.done = inval_replied;
        metanode_inval_send(m, s, &a->push, a->x->ino, a->x->bits);
    }
}

int metanode_inval_start(struct metanode *m, struct metanode_inval *x, const uint64_t *session,
                         size_t count)
{
    CHECK(count > 0);
    x->ask = mem_calloc(count, sizeof *x->ask);
    x->keep = mem_calloc(count, sizeof *x->keep);
    if (x->ask == NULL || x->keep == NULL) {
        metanode_inval_fini(x);
        return -ENOMEM;
    }
    x->m = m;
    x->count = x->left = count;
    x->end.run = inval_end;
    list_push_back(&m->grants.asking, &x->node);
    for (size_t i = 0; i < count; i++) {
        x->ask[i] = (struct inval_ask){.x = x, .session = session[i], .again.fire = inval_again};
    }
    for (size_t i = 0; i < count; i++) {
        inval_step(&x->ask[i]);
    }
    return 0;
}

void metanode_inval_fini(struct metanode_inval *x)
{
    mem_free(x->ask);
    mem_free(x->keep);
    x->ask = NULL;
    x->keep = NULL;
    x->count = x->keep_count = 0;
}

void metanode_invals_fini(struct metanode *m)
{
    while (!list_empty(&m->grants.asking)) { /* all calls have ended with their links */
        struct metanode_inval *x = LIST_ENTRY(m->grants.asking.next, struct metanode_inval, node);
        for (size_t i = 0; i < x->count; i++) {
            loop_timer_cancel(m->env->loop, &x->ask[i].again);
        }
        loop_undefer(m->env->loop, &x->end);
        x->left = 0;
        inval_done(x);
    }
}
