/*
 * net/socket_connect.c -- connecting: name (on an executor), then each of its addresses in turn
 * until one answers or the time is up.
 *
 * A cancelled attempt whose look-up still runs stays behind without an owner until the executor has
 * given it back.
 */
#include "net/socket_priv.h"

#include "base/mem.h"

#include <unistd.h>

#define TRIES 8u

struct socket_connect {
    struct net *net;
    struct net_connect *owner; /* NULL: cancelled, or already answered */
    struct loop_executor_job lookup;
    bool looking_up;
    struct net_address to;
    union net_socket_address address[TRIES];
    socklen_t address_len[TRIES];
    int found; /* addresses, or the error of the look-up */
    int next;
    struct loop_fd watch; /* fd -1: none in progress */
    struct loop_task start;
    struct loop_timer timeout;
};

static void connect_stop(struct socket_connect *sc)
{
    if (sc->watch.fd >= 0) {
        loop_fd_remove(sc->net->loop, &sc->watch);
        (void)close(sc->watch.fd);
        sc->watch.fd = -1;
    }
}

static void connect_release(struct socket_connect *sc)
{
    connect_stop(sc);
    loop_timer_cancel(sc->net->loop, &sc->timeout);
    loop_undefer(sc->net->loop, &sc->start);
    sc->owner = NULL;
    if (!sc->looking_up) {
        mem_free(sc);
    }
}

static void connect_end(struct socket_connect *sc, int rc, struct stream *s)
{
    struct net_connect *c = sc->owner;
    connect_release(sc);
    c->backend = NULL;
    c->done(c, rc, s);
}

static void connect_made(struct socket_connect *sc)
{
    int fd = sc->watch.fd;
    loop_fd_remove(sc->net->loop, &sc->watch);
    sc->watch.fd = -1;
    struct stream *s = NULL;
    int rc = net_socket_stream(sc->net, fd, &s);
    connect_end(sc, rc, s);
}

/* Begins with the next address: 0 made at once, 1 in progress, or the error. */
static int connect_begin(struct socket_connect *sc)
{
    const union net_socket_address *a = &sc->address[sc->next];
    socklen_t len = sc->address_len[sc->next];
    sc->next++;
    int fd = net_socket_open(a->any.sa_family);
    if (fd < 0) {
        return fd;
    }
    sc->watch.fd = fd;
    if (connect(fd, &a->any, len) == 0) {
        return 0;
    }
    int rc = errno == EINPROGRESS ? loop_fd_add(sc->net->loop, &sc->watch) : -errno;
    if (rc < 0) {
        (void)close(fd);
        sc->watch.fd = -1;
        return rc;
    }
    return 1;
}

static void connect_next(struct socket_connect *sc, int rc)
{
    while (sc->next < sc->found) {
        rc = connect_begin(sc);
        if (rc >= 0) {
            break;
        }
    }
    if (rc < 0) {
        connect_end(sc, rc, NULL);
    } else if (rc == 0) {
        connect_made(sc);
    }
}

static void connect_ready(struct loop_fd *w, unsigned events)
{
    struct socket_connect *sc = container_of(w, struct socket_connect, watch);
    int error = 0;
    socklen_t len = sizeof error;
    if ((events & (LOOP_WRITABLE | LOOP_HANGUP)) == 0) {
        return;
    }
    if (getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0) {
        error = errno;
    }
    union net_socket_address peer;
    socklen_t peer_len = sizeof peer;
    if (error == 0 && getpeername(w->fd, &peer.any, &peer_len) < 0) {
        return; /* an event from before connect() had begun */
    }
    if (error == 0) {
        connect_made(sc);
        return;
    }
    connect_stop(sc);
    connect_next(sc, -error);
}

static void connect_timeout(struct loop_timer *t)
{
    connect_end(container_of(t, struct socket_connect, timeout), -ETIMEDOUT, NULL);
}

static void connect_start(struct loop_task *t)
{
    connect_next(container_of(t, struct socket_connect, start), -EHOSTUNREACH);
}

static void lookup_work(struct loop_executor_job *j)
{
    struct socket_connect *sc = container_of(j, struct socket_connect, lookup);
    sc->found = net_socket_lookup(&sc->to, sc->address, sc->address_len, TRIES);
}

static void lookup_done(struct loop_executor_job *j)
{
    struct socket_connect *sc = container_of(j, struct socket_connect, lookup);
    sc->looking_up = false;
    if (sc->owner == NULL) {
        mem_free(sc);
        return;
    }
    connect_next(sc, sc->found < 0 ? sc->found : -EHOSTUNREACH);
}

static int lookup_start(struct net_socket *n, struct socket_connect *sc)
{
    if (n->lookups == NULL) {
        const struct loop_executor_options opt = {
            .name = "lookup", .max_threads = 2, .max_queued = 64, .idle_ms = 10000};
        int rc = loop_executor_new(&opt, &n->lookups);
        if (rc < 0) {
            return rc;
        }
    }
    sc->lookup = (struct loop_executor_job){.work = lookup_work, .done = lookup_done};
    int rc = loop_executor_submit(n->lookups, n->base.loop, &sc->lookup);
    sc->looking_up = rc == 0;
    return rc;
}

void net_socket_connect(struct net *base, struct net_connect *c)
{
    struct net_socket *n = container_of(base, struct net_socket, base);
    struct socket_connect *sc = mem_zalloc(sizeof *sc);
    if (sc == NULL) {
        net_connect_fail_later(base, c, -ENOMEM);
        return;
    }
    sc->net = base;
    sc->owner = c;
    sc->to = c->to;
    sc->watch = (struct loop_fd){.ready = connect_ready, .fd = -1};
    sc->start.run = connect_start;
    sc->timeout.fire = connect_timeout;
    int rc = net_socket_address(&sc->to, &sc->address[0], &sc->address_len[0]);
    if (rc == 0) {
        sc->found = 1;
        loop_defer(base->loop, &sc->start);
    } else if (rc == -EAGAIN) {
        rc = lookup_start(n, sc);
    }
    if (rc < 0) {
        mem_free(sc);
        net_connect_fail_later(base, c, rc);
        return;
    }
    uint64_t limit_ms = c->timeout_ms == 0 ? NET_CONNECT_TIMEOUT_MS : c->timeout_ms;
    loop_timer_in(base->loop, &sc->timeout, limit_ms * 1000000u);
    c->backend = sc;
}

void net_socket_connect_cancel(struct net *n, struct net_connect *c)
{
    (void)n;
    connect_release(c->backend);
}
