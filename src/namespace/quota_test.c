#include "namespace/namespace.h"

#include "base/rand.h"

#include <stdio.h>

#include "testing/testing.h"

#include "namespace/rig_fsck_priv.h"

/* Quotas of directories. */

#define SECOND_NS INT64_C(1000000000)

static int create(struct rig *r, uint64_t parent, const char *name, enum proto_inode_type type,
                  size_t bytes)
{
    static const uint8_t data[4096];
    return RIG_OP(r, create, .parent = parent, .name = rig_text(name), .type = (uint8_t)type,
                  .mode = 0777, .target = rig_text(type == PROTO_INODE_SYMLINK ? "abc" : ""),
                  .flags = PROTO_CREATE_EXCLUSIVE | (bytes > 0 ? PROTO_CREATE_HAS_DATA : 0),
                  .data = proto_bytes_of(data, bytes));
}

static uint64_t make_dir(struct rig *r, uint64_t parent, const char *name)
{
    CHECK_OK(create(r, parent, name, PROTO_INODE_DIRECTORY, 0));
    return r->reply.result.ino;
}

static uint64_t make_file(struct rig *r, uint64_t parent, const char *name, size_t bytes)
{
    CHECK_OK(create(r, parent, name, PROTO_INODE_FILE, bytes));
    return r->reply.result.ino;
}

static int set_size(struct rig *r, uint64_t ino, uint64_t size)
{
    return RIG_OP(r, setattr, .ino = ino, .mask = PROTO_SET_SIZE, .size = size);
}

static int move(struct rig *r, uint64_t from, const char *name, uint64_t to)
{
    return RIG_OP(r, rename, .parent = from, .name = rig_text(name), .new_parent = to,
                  .new_name = rig_text(name));
}

static void limit_bytes(struct rig *r, uint64_t dir, uint64_t soft, uint64_t hard)
{
    CHECK_OK(RIG_OP(r, set_quota, .ino = dir, .mask = PROTO_QUOTA_BYTES, .bytes_soft = soft,
                    .bytes_hard = hard));
}

static void limit_files(struct rig *r, uint64_t dir, uint64_t soft, uint64_t hard)
{
    CHECK_OK(RIG_OP(r, set_quota, .ino = dir, .mask = PROTO_QUOTA_FILES, .files_soft = soft,
                    .files_hard = hard));
}

static struct proto_dir_stats_reply stats_of(struct rig *r, uint64_t dir)
{
    struct proto_dir_stats_reply reply;
    CHECK_OK(RIG_QUERY(r, dir_stats, &reply, .ino = dir));
    return reply;
}

#define CHECK_REFUSED(r, call, limit_, value_, path_)                 \
    do {                                                              \
        CHECK_RC((call), EDQUOT);                                     \
        CHECK_EQ((r)->reply.refusal.limit, NAMESPACE_LIMIT_##limit_); \
        CHECK_EQ((r)->reply.refusal.value, (value_));                 \
        CHECK_TEXT((r)->reply.refusal.path, (path_));                 \
    } while (0)

TEST(a_hard_limit_of_files_is_kept)
{
    struct rig r;
    rig_open(&r);
    uint64_t home = make_dir(&r, 1, "home"), a = make_dir(&r, home, "a"), x = make_dir(&r, 1, "x");
    limit_files(&r, home, 0, 3);
    make_file(&r, a, "1", 0);
    CHECK_OK(create(&r, home, "link", PROTO_INODE_SYMLINK, 0));
    CHECK_REFUSED(&r, create(&r, a, "2", PROTO_INODE_FILE, 0), FILES_HARD, 3, "/home");
    CHECK_REFUSED(&r, create(&r, home, "d", PROTO_INODE_DIRECTORY, 0), FILES_HARD, 3, "/home");
    CHECK_REFUSED(&r, create(&r, home, "p", PROTO_INODE_FIFO, 0), FILES_HARD, 3, "/home");
    make_file(&r, x, "out", 1);
    CHECK_REFUSED(&r, move(&r, x, "out", a), FILES_HARD, 3, "/home");
    CHECK_REFUSED(&r, move(&r, 1, "x", a), FILES_HARD, 3, "/home");
    CHECK_OK(move(&r, a, "1", home)); /* within it: nothing grows */
    CHECK_OK(RIG_OP(&r, rename, .parent = x, .name = rig_text("out"), .new_parent = home,
                    .new_name = rig_text("1"))); /* one comes, one goes */
    CHECK_EQ(stats_of(&r, home).files, 2);
    CHECK_OK(RIG_OP(&r, unlink, .parent = home, .name = rig_text("1")));
    make_file(&r, a, "2", 0);
    CHECK_OK(move(&r, a, "2", 1)); /* out */
    make_file(&r, a, "2", 0);
    fsck(&r);
    rig_close(&r);
}

TEST(a_hard_limit_of_bytes_is_kept)
{
    struct rig r;
    rig_open(&r);
    uint64_t home = make_dir(&r, 1, "home"), a = make_dir(&r, home, "a");
    limit_bytes(&r, home, 0, 1000);
    uint64_t file = make_file(&r, a, "f", 600);
    CHECK_REFUSED(&r, create(&r, home, "g", PROTO_INODE_FILE, 401), BYTES_HARD, 1000, "/home");
    make_file(&r, home, "g", 400);
    CHECK_REFUSED(&r, set_size(&r, file, 601), BYTES_HARD, 1000, "/home");
    CHECK_REFUSED(&r, create(&r, home, "l", PROTO_INODE_SYMLINK, 0), BYTES_HARD, 1000, "/home");
    make_file(&r, home, "empty", 0);
    CHECK_OK(set_size(&r, file, 10));
    CHECK_OK(set_size(&r, file, 600));
    make_file(&r, 1, "big", 500);
    CHECK_REFUSED(&r, move(&r, 1, "big", home), BYTES_HARD, 1000, "/home");
    CHECK_REFUSED(&r,
                  RIG_OP(&r, rename, .parent = 1, .name = rig_text("big"), .new_parent = home,
                         .new_name = rig_text("g"), .flags = PROTO_RENAME_EXCHANGE),
                  BYTES_HARD, 1000, "/home");
    CHECK_OK(RIG_OP(&r, rename, .parent = 1, .name = rig_text("big"), .new_parent = a,
                    .new_name = rig_text("f"))); /* 500 for 600 */
    CHECK_EQ(stats_of(&r, home).bytes, 900);
    fsck(&r);
    rig_close(&r);
}

/* A further name of a file may be the one that it counts at later. */
TEST(links_need_room_and_removing_never_does)
{
    struct rig r;
    rig_open(&r);
    uint64_t home = make_dir(&r, 1, "home"), a = make_dir(&r, home, "a"), x = make_dir(&r, 1, "x");
    uint64_t file = make_file(&r, x, "f", 500);
    limit_bytes(&r, home, 0, 400);
    CHECK_REFUSED(&r, RIG_OP(&r, link, .ino = file, .parent = a, .name = rig_text("g")), BYTES_HARD,
                  400, "/home");
    CHECK_OK(RIG_OP(&r, link, .ino = file, .parent = x, .name = rig_text("h")));
    limit_bytes(&r, home, 0, 600);
    CHECK_OK(RIG_OP(&r, link, .ino = file, .parent = a, .name = rig_text("g")));
    make_file(&r, home, "z", 600);
    CHECK_OK(RIG_OP(&r, unlink, .parent = x, .name = rig_text("h")));
    CHECK_OK(RIG_OP(&r, unlink, .parent = x, .name = rig_text("f")));
    CHECK_EQ(stats_of(&r, home).bytes, 1100);
    CHECK_OK(RIG_OP(&r, link, .ino = file, .parent = home, .name = rig_text("more")));
    CHECK_OK(RIG_OP(&r, unlink, .parent = home, .name = rig_text("z")));
    CHECK_REFUSED(&r, create(&r, home, "z", PROTO_INODE_FILE, 600), BYTES_HARD, 600, "/home");
    /* One without a name gets one. */
    CHECK_OK(RIG_OP(&r, create, .parent = home, .name = rig_text("t"), .type = PROTO_INODE_FILE,
                    .mode = 0600, .flags = PROTO_CREATE_ORPHAN));
    uint64_t nameless = r.reply.result.ino;
    CHECK_OK(set_size(&r, nameless, 1000));
    CHECK_REFUSED(&r, RIG_OP(&r, link, .ino = nameless, .parent = a, .name = rig_text("t")),
                  BYTES_HARD, 600, "/home");
    CHECK_OK(RIG_OP(&r, link, .ino = nameless, .parent = 1, .name = rig_text("t")));
    fsck(&r);
    rig_close(&r);
}

TEST(a_soft_limit_holds_after_the_grace_time)
{
    struct rig r;
    rig_open(&r);
    uint64_t home = make_dir(&r, 1, "home");
    CHECK_OK(RIG_OP(&r, set_quota, .ino = home, .mask = PROTO_QUOTA_FILES | PROTO_QUOTA_GRACE,
                    .files_soft = 1, .files_hard = 4, .grace_s = 60));
    make_file(&r, home, "1", 0);
    CHECK_EQ(stats_of(&r, home).files_grace_ns, 0);
    make_file(&r, home, "2", 0);
    int64_t end = r.time_ns + 60 * SECOND_NS;
    CHECK_EQ(stats_of(&r, home).files_grace_ns, end);
    r.time_ns = end - 2000;
    make_file(&r, home, "3", 0);
    CHECK_EQ(stats_of(&r, home).files_grace_ns, end);
    CHECK_REFUSED(&r, create(&r, home, "4", PROTO_INODE_FILE, 0), FILES_SOFT, 1, "/home");
    CHECK_OK(RIG_OP(&r, unlink, .parent = home, .name = rig_text("1")));
    CHECK_REFUSED(&r, create(&r, home, "4", PROTO_INODE_FILE, 0), FILES_SOFT, 1, "/home");
    CHECK_OK(RIG_OP(&r, unlink, .parent = home, .name = rig_text("2")));
    CHECK_EQ(stats_of(&r, home).files_grace_ns, 0); /* below: it begins anew */
    make_file(&r, home, "4", 0);
    CHECK_EQ(stats_of(&r, home).files_grace_ns, r.time_ns + 60 * SECOND_NS);
    /* A higher limit ends it as well; bytes have a time of their own. */
    limit_files(&r, home, 10, 0);
    limit_bytes(&r, home, 100, 0);
    CHECK_EQ(stats_of(&r, home).files_grace_ns, 0);
    CHECK_EQ(stats_of(&r, home).grace_s, 60);
    make_file(&r, home, "5", 101);
    CHECK_EQ(stats_of(&r, home).bytes_grace_ns, r.time_ns + 60 * SECOND_NS);
    r.time_ns += 60 * SECOND_NS;
    CHECK_REFUSED(&r, create(&r, home, "6", PROTO_INODE_FILE, 1), BYTES_SOFT, 100, "/home");
    make_file(&r, home, "7", 0);
    fsck(&r);
    rig_close(&r);
}

TEST(quotas_lie_in_each_other)
{
    struct rig r;
    rig_open(&r);
    uint64_t a = make_dir(&r, 1, "a"), b = make_dir(&r, a, "b"), c = make_dir(&r, b, "c");
    limit_bytes(&r, 1, 0, 1000);
    limit_bytes(&r, b, 0, 500);
    make_file(&r, c, "1", 400);
    CHECK_REFUSED(&r, create(&r, c, "2", PROTO_INODE_FILE, 101), BYTES_HARD, 500, "/a/b");
    make_file(&r, a, "3", 550);
    CHECK_REFUSED(&r, create(&r, c, "2", PROTO_INODE_FILE, 60), BYTES_HARD, 1000, "/");
    CHECK_REFUSED(&r, move(&r, a, "3", c), BYTES_HARD, 500, "/a/b");
    CHECK_OK(move(&r, a, "b", 1)); /* with its quota */
    CHECK_REFUSED(&r, create(&r, c, "2", PROTO_INODE_FILE, 101), BYTES_HARD, 1000, "/");
    CHECK_OK(RIG_OP(&r, set_quota, .ino = 1, .mask = PROTO_QUOTA_CLEAR));
    CHECK_REFUSED(&r, create(&r, c, "2", PROTO_INODE_FILE, 101), BYTES_HARD, 500, "/b");
    fsck(&r);
    CHECK_OK(RIG_OP(&r, unlink, .parent = c, .name = rig_text("1")));
    CHECK_OK(RIG_OP(&r, rmdir, .parent = b, .name = rig_text("c")));
    CHECK_OK(RIG_OP(&r, rmdir, .parent = 1, .name = rig_text("b"))); /* its quota goes, too */
    fsck(&r);
    rig_close(&r);
}

/* What has been written is there: it counts, and is never refused. */
TEST(writers_are_told_and_their_data_is_taken)
{
    struct rig r;
    rig_open(&r);
    rig_make_class(&r, 2);
    uint64_t home = make_dir(&r, 1, "home");
    make_file(&r, home, "other", 1000);
    CHECK_OK(RIG_OP(&r, create, .parent = home, .name = rig_text("f"), .type = PROTO_INODE_FILE,
                    .mode = 0644, .flags = PROTO_CREATE_WOPEN));
    uint64_t file = r.reply.result.ino, epoch = r.reply.result.cap_epoch;
    CHECK_TRUE(!r.reply.limited);
    limit_bytes(&r, home, 0, 5000);
    CHECK_OK(RIG_OP(&r, commit, .ino = file, .cap_epoch = epoch, .size = 3000, .allocated = 4096));
    CHECK_TRUE(r.reply.limited);
    CHECK_EQ(r.reply.size_limit, 4000);
    CHECK_OK(RIG_OP(&r, wopen, .ino = file, .want_size = 4000));
    CHECK_EQ(r.reply.size_limit, 4000);
    CHECK_REFUSED(&r, RIG_OP(&r, wopen, .ino = file, .want_size = 4001), BYTES_HARD, 5000, "/home");
    CHECK_RC(set_size(&r, file, 4001), EDQUOT);
    CHECK_OK(RIG_OP(&r, commit, .ino = file, .cap_epoch = epoch, .size = 9000, .allocated = 4096));
    CHECK_EQ(stats_of(&r, home).bytes, 10000);
    CHECK_EQ(r.reply.size_limit, 9000);
    CHECK_RC(create(&r, home, "g", PROTO_INODE_FILE, 1), EDQUOT);
    CHECK_OK(
        RIG_OP(&r, lease_return, .ino = file, .has_final = true, .cap_epoch = epoch, .size = 9500));
    CHECK_EQ(stats_of(&r, home).bytes, 10500);
    /* What a writer has not said yet does not keep others from changing the file. */
    struct namespace_fold fold = {.ino = file, .size = 20000};
    r.folds = (struct namespace_fold_list){.at = &fold, .count = 1};
    CHECK_OK(RIG_OP(&r, setattr, .ino = file, .mask = PROTO_SET_MODE, .mode = 0600));
    r.folds.count = 0;
    CHECK_EQ(stats_of(&r, home).bytes, 21000);
    CHECK_OK(RIG_OP(&r, create, .parent = home, .name = rig_text("new"), .type = PROTO_INODE_FILE,
                    .mode = 0644, .flags = PROTO_CREATE_WOPEN));
    CHECK_TRUE(r.reply.limited && r.reply.size_limit == 0);
    /* The same question again gets the same answer. */
    CHECK_OK(rig_apply_bytes(&r, r.command, r.command_len));
    CHECK_TRUE(r.reply.replayed && r.reply.limited && r.reply.size_limit == 0);
    CHECK_OK(RIG_OP(&r, unlink, .parent = home, .name = rig_text("new"), .is_open = true));
    CHECK_OK(RIG_OP(&r, wopen, .ino = file + 1));
    CHECK_TRUE(!r.reply.limited); /* it has no name: it counts nowhere */
    fsck(&r);
    rig_close(&r);
}

TEST(who_may_set_what)
{
    struct rig r;
    rig_open(&r);
    uint64_t home = make_dir(&r, 1, "home"), file = make_file(&r, home, "f", 10);
    CHECK_RC(RIG_OP(&r, set_quota, .ino = file, .mask = PROTO_QUOTA_BYTES), ENOTDIR);
    CHECK_RC(RIG_OP(&r, set_quota, .ino = 999, .mask = PROTO_QUOTA_BYTES), ENOENT);
    CHECK_RC(RIG_OP(&r, set_quota, .ino = home, .mask = 0), EINVAL);
    CHECK_RC(RIG_OP(&r, set_quota, .ino = home, .mask = 16), EINVAL);
    CHECK_RC(RIG_OP(&r, set_quota, .ino = home, .mask = PROTO_QUOTA_BYTES, .bytes_soft = 2,
                    .bytes_hard = 1),
             EINVAL);
    CHECK_RC(
        RIG_OP(&r, set_quota, .ino = home, .mask = PROTO_QUOTA_FILES, .files_hard = UINT64_MAX),
        EINVAL);
    CHECK_RC(RIG_OP(&r, set_quota, .ino = home, .mask = PROTO_QUOTA_FILES | PROTO_QUOTA_GRACE,
                    .files_hard = 5, .grace_s = UINT64_MAX),
             EINVAL);
    CHECK_TRUE(!stats_of(&r, home).has_quota);
    limit_bytes(&r, home, 5, 20);
    struct proto_dir_stats_reply s = stats_of(&r, home);
    CHECK_TRUE(s.has_quota && s.bytes_soft == 5 && s.bytes_hard == 20);
    CHECK_EQ(s.grace_s, NAMESPACE_GRACE_DEFAULT);
    CHECK_EQ(s.bytes_grace_ns, r.time_ns + (int64_t)s.grace_s * SECOND_NS);
    uint32_t root = r.op.cred;
    r.op.cred = rig_cred(&r, r.op.session, 1000, 100, 0);
    CHECK_RC(RIG_OP(&r, set_quota, .ino = home, .mask = PROTO_QUOTA_CLEAR), EPERM);
    CHECK_RC(create(&r, home, "g", PROTO_INODE_FILE, 11), EDQUOT);
    CHECK_OK(create(&r, home, "g", PROTO_INODE_FILE, 10));
    CHECK_EQ(stats_of(&r, home).bytes, 20);
    CHECK_RC(RIG_QUERY(&r, dir_stats, &s, .ino = file), ENOTDIR);
    CHECK_RC(RIG_QUERY(&r, dir_stats, &s, .ino = 999), ENOENT);
    r.op.cred = root;
    CHECK_RC(create(&r, home, "h", PROTO_INODE_FILE, 1), EDQUOT); /* it binds root, too */
    CHECK_OK(RIG_OP(&r, setattr, .ino = home, .mask = PROTO_SET_MODE, .mode = 0711));
    r.op.cred = rig_cred(&r, r.op.session, 1000, 100, 0);
    CHECK_RC(RIG_QUERY(&r, dir_stats, &s, .ino = home), EACCES);
    r.op.cred = root;
    limit_bytes(&r, home, 0, 0);
    CHECK_TRUE(!stats_of(&r, home).has_quota);
    fsck(&r);
    rig_close(&r);
}

TEST(space_is_that_of_the_quota)
{
    struct rig r;
    struct proto_statfs_reply s = {
        .total = 10000, .free = 9000, .available = 9000, .files = 7, .files_free = 100};
    rig_open(&r);
    uint64_t a = make_dir(&r, 1, "a"), b = make_dir(&r, a, "b"), file = make_file(&r, b, "f", 600);
    struct proto_statfs_reply whole = s;
    CHECK_OK(RIG_VIEW(&r, namespace_statfs_quota(&r.view, b, &s)));
    CHECK_EQ(s.total, whole.total);
    limit_bytes(&r, a, 0, 1000);
    CHECK_OK(RIG_VIEW(&r, namespace_statfs_quota(&r.view, file, &s)));
    CHECK_EQ(s.total, 1000);
    CHECK_EQ(s.available, 400);
    CHECK_EQ(s.files_free, 100);
    limit_files(&r, b, 4, 0);
    s = whole;
    CHECK_OK(RIG_VIEW(&r, namespace_statfs_quota(&r.view, b, &s)));
    CHECK_EQ(s.files, 1);
    CHECK_EQ(s.files_free, 3);
    s.available = 300; /* the cluster is fuller than that */
    CHECK_OK(RIG_VIEW(&r, namespace_statfs_quota(&r.view, a, &s)));
    CHECK_EQ(s.available, 300);
    CHECK_RC(RIG_VIEW(&r, namespace_statfs_quota(&r.view, 999, &s)), ENOENT);
    rig_close(&r);
}

static int random_change(struct rig *r, struct rand *rand, const uint64_t dir[6])
{
    char name[2][8];
    uint64_t a = dir[rand_below(rand, 6)], b = dir[rand_below(rand, 6)];
    (void)snprintf(name[0], sizeof name[0], "%u", (unsigned)rand_below(rand, 5));
    (void)snprintf(name[1], sizeof name[1], "%u", (unsigned)rand_below(rand, 5));
    switch (rand_below(rand, 6)) {
    case 0:
    case 1:
        return create(r, a, name[0], PROTO_INODE_FILE, rand_below(rand, 900));
    case 2:
        return RIG_OP(r, rename, .parent = a, .name = rig_text(name[0]), .new_parent = b,
                      .new_name = rig_text(name[1]));
    case 3:
        return set_size(r, 2 + rand_below(rand, 200), rand_below(rand, 2000));
    case 4:
        return move(r, a, rand_chance(rand, 1, 2) ? "d4" : "d5", b);
    default:
        return RIG_OP(r, unlink, .parent = a, .name = rig_text(name[0]));
    }
}

/* At random: a quota is never exceeded by what could be refused. */
TEST(random_changes_never_go_beyond)
{
    struct rig r;
    struct rand rand;
    uint64_t dir[6] = {1}, done = 0, refused = 0;
    char name[8];
    rig_open(&r);
    rand_seed(&rand, testing_seed());
    for (size_t i = 1; i < ARRAY_COUNT(dir); i++) {
        (void)snprintf(name, sizeof name, "d%zu", i);
        dir[i] = make_dir(&r, dir[i / 2], name);
    }
    limit_bytes(&r, dir[1], 0, 3000);
    limit_files(&r, dir[2], 0, 6);
    for (unsigned i = 0; i < 1500; i++) {
        int rc = random_change(&r, &rand, dir);
        done += rc == 0 ? 1 : 0;
        refused += rc == -EDQUOT ? 1 : 0;
        struct proto_dir_stats_reply bytes = stats_of(&r, dir[1]), files = stats_of(&r, dir[2]);
        CHECK_TRUE(bytes.bytes <= 3000);
        CHECK_TRUE(files.files + files.directories <= 6);
    }
    CHECK_TRUE(done > 100 && refused > 20);
    fsck(&r);
    rig_close(&r);
}
