#include "metanode/rig_session_priv.h"
#include "testing/testing.h"

#include <stdio.h>

/* Many clients, or one that wants much: who is served, and when the server says "busy". */

#define FLOOD_MAX 1400u
#define FLOOD_SLOTS 64u

struct flood;
struct flood_call {
    struct peer_call call;
    struct flood *f;
};

/* Much at once from one client. */
struct flood {
    struct rig_client *c;
    struct flood_call call[FLOOD_MAX];
    struct proto_create_request create[FLOOD_SLOTS];
    struct proto_getattr_request getattr;
    char name[FLOOD_SLOTS][16];
    unsigned count, done, good, busy, hinted, sequence;
    bool mutations, again;
};

static void flood_mutate(struct flood *f, unsigned slot);

static void flood_done(struct peer_call *call, const struct peer_reply *r)
{
    struct flood_call *one = container_of(call, struct flood_call, call);
    struct flood *f = one->f;
    f->done++;
    f->good += r->rc == 0;
    f->busy += r->rc == -ERR_busy;
    f->hinted += r->failure != NULL && r->failure->retry_ms > 0;
    if (f->mutations && f->again) {
        flood_mutate(f, (unsigned)(one - f->call));
    }
}

static void flood_call(struct flood *f, unsigned i, uint16_t opcode, const void *request)
{
    f->call[i] =
        (struct flood_call){.f = f,
                            .call = {.done = flood_done,
                                     .request = request,
                                     .opcode = opcode,
                                     .flags = f->mutations ? PEER_CALL_AGAIN : PEER_CALL_RAW,
                                     .timeout_ms = 200000}};
    peer_call(f->c->peer, &f->call[i].call);
}

static void flood_mutate(struct flood *f, unsigned slot)
{
    unsigned round = f->sequence++ / FLOOD_SLOTS;
    (void)snprintf(f->name[slot], sizeof f->name[slot], "f%u.%u", slot, round);
    f->create[slot] =
        (struct proto_create_request){.op = {.session = f->c->session,
                                             .slot = slot,
                                             .sequence = f->create[slot].op.sequence + 1,
                                             .cred = f->c->cred},
                                      .parent = PROTO_ROOT_INO,
                                      .name = proto_bytes_text(f->name[slot]),
                                      .type = PROTO_INODE_FILE,
                                      .mode = 0600};
    flood_call(f, slot, PROTO_OP_create, &f->create[slot]);
}

static void flood_begin(void *ctx)
{
    struct flood *f = ctx;
    f->getattr = (struct proto_getattr_request){.caller = rig_caller(f->c), .ino = PROTO_ROOT_INO};
    for (unsigned i = 0; i < f->count; i++) {
        if (f->mutations) {
            flood_mutate(f, i);
        } else {
            flood_call(f, i, PROTO_OP_getattr, &f->getattr);
        }
    }
}

/* A session with many slots instead of the rig's. */
static void flood_session(struct rig *r, unsigned i)
{
    struct rig_client *c = &r->client[i];
    rig_client_start(r, i);
    struct proto_session_open_request q = {.client = c->uuid,
                                           .boot_id = c->uuid,
                                           .verifier = c->verifier,
                                           .flags = PROTO_SESSION_STATEFUL,
                                           .slots = FLOOD_SLOTS,
                                           .name = proto_bytes_text("flood")};
    c->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(c, PROTO_OP_session_open, &q));
    c->session = ((struct proto_session_open_reply *)c->reply)->session;
    loop_sim_enter(c->env.loop, rig_set_session_in, c);
    CHECK_OK(rig_credential(c, 0));
}

static struct flood *flood_new(struct rig_client *c, unsigned count, bool mutations)
{
    struct flood *f = mem_zalloc(sizeof *f);
    CHECK(f != NULL);
    f->c = c;
    f->count = count;
    f->mutations = mutations;
    f->again = mutations;
    return f;
}

/* A client keeps 64 mutations waiting where 4 may be under way; another one has one at a time. It
 * waits for those that were under way before it and one turn of the other, not for all of them. */
TEST(one_client_does_not_starve_another)
{
    struct rig r;
    unsigned worst = 0;
    rig_new(&r, testing_seed());
    r.opt.mutations_max = 4;
    rig_serve(&r);
    flood_session(&r, 0);
    rig_client_ready(&r, 1);
    struct flood *f = flood_new(&r.client[0], FLOOD_SLOTS, true);
    loop_sim_enter(f->c->env.loop, flood_begin, f);
    rig_run(&r, RIG_SECOND / 10);
    for (unsigned i = 0; i < 20; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "small%u", i);
        struct proto_create_request q = rig_file(&r.client[1], name, "x");
        struct metanode_session *s = metanode_session_find(r.m, r.client[1].session);
        rig_begin(&r.client[1], PROTO_OP_create, &q);
        for (unsigned n = 0; n < 1000000 && s->waiting_count + s->mutations == 0; n++) {
            (void)loop_sim_step(r.sim); /* until it has come */
        }
        uint64_t before = stats_counter_value(&r.m->mutations), began = 0;
        for (unsigned n = 0; n < 1000000 && s->waiting_count > 0; n++) {
            began = stats_counter_value(&r.m->mutations) - before;
            (void)loop_sim_step(r.sim); /* until it has begun; others may at the same moment */
        }
        worst = began > worst ? (unsigned)began : worst;
        CHECK_TRUE(r.m->turns.mutations <= 4);
        CHECK_OK(rig_end(&r.client[1]));
    }
    CHECK_TRUE(f->done > 2 * FLOOD_SLOTS); /* there was a flood */
    CHECK_TRUE(stats_counter_value(&r.m->turns.waited) > FLOOD_SLOTS);
    CHECK_TRUE(worst <= 1);
    f->again = false;
    rig_run(&r, 20 * RIG_SECOND);
    CHECK_EQ(f->good, f->done);
    rig_over(&r);
    mem_free(f);
}

/* Reads are many per round of the loop, but not without end; beyond what may wait they are told
 * when to come again, and nobody is forgotten. */
TEST(waiting_requests_are_bounded)
{
    struct rig r;
    rig_new(&r, testing_seed());
    rig_serve(&r);
    rig_client_ready(&r, 0);
    struct flood *f = flood_new(&r.client[0], FLOOD_MAX, false);
    struct metanode_session *s = metanode_session_find(r.m, r.client[0].session);
    size_t most = 0;
    uint64_t step = 0;
    loop_sim_enter(f->c->env.loop, flood_begin, f);
    for (unsigned n = 0; n < 10000000 && f->done < f->count; n++) {
        uint64_t before = stats_counter_value(&r.m->queries);
        (void)loop_sim_step(r.sim);
        most = base_max(most, s->waiting_count);
        step = base_max(step, stats_counter_value(&r.m->queries) - before);
    }
    CHECK_EQ(f->done, f->count);
    CHECK_EQ(f->good + f->busy, f->count);
    CHECK_TRUE(f->good > 0 && most > 0 && most <= 1024);
    CHECK_TRUE(step <= 64);
    rig_over(&r);
    mem_free(f);
}

/* When memory is nearly used up, what grows is refused, with a hint; reads and removals go on, and
 * make room. */
TEST(a_full_memory_refuses_what_grows)
{
    struct rig r;
    rig_new(&r, testing_seed());
    r.opt.engine = METANODE_ENGINE_MEMORY; /* where records count */
    rig_serve(&r);
    rig_client_ready(&r, 0);
    struct rig_client *c = &r.client[0];
    struct proto_create_request q = rig_file(c, "first", "x");
    CHECK_OK(rig_call(c, PROTO_OP_create, &q));
    r.m->opt.memory_bytes = metanode_memory_look(r.m) + (256u << 10);
    unsigned made = 0;
    c->flags = PEER_CALL_RAW;
    for (; made < 5000; made++) {
        char name[64];
        (void)snprintf(name, sizeof name, "a file with a name that takes some room %u", made);
        q = rig_file(c, name, "and some contents");
        if (rig_call(c, PROTO_OP_create, &q) < 0) {
            break;
        }
    }
    CHECK_RC(c->rc, ERR_busy);
    CHECK_TRUE(made > 10 && made < 5000);
    CHECK_TRUE(r.m->memory.used < r.m->opt.memory_bytes);
    CHECK_TRUE(stats_counter_value(&r.m->memory.refused) > 0);
    CHECK_TRUE(rig_lookup(c, "first").ino != 0);
    c->flags = PEER_CALL_RAW;
    struct proto_unlink_request u = {
        .op = q.op, .parent = PROTO_ROOT_INO, .name = proto_bytes_text("first")};
    CHECK_OK(rig_call(c, PROTO_OP_unlink, &u)); /* in the slot that was refused: it is free */
    r.m->opt.memory_bytes *= 2;
    q = rig_file(c, "last", "x");
    CHECK_OK(rig_call(c, PROTO_OP_create, &q));
    rig_over(&r);
}

/* What came and asks for nothing goes. One with a session stays. */
TEST(idle_connections_end)
{
    struct rig r;
    rig_new(&r, testing_seed());
    rig_serve(&r);
    rig_client_ready(&r, 0);
    rig_admin_start(&r, 1);
    rig_run(&r, RIG_SECOND);
    CHECK_EQ(peer_server_link_count(r.m->server), 2);
    rig_keep_alive(&r, &r.client[0], 40);
    CHECK_TRUE(peer_link_of(r.client[0].peer, 0) != NULL);
    const struct peer_link *l = peer_server_next(r.m->server, NULL);
    CHECK_EQ(l->session, r.client[0].session);
    CHECK_EQ(r.client[0].resumes, 0);
    rig_over(&r);
}
