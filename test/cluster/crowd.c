/*
 * cluster/crowd.c -- many clients of a metadata server, or one that wants too much; for
 * load_test.sh.
 *
 *   crowd CLUSTER sessions COUNT   each with a connection, a renewal and a question a second
 *   crowd CLUSTER flood LINKS      one session; each of its links always has 256 listings open
 *
 * Says "up COUNT" when all are there, and after SIGTERM what became of the questions.
 */
#include "base/env.h"
#include "base/mem.h"
#include "client/directory.h"
#include "disk/disk.h"
#include "net/stream.h"
#include "peer/client.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CROWD_MAX 16000u
#define CROWD_OPENING 200u /* at a time */
#define CROWD_OPEN_CALLS 256u
#define CROWD_TICK_NS UINT64_C(1000000000)

struct crowd;

struct crowd_call {
    struct peer_call call;
    struct crowd_client *c;
    struct proto_readdir_request readdir;
};

struct crowd_client {
    struct peer_user user;
    struct crowd *x;
    struct peer *peer;
    struct peer_call session_call, cred_call, call;
    struct proto_session_open_request open;
    struct proto_credential_request cred;
    struct proto_getattr_request getattr;
    struct loop_timer timer;
    uint64_t session;
    uint32_t cred_id;
    bool up;
    unsigned lost;
};

struct crowd {
    struct env env;
    struct net_address *address;
    struct uuid cluster;
    struct peer_secrets secrets;
    struct crowd_client *client;
    struct crowd_call *flood; /* of client 0, or NULL */
    size_t flood_count;
    unsigned links;
    size_t count, started, up;
    uint64_t asked, good, busy, bad;
    struct loop_signal term;
    struct loop_timer more;
};

static void crowd_start_some(struct crowd *x);

static void link_up(struct peer_user *u, struct peer_link *l)
{
    (void)u;
    (void)l;
}
static void link_down(struct peer_user *u, struct peer_link *l, int rc, const char *reason)
{
    struct crowd_client *c = container_of(u, struct crowd_client, user);
    (void)l;
    (void)rc;
    (void)reason;
    c->lost++;
}
static const struct peer_user_ops crowd_ops = {.up = link_up, .down = link_down};

static void note(struct crowd *x, const struct peer_reply *r)
{
    x->asked++;
    x->good += r->rc == 0;
    x->busy += r->rc == -ERR_busy;
    x->bad += r->rc < 0 && r->rc != -ERR_busy;
}

static struct proto_caller caller_of(const struct crowd_client *c)
{
    return (struct proto_caller){.session = c->session, .cred = c->cred_id};
}

/* --- Many, each with a little ----------------------------------------------------------------- */

static void asked(struct peer_call *call, const struct peer_reply *r)
{
    struct crowd_client *c = container_of(call, struct crowd_client, call);
    note(c->x, r);
}

static void client_tick(struct loop_timer *t)
{
    struct crowd_client *c = container_of(t, struct crowd_client, timer);
    if (!peer_call_active(&c->call)) {
        c->getattr = (struct proto_getattr_request){.caller = caller_of(c), .ino = PROTO_ROOT_INO};
        c->call = (struct peer_call){.done = asked,
                                     .request = &c->getattr,
                                     .opcode = PROTO_OP_getattr,
                                     .flags = PEER_CALL_AGAIN,
                                     .timeout_ms = 20000};
        peer_call(c->peer, &c->call);
    }
    loop_timer_in(c->x->env.loop, t, CROWD_TICK_NS);
}

/* --- One with much ---------------------------------------------------------------------------- */

static void flood_ask(struct crowd_call *f);

static void flood_answered(struct peer_call *call, const struct peer_reply *r)
{
    struct crowd_call *f = container_of(call, struct crowd_call, call);
    note(f->c->x, r);
    flood_ask(f);
}

static void flood_ask(struct crowd_call *f)
{
    uint16_t slot = f->call.slot;
    f->readdir = (struct proto_readdir_request){.caller = caller_of(f->c),
                                                .ino = PROTO_ROOT_INO,
                                                .max_entries = 1000,
                                                .max_bytes = 65536,
                                                .want_attr = true};
    f->call = (struct peer_call){.done = flood_answered,
                                 .request = &f->readdir,
                                 .opcode = PROTO_OP_readdir,
                                 .slot = slot,
                                 .timeout_ms = 60000};
    peer_call(f->c->peer, &f->call);
}

static int flood_begin(struct crowd_client *c)
{
    struct crowd *x = c->x;
    x->flood_count = (size_t)x->links * CROWD_OPEN_CALLS;
    x->flood = mem_calloc(x->flood_count, sizeof *x->flood);
    if (x->flood == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < x->flood_count; i++) {
        x->flood[i].c = c;
        x->flood[i].call.slot = (uint16_t)(i % x->links);
        flood_ask(&x->flood[i]);
    }
    return 0;
}

/* --- Sessions --------------------------------------------------------------------------------- */

static void client_ready(struct peer_call *call, const struct peer_reply *r)
{
    struct crowd_client *c = container_of(call, struct crowd_client, cred_call);
    struct crowd *x = c->x;
    if (r->rc < 0) {
        x->bad++;
        (void)fprintf(stderr, "no credential: %s\n", err_text(r->rc));
        loop_stop(x->env.loop, 1);
        return;
    }
    c->cred_id = ((const struct proto_credential_reply *)r->body)->cred;
    c->up = true;
    x->up++;
    if (x->links > 0 && flood_begin(c) < 0) {
        loop_stop(x->env.loop, 1);
    } else if (x->links == 0) {
        c->timer.fire = client_tick;
        loop_timer_in(x->env.loop, &c->timer, loop_random(x->env.loop) % CROWD_TICK_NS);
    }
    if (x->up == x->count) {
        (void)printf("up %zu\n", x->up);
        (void)fflush(stdout);
    }
    crowd_start_some(x);
}

static void client_opened(struct peer_call *call, const struct peer_reply *r)
{
    struct crowd_client *c = container_of(call, struct crowd_client, session_call);
    if (r->rc < 0) {
        c->x->bad++;
        (void)fprintf(stderr, "no session: %s\n", err_text(r->rc));
        loop_stop(c->x->env.loop, 1);
        return;
    }
    c->session = ((const struct proto_session_open_reply *)r->body)->session;
    peer_set_session(c->peer, c->session, 1, false);
    c->cred = (struct proto_credential_request){.session = c->session};
    c->cred_call = (struct peer_call){.done = client_ready,
                                      .request = &c->cred,
                                      .opcode = PROTO_OP_credential,
                                      .flags = PEER_CALL_AGAIN,
                                      .timeout_ms = 60000};
    peer_call(c->peer, &c->cred_call);
}

static int client_start(struct crowd *x, struct crowd_client *c)
{
    const struct peer_options opt = {.env = &x->env,
                                     .user = &c->user,
                                     .secrets = x->secrets,
                                     .cluster_id = x->cluster,
                                     .role = PROTO_ROLE_CLIENT,
                                     .name = "crowd",
                                     .addresses = x->address,
                                     .address_count = 1,
                                     .wants_leader = true,
                                     .bulk_count = x->links > 0 ? x->links - 1 : 0,
                                     .generation = 1};
    c->x = x;
    c->user.ops = &crowd_ops;
    int rc = peer_new(&opt, &c->peer);
    if (rc < 0) {
        return rc;
    }
    peer_start(c->peer);
    c->open = (struct proto_session_open_request){
        .verifier = loop_random(x->env.loop), .slots = 8, .name = proto_bytes_text("crowd")};
    loop_random_bytes(x->env.loop, c->open.client.bytes, sizeof c->open.client.bytes);
    c->open.boot_id = c->open.client;
    c->session_call = (struct peer_call){.done = client_opened,
                                         .request = &c->open,
                                         .opcode = PROTO_OP_session_open,
                                         .flags = PEER_CALL_AGAIN,
                                         .timeout_ms = 60000};
    peer_call(c->peer, &c->session_call);
    return 0;
}

static void crowd_start_some(struct crowd *x)
{
    while (x->started < x->count && x->started < x->up + CROWD_OPENING) {
        if (client_start(x, &x->client[x->started]) < 0) {
            loop_stop(x->env.loop, 1);
            return;
        }
        x->started++;
    }
}

/* --- The process ------------------------------------------------------------------------------ */

static void terminated(struct loop_signal *s, int signo)
{
    struct crowd *x = container_of(s, struct crowd, term);
    unsigned lost = 0;
    (void)signo;
    for (size_t i = 0; i < x->started; i++) {
        lost += x->client[i].lost;
    }
    (void)printf("asked %llu good %llu busy %llu bad %llu lost %u\n", (unsigned long long)x->asked,
                 (unsigned long long)x->good, (unsigned long long)x->busy,
                 (unsigned long long)x->bad, lost);
    (void)fflush(stdout);
    loop_stop(x->env.loop, 0);
}

static int crowd_find(struct crowd *x, const char *directory, struct err *e)
{
    CLEANUP(cluster_settings_freep) struct cluster_settings *s = NULL;
    char hex[CLUSTER_SECRET_TEXT_SIZE + 1];
    int rc = client_directory_load(x->env.disk, directory, &s, e);
    rc = rc < 0 ? rc : client_directory_addresses(x->env.disk, s, &x->address, e);
    rc = rc < 0 ? rc : client_directory_line(x->env.disk, s->client_secret, hex, sizeof hex);
    rc = rc < 0 ? rc : peer_secret_from_text(&x->secrets.client, hex);
    x->cluster = rc < 0 ? x->cluster : s->id;
    return rc;
}

static int crowd_open(struct crowd *x, const char *directory, struct err *e)
{
    int rc = loop_new(&(struct loop_options){.name = "crowd"}, &x->env.loop, e);
    rc = rc < 0
             ? rc
             : disk_pool_new(&x->env, &(struct disk_pool_options){.max_threads = 1}, &x->env.disk);
    rc = rc < 0 ? rc : net_socket_new(&x->env, &x->env.net);
    rc = rc < 0 ? rc : crowd_find(x, directory, e);
    if (rc < 0) {
        return rc;
    }
    uint64_t files = loop_process_raise_files(x->count + x->links + 64);
    if (files < x->count + x->links + 64) {
        return err_set(e, -EMFILE, "%zu connections, but %llu open files", x->count,
                       (unsigned long long)files);
    }
    x->client = mem_calloc(x->count, sizeof *x->client);
    x->term = (struct loop_signal){.caught = terminated, .signo = SIGTERM};
    return x->client == NULL ? -ENOMEM : loop_signal_add(x->env.loop, &x->term);
}

int main(int argc, char **argv)
{
    struct crowd x = {.count = 1};
    struct err e = {0};
    unsigned long n = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
    bool flood = argc == 4 && strcmp(argv[2], "flood") == 0;
    if (n == 0 || n > (flood ? PEER_BULK_MAX : CROWD_MAX) ||
        (!flood && strcmp(argv[2], "sessions") != 0)) {
        (void)fprintf(stderr, "crowd CLUSTER sessions COUNT | flood LINKS\n");
        return 2;
    }
    x.links = flood ? (unsigned)n : 0;
    x.count = flood ? 1 : n;
    int rc = crowd_open(&x, argv[1], &e);
    if (rc < 0) {
        (void)fprintf(stderr, "crowd: %s\n", err_message(&e, rc));
        return 1;
    }
    crowd_start_some(&x);
    return loop_run(x.env.loop); /* what it holds goes with the process */
}
