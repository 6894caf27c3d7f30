/*
 * datanode/resync_sink.c -- the syncing member's side of a resync (section 9). It takes what the
 * predecessor says, also where it has higher versions; it is never a source (I5).
 *
 * A chunk with a pending of its own is reported as damaged in INDEX pages, so that it is replaced:
 * whatever was pending here belongs to a dead epoch.
 */
#include "datanode/resync.h"

#include "chunk/hold.h"
#include "datanode/ahead.h"
#include "datanode/remove.h"
#include "datanode/worker_priv.h"

#define INDEX_PAGE_MAX 8192u
#define INDEX_LOOKS_MAX 4096u
#define SUM_LOOKS_MAX 64u
#define REMOVALS_MAX 512u /* of the dead list, at a time: their records are stable together */

struct datanode_sink;
struct sink_removal {
    struct datanode_sink *sink;
    struct list node; /* of those that are idle */
    struct chunk_change change;
};
struct datanode_sink {
    struct datanode_worker *worker;
    struct datanode_chain *chain; /* NULL: over */
    uint32_t epoch;
    struct peer_request *begin; /* SYNC_BEGIN being worked off */
    size_t dead_at;
    struct chunk_key drop_at;
    bool dropped, changing;
    bool had_pending; /* what is left of those only a walk takes away */
    struct chunk_change change;
    struct datanode_item *item; /* locked while its pending is being dropped */
    unsigned removing;
    int removed_rc;   /* the first failure */
    struct list idle; /* of `removal` */
    struct sink_removal removal[REMOVALS_MAX];
};

static int sink_admit(struct datanode_worker *w, const struct peer_request *r,
                      const struct proto_route *route, struct datanode_chain **ret)
{
    int rc = datanode_chain_route(w, route, ret);
    if (rc < 0) {
        return rc;
    }
    if ((*ret)->state != PROTO_MEMBER_SYNCING) {
        return -ERR_not_serving;
    }
    return r->link->session == (*ret)->predecessor ? 0 : -EPERM;
}

static void touched_forget(struct datanode_chain *c)
{
    struct list *at = c->items.next;
    while (at != &c->items) {
        struct datanode_item *it = LIST_ENTRY(at, struct datanode_item, on_chain);
        at = at->next;
        if (it->touched != 0) {
            datanode_item_untouch(it);
        }
    }
}

static void sink_release(struct datanode_sink *s)
{
    if (s->chain == NULL && !s->changing && s->removing == 0) {
        s->worker->sink_count--;
        mem_free(s);
    }
}

void datanode_sink_stop(struct datanode_chain *c)
{
    struct datanode_sink *s = c->sink;
    touched_forget(c);
    if (s == NULL) {
        return;
    }
    c->sink = NULL;
    s->chain = NULL;
    if (s->begin != NULL) {
        datanode_refuse(s->begin, -ERR_stale_epoch, c);
        s->begin = NULL;
    }
    sink_release(s);
}

/* ---- SYNC_BEGIN: own pendings go, then what the predecessor knows to be removed ---- */

static void sink_next(struct datanode_sink *s);

static void sink_refuse(struct datanode_sink *s, int rc)
{
    struct peer_request *r = s->begin;
    s->begin = NULL;
    datanode_refuse(r, rc == -ERR_busy || rc == -ENOMEM ? -ERR_busy : -EIO, s->chain);
}

static void sink_changed(struct chunk_change *ch, int rc)
{
    struct datanode_sink *s = container_of(ch, struct datanode_sink, change);
    struct datanode_item *it = s->item;
    s->item = NULL;
    if (it != NULL) { /* whoever gets the lock now may end the session, not this object */
        datanode_item_unlock(it);
        datanode_item_put(it);
    }
    s->changing = false;
    if (s->chain == NULL) {
        sink_release(s);
        return;
    }
    if (rc < 0 && rc != -ENOENT && rc != -EINVAL) {
        sink_refuse(s, rc);
    } else {
        sink_next(s);
    }
}

/* False: an update of it is in flight, which commits it, replaces it, or leaves it to a COPY. */
static bool sink_drop(struct datanode_sink *s, struct chunk_key key)
{
    struct datanode_item *it = datanode_item_get(s->worker, s->chain, key);
    if (it == NULL) {
        return false;
    }
    if (!datanode_item_try_lock(it)) {
        datanode_item_put(it);
        return false;
    }
    s->item = it;
    s->changing = true;
    s->had_pending = true;
    s->change = (struct chunk_change){.done = sink_changed, .op = CHUNK_DROP_PENDING, .key = key};
    chunk_store_change(s->worker->store, &s->change);
    return true;
}

static bool sink_drops_pending(struct datanode_sink *s)
{
    struct chunk_info info;
    struct chunk_store_info store;
    chunk_store_info(s->worker->store, &store);
    if (s->dropped || store.pending_count == 0) {
        s->dropped = true;
        return false;
    }
    int rc = 0;
    while (rc == 0 || rc == -EAGAIN) {
        rc = chunk_store_next_pending(s->worker->store, &s->drop_at, &info);
        if (rc < 0) {
            continue;
        }
        s->drop_at.index++;
        s->drop_at.data_id += s->drop_at.index == 0 ? 1U : 0U;
        if (info.chain == s->chain->id && info.has_pending && sink_drop(s, info.key)) {
            return true;
        }
    }
    s->dropped = true;
    return false;
}

static void sink_removed(struct chunk_change *ch, int rc)
{
    struct sink_removal *x = container_of(ch, struct sink_removal, change);
    struct datanode_sink *s = x->sink;
    list_push_back(&s->idle, &x->node);
    s->removing--;
    bool bad = rc < 0 && rc != -ENOENT && rc != -EINVAL;
    s->removed_rc = bad && s->removed_rc == 0 ? rc : s->removed_rc;
    if (s->chain == NULL) {
        sink_release(s);
    } else if (s->removed_rc == 0 && s->removing <= REMOVALS_MAX / 2) {
        sink_next(s);
    } else if (s->removing == 0) {
        sink_refuse(s, s->removed_rc);
    }
}

/* As many as may be under way. None of them ends inside. */
static void sink_removes(struct datanode_sink *s, const struct proto_sync_begin_request *m)
{
    while (s->dead_at < m->dead.count && !list_empty(&s->idle)) {
        uint64_t data_id = m->dead.at[s->dead_at++];
        if (chunk_store_dead(s->worker->store, data_id)) {
            continue;
        }
        struct sink_removal *x = LIST_ENTRY(list_pop_front(&s->idle), struct sink_removal, node);
        x->change = (struct chunk_change){
            .done = sink_removed, .op = CHUNK_REMOVE_DATA, .key = {.data_id = data_id}};
        s->removing++;
        chunk_store_change(s->worker->store, &x->change);
    }
}

/* ---- What there is of the chain, as numbers ---- */

static bool sum_pending(const struct datanode_chain *c)
{
    struct chunk_key at = {0};
    struct chunk_info info = {0};
    int rc = -EAGAIN;
    for (unsigned i = 0; rc == -EAGAIN || (rc == 0 && info.chain != c->id); i++) {
        if (i == SUM_LOOKS_MAX) {
            return true; /* there may be one */
        }
        rc = chunk_store_next_pending(c->worker->store, &at, &info);
        at.index += rc == 0 ? 1U : 0U;
        at.data_id += rc == 0 && at.index == 0 ? 1U : 0U;
    }
    return rc != -ENOENT;
}

/* A sum has the committed contents: keys, identities, digests. What else a walk sees is what is
 * damaged, has a pending of its own, or is being changed by an update that began before this row.
 * What this row's updates do reaches both (section 9.5). */
bool datanode_resync_sum(const struct datanode_chain *c, struct chunk_sum *ret)
{
    struct datanode_worker *w = c->worker;
    struct chunk_store_info info;
    chunk_store_info(w->store, &info);
    if (!chunk_store_sum(w->store, c->id, ret) || w->failed || info.damaged_count > 0 ||
        c->recovering || (info.pending_count > 0 && sum_pending(c))) {
        return false;
    }
    LIST_FOR_EACH(at, &w->updates)
    {
        const struct datanode_update *u = LIST_ENTRY(at, struct datanode_update, node);
        if (u->chain == c && u->begun_epoch != 0 && u->begun_epoch != c->row.epoch) {
            return false;
        }
    }
    return true;
}

static void sink_next(struct datanode_sink *s)
{
    const struct proto_sync_begin_request *m = s->begin->body;
    if (sink_drops_pending(s)) {
        return;
    }
    sink_removes(s, m);
    if (s->removing > 0) {
        return;
    }
    struct chunk_sum sum;
    bool told = !m->more && !s->had_pending && datanode_resync_sum(s->chain, &sum);
    struct proto_sync_begin_reply reply = {.route = datanode_route_of(s->chain, m->route.attempt)};
    if (told) {
        reply.told = true;
        reply.count = sum.count;
        reply.digest = sum.digest;
        reply.mark = sum.mark;
    }
    struct peer_request *r = s->begin;
    s->begin = NULL;
    peer_request_answer(r, &reply, NULL);
}

/* What an update of an older row is just storing shows neither in the index nor as pending: it
 * would come to light behind the session. It ends soon, one way or the other. */
static bool sink_still_stores(const struct datanode_chain *c)
{
    bool found = false;
    LIST_FOR_EACH(at, &c->worker->updates)
    {
        const struct datanode_update *u = LIST_ENTRY(at, struct datanode_update, node);
        found = found || (u->chain == c && u->state == DATANODE_UPDATE_STORE &&
                          u->begun_epoch != c->row.epoch);
    }
    return found;
}

static void sink_init(struct datanode_sink *s, struct datanode_chain *c)
{
    s->worker = c->worker;
    s->chain = c;
    s->epoch = c->row.epoch;
    c->worker->sink_count++;
    list_init(&s->idle);
    for (unsigned i = 0; i < REMOVALS_MAX; i++) {
        s->removal[i].sink = s;
        list_push_back(&s->idle, &s->removal[i].node);
    }
}

void datanode_on_sync_begin(struct peer_user *user, struct peer_request *r)
{
    struct datanode_worker *w = datanode_worker_of(user);
    const struct proto_sync_begin_request *m = r->body;
    struct datanode_chain *c = NULL;
    int rc = sink_admit(w, r, &m->route, &c);
    if (rc == 0 && (datanode_discards(c) || sink_still_stores(c))) {
        rc = -ERR_busy; /* or the index would name what is just going */
    }
    if (rc == 0 && c->sink == NULL) {
        c->sink = mem_zalloc(sizeof *c->sink);
        rc = c->sink == NULL ? -ERR_busy : 0;
        if (rc == 0) {
            sink_init(c->sink, c);
        }
    }
    if (rc == 0 && (c->sink->begin != NULL || c->sink->changing || c->sink->removing > 0)) {
        rc = -ERR_busy; /* of an older attempt: soon over */
    }
    if (rc < 0) {
        datanode_refuse(r, rc, c);
        return;
    }
    c->sink->begin = r;
    c->sink->dead_at = 0;
    c->sink->removed_rc = 0;
    sink_next(c->sink);
}

/* ---- INDEX ---- */

static struct proto_index_entry index_entry(const struct chunk_info *info)
{
    bool bad = info->has_pending || (info->flags & CHUNK_DAMAGED) != 0;
    uint16_t flags = (uint16_t)(info->flags & ~CHUNK_DAMAGED);
    return (struct proto_index_entry){.chunk = datanode_key_wire(info->key),
                                      .identity = datanode_identity_wire(info->committed),
                                      .digest = info->digest,
                                      .chunk_flags =
                                          bad ? (uint16_t)(flags | CHUNK_DAMAGED) : flags};
}

static bool key_after(struct chunk_key *k)
{
    k->index++;
    k->data_id += k->index == 0 ? 1U : 0U;
    return k->index != 0 || k->data_id != 0;
}

static int index_collect(struct datanode_chain *c, const struct proto_index_request *m, size_t max,
                         struct proto_index_reply *reply)
{
    struct chunk_key at = datanode_key(m->first);
    struct chunk_key last = datanode_key(m->last);
    bool bounded = m->last.data_id != 0 || m->last.index != 0;
    struct chunk_info info;
    int rc = 0;
    reply->eof = true;
    for (unsigned looks = 0; rc == 0; looks++) {
        rc = chunk_store_next(c->worker->store, at, &info);
        if (rc == -ERR_need && looks > 0) { /* what was found so far is a page, too */
            reply->eof = false;
            reply->next = datanode_key_wire(at);
            return 0;
        }
        if (rc < 0 || (bounded && chunk_key_compare(info.key, last) > 0)) {
            break;
        }
        stats_count(&c->worker->counters.resync_looks, 1);
        if (looks >= INDEX_LOOKS_MAX || reply->entries.count >= max) {
            reply->eof = false;
            reply->next = datanode_key_wire(info.key);
            break;
        }
        if (info.chain == c->id) {
            reply->entries.at[reply->entries.count++] = index_entry(&info);
        }
        at = info.key;
        if (!key_after(&at)) {
            break;
        }
    }
    return rc == -ENOENT ? 0 : rc;
}

void datanode_on_index(struct peer_user *user, struct peer_request *r)
{
    struct datanode_worker *w = datanode_worker_of(user);
    const struct proto_index_request *m = r->body;
    struct datanode_chain *c = NULL;
    struct proto_index_reply reply = {0};
    size_t max = base_max(base_min(m->max_entries, INDEX_PAGE_MAX), 1);
    int rc = sink_admit(w, r, &m->route, &c);
    if (rc == 0 && c->sink == NULL) {
        rc = -ERR_not_serving;
    }
    if (rc == 0) {
        reply.entries.at = mem_arena_alloc(&r->arena, max * sizeof *reply.entries.at);
        rc = reply.entries.at == NULL ? -ERR_busy : 0;
    }
    rc = rc < 0 ? rc : index_collect(c, m, max, &reply);
    if (rc == -ERR_need) {
        datanode_request_ahead(w, r, datanode_key(m->first), datanode_on_index);
        return;
    }
    if (rc < 0) {
        datanode_refuse(r, rc, c);
        return;
    }
    reply.route = datanode_route_of(c, m->route.attempt);
    peer_request_answer(r, &reply, NULL);
}

/* ---- COPY: a whole content, installed by an update of its own ---- */

/* `spoilt`: its checksums are those of this content, its bytes are not; the source says so. */
static int copy_shape(const struct proto_copy_request *m, const struct slice *data, bool *spoilt)
{
    if (m->length > CHUNK_LENGTH_MAX || data->len != m->length ||
        m->recent.count > CHUNK_RECENT_MAX || (m->chunk_flags & ~CHUNK_FLAGS_ALL) != 0 ||
        (m->identity.aepoch == 0 && m->identity.ver == 0)) {
        return -ERR_bad_value;
    }
    if (m->crcs.count != chunk_cells(m->length) ||
        chunk_digest(m->length, m->crcs.at) != m->digest) {
        return -ERR_bad_data;
    }
    int rc = datanode_crc_check(0, data, &m->crcs);
    *spoilt = rc < 0 && (m->chunk_flags & CHUNK_DAMAGED) != 0;
    return *spoilt ? 0 : rc; /* what fits is good, whatever the source's disk has */
}

/* Answered without an update: rc 0 is "ok without effect". */
static void copy_end(struct datanode_update *u, int rc, bool locked)
{
    struct peer_request *r = u->request;
    struct datanode_chain *c = u->chain;
    struct datanode_item *it = u->item;
    const struct proto_copy_request *m = r->body;
    const struct proto_copy_reply reply = {.route = datanode_route_of(c, m->route.attempt)};
    u->request = NULL;
    u->item = NULL;
    datanode_update_free(u);
    if (rc < 0) {
        datanode_refuse(r, rc, c);
    } else {
        peer_request_answer(r, &reply, NULL);
    }
    if (locked) {
        datanode_item_unlock(it);
    }
    datanode_item_put(it);
}

static void copy_go(struct datanode_update *u)
{
    struct datanode_worker *w = u->worker;
    const struct proto_copy_request *m = u->request->body;
    struct datanode_chain *c = NULL;
    struct chunk_info info;
    int rc = datanode_request_dead(u->request) ? -ERR_cancelled : 0; /* R10 */
    rc = rc < 0 ? rc : sink_admit(w, u->request, &m->route, &c);
    rc = rc < 0 ? rc : datanode_lookup_locked(w, u->item->key, &info);
    if (rc == 0 && info.chain != 0 && info.chain != c->id) {
        rc = -ERR_bad_value;
    }
    if (rc < 0) {
        copy_end(u, rc, true);
        return;
    }
    const struct datanode_copy_view v = {.info = &info,
                                         .dead = datanode_removed(w, m->chunk.data_id),
                                         .touched = u->item->touched == c->row.epoch,
                                         .ver = m->identity.ver};
    bool good = (info.flags & CHUNK_DAMAGED) == 0 && !info.has_pending &&
                chunk_identity_equal(info.committed, u->identity);
    if (!datanode_copy_takes(&v) || (good && (u->flags & CHUNK_DAMAGED) != 0)) {
        copy_end(u, 0, true);
        return;
    }
    u->last_ver = base_max(m->last_ver, base_max(info.last_ver, m->identity.ver));
    stats_count(&w->counters.copies, 1);
    stats_count(&w->counters.copy_bytes, m->length);
    datanode_update_begin(u);
}

static void copy_granted(struct datanode_wait *wait)
{
    copy_go(container_of(wait, struct datanode_update, wait));
}

static struct datanode_update *copy_make(struct datanode_chain *c, struct peer_request *r,
                                         bool spoilt)
{
    const struct proto_copy_request *m = r->body;
    struct datanode_update *u = datanode_update_new(c, DATANODE_FROM_PREDECESSOR);
    if (u == NULL) {
        return NULL;
    }
    u->identity = datanode_identity(m->identity);
    u->kind = PROTO_WRITE_AT;
    u->whole = true;
    u->install = true;
    u->trailer = true; /* all of it is in this message */
    u->lane = DISK_COPYING;
    u->new_length = m->length;
    u->length = m->length;
    u->tgen = m->tgen;
    u->flags = (uint16_t)((m->chunk_flags & ~CHUNK_DAMAGED) | (spoilt ? CHUNK_DAMAGED : 0u));
    for (size_t i = 0; i < m->recent.count; i++) {
        const struct proto_recent *e = &m->recent.at[i];
        u->recent[i] = (struct chunk_recent){.client = e->client,
                                             .seq = e->seq,
                                             .ver = e->ver,
                                             .result = e->result,
                                             .time_ms = e->time_ms};
    }
    u->recent_count = (unsigned)m->recent.count;
    return datanode_update_take(u, &m->chunk, &m->crcs, &r->wire->data);
}

void datanode_on_copy(struct peer_user *user, struct peer_request *r)
{
    struct datanode_worker *w = datanode_worker_of(user);
    const struct proto_copy_request *m = r->body;
    struct datanode_chain *c = NULL;
    int rc = sink_admit(w, r, &m->route, &c);
    bool spoilt = false;
    if (rc == 0) {
        rc = c->sink == NULL ? -ERR_not_serving : copy_shape(m, &r->wire->data, &spoilt);
    }
    struct datanode_update *u = rc < 0 ? NULL : copy_make(c, r, spoilt);
    if (u == NULL) {
        datanode_refuse(r, rc < 0 ? rc : -ERR_busy, c);
        return;
    }
    u->request = r;
    u->wait.granted = copy_granted;
    rc = datanode_item_lock(u->item, &u->wait);
    if (rc > 0) {
        copy_go(u);
    } else if (rc < 0) {
        copy_end(u, rc, false);
    }
}

/* ---- DROP ---- */

struct drop_op {
    struct datanode_wait wait;
    struct datanode_item *item;
    struct datanode_chain *chain;
    struct peer_request *request;
    struct chunk_change change;
};

static void drop_over(struct drop_op *op, int rc, bool locked)
{
    struct datanode_item *it = op->item;
    const struct proto_drop_request *m = op->request->body;
    const struct proto_drop_reply reply = {.route = datanode_route_of(op->chain, m->route.attempt)};
    if (rc < 0) {
        datanode_refuse(op->request, rc, op->chain);
    } else {
        peer_request_answer(op->request, &reply, NULL);
    }
    it->worker->sink_count--;
    mem_free(op);
    if (locked) {
        datanode_item_unlock(it);
    }
    datanode_item_put(it);
}

static void drop_done(struct chunk_change *ch, int rc)
{
    struct drop_op *op = container_of(ch, struct drop_op, change);
    const struct proto_drop_request *m = op->request->body;
    bool stale = m->route.epoch != op->chain->row.epoch;
    drop_over(op, stale ? -ERR_stale_epoch : rc == -ENOENT ? 0 : rc, true);
}

static void drop_go(struct drop_op *op)
{
    struct datanode_worker *w = op->chain->worker;
    const struct proto_drop_request *m = op->request->body;
    struct datanode_chain *c = NULL;
    struct chunk_info info;
    int rc = datanode_request_dead(op->request) ? -ERR_cancelled : 0;
    rc = rc < 0 ? rc : sink_admit(w, op->request, &m->route, &c);
    rc = rc < 0 ? rc : datanode_lookup_locked(w, op->item->key, &info);
    bool foreign = rc == 0 && info.chain != c->id;
    if (rc < 0 || foreign || op->item->touched == c->row.epoch) {
        drop_over(op, rc, true);
        return;
    }
    op->change = (struct chunk_change){.done = drop_done, .op = CHUNK_DELETE, .key = op->item->key};
    chunk_store_change(w->store, &op->change);
}

static void drop_granted(struct datanode_wait *wait)
{
    drop_go(container_of(wait, struct drop_op, wait));
}

void datanode_on_drop(struct peer_user *user, struct peer_request *r)
{
    struct datanode_worker *w = datanode_worker_of(user);
    const struct proto_drop_request *m = r->body;
    struct datanode_chain *c = NULL;
    int rc = sink_admit(w, r, &m->route, &c);
    if (rc == 0 && c->sink == NULL) {
        rc = -ERR_not_serving;
    }
    struct drop_op *op = rc < 0 ? NULL : mem_zalloc(sizeof *op);
    if (op == NULL) {
        datanode_refuse(r, rc < 0 ? rc : -ERR_busy, c);
        return;
    }
    op->item = datanode_item_get(w, c, datanode_key(m->chunk));
    if (op->item == NULL) {
        mem_free(op);
        datanode_refuse(r, -ERR_busy, c);
        return;
    }
    w->sink_count++;
    op->chain = c;
    op->request = r;
    op->wait.granted = drop_granted;
    rc = datanode_item_lock(op->item, &op->wait);
    if (rc > 0) {
        drop_go(op);
    } else if (rc < 0) {
        drop_over(op, rc, false);
    }
}

/* ---- SYNC_END: all of it stable, then it is reported ---- */

struct end_op {
    struct datanode_worker *worker;
    struct datanode_chain *chain;
    struct peer_request *request;
    struct chunk_sync sync;
    struct datanode_hold_wait wait;
};

static void end_over(struct end_op *op, int rc)
{
    struct datanode_chain *c = op->chain;
    struct peer_request *r = op->request;
    const struct proto_sync_end_request *m = r->body;
    op->worker->sink_count--;
    mem_free(op);
    if (c->row.epoch != m->route.epoch) {
        datanode_refuse(r, -ERR_stale_epoch, c);
        return;
    }
    if (rc == -ENOMEM || err_is(rc, EAGAIN)) { /* that passes: it is asked again */
        datanode_refuse(r, -ERR_busy, c);
        return;
    }
    if (rc < 0) {
        datanode_chain_gone(c, "what was received cannot be made stable");
        datanode_refuse(r, -EIO, c);
        return;
    }
    if (c->report == PROTO_REPORT_GONE) { /* it has left meanwhile: something is missing here */
        datanode_refuse(r, -ERR_not_serving, c);
        return;
    }
    const struct proto_sync_end_reply reply = {.route = datanode_route_of(c, m->route.attempt)};
    c->report = PROTO_REPORT_SYNCED;
    c->synced_epoch = c->row.epoch;
    log_info(c->worker->env.log, "resync is done", LOG_U64("chain", c->id),
             LOG_U64("epoch", c->row.epoch), LOG_U64("same", m->same), LOG_U64("copied", m->copied),
             LOG_U64("dropped", m->dropped));
    datanode_report_resynced(c->worker, c->id, c->row.epoch, m);
    peer_request_answer(r, &reply, NULL);
    datanode_lossy_check(c->worker);
    datanode_control_report(c->worker);
}

/* Else a power cut right after would leave a copy that does not know that it is one. */
static void end_noted(struct datanode_hold_wait *wait)
{
    struct end_op *op = container_of(wait, struct end_op, wait);
    if (datanode_hold_stable(op->chain)) {
        end_over(op, 0);
    } else if (op->worker->holds.busy) { /* it came too late for the write before */
        datanode_hold_await(op->chain, wait);
    } else {
        end_over(op, -ERR_busy);
    }
}

static void end_synced(struct chunk_sync *s, int rc)
{
    struct end_op *op = container_of(s, struct end_op, sync);
    struct datanode_chain *c = op->chain;
    const struct proto_sync_end_request *m = op->request->body;
    if (rc < 0 || c->row.epoch != m->route.epoch) {
        end_over(op, rc);
        return;
    }
    c->held = true;
    datanode_hold_note(c);
    end_noted(&op->wait);
}

void datanode_on_sync_end(struct peer_user *user, struct peer_request *r)
{
    struct datanode_worker *w = datanode_worker_of(user);
    const struct proto_sync_end_request *m = r->body;
    struct datanode_chain *c = NULL;
    int rc = sink_admit(w, r, &m->route, &c);
    if (rc == 0 && c->sink == NULL) {
        rc = -ERR_not_serving;
    }
    struct end_op *op = rc < 0 ? NULL : mem_zalloc(sizeof *op);
    if (op == NULL) {
        datanode_refuse(r, rc < 0 ? rc : -ERR_busy, c);
        return;
    }
    w->sink_count++;
    *op = (struct end_op){.worker = w,
                          .chain = c,
                          .request = r,
                          .sync = {.done = end_synced, .scope = CHUNK_SYNC_ALL},
                          .wait.done = end_noted};
    chunk_store_sync(w->store, &op->sync);
}
