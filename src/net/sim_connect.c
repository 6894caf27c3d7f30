/*
 * net/sim_connect.c -- connecting and listening in the simulated network.
 *
 * A connect is a packet there and a packet back, each with its delay; when it meets a cut or a full
 * backlog it is lost and tried again every second, as TCP does, until the caller's time is up. A
 * port lives as long as anybody holds it; with no process accepting, connections queue.
 */
#include "net/sim_priv.h"

#include "base/mem.h"
#include "base/rand.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_NS 1000000000u

struct net_sim_connect {
    struct net_sim_node *node;
    struct net_connect *owner; /* the process's memory: only in `finish` */
    struct net_address to;
    unsigned to_host;
    char key[NET_ADDRESS_SIZE];
    struct net_sim_link *link; /* made, the answer is on its way back */
    int rc;
    struct net_sim_event step, timeout, finish;
    struct list at;
};

struct net_listener {
    struct net_sim_node *node;
    struct net_sim_port *port;
    struct net_listener_user *user;
    bool accepting, closed;
    struct net_sim_event wake;
    struct list at; /* in the port's listeners */
};

/* "host3:9400" -> 3, "9400". Other names do not exist here. */
static int resolve(const struct net_address *a, unsigned own_host, unsigned *ret_host, char *key,
                   bool *ret_loopback)
{
    char host[NET_ADDRESS_SIZE];
    uint16_t port = 0;
    bool local = false;
    net_address_split(a, host, &port, &local);
    *ret_loopback = net_address_is_loopback(a);
    *ret_host = own_host;
    if (local) {
        (void)snprintf(key, NET_ADDRESS_SIZE, "%.*s", (int)NET_ADDRESS_SIZE - 1, a->text);
        return 0;
    }
    (void)snprintf(key, NET_ADDRESS_SIZE, "%u", port);
    if (*ret_loopback || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0) {
        return 0;
    }
    uint64_t number = 0;
    if (strncmp(host, "host", 4) != 0 || text_to_u64(host + 4, &number) < 0 ||
        number > UINT32_MAX) {
        return -EHOSTUNREACH;
    }
    *ret_host = (unsigned)number;
    return 0;
}

static struct net_sim_port *find_port(struct net_sim *w, unsigned host, const char *key)
{
    LIST_FOR_EACH(at, &w->ports)
    {
        struct net_sim_port *p = LIST_ENTRY(at, struct net_sim_port, node);
        if (p->host == host && strcmp(p->key, key) == 0) {
            return p;
        }
    }
    return NULL;
}

/* --- Connecting ------------------------------------------------------------------------------- */

static void connect_free(struct net_sim_connect *sc)
{
    struct net_sim *w = sc->node->world;
    net_sim_disarm(w, &sc->step);
    net_sim_disarm(w, &sc->timeout);
    net_sim_disarm(w, &sc->finish);
    list_remove(&sc->at);
    mem_free(sc);
}

static void connect_finish(struct net_sim_event *ev)
{
    struct net_sim_connect *sc = container_of(ev, struct net_sim_connect, finish);
    struct net_connect *c = sc->owner;
    struct stream *s = NULL;
    int rc = sc->rc;
    if (rc == 0) {
        s = net_sim_end_take(&sc->link->end[0], sc->node);
    }
    connect_free(sc);
    c->backend = NULL;
    c->done(c, rc, s);
}

static void connect_result(struct net_sim_connect *sc, int rc)
{
    struct net_sim *w = sc->node->world;
    sc->rc = rc;
    if (rc < 0 && sc->link != NULL) {
        net_sim_end_close(&sc->link->end[0], true);
        sc->link = NULL;
    }
    net_sim_disarm(w, &sc->step);
    net_sim_disarm(w, &sc->timeout);
    net_sim_arm(w, &sc->finish, sc->node->base.loop, 0);
}

static void connect_timeout(struct net_sim_event *ev)
{
    connect_result(container_of(ev, struct net_sim_connect, timeout), -ETIMEDOUT);
}

/* The answer has come back. */
static void connect_answered(struct net_sim_event *ev)
{
    struct net_sim_connect *sc = container_of(ev, struct net_sim_connect, step);
    struct net_sim *w = sc->node->world;
    if (net_sim_is_cut(w, sc->to_host, sc->node->host)) {
        net_sim_arm(w, &sc->step, NULL, RETRY_NS);
        return;
    }
    bool broken = sc->link != NULL && sc->link->end[0].error < 0;
    connect_result(sc, sc->link == NULL || broken ? -ECONNREFUSED : 0);
}

static void wake_listeners(struct net_sim_port *p);

/* The wish has reached the other host. */
static void connect_reached(struct net_sim_event *ev)
{
    struct net_sim_connect *sc = container_of(ev, struct net_sim_connect, step);
    struct net_sim_node *n = sc->node;
    struct net_sim *w = n->world;
    struct net_sim_port *p = find_port(w, sc->to_host, sc->key);
    bool lost =
        net_sim_is_cut(w, n->host, sc->to_host) || (p != NULL && p->backlog_count >= NET_BACKLOG);
    if (lost) {
        net_sim_arm(w, &sc->step, NULL, RETRY_NS);
        return;
    }
    if (p != NULL && (!p->local_only || n->host == sc->to_host)) {
        sc->link = net_sim_link_new(w, n->host, sc->to_host);
        if (sc->link == NULL) {
            connect_result(sc, -ENOMEM);
            return;
        }
        sc->link->to = sc->to;
        list_push_back(&p->backlog, &sc->link->end[1].backlog);
        p->backlog_count++;
        wake_listeners(p);
    }
    sc->step.fire = connect_answered;
    net_sim_arm(w, &sc->step, NULL, net_sim_delay(w));
}

void net_sim_connect(struct net *base, struct net_connect *c)
{
    struct net_sim_node *n = container_of(base, struct net_sim_node, base);
    struct net_sim *w = n->world;
    struct net_sim_connect *sc = net_sim_alloc(sizeof *sc);
    if (sc == NULL) {
        net_connect_fail_later(base, c, -ENOMEM);
        return;
    }
    bool loopback = false;
    int rc = resolve(&c->to, n->host, &sc->to_host, sc->key, &loopback);
    if (rc < 0) {
        mem_free(sc);
        net_connect_fail_later(base, c, rc);
        return;
    }
    sc->node = n;
    sc->owner = c;
    sc->to = c->to;
    sc->step.fire = connect_reached;
    sc->timeout.fire = connect_timeout;
    sc->finish.fire = connect_finish;
    list_push_back(&n->connects, &sc->at);
    c->backend = sc;
    uint64_t limit_ms = c->timeout_ms == 0 ? NET_CONNECT_TIMEOUT_MS : c->timeout_ms;
    net_sim_arm(w, &sc->step, NULL, net_sim_delay(w));
    net_sim_arm(w, &sc->timeout, NULL, limit_ms * 1000000u);
}

static void connect_drop(struct net_sim_connect *sc)
{
    if (sc->link != NULL) {
        net_sim_end_close(&sc->link->end[0], true);
    }
    connect_free(sc);
}

void net_sim_connect_cancel(struct net *n, struct net_connect *c)
{
    (void)n;
    connect_drop(c->backend);
}

void net_sim_node_drop_connects(struct net_sim_node *n)
{
    LIST_FOR_EACH_SAFE(at, &n->connects)
    {
        connect_drop(LIST_ENTRY(at, struct net_sim_connect, at));
    }
}

/* --- Listening -------------------------------------------------------------------------------- */

static struct net_sim_end *backlog_pop(struct net_sim_port *p)
{
    struct list *at = list_pop_front(&p->backlog);
    if (at == NULL) {
        p->backlog_count = 0; /* those that broke while they waited have left by themselves */
        return NULL;
    }
    p->backlog_count -= p->backlog_count > 0 ? 1 : 0;
    return LIST_ENTRY(at, struct net_sim_end, backlog);
}

static void listener_accept(struct net_sim_event *ev)
{
    struct net_listener *li = container_of(ev, struct net_listener, wake);
    li->accepting = true;
    while (!li->closed) {
        struct net_sim_end *e = backlog_pop(li->port);
        if (e == NULL) {
            break;
        }
        li->user->accepted(li->user, net_sim_end_take(e, li->node));
    }
    li->accepting = false;
    if (li->closed) {
        mem_free(li);
    }
}

static void listener_wake(struct net_listener *li)
{
    if (li->user != NULL && !li->wake.armed) {
        net_sim_arm(li->node->world, &li->wake, li->node->base.loop, 0);
    }
}

static void wake_listeners(struct net_sim_port *p)
{
    LIST_FOR_EACH(at, &p->listeners)
    {
        listener_wake(LIST_ENTRY(at, struct net_listener, at));
    }
}

static struct net_sim_port *port_new(struct net_sim *w, unsigned host, const char *key)
{
    struct net_sim_port *p = net_sim_alloc(sizeof *p);
    if (p != NULL) {
        p->host = host;
        (void)snprintf(p->key, sizeof p->key, "%s", key);
        p->fd = w->next_fd++;
        list_init(&p->backlog);
        list_init(&p->listeners);
        list_push_back(&w->ports, &p->node);
    }
    return p;
}

/* Nobody holds it any more: who waited is refused. */
static void port_free(struct net_sim_port *p)
{
    struct net_sim_end *e = NULL;
    while ((e = backlog_pop(p)) != NULL) {
        net_sim_end_close(e, true);
    }
    list_remove(&p->node);
    mem_free(p);
}

static int listener_new(struct net_sim_node *n, struct net_sim_port *p, struct net_listener_user *u,
                        struct net_listener **ret)
{
    struct net_listener *li = net_sim_alloc(sizeof *li);
    if (li == NULL) {
        return -ENOMEM;
    }
    li->node = n;
    li->port = p;
    li->user = u;
    li->wake.fire = listener_accept;
    list_push_back(&p->listeners, &li->at);
    if (!list_empty(&p->backlog)) {
        listener_wake(li);
    }
    *ret = li;
    return 0;
}

int net_sim_listen(struct net *base, const struct net_address *at, struct net_listener_user *u,
                   struct net_listener **ret)
{
    struct net_sim_node *n = container_of(base, struct net_sim_node, base);
    struct net_sim *w = n->world;
    char key[NET_ADDRESS_SIZE];
    unsigned host = 0;
    bool loopback = false;
    int rc = resolve(at, n->host, &host, key, &loopback);
    if (rc < 0 || host != n->host) {
        return rc < 0 ? rc : -EADDRNOTAVAIL;
    }
    if (strcmp(key, "0") == 0) {
        (void)snprintf(key, sizeof key, "%u", w->next_port++);
    }
    if (find_port(w, host, key) != NULL) {
        return -EADDRINUSE;
    }
    struct net_sim_port *p = port_new(w, host, key);
    if (p == NULL) {
        return -ENOMEM;
    }
    p->local_only = loopback;
    bool named = strncmp(key, NET_UNIX_PREFIX, strlen(NET_UNIX_PREFIX)) == 0;
    if (named) {
        p->at = *at;
    } else if (loopback) {
        (void)snprintf(p->at.text, sizeof p->at.text, "127.0.0.1:%.8s", key);
    } else {
        (void)snprintf(p->at.text, sizeof p->at.text, "host%u:%.8s", host, key);
    }
    rc = listener_new(n, p, u, ret);
    if (rc < 0) {
        port_free(p);
    }
    return rc;
}

int net_sim_listen_fd(struct net *base, int fd, struct net_listener_user *u,
                      struct net_listener **ret)
{
    struct net_sim_node *n = container_of(base, struct net_sim_node, base);
    LIST_FOR_EACH(at, &n->world->ports)
    {
        struct net_sim_port *p = LIST_ENTRY(at, struct net_sim_port, node);
        if (p->fd == fd && p->host == n->host) {
            return listener_new(n, p, u, ret);
        }
    }
    return -EBADF;
}

int net_sim_listener_fd(const struct net_listener *li)
{
    return li->port->fd;
}

void net_sim_listener_address(const struct net_listener *li, struct net_address *ret)
{
    *ret = li->port->at;
}

struct net_listener *net_sim_listener_close(struct net_listener *li)
{
    struct net_sim_port *p = li->port;
    net_sim_disarm(li->node->world, &li->wake);
    list_remove(&li->at);
    if (list_empty(&p->listeners)) {
        port_free(p);
    }
    li->closed = true;
    if (!li->accepting) {
        mem_free(li);
    }
    return NULL;
}

void net_sim_node_drop_listeners(struct net_sim_node *n)
{
    LIST_FOR_EACH_SAFE(at, &n->world->ports)
    {
        struct net_sim_port *p = LIST_ENTRY(at, struct net_sim_port, node);
        /* `p` goes with its last listener, so its successor in `ports` is remembered already */
        struct list *next = p->listeners.next;
        bool last = list_empty(&p->listeners);
        while (!last) {
            struct net_listener *li = LIST_ENTRY(next, struct net_listener, at);
            next = next->next;
            last = next == &p->listeners;
            if (li->node == n) {
                li->accepting = false; /* its callback will not return */
                net_sim_listener_close(li);
            }
        }
    }
}
