/*
 * loop/loop.h -- the event loop: timers, deferred tasks, mailbox, descriptors, signals, child
 * processes.
 *
 * One loop = one thread; everything registered with it is touched by that thread only, except
 * loop_post(). Backends (epoll; poll; simulation in loop/sim.h) differ in
 * construction and in struct loop_ops, nowhere else. Callbacks run one at a time, never from inside
 * the call that registered them. All request objects below are caller-owned and embedded: starting
 * one cannot fail for want of memory, except where NODISCARD says so.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/mpsc.h"

struct loop;

enum loop_backend {
    LOOP_BEST, /* epoll; in test builds what OPENDFS_TEST_LOOP says: "epoll", "poll" */
    LOOP_EPOLL,
    LOOP_POLL,
};
struct loop_options {
    const char *name;     /* for logs and assertions; lent */
    size_t mailbox_limit; /* messages; 0: 65,536 */
    enum loop_backend backend;
};
/* The calling thread becomes the owner; SIGPIPE is blocked for owners. */
NODISCARD int loop_new(const struct loop_options *opt, struct loop **ret, struct err *e);
struct loop *
loop_free(struct loop *l); /* nothing may be registered any more, except cancelled things */
DEFINE_FREEP(loop)
const char *loop_name(const struct loop *l);

/* Runs until loop_stop(); returns its code. The calling thread becomes the owner. In simulation it
 * steps the world, and must not be called from a callback. */
int loop_run(struct loop *l);
/*
 * Looks for up to `limit_us` whether something comes before it sleeps, while that pays: for loops
 * whose peers wait for them and answer at once. Waking a core, a virtual one above all, takes
 * longer than a small request. 0, and at first: never. Owner only; no effect in simulation and
 * under a foreign event loop.
 */
#define LOOP_POLL_US 50u
void loop_set_polling(struct loop *l, uint32_t limit_us);
void loop_stop(struct loop *l, int code); /* owner only; ends after the current callback */
/* For foreign event loops and tests: handles what is ready, waiting at most `wait_ns` (0: not at
 * all). */
void loop_run_once(struct loop *l, uint64_t wait_ns);
/* Becomes readable when loop_run_once() has work; -1 in simulation and of the poll backend. From
 * the first call on, timers and tasks of the loop show there too. */
int loop_poll_fd(struct loop *l);
uint64_t loop_next_timer_ns(
    const struct loop *l); /* absolute loop time of the next timer; UINT64_MAX: none */

/* Aborts in test builds when called from another thread than the owner's. */
#ifdef ODFS_FAULTS
#define LOOP_OWNED(l) CHECK(loop_is_mine(l))
#else
#define LOOP_OWNED(l) ((void)(l))
#endif
bool loop_is_mine(const struct loop *l);
bool loop_is_simulated(const struct loop *l);

/* Time and randomness: the only sources of either in the whole program. */
uint64_t loop_now_ns(const struct loop *l);  /* CLOCK_BOOTTIME, read at each call */
uint64_t loop_tick_ns(const struct loop *l); /* the same, as of the start of this round: cheap */
uint64_t loop_wall_ns(const struct loop *l); /* CLOCK_REALTIME since 1970 */
uint64_t loop_random(struct loop *l);
void loop_random_bytes(struct loop *l, void *out, size_t len); /* fit for keys and ids */
/* Identity of this boot of the machine (from the kernel; simulated: changes with a machine crash).
 */
void loop_boot_id(struct loop *l, uint8_t out[16]);

/* Timers. Zero-initialise, set `fire`. Setting a running timer moves it. Not before `at_ns`, maybe
 * later. */
struct loop_timer {
    void (*fire)(struct loop_timer *t);
    struct heap_node node;
    bool lazy; /* the loop's */
};
void loop_timer_at(struct loop *l, struct loop_timer *t, uint64_t at_ns);
void loop_timer_in(struct loop *l, struct loop_timer *t, uint64_t delay_ns);
/* For what is done again and again while nobody waits: from a second on it comes up to LOOP_LAZY_NS
 * later, when the loop is awake anyway, or together with others of its kind. */
#define LOOP_LAZY_NS UINT64_C(500000000)
void loop_timer_lazy_in(struct loop *l, struct loop_timer *t, uint64_t delay_ns);
void loop_timer_cancel(struct loop *l, struct loop_timer *t); /* fine when idle */
bool loop_timer_active(const struct loop_timer *t);

/* Runs later in this or the next round, after the current callback has returned. Zero-initialise,
 * set `run`. */
struct loop_task {
    void (*run)(struct loop_task *t);
    struct list node;
    bool queued;
};
void loop_defer(struct loop *l, struct loop_task *t);   /* no effect when already queued */
void loop_undefer(struct loop *l, struct loop_task *t); /* fine when idle */

/* Mailbox: from any thread. Messages of one sender arrive in order. -ERR_busy when the mailbox is
 * full. */
struct loop_message {
    struct mpsc_node node;
    void (*run)(struct loop_message *m);
};
NODISCARD int loop_post(struct loop *l, struct loop_message *m);
/* The same, but never refused: for answers to requests whose number is bounded where they start
 * (jobs, disk requests), so that an answer is not lost to a full mailbox. A queue of its own; in
 * order among themselves. */
void loop_complete(struct loop *l, struct loop_message *m);

/*
 * Descriptors (real backends only: disk/ and net/ use them). Edge-triggered; `ready` gets the
 * events that became true. A watch that was removed gets nothing more, also when the kernel had
 * already reported an event.
 */
#define LOOP_READABLE 1u
#define LOOP_WRITABLE 2u
#define LOOP_HANGUP 4u /* the peer sends no more, or an error: there is an end to be read */
struct loop_fd {
    void (*ready)(struct loop_fd *w, unsigned events);
    int fd;
    uint32_t slot, generation; /* the loop's, as all below */
    uint32_t place;
    unsigned wanted;
};
NODISCARD int loop_fd_add(struct loop *l,
                          struct loop_fd *w);           /* both directions, once; -ENOMEM, -errno */
void loop_fd_remove(struct loop *l, struct loop_fd *w); /* before close(); fine when not added */
/* `events` are over: a call met EAGAIN, or took less than was asked for. `ready` says when they are
 * true again. Without it a backend that sees only levels, not edges, would not tell. */
void loop_fd_want(struct loop *l, struct loop_fd *w, unsigned events);

/* Signals: blocked by the first watch, for this thread and those that it starts later (so add
 * watches before starting threads), and for good; delivered as ordinary callbacks. In simulation
 * sent by loop_sim_signal(). */
struct loop_signal {
    void (*caught)(struct loop_signal *s, int signo);
    int signo;
    struct list node;
};
NODISCARD int loop_signal_add(struct loop *l, struct loop_signal *s);
void loop_signal_remove(struct loop *l, struct loop_signal *s);

/*
 * Child processes. The child runs `argv` (argv[0] is the executable's path; the same executable
 * when it is NULL); in simulation argv[1] names a program registered with loop_sim_program().
 * Descriptors arrive as 3, 4, ... and their count is in the environment variable OPENDFS_FDS. The
 * child gets SIGTERM when its parent dies (the thread that started it, says the kernel: use a loop
 * that lives as long as the process). Waits for the exec, not for the child. -errno of what failed.
 */
struct loop_child {
    void (*exited)(struct loop_child *c, int status); /* >= 0: exit code; -n: killed by signal n */
    int64_t pid;                                      /* 0: not running */
    struct loop_fd watch;
    void *backend;
};
struct loop_spawn_options {
    const char *const *argv; /* NULL-terminated */
    const int *fds;
    size_t fd_count;
    const char *log_path; /* standard error goes there (append); NULL: inherited */
    bool detach;          /* own session, survives the parent, `exited` not called (up/down) */
    bool leave;           /* its working directory is / */
};
NODISCARD int loop_spawn(struct loop *l, const struct loop_spawn_options *opt, struct loop_child *c,
                         struct err *e);
int loop_child_signal(struct loop *l, struct loop_child *c, int signo); /* -ESRCH when it is gone */
void loop_child_forget(struct loop *l,
                       struct loop_child *c); /* no callback any more; does not kill */
/* A child that this process has had before it became another program (loop/self.h). -ESRCH: there
 * is no such process. What is not a child of ours is told as ended, with an unknown code, when it
 * ends. */
NODISCARD int loop_child_adopt(struct loop *l, int64_t pid, struct loop_child *c);
/* Any process by id: does it live, is it ours to signal. For `down` and pid files. */
int loop_process_signal(struct loop *l, int64_t pid, int signo);
/* Raises the limit of open files of this process to `want`, or as far as allowed; what it is then.
 */
uint64_t loop_process_raise_files(uint64_t want);
int64_t loop_process_id(const struct loop *l);
/* CPU time used by this process so far (user + system), for benchmarks and status. */
uint64_t loop_process_cpu_ns(const struct loop *l);
