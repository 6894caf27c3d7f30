#include "namespace/namespace.h"

#include <stdio.h>

#include "testing/testing.h"

#include "namespace/rig_cluster_priv.h"

static uint64_t make(struct rig *r, uint64_t parent, const char *name, enum proto_inode_type type)
{
    CHECK_OK(RIG_OP(r, create, .parent = parent, .name = rig_text(name), .type = (uint8_t)type,
                    .mode = 0755, .target = rig_text(type == PROTO_INODE_SYMLINK ? "to" : ""),
                    .flags = PROTO_CREATE_EXCLUSIVE));
    return r->reply.result.ino;
}

static uint64_t find(struct rig *r, uint64_t parent, const char *name, struct proto_attr *ret)
{
    struct proto_lookup_reply reply;
    CHECK_OK(RIG_QUERY(r, lookup, &reply, .parent = parent, .name = rig_text(name)));
    if (ret != NULL) {
        *ret = reply.attr;
    }
    return reply.attr.ino;
}

static struct proto_attr attr_of(struct rig *r, uint64_t ino)
{
    struct proto_getattr_reply reply;
    CHECK_OK(RIG_QUERY(r, getattr, &reply, .ino = ino));
    return reply.attr;
}

TEST(before_format_nothing_works)
{
    struct rig r;
    rig_open(&r);
    CHECK_RC(RIG_DO(&r, NAMESPACE_FORMAT_ROOT, namespace_format, .mode = 0700), EEXIST);
    struct proto_attr root = attr_of(&r, PROTO_ROOT_INO);
    CHECK_EQ(root.mode, 0755);
    CHECK_EQ(root.nlink, 2);
    rig_close(&r);
}

TEST(a_file_is_made_and_found)
{
    struct rig r;
    struct proto_attr a;
    rig_open(&r);
    uint64_t dir = make(&r, 1, "dir", PROTO_INODE_DIRECTORY);
    CHECK_EQ(r.reply.change_count, 2);
    uint64_t ino = make(&r, dir, "file", PROTO_INODE_FILE);
    CHECK_TRUE(r.reply.result.created);
    CHECK_EQ(find(&r, 1, "dir", &a), dir);
    CHECK_EQ(a.type, PROTO_INODE_DIRECTORY);
    CHECK_EQ(find(&r, dir, "file", &a), ino);
    CHECK_EQ(a.nlink, 1);
    CHECK_EQ(a.mtime_ns, r.time_ns);
    CHECK_EQ(find(&r, dir, "none", NULL), 0);
    CHECK_EQ(find(&r, dir, "..", NULL), 1);
    CHECK_RC(RIG_OP(&r, create, .parent = dir, .name = rig_text("file"), .type = PROTO_INODE_FILE,
                    .flags = PROTO_CREATE_EXCLUSIVE),
             EEXIST);
    CHECK_OK(RIG_OP(&r, create, .parent = dir, .name = rig_text("file"), .type = PROTO_INODE_FILE));
    CHECK_TRUE(!r.reply.result.created);
    CHECK_EQ(r.reply.attr.ino, ino);
    CHECK_RC(RIG_OP(&r, create, .parent = ino, .name = rig_text("x"), .type = PROTO_INODE_FILE),
             ENOTDIR);
    CHECK_RC(RIG_OP(&r, create, .parent = 9999, .name = rig_text("x"), .type = PROTO_INODE_FILE),
             ENOENT);
    CHECK_RC(RIG_OP(&r, create, .parent = 1, .name = rig_text(".."), .type = PROTO_INODE_FILE),
             EINVAL);
    rig_close(&r);
}

TEST(small_contents_come_with_create)
{
    struct rig r;
    struct proto_lookup_reply reply;
    rig_open(&r);
    CHECK_OK(RIG_OP(&r, create, .parent = 1, .name = rig_text("f"), .type = PROTO_INODE_FILE,
                    .mode = 0644, .flags = PROTO_CREATE_HAS_DATA, .data = rig_text("hello")));
    CHECK_OK(
        RIG_QUERY(&r, lookup, &reply, .parent = 1, .name = rig_text("f"), .want = PROTO_WANT_DATA));
    CHECK_TRUE(reply.has_data && proto_bytes_equal(reply.data, rig_text("hello")));
    CHECK_EQ(reply.attr.size, 5);
    static uint8_t big[NAMESPACE_INLINE_DEFAULT + 1];
    CHECK_OK(RIG_OP(&r, create, .parent = 1, .name = rig_text("g"), .type = PROTO_INODE_FILE,
                    .flags = PROTO_CREATE_HAS_DATA, .data = {big, NAMESPACE_INLINE_DEFAULT}));
    CHECK_RC(RIG_OP(&r, create, .parent = 1, .name = rig_text("h"), .type = PROTO_INODE_FILE,
                    .flags = PROTO_CREATE_HAS_DATA, .data = {big, sizeof big}),
             EFBIG);
    CHECK_OK(RIG_OP(&r, setattr, .ino = reply.attr.ino, .mask = PROTO_SET_SIZE, .size = 2));
    CHECK_OK(
        RIG_QUERY(&r, lookup, &reply, .parent = 1, .name = rig_text("f"), .want = PROTO_WANT_DATA));
    CHECK_TRUE(proto_bytes_equal(reply.data, rig_text("he")));
    rig_close(&r);
}

/* Done once, answered once more: of what is gone by then its number, and type 0 says so. */
TEST(an_answer_of_what_has_gone_since_says_so)
{
    struct rig r;
    rig_open(&r);
    struct proto_op mine = r.op;
    mine.sequence++;
    uint64_t ino = make(&r, 1, "d", PROTO_INODE_DIRECTORY);
    uint8_t *again = mem_dup(r.command, r.command_len);
    size_t len = r.command_len;
    CHECK_TRUE(again != NULL);
    r.op = (struct proto_op){.session = rig_session(&r, 2, 22), .sequence = 1};
    r.op.cred = rig_cred(&r, r.op.session, 0, 0, 0);
    CHECK_OK(RIG_OP(&r, rmdir, .parent = 1, .name = rig_text("d")));
    CHECK_OK(rig_apply_bytes(&r, again, len));
    CHECK_TRUE(r.reply.replayed && r.reply.result.created);
    CHECK_EQ(r.reply.attr.ino, ino);
    CHECK_EQ(r.reply.attr.type, 0);
    CHECK_EQ(r.reply.attr.nlink, 0);
    r.op = mine;
    uint64_t other = make(&r, 1, "d", PROTO_INODE_DIRECTORY); /* nothing was made anew */
    CHECK_TRUE(other != ino);
    mem_free(again);
    rig_close(&r);
}

TEST(each_mutation_runs_once)
{
    struct rig r;
    rig_open(&r);
    uint64_t ino = make(&r, 1, "f", PROTO_INODE_FILE);
    struct namespace_reply first = r.reply;
    uint64_t before = rig_digest(&r);
    CHECK_OK(rig_apply_bytes(&r, r.command, r.command_len)); /* the very same once more */
    CHECK_TRUE(r.reply.replayed);
    CHECK_EQ(r.reply.result.ino, ino);
    CHECK_TRUE(r.reply.result.created);
    CHECK_EQ(r.reply.change_count, first.change_count);
    CHECK_EQ(r.reply.change[0].version_before, first.change[0].version_before);
    CHECK_EQ(r.reply.change[0].version_after, first.change[0].version_after);
    CHECK_TRUE(before != rig_digest(&r)); /* the log went on */
    /* Failures are kept too. */
    CHECK_RC(RIG_OP(&r, rmdir, .parent = 1, .name = rig_text("f")), ENOTDIR);
    CHECK_RC(rig_apply_bytes(&r, r.command, r.command_len), ENOTDIR);
    CHECK_TRUE(r.reply.replayed);
    /* An old sequence, one too far, the same with other contents. */
    r.op.sequence -= 2;
    CHECK_RC(RIG_OP(&r, rmdir, .parent = 1, .name = rig_text("f")), ERR_bad_sequence);
    r.op.sequence += 3;
    CHECK_RC(RIG_OP(&r, rmdir, .parent = 1, .name = rig_text("f")), ERR_bad_sequence);
    r.op.sequence -= 2;
    CHECK_RC(RIG_OP(&r, rmdir, .parent = 1, .name = rig_text("g")), ERR_bad_sequence);
    r.op.sequence += 1;
    r.op.slot = 16;
    CHECK_RC(RIG_OP(&r, rmdir, .parent = 1, .name = rig_text("g")), ERR_bad_sequence);
    r.op.slot = 15;
    r.op.sequence = 1;
    CHECK_RC(RIG_OP(&r, rmdir, .parent = 1, .name = rig_text("g")), ENOENT);
    r.op.session = 77;
    CHECK_RC(RIG_OP(&r, rmdir, .parent = 1, .name = rig_text("g")), ERR_session_expired);
    rig_close(&r);
}

/* The answer of a mutation as its slot gives it. */
static int cancel(struct rig *r, uint64_t sequence)
{
    return RIG_DO(r, PROTO_OP_slot_cancel, proto_slot_cancel_request, .session = r->op.session,
                  .slot = r->op.slot, .sequence = sequence);
}

TEST(a_cancelled_sequence_never_runs)
{
    struct rig r;
    uint8_t body[8192];
    struct proto_trailer trailer = {.renewed = true};
    struct proto_slot_cancel_reply reply;
    struct proto_create_reply inner;
    rig_open(&r);
    uint64_t ino = make(&r, 1, "f", PROTO_INODE_FILE);
    CHECK_OK(cancel(&r, r.op.sequence - 1));
    CHECK_TRUE(r.reply.was_done);
    struct wire_writer w = wire_writer_over(body, sizeof body);
    CHECK_OK(namespace_reply_encode(&r.reply, &trailer, NULL, &w));
    CHECK_OK(PROTO_DECODE(proto_slot_cancel_reply, body, w.len, &r.arena, &reply));
    CHECK_EQ(reply.opcode, PROTO_OP_create);
    CHECK_OK(PROTO_DECODE(proto_create_reply, reply.body.at, reply.body.len, &r.arena, &inner));
    CHECK_EQ(inner.attr.ino, ino);
    CHECK_TRUE(inner.created);
    CHECK_OK(cancel(&r, r.op.sequence));
    CHECK_TRUE(!r.reply.was_done);
    CHECK_OK(cancel(&r, r.op.sequence)); /* asked again */
    CHECK_TRUE(!r.reply.was_done);
    CHECK_RC(RIG_OP(&r, rmdir, .parent = 1, .name = rig_text("f")), ERR_bad_sequence);
    r.op.sequence++;
    CHECK_RC(RIG_OP(&r, rmdir, .parent = 1, .name = rig_text("f")), ENOTDIR);
    CHECK_RC(cancel(&r, r.op.sequence + 1), ERR_bad_sequence);
    rig_close(&r);
}

TEST(sessions_open_once_and_end_whole)
{
    struct rig r;
    rig_open(&r);
    uint64_t two = rig_session(&r, 2, 22);
    CHECK_EQ(rig_session(&r, 2, 22), two); /* the same question again */
    uint64_t three = rig_session(&r, 2, 23);
    CHECK_TRUE(three > two);
    CHECK_EQ(rig_cred(&r, two, 1000, 100, 7), 1);
    CHECK_EQ(rig_cred(&r, two, 1000, 100, 8), 2);
    CHECK_EQ(rig_cred(&r, two, 1000, 100, 7), 1);
    CHECK_RC(RIG_DO(&r, PROTO_OP_session_close, proto_session_close_request, .session = two,
                    .verifier = 1),
             EPERM);
    CHECK_OK(RIG_DO(&r, PROTO_OP_session_close, proto_session_close_request, .session = two,
                    .verifier = 22));
    CHECK_OK(RIG_DO(&r, PROTO_OP_session_close, proto_session_close_request, .session = two,
                    .verifier = 22));
    CHECK_RC(RIG_DO(&r, PROTO_OP_credential, proto_credential_request, .session = two),
             ERR_session_expired);
    struct proto_session_open_request q = {.client.bytes = {2, 1},
                                           .boot_id.bytes = {10}, /* it was restarted */
                                           .verifier = 99,
                                           .replaces = three};
    CHECK_OK(rig_command(&r, PROTO_OP_session_open, &proto_session_open_request_type, &q));
    struct namespace_sessions l;
    CHECK_OK(RIG_VIEW(&r, namespace_sessions(&r.view, 0, 10, &l)));
    CHECK_EQ(l.count, 2);
    CHECK_EQ(l.ids[0], r.op.session);
    CHECK_EQ(l.ids[1], r.reply.session);
    CHECK_EQ(l.at[1].slots, NAMESPACE_SLOTS_DEFAULT);
    CHECK_OK(RIG_VIEW(&r, namespace_sessions(&r.view, 0, 1, &l)));
    CHECK_TRUE(l.more && l.count == 1);
    rig_close(&r);
}

TEST(rename_follows_posix)
{
    struct rig r;
    rig_open(&r);
    uint64_t a = make(&r, 1, "a", PROTO_INODE_DIRECTORY);
    uint64_t b = make(&r, a, "b", PROTO_INODE_DIRECTORY);
    uint64_t f = make(&r, b, "f", PROTO_INODE_FILE);
    uint64_t g = make(&r, 1, "g", PROTO_INODE_FILE);
#define RENAME(from, n1, to, n2, how)                                              \
    RIG_OP(&r, rename, .parent = (from), .name = rig_text(n1), .new_parent = (to), \
           .new_name = rig_text(n2), .flags = (how))
    CHECK_RC(RENAME(1, "a", b, "a", 0), EINVAL); /* into itself */
    CHECK_RC(RENAME(1, "a", a, "x", 0), EINVAL);
    CHECK_RC(RENAME(1, "g", 1, "a", 0), EISDIR);
    CHECK_RC(RENAME(1, "a", 1, "g", 0), ENOTDIR);
    CHECK_RC(RENAME(1, "x", 1, "y", 0), ENOENT);
    CHECK_RC(RENAME(1, "g", b, "f", PROTO_RENAME_NOREPLACE), EEXIST);
    CHECK_RC(RENAME(1, "g", b, "none", PROTO_RENAME_EXCHANGE), ENOENT);
    CHECK_RC(RENAME(1, "g", b, "f", 3), EINVAL);
    CHECK_OK(RENAME(b, "f", 1, "f", 0));
    CHECK_EQ(find(&r, 1, "f", NULL), f);
    CHECK_OK(RENAME(1, "f", 1, "g", 0)); /* replaces g */
    CHECK_EQ(r.reply.result.victim, g);
    CHECK_RC(RIG_QUERY(&r, getattr, &(struct proto_getattr_reply){0}, .ino = g), ENOENT);
    CHECK_OK(RENAME(a, "b", 1, "g", PROTO_RENAME_EXCHANGE)); /* directory against file */
    CHECK_EQ(find(&r, a, "b", NULL), f);
    CHECK_EQ(find(&r, 1, "g", NULL), b);
    CHECK_EQ(find(&r, b, "..", NULL), 1);
    CHECK_EQ(attr_of(&r, a).nlink, 2);
    CHECK_EQ(attr_of(&r, 1).nlink, 4);
    CHECK_RC(RENAME(1, "g", 1, "a", 0), ENOTEMPTY);
    CHECK_OK(RIG_OP(&r, unlink, .parent = a, .name = rig_text("b")));
    CHECK_OK(RENAME(1, "g", 1, "a", 0)); /* replaces the empty directory */
    CHECK_EQ(find(&r, 1, "a", NULL), b);
    CHECK_EQ(attr_of(&r, 1).nlink, 3);
    rig_close(&r);
}

TEST(links_share_one_inode)
{
    struct rig r;
    rig_open(&r);
    uint64_t dir = make(&r, 1, "dir", PROTO_INODE_DIRECTORY);
    uint64_t f = make(&r, 1, "f", PROTO_INODE_FILE);
    CHECK_OK(RIG_OP(&r, link, .ino = f, .parent = dir, .name = rig_text("g")));
    CHECK_EQ(r.reply.attr.nlink, 2);
    CHECK_EQ(r.reply.attr.flags & PROTO_INODE_LINKED, PROTO_INODE_LINKED);
    CHECK_RC(RIG_OP(&r, link, .ino = f, .parent = dir, .name = rig_text("g")), EEXIST);
    CHECK_RC(RIG_OP(&r, link, .ino = dir, .parent = dir, .name = rig_text("h")), EPERM);
    CHECK_OK(RIG_OP(&r, rename, .parent = 1, .name = rig_text("f"), .new_parent = dir,
                    .new_name = rig_text("g"))); /* both names of one file: both stay */
    CHECK_EQ(attr_of(&r, f).nlink, 2);
    CHECK_OK(RIG_OP(&r, unlink, .parent = 1, .name = rig_text("f")));
    CHECK_EQ(find(&r, dir, "g", NULL), f);
    CHECK_RC(RIG_OP(&r, unlink, .parent = dir, .name = rig_text("g"), .expect_ino = 5), ESTALE);
    CHECK_OK(RIG_OP(&r, unlink, .parent = dir, .name = rig_text("g"), .expect_ino = f));
    CHECK_RC(RIG_QUERY(&r, getattr, &(struct proto_getattr_reply){0}, .ino = f), ENOENT);
    rig_close(&r);
}

TEST(rights_are_checked)
{
    struct rig r;
    rig_open(&r);
    uint32_t root = r.op.cred;
    uint32_t alice = rig_cred(&r, r.op.session, 1000, 100, 7);
    uint32_t bob = rig_cred(&r, r.op.session, 1001, 101, 0);
    uint64_t tmp = make(&r, 1, "tmp", PROTO_INODE_DIRECTORY);
    r.op.cred = alice;
    CHECK_RC(RIG_OP(&r, create, .parent = tmp, .name = rig_text("x"), .type = PROTO_INODE_FILE),
             EACCES);
    CHECK_RC(RIG_OP(&r, setattr, .ino = tmp, .mask = PROTO_SET_MODE, .mode = 0777), EPERM);
    r.op.cred = root;
    CHECK_OK(RIG_OP(&r, setattr, .ino = tmp, .mask = PROTO_SET_MODE, .mode = 03777));
    CHECK_OK(RIG_OP(&r, setattr, .ino = tmp, .mask = PROTO_SET_GID, .gid = 7));
    r.op.cred = alice;
    uint64_t f = make(&r, tmp, "f", PROTO_INODE_FILE);
    CHECK_EQ(r.reply.attr.gid, 7); /* set-gid directory */
    uint64_t sub = make(&r, tmp, "sub", PROTO_INODE_DIRECTORY);
    CHECK_EQ(attr_of(&r, sub).mode, 02755);
    r.op.cred = bob;
    CHECK_RC(RIG_OP(&r, unlink, .parent = tmp, .name = rig_text("f")), EPERM); /* sticky */
    CHECK_RC(RIG_OP(&r, rename, .parent = tmp, .name = rig_text("f"), .new_parent = tmp,
                    .new_name = rig_text("g")),
             EPERM);
    CHECK_RC(RIG_OP(&r, setattr, .ino = f, .mask = PROTO_SET_SIZE, .size = 0), EACCES);
    CHECK_RC(RIG_OP(&r, wopen, .ino = f), EACCES);
    r.op.cred = alice;
    CHECK_OK(RIG_OP(&r, setattr, .ino = f, .mask = PROTO_SET_MODE, .mode = 04700));
    CHECK_RC(RIG_OP(&r, setattr, .ino = f, .mask = PROTO_SET_UID, .uid = 1001), EPERM);
    CHECK_RC(RIG_OP(&r, setattr, .ino = f, .mask = PROTO_SET_GID, .gid = 55), EPERM);
    CHECK_OK(RIG_OP(&r, setattr, .ino = f, .mask = PROTO_SET_GID, .gid = 100));
    CHECK_EQ(r.reply.attr.mode, 0700); /* set-uid is gone */
    r.op.cred = bob;
    struct proto_open_reply open;
    CHECK_RC(RIG_QUERY(&r, open, &open, .ino = f, .access = PROTO_RIGHT_READ), EACCES);
    r.op.cred = 99;
    CHECK_RC(RIG_QUERY(&r, open, &open, .ino = f, .access = PROTO_RIGHT_READ), EPERM);
    CHECK_RC(RIG_OP(&r, unlink, .parent = tmp, .name = rig_text("f")), EPERM);
    r.op.cred = alice;
    CHECK_OK(RIG_OP(&r, unlink, .parent = tmp, .name = rig_text("f")));
    rig_close(&r);
}

/* Entries n<first> and on, every fifth a directory. */
static void check_entries(const struct proto_readdir_reply *page, unsigned first)
{
    char name[16];
    for (size_t i = 0; i < page->entries.count; i++) {
        const struct proto_dirent *e = &page->entries.at[i];
        (void)snprintf(name, sizeof name, "n%02u", first + (unsigned)i);
        CHECK_TRUE(proto_bytes_equal(e->name, rig_text(name)));
        CHECK_TRUE(e->has_attr && e->attr.ino == e->ino && e->attr.type == e->type);
        CHECK_EQ(e->is_covered, e->type == PROTO_INODE_FILE);
    }
}

static void read_page(struct rig *r, const char *after, struct proto_readdir_reply *ret)
{
    CHECK_OK(RIG_QUERY(r, readdir, ret, .ino = 1, .after = rig_text(after), .max_entries = 7,
                       .want_attr = true));
    CHECK_TRUE(ret->entries.count > 0 && ret->entries.count <= 7);
}

TEST(directories_are_listed_in_pages)
{
    struct rig r;
    struct proto_readdir_reply page;
    char name[16], after[16] = "";
    unsigned seen = 0;
    rig_open(&r);
    for (unsigned i = 0; i < 60; i++) {
        (void)snprintf(name, sizeof name, "n%02u", (i * 37) % 60);
        (void)make(&r, 1, name, i % 5 == 0 ? PROTO_INODE_DIRECTORY : PROTO_INODE_FILE);
    }
    do {
        read_page(&r, after, &page);
        check_entries(&page, seen);
        seen += (unsigned)page.entries.count;
        (void)proto_bytes_to_c(page.entries.at[page.entries.count - 1].name, after, sizeof after);
    } while (!page.eof);
    CHECK_EQ(seen, 60);
    CHECK_OK(RIG_QUERY(&r, readdir, &page, .ino = 1, .max_bytes = 1));
    CHECK_EQ(page.entries.count, 1); /* one always fits */
    rig_close(&r);
}

TEST(paths_are_walked_in_one_go)
{
    struct rig r;
    struct proto_walk_reply reply;
    struct proto_walk_name names[4] = {
        {rig_text("a")}, {rig_text("b")}, {rig_text("l")}, {rig_text("x")}};
    rig_open(&r);
    uint64_t a = make(&r, 1, "a", PROTO_INODE_DIRECTORY);
    uint64_t b = make(&r, a, "b", PROTO_INODE_DIRECTORY);
    uint64_t l = make(&r, b, "l", PROTO_INODE_SYMLINK);
    CHECK_OK(RIG_QUERY(&r, walk, &reply, .ino = 1, .names = {names, 4}));
    CHECK_EQ(reply.steps.count, 3); /* a link is for the client to follow */
    CHECK_EQ(reply.rc, -ENOTDIR);
    CHECK_EQ(reply.steps.at[2].attr.ino, l);
    CHECK_TRUE(proto_bytes_equal(reply.data, rig_text("to")));
    names[2].name = rig_text("none");
    CHECK_OK(RIG_QUERY(&r, walk, &reply, .ino = 1, .names = {names, 4}));
    CHECK_EQ(reply.steps.count, 2);
    CHECK_EQ(reply.rc, -ENOENT);
    struct proto_readlink_reply link;
    CHECK_OK(RIG_QUERY(&r, readlink, &link, .ino = l));
    CHECK_TRUE(proto_bytes_equal(link.target, rig_text("to")));
    CHECK_RC(RIG_QUERY(&r, readlink, &link, .ino = a), EINVAL);
    rig_close(&r);
}

/* Entries of several commands, cut by a restart in between, are not applied twice. */
TEST(a_cut_entry_goes_on_where_it_was)
{
    struct rig r;
    rig_open(&r);
    struct proto_create_request q = {
        .parent = 1, .name = rig_text("f"), .type = PROTO_INODE_FILE, .op = r.op};
    rig_encode(&r, PROTO_OP_create, &proto_create_request_type, &q, true);
    struct namespace_entry e = {
        .index = r.index + 1, .bytes = r.command, .len = r.command_len, .last = false};
    for (size_t i = 0; i < RIG_REPLICAS; i++) {
        struct rig_replica *m = &r.replica[i];
        e.part = 0;
        e.last = false;
        CHECK_OK(rig_apply_one(m, &e));
        CHECK_EQ(m->reply.rc, 0);
        CHECK_EQ(kv_applied_index(m->kv), r.index);
        CHECK_OK(rig_apply_one(m, &e)); /* again from its beginning */
        CHECK_RC(m->reply.rc, EALREADY);
        e.part = 1;
        e.last = true;
        CHECK_OK(rig_apply_one(m, &e));
        CHECK_TRUE(m->reply.replayed);
        CHECK_EQ(kv_applied_index(m->kv), e.index);
        CHECK_OK(rig_apply_one(m, &e));
        CHECK_RC(m->reply.rc, EALREADY);
    }
    rig_close(&r);
}

TEST(a_check_changes_nothing)
{
    struct rig r;
    struct kv_batch batch = {0};
    struct namespace_reply reply;
    rig_open(&r);
    uint64_t before = rig_digest(&r);
    struct proto_create_request q = {
        .parent = 1, .name = rig_text("f"), .type = PROTO_INODE_FILE, .op = r.op};
    rig_encode(&r, PROTO_OP_create, &proto_create_request_type, &q, true);
    CHECK_OK(
        RIG_VIEW(&r, namespace_check(NULL, &r.view, r.command, r.command_len, &batch, &reply)));
    CHECK_EQ(reply.rc, 0);
    CHECK_EQ(reply.change_count, 2);
    CHECK_TRUE(before == rig_digest(&r));
    CHECK_OK(rig_apply_bytes(&r, r.command, r.command_len));
    CHECK_EQ(r.reply.result.ino, reply.result.ino);
    CHECK_OK(
        RIG_VIEW(&r, namespace_check(NULL, &r.view, r.command, r.command_len, &batch, &reply)));
    CHECK_TRUE(reply.replayed);
    kv_batch_fini(&batch);
    rig_close(&r);
}

TEST(nonsense_is_answered)
{
    struct rig r;
    rig_open(&r);
    CHECK_RC(rig_apply_bytes(&r, "\1", 1), EPROTO);
    CHECK_RC(RIG_DO(&r, 0x7777, namespace_expire, .session = 1), EOPNOTSUPP);
    CHECK_RC(RIG_DO(&r, 0x9999, namespace_expire, .session = 1), EOPNOTSUPP);
    CHECK_RC(RIG_DO(&r, PROTO_OP_create, namespace_expire, .session = 1), EPROTO);
    rig_close(&r);
}

/* The record as it would be after very many commands. */
static void set_nlink(struct rig *r, uint64_t ino, uint32_t nlink)
{
    struct namespace_inode n;
    struct kv_batch batch = {0};
    uint8_t bytes[512];
    struct namespace_key key = namespace_key_u64(NAMESPACE_INODE, ino);
    CHECK_OK(RIG_VIEW(r, namespace_view_inode(&r->view, ino, &n)));
    n.nlink = nlink;
    struct wire_writer w = wire_writer_over(bytes, sizeof bytes);
    CHECK_OK(PROTO_ENCODE(namespace_inode, &n, &w));
    CHECK_OK(kv_batch_put(&batch, namespace_key_slice(&key), kv_slice_of(bytes, w.len)));
    for (size_t i = 0; i < RIG_REPLICAS; i++) {
        CHECK_OK(rig_commit(&r->replica[i], &batch, r->index));
    }
    kv_batch_fini(&batch);
}

TEST(links_have_a_limit)
{
    struct rig r;
    rig_open(&r);
    uint64_t f = make(&r, 1, "f", PROTO_INODE_FILE);
    set_nlink(&r, f, NAMESPACE_LINK_MAX - 1);
    CHECK_OK(RIG_OP(&r, link, .ino = f, .parent = 1, .name = rig_text("g")));
    CHECK_RC(RIG_OP(&r, link, .ino = f, .parent = 1, .name = rig_text("h")), EMLINK);
    uint64_t d = make(&r, 1, "d", PROTO_INODE_DIRECTORY);
    uint64_t e = make(&r, 1, "e", PROTO_INODE_DIRECTORY);
    set_nlink(&r, d, NAMESPACE_DIR_LINK_MAX);
    CHECK_RC(RIG_OP(&r, create, .parent = d, .name = rig_text("x"), .type = PROTO_INODE_DIRECTORY),
             EMLINK);
    CHECK_RC(RIG_OP(&r, rename, .parent = 1, .name = rig_text("e"), .new_parent = d,
                    .new_name = rig_text("e")),
             EMLINK);
    CHECK_EQ(find(&r, 1, "e", NULL), e);
    rig_close(&r);
}

TEST(names_have_a_limit)
{
    struct rig r;
    static uint8_t name[256];
    rig_open(&r);
    memset(name, 'n', sizeof name);
    CHECK_RC(namespace_name_check(proto_bytes_of(name, 256)), ENAMETOOLONG);
    CHECK_OK(namespace_name_check(proto_bytes_of(name, 255)));
    CHECK_OK(RIG_OP(&r, create, .parent = 1, .name = {name, 255}, .type = PROTO_INODE_FILE));
    CHECK_RC(RIG_OP(&r, rename, .parent = 1, .name = {name, 255}, .new_parent = 1,
                    .new_name = rig_text(".")),
             EINVAL);
    rig_close(&r);
}

TEST(time_never_goes_back)
{
    struct rig r;
    rig_open(&r);
    int64_t then = r.time_ns;
    r.time_ns -= INT64_C(1000000000000);
    uint64_t f = make(&r, 1, "f", PROTO_INODE_FILE);
    CHECK_EQ(attr_of(&r, f).ctime_ns, then);
    rig_close(&r);
}

/* A program that would pass over what it does not know comes to other records than the rest. */
TEST(a_command_says_which_programs_can_apply_it)
{
    const struct namespace_garbage_done one = {.chain = 1}, all = {.all = true};
    CHECK_EQ(namespace_command_version(NAMESPACE_GARBAGE_DONE, &one), NAMESPACE_COMMAND_FIRST);
    CHECK_EQ(namespace_command_version(NAMESPACE_GARBAGE_DONE, &all), 2);
    CHECK_EQ(namespace_command_version(NAMESPACE_FORMAT_ROOT, &all), NAMESPACE_COMMAND_FIRST);
    for (uint16_t version = 0; version <= NAMESPACE_COMMAND_VERSION + 1; version++) {
        CLEANUP(kv_mem_endp) struct kv *kv = NULL;
        CLEANUP(namespace_freep) struct namespace *ns = NULL;
        struct kv_mem_options opt = {.seed = 1};
        struct kv_need need = {0};
        struct namespace_reply reply;
        uint8_t command[256];
        struct namespace_command c = {.version = version, .kind = NAMESPACE_FORMAT_ROOT};
        struct wire_writer w = wire_writer_over(command, sizeof command);
        CHECK_OK(PROTO_ENCODE(namespace_command, &c, &w));
        CHECK_OK(kv_mem_new(&opt, &kv));
        struct namespace_options ns_opt = {.kv = kv};
        CHECK_OK(namespace_new(&ns_opt, &ns));
        struct namespace_entry e = {.index = 1, .last = true, .bytes = command, .len = w.len};
        bool known = version >= NAMESPACE_COMMAND_FIRST && version <= NAMESPACE_COMMAND_VERSION;
        CHECK_RC(namespace_apply(ns, &e, &need, &reply), known ? 0 : ERR_bad_version);
    }
}

/* Nothing of a command remains when memory runs out in the middle of it. */
TEST_TORTURE(out_of_memory_changes_nothing)
{
    CLEANUP(kv_mem_endp) struct kv *kv = NULL;
    CLEANUP(namespace_freep) struct namespace *ns = NULL;
    struct kv_mem_options opt = {.seed = 1};
    struct kv_need need = {0};
    struct namespace_reply reply;
    uint8_t body[64], command[256];
    struct namespace_format format = {.mode = 0755};
    struct wire_writer w = wire_writer_over(body, sizeof body);
    TRY(PROTO_ENCODE(namespace_format, &format, &w));
    struct namespace_command c = {.version = NAMESPACE_COMMAND_VERSION,
                                  .kind = NAMESPACE_FORMAT_ROOT,
                                  .body = proto_bytes_of(body, w.len)};
    w = wire_writer_over(command, sizeof command);
    TRY(PROTO_ENCODE(namespace_command, &c, &w));
    TRY(kv_mem_new(&opt, &kv));
    struct namespace_options ns_opt = {.kv = kv};
    TRY(namespace_new(&ns_opt, &ns));
    struct namespace_entry e = {.index = 1, .last = true, .bytes = command, .len = w.len};
    int rc = namespace_apply(ns, &e, &need, &reply);
    CHECK_EQ(kv_applied_index(kv), rc == 0 ? 1 : 0);
    TRY(rc);
    CHECK_EQ(reply.rc, 0);
}
