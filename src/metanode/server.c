/*
 * metanode/server.c -- puts the server together and takes it apart.
 *
 * Start: directory, state, log, listener; then the engine applies the log (REPLAYING), leads, the
 * leader's memory is filled (LOADING, load.c), and requests are answered (SERVING). End: requests
 * in progress are answered, the log is closed, everything is freed.
 */
#include "metanode/metanode_priv.h"

#include "base/log.h"
#include "disk/disk.h"

#define METANODE_LEASE_MS 10000u
#define METANODE_KEEP_MS (UINT64_C(24) * 3600 * 1000)
#define SERVER_POLLS 100000u
#define METANODE_RESERVE_BYTES (UINT64_C(48) << 20) /* of the disk, for the log */
#define SERVER_SEND_BYTES                                                                   \
    (4u << 20)                 /* answers that a client has not taken; then it is not heard \
                                */
#define SERVER_STALL_MS 30000u /* it has taken none for so long: it is let go */

static void server_wake(struct kv_owner *o)
{
    struct metanode *m = container_of(o, struct metanode, kv_owner);
    loop_defer(m->env->loop, &m->kv_task);
}

static void server_poll(struct loop_task *t)
{
    struct metanode *m = container_of(t, struct metanode, kv_task);
    (void)kv_poll(m->kv);
}

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

static int server_open_state(struct metanode *m, struct err *e)
{
    CLEANUP(mem_freep) char *directory = mem_printf("%s/state", m->opt.directory);
    struct kv_mem_open_options open = {.mem = {.budget = &m->memory.state,
                                               .owner = &m->kv_owner,
                                               .seed = loop_random(m->env->loop),
                                               .need_permille = m->opt.need_permille,
                                               .fetch_polls_max = m->opt.need_permille > 0 ? 2 : 0},
                                       .env = m->env,
                                       .directory = directory,
                                       .owner = m->opt.cluster_id.bytes,
                                       .reserve_bytes = METANODE_RESERVE_BYTES};
    int rc = directory == NULL ? -ENOMEM : disk_make_directories(m->env->disk, directory);
    if (rc < 0) {
        return err_set(e, rc, "make '%s/state'", m->opt.directory);
    }
    return kv_mem_open(&open, &m->kv, e);
}

static int server_state(struct metanode *m, struct err *e)
{
    m->kv_owner.wake = server_wake;
    m->kv_task.run = server_poll;
    m->scratch = mem_zalloc(sizeof *m->scratch);
    if (m->scratch == NULL) {
        return -ENOMEM;
    }
    kv_batch_init(m->scratch);
    int rc = server_open_state(m, e);
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
    metanode_writers_init(m);
    metanode_targets_init(m);
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
             LOG_TEXT("address", m->address.text));
    metanode_space_start(m);
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

static void server_ended(struct loop_task *t)
{
    struct metanode *m = container_of(t, struct metanode, space_stopped);
    m->stop->done(m->stop, m->stop_rc);
}

static void server_closed(struct consensus_stop *s, int rc)
{
    struct metanode *m = container_of(s, struct metanode, consensus_stop);
    m->phase = METANODE_ENDED;
    m->stop_rc = rc;
    m->space_stopped.run = server_ended;
    metanode_space_stop(m, &m->space_stopped);
}

static void server_saved(struct loop_task *t)
{
    struct metanode *m = container_of(t, struct metanode, checkpoints_stopped);
    m->consensus_stop.done = server_closed;
    consensus_stop(m->consensus, &m->consensus_stop);
}

static void server_stopped(struct peer_user *u)
{
    struct metanode *m = metanode_of(u);
    m->checkpoints_stopped.run = server_saved;
    metanode_checkpoints_stop(m, &m->checkpoints_stopped);
}

void metanode_stop(struct metanode *m, struct metanode_stop *s, uint64_t limit_ms)
{
    CHECK(m->stop == NULL);
    m->stop = s;
    log_info(m->env->log, "metadata server stops");
    metanode_cleanup_stop(m);
    metanode_grants_stop(m);
    peer_server_stop(m->server, limit_ms, server_stopped);
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
    for (unsigned i = 0; (m->reads > 0 || m->apply.fetching) && i < SERVER_POLLS; i++) {
        (void)kv_poll(m->kv); /* who waits for a fetch gets it, then sees the phase */
    }
    CHECK(m->reads == 0 && !m->apply.fetching);
    metanode_load_fini(m);
    metanode_cleanup_fini(m);
    metanode_tables_fini(m);
    metanode_chains_fini(m);
    metanode_targets_fini(m);
    metanode_shares_fini(m);
    metanode_appends_fini(m);
    metanode_writers_fini(m);
    metanode_turns_fini(m);
    metanode_sessions_fini(m);
    metanode_apply_fini(m);
    metanode_backups_fini(m);
    metanode_checkpoints_fini(m);
    metanode_space_fini(m);
    loop_undefer(m->env->loop, &m->kv_task);
    m->ns = namespace_free(m->ns);
    m->kv = kv_free(m->kv);
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
