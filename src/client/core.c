#include "client/map_priv.h"
#include "client/op_priv.h"
#include "client/update_priv.h"
#include "wire/frame.h"

#include <stdio.h>
#include <string.h>

static struct opendfs *fs_alloc(const struct client_options *opt)
{
    struct opendfs *fs = mem_zalloc(sizeof *fs);
    if (fs == NULL) {
        return NULL;
    }
    fs->env = *opt->env;
    fs->loop = opt->env->loop;
    fs->uid = opt->uid;
    fs->umask = opt->umask & 0777;
    fs->gid = opt->gid;
    fs->timeout_ms = opt->timeout_ms;
    fs->secrets = opt->secrets;
    fs->cache_bytes = opt->cache_bytes == 0 ? CLIENT_CACHE_BYTES : opt->cache_bytes;
    fs->cache_bytes = base_max(fs->cache_bytes, CLIENT_CACHE_MIN);
    fs->stream_bytes = opt->stream_bytes == 0 ? CLIENT_STREAM_BYTES : opt->stream_bytes;
    fs->inline_limit = PROTO_CELL_BYTES;
    snprintf(fs->host, sizeof fs->host, "%s", opt->host == NULL ? "" : opt->host);
    snprintf(fs->rack, sizeof fs->rack, "%s", opt->rack == NULL ? "" : opt->rack);
    fs->meta_user.ops = &client_meta_user_ops;
    list_init(&fs->calls);
    list_init(&fs->slot_queue);
    list_init(&fs->ops);
    list_init(&fs->resting);
    client_budget_init(&fs->hedges);
    client_inodes_init(fs);
    client_lingers_init(fs);
    client_gather_init(fs);
    client_session_init(fs);
    client_identities_init(fs);
    return fs;
}

static int fs_copy_options(struct opendfs *fs, const struct client_options *opt)
{
    fs->name = mem_strdup(opt->name == NULL ? "libopendfs" : opt->name);
    if (fs->name == NULL) {
        return -ENOMEM;
    }
    if (opt->group_count > 0) {
        fs->groups = mem_dup(opt->groups, opt->group_count * sizeof *opt->groups);
        if (fs->groups == NULL) {
            return -ENOMEM;
        }
        fs->group_count = opt->group_count;
    }
    return 0;
}

static void fs_add_stats(struct opendfs *fs)
{
    struct client_counters *c = &fs->counters;
    fs->stats = stats_new(fs->env.stats, "client"); /* if nobody's, its own: metrics.c */
    fs->target_stats = fs->stats == NULL ? NULL : stats_new(fs->stats, "targets");
    stats_add_counter(fs->stats, "operations", &c->operations);
    stats_add_counter(fs->stats, "failures", &c->failures);
    stats_add_counter(fs->stats, "retries", &c->retries);
    stats_add_counter(fs->stats, "sessions", &c->sessions);
    stats_add_counter(fs->stats, "map_fetches", &c->map_fetches);
    stats_add_counter(fs->stats, "write_bytes", &c->write_bytes);
    stats_add_counter(fs->stats, "read_bytes", &c->read_bytes);
    stats_add_counter(fs->stats, "streamed_bytes", &c->streamed_bytes);
    stats_add_counter(fs->stats, "edge_reads", &c->edge_reads);
    stats_add_counter(fs->stats, "rewrites", &c->rewrites);
    stats_add_counter(fs->stats, "bad_cells", &c->bad_cells);
    stats_add_counter(fs->stats, "lost", &c->lost);
    stats_add_counter(fs->stats, "fallbacks", &c->fallbacks);
    stats_add_counter(fs->stats, "hedges", &c->hedges);
    stats_add_counter(fs->stats, "hedges_won", &c->hedges_won);
    stats_add_counter(fs->stats, "hedges_refused", &c->hedges_refused);
    stats_add_counter(fs->stats, "read_batches", &c->batches);
    stats_add_counter(fs->stats, "read_batch_items", &c->batch_items);
}

/* Half of the memory is for data that comes in, half for data that goes out: neither can keep the
 * other from moving. */
static int fs_make_pools(struct opendfs *fs)
{
    const struct buf_pool_options opt = {
        .limit_bytes = fs->cache_bytes / 2, .max_size = FRAME_DATA_MAX, .budget = fs->env.budget};
    fs->pool = buf_pool_new(&opt);
    fs->write_pool = buf_pool_new(&opt);
    return fs->pool == NULL || fs->write_pool == NULL ? -ENOMEM : 0;
}

int client_new(const struct client_options *opt, struct opendfs **ret)
{
    LOOP_OWNED(opt->env->loop);
    if (opt->address_count == 0 || !opt->secrets.client.known ||
        opt->group_count > CLIENT_GROUPS_MAX) {
        return -EINVAL;
    }
    struct opendfs *fs = fs_alloc(opt);
    if (fs == NULL) {
        return -ENOMEM;
    }
    fs_add_stats(fs);
    size_t handler_count;
    const struct peer_handler *handlers = client_meta_handlers(&handler_count);
    int rc = fs_copy_options(fs, opt);
    rc = rc == 0 ? fs_make_pools(fs) : rc;
    rc = rc == 0 ? client_map_init(fs) : rc;
    const struct peer_options meta = {.env = &fs->env,
                                      .user = &fs->meta_user,
                                      .handlers = handlers,
                                      .handler_count = handler_count,
                                      .secrets = fs->secrets,
                                      .cluster_id = opt->cluster_id,
                                      .role = PROTO_ROLE_CLIENT,
                                      .features = PROTO_FEATURES,
                                      .name = fs->name,
                                      .addresses = opt->addresses,
                                      .address_count = opt->address_count,
                                      .wants_leader = true,
                                      .gated = true,
                                      .max_queued = (size_t)2 * CLIENT_CALLS_MAX,
                                      .generation = 1};
    rc = rc == 0 ? peer_new(&meta, &fs->meta) : rc;
    if (rc < 0) {
        client_free(fs);
        return rc;
    }
    peer_start(fs->meta);
    *ret = fs;
    return 0;
}

struct opendfs *client_free(struct opendfs *fs)
{
    if (fs == NULL) {
        return NULL;
    }
    fs->freeing = true;
    fs->stopping = true;
    loop_undefer(fs->loop, &fs->stop_task);
    client_session_fini(fs);
    client_map_stop(fs);
    client_push_fini(fs);
    client_times_fini(fs);
    fs->meta = peer_free(fs->meta);
    client_calls_fini(fs);
    client_open_fini(fs);
    client_lingers_fini(fs);
    client_inodes_fini(fs);
    client_gather_fini(fs);
    client_identities_fini(fs);
    client_map_fini(fs);
    CHECK(list_empty(&fs->ops));
    stats_free(fs->stats);
    buf_pool_free(fs->pool);
    buf_pool_free(fs->write_pool);
    mem_free(fs->groups);
    mem_free(fs->name);
    mem_free(fs);
    return NULL;
}

static void stop_run(struct loop_task *t)
{
    struct opendfs *fs = container_of(t, struct opendfs, stop_task);
    void (*stopped)(void *context) = fs->stopped;
    fs->stopped = NULL;
    if (stopped != NULL) {
        stopped(fs->stopped_context);
    }
}

void client_check_stopped(struct opendfs *fs)
{
    if (!fs->stopping || fs->freeing || fs->stopped == NULL || fs->op_count > 0) {
        return;
    }
    if (fs->session.id != 0) {
        client_session_close(fs);
        return;
    }
    loop_defer(fs->loop, &fs->stop_task);
}

void client_stop(struct opendfs *fs, void (*stopped)(void *context), void *context)
{
    LOOP_OWNED(fs->loop);
    fs->stopping = true;
    fs->stopped = stopped;
    fs->stopped_context = context;
    fs->stop_task.run = stop_run;
    client_check_stopped(fs);
}

const struct env *client_env(const struct opendfs *fs)
{
    return &fs->env;
}

size_t opendfs_inline_limit(const struct opendfs *fs)
{
    return fs->inline_limit;
}
