/* stat(), statx(), chmod(), chown(), utimensat(), access(), statfs(): attributes and who may change
 * them. */
#include "suite.h"
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>

TEST(stat_fields)
{
    stay(); /* each mount is a device of its own */
    make_file("f", "abcde");
    struct stat st = stat_of("f");
    struct stat dir = stat_of(".");
    EQ(5, st.st_size);
    EQ(1, st.st_nlink);
    EQ(geteuid(), st.st_uid);
    EQ(dir.st_dev, st.st_dev);
    TRUE(st.st_ino != 0 && st.st_ino != dir.st_ino);
    TRUE(st.st_blksize >= 512);
    int fd = FD(open("f", O_RDONLY));
    EQ(st.st_ino, fstat_of(fd).st_ino);
    OK(symlink("f", "l"));
    OK(stat("l", &st));
    TRUE(S_ISREG(st.st_mode));
    OK(fstatat(AT_FDCWD, "l", &st, AT_SYMLINK_NOFOLLOW));
    TRUE(S_ISLNK(st.st_mode));
    OK(fstatat(fd, "", &st, AT_EMPTY_PATH));
    EQ(5, st.st_size);
}

TEST(stat_errors)
{
    struct stat st;
    make_file("f", "");
    OK(symlink("nowhere", "l"));
    ERR(ENOENT, stat("none", &st));
    ERR(ENOENT, stat("l", &st));
    ERR(ENOENT, stat("", &st));
    ERR(ENOENT, stat("none/f", &st));
    ERR(ENOTDIR, stat("f/x", &st));
    ERR(ENOTDIR, stat("f/", &st));
    ERR(ENAMETOOLONG, stat(name_of(256, 'n'), &st));
    ERR(EFAULT, stat(bad_address(), &st));
    ERR(EBADF, fstat(-1, &st));
    ERR(EINVAL, fstatat(AT_FDCWD, "f", &st, 0x8000));
    OK(symlink("loop", "loop"));
    ERR(ELOOP, stat("loop", &st));
    need_root();
    OK(mkdir("d", 0700));
    make_file("d/f", "");
    AS(ALICE, TEAM)
    {
        OK(stat("d", &st));
        ERR(EACCES, stat("d/f", &st));
        ERR(EACCES, stat("d/none", &st));
    }
}

TEST(statx_fields)
{
    make_file("f", "abcde");
    struct statx x = {0};
    struct stat st = stat_of("f");
    OK(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS | STATX_BTIME, &x));
    EQ(STATX_BASIC_STATS, x.stx_mask & STATX_BASIC_STATS);
    EQ(st.st_ino, x.stx_ino);
    EQ(5, x.stx_size);
    EQ(st.st_mode, x.stx_mode);
    EQ(st.st_mtim.tv_nsec, x.stx_mtime.tv_nsec);
    OK(statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC, STATX_SIZE, &x));
    EQ(5, x.stx_size);
    OK(statx(AT_FDCWD, "f", AT_STATX_DONT_SYNC, STATX_SIZE, &x));
    ERR(EINVAL, statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, STATX_SIZE, &x));
    ERR(EINVAL, statx(AT_FDCWD, "f", 0, 0x80000000U, &x));
    ERR(EINVAL, statx(AT_FDCWD, "f", 0x8000, STATX_SIZE, &x));
    ERR(ENOENT, statx(AT_FDCWD, "none", 0, STATX_SIZE, &x));
    ERR(ENOENT, statx(AT_FDCWD, "", 0, STATX_SIZE, &x));
    ERR(ENOTDIR, statx(AT_FDCWD, "f/x", 0, STATX_SIZE, &x));
    ERR(EBADF, statx(-1, "f", 0, STATX_SIZE, &x));
}

TEST(chmod_changes)
{
    make_file("f", "");
    static const mode_t modes[] = {0, 0777, 0400, 04755, 02755, 06711, 01644, 07777};
    for (size_t i = 0; i < COUNT(modes); i++) {
        OK(chmod("f", modes[i]));
        EQ(modes[i], MODE("f"));
    }
    int fd = FD(open("f", O_RDONLY));
    OK(fchmod(fd, 0600));
    EQ(0600, MODE("f"));
    OK(symlink("f", "l"));
    OK(chmod("l", 0640));
    EQ(0640, MODE("f"));
    OK(mkdir("d", 0755));
    OK(chmod("d", 03770));
    EQ(03770, MODE("d"));
    MOVES("f", "c", chmod("f", 0640));
    OK(fchmodat(AT_FDCWD, "f", 0604, 0));
    EQ(0604, MODE("f"));
}

TEST(chmod_errors)
{
    make_file("f", "");
    ERR(ENOENT, chmod("none", 0644));
    ERR(ENOENT, chmod("", 0644));
    ERR(ENOTDIR, chmod("f/x", 0644));
    ERR(ENAMETOOLONG, chmod(name_of(256, 'n'), 0644));
    ERR(EFAULT, chmod(bad_address(), 0644));
    ERR(EBADF, fchmod(-1, 0644));
    OK(symlink("loop", "loop"));
    ERR(ELOOP, chmod("loop", 0644));
    need_root();
    OK(mkdir("d", 0700));
    AS(ALICE, TEAM)
    {
        ERR(EPERM, chmod("f", 0666));
        ERR(EPERM, fchmod(FD(open("f", O_RDONLY)), 0666));
        ERR(EACCES, chmod("d/f", 0666));
    }
}

TEST(chmod_sgid_of_a_foreign_group)
{
    need_root();
    make_file("f", "");
    OK(chown("f", ALICE, OTHERS));
    AS(ALICE, TEAM)
    {
        OK(chmod("f", 02755)); /* not of that group: the bit goes, without a word */
        EQ(0755, MODE("f"));
        OK(chmod("f", 04755));
        EQ(04755, MODE("f"));
    }
    OK(chown("f", ALICE, TEAM));
    AS(ALICE, TEAM)
    {
        OK(chmod("f", 02755));
        EQ(02755, MODE("f"));
    }
}

TEST(chown_changes)
{
    need_root();
    make_file("f", "");
    OK(symlink("f", "l"));
    OK(chown("f", ALICE, TEAM));
    EQ(ALICE, stat_of("f").st_uid);
    EQ(TEAM, stat_of("f").st_gid);
    OK(chown("f", (uid_t)-1, OTHERS));
    EQ(ALICE, stat_of("f").st_uid);
    EQ(OTHERS, stat_of("f").st_gid);
    OK(chown("l", BOB, (gid_t)-1)); /* follows */
    EQ(BOB, stat_of("f").st_uid);
    EQ(OTHERS, stat_of("f").st_gid);
    OK(lchown("l", CAROL, TEAM));
    EQ(CAROL, stat_of("l").st_uid);
    EQ(BOB, stat_of("f").st_uid);
    OK(fchown(FD(open("f", O_RDONLY)), 4000000000U, 4000000001U));
    EQ(4000000000U, stat_of("f").st_uid);
    EQ(4000000001U, stat_of("f").st_gid);
    MOVES("f", "c", chown("f", ALICE, TEAM));
}

TEST(chown_errors)
{
    make_file("f", "");
    ERR(ENOENT, chown("none", 0, 0));
    ERR(ENOENT, chown("", 0, 0));
    ERR(ENOTDIR, chown("f/x", 0, 0));
    ERR(ENAMETOOLONG, chown(name_of(256, 'n'), 0, 0));
    ERR(EFAULT, chown(bad_address(), 0, 0));
    ERR(EBADF, fchown(-1, 0, 0));
    ERR(EINVAL, fchownat(AT_FDCWD, "f", 0, 0, 0x8000));
    OK(symlink("loop", "loop"));
    ERR(ELOOP, chown("loop", 0, 0));
    need_root();
    OK(mkdir("d", 0700));
    make_file("mine", "");
    OK(chown("mine", ALICE, TEAM));
    AS(ALICE, TEAM)
    {
        ERR(EPERM, chown("f", ALICE, TEAM));
        ERR(EPERM, chown("f", ALICE, (gid_t)-1));
        ERR(EPERM, chown("mine", BOB, (gid_t)-1));
        ERR(EPERM, chown("mine", (uid_t)-1, OTHERS)); /* not a group of hers */
        OK(chown("mine", ALICE, TEAM));
        OK(chown("mine", (uid_t)-1, (gid_t)-1));
        ERR(EACCES, chown("d/f", ALICE, TEAM));
    }
}

TEST(chown_clears_suid_and_sgid)
{
    need_root();
    make_file("f", "");
    OK(chown("f", ALICE, TEAM));
    OK(chmod("f", 06755));
    OK(chown("f", BOB, OTHERS));
    EQ(0755, MODE("f")); /* by root too */
    OK(chown("f", ALICE, TEAM));
    OK(chmod("f", 06755));
    AS(ALICE, TEAM)
    {
        OK(chown("f", (uid_t)-1, TEAM));
        EQ(0755, MODE("f"));
    }
    OK(chmod("f", 02644)); /* without x for the group it is no sgid bit */
    OK(chown("f", BOB, (gid_t)-1));
    EQ(02644, MODE("f"));
    OK(mkdir("d", 0755));
    OK(chmod("d", 06755));
    OK(chown("d", ALICE, TEAM)); /* directories keep theirs */
    EQ(06755, MODE("d"));
}

static void write_as_alice(mode_t mode, mode_t want, void (*change)(int fd))
{
    OK(chmod("f", mode));
    AS(ALICE, TEAM)
    {
        int fd = FD(open("f", O_RDWR));
        change(fd);
        OK(close(fd));
    }
    EQ(want, MODE("f"));
}
static void by_write(int fd)
{
    EQ(1, write(fd, "x", 1));
}
static void by_truncate(int fd)
{
    OK(ftruncate(fd, 0));
}
static void by_nothing(int fd)
{
    EQ(0, write(fd, "x", 0));
}
static void by_fallocate(int fd)
{
    OK(fallocate(fd, 0, 0, 100));
}

TEST(write_clears_suid_and_sgid)
{
    need_root();
    make_file("f", "");
    OK(chown("f", BOB, OTHERS));
    write_as_alice(06777, 0777, by_write);
    write_as_alice(04777, 0777, by_write);
    write_as_alice(06777, 0777, by_truncate);
    write_as_alice(06777, 06777, by_nothing);
    write_as_alice(02767, 02767 & ~02000,
                   by_write); /* sgid with x for the group: a bit like suid */
    OK(chmod("f", 06777));    /* root's writes leave them */
    int fd = FD(open("f", O_WRONLY));
    EQ(1, write(fd, "x", 1));
    EQ(06777, MODE("f"));
    OK(mkfifo("p", 0644)); /* nothing of the kind for other types */
    OK(chmod("p", 06777));
    EQ(06777, MODE("p"));
    OK(chmod("f", 06777));
    AS(ALICE, TEAM)
    {
        OK(close(FD(open("f", O_WRONLY | O_TRUNC))));
    }
    EQ(0777, MODE("f"));
    turn();
    if (fallocate(fd, 0, 0, 10) == 0) {
        write_as_alice(06777, 0777, by_fallocate);
    }
}

TEST(sgid_directory)
{
    need_root();
    OK(mkdir("d", 0755));
    OK(chown("d", ALICE, OTHERS));
    OK(chmod("d", 02777));
    AS(BOB, TEAM)
    {
        make_file("d/f", "");
        EQ(OTHERS, stat_of("d/f").st_gid);
        EQ(BOB, stat_of("d/f").st_uid);
        OK(mkdir("d/sub", 0755));
        EQ(OTHERS, stat_of("d/sub").st_gid);
        EQ(02755, MODE("d/sub")); /* inherited */
        OK(symlink("x", "d/l"));
        EQ(OTHERS, stat_of("d/l").st_gid);
        OK(mkfifo("d/p", 0644));
        EQ(OTHERS, stat_of("d/p").st_gid);
        umask(0);
        OK(close(FD(open("d/x", O_CREAT | O_WRONLY, 02775)))); /* not of that group */
        EQ(0775, MODE("d/x"));
    }
    OK(chmod("d", 0777));
    AS(BOB, TEAM)
    {
        make_file("d/g", "");
        EQ(TEAM, stat_of("d/g").st_gid);
    }
}

static void set_times(const char *name, struct timespec a, struct timespec m)
{
    struct timespec t[2] = {a, m};
    OK(utimensat(AT_FDCWD, name, t, 0));
}

TEST(utimens_every_date)
{
    static const struct timespec times[] = {
        {0, 0},
        {1, 999999999},
        {-1, 500000000},
        {-2147483647, 1},
        {2147483647, 999999999},
        {2147483648LL, 123456789},
        {4294967296LL, 7},
        {4300000000LL, 987654321}, /* 2106 */
        {9000000000LL, 1}};        /* 2255: 64 bits of nanoseconds end in 2262 */
    make_file("f", "");
    for (size_t i = 0; i < COUNT(times); i++) {
        struct timespec a = times[i];
        struct timespec m = times[COUNT(times) - 1 - i];
        set_times("f", a, m);
        struct stat st = stat_of("f");
        if (st.st_atim.tv_sec != a.tv_sec && is_fs(0xef53) && a.tv_sec < -2147483648LL) {
            skip_test("dates are clamped here");
        }
        EQ(a.tv_sec, st.st_atim.tv_sec);
        EQ(a.tv_nsec, st.st_atim.tv_nsec);
        EQ(m.tv_sec, st.st_mtim.tv_sec);
        EQ(m.tv_nsec, st.st_mtim.tv_nsec);
    }
}

TEST(utimens_now_and_omit)
{
    make_file("f", "");
    struct timespec now = {.tv_nsec = UTIME_NOW};
    struct timespec omit = {.tv_nsec = UTIME_OMIT};
    struct timespec some = {.tv_sec = 5, .tv_nsec = 6};
    make_old("f");
    set_times("f", omit, some);
    EQ(OLD, stat_of("f").st_atime);
    EQ(5, stat_of("f").st_mtime);
    set_times("f", some, omit);
    EQ(6, stat_of("f").st_atim.tv_nsec);
    EQ(6, stat_of("f").st_mtim.tv_nsec);
    set_times("f", now, omit);
    TRUE(stat_of("f").st_atime > OLD);
    EQ(5, stat_of("f").st_mtime);
    make_old("f");
    set_times("f", some, now);
    TRUE(stat_of("f").st_mtime > OLD);
    EQ(5, stat_of("f").st_atime);
    make_old("f");
    OK(utimensat(AT_FDCWD, "f", NULL, 0));
    TRUE(stat_of("f").st_mtime > OLD && stat_of("f").st_atime > OLD);
    make_old("f");
    struct stat before = stat_of("f");
    tick();
    set_times("f", omit, omit); /* nothing at all, not even ctime */
    struct stat after = stat_of("f");
    TRUE(same(before.st_ctim, after.st_ctim));
    set_times("f", some, some);
    TRUE(later(stat_of("f").st_ctim, before.st_ctim));
}

TEST(utimens_of_links_and_descriptors)
{
    make_file("f", "");
    OK(symlink("f", "l"));
    struct timespec t[2] = {{7, 8}, {9, 10}};
    OK(utimensat(AT_FDCWD, "l", t, AT_SYMLINK_NOFOLLOW));
    EQ(7, stat_of("l").st_atime);
    EQ(9, stat_of("l").st_mtime);
    TRUE(stat_of("f").st_mtime != 9);
    OK(futimens(FD(open("f", O_RDONLY)), t));
    EQ(9, stat_of("f").st_mtime);
    EQ(10, stat_of("f").st_mtim.tv_nsec);
}

TEST(utimens_who_may)
{
    need_root();
    make_file("f", "");
    OK(chmod("f", 0666));
    make_file("g", "");
    OK(mkdir("closed", 0700));
    struct timespec t[2] = {{7, 8}, {9, 10}};
    struct timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
    struct timespec half[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
    struct timespec none[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
    AS(ALICE, TEAM)
    {
        OK(utimensat(AT_FDCWD, "f", NULL, 0)); /* who may write may say "now" */
        OK(utimensat(AT_FDCWD, "f", now, 0));
        ERR(EPERM, utimensat(AT_FDCWD, "f", t, 0));
        ERR(EPERM, utimensat(AT_FDCWD, "f", half, 0));
        ERR(EACCES, utimensat(AT_FDCWD, "g", NULL, 0));
        ERR(EACCES, utimensat(AT_FDCWD, "g", now, 0));
        OK(utimensat(AT_FDCWD, "g", none, 0));
        ERR(EACCES, utimensat(AT_FDCWD, "closed/x", now, 0));
    }
    OK(chown("g", ALICE, TEAM));
    OK(chmod("g", 0));
    AS(ALICE, TEAM)
    {
        OK(utimensat(AT_FDCWD, "g", t, 0)); /* the owner needs no other right */
        EQ(9, stat_of("g").st_mtime);
    }
}

TEST(utimens_errors)
{
    make_file("f", "");
    struct timespec bad[2] = {{0, 1000000000}, {0, 0}};
    struct timespec minus[2] = {{0, 0}, {0, -1}};
    ERR(EINVAL, utimensat(AT_FDCWD, "f", bad, 0));
    ERR(EINVAL, utimensat(AT_FDCWD, "f", minus, 0));
    ERR(EINVAL, utimensat(AT_FDCWD, "f", NULL, 0x8000));
    ERR(ENOENT, utimensat(AT_FDCWD, "none", NULL, 0));
    ERR(ENOENT, utimensat(AT_FDCWD, "", NULL, 0));
    ERR(ENOTDIR, utimensat(AT_FDCWD, "f/x", NULL, 0));
    ERR(ENAMETOOLONG, utimensat(AT_FDCWD, name_of(256, 'n'), NULL, 0));
    ERR(EBADF, futimens(-1, NULL));
    OK(symlink("loop", "loop"));
    ERR(ELOOP, utimensat(AT_FDCWD, "loop", NULL, 0));
}

TEST(access_as_another_user)
{
    need_root();
    make_file("f", "");
    OK(chown("f", ALICE, TEAM));
    OK(chmod("f", 0741));
    OK(mkdir("d", 0700));
    AS(ALICE, OTHERS)
    {
        OK(access("f", R_OK | W_OK | X_OK));
        ERR(EACCES, access("d/x", F_OK));
    }
    AS(BOB, TEAM)
    {
        OK(access("f", R_OK));
        ERR(EACCES, access("f", W_OK));
        ERR(EACCES, access("f", X_OK));
    }
    AS(CAROL, OTHERS)
    {
        OK(access("f", X_OK));
        ERR(EACCES, access("f", R_OK));
        ERR(EACCES, access("f", R_OK | X_OK));
    }
    OK(chmod("f", 0600));
    ERR(EACCES, access("f", X_OK)); /* root needs some x bit */
    OK(access("f", R_OK | W_OK));
    ERR(ENOENT, access("none", F_OK));
    ERR(EINVAL, access("f", 8));
    ERR(ENOTDIR, access("f/x", F_OK));
}

TEST(search_and_read_of_directories)
{
    need_root();
    OK(mkdir("x", 0755));
    make_file("x/f", "abc");
    OK(chmod("x", 0711));
    OK(mkdir("r", 0755));
    make_file("r/f", "abc");
    OK(chmod("r", 0744));
    AS(ALICE, TEAM)
    {
        CONTENT("x/f", "abc");
        ERR(EACCES, open("x", O_RDONLY | O_DIRECTORY));
        OK(open("r", O_RDONLY | O_DIRECTORY));
        ERR(EACCES, open("r/f", O_RDONLY));
        ERR(EACCES, chdir("r"));
    }
}

TEST(owner_is_judged_by_owner_bits)
{
    need_root();
    make_file("f", "abc");
    OK(chown("f", ALICE, TEAM));
    OK(chmod("f", 0066));
    AS(ALICE, TEAM)
    {
        ERR(EACCES, open("f", O_RDONLY));
        ERR(EACCES, truncate("f", 0));
    }
    OK(chmod("f", 0606));
    AS(BOB, TEAM)
    {
        ERR(EACCES, open("f", O_RDONLY));
    }
    AS(CAROL, OTHERS)
    {
        OK(truncate("f", 0));
    }
}

TEST(groups_beyond_the_first)
{
    need_root();
    make_file("f", "abc");
    OK(chown("f", BOB, OTHERS));
    OK(chmod("f", 0640));
    pid_t pid;
    CHILD(pid)
    {
        gid_t more[] = {20001, 20002, OTHERS};
        OK(syscall(SYS_setgroups, COUNT(more), more));
        OK(setresgid(TEAM, TEAM, TEAM));
        OK(setresuid(ALICE, ALICE, ALICE));
        CONTENT("f", "abc");
        ERR(EACCES, open("f", O_WRONLY));
    }
    join(pid);
}

TEST(statfs_tells)
{
    struct statfs s;
    struct statvfs v;
    make_file("f", "");
    OK(statfs("f", &s));
    OK(statvfs(".", &v));
    EQ(255, s.f_namelen);
    TRUE(s.f_bsize >= 512 && s.f_blocks > 0);
    TRUE(s.f_bfree <= s.f_blocks && s.f_bavail <= s.f_bfree);
    EQ(255, v.f_namemax);
    OK(fstatfs(FD(open("f", O_RDONLY)), &s));
    ERR(ENOENT, statfs("none", &s));
    ERR(ENOTDIR, statfs("f/x", &s));
    ERR(EBADF, fstatfs(-1, &s));
    ERR(EFAULT, statfs(bad_address(), &s));
    ERR(ENAMETOOLONG, statfs(name_of(256, 'n'), &s));
}
