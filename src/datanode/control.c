/*
 * datanode/control.c -- the metadata leader: registration, heartbeats, the lease, the map.
 *
 * R7: the lease ends T/2 after the *sending* of the heartbeat that was answered, by the own clock;
 * it is looked at when something is about to be shown, never left to a timer. A heartbeat carries,
 * per chain, the newest epoch known here; rows come back in its answer and by push.
 */
#include "datanode/inventory.h"
#include "datanode/worker_priv.h"

#define REGISTER_PAUSE_MS 200u
#define MAP_PAUSE_MS 100u
#define DEFAULT_LEASE_MS 10000u

static struct datanode_worker *worker_of(struct datanode_control *k)
{
    return container_of(k, struct datanode_worker, control);
}

bool datanode_leased(const struct datanode_worker *w)
{
    return !w->failed && loop_now_ns(w->loop) < w->control.lease_end_ns;
}

/* ---- Registration ---- */

static void control_register(struct datanode_control *k);

static void take_rows(struct datanode_worker *w, const struct proto_row_list *rows, bool first)
{
    for (size_t i = 0; i < rows->count; i++) {
        int rc = datanode_chain_take(w, &rows->at[i], first);
        if (rc < 0) {
            log_warn(w->env.log, "row of a chain is refused", LOG_U64("chain", rows->at[i].chain),
                     LOG_RC(rc));
        }
    }
}

/* Late by the way of the answer, which the slack of capabilities covers. */
static void control_clock(struct datanode_control *k, uint64_t wall_ms)
{
    k->wall_base_ms = wall_ms - loop_now_ns(worker_of(k)->loop) / NS_PER_MS;
}

uint64_t datanode_leader_ms(const struct datanode_worker *w)
{
    return w->control.wall_base_ms + loop_now_ns(w->loop) / NS_PER_MS;
}

static void control_registered(struct peer_call *c, const struct peer_reply *r)
{
    struct datanode_control *k = container_of(c, struct datanode_control, register_call);
    struct datanode_worker *w = worker_of(k);
    k->registering = false;
    if (r->rc < 0) {
        char why[512] = "";
        if (r->failure != NULL) {
            proto_bytes_to_c(r->failure->text, why, sizeof why);
        }
        log_warn(w->env.log, "registration has failed", LOG_RC(r->rc), LOG_TEXT("why", why));
        loop_timer_in(w->loop, &k->register_timer, REGISTER_PAUSE_MS * NS_PER_MS);
        return;
    }
    const struct proto_register_reply *m = r->body;
    if (k->registered_once && m->target != k->target) { /* rows are judged by that number */
        datanode_worker_fail(w, -ERR_bad_value, "the metadata server gave it another number");
        return;
    }
    control_clock(k, m->wall_ms);
    k->target = m->target;
    k->lease_ms = m->lease_ms == 0 ? DEFAULT_LEASE_MS : m->lease_ms;
    k->heartbeat_ms = m->heartbeat_ms == 0 ? base_max(k->lease_ms / 10, 1) : m->heartbeat_ms;
    bool first = !k->registered_once;
    k->registered_once = true;
    take_rows(w, &m->rows, first);
    datanode_control_want_map(w);
    datanode_control_report(w);
    datanode_reporter_registered(w);
    if (first) {
        w->opt.user->ops->registered(w->opt.user, k->target);
        datanode_discard_start(w);
    }
}

static uint8_t control_engine(const struct datanode_worker *w)
{
    switch (w->opt.engine) {
    case DATANODE_ENGINE_RAM:
        return PROTO_ENGINE_RAM;
    case DATANODE_ENGINE_FILE:
        return PROTO_ENGINE_FILE;
    case DATANODE_ENGINE_EXTENT:
    case DATANODE_ENGINE_DEFAULT: /* it was settled when the store was opened */
    default:
        return PROTO_ENGINE_EXTENT;
    }
}

static void control_register(struct datanode_control *k)
{
    struct datanode_worker *w = worker_of(k);
    if (k->registering || w->closing || w->stopping) {
        return;
    }
    struct chunk_store_info info;
    chunk_store_info(w->store, &info);
    k->registering = true;
    struct proto_register_request *m = &k->register_request;
    *m =
        (struct proto_register_request){.uuid = info.target,
                                        .incarnation = info.incarnation,
                                        .lossy = info.lossy || w->opt.engine == DATANODE_ENGINE_RAM,
                                        .address = proto_bytes_text(w->advertise),
                                        .host = proto_bytes_text(w->host),
                                        .rack = proto_bytes_text(w->rack),
                                        .labels = proto_bytes_text(w->labels),
                                        .weight = w->opt.weight,
                                        .engine = control_engine(w),
                                        .total = info.total_bytes,
                                        .free = info.free_bytes,
                                        .used = info.used_bytes,
                                        .name = proto_bytes_text(w->name)};
    loop_boot_id(w->loop, m->boot_id.bytes);
    k->register_call = (struct peer_call){.done = control_registered,
                                          .request = m,
                                          .opcode = PROTO_OP_register,
                                          .flags = PEER_CALL_AGAIN};
    peer_call(k->peer, &k->register_call);
}

static void control_register_again(struct loop_timer *t)
{
    control_register(container_of(t, struct datanode_control, register_timer));
}

/* ---- Data ids that leave the dead list ---- */

static void control_forget_next(struct datanode_control *k);

static void control_forgotten(struct chunk_change *c, int rc)
{
    struct datanode_control *k = container_of(c, struct datanode_forgetting, change)->control;
    (void)rc; /* the leader names it again until it is gone from the list */
    if (--k->forgetting == 0) {
        control_forget_next(k);
    }
}

/* As many as one stable write takes. */
static void control_forget_next(struct datanode_control *k)
{
    struct datanode_worker *w = worker_of(k);
    if (k->forgetting > 0 || w->closing) {
        return;
    }
    while (k->forget_count > 0 && k->forgetting < ARRAY_COUNT(k->forget)) {
        struct datanode_forgetting *f = &k->forget[k->forgetting++];
        uint64_t data_id = k->forget_ids[--k->forget_count];
        f->control = k;
        f->change = (struct chunk_change){
            .done = control_forgotten, .op = CHUNK_FORGET_DEAD, .key = {.data_id = data_id}};
        chunk_store_change(w->store, &f->change);
    }
}

static void control_forget(struct datanode_control *k, const struct proto_u64s *ids)
{
    for (size_t i = 0; i < ids->count && k->forget_count < ARRAY_COUNT(k->forget_ids); i++) {
        if (chunk_store_dead(worker_of(k)->store, ids->at[i])) {
            k->forget_ids[k->forget_count++] = ids->at[i];
        }
    }
    control_forget_next(k);
}

/* Some that have been in the list long enough, every time from where it ended before: the leader
 * says which of them may go. */
static size_t control_dead(struct datanode_control *k)
{
    struct datanode_worker *w = worker_of(k);
    struct chunk_dead dead[ARRAY_COUNT(k->dead_ids)];
    uint64_t now_ms = loop_wall_ns(w->loop) / NS_PER_MS;
    size_t found = chunk_store_dead_list(w->store, k->dead_after, dead, ARRAY_COUNT(dead));
    size_t count = 0;
    k->dead_after = found == ARRAY_COUNT(dead) ? dead[found - 1].data_id : 0;
    for (size_t i = 0; i < found; i++) {
        if (now_ms >= dead[i].time_ms && now_ms - dead[i].time_ms >= w->opt.dead_keep_ms) {
            k->dead_ids[count++] = dead[i].data_id;
        }
    }
    return count;
}

/* ---- Heartbeats ---- */

static void control_beat(struct datanode_control *k);

static void control_lease(struct datanode_control *k, const struct peer_call *c, bool leased)
{
    struct datanode_worker *w = worker_of(k);
    uint64_t end_ns = c->wire.sent_ns + k->lease_ms * NS_PER_MS / 2;
    if (leased) {
        k->lease_end_ns = base_max(k->lease_end_ns, end_ns);
    }
    stats_gauge_set(&w->counters.lease, datanode_leased(w) ? 1 : 0);
}

static void control_beaten(struct peer_call *c, const struct peer_reply *r)
{
    struct datanode_control *k = container_of(c, struct datanode_control, beat_call);
    struct datanode_worker *w = worker_of(k);
    k->beating = false;
    k->left = k->left || (k->leaving && r->rc == 0);
    if (r->rc == 0) {
        const struct proto_heartbeat_reply *m = r->body;
        control_clock(k, m->wall_ms);
        control_lease(k, c, m->leased);
        take_rows(w, &m->rows, false);
        datanode_lossy_check(w);
        control_forget(k, &m->forget);
        if (m->map_epoch != k->map_epoch) {
            datanode_control_want_map(w);
        }
    } else if (r->answered && !err_is(r->rc, EAGAIN)) {
        control_register(k); /* the leader does not know this incarnation */
    }
    if (k->beat_again) {
        k->beat_again = false;
        loop_defer(w->loop, &k->beat_soon);
    }
}

/* Without a row it is not known what all would be; what was in memory has gone with the process. */
static uint8_t control_held(const struct datanode_worker *w, const struct datanode_chain *c)
{
    bool whole = c->held && !c->stale && w->opt.engine != DATANODE_ENGINE_RAM;
    return c->row.count == 0 ? PROTO_HELD_UNKNOWN : whole ? PROTO_HELD_WHOLE : PROTO_HELD_PART;
}

static int control_reports(struct datanode_control *k)
{
    struct datanode_worker *w = worker_of(k);
    size_t count = 0;
    int rc = mem_grow(&k->reports, &k->reports_capacity, w->chains.count + 1, sizeof *k->reports);
    if (rc < 0) {
        return rc;
    }
    LIST_FOR_EACH(at, &w->chain_list)
    {
        const struct datanode_chain *c = LIST_ENTRY(at, struct datanode_chain, all);
        if (c->row.count > 0 && !datanode_chain_is_member(c)) {
            continue; /* it knows that it has left; to name a chain without a row asks for that */
        }
        /* R5: it shows nothing, and takes nothing new. */
        bool gone = w->failed || w->stopping || c->refused;
        uint8_t report = gone ? (uint8_t)PROTO_REPORT_GONE : c->report;
        k->reports[count++] = (struct proto_chain_report){.chain = c->id,
                                                          .epoch = c->row.epoch,
                                                          .report = report,
                                                          .synced_epoch = c->synced_epoch,
                                                          .held = control_held(w, c)};
    }
    k->beat.chains = (struct proto_chain_report_list){.at = k->reports, .count = count};
    return 0;
}

static void control_beat(struct datanode_control *k)
{
    struct datanode_worker *w = worker_of(k);
    if (k->target == 0 || w->closing) {
        return;
    }
    if (k->beating) {
        k->beat_again = true;
        return;
    }
    struct chunk_store_info info;
    chunk_store_info(w->store, &info);
    datanode_sick_words(w, k->sick);
    size_t suspects = datanode_neighbors_suspects(w, k->suspects, ARRAY_COUNT(k->suspects));
    size_t dead = control_dead(k), first = base_min(dead, DATANODE_DEAD_FIRST);
    k->beat = (struct proto_heartbeat_request){
        .target = k->target,
        .incarnation = w->incarnation,
        .suspects = {.at = k->suspects, .count = suspects},
        .total = info.total_bytes,
        .free = info.free_bytes,
        .used = info.used_bytes,
        .low_space = info.low,
        .damaged = (uint32_t)base_min(info.damaged_count, UINT32_MAX),
        .dead = {.at = k->dead_ids, .count = first},
        .sick = proto_bytes_text(k->sick),
        .more_dead = {.at = k->dead_ids + first, .count = dead - first}};
    if (control_reports(k) < 0) {
        return; /* the next one may have memory */
    }
    k->beating = true;
    k->leaving = w->stopping;
    k->beat_call = (struct peer_call){.done = control_beaten,
                                      .request = &k->beat,
                                      .opcode = PROTO_OP_heartbeat,
                                      .flags = PEER_CALL_AGAIN,
                                      .timeout_ms = (uint32_t)base_max(k->lease_ms / 2, 1)};
    peer_call(k->peer, &k->beat_call);
}

static void control_beat_tick(struct loop_timer *t)
{
    struct datanode_control *k = container_of(t, struct datanode_control, beat_timer);
    struct datanode_worker *w = worker_of(k);
    loop_timer_lazy_in(w->loop, t, base_max(k->heartbeat_ms, 1) * NS_PER_MS);
    stats_gauge_set(&w->counters.lease, datanode_leased(w) ? 1 : 0);
    datanode_sick_tick(w);
    datanode_neighbors_tick(w);
    datanode_chains_tick(w);
    datanode_reporter_tick(w);
    control_beat(k);
}

static void control_beat_soon(struct loop_task *t)
{
    control_beat(container_of(t, struct datanode_control, beat_soon));
}

void datanode_control_report(struct datanode_worker *w)
{
    if (w->control.peer == NULL) {
        return; /* its store is not started: there is nobody to tell yet */
    }
    if (!w->closing) {
        loop_defer(w->loop, &w->control.beat_soon);
    }
}

/* ---- Where targets are ---- */

static void map_target(struct datanode_worker *w, const struct proto_target *t)
{
    struct dict_node *node = dict_find(&w->neighbors, dict_hash_u64(&w->neighbors, t->id), &t->id);
    if (node != NULL && t->address.len > 0) {
        datanode_neighbor_set_address(container_of(node, struct datanode_neighbor, node),
                                      t->address);
    }
}

static void control_mapped(struct peer_call *c, const struct peer_reply *r)
{
    struct datanode_control *k = container_of(c, struct datanode_control, map_call);
    struct datanode_worker *w = worker_of(k);
    const struct proto_cluster_map_reply *m = r->body;
    k->mapping = false;
    if (r->rc == 0) {
        k->map_epoch = m->epoch;
    }
    for (size_t i = 0; r->rc == 0 && i < m->targets.count; i++) {
        map_target(w, &m->targets.at[i]);
    }
    if (r->rc < 0 || k->map_wanted) {
        k->map_wanted = false;
        loop_timer_in(w->loop, &k->map_timer, MAP_PAUSE_MS * NS_PER_MS);
    }
}

static void control_map(struct loop_timer *t)
{
    struct datanode_control *k = container_of(t, struct datanode_control, map_timer);
    if (k->mapping || worker_of(k)->closing) {
        return;
    }
    k->mapping = true;
    k->map_wanted = false;
    k->map = (struct proto_cluster_map_request){0};
    k->map_call = (struct peer_call){.done = control_mapped,
                                     .request = &k->map,
                                     .opcode = PROTO_OP_cluster_map,
                                     .flags = PEER_CALL_AGAIN};
    peer_call(k->peer, &k->map_call);
}

void datanode_control_want_map(struct datanode_worker *w)
{
    struct datanode_control *k = &w->control;
    if (k->mapping) {
        k->map_wanted = true;
    } else if (!loop_timer_active(&k->map_timer) && !w->closing) {
        loop_timer_in(w->loop, &k->map_timer, NS_PER_MS);
    }
}

/* ---- What the leader says by itself ---- */

static void control_on_row(struct peer_user *user, struct peer_link *l, const void *body)
{
    (void)l;
    struct datanode_control *k = container_of(user, struct datanode_control, user);
    const struct proto_row_changed_push *m = body;
    const struct proto_row_list rows = {.at = (struct proto_row[]){m->row}, .count = 1};
    if (k->registered_once) {
        take_rows(worker_of(k), &rows, false);
    }
}

static void control_on_revoke(struct peer_user *user, struct peer_request *r)
{
    datanode_on_revoke(worker_of(container_of(user, struct datanode_control, user)), r);
}

static void control_on_fence(struct peer_user *user, struct peer_request *r)
{
    datanode_on_fence(worker_of(container_of(user, struct datanode_control, user)), r);
}

static void control_on_remove(struct peer_user *user, struct peer_request *r)
{
    datanode_on_remove(worker_of(container_of(user, struct datanode_control, user)), r);
}

/* Truncation: the leader looks for what lies behind the new end, and cuts it. */
static void control_on_stat(struct peer_user *user, struct peer_request *r)
{
    datanode_on_stat(&worker_of(container_of(user, struct datanode_control, user))->user, r);
}

static void control_on_write(struct peer_user *user, struct peer_request *r)
{
    datanode_on_write(&worker_of(container_of(user, struct datanode_control, user))->user, r);
}

static void control_on_inventory(struct peer_user *user, struct peer_request *r)
{
    datanode_on_inventory(&worker_of(container_of(user, struct datanode_control, user))->user, r);
}

static const struct peer_handler control_handlers[] = {
    {.opcode = PROTO_OP_row_changed, .push = control_on_row},
    {.opcode = PROTO_OP_revoke, .request = control_on_revoke},
    {.opcode = PROTO_OP_fence, .request = control_on_fence},
    {.opcode = PROTO_OP_remove, .request = control_on_remove},
    {.opcode = PROTO_OP_stat, .request = control_on_stat},
    {.opcode = PROTO_OP_write, .request = control_on_write},
    {.opcode = PROTO_OP_inventory, .request = control_on_inventory},
};

static void control_up(struct peer_user *user, struct peer_link *l)
{
    (void)l;
    struct datanode_control *k = container_of(user, struct datanode_control, user);
    if (k->target == 0) {
        control_register(k);
    } else {
        datanode_control_report(worker_of(k));
    }
}

static void control_down(struct peer_user *user, struct peer_link *l, int rc, const char *reason)
{
    (void)l;
    struct datanode_control *k = container_of(user, struct datanode_control, user);
    log_info(worker_of(k)->env.log, "link to the metadata server has ended", LOG_RC(rc),
             LOG_TEXT("reason", reason));
}

static const struct peer_user_ops control_ops = {.up = control_up, .down = control_down};

int datanode_control_start(struct datanode_worker *w)
{
    struct datanode_control *k = &w->control;
    k->user.ops = &control_ops;
    k->lease_ms = DEFAULT_LEASE_MS;
    k->heartbeat_ms = DEFAULT_LEASE_MS / 10;
    k->beat_timer.fire = control_beat_tick;
    k->register_timer.fire = control_register_again;
    k->map_timer.fire = control_map;
    k->beat_soon.run = control_beat_soon;
    datanode_reporter_init(w);
    const struct peer_options opt = {.env = &w->env,
                                     .user = &k->user,
                                     .handlers = control_handlers,
                                     .handler_count = ARRAY_COUNT(control_handlers),
                                     .secrets = w->opt.secrets,
                                     .cluster_id = w->opt.cluster_id,
                                     .role = PROTO_ROLE_TARGET,
                                     .name = w->name,
                                     .addresses = w->meta,
                                     .address_count = w->opt.meta_count,
                                     .wants_leader = true,
                                     .generation = w->incarnation};
    int rc = peer_new(&opt, &k->peer);
    if (rc < 0) {
        return rc;
    }
    peer_start(k->peer);
    loop_timer_in(w->loop, &k->beat_timer, NS_PER_MS);
    return 0;
}

void datanode_control_free(struct datanode_worker *w)
{
    struct datanode_control *k = &w->control;
    k->peer = peer_free(k->peer); /* ends what is under way, which may set timers once more */
    loop_timer_cancel(w->loop, &k->beat_timer);
    loop_timer_cancel(w->loop, &k->register_timer);
    loop_timer_cancel(w->loop, &k->map_timer);
    loop_undefer(w->loop, &k->beat_soon);
    datanode_reporter_fini(w);
    mem_free(k->reports);
    k->reports = NULL;
}
