/* loop/self_test.c -- a real process and itself; what cannot be undone happens in a child. */
#include "loop/self.h"

#include "base/mem.h"
#include "testing/testing.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATH_SIZE 600u

/* Exit code of what `run` does in a process of its own. */
static int in_child(int (*run)(void *ctx), void *ctx)
{
    pid_t pid = fork();
    if (pid == 0) {
        _exit(run(ctx));
    }
    int status = -1;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(self_knows_its_executable)
{
    char path[PATH_SIZE], small[4];
    CHECK_OK(loop_self_path(path, sizeof path));
    CHECK_EQ(access(path, X_OK), 0);
    CHECK_TRUE(strstr(path, "self_test") != NULL);
    CHECK_RC(loop_self_path(small, sizeof small), ENAMETOOLONG);
}

static int paths_are_absolute(void *ctx)
{
    (void)ctx;
    char here[PATH_SIZE];
    bool good = chdir("/usr/bin") == 0 && getcwd(here, sizeof here) != NULL;
    CLEANUP(mem_freep) char *of_here = loop_self_absolute("a/b");
    CLEANUP(mem_freep) char *absolute = loop_self_absolute("/a");
    CLEANUP(mem_freep) char *expected = mem_printf("%s/a/b", here);
    good = good && of_here != NULL && expected != NULL && strcmp(of_here, expected) == 0;
    good = good && absolute != NULL && strcmp(absolute, "/a") == 0 && loop_self_leave() == 0;
    good = good && getcwd(here, sizeof here) != NULL && strcmp(here, "/") == 0;
    CLEANUP(mem_freep) char *of_root = loop_self_absolute("a");
    return good && of_root != NULL && strcmp(of_root, "/a") == 0 ? 0 : 1;
}

TEST(self_names_paths_as_they_are_everywhere_and_leaves_its_directory)
{
    CHECK_EQ(in_child(paths_are_absolute, NULL), 0);
}

/* Prints its path when the executable is gone: the name that it had. */
static int path_of_removed(void *ctx)
{
    char path[PATH_SIZE];
    const char *copy = ctx;
    return loop_self_path(path, sizeof path) == 0 && strcmp(path, copy) == 0 ? 0 : 1;
}

static int exec_copy(void *ctx)
{
    const char *copy = ctx;
    const char *const argv[] = {copy, "--only", "self_is_found_where_it_was", NULL};
    struct loop_self_program p = {
        .path = copy, .argv = argv, .name = "OPENDFS_TEST_COPY", .value = copy};
    return -loop_self_exec(&p, NULL);
}

static bool copy_file(const char *from, const char *to)
{
    char bytes[65536];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    ssize_t n = in < 0 || out < 0 ? -1 : read(in, bytes, sizeof bytes);
    while (n > 0 && write(out, bytes, (size_t)n) == n) {
        n = read(in, bytes, sizeof bytes);
    }
    close(in);
    close(out);
    return n == 0;
}

/* In the copy, which has been removed meanwhile, this test is run again. */
TEST(self_is_found_where_it_was)
{
    CLEANUP(mem_freep) char *copy = loop_self_take("OPENDFS_TEST_COPY");
    if (copy != NULL) {
        CHECK_TRUE(loop_self_take("OPENDFS_TEST_COPY") == NULL); /* once */
        CHECK_OK(unlink(copy));
        CHECK_OK(path_of_removed(copy));
        return;
    }
    char path[PATH_SIZE], to[PATH_SIZE];
    CHECK_OK(loop_self_path(path, sizeof path));
    (void)snprintf(to, sizeof to, "%s/copy", testing_directory());
    CHECK_TRUE(copy_file(path, to));
    CHECK_EQ(in_child(exec_copy, to), 0);
    CHECK_EQ(access(to, F_OK), -1);
}

static size_t size_of(const char *path)
{
    char text[64];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
    if (fd >= 0) {
        close(fd);
    }
    return n < 0 ? 0 : (size_t)n;
}

static int log_twice(void *ctx)
{
    const char *path = ctx;
    char old[PATH_SIZE];
    struct err e = {0};
    (void)snprintf(old, sizeof old, "%s.1", path);
    if (loop_self_log(path, &e) < 0 || write(2, "one\n", 4) != 4 || rename(path, old) < 0 ||
        write(2, "two\n", 4) != 4 || loop_self_log(path, &e) < 0 || write(2, "three\n", 6) != 6) {
        return 1;
    }
    /* A place where there is none: the log stays where it is. */
    int rc = loop_self_log("/nowhere/log", &e);
    bool good = rc == -ENOENT && strstr(e.text, "/nowhere/log") != NULL;
    return good && write(2, "four\n", 5) == 5 && size_of(old) == 8 && size_of(path) == 11 ? 0 : 2;
}

TEST(self_opens_its_log_anew)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "%s/log", testing_directory());
    CHECK_EQ(in_child(log_twice, path), 0);
}

static int exec_nothing(void *ctx)
{
    int *fds = ctx;
    struct err e = {0};
    const char *const argv[] = {"/nowhere/at/all", NULL};
    struct loop_self_program p = {.path = argv[0],
                                  .argv = argv,
                                  .fds = fds,
                                  .fd_count = 1,
                                  .name = "OPENDFS_TEST",
                                  .value = "left"};
    int rc = loop_self_exec(&p, &e);
    bool closed = (fcntl(fds[0], F_GETFD) & FD_CLOEXEC) != 0;
    return rc == -ENOENT && strstr(e.text, argv[0]) != NULL && closed &&
                   loop_self_take("OPENDFS_TEST") == NULL
               ? 0
               : 1;
}

static int exec_shell(void *ctx)
{
    int *fds = ctx;
    char script[200];
    (void)snprintf(script, sizeof script,
                   "test -e /proc/self/fd/%d || exit 1; test -e /proc/self/fd/%d && exit 2; "
                   "test \"$OPENDFS_TEST\" = 'a b' || exit 3; test $$ = %d || exit 4; exit 7",
                   fds[0], fds[1], (int)getpid());
    const char *const argv[] = {"/bin/sh", "-c", script, NULL};
    struct loop_self_program p = {.path = argv[0],
                                  .argv = argv,
                                  .fds = fds,
                                  .fd_count = 1,
                                  .name = "OPENDFS_TEST",
                                  .value = "a b"};
    return -loop_self_exec(&p, NULL);
}

TEST(self_becomes_another_program_with_what_it_is_given)
{
    int fds[2];
    CHECK_OK(pipe2(fds, O_CLOEXEC));
    CHECK_EQ(in_child(exec_shell, fds), 7);
    CHECK_EQ(in_child(exec_nothing, fds), 0);
    close(fds[0]);
    close(fds[1]);
}

static uid_t owner_of(const char *path)
{
    struct stat st = {.st_uid = (uid_t)-1};
    (void)lstat(path, &st);
    return st.st_uid;
}

/* What only looks like a log of root's: a second name, or a link, may be of any file. */
TEST(self_gives_its_log_away_and_no_other_file)
{
    char log[PATH_SIZE], other[PATH_SIZE], second[PATH_SIZE], link_to[PATH_SIZE];
    struct err e = {0};
    (void)snprintf(log, sizeof log, "%s/given", testing_directory());
    (void)snprintf(other, sizeof other, "%s/other", testing_directory());
    (void)snprintf(second, sizeof second, "%s/second", testing_directory());
    (void)snprintf(link_to, sizeof link_to, "%s/link", testing_directory());
    CHECK_RC(loop_self_give_log(log, "nobody", &e), ENOENT);
    CHECK_TRUE(strstr(e.text, log) != NULL);
    int fd = open(log, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    int fd2 = open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    CHECK_TRUE(fd >= 0 && fd2 >= 0);
    CHECK_OK(link(other, second));
    CHECK_OK(symlink(log, link_to));
    CHECK_RC(loop_self_give_log(log, "no-such-user-here", &e), ENOENT);
    uid_t own = geteuid();
    CHECK_OK(loop_self_give_log(second, "nobody", &e));
    CHECK_EQ(owner_of(other), own);
    CHECK_OK(loop_self_give_log(link_to, "nobody", &e));
    CHECK_EQ(owner_of(log), own);
    CHECK_OK(loop_self_give_log(log, "nobody", &e)); /* not root's, if this is not root: it stays */
    CHECK_TRUE((owner_of(log) == own) == !loop_self_is_root());
    close(fd);
    close(fd2);
}

static int become_nobody(void *ctx)
{
    const char *user = ctx;
    struct err e = {0};
    if (loop_self_become(user, &e) < 0) {
        (void)fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    bool gone = !loop_self_is_root() && setuid(0) < 0 && setgid(0) < 0;
    bool locked = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
    bool again = loop_self_become(user, &e) == 0 && loop_self_become("root", &e) == -EPERM;
    return gone && locked && again ? 0 : 2;
}

TEST(self_gives_up_being_root)
{
    char nobody[] = "nobody";
    struct err e = {0};
    CHECK_RC(loop_self_become("no-such-user-here", &e), ENOENT);
    CHECK_TRUE(strstr(e.text, "no-such-user-here") != NULL);
    if (loop_self_is_root()) {
        CHECK_EQ(in_child(become_nobody, nobody), 0);
    } else {
        CHECK_RC(loop_self_become("root", &e), EPERM);
    }
}
