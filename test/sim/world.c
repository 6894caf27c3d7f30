/* sim/world.c -- see world.h. */
#include "world.h"

#include "process.h"

#include "base/rand.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- Failures and texts ---- */

void world_fail(struct world *w, const char *fmt, ...)
{
    if (w->failure[0] != 0) {
        return; /* the first one counts */
    }
    struct text t;
    va_list args;
    text_init(&t, w->failure, sizeof w->failure);
    va_start(args, fmt);
    text_add_va(&t, fmt, args);
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

void world_say(const struct world *w, const char *what, const char *name)
{
    if (w->verbose) {
        printf("%12.6f world     %s %s\n", (double)world_now_ns(w) / 1e9, what, name);
    }
}

/* ---- Processes and machines ---- */

static bool is_target(unsigned node)
{
    return node >= WORLD_TARGET(0) && node < WORLD_CLIENT(0);
}

static struct world_process *main_process(const struct world *w, unsigned node)
{
    return is_target(node) ? w->node[node].master : w->node[node].process;
}

void world_start(struct world *w, unsigned node)
{
    struct world_node *n = &w->node[node];
    CHECK(main_process(w, node) == NULL);
    if (is_target(node) && n->process != NULL) {
        return; /* the worker of the master before */
    }
    world_say(w, "start", n->name);
    n->absent = false;
    int rc = process_start(n);
    if (rc < 0 && !n->disk_trouble) {
        world_fail(w, "%s does not start: %s", n->name, err_name(rc));
    }
}

bool world_is_running(const struct world *w, unsigned node)
{
    return main_process(w, node) != NULL;
}

void world_kill(struct world *w, unsigned node)
{
    world_say(w, "kill", w->node[node].name);
    process_kill(main_process(w, node));
}

void world_kill_worker(struct world *w, unsigned node)
{
    world_say(w, "kill worker", w->node[node].name);
    process_kill(w->node[node].process);
}

void world_stop(struct world *w, unsigned node)
{
    world_say(w, "stop", w->node[node].name);
    process_stop(main_process(w, node));
}

void world_power_cut(struct world *w, unsigned node)
{
    struct world_node *n = &w->node[node];
    world_say(w, "power cut", n->name);
    loop_sim_kill_machine(w->sim, n->host);
    disk_sim_crash(n->disk);
    loop_sim_reboot(w->sim, n->host);
}

static bool worker_is_well(struct world_node *n)
{
    struct datanode_worker_info info;
    if (n->process == NULL || n->process->worker == NULL || n->process->stopping ||
        world_now_ns(n->w) < n->unsteady_until_ns) {
        return false;
    }
    datanode_worker_info(n->process->worker, &info);
    return info.failed == 0 && info.leased && info.serving_count == info.chain_count &&
           info.chain_count > 0;
}

bool world_is_healthy(struct world *w, unsigned but)
{
    for (unsigned i = 0; i < WORLD_TARGETS; i++) {
        struct world_node *n = &w->node[WORLD_TARGET(i)];
        if (n->index != but && !n->absent && !worker_is_well(n)) {
            return false;
        }
    }
    const struct world_process *meta = w->node[WORLD_META].process;
    return meta != NULL && meta->meta != NULL && metanode_is_serving(meta->meta);
}

void world_health(const struct world *w, char *to, size_t size)
{
    size_t len = 0;
    to[0] = 0;
    for (unsigned i = 0; i < WORLD_TARGETS && len < size; i++) {
        const struct world_node *n = &w->node[WORLD_TARGET(i)];
        struct datanode_worker_info info = {0};
        bool runs = n->process != NULL && n->process->worker != NULL;
        if (runs) {
            datanode_worker_info(n->process->worker, &info);
        }
        int made = snprintf(to + len, size - len, "%s%s %s: %zu of %zu serve, %zu sync, %s%s",
                            i > 0 ? "; " : "", n->name, runs ? "runs" : "does not run",
                            info.serving_count, info.chain_count, info.syncing_count,
                            info.leased ? "leased" : "no lease", info.failed < 0 ? ", failed" : "");
        len += made > 0 ? (size_t)made : 0;
    }
}

bool world_may_rot(struct world *w, unsigned node)
{
    if (w->rotten != 0 && w->rotten != node) {
        return false;
    }
    w->rotten = node;
    return true;
}

bool world_may_lack_good_copies(const struct world *w)
{
    return w->rots_alone > 0;
}

/* ---- The world ---- */

/* Mostly two; chains with members in the middle, and those that all targets have. */
static uint32_t copies_of(uint64_t seed)
{
    static const uint8_t copies[] = {2, 3, 2, 2, 3, 2, 2, 4};
    return copies[seed / 3 % ARRAY_COUNT(copies)];
}

void world_init(struct world *w, uint64_t seed, bool verbose)
{
    *w = (struct world){.verbose = verbose,
                        .copies = copies_of(seed),
                        .need_permille = 20,
                        .engine = seed % 2 == 1 ? METANODE_ENGINE_TREE : METANODE_ENGINE_MEMORY};
    w->sim = loop_sim_new(seed);
    CHECK(w->sim != NULL);
    w->rand = loop_sim_rand(w->sim);
    w->net = net_sim_new(&(struct net_sim_options){.sim = w->sim});
    CHECK(w->net != NULL);
    memset(w->cluster_id.bytes, 0x5a, sizeof w->cluster_id.bytes);
    memset(w->secrets.server.bytes, 1, sizeof w->secrets.server.bytes);
    memset(w->secrets.client.bytes, 2, sizeof w->secrets.client.bytes);
    w->secrets.server.known = w->secrets.client.known = true;
    snprintf(w->meta_address.text, sizeof w->meta_address.text, "host1:9400");
    w->worker_program = process_worker_program;
    loop_sim_program(w->sim, &w->worker_program);
    for (unsigned i = 0; i < WORLD_HOSTS; i++) {
        process_init_node(w, i);
        w->node[i].extents = (i + seed / 2) % 2 == 0;
        w->node[i].forgets = w->node[i].extents && (i / 2 + seed) % 2 == 0;
    }
}

void world_fini(struct world *w)
{
    for (unsigned i = 0; i < WORLD_HOSTS; i++) {
        loop_sim_kill_machine(w->sim, w->node[i].host);
        loop_sim_cancel(w->sim, &w->node[i].replace);
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

void world_settle(struct world *w)
{
    uint64_t until = world_now_ns(w) + 3 * WORLD_S;
    while (!world_failed(w) && world_now_ns(w) < until && loop_sim_step(w->sim)) {
        continue;
    }
}
