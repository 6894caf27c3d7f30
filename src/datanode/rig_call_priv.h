/* datanode/rig_call_priv.h -- for tests only: what the client of rig_priv.h hears. */
#pragma once

#include "datanode/rig_priv.h"

/* ---- The client ---- */

RIG void rig_client_inside(void *ctx)
{
    struct rig *r = ctx;
    const struct buf_pool_options pool = {.limit_bytes = 64u << 20, .max_size = 4u << 20};
    r->pool = buf_pool_new(&pool);
    for (unsigned i = 1; i <= r->opt.targets; i++) {
        struct rig_target *t = &r->target[i];
        struct net_address at = rig_address(i);
        const struct peer_options opt = {.env = &r->client.env,
                                         .user = &t->client_user,
                                         .secrets = rig_secrets(),
                                         .cluster_id = rig_cluster(),
                                         .role = PROTO_ROLE_CLIENT,
                                         .name = "client",
                                         .addresses = &at,
                                         .address_count = 1,
                                         .pool = r->pool,
                                         .session = RIG_SESSION,
                                         .generation = 1};
        t->client_user.ops = &rig_nothing_ops;
        CHECK((peer_new(&opt, &t->client)) == 0);
        peer_start(t->client);
        struct peer_options meta = opt;
        meta.role = PROTO_ROLE_META;
        CHECK(peer_new(&meta, &t->meta_client) == 0);
        peer_start(t->meta_client);
    }
}

/* One request of the client; the reply is kept. */
struct rig_call {
    struct peer_call call;
    struct rig *rig;
    unsigned host;
    bool done, answered, as_meta;
    int rc;
    union {
        struct proto_write_request write;
        struct proto_read_request read;
        struct proto_sync_request sync;
        struct proto_stat_request stat;
        struct proto_extents_request extents;
        struct proto_remove_request remove;
        struct proto_revoke_request revoke;
        struct proto_fence_request fence;
    } m;
    uint32_t crc[RIG_CELLS];
    uint64_t more[64];
    struct buf buf;
    struct proto_chunk chunk;
    /* of the reply */
    struct chunk_identity identity;
    uint32_t length, offset, row_epoch;
    uint8_t *data;
    size_t data_len;
    bool data_good;
    size_t stat_count, run_count;
    bool stat_more;
    uint32_t next_index, run[8];
};
RIG void rig_buf_released(struct buf *b)
{
    (void)b;
}
RIG void rig_read_reply(struct rig_call *c, const struct proto_read_reply *m,
                        const struct slice *data)
{
    c->identity = (struct chunk_identity){m->identity.aepoch, m->identity.ver};
    c->length = m->length;
    c->offset = m->offset;
    c->data_len = data->len;
    c->data = data->len == 0 ? NULL : mem_dup(data->at, data->len);
    c->data_good = true;
    for (size_t i = 0; i * 4096 < data->len; i++) {
        size_t len = base_min(4096, data->len - i * 4096);
        c->data_good = c->data_good && i < m->crcs.count &&
                       crc32c(0, data->at + i * 4096, len) == m->crcs.at[i];
    }
}
RIG void rig_called(struct peer_call *call, const struct peer_reply *r)
{
    struct rig_call *c = container_of(call, struct rig_call, call);
    c->done = true;
    c->rc = r->rc;
    c->answered = r->answered;
    c->row_epoch = r->failure == NULL ? 0 : r->failure->row.epoch;
    if (r->rc == 0 && call->opcode == PROTO_OP_read) {
        rig_read_reply(c, r->body, &r->data);
    } else if (r->rc == 0 && call->opcode == PROTO_OP_write) {
        const struct proto_write_reply *m = r->body;
        c->identity = (struct chunk_identity){m->identity.aepoch, m->identity.ver};
        c->length = m->length;
        c->offset = m->offset;
    } else if (r->rc == 0 && call->opcode == PROTO_OP_remove) {
        c->length = ((const struct proto_remove_reply *)r->body)->removed;
    } else if (r->rc == 0 && call->opcode == PROTO_OP_stat) {
        const struct proto_stat_reply *m = r->body;
        c->stat_count = m->chunks.count;
        c->length = m->chunks.count == 0 ? 0 : m->chunks.at[0].length;
        c->stat_more = m->more;
        c->next_index = m->next_index;
    } else if (r->rc == 0 && call->opcode == PROTO_OP_extents) {
        const struct proto_extents_reply *m = r->body;
        c->length = m->length;
        c->run_count = m->runs.count;
        for (size_t i = 0; i < base_min(m->runs.count, ARRAY_COUNT(c->run)); i++) {
            c->run[i] = m->runs.at[i];
        }
    }
}
RIG void rig_call_inside(void *ctx)
{
    struct rig_call *c = ctx;
    c->call.done = rig_called;
    c->call.flags = PEER_CALL_RAW;
    c->call.request = &c->m;
    struct rig_target *t = &c->rig->target[c->host];
    peer_call(c->as_meta ? t->meta_client : t->client, &c->call);
}
RIG struct proto_capability rig_capability_of(struct rig *r, uint64_t session, uint64_t data_id)
{
    struct cluster_secret secret;
    memset(secret.bytes, 5, sizeof secret.bytes);
    struct proto_capability c = {.data_id = data_id,
                                 .last_data_id = data_id,
                                 .session = session,
                                 .rights = PROTO_RIGHT_READ | PROTO_RIGHT_WRITE,
                                 .cap_epoch = 5,
                                 .expiry_wall_ms = UINT64_MAX / 2};
    CHECK((cluster_capability_sign(&secret, &c, r->mac)) == 0);
    return c;
}
RIG struct proto_capability rig_capability(struct rig *r, uint64_t data_id)
{
    return rig_capability_of(r, RIG_SESSION, data_id);
}
