/*
 * namespace/rig_priv.h -- for tests (which include testing/testing.h before it): a cluster of two
 * replicas that get the same log. The second one's records are often "not in memory", what it lends
 * is gone when it should be, its commits may find no room, and every third command finds it as
 * after a restart: with nothing that it remembers. Every reply is compared, and every digest when
 * asked.
 */
#pragma once

#include "namespace/query.h"
#include "namespace/rig_replica_priv.h"

#include <string.h>

#define RIG_REPLICAS 2u
#define RIG_BODY_BYTES (1u << 20)
#define RIG_NEED_PERMILLE 300u
#define RIG_RESTART_EACH 3u

struct rig {
    struct rig_replica replica[RIG_REPLICAS];
    struct mem_arena arena; /* of queries */
    struct kv_snapshot *snapshot;
    struct namespace_view view; /* of the second replica, for queries */
    uint64_t index;
    int64_t time_ns;
    uint64_t random;
    uint8_t *body, *command; /* RIG_BODY_BYTES each */
    size_t command_len;
    struct proto_op op; /* of the next mutation; its sequence rises by itself */
    struct namespace_keep_list keeps;
    struct namespace_fold_list folds;
    uint64_t victim;
    bool readers;
    struct namespace_reply reply; /* of the newest command */
};

static inline void rig_same_replies(const struct namespace_reply *a,
                                    const struct namespace_reply *b)
{
    struct proto_trailer trailer = {0};
    uint8_t one[8192], two[8192];
    struct wire_writer w1 = wire_writer_over(one, sizeof one);
    struct wire_writer w2 = wire_writer_over(two, sizeof two);
    CHECK_EQ(a->rc, b->rc);
    CHECK_EQ(a->replayed, b->replayed);
    CHECK_EQ(a->session, b->session);
    CHECK_EQ(a->id, b->id);
    CHECK_EQ(a->removed_data_id, b->removed_data_id);
    CHECK_EQ(a->trim_ino, b->trim_ino);
    CHECK_EQ(a->fenced_session, b->fenced_session);
    int rc = namespace_reply_encode(a, &trailer, NULL, &w1);
    CHECK_EQ(rc, namespace_reply_encode(b, &trailer, NULL, &w2));
    CHECK_EQ(w1.len, w2.len);
    CHECK_BYTES(one, two, w1.len);
}

static inline int rig_apply_bytes(struct rig *r, const void *bytes, size_t len)
{
    struct namespace_entry e = {.index = ++r->index, .last = true, .bytes = bytes, .len = len};
    if (e.index % RIG_RESTART_EACH == 0) {
        rig_restart_replica(&r->replica[1]);
    }
    for (size_t i = 0; i < RIG_REPLICAS; i++) {
        CHECK_OK(rig_apply_one(&r->replica[i], &e));
        CHECK_EQ(kv_applied_index(r->replica[i].kv), e.index);
    }
    rig_same_replies(&r->replica[0].reply, &r->replica[1].reply);
    r->reply = r->replica[0].reply;
    return r->reply.rc;
}

/* Puts a command together in r->command. */
static inline void rig_encode(struct rig *r, uint16_t kind, const struct proto_type *type,
                              const void *body, bool seal)
{
    struct wire_writer w = wire_writer_over(r->body, RIG_BODY_BYTES);
    CHECK_OK(proto_encode(type, body, &w));
    if (seal) {
        CHECK_OK(proto_op_seal(kind, r->body, w.len));
    }
    r->random = r->random * UINT64_C(6364136223846793005) + 1;
    struct namespace_command c = {.version = NAMESPACE_COMMAND_VERSION,
                                  .kind = kind,
                                  .time_ns = r->time_ns,
                                  .random = r->random,
                                  .keeps = r->keeps,
                                  .folds = r->folds,
                                  .victim = r->victim,
                                  .readers = r->readers,
                                  .body = proto_bytes_of(r->body, w.len)};
    w = wire_writer_over(r->command, RIG_BODY_BYTES);
    CHECK_OK(PROTO_ENCODE(namespace_command, &c, &w));
    r->command_len = w.len;
}

static inline int rig_command(struct rig *r, uint16_t kind, const struct proto_type *type,
                              const void *body)
{
    r->time_ns += 1000;
    rig_encode(r, kind, type, body, false);
    return rig_apply_bytes(r, r->command, r->command_len);
}

static inline int rig_mutate(struct rig *r, uint16_t kind, const struct proto_type *type,
                             const void *body)
{
    r->time_ns += 1000;
    rig_encode(r, kind, type, body, true);
    int rc = rig_apply_bytes(r, r->command, r->command_len);
    bool kept = rc == 0 || !(err_is(rc, EAGAIN) || err_is(rc, EPROTO));
    r->op.sequence += kept && rc != -ERR_session_expired ? 1 : 0;
    return rc;
}

/* RIG_OP(r, create, .parent = 1, ...): a client's mutation. RIG_DO(r, KIND, tag, ...): others. */
#define RIG_OP(r, opname, ...)                                                      \
    ({                                                                              \
        struct proto_##opname##_request rig_q = {__VA_ARGS__};                      \
        rig_q.op = (r)->op;                                                         \
        rig_mutate((r), PROTO_OP_##opname, &proto_##opname##_request_type, &rig_q); \
    })
#define RIG_DO(r, kind, tag, ...)                      \
    ({                                                 \
        struct tag rig_q = {__VA_ARGS__};              \
        rig_command((r), (kind), &tag##_type, &rig_q); \
    })
