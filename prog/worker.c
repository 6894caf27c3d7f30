/* prog/worker.c -- `opendfs data-worker`: the process of one target, started by the master. */
#include "servers.h"

#include "chunk/device.h"
#include "client/directory.h"
#include "datanode/master.h"
#include "datanode/supervised.h"
#include "datanode/worker.h"
#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Connections; each chunk that is open, twice (read past the page cache, too); the rest. */
#define WORKER_FILES (16384u + 2u * 2048u + 128u)

struct worker_process {
    struct host host;
    struct datanode_worker_user user;
    struct datanode_supervised_user supervised_user;
    struct datanode_worker *worker;
    struct datanode_supervised *supervised;
    struct net_address *meta;
    struct net_address address;
    uint64_t move_rate;
    int failure;
    bool disk_failed;
};

static void registered(struct datanode_worker_user *u, uint32_t target)
{
    struct worker_process *p = container_of(u, struct worker_process, user);
    struct datanode_worker_info info;
    datanode_worker_info(p->worker, &info);
    log_info(p->host.log, "registered", LOG_U64("target", target),
             LOG_U64("chains", info.chain_count), LOG_TEXT("address", p->address.text));
}

static void stopped(struct datanode_worker_user *u, int rc)
{
    struct worker_process *p = container_of(u, struct worker_process, user);
    log_info(p->host.log, "stopped", LOG_RC(rc));
    p->failure = rc;
    loop_stop(p->host.loop, 0);
}

static void begin_stop(struct host *h)
{
    struct worker_process *p = container_of(h, struct worker_process, host);
    /* A little less than the master waits. */
    datanode_worker_stop(p->worker, SERVER_STOP_MS - SERVER_STOP_MS / 5);
}

/* The rest of the configuration is the master's: what needs another life gets it from there. */
static void reload(struct host *h, const struct cluster_settings *fresh)
{
    struct worker_process *p = container_of(h, struct worker_process, host);
    struct err e = {0};
    size_t index = 0;
    int rc = cluster_settings_find_target(fresh, h->name, &index, &e);
    if (rc < 0) { /* its master ends it */
        log_info(h->log, "no settings of this target", LOG_TEXT("error", err_message(&e, rc)));
        return;
    }
    uint64_t rate = fresh->targets[index].move_rate;
    if (rate != p->move_rate) {
        p->move_rate = rate;
        datanode_worker_move_rate(p->worker, rate);
        log_info(h->log, "another rate for copies to other targets", LOG_U64("move_rate", rate));
    }
}

static void stop_because(struct worker_process *p, const char *why)
{
    if (!p->host.stopping) {
        p->host.stopping = true;
        log_warn(p->host.log, "stopping", LOG_TEXT("reason", why));
        begin_stop(&p->host);
    }
}

/* The master starts it again, later each time: the next life reads from the medium what this one
 * only believes to be there, and gets what is missing from the other members. */
static void failed(struct datanode_worker_user *u, int rc, const char *reason)
{
    struct worker_process *p = container_of(u, struct worker_process, user);
    (void)rc;
    (void)reason; /* in the log already */
    p->disk_failed = true;
    stop_because(p, "the disk has failed");
}

static const struct datanode_worker_user_ops worker_ops = {
    .registered = registered, .failed = failed, .stopped = stopped};

static void master_lost(struct datanode_supervised_user *u)
{
    stop_because(container_of(u, struct worker_process, supervised_user), "the master is gone");
}

static bool settled(const struct datanode_supervised_user *u)
{
    const struct worker_process *p = container_of(u, const struct worker_process, supervised_user);
    struct datanode_worker_info info;
    datanode_worker_info(p->worker, &info);
    return info.settled;
}

static void disk_failures(struct datanode_supervised_user *u, uint32_t count)
{
    datanode_worker_failures(container_of(u, struct worker_process, supervised_user)->worker,
                             count);
}

static const struct datanode_supervised_user_ops supervised_ops = {
    .lost = master_lost, .settled = settled, .disk_failures = disk_failures};

/* That of a new target is free, before the directory is made its own. */
static int check_device(const struct host *h, const struct cluster_settings_target *t,
                        struct err *e)
{
    CLEANUP(mem_freep) char *mark = mem_printf("%s/opendfs-new", t->directory);
    struct disk_req req = {.op = DISK_STAT, .path = mark};
    if (mark == NULL) {
        return -ENOMEM;
    }
    bool fresh = t->device != NULL && disk_now(h->disk, &req) >= 0;
    return fresh ? chunk_device_ready(h->disk, t->device, e) : 0;
}

static int start_worker(struct worker_process *p, const struct cluster_settings_target *t,
                        struct err *e)
{
    static const enum datanode_engine engine[] = {[CLUSTER_ENGINE_AUTO] = DATANODE_ENGINE_DEFAULT,
                                                  [CLUSTER_ENGINE_EXTENT] = DATANODE_ENGINE_EXTENT,
                                                  [CLUSTER_ENGINE_FILE] = DATANODE_ENGINE_FILE,
                                                  [CLUSTER_ENGINE_RAM] = DATANODE_ENGINE_RAM};
    struct host *h = &p->host;
    const struct cluster_settings_node *n = &h->settings->nodes[t->node];
    bool fresh = t->engine == CLUSTER_ENGINE_RAM;
    int rc = check_device(h, t, e);
    rc = rc < 0 || fresh ? rc : host_take_new_mark(h, t->directory, &fresh, e);
    rc = rc < 0 ? rc : host_set_io(h, t->io, e);
    if (rc < 0) {
        return rc;
    }
    uint64_t files = loop_process_raise_files(WORKER_FILES);
    if (files < WORKER_FILES) {
        log_warn(h->log, "the limit of open files is low: raise it (ulimit -n, LimitNOFILE)",
                 LOG_U64("open_files", files));
    }
    struct datanode_worker_options o = {.env = &h->env,
                                        .user = &p->user,
                                        .directory = t->directory,
                                        .device = t->device,
                                        .name = t->name,
                                        .engine = engine[t->engine],
                                        .format = fresh,
                                        .cluster_id = h->settings->id,
                                        .secrets = h->secrets,
                                        .meta = p->meta,
                                        .meta_count = h->settings->meta_count,
                                        .listen_fd = DATANODE_MASTER_FD_LISTEN,
                                        .blind = n->slow_ms == 0,
                                        .health = {.slow_ms = n->slow_ms, .rest_ms = n->rest_ms},
                                        .host = n->host,
                                        .rack = n->rack,
                                        .labels = t->labels,
                                        .weight = t->weight,
                                        .scrub_ms =
                                            t->scrub_ms == 0 ? DATANODE_SCRUB_NEVER : t->scrub_ms,
                                        .scrub_permille = t->scrub_percent * 10,
                                        .move_rate = t->move_rate,
                                        .stream_bytes = t->stream_bytes,
                                        .cache_bytes = t->cache_bytes,
                                        .max_reads = t->reads,
                                        .max_read_bytes = t->read_bytes,
                                        .rest_ms = (uint32_t)t->space_rest_ms,
                                        .send_limit_ms = t->send_limit_ms,
                                        .index_bytes = t->index_bytes,
                                        .entry_bytes = t->entry_bytes};
    p->user.ops = &worker_ops;
    struct host_wait wait = {.what = t->directory};
    do {
        rc = datanode_worker_start(&o, &p->worker, e);
    } while (rc == -ERR_in_use && host_wait(h, &wait));
    h->stop = rc == 0 ? begin_stop : NULL;
    h->reload = rc == 0 ? reload : NULL;
    p->move_rate = t->move_rate;
    return rc;
}

static int join_master(struct worker_process *p, const struct cluster_settings_target *t,
                       struct err *e)
{
    struct datanode_worker_info info;
    datanode_worker_info(p->worker, &info);
    datanode_worker_address(p->worker, &p->address);
    p->supervised_user.ops = &supervised_ops;
    struct datanode_supervised_options o = {.env = &p->host.env,
                                            .user = &p->supervised_user,
                                            .secrets = p->host.secrets,
                                            .cluster_id = p->host.settings->id,
                                            .name = t->name,
                                            .fd = DATANODE_MASTER_FD_MASTER,
                                            .uuid = info.uuid,
                                            .incarnation = info.incarnation,
                                            .address = p->address.text};
    int rc = datanode_supervised_start(&o, &p->supervised);
    return rc < 0 ? err_set(e, rc, "connection to the master") : 0;
}

static int start(struct worker_process *p, const char *name, const char *log, struct err *e)
{
    struct host *h = &p->host;
    size_t index = 0;
    const char *fds = getenv("OPENDFS_FDS");
    if (fds == NULL || strcmp(fds, "2") != 0) {
        return err_set(e, -EINVAL, "this command is started by `opendfs data`");
    }
    int rc = cluster_settings_find_target(h->settings, name, &index, e);
    if (rc < 0) {
        return rc;
    }
    const struct cluster_settings_target *t = &h->settings->targets[index];
    h->log_path = log;
    rc = host_set_name(h, t->name, e);
    host_open_log(h); /* else it has the master's */
    if (rc == 0) {
        host_await_pid_file(h);
    }
    rc = rc < 0 ? rc : host_take_pid_file(h, e);
    rc = rc < 0 ? rc : host_watch_signals(h, e);
    rc = rc < 0 ? rc : client_directory_addresses(h->disk, h->settings, &p->meta, e);
    rc = rc < 0 ? rc : start_worker(p, t, e);
    return rc < 0 ? rc : join_master(p, t, e);
}

int server_worker(struct cli *c)
{
    struct worker_process p = {0};
    struct err e = {0};
    int rc = host_init(&p.host, server_config(c), &e);
    rc = rc < 0 ? rc : start(&p, cli_value(c, "target"), cli_value(c, "log"), &e);
    if (rc == 0) {
        loop_run(p.host.loop);
        rc = p.failure;
        err_set(&e, rc, "worker ended");
    }
    datanode_supervised_free(p.supervised);
    datanode_worker_free(p.worker);
    mem_free(p.meta);
    host_fini(&p.host);
    int status = rc < 0 ? cli_fail(c, "%s", err_message(&e, rc)) : 0;
    return p.disk_failed ? DATANODE_EXIT_DISK : status; /* the next life is told */
}
