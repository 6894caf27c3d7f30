/*
 * loop/loop_priv.h -- what a backend gives (struct loop_ops) and what it gets from the common part
 * (struct loop, embedded first in the backend's own).
 *
 * The common part owns timers, tasks, mailbox, signal watches and the table of descriptors; a
 * backend waits, wakes and knows the outside world. Backends of the operating system share
 * system.c (clocks, randomness), signal.c and process.c through struct loop_system.
 */
#pragma once

#include "loop/loop.h"

#include <pthread.h>

/* How much of each kind one round runs, so that no kind starves another. */
#define LOOP_ROUND_MESSAGES 1024u
#define LOOP_ROUND_TASKS 1024u
#define LOOP_ROUND_TIMERS 1024u
#define LOOP_MAILBOX_LIMIT 65536u
#define LOOP_SIGNALS 65   /* numbers 1 to 64 */
#define LOOP_FORGOTTEN 0u /* event data of descriptors that only end the wait */

enum loop_sleep { LOOP_AWAKE, LOOP_SLEEPING };

struct loop_ops {
    struct loop *(*free)(struct loop *l);
    /* One round: see loop_run_once(). System backends: loop_system_once(). */
    void (*run_once)(struct loop *l, uint64_t wait_ns);
    /* Waits at most so long (UINT64_MAX: for ever) for descriptors or wake(), sets the tick and
     * hands what is ready to loop_fd_ready(). False: there was nothing. */
    bool (*wait)(struct loop *l, uint64_t wait_ns);
    void (*wake)(struct loop *l); /* any thread: ends wait(), the present or the next one */
    /* Something that the loop has to do was added while l->notify is set. */
    void (*changed)(struct loop *l);
    int (*poll_fd)(struct loop *l);
    int (*wake_fd)(const struct loop *l);                            /* -1 in simulation */
    int (*fd_add)(struct loop *l, struct loop_fd *w, uint64_t data); /* 0, -errno */
    void (*fd_remove)(struct loop *l, struct loop_fd *w);
    void (*fd_want)(struct loop *l, struct loop_fd *w, unsigned events);
    uint64_t (*now_ns)(const struct loop *l);
    uint64_t (*wall_ns)(const struct loop *l);
    void (*random_bytes)(struct loop *l, void *out, size_t len);
    void (*boot_id)(struct loop *l, uint8_t out[16]);
    bool (*is_mine)(const struct loop *l);
    /* First watch of a signal, last watch gone. */
    int (*signal_add)(struct loop *l, int signo);
    void (*signal_remove)(struct loop *l, int signo);
    int (*spawn)(struct loop *l, const struct loop_spawn_options *opt, struct loop_child *c,
                 struct err *e);
    int (*child_signal)(struct loop *l, struct loop_child *c, int signo);
    void (*child_forget)(struct loop *l, struct loop_child *c);
    int (*child_adopt)(struct loop *l, int64_t pid, struct loop_child *c);
    int (*process_signal)(struct loop *l, int64_t pid, int signo);
    int64_t (*process_id)(const struct loop *l);
    uint64_t (*process_cpu_ns)(const struct loop *l);
};

/* A slot is named by (index, generation); generation 0 is never valid. */
struct loop_slot {
    struct loop_fd *watch; /* NULL: free */
    uint32_t generation;
    uint32_t next_free; /* index + 1; 0: none */
};

struct loop {
    const struct loop_ops *ops;
    const char *name;
    bool simulated;
    bool notify;   /* call ops->changed() on new timers and tasks */
    bool in_round; /* a callback may be running */
    bool stopping;
    int code;
    uint64_t tick_ns;
    struct heap timers, lazy; /* lazy: by when they may come; all have the same time on top */
    struct list tasks;
    size_t task_count;
    struct list signals;
    struct list sources; /* struct loop_source */
    uint32_t signal_watches[LOOP_SIGNALS];
    struct loop_slot *slots;
    size_t slot_count, slot_capacity;
    uint32_t free_slot; /* index + 1; 0: none */
    _Atomic uintptr_t owner;
    int64_t thread_id; /* of the owner, as the kernel counts; 0 in simulation */
    /* Below: touched by other threads. */
    _Atomic int sleep;       /* enum loop_sleep; see loop_announce() in loop.c */
    _Atomic bool stop_asked; /* by loop_thread_stop() */
    struct mpsc mailbox, completions;
};

/* The common part: for constructors and destructors of backends. `name` is lent. */
NODISCARD int loop_common_init(struct loop *l, const struct loop_ops *ops,
                               const struct loop_options *opt);
void loop_common_fini(struct loop *l);

/* Each runs at most one callback; false: there was none to run. */
bool loop_run_timer(struct loop *l); /* due at l->tick_ns */
bool loop_run_task(struct loop *l);
bool loop_run_message(struct loop *l);
bool loop_run_completion(struct loop *l);
bool loop_has_messages(struct loop *l); /* of either queue */
bool loop_has_work(struct loop *l);     /* tasks, messages or a request to stop */
/* See source.h. */
void loop_sources_flush(struct loop *l);
bool loop_sources_ready(struct loop *l);
bool loop_sources_rest(struct loop *l);
void loop_sources_run(struct loop *l);
/* Calls the watches of one signal. false: there is none. */
bool loop_signal_deliver(struct loop *l, int signo);
/* An event of the backend with the data of fd_add; stale ones are dropped. */
void loop_fd_ready(struct loop *l, uint64_t data, unsigned events);
/* Ends the wait of the loop when it sleeps. Any thread, after what it shall see was published. */
void loop_announce(struct loop *l);
void loop_ask_stop(struct loop *l); /* any thread */
void loop_own(struct loop *l);      /* the calling thread is the owner from now on */

/* A thread that gets no signals: those of the process go to threads that expect them. 0, -errno. */
NODISCARD int loop_thread_create(pthread_t *ret, void *(*run)(void *arg), void *arg);

void loop_block_sigpipe(void); /* of the calling thread */

/* Polling before sleep: see poll_pays() in system.c. */
struct loop_polling {
    uint64_t limit_ns; /* 0: never */
    uint64_t rest_ns;  /* not before this time: the core was wanted by others */
    unsigned misses;   /* times in a row that nothing came */
    unsigned shorts;   /* sleeps in a row that were short */
    unsigned wanted;   /* so many short sleeps until it is tried again */
    bool active;
};

NODISCARD int loop_epoll_new(const struct loop_options *opt, struct loop **ret, struct err *e);
NODISCARD int loop_poll_new(const struct loop_options *opt, struct loop **ret, struct err *e);

/* Shared by backends of the operating system; embeds the common part. */
struct loop_system {
    struct loop base;
    uint8_t entropy[256];
    size_t entropy_left;
    struct loop_fd signal_watch; /* fd -1: none yet */
    struct list children;        /* struct process_child, see process.c */
    bool foreign;                /* driven through loop_poll_fd() */
    unsigned unasked;            /* rounds in a row in which the kernel was not asked */
    struct loop_polling polling;
    bool has_boot_id;
    uint8_t boot_id[16];
};
NODISCARD int loop_system_init(struct loop_system *s, const struct loop_ops *ops,
                               const struct loop_options *opt);
void loop_system_fini(struct loop_system *s);
void loop_system_once(struct loop *l, uint64_t wait_ns);
uint64_t loop_system_now_ns(const struct loop *l);
uint64_t loop_system_wall_ns(const struct loop *l);
void loop_system_random_bytes(struct loop *l, void *out, size_t len);
void loop_system_boot_id(struct loop *l, uint8_t out[16]);
bool loop_system_is_mine(const struct loop *l);
int loop_system_signal_add(struct loop *l, int signo);
void loop_system_signal_remove(struct loop *l, int signo);
void loop_system_signal_fini(struct loop_system *s);
int loop_system_spawn(struct loop *l, const struct loop_spawn_options *opt, struct loop_child *c,
                      struct err *e);
int loop_system_child_signal(struct loop *l, struct loop_child *c, int signo);
void loop_system_child_forget(struct loop *l, struct loop_child *c);
int loop_system_child_adopt(struct loop *l, int64_t pid, struct loop_child *c);
void loop_system_children_fini(struct loop_system *s);
int loop_system_process_signal(struct loop *l, int64_t pid, int signo);
int64_t loop_system_process_id(const struct loop *l);
uint64_t loop_system_process_cpu_ns(const struct loop *l);
/* Of the tables of all backends that are of this system. */
#define LOOP_SYSTEM_OPS                                                                   \
    .now_ns = loop_system_now_ns, .wall_ns = loop_system_wall_ns,                         \
    .random_bytes = loop_system_random_bytes, .boot_id = loop_system_boot_id,             \
    .is_mine = loop_system_is_mine, .signal_add = loop_system_signal_add,                 \
    .signal_remove = loop_system_signal_remove, .spawn = loop_system_spawn,               \
    .child_signal = loop_system_child_signal, .child_forget = loop_system_child_forget,   \
    .child_adopt = loop_system_child_adopt, .process_signal = loop_system_process_signal, \
    .process_id = loop_system_process_id, .process_cpu_ns = loop_system_process_cpu_ns
