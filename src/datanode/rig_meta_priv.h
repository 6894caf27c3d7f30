/* datanode/rig_meta_priv.h -- for tests only: the metadata server of rig_priv.h. */
#pragma once

#include "datanode/rig_priv.h"

/* Newer rows of chains that target `id` is a member of, or has named (t; NULL: nothing yet). */
RIG struct proto_row_list rig_rows(struct rig *r, struct mem_arena *a, const struct rig_target *t,
                                   uint32_t id)
{
    struct proto_row_list list = {0};
    list.at = mem_arena_alloc(a, (RIG_CHAINS + 1) * sizeof *list.at);
    for (unsigned i = 1; i <= RIG_CHAINS; i++) {
        bool member = cluster_row_find(&r->row[i], id) < r->row[i].count;
        bool newer = r->row[i].epoch > (t == NULL ? 0 : t->known[i]);
        if (newer && (member || (t != NULL && t->named[i]))) {
            struct rig_row_room *room = mem_arena_alloc(a, sizeof *room);
            cluster_row_to_proto(&r->row[i], room->members, &list.at[list.count]);
            cluster_row_rest_to_proto(&r->row[i], &room->rest, &list.at[list.count++]);
        }
    }
    return list;
}
RIG void rig_on_register(struct peer_user *u, struct peer_request *q)
{
    struct rig *r = container_of(u, struct rig, meta_user);
    const struct proto_register_request *m = q->body;
    unsigned host = (unsigned)(m->host.at[1] - '0');
    struct rig_target *t = &r->target[host];
    t->registered = *m;
    t->registers++;
    t->stranger = false;
    t->lossy = m->lossy;
    memset(t->known, 0, sizeof t->known);
    memset(t->report, 0, sizeof t->report);
    memset(t->synced, 0, sizeof t->synced);
    memset(t->held, 0, sizeof t->held);
    t->link = q->link;
    const struct proto_register_reply reply = {.target = host,
                                               .rows = rig_rows(r, &q->arena, NULL, host),
                                               .lease_ms = RIG_LEASE_MS,
                                               .heartbeat_ms = RIG_LEASE_MS / 10,
                                               .map_epoch = 1,
                                               .wall_ms = rig_ms(r)};
    peer_request_answer(q, &reply, NULL);
}
RIG void rig_on_heartbeat(struct peer_user *u, struct peer_request *q)
{
    struct rig *r = container_of(u, struct rig, meta_user);
    const struct proto_heartbeat_request *m = q->body;
    struct rig_target *t = &r->target[m->target];
    if (t->stranger) {
        peer_request_fail(q, -ESTALE, NULL);
        return;
    }
    t->link = q->link;
    t->heard_ns = loop_sim_now_ns(r->world);
    t->granted_ns = t->leased ? t->heard_ns : t->granted_ns;
    t->suspect = m->suspects.count == 0 ? 0 : m->suspects.at[0];
    t->suspicions += m->suspects.count == 0 ? 0 : 1;
    memset(t->known, 0, sizeof t->known);
    memset(t->named, 0, sizeof t->named);
    for (size_t i = 0; i < m->chains.count; i++) {
        const struct proto_chain_report *c = &m->chains.at[i];
        t->known[c->chain] = c->epoch;
        t->named[c->chain] = true;
        t->report[c->chain] = c->report;
        t->synced[c->chain] = c->synced_epoch;
        t->held[c->chain] = c->held;
    }
    struct proto_heartbeat_reply reply = {
        .leased = t->leased, .map_epoch = 1, .wall_ms = rig_ms(r)};
    proto_bytes_to_c(m->sick, t->sick, sizeof t->sick);
    t->dead = m->dead.count + m->more_dead.count;
    reply.forget.at = mem_arena_alloc(&q->arena, (t->dead + 1) * sizeof *reply.forget.at);
    for (size_t i = 0; i < t->dead && r->opt.dead_keep_ms != 0; i++) {
        size_t more = i - m->dead.count;
        reply.forget.at[reply.forget.count++] =
            i < m->dead.count ? m->dead.at[i] : m->more_dead.at[more];
    }
    if (!t->deaf) {
        reply.rows = rig_rows(r, &q->arena, t, m->target);
    }
    peer_request_answer(q, &reply, NULL);
}
RIG void rig_on_report(struct peer_user *u, struct peer_request *q)
{
    struct rig *r = container_of(u, struct rig, meta_user);
    const struct proto_report_request *m = q->body;
    const struct proto_report_reply reply = {};
    struct rig_target *t = &r->target[m->target];
    t->reports++;
    for (size_t i = 0; i < m->items.count; i++) {
        const struct proto_report_item *x = &m->items.at[i];
        t->found += x->kind == PROTO_REPORT_DAMAGE && x->damage == PROTO_DAMAGE_FOUND;
        t->repaired += x->kind == PROTO_REPORT_DAMAGE && x->damage == PROTO_DAMAGE_REPAIRED;
        t->no_copy += x->kind == PROTO_REPORT_DAMAGE && x->damage == PROTO_DAMAGE_NO_COPY;
        t->resynced += x->kind == PROTO_REPORT_RESYNCED;
        t->whole += x->chunk.data_id == 0;
    }
    for (size_t i = 0; i < m->digests.count; i++) {
        t->digest[m->digests.at[i].chain % (RIG_CHAINS + 1)] = m->digests.at[i];
    }
    t->digests += (unsigned)m->digests.count;
    t->disk_error = m->disk_error < 0 ? m->disk_error : t->disk_error;
    t->figures = m->has_figures ? m->figures : t->figures;
    if (t->ignores) {
        peer_request_fail(q, -ERR_busy, NULL);
    } else {
        peer_request_answer(q, &reply, NULL);
    }
}
RIG void rig_on_map(struct peer_user *u, struct peer_request *q)
{
    struct rig *r = container_of(u, struct rig, meta_user);
    struct proto_cluster_map_reply reply = {.epoch = 1};
    struct net_address at[RIG_TARGETS + 1];
    struct proto_target target[RIG_TARGETS] = {0};
    for (unsigned i = 1; i <= r->opt.targets; i++) {
        at[i] = rig_address(i);
        target[i - 1] = (struct proto_target){.id = i, .address = proto_bytes_text(at[i].text)};
    }
    reply.targets = (struct proto_target_list){.at = target, .count = r->opt.targets};
    peer_request_answer(q, &reply, NULL);
}
RIG void rig_meta_down(struct peer_user *u, struct peer_link *l, int rc, const char *reason)
{
    (void)rc;
    (void)reason;
    struct rig *r = container_of(u, struct rig, meta_user);
    for (unsigned i = 1; i <= RIG_TARGETS; i++) {
        if (r->target[i].link == l) {
            r->target[i].link = NULL;
        }
    }
}
static const struct peer_user_ops rig_meta_ops = {.up = rig_nothing_up, .down = rig_meta_down};
static const struct peer_handler rig_meta_handlers[] = {
    {.opcode = PROTO_OP_register, .request = rig_on_register},
    {.opcode = PROTO_OP_heartbeat, .request = rig_on_heartbeat},
    {.opcode = PROTO_OP_cluster_map, .request = rig_on_map},
    {.opcode = PROTO_OP_report, .request = rig_on_report},
};
RIG void rig_meta_inside(void *ctx)
{
    struct rig *r = ctx;
    const struct peer_server_options opt = {.env = &r->meta.env,
                                            .user = &r->meta_user,
                                            .handlers = rig_meta_handlers,
                                            .handler_count = ARRAY_COUNT(rig_meta_handlers),
                                            .secrets = rig_secrets(),
                                            .cluster_id = rig_cluster(),
                                            .role = PROTO_ROLE_META,
                                            .name = "meta"};
    struct net_address at = rig_address(RIG_META);
    r->meta_user.ops = &rig_meta_ops;
    CHECK((peer_server_new(&opt, &r->server)) == 0);
    CHECK((peer_server_listen(r->server, &at, NULL)) == 0);
}
RIG void rig_push_rows(void *ctx)
{
    struct rig *r = ctx;
    for (unsigned i = 1; i <= r->opt.targets; i++) {
        struct rig_target *t = &r->target[i];
        for (unsigned c = 1; c <= RIG_CHAINS && t->link != NULL && !t->deaf; c++) {
            struct rig_row_room room;
            struct proto_row_changed_push push;
            if (r->row[c].epoch == 0) {
                continue;
            }
            cluster_row_to_proto(&r->row[c], room.members, &push.row);
            cluster_row_rest_to_proto(&r->row[c], &room.rest, &push.row);
            int rc = peer_link_push(t->link, PROTO_OP_row_changed, &push);
            CHECK(rc == 0 || rc == -ERR_closed);
        }
    }
}
/* "1s 2s 3y": targets and states, head first: s serving, y syncing, w waiting, l last-serving, o
 * offline, a set aside. The epoch rises by one. Tells all that are not deaf. */
RIG void rig_row(struct rig *r, uint32_t chain, const char *members)
{
    struct cluster_row *row = &r->row[chain];
    row->chain = chain;
    row->epoch++;
    row->count = 0;
    for (const char *at = members; *at != 0; at++) {
        static const char states[] = "?sywlo"; /* by enum proto_member_state */
        if (*at < '1' || *at > '9') {
            continue;
        }
        bool aside = at[1] == 'a';
        const char *state = strchr(states, aside ? 'o' : at[1]);
        CHECK(state != NULL);
        row->member[row->count++] =
            (struct cluster_member){.target = (uint32_t)(*at - '0'),
                                    .state = (enum proto_member_state)(state - states),
                                    .aside = aside};
    }
    CHECK(cluster_row_valid(row));
    rig_in(r->meta.loop, rig_push_rows, r);
}
