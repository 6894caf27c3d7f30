#include "suite.h"
#include <grp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <time.h>

struct test *tests;
static struct test **tests_end = &tests;
static int sides[2] = {-1, -1};
static int report_fd = -1;
static unsigned turns;
static bool staying;

void test_add(struct test *t)
{
    *tests_end = t;
    tests_end = &t->next;
}

void suite_begin_test(int first, int second, int report)
{
    sides[0] = first;
    sides[1] = second;
    report_fd = report;
}

/* One write() of less than PIPE_BUF: lines of several processes do not mix. */
static void say(const char *head, const char *fmt, va_list ap)
{
    char text[1000];
    int n = snprintf(text, sizeof text, "%s", head);
    vsnprintf(text + n, sizeof text - (size_t)n - 1, fmt, ap);
    size_t len = strnlen(text, sizeof text - 2);
    text[len++] = '\n';
    if (write(report_fd, text, len) < 0) {
        _exit(EXIT_FAIL);
    }
}

void fail_at(const char *file, int line, const char *fmt, ...)
{
    char head[200];
    snprintf(head, sizeof head, "%s:%d: ", file, line);
    va_list ap;
    va_start(ap, fmt);
    say(head, fmt, ap);
    va_end(ap);
    _exit(EXIT_FAIL);
}

void skip_test(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say("", fmt, ap);
    va_end(ap);
    _exit(EXIT_SKIP);
}

long check_ok(const char *file, int line, const char *what, long r)
{
    if (r < 0) {
        fail_at(file, line, "%s: expected success, saw %s", what, strerrorname_np(errno));
    }
    return r;
}

void check_err(const char *file, int line, const char *what, int want, long r)
{
    if (r != -1) {
        fail_at(file, line, "%s: expected %s, saw success (%ld)", what, strerrorname_np(want), r);
    }
    if (errno != want) {
        const char *seen = strerrorname_np(errno);
        fail_at(file, line, "%s: expected %s, saw %s", what, strerrorname_np(want), seen);
    }
}

void check_eq(const char *file, int line, const char *what, long long want, long long seen)
{
    if (want != seen) {
        fail_at(file, line, "%s: expected %lld (0x%llx), saw %lld (0x%llx)", what, want,
                (unsigned long long)want, seen, (unsigned long long)seen);
    }
}

long check_supported(const char *file, int line, const char *what, long r)
{
    if (r < 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
        skip_test("%s: %s", what, strerrorname_np(errno));
    }
    return check_ok(file, line, what, r);
}

void turn(void)
{
    if (sides[1] < 0 || staying) {
        return;
    }
    int keep = errno;
    if (fchdir(sides[turns++ & 1]) < 0) {
        fail_at(HERE, "the other mount's directory: %s", strerrorname_np(errno));
    }
    errno = keep;
}

void stay(void)
{
    staying = true;
}

int side_fd(int side)
{
    return side == 1 && sides[1] >= 0 ? sides[1] : sides[0];
}

bool two_sides(void)
{
    return sides[1] >= 0;
}

void need_root(void)
{
    if (geteuid() != 0) {
        skip_test("needs root");
    }
}

pid_t fork_child(void)
{
    pid_t pid = fork();
    if (pid < 0) {
        fail_at(HERE, "fork: %s", strerrorname_np(errno));
    }
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        turns++; /* the child begins on the other mount */
    }
    return pid;
}

void join(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            fail_at(HERE, "waitpid: %s", strerrorname_np(errno));
        }
    }
    if (WIFSIGNALED(status)) {
        fail_at(HERE, "another process of the test ended by signal %d", WTERMSIG(status));
    }
    if (WEXITSTATUS(status) != 0) {
        _exit(WEXITSTATUS(status)); /* it has said why */
    }
}

void give_up_root(uid_t uid, gid_t gid)
{
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0) {
        fail_at(HERE, "become user %u: %s", uid, strerrorname_np(errno));
    }
}

pid_t as_begin(const char *file, int line, uid_t uid, gid_t gid)
{
    if (geteuid() != 0) {
        fail_at(file, line, "AS() without need_root()");
    }
    pid_t pid = fork_child();
    if (pid == 0) {
        give_up_root(uid, gid);
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* changing the user has cleared it */
        return 0;
    }
    join(pid);
    return pid;
}

static bool sleeps_in(pid_t pid, long number)
{
    char path[64];
    char text[400] = "";
    snprintf(path, sizeof path, "/proc/%d/syscall", pid);
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        skip_test("no %s here", path);
    }
    char *line = fgets(text, sizeof text, f);
    fclose(f);
    char *end = text;
    long seen = strtol(text, &end, 10);
    return line != NULL && end != text && seen == number;
}

bool has_ended(pid_t pid)
{
    siginfo_t info = {.si_pid = 0};
    if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0) {
        fail_at(HERE, "waitid: %s", strerrorname_np(errno));
    }
    return info.si_pid != 0;
}

void await_blocked(pid_t pid, long syscall_number)
{
    struct timespec wait = {.tv_nsec = 1000000};
    /* Twice: once may be the moment in which it goes in. */
    for (int seen = 0; seen < 3;) {
        seen = sleeps_in(pid, syscall_number) ? seen + 1 : 0;
        nanosleep(&wait, NULL);
        if (has_ended(pid)) {
            return; /* join() will tell why */
        }
    }
}

void gate_init(struct gate *g)
{
    if (pipe2(g->fd, O_CLOEXEC) < 0) {
        fail_at(HERE, "pipe: %s", strerrorname_np(errno));
    }
}

void gate_open(struct gate *g)
{
    if (write(g->fd[1], "x", 1) != 1) {
        fail_at(HERE, "pipe: %s", strerrorname_np(errno));
    }
}

void gate_wait(struct gate *g)
{
    char c;
    ssize_t n;
    do {
        n = read(g->fd[0], &c, 1);
    } while (n < 0 && errno == EINTR);
    if (n != 1) {
        _exit(EXIT_FAIL);
    }
}

void make_file(const char *name, const char *text)
{
    int fd = FD(open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    size_t len = strlen(text);
    EQ((long long)len, write(fd, text, len));
    OK(close(fd));
}

void content_is(const char *file, int line, const char *name, const char *text)
{
    char seen[300] = "";
    turn();
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        fail_at(file, line, "open %s: %s", name, strerrorname_np(errno));
    }
    ssize_t n = read(fd, seen, sizeof seen - 1);
    close(fd);
    if (n != (ssize_t)strlen(text) || memcmp(seen, text, (size_t)n) != 0) {
        fail_at(file, line, "%s: expected '%s', saw '%.200s' (%zd bytes)", name, text, seen, n);
    }
}

struct stat stat_of(const char *name)
{
    struct stat st = {0};
    turn();
    if (lstat(name, &st) < 0) {
        fail_at(HERE, "lstat %.100s: expected success, saw %s", name, strerrorname_np(errno));
    }
    return st;
}

struct stat fstat_of(int fd)
{
    struct stat st = {0};
    OK(fstat(fd, &st));
    return st;
}

bool exists(const char *name)
{
    struct stat st;
    turn();
    return lstat(name, &st) == 0;
}

void fill(int fd, off_t at, size_t len, int byte)
{
    char *p = malloc(len);
    if (p == NULL) {
        fail_at(HERE, "no memory");
    }
    memset(p, byte, len);
    EQ((long long)len, pwrite(fd, p, len, at));
    free(p);
}

bool is_all(int fd, off_t at, size_t len, int byte)
{
    char *p = malloc(len);
    if (p == NULL) {
        fail_at(HERE, "no memory");
    }
    EQ((long long)len, pread(fd, p, len, at));
    size_t i = 0;
    while (i < len && p[i] == (char)byte) {
        i++;
    }
    free(p);
    return i == len;
}

const char *name_of(size_t len, char c)
{
    static char names[8][PATH_MAX + 16];
    static unsigned next;
    char *p = names[next++ & 7];
    memset(p, c, len);
    p[len] = '\0';
    return p;
}

bool is_fs(long magic)
{
    struct statfs s;
    return fstatfs(sides[0], &s) == 0 && (long)s.f_type == magic;
}

char *bad_address(void)
{
    return (char *)8;
}

bool later(struct timespec a, struct timespec b)
{
    return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

bool same(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

void tick(void)
{
    struct timespec from;
    struct timespec now;
    struct timespec wait = {.tv_nsec = 2000000};
    clock_gettime(CLOCK_REALTIME_COARSE, &from);
    do { /* the clock of file systems moves in steps of 10 ms at most */
        nanosleep(&wait, NULL);
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
    } while ((now.tv_sec - from.tv_sec) * 1000000000LL + now.tv_nsec - from.tv_nsec < 20000000);
}

void make_old(const char *name)
{
    struct timespec old[2] = {{.tv_sec = OLD}, {.tv_sec = OLD}};
    OK(utimensat(AT_FDCWD, name, old, AT_SYMLINK_NOFOLLOW));
}

void moved(const char *file, int line, const char *what, const struct stat *before,
           const char *name, const char *want)
{
    struct stat st = stat_of(name);
    const struct {
        char letter;
        struct timespec was, is;
    } t[] = {{'a', before->st_atim, st.st_atim},
             {'m', before->st_mtim, st.st_mtim},
             {'c', before->st_ctim, st.st_ctim}};
    for (size_t i = 0; i < COUNT(t); i++) {
        bool must = strchr(want, t[i].letter) != NULL;
        if (must ? !later(t[i].is, t[i].was) : !same(t[i].is, t[i].was)) {
            fail_at(file, line, "%s: expected the %ctime of %s %s, saw %lld.%09ld after %lld.%09ld",
                    what, t[i].letter, name, must ? "to move on" : "to stay",
                    (long long)t[i].is.tv_sec, t[i].is.tv_nsec, (long long)t[i].was.tv_sec,
                    t[i].was.tv_nsec);
        }
    }
}
