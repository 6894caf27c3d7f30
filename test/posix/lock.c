/* flock(), fcntl() and open file description locks, between processes; leases are of one machine
 * and not asked for. */
#include "suite.h"
#include <sys/file.h>
#include <sys/syscall.h>

static long lock_of(int fd, int cmd, short type, off_t from, off_t len)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = from, .l_len = len};
    return fcntl(fd, cmd, &l);
}
#define WRLOCK(fd, from, len) lock_of(fd, F_SETLK, F_WRLCK, from, len)
#define RDLOCK(fd, from, len) lock_of(fd, F_SETLK, F_RDLCK, from, len)
#define UNLOCK(fd, from, len) lock_of(fd, F_SETLK, F_UNLCK, from, len)

static struct flock ask(int fd, int cmd, short type, off_t from, off_t len)
{
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = from, .l_len = len};
    OK(fcntl(fd, cmd, &l));
    return l;
}

static int open_it(int flags)
{
    return FD(open("f", flags | O_CREAT, 0644));
}

/* Another process tries it: 0 or the errno. */
static int tried(short type, off_t from, off_t len)
{
    pid_t pid = fork_child();
    if (pid == 0) {
        int fd = open_it(O_RDWR);
        _exit(lock_of(fd, F_SETLK, type, from, len) == 0 ? 0 : errno);
    }
    int status = 0;
    OK(waitpid(pid, &status, 0));
    TRUE(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int flock_tried(int how)
{
    int fd = open_it(O_RDONLY);
    int rc = flock(fd, how | LOCK_NB) == 0 ? 0 : errno;
    OK(close(fd));
    return rc;
}

TEST(lock_ranges)
{
    int fd = open_it(O_RDWR);
    OK(WRLOCK(fd, 10, 10));
    EQ(EAGAIN, tried(F_WRLCK, 10, 10));
    EQ(EAGAIN, tried(F_RDLCK, 19, 1));
    EQ(EAGAIN, tried(F_WRLCK, 0, 0)); /* to the end, wherever it may be */
    EQ(EAGAIN, tried(F_WRLCK, 0, 11));
    EQ(0, tried(F_WRLCK, 0, 10));
    EQ(0, tried(F_WRLCK, 20, 0));
    OK(UNLOCK(fd, 14, 2)); /* in two */
    EQ(0, tried(F_WRLCK, 14, 2));
    EQ(EAGAIN, tried(F_WRLCK, 13, 1));
    EQ(EAGAIN, tried(F_WRLCK, 16, 1));
    OK(RDLOCK(fd, 10, 2)); /* a part becomes a read lock */
    EQ(0, tried(F_RDLCK, 10, 2));
    EQ(EAGAIN, tried(F_WRLCK, 10, 2));
    EQ(EAGAIN, tried(F_RDLCK, 12, 1));
    OK(UNLOCK(fd, 0, 0));
    EQ(0, tried(F_WRLCK, 0, 0));
}

TEST(lock_at_far_offsets)
{
    int fd = open_it(O_RDWR);
    OK(WRLOCK(fd, INT64_MAX - 1, 1));
    EQ(EAGAIN, tried(F_WRLCK, INT64_MAX - 1, 0));
    EQ(0, tried(F_WRLCK, 0, INT64_MAX - 1));
    OK(UNLOCK(fd, 0, 0));
    OK(WRLOCK(fd, 1L << 40, 0));
    EQ(EAGAIN, tried(F_WRLCK, INT64_MAX - 1, 1));
    OK(WRLOCK(fd, 100, -10)); /* 90 to 99 */
    EQ(EAGAIN, tried(F_WRLCK, 90, 1));
    EQ(0, tried(F_WRLCK, 100, 1));
    EQ(0, tried(F_WRLCK, 89, 1));
}

TEST(lock_relative_to_position_and_end)
{
    int fd = open_it(O_RDWR);
    fill(fd, 0, 100, 'x');
    EQ(50, lseek(fd, 50, SEEK_SET));
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = -10, .l_len = 5};
    OK(fcntl(fd, F_SETLK, &l));
    EQ(EAGAIN, tried(F_WRLCK, 44, 1));
    EQ(0, tried(F_WRLCK, 45, 1));
    struct flock e = {.l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = -1, .l_len = 0};
    OK(fcntl(fd, F_SETLK, &e));
    EQ(EAGAIN, tried(F_WRLCK, 99, 1));
    EQ(EAGAIN, tried(F_WRLCK, 5000, 1));
    EQ(0, tried(F_WRLCK, 98, 1));
}

TEST(lock_errors)
{
    int fd = open_it(O_RDWR);
    int r = open_it(O_RDONLY);
    int w = open_it(O_WRONLY);
    ERR(EBADF, WRLOCK(r, 0, 0));
    ERR(EBADF, RDLOCK(w, 0, 0));
    ERR(EBADF, WRLOCK(-1, 0, 0));
    ERR(EINVAL, lock_of(fd, F_SETLK, 99, 0, 0));
    ERR(EINVAL, WRLOCK(fd, -1, 5));
    ERR(EINVAL, WRLOCK(fd, 5, -10));
    ERR(EOVERFLOW, WRLOCK(fd, INT64_MAX, 2));
    struct flock l = {.l_type = F_WRLCK, .l_whence = 9};
    ERR(EINVAL, fcntl(fd, F_SETLK, &l));
    ERR(EINVAL, lock_of(fd, F_GETLK, F_UNLCK, 0, 0));
    ERR(EFAULT, fcntl(fd, F_SETLK, bad_address()));
    ERR(EINVAL, flock(fd, 0));
    ERR(EINVAL, flock(fd, LOCK_SH | LOCK_EX | LOCK_UN));
    ERR(EBADF, flock(-1, LOCK_SH));
}

TEST(lock_getlk_tells_who)
{
    int fd = open_it(O_RDWR);
    struct gate done;
    gate_init(&done);
    struct gate locked;
    gate_init(&locked);
    pid_t pid;
    CHILD(pid)
    {
        int mine = open_it(O_RDWR);
        OK(WRLOCK(mine, 100, 50));
        OK(RDLOCK(mine, 200, 0));
        EQ(F_UNLCK,
           ask(mine, F_GETLK, F_WRLCK, 0, 0).l_type); /* own ones do not stand in the way */
        gate_open(&locked);
        gate_wait(&done);
    }
    gate_wait(&locked);
    struct flock l = ask(fd, F_GETLK, F_RDLCK, 0, 0);
    EQ(F_WRLCK, l.l_type);
    EQ(100, l.l_start);
    EQ(50, l.l_len);
    EQ(SEEK_SET, l.l_whence);
    EQ(pid, l.l_pid);
    l = ask(fd, F_GETLK, F_WRLCK, 300, 1);
    EQ(F_RDLCK, l.l_type);
    EQ(200, l.l_start);
    EQ(0, l.l_len);
    EQ(pid, l.l_pid);
    EQ(F_UNLCK, ask(fd, F_GETLK, F_RDLCK, 300, 1).l_type);
    EQ(F_UNLCK, ask(fd, F_GETLK, F_WRLCK, 0, 100).l_type);
    gate_open(&done);
    join(pid);
    EQ(F_UNLCK, ask(fd, F_GETLK, F_WRLCK, 0, 0).l_type);
}

TEST(lock_goes_with_any_close)
{
    stay(); /* one file to one process */
    int fd = open_it(O_RDWR);
    OK(WRLOCK(fd, 0, 0));
    EQ(EAGAIN, tried(F_WRLCK, 0, 1));
    OK(close(FD(open("f", O_RDONLY)))); /* what POSIX says: any of its descriptors */
    EQ(0, tried(F_WRLCK, 0, 1));
}

TEST(lock_goes_with_the_process)
{
    int fd = open_it(O_RDWR);
    struct gate locked;
    gate_init(&locked);
    pid_t pid = fork_child();
    if (pid == 0) {
        int mine = open_it(O_RDWR);
        OK(WRLOCK(mine, 0, 0));
        OK(flock(mine, LOCK_EX));
        gate_open(&locked);
        for (;;) {
            pause();
        }
    }
    gate_wait(&locked);
    ERR(EAGAIN, WRLOCK(fd, 0, 0));
    ERR(EWOULDBLOCK, flock(fd, LOCK_SH | LOCK_NB));
    OK(kill(pid, SIGKILL));
    OK(waitpid(pid, NULL, 0));
    OK(lock_of(fd, F_SETLKW, F_WRLCK, 0, 0)); /* a remote one may go a moment later */
    OK(flock(fd, LOCK_EX));
}

TEST(lock_is_not_inherited)
{
    int fd = open_it(O_RDWR);
    OK(WRLOCK(fd, 0, 0));
    pid_t pid;
    CHILD(pid)
    {
        ERR(EAGAIN, WRLOCK(fd, 0, 0)); /* through the very descriptor */
        OK(close(fd));
    }
    join(pid);
    EQ(EAGAIN, tried(F_RDLCK, 0, 1)); /* and the child's close took nothing */
}

/* A waiter gets it when the holder lets go. */
static void wait_for_lock(bool by_flock)
{
    int fd = open_it(O_RDWR);
    OK(by_flock ? flock(fd, LOCK_EX) : WRLOCK(fd, 0, 10));
    pid_t pid;
    CHILD(pid)
    {
        int mine = open_it(O_RDWR);
        OK(by_flock ? flock(mine, LOCK_EX) : lock_of(mine, F_SETLKW, F_WRLCK, 5, 10));
        char c = 0;
        EQ(1, pread(mine, &c, 1, 0)); /* what the holder wrote */
        EQ('x', c);
    }
    await_blocked(pid, by_flock ? SYS_flock : SYS_fcntl);
    EQ(1, pwrite(fd, "x", 1, 0));
    OK(by_flock ? flock(fd, LOCK_UN) : UNLOCK(fd, 0, 10));
    join(pid);
}
TEST(lock_waits)
{
    wait_for_lock(false);
}
TEST(flock_waits)
{
    wait_for_lock(true);
}

static void on_signal(int number)
{
    (void)number;
}

static void interrupt_lock(bool by_flock)
{
    int fd = open_it(O_RDWR);
    OK(by_flock ? flock(fd, LOCK_EX) : WRLOCK(fd, 0, 0));
    pid_t pid;
    CHILD(pid)
    {
        struct sigaction a = {.sa_handler = on_signal}; /* without SA_RESTART */
        OK(sigaction(SIGUSR1, &a, NULL));
        int mine = open_it(O_RDWR);
        ERR(EINTR, by_flock ? flock(mine, LOCK_EX) : lock_of(mine, F_SETLKW, F_WRLCK, 0, 0));
    }
    await_blocked(pid, by_flock ? SYS_flock : SYS_fcntl);
    OK(kill(pid, SIGUSR1));
    join(pid);
    OK(by_flock ? flock(fd, LOCK_UN) : UNLOCK(fd, 0, 0));
    /* The one that gave up does not hold it now. */
    EQ(0, by_flock ? flock_tried(LOCK_EX) : tried(F_WRLCK, 0, 0));
}
TEST(lock_interrupted)
{
    interrupt_lock(false);
}
TEST(flock_interrupted)
{
    interrupt_lock(true);
}

/* A waiter that is killed leaves nothing behind. */
TEST(lock_waiter_killed)
{
    int fd = open_it(O_RDWR);
    OK(WRLOCK(fd, 0, 0));
    pid_t pid = fork_child();
    if (pid == 0) {
        _exit((int)lock_of(open_it(O_RDWR), F_SETLKW, F_WRLCK, 0, 0));
    }
    await_blocked(pid, SYS_fcntl);
    OK(kill(pid, SIGKILL));
    OK(waitpid(pid, NULL, 0));
    OK(UNLOCK(fd, 0, 0));
    EQ(0, tried(F_WRLCK, 0, 0));
}

TEST(lock_deadlock)
{
    int fd = open_it(O_RDWR);
    OK(WRLOCK(fd, 0, 1));
    struct gate locked;
    gate_init(&locked);
    pid_t pid;
    CHILD(pid)
    {
        int mine = open_it(O_RDWR);
        OK(WRLOCK(mine, 1, 1));
        gate_open(&locked);
        OK(lock_of(mine, F_SETLKW, F_WRLCK, 0, 1));
    }
    gate_wait(&locked);
    await_blocked(pid, SYS_fcntl);
    ERR(EDEADLK, lock_of(fd, F_SETLKW, F_WRLCK, 1, 1));
    OK(UNLOCK(fd, 0, 1)); /* the other one waits on, and gets it */
    join(pid);
}

TEST(lock_deadlock_of_three)
{
    struct gate locked[2];
    pid_t pid[2];
    int fd = open_it(O_RDWR);
    OK(WRLOCK(fd, 0, 1));
    for (int i = 0; i < 2; i++) {
        gate_init(&locked[i]);
        CHILD(pid[i])
        { /* 1 waits for 0, 2 waits for 1 */
            int mine = open_it(O_RDWR);
            OK(WRLOCK(mine, i + 1, 1));
            gate_open(&locked[i]);
            OK(lock_of(mine, F_SETLKW, F_WRLCK, i, 1));
        }
        gate_wait(&locked[i]);
        await_blocked(pid[i], SYS_fcntl);
    }
    ERR(EDEADLK, lock_of(fd, F_SETLKW, F_WRLCK, 2, 1));
    OK(UNLOCK(fd, 0, 1));
    join(pid[0]);
    join(pid[1]);
}

TEST(lock_across_two_files)
{
    make_file("g", "");
    int fd = open_it(O_RDWR);
    OK(WRLOCK(fd, 0, 0));
    struct gate locked;
    gate_init(&locked);
    pid_t pid;
    CHILD(pid)
    {
        int g = FD(open("g", O_RDWR));
        OK(WRLOCK(g, 0, 0));
        gate_open(&locked);
        OK(lock_of(open_it(O_RDWR), F_SETLKW, F_WRLCK, 0, 0));
    }
    gate_wait(&locked);
    await_blocked(pid, SYS_fcntl);
    ERR(EDEADLK, lock_of(FD(open("g", O_RDWR)), F_SETLKW, F_RDLCK, 0, 0));
    OK(UNLOCK(fd, 0, 0));
    join(pid);
}

TEST(lock_makes_counting_safe)
{
    enum { PROCESSES = 4, TIMES = 100 };
    make_file("f", "0000");
    pid_t pid[PROCESSES];
    for (int p = 0; p < PROCESSES; p++) {
        CHILD(pid[p])
        {
            int fd = open_it(O_RDWR);
            for (int i = 0; i < TIMES; i++) {
                char text[16] = "";
                OK(lock_of(fd, F_SETLKW, F_WRLCK, 0, 0));
                EQ(4, pread(fd, text, 4, 0));
                snprintf(text, sizeof text, "%04d", atoi(text) + 1);
                EQ(4, pwrite(fd, text, 4, 0));
                OK(UNLOCK(fd, 0, 0));
            }
        }
    }
    for (int p = 0; p < PROCESSES; p++) {
        join(pid[p]);
    }
    CONTENT("f", "0400");
}

/* Nobody in particular has it. */
TEST(ofd_lock_has_no_pid)
{
    int a = open_it(O_RDWR);
    int b = open_it(O_RDWR);
    OK(lock_of(a, F_OFD_SETLK, F_WRLCK, 10, 10));
    EQ(-1, ask(b, F_OFD_GETLK, F_WRLCK, 0, 20).l_pid);
    EQ(-1, ask(b, F_GETLK, F_WRLCK, 0, 20).l_pid);
}

TEST(ofd_locks)
{
    int a = open_it(O_RDWR);
    int b = open_it(O_RDWR);
    OK(lock_of(a, F_OFD_SETLK, F_WRLCK, 10, 10));
    ERR(EAGAIN, lock_of(b, F_OFD_SETLK, F_WRLCK, 15, 1)); /* within one process */
    ERR(EAGAIN, WRLOCK(b, 15, 1));                        /* and between the two kinds */
    OK(lock_of(b, F_OFD_SETLK, F_WRLCK, 20, 1));
    struct flock l = ask(b, F_OFD_GETLK, F_WRLCK, 0, 20);
    EQ(F_WRLCK, l.l_type);
    EQ(10, l.l_start);
    EQ(10, l.l_len);
    OK(close(open_it(O_RDWR))); /* another close takes nothing */
    EQ(EAGAIN, tried(F_WRLCK, 15, 1));
    pid_t pid;
    CHILD(pid)
    {
        OK(lock_of(a, F_OFD_SETLK, F_WRLCK, 10, 10)); /* inherited: it is the descriptor's */
    }
    join(pid);
    EQ(EAGAIN, tried(F_WRLCK, 15, 1));
    int twin = FD(dup(a));
    OK(close(a));
    EQ(EAGAIN, tried(F_WRLCK, 15, 1));
    OK(close(twin)); /* the last one */
    EQ(0, tried(F_WRLCK, 15, 1));
    struct flock bad = {.l_type = F_WRLCK, .l_pid = 5};
    ERR(EINVAL, fcntl(b, F_OFD_SETLK, &bad));
}

TEST(ofd_lock_waits)
{
    int a = open_it(O_RDWR);
    OK(lock_of(a, F_OFD_SETLK, F_WRLCK, 0, 0));
    pid_t pid;
    CHILD(pid)
    {
        OK(lock_of(open_it(O_RDWR), F_OFD_SETLKW, F_RDLCK, 0, 0));
    }
    await_blocked(pid, SYS_fcntl);
    OK(lock_of(a, F_OFD_SETLK, F_UNLCK, 0, 0));
    join(pid);
}

TEST(flock_shares_and_excludes)
{
    int fd = open_it(O_RDONLY); /* any open mode will do */
    OK(flock(fd, LOCK_SH));
    EQ(0, flock_tried(LOCK_SH));
    EQ(EWOULDBLOCK, flock_tried(LOCK_EX));
    OK(flock(fd, LOCK_EX)); /* changes it */
    EQ(EWOULDBLOCK, flock_tried(LOCK_SH));
    OK(flock(fd, LOCK_SH));
    EQ(0, flock_tried(LOCK_SH));
    OK(flock(fd, LOCK_UN));
    EQ(0, flock_tried(LOCK_EX));
    OK(flock(fd, LOCK_UN)); /* none is held */
}

TEST(flock_belongs_to_the_open)
{
    int fd = open_it(O_RDWR);
    OK(flock(fd, LOCK_EX));
    int twin = FD(dup(fd));
    OK(close(fd));
    EQ(EWOULDBLOCK, flock_tried(LOCK_EX));
    pid_t pid;
    CHILD(pid)
    {
        OK(flock(twin, LOCK_EX | LOCK_NB)); /* the same one */
    }
    join(pid);
    EQ(EWOULDBLOCK, flock_tried(LOCK_EX));
    CHILD(pid)
    {
        OK(flock(twin, LOCK_UN)); /* anybody who has it may let go */
    }
    join(pid);
    EQ(0, flock_tried(LOCK_EX));
}

TEST(flock_goes_with_the_last_close)
{
    int fd = open_it(O_RDWR);
    OK(flock(fd, LOCK_EX));
    int twin = FD(dup(fd));
    OK(close(fd));
    EQ(EWOULDBLOCK, flock_tried(LOCK_EX));
    OK(close(twin));
    EQ(0, flock_tried(LOCK_EX));
}

TEST(flock_of_a_directory)
{
    OK(mkdir("d", 0755));
    int d = FD(open("d", O_RDONLY));
    OK(flock(d, LOCK_EX));
    ERR(EWOULDBLOCK, flock(FD(open("d", O_RDONLY)), LOCK_EX | LOCK_NB));
}

TEST(flock_and_fcntl_do_not_meet)
{
    int fd = open_it(O_RDWR);
    OK(flock(fd, LOCK_EX));
    EQ(0, tried(F_WRLCK, 0, 0));
    OK(WRLOCK(fd, 0, 0));
    OK(flock(fd, LOCK_UN));
    EQ(EAGAIN, tried(F_WRLCK, 0, 0));
}

TEST(lock_of_an_unlinked_file)
{
    int fd = open_it(O_RDWR);
    int other = open_it(O_RDWR);
    OK(unlink("f"));
    OK(lock_of(fd, F_OFD_SETLK, F_WRLCK, 0, 0));
    ERR(EAGAIN, lock_of(other, F_OFD_SETLK, F_WRLCK, 0, 0));
    int fresh = open_it(O_RDWR); /* a new file of the name is not locked */
    OK(lock_of(fresh, F_OFD_SETLK, F_WRLCK, 0, 0));
}

/* A handler without SA_RESTART: what goes on in a file is not disturbed, a fifo is. */
TEST(interrupted_calls)
{
    struct sigaction a = {.sa_handler = on_signal};
    OK(sigaction(SIGUSR1, &a, NULL));
    OK(mkfifo("p", 0644));
    pid_t pid;
    CHILD(pid)
    {
        ERR(EINTR, open("p", O_RDONLY));
    }
    await_blocked(pid, SYS_openat);
    OK(kill(pid, SIGUSR1));
    join(pid);
    int fd = open_it(O_RDWR);
    pid_t parent = getpid();
    CHILD(pid)
    {
        for (int i = 0; i < 2000; i++) {
            kill(parent, SIGUSR1);
        }
    }
    for (int i = 0; i < 200; i++) {
        fill(fd, i * 5000L, 5000, 'a' + i % 26); /* whole, or it fails */
        TRUE(is_all(fd, i * 5000L, 5000, 'a' + i % 26));
    }
    a.sa_handler = SIG_IGN;
    OK(sigaction(SIGUSR1, &a, NULL));
    join(pid);
    EQ(1000000, SIZE("f"));
}
