/*
 * datanode/update.c -- one update of one chunk on its way through this member:
 *
 *     RESERVE -> OPEN -> STORE -> PENDING -> (committed) FLUSH -> OVER
 *                                    |-> DROP -> OVER          refused further down (R15)
 *
 * Space is reserved before the first byte goes on (R13). The successor gets the data while it is
 * stored here, and the trailer only after that (R14); a member that waits for the trailer is OPEN.
 * It is committed when it is last in the chain or the successor has it (I4). It holds the chunk's
 * lock from RESERVE to its commit or drop; it survives its client, and new rows (R12).
 */
#include "datanode/worker_priv.h"

#include "datanode/blocks.h"

#define STORE_TRIES                                                              \
    12u /* without memory: about 6 s, then the chain goes on without this target \
         */

static void update_try_commit(struct datanode_update *u);
static void update_drop_pending(struct datanode_update *u, int rc);

/*
 * Updates that wait for members further down leave room for those that are nearer to the end of
 * their chains: members that are each other's successors in several chains would all wait else.
 */
static size_t update_limit(const struct datanode_worker *w, const struct datanode_chain *c,
                           enum datanode_origin from)
{
    size_t half = w->opt.max_updates / 2;
    if (c->behind == 0) {
        return w->opt.max_updates;
    }
    return from == DATANODE_FROM_CLIENT ? base_max(half, 1)
                                        : base_max(half + (half >> base_min(c->behind, 16)), 1);
}

struct datanode_update *datanode_update_new(struct datanode_chain *c, enum datanode_origin from)
{
    struct datanode_worker *w = c->worker;
    if (w->update_count >= update_limit(w, c, from) || w->stopping) {
        return NULL;
    }
    struct datanode_update *u = mem_zalloc(sizeof *u);
    if (u == NULL) {
        return NULL;
    }
    u->worker = w;
    u->chain = c;
    u->origin = from;
    u->began_ns = loop_tick_ns(w->loop);
    u->told = true;
    list_push_back(&w->updates, &u->node);
    w->update_count++;
    stats_gauge_set(&w->counters.updates, (int64_t)w->update_count);
    return u;
}

struct datanode_update *datanode_update_take(struct datanode_update *u,
                                             const struct proto_chunk *chunk,
                                             const struct proto_u32s *crcs,
                                             const struct slice *data)
{
    u->crc_count = (uint32_t)crcs->count;
    u->crc = mem_dup(crcs->at == NULL ? (const uint32_t[]){0} : crcs->at,
                     base_max(crcs->count, 1) * sizeof *u->crc);
    u->item = datanode_item_get(u->worker, u->chain, datanode_key(*chunk));
    if (u->crc == NULL || u->item == NULL || u->item->chain != u->chain) {
        datanode_update_free(u);
        return NULL;
    }
    u->data = *data;
    if (u->data.buf != NULL) {
        buf_ref(u->data.buf);
    }
    return u;
}

void datanode_update_free(struct datanode_update *u)
{
    if (u == NULL) {
        return;
    }
    struct datanode_worker *w = u->worker;
    CHECK(u->request == NULL);
    loop_timer_cancel(w->loop, &u->again);
    datanode_neighbor_unwait(&u->send);
    buf_slice_drop(&u->data);
    buf_unref(u->whole_buf);
    mem_free(u->whole_crc);
    mem_free(u->crc);
    if (u->item != NULL) {
        datanode_item_put(u->item);
    }
    list_remove(&u->node);
    w->update_count--;
    stats_gauge_set(&w->counters.updates, (int64_t)w->update_count);
    mem_free(u);
    datanode_fences_writes_done(w);
}

void datanode_update_release(struct datanode_update *u)
{
    bool busy = u->storing || u->dropping || u->flushing || u->verifying || datanode_below_busy(u);
    if (u->state == DATANODE_UPDATE_OVER && !busy) {
        datanode_update_free(u);
    }
}

/* ---- Answers ---- */

/*
 * R8: no answer, where a refusal would sound as if nothing had happened: it may be stored by now,
 * here or at others, so that the client has to know how long it may ask again (`recent` forgets).
 * What a metadata leader asks is the same at any time.
 */
static void answer_nothing(struct datanode_update *u, struct peer_request *r)
{
    struct peer_link *l = r->link;
    if (u->outlives && l != NULL && l->role == PROTO_ROLE_CLIENT) {
        peer_link_close(l, -ERR_not_serving, "the outcome of a write is not known here");
    }
    datanode_refuse(r, -ERR_not_serving, u->chain);
}

static void answer_write(struct datanode_update *u, struct peer_request *r)
{
    struct datanode_chain *c = u->chain;
    struct datanode_worker *w = u->worker;
    if (!datanode_leased(w) || !c->in_path) { /* the client asks again */
        answer_nothing(u, r);
        return;
    }
    const struct proto_write_reply m = {.route = datanode_route_of(c, 0),
                                        .identity = datanode_identity_wire(u->identity),
                                        .offset = u->offset,
                                        .length = u->new_length,
                                        .loss_gen = c->row.loss_gen};
    stats_sample(&w->counters.write_time, loop_now_ns(w->loop) - u->began_ns);
    peer_request_answer(r, &m, NULL);
}

static void answer_forward(struct datanode_update *u, struct peer_request *r)
{
    struct datanode_chain *c = u->chain;
    const struct proto_forward_request *req = r->body;
    if (req->route.epoch != c->row.epoch) { /* R10 */
        datanode_refuse(r, -ERR_stale_epoch, c);
        return;
    }
    const struct proto_forward_reply m = {.route = datanode_route_of(c, req->route.attempt),
                                          .digest = u->digest,
                                          .low_space = datanode_chain_low(c)};
    stats_sample(&u->worker->counters.forward_time, loop_now_ns(u->worker->loop) - u->began_ns);
    peer_request_answer(r, &m, NULL);
}

static void answer_copy(struct datanode_update *u, struct peer_request *r)
{
    struct datanode_chain *c = u->chain;
    const struct proto_copy_request *req = r->body;
    const struct proto_copy_reply m = {.route = datanode_route_of(c, req->route.attempt)};
    if (req->route.epoch != c->row.epoch) {
        datanode_refuse(r, -ERR_stale_epoch, c);
    } else {
        peer_request_answer(r, &m, NULL);
    }
}

static void update_answer(struct datanode_update *u, int rc)
{
    struct peer_request *r = u->request;
    u->request = NULL;
    if (r == NULL) {
        return;
    }
    r->cancelled = NULL;
    bool write = r->message->opcode == PROTO_OP_write;
    stats_count(&u->worker->counters.refused, rc < 0 ? 1U : 0U);
    if (write && rc == -ERR_not_serving) {
        answer_nothing(u, r);
    } else if (rc < 0) {
        datanode_refuse(r, rc, u->chain);
    } else if (write) {
        answer_write(u, r);
    } else if (r->message->opcode == PROTO_OP_copy) {
        answer_copy(u, r);
    } else {
        answer_forward(u, r);
    }
}

/* ---- The end ---- */

/* The chunk is free for others. */
static void update_let_go(struct datanode_update *u)
{
    struct datanode_item *it = u->item;
    CHECK(it->update == u);
    it->update = NULL;
    datanode_item_mark(it, false);
    datanode_item_unlock(it);
}

static void update_over(struct datanode_update *u, int rc)
{
    u->state = DATANODE_UPDATE_OVER;
    update_answer(u, rc);
    datanode_update_release(u);
}

/* Nothing of it is on disk here. */
static void update_abandon(struct datanode_update *u, int rc)
{
    stats_count(&u->worker->counters.dropped, 1);
    datanode_below_stop(u, true);
    u->state = DATANODE_UPDATE_OVER;
    update_let_go(u);
    update_over(u, rc);
}

/* The store does not take it: the target is sick, or the data id was removed by another chain. */
static void update_fail(struct datanode_update *u, const char *reason)
{
    bool dead = chunk_store_dead(u->worker->store, u->item->key.data_id);
    if (!dead) {
        datanode_chain_gone(u->chain, reason);
    }
    update_abandon(u, dead ? -ERR_gone : -ERR_not_serving); /* the others go on without it */
}

static void update_drop_early(struct datanode_update *u, int rc)
{
    if (u->state == DATANODE_UPDATE_RESERVE) {
        u->doomed = true; /* when the reservation has been answered */
        u->refusal = rc;
        return;
    }
    CHECK(u->state == DATANODE_UPDATE_OPEN);
    chunk_store_unreserve(u->worker->store, &u->store);
    update_abandon(u, rc);
}

/* ---- Stable before the answer ---- */

static void update_flushed(struct chunk_sync *s, int rc)
{
    struct datanode_update *u = container_of(s, struct datanode_update, flush);
    u->flushing = false;
    u->flushed = true;
    if (u->state == DATANODE_UPDATE_FLUSH) {
        update_over(u, rc < 0 ? -ERR_not_serving : 0);
        return;
    }
    u->flush_rc = rc < 0 ? -ERR_not_serving : 0; /* not EIO: the next head knows the outcome */
    datanode_update_release(u);
}

static void update_flush(struct datanode_update *u)
{
    u->flushing = true;
    u->flush = (struct chunk_sync){
        .done = update_flushed, .scope = CHUNK_SYNC_KEYS, .key = &u->item->key, .key_count = 1};
    chunk_store_sync(u->worker->store, &u->flush);
}

/* ---- Commit ---- */

static void update_verified(struct chunk_verify *v, int rc)
{
    struct datanode_update *u = container_of(v, struct datanode_update, verify);
    struct datanode_worker *w = u->worker;
    u->verifying = false;
    if (u->state == DATANODE_UPDATE_OVER) {
        datanode_update_release(u);
        return;
    }
    if (rc < 0 || v->pending_bad) {
        datanode_chain_gone(u->chain, "an update does not read back as it was written");
        return;
    }
    stats_count(&w->counters.diverged, 1);
    log_error(w->env.log, "the successor holds other bytes", LOG_U64("chain", u->chain->id),
              LOG_U64("data", u->item->key.data_id), LOG_U64("index", u->item->key.index),
              LOG_U64("target", u->chain->successor));
    if (u->neighbor != NULL) {
        u->neighbor->accused = true;
        datanode_control_report(w);
    }
    if (u->chain->row.epoch != u->verify_epoch) {
        update_try_commit(u); /* what a new row has brought meanwhile had to wait */
    }
}

/* Section 6, step 5: both look at what they have; the one that fails is damaged. */
static void update_digests_differ(struct datanode_update *u)
{
    u->below = DATANODE_BELOW_IDLE; /* waits for a new row */
    u->verifying = true;
    u->verify_epoch = u->chain->row.epoch;
    u->verify = (struct chunk_verify){.done = update_verified, .key = u->item->key};
    chunk_store_verify(u->worker->store, &u->verify);
}

/* I4: last, or the successor has said so, asked in this epoch and by the newest attempt. */
static bool update_is_agreed(const struct datanode_update *u)
{
    const struct datanode_chain *c = u->chain;
    return c->successor == 0 || (u->below == DATANODE_BELOW_GOOD && u->good_epoch == c->row.epoch &&
                                 u->good_attempt == u->attempt);
}

static void update_commit(struct datanode_update *u)
{
    struct datanode_worker *w = u->worker;
    CHECK(update_is_agreed(u));
    int rc = chunk_store_commit(w->store, u->item->key, u->identity);
    if (rc < 0) {
        update_fail(u, "an update cannot be committed");
        return;
    }
    datanode_blocks_forget(w->blocks, u->item->key); /* of the content that it replaces */
    u->state = DATANODE_UPDATE_FLUSH;
    if ((u->flags & CHUNK_DAMAGED) != 0) {
        datanode_repair_told(u->chain, u->item->key);
    }
    update_let_go(u);
    if (!u->sync || u->flushed) {
        update_over(u, u->flush_rc);
    }
}

static void update_try_commit(struct datanode_update *u)
{
    if (u->state != DATANODE_UPDATE_PENDING || u->verifying) {
        return;
    }
    if (u->refusal != 0) {
        update_drop_pending(u, u->refusal);
        return;
    }
    if (u->chain->successor == 0) {
        update_commit(u); /* I4: last */
        return;
    }
    if (u->below != DATANODE_BELOW_GOOD) {
        return;
    }
    if (u->below_digest != u->digest) {
        update_digests_differ(u);
        return;
    }
    update_commit(u);
}

void datanode_update_below_good(struct datanode_update *u, uint32_t digest)
{
    u->below_digest = digest;
    update_try_commit(u);
}

/*
 * The store had no memory, or too much to do. That passes, so it is no reason to leave the chain:
 * what was accepted is tried again after a while. False: it has been tried enough.
 */
static bool update_again(struct datanode_update *u, int rc, void (*fire)(struct loop_timer *t))
{
    bool passes = rc == -ENOMEM || err_is(rc, EAGAIN);
    if (!passes || u->leaving || u->store_tries >= STORE_TRIES) {
        return false;
    }
    uint64_t ms =
        base_min((uint64_t)DATANODE_RETRY_MIN_MS << u->store_tries, DATANODE_RETRY_MAX_MS);
    u->store_tries++;
    u->store_again.fire = fire;
    loop_timer_in(u->worker->loop, &u->store_again, ms * NS_PER_MS);
    return true;
}

/* ---- Refusals: R15 ---- */

static void update_drop_again(struct loop_timer *t)
{
    struct datanode_update *u = container_of(t, struct datanode_update, store_again);
    chunk_store_change(u->worker->store, &u->drop);
}

static void update_dropped(struct chunk_change *ch, int rc)
{
    struct datanode_update *u = container_of(ch, struct datanode_update, drop);
    if (rc < 0 && update_again(u, rc, update_drop_again)) {
        return;
    }
    u->dropping = false;
    if (rc < 0 && rc != -ENOENT && rc != -EINVAL) {
        datanode_chain_gone(u->chain, "a refused update cannot be dropped");
        rc = -ERR_not_serving;
    } else {
        rc = u->refusal;
    }
    stats_count(&u->worker->counters.dropped, 1);
    u->state = DATANODE_UPDATE_OVER;
    update_let_go(u);
    update_over(u, rc);
}

/* Journaled before the answer goes up. */
static void update_drop_pending(struct datanode_update *u, int rc)
{
    u->state = DATANODE_UPDATE_DROP;
    u->refusal = rc;
    u->dropping = true;
    datanode_below_stop(u, false);
    u->drop = (struct chunk_change){
        .done = update_dropped, .op = CHUNK_DROP_PENDING, .key = u->item->key};
    chunk_store_change(u->worker->store, &u->drop);
}

void datanode_update_below_refused(struct datanode_update *u, int rc)
{
    switch (u->state) {
    case DATANODE_UPDATE_RESERVE:
    case DATANODE_UPDATE_OPEN:
        update_drop_early(u, rc);
        return;
    case DATANODE_UPDATE_STORE:
        u->refusal = rc;
        return;
    case DATANODE_UPDATE_PENDING:
        update_drop_pending(u, rc);
        return;
    case DATANODE_UPDATE_NEW:
    case DATANODE_UPDATE_DROP:
    case DATANODE_UPDATE_FLUSH:
    case DATANODE_UPDATE_OVER:
        return;
    }
}

/* ---- Storing ---- */

static void update_store_again(struct loop_timer *t)
{
    struct datanode_update *u = container_of(t, struct datanode_update, store_again);
    chunk_store_update(u->worker->store, &u->store);
}

/* Only now: a COPY that was refused on the way comes again, and must have its effect. */
static void update_touch(struct datanode_update *u)
{
    const struct datanode_chain *c = u->chain;
    if (c->state == PROTO_MEMBER_SYNCING && c->row.epoch == u->begun_epoch) {
        datanode_item_touch(u->item, c->row.epoch);
    }
}

static void update_stored(struct chunk_update *s, int rc)
{
    struct datanode_update *u = container_of(s, struct datanode_update, store);
    if (rc < 0 && update_again(u, rc, update_store_again)) {
        return;
    }
    u->storing = false;
    if (rc < 0 && !u->retried) {
        u->retried = true; /* section 6: other space, once */
        u->storing = true;
        chunk_store_update(u->worker->store, &u->store);
        return;
    }
    if (rc < 0) {
        update_fail(u, "an update cannot be stored");
        return;
    }
    u->digest = u->store.digest;
    u->state = DATANODE_UPDATE_PENDING;
    if (u->install) {
        u->state = DATANODE_UPDATE_FLUSH; /* committed at once */
        update_touch(u);
        if ((u->flags & CHUNK_DAMAGED) != 0) {
            datanode_repair_told(u->chain, u->item->key);
        }
        update_let_go(u);
        if (u->sync) {
            update_flush(u);
        } else {
            update_over(u, 0);
        }
        return;
    }
    if (u->leaving) { /* R12.1: it stays on disk, pending */
        u->state = DATANODE_UPDATE_OVER;
        update_let_go(u);
        update_over(u, -ERR_not_serving);
        return;
    }
    if (u->sync) {
        update_flush(u);
    }
    if (u->refusal == 0) { /* refused meanwhile: nobody below may get it again, nor its trailer */
        datanode_below_stored(u);
    }
    update_try_commit(u);
}

static void update_store(struct datanode_update *u)
{
    u->state = DATANODE_UPDATE_STORE;
    u->storing = true;
    u->outlives = true;
    u->store.done = update_stored;
    u->iov = datanode_slice_iovec(&u->data);
    u->store.data = &u->iov;
    u->store.data_count = u->data.len > 0 ? 1 : 0;
    u->store.crc = u->crc;
    u->store.crc_count = u->crc_count;
    u->store.recent = u->recent;
    u->store.recent_count = u->recent_count;
    chunk_store_update(u->worker->store, &u->store);
}

static int refusal_of(const struct datanode_update *u, int rc)
{
    if (err_is(rc, ENOSPC)) {
        return -ERR_no_space;
    }
    if (err_is(rc, EIO) && u->origin == DATANODE_FROM_PREDECESSOR) {
        return -ERR_need_whole; /* an old cell is bad: never merged, never laundered */
    }
    return err_is(rc, EAGAIN) ? rc : -ERR_busy; /* a bad cell at the head: repaired by then */
}

static void update_reserved(struct chunk_update *s, int rc)
{
    struct datanode_update *u = container_of(s, struct datanode_update, store);
    u->storing = false;
    if (rc < 0) {
        u->state = DATANODE_UPDATE_OVER;
        bool leaves = u->install && err_is(rc, ENOSPC);
        if (leaves) { /* R15: a syncing member has to go, the write goes on without it */
            datanode_chain_gone(u->chain, "no space for a resync");
        }
        update_let_go(u);
        update_over(u, leaves ? -ERR_busy : refusal_of(u, rc));
        return;
    }
    u->state = DATANODE_UPDATE_OPEN;
    if (u->doomed) {
        update_drop_early(u, u->refusal);
        return;
    }
    datanode_below_start(u);
    if (u->origin == DATANODE_FROM_CLIENT || u->trailer) {
        update_store(u);
    }
}

void datanode_update_begin(struct datanode_update *u)
{
    struct datanode_item *it = u->item;
    CHECK(it->locked && it->update == NULL);
    it->update = u;
    datanode_item_mark(it, true);
    u->state = DATANODE_UPDATE_RESERVE;
    u->storing = true;
    u->begun_epoch = u->chain->row.epoch;
    bool length_only = u->kind == PROTO_WRITE_SET_LENGTH && !u->whole;
    u->store = (struct chunk_update){.done = update_reserved,
                                     .key = it->key,
                                     .chain = u->chain->id,
                                     .base = u->base,
                                     .identity = u->identity,
                                     .kind = u->whole      ? CHUNK_WHOLE
                                             : length_only ? CHUNK_SET_LENGTH
                                                           : CHUNK_WRITE,
                                     .install = u->install,
                                     .offset = u->offset,
                                     .length = u->whole || length_only ? 0 : u->length,
                                     .new_length = u->new_length,
                                     .tgen = u->tgen,
                                     .flags = u->flags,
                                     .last_ver = u->last_ver,
                                     .lane = u->lane};
    chunk_store_reserve(u->worker->store, &u->store);
}

void datanode_update_good(struct datanode_update *u, uint32_t digest)
{
    struct datanode_item *it = u->item;
    CHECK(it->locked && it->update == NULL);
    u->digest = digest;
    u->state = DATANODE_UPDATE_FLUSH;
    if (u->sync) { /* committed, but nobody has waited for it to be stable */
        update_flush(u);
    }
    it->users++;
    datanode_item_unlock(it);
    datanode_item_put(it);
    if (!u->flushing) {
        update_over(u, 0);
    }
}

void datanode_update_joined(struct datanode_update *u, bool sync)
{
    if (!sync || u->sync) {
        return;
    }
    u->sync = true;
    if (u->state == DATANODE_UPDATE_PENDING) { /* else when it is stored */
        update_flush(u);
    }
}

void datanode_update_resume(struct datanode_update *u)
{
    struct chunk_info info;
    struct datanode_item *it = u->item;
    CHECK(it->locked && it->update == NULL);
    it->update = u;
    int rc = chunk_store_lookup(u->worker->store, it->key, &info);
    if (rc < 0 || !info.has_pending) {
        u->state = DATANODE_UPDATE_OVER;
        update_let_go(u);
        update_over(u, -ERR_busy);
        return;
    }
    datanode_item_mark(it, true);
    u->identity = info.pending;
    u->base = info.pending_base;
    u->new_length = info.pending_length;
    u->digest = info.pending_digest;
    u->kind = PROTO_WRITE_AT;
    u->lift = true; /* what exactly was changed is not known any more */
    u->state = DATANODE_UPDATE_PENDING;
    if (u->sync) {
        update_flush(u);
    }
    datanode_below_start(u);
    update_try_commit(u);
}

void datanode_update_trailer(struct datanode_update *u, bool ok)
{
    if (u->state > DATANODE_UPDATE_OPEN) {
        return;
    }
    if (!ok) {
        datanode_update_upstream_lost(u);
        return;
    }
    u->trailer = true;
    if (u->state == DATANODE_UPDATE_OPEN) {
        update_store(u);
    }
}

void datanode_update_upstream_lost(struct datanode_update *u)
{
    if (u->trailer || u->doomed) {
        return; /* all of it is here: it goes on */
    }
    if (u->state == DATANODE_UPDATE_RESERVE || u->state == DATANODE_UPDATE_OPEN) {
        update_drop_early(u, -ERR_cancelled);
    } else if (u->state == DATANODE_UPDATE_NEW) {
        u->doomed = true; /* seen when the lock is granted */
    }
}

/* ---- R12 ---- */

/* Not in the path any more: what is on disk stays there. */
static void update_leave(struct datanode_update *u)
{
    if (u->state <= DATANODE_UPDATE_OPEN) {
        update_drop_early(u, -ERR_not_serving);
    } else if (u->state == DATANODE_UPDATE_STORE) {
        u->leaving = true;
        datanode_below_stop(u, false);
    } else {
        datanode_below_stop(u, false);
        u->state = DATANODE_UPDATE_OVER;
        update_let_go(u);
        update_over(u, -ERR_not_serving);
    }
}

void datanode_update_new_row(struct datanode_update *u)
{
    const struct datanode_chain *c = u->chain;
    bool in_flight = u->state >= DATANODE_UPDATE_RESERVE && u->state <= DATANODE_UPDATE_PENDING;
    if (!in_flight) {
        return; /* in the queue: looked at when the lock is granted; else nearly over */
    }
    bool serving = c->in_path && c->state == PROTO_MEMBER_SERVING;
    if (u->install) {
        if (u->state <= DATANODE_UPDATE_OPEN) {
            update_drop_early(u, -ERR_stale_epoch);
        }
        return;
    }
    if (!serving) {
        update_leave(u);
        return;
    }
    u->leaving = false;
    if (u->request != NULL && u->request->message->opcode == PROTO_OP_forward) {
        if (u->state <= DATANODE_UPDATE_OPEN) {
            update_drop_early(u, -ERR_stale_epoch); /* R14: it comes again, if at all */
            return;
        }
        update_answer(u, -ERR_stale_epoch);
    }
    if (u->state >= DATANODE_UPDATE_OPEN) {
        u->refusal = 0; /* R10: of an attempt that is void; this row's successor decides */
        datanode_below_start(u);
        update_try_commit(u);
    }
}
