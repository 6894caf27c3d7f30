/*
 * prog/data.c -- `opendfs data`: the master process of a data node.
 *
 * SIGUSR2: it becomes the executable that lies now where its own was when it started. Before that
 * the new one is run once with --check, so that one that cannot start takes nobody down; then this
 * process executes it, with the listening sockets, the workers and the lock of the pid file.
 */
#include "servers.h"

#include "client/directory.h"
#include "datanode/master.h"
#include "host.h"
#include "loop/self.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKER_ARGUMENTS 9u
#define PATH_BYTES 4096u
#define LEGACY "OPENDFS_LEGACY"
#define LEGACY_SIZE (sizeof(struct datanode_master_legacy) + 64)
#define WATCHDOG_MIN_MS 1000u

/* The targets of this node in some configuration. */
struct target_list {
    struct datanode_master_target *at;
    const char *(*arguments)[WORKER_ARGUMENTS];
    char **settings; /* owned */
    size_t count;
};

struct data_process {
    struct host host;
    struct datanode_master_user user;
    struct datanode_master *master;
    struct net_address *meta;
    struct loop_signal upgrade;
    struct loop_child check; /* of the new executable */
    char program[PATH_BYTES];
    const char *config_path;
    char *legacy; /* of the program before */
    bool checks;  /* it only looks whether it could start */
};

static void stopped(struct datanode_master_user *u)
{
    struct data_process *p = container_of(u, struct data_process, user);
    log_info(p->host.log, "stopped");
    loop_stop(p->host.loop, 0);
}

static const struct datanode_master_user_ops ops = {.stopped = stopped};

static void begin_stop(struct host *h)
{
    struct data_process *p = container_of(h, struct data_process, host);
    datanode_master_stop(p->master, SERVER_STOP_MS);
}

/* ---- Targets ---- */

static int find_node(const struct cluster_settings *s, const char *name, size_t *ret, struct err *e)
{
    *ret = 0;
    if (name != NULL) {
        return cluster_settings_find_node(s, name, ret, e);
    }
    if (s->node_count != 1) {
        return err_set(e, -EINVAL, "there are %zu nodes: say which with --node", s->node_count);
    }
    return 0;
}

static void targets_fini(struct target_list *l)
{
    for (size_t i = 0; i < l->count; i++) {
        mem_free(l->settings[i]);
    }
    mem_free(l->settings);
    mem_free(l->at);
    mem_free(l->arguments);
}

static int targets_add(struct data_process *p, const struct cluster_settings *s,
                       const struct cluster_settings_target *t, struct target_list *l,
                       struct err *e)
{
    const struct host *h = &p->host;
    const char *log = h->log_path == NULL ? NULL : "--log";
    const char *const words[WORKER_ARGUMENTS] = {
        NULL, "data-worker", "--config", p->config_path, "--target", t->name,
        log,  h->log_path,   NULL};
    /* What the worker has read when it started. Weight and labels are what the metadata server took
     * at the first registration. */
    const struct cluster_settings_node *n = &s->nodes[t->node];
    char *settings =
        mem_printf("directory=%s device=%s engine=%d io=%d host=%s rack=%s slow=%llu rest=%llu "
                   "send_limit=%llu space_rest=%llu index=%llu entries=%llu "
                   "scrub=%llu scrub_share=%u stream=%llu cache=%llu reads=%llu read_bytes=%llu",
                   t->directory, t->device == NULL ? "" : t->device, (int)t->engine, (int)t->io,
                   n->host, n->rack, (unsigned long long)n->slow_ms, (unsigned long long)n->rest_ms,
                   (unsigned long long)t->send_limit_ms, (unsigned long long)t->space_rest_ms,
                   (unsigned long long)t->index_bytes, (unsigned long long)t->entry_bytes,
                   (unsigned long long)t->scrub_ms, t->scrub_percent,
                   (unsigned long long)t->stream_bytes, (unsigned long long)t->cache_bytes,
                   (unsigned long long)t->reads, (unsigned long long)t->read_bytes);
    if (settings == NULL) {
        return -ENOMEM;
    }
    const char **argv = l->arguments[l->count];
    struct datanode_master_target *to = &l->at[l->count];
    l->settings[l->count++] = settings;
    memcpy(argv, words, sizeof words);
    *to = (struct datanode_master_target){.name = t->name, .argv = argv, .settings = settings};
    /* What runs has its sockets: there is nothing to wait for. */
    bool runs = p->master != NULL || p->legacy != NULL || p->checks;
    int rc = runs ? host_configured_address(&p->host, t->address, &to->listen, e)
                  : host_listen_address(&p->host, t->address, &to->listen, e);
    return rc < 0 ? err_prefix(e, rc, "%s", t->name) : 0;
}

static int targets_make(struct data_process *p, const struct cluster_settings *s, size_t node,
                        struct target_list *l, struct err *e)
{
    int rc = 0;
    l->at = mem_calloc(s->target_count + 1, sizeof *l->at);
    l->arguments = mem_calloc(s->target_count + 1, sizeof *l->arguments);
    l->settings = mem_calloc(s->target_count + 1, sizeof *l->settings);
    if (l->at == NULL || l->arguments == NULL || l->settings == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; rc == 0 && i < s->target_count; i++) {
        rc = s->targets[i].node == node ? targets_add(p, s, &s->targets[i], l, e) : 0;
    }
    if (rc == 0 && l->count == 0) {
        const char *name = s->nodes[node].name;
        rc = err_set(e, -ERR_config, "%s has no [target.N] with node = %s", name,
                     name + strlen("node."));
    }
    return rc;
}

/* ---- Another configuration ---- */

static int reload_targets(struct data_process *p, const struct cluster_settings *fresh,
                          struct datanode_master_change *ret, struct err *e)
{
    struct target_list l = {0};
    size_t node = 0;
    int rc = find_node(fresh, p->host.name, &node, e);
    rc = rc < 0 ? rc : targets_make(p, fresh, node, &l, e);
    rc = rc < 0 ? rc : datanode_master_reload(p->master, l.at, l.count, ret, e);
    targets_fini(&l);
    return rc;
}

static void reload(struct host *h, const struct cluster_settings *fresh)
{
    struct data_process *p = container_of(h, struct data_process, host);
    struct datanode_master_change change = {0};
    struct err e = {0};
    int rc = reload_targets(p, fresh, &change, &e);
    if (rc < 0) {
        log_error(h->log, "targets are not reloaded", LOG_TEXT("error", err_message(&e, rc)));
    } else {
        log_info(h->log, "targets reloaded", LOG_U64("added", change.added),
                 LOG_U64("removed", change.removed), LOG_U64("changed", change.changed));
    }
    datanode_master_signal(p->master, SIGHUP);
}

static void rotated(struct host *h)
{
    datanode_master_signal(container_of(h, struct data_process, host)->master, SIGUSR1);
}

/* ---- Another program ---- */

/* "pid FD" and a line for each target. */
static int write_legacy(struct data_process *p, struct datanode_master_legacy *legacy, char *out)
{
    int rc = datanode_master_hand_over(p->master, legacy);
    if (rc == 0 && legacy->fd_count == ARRAY_COUNT(legacy->fd)) {
        rc = -E2BIG;
    }
    if (rc < 0) {
        return rc;
    }
    int pid_fd = host_pid_fd(&p->host);
    legacy->fd[legacy->fd_count++] = pid_fd;
    (void)snprintf(out, LEGACY_SIZE, "pid %d\n%s", pid_fd, legacy->text);
    return 0;
}

/* Returns only when it could not be done. */
static int become_new_program(struct data_process *p, struct err *e)
{
    const struct host *h = &p->host;
    CLEANUP(mem_freep) struct datanode_master_legacy *legacy = mem_zalloc(sizeof *legacy);
    CLEANUP(mem_freep) char *text = mem_alloc(LEGACY_SIZE);
    int rc = legacy == NULL || text == NULL ? -ENOMEM : write_legacy(p, legacy, text);
    if (rc < 0) {
        return rc;
    }
    const char *log = h->log_path == NULL ? NULL : "--log";
    const char *const argv[] = {
        p->program, "data", "--config", p->config_path, "--node", h->name, log, h->log_path, NULL};
    const struct loop_self_program program = {.path = p->program,
                                              .argv = argv,
                                              .fds = legacy->fd,
                                              .fd_count = legacy->fd_count,
                                              .name = LEGACY,
                                              .value = text};
    log_info(h->log, "going on as a new program", LOG_TEXT("path", p->program));
    return loop_self_exec(&program, e);
}

static void checked(struct loop_child *c, int status)
{
    struct data_process *p = container_of(c, struct data_process, check);
    struct err e = {0};
    c->pid = 0;
    if (p->host.stopping) {
        return;
    }
    int rc = status == 0 ? become_new_program(p, &e)
                         : err_set(&e, -ENOEXEC, "'%s data --check' ended with status %d",
                                   p->program, status);
    log_error(p->host.log, "no upgrade: going on as before",
              LOG_TEXT("error", err_message(&e, rc)));
}

static void upgrade_wanted(struct loop_signal *s, int signo)
{
    struct data_process *p = container_of(s, struct data_process, upgrade);
    struct host *h = &p->host;
    struct err e = {0};
    (void)signo;
    if (h->stopping || p->check.pid != 0) {
        return; /* it ends, or is being done */
    }
    int rc = loop_self_path(p->program, sizeof p->program);
    if (rc == 0) {
        const char *const argv[] = {p->program,     "data",   "--check", "--config",
                                    p->config_path, "--node", h->name,   NULL};
        const struct loop_spawn_options o = {.argv = argv};
        p->check.exited = checked;
        rc = loop_spawn(h->loop, &o, &p->check, &e);
    }
    if (rc < 0) {
        log_error(h->log, "no upgrade: going on as before", LOG_TEXT("error", err_message(&e, rc)));
    }
}

static int watch_upgrade(struct data_process *p, struct err *e)
{
    p->upgrade = (struct loop_signal){.caught = upgrade_wanted, .signo = SIGUSR2};
    int rc = loop_signal_add(p->host.loop, &p->upgrade);
    return rc < 0 ? err_set(e, rc, "watch signal %d", SIGUSR2) : 0;
}

/* What the program before has left, and the lock that it held. */
static int take_legacy(struct data_process *p, const char **ret, struct err *e)
{
    static const char mark[] = "pid ";
    uint64_t fd = 0;
    *ret = NULL;
    p->legacy = loop_self_take(LEGACY);
    if (p->legacy == NULL) {
        return 0;
    }
    char *end = strchr(p->legacy, '\n');
    if (end == NULL || strncmp(p->legacy, mark, strlen(mark)) != 0) {
        return err_set(e, -EINVAL, "%s: is not of a program before", LEGACY);
    }
    *end = 0;
    if (text_to_u64(p->legacy + strlen(mark), &fd) < 0 || fd > INT32_MAX) {
        return err_set(e, -EINVAL, "%s: '%s'", LEGACY, p->legacy);
    }
    *ret = end + 1;
    host_inherit_pid_file(&p->host, (int)fd);
    return 0;
}

/* ---- Start ---- */

static int start_master(struct data_process *p, const struct target_list *l, size_t node,
                        const char *inherited, struct err *e)
{
    struct host *h = &p->host;
    const struct cluster_settings_node *n = &h->settings->nodes[node];
    /* Who gives up being root takes the file as who it is then. */
    bool later = host_has_user(h);
    int rc = later ? 0 : host_take_pid_file(h, e);
    struct datanode_master_options o = {
        .env = &h->env,
        .user = &p->user,
        .cluster_id = h->settings->id,
        .secrets = h->secrets,
        .name = h->name,
        .meta = p->meta,
        .meta_count = h->settings->meta_count,
        .targets = l->at,
        .target_count = l->count,
        .stop_ms = SERVER_STOP_MS,
        .watchdog_ms = n->watchdog_ms == 0 ? 0 : base_max(n->watchdog_ms, WATCHDOG_MIN_MS),
        .inherited = inherited};
    rc = rc < 0 ? rc : datanode_master_start(&o, &p->master, e); /* listens; no worker runs yet */
    rc = rc < 0 ? rc : host_become_user(h, e);
    return rc < 0 || !later ? rc : host_take_pid_file(h, e);
}

static int start(struct data_process *p, struct cli *c, struct err *e)
{
    struct host *h = &p->host;
    struct target_list l = {0};
    size_t node = 0;
    bool check = p->checks = cli_flag(c, "check");
    const char *inherited = NULL;
    int rc = find_node(h->settings, cli_value(c, "node"), &node, e);
    if (rc < 0) {
        return rc;
    }
    p->user.ops = &ops;
    h->stop = begin_stop;
    h->reload = reload;
    h->rotated = rotated;
    h->log_path = cli_value(c, "log");
    rc = host_set_name(h, h->settings->nodes[node].name, e);
    rc = rc < 0 || check ? rc : take_legacy(p, &inherited, e);
    rc = rc < 0 ? rc : targets_make(p, h->settings, node, &l, e);
    rc = rc < 0 ? rc : client_directory_addresses(h->disk, h->settings, &p->meta, e);
    if (rc == 0 && check) {
        printf("%s: %zu target%s\n", h->name, l.count, l.count == 1 ? "" : "s");
    }
    if (rc == 0 && !check) {
        host_await_pid_file(h); /* before anything runs that would not wait */
        rc = host_watch_signals(h, e);
        rc = rc < 0 ? rc : watch_upgrade(p, e);
        rc = rc < 0 ? rc : start_master(p, &l, node, inherited, e);
    }
    targets_fini(&l);
    return rc;
}

int server_data(struct cli *c)
{
    CLEANUP(mem_freep) struct data_process *p = mem_zalloc(sizeof *p);
    if (p == NULL) {
        return cli_fail(c, "%s", err_text(-ENOMEM));
    }
    struct err e = {0};
    p->config_path = server_config(c);
    int rc = host_init(&p->host, p->config_path, &e);
    rc = rc < 0 ? rc : start(p, c, &e);
    if (rc == 0 && p->master != NULL) {
        loop_run(p->host.loop);
    }
    datanode_master_free(p->master);
    if (p->check.pid != 0) {
        loop_child_forget(p->host.loop, &p->check);
    }
    if (p->upgrade.caught != NULL) {
        loop_signal_remove(p->host.loop, &p->upgrade);
    }
    mem_free(p->meta);
    mem_free(p->legacy);
    host_fini(&p->host);
    return rc < 0 ? cli_fail(c, "%s", err_message(&e, rc)) : 0;
}
