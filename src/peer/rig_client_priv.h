/* peer/rig_client_priv.h -- for tests only: the other side of rig_priv.h. */
#pragma once

#include "peer/rig_server_priv.h"

struct rig_client {
    struct peer_user user;
    struct env env;
    struct peer_options opt;
    struct peer *peer;
    struct buf_pool *pool;
    struct net_address addresses[4];
    unsigned ups, downs, pushes, queries;
    int down_rc;
};

static inline void rig_query(struct peer_user *u, struct peer_request *r)
{
    struct rig_client *c = container_of(u, struct rig_client, user);
    const struct proto_query_request *q = r->body;
    const struct proto_query_reply reply = {.known = true, .size = q->ino};
    c->queries++;
    peer_request_answer(r, &reply, NULL);
}
static inline void rig_map_changed(struct peer_user *u, struct peer_link *l, const void *body)
{
    const struct proto_map_changed_push *m = body;
    CHECK(l->slot == 0 && m->epoch == 77);
    container_of(u, struct rig_client, user)->pushes++;
}
static inline void rig_client_up(struct peer_user *u, struct peer_link *l)
{
    struct rig_client *c = container_of(u, struct rig_client, user);
    c->ups++;
    CHECK(l->conn != NULL && peer_link_of(c->peer, l->slot) == l);
}
static inline void rig_client_down(struct peer_user *u, struct peer_link *l, int rc,
                                   const char *reason)
{
    struct rig_client *c = container_of(u, struct rig_client, user);
    CHECK(l->conn == NULL && reason != NULL);
    c->downs++;
    c->down_rc = rc;
}
static const struct peer_user_ops rig_client_ops = {.up = rig_client_up, .down = rig_client_down};
static const struct peer_handler rig_client_handlers[] = {
    {.opcode = PROTO_OP_query, .request = rig_query},
    {.opcode = PROTO_OP_map_changed, .push = rig_map_changed},
};
/* Within the process of env.loop; what `opt` should differ in is set before. */
static inline void rig_client_start(struct rig_client *c)
{
    const struct buf_pool_options pool = {.limit_bytes = 64u << 20, .max_size = 4u << 20};
    c->user.ops = &rig_client_ops;
    c->pool = buf_pool_new(&pool);
    CHECK(c->pool != NULL);
    c->opt.env = &c->env;
    c->opt.user = &c->user;
    c->opt.handlers = rig_client_handlers;
    c->opt.handler_count = ARRAY_COUNT(rig_client_handlers);
    if (uuid_is_zero(&c->opt.cluster_id) && c->opt.role != PROTO_ROLE_ADMIN) {
        c->opt.cluster_id = rig_cluster(1);
    }
    c->opt.role = c->opt.role == 0 ? PROTO_ROLE_CLIENT : c->opt.role;
    c->opt.name = "rig client";
    c->opt.addresses = c->addresses;
    c->opt.pool = c->pool;
    if (!c->opt.secrets.server.known && !c->opt.secrets.client.known) {
        rig_secrets(&c->opt.secrets);
    }
    int rc = peer_new(&c->opt, &c->peer);
    CHECK(rc == 0);
    peer_start(c->peer);
    CHECK(c->ups == 0);
}
static inline void rig_client_end(struct rig_client *c)
{
    c->peer = peer_free(c->peer);
}
static inline void rig_client_pool_end(struct rig_client *c)
{
    c->pool = buf_pool_free(c->pool);
}

/* One call: a ping, a read or a write. */
struct rig_call {
    struct peer_call call;
    struct proto_ping_request ping;
    struct proto_read_request read;
    struct proto_write_request write;
    struct buf *data;
    struct rig_client *client;
    unsigned done;
    int rc;
    bool answered, unknown, good;
    char text[RIG_TEXT];
};
static inline void rig_call_done(struct peer_call *pc, const struct peer_reply *r)
{
    struct rig_call *c = container_of(pc, struct rig_call, call);
    CHECK(!peer_call_active(pc));
    c->done++;
    c->rc = r->rc;
    c->answered = r->answered;
    c->unknown = r->unknown;
    c->text[0] = 0;
    c->data = buf_unref(c->data);
    if (r->failure != NULL) {
        (void)proto_bytes_to_c(r->failure->text, c->text, sizeof c->text);
    }
    if (r->rc < 0) {
        CHECK(r->body == NULL);
        return;
    }
    switch (pc->opcode) {
    case PROTO_OP_ping:
        c->good = ((const struct proto_ping_reply *)r->body)->cookie == c->ping.cookie;
        break;
    case PROTO_OP_read:
        c->good = rig_same(&r->data, c->read.chunk.data_id, c->read.length);
        break;
    default:
        c->good = true;
    }
}
static inline void rig_call_ping(struct rig_call *c, struct rig_client *by, uint64_t cookie)
{
    c->client = by;
    c->ping.cookie = cookie;
    c->call.done = rig_call_done;
    c->call.opcode = PROTO_OP_ping;
    c->call.request = &c->ping;
    c->good = false;
    c->done = 0;
    unsigned before = c->done;
    peer_call(by->peer, &c->call);
    CHECK(c->done == before); /* never from inside */
}
static inline void rig_call_read(struct rig_call *c, struct rig_client *by, uint64_t key,
                                 size_t len)
{
    c->client = by;
    c->read = (struct proto_read_request){.chunk = {.data_id = key}, .length = (uint32_t)len};
    c->call.done = rig_call_done;
    c->call.opcode = PROTO_OP_read;
    c->call.request = &c->read;
    c->good = false;
    c->done = 0;
    peer_call(by->peer, &c->call);
}
static inline void rig_call_write(struct rig_call *c, struct rig_client *by, uint64_t key,
                                  size_t len)
{
    c->client = by;
    c->data = rig_data(by->pool, key, len);
    c->write = (struct proto_write_request){.chunk = {.data_id = key}, .length = (uint32_t)len};
    c->call.done = rig_call_done;
    c->call.opcode = PROTO_OP_write;
    c->call.request = &c->write;
    c->call.wire.data[0] = (struct slice){.buf = c->data, .at = c->data->at, .len = len};
    c->call.wire.data_count = 1;
    c->good = false;
    c->done = 0;
    peer_call(by->peer, &c->call);
}
