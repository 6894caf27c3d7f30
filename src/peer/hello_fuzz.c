/*
 * What strangers and members may send to a server. The first byte chooses: bytes as they are, or
 * frames with good checksums and any opcode and body, or requests and pushes with any body on a
 * link that was let in. The server must neither crash nor leak, and still serve its other client.
 */
#include "peer/rig_sim_priv.h"

#include "base/crc32c.h"
#include "wire/frame.h"

#define FUZZ_CALLS 16u
#define FUZZ_OUT_BYTES 65536u

struct fuzz {
    struct rig_world w;
    const uint8_t *at;
    size_t left;
    struct net_connect connect;
    struct stream_user events;
    struct stream *stream;
    uint8_t out[FUZZ_OUT_BYTES];
    size_t out_len, out_at;
    struct net_conn_call call[FUZZ_CALLS];
};

static void fuzz_ready(struct stream_user *u, unsigned events)
{
    struct fuzz *z = container_of(u, struct fuzz, events);
    (void)events;
    int64_t n = 1;
    while (n > 0 && z->out_at < z->out_len) {
        struct iovec v = {.iov_base = z->out + z->out_at, .iov_len = z->out_len - z->out_at};
        n = stream_write(z->stream, &v, 1, false);
        z->out_at += n > 0 ? (size_t)n : 0;
    }
    do {
        uint8_t in[1024];
        struct iovec v = {.iov_base = in, .iov_len = sizeof in};
        n = stream_read(z->stream, &v, 1);
    } while (n > 0);
    if (n != -EAGAIN) {
        z->stream = stream_close(z->stream);
    }
}
static void fuzz_connected(struct net_connect *c, int rc, struct stream *s)
{
    struct fuzz *z = container_of(c, struct fuzz, connect);
    CHECK(rc == 0);
    z->stream = s;
    z->events.ready = fuzz_ready;
    stream_attach(s, &z->events);
}
static void fuzz_connect(void *ctx)
{
    struct fuzz *z = ctx;
    z->connect.done = fuzz_connected;
    z->connect.to = z->w.server[0].at;
    net_connect(z->w.client.env.net, &z->connect);
}
static void fuzz_hang_up(void *ctx)
{
    struct fuzz *z = ctx;
    z->stream = stream_close(z->stream);
}

static uint8_t take(struct fuzz *z)
{
    if (z->left == 0) {
        return 0;
    }
    z->left--;
    return *z->at++;
}
/* The next piece of the input: its length comes first. */
static struct proto_bytes take_body(struct fuzz *z)
{
    size_t len = (size_t)take(z) * 4;
    len = base_min(len, z->left);
    struct proto_bytes b = proto_bytes_of(z->at, len);
    z->at += len;
    z->left -= len;
    return b;
}

static void fuzz_make_frames(struct fuzz *z)
{
    while (z->left > 0 && z->out_len + FRAME_BYTES + 1024 < sizeof z->out) {
        struct wire_frame f = {.kind = (uint8_t)(take(z) % 4 + 1)};
        f.opcode = (uint16_t)(take(z) % 8);
        f.id = take(z);
        struct proto_bytes b = take_body(z);
        f.body_len = f.kind == FRAME_CANCEL ? 0 : (uint32_t)b.len;
        f.body_crc = crc32c(0, b.at, f.body_len);
        wire_frame_encode(&f, z->out + z->out_len);
        memcpy(z->out + z->out_len + FRAME_BYTES, b.at, f.body_len);
        z->out_len += FRAME_BYTES + f.body_len;
    }
}
static void fuzz_stranger(struct fuzz *z, bool frames)
{
    if (frames) {
        fuzz_make_frames(z);
    } else {
        z->out_len = base_min(z->left, sizeof z->out);
        memcpy(z->out, z->at, z->out_len);
    }
    rig_on(z->w.client_loop, fuzz_connect, z);
    rig_run(&z->w, SECOND / 100);
    rig_on(z->w.client_loop, fuzz_hang_up, z);
    CHECK(z->w.server[0].ups == 1 && z->w.client.downs == 0);
}

static void fuzz_call_done(struct net_conn_call *c, const struct net_conn_reply *r)
{
    (void)c;
    (void)r;
}
static uint16_t take_opcode(struct fuzz *z)
{
    uint8_t n = take(z);
    return n < ARRAY_COUNT(rig_server_handlers) * 40 ? rig_server_handlers[n / 40].opcode : n;
}
static void fuzz_member_enter(void *ctx)
{
    struct fuzz *z = ctx;
    struct net_conn *c = peer_link_of(z->w.client.peer, 0)->conn;
    for (unsigned i = 0; i < FUZZ_CALLS && z->left > 0; i++) {
        struct net_conn_call *call = &z->call[i];
        call->opcode = take_opcode(z);
        struct proto_bytes b = take_body(z);
        call->body = b.at;
        call->body_len = b.len;
        call->timeout_ms = 50;
        call->done = fuzz_call_done;
        if (call->opcode == PROTO_OP_forward_trailer) {
            int rc = net_conn_push(c, call->opcode, 0, b.at, b.len);
            CHECK(rc <= 0);
        } else {
            net_conn_call(c, call);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz *z = mem_zalloc(sizeof *z);
    CHECK(z != NULL);
    z->at = data;
    z->left = size;
    uint8_t way = take(z) % 4;
    z->w.client.opt.role = way == 3 ? PROTO_ROLE_TARGET : PROTO_ROLE_CLIENT;
    rig_open(&z->w, 1, 1);
    rig_start(&z->w);
    rig_until(&z->w, rig_is_up, &z->w);
    if (way >= 2) {
        rig_on(z->w.client_loop, fuzz_member_enter, z);
        rig_run(&z->w, SECOND / 10);
    } else {
        fuzz_stranger(z, way == 1);
    }
    struct rig_call after = {.call = {.timeout_ms = 20000, .flags = PEER_CALL_AGAIN}};
    rig_begin_ping(&z->w, &after, 1);
    rig_until(&z->w, rig_call_is_done, &after);
    CHECK(after.rc == 0 && after.good);
    rig_close(&z->w);
    mem_free(z);
    return 0;
}
