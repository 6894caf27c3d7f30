/* net/stream.c -- the calls of stream.h that only hand over to the backend. */
#include "net/stream.h"

#include "net/net_priv.h"

static void connect_failed(struct loop_task *t)
{
    struct net_connect *c = container_of(t, struct net_connect, failed);
    c->done(c, c->rc, NULL);
}

void net_connect_fail_later(struct net *n, struct net_connect *c, int rc)
{
    c->rc = rc;
    c->backend = NULL;
    c->failed = (struct loop_task){.run = connect_failed};
    loop_defer(n->loop, &c->failed);
}

void net_connect(struct net *n, struct net_connect *c)
{
    LOOP_OWNED(n->loop);
    CHECK(c->done != NULL);
    c->net = n;
    c->backend = NULL;
    n->ops->connect(n, c);
}

void net_connect_cancel(struct net *n, struct net_connect *c)
{
    LOOP_OWNED(n->loop);
    loop_undefer(n->loop, &c->failed);
    if (c->backend != NULL) {
        n->ops->connect_cancel(n, c);
        c->backend = NULL;
    }
}

int net_listen(struct net *n, const struct net_address *at, struct net_listener_user *u,
               struct net_listener **ret)
{
    LOOP_OWNED(n->loop);
    return n->ops->listen(n, at, u, ret);
}

int net_listen_fd(struct net *n, int fd, struct net_listener_user *u, struct net_listener **ret)
{
    LOOP_OWNED(n->loop);
    return n->ops->listen_fd(n, fd, u, ret);
}

int net_listener_fd(struct net *n, const struct net_listener *li)
{
    return n->ops->listener_fd(li);
}

void net_listener_address(struct net *n, const struct net_listener *li, struct net_address *ret)
{
    n->ops->listener_address(li, ret);
}

struct net_listener *net_listener_close(struct net *n, struct net_listener *li)
{
    return li == NULL ? NULL : n->ops->listener_close(li);
}

int net_pair(struct net *n, struct stream **ret, int *ret_fd)
{
    LOOP_OWNED(n->loop);
    return n->ops->pair(n, ret, ret_fd);
}

int net_adopt(struct net *n, int fd, struct stream **ret)
{
    LOOP_OWNED(n->loop);
    return n->ops->adopt(n, fd, ret);
}

void net_fd_close(struct net *n, int fd)
{
    n->ops->fd_close(n, fd);
}

struct net *net_free(struct net *n)
{
    return n == NULL ? NULL : n->ops->free(n);
}
