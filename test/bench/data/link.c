/* bench/data/link.c -- directory, hello, map of the cluster; see link.h. */
#include "link.h"

#include "base/crc32c.h"
#include "base/env.h"
#include "base/mem.h"
#include "client/directory.h"
#include "disk/disk.h"
#include "flow.h"
#include "loop/loop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/random.h>
#include <sys/socket.h>

#define LINK_SMALL ((size_t)8 << 10)
#define LINK_LARGE ((size_t)FRAME_BODY_MAX + FRAME_BYTES)
#define LINK_DEADLINE_MS 30000u
#define LINK_ARENA ((size_t)16 << 20)
#define LINK_DAY_MS UINT64_C(86400000)

static void link_good(int rc, const char *what)
{
    if (rc < 0) {
        data_die(what, err_text(rc));
    }
}

/* --- Frames ----------------------------------------------------------------------------------- */

uint8_t *link_frame(struct wire_writer *out, const struct wire_frame *f,
                    const struct proto_type *type, const void *record)
{
    struct wire_frame frame = *f;
    uint8_t *head = wire_write_room(out, FRAME_BYTES);
    size_t from = out->len;
    link_good(proto_encode(type, record, out), "request");
    CHECK(head != NULL);
    frame.kind = FRAME_REQUEST;
    frame.deadline_ms = LINK_DEADLINE_MS;
    frame.body_len = (uint32_t)(out->len - from);
    frame.body_crc = frame.body_len == 0 ? 0 : crc32c(0, out->at + from, frame.body_len);
    wire_frame_encode(&frame, head);
    return wire_write_room(out, f->data_len);
}

void link_check(const struct wire_frame *f, const uint8_t *body)
{
    struct proto_failure failure = {0};
    struct mem_arena arena;
    char text[256] = "";
    if (f->status == 0) {
        return;
    }
    mem_arena_init(&arena, LINK_SMALL);
    if (PROTO_DECODE(proto_failure, body, f->body_len, &arena, &failure) == 0) {
        (void)proto_bytes_to_c(failure.text, text, sizeof text);
    }
    data_die(text[0] == '\0' ? "the server refuses" : text, err_text(f->status));
}

static void link_exactly(int fd, uint8_t *to, size_t len)
{
    ssize_t n = len == 0 ? 0 : recv(fd, to, len, MSG_WAITALL); /* of nothing it would wait */
    if (n != (ssize_t)len) {
        data_die("receive", n < 0 ? strerror(errno) : "the server has closed the connection");
    }
}

/* One request, one answer; the body of it, of at most LINK_LARGE bytes, goes to `body`. */
static size_t link_call(int fd, uint16_t opcode, const struct proto_type *type, const void *record,
                        uint8_t *body)
{
    uint8_t out[LINK_SMALL], head[FRAME_BYTES];
    struct wire_writer w = wire_writer_over(out, sizeof out);
    struct wire_frame f = {.opcode = opcode, .id = 1};
    (void)link_frame(&w, &f, type, record);
    CHECK(!w.bad);
    if (send(fd, out, w.len, MSG_NOSIGNAL) != (ssize_t)w.len) {
        data_die("send", strerror(errno));
    }
    do {
        link_exactly(fd, head, sizeof head);
        link_good(wire_frame_decode(head, &f), "answer");
        link_exactly(fd, body, f.body_len);
    } while (f.kind != FRAME_RESPONSE);
    link_check(&f, body);
    return f.body_len;
}

/* --- Hello ------------------------------------------------------------------------------------ */

static void link_hello(const struct link_cluster *c, int fd, uint8_t *body)
{
    uint8_t nonce[PEER_NONCE_BYTES], proof[PEER_PROOF_BYTES];
    if (getrandom(nonce, sizeof nonce, 0) != sizeof nonce) {
        data_die("random numbers", strerror(errno));
    }
    const struct proto_hello_request hello = {.version_min = PROTO_VERSION_MIN,
                                              .version_max = PROTO_VERSION_MAX,
                                              .cluster_id = c->id,
                                              .role = PROTO_ROLE_CLIENT,
                                              .nonce = proto_bytes_of(nonce, sizeof nonce),
                                              .name = proto_bytes_text("bench")};
    struct proto_hello_reply reply;
    size_t len = link_call(fd, PROTO_OP_hello, &proto_hello_request_type, &hello, body);
    link_good(PROTO_DECODE(proto_hello_reply, body, len, NULL, &reply), "hello");
    link_good(peer_auth_check(&c->secrets, PEER_SIDE_ASKED, &hello, &reply, reply.proof), "hello");
    link_good(peer_auth_prove(&c->secrets, PEER_SIDE_ASKING, &hello, &reply, proof), "hello");
    const struct proto_auth_request auth = {.proof = proto_bytes_of(proof, sizeof proof)};
    (void)link_call(fd, PROTO_OP_auth, &proto_auth_request_type, &auth, body);
}

static int link_connect(const struct link_cluster *c, const char *address)
{
    uint8_t *body = malloc(LINK_LARGE);
    int fd = flow_connect(address);
    if (body == NULL) {
        data_die("connection", "no memory");
    }
    link_hello(c, fd, body);
    free(body);
    return fd;
}

int link_open(const struct link_cluster *c)
{
    return link_connect(c, c->target.text);
}

/* --- The cluster ------------------------------------------------------------------------------ */

/* Chains of a page whose head is `target`. */
static void link_take_rows(struct link_cluster *c, const struct proto_cluster_map_reply *map,
                           uint32_t target)
{
    struct link_chain *more = realloc(c->chain, (c->chains + map->rows.count + 1) * sizeof *more);
    if (more == NULL) {
        data_die("chains", "no memory");
    }
    c->chain = more;
    for (size_t i = 0; i < map->rows.count; i++) {
        const struct proto_row *row = &map->rows.at[i];
        if (row->members.count > 0 && row->members.at[0].target == target &&
            row->members.at[0].state == PROTO_MEMBER_SERVING) {
            c->chain[c->chains++] = (struct link_chain){.id = row->chain, .epoch = row->epoch};
        }
    }
}

static void link_map(struct link_cluster *c, const char *address)
{
    uint8_t *body = malloc(LINK_LARGE);
    struct mem_arena arena;
    struct proto_cluster_map_reply map = {0};
    struct proto_cluster_map_request ask = {0};
    uint32_t target = 0;
    int fd = link_connect(c, address);
    if (body == NULL) {
        data_die("map", "no memory");
    }
    mem_arena_init(&arena, LINK_ARENA);
    do {
        size_t len =
            link_call(fd, PROTO_OP_cluster_map, &proto_cluster_map_request_type, &ask, body);
        link_good(PROTO_DECODE(proto_cluster_map_reply, body, len, &arena, &map), "map");
        if (target == 0 && map.targets.count > 0) {
            target = map.targets.at[0].id;
            (void)proto_bytes_to_c(map.targets.at[0].address, c->target.text,
                                   sizeof c->target.text);
        }
        link_take_rows(c, &map, target);
        ask.first_chain = map.next_chain;
    } while (map.more);
    mem_arena_fini(&arena);
    (void)close(fd);
    free(body);
    if (c->chains == 0) {
        data_die("map", "no chain is served by the first target");
    }
}

static void link_sign(struct link_cluster *c, const char *hex)
{
    struct cluster_secret secret;
    uint64_t session = 0;
    link_good(cluster_secret_from_text(hex, strlen(hex), &secret), "the servers' secret");
    if (getrandom(&session, sizeof session, 0) != sizeof session) {
        data_die("random numbers", strerror(errno));
    }
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    c->capability =
        (struct proto_capability){.data_id = LINK_BASE,
                                  .last_data_id = UINT64_MAX,
                                  .session = session | 1,
                                  .rights = PROTO_RIGHT_READ | PROTO_RIGHT_WRITE,
                                  .expiry_wall_ms = (uint64_t)now.tv_sec * 1000 + LINK_DAY_MS};
    link_good(cluster_capability_sign(&secret, &c->capability, c->mac), "capability");
}

void link_find(const char *directory, struct link_cluster *ret)
{
    struct env env = {0};
    struct err e = {0};
    CLEANUP(cluster_settings_freep) struct cluster_settings *s = NULL;
    CLEANUP(mem_freep) struct net_address *address = NULL;
    char client[CLUSTER_SECRET_TEXT_SIZE + 1], server[CLUSTER_SECRET_TEXT_SIZE + 1];
    int rc = loop_new(&(struct loop_options){.name = "bench"}, &env.loop, &e);
    rc =
        rc < 0 ? rc : disk_pool_new(&env, &(struct disk_pool_options){.max_threads = 1}, &env.disk);
    rc = rc < 0 ? rc : client_directory_load(env.disk, directory, &s, &e);
    rc = rc < 0 ? rc : client_directory_addresses(env.disk, s, &address, &e);
    rc = rc < 0 ? rc : client_directory_line(env.disk, s->client_secret, client, sizeof client);
    rc = rc < 0 ? rc : client_directory_line(env.disk, s->server_secret, server, sizeof server);
    *ret = (struct link_cluster){0};
    rc = rc < 0 ? rc : peer_secret_from_text(&ret->secrets.client, client);
    if (rc < 0) {
        data_die(directory, err_message(&e, rc));
    }
    ret->id = s->id;
    disk_free(env.disk);
    loop_free(env.loop);
    link_sign(ret, server);
    link_map(ret, address[0].text);
}
