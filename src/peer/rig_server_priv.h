/* peer/rig_server_priv.h -- for tests only: the handlers of rig_priv.h's server, start and end. */
#pragma once

#include "peer/rig_priv.h"

static inline void rig_ping(struct peer_user *u, struct peer_request *r)
{
    struct rig_server *s = container_of(u, struct rig_server, user);
    const struct proto_ping_request *q = r->body;
    s->pings++;
    switch ((enum rig_mode)(q->cookie >> 56)) {
    case RIG_ECHO:
        rig_echo(r);
        return;
    case RIG_LATER:
        if (!loop_timer_active(&s->later)) {
            loop_timer_in(s->env.loop, &s->later, rand_below(&s->rand, 3000000));
        }
        rig_hold(s, r);
        return;
    case RIG_HOLD:
        rig_hold(s, r);
        return;
    case RIG_BUSY:
        if (s->busy_left == 0) {
            rig_echo(r);
            return;
        }
        s->busy_left--;
        const struct proto_failure busy = {.text = proto_bytes_text("busy"),
                                           .retry_ms = s->retry_ms};
        peer_request_fail(r, -ERR_busy, s->retry_ms == 0 ? NULL : &busy);
        return;
    case RIG_FAIL: {
        const struct proto_failure f = {.text = proto_bytes_text("no such thing")};
        peer_request_fail(r, -ENOENT, &f);
        return;
    }
    case RIG_ELSEWHERE: {
        const struct proto_failure f = {.leader = proto_bytes_text(s->elsewhere.text),
                                        .term = s->term};
        peer_request_fail(r, -ERR_not_leader, &f);
        return;
    }
    }
    peer_request_fail(r, -EINVAL, NULL);
}
/* Answers `length` bytes of data that the data id determines. */
static inline void rig_read(struct peer_user *u, struct peer_request *r)
{
    struct rig_server *s = container_of(u, struct rig_server, user);
    const struct proto_read_request *q = r->body;
    if (q->length == 0 || q->length > (4u << 20)) {
        peer_request_fail(r, -EINVAL, NULL);
        return;
    }
    struct buf *b = rig_data(s->pool, q->chunk.data_id, q->length);
    const struct proto_read_reply reply = {.route = q->route, .length = q->length};
    const struct net_conn_response data = {.data = {{.buf = b, .at = b->at, .len = q->length}},
                                           .data_count = 1};
    peer_request_answer(r, &reply, &data);
    buf_unref(b);
}
static inline void rig_write(struct peer_user *u, struct peer_request *r)
{
    (void)u;
    const struct proto_write_request *q = r->body;
    if (!rig_same(&r->wire->data, q->chunk.data_id, q->length)) {
        peer_request_fail(r, -ERR_bad_data, NULL);
        return;
    }
    const struct proto_write_reply reply = {.route = q->route, .length = q->length};
    peer_request_answer(r, &reply, NULL);
}
static inline void rig_rmdir(struct peer_user *u, struct peer_request *r)
{
    container_of(u, struct rig_server, user)->rmdirs++;
    const struct proto_rmdir_request *q = r->body;
    const struct proto_rmdir_reply reply = {.ino = q->parent};
    peer_request_answer(r, &reply, NULL);
}
static inline void rig_trailer(struct peer_user *u, struct peer_link *l, const void *body)
{
    struct rig_server *s = container_of(u, struct rig_server, user);
    CHECK(l->role == PROTO_ROLE_TARGET && body != NULL);
    s->pushes++;
}
static inline void rig_server_up(struct peer_user *u, struct peer_link *l)
{
    struct rig_server *s = container_of(u, struct rig_server, user);
    s->ups++;
    s->newest = l;
    CHECK(l->conn != NULL && l->name[0] != 0);
}
static inline void rig_server_down(struct peer_user *u, struct peer_link *l, int rc,
                                   const char *reason)
{
    struct rig_server *s = container_of(u, struct rig_server, user);
    CHECK(l->conn == NULL);
    s->downs++;
    s->down_rc = rc;
    (void)proto_bytes_to_c(proto_bytes_text(reason), s->down_reason, sizeof s->down_reason);
    s->newest = s->newest == l ? NULL : s->newest;
}
static inline void rig_server_stopped(struct peer_user *u)
{
    container_of(u, struct rig_server, user)->stopped++;
}
static const struct peer_user_ops rig_server_ops = {.up = rig_server_up, .down = rig_server_down};
static const struct peer_handler rig_server_handlers[] = {
    {.opcode = PROTO_OP_ping, .request = rig_ping},
    {.opcode = PROTO_OP_read, .request = rig_read},
    {.opcode = PROTO_OP_write, .request = rig_write},
    {.opcode = PROTO_OP_rmdir, .request = rig_rmdir},
    {.opcode = PROTO_OP_forward_trailer, .push = rig_trailer},
};

/* Within the process of env.loop; `at` and what `opt` should differ in are set before. */
static inline void rig_server_start(struct rig_server *s)
{
    const struct buf_pool_options pool = {.limit_bytes = 64u << 20, .max_size = 4u << 20};
    s->user.ops = &rig_server_ops;
    s->later.fire = rig_later_fired;
    s->pool = buf_pool_new(&pool);
    CHECK(s->pool != NULL);
    s->opt.env = &s->env;
    s->opt.user = &s->user;
    s->opt.handlers = rig_server_handlers;
    s->opt.handler_count = ARRAY_COUNT(rig_server_handlers);
    s->opt.cluster_id = rig_cluster(1);
    s->opt.role = s->opt.role == 0 ? PROTO_ROLE_META : s->opt.role;
    s->opt.name = "rig server";
    s->opt.pool = s->pool;
    if (!s->opt.secrets.server.known) {
        rig_secrets(&s->opt.secrets);
    }
    int rc = peer_server_new(&s->opt, &s->server);
    CHECK(rc == 0);
    rc = peer_server_listen(s->server, &s->at, NULL);
    CHECK(rc == 0);
    peer_server_address(s->server, &s->at);
}
static inline void rig_server_end(struct rig_server *s)
{
    rig_release_all(s);
    loop_timer_cancel(s->env.loop, &s->later);
    s->server = peer_server_free(s->server);
}
static inline void rig_server_pool_end(struct rig_server *s) /* when what was deferred has run */
{
    s->pool = buf_pool_free(s->pool);
}
