/* loop/signal.c -- signals through one signalfd per loop; see loop.h. */
#include "loop/loop_priv.h"

#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void read_signals(struct loop_fd *w, unsigned events)
{
    struct loop_system *s = container_of(w, struct loop_system, signal_watch);
    (void)events;
    struct signalfd_siginfo info;
    /* Bounded by the kernel: standard signals do not queue, real-time ones are limited. */
    while (w->fd >= 0 && read(w->fd, &info, sizeof info) == (ssize_t)sizeof info) {
        (void)loop_signal_deliver(&s->base, (int)info.ssi_signo);
    }
    if (w->fd >= 0) {
        loop_fd_want(&s->base, w, LOOP_READABLE);
    }
}

static void watched_set(const struct loop *l, int also, sigset_t *ret)
{
    sigemptyset(ret);
    for (int signo = 1; signo < LOOP_SIGNALS; signo++) {
        if (l->signal_watches[signo] > 0 || signo == also) {
            sigaddset(ret, signo);
        }
    }
}

int loop_system_signal_add(struct loop *l, int signo)
{
    struct loop_system *s = container_of(l, struct loop_system, base);
    sigset_t set;
    watched_set(l, signo, &set);
    int rc = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (rc != 0) {
        return -rc;
    }
    int fd = signalfd(s->signal_watch.fd, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    if (s->signal_watch.fd >= 0) {
        return 0;
    }
    s->signal_watch.fd = fd;
    s->signal_watch.ready = read_signals;
    rc = loop_fd_add(l, &s->signal_watch);
    if (rc < 0) {
        close(fd);
        s->signal_watch.fd = -1;
    }
    return rc;
}

/* It stays blocked: one that is pending now must not end the process. */
void loop_system_signal_remove(struct loop *l, int signo)
{
    struct loop_system *s = container_of(l, struct loop_system, base);
    (void)signo;
    sigset_t set;
    watched_set(l, 0, &set);
    int fd = signalfd(s->signal_watch.fd, &set, 0);
    CHECK(fd == s->signal_watch.fd);
}

void loop_system_signal_fini(struct loop_system *s)
{
    if (s->signal_watch.fd >= 0) {
        loop_fd_remove(&s->base, &s->signal_watch);
        close(s->signal_watch.fd);
        s->signal_watch.fd = -1;
    }
}
