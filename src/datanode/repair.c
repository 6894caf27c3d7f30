/*
 * datanode/repair.c -- repair of single chunks (section 10). FETCH under the chunk's lock from the
 * other members, the serving ones first; what has the wanted identity and digest is installed over
 * the damaged bytes. Equal identity is equal bytes, so any member that is alive may answer,
 * whatever its state. Nobody has it: it stays damaged, until it is overwritten whole.
 *
 * A repair takes its turn at the lock, or is done on behalf of a write that has it and waits. That
 * one is told whether it pays to ask again (10.4): not when the disk here does not take the good
 * copy, nor when every serving member has said that it has none, and nobody else did better.
 */
#include "datanode/repair.h"

#include "chunk/hold.h"
#include "datanode/worker_priv.h"

#define REPAIRS_MAX 16u
#define FETCH_MS 5000u
#define FETCH_OTHER_MS 2000u /* from members out of service, which may well be dead */
#define DAMAGED_MANY 64u
#define WATCH_LOOKS 1024u /* chunks looked at in one go */
#define WATCH_PAUSE_MS 10u
#define WATCH_MIN_MS 500u
#define WATCH_MAX_MS 60000u

struct repair {
    struct list node; /* of the worker */
    struct datanode_worker *worker;
    struct datanode_chain *chain;
    struct datanode_item *item;
    struct datanode_wait wait;
    struct datanode_repair_wait *holder; /* has the lock and waits; NULL: the lock is ours */
    struct chunk_info info;
    size_t member; /* of the row, asked next */
    bool asks_serving, calling, storing, locked;
    bool open;    /* a serving member could not tell: it may have a good copy */
    bool unheard; /* the same of any member */
    struct peer_call call;
    struct proto_fetch_request fetch;
    struct slice data;
    uint32_t *crc;
    struct chunk_recent recent[CHUNK_RECENT_MAX];
    struct iovec iov;
    struct chunk_update store;
};

static void repair_over(struct repair *p, int rc)
{
    struct datanode_worker *w = p->worker;
    struct datanode_item *it = p->item;
    struct datanode_repair_wait *holder = p->holder;
    bool locked = p->locked;
    it->repairing = it->repairing && holder != NULL;
    buf_slice_drop(&p->data);
    mem_free(p->crc);
    list_remove(&p->node);
    w->repair_count--;
    mem_free(p);
    if (holder != NULL) {
        holder->repaired(holder, rc);
    } else if (locked) {
        datanode_item_unlock(it);
    }
    datanode_item_put(it);
}

static void repair_next(struct repair *p);

static void repair_stored(struct chunk_update *s, int rc)
{
    struct repair *p = container_of(s, struct repair, store);
    p->storing = false;
    if (rc == 0) {
        stats_count(&p->worker->counters.repaired, 1);
        datanode_report_damage(p->worker, p->chain->id, p->item->key, PROTO_DAMAGE_REPAIRED);
    }
    log_warn(p->worker->env.log, rc == 0 ? "chunk was repaired" : "chunk cannot be repaired",
             LOG_U64("data", p->item->key.data_id), LOG_U64("index", p->item->key.index),
             LOG_RC(rc));
    bool again = rc < 0 && !err_is(rc, ENOSPC) && !err_is(rc, EIO);
    rc = err_is(rc, ENOSPC) ? -ERR_no_space : rc < 0 ? -ERR_corrupt : 0;
    repair_over(p, again ? -ERR_busy : rc);
}

static void repair_install(struct repair *p)
{
    const struct chunk_info *info = &p->info;
    memcpy(p->recent, info->recent, sizeof p->recent);
    p->iov = datanode_slice_iovec(&p->data);
    p->storing = true;
    p->store = (struct chunk_update){.done = repair_stored,
                                     .key = info->key,
                                     .chain = info->chain,
                                     .identity = info->committed,
                                     .kind = CHUNK_WHOLE,
                                     .install = true,
                                     .new_length = info->length,
                                     .tgen = info->tgen,
                                     .flags = info->flags & (uint16_t)~CHUNK_DAMAGED,
                                     .last_ver = info->last_ver,
                                     .lane = DISK_COPYING,
                                     .recent = p->recent,
                                     .recent_count = info->recent_count,
                                     .crc = p->crc,
                                     .crc_count = chunk_cells(info->length),
                                     .data = &p->iov,
                                     .data_count = p->data.len > 0 ? 1 : 0};
    chunk_store_update(p->worker->store, &p->store);
}

/* Is it what was lost here? */
static bool repair_fits(const struct repair *p, const struct peer_reply *r)
{
    const struct proto_fetch_reply *m = r->body;
    const struct chunk_info *info = &p->info;
    return r->rc == 0 && chunk_identity_equal(datanode_identity(m->identity), info->committed) &&
           m->length == info->length && m->digest == info->digest && r->data.len == info->length &&
           datanode_crc_check(0, &r->data, &m->crcs) == 0 &&
           chunk_digest(m->length, m->crcs.at) == info->digest;
}

static void repair_fetched(struct peer_call *c, const struct peer_reply *r)
{
    struct repair *p = container_of(c, struct repair, call);
    p->calling = false;
    if (p->worker->left) {
        repair_over(p, -ERR_busy);
        return;
    }
    if (!repair_fits(p, r)) {
        bool none = r->answered && (r->rc == 0 || r->rc == -ERR_different || err_is(r->rc, EIO));
        p->open = p->open || (p->asks_serving && !none);
        p->unheard = p->unheard || !none;
        repair_next(p);
        return;
    }
    const struct proto_fetch_reply *m = r->body;
    p->crc = mem_dup(m->crcs.at == NULL ? (const uint32_t[]){0} : m->crcs.at,
                     base_max(m->crcs.count, 1) * sizeof *p->crc);
    if (p->crc == NULL) {
        repair_over(p, -ERR_busy);
        return;
    }
    p->data = r->data;
    if (p->data.buf != NULL) {
        buf_ref(p->data.buf);
    }
    repair_install(p);
}

/* The next other member; serving ones in the first pass, then whoever is alive. */
static struct datanode_neighbor *repair_source(struct repair *p)
{
    const struct cluster_row *row = &p->chain->row;
    for (;;) {
        while (p->member < row->count) {
            const struct cluster_member *m = &row->member[p->member++];
            bool serving = m->state == PROTO_MEMBER_SERVING;
            bool asked = m->target != p->worker->control.target && serving == p->asks_serving;
            struct datanode_neighbor *n =
                asked ? datanode_neighbor_get(p->worker, m->target) : NULL;
            if (n != NULL) {
                return n;
            }
            p->open = p->open || (asked && serving); /* no memory */
            p->unheard = p->unheard || asked;
        }
        if (!p->asks_serving) {
            return NULL;
        }
        p->asks_serving = false;
        p->member = 0;
    }
}

static void repair_next(struct repair *p)
{
    struct peer_call model = {.done = repair_fetched,
                              .request = &p->fetch,
                              .opcode = PROTO_OP_fetch,
                              .flags = PEER_CALL_AGAIN};
    p->fetch = (struct proto_fetch_request){.route = datanode_route_of(p->chain, 0),
                                            .chunk = datanode_key_wire(p->item->key),
                                            .identity = datanode_identity_wire(p->info.committed)};
    p->calling = true;
    for (struct datanode_neighbor *n = repair_source(p); n != NULL; n = repair_source(p)) {
        model.timeout_ms = p->asks_serving ? FETCH_MS : FETCH_OTHER_MS;
        if (datanode_neighbor_call(n, &p->call, &model)) {
            return;
        }
        p->open = p->open || p->asks_serving; /* where it is will be known soon */
        p->unheard = true;
    }
    p->calling = false;
    log_error(p->worker->env.log, "no good copy of a damaged chunk",
              LOG_U64("data", p->item->key.data_id), LOG_U64("index", p->item->key.index));
    if (!p->open) {
        datanode_report_damage(p->worker, p->chain->id, p->item->key, PROTO_DAMAGE_NO_COPY);
    }
    if (p->holder != NULL) {
        p->holder->nobody = !p->unheard;
    }
    repair_over(p, p->open ? -ERR_busy : -ERR_corrupt);
}

static void repair_go(struct repair *p)
{
    int rc = datanode_lookup_locked(p->worker, p->item->key, &p->info);
    bool damaged = rc == 0 && (p->info.flags & CHUNK_DAMAGED) != 0 && !p->info.has_pending;
    p->locked = true;
    if (!damaged || p->worker->left) {
        repair_over(p, rc < 0 || p->worker->left ? -ERR_busy : 0); /* healed meanwhile */
    } else if (chunk_identity_none(p->info.committed)) {
        datanode_report_damage(p->worker, p->chain->id, p->item->key, PROTO_DAMAGE_NO_COPY);
        repair_over(p, -ERR_corrupt); /* not even known what it was: nobody can be asked for it */
    } else {
        p->asks_serving = true;
        repair_next(p);
    }
}

static void repair_granted(struct datanode_wait *wait)
{
    repair_go(container_of(wait, struct repair, wait));
}

static void repair_begin(struct loop_task *t)
{
    struct datanode_worker *w = container_of(t, struct datanode_worker, repair_task);
    LIST_FOR_EACH_SAFE(at, &w->repairs_new)
    {
        struct repair *p = LIST_ENTRY(at, struct repair, node);
        list_remove(&p->node);
        list_push_back(&w->repairs, &p->node);
        int rc = p->holder != NULL ? 1 : datanode_item_lock(p->item, &p->wait);
        if (rc > 0) {
            repair_go(p);
        } else if (rc < 0) {
            repair_over(p, rc);
        }
    }
}

/* NULL: too many, or no memory. */
static struct repair *repair_new(struct datanode_chain *c, struct datanode_item *it)
{
    struct datanode_worker *w = c->worker;
    bool may = w->repair_count < REPAIRS_MAX && !w->left && !w->failed;
    struct repair *p = may ? mem_zalloc(sizeof *p) : NULL;
    if (p == NULL) {
        return NULL;
    }
    p->worker = w;
    p->chain = c;
    p->item = it;
    p->wait.granted = repair_granted;
    it->users++;
    list_push_back(&w->repairs_new, &p->node);
    w->repair_count++;
    w->repair_task.run = repair_begin; /* the caller may hold the lock */
    loop_defer(w->loop, &w->repair_task);
    return p;
}

void datanode_repairs_end(struct datanode_worker *w)
{
    LIST_FOR_EACH(at, &w->repairs)
    {
        struct repair *p = LIST_ENTRY(at, struct repair, node);
        if (p->calling) {
            peer_call_cancel(&p->call);
        }
    }
}

void datanode_repair_start(struct datanode_chain *c, struct datanode_item *it)
{
    if (!it->repairing) {
        it->repairing = repair_new(c, it) != NULL;
    }
}

bool datanode_repair_wait(struct datanode_chain *c, struct datanode_item *it,
                          struct datanode_repair_wait *wait)
{
    CHECK(it->locked && it->update == NULL);
    struct repair *p = repair_new(c, it);
    if (p == NULL) {
        return false;
    }
    p->holder = wait;
    wait->nobody = false;
    return true;
}

void datanode_repair_key(struct datanode_chain *c, struct chunk_key key)
{
    struct datanode_item *it = datanode_item_get(c->worker, c, key);
    if (it != NULL) {
        datanode_repair_start(c, it);
        datanode_item_put(it);
    }
}

/* ---- What nobody could repair yet ---- */

static void watch_in(struct datanode_worker *w, uint64_t ms)
{
    loop_timer_in(w->loop, &w->repair_timer, ms * NS_PER_MS);
}

/* Of a walk over all of them, some at a time. */
static int watch_some(struct datanode_worker *w)
{
    struct chunk_damage *d = &w->repair_at;
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < WATCH_LOOKS && w->repair_count < REPAIRS_MAX; i++) {
        rc = chunk_store_next_damaged(w->store, d);
        if (rc < 0) {
            break;
        }
        struct datanode_chain *c = datanode_chain_find(w, d->chain);
        if (w->reporter.damage_telling) {
            datanode_report_damage(w, d->chain, d->key, PROTO_DAMAGE_FOUND);
        }
        if (c != NULL && c->in_path && c->state == PROTO_MEMBER_SERVING) {
            datanode_repair_key(c, d->key);
        }
    }
    return rc;
}

static void watch_fired(struct loop_timer *t)
{
    struct datanode_worker *w = container_of(t, struct datanode_worker, repair_timer);
    struct chunk_store_info all;
    chunk_store_info(w->store, &all);
    struct datanode_reporter *told = &w->reporter;
    if (all.damaged_count == 0 || w->closing || w->failed) {
        w->repair_at = (struct chunk_damage){0};
        told->damage_due = told->damage_telling = false;
        return;
    }
    if (!w->repair_at.behind && !w->repair_at.indexed) {
        /* From the first on; still, if there was no room for a single one last time. */
        told->damage_telling = told->damage_telling || told->damage_due;
        told->damage_due = false;
    }
    int rc = watch_some(w);
    if (rc == 0 || rc == -EAGAIN) {
        watch_in(w, WATCH_PAUSE_MS);
        return;
    }
    w->repair_at = (struct chunk_damage){0};
    told->damage_telling = false;
    w->repair_wait_ms = base_min(w->repair_wait_ms * 2, WATCH_MAX_MS);
    watch_in(w, w->repair_wait_ms);
}

void datanode_repair_watch(struct datanode_worker *w)
{
    struct chunk_store_info all;
    chunk_store_info(w->store, &all);
    if (all.damaged_count == 0 || w->closing) {
        return;
    }
    w->repair_wait_ms = WATCH_MIN_MS;
    w->repair_timer.fire = watch_fired;
    watch_in(w, WATCH_MIN_MS);
}

void datanode_repair_told(struct datanode_chain *c, struct chunk_key key)
{
    struct datanode_worker *w = c->worker;
    log_error(w->env.log, "a chunk is damaged at its source, too", LOG_U64("chain", c->id),
              LOG_U64("data", key.data_id), LOG_U64("index", key.index));
    datanode_report_damage(w, c->id, key, PROTO_DAMAGE_NO_COPY);
    datanode_repair_watch(w);
}

void datanode_repair_unwatch(struct datanode_worker *w)
{
    loop_timer_cancel(w->loop, &w->repair_timer);
}

/* Once, when there is one more than that: what is left of them after a resync, nobody has. */
void datanode_repair_found(struct datanode_worker *w)
{
    struct chunk_store_info all;
    chunk_store_info(w->store, &all);
    if (all.damaged_count != DAMAGED_MANY + 1) {
        return;
    }
    LIST_FOR_EACH(at, &w->chain_list)
    {
        struct datanode_chain *c = LIST_ENTRY(at, struct datanode_chain, all);
        if (datanode_chain_serves(c) && cluster_row_serving_count(&c->row) > 1) {
            datanode_chain_gone(c, "many of its chunks are damaged");
        }
    }
}

/* ---- FETCH at its receiver ---- */

struct fetch_op {
    struct datanode_worker *worker;
    struct datanode_chain *chain;
    struct peer_request *request;
    struct chunk_info info;
    struct buf *buf;
    uint32_t crc[CHUNK_CELLS_MAX];
    struct proto_recent recent[CHUNK_RECENT_MAX];
    struct chunk_read read;
    struct chunk_hold hold; /* what is known of it stays in memory */
};

static void fetch_over(struct fetch_op *op, int rc)
{
    const struct chunk_info *info = &op->info;
    struct peer_request *r = op->request;
    const struct proto_fetch_request *m = r->body;
    op->worker->read_count--;
    if (op->hold.entry != NULL) {
        chunk_store_let_go(op->worker->store, &op->hold);
    }
    if (rc < 0) {
        datanode_refuse(r, err_is(rc, EIO) ? -ERR_corrupt : rc, op->chain);
        buf_unref(op->buf);
        mem_free(op);
        return;
    }
    for (unsigned i = 0; i < info->recent_count; i++) {
        const struct chunk_recent *e = &info->recent[i];
        op->recent[i] = (struct proto_recent){.client = e->client,
                                              .seq = e->seq,
                                              .ver = e->ver,
                                              .result = e->result,
                                              .time_ms = e->time_ms};
    }
    const struct proto_fetch_reply reply = {
        .route = datanode_route_of(op->chain, m->route.attempt),
        .identity = datanode_identity_wire(info->committed),
        .length = info->length,
        .digest = info->digest,
        .tgen = info->tgen,
        .chunk_flags = info->flags,
        .last_ver = info->last_ver,
        .crcs = {.at = op->crc, .count = chunk_cells(info->length)},
        .recent = {.at = op->recent, .count = info->recent_count}};
    const struct net_conn_response data = {
        .data = {{.buf = op->buf, .at = op->buf == NULL ? NULL : op->buf->at, .len = info->length}},
        .data_count = info->length > 0 ? 1 : 0};
    peer_request_answer(r, &reply, &data);
    buf_unref(op->buf);
    mem_free(op);
}

static void fetch_read(struct chunk_read *read, int rc)
{
    struct fetch_op *op = container_of(read, struct fetch_op, read);
    if (rc == 0 && !chunk_identity_equal(read->pin.identity, op->info.committed)) {
        rc = -ERR_different;
    }
    fetch_over(op, rc);
}

static int fetch_check(struct datanode_worker *w, const struct proto_fetch_request *m,
                       struct chunk_info *info, struct datanode_chain **ret)
{
    *ret = datanode_chain_find(w, m->route.chain);
    if (*ret == NULL) {
        return -ERR_not_serving;
    }
    int rc = datanode_lookup(w, datanode_key(m->chunk), info);
    if (rc < 0) {
        return rc;
    }
    if (info->has_pending) {
        return -ERR_pending;
    }
    if (!chunk_identity_equal(info->committed, datanode_identity(m->identity))) {
        return -ERR_different;
    }
    return (info->flags & CHUNK_DAMAGED) != 0 ? -ERR_corrupt : 0;
}

static void fetch_go(struct fetch_op *op)
{
    struct datanode_worker *w = op->worker;
    int rc = fetch_check(w, op->request->body, &op->info, &op->chain);
    if (rc == 0 && op->info.length > 0) {
        op->buf = buf_get(w->member_pool, op->info.length);
        rc = op->buf == NULL ? -ERR_busy : 0;
    }
    if (rc < 0 || op->info.length == 0) {
        fetch_over(op, rc == -ERR_need ? -ERR_busy : rc);
        return;
    }
    op->read = (struct chunk_read){
        .done = fetch_read,
        .pin = {.key = op->info.key, .which = CHUNK_COMMITTED, .length = op->info.length},
        .verify = true,
        .lane = DISK_COPYING,
        .to = op->buf->at,
        .crc = op->crc};
    chunk_store_read(w->store, &op->read);
}

static void fetch_held(struct chunk_hold *h, int rc)
{
    struct fetch_op *op = container_of(h, struct fetch_op, hold);
    if (rc < 0) {
        fetch_over(op, err_is(rc, EIO) ? rc : -ERR_busy);
    } else {
        fetch_go(op);
    }
}

void datanode_on_fetch(struct peer_user *user, struct peer_request *r)
{
    struct datanode_worker *w = datanode_worker_of(user);
    const struct proto_fetch_request *m = r->body;
    struct fetch_op *op = w->read_count >= DATANODE_READS_MAX ? NULL : mem_zalloc(sizeof *op);
    if (op == NULL) {
        datanode_refuse(r, -ERR_busy, NULL);
        return;
    }
    w->read_count++;
    op->worker = w;
    op->request = r;
    op->hold = (struct chunk_hold){.done = fetch_held, .key = datanode_key(m->chunk)};
    int rc = chunk_store_hold(w->store, &op->hold);
    if (rc == -ERR_need) {
        chunk_store_hold_wait(w->store, &op->hold);
    } else {
        fetch_held(&op->hold, rc);
    }
}
