/*
 * datanode/remove.c -- REMOVE of a data id (section 9): from the metadata leader to the head, and
 * on from member to member. From its arrival on nothing new of the data id is accepted; updates in
 * flight end first; then the id is on the dead list (stable), its chunks go, and the successor is
 * asked at the same time. Answered when both are done; the leader repeats it until then.
 */
#include "datanode/remove.h"

#include "datanode/ask.h"

#define REMOVES_MAX 256u
#define DRAIN_PAUSE_MS 5u

struct remove_op {
    struct list node; /* of the worker */
    struct datanode_worker *worker;
    struct datanode_chain *chain;
    uint32_t epoch;
    uint64_t data_id;
    struct peer_request *request;
    struct loop_timer drain;
    struct chunk_change own;
    struct datanode_ask ask;
    struct proto_remove_request below;
    bool own_busy, below_busy;
    int own_rc, below_rc;
};

bool datanode_removed(const struct datanode_worker *w, uint64_t data_id)
{
    LIST_FOR_EACH(at, &w->removes)
    {
        if (LIST_ENTRY(at, struct remove_op, node)->data_id == data_id) {
            return true;
        }
    }
    return chunk_store_dead(w->store, data_id);
}

static void remove_over(struct remove_op *op, int rc)
{
    struct peer_request *r = op->request;
    struct datanode_chain *c = op->chain;
    struct datanode_worker *w = op->worker;
    const struct proto_remove_request *req = r->body;
    const struct proto_remove_reply m = {.route = datanode_route_of(c, req->route.attempt)};
    list_remove(&op->node);
    w->remove_count--;
    mem_free(op);
    if (rc < 0) {
        datanode_refuse(r, rc, c);
    } else {
        peer_request_answer(r, &m, NULL);
    }
}

static void remove_step(struct remove_op *op)
{
    if (op->own_busy || op->below_busy) {
        return;
    }
    int own_rc = op->own_rc < 0 && !err_is(op->own_rc, EIO) ? -ERR_busy : op->own_rc;
    int rc = own_rc < 0 ? own_rc : op->below_rc;
    rc = rc == -ERR_cancelled ? -ERR_not_serving : rc; /* this worker ends */
    remove_over(op, op->chain->row.epoch != op->epoch ? -ERR_stale_epoch : rc);
}

static void remove_own_done(struct chunk_change *ch, int rc)
{
    struct remove_op *op = container_of(ch, struct remove_op, own);
    op->own_busy = false;
    op->own_rc = rc == -ENOENT ? 0 : rc;
    remove_step(op);
}

static void remove_below_done(struct datanode_ask *a, int rc, const struct peer_reply *r)
{
    (void)r;
    struct remove_op *op = container_of(a, struct remove_op, ask);
    op->below_busy = false;
    op->below_rc = rc;
    remove_step(op);
}

void datanode_removes_void(struct datanode_chain *c)
{
    LIST_FOR_EACH(at, &c->worker->removes)
    {
        struct remove_op *op = LIST_ENTRY(at, struct remove_op, node);
        if (op->chain == c && op->below_busy) {
            (void)datanode_ask_stop(&op->ask);
        }
    }
}

static bool in_flight(const struct datanode_worker *w, uint64_t data_id)
{
    LIST_FOR_EACH(at, &w->updates)
    {
        const struct datanode_update *u = LIST_ENTRY(at, struct datanode_update, node);
        if (u->item != NULL && u->item->key.data_id == data_id &&
            u->state != DATANODE_UPDATE_OVER) {
            return true;
        }
    }
    return false;
}

static void remove_go(struct loop_timer *t)
{
    struct remove_op *op = container_of(t, struct remove_op, drain);
    struct datanode_worker *w = op->worker;
    if (op->chain->row.epoch != op->epoch) {
        remove_over(op, -ERR_stale_epoch);
        return;
    }
    if (w->left) { /* nobody is behind this one any more only because it has left */
        remove_over(op, -ERR_not_serving);
        return;
    }
    if (in_flight(w, op->data_id)) {
        loop_timer_in(w->loop, &op->drain, DRAIN_PAUSE_MS * NS_PER_MS);
        return;
    }
    op->own_busy = true;
    op->own = (struct chunk_change){
        .done = remove_own_done, .op = CHUNK_REMOVE_DATA, .key = {.data_id = op->data_id}};
    chunk_store_change(w->store, &op->own);
    if (op->chain->successor != 0) {
        op->below_busy = true;
        op->below.data_id = op->data_id;
        op->ask = (struct datanode_ask){.done = remove_below_done,
                                        .chain = op->chain,
                                        .opcode = PROTO_OP_remove,
                                        .request = &op->below,
                                        .route = &op->below.route};
        datanode_ask_start(&op->ask);
    }
}

static int remove_admit(struct datanode_worker *w, struct peer_request *r,
                        struct datanode_chain **ret)
{
    const struct proto_remove_request *m = r->body;
    int rc = datanode_chain_route(w, &m->route, ret);
    if (rc < 0) {
        return rc;
    }
    if (r->link->role == PROTO_ROLE_TARGET) {
        return r->link->session == (*ret)->predecessor ? 0 : -EPERM;
    }
    return datanode_chain_head_ready(*ret);
}

void datanode_on_remove(struct datanode_worker *w, struct peer_request *r)
{
    const struct proto_remove_request *m = r->body;
    struct datanode_chain *c = NULL;
    int rc = remove_admit(w, r, &c);
    if (rc == 0 && m->data_id == 0) {
        rc = -ERR_bad_value;
    }
    struct remove_op *op = rc < 0 || w->remove_count >= REMOVES_MAX ? NULL : mem_zalloc(sizeof *op);
    if (op == NULL) {
        datanode_refuse(r, rc < 0 ? rc : -ERR_busy, c);
        return;
    }
    op->worker = w;
    op->chain = c;
    op->epoch = c->row.epoch;
    op->data_id = m->data_id;
    op->request = r;
    op->drain.fire = remove_go;
    list_push_back(&w->removes, &op->node);
    w->remove_count++;
    loop_timer_in(w->loop, &op->drain, 0);
}

void datanode_on_remove_member(struct peer_user *user, struct peer_request *r)
{
    datanode_on_remove(datanode_worker_of(user), r);
}
