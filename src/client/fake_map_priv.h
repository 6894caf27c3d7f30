/* client/fake_map_priv.h -- for tests only: the cluster map of fake_priv.h, in one page or three.
 */
#pragma once

#include "client/fake_read_priv.h"

/* What of the whole map comes with this page: all but the last row and the tables, these, the row.
 */
static inline void fake_map_pages(const struct proto_cluster_map_request *q,
                                  struct proto_cluster_map_reply *m)
{
    bool first = q->first_chain == 0, tables = q->first_table != 0;
    size_t rows = first ? FAKE_CHAINS - 1 : tables ? 0 : 1;
    m->more = first || tables;
    m->next_chain = m->more ? FAKE_CHAINS : 0;
    m->next_table = first ? 7 : 0;
    m->rows.at += first || tables ? 0 : FAKE_CHAINS - 1;
    m->rows.count = rows;
    m->tables.count = tables ? m->tables.count : 0;
    m->classes.count = first ? m->classes.count : 0;
    m->targets.count = first ? m->targets.count : 0;
}
static inline void fake_map(struct peer_user *u, struct peer_request *r)
{
    struct fake_cluster *c = fake_of(u);
    struct proto_member members[FAKE_CHAINS][2];
    struct proto_row rows[FAKE_CHAINS];
    struct proto_target targets[FAKE_TARGETS] = {0};
    uint32_t chains[FAKE_CHAINS];
    const struct proto_storage_class class = {
        .id = 1, .chunk_size = FAKE_CHUNK_BYTES, .inline_limit = 4096, .table_version = 1};
    const struct proto_table table = {.class_id = 1, .version = 1, .chains = {chains, FAKE_CHAINS}};
    for (uint32_t i = 0; i < FAKE_CHAINS; i++) {
        chains[i] = i + 1;
        fake_row(c, i + 1, members[i], &rows[i]);
    }
    for (uint32_t i = 0; i < FAKE_TARGETS; i++) {
        targets[i].id = i + 1;
        targets[i].address = targets[i].host = proto_bytes_text(c->target[i]->at.text);
    }
    struct proto_cluster_map_reply m = {.epoch = c->map_epoch,
                                        .classes = {(struct proto_storage_class *)&class, 1},
                                        .tables = {(struct proto_table *)&table, 1},
                                        .rows = {rows, FAKE_CHAINS},
                                        .targets = {targets, FAKE_TARGETS}};
    if (c->late_tables) {
        fake_map_pages(r->body, &m);
    }
    peer_request_answer(r, &m, NULL);
}
