/* metanode/rig_orphan_priv.h -- for tests only: looks for orphans, and what becomes of data ids. */
#pragma once

#include "metanode/rig_session_priv.h"
#include "metanode/rig_target_priv.h"
#include "testing/testing.h"

#define RIG_AUDIT_WAIT_S 30u

static inline bool rig_all_serve(void *ctx)
{
    const struct rig *r = ctx;
    bool all = r->m->chains.count > 0;
    LIST_FOR_EACH(node, &r->m->chains.all)
    {
        const struct cluster_row *row = &LIST_ENTRY(node, struct metanode_chain, all)->row;
        all = all && cluster_row_serving_count(row) == row->count;
    }
    return all;
}
/* Two targets that serve every chain, a client; looks are half a minute apart. */
static inline void rig_orphans_ready(struct rig *r)
{
    rig_new(r, testing_seed());
    r->opt.audit_wait_ms = RIG_AUDIT_WAIT_S * UINT64_C(1000);
    r->opt.audit_window = 8; /* several of them */
    rig_serve(r);
    rig_target_start(r, 0, false);
    rig_target_start(r, 1, false);
    CHECK(rig_until(r, rig_all_serve, r));
    rig_client_ready(r, 0);
}
/* A file of some chunks; its data id. */
static inline uint64_t rig_data_file(struct rig_client *c, const char *name)
{
    struct proto_create_request q = rig_file(c, name, NULL);
    c->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(c, PROTO_OP_create, &q));
    const struct proto_create_reply made = *(const struct proto_create_reply *)c->reply;
    CHECK_TRUE(made.layout.data_id != 0);
    struct proto_commit_request commit = {.op = rig_op(c, 0),
                                          .ino = made.attr.ino,
                                          .cap_epoch = made.cap_epoch,
                                          .size = 10000,
                                          .allocated = 12288,
                                          .flags = PROTO_COMMIT_RELEASE};
    CHECK_OK(rig_call(c, PROTO_OP_commit, &commit));
    return made.layout.data_id;
}
static inline void rig_data_files(struct rig_client *c, const char *prefix, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "%s%u", prefix, i);
        (void)rig_data_file(c, name);
    }
}
static inline void rig_remove_file(struct rig_client *c, const char *name, bool open)
{
    struct proto_unlink_request q = {.op = rig_op(c, 0),
                                     .parent = PROTO_ROOT_INO,
                                     .name = proto_bytes_text(name),
                                     .is_open = open};
    CHECK_OK(rig_call(c, PROTO_OP_unlink, &q));
}
static inline int rig_audit_ask(struct rig_client *c, uint8_t action, uint64_t first, uint64_t last)
{
    struct proto_audit_request q = {
        .caller = rig_caller(c), .action = action, .first = first, .last = last};
    c->flags = PEER_CALL_AGAIN;
    return rig_call(c, PROTO_OP_audit, &q);
}
static inline bool rig_look_is_over(void *ctx)
{
    const struct rig *r = ctx;
    return !metanode_audit_goes_on(r->m) && !r->m->cleanup.audits->reading;
}
/* A whole look; what the log says of it. */
static inline struct namespace_audit rig_look(struct rig *r)
{
    CHECK_OK(rig_audit_ask(&r->client[0], PROTO_AUDIT_START, 0, 0));
    CHECK(rig_until(r, rig_look_is_over, r));
    return r->m->cleanup.audits->now.audit;
}
static inline void rig_hold(struct rig *r, unsigned target, const struct rig_held *held,
                            size_t count)
{
    r->target[target].held = held;
    r->target[target].held_count = count;
}
static inline void rig_wait_looks(struct rig *r)
{
    rig_keep_alive(r, &r->client[0], RIG_AUDIT_WAIT_S + 2);
}
static inline uint64_t rig_suspects(const struct rig *r)
{
    return r->m->cleanup.audits->now.suspects;
}
