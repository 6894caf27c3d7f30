/*
 * datanode/rig_storm_make_priv.h -- for tests only: anything that a client, a member or a metadata
 * server may send to a worker of rig_priv.h. Messages are those of the tables with random contents,
 * made likely here and there (a chain that there is, a capability that holds, checksums that fit),
 * so that they get further than the first check; and some are bent again on their wire.
 */
#pragma once

#include "datanode/rig_storm_world_priv.h"

/* ---- What is asked ---- */

RIG const struct proto_field *storm_field(const struct proto_type *t, const char *name)
{
    for (size_t i = 0; i < t->field_count; i++) {
        if (strcmp(t->fields[i].name, name) == 0) {
            return &t->fields[i];
        }
    }
    return NULL;
}
RIG void *storm_at(struct storm *s, const struct proto_type *t, const char *name, size_t size)
{
    const struct proto_field *f = storm_field(t, name);
    bool fits = f != NULL && (f->kind == PROTO_STRUCT ? f->type->size : f->width) == size;
    return fits ? (uint8_t *)s->record + f->offset : NULL;
}
RIG void storm_below(struct storm *s, const struct proto_type *t, const char *name, uint32_t limit)
{
    uint32_t *v = storm_at(s, t, name, sizeof *v);
    if (v != NULL) {
        *v %= limit;
    }
}
/* Clients speak of the first chain, a member of one in which it is somebody; mostly. */
RIG unsigned storm_chain(const struct storm *s, const struct storm_choice *x, bool member)
{
    bool syncs = s->opcode >= PROTO_OP_sync_begin && s->opcode <= PROTO_OP_sync_end;
    if (x->seed % 32 == 31) {
        return 1 + x->seed / 32 % RIG_CHAINS;
    }
    if (!member) {
        return 1;
    }
    return s->host == 2 ? 3 : syncs ? 4 : 2; /* storm_rows() */
}
/* Of few versions, which follow each other now and then; and an update's forms. */
RIG void storm_member_likely(struct storm *s, const struct proto_type *t,
                             const struct storm_choice *x)
{
    struct proto_identity *id = storm_at(s, t, "identity", sizeof *id);
    struct proto_identity *base = storm_at(s, t, "base", sizeof *base);
    uint8_t *form = storm_at(s, t, "form", 1), *kind = storm_at(s, t, "kind", 1);
    uint16_t *flags = storm_at(s, t, "chunk_flags", sizeof *flags);
    uint64_t *last = storm_at(s, t, "last_ver", sizeof *last);
    uint64_t ver = 1 + x->length % 4u;
    if (id != NULL) {
        *id = (struct proto_identity){.aepoch = 1, .ver = ver};
    }
    if (base != NULL) {
        *base = (struct proto_identity){.aepoch = ver > 1 ? 1 : 0, .ver = ver - 1};
    }
    if (kind != NULL) {
        *kind = x->seed % 4 < 3 ? PROTO_WRITE_AT : PROTO_WRITE_SET_LENGTH;
    }
    if (form != NULL) {
        *form = x->seed % 2 == 0 ? PROTO_FORWARD_DELTA : PROTO_FORWARD_WHOLE;
    }
    if (flags != NULL) {
        *flags &= CHUNK_FLAGS_ALL;
    }
    if (last != NULL) {
        *last %= 8;
    }
}
/* What a message needs to be looked at closely. */
RIG void storm_make_likely(struct storm *s, const struct proto_type *t,
                           const struct storm_choice *x, bool member)
{
    struct rig *r = &s->rig;
    struct proto_route *route = storm_at(s, t, "route", sizeof *route);
    struct proto_chunk *chunk = storm_at(s, t, "chunk", sizeof *chunk);
    struct proto_capability *cap = storm_at(s, t, "capability", sizeof *cap);
    uint64_t *data_id = storm_at(s, t, "data_id", sizeof *data_id);
    uint64_t *client = storm_at(s, t, "client", sizeof *client);
    uint64_t id = 100 + x->seed % 3 + s->turns / 2 * 3; /* what was removed never comes back */
    if (route != NULL && (x->bend & STORM_ROUTE) == 0) {
        unsigned chain = storm_chain(s, x, member);
        *route = (struct proto_route){
            .chain = chain, .epoch = r->row[chain].epoch, .attempt = route->attempt % 4};
    }
    if (chunk != NULL && (x->bend & STORM_CHUNK) == 0) {
        *chunk = (struct proto_chunk){.data_id = id, .index = x->seed % 2};
    }
    if (data_id != NULL && (x->bend & STORM_CHUNK) == 0) {
        *data_id = id;
    }
    if (cap != NULL && (x->bend & STORM_RIGHTS) == 0) {
        *cap = rig_capability(r, id);
    }
    if (cap != NULL && client != NULL && (x->bend & STORM_RIGHTS) == 0) {
        *client = cap->session;
    }
    storm_below(s, t, "offset", STORM_DATA);
    storm_below(s, t, "length", STORM_DATA);
    storm_below(s, t, "new_length", STORM_DATA);
    storm_below(s, t, "tgen", 3);
    storm_below(s, t, "wait_ms", 100);
    uint8_t *kind = storm_at(s, t, "kind", 1), *form = storm_at(s, t, "form", 1);
    if (kind != NULL) {
        *kind %= 5;
    }
    if (form != NULL) {
        *form %= 4;
    }
    if (member && x->seed % 16 != 15) {
        storm_member_likely(s, t, x);
    }
}
/* How much data such a message brings. */
RIG uint32_t storm_data_bytes(struct storm *s, const struct proto_type *t,
                              const struct storm_choice *x, uint32_t *offset)
{
    const uint32_t *length = storm_at(s, t, "length", sizeof *length);
    const uint32_t *whole = storm_at(s, t, "new_length", sizeof *whole);
    const uint8_t *form = storm_at(s, t, "form", 1), *kind = storm_at(s, t, "kind", 1);
    if (length == NULL || x->length >= 200) {
        return x->length * UINT32_C(17);
    }
    if (whole == NULL || form == NULL || kind == NULL) {
        return *length;
    }
    if (*form == PROTO_FORWARD_WHOLE) {
        *offset = 0;
        return *whole;
    }
    return *kind == PROTO_WRITE_SET_LENGTH ? 0 : *length;
}
/* Data of the length that the message names, mostly, and its checksums. */
RIG void storm_data(struct storm *s, struct storm_call *c, const struct proto_type *t,
                    const struct storm_choice *x)
{
    const struct proto_field *f = storm_field(t, "crcs");
    uint32_t none = 0, cells = 0;
    uint32_t *offset = storm_at(s, t, "offset", sizeof *offset);
    uint32_t *digest = storm_at(s, t, "digest", sizeof *digest);
    offset = offset == NULL ? &none : offset;
    if (f == NULL || f->kind != PROTO_U32S) {
        return;
    }
    uint32_t len = storm_data_bytes(s, t, x, offset), from = *offset;
    c->data = len == 0 ? NULL : buf_get(s->rig.pool, len);
    if (len > 0 && c->data == NULL) {
        return;
    }
    if (len > 0) {
        memset(c->data->at, x->seed & 0xff, len);
    }
    for (uint32_t at = 0; at < len && cells < ARRAY_COUNT(c->crc); cells++) {
        uint32_t n = (uint32_t)base_min(4096 - (from + at) % 4096, len - at);
        c->crc[cells] = crc32c(0, c->data->at + at, n);
        at += n;
    }
    if ((x->bend & STORM_SUMS) == 0) {
        const struct proto_u32s sums = {.at = c->crc, .count = cells};
        memcpy((uint8_t *)s->record + f->offset, &sums, sizeof sums);
        *(digest == NULL ? &none : digest) = chunk_digest(len, c->crc);
    }
    if (len == 0) {
        return;
    }
    c->call.data[0] = (struct slice){.buf = c->data, .at = c->data->at, .len = len};
    c->call.data_count = 1;
}
