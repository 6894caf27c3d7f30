/*
 * metanode/rig_storm_priv.h -- for tests only: a server that is sent anything behind a good
 * handshake: by clients with a session, by administrators, by targets. Messages are those of the
 * tables with random contents, made likely here and there, so that they get further than the first
 * check.
 */
#pragma once

#include "metanode/rig_session_priv.h"
#include "proto/sample.h"

#include <string.h>

#define STORM_RECORD 4096u
#define STORM_COUNT 4u /* elements of lists */
#define STORM_KINDS 3u

struct storm {
    struct rig rig;
    struct rand rand;
    struct mem_arena arena;
    uint64_t record[STORM_RECORD / 8];
    unsigned sent, good;
};

/* What would end the storm is left out: servers of the consensus trust each other. */
static inline bool storm_is_left_out(uint16_t opcode)
{
    return opcode == PROTO_OP_raft || opcode == PROTO_OP_raft_message ||
           opcode == PROTO_OP_shutdown || opcode == PROTO_OP_hello || opcode == PROTO_OP_auth;
}

static inline const struct proto_message *storm_pick(struct storm *s, uint32_t role)
{
    size_t count;
    const struct proto_message *all = proto_messages(&count), *m;
    bool fits;
    do {
        m = &all[rand_below(&s->rand, count)];
        bool may = (m->roles & role) != 0 || rand_chance(&s->rand, 1, 30);
        fits = may && m->reply != NULL && !storm_is_left_out(m->opcode);
    } while (!fits);
    return m;
}

static inline void storm_number(struct storm *s, const struct proto_field *f, uint64_t limit)
{
    uint64_t v = rand_below(&s->rand, limit);
    memcpy((uint8_t *)s->record + f->offset, &v, f->width); /* little-endian, as all here are */
}

static inline bool storm_is_called(const struct proto_field *f, const char *part)
{
    return strstr(f->name, part) != NULL;
}

static inline void storm_make_likely(struct storm *s, struct rig_client *c,
                                     const struct proto_field *f)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    uint8_t *at = (uint8_t *)s->record + f->offset;
    if (f->kind == PROTO_STRUCT && f->type == &proto_op_type) {
        const struct proto_op op = rig_op(c, (uint32_t)rand_below(&s->rand, RIG_SLOTS));
        memcpy(at, &op, sizeof op);
    } else if (f->kind == PROTO_STRUCT && f->type == &proto_caller_type) {
        const struct proto_caller caller = rig_caller(c);
        memcpy(at, &caller, sizeof caller);
    } else if (f->kind == PROTO_NAME) {
        const struct proto_bytes name = proto_bytes_text(names[rand_below(&s->rand, 4)]);
        memcpy(at, &name, sizeof name);
    } else if (f->width > 0 && (storm_is_called(f, "ino") || storm_is_called(f, "parent"))) {
        storm_number(s, f, 12);
    } else if (f->width > 0 && (storm_is_called(f, "target") || storm_is_called(f, "chain"))) {
        storm_number(s, f, 8);
    } else if (f->width > 1 && (storm_is_called(f, "size") || storm_is_called(f, "offset"))) {
        storm_number(s, f, 20000);
    } else if (f->width > 1 && (storm_is_called(f, "flags") || storm_is_called(f, "mask"))) {
        storm_number(s, f, 32);
    } else if (f->width > 0 && (storm_is_called(f, "type") || storm_is_called(f, "mode"))) {
        storm_number(s, f, f->width == 1 ? 4 : 512);
    }
}

static inline void storm_send(struct storm *s, unsigned i, const struct proto_message *m)
{
    struct rig_client *c = &s->rig.client[i];
    const struct proto_type *t = m->request;
    CHECK(t->size <= sizeof s->record);
    mem_arena_reset(&s->arena);
    int rc = proto_sample(t, &s->rand, STORM_COUNT, &s->arena, s->record);
    CHECK(rc == 0);
    for (size_t k = 0; k < t->field_count; k++) {
        if (!rand_chance(&s->rand, 1, 10)) {
            storm_make_likely(s, c, &t->fields[k]);
        }
    }
    c->flags = PEER_CALL_RAW;
    c->timeout_ms = 100;
    s->good += rig_call(c, m->opcode, s->record) == 0 ? 1 : 0;
    s->sent++;
    CHECK(s->rig.ended == 0);
}

/* Who was shut out comes anew. */
static inline void storm_come_back(struct storm *s)
{
    struct rig_client *c = &s->rig.client[0];
    struct proto_lookup_request q = {
        .caller = rig_caller(c), .parent = PROTO_ROOT_INO, .name = proto_bytes_text("nobody")};
    c->flags = PEER_CALL_AGAIN;
    c->timeout_ms = 5000;
    if (rig_call(c, PROTO_OP_lookup, &q) != -ENOENT) {
        c->verifier++;
        memset(c->sequence, 0, sizeof c->sequence);
        rig_open(c);
    }
}

/* A server that serves; a client with a session, an administrator, a target. */
static inline struct storm *storm_new(uint64_t seed)
{
    static const uint32_t roles[STORM_KINDS] = {0, PROTO_ROLE_ADMIN, PROTO_ROLE_TARGET};
    struct storm *s = mem_zalloc(sizeof *s);
    CHECK(s != NULL);
    rand_seed(&s->rand, seed);
    mem_arena_init(&s->arena, 4u << 20);
    rig_new(&s->rig, seed);
    rig_serve(&s->rig);
    rig_client_ready(&s->rig, 0);
    for (unsigned i = 1; i < STORM_KINDS; i++) {
        s->rig.client[i].role = roles[i];
        rig_client_start(&s->rig, i);
    }
    return s;
}

/* It still does what it is for, and another server makes the same of its log. */
static inline void storm_over(struct storm *s)
{
    storm_come_back(s);
    s->rig.client[0].timeout_ms = 20000;
    struct proto_create_request q = rig_file(&s->rig.client[0], "at last", "good");
    s->rig.client[0].flags = PEER_CALL_AGAIN;
    CHECK(rig_call(&s->rig.client[0], PROTO_OP_create, &q) == 0);
    rig_over(&s->rig);
    mem_arena_fini(&s->arena);
    mem_free(s);
}
