/*
 * datanode/master.h -- the master process of a data node: owns one listening socket per target,
 * runs one worker process for each, starts a worker again that ended, and tells the metadata leader
 * about it at once, so that nobody waits for a lease to run out.
 *
 * A worker inherits its listening socket (descriptor 3: connections queue while it restarts) and
 * one end of a connection to the master (descriptor 4; datanode/supervised.h). It is started again
 * after a pause that doubles from back_off_min_ms to back_off_max_ms, and begins anew when a worker
 * lived for stable_ms.
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

struct datanode_master_user {
    const struct datanode_master_user_ops *ops;
};
struct datanode_master_user_ops {
    /* After datanode_master_stop(): no worker is left. */
    void (*stopped)(struct datanode_master_user *u);
};
struct datanode_master_target {
    const char *name;          /* "target.0" */
    struct net_address listen; /* port 0: chosen */
    const char *const *argv;   /* of the worker; NULL-terminated, lent until the master is freed */
    const char *log_path;      /* of its standard error; NULL: the master's. Lent as well */
};
struct datanode_master_options {
    const struct env *env;
    struct datanode_master_user *user;
    struct uuid cluster_id;
    struct peer_secrets secrets;
    const char *name;               /* "node.a"; lent */
    const struct net_address *meta; /* metadata servers */
    size_t meta_count;
    const struct datanode_master_target *targets; /* copied */
    size_t target_count;
    uint64_t back_off_min_ms, back_off_max_ms, stable_ms; /* 0: 100, 30,000, 60,000 */
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

/* Sends `signo` to every running worker (reload). */
void datanode_master_signal(struct datanode_master *m, int signo);

struct datanode_master_info {
    int64_t pid;       /* 0: not running now */
    uint64_t restarts; /* how often it was started again */
    bool serving;      /* it has said which target it serves */
    struct uuid uuid;  /* valid once it was serving */
    uint64_t incarnation;
    int last_status; /* as loop_child's exited() */
};
void datanode_master_info(const struct datanode_master *m, size_t target,
                          struct datanode_master_info *ret);
