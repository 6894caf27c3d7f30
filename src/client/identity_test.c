#include "client/client.h"

#include "client/fake_world_priv.h"
#include "testing/testing.h"

/* Operations on behalf of several users, and on inodes by their number. */

struct who {
    struct world *w;
    uint32_t uid, groups[2];
    struct opendfs_identity *as;
    int rc;
};

static void who_enter(void *ctx)
{
    struct who *x = ctx;
    x->rc = client_identity_get(x->w->fs, x->uid, x->uid + 1, x->groups, 2, &x->as);
}

static void who_leave(void *ctx)
{
    struct who *x = ctx;
    client_identity_put(x->w->fs, x->as);
}

static struct opendfs_identity *who_get(struct world *w, uint32_t uid)
{
    struct who x = {.w = w, .uid = uid, .groups = {4, uid}};
    loop_sim_enter(w->client_loop, who_enter, &x);
    CHECK(x.rc == 0);
    return x.as;
}

static void who_put(struct world *w, struct opendfs_identity *as)
{
    struct who x = {.w = w, .as = as};
    loop_sim_enter(w->client_loop, who_leave, &x);
}

static int make_as(struct world *w, struct opendfs_identity *as, const char *path)
{
    opendfs_async_mkdir(w->fs, world_op(w), path, 0777);
    w->op.as = as;
    w->op.umask = 027;
    return world_wait(w);
}

static int stat_as(struct world *w, struct opendfs_identity *as, uint64_t ino)
{
    opendfs_async_stat(w->fs, world_op(w), "");
    w->op.as = as;
    w->op.at = ino;
    return world_wait(w);
}

TEST(each_user_is_registered_once_and_named)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    struct opendfs_identity *anna = who_get(&w, 2001), *bert = who_get(&w, 2002);
    CHECK_TRUE(who_get(&w, 2001) == anna);
    who_put(&w, anna);
    CHECK_OK(DO(&w, mkdir, "/own", 0755));
    CHECK_EQ(w.op.stat.uid, 1000);
    CHECK_EQ(w.cluster->people.registered, 1); /* nobody is told of before he does something */
    for (unsigned i = 0; i < 3; i++) {
        char path[16];
        snprintf(path, sizeof path, "/a%u", i);
        CHECK_OK(make_as(&w, anna, path));
        CHECK_EQ(w.op.stat.uid, 2001);
        CHECK_EQ(w.cluster->umask, 027);
        uint64_t ino = w.op.stat.ino;
        CHECK_OK(stat_as(&w, bert, ino));
        CHECK_EQ(w.op.stat.ino, ino);
        CHECK_EQ(w.cluster->people.asked_by, 2002);
        CHECK_OK(stat_as(&w, NULL, ino));
        CHECK_EQ(w.cluster->people.asked_by, 1000);
    }
    CHECK_EQ(w.cluster->people.registered, 3);
    CHECK_EQ(w.cluster->people.cred[1].gid, 2002);
    CHECK_EQ(w.cluster->people.cred[1].group_count, 2);
    who_put(&w, anna);
    who_put(&w, bert);
    CHECK_TRUE(who_get(&w, 2001) == anna); /* kept for who asks again */
    CHECK_OK(make_as(&w, anna, "/again"));
    CHECK_EQ(w.cluster->people.registered, 3);
    who_put(&w, anna);
    world_close(&w);
}

TEST(users_are_registered_anew_in_a_new_session)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    struct opendfs_identity *anna = who_get(&w, 2001);
    CHECK_OK(make_as(&w, anna, "/a"));
    uint64_t ino = w.op.stat.ino;
    memset(w.cluster->session, 0, sizeof w.cluster->session);
    CHECK_OK(make_as(&w, anna, "/b"));
    CHECK_EQ(w.op.stat.uid, 2001);
    CHECK_EQ(w.cluster->people.registered, 4);
    memset(w.cluster->session, 0, sizeof w.cluster->session);
    world_run(&w, 10 * SECOND); /* found by a renewal */
    CHECK_OK(stat_as(&w, anna, ino));
    CHECK_EQ(w.cluster->people.asked_by, 2001);
    CHECK_EQ(w.cluster->people.registered, 6);
    who_put(&w, anna);
    world_close(&w);
}

/* Queries that wait for a server when their session is lost are asked in the new one's names. */
TEST(queries_under_way_find_their_user_in_the_new_session)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    struct opendfs_identity *anna = who_get(&w, 2001);
    CHECK_OK(make_as(&w, anna, "/a"));
    uint64_t ino = w.op.stat.ino;
    world_kill(&w, 0);
    opendfs_async_stat(w.fs, world_op(&w), "");
    w.op.as = anna;
    w.op.at = ino;
    world_run(&w, 3 * SECOND);
    CHECK_TRUE(!w.done);
    memset(w.cluster->session, 0, sizeof w.cluster->session);
    w.cluster->people.count = 0;
    world_node(&w, 0);
    CHECK_OK(world_wait(&w));
    CHECK_EQ(w.op.stat.ino, ino);
    CHECK_EQ(w.cluster->people.asked_by, 2001);
    who_put(&w, anna);
    world_close(&w);
}

TEST(a_user_who_is_refused_is_told_and_nobody_else)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    struct opendfs_identity *anna = who_get(&w, 2001);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    uint64_t ino = w.op.stat.ino;
    w.cluster->meta_fault_op = PROTO_OP_credential;
    w.cluster->meta_fault = (struct fake_fault){.rc = -ERR_many_credentials, .count = 1};
    CHECK_EQ(make_as(&w, anna, "/e"), -ENFILE);
    CHECK_TEXT(w.op.error, "/e: the session has all the users and groups it may");
    CHECK_EQ(stat_as(&w, anna, ino), -ENFILE);
    CHECK_OK(DO(&w, stat, "/d"));
    w.cluster->meta_fault.rc = -ERR_busy; /* that passes: it waits */
    w.fs->timeout_ms = 3000;
    CHECK_EQ(stat_as(&w, anna, ino), -ETIMEDOUT);
    CHECK_EQ(make_as(&w, anna, "/e"), -ETIMEDOUT);
    w.fs->timeout_ms = 0;
    w.cluster->meta_fault.count = 0;
    CHECK_OK(make_as(&w, anna, "/e"));
    who_put(&w, anna);
    world_close(&w);
}

/* An operation that is given up leaves nothing that waits. */
TEST(who_waits_for_a_user_can_be_cancelled)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    struct opendfs_identity *anna = who_get(&w, 2001);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    w.cluster->meta_fault_op = PROTO_OP_credential;
    w.cluster->meta_fault = (struct fake_fault){.rc = -ERR_busy, .count = 1};
    opendfs_async_stat(w.fs, world_op(&w), "");
    w.op.at = w.op.stat.ino == 0 ? PROTO_ROOT_INO : w.op.stat.ino;
    w.op.as = anna;
    world_run(&w, SECOND);
    opendfs_async_cancel(w.fs, &w.op);
    CHECK_EQ(world_wait(&w), -ECANCELED);
    opendfs_async_mkdir(w.fs, world_op(&w), "/e", 0755);
    w.op.as = anna;
    world_run(&w, SECOND);
    opendfs_async_cancel(w.fs, &w.op);
    CHECK_EQ(world_wait(&w), -ECANCELED);
    who_put(&w, anna);
    world_close(&w);
}

TEST(users_that_nobody_needs_are_forgotten_at_last)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    for (uint32_t i = 0; i < CLIENT_IDENTITIES_IDLE + 100; i++) {
        who_put(&w, who_get(&w, 5000 + i));
    }
    CHECK_EQ(w.fs->identities.idle_count, CLIENT_IDENTITIES_IDLE);
    CHECK_EQ(w.fs->identities.dict.count, CLIENT_IDENTITIES_IDLE);
    world_close(&w);
}

/* Names in two directories known by number, and inodes without a name. */
TEST(inodes_are_named_by_number)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    uint64_t d = w.op.stat.ino;
    CHECK_OK(DO(&w, mkdir, "/e", 0755));
    uint64_t e = w.op.stat.ino;
    struct opendfs_stat v = {.mode = 0640};
    CHECK_OK(DO(&w, create, "/d/f", &v, 0, "hello", 5));
    uint64_t f = w.op.stat.ino;
    opendfs_async_rename(w.fs, world_op(&w), "f", "g", 0);
    w.op.at = d;
    w.op.at_to = e;
    CHECK_OK(world_wait(&w));
    CHECK_OK(DO(&w, stat, "/e/g"));
    CHECK_EQ(w.op.stat.ino, f);
    opendfs_async_open(w.fs, world_op(&w), "", OPENDFS_READ, 0);
    w.op.at = f;
    CHECK_OK(world_wait(&w));
    char text[8] = "";
    CHECK_EQ(DO(&w, pread, w.op.file, text, sizeof text, 0), 5);
    CHECK_TEXT(text, "hello");
    CHECK_OK(DO(&w, close, w.op.file, NULL, 0));
    world_close(&w);
}

/* Set-id bits do not outlive what others than root write, whoever tells of it. */
static void write_as(struct world *w, struct opendfs_identity *as, unsigned flags)
{
    opendfs_async_open(w->fs, world_op(w), "/f", OPENDFS_WRITE | flags, 0644);
    w->op.as = as;
    CHECK_OK(world_wait(w));
    struct opendfs_file *f = w->op.file;
    CHECK_EQ(DO(w, pwrite, f, "x", 1, 0), 1);
    CHECK_OK(DO(w, fstat, f));
    CHECK_OK(DO(w, close, f, NULL, 0));
}

/* As install and tar do it: what is set after the writing stands. */
TEST(a_mode_that_is_set_keeps_its_set_id_bits_though_what_was_written_before_is_told_later)
{
    struct world w;
    world_open(&w, testing_seed());
    w.opt.uid = 0;
    world_start(&w);
    struct opendfs_identity *anna = who_get(&w, 2001);
    opendfs_async_open(w.fs, world_op(&w), "/f", OPENDFS_WRITE | OPENDFS_CREATE, 0644);
    w.op.as = anna;
    CHECK_OK(world_wait(&w));
    struct opendfs_file *f = w.op.file;
    CHECK_EQ(DO(&w, pwrite, f, "x", 1, 0), 1);
    const struct opendfs_stat v = {.mode = 04755};
    CHECK_OK(DO(&w, setattr, "/f", &v, OPENDFS_SET_MODE));
    CHECK_EQ(w.op.stat.mode, 04755);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_TRUE((w.cluster->commit_flags & PROTO_COMMIT_KILL_PRIV) == 0);
    who_put(&w, anna);
    world_close(&w);
}

TEST(who_is_not_root_takes_set_id_bits_away)
{
    struct world w;
    world_open(&w, testing_seed());
    w.opt.uid = 0;
    world_start(&w);
    struct opendfs_identity *anna = who_get(&w, 2001);
    write_as(&w, NULL, OPENDFS_CREATE);
    CHECK_TRUE((w.cluster->commit_flags & PROTO_COMMIT_KILL_PRIV) == 0);
    const struct opendfs_stat all = {.mode = 06777};
    CHECK_OK(DO(&w, setattr, "/f", &all, OPENDFS_SET_MODE));
    write_as(&w, NULL, 0);
    CHECK_EQ(w.op.stat.mode, 06777);
    write_as(&w, anna, 0);
    CHECK_TRUE((w.cluster->commit_flags & PROTO_COMMIT_KILL_PRIV) != 0);
    CHECK_TRUE((w.cluster->commit_flags & PROTO_COMMIT_OUTSIDER) != 0);
    fake_path(w.cluster, "f")->attr.gid = anna->gid; /* of her group set-gid may stay */
    write_as(&w, anna, 0);
    CHECK_TRUE((w.cluster->commit_flags & PROTO_COMMIT_KILL_PRIV) != 0);
    CHECK_TRUE((w.cluster->commit_flags & PROTO_COMMIT_OUTSIDER) == 0);
    write_as(&w, NULL, 0);
    CHECK_TRUE((w.cluster->commit_flags & PROTO_COMMIT_KILL_PRIV) == 0);
    who_put(&w, anna);
    world_close(&w);
}
