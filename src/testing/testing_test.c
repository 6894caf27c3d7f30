#include "testing/testing.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BAD_CASES "OPENDFS_TESTING_BAD_CASES"

/* ---- cases that go wrong on purpose: registered only in the child that runs them ---- */

static void bad_eq(void)
{
    CHECK_EQ(1 + 1, 3);
}

static void bad_true(void)
{
    CHECK_TRUE(1 + 1 == 3);
}

static void bad_rc(void)
{
    CHECK_OK(-ERR_corrupt);
}

static void bad_class(void)
{
    CHECK_ERR(-ERR_corrupt, EAGAIN);
}

static void bad_text(void)
{
    CHECK_TEXT("one", NULL);
}

static void bad_bytes(void)
{
    CHECK_BYTES("abc", "abd", 3);
}

static void bad_try(void)
{
    TRY(-ENOMEM); /* nobody made it fail */
}

static void bad_directory(void)
{
    char path[4200];
    (void)snprintf(path, sizeof path, "%s/left", testing_directory());
    CHECK_EQ(mkdir(path, 0700), 0);
    (void)printf("directory %s\n", testing_directory());
    CHECK_TRUE(false);
}

static void skips(void)
{
    testing_skip("no reason");
}

static void crashes(void)
{
    CHECK(1 + 1 == 3);
}

static void passes(void)
{
    CHECK_EQ(testing_seed(), 77);
}

static struct testing_case bad_cases[] = {
    {.name = "bad_eq", .run = bad_eq},     {.name = "bad_true", .run = bad_true},
    {.name = "bad_rc", .run = bad_rc},     {.name = "bad_class", .run = bad_class},
    {.name = "bad_text", .run = bad_text}, {.name = "bad_bytes", .run = bad_bytes},
    {.name = "bad_try", .run = bad_try},   {.name = "bad_directory", .run = bad_directory},
    {.name = "skips", .run = skips},       {.name = "passes", .run = passes},
    {.name = "crashes", .run = crashes},
};

__attribute__((constructor)) static void bad_cases_register(void)
{
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): before main() */
    bool wanted = getenv(BAD_CASES) != NULL;
    for (size_t i = 0; i < ARRAY_COUNT(bad_cases) && wanted; i++) {
        bad_cases[i].file = __FILE__;
        testing_register(&bad_cases[i]);
    }
}

/* ---- the runner runs them ---- */

struct child {
    char output[16384]; /* standard output and error */
    int status;         /* as of waitpid */
};

/* This program again with `options` and the cases from above. */
static void run_child(struct child *c, const char *options)
{
    char self[4096], command[8192];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK_TRUE(len > 0);
    self[len] = 0;
    (void)snprintf(command, sizeof command, "ulimit -c 0; " BAD_CASES "=1 '%s' --seed 77 %s 2>&1",
                   self, options);
    /* NOLINTNEXTLINE(cert-env33-c): the command is this program itself */
    FILE *f = popen(command, "r");
    CHECK_TRUE(f != NULL);
    size_t got = fread(c->output, 1, sizeof c->output - 1, f);
    c->output[got] = 0;
    c->status = pclose(f);
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

TEST(testing_fails_on_each_kind_of_check)
{
    static const struct {
        const char *name, *says;
    } expected[] = {
        {"bad_eq", "1 + 1 is 2 (0x2), not 3 (0x3, 3)"},
        {"bad_true", "not so: 1 + 1 == 3"},
        {"bad_rc", "ERR_corrupt"},
        {"bad_class", "not of class EAGAIN"},
        {"bad_text", "is \"one\",\nnot \"(NULL)\""},
        {"bad_bytes", "from byte 2 of 3"},
        {"bad_try", "ENOMEM"},
        {"bad_directory", "not so: false"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(expected); i++) {
        struct child c;
        char options[64], repeat[64];
        (void)snprintf(options, sizeof options, "--only %s", expected[i].name);
        (void)snprintf(repeat, sizeof repeat, "--seed 77 --only %s\n", expected[i].name);
        run_child(&c, options);
        CHECK_TRUE(WIFEXITED(c.status));
        CHECK_EQ(WEXITSTATUS(c.status), 1);
        CHECK_TRUE(strstr(c.output, expected[i].says) != NULL);
        CHECK_TRUE(strstr(c.output, repeat) != NULL);
        CHECK_TRUE(ends_with(c.output, "\n0 passed, 1 failed, 0 skipped\n"));
    }
}

TEST(testing_counts_what_was_skipped_and_what_passed)
{
    struct child c;
    run_child(&c, "--only skips");
    CHECK_EQ(c.status, 0);
    CHECK_TRUE(strstr(c.output, "skipped: no reason\n") != NULL);
    CHECK_TRUE(ends_with(c.output, "\n0 passed, 0 failed, 1 skipped\n"));
    run_child(&c, "--only passes");
    CHECK_EQ(c.status, 0);
    CHECK_TRUE(ends_with(c.output, "\n1 passed, 0 failed, 0 skipped\n"));
}

TEST(testing_does_not_hide_a_crash)
{
    struct child c;
    run_child(&c, "--only crashes");
    CHECK_TRUE(c.status != 0);
    CHECK_TRUE(strstr(c.output, "1 + 1 == 3") != NULL);
    CHECK_TRUE(strstr(c.output, "passed,") == NULL);
}

TEST(testing_removes_the_directory_of_a_failed_test)
{
    struct child c;
    run_child(&c, "--only bad_directory");
    char *path = strstr(c.output, "directory /");
    CHECK_TRUE(path != NULL);
    path += strlen("directory ");
    path[strcspn(path, "\n")] = 0;
    CHECK_EQ(access(path, F_OK), -1);
    CHECK_EQ(errno, ENOENT);
}

TEST(testing_refuses_what_it_does_not_know)
{
    struct child c;
    run_child(&c, "--only nothing_of_that_name");
    CHECK_EQ(WEXITSTATUS(c.status), 2);
    run_child(&c, "--unknown");
    CHECK_EQ(WEXITSTATUS(c.status), 2);
    run_child(&c, "--seed 12x");
    CHECK_EQ(WEXITSTATUS(c.status), 2);
}

TEST(testing_directory_is_empty_and_stays_the_same)
{
    struct stat st;
    const char *path = testing_directory();
    CHECK_EQ(stat(path, &st), 0);
    CHECK_TRUE(S_ISDIR(st.st_mode));
    CHECK_EQ(rmdir(path), 0); /* only an empty one goes */
    CHECK_EQ(mkdir(path, 0700), 0);
    CHECK_TEXT(testing_directory(), path);
}

/* ---- torture ---- */

static unsigned torture_reached[3]; /* how often the body went so far */

TEST_TORTURE(testing_tortures_each_allocation)
{
    torture_reached[0]++;
    CLEANUP(mem_freep) char *first = mem_alloc(1);
    TRY_PTR(first);
    torture_reached[1]++;
    CLEANUP(mem_freep) char *second = mem_alloc(1);
    TRY_PTR(second);
    torture_reached[2]++;
    CHECK_TRUE(testing_directory()[0] == '/');
}

/* Runs after the one above: with --torture once plain, then with the 1st, the 2nd and none failing.
 */
TEST(testing_tortured_until_nothing_failed)
{
    if (torture_reached[0] == 0) {
        testing_skip("--only");
    }
    bool tortured = torture_reached[0] > 1;
    CHECK_EQ(torture_reached[0], tortured ? 4 : 1);
    CHECK_EQ(torture_reached[1], tortured ? 3 : 1);
    CHECK_EQ(torture_reached[2], tortured ? 2 : 1);
}
