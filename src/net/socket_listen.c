/*
 * net/socket_listen.c -- listeners: accept in bounded rounds, back off when descriptors run out.
 *
 * A pending connection that could not be accepted would raise no new edge, so whoever stops early
 * (round full, no descriptors) comes back by itself.
 */
#include "net/socket_priv.h"

#include "base/mem.h"

#include <fcntl.h>
#include <unistd.h>

#define ACCEPTS_PER_ROUND 64u
#define BACK_OFF_NS 100000000u

struct net_listener {
    struct net *net;
    struct net_listener_user *user; /* NULL: held for others */
    struct loop_fd watch;
    struct loop_task again;
    struct loop_timer back_off;
    bool watched, accepting, closed;
    char unlink_path[sizeof((struct sockaddr_un *)0)->sun_path]; /* empty: not ours to remove */
};

/* May the next connection be tried after this error at once? */
static bool accept_error_is_peers(int error)
{
    switch (error) {
    case ECONNABORTED:
    case EINTR:
    case EPROTO:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
        return true;
    default:
        return false;
    }
}

static void listener_accept_error(struct net_listener *li, int error)
{
    if (error == EAGAIN || error == EWOULDBLOCK) {
        loop_fd_want(li->net->loop, &li->watch, LOOP_READABLE);
    } else {
        if (li->user != NULL && li->user->failed != NULL) {
            li->user->failed(li->user, -error);
        }
        loop_timer_in(li->net->loop, &li->back_off, BACK_OFF_NS);
    }
}

static void listener_accept(struct net_listener *li)
{
    li->accepting = true;
    unsigned round = 0;
    for (; round < ACCEPTS_PER_ROUND && !li->closed; round++) {
        int fd = accept4(li->watch.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && accept_error_is_peers(errno)) {
            continue;
        }
        if (fd < 0) {
            listener_accept_error(li, errno);
            break;
        }
        struct stream *s = NULL;
        if (net_socket_stream(li->net, fd, &s) == 0) {
            li->user->accepted(li->user, s);
        }
    }
    li->accepting = false;
    if (li->closed) {
        mem_free(li);
    } else if (round == ACCEPTS_PER_ROUND) {
        loop_defer(li->net->loop, &li->again);
    }
}

static void listener_ready(struct loop_fd *w, unsigned events)
{
    (void)events;
    listener_accept(container_of(w, struct net_listener, watch));
}

static void listener_again(struct loop_task *t)
{
    listener_accept(container_of(t, struct net_listener, again));
}

static void listener_back_off_over(struct loop_timer *t)
{
    listener_accept(container_of(t, struct net_listener, back_off));
}

/* Takes the descriptor over, also on failure. */
static int listener_new(struct net *n, int fd, struct net_listener_user *u,
                        struct net_listener **ret)
{
    struct net_listener *li = mem_zalloc(sizeof *li);
    if (li == NULL) {
        (void)close(fd);
        return -ENOMEM;
    }
    li->net = n;
    li->user = u;
    li->watch = (struct loop_fd){.ready = listener_ready, .fd = fd};
    li->again.run = listener_again;
    li->back_off.fire = listener_back_off_over;
    int rc = u == NULL ? 0 : loop_fd_add(n->loop, &li->watch);
    if (rc < 0) {
        (void)close(fd);
        mem_free(li);
        return rc;
    }
    li->watched = u != NULL;
    if (li->watched) {
        loop_defer(n->loop, &li->again); /* connections may have queued before */
    }
    *ret = li;
    return 0;
}

/* Does nobody listen on this unix socket any more? */
static bool unix_socket_is_stale(const union net_socket_address *a, socklen_t len)
{
    int fd = net_socket_open(AF_UNIX);
    if (fd < 0) {
        return false;
    }
    bool stale = connect(fd, &a->any, len) < 0 && errno == ECONNREFUSED;
    (void)close(fd);
    return stale;
}

static int bind_and_listen(int fd, const union net_socket_address *a, socklen_t len)
{
    int one = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0) {
        return -errno;
    }
    int rc = bind(fd, &a->any, len) < 0 ? -errno : 0;
    if (rc == -EADDRINUSE && a->any.sa_family == AF_UNIX && unix_socket_is_stale(a, len)) {
        (void)unlink(a->un.sun_path);
        rc = bind(fd, &a->any, len) < 0 ? -errno : 0;
    }
    return rc < 0 ? rc : listen(fd, SOMAXCONN) < 0 ? -errno : 0;
}

int net_socket_listen(struct net *n, const struct net_address *at, struct net_listener_user *u,
                      struct net_listener **ret)
{
    union net_socket_address a;
    socklen_t len = 0;
    int rc = net_socket_address(at, &a, &len);
    if (rc == -EAGAIN) {
        rc = net_socket_lookup(at, &a, &len, 1); /* start-up: may block */
    }
    int fd = rc < 0 ? rc : net_socket_open(a.any.sa_family);
    if (fd < 0) {
        return fd;
    }
    rc = bind_and_listen(fd, &a, len);
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    rc = listener_new(n, fd, u, ret);
    if (rc == 0 && a.any.sa_family == AF_UNIX) {
        memcpy((*ret)->unlink_path, a.un.sun_path, sizeof a.un.sun_path);
    }
    return rc;
}

int net_socket_listen_fd(struct net *n, int fd, struct net_listener_user *u,
                         struct net_listener **ret)
{
    int listening = 0;
    socklen_t len = sizeof listening;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0) {
        return -errno;
    }
    int flags = fcntl(fd, F_GETFL);
    if (listening == 0 || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return -EINVAL;
    }
    return listener_new(n, fd, u, ret);
}

int net_socket_listener_fd(const struct net_listener *li)
{
    return li->watch.fd;
}

void net_socket_listener_address(const struct net_listener *li, struct net_address *ret)
{
    union net_socket_address a = {.storage = {.ss_family = AF_UNSPEC}};
    socklen_t len = sizeof a;
    *ret = (struct net_address){.text = "unknown"};
    if (getsockname(li->watch.fd, &a.any, &len) == 0) {
        net_socket_address_text(&a, len, ret);
    }
}

struct net_listener *net_socket_listener_close(struct net_listener *li)
{
    struct loop *l = li->net->loop;
    LOOP_OWNED(l);
    if (li->watched) {
        loop_fd_remove(l, &li->watch);
    }
    loop_undefer(l, &li->again);
    loop_timer_cancel(l, &li->back_off);
    (void)close(li->watch.fd);
    if (li->unlink_path[0] != '\0') {
        (void)unlink(li->unlink_path);
    }
    li->closed = true;
    if (!li->accepting) {
        mem_free(li);
    }
    return NULL;
}
