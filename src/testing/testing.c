/*
 * testing/testing.c -- registration, the run, torture and the checks. See testing.h.
 *
 * cmocka runs the cases (it owns the jump out of a failed one); this file decides which cases,
 * counts, and cleans up. The registry and the current run are file-scope: constructors fill the one
 * before main(), and a program has only one of the other.
 */
#include "testing/testing.h"

#include "base/mem.h"

#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include <cmocka.h>

#define TORTURE_RUNS_MAX \
    20000u /* a test that allocates more often than this is too big for torture */
#define DIRECTORY_FDS_MAX 16
#define BYTES_SHOWN 16u

/* Without LeakSanitizer in the program this is NULL. */
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static const int testing_signals[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGSYS};

enum testing_outcome { TESTING_FAILED, TESTING_PASSED, TESTING_SKIPPED };

static struct {
    struct testing_case *first, **link;
    const char *program, *only;
    uint64_t seed;
    bool torture, list;
    bool leaked;       /* by a case before: the same would be found after each case that follows */
    unsigned count[3]; /* by outcome */
    struct sigaction before[ARRAY_COUNT(testing_signals)];
    /* Of the case that runs: */
    const struct testing_case *current;
    enum testing_outcome outcome; /* failed until it is known to have ended otherwise */
    uint64_t failing;             /* the allocation that fails in this run; 0: none */
    char directory[4096];         /* empty: none was made */
} run;

void testing_register(struct testing_case *c)
{
    if (run.link == NULL) {
        run.link = &run.first;
    }
    *run.link = c;
    run.link = &c->next;
}

uint64_t testing_seed(void)
{
    return run.seed;
}

bool testing_torturing(void)
{
    return run.failing != 0;
}

/* ---- the directory of a test ---- */

static int directory_remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)at;
    if (kind == FTW_DNR) {
        (void)chmod(path,
                    S_IRWXU); /* a test took its own permissions away; the next pass gets in */
    }
    (void)remove(path);
    return 0;
}

static void directory_remove(void)
{
    for (unsigned pass = 0; pass < 3 && run.directory[0] != 0; pass++) {
        /* NOLINTNEXTLINE(concurrency-mt-unsafe): the runner is one thread */
        (void)nftw(run.directory, directory_remove_one, DIRECTORY_FDS_MAX, FTW_DEPTH | FTW_PHYS);
        if (access(run.directory, F_OK) != 0) {
            run.directory[0] = 0;
        }
    }
    if (run.directory[0] != 0) {
        (void)fprintf(stderr, "cannot remove %s\n", run.directory);
        run.directory[0] = 0;
    }
}

const char *testing_directory(void)
{
    if (run.directory[0] == 0) {
        /* NOLINTNEXTLINE(concurrency-mt-unsafe): the runner is one thread */
        const char *top = getenv("TMPDIR");
        char path[sizeof run.directory];
        int len = snprintf(path, sizeof path, "%s/odfs-test-XXXXXX",
                           top != NULL && top[0] == '/' ? top : "/tmp");
        testing_check(len > 0 && (size_t)len < sizeof path, "TMPDIR is short enough", __FILE__,
                      __LINE__);
        /* NOLINTNEXTLINE(concurrency-mt-unsafe): the runner is one thread */
        testing_check(mkdtemp(path) != NULL, "mkdtemp below TMPDIR or /tmp", __FILE__, __LINE__);
        memcpy(run.directory, path, sizeof path);
    }
    return run.directory;
}

/* ---- checks ---- */

NORETURN static void check_failed(const char *file, int line)
{
    mem_fail_at(0);
    if (run.failing != 0) {
        print_error("with allocation %" PRIu64 " of the test failing\n", run.failing);
    }
    _fail(file, line);
    abort(); /* not reached: cmocka jumps out of the test */
}

void testing_failed(const char *what, const char *file, int line)
{
    print_error("not so: %s\n", what);
    check_failed(file, line);
}

void testing_check_eq(int64_t a, int64_t b, const char *ta, const char *tb, const char *file,
                      int line)
{
    if (a != b) {
        print_error("%s is %" PRId64 " (0x%" PRIx64 "), not %" PRId64 " (0x%" PRIx64 ", %s)\n", ta,
                    a, (uint64_t)a, b, (uint64_t)b, tb);
        check_failed(file, line);
    }
}

void testing_check_rc(int rc, int expected, const char *what, const char *file, int line)
{
    bool good = rc == expected || (expected == 0 && rc > 0);
    if (!good) {
        print_error("%s is %d (%s: %s), not %d (%s)\n", what, rc, rc < 0 ? err_name(rc) : "success",
                    rc < 0 ? err_text(rc) : "", expected,
                    expected < 0 ? err_name(expected) : "success");
        check_failed(file, line);
    }
}

void testing_check_class(int rc, int class_code, const char *what, const char *file, int line)
{
    if (rc >= 0 || !err_is(rc, class_code)) {
        print_error("%s is %d (%s), not of class %s\n", what, rc, rc < 0 ? err_name(rc) : "success",
                    err_name(-class_code));
        check_failed(file, line);
    }
}

bool testing_try_failed(int rc, const char *what, const char *file, int line)
{
    if (run.failing != 0 && rc < 0 && err_is(rc, ENOMEM)) {
        return true;
    }
    testing_check_rc(rc, 0, what, file, line);
    return false;
}

void testing_check_text(const char *a, const char *b, const char *what, const char *file, int line)
{
    bool good = a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
    if (!good) {
        print_error("%s is \"%s\",\nnot \"%s\"\n", what, a != NULL ? a : "(NULL)",
                    b != NULL ? b : "(NULL)");
        check_failed(file, line);
    }
}

static void print_bytes(const char *label, const uint8_t *at, size_t from, size_t len)
{
    char text[BYTES_SHOWN * 3 + 1] = "";
    size_t count = base_min(len - from, BYTES_SHOWN);
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(text + 3 * i, 4, " %02x", at[from + i]);
    }
    print_error("  %s%s\n", label, text);
}

void testing_check_bytes(const void *a, const void *b, size_t len, const char *what,
                         const char *file, int line)
{
    const uint8_t *left = a, *right = b;
    size_t same = 0;
    while (same < len && left[same] == right[same]) {
        same++;
    }
    if (same < len) {
        print_error("%s differs from byte %zu of %zu on:\n", what, same, len);
        print_bytes("is ", left, same, len);
        print_bytes("not", right, same, len);
        check_failed(file, line);
    }
}

void testing_skip(const char *reason)
{
    (void)printf("skipped: %s\n", reason);
    mem_fail_at(0);
    run.outcome = TESTING_SKIPPED;
    _skip(__FILE__, __LINE__);
    abort(); /* not reached: cmocka jumps out of the test */
}

/* ---- the run ---- */

static void torture_case(const struct testing_case *c)
{
    bool reached = true;
    for (uint64_t nth = 1; reached; nth++) {
        testing_check(nth <= TORTURE_RUNS_MAX, "the test allocates seldom enough for torture",
                      c->file, 0);
        run.failing = nth;
        uint64_t before = mem_count();
        mem_fail_at(nth);
        c->run();
        mem_fail_at(0);
        reached = mem_count() - before >= nth;
        run.failing = 0;
        directory_remove();
    }
}

/*
 * cmocka turns signals into failed tests by jumping out of the handler. The handlers from before (a
 * sanitizer's report, or a core) say more and do not go on with a broken heap.
 */
static void signals_restore(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(testing_signals); i++) {
        (void)sigaction(testing_signals[i], &run.before[i], NULL);
    }
}

static void run_case(void **state)
{
    const struct testing_case *c = *state;
    signals_restore();
    c->run();
    directory_remove();
    if (run.torture && c->torture) {
        torture_case(c);
    }
    if (__lsan_do_recoverable_leak_check != NULL && !run.leaked) {
        run.leaked = __lsan_do_recoverable_leak_check() != 0;
        testing_check(!run.leaked, "no leak", c->file, 0);
    }
    run.outcome = TESTING_PASSED;
}

static int before_case(void **state)
{
    run.current = *state;
    run.outcome = TESTING_FAILED;
    run.failing = 0;
    return 0;
}

/* cmocka calls it after a failure too. */
static int after_case(void **state)
{
    (void)state;
    mem_fail_at(0);
    run.failing = 0;
    directory_remove();
    run.count[run.outcome]++;
    if (run.outcome == TESTING_FAILED) {
        print_error("repeat: %s --seed %" PRIu64 " --only %s%s\n", run.program, run.seed,
                    run.current->name, run.torture ? " --torture" : "");
    }
    return 0;
}

static bool parse_seed(const char *text)
{
    char *end = NULL;
    errno = 0;
    run.seed = strtoull(text, &end, 0);
    return text[0] != 0 && *end == 0 && errno == 0;
}

static bool parse_options(int argc, char **argv)
{
    static const struct option options[] = {{"seed", required_argument, NULL, 's'},
                                            {"only", required_argument, NULL, 'o'},
                                            {"torture", no_argument, NULL, 't'},
                                            {"list", no_argument, NULL, 'l'},
                                            {NULL, 0, NULL, 0}};
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): the runner is one thread */
    const char *seed = getenv("OPENDFS_SEED");
    bool good = getrandom(&run.seed, 4, 0) == 4; /* 4 bytes: short enough to type again */
    good = good && (seed == NULL || parse_seed(seed));
    run.program = argv[0];
    for (int c = 0; good && c != -1;) {
        /* NOLINTNEXTLINE(concurrency-mt-unsafe): the runner is one thread */
        c = getopt_long(argc, argv, "", options, NULL);
        run.torture = run.torture || c == 't';
        run.list = run.list || c == 'l';
        run.only = c == 'o' ? optarg : run.only;
        good = c != '?' && (c != 's' || parse_seed(optarg));
    }
    return good && optind == argc;
}

static size_t select_cases(struct CMUnitTest *tests)
{
    size_t count = 0;
    for (struct testing_case *c = run.first; c != NULL; c = c->next) {
        if (run.only != NULL && strcmp(run.only, c->name) != 0) {
            continue;
        }
        if (tests != NULL) {
            tests[count] = (struct CMUnitTest){.name = c->name,
                                               .test_func = run_case,
                                               .setup_func = before_case,
                                               .teardown_func = after_case,
                                               .initial_state = c};
        }
        count++;
    }
    return count;
}

static int list_cases(void)
{
    for (const struct testing_case *c = run.first; c != NULL; c = c->next) {
        (void)printf("%s%s\n", c->name, c->torture ? " (torture)" : "");
    }
    return 0;
}

int testing_main(int argc, char **argv)
{
    if (!parse_options(argc, argv)) {
        (void)fprintf(stderr, "usage: %s [--seed N] [--only NAME] [--torture] [--list]\n", argv[0]);
        return 2;
    }
    if (run.list) {
        return list_cases();
    }
    (void)setvbuf(stdout, NULL, _IOLBF, 0); /* a crash shows what ran before it */
    size_t count = select_cases(NULL);
    struct CMUnitTest *tests = count > 0 ? mem_calloc(count, sizeof *tests) : NULL;
    if (tests == NULL) {
        (void)fprintf(stderr, "no such test\n");
        return 2;
    }
    (void)select_cases(tests);
    for (size_t i = 0; i < ARRAY_COUNT(testing_signals); i++) {
        (void)sigaction(testing_signals[i], NULL, &run.before[i]);
    }
    int failed = _cmocka_run_group_tests(run.program, tests, count, NULL, NULL);
    mem_free(tests);
    (void)fflush(stderr);
    (void)printf("%u passed, %u failed, %u skipped\n", run.count[TESTING_PASSED],
                 run.count[TESTING_FAILED], run.count[TESTING_SKIPPED]);
    bool good = failed == 0 && run.count[TESTING_FAILED] == 0;
    return good ? 0 : 1;
}
