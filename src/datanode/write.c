/*
 * datanode/write.c -- WRITE at the head: section 6, steps 1 and 2. Checks in order (epoch, head and
 * lease, dead list, truncate generation, `recent`) once on arrival, as far as they need no record,
 * and all of them again under the chunk's lock; then the update gets its identity.
 */
#include "datanode/worker_priv.h"

#include "base/crc32c.h"
#include "datanode/cut.h"
#include "datanode/remove.h"
#include "datanode/sync.h"

int datanode_crc_check(uint32_t offset, const struct slice *data, const struct proto_u32s *crcs)
{
    size_t at = 0;
    size_t cell = 0;
    while (at < data->len) {
        size_t in_cell = CHUNK_CELL - (offset + at) % CHUNK_CELL;
        size_t len = base_min(in_cell, data->len - at);
        if (cell >= crcs->count || crc32c(0, data->at + at, len) != crcs->at[cell]) {
            return -ERR_bad_data;
        }
        at += len;
        cell++;
    }
    return cell == crcs->count ? 0 : -ERR_bad_data;
}

static int write_shape(const struct proto_write_request *m, const struct slice *data)
{
    if (m->length > CHUNK_LENGTH_MAX || m->client == 0 || m->seq == 0) {
        return -ERR_bad_value;
    }
    switch (m->kind) {
    case PROTO_WRITE_AT:
        if (m->offset > CHUNK_LENGTH_MAX - m->length) {
            return -ERR_bad_value;
        }
        return m->length == 0 || data->len != m->length ? -ERR_bad_value : 0;
    case PROTO_WRITE_APPEND:
        return m->length == 0 || data->len != m->length ? -ERR_bad_value : 0;
    case PROTO_WRITE_CLEAR:
        if (m->offset != 0 || m->length != 0) {
            return -ERR_bad_value;
        }
        return data->len != 0 || m->crcs.count != 0 ? -ERR_bad_value : 0;
    case PROTO_WRITE_SET_LENGTH:
        return data->len != 0 || m->crcs.count != 0 ? -ERR_bad_value : 0;
    default:
        return -ERR_bad_value;
    }
}

/* What can be said before the record is looked at. */
static int write_admit(struct datanode_worker *w, struct peer_request *r,
                       struct datanode_chain **ret)
{
    const struct proto_write_request *m = r->body;
    int rc = datanode_chain_route(w, &m->route, ret);
    if (rc == 0) {
        rc = datanode_chain_head_ready(*ret);
    }
    if (rc == 0 && r->link->role != PROTO_ROLE_META) {
        rc = datanode_capability(w, r, &m->capability, m->chunk.data_id, PROTO_RIGHT_WRITE);
        /* `recent` and fences go by its name: it writes in no other one. */
        rc = rc == 0 && m->client != m->capability.session ? -ERR_bad_capability : rc;
    }
    return rc;
}

static void write_end(struct datanode_update *u, int rc)
{
    struct peer_request *r = u->request;
    struct datanode_chain *c = u->chain;
    struct datanode_item *it = u->item;
    u->request = NULL;
    u->item = NULL;
    r->cancelled = NULL;
    datanode_update_free(u);
    stats_count(&c->worker->counters.refused, 1);
    datanode_refuse(r, rc, c);
    datanode_item_unlock(it);
    datanode_item_put(it);
}

static void write_again(struct datanode_update *u, const struct chunk_info *info,
                        const struct chunk_recent *entry)
{
    struct peer_request *r = u->request;
    struct datanode_chain *c = u->chain;
    struct datanode_item *it = u->item;
    uint64_t ver = entry == NULL ? info->committed.ver : entry->ver;
    const struct proto_write_reply m = {
        .route = datanode_route_of(c, 0),
        .identity = {.aepoch = ver == info->committed.ver ? info->committed.aepoch : 0, .ver = ver},
        .offset = entry == NULL ? 0 : entry->result,
        .length = info->length,
        .loss_gen = c->row.loss_gen};
    bool sync = u->sync;
    u->request = NULL;
    u->item = NULL;
    r->cancelled = NULL;
    datanode_update_free(u);
    stats_count(&c->worker->counters.again, 1);
    if (!datanode_chain_serves(c)) { /* R8, after the record was looked at */
        datanode_refuse(r, -ERR_not_serving, c);
    } else if (sync) {
        datanode_sync_then_answer(c, r, it->key, &m);
    } else {
        peer_request_answer(r, &m, NULL);
    }
    datanode_item_unlock(it);
    datanode_item_put(it);
}

/*
 * The cells of an append are cut as if it went to `offset` of the request, which is the client's
 * guess. They were verified so; where it really goes the cuts may lie elsewhere.
 */
static int write_realign(struct datanode_update *u, uint32_t guess)
{
    if (guess % CHUNK_CELL == u->offset % CHUNK_CELL) {
        return 0;
    }
    uint32_t first = u->offset / CHUNK_CELL;
    uint32_t count = chunk_cells(u->offset + u->length) - first;
    uint32_t *crc = mem_calloc(count, sizeof *crc);
    if (crc == NULL) {
        return -ENOMEM;
    }
    size_t at = 0;
    for (uint32_t cell = 0; cell < count; cell++) {
        size_t in_cell = CHUNK_CELL - (u->offset + at) % CHUNK_CELL;
        size_t len = base_min(in_cell, u->data.len - at);
        crc[cell] = crc32c(0, u->data.at + at, len);
        at += len;
    }
    mem_free(u->crc);
    u->crc = crc;
    u->crc_count = count;
    return 0;
}

/* The content that results, and who made it. */
static int write_plan(struct datanode_update *u, const struct chunk_info *info)
{
    const struct proto_write_request *m = u->request->body;
    struct datanode_worker *w = u->worker;
    uint64_t offset = m->kind == PROTO_WRITE_APPEND ? info->length : m->offset;
    bool cuts = u->kind == PROTO_WRITE_SET_LENGTH; /* CLEAR, too: to no length */
    if (!cuts && offset + m->length > CHUNK_LENGTH_MAX) {
        return -EFBIG;
    }
    u->offset = (uint32_t)offset;
    u->length = cuts ? 0 : m->length;
    u->new_length = cuts ? m->length : (uint32_t)base_max(info->length, offset + m->length);
    u->base = info->committed;
    u->identity = datanode_identity_next(info, u->chain->row.epoch);
    u->last_ver = u->identity.ver;
    u->tgen = (uint32_t)base_max(info->tgen, m->tgen);
    u->result = u->offset;
    u->change.entry = (struct chunk_recent){.client = u->client,
                                            .seq = u->seq,
                                            .ver = u->identity.ver,
                                            .result = u->result,
                                            .time_ms = datanode_leader_ms(w)};
    datanode_recent_plan(info, &u->change);
    int count = datanode_recent_apply(info, &u->change, u->recent, &u->flags);
    if (count < 0) {
        return count;
    }
    u->recent_count = (unsigned)count;
    return m->kind == PROTO_WRITE_APPEND ? write_realign(u, m->offset) : 0;
}

/* A damaged chunk takes only what needs none of its bytes; or is cut, when nobody has them. */
static bool write_heals(const struct datanode_update *u, const struct chunk_info *info)
{
    if (u->kind == PROTO_WRITE_SET_LENGTH) {
        return u->new_length == 0;
    }
    bool unknown = chunk_identity_none(info->committed); /* its length, too */
    return u->offset == 0 && u->length >= (unknown ? CHUNK_LENGTH_MAX : info->length);
}

static void write_go(struct datanode_update *u);

static void write_repaired(struct datanode_repair_wait *wait, int rc)
{
    struct datanode_update *u = container_of(wait, struct datanode_update, repair);
    u->repair_asked = true;
    u->repair_rc = rc;
    write_go(u); /* looks at everything again */
}

/* Section 10.3: else it is repaired first, and this write waits. 0: go on; 1: it waits. */
static int write_damaged(struct datanode_update *u, const struct chunk_info *info)
{
    if (write_heals(u, info)) {
        u->whole = true;
        return 0;
    }
    if (u->repair_asked && datanode_cut_may(u, info)) {
        if (u->cut_asked) {
            return datanode_cut_take(u, info);
        }
        return datanode_cut_begin(u, info, write_go) ? 1 : -ERR_busy;
    }
    if (u->repair_asked) {
        return u->repair_rc < 0 ? u->repair_rc : -ERR_busy;
    }
    u->repair.repaired = write_repaired;
    return datanode_repair_wait(u->chain, u->item, &u->repair) ? 1 : -ERR_busy;
}

/* Section 10.5: growth is refused early. */
static int write_check_space(const struct datanode_update *u, const struct chunk_info *info)
{
    return u->new_length > info->length && datanode_chain_low(u->chain) ? -ERR_no_space : 0;
}

/* Under the lock. 0: go on. 1: it is answered, or waits. */
static int write_decide(struct datanode_update *u)
{
    struct datanode_worker *w = u->worker;
    struct datanode_chain *c = NULL;
    struct peer_request *r = u->request;
    const struct proto_write_request *m = r->body;
    struct chunk_info info;
    struct chunk_recent entry;
    if (datanode_request_dead(r)) { /* R11: a newer attempt is or will be here */
        return -ERR_cancelled;
    }
    int rc = write_admit(w, r, &c);
    if (rc != 0) {
        return rc;
    }
    rc = datanode_lookup_locked(w, u->item->key, &info);
    if (rc != 0) {
        return rc;
    }
    if (info.chain != 0 && info.chain != c->id) {
        return -ERR_bad_value;
    }
    if (info.has_pending) { /* R12.4: found after a restart, on its way */
        return -ERR_busy;
    }
    const struct datanode_write_view v = {.info = &info,
                                          .dead = datanode_removed(w, m->chunk.data_id),
                                          .set_length = m->kind == PROTO_WRITE_SET_LENGTH,
                                          .retry = m->retry,
                                          .uncut = m->uncut,
                                          .tgen = m->tgen,
                                          .client = m->client,
                                          .seq = m->seq};
    rc = datanode_write_decide(&v, &entry);
    if (rc == DATANODE_WRITE_AGAIN || rc == DATANODE_WRITE_DONE) {
        write_again(u, &info, rc == DATANODE_WRITE_AGAIN ? &entry : NULL);
        return 1;
    }
    rc = rc < 0 ? rc : write_plan(u, &info);
    rc = rc < 0 ? rc : write_check_space(u, &info);
    return rc == 0 && (info.flags & CHUNK_DAMAGED) != 0 ? write_damaged(u, &info) : rc;
}

static void write_go(struct datanode_update *u)
{
    int rc = write_decide(u);
    if (rc < 0) {
        write_end(u, rc);
    } else if (rc == 0) {
        datanode_update_begin(u);
    }
}

static void write_granted(struct datanode_wait *wait)
{
    struct datanode_update *u = container_of(wait, struct datanode_update, wait);
    u->state = DATANODE_UPDATE_NEW;
    write_go(u);
}

static struct datanode_update *write_make(struct datanode_chain *c, struct peer_request *r)
{
    const struct proto_write_request *m = r->body;
    struct datanode_update *u = datanode_update_new(c, DATANODE_FROM_CLIENT);
    if (u == NULL) {
        return NULL;
    }
    u->kind = m->kind == PROTO_WRITE_APPEND  ? PROTO_WRITE_AT
              : m->kind == PROTO_WRITE_CLEAR ? PROTO_WRITE_SET_LENGTH
                                             : m->kind;
    u->client = m->client;
    u->seq = m->seq;
    u->sync = m->sync;
    return datanode_update_take(u, &m->chunk, &m->crcs, &r->wire->data);
}

void datanode_on_write(struct peer_user *user, struct peer_request *r)
{
    struct datanode_worker *w = datanode_worker_of(user);
    const struct proto_write_request *m = r->body;
    struct datanode_chain *c = NULL;
    stats_count(&w->counters.writes, 1);
    w->used_ns = loop_tick_ns(w->loop);
    stats_count(&w->counters.write_bytes, r->wire->data.len);
    int rc = write_shape(m, &r->wire->data);
    if (rc == 0) {
        rc = write_admit(w, r, &c);
    }
    if (rc == 0 && m->kind != PROTO_WRITE_SET_LENGTH) {
        rc = datanode_crc_check(m->offset, &r->wire->data, &m->crcs);
    }
    struct datanode_update *u = rc < 0 ? NULL : write_make(c, r);
    if (u == NULL) {
        stats_count(&w->counters.refused, 1);
        datanode_refuse(r, rc < 0 ? rc : -ERR_busy, c);
        return;
    }
    u->request = r;
    u->wait.granted = write_granted;
    rc = datanode_item_lock(u->item, &u->wait);
    if (rc > 0) {
        write_go(u);
    } else if (rc < 0) {
        u->request = NULL;
        datanode_update_free(u);
        datanode_refuse(r, rc, c);
    }
}
