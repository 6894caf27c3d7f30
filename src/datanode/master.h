/*
 * datanode/master.h -- the master process of a data node: owns one listening socket per target,
 * runs one worker process for each, starts a worker again that ended, and tells the metadata leader
 * about it at once, so that nobody waits for a lease to run out.
 *
 * A worker inherits its listening socket (descriptor 3: connections queue while it restarts) and
 * one end of a connection to the master (descriptor 4; datanode/supervised.h). It is started again
 * after a pause that doubles from back_off_min_ms to back_off_max_ms, and begins anew when a worker
 * lived for stable_ms. A worker says over its connection that its serving loop turns; one that has
 * said so and then is silent for watchdog_ms is killed, and started again like any other. Before
 * its first word it may take as long as it likes: opening a large store does.
 *
 * Owner: the loop of env, which must live as long as the process. Start binds sockets; nothing
 * blocks afterwards.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "base/text.h"
#include "net/stream.h"
#include "peer/auth.h"

struct datanode_master;
struct env;

#define DATANODE_MASTER_FD_LISTEN 3
#define DATANODE_MASTER_FD_MASTER 4
#define DATANODE_MASTER_ARGUMENTS 16u

struct datanode_master_user {
    const struct datanode_master_user_ops *ops;
};
struct datanode_master_user_ops {
    /* After datanode_master_stop(): no worker is left. */
    void (*stopped)(struct datanode_master_user *u);
};
/* All of it is copied. */
struct datanode_master_target {
    const char *name;          /* "target.0": what a target is known by */
    struct net_address listen; /* port 0: chosen */
    const char *const *argv;   /* of the worker; NULL-terminated, at most that many */
    const char *settings;      /* what the worker has read when it started, in any words; or NULL */
    const char *log_path;      /* of its standard error; NULL: the master's */
};
struct datanode_master_options {
    const struct env *env;
    struct datanode_master_user *user;
    struct uuid cluster_id;
    struct peer_secrets secrets;
    const char *name;               /* "node.a"; lent */
    const struct net_address *meta; /* metadata servers */
    size_t meta_count;
    const struct datanode_master_target *targets;
    size_t target_count;
    uint64_t back_off_min_ms, back_off_max_ms, stable_ms; /* 0: 100, 30,000, 60,000 */
    uint64_t watchdog_ms;                                 /* 0: nobody is watched */
    uint64_t stop_ms; /* what a worker has to end in good order when it is asked to; 0: 10,000 */
    uint64_t roll_ms; /* an upgrade waits so long for one worker's chains; 0: 60,000 */
    const char *inherited; /* of datanode_master_hand_over(), in the program before; or NULL */
};
/* -EADDRINUSE and others with the address in `e`. The workers are started from the loop. */
NODISCARD int datanode_master_start(const struct datanode_master_options *opt,
                                    struct datanode_master **ret, struct err *e);
/* SIGTERM to all workers, SIGKILL after `limit_ms` to those still there; then `stopped`. Again:
 * shorter limits count. */
void datanode_master_stop(struct datanode_master *m, uint64_t limit_ms);
/* Workers that still run are not ended. */
struct datanode_master *datanode_master_free(struct datanode_master *m);
DEFINE_FREEP(datanode_master)

/* Sends `signo` to every worker that serves: one that has just begun might be ended by it. */
void datanode_master_signal(struct datanode_master *m, int signo);

/*
 * Another configuration. Targets that are named for the first time get a socket and a worker; those
 * that are not named any more are stopped in good order, and their sockets closed; one whose
 * address, arguments or settings are others is stopped in good order and started again with them.
 * The others, and who is connected to them, notice nothing. An error (an address that is taken)
 * changes nothing.
 */
struct datanode_master_change {
    size_t added, removed, changed;
};
NODISCARD int datanode_master_reload(struct datanode_master *m,
                                     const struct datanode_master_target *targets,
                                     size_t target_count, struct datanode_master_change *ret,
                                     struct err *e);

/*
 * Before this process becomes another program (loop_exec()): what that one has to know, as text for
 * opt.inherited, and the descriptors that must stay open. The process id stays, and with it the
 * workers, which run on. The next master takes all of it over, and then restarts one worker after
 * the other, so that each runs the new program: the next one when all chains of the one before
 * serve again, or after roll_ms. Changes nothing: if there is no other program after all, this
 * master goes on. What the next one cannot have (an address that is taken) it logs and does
 * without.
 */
#define DATANODE_MASTER_FDS 512u /* two of each target */
struct datanode_master_legacy {
    char text[65536];
    int fd[DATANODE_MASTER_FDS];
    size_t fd_count;
};
/* -E2BIG: too many targets. */
NODISCARD int datanode_master_hand_over(const struct datanode_master *m,
                                        struct datanode_master_legacy *ret);

struct datanode_master_info {
    int64_t pid;       /* 0: not running now */
    uint64_t restarts; /* how often it was started again because it had ended by itself */
    uint64_t hangs;    /* and how often it was killed because its loop stood still */
    bool serving;      /* it has said which target it serves */
    bool settled;      /* and that all chains of this target serve with it */
    bool former;       /* it runs the program of before an upgrade */
    struct uuid uuid;  /* valid once it was serving */
    uint64_t incarnation;
    int last_status; /* as loop_child's exited() */
};
size_t datanode_master_count(const struct datanode_master *m);
/* The n-th target, in the order of the configuration. */
void datanode_master_info(const struct datanode_master *m, size_t target,
                          struct datanode_master_info *ret);
