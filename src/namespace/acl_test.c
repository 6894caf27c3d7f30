#include "testing/testing.h"

#include "namespace/rig_fsck_priv.h"
#include "namespace/rig_rights_priv.h"

#define READ PROTO_RIGHT_READ
#define WRITE PROTO_RIGHT_WRITE

TEST(a_list_that_says_no_more_than_a_mode_becomes_the_mode)
{
    struct rights t;
    struct proto_acl acl;
    struct rig *r = rights_open(&t);
    uint64_t f = rights_make(r, 1, "f", PROTO_INODE_FILE, 0640);
    CHECK_OK(rights_acl(&t, f, false, .owner = 7, .group = 5, .other = 1));
    struct proto_attr a = rights_attr(r, f);
    CHECK_EQ(a.mode, 0751);
    CHECK_EQ(a.flags & PROTO_INODE_HAS_ACL, 0);
    CHECK_EQ(rights_get_acl(r, f, false, &acl), 0);
    CHECK_OK(rights_acl(&t, f, false, .owner = 6, .group = 4, .has_mask = true, .mask = 6,
                        .other = 0)); /* a mask alone is more than a mode */
    a = rights_attr(r, f);
    CHECK_EQ(a.mode, 0660);
    CHECK_EQ(a.flags & PROTO_INODE_HAS_ACL, PROTO_INODE_HAS_ACL);
    CHECK_EQ(rights_get_acl(r, f, false, &acl), 1);
    CHECK_TRUE(acl.group == 4 && acl.mask == 6 && acl.owner == 6 && acl.other == 0);
    CHECK_OK(rights_acl(&t, f, false, .owner = 6, .group = 4, .other = 0)); /* and back */
    CHECK_EQ(rights_attr(r, f).mode, 0640);
    CHECK_EQ(rights_get_acl(r, f, false, &acl), 0);
    fsck(r);
    rig_close(r);
}

TEST(rights_follow_the_list)
{
    struct rights t;
    struct rig *r = rights_open(&t);
    uint64_t f = rights_make(r, 1, "f", PROTO_INODE_FILE, 0640);
    CHECK_OK(rights_chown(r, f, 1002, 55));
    CHECK_OK(rights_acl(&t, f, false, .owner = 4, .group = 0, .other = 2, .mask = 5,
                        RIGHTS_NAMED({false, 1000, 7}, {true, 8, 5}, {true, 101, 2})));
    CHECK_EQ(rights_attr(r, f).mode, 0452);
    CHECK_OK(rights_open_file(rights_as(&t, RIG_ALICE), f, READ)); /* named, within the mask */
    CHECK_RC(rights_open_file(r, f, WRITE), EACCES);
    CHECK_RC(RIG_OP(r, wopen, .ino = f), EACCES);
    CHECK_OK(rights_open_file(rights_as(&t, RIG_BOB), f, READ)); /* by group 8 */
    CHECK_RC(rights_open_file(r, f, WRITE), EACCES);             /* 101 has it, the mask does not */
    CHECK_RC(rights_open_file(r, f, READ | WRITE), EACCES);
    CHECK_OK(rights_open_file(rights_as(&t, RIG_CAROL), f, READ)); /* the owner */
    CHECK_RC(rights_open_file(r, f, WRITE), EACCES); /* others may, the owner may not */
    (void)rights_as(&t, RIG_ROOT);
    CHECK_OK(rights_chown(r, f, 1003, 55));
    CHECK_OK(rights_open_file(rights_as(&t, RIG_CAROL), f, WRITE)); /* one of the others now */
    CHECK_RC(rights_open_file(r, f, READ), EACCES);
    (void)rights_as(&t, RIG_ROOT);
    CHECK_OK(rights_chown(r, f, 1003, 102)); /* the owning group has nothing */
    CHECK_RC(rights_open_file(rights_as(&t, RIG_CAROL), f, WRITE), EACCES);
    CHECK_OK(rights_open_file(rights_as(&t, RIG_ROOT), f, READ | WRITE));
    CHECK_OK(rights_chmod(r, f, 0400)); /* the mask is empty: nobody named has anything */
    CHECK_RC(rights_open_file(rights_as(&t, RIG_ALICE), f, READ), EACCES);
    (void)rights_as(&t, RIG_ROOT);
    CHECK_OK(rights_chmod(r, f, 0404)); /* nor what all others have */
    CHECK_RC(rights_open_file(rights_as(&t, RIG_ALICE), f, READ), EACCES);
    CHECK_RC(rights_open_file(rights_as(&t, RIG_BOB), f, READ), EACCES);
    rig_close(&t.r);
}

TEST(chmod_changes_owner_mask_and_others)
{
    struct rights t;
    struct proto_acl acl;
    struct rig *r = rights_open(&t);
    uint64_t f = rights_make(r, 1, "f", PROTO_INODE_FILE, 0640);
    CHECK_OK(rights_chown(r, f, 1000, 100));
    (void)rights_as(&t, RIG_ALICE);
    CHECK_OK(
        rights_acl(&t, f, false, .owner = 6, .group = 4, .mask = 6, RIGHTS_NAMED({true, 8, 6})));
    uint64_t change = rights_attr(r, f).change;
    CHECK_OK(rights_chmod(r, f, 0751));
    CHECK_EQ(rights_get_acl(r, f, false, &acl), 1);
    CHECK_TRUE(acl.owner == 7 && acl.group == 4 && acl.mask == 5 && acl.other == 1);
    CHECK_EQ(acl.entries.at[0].perm, 6);
    CHECK_EQ(rights_attr(r, f).change, change + 1);
    CHECK_RC(rights_open_file(rights_as(&t, RIG_BOB), f, WRITE), EACCES);
    CHECK_OK(rights_open_file(r, f, READ));
    rig_close(&t.r);
}

TEST(new_files_inherit_the_default_list)
{
    struct rights t;
    struct proto_acl acl;
    struct rig *r = rights_open(&t);
    uint64_t d = rights_make(r, 1, "d", PROTO_INODE_DIRECTORY, 0777);
    CHECK_OK(rights_acl(&t, d, true, .owner = 7, .group = 5, .other = 4, .mask = 7,
                        RIGHTS_NAMED({false, 1001, 6})));
    CHECK_EQ(rights_attr(r, d).mode, 0777); /* says nothing of the directory itself */
    CHECK_EQ(rights_attr(r, d).flags & (PROTO_INODE_HAS_ACL | PROTO_INODE_HAS_DEFAULT_ACL),
             PROTO_INODE_HAS_DEFAULT_ACL);
    (void)rights_as(&t, RIG_ALICE);
    CHECK_OK(RIG_OP(r, create, .parent = d, .name = rig_text("f"), .type = PROTO_INODE_FILE,
                    .mode = 04666, .umask = 077)); /* the umask does not count */
    uint64_t f = r->reply.result.ino;
    CHECK_EQ(r->reply.attr.mode, 04664);
    CHECK_EQ(r->reply.attr.flags & PROTO_INODE_HAS_ACL, PROTO_INODE_HAS_ACL);
    CHECK_EQ(rights_get_acl(r, f, false, &acl), 1);
    CHECK_TRUE(acl.owner == 6 && acl.group == 5 && acl.mask == 6 && acl.other == 4);
    CHECK_EQ(rights_get_acl(r, f, true, &acl), 0);
    CHECK_OK(rights_open_file(rights_as(&t, RIG_BOB), f, READ | WRITE));
    CHECK_RC(rights_open_file(rights_as(&t, RIG_CAROL), f, WRITE), EACCES);
    uint64_t sub = rights_make(rights_as(&t, RIG_ALICE), d, "sub", PROTO_INODE_DIRECTORY, 0750);
    CHECK_EQ(rights_attr(r, sub).mode, 0750);
    CHECK_EQ(rights_get_acl(r, sub, true, &acl), 1); /* as it was */
    CHECK_TRUE(acl.owner == 7 && acl.group == 5 && acl.mask == 7 && acl.other == 4);
    CHECK_EQ(rights_get_acl(r, sub, false, &acl), 1);
    CHECK_TRUE(acl.mask == 5 && acl.other == 0 && acl.entries.at[0].perm == 6);
    uint64_t link = rights_make(r, d, "link", PROTO_INODE_SYMLINK, 0600);
    CHECK_EQ(rights_attr(r, link).mode, 0777);
    CHECK_EQ(rights_attr(r, link).flags & PROTO_INODE_HAS_ACL, 0);
    uint64_t pipe = rights_make(r, d, "pipe", PROTO_INODE_FIFO, 0600);
    CHECK_EQ(rights_attr(r, pipe).flags & PROTO_INODE_HAS_ACL, PROTO_INODE_HAS_ACL);
    fsck(r);
    rig_close(r);
}

TEST(without_names_only_the_mode_is_inherited)
{
    struct rights t;
    struct proto_acl acl;
    struct rig *r = rights_open(&t);
    uint64_t d = rights_make(r, 1, "d", PROTO_INODE_DIRECTORY, 0777);
    CHECK_OK(RIG_OP(r, create, .parent = d, .name = rig_text("before"), .type = PROTO_INODE_FILE,
                    .mode = 06777, .umask = 027));
    CHECK_EQ(r->reply.attr.mode, 06750); /* no list: the umask counts */
    CHECK_OK(rights_acl(&t, d, true, .owner = 6, .group = 4, .other = 0));
    CHECK_OK(RIG_OP(r, create, .parent = d, .name = rig_text("f"), .type = PROTO_INODE_FILE,
                    .mode = 0777, .umask = 0777));
    CHECK_EQ(r->reply.attr.mode, 0640);
    CHECK_EQ(r->reply.attr.flags & PROTO_INODE_HAS_ACL, 0);
    uint64_t sub = rights_make(r, d, "sub", PROTO_INODE_DIRECTORY, 0777);
    CHECK_EQ(rights_attr(r, sub).mode, 0640);
    CHECK_EQ(rights_get_acl(r, sub, true, &acl), 1);
    CHECK_OK(RIG_OP(r, removexattr, .ino = sub, .name = rig_text(PROTO_ACL_DEFAULT)));
    CHECK_EQ(rights_get_acl(r, sub, true, &acl), 0);
    CHECK_EQ(rights_attr(r, sub).flags & PROTO_INODE_HAS_DEFAULT_ACL, 0);
    CHECK_OK(RIG_OP(r, removexattr, .ino = sub, .name = rig_text(PROTO_ACL_DEFAULT)));
    fsck(r);
    rig_close(r);
}

TEST(directories_obey_their_lists)
{
    struct rights t;
    struct proto_readdir_reply page;
    struct proto_lookup_reply found;
    struct proto_walk_reply walk;
    struct proto_walk_name names[2] = {{rig_text("d")}, {rig_text("f")}};
    struct rig *r = rights_open(&t);
    uint64_t d = rights_make(r, 1, "d", PROTO_INODE_DIRECTORY, 0700);
    uint64_t sub = rights_make(r, d, "sub", PROTO_INODE_DIRECTORY, 0700);
    (void)rights_make(r, d, "f", PROTO_INODE_FILE, 0600);
    CHECK_OK(rights_acl(&t, d, false, .owner = 7, .mask = 7,
                        RIGHTS_NAMED({false, 1000, 5}, {false, 1001, 3}, {false, 1002, 1})));
    (void)rights_as(&t, RIG_ALICE);
    CHECK_OK(RIG_QUERY(r, readdir, &page, .ino = d));
    CHECK_RC(RIG_OP(r, create, .parent = d, .name = rig_text("x"), .type = PROTO_INODE_FILE),
             EACCES);
    CHECK_RC(RIG_OP(r, unlink, .parent = d, .name = rig_text("f")), EACCES);
    CHECK_RC(RIG_OP(r, rename, .parent = d, .name = rig_text("f"), .new_parent = d,
                    .new_name = rig_text("g")),
             EACCES);
    (void)rights_as(&t, RIG_BOB);
    CHECK_RC(RIG_QUERY(r, readdir, &page, .ino = d), EACCES);
    CHECK_OK(RIG_OP(r, rename, .parent = d, .name = rig_text("f"), .new_parent = d,
                    .new_name = rig_text("g")));
    CHECK_RC(RIG_OP(r, rename, .parent = d, .name = rig_text("sub"), .new_parent = 1,
                    .new_name = rig_text("sub")),
             EACCES); /* not in the root */
    CHECK_OK(RIG_OP(r, unlink, .parent = d, .name = rig_text("g")));
    (void)rights_as(&t, RIG_CAROL);
    CHECK_OK(RIG_QUERY(r, lookup, &found, .parent = d, .name = rig_text("sub")));
    CHECK_EQ(found.attr.ino, sub);
    CHECK_OK(RIG_QUERY(r, walk, &walk, .ino = 1, .names = {names, 2}));
    CHECK_EQ(walk.rc, -ENOENT);
    (void)rights_as(&t, RIG_ROOT);
    CHECK_OK(rights_acl(&t, d, false, .owner = 7, .mask = 7, RIGHTS_NAMED({false, 1002, 6})));
    (void)rights_as(&t, RIG_CAROL);
    CHECK_RC(RIG_QUERY(r, lookup, &found, .parent = d, .name = rig_text("sub")), EACCES);
    CHECK_OK(RIG_QUERY(r, walk, &walk, .ino = 1, .names = {names, 2}));
    CHECK_EQ(walk.rc, -EACCES);
    fsck(r);
    rig_close(r);
}

/* Inline contents come along with a name only for who may read the file. */
static void check_contents(struct rights *t, enum rig_person who, bool may)
{
    struct proto_lookup_reply found;
    CHECK_OK(RIG_QUERY(rights_as(t, who), lookup, &found, .parent = 1, .name = rig_text("f"),
                       .want = PROTO_WANT_DATA));
    CHECK_EQ(found.has_data, may);
    CHECK_EQ(found.data.len, may ? 6 : 0);
}

TEST(contents_obey_the_list)
{
    struct rights t;
    struct rig *r = rights_open(&t);
    CHECK_OK(RIG_OP(r, create, .parent = 1, .name = rig_text("f"), .type = PROTO_INODE_FILE,
                    .mode = 0600, .flags = PROTO_CREATE_HAS_DATA, .data = rig_text("secret")));
    CHECK_OK(rights_acl(&t, r->reply.result.ino, false, .owner = 6, .mask = 4,
                        RIGHTS_NAMED({false, 1000, 4}, {false, 1001, 2})));
    check_contents(&t, RIG_ROOT, true);
    check_contents(&t, RIG_ALICE, true);
    check_contents(&t, RIG_BOB, false);
    check_contents(&t, RIG_CAROL, false);
    rig_close(r);
}

TEST(lists_are_set_by_the_owner)
{
    struct rights t;
    struct proto_getxattr_reply get;
    struct rig *r = rights_open(&t);
    uint64_t f = rights_make(r, 1, "f", PROTO_INODE_FILE, 0666);
    uint64_t d = rights_make(r, 1, "d", PROTO_INODE_DIRECTORY, 0777);
    uint64_t l = rights_make(r, 1, "l", PROTO_INODE_SYMLINK, 0777);
    CHECK_OK(rights_chown(r, f, 1000, 100));
    CHECK_RC(rights_acl(&t, f, true, .owner = 7), EACCES); /* default lists are of directories */
    CHECK_OK(RIG_OP(r, removexattr, .ino = f, .name = rig_text(PROTO_ACL_DEFAULT)));
    CHECK_RC(rights_acl(&t, l, false, .owner = 7), EOPNOTSUPP);
    CHECK_RC(RIG_QUERY(r, getxattr, &get, .ino = l, .name = rig_text(PROTO_ACL_ACCESS)),
             EOPNOTSUPP);
    CHECK_RC(RIG_OP(r, setxattr, .ino = f, .name = rig_text(PROTO_ACL_ACCESS),
                    .value = rig_text("nonsense")),
             EINVAL);
    CHECK_RC(RIG_OP(r, setxattr, .ino = f, .name = rig_text(PROTO_ACL_ACCESS),
                    .value = rig_text("\1\0\0\0")),
             EINVAL);
    CHECK_RC(rights_acl(&t, 999, false, .owner = 7), ENOENT);
    (void)rights_as(&t, RIG_BOB);
    CHECK_RC(rights_acl(&t, f, false, .owner = 7, .group = 7, .other = 7), EPERM);
    CHECK_RC(rights_acl(&t, d, true, .owner = 7), EPERM);
    CHECK_RC(RIG_OP(r, removexattr, .ino = f, .name = rig_text(PROTO_ACL_ACCESS)), EPERM);
    (void)rights_as(&t, RIG_ALICE);
    CHECK_OK(rights_acl(&t, f, false, .owner = 7, .mask = 7, RIGHTS_NAMED({false, 1001, 7})));
    struct proto_attr before = rights_attr(r, f);
    CHECK_OK(RIG_OP(r, removexattr, .ino = f, .name = rig_text(PROTO_ACL_ACCESS)));
    struct proto_attr after = rights_attr(r, f);
    CHECK_EQ(after.mode, 0770); /* the mask stays in the mode */
    CHECK_TRUE(after.change == before.change + 1 && after.version > before.version &&
               after.ctime_ns > before.ctime_ns && after.mtime_ns == before.mtime_ns);
    CHECK_RC(RIG_QUERY(r, getxattr, &get, .ino = f, .name = rig_text(PROTO_ACL_ACCESS)), ENODATA);
    (void)rights_as(&t, RIG_ROOT);
    CHECK_OK(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_FLAGS, .flags = PROTO_INODE_APPEND));
    CHECK_RC(rights_acl(&t, f, false, .owner = 7), EPERM);
    rig_close(r);
}

TEST(setting_a_list_drops_setgid_of_a_foreign_group)
{
    struct rights t;
    struct rig *r = rights_open(&t);
    uint64_t f = rights_make(r, 1, "f", PROTO_INODE_FILE, 0666);
    CHECK_OK(rights_chown(r, f, 1000, 55));
    CHECK_OK(rights_chmod(r, f, 02770));
    CHECK_OK(rights_acl(&t, f, false, .owner = 7, .mask = 7, RIGHTS_NAMED({false, 1001, 7})));
    CHECK_EQ(rights_attr(r, f).mode, 02770);
    (void)rights_as(&t, RIG_ALICE);
    CHECK_OK(rights_acl(&t, f, false, .owner = 7, .mask = 5, RIGHTS_NAMED({false, 1001, 7})));
    CHECK_EQ(rights_attr(r, f).mode, 0750);
    rig_close(r);
}

/* With the file its lists go: nothing is left for fsck to find. */
TEST(lists_go_with_the_file)
{
    struct rights t;
    struct rig *r = rights_open(&t);
    uint64_t d = rights_make(r, 1, "d", PROTO_INODE_DIRECTORY, 0777);
    CHECK_OK(rights_acl(&t, d, true, .owner = 7, .mask = 7, RIGHTS_NAMED({false, 1001, 7})));
    CHECK_OK(rights_acl(&t, d, false, .owner = 7, .mask = 7, RIGHTS_NAMED({false, 1001, 7})));
    (void)rights_make(r, d, "f", PROTO_INODE_FILE, 0666);
    (void)rights_make(r, d, "g", PROTO_INODE_FILE, 0666);
    fsck(r);
    CHECK_OK(RIG_OP(r, unlink, .parent = d, .name = rig_text("f")));
    CHECK_OK(RIG_OP(r, rename, .parent = d, .name = rig_text("g"), .new_parent = 1,
                    .new_name = rig_text("g")));
    (void)rights_make(r, 1, "h", PROTO_INODE_FILE, 0666);
    CHECK_OK(RIG_OP(r, rename, .parent = 1, .name = rig_text("h"), .new_parent = 1,
                    .new_name = rig_text("g"))); /* replaces the one with a list */
    CHECK_OK(RIG_OP(r, rmdir, .parent = 1, .name = rig_text("d")));
    fsck(r);
    rig_close(r);
}
