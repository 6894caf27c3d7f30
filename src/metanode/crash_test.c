/*
 * metanode/crash_test.c -- three clients at work while connections break, the process is killed and
 * the machine loses power at random moments, also in a checkpoint, and the newest one is damaged.
 * Each client knows what its files must be: every answer must be the one that a server without
 * faults would give (a retry is never told "exists" or "no such file" about its own work), and at
 * the end everything is there, and nothing else.
 */
#include "metanode/metanode_priv.h"

#include "metanode/rig_image_priv.h"
#include "metanode/rig_session_priv.h"
#include "testing/testing.h"

#define NAMES 12u
#define ROUNDS 40u

struct worker {
    struct rig_client *c;
    char name[NAMES][16];
    bool exists[NAMES];
    char data[16];
    unsigned at, op; /* what is under way */
    struct proto_create_request create;
    struct proto_unlink_request unlink;
    struct proto_rename_request rename;
    unsigned to, finished;
};

enum { WORK_CREATE, WORK_UNLINK, WORK_RENAME };

static void worker_begin(struct worker *w)
{
    struct rand *rand = &w->c->rig->rand;
    uint32_t slot = (uint32_t)rand_below(rand, RIG_SLOTS);
    w->op = (unsigned)rand_below(rand, 3);
    w->at = (unsigned)rand_below(rand, NAMES);
    w->to = (w->at + 1 + (unsigned)rand_below(rand, NAMES - 1)) % NAMES;
    w->c->flags = PEER_CALL_AGAIN;
    w->c->timeout_ms = 600000;
    if (w->op == WORK_CREATE) {
        w->create =
            (struct proto_create_request){.op = rig_op(w->c, slot),
                                          .parent = PROTO_ROOT_INO,
                                          .name = proto_bytes_text(w->name[w->at]),
                                          .type = PROTO_INODE_FILE,
                                          .mode = 0600,
                                          .data = proto_bytes_text(w->name[w->at]),
                                          .flags = PROTO_CREATE_EXCLUSIVE | PROTO_CREATE_HAS_DATA};
        rig_begin(w->c, PROTO_OP_create, &w->create);
    } else if (w->op == WORK_UNLINK) {
        w->unlink = (struct proto_unlink_request){.op = rig_op(w->c, slot),
                                                  .parent = PROTO_ROOT_INO,
                                                  .name = proto_bytes_text(w->name[w->at])};
        rig_begin(w->c, PROTO_OP_unlink, &w->unlink);
    } else {
        w->rename = (struct proto_rename_request){.op = rig_op(w->c, slot),
                                                  .parent = PROTO_ROOT_INO,
                                                  .name = proto_bytes_text(w->name[w->at]),
                                                  .new_parent = PROTO_ROOT_INO,
                                                  .new_name = proto_bytes_text(w->name[w->to]),
                                                  .flags = PROTO_RENAME_NOREPLACE};
        rig_begin(w->c, PROTO_OP_rename, &w->rename);
    }
}

static void worker_end(struct worker *w)
{
    bool there = w->exists[w->at];
    int rc = w->c->rc;
    if (w->op == WORK_CREATE) {
        CHECK_EQ(rc, there ? -EEXIST : 0);
        w->exists[w->at] = true;
    } else if (w->op == WORK_UNLINK) {
        CHECK_EQ(rc, there ? 0 : -ENOENT);
        w->exists[w->at] = false;
    } else {
        CHECK_EQ(rc, !there ? -ENOENT : w->exists[w->to] ? -EEXIST : 0);
        if (rc == 0) {
            w->exists[w->at] = false;
            w->exists[w->to] = true;
        }
    }
    w->finished++;
}

static bool all_finished(struct worker *w)
{
    bool all = true;
    for (unsigned i = 0; i < RIG_CLIENTS; i++) {
        if (w[i].finished < ROUNDS && w[i].c->done) {
            worker_end(&w[i]);
            if (w[i].finished < ROUNDS) {
                worker_begin(&w[i]);
            }
        }
        all = all && w[i].finished >= ROUNDS;
    }
    return all;
}

static bool some_done(void *ctx)
{
    struct worker *w = ctx;
    bool some = false;
    for (unsigned i = 0; i < RIG_CLIENTS; i++) {
        some = some || (w[i].finished < ROUNDS && w[i].c->done);
    }
    return some;
}

static void strike(struct rig *r, char damaged[300])
{
    switch (rand_below(&r->rand, 60)) {
    case 0:
        rig_kill(r);
        break;
    case 1:
        rig_power(r);
        break;
    case 2:
        net_sim_reset(r->net, 1, 10 + (unsigned)rand_below(&r->rand, RIG_CLIENTS));
        return;
    default:
        return;
    }
    if (rand_chance(&r->rand, 1, 3)) {
        (void)rig_image_damage(r, damaged);
    }
    rig_run(r, rand_below(&r->rand, RIG_SECOND));
    CHECK_OK(rig_start(r)); /* does not wait: it may be struck while it reads its log */
}

static unsigned check_all(struct worker *w)
{
    unsigned files = 0;
    for (unsigned i = 0; i < RIG_CLIENTS; i++) {
        for (unsigned n = 0; n < NAMES; n++) {
            CHECK_EQ(rig_lookup(w[i].c, w[i].name[n]).ino != 0, w[i].exists[n]);
            files += w[i].exists[n];
        }
    }
    return files;
}

TEST(every_answer_is_right_whatever_dies)
{
    for (unsigned round = 0; round < 4; round++) {
        struct rig r;
        struct worker w[RIG_CLIENTS] = {0};
        char damaged[300] = "";
        rig_new(&r, testing_seed() + round);
        r.opt.checkpoint_bytes = round < 2 ? 2000 : 0;
        rig_serve(&r);
        for (unsigned i = 0; i < RIG_CLIENTS; i++) {
            rig_client_ready(&r, i);
            w[i].c = &r.client[i];
            for (unsigned n = 0; n < NAMES; n++) {
                (void)snprintf(w[i].name[n], sizeof w[i].name[n], "c%u-%u", i, n);
            }
            worker_begin(&w[i]);
        }
        net_sim_faults(r.net, 3000, 3000);
        while (!all_finished(w)) {
            (void)loop_sim_run(r.sim, some_done, w,
                               loop_sim_now_ns(r.sim) + rand_below(&r.rand, RIG_SECOND / 50) + 1);
            strike(&r, damaged);
        }
        net_sim_faults(r.net, 0, 0);
        unsigned files = check_all(w);
        struct proto_readdir_request list = {.caller = rig_caller(w[0].c),
                                             .ino = PROTO_ROOT_INO,
                                             .max_entries = 1000,
                                             .max_bytes = 65536};
        CHECK_OK(rig_call(w[0].c, PROTO_OP_readdir, &list));
        CHECK_EQ(((struct proto_readdir_reply *)w[0].c->reply)->entries.count, files);
        rig_over(&r);
    }
}
