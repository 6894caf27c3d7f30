/*
 * loop/sim_process.c -- simulated processes and the clocks of their machines; see sim.h.
 *
 * Killing never happens below a callback: a process that is killed from inside one, its own or
 * another's, is doomed, gets nothing any more, and dies when the outermost callback has returned.
 */
#include "loop/sim_priv.h"

#include <signal.h>
#include <string.h>

#define SIM_EPOCH_NS 1767225600000000000u /* 2026-01-01 00:00 UTC: wall clock at world time 0 */
#define PPM 1000000
#define NS_PER_S 1000000000u

__extension__ typedef __int128 wide;

struct sim_process *loop_sim_process_of(const struct loop *l)
{
    if (l == NULL) {
        return NULL;
    }
    CHECK(l->simulated);
    union { /* the process is its loop's container and never const itself */
        const struct loop *given;
        struct loop *own;
    } u = {.given = l};
    return container_of(u.own, struct sim_process, base);
}

/* --- machines and their clocks --- */

uint64_t loop_sim_local_ns(const struct sim_machine *m, uint64_t world_ns)
{
    uint64_t passed = world_ns - m->since_ns;
    if (m->drift_ppm == 0) {
        return m->local_since_ns + passed;
    }
    return m->local_since_ns + (uint64_t)((wide)passed * (PPM + m->drift_ppm) / PPM);
}

uint64_t loop_sim_world_ns(const struct sim_machine *m, uint64_t now_ns, uint64_t local_ns)
{
    if (local_ns <= m->local_since_ns) {
        return now_ns;
    }
    wide ahead = local_ns - m->local_since_ns;
    if (m->drift_ppm != 0) {
        wide rate = PPM + m->drift_ppm;
        ahead = (ahead * PPM + rate - 1) / rate; /* rounded up: never too early */
    }
    wide at = ahead + m->since_ns;
    at = at < UINT64_MAX - 1 ? at : UINT64_MAX - 1; /* UINT64_MAX means never */
    return base_max((uint64_t)at, now_ns);
}

static void new_boot(struct loop_sim *s, struct sim_machine *m)
{
    rand_bytes(&s->rand, m->boot_id, sizeof m->boot_id);
    uint64_t uptime = rand_range(&s->rand, NS_PER_S, 1000 * (uint64_t)NS_PER_S);
    m->wall_offset_ns += m->local_since_ns - uptime; /* the wall clock runs on */
    m->local_since_ns = uptime;
}

static void rebase_clock(struct loop_sim *s, struct sim_machine *m)
{
    m->local_since_ns = loop_sim_local_ns(m, s->now_ns);
    m->since_ns = s->now_ns;
}

static struct sim_machine *find_machine(struct loop_sim *s, unsigned id)
{
    LIST_FOR_EACH(node, &s->machines)
    {
        struct sim_machine *m = LIST_ENTRY(node, struct sim_machine, node);
        if (m->id == id) {
            return m;
        }
    }
    return NULL;
}

/* Without a domain. NULL: out of memory. */
static struct sim_machine *get_machine(struct loop_sim *s, unsigned id)
{
    struct sim_machine *m = find_machine(s, id);
    if (m != NULL) {
        return m;
    }
    m = mem_zalloc(sizeof *m);
    if (m == NULL) {
        return NULL;
    }
    m->id = id;
    m->since_ns = s->now_ns;
    m->wall_offset_ns = SIM_EPOCH_NS + s->now_ns; /* its local time is 0 until it boots */
    new_boot(s, m);
    list_push_back(&s->machines, &m->node);
    return m;
}

void loop_sim_reboot(struct loop_sim *s, unsigned machine)
{
    struct sim_machine *m = find_machine(s, machine);
    if (m == NULL) {
        return; /* its first boot is a new one anyway */
    }
    LIST_FOR_EACH(node, &s->processes)
    {
        const struct sim_process *p = LIST_ENTRY(node, struct sim_process, node);
        CHECK(p->machine != m || p->state != SIM_ALIVE);
    }
    rebase_clock(s, m);
    new_boot(s, m);
}

void loop_sim_clock(struct loop_sim *s, unsigned machine, int64_t wall_jump_ns, int32_t drift_ppm)
{
    CHECK(drift_ppm > -PPM / 2 && drift_ppm < PPM);
    struct mem_domain *domain = mem_domain_enter(NULL);
    struct sim_machine *m = get_machine(s, machine);
    (void)mem_domain_enter(domain);
    CHECK(m != NULL);
    rebase_clock(s, m);
    m->wall_offset_ns += (uint64_t)wall_jump_ns;
    m->drift_ppm = drift_ppm;
    LIST_FOR_EACH(node, &s->processes)
    {
        struct sim_process *p = LIST_ENTRY(node, struct sim_process, node);
        if (p->machine == m && p->state == SIM_ALIVE) {
            loop_sim_settle(p); /* its next timer comes at another world time */
        }
    }
}

/* --- the backend --- */

static struct loop *sim_free(struct loop *l)
{
    loop_sim_kill(l);
    return NULL;
}

static void sim_run_once(struct loop *l, uint64_t wait_ns)
{
    struct loop_sim *s = loop_sim_of(l);
    uint64_t limit = s->now_ns > UINT64_MAX - wait_ns ? UINT64_MAX : s->now_ns + wait_ns;
    uint64_t next = loop_sim_next_ns(s);
    if (next != UINT64_MAX && next <= limit) {
        (void)loop_sim_step(s);
        return;
    }
    CHECK(limit != UINT64_MAX); /* it would wait for ever */
    loop_sim_advance(s, limit);
}

static bool sim_wait(struct loop *l, uint64_t wait_ns)
{
    sim_run_once(l, wait_ns);
    return true;
}

static void sim_changed(struct loop *l)
{
    struct sim_process *p = loop_sim_process_of(l);
    if (p->sim->current != p) { /* else when its callback has returned */
        loop_sim_settle(p);
    }
}

/* Senders always have to announce: there is one thread, and no sleep to miss. */
static void sim_wake(struct loop *l)
{
    l->sleep = LOOP_SLEEPING;
    sim_changed(l);
}

static int sim_poll_fd(struct loop *l)
{
    (void)l;
    return -1;
}

static int sim_wake_fd(const struct loop *l)
{
    (void)l;
    return -1;
}

static int sim_fd_add(struct loop *l, struct loop_fd *w, uint64_t data)
{
    (void)l;
    (void)w;
    (void)data;
    return -EOPNOTSUPP;
}

static void sim_fd_remove(struct loop *l, struct loop_fd *w)
{
    (void)l;
    (void)w;
}

static void sim_fd_want(struct loop *l, struct loop_fd *w, unsigned events)
{
    (void)l;
    (void)w;
    (void)events;
}

static uint64_t sim_now_ns(const struct loop *l)
{
    const struct sim_process *p = loop_sim_process_of(l);
    return loop_sim_local_ns(p->machine, p->sim->now_ns);
}

static uint64_t sim_wall_ns(const struct loop *l)
{
    return sim_now_ns(l) + loop_sim_process_of(l)->machine->wall_offset_ns;
}

static void sim_random_bytes(struct loop *l, void *out, size_t len)
{
    rand_bytes(&loop_sim_process_of(l)->rand, out, len);
}

static void sim_boot_id(struct loop *l, uint8_t out[16])
{
    memcpy(out, loop_sim_process_of(l)->machine->boot_id, 16);
}

/* Its own callbacks, and those outside of all processes: the test and the world. */
static bool sim_is_mine(const struct loop *l)
{
    const struct sim_process *p = loop_sim_process_of(l);
    return p->sim->current == NULL || p->sim->current == p;
}

static int sim_signal_add(struct loop *l, int signo)
{
    (void)l;
    (void)signo;
    return 0;
}

static void sim_signal_remove(struct loop *l, int signo)
{
    (void)l;
    (void)signo;
}

static int64_t sim_process_id(const struct loop *l)
{
    return (int64_t)loop_sim_process_of(l)->id;
}

/* A virtual microsecond for each callback: no more than a figure that grows. */
static uint64_t sim_process_cpu_ns(const struct loop *l)
{
    return loop_sim_process_of(l)->callbacks * 1000;
}

static const struct loop_ops sim_ops = {
    .free = sim_free,
    .run_once = sim_run_once,
    .wait = sim_wait,
    .wake = sim_wake,
    .changed = sim_changed,
    .poll_fd = sim_poll_fd,
    .wake_fd = sim_wake_fd,
    .fd_add = sim_fd_add,
    .fd_remove = sim_fd_remove,
    .fd_want = sim_fd_want,
    .now_ns = sim_now_ns,
    .wall_ns = sim_wall_ns,
    .random_bytes = sim_random_bytes,
    .boot_id = sim_boot_id,
    .is_mine = sim_is_mine,
    .signal_add = sim_signal_add,
    .signal_remove = sim_signal_remove,
    .spawn = loop_sim_spawn,
    .child_signal = loop_sim_child_signal,
    .child_forget = loop_sim_child_forget,
    .child_adopt = loop_sim_child_adopt,
    .process_signal = loop_sim_process_signal,
    .process_id = sim_process_id,
    .process_cpu_ns = sim_process_cpu_ns,
};

/* --- life --- */

static struct sim_process *process_free(struct sim_process *p)
{
    if (p->domain != NULL) {
        mem_domain_drop(p->domain);
    }
    loop_sim_spawn_fini(p);
    loop_common_fini(&p->base);
    mem_free(p->name);
    mem_free(p);
    return NULL;
}

static struct sim_process *process_make(struct loop_sim *s, const char *name, unsigned machine)
{
    struct sim_process *p = mem_zalloc(sizeof *p);
    if (p == NULL) {
        return NULL;
    }
    p->sim = s;
    p->name = mem_strdup(name);
    p->machine = get_machine(s, machine);
    p->domain = mem_domain_new();
    int rc = loop_common_init(&p->base, &sim_ops, &(struct loop_options){.name = p->name});
    if (rc < 0 || p->name == NULL || p->machine == NULL || p->domain == NULL) {
        return process_free(p);
    }
    return p;
}

struct sim_process *loop_sim_process_new(struct loop_sim *s, const char *name, unsigned machine)
{
    struct mem_domain *domain = mem_domain_enter(NULL);
    struct sim_process *p = process_make(s, name, machine);
    (void)mem_domain_enter(domain);
    if (p == NULL) {
        return NULL;
    }
    p->base.simulated = true;
    p->base.notify = true;
    p->base.sleep = LOOP_SLEEPING;
    p->base.tick_ns = loop_sim_local_ns(p->machine, s->now_ns);
    p->id = ++s->last_process_id;
    p->rand = rand_fork(&s->rand);
    p->turn.on = &p->base;
    list_init(&p->events);
    list_init(&p->deaths);
    list_init(&p->doomed);
    list_push_back(&s->processes, &p->node);
    return p;
}

int loop_sim_process(struct loop_sim *s, const char *name, unsigned machine, struct loop **ret)
{
    struct sim_process *p = loop_sim_process_new(s, name, machine);
    if (p == NULL) {
        return -ENOMEM;
    }
    *ret = &p->base;
    return 0;
}

static void drop_events(struct sim_process *p)
{
    while (!list_empty(&p->events)) {
        struct loop_sim_event *ev = LIST_ENTRY(p->events.next, struct loop_sim_event, siblings);
        loop_sim_cancel(p->sim, ev);
        if (ev->dropped != NULL) {
            ev->dropped(ev);
        }
    }
}

/* The order matters: hooks and `dropped` may still look at the process's memory. */
static void reap(struct sim_process *p)
{
    p->state = SIM_DEAD;
    loop_sim_cancel(p->sim, &p->turn);
    for (struct list *node = list_pop_front(&p->deaths); node != NULL;
         node = list_pop_front(&p->deaths)) {
        struct loop_sim_death *d = LIST_ENTRY(node, struct loop_sim_death, node);
        d->died(d, &p->base);
    }
    drop_events(p);
    mem_domain_drop(p->domain);
    p->domain = NULL;
    loop_common_fini(&p->base);
    loop_sim_spawn_died(p);
    loop_sim_mix(p->sim, ~p->id);
}

static void reap_doomed(struct loop_sim *s)
{
    if (s->depth > 0 || s->reaping) {
        return;
    }
    s->reaping = true;
    struct mem_domain *domain = mem_domain_enter(NULL);
    for (struct list *node = list_pop_front(&s->doomed); node != NULL;
         node = list_pop_front(&s->doomed)) {
        reap(LIST_ENTRY(node, struct sim_process, doomed));
    }
    (void)mem_domain_enter(domain);
    s->reaping = false;
}

void loop_sim_doom(struct sim_process *p, int status)
{
    if (p->state != SIM_ALIVE) {
        return;
    }
    p->state = SIM_DOOMED;
    p->base.stopping = true; /* also for who waits in loop_run() */
    p->status = status;
    loop_sim_cancel(p->sim, &p->turn);
    list_push_back(&p->sim->doomed, &p->doomed);
    reap_doomed(p->sim);
}

void loop_sim_kill(struct loop *l)
{
    loop_sim_doom(loop_sim_process_of(l), -SIGKILL);
}

void loop_sim_kill_machine(struct loop_sim *s, unsigned machine)
{
    bool more = true;
    while (more) { /* from the start each time: what dies may take others along */
        more = false;
        LIST_FOR_EACH(node, &s->processes)
        {
            struct sim_process *p = LIST_ENTRY(node, struct sim_process, node);
            if (p->machine->id == machine && p->state == SIM_ALIVE) {
                loop_sim_doom(p, -SIGKILL);
                more = true;
                break;
            }
        }
    }
}

bool loop_sim_exited(const struct loop *l, int *ret_code)
{
    const struct sim_process *p = loop_sim_process_of(l);
    if (p->state != SIM_DEAD) {
        return false;
    }
    if (ret_code != NULL) {
        *ret_code = p->status;
    }
    return true;
}

void loop_sim_processes_fini(struct loop_sim *s)
{
    LIST_FOR_EACH(node, &s->processes)
    {
        loop_sim_doom(LIST_ENTRY(node, struct sim_process, node), -SIGKILL);
    }
    for (struct list *node = list_pop_front(&s->processes); node != NULL;
         node = list_pop_front(&s->processes)) {
        (void)process_free(LIST_ENTRY(node, struct sim_process, node));
    }
    for (struct list *node = list_pop_front(&s->machines); node != NULL;
         node = list_pop_front(&s->machines)) {
        mem_free(LIST_ENTRY(node, struct sim_machine, node));
    }
}

void loop_sim_on_death(struct loop *l, struct loop_sim_death *d)
{
    struct sim_process *p = loop_sim_process_of(l);
    CHECK(p->state != SIM_DEAD);
    list_push_back(&p->deaths, &d->node);
}

void loop_sim_on_death_cancel(struct loop_sim_death *d)
{
    if (d->node.next != NULL) {
        list_remove(&d->node);
    }
}

/* --- running --- */

void loop_sim_enter(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
    struct sim_process *p = loop_sim_process_of(l);
    struct loop_sim *s = p->sim;
    if (p->state != SIM_ALIVE) {
        return;
    }
    struct sim_process *before = s->current;
    struct mem_domain *domain = mem_domain_enter(p->domain);
    s->current = p;
    s->depth++;
    p->callbacks++;
    l->tick_ns = loop_sim_local_ns(p->machine, s->now_ns);
    fn(ctx);
    s->depth--;
    s->current = before;
    (void)mem_domain_enter(domain);
    if (l->stopping && p->state == SIM_ALIVE) {
        loop_sim_doom(p, l->code & 0xff);
    }
    loop_sim_settle(p);
    reap_doomed(s);
}

bool loop_sim_turn_due(struct sim_process *p)
{
    const struct loop *l = &p->base;
    uint64_t timer = loop_next_timer_ns(l);
    return l->task_count > 0 || p->pending_signals != 0 || loop_has_messages(&p->base) ||
           (timer != UINT64_MAX && timer <= loop_sim_local_ns(p->machine, p->sim->now_ns));
}

static bool ignored_by_default(int signo)
{
    return signo == SIGCHLD || signo == SIGURG || signo == SIGWINCH || signo == SIGCONT;
}

static bool run_signal(struct loop *l)
{
    struct sim_process *p = loop_sim_process_of(l);
    int bit = __builtin_ctzll(p->pending_signals);
    int signo = bit == 0 ? 64 : bit;
    p->pending_signals &= p->pending_signals - 1;
    if (!loop_signal_deliver(l, signo) && !ignored_by_default(signo)) {
        loop_sim_doom(p, -signo);
    }
    return true;
}

static void run_one_thing(void *ctx)
{
    struct sim_process *p = ctx;
    struct loop *l = &p->base;
    bool (*kind[5])(struct loop * loop);
    size_t count = 0;
    uint64_t timer = loop_next_timer_ns(l);
    if (timer != UINT64_MAX && timer <= l->tick_ns) {
        kind[count++] = loop_run_timer;
    }
    if (l->task_count > 0) {
        kind[count++] = loop_run_task;
    }
    if (!mpsc_empty(&l->completions)) {
        kind[count++] = loop_run_completion;
    }
    if (!mpsc_empty(&l->mailbox)) {
        kind[count++] = loop_run_message;
    }
    if (p->pending_signals != 0) {
        kind[count++] = run_signal;
    }
    if (count > 0) {
        size_t chosen = count == 1 ? 0 : rand_below(&p->sim->rand, count);
        (void)kind[chosen](l);
    }
}

void loop_sim_run_turn(struct sim_process *p)
{
    loop_sim_enter(&p->base, run_one_thing, p);
}

void loop_sim_pause(struct loop *l, bool paused)
{
    struct sim_process *p = loop_sim_process_of(l);
    if (p->state != SIM_ALIVE || p->paused == paused) {
        return;
    }
    p->paused = paused;
    if (paused) {
        loop_sim_hold(p);
    } else {
        loop_sim_release(p);
    }
}

void loop_sim_signal(struct loop *l, int signo)
{
    struct sim_process *p = loop_sim_process_of(l);
    CHECK(signo > 0 && signo < LOOP_SIGNALS);
    if (p->state != SIM_ALIVE) {
        return;
    }
    if (signo == SIGKILL) {
        loop_sim_doom(p, -SIGKILL);
        return;
    }
    if (signo == SIGSTOP || signo == SIGCONT) {
        loop_sim_pause(l, signo == SIGSTOP);
        return;
    }
    p->pending_signals |= 1ull << (signo % 64);
    sim_changed(l);
}

struct loop_sim *loop_sim_of(const struct loop *l)
{
    return loop_sim_process_of(l)->sim;
}

unsigned loop_sim_machine(const struct loop *l)
{
    return loop_sim_process_of(l)->machine->id;
}
