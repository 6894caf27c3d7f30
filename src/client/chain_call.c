#include "client/map_priv.h"

/*
 * A request to a chain until it has an outcome. What a refusal means is the table of chain.md
 * section 3; silence of a member means: look at the map, try again, and for an update on a newer
 * link, which kills the older attempt (R11). A request that was never executed for certain is
 * repeated for ever, or until the time of the client is over; one in doubt for at most
 * DOUBT_MAX_MS, because a chain forgets who made its newest updates (`recent`).
 */

#define ATTEMPT_MS 15000u
#define BLIND_MS 2000u /* while there is no link */
#define WAIT_MIN_MS 10u
#define WAIT_MAX_MS 1000u
#define DOUBT_MAX_MS 240000u

static void chain_send(struct client_chain_call *c);

static bool chain_gathers(const struct client_chain_call *c)
{
    return c->gather != NULL && client_gather_active(c->gather);
}

static bool chain_asking(const struct client_chain_call *c)
{
    return peer_call_active(&c->peer) || chain_gathers(c);
}

static void chain_finish(struct client_chain_call *c, const struct peer_reply *r)
{
    c->active = false;
    c->ops->done(c, r);
}

static int chain_late(const struct client_chain_call *c)
{
    uint64_t age_ms = (loop_now_ns(c->fs->loop) - c->began_ns) / CLIENT_NS_PER_MS;
    uint64_t limit_ms = c->fs->timeout_ms == 0 ? UINT64_MAX : c->fs->timeout_ms;
    if (c->doubtful && c->settles) {
        return age_ms >= base_min(limit_ms, DOUBT_MAX_MS) ? -ERR_unknown_outcome : 0;
    }
    return age_ms >= limit_ms ? -ERR_deadline : 0;
}

static void chain_wait(struct client_chain_call *c)
{
    uint64_t ns = c->wait_ms * CLIENT_NS_PER_MS;
    ns = ns / 2 + loop_random(c->fs->loop) % (ns / 2 + 1);
    c->wait_ms = base_min(base_max(c->wait_ms * 2, WAIT_MIN_MS), WAIT_MAX_MS);
    loop_timer_in(c->fs->loop, &c->timer, ns);
}

static void chain_refreshed(struct client_map_waiter *w, int rc)
{
    struct client_chain_call *c = container_of(w, struct client_chain_call, refresh);
    (void)rc;
    chain_wait(c);
}

static void chain_timer(struct loop_timer *t)
{
    chain_send(container_of(t, struct client_chain_call, timer));
}

void client_chain_resume(struct client_chain_call *c, enum client_verdict v)
{
    CHECK(c->active);
    const struct peer_reply late = {.rc = chain_late(c)};
    const struct peer_reply cancelled = {.rc = -ERR_cancelled};
    if (c->cancelled || c->fs->freeing) {
        chain_finish(c, &cancelled);
        return;
    }
    if (late.rc < 0) {
        chain_finish(c, &late);
        return;
    }
    stats_count(&c->fs->counters.retries, 1);
    switch (v) {
    case CHAIN_NOW:
        loop_timer_in(c->fs->loop, &c->timer, 0);
        break;
    case CHAIN_LATER:
        c->wait_ms = base_max(c->wait_ms, WAIT_MIN_MS);
        chain_wait(c);
        break;
    case CHAIN_REFRESH:
        client_map_refresh(c->fs, &c->refresh);
        break;
    case CHAIN_FINAL:
    case CHAIN_HELD:
        CHECK(false);
    }
}

void client_chain_end(struct client_chain_call *c, int rc)
{
    const struct peer_reply r = {.rc = rc};
    CHECK(c->active && !chain_asking(c));
    chain_finish(c, &r);
}

static enum client_verdict chain_refused(struct client_chain_call *c, const struct peer_reply *r)
{
    if (r->rc == -ERR_stale_epoch) {
        uint32_t sent = c->route->epoch;
        client_map_take_row(c->fs, &r->failure->row);
        const struct cluster_row *row = client_map_row(c->fs, c->chain);
        return row != NULL && row->epoch > sent ? CHAIN_NOW : CHAIN_REFRESH;
    }
    if (r->rc == -ERR_ahead_epoch || r->rc == -ERR_busy || r->rc == -ERR_bad_data) {
        return CHAIN_LATER;
    }
    return err_is(r->rc, EAGAIN) ? CHAIN_REFRESH : CHAIN_FINAL;
}

static void chain_landed(struct peer_call *call, const struct peer_reply *r)
{
    struct client_chain_call *c = container_of(call, struct client_chain_call, peer);
    struct opendfs *fs = c->fs;
    if (!r->answered) {
        c->doubtful = c->doubtful || r->unknown;
        struct peer *p;
        if (r->rc == -ERR_deadline && r->unknown && c->settles && !fs->freeing &&
            client_map_peer(fs, c->target, &p) == 0) {
            peer_drop_link(p, call->slot, "a request was not answered in time");
        }
    }
    c->refused_late = c->refused_late || (r->answered && err_is(r->rc, ERR_not_serving));
    enum client_verdict v = CHAIN_REFRESH;
    if (r->answered || r->rc >= 0) {
        v = r->rc >= 0 ? CHAIN_FINAL : chain_refused(c, r);
    } else if (r->rc == -ERR_cancelled || r->rc == -EMSGSIZE || fs->freeing) {
        v = CHAIN_FINAL;
    } else if (r->rc == -ERR_busy || r->rc == -ENOMEM) {
        v = CHAIN_LATER; /* of ours: the map is not to blame */
    }
    v = c->ops->judge(c, r, v);
    if (v == CHAIN_FINAL) {
        chain_finish(c, r);
    } else if (v != CHAIN_HELD) {
        client_chain_resume(c, v);
    }
}

uint32_t client_read_flags(const struct peer *p)
{
    return PEER_CALL_RAW | (peer_link_of(p, 0) != NULL ? PEER_CALL_LINKED : 0);
}

/* A read is soon asked of another member; each attempt has twice the time, for slow networks. */
static uint32_t chain_attempt_ms(const struct client_chain_call *c, const struct peer *p)
{
    if (peer_link_of(p, 0) == NULL) {
        return BLIND_MS;
    }
    return !c->hurries ? ATTEMPT_MS : CLIENT_READ_MS << base_min(c->attempts - 1, 4);
}

static void chain_send(struct client_chain_call *c)
{
    struct opendfs *fs = c->fs;
    if (c->layout != NULL && client_map_chain(fs, c->layout, c->index, &c->chain) < 0) {
        client_chain_resume(c, CHAIN_REFRESH); /* a table that is not known yet */
        return;
    }
    const struct cluster_row *row = client_map_row(fs, c->chain);
    size_t i = row == NULL ? 0 : c->ops->pick(c, row);
    struct peer *p;
    if (row == NULL || i >= row->count || client_map_peer(fs, row->member[i].target, &p) < 0) {
        client_chain_resume(c, CHAIN_REFRESH); /* dark, or not known yet */
        return;
    }
    c->target = row->member[i].target;
    *c->route = (struct proto_route){.chain = c->chain, .epoch = row->epoch};
    c->ops->prepare(c);
    c->attempts++;
    c->peer.slot = (uint16_t)(1 + c->spread % CLIENT_BULK_LINKS);
    c->peer.flags = c->hurries ? client_read_flags(p) : PEER_CALL_RAW;
    c->peer.timeout_ms = chain_attempt_ms(c, p);
    c->peer.done = chain_landed;
    if (c->gather != NULL) {
        client_gather_start(fs, c->target, c->gather);
    } else {
        peer_call(p, &c->peer);
    }
}

void client_chain_start(struct opendfs *fs, struct client_chain_call *c)
{
    LOOP_OWNED(fs->loop);
    CHECK(!c->active);
    c->fs = fs;
    c->active = true;
    c->cancelled = false;
    c->doubtful = false;
    c->refused_late = false;
    c->attempts = 0;
    c->target = 0;
    c->wait_ms = 0;
    c->began_ns = loop_now_ns(fs->loop);
    c->timer.fire = chain_timer;
    c->refresh.done = chain_refreshed;
    list_init(&c->refresh.node);
    chain_send(c);
}

void client_chain_abandon(struct client_chain_call *c)
{
    if (chain_gathers(c)) {
        client_gather_cancel(c->gather);
    } else {
        peer_call_cancel(&c->peer);
    }
}

void client_chain_cancel(struct client_chain_call *c)
{
    if (!c->active || c->cancelled) {
        return;
    }
    c->cancelled = true;
    if (chain_asking(c)) {
        client_chain_abandon(c);
        return;
    }
    const struct peer_reply r = {.rc = -ERR_cancelled};
    client_map_unwait(&c->refresh);
    loop_timer_cancel(c->fs->loop, &c->timer);
    chain_finish(c, &r);
}
