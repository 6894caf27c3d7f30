/*
 * datanode/link_fuzz.c -- what the worker of a target may tell its master over the connection that
 * it was given, and what a master may tell a worker: any of the messages that there are, with any
 * contents. Two bytes choose each: who speaks, and the message; then length and body, or a seed of
 * contents that are sound. The master goes on, and ends when it is told to.
 */
#include "datanode/rig_master_priv.h"

#include "net/conn.h"
#include "peer/client.h"
#include "proto/sample.h"
#include "testing/replay.h"

#define FUZZ_MESSAGES 32u
#define FUZZ_RECORD 4096u
#define FUZZ_COUNT 4u /* elements of lists */

struct fuzz {
    struct rig rig;
    struct peer_user user, master_user;
    struct peer *worker; /* in place of the worker */
    struct peer_server *master;
    struct peer_link *link; /* of `master` */
    struct life life;       /* whose end the real worker's is */
    struct wire_reader in;
    uint64_t record[FUZZ_RECORD / 8];
    uint8_t body[65536];
};

static void fuzz_up(struct peer_user *u, struct peer_link *l)
{
    container_of(u, struct fuzz, master_user)->link = l;
}
static void fuzz_down(struct peer_user *u, struct peer_link *l, int rc, const char *reason)
{
    (void)l;
    (void)rc;
    (void)reason;
    container_of(u, struct fuzz, master_user)->link = NULL;
}
static const struct peer_user_ops fuzz_ops = {.up = fuzz_up, .down = fuzz_down};

/* The worker's end of what its master made for it. */
static void fuzz_worker(void *ctx)
{
    struct fuzz *f = ctx;
    struct life *life = last_life(&f->rig);
    struct stream *stream = NULL;
    f->user.ops = &rig_nothing_ops;
    CHECK(net_adopt(life->process.env.net, life->fds[1], &stream) == 0);
    const struct peer_options opt = {.env = &life->process.env,
                                     .user = &f->user,
                                     .secrets = rig_secrets(),
                                     .cluster_id = cluster,
                                     .role = PROTO_ROLE_TARGET,
                                     .name = "target",
                                     .stream = stream};
    CHECK(peer_new(&opt, &f->worker) == 0);
    peer_start(f->worker);
}

/* A master that is none, and a worker's real end. */
static void fuzz_master(void *ctx)
{
    struct fuzz *f = ctx;
    struct stream *stream = NULL;
    struct life *life = &f->life;
    int fd = -1;
    *life = (struct life){.rig = &f->rig, .user.ops = &supervised_ops, .process = f->rig.other};
    process_env(&f->rig, &f->rig.other, OTHER_HOST);
    f->master_user.ops = &fuzz_ops;
    const struct peer_server_options opt = {.env = &f->rig.other.env,
                                            .user = &f->master_user,
                                            .secrets = rig_secrets(),
                                            .cluster_id = cluster,
                                            .role = PROTO_ROLE_MASTER,
                                            .accept_roles = PROTO_ROLE_TARGET,
                                            .name = "node",
                                            .max_connections = 1};
    CHECK(peer_server_new(&opt, &f->master) == 0);
    CHECK(net_pair(f->rig.other.env.net, &stream, &fd) == 0);
    peer_server_adopt(f->master, stream);
    const struct datanode_supervised_options o = {.env = &f->rig.other.env,
                                                  .user = &life->user,
                                                  .secrets = rig_secrets(),
                                                  .cluster_id = cluster,
                                                  .name = "target",
                                                  .fd = fd,
                                                  .incarnation = 1,
                                                  .address = "host3:1"};
    CHECK(datanode_supervised_start(&o, &life->supervised) == 0);
}

static size_t fuzz_body(struct fuzz *f, const struct proto_message *m, bool sound)
{
    struct rand rand;
    struct mem_arena a;
    struct wire_writer w = wire_writer_over(f->body, sizeof f->body);
    if (!sound) {
        size_t len = wire_read_u8(&f->in);
        len = base_min(len, f->in.left);
        const uint8_t *bytes = wire_read_bytes(&f->in, len);
        if (len > 0) {
            memcpy(f->body, bytes, len);
        }
        return len;
    }
    rand_seed(&rand, wire_read_u8(&f->in));
    mem_arena_init(&a, 1u << 20);
    CHECK(m->request->size <= sizeof f->record);
    int rc = proto_sample(m->request, &rand, FUZZ_COUNT, &a, f->record);
    rc = rc < 0 ? rc : proto_encode(m->request, f->record, &w);
    CHECK(rc == 0);
    mem_arena_fini(&a);
    return w.len;
}

static void fuzz_say(void *ctx)
{
    static const uint16_t own[] = {PROTO_OP_started, PROTO_OP_alive, PROTO_OP_life};
    struct fuzz *f = ctx;
    size_t count = 0;
    const struct proto_message *all = proto_messages(&count), *m = NULL;
    uint8_t who = wire_read_u8(&f->in), what = wire_read_u8(&f->in);
    uint16_t opcode = what < 240 ? own[what % ARRAY_COUNT(own)] : all[what % count].opcode;
    for (size_t i = 0; i < count; i++) {
        m = all[i].opcode == opcode ? &all[i] : m;
    }
    size_t len = fuzz_body(f, m, who % 4 < 2);
    const struct peer_link *l = who % 2 == 0 ? f->link : peer_link_of(f->worker, 0);
    if (l != NULL && net_conn_is_open(l->conn)) {
        CHECK(net_conn_push(l->conn, opcode, 0, f->body, len) <= 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz *f = mem_zalloc(sizeof *f);
    CHECK(f != NULL);
    struct rig *r = &f->rig;
    f->in = wire_reader_over(data, size);
    rig_open(r, SILENT, 1);
    r->opt.watchdog_ms = 1000;
    start_master(r);
    UNTIL(r, r->life_count == 1);
    loop_sim_enter(r->life[0].process.loop, fuzz_worker, f);
    CHECK(loop_sim_process(r->world, "other", OTHER_HOST, &r->other.loop) == 0);
    loop_sim_enter(r->other.loop, fuzz_master, f);
    UNTIL(r, f->link != NULL && peer_link_of(f->worker, 0) != NULL);
    for (unsigned i = 0; i < FUZZ_MESSAGES && f->in.left >= 2 && r->life_count == 1; i++) {
        bool master = *f->in.at % 2 == 0;
        loop_sim_enter(master ? r->other.loop : r->life[0].process.loop, fuzz_say, f);
        for_ms(r, 20);
    }
    stop_master(r, 1000);
    UNTIL(r, r->stops == 1);
    rig_close(r);
    mem_free(f);
    return 0;
}
