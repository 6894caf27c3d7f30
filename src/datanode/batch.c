/*
 * datanode/batch.c -- READ_BATCH: several small reads in one request, answered by one gathered
 * send.
 *
 * Each item is a READ of its own (section 7) with its own outcome: pinned, the bytes put into one
 * buffer, the lease looked at when all of them are there (R8). None waits for a commit, and what
 * the disk could not give is "busy": a READ by itself finds out what is wrong.
 */
#include "datanode/worker_priv.h"

#include "datanode/remove.h"
#include "datanode/repair.h"

struct batch_op;
struct batch_item {
    struct batch_op *op;
    const struct proto_read_item *asked;
    struct datanode_chain *chain;
    struct chunk_pin pin;
    struct disk_req io;
    uint32_t place; /* in op->buf */
    uint32_t done;  /* bytes that are there */
    enum datanode_way way;
    bool pinned;
    int rc;
};

struct net_conn_response_pin { /* what must stay until the data was sent */
    struct datanode_worker *worker;
    struct peer_request *request;
    struct datanode_ticket ticket;
    struct proto_read_result *result; /* in the request's arena, as is the room for CRCs */
    uint32_t *crc;
    struct buf *buf;
    uint32_t bytes;
    uint64_t began_ns;
    unsigned left; /* items that are waited for, and one for who begins them */
    unsigned count;
};
struct batch_op {
    struct net_conn_response_pin pub;
    struct batch_item item[];
};

static struct chunk_key batch_key(const struct batch_item *it)
{
    return datanode_key(it->asked->chunk);
}

static void batch_unpin(struct batch_item *it)
{
    if (it->pinned) {
        chunk_store_unpin(it->op->pub.worker->store, &it->pin);
        it->pinned = false;
    }
}

static void batch_free(struct batch_op *op)
{
    struct datanode_worker *w = op->pub.worker;
    for (unsigned i = 0; i < op->pub.count; i++) {
        batch_unpin(&op->item[i]);
    }
    buf_unref(op->pub.buf);
    datanode_admit_end(w, &op->pub.ticket);
    mem_free(op);
}

static void batch_fail(struct batch_op *op, int rc)
{
    datanode_refuse(op->pub.request, rc, NULL);
    batch_free(op);
}

/* ---- The answer ---- */

static void batch_sent(struct net_conn_response_pin *pin, int rc)
{
    (void)rc;
    batch_free(container_of(pin, struct batch_op, pub));
}

/* `at`: how many bytes come before it; those of items that have failed are left out. */
static uint32_t batch_result(struct batch_item *it, struct proto_read_result *r, uint32_t *crc,
                             uint32_t at)
{
    struct batch_op *op = it->op;
    struct datanode_worker *w = op->pub.worker;
    if (it->rc == 0 && !datanode_chain_serves(it->chain)) { /* R8, with the data in hand */
        it->rc = -ERR_not_serving;
    }
    *r = (struct proto_read_result){.rc = it->rc};
    if (it->rc < 0 || !it->pinned) {
        return 0;
    }
    const struct chunk_pin *p = &it->pin;
    r->identity = datanode_identity_wire(p->identity);
    r->length = p->chunk_length;
    r->offset = p->offset;
    r->bytes = p->length;
    r->crcs = (struct proto_u32s){.at = crc, .count = p->crc_count};
    if (p->length > 0) {
        memcpy(crc, p->crc, p->crc_count * sizeof *crc);
        memmove(op->pub.buf->at + at, op->pub.buf->at + it->place, p->length);
        stats_count(&w->counters.way[it->way].requests, 1);
        stats_count(&w->counters.way[it->way].bytes, p->length);
    }
    return p->length;
}

static void batch_answer(struct batch_op *op)
{
    struct net_conn_response_pin *b = &op->pub;
    struct datanode_worker *w = b->worker;
    struct proto_read_batch_reply m = {.results = {.at = b->result, .count = b->count}};
    uint32_t bytes = 0;
    for (unsigned i = 0; i < b->count; i++) {
        size_t crcs = (size_t)i * PROTO_BATCH_CELLS;
        bytes += batch_result(&op->item[i], &b->result[i], b->crc + crcs, bytes);
        batch_unpin(&op->item[i]);
    }
    stats_count(&w->counters.read_bytes, bytes);
    stats_sample(&w->counters.read_time, loop_now_ns(w->loop) - b->began_ns);
    if (bytes == 0) {
        peer_request_answer(b->request, &m, NULL);
        batch_free(op);
        return;
    }
    const struct net_conn_response resp = {
        .data = {{.buf = b->buf, .at = b->buf->at, .len = bytes}},
        .data_count = 1,
        .sent = batch_sent,
        .pin = b};
    peer_request_answer(b->request, &m, &resp);
}

/* ---- The bytes ---- */

static bool batch_item_next(struct batch_item *it);

static void batch_one_read(struct batch_op *op)
{
    CHECK(op->pub.left > 0);
    if (--op->pub.left == 0) {
        batch_answer(op);
    }
}

static void batch_item_read(struct disk_req *req, int64_t rc)
{
    struct batch_item *it = container_of(req, struct batch_item, io);
    if (rc < (int64_t)req->len) {
        it->rc = -ERR_busy;
    } else {
        it->done += (uint32_t)req->len;
    }
    if (it->rc < 0 || !batch_item_next(it)) {
        batch_one_read(it->op);
    }
}

/* True: the disk was asked, for one piece. */
static bool batch_item_next(struct batch_item *it)
{
    struct datanode_worker *w = it->op->pub.worker;
    while (it->done < it->pin.length) {
        struct chunk_piece piece;
        unsigned count = 0;
        uint8_t *to = it->op->pub.buf->at + it->place + it->done;
        chunk_pin_pieces(w->store, &it->pin, it->pin.offset + it->done, &piece, 1, &count);
        CHECK(count == 1);
        it->io = (struct disk_req){.op = DISK_READ,
                                   .file = piece.file,
                                   .offset = piece.offset,
                                   .len = piece.len,
                                   .buf = to,
                                   .done = batch_item_read};
        if (piece.file != NULL && disk_try_read(w->env.disk, &it->io) != (int64_t)piece.len) {
            it->way = DATANODE_WAY_FETCHED;
            disk_submit(w->env.disk, &it->io);
            return true;
        }
        if (piece.bytes != NULL) {
            memcpy(to, piece.bytes, piece.len);
        } else if (piece.file == NULL) {
            memset(to, 0, piece.len);
        }
        it->done += piece.len;
    }
    return false;
}

static void batch_read(struct batch_op *op)
{
    struct net_conn_response_pin *b = &op->pub;
    struct datanode_worker *w = b->worker;
    if (datanode_request_late(w, b->request)) {
        stats_count(&w->counters.read_late, 1);
        batch_fail(op, -ERR_deadline);
        return;
    }
    for (unsigned i = 0; i < b->count; i++) {
        op->item[i].place = b->bytes;
        b->bytes += op->item[i].pinned ? op->item[i].pin.length : 0;
    }
    b->buf = b->bytes == 0 ? NULL : buf_get(w->answer_pool, b->bytes);
    if (b->bytes > 0 && b->buf == NULL) {
        batch_fail(op, -ERR_busy);
        return;
    }
    b->left = 1;
    for (unsigned i = 0; i < b->count; i++) {
        struct batch_item *it = &op->item[i];
        if (it->pinned && batch_item_next(it)) {
            b->left++;
        }
    }
    batch_one_read(op);
}

/* ---- Pins ---- */

static void batch_one_pinned(struct batch_op *op)
{
    CHECK(op->pub.left > 0);
    if (--op->pub.left == 0) {
        batch_read(op);
    }
}

/* What a pin has said: 0, or the outcome of this item. A chunk that is not there is a hole. */
static int batch_pinned(struct batch_item *it, int rc)
{
    struct datanode_worker *w = it->op->pub.worker;
    struct chunk_info info;
    if (rc == -ENOENT) {
        return 0;
    }
    if (err_is(rc, EIO)) {
        stats_count(&w->counters.corrupt, 1);
        datanode_repair_key(it->chain, batch_key(it));
        return -ERR_corrupt;
    }
    if (rc < 0) {
        return rc;
    }
    it->pinned = true;
    rc = datanode_lookup(w, batch_key(it), &info);
    if (rc == 0 && info.chain != it->chain->id) {
        rc = -ERR_bad_value;
    }
    if (rc == 0 && datanode_item_unsettled(w, &info)) {
        rc = -ERR_pending;
    }
    if (rc < 0) {
        batch_unpin(it);
    }
    return rc;
}

static void batch_pin_done(struct chunk_pin *pin, int rc)
{
    struct batch_item *it = container_of(pin, struct batch_item, pin);
    it->rc = batch_pinned(it, rc);
    batch_one_pinned(it->op);
}

static int batch_item_admit(struct batch_item *it)
{
    struct datanode_worker *w = it->op->pub.worker;
    const struct peer_request *r = it->op->pub.request;
    const struct proto_read_batch_request *m = r->body;
    struct chunk_info info;
    int rc = datanode_chain_route(w, &it->asked->route, &it->chain);
    if (rc == 0 && !datanode_chain_serves(it->chain)) {
        rc = -ERR_not_serving;
    }
    if (rc == 0) {
        rc = datanode_capability(w, r, &m->capabilities.at[it->asked->capability],
                                 it->asked->chunk.data_id, PROTO_RIGHT_READ);
    }
    if (rc == 0 && datanode_removed(w, it->asked->chunk.data_id)) {
        rc = -ERR_gone;
    }
    if (rc == 0) {
        rc = datanode_lookup(w, batch_key(it), &info);
        rc = rc == 0 && datanode_item_unsettled(w, &info) ? -ERR_pending : rc;
    }
    return rc == -ERR_need ? 0 : rc;
}

static void batch_item_begin(struct batch_item *it)
{
    const struct proto_read_item *m = it->asked;
    uint32_t from = (uint32_t)base_align_down(m->offset, CHUNK_CELL);
    uint64_t to = base_align_up((uint64_t)m->offset + m->length, CHUNK_CELL);
    it->way = DATANODE_WAY_CACHED;
    it->rc = batch_item_admit(it);
    if (it->rc < 0) {
        return;
    }
    it->pin = (struct chunk_pin){.done = batch_pin_done,
                                 .key = batch_key(it),
                                 .which = CHUNK_COMMITTED,
                                 .offset = from,
                                 .length = (uint32_t)(to - from)};
    int rc = chunk_store_pin(it->op->pub.worker->store, &it->pin);
    if (rc == -ERR_need) {
        it->op->pub.left++;
        chunk_store_pin_wait(it->op->pub.worker->store, &it->pin);
    } else {
        it->rc = batch_pinned(it, rc);
    }
}

/* ---- The request ---- */

static int batch_check(const struct proto_read_batch_request *m, uint64_t *ret_bytes)
{
    uint64_t cells = 0;
    *ret_bytes = 0;
    for (size_t i = 0; i < m->items.count; i++) {
        const struct proto_read_item *x = &m->items.at[i];
        uint64_t end = (uint64_t)x->offset + x->length;
        if (x->capability >= m->capabilities.count || end > CHUNK_LENGTH_MAX) {
            return -ERR_bad_value;
        }
        uint64_t own = base_align_up(end, CHUNK_CELL) / CHUNK_CELL - x->offset / CHUNK_CELL;
        cells += own;
        *ret_bytes += x->length;
        if (own > PROTO_BATCH_CELLS || cells > PROTO_BATCH_CELLS_ALL) {
            return -ERR_bad_value;
        }
    }
    return m->items.count == 0 ? -ERR_bad_value : 0;
}

static struct batch_op *batch_new(struct datanode_worker *w, struct peer_request *r)
{
    const struct proto_read_batch_request *m = r->body;
    size_t count = m->items.count;
    struct batch_op *op = mem_zalloc(sizeof *op + count * sizeof op->item[0]);
    if (op == NULL) {
        return NULL;
    }
    op->pub.worker = w;
    op->pub.request = r;
    op->pub.count = (unsigned)count;
    op->pub.began_ns = loop_tick_ns(w->loop);
    op->pub.result = mem_arena_alloc(&r->arena, count * sizeof *op->pub.result);
    op->pub.crc = mem_arena_alloc(&r->arena, count * PROTO_BATCH_CELLS * sizeof *op->pub.crc);
    if (op->pub.result == NULL || op->pub.crc == NULL) {
        mem_free(op);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        op->item[i].op = op;
        op->item[i].asked = &m->items.at[i];
    }
    return op;
}

void datanode_on_read_batch(struct peer_user *user, struct peer_request *r)
{
    struct datanode_worker *w = datanode_worker_of(user);
    const struct proto_read_batch_request *m = r->body;
    uint64_t bytes = 0;
    int rc = batch_check(m, &bytes);
    stats_count(&w->counters.batches, 1);
    w->used_ns = loop_tick_ns(w->loop);
    if (rc < 0) {
        datanode_refuse(r, rc, NULL);
        return;
    }
    stats_count(&w->counters.batch_items, m->items.count);
    stats_count(&w->counters.reads, m->items.count);
    struct batch_op *op = batch_new(w, r);
    rc = op == NULL ? -ERR_busy : datanode_admit(w, r->link, bytes, &op->pub.ticket);
    if (rc < 0) {
        mem_free(op);
        datanode_refuse(r, rc, NULL);
        return;
    }
    op->pub.left = 1;
    for (unsigned i = 0; i < op->pub.count; i++) {
        batch_item_begin(&op->item[i]);
    }
    batch_one_pinned(op);
}
