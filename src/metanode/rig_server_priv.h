/*
 * metanode/rig_server_priv.h -- for tests only: the server of rig_priv.h, its lives and deaths.
 * Each test ends with another server that reads the same directory, with reads that find other
 * things missing, and must come to the same records.
 */
#pragma once

#include "metanode/rig_audit_priv.h"
#include "metanode/rig_priv.h"

static inline void rig_serving(struct metanode_user *u)
{
    container_of(u, struct rig, user)->serving++;
}
static inline void rig_ended(struct metanode_user *u, int rc, const char *reason)
{
    struct rig *r = container_of(u, struct rig, user);
    (void)snprintf(r->reason, sizeof r->reason, "%s", reason);
    r->ended++;
    r->ended_rc = rc;
}
static inline void rig_start_in(void *ctx)
{
    static const struct metanode_user_ops ops = {.serving = rig_serving, .ended = rig_ended};
    struct rig *r = ctx;
    r->user.ops = &ops;
    r->opt.env = &r->env;
    r->opt.user = &r->user;
    r->opt.cluster_id = uuid_is_zero(&r->opt.cluster_id) ? r->cluster : r->opt.cluster_id;
    r->opt.secrets = &r->secrets;
    r->opt.listen = &r->address;
    r->m = NULL;
    r->rc = metanode_start(&r->opt, &r->m, &r->err);
}
static inline bool rig_is_serving(void *ctx)
{
    const struct rig *r = ctx;
    return r->serving > 0 || r->ended > 0;
}
/* A new process of the server; returns what metanode_start() said. */
static inline int rig_start(struct rig *r)
{
    rig_process(r, "meta", 1, &r->env);
    r->loop = r->env.loop;
    r->env.fault = r->fault;
    CHECK(disk_sim_open(r->disk, r->loop, &r->env.disk) == 0);
    r->serving = r->ended = 0;
    r->stopped = false;
    loop_sim_enter(r->loop, rig_start_in, r);
    return r->rc;
}
static inline void rig_serve(struct rig *r)
{
    CHECK((rig_start(r)) == 0);
    CHECK(rig_until(r, rig_is_serving, r));
    CHECK((r->ended) == (0));
}
static inline void rig_kill(struct rig *r)
{
    loop_sim_kill(r->loop);
    r->m = NULL;
}
static inline void rig_power(struct rig *r)
{
    rig_kill(r);
    disk_sim_crash(r->disk);
    loop_sim_reboot(r->sim, 1);
}
static inline void rig_stop_done(struct metanode_stop *s, int rc)
{
    struct rig *r = container_of(s, struct rig, stop);
    r->stopped = true;
    r->rc = rc;
}
static inline void rig_stop_in(void *ctx)
{
    struct rig *r = ctx;
    r->stop.done = rig_stop_done;
    metanode_stop(r->m, &r->stop, 1000);
}
static inline bool rig_is_stopped(void *ctx)
{
    return ((struct rig *)ctx)->stopped;
}
static inline void rig_free_in(void *ctx)
{
    struct rig *r = ctx;
    r->m = metanode_free(r->m);
}
/* In good order, with everything freed, so that leaks show. */
static inline void rig_stop(struct rig *r)
{
    loop_sim_enter(r->loop, rig_stop_in, r);
    CHECK(rig_until(r, rig_is_stopped, r));
    CHECK((r->rc) == 0);
    loop_sim_enter(r->loop, rig_free_in, r);
    loop_sim_kill(r->loop);
}
static inline void rig_close(struct rig *r)
{
    for (unsigned i = 0; i < RIG_CLIENTS; i++) {
        if (r->client[i].env.loop != NULL) {
            loop_sim_kill(r->client[i].env.loop);
            mem_arena_fini(&r->client[i].arena);
            mem_free(r->client[i].bytes);
        }
    }
    for (unsigned i = 0; i < RIG_TARGETS; i++) {
        if (r->target[i].running) {
            loop_sim_kill(r->target[i].env.loop);
        }
    }
    if (r->m != NULL) {
        rig_kill(r);
    }
    net_sim_free(r->net);
    disk_sim_free(r->disk);
    fault_free(r->fault);
    loop_sim_free(r->sim);
}
struct rig_replay {
    struct rig *rig;
    uint64_t index; /* how far */
};
static inline bool rig_has_replayed(void *ctx)
{
    const struct rig_replay *p = ctx;
    return p->rig->ended > 0 || kv_applied_index(p->rig->m->kv) >= p->index;
}
static inline bool rig_has_applied_all(void *ctx)
{
    const struct rig *r = ctx;
    struct consensus_info info;
    consensus_info(r->m->consensus, &info);
    return metanode_is_serving(r->m) && info.last_index == metanode_applied_index(r->m);
}
/* The server is killed in a quiet moment; the next one goes on. True: both had the same. */
static inline bool rig_replays(struct rig *r)
{
    CHECK(rig_until(r, rig_has_applied_all, r));
    struct rig_audit before = {.m = r->m};
    rig_audit(r->sim, r->loop, &before);
    rig_kill(r);
    uint32_t need_permille = r->opt.need_permille;
    r->opt.need_permille = need_permille > 0 ? need_permille / 2 : 100;
    CHECK(rig_start(r) == 0);
    struct rig_replay replay = {.rig = r, .index = before.index};
    CHECK(rig_until(r, rig_has_replayed, &replay) && r->ended == 0);
    struct rig_audit after = {.m = r->m};
    rig_audit(r->sim, r->loop, &after);
    CHECK(rig_until(r, rig_is_serving, r) && r->ended == 0);
    r->opt.need_permille = need_permille;
    return before.index == after.index && before.digest == after.digest;
}
static inline void rig_over(struct rig *r)
{
    CHECK(rig_replays(r));
    rig_stop(r);
    rig_close(r);
}
