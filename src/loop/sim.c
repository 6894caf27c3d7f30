/*
 * loop/sim.c -- the schedule of the simulated world; see sim.h.
 *
 * What is to happen lies in a heap by time. What is due moves into an array from which the seed
 * picks, so that everything that could happen next has an equal chance to. A process takes part
 * through one event of its own, its turn: due at once when it has tasks, messages or signals, else
 * at its first timer. A turn may stand in the heap earlier than needed, when a timer was cancelled
 * or moved back; that is put right when it comes to the top, before the clock moves.
 *
 * Events of a paused process are held when their turn comes, and go back into the heap when it goes
 * on. Invariant: an event is in at most one of heap (node.index), array (place) and neither but
 * held (place is SIM_HELD); `active` counts them, and both containers have room for all.
 */
#include "loop/sim.h"

#include "loop/sim_priv.h"

#define SIM_RESERVE 256u
/* So many steps at one instant are no simulation any more, but a process that spins. */
#define SIM_SPINNING (1u << 26)

struct loop_sim *loop_sim_new(uint64_t seed)
{
    struct mem_domain *domain = mem_domain_enter(NULL);
    struct loop_sim *s = mem_zalloc(sizeof *s);
    if (s != NULL) {
        rand_seed(&s->rand, seed);
        list_init(&s->machines);
        list_init(&s->processes);
        list_init(&s->doomed);
        list_init(&s->programs);
        heap_init(&s->schedule);
        if (heap_reserve(&s->schedule, SIM_RESERVE) < 0 ||
            mem_grow(&s->ready, &s->ready_capacity, SIM_RESERVE, sizeof(struct loop_sim_event *)) <
                0) {
            s = loop_sim_free(s);
        }
    }
    (void)mem_domain_enter(domain);
    return s;
}

struct loop_sim *loop_sim_free(struct loop_sim *s)
{
    if (s != NULL) {
        CHECK(s->depth == 0 && !s->stepping);
        loop_sim_processes_fini(s);
        heap_fini(&s->schedule);
        mem_free(s->ready);
        mem_free(s);
    }
    return NULL;
}

struct rand *loop_sim_rand(struct loop_sim *s)
{
    return &s->rand;
}

uint64_t loop_sim_now_ns(const struct loop_sim *s)
{
    return s->now_ns;
}

uint64_t loop_sim_steps(const struct loop_sim *s)
{
    return s->steps;
}

uint64_t loop_sim_digest(const struct loop_sim *s)
{
    return s->digest;
}

void loop_sim_mix(struct loop_sim *s, uint64_t v)
{
    uint64_t d = (s->digest ^ v) * 0x9e3779b97f4a7c15u;
    s->digest = d ^ (d >> 29);
}

/* --- events and where they are --- */

/* Scheduling must not fail, so both containers grow while a quarter is still free; only as many
 * failures to allocate in a row as there are free places could stop it. */
static void reserve(struct loop_sim *s)
{
    s->active++;
    size_t least = base_min(s->schedule.capacity, s->ready_capacity);
    if (s->active < least - least / 4) {
        return;
    }
    struct mem_domain *domain = mem_domain_enter(NULL);
    int rc = heap_reserve(&s->schedule, 2 * least);
    if (rc == 0) {
        rc = mem_grow(&s->ready, &s->ready_capacity, 2 * least, sizeof(struct loop_sim_event *));
    }
    (void)mem_domain_enter(domain);
    CHECK(rc == 0 || s->active <= least);
}

static bool is_active(const struct loop_sim_event *ev)
{
    return ev->node.index != 0 || ev->place != 0;
}

/* Out of where it is, for another place. */
static void detach(struct loop_sim *s, struct loop_sim_event *ev)
{
    heap_remove(&s->schedule, &ev->node);
    if (ev->place != 0 && ev->place != SIM_HELD) {
        CHECK(s->ready[ev->place - 1] == ev);
        struct loop_sim_event *last = s->ready[s->ready_count - 1];
        s->ready[ev->place - 1] = last;
        last->place = ev->place;
        s->ready_count--;
    }
    ev->place = 0;
}

static void schedule(struct loop_sim *s, struct loop_sim_event *ev, uint64_t at_ns)
{
    int rc = heap_insert(&s->schedule, &ev->node, at_ns);
    CHECK(rc == 0);
}

static bool is_paused(const struct loop_sim_event *ev)
{
    const struct sim_process *p = loop_sim_process_of(ev->on);
    return p != NULL && p->paused && p->state == SIM_ALIVE;
}

/* Its time stays in node.key. */
static void hold(struct loop_sim *s, struct loop_sim_event *ev)
{
    detach(s, ev);
    ev->place = SIM_HELD;
}

static void make_ready(struct loop_sim *s, struct loop_sim_event *ev)
{
    if (is_paused(ev)) {
        hold(s, ev);
        return;
    }
    CHECK(s->ready_count < s->ready_capacity);
    s->ready[s->ready_count++] = ev;
    ev->place = s->ready_count;
}

void loop_sim_cancel(struct loop_sim *s, struct loop_sim_event *ev)
{
    if (!is_active(ev)) {
        return;
    }
    detach(s, ev);
    s->active--;
    if (ev->siblings.next != NULL) {
        list_remove(&ev->siblings);
    }
}

void loop_sim_at(struct loop_sim *s, struct loop_sim_event *ev, uint64_t at_ns)
{
    loop_sim_cancel(s, ev);
    reserve(s);
    struct sim_process *p = loop_sim_process_of(ev->on);
    ev->process_id = p != NULL ? p->id : 0;
    list_init(&ev->siblings);
    if (p != NULL && p->state != SIM_DEAD) {
        list_push_back(&p->events, &ev->siblings);
    }
    schedule(s, ev, base_max(at_ns, s->now_ns));
}

/* --- turns --- */

void loop_sim_settle(struct sim_process *p)
{
    struct loop_sim *s = p->sim;
    struct loop_sim_event *turn = &p->turn;
    if (p->state != SIM_ALIVE || turn->place == SIM_HELD) {
        return;
    }
    bool was_active = is_active(turn);
    if (loop_sim_turn_due(p)) {
        if (turn->place == 0) {
            detach(s, turn);
            make_ready(s, turn);
        }
    } else {
        uint64_t timer = loop_next_timer_ns(&p->base);
        uint64_t at = timer == UINT64_MAX ? timer : loop_sim_world_ns(p->machine, s->now_ns, timer);
        if (turn->node.index != 0 && turn->node.key > s->now_ns && turn->node.key <= at) {
            return; /* early enough */
        }
        detach(s, turn);
        if (at != UINT64_MAX) {
            schedule(s, turn, at);
        }
    }
    if (is_active(turn) && !was_active) {
        reserve(s);
    } else if (!is_active(turn) && was_active) {
        s->active--;
    }
}

void loop_sim_hold(struct sim_process *p)
{
    struct loop_sim *s = p->sim;
    LIST_FOR_EACH(node, &p->events)
    {
        struct loop_sim_event *ev = LIST_ENTRY(node, struct loop_sim_event, siblings);
        if (ev->place != 0) {
            hold(s, ev);
        }
    }
    if (p->turn.place != 0) {
        hold(s, &p->turn);
    }
}

void loop_sim_release(struct sim_process *p)
{
    struct loop_sim *s = p->sim;
    LIST_FOR_EACH(node, &p->events)
    {
        struct loop_sim_event *ev = LIST_ENTRY(node, struct loop_sim_event, siblings);
        if (ev->place == SIM_HELD) {
            ev->place = 0;
            schedule(s, ev, base_max(ev->node.key, s->now_ns));
        }
    }
    loop_sim_cancel(s, &p->turn);
    loop_sim_settle(p);
}

/* --- stepping --- */

/* What is due, by the heap, becomes ready. */
static void collect_due(struct loop_sim *s)
{
    for (struct heap_node *first = heap_first(&s->schedule);
         first != NULL && first->key <= s->now_ns; first = heap_first(&s->schedule)) {
        struct loop_sim_event *ev = container_of(first, struct loop_sim_event, node);
        if (ev->run == NULL) {
            loop_sim_settle(loop_sim_process_of(ev->on)); /* ready, or later */
        } else {
            detach(s, ev);
            make_ready(s, ev);
        }
    }
}

/* Whether the event on top of the heap stays there. A turn whose timer was cancelled or moved back
 * does not, nor what is for a paused process, for which time need not pass. */
static bool is_next(struct loop_sim *s, struct loop_sim_event *ev)
{
    if (is_paused(ev)) {
        hold(s, ev);
        return false;
    }
    if (ev->run != NULL) {
        return true;
    }
    struct sim_process *p = loop_sim_process_of(ev->on);
    uint64_t timer = loop_next_timer_ns(&p->base);
    if (timer != UINT64_MAX && loop_sim_world_ns(p->machine, s->now_ns, timer) <= ev->node.key) {
        return true;
    }
    loop_sim_cancel(s, ev);
    loop_sim_settle(p);
    return false;
}

uint64_t loop_sim_next_ns(struct loop_sim *s)
{
    collect_due(s);
    if (s->ready_count > 0) {
        return s->now_ns;
    }
    struct heap_node *first = heap_first(&s->schedule);
    while (first != NULL && !is_next(s, container_of(first, struct loop_sim_event, node))) {
        first = heap_first(&s->schedule);
    }
    return first == NULL ? UINT64_MAX : first->key;
}

void loop_sim_advance(struct loop_sim *s, uint64_t to_ns)
{
    if (to_ns > s->now_ns) {
        s->now_ns = to_ns;
        s->steps_now = 0;
    }
}

static void deliver(void *ctx)
{
    struct loop_sim_event *ev = ctx;
    ev->run(ev);
}

static void run_event(struct loop_sim *s, struct loop_sim_event *ev)
{
    struct sim_process *p = loop_sim_process_of(ev->on);
    bool dead = p != NULL && p->state != SIM_ALIVE;
    loop_sim_mix(s, s->now_ns);
    loop_sim_mix(s, p != NULL ? p->id * 2 + (ev == &p->turn) : 0);
    if (p != NULL && ev == &p->turn) {
        detach(s, ev);
        s->active--;
        loop_sim_run_turn(p);
        return;
    }
    loop_sim_cancel(s, ev);
    if (!dead && p != NULL) {
        loop_sim_enter(ev->on, deliver, ev);
    } else if (!dead) {
        ev->run(ev);
    } else if (ev->dropped != NULL) {
        ev->dropped(ev);
    }
}

bool loop_sim_step(struct loop_sim *s)
{
    CHECK(s->depth == 0 && !s->stepping); /* a step is not part of another */
    uint64_t next = loop_sim_next_ns(s);
    if (next == UINT64_MAX) {
        return false;
    }
    loop_sim_advance(s, next);
    collect_due(s);
    CHECK(s->ready_count > 0);
    size_t index = s->ready_count == 1 ? 0 : rand_below(&s->rand, s->ready_count);
    s->steps++;
    s->steps_now++;
    CHECK(s->steps_now < SIM_SPINNING);
    s->stepping = true;
    struct mem_domain *domain = mem_domain_enter(NULL);
    run_event(s, s->ready[index]);
    (void)mem_domain_enter(domain);
    s->stepping = false;
    return true;
}

bool loop_sim_run(struct loop_sim *s, bool (*done)(void *ctx), void *ctx, uint64_t limit_ns)
{
    while (!done(ctx)) {
        uint64_t next = loop_sim_next_ns(s);
        if (next == UINT64_MAX || next > limit_ns) {
            loop_sim_advance(s, limit_ns != UINT64_MAX ? limit_ns : s->now_ns);
            return false;
        }
        (void)loop_sim_step(s);
    }
    return true;
}
