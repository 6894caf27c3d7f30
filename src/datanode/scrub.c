/* datanode/scrub.c -- see scrub.h. What it finds comes as any damage does: worker.c, repair.c. */
#include "datanode/scrub.h"

#include "datanode/worker_priv.h"

static uint64_t scrub_served(const struct datanode_worker *w)
{
    const struct datanode_counters *c = &w->counters;
    return stats_counter_value(&c->reads) + stats_counter_value(&c->writes) +
           stats_counter_value(&c->forwards) + stats_counter_value(&c->copies) +
           stats_counter_value(&c->syncs);
}

static bool scrub_busy(struct chunk_scrub_user *u)
{
    struct datanode_scrub *x = container_of(u, struct datanode_scrub, user);
    const struct datanode_worker *w = container_of(x, struct datanode_worker, scrub);
    uint64_t served = scrub_served(w);
    bool busy = served != x->served || w->update_count + w->read_count + w->repair_count > 0;
    x->served = served;
    return busy;
}

static const struct chunk_scrub_user_ops scrub_ops = {.busy = scrub_busy};

int datanode_scrub_start(struct datanode_worker *w)
{
    bool ram = w->opt.engine == DATANODE_ENGINE_RAM;
    if (w->opt.scrub_ms == DATANODE_SCRUB_NEVER) {
        return 0;
    }
    w->scrub.user.ops = &scrub_ops;
    const struct chunk_scrub_options opt = {.env = &w->env,
                                            .store = w->store,
                                            .user = &w->scrub.user,
                                            .directory = ram ? NULL : w->opt.directory,
                                            .round_ms = w->opt.scrub_ms,
                                            .share_permille = w->opt.scrub_permille};
    return chunk_scrub_new(&opt, &w->scrub.scrub);
}

void datanode_scrub_stop(struct datanode_worker *w)
{
    if (w->scrub.scrub != NULL) {
        chunk_scrub_stop(w->scrub.scrub);
    }
}

void datanode_scrub_free(struct datanode_worker *w)
{
    w->scrub.scrub = chunk_scrub_free(w->scrub.scrub);
}

void datanode_scrub_figures(const struct datanode_worker *w, struct proto_scrub_figures *ret)
{
    struct chunk_scrub_info i = {0};
    if (w->scrub.scrub != NULL) {
        chunk_scrub_info(w->scrub.scrub, &i);
    }
    *ret = (struct proto_scrub_figures){.begun_ms = i.round.begun_ms,
                                        .permille = chunk_scrub_permille(&i),
                                        .found = i.round.found,
                                        .last_ms = i.last_end_ms,
                                        .last_took_ms = i.last_took_ms,
                                        .last_found = i.last_found,
                                        .found_ever = i.found,
                                        .repaired = stats_counter_value(&w->counters.repaired)};
}

void datanode_scrub_metrics_init(struct datanode_worker *w)
{
    stats_add_gauge(w->stats, "scrub_permille", &w->scrub.permille);
    stats_add_gauge(w->stats, "scrub_found", &w->scrub.found);
    stats_add_gauge(w->stats, "scrub_rounds", &w->scrub.rounds);
    stats_add_gauge(w->stats, "scrub_found_ever", &w->scrub.found_ever);
    stats_add_gauge(w->stats, "scrub_age_seconds", &w->scrub.age);
}

void datanode_scrub_metrics_set(struct datanode_worker *w)
{
    struct chunk_scrub_info i = {0};
    uint64_t now_ms = loop_wall_ns(w->loop) / NS_PER_MS;
    if (w->scrub.scrub != NULL) {
        chunk_scrub_info(w->scrub.scrub, &i);
    }
    bool done = i.last_end_ms != 0 && now_ms > i.last_end_ms;
    stats_gauge_set(&w->scrub.permille, chunk_scrub_permille(&i));
    stats_gauge_set(&w->scrub.found, (int64_t)i.round.found);
    stats_gauge_set(&w->scrub.rounds, (int64_t)i.rounds);
    stats_gauge_set(&w->scrub.found_ever, (int64_t)i.found);
    stats_gauge_set(&w->scrub.age, done ? (int64_t)((now_ms - i.last_end_ms) / 1000) : 0);
}
