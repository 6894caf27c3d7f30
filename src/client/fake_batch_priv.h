/* client/fake_batch_priv.h -- for tests only: several small reads in one message to the targets of
 * fake_priv.h. */
#pragma once

#include "client/fake_read_priv.h"

/* 0, or why this item is refused. */
static inline int fake_item_refused(struct fake_node *n, const struct proto_read_item *q,
                                    const struct proto_capability *cap)
{
    struct fake_cluster *c = n->cluster;
    if (q->route.chain == 0 || q->route.chain > FAKE_CHAINS) {
        return -ERR_not_serving;
    }
    uint32_t epoch = c->chain[q->route.chain - 1].epoch;
    if (q->route.epoch != epoch) {
        return q->route.epoch < epoch ? -ERR_stale_epoch : -ERR_ahead_epoch;
    }
    if (cap->key_id < n->key_min) {
        return -ERR_capability_expired;
    }
    return fake_fault_hits(&n->read_fault) ? n->read_fault.rc : 0;
}

/* Its bytes behind `to`; its checksums into `crc`. */
static inline void fake_item_read(struct fake_node *n, const struct proto_read_item *q,
                                  struct proto_read_result *ret, uint32_t *crc, uint8_t *to)
{
    const struct fake_chunk *k = fake_chunk(n->cluster, q->chunk, false);
    uint32_t length = k == NULL ? 0 : k->length;
    uint32_t from = (uint32_t)base_align_down(q->offset, PROTO_CELL_BYTES);
    uint32_t end = (uint32_t)base_min(base_align_up(q->offset + q->length, 4096), length);
    ret->length = length;
    ret->offset = from;
    ret->bytes = end > from ? end - from : 0;
    ret->crcs.at = crc;
    if (ret->bytes == 0) {
        return;
    }
    memcpy(to, k->bytes + from, ret->bytes);
    for (uint32_t at = 0; at < ret->bytes; at += PROTO_CELL_BYTES) {
        crc[ret->crcs.count++] = crc32c(0, to + at, base_min(PROTO_CELL_BYTES, ret->bytes - at));
    }
    to[ret->bytes / 2] ^= n->corrupt ? 1 : 0;
}

static inline void fake_read_batch(struct peer_user *u, struct peer_request *r)
{
    struct fake_node *n = container_of(u, struct fake_node, user);
    const struct proto_read_batch_request *q = r->body;
    struct proto_read_result result[PROTO_BATCH_MAX] = {0};
    uint32_t crc[PROTO_BATCH_MAX][PROTO_BATCH_CELLS];
    uint32_t bytes = 0;
    if (n->old) {
        peer_request_fail(r, -ERR_unknown_message, NULL);
        return;
    }
    struct buf *b = buf_get(n->pool, (size_t)PROTO_BATCH_CELLS_ALL * PROTO_CELL_BYTES);
    CHECK(b != NULL);
    n->batches++;
    for (size_t i = 0; i < q->items.count; i++) {
        const struct proto_read_item *x = &q->items.at[i];
        n->reads++;
        n->cluster->reads++;
        result[i].rc = fake_item_refused(n, x, &q->capabilities.at[x->capability]);
        if (result[i].rc == 0) {
            fake_item_read(n, x, &result[i], crc[i], b->at + bytes);
            bytes += result[i].bytes;
        }
    }
    bytes -= n->lie == FAKE_SHORT && bytes > 0 ? 1 : 0;
    const struct proto_read_batch_reply m = {.results = {.at = result, .count = q->items.count}};
    const struct net_conn_response data = {.data = {{.buf = b, .at = b->at, .len = bytes}},
                                           .data_count = bytes > 0 ? 1 : 0};
    peer_request_answer(r, &m, &data);
    buf_unref(b);
}
