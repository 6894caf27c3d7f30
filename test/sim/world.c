/* sim/world.c -- see world.h. */
#include "world.h"

#include "base/stats.h"
#include "client/client.h"
#include "cluster/capability.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define META_PORT 9400u
#define CHUNK_BYTES (64u << 10)

/* ---- Failures and texts ---- */

void world_fail(struct world *w, const char *fmt, ...)
{
    if (w->failure[0] != 0) {
        return; /* the first one counts */
    }
    va_list args;
    va_start(args, fmt);
    vsnprintf(w->failure, sizeof w->failure, fmt, args);
    va_end(args);
}

bool world_failed(const struct world *w)
{
    return w->failure[0] != 0;
}

uint64_t world_now_ns(const struct world *w)
{
    return loop_sim_now_ns(w->sim);
}

uint64_t world_between(struct world *w, uint64_t from, uint64_t to)
{
    return from + rand_below(w->rand, to - from + 1);
}

static void print_line(struct log_sink *s, const struct log_line *line)
{
    struct world_node *n = container_of(s, struct world_node, sink);
    printf("%12.6f %-9s %-5s %s %s\n", (double)world_now_ns(n->w) / 1e9, n->name,
           log_level_name(line->level), line->message, line->fields);
}

/* ---- Processes ---- */

static void meta_serving(struct metanode_user *u)
{
    struct world_node *n = container_of(u, struct world_node, meta_user);
    n->formatted = true;
}

static void meta_ended(struct metanode_user *u, int rc, const char *reason)
{
    struct world_node *n = container_of(u, struct world_node, meta_user);
    world_fail(n->w, "the metadata server gave up: %s (%s)", reason, err_name(rc));
}

static const struct metanode_user_ops meta_ops = {.serving = meta_serving, .ended = meta_ended};

static void worker_registered(struct datanode_worker_user *u, uint32_t target)
{
    (void)u;
    (void)target;
}

static void worker_failed(struct datanode_worker_user *u, int rc, const char *reason)
{
    struct world_node *n = container_of(u, struct world_node, worker_user);
    world_fail(n->w, "%s: the store failed: %s (%s)", n->name, reason, err_name(rc));
}

static void worker_stopped(struct datanode_worker_user *u, int rc)
{
    (void)u;
    (void)rc;
}

static const struct datanode_worker_user_ops worker_ops = {
    .registered = worker_registered, .failed = worker_failed, .stopped = worker_stopped};

static int start_meta(struct world_node *n, struct err *e)
{
    n->meta_user.ops = &meta_ops;
    struct metanode_options o = {.env = &n->env,
                                 .user = &n->meta_user,
                                 .directory = "/meta",
                                 .create = !n->formatted,
                                 .cluster_id = n->w->cluster_id,
                                 .secrets = &n->w->secrets,
                                 .listen = &n->w->meta_address,
                                 .name = n->name,
                                 .lease_ms = WORLD_LEASE_MS,
                                 .dark_wait_ms = 3000,
                                 .table_quiet_ms = 200,
                                 .copies = n->w->copies,
                                 .chunk_bytes = CHUNK_BYTES,
                                 .need_permille = 20};
    return metanode_start(&o, &n->meta, e);
}

static int start_worker(struct world_node *n, struct err *e)
{
    n->worker_user.ops = &worker_ops;
    struct datanode_worker_options o = {.env = &n->env,
                                        .user = &n->worker_user,
                                        .directory = "/target",
                                        .engine = DATANODE_ENGINE_FILE,
                                        .format = !n->formatted,
                                        .cluster_id = n->w->cluster_id,
                                        .secrets = n->w->secrets,
                                        .meta = &n->w->meta_address,
                                        .meta_count = 1,
                                        .host = n->name};
    snprintf(o.listen.text, sizeof o.listen.text, "host%u:%u", n->host, META_PORT + 10);
    return datanode_worker_start(&o, &n->worker, e);
}

static int start_client(struct world_node *n, struct err *e)
{
    (void)e;
    struct client_options o = {.env = &n->env,
                               .addresses = &n->w->meta_address,
                               .address_count = 1,
                               .cluster_id = n->w->cluster_id,
                               .secrets = n->w->secrets,
                               .name = n->name};
    o.secrets.server.known = false;
    return client_new(&o, &n->fs);
}

static int make_env(struct world_node *n)
{
    struct world *w = n->w;
    n->sink.write = print_line;
    mem_budget_init(&n->budget, NULL, UINT64_C(1) << 30);
    n->env = (struct env){.loop = n->loop, .budget = &n->budget};
    n->env.stats = stats_new(NULL, n->name);
    n->env.log = log_new(&(struct log_options){
        .node = n->name, .level = LOG_DEBUG, .sink = w->verbose ? &n->sink : NULL});
    int rc = disk_sim_open(n->disk, n->loop, &n->env.disk);
    rc = rc < 0 ? rc : net_sim_open(w->net, n->host, n->loop, &n->env.net);
    return rc < 0 || n->env.stats == NULL || n->env.log == NULL ? -ENOMEM : 0;
}

/* Inside the new process. */
static void start_inside(void *context)
{
    struct world_node *n = context;
    struct err e = {0};
    int rc = make_env(n);
    if (rc == 0 && n->index == WORLD_META) {
        rc = start_meta(n, &e);
    } else if (rc == 0 && n->index < WORLD_CLIENT(0)) {
        rc = start_worker(n, &e);
        n->formatted = n->formatted || rc == 0;
    } else if (rc == 0) {
        rc = start_client(n, &e);
    }
    n->start_rc = rc;
    if (rc < 0) {
        world_fail(n->w, "%s does not start: %s", n->name, err_message(&e, rc));
    }
}

static void make_directory(void *context)
{
    struct world_node *n = context;
    struct disk *d = NULL;
    int rc = disk_sim_open(n->disk, n->loop, &d);
    CHECK(rc == 0);
    rc = disk_make_directories(d, n->index == WORLD_META ? "/meta" : "/target");
    CHECK(rc == 0);
}

static void new_process(struct world_node *n)
{
    char name[32];
    snprintf(name, sizeof name, "%s.%llu", n->name, (unsigned long long)n->starts++);
    int rc = loop_sim_process(n->w->sim, name, n->host, &n->loop);
    CHECK(rc == 0);
    n->meta = NULL;
    n->worker = NULL;
    n->fs = NULL;
}

void world_start(struct world *w, unsigned node)
{
    struct world_node *n = &w->node[node];
    CHECK(n->loop == NULL);
    if (n->starts == 0) {
        new_process(n);
        loop_sim_enter(n->loop, make_directory, n);
        loop_sim_kill(n->loop);
    }
    new_process(n);
    loop_sim_enter(n->loop, start_inside, n);
    if (w->verbose) {
        printf("%12.6f world     start %s\n", (double)world_now_ns(w) / 1e9, n->name);
    }
}

bool world_is_running(const struct world *w, unsigned node)
{
    return w->node[node].loop != NULL;
}

void world_kill(struct world *w, unsigned node)
{
    struct world_node *n = &w->node[node];
    if (n->loop != NULL) {
        loop_sim_kill(n->loop);
        n->loop = NULL;
    }
    if (w->verbose) {
        printf("%12.6f world     kill %s\n", (double)world_now_ns(w) / 1e9, n->name);
    }
}

void world_power_cut(struct world *w, unsigned node)
{
    world_kill(w, node);
    disk_sim_crash(w->node[node].disk);
    loop_sim_reboot(w->sim, w->node[node].host);
    if (w->verbose) {
        printf("%12.6f world     power cut %s\n", (double)world_now_ns(w) / 1e9,
               w->node[node].name);
    }
    if (node >= WORLD_TARGET(0) && node < WORLD_CLIENT(0)) {
        w->power_losses++;
    }
}

bool world_is_healthy(struct world *w)
{
    for (unsigned i = 0; i < WORLD_TARGETS; i++) {
        struct world_node *n = &w->node[WORLD_TARGET(i)];
        struct datanode_worker_info info;
        if (n->loop == NULL || n->worker == NULL) {
            return false;
        }
        datanode_worker_info(n->worker, &info);
        if (!info.leased || info.serving_count < info.chain_count || info.chain_count == 0) {
            return false;
        }
    }
    return w->node[WORLD_META].loop != NULL && metanode_is_serving(w->node[WORLD_META].meta);
}

/* ---- The world ---- */

static void init_node(struct world *w, unsigned i)
{
    struct world_node *n = &w->node[i];
    n->w = w;
    n->index = i;
    n->host = i + 1;
    if (i == WORLD_META) {
        snprintf(n->name, sizeof n->name, "meta");
    } else if (i < WORLD_CLIENT(0)) {
        snprintf(n->name, sizeof n->name, "target%u", i);
    } else {
        snprintf(n->name, sizeof n->name, "client%u", i - WORLD_CLIENT(0) + 1);
    }
    n->disk = disk_sim_new(&(struct disk_sim_options){.sim = w->sim});
    CHECK(n->disk != NULL);
}

void world_init(struct world *w, uint64_t seed, bool verbose)
{
    *w = (struct world){.verbose = verbose, .copies = 2};
    w->sim = loop_sim_new(seed);
    CHECK(w->sim != NULL);
    w->rand = loop_sim_rand(w->sim);
    w->net = net_sim_new(&(struct net_sim_options){.sim = w->sim});
    CHECK(w->net != NULL);
    memset(w->cluster_id.bytes, 0x5a, sizeof w->cluster_id.bytes);
    memset(w->secrets.server.bytes, 1, sizeof w->secrets.server.bytes);
    memset(w->secrets.client.bytes, 2, sizeof w->secrets.client.bytes);
    w->secrets.server.known = w->secrets.client.known = true;
    snprintf(w->meta_address.text, sizeof w->meta_address.text, "host1:%u", META_PORT);
    for (unsigned i = 0; i < WORLD_HOSTS; i++) {
        init_node(w, i);
    }
}

void world_fini(struct world *w)
{
    for (unsigned i = 0; i < WORLD_HOSTS; i++) {
        if (w->node[i].loop != NULL) {
            loop_sim_kill(w->node[i].loop);
        }
    }
    for (unsigned i = 0; i < WORLD_HOSTS; i++) {
        disk_sim_free(w->node[i].disk);
    }
    net_sim_free(w->net);
    loop_sim_free(w->sim);
}

void world_run(struct world *w, bool (*done)(void *context), void *context, uint64_t limit_ns,
               const char *what)
{
    uint64_t until = world_now_ns(w) + limit_ns;
    while (!world_failed(w) && !done(context)) {
        if (!loop_sim_step(w->sim)) {
            world_fail(w, "%s: nothing is left to happen", what);
        } else if (world_now_ns(w) > until) {
            world_fail(w, "%s: not done after %llu s", what,
                       (unsigned long long)(limit_ns / WORLD_S));
        }
    }
}
