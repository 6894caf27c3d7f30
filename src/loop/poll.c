/*
 * loop/poll.c -- the poll backend, for systems whose epoll is not to be had, and to compare with.
 *
 * poll() tells levels; the loop promises edges. So what was told of a descriptor is not watched any
 * more until its user says that it is over (loop_fd_want()): then the next time it is true is an
 * edge. A descriptor of which nothing is watched is left out (-1): errors and hang-ups, which
 * poll() tells unasked, would come again and again.
 *
 * What was fetched and not handed out, because a callback stopped the loop, is handed out by the
 * next wait, as with epoll. Cost grows with the number of descriptors; there is nothing that a
 * foreign event loop could watch.
 */
#include "base/mem.h"
#include "loop/loop_priv.h"

#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define POLL_EVENTS 256u
#define POLL_WAKE 0u /* place of the eventfd */
#define NS_PER_S 1000000000u

struct poll_event {
    uint64_t data;
    unsigned events;
};

struct loop_poll {
    struct loop_system system;
    struct pollfd *fds; /* dense; the first is the eventfd */
    struct loop_fd **watch;
    size_t fd_count, fd_capacity, watch_capacity;
    size_t from;          /* where looking for events begins, so that none is left out for ever */
    unsigned next, count; /* of events: those not yet handed out */
    struct poll_event event[POLL_EVENTS];
};

static struct loop_poll *poll_of(struct loop *l)
{
    struct loop_system *s = container_of(l, struct loop_system, base);
    return container_of(s, struct loop_poll, system);
}

static int poll_fd_of_wake(const struct loop *l)
{
    const struct loop_system *s = container_of(l, const struct loop_system, base);
    return container_of(s, const struct loop_poll, system)->fds[POLL_WAKE].fd;
}

static struct loop *poll_free(struct loop *l)
{
    struct loop_poll *b = poll_of(l);
    loop_system_fini(&b->system);
    if (b->fd_count > POLL_WAKE) {
        close(b->fds[POLL_WAKE].fd);
    }
    mem_free(b->fds);
    mem_free(b->watch);
    mem_free(b);
    return NULL;
}

/* ---- What is watched ---- */

static short bits_of(unsigned wanted)
{
    int bits = 0;
    bits |= (wanted & LOOP_READABLE) != 0 ? POLLIN : 0;
    bits |= (wanted & LOOP_WRITABLE) != 0 ? POLLOUT : 0;
    bits |= (wanted & LOOP_HANGUP) != 0 ? POLLRDHUP : 0;
    return (short)bits;
}

static unsigned events_of(int bits)
{
    unsigned events = 0;
    events |= (bits & (POLLIN | POLLRDHUP | POLLHUP | POLLERR)) != 0 ? LOOP_READABLE : 0;
    events |= (bits & (POLLOUT | POLLHUP | POLLERR)) != 0 ? LOOP_WRITABLE : 0;
    events |= (bits & (POLLRDHUP | POLLHUP | POLLERR)) != 0 ? LOOP_HANGUP : 0;
    return events;
}

static void watch_for(struct loop_poll *b, size_t place, unsigned wanted)
{
    struct loop_fd *w = b->watch[place];
    w->wanted = wanted;
    b->fds[place].fd = wanted == 0 ? -1 : w->fd;
    b->fds[place].events = bits_of(wanted);
    b->fds[place].revents = 0; /* of an earlier wait: what is true is told again */
}

static int poll_fd_add(struct loop *l, struct loop_fd *w, uint64_t data)
{
    struct loop_poll *b = poll_of(l);
    (void)data;
    if (fcntl(w->fd, F_GETFD) < 0) {
        return -errno;
    }
    int rc = mem_grow(&b->fds, &b->fd_capacity, b->fd_count + 1, sizeof b->fds[0]);
    if (rc == 0) {
        rc = mem_grow(&b->watch, &b->watch_capacity, b->fd_count + 1, sizeof b->watch[0]);
    }
    if (rc < 0) {
        return rc;
    }
    w->place = (uint32_t)b->fd_count++;
    b->watch[w->place] = w;
    watch_for(b, w->place, LOOP_READABLE | LOOP_WRITABLE | LOOP_HANGUP);
    return 0;
}

static void poll_fd_remove(struct loop *l, struct loop_fd *w)
{
    struct loop_poll *b = poll_of(l);
    size_t place = w->place, last = b->fd_count - 1;
    CHECK(place > POLL_WAKE && place <= last && b->watch[place] == w);
    b->fds[place] = b->fds[last];
    b->watch[place] = b->watch[last];
    b->watch[place]->place = (uint32_t)place;
    b->fd_count--;
}

static void poll_fd_want(struct loop *l, struct loop_fd *w, unsigned events)
{
    struct loop_poll *b = poll_of(l);
    CHECK(w->place < b->fd_count && b->watch[w->place] == w);
    watch_for(b, w->place, w->wanted | events);
}

/* ---- Waiting ---- */

/* Its counter goes back to nothing. */
static void take_wake(const struct loop_poll *b)
{
    uint64_t count;
    ssize_t n = read(b->fds[POLL_WAKE].fd, &count, sizeof count);
    CHECK(n == (ssize_t)sizeof count || errno == EAGAIN);
}

static void take_event(struct loop_poll *b, size_t place)
{
    struct loop_fd *w = b->watch[place];
    int bits = b->fds[place].revents;
    CHECK((bits & POLLNVAL) == 0); /* it was closed before it was removed */
    unsigned events = events_of(bits);
    b->event[b->count++] =
        (struct poll_event){.data = (uint64_t)w->slot << 32 | w->generation, .events = events};
    watch_for(b, place, w->wanted & ~events);
}

static void take_events(struct loop_poll *b)
{
    size_t others = b->fd_count - 1, at = b->from < others ? b->from : 0;
    b->next = b->count = 0;
    for (size_t i = 0; i < others && b->count < POLL_EVENTS; i++) {
        size_t place = POLL_WAKE + 1 + at;
        if (b->fds[place].revents != 0) {
            take_event(b, place);
        }
        at = at + 1 < others ? at + 1 : 0;
    }
    b->from = at;
    if (b->fds[POLL_WAKE].revents != 0) {
        take_wake(b);
    }
}

static int poll_for(struct loop_poll *b, uint64_t wait_ns)
{
    struct timespec ts = {.tv_sec = (time_t)(wait_ns / NS_PER_S),
                          .tv_nsec = (long)(wait_ns % NS_PER_S)};
    return ppoll(b->fds, b->fd_count, wait_ns == UINT64_MAX ? NULL : &ts, NULL);
}

static bool poll_wait(struct loop *l, uint64_t wait_ns)
{
    struct loop_poll *b = poll_of(l);
    bool any = b->next < b->count;
    if (!any) {
        int n = poll_for(b, wait_ns);
        CHECK(n >= 0 || errno == EINTR);
        any = n > 0;
        if (any) {
            take_events(b);
        }
        /* Messages that come from now on, also from what is called here, are seen without a wake.
         */
        (void)atomic_exchange_explicit(&l->sleep, LOOP_AWAKE, memory_order_acq_rel);
    }
    l->tick_ns = loop_system_now_ns(l);
    while (b->next < b->count && !l->stopping) {
        const struct poll_event ev = b->event[b->next++];
        loop_fd_ready(l, ev.data, ev.events);
    }
    return any;
}

static void poll_wake(struct loop *l)
{
    uint64_t one = 1;
    ssize_t n = write(poll_fd_of_wake(l), &one, sizeof one);
    CHECK(n == (ssize_t)sizeof one);
}

/* ---- What a foreign event loop would need ---- */

static void poll_changed(struct loop *l)
{
    (void)l;
}

static int poll_none(struct loop *l)
{
    (void)l;
    return -1;
}

static const struct loop_ops poll_ops = {
    .free = poll_free,
    .run_once = loop_system_once,
    .wait = poll_wait,
    .wake = poll_wake,
    .changed = poll_changed,
    .poll_fd = poll_none,
    .wake_fd = poll_fd_of_wake,
    .fd_add = poll_fd_add,
    .fd_remove = poll_fd_remove,
    .fd_want = poll_fd_want,
    LOOP_SYSTEM_OPS,
};

static int poll_init(struct loop_poll *b, struct err *e)
{
    int rc = mem_grow(&b->fds, &b->fd_capacity, 1, sizeof b->fds[0]);
    if (rc == 0) {
        rc = mem_grow(&b->watch, &b->watch_capacity, 1, sizeof b->watch[0]);
    }
    if (rc < 0) {
        return rc;
    }
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        return err_set(e, -errno, "create eventfd");
    }
    b->fds[POLL_WAKE] = (struct pollfd){.fd = fd, .events = POLLIN};
    b->watch[POLL_WAKE] = NULL;
    b->fd_count = 1;
    return 0;
}

int loop_poll_new(const struct loop_options *opt, struct loop **ret, struct err *e)
{
    struct loop_poll *b = mem_zalloc(sizeof *b);
    if (b == NULL) {
        return -ENOMEM;
    }
    int rc = loop_system_init(&b->system, &poll_ops, opt);
    if (rc == 0) {
        rc = poll_init(b, e);
    }
    if (rc < 0) {
        (void)poll_free(&b->system.base);
        return rc;
    }
    *ret = &b->system.base;
    return 0;
}
