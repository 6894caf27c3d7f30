/*
 * net/stream.h -- byte streams and listeners. Backends: sockets (TCP, unix, inherited descriptors),
 * simulation (net/sim.h); later TLS. A stream belongs to the loop of the struct net that made it.
 *
 * Readiness is edge-triggered and kept in the handle: read or write until -EAGAIN, then `ready` is
 * called when that changes. No callback comes from inside a call. After close nothing comes any
 * more.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "disk/disk.h"
#include "loop/loop.h"

#include <sys/uio.h>

struct env;
struct net;
struct stream;

#define NET_ADDRESS_SIZE 128u
/* "10.0.0.1:9400", "[::1]:9400", "host.name:9400" (looked up on an executor), "unix:/path". Always
 * valid text. */
struct net_address {
    char text[NET_ADDRESS_SIZE];
};
NODISCARD int net_address_parse(const char *text, uint16_t default_port, struct net_address *ret,
                                struct err *e);
bool net_address_is_loopback(const struct net_address *a); /* unix: true */

#define STREAM_READABLE 1u
#define STREAM_WRITABLE 2u
#define STREAM_CLOSED 4u /* the peer is gone or the connection failed: read tells (0 or -errno) */
struct stream_user {
    void (*ready)(struct stream_user *u, unsigned events);
};

struct stream {
    const struct stream_ops *ops;
    struct net *net;
    struct stream_user *user; /* set by stream_attach */
};
struct stream_ops {
    void (*attach)(struct stream *s, struct stream_user *u);
    int64_t (*read)(struct stream *s, const struct iovec *iov, unsigned count);
    int64_t (*write)(struct stream *s, const struct iovec *iov, unsigned count, bool more);
    int64_t (*send_file)(struct stream *s, struct disk_file *f, uint64_t offset, uint64_t len,
                         bool more);
    struct disk_sink *(*sink)(struct stream *s);
    void (*peer)(const struct stream *s, char *out, size_t size);
    bool (*within_host)(const struct stream *s); /* both ends have one IP address */
    struct stream *(*close)(struct stream *s);
};
/* From here on `u` hears of events; the first ready() comes soon. It may say more than is true
 * (then read or write answer -EAGAIN), never less. A read that returned less than was asked for,
 * without STREAM_CLOSED having been seen, has emptied the stream: the next ready() tells. */
static inline void stream_attach(struct stream *s, struct stream_user *u)
{
    s->ops->attach(s, u);
}
static inline int64_t stream_read(struct stream *s, const struct iovec *iov, unsigned count)
{
    return s->ops->read(s, iov, count); /* bytes; 0: end; -EAGAIN; -errno */
}
/* `more`: more bytes follow at once (MSG_MORE). Never corks without a following write. */
static inline int64_t stream_write(struct stream *s, const struct iovec *iov, unsigned count,
                                   bool more)
{
    return s->ops->write(s, iov, count, more);
}
/* Page cache to socket without a copy; blocks on the medium if not resident (check disk_resident
 * first). 0: the file ends at `offset`. -EOPNOTSUPP: not with this stream, use DISK_SEND. */
static inline int64_t stream_send_file(struct stream *s, struct disk_file *f, uint64_t offset,
                                       uint64_t len, bool more)
{
    return s->ops->send_file(s, f, offset, len, more);
}
/* For DISK_SEND of ranges that are not resident. Valid until close; the caller keeps the stream
 * open meanwhile. */
static inline struct disk_sink *stream_sink(struct stream *s)
{
    return s->ops->sink(s);
}
static inline struct stream *stream_close(struct stream *s) /* NULL is fine; returns NULL */
{
    return s == NULL ? NULL : s->ops->close(s);
}

/* Connecting: caller-owned; exactly one `done`: rc 0 and a stream that is now the caller's, or an
 * error. */
struct net_connect {
    void (*done)(struct net_connect *c, int rc, struct stream *s);
    struct net_address to;
    uint64_t timeout_ms; /* 0: 3,000 */
    /* the backend's; zero before the first use */
    struct net *net;
    void *backend;
    struct loop_task failed; /* refused at once: told later */
    int rc;
};
/* Listening. `accepted` hands a new stream over. */
struct net_listener;
struct net_listener_user {
    void (*accepted)(struct net_listener_user *u, struct stream *s);
    /* May be NULL: connections cannot be taken just now (-EMFILE, -ENFILE, -ENOMEM); they wait. */
    void (*failed)(struct net_listener_user *u, int rc);
};

struct net {
    const struct net_ops *ops;
    struct loop *loop;
};
struct net_ops {
    void (*connect)(struct net *n, struct net_connect *c);
    void (*connect_cancel)(struct net *n, struct net_connect *c);
    int (*listen)(struct net *n, const struct net_address *at, struct net_listener_user *u,
                  struct net_listener **ret);
    int (*listen_fd)(struct net *n, int fd, struct net_listener_user *u, struct net_listener **ret);
    int (*listener_fd)(const struct net_listener *li);
    void (*listener_address)(const struct net_listener *li, struct net_address *ret);
    struct net_listener *(*listener_close)(struct net_listener *li);
    int (*pair)(struct net *n, struct stream **ret, int *ret_fd);
    int (*adopt)(struct net *n, int fd, struct stream **ret);
    void (*fd_close)(struct net *n, int fd);
    struct net *(*free)(struct net *n);
};
/* All -errno; listen: -EADDRINUSE names no path: the caller knows it. Port 0: chosen, see
 * net_listener_address. */
void net_connect(struct net *n, struct net_connect *c);
void net_connect_cancel(struct net *n, struct net_connect *c); /* no `done` after it */
NODISCARD int net_listen(struct net *n, const struct net_address *at, struct net_listener_user *u,
                         struct net_listener **ret);
/* Inherited: descriptor number as given to loop_spawn() (virtual in simulation). u NULL: held, not
 * accepting (master). */
NODISCARD int net_listen_fd(struct net *n, int fd, struct net_listener_user *u,
                            struct net_listener **ret);
int net_listener_fd(struct net *n, const struct net_listener *li);
void net_listener_address(struct net *n, const struct net_listener *li, struct net_address *ret);
struct net_listener *net_listener_close(struct net *n, struct net_listener *li); /* NULL is fine */
/* A connected pair: one end as a stream here, the other as a descriptor for a child (close it after
 * the spawn). */
NODISCARD int net_pair(struct net *n, struct stream **ret, int *ret_fd);
NODISCARD int net_adopt(struct net *n, int fd, struct stream **ret); /* in the child */
void net_fd_close(struct net *n, int fd);
struct net *net_free(struct net *n);
DEFINE_FREEP(net)

NODISCARD int net_socket_new(const struct env *env,
                             struct net **ret); /* the real backend on env->loop */
