/* sim/drains.c -- see drains.h. Targets have the numbers 1 to w->targets, in any order. */
#include "drains.h"

#include "base/rand.h"
#include "opendfs/check.h"
#include "opendfs/targets.h"

#include <string.h>

#define LOOK_NS (50 * WORLD_MS)
#define DONE_TIMES 3u /* what was said at once may be from before the last change */

static void op_done(struct opendfs_op *op)
{
    container_of(op, struct drains, op)->arrived = true;
}

static void start_inside(void *context)
{
    struct drains *d = context;
    static const struct opendfs_audit look = {.release = 0};
    struct opendfs *fs = d->w->node[d->node].process->fs;
    d->op = (struct opendfs_op){.done = op_done};
    d->arrived = false;
    switch (d->step) {
    case DRAINS_PLAN:
        opendfs_async_plan_target(fs, &d->op, d->plan);
        break;
    case DRAINS_BALANCE:
        opendfs_async_set_balance(fs, &d->op, !d->paused);
        break;
    case DRAINS_AUDIT:
        opendfs_async_audit(fs, &d->op, &look);
        break;
    case DRAINS_STATUS:
        opendfs_async_status_json(fs, &d->op);
        break;
    case DRAINS_REST:
        CHECK(!"an operation");
    }
}

static void rest(struct drains *d, uint64_t ns)
{
    loop_sim_at(d->w->sim, &d->wake, world_now_ns(d->w) + ns);
}

/* With whatever client runs; when none does, later. */
static void start(struct drains *d, enum drains_step step)
{
    d->node = WORLD_CLIENT((unsigned)rand_below(d->w->rand, WORLD_CLIENTS));
    if (world_is_running(d->w, d->node) && d->w->node[d->node].process->fs != NULL) {
        d->step = step;
        d->life = d->w->node[d->node].starts;
        loop_sim_enter(d->w->node[d->node].process->loop, start_inside, d);
    }
    rest(d, LOOK_NS);
}

static void start_plan(struct drains *d, unsigned target, uint32_t plan)
{
    *d->plan = (struct opendfs_target_plan){.target = target + 1, .plan = plan};
    start(d, DRAINS_PLAN);
}

/* What is under way has ended, or its client has. */
static void arrived(struct drains *d, bool good)
{
    if (d->step == DRAINS_PLAN && good) {
        d->away[d->plan->target - 1] = d->plan->plan != OPENDFS_TARGET_STAYS;
        d->made++;
    } else if (d->step == DRAINS_STATUS && good) {
        static const char rests[] = "\"moves\":{\"state\":\"done\"";
        bool now = memmem(d->op.data, d->op.data_len, rests, sizeof rests - 1) != NULL;
        d->moved = now ? d->moved + 1 : 0;
    } else if (d->step == DRAINS_BALANCE && !good) {
        d->paused = true; /* perhaps */
    }
    d->looks += d->step == DRAINS_AUDIT && good ? 1 : 0;
    if (good && d->step == DRAINS_STATUS) {
        opendfs_async_release(d->w->node[d->node].process->fs, &d->op);
    }
    d->step = DRAINS_REST;
}

static unsigned count_away(const struct drains *d)
{
    unsigned n = 0;
    for (unsigned i = 0; i < d->w->targets; i++) {
        n += d->away[i] ? 1 : 0;
    }
    return n;
}

static void next_random(struct drains *d)
{
    unsigned target = (unsigned)rand_below(d->w->rand, d->w->targets);
    if (rand_chance(d->w->rand, 1, 3)) {
        start(d, DRAINS_AUDIT);
    } else if (rand_chance(d->w->rand, 1, 6)) {
        d->paused = rand_chance(d->w->rand, 1, 2);
        start(d, DRAINS_BALANCE);
    } else if (d->away[target]) {
        start_plan(d, target, OPENDFS_TARGET_STAYS);
    } else if (count_away(d) + base_max(d->w->copies, d->w->other_copies) <
               d->w->targets) { /* the others hold all copies */
        start_plan(d, target, OPENDFS_TARGET_DRAIN);
    } else {
        rest(d, WORLD_S);
    }
}

static void next_last(struct drains *d)
{
    for (unsigned i = 0; i < d->w->targets; i++) {
        if (d->away[i]) {
            start_plan(d, i, OPENDFS_TARGET_STAYS);
            return;
        }
    }
    if (d->paused) { /* or those that are empty stay so */
        d->paused = false;
        start(d, DRAINS_BALANCE);
        return;
    }
    d->ended = d->moved >= DONE_TIMES;
    if (!d->ended) {
        start(d, DRAINS_STATUS);
    }
}

static void woken(struct loop_sim_event *ev)
{
    struct drains *d = container_of(ev, struct drains, wake);
    const struct world_node *n = &d->w->node[d->node];
    if (d->step != DRAINS_REST) {
        bool lives = world_is_running(d->w, d->node) && n->starts == d->life;
        if (lives && !d->arrived) {
            rest(d, LOOK_NS);
            return;
        }
        /* One that was not answered may have been done: what was to go counts as gone. */
        bool unsure = d->step == DRAINS_PLAN && (!lives || d->op.result < 0);
        d->away[d->plan->target - 1] = unsure || d->away[d->plan->target - 1];
        arrived(d, lives && d->op.result >= 0);
        rest(d, d->stopping ? WORLD_S / 2 : world_between(d->w, 100, 4000) * WORLD_MS);
        return;
    }
    if (d->stopping) {
        next_last(d);
    } else {
        next_random(d);
    }
}

void drains_init(struct drains *d, struct world *w)
{
    *d = (struct drains){.w = w, .wake.run = woken, .plan = mem_zalloc(sizeof *d->plan)};
    CHECK(d->plan != NULL);
    d->plan->target = 1;
}

void drains_fini(struct drains *d)
{
    mem_free(d->plan);
}

void drains_begin(struct drains *d)
{
    rest(d, world_between(d->w, 100, 4000) * WORLD_MS);
}

void drains_stop(struct drains *d)
{
    d->stopping = true;
    d->moved = 0;
}

bool drains_ended(const struct drains *d)
{
    return d->ended;
}
