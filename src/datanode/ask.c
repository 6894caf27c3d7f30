/*
 * datanode/ask.c -- one question, asked until it is answered. R10: each time with a new attempt; an
 * answer counts only for the newest, and one that is late takes its link with it.
 */
#include "datanode/ask.h"

static void ask_go(struct datanode_ask *a);

static void ask_over(struct datanode_ask *a, int rc, const struct peer_reply *r)
{
    a->active = false;
    a->done(a, rc, r);
}

static void ask_again(struct loop_timer *t)
{
    struct datanode_ask *a = container_of(t, struct datanode_ask, again);
    datanode_neighbor_unwait(&a->send);
    if (a->stopped || a->chain->turn != a->turn) {
        ask_over(a, a->stopped ? -ERR_cancelled : -ERR_stale_epoch, NULL);
        return;
    }
    ask_go(a);
}

static void ask_rest(struct datanode_ask *a)
{
    a->rest_ms = (uint32_t)base_min(base_max(2 * (uint64_t)a->rest_ms, DATANODE_RETRY_MIN_MS),
                                    DATANODE_RETRY_MAX_MS);
    a->again.fire = ask_again;
    loop_timer_in(a->chain->worker->loop, &a->again, a->rest_ms * NS_PER_MS);
}

static void ask_answered(struct peer_call *c, const struct peer_reply *r)
{
    struct datanode_ask *a = container_of(c, struct datanode_ask, call);
    struct datanode_chain *chain = a->chain;
    a->calling = false;
    datanode_neighbor_answered(a->neighbor, a->slot, r);
    if (a->stopped || chain->turn != a->turn) {
        ask_over(a, a->stopped ? -ERR_cancelled : -ERR_stale_epoch, NULL);
        return;
    }
    const struct proto_route *route = r->body; /* each reply begins with it */
    if (r->rc == 0 && route->epoch == a->epoch && route->attempt == a->route->attempt) {
        ask_over(a, 0, r);
        return;
    }
    if (r->answered && r->rc < 0 && a->final != NULL && a->final(r->rc)) {
        ask_over(a, r->rc, r);
        return;
    }
    ask_rest(a);
    if (r->answered && r->rc == -ERR_stale_epoch && r->failure != NULL) {
        (void)datanode_chain_take(chain->worker, &r->failure->row, false); /* may stop `a` */
    }
}

static void ask_send(struct datanode_ask *a, struct peer_link *l)
{
    loop_timer_cancel(a->chain->worker->loop, &a->again);
    *a->route = datanode_route_of(a->chain, ++a->chain->attempts);
    a->call = (struct peer_call){.done = ask_answered,
                                 .request = a->request,
                                 .opcode = a->opcode,
                                 .timeout_ms = DATANODE_CALL_MS};
    if (a->data.len > 0) {
        a->call.wire.data[0] = a->data;
        a->call.wire.data_count = 1;
    }
    a->calling = true;
    peer_link_call(l, &a->call);
}

static void ask_ready(struct datanode_send *s, struct peer_link *l)
{
    ask_send(container_of(s, struct datanode_ask, send), l);
}

static void ask_go(struct datanode_ask *a)
{
    a->neighbor = datanode_neighbor_get(a->chain->worker, a->chain->successor);
    ask_rest(a); /* looks for a new row even if there is no link for long */
    if (a->neighbor == NULL) {
        return;
    }
    a->send.ready = ask_ready;
    struct peer_link *l = datanode_neighbor_link(a->neighbor, a->slot, &a->send);
    if (l != NULL) {
        ask_send(a, l);
    }
}

void datanode_ask_start(struct datanode_ask *a)
{
    CHECK(!a->active && a->chain->successor != 0);
    /* Not the control link: all others go with it when an attempt ends that was not answered. */
    a->slot = a->slot == 0 ? DATANODE_SLOT_ASK : a->slot;
    a->active = true;
    a->stopped = false;
    a->rest_ms = 0;
    a->epoch = a->chain->row.epoch;
    a->turn = a->chain->turn;
    ask_go(a);
}

bool datanode_ask_stop(struct datanode_ask *a)
{
    if (!a->active) {
        return false;
    }
    a->stopped = true;
    datanode_neighbor_unwait(&a->send);
    if (a->calling) { /* R10: a new attempt needs a new link, or this one answered */
        datanode_neighbor_drop(a->neighbor, a->slot, "an older attempt ends");
    } else {
        a->again.fire = ask_again;
        loop_timer_in(a->chain->worker->loop, &a->again, 0);
    }
    return true;
}
