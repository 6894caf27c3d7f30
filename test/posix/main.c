/*
 * usage: posix_suite [--list] [--only NAME]... [--but NAME]... [--second DIR2] [--seconds N] DIR
 * See README.md of this folder.
 */
#include "suite.h"
#include <fnmatch.h>
#include <fts.h>
#include <getopt.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

struct run {
    const char *dir[2];     /* as given; the second may be NULL */
    char root[2][PATH_MAX]; /* this run's own directory, through each mount */
    const char *only[64], *but[64];
    size_t only_count, but_count;
    int seconds; /* that a test may take */
    int passed, failed, skipped;
    bool stuck; /* a process cannot be killed: the file system does not answer, and nothing more is
                   asked */
};

static bool wanted(const struct run *r, const char *name)
{
    bool yes = r->only_count == 0;
    for (size_t i = 0; i < r->only_count; i++) {
        yes = yes || fnmatch(r->only[i], name, 0) == 0;
    }
    for (size_t i = 0; i < r->but_count; i++) {
        yes = yes && fnmatch(r->but[i], name, 0) != 0;
    }
    return yes;
}

/* Runs the function in a process and group of its own; its exit status, or -1 if it did not end in
 * time, or by a signal. */
static int bounded(struct run *r, void (*run)(void *), void *arg, char *why, size_t size)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        run(arg);
        _exit(0);
    }
    if (pid < 0) {
        snprintf(why, size, "fork: %s", strerror(errno));
        return -1;
    }
    setpgid(pid, pid);
    struct pollfd p = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    bool ended = poll(&p, 1, r->seconds * 1000) > 0;
    if (!ended) {
        snprintf(why, size, "hangs: no end after %d seconds", r->seconds);
    }
    kill(-pid, SIGKILL); /* this group is ours: the process has not been waited for */
    bool gone = poll(&p, 1, 10000) > 0;
    close(p.fd);
    int status = 0;
    if (!gone) {
        snprintf(why, size, "hangs, and cannot be killed: no more tests");
        r->stuck = true;
        return -1;
    }
    waitpid(pid, &status, 0);
    if (ended && WIFSIGNALED(status)) {
        snprintf(why, size, "ended by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    }
    return ended && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

struct one {
    const struct test *test;
    const char *dir[2];
    int report;
};

static int open_dir(const char *path, int report)
{
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (path != NULL && (fd < 0 || fchdir(fd) < 0)) {
        dprintf(report, "%s: expected the directory of the test, saw %s\n", path,
                strerrorname_np(errno));
        _exit(EXIT_FAIL);
    }
    return fd;
}

static void run_test(void *arg)
{
    struct one *o = arg;
    umask(022);
    if (mkdir(o->dir[0], 0755) < 0) { /* here, where the time is bounded */
        dprintf(o->report, "mkdir %s: expected success, saw %s\n", o->dir[0],
                strerrorname_np(errno));
        _exit(EXIT_FAIL);
    }
    int second = open_dir(o->dir[1], o->report);
    int first = open_dir(o->dir[0], o->report);
    suite_begin_test(first, second, o->report);
    o->test->run();
}

/* A tree with paths beyond PATH_MAX and directories without permissions. */
static void remove_tree(void *arg)
{
    char *roots[] = {arg, NULL};
    FTS *fts = fts_open(roots, FTS_PHYSICAL, NULL);
    int bad = fts == NULL;
    for (FTSENT *e; fts != NULL && (e = fts_read(fts)) != NULL;) {
        int rc = 0;
        if (e->fts_info == FTS_D) {
            chmod(e->fts_accpath, 0700);
        } else if (e->fts_info == FTS_DNR) {
            rc = chmod(e->fts_accpath, 0700) < 0 ? -1 : fts_set(fts, e, FTS_AGAIN);
            rc = rc < 0 ? -1 : 0;
        } else if (e->fts_info == FTS_DP) {
            rc = rmdir(e->fts_accpath);
        } else {
            rc = unlink(e->fts_accpath);
        }
        bad += rc < 0;
    }
    _exit(bad == 0 ? 0 : 1);
}

static void last_line(int fd, char *why, size_t size)
{
    char text[4000];
    ssize_t n = read(fd, text, sizeof text - 1);
    if (n > 0) {
        text[n] = '\0';
        snprintf(why, size, "%.*s", (int)strcspn(text, "\n"), text); /* the first has been first */
    }
}

static void one_test(struct run *r, const struct test *t)
{
    char path[2][PATH_MAX + 100];
    char why[1200] = "ended without a word";
    int said[2];
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s", r->root[i], t->name);
    }
    if (pipe2(said, O_CLOEXEC | O_NONBLOCK) < 0) {
        printf("FAIL %s: main.c:%d: pipe: %s\n", t->name, __LINE__, strerrorname_np(errno));
        r->failed++;
        return;
    }
    struct one o = {
        .test = t, .dir = {path[0], r->dir[1] != NULL ? path[1] : NULL}, .report = said[1]};
    int rc = bounded(r, run_test, &o, why, sizeof why);
    if (rc > 0) {
        last_line(said[0], why, sizeof why);
    }
    close(said[0]);
    close(said[1]);
    char left[200] = "something is left that cannot be removed";
    int gone = r->stuck ? 0 : bounded(r, remove_tree, path[0], left, sizeof left);
    if (rc == EXIT_SKIP) {
        printf("skip %s: %s\n", t->name, why);
        r->skipped++;
    } else if (rc != 0) {
        printf("FAIL %s: %s\n", t->name, why);
        r->failed++;
    } else if (gone != 0) {
        printf("FAIL %s: main.c:%d: %s\n", t->name, __LINE__, left);
        r->failed++;
    } else {
        printf("ok %s\n", t->name);
        r->passed++;
    }
}

static int usage(void)
{
    fputs("usage: posix_suite [--list] [--only NAME]... [--but NAME]... [--second DIR2] [--seconds "
          "N] "
          "DIR\n",
          stderr);
    return 2;
}

static int list_tests(const struct run *r)
{
    for (const struct test *t = tests; t != NULL; t = t->next) {
        if (wanted(r, t->name)) {
            puts(t->name);
        }
    }
    return 0;
}

static int run_all(struct run *r)
{
    snprintf(r->root[0], sizeof r->root[0], "%s/posix.XXXXXX", r->dir[0]);
    if (mkdtemp(r->root[0]) == NULL || chmod(r->root[0], 0755) < 0) {
        fprintf(stderr, "posix_suite: %s: %s\n", r->root[0], strerror(errno));
        return 2;
    }
    snprintf(r->root[1], sizeof r->root[1], "%s%s", r->dir[1] != NULL ? r->dir[1] : "",
             strrchr(r->root[0], '/'));
    for (const struct test *t = tests; t != NULL && !r->stuck; t = t->next) {
        if (wanted(r, t->name)) {
            one_test(r, t);
        }
    }
    if (!r->stuck && rmdir(r->root[0]) < 0) {
        printf("FAIL suite: main.c:%d: rmdir %s: expected success, saw %s\n", __LINE__, r->root[0],
               strerrorname_np(errno));
        r->failed++;
    }
    printf("%d passed, %d failed, %d skipped\n", r->passed, r->failed, r->skipped);
    return r->failed > 0 || r->passed + r->skipped == 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"list", no_argument, NULL, 'l'},          {"only", required_argument, NULL, 'o'},
        {"but", required_argument, NULL, 'b'},     {"second", required_argument, NULL, '2'},
        {"seconds", required_argument, NULL, 's'}, {NULL, 0, NULL, 0}};
    static struct run r = {.seconds = 60};
    bool list = false;
    setvbuf(stdout, NULL, _IOLBF, 0); /* what hangs is seen to hang */
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'l') {
            list = true;
        } else if (c == 'o' && r.only_count < COUNT(r.only)) {
            r.only[r.only_count++] = optarg;
        } else if (c == 'b' && r.but_count < COUNT(r.but)) {
            r.but[r.but_count++] = optarg;
        } else if (c == '2') {
            r.dir[1] = realpath(optarg, NULL);
        } else if (c == 's' && atoi(optarg) > 0) {
            r.seconds = atoi(optarg);
        } else {
            return usage();
        }
        if (c == '2' && r.dir[1] == NULL) {
            perror(optarg);
            return 2;
        }
    }
    if (list) {
        return list_tests(&r);
    }
    if (optind + 1 != argc) {
        return usage();
    }
    r.dir[0] = realpath(argv[optind], NULL);
    if (r.dir[0] == NULL) {
        perror(argv[optind]);
        return 2;
    }
    return run_all(&r);
}
