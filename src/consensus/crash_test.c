/*
 * consensus/crash_test.c -- seeds: one voter under load dies or loses its machine at a random
 * moment, with or without faults of its disk, and starts again. The owner executes at once or
 * later.
 *
 * What every life executes must begin with all that the lives before executed, hold everything that
 * was acknowledged at the index that was told, in the order of proposal, and nothing that was
 * refused. The world (what was proposed, answered, executed) lives outside of the process.
 */
#include "base/env.h"
#include "base/mem.h"
#include "base/rand.h"
#include "consensus/consensus.h"
#include "disk/sim.h"
#include "loop/sim.h"
#include "testing/machine.h"
#include "testing/testing.h"

#include <string.h>

#define IDS_MAX 4096u
#define PAYLOAD_MAX 4000u
#define MS 1000000ull
#define DIRECTORY "/consensus"

enum fate { UNKNOWN, ACKNOWLEDGED, REFUSED };

struct executed {
    uint64_t id[IDS_MAX], index[IDS_MAX];
    size_t count;
};

struct world {
    struct rand rand;
    struct testing_machine machine;
    struct consensus *consensus;
    struct consensus_fsm fsm;
    struct env env;
    enum fate fate[IDS_MAX];
    uint64_t acknowledged_at[IDS_MAX];
    uint64_t last_id;
    struct executed now, before;
    uint64_t state_index; /* kept by the owner: a checkpoint, as good as on disk */
    size_t state_count;
    uint64_t older_index; /* the one before, which the log must still go back to */
    size_t older_count;
    uint64_t last_term;
    bool faults, checkpoints, quiet, leads, stopped, lazy;
    int open_rc, failed, stop_rc;
    unsigned failed_calls, acknowledged, snapshots, fallen_back;
    struct err err;
    struct loop_timer later;
    struct consensus_entry *entry;
};

/* --- the owner -----------------------------------------------------------------------------------
 */

static void execute(struct world *w, struct consensus_entry *e)
{
    struct consensus_operation op;
    uint32_t count = 0;
    while (consensus_entry_next(e, &op)) {
        uint8_t expected[PAYLOAD_MAX];
        uint64_t id = 0;
        CHECK_TRUE(op.len >= sizeof id && (uintptr_t)op.bytes % 8 == 0);
        memcpy(&id, op.bytes, sizeof id);
        CHECK_EQ(testing_payload(id, PAYLOAD_MAX, expected), op.len);
        CHECK_BYTES(op.bytes, expected, op.len);
        CHECK_TRUE(op.local == NULL || op.local->bytes != op.bytes);
        CHECK_TRUE(w->now.count < IDS_MAX && w->fate[id] != REFUSED);
        CHECK_TRUE(w->now.count == 0 || id > w->now.id[w->now.count - 1]);
        w->now.id[w->now.count] = id;
        w->now.index[w->now.count] = e->index;
        w->now.count++;
        count++;
    }
    CHECK_EQ(count, e->count);
    CHECK_TRUE(e->term >= w->last_term);
    w->last_term = e->term;
    consensus_applied(w->consensus, e->index);
}

static void later_fire(struct loop_timer *t)
{
    struct world *w = container_of(t, struct world, later);
    execute(w, w->entry);
}

static void world_apply(struct consensus_fsm *f, struct consensus_entry *e)
{
    struct world *w = container_of(f, struct world, fsm);
    CHECK_EQ(consensus_applied_index(w->consensus), e->index - 1);
    if (w->lazy && rand_chance(&w->rand, 1, 3)) {
        w->entry = e;
        loop_timer_in(w->machine.loop, &w->later, rand_below(&w->rand, 2 * MS));
    } else {
        execute(w, e);
    }
}

static void world_state(struct consensus_fsm *f, const struct consensus_state *s)
{
    struct world *w = container_of(f, struct world, fsm);
    w->leads = s->role == CONSENSUS_LEADER;
}

static int world_snapshot(struct consensus_fsm *f, struct consensus_reference *ret)
{
    struct world *w = container_of(f, struct world, fsm);
    CHECK_EQ(consensus_applied_index(w->consensus), ret->index);
    w->older_index = w->state_index;
    w->older_count = w->state_count;
    w->state_index = ret->index;
    w->state_count = w->now.count;
    ret->keep_from = w->older_index + 1;
    memcpy(ret->bytes, &ret->index, sizeof ret->index);
    ret->len = sizeof ret->index;
    w->snapshots++;
    return 0;
}

static int world_restore(struct consensus_fsm *f, const struct consensus_reference *r)
{
    (void)f;
    (void)r;
    return -EIO; /* the state is never behind the snapshot here */
}

static void world_failed(struct consensus_fsm *f, int rc, const char *reason)
{
    struct world *w = container_of(f, struct world, fsm);
    CHECK_TRUE(rc < 0 && reason[0] != 0);
    CHECK_EQ(consensus_lease_until_ns(w->consensus), 0);
    w->failed = rc;
    w->failed_calls++;
    CHECK_EQ(w->failed_calls, 1);
}

static const struct consensus_fsm_ops world_ops = {.apply = world_apply,
                                                   .state = world_state,
                                                   .snapshot = world_snapshot,
                                                   .restore = world_restore,
                                                   .failed = world_failed};

/* --- the load ------------------------------------------------------------------------------------
 */

struct actor {
    struct world *world;
    struct consensus_proposal proposal;
    uint64_t id;
    uint8_t bytes[PAYLOAD_MAX];
};

static void actor_done(struct consensus_proposal *p, int rc, uint64_t index)
{
    struct actor *x = container_of(p, struct actor, proposal);
    struct world *w = x->world;
    if (rc == 0) {
        CHECK_TRUE(w->now.count > 0 && index > 0);
        CHECK_TRUE(consensus_applied_index(w->consensus) >= index);
        w->fate[x->id] = ACKNOWLEDGED;
        w->acknowledged_at[x->id] = index;
        w->acknowledged++;
    } else if (rc != -ERR_unknown_outcome) {
        CHECK_TRUE(rc == -ERR_not_leader || rc == -ERR_busy || rc == -ENOSPC ||
                   rc == -ERR_failed_before || rc == -ERR_shutting_down);
        w->fate[x->id] = REFUSED;
    }
    mem_free(x);
}

static void propose(struct world *w)
{
    if (w->last_id + 2 > IDS_MAX) {
        return;
    }
    struct actor *x = mem_zalloc(sizeof *x);
    CHECK_TRUE(x != NULL);
    x->world = w;
    x->id = ++w->last_id;
    x->proposal.done = actor_done;
    x->proposal.bytes = x->bytes;
    x->proposal.len = testing_payload(x->id, PAYLOAD_MAX, x->bytes);
    consensus_propose(w->consensus, &x->proposal);
}

struct driver {
    struct world *world;
    struct loop_timer timer;
};

static void driver_fire(struct loop_timer *t)
{
    struct driver *d = container_of(t, struct driver, timer);
    struct world *w = d->world;
    if (w->quiet) {
        return;
    }
    uint64_t burst = rand_below(&w->rand, 8);
    for (uint64_t i = 0; i < burst; i++) {
        propose(w);
    }
    if (w->checkpoints && rand_chance(&w->rand, 1, 20)) {
        consensus_snapshot_want(w->consensus);
    }
    if (w->checkpoints && rand_chance(&w->rand, 1, 4)) {
        int rc = rand_chance(&w->rand, 1, 4) ? -EIO : 0;
        consensus_snapshot_durable(w->consensus, w->state_index, rc);
    }
    loop_timer_in(w->machine.loop, t, rand_below(&w->rand, 2 * MS));
}

/* --- lives ---------------------------------------------------------------------------------------
 */

static void process_start(void *ctx)
{
    struct world *w = ctx;
    w->err = (struct err){0};
    w->open_rc = disk_make_directories(w->env.disk, DIRECTORY);
    static const struct consensus_voter voter = {.id = 7, .address = "here:1"};
    struct consensus_options opt = {.env = &w->env,
                                    .directory = DIRECTORY,
                                    .fsm = &w->fsm,
                                    .cluster = "cluster",
                                    .id = 7,
                                    .voters = &voter,
                                    .voter_count = 1,
                                    .bootstrap = true,
                                    .applied = w->state_index,
                                    .queue_bytes = 64u << 10,
                                    .segment_bytes = 5u << 20,
                                    .sparse = !w->faults};
    w->open_rc = w->open_rc < 0 ? w->open_rc : consensus_open(&opt, &w->consensus, &w->err);
    if (w->open_rc == 0) {
        w->open_rc = consensus_start(w->consensus, &w->err);
    }
    if (w->open_rc == 0) {
        struct driver *d = mem_zalloc(sizeof *d);
        CHECK_TRUE(d != NULL);
        d->world = w;
        d->timer.fire = driver_fire;
        loop_timer_in(w->machine.loop, &d->timer, 0);
    }
}

struct stopper {
    struct world *world;
    struct consensus_stop stop;
};

static void stopper_done(struct consensus_stop *s, int rc)
{
    struct stopper *x = container_of(s, struct stopper, stop);
    x->world->stopped = true;
    x->world->stop_rc = rc;
    x->world->consensus = consensus_free(x->world->consensus);
    mem_free(x);
}

static void process_stop(void *ctx)
{
    struct world *w = ctx;
    struct stopper *x = mem_zalloc(sizeof *x);
    CHECK_TRUE(x != NULL);
    x->world = w;
    x->stop.done = stopper_done;
    consensus_stop(w->consensus, &x->stop);
}

static bool world_stopped(void *ctx)
{
    return ((struct world *)ctx)->stopped;
}

static void world_start(struct world *w)
{
    w->failed = 0;
    w->failed_calls = 0;
    w->last_term = 0;
    w->leads = w->stopped = w->quiet = false;
    w->lazy = rand_chance(&w->rand, 1, 2);
    w->consensus = NULL;
    w->later = (struct loop_timer){.fire = later_fire};
    w->before = w->now;
    if (rand_chance(&w->rand, 1, 4)) { /* the newest checkpoint is damaged */
        w->fallen_back += w->state_index != w->older_index;
        w->state_index = w->older_index;
        w->state_count = w->older_count;
    }
    w->now.count = w->state_count;
    testing_machine_start(&w->machine, "meta", &w->env);
    loop_sim_enter(w->machine.loop, process_start, w);
}

enum end { END_KILL, END_CRASH, END_STOP };

static void world_end(struct world *w, enum end end)
{
    if (end == END_STOP) {
        w->quiet = true;
        loop_sim_enter(w->machine.loop, process_stop, w);
        CHECK_TRUE(testing_machine_until(&w->machine, world_stopped, w, 20000));
    }
    testing_machine_kill(&w->machine, end == END_CRASH);
}

/* What this life has executed so far fits what the one before did, as far as either goes. */
static void world_compare(const struct world *w)
{
    for (size_t i = 0; i < w->now.count && i < w->before.count; i++) {
        CHECK_EQ(w->now.id[i], w->before.id[i]);
        CHECK_EQ(w->now.index[i], w->before.index[i]);
    }
}

static bool executed_has(const struct executed *x, uint64_t id, uint64_t index)
{
    for (size_t i = 0; i < x->count; i++) {
        if (x->id[i] == id) {
            return x->index[i] == index;
        }
    }
    return false;
}

static bool world_caught_up(void *ctx)
{
    struct world *w = ctx;
    return w->consensus != NULL && consensus_lease_until_ns(w->consensus) != 0;
}

/* A life without faults that executes everything there is. */
static void world_check(struct world *w)
{
    struct executed longest = w->now;
    if (w->before.count > longest.count) {
        longest = w->before;
    }
    world_start(w);
    CHECK_OK(w->open_rc);
    CHECK_TRUE(testing_machine_until(&w->machine, world_caught_up, w, 10000));
    w->before = longest;
    world_compare(w);
    CHECK_TRUE(w->now.count >= longest.count);
    for (uint64_t id = 1; id <= w->last_id; id++) {
        if (w->fate[id] == ACKNOWLEDGED) {
            CHECK_TRUE(executed_has(&w->now, id, w->acknowledged_at[id]));
        }
    }
    world_end(w, END_STOP);
    CHECK_OK(w->stop_rc);
}

static uint64_t world_play(struct world *w, uint64_t seed, bool faults, bool checkpoints)
{
    *w = (struct world){.fsm.ops = &world_ops, .faults = faults, .checkpoints = checkpoints};
    rand_seed(&w->rand, seed);
    testing_machine_init(&w->machine, seed);
    for (unsigned life = 0; life < 5; life++) {
        if (faults) {
            testing_machine_spoil(&w->machine, &w->rand, DIRECTORY, 20);
        }
        world_start(w);
        if (w->open_rc == 0) {
            testing_machine_steps(&w->machine, rand_below(&w->rand, 1500));
            world_compare(w);
        } else {
            CHECK_TRUE(faults && (w->open_rc == -EIO || w->open_rc == -ENOSPC));
        }
        world_end(w, w->open_rc == 0 ? (enum end)rand_below(&w->rand, 3) : END_KILL);
        world_compare(w);
        if (w->now.count < w->before.count) {
            w->now = w->before; /* it did not come as far; what was executed stays so */
        }
        disk_sim_heal(w->machine.disk);
    }
    world_check(w);
    uint64_t digest = loop_sim_digest(w->machine.sim) ^ w->now.count;
    testing_machine_fini(&w->machine);
    return digest;
}

static void check_seeds(uint64_t first, unsigned count, bool faults, bool checkpoints)
{
    struct world *w = mem_zalloc(sizeof *w);
    CHECK_TRUE(w != NULL);
    uint64_t acknowledged = 0;
    uint64_t snapshots = 0, fallen_back = 0;
    for (unsigned i = 0; i < count; i++) {
        (void)world_play(w, first + i, faults, checkpoints);
        acknowledged += w->acknowledged;
        snapshots += w->snapshots;
        fallen_back += w->fallen_back;
    }
    CHECK_TRUE(acknowledged > count);
    CHECK_TRUE(!checkpoints || (snapshots > count / 4 && fallen_back > count / 10));
    mem_free(w);
}

TEST(consensus_survives_kills_and_power_cuts)
{
    check_seeds(testing_seed(), 100, false, false);
}

TEST(consensus_survives_them_with_snapshots)
{
    check_seeds(testing_seed() + 1000000, 100, false, true);
}

TEST(consensus_survives_faults_of_the_disk)
{
    check_seeds(testing_seed() + 2000000, 40, true, false);
}

TEST(consensus_survives_faults_with_snapshots)
{
    check_seeds(testing_seed() + 3000000, 40, true, true);
}

TEST(consensus_is_determined_by_the_seed)
{
    struct world *w = mem_zalloc(sizeof *w);
    CHECK_TRUE(w != NULL);
    uint64_t once = world_play(w, testing_seed(), true, true);
    uint64_t again = world_play(w, testing_seed(), true, true);
    CHECK_TRUE(once == again);
    mem_free(w);
}
