/* client/fake_look_priv.h -- for tests only: which chunks the targets of fake_priv.h have, and
 * where.
 */
#pragma once

#include "client/fake_batch_priv.h"

/* Cells of zeros are not stored. */
static inline void fake_extents(struct peer_user *u, struct peer_request *r)
{
    struct fake_node *n = container_of(u, struct fake_node, user);
    const struct proto_extents_request *q = r->body;
    const struct fake_chunk *k = fake_chunk(n->cluster, q->chunk, false);
    uint32_t run[2 * FAKE_CELLS];
    struct proto_extents_reply m = {
        .route = q->route, .length = k == NULL ? 0 : k->length, .runs.at = run};
    n->cluster->extents++;
    if (n->old || fake_fault_hits(&n->stat_fault)) {
        peer_request_fail(r, n->old ? -EOPNOTSUPP : n->stat_fault.rc, NULL);
        return;
    }
    for (uint32_t at = 0; at < m.length; at += PROTO_CELL_BYTES) {
        uint32_t end = (uint32_t)base_min(at + PROTO_CELL_BYTES, m.length);
        bool zeros =
            k->bytes[at] == 0 && memcmp(k->bytes + at, k->bytes + at + 1, end - at - 1) == 0;
        if (!zeros && (m.runs.count == 0 || run[m.runs.count - 1] != at)) {
            run[m.runs.count] = at;
            m.runs.count += 2;
        }
        if (!zeros) {
            run[m.runs.count - 1] = end;
        }
    }
    peer_request_answer(r, &m, NULL);
}
static inline uint64_t fake_allocated(const struct fake_chunk *k)
{
    uint64_t bytes = 0;
    for (uint32_t at = 0; at < k->length; at += PROTO_CELL_BYTES) {
        bool zeros = k->bytes[at] == 0 &&
                     memcmp(k->bytes + at, k->bytes + at + 1, PROTO_CELL_BYTES - 1) == 0;
        bytes += zeros ? 0 : PROTO_CELL_BYTES;
    }
    return bytes;
}
/* The first one of the chain in the range. */
static inline const struct fake_chunk *fake_next(const struct fake_cluster *c, uint64_t data_id,
                                                 uint32_t chain, uint64_t first, uint64_t end)
{
    const struct fake_chunk *best = NULL;
    for (size_t i = 0; i < FAKE_CHUNKS; i++) {
        const struct fake_chunk *k = &c->chunk[i];
        bool in = k->key.data_id == data_id && k->chain == chain && k->key.index >= first &&
                  k->key.index < end;
        best = in && (best == NULL || k->key.index < best->key.index) ? k : best;
    }
    return best;
}
static inline void fake_stat(struct peer_user *u, struct peer_request *r)
{
    struct fake_node *n = container_of(u, struct fake_node, user);
    const struct proto_stat_request *q = r->body;
    struct proto_chunk_stat stat[8];
    struct proto_stat_reply m = {.route = q->route, .chunks.at = stat};
    if (fake_refused(n, r, &q->route, &q->capability)) {
        return;
    }
    if (fake_fault_hits(&n->stat_fault)) {
        peer_request_fail(r, n->stat_fault.rc, NULL);
        return;
    }
    n->cluster->stats++;
    uint64_t next = q->first_index, end = next + q->count;
    const struct fake_chunk *k = NULL;
    while (!n->lacks &&
           (k = fake_next(n->cluster, q->data_id, q->route.chain, next, end)) != NULL) {
        m.more = m.chunks.count == ARRAY_COUNT(stat);
        m.next_index = k->key.index;
        if (m.more) {
            break;
        }
        stat[m.chunks.count++] =
            (struct proto_chunk_stat){.index = k->key.index,
                                      .identity = {1, k->ver},
                                      .length = k->length,
                                      .allocated = fake_allocated(k),
                                      .chunk_flags = n->corrupt ? PROTO_CHUNK_DAMAGED : 0};
        next = k->key.index + UINT64_C(1);
    }
    peer_request_answer(r, &m, NULL);
}
