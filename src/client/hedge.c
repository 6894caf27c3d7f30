#include "client/fetch_priv.h"

/*
 * A read that is late: later than 95 of 100 answers of that member. Another member is asked for the
 * same bytes; whoever has good ones first wins, and the other request is cancelled. The second
 * request lives by itself: when the read is over before, it is cut off, ends when its connection
 * says so, and nobody hears of its answer. While it is under way the read makes no other attempt.
 */

#define LATE_MIN_MS 2u     /* what is faster is not worth a second request */
#define LATE_BLIND_MS 200u /* of a member of which too little is known */
#define HEDGES_MAX 64u

struct client_hedge {
    struct client_fetch *fetch; /* NULL: it is over */
    struct opendfs *fs;
    struct peer_call call;
    struct proto_read_request request;
    struct client_cap cap;
    uint32_t target;
    uint64_t sent_ns;
};

/* ---- The answer ---- */

static void hedge_won(struct client_fetch *f, const struct peer_reply *r)
{
    const struct proto_read_reply *m = r->body;
    f->won = true;
    f->chunk_length = m->length;
    f->data = r->data;
    if (f->data.buf != NULL) {
        buf_ref(f->data.buf);
    }
    stats_count(&f->chain.fs->counters.hedges_won, 1);
    if (f->parked) {
        client_chain_end(&f->chain, 0);
    } else {
        client_chain_abandon(&f->chain); /* it lands soon, and the read ends */
    }
}

static void hedge_lost(struct client_fetch *f, uint32_t target, const struct peer_reply *r)
{
    struct client_chain_call *c = &f->chain;
    if (!client_fetch_is_bad(f, target, r)) {
        client_fetch_failed(f, target, r->rc);
    }
    if (r->rc == -ERR_stale_epoch && r->answered) {
        client_map_take_row(c->fs, &r->failure->row);
    }
    if (!f->parked) {
        return; /* the first one may still answer */
    }
    f->parked = false;
    const struct cluster_row *row = client_map_row(c->fs, c->chain);
    if (client_fetch_all_bad(f)) {
        client_chain_end(c, -ERR_corrupt);
    } else if (row != NULL && client_fetch_other(f, row, 0) < row->count) {
        client_chain_resume(c, CHAIN_NOW);
    } else {
        client_chain_resume(c, f->verdict == CHAIN_NOW ? CHAIN_REFRESH : f->verdict);
    }
}

static void hedge_answered(struct client_hedge *h, struct client_fetch *f,
                           const struct peer_reply *r)
{
    client_fetch_account(f, client_map_source(h->fs, h->target), h->sent_ns, r, false);
    if (r->rc == 0 && client_fetch_fits(f, r)) {
        hedge_won(f, r);
    } else {
        hedge_lost(f, h->target, r);
    }
}

static void hedge_done(struct peer_call *call, const struct peer_reply *r)
{
    struct client_hedge *h = container_of(call, struct client_hedge, call);
    struct client_fetch *f = h->fetch;
    h->fs->hedging--;
    if (f != NULL) {
        f->hedge = NULL;
    }
    if (h->fs->freeing) { /* the map is going */
        if (f != NULL && f->parked) {
            client_chain_end(&f->chain, -ERR_cancelled);
        }
    } else if (f != NULL) {
        hedge_answered(h, f, r);
    } else { /* late: dropped */
        client_load_drop(&client_map_source(h->fs, h->target)->load);
    }
    mem_free(h);
}

/* ---- The question ---- */

static void hedge_send(struct client_fetch *f, struct client_hedge *h, uint32_t target,
                       struct peer *peer)
{
    struct opendfs *fs = f->chain.fs;
    struct client_source *s = client_map_source(fs, target);
    *h = (struct client_hedge){
        .fetch = f, .fs = fs, .target = target, .sent_ns = loop_now_ns(fs->loop)};
    h->request = f->request; /* with the route of the row that both are in */
    client_cap_take(fs, &h->cap, &f->request.capability);
    h->request.capability = h->cap.cap;
    h->call = (struct peer_call){.done = hedge_done,
                                 .request = &h->request,
                                 .opcode = PROTO_OP_read,
                                 .slot = f->chain.peer.slot,
                                 .flags = client_read_flags(peer),
                                 .timeout_ms = CLIENT_READ_MS};
    f->hedge = h;
    fs->hedging++;
    client_load_begin(&s->load);
    stats_count(&s->reads, 1);
    stats_count(&s->hedges, 1);
    stats_count(&fs->counters.hedges, 1);
    peer_call(peer, &h->call);
}

/* False: there is nobody else; or the row has changed, and the answer will say so. */
static bool hedge_find(const struct client_fetch *f, uint32_t *ret_target, struct peer **ret)
{
    const struct client_chain_call *c = &f->chain;
    const struct cluster_row *row = client_map_row(c->fs, c->chain);
    if (c->cancelled || row == NULL || row->epoch != c->route->epoch) {
        return false;
    }
    size_t i = client_fetch_other(f, row, c->target);
    if (i == row->count) {
        return false;
    }
    *ret_target = row->member[i].target;
    return client_map_peer(c->fs, *ret_target, ret) == 0;
}

static void hedge_due(struct loop_timer *t)
{
    struct client_fetch *f = container_of(t, struct client_fetch, late);
    struct opendfs *fs = f->chain.fs;
    struct peer *peer;
    uint32_t target;
    CHECK(f->hedge == NULL && !f->parked);
    if (!hedge_find(f, &target, &peer)) {
        return;
    }
    if (fs->hedging >= HEDGES_MAX || !client_budget_take(&fs->hedges)) {
        stats_count(&fs->counters.hedges_refused, 1);
        return;
    }
    struct client_hedge *h = mem_alloc(sizeof *h);
    if (h != NULL) { /* else the first one is waited for */
        hedge_send(f, h, target, peer);
    }
}

void client_hedge_arm(struct client_fetch *f)
{
    struct client_chain_call *c = &f->chain;
    const struct client_source *s = client_map_source(c->fs, c->target);
    uint64_t late_ns = client_load_late_ns(&s->load, f->len);
    late_ns = late_ns == 0 ? LATE_BLIND_MS * CLIENT_NS_PER_MS : late_ns;
    CHECK(f->hedge == NULL);
    f->late.fire = hedge_due;
    loop_timer_in(c->fs->loop, &f->late, base_max(late_ns, LATE_MIN_MS * CLIENT_NS_PER_MS));
}

enum client_verdict client_hedge_landed(struct client_fetch *f, enum client_verdict v)
{
    loop_timer_cancel(f->chain.fs->loop, &f->late);
    if (f->hedge == NULL || v == CHAIN_FINAL) {
        return v;
    }
    if (v == CHAIN_HELD) { /* the other one has the same capability */
        client_hedge_drop(f);
        return v;
    }
    f->parked = true;
    f->verdict = v;
    return CHAIN_HELD;
}

void client_hedge_drop(struct client_fetch *f)
{
    struct client_hedge *h = f->hedge;
    loop_timer_cancel(f->chain.fs->loop, &f->late);
    f->parked = false;
    if (h != NULL) {
        h->fetch = NULL;
        f->hedge = NULL;
        peer_call_cancel(&h->call);
    }
}
