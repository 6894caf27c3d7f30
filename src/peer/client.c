/* peer/client.c -- construction and what the owner asks. */
#include "peer/client.h"

#include "base/mem.h"
#include "peer/client_priv.h"

#define DEFAULT_QUEUED 1024u
#define DEFAULT_REST_MIN_MS 10u
#define DEFAULT_REST_MAX_MS 1000u
#define DEFAULT_CONNECT_MS 3000u
#define SERVER_REQUESTS 1024u

static void peer_fill_defaults(struct peer_options *o)
{
    o->max_queued = o->max_queued == 0 ? DEFAULT_QUEUED : o->max_queued;
    o->rest_min_ms = o->rest_min_ms == 0 ? DEFAULT_REST_MIN_MS : o->rest_min_ms;
    o->rest_max_ms = o->rest_max_ms == 0 ? DEFAULT_REST_MAX_MS : o->rest_max_ms;
    o->connect_ms = o->connect_ms == 0 ? DEFAULT_CONNECT_MS : o->connect_ms;
}

static void peer_list_stats(struct peer *p)
{
    struct peer_counters *n = &p->counters;
    stats_add_counter(p->stats, "connects", &n->connects);
    stats_add_counter(p->stats, "redirects", &n->redirects);
    stats_add_counter(p->stats, "connect_failures", &n->failures);
    stats_add_counter(p->stats, "losses", &n->losses);
    stats_add_counter(p->stats, "calls", &n->calls);
    stats_add_counter(p->stats, "retries", &n->retries);
    stats_add_counter(p->stats, "unknown_outcomes", &n->unknown);
    stats_add_counter(p->stats, "queue_full", &n->refused);
}

int peer_new(const struct peer_options *opt, struct peer **ret)
{
    CHECK(opt->address_count > 0 || (opt->stream != NULL && opt->bulk_count == 0));
    CHECK(opt->bulk_count <= PEER_BULK_MAX);
    CLEANUP(peer_freep) struct peer *p = mem_zalloc(sizeof *p);
    if (p == NULL) {
        stream_close(opt->stream);
        return -ENOMEM;
    }
    p->stream = opt->stream;
    p->opt = *opt;
    p->loop = opt->env->loop;
    peer_fill_defaults(&p->opt);
    p->cluster_id = opt->cluster_id;
    list_init(&p->resting);
    list_init(&p->in_flight);
    for (unsigned i = 0; i <= PEER_BULK_MAX; i++) {
        peer_slot_init(p, i);
    }
    p->addresses = mem_calloc(opt->address_count + 1, sizeof *opt->addresses);
    if (p->addresses == NULL) {
        return -ENOMEM;
    }
    if (opt->address_count > 0) {
        memcpy(p->addresses, opt->addresses, opt->address_count * sizeof *opt->addresses);
    }
    p->opt.addresses = p->addresses;
    p->stats = opt->env->stats == NULL ? NULL : stats_new(opt->env->stats, "peer");
    peer_list_stats(p);
    const struct peer_dispatch_options d = {.env = opt->env,
                                            .user = opt->user,
                                            .handlers = opt->handlers,
                                            .handler_count = opt->handler_count,
                                            .max_requests = SERVER_REQUESTS,
                                            .stats = p->stats};
    int rc = peer_dispatch_new(&d, &p->dispatch);
    if (rc < 0) {
        return rc;
    }
    *ret = p;
    p = NULL;
    return 0;
}

struct peer *peer_free(struct peer *p)
{
    if (p == NULL) {
        return NULL;
    }
    p->closing = true;
    peer_calls_fini(p);
    for (unsigned i = 0; i <= PEER_BULK_MAX; i++) {
        peer_slot_fini(&p->slot[i]);
    }
    stream_close(p->stream);
    peer_dispatch_free(p->dispatch);
    stats_free(p->stats);
    mem_free(p->addresses);
    mem_free(p);
    return NULL;
}

void peer_start(struct peer *p)
{
    LOOP_OWNED(p->loop);
    CHECK(!p->started);
    p->started = true;
    peer_slot_connect(&p->slot[0]);
}

void peer_open_gate(struct peer *p)
{
    LOOP_OWNED(p->loop);
    p->gate_open = true;
    for (unsigned i = 0; i <= p->opt.bulk_count; i++) {
        peer_slot_pump(&p->slot[i]);
    }
}

void peer_set_session(struct peer *p, uint64_t session, uint64_t generation, bool reconnect)
{
    LOOP_OWNED(p->loop);
    p->opt.session = session;
    p->opt.generation = generation;
    if (reconnect) {
        peer_drop_link(p, 0, "new session");
    }
}

void peer_drop_link(struct peer *p, unsigned slot, const char *reason)
{
    LOOP_OWNED(p->loop);
    CHECK(slot <= p->opt.bulk_count);
    struct peer_slot *s = &p->slot[slot];
    if (s->conn != NULL) {
        net_conn_close(s->conn, -ERR_closed, reason); /* the rest follows when it says so */
    }
}

struct peer_link *peer_link_of(const struct peer *p, unsigned slot)
{
    CHECK(slot <= p->opt.bulk_count);
    const struct peer_slot *s = &p->slot[slot];
    return s->state == SLOT_UP ? (struct peer_link *)&s->link : NULL;
}

const struct uuid *peer_cluster_id(const struct peer *p)
{
    return &p->cluster_id;
}

const struct err *peer_trouble(const struct peer *p)
{
    return &p->trouble;
}

void peer_address(const struct peer *p, struct net_address *ret)
{
    *ret = p->using;
}
