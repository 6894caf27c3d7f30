/* What is removed can be had back: retention, both kinds of "gone", rights, the leader's purge. */
#include "testing/testing.h"

#include "namespace/rig_fsck_priv.h"

#include <stdio.h>

#define NS_PER_S INT64_C(1000000000)

static uint64_t make(struct rig *r, uint64_t parent, const char *name, uint8_t type)
{
    CHECK_OK(
        RIG_OP(r, create, .parent = parent, .name = rig_text(name), .type = type, .mode = 0755,
               .flags = PROTO_CREATE_EXCLUSIVE | PROTO_CREATE_HAS_DATA * (type == PROTO_INODE_FILE),
               .data = rig_text(type == PROTO_INODE_FILE ? "contents" : "")));
    return r->reply.result.ino;
}

static void keep(struct rig *r, uint64_t dir, uint32_t seconds)
{
    CHECK_OK(RIG_OP(r, setattr, .ino = dir, .mask = PROTO_SET_RETENTION, .retention_s = seconds));
}

static int unlink_name(struct rig *r, uint64_t parent, const char *name)
{
    return RIG_OP(r, unlink, .parent = parent, .name = rig_text(name));
}

static int restore(struct rig *r, uint64_t ino, uint64_t parent, const char *name)
{
    return RIG_OP(r, trash_restore, .ino = ino, .parent = parent, .name = rig_text(name));
}

static int attr_of(struct rig *r, uint64_t ino, struct proto_getattr_reply *ret)
{
    return RIG_QUERY(r, getattr, ret, .ino = ino, .want = PROTO_WANT_RETENTION);
}

static void gone(struct rig *r, uint64_t ino)
{
    struct proto_getattr_reply reply;
    CHECK_RC(attr_of(r, ino, &reply), ENOENT);
}

static struct proto_trash_list_reply list(struct rig *r, struct proto_trash_list_request q)
{
    struct proto_trash_list_reply reply;
    q.caller = (struct proto_caller){.session = r->op.session, .cred = r->op.cred};
    CHECK_OK(RIG_VIEW(r, namespace_trash_list(&r->view, &q, &reply)));
    return reply;
}

#define LIST_OF(r, who, ...) \
    list((r), (struct proto_trash_list_request){.owner = (who), __VA_ARGS__})
#define LIST(r, ...) LIST_OF((r), PROTO_TRASH_ANYBODY, __VA_ARGS__)

static void expire(struct rig *r, uint32_t seconds, bool early)
{
    r->time_ns += seconds * NS_PER_S;
    CHECK_OK(RIG_DO(r, NAMESPACE_TRASH_PURGE, namespace_trash_expire, .max = 100, .early = early));
}

static bool text_is(struct proto_bytes b, const char *text)
{
    return proto_bytes_equal(b, rig_text(text));
}

TEST(what_is_removed_comes_back_with_its_contents)
{
    struct rig r;
    struct proto_getattr_reply a;
    struct proto_read_inline_reply data;
    rig_open(&r);
    uint64_t dir = make(&r, 1, "dir", PROTO_INODE_DIRECTORY);
    keep(&r, dir, 60);
    uint64_t ino = make(&r, dir, "file", PROTO_INODE_FILE);
    int64_t before = r.time_ns;
    CHECK_OK(unlink_name(&r, dir, "file"));
    CHECK_TRUE(r.reply.trash_expiry_ns > before + 60 * NS_PER_S);
    CHECK_EQ(r.reply.change_count, 2);
    struct proto_trash_list_reply l = LIST(&r);
    CHECK_EQ(l.entries.count, 1);
    CHECK_TRUE(!l.more);
    CHECK_EQ(l.entries.at[0].attr.ino, ino);
    CHECK_EQ(l.entries.at[0].attr.nlink, 0);
    CHECK_EQ(l.entries.at[0].attr.size, 8);
    CHECK_EQ(l.entries.at[0].parent, dir);
    CHECK_TRUE(text_is(l.entries.at[0].name, "file") && text_is(l.entries.at[0].path, "/dir"));
    CHECK_TRUE(!l.entries.at[0].parent_gone);
    expire(&r, 50, false); /* not yet */
    CHECK_OK(RIG_OP(&r, rmdir, .parent = 1, .name = rig_text("dir")));
    CHECK_TRUE(LIST(&r).entries.at[0].parent_gone);
    CHECK_RC(restore(&r, ino, dir, "back"), ENOENT);
    CHECK_OK(restore(&r, ino, 1, "back"));
    CHECK_EQ(r.reply.attr.nlink, 1);
    CHECK_EQ(r.reply.attr.flags & PROTO_INODE_TRASH, 0);
    CHECK_OK(RIG_QUERY(&r, read_inline, &data, .ino = ino));
    CHECK_TRUE(text_is(data.data, "contents"));
    CHECK_OK(attr_of(&r, ino, &a));
    CHECK_EQ(a.parent, 1);
    CHECK_EQ(LIST(&r).entries.count, 0);
    CHECK_RC(restore(&r, ino, 1, "again"), ENOENT);
    expire(&r, 1000, true);
    CHECK_OK(attr_of(&r, ino, &a));
    fsck(&r);
    rig_close(&r);
}

TEST(retention_comes_from_the_nearest_directory_that_says_anything)
{
    struct rig r;
    struct proto_getattr_reply a;
    rig_open(&r);
    uint64_t top = make(&r, 1, "top", PROTO_INODE_DIRECTORY);
    uint64_t mid = make(&r, top, "mid", PROTO_INODE_DIRECTORY);
    uint64_t low = make(&r, mid, "low", PROTO_INODE_DIRECTORY);
    uint64_t ino = make(&r, low, "a", PROTO_INODE_FILE);
    CHECK_OK(unlink_name(&r, low, "a"));
    CHECK_EQ(r.reply.trash_expiry_ns, 0);
    gone(&r, ino);
    keep(&r, top, 60); /* holds for what was there before, too */
    CHECK_OK(attr_of(&r, low, &a));
    CHECK_EQ(a.retention_s, 0);
    CHECK_EQ(a.keeps_s, 60);
    CHECK_EQ(a.keeps_from, top);
    (void)make(&r, low, "a", PROTO_INODE_FILE);
    CHECK_OK(unlink_name(&r, low, "a"));
    CHECK_EQ(r.reply.trash_expiry_ns, r.time_ns + 60 * NS_PER_S);
    keep(&r, mid, PROTO_RETENTION_NONE);
    ino = make(&r, low, "a", PROTO_INODE_FILE);
    CHECK_OK(unlink_name(&r, low, "a"));
    gone(&r, ino);
    CHECK_OK(attr_of(&r, 1, &a));
    CHECK_EQ(a.keeps_s, 0);
    CHECK_EQ(a.keeps_from, 0);
    keep(&r, PROTO_ROOT_INO, 7200); /* of the whole cluster */
    CHECK_OK(attr_of(&r, 1, &a));
    CHECK_EQ(a.keeps_s, 7200);
    CHECK_EQ(a.keeps_from, PROTO_ROOT_INO);
    keep(&r, top, 0);
    CHECK_OK(attr_of(&r, top, &a));
    CHECK_EQ(a.keeps_s, 7200);
    CHECK_OK(attr_of(&r, low, &a));
    CHECK_EQ(a.keeps_s, 0);
    CHECK_EQ(a.keeps_from, mid);
    CHECK_OK(RIG_OP(&r, rmdir, .parent = mid, .name = rig_text("low")));
    CHECK_OK(RIG_OP(&r, rmdir, .parent = top, .name = rig_text("mid"))); /* with its own word */
    fsck(&r);
    rig_close(&r);
}

TEST(nonsense_is_no_retention)
{
    struct rig r;
    rig_open(&r);
    uint64_t file = make(&r, 1, "f", PROTO_INODE_FILE);
    CHECK_RC(RIG_OP(&r, setattr, .ino = file, .mask = PROTO_SET_RETENTION, .retention_s = 1),
             ENOTDIR);
    CHECK_RC(RIG_DO(&r, NAMESPACE_TRASH_PURGE, namespace_trash_expire, .max = 0), EINVAL);
    CHECK_RC(RIG_DO(&r, NAMESPACE_TRASH_PURGE, namespace_trash_expire, .max = 1025), EINVAL);
    rig_close(&r);
}

TEST(replaced_by_rename_is_kept_and_only_the_last_name_counts)
{
    struct rig r;
    struct proto_getattr_reply a;
    rig_open(&r);
    keep(&r, 1, 60);
    uint64_t old = make(&r, 1, "old", PROTO_INODE_FILE);
    uint64_t fresh = make(&r, 1, "new", PROTO_INODE_FILE);
    CHECK_OK(RIG_OP(&r, link, .ino = old, .parent = 1, .name = rig_text("second")));
    CHECK_OK(unlink_name(&r, 1, "second"));
    CHECK_EQ(r.reply.trash_expiry_ns, 0);
    CHECK_OK(RIG_OP(&r, link, .ino = old, .parent = 1, .name = rig_text("third")));
    CHECK_OK(unlink_name(&r, 1, "third"));
    CHECK_OK(RIG_OP(&r, rename, .parent = 1, .name = rig_text("new"), .new_parent = 1,
                    .new_name = rig_text("old")));
    struct proto_trash_list_reply l = LIST(&r);
    CHECK_EQ(l.entries.count, 1);
    CHECK_EQ(l.entries.at[0].attr.ino, old);
    CHECK_TRUE(text_is(l.entries.at[0].path, "/"));
    CHECK_RC(restore(&r, old, 1, "old"), EEXIST);
    CHECK_RC(restore(&r, old, fresh, "x"), ENOTDIR);
    CHECK_RC(restore(&r, old, 1, ".."), EINVAL);
    CHECK_OK(restore(&r, old, 1, "older"));
    CHECK_OK(RIG_OP(&r, link, .ino = old, .parent = 1, .name = rig_text("both")));
    CHECK_OK(attr_of(&r, old, &a));
    CHECK_EQ(a.attr.nlink, 2);
    fsck(&r);
    (void)make(&r, 1, "link", PROTO_INODE_FIFO);
    CHECK_OK(unlink_name(&r, 1, "link")); /* nothing in it that anybody would miss */
    CHECK_EQ(LIST(&r).entries.count, 0);
    fsck(&r);
    rig_close(&r);
}

TEST(an_open_file_in_the_trash_goes_when_both_are_over)
{
    struct rig r;
    struct proto_getattr_reply a;
    rig_open(&r);
    keep(&r, 1, 60);
    uint64_t ino = make(&r, 1, "f", PROTO_INODE_FILE);
    for (int closes_first = 0; closes_first < 2; closes_first++) {
        CHECK_OK(RIG_OP(&r, unlink, .parent = 1, .name = rig_text("f"), .is_open = true));
        if (closes_first == 1) {
            CHECK_OK(RIG_OP(&r, release, .ino = ino));
            CHECK_OK(attr_of(&r, ino, &a));
            expire(&r, 61, false);
            gone(&r, ino);
        } else {
            expire(&r, 61, false);
            CHECK_OK(attr_of(&r, ino, &a));
            CHECK_EQ(a.attr.flags & PROTO_INODE_TRASH, 0);
            fsck(&r);
            CHECK_RC(restore(&r, ino, 1, "f"), ENOENT);
            CHECK_OK(RIG_OP(&r, link, .ino = ino, .parent = 1, .name = rig_text("f")));
        }
    }
    /* Back while it is open; and linked by who has it open. */
    ino = make(&r, 1, "g", PROTO_INODE_FILE);
    CHECK_OK(RIG_OP(&r, unlink, .parent = 1, .name = rig_text("g"), .is_open = true));
    CHECK_OK(restore(&r, ino, 1, "g"));
    fsck(&r);
    CHECK_OK(RIG_OP(&r, unlink, .parent = 1, .name = rig_text("g"), .is_open = true));
    CHECK_OK(RIG_OP(&r, link, .ino = ino, .parent = 1, .name = rig_text("h")));
    CHECK_EQ(LIST(&r).entries.count, 0);
    CHECK_OK(RIG_OP(&r, release, .ino = ino));
    CHECK_OK(attr_of(&r, ino, &a));
    CHECK_OK(unlink_name(&r, 1, "h"));
    CHECK_RC(RIG_OP(&r, link, .ino = ino, .parent = 1, .name = rig_text("i")), ENOENT);
    fsck(&r);
    rig_close(&r);
}

/* What a dead client had not committed must not show in a file that somebody gets back. */
TEST(a_dead_writers_file_in_the_trash_is_cut_before_anybody_writes_it)
{
    struct rig r;
    rig_open(&r);
    rig_make_class(&r, 4);
    keep(&r, 1, 60);
    struct proto_op mine = r.op;
    r.op = rig_machine(&r, 2, 22);
    CHECK_OK(RIG_OP(&r, create, .parent = 1, .name = rig_text("f"), .type = PROTO_INODE_FILE,
                    .mode = 0644, .flags = PROTO_CREATE_WOPEN));
    uint64_t ino = r.reply.result.ino, epoch = r.reply.result.cap_epoch, writer = r.op.session;
    CHECK_OK(RIG_OP(&r, commit, .ino = ino, .cap_epoch = epoch, .size = 1000, .allocated = 4096));
    CHECK_OK(unlink_name(&r, 1, "f"));
    fsck(&r);
    CHECK_OK(RIG_DO(&r, NAMESPACE_EXPIRE, namespace_expire, .session = writer));
    CHECK_EQ(r.reply.fenced_session, writer);
    CHECK_EQ(r.reply.trim_ino, ino);
    CHECK_EQ(r.reply.removed_data_id, 0);
    fsck(&r);
    r.op = mine;
    CHECK_OK(restore(&r, ino, 1, "back"));
    CHECK_EQ(r.reply.attr.size, 1000);
    CHECK_RC(RIG_OP(&r, wopen, .ino = ino), ERR_busy);
    CHECK_OK(unlink_name(&r, 1, "back"));
    expire(&r, 61, false);
    CHECK_TRUE(r.reply.removed_data_id != 0);
    gone(&r, ino);
    fsck(&r);
    rig_close(&r);
}

TEST(owners_and_root_only)
{
    struct rig r;
    rig_open(&r);
    keep(&r, 1, 60);
    uint32_t root = r.op.cred, anna = rig_cred(&r, r.op.session, 1000, 1000, 0);
    uint32_t otto = rig_cred(&r, r.op.session, 1001, 1000, 0);
    uint64_t home = make(&r, 1, "home", PROTO_INODE_DIRECTORY);
    CHECK_OK(RIG_OP(&r, setattr, .ino = home, .mask = PROTO_SET_UID, .uid = 1000));
    r.op.cred = anna;
    uint64_t ino = make(&r, home, "f", PROTO_INODE_FILE);
    CHECK_OK(unlink_name(&r, home, "f"));
    struct proto_trash_list_reply reply;
    CHECK_EQ(LIST_OF(&r, 1000).entries.count, 1);
    CHECK_RC(RIG_QUERY(&r, trash_list, &reply, .owner = PROTO_TRASH_ANYBODY), EPERM);
    CHECK_RC(restore(&r, ino, 1, "f"), EACCES);
    r.op.cred = otto;
    CHECK_RC(RIG_QUERY(&r, trash_list, &reply, .owner = 1000), EPERM);
    CHECK_EQ(LIST_OF(&r, 1001).entries.count, 0);
    CHECK_RC(restore(&r, ino, home, "f"), EPERM);
    CHECK_RC(RIG_OP(&r, trash_purge, .inos = {.at = &ino, .count = 1}), EPERM);
    CHECK_RC(RIG_OP(&r, setattr, .ino = home, .mask = PROTO_SET_RETENTION), EPERM);
    r.op.cred = root;
    CHECK_EQ(LIST_OF(&r, 1000).entries.count, 1);
    CHECK_OK(RIG_OP(&r, setattr, .ino = ino, .mask = PROTO_SET_UID, .uid = 1001));
    CHECK_EQ(LIST_OF(&r, 1000).entries.count, 0);
    CHECK_EQ(LIST_OF(&r, 1001).entries.count, 1);
    fsck(&r);
    r.op.cred = otto;
    uint64_t twice[2] = {ino, ino};
    CHECK_RC(RIG_OP(&r, trash_purge, .inos = {.at = twice, .count = 2}), EINVAL);
    CHECK_OK(RIG_OP(&r, trash_purge, .inos = {.at = &ino, .count = 1}));
    gone(&r, ino);
    CHECK_OK(RIG_OP(&r, trash_purge, .inos = {.at = &ino, .count = 1})); /* not there any more */
    rig_close(&r);
}

TEST(the_leader_takes_what_is_due_in_order)
{
    struct rig r;
    struct namespace_trash_due due;
    uint64_t ino[6];
    rig_open(&r);
    CHECK_OK(RIG_VIEW(&r, namespace_trash_first(&r.view, &due)));
    CHECK_EQ(due.files, 0);
    for (uint32_t i = 0; i < 6; i++) {
        char name[8];
        (void)snprintf(name, sizeof name, "d%u", i);
        uint64_t dir = make(&r, 1, name, PROTO_INODE_DIRECTORY);
        keep(&r, dir, 100 - 10 * i); /* the later, the sooner */
        ino[i] = make(&r, dir, "f", PROTO_INODE_FILE);
        CHECK_OK(unlink_name(&r, dir, "f"));
    }
    CHECK_OK(RIG_VIEW(&r, namespace_trash_first(&r.view, &due)));
    CHECK_EQ(due.files, 6);
    CHECK_EQ(due.expiry_ns, r.reply.trash_expiry_ns);
    r.time_ns += 75 * NS_PER_S; /* 50, 60 and 70 are over */
    CHECK_OK(RIG_DO(&r, NAMESPACE_TRASH_PURGE, namespace_trash_expire, .max = 2));
    gone(&r, ino[5]);
    gone(&r, ino[4]);
    CHECK_EQ(LIST(&r).entries.count, 4);
    expire(&r, 0, false);
    gone(&r, ino[3]);
    CHECK_EQ(LIST(&r).entries.count, 3);
    CHECK_OK(RIG_DO(&r, NAMESPACE_TRASH_PURGE, namespace_trash_expire, .max = 1, .early = true));
    gone(&r, ino[2]);
    CHECK_EQ(LIST(&r).entries.count, 2);
    fsck(&r);
    rig_close(&r);
}

TEST(lists_by_directory_and_by_path)
{
    struct rig r;
    rig_open(&r);
    keep(&r, 1, 60);
    uint64_t a = make(&r, 1, "a", PROTO_INODE_DIRECTORY),
             ab = make(&r, 1, "ab", PROTO_INODE_DIRECTORY);
    uint64_t b = make(&r, a, "b", PROTO_INODE_DIRECTORY), dirs[] = {a, ab, b};
    for (size_t i = 0; i < ARRAY_COUNT(dirs); i++) {
        (void)make(&r, dirs[i], "f", PROTO_INODE_FILE);
        CHECK_OK(unlink_name(&r, dirs[i], "f"));
    }
    CHECK_OK(RIG_OP(&r, rmdir, .parent = a, .name = rig_text("b")));
    CHECK_EQ(LIST(&r).entries.count, 3);
    CHECK_EQ(LIST(&r, .parent = b).entries.count, 1);
    CHECK_EQ(LIST(&r, .path = rig_text("/a")).entries.count, 2);
    CHECK_EQ(LIST(&r, .path = rig_text("/a/b")).entries.count, 1);
    CHECK_EQ(LIST(&r, .path = rig_text("/")).entries.count, 3);
    struct proto_trash_list_reply l = LIST(&r, .path = rig_text("/a"), .max = 1);
    CHECK_TRUE(l.more && l.entries.count == 1);
    l = LIST(&r, .path = rig_text("/a"), .after_owner = l.next_owner, .after_ino = l.next_ino);
    CHECK_TRUE(!l.more && l.entries.count == 1);
    CHECK_TRUE(text_is(l.entries.at[0].path, "/a/b"));
    rig_close(&r);
}

TEST(the_end_of_a_long_path_is_kept)
{
    char name[251];
    struct rig r;
    uint64_t dir = 1;
    rig_open(&r);
    keep(&r, 1, 60);
    memset(name, 'x', 250);
    name[250] = 0;
    for (int i = 0; i < 6; i++) {
        name[0] = (char)('0' + i);
        dir = make(&r, dir, name, PROTO_INODE_DIRECTORY);
    }
    (void)make(&r, dir, "f", PROTO_INODE_FILE);
    CHECK_OK(unlink_name(&r, dir, "f"));
    struct proto_bytes path = LIST(&r).entries.at[0].path;
    CHECK_EQ(path.len, 3 + 4 * 251);
    CHECK_BYTES(path.at, ".../2", 5);
    fsck(&r);
    rig_close(&r);
}
