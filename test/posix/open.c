/* open(), creat(), unlinked open files, O_TMPFILE, O_PATH. */
#include "suite.h"
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

TEST(open_creates)
{
    int fd = FD(open("f", O_RDWR | O_CREAT, 0640));
    EQ(0640, MODE("f"));
    EQ(0, SIZE("f"));
    EQ(1, NLINK("f"));
    EQ(3, write(fd, "abc", 3));
    OK(close(fd));
    CONTENT("f", "abc");
    fd = FD(open("f", O_RDWR | O_CREAT, 0777)); /* is there: mode and content stay */
    EQ(0640, MODE("f"));
    EQ(3, SIZE("f"));
    OK(close(fd));
    OK(close(FD(creat("f", 0600))));
    EQ(0, SIZE("f"));
    umask(077);
    OK(close(FD(creat("g", 0666))));
    EQ(0600, MODE("g"));
    umask(0);
    OK(close(FD(creat("h", 07777))));
    EQ(07777, MODE("h"));
}

TEST(open_new_file_is_open_whatever_its_mode)
{
    need_root();
    OK(chmod(".", 0777));
    AS(ALICE, TEAM)
    {
        stay(); /* the right to write is that of this open */
        int fd = FD(open("f", O_RDWR | O_CREAT, 0));
        EQ(1, write(fd, "x", 1));
        EQ(1, SIZE("f"));
        ERR(EACCES, open("f", O_RDONLY));
        ERR(EACCES, open("f", O_RDONLY | O_CREAT, 0666));
    }
}

TEST(open_modes_of_access)
{
    char c;
    make_file("f", "abc");
    int fd = FD(open("f", O_RDONLY));
    EQ(1, read(fd, &c, 1));
    ERR(EBADF, write(fd, "x", 1));
    ERR(EINVAL, ftruncate(fd, 0));
    OK(close(fd));
    fd = FD(open("f", O_WRONLY));
    ERR(EBADF, read(fd, &c, 1));
    EQ(1, write(fd, "x", 1));
    OK(close(fd));
    CONTENT("f", "xbc");
    ERR(EBADF, read(fd, &c, 1));
    ERR(EBADF, close(fd));
}

TEST(open_names_that_are_wrong)
{
    make_file("f", "");
    ERR(ENOENT, open("none", O_RDONLY));
    ERR(ENOENT, open("none", O_RDWR | O_TRUNC));
    ERR(ENOENT, open("none/f", O_RDONLY | O_CREAT, 0644));
    ERR(ENOENT, open("", O_RDONLY));
    ERR(ENOENT, open("", O_RDONLY | O_CREAT, 0644));
    ERR(ENOTDIR, open("f/g", O_RDONLY));
    ERR(ENOTDIR, open("f/g", O_RDONLY | O_CREAT, 0644));
    ERR(ENOTDIR, open("f/", O_RDONLY));
    ERR(ENOTDIR, open("f/.", O_RDONLY));
    ERR(ENOTDIR, open("f", O_RDONLY | O_DIRECTORY));
    ERR(EISDIR, open("new/", O_RDONLY | O_CREAT, 0644));
    ERR(EFAULT, open(bad_address(), O_RDONLY));
    ERR(EBADF, openat(-1, "f", O_RDONLY));
    int fd = FD(open("f", O_RDONLY));
    ERR(ENOTDIR, openat(fd, "f", O_RDONLY));
}

TEST(open_a_directory)
{
    OK(mkdir("d", 0755));
    ERR(EISDIR, open("d", O_WRONLY));
    ERR(EISDIR, open("d", O_RDWR));
    ERR(EISDIR, open("d", O_RDONLY | O_CREAT, 0644));
    ERR(EISDIR, open("d", O_RDONLY | O_TRUNC));
    ERR(EISDIR, open(".", O_WRONLY));
    ERR(EEXIST, open("d", O_RDONLY | O_CREAT | O_EXCL, 0644));
    int fd = FD(open("d", O_RDONLY | O_DIRECTORY));
    char c;
    ERR(EISDIR, read(fd, &c, 1));
    ERR(EBADF, write(fd, &c, 1));
    OK(fsync(fd));
    OK(close(FD(openat(fd, "f", O_WRONLY | O_CREAT, 0644))));
    TRUE(exists("d/f"));
}

TEST(open_excl)
{
    OK(close(FD(open("f", O_RDWR | O_CREAT | O_EXCL, 0644))));
    ERR(EEXIST, open("f", O_RDWR | O_CREAT | O_EXCL, 0644));
    OK(symlink("nowhere", "l"));
    ERR(EEXIST, open("l", O_RDWR | O_CREAT | O_EXCL, 0644));
    TRUE(!exists("nowhere"));
    OK(mkfifo("p", 0644));
    ERR(EEXIST, open("p", O_RDWR | O_CREAT | O_EXCL, 0644));
}

enum { NAMES = 40, PROCESSES = 4 };

static void make_all(int won)
{
    for (int i = 0; i < NAMES; i++) {
        char name[20];
        snprintf(name, sizeof name, "n%d", i);
        turn();
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
        TRUE(fd >= 0 || errno == EEXIST);
        if (fd >= 0) {
            EQ(1, write(won, "x", 1));
            OK(close(fd));
        }
    }
}

/* Of several that make the same name exactly one has made it. */
TEST(open_excl_from_several_processes)
{
    int won[2];
    OK(pipe(won));
    struct gate go;
    gate_init(&go);
    pid_t pid[PROCESSES];
    for (int p = 0; p < PROCESSES; p++) {
        CHILD(pid[p])
        {
            gate_wait(&go);
            make_all(won[1]);
        }
    }
    for (int p = 0; p < PROCESSES; p++) {
        gate_open(&go);
    }
    for (int p = 0; p < PROCESSES; p++) {
        join(pid[p]);
    }
    char all[NAMES * PROCESSES];
    EQ(NAMES, read(won[0], all, sizeof all));
}

TEST(open_trunc)
{
    make_file("f", "abc");
    OK(close(FD(open("f", O_WRONLY | O_TRUNC))));
    EQ(0, SIZE("f"));
    make_file("g", "abc");
    MOVES("g", "mc", close(open("g", O_WRONLY | O_TRUNC)));
    MOVES("g", "mc", close(open("g", O_WRONLY | O_TRUNC | O_CREAT, 0644))); /* also when empty */
    make_file("d", "");
    OK(chmod("d", 0400));
    need_root();
    AS(ALICE, TEAM)
    {
        ERR(EACCES, open("g", O_RDWR | O_TRUNC));
        ERR(EACCES, open("d", O_RDONLY | O_TRUNC));
    }
}

TEST(open_nofollow)
{
    make_file("f", "abc");
    OK(symlink("f", "l"));
    OK(mkdir("d", 0755));
    make_file("d/f", "abc");
    OK(symlink("d", "ld"));
    ERR(ELOOP, open("l", O_RDONLY | O_NOFOLLOW));
    ERR(ELOOP, open("l", O_RDWR | O_CREAT | O_NOFOLLOW, 0644));
    ERR(ENOTDIR, open("ld", O_RDONLY | O_NOFOLLOW | O_DIRECTORY));
    OK(close(FD(open("f", O_RDONLY | O_NOFOLLOW))));
    OK(close(FD(open("ld/f", O_RDONLY | O_NOFOLLOW)))); /* of the last part of the path only */
    OK(close(FD(open("ld/", O_RDONLY | O_NOFOLLOW))));
}

TEST(open_through_links)
{
    OK(symlink("f", "l"));
    ERR(ENOENT, open("l", O_RDONLY));
    OK(close(FD(open("l", O_WRONLY | O_CREAT, 0644)))); /* makes what the link names */
    TRUE(S_ISREG(stat_of("f").st_mode));
    OK(symlink("loop2", "loop1"));
    OK(symlink("loop1", "loop2"));
    ERR(ELOOP, open("loop1", O_RDONLY));
    ERR(ELOOP, open("loop1", O_RDONLY | O_CREAT, 0644));
    OK(symlink("self/x", "self"));
    ERR(ELOOP, open("self", O_RDONLY));
}

TEST(open_path)
{
    make_file("f", "abc");
    OK(symlink("f", "l"));
    OK(chmod("f", 0));
    stay();
    int fd = FD(open("f", O_PATH));
    char c;
    ERR(EBADF, read(fd, &c, 1));
    ERR(EBADF, write(fd, &c, 1));
    ERR(EBADF, fchmod(fd, 0644));
    ERR(EBADF, fchown(fd, 0, 0));
    ERR(EBADF, ftruncate(fd, 0));
    ERR(EBADF, ioctl(fd, 0, 0));
    ERR(EBADF, mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0)); /* MAP_FAILED is -1 */
    EQ(3, fstat_of(fd).st_size);
    OK(close(fd));
    fd = FD(open("l", O_PATH | O_NOFOLLOW));
    TRUE(S_ISLNK(fstat_of(fd).st_mode));
    char to[10];
    EQ(1, readlinkat(fd, "", to, sizeof to));
    OK(close(fd));
    ERR(ENOENT, open("none", O_PATH));
    need_root();
    AS(ALICE, TEAM)
    {
        OK(open("f", O_PATH)); /* asks no permission of the file itself */
        ERR(EACCES, open("f", O_RDONLY));
    }
}

TEST(open_fifo)
{
    OK(mkfifo("p", 0666));
    ERR(ENXIO, open("p", O_WRONLY | O_NONBLOCK));
    stay(); /* a pipe joins processes of one machine */
    int r = FD(open("p", O_RDONLY | O_NONBLOCK));
    int w = FD(open("p", O_WRONLY | O_NONBLOCK));
    char c = 0;
    EQ(1, write(w, "x", 1));
    EQ(1, read(r, &c, 1));
    EQ('x', c);
    ERR(ESPIPE, lseek(r, 0, SEEK_SET));
    EQ(0, SIZE("p"));
}

TEST(open_socket)
{
    int s = FD(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "s"};
    OK(bind(s, (struct sockaddr *)&a, sizeof a));
    TRUE(S_ISSOCK(stat_of("s").st_mode));
    ERR(ENXIO, open("s", O_RDONLY));
    ERR(ENXIO, open("s", O_WRONLY));
    ERR(EADDRINUSE, bind(FD(socket(AF_UNIX, SOCK_STREAM, 0)), (struct sockaddr *)&a, sizeof a));
    stay();
    OK(fchdir(side_fd(0)));
    OK(listen(s, 1));
    if (!two_sides()) {
        OK(connect(FD(socket(AF_UNIX, SOCK_STREAM, 0)), (struct sockaddr *)&a, sizeof a));
    }
    OK(unlink("s"));
}

TEST(open_device)
{
    need_root();
    turn();
    if (mknod("null", S_IFCHR | 0666, 1 << 8 | 3) < 0 && errno == EPERM) {
        skip_test("no devices may be made here");
    }
    EQ(1 << 8 | 3, stat_of("null").st_rdev);
    OK(mknod("none", S_IFCHR | 0666, 4095 << 8 | 200));
    turn();
    int fd = open("null", O_WRONLY);
    if (fd < 0 && errno == EACCES) {
        skip_test("mounted with nodev");
    }
    OK(fd);
    EQ(3, write(fd, "abc", 3));
    ERR(ENXIO, open("none", O_RDONLY));
}

TEST(open_for_permission)
{
    need_root();
    make_file("f", "abc");
    const struct {
        mode_t mode;
        int read, write; /* errno of open() by the group, or 0 */
    } t[] = {{0644, 0, EACCES}, {0620, EACCES, 0}, {0660, 0, 0}, {0606, EACCES, EACCES}};
    OK(chown("f", ALICE, TEAM));
    for (size_t i = 0; i < COUNT(t); i++) {
        OK(chmod("f", t[i].mode));
        AS(BOB, TEAM)
        {
            EQ(t[i].read, open("f", O_RDONLY) < 0 ? errno : 0);
            EQ(t[i].write, open("f", O_WRONLY) < 0 ? errno : 0);
            EQ(t[i].read != 0 ? t[i].read : t[i].write, open("f", O_RDWR) < 0 ? errno : 0);
        }
    }
    AS(ALICE, TEAM)
    {
        ERR(EACCES, open("new", O_WRONLY | O_CREAT, 0644));
        ERR(EPERM, open("/etc/passwd", O_RDONLY | O_NOATIME));
    }
}

TEST(open_noatime)
{
    make_file("f", "abc");
    make_old("f");
    int fd = FD(open("f", O_RDONLY | O_NOATIME));
    char c;
    EQ(1, read(fd, &c, 1));
    EQ(OLD, stat_of("f").st_atime);
    need_root();
    AS(ALICE, TEAM)
    {
        ERR(EPERM, open("f", O_RDONLY | O_NOATIME));
    }
}

TEST(open_text_busy)
{
    make_file("f", "#!/bin/true\n");
    OK(chmod("f", 0755));
    stay(); /* is known to one machine only */
    int fd = FD(open("f", O_WRONLY));
    char *argv[] = {(char *)"f", NULL};
    ERR(ETXTBSY, execv("f", argv));
    OK(close(fd));
}

TEST(open_too_many_files)
{
    struct rlimit_nofile {
        unsigned long soft, hard;
    } few = {16, 16};
    make_file("f", "");
    OK(syscall(SYS_setrlimit, 7, &few));
    int n = 0;
    while (n < 100 && open("f", O_RDONLY) >= 0) {
        n++;
    }
    TRUE(n < 16 && errno == EMFILE);
    turn();
}

TEST(open_sync_flags)
{
    static const int flags[] = {O_SYNC,   O_DSYNC, O_RSYNC,    O_NONBLOCK,
                                O_NOCTTY, O_ASYNC, O_LARGEFILE};
    for (size_t i = 0; i < COUNT(flags); i++) {
        int fd = FD(open("f", O_RDWR | O_CREAT | flags[i], 0644));
        EQ(1, pwrite(fd, "x", 1, (off_t)i));
        OK(close(fd));
    }
    CONTENT("f", "xxxxxxx");
}

TEST(unlinked_open_file)
{
    char c = 0;
    int fd = FD(open("f", O_RDWR | O_CREAT, 0644));
    EQ(3, write(fd, "abc", 3));
    int other = FD(open("f", O_RDONLY));
    OK(unlink("f"));
    ERR(ENOENT, open("f", O_RDONLY));
    EQ(0, fstat_of(fd).st_nlink);
    EQ(3, fstat_of(fd).st_size);
    EQ(1, pread(fd, &c, 1, 1));
    EQ('b', c);
    EQ(1, pwrite(fd, "X", 1, 1));
    EQ(1, pread(other, &c, 1, 1));
    EQ('X', c);
    OK(fchmod(fd, 0600));
    EQ(0600, fstat_of(other).st_mode & 07777);
    OK(ftruncate(fd, 100000));
    EQ(100000, fstat_of(other).st_size);
    OK(fsync(fd));
    make_file("f", "new"); /* a new file of the name is another one */
    TRUE(stat_of("f").st_ino != fstat_of(fd).st_ino);
    EQ(100000, fstat_of(fd).st_size);
    OK(close(fd));
    TRUE(is_all(other, 3, 99997, 0));
    CONTENT("f", "new");
}

TEST(unlinked_by_rename)
{
    make_file("a", "old");
    make_file("b", "new");
    int fd = FD(open("a", O_RDWR));
    OK(rename("b", "a"));
    EQ(0, fstat_of(fd).st_nlink);
    char text[4] = "";
    EQ(3, read(fd, text, 3));
    TRUE(strcmp(text, "old") == 0);
    CONTENT("a", "new");
}

TEST(unlinked_open_directory)
{
    OK(mkdir("d", 0755));
    stay();
    int fd = FD(open("d", O_RDONLY | O_DIRECTORY));
    OK(rmdir("d"));
    ERR(ENOENT, openat(fd, "f", O_WRONLY | O_CREAT, 0644));
    ERR(ENOENT, mkdirat(fd, "g", 0755));
    ERR(ENOENT, symlinkat("x", fd, "l"));
    EQ(0, fstat_of(fd).st_nlink);
    TRUE(S_ISDIR(fstat_of(fd).st_mode));
}

TEST(tmpfile_is_linked)
{
    stay();
    int fd = FD(MAY(open(".", O_TMPFILE | O_RDWR, 0640)));
    EQ(0, fstat_of(fd).st_nlink);
    EQ(0640, fstat_of(fd).st_mode & 07777);
    EQ(3, write(fd, "abc", 3));
    char proc[40];
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
    make_file("there", "");
    ERR(EEXIST, linkat(AT_FDCWD, proc, AT_FDCWD, "there", AT_SYMLINK_FOLLOW));
    OK(linkat(AT_FDCWD, proc, AT_FDCWD, "f", AT_SYMLINK_FOLLOW));
    EQ(1, fstat_of(fd).st_nlink);
    EQ(fstat_of(fd).st_ino, stat_of("f").st_ino);
    CONTENT("f", "abc");
    OK(linkat(AT_FDCWD, proc, AT_FDCWD, "g", AT_SYMLINK_FOLLOW));
    EQ(2, NLINK("g"));
    OK(fchdir(side_fd(1)));
    EQ(2, NLINK("g"));
    CONTENT("g", "abc");
}

TEST(tmpfile_that_must_not_be_linked)
{
    stay();
    int fd = FD(MAY(open(".", O_TMPFILE | O_RDWR | O_EXCL, 0640)));
    char proc[40];
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
    ERR(ENOENT, linkat(AT_FDCWD, proc, AT_FDCWD, "f", AT_SYMLINK_FOLLOW));
    TRUE(!exists("f"));
}

TEST(tmpfile_errors)
{
    make_file("f", "");
    OK(close(FD(MAY(open(".", O_TMPFILE | O_WRONLY, 0640)))));
    ERR(EINVAL, open(".", O_TMPFILE | O_RDONLY, 0640));
    ERR(ENOENT, open("none", O_TMPFILE | O_RDWR, 0640));
    ERR(ENOTDIR, open("f", O_TMPFILE | O_RDWR, 0640));
    need_root();
    AS(ALICE, TEAM)
    {
        ERR(EACCES, open(".", O_TMPFILE | O_RDWR, 0640));
    }
}
