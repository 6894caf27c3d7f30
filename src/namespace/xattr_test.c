#include "testing/testing.h"

#include "namespace/rig_fsck_priv.h"
#include "namespace/rig_rights_priv.h"

static int set(struct rig *r, uint64_t ino, const char *name, uint32_t flags)
{
    return RIG_OP(r, setxattr, .ino = ino, .name = rig_text(name), .value = rig_text("v"),
                  .flags = flags);
}

static int drop(struct rig *r, uint64_t ino, const char *name)
{
    return RIG_OP(r, removexattr, .ino = ino, .name = rig_text(name));
}

static int get(struct rig *r, uint64_t ino, const char *name)
{
    struct proto_getxattr_reply reply;
    int rc = RIG_QUERY(r, getxattr, &reply, .ino = ino, .name = rig_text(name));
    return rc < 0 ? rc : (int)reply.value.len;
}

TEST(extended_attributes)
{
    struct rights t;
    struct proto_getxattr_reply value;
    struct proto_listxattr_reply list;
    struct rig *r = rights_open(&t);
    uint64_t f = rights_make(r, 1, "f", PROTO_INODE_FILE, 0644);
    CHECK_OK(RIG_QUERY(r, listxattr, &list, .ino = f));
    CHECK_EQ(list.names.len, 0);
    CHECK_OK(set(r, f, "user.b", 0));
    CHECK_OK(set(r, f, "user.a", PROTO_XATTR_CREATE));
    CHECK_OK(set(r, f, "trusted.t", 0));
    CHECK_OK(set(r, f, "security.s/1", 0));
    CHECK_RC(set(r, f, "user.a", PROTO_XATTR_CREATE), EEXIST);
    CHECK_RC(set(r, f, "user.z", PROTO_XATTR_REPLACE), ENODATA);
    CHECK_RC(set(r, f, "user.z", 4), EINVAL);
    CHECK_RC(set(r, f, "other.z", 0), EOPNOTSUPP);
    CHECK_RC(set(r, f, "system.z", 0), EOPNOTSUPP);
    CHECK_RC(set(r, f, "", 0), EOPNOTSUPP);
    CHECK_RC(set(r, f, "user.", 0), EINVAL);
    CHECK_RC(set(r, 999, "user.a", 0), ENOENT);
    CHECK_OK(RIG_QUERY(r, getxattr, &value, .ino = f, .name = rig_text("user.a")));
    CHECK_TRUE(proto_bytes_equal(value.value, rig_text("v")));
    CHECK_RC(get(r, f, "user.c"), ENODATA);
    CHECK_RC(get(r, f, "other.c"), EOPNOTSUPP);
    CHECK_RC(get(r, f, ""), EOPNOTSUPP);
    CHECK_RC(get(r, f, "trusted."), EINVAL);
    CHECK_OK(rights_acl(&t, f, false, .owner = 7, .has_mask = true));
    CHECK_OK(RIG_QUERY(r, listxattr, &list, .ino = f));
    CHECK_EQ(list.names.len, 61);
    CHECK_BYTES(list.names.at, "system.posix_acl_access\0security.s/1\0trusted.t\0user.a\0user.b\0",
                61);
    CHECK_OK(RIG_OP(r, setxattr, .ino = f, .name = rig_text("user.a"), .flags = PROTO_XATTR_REPLACE,
                    .value = rig_text("longer")));
    CHECK_EQ(get(r, f, "user.a"), 6);
    fsck(r);
    CHECK_OK(drop(r, f, "user.a"));
    CHECK_RC(drop(r, f, "user.a"), ENODATA);
    CHECK_RC(drop(r, f, "other.a"), EOPNOTSUPP);
    fsck(r);
    CHECK_OK(RIG_OP(r, unlink, .parent = 1, .name = rig_text("f")));
    fsck(r);
    rig_close(r);
}

TEST(the_flag_tells_whether_there_are_any)
{
    struct rights t;
    struct rig *r = rights_open(&t);
    uint64_t f = rights_make(r, 1, "f", PROTO_INODE_FILE, 0644);
    CHECK_EQ(rights_attr(r, f).flags & PROTO_INODE_HAS_XATTR, 0);
    CHECK_OK(set(r, f, "user.a", 0));
    CHECK_OK(set(r, f, "user.b", 0));
    CHECK_EQ(rights_attr(r, f).flags & PROTO_INODE_HAS_XATTR, PROTO_INODE_HAS_XATTR);
    CHECK_OK(drop(r, f, "user.a"));
    CHECK_EQ(rights_attr(r, f).flags & PROTO_INODE_HAS_XATTR, PROTO_INODE_HAS_XATTR);
    CHECK_OK(drop(r, f, "user.b"));
    CHECK_EQ(rights_attr(r, f).flags & PROTO_INODE_HAS_XATTR, 0);
    fsck(r);
    rig_close(r);
}

TEST(changes_are_counted_and_set_ctime)
{
    struct rights t;
    struct rig *r = rights_open(&t);
    uint64_t f = rights_make(r, 1, "f", PROTO_INODE_FILE, 0644);
    struct proto_attr was = rights_attr(r, f);
    for (int i = 0; i < 4; i++) {
        CHECK_OK(i == 3 ? drop(r, f, "user.a") : set(r, f, "user.a", 0));
        CHECK_EQ(r->reply.change_count, 1);
        struct proto_attr is = rights_attr(r, f);
        CHECK_EQ(is.change, was.change + 1);
        CHECK_EQ(is.ctime_ns, r->time_ns);
        CHECK_TRUE(is.version > was.version && is.ctime_ns > was.ctime_ns);
        CHECK_TRUE(is.mtime_ns == was.mtime_ns && is.btime_ns == was.btime_ns);
        was = is;
    }
    rig_close(r);
}

TEST(each_namespace_has_its_own_rights)
{
    struct rights t;
    struct proto_listxattr_reply list;
    struct rig *r = rights_open(&t);
    uint64_t f = rights_make(r, 1, "f", PROTO_INODE_FILE, 0640);
    CHECK_OK(rights_chown(r, f, 1000, 8));
    CHECK_OK(set(r, f, "trusted.t", 0));
    CHECK_OK(set(r, f, "security.s", 0));
    (void)rights_as(&t, RIG_ALICE);
    CHECK_OK(set(r, f, "user.u", 0));
    CHECK_RC(set(r, f, "trusted.t", 0), EPERM);
    CHECK_RC(set(r, f, "security.s", 0), EPERM);
    CHECK_RC(drop(r, f, "security.s"), EPERM);
    CHECK_RC(get(r, f, "trusted.t"), ENODATA);
    CHECK_EQ(get(r, f, "security.s"), 1);
    CHECK_OK(RIG_QUERY(r, listxattr, &list, .ino = f));
    CHECK_EQ(list.names.len, 18);
    CHECK_BYTES(list.names.at, "security.s\0user.u\0", 18);
    (void)rights_as(&t, RIG_BOB); /* of the group: may read */
    CHECK_EQ(get(r, f, "user.u"), 1);
    CHECK_RC(set(r, f, "user.u", 0), EACCES);
    CHECK_RC(drop(r, f, "user.u"), EACCES);
    (void)rights_as(&t, RIG_CAROL);
    CHECK_RC(get(r, f, "user.u"), EACCES);
    CHECK_EQ(get(r, f, "security.s"), 1); /* who sees the file sees that */
    CHECK_OK(RIG_QUERY(r, listxattr, &list, .ino = f));
    CHECK_EQ(list.names.len, 18);
    rig_close(r);
}

TEST(users_attributes_are_of_files_and_directories)
{
    static const enum proto_inode_type others[] = {PROTO_INODE_SYMLINK, PROTO_INODE_FIFO,
                                                   PROTO_INODE_SOCKET, PROTO_INODE_CHAR};
    static const char *const names[] = {"a", "b", "c", "d"};
    struct rights t;
    struct rig *r = rights_open(&t);
    for (size_t i = 0; i < ARRAY_COUNT(others); i++) {
        uint64_t ino = rights_make(r, 1, names[i], others[i], 0666);
        CHECK_RC(set(r, ino, "user.a", 0), EPERM);
        CHECK_RC(get(r, ino, "user.a"), ENODATA);
        CHECK_OK(set(r, ino, "trusted.a", 0));
        CHECK_EQ(get(r, ino, "trusted.a"), 1);
    }
    uint64_t d = rights_make(r, 1, "dir", PROTO_INODE_DIRECTORY, 0777);
    CHECK_OK(rights_chown(r, d, 1000, 100));
    CHECK_OK(set(rights_as(&t, RIG_BOB), d, "user.a", 0));
    CHECK_OK(rights_chmod(rights_as(&t, RIG_ROOT), d, 01777));
    CHECK_RC(set(rights_as(&t, RIG_BOB), d, "user.a", 0), EPERM); /* sticky */
    CHECK_RC(drop(r, d, "user.a"), EPERM);
    CHECK_EQ(get(r, d, "user.a"), 1);
    CHECK_OK(set(rights_as(&t, RIG_ALICE), d, "user.a", 0));
    CHECK_OK(drop(rights_as(&t, RIG_ROOT), d, "user.a"));
    fsck(r);
    rig_close(r);
}

TEST(what_is_fixed_keeps_its_attributes)
{
    struct rights t;
    struct rig *r = rights_open(&t);
    uint64_t f = rights_make(r, 1, "f", PROTO_INODE_FILE, 0666);
    CHECK_OK(set(r, f, "user.a", 0));
    const uint32_t flags[] = {PROTO_INODE_IMMUTABLE, PROTO_INODE_APPEND};
    for (size_t i = 0; i < ARRAY_COUNT(flags); i++) {
        CHECK_OK(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_FLAGS, .flags = flags[i]));
        CHECK_EQ(rights_attr(r, f).flags & PROTO_INODE_HAS_XATTR, PROTO_INODE_HAS_XATTR);
        CHECK_RC(set(r, f, "user.a", 0), EPERM);
        CHECK_RC(set(r, f, "trusted.a", 0), EPERM);
        CHECK_RC(drop(r, f, "user.a"), EPERM);
        CHECK_EQ(get(r, f, "user.a"), 1);
    }
    rig_close(r);
}

/* Names of 255 bytes until listxattr() could not hold them all. */
TEST(names_and_bytes_are_bounded)
{
    struct rights t;
    struct proto_listxattr_reply list;
    char name[PROTO_NAME_MAX + 1];
    int rc = 0;
    size_t n = 0;
    struct rig *r = rights_open(&t);
    uint64_t f = rights_make(r, 1, "f", PROTO_INODE_FILE, 0666);
    CHECK_OK(rights_acl(&t, f, false, .owner = 7, .has_mask = true));
    memset(name, 'x', sizeof name);
    name[PROTO_NAME_MAX] = 0;
    for (n = 0; rc == 0; n++) {
        memcpy(name, "user.", 5);
        name[5] = (char)('a' + n / 26);
        name[6] = (char)('a' + n % 26);
        rc = set(r, f, name, 0);
    }
    CHECK_EQ(rc, -ENOSPC);
    CHECK_EQ(n - 1, NAMESPACE_XATTR_NAMES_MAX / 256);
    CHECK_OK(RIG_QUERY(r, listxattr, &list, .ino = f));
    CHECK_EQ(list.names.len, (n - 1) * 256 + sizeof PROTO_ACL_ACCESS);
    uint64_t g = rights_make(r, 1, "g", PROTO_INODE_FILE, 0666);
    uint8_t *value = mem_zalloc(65536);
    CHECK_TRUE(value != NULL);
    for (n = 0, rc = 0; rc == 0; n++) {
        memcpy(name, "user.", 5);
        name[5] = (char)('a' + n);
        rc = RIG_OP(r, setxattr, .ino = g, .name = rig_text(name),
                    .value = proto_bytes_of(value, 65536));
    }
    CHECK_EQ(rc, -ENOSPC);
    CHECK_EQ(n - 1, NAMESPACE_XATTR_BYTES_MAX / (65536 + 255));
    name[5] = 'a';
    CHECK_OK(set(r, g, name, PROTO_XATTR_REPLACE)); /* shorter is fine, and then there is room */
    name[5] = 'Z';
    CHECK_OK(RIG_OP(r, setxattr, .ino = g, .name = rig_text(name),
                    .value = proto_bytes_of(value, 65536)));
    mem_free(value);
    fsck(r);
    rig_close(r);
}

/* What execve(2) would trust does not outlive what somebody writes into the file. */
TEST(file_capabilities_go_with_the_contents)
{
    struct rights t;
    struct rig *r = rights_open(&t);
    uint64_t f = rights_make(r, 1, "f", PROTO_INODE_FILE, 0777);
    CHECK_OK(set(r, f, "user.a", 0));
    CHECK_OK(set(r, f, "security.capability", 0));
    (void)rights_as(&t, RIG_ALICE);
    CHECK_OK(RIG_OP(r, setattr, .ino = f, .mask = PROTO_SET_SIZE, .size = 0));
    CHECK_RC(get(r, f, "security.capability"), ENODATA);
    CHECK_EQ(get(r, f, "user.a"), 1);
    (void)rights_as(&t, RIG_ROOT);
    CHECK_OK(set(r, f, "security.capability", 0));
    CHECK_OK(rights_chown(r, f, 1000, 100));
    CHECK_RC(get(r, f, "security.capability"), ENODATA);
    CHECK_OK(set(r, f, "security.capability", 0));
    (void)rights_as(&t, RIG_ALICE);
    CHECK_OK(RIG_OP(r, wopen, .ino = f));
    uint64_t epoch = r->reply.result.cap_epoch;
    CHECK_OK(RIG_OP(r, commit, .ino = f, .cap_epoch = epoch, .flags = PROTO_COMMIT_RELEASE));
    CHECK_EQ(get(r, f, "security.capability"), 1); /* nothing was written */
    CHECK_OK(RIG_OP(r, wopen, .ino = f));
    epoch = r->reply.result.cap_epoch;
    CHECK_OK(RIG_OP(r, commit, .ino = f, .cap_epoch = epoch, .data = rig_text("x"),
                    .flags = PROTO_COMMIT_RELEASE | PROTO_COMMIT_HAS_DATA));
    CHECK_RC(get(r, f, "security.capability"), ENODATA);
    fsck(r);
    rig_close(r);
}
