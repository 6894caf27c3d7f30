/*
 * datanode/forward.c -- FORWARD at its receiver: the table of section 6. The data is held in memory
 * until the trailer says that the sender has all of it (R14), and was verified before that; a link
 * that ends first takes the update with it.
 */
#include "datanode/worker_priv.h"

#include "datanode/remove.h"

/* `spoilt`: its checksums are those of this content, its bytes are not; the sender says so. */
static int forward_shape(const struct proto_forward_request *m, const struct slice *data,
                         bool *spoilt)
{
    bool whole = m->form == PROTO_FORWARD_WHOLE;
    bool kind_known = m->kind == PROTO_WRITE_AT || m->kind == PROTO_WRITE_SET_LENGTH;
    if ((!whole && m->form != PROTO_FORWARD_DELTA) || !kind_known ||
        m->new_length > CHUNK_LENGTH_MAX || m->length > CHUNK_LENGTH_MAX ||
        m->offset > CHUNK_LENGTH_MAX - m->length || m->recent.count > CHUNK_RECENT_MAX ||
        (m->chunk_flags & ~CHUNK_FLAGS_ALL) != 0 || (m->identity.aepoch == 0)) {
        return -ERR_bad_value;
    }
    size_t expected = whole ? m->new_length : m->kind == PROTO_WRITE_SET_LENGTH ? 0 : m->length;
    if (data->len != expected || (whole && m->offset != 0)) {
        return -ERR_bad_value;
    }
    int rc = datanode_crc_check(m->offset, data, &m->crcs);
    *spoilt = rc < 0 && whole && (m->chunk_flags & CHUNK_DAMAGED) != 0 &&
              m->crcs.count == chunk_cells(m->new_length);
    return *spoilt ? 0 : rc;
}

/* Answers with an error, unlocks if it holds the lock. */
static void forward_end(struct datanode_update *u, int rc, bool locked)
{
    struct peer_request *r = u->request;
    struct datanode_chain *c = u->chain;
    struct datanode_item *it = u->item;
    u->request = NULL;
    u->item = NULL;
    r->cancelled = NULL;
    datanode_update_free(u);
    datanode_refuse(r, rc, c);
    if (locked) {
        datanode_item_unlock(it);
    }
    datanode_item_put(it);
}

/* `recent` after the update: I7. */
static int forward_recent(struct datanode_update *u, const struct chunk_info *info)
{
    const struct proto_forward_request *m = u->request->body;
    if (u->whole) {
        for (size_t i = 0; i < m->recent.count; i++) {
            const struct proto_recent *e = &m->recent.at[i];
            u->recent[i] = (struct chunk_recent){.client = e->client,
                                                 .seq = e->seq,
                                                 .ver = e->ver,
                                                 .result = e->result,
                                                 .time_ms = e->time_ms};
        }
        u->recent_count = (unsigned)m->recent.count;
        u->flags = m->chunk_flags & (uint16_t)~CHUNK_DAMAGED;
        u->flags |= u->comes_spoilt ? CHUNK_DAMAGED : 0;
        return 0;
    }
    int count = datanode_recent_apply(info, &u->change, u->recent, &u->flags);
    u->recent_count = count < 0 ? 0 : (unsigned)count;
    return count < 0 ? count : 0;
}

static void forward_accept(struct datanode_update *u, const struct chunk_info *info, bool install)
{
    u->install = install;
    u->last_ver = base_max(u->last_ver, base_max(info->last_ver, u->identity.ver));
    int rc = forward_recent(u, info);
    if (rc < 0) {
        forward_end(u, rc, true);
        return;
    }
    datanode_update_begin(u);
}

static void forward_touch(struct datanode_update *u)
{
    if (u->chain->state == PROTO_MEMBER_SYNCING) {
        datanode_item_touch(u->item, u->chain->row.epoch);
    }
}

static void forward_diverged(struct datanode_update *u)
{
    stats_count(&u->worker->counters.diverged, 1);
    datanode_chain_gone(u->chain, "an update does not continue what this target holds");
    forward_end(u, -ERR_diverged, true);
}

/* Under the lock. */
static void forward_decide(struct datanode_update *u)
{
    struct datanode_worker *w = u->worker;
    struct datanode_chain *c = NULL;
    const struct proto_forward_request *m = u->request->body;
    struct chunk_info info;
    int rc = datanode_request_dead(u->request) || u->doomed ? -ERR_cancelled : 0; /* R10 */
    rc = rc < 0 ? rc : datanode_chain_route(w, &m->route, &c);
    rc = rc < 0 ? rc : datanode_lookup_locked(w, u->item->key, &info);
    if (rc == 0 && info.chain != 0 && info.chain != c->id) {
        rc = -ERR_bad_value;
    }
    if (rc < 0) {
        forward_end(u, rc, true);
        return;
    }
    const struct datanode_forward_view v = {.info = &info,
                                            .identity = u->identity,
                                            .base = u->base,
                                            .whole = u->whole,
                                            .dead = datanode_removed(w, m->chunk.data_id),
                                            .syncing = c->state == PROTO_MEMBER_SYNCING};
    switch (datanode_forward_decide(&v)) {
    case DATANODE_FORWARD_GOOD:
        forward_touch(u);
        datanode_update_good(u, info.digest);
        return;
    case DATANODE_FORWARD_JOIN:
        u->origin = DATANODE_FROM_DISK;
        datanode_update_resume(u);
        return;
    case DATANODE_FORWARD_ACCEPT:
        forward_accept(u, &info, false);
        return;
    case DATANODE_FORWARD_INSTALL:
        forward_accept(u, &info, true);
        return;
    case DATANODE_FORWARD_NEED_WHOLE:
        forward_end(u, -ERR_need_whole, true);
        return;
    case DATANODE_FORWARD_GONE:
        forward_end(u, -ERR_gone, true);
        return;
    case DATANODE_FORWARD_DIVERGED:
        forward_diverged(u);
        return;
    }
}

static void forward_granted(struct datanode_wait *wait)
{
    forward_decide(container_of(wait, struct datanode_update, wait));
}

static void forward_cancelled(struct peer_request *r)
{
    struct datanode_update *u = r->context;
    datanode_update_upstream_lost(u);
}

/*
 * An update of this chunk is in flight here: the same one (table: "pending = n"), then this request
 * waits for its end in place of the older one; or another one, which cannot be. True: dealt with.
 */
static bool forward_join(struct datanode_worker *w, struct datanode_chain *c,
                         struct peer_request *r)
{
    const struct proto_forward_request *m = r->body;
    struct datanode_item *it = datanode_item_find(w, datanode_key(m->chunk));
    struct datanode_update *u = it == NULL ? NULL : it->update;
    if (u == NULL || u->install ||
        (u->state != DATANODE_UPDATE_STORE && u->state != DATANODE_UPDATE_PENDING)) {
        return false;
    }
    if (!chunk_identity_equal(u->identity, datanode_identity(m->identity))) {
        stats_count(&w->counters.diverged, 1);
        datanode_chain_gone(c, "another update of the chunk is pending");
        datanode_refuse(r, -ERR_diverged, c);
        return true;
    }
    struct peer_request *older = u->request;
    u->request = r;
    r->context = u;
    if (older != NULL) {
        older->cancelled = NULL;
        datanode_refuse(older, -ERR_busy, c);
    }
    datanode_update_joined(u, m->sync);
    return true;
}

static struct datanode_update *forward_make(struct datanode_chain *c, struct peer_request *r,
                                            bool spoilt)
{
    const struct proto_forward_request *m = r->body;
    struct datanode_update *u = datanode_update_new(c, DATANODE_FROM_PREDECESSOR);
    if (u == NULL) {
        return NULL;
    }
    u->identity = datanode_identity(m->identity);
    u->base = datanode_identity(m->base);
    u->kind = m->kind;
    u->whole = m->form == PROTO_FORWARD_WHOLE;
    u->comes_spoilt = spoilt;
    u->sync = m->sync;
    u->offset = m->offset;
    u->length = m->length;
    u->new_length = m->new_length;
    u->tgen = m->tgen;
    u->client = m->client;
    u->seq = m->seq;
    u->result = m->result;
    u->last_ver = m->last_ver;
    u->change.entry = (struct chunk_recent){.client = m->client,
                                            .seq = m->seq,
                                            .ver = m->identity.ver,
                                            .result = m->result,
                                            .time_ms = m->head_time_ms};
    u->change.evicted_count = base_min(m->evicted.count, CHUNK_RECENT_MAX);
    if (u->change.evicted_count > 0) {
        memcpy(u->change.evicted, m->evicted.at,
               u->change.evicted_count * sizeof u->change.evicted[0]);
    }
    return datanode_update_take(u, &m->chunk, &m->crcs, &r->wire->data);
}

/*
 * What waits for members further down may fill only a part of the memory, the smaller the more they
 * are: so there is always some for those further down, and members that are each other's
 * successors in several chains cannot all wait.
 */
static bool forward_fits(const struct datanode_worker *w, const struct datanode_chain *c,
                         const struct slice *data)
{
    unsigned shift = c->behind < 8 ? c->behind : 8;
    uint64_t own = data->buf == NULL ? 0 : data->buf->size;
    uint64_t others = buf_pool_used_bytes(w->member_pool) - own;
    return c->behind == 0 || others <= w->member_bytes >> shift;
}

void datanode_on_forward(struct peer_user *user, struct peer_request *r)
{
    struct datanode_worker *w = datanode_worker_of(user);
    const struct proto_forward_request *m = r->body;
    struct datanode_chain *c = NULL;
    bool spoilt = false;
    int rc = datanode_chain_route(w, &m->route, &c);
    if (rc == 0 && r->link->session != c->predecessor) {
        rc = -EPERM;
    }
    if (rc == 0) {
        rc = forward_shape(m, &r->wire->data, &spoilt);
    }
    if (rc == 0 && forward_join(w, c, r)) {
        return;
    }
    if (rc == 0 && !forward_fits(w, c, &r->wire->data)) {
        rc = -ERR_busy;
    }
    struct datanode_update *u = rc < 0 ? NULL : forward_make(c, r, spoilt);
    if (u == NULL) {
        datanode_refuse(r, rc < 0 ? rc : -ERR_busy, c);
        return;
    }
    u->request = r;
    r->context = u;
    r->cancelled = forward_cancelled;
    u->wait.granted = forward_granted;
    rc = datanode_item_lock(u->item, &u->wait);
    if (rc > 0) {
        forward_decide(u);
    } else if (rc < 0) {
        forward_end(u, rc, false);
    }
}

/* ---- The trailer ---- */

static bool trailer_fits(const struct datanode_update *u, const struct peer_link *l,
                         const struct proto_forward_trailer_push *m)
{
    const struct peer_request *r = u->request;
    if (r == NULL || r->link != l || u->origin != DATANODE_FROM_PREDECESSOR) {
        return false;
    }
    const struct proto_forward_request *req = r->body;
    return req->route.attempt == m->route.attempt && req->route.chain == m->route.chain &&
           chunk_identity_equal(u->identity, datanode_identity(m->identity)) &&
           chunk_key_compare(u->item->key, datanode_key(m->chunk)) == 0;
}

void datanode_on_trailer(struct peer_user *user, struct peer_link *l, const void *body)
{
    struct datanode_worker *w = datanode_worker_of(user);
    const struct proto_forward_trailer_push *m = body;
    struct datanode_item *it = datanode_item_find(w, datanode_key(m->chunk));
    if (it == NULL) {
        return; /* refused, or done already */
    }
    if (it->update != NULL && trailer_fits(it->update, l, m)) {
        datanode_update_trailer(it->update, m->ok);
        return;
    }
    LIST_FOR_EACH(at, &w->updates)
    { /* it waits for the chunk's lock */
        struct datanode_update *u = LIST_ENTRY(at, struct datanode_update, node);
        if (u->item == it && trailer_fits(u, l, m)) {
            datanode_update_trailer(u, m->ok);
            return;
        }
    }
}
