/*
 * A connection that gets any bytes in pieces of any size: it may close, with a reason, but what it
 * tells its user keeps the contract: requests are whole and answered once, calls are done once,
 * `closed` comes once, and in the end no buffer is out.
 *
 * Input: a byte of switches, then commands. A command is the raw bytes that follow, or a frame made
 * from a few numbers, whose checksums are right: a fuzzer cannot guess them.
 */
#include "net/conn.h"

#include "base/crc32c.h"
#include "base/env.h"
#include "base/mem.h"
#include "loop/sim.h"
#include "wire/frame.h"
#include "wire/wire.h"

#include <string.h>

#define STREAM_BYTES (256u << 10) /* of one input, at most */
#define HELD 16u
#define CALLS 4u
#define STEPS_MAX 20000u

enum { TRUSTED = 1, POOL = 2, TINY_POOL = 4, HOLD = 8, FREE_INSIDE = 16, SINGLE_BYTES = 32 };
enum { RAW, REQUEST, RESPONSE, PUSH, CANCEL, COMMANDS };

struct fuzz_call {
    struct net_conn_call call;
    struct fuzz *fuzz;
};
struct fuzz {
    struct stream stream;
    struct net net;
    struct stream_user *user;
    struct loop_timer more;
    struct net_conn_user net_conn_user;
    struct env env;
    struct buf_pool *pool;
    struct net_conn *conn;
    uint8_t *bytes;
    size_t len, at, piece, answered_bytes;
    unsigned switches, closed, requests;
    struct net_conn_request *held[HELD];
    unsigned held_count;
    struct fuzz_call call[CALLS];
    unsigned calls_done;
    bool stream_closed;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* --- A stream over the input ------------------------------------------------------------------ */

static struct fuzz *fuzz_of(struct stream *s)
{
    return container_of(s, struct fuzz, stream);
}
static void fuzz_attach(struct stream *s, struct stream_user *u)
{
    struct fuzz *f = fuzz_of(s);
    f->user = u;
    loop_timer_in(f->env.loop, &f->more, 0);
}
/* Another piece has arrived: until it is read, there is no more. */
static void fuzz_more(struct loop_timer *t)
{
    struct fuzz *f = container_of(t, struct fuzz, more);
    f->piece = (f->switches & SINGLE_BYTES) != 0 ? 1 : 1 + (f->at * 7919 + f->len) % 6000;
    f->user->ready(f->user, STREAM_READABLE | STREAM_WRITABLE);
}
static int64_t fuzz_read(struct stream *s, const struct iovec *iov, unsigned count)
{
    struct fuzz *f = fuzz_of(s);
    size_t sum = 0;
    for (unsigned i = 0; i < count; i++) {
        size_t n = base_min(base_min(iov[i].iov_len, f->len - f->at), f->piece);
        memcpy(iov[i].iov_base, f->bytes + f->at, n);
        f->at += n;
        f->piece -= n;
        sum += n;
    }
    if (f->piece == 0 && !loop_timer_active(&f->more)) {
        loop_timer_in(f->env.loop, &f->more, 1000);
    }
    return sum > 0 ? (int64_t)sum : f->at == f->len ? 0 : -EAGAIN;
}
static int64_t fuzz_write(struct stream *s, const struct iovec *iov, unsigned count, bool more)
{
    struct fuzz *f = fuzz_of(s);
    size_t sum = 0;
    (void)more;
    for (unsigned i = 0; i < count; i++) {
        sum += iov[i].iov_len;
    }
    f->answered_bytes += sum;
    return (int64_t)sum;
}
static int64_t fuzz_send_file(struct stream *s, struct disk_file *file, uint64_t offset,
                              uint64_t len, bool more)
{
    (void)s, (void)file, (void)offset, (void)len, (void)more;
    return -EOPNOTSUPP;
}
static struct disk_sink *fuzz_sink(struct stream *s)
{
    (void)s;
    return NULL;
}
static void fuzz_peer(const struct stream *s, char *out, size_t size)
{
    (void)s;
    memset(out, 0, size);
}
static bool fuzz_within_host(const struct stream *s)
{
    (void)s;
    return false;
}
static struct stream *fuzz_close(struct stream *s)
{
    struct fuzz *f = fuzz_of(s);
    CHECK(!f->stream_closed);
    f->stream_closed = true;
    loop_timer_cancel(f->env.loop, &f->more);
    return NULL;
}
static const struct stream_ops fuzz_ops = {.attach = fuzz_attach,
                                           .read = fuzz_read,
                                           .write = fuzz_write,
                                           .send_file = fuzz_send_file,
                                           .sink = fuzz_sink,
                                           .peer = fuzz_peer,
                                           .within_host = fuzz_within_host,
                                           .close = fuzz_close};

/* --- The user of the connection --------------------------------------------------------------- */

static void answer(struct net_conn_request *r)
{
    struct net_conn_response resp = {.body = r->body, .body_len = r->body_len, .data[0] = r->data};
    resp.data_count = r->data.len > 0;
    net_conn_respond(r, &resp);
}
static void answer_all(struct fuzz *f)
{
    for (; f->held_count > 0; f->held_count--) {
        answer(f->held[f->held_count - 1]);
    }
}
/* Reads all of what was lent, so that a sanitizer sees what is not there. */
static uint32_t touch(const uint8_t *at, size_t len)
{
    return len == 0 ? 0 : crc32c(0, at, len);
}
static void fuzz_request(struct net_conn_user *u, struct net_conn_request *r)
{
    struct fuzz *f = container_of(u, struct fuzz, net_conn_user);
    f->requests++;
    CHECK(r->body_len <= ((f->switches & TRUSTED) != 0 ? FRAME_BODY_MAX : 4096));
    CHECK(r->data.len == 0 || f->pool != NULL);
    (void)touch(r->body, r->body_len);
    (void)touch(r->data.at, r->data.len);
    if ((f->switches & HOLD) != 0 && f->held_count < HELD) {
        f->held[f->held_count++] = r;
        return;
    }
    answer_all(f);
    answer(r);
    if ((f->switches & FREE_INSIDE) != 0 && f->requests == 3) {
        f->conn = net_conn_free(f->conn);
    }
}
static void fuzz_push(struct net_conn_user *u, struct net_conn *c, uint16_t opcode,
                      const uint8_t *body, size_t len)
{
    struct fuzz *f = container_of(u, struct fuzz, net_conn_user);
    CHECK(c == f->conn && opcode != CONN_OPCODE_KEEPALIVE);
    (void)touch(body, len);
}
static void fuzz_closed(struct net_conn_user *u, struct net_conn *c, int rc, const char *reason)
{
    struct fuzz *f = container_of(u, struct fuzz, net_conn_user);
    CHECK(c == f->conn && rc < 0 && reason[0] != '\0');
    f->closed++;
}
static const struct net_conn_user_ops user_ops = {
    .request = fuzz_request, .push = fuzz_push, .closed = fuzz_closed};

static void call_done(struct net_conn_call *c, const struct net_conn_reply *r)
{
    struct fuzz *f = container_of(c, struct fuzz_call, call)->fuzz;
    f->calls_done++;
    CHECK(r->rc <= 0 && (r->answered || r->rc < 0));
    (void)touch(r->body, r->body_len);
    (void)touch(r->data.at, r->data.len);
}

/* --- The input -------------------------------------------------------------------------------- */

static void append(struct fuzz *f, const void *bytes, size_t len)
{
    size_t n = base_min(len, STREAM_BYTES - f->len);
    if (n > 0 && bytes != NULL) {
        memcpy(f->bytes + f->len, bytes, n);
    } else if (n > 0) {
        memset(f->bytes + f->len, 0xa5, n);
    }
    f->len += n;
}
static void append_frame(struct fuzz *f, unsigned kind, struct wire_reader *r)
{
    static const uint8_t kinds[] = {0, FRAME_REQUEST, FRAME_RESPONSE, FRAME_PUSH, FRAME_CANCEL};
    uint8_t header[FRAME_BYTES];
    uint16_t id = wire_read_u16(r), body_len = wire_read_u16(r), data_len = wire_read_u16(r);
    struct wire_frame w = {.kind = kinds[kind], .opcode = id % 5, .id = id};
    w.body_len = kind == CANCEL ? 0 : body_len;
    w.data_len = kind == CANCEL || kind == PUSH ? 0 : data_len;
    w.status = kind == RESPONSE ? -(int32_t)(id % 3) : 0;
    w.deadline_ms = id % 7;
    size_t at = f->len + FRAME_BYTES;
    if (at + w.body_len > STREAM_BYTES) {
        return;
    }
    memset(f->bytes + at, 0x5a, w.body_len);
    w.body_crc = w.body_len == 0 ? 0 : crc32c(0, f->bytes + at, w.body_len);
    wire_frame_encode(&w, header);
    append(f, header, sizeof header);
    f->len += w.body_len;
    append(f, NULL, w.data_len);
}
static void build(struct fuzz *f, struct wire_reader *r)
{
    while (r->left > 0 && !r->bad && f->len < STREAM_BYTES) {
        unsigned command = wire_read_u8(r) % COMMANDS;
        if (command == RAW) {
            size_t n = base_min(wire_read_u8(r), r->left);
            append(f, wire_read_bytes(r, n), n);
        } else {
            append_frame(f, command, r);
        }
    }
}

/* --- One run ---------------------------------------------------------------------------------- */

static void fuzz_begin(void *ctx)
{
    struct fuzz *f = ctx;
    const struct buf_pool_options pool = {
        .limit_bytes = (f->switches & TINY_POOL) != 0 ? 128u << 10 : 4u << 20,
        .max_size = (f->switches & TINY_POOL) != 0 ? 64u << 10 : 4u << 20};
    f->pool = (f->switches & POOL) != 0 ? buf_pool_new(&pool) : NULL;
    const struct net_conn_options opt = {
        .env = &f->env, .user = &f->net_conn_user, .pool = f->pool, .max_requests = HELD + 1};
    int rc = net_conn_new(&opt, &f->stream, &f->conn);
    CHECK(rc == 0);
    if ((f->switches & TRUSTED) != 0) {
        net_conn_trust(f->conn);
    }
    for (unsigned i = 0; i < CALLS; i++) {
        f->call[i] =
            (struct fuzz_call){.call = {.done = call_done, .body = "x", .body_len = 1}, .fuzz = f};
        net_conn_call(f->conn, &f->call[i].call);
    }
}
static void fuzz_end(void *ctx)
{
    struct fuzz *f = ctx;
    f->conn = net_conn_free(f->conn);
    answer_all(f);
}
static void fuzz_pool_end(void *ctx)
{
    struct fuzz *f = ctx;
    if (f->pool != NULL) {
        CHECK(buf_pool_used_bytes(f->pool) == 0);
        f->pool = buf_pool_free(f->pool);
    }
}
static void steps(struct loop_sim *sim, const struct fuzz *f)
{
    for (unsigned i = 0; i < STEPS_MAX && f->closed == 0 && loop_sim_step(sim); i++) {
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_reader r = wire_reader_over(data, size);
    struct loop_sim *sim = loop_sim_new(1);
    struct fuzz *f = mem_zalloc(sizeof *f);
    CHECK(sim != NULL && f != NULL);
    f->switches = wire_read_u8(&r);
    f->bytes = mem_alloc(STREAM_BYTES);
    CHECK(f->bytes != NULL);
    build(f, &r);
    int rc = loop_sim_process(sim, "fuzz", 0, &f->env.loop);
    CHECK(rc == 0);
    f->net.loop = f->env.loop;
    f->stream = (struct stream){.ops = &fuzz_ops, .net = &f->net};
    f->more.fire = fuzz_more;
    f->net_conn_user.ops = &user_ops;
    loop_sim_enter(f->env.loop, fuzz_begin, f);
    steps(sim, f);
    loop_sim_enter(f->env.loop, fuzz_end, f);
    CHECK(f->stream_closed && f->calls_done == CALLS && f->closed <= 1);
    loop_sim_enter(f->env.loop, fuzz_pool_end, f);
    loop_sim_free(sim);
    mem_free(f->bytes);
    mem_free(f);
    return 0;
}
