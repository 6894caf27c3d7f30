/*
 * datanode/below.c -- what an update says to the successor: FORWARD with the data, then the trailer
 * on the same link, again and again with new attempts until the successor has it, refuses it, or a
 * new row comes.
 *
 * R10: a new attempt goes out after the old one was answered, or on a new link; so one whose answer
 * is late takes its link with it. As a delta when the successor can take one, else whole: read back
 * from the own store once it is there (syncing successor, need_whole, an update found on disk after
 * a restart).
 */
#include "datanode/worker_priv.h"

#define LOW_SPACE_NS (1000 * NS_PER_MS) /* then a growing write may ask again */

static void below_ready(struct datanode_send *s, struct peer_link *l);
static void below_again(struct loop_timer *t);
static void below_go(struct datanode_update *u);

bool datanode_below_busy(const struct datanode_update *u)
{
    return u->calling || u->reading;
}

static void below_rest(struct datanode_update *u)
{
    u->below = DATANODE_BELOW_REST;
    u->rest_ms = u->rest_ms == 0
                     ? DATANODE_RETRY_MIN_MS
                     : (uint32_t)base_min(2 * (uint64_t)u->rest_ms, DATANODE_RETRY_MAX_MS);
    u->again.fire = below_again;
    loop_timer_in(u->worker->loop, &u->again, u->rest_ms * NS_PER_MS);
}

static void below_again(struct loop_timer *t)
{
    struct datanode_update *u = container_of(t, struct datanode_update, again);
    stats_count(&u->worker->counters.resends, 1);
    below_go(u);
}

/* ---- The trailer: R14 ---- */

static void below_trailer(struct datanode_update *u, bool ok)
{
    if (!u->calling || u->trailer_sent || u->link == NULL) {
        return;
    }
    const struct proto_forward_trailer_push m = {.route = u->forward.route,
                                                 .chunk = u->forward.chunk,
                                                 .identity = u->forward.identity,
                                                 .ok = ok};
    u->trailer_sent = true;
    int rc = peer_link_push(u->link, PROTO_OP_forward_trailer, &m);
    if (rc < 0) { /* the successor drops the update with the link */
        datanode_neighbor_drop(u->neighbor, u->slot, "a trailer cannot be sent");
    }
}

void datanode_below_stored(struct datanode_update *u)
{
    if (u->below == DATANODE_BELOW_CALL) {
        below_trailer(u, true);
    } else if (u->below == DATANODE_BELOW_IDLE && !u->calling) {
        below_go(u);
    }
}

/* ---- Answers ---- */

static bool refusal(const struct peer_reply *r)
{
    return r->answered && (r->rc == -ERR_no_space || r->rc == -ERR_gone);
}

static void below_failed(struct datanode_update *u, const struct peer_reply *r)
{
    struct datanode_worker *w = u->worker;
    if (refusal(r) && !u->chain->successor_syncing) {
        u->below = DATANODE_BELOW_IDLE;
        datanode_update_below_refused(u, r->rc);
        return;
    }
    if (r->answered && r->rc == -ERR_need_whole && !u->lift && !u->whole) {
        u->lift = true;
        u->below = DATANODE_BELOW_IDLE;
        below_go(u);
        return;
    }
    below_rest(u);
    if (r->answered && r->rc == -ERR_stale_epoch && r->failure != NULL) {
        (void)datanode_chain_take(w, &r->failure->row, false); /* may end `u` */
    } else if (r->answered && r->rc == -ERR_ahead_epoch) {
        u->rest_ms = DATANODE_RETRY_MIN_MS; /* it fetches the row */
    }
}

static void below_done(struct peer_call *c, const struct peer_reply *r)
{
    struct datanode_update *u = container_of(c, struct datanode_update, call);
    u->calling = false;
    u->link = NULL;
    datanode_neighbor_answered(u->neighbor, u->slot, r);
    if (u->state == DATANODE_UPDATE_OVER) {
        datanode_update_release(u);
        return;
    }
    if (u->restart) {
        u->restart = false;
        below_go(u);
        return;
    }
    if (u->below != DATANODE_BELOW_CALL) {
        return; /* void: of an older attempt */
    }
    const struct proto_forward_reply *m = r->body;
    if (r->rc == 0 && m->route.epoch == u->chain->row.epoch && m->route.attempt == u->attempt) {
        u->below = DATANODE_BELOW_GOOD;
        u->good_epoch = m->route.epoch;
        u->good_attempt = m->route.attempt;
        if (m->low_space) {
            u->chain->low_until_ns = loop_tick_ns(u->worker->loop) + LOW_SPACE_NS;
        }
        datanode_update_below_good(u, m->digest);
        return;
    }
    if (r->rc == 0) {
        below_rest(u);
        return;
    }
    below_failed(u, r);
}

/* ---- Sending ---- */

static void below_describe(struct datanode_update *u, bool whole)
{
    struct proto_forward_request *m = &u->forward;
    *m = (struct proto_forward_request){.route = datanode_route_of(u->chain, u->attempt),
                                        .chunk = datanode_key_wire(u->item->key),
                                        .identity = datanode_identity_wire(u->identity),
                                        .base = datanode_identity_wire(u->base),
                                        .client = u->client,
                                        .seq = u->seq,
                                        .result = u->result,
                                        .kind = u->kind,
                                        .form = whole ? PROTO_FORWARD_WHOLE : PROTO_FORWARD_DELTA,
                                        .offset = whole ? 0 : u->offset,
                                        .length = whole ? u->new_length : u->length,
                                        .new_length = u->new_length,
                                        .tgen = u->tgen,
                                        .sync = u->sync,
                                        .head_time_ms = u->change.entry.time_ms,
                                        .crcs = {.at = u->crc, .count = u->crc_count},
                                        .chunk_flags = u->flags,
                                        .last_ver = u->last_ver};
    if (!whole) {
        m->evicted = (struct proto_u64s){.at = u->change.evicted, .count = u->change.evicted_count};
        return;
    }
    if (u->whole_crc != NULL) {
        m->crcs = (struct proto_u32s){.at = u->whole_crc, .count = chunk_cells(u->new_length)};
    }
    for (unsigned i = 0; i < u->recent_count; i++) {
        const struct chunk_recent *e = &u->recent[i];
        u->wire_recent[i] = (struct proto_recent){.client = e->client,
                                                  .seq = e->seq,
                                                  .ver = e->ver,
                                                  .result = e->result,
                                                  .time_ms = e->time_ms};
    }
    m->recent = (struct proto_recent_list){.at = u->wire_recent, .count = u->recent_count};
}

static void below_send(struct datanode_update *u, struct peer_link *l)
{
    bool lifted = u->lift || (u->chain->successor_syncing && !u->whole);
    below_describe(u, u->whole || lifted);
    u->call = (struct peer_call){.done = below_done,
                                 .request = &u->forward,
                                 .opcode = PROTO_OP_forward,
                                 .timeout_ms = DATANODE_CALL_MS};
    struct slice data = u->data;
    if (lifted) {
        data = (struct slice){.buf = u->whole_buf,
                              .at = u->whole_buf == NULL ? NULL : u->whole_buf->at,
                              .len = u->new_length};
    }
    if (data.len > 0) {
        u->call.wire.data[0] = data;
        u->call.wire.data_count = 1;
    }
    u->below = DATANODE_BELOW_CALL;
    u->calling = true;
    u->trailer_sent = false;
    u->link = l;
    u->called_ns = loop_tick_ns(u->worker->loop);
    stats_count(&u->worker->counters.forwards, 1);
    stats_count(&u->worker->counters.forward_bytes, data.len);
    peer_link_call(l, &u->call);
    if (u->state == DATANODE_UPDATE_PENDING) {
        below_trailer(u, true);
    }
}

static void below_ready(struct datanode_send *s, struct peer_link *l)
{
    below_send(container_of(s, struct datanode_update, send), l);
}

static void below_link(struct datanode_update *u)
{
    u->neighbor = datanode_neighbor_get(u->worker, u->chain->successor);
    u->slot = datanode_slot_of(u->item->key);
    if (u->neighbor == NULL) {
        below_rest(u);
        return;
    }
    u->send.ready = below_ready;
    u->below = DATANODE_BELOW_LINK;
    struct peer_link *l = datanode_neighbor_link(u->neighbor, u->slot, &u->send);
    if (l != NULL) {
        below_send(u, l);
    }
}

/* ---- The whole content, read back ---- */

static void below_got(struct datanode_update *u, int rc)
{
    u->reading = false;
    if (u->state == DATANODE_UPDATE_OVER) {
        datanode_update_release(u);
        return;
    }
    if (rc < 0) {
        u->whole_buf = buf_unref(u->whole_buf);
        mem_free(u->whole_crc);
        u->whole_crc = NULL;
    }
    if (u->restart) {
        u->restart = false;
        below_go(u);
        return;
    }
    if (u->below != DATANODE_BELOW_READ) {
        return;
    }
    if (err_is(rc, EIO)) {
        u->below = DATANODE_BELOW_IDLE;
        datanode_chain_gone(u->chain, "a pending update cannot be read back");
    } else if (rc < 0) {
        below_rest(u);
    } else {
        below_link(u);
    }
}

static void below_read_done(struct chunk_read *read, int rc)
{
    below_got(container_of(read, struct datanode_update, read), rc);
}

static void below_read_spoilt(struct datanode_spoilt *s, int rc)
{
    below_got(container_of(s, struct datanode_update, spoilt), rc);
}

/* What a whole FORWARD says of the record comes from the record. False: later. */
static bool below_record(struct datanode_update *u)
{
    struct chunk_info info;
    int rc = chunk_store_lookup(u->worker->store, u->item->key, &info);
    if (rc < 0 || !info.has_pending || !chunk_identity_equal(info.pending, u->identity)) {
        return false;
    }
    memcpy(u->recent, info.recent, sizeof u->recent);
    u->recent_count = info.recent_count;
    u->flags = info.pending_flags;
    u->tgen = info.pending_tgen;
    u->last_ver = info.last_ver;
    return true;
}

static void below_read(struct datanode_update *u)
{
    struct datanode_worker *w = u->worker;
    if (u->whole_buf != NULL || (u->new_length == 0 && below_record(u))) {
        below_link(u);
        return;
    }
    u->whole_crc = mem_calloc(CHUNK_CELLS_MAX, sizeof *u->whole_crc);
    u->whole_buf = buf_get(w->member_pool, base_max(u->new_length, 1));
    if (u->whole_crc == NULL || u->whole_buf == NULL || !below_record(u)) {
        u->whole_buf = buf_unref(u->whole_buf);
        mem_free(u->whole_crc);
        u->whole_crc = NULL;
        below_rest(u);
        return;
    }
    u->below = DATANODE_BELOW_READ;
    u->reading = true;
    if ((u->flags & CHUNK_DAMAGED) != 0) { /* the successor gets it as it is */
        u->spoilt = (struct datanode_spoilt){.done = below_read_spoilt,
                                             .store = w->store,
                                             .key = u->item->key,
                                             .which = CHUNK_PENDING,
                                             .identity = u->identity,
                                             .length = u->new_length,
                                             .digest = u->digest,
                                             .to = u->whole_buf->at,
                                             .crc = u->whole_crc};
        datanode_spoilt_read(&u->spoilt);
        return;
    }
    u->read = (struct chunk_read){
        .done = below_read_done,
        .pin = {.key = u->item->key, .which = CHUNK_PENDING, .offset = 0, .length = u->new_length},
        .verify = true,
        .to = u->whole_buf->at,
        .crc = u->whole_crc};
    chunk_store_read(w->store, &u->read);
}

/* ---- One attempt ---- */

static void below_go(struct datanode_update *u)
{
    struct datanode_chain *c = u->chain;
    u->attempt = ++c->attempts;
    u->below = DATANODE_BELOW_IDLE;
    if (c->successor == 0 || u->state < DATANODE_UPDATE_OPEN ||
        u->state > DATANODE_UPDATE_PENDING) {
        return;
    }
    bool whole_needed = u->lift || (c->successor_syncing && !u->whole);
    if (whole_needed && u->state != DATANODE_UPDATE_PENDING) {
        return; /* datanode_below_stored() goes on */
    }
    if (whole_needed) {
        below_read(u);
    } else {
        below_link(u);
    }
}

void datanode_below_start(struct datanode_update *u)
{
    datanode_below_stop(u, false);
    u->rest_ms = 0;
    if (u->calling || u->reading) {
        u->restart = true; /* when the old attempt has ended */
        return;
    }
    below_go(u);
}

void datanode_below_stop(struct datanode_update *u, bool say_dropped)
{
    loop_timer_cancel(u->worker->loop, &u->again);
    datanode_neighbor_unwait(&u->send);
    u->restart = false;
    u->below = DATANODE_BELOW_IDLE;
    if (!u->calling) {
        return;
    }
    if (say_dropped && !u->trailer_sent) {
        below_trailer(u, false); /* it answers at once */
        return;
    }
    datanode_neighbor_drop(u->neighbor, u->slot, "an older attempt ends");
}
