/* mkdir(), mknod(), rmdir(), link(), unlink(), symlink(), readlink(); names and paths at their
 * limits. */
#include "suite.h"
#include <dirent.h>
#include <sys/sysmacros.h>

TEST(mkdir_makes)
{
    OK(mkdir("d", 0750));
    EQ(0750, MODE("d"));
    TRUE(S_ISDIR(stat_of("d").st_mode));
    OK(mkdir("d/e/", 0755)); /* a slash at the end is fine */
    TRUE(S_ISDIR(stat_of("d/e").st_mode));
    EQ(stat_of(".").st_ino, stat_of("d/..").st_ino);
    EQ(stat_of("d").st_ino, stat_of("d/.").st_ino);
    umask(027);
    OK(mkdir("u", 0777));
    EQ(0750, MODE("u"));
    umask(0);
    OK(mkdir("s", 01777));
    EQ(01777, MODE("s"));
}

TEST(mkdir_errors)
{
    make_file("f", "");
    OK(mkdir("d", 0755));
    OK(symlink("nowhere", "l"));
    ERR(EEXIST, mkdir("f", 0755));
    ERR(EEXIST, mkdir("d", 0755));
    ERR(EEXIST, mkdir("d/", 0755));
    ERR(EEXIST, mkdir("l", 0755));
    ERR(EEXIST, mkdir(".", 0755));
    ERR(EEXIST, mkdir("d/..", 0755));
    ERR(EEXIST, mkdir("/", 0755));
    ERR(ENOENT, mkdir("", 0755));
    ERR(ENOENT, mkdir("none/d", 0755));
    ERR(ENOTDIR, mkdir("f/d", 0755));
    ERR(ENAMETOOLONG, mkdir(name_of(256, 'n'), 0755));
    ERR(EFAULT, mkdir(bad_address(), 0755));
    ERR(EBADF, mkdirat(-1, "x", 0755));
    need_root();
    AS(ALICE, TEAM)
    {
        ERR(EACCES, mkdir("d/x", 0755));
        ERR(EEXIST, mkdir("d", 0755)); /* that it is there is said first */
    }
}

TEST(mkdir_counts_links)
{
    OK(mkdir("d", 0755));
    if (NLINK("d") == 1) {
        skip_test("directories do not count their links here");
    }
    EQ(2, NLINK("d"));
    OK(mkdir("d/a", 0755));
    OK(mkdir("d/b", 0755));
    make_file("d/f", "");
    EQ(4, NLINK("d"));
    OK(rename("d/a", "a"));
    EQ(3, NLINK("d"));
    OK(rmdir("d/b"));
    EQ(2, NLINK("d"));
}

TEST(mkdir_times)
{
    OK(mkdir("d", 0755));
    MOVES("d", "mc", mkdir("d/a", 0755));
    MOVES("d", "mc", close(creat("d/f", 0644)));
    MOVES("d", "mc", symlink("x", "d/l"));
    MOVES("d", "mc", mkfifo("d/p", 0644));
    MOVES("d", "mc", link("d/f", "d/g"));
    MOVES("d/f", "c", link("d/f", "d/h"));
    MOVES("d/f", "c", unlink("d/h"));
    MOVES("d", "mc", unlink("d/g"));
    MOVES("d", "mc", rename("d/f", "d/h"));
    MOVES("d", "mc", rmdir("d/a"));
    MOVES("d", "mc", rename("d/h", "h"));
    MOVES("d", "", close(open("h", O_RDONLY)));
}

TEST(mknod_types)
{
    OK(mknod("f", S_IFREG | 0640, 0));
    TRUE(S_ISREG(stat_of("f").st_mode));
    EQ(0640, MODE("f"));
    OK(mknod("z", 0600, 0)); /* no type: a file */
    TRUE(S_ISREG(stat_of("z").st_mode));
    OK(mkfifo("p", 0666));
    TRUE(S_ISFIFO(stat_of("p").st_mode));
    EQ(0644, MODE("p"));
    OK(mknod("s", S_IFSOCK | 0666, 0));
    TRUE(S_ISSOCK(stat_of("s").st_mode));
    OK(unlink("s"));
    OK(unlink("p"));
}

TEST(mknod_devices)
{
    need_root();
    turn();
    if (mknod("c", S_IFCHR | 0600, makedev(1, 3)) < 0 && errno == EPERM) {
        skip_test("no devices may be made here");
    }
    TRUE(S_ISCHR(stat_of("c").st_mode));
    EQ((long long)makedev(1, 3), stat_of("c").st_rdev);
    OK(mknod("b", S_IFBLK | 0600, makedev(259, 70000)));
    TRUE(S_ISBLK(stat_of("b").st_mode));
    EQ(259, major(stat_of("b").st_rdev));
    EQ(70000, minor(stat_of("b").st_rdev));
    OK(chmod(".", 0777));
    AS(ALICE, TEAM)
    {
        ERR(EPERM, mknod("x", S_IFCHR | 0600, makedev(1, 3)));
        ERR(EPERM, mknod("x", S_IFBLK | 0600, makedev(1, 3)));
        OK(mknod("mine", S_IFIFO | 0600, 0));
    }
}

TEST(mknod_errors)
{
    make_file("f", "");
    OK(symlink("nowhere", "l"));
    ERR(EEXIST, mkfifo("f", 0644));
    ERR(EEXIST, mkfifo("l", 0644));
    ERR(ENOENT, mkfifo("none/p", 0644));
    ERR(ENOENT, mkfifo("", 0644));
    ERR(ENOTDIR, mkfifo("f/p", 0644));
    ERR(ENOENT, mkfifo("p/", 0644));
    ERR(ENAMETOOLONG, mkfifo(name_of(256, 'n'), 0644));
    ERR(EFAULT, mkfifo(bad_address(), 0644));
    ERR(EPERM, mknod("d", S_IFDIR | 0755, 0));
    ERR(EINVAL, mknod("x", S_IFMT | 0755, 0));
    need_root();
    AS(ALICE, TEAM)
    {
        ERR(EACCES, mkfifo("p", 0644));
    }
}

TEST(rmdir_errors)
{
    OK(mkdir("d", 0755));
    make_file("d/f", "");
    OK(symlink("d", "l"));
    ERR(ENOTEMPTY, rmdir("d"));
    ERR(ENOTEMPTY, rmdir("d/.."));
    ERR(EINVAL, rmdir("d/."));
    ERR(EINVAL, rmdir("."));
    ERR(ENOTDIR, rmdir("d/f"));
    ERR(ENOTDIR, rmdir("d/f/x"));
    ERR(ENOTDIR, rmdir("l"));
    ERR(ENOTDIR, rmdir("l/"));
    ERR(ENOENT, rmdir("none"));
    ERR(ENOENT, rmdir("none/d"));
    ERR(ENOENT, rmdir(""));
    ERR(EBUSY, rmdir("/"));
    ERR(ENAMETOOLONG, rmdir(name_of(256, 'n')));
    ERR(EFAULT, rmdir(bad_address()));
    OK(unlink("d/f"));
    OK(rmdir("d/"));
    TRUE(!exists("d"));
    ERR(ENOENT, rmdir("d"));
}

TEST(rmdir_may)
{
    need_root();
    OK(mkdir("d", 0755));
    OK(mkdir("d/e", 0777));
    OK(mkdir("t", 0755));
    OK(chmod("t", 01777));
    OK(mkdir("t/e", 0777));
    AS(ALICE, TEAM)
    {
        ERR(EACCES, rmdir("d/e"));
        ERR(EPERM, rmdir("t/e")); /* sticky */
        OK(mkdir("t/mine", 0755));
        OK(rmdir("t/mine"));
    }
    OK(chmod("d", 0600));
    AS(ALICE, TEAM)
    {
        ERR(EACCES, rmdir("d/e"));
        ERR(EACCES, rmdir("d/none"));
    }
}

TEST(link_links)
{
    make_file("a", "abc");
    OK(link("a", "b"));
    EQ(2, NLINK("a"));
    EQ(stat_of("a").st_ino, stat_of("b").st_ino);
    int fd = FD(open("b", O_WRONLY));
    EQ(1, write(fd, "X", 1));
    OK(close(fd));
    CONTENT("a", "Xbc");
    OK(chmod("b", 0600));
    EQ(0600, MODE("a"));
    OK(unlink("a"));
    EQ(1, NLINK("b"));
    CONTENT("b", "Xbc");
    OK(mkfifo("p", 0644));
    OK(link("p", "q"));
    TRUE(S_ISFIFO(stat_of("q").st_mode));
}

TEST(link_of_a_symlink)
{
    make_file("f", "");
    OK(symlink("f", "l"));
    OK(symlink("nowhere", "dangling"));
    OK(link("l", "m")); /* Linux does not follow */
    TRUE(S_ISLNK(stat_of("m").st_mode));
    EQ(2, NLINK("l"));
    OK(link("dangling", "n"));
    OK(linkat(AT_FDCWD, "l", AT_FDCWD, "hard", AT_SYMLINK_FOLLOW));
    EQ(stat_of("f").st_ino, stat_of("hard").st_ino);
    ERR(ENOENT, linkat(AT_FDCWD, "dangling", AT_FDCWD, "x", AT_SYMLINK_FOLLOW));
}

TEST(link_errors)
{
    make_file("f", "");
    make_file("g", "");
    OK(mkdir("d", 0755));
    ERR(EEXIST, link("f", "g"));
    ERR(EEXIST, link("f", "f"));
    ERR(EEXIST, link("f", "d"));
    ERR(ENOENT, link("none", "x"));
    ERR(ENOENT, link("f", "none/x"));
    ERR(ENOENT, link("f", ""));
    ERR(ENOENT, link("", "x"));
    ERR(ENOTDIR, link("f/x", "y"));
    ERR(ENOTDIR, link("f", "g/x"));
    ERR(ENOTDIR, link("f/", "x"));
    ERR(ENOENT, link("f", "x/"));
    ERR(EPERM, link("d", "x"));
    ERR(EXDEV, link("/proc/self/status", "x"));
    ERR(ENAMETOOLONG, link("f", name_of(256, 'n')));
    ERR(ENAMETOOLONG, link(name_of(256, 'n'), "x"));
    ERR(EINVAL, linkat(AT_FDCWD, "f", AT_FDCWD, "x", 0x10));
    ERR(EBADF, linkat(-1, "f", AT_FDCWD, "x", 0));
    ERR(EFAULT, link("f", bad_address()));
    OK(symlink("loop", "loop"));
    ERR(ELOOP, link("loop/f", "x"));
}

TEST(link_may)
{
    need_root();
    make_file("f", "");
    OK(chown("f", ALICE,
             TEAM)); /* others' files not even where one may write: protected_hardlinks */
    OK(mkdir("d", 0777));
    OK(mkdir("closed", 0700));
    make_file("closed/f", "");
    OK(chmod("d", 0777));
    AS(ALICE, TEAM)
    {
        ERR(EACCES, link("f", "x"));
        ERR(EACCES, link("closed/f", "d/x"));
    }
}

TEST(link_many)
{
    enum { MANY = 2000 };
    make_file("f", "");
    char name[20];
    for (int i = 1; i < MANY; i++) {
        snprintf(name, sizeof name, "l%d", i);
        OK(link("f", name));
    }
    EQ(MANY, NLINK("f"));
    for (int i = 1; i < MANY; i++) {
        snprintf(name, sizeof name, "l%d", i);
        OK(unlink(name));
    }
    EQ(1, NLINK("f"));
}

TEST(unlink_errors)
{
    make_file("f", "");
    OK(mkdir("d", 0755));
    ERR(ENOENT, unlink("none"));
    ERR(ENOENT, unlink("none/f"));
    ERR(ENOENT, unlink(""));
    ERR(EISDIR, unlink("d"));
    ERR(EISDIR, unlink("d/"));
    ERR(EISDIR, unlink("."));
    ERR(ENOTDIR, unlink("f/"));
    ERR(ENOTDIR, unlink("f/x"));
    ERR(ENAMETOOLONG, unlink(name_of(256, 'n')));
    ERR(EFAULT, unlink(bad_address()));
    ERR(EINVAL, unlinkat(AT_FDCWD, "f", 0x1));
    ERR(EBADF, unlinkat(-1, "f", 0));
    ERR(ENOTDIR, unlinkat(AT_FDCWD, "f", AT_REMOVEDIR));
    OK(symlink("loop", "loop"));
    ERR(ELOOP, unlink("loop/f"));
    OK(unlink("loop")); /* the link itself */
    OK(unlinkat(AT_FDCWD, "d", AT_REMOVEDIR));
    OK(unlink("f"));
    ERR(ENOENT, unlink("f"));
}

TEST(unlink_may)
{
    need_root();
    OK(mkdir("d", 0755));
    make_file("d/f", "");
    OK(chmod("d/f", 0666));
    AS(ALICE, TEAM)
    {
        ERR(EACCES, unlink("d/f"));
    }
    OK(chmod("d", 0777));
    OK(chmod("d/f", 0));
    AS(ALICE, TEAM)
    {
        OK(unlink("d/f")); /* asks the directory, not the file */
    }
}

TEST(symlink_and_readlink)
{
    char to[PATH_MAX + 1];
    memset(to, 0, sizeof to);
    OK(symlink("some/where", "l"));
    EQ(10, readlink("l", to, sizeof to));
    TRUE(strcmp(to, "some/where") == 0);
    EQ(10, SIZE("l"));
    EQ(0777, MODE("l"));
    EQ(4, readlink("l", to, 4)); /* cut, without a word */
    const char *far = name_of(PATH_MAX - 1, 't');
    OK(symlink(far, "far"));
    EQ(PATH_MAX - 1, readlink("far", to, sizeof to));
    TRUE(memcmp(to, far, PATH_MAX - 1) == 0);
    OK(symlink("\x01\xff \n\"", "bytes"));
    EQ(5, readlink("bytes", to, sizeof to));
    TRUE(memcmp(to, "\x01\xff \n\"", 5) == 0);
}

TEST(symlink_errors)
{
    char to[10];
    make_file("f", "");
    OK(symlink("x", "l"));
    ERR(EEXIST, symlink("x", "f"));
    ERR(EEXIST, symlink("x", "l"));
    ERR(ENOENT, symlink("", "m"));
    ERR(ENOENT, symlink("x", ""));
    ERR(ENOENT, symlink("x", "none/m"));
    ERR(ENOENT, symlink("x", "m/"));
    ERR(ENOTDIR, symlink("x", "f/m"));
    ERR(ENAMETOOLONG, symlink(name_of(PATH_MAX, 't'), "m"));
    ERR(ENAMETOOLONG, symlink("x", name_of(256, 'n')));
    ERR(EFAULT, symlink(bad_address(), "m"));
    ERR(EINVAL, readlink("f", to, sizeof to));
    ERR(EINVAL, readlink(".", to, sizeof to));
    ERR(EINVAL, readlink("l", to, 0));
    ERR(ENOENT, readlink("none", to, sizeof to));
    ERR(ENOTDIR, readlink("f/x", to, sizeof to));
    ERR(EFAULT, readlink("l", bad_address(), sizeof to));
    need_root();
    OK(mkdir("d", 0700));
    AS(ALICE, TEAM)
    {
        ERR(EACCES, symlink("x", "m"));
        ERR(EACCES, readlink("d/x", to, sizeof to));
        OK(readlink("l", to, sizeof to));
    }
}

TEST(symlink_chain)
{
    char from[20];
    char to[20];
    make_file("l0", "end");
    for (int i = 1; i <= 41; i++) {
        snprintf(from, sizeof from, "l%d", i);
        snprintf(to, sizeof to, "l%d", i - 1);
        OK(symlink(to, from));
    }
    CONTENT("l40", "end");
    ERR(ELOOP, open("l41", O_RDONLY));
    struct stat st;
    ERR(ELOOP, stat("l41", &st));
    ERR(ELOOP, truncate("l41", 0));
}

TEST(names_at_their_limit)
{
    const char *name = name_of(255, 'n');
    OK(close(FD(creat(name, 0644))));
    TRUE(exists(name));
    const char *other = name_of(255, 'o');
    OK(rename(name, other));
    OK(link(other, name));
    OK(mkdir(name_of(255, 'd'), 0755));
    OK(symlink("x", name_of(255, 's')));
    ERR(ENAMETOOLONG, creat(name_of(256, 'n'), 0644));
    ERR(ENAMETOOLONG, rename(name, name_of(256, 'o')));
    ERR(ENAMETOOLONG, rename(name_of(256, 'o'), "x"));
    struct stat st;
    ERR(ENAMETOOLONG, lstat(name_of(256, 'n'), &st));
    EQ(255, pathconf(".", _PC_NAME_MAX));
    EQ(2, NLINK(name));
}

TEST(paths_at_their_limit)
{
    char path[PATH_MAX + 2] = ".";
    make_file("f", "");
    while (strlen(path) + 2 < PATH_MAX - 1) {
        strcat(path, "/.");
    }
    memcpy(path + strlen(path) - 2, "//", 2); /* 4093 or 4094 bytes with the name */
    strcat(path, "f");
    TRUE(exists(path));
    memset(path, '/', PATH_MAX);
    path[0] = '.';
    path[PATH_MAX - 2] = 'f';
    path[PATH_MAX - 1] = '\0'; /* PATH_MAX - 1 bytes, and a zero */
    TRUE(exists(path));
    path[PATH_MAX - 1] = 'f';
    path[PATH_MAX] = '\0';
    struct stat st;
    ERR(ENAMETOOLONG, lstat(path, &st));
    ERR(ENAMETOOLONG, open(path, O_RDONLY));
    ERR(ENAMETOOLONG, unlink(path));
    ERR(ENAMETOOLONG, mkdir(path, 0755));
    ERR(ENAMETOOLONG, rename(path, "x"));
}

TEST(paths_deeper_than_their_limit)
{
    const char *name = name_of(200, 'd');
    stay();                        /* it walks down */
    for (int i = 0; i < 30; i++) { /* 6000 bytes */
        OK(mkdir(name, 0755));
        OK(chdir(name));
    }
    make_file("f", "deep");
    CONTENT("f", "deep");
    char cwd[100];
    ERR(ERANGE, getcwd(cwd, sizeof cwd) == NULL ? -1 : 0);
    for (int i = 0; i < 30; i++) {
        OK(chdir(".."));
    }
    EQ(fstat_of(side_fd(0)).st_ino, stat_of(".").st_ino);
}

TEST(names_of_any_bytes)
{
    char name[3] = "";
    for (int b = 1; b < 256; b++) {
        name[0] = (char)b;
        name[1] = b == '.' ? 'x' : '\0';
        if (b != '/') {
            make_file(name, "x");
        }
    }
    turn();
    DIR *d = opendir(".");
    bool seen[256] = {false};
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        seen[(unsigned char)e->d_name[0]] = true;
    }
    closedir(d);
    for (int b = 1; b < 256; b++) {
        EQ(b != '/', seen[b]);
    }
    static const char *const odd[] = {"...",      " ",        "a b",  "\n", "-rf",
                                      "\xc3\xa4", "\xc3\x28", "a\\b", "*"};
    for (size_t i = 0; i < COUNT(odd); i++) {
        make_file(odd[i], odd[i]);
        CONTENT(odd[i], odd[i]);
    }
    make_file("Case", "1"); /* neither case nor composition is folded */
    make_file("case", "2");
    make_file("a\xcc\x88", "3");
    CONTENT("Case", "1");
    CONTENT("\xc3\xa4", "\xc3\xa4");
}
