/* datanode/rig_ask_priv.h -- for tests only: what the client of rig_priv.h asks. */
#pragma once

#include "datanode/rig_call_priv.h"

struct rig_io {
    unsigned host;
    uint32_t chain, epoch; /* epoch 0: of the newest row */
    uint64_t data_id;
    uint32_t index;
    uint32_t offset, length;
    uint8_t fill; /* byte i is fill + i / 4096 */
    uint8_t kind; /* 0: PROTO_WRITE_AT */
    uint64_t seq; /* 0: the next */
    uint64_t client;
    uint64_t session; /* of the capability; 0: the client's */
    uint32_t tgen;
    bool retry, sync, bad_crc, check, stream, uncut, as_meta;
    uint32_t wait_ms, loss_gen, timeout_ms, count; /* count 0: 100 */
};
RIG struct proto_route rig_route(struct rig *r, const struct rig_io *io)
{
    return (struct proto_route){.chain = io->chain,
                                .epoch = io->epoch == 0 ? r->row[io->chain].epoch : io->epoch};
}
/* Bytes and CRCs of a write, cut at the chunk's cells. */
RIG void rig_payload(struct rig_call *c, const struct rig_io *io)
{
    c->data = mem_alloc(io->length + 1);
    size_t cells = 0;
    size_t at = 0;
    while (at < io->length) {
        size_t len = base_min(4096 - (io->offset + at) % 4096, io->length - at);
        memset(c->data + at, io->fill + (int)((io->offset + at) / 4096), len);
        c->crc[cells++] = crc32c(0, c->data + at, len) + (io->bad_crc ? 1U : 0U);
        at += len;
    }
    c->m.write.crcs = (struct proto_u32s){.at = c->crc, .count = cells};
    buf_wrap(&c->buf, c->data, io->length + 1, rig_buf_released);
    c->call.wire.data[0] = (struct slice){.buf = &c->buf, .at = c->data, .len = io->length};
    c->call.wire.data_count = io->length == 0 ? 0 : 1;
}
RIG void rig_write_begin(struct rig *r, struct rig_call *c, const struct rig_io *io)
{
    uint64_t client = io->client == 0 ? RIG_SESSION : io->client;
    uint64_t session = io->session == 0 ? client : io->session;
    *c = (struct rig_call){.rig = r, .host = io->host, .as_meta = io->as_meta};
    c->m.write =
        (struct proto_write_request){.route = rig_route(r, io),
                                     .capability = rig_capability_of(r, session, io->data_id),
                                     .chunk = {.data_id = io->data_id, .index = io->index},
                                     .client = client,
                                     .seq = io->seq == 0 ? ++r->seq : io->seq,
                                     .retry = io->retry,
                                     .kind = io->kind == 0 ? PROTO_WRITE_AT : io->kind,
                                     .offset = io->offset,
                                     .length = io->length,
                                     .tgen = io->tgen,
                                     .sync = io->sync,
                                     .uncut = io->uncut};
    if (io->kind != PROTO_WRITE_SET_LENGTH && io->kind != PROTO_WRITE_CLEAR) {
        rig_payload(c, io);
    }
    c->call.opcode = PROTO_OP_write;
    rig_in(r->client.loop, rig_call_inside, c);
}
RIG void rig_read_begin(struct rig *r, struct rig_call *c, const struct rig_io *io)
{
    *c = (struct rig_call){.rig = r, .host = io->host};
    c->m.read = (struct proto_read_request){.route = rig_route(r, io),
                                            .capability = rig_capability(r, io->data_id),
                                            .chunk = {.data_id = io->data_id, .index = io->index},
                                            .offset = io->offset,
                                            .length = io->length,
                                            .wait_ms = io->wait_ms,
                                            .flags = (io->check ? PROTO_READ_CHECK : 0) |
                                                     (io->stream ? PROTO_READ_STREAM : 0)};
    c->call.opcode = PROTO_OP_read;
    c->call.timeout_ms = io->timeout_ms;
    rig_in(r->client.loop, rig_call_inside, c);
}
RIG void rig_sync_begin(struct rig *r, struct rig_call *c, const struct rig_io *io)
{
    *c = (struct rig_call){.rig = r, .host = io->host};
    c->chunk = (struct proto_chunk){.data_id = io->data_id, .index = io->index};
    c->m.sync = (struct proto_sync_request){.route = rig_route(r, io),
                                            .capability = rig_capability(r, io->data_id),
                                            .data_id = io->data_id,
                                            .chunks = {.at = &c->chunk, .count = 1},
                                            .loss_gen = io->loss_gen};
    c->call.opcode = PROTO_OP_sync;
    rig_in(r->client.loop, rig_call_inside, c);
}
RIG void rig_stat_begin(struct rig *r, struct rig_call *c, const struct rig_io *io)
{
    *c = (struct rig_call){.rig = r, .host = io->host};
    c->m.stat = (struct proto_stat_request){.route = rig_route(r, io),
                                            .capability = rig_capability(r, io->data_id),
                                            .data_id = io->data_id,
                                            .first_index = io->index,
                                            .count = io->count == 0 ? 100 : io->count};
    c->call.opcode = PROTO_OP_stat;
    rig_in(r->client.loop, rig_call_inside, c);
}
RIG void rig_call_end(struct rig_call *c)
{
    mem_free(c->data);
    c->data = NULL;
}
RIG int rig_write(struct rig *r, const struct rig_io *io)
{
    struct rig_call *c = mem_zalloc(sizeof *c);
    rig_write_begin(r, c, io);
    RIG_UNTIL(r, c->done);
    int rc = c->rc;
    rig_call_end(c);
    mem_free(c);
    return rc;
}
RIG int rig_sync(struct rig *r, const struct rig_io *io)
{
    struct rig_call *c = mem_zalloc(sizeof *c);
    rig_sync_begin(r, c, io);
    RIG_UNTIL(r, c->done);
    int rc = c->rc;
    mem_free(c);
    return rc;
}
/* 0: `length` bytes as a write of `fill` left them, the chunk `length` long from offset 0. */
RIG int rig_read(struct rig *r, const struct rig_io *io)
{
    struct rig_call *c = mem_zalloc(sizeof *c);
    rig_read_begin(r, c, io);
    RIG_UNTIL(r, c->done);
    int rc = c->rc;
    if (rc == 0) {
        CHECK(c->data_good);
        CHECK(c->offset == io->offset - io->offset % 4096);
        for (size_t i = 0; i < io->length; i++) {
            size_t at = io->offset + i;
            if (at - c->offset >= c->data_len ||
                c->data[at - c->offset] != (uint8_t)(io->fill + at / 4096)) {
                rc = -EILSEQ;
                break;
            }
        }
    }
    rig_call_end(c);
    mem_free(c);
    return rc;
}

/* REMOVE as the metadata leader sends it: the test's own client speaks with its role here. */
/* io->data_id and `count` - 1 others, `step` apart. */
RIG int rig_remove_many(struct rig *r, const struct rig_io *io, unsigned count, int step)
{
    struct rig_call *c = mem_zalloc(sizeof *c);
    *c = (struct rig_call){.rig = r, .host = io->host, .as_meta = true};
    for (unsigned i = 1; i < count; i++) {
        CHECK(i <= ARRAY_COUNT(c->more));
        c->more[i - 1] = io->data_id + (uint64_t)((int64_t)i * step);
    }
    c->m.remove = (struct proto_remove_request){.route = rig_route(r, io),
                                                .data_id = io->data_id,
                                                .more = {.at = c->more, .count = count - 1}};
    c->call.opcode = PROTO_OP_remove;
    rig_in(r->client.loop, rig_call_inside, c);
    RIG_UNTIL(r, c->done);
    int rc = c->rc;
    CHECK(rc < 0 || c->length == count);
    mem_free(c);
    return rc;
}
RIG int rig_remove(struct rig *r, const struct rig_io *io)
{
    return rig_remove_many(r, io, 1, 1);
}

/* As the metadata leader. */
RIG void rig_revoke_begin(struct rig *r, struct rig_call *c, unsigned host)
{
    *c = (struct rig_call){.rig = r, .host = host, .as_meta = true};
    c->m.revoke = (struct proto_revoke_request){.chain = 1, .epoch = r->row[1].epoch};
    c->call.opcode = PROTO_OP_revoke;
    rig_in(r->client.loop, rig_call_inside, c);
}
RIG void rig_fence_begin(struct rig *r, struct rig_call *c, unsigned host, uint64_t cap_epoch)
{
    *c = (struct rig_call){.rig = r, .host = host, .as_meta = true};
    c->m.fence = (struct proto_fence_request){
        .session = RIG_SESSION, .cap_epoch = cap_epoch, .until_wall_ms = UINT64_MAX / 4};
    c->call.opcode = PROTO_OP_fence;
    rig_in(r->client.loop, rig_call_inside, c);
}
