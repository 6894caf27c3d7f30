/*
 * namespace/rig_cluster_priv.h -- for tests: a formatted cluster with sessions over the replicas of
 * rig_priv.h, and reads of the forgetful one.
 */
#pragma once

#include "namespace/query.h"
#include "namespace/rig_priv.h"

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

/* What the operations of another machine begin with: a session of its own, root's credential. */
static inline struct proto_op rig_machine(struct rig *r, uint8_t client, uint64_t verifier)
{
    struct proto_op op = {.session = rig_session(r, client, verifier), .sequence = 1};
    op.cred = rig_cred(r, op.session, 0, 0, 0);
    return op;
}

/* A formatted cluster, session 1 with credential 1, which is root's. */
static inline void rig_open_needing(struct rig *r, uint32_t need_permille)
{
    *r = (struct rig){.time_ns = INT64_C(1700000000000000000), .random = testing_seed()};
    for (size_t i = 0; i < RIG_REPLICAS; i++) {
        rig_open_replica(&r->replica[i], i == 0 ? 0 : need_permille);
    }
    mem_arena_init(&r->arena, 64U << 20);
    r->body = mem_zalloc(RIG_BODY_BYTES);
    r->command = mem_zalloc(RIG_BODY_BYTES);
    CHECK_TRUE(r->body != NULL && r->command != NULL);
    CHECK_OK(RIG_DO(r, NAMESPACE_FORMAT_ROOT, namespace_format, .mode = 0755));
    r->op = rig_machine(r, 1, 11);
}

static inline void rig_open(struct rig *r)
{
    rig_open_needing(r, RIG_NEED_PERMILLE);
}

static inline void rig_close(struct rig *r)
{
    (void)rig_digest(r);
    rig_view_end(r);
    for (size_t i = 0; i < RIG_REPLICAS; i++) {
        r->replica[i].ns = namespace_free(r->replica[i].ns);
        r->replica[i].kv = kv_mem_end(r->replica[i].kv);
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
