/* prog/data.c -- `opendfs data`: the master process of a data node. */
#include "servers.h"

#include "client/directory.h"
#include "datanode/master.h"
#include "host.h"

#include <stdio.h>
#include <string.h>

#define WORKER_ARGUMENTS 7u

struct data_process {
    struct host host;
    struct datanode_master_user user;
    struct datanode_master *master;
    struct net_address *meta;
    struct datanode_master_target *targets;
    const char *(*arguments)[WORKER_ARGUMENTS];
    size_t target_count;
    const struct cluster_settings_node *node;
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

static int find_node(struct data_process *p, const char *name, size_t *ret, struct err *e)
{
    const struct cluster_settings *s = p->host.settings;
    *ret = 0;
    if (name != NULL) {
        return cluster_settings_find_node(s, name, ret, e);
    }
    if (s->node_count != 1) {
        return err_set(e, -EINVAL, "there are %zu nodes: say which with --node", s->node_count);
    }
    return 0;
}

/* One entry per target of this node. */
static int add_targets(struct data_process *p, size_t node, const char *config_path, struct err *e)
{
    const struct cluster_settings *s = p->host.settings;
    p->targets = mem_calloc(s->target_count + 1, sizeof *p->targets);
    p->arguments = mem_calloc(s->target_count + 1, sizeof *p->arguments);
    if (p->targets == NULL || p->arguments == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < s->target_count; i++) {
        const struct cluster_settings_target *t = &s->targets[i];
        if (t->node != node) {
            continue;
        }
        const char **argv = p->arguments[p->target_count];
        const char *const words[WORKER_ARGUMENTS] = {
            NULL, "data-worker", "--config", config_path, "--target", t->name, NULL};
        memcpy(argv, words, sizeof words);
        struct datanode_master_target *to = &p->targets[p->target_count++];
        *to = (struct datanode_master_target){.name = t->name, .argv = argv};
        int rc = host_listen_address(&p->host, t->address, &to->listen, e);
        if (rc < 0) {
            return err_prefix(e, rc, "%s", t->name);
        }
    }
    if (p->target_count == 0) {
        return err_set(e, -ERR_config, "%s has no [target.N] with node = %s", p->node->name,
                       p->node->name + strlen("node."));
    }
    return 0;
}

static int start(struct data_process *p, const char *name, const char *config_path, struct err *e)
{
    struct host *h = &p->host;
    size_t node = 0;
    int rc = find_node(p, name, &node, e);
    if (rc < 0) {
        return rc;
    }
    p->node = &h->settings->nodes[node];
    p->user.ops = &ops;
    h->stop = begin_stop;
    rc = host_set_name(h, p->node->name, e);
    rc = rc < 0 ? rc : host_take_pid_file(h, e);
    rc = rc < 0 ? rc : add_targets(p, node, config_path, e);
    rc = rc < 0 ? rc : client_directory_addresses(h->disk, h->settings, &p->meta, e);
    rc = rc < 0 ? rc : host_watch_signals(h, e);
    if (rc < 0) {
        return rc;
    }
    struct datanode_master_options o = {.env = &h->env,
                                        .user = &p->user,
                                        .cluster_id = h->settings->id,
                                        .secrets = h->secrets,
                                        .name = p->node->name,
                                        .meta = p->meta,
                                        .meta_count = h->settings->meta_count,
                                        .targets = p->targets,
                                        .target_count = p->target_count};
    return datanode_master_start(&o, &p->master, e);
}

int server_data(struct cli *c)
{
    struct data_process p = {0};
    struct err e = {0};
    const char *config = server_config(c);
    int rc = host_init(&p.host, config, &e);
    rc = rc < 0 ? rc : start(&p, cli_value(c, "node"), config, &e);
    if (rc == 0) {
        loop_run(p.host.loop);
    }
    datanode_master_free(p.master);
    mem_free(p.meta);
    mem_free(p.targets);
    mem_free(p.arguments);
    host_fini(&p.host);
    return rc < 0 ? cli_fail(c, "%s", err_message(&e, rc)) : 0;
}
