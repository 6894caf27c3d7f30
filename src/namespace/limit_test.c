#include "testing/testing.h"

#include "namespace/rig_cluster_priv.h"

/* What one session, and all of them, may have (coherence.md section 2): each bound is reached. */

static uint32_t slots_for(struct rig *r, uint8_t client, uint32_t wanted)
{
    struct proto_session_open_request q = {
        .client.bytes = {client, 7}, .boot_id.bytes = {9}, .verifier = 5, .slots = wanted};
    CHECK_OK(rig_command(r, PROTO_OP_session_open, &proto_session_open_request_type, &q));
    return r->reply.slots;
}

/* A record as many operations would have made it; what is remembered of records is forgotten. */
static void plant(struct rig *r, const struct namespace_key *key, const struct proto_type *type,
                  const void *record)
{
    uint8_t bytes[1024];
    struct wire_writer w = wire_writer_over(bytes, sizeof bytes);
    struct kv_batch b = {0};
    CHECK_OK(proto_encode(type, record, &w));
    CHECK_OK(kv_batch_put(&b, namespace_key_slice(key), kv_slice_of(bytes, w.len)));
    for (size_t i = 0; i < RIG_REPLICAS; i++) {
        struct rig_replica *m = &r->replica[i];
        CHECK_OK(rig_commit(m, &b, kv_applied_index(m->kv)));
        m->ns = namespace_free(m->ns);
        CHECK_OK(namespace_new(&(struct namespace_options){.kv = m->kv}, &m->ns));
    }
    kv_batch_fini(&b);
}

static void plant_next_cred(struct rig *r, uint64_t session, uint32_t next)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_SESSION, session);
    struct namespace_session s;
    rig_view_begin(r);
    CHECK_OK(namespace_view_session(&r->view, session, &s));
    rig_view_end(r);
    s.next_cred = next;
    plant(r, &key, &namespace_session_type, &s);
}

static void plant_sessions(struct rig *r, uint32_t count)
{
    struct namespace_key key = namespace_key(NAMESPACE_STATE);
    struct namespace_state s;
    rig_view_begin(r);
    CHECK_OK(namespace_view_state(&r->view, &s));
    rig_view_end(r);
    s.sessions = count;
    plant(r, &key, &namespace_state_type, &s);
}

static void plant_obligations(struct rig *r, uint64_t session, uint64_t count)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_OBLIGATIONS, session);
    struct namespace_id n = {.id = count}; /* the same bytes */
    plant(r, &key, &namespace_id_type, &n);
}

static int make_dir(struct rig *r, const char *name)
{
    return RIG_OP(r, create, .parent = 1, .name = rig_text(name), .type = PROTO_INODE_DIRECTORY,
                  .mode = 0755);
}

TEST(slots_are_between_8_and_256)
{
    struct rig r;
    rig_open(&r);
    CHECK_EQ(slots_for(&r, 1, 0), 64);
    CHECK_EQ(slots_for(&r, 2, 1), 8);
    CHECK_EQ(slots_for(&r, 3, 8), 8);
    CHECK_EQ(slots_for(&r, 4, 256), 256);
    CHECK_EQ(slots_for(&r, 5, UINT32_MAX), 256);
    r.op = (struct proto_op){.session = r.reply.session, .slot = 255, .sequence = 1};
    r.op.cred = rig_cred(&r, r.op.session, 0, 0, 0);
    CHECK_OK(make_dir(&r, "last"));
    r.op.slot = 256;
    r.op.sequence = 1;
    CHECK_RC(make_dir(&r, "none"), ERR_bad_sequence);
    CHECK_RC(RIG_DO(&r, PROTO_OP_slot_cancel, proto_slot_cancel_request, .session = r.op.session,
                    .slot = 256, .sequence = 1),
             ERR_bad_sequence);
    rig_close(&r);
}

static int make_file(struct rig *r, const char *name, uint32_t flags)
{
    return RIG_OP(r, create, .parent = 1, .name = rig_text(name), .type = PROTO_INODE_FILE,
                  .mode = 0644, .flags = flags);
}

static uint64_t ino_of(struct rig *r, const char *name)
{
    struct proto_lookup_reply reply;
    CHECK_OK(RIG_QUERY(r, lookup, &reply, .parent = 1, .name = rig_text(name)));
    return reply.attr.ino;
}

/* Files that it writes, and files without a name that it has open, count alike. */
TEST(obligations_have_a_limit)
{
    struct rig r;
    struct proto_getattr_reply a;
    uint64_t last = 0;
    rig_open(&r);
    CHECK_OK(make_file(&r, "f", PROTO_CREATE_EXCLUSIVE));
    CHECK_OK(make_file(&r, "g", PROTO_CREATE_EXCLUSIVE));
    uint64_t f = r.reply.result.ino;
    for (unsigned i = 0; i < 20; i++) {
        if (i == 5) {
            plant_obligations(&r, r.op.session, NAMESPACE_OBLIGATIONS_MAX - 15);
        }
        CHECK_OK(make_file(&r, "x", PROTO_CREATE_ORPHAN));
        last = r.reply.result.ino;
    }
    CHECK_RC(make_file(&r, "x", PROTO_CREATE_ORPHAN), ENFILE);
    CHECK_RC(make_file(&r, "w", PROTO_CREATE_WOPEN), ENFILE);
    CHECK_RC(RIG_OP(&r, wopen, .ino = f), ENFILE);
    CHECK_RC(RIG_OP(&r, unlink, .parent = 1, .name = rig_text("g"), .is_open = true), ENFILE);
    CHECK_RC(RIG_OP(&r, rename, .parent = 1, .name = rig_text("f"), .new_parent = 1,
                    .new_name = rig_text("g"), .victim_open = true),
             ENFILE);
    CHECK_EQ(ino_of(&r, "g"), f); /* nothing has happened */
    CHECK_EQ(ino_of(&r, "w"), 0);
    struct proto_op mine = r.op;
    r.op = rig_machine(&r, 2, 22);
    CHECK_OK(RIG_OP(&r, wopen, .ino = f)); /* another session has a limit of its own */
    r.op = mine;
    CHECK_OK(RIG_OP(&r, release, .ino = last));
    CHECK_OK(RIG_OP(&r, unlink, .parent = 1, .name = rig_text("f"), .is_open = true));
    CHECK_RC(make_file(&r, "x", PROTO_CREATE_ORPHAN), ENFILE);
    CHECK_OK(RIG_OP(&r, unlink, .parent = 1, .name = rig_text("g"))); /* the other one keeps it */
    CHECK_OK(RIG_DO(&r, NAMESPACE_EXPIRE, namespace_expire, .session = mine.session));
    r.op = rig_machine(&r, 3, 33);
    CHECK_OK(RIG_QUERY(&r, getattr, &a, .ino = f));
    CHECK_RC(RIG_QUERY(&r, getattr, &a, .ino = last - 1), ENOENT);
    rig_close(&r);
}

/* A session ends in one command, whatever it had: here ten times what it may have by itself. */
TEST(a_session_with_many_orphans_ends_at_once)
{
    enum { MANY = 10 * NAMESPACE_OBLIGATIONS_MAX };
    struct rig r;
    struct namespace_state s;
    rig_open_needing(&r, 0);
    rig_make_class(&r, 2);
    uint64_t reader = rig_session(&r, 2, 22);
    struct namespace_keep keep = {.session = reader};
    for (unsigned i = 0; i < MANY; i++) {
        CHECK_OK(make_file(&r, "x", PROTO_CREATE_EXCLUSIVE));
        r.keeps = (struct namespace_keep_list){.at = &keep, .count = 1};
        CHECK_OK(RIG_OP(&r, unlink, .parent = 1, .name = rig_text("x")));
        r.keeps = (struct namespace_keep_list){0};
    }
    rig_view_begin(&r);
    CHECK_OK(namespace_view_state(&r.view, &s));
    rig_view_end(&r);
    CHECK_EQ(s.inodes, MANY + 1);
    CHECK_OK(RIG_DO(&r, NAMESPACE_EXPIRE, namespace_expire, .session = reader));
    rig_view_begin(&r);
    CHECK_OK(namespace_view_state(&r.view, &s));
    rig_view_end(&r);
    CHECK_EQ(s.inodes, 1);
    CHECK_EQ(s.sessions, 1);
    rig_close(&r);
}

TEST(credentials_have_a_limit)
{
    struct rig r;
    uint32_t groups[NAMESPACE_GROUPS_MAX + 1] = {0};
    rig_open_needing(&r, 0);
    CHECK_RC(RIG_DO(&r, PROTO_OP_credential, proto_credential_request, .session = r.op.session,
                    .groups = {.at = groups, .count = ARRAY_COUNT(groups)}),
             ERR_many_groups);
    CHECK_EQ(rig_cred(&r, r.op.session, 77, 77, 0), 2); /* 1 is root's */
    plant_next_cred(&r, r.op.session, NAMESPACE_CREDS_MAX - 5);
    for (uint32_t i = NAMESPACE_CREDS_MAX - 5; i <= NAMESPACE_CREDS_MAX; i++) {
        CHECK_EQ(rig_cred(&r, r.op.session, i, i, 0), i);
    }
    CHECK_RC(RIG_DO(&r, PROTO_OP_credential, proto_credential_request, .session = r.op.session,
                    .uid = 100000, .gid = 7),
             ERR_many_credentials);
    CHECK_EQ(rig_cred(&r, r.op.session, 77, 77, 0), 2); /* who is known stays so */
    CHECK_EQ(rig_cred(&r, rig_session(&r, 2, 22), 100000, 7, 0), 1);
    rig_close(&r);
}

/* `count` groups from `first` on. */
static int register_groups(struct rig *r, uint32_t first, size_t count)
{
    uint32_t groups[NAMESPACE_GROUPS_MAX];
    for (size_t i = 0; i < count; i++) {
        groups[i] = first + (uint32_t)i;
    }
    return RIG_DO(r, PROTO_OP_credential, proto_credential_request, .session = r->op.session,
                  .uid = 5, .gid = 5, .groups = {.at = groups, .count = count});
}

static void restart(struct rig *r)
{
    for (size_t i = 0; i < RIG_REPLICAS; i++) {
        r->replica[i].ns = namespace_free(r->replica[i].ns);
        CHECK_OK(
            namespace_new(&(struct namespace_options){.kv = r->replica[i].kv}, &r->replica[i].ns));
    }
}

/* Few credentials, each with as many groups as it may have: their sum has a limit, too. */
TEST(groups_of_all_credentials_have_a_limit)
{
    enum { FULL = NAMESPACE_CRED_GROUPS_MAX / NAMESPACE_GROUPS_MAX };
    struct rig r;
    rig_open_needing(&r, 0);
    for (uint32_t i = 1; i < FULL; i++) {
        CHECK_OK(register_groups(&r, i, NAMESPACE_GROUPS_MAX));
        CHECK_EQ(r.reply.id, i + 1); /* 1 is root's */
    }
    restart(&r);
    CHECK_OK(register_groups(&r, FULL, NAMESPACE_GROUPS_MAX - 1));
    CHECK_RC(register_groups(&r, 1000, 2), ERR_many_credentials);
    CHECK_OK(register_groups(&r, 1000, 1)); /* the last that there is room for */
    CHECK_RC(register_groups(&r, 2000, 1), ERR_many_credentials);
    CHECK_OK(register_groups(&r, 1, NAMESPACE_GROUPS_MAX)); /* known: the same number, no more */
    CHECK_EQ(r.reply.id, 2);
    CHECK_EQ(rig_cred(&r, r.op.session, 6, 6, 0), FULL + 3); /* no groups need no room */
    CHECK_OK(RIG_OP(&r, create, .parent = 1, .name = rig_text("d"), .type = PROTO_INODE_DIRECTORY));
    (void)rig_digest(&r); /* both replicas hold the same */
    rig_close(&r);
}

static int open_numbered(struct rig *r, uint32_t i)
{
    struct proto_session_open_request q = {
        .client.bytes = {1, (uint8_t)i, (uint8_t)(i >> 8), (uint8_t)(i >> 16)}, .verifier = i};
    return rig_command(r, PROTO_OP_session_open, &proto_session_open_request_type, &q);
}

TEST(sessions_have_a_limit)
{
    struct rig r;
    rig_open_needing(&r, 0);
    plant_sessions(&r, NAMESPACE_SESSIONS_MAX - 8);
    for (uint32_t i = 1; i <= 8; i++) {
        CHECK_OK(open_numbered(&r, i));
    }
    CHECK_RC(open_numbered(&r, NAMESPACE_SESSIONS_MAX), EUSERS);
    CHECK_OK(open_numbered(&r, 5)); /* the same question again */
    uint64_t known = r.reply.session;
    CHECK_OK(RIG_DO(&r, PROTO_OP_session_close, proto_session_close_request, .session = known,
                    .verifier = 5));
    CHECK_OK(open_numbered(&r, NAMESPACE_SESSIONS_MAX));
    CHECK_TRUE(r.reply.session > known);
    CHECK_RC(open_numbered(&r, 5), EUSERS);
    rig_close(&r);
}
