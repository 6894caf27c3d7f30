/* datanode/metrics_priv.h -- what a worker counts, and gauges that are set when somebody looks. */
#pragma once

#include "base/stats.h"
#include "datanode/way.h"

struct datanode_worker;

struct datanode_way_counters { /* of one way that reads take */
    struct stats_counter requests, bytes;
};

struct datanode_counters {
    struct stats_counter reads, read_bytes, read_waits, read_busy, read_late;
    struct stats_counter stream_full, stream_unable, batches, batch_items;
    struct datanode_way_counters way[DATANODE_WAYS];
    struct stats_counter writes, write_bytes, forwards, forward_bytes, again, refused, dropped;
    struct stats_counter syncs, resends, recovered, rows, corrupt, diverged, copies, copy_bytes;
    struct stats_counter repaired, discarded;
    struct stats_counter resync_looks, resync_equal;
    struct stats_histogram read_time, write_time, forward_time, sync_time;
    struct stats_gauge updates, lease;
};

#define DATANODE_GAUGES(X)  \
    X(space_total_bytes)    \
    X(space_free_bytes)     \
    X(space_used_bytes)     \
    X(space_reserved_bytes) \
    X(space_low)            \
    X(chunks)               \
    X(chunks_damaged)       \
    X(chunks_pending)       \
    X(chunks_dirty)         \
    X(failed)               \
    X(sick)                 \
    X(chains)               \
    X(chains_serving)       \
    X(chains_syncing)       \
    X(reads_waiting)        \
    X(reads_waiting_bytes)  \
    X(stream_bytes)         \
    X(cache_bytes)          \
    X(cache_limit_bytes)    \
    X(removes_waiting)      \
    X(repairs_waiting)
struct datanode_gauges {
#define DATANODE_GAUGE_FIELD(name) struct stats_gauge name;
    DATANODE_GAUGES(DATANODE_GAUGE_FIELD)
};
void datanode_metrics_init(struct datanode_worker *w); /* metrics.c */
struct proto_read_figures;
void datanode_read_figures(const struct datanode_worker *w, struct proto_read_figures *ret);
