/* mmap(): shared, private, beyond the end, times. */
#include "suite.h"
#include <sys/mman.h>

enum { PAGE = 4096 };

static char *map(int fd, size_t len, int prot, int flags)
{
    char *p = mmap(NULL, len, prot, flags, fd, 0);
    if (p == MAP_FAILED) {
        fail_at(HERE, "mmap: expected success, saw %s", strerrorname_np(errno));
    }
    return p;
}

static int file_of(const char *name, size_t len, int byte)
{
    int fd = FD(open(name, O_RDWR | O_CREAT | O_TRUNC, 0644));
    fill(fd, 0, len, byte);
    return fd;
}

TEST(map_shared)
{
    int fd = file_of("f", 3L * PAGE, 'x');
    char *p = map(fd, 3L * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    EQ('x', p[PAGE]);
    p[PAGE] = 'y';
    p[3 * PAGE - 1] = 'z';
    OK(msync(p, 3L * PAGE, MS_SYNC));
    char c = 0;
    EQ(1, pread(FD(open("f", O_RDONLY)), &c, 1, PAGE));
    EQ('y', c);
    EQ(1, pwrite(fd, "w", 1, 0)); /* a write is seen in the map */
    EQ('w', p[0]);
    OK(close(fd)); /* the map stays */
    p[1] = 'v';
    OK(munmap(p, 3L * PAGE));
    EQ(1, pread(FD(open("f", O_RDONLY)), &c, 1, 1));
    EQ('v', c);
    EQ(3 * PAGE, SIZE("f"));
}

TEST(map_is_one_for_processes)
{
    int fd = file_of("f", PAGE, 0);
    stay(); /* of one machine */
    volatile char *p = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    pid_t pid;
    CHILD(pid)
    {
        volatile char *q = map(FD(open("f", O_RDWR)), PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
        q[7] = 'c';
    }
    join(pid);
    EQ('c', p[7]);
}

TEST(map_private)
{
    int fd = file_of("f", PAGE, 'x');
    char *p = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    p[0] = 'y';
    OK(msync(p, PAGE, MS_SYNC));
    OK(munmap(p, PAGE));
    TRUE(is_all(fd, 0, PAGE, 'x'));
    p = map(FD(open("f", O_RDONLY)), PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    p[0] = 'z';
    EQ('z', p[0]);
    TRUE(is_all(fd, 0, PAGE, 'x'));
}

TEST(map_of_an_unlinked_file)
{
    int fd = file_of("f", PAGE, 'x');
    char *p = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    OK(close(fd));
    OK(unlink("f"));
    p[5] = 'y';
    OK(msync(p, PAGE, MS_SYNC));
    EQ('y', p[5]);
    EQ('x', p[6]);
}

TEST(map_errors)
{
    int fd = file_of("f", PAGE, 'x');
    int r = FD(open("f", O_RDONLY));
    int w = FD(open("f", O_WRONLY));
    ERR(EACCES, mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, r, 0));
    ERR(EACCES, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, w, 0));
    ERR(EACCES, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, w, 0));
    ERR(EINVAL, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 1));
    ERR(EINVAL, mmap(NULL, 0, PROT_READ, MAP_SHARED, fd, 0));
    ERR(EBADF, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, -1, 0));
    OK(mkdir("d", 0755));
    ERR(ENODEV, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, FD(open("d", O_RDONLY)), 0));
    char *p = map(r, PAGE, PROT_READ, MAP_SHARED);
    ERR(EACCES, mprotect(p, PAGE, PROT_READ | PROT_WRITE));
}

static int signal_of_access(volatile const char *p)
{
    pid_t pid = fork_child();
    if (pid == 0) {
        _exit(p[0] == 0 ? 0 : 1);
    }
    int status = 0;
    OK(waitpid(pid, &status, 0));
    return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

TEST(map_beyond_the_end)
{
    int fd = file_of("f", 100, 'x');
    char *p = map(fd, 3L * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    EQ('x', p[99]);
    EQ(0, p[100]); /* the rest of the last page */
    EQ(SIGBUS, signal_of_access(p + PAGE));
    p[200] = 'q'; /* is not part of the file */
    OK(msync(p, PAGE, MS_SYNC));
    EQ(100, SIZE("f"));
    OK(ftruncate(fd, 2L * PAGE));
    EQ(0, p[PAGE]);
    EQ(SIGBUS, signal_of_access(p + 2L * PAGE));
    p[PAGE] = 'n';
    OK(msync(p, 2L * PAGE, MS_SYNC));
    TRUE(is_all(fd, PAGE, 1, 'n'));
    OK(ftruncate(fd, PAGE));
    EQ(SIGBUS, signal_of_access(p + PAGE));
    OK(ftruncate(fd, 2L * PAGE));
    EQ(0, p[PAGE]); /* what was cut off does not come back */
}

TEST(map_and_a_punched_hole)
{
    int fd = file_of("f", 4L * PAGE, 'x');
    char *p = map(fd, 4L * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    p[PAGE] = 'y';
    MAY(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, PAGE));
    EQ(0, p[PAGE]);
    EQ('x', p[2 * PAGE]);
    p[PAGE + 1] = 'z';
    OK(msync(p, 4L * PAGE, MS_SYNC));
    TRUE(is_all(fd, PAGE + 1, 1, 'z'));
}

TEST(map_writes_into_a_hole)
{
    int fd = FD(open("f", O_RDWR | O_CREAT, 0644));
    OK(ftruncate(fd, 1L << 30));
    char *p = map(fd, 1L << 30, PROT_READ | PROT_WRITE, MAP_SHARED);
    p[(1L << 30) - 1] = 'e';
    p[1L << 29] = 'm';
    OK(msync(p, 1L << 30, MS_SYNC));
    OK(munmap(p, 1L << 30));
    TRUE(is_all(fd, (1L << 30) - 1, 1, 'e'));
    TRUE(is_all(fd, 1L << 29, 1, 'm'));
    TRUE(is_all(fd, (1L << 29) + 1, 10000, 0));
}

TEST(map_moves_times)
{
    int fd = file_of("f", PAGE, 'x');
    OK(fsync(fd));
    char *p = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    make_old("f");
    struct stat before = stat_of("f");
    tick();
    p[0] = 'y';
    OK(msync(p, PAGE, MS_SYNC));
    struct stat st = stat_of("f");
    TRUE(later(st.st_mtim, before.st_mtim)); /* at the latest with msync() */
    TRUE(later(st.st_ctim, before.st_ctim));
    make_old("f");
    volatile char c = p[0];
    TRUE(c == 'y');
    OK(munmap(p, PAGE));
    EQ(OLD, stat_of("f").st_mtime); /* reading moves it not */
}

TEST(map_executes)
{
    int fd = file_of("f", PAGE, 'x');
    void *p = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED && errno == EPERM) {
        skip_test("mounted with noexec");
    }
    TRUE(p != MAP_FAILED);
}
