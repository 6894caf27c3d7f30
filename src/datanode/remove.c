/*
 * datanode/remove.c -- REMOVE of data ids (section 9): from the metadata leader to the head, and
 * on from member to member. From its arrival on nothing new of them is accepted; updates in flight
 * end first; then the ids are on the dead list (stable: one write for all of them), their chunks
 * go, and the successor is asked at the same time. Answered when both are done; the leader repeats
 * it until then.
 */
#include "datanode/remove.h"

#include "datanode/ask.h"

#define REMOVES_MAX 65536u /* data ids, of all requests together */
#define ACTIVE_MAX 512u    /* of these, in the hands of the store: others use it, too */
#define DRAIN_PAUSE_MS 5u

struct remove_op;

/* One data id, at this member. */
struct remove_one {
    struct remove_op *op;
    struct chunk_change change;
};
struct remove_op {
    struct list node; /* of the worker */
    struct datanode_worker *worker;
    struct datanode_chain *chain;
    uint32_t epoch;
    struct peer_request *request;
    struct loop_timer drain;
    struct datanode_ask ask;
    struct proto_remove_request below;
    size_t own_busy;          /* changes under way */
    size_t asked;             /* data ids that the successor has removed */
    bool below_busy, waiting; /* waiting: for its turn at the store */
    int own_rc, below_rc;
    size_t count;
    uint64_t *data_id; /* ascending; behind `one` */
    struct remove_one one[];
};

static bool remove_names(const struct remove_op *op, uint64_t data_id)
{
    size_t low = 0, high = op->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (op->data_id[middle] < data_id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < op->count && op->data_id[low] == data_id;
}

bool datanode_removed(const struct datanode_worker *w, uint64_t data_id)
{
    LIST_FOR_EACH(at, &w->removes)
    {
        if (remove_names(LIST_ENTRY(at, struct remove_op, node), data_id)) {
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
    const struct proto_remove_reply m = {.route = datanode_route_of(c, req->route.attempt),
                                         .removed = (uint32_t)op->count};
    list_remove(&op->node);
    w->remove_count -= op->count;
    mem_free(op);
    if (rc < 0) {
        datanode_refuse(r, rc, c);
    } else {
        peer_request_answer(r, &m, NULL);
    }
}

static void remove_step(struct remove_op *op)
{
    if (op->own_busy > 0 || op->below_busy) {
        return;
    }
    int own_rc = op->own_rc < 0 && !err_is(op->own_rc, EIO) ? -ERR_busy : op->own_rc;
    int rc = own_rc < 0 ? own_rc : op->below_rc;
    rc = rc == -ERR_cancelled ? -ERR_not_serving : rc; /* this worker ends */
    remove_over(op, op->chain->row.epoch != op->epoch ? -ERR_stale_epoch : rc);
}

/* There is room at the store. */
static void remove_wake(struct datanode_worker *w)
{
    LIST_FOR_EACH(at, &w->removes)
    {
        struct remove_op *op = LIST_ENTRY(at, struct remove_op, node);
        if (op->waiting) {
            op->waiting = false;
            loop_timer_in(w->loop, &op->drain, 0);
        }
    }
}

static void remove_own_done(struct chunk_change *ch, int rc)
{
    struct remove_op *op = container_of(ch, struct remove_one, change)->op;
    op->own_rc = rc == -ENOENT || op->own_rc < 0 ? op->own_rc : rc;
    if (--op->own_busy == 0) {
        op->worker->remove_active -= op->count;
        remove_wake(op->worker);
        remove_step(op);
    }
}

static void remove_ask(struct remove_op *op);

static void remove_below_done(struct datanode_ask *a, int rc, const struct peer_reply *r)
{
    struct remove_op *op = container_of(a, struct remove_op, ask);
    op->below_busy = false;
    op->below_rc = rc;
    if (rc == 0) { /* an earlier version takes one at a time */
        const struct proto_remove_reply *m = r->body;
        op->asked += base_max(m->removed, 1);
        if (op->asked < op->count) {
            remove_ask(op);
            return;
        }
    }
    remove_step(op);
}

static void remove_ask(struct remove_op *op)
{
    op->below_busy = true;
    op->below.data_id = op->data_id[op->asked];
    op->below.more =
        (struct proto_u64s){.at = op->data_id + op->asked + 1, .count = op->count - op->asked - 1};
    op->ask = (struct datanode_ask){.done = remove_below_done,
                                    .chain = op->chain,
                                    .opcode = PROTO_OP_remove,
                                    .request = &op->below,
                                    .route = &op->below.route};
    datanode_ask_start(&op->ask);
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

static bool in_flight(const struct remove_op *op)
{
    LIST_FOR_EACH(at, &op->worker->updates)
    {
        const struct datanode_update *u = LIST_ENTRY(at, struct datanode_update, node);
        if (u->item != NULL && u->state != DATANODE_UPDATE_OVER &&
            remove_names(op, u->item->key.data_id)) {
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
    if (in_flight(op)) {
        loop_timer_in(w->loop, &op->drain, DRAIN_PAUSE_MS * NS_PER_MS);
        return;
    }
    if (w->remove_active > 0 && w->remove_active + op->count > ACTIVE_MAX) {
        op->waiting = true;
        return;
    }
    op->own_busy = op->count;
    w->remove_active += op->count;
    for (size_t i = 0; i < op->count; i++) {
        op->one[i] = (struct remove_one){.op = op,
                                         .change = {.done = remove_own_done,
                                                    .op = CHUNK_REMOVE_DATA,
                                                    .key = {.data_id = op->data_id[i]}}};
        chunk_store_change(w->store, &op->one[i].change);
    }
    if (op->chain->successor != 0) {
        remove_ask(op);
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

static int remove_check(const struct datanode_worker *w, const struct proto_remove_request *m)
{
    uint64_t last = m->data_id;
    bool rising = last != 0;
    for (size_t i = 0; i < m->more.count; i++) {
        rising = rising && m->more.at[i] > last;
        last = m->more.at[i];
    }
    if (!rising) {
        return -ERR_bad_value;
    }
    return w->remove_count + m->more.count + 1 > REMOVES_MAX ? -ERR_busy : 0;
}

static struct remove_op *remove_new(const struct proto_remove_request *m)
{
    size_t count = m->more.count + 1;
    struct remove_op *op =
        mem_zalloc(sizeof *op + count * (sizeof op->one[0] + sizeof op->data_id[0]));
    if (op != NULL) {
        op->count = count;
        op->data_id = (uint64_t *)(void *)(op->one + count);
        op->data_id[0] = m->data_id;
        for (size_t i = 1; i < count; i++) {
            op->data_id[i] = m->more.at[i - 1];
        }
    }
    return op;
}

void datanode_on_remove(struct datanode_worker *w, struct peer_request *r)
{
    const struct proto_remove_request *m = r->body;
    struct datanode_chain *c = NULL;
    int rc = remove_admit(w, r, &c);
    rc = rc < 0 ? rc : remove_check(w, m);
    struct remove_op *op = rc < 0 ? NULL : remove_new(m);
    if (op == NULL) {
        datanode_refuse(r, rc < 0 ? rc : -ERR_busy, c);
        return;
    }
    op->worker = w;
    op->chain = c;
    op->epoch = c->row.epoch;
    op->request = r;
    op->drain.fire = remove_go;
    list_push_back(&w->removes, &op->node);
    w->remove_count += op->count;
    loop_timer_in(w->loop, &op->drain, 0);
}

void datanode_on_remove_member(struct peer_user *user, struct peer_request *r)
{
    datanode_on_remove(datanode_worker_of(user), r);
}
