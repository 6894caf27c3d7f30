/* Each kind of damage is found, named, and nothing else is said. */
#include "namespace/fsck.h"

#include "testing/testing.h"

#include "namespace/fsck_run_priv.h"

#include <stdarg.h>

/* A small file system with something in nearly every range of records. */
struct scene {
    struct rig r;
    uint64_t dir, sub, file, linked, chunked, trashed, orphan, session;
};

static uint64_t make(struct rig *r, uint64_t parent, const char *name, uint8_t type, uint32_t flags)
{
    CHECK_OK(RIG_OP(r, create, .parent = parent, .name = rig_text(name), .type = type, .mode = 0755,
                    .flags = flags,
                    .data = rig_text((flags & PROTO_CREATE_HAS_DATA) != 0 ? "contents" : "")));
    return r->reply.result.ino;
}

static void scene_open(struct scene *s)
{
    struct rig *r = &s->r;
    uint32_t data = PROTO_CREATE_HAS_DATA;
    rig_open(r);
    rig_make_class(r, 4);
    s->session = r->op.session;
    s->dir = make(r, 1, "dir", PROTO_INODE_DIRECTORY, 0);
    s->sub = make(r, s->dir, "sub", PROTO_INODE_DIRECTORY, 0);
    s->file = make(r, s->dir, "file", PROTO_INODE_FILE, data);
    CHECK_OK(RIG_OP(r, setxattr, .ino = s->file, .name = rig_text("user.a"),
                    .value = rig_text("value")));
    s->linked = make(r, s->dir, "linked", PROTO_INODE_FILE, data);
    CHECK_OK(RIG_OP(r, link, .ino = s->linked, .parent = 1, .name = rig_text("other")));
    s->chunked = make(r, s->sub, "chunked", PROTO_INODE_FILE, PROTO_CREATE_WOPEN);
    CHECK_OK(RIG_OP(r, commit, .ino = s->chunked, .cap_epoch = r->reply.result.cap_epoch,
                    .size = 100000, .allocated = 4096));
    CHECK_OK(RIG_DO(r, NAMESPACE_LOCK_GRANT, namespace_lock_grant, .ino = s->chunked,
                    .session = s->session, .kind = PROTO_LOCK_POSIX, .type = PROTO_LOCK_WRITE,
                    .owner = 7, .start = 10, .last = 20));
    s->orphan = make(r, 1, "orphan", PROTO_INODE_FILE, data);
    CHECK_OK(RIG_OP(r, unlink, .parent = 1, .name = rig_text("orphan"), .is_open = true));
    CHECK_OK(RIG_OP(r, setattr, .ino = 1, .mask = PROTO_SET_RETENTION, .retention_s = 60));
    s->trashed = make(r, s->dir, "trashed", PROTO_INODE_FILE, data);
    CHECK_OK(RIG_OP(r, unlink, .parent = s->dir, .name = rig_text("trashed")));
    uint64_t gone = make(r, 1, "gone", PROTO_INODE_FILE, PROTO_CREATE_WOPEN);
    CHECK_OK(RIG_OP(r, commit, .ino = gone, .cap_epoch = r->reply.result.cap_epoch, .size = 100000,
                    .allocated = 4096, .flags = PROTO_COMMIT_RELEASE));
    CHECK_OK(RIG_OP(r, unlink, .parent = 1, .name = rig_text("gone")));
    CHECK_OK(RIG_OP(r, trash_purge, .inos = {.at = &gone, .count = 1}));
    CHECK_TRUE(r->reply.removed_data_id != 0);
}

/* Past the state machine, into both replicas. `value` NULL: deletes. */
static void plant(struct rig *r, const struct namespace_key *key, const void *value, size_t len)
{
    r->index++;
    for (size_t i = 0; i < RIG_REPLICAS; i++) {
        struct kv_batch b;
        kv_batch_init(&b);
        CHECK_OK(value == NULL
                     ? kv_batch_delete(&b, namespace_key_slice(key))
                     : kv_batch_put(&b, namespace_key_slice(key), kv_slice_of(value, len)));
        CHECK_OK(rig_commit(&r->replica[i], &b, r->index));
        kv_batch_fini(&b);
    }
}

static void plant_record(struct rig *r, const struct namespace_key *key,
                         const struct proto_type *type, const void *record)
{
    uint8_t bytes[4096];
    struct wire_writer w = wire_writer_over(bytes, sizeof bytes);
    CHECK_OK(proto_encode(type, record, &w));
    plant(r, key, bytes, w.len);
}
#define PLANT(r, key, tag, record) \
    plant_record((r), (key), &tag##_type, (1 ? (record) : (const struct tag *)NULL))

static void plant_delete(struct rig *r, struct namespace_key key)
{
    plant(r, &key, NULL, 0);
}

/* What is found has this code, and nothing has another one; `path` may be NULL. */
static void check_found(struct scene *s, const char *code, const char *path)
{
    struct fsck_run *run = mem_zalloc(sizeof *run);
    CHECK_TRUE(run != NULL);
    bool found = false;
    fsck_run_all(&s->r.replica[1], 5, run);
    for (size_t i = 0; i < base_min(run->count, FSCK_RUN_MAX); i++) {
        const struct namespace_finding *f = &run->found[i];
        found =
            found || (strcmp(f->code, code) == 0 && (path == NULL || strcmp(f->path, path) == 0));
    }
    for (size_t i = 0; !found && i < base_min(run->count, FSCK_RUN_MAX); i++) {
        (void)fprintf(stderr, "instead of %s: %s: %s: %s\n", code, run->found[i].code,
                      run->found[i].path, run->found[i].text);
    }
    CHECK_TRUE(found);
    mem_free(run);
}

static struct namespace_key inode_key(uint64_t ino)
{
    return namespace_key_u64(NAMESPACE_INODE, ino);
}

static struct namespace_inode inode_of(struct scene *s, uint64_t ino)
{
    struct namespace_inode n;
    CHECK_OK(RIG_VIEW(&s->r, namespace_view_inode(&s->r.view, ino, &n)));
    return n;
}

static struct namespace_key name_key(uint64_t dir, const char *name)
{
    return namespace_key_name(NAMESPACE_DIRENT, dir, rig_text(name));
}

static struct namespace_state state_of(struct scene *s)
{
    struct namespace_state state;
    CHECK_OK(RIG_VIEW(&s->r, namespace_view_state(&s->r.view, &state)));
    return state;
}

#define CHECK_DAMAGE(code, path, ...)    \
    do {                                 \
        struct scene s;                  \
        scene_open(&s);                  \
        struct rig *r = &s.r;            \
        (void)r;                         \
        __VA_ARGS__                      \
        check_found(&s, (code), (path)); \
        rig_close(&s.r);                 \
    } while (0)
/* An inode is not what it was. */
#define CHECK_BENT(code, path, which, change)             \
    CHECK_DAMAGE(code, path, {                            \
        struct namespace_inode n = inode_of(&s, s.which); \
        struct namespace_key key = inode_key(s.which);    \
        change;                                           \
        PLANT(r, &key, namespace_inode, &n);              \
    })

TEST(a_sound_state_has_nothing)
{
    struct scene s;
    struct fsck_run *run = mem_zalloc(sizeof *run);
    CHECK_TRUE(run != NULL);
    scene_open(&s);
    fsck_run_clean(&s.r);
    fsck_run_all(&s.r.replica[0], 1, run);
    CHECK_TRUE(run->records > 40);
    mem_free(run);
    rig_close(&s.r);
}

/* The newest session of a client is closed, and an older one has not run out. */
TEST(an_older_session_may_outlive_a_newer)
{
    struct scene s;
    scene_open(&s);
    uint64_t older = rig_session(&s.r, 3, 33);
    uint64_t newer = rig_session(&s.r, 3, 34);
    CHECK_TRUE(newer > older);
    CHECK_OK(RIG_DO(&s.r, PROTO_OP_session_close, proto_session_close_request, .session = newer,
                    .verifier = 34));
    fsck_run_clean(&s.r);
    rig_close(&s.r);
}

TEST(names_that_lie_are_found)
{
    CHECK_DAMAGE("name.dangling", "/dir", { plant_delete(r, inode_key(s.file)); });
    CHECK_DAMAGE("name.homeless", "/dir/file", {
        struct namespace_dirent d = {.ino = s.file, .type = PROTO_INODE_FILE};
        struct namespace_key key = name_key(4711, "file");
        PLANT(r, &key, namespace_dirent, &d);
    });
    CHECK_DAMAGE("name.elsewhere", "/dir/file", {
        struct namespace_dirent d = {.ino = s.file, .type = PROTO_INODE_FILE};
        struct namespace_key key = name_key(1, "file");
        PLANT(r, &key, namespace_dirent, &d);
    });
    CHECK_DAMAGE("name.type", "/dir/file", {
        struct namespace_dirent d = {.ino = s.file, .type = PROTO_INODE_FIFO};
        struct namespace_key key = name_key(s.dir, "file");
        PLANT(r, &key, namespace_dirent, &d);
    });
    CHECK_DAMAGE("name.broken", "/dir", {
        struct namespace_dirent d = {.ino = s.file, .type = PROTO_INODE_FILE};
        struct namespace_key key = name_key(s.dir, "..");
        PLANT(r, &key, namespace_dirent, &d);
    });
    CHECK_DAMAGE("name.removed", "/dir/trashed", {
        struct namespace_dirent d = {.ino = s.trashed, .type = PROTO_INODE_FILE};
        struct namespace_key key = name_key(s.dir, "trashed");
        PLANT(r, &key, namespace_dirent, &d);
    });
    CHECK_DAMAGE("inode.nameless", "/dir/file", { plant_delete(r, name_key(s.dir, "file")); });
    CHECK_DAMAGE("directory.entries", "/dir", { plant_delete(r, name_key(s.dir, "file")); });
    CHECK_DAMAGE("directory.links", "/dir", { plant_delete(r, name_key(s.dir, "sub")); });
    CHECK_DAMAGE("directory.entries", "/dir/sub", { plant_delete(r, name_key(s.sub, "chunked")); });
}

TEST(links_that_do_not_fit_are_found)
{
    CHECK_DAMAGE("link.missing", "/dir/linked", {
        struct namespace_key key = namespace_key_u64s(NAMESPACE_LINK, s.linked, 1);
        namespace_key_add_bytes(&key, rig_text("other"));
        plant_delete(r, key);
    });
    CHECK_DAMAGE("link.dangling", "/dir/linked", { plant_delete(r, name_key(1, "other")); });
    CHECK_DAMAGE("link.stray", "/dir/file", {
        struct namespace_key key = namespace_key_u64s(NAMESPACE_LINK, s.file, s.dir);
        namespace_key_add_bytes(&key, rig_text("file"));
        plant(r, &key, "", 0);
    });
    CHECK_BENT("inode.links", "/dir/linked", linked, n.nlink = 3);
    CHECK_BENT("inode.links", "/dir/file", file, n.nlink = 2);
}

TEST(inodes_that_lie_are_found)
{
    CHECK_BENT("inode.type", "/dir/file", file, n.type = 9);
    CHECK_BENT("inode.lost", "/dir/file", file, n.nlink = 0);
    CHECK_BENT("inode.flags", "/dir/sub", sub, n.flags |= PROTO_INODE_INLINE);
    CHECK_BENT("inode.data", "/dir/sub/chunked", chunked, n.data_id = 0);
    CHECK_BENT("layout.table", "/dir/sub/chunked", chunked, n.table_version = 99);
    CHECK_BENT("layout.data_id", "/dir/sub/chunked", chunked, n.data_id = 4711);
    CHECK_BENT("layout.broken", "/dir/sub/chunked", chunked, n.stripe_width = 65);
    CHECK_BENT("directory.run", "/dir", dir, n.run_end += 1000000);
    CHECK_BENT("inline.long", "/dir/file", file, n.size = 3);
    CHECK_BENT("inline.stray", "/dir/file", file, n.flags &= ~PROTO_INODE_INLINE);
    CHECK_BENT("xattr.stray", "/dir/file", file, n.flags &= ~PROTO_INODE_HAS_XATTR);
    CHECK_BENT("xattr.missing", "/dir/linked", linked, n.flags |= PROTO_INODE_HAS_XATTR);
    CHECK_BENT("acl.missing", "/dir/file", file, n.flags |= PROTO_INODE_HAS_ACL);
    CHECK_BENT("state.counter", NULL, file, n.size = 9);
    CHECK_BENT("stats.wrong", "/dir", file, n.size = 9);
    CHECK_BENT("trash.stray", "/dir/trashed", trashed, n.flags &= ~PROTO_INODE_TRASH);
    CHECK_BENT("trash.missing", "/dir/trashed", trashed, n.uid = 7);
    CHECK_BENT("trash.named", "/dir/file", file, n.flags |= PROTO_INODE_TRASH);
    CHECK_DAMAGE("inode.number", NULL, {
        struct namespace_inode n = inode_of(&s, s.file);
        struct namespace_key key = inode_key(99999);
        PLANT(r, &key, namespace_inode, &n);
    });
    CHECK_DAMAGE("xattr.sums", "/dir/file", {
        struct namespace_key key = namespace_key_name(NAMESPACE_XATTR, s.file, rig_text("user.a"));
        plant(r, &key, "longer than before", 18);
    });
    CHECK_DAMAGE("acl.stray", "/dir/file", {
        struct namespace_key key = namespace_key_u64(NAMESPACE_ACL, s.file);
        namespace_key_add_bytes(&key, proto_bytes_of((const uint8_t[]){NAMESPACE_ACL_ACCESS}, 1));
        struct proto_acl acl = {.has_mask = true};
        PLANT(r, &key, proto_acl, &acl);
    });
}

/* A directory that is its own ancestor: the heights cannot rise for ever. */
TEST(a_cycle_is_found)
{
    CHECK_DAMAGE("stats.height", NULL, {
        struct namespace_inode n = inode_of(&s, s.dir);
        struct namespace_dirent d = {.ino = s.dir, .type = PROTO_INODE_DIRECTORY};
        struct namespace_key key = inode_key(s.dir);
        plant_delete(r, name_key(1, "dir"));
        n.parent = s.sub;
        PLANT(r, &key, namespace_inode, &n);
        key = name_key(s.sub, "dir");
        PLANT(r, &key, namespace_dirent, &d);
    });
}

TEST(statistics_that_are_wrong_are_found)
{
    CHECK_DAMAGE("stats.missing", "/dir",
                 { plant_delete(r, namespace_key_u64(NAMESPACE_DIR_STATS, s.dir)); });
    CHECK_DAMAGE("stats.stray", "/dir/file", {
        struct namespace_dir_stats n = {.parent = s.dir};
        struct namespace_key key = namespace_key_u64(NAMESPACE_DIR_STATS, s.file);
        PLANT(r, &key, namespace_dir_stats, &n);
    });
    CHECK_DAMAGE("stats.parent", "/dir/sub", {
        struct namespace_dir_stats n;
        struct namespace_key key = namespace_key_u64(NAMESPACE_DIR_STATS, s.sub);
        CHECK_OK(RIG_VIEW(r, namespace_view_dir_stats(&r->view, s.sub, &n)));
        n.parent = 1;
        PLANT(r, &key, namespace_dir_stats, &n);
    });
}

TEST(quotas_that_do_not_fit_are_found)
{
    CHECK_DAMAGE("quota.stray", "/dir", {
        struct namespace_quota q = {.bytes_hard = 1};
        struct namespace_key key = namespace_key_u64(NAMESPACE_QUOTA, s.dir);
        PLANT(r, &key, namespace_quota, &q);
    });
    CHECK_DAMAGE("quota.missing", "/dir", {
        struct namespace_dir_stats n;
        struct namespace_key key = namespace_key_u64(NAMESPACE_DIR_STATS, s.dir);
        CHECK_OK(RIG_VIEW(r, namespace_view_dir_stats(&r->view, s.dir, &n)));
        n.flags = NAMESPACE_STATS_QUOTA;
        PLANT(r, &key, namespace_dir_stats, &n);
    });
}

TEST(sessions_that_do_not_fit_are_found)
{
    CHECK_DAMAGE("orphan.index", NULL, {
        plant_delete(r, namespace_key_u64s(NAMESPACE_SESSION_ORPHAN, s.session, s.orphan));
    });
    CHECK_DAMAGE("inode.lost", "/orphan",
                 { plant_delete(r, namespace_key_u64s(NAMESPACE_ORPHAN, s.orphan, s.session)); });
    CHECK_DAMAGE("orphan.stray", "/dir/file", {
        struct namespace_orphan o = {.maybe = false};
        struct namespace_key key = namespace_key_u64s(NAMESPACE_ORPHAN, s.file, s.session);
        PLANT(r, &key, namespace_orphan, &o);
    });
    CHECK_DAMAGE("writer.index", NULL, {
        plant_delete(r, namespace_key_u64s(NAMESPACE_SESSION_WOPEN, s.session, s.chunked));
    });
    CHECK_DAMAGE("writer.alone", "/dir/sub/chunked", {
        struct namespace_wopen w = {.mode = PROTO_OPEN_S};
        struct namespace_key key = namespace_key_u64s(NAMESPACE_WOPEN, s.chunked, 99);
        PLANT(r, &key, namespace_wopen, &w);
    });
    CHECK_DAMAGE("writer.epoch", "/dir/sub/chunked", {
        struct namespace_wopen w = {.mode = PROTO_OPEN_W, .cap_epoch = 4711};
        struct namespace_key key = namespace_key_u64s(NAMESPACE_WOPEN, s.chunked, s.session);
        PLANT(r, &key, namespace_wopen, &w);
    });
    CHECK_DAMAGE("session.count", NULL, {
        struct namespace_key key = namespace_key_u64(NAMESPACE_OBLIGATIONS, s.session);
        plant(r, &key, "\7\0\0\0\0\0\0", 8);
    });
    CHECK_DAMAGE("session.client", NULL, {
        struct namespace_key key = namespace_key(NAMESPACE_CLIENT);
        struct namespace_id id = {.id = rig_session(r, 3, 33)};
        struct namespace_session newer;
        (void)rig_session(r, 3, 34);
        CHECK_OK(RIG_VIEW(r, namespace_view_session(&r->view, id.id, &newer)));
        namespace_key_add_bytes(&key,
                                proto_bytes_of(newer.client.bytes, sizeof newer.client.bytes));
        PLANT(r, &key, namespace_id, &id);
    });
    CHECK_DAMAGE("session.missing", NULL,
                 { plant_delete(r, namespace_key_u64(NAMESPACE_SESSION, s.session)); });
    CHECK_DAMAGE("fence.epoch", NULL, {
        struct namespace_fence f = {.cap_epoch = 4711};
        struct namespace_key key = namespace_key_u64(NAMESPACE_FENCE, 1);
        PLANT(r, &key, namespace_fence, &f);
    });
}

TEST(locks_and_their_index_agree)
{
    CHECK_DAMAGE("lock.index", "/dir/sub/chunked", {
        plant_delete(r, namespace_key_u64s(NAMESPACE_SESSION_LOCK, s.session, s.chunked));
    });
    CHECK_DAMAGE("lock.index", "/dir/file", {
        struct namespace_key key = namespace_key_u64s(NAMESPACE_SESSION_LOCK, s.session, s.file);
        plant(r, &key, "", 0);
    });
    CHECK_DAMAGE("lock.count", NULL, {
        struct namespace_key key = namespace_key_u64(NAMESPACE_LOCKS, s.session);
        plant(r, &key, "\7\0\0\0\0\0\0", 8);
    });
    CHECK_DAMAGE("lock.range", "/dir/sub/chunked", {
        struct namespace_lock l = {.last = 5, .type = PROTO_LOCK_WRITE};
        struct namespace_key key = namespace_key_u64s(NAMESPACE_LOCK, s.chunked, s.session);
        namespace_key_add_bytes(&key, proto_bytes_of((const uint8_t[]){PROTO_LOCK_POSIX}, 1));
        namespace_key_add_u64(&key, 7);
        namespace_key_add_u64(&key, 10);
        PLANT(r, &key, namespace_lock, &l);
    });
}

TEST(the_trash_and_its_index_agree)
{
    struct scene t;
    scene_open(&t);
    struct namespace_trash_due due;
    CHECK_OK(RIG_VIEW(&t.r, namespace_trash_first(&t.r.view, &due)));
    rig_close(&t.r);
    CHECK_DAMAGE("trash.endless", "/dir/trashed", {
        CHECK_OK(RIG_VIEW(r, namespace_trash_first(&r->view, &due)));
        plant_delete(
            r, namespace_key_u64s(NAMESPACE_TRASH_EXPIRY, (uint64_t)due.expiry_ns, s.trashed));
    });
    CHECK_DAMAGE("trash.expiry", "/dir/trashed", {
        struct namespace_key key = namespace_key_u64s(NAMESPACE_TRASH_EXPIRY, 1, s.trashed);
        plant(r, &key, "", 0);
    });
}

TEST(what_data_nodes_are_to_do_is_sound)
{
    struct proto_layout layout = {.data_id = 4711, .class_id = 1, .table_version = 9};
    CHECK_DAMAGE("layout.table", NULL, {
        struct namespace_garbage g = {.layout = layout};
        struct namespace_key key = namespace_key_u64(NAMESPACE_GARBAGE, 4711);
        PLANT(r, &key, namespace_garbage, &g);
    });
    CHECK_DAMAGE("state.counter", NULL, {
        struct namespace_garbage g = {.layout = layout};
        struct namespace_key key = namespace_key_u64(NAMESPACE_GARBAGE, 4711);
        PLANT(r, &key, namespace_garbage, &g);
    });
    CHECK_DAMAGE("trim.stray", "/dir/file", {
        struct namespace_trim t = {.layout = layout};
        struct namespace_key key = namespace_key_u64(NAMESPACE_TRIM, s.file);
        PLANT(r, &key, namespace_trim, &t);
    });
    CHECK_DAMAGE("table.chain", NULL, {
        struct namespace_key key = namespace_key(NAMESPACE_ROW);
        namespace_key_add_u32(&key, 2);
        plant_delete(r, key);
    });
    CHECK_DAMAGE("chain.target", NULL, {
        struct namespace_key key = namespace_key(NAMESPACE_TARGET);
        namespace_key_add_u32(&key, 2);
        plant_delete(r, key);
    });
    CHECK_DAMAGE("class.table", NULL, {
        struct namespace_key key = namespace_key(NAMESPACE_TABLE);
        namespace_key_add_u32(&key, 1);
        namespace_key_add_u32(&key, 1);
        plant_delete(r, key);
    });
}

TEST(what_is_no_record_is_found)
{
    CHECK_DAMAGE("record.unknown", NULL, {
        struct namespace_key key = namespace_key((enum namespace_range)'~');
        plant(r, &key, "x", 1);
    });
    CHECK_DAMAGE("record.broken", NULL, {
        struct namespace_key key = inode_key(s.file);
        plant(r, &key, "x\1", 2);
    });
    CHECK_DAMAGE("key.broken", NULL, {
        struct namespace_key key = inode_key(s.file);
        namespace_key_add_u32(&key, 1);
        plant(r, &key, "x", 1);
    });
    CHECK_DAMAGE("state.counter", NULL, {
        struct namespace_state state = state_of(&s);
        struct namespace_key key = namespace_key(NAMESPACE_STATE);
        state.sessions++;
        PLANT(r, &key, namespace_state, &state);
    });
}
