/* peer/server.c -- a server's life: listening, its connections, the end. */
#include "peer/server.h"

#include "base/mem.h"
#include "peer/server_priv.h"

#define DEFAULT_CONNECTIONS 16384u
#define DEFAULT_SENDER_LINKS 64u
#define FULL_SAID_NS (10000 * NS_PER_MS) /* between two lines of the log about it */
#define DEFAULT_REQUESTS 16384u
#define DEFAULT_HELLO_MS 5000u
#define STOP_POLL_MS 10u
#define REASON_BYTES 160u
#define CONNECTIONS_MAX 32768u                         /* less than what server_seen.c remembers */
#define GUEST_BYTES (sizeof(struct peer_guest) + 2048) /* with its connection, about */
#define NS_PER_MS UINT64_C(1000000)

/* --- Connections ------------------------------------------------------------------------------ */

static void guest_destroy(struct peer_guest *g)
{
    struct peer_server *s = g->server;
    loop_timer_cancel(s->loop, &g->hello_timer);
    list_remove(&g->node);
    list_remove(&g->stranger);
    peer_seen_leave(g);
    s->guest_count--;
    mem_free(g);
}

/* Calls are answered and requests cancelled first, then the user hears of it, then the link goes.
 */
static void guest_end(struct peer_guest *g, int rc, const char *reason)
{
    struct peer_server *s = g->server;
    char why[REASON_BYTES];
    (void)proto_bytes_to_c(proto_bytes_text(reason), why, sizeof why); /* lent by the connection */
    g->state = GUEST_LEAVING;
    g->conn = net_conn_free(g->conn);
    g->link.conn = NULL;
    if (g->was_up) {
        s->up_count--;
        stats_gauge_set(&s->counters.links, (int64_t)s->up_count);
        s->opt.user->ops->down(s->opt.user, &g->link, rc, why);
        peer_link_end(&g->link);
    }
    guest_destroy(g);
}

static void guest_pushed(struct net_conn_user *u, struct net_conn *c, uint16_t opcode,
                         const uint8_t *body, size_t len)
{
    struct peer_guest *g = container_of(u, struct peer_guest, user);
    if (g->state == GUEST_UP) {
        peer_link_pushed(&g->link, opcode, body, len);
    } else {
        net_conn_close(c, -ERR_protocol, "a push before hello");
    }
}

static void guest_closed(struct net_conn_user *u, struct net_conn *c, int rc, const char *reason)
{
    struct peer_guest *g = container_of(u, struct peer_guest, user);
    (void)c;
    guest_end(g, rc, reason);
}

static const struct net_conn_user_ops guest_ops = {
    .request = peer_guest_request, .push = guest_pushed, .closed = guest_closed};

static void guest_hello_late(struct loop_timer *t)
{
    struct peer_guest *g = container_of(t, struct peer_guest, hello_timer);
    stats_count(&g->server->counters.timeouts, 1);
    net_conn_close(g->conn, -ETIMEDOUT, "no hello in time");
}

/* Said now and then, not once for each. */
static bool server_may_say(struct peer_server *s)
{
    uint64_t now = loop_now_ns(s->loop);
    bool may = s->full_said_ns == 0 || now > s->full_said_ns + FULL_SAID_NS;
    s->full_said_ns = may ? now : s->full_said_ns;
    return may;
}

static void server_cannot_accept(struct net_listener_user *u, int rc)
{
    struct peer_server *s = container_of(u, struct peer_server, listener_user);
    stats_count(&s->counters.no_descriptors, 1);
    if (server_may_say(s)) {
        log_warn(s->opt.env->log, "connections wait: raise the limit of open files",
                 LOG_U64("connections", s->guest_count), LOG_RC(rc));
    }
}

/* Room for one more: who has not said who it is gives way to who may say it. */
static bool server_has_room(struct peer_server *s)
{
    if (s->guest_count < s->opt.max_connections) {
        return true;
    }
    if (server_may_say(s)) {
        log_warn(s->opt.env->log, "as many connections as there may be: others are turned away",
                 LOG_U64("connections", s->guest_count));
    }
    if (list_empty(&s->strangers)) {
        return false;
    }
    stats_count(&s->counters.pushed_out, 1);
    guest_end(LIST_ENTRY(s->strangers.next, struct peer_guest, stranger), -ERR_busy,
              "others wait for its place");
    return true;
}

void peer_server_adopt(struct peer_server *s, struct stream *stream)
{
    LOOP_OWNED(s->loop);
    if (s->stopping || !server_has_room(s)) {
        stats_count(&s->counters.refused_full, 1);
        stream_close(stream);
        return;
    }
    struct peer_guest *g = mem_zalloc(sizeof *g);
    if (g == NULL) {
        stats_count(&s->counters.refused_full, 1);
        stream_close(stream);
        return;
    }
    g->server = s;
    g->user.ops = &guest_ops;
    g->hello_timer.fire = guest_hello_late;
    const struct net_conn_options opt = {.env = s->opt.env,
                                         .user = &g->user,
                                         .pool = s->opt.pool,
                                         .keepalive_ms = s->opt.keepalive_ms,
                                         .stall_ms = s->opt.stall_ms,
                                         .max_send_bytes = s->opt.max_send_bytes,
                                         .share = s->share,
                                         .max_requests = s->opt.max_link_requests};
    int rc = net_conn_new(&opt, stream, &g->conn);
    if (rc < 0) {
        stats_count(&s->counters.refused_full, 1);
        mem_free(g);
        return;
    }
    stats_count(&s->counters.accepted, 1);
    s->guest_count++;
    list_push_back(&s->guests, &g->node);
    list_push_back(&s->strangers, &g->stranger);
    loop_timer_in(s->loop, &g->hello_timer, s->opt.hello_ms * NS_PER_MS);
}

static void server_accepted(struct net_listener_user *u, struct stream *stream)
{
    peer_server_adopt(container_of(u, struct peer_server, listener_user), stream);
}

int peer_server_listen(struct peer_server *s, const struct net_address *at, struct err *e)
{
    LOOP_OWNED(s->loop);
    CHECK(s->listener == NULL);
    struct net *net = s->opt.env->net;
    int rc = net_listen(net, at, &s->listener_user, &s->listener);
    if (rc < 0) {
        return err_set(e, rc, "listen on %s", at->text);
    }
    net_listener_address(net, s->listener, &s->address);
    return 0;
}

int peer_server_listen_fd(struct peer_server *s, int fd)
{
    LOOP_OWNED(s->loop);
    CHECK(s->listener == NULL);
    struct net *net = s->opt.env->net;
    int rc = net_listen_fd(net, fd, &s->listener_user, &s->listener);
    if (rc == 0) {
        net_listener_address(net, s->listener, &s->address);
    }
    return rc;
}

void peer_server_address(const struct peer_server *s, struct net_address *ret)
{
    *ret = s->address;
}

/* --- What the owner asks ---------------------------------------------------------------------- */

void peer_server_set_leader(struct peer_server *s, uint64_t term, const char *address,
                            bool is_leader)
{
    struct proto_bytes text = proto_bytes_text(address == NULL ? "" : address);
    (void)proto_bytes_to_c(text, s->leader, sizeof s->leader);
    s->term = term;
    s->is_leader = is_leader;
}

struct peer_link *peer_server_next(const struct peer_server *s, const struct peer_link *after)
{
    const struct list *at = &s->guests;
    if (after != NULL) {
        const struct peer_guest *g =
            (const struct peer_guest *)(const void *)((const char *)after -
                                                      offsetof(struct peer_guest, link));
        at = &g->node;
    }
    for (struct list *next = at->next; next != &s->guests; next = next->next) {
        struct peer_guest *g = LIST_ENTRY(next, struct peer_guest, node);
        if (g->state == GUEST_UP) {
            return &g->link;
        }
    }
    return NULL;
}

size_t peer_server_link_count(const struct peer_server *s)
{
    return s->up_count;
}

void peer_server_name_session(struct peer_server *s, struct peer_link *l, uint64_t session,
                              uint64_t generation)
{
    struct peer_guest *g = container_of(l, struct peer_guest, link);
    if (l->session == session && l->generation == generation) {
        return; /* so it said in `hello` */
    }
    l->session = session;
    l->generation = generation;
    int rc = peer_seen_note(s, l);
    if (rc == -ERR_stale_request) {
        peer_link_close(l, rc, "a newer link of this session was here");
        return;
    }
    rc = peer_seen_join(s, g);
    if (rc < 0) {
        peer_link_close(l, rc, "this session has too many connections");
    }
}

void peer_server_memory(const struct peer_server *s, struct peer_server_memory *ret)
{
    *ret = (struct peer_server_memory){
        .connections = s->guest_count * GUEST_BYTES + s->share->memory_bytes,
        .requests = peer_dispatch_bytes(s->dispatch) + s->share->body_bytes,
        .replies = s->share->queued_bytes};
}

/* --- The end ---------------------------------------------------------------------------------- */

/* Runs for the short time of stopping only: who still works on a request tells nobody. */
static void server_stop_step(struct loop_timer *t)
{
    struct peer_server *s = container_of(t, struct peer_server, stop_timer);
    if (s->guest_count > 0 || peer_dispatch_open_requests(s->dispatch) > 0) {
        loop_timer_in(s->loop, t, STOP_POLL_MS * NS_PER_MS);
        return;
    }
    s->stopped(s->opt.user);
}

void peer_server_stop(struct peer_server *s, uint64_t limit_ms,
                      void (*stopped)(struct peer_user *u))
{
    LOOP_OWNED(s->loop);
    CHECK(!s->stopping);
    s->stopping = true;
    s->stopped = stopped;
    s->listener = net_listener_close(s->opt.env->net, s->listener);
    LIST_FOR_EACH(at, &s->guests)
    {
        struct peer_guest *g = LIST_ENTRY(at, struct peer_guest, node);
        net_conn_shutdown(g->conn, limit_ms);
    }
    loop_timer_in(s->loop, &s->stop_timer, 0);
}

static void server_list_stats(struct peer_server *s)
{
    struct peer_server_counters *n = &s->counters;
    stats_add_counter(s->stats, "accepted", &n->accepted);
    stats_add_counter(s->stats, "up", &n->up);
    stats_add_counter(s->stats, "refused_full", &n->refused_full);
    stats_add_counter(s->stats, "refused_hello", &n->refused_hello);
    stats_add_counter(s->stats, "refused_auth", &n->refused_auth);
    stats_add_counter(s->stats, "refused_stale", &n->refused_stale);
    stats_add_counter(s->stats, "hello_timeouts", &n->timeouts);
    stats_add_counter(s->stats, "refused_many", &n->refused_many);
    stats_add_counter(s->stats, "replaced", &n->replaced);
    stats_add_counter(s->stats, "pushed_out", &n->pushed_out);
    stats_add_counter(s->stats, "no_descriptors", &n->no_descriptors);
    stats_add_gauge(s->stats, "links", &n->links);
}

int peer_server_new(const struct peer_server_options *opt, struct peer_server **ret)
{
    CLEANUP(peer_server_freep) struct peer_server *s = mem_zalloc(sizeof *s);
    if (s == NULL) {
        return -ENOMEM;
    }
    s->opt = *opt;
    s->loop = opt->env->loop;
    s->is_leader = true;
    s->opt.max_connections = opt->max_connections == 0 ? DEFAULT_CONNECTIONS : opt->max_connections;
    s->opt.max_connections = base_min(s->opt.max_connections, CONNECTIONS_MAX);
    s->opt.max_requests = opt->max_requests == 0 ? DEFAULT_REQUESTS : opt->max_requests;
    s->opt.max_sender_links =
        opt->max_sender_links == 0 ? DEFAULT_SENDER_LINKS : opt->max_sender_links;
    s->opt.hello_ms = opt->hello_ms == 0 ? DEFAULT_HELLO_MS : opt->hello_ms;
    s->listener_user.accepted = server_accepted;
    s->listener_user.failed = server_cannot_accept;
    s->stop_timer.fire = server_stop_step;
    list_init(&s->guests);
    list_init(&s->strangers);
    peer_seen_init(s);
    s->stats = opt->env->stats == NULL ? NULL : stats_new(opt->env->stats, "server");
    server_list_stats(s);
    const struct peer_dispatch_options d = {.env = opt->env,
                                            .user = opt->user,
                                            .handlers = opt->handlers,
                                            .handler_count = opt->handler_count,
                                            .max_requests = s->opt.max_requests,
                                            .stats = s->stats};
    s->share = net_conn_share_new();
    int rc = s->share == NULL ? -ENOMEM : peer_dispatch_new(&d, &s->dispatch);
    if (rc < 0) {
        return rc;
    }
    *ret = s;
    s = NULL;
    return 0;
}

struct peer_server *peer_server_free(struct peer_server *s)
{
    if (s == NULL) {
        return NULL;
    }
    s->stopping = true;
    loop_timer_cancel(s->loop, &s->stop_timer);
    if (s->listener != NULL) {
        s->listener = net_listener_close(s->opt.env->net, s->listener);
    }
    while (!list_empty(&s->guests)) {
        struct peer_guest *g = LIST_ENTRY(s->guests.next, struct peer_guest, node);
        guest_end(g, -ERR_closed, "server ends");
    }
    peer_dispatch_free(s->dispatch);
    peer_seen_fini(s);
    net_conn_share_unref(s->share);
    stats_free(s->stats);
    mem_free(s);
    return NULL;
}
