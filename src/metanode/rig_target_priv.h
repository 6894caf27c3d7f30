/*
 * metanode/rig_target_priv.h -- for tests only: a fake target of rig_priv.h. It registers, sends
 * heartbeats, takes rows with higher epochs only, is synced the moment it is told to sync, and
 * answers what the leader asks as its fields say.
 */
#pragma once

#include "metanode/rig_asked_priv.h"

static inline void rig_registered(struct peer_call *call, const struct peer_reply *r)
{
    struct rig_target *t = container_of(call, struct rig_target, call);
    if (r->rc < 0) {
        if (r->failure != NULL) {
            proto_bytes_to_c(r->failure->text, t->refused, sizeof t->refused);
        }
        return; /* the timer registers again */
    }
    const struct proto_register_reply *m = r->body;
    t->registered = true;
    t->id = m->target;
    t->heartbeat_ms = m->heartbeat_ms;
    t->lease_ms = m->lease_ms;
    rig_target_rows(t, &m->rows);
}
static inline void rig_beaten(struct peer_call *call, const struct peer_reply *r)
{
    struct rig_target *t = container_of(call, struct rig_target, call);
    if (r->rc == -ESTALE) {
        t->registered = false;
    }
    if (r->rc < 0) {
        return;
    }
    const struct proto_heartbeat_reply *m = r->body;
    if (!t->blind) {
        rig_target_rows(t, &m->rows);
    }
    t->leased = m->leased;
    for (size_t i = 0; i < m->forget.count; i++) {
        t->forgotten += m->forget.at[i] == t->dead;
    }
    if (m->leased) { /* R7: from the sending, half of T */
        t->leased_until_ns = call->wire.sent_ns + t->lease_ms * METANODE_NS_PER_MS / 2;
    }
}
static inline void rig_target_report(struct rig_target *t)
{
    t->report_count = 0;
    for (size_t i = 0; i < t->row_count; i++) {
        size_t own = cluster_row_find(&t->row[i], t->id);
        bool syncs = own < t->row[i].count && t->row[i].member[own].state == PROTO_MEMBER_SYNCING;
        if (own == t->row[i].count && !t->early) {
            continue; /* it knows that it is no member */
        }
        t->report[t->report_count++] =
            (struct proto_chain_report){.chain = t->row[i].chain,
                                        .epoch = t->row[i].epoch,
                                        .report = syncs ? PROTO_REPORT_SYNCED : PROTO_REPORT_OK,
                                        .synced_epoch = syncs ? t->row[i].epoch : 0,
                                        .held = t->silent ? PROTO_HELD_UNKNOWN
                                                : t->part ? PROTO_HELD_PART
                                                          : PROTO_HELD_WHOLE};
    }
}
static inline void rig_target_tick(struct loop_timer *timer)
{
    struct rig_target *t = container_of(timer, struct rig_target, timer);
    uint64_t ms = t->heartbeat_ms == 0 ? 100 : t->heartbeat_ms;
    loop_timer_in(t->env.loop, timer, ms * METANODE_NS_PER_MS);
    if (peer_call_active(&t->call) || t->cut) {
        return;
    }
    t->call = (struct peer_call){
        .done = rig_beaten, .request = &t->beat, .opcode = PROTO_OP_heartbeat, .timeout_ms = 1000};
    if (t->registered) {
        rig_target_report(t);
        t->beat = (struct proto_heartbeat_request){
            .target = t->id,
            .incarnation = t->incarnation,
            .chains = {.at = t->report, .count = t->report_count},
            .suspects = {.at = &t->suspect, .count = t->suspect != 0},
            .total = 1u << 30,
            .free = 1u << 29,
            .used = t->used,
            .low_space = t->low_space,
            .damaged = t->damaged,
            .dead = {.at = &t->dead, .count = t->dead != 0},
            .sick = proto_bytes_text(t->sick == NULL ? "" : t->sick)};
    } else {
        t->reg = (struct proto_register_request){
            .uuid = t->uuid,
            .incarnation = t->incarnation,
            .boot_id = t->boot_id,
            .lossy = t->lossy,
            .address = proto_bytes_text(t->at.text),
            .host = proto_bytes_text(t->at.text),
            .rack = proto_bytes_text(t->rack == NULL ? "" : t->rack),
            .name = proto_bytes_text(t->name),
            .weight = 100,
            .total = 1u << 30,
            .free = 1u << 29};
        t->call.done = rig_registered;
        t->call.request = &t->reg;
        t->call.opcode = PROTO_OP_register;
        t->call.flags = PEER_CALL_AGAIN;
    }
    peer_call(t->peer, &t->call);
}
static inline void rig_target_link(struct peer_user *u, struct peer_link *l)
{
    (void)u;
    (void)l;
}
static inline void rig_target_unlink(struct peer_user *u, struct peer_link *l, int rc,
                                     const char *reason)
{
    (void)u;
    (void)l;
    (void)rc;
    (void)reason;
}
static inline void rig_target_start_in(void *ctx)
{
    static const struct peer_user_ops ops = {.up = rig_target_link, .down = rig_target_unlink};
    struct rig_target *t = ctx;
    struct peer_options opt = {.env = &t->env,
                               .user = &t->user,
                               .handlers = rig_target_handlers,
                               .handler_count = ARRAY_COUNT(rig_target_handlers),
                               .secrets = t->rig->secrets,
                               .cluster_id = t->rig->cluster,
                               .role = PROTO_ROLE_TARGET,
                               .name = "target",
                               .addresses = &t->rig->address,
                               .address_count = 1,
                               .wants_leader = true,
                               .generation = t->incarnation};
    t->user.ops = &ops;
    CHECK(peer_new(&opt, &t->peer) == 0);
    peer_start(t->peer);
    t->timer.fire = rig_target_tick;
    loop_timer_in(t->env.loop, &t->timer, METANODE_NS_PER_MS);
}
/* R4: has it a lease while a chain of an earlier incarnation still shows it as it was then? */
static inline bool rig_target_is_too_early(const struct rig_target *t)
{
    bool early = false;
    for (size_t k = 0; k < t->row_count && t->leased && t->row_count <= t->before; k++) {
        size_t own = cluster_row_find(&t->first[k], t->id);
        early = early || (own < t->first[k].count && t->row[k].epoch == t->first[k].epoch &&
                          (t->first[k].member[own].state == PROTO_MEMBER_SERVING ||
                           t->first[k].member[own].state == PROTO_MEMBER_SYNCING));
    }
    return early;
}
/* A new incarnation; it knows no rows. */
static inline void rig_target_start(struct rig *r, unsigned i, bool lossy)
{
    struct rig_target *t = &r->target[i];
    size_t before = base_max(t->before, t->row_count);
    *t = (struct rig_target){.rig = r,
                             .before = before,
                             .uuid = {{0xd0, (uint8_t)i}},
                             .incarnation = t->incarnation + 1,
                             .id = t->id,
                             .lossy = lossy,
                             .running = true,
                             .refuse_removes = t->refuse_removes,
                             .chunk_length = t->chunk_length,
                             .rack = t->rack,
                             .held = t->held,
                             .held_count = t->held_count};
    (void)snprintf(t->at.text, sizeof t->at.text, "host%u:9410", 20 + i);
    (void)snprintf(t->name, sizeof t->name, "target.%u", i);
    rig_process(r, "target", 20 + i, &t->env);
    loop_sim_enter(t->env.loop, rig_target_start_in, t);
}
static inline void rig_target_kill(struct rig *r, unsigned i)
{
    loop_sim_kill(r->target[i].env.loop);
    r->target[i].running = false;
    r->target[i].leased = false;
}
