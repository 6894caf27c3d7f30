/* metanode/rig_asked_priv.h -- for tests only: what a fake target answers the leader. */
#pragma once

#include "metanode/rig_server_priv.h"

static inline void rig_target_rows(struct rig_target *t, const struct proto_row_list *rows)
{
    for (size_t i = 0; i < rows->count; i++) {
        struct cluster_row row;
        size_t at = 0;
        CHECK(cluster_row_from_proto(&rows->at[i], &row) == 0);
        while (at < t->row_count && t->row[at].chain != row.chain) {
            at++;
        }
        CHECK(at < RIG_ROWS);
        if (at == t->row_count) {
            t->first[at] = row;
        }
        if (at == t->row_count || t->row[at].epoch < row.epoch) {
            t->row[at] = row;
            t->row_count += at == t->row_count;
        }
    }
}
static inline struct rig_target *rig_target_of(struct peer_user *u)
{
    return container_of(u, struct rig_target, user);
}
static inline void rig_on_row(struct peer_user *u, struct peer_link *l, const void *body)
{
    const struct proto_row_changed_push *m = body;
    struct proto_row_list rows = {.at = (struct proto_row[]){m->row}, .count = 1};
    (void)l;
    if (!rig_target_of(u)->deaf) {
        rig_target_rows(rig_target_of(u), &rows);
    }
}
static inline void rig_on_revoke(struct peer_user *u, struct peer_request *r)
{
    const struct proto_revoke_request *q = r->body;
    struct rig_target *t = rig_target_of(u);
    struct proto_revoke_reply answer = {};
    t->revokes++;
    for (size_t i = 0; i < t->row_count; i++) { /* it serves this chain no more */
        size_t own = cluster_row_find(&t->row[i], t->id);
        if (t->row[i].chain == q->chain && own < t->row[i].count) {
            t->row[i].member[own].state = PROTO_MEMBER_OFFLINE;
        }
    }
    peer_request_answer(r, &answer, NULL);
}
static inline void rig_on_fence(struct peer_user *u, struct peer_request *r)
{
    const struct proto_fence_request *q = r->body;
    struct proto_fence_reply answer = {};
    if (rig_target_of(u)->refuse_fences) {
        peer_request_fail(r, -ERR_busy, NULL);
        return;
    }
    rig_target_of(u)->fences++;
    rig_target_of(u)->fenced_session = q->session;
    peer_request_answer(r, &answer, NULL);
}
static inline void rig_on_remove(struct peer_user *u, struct peer_request *r)
{
    struct rig_target *t = rig_target_of(u);
    const struct proto_remove_request *q = r->body;
    size_t count = t->early ? 1 : q->more.count + 1;
    struct proto_remove_reply answer = {.route = q->route,
                                        .removed = t->early ? 0 : (uint32_t)count};
    if (t->refuse_removes > 0) {
        t->refuse_removes--;
        peer_request_fail(r, -ERR_busy, NULL);
        return;
    }
    t->remove_requests++;
    for (size_t i = 0; i < count; i++) {
        uint64_t data_id = i == 0 ? q->data_id : q->more.at[i - 1];
        t->removed[t->removes++ % ARRAY_COUNT(t->removed)] = data_id;
    }
    peer_request_answer(r, &answer, NULL);
}
static inline void rig_on_stat(struct peer_user *u, struct peer_request *r)
{
    struct rig_target *t = rig_target_of(u);
    const struct proto_stat_request *q = r->body;
    struct proto_chunk_stat at[2] = {{.index = 0, .length = t->chunk_length},
                                     {.index = 1, .length = t->chunk_length}};
    uint32_t skip = (uint32_t)base_min(q->first_index, 2);
    CHECK(q->count == UINT32_MAX); /* what is behind the end may be anywhere */
    if (t->refuse_stats) {
        peer_request_fail(r, -ERR_busy, NULL);
        return;
    }
    struct proto_stat_reply answer = {
        .route = q->route,
        .chunks = {.at = at + skip, .count = t->chunk_length == 0 ? 0 : 2 - skip}};
    if (t->old) {
        answer.more = q->first_index <= UINT32_MAX - 1024;
        answer.next_index = q->first_index + 1024;
    }
    t->stats++;
    peer_request_answer(r, &answer, NULL);
}
static inline void rig_on_write(struct peer_user *u, struct peer_request *r)
{
    struct rig_target *t = rig_target_of(u);
    const struct proto_write_request *q = r->body;
    struct proto_write_reply answer = {.route = q->route, .length = q->length};
    CHECK(q->kind == PROTO_WRITE_SET_LENGTH && q->client == METANODE_CLIENT && q->tgen > 0);
    CHECK(q->chunk.index < 2);
    t->cuts++;
    t->cut_length[q->chunk.index] = q->length;
    peer_request_answer(r, &answer, NULL);
}
/* Its head has answered for all members of the chain. */
static inline bool rig_has_removed(const struct rig *r, uint64_t data_id)
{
    bool found = false;
    for (size_t k = 0; k < RIG_TARGETS; k++) {
        const struct rig_target *t = &r->target[k];
        for (size_t i = 0; i < base_min(t->removes, ARRAY_COUNT(t->removed)) && !found; i++) {
            found = t->removed[i] == data_id;
        }
    }
    return found;
}
static inline void rig_on_inventory(struct peer_user *u, struct peer_request *r)
{
    struct rig_target *t = rig_target_of(u);
    const struct proto_inventory_request *q = r->body;
    struct proto_inventory_entry at[64];
    struct proto_inventory_reply answer = {.entries.at = at, .eof = true};
    size_t page = base_min(t->held_page == 0 ? 2 : t->held_page, q->max_entries);
    CHECK(q->target == t->id && q->incarnation == t->incarnation);
    t->inventories++;
    if (t->busy_inventories > 0) {
        t->busy_inventories--;
        peer_request_fail(r, -ERR_busy, NULL);
        return;
    }
    for (size_t i = 0; i < t->held_count; i++) {
        const struct rig_held *h = &t->held[i];
        bool before = h->data_id < q->first.data_id ||
                      (h->data_id == q->first.data_id && h->index < q->first.index);
        bool other = q->chain != 0 && q->chain != h->chain;
        if (before || other || rig_has_removed(t->rig, h->data_id)) {
            continue;
        }
        if (q->end != 0 && h->data_id >= q->end) {
            break;
        }
        if (answer.entries.count == page) {
            answer.eof = false;
            answer.next = (struct proto_chunk){.data_id = h->data_id, .index = h->index};
            break;
        }
        at[answer.entries.count++] = (struct proto_inventory_entry){
            .chunk = {.data_id = h->data_id, .index = h->index},
            .chain = h->chain,
            .identity = {.aepoch = h->ver > 0 ? 1 : 0, .ver = h->ver},
            .digest = h->digest,
            .busy = h->busy};
    }
    if (t->backwards && answer.entries.count > 1) {
        struct proto_inventory_entry first = at[0];
        at[0] = at[1];
        at[1] = first;
    }
    peer_request_answer(r, &answer, NULL);
}
static const struct peer_handler rig_target_handlers[] = {
    {.opcode = PROTO_OP_row_changed, .push = rig_on_row},
    {.opcode = PROTO_OP_revoke, .request = rig_on_revoke},
    {.opcode = PROTO_OP_fence, .request = rig_on_fence},
    {.opcode = PROTO_OP_remove, .request = rig_on_remove},
    {.opcode = PROTO_OP_stat, .request = rig_on_stat},
    {.opcode = PROTO_OP_write, .request = rig_on_write},
    {.opcode = PROTO_OP_inventory, .request = rig_on_inventory},
};
