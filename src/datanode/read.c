/*
 * datanode/read.c -- READ at a serving member: section 7.
 *
 * A content is pinned, then the lease is looked at (R8), then the bytes go out, in one of the ways
 * of way.h. Where they have to come from the disk first, the lease is looked at when they are
 * there. Whole cells are sent, so that the client can verify them; nothing is verified here. A
 * chunk with a pending update shows neither the old content nor the pending one.
 */
#include "datanode/worker_priv.h"

#include "datanode/blocks.h"
#include "datanode/remove.h"
#include "datanode/repair.h"
#include "datanode/stream.h"

struct net_conn_response_pin { /* what must stay until the data was sent */
    struct datanode_reader reader;
    struct datanode_worker *worker;
    struct datanode_chain *chain;
    struct peer_request *request;
    struct datanode_ticket ticket;
    struct datanode_item *item; /* while it waits */
    struct loop_timer timer;
    struct chunk_pin pin;
    enum datanode_way way;
    struct disk_req io; /* of what is brought in, */
    uint32_t at;        /* from here on */
    struct datanode_stream *stream;
    struct chunk_read copy;
    struct buf *buf;
    uint64_t began_ns;
    bool pinned, queued;
    uint32_t crc[]; /* of the cells that are asked for */
};
#define read_op net_conn_response_pin /* its name in this file */

/* Where a pinned range lies. */
struct read_places {
    struct chunk_piece piece[CONN_RANGES];
    unsigned count;
    bool files, memory; /* all of it; holes count as in files */
};

static void read_go(struct read_op *op);

static void read_free(struct read_op *op)
{
    struct datanode_worker *w = op->worker;
    loop_timer_cancel(w->loop, &op->timer);
    datanode_stream_free(op->stream);
    if (op->pinned) {
        chunk_store_unpin(w->store, &op->pin);
    }
    buf_unref(op->buf);
    datanode_admit_end(w, &op->ticket);
    mem_free(op);
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

/* True: nobody waits for it any more, and it has ended without the disk having been asked. */
static bool read_too_late(struct read_op *op)
{
    if (!datanode_request_late(op->worker, op->request)) {
        return false;
    }
    stats_count(&op->worker->counters.read_late, 1);
    read_fail(op, -ERR_deadline);
    return true;
}

/* ---- The answer ---- */

static void read_sent(struct net_conn_response_pin *op, int rc)
{
    (void)rc;
    read_free(op);
}

static void read_count_way(struct read_op *op)
{
    struct datanode_way_counters *c = &op->worker->counters.way[op->way];
    stats_count(&c->requests, 1);
    stats_count(&c->bytes, op->pin.length);
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
    if (data) {
        read_count_way(op);
    }
    peer_request_answer(op->request, &m, data ? resp : NULL);
    if (!data) {
        read_free(op);
    }
}

/* All of it is in op->buf. */
static void read_answer_buf(struct read_op *op)
{
    struct net_conn_response resp = {
        .data = {{.buf = op->buf, .at = op->buf->at, .len = op->pin.length}}, .data_count = 1};
    read_answer(op, &resp);
}

static void read_answer_ranges(struct read_op *op, const struct read_places *p, uint64_t seen_ns)
{
    struct net_conn_range range[CONN_RANGES];
    struct net_conn_response resp = {.range = range, .range_count = p->count};
    for (unsigned i = 0; i < p->count; i++) {
        range[i] = (struct net_conn_range){.file = p->piece[i].file,
                                           .offset = p->piece[i].offset,
                                           .len = p->piece[i].len,
                                           .seen_ns = seen_ns};
    }
    read_answer(op, &resp);
}

static void read_answer_memory(struct read_op *op, const struct read_places *p)
{
    struct net_conn_response resp = {.data_count = p->count};
    for (unsigned i = 0; i < p->count; i++) {
        resp.data[i] = (struct slice){.at = p->piece[i].bytes, .len = p->piece[i].len};
    }
    op->way = DATANODE_WAY_CACHED;
    read_answer(op, &resp);
}

static void read_look(struct read_op *op, struct read_places *p)
{
    uint32_t end = op->pin.offset + op->pin.length;
    uint32_t to = chunk_pin_pieces(op->worker->store, &op->pin, op->pin.offset, p->piece,
                                   CONN_RANGES, &p->count);
    p->files = p->memory = to == end;
    for (unsigned i = 0; i < p->count; i++) {
        p->files = p->files && p->piece[i].bytes == NULL;
        p->memory = p->memory && p->piece[i].bytes != NULL;
    }
    p->memory = p->memory && p->count <= CONN_SLICES;
}

/* ---- By way of the store ---- */

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
    read_answer_buf(op);
}

/* Pieces of several kinds, or too many, or to be looked at: through memory. Also what another way
 * could not read: the store says what is wrong with it. */
static void read_copy(struct read_op *op)
{
    const struct proto_read_request *m = op->request->body;
    op->way = DATANODE_WAY_COPIED;
    if ((m->flags & PROTO_READ_CHECK) != 0) { /* its reader has seen bytes that do not fit */
        datanode_blocks_forget(op->worker->blocks, op->pin.key);
    }
    op->buf = op->buf != NULL ? op->buf : buf_get(op->worker->answer_pool, op->pin.length);
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

/* What a way gets that could not read. */
static void read_otherwise(struct read_op *op, int rc)
{
    if (rc == -ERR_busy || rc == -ENOMEM) {
        read_fail(op, -ERR_busy);
    } else {
        read_copy(op);
    }
}

/* ---- Brought in by the file engine ---- */

static void read_fetch_next(struct read_op *op);

static void read_fetched(struct disk_req *req, int64_t rc)
{
    struct read_op *op = container_of(req, struct read_op, io);
    if (rc < (int64_t)req->len) {
        read_otherwise(op, rc < 0 ? (int)rc : -ERR_short_msg);
        return;
    }
    op->at += (uint32_t)req->len;
    if (!read_too_late(op)) {
        read_fetch_next(op);
    }
}

/* Piece by piece: hardly ever is there more than one. True: the disk was asked. */
static bool read_fetch_piece(struct read_op *op)
{
    while (op->at - op->pin.offset < op->pin.length) {
        struct chunk_piece piece;
        unsigned count = 0;
        uint8_t *to = op->buf != NULL ? op->buf->at + (op->at - op->pin.offset) : NULL;
        chunk_pin_pieces(op->worker->store, &op->pin, op->at, &piece, 1, &count);
        CHECK(count == 1 && piece.bytes == NULL);
        if (piece.file != NULL) {
            op->io = (struct disk_req){.op = to != NULL ? DISK_READ : DISK_FETCH,
                                       .file = piece.file,
                                       .offset = piece.offset,
                                       .len = piece.len,
                                       .buf = to,
                                       .done = read_fetched};
            disk_submit(op->worker->env.disk, &op->io);
            return true;
        }
        if (to != NULL) {
            memset(to, 0, piece.len);
        }
        op->at += piece.len;
    }
    return false;
}

static void read_fetch_next(struct read_op *op)
{
    struct read_places p;
    if (read_fetch_piece(op)) {
        return;
    }
    if (op->buf != NULL) {
        read_answer_buf(op);
        return;
    }
    read_look(op, &p);
    read_answer_ranges(op, &p, 0);
}

static void read_fetch(struct read_op *op)
{
    op->way = DATANODE_WAY_FETCHED;
    op->at = op->pin.offset;
    if (op->buf == NULL && op->pin.length <= DATANODE_GATHER_BYTES) {
        op->buf =
            buf_get(op->worker->answer_pool, op->pin.length); /* NULL: by sendfile, afterwards */
    }
    read_fetch_next(op);
}

/* ---- Past the page cache ---- */

static void read_streamed(struct net_conn_response_pin *op, int rc)
{
    struct datanode_worker *w = op->worker;
    if (rc == 0) {
        struct net_conn_response resp = {0};
        resp.data_count = datanode_stream_parts(op->stream, resp.data);
        read_answer(op, &resp);
        return;
    }
    op->stream = datanode_stream_free(op->stream);
    if (rc == -EOPNOTSUPP) {
        w->stream_unable = true; /* no request asks for it again */
        stats_count(&w->counters.stream_unable, 1);
        read_fetch(op);
    } else {
        read_otherwise(op, rc);
    }
}
_Static_assert(DATANODE_STREAM_PARTS <= CONN_SLICES, "one answer takes all parts");

static void read_stream(struct read_op *op, const struct read_places *p)
{
    struct datanode_worker *w = op->worker;
    const struct datanode_stream_options opt = {.disk = w->env.disk,
                                                .pool = w->stream_pool,
                                                .blocks = w->blocks,
                                                .pin = &op->pin,
                                                .piece = p->piece,
                                                .count = p->count,
                                                .done = read_streamed,
                                                .reader = op};
    datanode_worker_lend(w);
    op->way = DATANODE_WAY_STREAMED;
    int rc = datanode_stream_start(&opt, &op->stream);
    if (rc < 0) {
        stats_count(&w->counters.stream_full, 1);
        read_fetch(op);
    } else if (rc > 0) {
        op->way = DATANODE_WAY_CACHED;
        read_streamed(op, 0);
    }
}

/* ---- Which way ---- */

/* Into op->buf, if all of it is in the page cache. */
static bool read_at_once(struct read_op *op, const struct read_places *p)
{
    uint8_t *to = op->buf->at;
    for (unsigned i = 0; i < p->count; i++) {
        const struct chunk_piece *x = &p->piece[i];
        struct disk_req req = {
            .op = DISK_READ, .file = x->file, .offset = x->offset, .len = x->len, .buf = to};
        if (x->file == NULL) {
            memset(to, 0, x->len);
        } else if (disk_try_read(op->worker->env.disk, &req) != (int64_t)x->len) {
            return false;
        }
        to += x->len;
    }
    return true;
}

static void read_small(struct read_op *op, const struct read_places *p)
{
    op->way = DATANODE_WAY_CACHED;
    op->buf = buf_get(op->worker->answer_pool, op->pin.length);
    if (op->buf == NULL) {
        read_answer_ranges(op, p, 0); /* the connection looks where they are */
    } else if (read_at_once(op, p)) {
        read_answer_buf(op);
    } else {
        read_fetch(op);
    }
}

static bool read_resident(const struct read_op *op, const struct read_places *p)
{
    for (unsigned i = 0; i < p->count; i++) {
        const struct chunk_piece *x = &p->piece[i];
        if (x->file != NULL && !disk_resident(op->worker->env.disk, x->file, x->offset, x->len)) {
            return false;
        }
    }
    return true;
}

static void read_large(struct read_op *op, const struct read_places *p)
{
    const struct proto_read_request *m = op->request->body;
    struct datanode_worker *w = op->worker;
    const struct datanode_way_view v = {.resident = read_resident(op, p),
                                        .stream = (m->flags & PROTO_READ_STREAM) != 0,
                                        .able = !w->stream_unable,
                                        .length = op->pin.length,
                                        .reads = datanode_way_reads(p->piece, p->count)};
    op->way = datanode_way_choose(&v);
    switch (op->way) {
    case DATANODE_WAY_CACHED:
        read_answer_ranges(op, p, loop_tick_ns(w->loop));
        break;
    case DATANODE_WAY_STREAMED:
        read_stream(op, p);
        break;
    case DATANODE_WAY_FETCHED:
    case DATANODE_WAY_COPIED:
    case DATANODE_WAYS:
        read_fetch(op);
        break;
    }
}

static void read_serve(struct read_op *op)
{
    const struct proto_read_request *m = op->request->body;
    struct net_conn_response none = {0};
    struct read_places p;
    if (op->pin.length == 0) {
        read_answer(op, &none);
        return;
    }
    read_look(op, &p);
    if ((m->flags & PROTO_READ_CHECK) != 0 || (!p.memory && !p.files)) {
        read_copy(op);
    } else if (p.memory) {
        read_answer_memory(op, &p);
    } else if (op->pin.length <= DATANODE_SMALL_BYTES) {
        read_small(op, &p);
    } else {
        read_large(op, &p);
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
    if (datanode_item_unsettled(w, &info)) { /* accepted while the pin waited */
        chunk_store_unpin(w->store, &op->pin);
        op->pinned = false;
        read_wait(op);
        return;
    }
    if (!read_too_late(op)) {
        read_serve(op);
    }
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
    if (read_too_late(op)) {
        return;
    }
    if (rc == 0 && datanode_item_unsettled(w, &info)) {
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
    bool known = rc == 0 && info.chain == op->chain->id;
    rc = chunk_store_pin(w->store, &op->pin);
    if (rc == -ERR_need) {
        chunk_store_pin_wait(w->store, &op->pin);
    } else if (rc == 0 && known) { /* nothing has happened since the record was looked at */
        op->pinned = true;
        read_serve(op);
    } else {
        read_pinned(&op->pin, rc);
    }
}

/* With room for the checksums of the cells it touches, which a short read has few of. */
static struct read_op *read_new(const struct proto_read_request *m)
{
    uint32_t cells = chunk_cells(m->offset + m->length) - m->offset / CHUNK_CELL;
    struct read_op *op = mem_alloc(sizeof *op + cells * sizeof op->crc[0]);
    if (op != NULL) {
        memset(op, 0, sizeof *op);
    }
    return op;
}

void datanode_on_read(struct peer_user *user, struct peer_request *r)
{
    struct datanode_worker *w = datanode_worker_of(user);
    const struct proto_read_request *m = r->body;
    struct datanode_chain *c = NULL;
    stats_count(&w->counters.reads, 1);
    w->used_ns = loop_tick_ns(w->loop);
    int rc = read_admit(w, r, &c);
    if (rc == 0) {
        rc = datanode_capability(w, r, &m->capability, m->chunk.data_id, PROTO_RIGHT_READ);
    }
    if (rc == 0 && (m->offset > CHUNK_LENGTH_MAX || m->length > CHUNK_LENGTH_MAX ||
                    m->offset + m->length > CHUNK_LENGTH_MAX)) {
        rc = -ERR_bad_value;
    }
    struct read_op *op = rc < 0 ? NULL : read_new(m);
    if (op == NULL) {
        datanode_refuse(r, rc < 0 ? rc : -ERR_busy, c);
        return;
    }
    rc = datanode_admit(w, r->link, m->length, &op->ticket);
    if (rc < 0) {
        mem_free(op);
        datanode_refuse(r, rc, c);
        return;
    }
    op->worker = w;
    op->chain = c;
    op->request = r;
    op->began_ns = loop_tick_ns(w->loop);
    op->pin.key = datanode_key(m->chunk);
    read_go(op);
}
