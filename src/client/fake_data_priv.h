/* client/fake_data_priv.h -- for tests only: the targets of fake_priv.h. */
#pragma once

#include "client/fake_look_priv.h"

static inline bool fake_sums_fit(const struct proto_write_request *q, const struct slice *data)
{
    bool fit = data->len == q->length;
    for (size_t at = 0, cell = 0; fit && at < data->len; at += PROTO_CELL_BYTES, cell++) {
        size_t len = base_min(PROTO_CELL_BYTES, data->len - at);
        fit = cell < q->crcs.count && crc32c(0, data->at + at, len) == q->crcs.at[cell];
    }
    return fit;
}

/* Partial cells inside the chunk would have to be whole: the client reads edges first. */
static inline int fake_apply(struct fake_chunk *k, const struct proto_write_request *q,
                             const struct slice *data)
{
    if (q->kind == PROTO_WRITE_SET_LENGTH) {
        k->tgen = q->tgen;
        if (q->length < k->length) {
            memset(k->bytes + q->length, 0, k->length - q->length);
            k->length = q->length;
        }
        return 0;
    }
    if (q->kind == PROTO_WRITE_CLEAR) {
        memset(k->bytes, 0, sizeof k->bytes);
        k->length = 0;
        k->tgen = q->tgen;
        return 0;
    }
    uint32_t end = q->offset + q->length;
    bool whole = end % PROTO_CELL_BYTES == 0 || end >= k->length;
    if (q->offset % PROTO_CELL_BYTES != 0 || !whole || end > FAKE_CHUNK_BYTES ||
        q->offset > base_align_up(k->length, PROTO_CELL_BYTES) + FAKE_CHUNK_BYTES) {
        return -EINVAL;
    }
    k->tgen = q->tgen;
    memcpy(k->bytes + q->offset, data->at, data->len);
    k->length = (uint32_t)base_max(k->length, end);
    return 0;
}

static inline int fake_write_once(struct fake_node *n, const struct proto_write_request *q,
                                  const struct slice *data, struct fake_chunk **ret)
{
    struct fake_cluster *c = n->cluster;
    struct fake_chunk *k = fake_chunk(c, q->chunk, true);
    *ret = k;
    k->chain = q->route.chain;
    if (k->client == q->client && k->seq == q->seq) {
        c->write_repeats++;
        return 0;
    }
    if (k->client == q->client && q->seq < k->seq) {
        return -ERR_stale_request;
    }
    if (q->tgen < k->tgen) {
        return -ERR_stale_trunc;
    }
    if (q->uncut && q->kind == PROTO_WRITE_AT && q->tgen > k->tgen && k->length > 0) {
        return -ERR_busy;
    }
    int rc = fake_apply(k, q, data);
    if (rc == 0) {
        k->client = q->client;
        k->seq = q->seq;
        k->ver++;
        c->writes++;
        n->writes++;
    }
    return rc;
}

static inline void fake_write(struct peer_user *u, struct peer_request *r)
{
    struct fake_node *n = container_of(u, struct fake_node, user);
    struct fake_cluster *c = n->cluster;
    const struct proto_write_request *q = r->body;
    struct fake_chunk *k;
    n->retries += q->retry ? 1 : 0;
    if (fake_refused(n, r, &q->route, &q->capability)) {
        return;
    }
    bool hit = fake_fault_hits(&n->write_fault);
    if (hit && !n->write_fault.after) {
        peer_request_fail(r, n->write_fault.rc, NULL);
        return;
    }
    int rc = c->chain[q->route.chain - 1].order[0] != n->target ? -ERR_not_head : 0;
    if (rc == 0 && q->client != q->capability.session) {
        c->foreign_writes++; /* in the name of another session */
        rc = -ERR_bad_capability;
    }
    rc = rc == 0 && q->kind == PROTO_WRITE_AT && !fake_sums_fit(q, &r->wire->data) ? -ERR_bad_data
                                                                                   : rc;
    rc = n->old && q->kind == PROTO_WRITE_CLEAR ? -ERR_bad_value : rc;
    rc = rc == 0 ? fake_write_once(n, q, &r->wire->data, &k) : rc;
    if (hit) {
        fake_break(r);
    }
    if (rc < 0) {
        peer_request_fail(r, rc, NULL);
        return;
    }
    const struct proto_write_reply reply = {.route = q->route,
                                            .identity = {q->route.epoch, k->ver},
                                            .length = k->length,
                                            .loss_gen = c->chain[q->route.chain - 1].loss_gen};
    peer_request_answer(r, &reply, NULL);
}

static inline void fake_sync(struct peer_user *u, struct peer_request *r)
{
    struct fake_node *n = container_of(u, struct fake_node, user);
    struct fake_cluster *c = n->cluster;
    const struct proto_sync_request *q = r->body;
    if (fake_refused(n, r, &q->route, &q->capability)) {
        return;
    }
    int rc = fake_fault_hits(&n->sync_fault) ? n->sync_fault.rc : 0;
    rc = q->loss_gen < c->chain[q->route.chain - 1].loss_gen ? -ERR_lost : rc;
    c->syncs++;
    if (rc < 0) {
        peer_request_fail(r, rc, NULL);
        return;
    }
    const struct proto_sync_reply reply = {.route = q->route,
                                           .loss_gen = c->chain[q->route.chain - 1].loss_gen};
    peer_request_answer(r, &reply, NULL);
}

static const struct peer_handler fake_data_handlers[] = {
    {.opcode = PROTO_OP_write, .request = fake_write},
    {.opcode = PROTO_OP_read, .request = fake_read},
    {.opcode = PROTO_OP_read_batch, .request = fake_read_batch},
    {.opcode = PROTO_OP_stat, .request = fake_stat},
    {.opcode = PROTO_OP_extents, .request = fake_extents},
    {.opcode = PROTO_OP_stats, .request = fake_data_stats},
    {.opcode = PROTO_OP_sync, .request = fake_sync},
};
/* As if another one was renamed to there. */
static inline void fake_replace(struct fake_cluster *c, struct fake_inode *n)
{
    if (n != NULL && c->replace_after_walk > 0) {
        c->replace_after_walk--;
        n->ino = n->attr.ino = c->next_ino++;
    }
}
