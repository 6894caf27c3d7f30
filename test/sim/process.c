/* sim/process.c -- see process.h. */
#include "process.h"

#include "base/fault.h"
#include "base/mem.h"
#include "base/rand.h"
#include "base/stats.h"
#include "client/client.h"
#include "cluster/capability.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define FORGETS 1000u /* times that it says that something is not in memory */

#define TARGET_PORT 9410u
#define STOP_MS 3000u
#define CHECKPOINT_BYTES (16u << 10)
#define SESSION_KEEP_MS (UINT64_C(24) * 60000) /* a client that is silent: a 24th */

static void print_line(struct log_sink *s, const struct log_line *line)
{
    struct world_process *p = container_of(s, struct world_process, sink);
    p->node->sessions_lost += strcmp(line->message, "session has expired") == 0;
    if (!p->node->w->verbose) {
        return;
    }
    printf("%12.6f %s%-9s %-5s %s %s\n", (double)world_now_ns(p->node->w) / 1e9,
           p->master != NULL ? "+" : "", p->node->name, log_level_name(line->level), line->message,
           line->fields);
}

static bool is_target(const struct world_node *n)
{
    return n->index >= WORLD_TARGET(0) && n->index < WORLD_CLIENT(0);
}

/* ---- Ends ---- */

static void begin_stop(struct world_process *p);

/* What is left of it is freed as a real process does, before its memory vanishes anyway. */
static void free_all(struct world_process *p)
{
    p->supervised = datanode_supervised_free(p->supervised);
    p->worker = datanode_worker_free(p->worker);
    p->master = datanode_master_free(p->master);
    p->meta = metanode_free(p->meta);
    loop_stop(p->loop, 0);
}

static void end_fired(struct loop_task *t)
{
    free_all(container_of(t, struct world_process, end));
}

static void meta_stopped(struct metanode_stop *s, int rc)
{
    struct world_process *p = container_of(s, struct world_process, meta_stop);
    (void)rc; /* the log's, which may be what ended it */
    loop_defer(p->loop, &p->end);
}

static void master_stopped(struct datanode_master_user *u)
{
    struct world_process *p = container_of(u, struct world_process, master_user);
    loop_defer(p->loop, &p->end);
}

static void worker_stopped(struct datanode_worker_user *u, int rc)
{
    struct world_process *p = container_of(u, struct world_process, worker_user);
    (void)rc;
    loop_defer(p->loop, &p->end);
}

static void begin_stop(struct world_process *p)
{
    if (p->stopping) {
        return;
    }
    p->stopping = true;
    if (p->worker != NULL) {
        datanode_worker_stop(p->worker, STOP_MS - STOP_MS / 5);
    } else if (p->master != NULL) {
        datanode_master_stop(p->master, STOP_MS);
    } else if (p->meta != NULL) {
        p->meta_stop.done = meta_stopped;
        metanode_stop(p->meta, &p->meta_stop, STOP_MS);
    }
}

static void caught_term(struct loop_signal *s, int signo)
{
    (void)signo;
    begin_stop(container_of(s, struct world_process, term));
}

static void process_died(struct loop_sim_death *d, struct loop *l)
{
    struct world_process *p = container_of(d, struct world_process, death);
    (void)l;
    if (*p->place == p) {
        *p->place = NULL;
        world_say(p->node->w, p->place == &p->node->master ? "master ended" : "ended",
                  p->node->name);
    }
}

/* ---- The metadata server ---- */

static void meta_serving(struct metanode_user *u)
{
    container_of(u, struct world_process, meta_user)->node->formatted = true;
}

static void meta_ended(struct metanode_user *u, int rc, const char *reason)
{
    struct world_process *p = container_of(u, struct world_process, meta_user);
    if (!p->node->disk_trouble) {
        world_fail(p->node->w, "the metadata server gave up: %s (%s)", reason, err_name(rc));
    }
    begin_stop(p);
}

static const struct metanode_user_ops meta_ops = {.serving = meta_serving, .ended = meta_ended};

/* Now and then a bit of its newest checkpoint has flipped meanwhile: the one before must do, which
 * is therefore left alone. */
static void damage_checkpoint(struct world_process *p)
{
    struct world_node *n = p->node;
    struct disk_req list = {.op = DISK_LIST, .path = "/meta/state"};
    char newest[sizeof n->damaged] = "";
    if (!rand_chance(n->w->rand, 1, 6) || disk_now(p->env.disk, &list) < 0) {
        return;
    }
    for (size_t i = 0; i < list.names->count; i++) {
        if (strstr(list.names->name[i], ".image") != NULL) {
            snprintf(newest, sizeof newest, "/meta/state/%s", list.names->name[i]);
        }
    }
    mem_free(list.names);
    if (newest[0] != 0 && strcmp(newest, n->damaged) != 0 &&
        disk_sim_corrupt(n->disk, newest, rand_below(n->w->rand, 500), 1) == 0) {
        snprintf(n->damaged, sizeof n->damaged, "%s", newest);
        world_say(n->w, "damaged", newest);
    }
}

static int start_meta(struct world_process *p, struct err *e)
{
    struct world_node *n = p->node;
    p->meta_user.ops = &meta_ops;
    damage_checkpoint(p);
    struct metanode_options o = {.env = &p->env,
                                 .user = &p->meta_user,
                                 .directory = "/meta",
                                 .create = !n->formatted,
                                 .cluster_id = n->w->cluster_id,
                                 .secrets = &n->w->secrets,
                                 .listen = &n->w->meta_address,
                                 .name = n->name,
                                 .lease_ms = WORLD_LEASE_MS,
                                 .dark_wait_ms = 3000,
                                 .rebuild_ms = n->w->rebuild_ms,
                                 .table_quiet_ms = 200,
                                 .session_keep_ms = SESSION_KEEP_MS,
                                 .audit_wait_ms = 2000,
                                 .audit_window = 64,
                                 .copies = n->w->copies,
                                 .failure_domain = n->w->domain,
                                 .chunk_bytes = WORLD_CHUNK_BYTES,
                                 .checkpoint_bytes = CHECKPOINT_BYTES,
                                 .checkpoint_interval_ms = 20000,
                                 .engine = n->w->engine,
                                 .need_permille = n->w->need_permille,
                                 .busy_permille = n->w->need_permille,
                                 .strict = true};
    return metanode_start(&o, &p->meta, e);
}

/* ---- Data nodes: the worker ---- */

static void worker_registered(struct datanode_worker_user *u, uint32_t target)
{
    (void)u;
    (void)target;
}

static void replace_due(struct loop_sim_event *ev)
{
    struct world_node *n = container_of(ev, struct world_node, replace);
    world_kill_worker(n->w, n->index); /* an operator who restarts it */
}

static void worker_failed(struct datanode_worker_user *u, int rc, const char *reason)
{
    struct world_node *n = container_of(u, struct world_process, worker_user)->node;
    struct world *w = n->w;
    if (!n->disk_trouble) {
        world_fail(w, "%s: the store failed: %s (%s)", n->name, reason, err_name(rc));
    }
    world_say(w, "store failed", n->name);
    w->store_failures++;
    n->store_failed = true;
    world_may_lose(w, 1u << n->index);
    loop_sim_at(w->sim, &n->replace, world_now_ns(w) + world_between(w, 50, 3000) * WORLD_MS);
}

static const struct datanode_worker_user_ops worker_ops = {
    .registered = worker_registered, .failed = worker_failed, .stopped = worker_stopped};

static void master_lost(struct datanode_supervised_user *u)
{
    begin_stop(container_of(u, struct world_process, supervised_user));
}

static bool worker_settled(const struct datanode_supervised_user *u)
{
    const struct world_process *p = container_of(u, const struct world_process, supervised_user);
    struct datanode_worker_info info;
    datanode_worker_info(p->worker, &info);
    return info.settled;
}

static void disk_failures(struct datanode_supervised_user *u, uint32_t count)
{
    datanode_worker_failures(container_of(u, struct world_process, supervised_user)->worker, count);
}

static const struct datanode_supervised_user_ops supervised_ops = {
    .lost = master_lost, .settled = worker_settled, .disk_failures = disk_failures};

static int start_worker(struct world_process *p, const int *fds, struct err *e)
{
    struct world_node *n = p->node;
    p->worker_user.ops = &worker_ops;
    struct datanode_worker_options o = {.env = &p->env,
                                        .user = &p->worker_user,
                                        .directory = "/target",
                                        .name = n->name,
                                        .engine = n->extents ? DATANODE_ENGINE_EXTENT
                                                             : DATANODE_ENGINE_FILE,
                                        .format = !n->formatted,
                                        /* Faults end, and then all shall be well soon. */
                                        .health = {.slow_ms = 10,
                                                   .slow_for_ms = 500,
                                                   .stuck_ms = 3000,
                                                   .rest_ms = 2000,
                                                   .rest_max_ms = 4000},
                                        .cluster_id = n->w->cluster_id,
                                        .secrets = n->w->secrets,
                                        .meta = &n->w->meta_address,
                                        .meta_count = 1,
                                        .listen_fd = fds[0],
                                        .low_bytes = 1u << 20,
                                        .entry_bytes = n->forgets ? 1 : 0,
                                        .rest_ms = n->rest_ms,
                                        .host = n->machine,
                                        .rack = n->rack};
    int rc = datanode_worker_start(&o, &p->worker, e);
    if (rc < 0) {
        return rc;
    }
    n->formatted = true;
    struct datanode_worker_info info;
    datanode_worker_info(p->worker, &info);
    datanode_worker_address(p->worker, &p->address);
    p->supervised_user.ops = &supervised_ops;
    struct datanode_supervised_options s = {.env = &p->env,
                                            .user = &p->supervised_user,
                                            .secrets = n->w->secrets,
                                            .cluster_id = n->w->cluster_id,
                                            .name = n->name,
                                            .fd = fds[1],
                                            .uuid = info.uuid,
                                            .incarnation = info.incarnation,
                                            .address = p->address.text};
    return datanode_supervised_start(&s, &p->supervised);
}

/* ---- Data nodes: the master ---- */

static const struct datanode_master_user_ops master_ops = {.stopped = master_stopped};

static int start_master(struct world_process *p, struct err *e)
{
    struct world_node *n = p->node;
    p->master_user.ops = &master_ops;
    n->argv[1] = "data-worker";
    n->argv[2] = n->text;
    struct datanode_master_target t = {.name = n->name, .argv = n->argv};
    snprintf(t.listen.text, sizeof t.listen.text, "host%u:%u", n->host, TARGET_PORT + n->index);
    struct datanode_master_options o = {.env = &p->env,
                                        .user = &p->master_user,
                                        .cluster_id = n->w->cluster_id,
                                        .secrets = n->w->secrets,
                                        .name = n->name,
                                        .meta = &n->w->meta_address,
                                        .meta_count = 1,
                                        .targets = &t,
                                        .target_count = 1,
                                        .back_off_max_ms = 1000,
                                        .stable_ms = 5000,
                                        .watchdog_ms = 8000};
    return datanode_master_start(&o, &p->master, e);
}

/* ---- Clients ---- */

static int start_client(struct world_process *p)
{
    const struct world *w = p->node->w;
    struct client_options o = {.env = &p->env,
                               .addresses = &w->meta_address,
                               .address_count = 1,
                               .cluster_id = w->cluster_id,
                               .secrets = w->secrets,
                               .name = p->node->name};
    o.secrets.server.known = false;
    return client_new(&o, &p->fs);
}

/* ---- All of them ---- */

/* Inside the new process, with its domain entered. */
static struct world_process *process_new(struct world_node *n, struct world_process **place,
                                         struct loop *l)
{
    struct world *w = n->w;
    struct world_process *p = mem_zalloc(sizeof *p);
    CHECK(p != NULL);
    p->node = n;
    p->place = place;
    p->loop = l;
    p->sink.write = print_line;
    p->end.run = end_fired;
    mem_budget_init(&p->budget, NULL, UINT64_C(1) << 30);
    p->env = (struct env){.loop = l, .budget = &p->budget};
    p->env.stats = stats_new(NULL, n->name);
    p->env.fault = n->forgets ? fault_new() : NULL;
    if (n->forgets) { /* it reads the index again and again, for some time */
        fault_arm(p->env.fault, "chunk.need", world_between(n->w, 1, 100), FORGETS);
    }
    p->env.log = log_new(&(struct log_options){
        .node = n->name, .level = w->verbose ? LOG_DEBUG : LOG_WARN, .sink = &p->sink});
    int rc = disk_sim_open(n->disk, l, &p->env.disk);
    rc = rc < 0 ? rc : net_sim_open(w->net, n->host, l, &p->env.net);
    CHECK(rc == 0 && p->env.stats != NULL && p->env.log != NULL);
    p->death.died = process_died;
    loop_sim_on_death(l, &p->death);
    if (n->index < WORLD_CLIENT(0)) {
        p->term = (struct loop_signal){.caught = caught_term, .signo = SIGTERM};
        rc = loop_signal_add(l, &p->term);
        CHECK(rc == 0);
    }
    *place = p;
    return p;
}

static void say_trouble(const struct world_node *n, const struct err *e, int rc)
{
    char text[300];
    snprintf(text, sizeof text, "does not start: %s", err_message(e, rc));
    world_say(n->w, text, n->name);
}

static int worker_program_start(struct loop_sim_program *program, struct loop *l,
                                const struct loop_spawn_options *opt)
{
    struct world *w = container_of(program, struct world, worker_program);
    struct world_node *n = &w->node[opt->argv[2][0] - '0'];
    CHECK(opt->fd_count == 2);
    struct err e = {0};
    int rc = start_worker(process_new(n, &n->process, l), opt->fds, &e);
    if (rc < 0) {
        say_trouble(n, &e, rc);
    }
    return rc;
}

const struct loop_sim_program process_worker_program = {.name = "data-worker",
                                                        .start = worker_program_start};

struct starting {
    struct world_node *node;
    struct loop *loop;
    int rc;
};

static void start_inside(void *context)
{
    struct starting *s = context;
    struct world_node *n = s->node;
    struct err e = {0};
    struct world_process *p = process_new(n, is_target(n) ? &n->master : &n->process, s->loop);
    if (n->index == WORLD_META) {
        s->rc = start_meta(p, &e);
    } else {
        s->rc = is_target(n) ? start_master(p, &e) : start_client(p);
    }
    if (s->rc < 0) {
        say_trouble(n, &e, s->rc);
    }
}

static struct loop *new_loop(struct world_node *n)
{
    char name[32];
    struct loop *l = NULL;
    snprintf(name, sizeof name, "%s.%llu", n->name, (unsigned long long)n->starts++);
    int rc = loop_sim_process(n->w->sim, name, n->host, &l);
    CHECK(rc == 0);
    return l;
}

int process_start(struct world_node *n)
{
    struct starting s = {.node = n, .loop = new_loop(n)};
    loop_sim_enter(s.loop, start_inside, &s);
    if (s.rc < 0) {
        loop_sim_kill(s.loop);
    }
    return s.rc;
}

void process_kill(struct world_process *p)
{
    if (p != NULL) {
        loop_sim_kill(p->loop);
    }
}

void process_stop(struct world_process *p)
{
    if (p != NULL) {
        loop_sim_signal(p->loop, SIGTERM);
    }
}

static void make_directory(void *context)
{
    struct starting *s = context;
    const struct world_node *n = s->node;
    struct disk *d = NULL;
    s->rc = disk_sim_open(n->disk, s->loop, &d);
    CHECK(s->rc == 0);
    s->rc = disk_make_directories(d, n->index == WORLD_META ? "/meta" : "/target");
    CHECK(s->rc == 0);
}

void process_init_node(struct world *w, unsigned i)
{
    struct world_node *n = &w->node[i];
    n->w = w;
    snprintf(n->text, sizeof n->text, "%u", i);
    if (i == WORLD_META) {
        snprintf(n->name, sizeof n->name, "meta");
    } else if (is_target(n)) {
        snprintf(n->name, sizeof n->name, "target%u", i);
    } else {
        snprintf(n->name, sizeof n->name, "client%u", i - WORLD_CLIENT(0) + 1);
    }
    n->replace.run = replace_due;
    n->disk = disk_sim_new(&(struct disk_sim_options){.sim = w->sim});
    CHECK(n->disk != NULL);
    struct starting s = {.node = n, .loop = new_loop(n)};
    loop_sim_enter(s.loop, make_directory, &s);
    loop_sim_kill(s.loop);
}
