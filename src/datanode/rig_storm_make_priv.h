/*
 * datanode/rig_storm_make_priv.h -- for tests only: anything that a client, a member or a metadata
 * server may send to a worker of rig_priv.h. Messages are those of the tables with random contents,
 * made likely here and there (a chain that there is, a capability that holds, checksums that fit),
 * so that they get further than the first check; and some are bent again on their wire.
 */
#pragma once

#include "datanode/rig_world_priv.h"
#include "proto/sample.h"

#define STORM_CALLS 48u
#define STORM_BODY 65536u
#define STORM_DATA 12288u
#define STORM_RECORD 4096u
#define STORM_COUNT 6u /* elements of lists */

/* What decides about one message. */
struct storm_choice {
    uint8_t opcode, role, bend, length;
    uint16_t seed;
};
enum storm_bend {
    STORM_ROUTE = 1,  /* as drawn: of no chain, mostly */
    STORM_RIGHTS = 2, /* the same of capabilities */
    STORM_SUMS = 4,
    STORM_CHUNK = 8,
    STORM_BITS = 16, /* some bits of the body */
    STORM_SHORT = 32 /* it ends early */
};
struct storm_call {
    struct net_conn_call call;
    bool busy;
    struct buf *data;
    uint8_t body[STORM_BODY];
    uint32_t crc[STORM_DATA / 4096 + 2];
};
struct storm {
    struct rig rig;
    struct peer_user user;
    struct peer *member[RIG_TARGETS + 1]; /* ways to each worker as another target */
    struct storm_call call[STORM_CALLS];
    unsigned next, sent, answered;
    uint64_t record[STORM_RECORD / 8];
};

/* ---- Who asks ---- */

RIG void storm_member_inside(void *ctx)
{
    struct storm *s = ctx;
    for (unsigned i = 1; i <= s->rig.opt.targets; i++) {
        struct net_address at = rig_address(i);
        const struct peer_options opt = {.env = &s->rig.client.env,
                                         .user = &s->user,
                                         .secrets = rig_secrets(),
                                         .cluster_id = rig_cluster(),
                                         .role = PROTO_ROLE_TARGET,
                                         .name = "member",
                                         .addresses = &at,
                                         .address_count = 1,
                                         .pool = s->rig.pool,
                                         .session = RIG_TARGETS, /* not in the chain */
                                         .generation = 1};
        s->user.ops = &rig_nothing_ops;
        CHECK(peer_new(&opt, &s->member[i]) == 0);
        peer_start(s->member[i]);
    }
}
RIG struct storm *storm_new(unsigned targets, enum datanode_engine engine, uint64_t seed)
{
    struct storm *s = mem_zalloc(sizeof *s);
    CHECK(s != NULL);
    rig_chain(&s->rig, targets, engine, seed);
    rig_in(s->rig.client.loop, storm_member_inside, s);
    rig_for_ms(&s->rig, 200);
    return s;
}
RIG struct storm *storm_free(struct storm *s)
{
    rig_close(&s->rig);
    mem_free(s);
    return NULL;
}

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
/* What a message needs to be looked at closely. */
RIG void storm_make_likely(struct storm *s, const struct proto_type *t,
                           const struct storm_choice *x)
{
    struct rig *r = &s->rig;
    struct proto_route *route = storm_at(s, t, "route", sizeof *route);
    struct proto_chunk *chunk = storm_at(s, t, "chunk", sizeof *chunk);
    struct proto_capability *cap = storm_at(s, t, "capability", sizeof *cap);
    uint64_t *data_id = storm_at(s, t, "data_id", sizeof *data_id);
    uint64_t id = 100 + x->seed % 3;
    if (route != NULL && (x->bend & STORM_ROUTE) == 0) {
        *route = (struct proto_route){
            .chain = 1, .epoch = r->row[1].epoch, .attempt = route->attempt % 4};
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
}
/* Data of the length that the message names, mostly, and its checksums. */
RIG void storm_data(struct storm *s, struct storm_call *c, const struct proto_type *t,
                    const struct storm_choice *x)
{
    const struct proto_field *f = storm_field(t, "crcs");
    const uint32_t *offset = storm_at(s, t, "offset", sizeof *offset);
    const uint32_t *length = storm_at(s, t, "length", sizeof *length);
    uint32_t from = offset == NULL ? 0 : *offset, cells = 0;
    uint32_t len = length != NULL && x->length < 200 ? *length : x->length * UINT32_C(17);
    if (f == NULL || f->kind != PROTO_U32S) {
        return;
    }
    c->data = len == 0 ? NULL : buf_get(s->rig.pool, len);
    if (c->data == NULL) {
        return;
    }
    memset(c->data->at, x->seed & 0xff, len);
    for (uint32_t at = 0; at < len && cells < ARRAY_COUNT(c->crc); cells++) {
        uint32_t n = (uint32_t)base_min(4096 - (from + at) % 4096, len - at);
        c->crc[cells] = crc32c(0, c->data->at + at, n);
        at += n;
    }
    if ((x->bend & STORM_SUMS) == 0) {
        const struct proto_u32s sums = {.at = c->crc, .count = cells};
        memcpy((uint8_t *)s->record + f->offset, &sums, sizeof sums);
    }
    c->call.data[0] = (struct slice){.buf = c->data, .at = c->data->at, .len = len};
    c->call.data_count = 1;
}
