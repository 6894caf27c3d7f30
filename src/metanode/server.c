/*
 * metanode/server.c -- puts the server together and takes it apart.
 *
 * Start: directory, state, log, listener; then the engine applies the log (REPLAYING), leads, the
 * leader's memory is filled (LOADING, load.c), and requests are answered (SERVING). End: requests
 * in progress are answered, the log is closed, the engine's work ends, everything is freed.
 */
#include "metanode/metanode_priv.h"

#include <stdio.h>

#include "base/log.h"

#define METANODE_LEASE_MS 10000u
#define METANODE_KEEP_MS (UINT64_C(24) * 3600 * 1000)
#define METANODE_RESERVE_BYTES (UINT64_C(48) << 20)          /* of the disk, for the log */
#define SERVER_LOOK_NS (UINT64_C(1000) * METANODE_NS_PER_MS) /* at the engine */
#define SERVER_SEND_BYTES                                                                   \
    (4u << 20)                 /* answers that a client has not taken; then it is not heard \
                                */
#define SERVER_STALL_MS 30000u /* it has taken none for so long: it is let go */

static void server_up(struct peer_user *u, struct peer_link *l)
{
    (void)u;
    (void)l;
}

static void server_down(struct peer_user *u, struct peer_link *l, int rc, const char *reason)
{
    struct metanode *m = metanode_of(u);
    if (rc == -ETIMEDOUT) {
        log_warn(m->env->log, "a connection is closed", LOG_TEXT("peer", l->name),
                 LOG_U64("session", l->session), LOG_TEXT("reason", reason), LOG_RC(rc));
    } else {
        log_debug(m->env->log, "link ended", LOG_TEXT("peer", l->name), LOG_TEXT("reason", reason),
                  LOG_RC(rc));
    }
    metanode_session_down(m, l);
    metanode_target_down(m, l);
}

static const struct peer_user_ops server_peer_ops = {.up = server_up, .down = server_down};

static uint64_t server_or(uint64_t v, uint64_t otherwise)
{
    return v == 0 ? otherwise : v;
}

static int server_options(struct metanode *m, const struct metanode_options *opt)
{
    m->opt = *opt;
    m->opt.lease_ms = server_or(opt->lease_ms, METANODE_LEASE_MS);
    m->opt.heartbeat_ms = server_or(opt->heartbeat_ms, base_max(m->opt.lease_ms / 10, 1));
    m->opt.dark_wait_ms = server_or(opt->dark_wait_ms, 60000);
    m->opt.rebuild_ms = server_or(opt->rebuild_ms, 600000);
    m->opt.moves = (uint32_t)server_or(opt->moves, 2);
    m->opt.table_quiet_ms = server_or(opt->table_quiet_ms, 1000);
    m->opt.session_keep_ms = server_or(opt->session_keep_ms, METANODE_KEEP_MS);
    m->opt.copies = (uint32_t)server_or(opt->copies, 2);
    m->opt.chunk_bytes = (uint32_t)server_or(opt->chunk_bytes, 4u << 20);
    m->opt.inline_bytes = (uint32_t)server_or(opt->inline_bytes, NAMESPACE_INLINE_DEFAULT);
    m->opt.memory_bytes = server_or(opt->memory_bytes, METANODE_MEMORY_BYTES);
    m->opt.mutations_max = server_or(opt->mutations_max, METANODE_MUTATIONS_MAX);
    m->opt.root_mode = (uint32_t)server_or(opt->root_mode, 0755);
    m->directory = mem_strdup(opt->directory);
    m->name = mem_strdup(opt->name == NULL ? "meta" : opt->name);
    m->cluster_name = mem_strdup(opt->cluster_name == NULL ? "" : opt->cluster_name);
    m->opt.directory = m->directory;
    m->opt.name = m->name;
    m->opt.cluster_name = m->cluster_name;
    m->opt.secrets = NULL;
    m->opt.listen = NULL;
    m->opt.advertise = NULL;
    m->secrets = *opt->secrets;
    memcpy(m->secret.bytes, opt->secrets->server.bytes, sizeof m->secret.bytes);
    return m->directory == NULL || m->name == NULL || m->cluster_name == NULL ? -ENOMEM : 0;
}

static int server_state(struct metanode *m, struct err *e)
{
    struct metanode_engine_options o = {.env = m->env,
                                        .directory = m->opt.directory,
                                        .kind = m->opt.engine,
                                        .cache_bytes = m->opt.cache_bytes,
                                        .owner = m->opt.cluster_id.bytes,
                                        .budget = &m->memory.state,
                                        .reserve_bytes = METANODE_RESERVE_BYTES,
                                        .need_permille = m->opt.need_permille,
                                        .busy_permille = m->opt.busy_permille,
                                        .strict = m->opt.strict,
                                        .pretended_cache_bytes = m->opt.pretended_cache_bytes};
    m->scratch = mem_zalloc(sizeof *m->scratch);
    if (m->scratch == NULL) {
        return -ENOMEM;
    }
    kv_batch_init(m->scratch);
    int rc = metanode_engine_open(&m->engine, &o, e);
    m->kv = m->engine.kv;
    struct namespace_options ns = {.kv = m->kv};
    return rc < 0 ? rc : namespace_new(&ns, &m->ns);
}

static int server_listen(struct metanode *m, const struct metanode_options *opt, struct err *e)
{
    struct peer_server_options po = {.env = m->env,
                                     .user = &m->peer_user,
                                     .handlers = metanode_handlers,
                                     .handler_count = metanode_handler_count,
                                     .secrets = m->secrets,
                                     .cluster_id = m->opt.cluster_id,
                                     .role = PROTO_ROLE_META,
                                     .accept_roles = PROTO_ROLE_ANY,
                                     .features = PROTO_FEATURES,
                                     .name = m->opt.name,
                                     .max_connections = m->opt.max_connections,
                                     .max_send_bytes = SERVER_SEND_BYTES,
                                     .stall_ms = SERVER_STALL_MS};
    m->peer_user.ops = &server_peer_ops;
    int rc = peer_server_new(&po, &m->server);
    if (rc < 0) {
        return rc;
    }
    rc = opt->listen_fd > 0 ? peer_server_listen_fd(m->server, opt->listen_fd)
                            : peer_server_listen(m->server, opt->listen, e);
    if (rc < 0) {
        return rc;
    }
    peer_server_address(m->server, &m->address);
    if (opt->advertise != NULL) {
        m->address = *opt->advertise;
    }
    peer_server_set_leader(m->server, 0, "", false);
    return 0;
}

static int server_log(struct metanode *m, bool bootstrap, struct err *e)
{
    CLEANUP(mem_freep) char *directory = mem_printf("%s/log", m->opt.directory);
    struct consensus_voter voter = {.id = 1};
    if (directory == NULL) {
        return -ENOMEM;
    }
    memcpy(voter.address, m->address.text, sizeof voter.address - 1);
    struct consensus_options co = {.env = m->env,
                                   .directory = directory,
                                   .fsm = &m->fsm,
                                   .id = voter.id,
                                   .voters = &voter,
                                   .voter_count = 1,
                                   .bootstrap = bootstrap,
                                   .applied = kv_applied_index(m->kv)};
    memcpy(co.cluster, m->opt.cluster_id.bytes, sizeof co.cluster);
    m->fsm.ops = &metanode_fsm_ops;
    int rc = consensus_open(&co, &m->consensus, e);
    rc = rc == 0 && bootstrap ? metanode_identity_made(m, e) : rc;
    return rc < 0 ? rc : consensus_start(m->consensus, e);
}

static void server_statistics(struct metanode *m)
{
    m->stats = stats_new(m->env->stats, "meta");
    stats_add_counter(m->stats, "mutations", &m->mutations);
    stats_add_counter(m->stats, "queries", &m->queries);
    stats_add_counter(m->stats, "replays", &m->replays);
    stats_add_counter(m->stats, "refused", &m->refused);
    stats_add_histogram(m->stats, "mutation_ns", &m->mutation_ns);
    stats_add_counter(m->stats, "checkpoints", &m->checkpoints.count);
    stats_add_counter(m->stats, "checkpoint_failures", &m->checkpoints.failures);
    stats_add_histogram(m->stats, "checkpoint_ns", &m->checkpoints.time_ns);
    metanode_memory_statistics(m);
    metanode_turns_statistics(m);
    metanode_grants_statistics(m);
    metanode_gauges_init(m);
    metanode_reports_statistics(m);
}

bool metanode_engine_failed(struct metanode *m)
{
    struct err e = {0};
    char reason[320];
    int rc = kv_failed(m->kv, &e);
    if (rc < 0) {
        (void)snprintf(reason, sizeof reason, "the engine '%s' writes no more: %s",
                       kv_statistics(m->kv).engine, err_message(&e, rc));
        metanode_fail(m, rc, reason);
    }
    return rc < 0;
}

/* It may fail when nobody asks it for anything. */
static void server_look(struct loop_timer *t)
{
    struct metanode *m = container_of(t, struct metanode, engine_look);
    if (!metanode_engine_failed(m)) {
        metanode_checkpoint_look(m);
        loop_timer_in(m->env->loop, t, SERVER_LOOK_NS);
    }
}

int metanode_start(const struct metanode_options *opt, struct metanode **ret, struct err *e)
{
    bool bootstrap = false;
    if (opt->directory == NULL || opt->secrets == NULL || !opt->secrets->server.known ||
        (opt->listen == NULL && opt->listen_fd <= 0) || uuid_is_zero(&opt->cluster_id)) {
        return err_set(e, -ERR_config, "metadata server");
    }
    struct metanode *m = mem_zalloc(sizeof *m);
    if (m == NULL) {
        return -ENOMEM;
    }
    m->env = opt->env;
    m->wall_base_ns = loop_wall_ns(m->env->loop) - metanode_now(m);
    metanode_apply_init(m);
    metanode_memory_init(m);
    metanode_turns_init(m);
    metanode_grants_init(m);
    metanode_shares_init(m);
    metanode_appends_init(m);
    metanode_locks_init(m);
    metanode_writers_init(m);
    metanode_targets_init(m);
    metanode_reports_init(m);
    int rc = server_options(m, opt);
    metanode_checkpoints_init(m);
    rc = rc < 0 ? rc : metanode_sessions_init(m);
    rc = rc < 0 ? rc : metanode_chains_init(m);
    rc = rc < 0 ? rc : metanode_cleanup_init(m);
    rc = rc < 0 ? rc : metanode_identity_open(m, &bootstrap, e);
    rc = rc < 0 ? rc : server_state(m, e);
    if (rc == 0) {
        server_statistics(m);
    }
    rc = rc < 0 ? rc : server_listen(m, opt, e);
    rc = rc < 0 ? rc : server_log(m, bootstrap, e);
    if (rc < 0) {
        metanode_free(m);
        return err_prefix(e, rc, "metadata server");
    }
    log_info(m->env->log, "metadata server starts", LOG_TEXT("directory", m->opt.directory),
             LOG_TEXT("engine", kv_statistics(m->kv).engine), LOG_TEXT("address", m->address.text));
    metanode_space_start(m);
    m->engine_look.fire = server_look;
    loop_timer_in(m->env->loop, &m->engine_look, SERVER_LOOK_NS);
    *ret = m;
    return 0;
}

void metanode_fail(struct metanode *m, int rc, const char *reason)
{
    if (m->phase == METANODE_ENDED) {
        return;
    }
    m->phase = METANODE_ENDED;
    if (rc < 0) {
        log_error(m->env->log, "metadata server cannot go on", LOG_TEXT("reason", reason),
                  LOG_RC(rc));
    }
    if (m->stop == NULL && m->opt.user != NULL) {
        m->opt.user->ops->ended(m->opt.user, rc, reason);
    }
}

bool metanode_leads(struct metanode *m)
{
    return m->phase == METANODE_SERVING && consensus_lease_until_ns(m->consensus) > metanode_now(m);
}

uint64_t metanode_applied_index(const struct metanode *m)
{
    return kv_applied_index(m->kv);
}

bool metanode_is_serving(const struct metanode *m)
{
    return m->phase == METANODE_SERVING;
}

void metanode_address(const struct metanode *m, struct net_address *ret)
{
    *ret = m->address;
}

static void server_ended(struct kv_stop *s)
{
    struct metanode *m = container_of(s, struct metanode, kv_stop);
    m->stop->done(m->stop, m->stop_rc);
}

/* Who waits for a fetch gets it, then sees the phase. */
static void server_measured(struct loop_task *t)
{
    struct metanode *m = container_of(t, struct metanode, space_stopped);
    loop_timer_cancel(m->env->loop, &m->stop_late);
    loop_timer_cancel(m->env->loop, &m->engine_look);
    m->kv_stop.done = server_ended;
    kv_stop(m->kv, &m->kv_stop);
}

static void server_stop_links(struct metanode *m);

static void server_quiet(struct metanode *m)
{
    m->space_stopped.run = server_measured;
    metanode_space_stop(m, &m->space_stopped);
}

static void server_closed(struct consensus_stop *s, int rc)
{
    struct metanode *m = container_of(s, struct metanode, consensus_stop);
    m->phase = METANODE_ENDED;
    m->stop_rc = rc;
    m->log_stopped = true;
    if (m->links_stopped) {
        server_quiet(m);
    } else if (!m->links_stopping) {
        server_stop_links(m);
    }
}

static void server_saved(struct loop_task *t)
{
    struct metanode *m = container_of(t, struct metanode, checkpoints_stopped);
    m->consensus_stop.done = server_closed;
    consensus_stop(m->consensus, &m->consensus_stop);
}

static void server_stop_log(struct metanode *m)
{
    if (m->log_stopping) {
        return;
    }
    m->log_stopping = true;
    m->checkpoints_stopped.run = server_saved;
    metanode_checkpoints_stop(m, &m->checkpoints_stopped);
}

static void server_stopped(struct peer_user *u)
{
    struct metanode *m = metanode_of(u);
    m->links_stopped = true;
    if (m->log_stopped) {
        server_quiet(m);
    } else {
        server_stop_log(m);
    }
}

static void server_stop_links(struct metanode *m)
{
    m->links_stopping = true;
    peer_server_stop(m->server, m->stop_limit_ms, server_stopped);
}

static void server_stop_late(struct loop_timer *t)
{
    server_stop_log(container_of(t, struct metanode, stop_late));
}

/* Requests that wait for the log are answered by it, or, when it is not applied any more, by its
 * end; that is known, or seen when they take too long. */
void metanode_stop(struct metanode *m, struct metanode_stop *s, uint64_t limit_ms)
{
    CHECK(m->stop == NULL);
    m->stop = s;
    m->stop_limit_ms = limit_ms;
    log_info(m->env->log, "metadata server stops");
    metanode_cleanup_stop(m);
    metanode_grants_stop(m);
    if (m->phase == METANODE_ENDED) {
        server_stop_log(m);
        return;
    }
    m->stop_late.fire = server_stop_late;
    loop_timer_in(m->env->loop, &m->stop_late, limit_ms * METANODE_NS_PER_MS);
    server_stop_links(m);
}

struct metanode *metanode_free(struct metanode *m)
{
    if (m == NULL) {
        return NULL;
    }
    m->phase = METANODE_ENDED;
    m->server = peer_server_free(m->server); /* `down` of each link still finds all parts */
    m->consensus = consensus_free(m->consensus);
    metanode_grants_fini(m);
    CHECK(m->reads == 0 && !m->apply.fetching && !m->apply.waiting);
    metanode_load_fini(m);
    metanode_cleanup_fini(m);
    metanode_tables_fini(m);
    metanode_moves_fini(m);
    metanode_chains_fini(m);
    metanode_targets_fini(m);
    metanode_reports_fini(m);
    metanode_shares_fini(m);
    metanode_appends_fini(m);
    metanode_locks_fini(m);
    metanode_writers_fini(m);
    metanode_turns_fini(m);
    metanode_sessions_fini(m);
    metanode_apply_fini(m);
    metanode_backups_fini(m);
    metanode_checkpoints_fini(m);
    metanode_space_fini(m);
    loop_timer_cancel(m->env->loop, &m->stop_late);
    loop_timer_cancel(m->env->loop, &m->engine_look);
    m->ns = namespace_free(m->ns);
    metanode_engine_close(&m->engine);
    if (m->scratch != NULL) {
        kv_batch_fini(m->scratch);
        mem_free(m->scratch);
    }
    stats_free(m->stats);
    m->lock = metanode_lock_free(m->env->disk, m->lock);
    mem_free(m->directory);
    mem_free(m->name);
    mem_free(m->cluster_name);
    mem_free(m);
    return NULL;
}
