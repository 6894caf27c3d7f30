/*
 * metanode/health_priv.h -- how the cluster is, counted once for `status` and `stats`; what is
 * wrong with it, in words: what it is, what it means, what helps.
 */
#pragma once

#include "base/stats.h"
#include "base/text.h"
#include "consensus/consensus.h"
#include "disk/disk.h"
#include "loop/loop.h"

struct metanode;
struct peer_request;
struct peer_user;

/* space.c: the file system of the server's directory. */
enum metanode_space_part { METANODE_SPACE_LOG, METANODE_SPACE_STATE, METANODE_SPACE_PARTS };
struct metanode_disk_space {
    bool known;
    uint64_t total_bytes, free_bytes;
    uint64_t part_bytes[METANODE_SPACE_PARTS]; /* what the log, what the images take */
};
struct metanode_space {
    struct metanode_disk_space now;
    struct loop_timer timer;
    struct disk_req req;
    bool busy;
    char *path;               /* owned: of `req` */
    struct disk_names *names; /* owned: of a part */
    size_t part, file;
    uint64_t sum;
    struct loop_task *stopped; /* the server ends */
};
void metanode_space_start(struct metanode *m);
/* Not before it was started, once; then `stopped`. */
void metanode_space_stop(struct metanode *m, struct loop_task *stopped);
void metanode_space_fini(struct metanode *m); /* never started, or stopped */

struct metanode_counts {
    size_t targets, up, low_space, sick;
    size_t chains, full, degraded, syncing, dark; /* degraded: lack a copy that nobody fills */
    uint64_t damaged;                             /* chunks that no copy was found for yet */
    uint64_t differing;                           /* chunks that members do not have the same of */
    uint64_t no_copy; /* of these, as far as they are known by name: no member has a good one */
    uint64_t total, free, memory;
    struct consensus_info log;
    struct metanode_disk_space disk;
};
void metanode_count(struct metanode *m, struct metanode_counts *ret);

enum metanode_severity { HEALTH_NOTE, HEALTH_WARNING, HEALTH_UNAVAILABLE };
struct metanode_problem {
    enum metanode_severity severity;
    const char *what, *means, *help; /* lent for the call */
};
struct metanode_problem_visitor {
    void (*visit)(struct metanode_problem_visitor *v, const struct metanode_problem *p);
};
/* The worst first. */
void metanode_problems(struct metanode *m, const struct metanode_counts *n,
                       struct metanode_problem_visitor *v);
/* What is missing before there is any chain. */
void metanode_starting_words(struct metanode *m, const struct metanode_counts *n, struct text *out);
/* status.c: as a JSON string: what is not printable ASCII becomes \u00nn. */
void metanode_json_text(struct text *out, const char *text);
/* "healthy", "degraded", "unavailable", "starting". */
const char *metanode_health(struct metanode *m, const struct metanode_counts *n);

/* metrics.c: gauges that are set when somebody looks. */
#define METANODE_GAUGES(X)       \
    X(inodes)                    \
    X(file_bytes)                \
    X(garbage)                   \
    X(sessions)                  \
    X(fences)                    \
    X(targets)                   \
    X(targets_up)                \
    X(targets_full)              \
    X(targets_sick)              \
    X(chains)                    \
    X(chains_full)               \
    X(chains_degraded)           \
    X(chains_syncing)            \
    X(chains_dark)               \
    X(copies_to_move)            \
    X(copies_moving)             \
    X(chains_stuck)              \
    X(damaged_chunks)            \
    X(chunks_without_copy)       \
    X(chunks_differing)          \
    X(orphans_suspected)         \
    X(space_total_bytes)         \
    X(space_free_bytes)          \
    X(log_bytes)                 \
    X(log_waiting)               \
    X(log_entries_in_flight)     \
    X(log_full)                  \
    X(disk_total_bytes)          \
    X(disk_free_bytes)           \
    X(disk_log_bytes)            \
    X(disk_images_bytes)         \
    X(engine_cache_bytes)        \
    X(engine_cache_limit_bytes)  \
    X(engine_unsaved_bytes)      \
    X(engine_file_bytes)         \
    X(engine_busy)               \
    X(engine_hits)               \
    X(engine_misses)             \
    X(engine_evictions)          \
    X(engine_read_bytes)         \
    X(engine_written_bytes)      \
    X(engine_serialise_seconds)  \
    X(engine_compress_seconds)   \
    X(engine_write_seconds)      \
    X(engine_read_seconds)       \
    X(engine_decompress_seconds) \
    X(engine_deserialise_seconds)
struct metanode_gauges {
#define METANODE_GAUGE_FIELD(name) struct stats_gauge name;
    METANODE_GAUGES(METANODE_GAUGE_FIELD)
};
void metanode_gauges_init(struct metanode *m);
void metanode_stats(struct peer_user *u, struct peer_request *r);
