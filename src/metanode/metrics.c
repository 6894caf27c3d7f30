/* metanode/metrics.c -- statistics: what is counted as it happens, and gauges that are set now. */
#include "metanode/health_priv.h"

#include "base/metrics.h"
#include "metanode/metanode_priv.h"
#include "peer/stats.h"

#define LABELS_SIZE 512u

void metanode_gauges_init(struct metanode *m)
{
#define GAUGE_ADD(name) stats_add_gauge(m->stats, #name, &m->gauges.name);
    METANODE_GAUGES(GAUGE_ADD)
#undef GAUGE_ADD
}

struct measure {
    struct metanode_read read;
    struct metanode *m;
    struct peer_request *request;
    struct namespace_state state;
};

static int measure_read(struct metanode_read *r, const struct namespace_view *v)
{
    return namespace_view_state(v, &container_of(r, struct measure, read)->state);
}

static void set(struct stats_gauge *g, uint64_t v)
{
    stats_gauge_set(g, (int64_t)base_min(v, INT64_MAX));
}

static void set_state(struct metanode_gauges *g, const struct namespace_state *s)
{
    set(&g->inodes, s->inodes);
    set(&g->file_bytes, s->bytes);
    set(&g->garbage, s->garbage);
}

static void set_engine(struct metanode *m)
{
    struct metanode_gauges *g = &m->gauges;
    struct kv_statistics k = kv_statistics(m->kv);
    set(&g->engine_cache_bytes, k.cache_used);
    set(&g->engine_cache_limit_bytes, k.cache_limit);
    set(&g->engine_unsaved_bytes, k.dirty_bytes);
    set(&g->engine_file_bytes, k.file_bytes);
    set(&g->engine_busy, k.busy);
    set(&g->engine_hits, k.hits);
    set(&g->engine_misses, k.misses);
    set(&g->engine_evictions, k.evictions);
    set(&g->engine_read_bytes, k.read_bytes);
    set(&g->engine_written_bytes, k.written_bytes);
    set(&g->engine_serialise_seconds, k.time_ns[KV_TIME_SERIALISE] / (METANODE_NS_PER_MS * 1000));
    set(&g->engine_compress_seconds, k.time_ns[KV_TIME_COMPRESS] / (METANODE_NS_PER_MS * 1000));
    set(&g->engine_write_seconds, k.time_ns[KV_TIME_WRITE] / (METANODE_NS_PER_MS * 1000));
    set(&g->engine_read_seconds, k.time_ns[KV_TIME_READ] / (METANODE_NS_PER_MS * 1000));
    set(&g->engine_decompress_seconds, k.time_ns[KV_TIME_DECOMPRESS] / (METANODE_NS_PER_MS * 1000));
    set(&g->engine_deserialise_seconds,
        k.time_ns[KV_TIME_DESERIALISE] / (METANODE_NS_PER_MS * 1000));
}

static void set_counts(struct metanode *m)
{
    struct metanode_gauges *g = &m->gauges;
    struct metanode_counts n;
    metanode_count(m, &n);
    set(&g->sessions, m->sessions.by_id.count);
    set(&g->fences, m->cleanup.fences);
    set(&g->targets, n.targets);
    set(&g->targets_up, n.up);
    set(&g->targets_full, n.low_space);
    set(&g->targets_sick, n.sick);
    set(&g->chains, n.chains);
    set(&g->chains_full, n.full);
    set(&g->chains_degraded, n.degraded);
    set(&g->chains_syncing, n.syncing);
    set(&g->chains_dark, n.dark);
    uint64_t ms;
    set(&g->copies_to_move, metanode_moves_left(m, &ms));
    set(&g->copies_moving, m->moves.sum.making);
    set(&g->chains_stuck, m->moves.sum.stuck);
    set(&g->damaged_chunks, n.damaged);
    set(&g->chunks_without_copy, n.no_copy);
    set(&g->chunks_differing, n.differing);
    set(&g->orphans_suspected, m->cleanup.audits->now.suspects);
    set(&g->space_total_bytes, n.total);
    set(&g->space_free_bytes, n.free);
    set(&g->log_bytes, n.log.log_bytes);
    set(&g->log_waiting, n.log.waiting);
    set(&g->log_entries_in_flight, n.log.entries_in_flight);
    set(&g->log_full, n.log.full != 0 ? 1 : 0);
    set(&g->disk_total_bytes, n.disk.total_bytes);
    set(&g->disk_free_bytes, n.disk.free_bytes);
    set(&g->disk_log_bytes, n.disk.part_bytes[METANODE_SPACE_LOG]);
    set(&g->disk_images_bytes, n.disk.part_bytes[METANODE_SPACE_STATE]);
}

static void measured(struct metanode_read *r, int rc)
{
    struct measure *x = container_of(r, struct measure, read);
    struct metanode *m = x->m;
    if (rc == 0) { /* else what was known before; the counters are true anyway */
        set_state(&m->gauges, &x->state);
    }
    set_counts(m);
    set_engine(m);
    char labels[LABELS_SIZE], uuid[UUID_TEXT_SIZE];
    struct text t;
    uuid_to_text(&m->opt.cluster_id, uuid);
    text_init(&t, labels, sizeof labels);
    text_add(&t, "cluster=\"%s\",daemon=\"", uuid);
    metrics_label_text(&t, m->name);
    text_add(&t, "\"");
    peer_answer_stats(x->request, m->env->stats, labels);
}

void metanode_stats(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    if (!metanode_admit(m, r)) {
        return;
    }
    struct measure *x = mem_arena_alloc(&r->arena, sizeof *x); /* goes with the request */
    if (x == NULL) {
        metanode_refuse(m, NULL, r, -ERR_busy, NULL);
        return;
    }
    *x = (struct measure){.m = m, .request = r, .read = {.run = measure_read, .done = measured}};
    metanode_read(m, &x->read);
}
