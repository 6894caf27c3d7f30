/* datanode/metrics.c -- statistics of a worker: what is counted as it happens, and gauges that are
 * set when somebody looks. */
#include "datanode/worker_priv.h"

#include "base/metrics.h"
#include "datanode/blocks.h"
#include "datanode/chain_priv.h"
#include "peer/stats.h"

#define LABELS_SIZE 512u

static void add_reads(struct stats *s, struct datanode_counters *c)
{
    stats_add_counter(s, "read_waits", &c->read_waits);
    stats_add_counter(s, "read_busy", &c->read_busy);
    stats_add_counter(s, "read_late", &c->read_late);
    stats_add_counter(s, "read_cached", &c->way[DATANODE_WAY_CACHED].requests);
    stats_add_counter(s, "read_cached_bytes", &c->way[DATANODE_WAY_CACHED].bytes);
    stats_add_counter(s, "read_fetched", &c->way[DATANODE_WAY_FETCHED].requests);
    stats_add_counter(s, "read_fetched_bytes", &c->way[DATANODE_WAY_FETCHED].bytes);
    stats_add_counter(s, "read_streamed", &c->way[DATANODE_WAY_STREAMED].requests);
    stats_add_counter(s, "read_streamed_bytes", &c->way[DATANODE_WAY_STREAMED].bytes);
    stats_add_counter(s, "read_copied", &c->way[DATANODE_WAY_COPIED].requests);
    stats_add_counter(s, "read_copied_bytes", &c->way[DATANODE_WAY_COPIED].bytes);
    stats_add_counter(s, "read_stream_full", &c->stream_full);
    stats_add_counter(s, "read_stream_unable", &c->stream_unable);
    stats_add_counter(s, "read_batches", &c->batches);
    stats_add_counter(s, "read_batch_items", &c->batch_items);
}

void datanode_metrics_init(struct datanode_worker *w)
{
    struct datanode_counters *c = &w->counters;
    stats_add_counter(w->stats, "reads", &c->reads);
    stats_add_counter(w->stats, "read_bytes", &c->read_bytes);
    add_reads(w->stats, c);
    stats_add_counter(w->stats, "writes", &c->writes);
    stats_add_counter(w->stats, "write_bytes", &c->write_bytes);
    stats_add_counter(w->stats, "forwards", &c->forwards);
    stats_add_counter(w->stats, "forward_bytes", &c->forward_bytes);
    stats_add_counter(w->stats, "forwards_again", &c->resends);
    stats_add_counter(w->stats, "writes_answered_again", &c->again);
    stats_add_counter(w->stats, "refused", &c->refused);
    stats_add_counter(w->stats, "dropped", &c->dropped);
    stats_add_counter(w->stats, "syncs", &c->syncs);
    stats_add_counter(w->stats, "recovered", &c->recovered);
    stats_add_counter(w->stats, "rows", &c->rows);
    stats_add_counter(w->stats, "corrupt", &c->corrupt);
    stats_add_counter(w->stats, "diverged", &c->diverged);
    stats_add_counter(w->stats, "copies", &c->copies);
    stats_add_counter(w->stats, "copy_bytes", &c->copy_bytes);
    stats_add_counter(w->stats, "resync_looks", &c->resync_looks);
    stats_add_counter(w->stats, "resync_equal", &c->resync_equal);
    stats_add_counter(w->stats, "repaired", &c->repaired);
    stats_add_counter(w->stats, "discarded", &c->discarded);
    stats_add_histogram(w->stats, "read_time", &c->read_time);
    stats_add_histogram(w->stats, "write_time", &c->write_time);
    stats_add_histogram(w->stats, "forward_time", &c->forward_time);
    stats_add_histogram(w->stats, "sync_time", &c->sync_time);
    stats_add_gauge(w->stats, "updates", &c->updates);
    stats_add_gauge(w->stats, "lease", &c->lease);
    datanode_scrub_metrics_init(w);
#define GAUGE_ADD(name) stats_add_gauge(w->stats, #name, &w->gauges.name);
    DATANODE_GAUGES(GAUGE_ADD)
#undef GAUGE_ADD
}

static void set(struct stats_gauge *g, uint64_t v)
{
    stats_gauge_set(g, (int64_t)base_min(v, INT64_MAX));
}

static void set_store(struct datanode_worker *w)
{
    struct datanode_gauges *g = &w->gauges;
    struct chunk_store_info info;
    chunk_store_info(w->store, &info);
    set(&g->space_total_bytes, info.total_bytes);
    set(&g->space_free_bytes, info.free_bytes);
    set(&g->space_used_bytes, info.used_bytes);
    set(&g->space_reserved_bytes, info.reserved_bytes);
    set(&g->space_low, info.low ? 1 : 0);
    set(&g->chunks, info.chunk_count);
    set(&g->chunks_damaged, info.damaged_count);
    set(&g->chunks_pending, info.pending_count);
    set(&g->chunks_dirty, info.dirty_count);
    set(&g->failed, info.failed < 0 || w->failed ? 1 : 0);
    set(&g->sick, w->sick.health.sick ? 1 : 0);
}

static void set_chains(struct datanode_worker *w)
{
    struct datanode_gauges *g = &w->gauges;
    uint64_t all = 0, serving = 0, syncing = 0;
    LIST_FOR_EACH(node, &w->chain_list)
    {
        const struct datanode_chain *c = LIST_ENTRY(node, struct datanode_chain, all);
        all += datanode_chain_is_member(c) ? 1 : 0;
        serving += c->in_path && c->state == PROTO_MEMBER_SERVING ? 1 : 0;
        syncing += c->in_path && c->state == PROTO_MEMBER_SYNCING ? 1 : 0;
    }
    set(&g->chains, all);
    set(&g->chains_serving, serving);
    set(&g->chains_syncing, syncing);
}

void datanode_read_figures(const struct datanode_worker *w, struct proto_read_figures *ret)
{
    const struct datanode_counters *c = &w->counters;
    *ret = (struct proto_read_figures){
        .cached = stats_counter_value(&c->way[DATANODE_WAY_CACHED].bytes),
        .fetched = stats_counter_value(&c->way[DATANODE_WAY_FETCHED].bytes),
        .streamed = stats_counter_value(&c->way[DATANODE_WAY_STREAMED].bytes),
        .copied = stats_counter_value(&c->way[DATANODE_WAY_COPIED].bytes),
        .stream_full = stats_counter_value(&c->stream_full),
        .busy = stats_counter_value(&c->read_busy)};
}

static void set_blocks(struct datanode_worker *w)
{
    struct datanode_gauges *g = &w->gauges;
    struct datanode_blocks_info info = {0};
    if (w->blocks != NULL) {
        datanode_blocks_info(w->blocks, &info);
    }
    set(&g->cache_bytes, info.bytes);
    set(&g->cache_limit_bytes, info.limit_bytes);
}

static void set_all(struct datanode_worker *w)
{
    struct datanode_gauges *g = &w->gauges;
    set_store(w);
    set_chains(w);
    datanode_scrub_metrics_set(w);
    set(&g->reads_waiting, w->read_count);
    set(&g->reads_waiting_bytes, w->read_bytes);
    set(&g->stream_bytes, buf_pool_used_bytes(w->stream_pool));
    set_blocks(w);
    set(&g->removes_waiting, w->remove_count);
    set(&g->repairs_waiting, w->repair_count);
    stats_gauge_set(&w->counters.lease, datanode_leased(w) ? 1 : 0);
}

void datanode_on_stats(struct peer_user *user, struct peer_request *r)
{
    struct datanode_worker *w = datanode_worker_of(user);
    char labels[LABELS_SIZE], uuid[UUID_TEXT_SIZE];
    struct text t;
    set_all(w);
    uuid_to_text(&w->opt.cluster_id, uuid);
    text_init(&t, labels, sizeof labels);
    text_add(&t, "cluster=\"%s\",daemon=\"", uuid);
    metrics_label_text(&t, w->name);
    text_add(&t, "\"");
    peer_answer_stats(r, w->env.stats, labels);
}
