/*
 * datanode/sync.c -- SYNC: every member makes what it has committed stable and asks its successor
 * at the same time; it answers when both are done. Any new row meanwhile: stale_epoch, and the
 * client repeats all of it.
 */
#include "datanode/sync.h"

#include "datanode/ask.h"

#define SYNCS_MAX 1024u

struct sync_op {
    struct list node; /* of the worker */
    struct datanode_worker *worker;
    struct datanode_chain *chain;
    uint32_t epoch;
    struct peer_request *request;
    bool client, write; /* a client's; a WRITE that is answered with `reply` */
    struct proto_write_reply reply;
    uint64_t began_ns;
    struct chunk_key *key;
    struct proto_chunk *wire_key;
    struct chunk_sync own;
    struct datanode_ask ask;
    struct proto_sync_request below;
    bool own_busy, below_busy;
    int own_rc, below_rc;
};

static void op_free(struct sync_op *op)
{
    struct datanode_worker *w = op->worker;
    list_remove(&op->node);
    w->op_count--;
    mem_free(op->key);
    mem_free(op->wire_key);
    mem_free(op);
}

static void op_answer(struct sync_op *op, int rc)
{
    struct peer_request *r = op->request;
    struct datanode_chain *c = op->chain;
    op->request = NULL;
    if (rc < 0) {
        datanode_refuse(r, rc, c);
        return;
    }
    stats_sample(&op->worker->counters.sync_time, loop_now_ns(op->worker->loop) - op->began_ns);
    if (op->write) {
        peer_request_answer(r, &op->reply, NULL);
        return;
    }
    const struct proto_sync_request *req = r->body;
    const struct proto_sync_reply m = {.route = datanode_route_of(c, req->route.attempt),
                                       .loss_gen = c->row.loss_gen};
    peer_request_answer(r, &m, NULL);
}

static void op_step(struct sync_op *op)
{
    if (op->own_busy || op->below_busy) {
        return;
    }
    bool unleased = op->client && !datanode_leased(op->worker); /* R8 */
    int rc = op->below_rc;
    if (op->chain->row.epoch != op->epoch) {
        rc = -ERR_stale_epoch;
    } else if (op->own_rc < 0 || rc == -ERR_cancelled || (rc == 0 && unleased)) {
        /* Of an own failure the chain rids itself, as of a worker that ends (cancelled); what its
         * next head has is for that one to say. */
        rc = -ERR_not_serving;
    }
    op_answer(op, rc);
    op_free(op);
}

static void op_own_done(struct chunk_sync *s, int rc)
{
    struct sync_op *op = container_of(s, struct sync_op, own);
    op->own_busy = false;
    op->own_rc = rc;
    op_step(op);
}

static void op_below_done(struct datanode_ask *a, int rc, const struct peer_reply *r)
{
    (void)r;
    struct sync_op *op = container_of(a, struct sync_op, ask);
    op->below_busy = false;
    op->below_rc = rc;
    op_step(op);
}

static void op_start(struct sync_op *op)
{
    const struct proto_sync_request *m = &op->below;
    op->own_busy = true;
    op->own = (struct chunk_sync){.done = op_own_done,
                                  .scope = m->chunks.count == 0 ? CHUNK_SYNC_DATA : CHUNK_SYNC_KEYS,
                                  .data_id = m->data_id,
                                  .key = op->key,
                                  .key_count = m->chunks.count};
    chunk_store_sync(op->worker->store, &op->own);
    if (op->chain->successor == 0) {
        return;
    }
    op->below_busy = true;
    op->ask = (struct datanode_ask){.done = op_below_done,
                                    .chain = op->chain,
                                    .opcode = PROTO_OP_sync,
                                    .request = &op->below,
                                    .route = &op->below.route};
    datanode_ask_start(&op->ask);
}

void datanode_syncs_void(struct datanode_chain *c)
{
    LIST_FOR_EACH(at, &c->worker->ops)
    {
        struct sync_op *op = LIST_ENTRY(at, struct sync_op, node);
        if (op->chain == c && op->below_busy) {
            (void)datanode_ask_stop(&op->ask);
        }
    }
}

static struct sync_op *op_new(struct datanode_chain *c, struct peer_request *r, size_t count)
{
    struct datanode_worker *w = c->worker;
    if (w->op_count >= SYNCS_MAX) {
        return NULL;
    }
    struct sync_op *op = mem_zalloc(sizeof *op);
    if (op == NULL) {
        return NULL;
    }
    op->worker = w;
    op->chain = c;
    op->epoch = c->row.epoch;
    op->request = r;
    op->began_ns = loop_tick_ns(w->loop);
    op->key = mem_calloc(base_max(count, 1), sizeof *op->key);
    op->wire_key = mem_calloc(base_max(count, 1), sizeof *op->wire_key);
    list_push_back(&w->ops, &op->node);
    w->op_count++;
    if (op->key == NULL || op->wire_key == NULL) {
        op_free(op);
        return NULL;
    }
    op->below.chunks = (struct proto_chunk_list){.at = op->wire_key, .count = count};
    return op;
}

void datanode_sync_then_answer(struct datanode_chain *c, struct peer_request *r,
                               struct chunk_key key, const struct proto_write_reply *reply)
{
    struct sync_op *op = op_new(c, r, 1);
    if (op == NULL) {
        datanode_refuse(r, -ERR_busy, c);
        return;
    }
    op->client = true;
    op->write = true;
    op->reply = *reply;
    op->key[0] = key;
    op->wire_key[0] = datanode_key_wire(key);
    op->below.data_id = key.data_id;
    op_start(op);
}

static int sync_admit(struct datanode_worker *w, struct peer_request *r,
                      struct datanode_chain **ret)
{
    const struct proto_sync_request *m = r->body;
    int rc = datanode_chain_route(w, &m->route, ret);
    if (rc < 0) {
        return rc;
    }
    struct datanode_chain *c = *ret;
    if (r->link->role == PROTO_ROLE_TARGET) {
        return r->link->session == c->predecessor ? 0 : -EPERM;
    }
    rc = datanode_chain_head_ready(c);
    uint64_t data_id = m->data_id;
    for (size_t i = 0; i < m->chunks.count; i++) { /* one capability covers one data id */
        data_id = data_id == 0 ? m->chunks.at[i].data_id : data_id;
        if (m->chunks.at[i].data_id != data_id) {
            return -ERR_bad_value;
        }
    }
    if (rc == 0) {
        rc = datanode_capability(w, r, &m->capability, data_id, 0);
    }
    if (rc == 0 && m->loss_gen < c->row.loss_gen) {
        return -ERR_lost;
    }
    return rc;
}

void datanode_on_sync(struct peer_user *user, struct peer_request *r)
{
    struct datanode_worker *w = datanode_worker_of(user);
    const struct proto_sync_request *m = r->body;
    struct datanode_chain *c = NULL;
    stats_count(&w->counters.syncs, 1);
    int rc = sync_admit(w, r, &c);
    struct sync_op *op = rc < 0 ? NULL : op_new(c, r, m->chunks.count);
    if (op == NULL) {
        datanode_refuse(r, rc < 0 ? rc : -ERR_busy, c);
        return;
    }
    op->client = r->link->role != PROTO_ROLE_TARGET;
    op->below.data_id = m->data_id;
    op->below.loss_gen = m->loss_gen;
    for (size_t i = 0; i < m->chunks.count; i++) {
        op->key[i] = datanode_key(m->chunks.at[i]);
        op->wire_key[i] = m->chunks.at[i];
    }
    op_start(op);
}
