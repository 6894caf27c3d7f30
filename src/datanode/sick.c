/*
 * datanode/sick.c -- what the requests of this target's disk take and return becomes a verdict
 * (health.h), which the next heartbeat tells. Nothing else follows here: the leader takes a sick
 * target out of the chains that others serve, by REVOKE (R5), and leaves it where it is the last.
 * All times are of the beginning of a round, so that none is before another one.
 */
#include "datanode/worker_priv.h"

static void observer_begun(struct disk_observer *o)
{
    struct datanode_worker *w = container_of(o, struct datanode_worker, sick.observer);
    datanode_health_begun(&w->sick.health, loop_tick_ns(w->loop));
}

static void observer_ended(struct disk_observer *o, const struct disk_req *req, int64_t rc,
                           uint64_t ns)
{
    struct datanode_worker *w = container_of(o, struct datanode_worker, sick.observer);
    struct datanode_health *h = &w->sick.health;
    uint64_t now_ns = loop_tick_ns(w->loop);
    datanode_health_ended(h, now_ns);
    if (rc < 0) {
        datanode_health_error(h, rc, now_ns);
    } else if (req->op == DISK_READ || req->op == DISK_SEND || req->op == DISK_FETCH) {
        datanode_health_took(h, DATANODE_HEALTH_READ, ns, now_ns);
    } else if (req->op == DISK_WRITE && (req->flags & DISK_STABLE) == 0) {
        datanode_health_took(h, DATANODE_HEALTH_WRITE, ns, now_ns);
    } else if (req->op == DISK_WRITE || req->op == DISK_SYNC || req->op == DISK_SYNC_ALL) {
        datanode_health_took(h, DATANODE_HEALTH_SYNC, ns, now_ns);
    }
}

void datanode_sick_start(struct datanode_worker *w)
{
    datanode_health_init(&w->sick.health, &w->opt.health, loop_tick_ns(w->loop));
    if (w->env.disk == NULL || w->opt.blind) {
        return;
    }
    CHECK(disk_in_flight(w->env.disk) == 0);
    w->sick.observer = (struct disk_observer){.begun = observer_begun, .ended = observer_ended};
    w->env.disk->observer = &w->sick.observer;
}

void datanode_sick_end(struct datanode_worker *w)
{
    if (w->env.disk != NULL && w->env.disk->observer == &w->sick.observer) {
        w->env.disk->observer = NULL;
    }
}

void datanode_worker_failures(struct datanode_worker *w, uint32_t count)
{
    if (!w->opt.blind) {
        datanode_health_failures(&w->sick.health, count);
    }
}

void datanode_sick_tick(struct datanode_worker *w)
{
    struct datanode_health *h = &w->sick.health;
    if (!datanode_health_judge(h, loop_tick_ns(w->loop))) {
        return;
    }
    if (h->sick) {
        log_error(w->env.log, "the disk is sick", LOG_TEXT("reason", h->reason),
                  LOG_U64("rest_s", h->rest_ms / 1000));
    } else {
        log_info(w->env.log, "the disk is tried again");
    }
}

void datanode_sick_words(const struct datanode_worker *w, char out[DATANODE_HEALTH_TEXT])
{
    struct text t;
    text_init(&t, out, DATANODE_HEALTH_TEXT);
    text_add(&t, "%s", w->sick.health.sick ? w->sick.health.reason : "");
}
