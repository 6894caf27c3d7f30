/*
 * datanode/master_priv.h -- the parts of a master: itself (master.c), its children (child.c), and
 * what it hands to its own next program (upgrade.c). All of it belongs to one loop.
 */
#pragma once

#include "base/env.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stats.h"
#include "datanode/master.h"
#include "loop/loop.h"
#include "peer/client.h"
#include "peer/server.h"

#define NS_PER_MS 1000000ull

/* A target and the lives of its worker, one after the other. */
struct datanode_child {
    struct list node; /* in the order of the configuration */
    struct datanode_master *master;
    struct datanode_master_target target; /* its texts are owned */
    struct net_listener *listener;
    struct loop_child process;
    struct loop_timer restart, watch, kill;
    struct peer_user peer_user;
    struct peer_server *control; /* of this life; NULL: none */
    int control_fd;              /* of `control`, or of the former program's; -1: none */
    uint64_t started_ns, back_off_ms;
    struct datanode_master_info info;
    uint32_t disk_failures;  /* lives in a row that ended so */
    uint64_t disk_failed_ns; /* the last of them */
    struct peer_call report;
    struct proto_exited_request exited;
    bool report_again; /* a life ended while the report of the one before was under way */
    struct proto_exited_request next_exited;
    bool doubted; /* it has not said for long that its loop turns */
    bool planned; /* its end is wanted, and it is started again at once */
    bool leaving; /* the configuration does not name it any more: it is not started again */
    bool former;  /* its process runs what was the program before an upgrade */
};

struct datanode_master {
    struct datanode_master_options opt;
    struct peer_user peer_user;
    struct peer *meta;
    struct list children; /* struct datanode_child */
    bool stopping, told;
    struct loop_timer kill;
    struct loop_task stopped;
    struct datanode_child *rolled; /* the next one waits until this one is settled; NULL: none */
    struct loop_timer roll;        /* but not for ever */
    struct stats *stats;
    struct stats_counter starts, exits, hangs;
};

static inline uint64_t datanode_or_default(uint64_t v, uint64_t otherwise)
{
    return v == 0 ? otherwise : v;
}

/* ---- child.c ---- */

/* Listens; `fd` above 0: the listening socket is there already. Appended to the master's list. */
#define DATANODE_CHILD_NO_SOCKET (-1) /* as `fd`: it is to leave, and has none any more */
NODISCARD int datanode_child_new(struct datanode_master *m, const struct datanode_master_target *t,
                                 int fd, struct datanode_child **ret, struct err *e);
/* Its process, if there is one, goes on and is forgotten. */
void datanode_child_free(struct datanode_child *c);
void datanode_child_start(struct datanode_child *c); /* from the loop */
/* A process that runs already, what is known of it, and what keeps it from believing that its
 * master is gone (-1: nothing). */
NODISCARD int datanode_child_adopt(struct datanode_child *c, const struct datanode_master_info *i,
                                   int control_fd);
/* Asked to end, killed if it does not; then started again at once. */
void datanode_child_restart(struct datanode_child *c);
/* The same, but for good: the socket is closed, and when all is told it is freed. */
void datanode_child_leave(struct datanode_child *c);
/* Takes the texts (and the listener, if not NULL) of a new configuration. */
void datanode_child_change(struct datanode_child *c, struct datanode_master_target *t,
                           struct net_listener *li);
/* With texts of its own. */
NODISCARD int datanode_target_copy(const struct datanode_master_target *from,
                                   struct datanode_master_target *ret);
void datanode_target_fini(struct datanode_master_target *t);

/* ---- master.c ---- */

/* Told by a child: its process has ended, or it is freed. */
void datanode_master_look(struct datanode_master *m);
struct datanode_child *datanode_master_find(const struct datanode_master *m, const char *name);

/* Does the wanted address leave it where it is? Also with port 0: it has been chosen. */
bool datanode_stays_at(const char *has, const char *wanted);

/* ---- upgrade.c ---- */

/* The sockets and processes that opt.inherited names, for the targets that there are. */
NODISCARD int datanode_master_inherit(struct datanode_master *m, struct err *e);
/* Is it time to restart the next worker that runs the former program? */
void datanode_master_roll(struct datanode_master *m);
