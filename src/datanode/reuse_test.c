/*
 * datanode/reuse_test.c -- space that `sendfile` has sent from, and that another file gets. A real
 * worker, its real disk and sockets of the kernel; the metadata server and the clients are the
 * test's.
 *
 * What is in a socket is not bytes but pages of the page cache: who reads late sees what is in them
 * then. A receiver reads nothing while its chunk is overwritten and the space of the old content is
 * given to other files: what it has got in the end are the bytes of its own chunk, or none that fit
 * their checksums.
 */
#include "datanode/worker.h"

#include "base/crc32c.h"
#include "base/env.h"
#include "base/stats.h"
#include "chunk/read.h"
#include "cluster/capability.h"
#include "datanode/rig_peer_priv.h"
#include "datanode/worker_priv.h"
#include "peer/client.h"
#include "peer/server.h"
#include "testing/testing.h"

#include <string.h>

#define LENGTH (64u << 10) /* a socket takes some of these although nobody reads */
#define LARGE CHUNK_LENGTH_MAX
#define CHAIN 1u
#define SESSION 7u
#define SECOND UINT64_C(1000000000)
#define LIMIT_NS (60 * SECOND)
#define REST_MS 20u
#define VICTIMS 3u
#define LARGE_COUNT 15u /* of a container that begins with 64 MiB */
#define OTHERS_MAX 150u /* what was never used goes first */
#define FIRST_DATA 100u

static const struct uuid cluster = {{4, 5, 6}};

/* Its own loop, so that it stands still when the test does not turn it. */
struct side {
    struct env env;
    struct buf_pool *pool;
    struct peer_user user;
    struct peer *peer;
};
struct reuse {
    struct side server, writer, reader; /* server: worker and metadata server, one loop */
    struct peer_user meta_user;
    struct peer_server *meta;
    bool known, leased; /* the worker knows its row; and has heard so */
    struct datanode_worker_user worker_user;
    struct datanode_worker *worker;
    bool stopped;
    uint64_t seq;
};

/* ---- Sides ---- */

static void side_open(struct side *x)
{
    const struct buf_pool_options pool = {.limit_bytes = 64u << 20, .max_size = 4u << 20};
    CHECK_OK(loop_new(&(struct loop_options){.name = "test"}, &x->env.loop, NULL));
    CHECK_OK(net_socket_new(&x->env, &x->env.net));
    x->pool = buf_pool_new(&pool);
    x->env.stats = stats_new(NULL, "");
    CHECK_TRUE(x->pool != NULL && x->env.stats != NULL);
}
static void side_close(struct side *x)
{
    x->peer = peer_free(x->peer);
    for (unsigned i = 0; i < 20; i++) {
        loop_run_once(x->env.loop, 0);
    }
    x->pool = buf_pool_free(x->pool);
    x->env.net = net_free(x->env.net);
    x->env.stats = stats_free(x->env.stats);
    x->env.loop = loop_free(x->env.loop);
}

static void turn(struct side *x)
{
    loop_run_once(x->env.loop, SECOND / 1000);
}
static void turn_both(struct side *server, struct side *also)
{
    turn(server);
    if (also != NULL) {
        turn(also);
    }
}
/* Until `condition`; `also` NULL: the server alone has its turns. */
#define WAIT_FOR(t, also, condition)                                              \
    do {                                                                          \
        uint64_t wait_from = loop_now_ns((t)->server.env.loop);                   \
        while (!(condition)) {                                                    \
            CHECK_TRUE(loop_now_ns((t)->server.env.loop) - wait_from < LIMIT_NS); \
            turn_both(&(t)->server, (also));                                      \
        }                                                                         \
    } while (0)

/* ---- The metadata server ---- */

static void on_register(struct peer_user *u, struct peer_request *q)
{
    const struct proto_register_reply reply = {
        .target = 1, .lease_ms = 60000, .heartbeat_ms = 20, .map_epoch = 1};
    (void)u;
    peer_request_answer(q, &reply, NULL);
}
static void on_heartbeat(struct peer_user *u, struct peer_request *q)
{
    struct reuse *t = container_of(u, struct reuse, meta_user);
    const struct proto_heartbeat_request *m = q->body;
    struct proto_member member = {.target = 1, .state = PROTO_MEMBER_SERVING};
    struct proto_row row = {.chain = CHAIN, .epoch = 1, .members = {.at = &member, .count = 1}};
    const struct proto_heartbeat_reply reply = {
        .leased = true, .rows = {.at = &row, .count = 1}, .map_epoch = 1};
    t->known = m->chains.count > 0;
    peer_request_answer(q, &reply, NULL);
}
static void on_map(struct peer_user *u, struct peer_request *q)
{
    const struct proto_cluster_map_reply reply = {.epoch = 1};
    (void)u;
    peer_request_answer(q, &reply, NULL);
}
static void on_report(struct peer_user *u, struct peer_request *q)
{
    const struct proto_report_reply reply = {};
    (void)u;
    peer_request_answer(q, &reply, NULL);
}
static const struct peer_handler meta_handlers[] = {
    {.opcode = PROTO_OP_register, .request = on_register},
    {.opcode = PROTO_OP_heartbeat, .request = on_heartbeat},
    {.opcode = PROTO_OP_cluster_map, .request = on_map},
    {.opcode = PROTO_OP_report, .request = on_report},
};
static void meta_start(struct reuse *t, struct net_address *ret)
{
    const struct peer_server_options opt = {.env = &t->server.env,
                                            .user = &t->meta_user,
                                            .handlers = meta_handlers,
                                            .handler_count = ARRAY_COUNT(meta_handlers),
                                            .secrets = rig_secrets(),
                                            .cluster_id = cluster,
                                            .role = PROTO_ROLE_META,
                                            .name = "meta"};
    struct net_address at;
    t->meta_user.ops = &rig_nothing_ops;
    CHECK_OK(net_address_parse("127.0.0.1:0", 0, &at, NULL));
    CHECK_OK(peer_server_new(&opt, &t->meta));
    CHECK_OK(peer_server_listen(t->meta, &at, NULL));
    peer_server_address(t->meta, ret);
}

/* ---- The worker ---- */

static void worker_registered(struct datanode_worker_user *u, uint32_t target)
{
    (void)u;
    CHECK_EQ(target, 1);
}
static void worker_failed(struct datanode_worker_user *u, int rc, const char *reason)
{
    (void)u;
    CHECK_TEXT(reason, "");
    CHECK_OK(rc);
}
static void worker_stopped(struct datanode_worker_user *u, int rc)
{
    CHECK_OK(rc);
    container_of(u, struct reuse, worker_user)->stopped = true;
}
static const struct datanode_worker_user_ops worker_ops = {
    .registered = worker_registered, .failed = worker_failed, .stopped = worker_stopped};

static void worker_start(struct reuse *t, enum datanode_engine engine)
{
    struct net_address meta;
    meta_start(t, &meta);
    struct datanode_worker_options opt = {.env = &t->server.env,
                                          .user = &t->worker_user,
                                          .directory = testing_directory(),
                                          .engine = engine,
                                          .format = true,
                                          .cluster_id = cluster,
                                          .secrets = rig_secrets(),
                                          .meta = &meta,
                                          .meta_count = 1,
                                          .low_bytes = 1,
                                          .rest_ms = REST_MS,
                                          .blind = true,
                                          .scrub_ms = DATANODE_SCRUB_NEVER};
    struct err e = {0};
    t->worker_user.ops = &worker_ops;
    CHECK_OK(net_address_parse("127.0.0.1:0", 0, &opt.listen, NULL));
    CHECK_OK(datanode_worker_start(&opt, &t->worker, &e));
}

static void client_start(struct reuse *t, struct side *x, uint64_t session)
{
    struct net_address at;
    datanode_worker_address(t->worker, &at);
    const struct peer_options opt = {.env = &x->env,
                                     .user = &x->user,
                                     .secrets = rig_secrets(),
                                     .cluster_id = cluster,
                                     .role = PROTO_ROLE_CLIENT,
                                     .name = "client",
                                     .addresses = &at,
                                     .address_count = 1,
                                     .pool = x->pool,
                                     .session = session,
                                     .generation = 1};
    x->user.ops = &rig_nothing_ops;
    CHECK_OK(peer_new(&opt, &x->peer));
    peer_start(x->peer);
    WAIT_FOR(t, x, peer_link_of(x->peer, 0) != NULL);
}

static void reuse_open(struct reuse *t, enum datanode_engine engine)
{
    *t = (struct reuse){.known = false};
    side_open(&t->server);
    side_open(&t->writer);
    side_open(&t->reader);
    CHECK_OK(disk_pool_new(&t->server.env, &(struct disk_pool_options){.max_threads = 4},
                           &t->server.env.disk));
    worker_start(t, engine);
    WAIT_FOR(t, (struct side *)NULL, t->known);
    client_start(t, &t->writer, SESSION);
    client_start(t, &t->reader, SESSION + 1);
}
static void reuse_close(struct reuse *t)
{
    side_close(&t->reader);
    side_close(&t->writer);
    datanode_worker_stop(t->worker, 5000);
    WAIT_FOR(t, (struct side *)NULL, t->stopped);
    t->worker = datanode_worker_free(t->worker);
    t->meta = peer_server_free(t->meta);
    t->server.env.disk = disk_free(t->server.env.disk);
    side_close(&t->server);
}

/* ---- Requests ---- */

struct ask {
    struct peer_call call;
    bool done;
    int rc;
    struct proto_write_request write;
    struct proto_sync_request sync;
    struct proto_read_request read;
    struct proto_chunk chunk;
    uint8_t mac[CLUSTER_MAC_BYTES];
    uint32_t crc[CHUNK_CELLS_MAX];
    struct buf buf;
    uint8_t bytes[LARGE]; /* to be written; that came */
    size_t len;
    unsigned bad; /* cells that do not fit their checksums */
};
static void released(struct buf *b)
{
    (void)b;
}
static void take_data(struct ask *a, const struct proto_read_reply *m, const struct slice *data)
{
    a->len = base_min(data->len, sizeof a->bytes);
    memcpy(a->bytes, data->at, a->len);
    for (size_t i = 0; i * CHUNK_CELL < a->len; i++) {
        const uint8_t *cell = a->bytes + i * CHUNK_CELL;
        a->bad += i >= m->crcs.count || crc32c(0, cell, CHUNK_CELL) != m->crcs.at[i] ? 1 : 0;
    }
}
static void asked(struct peer_call *call, const struct peer_reply *r)
{
    struct ask *a = container_of(call, struct ask, call);
    a->done = true;
    a->rc = r->rc;
    if (r->rc == 0 && call->opcode == PROTO_OP_read) {
        take_data(a, r->body, &r->data);
    }
}
static struct ask *ask_new(void)
{
    struct ask *a = mem_zalloc(sizeof *a);
    CHECK_TRUE(a != NULL);
    a->call.done = asked;
    a->call.flags = PEER_CALL_AGAIN;
    return a;
}
static struct proto_capability capability(struct ask *a, uint64_t data_id, uint64_t session)
{
    struct cluster_secret secret;
    memset(secret.bytes, 5, sizeof secret.bytes);
    struct proto_capability c = {.data_id = data_id,
                                 .last_data_id = data_id,
                                 .session = session,
                                 .rights = PROTO_RIGHT_READ | PROTO_RIGHT_WRITE,
                                 .cap_epoch = 5,
                                 .expiry_wall_ms = UINT64_MAX / 2};
    CHECK_OK(cluster_capability_sign(&secret, &c, a->mac));
    return c;
}

static void fill(uint8_t *bytes, uint32_t length, uint64_t number)
{
    for (uint64_t i = 0; i < length; i++) {
        bytes[i] = (uint8_t)(number * 31 + i / CHUNK_CELL * 7 + i % 251);
    }
}
static void do_write(struct reuse *t, uint64_t data_id, uint32_t length, uint64_t number)
{
    struct ask *a = ask_new();
    uint32_t cells = chunk_cells(length);
    fill(a->bytes, length, number);
    for (uint32_t i = 0; i < cells; i++) {
        a->crc[i] = crc32c(0, a->bytes + (size_t)i * CHUNK_CELL, CHUNK_CELL);
    }
    a->write = (struct proto_write_request){.route = {.chain = CHAIN, .epoch = 1},
                                            .capability = capability(a, data_id, SESSION),
                                            .chunk = {.data_id = data_id},
                                            .client = SESSION,
                                            .seq = ++t->seq,
                                            .kind = PROTO_WRITE_AT,
                                            .length = length,
                                            .sync = true,
                                            .crcs = {.at = a->crc, .count = cells}};
    buf_wrap(&a->buf, a->bytes, length, released);
    a->call.wire.data[0] = (struct slice){.buf = &a->buf, .at = a->bytes, .len = length};
    a->call.wire.data_count = 1;
    a->call.opcode = PROTO_OP_write;
    a->call.request = &a->write;
    peer_call(t->writer.peer, &a->call);
    WAIT_FOR(t, &t->writer, a->done);
    CHECK_OK(a->rc);
    mem_free(a);
}

/* ---- Where the bytes are ---- */

struct place {
    uint64_t offset;
    uint32_t len;
    const struct disk_file *file;
};
#define PLACES_MAX 64u
static unsigned places(struct reuse *t, uint64_t data_id, struct place *ret)
{
    struct chunk_store *s = datanode_worker_store(t->worker);
    struct chunk_pin pin = {.key = {.data_id = data_id}, .length = LENGTH};
    struct chunk_piece piece[PLACES_MAX];
    unsigned count = 0, known = 0;
    CHECK_OK(chunk_store_pin(s, &pin));
    CHECK_EQ(chunk_pin_pieces(s, &pin, 0, piece, PLACES_MAX, &count), LENGTH);
    for (unsigned i = 0; i < count; i++) {
        if (piece[i].file != NULL) {
            ret[known++] = (struct place){
                .offset = piece[i].offset, .len = piece[i].len, .file = piece[i].file};
        }
    }
    chunk_store_unpin(s, &pin);
    return known;
}
static bool overlap(const struct place *a, unsigned a_count, const struct place *b,
                    unsigned b_count)
{
    bool any = false;
    for (unsigned i = 0; i < a_count; i++) {
        for (unsigned k = 0; k < b_count; k++) {
            any = any || (a[i].file == b[k].file && a[i].offset < b[k].offset + b[k].len &&
                          b[k].offset < a[i].offset + a[i].len);
        }
    }
    return any;
}
static bool nothing_rests(struct reuse *t)
{
    struct chunk_store_info info;
    chunk_store_info(datanode_worker_store(t->worker), &info);
    return info.resting_bytes == 0;
}

static struct ask *begin_read(struct reuse *t, uint64_t data_id)
{
    struct ask *a = ask_new();
    a->read = (struct proto_read_request){.route = {.chain = CHAIN, .epoch = 1},
                                          .capability = capability(a, data_id, SESSION + 1),
                                          .chunk = {.data_id = data_id},
                                          .length = LENGTH};
    a->call.opcode = PROTO_OP_read;
    a->call.request = &a->read;
    peer_call(t->reader.peer, &a->call);
    return a;
}
/* The answers are in the socket, and nobody has read them. */
static void answer_reads(struct reuse *t, uint64_t count)
{
    const struct stats_counter *answered = &t->worker->counters.way[DATANODE_WAY_CACHED].requests;
    uint64_t before = stats_counter_value(answered);
    for (unsigned i = 0; i < 50; i++) { /* they go out; the server stands still, and says nothing */
        turn(&t->reader);
    }
    WAIT_FOR(t, (struct side *)NULL,
             stats_counter_value(answered) == before + count && t->worker->read_count == 0);
}

struct victim {
    struct place was[PLACES_MAX];
    unsigned count;
    bool reused;
    struct ask *read;
};

/* Other files are written until each victim's old space has become one's. */
static void write_others(struct reuse *t, struct victim *v)
{
    uint64_t id = FIRST_DATA + VICTIMS;
    unsigned reused = 0;
    for (unsigned i = 0; i < LARGE_COUNT; i++) {
        do_write(t, id, LARGE, 1000 + id);
        id++;
    }
    for (unsigned i = 0; i < OTHERS_MAX && reused < VICTIMS; i++) {
        struct place now[PLACES_MAX];
        do_write(t, id, LENGTH, 1000 + id);
        unsigned count = places(t, id++, now);
        for (unsigned k = 0; k < VICTIMS; k++) {
            bool hit = !v[k].reused && overlap(v[k].was, v[k].count, now, count);
            v[k].reused = v[k].reused || hit;
            reused += hit ? 1 : 0;
        }
    }
    CHECK_EQ(reused, VICTIMS); /* else this is about nothing */
}

static void write_victims(struct reuse *t, struct victim *v)
{
    for (uint64_t i = 0; i < VICTIMS; i++) {
        do_write(t, FIRST_DATA + i, LENGTH, i);
        v[i].count = places(t, FIRST_DATA + i, v[i].was);
        CHECK_TRUE(v[i].count > 0);
        v[i].read = begin_read(t, FIRST_DATA + i);
    }
    answer_reads(t, VICTIMS);
    for (uint64_t i = 0; i < VICTIMS; i++) {
        do_write(t, FIRST_DATA + i, LENGTH, 500 + i);
    }
}

static void check_victims(struct reuse *t, struct victim *v)
{
    uint8_t old[LENGTH];
    for (uint64_t i = 0; i < VICTIMS; i++) {
        CHECK_TRUE(!v[i].read->done);
    }
    for (uint64_t i = 0; i < VICTIMS; i++) {
        struct ask *a = v[i].read;
        WAIT_FOR(t, &t->reader, a->done);
        CHECK_OK(a->rc);
        CHECK_EQ(a->len, LENGTH);
        fill(old, LENGTH, i);
        CHECK_EQ(a->bad, 0); /* allowed, but what was punched is nobody else's */
        CHECK_BYTES(a->bytes, old, LENGTH);
        mem_free(a);
    }
}

TEST(a_late_receiver_never_gets_what_another_file_has_written)
{
    struct reuse *t = mem_zalloc(sizeof *t);
    struct victim *v = mem_calloc(VICTIMS, sizeof *v);
    CHECK_TRUE(t != NULL && v != NULL);
    reuse_open(t, DATANODE_ENGINE_EXTENT);
    write_victims(t, v);
    WAIT_FOR(t, (struct side *)NULL, nothing_rests(t));
    write_others(t, v);
    check_victims(t, v);
    reuse_close(t);
    mem_free(v);
    mem_free(t);
}
