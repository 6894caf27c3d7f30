/*
 * metanode/storm_test.c -- a server that is sent anything behind a good handshake: by clients with
 * a session, by administrators, by targets and masters. Messages are those of the tables with
 * random contents, made likely here and there, so that they get further than the first check. It
 * answers or refuses, goes on, and what its log says is what another server makes of it.
 */
#include "metanode/metanode_priv.h"

#include "metanode/rig_session_priv.h"
#include "proto/sample.h"
#include "testing/testing.h"

#include <string.h>

#define MESSAGES 1500u
#define RECORD 4096u
#define COUNT 4u /* elements of lists */
#define KINDS 3u

struct storm {
    struct rig rig;
    struct rand rand;
    struct mem_arena arena;
    uint64_t record[RECORD / 8];
    unsigned sent, good;
};

/* What would end the storm is left out: servers of the consensus trust each other. */
static bool is_left_out(uint16_t opcode)
{
    return opcode == PROTO_OP_raft || opcode == PROTO_OP_raft_message ||
           opcode == PROTO_OP_shutdown || opcode == PROTO_OP_hello || opcode == PROTO_OP_auth;
}

static const struct proto_message *pick(struct storm *s, uint32_t role)
{
    size_t count;
    const struct proto_message *all = proto_messages(&count), *m;
    bool fits;
    do {
        m = &all[rand_below(&s->rand, count)];
        bool may = (m->roles & role) != 0 || rand_chance(&s->rand, 1, 30);
        fits = may && m->reply != NULL && !is_left_out(m->opcode);
    } while (!fits);
    return m;
}

static void number(struct storm *s, const struct proto_field *f, uint64_t limit)
{
    uint64_t v = rand_below(&s->rand, limit);
    memcpy((uint8_t *)s->record + f->offset, &v, f->width); /* little-endian, as all here are */
}

static bool is_called(const struct proto_field *f, const char *part)
{
    return strstr(f->name, part) != NULL;
}

static void make_likely(struct storm *s, struct rig_client *c, const struct proto_field *f)
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
    } else if (f->width > 0 && (is_called(f, "ino") || is_called(f, "parent"))) {
        number(s, f, 12);
    } else if (f->width > 0 && (is_called(f, "target") || is_called(f, "chain"))) {
        number(s, f, 8);
    } else if (f->width > 1 && (is_called(f, "size") || is_called(f, "offset"))) {
        number(s, f, 20000);
    } else if (f->width > 1 && (is_called(f, "flags") || is_called(f, "mask"))) {
        number(s, f, 32);
    } else if (f->width > 0 && (is_called(f, "type") || is_called(f, "mode"))) {
        number(s, f, f->width == 1 ? 4 : 512);
    }
}

static void send_one(struct storm *s, unsigned i)
{
    struct rig_client *c = &s->rig.client[i];
    const struct proto_message *m = pick(s, c->role == 0 ? PROTO_ROLE_CLIENT : c->role);
    const struct proto_type *t = m->request;
    CHECK_TRUE(t->size <= sizeof s->record);
    mem_arena_reset(&s->arena);
    CHECK_OK(proto_sample(t, &s->rand, COUNT, &s->arena, s->record));
    for (size_t k = 0; k < t->field_count; k++) {
        if (!rand_chance(&s->rand, 1, 10)) {
            make_likely(s, c, &t->fields[k]);
        }
    }
    c->flags = PEER_CALL_RAW;
    c->timeout_ms = 100;
    s->good += rig_call(c, m->opcode, s->record) == 0 ? 1 : 0;
    s->sent++;
    CHECK_EQ(s->rig.ended, 0);
}

/* Who was shut out comes anew. */
static void come_back(struct storm *s)
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

TEST(whatever_comes_the_server_goes_on)
{
    static const uint32_t roles[KINDS] = {0, PROTO_ROLE_ADMIN, PROTO_ROLE_TARGET};
    struct storm *s = mem_zalloc(sizeof *s);
    CHECK_TRUE(s != NULL);
    rand_seed(&s->rand, testing_seed());
    mem_arena_init(&s->arena, 4u << 20);
    rig_new(&s->rig, testing_seed());
    rig_serve(&s->rig);
    rig_client_ready(&s->rig, 0);
    for (unsigned i = 1; i < KINDS; i++) {
        s->rig.client[i].role = roles[i];
        rig_client_start(&s->rig, i);
    }
    for (unsigned n = 0; n < MESSAGES; n++) {
        if (n % 50 == 49) {
            come_back(s);
        }
        unsigned who = rand_chance(&s->rand, 2, 3) ? 0 : (unsigned)rand_below(&s->rand, KINDS);
        send_one(s, who);
    }
    come_back(s);
    s->rig.client[0].timeout_ms = 20000;
    struct proto_create_request q = rig_file(&s->rig.client[0], "at last", "good");
    s->rig.client[0].flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(&s->rig.client[0], PROTO_OP_create, &q));
    CHECK_TRUE(s->good > s->sent / 20);
    rig_over(&s->rig);
    mem_arena_fini(&s->arena);
    mem_free(s);
}
