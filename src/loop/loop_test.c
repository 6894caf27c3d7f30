/* loop/loop_test.c -- timers, tasks, mailbox, descriptors of the epoll backend. */
#include "loop/loop.h"

#include "loop/executor.h"
#include "testing/testing.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS 1000000u

/* Whatever a test waits for must come long before this. */
#define PATIENCE_NS (20000ull * MS)

static struct loop *open_loop(size_t mailbox_limit)
{
    struct loop *l = NULL;
    struct err e = {0};
    CHECK_OK(
        loop_new(&(struct loop_options){.name = "test", .mailbox_limit = mailbox_limit}, &l, &e));
    return l;
}

struct ticker {
    struct loop *loop;
    struct loop_timer timer, *victim;
    struct loop_task task;
    unsigned fired, limit;
    uint64_t fired_at_ns;
    int *order, *next;
    int id;
};

static void ticker_fire(struct loop_timer *t)
{
    struct ticker *k = container_of(t, struct ticker, timer);
    k->fired++;
    k->fired_at_ns = loop_now_ns(k->loop);
    if (k->next != NULL) {
        *k->next++ = k->id;
    }
    if (k->victim != NULL) {
        loop_timer_cancel(k->loop, k->victim);
    }
    if (k->fired < k->limit) {
        loop_timer_at(k->loop, t, 0); /* long past */
    } else if (k->limit != 0) {
        loop_stop(k->loop, 7);
    }
}

TEST(timer_fires_not_before_its_time)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    struct ticker k = {.loop = l, .timer.fire = ticker_fire, .limit = 1};
    uint64_t at = loop_now_ns(l) + 3 * MS;
    loop_timer_at(l, &k.timer, at);
    CHECK_TRUE(loop_timer_active(&k.timer));
    CHECK_EQ(loop_next_timer_ns(l), at);
    CHECK_EQ(loop_run(l), 7);
    CHECK_EQ(k.fired, 1);
    CHECK_TRUE(k.fired_at_ns >= at);
    CHECK_TRUE(!loop_timer_active(&k.timer));
    CHECK_TRUE(loop_next_timer_ns(l) == UINT64_MAX);
}

TEST(timer_is_moved_by_setting_it_again)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    struct ticker k = {.loop = l, .timer.fire = ticker_fire, .limit = 1};
    loop_timer_in(l, &k.timer, 3600ull * 1000 * MS);
    loop_timer_in(l, &k.timer, 1 * MS);
    CHECK_EQ(loop_run(l), 7);
    CHECK_EQ(k.fired, 1);
}

TEST(timer_cancelled_in_a_callback_of_the_same_round)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    struct ticker second = {.loop = l, .timer.fire = ticker_fire};
    struct ticker first = {
        .loop = l, .timer.fire = ticker_fire, .limit = 1, .victim = &second.timer};
    loop_timer_at(l, &first.timer, 1);
    loop_timer_at(l, &second.timer, 2);
    CHECK_EQ(loop_run(l), 7);
    loop_run_once(l, 0);
    CHECK_EQ(second.fired, 0);
    loop_timer_cancel(l, &second.timer); /* fine when idle */
}

/* One that re-arms itself for the past must not keep others from their turn. */
TEST(timer_that_rearms_for_the_past_starves_nobody)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    struct ticker greedy = {.loop = l, .timer.fire = ticker_fire, .limit = UINT32_MAX};
    struct ticker modest = {.loop = l, .timer.fire = ticker_fire};
    loop_timer_at(l, &greedy.timer, 0);
    loop_timer_at(l, &modest.timer, loop_now_ns(l));
    for (int i = 0; i < 3; i++) {
        loop_run_once(l, 0);
    }
    CHECK_EQ(modest.fired, 1);
    CHECK_TRUE(greedy.fired <= 6);
    loop_timer_cancel(l, &greedy.timer);
}

static void ticker_task(struct loop_task *t)
{
    struct ticker *k = container_of(t, struct ticker, task);
    k->fired++;
    if (k->fired < k->limit) {
        loop_defer(k->loop, t);
    }
}

TEST(task_runs_later_and_once)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    struct ticker k = {.loop = l, .task.run = ticker_task};
    struct ticker gone = {.loop = l, .task.run = ticker_task};
    loop_defer(l, &k.task);
    loop_defer(l, &k.task);
    loop_defer(l, &gone.task);
    loop_undefer(l, &gone.task);
    loop_undefer(l, &gone.task);
    CHECK_EQ(k.fired, 0);
    loop_run_once(l, 0);
    loop_run_once(l, 0);
    CHECK_EQ(k.fired, 1);
    CHECK_EQ(gone.fired, 0);
}

TEST(task_that_defers_itself_leaves_the_round)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    struct ticker k = {.loop = l, .task.run = ticker_task, .limit = 1000};
    struct ticker timer = {.loop = l, .timer.fire = ticker_fire};
    loop_defer(l, &k.task);
    loop_timer_at(l, &timer.timer, 0);
    loop_run_once(l, 0);
    CHECK_EQ(k.fired, 1);
    CHECK_EQ(timer.fired, 1);
    loop_undefer(l, &k.task);
}
