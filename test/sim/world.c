/* sim/world.c -- see world.h. */
#include "world.h"

#include "process.h"

#include "base/rand.h"
#include "base/text.h"
#include "proto/values.h"

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
    CHECK(main_process(w, node) == NULL && !n->unused);
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
    for (unsigned i = 0; i < WORLD_HOSTS; i++) {
        if (w->node[i].host == n->host) {
            disk_sim_crash(w->node[i].disk);
        }
    }
    loop_sim_reboot(w->sim, n->host);
}

void world_start_all(struct world *w)
{
    for (unsigned i = 0; i < WORLD_HOSTS; i++) {
        if (!w->node[i].absent && !w->node[i].unused) {
            world_start(w, i);
        }
    }
}

uint32_t world_machine_of(const struct world *w, unsigned node)
{
    uint32_t nodes = 0;
    for (unsigned i = 0; i < WORLD_HOSTS; i++) {
        nodes |= w->node[i].host == w->node[node].host ? 1u << i : 0;
    }
    return nodes;
}

uint32_t world_rack_of(const struct world *w, unsigned node)
{
    uint32_t nodes = 0;
    for (unsigned i = 0; i < w->targets; i++) {
        bool same = strcmp(w->node[WORLD_TARGET(i)].rack, w->node[node].rack) == 0;
        nodes |= same ? 1u << WORLD_TARGET(i) : 0;
    }
    return nodes;
}

static const struct world_node *node_of_target(const struct world *w, uint32_t target)
{
    for (unsigned i = 0; i < w->targets; i++) {
        const struct world_node *n = &w->node[WORLD_TARGET(i)];
        struct datanode_worker_info info = {0};
        if (n->process != NULL && n->process->worker != NULL) {
            datanode_worker_info(n->process->worker, &info);
        }
        if (info.target == target && target != 0) {
            return n;
        }
    }
    return NULL; /* it does not run */
}

static bool has_all(const struct world *w, const struct cluster_row *row, uint32_t nodes)
{
    for (size_t i = 0; i < row->count; i++) {
        const struct world_node *n = node_of_target(w, row->member[i].target);
        bool serves = row->member[i].state == PROTO_MEMBER_SERVING;
        if (serves && n != NULL && (nodes >> n->index & 1) == 0) {
            return false;
        }
    }
    return true;
}

bool world_have_all_of_a_chain(const struct world *w, uint32_t nodes)
{
    static struct datanode_worker_chain chain[256]; /* each world is a process of its own */
    for (unsigned i = 0; i < w->targets; i++) {
        const struct world_node *n = &w->node[WORLD_TARGET(i)];
        bool asked = (nodes >> n->index & 1) != 0 && n->process != NULL && n->process->worker;
        size_t count =
            asked ? datanode_worker_chains(n->process->worker, chain, ARRAY_COUNT(chain)) : 0;
        for (size_t k = 0; k < count; k++) {
            if (has_all(w, &chain[k].row, nodes)) {
                return true;
            }
        }
    }
    return false;
}

void world_may_lose(struct world *w, uint32_t nodes)
{
    if (w->cut || !world_others_are_healthy(w, nodes) || world_have_all_of_a_chain(w, nodes)) {
        w->possible_losses++; /* they may have been the only ones that had the newest data */
    }
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
    return world_others_are_healthy(w, but < WORLD_HOSTS ? 1u << but : 0);
}

bool world_others_are_healthy(struct world *w, uint32_t but)
{
    for (unsigned i = 0; i < w->targets; i++) {
        struct world_node *n = &w->node[WORLD_TARGET(i)];
        if ((but >> n->index & 1) == 0 && !n->absent && !worker_is_well(n)) {
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
    for (unsigned i = 0; i < w->targets && len < size; i++) {
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

#define REST_MS 200u

/* Mostly two; chains with members in the middle, and those that all targets have. */
static uint32_t copies_of(uint64_t seed)
{
    static const uint8_t copies[] = {2, 3, 2, 2, 3, 2, 2, 4};
    return copies[seed / 3 % ARRAY_COUNT(copies)];
}

static void place_targets(struct world *w, const struct features *f)
{
    bool pairs = features_have(f, FEATURE_PAIRS);
    for (unsigned i = 0; i < WORLD_TARGETS; i++) {
        struct world_node *n = &w->node[WORLD_TARGET(i)];
        unsigned machine = pairs ? i / 2 : i;
        n->unused = i >= w->targets;
        n->host = w->node[WORLD_TARGET(machine)].index + 1;
        snprintf(n->machine, sizeof n->machine, "machine%u", machine + 1);
        snprintf(n->rack, sizeof n->rack, "rack%u", machine % WORLD_RACKS + 1);
    }
}

void world_init(struct world *w, uint64_t seed, bool verbose)
{
    struct features f = {.copies = copies_of(seed)};
    world_init_with(w, seed, &f, verbose);
}

static uint32_t domain_of(const struct features *f)
{
    if (features_have(f, FEATURE_ANYWHERE)) {
        return PROTO_DOMAIN_TARGET;
    }
    bool racks = features_have(f, FEATURE_RACKS) && f->copies <= WORLD_RACKS;
    return racks ? PROTO_DOMAIN_RACK : 0;
}

static unsigned targets_of(const struct features *f)
{
    bool many = f->copies > WORLD_TARGETS_FEW || features_have(f, FEATURE_PAIRS) ||
                features_have(f, FEATURE_RACKS);
    return many ? WORLD_TARGETS : WORLD_TARGETS_FEW;
}

void world_init_with(struct world *w, uint64_t seed, const struct features *f, bool verbose)
{
    *w = (struct world){.verbose = verbose,
                        .targets = targets_of(f),
                        .copies = f->copies,
                        .other_copies = f->other,
                        .domain = domain_of(f),
                        .racks = features_have(f, FEATURE_RACKS),
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
        w->node[i].index = i;
        w->node[i].host = i + 1;
    }
    place_targets(w, f);
    for (unsigned i = 0; i < WORLD_HOSTS; i++) {
        process_init_node(w, i);
        w->node[i].extents = (i + seed / 2) % 2 == 0;
        w->node[i].rest_ms = (i + seed) % 3 == 0 ? 0 : REST_MS;
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
