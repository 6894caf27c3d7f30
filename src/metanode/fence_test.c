#include "metanode/rig_session_priv.h"
#include "metanode/rig_target_priv.h"
#include "testing/testing.h"

/* Many writers die at once (coherence.md L6). */

#define DEAD 300u /* more than one page of records */

/* A command, as if a client or this server had sent it. */
struct command {
    struct metanode_waiter waiter;
    struct rig *rig;
    const struct proto_type *type;
    const void *body;
    uint16_t kind;
    bool seal, done;
    int rc;
    uint64_t id; /* of what it made */
};

static void command_done(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    struct command *c = container_of(w, struct command, waiter);
    c->done = true;
    c->rc = rc < 0 ? rc : reply->rc;
    c->id = rc < 0 ? 0 : reply->session != 0 ? reply->session : reply->id;
}

static void command_in(void *ctx)
{
    struct command *c = ctx;
    uint8_t bytes[4096];
    struct metanode_proposal *p;
    struct wire_writer w = wire_writer_over(bytes, sizeof bytes);
    CHECK_OK(proto_encode(c->type, c->body, &w));
    if (c->seal) {
        CHECK_OK(proto_op_seal(c->kind, bytes, w.len));
    }
    CHECK_OK(metanode_command(c->rig->m, c->kind, proto_bytes_of(bytes, w.len), NULL, &p));
    c->waiter.done = command_done;
    metanode_submit(p, &c->waiter);
}

static bool command_is_done(void *ctx)
{
    return ((struct command *)ctx)->done;
}

static uint64_t command(struct rig *r, uint16_t kind, const struct proto_type *type,
                        const void *body, bool seal)
{
    struct command c = {.rig = r, .kind = kind, .type = type, .body = body, .seal = seal};
    loop_sim_enter(r->loop, command_in, &c);
    CHECK_TRUE(rig_until(r, command_is_done, &c));
    CHECK_OK(c.rc);
    return c.id;
}

/* A session that writes a file; nobody is connected to it. */
static uint64_t writer_new(struct rig *r, uint32_t i)
{
    struct proto_session_open_request open = {.client.bytes = {9, (uint8_t)i, (uint8_t)(i >> 8)},
                                              .verifier = i};
    uint64_t id = command(r, PROTO_OP_session_open, &proto_session_open_request_type, &open, false);
    struct proto_credential_request cred = {.session = id};
    uint32_t root =
        (uint32_t)command(r, PROTO_OP_credential, &proto_credential_request_type, &cred, false);
    struct proto_create_request create = {
        .op = {.session = id, .sequence = 1, .cred = root},
        .parent = PROTO_ROOT_INO,
        .name = proto_bytes_text("x"),
        .type = PROTO_INODE_FILE,
        .mode = 0644,
        .flags = PROTO_CREATE_ORPHAN | PROTO_CREATE_WOPEN,
    };
    (void)command(r, PROTO_OP_create, &proto_create_request_type, &create, true);
    return id;
}

static bool is_leased(void *ctx)
{
    const struct rig *r = ctx;
    return r->target[0].id != 0 && r->target[1].id != 0 &&
           loop_timer_active(&metanode_target_find(r->m, r->target[0].id)->expiry) &&
           loop_timer_active(&metanode_target_find(r->m, r->target[1].id)->expiry);
}

/* Every one of them is shut out where it could still write before anybody writes again, and that
 * does not wait for a data node that is away. */
TEST(L6_every_one_of_many_dead_writers_is_shut_out)
{
    struct rig r;
    uint64_t dead[DEAD];
    rig_new(&r, testing_seed());
    rig_serve(&r);
    rig_target_start(&r, 0, false);
    rig_target_start(&r, 1, false);
    CHECK_TRUE(rig_until(&r, is_leased, &r));
    for (uint32_t i = 0; i < DEAD; i++) {
        dead[i] = writer_new(&r, i);
    }
    rig_target_kill(&r, 1);
    rig_run(&r, 5 * RIG_SECOND); /* its lease is over */
    for (uint32_t i = 0; i < DEAD; i++) {
        struct namespace_expire end = {.session = dead[i]};
        (void)command(&r, NAMESPACE_EXPIRE, &namespace_expire_type, &end, false);
        CHECK_TRUE(r.m->cleanup.fences > 0); /* not before they are told */
    }
    rig_run(&r, 2 * RIG_SECOND);
    CHECK_EQ(r.m->cleanup.fences, 0);
    CHECK_EQ(r.target[0].fences, DEAD);
    rig_over(&r);
}
