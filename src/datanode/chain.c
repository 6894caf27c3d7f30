/*
 * datanode/chain.c -- the chains of this target: their rows, this member's role, and what follows
 * from a new row (R12).
 */
#include "datanode/worker_priv.h"

#include "chunk/hold.h"
#include "datanode/remove.h"
#include "datanode/resync.h"
#include "datanode/sync.h"

#define RECOVER_BATCH 256u
#define RECOVER_PAUSE_MS 10u

static bool chain_equal(const struct dict_node *node, const void *key)
{
    const struct datanode_chain *c =
        (const struct datanode_chain *)(const void *)((const char *)node -
                                                      offsetof(struct datanode_chain, node));
    return c->id == *(const uint32_t *)key;
}

static void chain_dropped(struct dict_node *node, void *owner)
{
    (void)owner;
    struct datanode_chain *c = container_of(node, struct datanode_chain, node);
    loop_undefer(c->worker->loop, &c->recover);
    loop_timer_cancel(c->worker->loop, &c->recover_again);
    mem_free(c);
}

const struct dict_ops datanode_chain_ops = {.equal = chain_equal, .dropped = chain_dropped};

struct datanode_chain *datanode_chain_find(struct datanode_worker *w, uint32_t id)
{
    struct dict_node *node = dict_find(&w->chains, dict_hash_u64(&w->chains, id), &id);
    return node == NULL ? NULL : container_of(node, struct datanode_chain, node);
}

/* ---- Pendings of an earlier process ---- */

/* True: the chunk's pending update is on its way, or there is none any more. */
static bool recover_one(struct datanode_chain *c, const struct chunk_info *info)
{
    struct datanode_worker *w = c->worker;
    struct datanode_item *it = datanode_item_get(w, c, info->key);
    if (it == NULL) {
        return false;
    }
    if (it->update != NULL && it->update->state >= DATANODE_UPDATE_STORE) {
        datanode_item_put(it);
        return true;
    }
    struct datanode_update *u = datanode_update_new(c, DATANODE_FROM_DISK);
    if (u == NULL || !datanode_item_try_lock(it)) {
        datanode_update_free(u);
        datanode_item_put(it);
        return false;
    }
    u->item = it;
    stats_count(&w->counters.recovered, 1);
    datanode_update_resume(u);
    return true;
}

static void recover_run(struct loop_task *t)
{
    struct datanode_chain *c = container_of(t, struct datanode_chain, recover);
    struct datanode_worker *w = c->worker;
    struct chunk_info info;
    for (unsigned i = 0; c->recovering && i < RECOVER_BATCH; i++) {
        bool may = c->state == PROTO_MEMBER_SERVING && c->in_path;
        int rc = may ? chunk_store_next_pending(w->store, &c->recover_at, &info) : -ENOENT;
        if (rc == -ENOENT) {
            c->recovering = false;
            return;
        }
        if (rc < 0) {
            break; /* some more later */
        }
        bool wanted =
            info.chain == c->id && info.has_pending && !datanode_removed(w, info.key.data_id);
        if (wanted && !recover_one(c, &info)) {
            loop_timer_in(w->loop, &c->recover_again, RECOVER_PAUSE_MS * NS_PER_MS);
            return;
        }
        c->recover_at = info.key;
        c->recover_at.index++;
        if (c->recover_at.index == 0) {
            c->recover_at.data_id++;
        }
    }
    if (c->recovering) {
        loop_defer(w->loop, &c->recover);
    }
}

static void recover_again(struct loop_timer *t)
{
    struct datanode_chain *c = container_of(t, struct datanode_chain, recover_again);
    loop_defer(c->worker->loop, &c->recover);
}

void datanode_chain_recover(struct datanode_chain *c)
{
    struct chunk_store_info info;
    chunk_store_info(c->worker->store, &info);
    c->recovering = info.pending_count > 0;
    c->recover_at = (struct chunk_key){0};
    if (c->recovering) {
        loop_defer(c->worker->loop, &c->recover);
    }
}

/* ---- Rows ---- */

static void chain_roles(struct datanode_chain *c)
{
    struct datanode_worker *w = c->worker;
    const struct cluster_row *row = &c->row;
    size_t self = cluster_row_find(row, w->control.target);
    bool is_member = self < row->count;
    c->state = is_member ? row->member[self].state : PROTO_MEMBER_OFFLINE;
    bool active = c->state == PROTO_MEMBER_SERVING || c->state == PROTO_MEMBER_SYNCING;
    bool serves = c->state == PROTO_MEMBER_SERVING || c->state == PROTO_MEMBER_LAST_SERVING;
    c->refused = is_member && serves && (!c->held || c->stale);
    c->in_path = active && !c->fenced && !c->refused;
    c->head = active && cluster_row_head(row) == self;
    c->successor = 0;
    c->predecessor = 0;
    c->successor_syncing = false;
    c->behind = 0;
    if (!c->in_path) {
        return;
    }
    for (size_t i = self + 1; i < row->count; i++) {
        enum proto_member_state state = row->member[i].state;
        c->behind += state == PROTO_MEMBER_SERVING || state == PROTO_MEMBER_SYNCING ? 1 : 0;
    }
    size_t next = cluster_row_successor(row, w->control.target);
    if (next < row->count) {
        c->successor = row->member[next].target;
        c->successor_syncing = row->member[next].state == PROTO_MEMBER_SYNCING;
    }
    size_t before = cluster_row_predecessor(row, w->control.target);
    if (before < row->count) {
        c->predecessor = row->member[before].target;
    }
}

/* R12.1 to R12.3 for what is in flight. An update may end meanwhile, and others with it. */
static void chain_updates(struct datanode_chain *c)
{
    struct datanode_worker *w = c->worker;
    LIST_FOR_EACH(at, &w->updates)
    {
        struct datanode_update *u = LIST_ENTRY(at, struct datanode_update, node);
        u->told = u->chain != c;
    }
    struct list *at = w->updates.next;
    while (at != &w->updates) {
        struct datanode_update *u = LIST_ENTRY(at, struct datanode_update, node);
        at = at->next;
        if (!u->told) {
            u->told = true;
            datanode_update_new_row(u);
            at = w->updates.next; /* whatever was next may be gone */
        }
    }
}

static void chain_readers(struct datanode_chain *c)
{
    struct list *at = c->items.next;
    while (at != &c->items) {
        struct datanode_item *it = LIST_ENTRY(at, struct datanode_item, on_chain);
        at = at->next;
        if (it->reader_count > 0) {
            datanode_item_readers_fail(it);
            at = c->items.next;
        }
    }
}

static void chain_changed(struct datanode_chain *c, bool was_in_path)
{
    /* Whoever said that it leaves shows nothing more until a row without it: the leader may make
     * that row from what it has heard before this one. */
    bool leaves = c->report == PROTO_REPORT_GONE && was_in_path && c->in_path;
    c->turn++;
    c->synced_epoch = 0;
    c->report = leaves ? PROTO_REPORT_GONE : PROTO_REPORT_OK;
    c->revoked_epoch = leaves ? c->row.epoch : c->revoked_epoch;
    c->resync_wanted = false;
    datanode_resync_stop(c);
    datanode_sink_stop(c);
    datanode_syncs_void(c);
    datanode_removes_void(c);
    chain_updates(c);
    if (c->state != PROTO_MEMBER_SERVING || !c->in_path) {
        chain_readers(c);
    }
    if (c->in_path && c->state == PROTO_MEMBER_SERVING) {
        if (!was_in_path) {
            datanode_chain_recover(c);
        }
        if (c->successor_syncing) {
            datanode_resync_start(c); /* R12.5 */
        }
    }
    datanode_lossy_check(c->worker);
    datanode_control_report(c->worker);
    if (!datanode_chain_is_member(c)) {
        datanode_discard_start(c->worker);
    }
}

static struct datanode_chain *chain_new(struct datanode_worker *w, uint32_t id)
{
    struct datanode_chain *c = mem_zalloc(sizeof *c);
    if (c == NULL) {
        return NULL;
    }
    c->worker = w;
    c->id = id;
    c->report = PROTO_REPORT_OK;
    const struct datanode_hold_record *noted = datanode_hold_find(w, id);
    c->noted_lost = noted != NULL && noted->lost;
    c->noted_epoch = noted == NULL ? 0 : noted->epoch;
    c->recover.run = recover_run;
    c->recover_again.fire = recover_again;
    list_init(&c->items);
    if (dict_insert(&w->chains, dict_hash_u64(&w->chains, id), &c->node) < 0) {
        mem_free(c);
        return NULL;
    }
    list_push_back(&w->chain_list, &c->all);
    return c;
}

/* R4: whoever has started anew serves nothing by a row from before that. */
static void chain_fence(struct datanode_chain *c, bool registration)
{
    const struct datanode_fence_view v = {.row = &c->row,
                                          .target = c->worker->control.target,
                                          .registered_epoch = c->registered_epoch};
    bool over = datanode_restart_over(&v);
    if (registration) {
        c->registered_epoch = c->row.epoch;
        c->fenced = !over;
    } else if (over) {
        c->fenced = false;
    }
}

/* The epoch of the last row by which it was a member, or had left, also in a life before; 0: none.
 */
static uint32_t chain_knew(const struct datanode_chain *c)
{
    if (c->row.count == 0) {
        return c->noted_epoch;
    }
    return datanode_chain_is_member(c) || c->released ? c->row.epoch : 0;
}

static void chain_release(struct datanode_chain *c, const struct cluster_row *next)
{
    uint32_t knew = chain_knew(c);
    bool is = cluster_row_find(next, c->worker->control.target) < next->count;
    c->released = !is && knew > 0 && next->epoch >= knew && next->epoch - knew < DATANODE_LEAP;
}

/* As long as it is said to serve it reports that it is gone: then it is offline, and comes back by
 * a session; or another one of the set is promoted. */
static void chain_hold(struct datanode_chain *c, const struct cluster_row *next, bool registration)
{
    size_t self = cluster_row_find(next, c->worker->control.target);
    bool is = self < next->count;
    const struct datanode_hold_view v = {
        .before = c->state,
        .now = is ? next->member[self].state : PROTO_MEMBER_OFFLINE,
        .is = is,
        .first = c->row.count == 0,
        .met = c->met,
        .lost = c->noted_lost,
        .registration = registration,
        .leaps = next->epoch - c->row.epoch >= DATANODE_LEAP,
        .synced = c->row.count > 0 && c->synced_epoch == c->row.epoch,
        .held = c->held,
        .stale = c->stale};
    c->held = datanode_hold_decide(&v);
    c->stale = datanode_stale_decide(&v);
}

static void chain_say_refused(const struct datanode_chain *c, bool before)
{
    if (c->refused && !before) {
        log_error(c->worker->env.log,
                  c->held ? "this target was away when it is said to have served: it refuses"
                          : "this target has no whole copy of a chain that it is said to serve: it "
                            "refuses",
                  LOG_U64("chain", c->id), LOG_U64("epoch", c->row.epoch));
    }
}

struct datanode_chain *datanode_chain_meet(struct datanode_worker *w, uint32_t id)
{
    struct datanode_chain *c = chain_new(w, id);
    if (c != NULL) {
        c->state = PROTO_MEMBER_OFFLINE;
        c->met = true;
    }
    return c;
}

bool datanode_chain_is_member(const struct datanode_chain *c)
{
    return cluster_row_find(&c->row, c->worker->control.target) < c->row.count;
}

bool datanode_chain_takes_part(const struct datanode_chain *c)
{
    size_t self = cluster_row_find(&c->row, c->worker->control.target);
    return self < c->row.count && !c->row.member[self].aside;
}

int datanode_chain_take(struct datanode_worker *w, const struct proto_row *row, bool registration)
{
    struct cluster_row next;
    int rc = cluster_row_from_proto(row, &next);
    if (rc < 0) {
        return rc;
    }
    if (w->control.target == 0 || w->left) {
        return 0; /* the registration brings them all; at the end no row counts any more */
    }
    struct datanode_chain *c = datanode_chain_find(w, next.chain);
    if (c == NULL && cluster_row_find(&next, w->control.target) == next.count) {
        return 0; /* not ours */
    }
    if (c == NULL) {
        c = chain_new(w, next.chain);
    }
    if (c == NULL) {
        return -ENOMEM;
    }
    if (next.epoch <= c->row.epoch) {
        return 0;
    }
    bool was_in_path = c->in_path, was_refused = c->refused;
    chain_release(c, &next);
    chain_hold(c, &next, registration);
    c->row = next;
    stats_count(&w->counters.rows, 1);
    chain_fence(c, registration);
    chain_roles(c);
    chain_say_refused(c, was_refused);
    datanode_hold_note(c);
    chain_changed(c, was_in_path);
    return 0;
}

/* ---- Questions ---- */

int datanode_chain_route(struct datanode_worker *w, const struct proto_route *route,
                         struct datanode_chain **ret)
{
    struct datanode_chain *c = datanode_chain_find(w, route->chain);
    *ret = c;
    if (c == NULL) {
        datanode_control_report(w);
        return -ERR_not_serving;
    }
    if (route->epoch < c->row.epoch) {
        return -ERR_stale_epoch;
    }
    if (route->epoch > c->row.epoch) {
        datanode_control_report(w); /* its answer brings the row */
        return -ERR_ahead_epoch;
    }
    return c->in_path ? 0 : -ERR_not_serving;
}

bool datanode_chain_serves(const struct datanode_chain *c)
{
    return c->in_path && c->state == PROTO_MEMBER_SERVING && c->revoked_epoch != c->row.epoch &&
           !c->worker->stopping && datanode_leased(c->worker);
}

int datanode_chain_head_ready(const struct datanode_chain *c)
{
    if (!c->head) {
        return -ERR_not_head;
    }
    return datanode_chain_serves(c) ? 0 : -ERR_not_serving;
}

void datanode_chain_gone(struct datanode_chain *c, const char *reason)
{
    struct datanode_worker *w = c->worker;
    if (!c->in_path) {
        return; /* it has left: a report now would keep it out for ever */
    }
    log_error(w->env.log, "this target leaves a chain", LOG_U64("chain", c->id),
              LOG_U64("epoch", c->row.epoch), LOG_TEXT("reason", reason));
    c->report = PROTO_REPORT_GONE;
    c->revoked_epoch = c->row.epoch; /* nothing of it is shown any more */
    datanode_control_report(w);
}

void datanode_chain_leave(struct datanode_chain *c)
{
    c->state = PROTO_MEMBER_OFFLINE;
    c->in_path = false;
    c->head = false;
    c->successor = 0;
    chain_changed(c, true);
}

void datanode_chains_tick(struct datanode_worker *w)
{
    LIST_FOR_EACH(at, &w->chain_list)
    {
        struct datanode_chain *c = LIST_ENTRY(at, struct datanode_chain, all);
        if (c->resync_wanted && c->resync == NULL && c->successor_syncing) {
            datanode_resync_start(c);
        }
    }
}

bool datanode_chain_low(const struct datanode_chain *c)
{
    struct chunk_store_info info;
    chunk_store_info(c->worker->store, &info);
    return info.low || loop_tick_ns(c->worker->loop) < c->low_until_ns;
}
