/* loop/loop_test.c -- timers, tasks, mailbox, descriptors; run over epoll and over poll. */
#include "loop/loop.h"

#include "loop/executor.h"
#include "loop/loop_priv.h"
#include "loop/source.h"
#include "testing/testing.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS 1000000ull

/* Whatever a test waits for must come long before this. */
#define PATIENCE_NS (20000 * MS)

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

TEST_TORTURE(loop_survives_lack_of_memory)
{
    CLEANUP(loop_freep) struct loop *l = NULL;
    TRY(loop_new(&(struct loop_options){.name = "test"}, &l, NULL));
    struct ticker k[200];
    for (unsigned i = 0; i < ARRAY_COUNT(k); i++) {
        k[i] = (struct ticker){.loop = l, .timer.fire = ticker_fire};
        loop_timer_at(l, &k[i].timer, i % 7);
    }
    for (unsigned i = 0; i < 3; i++) {
        loop_run_once(l, 0);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(k); i++) {
        CHECK_EQ(k[i].fired, 1);
    }
}

/* One wait is enough: the loop is not woken before its timer, nor sleeps past it. */
TEST(idle_loop_wakes_once)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    struct ticker k = {.loop = l, .timer.fire = ticker_fire};
    loop_timer_in(l, &k.timer, 2 * MS);
    loop_run_once(l, PATIENCE_NS);
    CHECK_EQ(k.fired, 1);
    uint64_t start = loop_now_ns(l);
    loop_run_once(l, 1 * MS);
    CHECK_TRUE(loop_now_ns(l) - start >= 1 * MS);
    CHECK_TRUE(loop_tick_ns(l) >= start && loop_tick_ns(l) <= loop_now_ns(l));
}

/* What nobody waits for comes together: with others of its kind, or when the loop is awake anyway.
 */
TEST(lazy_timers_share_a_wake_up)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    struct ticker a = {.loop = l, .timer.fire = ticker_fire};
    struct ticker b = {.loop = l, .timer.fire = ticker_fire};
    struct ticker punctual = {.loop = l, .timer.fire = ticker_fire};
    uint64_t start = loop_now_ns(l);
    loop_timer_lazy_in(l, &a.timer, 1000 * MS);
    loop_timer_lazy_in(l, &b.timer, 1200 * MS);
    CHECK_TRUE(loop_next_timer_ns(l) >= start + 1000 * MS + LOOP_LAZY_NS);
    loop_timer_in(l, &punctual.timer, 1250 * MS);
    loop_run_once(l, PATIENCE_NS);
    CHECK_EQ(a.fired + b.fired + punctual.fired, 3);
    CHECK_TRUE(loop_now_ns(l) - start >= 1250 * MS);
    loop_timer_lazy_in(l, &a.timer, 3600ull * 1000 * MS);
    loop_timer_in(l, &a.timer, 1 * MS); /* the other way it would be waited for too long */
    loop_timer_lazy_in(l, &b.timer, 2 * MS);
    CHECK_TRUE(loop_next_timer_ns(l) < loop_now_ns(l) + 100 * MS);
    loop_timer_cancel(l, &b.timer);
    loop_run_once(l, PATIENCE_NS);
    CHECK_EQ(a.fired, 2);
    CHECK_EQ(b.fired, 1);
    loop_timer_lazy_in(l, &b.timer, 3600ull * 1000 * MS);
    loop_timer_cancel(l, &b.timer);
    CHECK_TRUE(loop_next_timer_ns(l) == UINT64_MAX);
}

/* --- descriptors --- */

struct socket_watch {
    struct loop_fd watch;
    struct loop *loop;
    struct socket_watch *rival, *heir;
    unsigned calls, events;
    bool stop;
};

/* The first of two rivals removes the other and gives its number to the heir. */
static void socket_ready(struct loop_fd *w, unsigned events)
{
    struct socket_watch *k = container_of(w, struct socket_watch, watch);
    k->calls++;
    k->events |= events;
    if (k->stop) {
        loop_stop(k->loop, 0);
    }
    struct socket_watch *rival = k->rival;
    if (rival != NULL && rival->watch.generation != 0) {
        int number = rival->watch.fd, spare = k->heir->watch.fd;
        loop_fd_remove(k->loop, &rival->watch);
        close(number);
        CHECK_EQ(fcntl(spare, F_DUPFD, number), number);
        close(spare);
        k->heir->watch.fd = number;
        CHECK_OK(loop_fd_add(k->loop, &k->heir->watch));
        CHECK_EQ(k->heir->watch.slot, rival->watch.slot);
    }
}

static void make_pair(int pair[2])
{
    CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
}

static void watch_init(struct socket_watch *k, struct loop *l, int fd)
{
    *k = (struct socket_watch){.loop = l, .watch = {.fd = fd, .ready = socket_ready}};
}

TEST(fd_edges_and_hangup)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    int pair[2];
    make_pair(pair);
    struct socket_watch k;
    watch_init(&k, l, pair[0]);
    CHECK_OK(loop_fd_add(l, &k.watch));
    CHECK_EQ(k.calls, 0);
    loop_run_once(l, PATIENCE_NS);
    CHECK_EQ(k.events, LOOP_WRITABLE);
    loop_run_once(l, 0);
    CHECK_EQ(k.calls, 1); /* an edge, not a level */
    CHECK_EQ(write(pair[1], "x", 1), 1);
    loop_run_once(l, PATIENCE_NS);
    CHECK_TRUE((k.events & LOOP_READABLE) != 0);
    CHECK_TRUE((k.events & LOOP_HANGUP) == 0);
    close(pair[1]);
    loop_run_once(l, PATIENCE_NS);
    CHECK_TRUE((k.events & LOOP_HANGUP) != 0);
    loop_fd_remove(l, &k.watch);
    loop_fd_remove(l, &k.watch); /* fine when not added */
    close(pair[0]);
}

struct poster {
    struct loop *loop;
    struct loop_fd watch;
    struct loop_message message;
    unsigned runs;
};

static void poster_ran(struct loop_message *m)
{
    container_of(m, struct poster, message)->runs++;
}

static void poster_ready(struct loop_fd *w, unsigned events)
{
    struct poster *p = container_of(w, struct poster, watch);
    (void)events;
    p->message.run = poster_ran;
    CHECK_OK(loop_post(p->loop, &p->message));
}

/* The loop is awake already: a wake-up would cost two system calls and an empty round. */
TEST(what_a_descriptor_posts_wakes_nobody)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    int ends[2];
    CHECK_OK(pipe2(ends, O_NONBLOCK | O_CLOEXEC));
    struct poster p = {.loop = l, .watch = {.fd = ends[0], .ready = poster_ready}};
    CHECK_OK(loop_fd_add(l, &p.watch));
    CHECK_EQ(write(ends[1], "x", 1), 1);
    loop_run_once(l, PATIENCE_NS);
    CHECK_EQ(p.runs, 1);
    struct pollfd pending = {.fd = loop_source_wake_fd(l), .events = POLLIN};
    CHECK_EQ(poll(&pending, 1, 0), 0);
    loop_fd_remove(l, &p.watch);
    close(ends[0]);
    close(ends[1]);
}

TEST(fd_removed_by_an_earlier_callback_and_number_reused)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    int pipe_a[2], pipe_b[2], pipe_c[2];
    CHECK_OK(pipe2(pipe_a, O_NONBLOCK | O_CLOEXEC));
    CHECK_OK(pipe2(pipe_b, O_NONBLOCK | O_CLOEXEC));
    CHECK_OK(pipe2(pipe_c, O_NONBLOCK | O_CLOEXEC));
    struct socket_watch a, b, c;
    watch_init(&a, l, pipe_a[0]);
    watch_init(&b, l, pipe_b[0]);
    watch_init(&c, l, pipe_c[0]);
    a.rival = &b;
    b.rival = &a;
    a.heir = b.heir = &c;
    CHECK_OK(loop_fd_add(l, &a.watch));
    CHECK_OK(loop_fd_add(l, &b.watch));
    CHECK_EQ(write(pipe_a[1], "x", 1), 1);
    CHECK_EQ(write(pipe_b[1], "x", 1), 1);
    loop_run_once(l, PATIENCE_NS);
    CHECK_EQ(a.calls + b.calls, 1);
    CHECK_EQ(c.calls, 0); /* the event was for the number's former owner */
    CHECK_EQ(write(pipe_c[1], "x", 1), 1);
    loop_run_once(l, PATIENCE_NS);
    CHECK_EQ(c.calls, 1);
    struct socket_watch *left = a.calls == 1 ? &a : &b;
    loop_fd_remove(l, &left->watch);
    loop_fd_remove(l, &c.watch);
    close(left->watch.fd);
    close(c.watch.fd);
    close(pipe_a[1]);
    close(pipe_b[1]);
    close(pipe_c[1]);
}

TEST(fd_event_survives_a_stop_before_it)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    int pair[2];
    make_pair(pair);
    struct socket_watch a, b;
    watch_init(&a, l, pair[0]);
    watch_init(&b, l, pair[1]);
    a.stop = b.stop = true;
    CHECK_OK(loop_fd_add(l, &a.watch));
    CHECK_OK(loop_fd_add(l, &b.watch));
    (void)loop_run(l);
    CHECK_EQ(a.calls + b.calls, 1);
    (void)loop_run(l);
    CHECK_EQ(a.calls, 1);
    CHECK_EQ(b.calls, 1);
    loop_fd_remove(l, &a.watch);
    loop_fd_remove(l, &b.watch);
    close(pair[0]);
    close(pair[1]);
}

/* Once for each time that it becomes true, as far as the user says that it is over. */
TEST(fd_is_told_once_until_it_is_wanted)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    int pair[2];
    char bytes[8];
    make_pair(pair);
    struct socket_watch k;
    watch_init(&k, l, pair[0]);
    CHECK_OK(loop_fd_add(l, &k.watch));
    loop_run_once(l, PATIENCE_NS);
    CHECK_EQ(k.calls, 1); /* writable */
    for (unsigned i = 0; i < 3; i++) {
        unsigned calls = k.calls;
        k.events = 0;
        CHECK_EQ(write(pair[1], "abc", 3), 3);
        loop_run_once(l, PATIENCE_NS);
        CHECK_EQ(k.calls, calls + 1);
        CHECK_TRUE((k.events & LOOP_READABLE) != 0);
        loop_run_once(l, 1 * MS);
        loop_run_once(l, 1 * MS);
        CHECK_EQ(k.calls, calls + 1); /* though it is true all the time */
        CHECK_EQ(read(pair[0], bytes, sizeof bytes), 3);
        loop_fd_want(l, &k.watch, LOOP_READABLE);
        loop_run_once(l, 1 * MS);
        CHECK_EQ(k.calls, calls + 1);
    }
    loop_fd_remove(l, &k.watch);
    close(pair[0]);
    close(pair[1]);
}

TEST(fd_writable_again_when_there_is_room)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    static char bytes[65536];
    int pair[2];
    make_pair(pair);
    struct socket_watch k;
    watch_init(&k, l, pair[0]);
    CHECK_OK(loop_fd_add(l, &k.watch));
    loop_run_once(l, PATIENCE_NS);
    while (write(pair[0], bytes, sizeof bytes) > 0) {
    }
    loop_fd_want(l, &k.watch, LOOP_WRITABLE);
    k.calls = k.events = 0;
    loop_run_once(l, 1 * MS);
    CHECK_EQ(k.calls, 0);
    while (read(pair[1], bytes, sizeof bytes) > 0) {
    }
    loop_run_once(l, PATIENCE_NS);
    CHECK_EQ(k.calls, 1);
    CHECK_TRUE((k.events & LOOP_WRITABLE) != 0);
    loop_fd_remove(l, &k.watch);
    close(pair[0]);
    close(pair[1]);
}

/* A peer that is gone is told once, not in each round. */
TEST(fd_hangup_lets_the_loop_sleep)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    int pair[2];
    make_pair(pair);
    struct socket_watch k;
    watch_init(&k, l, pair[0]);
    CHECK_OK(loop_fd_add(l, &k.watch));
    loop_run_once(l, PATIENCE_NS);
    close(pair[1]);
    loop_run_once(l, PATIENCE_NS);
    CHECK_TRUE((k.events & LOOP_HANGUP) != 0);
    unsigned calls = k.calls;
    uint64_t start = loop_now_ns(l);
    loop_run_once(l, 3 * MS);
    CHECK_TRUE(loop_now_ns(l) - start >= 3 * MS);
    CHECK_EQ(k.calls, calls);
    loop_fd_remove(l, &k.watch);
    close(pair[0]);
}

/* More than one round hands out, some removed in between: each is told, none twice. */
TEST(fd_many_at_once)
{
    enum { COUNT = 400 };
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    static struct socket_watch k[COUNT];
    static int ends[COUNT][2];
    unsigned told = 0;
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_OK(pipe2(ends[i], O_NONBLOCK | O_CLOEXEC));
        watch_init(&k[i], l, ends[i][0]);
        CHECK_OK(loop_fd_add(l, &k[i].watch));
        CHECK_EQ(write(ends[i][1], "x", 1), 1);
    }
    for (size_t i = 0; i < COUNT; i += 7) {
        loop_fd_remove(l, &k[i].watch);
    }
    for (unsigned i = 0; i < 5; i++) {
        loop_run_once(l, 0);
    }
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_EQ(k[i].calls, i % 7 == 0 ? 0 : 1);
        told += k[i].calls;
        loop_fd_remove(l, &k[i].watch);
        close(ends[i][0]);
        close(ends[i][1]);
    }
    CHECK_EQ(told, COUNT - (COUNT + 6) / 7);
}

TEST(fd_that_is_none_is_an_error)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    struct socket_watch k;
    watch_init(&k, l, -1);
    CHECK_RC(loop_fd_add(l, &k.watch), EBADF);
    CHECK_EQ(k.watch.generation, 0);
}

/* --- mailbox --- */

#define SENDERS 4u
#define LETTERS 20000u

struct letter {
    struct loop_message message;
    unsigned sender, number;
    struct post_office *office;
};

struct post_office {
    struct loop *loop;
    unsigned next[SENDERS], total, disorder;
    _Atomic unsigned refused;
    struct letter *letter[SENDERS];
};

static void letter_arrived(struct loop_message *m)
{
    struct letter *k = container_of(m, struct letter, message);
    struct post_office *o = k->office;
    o->disorder += k->number == o->next[k->sender] ? 0u : 1u;
    o->next[k->sender] = k->number + 1;
    o->total++;
    if (o->total == SENDERS * LETTERS) {
        loop_stop(o->loop, 0);
    }
}

static void *send_letters(void *arg)
{
    struct letter *k = arg;
    for (unsigned i = 0; i < LETTERS; i++) {
        while (loop_post(k->office->loop, &k[i].message) < 0) {
            atomic_fetch_add(&k->office->refused, 1);
            (void)sched_yield();
        }
        if (i % 64 == 0) {
            (void)sched_yield(); /* so that the loop goes to sleep now and then */
        }
    }
    return NULL;
}

TEST(post_from_many_threads_in_order)
{
    static struct letter letter[SENDERS][LETTERS];
    CLEANUP(loop_freep) struct loop *l = open_loop(16);
    static struct post_office office;
    office.loop = l;
    pthread_t thread[SENDERS];
    for (unsigned i = 0; i < SENDERS; i++) {
        for (unsigned n = 0; n < LETTERS; n++) {
            letter[i][n] = (struct letter){
                .message.run = letter_arrived, .sender = i, .number = n, .office = &office};
        }
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        CHECK_OK(pthread_create(&thread[i], NULL, send_letters, letter[i]));
    }
    CHECK_EQ(loop_run(l), 0);
    for (unsigned i = 0; i < SENDERS; i++) {
        CHECK_OK(pthread_join(thread[i], NULL));
    }
    CHECK_EQ(office.total, SENDERS * LETTERS);
    CHECK_EQ(office.disorder, 0);
}

static void letter_again(struct loop_message *m)
{
    struct letter *k = container_of(m, struct letter, message);
    k->number++;
    CHECK_OK(loop_post(k->office->loop, m));
}

TEST(message_that_posts_itself_leaves_the_round)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    static struct post_office office;
    office = (struct post_office){.loop = l};
    struct letter k = {.message.run = letter_again, .office = &office};
    struct ticker timer = {.loop = l, .timer.fire = ticker_fire};
    CHECK_OK(loop_post(l, &k.message));
    loop_run_once(l, 0);
    CHECK_TRUE(k.number > 0);
    loop_timer_at(l, &timer.timer, 0);
    loop_run_once(l, 0);
    CHECK_EQ(timer.fired, 1);
}

/* Two loops that answer each other at once. */
struct returner {
    struct loop_message message;
    struct loop *loop, *other;
    struct returner *partner;
    unsigned rounds;
    bool ends;
};
static void returner_run(struct loop_message *m)
{
    struct returner *r = container_of(m, struct returner, message);
    r->rounds++;
    if (r->ends && r->rounds == 5000) {
        loop_stop(r->loop, 0);
        return;
    }
    CHECK_OK(loop_post(r->other, &r->partner->message));
}
static bool is_polling(struct loop *l)
{
    return container_of(l, struct loop_system, base)->polling.active;
}
static void rest_over(struct loop_timer *t)
{
    loop_stop(container_of(t, struct ticker, timer)->loop, 0);
}

/* It polls while the other end answers soon, loses nothing, and stops when nothing comes. */
TEST(polling_begins_when_it_pays_and_ends_when_not)
{
    CLEANUP(loop_freep) struct loop *here = open_loop(0);
    CLEANUP(loop_freep) struct loop *there = open_loop(0);
    loop_set_polling(here, 5000);
    loop_set_polling(there, 5000);
    struct returner a = {.message.run = returner_run, .loop = here, .other = there, .ends = true};
    struct returner b = {.message.run = returner_run, .loop = there, .other = here, .partner = &a};
    a.partner = &b;
    struct loop_thread *thread = NULL;
    CHECK_OK(loop_thread_start(there, &thread));
    for (unsigned i = 0; i < 40 && !is_polling(here);
         i++) { /* others may have the cores just now */
        a.rounds = 0;
        CHECK_OK(loop_post(there, &b.message));
        loop_run(here);
        CHECK_EQ(a.rounds, 5000);
        CHECK_EQ(b.rounds, 5000 * (i + 1));
    }
    CHECK_TRUE(is_polling(here));
    struct ticker k = {.loop = here, .timer.fire = rest_over};
    for (unsigned i = 0; i < 1000 && is_polling(here); i++) {
        loop_timer_in(here, &k.timer, 30 * MS);
        loop_run(here);
    }
    CHECK_TRUE(!is_polling(here));
    loop_thread_stop(thread);
}

/* A source whose kernel is a thread. It tells of what has come only when it is told that the loop
 * rests; the loop then must not sleep past it. */
#define FEEDS 3000u
struct feed {
    struct loop_source source, victim;
    struct loop *loop;
    struct loop_timer patience;
    _Atomic unsigned given;
    _Atomic bool told;
    _Atomic unsigned taken;
    unsigned flushes, victims;
    int wake_fd;
};
static void feed_flush(struct loop_source *s)
{
    container_of(s, struct feed, source)->flushes++;
}
static bool feed_ready(struct loop_source *s)
{
    struct feed *f = container_of(s, struct feed, source);
    return atomic_load(&f->given) > atomic_load(&f->taken);
}
static bool feed_rest(struct loop_source *s)
{
    struct feed *f = container_of(s, struct feed, source);
    f->flushes++;
    atomic_store(&f->told, true);
    return feed_ready(s);
}
static void feed_run(struct loop_source *s)
{
    struct feed *f = container_of(s, struct feed, source);
    atomic_store(&f->told, false);
    if (feed_ready(s) && atomic_fetch_add(&f->taken, 1) + 1 == FEEDS) {
        loop_source_remove(f->loop, s);
        loop_source_remove(f->loop, &f->victim);
        loop_stop(f->loop, 1);
    }
}
static void *feed_give(void *arg)
{
    struct feed *f = arg;
    for (unsigned i = 0; i < FEEDS; i++) {
        while (atomic_load(&f->taken) < i) {
            sched_yield();
        }
        atomic_store(&f->given, i + 1);
        uint64_t one = 1;
        if (atomic_load(&f->told)) {
            CHECK(write(f->wake_fd, &one, sizeof one) == sizeof one);
        }
    }
    return NULL;
}
static void feed_lost(struct loop_timer *t)
{
    loop_stop(container_of(t, struct feed, patience)->loop, 2);
}
static bool victim_ready(struct loop_source *s)
{
    (void)s;
    return false;
}
static void victim_run(struct loop_source *s)
{
    container_of(s, struct feed, victim)->victims++;
}
static void victim_flush(struct loop_source *s)
{
    (void)s;
}
static void check_feed(uint32_t polling_us)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    loop_set_polling(l, polling_us);
    struct feed f = {
        .source = {.flush = feed_flush, .ready = feed_ready, .rest = feed_rest, .run = feed_run},
        .victim = {.flush = victim_flush,
                   .ready = victim_ready,
                   .rest = victim_ready,
                   .run = victim_run},
        .loop = l,
        .patience.fire = feed_lost,
        .wake_fd = loop_source_wake_fd(l)};
    loop_source_add(l, &f.source);
    loop_source_add(l, &f.victim);
    loop_timer_in(l, &f.patience, PATIENCE_NS);
    pthread_t giver;
    CHECK_EQ(pthread_create(&giver, NULL, feed_give, &f), 0);
    CHECK_EQ(loop_run(l), 1);
    pthread_join(giver, NULL);
    loop_timer_cancel(l, &f.patience);
    CHECK_TRUE(f.flushes >= FEEDS);
    unsigned flushes = f.flushes, victims = f.victims;
    CHECK_TRUE(victims >= FEEDS - 1);
    loop_run_once(l, 0); /* it is gone, and the other one too */
    CHECK_EQ(f.flushes, flushes);
    CHECK_EQ(f.victims, victims);
}

TEST(source_ends_the_sleep_and_is_seen_without)
{
    check_feed(0);
    check_feed(LOOP_POLL_US);
}

TEST(mailbox_refuses_when_full_and_completions_never)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(2);
    static struct post_office office;
    office = (struct post_office){.loop = l};
    struct letter k[6];
    for (unsigned i = 0; i < 6; i++) {
        k[i] = (struct letter){
            .message.run = letter_arrived, .sender = i < 3 ? 0 : 1, .office = &office};
        k[i].number = i < 3 ? i : i - 3;
    }
    CHECK_OK(loop_post(l, &k[0].message));
    CHECK_OK(loop_post(l, &k[1].message));
    CHECK_ERR(loop_post(l, &k[2].message), ERR_busy);
    for (unsigned i = 3; i < 6; i++) {
        loop_complete(l, &k[i].message);
    }
    CHECK_EQ(office.total, 0);
    loop_run_once(l, PATIENCE_NS);
    CHECK_EQ(office.total, 5);
    CHECK_EQ(office.disorder, 0);
    CHECK_OK(loop_post(l, &k[2].message));
    loop_run_once(l, PATIENCE_NS);
    CHECK_EQ(office.total, 6);
}

/* --- a foreign event loop --- */

static bool readable(int fd, int wait_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, wait_ms) == 1;
}

static void *post_one(void *arg)
{
    struct letter *k = arg;
    return loop_post(k->office->loop, &k->message) == 0 ? arg : NULL;
}

TEST(poll_backend_has_nothing_to_show)
{
    CLEANUP(loop_freep) struct loop *l = NULL;
    const struct loop_options opt = {.name = "test", .backend = LOOP_POLL};
    CHECK_OK(loop_new(&opt, &l, NULL));
    CHECK_EQ(loop_poll_fd(l), -1);
}

TEST(poll_fd_shows_all_kinds_of_work)
{
    CLEANUP(loop_freep) struct loop *l = NULL;
    const struct loop_options opt = {.name = "test", .backend = LOOP_EPOLL};
    CHECK_OK(loop_new(&opt, &l, NULL));
    int fd = loop_poll_fd(l);
    CHECK_TRUE(fd >= 0);
    loop_run_once(l, 0);
    CHECK_TRUE(!readable(fd, 0));
    struct ticker k = {.loop = l, .task.run = ticker_task, .timer.fire = ticker_fire};
    loop_defer(l, &k.task);
    CHECK_TRUE(readable(fd, 0));
    loop_run_once(l, 0);
    CHECK_EQ(k.fired, 1);
    CHECK_TRUE(!readable(fd, 0));
    loop_timer_in(l, &k.timer, 2 * MS);
    CHECK_TRUE(readable(fd, 20000));
    loop_run_once(l, 0);
    CHECK_EQ(k.fired, 2);
    CHECK_TRUE(!readable(fd, 0));
    static struct post_office office;
    office = (struct post_office){.loop = l};
    struct letter letter = {.message.run = letter_arrived, .office = &office};
    pthread_t thread;
    CHECK_OK(pthread_create(&thread, NULL, post_one, &letter));
    CHECK_TRUE(readable(fd, 20000));
    void *posted = NULL;
    CHECK_OK(pthread_join(thread, &posted));
    CHECK_TRUE(posted != NULL);
    loop_run_once(l, 0);
    CHECK_EQ(office.total, 1);
    k.limit = k.fired + 2; /* defers itself once more: work is left after the round */
    loop_defer(l, &k.task);
    loop_run_once(l, 0);
    CHECK_TRUE(readable(fd, 0));
    loop_run_once(l, 0);
    CHECK_EQ(k.fired, k.limit);
}

/* --- the outside world --- */

TEST(random_bytes_and_boot_id)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    uint8_t a[512] = {0}, b[512] = {0}, boot_a[16], boot_b[16];
    loop_random_bytes(l, a, sizeof a);
    loop_random_bytes(l, b, sizeof b);
    CHECK_TRUE(memcmp(a, b, sizeof a) != 0);
    for (unsigned i = 0; i < 200; i++) { /* through many refills */
        CHECK_TRUE(loop_random(l) != loop_random(l));
    }
    loop_boot_id(l, boot_a);
    loop_boot_id(l, boot_b);
    CHECK_BYTES(boot_a, boot_b, 16);
    CHECK_TRUE(loop_wall_ns(l) > 1700000000ull * 1000 * MS);
    CHECK_EQ(loop_process_id(l), getpid());
    CHECK_TRUE(loop_process_cpu_ns(l) > 0);
    CHECK_TEXT(loop_name(l), "test");
    CHECK_TRUE(!loop_is_simulated(l));
}

static void *ask_owner(void *arg)
{
    return loop_is_mine(arg) ? arg : NULL;
}

TEST(loop_belongs_to_one_thread)
{
    CLEANUP(loop_freep) struct loop *l = open_loop(0);
    pthread_t thread;
    void *mine = l;
    CHECK_TRUE(loop_is_mine(l));
    CHECK_OK(pthread_create(&thread, NULL, ask_owner, l));
    CHECK_OK(pthread_join(thread, &mine));
    CHECK_TRUE(mine == NULL);
}
