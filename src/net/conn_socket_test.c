#include "net/conn.h"

#include "net/conn_rig_priv.h"
#include "net/conn_storm_priv.h"
#include "net/net_priv.h"
#include "testing/testing.h"

#include <fcntl.h>
#include <stdlib.h>

#define SECOND UINT64_C(1000000000)

/* Both ends in one loop, over real sockets. */
struct socket_rig {
    struct loop *loop;
    struct net *net;
    struct disk *disk;
    struct rig_end client, server;
    struct net_listener *listener;
    struct net_listener_user accept;
    struct net_connect connect;
    int rc;
    bool bare; /* the client is a stream only */
    struct stream *raw;
};

static void rig_accepted(struct net_listener_user *u, struct stream *s)
{
    struct socket_rig *r = container_of(u, struct socket_rig, accept);
    rig_end_start(&r->server, s);
}
static void rig_connected(struct net_connect *c, int rc, struct stream *s)
{
    struct socket_rig *r = container_of(c, struct socket_rig, connect);
    r->rc = rc;
    if (rc == 0 && r->bare) {
        r->raw = s;
    } else if (rc == 0) {
        rig_end_start(&r->client, s);
    }
}
static bool run_until(struct loop *l, bool (*done)(void *ctx), void *ctx)
{
    uint64_t limit = loop_now_ns(l) + 60 * SECOND;
    while (!done(ctx) && loop_now_ns(l) < limit) {
        loop_run_once(l, SECOND);
    }
    return done(ctx);
}
static bool rig_is_up(void *ctx)
{
    struct socket_rig *r = ctx;
    bool client = r->client.conn != NULL || r->raw != NULL;
    return r->rc < 0 || (client && r->server.conn != NULL);
}

static void rig_loop(struct socket_rig *r)
{
    const struct loop_options opt = {.name = "test"};
    CHECK_OK(loop_new(&opt, &r->loop, NULL));
    r->client.env.loop = r->server.env.loop = r->loop;
    CHECK_OK(net_socket_new(&r->client.env, &r->net));
    CHECK_OK(disk_pool_new(&r->client.env, &(const struct disk_pool_options){0}, &r->disk));
    r->client.env.disk = r->server.env.disk = r->disk;
    r->client.env.net = r->server.env.net = r->net;
    rand_seed(&r->client.rand, testing_seed());
    rand_seed(&r->server.rand, testing_seed() + 1);
    r->accept.accepted = rig_accepted;
    r->connect.done = rig_connected;
}
static void rig_start(struct socket_rig *r, const char *at)
{
    struct net_address a;
    rig_loop(r);
    CHECK_OK(net_address_parse(at, 0, &a, NULL));
    CHECK_OK(net_listen(r->net, &a, &r->accept, &r->listener));
    net_listener_address(r->net, r->listener, &r->connect.to);
    net_connect(r->net, &r->connect);
    CHECK_TRUE(run_until(r->loop, rig_is_up, r));
    CHECK_OK(r->rc);
}
static void rig_start_pair(struct socket_rig *r)
{
    struct stream *a = NULL, *b = NULL;
    int fd = -1;
    rig_loop(r);
    CHECK_OK(net_pair(r->net, &a, &fd));
    CHECK_OK(net_adopt(r->net, fd, &b));
    rig_end_start(&r->client, a);
    rig_end_start(&r->server, b);
}
static void rig_stop(struct socket_rig *r)
{
    rig_end_stop(&r->client);
    rig_end_stop(&r->server);
    for (unsigned i = 0; i < 10; i++) {
        loop_run_once(r->loop, 1000000); /* what has been deferred */
    }
    rig_end_stop(&r->client);
    rig_end_stop(&r->server);
    CHECK_TRUE(r->client.pool == NULL && r->server.pool == NULL);
    CHECK_EQ(r->server.pins, 0);
    r->listener = net_listener_close(r->net, r->listener);
    disk_free(r->disk);
    net_free(r->net);
    loop_free(r->loop);
}

/* How many calls were answered. */
static unsigned storm_over_sockets(struct socket_rig *r)
{
    struct storm *s = mem_zalloc(sizeof *s);
    CHECK(s != NULL);
    s->client = &r->client;
    s->limit = 3000;
    storm_begin(s);
    CHECK_TRUE(run_until(r->loop, storm_over, s));
    CHECK_EQ(s->done, s->started);
    CHECK_EQ(s->started, s->limit);
    CHECK_EQ(r->client.closed + r->server.closed, 0);
    storm_end(s);
    rig_stop(r);
    unsigned good = s->good;
    mem_free(s);
    return good;
}

TEST(conn_survives_a_storm_over_tcp)
{
    struct socket_rig r = {.rc = 0};
    rig_start(&r, "127.0.0.1:0");
    CHECK_TRUE(net_conn_within_host(r.client.conn) && net_conn_within_host(r.server.conn));
    CHECK_TRUE(storm_over_sockets(&r) > 1000);
}

TEST(conn_survives_a_storm_over_a_unix_socket)
{
    struct socket_rig r = {.rc = 0};
    char path[NET_ADDRESS_SIZE];
    (void)snprintf(path, sizeof path, "unix:%.80s/s", testing_directory());
    rig_start(&r, path);
    CHECK_TRUE(storm_over_sockets(&r) > 1000);
}

TEST(conn_survives_a_storm_over_a_pair)
{
    struct socket_rig r = {.rc = 0};
    rig_start_pair(&r);
    CHECK_TRUE(storm_over_sockets(&r) > 1000);
}

/* --- Files, and how little is copied -------------------------------------------------------------
 */

struct file_call {
    struct net_conn_call call;
    unsigned done;
    int rc;
    bool same, zeros;
    size_t len;
    uint64_t offset;
};
static void file_call_done(struct net_conn_call *c, const struct net_conn_reply *reply)
{
    struct file_call *f = container_of(c, struct file_call, call);
    f->done++;
    f->rc = reply->rc;
    f->len = reply->data.len;
    f->same = f->zeros = true;
    for (size_t i = 0; i < reply->data.len && (f->same || f->zeros); i++) {
        f->same = f->same && reply->data.at[i] == rig_byte(77, f->offset + i);
        f->zeros = f->zeros && reply->data.at[i] == 0;
    }
}
static bool file_call_is_done(void *ctx)
{
    return ((struct file_call *)ctx)->done > 0;
}
static bool file_is_let_go(void *ctx)
{
    return ((struct socket_rig *)ctx)->server.pins == 0;
}

#define FILE_BYTES (6u << 20)
static void make_file(struct socket_rig *r, char *path, size_t size)
{
    uint8_t *bytes = mem_alloc(FILE_BYTES);
    CHECK(bytes != NULL);
    rig_fill(bytes, 77, FILE_BYTES);
    (void)snprintf(path, size, "%s/data", testing_directory());
    CHECK_OK(disk_store(r->disk, path, bytes, FILE_BYTES));
    struct disk_req open = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE};
    CHECK_OK((int)disk_now(r->disk, &open));
    r->server.range.file = open.file;
    mem_free(bytes);
}
/* Out of the page cache, where the file system can: then the disk's threads send it. */
static void make_cold(struct socket_rig *r)
{
    CHECK_EQ(posix_fadvise(disk_file_fd(r->server.range.file), 0, 0, POSIX_FADV_DONTNEED), 0);
}
static void close_file(struct socket_rig *r)
{
    struct disk_req close = {.op = DISK_CLOSE, .file = r->server.range.file};
    CHECK_OK((int)disk_now(r->disk, &close));
}
static void call_for_file(struct socket_rig *r, uint64_t offset, uint64_t len, struct file_call *f)
{
    *f = (struct file_call){
        .call = {.done = file_call_done, .opcode = RIG_FILE, .body = "x", .body_len = 1},
        .offset = offset};
    r->server.range.offset = offset;
    r->server.range.len = len;
    net_conn_call(r->client.conn, &f->call);
    CHECK_TRUE(run_until(r->loop, file_call_is_done, f));
    CHECK_TRUE(run_until(r->loop, file_is_let_go, r));
}

TEST(conn_sends_ranges_of_files)
{
    struct socket_rig r = {.rc = 0};
    char path[200];
    rig_start(&r, "127.0.0.1:0");
    make_file(&r, path, sizeof path);
    const size_t sizes[] = {1, 4096, 5000, 32768, 32769, 200000, 4u << 20};
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        struct file_call f;
        call_for_file(&r, i * 1000, sizes[i], &f);
        CHECK_OK(f.rc);
        CHECK_EQ(f.len, sizes[i]);
        CHECK_TRUE(f.same);
    }
    CHECK_TRUE(r.server.conn->counters.files_cached.value > 0);
    close_file(&r);
    rig_stop(&r);
}

/* Longer than the buffers of the socket: it goes in short pieces, by the disk and by the loop. */
TEST(conn_sends_ranges_that_are_not_cached)
{
    struct socket_rig r = {.rc = 0};
    char path[200];
    rig_start(&r, "127.0.0.1:0");
    make_file(&r, path, sizeof path);
    for (uint64_t i = 0; i < 5; i++) {
        struct file_call f;
        make_cold(&r);
        call_for_file(&r, i * 1000, 4u << 20, &f);
        CHECK_OK(f.rc);
        CHECK_TRUE(f.len == 4u << 20 && f.same);
    }
    struct conn_counters *n = &r.server.conn->counters;
    CHECK_EQ(n->files_cached.value + n->files_cold.value, 5);
    close_file(&r);
    rig_stop(&r);
}

/* What its owner has seen in the page cache in this round is not looked at once more; what it has
 * seen in an older one is. */
TEST(conn_believes_what_was_just_seen)
{
    struct socket_rig r = {.rc = 0};
    struct file_call f;
    char path[200];
    rig_start(&r, "127.0.0.1:0");
    make_file(&r, path, sizeof path);
    struct conn_counters *n = &r.server.conn->counters;
    make_cold(&r);
    bool cold = !disk_resident(r.disk, r.server.range.file, 0, 200000);
    r.server.sees = true;
    call_for_file(&r, 0, 200000, &f);
    CHECK_TRUE(f.len == 200000 && f.same);
    CHECK_EQ(n->files_cached.value, 1);
    CHECK_EQ(n->files_cold.value, 0);
    make_cold(&r);
    r.server.sees = false; /* and what it saw is old now */
    call_for_file(&r, 0, 200000, &f);
    CHECK_TRUE(f.len == 200000 && f.same);
    CHECK_EQ(n->files_cold.value, cold ? 1 : 0);
    close_file(&r);
    rig_stop(&r);
}

TEST(conn_sends_holes)
{
    struct socket_rig r = {.rc = 0};
    struct file_call f;
    rig_start(&r, "127.0.0.1:0");
    const size_t sizes[] = {1, 65536, 65537, 4u << 20};
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        call_for_file(&r, 0, sizes[i], &f); /* of no file */
        CHECK_OK(f.rc);
        CHECK_TRUE(f.len == sizes[i] && f.zeros);
    }
    rig_stop(&r);
}

static bool server_is_rid(void *ctx)
{
    struct socket_rig *r = ctx;
    return r->server.closed == 1 && r->server.pins == 0;
}
static void ignore_ready(struct stream_user *u, unsigned events)
{
    (void)u, (void)events;
}
static void raw_ask(struct socket_rig *r)
{
    uint8_t frame[FRAME_BYTES];
    const struct wire_frame ask = {.kind = FRAME_REQUEST, .opcode = RIG_FILE, .id = 1};
    wire_frame_encode(&ask, frame);
    const struct iovec out = {.iov_base = frame, .iov_len = sizeof frame};
    CHECK_EQ(stream_write(r->raw, &out, 1, false), FRAME_BYTES);
}
static void raw_read(struct socket_rig *r, size_t len)
{
    static uint8_t bytes[65536];
    for (size_t got = 0; got < len;) {
        const struct iovec in = {.iov_base = bytes, .iov_len = base_min(len - got, sizeof bytes)};
        int64_t n = stream_read(r->raw, &in, 1);
        CHECK_TRUE(n > 0 || n == -EAGAIN);
        got += n > 0 ? (size_t)n : 0;
        loop_run_once(r->loop, 1000000);
    }
}
/* A peer that asks for a file, reads `take` bytes of it and is gone. */
static void check_leaver(const char *at, bool cold, size_t take)
{
    struct socket_rig r = {.bare = true};
    struct stream_user nobody = {.ready = ignore_ready};
    char path[200];
    rig_start(&r, at);
    stream_attach(r.raw, &nobody);
    make_file(&r, path, sizeof path);
    r.server.range.len = 4u << 20;
    if (cold) {
        make_cold(&r);
    }
    raw_ask(&r);
    raw_read(&r, take);
    r.raw = stream_close(r.raw);
    CHECK_TRUE(run_until(r.loop, server_is_rid, &r));
    CHECK_TRUE(r.server.closed_rc == -EPIPE || r.server.closed_rc == -ECONNRESET ||
               r.server.closed_rc == -ERR_closed);
    close_file(&r);
    rig_stop(&r);
}

TEST(conn_stands_a_peer_that_leaves_amid_a_file)
{
    char path[NET_ADDRESS_SIZE];
    const size_t takes[] = {0, 1, 40, 5000, 1u << 20};
    for (size_t i = 0; i < 2 * ARRAY_COUNT(takes); i++) {
        (void)snprintf(path, sizeof path, "unix:%.80s/s", testing_directory());
        check_leaver("127.0.0.1:0", i % 2 == 0, takes[i / 2]);
        check_leaver(path, i % 2 == 0, takes[i / 2]);
    }
}

TEST(conn_ends_when_a_file_is_shorter_than_announced)
{
    const size_t sizes[] = {4096, 4u << 20};
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        struct socket_rig r = {.rc = 0};
        char path[200];
        rig_start(&r, "127.0.0.1:0");
        make_file(&r, path, sizeof path);
        struct file_call f;
        call_for_file(&r, FILE_BYTES - 100, sizes[i], &f);
        CHECK_RC(f.rc, ERR_closed);
        CHECK_EQ(r.server.closed, 1);
        CHECK_RC(r.server.closed_rc, EIO);
        close_file(&r);
        rig_stop(&r);
    }
}

struct data_call {
    struct net_conn_call call;
    uint8_t *data;
    unsigned left;
    struct net_conn *conn;
};
static void data_call_done(struct net_conn_call *c, const struct net_conn_reply *reply)
{
    struct data_call *d = container_of(c, struct data_call, call);
    CHECK_OK(reply->rc);
    CHECK_TRUE(rig_same(reply->data.at, 3, reply->data.len));
    d->left--;
    if (d->left > 0) {
        net_conn_call(d->conn, &d->call);
    }
}
static bool data_calls_done(void *ctx)
{
    return ((struct data_call *)ctx)->left == 0;
}

TEST(conn_does_not_copy_data)
{
    struct socket_rig r = {.rc = 0};
    rig_start(&r, "127.0.0.1:0");
    const size_t len = 1u << 20;
    const unsigned count = 60;
    struct data_call d = {.call = {.done = data_call_done, .opcode = RIG_ECHO, .body = "cells"},
                          .left = count,
                          .conn = r.client.conn};
    d.data = mem_alloc(len);
    CHECK(d.data != NULL);
    rig_fill(d.data, 3, len);
    d.call.body_len = 5;
    d.call.data[0] = (struct slice){.at = d.data, .len = len};
    d.call.data_count = 1;
    net_conn_call(r.client.conn, &d.call);
    CHECK_TRUE(run_until(r.loop, data_calls_done, &d));
    /* 60 MiB each way: only what came with the very first header was copied. */
    CHECK_TRUE(buf_pool_copied_bytes(r.server.pool) <= 64u << 10);
    CHECK_TRUE(buf_pool_copied_bytes(r.client.pool) <= 64u << 10);
    mem_free(d.data);
    rig_stop(&r);
}
