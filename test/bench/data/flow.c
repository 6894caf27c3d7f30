/* bench/data/flow.c -- epoll, one loop; see flow.h. */
#include "flow.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define FLOW_STALL_MS 30000
#define FLOW_EVENTS 64
#define FLOW_REST_S 0.05 /* as the library does when a server is busy */
#define FLOW_REST_MS 50

struct flow_conn {
    int fd;
    unsigned number, active;
    bool more, wants_room; /* something is left to ask; the socket took not all */
    double rest_until;     /* 0: does not rest */
    double began[FLOW_DEPTH_MAX];
    bool used[FLOW_DEPTH_MAX];
    uint8_t *out, *in;
    size_t out_from, out_len, in_len;
    struct flow_answer answer; /* under way: `skip` bytes of it are to come */
};
struct flow {
    const struct flow_options *opt;
    struct flow_conn *conn;
    struct data_meter meter;
    int ep;
    unsigned active, resting; /* requests; connections */
    bool over;
    uint64_t count, bytes, busy;
    size_t out_size, in_size;
};

int flow_connect(const char *address)
{
    char host[128];
    const char *colon = strrchr(address, ':');
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                                   .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    const int on = 1;
    if (colon == NULL) {
        data_die("address", address);
    }
    (void)snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0) {
        data_die("address", address);
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0) {
        data_die(address, strerror(errno));
    }
    freeaddrinfo(found);
    return fd;
}

/* --- Sending ---------------------------------------------------------------------------------- */

static void conn_watch(struct flow *f, struct flow_conn *c, bool room)
{
    if (room == c->wants_room) {
        return;
    }
    struct epoll_event event = {.events = EPOLLIN | (room ? (uint32_t)EPOLLOUT : 0U),
                                .data.ptr = c};
    if (epoll_ctl(f->ep, EPOLL_CTL_MOD, c->fd, &event) < 0) {
        data_die("epoll_ctl", strerror(errno));
    }
    c->wants_room = room;
}

static void conn_send(struct flow *f, struct flow_conn *c)
{
    while (c->out_from < c->out_len) {
        ssize_t n = send(c->fd, c->out + c->out_from, c->out_len - c->out_from,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            conn_watch(f, c, true);
            return;
        }
        if (n < 0) {
            data_die("send", strerror(errno));
        }
        c->out_from += (size_t)n;
    }
    c->out_from = c->out_len = 0;
    conn_watch(f, c, false);
}

static unsigned conn_slot(struct flow_conn *c)
{
    unsigned slot = 0;
    while (c->used[slot]) {
        slot++;
    }
    CHECK(slot < FLOW_DEPTH_MAX);
    return slot;
}

static void conn_ask(struct flow *f, struct flow_conn *c)
{
    const struct flow_options *opt = f->opt;
    memmove(c->out, c->out + c->out_from, c->out_len - c->out_from);
    c->out_len -= c->out_from;
    c->out_from = 0;
    while (!f->over && c->more && c->rest_until <= 0 && c->active < opt->depth) {
        unsigned slot = conn_slot(c);
        struct wire_writer w = wire_writer_over(c->out + c->out_len, f->out_size - c->out_len);
        c->more = opt->way->ops->ask(opt->way, c->number, slot, &w);
        if (!c->more) {
            break;
        }
        CHECK(!w.bad);
        c->out_len += w.len;
        c->used[slot] = true;
        c->began[slot] = data_now();
        c->active++;
        f->active++;
    }
    conn_send(f, c);
}

/* --- Receiving -------------------------------------------------------------------------------- */

/* All of it is here. */
static void conn_answered(struct flow *f, struct flow_conn *c)
{
    const struct flow_answer *a = &c->answer;
    if (a->slot == FLOW_NONE) {
        return;
    }
    CHECK(a->slot < FLOW_DEPTH_MAX && c->used[a->slot]);
    double now = data_now();
    c->used[a->slot] = false;
    c->active--;
    f->active--;
    if (a->busy) {
        f->busy++;
        f->resting += c->rest_until > 0 ? 0U : 1U;
        c->rest_until = now + FLOW_REST_S;
        c->more = true;
        return;
    }
    data_meter_took(&f->meter, now - c->began[a->slot]);
    f->count++;
    f->bytes += a->bytes;
}

/* What is in memory: answers, and bytes behind them that nobody looks at. */
static void conn_take(struct flow *f, struct flow_conn *c)
{
    const struct flow_way_ops *ops = f->opt->way->ops;
    size_t at = 0;
    while (at < c->in_len && c->answer.skip == 0) {
        struct flow_answer *a = &c->answer;
        *a = (struct flow_answer){.slot = FLOW_NONE};
        size_t n = ops->answer(f->opt->way, c->number, c->in + at, c->in_len - at, a);
        if (n == 0) {
            break;
        }
        at += n;
        uint64_t here = base_min(a->skip, c->in_len - at);
        at += here;
        a->skip -= here;
        if (a->skip == 0) {
            conn_answered(f, c);
        }
    }
    memmove(c->in, c->in + at, c->in_len - at);
    c->in_len -= at;
    if (c->in_len == f->in_size) {
        data_die("answer", "too long");
    }
}

static void conn_receive(struct flow *f, struct flow_conn *c)
{
    uint64_t skip = c->answer.skip;
    ssize_t n = skip > 0 ? recv(c->fd, NULL, skip, MSG_TRUNC | MSG_DONTWAIT)
                         : recv(c->fd, c->in + c->in_len, f->in_size - c->in_len, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) {
        return;
    }
    if (n <= 0) {
        data_die("receive", n < 0 ? strerror(errno) : "the server has closed the connection");
    }
    if (skip > 0) {
        c->answer.skip -= (uint64_t)n;
        if (c->answer.skip == 0) {
            conn_answered(f, c);
        }
        return;
    }
    c->in_len += (size_t)n;
    conn_take(f, c);
}

/* --- The run ---------------------------------------------------------------------------------- */

static void flow_open(struct flow *f)
{
    const struct flow_options *opt = f->opt;
    f->ep = epoll_create1(EPOLL_CLOEXEC);
    f->conn = calloc(opt->connections, sizeof *f->conn);
    f->out_size = opt->ask_bytes * opt->depth;
    f->in_size = opt->answer_bytes;
    if (f->ep < 0 || f->conn == NULL) {
        data_die("connections", strerror(errno));
    }
    for (unsigned i = 0; i < opt->connections; i++) {
        struct flow_conn *c = &f->conn[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        *c = (struct flow_conn){.fd = opt->way->ops->connect(opt->way), .number = i, .more = true};
        c->out = malloc(f->out_size);
        c->in = malloc(f->in_size);
        if (c->out == NULL || c->in == NULL || fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0 ||
            epoll_ctl(f->ep, EPOLL_CTL_ADD, c->fd, &event) < 0) {
            data_die("connection", strerror(errno));
        }
    }
}

static void flow_close(struct flow *f)
{
    for (unsigned i = 0; i < f->opt->connections; i++) {
        (void)close(f->conn[i].fd);
        free(f->conn[i].out);
        free(f->conn[i].in);
    }
    (void)close(f->ep);
    free(f->conn);
}

/* Those that have rested go on. */
static void flow_wake(struct flow *f)
{
    double now = data_now();
    for (unsigned i = 0; i < f->opt->connections && f->resting > 0; i++) {
        struct flow_conn *c = &f->conn[i];
        if (c->rest_until > 0 && c->rest_until <= now) {
            c->rest_until = 0;
            f->resting--;
            conn_ask(f, c);
        }
    }
}

static void flow_events(struct flow *f)
{
    struct epoll_event event[FLOW_EVENTS];
    int n = epoll_wait(f->ep, event, FLOW_EVENTS, f->resting > 0 ? FLOW_REST_MS : FLOW_STALL_MS);
    if (n == 0 && f->resting == 0) {
        data_die("the server", "has answered nothing for half a minute");
    }
    for (int i = 0; i < n; i++) {
        struct flow_conn *c = event[i].data.ptr;
        if ((event[i].events & ~(uint32_t)EPOLLOUT) != 0) {
            conn_receive(f, c);
        }
        conn_ask(f, c);
    }
    flow_wake(f);
}

void flow_run(const struct flow_options *opt)
{
    struct flow f = {.opt = opt};
    if (opt->connections == 0 || opt->connections > FLOW_CONNECTIONS_MAX || opt->depth == 0 ||
        opt->depth > FLOW_DEPTH_MAX) {
        data_die("connections or depth", "out of range");
    }
    flow_open(&f);
    data_meter_begin(&f.meter, opt->servers);
    double end = data_now() + opt->seconds;
    for (unsigned i = 0; i < opt->connections; i++) {
        conn_ask(&f, &f.conn[i]);
    }
    while (f.active > 0 || f.resting > 0) {
        flow_events(&f);
        f.over = data_now() >= end;
    }
    f.meter.busy = f.busy;
    data_meter_end(&f.meter, opt->command, f.count, f.bytes);
    flow_close(&f);
}
