/* rename(), renameat2(). */
#include "suite.h"
#include <linux/fs.h>

TEST(rename_files)
{
    make_file("a", "1");
    ino_t ino = stat_of("a").st_ino;
    OK(rename("a", "b"));
    TRUE(!exists("a"));
    EQ(ino, stat_of("b").st_ino);
    make_file("c", "2");
    OK(rename("b", "c"));
    TRUE(!exists("b"));
    CONTENT("c", "1");
    EQ(1, NLINK("c"));
    OK(rename("c", "c"));
    OK(link("c", "d"));
    OK(rename("c", "d")); /* two names of one file: nothing happens */
    TRUE(exists("c"));
    EQ(2, NLINK("d"));
}

TEST(rename_over_a_name_of_more)
{
    make_file("a", "1");
    make_file("b", "2");
    OK(link("b", "b2"));
    OK(rename("a", "b"));
    EQ(1, NLINK("b2"));
    CONTENT("b2", "2");
    CONTENT("b", "1");
}

TEST(rename_every_type)
{
    OK(mkfifo("p", 0644));
    OK(rename("p", "q"));
    TRUE(S_ISFIFO(stat_of("q").st_mode));
    OK(symlink("x", "l"));
    OK(rename("l", "m")); /* the link itself */
    TRUE(S_ISLNK(stat_of("m").st_mode));
    make_file("f", "");
    OK(rename("m", "f"));
    TRUE(S_ISLNK(stat_of("f").st_mode));
}

TEST(rename_directories)
{
    OK(mkdir("a", 0755));
    OK(mkdir("a/sub", 0755));
    make_file("a/sub/f", "x");
    OK(mkdir("b", 0755));
    OK(rename("a", "b")); /* an empty one is replaced */
    CONTENT("b/sub/f", "x");
    OK(mkdir("c", 0755));
    OK(rename("b/sub", "c/sub"));
    CONTENT("c/sub/f", "x");
    EQ(stat_of("c").st_ino, stat_of("c/sub/..").st_ino);
    OK(rename("c/", "d/"));
    OK(rename("d", "new/"));
    CONTENT("new/sub/f", "x");
}

TEST(rename_errors)
{
    make_file("f", "");
    OK(mkdir("d", 0755));
    OK(mkdir("e", 0755));
    make_file("e/f", "");
    ERR(ENOENT, rename("none", "x"));
    ERR(ENOENT, rename("", "x"));
    ERR(ENOENT, rename("f", ""));
    ERR(ENOENT, rename("f", "none/x"));
    ERR(ENOTDIR, rename("f/x", "y"));
    ERR(ENOTDIR, rename("d", "f"));
    ERR(ENOTDIR, rename("d", "f/x"));
    ERR(ENOTDIR, rename("f", "x/"));
    ERR(ENOTDIR, rename("f/", "x"));
    ERR(EISDIR, rename("f", "d"));
    ERR(ENOTEMPTY, rename("d", "e"));
    ERR(EINVAL, rename("e", "e/x"));
    ERR(EBUSY, rename("d/.", "x"));
    ERR(EBUSY, rename("d/..", "x"));
    ERR(EBUSY, rename("d", "e/.."));
    ERR(EXDEV, rename("f", "/proc/self/x"));
    ERR(ENAMETOOLONG, rename("f", name_of(256, 'n')));
    ERR(ENAMETOOLONG, rename(name_of(256, 'n'), "x"));
    ERR(EFAULT, rename("f", bad_address()));
    ERR(EFAULT, rename(bad_address(), "f"));
    ERR(EBADF, renameat(-1, "f", AT_FDCWD, "x"));
    OK(symlink("loop", "loop"));
    ERR(ELOOP, rename("loop/x", "y"));
    ERR(ELOOP, rename("f", "loop/y"));
    TRUE(exists("f") && exists("d") && exists("e/f"));
}

TEST(rename_into_own_subtree)
{
    OK(mkdir("a", 0755));
    OK(mkdir("a/b", 0755));
    OK(mkdir("a/b/c", 0755));
    ERR(EINVAL, rename("a", "a/b/c/d"));
    ERR(EINVAL, rename("a", "a/b/c"));
    ERR(ENOTEMPTY, rename("a/b/c", "a"));
    OK(rename("a/b/c", "c"));
    OK(rename("a", "c/a"));
    TRUE(exists("c/a/b"));
}

TEST(rename_may)
{
    need_root();
    OK(mkdir("d", 0755));
    make_file("d/f", "");
    OK(mkdir("w", 0755));
    OK(chmod("w", 0777));
    make_file("w/f", "");
    OK(mkdir("closed", 0700));
    AS(ALICE, TEAM)
    {
        ERR(EACCES, rename("d/f", "d/g"));
        ERR(EACCES, rename("d/f", "w/g"));
        ERR(EACCES, rename("w/f", "d/g"));
        ERR(EACCES, rename("closed/f", "w/g"));
        ERR(EACCES, rename("w/f", "closed/f"));
        OK(rename("w/f", "w/g"));
    }
    OK(mkdir("w/dir", 0755)); /* root's: its ".." could not be changed */
    OK(mkdir("w2", 0755));
    OK(chmod("w2", 0777));
    AS(ALICE, TEAM)
    {
        ERR(EACCES, rename("w/dir", "w2/dir"));
        OK(rename("w/dir", "w/dir2"));
    }
}

TEST(rename_sticky)
{
    need_root();
    OK(mkdir("t", 0755));
    OK(chmod("t", 01777));
    OK(mkdir("w", 0755));
    OK(chmod("w", 0777));
    AS(ALICE, TEAM)
    {
        make_file("t/alice", "a");
    }
    AS(BOB, TEAM)
    {
        make_file("w/bob", "b");
        make_file("t/bob", "b");
        ERR(EPERM, rename("t/alice", "w/x"));
        ERR(EPERM, rename("t/alice", "t/x"));
        ERR(EPERM, rename("w/bob", "t/alice"));
        ERR(EPERM, unlink("t/alice"));
        OK(rename("w/bob", "t/new"));
        OK(rename("t/new", "t/bob"));
        OK(unlink("t/bob"));
    }
    OK(chown("t", BOB, TEAM));
    AS(BOB, TEAM)
    {
        OK(rename("t/alice", "t/x")); /* the directory is his */
        OK(unlink("t/x"));
    }
}

TEST(rename_times)
{
    OK(mkdir("d", 0755));
    OK(mkdir("e", 0755));
    make_file("d/f", "");
    make_file("e/g", "");
    MOVES("d", "mc", rename("d/f", "e/f"));
    MOVES("e", "mc", rename("e/f", "d/f"));
    OK(link("d/f", "same"));
    MOVES("same", "c", rename("d/f", "d/g"));
}

TEST(rename_noreplace)
{
    make_file("a", "1");
    make_file("b", "2");
    MAY(renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE));
    ERR(EEXIST, renameat2(AT_FDCWD, "c", AT_FDCWD, "b", RENAME_NOREPLACE));
    ERR(EEXIST, renameat2(AT_FDCWD, "c", AT_FDCWD, "c", RENAME_NOREPLACE));
    OK(mkdir("d", 0755));
    ERR(EEXIST, renameat2(AT_FDCWD, "c", AT_FDCWD, "d", RENAME_NOREPLACE));
    ERR(EEXIST, renameat2(AT_FDCWD, "c", AT_FDCWD, "d/..", RENAME_NOREPLACE));
    CONTENT("b", "2");
    CONTENT("c", "1");
}

TEST(rename_exchange)
{
    make_file("f", "1");
    make_file("g", "2");
    OK(mkdir("d", 0755));
    OK(mkdir("d/sub", 0755));
    make_file("d/sub/x", "x");
    MAY(renameat2(AT_FDCWD, "f", AT_FDCWD, "g", RENAME_EXCHANGE));
    CONTENT("f", "2");
    CONTENT("g", "1");
    OK(renameat2(AT_FDCWD, "f", AT_FDCWD, "d/sub", RENAME_EXCHANGE));
    CONTENT("f/x", "x");
    CONTENT("d/sub", "2");
    EQ(stat_of(".").st_ino, stat_of("f/..").st_ino);
    ERR(ENOENT, renameat2(AT_FDCWD, "f", AT_FDCWD, "none", RENAME_EXCHANGE));
    ERR(ENOENT, renameat2(AT_FDCWD, "none", AT_FDCWD, "f", RENAME_EXCHANGE));
    ERR(EINVAL, renameat2(AT_FDCWD, "d", AT_FDCWD, "d/sub", RENAME_EXCHANGE));
    ERR(EINVAL, renameat2(AT_FDCWD, "d/sub", AT_FDCWD, "d", RENAME_EXCHANGE));
    OK(renameat2(AT_FDCWD, "f", AT_FDCWD, "f", RENAME_EXCHANGE));
    OK(symlink("nowhere", "l"));
    OK(renameat2(AT_FDCWD, "l", AT_FDCWD, "f", RENAME_EXCHANGE));
    TRUE(S_ISLNK(stat_of("f").st_mode));
    CONTENT("l/x", "x");
}

TEST(rename_flags_that_do_not_go)
{
    make_file("a", "");
    make_file("b", "");
    ERR(EINVAL, renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE | RENAME_EXCHANGE));
    ERR(EINVAL, renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_EXCHANGE | RENAME_WHITEOUT));
    ERR(EINVAL, renameat2(AT_FDCWD, "a", AT_FDCWD, "b", 1U << 20));
}

TEST(rename_whiteout)
{
    need_root();
    make_file("a", "1");
    turn();
    if (renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_WHITEOUT) < 0 && errno == EINVAL) {
        skip_test("no RENAME_WHITEOUT here");
    }
    CONTENT("b", "1");
    TRUE(S_ISCHR(stat_of("a").st_mode));
    EQ(0, stat_of("a").st_rdev);
}

/* Somebody who looks all the time sees the old or the new file, never none. */
TEST(rename_is_atomic)
{
    make_file("f", "old");
    stay(); /* from another mount a name may be looked up before and opened after it: ESTALE */
    struct gate go;
    gate_init(&go);
    pid_t pid;
    CHILD(pid)
    {
        gate_open(&go);
        for (int i = 0; i < 300; i++) {
            make_file("new", "new");
            OK(rename("new", "f"));
        }
    }
    gate_wait(&go);
    while (!has_ended(pid)) {
        char text[4] = "";
        int fd = FD(open("f", O_RDONLY));
        EQ(3, read(fd, text, 3));
        OK(close(fd));
    }
    join(pid);
}
