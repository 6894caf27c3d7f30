/*
 * datanode/worker.c -- a worker's assembly: store, server, control; its end; what does not belong
 * to one chain.
 */
#include "datanode/worker.h"

#include "chunk/look.h"
#include "datanode/blocks.h"
#include "datanode/inventory.h"
#include "datanode/remove.h"
#include "datanode/repair.h"
#include "datanode/resync.h"
#include "datanode/stream.h"
#include "datanode/worker_priv.h"
#include "wire/frame.h"

#define DEFAULT_WEIGHT 100u
#define DEFAULT_BUFFER_BYTES (UINT64_C(256) << 20)
#define DEFAULT_STREAM_BYTES (UINT64_C(64) << 20)
#define DEFAULT_READ_BYTES (UINT64_C(1) << 30)
#define DEFAULT_DEAD_KEEP_MS (UINT64_C(24) * 3600 * 1000)
#define DEFAULT_UPDATES 1024u
#define DEFAULT_SEND_LIMIT_MS 60000u
#define KEEPALIVE_MAX_MS 5000u
#define STOP_POLL_NS (5 * NS_PER_MS)
#define LEAVE_NS (1000 * NS_PER_MS) /* the leader has so long to hear that this worker stops */

/* ---- What several files use ---- */

void datanode_refuse(struct peer_request *r, int rc, const struct datanode_chain *c)
{
    struct proto_member members[CLUSTER_MEMBERS_MAX];
    struct proto_failure f = {.text = proto_bytes_text(err_text(rc))};
    struct cluster_row_rest rest;
    if (rc == -ERR_stale_epoch && c != NULL) {
        cluster_row_to_proto(&c->row, members, &f.row);
        cluster_row_rest_to_proto(&c->row, &rest, &f.row);
    }
    peer_request_fail(r, rc, &f);
}

int datanode_lookup(struct datanode_worker *w, struct chunk_key key, struct chunk_info *ret)
{
    int rc = chunk_store_lookup(w->store, key, ret);
    if (rc == -ENOENT) {
        *ret = (struct chunk_info){.key = key};
        return 0;
    }
    return rc;
}

int datanode_lookup_locked(struct datanode_worker *w, struct chunk_key key, struct chunk_info *ret)
{
    int rc = datanode_lookup(w, key, ret);
    return rc == -ERR_need || rc == -ENOMEM ? -ERR_busy : rc;
}

/* ---- What the store says ---- */

static void worker_fail(struct loop_task *t)
{
    struct datanode_worker *w = container_of(t, struct datanode_worker, fail_task);
    w->opt.user->ops->failed(w->opt.user, w->fail_rc, w->fail_reason);
}

void datanode_worker_fail(struct datanode_worker *w, int rc, const char *reason)
{
    if (w->failed) {
        return;
    }
    w->failed = true;
    w->fail_rc = rc;
    struct text text;
    text_init(&text, w->fail_reason, sizeof w->fail_reason);
    text_add(&text, "%s", reason == NULL ? "" : reason);
    w->fail_task.run = worker_fail;
    loop_defer(w->loop, &w->fail_task);
    datanode_control_report(w);
}

/* Section 8.3: the page cache is not to be trusted again. */
static void worker_store_failed(struct chunk_user *u, int rc, const char *reason)
{
    struct datanode_worker *w = container_of(u, struct datanode_worker, store_user);
    if (w->failed) {
        return;
    }
    log_error(w->env.log, "the disk has failed", LOG_RC(rc), LOG_TEXT("reason", reason));
    datanode_worker_fail(w, rc, reason);
    datanode_report_failed(w);
}

static void worker_store_damaged(struct chunk_user *u, struct chunk_key key)
{
    struct datanode_worker *w = container_of(u, struct datanode_worker, store_user);
    struct chunk_info info;
    stats_count(&w->counters.corrupt, 1);
    datanode_blocks_forget(w->blocks, key);
    log_error(w->env.log, "chunk is damaged", LOG_U64("data", key.data_id),
              LOG_U64("index", key.index));
    if (w->closing || chunk_store_lookup(w->store, key, &info) < 0) {
        return;
    }
    struct datanode_chain *c = datanode_chain_find(w, info.chain);
    datanode_report_damage(w, info.chain, key, PROTO_DAMAGE_FOUND);
    if (c != NULL && c->in_path && c->state == PROTO_MEMBER_SERVING) {
        datanode_repair_key(c, key);
    }
    datanode_repair_watch(w);
    datanode_repair_found(w);
    datanode_control_report(w);
}

static const struct chunk_user_ops store_ops = {.failed = worker_store_failed,
                                                .damaged = worker_store_damaged};

static void lossy_cleared(struct chunk_change *c, int rc)
{
    struct datanode_worker *w = container_of(c, struct datanode_worker, lossy);
    (void)rc; /* asked again with the next row */
    w->lossy_busy = false;
}

void datanode_lossy_check(struct datanode_worker *w)
{
    struct chunk_store_info info;
    chunk_store_info(w->store, &info);
    /* Without a lease the rows may be those from before the start (R4): then it is not known yet
     * whether loss_gen has to rise. */
    if (!info.lossy || w->lossy_busy || !datanode_leased(w) ||
        w->opt.engine == DATANODE_ENGINE_RAM) {
        return;
    }
    LIST_FOR_EACH(at, &w->chain_list)
    {
        const struct datanode_chain *c = LIST_ENTRY(at, struct datanode_chain, all);
        bool member = datanode_chain_takes_part(c);
        bool whole =
            c->in_path && (c->state == PROTO_MEMBER_SERVING || c->synced_epoch == c->row.epoch);
        if (member && !whole) {
            return;
        }
    }
    w->lossy_busy = true;
    w->lossy = (struct chunk_change){.done = lossy_cleared, .op = CHUNK_CLEAR_LOSSY};
    chunk_store_change(w->store, &w->lossy);
}

/* ---- The server ---- */

static void worker_on_ping(struct peer_user *user, struct peer_request *r)
{
    (void)user;
    const struct proto_ping_request *m = r->body;
    const struct proto_ping_reply reply = {.cookie = m->cookie};
    peer_request_answer(r, &reply, NULL);
}

static void worker_on_fence(struct peer_user *user, struct peer_request *r)
{
    datanode_on_fence(datanode_worker_of(user), r);
}

static void worker_on_revoke(struct peer_user *user, struct peer_request *r)
{
    datanode_on_revoke(datanode_worker_of(user), r);
}

static void worker_on_row(struct peer_user *user, struct peer_link *l, const void *body)
{
    (void)l;
    struct datanode_worker *w = datanode_worker_of(user);
    const struct proto_row_changed_push *m = body;
    if (w->control.registered_once) {
        (void)datanode_chain_take(w, &m->row, false);
    }
}

static void worker_up(struct peer_user *user, struct peer_link *l)
{
    (void)user;
    (void)l;
}

static void worker_down(struct peer_user *user, struct peer_link *l, int rc, const char *reason)
{
    (void)user;
    (void)rc;
    (void)reason;
    datanode_admit_down(l);
}

static const struct peer_user_ops server_ops = {.up = worker_up, .down = worker_down};
static const struct peer_handler server_handlers[] = {
    {.opcode = PROTO_OP_ping, .request = worker_on_ping},
    {.opcode = PROTO_OP_write, .request = datanode_on_write},
    {.opcode = PROTO_OP_read, .request = datanode_on_read},
    {.opcode = PROTO_OP_read_batch, .request = datanode_on_read_batch},
    {.opcode = PROTO_OP_sync, .request = datanode_on_sync},
    {.opcode = PROTO_OP_stat, .request = datanode_on_stat},
    {.opcode = PROTO_OP_extents, .request = datanode_on_extents},
    {.opcode = PROTO_OP_forward, .request = datanode_on_forward},
    {.opcode = PROTO_OP_forward_trailer, .push = datanode_on_trailer},
    {.opcode = PROTO_OP_remove, .request = datanode_on_remove_member},
    {.opcode = PROTO_OP_sync_begin, .request = datanode_on_sync_begin},
    {.opcode = PROTO_OP_index, .request = datanode_on_index},
    {.opcode = PROTO_OP_copy, .request = datanode_on_copy},
    {.opcode = PROTO_OP_drop, .request = datanode_on_drop},
    {.opcode = PROTO_OP_sync_end, .request = datanode_on_sync_end},
    {.opcode = PROTO_OP_fetch, .request = datanode_on_fetch},
    {.opcode = PROTO_OP_fence, .request = worker_on_fence},
    {.opcode = PROTO_OP_revoke, .request = worker_on_revoke},
    {.opcode = PROTO_OP_inventory, .request = datanode_on_inventory},
    {.opcode = PROTO_OP_row_changed, .push = worker_on_row},
    {.opcode = PROTO_OP_stats, .request = datanode_on_stats},
};

static int worker_serve(struct datanode_worker *w, struct err *e)
{
    /* Peers are looked at with each keep-alive, what is left of one does not count: who takes
     * nothing is seen one of them after `stall_ms`, who is silent behind four whole ones. */
    uint64_t look_ms = base_min(w->opt.send_limit_ms / 5, KEEPALIVE_MAX_MS);
    const struct peer_server_options opt = {.env = &w->env,
                                            .user = &w->user,
                                            .handlers = server_handlers,
                                            .handler_count = ARRAY_COUNT(server_handlers),
                                            .secrets = w->opt.secrets,
                                            .cluster_id = w->opt.cluster_id,
                                            .role = PROTO_ROLE_TARGET,
                                            .name = w->name,
                                            .pool = w->pool,
                                            .keepalive_ms = look_ms,
                                            .stall_ms = w->opt.send_limit_ms - look_ms,
                                            .member_pool = w->member_pool};
    w->user.ops = &server_ops;
    int rc = peer_server_new(&opt, &w->server);
    if (rc < 0) {
        return rc;
    }
    if (w->opt.listen_fd > 0) {
        rc = peer_server_listen_fd(w->server, w->opt.listen_fd);
        return rc < 0 ? err_set(e, rc, "inherited descriptor %d", w->opt.listen_fd) : 0;
    }
    return peer_server_listen(w->server, &w->opt.listen, e);
}

/* ---- Start ---- */

static void copy_text(char *to, size_t size, const char *from)
{
    struct text t;
    text_init(&t, to, size);
    text_add(&t, "%s", from == NULL ? "" : from);
}

static int worker_options(struct datanode_worker *w, const struct datanode_worker_options *opt,
                          struct err *e)
{
    w->opt = *opt;
    w->env = *opt->env;
    w->loop = opt->env->loop;
    if (opt->meta_count == 0 || opt->meta_count > DATANODE_META_MAX) {
        return err_set(e, -ERR_config, "%zu metadata servers", opt->meta_count);
    }
    memcpy(w->meta, opt->meta, opt->meta_count * sizeof w->meta[0]);
    copy_text(w->host, sizeof w->host, opt->host);
    copy_text(w->rack, sizeof w->rack, opt->rack);
    copy_text(w->labels, sizeof w->labels, opt->labels);
    copy_text(w->name, sizeof w->name, opt->name == NULL ? "target" : opt->name);
    w->opt.weight = opt->weight == 0 ? DEFAULT_WEIGHT : opt->weight;
    w->opt.max_updates = opt->max_updates == 0 ? DEFAULT_UPDATES : opt->max_updates;
    w->opt.dead_keep_ms = opt->dead_keep_ms == 0 ? DEFAULT_DEAD_KEEP_MS : opt->dead_keep_ms;
    w->opt.buffer_bytes = opt->buffer_bytes == 0 ? DEFAULT_BUFFER_BYTES : opt->buffer_bytes;
    w->opt.stream_bytes = opt->stream_bytes == 0 ? DEFAULT_STREAM_BYTES : opt->stream_bytes;
    w->opt.send_limit_ms = opt->send_limit_ms == 0 ? DEFAULT_SEND_LIMIT_MS : opt->send_limit_ms;
    w->opt.max_reads = opt->max_reads == 0 ? DATANODE_READS_MAX : opt->max_reads;
    w->opt.max_read_bytes = opt->max_read_bytes == 0 ? DEFAULT_READ_BYTES : opt->max_read_bytes;
    return 0;
}

static int worker_format(struct datanode_worker *w, const struct chunk_options *opt, struct err *e)
{
    struct chunk_format_options format = {0};
    struct err ignored = {0};
    if (!w->opt.format || w->opt.engine == DATANODE_ENGINE_RAM) {
        return 0;
    }
    loop_random_bytes(w->loop, format.target.bytes, sizeof format.target.bytes);
    int rc = chunk_store_format(opt, &format, &ignored);
    return rc < 0 && rc != -ENOTEMPTY ? err_set(e, rc, "%s", err_message(&ignored, rc)) : 0;
}

/* What the directory was made with, where nobody says what it should be. */
static int worker_find_engine(struct datanode_worker *w, struct err *e)
{
    struct chunk_looked looked = {0};
    if (w->opt.engine != DATANODE_ENGINE_DEFAULT) {
        return 0;
    }
    int rc = chunk_store_look(w->env.disk, w->opt.directory, &looked, e);
    w->opt.engine =
        looked.engine == CHUNK_ENGINE_FILE ? DATANODE_ENGINE_FILE : DATANODE_ENGINE_EXTENT;
    return rc;
}

static enum chunk_engine worker_engine(const struct datanode_worker *w)
{
    static const enum chunk_engine engine[] = {[DATANODE_ENGINE_DEFAULT] = CHUNK_ENGINE_EXTENT,
                                               [DATANODE_ENGINE_FILE] = CHUNK_ENGINE_FILE,
                                               [DATANODE_ENGINE_RAM] = CHUNK_ENGINE_RAM,
                                               [DATANODE_ENGINE_EXTENT] = CHUNK_ENGINE_EXTENT};
    CHECK((size_t)w->opt.engine < ARRAY_COUNT(engine));
    return engine[w->opt.engine];
}

static int worker_open_store(struct datanode_worker *w, struct err *e)
{
    struct chunk_options opt = {.env = &w->env,
                                .engine = worker_engine(w),
                                .directory = w->opt.directory,
                                .device = w->opt.device,
                                .cluster = w->opt.cluster_id,
                                .user = &w->store_user,
                                .ram_bytes = w->opt.ram_bytes,
                                .low_bytes = w->opt.low_bytes,
                                .rest_ms = w->opt.rest_ms,
                                .index_bytes = w->opt.index_bytes,
                                .entry_bytes = w->opt.entry_bytes};
    int rc = worker_format(w, &opt, e);
    rc = rc < 0 ? rc : worker_find_engine(w, e);
    if (rc < 0) {
        return rc;
    }
    opt.engine = worker_engine(w);
    rc = chunk_store_open(&opt, &w->store, e);
    if (rc < 0) {
        return rc;
    }
    struct chunk_store_info info;
    chunk_store_info(w->store, &info);
    w->uuid = info.target;
    w->incarnation = info.incarnation;
    return 0;
}

static void worker_containers(struct datanode_worker *w)
{
    dict_init(&w->chains, &datanode_chain_ops, w, loop_random(w->loop));
    dict_init(&w->items, &datanode_item_ops, w, loop_random(w->loop));
    dict_init(&w->neighbors, &datanode_neighbor_ops, w, loop_random(w->loop));
    list_init(&w->chain_list);
    list_init(&w->neighbor_list);
    list_init(&w->updates);
    list_init(&w->fences);
    list_init(&w->fence_waits);
    list_init(&w->ops);
    list_init(&w->removes);
    list_init(&w->repairs);
    list_init(&w->repairs_new);
    list_init(&w->holds.waits);
    w->store_user.ops = &store_ops;
    datanode_discard_init(w);
}

/* From here on its leader hears of it. */
static void worker_store_started(struct chunk_start *start, int rc)
{
    struct datanode_worker *w = container_of(start, struct datanode_worker, store_start);
    if (w->stopping) {
        return;
    }
    datanode_repair_watch(w); /* what was known to be damaged */
    rc = rc < 0 ? rc : datanode_scrub_start(w);
    rc = rc < 0 ? rc : datanode_control_start(w);
    if (rc < 0) {
        log_error(w->env.log, "the target cannot be started", LOG_RC(rc));
        w->opt.user->ops->failed(w->opt.user, rc, "the target cannot be started");
    }
}

static int worker_take_memory(struct datanode_worker *w)
{
    w->member_bytes = w->opt.buffer_bytes / 2;
    datanode_rate_set(&w->copying, w->opt.move_rate, 0);
    const struct buf_pool_options pool = {.limit_bytes = w->member_bytes,
                                          .max_size = base_align_up(FRAME_DATA_MAX, BUF_ALIGN),
                                          .budget = w->env.budget};
    const struct buf_pool_options answer = {.limit_bytes =
                                                base_max(w->member_bytes / 2, pool.max_size),
                                            .max_size = pool.max_size,
                                            .budget = w->env.budget};
    const struct buf_pool_options stream = {.limit_bytes = w->opt.stream_bytes,
                                            .max_size = DATANODE_STREAM_PART,
                                            .budget = w->env.budget,
                                            .whole = true};
    w->pool = buf_pool_new(&pool);
    w->member_pool = buf_pool_new(&pool);
    w->answer_pool = buf_pool_new(&answer);
    w->stream_pool = buf_pool_new(&stream);
    if (w->pool == NULL || w->member_pool == NULL || w->answer_pool == NULL ||
        w->stream_pool == NULL) {
        return -ENOMEM;
    }
    bool cache = w->opt.cache_bytes > 0 && w->opt.engine != DATANODE_ENGINE_RAM;
    return !cache ? 0
                  : datanode_blocks_new(w->opt.cache_bytes, w->env.budget, w->stats, &w->blocks);
}

static int worker_begin(struct datanode_worker *w, struct err *e)
{
    w->stats = stats_new(w->env.stats, "target");
    datanode_metrics_init(w);
    int rc = worker_take_memory(w);
    rc = rc < 0 ? rc : worker_open_store(w, e);
    rc = rc < 0 ? rc : datanode_holds_open(w, e);
    rc = rc < 0 ? rc : worker_serve(w, e);
    if (rc < 0) {
        return rc;
    }
    struct net_address at;
    peer_server_address(w->server, &at);
    copy_text(w->advertise, sizeof w->advertise,
              w->opt.advertise == NULL ? at.text : w->opt.advertise);
    datanode_repair_watch(w);
    datanode_sick_start(w);
    w->store_start.done = worker_store_started;
    chunk_store_start(w->store, &w->store_start);
    return 0;
}

int datanode_worker_start(const struct datanode_worker_options *opt, struct datanode_worker **ret,
                          struct err *e)
{
    struct datanode_worker *w = mem_zalloc(sizeof *w);
    if (w == NULL) {
        return -ENOMEM;
    }
    int rc = worker_options(w, opt, e);
    worker_containers(w);
    if (rc == 0) {
        rc = worker_begin(w, e);
    }
    if (rc < 0) {
        datanode_worker_free(w);
        return rc;
    }
    *ret = w;
    return 0;
}

/* ---- Memory that the disk knows ---- */

static void lend_piece(struct datanode_worker *w, const char *what, void *at, size_t len)
{
    int rc = at == NULL ? 0 : disk_lend(w->env.disk, at, len);
    if (rc < 0 && rc != -EOPNOTSUPP) { /* no io_uring: nothing to be told */
        log_info(w->env.log, "the kernel does not keep memory for reads at hand: they go without",
                 LOG_RC(rc), LOG_TEXT("memory", what), LOG_U64("bytes", len));
    }
}

/* Not before, since all of it is in use from then on. */
void datanode_worker_lend(struct datanode_worker *w)
{
    size_t len = 0;
    if (w->lent) {
        return;
    }
    w->lent = true;
    void *at = w->blocks == NULL ? NULL : datanode_blocks_memory(w->blocks, &len);
    lend_piece(w, "cache", at, len);
    at = buf_pool_memory(w->stream_pool, &len);
    lend_piece(w, "stream", at, len);
}

static void worker_unlend(struct datanode_worker *w)
{
    size_t len;
    if (w->lent) {
        disk_unlend(w->env.disk, buf_pool_memory(w->stream_pool, &len));
        if (w->blocks != NULL) {
            disk_unlend(w->env.disk, datanode_blocks_memory(w->blocks, &len));
        }
    }
}

/* ---- End ---- */

static bool worker_busy(const struct datanode_worker *w)
{
    return w->update_count + w->op_count + w->remove_count + w->read_count + w->sink_count +
                   w->repair_count >
               0 ||
           w->lossy_busy || w->holds.busy || w->control.forgetting || datanode_discard_busy(w) ||
           chunk_scrub_active(w->scrub.scrub);
}

/* Everything ends as if no row named this target any more. */
static void worker_leave_chains(struct datanode_worker *w)
{
    LIST_FOR_EACH(at, &w->chain_list)
    {
        datanode_chain_leave(LIST_ENTRY(at, struct datanode_chain, all));
    }
}

static void worker_stopped(struct chunk_stop *s, int rc)
{
    struct datanode_worker *w = container_of(s, struct datanode_worker, store_stop);
    w->opt.user->ops->stopped(w->opt.user, rc);
}

static void worker_stop_store(struct datanode_worker *w)
{
    w->closing = true;
    datanode_repair_unwatch(w);
    datanode_discard_fini(w);
    if (w->control.peer != NULL) {
        datanode_control_free(w);
    }
    datanode_neighbors_free(w);
    w->store_stop.done = worker_stopped;
    chunk_store_stop(w->store, &w->store_stop);
}

static void worker_stop_poll(struct loop_timer *t)
{
    struct datanode_worker *w = container_of(t, struct datanode_worker, stop_timer);
    bool late = loop_now_ns(w->loop) >= w->stop_at_ns;
    bool told = w->control.left || w->control.target == 0 || w->chains.count == 0 || late ||
                loop_now_ns(w->loop) >= w->stopping_ns + LEAVE_NS;
    if (!worker_busy(w) && w->served && told) {
        worker_stop_store(w);
        return;
    }
    if (!w->left && (late || (!worker_busy(w) && told))) {
        w->left = true;
        worker_leave_chains(w);
        datanode_repairs_end(w);
    }
    loop_timer_in(w->loop, t, STOP_POLL_NS);
}

static void worker_served(struct peer_user *user)
{
    datanode_worker_of(user)->served = true;
}

void datanode_worker_stop(struct datanode_worker *w, uint64_t limit_ms)
{
    CHECK(!w->stopping);
    w->stopping = true;
    w->stopping_ns = loop_now_ns(w->loop);
    w->stop_at_ns = w->stopping_ns + limit_ms * NS_PER_MS;
    w->stop_timer.fire = worker_stop_poll;
    datanode_fences_free(w);
    datanode_scrub_stop(w);
    datanode_control_report(w); /* nobody has to wait until the lease is over */
    peer_server_stop(w->server, limit_ms + 1000, worker_served);
    loop_timer_in(w->loop, &w->stop_timer, STOP_POLL_NS);
}

struct datanode_worker *datanode_worker_free(struct datanode_worker *w)
{
    if (w == NULL) {
        return NULL;
    }
    w->closing = true;
    w->left = true;
    if (w->control.peer != NULL) {
        datanode_control_free(w);
    }
    datanode_neighbors_free(w);
    CHECK(!worker_busy(w));
    datanode_fences_free(w);
    datanode_discard_fini(w);
    datanode_holds_close(w);
    loop_timer_cancel(w->loop, &w->stop_timer);
    loop_undefer(w->loop, &w->fail_task);
    loop_undefer(w->loop, &w->repair_task);
    datanode_repair_unwatch(w);
    w->server = peer_server_free(w->server);
    dict_fini(&w->neighbors);
    dict_fini(&w->chains);
    dict_fini(&w->items);
    datanode_scrub_free(w);
    w->store = chunk_store_free(w->store);
    datanode_sick_end(w);
    w->pool = buf_pool_free(w->pool);
    w->member_pool = buf_pool_free(w->member_pool);
    w->answer_pool = buf_pool_free(w->answer_pool);
    worker_unlend(w);
    w->stream_pool = buf_pool_free(w->stream_pool);
    w->blocks = datanode_blocks_free(w->blocks);
    w->stats = stats_free(w->stats);
    mem_free(w);
    return NULL;
}

/* ---- Questions ---- */

void datanode_worker_address(const struct datanode_worker *w, struct net_address *ret)
{
    peer_server_address(w->server, ret);
}

static bool worker_settled(const struct datanode_worker *w)
{
    LIST_FOR_EACH(at, &w->chain_list)
    {
        const struct datanode_chain *c = LIST_ENTRY(at, struct datanode_chain, all);
        bool member = datanode_chain_takes_part(c);
        if (member && (!c->in_path || c->state != PROTO_MEMBER_SERVING)) {
            return false;
        }
    }
    return w->control.registered_once && datanode_leased(w);
}

void datanode_worker_info(const struct datanode_worker *w, struct datanode_worker_info *ret)
{
    struct chunk_store_info info;
    chunk_store_info(w->store, &info);
    *ret = (struct datanode_worker_info){.uuid = info.target,
                                         .incarnation = info.incarnation,
                                         .target = w->control.target,
                                         .leased = datanode_leased(w),
                                         .settled = worker_settled(w),
                                         .update_count = w->update_count,
                                         .total_bytes = info.total_bytes,
                                         .free_bytes = info.free_bytes,
                                         .used_bytes = info.used_bytes,
                                         .chunk_count = info.chunk_count,
                                         .damaged_count = info.damaged_count,
                                         .failed = info.failed,
                                         .sick = w->sick.health.sick};
    LIST_FOR_EACH(at, &w->chain_list)
    {
        const struct datanode_chain *c = LIST_ENTRY(at, struct datanode_chain, all);
        ret->chain_count += datanode_chain_is_member(c) ? 1U : 0U;
        ret->serving_count += c->in_path && c->state == PROTO_MEMBER_SERVING ? 1U : 0U;
        ret->syncing_count += c->in_path && c->state == PROTO_MEMBER_SYNCING ? 1U : 0U;
    }
}

size_t datanode_worker_chains(const struct datanode_worker *w, struct datanode_worker_chain *ret,
                              size_t max)
{
    size_t count = 0;
    LIST_FOR_EACH(at, &w->chain_list)
    {
        const struct datanode_chain *c = LIST_ENTRY(at, struct datanode_chain, all);
        if (count < max && c->row.epoch != 0) {
            ret[count++] = (struct datanode_worker_chain){
                .row = c->row, .in_path = c->in_path, .serves = datanode_chain_serves(c)};
        }
    }
    return count;
}

struct chunk_store *datanode_worker_store(struct datanode_worker *w)
{
    return w->store;
}
