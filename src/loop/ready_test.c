/* loop/ready_test.c -- a child says that it is ready, or goes without a word. */
#include "loop/ready.h"

#include "testing/testing.h"

#include <unistd.h>

static struct loop *open_loop(void)
{
    struct loop *l = NULL;
    struct err e = {0};
    CHECK_OK(loop_new(&(struct loop_options){.name = "test"}, &l, &e));
    return l;
}

/* A shell in place of a child of ours: descriptor 3 is what it is to say it through. */
static int said_by(const char *script)
{
    struct loop *l = open_loop();
    struct loop_ready r;
    struct loop_child child = {0};
    struct err e = {0};
    CHECK_OK(loop_ready_init(&r));
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    const struct loop_spawn_options o = {
        .argv = argv, .fds = &r.write_fd, .fd_count = 1, .detach = true};
    CHECK_OK(loop_spawn(l, &o, &child, &e));
    int rc = loop_ready_wait(l, &r);
    loop_ready_fini(&r);
    loop_free(l);
    return rc;
}

TEST(what_a_child_says_is_heard)
{
    CHECK_EQ(said_by("printf + >&3"), 1);
    CHECK_EQ(said_by("printf more >&3; exit 1"), 1);
}

TEST(a_child_that_goes_without_a_word_is_not_waited_for)
{
    CHECK_EQ(said_by("exit 1"), 0);
    CHECK_EQ(said_by("kill -9 $$"), 0);
}

TEST(the_child_says_it_and_lets_go)
{
    struct loop *l = open_loop();
    struct loop_ready r;
    CHECK_OK(loop_ready_init(&r));
    int fd = dup(r.write_fd);
    loop_ready_say(fd);
    CHECK_EQ(loop_ready_wait(l, &r), 1);
    CHECK_TRUE(close(fd) < 0);
    loop_ready_fini(&r);
    loop_free(l);
}
