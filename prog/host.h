/*
 * prog/host.h -- a server process on a real machine: its loop, disk, net, log and pid file, made
 * from the configuration file.
 *
 * A server named meta.0 keeps run/meta.0.pid beside the configuration, locked for as long as it
 * lives, and publishes where it listens in run/meta.0.address.
 */
#pragma once

#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster/settings.h"
#include "disk/disk.h"
#include "loop/loop.h"
#include "net/stream.h"
#include "peer/auth.h"

struct host {
    struct env env;
    struct loop *loop;
    struct disk *disk;
    struct net *net;
    struct log *log;
    struct log_sink sink;
    struct stats *stats;
    struct mem_budget budget;
    char *name, *config_path;
    struct cluster_settings *settings;
    struct peer_secrets secrets;
    struct disk_file *pid_file;
    int pid_fd; /* above 0: the pid file, inherited and locked, instead */
    struct loop_signal terminate, interrupt, hangup, rotate;
    const char *log_path;         /* where standard error goes; NULL: where it went. Lent */
    void (*stop)(struct host *h); /* SIGTERM or SIGINT; once. NULL: it has not begun yet */
    /* SIGHUP: another configuration, lent; the log level is taken already. NULL: nothing else. */
    void (*reload)(struct host *h, const struct cluster_settings *fresh);
    void (*rotated)(struct host *h); /* SIGUSR1: the log was opened anew. NULL: nothing else */
    bool stopping, watching;
};

#define HOST_BUDGET_BYTES (UINT64_C(4) << 30)

/* Reads the configuration and secrets. `e` names file, line and key. The name comes later. */
NODISCARD int host_init(struct host *h, const char *config_path, struct err *e);
/* Without a configuration: loop, disk, net and log. */
NODISCARD int host_init_bare(struct host *h, struct err *e);
/* The server's own name, known from the configuration: for the log and the files in run/. */
NODISCARD int host_set_name(struct host *h, const char *name, struct err *e);
/* Files are read and written so from now on; the log says what was chosen. An error only where
 * nothing but io_uring is wanted. */
NODISCARD int host_set_io(struct host *h, enum cluster_io io, struct err *e);
/* A process that was killed lets go of its locks and sockets one after the other, and with a busy
 * machine not at once. True: after a moment, to be tried again; false: it takes too long (5 s), or
 * this process is to end. What is waited for is logged. The loop runs meanwhile. */
struct host_wait {
    const char *what;
    uint64_t end_ns; /* host_wait()'s own; 0 at first */
};
bool host_wait(struct host *h, struct host_wait *w);
void host_await_pid_file(struct host *h); /* so that it can be taken, if that takes not too long */
/* Takes the pid file: -ERR_in_use when another process is this server. */
NODISCARD int host_take_pid_file(struct host *h, struct err *e);
/* The program that this process was before has it, as this descriptor. */
void host_inherit_pid_file(struct host *h, int fd);
int host_pid_fd(const struct host *h); /* of the file that was taken */
/* Of a process that is root, and is not to be: `user` of the configuration. */
bool host_has_user(const struct host *h);
/* Opens the log at h->log_path, if that is not NULL; then it is that user, if there is one and this
 * is root, and so is the log. After an upgrade a log that cannot be opened stays where it is. */
NODISCARD int host_become_user(struct host *h, struct err *e);
/* Standard error goes to the end of h->log_path. If it cannot: stays where it is, which is logged.
 */
void host_open_log(struct host *h);
/* From here on SIGTERM and SIGINT call h->stop; SIGHUP opens the log anew and reads the
 * configuration, SIGUSR1 only opens the log anew. */
NODISCARD int host_watch_signals(struct host *h, struct err *e);
void host_fini(struct host *h);

/* `configured`, as it is. Refuses other addresses than loopback unless insecure = yes. */
NODISCARD int host_configured_address(struct host *h, const char *configured,
                                      struct net_address *ret, struct err *e);
/* Where to listen: that, and for port 0 the port of last time if it is free. Waits for it. */
NODISCARD int host_listen_address(struct host *h, const char *configured, struct net_address *ret,
                                  struct err *e);
NODISCARD int host_publish_address(struct host *h, const struct net_address *at, struct err *e);
/* Was `directory` made for a new server, and not used yet? Takes the mark away. */
NODISCARD int host_take_new_mark(struct host *h, const char *directory, bool *ret_new,
                                 struct err *e);
