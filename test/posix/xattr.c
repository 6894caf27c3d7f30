/* Extended attributes. */
#include "suite.h"
#include <sys/xattr.h>

static bool value_is(const char *name, const char *key, const char *want)
{
    char seen[100];
    turn();
    ssize_t n = getxattr(name, key, seen, sizeof seen);
    return n == (ssize_t)strlen(want) && memcmp(seen, want, (size_t)n) == 0;
}

static bool listed(const char *name, const char *key)
{
    char all[4096];
    turn();
    ssize_t n = listxattr(name, all, sizeof all);
    for (ssize_t i = 0; i < n; i += (ssize_t)strlen(all + i) + 1) {
        if (strcmp(all + i, key) == 0) {
            return true;
        }
    }
    return false;
}

TEST(xattr_set_get_list_remove)
{
    char room[100];
    make_file("f", "");
    MAY(setxattr("f", "user.a", "one", 3, 0));
    TRUE(value_is("f", "user.a", "one"));
    OK(setxattr("f", "user.a", "other", 5, 0)); /* replaces */
    TRUE(value_is("f", "user.a", "other"));
    OK(setxattr("f", "user.empty", "", 0, 0));
    EQ(0, getxattr("f", "user.empty", room, sizeof room));
    TRUE(listed("f", "user.a") && listed("f", "user.empty"));
    EQ(5, getxattr("f", "user.a", NULL, 0)); /* how long it is */
    TRUE(listxattr("f", NULL, 0) >= 18);
    int fd = FD(open("f", O_RDONLY));
    OK(fsetxattr(fd, "user.b", "\0\xff\0", 3, 0)); /* any bytes */
    EQ(3, fgetxattr(fd, "user.b", room, sizeof room));
    TRUE(memcmp(room, "\0\xff\0", 3) == 0);
    OK(removexattr("f", "user.a"));
    OK(fremovexattr(fd, "user.b"));
    TRUE(!listed("f", "user.a") && !listed("f", "user.b"));
    ERR(ENODATA, getxattr("f", "user.a", room, sizeof room));
    OK(mkdir("d", 0755));
    OK(setxattr("d", "user.a", "x", 1, 0));
    TRUE(value_is("d", "user.a", "x"));
}

TEST(xattr_flags_and_errors)
{
    char room[100];
    make_file("f", "");
    MAY(setxattr("f", "user.a", "one", 3, XATTR_CREATE));
    ERR(EEXIST, setxattr("f", "user.a", "two", 3, XATTR_CREATE));
    ERR(ENODATA, setxattr("f", "user.b", "two", 3, XATTR_REPLACE));
    OK(setxattr("f", "user.a", "two", 3, XATTR_REPLACE));
    TRUE(value_is("f", "user.a", "two"));
    ERR(EINVAL, setxattr("f", "user.a", "x", 1, 4));
    ERR(ERANGE, getxattr("f", "user.a", room, 2));
    ERR(ERANGE, listxattr("f", room, 3));
    ERR(ENODATA, getxattr("f", "user.none", room, sizeof room));
    ERR(ENODATA, removexattr("f", "user.none"));
    ERR(EOPNOTSUPP, setxattr("f", "nosuchspace.a", "x", 1, 0));
    ERR(EOPNOTSUPP, setxattr("f", "plain", "x", 1, 0));
    ERR(EOPNOTSUPP, getxattr("f", "nosuchspace.a", room, sizeof room));
    ERR(ERANGE, setxattr("f", "", "x", 1, 0));
    ERR(ERANGE, setxattr("f", name_of(256, 'u'), "x", 1, 0));
    ERR(EINVAL, setxattr("f", "user.", "x", 1, 0));
    ERR(ENOENT, setxattr("none", "user.a", "x", 1, 0));
    ERR(ENOENT, getxattr("none", "user.a", room, sizeof room));
    ERR(ENOENT, listxattr("none", room, sizeof room));
    ERR(ENOENT, removexattr("none", "user.a"));
    ERR(ENOTDIR, getxattr("f/x", "user.a", room, sizeof room));
    ERR(ENAMETOOLONG, getxattr(name_of(256, 'n'), "user.a", room, sizeof room));
    ERR(EBADF, fgetxattr(-1, "user.a", room, sizeof room));
    ERR(EFAULT, setxattr("f", "user.a", bad_address(), 4, 0));
    ERR(EFAULT, setxattr("f", bad_address(), "x", 1, 0));
}

TEST(xattr_limits)
{
    static char big[65537];
    static char back[65537];
    make_file("f", "");
    memset(big, 'v', sizeof big);
    MAY(setxattr("f", "user.a", "x", 1, 0));
    ERR(E2BIG, setxattr("f", "user.big", big, sizeof big, 0));
    char name[257] = "user.";
    memset(name + 5, 'k', 250); /* 255 bytes */
    name[255] = '\0';
    OK(setxattr("f", name, "long", 4, 0));
    TRUE(value_is("f", name, "long"));
    TRUE(listed("f", name));
    OK(removexattr("f", name));
    size_t len = sizeof big - 1;
    while (len > 1000) {
        turn();
        if (setxattr("f", "user.big", big, len, 0) == 0) {
            break;
        }
        TRUE(errno == ENOSPC || errno == E2BIG || errno == ERANGE); /* a block of ext4 */
        len /= 2;
    }
    EQ(len, getxattr("f", "user.big", back, sizeof back));
    TRUE(memcmp(big, back, len) == 0);
    EQ(1, getxattr("f", "user.a", back, sizeof back));
}

TEST(xattr_many)
{
    enum { MANY = 50 };
    char name[40];
    char value[40];
    make_file("f", "");
    MAY(setxattr("f", "user.a", "x", 1, 0));
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "user.key%d", i);
        snprintf(value, sizeof value, "value %d", i);
        OK(setxattr("f", name, value, strlen(value), XATTR_CREATE));
    }
    for (int i = 0; i < MANY; i += 2) {
        snprintf(name, sizeof name, "user.key%d", i);
        OK(removexattr("f", name));
    }
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "user.key%d", i);
        snprintf(value, sizeof value, "value %d", i);
        EQ(i % 2, listed("f", name));
        EQ(i % 2, value_is("f", name, value));
    }
}

TEST(xattr_of_links_and_renamed_files)
{
    char room[10];
    make_file("f", "");
    MAY(setxattr("f", "user.a", "x", 1, 0));
    OK(link("f", "g"));
    TRUE(value_is("g", "user.a", "x"));
    OK(rename("f", "h"));
    TRUE(value_is("h", "user.a", "x"));
    OK(symlink("h", "l"));
    TRUE(value_is("l", "user.a", "x"));
    ERR(EPERM, lsetxattr("l", "user.b", "x", 1, 0)); /* links have none of users' */
    ERR(ENODATA, lgetxattr("l", "user.a", room, sizeof room));
    OK(mkfifo("p", 0666));
    ERR(EPERM, setxattr("p", "user.a", "x", 1, 0));
    make_file("f", "");
    ERR(ENODATA, getxattr("f", "user.a", room, sizeof room)); /* a new file of the old name */
}

TEST(xattr_moves_ctime)
{
    make_file("f", "");
    MAY(setxattr("f", "user.a", "x", 1, 0));
    MOVES("f", "c", setxattr("f", "user.a", "y", 1, 0));
    MOVES("f", "c", removexattr("f", "user.a"));
}

TEST(xattr_user_may)
{
    need_root();
    char room[10];
    make_file("f", "");
    MAY(setxattr("f", "user.a", "x", 1, 0));
    OK(chmod("f", 0644));
    AS(ALICE, TEAM)
    {
        EQ(1, getxattr("f", "user.a", room, sizeof room));
        ERR(EACCES, setxattr("f", "user.a", "y", 1, 0));
        ERR(EACCES, removexattr("f", "user.a"));
    }
    OK(chmod("f", 0622));
    AS(ALICE, TEAM)
    {
        OK(setxattr("f", "user.a", "y", 1, 0));
        ERR(EACCES, getxattr("f", "user.a", room, sizeof room));
        OK(listxattr("f", NULL, 0)); /* the names are no secret */
    }
    OK(mkdir("t", 0755));
    OK(chmod("t", 01777));
    AS(ALICE, TEAM)
    {
        ERR(EPERM, setxattr("t", "user.a", "x", 1, 0)); /* sticky: the owner's only */
    }
}

TEST(xattr_trusted)
{
    need_root();
    char room[10];
    make_file("f", "");
    MAY(setxattr("f", "user.a", "x", 1, 0));
    MAY(setxattr("f", "trusted.t", "secret", 6, 0));
    TRUE(value_is("f", "trusted.t", "secret"));
    TRUE(listed("f", "trusted.t"));
    OK(symlink("f", "l"));
    OK(lsetxattr("l", "trusted.t", "link", 4, 0)); /* links may have these */
    EQ(4, lgetxattr("l", "trusted.t", room, sizeof room));
    OK(chmod("f", 0666));
    AS(ALICE, TEAM)
    {
        ERR(ENODATA, getxattr("f", "trusted.t", room, sizeof room));
        ERR(EPERM, setxattr("f", "trusted.t", "x", 1, 0));
        ERR(EPERM, removexattr("f", "trusted.t"));
        TRUE(!listed("f", "trusted.t"));
        TRUE(listed("f", "user.a"));
    }
}

TEST(xattr_security)
{
    need_root();
    make_file("f", "");
    MAY(setxattr("f", "security.test", "label", 5, 0));
    TRUE(value_is("f", "security.test", "label"));
    OK(chmod("f", 0666));
    AS(ALICE, TEAM)
    {
        TRUE(value_is("f", "security.test", "label"));
        ERR(EPERM, setxattr("f", "security.test", "x", 1, 0));
    }
}

/* A file that is written loses the capabilities it had. */
TEST(xattr_capability_goes_with_a_write)
{
    need_root();
    static const unsigned char cap[20] = {1, 0, 0,
                                          2, 0, 4}; /* version 2, effective: CAP_NET_BIND_SERVICE */
    char room[30];
    make_file("f", "");
    MAY(setxattr("f", "security.capability", cap, sizeof cap, 0));
    EQ(20, getxattr("f", "security.capability", room, sizeof room));
    OK(chmod("f", 0666));
    AS(ALICE, TEAM)
    {
        int fd = FD(open("f", O_WRONLY));
        EQ(1, write(fd, "x", 1));
        OK(close(fd));
    }
    ERR(ENODATA, getxattr("f", "security.capability", room, sizeof room));
    OK(setxattr("f", "security.capability", cap, sizeof cap, 0));
    OK(chown("f", ALICE, TEAM));
    ERR(ENODATA, getxattr("f", "security.capability", room, sizeof room));
}
