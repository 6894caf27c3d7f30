/*
 * bench/server.h -- the metadata server of the cluster in OPENDFS_CLUSTER: killed, started again by
 * OPENDFS (the program), looked at from outside. Everything blocks; 0 or a negative errno.
 */
#pragma once

#include <sys/types.h>

#include "bench.h"

struct opendfs;

struct server {
    const char *cluster, *program;
    pid_t started; /* by us; 0: `up` has started it */
};

/* From the environment; false and a message: it is not set. */
bool server_init(struct server *s, const char *bench);
NODISCARD int server_connect(const struct server *s, struct opendfs **ret);

void server_kill(const struct server *s); /* SIGKILL; does not wait */
/* Until its memory is gone, and so are its locks. */
void server_until_gone(const struct server *s);

struct server_time {
    double seconds;     /* from the start of the process to the answer to a new client */
    double cpu_seconds; /* of the server until then */
};
NODISCARD int server_start(struct server *s, struct server_time *ret);

struct server_size {
    uint64_t rss_bytes, rss_peak_bytes; /* of this process */
    uint64_t state_bytes, log_bytes;    /* of files, as they lie on the disk */
};
void server_look(const struct server *s, struct server_size *ret); /* 0 where nobody tells */

/* What it says of itself, since it was started. */
struct server_work {
    uint64_t written_bytes, read_bytes, reads, checkpoints;
    uint64_t log_full, busy; /* how often it had to wait */
    uint64_t cache_bytes, unsaved_bytes;
};
void server_parse(const char *metrics, struct server_work *ret);
