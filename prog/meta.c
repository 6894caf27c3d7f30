/* prog/meta.c -- `opendfs meta`: one metadata server as a process. */
#include "servers.h"

#include "disk/local.h"
#include "host.h"
#include "metanode/metanode.h"

#include <string.h>

#define CONNECTIONS 16384u
#define OTHER_FILES 128u /* log, listener, what a library opens */

struct meta_process {
    struct host host;
    struct metanode_user user;
    struct metanode_stop stop;
    struct metanode *node;
    int failure; /* negative: why it could not go on */
};

static void serving(struct metanode_user *u)
{
    struct meta_process *p = container_of(u, struct meta_process, user);
    struct net_address at;
    struct err e = {0};
    metanode_address(p->node, &at);
    int rc = host_publish_address(&p->host, &at, &e);
    if (rc < 0) {
        log_error(p->host.log, "address is not published", LOG_TEXT("error", err_message(&e, rc)));
    }
    log_info(p->host.log, "serving", LOG_TEXT("address", at.text));
}

static void stopped(struct metanode_stop *s, int rc)
{
    struct meta_process *p = container_of(s, struct meta_process, stop);
    log_info(p->host.log, "stopped", LOG_RC(rc));
    p->failure = p->failure < 0 ? p->failure : rc;
    loop_stop(p->host.loop, 0);
}

static void begin_stop(struct host *h)
{
    struct meta_process *p = container_of(h, struct meta_process, host);
    p->stop.done = stopped;
    metanode_stop(p->node, &p->stop, SERVER_STOP_MS);
}

static void ended(struct metanode_user *u, int rc, const char *reason)
{
    struct meta_process *p = container_of(u, struct meta_process, user);
    if (rc < 0) {
        p->failure = rc;
        log_error(p->host.log, "cannot go on", LOG_TEXT("reason", reason), LOG_RC(rc));
    }
    if (!p->host.stopping) {
        p->host.stopping = true;
        begin_stop(&p->host);
    }
}

static const struct metanode_user_ops ops = {.serving = serving, .ended = ended};

/* A descriptor for each connection, and some for the rest. */
static size_t room_for_connections(struct host *h)
{
    uint64_t files = loop_process_raise_files(CONNECTIONS + OTHER_FILES);
    if (files >= CONNECTIONS + OTHER_FILES) {
        return CONNECTIONS;
    }
    size_t room = files > UINT64_C(2) * OTHER_FILES ? (size_t)files - OTHER_FILES : OTHER_FILES;
    log_warn(h->log, "the limit of open files is low: raise it (ulimit -n, LimitNOFILE)",
             LOG_U64("open_files", files), LOG_U64("connections", room));
    return room;
}

enum metanode_engine_kind server_meta_engine(const struct cluster_settings_meta *m)
{
    static const enum metanode_engine_kind kinds[] = {[CLUSTER_META_AUTO] = METANODE_ENGINE_DEFAULT,
                                                      [CLUSTER_META_MEMORY] =
                                                          METANODE_ENGINE_MEMORY,
                                                      [CLUSTER_META_TREE] = METANODE_ENGINE_TREE};
    return kinds[m->engine];
}

static int start_node(struct meta_process *p, const struct metanode_options *o, struct err *e)
{
    struct host *h = &p->host;
    struct host_wait wait = {.what = o->directory};
    int rc;
    do {
        rc = metanode_start(o, &p->node, e);
    } while (rc == -ERR_in_use && host_wait(h, &wait));
    h->stop = rc == 0 ? begin_stop : NULL;
    return rc;
}

static int start(struct meta_process *p, const char *name, const char *log, struct err *e)
{
    struct host *h = &p->host;
    h->log_path = log;
    const struct cluster_settings *s = h->settings;
    size_t index = 0;
    int rc = name != NULL ? cluster_settings_find_meta(s, name, &index, e) : 0;
    if (rc == 0 && name == NULL && s->meta_count > 1) {
        return err_set(e, -EINVAL, "there are %zu metadata servers: say which with --name",
                       s->meta_count);
    }
    const struct cluster_settings_meta *m = &s->metas[index];
    struct net_address listen;
    bool create = false;
    rc = rc < 0 ? rc : host_set_name(h, m->name, e);
    rc = rc < 0 ? rc : host_become_user(h, e); /* all that it opens belongs to that user */
    if (rc == 0) {
        host_await_pid_file(h);
    }
    rc = rc < 0 ? rc : host_take_pid_file(h, e);
    rc = rc < 0 ? rc : host_set_io(h, m->io, e);
    rc = rc < 0 ? rc : host_listen_address(h, m->address, &listen, e);
    rc = rc < 0 ? rc : host_watch_signals(h, e);
    rc = rc < 0 ? rc : host_take_new_mark(h, m->directory, &create, e);
    if (rc < 0) {
        return rc;
    }
    /* Who has made a cluster's directory may use it: a new root belongs to the same user. */
    struct disk_local_attr owner = {0};
    if (create) {
        rc = disk_local_stat(m->directory, &owner);
        if (rc < 0) {
            return err_set(e, rc, "metadata directory '%s'", m->directory);
        }
    }
    p->user.ops = &ops;
    loop_set_polling(h->loop, LOOP_POLL_US);
    struct metanode_options o = {.env = &h->env,
                                 .user = &p->user,
                                 .directory = m->directory,
                                 .create = create,
                                 .cluster_id = s->id,
                                 .cluster_name = s->name,
                                 .secrets = &h->secrets,
                                 .listen = &listen,
                                 .name = m->name,
                                 .root_uid = owner.uid,
                                 .root_gid = owner.gid,
                                 .lease_ms = s->lease_ms,
                                 .rebuild_ms = s->rebuild_ms,
                                 .dark_wait_ms = s->dark_wait_ms,
                                 .audit_wait_ms = s->audit_wait_ms,
                                 .moves = s->moves,
                                 .memory_bytes = m->memory_bytes,
                                 .engine = server_meta_engine(m),
                                 .cache_bytes = m->cache_bytes,
                                 .max_connections = room_for_connections(h),
                                 .copies = s->copies,
                                 .failure_domain = s->domain};
    return start_node(p, &o, e);
}

int server_meta(struct cli *c)
{
    struct meta_process p = {0};
    struct err e = {0};
    int rc = host_init(&p.host, server_config(c), &e);
    rc = rc < 0 ? rc : start(&p, cli_value(c, "name"), cli_value(c, "log"), &e);
    if (rc == 0) {
        loop_run(p.host.loop);
        rc = p.failure;
        err_set(&e, rc, "metadata server ended");
    }
    metanode_free(p.node);
    host_fini(&p.host);
    return rc < 0 ? cli_fail(c, "%s", err_message(&e, rc)) : 0;
}
