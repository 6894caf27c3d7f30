#include "testing/testing.h"

#include "namespace/rig_fsck_priv.h"
#include "namespace/rig_rights_priv.h"

/* The rules of modes, owners, times and flags, each with its errors. */

#define BOTH_NOW (PROTO_SET_ATIME_NOW | PROTO_SET_MTIME_NOW)

static int set_flags(struct rights *t, uint64_t ino, uint32_t flags)
{
    uint32_t cred = t->r.op.cred;
    int rc = RIG_OP(rights_as(t, RIG_ROOT), setattr, .ino = ino, .mask = PROTO_SET_FLAGS,
                    .flags = flags);
    t->r.op.cred = cred;
    return rc;
}

static int unlink_name(struct rig *r, uint64_t dir, const char *name)
{
    return RIG_OP(r, unlink, .parent = dir, .name = rig_text(name));
}

static int create_name(struct rig *r, uint64_t dir, const char *name, uint32_t flags)
{
    return RIG_OP(r, create, .parent = dir, .name = rig_text(name), .type = PROTO_INODE_FILE,
                  .mode = 0600, .flags = flags);
}

static int move(struct rig *r, uint64_t from, const char *name, uint64_t to, const char *new_name)
{
    return RIG_OP(r, rename, .parent = from, .name = rig_text(name), .new_parent = to,
                  .new_name = rig_text(new_name));
}

/* What the name says is told to who may look; then what forbids the change. */
TEST(errors_come_in_the_order_of_linux)
{
    struct rights t;
    struct rig *r = rights_open(&t);
    uint64_t seen = rights_make(r, 1, "seen", PROTO_INODE_DIRECTORY, 0755);
    uint64_t dark = rights_make(r, 1, "dark", PROTO_INODE_DIRECTORY, 0744);
    uint64_t f = rights_make(r, seen, "f", PROTO_INODE_FILE, 0644);
    uint64_t sub = rights_make(r, seen, "sub", PROTO_INODE_DIRECTORY, 0777);
    (void)rights_as(&t, RIG_ALICE);
    CHECK_RC(unlink_name(r, seen, "none"), ENOENT);
    CHECK_RC(unlink_name(r, seen, "f"), EACCES);
    CHECK_RC(unlink_name(r, seen, "sub"), EACCES);
    CHECK_RC(unlink_name(r, dark, "none"), EACCES);
    CHECK_RC(unlink_name(r, f, "none"), ENOTDIR);
    CHECK_RC(create_name(r, seen, "f", PROTO_CREATE_EXCLUSIVE), EEXIST);
    CHECK_RC(create_name(r, seen, "new", 0), EACCES);
    CHECK_RC(create_name(r, dark, "new", 0), EACCES);
    CHECK_OK(create_name(r, seen, "f", 0)); /* found: an open, whose rights are checked there */
    CHECK_RC(create_name(r, seen, "f", PROTO_CREATE_WOPEN), EACCES);
    CHECK_RC(RIG_OP(r, link, .ino = f, .parent = seen, .name = rig_text("sub")), EEXIST);
    CHECK_RC(RIG_OP(r, link, .ino = sub, .parent = seen, .name = rig_text("l")), EACCES);
    CHECK_RC(RIG_OP(r, rmdir, .parent = seen, .name = rig_text("none")), ENOENT);
    CHECK_RC(RIG_OP(r, rmdir, .parent = seen, .name = rig_text("f")), EACCES);
    CHECK_RC(move(r, seen, "none", seen, "x"), ENOENT);
    CHECK_RC(move(r, 1, "seen", sub, "x"), EINVAL); /* before the rights in the root */
    CHECK_RC(move(r, seen, "f", sub, "x"), EACCES);
    CHECK_RC(move(r, seen, "f", dark, "x"), EACCES);
    (void)rights_as(&t, RIG_ROOT);
    CHECK_OK(rights_chmod(r, seen, 0777));
    (void)rights_as(&t, RIG_ALICE);
    CHECK_RC(RIG_OP(r, link, .ino = sub, .parent = seen, .name = rig_text("l")), EPERM);
    CHECK_RC(unlink_name(r, seen, "sub"), EISDIR);
    CHECK_RC(RIG_OP(r, rmdir, .parent = seen, .name = rig_text("f")), ENOTDIR);
    rig_close(r);
}

TEST(setgid_directories_give_their_group)
{
    struct rights t;
    struct rig *r = rights_open(&t);
    uint64_t d = rights_make(r, 1, "d", PROTO_INODE_DIRECTORY, 0777);
    CHECK_OK(rights_chown(r, d, 0, 55));
    CHECK_OK(rights_chmod(r, d, 02777));
    (void)rights_as(&t, RIG_ALICE);
    uint64_t sub = rights_make(r, d, "sub", PROTO_INODE_DIRECTORY, 0750);
    struct proto_attr a = rights_attr(r, sub);
    CHECK_TRUE(a.gid == 55 && a.uid == 1000 && a.mode == 02750);
    a = rights_attr(r, rights_make(r, d, "f", PROTO_INODE_FILE, 02755));
    CHECK_TRUE(a.gid == 55 && a.mode == 0755); /* a foreign group lends its rights to nobody */
    a = rights_attr(r, rights_make(r, d, "g", PROTO_INODE_FILE, 02745));
    CHECK_EQ(a.mode, 02745); /* without x it is no such bit */
    a = rights_attr(r, rights_make(rights_as(&t, RIG_ROOT), d, "h", PROTO_INODE_FILE, 02755));
    CHECK_EQ(a.mode, 02755);
    uint64_t plain = rights_make(r, 1, "plain", PROTO_INODE_DIRECTORY, 0777);
    (void)rights_as(&t, RIG_ALICE);
    a = rights_attr(r, rights_make(r, plain, "f", PROTO_INODE_FILE, 06755));
    CHECK_TRUE(a.gid == 100 && a.mode == 06755);
    CHECK_RC(RIG_OP(r, create, .parent = plain, .name = rig_text("x"), .type = PROTO_INODE_FILE,
                    .set = PROTO_SET_UID, .uid = 1001),
             EPERM);
    CHECK_RC(RIG_OP(r, create, .parent = plain, .name = rig_text("x"), .type = PROTO_INODE_FILE,
                    .set = PROTO_SET_GID, .gid = 55),
             EPERM);
    CHECK_OK(RIG_OP(r, create, .parent = plain, .name = rig_text("x"), .type = PROTO_INODE_FILE,
                    .set = PROTO_SET_GID, .gid = 7));
    rig_close(r);
}

TEST(owners_change_modes_and_groups)
{
    struct rights t;
    struct rig *r = rights_open(&t);
    uint64_t f = rights_make(r, 1, "f", PROTO_INODE_FILE, 0777);
    uint64_t l = rights_make(r, 1, "l", PROTO_INODE_SYMLINK, 0777);
    CHECK_OK(rights_chown(r, f, 1000, 55));
    CHECK_OK(rights_chown(r, l, 1000, 100));
    CHECK_RC(rights_chmod(rights_as(&t, RIG_BOB), f, 0600), EPERM);
    CHECK_RC(rights_chown(r, f, 1001, 55), EPERM);
    CHECK_RC(rights_chown(r, f, 1000, 8), EPERM);
    (void)rights_as(&t, RIG_ALICE);
    CHECK_OK(rights_chmod(r, f, 07755));
    CHECK_EQ(rights_attr(r, f).mode, 05755); /* not in group 55 */
    CHECK_OK(rights_chown(r, f, 1000, 55));  /* as it is: allowed, and the bits go */
    CHECK_EQ(rights_attr(r, f).mode, 01755);
    CHECK_RC(rights_chown(r, f, 1001, 55), EPERM);
    CHECK_RC(rights_chown(r, f, 1000, 8), EPERM);
    CHECK_OK(rights_chown(r, f, 1000, 7));
    CHECK_OK(rights_chmod(r, f, 02770));
    CHECK_EQ(rights_attr(r, f).mode, 02770);
    CHECK_RC(rights_chmod(r, l, 0700), EOPNOTSUPP);
    CHECK_RC(rights_chmod(r, 999, 0700), ENOENT);
    CHECK_OK(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_MODE | PROTO_SET_GID, .mode = 02770,
                    .gid = 100)); /* the new group counts */
    CHECK_EQ(rights_attr(r, f).mode, 02770);
    rig_close(r);
}

/* What chown and writing do to the set-id bits. */
TEST(set_id_bits_go_with_owner_and_contents)
{
    struct rights t;
    struct rig *r = rights_open(&t);
    uint64_t d = rights_make(r, 1, "d", PROTO_INODE_DIRECTORY, 06777);
    uint64_t f = rights_make(r, 1, "f", PROTO_INODE_FILE, 06777);
    CHECK_OK(rights_chown(r, d, 1000, 100));
    CHECK_EQ(rights_attr(r, d).mode, 06777); /* not of directories */
    CHECK_OK(rights_chown(r, f, 1000, 100));
    CHECK_EQ(rights_attr(r, f).mode, 0777); /* root's chown as well */
    CHECK_OK(rights_chmod(r, f, 06767));
    CHECK_OK(rights_chown(r, f, 1000, 100));
    CHECK_EQ(rights_attr(r, f).mode, 02767); /* root is in all groups */
    CHECK_OK(rights_chmod(r, f, 06777));
    CHECK_OK(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_SIZE, .size = 5));
    CHECK_EQ(rights_attr(r, f).mode, 06777); /* root may write */
    (void)rights_as(&t, RIG_BOB);
    CHECK_OK(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_SIZE, .size = 5));
    CHECK_EQ(rights_attr(r, f).mode, 0777);
    CHECK_OK(rights_chmod(rights_as(&t, RIG_ROOT), f, 06767));
    (void)rights_as(&t, RIG_BOB);
    CHECK_OK(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_KILL_PRIV));
    CHECK_EQ(rights_attr(r, f).mode, 0767); /* bob is not in group 100 */
    CHECK_OK(rights_chmod(rights_as(&t, RIG_ROOT), f, 06767));
    (void)rights_as(&t, RIG_ALICE);
    CHECK_OK(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_KILL_PRIV));
    CHECK_EQ(rights_attr(r, f).mode, 02767); /* alice is */
    CHECK_OK(rights_chmod(rights_as(&t, RIG_ROOT), f, 06700));
    (void)rights_as(&t, RIG_BOB);
    CHECK_RC(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_KILL_PRIV), EACCES);
    CHECK_RC(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_KILL_PRIV, .cap_epoch = 7), ESTALE);
    rig_close(r);
}

/* A writer's commits and last words, also those that name no credential. */
TEST(writers_drop_set_id_bits)
{
    struct rights t;
    struct rig *r = rights_open(&t);
    rig_make_class(r, 4);
    uint64_t f = rights_make(r, 1, "f", PROTO_INODE_FILE, 06777);
    (void)rights_as(&t, RIG_BOB);
    CHECK_OK(RIG_OP(r, wopen, .ino = f));
    uint64_t epoch = r->reply.result.cap_epoch;
    CHECK_EQ(rights_attr(r, f).mode, 06777);
    CHECK_OK(RIG_OP(r, commit, .ino = f, .cap_epoch = epoch, .flags = PROTO_COMMIT_TIMES));
    CHECK_EQ(rights_attr(r, f).mode, 06777); /* nothing was written */
    CHECK_OK(RIG_OP(r, commit, .ino = f, .cap_epoch = epoch, .size = 10, .allocated = 4096));
    CHECK_EQ(rights_attr(r, f).mode, 0777);
    CHECK_OK(rights_chmod(rights_as(&t, RIG_ROOT), f, 06777));
    r->op.cred = 0;
    CHECK_OK(RIG_OP(r, commit, .ino = f, .cap_epoch = epoch, .size = 20, .allocated = 4096));
    CHECK_EQ(rights_attr(rights_as(&t, RIG_BOB), f).mode, 0777);
    CHECK_OK(rights_chmod(rights_as(&t, RIG_ROOT), f, 06777));
    (void)rights_as(&t, RIG_BOB);
    int64_t mtime = rights_attr(r, f).mtime_ns;
    CHECK_OK(RIG_OP(r, lease_return, .ino = f, .has_final = true, .cap_epoch = epoch, .size = 20,
                    .mtime_ns = mtime, .keep = {.at = &f, .count = 1}));
    CHECK_EQ(rights_attr(r, f).mode, 06777); /* unchanged */
    CHECK_OK(RIG_OP(r, lease_return, .ino = f, .has_final = true, .cap_epoch = epoch, .size = 20,
                    .mtime_ns = mtime + 1));
    CHECK_EQ(rights_attr(r, f).mode, 0777);
    fsck(r);
    rig_close(r);
}

TEST(times_are_the_owners)
{
    static const int64_t moments[] = {0,         -1, -1000000001, 253402300799999999, INT64_MIN,
                                      INT64_MAX, 1};
    struct rights t;
    struct rig *r = rights_open(&t);
    uint64_t f = rights_make(r, 1, "f", PROTO_INODE_FILE, 0662);
    CHECK_OK(rights_chown(r, f, 1000, 8));
    const struct proto_attr made = rights_attr(r, f);
    CHECK_TRUE(made.btime_ns == made.mtime_ns);
    (void)rights_as(&t, RIG_ALICE);
    for (size_t i = 0; i < ARRAY_COUNT(moments); i++) {
        uint64_t change = rights_attr(r, f).change;
        CHECK_OK(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_ATIME | PROTO_SET_MTIME,
                        .atime_ns = moments[i], .mtime_ns = moments[ARRAY_COUNT(moments) - 1 - i]));
        struct proto_attr a = rights_attr(r, f);
        CHECK_EQ(a.atime_ns, moments[i]);
        CHECK_EQ(a.mtime_ns, moments[ARRAY_COUNT(moments) - 1 - i]);
        CHECK_EQ(a.ctime_ns, r->time_ns);
        CHECK_EQ(a.btime_ns, made.btime_ns);
        CHECK_EQ(a.change, change + 1);
    }
    (void)rights_as(&t, RIG_BOB); /* may write */
    CHECK_RC(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_MTIME, .mtime_ns = 1), EPERM);
    CHECK_RC(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_MTIME_NOW), EPERM);
    CHECK_RC(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_ATIME | PROTO_SET_MTIME_NOW), EPERM);
    CHECK_OK(RIG_OP(r, setattr, .ino = f, .mask = BOTH_NOW));
    struct proto_attr a = rights_attr(r, f);
    CHECK_TRUE(a.atime_ns == r->time_ns && a.mtime_ns == r->time_ns);
    CHECK_OK(rights_chmod(rights_as(&t, RIG_ROOT), f, 0660));
    CHECK_RC(RIG_OP(rights_as(&t, RIG_CAROL), setattr, .ino = f, .mask = BOTH_NOW), EACCES);
    CHECK_RC(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_CTIME), EPERM);
    rig_close(r);
}

TEST(nothing_asked_is_nothing_done)
{
    struct rights t;
    struct rig *r = rights_open(&t);
    uint64_t f = rights_make(r, 1, "f", PROTO_INODE_FILE, 0600);
    const struct proto_attr was = rights_attr(r, f);
    CHECK_OK(RIG_OP(rights_as(&t, RIG_CAROL), setattr, .ino = f, .mask = 0));
    CHECK_EQ(r->reply.attr.ino, f);
    const struct proto_attr is = rights_attr(r, f);
    CHECK_TRUE(is.change == was.change && is.version == was.version && is.ctime_ns == was.ctime_ns);
    CHECK_RC(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_RETENTION << 1), EINVAL);
    rig_close(r);
}

TEST(sticky_directories_keep_names)
{
    struct rights t;
    struct rig *r = rights_open(&t);
    uint64_t d = rights_make(r, 1, "d", PROTO_INODE_DIRECTORY, 01777);
    CHECK_OK(rights_chown(r, d, 1002, 102));
    (void)rights_as(&t, RIG_ALICE);
    (void)rights_make(r, d, "a", PROTO_INODE_FILE, 0666);
    (void)rights_make(r, d, "b", PROTO_INODE_FILE, 0666);
    (void)rights_make(r, d, "dir", PROTO_INODE_DIRECTORY, 0777);
    (void)rights_as(&t, RIG_BOB);
    (void)rights_make(r, d, "mine", PROTO_INODE_FILE, 0666);
    CHECK_RC(unlink_name(r, d, "a"), EPERM);
    CHECK_RC(RIG_OP(r, rmdir, .parent = d, .name = rig_text("dir")), EPERM);
    CHECK_RC(move(r, d, "a", d, "c"), EPERM);
    CHECK_RC(move(r, d, "mine", d, "a"), EPERM); /* would take a's name away */
    CHECK_OK(move(r, d, "mine", d, "c"));
    CHECK_RC(RIG_OP(r, rename, .parent = d, .name = rig_text("c"), .new_parent = d,
                    .new_name = rig_text("a"), .flags = PROTO_RENAME_EXCHANGE),
             EPERM);
    CHECK_OK(unlink_name(rights_as(&t, RIG_ALICE), d, "a"));
    CHECK_OK(unlink_name(rights_as(&t, RIG_CAROL), d, "b")); /* the directory is hers */
    CHECK_OK(unlink_name(rights_as(&t, RIG_ROOT), d, "c"));
    rig_close(r);
}

TEST(immutable_files_stay_as_they_are)
{
    struct rights t;
    struct rig *r = rights_open(&t);
    uint64_t d = rights_make(r, 1, "d", PROTO_INODE_DIRECTORY, 0777);
    uint64_t f = rights_make(r, d, "f", PROTO_INODE_FILE, 0666);
    CHECK_RC(RIG_OP(rights_as(&t, RIG_ALICE), setattr, .ino = f, .mask = PROTO_SET_FLAGS), EPERM);
    CHECK_OK(set_flags(&t, f, PROTO_INODE_IMMUTABLE | PROTO_INODE_HAS_ACL));
    CHECK_EQ(rights_attr(r, f).flags & PROTO_INODE_HAS_ACL, 0); /* not for clients to say */
    (void)rights_as(&t, RIG_ROOT);
    CHECK_RC(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_SIZE), EPERM);
    CHECK_RC(rights_chmod(r, f, 0600), EPERM);
    CHECK_RC(rights_chown(r, f, 0, 0), EPERM);
    CHECK_RC(RIG_OP(r, setattr, .ino = f, .mask = BOTH_NOW), EPERM);
    CHECK_RC(RIG_OP(r, wopen, .ino = f), EPERM);
    CHECK_RC(rights_open_file(r, f, PROTO_RIGHT_WRITE), EPERM);
    CHECK_OK(rights_open_file(r, f, PROTO_RIGHT_READ));
    CHECK_RC(unlink_name(r, d, "f"), EPERM);
    CHECK_RC(move(r, d, "f", d, "g"), EPERM);
    CHECK_RC(RIG_OP(r, link, .ino = f, .parent = d, .name = rig_text("l")), EPERM);
    CHECK_OK(set_flags(&t, f, 0));
    CHECK_OK(set_flags(&t, d, PROTO_INODE_IMMUTABLE));
    CHECK_RC(unlink_name(r, d, "f"), EPERM);
    CHECK_RC(create_name(r, d, "new", 0), EPERM);
    CHECK_RC(move(r, d, "f", 1, "f"), EPERM);
    CHECK_RC(RIG_OP(r, link, .ino = f, .parent = d, .name = rig_text("l")), EPERM);
    CHECK_OK(RIG_OP(r, wopen, .ino = f)); /* what is in it may change */
    rig_close(r);
}

TEST(append_only_files_and_directories)
{
    struct rights t;
    struct rig *r = rights_open(&t);
    uint64_t d = rights_make(r, 1, "d", PROTO_INODE_DIRECTORY, 0777);
    uint64_t f = rights_make(r, d, "f", PROTO_INODE_FILE, 0666);
    CHECK_OK(set_flags(&t, f, PROTO_INODE_APPEND));
    CHECK_RC(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_SIZE), EPERM);
    CHECK_RC(rights_chmod(r, f, 0600), EPERM);
    CHECK_RC(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_MTIME, .mtime_ns = 1), EPERM);
    CHECK_RC(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_MTIME_NOW), EPERM);
    CHECK_OK(RIG_OP(r, setattr, .ino = f, .mask = BOTH_NOW));
    struct proto_open_reply opened;
    CHECK_RC(rights_open_file(r, f, PROTO_RIGHT_WRITE), EPERM);
    CHECK_OK(RIG_QUERY(r, open, &opened, .ino = f, .access = PROTO_RIGHT_WRITE, .append = true));
    CHECK_RC(create_name(r, d, "f", PROTO_CREATE_WOPEN), EPERM);
    CHECK_RC(RIG_OP(r, wopen, .ino = f), EPERM);
    CHECK_OK(RIG_OP(r, wopen, .ino = f, .append = true));
    CHECK_OK(RIG_OP(r, wopen, .ino = f)); /* it is open, and its writer asks again */
    CHECK_OK(create_name(r, d, "f", PROTO_CREATE_WOPEN | PROTO_CREATE_APPEND));
    CHECK_RC(unlink_name(r, d, "f"), EPERM);
    CHECK_RC(move(r, d, "f", d, "g"), EPERM);
    CHECK_RC(RIG_OP(r, link, .ino = f, .parent = d, .name = rig_text("l")), EPERM);
    CHECK_OK(set_flags(&t, f, 0));
    CHECK_OK(set_flags(&t, d, PROTO_INODE_APPEND));
    CHECK_OK(create_name(r, d, "new", 0)); /* names may come, not go */
    CHECK_RC(unlink_name(r, d, "new"), EPERM);
    CHECK_RC(move(r, d, "new", d, "newer"), EPERM);
    rig_close(r);
}

TEST(root_executes_what_anybody_may)
{
    struct rights t;
    struct rig *r = rights_open(&t);
    struct proto_lookup_reply found;
    uint64_t d = rights_make(r, 1, "d", PROTO_INODE_DIRECTORY, 0);
    CHECK_OK(RIG_QUERY(r, lookup, &found, .parent = d, .name = rig_text("x")));
    (void)rights_as(&t, RIG_ALICE);
    CHECK_RC(RIG_QUERY(r, lookup, &found, .parent = d, .name = rig_text("x")), EACCES);
    rig_close(r);
}

/* Number and generation name an inode for ever, even where numbers are given out again. */
TEST(generations_differ)
{
    struct rights t;
    uint32_t seen[16];
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h",
                                        "i", "j", "k", "l", "m", "n", "o", "p"};
    struct rig *r = rights_open(&t);
    for (size_t i = 0; i < ARRAY_COUNT(seen); i++) {
        seen[i] = rights_attr(r, rights_make(r, 1, names[i], PROTO_INODE_FILE, 0600)).generation;
        CHECK_TRUE(seen[i] != 0);
        for (size_t k = 0; k < i; k++) {
            CHECK_TRUE(seen[k] != seen[i]);
        }
    }
    CHECK_TRUE(rights_attr(r, PROTO_ROOT_INO).generation != 0);
    rig_close(r);
}
