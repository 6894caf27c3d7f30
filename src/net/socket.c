/*
 * net/socket.c -- streams on sockets: TCP, unix and inherited pairs.
 *
 * Registered once with the loop for both directions, edge-triggered, for life: no system call per
 * message but the read and the write themselves.
 */
#include "net/socket_priv.h"

#include "base/mem.h"
#include "disk/disk.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <netinet/tcp.h>
#include <sys/sendfile.h>

struct socket_stream {
    struct stream base;
    struct loop_fd watch;
    struct loop_task attached; /* the first ready() */
    unsigned early;            /* events from before anybody listened */
    struct disk_sink sink;
};

static struct socket_stream *socket_of(struct stream *s)
{
    return container_of(s, struct socket_stream, base);
}

static void socket_ready(struct loop_fd *w, unsigned events)
{
    struct socket_stream *s = container_of(w, struct socket_stream, watch);
    struct stream_user *u = s->base.user;
    unsigned now = (events & LOOP_READABLE) != 0 ? STREAM_READABLE : 0;
    now |= (events & LOOP_WRITABLE) != 0 ? STREAM_WRITABLE : 0;
    now |= (events & LOOP_HANGUP) != 0 ? STREAM_CLOSED | STREAM_READABLE : 0;
    if (u == NULL) {
        s->early |= now;
    } else {
        u->ready(u, now);
    }
}

static void socket_attached(struct loop_task *t)
{
    struct socket_stream *s = container_of(t, struct socket_stream, attached);
    s->base.user->ready(s->base.user, STREAM_READABLE | STREAM_WRITABLE | s->early);
}

static void socket_attach(struct stream *st, struct stream_user *u)
{
    LOOP_OWNED(st->net->loop);
    st->user = u;
    loop_defer(st->net->loop, &socket_of(st)->attached);
}

static int64_t result(ssize_t n)
{
    return n >= 0 ? n : errno == EWOULDBLOCK ? -EAGAIN : -errno;
}

/* What came of `asked` bytes. When it was less, the next event tells when it goes on. */
static int64_t socket_moved(struct socket_stream *s, ssize_t n, size_t asked, unsigned event)
{
    int64_t rc = result(n);
    if (rc == -EAGAIN || (rc > 0 && (size_t)rc < asked)) {
        loop_fd_want(s->base.net->loop, &s->watch, event);
    }
    return rc;
}

static size_t iov_bytes(const struct iovec *iov, unsigned count)
{
    size_t sum = 0;
    for (unsigned i = 0; i < count; i++) {
        sum += iov[i].iov_len;
    }
    return sum;
}

static int64_t socket_read(struct stream *st, const struct iovec *iov, unsigned count)
{
    int fd = socket_of(st)->watch.fd;
    ssize_t n;
    do {
        n = count == 1 ? recv(fd, iov->iov_base, iov->iov_len, 0) : readv(fd, iov, (int)count);
    } while (n < 0 && errno == EINTR);
    return socket_moved(socket_of(st), n, iov_bytes(iov, count), LOOP_READABLE);
}

static int64_t socket_write(struct stream *st, const struct iovec *iov, unsigned count, bool more)
{
    int fd = socket_of(st)->watch.fd;
    int flags = MSG_NOSIGNAL | (more ? MSG_MORE : 0);
    struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = count};
    ssize_t n;
    do {
        n = count == 1 ? send(fd, iov->iov_base, iov->iov_len, flags) : sendmsg(fd, &m, flags);
    } while (n < 0 && errno == EINTR);
    return socket_moved(socket_of(st), n, iov_bytes(iov, count), LOOP_WRITABLE);
}

/* The kernel marks all but the last page as "more" by itself; `more` would cost another call. */
static int64_t socket_send_file(struct stream *st, struct disk_file *f, uint64_t offset,
                                uint64_t len, bool more)
{
    (void)more;
    off_t at = (off_t)offset;
    ssize_t n;
    do {
        n = sendfile(socket_of(st)->watch.fd, disk_file_fd(f), &at, len);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EINVAL || errno == ENOSYS)) {
        return -EOPNOTSUPP;
    }
    return socket_moved(socket_of(st), n, len, LOOP_WRITABLE);
}

/* A thread will write to it: what that meets is not seen here, so any event counts from now on. */
static struct disk_sink *socket_sink(struct stream *st)
{
    struct socket_stream *s = socket_of(st);
    loop_fd_want(st->net->loop, &s->watch, LOOP_WRITABLE);
    return &s->sink;
}

static void socket_peer(const struct stream *st, char *out, size_t size)
{
    const struct socket_stream *s = (const struct socket_stream *)(const void *)st;
    union net_socket_address a = {.storage = {.ss_family = AF_UNSPEC}};
    socklen_t len = sizeof a;
    struct net_address text = {.text = "unknown"};
    if (getpeername(s->watch.fd, &a.any, &len) == 0) {
        net_socket_address_text(&a, len, &text);
    }
    size_t n = base_min(strlen(text.text), size > 0 ? size - 1 : 0);
    if (size > 0) {
        memcpy(out, text.text, n);
        out[n] = '\0';
    }
}

/* Do both ends of the connection have the same address, so that no network lies between them? */
static bool within_host(int fd)
{
    union net_socket_address here = {.storage = {.ss_family = AF_UNSPEC}}, there = here;
    socklen_t here_len = sizeof here, there_len = sizeof there;
    if (getsockname(fd, &here.any, &here_len) < 0 || getpeername(fd, &there.any, &there_len) < 0 ||
        here.any.sa_family != there.any.sa_family) {
        return false;
    }
    if (here.any.sa_family == AF_INET) {
        return here.v4.sin_addr.s_addr == there.v4.sin_addr.s_addr;
    }
    return here.any.sa_family == AF_INET6 &&
           memcmp(&here.v6.sin6_addr, &there.v6.sin6_addr, sizeof here.v6.sin6_addr) == 0;
}

static bool socket_within_host(const struct stream *st)
{
    const struct socket_stream *s = (const struct socket_stream *)(const void *)st;
    return within_host(s->watch.fd);
}

static struct stream *socket_close(struct stream *st)
{
    struct socket_stream *s = socket_of(st);
    struct loop *l = st->net->loop;
    LOOP_OWNED(l);
    loop_fd_remove(l, &s->watch);
    loop_undefer(l, &s->attached);
    (void)close(s->watch.fd);
    mem_free(s);
    return NULL;
}

static const struct stream_ops socket_stream_ops = {
    .attach = socket_attach,
    .read = socket_read,
    .write = socket_write,
    .send_file = socket_send_file,
    .sink = socket_sink,
    .peer = socket_peer,
    .within_host = socket_within_host,
    .close = socket_close,
};

/*
 * All of it fails on unix sockets, which have nothing to turn off. Within a host there is no
 * congestion to control, but what the host has chosen for networks may cost much: the pacing of
 * "bbr" took a third of the throughput of large reads, and a third more CPU time. "reno" is in
 * every kernel.
 */
static void socket_tune(int fd)
{
    static const char cheapest[] = "reno";
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (within_host(fd)) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cheapest, sizeof cheapest - 1);
    }
}

int net_socket_stream(struct net *n, int fd, struct stream **ret)
{
    socket_tune(fd);
    struct socket_stream *s = mem_zalloc(sizeof *s);
    if (s == NULL) {
        (void)close(fd);
        return -ENOMEM;
    }
    s->base = (struct stream){.ops = &socket_stream_ops, .net = n};
    s->watch = (struct loop_fd){.ready = socket_ready, .fd = fd};
    s->attached.run = socket_attached;
    s->sink.fd = fd;
    int rc = loop_fd_add(n->loop, &s->watch);
    if (rc < 0) {
        (void)close(fd);
        mem_free(s);
        return rc;
    }
    *ret = &s->base;
    return 0;
}

int net_socket_open(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

static int socket_pair(struct net *n, struct stream **ret, int *ret_fd)
{
    int fd[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) < 0) {
        return -errno;
    }
    int rc = net_socket_stream(n, fd[0], ret);
    if (rc < 0) {
        (void)close(fd[1]);
        return rc;
    }
    *ret_fd = fd[1];
    return 0;
}

static int socket_adopt(struct net *n, int fd, struct stream **ret)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return -errno;
    }
    return net_socket_stream(n, fd, ret);
}

static void socket_fd_close(struct net *n, int fd)
{
    (void)n;
    (void)close(fd);
}

static struct net *net_socket_free(struct net *base)
{
    struct net_socket *n = container_of(base, struct net_socket, base);
    if (n->lookups != NULL) {
        /* Cancelled look-ups may still wait: run them, so that the pool can end. */
        while (loop_executor_help(n->lookups, 1) > 0) {
        }
        loop_executor_free(n->lookups);
    }
    mem_free(n);
    return NULL;
}

static const struct net_ops net_socket_ops = {
    .connect = net_socket_connect,
    .connect_cancel = net_socket_connect_cancel,
    .listen = net_socket_listen,
    .listen_fd = net_socket_listen_fd,
    .listener_fd = net_socket_listener_fd,
    .listener_address = net_socket_listener_address,
    .listener_close = net_socket_listener_close,
    .pair = socket_pair,
    .adopt = socket_adopt,
    .fd_close = socket_fd_close,
    .free = net_socket_free,
};

/* sendfile() has no MSG_NOSIGNAL: a peer that left must be an error, not the end of the process. A
 * handler of the program's own stays. */
static void ignore_sigpipe(void)
{
    struct sigaction now;
    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL) {
        struct sigaction ignore = {.sa_handler = SIG_IGN};
        (void)sigaction(SIGPIPE, &ignore, NULL);
    }
}

int net_socket_new(const struct env *env, struct net **ret)
{
    struct net_socket *n = mem_zalloc(sizeof *n);
    if (n == NULL) {
        return -ENOMEM;
    }
    ignore_sigpipe();
    n->base = (struct net){.ops = &net_socket_ops, .loop = env->loop};
    n->env = env;
    *ret = &n->base;
    return 0;
}
