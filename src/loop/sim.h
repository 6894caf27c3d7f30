/*
 * loop/sim.h -- the simulated world: one virtual clock, one generator, many loops in one thread,
 * all from one seed.
 *
 * A loop of this backend is a simulated *process*. loop_sim_step() picks, by the seed, one of the
 * events that are due (of any process or of the world: disks, network), runs it, and advances the
 * clock when none is. Killing a process drops everything addressed to it and frees its memory
 * domain without running any destructor, as kill -9 does. The whole run is determined by the seed:
 * nothing here or above may look at addresses, real time or iteration orders that depend on them.
 *
 * Two times: that of the world (loop_sim_now_ns, loop_sim_at, limits), from 0; and that of a
 * machine, which its loops show (loop_now_ns, timers): uptime, with drift. They have nothing in
 * common but their pace. A pointer to a dead process's loop stays valid for the functions here
 * until the world is freed; they have no effect then.
 */
#pragma once

#include "base/mem.h"
#include "base/rand.h"
#include "loop/loop.h"

struct loop_sim;

NODISCARD struct loop_sim *loop_sim_new(uint64_t seed);
struct loop_sim *loop_sim_free(struct loop_sim *s); /* kills what is left */
DEFINE_FREEP(loop_sim)
struct rand *loop_sim_rand(struct loop_sim *s);
uint64_t loop_sim_now_ns(const struct loop_sim *s);
uint64_t loop_sim_steps(const struct loop_sim *s);
/* A hash over every event run so far: equal seeds give equal values at equal steps. */
uint64_t loop_sim_digest(const struct loop_sim *s);
void loop_sim_mix(struct loop_sim *s, uint64_t v); /* adds to the digest */

/* A process: its loop, its memory domain. `machine` is any id; its boot id changes with
 * loop_sim_reboot(). */
NODISCARD int loop_sim_process(struct loop_sim *s, const char *name, unsigned machine,
                               struct loop **ret);
/* At once, from outside callbacks of processes; else when the outermost of them has returned (until
 * then it only gets nothing any more). Hooks run, then `dropped`, then its memory is freed. */
void loop_sim_kill(struct loop *l);
void loop_sim_kill_machine(struct loop_sim *s, unsigned machine); /* all its processes */
void loop_sim_reboot(struct loop_sim *s,
                     unsigned machine); /* new boot id; the caller kills its processes first */
void loop_sim_pause(struct loop *l, bool paused); /* SIGSTOP, SIGCONT */
void loop_sim_signal(struct loop *l, int signo);  /* unwatched: what a kernel does by default */
/* It is dead. The code is that of loop_stop() modulo 256, or -n after signal n (killed: -9). */
bool loop_sim_exited(const struct loop *l, int *ret_code); /* ret_code may be NULL */
/* Clock of one machine: offset to add to its loops' times (jumps), and drift in parts per million.
 */
void loop_sim_clock(struct loop_sim *s, unsigned machine, int64_t wall_jump_ns, int32_t drift_ppm);
/* Runs `fn` as if a callback of `l` did: with its domain and as its owner. */
void loop_sim_enter(struct loop *l, void (*fn)(void *ctx), void *ctx);
struct loop_sim *loop_sim_of(const struct loop *l);
unsigned loop_sim_machine(const struct loop *l);

/* Called when a process dies (kill or exit), in order of registration: disk and net drop what they
 * hold of it. */
struct loop_sim_death {
    void (*died)(struct loop_sim_death *d, struct loop *l);
    struct list node;
};
void loop_sim_on_death(struct loop *l, struct loop_sim_death *d);
void loop_sim_on_death_cancel(struct loop_sim_death *d); /* before it is freed earlier than `l` */

/* World events: not owned by any process, or delivered on one (`on`; dropped if it died meanwhile).
 */
struct loop_sim_event {
    void (*run)(struct loop_sim_event *ev);
    void (*dropped)(struct loop_sim_event *ev); /* `on` died first; may be NULL */
    struct loop *on;                            /* NULL: the world itself */
    struct heap_node node;
    uint64_t process_id;
    size_t place;         /* the world's, as all below */
    struct list siblings; /* the events of `on` */
};
void loop_sim_at(struct loop_sim *s, struct loop_sim_event *ev, uint64_t at_ns);
void loop_sim_cancel(struct loop_sim *s, struct loop_sim_event *ev);

/* One event. false: nothing is left to happen. */
bool loop_sim_step(struct loop_sim *s);
/* Steps until `done(ctx)`, or until the world's clock shows `limit_ns`. true: done. */
bool loop_sim_run(struct loop_sim *s, bool (*done)(void *ctx), void *ctx, uint64_t limit_ns);

/* Programs for loop_spawn(): argv[1] selects; `start` runs inside the new process, a moment after
 * the call, with lent arguments; `fds` are the numbers that the parent gave. A result other than 0
 * ends the process: an error with exit code 1, else with that code. */
struct loop_sim_program {
    const char *name;
    int (*start)(struct loop_sim_program *p, struct loop *l, const struct loop_spawn_options *opt);
    struct list node;
};
void loop_sim_program(struct loop_sim *s, struct loop_sim_program *p);
