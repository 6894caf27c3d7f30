/*
 * namespace/rig_priv.h -- for tests (which include testing/testing.h before it): a cluster of two
 * replicas that get the same log. The second one's records are often "not in memory". Every reply
 * is compared, and every digest when asked.
 */
#pragma once

#include "base/mem.h"
#include "kv/mem.h"
#include "namespace/namespace.h"
#include "namespace/query.h"

#include <string.h>

#define RIG_REPLICAS 2u
#define RIG_BODY_BYTES (1u << 20)
#define RIG_NEED_PERMILLE 300u

struct rig_replica {
    struct kv *kv;
    struct namespace *ns;
    struct kv_need need;
    struct namespace_reply reply;
};

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
    struct namespace_reply reply; /* of the newest command */
};

struct rig_fetch {
    struct kv_fetch base;
    bool done;
};

static inline void rig_fetch_done(struct kv_fetch *f, int rc)
{
    CHECK_OK(rc);
    container_of(f, struct rig_fetch, base)->done = true;
}

static inline void rig_fetch(struct rig_replica *m)
{
    struct rig_fetch f = {.base = {.need = &m->need, .done = rig_fetch_done}};
    CHECK_TRUE(m->need.missing > 0);
    kv_fetch(m->kv, &f.base);
    while (!f.done) {
        (void)kv_poll(m->kv);
    }
}

static inline void rig_open_replica(struct rig_replica *m, uint32_t need_permille)
{
    struct kv_mem_options opt = {
        .seed = testing_seed(), .need_permille = need_permille, .fetch_polls_max = 1};
    CHECK_OK(kv_mem_new(&opt, &m->kv));
    struct namespace_options ns = {.kv = m->kv};
    CHECK_OK(namespace_new(&ns, &m->ns));
}

static inline int rig_apply_one(struct rig_replica *m, const struct namespace_entry *e)
{
    int rc = namespace_apply(m->ns, e, &m->need, &m->reply);
    while (rc == -ERR_need) {
        rig_fetch(m);
        rc = namespace_apply(m->ns, e, &m->need, &m->reply);
    }
    kv_need_release(&m->need);
    return rc;
}

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

static inline void rig_view_end(struct rig *r)
{
    kv_need_release(&r->replica[1].need);
    r->snapshot = kv_snapshot_free(r->snapshot);
}

/* What a query is run on; its answer lives until the next one. */
static inline void rig_view_begin(struct rig *r)
{
    rig_view_end(r);
    CHECK_OK(kv_snapshot_new(r->replica[1].kv, &r->snapshot));
    r->view = (struct namespace_view){
        .snapshot = r->snapshot, .need = &r->replica[1].need, .arena = &r->arena};
    mem_arena_reset(&r->arena);
}

static inline bool rig_again(struct rig *r, int rc)
{
    if (rc == -ERR_need) {
        rig_fetch(&r->replica[1]);
        mem_arena_reset(&r->arena);
    }
    return rc == -ERR_need;
}

#define RIG_VIEW(r, call)                 \
    ({                                    \
        int rig_rc;                       \
        rig_view_begin(r);                \
        do {                              \
            rig_rc = (call);              \
        } while (rig_again((r), rig_rc)); \
        rig_rc;                           \
    })
/* RIG_QUERY(r, lookup, &reply, .parent = 1, ...): a client's read. */
#define RIG_QUERY(r, opname, ret, ...)                                                          \
    ({                                                                                          \
        struct proto_##opname##_request rig_q = {__VA_ARGS__};                                  \
        rig_q.caller = (struct proto_caller){.session = (r)->op.session, .cred = (r)->op.cred}; \
        RIG_VIEW(r, namespace_##opname(&(r)->view, &rig_q, (ret)));                             \
    })

static inline uint64_t rig_digest_one(struct rig_replica *m)
{
    CLEANUP(kv_snapshot_freep) struct kv_snapshot *s = NULL;
    struct mem_arena arena;
    struct namespace_digest d = {0};
    CHECK_OK(kv_snapshot_new(m->kv, &s));
    mem_arena_init(&arena, 1U << 20);
    struct namespace_view v = {.snapshot = s, .need = &m->need, .arena = &arena};
    while (!d.done) {
        int rc = namespace_digest_step(&v, 100, &d);
        if (rc == -ERR_need) {
            rig_fetch(m);
            continue;
        }
        CHECK_OK(rc);
        kv_need_release(&m->need);
    }
    mem_arena_fini(&arena);
    return d.value;
}

static inline uint64_t rig_digest(struct rig *r)
{
    rig_view_end(r);
    uint64_t a = rig_digest_one(&r->replica[0]);
    CHECK_TRUE(a == rig_digest_one(&r->replica[1]));
    return a;
}

static inline struct proto_bytes rig_text(const char *s)
{
    return proto_bytes_text(s);
}

static inline uint64_t rig_session(struct rig *r, uint8_t client, uint64_t verifier)
{
    struct proto_session_open_request q = {.client.bytes = {client, 1},
                                           .boot_id.bytes = {9},
                                           .verifier = verifier,
                                           .flags = PROTO_SESSION_STATEFUL,
                                           .slots = 16,
                                           .name = rig_text("host")};
    CHECK_OK(rig_command(r, PROTO_OP_session_open, &proto_session_open_request_type, &q));
    return r->reply.session;
}

static inline uint32_t rig_cred(struct rig *r, uint64_t session, uint32_t uid, uint32_t gid,
                                uint32_t group)
{
    uint32_t groups[1] = {group};
    CHECK_OK(RIG_DO(r, PROTO_OP_credential, proto_credential_request, .session = session,
                    .uid = uid, .gid = gid, .groups = {.at = groups, .count = group != 0}));
    return r->reply.id;
}

/* A formatted cluster, session 1 with credential 1, which is root's. */
static inline void rig_open(struct rig *r)
{
    *r = (struct rig){.time_ns = INT64_C(1700000000000000000), .random = testing_seed()};
    for (size_t i = 0; i < RIG_REPLICAS; i++) {
        rig_open_replica(&r->replica[i], i == 0 ? 0 : RIG_NEED_PERMILLE);
    }
    mem_arena_init(&r->arena, 64U << 20);
    r->body = mem_zalloc(RIG_BODY_BYTES);
    r->command = mem_zalloc(RIG_BODY_BYTES);
    CHECK_TRUE(r->body != NULL && r->command != NULL);
    CHECK_OK(RIG_DO(r, NAMESPACE_FORMAT_ROOT, namespace_format, .mode = 0755));
    r->op.session = rig_session(r, 1, 11);
    r->op.cred = rig_cred(r, r->op.session, 0, 0, 0);
    r->op.sequence = 1;
}

static inline void rig_close(struct rig *r)
{
    (void)rig_digest(r);
    rig_view_end(r);
    for (size_t i = 0; i < RIG_REPLICAS; i++) {
        r->replica[i].ns = namespace_free(r->replica[i].ns);
        r->replica[i].kv = kv_free(r->replica[i].kv);
    }
    mem_arena_fini(&r->arena);
    mem_free(r->body);
    mem_free(r->command);
}

/* A storage class over `chains` chains of two targets. */
static inline void rig_make_class(struct rig *r, uint32_t chains)
{
    struct proto_member members[2] = {{1, PROTO_MEMBER_SERVING}, {2, PROTO_MEMBER_SERVING}};
    struct proto_row rows[16];
    uint32_t table[16];
    for (uint8_t i = 1; i <= 2; i++) {
        struct proto_target t = {
            .uuid.bytes = {i}, .address = rig_text("host:9410"), .weight = 100, .total = 1000};
        CHECK_OK(RIG_DO(r, NAMESPACE_TARGET_PUT, namespace_target_put, .target = t));
        CHECK_EQ(r->reply.id, i);
    }
    for (uint32_t i = 0; i < chains; i++) {
        rows[i] =
            (struct proto_row){.chain = i + 1, .epoch = 1, .members = {.at = members, .count = 2}};
        table[i] = i + 1;
    }
    struct proto_storage_class c = {
        .name = rig_text("default"), .copies = 2, .chunk_size = 4U << 20};
    CHECK_OK(RIG_DO(r, NAMESPACE_TABLE_PUT, namespace_table_put, .storage_class = c,
                    .first_chain = 1, .rows = {.at = rows, .count = chains},
                    .chains = {.at = table, .count = chains}));
    CHECK_EQ(r->reply.id, 1);
}
