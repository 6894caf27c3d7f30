/* POSIX ACLs, as the extended attributes that they are to the kernel. */
#include "suite.h"
#include <endian.h>
#include <grp.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/xattr.h>

#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"
enum { MOST = 16 };

struct entry {
    uint16_t tag, perm;
    uint32_t id;
};
#define U(p)               \
    {                      \
        ACL_USER_OBJ, p, 0 \
    }
#define G(p)                \
    {                       \
        ACL_GROUP_OBJ, p, 0 \
    }
#define O(p)            \
    {                   \
        ACL_OTHER, p, 0 \
    }
#define M(p)           \
    {                  \
        ACL_MASK, p, 0 \
    }
#define USER(uid, p)     \
    {                    \
        ACL_USER, p, uid \
    }
#define GROUP(gid, p)     \
    {                     \
        ACL_GROUP, p, gid \
    }

struct raw {
    size_t len;
    uint8_t bytes[4 + 8 * MOST];
};

static struct raw pack(const struct entry *e, size_t count)
{
    struct raw r = {.len = 4 + 8 * count};
    uint32_t version = htole32(POSIX_ACL_XATTR_VERSION);
    memcpy(r.bytes, &version, 4);
    for (size_t i = 0; i < count; i++) {
        bool named = e[i].tag == ACL_USER || e[i].tag == ACL_GROUP;
        uint16_t tag = htole16(e[i].tag);
        uint16_t perm = htole16(e[i].perm);
        uint32_t id = htole32(named ? e[i].id : (uint32_t)ACL_UNDEFINED_ID);
        memcpy(r.bytes + 4 + 8 * i, &tag, 2);
        memcpy(r.bytes + 6 + 8 * i, &perm, 2);
        memcpy(r.bytes + 8 + 8 * i, &id, 4);
    }
    return r;
}

static long set_acl(const char *name, const char *kind, const struct entry *e, size_t count)
{
    struct raw r = pack(e, count);
    turn();
    return setxattr(name, kind, r.bytes, r.len, 0);
}

static bool acl_is(const char *name, const char *kind, const struct entry *e, size_t count)
{
    struct raw r = pack(e, count);
    uint8_t seen[200];
    turn();
    ssize_t n = getxattr(name, kind, seen, sizeof seen);
    return n == (ssize_t)r.len && memcmp(seen, r.bytes, r.len) == 0;
}

static bool has_acl(const char *name, const char *kind)
{
    turn();
    ssize_t n = getxattr(name, kind, NULL, 0);
    TRUE(n >= 0 || errno == ENODATA);
    return n > 0;
}
#define SET(name, kind, list) set_acl(name, kind, list, COUNT(list))
#define ACL_IS(name, kind, list) TRUE(acl_is(name, kind, list, COUNT(list)))

static void may(uid_t uid, gid_t gid, const char *name, int what)
{
    AS(uid, gid)
    {
        for (int bit = 1; bit <= 4; bit *= 2) {
            turn();
            int rc = access(name, bit);
            if ((rc == 0) != ((what & bit) != 0)) {
                fail_at(HERE, "%s as %u: expected rights %d, saw bit %d %s", name, uid, what, bit,
                        rc == 0 ? "granted" : "refused");
            }
        }
    }
}

TEST(acl_set_and_get)
{
    static const struct entry list[] = {U(6), USER(ALICE, 4), G(4), GROUP(TEAM, 6), M(6), O(0)};
    make_file("f", "");
    MAY(SET("f", ACCESS, list));
    ACL_IS("f", ACCESS, list);
    EQ(0660, MODE("f")); /* the mask stands where the group stood */
    OK(removexattr("f", ACCESS));
    TRUE(!has_acl("f", ACCESS));
    static const struct entry plain[] = {U(7), G(5), O(1)};
    OK(SET("f", ACCESS, plain)); /* says no more than a mode */
    EQ(0751, MODE("f"));
    TRUE(!has_acl("f", ACCESS));
    MOVES("f", "c", SET("f", ACCESS, list));
}

TEST(acl_and_chmod)
{
    static const struct entry list[] = {U(6), USER(ALICE, 6), G(6), M(6), O(0)};
    static const struct entry after[] = {U(7), USER(ALICE, 6), G(6), M(4), O(1)};
    make_file("f", "");
    MAY(SET("f", ACCESS, list));
    OK(chmod("f", 0741));
    ACL_IS("f", ACCESS, after);
    EQ(0741, MODE("f"));
}

TEST(acl_errors)
{
    static const struct entry good[] = {U(6), G(4), O(4)};
    static const struct entry no_mask[] = {U(6), USER(ALICE, 4), G(4), O(0)};
    static const struct entry no_other[] = {U(6), G(4)};
    static const struct entry order[] = {G(4), U(6), O(4)};
    static const struct entry twice[] = {U(6), U(6), G(4), O(4)};
    static const struct entry perm[] = {U(8), G(4), O(4)};
    static const struct entry tag[] = {U(6), {3, 4, 0}, G(4), O(4)};
    make_file("f", "");
    OK(mkdir("d", 0755));
    MAY(SET("f", ACCESS, good));
    ERR(EINVAL, SET("f", ACCESS, no_mask));
    ERR(EINVAL, SET("f", ACCESS, no_other));
    ERR(EINVAL, SET("f", ACCESS, order));
    ERR(EINVAL, SET("f", ACCESS, twice));
    ERR(EINVAL, SET("f", ACCESS, perm));
    ERR(EINVAL, SET("f", ACCESS, tag));
    ERR(EINVAL, SET("d", DEFAULT, no_mask));
    ERR(EOPNOTSUPP, setxattr("f", ACCESS, "\1\0\0\0", 4, 0)); /* another version */
    ERR(EINVAL, setxattr("f", ACCESS, "\2\0\0\0abc", 7, 0));
    ERR(EACCES, SET("f", DEFAULT, good)); /* for directories only */
    ERR(ENODATA, getxattr("d", DEFAULT, NULL, 0));
    struct raw r = pack(good, COUNT(good));
    OK(symlink("f", "l"));
    ERR(EOPNOTSUPP, lsetxattr("l", ACCESS, r.bytes, r.len, 0));
    need_root();
    AS(ALICE, TEAM)
    {
        ERR(EPERM, SET("f", ACCESS, good));
        ERR(EPERM, SET("d", DEFAULT, good));
        ERR(EPERM, removexattr("d", DEFAULT));
    }
}

TEST(acl_decides_access)
{
    need_root();
    static const struct entry list[] = {U(6),           USER(ALICE, 4), USER(BOB, 7), G(4),
                                        GROUP(TEAM, 6), M(6),           O(1)};
    make_file("f", "");
    MAY(SET("f", ACCESS, list));
    OK(chown("f", CAROL, OTHERS));
    may(CAROL, OTHERS, "f", 6); /* the owner, whatever the mask */
    may(ALICE, TEAM, "f", 4);   /* her own entry, though her group has more */
    may(BOB, 555, "f", 6);      /* the mask takes x away */
    may(30000, TEAM, "f", 6);
    may(30000, OTHERS, "f", 4);
    may(30000, 30000, "f", 1);
    OK(chmod("f", 0600)); /* an empty mask */
    may(ALICE, TEAM, "f", 0);
    may(30000, TEAM, "f", 0);
    may(CAROL, OTHERS, "f", 6);
}

/* One group that grants all that is asked is enough; if none does, "other" is not asked. */
TEST(acl_of_groups)
{
    need_root();
    static const struct entry list[] = {U(6), G(4), GROUP(TEAM, 2), M(7), O(7)};
    make_file("f", "");
    MAY(SET("f", ACCESS, list));
    OK(chown("f", CAROL, OTHERS));
    pid_t pid;
    CHILD(pid)
    {
        gid_t both[] = {OTHERS, TEAM};
        OK(setgroups(2, both));
        OK(setresgid(30000, 30000, 30000));
        OK(setresuid(30000, 30000, 30000));
        OK(open("f", O_RDONLY));
        OK(open("f", O_WRONLY));
        ERR(EACCES, open("f", O_RDWR)); /* no entry has both */
        ERR(EACCES, access("f", X_OK));
    }
    join(pid);
}

TEST(acl_directory_rights)
{
    need_root();
    static const struct entry list[] = {U(7), USER(ALICE, 7), USER(BOB, 1), G(0), M(7), O(0)};
    OK(mkdir("d", 0700));
    make_file("d/f", "abc");
    MAY(SET("d", ACCESS, list));
    AS(ALICE, TEAM)
    {
        make_file("d/hers", "");
        OK(unlink("d/f"));
        make_file("d/f", "abc");
        OK(open("d", O_RDONLY));
    }
    AS(BOB, TEAM)
    {
        CONTENT("d/f", "abc");
        ERR(EACCES, open("d", O_RDONLY));
        ERR(EACCES, open("d/x", O_WRONLY | O_CREAT, 0644));
    }
    AS(CAROL, TEAM)
    {
        ERR(EACCES, open("d/f", O_RDONLY));
    }
}

TEST(acl_is_inherited)
{
    static const struct entry list[] = {U(7), USER(ALICE, 7), G(5), M(7), O(0)};
    static const struct entry file[] = {U(6), USER(ALICE, 7), G(5), M(6), O(0)};
    static const struct entry closed[] = {U(6), USER(ALICE, 7), G(5), M(0), O(0)};
    OK(mkdir("d", 0755));
    MAY(SET("d", DEFAULT, list));
    ACL_IS("d", DEFAULT, list);
    TRUE(!has_acl("d", ACCESS));
    umask(077); /* is not asked where there is a default */
    OK(close(FD(open("d/f", O_WRONLY | O_CREAT, 0666))));
    ACL_IS("d/f", ACCESS, file);
    EQ(0660, MODE("d/f"));
    TRUE(!has_acl("d/f", DEFAULT));
    OK(close(FD(open("d/g", O_WRONLY | O_CREAT, 0600))));
    ACL_IS("d/g", ACCESS, closed);
    OK(mkdir("d/sub", 0777));
    ACL_IS("d/sub", DEFAULT, list);
    ACL_IS("d/sub", ACCESS, list);
    EQ(0770, MODE("d/sub"));
    OK(mkfifo("d/p", 0666));
    ACL_IS("d/p", ACCESS, file);
    OK(symlink("x", "d/l"));
    EQ(0777, MODE("d/l"));
    make_file("plain", ""); /* moved in, it stays as it was */
    OK(rename("plain", "d/plain"));
    TRUE(!has_acl("d/plain", ACCESS));
    OK(removexattr("d", DEFAULT));
    OK(close(FD(open("d/h", O_WRONLY | O_CREAT, 0666))));
    EQ(0600, MODE("d/h"));
    TRUE(!has_acl("d/h", ACCESS));
}

TEST(acl_default_without_names)
{
    static const struct entry list[] = {U(7), G(5), O(5)};
    OK(mkdir("d", 0755));
    MAY(SET("d", DEFAULT, list));
    umask(077);
    OK(close(FD(open("d/f", O_WRONLY | O_CREAT, 0666))));
    EQ(0644, MODE("d/f"));
    TRUE(!has_acl("d/f", ACCESS));
    OK(mkdir("d/sub", 0777));
    EQ(0755, MODE("d/sub"));
    ACL_IS("d/sub", DEFAULT, list);
}

TEST(acl_clears_sgid_of_a_foreign_group)
{
    need_root();
    static const struct entry list[] = {U(7), USER(BOB, 7), G(5), M(7), O(0)};
    make_file("f", "");
    MAY(SET("f", ACCESS, list));
    OK(chown("f", ALICE, OTHERS));
    OK(chmod("f", 02775));
    AS(ALICE, TEAM)
    {
        OK(SET("f", ACCESS, list));
    }
    EQ(0770, MODE("f"));
}
