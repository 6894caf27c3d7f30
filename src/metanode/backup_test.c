/*
 * metanode/backup_test.c -- backups that administrators read while others change things, and what a
 * server is that begins with one: everything that was there, no session, no number given twice.
 */
#include "metanode/metanode_priv.h"

#include "kv/image_file.h"
#include "metanode/restore.h"
#include "metanode/rig_image_priv.h"
#include "metanode/rig_orphan_priv.h"
#include "metanode/rig_session_priv.h"
#include "metanode/rig_target_priv.h"
#include "testing/testing.h"

#define ADMIN 1u
#define BACKUP "/backup"

struct reader {
    struct rig_client *c;
    uint64_t id, offset, index;
    uint8_t *bytes;
    size_t len, capacity;
    bool last;
};

static int create(struct rig *r, const char *name, uint64_t *ret_ino)
{
    struct proto_create_request q = rig_file(&r->client[0], name, "content of it");
    r->client[0].flags = PEER_CALL_AGAIN;
    int rc = rig_call(&r->client[0], PROTO_OP_create, &q);
    *ret_ino = rc == 0 ? ((struct proto_create_reply *)r->client[0].reply)->attr.ino : 0;
    return rc;
}

static void create_many(struct rig *r, const char *prefix, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char name[32];
        uint64_t ino;
        snprintf(name, sizeof name, "%s%u", prefix, i);
        CHECK_OK(create(r, name, &ino));
    }
}

static int reader_open(struct reader *x, struct rig_client *c)
{
    struct proto_backup_open_request q = {};
    *x = (struct reader){.c = c};
    int rc = rig_call(c, PROTO_OP_backup_open, &q);
    if (rc == 0) {
        const struct proto_backup_open_reply *reply = c->reply;
        x->id = reply->id;
        x->index = reply->index;
    }
    return rc;
}

static int reader_piece(struct reader *x, uint64_t offset)
{
    struct proto_backup_read_request q = {.id = x->id, .offset = offset};
    int rc = rig_call(x->c, PROTO_OP_backup_read, &q);
    if (rc < 0) {
        return rc;
    }
    const struct proto_backup_read_reply *reply = x->c->reply;
    CHECK_EQ(reply->offset, offset);
    CHECK_OK(mem_grow(&x->bytes, &x->capacity, offset + reply->piece.len, 1));
    memcpy(x->bytes + offset, reply->piece.at, reply->piece.len);
    x->offset = offset;
    x->len = offset + reply->piece.len;
    x->last = reply->last;
    return 0;
}

static void reader_all(struct reader *x)
{
    while (!x->last) {
        CHECK_OK(reader_piece(x, x->len));
    }
}

static void ready(struct rig *r)
{
    rig_ready(r, 1, testing_seed());
    rig_admin_start(r, ADMIN);
}

/* Into a process that lives as long as the test. */
static void tool_start(struct rig *r, struct env *env)
{
    rig_process(r, "tool", 1, env);
    CHECK_OK(disk_sim_open(r->disk, env->loop, &env->disk));
}

static void store(struct rig *r, struct env *env, const struct reader *x)
{
    struct kv_image_info info;
    tool_start(r, env);
    CHECK_OK(disk_store(env->disk, BACKUP, x->bytes, x->len));
    CHECK_OK(kv_image_file_verify(env->disk, BACKUP, &info, &r->err));
    CHECK_EQ(info.index, x->index);
}

TEST(a_backup_is_the_state_of_its_beginning_whatever_happens_meanwhile)
{
    struct rig r;
    struct reader x;
    struct env tool;
    struct kv_image_file f;
    struct kv_slice key, value;
    ready(&r);
    create_many(&r, "before", 30);
    uint64_t records = 0;
    struct kv_snapshot *s;
    CHECK_OK(kv_snapshot_new(r.m->kv, &s));
    CHECK_OK(reader_open(&x, &r.client[ADMIN]));
    for (unsigned i = 0; !x.last; i++) {
        CHECK_OK(reader_piece(&x, x.len));
        CHECK_OK(reader_piece(&x, x.offset)); /* the same piece once more */
        create_many(&r, i == 0 ? "meanwhile" : "later", i < 2 ? 5 : 0);
        net_sim_reset(r.net, 1, 10 + ADMIN);
    }
    store(&r, &tool, &x);
    CHECK_OK(kv_image_file_open(tool.disk, BACKUP, &f, &r.err));
    while (kv_image_file_next(&f, &key, &value, &r.err) == 1) {
        struct kv_need need = {0};
        struct kv_slice got;
        int rc = kv_get(s, key, &need, &got);
        while (rc == -ERR_need) { /* the engine pretends; the next time it may not */
            kv_need_release(&need);
            rc = kv_get(s, key, &need, &got);
        }
        CHECK_EQ(rc, 1);
        CHECK_EQ(got.len, value.len);
        CHECK_BYTES(got.at, value.at, value.len);
        kv_need_release(&need);
        records++;
    }
    CHECK_EQ(records, f.reader.records);
    CHECK_TRUE(records > 60);
    kv_image_file_close(&f);
    kv_snapshot_free(s);
    struct proto_backup_close_request close = {.id = x.id};
    CHECK_OK(rig_call(x.c, PROTO_OP_backup_close, &close));
    CHECK_OK(rig_call(x.c, PROTO_OP_backup_close, &close));
    CHECK_RC(reader_piece(&x, 0), ESTALE);
    mem_free(x.bytes);
    loop_sim_kill(tool.loop);
    rig_over(&r);
}

/* It is of one moment: when the engine does not keep that any more, it has to begin again, as tools
 * do. */
TEST(a_backup_whose_snapshot_is_given_up_begins_again)
{
    struct rig r;
    unsigned gone = 0;
    ready(&r);
    create_many(&r, "file", 60);
    for (unsigned i = 0; i < 12; i++) {
        struct reader x;
        int rc = -ESTALE;
        fault_arm(r.fault, "tree.snapshot", rand_range(&r.rand, 1, 60), 1);
        for (unsigned tries = 0; rc == -ESTALE; tries++) {
            CHECK_TRUE(tries < 3);
            CHECK_OK(reader_open(&x, &r.client[ADMIN]));
            rc = reader_piece(&x, 0);
            while (rc == 0 && !x.last) {
                rc = reader_piece(&x, x.len);
            }
            gone += rc == -ESTALE ? 1 : 0;
            struct proto_backup_close_request close = {.id = x.id};
            CHECK_OK(rig_call(x.c, PROTO_OP_backup_close, &close));
            mem_free(x.bytes);
        }
        CHECK_OK(rc);
    }
    fault_disarm(r.fault, NULL);
    CHECK_TRUE(r.opt.engine != METANODE_ENGINE_TREE || gone > 0);
    rig_over(&r);
}

TEST(backups_are_few_and_end_when_nobody_asks)
{
    struct rig r;
    struct reader x[METANODE_BACKUPS_MAX], more;
    ready(&r);
    for (unsigned i = 0; i < METANODE_BACKUPS_MAX; i++) {
        CHECK_OK(reader_open(&x[i], &r.client[ADMIN]));
    }
    r.client[ADMIN].flags = PEER_CALL_RAW;
    CHECK_RC(reader_open(&more, &r.client[ADMIN]), ERR_busy);
    CHECK_OK(reader_piece(&x[0], 0));
    CHECK_RC(reader_piece(&x[0], 1), EINVAL);
    rig_run(&r, 25 * RIG_SECOND);
    CHECK_OK(reader_piece(&x[0], 0));
    rig_run(&r, 10 * RIG_SECOND);
    CHECK_OK(reader_piece(&x[0], 0));
    CHECK_RC(reader_piece(&x[1], 0), ESTALE);
    CHECK_OK(reader_open(&x[1], &r.client[ADMIN]));
    rig_run(&r, 60 * RIG_SECOND);
    CHECK_RC(reader_piece(&x[0], 0), ESTALE);
    mem_free(x[0].bytes);
    mem_free(x[1].bytes);
    rig_over(&r); /* nothing is left of them */
}

TEST(only_administrators_get_a_backup)
{
    struct rig r;
    struct reader x;
    rig_ready(&r, 1, testing_seed());
    r.client[0].flags = PEER_CALL_RAW;
    CHECK_TRUE(reader_open(&x, &r.client[0]) < 0);
    rig_over(&r);
}

/* ---- restore ---- */

static int restore(struct rig *r, const struct env *tool, const char *to,
                   struct metanode_restored *d)
{
    struct metanode_restore opt = {.env = tool,
                                   .backup = BACKUP,
                                   .directory = to,
                                   .cluster_id = &r->cluster,
                                   .engine = r->opt.engine,
                                   .need_permille = 300,
                                   .busy_permille = 300};
    r->err = (struct err){0};
    return metanode_restore(&opt, d, &r->err);
}

static bool client_has_resumed(void *ctx)
{
    const struct rig *r = ctx;
    return !peer_call_active(&r->client[0].resume_call);
}

TEST(a_server_that_begins_with_a_backup_has_what_was_there_and_fools_nobody)
{
    struct rig r;
    struct reader x;
    struct env tool;
    struct metanode_restored done;
    uint64_t old_ino = 0, ino = 0;
    ready(&r);
    create_many(&r, "before", 30);
    CHECK_OK(reader_open(&x, &r.client[ADMIN]));
    reader_all(&x);
    create_many(&r, "after", 20);
    CHECK_OK(create(&r, "newest", &old_ino));
    uint64_t old_session = r.client[0].session, old_term = r.m->term;
    rig_kill(&r);
    store(&r, &tool, &x);
    CHECK_OK(restore(&r, &tool, "/restored", &done));
    CHECK_EQ(done.index, x.index);
    CHECK_EQ(done.sessions, 1);
    CHECK_RC(restore(&r, &tool, "/restored", &done), ENOTEMPTY);
    loop_sim_kill(tool.loop);
    disk_sim_crash(r.disk); /* all of it is durable */
    loop_sim_reboot(r.sim, 1);
    r.opt.directory = "/restored";
    r.opt.create = false;
    rig_serve(&r);
    CHECK_TRUE(r.m->term > old_term);
    CHECK_TRUE(rig_until(&r, client_has_resumed, &r)); /* or has been told that it cannot */
    CHECK_EQ(r.client[0].resumes, 0);
    CHECK_RC(rig_resume(&r.client[0]), ERR_session_expired);
    rig_open(&r.client[0]);
    CHECK_TRUE(r.client[0].session > old_session);
    for (unsigned i = 0; i < 30; i++) {
        char name[32];
        snprintf(name, sizeof name, "before%u", i);
        CHECK_TRUE(rig_lookup(&r.client[0], name).ino != 0);
    }
    CHECK_EQ(rig_lookup(&r.client[0], "after0").ino, 0);
    memset(r.client[0].sequence, 0, sizeof r.client[0].sequence);
    CHECK_OK(create(&r, "newest", &ino));
    CHECK_TRUE(ino != 0);
    create_many(&r, "more", 10);
    rig_kill(&r);
    rig_serve(&r); /* its log goes on behind the state */
    CHECK_TRUE(rig_lookup(&r.client[0], "more9").ino != 0);
    mem_free(x.bytes);
    rig_over(&r);
}

#define LARGE_FILES 400u /* of 4 KiB: more than goes into one batch */

TEST(a_backup_that_is_larger_than_a_batch_is_restored_whole)
{
    struct rig r;
    struct reader x;
    struct env tool;
    struct metanode_restored done;
    char content[4000], name[32];
    ready(&r);
    for (unsigned i = 0; i < LARGE_FILES; i++) {
        memset(content, 'a' + (int)(i % 26), sizeof content - 1);
        content[sizeof content - 1] = 0;
        snprintf(name, sizeof name, "large%u", i);
        struct proto_create_request q = rig_file(&r.client[0], name, content);
        r.client[0].flags = PEER_CALL_AGAIN;
        CHECK_OK(rig_call(&r.client[0], PROTO_OP_create, &q));
    }
    CHECK_OK(reader_open(&x, &r.client[ADMIN]));
    reader_all(&x);
    rig_kill(&r);
    store(&r, &tool, &x);
    CHECK_OK(restore(&r, &tool, "/restored", &done));
    CHECK_TRUE(done.records > 2 * LARGE_FILES);
    loop_sim_kill(tool.loop);
    r.opt.directory = "/restored";
    r.opt.create = false;
    rig_serve(&r);
    rig_open(&r.client[0]);
    for (unsigned i = 0; i < LARGE_FILES; i++) {
        snprintf(name, sizeof name, "large%u", i);
        CHECK_EQ(rig_lookup(&r.client[0], name).size, sizeof content - 1);
        const struct proto_lookup_reply *reply = r.client[0].reply;
        CHECK_EQ(reply->data.len, sizeof content - 1);
        CHECK_EQ(reply->data.at[7], 'a' + (int)(i % 26));
    }
    mem_free(x.bytes);
    rig_over(&r);
}

/* ---- data nodes that went on meanwhile ---- */

/* All chains have two serving members, which know their newest rows. */
static bool chains_serve(void *ctx)
{
    const struct rig *r = ctx;
    bool all = r->m->chains.count > 0;
    for (unsigned i = 0; i < 2; i++) {
        const struct rig_target *t = &r->target[i];
        all = all && t->leased && t->row_count == r->m->chains.count;
        for (size_t k = 0; k < t->row_count && all; k++) {
            const struct metanode_chain *c = metanode_chain_find(r->m, t->row[k].chain);
            all = c != NULL && cluster_row_serving_count(&c->row) == 2 &&
                  t->row[k].epoch == c->row.epoch;
        }
    }
    return all;
}

/* Their rows are newer than those of the backup, and they take only newer ones. */
TEST(data_nodes_follow_a_server_that_was_restored)
{
    struct rig r;
    struct reader x;
    struct env tool;
    struct metanode_restored done;
    ready(&r);
    rig_target_start(&r, 0, false);
    rig_target_start(&r, 1, false);
    CHECK_TRUE(rig_until(&r, chains_serve, &r));
    CHECK_OK(reader_open(&x, &r.client[ADMIN]));
    reader_all(&x);
    rig_target_kill(&r, 1); /* the epochs go on */
    rig_run(&r, 10 * RIG_SECOND);
    rig_target_start(&r, 1, false);
    CHECK_TRUE(rig_until(&r, chains_serve, &r));
    uint32_t epoch = r.target[0].row[0].epoch;
    CHECK_TRUE(epoch > 1);
    rig_kill(&r);
    store(&r, &tool, &x);
    CHECK_OK(restore(&r, &tool, "/restored", &done));
    loop_sim_kill(tool.loop);
    r.opt.directory = "/restored";
    r.opt.create = false;
    rig_serve(&r);
    CHECK_TRUE(rig_until(&r, chains_serve, &r));
    for (unsigned i = 0; i < 2; i++) {
        for (size_t k = 0; k < r.target[i].row_count; k++) {
            CHECK_TRUE(r.target[i].row[k].epoch > epoch + 1000);
        }
    }
    mem_free(x.bytes);
    rig_over(&r);
}

/* What was made after the backup looks like nobody's: a newer backup may still be found. */
TEST(data_of_files_that_a_restored_server_does_not_know_is_kept)
{
    struct rig r;
    struct reader x;
    struct env tool;
    struct metanode_restored done;
    static struct rig_held held[4];
    rig_orphans_ready(&r);
    rig_admin_start(&r, ADMIN);
    struct rig_client *c = &r.client[0];
    uint64_t id = rig_data_file(c, "before");
    CHECK_OK(reader_open(&x, &r.client[ADMIN]));
    reader_all(&x);
    CHECK_EQ(rig_data_file(c, "after"), id + 1);
    for (uint32_t i = 0; i < 2; i++) {
        held[i] = (struct rig_held){.data_id = id + i, .chain = 1};
    }
    rig_hold(&r, 0, held, 2);
    rig_hold(&r, 1, held, 2);
    rig_kill(&r);
    store(&r, &tool, &x);
    CHECK_OK(restore(&r, &tool, "/restored", &done));
    loop_sim_kill(tool.loop);
    r.opt.directory = "/restored";
    r.opt.create = false;
    rig_serve(&r);
    CHECK_TRUE(rig_until(&r, chains_serve, &r) && rig_until(&r, client_has_resumed, &r));
    rig_open(c);
    memset(c->sequence, 0, sizeof c->sequence);
    uint64_t next = rig_data_file(c, "newer"); /* above all that was ever given */
    CHECK_TRUE(next > id + NAMESPACE_LEAP_LEAST);
    for (unsigned i = 0; i < 3; i++) {
        struct namespace_audit a = rig_look(&r);
        CHECK_TRUE(a.outcome == NAMESPACE_AUDIT_DONE && a.found == 0 && a.removed == 0);
        CHECK_EQ(a.held, 2); /* at two targets */
        rig_wait_looks(&r);
    }
    CHECK_TRUE(!rig_has_removed(&r, id) && !rig_has_removed(&r, id + 1));
    struct proto_status_request status = {.format = PROTO_FORMAT_TEXT};
    CHECK_OK(rig_call(c, PROTO_OP_status, &status));
    const struct proto_status_reply *m = c->reply;
    static const char words[] = "were leapt over by a restore";
    CHECK_TRUE(memmem(m->body.at, m->body.len, words, strlen(words)) != NULL);
    CHECK_RC(rig_audit_ask(c, PROTO_AUDIT_RELEASE, id + 1, id + 1), ENOENT);
    CHECK_OK(rig_audit_ask(c, PROTO_AUDIT_RELEASE, id + 1, next - 1));
    CHECK_EQ(rig_look(&r).found, 1);
    rig_wait_looks(&r);
    CHECK_EQ(rig_look(&r).removed, 1);
    rig_run(&r, 5 * RIG_SECOND);
    CHECK_TRUE(!rig_has_removed(&r, id) && rig_has_removed(&r, id + 1));
    mem_free(x.bytes);
    rig_over(&r);
}

TEST(a_backup_that_is_damaged_or_of_another_cluster_restores_nothing)
{
    struct rig r;
    struct reader x;
    struct env tool;
    struct metanode_restored done;
    ready(&r);
    create_many(&r, "before", 3);
    CHECK_OK(reader_open(&x, &r.client[ADMIN]));
    reader_all(&x);
    rig_kill(&r);
    store(&r, &tool, &x);
    CHECK_OK(disk_sim_corrupt(r.disk, BACKUP, x.len / 2, 1));
    CHECK_ERR(restore(&r, &tool, "/restored", &done), ERR_corrupt);
    CHECK_TRUE(strstr(r.err.text, BACKUP) != NULL);
    struct disk_req look = {.op = DISK_STAT, .path = "/restored"};
    CHECK_RC((int)disk_now(tool.disk, &look), ENOENT);
    CHECK_OK(disk_sim_corrupt(r.disk, BACKUP, x.len / 2, 1));
    r.cluster.bytes[0]++;
    CHECK_RC(restore(&r, &tool, "/restored", &done), ERR_wrong_cluster);
    r.cluster.bytes[0]--;
    CHECK_OK(restore(&r, &tool, "/restored", &done));
    mem_free(x.bytes);
    loop_sim_kill(tool.loop);
    rig_close(&r);
}

/* Whatever fails on the way, no server takes the directory. */
TEST(a_restore_that_fails_leaves_nothing_that_a_server_starts_on)
{
    static const enum disk_op ops[] = {DISK_WRITE, DISK_SYNC_ALL, DISK_RENAME, DISK_SYNC_DIR};
    struct rig r;
    struct reader x;
    struct env tool;
    struct metanode_restored done;
    ready(&r);
    create_many(&r, "before", 3);
    CHECK_OK(reader_open(&x, &r.client[ADMIN]));
    reader_all(&x);
    rig_kill(&r);
    store(&r, &tool, &x);
    unsigned failed = 0, whole = 0, tried = 0;
    for (unsigned k = 0; k < ARRAY_COUNT(ops); k++) {
        for (uint64_t nth = 1, again = 1; again != 0; nth++) {
            char to[32];
            snprintf(to, sizeof to, "/restored%u", tried++);
            disk_sim_fail(r.disk, ops[k], to, nth, 1, -EIO);
            again = restore(&r, &tool, to, &done) < 0;
            disk_sim_heal(r.disk);
            failed += again != 0;
            if (again != 0) { /* the very last sync fails: then all is there */
                r.opt.directory = to;
                r.opt.create = false;
                whole += rig_start(&r) == 0;
                CHECK_TRUE(r.rc < 0 || kv_applied_index(r.m->kv) > x.index);
                rig_kill(&r);
            }
        }
    }
    CHECK_TRUE(failed > 15 && whole <= 1);
    mem_free(x.bytes);
    loop_sim_kill(tool.loop);
    rig_close(&r);
}
