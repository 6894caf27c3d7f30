/*
 * metanode/register.c -- workers register, renew their leases by heartbeats, and are reported as
 * ended by their masters.
 *
 * R4: the record of a target holds an incarnation only when every chain has seen it leave: until
 * then a later leader must find out as well that it is new.
 */
#include "metanode/write_priv.h"

#include "base/log.h"

#include <stdio.h>

struct registration {
    struct metanode_target_write write;
    struct metanode *m;
    struct peer_request *request;
};

static void register_accept(struct metanode *m, struct peer_request *r, struct metanode_target *t)
{
    const struct proto_register_request *q = r->body;
    bool newer = q->incarnation > t->incarnation;
    bool fresh = !t->registered || newer;
    struct proto_row_list rows;
    t->incarnation = q->incarnation;
    t->boot_id = q->boot_id;
    t->lossy = q->lossy;
    t->engine = q->engine;
    t->total = q->total;
    t->free = q->free;
    t->used = q->used;
    t->link = r->link;
    t->heard_ns = metanode_now(m);
    t->registered = true;
    if (fresh) {
        t->suspect_count = 0;
        t->sick[0] = 0;
        t->ejected = false;
        metanode_damages_forget(m, t->id);
        metanode_chains_registered(m, t, newer || t->incarnation != t->logged);
        log_info(m->env->log, "target registered", LOG_U64("target", t->id),
                 LOG_TEXT("address", t->address), LOG_U64("incarnation", t->incarnation),
                 LOG_TEXT("state", t->lossy ? "lossy" : "intact"));
    }
    t->alive = true;
    if (!loop_timer_active(&t->expiry)) { /* not leased yet, but it must not be for ever */
        loop_timer_in(m->env->loop, &t->expiry, metanode_lease_ns(m));
    }
    int rc = metanode_chains_rows(m, t->id, NULL, &r->arena, &rows);
    if (rc < 0) {
        metanode_refuse(m, NULL, r, -ERR_busy, NULL);
        return;
    }
    struct proto_register_reply answer = {.target = t->id,
                                          .rows = rows,
                                          .lease_ms = (uint32_t)m->opt.lease_ms,
                                          .heartbeat_ms = (uint32_t)m->opt.heartbeat_ms,
                                          .map_epoch = m->map_epoch,
                                          .wall_ms = metanode_wall_ms(m)};
    peer_request_answer(r, &answer, NULL);
    metanode_tables_touch(m);
    metanode_moves_touch(m);
    metanode_fence_kick(m);
    if (fresh) {
        metanode_errand_hurry(&m->cleanup.garbage);
        metanode_errand_hurry(&m->cleanup.trims);
    }
}

static void register_logged(struct metanode_target_write *x, int rc,
                            const struct namespace_reply *reply)
{
    struct registration *g = container_of(x, struct registration, write);
    struct metanode_target *t = rc == 0 ? metanode_target_find(g->m, reply->id) : NULL;
    if (rc < 0 || t == NULL) {
        metanode_refuse(g->m, NULL, g->request, rc < 0 ? rc : -ERR_busy, NULL);
        return;
    }
    register_accept(g->m, g->request, t);
}

static bool register_is_known(const struct metanode_target *t,
                              const struct proto_register_request *q)
{
    bool same_rack = q->rack.len == 0 || proto_bytes_equal(q->rack, proto_bytes_text(t->rack));
    return same_rack && proto_bytes_equal(q->address, proto_bytes_text(t->address)) &&
           proto_bytes_equal(q->host, proto_bytes_text(t->host)) &&
           proto_bytes_equal(q->name, proto_bytes_text(t->name));
}

/* What administrators set (weight, labels) stays as they set it; where it is, its node knows. */
static struct proto_target register_record(const struct metanode_target *t,
                                           const struct proto_register_request *q)
{
    struct proto_target record = {.uuid = q->uuid,
                                  .rack = q->rack,
                                  .labels = q->labels,
                                  .weight = q->weight,
                                  .incarnation = q->incarnation};
    if (t != NULL) {
        record = metanode_target_record(t);
        record.incarnation = t->logged;
    }
    record.address = q->address;
    record.host = q->host;
    record.rack = q->rack.len > 0 ? q->rack : record.rack;
    record.name = q->name;
    record.state = PROTO_TARGET_UP;
    record.total = q->total;
    record.free = q->free;
    record.used = q->used;
    return record;
}

/* Each start counts an incarnation and has one address: the same one from another address is
 * another process on a copy of the directory. Both would serve as one member; the first one goes
 * on. */
static bool register_is_copy(const struct metanode_target *t,
                             const struct proto_register_request *q)
{
    return t->registered && t->alive && q->incarnation == t->incarnation &&
           !proto_bytes_equal(q->address, proto_bytes_text(t->address));
}

static void register_refuse_copy(struct metanode *m, struct peer_request *r,
                                 const struct metanode_target *t)
{
    const struct proto_register_request *q = r->body;
    char text[241], other[sizeof t->address];
    proto_bytes_to_c(q->address, other, sizeof other);
    (void)snprintf(
        text, sizeof text,
        "target %u is served at %.60s already, and %.60s has the same data directory, or "
        "a copy of it: end one of the two",
        t->id, t->address, other);
    log_warn(m->env->log, "a second process for a target is refused", LOG_U64("target", t->id),
             LOG_TEXT("address", t->address), LOG_TEXT("refused", other));
    metanode_refuse(m, NULL, r, -EEXIST, text);
}

void metanode_register(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_register_request *q = r->body;
    if (!metanode_admit(m, r)) {
        return;
    }
    struct metanode_target *t = metanode_target_of(m, &q->uuid);
    if (uuid_is_zero(&q->uuid) || q->incarnation == 0) {
        metanode_refuse(m, NULL, r, -EINVAL, "a target has a uuid and an incarnation");
        return;
    }
    if (t != NULL && q->incarnation < t->incarnation) {
        metanode_refuse(m, NULL, r, -ESTALE, "a later incarnation has registered");
        return;
    }
    if (t != NULL && register_is_copy(t, q)) {
        register_refuse_copy(m, r, t);
        return;
    }
    if (t != NULL && register_is_known(t, q)) {
        register_accept(m, r, t);
        return;
    }
    struct registration *g = mem_arena_alloc(&r->arena, sizeof *g); /* goes with the request */
    struct proto_target record = register_record(t, q);
    int rc = g == NULL ? -ENOMEM : 0;
    if (rc == 0) {
        *g = (struct registration){.m = m, .request = r, .write.done = register_logged};
        rc = metanode_target_write(m, &g->write, &record);
    }
    if (rc < 0) {
        metanode_refuse(m, NULL, r, rc == -ENOMEM ? -ERR_busy : rc, NULL);
    }
}

static void incarnation_logged(struct metanode_target_write *x, int rc,
                               const struct namespace_reply *reply)
{
    (void)rc;
    (void)reply; /* the record tells; a failure is repaired by the next heartbeat */
    mem_free(x);
}

/* All its chains have seen it leave: the incarnation may be recorded. */
static void incarnation_record(struct metanode_target *t)
{
    struct proto_target record = metanode_target_record(t);
    struct metanode_target_write *x = mem_zalloc(sizeof *x);
    if (x == NULL) {
        return;
    }
    x->done = incarnation_logged;
    if (metanode_target_write(t->m, x, &record) < 0) { /* the next heartbeat tries again */
        mem_free(x);
    }
}

/* R4, R7a. `left`: it is not known to have learned of all chains that it is no member of any more.
 */
static bool heartbeat_lease(struct metanode *m, struct metanode_target *t, bool left)
{
    if (t->incarnation != t->logged) {
        if (metanode_chains_settled(m, t->id, false)) {
            incarnation_record(t);
        }
        return false;
    }
    return !left && metanode_chains_settled(m, t->id, true) && metanode_fence_acked(m, t) &&
           metanode_leads(m);
}

static void heartbeat_note(struct metanode *m, struct metanode_target *t,
                           const struct proto_heartbeat_request *q)
{
    if (!t->alive) {
        log_info(m->env->log, "target is back", LOG_U64("target", t->id));
        t->alive = true;
        metanode_tables_touch(m);
        metanode_moves_touch(m);
    }
    t->heard_ns = metanode_now(m);
    t->total = q->total;
    t->free = q->free;
    t->used = q->used;
    if (t->low_space != q->low_space) {
        t->low_space = q->low_space;
        metanode_moves_touch(m);
        metanode_tables_touch(m);
    }
    t->damaged = q->damaged;
    if (t->damaged == 0) {
        metanode_damages_forget(m, t->id);
    }
    t->suspect_count = base_min(q->suspects.count, ARRAY_COUNT(t->suspect));
    for (size_t i = 0; i < t->suspect_count; i++) {
        t->suspect[i] = q->suspects.at[i];
    }
    for (size_t i = 0; i < q->chains.count; i++) {
        struct metanode_chain *c = metanode_chain_find(m, q->chains.at[i].chain);
        if (c != NULL) {
            metanode_chain_heard(c, t, &q->chains.at[i]);
        }
    }
    if (t->suspect_count > 0) {
        metanode_chains_suspect(m, t);
    }
    metanode_target_sick(t, q->sick);
}

void metanode_heartbeat(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_heartbeat_request *q = r->body;
    struct proto_heartbeat_reply answer = {0};
    struct metanode_target *t = metanode_target_who(m, r, q->target, q->incarnation);
    if (t == NULL) {
        return;
    }
    if (r->link != NULL) {
        t->link = r->link;
    }
    heartbeat_note(m, t, q);
    bool left = false;
    int rc = metanode_chains_rows(m, t->id, &q->chains, &r->arena, &answer.rows);
    rc = rc < 0 ? rc : metanode_chains_left(m, t->id, &q->chains, &r->arena, &answer.rows, &left);
    if (rc < 0) {
        metanode_refuse(m, NULL, r, -ERR_busy, NULL);
        return;
    }
    uint64_t forget[METANODE_FORGET_MAX];
    memcpy(forget, t->forget, t->forget_count * sizeof *forget);
    answer.forget = (struct proto_u64s){.at = forget, .count = t->forget_count};
    t->forget_count = 0;
    metanode_forget_ask(t, q); /* for the next one; `q` goes with the answer */
    answer.leased = heartbeat_lease(m, t, left);
    answer.map_epoch = m->map_epoch;
    answer.wall_ms = metanode_wall_ms(m);
    if (answer.leased) {
        loop_timer_in(m->env->loop, &t->expiry, metanode_lease_ns(m));
    }
    peer_request_answer(r, &answer, NULL);
}

void metanode_exited(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_exited_request *q = r->body;
    struct proto_exited_reply answer = {};
    if (!metanode_admit(m, r)) {
        return;
    }
    struct metanode_target *t = metanode_target_of(m, &q->uuid);
    if (t != NULL && t->registered && t->incarnation == q->incarnation) {
        t->registered = false; /* nothing more may be heard of it, frames on their way included */
        loop_timer_cancel(m->env->loop, &t->expiry);
        metanode_target_gone(t, "its process has ended");
    }
    peer_request_answer(r, &answer, NULL);
}
