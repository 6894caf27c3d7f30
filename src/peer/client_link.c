/*
 * peer/client_link.c -- from an address to a link that is up.
 *
 * connecting -> hello -> auth -> up. An attempt of the control link that fails moves to the next
 * address; after a whole round of failures all rest. A redirect is followed at once, but not for
 * ever: servers that name each other count as failed. The server must prove itself before anything
 * that it says (also whom it calls leader) is believed, and before it gets our proof.
 */
#include "base/mem.h"
#include "peer/client_priv.h"

#define NS_PER_MS UINT64_C(1000000)
#define SETTLED_NS UINT64_C(1000000000) /* a link that lived so long was no failure */
#define REASON_BYTES 160u

static bool slot_is_control(const struct peer_slot *s)
{
    return s->number == 0;
}

/* An inherited stream is there once: without addresses its end is final. */
static bool no_way_left(const struct peer *p)
{
    return p->opt.address_count == 0 && p->stream == NULL && p->hint.text[0] == 0;
}

static void slot_rest(struct peer_slot *s)
{
    struct peer *p = s->peer;
    if (slot_is_control(s) && no_way_left(p)) {
        p->refusal = p->trouble.code;
        peer_calls_fail_waiting(p, p->refusal);
        return;
    }
    uint64_t half = s->rest_ms * NS_PER_MS / 2;
    uint64_t delay = half + (half == 0 ? 0 : loop_random(p->loop) % half);
    s->rest_ms = base_min(s->rest_ms * 2, p->opt.rest_max_ms);
    s->state = SLOT_RESTING;
    loop_timer_in(p->loop, &s->rest, delay);
}

/* --- The control link: which address ---------------------------------------------------------- */

static bool refused_for_good(int rc)
{
    return err_is(rc, EPERM) || err_is(rc, EACCES) || err_is(rc, ERR_version);
}

/* One address would not have us; all of them: rest. */
static void control_failed(struct peer *p, int rc, const char *why)
{
    struct peer_slot *s = &p->slot[0];
    stats_count(&p->counters.failures, 1);
    (void)err_set(&p->trouble, rc, "%s: %s", p->using.text, why);
    p->refused += refused_for_good(rc) ? 1 : 0;
    p->failed++;
    if (!p->hinted && p->opt.address_count > 0) {
        p->at = (p->at + 1) % p->opt.address_count;
    }
    p->hint.text[0] = 0;
    if (p->failed < p->opt.address_count) {
        s->state = SLOT_RESTING;
        loop_timer_in(p->loop, &s->rest, 0); /* the next one, from the loop */
        return;
    }
    p->refusal = p->refused == p->failed ? rc : 0;
    p->failed = 0;
    p->refused = 0;
    p->hops = 0;
    slot_rest(s);
    if (p->refusal < 0) {
        peer_calls_fail_waiting(p, p->refusal);
    }
}

static void control_redirected(struct peer *p, struct proto_bytes leader, uint64_t term)
{
    bool known = leader.len > 0 && leader.len < sizeof p->hint.text;
    bool enough = p->hops > 2 * p->opt.address_count;
    if (!known || enough || term < p->term) {
        control_failed(p, -ERR_not_leader,
                       known ? "names a leader of the past" : "knows no leader");
        return;
    }
    p->hops++;
    p->term = term;
    stats_count(&p->counters.redirects, 1);
    (void)proto_bytes_to_c(leader, p->hint.text, sizeof p->hint.text);
    peer_slot_connect(&p->slot[0]);
}

static void control_address(struct peer *p)
{
    p->hinted = p->hint.text[0] != 0;
    p->using = p->hinted ? p->hint : p->addresses[p->at]; /* one more than there are: empty */
    p->hint.text[0] = 0;
}

void peer_follow(struct peer *p, struct proto_bytes leader, uint64_t term)
{
    struct peer_slot *s = &p->slot[0];
    if (s->state != SLOT_UP) {
        return; /* already looking */
    }
    if (leader.len > 0 && leader.len < sizeof p->hint.text && term >= p->term) {
        p->term = term;
        (void)proto_bytes_to_c(leader, p->hint.text, sizeof p->hint.text);
        stats_count(&p->counters.redirects, 1);
    }
    net_conn_close(s->conn, -ERR_not_leader, "the leader has moved");
}

/* --- Ends ------------------------------------------------------------------------------------- */

/* Closes whatever there is of the connection. Calls in flight come back from inside. */
static void slot_clear(struct peer_slot *s, int rc, const char *reason)
{
    struct peer *p = s->peer;
    bool was_up = s->state == SLOT_UP;
    if (s->state == SLOT_CONNECTING) {
        net_connect_cancel(p->opt.env->net, &s->connect);
    }
    loop_timer_cancel(p->loop, &s->rest);
    s->state = SLOT_DOWN;
    if (s->conn != NULL) {
        net_conn_unwait_room(s->conn, &s->room);
        s->conn = net_conn_free(s->conn);
    }
    s->link.conn = NULL;
    if (was_up) {
        if (slot_is_control(s)) {
            p->gate_open = false;
        }
        p->opt.user->ops->down(p->opt.user, &s->link, rc, reason);
        peer_link_end(&s->link);
    }
}

static void slot_try_failed(struct peer_slot *s, int rc, const char *why)
{
    char reason[REASON_BYTES];
    (void)proto_bytes_to_c(proto_bytes_text(why), reason, sizeof reason);
    slot_clear(s, rc, reason);
    if (slot_is_control(s)) {
        control_failed(s->peer, rc, reason);
    } else {
        slot_rest(s);
    }
}

static void bulk_clear_all(struct peer *p, int rc, const char *reason)
{
    for (unsigned i = 1; i <= p->opt.bulk_count; i++) {
        slot_clear(&p->slot[i], rc, reason);
    }
}

void peer_slot_lose(struct peer_slot *s, int rc, const char *reason)
{
    struct peer *p = s->peer;
    char why[REASON_BYTES];
    (void)proto_bytes_to_c(proto_bytes_text(reason), why, sizeof why);
    if (s->state != SLOT_UP) {
        slot_try_failed(s, rc == 0 ? -ERR_closed : rc, why);
        return;
    }
    stats_count(&p->counters.losses, 1);
    if (loop_now_ns(p->loop) - s->link.up_ns >= SETTLED_NS) {
        s->rest_ms = p->opt.rest_min_ms;
    }
    slot_clear(s, rc, why);
    if (slot_is_control(s)) {
        (void)err_set(&p->trouble, rc == 0 ? -ERR_closed : rc, "%s: %s", p->using.text, why);
        bulk_clear_all(p, -ERR_closed, "the control link was lost");
        peer_calls_fail_linked(p);
        if (p->hint.text[0] != 0) {
            peer_slot_connect(s);
            return;
        }
    }
    slot_rest(s);
}

static void slot_conn_closed(struct net_conn_user *u, struct net_conn *c, int rc,
                             const char *reason)
{
    (void)c;
    peer_slot_lose(container_of(u, struct peer_slot, user), rc, reason);
}

static void slot_request(struct net_conn_user *u, struct net_conn_request *r)
{
    struct peer_slot *s = container_of(u, struct peer_slot, user);
    if (s->state == SLOT_UP) {
        peer_link_request(&s->link, r);
        return;
    }
    net_conn_respond_rc(r, -ERR_protocol);
}

static void slot_pushed(struct net_conn_user *u, struct net_conn *c, uint16_t opcode,
                        const uint8_t *body, size_t len)
{
    struct peer_slot *s = container_of(u, struct peer_slot, user);
    if (s->state == SLOT_UP) {
        peer_link_pushed(&s->link, opcode, body, len);
    } else {
        net_conn_close(c, -ERR_protocol, "a push before hello");
    }
}

static const struct net_conn_user_ops slot_ops = {
    .request = slot_request, .push = slot_pushed, .closed = slot_conn_closed};

/* --- Hello and auth --------------------------------------------------------------------------- */

/* Sends one of the two; the small body is copied by the connection. */
static void slot_shake(struct peer_slot *s, uint16_t opcode, const struct proto_type *t,
                       const void *record)
{
    struct peer_body b;
    int rc = peer_body_encode(&b, t, record);
    if (rc < 0) {
        net_conn_close(s->conn, rc, "hello cannot be sent");
        return;
    }
    s->shake.opcode = opcode;
    s->shake.body = b.at;
    s->shake.body_len = b.len;
    s->shake.timeout_ms = (uint32_t)s->peer->opt.connect_ms;
    net_conn_call(s->conn, &s->shake);
    peer_body_fini(&b);
}

static void slot_up(struct peer_slot *s)
{
    struct peer *p = s->peer;
    net_conn_trust(s->conn);
    s->state = SLOT_UP;
    peer_link_begin(&s->link, p->dispatch, s->conn);
    if (slot_is_control(s)) {
        p->failed = 0;
        p->refused = 0;
        p->hops = 0;
        p->refusal = 0;
        p->trouble = (struct err){0};
        p->gate_open = !p->opt.gated;
    }
    p->opt.user->ops->up(p->opt.user, &s->link);
    for (unsigned i = 0; i <= p->opt.bulk_count; i++) {
        peer_slot_pump(&p->slot[i]);
    }
}

static void slot_auth_done(struct net_conn_call *call, const struct net_conn_reply *r)
{
    struct peer_slot *s = container_of(call, struct peer_slot, shake);
    if (s->state != SLOT_AUTH) {
        return; /* being cleared */
    }
    if (r->rc < 0) {
        slot_try_failed(s, r->rc, "does not let us in");
        return;
    }
    slot_up(s);
}

static int check_reply(const struct peer_slot *s, const struct proto_hello_reply *m,
                       const char **ret_why)
{
    const struct peer *p = s->peer;
    bool joining = uuid_is_zero(&p->cluster_id) && (p->opt.role & PEER_ROLES_JOINING) != 0;
    if (m->version < PROTO_VERSION_MIN || m->version > PROTO_VERSION_MAX) {
        *ret_why = "answers in an unknown version";
        return -ERR_version;
    }
    if (!joining && !uuid_equal(&m->cluster_id, &p->cluster_id)) {
        *ret_why = "belongs to another cluster";
        return -ERR_wrong_cluster;
    }
    *ret_why = "does not know the secret";
    return peer_auth_check(&p->opt.secrets, PEER_SIDE_ASKED, &s->hello, m, m->proof);
}

static void slot_welcome(struct peer_slot *s, const struct proto_hello_reply *m)
{
    struct peer *p = s->peer;
    uint8_t proof[PEER_PROOF_BYTES];
    int rc = peer_auth_prove(&p->opt.secrets, PEER_SIDE_ASKING, &s->hello, m, proof);
    if (rc < 0) {
        slot_try_failed(s, rc, "cannot prove who we are");
        return;
    }
    p->cluster_id = m->cluster_id;
    p->term = base_max(p->term, m->term);
    struct peer_link *l = &s->link;
    void *context = l->context;
    *l = (struct peer_link){.role = m->role,
                            .version = m->version,
                            .features = m->features,
                            .session = s->hello.session,
                            .generation = s->hello.generation,
                            .number = s->hello.link,
                            .slot = s->number,
                            .context = context};
    (void)proto_bytes_to_c(m->name, l->name, sizeof l->name);
    s->state = SLOT_AUTH;
    s->shake.done = slot_auth_done;
    const struct proto_auth_request a = {.proof = proto_bytes_of(proof, sizeof proof)};
    slot_shake(s, PROTO_OP_auth, &proto_auth_request_type, &a);
}

/* The server's own words, when it says why not. */
static void slot_refused(struct peer_slot *s, const struct net_conn_reply *r)
{
    struct proto_failure f = {0};
    char why[REASON_BYTES] = "no answer to hello";
    int rc = r->answered ? proto_decode(&proto_failure_type, r->body, r->body_len, NULL, &f) : 0;
    if (rc == 0 && f.text.len > 0) {
        struct text t;
        text_init(&t, why, sizeof why);
        text_add_bytes(&t, f.text.at, f.text.len);
    }
    slot_try_failed(s, r->rc, why);
}

static void slot_hello_done(struct net_conn_call *call, const struct net_conn_reply *r)
{
    struct peer_slot *s = container_of(call, struct peer_slot, shake);
    struct peer *p = s->peer;
    if (s->state != SLOT_HELLO) {
        return; /* being cleared */
    }
    if (r->rc < 0) {
        slot_refused(s, r);
        return;
    }
    struct proto_hello_reply m;
    const char *why = "its hello does not decode";
    int rc = PROTO_DECODE(proto_hello_reply, r->body, r->body_len, NULL, &m);
    if (rc == 0) {
        rc = check_reply(s, &m, &why);
    }
    if (rc < 0) {
        slot_try_failed(s, rc, why);
        return;
    }
    if (p->opt.wants_leader && !m.is_leader) {
        char leader[NET_ADDRESS_SIZE];
        (void)proto_bytes_to_c(m.leader, leader, sizeof leader);
        if (!slot_is_control(s)) {
            slot_try_failed(s, -ERR_not_leader, "does not lead any more");
            return;
        }
        slot_clear(s, -ERR_not_leader, "does not lead"); /* frees what `m` points to */
        control_redirected(p, proto_bytes_text(leader), m.term);
        return;
    }
    slot_welcome(s, &m);
}

static void slot_hello(struct peer_slot *s)
{
    struct peer *p = s->peer;
    loop_random_bytes(p->loop, s->nonce, sizeof s->nonce);
    s->hello = (struct proto_hello_request){
        .version_min = PROTO_VERSION_MIN,
        .version_max = PROTO_VERSION_MAX,
        .features = p->opt.features,
        .cluster_id = p->cluster_id,
        .role = p->opt.role,
        .nonce = proto_bytes_of(s->nonce, sizeof s->nonce),
        .name = proto_bytes_text(p->opt.name == NULL ? "" : p->opt.name),
        .session = p->opt.session,
        .generation = p->opt.generation,
        .link = s->link_number,
        .slot = s->number};
    s->state = SLOT_HELLO;
    s->shake.done = slot_hello_done;
    slot_shake(s, PROTO_OP_hello, &proto_hello_request_type, &s->hello);
}

/* --- Connecting ------------------------------------------------------------------------------- */

static void slot_begin(struct peer_slot *s, struct stream *stream)
{
    struct peer *p = s->peer;
    const struct net_conn_options opt = {.env = p->opt.env,
                                         .user = &s->user,
                                         .pool = p->opt.pool,
                                         .keepalive_ms = p->opt.keepalive_ms};
    int rc = net_conn_new(&opt, stream, &s->conn);
    if (rc < 0) {
        slot_try_failed(s, rc, "cannot connect");
        return;
    }
    slot_hello(s);
}

static void slot_connected(struct net_connect *c, int rc, struct stream *stream)
{
    struct peer_slot *s = container_of(c, struct peer_slot, connect);
    s->state = SLOT_DOWN;
    if (rc < 0) {
        slot_try_failed(s, rc, "cannot connect");
        return;
    }
    slot_begin(s, stream);
}

void peer_slot_connect(struct peer_slot *s)
{
    struct peer *p = s->peer;
    CHECK(s->conn == NULL && s->state != SLOT_CONNECTING && !p->closing);
    if (slot_is_control(s) && p->stream == NULL) {
        control_address(p);
    }
    stats_count(&p->counters.connects, 1);
    s->link_number++;
    if (slot_is_control(s) && p->stream != NULL) {
        struct stream *stream = p->stream;
        p->stream = NULL;
        slot_begin(s, stream);
        return;
    }
    s->state = SLOT_CONNECTING;
    s->connect.to = p->using;
    s->connect.timeout_ms = p->opt.connect_ms;
    net_connect(p->opt.env->net, &s->connect);
}

static void slot_rested(struct loop_timer *t)
{
    struct peer_slot *s = container_of(t, struct peer_slot, rest);
    s->state = SLOT_DOWN;
    if (slot_is_control(s)) {
        peer_slot_connect(s);
    } else {
        peer_slot_pump(s); /* connects when somebody still wants it */
    }
}

static void slot_room(struct net_conn_room *w)
{
    peer_slot_pump(container_of(w, struct peer_slot, room));
}

void peer_slot_init(struct peer *p, unsigned number)
{
    struct peer_slot *s = &p->slot[number];
    s->peer = p;
    s->number = number;
    s->rest_ms = p->opt.rest_min_ms;
    s->user.ops = &slot_ops;
    s->connect.done = slot_connected;
    s->rest.fire = slot_rested;
    s->room.room = slot_room;
    list_init(&s->queue);
    list_init(&s->early);
    list_init(&s->room.node);
    list_init(&s->link.requests);
}

void peer_slot_fini(struct peer_slot *s)
{
    slot_clear(s, -ERR_closed, "ends");
}
