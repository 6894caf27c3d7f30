/*
 * metanode/metanode_test.c -- the server as clients see it: operations, sessions, exactly once,
 * crashes of process and machine at random moments, and the directory.
 */
#include "metanode/metanode.h"

#include "metanode/rig_session_priv.h"
#include "testing/testing.h"

/* What was answered is there after the process and after the machine has died. */
TEST(operations_survive_crashes)
{
    struct rig r;
    rig_ready(&r, 1, testing_seed());
    struct rig_client *c = &r.client[0];
    struct proto_create_request q = rig_file(c, "a", "hello");
    CHECK_OK(rig_call(c, PROTO_OP_create, &q));
    const struct proto_create_reply *made = c->reply;
    uint64_t ino = made->attr.ino;
    CHECK_TRUE(made->created && ino > PROTO_ROOT_INO && made->trailer.renewed);
    CHECK_EQ(made->attr.size, 5);
    CHECK_EQ(made->changes.count, 2);
    CHECK_EQ(rig_lookup(c, "a").ino, ino);
    CHECK_EQ(rig_lookup(c, "b").ino, 0);
    for (int i = 0; i < 2; i++) {
        if (i == 0) {
            rig_kill(&r);
        } else {
            rig_power(&r);
        }
        rig_serve(&r);
        CHECK_OK(rig_resume(c));
        CHECK_EQ(rig_lookup(c, "a").ino, ino);
        const struct proto_lookup_reply *found = c->reply;
        CHECK_TRUE(found->has_data && found->data.len == 5);
        CHECK_BYTES(found->data.at, "hello", 5);
    }
    rig_over(&r);
}

/* The machine's clock jumps back: times of changes do not, also not after a restart. */
TEST(times_never_go_back)
{
    struct rig r;
    rig_ready(&r, 1, testing_seed());
    struct rig_client *c = &r.client[0];
    struct proto_create_request first = rig_file(c, "a", "1");
    CHECK_OK(rig_call(c, PROTO_OP_create, &first));
    int64_t before = ((const struct proto_create_reply *)c->reply)->attr.ctime_ns;
    for (unsigned i = 0; i < 4; i++) {
        loop_sim_clock(r.sim, 1, -3600 * (int64_t)RIG_SECOND, 0);
        if (i == 2) {
            rig_kill(&r);
            rig_serve(&r);
        }
        struct proto_setattr_request q = {
            .op = rig_op(c, 0), .ino = PROTO_ROOT_INO, .mask = PROTO_SET_MODE, .mode = 0755};
        c->flags = PEER_CALL_AGAIN;
        CHECK_OK(rig_call(c, PROTO_OP_setattr, &q));
        int64_t now = ((const struct proto_setattr_reply *)c->reply)->attr.ctime_ns;
        CHECK_TRUE(now >= before && now - before < (int64_t)(60 * RIG_SECOND));
        before = now;
    }
    loop_sim_clock(r.sim, 1, 24 * 3600 * (int64_t)RIG_SECOND, 0); /* forwards they do go */
    struct proto_create_request last = rig_file(c, "b", "2");
    CHECK_OK(rig_call(c, PROTO_OP_create, &last));
    CHECK_TRUE(((const struct proto_create_reply *)c->reply)->attr.ctime_ns > before);
    rig_over(&r);
}

/* L7: the same again is answered the same; anything else is refused, and nothing happens. */
TEST(slots_answer_once)
{
    struct rig r;
    rig_ready(&r, 1, testing_seed());
    struct rig_client *c = &r.client[0];
    struct proto_create_request q = rig_file(c, "a", "1");
    CHECK_OK(rig_call(c, PROTO_OP_create, &q));
    uint64_t ino = ((struct proto_create_reply *)c->reply)->attr.ino;
    CHECK_OK(rig_call(c, PROTO_OP_create, &q)); /* not -EEXIST */
    CHECK_EQ(((struct proto_create_reply *)c->reply)->attr.ino, ino);
    CHECK_TRUE(((struct proto_create_reply *)c->reply)->created);
    struct proto_create_request other = q;
    other.name = proto_bytes_text("b"); /* another request of the same sequence */
    CHECK_RC(rig_call(c, PROTO_OP_create, &other), ERR_bad_sequence);
    other.op.sequence += 2; /* a gap */
    CHECK_RC(rig_call(c, PROTO_OP_create, &other), ERR_bad_sequence);
    other.op.sequence = 0;
    CHECK_RC(rig_call(c, PROTO_OP_create, &other), ERR_bad_sequence);
    other.op.slot = RIG_SLOTS;
    CHECK_RC(rig_call(c, PROTO_OP_create, &other), ERR_bad_sequence);
    CHECK_EQ(rig_lookup(c, "b").ino, 0);
    /* A failure is an answer, too, and kept over a restart. */
    struct proto_create_request again = rig_file(c, "a", "2");
    CHECK_RC(rig_call(c, PROTO_OP_create, &again), EEXIST);
    struct proto_unlink_request gone = {
        .op = rig_op(c, 1), .parent = PROTO_ROOT_INO, .name = proto_bytes_text("a")};
    CHECK_OK(rig_call(c, PROTO_OP_unlink, &gone));
    rig_kill(&r);
    rig_serve(&r);
    CHECK_RC(rig_call(c, PROTO_OP_create, &again), EEXIST);
    CHECK_OK(rig_call(c, PROTO_OP_unlink, &gone));
    CHECK_EQ(rig_lookup(c, "a").ino, 0);
    /* Burnt: it will never run. */
    struct proto_create_request late = rig_file(c, "late", "3");
    struct proto_slot_cancel_request burn = {
        .session = c->session, .slot = 0, .sequence = late.op.sequence};
    CHECK_OK(rig_call(c, PROTO_OP_slot_cancel, &burn));
    CHECK_TRUE(!((struct proto_slot_cancel_reply *)c->reply)->was_done);
    CHECK_RC(rig_call(c, PROTO_OP_create, &late), ERR_bad_sequence);
    /* Too late to burn: what it was answered, so that it can be undone. */
    struct proto_create_request done = rig_file(c, "done", NULL);
    CHECK_OK(rig_call(c, PROTO_OP_create, &done));
    const struct proto_create_reply was = *(struct proto_create_reply *)c->reply;
    burn.sequence = done.op.sequence;
    CHECK_OK(rig_call(c, PROTO_OP_slot_cancel, &burn));
    const struct proto_slot_cancel_reply *burnt = c->reply;
    struct proto_create_reply kept;
    CHECK_TRUE(burnt->was_done && burnt->opcode == PROTO_OP_create && burnt->rc == 0);
    CHECK_OK(PROTO_DECODE(proto_create_reply, burnt->body.at, burnt->body.len, &c->arena, &kept));
    CHECK_EQ(kept.attr.ino, was.attr.ino);
    CHECK_EQ(kept.mode, PROTO_OPEN_W);
    CHECK_EQ(kept.cap_epoch, was.cap_epoch);
    rig_over(&r);
}

/* retry-meets-original: both copies wait for one execution. */
struct twin {
    struct peer_call call[2];
    struct proto_create_request request;
    struct rig_client *client;
    uint64_t ino[2];
    int rc[2];
    unsigned done;
};
static void twin_first(struct peer_call *call, const struct peer_reply *reply)
{
    struct twin *t = container_of(call, struct twin, call[0]);
    const struct proto_create_reply *made = reply->body;
    t->rc[0] = reply->rc;
    t->ino[0] = reply->rc == 0 ? made->attr.ino : 0;
    t->done++;
}
static void twin_second(struct peer_call *call, const struct peer_reply *reply)
{
    struct twin *t = container_of(call, struct twin, call[1]);
    const struct proto_create_reply *made = reply->body;
    t->rc[1] = reply->rc;
    t->ino[1] = reply->rc == 0 ? made->attr.ino : 0;
    t->done++;
}
static void twin_start(void *ctx)
{
    struct twin *t = ctx;
    for (int i = 0; i < 2; i++) {
        t->call[i] = (struct peer_call){.done = i == 0 ? twin_first : twin_second,
                                        .request = &t->request,
                                        .opcode = PROTO_OP_create,
                                        .flags = PEER_CALL_AGAIN};
        peer_call(t->client->peer, &t->call[i]);
    }
}
static bool twin_is_done(void *ctx)
{
    return ((struct twin *)ctx)->done == 2;
}
TEST(a_retry_meets_the_original)
{
    struct rig r;
    rig_ready(&r, 1, testing_seed());
    struct twin t = {.client = &r.client[0]};
    t.request = rig_file(t.client, "twin", "x");
    loop_sim_enter(t.client->env.loop, twin_start, &t);
    CHECK_TRUE(rig_until(&r, twin_is_done, &t));
    CHECK_OK(t.rc[0]);
    CHECK_OK(t.rc[1]);
    CHECK_TRUE(t.ino[0] != 0 && t.ino[0] == t.ino[1]);
    rig_over(&r);
}

/* Nobody speaks for another's session, and roles are kept. */
TEST(forged_requests_are_refused)
{
    struct rig r;
    rig_ready(&r, 2, testing_seed());
    struct rig_client *a = &r.client[0], *b = &r.client[1];
    struct proto_create_request q = rig_file(a, "f", "1");
    q.op.session = b->session;
    CHECK_ERR(rig_call(a, PROTO_OP_create, &q), EPROTO);
    q.op.session = 4711;
    CHECK_RC(rig_call(a, PROTO_OP_create, &q), ERR_session_expired);
    q.op.session = a->session;
    q.op.cred = 99;
    CHECK_RC(rig_call(a, PROTO_OP_create, &q), EPERM);
    struct proto_session_resume_request steal = {
        .session = b->session, .verifier = a->verifier, .generation = 1000};
    CHECK_RC(rig_call(a, PROTO_OP_session_resume, &steal), EPERM);
    CHECK_EQ(rig_lookup(b, "f").ino, 0);
    struct proto_heartbeat_request beat = {.target = 1, .incarnation = 1};
    a->flags = 0;
    CHECK_TRUE(rig_call(a, PROTO_OP_heartbeat, &beat) < 0);
    /* Bytes that were changed on their way end the connection, nothing else. */
    for (unsigned i = 0; i < 20; i++) {
        net_sim_corrupt(r.net, 1 + rand_below(&r.rand, 6));
        CHECK_EQ(rig_lookup(b, "f").ino, 0);
    }
    rig_over(&r);
}

/* `says`: what a refusal must tell; NULL: anything. */
static int start_saying(struct rig *r, const char *directory, bool create, const char *says)
{
    struct rig other = {.sim = r->sim, .net = r->net, .disk = r->disk, .secrets = r->secrets};
    other.opt = r->opt;
    other.opt.cluster_id = r->cluster;
    other.opt.directory = directory;
    other.opt.create = create;
    (void)snprintf(other.address.text, sizeof other.address.text, "host1:9500");
    int rc = rig_start(&other);
    CHECK_TRUE(rc == 0 || other.err.text[0] != 0);
    CHECK_TRUE(says == NULL || strstr(other.err.text, says) != NULL);
    if (rc == 0) {
        CHECK_TRUE(rig_until(&other, rig_is_serving, &other));
    }
    loop_sim_kill(other.loop);
    return rc;
}
static int start_other(struct rig *r, const char *directory, bool create)
{
    return start_saying(r, directory, create, NULL);
}
struct path_call {
    struct disk *disk;
    const char *path;
};
static void make_directory(void *ctx)
{
    struct path_call *x = ctx;
    CHECK_OK(disk_make_directories(x->disk, x->path));
}
static void remove_file(void *ctx)
{
    struct path_call *x = ctx;
    struct disk_req req = {.op = DISK_REMOVE, .path = x->path};
    CHECK_EQ(disk_now(x->disk, &req), 0);
}
TEST(a_directory_belongs_to_one_server_of_one_cluster)
{
    struct rig r;
    rig_ready(&r, 0, testing_seed());
    CHECK_RC(start_other(&r, "/meta", true), ERR_in_use);
    CHECK_ERR(start_other(&r, "/nothing", false), ENOENT);
    CHECK_OK(start_other(&r, "/second", true));
    CHECK_OK(start_other(&r, "/second", false));
    CHECK_RC(start_other(&r, "/second/log", true), EEXIST);
    rig_stop(&r);
    struct uuid right = r.cluster;
    r.cluster.bytes[0]++;
    CHECK_RC(start_other(&r, "/meta", true), ERR_wrong_cluster);
    r.cluster = right;
    CHECK_OK(disk_sim_corrupt(r.disk, "/meta/identity", 14, 1));
    CHECK_RC(start_other(&r, "/meta", true), ERR_bad_crc);
    CHECK_OK(disk_sim_corrupt(r.disk, "/meta/identity", 14, 1));
    CHECK_OK(start_other(&r, "/meta", false));
    r.m = NULL;
    rig_close(&r);
}

/* An unmounted disk is told from a lost file, and nothing is made in its place. */
TEST(a_directory_without_metadata_is_named)
{
    struct rig r;
    rig_ready(&r, 0, testing_seed());
    rig_stop(&r);
    struct env env;
    struct path_call x = {.path = "/empty"};
    rig_process(&r, "other", 1, &env);
    CHECK_OK(disk_sim_open(r.disk, env.loop, &x.disk));
    loop_sim_enter(env.loop, make_directory, &x);
    for (int i = 0; i < 2; i++) {
        CHECK_RC(start_saying(&r, "/empty", false, "'/empty' holds no metadata: mount"), ENOENT);
        CHECK_RC(start_saying(&r, "/none", false, "'/none' does not exist: mount"), ENOENT);
    }
    /* A backup without the file that is only ever locked. */
    x.path = "/meta/lock";
    loop_sim_enter(env.loop, remove_file, &x);
    CHECK_OK(start_other(&r, "/meta", false));
    loop_sim_kill(env.loop);
    r.m = NULL;
    rig_close(&r);
}

struct identity_cut {
    struct rig *rig;
    struct disk *disk;
    uint8_t *bytes;
    size_t len, cut;
};
static void cut_identity(void *ctx)
{
    struct identity_cut *x = ctx;
    void *bytes = x->bytes;
    if (bytes == NULL) {
        CHECK_OK(disk_load(x->disk, "/meta/identity", 4096, &bytes, &x->len));
        x->bytes = bytes;
    }
    CHECK_OK(disk_store(x->disk, "/meta/identity", x->bytes, x->cut));
}
TEST(every_cut_of_the_identity_is_refused)
{
    struct rig r;
    rig_ready(&r, 0, testing_seed());
    rig_stop(&r);
    struct env env;
    struct identity_cut x = {.rig = &r, .len = 1};
    rig_process(&r, "cutter", 1, &env);
    CHECK_OK(disk_sim_open(r.disk, env.loop, &x.disk));
    for (; x.cut < x.len; x.cut++) {
        loop_sim_enter(env.loop, cut_identity, &x);
        CHECK_ERR(start_other(&r, "/meta", true), ERR_corrupt);
    }
    CHECK_EQ(x.cut, 48);
    loop_sim_enter(env.loop, cut_identity, &x);
    CHECK_OK(start_other(&r, "/meta", true));
    loop_sim_kill(env.loop);
    r.m = NULL;
    rig_close(&r);
}

/* W goes to S: the holder is asked, the newcomer waits for its last word. */
TEST(write_authority_is_shared_after_the_holder_has_flushed)
{
    struct rig r;
    rig_ready(&r, 2, testing_seed());
    struct rig_client *a = &r.client[0], *b = &r.client[1];
    struct proto_create_request q = rig_file(a, "f", NULL);
    CHECK_OK(rig_call(a, PROTO_OP_create, &q));
    const struct proto_create_reply *made = a->reply;
    uint64_t ino = made->attr.ino, epoch = made->cap_epoch;
    CHECK_EQ(made->mode, PROTO_OPEN_W);
    struct proto_wopen_request w = {.op = rig_op(b, 0), .ino = ino, .try_only = true};
    b->flags = PEER_CALL_RAW;
    CHECK_ERR(rig_call(b, PROTO_OP_wopen, &w), EAGAIN); /* W or nothing */
    w.try_only = false;
    CHECK_OK(rig_call(b, PROTO_OP_wopen, &w));
    CHECK_EQ(((struct proto_wopen_reply *)b->reply)->mode, PROTO_OPEN_S);
    CHECK_TRUE(!((struct proto_wopen_reply *)b->reply)->shared_now);
    rig_run(&r, RIG_SECOND);
    CHECK_EQ(a->recalls, 1);
    CHECK_EQ(a->recalled_ino, ino);
    CHECK_EQ(b->shared, 0);
    struct proto_lease_return_request back = {.op = rig_op(a, 0),
                                              .has_final = true,
                                              .ino = ino,
                                              .cap_epoch = epoch,
                                              .keep = {.at = &ino, .count = 1}};
    CHECK_OK(rig_call(a, PROTO_OP_lease_return, &back));
    rig_run(&r, RIG_SECOND);
    CHECK_EQ(b->shared, 1);
    rig_over(&r);
}

/* A log that cannot be written ends the server; nothing that it answered is lost. */
TEST(a_failing_disk_ends_the_server)
{
    struct rig r;
    rig_ready(&r, 1, testing_seed());
    struct rig_client *c = &r.client[0];
    struct proto_create_request q = rig_file(c, "before", "1");
    CHECK_OK(rig_call(c, PROTO_OP_create, &q));
    disk_sim_fail(r.disk, DISK_SYNC, "log", 1, 0, -EIO);
    disk_sim_fail(r.disk, DISK_WRITE, "log", 1, 0, -EIO);
    struct proto_create_request late = rig_file(c, "after", "2");
    c->flags = 0;
    c->timeout_ms = 500;
    CHECK_TRUE(rig_call(c, PROTO_OP_create, &late) < 0);
    CHECK_EQ(r.ended, 1);
    CHECK_TRUE(r.ended_rc < 0);
    disk_sim_heal(r.disk);
    rig_kill(&r);
    rig_serve(&r);
    c->timeout_ms = 0;
    c->flags = PEER_CALL_AGAIN;
    CHECK_TRUE(rig_lookup(c, "before").ino != 0);
    CHECK_OK(rig_call(c, PROTO_OP_create, &late)); /* the same sequence goes on */
    rig_over(&r);
}

/* Without room for the log changes are refused, reading goes on, sessions can be opened; later the
 * same sequence goes on. */
TEST(a_full_disk_refuses_changes)
{
    struct rig r;
    rig_ready(&r, 1, testing_seed());
    struct rig_client *c = &r.client[0];
    static char big[4000];
    memset(big, 'x', sizeof big - 1);
    disk_sim_capacity(r.disk, disk_sim_used_bytes(r.disk) + 4096);
    int rc = 0;
    c->flags = PEER_CALL_RAW;
    struct proto_create_request q;
    char name[16];
    for (unsigned i = 0; i < 20000 && rc == 0; i++) {
        (void)snprintf(name, sizeof name, "f%u", i);
        q = rig_file(c, name, big);
        rc = rig_call(c, PROTO_OP_create, &q);
    }
    CHECK_ERR(rc, ERR_log_full);
    CHECK_EQ(r.ended, 0);
    CHECK_TRUE(rig_lookup(c, "f0").ino != 0);
    CHECK_EQ(rig_lookup(c, name).ino, 0); /* surely not executed */
    rig_client_ready(&r, 1);
    CHECK_TRUE(rig_lookup(&r.client[1], "f0").ino != 0);
    disk_sim_capacity(r.disk, 0);
    rig_run(&r, UINT64_C(2000) * METANODE_NS_PER_MS); /* by itself */
    CHECK_OK(rig_call(c, PROTO_OP_create, &q));
    rig_kill(&r);
    rig_serve(&r);
    CHECK_TRUE(rig_lookup(c, name).ino != 0);
    rig_over(&r);
}

/* Sessions that nobody uses any more end by themselves, in the log. */
TEST(silent_sessions_end)
{
    struct rig r;
    rig_new(&r, testing_seed());
    r.opt.session_keep_ms = UINT64_C(24) * 5000;
    rig_serve(&r);
    rig_client_ready(&r, 0);
    rig_client_ready(&r, 1);
    r.client[1].session = 0; /* its process goes on without it */
    loop_sim_pause(r.client[1].env.loop, true);
    rig_keep_alive(&r, &r.client[0], 60);
    CHECK_EQ(r.m->sessions.by_id.count, 2); /* stateful ones are kept long */
    rig_keep_alive(&r, &r.client[0], 70);
    CHECK_EQ(r.m->sessions.by_id.count, 1);
    rig_kill(&r);
    rig_serve(&r);
    CHECK_EQ(r.m->sessions.by_id.count, 1);
    rig_over(&r);
}

TEST(administrators_see_and_end_it)
{
    struct rig r;
    rig_ready(&r, 0, testing_seed());
    rig_admin_start(&r, 0);
    struct rig_client *c = &r.client[0];
    struct proto_status_request status = {.format = PROTO_FORMAT_TEXT};
    CHECK_OK(rig_call(c, PROTO_OP_status, &status));
    CHECK_TRUE(((struct proto_status_reply *)c->reply)->body.len > 50);
    struct proto_stats_request stats = {.format = PROTO_FORMAT_PROMETHEUS};
    CHECK_OK(rig_call(c, PROTO_OP_stats, &stats));
    struct proto_target_add_request add = {.uuid = {{5}}, .weight = 7};
    CHECK_OK(rig_call(c, PROTO_OP_target_add, &add));
    CHECK_RC(rig_call(c, PROTO_OP_target_add, &add), EEXIST);
    struct proto_target_set_request set = {
        .target = 1, .mask = PROTO_TARGET_SET_WEIGHT, .weight = 3};
    CHECK_OK(rig_call(c, PROTO_OP_target_set, &set));
    struct proto_target_list_request list = {0};
    CHECK_OK(rig_call(c, PROTO_OP_target_list, &list));
    const struct proto_target_list_reply *targets = c->reply;
    CHECK_EQ(targets->targets.count, 1);
    CHECK_EQ(targets->targets.at[0].weight, 3);
    struct proto_shutdown_request shutdown = {0};
    CHECK_OK(rig_call(c, PROTO_OP_shutdown, &shutdown));
    CHECK_EQ(r.ended, 1);
    CHECK_OK(r.ended_rc);
    rig_over(&r);
}
