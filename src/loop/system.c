/*
 * loop/system.c -- what all backends of the operating system share: the round, the clocks,
 * randomness, ownership. See loop_priv.h.
 *
 * A round waits, then runs what is due of each kind, each bounded: descriptors, timers,
 * completions, messages, tasks. Tasks come last, so that work deferred by the others is batched
 * within the round; what is deferred by tasks waits for the next one.
 */
#include "base/text.h"
#include "loop/loop_priv.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS_UNASKED 4u
#define POLL_SHORT 2u /* times the limit: a sleep that looking might have spared */
#define POLL_WANTED 16u
#define POLL_WANTED_MAX 1024u
#define POLL_MISSES 8u /* more than hits */
#define POLL_JUMP_NS 1000000u
#define POLL_REST_NS 10000000u

static enum loop_backend best_backend(void)
{
#ifdef ODFS_FAULTS
    const char *wanted = getenv("OPENDFS_TEST_LOOP"); /* NOLINT(concurrency-mt-unsafe) */
    if (wanted != NULL && strcmp(wanted, "poll") == 0) {
        return LOOP_POLL;
    }
#endif
    return LOOP_EPOLL;
}

int loop_new(const struct loop_options *opt, struct loop **ret, struct err *e)
{
    enum loop_backend backend = opt->backend == LOOP_BEST ? best_backend() : opt->backend;
    return backend == LOOP_POLL ? loop_poll_new(opt, ret, e) : loop_epoll_new(opt, ret, e);
}

int loop_system_init(struct loop_system *s, const struct loop_ops *ops,
                     const struct loop_options *opt)
{
    s->signal_watch.fd = -1;
    list_init(&s->children);
    int rc = loop_common_init(&s->base, ops, opt);
    s->base.tick_ns = loop_system_now_ns(&s->base);
    loop_own(&s->base);
    return rc;
}

void loop_system_fini(struct loop_system *s)
{
    loop_system_children_fini(s);
    loop_system_signal_fini(s);
    explicit_bzero(s->entropy, sizeof s->entropy);
    loop_common_fini(&s->base);
}

/* A peer that closes while sendfile() writes to it would end the process: sendfile has no
 * MSG_NOSIGNAL. Blocked for this thread only, since the process may be someone else's. */
void loop_block_sigpipe(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    int rc = pthread_sigmask(SIG_BLOCK, &set, NULL);
    CHECK(rc == 0);
}

void loop_own(struct loop *l)
{
    loop_block_sigpipe();
    atomic_store_explicit(&l->owner, (uintptr_t)pthread_self(), memory_order_relaxed);
    l->thread_id = gettid();
}

bool loop_system_is_mine(const struct loop *l)
{
    return atomic_load_explicit(&l->owner, memory_order_relaxed) == (uintptr_t)pthread_self();
}

/* --- the round --- */

static uint64_t time_to_wait(struct loop *l, uint64_t limit_ns)
{
    if (l->stopping || loop_has_work(l) || loop_sources_ready(l)) {
        return 0;
    }
    uint64_t next = loop_next_timer_ns(l);
    if (next == UINT64_MAX) {
        return limit_ns;
    }
    uint64_t now = l->ops->now_ns(l);
    return next <= now ? 0 : base_min(next - now, limit_ns);
}

/*
 * Polling before sleep. It is tried after some short sleeps in a row and given up when nothing came
 * several times in a row; each time twice as many short sleeps are wanted before the next try,
 * until it pays again. A jump of the clock between two looks means that somebody else was given
 * this core: then sleeping is what helps, and it is not tried again for a while.
 */
static void poll_learn_sleep(struct loop_polling *p, uint64_t slept_ns)
{
    if (p->limit_ns == 0 || p->active) {
        return;
    }
    p->shorts = slept_ns < POLL_SHORT * p->limit_ns ? p->shorts + 1 : 0;
    if (p->shorts >= p->wanted) {
        p->active = true;
        p->shorts = p->misses = 0;
    }
}

static void poll_hit(struct loop_polling *p)
{
    p->misses -= p->misses > 0 ? 1 : 0;
    p->wanted = p->misses == 0 ? POLL_WANTED : p->wanted;
}

static void poll_missed(struct loop_polling *p)
{
    if (++p->misses >= POLL_MISSES) {
        p->active = false;
        p->wanted = (unsigned)base_min(UINT64_C(2) * p->wanted, POLL_WANTED_MAX);
    }
}

/* True: something came, and was handed out. */
static bool poll_pays(struct loop *l, struct loop_polling *p, uint64_t limit_ns)
{
    uint64_t last = l->ops->now_ns(l), end = last + base_min(p->limit_ns, limit_ns);
    if (last < p->rest_ns) {
        return false;
    }
    do {
        bool posted = loop_has_work(l) || loop_sources_ready(l);
        if (l->ops->wait(l, 0) || posted) {
            poll_hit(p);
            return true;
        }
        if (l->tick_ns - last > POLL_JUMP_NS) {
            p->rest_ns = l->tick_ns + POLL_REST_NS;
            break;
        }
        last = l->tick_ns;
    } while (last < end);
    poll_missed(p);
    return false;
}

/* What was deferred comes first for some rounds: a request often takes a chain of short ones, and
 * the question what else there is costs more than most of them. */
static bool asks_kernel(struct loop *l, struct loop_system *s)
{
    bool asks = l->task_count == 0 || s->foreign || l->stopping || s->unasked >= ROUNDS_UNASKED;
    s->unasked = asks ? 0 : s->unasked + 1;
    if (!asks) {
        l->tick_ns = l->ops->now_ns(l);
    }
    return asks;
}

static void sleep_and_dispatch(struct loop *l, uint64_t limit_ns)
{
    struct loop_system *s = container_of(l, struct loop_system, base);
    uint64_t wait_ns = time_to_wait(l, limit_ns);
    if (wait_ns > 0 && s->polling.active && !s->foreign) {
        loop_sources_flush(l);
        if (poll_pays(l, &s->polling, wait_ns)) {
            return;
        }
        wait_ns = time_to_wait(l, limit_ns);
    }
    if (wait_ns == 0) {
        loop_sources_flush(l);
        if (!asks_kernel(l, s)) {
            return;
        }
        (void)l->ops->wait(l, 0);
        return;
    }
    s->unasked = 0;
    (void)atomic_exchange_explicit(&l->sleep, LOOP_SLEEPING, memory_order_acq_rel);
    bool resting = !loop_sources_rest(l);
    /* Posted just before, when its sender saw us awake; and a source may have set a timer. */
    wait_ns = resting ? time_to_wait(l, limit_ns) : 0;
    uint64_t began_ns = l->tick_ns;
    (void)l->ops->wait(l, wait_ns);
    poll_learn_sleep(&s->polling, l->tick_ns - began_ns);
}

void loop_set_polling(struct loop *l, uint32_t limit_us)
{
    LOOP_OWNED(l);
    if (!l->simulated) {
        struct loop_system *s = container_of(l, struct loop_system, base);
        s->polling =
            (struct loop_polling){.limit_ns = limit_us * UINT64_C(1000), .wanted = POLL_WANTED};
    }
}

static void run_some(struct loop *l, bool (*run)(struct loop *l), size_t limit)
{
    for (size_t i = 0; i < limit && !l->stopping && run(l); i++) {
    }
}

/* Between rounds of a foreign event loop: whatever there is to do makes the poll descriptor
 * readable. */
static void foreign_rest(struct loop *l)
{
    (void)atomic_exchange_explicit(&l->sleep, LOOP_SLEEPING, memory_order_acq_rel);
    l->ops->changed(l);
    l->notify = true;
}

void loop_system_once(struct loop *l, uint64_t wait_ns)
{
    struct loop_system *s = container_of(l, struct loop_system, base);
    l->in_round = true;
    l->notify = false;
    sleep_and_dispatch(l, wait_ns);
    (void)atomic_exchange_explicit(&l->sleep, LOOP_AWAKE, memory_order_acq_rel);
    loop_sources_run(l);
    run_some(l, loop_run_timer, base_min(l->timers.count + l->lazy.count, LOOP_ROUND_TIMERS));
    run_some(l, loop_run_completion, LOOP_ROUND_MESSAGES);
    run_some(l, loop_run_message, LOOP_ROUND_MESSAGES);
    run_some(l, loop_run_task, base_min(l->task_count, LOOP_ROUND_TASKS));
    l->in_round = false;
    if (s->foreign) {
        foreign_rest(l);
    }
}

/* --- clocks --- */

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts;
    int rc = clock_gettime(clock, &ts);
    CHECK(rc == 0);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t loop_system_now_ns(const struct loop *l)
{
    (void)l;
    return clock_ns(CLOCK_BOOTTIME);
}

uint64_t loop_system_wall_ns(const struct loop *l)
{
    (void)l;
    return clock_ns(CLOCK_REALTIME);
}

uint64_t loop_system_process_cpu_ns(const struct loop *l)
{
    (void)l;
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

/* --- randomness --- */

/* At most 256 bytes at once come whole, says getrandom(2); more may be cut by a signal. */
static void fill_random(uint8_t *out, size_t len)
{
    while (len > 0) {
        ssize_t n = getrandom(out, len, 0);
        CHECK(n > 0 || errno == EINTR);
        if (n > 0) {
            out += n;
            len -= (size_t)n;
        }
    }
}

/* One system call for many small draws. Bytes given out are wiped: they may be keys. */
void loop_system_random_bytes(struct loop *l, void *out, size_t len)
{
    struct loop_system *s = container_of(l, struct loop_system, base);
    if (len > sizeof s->entropy / 4) {
        fill_random(out, len);
        return;
    }
    if (s->entropy_left < len) {
        fill_random(s->entropy, sizeof s->entropy);
        s->entropy_left = sizeof s->entropy;
    }
    s->entropy_left -= len;
    memcpy(out, s->entropy + s->entropy_left, len);
    explicit_bzero(s->entropy + s->entropy_left, len);
}

static bool read_boot_id(uint8_t out[16])
{
    char text[UUID_TEXT_SIZE] = {0};
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    struct uuid id;
    if (n != (ssize_t)sizeof text - 1 || uuid_from_text(&id, text) < 0) {
        return false;
    }
    memcpy(out, id.bytes, sizeof id.bytes);
    return true;
}

/* Without /proc the id is random: then each start of the process counts as a boot, which is the
 * careful answer. */
void loop_system_boot_id(struct loop *l, uint8_t out[16])
{
    struct loop_system *s = container_of(l, struct loop_system, base);
    if (!s->has_boot_id) {
        if (!read_boot_id(s->boot_id)) {
            fill_random(s->boot_id, sizeof s->boot_id);
        }
        s->has_boot_id = true;
    }
    memcpy(out, s->boot_id, sizeof s->boot_id);
}
