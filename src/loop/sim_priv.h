/*
 * loop/sim_priv.h -- the simulated world from inside; see sim.h. sim.c is the schedule,
 * sim_process.c the processes and machines, sim_spawn.c the children of processes.
 *
 * Everything here is memory of the world: made with no domain entered, and alive until the world
 * ends, dead processes included, so that a pointer to one is stale but never dangling.
 */
#pragma once

#include "loop/loop_priv.h"
#include "loop/sim.h"

#define SIM_HELD SIZE_MAX /* loop_sim_event.place: due, but its process is paused */

struct sim_machine {
    unsigned id;
    uint8_t boot_id[16];
    int32_t drift_ppm;
    uint64_t since_ns, local_since_ns; /* at world time `since` its clock showed `local_since` */
    uint64_t wall_offset_ns;           /* wall = local + this, modulo 2^64 */
    struct list node;                  /* in loop_sim.machines */
};

enum sim_state { SIM_ALIVE, SIM_DOOMED, SIM_DEAD };

struct sim_process {
    struct loop base;
    struct loop_sim *sim;
    struct sim_machine *machine;
    struct mem_domain *domain; /* owned until death */
    char *name;                /* owned */
    uint64_t id;
    uint64_t callbacks;
    struct rand rand;
    enum sim_state state;
    bool paused;
    int status;                 /* how it died, as for loop_child.exited */
    uint64_t pending_signals;   /* bit n: signal n; bit 0 stands for 64 */
    struct loop_sim_event turn; /* due when the loop has something to run; `run` is NULL */
    struct list events;         /* loop_sim_event.siblings: those delivered on this process */
    struct list deaths;         /* loop_sim_death.node */
    struct list node;           /* in loop_sim.processes */
    struct list doomed;         /* in loop_sim.doomed */
    struct sim_process *parent; /* NULL: started by the test */
    struct loop_child *child;   /* the parent's memory; NULL: forgotten or detached */
    bool detached;
    bool has_spawned;             /* there may be children */
    struct loop_sim_event start;  /* runs the program */
    struct loop_sim_event notice; /* tells the parent */
    struct loop_sim_program *program;
    char **argv; /* copies of the spawn options, freed at death */
    size_t argv_count, fd_count;
    int *fds;
    char *log_path;
};

struct loop_sim {
    struct rand rand;
    uint64_t now_ns, steps, digest, last_process_id;
    uint64_t steps_now; /* without the clock moving */
    struct heap schedule;
    struct loop_sim_event **ready; /* due, process not paused */
    size_t ready_count, ready_capacity;
    size_t active; /* events that are scheduled, ready or held */
    struct list machines, processes, doomed, programs;
    struct sim_process *current; /* whose callback runs; NULL: none */
    unsigned depth;              /* of entered processes */
    bool stepping, reaping;
};

/* NULL for NULL; works for dead processes too. */
struct sim_process *loop_sim_process_of(const struct loop *l);

/* sim.c */
void loop_sim_settle(struct sim_process *p); /* its turn fits what it has to do */
void loop_sim_hold(struct sim_process *p);   /* what is due of it waits */
void loop_sim_release(struct sim_process *p);
uint64_t loop_sim_next_ns(struct loop_sim *s); /* of the next event; UINT64_MAX: none */
void loop_sim_advance(struct loop_sim *s, uint64_t to_ns);

/* sim_process.c */
uint64_t loop_sim_local_ns(const struct sim_machine *m, uint64_t world_ns);
/* The first world time, from now on, at which the machine's clock shows `local_ns` or more. */
uint64_t loop_sim_world_ns(const struct sim_machine *m, uint64_t now_ns, uint64_t local_ns);
void loop_sim_run_turn(struct sim_process *p);
bool loop_sim_turn_due(struct sim_process *p);
void loop_sim_doom(struct sim_process *p, int status); /* dies when no callback runs any more */
NODISCARD struct sim_process *loop_sim_process_new(struct loop_sim *s, const char *name,
                                                   unsigned machine);
void loop_sim_processes_fini(struct loop_sim *s);

/* sim_spawn.c */
int loop_sim_spawn(struct loop *l, const struct loop_spawn_options *opt, struct loop_child *c,
                   struct err *e);
int loop_sim_child_signal(struct loop *l, struct loop_child *c, int signo);
void loop_sim_child_forget(struct loop *l, struct loop_child *c);
int loop_sim_child_adopt(struct loop *l, int64_t pid, struct loop_child *c);
int loop_sim_process_signal(struct loop *l, int64_t pid, int signo);
void loop_sim_spawn_died(struct sim_process *p); /* tells its children and its parent */
void loop_sim_spawn_fini(struct sim_process *p);
