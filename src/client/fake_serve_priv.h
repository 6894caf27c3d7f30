/* client/fake_serve_priv.h -- for tests only: the rest of fake_priv.h; start and end of servers. */
#pragma once

#include "client/fake_lease_priv.h"
#include "client/fake_lock_priv.h"
#include "client/fake_map_priv.h"

static inline void fake_secrets(struct peer_secrets *s)
{
    *s = (struct peer_secrets){.server.known = true, .client.known = true};
    memset(s->server.bytes, 7, sizeof s->server.bytes);
    memset(s->client.bytes, 9, sizeof s->client.bytes);
}

static inline void fake_open(struct peer_user *u, struct peer_request *r)
{
    struct fake_cluster *c = fake_of(u);
    const struct proto_open_request *q = r->body;
    const struct fake_inode *n = fake_find(c, q->ino);
    c->opens++;
    if (n == NULL) {
        peer_request_fail(r, -ENOENT, NULL);
        return;
    }
    const struct proto_open_reply m = {.mode = PROTO_OPEN_R,
                                       .attr = n->attr,
                                       .layout = n->layout,
                                       .capability = fake_cap(c, n, q->caller.session),
                                       .data = {n->data, n->data_len},
                                       .has_data = !n->chunked};
    peer_request_answer(r, &m, NULL);
}
static inline void fake_read_inline(struct peer_user *u, struct peer_request *r)
{
    const struct proto_read_inline_request *q = r->body;
    const struct fake_inode *n = fake_find(fake_of(u), q->ino);
    const struct proto_read_inline_reply m = {
        .data = {n->data, n->data_len}, .has_data = !n->chunked, .layout = n->layout};
    peer_request_answer(r, &m, NULL);
}
static inline void fake_cap_renew(struct peer_user *u, struct peer_request *r)
{
    struct fake_cluster *c = fake_of(u);
    const struct proto_capability_renew_request *q = r->body;
    struct proto_capability caps[4];
    struct proto_capability_renew_reply m = {.capabilities.at = caps};
    CHECK(q->wanted.count <= ARRAY_COUNT(caps));
    c->key_id++;
    for (size_t i = 0; i < q->wanted.count; i++) {
        caps[m.capabilities.count++] =
            fake_cap(c, fake_find(c, q->wanted.at[i].ino), q->caller.session);
    }
    peer_request_answer(r, &m, NULL);
}
/* Two entries a page at most, so that paging is seen. */
static inline void fake_readdir(struct peer_user *u, struct peer_request *r)
{
    struct fake_cluster *c = fake_of(u);
    const struct proto_readdir_request *q = r->body;
    struct proto_dirent entries[2];
    struct proto_readdir_reply m = {.entries.at = entries};
    char after[256];
    proto_bytes_to_c(q->after, after, sizeof after);
    while (m.entries.count < ARRAY_COUNT(entries)) {
        const struct fake_inode *best = NULL;
        for (size_t i = 0; i < FAKE_INODES; i++) {
            const struct fake_inode *n = &c->inode[i];
            bool next = n->ino > PROTO_ROOT_INO && n->parent == q->ino && n->attr.nlink > 0 &&
                        strcmp(n->name, after) > 0;
            best = next && (best == NULL || strcmp(n->name, best->name) < 0) ? n : best;
        }
        if (best == NULL) {
            m.eof = true;
            break;
        }
        memcpy(after, best->name, sizeof after);
        entries[m.entries.count++] = (struct proto_dirent){.name = proto_bytes_text(best->name),
                                                           .ino = best->ino,
                                                           .type = best->attr.type,
                                                           .has_attr = true,
                                                           .attr = best->attr};
    }
    peer_request_answer(r, &m, NULL);
}
static const struct peer_handler fake_meta_handlers[] = {
    {.opcode = PROTO_OP_session_open, .request = fake_session_open},
    {.opcode = PROTO_OP_session_resume, .request = fake_session_resume},
    {.opcode = PROTO_OP_session_close, .request = fake_session_close},
    {.opcode = PROTO_OP_renew, .request = fake_renew},
    {.opcode = PROTO_OP_reclaim, .request = fake_reclaim},
    {.opcode = PROTO_OP_credential, .request = fake_credential},
    {.opcode = PROTO_OP_slot_cancel, .request = fake_slot_cancel},
    {.opcode = PROTO_OP_create, .request = fake_mutation},
    {.opcode = PROTO_OP_unlink, .request = fake_mutation},
    {.opcode = PROTO_OP_rename, .request = fake_mutation},
    {.opcode = PROTO_OP_setattr, .request = fake_mutation},
    {.opcode = PROTO_OP_setxattr, .request = fake_mutation},
    {.opcode = PROTO_OP_removexattr, .request = fake_mutation},
    {.opcode = PROTO_OP_wopen, .request = fake_mutation},
    {.opcode = PROTO_OP_commit, .request = fake_mutation},
    {.opcode = PROTO_OP_release, .request = fake_mutation},
    {.opcode = PROTO_OP_lease_return, .request = fake_mutation},
    {.opcode = PROTO_OP_unlock, .request = fake_mutation},
    {.opcode = PROTO_OP_lock, .request = fake_lock},
    {.opcode = PROTO_OP_lock_test, .request = fake_lock_test},
    {.opcode = PROTO_OP_walk, .request = fake_walk},
    {.opcode = PROTO_OP_lookup, .request = fake_lookup_asked},
    {.opcode = PROTO_OP_getattr, .request = fake_getattr},
    {.opcode = PROTO_OP_getxattr, .request = fake_getxattr},
    {.opcode = PROTO_OP_listxattr, .request = fake_listxattr},
    {.opcode = PROTO_OP_readlink, .request = fake_readlink},
    {.opcode = PROTO_OP_readdir, .request = fake_readdir},
    {.opcode = PROTO_OP_open, .request = fake_open},
    {.opcode = PROTO_OP_read_inline, .request = fake_read_inline},
    {.opcode = PROTO_OP_capability_renew, .request = fake_cap_renew},
    {.opcode = PROTO_OP_statfs, .request = fake_statfs},
    {.opcode = PROTO_OP_status, .request = fake_status},
    {.opcode = PROTO_OP_stats, .request = fake_stats},
    {.opcode = PROTO_OP_cluster_map, .request = fake_map},
    {.opcode = PROTO_OP_names, .request = fake_names},
};

static inline void fake_up(struct peer_user *u, struct peer_link *l)
{
    struct fake_node *n = container_of(u, struct fake_node, user);
    n->newest = l->slot == 0 ? l : n->newest;
}
static inline void fake_down(struct peer_user *u, struct peer_link *l, int rc, const char *why)
{
    struct fake_node *n = container_of(u, struct fake_node, user);
    (void)rc;
    (void)why;
    n->newest = n->newest == l ? NULL : n->newest;
}
static const struct peer_user_ops fake_user_ops = {.up = fake_up, .down = fake_down};

/* n->env, cluster, at and target are set. */
static inline void fake_start(struct fake_node *n)
{
    const struct buf_pool_options pool = {.limit_bytes = 64u << 20, .max_size = 4u << 20};
    n->user.ops = &fake_user_ops;
    n->pool = buf_pool_new(&pool);
    CHECK(n->pool != NULL);
    bool meta = n->target == 0;
    struct peer_server_options opt = {.env = &n->env,
                                      .user = &n->user,
                                      .handlers = meta ? fake_meta_handlers : fake_data_handlers,
                                      .handler_count = meta ? ARRAY_COUNT(fake_meta_handlers)
                                                            : ARRAY_COUNT(fake_data_handlers),
                                      .cluster_id = {{1}},
                                      .role = meta ? PROTO_ROLE_META : PROTO_ROLE_TARGET,
                                      .name = "fake",
                                      .pool = n->pool};
    fake_secrets(&opt.secrets);
    CHECK(peer_server_new(&opt, &n->server) == 0);
    CHECK(peer_server_listen(n->server, &n->at, NULL) == 0);
    peer_server_address(n->server, &n->at);
}
static inline void fake_end(struct fake_node *n)
{
    fake_slow_end(n);
    n->server = peer_server_free(n->server);
}
static inline void fake_pool_end(struct fake_node *n)
{
    n->pool = buf_pool_free(n->pool);
}
