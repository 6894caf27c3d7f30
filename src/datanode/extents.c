/*
 * datanode/extents.c -- EXTENTS at a serving member: where a chunk has bytes. Zeros that nobody
 * wrote, and cells that were written as zeros, lie nowhere in a store: all else is told as bytes.
 * As with READ the content is pinned, then the lease is looked at (R8).
 */
#include "datanode/remove.h"
#include "datanode/worker_priv.h"

#define EXTENT_PIECES 16u

struct extents_op {
    struct datanode_worker *worker;
    struct datanode_chain *chain;
    struct peer_request *request;
    struct chunk_pin pin;
    uint32_t run[PROTO_CELLS_MAX];
};

_Static_assert(PROTO_CELLS_MAX >= CHUNK_CELLS_MAX, "every other cell at worst, two numbers each");

static void extents_end(struct extents_op *op, int rc, const struct proto_extents_reply *m)
{
    struct datanode_worker *w = op->worker;
    if (rc == 0 && !datanode_chain_serves(op->chain)) {
        rc = -ERR_not_serving;
    }
    if (rc < 0) {
        datanode_refuse(op->request, rc, op->chain);
    } else {
        peer_request_answer(op->request, m, NULL);
    }
    w->read_count--;
    mem_free(op);
}

static size_t extents_collect(struct extents_op *op)
{
    uint32_t at = op->pin.offset, end = op->pin.offset + op->pin.length;
    size_t count = 0;
    while (at < end) {
        struct chunk_piece piece[EXTENT_PIECES];
        unsigned pieces = 0;
        (void)chunk_pin_pieces(op->worker->store, &op->pin, at, piece, EXTENT_PIECES, &pieces);
        CHECK(pieces > 0);
        for (unsigned i = 0; i < pieces; i++) {
            bool zeros = piece[i].file == NULL && piece[i].bytes == NULL;
            bool joins = count > 0 && op->run[count - 1] == at;
            if (!zeros && !joins) {
                CHECK(count + 2 <= ARRAY_COUNT(op->run));
                op->run[count] = at;
                count += 2;
            }
            at += piece[i].len;
            if (!zeros) {
                op->run[count - 1] = at;
            }
        }
    }
    return count;
}

static void extents_pinned(struct chunk_pin *pin, int rc)
{
    struct extents_op *op = container_of(pin, struct extents_op, pin);
    struct datanode_worker *w = op->worker;
    struct proto_extents_reply m = {.route = datanode_route_of(op->chain, 0)};
    struct chunk_info info;
    bool pinned = rc == 0;
    if (rc == 0 || rc == -ENOENT) {
        rc = datanode_lookup(w, pin->key, &info);
    }
    if (rc == 0 && datanode_item_unsettled(w, &info)) {
        rc = -ERR_pending; /* I1: the client asks who has it committed soonest */
    } else if (rc == 0 && pinned && info.chain != op->chain->id) {
        rc = -ERR_bad_value;
    } else if (rc == 0 && pinned) {
        m.identity = datanode_identity_wire(pin->identity);
        m.length = pin->chunk_length;
        m.runs = (struct proto_u32s){.at = op->run, .count = extents_collect(op)};
    }
    if (pinned) {
        chunk_store_unpin(w->store, pin);
    }
    extents_end(op, err_is(rc, EIO) ? -ERR_corrupt : rc, &m);
}

static int extents_admit(struct datanode_worker *w, struct peer_request *r,
                         struct datanode_chain **ret)
{
    const struct proto_extents_request *m = r->body;
    int rc = datanode_chain_route(w, &m->route, ret);
    if (rc == 0 && !datanode_chain_serves(*ret)) {
        rc = -ERR_not_serving;
    }
    if (rc == 0) {
        rc = datanode_capability(w, r, &m->capability, m->chunk.data_id, 0);
    }
    if (rc == 0 && datanode_removed(w, m->chunk.data_id)) {
        rc = -ERR_gone;
    }
    return rc == 0 && w->read_count >= DATANODE_READS_MAX ? -ERR_busy : rc;
}

void datanode_on_extents(struct peer_user *user, struct peer_request *r)
{
    struct datanode_worker *w = datanode_worker_of(user);
    const struct proto_extents_request *m = r->body;
    struct datanode_chain *c = NULL;
    int rc = extents_admit(w, r, &c);
    struct extents_op *op = rc < 0 ? NULL : mem_alloc(sizeof *op);
    if (op == NULL) {
        datanode_refuse(r, rc < 0 ? rc : -ERR_busy, c);
        return;
    }
    op->worker = w;
    op->chain = c;
    op->request = r;
    op->pin = (struct chunk_pin){.done = extents_pinned,
                                 .key = datanode_key(m->chunk),
                                 .which = CHUNK_COMMITTED,
                                 .length = CHUNK_LENGTH_MAX};
    w->read_count++;
    rc = chunk_store_pin(w->store, &op->pin);
    if (rc == -ERR_need) {
        chunk_store_pin_wait(w->store, &op->pin);
    } else {
        extents_pinned(&op->pin, rc);
    }
}
