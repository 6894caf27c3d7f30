/*
 * namespace/rounds_test.c -- how often something is fetched when nothing is in memory: each round
 * is a read of a disk that others wait for. All that can be named is asked for together; how many
 * names a directory has, how many files a session leaves or the trash loses does not count.
 */
#include "testing/testing.h"

#include "namespace/fsck_run_priv.h"
#include "namespace/rig_fsck_priv.h"

#include <stdio.h>

#define MANY 1000u
#define DEPTH 5u
#define NOTHING_IN_MEMORY 1000u

static void world_open(struct rig *r)
{
    rig_open_needing(r, NOTHING_IN_MEMORY);
    rig_make_class(r, 4);
}

static unsigned fetches(struct rig *r)
{
    return r->replica[1].fetches;
}

/* The rounds of `call`, with nothing remembered of what was before. */
#define ROUNDS(r, call)                        \
    ({                                         \
        rig_restart_replica(&(r)->replica[1]); \
        unsigned rounds_before = fetches(r);   \
        CHECK_OK(call);                        \
        fetches(r) - rounds_before;            \
    })

static uint64_t make(struct rig *r, uint64_t parent, const char *name, uint8_t type, uint32_t flags)
{
    CHECK_OK(RIG_OP(r, create, .parent = parent, .name = rig_text(name), .type = type, .mode = 0755,
                    .flags = flags));
    return r->reply.result.ino;
}

static void make_many(struct rig *r, uint64_t parent, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "name%05u", i);
        (void)make(r, parent, name, PROTO_INODE_FILE, 0);
    }
}

static uint64_t make_deep(struct rig *r, uint64_t top, unsigned depth)
{
    for (unsigned i = 0; i < depth; i++) {
        top = make(r, top, "down", PROTO_INODE_DIRECTORY, 0);
    }
    return top;
}

/* So many at most: what it lacks at first, and then what that points to. */
#define CHECK_ROUNDS(r, most, call) CHECK_TRUE(ROUNDS((r), call) <= (most))

TEST(looking_at_names)
{
    struct rig r;
    struct proto_lookup_reply found;
    struct proto_getattr_reply attr;
    struct proto_dir_stats_reply stats;
    struct proto_walk_reply walk;
    struct proto_walk_name names[DEPTH];
    world_open(&r);
    uint64_t d = make(&r, 1, "d", PROTO_INODE_DIRECTORY, 0);
    make_many(&r, d, 10);
    (void)make_deep(&r, 1, DEPTH);
    struct proto_bytes name = rig_text("name00007");
    CHECK_ROUNDS(&r, 3, RIG_QUERY(&r, lookup, &found, .parent = d, .name = name));
    CHECK_ROUNDS(&r, 1, RIG_QUERY(&r, getattr, &attr, .ino = found.attr.ino));
    CHECK_ROUNDS(&r, 2, RIG_QUERY(&r, dir_stats, &stats, .ino = d));
    for (unsigned i = 0; i < DEPTH; i++) {
        names[i].name = rig_text("down");
    }
    CHECK_ROUNDS(&r, 2 * DEPTH + 1,
                 RIG_QUERY(&r, walk, &walk, .ino = 1, .names = {.at = names, .count = DEPTH}));
    CHECK_EQ(walk.steps.count, DEPTH);
    rig_close(&r);
}

TEST(a_page_of_a_directory_with_and_without_attributes)
{
    struct rig r;
    struct proto_readdir_reply page;
    world_open(&r);
    uint64_t d = make(&r, 1, "d", PROTO_INODE_DIRECTORY, 0);
    make_many(&r, d, MANY);
    CHECK_ROUNDS(&r, 2, RIG_QUERY(&r, readdir, &page, .ino = d));
    CHECK_EQ(page.entries.count, MANY);
    CHECK_ROUNDS(&r, 3, RIG_QUERY(&r, readdir, &page, .ino = d, .want_attr = true));
    CHECK_EQ(page.entries.count, MANY);
    CHECK_TRUE(page.entries.at[MANY - 1].has_attr && page.eof);
    CHECK_ROUNDS(
        &r, 3, RIG_QUERY(&r, readdir, &page, .ino = d, .want_attr = true, .max_entries = MANY / 2));
    CHECK_EQ(page.entries.count, MANY / 2);
    CHECK_ROUNDS(&r, 3,
                 RIG_QUERY(&r, readdir, &page, .ino = d, .want_attr = true,
                           .after = rig_text("name00499"), .max_entries = MANY));
    CHECK_EQ(page.entries.count, MANY - MANY / 2);
    rig_close(&r);
}

/* The state, the caller and the slot are three of these; and the way up is DEPTH of them. */
TEST(changes_of_names)
{
    struct rig r;
    world_open(&r);
    uint64_t d = make(&r, 1, "d", PROTO_INODE_DIRECTORY, 0);
    uint64_t e = make(&r, 1, "e", PROTO_INODE_DIRECTORY, 0);
    make_many(&r, d, 10);
    struct proto_bytes one = rig_text("one"), two = rig_text("two"), moved = rig_text("moved");
    CHECK_ROUNDS(&r, 5, RIG_OP(&r, create, .parent = d, .name = one, .type = PROTO_INODE_FILE));
    CHECK_ROUNDS(&r, 5, RIG_OP(&r, link, .ino = r.reply.result.ino, .parent = e, .name = two));
    CHECK_ROUNDS(&r, 7, RIG_OP(&r, unlink, .parent = d, .name = one));
    CHECK_ROUNDS(&r, 6,
                 RIG_OP(&r, rename, .parent = d, .name = rig_text("name00001"), .new_parent = e,
                        .new_name = moved));
    CHECK_ROUNDS(&r, 6,
                 RIG_OP(&r, rename, .parent = d, .name = rig_text("name00002"), .new_parent = e,
                        .new_name = moved));
    CHECK_ROUNDS(&r, 6,
                 RIG_OP(&r, rename, .parent = 1, .name = rig_text("d"), .new_parent = e,
                        .new_name = rig_text("d")));
    CHECK_ROUNDS(&r, 7, RIG_OP(&r, unlink, .parent = d, .name = rig_text("name00003")));
    (void)make(&r, e, "empty", PROTO_INODE_DIRECTORY, 0);
    CHECK_ROUNDS(&r, 6, RIG_OP(&r, rmdir, .parent = e, .name = rig_text("empty")));
    uint64_t deep = make_deep(&r, 1, DEPTH);
    CHECK_ROUNDS(&r, 4 + DEPTH,
                 RIG_OP(&r, create, .parent = deep, .name = one, .type = PROTO_INODE_FILE));
    rig_close(&r);
}

TEST(changes_of_files)
{
    struct rig r;
    world_open(&r);
    uint64_t d = make(&r, 1, "d", PROTO_INODE_DIRECTORY, 0);
    CHECK_ROUNDS(&r, 8,
                 RIG_OP(&r, create, .parent = d, .name = rig_text("f"), .type = PROTO_INODE_FILE,
                        .flags = PROTO_CREATE_WOPEN));
    uint64_t f = r.reply.result.ino;
    CHECK_ROUNDS(&r, 6,
                 RIG_OP(&r, commit, .ino = f, .cap_epoch = r.reply.result.cap_epoch, .size = 10000,
                        .flags = PROTO_COMMIT_RELEASE));
    CHECK_ROUNDS(&r, 6, RIG_OP(&r, wopen, .ino = f));
    CHECK_ROUNDS(&r, 7,
                 RIG_OP(&r, setattr, .ino = f, .mask = PROTO_SET_SIZE, .size = 5,
                        .cap_epoch = r.reply.result.cap_epoch));
    CHECK_ROUNDS(&r, 7, RIG_OP(&r, setattr, .ino = f, .mask = PROTO_SET_MODE, .mode = 0600));
    CHECK_ROUNDS(
        &r, 7, RIG_OP(&r, setxattr, .ino = f, .name = rig_text("user.x"), .value = rig_text("y")));
    rig_close(&r);
}

/* As the leader asks before it logs a change: nothing is remembered, the caller is read along. */
TEST(a_change_that_is_only_looked_at)
{
    struct rig r;
    struct namespace_reply reply;
    struct kv_batch batch = {0};
    world_open(&r);
    uint64_t d = make(&r, 1, "d", PROTO_INODE_DIRECTORY, 0);
    struct proto_create_request q = {
        .op = r.op, .parent = d, .name = rig_text("f"), .type = PROTO_INODE_FILE};
    rig_encode(&r, PROTO_OP_create, &proto_create_request_type, &q, true);
    CHECK_ROUNDS(
        &r, 4,
        RIG_VIEW(&r, namespace_check(NULL, &r.view, r.command, r.command_len, &batch, &reply)));
    CHECK_OK(reply.rc);
    kv_batch_fini(&batch);
    rig_close(&r);
}

/* But the way up is remembered by who has applied a change there before. */
TEST(a_way_that_is_known_is_not_read)
{
    struct rig r;
    struct namespace_reply reply;
    struct kv_batch batch = {0};
    world_open(&r);
    uint64_t deep = make_deep(&r, 1, 4 * DEPTH);
    struct proto_create_request q = {
        .op = r.op, .parent = deep, .name = rig_text("f"), .type = PROTO_INODE_FILE};
    rig_encode(&r, PROTO_OP_create, &proto_create_request_type, &q, true);
    unsigned rounds = ROUNDS(
        &r, RIG_VIEW(&r, namespace_check(NULL, &r.view, r.command, r.command_len, &batch, &reply)));
    CHECK_TRUE(rounds >= 4 * DEPTH);
    CHECK_ROUNDS(&r, 5,
                 RIG_VIEW(&r, namespace_check(r.replica[0].ns, &r.view, r.command, r.command_len,
                                              &batch, &reply)));
    CHECK_OK(reply.rc);
    CHECK_OK(rig_apply_bytes(&r, r.command, r.command_len));
    r.op.sequence++;
    uint64_t limited = make(&r, 1, "limited", PROTO_INODE_DIRECTORY, 0);
    CHECK_OK(RIG_OP(&r, set_quota, .ino = limited, .mask = PROTO_QUOTA_FILES,
                    .files_hard = 100)); /* all is forgotten */
    q.op = r.op;
    q.name = rig_text("g");
    rig_encode(&r, PROTO_OP_create, &proto_create_request_type, &q, true);
    rounds = ROUNDS(&r, RIG_VIEW(&r, namespace_check(r.replica[0].ns, &r.view, r.command,
                                                     r.command_len, &batch, &reply)));
    CHECK_TRUE(rounds >= 4 * DEPTH);
    kv_batch_fini(&batch);
    rig_close(&r);
}

TEST(the_trash_is_listed_and_purged_together)
{
    struct rig r;
    struct proto_trash_list_reply list;
    world_open(&r);
    uint64_t d = make(&r, 1, "d", PROTO_INODE_DIRECTORY, 0), inos[MANY / 10];
    CHECK_OK(RIG_OP(&r, setattr, .ino = d, .mask = PROTO_SET_RETENTION, .retention_s = 1));
    make_many(&r, d, MANY / 5);
    for (unsigned i = 0; i < MANY / 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "name%05u", i);
        CHECK_ROUNDS(&r, 7, RIG_OP(&r, unlink, .parent = d, .name = rig_text(name)));
    }
    CHECK_ROUNDS(&r, 3, RIG_QUERY(&r, trash_list, &list, .owner = PROTO_TRASH_ANYBODY));
    CHECK_EQ(list.entries.count, MANY / 5);
    for (unsigned i = 0; i < MANY / 10; i++) {
        inos[i] = list.entries.at[i].attr.ino;
    }
    CHECK_ROUNDS(&r, 8, RIG_OP(&r, trash_purge, .inos = {.at = inos, .count = MANY / 10}));
    r.time_ns += INT64_C(5000000000);
    CHECK_ROUNDS(&r, 5,
                 RIG_DO(&r, NAMESPACE_TRASH_PURGE, namespace_trash_expire, .max = MANY / 10));
    CHECK_OK(RIG_QUERY(&r, trash_list, &list, .owner = PROTO_TRASH_ANYBODY));
    CHECK_EQ(list.entries.count, 0);
    rig_close(&r);
}

TEST(a_session_ends_with_all_that_it_had_together)
{
    struct rig r;
    struct namespace_wopens wopens;
    struct namespace_orphans orphans;
    struct namespace_garbages garbage;
    world_open(&r);
    struct proto_op a = r.op, b = rig_machine(&r, 2, 22);
    r.op = b;
    uint64_t d = make(&r, 1, "d", PROTO_INODE_DIRECTORY, 0);
    for (unsigned i = 0; i < MANY / 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "name%05u", i);
        (void)make(&r, d, name, PROTO_INODE_FILE, PROTO_CREATE_WOPEN);
        if (i % 2 == 0) {
            CHECK_OK(RIG_OP(&r, unlink, .parent = d, .name = rig_text(name), .is_open = true));
        }
    }
    CHECK_ROUNDS(&r, 2,
                 RIG_VIEW(&r, namespace_session_wopens(&r.view, b.session, 0, MANY, &wopens)));
    CHECK_EQ(wopens.count, MANY / 5);
    CHECK_ROUNDS(&r, 2,
                 RIG_VIEW(&r, namespace_session_orphans(&r.view, b.session, 0, MANY, &orphans)));
    CHECK_EQ(orphans.count, MANY / 10);
    r.op = a;
    CHECK_ROUNDS(&r, 7, RIG_DO(&r, NAMESPACE_EXPIRE, namespace_expire, .session = b.session));
    CHECK_ROUNDS(&r, 1, RIG_VIEW(&r, namespace_garbages(&r.view, 0, MANY, &garbage)));
    CHECK_EQ(garbage.count, MANY / 10);
    rig_close(&r);
}

#define STEP 16u

TEST(the_check_looks_at_several_records_at_a_time)
{
    struct rig r;
    world_open(&r);
    uint64_t d = make(&r, 1, "d", PROTO_INODE_DIRECTORY, 0);
    make_many(&r, d, MANY / 5);
    struct fsck_run *run = mem_zalloc(sizeof *run);
    CHECK_TRUE(run != NULL);
    unsigned before = fetches(&r);
    fsck_run_all(&r.replica[1], STEP, run);
    CHECK_EQ(run->count, 0);
    CHECK_TRUE(run->records > 2 * MANY / 5);
    CHECK_TRUE(fetches(&r) - before < 4 * (run->records / STEP));
    mem_free(run);
    rig_close(&r);
}
