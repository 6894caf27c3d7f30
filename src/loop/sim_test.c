/* loop/sim_test.c -- the simulated world. */
#include "loop/sim.h"

#include "testing/testing.h"

#include <signal.h>
#include <string.h>

#define MS 1000000u

struct actor {
    struct loop *loop;
    struct loop_timer timer;
    unsigned fired, limit;
};

static void actor_fire(struct loop_timer *t)
{
    struct actor *a = container_of(t, struct actor, timer);
    a->fired++;
    if (a->fired < a->limit) {
        loop_timer_in(a->loop, t, 1 + loop_random(a->loop) % 3);
    }
}

struct outcome {
    uint64_t digest, steps, now_ns;
};

static struct outcome play(uint64_t seed)
{
    CLEANUP(loop_sim_freep) struct loop_sim *s = loop_sim_new(seed);
    struct actor actor[8] = {0};
    for (unsigned i = 0; i < ARRAY_COUNT(actor); i++) {
        CHECK_OK(loop_sim_process(s, "actor", i / 2, &actor[i].loop));
        actor[i].timer.fire = actor_fire;
        actor[i].limit = 500;
        loop_timer_in(actor[i].loop, &actor[i].timer, 5);
    }
    while (loop_sim_step(s)) {
    }
    for (unsigned i = 0; i < ARRAY_COUNT(actor); i++) {
        CHECK_EQ(actor[i].fired, 500);
    }
    return (struct outcome){loop_sim_digest(s), loop_sim_steps(s), loop_sim_now_ns(s)};
}

TEST(sim_seed_determines_everything)
{
    uint64_t seed = testing_seed();
    struct outcome a = play(seed), b = play(seed), c = play(seed + 1);
    CHECK_EQ(a.digest, b.digest);
    CHECK_EQ(a.steps, b.steps);
    CHECK_EQ(a.steps, 8 * 500);
    CHECK_EQ(a.now_ns, b.now_ns);
    CHECK_TRUE(a.digest != c.digest);
}

/* --- a world of one process for most tests --- */

struct world {
    struct loop_sim *sim;
    struct loop *loop;
};

static struct world world_open(void)
{
    struct world w = {.sim = loop_sim_new(testing_seed())};
    CHECK_OK(loop_sim_process(w.sim, "p", 1, &w.loop));
    return w;
}

static void run_all(struct loop_sim *s)
{
    while (loop_sim_step(s)) {
    }
}

/* What happened, in order. */
struct history {
    int at[64];
    unsigned count;
};

struct happening {
    struct loop_sim_event event;
    struct loop_task task;
    struct loop_message message;
    struct loop_timer timer;
    struct history *history;
    struct loop *kill;
    struct loop_sim_event *cancel;
    int id;
    unsigned dropped;
};

static void happen(struct happening *h)
{
    CHECK_TRUE(h->history->count < ARRAY_COUNT(h->history->at));
    h->history->at[h->history->count++] = h->id;
    if (h->kill != NULL) {
        loop_sim_kill(h->kill);
        CHECK_TRUE(loop_sim_exited(h->kill, NULL) == (h->event.on == NULL));
    }
    if (h->cancel != NULL) {
        loop_sim_cancel(loop_sim_of(h->event.on), h->cancel);
    }
}

static void event_runs(struct loop_sim_event *ev)
{
    happen(container_of(ev, struct happening, event));
}

static void event_dropped(struct loop_sim_event *ev)
{
    container_of(ev, struct happening, event)->dropped++;
}

static void task_runs(struct loop_task *t)
{
    happen(container_of(t, struct happening, task));
}

static void message_runs(struct loop_message *m)
{
    happen(container_of(m, struct happening, message));
}

static void timer_runs(struct loop_timer *t)
{
    happen(container_of(t, struct happening, timer));
}

static struct happening happening(struct history *h, int id, struct loop *on)
{
    return (struct happening){.event = {.run = event_runs, .dropped = event_dropped, .on = on},
                              .task.run = task_runs,
                              .message.run = message_runs,
                              .timer.fire = timer_runs,
                              .history = h,
                              .id = id};
}

/* Order of what is due at one time: the seed's. Over some seeds all orders of four must differ. */
TEST(sim_seed_chooses_among_what_is_due)
{
    unsigned first[5] = {0};
    for (uint64_t seed = 0; seed < 800; seed++) {
        CLEANUP(loop_sim_freep) struct loop_sim *s = loop_sim_new(testing_seed() + seed);
        struct loop *l = NULL;
        CHECK_OK(loop_sim_process(s, "p", 1, &l));
        struct history h = {.count = 0};
        struct happening k[4];
        for (int i = 0; i < 4; i++) {
            k[i] = happening(&h, i, i == 0 ? l : NULL);
        }
        loop_sim_at(s, &k[0].event, 0);
        loop_sim_at(s, &k[1].event, 0);
        loop_defer(l, &k[2].task);
        CHECK_OK(loop_post(l, &k[3].message));
        run_all(s);
        CHECK_EQ(h.count, 4);
        CHECK_EQ(loop_sim_now_ns(s), 0);
        first[h.at[0]]++;
    }
    for (int i = 0; i < 4; i++) {
        CHECK_TRUE(first[i] > 10);
    }
}

TEST(sim_time_passes_only_when_nothing_is_due)
{
    struct world w = world_open();
    struct history h = {.count = 0};
    struct happening a = happening(&h, 1, NULL), b = happening(&h, 2, NULL),
                     c = happening(&h, 3, w.loop), d = happening(&h, 4, w.loop);
    loop_sim_at(w.sim, &b.event, 2000);
    loop_sim_at(w.sim, &a.event, 1000);
    loop_timer_in(w.loop, &c.timer, 1500);
    loop_timer_in(w.loop, &d.timer, 700);
    loop_timer_cancel(w.loop, &d.timer); /* leaves no trace, not even in time */
    CHECK_TRUE(loop_sim_step(w.sim));
    CHECK_EQ(loop_sim_now_ns(w.sim), 1000);
    run_all(w.sim);
    CHECK_EQ(loop_sim_now_ns(w.sim), 2000);
    CHECK_EQ(h.at[0] * 100 + h.at[1] * 10 + h.at[2], 132);
    CHECK_EQ(loop_sim_steps(w.sim), 3);
    loop_sim_at(w.sim, &a.event, 0); /* long past: now */
    loop_sim_at(w.sim, &a.event, 9000);
    loop_sim_at(w.sim, &b.event, 9000);
    loop_sim_cancel(w.sim, &b.event);
    loop_sim_cancel(w.sim, &b.event);
    run_all(w.sim);
    CHECK_EQ(h.count, 4);
    CHECK_EQ(loop_sim_now_ns(w.sim), 9000);
    loop_sim_free(w.sim);
}

static bool never(void *ctx)
{
    (void)ctx;
    return false;
}

static bool has_two(void *ctx)
{
    return ((struct history *)ctx)->count == 2;
}

TEST(sim_run_stops_when_done_or_at_the_limit)
{
    struct world w = world_open();
    struct history h = {.count = 0};
    struct happening k[3];
    for (int i = 0; i < 3; i++) {
        k[i] = happening(&h, i, NULL);
        loop_sim_at(w.sim, &k[i].event, (uint64_t)i * 1000);
    }
    CHECK_TRUE(loop_sim_run(w.sim, has_two, &h, UINT64_MAX));
    CHECK_EQ(h.count, 2);
    CHECK_TRUE(!loop_sim_run(w.sim, never, NULL, 1500));
    CHECK_EQ(loop_sim_now_ns(w.sim), 1500);
    CHECK_EQ(h.count, 2);
    CHECK_TRUE(!loop_sim_run(w.sim, never, NULL, 5000));
    CHECK_EQ(loop_sim_now_ns(w.sim), 5000);
    CHECK_EQ(h.count, 3);
    loop_sim_free(w.sim);
}

/* --- death --- */

struct witness {
    struct loop_sim_death death;
    struct loop *saw;
    struct history *history;
    int id;
};

static void saw_death(struct loop_sim_death *d, struct loop *l)
{
    struct witness *w = container_of(d, struct witness, death);
    w->saw = l;
    w->history->at[w->history->count++] = w->id;
}

static void allocate_and_lose(void *ctx)
{
    struct happening *h = ctx;
    h->kill = NULL;
    void *lost = mem_alloc(1000); /* freed with the process, or the leak checker complains */
    CHECK_TRUE(lost != NULL);
    struct happening *own = mem_zalloc(sizeof *own);
    *own = happening(h->history, 99, h->event.on);
    loop_timer_in(h->event.on, &own->timer, 10);
    loop_defer(h->event.on, &own->task);
    loop_sim_at(loop_sim_of(h->event.on), &own->event, 5);
    CHECK_OK(loop_post(h->event.on, &own->message));
}

TEST(sim_kill_drops_everything)
{
    struct world w = world_open();
    struct history h = {.count = 0};
    struct happening k = happening(&h, 1, w.loop);
    struct witness a = {.death.died = saw_death, .history = &h, .id = 11}, b = a, c = a;
    b.id = 12;
    loop_sim_on_death(w.loop, &a.death);
    loop_sim_on_death(w.loop, &c.death);
    loop_sim_on_death(w.loop, &b.death);
    loop_sim_on_death_cancel(&c.death);
    loop_sim_at(w.sim, &k.event, 100);
    loop_sim_enter(w.loop, allocate_and_lose, &k);
    loop_sim_kill(w.loop);
    CHECK_EQ(k.dropped, 1);
    CHECK_TRUE(a.saw == w.loop && b.saw == w.loop && c.saw == NULL);
    int code = 0;
    CHECK_TRUE(loop_sim_exited(w.loop, &code));
    CHECK_EQ(code, -SIGKILL);
    CHECK_TRUE(!loop_sim_step(w.sim)); /* nothing is left of it */
    CHECK_EQ(h.count, 2);
    CHECK_EQ(h.at[0], 11);
    CHECK_EQ(h.at[1], 12);
    loop_sim_at(w.sim, &k.event, 200); /* to a dead process */
    CHECK_EQ(k.dropped, 1);
    run_all(w.sim);
    CHECK_EQ(k.dropped, 2);
    CHECK_EQ(h.count, 2);
    loop_sim_enter(w.loop, allocate_and_lose, &k); /* no effect */
    loop_sim_kill(w.loop);
    loop_sim_free(w.sim);
}

/* From a callback of another process, of itself, and of the world. */
TEST(sim_kill_from_inside_callbacks)
{
    struct world w = world_open();
    struct loop *other = NULL, *third = NULL;
    CHECK_OK(loop_sim_process(w.sim, "other", 2, &other));
    CHECK_OK(loop_sim_process(w.sim, "third", 2, &third));
    struct history h = {.count = 0};
    struct happening a = happening(&h, 1, w.loop), b = happening(&h, 2, w.loop),
                     c = happening(&h, 3, NULL), d = happening(&h, 4, other);
    a.kill = other;
    b.kill = w.loop;
    c.kill = third;
    loop_sim_at(w.sim, &a.event, 10);
    loop_sim_at(w.sim, &b.event, 20);
    loop_sim_at(w.sim, &c.event, 30);
    loop_sim_at(w.sim, &d.event, 15);
    CHECK_TRUE(loop_sim_step(w.sim));
    CHECK_TRUE(loop_sim_exited(other, NULL));
    CHECK_EQ(d.dropped, 1);
    CHECK_TRUE(loop_sim_step(w.sim));
    CHECK_TRUE(loop_sim_exited(w.loop, NULL));
    CHECK_TRUE(loop_sim_step(w.sim));
    CHECK_TRUE(loop_sim_exited(third, NULL));
    CHECK_TRUE(!loop_sim_step(w.sim));
    CHECK_EQ(h.count, 3);
    loop_sim_free(w.sim);
}

static void stop_with_5(void *ctx)
{
    loop_stop(ctx, 5);
    loop_stop(ctx, 6); /* the first counts */
}

TEST(sim_process_exits_by_stopping_its_loop)
{
    struct world w = world_open();
    int code = -1;
    CHECK_TRUE(!loop_sim_exited(w.loop, &code));
    CHECK_EQ(code, -1);
    loop_sim_enter(w.loop, stop_with_5, w.loop);
    CHECK_TRUE(loop_sim_exited(w.loop, &code));
    CHECK_EQ(code, 5);
    loop_sim_free(w.sim);
}

static void timer_stops(struct loop_timer *t)
{
    struct actor *a = container_of(t, struct actor, timer);
    loop_stop(a->loop, 9);
}

/* For callers that know loops only, not worlds. */
TEST(sim_loop_run_steps_the_world)
{
    struct world w = world_open();
    struct history h = {.count = 0};
    struct happening k = happening(&h, 1, NULL);
    struct actor a = {.loop = w.loop, .timer.fire = timer_stops};
    loop_sim_at(w.sim, &k.event, 50);
    loop_run_once(w.loop, 20);
    CHECK_EQ(loop_sim_now_ns(w.sim), 20);
    CHECK_EQ(h.count, 0);
    loop_run_once(w.loop, 40);
    CHECK_EQ(loop_sim_now_ns(w.sim), 50);
    CHECK_EQ(h.count, 1);
    loop_timer_in(w.loop, &a.timer, 100);
    CHECK_EQ(loop_run(w.loop), 9);
    CHECK_TRUE(loop_sim_exited(w.loop, NULL));
    loop_sim_free(w.sim);
}

/* --- pause, signals, clocks --- */

TEST(sim_pause_holds_and_releases)
{
    struct world w = world_open();
    struct history h = {.count = 0};
    struct happening a = happening(&h, 1, w.loop), b = happening(&h, 2, NULL),
                     c = happening(&h, 3, w.loop);
    loop_sim_at(w.sim, &a.event, 0);
    loop_sim_at(w.sim, &c.event, 5);
    loop_defer(w.loop, &a.task);
    loop_timer_in(w.loop, &a.timer, 10);
    loop_sim_at(w.sim, &b.event, 20);
    loop_sim_pause(w.loop, true);
    loop_sim_pause(w.loop, true);
    CHECK_OK(loop_post(w.loop, &a.message));
    run_all(w.sim);
    CHECK_EQ(h.count, 1);
    CHECK_EQ(h.at[0], 2);
    loop_sim_cancel(w.sim, &c.event); /* while held */
    loop_sim_pause(w.loop, false);
    run_all(w.sim);
    CHECK_EQ(h.count, 5);
    CHECK_EQ(loop_sim_now_ns(w.sim), 20);
    loop_sim_at(w.sim, &c.event, 30);
    loop_defer(w.loop, &a.task);
    loop_sim_pause(w.loop, true);
    run_all(w.sim);
    loop_sim_kill(w.loop); /* while held */
    CHECK_EQ(c.dropped, 1);
    CHECK_EQ(h.count, 5);
    loop_sim_free(w.sim);
}

struct catcher {
    struct loop_signal signal;
    unsigned caught;
};

static void caught(struct loop_signal *s, int signo)
{
    container_of(s, struct catcher, signal)->caught += (unsigned)signo;
}

TEST(sim_signals)
{
    struct world w = world_open();
    struct catcher c = {.signal = {.caught = caught, .signo = SIGTERM}};
    CHECK_OK(loop_signal_add(w.loop, &c.signal));
    loop_sim_signal(w.loop, SIGTERM);
    loop_sim_signal(w.loop, SIGCHLD); /* ignored */
    CHECK_EQ(c.caught, 0);
    run_all(w.sim);
    CHECK_EQ(c.caught, SIGTERM);
    loop_sim_signal(w.loop, SIGSTOP);
    loop_sim_signal(w.loop, SIGTERM);
    run_all(w.sim);
    CHECK_EQ(c.caught, SIGTERM);
    loop_sim_signal(w.loop, SIGCONT);
    run_all(w.sim);
    CHECK_EQ(c.caught, 2 * SIGTERM);
    CHECK_EQ(loop_process_signal(w.loop, loop_process_id(w.loop), 0), 0);
    CHECK_EQ(loop_process_signal(w.loop, 12345, SIGTERM), -ESRCH);
    loop_signal_remove(w.loop, &c.signal);
    loop_sim_signal(w.loop, SIGTERM);
    run_all(w.sim);
    int code = 0;
    CHECK_TRUE(loop_sim_exited(w.loop, &code));
    CHECK_EQ(code, -SIGTERM);
    loop_sim_free(w.sim);
}

TEST(sim_clocks_jump_and_drift)
{
    struct world w = world_open();
    struct loop *neighbour = NULL, *far = NULL;
    CHECK_OK(loop_sim_process(w.sim, "neighbour", 1, &neighbour));
    CHECK_OK(loop_sim_process(w.sim, "far", 2, &far));
    CHECK_EQ(loop_now_ns(neighbour), loop_now_ns(w.loop)); /* one machine */
    CHECK_EQ(loop_wall_ns(far), loop_wall_ns(w.loop));
    uint64_t wall = loop_wall_ns(far), now = loop_now_ns(far);
    loop_sim_clock(w.sim, 2, -1000, 0);
    CHECK_EQ(loop_wall_ns(far), wall - 1000);
    CHECK_EQ(loop_now_ns(far), now); /* no jumps there */
    struct history h = {.count = 0};
    struct happening k = happening(&h, 1, far);
    loop_timer_in(far, &k.timer, 1000000);
    loop_sim_clock(w.sim, 2, 0, 1000); /* 0.1 % fast */
    run_all(w.sim);
    CHECK_EQ(loop_sim_now_ns(w.sim), 999001); /* 999000.999: never early */
    CHECK_TRUE(loop_now_ns(far) - now >= 1000000);
    uint8_t before[16], after[16];
    loop_boot_id(far, before);
    wall = loop_wall_ns(far);
    loop_sim_kill(far);
    loop_sim_reboot(w.sim, 2);
    CHECK_OK(loop_sim_process(w.sim, "far", 2, &far));
    loop_boot_id(far, after);
    CHECK_TRUE(memcmp(before, after, sizeof before) != 0);
    CHECK_EQ(loop_wall_ns(far), wall);
    CHECK_EQ(loop_sim_machine(far), 2);
    loop_sim_free(w.sim);
}

/* Any drift, any delay: a timer comes when the machine's clock shows its time, not before. */
TEST(sim_timers_fit_drifting_clocks)
{
    struct rand r;
    rand_seed(&r, testing_seed());
    struct world w = world_open();
    struct history h = {.count = 0};
    struct happening k = happening(&h, 1, w.loop);
    for (unsigned i = 0; i < 1000; i++) {
        loop_sim_clock(w.sim, 1, 0, (int32_t)rand_range(&r, 0, 400000) - 200000);
        uint64_t at = loop_now_ns(w.loop) + rand_below(&r, 1ull << rand_below(&r, 40));
        loop_timer_at(w.loop, &k.timer, at);
        h.count = 0;
        run_all(w.sim);
        CHECK_EQ(h.count, 1);
        CHECK_TRUE(loop_now_ns(w.loop) >= at && loop_now_ns(w.loop) - at <= 2);
    }
    loop_sim_free(w.sim);
}

/* --- programs --- */

struct program {
    struct loop_sim_program program;
    struct loop *started;
    unsigned starts;
    int result;
};

static int start_program(struct loop_sim_program *p, struct loop *l,
                         const struct loop_spawn_options *opt)
{
    struct program *k = container_of(p, struct program, program);
    CHECK_TEXT(opt->argv[1], "worker");
    CHECK_TEXT(opt->argv[2], "x");
    CHECK_EQ(opt->fd_count, 2);
    CHECK_EQ(opt->fds[1], 78);
    CHECK_TEXT(opt->log_path, "/log");
    CHECK_TEXT(loop_name(l), "worker");
    CHECK_TRUE(loop_is_mine(l));
    CHECK_TRUE(mem_alloc(10) != NULL); /* the process's, gone with it */
    k->started = l;
    k->starts++;
    return k->result;
}

struct spawner {
    struct loop *loop;
    struct loop_child child;
    bool detach;
    int status;
    unsigned exits;
};

static void child_exited(struct loop_child *c, int status)
{
    struct spawner *p = container_of(c, struct spawner, child);
    CHECK_EQ(c->pid, 0);
    p->status = status;
    p->exits++;
}

static void spawn_worker(void *ctx)
{
    struct spawner *p = ctx;
    p->child.exited = child_exited;
    char name[] = "worker"; /* all is lent for the call only */
    int fds[] = {77, 78};
    const char *argv[] = {NULL, name, "x", NULL};
    struct loop_spawn_options opt = {
        .argv = argv, .fds = fds, .fd_count = 2, .log_path = "/log", .detach = p->detach};
    CHECK_OK(loop_spawn(p->loop, &opt, &p->child, NULL));
    argv[1] = "nobody";
    struct loop_child none = {.exited = child_exited};
    CHECK_RC(loop_spawn(p->loop, &opt, &none, NULL), ENOENT);
    fds[1] = 0;
    name[0] = 0;
}

static void term_child(void *ctx)
{
    struct spawner *p = ctx;
    CHECK_OK(loop_child_signal(p->loop, &p->child, SIGTERM));
}

TEST(sim_spawn_runs_programs)
{
    struct world w = world_open();
    struct program k = {.program = {.name = "worker", .start = start_program}};
    loop_sim_program(w.sim, &k.program);
    struct spawner p = {.loop = w.loop};
    loop_sim_enter(w.loop, spawn_worker, &p);
    CHECK_EQ(k.starts, 0); /* later */
    CHECK_TRUE(p.child.pid > 0);
    run_all(w.sim);
    CHECK_EQ(k.starts, 1);
    CHECK_EQ(loop_process_id(k.started), p.child.pid);
    CHECK_EQ(loop_sim_machine(k.started), loop_sim_machine(w.loop));
    loop_sim_enter(k.started, stop_with_5, k.started);
    CHECK_EQ(p.exits, 0);
    run_all(w.sim);
    CHECK_EQ(p.exits, 1);
    CHECK_EQ(p.status, 5);
    loop_sim_enter(w.loop, spawn_worker, &p);
    run_all(w.sim);
    loop_sim_enter(w.loop, term_child, &p);
    run_all(w.sim);
    CHECK_EQ(p.status, -SIGTERM);
    k.result = -EIO; /* its start fails */
    loop_sim_enter(w.loop, spawn_worker, &p);
    run_all(w.sim);
    CHECK_EQ(p.status, 1);
    CHECK_EQ(p.exits, 3);
    loop_sim_free(w.sim);
}

TEST(sim_children_follow_their_parent_unless_detached)
{
    struct world w = world_open();
    struct program k = {.program = {.name = "worker", .start = start_program}};
    loop_sim_program(w.sim, &k.program);
    struct spawner p = {.loop = w.loop}, q = {.loop = w.loop, .detach = true};
    loop_sim_enter(w.loop, spawn_worker, &p);
    run_all(w.sim);
    struct loop *bound = k.started;
    loop_sim_enter(w.loop, spawn_worker, &q);
    run_all(w.sim);
    struct loop *detached = k.started;
    loop_sim_kill(w.loop);
    run_all(w.sim);
    int code = 0;
    CHECK_TRUE(loop_sim_exited(bound, &code));
    CHECK_EQ(code, -SIGTERM);
    CHECK_TRUE(!loop_sim_exited(detached, NULL));
    CHECK_EQ(p.exits, 0); /* nobody is there to be told */
    loop_sim_free(w.sim);
}

/* A parent that dies between its child's end and the news of it, and one that forgets. */
TEST(sim_child_news_nobody_waits_for)
{
    struct world w = world_open();
    struct program k = {.program = {.name = "worker", .start = start_program}, .result = 3};
    loop_sim_program(w.sim, &k.program);
    struct spawner p = {.loop = w.loop};
    loop_sim_enter(w.loop, spawn_worker, &p);
    loop_child_forget(w.loop, &p.child);
    run_all(w.sim);
    CHECK_EQ(k.starts, 1);
    CHECK_EQ(p.exits, 0);
    loop_sim_enter(w.loop, spawn_worker, &p);
    while (k.starts == 1) {
        CHECK_TRUE(loop_sim_step(w.sim));
    }
    CHECK_TRUE(loop_sim_exited(k.started, NULL));
    loop_sim_kill(w.loop);
    CHECK_TRUE(!loop_sim_step(w.sim));
    CHECK_EQ(p.exits, 0);
    loop_sim_free(w.sim);
}

static void adopt_child(void *ctx)
{
    struct spawner *p = ctx;
    int64_t pid = p->child.pid;
    loop_child_forget(p->loop, &p->child);
    CHECK_OK(loop_child_adopt(p->loop, pid, &p->child));
    CHECK_EQ(p->child.pid, pid);
}

static void adopt_nobody(void *ctx)
{
    struct spawner *p = ctx;
    struct loop_child other = {.exited = p->child.exited};
    CHECK_RC(loop_child_adopt(p->loop, p->child.pid, &other), ESRCH); /* has a parent already */
    CHECK_RC(loop_child_adopt(p->loop, loop_process_id(p->loop), &other), ESRCH);
}

TEST(sim_children_are_adopted)
{
    struct world w = world_open();
    struct program k = {.program = {.name = "worker", .start = start_program}};
    loop_sim_program(w.sim, &k.program);
    struct spawner p = {.loop = w.loop};
    loop_sim_enter(w.loop, spawn_worker, &p);
    run_all(w.sim);
    loop_sim_enter(w.loop, adopt_nobody, &p);
    loop_sim_enter(w.loop, adopt_child, &p);
    loop_sim_enter(k.started, stop_with_5, k.started);
    run_all(w.sim);
    CHECK_EQ(p.exits, 1);
    CHECK_EQ(p.status, 5);
    loop_sim_enter(w.loop, spawn_worker, &p);
    run_all(w.sim);
    loop_sim_kill(k.started); /* ended before anybody listens */
    loop_sim_enter(w.loop, adopt_child, &p);
    run_all(w.sim);
    CHECK_EQ(p.exits, 2);
    CHECK_EQ(p.status, -SIGKILL);
    loop_sim_free(w.sim);
}

TEST_TORTURE(sim_survives_lack_of_memory)
{
    CLEANUP(loop_sim_freep) struct loop_sim *s = loop_sim_new(1);
    TRY_PTR(s);
    struct loop *l = NULL;
    TRY(loop_sim_process(s, "p", 1, &l));
    struct history h = {.count = 0};
    static struct happening k[600];
    for (unsigned i = 0; i < ARRAY_COUNT(k); i++) {
        k[i] = happening(&h, 0, l);
        loop_sim_at(s, &k[i].event, i);
    }
    while (h.count < 60) {
        CHECK_TRUE(loop_sim_step(s));
    }
}
