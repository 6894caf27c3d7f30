/*
 * loop/process.c -- child processes of the real backends; see loop.h.
 *
 * All that can fail or allocates is done before vfork(): descriptors are duplicated above the
 * numbers that they will have, environment and arguments are built. The child shares the parent's
 * memory until exec, so it makes system calls only and runs with all signals blocked until the last
 * moment, lest a handler of the parent runs in it. A failed exec is reported through a pipe that
 * exec closes. Children are watched and reaped through a pidfd, so that a pid is never signalled
 * after it was reused, and forgotten or detached ones leave no zombies.
 */
#include "base/mem.h"
#include "loop/loop_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPAWN_FDS 64u
#define FIRST_FD 3
#define STATUS_UNKNOWN 255 /* the kernel reaped it for us: the host ignores SIGCHLD */
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1u << 2)
#endif

struct process_child {
    struct loop_system *system;
    struct loop_child *child; /* NULL: forgotten */
    struct loop_fd watch;     /* the pidfd */
    struct list node;         /* in loop_system.children */
};

/* What the child needs; all prepared by the parent. */
struct spawn_plan {
    const char *path;
    const char **argv;
    char **env;
    char fds_text[32], self_path[512];
    int fd[SPAWN_FDS];
    size_t fd_count;
    int log_fd, null_fd, error_fd; /* -1: none */
    pid_t parent;
    bool detach, leave;
};

/* --- the child's side: async-signal-safe system calls only --- */

/* Exec gives handlers back to the default anyway; ignored signals it would hand down. */
static void default_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int signo = 1; signo < LOOP_SIGNALS; signo++) {
        (void)sigaction(signo, &action, NULL);
    }
    sigset_t none;
    sigemptyset(&none);
    (void)pthread_sigmask(SIG_SETMASK, &none, NULL);
}

static bool place_descriptors(const struct spawn_plan *plan)
{
    for (size_t i = 0; i < plan->fd_count; i++) {
        if (dup2(plan->fd[i], FIRST_FD + (int)i) < 0) {
            return false;
        }
    }
    if (plan->null_fd >= 0 && (dup2(plan->null_fd, 0) < 0 || dup2(plan->null_fd, 1) < 0)) {
        return false;
    }
    if (plan->log_fd >= 0 && dup2(plan->log_fd, 2) < 0) {
        return false;
    }
    /* Also those that a library forgot to mark; kernels before 5.11 rely on the marks alone. */
    (void)syscall(SYS_close_range, FIRST_FD + (unsigned)plan->fd_count, ~0u, CLOSE_RANGE_CLOEXEC);
    return true;
}

NORETURN static void run_child(const struct spawn_plan *plan)
{
    bool good = plan->detach ? setsid() >= 0 : prctl(PR_SET_PDEATHSIG, SIGTERM) == 0;
    if (good && !plan->detach && getppid() != plan->parent) {
        _exit(STATUS_UNKNOWN); /* it died before prctl */
    }
    good = good && (!plan->leave || chdir("/") == 0);
    if (good && place_descriptors(plan)) {
        default_signals();
        (void)execve(plan->path, (char *const *)plan->argv, plan->env);
    }
    int error = errno;
    ssize_t n = write(plan->error_fd, &error, sizeof error);
    _exit(n == (ssize_t)sizeof error ? STATUS_UNKNOWN - 1 : STATUS_UNKNOWN);
}

/* --- the parent's side --- */

static void close_and_forget(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static void plan_fini(struct spawn_plan *plan)
{
    for (size_t i = 0; i < plan->fd_count; i++) {
        close_and_forget(&plan->fd[i]);
    }
    close_and_forget(&plan->log_fd);
    close_and_forget(&plan->null_fd);
    close_and_forget(&plan->error_fd);
    mem_free(plan->argv);
    mem_free(plan->env);
}

/* A copy above all numbers that the child assigns. Takes `fd` when `own`. */
static int lift(size_t fd_count, int fd, bool own)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FD + (int)fd_count);
    int rc = high < 0 ? -errno : high;
    if (own) {
        close(fd);
    }
    return rc;
}

static int open_lifted(size_t fd_count, const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0644);
    return fd < 0 ? -errno : lift(fd_count, fd, true);
}

static int plan_descriptors(struct spawn_plan *plan, const struct loop_spawn_options *opt,
                            struct err *e)
{
    if (opt->fd_count > SPAWN_FDS) {
        return err_set(e, -EINVAL, "more than %u descriptors for a child", SPAWN_FDS);
    }
    for (size_t i = 0; i < opt->fd_count; i++) {
        int fd = lift(opt->fd_count, opt->fds[i], false);
        if (fd < 0) {
            return err_set(e, fd, "pass descriptor %d to a child", opt->fds[i]);
        }
        plan->fd[plan->fd_count++] = fd;
    }
    if (opt->log_path != NULL) {
        int fd = open_lifted(opt->fd_count, opt->log_path, O_WRONLY | O_APPEND | O_CREAT);
        if (fd < 0) {
            return err_set(e, fd, "open log '%s'", opt->log_path);
        }
        plan->log_fd = fd;
    }
    if (opt->detach) {
        int fd = open_lifted(opt->fd_count, "/dev/null", O_RDWR);
        if (fd < 0) {
            return err_set(e, fd, "open /dev/null");
        }
        plan->null_fd = fd;
    }
    return 0;
}

static int plan_environment(struct spawn_plan *plan)
{
    static const char name[] = "OPENDFS_FDS=";
    size_t count = 0;
    while (environ[count] != NULL) {
        count++;
    }
    plan->env = mem_calloc(count + 2, sizeof plan->env[0]);
    if (plan->env == NULL) {
        return -ENOMEM;
    }
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (strncmp(environ[i], name, sizeof name - 1) != 0) {
            plan->env[used++] = environ[i];
        }
    }
    (void)snprintf(plan->fds_text, sizeof plan->fds_text, "%s%zu", name, plan->fd_count);
    plan->env[used] = plan->fds_text;
    return 0;
}

/* argv[0] may be NULL, so the count starts behind it. /proc/self/exe is this executable even after
 * an upgrade removed its name. */
static int plan_arguments(struct spawn_plan *plan, const struct loop_spawn_options *opt)
{
    size_t count = 1;
    while (opt->argv[count] != NULL) {
        count++;
    }
    plan->argv = mem_calloc(count + 1, sizeof plan->argv[0]);
    if (plan->argv == NULL) {
        return -ENOMEM;
    }
    memcpy(plan->argv, opt->argv, count * sizeof plan->argv[0]);
    plan->path = opt->argv[0];
    if (plan->path == NULL) {
        plan->path = "/proc/self/exe";
        ssize_t n = readlink(plan->path, plan->self_path, sizeof plan->self_path - 1);
        if (n < 0) {
            return -errno;
        }
        plan->argv[0] = plan->self_path;
    }
    return 0;
}

static int plan_init(struct spawn_plan *plan, const struct loop_spawn_options *opt, struct err *e)
{
    int rc = plan_descriptors(plan, opt, e);
    if (rc == 0) {
        rc = plan_environment(plan);
    }
    if (rc == 0) {
        rc = plan_arguments(plan, opt);
    }
    return rc;
}

/* Signals stay blocked around vfork: a handler must not run in the child, which shares our memory.
 * Returns the pid or -errno. */
__attribute__((noinline)) static pid_t fork_child(const struct spawn_plan *plan)
{
    sigset_t all, before;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    /* posix_spawn can neither ask for a signal at the parent's death nor close what was leaked;
     * fork copies the page tables of a whole cache.
     * NOLINTNEXTLINE(clang-analyzer-security.insecureAPI.vfork) */
    pid_t pid = vfork();
    if (pid == 0) {
        run_child(plan); /* NOLINT(clang-analyzer-unix.Vfork): does not return, changes no memory */
    }
    pid = pid < 0 ? -errno : pid;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pid;
}

/* 0 when exec succeeded, else what it said. Waits for the exec only. */
static int exec_result(int pipe_fd)
{
    int error = 0;
    ssize_t n = 0;
    do {
        n = read(pipe_fd, &error, sizeof error);
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof error ? -error : 0;
}

static void reap_failed(pid_t pid)
{
    pid_t rc = 0;
    do {
        rc = waitpid(pid, NULL, 0);
    } while (rc < 0 && errno == EINTR);
}

static int start_child(struct spawn_plan *plan, size_t fd_count, pid_t *ret_pid)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        return -errno;
    }
    plan->error_fd = lift(fd_count, ends[1], true);
    if (plan->error_fd < 0) {
        close(ends[0]);
        return plan->error_fd;
    }
    pid_t pid = fork_child(plan);
    close_and_forget(&plan->error_fd);
    int rc = pid < 0 ? pid : exec_result(ends[0]);
    close(ends[0]);
    if (rc < 0 && pid > 0) {
        reap_failed(pid);
    }
    *ret_pid = pid;
    return rc;
}

/* --- watching it --- */

static void child_free(struct process_child *p)
{
    loop_fd_remove(&p->system->base, &p->watch);
    close_and_forget(&p->watch.fd);
    list_remove(&p->node);
    mem_free(p);
}

static void child_ready(struct loop_fd *w, unsigned events)
{
    struct process_child *p = container_of(w, struct process_child, watch);
    (void)events;
    siginfo_t info = {.si_pid = 0};
    int rc = waitid(P_PIDFD, (id_t)w->fd, &info, WEXITED | WNOHANG);
    if (rc == 0 && info.si_pid == 0) {
        loop_fd_want(&p->system->base, w, LOOP_READABLE); /* not yet */
        return;
    }
    int status = STATUS_UNKNOWN;
    if (rc == 0) {
        status = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
    }
    struct loop_child *c = p->child;
    child_free(p);
    if (c != NULL) {
        c->pid = 0;
        c->backend = NULL;
        c->exited(c, status);
    }
}

static int watch_child(struct process_child *p, pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) {
        return -errno;
    }
    p->watch.fd = fd;
    p->watch.ready = child_ready;
    return loop_fd_add(&p->system->base, &p->watch);
}

static int spawn_planned(struct process_child *p, struct spawn_plan *plan, size_t fd_count,
                         struct err *e)
{
    pid_t pid = 0;
    int rc = start_child(plan, fd_count, &pid);
    if (rc < 0) {
        return err_set(e, rc, "run '%s'", plan->argv[0]);
    }
    rc = watch_child(p, pid);
    if (rc < 0) {
        (void)kill(pid, SIGKILL);
        reap_failed(pid);
        return err_set(e, rc, "watch process %d", (int)pid);
    }
    return (int)pid;
}

int loop_system_spawn(struct loop *l, const struct loop_spawn_options *opt, struct loop_child *c,
                      struct err *e)
{
    struct loop_system *s = container_of(l, struct loop_system, base);
    struct process_child *p = mem_zalloc(sizeof *p);
    if (p == NULL) {
        return -ENOMEM;
    }
    p->system = s;
    p->watch.fd = -1;
    list_push_back(&s->children, &p->node);
    struct spawn_plan plan = {.log_fd = -1,
                              .null_fd = -1,
                              .error_fd = -1,
                              .parent = getpid(),
                              .detach = opt->detach,
                              .leave = opt->leave};
    int rc = plan_init(&plan, opt, e);
    if (rc == 0) {
        rc = spawn_planned(p, &plan, opt->fd_count, e);
    }
    plan_fini(&plan);
    if (rc < 0) {
        child_free(p);
        return rc;
    }
    c->pid = rc;
    c->backend = opt->detach ? NULL : p;
    p->child = opt->detach ? NULL : c;
    return 0;
}

int loop_system_child_signal(struct loop *l, struct loop_child *c, int signo)
{
    const struct process_child *p = c->backend;
    if (p == NULL) { /* detached: known by its number only */
        return loop_system_process_signal(l, c->pid, signo);
    }
    if (syscall(SYS_pidfd_send_signal, p->watch.fd, signo, NULL, 0) < 0) {
        return -errno;
    }
    return 0;
}

/* The record stays, so that the child is reaped. */
void loop_system_child_forget(struct loop *l, struct loop_child *c)
{
    (void)l;
    struct process_child *p = c->backend;
    if (p != NULL) {
        p->child = NULL;
    }
}

int loop_system_child_adopt(struct loop *l, int64_t pid, struct loop_child *c)
{
    struct loop_system *s = container_of(l, struct loop_system, base);
    if (pid <= 0 || pid > INT32_MAX) {
        return -ESRCH;
    }
    struct process_child *p = mem_zalloc(sizeof *p);
    if (p == NULL) {
        return -ENOMEM;
    }
    p->system = s;
    p->watch.fd = -1;
    list_push_back(&s->children, &p->node);
    int rc = watch_child(p, (pid_t)pid);
    if (rc < 0) {
        child_free(p);
        return rc;
    }
    p->child = c;
    c->pid = pid;
    c->backend = p;
    return 0;
}

/* Children that still run outlive the loop; init reaps them after us. */
void loop_system_children_fini(struct loop_system *s)
{
    while (!list_empty(&s->children)) {
        child_free(LIST_ENTRY(s->children.next, struct process_child, node));
    }
}

int loop_system_process_signal(struct loop *l, int64_t pid, int signo)
{
    (void)l;
    if (pid > INT32_MAX) {
        return -ESRCH;
    }
    return kill((pid_t)pid, signo) < 0 ? -errno : 0;
}

int64_t loop_system_process_id(const struct loop *l)
{
    (void)l;
    return getpid();
}

uint64_t loop_process_raise_files(uint64_t want)
{
    struct rlimit now;
    if (getrlimit(RLIMIT_NOFILE, &now) < 0) {
        return 0;
    }
    struct rlimit more = now;
    if (want > more.rlim_max) { /* who may, raises that, too */
        more.rlim_cur = more.rlim_max = want;
        if (setrlimit(RLIMIT_NOFILE, &more) == 0) {
            return want;
        }
        more.rlim_max = now.rlim_max;
    }
    more.rlim_cur = base_min(base_max(want, now.rlim_cur), now.rlim_max);
    return setrlimit(RLIMIT_NOFILE, &more) == 0 ? more.rlim_cur : now.rlim_cur;
}
