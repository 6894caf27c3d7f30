#pragma once
/*
 * What the tests of this folder are written with. A test is a function in a process of its own,
 * begun in an empty directory; all names are relative to it. With two mounts the working directory
 * changes from the one to the other before each checked call, so that what one mount did is always
 * asked of the other; see stay(). The first check that fails ends the test, in whatever process it
 * is.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

struct test {
    const char *name;
    void (*run)(void);
    struct test *next;
};
void test_add(struct test *t);
#define TEST(id)                                               \
    static void run_##id(void);                                \
    __attribute__((constructor)) static void add_##id(void)    \
    {                                                          \
        static struct test t = {.name = #id, .run = run_##id}; \
        test_add(&t);                                          \
    }                                                          \
    static void run_##id(void)

#define HERE __FILE_NAME__, __LINE__

/* Ends the test. Of several processes that say something the first is heard. */
_Noreturn void fail_at(const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
_Noreturn void skip_test(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
long check_ok(const char *file, int line, const char *what, long r);
void check_err(const char *file, int line, const char *what, int want, long r);
void check_eq(const char *file, int line, const char *what, long long want, long long seen);
long check_supported(const char *file, int line, const char *what, long r);

/* Succeeds; the value of the call. */
#define OK(call) check_ok(HERE, #call, (turn(), (long)(call)))
#define FD(call) ((int)OK(call))
/* Is -1 and this errno. */
#define ERR(want, call) check_err(HERE, #call, want, (turn(), (long)(call)))
/* Is this number. */
#define EQ(want, value) check_eq(HERE, #value, (long long)(want), (turn(), (long long)(value)))
#define TRUE(cond) check_eq(HERE, #cond, 1, (turn(), !!(cond)))
/* Succeeds, or the file system does not have it (EOPNOTSUPP, ENOSYS) and the test is skipped. */
#define MAY(call) check_supported(HERE, #call, (turn(), (long)(call)))
#define FAIL(...) fail_at(HERE, __VA_ARGS__)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The other mount's turn; done by every check. */
void turn(void);
/* This test does not change the mount: it joins a descriptor and a name in one call, which only
 * goes within one. */
void stay(void);
/* The same directory, seen through the first (0) and the second mount (1; or the first, if there is
 * one only). */
int side_fd(int side);
bool two_sides(void);

void need_root(void);
/* The block runs in another process as this user, without other groups or capabilities; its end is
 * waited for. */
#define AS(uid, gid) for (pid_t as_ = as_begin(HERE, uid, gid); as_ == 0; _exit(0))
pid_t as_begin(const char *file, int line, uid_t uid, gid_t gid);
/* The block runs in another process, beside this one: CHILD(pid) { } ... join(pid). */
#define CHILD(pid) for (bool in_ = (pid = fork_child(), pid == 0); in_; _exit(0))
pid_t fork_child(void);
/* Waits for its end; what it found wrong ends this process too. */
void join(pid_t pid);
/* It could be joined at once. */
bool has_ended(pid_t pid);
void give_up_root(uid_t uid, gid_t gid);
/* Until the process sleeps in this system call. */
void await_blocked(pid_t pid, long syscall_number);

/* One process says "now", another waits for it. */
struct gate {
    int fd[2];
};
void gate_init(struct gate *g);
void gate_open(struct gate *g);
void gate_wait(struct gate *g);

/* Files. */
void make_file(const char *name, const char *text);
void content_is(const char *file, int line, const char *name, const char *text);
#define CONTENT(name, text) content_is(HERE, name, text)
struct stat stat_of(const char *name); /* lstat() */
struct stat fstat_of(int fd);
#define MODE(name) (stat_of(name).st_mode & 07777)
#define SIZE(name) ((long long)stat_of(name).st_size)
#define NLINK(name) ((long long)stat_of(name).st_nlink)
bool exists(const char *name);
void fill(int fd, off_t at, size_t len, int byte);
/* All these bytes are this one. */
bool is_all(int fd, off_t at, size_t len, int byte);
/* A name of this many bytes, in one of eight buffers. */
const char *name_of(size_t len, char c);
bool is_fs(long magic);
char *bad_address(void); /* for EFAULT */

/* Times. */
bool later(struct timespec a, struct timespec b); /* a is later than b */
bool same(struct timespec a, struct timespec b);
/* Until a change of a file now must get another time than one before. */
void tick(void);
/* Sets both times to a fixed day long ago and lets the clock go on. */
void make_old(const char *name);
enum { OLD = 1000000000 };
/* Which times of the name the call moves on, of a file made old before: "m", "mc", "a", ... */
#define MOVES(name, want, call)                   \
    do {                                          \
        make_old(name);                           \
        struct stat before_ = stat_of(name);      \
        tick();                                   \
        OK(call);                                 \
        moved(HERE, #call, &before_, name, want); \
    } while (0)
void moved(const char *file, int line, const char *what, const struct stat *before,
           const char *name, const char *want);

/* Users of the tests; nobody needs to be listed anywhere. */
enum { ALICE = 10001, BOB = 10002, CAROL = 10003, TEAM = 10101, OTHERS = 10102 };

/* What main.c tells the rest. */
void suite_begin_test(int first, int second, int report);
enum { EXIT_FAIL = 1, EXIT_SKIP = 77 };
extern struct test *tests;
