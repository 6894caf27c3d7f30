/*
 * peer/server_hello.c -- what is said before a connection is a link. The server proves itself
 * first; a sender that is refused gets no proof.
 */
#include "peer/server_priv.h"

#define REFUSED_LINGER_MS 1000u

void peer_guest_refuse(struct peer_guest *g, struct net_conn_request *r, int rc, const char *why)
{
    char peer[NET_ADDRESS_SIZE];
    net_conn_peer(g->conn, peer, sizeof peer);
    log_warn(g->server->opt.env->log, "connection refused", LOG_TEXT("peer", peer), LOG_RC(rc),
             LOG_TEXT("reason", why));
    const struct proto_failure f = {.text = proto_bytes_text(why)};
    g->state = GUEST_LEAVING;
    peer_wire_fail(r, rc, &f);
    net_conn_shutdown(g->conn, REFUSED_LINGER_MS);
}

static bool one_role(uint32_t role)
{
    return role != 0 && (role & (role - 1)) == 0 && (role & ~PROTO_ROLE_ANY) == 0;
}

/* What may not be answered with a proof. */
static int hello_check(const struct peer_server *s, const struct proto_hello_request *h,
                       const char **ret_why)
{
    uint32_t accept = s->opt.accept_roles == 0 ? PROTO_ROLE_ANY : s->opt.accept_roles;
    if (h->version_min > PROTO_VERSION_MAX || h->version_max < PROTO_VERSION_MIN) {
        *ret_why = "no common protocol version";
        return -ERR_version;
    }
    bool joining = uuid_is_zero(&h->cluster_id) && (h->role & PEER_ROLES_JOINING) != 0;
    if (!joining && !uuid_equal(&h->cluster_id, &s->opt.cluster_id)) {
        *ret_why = "this server belongs to another cluster";
        return -ERR_wrong_cluster;
    }
    if (!one_role(h->role) || (h->role & accept) == 0) {
        *ret_why = "this role may not connect here";
        return -EPERM;
    }
    if (h->nonce.len != PEER_NONCE_BYTES) {
        *ret_why = "nonce of a wrong length";
        return -ERR_bad_value;
    }
    if (!peer_auth_possible(&s->opt.secrets, h->role)) {
        *ret_why = "this server has no secret for that role";
        return -EACCES;
    }
    return 0;
}

/* Keeps what was said; what is variable in it, in memory of our own. */
static void hello_keep(struct peer_guest *g, const struct proto_hello_request *h)
{
    g->hello = *h;
    memcpy(g->nonce, h->nonce.at, sizeof g->nonce);
    g->hello.nonce.at = g->nonce;
    g->hello.name = (struct proto_bytes){0};
    struct peer_link *l = &g->link;
    l->role = h->role;
    l->session = h->session;
    l->generation = h->generation;
    l->number = h->link;
    l->slot = h->slot;
    (void)proto_bytes_to_c(h->name, l->name, sizeof l->name);
}

static int hello_answer(struct peer_guest *g, struct net_conn_request *r)
{
    struct peer_server *s = g->server;
    const struct proto_hello_request *h = &g->hello;
    loop_random_bytes(s->loop, g->own_nonce, sizeof g->own_nonce);
    g->reply = (struct proto_hello_reply){
        .version = (uint16_t)base_min(h->version_max, PROTO_VERSION_MAX),
        .features = h->features & s->opt.features,
        .cluster_id = s->opt.cluster_id,
        .nonce = proto_bytes_of(g->own_nonce, sizeof g->own_nonce),
        .term = s->term,
        .leader = proto_bytes_text(s->leader),
        .is_leader = s->is_leader,
        .role = s->opt.role,
        .name = proto_bytes_text(s->opt.name == NULL ? "" : s->opt.name)};
    uint8_t proof[PEER_PROOF_BYTES];
    int rc = peer_auth_prove(&s->opt.secrets, PEER_SIDE_ASKED, h, &g->reply, proof);
    if (rc < 0) {
        return rc;
    }
    g->reply.proof = proto_bytes_of(proof, sizeof proof);
    struct peer_body b;
    rc = peer_body_encode(&b, &proto_hello_reply_type, &g->reply);
    if (rc == 0) {
        const struct net_conn_response resp = {.body = b.at, .body_len = b.len};
        net_conn_respond(r, &resp);
        peer_body_fini(&b);
    }
    g->reply.proof = (struct proto_bytes){0};
    g->reply.leader = (struct proto_bytes){0};
    return rc;
}

static void guest_hello(struct peer_guest *g, struct net_conn_request *r)
{
    struct peer_server *s = g->server;
    struct proto_hello_request h;
    const char *why = "hello does not decode";
    int rc = PROTO_DECODE(proto_hello_request, r->body, r->body_len, NULL, &h);
    if (rc == 0) {
        rc = hello_check(s, &h, &why);
    }
    if (rc < 0) {
        stats_count(&s->counters.refused_hello, 1);
        peer_guest_refuse(g, r, rc, why);
        return;
    }
    hello_keep(g, &h);
    rc = hello_answer(g, r);
    if (rc < 0) {
        peer_guest_refuse(g, r, rc, "hello cannot be answered now");
        return;
    }
    g->link.version = g->reply.version;
    g->link.features = g->reply.features;
    g->state = GUEST_AUTH;
}

static void guest_up(struct peer_guest *g, struct net_conn_request *r)
{
    struct peer_server *s = g->server;
    peer_link_begin(&g->link, s->dispatch, g->conn);
    loop_timer_cancel(s->loop, &g->hello_timer);
    if (g->link.role == PROTO_ROLE_TARGET && s->opt.member_pool != NULL) {
        net_conn_never_pause(g->conn, s->opt.member_pool);
    }
    net_conn_trust(g->conn);
    g->state = GUEST_UP;
    g->was_up = true;
    s->up_count++;
    stats_count(&s->counters.up, 1);
    stats_gauge_set(&s->counters.links, (int64_t)s->up_count);
    list_remove(&g->stranger);
    net_conn_respond_rc(r, 0);
    s->opt.user->ops->up(s->opt.user, &g->link);
}

static void guest_auth(struct peer_guest *g, struct net_conn_request *r)
{
    struct peer_server *s = g->server;
    struct proto_auth_request a;
    int rc = PROTO_DECODE(proto_auth_request, r->body, r->body_len, NULL, &a);
    if (rc == 0) {
        rc = peer_auth_check(&s->opt.secrets, PEER_SIDE_ASKING, &g->hello, &g->reply, a.proof);
    }
    if (rc < 0) {
        stats_count(&s->counters.refused_auth, 1);
        peer_guest_refuse(g, r, rc, "wrong secret");
        return;
    }
    rc = peer_seen_note(s, &g->link);
    if (rc < 0) {
        stats_count(&s->counters.refused_stale, 1);
        peer_guest_refuse(g, r, rc, "a newer link of this sender was here");
        return;
    }
    rc = peer_seen_join(s, g);
    if (rc < 0) {
        peer_guest_refuse(g, r, rc, "this sender has too many connections");
        return;
    }
    guest_up(g, r);
}

void peer_guest_request(struct net_conn_user *u, struct net_conn_request *r)
{
    struct peer_guest *g = container_of(u, struct peer_guest, user);
    switch (g->state) {
    case GUEST_NEW:
        if (r->opcode == PROTO_OP_hello) {
            guest_hello(g, r);
            return;
        }
        break;
    case GUEST_AUTH:
        if (r->opcode == PROTO_OP_auth) {
            guest_auth(g, r);
            return;
        }
        break;
    case GUEST_UP:
        if (r->opcode != PROTO_OP_hello && r->opcode != PROTO_OP_auth) {
            peer_link_request(&g->link, r);
            return;
        }
        break;
    case GUEST_LEAVING:
        net_conn_respond_rc(r, -ERR_shutting_down);
        return;
    }
    peer_guest_refuse(g, r, -ERR_protocol,
                      g->state == GUEST_UP ? "hello was said before" : "hello comes first");
}
