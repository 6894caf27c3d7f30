#include "peer/server.h"

#include "base/crc32c.h"
#include "peer/rig_sim_priv.h"
#include "testing/testing.h"
#include "wire/frame.h"
#include "wire/wire.h"

/* --- Who is let in ---------------------------------------------------------------------------- */

/* What a call and the client as a whole are told. */
static int refused(struct rig_world *w, const char *text)
{
    rig_start(w);
    struct rig_call c = {.call = {.timeout_ms = 20000}};
    rig_do_ping(w, &c, 1);
    const struct err *e = peer_trouble(w->client.peer);
    CHECK_EQ(e->code, c.rc);
    if (strstr(e->text, text) == NULL) {
        CHECK_TEXT(e->text, text);
    }
    CHECK_EQ(w->client.ups + w->server[0].ups, 0);
    CHECK_EQ(w->server[0].pings, 0);
    rig_close(w);
    return c.rc;
}

TEST(server_lets_in_who_belongs_here)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    w.client.opt.session = 11;
    w.client.opt.generation = 3;
    rig_start(&w);
    rig_until(&w, rig_is_up, &w);
    rig_run(&w, SECOND);
    const struct peer_link *l = w.server[0].newest;
    CHECK_EQ(l->role, PROTO_ROLE_CLIENT);
    CHECK_EQ(l->session, 11);
    CHECK_EQ(l->generation, 3);
    CHECK_EQ(l->number, 1);
    CHECK_EQ(l->slot, 0);
    CHECK_TEXT(l->name, "rig client");
    l = peer_link_of(w.client.peer, 0);
    CHECK_EQ(l->role, PROTO_ROLE_META);
    CHECK_TEXT(l->name, "rig server");
    char line[300];
    struct text t;
    text_init(&t, line, sizeof line);
    peer_link_to_text(l, &t);
    CHECK_TRUE(strstr(line, "session=11") != NULL);
    CHECK_EQ(peer_server_link_count(w.server[0].server), 1);
    CHECK_TRUE(peer_server_next(w.server[0].server, NULL) == w.server[0].newest);
    CHECK_TRUE(peer_server_next(w.server[0].server, w.server[0].newest) == NULL);
    CHECK_EQ(peer_trouble(w.client.peer)->code, 0);
    rig_close(&w);
    CHECK_EQ(w.client.downs, 1);
    CHECK_EQ(w.server[0].downs, 1);
}

TEST(server_refuses_another_cluster)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    w.client.opt.cluster_id = rig_cluster(2);
    CHECK_RC(refused(&w, "this server belongs to another cluster"), ERR_wrong_cluster);
}

TEST(server_is_refused_when_its_secret_is_wrong)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    rig_secrets(&w.client.opt.secrets);
    w.client.opt.secrets.client.bytes[0] ^= 1;
    CHECK_RC(refused(&w, "does not know the secret"), EACCES);
}

TEST(server_refuses_roles_that_it_does_not_serve)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    w.server[0].opt.accept_roles = PROTO_ROLE_TARGET | PROTO_ROLE_META;
    CHECK_RC(refused(&w, "this role may not connect here"), EPERM);
}

TEST(server_refuses_without_the_secret_of_the_role)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    rig_secrets(&w.server[0].opt.secrets);
    w.server[0].opt.secrets.client.known = false;
    CHECK_RC(refused(&w, "no secret for that role"), EACCES);
}

TEST(server_tells_an_administrator_its_cluster)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    w.client.opt.role = PROTO_ROLE_ADMIN;
    rig_start(&w);
    rig_until(&w, rig_is_up, &w);
    const struct uuid id = rig_cluster(1);
    CHECK_TRUE(uuid_equal(peer_cluster_id(w.client.peer), &id));
    rig_close(&w);
}

static void name_session_enter(void *ctx)
{
    struct rig_server *s = ctx;
    peer_server_name_session(s->server, s->newest, 40, 2);
}

/* R11: links of an older generation are closed when a newer one comes, or never let in. */
TEST(server_closes_links_of_older_generations)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    rig_start(&w);
    rig_until(&w, rig_is_up, &w);
    rig_run(&w, SECOND);
    struct rig_server *s = &w.server[0];
    rig_on(w.server_loop[0], name_session_enter, s);
    CHECK_EQ(s->newest->session, 40);
    rig_on(w.server_loop[0], name_session_enter, s); /* again: nothing happens */
    rig_run(&w, SECOND);
    CHECK_EQ(s->downs, 0);

    struct rig_client next = {.env = w.client.env, .opt = {.session = 40, .generation = 3}};
    next.addresses[0] = s->at;
    next.opt.address_count = 1;
    rig_on(w.client_loop, rig_client_enter, &next);
    rig_run(&w, SECOND / 2);
    CHECK_EQ(s->downs, 1);
    CHECK_RC(s->down_rc, ERR_stale_request);
    CHECK_EQ(next.downs, 0);

    struct rig_client old = {.env = w.client.env, .opt = {.session = 40, .generation = 2}};
    old.addresses[0] = s->at;
    old.opt.address_count = 1;
    rig_on(w.client_loop, rig_client_enter, &old);
    rig_run(&w, 10 * SECOND);
    CHECK_EQ(old.ups, 0);
    CHECK_ERR(peer_trouble(old.peer)->code, ERR_stale_request);
    CHECK_EQ(next.downs, 0);
    rig_on(w.client_loop, rig_client_leave, &old);
    rig_on(w.client_loop, rig_client_leave, &next);
    rig_run(&w, SECOND);
    rig_on(w.client_loop, rig_client_pool_leave, &old);
    rig_on(w.client_loop, rig_client_pool_leave, &next);
    rig_close(&w);
}

static void drop_link_enter(void *ctx)
{
    struct rig_world *w = ctx;
    peer_drop_link(w->client.peer, 0, "test");
}

/* R10: a newer link of a slot kills the older one, although the network still holds that open. */
TEST(server_closes_the_older_link_of_a_slot)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    w.client.opt.role = PROTO_ROLE_TARGET;
    w.client.opt.session = 5;
    rig_start(&w);
    rig_until(&w, rig_is_up, &w);
    struct rig_call held = {.call = {.timeout_ms = 60000}};
    rig_begin_ping(&w, &held, rig_cookie(RIG_HOLD, 1));
    rig_run(&w, SECOND);
    CHECK_EQ(w.server[0].held_count, 1);
    net_sim_cut(w.net, 0, 1, true); /* the end of the old link does not arrive ... */
    rig_on(w.client_loop, drop_link_enter, &w);
    rig_run(&w, SECOND);
    CHECK_EQ(w.server[0].downs, 0);
    CHECK_RC(held.rc, ERR_closed);
    CHECK_TRUE(held.unknown);
    net_sim_heal(w.net);
    rig_until(&w, rig_is_up, &w);
    rig_run(&w, SECOND);
    CHECK_EQ(w.server[0].cancelled, 1); /* ... but what it asked for is dead */
    CHECK_EQ(w.server[0].downs, 1);
    CHECK_TRUE(w.server[0].newest->number > 1);
    rig_close(&w);
}

/* --- Raw bytes on the port -------------------------------------------------------------------- */

#define RAW_BYTES 8192u
struct raw {
    struct net_connect connect;
    struct stream_user events;
    struct stream *stream;
    struct net *net;
    uint8_t out[RAW_BYTES], in[RAW_BYTES];
    size_t out_len, out_at, in_len;
    bool ended, finish;
};
static void raw_ready(struct stream_user *u, unsigned events)
{
    struct raw *r = container_of(u, struct raw, events);
    (void)events;
    while (r->out_at < r->out_len) {
        struct iovec v = {.iov_base = r->out + r->out_at, .iov_len = r->out_len - r->out_at};
        int64_t n = stream_write(r->stream, &v, 1, false);
        if (n <= 0) {
            break;
        }
        r->out_at += (size_t)n;
    }
    while (r->in_len < sizeof r->in) {
        struct iovec v = {.iov_base = r->in + r->in_len, .iov_len = sizeof r->in - r->in_len};
        int64_t n = stream_read(r->stream, &v, 1);
        if (n == -EAGAIN) {
            return;
        }
        if (n <= 0) {
            r->ended = true;
            r->stream = stream_close(r->stream);
            return;
        }
        r->in_len += (size_t)n;
    }
}
static void raw_connected(struct net_connect *c, int rc, struct stream *s)
{
    struct raw *r = container_of(c, struct raw, connect);
    CHECK_OK(rc);
    r->stream = s;
    r->events.ready = raw_ready;
    stream_attach(s, &r->events);
}
static void raw_start(void *ctx)
{
    struct raw *r = ctx;
    r->connect.done = raw_connected;
    net_connect(r->net, &r->connect);
}
static void raw_stop(void *ctx)
{
    struct raw *r = ctx;
    r->stream = stream_close(r->stream);
}
static bool raw_ended(void *ctx)
{
    return ((struct raw *)ctx)->ended;
}
static void raw_put(struct raw *r, struct wire_frame f, const void *body)
{
    f.body_crc = crc32c(0, body, f.body_len);
    CHECK_TRUE(r->out_len + FRAME_BYTES + f.body_len <= sizeof r->out);
    wire_frame_encode(&f, r->out + r->out_len);
    if (f.body_len > 0) {
        memcpy(r->out + r->out_len + FRAME_BYTES, body, f.body_len);
    }
    r->out_len += FRAME_BYTES + f.body_len;
}
static void raw_put_record(struct raw *r, uint16_t opcode, uint32_t id, const struct proto_type *t,
                           const void *record)
{
    uint8_t body[2048];
    struct wire_writer w = wire_writer_over(body, sizeof body);
    CHECK_OK(proto_encode(t, record, &w));
    const struct wire_frame f = {
        .kind = FRAME_REQUEST, .opcode = opcode, .id = id, .body_len = (uint32_t)w.len};
    raw_put(r, f, body);
}
static void raw_put_hello(struct raw *r, uint32_t id)
{
    static const uint8_t nonce[PEER_NONCE_BYTES] = {1};
    const struct proto_hello_request h = {.version_min = 1,
                                          .version_max = 1,
                                          .cluster_id = rig_cluster(1),
                                          .role = PROTO_ROLE_CLIENT,
                                          .nonce = proto_bytes_of(nonce, sizeof nonce)};
    raw_put_record(r, PROTO_OP_hello, id, &proto_hello_request_type, &h);
}
/* What the server said of request `id`: its status. */
static int raw_status(const struct raw *r, uint32_t id)
{
    for (size_t at = 0; at + FRAME_BYTES <= r->in_len;) {
        struct wire_frame f;
        CHECK_OK(wire_frame_decode(r->in + at, &f));
        if (f.kind == FRAME_RESPONSE && f.id == id) {
            return f.status;
        }
        at += FRAME_BYTES + f.body_len + f.data_len;
    }
    return 1;
}
static void raw_begin(struct rig_world *w, struct raw *r)
{
    r->net = w->client.env.net;
    r->connect.to = w->server[0].at;
    rig_on(w->client_loop, raw_start, r);
}
/* The server lets the connection go by itself, soon, and still serves others. */
static void raw_expect_end(struct rig_world *w, struct raw *r, uint64_t within_ns)
{
    raw_begin(w, r);
    CHECK_TRUE(loop_sim_run(w->sim, raw_ended, r, loop_sim_now_ns(w->sim) + within_ns));
    struct rig_call c = {.call = {.timeout_ms = 5000}};
    rig_do_ping(w, &c, 4);
    CHECK_OK(c.rc);
    CHECK_EQ(w->client.downs, 0);
    CHECK_EQ(w->server[0].ups, 1);
    CHECK_EQ(peer_server_link_count(w->server[0].server), 1);
}
static void raw_world(struct rig_world *w, uint64_t seed)
{
    rig_open(w, seed, 1);
    rig_start(w);
    rig_until(w, rig_is_up, w);
}

TEST(server_hears_nothing_before_hello)
{
    struct rig_world w = {.server_count = 0};
    raw_world(&w, testing_seed());
    const struct proto_ping_request ping = {.cookie = 1};
    struct raw first = {.out_len = 0};
    raw_put_record(&first, PROTO_OP_ping, 1, &proto_ping_request_type, &ping);
    raw_expect_end(&w, &first, 2 * SECOND);
    CHECK_RC(raw_status(&first, 1), ERR_protocol);

    struct raw between = {.out_len = 0};
    raw_put_hello(&between, 1);
    raw_put_record(&between, PROTO_OP_ping, 2, &proto_ping_request_type, &ping);
    raw_expect_end(&w, &between, 2 * SECOND);
    CHECK_EQ(raw_status(&between, 1), 0);
    CHECK_RC(raw_status(&between, 2), ERR_protocol);

    struct raw twice = {.out_len = 0};
    raw_put_hello(&twice, 1);
    raw_put_hello(&twice, 2);
    raw_expect_end(&w, &twice, 2 * SECOND);
    CHECK_RC(raw_status(&twice, 2), ERR_protocol);

    struct raw push = {.out_len = 0};
    raw_put(&push, (struct wire_frame){.kind = FRAME_PUSH, .opcode = PROTO_OP_forward_trailer}, "");
    raw_expect_end(&w, &push, SECOND);
    CHECK_EQ(w.server[0].pings, 4);
    rig_close(&w);
}

TEST(server_refuses_a_wrong_proof)
{
    struct rig_world w = {.server_count = 0};
    raw_world(&w, testing_seed());
    for (size_t len = 0; len <= 32; len += 16) {
        static const uint8_t wrong[32] = {3};
        struct raw r = {.out_len = 0};
        raw_put_hello(&r, 1);
        const struct proto_auth_request a = {.proof = proto_bytes_of(wrong, len)};
        raw_put_record(&r, PROTO_OP_auth, 2, &proto_auth_request_type, &a);
        raw_expect_end(&w, &r, 2 * SECOND);
        CHECK_RC(raw_status(&r, 2), EACCES);
    }
    rig_close(&w);
}

TEST(server_waits_for_hello_only_so_long)
{
    struct rig_world w = {.server_count = 0};
    raw_world(&w, testing_seed());
    struct raw silent = {.out_len = 0};
    raw_expect_end(&w, &silent, 7 * SECOND);
    struct raw half = {.out_len = 0};
    raw_put_hello(&half, 1);
    half.out_len -= 3;
    raw_expect_end(&w, &half, 7 * SECOND);
    CHECK_EQ(half.in_len, 0);
    rig_close(&w);
}

TEST(server_closes_on_frames_that_are_none)
{
    struct rig_world w = {.server_count = 0};
    raw_world(&w, testing_seed());
    struct raw large = {.out_len = 0};
    raw_put_hello(&large, 1);
    struct wire_frame f = {.kind = FRAME_REQUEST, .opcode = PROTO_OP_hello, .id = 1};
    f.body_len = FRAME_BODY_MAX; /* the most, but not from a stranger */
    wire_frame_encode(&f, large.out);
    raw_expect_end(&w, &large, 2 * SECOND);
    f.body_len = FRAME_BODY_MAX + 1;
    struct raw larger = {.out_len = FRAME_BYTES};
    wire_frame_encode(&f, larger.out);
    raw_expect_end(&w, &larger, 2 * SECOND);
    f.body_len = 0;
    f.data_len = 4096;
    struct raw data = {.out_len = FRAME_BYTES};
    wire_frame_encode(&f, data.out);
    raw_expect_end(&w, &data, 2 * SECOND);
    rig_close(&w);
}

static void raw_garble(struct raw *r, struct rand *rand)
{
    switch (rand_below(rand, 3)) {
    case 0: /* a good exchange with some bytes changed */
        raw_put_hello(r, 1);
        raw_put_record(r, PROTO_OP_auth, 2, &proto_auth_request_type,
                       &(struct proto_auth_request){0});
        for (unsigned i = 0; i <= rand_below(rand, 4); i++) {
            r->out[rand_below(rand, r->out_len)] ^= (uint8_t)rand_range(rand, 1, 255);
        }
        break;
    case 1: /* noise */
        r->out_len = rand_below(rand, RAW_BYTES);
        rand_bytes(rand, r->out, r->out_len);
        break;
    default: { /* good frames with any body */
        uint8_t body[512];
        rand_bytes(rand, body, sizeof body);
        struct wire_frame f = {.kind = FRAME_REQUEST, .opcode = PROTO_OP_hello};
        for (f.id = 0; f.id < 4; f.id++) {
            f.body_len = (uint32_t)rand_below(rand, sizeof body);
            f.opcode = (uint16_t)rand_below(rand, 4);
            raw_put(r, f, body);
        }
    }
    }
}
TEST(server_survives_random_bytes)
{
    struct rig_world w = {.server_count = 0};
    raw_world(&w, testing_seed());
    for (unsigned i = 0; i < 60; i++) {
        struct raw r = {.out_len = 0};
        raw_garble(&r, &w.rand);
        raw_expect_end(&w, &r, 7 * SECOND);
        rig_on(w.client_loop, raw_stop, &r);
    }
    rig_close(&w);
}

/* Every beginning of a good exchange, then the end of the stream. */
TEST(server_survives_every_truncation)
{
    struct rig_world w = {.server_count = 0};
    raw_world(&w, testing_seed());
    struct raw whole = {.out_len = 0};
    raw_put_hello(&whole, 1);
    raw_put_record(&whole, PROTO_OP_auth, 2, &proto_auth_request_type,
                   &(struct proto_auth_request){0});
    for (size_t len = 0; len < whole.out_len; len++) {
        struct raw r = whole;
        r.out_len = len;
        raw_begin(&w, &r);
        rig_run(&w, 3 * SECOND / 1000);
        rig_on(w.client_loop, raw_stop, &r);
        rig_run(&w, 3 * SECOND / 1000);
    }
    rig_run(&w, SECOND);
    CHECK_EQ(w.server[0].ups, 1);
    CHECK_EQ(w.client.downs, 0);
    rig_close(&w);
}

/* --- Messages --------------------------------------------------------------------------------- */

struct link_call {
    struct peer_call call;
    struct proto_query_request query;
    struct rig_server *s;
    unsigned done;
    uint64_t size;
};
static void link_call_done(struct peer_call *pc, const struct peer_reply *r)
{
    struct link_call *c = container_of(pc, struct link_call, call);
    CHECK_OK(r->rc);
    c->done++;
    c->size = ((const struct proto_query_reply *)r->body)->size;
}
static void link_call_enter(void *ctx)
{
    struct link_call *c = ctx;
    c->call.opcode = PROTO_OP_query;
    c->call.done = link_call_done;
    c->call.request = &c->query;
    peer_link_call(c->s->newest, &c->call);
    const struct proto_map_changed_push m = {.epoch = 77};
    CHECK_OK(peer_link_push(c->s->newest, PROTO_OP_map_changed, &m));
    const struct proto_drop_all_push d = {.push_seq = 1}; /* the client has no handler for it */
    CHECK_OK(peer_link_push(c->s->newest, PROTO_OP_drop_all, &d));
}
TEST(server_asks_and_pushes)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    rig_start(&w);
    rig_until(&w, rig_is_up, &w);
    rig_run(&w, SECOND);
    struct link_call c = {.s = &w.server[0], .query = {.ino = 4711}};
    rig_on(w.server_loop[0], link_call_enter, &c);
    rig_run(&w, SECOND);
    CHECK_EQ(c.done, 1);
    CHECK_EQ(c.size, 4711);
    CHECK_EQ(w.client.queries, 1);
    CHECK_EQ(w.client.pushes, 1);
    CHECK_EQ(w.client.downs, 0);
    rig_close(&w);
}

struct push_enter {
    struct rig_world *w;
    int rc;
};
static void push_trailer_enter(void *ctx)
{
    struct push_enter *p = ctx;
    const struct proto_forward_trailer_push t = {.route = {.chain = 1}};
    p->rc = peer_link_push(peer_link_of(p->w->client.peer, 0), PROTO_OP_forward_trailer, &t);
}
TEST(server_hears_pushes_of_the_right_role_only)
{
    for (unsigned i = 0; i < 2; i++) {
        struct rig_world w = {.server_count = 0};
        rig_open(&w, testing_seed() + i, 1);
        w.client.opt.role = i == 0 ? PROTO_ROLE_TARGET : PROTO_ROLE_CLIENT;
        rig_start(&w);
        rig_until(&w, rig_is_up, &w);
        struct push_enter p = {.w = &w};
        rig_on(w.client_loop, push_trailer_enter, &p);
        CHECK_OK(p.rc);
        rig_run(&w, SECOND);
        CHECK_EQ(w.server[0].pushes, i == 0 ? 1 : 0);
        rig_close(&w);
    }
}

struct data_call {
    struct rig_world *w;
    struct rig_call call;
    bool write;
};
static void data_call_enter(void *ctx)
{
    struct data_call *d = ctx;
    if (d->write) {
        rig_call_write(&d->call, &d->w->client, 34, 3000000);
    } else {
        rig_call_read(&d->call, &d->w->client, 33, 1000000);
    }
}
/* Bytes that were copied by it. */
static uint64_t data_call_run(struct rig_world *w, bool write)
{
    struct buf_pool *pool = write ? w->server[0].pool : w->client.pool;
    uint64_t copied = buf_pool_copied_bytes(pool);
    struct data_call d = {.w = w, .write = write};
    rig_on(w->client_loop, data_call_enter, &d);
    rig_until(w, rig_call_is_done, &d.call);
    CHECK_OK(d.call.rc);
    CHECK_TRUE(d.call.good);
    return buf_pool_copied_bytes(pool) - copied;
}
/* The first data after small frames comes with what the receive buffer holds of it (net/conn.h);
 * then nothing is copied, here or there. */
TEST(server_moves_data_without_copies)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    rig_start(&w);
    rig_until(&w, rig_is_up, &w);
    CHECK_TRUE(data_call_run(&w, false) <= 65536);
    CHECK_EQ(data_call_run(&w, false), 0);
    CHECK_TRUE(data_call_run(&w, true) <= 65536);
    CHECK_EQ(data_call_run(&w, true), 0);
    rig_close(&w);
}

/* A role may ask only what its row of the table allows; unknown messages are answered. */
struct odd_call {
    struct peer_call call;
    struct rig_world *w;
    unsigned done;
    int rc;
    union {
        struct proto_statfs_request statfs;
        struct proto_rmdir_request rmdir;
        struct proto_read_request read;
    } q;
};
static void odd_done(struct peer_call *pc, const struct peer_reply *r)
{
    struct odd_call *c = container_of(pc, struct odd_call, call);
    c->done++;
    c->rc = r->rc;
    CHECK_TRUE(r->answered);
}
static void odd_enter(void *ctx)
{
    struct odd_call *c = ctx;
    c->call.done = odd_done;
    c->call.request = &c->q;
    peer_call(c->w->client.peer, &c->call);
}
static bool odd_is_done(void *ctx)
{
    return ((struct odd_call *)ctx)->done > 0;
}
static int odd_run(struct rig_world *w, uint16_t opcode)
{
    struct odd_call c = {.w = w, .call = {.opcode = opcode}};
    c.q.rmdir.name = proto_bytes_text("d");
    if (opcode != PROTO_OP_rmdir) {
        memset(&c.q, 0, sizeof c.q);
    }
    rig_on(w->client_loop, odd_enter, &c);
    rig_until(w, odd_is_done, &c);
    return c.rc;
}
TEST(server_checks_roles_and_opcodes)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    w.client.opt.role = PROTO_ROLE_TARGET;
    rig_start(&w);
    CHECK_RC(odd_run(&w, PROTO_OP_statfs), ERR_unknown_message);
    CHECK_RC(odd_run(&w, PROTO_OP_read), EPERM); /* a client's */
    CHECK_EQ(w.client.downs, 0);
    rig_close(&w);
}
TEST(server_takes_sealed_operations)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    rig_start(&w);
    CHECK_OK(odd_run(&w, PROTO_OP_rmdir));
    rig_close(&w);
}

/* A mutation whose body is not the one that its CRC was made of: the slot would remember the answer
 * of something else. It is not handed out, and its link ends. */
struct unsealed {
    struct net_conn_call wire;
    struct rig_world *w;
    uint8_t body[256];
    unsigned done;
    int rc;
};
static void unsealed_done(struct net_conn_call *wire, const struct net_conn_reply *r)
{
    struct unsealed *u = container_of(wire, struct unsealed, wire);
    u->done++;
    u->rc = r->rc;
}
static void unsealed_enter(void *ctx)
{
    struct unsealed *u = ctx;
    u->wire.done = unsealed_done;
    u->wire.opcode = PROTO_OP_rmdir;
    u->wire.body = u->body;
    net_conn_call(peer_link_of(u->w->client.peer, 0)->conn, &u->wire);
}
static bool unsealed_is_done(void *ctx)
{
    return ((struct unsealed *)ctx)->done > 0;
}
static int unsealed_run(struct rig_world *w, size_t flip_bit)
{
    struct unsealed u = {.w = w};
    const struct proto_rmdir_request q = {
        .op = {.session = 1, .slot = 2, .sequence = 3}, .parent = 4, .name = proto_bytes_text("d")};
    struct wire_writer to = wire_writer_over(u.body, sizeof u.body);
    CHECK_OK(proto_encode(&proto_rmdir_request_type, &q, &to));
    CHECK_OK(proto_op_seal(PROTO_OP_rmdir, u.body, to.len));
    if (flip_bit < to.len * 8) {
        u.body[flip_bit / 8] ^= (uint8_t)(1u << flip_bit % 8);
    }
    u.wire.body_len = to.len;
    rig_until(w, rig_is_up, w);
    rig_on(w->client_loop, unsealed_enter, &u);
    rig_until(w, unsealed_is_done, &u);
    return u.rc;
}
TEST(server_refuses_a_mutation_whose_crc_is_wrong)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    rig_start(&w);
    CHECK_OK(unsealed_run(&w, SIZE_MAX));
    CHECK_EQ(w.server[0].rmdirs, 1);
    CHECK_EQ(w.server[0].downs, 0);
    /* Behind its length of 4 bytes an op has 44, the CRC in 20 to 23; behind it lie parent and
     * name. */
    static const size_t byte[] = {24, 25, 26, 27, 48, 49, 52, 55, 56, 60};
    for (size_t i = 0; i < ARRAY_COUNT(byte); i++) {
        int rc = unsealed_run(&w, byte[i] * 8 + i % 8);
        CHECK_TRUE(err_is(rc, ERR_corrupt) || rc == -ERR_closed); /* if the end is faster */
        rig_run(&w, SECOND / 10);
        CHECK_EQ(w.server[0].rmdirs, 1);
        CHECK_EQ(w.server[0].downs, 1 + i);
    }
    CHECK_OK(unsealed_run(&w, SIZE_MAX)); /* others are served */
    rig_close(&w);
}

/* --- Limits and the end ----------------------------------------------------------------------- */

TEST(server_is_busy_when_full)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    w.server[0].opt.max_requests = 4;
    rig_start(&w);
    struct rig_call held[4] = {0};
    for (unsigned i = 0; i < 4; i++) {
        rig_begin_ping(&w, &held[i], rig_cookie(RIG_HOLD, i));
    }
    rig_run(&w, SECOND);
    CHECK_EQ(w.server[0].held_count, 4);
    struct rig_call raw = {.call = {.flags = PEER_CALL_RAW}};
    rig_do_ping(&w, &raw, 9);
    CHECK_RC(raw.rc, ERR_busy);
    CHECK_TRUE(raw.answered);
    struct rig_call patient = {.call = {.timeout_ms = 20000}};
    rig_begin_ping(&w, &patient, 10);
    rig_run(&w, SECOND);
    CHECK_EQ(patient.done, 0);
    rig_on(w.client_loop, rig_cancel_enter, &held[0].call);
    rig_until(&w, rig_call_is_done, &patient);
    CHECK_OK(patient.rc);
    CHECK_RC(held[0].rc, ERR_cancelled);
    CHECK_EQ(w.server[0].cancelled, 1);
    rig_close(&w);
    CHECK_RC(held[3].rc, ERR_closed);
}

TEST(server_takes_so_many_connections)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    w.server[0].opt.max_connections = 1;
    rig_start(&w);
    rig_until(&w, rig_is_up, &w);
    struct raw r = {.out_len = 0};
    raw_expect_end(&w, &r, SECOND / 2);
    rig_close(&w);
}

static void server_stop_enter(void *ctx)
{
    struct rig_server *s = ctx;
    peer_server_stop(s->server, 2000, rig_server_stopped);
}
static void server_release_enter(void *ctx)
{
    rig_release_all(ctx);
}
TEST(server_answers_before_it_stops)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    rig_start(&w);
    struct rig_call held = {.call = {.timeout_ms = 30000}}, late = held;
    rig_begin_ping(&w, &held, rig_cookie(RIG_HOLD, 1));
    rig_run(&w, SECOND);
    rig_on(w.server_loop[0], server_stop_enter, &w.server[0]);
    rig_begin_ping(&w, &late, 2);
    rig_run(&w, SECOND);
    CHECK_EQ(w.server[0].stopped, 0);
    CHECK_EQ(held.done + late.done, 0); /* the second one rests: shutting down is no verdict */
    rig_on(w.server_loop[0], server_release_enter, &w.server[0]);
    rig_run(&w, SECOND / 10);
    CHECK_OK(held.rc);
    CHECK_EQ(held.done, 1);
    CHECK_EQ(w.server[0].stopped, 1);
    CHECK_EQ(w.server[0].downs, 1);
    CHECK_EQ(w.server[0].pings, 1); /* the second one never ran, however often it was sent */
    rig_close(&w);
    CHECK_EQ(late.done, 1);
}
TEST(server_does_not_stop_before_its_requests_are_answered)
{
    struct rig_world w = {.server_count = 0};
    rig_open(&w, testing_seed(), 1);
    rig_start(&w);
    struct rig_call held = {.call = {.timeout_ms = 30000}};
    rig_begin_ping(&w, &held, rig_cookie(RIG_HOLD, 1));
    rig_run(&w, SECOND);
    rig_on(w.server_loop[0], server_stop_enter, &w.server[0]);
    rig_run(&w, 10 * SECOND); /* its handler answers when it hears that nobody waits */
    CHECK_EQ(w.server[0].cancelled, 1);
    CHECK_EQ(w.server[0].stopped, 1);
    CHECK_TRUE(held.unknown);
    CHECK_RC(held.rc, ERR_closed);
    rig_close(&w);
}
