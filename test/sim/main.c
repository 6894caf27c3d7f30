/*
 * sim/main.c -- the simulated cluster, seed by seed.
 *
 *   sim --seeds N [--first S] [--jobs J]     N runs, each from its own seed
 *   sim --seed S [--verbose]                 one of them again, with everything that happens
 *   sim --history FILE --seed S [--verbose]  only the work on the same names, written to FILE
 *   ... --with A,B --without C --copies N    features (features.h), whatever the seeds say
 *
 * A run: a fresh cluster of one metadata server and four or six targets, clients doing random work,
 * servers killed, machines without power, connections cut; then everything is healed, and fresh
 * clients look at every name and byte. Every tenth seed runs twice and must do the very same thing;
 * every eighth also tells the first story of scenario.h, every other eighth the second, and every
 * fourth has clients that work on the same names (names.h), whose history must be linearizable.
 */
#include "append.h"
#include "classes.h"
#include "drains.h"
#include "faults.h"
#include "keep.h"
#include "load.h"
#include "names.h"
#include "replay.h"
#include "rest.h"
#include "scenario.h"
#include "share.h"
#include "watch.h"

#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ACTIONS 250u
#define RUN_LIMIT_NS (600 * WORLD_S)
#define TWICE_EVERY 10u
#define SCENARIO_EVERY 8u
#define NAMES_EVERY 4u
#define REBUILD_MS 2500u
#define ADDED_MIN_MS 2000u
#define ADDED_MAX_MS 20000u

struct run {
    struct world world;
    struct faults faults;
    struct load load[WORLD_LOADS];
    struct share share;
    struct append append;
    struct keep keep;
    struct drains drains;
    bool has_drains;
    struct watch *watch;
};

static bool is_healthy(void *context)
{
    return world_is_healthy(&((struct run *)context)->world, WORLD_HOSTS);
}

static bool is_moved(void *context)
{
    struct run *r = context;
    return !r->has_drains || drains_ended(&r->drains);
}

static bool loads_ended(void *context)
{
    struct run *r = context;
    bool all = true;
    for (unsigned i = 0; i < WORLD_LOADS; i++) {
        all = load_step(&r->load[i]) && all;
    }
    if (r->has_drains && all) {
        drains_stop(&r->drains);
    }
    if (all && !r->share.stopping) {
        share_stop(&r->share);
        append_stop(&r->append);
        keep_stop(&r->keep);
    }
    bool shared = share_step(&r->share), appended = append_step(&r->append);
    bool kept = keep_step(&r->keep);
    return shared && appended && kept && all;
}

static void start_all(struct run *r)
{
    world_start_all(&r->world);
    world_run(&r->world, is_healthy, r, 60 * WORLD_S, "the cluster comes up");
}

/* Fresh clients: nothing that an old one has in memory can hide what servers have lost. */
static void audit(struct run *r)
{
    struct world *w = &r->world;
    world_run(w, is_moved, r, 300 * WORLD_S, "all copies are where they belong");
    world_run(w, is_healthy, r, 120 * WORLD_S, "all copies are there again");
    world_settle(w);
    if (world_failed(w)) {
        char health[300];
        world_health(w, health, sizeof health);
        snprintf(w->failure, sizeof w->failure, "not all copies are there again: %s", health);
    }
    if (!world_failed(w)) {
        faults_rot(&r->faults);
    }
    for (unsigned i = 0; i < WORLD_CLIENTS && !world_failed(w); i++) {
        world_kill(w, WORLD_CLIENT(i));
        world_start(w, WORLD_CLIENT(i));
    }
    for (unsigned i = 0; i < WORLD_LOADS && !world_failed(w); i++) {
        load_begin_audit(&r->load[i]);
    }
    share_begin_audit(&r->share);
    append_begin_audit(&r->append);
    world_run(w, loads_ended, r, RUN_LIMIT_NS, "the last look at everything");
    share_verify(&r->share);
    append_verify(&r->append);
    for (unsigned i = 0; i < WORLD_CLIENTS && !world_failed(w); i++) {
        faults_leave_down(&r->faults, WORLD_CLIENT(i));
    }
    if (!world_failed(w)) {
        replay_check(w);
    }
    if (!world_failed(w)) {
        rest_check(w);
    }
}

struct outcome {
    char failure[2600], features[FEATURES_TEXT];
    bool undecided;
    uint64_t digest, steps, actions;
    double seconds;
    uint64_t kills, power_cuts, partitions;
};

static void init_all(struct run *r, uint64_t seed, const struct features *f, bool verbose)
{
    struct world *w = &r->world;
    world_init_with(w, seed, f, verbose);
    faults_init(&r->faults, w);
    for (unsigned i = 0; i < WORLD_LOADS; i++) {
        load_init(&r->load[i], w, i, ACTIONS);
    }
    share_init(&r->share, w);
    append_init(&r->append, w);
    keep_init(&r->keep, w);
    drains_init(&r->drains, w);
    r->has_drains = features_have(f, FEATURE_DRAINS);
    w->rebuild_ms = features_have(f, FEATURE_REBUILD) ? REBUILD_MS : 0;
    if (features_have(f, FEATURE_ADDS) && base_max(w->copies, w->other_copies) < w->targets) {
        uint64_t at_ms = world_between(w, ADDED_MIN_MS, ADDED_MAX_MS);
        faults_add_later(&r->faults, WORLD_TARGET(w->targets - 1), at_ms);
    }
    r->faults.rots_early = features_have(f, FEATURE_ROTS);
    r->watch = w->watch = watch_new(w);
}

static bool first_has_begun(void *context)
{
    struct run *r = context;
    (void)load_step(&r->load[0]);
    return r->load[0].finished > 0;
}

/* The first client's directory is of the first class, all that comes later of the second. */
static void begin_loads(struct run *r)
{
    struct world *w = &r->world;
    load_begin(&r->load[0]);
    if (w->other_copies > 0) {
        world_run(w, first_has_begun, r, WORLD_S, "the first directory");
        classes_use(w);
    }
    for (unsigned i = 1; i < WORLD_LOADS && !world_failed(w); i++) {
        load_begin(&r->load[i]);
    }
}

static void run_seed(uint64_t seed, const struct features *f, bool verbose, struct outcome *ret)
{
    struct run *r = mem_zalloc(sizeof *r);
    CHECK(r != NULL);
    struct world *w = &r->world;
    init_all(r, seed, f, verbose);
    start_all(r);
    watch_begin(r->watch);
    if (w->other_copies > 0) {
        classes_make(w);
    }
    if (!world_failed(w)) {
        begin_loads(r);
    }
    if (!world_failed(w)) {
        faults_begin(&r->faults);
        share_begin(&r->share);
        append_begin(&r->append);
        keep_begin(&r->keep);
        if (r->has_drains) {
            drains_begin(&r->drains);
        }
        world_run(w, loads_ended, r, RUN_LIMIT_NS, "random work");
    }
    if (!world_failed(w)) {
        faults_end(&r->faults);
        audit(r);
    }
    watch_end(r->watch);
    *ret = (struct outcome){.digest = loop_sim_digest(w->sim),
                            .steps = loop_sim_steps(w->sim),
                            .seconds = (double)world_now_ns(w) / 1e9,
                            .kills = r->faults.kills,
                            .power_cuts = r->faults.power_cuts,
                            .partitions = r->faults.partitions};
    (void)snprintf(ret->failure, sizeof ret->failure, "%s", w->failure);
    features_to_text(f, ret->features);
    for (unsigned i = 0; i < WORLD_LOADS; i++) {
        ret->actions += r->load[i].finished;
        load_fini(&r->load[i]);
    }
    if (verbose) {
        printf("%u records appended, %u acknowledged, %u failed\n", r->append.count,
               r->append.acked, r->append.failed);
        printf("%u files kept open, %u reads of them, %u without their name\n", r->keep.made,
               r->keep.reads, r->keep.nameless);
        printf(
            "all targets were looked at %llu times, %llu comparisons, %llu syncs, %llu places\n",
            (unsigned long long)watch_looks(r->watch), (unsigned long long)watch_compared(r->watch),
            (unsigned long long)watch_syncs(r->watch), (unsigned long long)watch_places(r->watch));
    }
    ret->actions += r->share.count + r->append.count + r->keep.reads;
    r->watch = watch_free(r->watch);
    drains_fini(&r->drains);
    keep_fini(&r->keep);
    append_fini(&r->append);
    share_fini(&r->share);
    world_fini(w);
    mem_free(r);
}

enum verdict { PASSED, FAILED, UNDECIDED };
struct options {
    const char *program;
    uint64_t first, count, jobs;
    struct features_wish wish;
    char wishes[200]; /* as they were given, for who repeats it */
    const char *history;
    bool verbose, one;
};

/* Clients that work on the same names. */
static void check_names(uint64_t seed, bool verbose, struct outcome *ret)
{
    struct names_result a, b;
    names_run(seed, verbose, NULL, &a);
    if (a.failure[0] == 0 && seed % TWICE_EVERY == 0) {
        names_run(seed, false, NULL, &b);
        if (a.digest != b.digest) {
            (void)snprintf(a.failure, sizeof a.failure, "two runs of this seed differ");
        }
    }
    if (a.failure[0] != 0) {
        (void)snprintf(ret->failure, sizeof ret->failure,
                       "work on the same names: %s\n  only that: --history FILE --seed %llu",
                       a.failure, (unsigned long long)seed);
    }
    ret->undecided = a.undecided;
    ret->actions += a.operations;
}

static bool write_history(const char *path, uint64_t seed, bool verbose)
{
    struct names_result r;
    names_run(seed, verbose, path, &r);
    const char *verdict = r.undecided ? "not decided: " : "linearizable: ";
    printf("seed %llu: %s%s%llu operations, %llu changes of unknown outcome, %llu states\n",
           (unsigned long long)seed, r.failure[0] == 0 ? verdict : r.failure,
           r.failure[0] == 0 ? "" : "\n  ", (unsigned long long)r.operations,
           (unsigned long long)r.unknown, (unsigned long long)r.states);
    return r.failure[0] == 0 && !r.undecided;
}

static enum verdict check_seed(const struct options *o, uint64_t seed)
{
    struct outcome a, b;
    struct features f = features_of(seed, &o->wish);
    bool verbose = o->verbose;
    run_seed(seed, &f, verbose, &a);
    if (a.failure[0] == 0 && seed % TWICE_EVERY == 0) {
        run_seed(seed, &f, false, &b);
        if (a.digest != b.digest || a.steps != b.steps) {
            snprintf(a.failure, sizeof a.failure,
                     "two runs of this seed differ: %llu and %llu steps",
                     (unsigned long long)a.steps, (unsigned long long)b.steps);
        }
    }
    if (a.failure[0] == 0 && seed % SCENARIO_EVERY == 0) {
        scenario_power_cut_before_fsync(seed, verbose, a.failure, sizeof a.failure);
    }
    if (a.failure[0] == 0 && seed % SCENARIO_EVERY == SCENARIO_EVERY / 2) {
        scenario_promotion(seed, verbose, a.failure, sizeof a.failure);
    }
    if (a.failure[0] == 0 && seed % NAMES_EVERY == 0) {
        check_names(seed, verbose, &a);
    }
    if (a.failure[0] != 0) {
        printf("seed %llu (%s): FAILED: %s\n  repeat: %s --seed %llu%s --verbose\n",
               (unsigned long long)seed, a.features, a.failure, o->program,
               (unsigned long long)seed, o->wishes);
    } else {
        printf("seed %llu (%s): ok: %llu actions, %llu kills, %llu power cuts, %llu partitions in "
               "%.1f s of the world (%llu steps)\n",
               (unsigned long long)seed, a.features, (unsigned long long)a.actions,
               (unsigned long long)a.kills, (unsigned long long)a.power_cuts,
               (unsigned long long)a.partitions, a.seconds, (unsigned long long)a.steps);
    }
    if (a.undecided && a.failure[0] == 0) {
        printf("seed %llu: skipped: its history of work on the same names is not decided\n",
               (unsigned long long)seed);
    }
    fflush(stdout);
    return a.failure[0] != 0 ? FAILED : a.undecided ? UNDECIDED : PASSED;
}

/* One process per seed, `jobs` at a time: a crash is that seed's failure and nobody else's. */
static int run_many(const struct options *o)
{
    uint64_t next = o->first, end = o->first + o->count, running = 0, passed = 0, failed = 0;
    uint64_t skipped = 0;
    while (next < end || running > 0) {
        if (next < end && running < o->jobs) {
            uint64_t seed = next++;
            fflush(stdout);
            pid_t pid = fork();
            if (pid == 0) {
                enum verdict verdict = check_seed(o, seed);
                fflush(stdout);
                _exit((int)verdict);
            }
            CHECK(pid > 0);
            running++;
            continue;
        }
        int status = 0;
        pid_t pid = wait(&status);
        CHECK(pid > 0);
        running--;
        bool good = WIFEXITED(status) && WEXITSTATUS(status) == PASSED;
        bool open = WIFEXITED(status) && WEXITSTATUS(status) == UNDECIDED;
        passed += good ? 1 : 0;
        skipped += open ? 1 : 0;
        failed += good || open ? 0 : 1;
        if (!WIFEXITED(status)) {
            printf("a run was ended by signal %d; seeds without a line above: %s --seed N\n",
                   WTERMSIG(status), o->program);
        }
    }
    printf("%llu passed, %llu failed, %llu skipped\n", (unsigned long long)passed,
           (unsigned long long)failed, (unsigned long long)skipped);
    return failed == 0 ? 0 : 1;
}

static int usage(void)
{
    fprintf(stderr, "usage: sim --seeds N [--first S] [--jobs J] | --seed S [--history FILE] "
                    "[--verbose]\n  [--with FEATURE,...] [--without FEATURE,...] [--copies N]\n");
    return 2;
}

/* Adds the features that a list names. */
static bool parse_features(const char *list, uint32_t *bits)
{
    char copy[200], *rest = NULL;
    (void)snprintf(copy, sizeof copy, "%s", list);
    for (char *name = strtok_r(copy, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest)) {
        uint32_t bit = 0;
        if (features_find(name, &bit) < 0) {
            return false;
        }
        *bits |= bit;
    }
    return true;
}

static bool parse_wish(struct options *o, const char *option, const char *value)
{
    uint64_t copies = 0;
    bool good = false;
    if (strcmp(option, "--with") == 0) {
        good = parse_features(value, &o->wish.with);
    } else if (strcmp(option, "--without") == 0) {
        good = parse_features(value, &o->wish.without);
    } else if (text_to_u64(value, &copies) == 0 && copies >= 1 && copies <= 5) {
        o->wish.copies = (uint32_t)copies;
        good = true;
    }
    size_t len = strlen(o->wishes);
    (void)snprintf(o->wishes + len, sizeof o->wishes - len, " %s %s", option, value);
    return good;
}

/* One option, and its number if it has one. How many arguments it took; 0: nonsense. */
static int parse_option(struct options *o, char **arg, int left)
{
    uint64_t v = 0;
    if (strcmp(arg[0], "--verbose") == 0) {
        o->verbose = true;
        return 1;
    }
    if (left > 1 && strcmp(arg[0], "--history") == 0) {
        o->history = arg[1];
        return 2;
    }
    if (left > 1 && (strncmp(arg[0], "--with", 6) == 0 || strcmp(arg[0], "--copies") == 0)) {
        return parse_wish(o, arg[0], arg[1]) ? 2 : 0;
    }
    if (left == 1 || text_to_u64(arg[1], &v) < 0) {
        return 0;
    }
    o->one = o->one || strcmp(arg[0], "--seed") == 0;
    if (strcmp(arg[0], "--seeds") == 0) {
        o->count = v;
    } else if (strcmp(arg[0], "--first") == 0 || strcmp(arg[0], "--seed") == 0) {
        o->first = v;
    } else if (strcmp(arg[0], "--jobs") == 0 && v > 0) {
        o->jobs = v;
    } else {
        return 0;
    }
    return 2;
}

int main(int argc, char **argv)
{
    struct options o = {.program = argv[0], .first = 1, .jobs = 2};
    for (int i = 1, took; i < argc; i += took) {
        took = parse_option(&o, argv + i, argc - i);
        if (took == 0) {
            return usage();
        }
    }
    if (o.history != NULL) {
        return !o.one ? usage() : write_history(o.history, o.first, o.verbose) ? 0 : 1;
    }
    if (o.one) {
        return check_seed(&o, o.first) == PASSED ? 0 : 1;
    }
    return o.count == 0 ? usage() : run_many(&o);
}
