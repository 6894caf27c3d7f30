/*
 * loop/epoll.c -- the epoll backend.
 *
 * Every descriptor is registered once, edge-triggered, for both directions; the event carries
 * (slot, generation). Events that were fetched but not handled, because a callback stopped the
 * loop, are handed out by the next wait: an edge is not reported twice. The eventfd that wakes is
 * edge-triggered too and never read: each write is an edge. epoll_pwait2 waits to the nanosecond;
 * its clock stands while the machine is suspended, so after a resume timers may come late, which
 * their contract allows.
 */
#include "base/mem.h"
#include "loop/loop_priv.h"

#include <limits.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define EPOLL_EVENTS 256
#define NS_PER_S 1000000000u
#define NS_PER_MS 1000000u

struct loop_epoll {
    struct loop_system system;
    int epoll_fd, wake_fd, timer_fd;
    uint64_t armed_ns; /* what timer_fd is set to; UINT64_MAX: disarmed */
    bool coarse;       /* no epoll_pwait2 in this kernel */
    int next, count;   /* of events: those not yet handed out */
    struct epoll_event events[EPOLL_EVENTS];
};

static struct loop_epoll *epoll_of(struct loop *l)
{
    struct loop_system *s = container_of(l, struct loop_system, base);
    return container_of(s, struct loop_epoll, system);
}

static void close_if_open(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

static struct loop *epoll_free(struct loop *l)
{
    struct loop_epoll *b = epoll_of(l);
    loop_system_fini(&b->system);
    close_if_open(b->timer_fd);
    close_if_open(b->wake_fd);
    close_if_open(b->epoll_fd);
    mem_free(b);
    return NULL;
}

static int wait_coarse(const struct loop_epoll *b, struct epoll_event *events, uint64_t wait_ns)
{
    int ms = -1;
    if (wait_ns / NS_PER_MS < INT_MAX) {
        ms = (int)((wait_ns + NS_PER_MS - 1) / NS_PER_MS);
    }
    return epoll_wait(b->epoll_fd, events, EPOLL_EVENTS, ms);
}

static int wait_exact(struct loop_epoll *b, uint64_t wait_ns)
{
    if (!b->coarse) {
        struct timespec ts = {.tv_sec = (time_t)(wait_ns / NS_PER_S),
                              .tv_nsec = (long)(wait_ns % NS_PER_S)};
        int n = epoll_pwait2(b->epoll_fd, b->events, EPOLL_EVENTS,
                             wait_ns == UINT64_MAX ? NULL : &ts, NULL);
        if (n >= 0 || errno != ENOSYS) {
            return n;
        }
        b->coarse = true;
    }
    return wait_coarse(b, b->events, wait_ns);
}

static unsigned events_from(uint32_t bits)
{
    unsigned events = 0;
    events |= (bits & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0 ? LOOP_READABLE : 0;
    events |= (bits & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0 ? LOOP_WRITABLE : 0;
    events |= (bits & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0 ? LOOP_HANGUP : 0;
    return events;
}

static bool epoll_wait_ops(struct loop *l, uint64_t wait_ns)
{
    struct loop_epoll *b = epoll_of(l);
    if (b->next >= b->count) {
        int n = wait_exact(b, wait_ns);
        CHECK(n >= 0 || errno == EINTR);
        b->next = 0;
        b->count = n > 0 ? n : 0;
        /* Messages that come from now on, also from what is called here, are seen without a wake.
         */
        (void)atomic_exchange_explicit(&l->sleep, LOOP_AWAKE, memory_order_acq_rel);
    }
    l->tick_ns = loop_system_now_ns(l);
    bool any = b->next < b->count;
    while (b->next < b->count && !l->stopping) {
        const struct epoll_event ev = b->events[b->next++];
        loop_fd_ready(l, ev.data.u64, events_from(ev.events));
    }
    return any;
}

static void epoll_wake(struct loop *l)
{
    uint64_t one = 1;
    ssize_t n = write(epoll_of(l)->wake_fd, &one, sizeof one);
    CHECK(n ==
          (ssize_t)sizeof one); /* the counter cannot overflow within the age of the universe */
}

static void arm_timer(struct loop_epoll *b, uint64_t at_ns)
{
    if (b->armed_ns == at_ns) {
        return;
    }
    b->armed_ns = at_ns;
    struct itimerspec spec = {.it_value = {0}};
    if (at_ns != UINT64_MAX) {
        uint64_t ns = base_max(at_ns, 1); /* zero would disarm */
        spec.it_value.tv_sec = (time_t)(ns / NS_PER_S);
        spec.it_value.tv_nsec = (long)(ns % NS_PER_S);
    }
    int rc = timerfd_settime(b->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
    CHECK(rc == 0);
}

/* Between rounds of a foreign event loop only. */
static void epoll_changed(struct loop *l)
{
    struct loop_epoll *b = epoll_of(l);
    if (loop_has_work(l) || l->stopping || b->next < b->count) {
        epoll_wake(l);
    }
    arm_timer(b, loop_next_timer_ns(l));
}

static int epoll_poll_fd(struct loop *l)
{
    struct loop_epoll *b = epoll_of(l);
    if (!b->system.foreign) {
        CHECK(list_empty(&l->sources));
        b->system.foreign = true;
        if (!l->in_round) {
            (void)atomic_exchange_explicit(&l->sleep, LOOP_SLEEPING, memory_order_acq_rel);
            l->notify = true;
            epoll_changed(l);
        }
    }
    return b->epoll_fd;
}

static int epoll_wake_fd(const struct loop *l)
{
    const struct loop_system *s = container_of(l, const struct loop_system, base);
    return container_of(s, const struct loop_epoll, system)->wake_fd;
}

static int register_fd(const struct loop_epoll *b, int fd, uint32_t bits, uint64_t data)
{
    struct epoll_event ev = {.events = bits | EPOLLET, .data.u64 = data};
    return epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

static int epoll_fd_add(struct loop *l, struct loop_fd *w, uint64_t data)
{
    return register_fd(epoll_of(l), w->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, data);
}

static void epoll_fd_remove(struct loop *l, struct loop_fd *w)
{
    int rc = epoll_ctl(epoll_of(l)->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
    CHECK(rc == 0); /* else it was closed before it was removed */
}

/* An edge is told in any case. */
static void epoll_fd_want(struct loop *l, struct loop_fd *w, unsigned events)
{
    (void)l;
    (void)w;
    (void)events;
}

static const struct loop_ops epoll_ops = {
    .free = epoll_free,
    .run_once = loop_system_once,
    .wait = epoll_wait_ops,
    .wake = epoll_wake,
    .changed = epoll_changed,
    .poll_fd = epoll_poll_fd,
    .wake_fd = epoll_wake_fd,
    .fd_add = epoll_fd_add,
    .fd_remove = epoll_fd_remove,
    .fd_want = epoll_fd_want,
    LOOP_SYSTEM_OPS,
};

static int open_descriptors(struct loop_epoll *b, struct err *e)
{
    b->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (b->epoll_fd < 0) {
        return err_set(e, -errno, "create epoll descriptor");
    }
    b->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (b->wake_fd < 0) {
        return err_set(e, -errno, "create eventfd");
    }
    b->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (b->timer_fd < 0) {
        return err_set(e, -errno, "create timerfd");
    }
    int rc = register_fd(b, b->wake_fd, EPOLLIN, LOOP_FORGOTTEN);
    if (rc == 0) {
        rc = register_fd(b, b->timer_fd, EPOLLIN, LOOP_FORGOTTEN);
    }
    return rc == 0 ? 0 : err_set(e, rc, "register with epoll");
}

int loop_epoll_new(const struct loop_options *opt, struct loop **ret, struct err *e)
{
    struct loop_epoll *b = mem_zalloc(sizeof *b);
    if (b == NULL) {
        return -ENOMEM;
    }
    b->epoll_fd = b->wake_fd = b->timer_fd = -1;
    b->armed_ns = UINT64_MAX;
    int rc = loop_system_init(&b->system, &epoll_ops, opt);
    if (rc == 0) {
        rc = open_descriptors(b, e);
    }
    if (rc < 0) {
        (void)epoll_free(&b->system.base);
        return rc;
    }
    *ret = &b->system.base;
    return 0;
}
