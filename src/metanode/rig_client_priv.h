/* metanode/rig_client_priv.h -- for tests only: a raw client of rig_priv.h. */
#pragma once

#include "metanode/rig_server_priv.h"

static inline void rig_resumed(struct peer_call *call, const struct peer_reply *reply)
{
    struct rig_client *c = container_of(call, struct rig_client, resume_call);
    c->resumes += reply->rc == 0;
}
/* A session goes on by itself on every new connection. */
static inline void rig_client_up(struct peer_user *u, struct peer_link *l)
{
    struct rig_client *c = container_of(u, struct rig_client, user);
    (void)l;
    if (c->session != 0 && !peer_call_active(&c->resume_call)) {
        c->resume = (struct proto_session_resume_request){
            .session = c->session, .verifier = c->verifier, .generation = c->generation};
        c->resume_call = (struct peer_call){.done = rig_resumed,
                                            .request = &c->resume,
                                            .opcode = PROTO_OP_session_resume,
                                            .flags = PEER_CALL_AGAIN};
        peer_call(c->peer, &c->resume_call);
    }
}
static inline void rig_client_down(struct peer_user *u, struct peer_link *l, int rc,
                                   const char *reason)
{
    (void)u;
    (void)l;
    (void)rc;
    (void)reason;
}
static const struct peer_user_ops rig_client_ops = {.up = rig_client_up, .down = rig_client_down};
static inline void rig_map_changed(struct peer_user *u, struct peer_link *l, const void *body)
{
    (void)l;
    (void)body;
    container_of(u, struct rig_client, user)->maps++;
}
static inline void rig_shared_now(struct peer_user *u, struct peer_link *l, const void *body)
{
    (void)l;
    (void)body;
    container_of(u, struct rig_client, user)->shared++;
}
static inline void rig_recall(struct peer_user *u, struct peer_request *q)
{
    struct rig_client *c = container_of(u, struct rig_client, user);
    const struct proto_recall_request *body = q->body;
    struct proto_recall_reply answer = {.left = c->left};
    c->left -= base_min(c->left, c->flushes);
    c->recalls++;
    c->recalled_ino = body->ino;
    if (c->recall_rc < 0) {
        peer_request_fail(q, c->recall_rc, NULL);
        return;
    }
    peer_request_answer(q, &answer, NULL);
}
static inline void rig_query(struct peer_user *u, struct peer_request *q)
{
    struct rig_client *c = container_of(u, struct rig_client, user);
    const struct proto_query_reply answer = {
        .known = c->written > 0, .size = c->written, .mtime_ns = INT64_MAX / 2};
    c->queries++;
    peer_request_answer(q, &answer, NULL);
}
static inline void rig_inval_answer(struct rig_client *c, struct peer_request *q)
{
    struct proto_inval_ack ack = {.bits = c->acks, .mtime_ns = c->mtime_ns};
    const struct proto_inval_reply answer = {.acks = {.at = &ack, .count = 1}};
    peer_request_answer(q, &answer, NULL);
}
static inline void rig_inval(struct peer_user *u, struct peer_request *q)
{
    struct rig_client *c = container_of(u, struct rig_client, user);
    const struct proto_inval_request *body = q->body;
    CHECK(body->items.count == 1);
    c->invals++;
    c->inval_bits = body->items.at[0].bits;
    c->unlinks += (c->inval_bits & PROTO_INVAL_UNLINK) != 0 ? 1 : 0;
    if (c->mute && c->muted == NULL) { /* asked about something else it answers */
        c->muted = q;
        return;
    }
    rig_inval_answer(c, q);
}
static inline void rig_unmute_in(void *ctx)
{
    struct rig_client *c = ctx;
    struct peer_request *q = c->muted;
    c->mute = false;
    c->muted = NULL;
    if (q != NULL) {
        rig_inval_answer(c, q);
    }
}
/* What it was asked while it was mute it answers now. */
static inline void rig_unmute(struct rig_client *c)
{
    loop_sim_enter(c->env.loop, rig_unmute_in, c);
}
static const struct peer_handler rig_client_handlers[] = {
    {.opcode = PROTO_OP_inval, .request = rig_inval},
    {.opcode = PROTO_OP_query, .request = rig_query},
    {.opcode = PROTO_OP_map_changed, .push = rig_map_changed},
    {.opcode = PROTO_OP_shared_now, .push = rig_shared_now},
    {.opcode = PROTO_OP_recall, .request = rig_recall},
};

static inline void rig_client_start_in(void *ctx)
{
    struct rig_client *c = ctx;
    struct peer_options opt = {.env = &c->env,
                               .user = &c->user,
                               .handlers = rig_client_handlers,
                               .handler_count = ARRAY_COUNT(rig_client_handlers),
                               .secrets = c->rig->secrets,
                               .cluster_id = c->rig->cluster,
                               .role = c->role == 0 ? PROTO_ROLE_CLIENT : c->role,
                               .name = "client",
                               .addresses = &c->rig->address,
                               .address_count = 1,
                               .wants_leader = true,
                               .session = c->session,
                               .generation = ++c->generation};
    c->user.ops = &rig_client_ops;
    CHECK(peer_new(&opt, &c->peer) == 0);
    peer_start(c->peer);
}
static inline void rig_client_start(struct rig *r, unsigned i)
{
    struct rig_client *c = &r->client[i];
    rig_process(r, "client", 10 + i, &c->env);
    mem_arena_init(&c->arena, 8u << 20);
    c->bytes = mem_alloc(2u << 20);
    CHECK(c->bytes != NULL);
    c->uuid = (struct uuid){{0xc1, (uint8_t)i}};
    c->verifier = 77 + i;
    loop_sim_enter(c->env.loop, rig_client_start_in, c);
}
static inline void rig_call_done(struct peer_call *call, const struct peer_reply *reply)
{
    struct rig_client *c = container_of(call, struct rig_client, call);
    const struct proto_type *type = proto_message_find(c->opcode)->reply;
    c->done = true;
    c->rc = reply->rc;
    c->unknown = reply->unknown;
    c->reply = NULL;
    if (reply->rc == 0) { /* kept beyond the callback by way of its encoding */
        struct wire_writer w = wire_writer_over(c->bytes, 2u << 20);
        CHECK(proto_encode(type, reply->body, &w) == 0);
        c->reply = c->bytes; /* decoded outside of the process */
        c->call.wire.body_len = w.len;
    }
}
static inline void rig_call_in(void *ctx)
{
    struct rig_client *c = ctx;
    c->call = (struct peer_call){.done = rig_call_done,
                                 .request = c->request,
                                 .opcode = c->opcode,
                                 .flags = c->flags,
                                 .timeout_ms = c->timeout_ms};
    peer_call(c->peer, &c->call);
}
static inline bool rig_call_is_done(void *ctx)
{
    return ((struct rig_client *)ctx)->done;
}
static inline void rig_begin(struct rig_client *c, uint16_t opcode, const void *request)
{
    c->opcode = opcode;
    c->request = request;
    c->done = false;
    loop_sim_enter(c->env.loop, rig_call_in, c);
}
static inline int rig_end(struct rig_client *c)
{
    CHECK(rig_until(c->rig, rig_call_is_done, c));
    if (c->rc == 0) {
        const struct proto_type *type = proto_message_find(c->opcode)->reply;
        mem_arena_reset(&c->arena);
        c->reply = mem_arena_alloc(&c->arena, type->size + 1);
        CHECK(c->reply != NULL);
        CHECK((proto_decode(type, c->bytes, c->call.wire.body_len, &c->arena, c->reply)) == 0);
    }
    return c->rc;
}
static inline int rig_call(struct rig_client *c, uint16_t opcode, const void *request)
{
    rig_begin(c, opcode, request);
    return rig_end(c);
}
