/* datanode/rig_storm_priv.h -- for tests only: a storm of what rig_storm_make_priv.h makes. */
#pragma once

#include "datanode/rig_storm_make_priv.h"

#define STORM_WAITS 100u

/* ---- Asking ---- */

struct storm_sending {
    struct storm *storm;
    struct storm_choice x;
    unsigned host;
};
RIG void storm_answered(struct net_conn_call *call, const struct net_conn_reply *r)
{
    struct storm_call *c = container_of(call, struct storm_call, call);
    if (c->member && r->rc == 0) {
        c->storm->good[(call->opcode - PROTO_OP_write) % STORM_KINDS]++;
    }
    c->busy = false;
    c->data = buf_unref(c->data);
}
/* One of those that may; now and then somebody else. */
RIG uint32_t storm_role(const struct storm_choice *x, uint32_t roles)
{
    uint32_t first = roles & (~roles + 1), last = roles & ~first;
    if (x->role >= 230) {
        return UINT32_C(1) << (x->role % 8);
    }
    return last != 0 && x->role % 2 == 0 ? last : first;
}
RIG struct net_conn *storm_conn(struct storm *s, unsigned host, uint32_t roles)
{
    const struct rig_target *t = &s->rig.target[host];
    const struct peer *p = (roles & PROTO_ROLE_TARGET) != 0   ? s->member[host]
                           : (roles & PROTO_ROLE_CLIENT) != 0 ? t->client
                                                              : t->meta_client;
    const struct peer_link *l = peer_link_of(p, 0);
    return l == NULL ? NULL : l->conn;
}
RIG size_t storm_body(struct storm *s, struct storm_call *c, const struct proto_type *t,
                      const struct storm_choice *x)
{
    struct rand rand;
    struct mem_arena a;
    struct wire_writer w = wire_writer_over(c->body, sizeof c->body);
    rand_seed(&rand, x->seed);
    mem_arena_init(&a, 4u << 20);
    CHECK(t->size <= sizeof s->record);
    int rc = proto_sample(t, &rand, STORM_COUNT, &a, s->record);
    CHECK(rc == 0);
    storm_make_likely(s, t, x, c->member);
    storm_data(s, c, t, x);
    rc = proto_encode(t, s->record, &w);
    CHECK(rc == 0);
    mem_arena_fini(&a);
    for (unsigned i = 0; (x->bend & STORM_BITS) != 0 && w.len > 0 && i < 1 + x->seed % 5u; i++) {
        c->body[rand_below(&rand, w.len)] ^= (uint8_t)(1u << rand_below(&rand, 8));
    }
    return (x->bend & STORM_SHORT) != 0 ? rand_below(&rand, w.len + 1) : w.len;
}
/* Mostly one that workers know. */
RIG const struct proto_message *storm_message(uint8_t choice)
{
    size_t count, own = 0;
    const struct proto_message *all = proto_messages(&count);
    for (size_t i = 0; i < count; i++) {
        own += all[i].opcode >= PROTO_OP_write && all[i].opcode <= PROTO_OP_fence;
    }
    for (size_t i = 0, nth = choice % own; i < count && choice < 240; i++) {
        bool known = all[i].opcode >= PROTO_OP_write && all[i].opcode <= PROTO_OP_fence;
        if (known && nth-- == 0) {
            return &all[i];
        }
    }
    return &all[choice % count];
}
/* That the sender of an update has all of it (R14), or not. */
RIG void storm_trailer(struct storm *s, struct net_conn *conn, const struct storm_choice *x)
{
    const struct proto_forward_request *f = (const void *)s->record;
    const struct proto_forward_trailer_push m = {
        .route = f->route, .chunk = f->chunk, .identity = f->identity, .ok = x->role % 8 != 0};
    uint8_t body[256];
    struct wire_writer w = wire_writer_over(body, sizeof body);
    int rc = proto_encode(&proto_forward_trailer_push_type, &m, &w);
    CHECK(rc == 0);
    rc = net_conn_push(conn, PROTO_OP_forward_trailer, 0, body, w.len);
    CHECK(rc <= 0);
}
RIG void storm_send_inside(void *ctx)
{
    const struct storm_sending *q = ctx;
    struct storm *s = q->storm;
    const struct proto_message *m = storm_message(q->x.opcode);
    uint32_t role = storm_role(&q->x, m->roles);
    struct net_conn *conn = storm_conn(s, q->host, role);
    struct storm_call *c = &s->call[s->next++ % STORM_CALLS];
    /* Rows come from a leader, and are believed. */
    if (conn == NULL || c->busy || !net_conn_is_open(conn) || m->opcode == PROTO_OP_row_changed) {
        return;
    }
    c->call = (struct net_conn_call){
        .done = storm_answered, .opcode = m->opcode, .timeout_ms = 100, .body = c->body};
    s->host = q->host;
    s->opcode = m->opcode;
    c->storm = s;
    c->member = (role & PROTO_ROLE_TARGET) != 0;
    c->call.body_len = storm_body(s, c, m->request, &q->x);
    s->sent++;
    if (m->reply == NULL) {
        int rc = net_conn_push(conn, m->opcode, 0, c->body, c->call.body_len);
        CHECK(rc <= 0);
        c->data = buf_unref(c->data);
        return;
    }
    c->busy = true;
    net_conn_call(conn, &c->call);
    if (m->opcode == PROTO_OP_forward && q->x.role % 16 != 15) {
        storm_trailer(s, conn, &q->x);
    }
}
RIG bool storm_is_cut(const struct storm_sending *q)
{
    uint32_t role = storm_role(&q->x, storm_message(q->x.opcode)->roles);
    const struct net_conn *conn = storm_conn(q->storm, q->host, role);
    return conn == NULL || !net_conn_is_open(conn);
}
RIG void storm_send(struct storm *s, unsigned host, const struct storm_choice *x)
{
    struct storm_sending q = {.storm = s, .x = *x, .host = host};
    if ((x->bend & STORM_TURN) != 0) {
        storm_rows(s);
        rig_for_ms(&s->rig, 5);
    }
    /* Whoever was sent nonsense has closed the link: a new one takes a while. */
    for (unsigned i = 0; i < STORM_WAITS && storm_is_cut(&q); i++) {
        rig_for_ms(&s->rig, 20);
    }
    rig_in(s->rig.client.loop, storm_send_inside, &q);
}

/* All have answered or given up, and the chain does what it is for. */
RIG void storm_over(struct storm *s)
{
    struct rig *r = &s->rig;
    rig_for_ms(r, 2000);
    for (unsigned i = 0; i < STORM_CALLS; i++) {
        CHECK(!s->call[i].busy);
    }
    rig_row(r, 1, "1s 2s"); /* who was told to leave is back */
    RIG_UNTIL(r, rig_settled(r, 1));
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 99, .length = 8192, .fill = 3};
    int rc = -EAGAIN;
    for (unsigned i = 0; i < 20 && rc < 0; i++) { /* rows reach the client first, at times */
        rc = rig_write(r, &io);
        io.retry = true;
    }
    CHECK(rc == 0);
    CHECK(rig_sync(r, &io) == 0);
    for (io.host = 1; io.host <= r->opt.targets; io.host++) {
        CHECK(rig_read(r, &io) == 0);
    }
}
