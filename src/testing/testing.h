/*
 * testing/testing.h -- the test runner: cmocka with seeds, torture and a summary line that CI adds
 * up.
 *
 *   TEST(dict_finds_what_was_inserted) { CHECK_EQ(...); }
 *
 * A test file holds TEST()s only; main() comes from libtesting. Options: --seed N (also from
 * OPENDFS_SEED), --only NAME, --list, --torture (each TEST_TORTURE runs again with every allocation
 * it makes failing in turn; it must end without crash or leak). The last line printed is "N passed,
 * N failed, N skipped"; the exit status is 1 when one failed. A crash (CHECK, signal, sanitizer)
 * ends the whole program, without that line. In a fuzz target main() replays the files and
 * directories it is given.
 *
 * CHECK_*, TRY and testing_* belong to the thread of the test: others hand their result over first.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

struct testing_case {
    const char *name, *file;
    void (*run)(void);
    bool torture;
    struct testing_case *next;
};
void testing_register(struct testing_case *c);

#define TESTING_CASE(test_name, with_torture)                                                     \
    static void test_name(void);                                                                  \
    __attribute__((constructor)) static void test_name##_register(void)                           \
    {                                                                                             \
        static struct testing_case test_case = {                                                  \
            .name = #test_name, .file = __FILE__, .run = (test_name), .torture = (with_torture)}; \
        testing_register(&test_case);                                                             \
    }                                                                                             \
    static void test_name(void)
#define TEST(name) TESTING_CASE(name, false)
/*
 * Runs once normally; under --torture again and again with the nth allocation failing, for n = 1,
 * 2, ... until a run makes fewer than n. How to write one: whatever the body owns is in a CLEANUP
 * local (or in an object that frees it), each call that may run out of memory is in TRY, an
 * allocator's NULL in TRY_PTR, and TRY leaves the test when it was the injected failure that came
 * back. What must still hold after a failure is checked before leaving: `if (testing_torturing() &&
 * rc == -ENOMEM) { CHECK_EQ(d.count, 3); return; }`. Calls whose failure is tolerated inside
 * (growth that is retried later) need nothing. No fixed counts of allocations, no dependence on the
 * seed that changes them from run to run.
 */
#define TEST_TORTURE(name) TESTING_CASE(name, true)

/* Each fails the test with file, line and both values. */
#define CHECK_EQ(a, b) testing_check_eq((int64_t)(a), (int64_t)(b), #a, #b, __FILE__, __LINE__)
#define CHECK_NE(a, b) testing_check((int64_t)(a) != (int64_t)(b), #a " != " #b, __FILE__, __LINE__)
#define CHECK_TRUE(a) testing_check((a), #a, __FILE__, __LINE__)
#define CHECK_OK(rc) testing_check_rc((rc), 0, #rc, __FILE__, __LINE__)
#define CHECK_RC(rc, code) \
    testing_check_rc((rc), -(code), #rc, __FILE__, __LINE__) /* exactly -code */
#define CHECK_ERR(rc, class_code) testing_check_class((rc), (class_code), #rc, __FILE__, __LINE__)
#define CHECK_TEXT(a, b) testing_check_text((a), (b), #a, __FILE__, __LINE__)
#define CHECK_BYTES(a, b, len) testing_check_bytes((a), (b), (len), #a, __FILE__, __LINE__)

/* CHECK_OK that leaves the test (return) when a torture run made the call fail with -ENOMEM. */
#define TRY(rc)                                                  \
    do {                                                         \
        if (testing_try_failed((rc), #rc, __FILE__, __LINE__)) { \
            return;                                              \
        }                                                        \
    } while (0)
/* The same for a pointer that is NULL when memory is out. */
#define TRY_PTR(p) TRY((p) == NULL ? -ENOMEM : 0)

NORETURN void testing_failed(const char *what, const char *file, int line);
/* Inline, so that the static analyzer knows what holds behind it. */
static inline void testing_check(bool good, const char *what, const char *file, int line)
{
    if (!good) {
        testing_failed(what, file, line);
    }
}
void testing_check_eq(int64_t a, int64_t b, const char *ta, const char *tb, const char *file,
                      int line);
void testing_check_rc(int rc, int expected, const char *what, const char *file, int line);
void testing_check_class(int rc, int class_code, const char *what, const char *file, int line);
bool testing_try_failed(int rc, const char *what, const char *file, int line);
void testing_check_text(const char *a, const char *b, const char *what, const char *file, int line);
void testing_check_bytes(const void *a, const void *b, size_t len, const char *what,
                         const char *file, int line);

/* Ends this test as skipped, with the reason printed and counted. */
NORETURN void testing_skip(const char *reason);

uint64_t
testing_seed(void); /* of this run; printed when a test fails, with the command that repeats it */
bool testing_torturing(void); /* this run makes allocations fail */

/* A fresh empty directory of this test (the same one for all its calls), below TMPDIR or /tmp.
 * Removed with all that is in it when the test ends, however it ends; each torture run has its own.
 */
const char *testing_directory(void);

/* main() of test programs: runs what was registered, returns the exit status. */
int testing_main(int argc, char **argv);
