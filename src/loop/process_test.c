/* loop/process_test.c -- children and signals of the real backend. */
#include "loop/loop.h"
#include "testing/testing.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct parent {
    struct loop *loop;
    struct loop_child child;
    int status;
    unsigned exits;
};

static void child_exited(struct loop_child *c, int status)
{
    struct parent *p = container_of(c, struct parent, child);
    CHECK_EQ(c->pid, 0);
    p->status = status;
    p->exits++;
    loop_stop(p->loop, 0);
}

static void parent_init(struct parent *p)
{
    *p = (struct parent){.child.exited = child_exited};
    CHECK_OK(loop_new(&(struct loop_options){.name = "parent"}, &p->loop, NULL));
}

static int run_shell(struct parent *p, const char *script, struct loop_spawn_options opt)
{
    const char *const argv[] = {"/bin/sh", "-c", script, NULL};
    opt.argv = argv;
    struct err e = {0};
    return loop_spawn(p->loop, &opt, &p->child, &e);
}

TEST(child_exit_code_and_signal)
{
    struct parent p;
    parent_init(&p);
    CHECK_OK(run_shell(&p, "exit 5", (struct loop_spawn_options){.fd_count = 0}));
    CHECK_TRUE(p.child.pid > 0);
    (void)loop_run(p.loop);
    CHECK_EQ(p.status, 5);
    CHECK_EQ(loop_child_signal(p.loop, &p.child, SIGTERM), -ESRCH);
    CHECK_OK(run_shell(&p, "kill -STOP $$", (struct loop_spawn_options){.fd_count = 0}));
    CHECK_OK(loop_process_signal(p.loop, p.child.pid, 0));
    CHECK_OK(loop_child_signal(p.loop, &p.child, SIGKILL));
    (void)loop_run(p.loop);
    CHECK_EQ(p.status, -SIGKILL);
    CHECK_EQ(p.exits, 2);
    loop_free(p.loop);
}

TEST(child_that_cannot_run_is_an_error)
{
    struct parent p;
    parent_init(&p);
    const char *const argv[] = {"/nowhere/at/all", NULL};
    struct err e = {0};
    struct loop_spawn_options opt = {.argv = argv};
    CHECK_RC(loop_spawn(p.loop, &opt, &p.child, &e), ENOENT);
    CHECK_TRUE(strstr(e.text, "/nowhere/at/all") != NULL);
    CHECK_EQ(p.child.pid, 0);
    int bad = -1;
    CHECK_RC(run_shell(&p, "exit 0", (struct loop_spawn_options){.fds = &bad, .fd_count = 1}),
             EBADF);
    CHECK_RC(run_shell(&p, "exit 0", (struct loop_spawn_options){.log_path = "/nowhere/log"}),
             ENOENT);
    CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1); /* nothing was left behind */
    loop_free(p.loop);
}

/* Two pipes arrive swapped as 3 and 4; what was not passed is closed. */
TEST(child_gets_its_descriptors_only)
{
    struct parent p;
    parent_init(&p);
    int in[2], out[2];
    CHECK_OK(pipe2(in, O_CLOEXEC));
    CHECK_OK(pipe2(out, O_CLOEXEC));
    CHECK_EQ(write(in[1], "hello\n", 6), 6);
    int leaked = fcntl(out[1], F_DUPFD, 50); /* not marked close-on-exec */
    CHECK_TRUE(leaked >= 50 && leaked < 100);
    char script[160], text[64] = {0};
    (void)snprintf(script, sizeof script,
                   "read word <&4; test -e /proc/self/fd/%d && exit 9; echo $word $OPENDFS_FDS >&3",
                   leaked);
    int fds[2] = {out[1], in[0]};
    CHECK_OK(run_shell(&p, script, (struct loop_spawn_options){.fds = fds, .fd_count = 2}));
    (void)loop_run(p.loop);
    CHECK_EQ(p.status, 0);
    CHECK_EQ(read(out[0], text, sizeof text - 1), 8);
    CHECK_TEXT(text, "hello 2\n");
    close(leaked);
    close(in[0]);
    close(in[1]);
    close(out[0]);
    close(out[1]);
    loop_free(p.loop);
}

TEST(child_writes_its_log)
{
    struct parent p;
    parent_init(&p);
    char path[300], text[64] = {0};
    (void)snprintf(path, sizeof path, "%s/log", testing_directory());
    for (int i = 0; i < 2; i++) { /* appended */
        CHECK_OK(run_shell(&p, "echo line >&2", (struct loop_spawn_options){.log_path = path}));
        (void)loop_run(p.loop);
        CHECK_EQ(p.status, 0);
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK_EQ(read(fd, text, sizeof text - 1), 10);
    CHECK_TEXT(text, "line\nline\n");
    close(fd);
    loop_free(p.loop);
}

/* Its signals are as after login, whatever the parent blocks. */
TEST(child_starts_with_default_signals)
{
    struct parent p;
    parent_init(&p);
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    CHECK_OK(pthread_sigmask(SIG_BLOCK, &set, &before));
    CHECK_OK(run_shell(&p, "kill -TERM $$; exit 3", (struct loop_spawn_options){.fd_count = 0}));
    CHECK_OK(pthread_sigmask(SIG_SETMASK, &before, NULL));
    (void)loop_run(p.loop);
    CHECK_EQ(p.status, -SIGTERM);
    loop_free(p.loop);
}

/* argv[0] NULL: the test program itself, which knows --list. */
TEST(child_may_be_the_same_executable)
{
    struct parent p;
    parent_init(&p);
    const char *const argv[] = {NULL, "--list", NULL};
    char path[300];
    (void)snprintf(path, sizeof path, "%s/log", testing_directory());
    struct err e = {0};
    struct loop_spawn_options opt = {.argv = argv, .log_path = path};
    CHECK_OK(loop_spawn(p.loop, &opt, &p.child, &e));
    (void)loop_run(p.loop);
    CHECK_EQ(p.status, 0);
    loop_free(p.loop);
}

/* Waits until the process is gone, not even a zombie. The pipe's end tells when it exits. */
static void expect_reaped(struct loop *l, int64_t pid, int pipe_end)
{
    char c;
    CHECK_EQ(read(pipe_end, &c, 1), 0);
    uint64_t give_up = loop_now_ns(l) + 20000000000ull;
    while (loop_process_signal(l, pid, 0) == 0 && loop_now_ns(l) < give_up) {
        loop_run_once(l, 1000000);
    }
    CHECK_EQ(loop_process_signal(l, pid, 0), -ESRCH);
}

TEST(child_forgotten_or_detached_leaves_no_zombie)
{
    struct parent p;
    parent_init(&p);
    for (int i = 0; i < 2; i++) {
        int ends[2];
        CHECK_OK(pipe2(ends, O_CLOEXEC));
        struct loop_spawn_options opt = {.fds = &ends[1], .fd_count = 1, .detach = i == 1};
        CHECK_OK(run_shell(&p, "exit 0", opt));
        close(ends[1]);
        int64_t pid = p.child.pid;
        loop_child_forget(p.loop, &p.child);
        CHECK_EQ(p.child.pid, 0);
        expect_reaped(p.loop, pid, ends[0]);
        close(ends[0]);
    }
    CHECK_EQ(p.exits, 0);
    loop_free(p.loop);
}

TEST(child_leaves_the_working_directory)
{
    struct parent p;
    parent_init(&p);
    struct loop_spawn_options opt = {.leave = true};
    CHECK_OK(run_shell(&p, "test \"$(pwd)\" = /", opt));
    (void)loop_run(p.loop);
    CHECK_EQ(p.status, 0);
    loop_free(p.loop);
}

/* A process in between starts the child and dies at once; the child's end of the pipe closes. */
TEST(child_dies_with_its_parent)
{
    int ends[2];
    CHECK_OK(pipe2(ends, O_CLOEXEC));
    pid_t middle = fork();
    if (middle == 0) {
        struct parent p = {.child.exited = child_exited};
        int rc = loop_new(&(struct loop_options){.name = "middle"}, &p.loop, NULL);
        struct loop_spawn_options opt = {.fds = &ends[1], .fd_count = 1};
        rc = rc < 0 ? rc : run_shell(&p, "exec sleep 1000", opt);
        _exit(rc < 0 ? 1 : 0);
    }
    close(ends[1]);
    int status = -1;
    CHECK_EQ(waitpid(middle, &status, 0), middle);
    CHECK_EQ(status, 0);
    char c;
    CHECK_EQ(read(ends[0], &c, 1), 0);
    close(ends[0]);
}

/* As after an exec of the parent: nobody here has spawned it. */
TEST(child_of_a_former_program_is_adopted)
{
    struct parent p;
    parent_init(&p);
    for (int i = 0; i < 2; i++) { /* one that runs, one that has ended already */
        pid_t pid = fork();
        if (pid == 0) {
            if (i == 0) {
                (void)pause();
            }
            _exit(6);
        }
        if (i == 1) {
            siginfo_t info;
            CHECK_OK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
        }
        CHECK_OK(loop_child_adopt(p.loop, pid, &p.child));
        CHECK_EQ(p.child.pid, pid);
        if (i == 0) {
            CHECK_OK(loop_child_signal(p.loop, &p.child, SIGKILL));
        }
        (void)loop_run(p.loop);
        CHECK_EQ(p.status, i == 0 ? -SIGKILL : 6);
        CHECK_RC(loop_child_adopt(p.loop, pid, &p.child), ESRCH);
    }
    CHECK_EQ(p.exits, 2);
    CHECK_RC(loop_child_adopt(p.loop, 0, &p.child), ESRCH);
    loop_free(p.loop);
}

/* --- signals --- */

struct watcher {
    struct loop *loop;
    struct loop_signal signal;
    struct watcher *rival;
    unsigned caught;
};

static void caught(struct loop_signal *s, int signo)
{
    struct watcher *w = container_of(s, struct watcher, signal);
    CHECK_EQ(signo, SIGUSR1);
    w->caught++;
    if (w->rival != NULL) {
        loop_signal_remove(w->loop, &w->rival->signal);
    }
}

TEST(signal_reaches_all_watches)
{
    CLEANUP(loop_freep) struct loop *l = NULL;
    CHECK_OK(loop_new(&(struct loop_options){.name = "signals"}, &l, NULL));
    struct watcher w[3];
    for (unsigned i = 0; i < 3; i++) {
        w[i] = (struct watcher){.loop = l, .signal = {.caught = caught, .signo = SIGUSR1}};
        CHECK_OK(loop_signal_add(l, &w[i].signal));
    }
    CHECK_OK(kill(getpid(), SIGUSR1));
    loop_run_once(l, 20000000000ull);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ(w[i].caught, 1);
    }
    w[0].rival = &w[2]; /* removed by the first, before its own turn */
    CHECK_OK(kill(getpid(), SIGUSR1));
    loop_run_once(l, 20000000000ull);
    CHECK_EQ(w[0].caught, 2);
    CHECK_EQ(w[1].caught, 2);
    CHECK_EQ(w[2].caught, 1);
    loop_signal_remove(l, &w[0].signal);
    loop_signal_remove(l, &w[1].signal);
    loop_signal_remove(l, &w[1].signal); /* fine twice */
    CHECK_OK(kill(getpid(), SIGUSR1));   /* stays blocked: does not end us */
    loop_run_once(l, 0);
    CHECK_EQ(w[0].caught, 2);
    CHECK_OK(loop_signal_add(l, &w[0].signal)); /* and is not lost */
    loop_run_once(l, 20000000000ull);
    CHECK_EQ(w[0].caught, 3);
    loop_signal_remove(l, &w[0].signal);
}
