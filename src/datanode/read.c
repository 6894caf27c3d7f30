/*
 * datanode/read.c -- READ and STAT at a serving member: section 7.
 *
 * A content is pinned, then the lease is looked at (R8), then the bytes go out: from files by
 * sendfile, from memory as they lie there. Whole cells are sent, so that the client can verify
 * them; nothing is verified here. A chunk with a pending update shows neither the old content nor
 * the pending one.
 */
#include "datanode/worker_priv.h"

#include "datanode/remove.h"
#include "datanode/repair.h"

#define STAT_BATCH 1024u
#define STAT_LOOKS 4096u

struct net_conn_response_pin { /* what must stay until the data was sent */
    struct datanode_reader reader;
    struct datanode_worker *worker;
    struct datanode_chain *chain;
    struct peer_request *request;
    struct datanode_item *item; /* while it waits */
    struct loop_timer timer;
    struct chunk_pin pin;
    struct chunk_read copy;
    struct buf *buf;
    uint64_t began_ns;
    bool pinned, queued;
    uint32_t crc[CHUNK_CELLS_MAX]; /* last: not cleared */
};
#define read_op net_conn_response_pin /* its name in this file */

static void read_go(struct read_op *op);

static void read_free(struct read_op *op)
{
    struct datanode_worker *w = op->worker;
    loop_timer_cancel(w->loop, &op->timer);
    if (op->pinned) {
        chunk_store_unpin(w->store, &op->pin);
    }
    buf_unref(op->buf);
    mem_free(op);
    w->read_count--;
}

static void read_fail(struct read_op *op, int rc)
{
    datanode_refuse(op->request, rc, op->chain);
    read_free(op);
}

static int read_admit(struct datanode_worker *w, const struct peer_request *r,
                      struct datanode_chain **ret)
{
    const struct proto_read_request *m = r->body;
    int rc = datanode_chain_route(w, &m->route, ret);
    if (rc < 0) {
        return rc;
    }
    return datanode_chain_serves(*ret) ? 0 : -ERR_not_serving;
}

/* ---- The answer ---- */

static void read_sent(struct net_conn_response_pin *op, int rc)
{
    (void)rc;
    read_free(op);
}

static void read_answer(struct read_op *op, struct net_conn_response *resp)
{
    struct datanode_worker *w = op->worker;
    if (op->pin.crc_count > 0) {
        memcpy(op->crc, op->pin.crc, op->pin.crc_count * sizeof op->crc[0]);
    }
    if (!datanode_chain_serves(op->chain)) { /* R8, with the data in hand */
        read_fail(op, -ERR_not_serving);
        return;
    }
    const struct proto_read_reply m = {.route = datanode_route_of(op->chain, 0),
                                       .identity = datanode_identity_wire(op->pin.identity),
                                       .length = op->pin.chunk_length,
                                       .offset = op->pin.offset,
                                       .crcs = {.at = op->crc, .count = op->pin.crc_count}};
    stats_count(&w->counters.read_bytes, op->pin.length);
    stats_sample(&w->counters.read_time, loop_now_ns(w->loop) - op->began_ns);
    resp->sent = read_sent;
    resp->pin = op;
    bool data = resp->data_count > 0 || resp->range_count > 0;
    peer_request_answer(op->request, &m, data ? resp : NULL);
    if (!data) {
        read_free(op);
    }
}

static void read_copied(struct chunk_read *c, int rc)
{
    struct read_op *op = container_of(c, struct read_op, copy);
    if (rc < 0) { /* flagged by then, and its repair is on its way: datanode/worker.c */
        read_fail(op, err_is(rc, EIO) ? -ERR_corrupt : rc);
        return;
    }
    if (!chunk_identity_equal(c->pin.identity, op->pin.identity)) {
        read_fail(op, -ERR_pending); /* replaced in between */
        return;
    }
    struct net_conn_response resp = {
        .data = {{.buf = op->buf, .at = op->buf->at, .len = op->pin.length}}, .data_count = 1};
    stats_count(&op->worker->counters.read_copied, 1);
    read_answer(op, &resp);
}

/* Pieces of several kinds, or too many, or to be looked at: through memory. */
static void read_copy(struct read_op *op)
{
    const struct proto_read_request *m = op->request->body;
    op->buf = buf_get(op->worker->pool, op->pin.length);
    if (op->buf == NULL) {
        read_fail(op, -ERR_busy);
        return;
    }
    op->copy = (struct chunk_read){.done = read_copied,
                                   .pin = {.key = op->pin.key,
                                           .which = CHUNK_COMMITTED,
                                           .offset = op->pin.offset,
                                           .length = op->pin.length},
                                   .verify = (m->flags & PROTO_READ_CHECK) != 0,
                                   .to = op->buf->at};
    chunk_store_read(op->worker->store, &op->copy);
}

static void read_pieces(struct read_op *op)
{
    struct datanode_worker *w = op->worker;
    const struct proto_read_request *m = op->request->body;
    struct chunk_piece piece[CONN_RANGES];
    struct net_conn_range range[CONN_RANGES];
    struct net_conn_response resp = {.range = range};
    unsigned count = 0;
    uint32_t end = op->pin.offset + op->pin.length;
    if (op->pin.length == 0) {
        read_answer(op, &resp);
        return;
    }
    if ((m->flags & PROTO_READ_CHECK) != 0) {
        read_copy(op);
        return;
    }
    uint32_t to = chunk_pin_pieces(w->store, &op->pin, op->pin.offset, piece, CONN_RANGES, &count);
    unsigned files = 0;
    unsigned bytes = 0;
    for (unsigned i = 0; i < count; i++) {
        files += piece[i].file != NULL ? 1U : 0U;
        bytes += piece[i].bytes != NULL ? 1U : 0U;
        range[i] = (struct net_conn_range){
            .file = piece[i].file, .offset = piece[i].offset, .len = piece[i].len};
    }
    if (to == end && files == count) {
        resp.range_count = count;
        stats_count(&w->counters.read_file, 1);
        read_answer(op, &resp);
    } else if (to == end && bytes == count && count <= CONN_SLICES) {
        for (unsigned i = 0; i < count; i++) {
            resp.data[i] = (struct slice){.at = piece[i].bytes, .len = piece[i].len};
        }
        resp.data_count = count;
        stats_count(&w->counters.read_memory, 1);
        read_answer(op, &resp);
    } else {
        read_copy(op);
    }
}

/* ---- Waiting for a commit ---- */

static void read_stop_waiting(struct read_op *op)
{
    struct datanode_item *it = op->item;
    if (op->queued) {
        datanode_item_unwait_read(it, &op->reader);
        op->queued = false;
    }
    op->item = NULL;
    datanode_item_put(it);
}

static void read_waited(struct loop_timer *t)
{
    struct read_op *op = container_of(t, struct read_op, timer);
    read_stop_waiting(op);
    read_fail(op, -ERR_pending);
}

static void read_settled(struct datanode_reader *r)
{
    struct read_op *op = container_of(r, struct read_op, reader);
    op->queued = false;
    loop_timer_cancel(op->worker->loop, &op->timer);
    read_stop_waiting(op);
    read_go(op);
}

static void read_wait(struct read_op *op)
{
    const struct proto_read_request *m = op->request->body;
    struct datanode_worker *w = op->worker;
    struct datanode_item *it = datanode_item_get(w, op->chain, op->pin.key);
    op->reader.settled = read_settled;
    int rc = it == NULL ? -ERR_busy : datanode_item_wait_read(it, &op->reader);
    if (rc < 0) {
        if (it != NULL) {
            datanode_item_put(it);
        }
        read_fail(op, rc);
        return;
    }
    uint64_t wait_ms = m->wait_ms == 0 ? DATANODE_WAIT_MS : m->wait_ms;
    op->item = it;
    op->queued = true;
    op->timer.fire = read_waited;
    stats_count(&w->counters.read_waits, 1);
    loop_timer_in(w->loop, &op->timer, base_min(wait_ms, DATANODE_WAIT_MAX_MS) * NS_PER_MS);
}

/* I5: is there an update that this read may not pass? */
static bool read_marked(const struct read_op *op, const struct chunk_info *info)
{
    const struct datanode_item *it = datanode_item_find(op->worker, op->pin.key);
    return (it != NULL && it->marked) || info->has_pending;
}

/* ---- One read ---- */

static void read_pinned(struct chunk_pin *pin, int rc)
{
    struct read_op *op = container_of(pin, struct read_op, pin);
    struct datanode_worker *w = op->worker;
    struct chunk_info info;
    op->pinned = rc == 0;
    if (rc == -ENOENT) {
        struct net_conn_response none = {0};
        op->pin.length = 0;
        read_answer(op, &none);
        return;
    }
    if (err_is(rc, EIO)) {
        stats_count(&w->counters.corrupt, 1);
        datanode_repair_key(op->chain, op->pin.key);
        read_fail(op, -ERR_corrupt);
        return;
    }
    if (rc < 0) {
        read_fail(op, rc);
        return;
    }
    rc = datanode_lookup(w, op->pin.key, &info);
    if (rc < 0 || info.chain != op->chain->id) {
        read_fail(op, rc < 0 ? rc : -ERR_bad_value);
        return;
    }
    if (read_marked(op, &info)) { /* accepted while the pin waited */
        chunk_store_unpin(w->store, &op->pin);
        op->pinned = false;
        read_wait(op);
        return;
    }
    read_pieces(op);
}

static void read_go(struct read_op *op)
{
    struct datanode_worker *w = op->worker;
    const struct proto_read_request *m = op->request->body;
    struct chunk_info info;
    int rc = read_admit(w, op->request, &op->chain);
    if (rc == 0 && datanode_removed(w, m->chunk.data_id)) {
        rc = -ERR_gone;
    }
    if (rc == 0) {
        rc = datanode_lookup(w, op->pin.key, &info);
    }
    if (rc < 0 && rc != -ERR_need) {
        read_fail(op, rc);
        return;
    }
    if (rc == 0 && read_marked(op, &info)) {
        read_wait(op);
        return;
    }
    struct chunk_key key = op->pin.key;
    uint32_t from = m->offset - m->offset % CHUNK_CELL;
    uint64_t to = base_align_up((uint64_t)m->offset + m->length, CHUNK_CELL);
    op->pin = (struct chunk_pin){.done = read_pinned,
                                 .key = key,
                                 .which = CHUNK_COMMITTED,
                                 .offset = from,
                                 .length = (uint32_t)(to - from)};
    rc = chunk_store_pin(w->store, &op->pin);
    if (rc == -ERR_need) {
        chunk_store_pin_wait(w->store, &op->pin);
    } else {
        read_pinned(&op->pin, rc);
    }
}

void datanode_on_read(struct peer_user *user, struct peer_request *r)
{
    struct datanode_worker *w = datanode_worker_of(user);
    const struct proto_read_request *m = r->body;
    struct datanode_chain *c = NULL;
    stats_count(&w->counters.reads, 1);
    int rc = read_admit(w, r, &c);
    if (rc == 0) {
        rc = datanode_capability(w, r, &m->capability, m->chunk.data_id, PROTO_RIGHT_READ);
    }
    if (rc == 0 && (m->offset > CHUNK_LENGTH_MAX || m->length > CHUNK_LENGTH_MAX ||
                    m->offset + m->length > CHUNK_LENGTH_MAX)) {
        rc = -ERR_bad_value;
    }
    if (rc == 0 && w->read_count >= DATANODE_READS_MAX) {
        rc = -ERR_busy;
    }
    struct read_op *op = rc < 0 ? NULL : mem_alloc(sizeof *op);
    if (op == NULL) {
        datanode_refuse(r, rc < 0 ? rc : -ERR_busy, c);
        return;
    }
    memset(op, 0, offsetof(struct read_op, crc));
    w->read_count++;
    op->worker = w;
    op->chain = c;
    op->request = r;
    op->began_ns = loop_tick_ns(w->loop);
    op->pin.key = datanode_key(m->chunk);
    read_go(op);
}

/* ---- STAT ---- */

/* I1: what is pending may be shown elsewhere already; then the client asks there. */
static int stat_collect(struct datanode_chain *c, const struct proto_stat_request *m,
                        struct proto_chunk_stat *stat, struct proto_stat_reply *reply)
{
    struct datanode_worker *w = c->worker;
    struct chunk_key at = {.data_id = m->data_id, .index = m->first_index};
    uint64_t last = (uint64_t)m->first_index + base_min(m->count, STAT_BATCH);
    struct chunk_info info;
    reply->chunks.at = stat;
    for (unsigned looks = 0; looks < STAT_LOOKS; looks++) {
        int rc = chunk_store_next(w->store, at, &info);
        if (rc < 0 || info.key.data_id != m->data_id || info.key.index >= last) {
            break;
        }
        const struct datanode_item *it = datanode_item_find(w, info.key);
        if (info.chain == c->id && (info.has_pending || (it != NULL && it->marked))) {
            return -ERR_pending;
        }
        if (info.chain == c->id && !chunk_identity_none(info.committed)) {
            stat[reply->chunks.count++] =
                (struct proto_chunk_stat){.index = info.key.index,
                                          .identity = datanode_identity_wire(info.committed),
                                          .length = info.length,
                                          .allocated = info.allocated_bytes,
                                          .chunk_flags = info.flags};
        }
        if (info.key.index == UINT32_MAX) {
            break;
        }
        at.index = info.key.index + 1;
    }
    reply->more = m->count > STAT_BATCH && last <= UINT32_MAX;
    reply->next_index = (uint32_t)base_min(last, UINT32_MAX);
    return 0;
}

void datanode_on_stat(struct peer_user *user, struct peer_request *r)
{
    struct datanode_worker *w = datanode_worker_of(user);
    const struct proto_stat_request *m = r->body;
    struct datanode_chain *c = NULL;
    struct proto_stat_reply reply = {0};
    struct proto_chunk_stat *stat = NULL;
    int rc = datanode_chain_route(w, &m->route, &c);
    if (rc == 0 && !datanode_chain_serves(c)) {
        rc = -ERR_not_serving;
    }
    if (rc == 0 && r->link->role != PROTO_ROLE_META) {
        rc = datanode_capability(w, r, &m->capability, m->data_id, 0);
    }
    if (rc == 0 && chunk_store_dead(w->store, m->data_id)) {
        rc = -ERR_gone;
    }
    if (rc == 0) {
        stat = mem_arena_alloc(&r->arena, STAT_BATCH * sizeof *stat);
        rc = stat == NULL ? -ERR_busy : stat_collect(c, m, stat, &reply);
    }
    if (rc == 0 && !datanode_chain_serves(c)) { /* R8: with the answer in hand */
        rc = -ERR_not_serving;
    }
    if (rc < 0) {
        datanode_refuse(r, rc, c);
        return;
    }
    reply.route = datanode_route_of(c, 0);
    peer_request_answer(r, &reply, NULL);
}
