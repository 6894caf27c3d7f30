#include "namespace/namespace.h"

#include <stdio.h>

#include "testing/testing.h"

#include "namespace/rig_fsck_priv.h"

/* Recursive statistics of directories. fsck() counts everything from scratch and compares. */

static uint64_t make(struct rig *r, uint64_t parent, const char *name, enum proto_inode_type type)
{
    CHECK_OK(RIG_OP(r, create, .parent = parent, .name = rig_text(name), .type = (uint8_t)type,
                    .mode = 0755, .target = rig_text(type == PROTO_INODE_SYMLINK ? "abc" : ""),
                    .flags = PROTO_CREATE_EXCLUSIVE));
    return r->reply.result.ino;
}

static uint64_t make_dir(struct rig *r, uint64_t parent, const char *name)
{
    return make(r, parent, name, PROTO_INODE_DIRECTORY);
}

static uint64_t make_file(struct rig *r, uint64_t parent, const char *name, const char *data)
{
    CHECK_OK(RIG_OP(r, create, .parent = parent, .name = rig_text(name), .type = PROTO_INODE_FILE,
                    .mode = 0644, .flags = PROTO_CREATE_EXCLUSIVE | PROTO_CREATE_HAS_DATA,
                    .data = rig_text(data)));
    return r->reply.result.ino;
}

static struct namespace_dir_stats stats_of(struct rig *r, uint64_t ino)
{
    struct namespace_dir_stats s;
    CHECK_OK(RIG_VIEW(r, namespace_view_dir_stats(&r->view, ino, &s)));
    return s;
}

#define CHECK_STATS(r, ino, files_, directories_, bytes_)         \
    do {                                                          \
        struct namespace_dir_stats check_ = stats_of((r), (ino)); \
        CHECK_EQ(check_.files, (files_));                         \
        CHECK_EQ(check_.directories, (directories_));             \
        CHECK_EQ(check_.bytes, (bytes_));                         \
    } while (0)

static void set_size(struct rig *r, uint64_t ino, uint64_t size)
{
    CHECK_OK(RIG_OP(r, setattr, .ino = ino, .mask = PROTO_SET_SIZE, .size = size));
}

TEST(what_lies_below_is_counted_on_every_level)
{
    struct rig r;
    rig_open(&r);
    uint64_t a = make_dir(&r, 1, "a"), b = make_dir(&r, a, "b"), c = make_dir(&r, b, "c");
    CHECK_STATS(&r, 1, 0, 3, 0);
    uint64_t file = make_file(&r, c, "file", "12345");
    make(&r, b, "link", PROTO_INODE_SYMLINK);
    make(&r, a, "pipe", PROTO_INODE_FIFO);
    CHECK_STATS(&r, c, 1, 0, 5);
    CHECK_STATS(&r, b, 2, 1, 8);
    CHECK_STATS(&r, a, 3, 2, 8);
    CHECK_STATS(&r, 1, 3, 3, 8);
    set_size(&r, file, 1000);
    CHECK_STATS(&r, 1, 3, 3, 1003);
    set_size(&r, file, 1);
    CHECK_STATS(&r, c, 1, 0, 1);
    CHECK_EQ(stats_of(&r, 1).newest_ns, (uint64_t)r.time_ns);
    CHECK_OK(RIG_OP(&r, setattr, .ino = file, .mask = PROTO_SET_MODE, .mode = 0600));
    CHECK_EQ(stats_of(&r, 1).newest_ns, (uint64_t)r.time_ns);
    CHECK_OK(RIG_OP(&r, unlink, .parent = c, .name = rig_text("file")));
    CHECK_OK(RIG_OP(&r, rmdir, .parent = b, .name = rig_text("c")));
    CHECK_STATS(&r, b, 1, 0, 3);
    CHECK_STATS(&r, 1, 2, 2, 3);
    CHECK_RC(RIG_VIEW(&r, namespace_view_dir_stats(&r.view, c, &(struct namespace_dir_stats){0})),
             ENOENT);
    CHECK_RC(RIG_OP(&r, rmdir, .parent = 1, .name = rig_text("a")), ENOTEMPTY);
    CHECK_STATS(&r, 1, 2, 2, 3);
    fsck(&r);
    rig_close(&r);
}

TEST(a_file_with_several_names_counts_at_one)
{
    struct rig r;
    rig_open(&r);
    uint64_t a = make_dir(&r, 1, "a"), b = make_dir(&r, 1, "b"), c = make_dir(&r, 1, "c");
    uint64_t file = make_file(&r, a, "f", "1234");
    CHECK_OK(RIG_OP(&r, link, .ino = file, .parent = b, .name = rig_text("g")));
    CHECK_OK(RIG_OP(&r, link, .ino = file, .parent = a, .name = rig_text("h")));
    CHECK_STATS(&r, a, 1, 0, 4);
    CHECK_STATS(&r, b, 0, 0, 0);
    /* Another name moves: it stays where it is. */
    CHECK_OK(RIG_OP(&r, rename, .parent = b, .name = rig_text("g"), .new_parent = c,
                    .new_name = rig_text("g")));
    CHECK_STATS(&r, a, 1, 0, 4);
    fsck(&r);
    /* The one that it counts at moves. */
    CHECK_OK(RIG_OP(&r, rename, .parent = a, .name = rig_text("f"), .new_parent = b,
                    .new_name = rig_text("f")));
    CHECK_STATS(&r, a, 0, 0, 0);
    CHECK_STATS(&r, b, 1, 0, 4);
    set_size(&r, file, 100);
    CHECK_STATS(&r, b, 1, 0, 100);
    /* It goes: the next one in order is h in a. */
    CHECK_OK(RIG_OP(&r, unlink, .parent = b, .name = rig_text("f")));
    CHECK_STATS(&r, a, 1, 0, 100);
    CHECK_STATS(&r, b, 0, 0, 0);
    fsck(&r);
    /* Replaced there. */
    make_file(&r, a, "new", "1");
    CHECK_OK(RIG_OP(&r, rename, .parent = a, .name = rig_text("new"), .new_parent = a,
                    .new_name = rig_text("h")));
    CHECK_STATS(&r, a, 1, 0, 1);
    CHECK_STATS(&r, c, 1, 0, 100);
    CHECK_OK(RIG_OP(&r, unlink, .parent = c, .name = rig_text("g")));
    CHECK_STATS(&r, 1, 1, 3, 1);
    fsck(&r);
    rig_close(&r);
}

TEST(what_has_no_name_counts_nowhere)
{
    struct rig r;
    rig_open(&r);
    uint64_t a = make_dir(&r, 1, "a"), file = make_file(&r, a, "f", "1234");
    CHECK_OK(RIG_OP(&r, unlink, .parent = a, .name = rig_text("f"), .is_open = true));
    CHECK_STATS(&r, 1, 0, 1, 0);
    set_size(&r, file, 50);
    CHECK_STATS(&r, 1, 0, 1, 0);
    fsck(&r);
    CHECK_OK(RIG_OP(&r, link, .ino = file, .parent = a, .name = rig_text("again")));
    CHECK_STATS(&r, a, 1, 0, 50);
    CHECK_OK(RIG_OP(&r, create, .parent = a, .name = rig_text("t"), .type = PROTO_INODE_FILE,
                    .mode = 0600, .flags = PROTO_CREATE_ORPHAN | PROTO_CREATE_HAS_DATA,
                    .data = rig_text("x")));
    uint64_t nameless = r.reply.result.ino;
    CHECK_STATS(&r, a, 1, 0, 50);
    CHECK_OK(RIG_OP(&r, link, .ino = nameless, .parent = 1, .name = rig_text("named")));
    CHECK_STATS(&r, a, 1, 0, 50);
    CHECK_STATS(&r, 1, 2, 1, 51);
    fsck(&r);
    CHECK_OK(RIG_OP(&r, unlink, .parent = 1, .name = rig_text("named"), .is_open = true));
    CHECK_OK(RIG_DO(&r, NAMESPACE_EXPIRE, namespace_expire, .session = r.op.session));
    CHECK_STATS(&r, 1, 1, 1, 50);
    fsck(&r);
    rig_close(&r);
}

TEST(a_directory_moves_with_all_that_it_has)
{
    struct rig r;
    rig_open(&r);
    uint64_t a = make_dir(&r, 1, "a"), b = make_dir(&r, a, "b"), c = make_dir(&r, b, "c");
    uint64_t x = make_dir(&r, 1, "x"), y = make_dir(&r, x, "y");
    make_file(&r, c, "f", "12345");
    make_file(&r, y, "g", "123");
    CHECK_OK(RIG_OP(&r, rename, .parent = a, .name = rig_text("b"), .new_parent = y,
                    .new_name = rig_text("b")));
    CHECK_STATS(&r, a, 0, 0, 0);
    CHECK_STATS(&r, y, 2, 2, 8);
    CHECK_STATS(&r, x, 2, 3, 8);
    CHECK_STATS(&r, 1, 2, 5, 8);
    CHECK_EQ(stats_of(&r, b).parent, y);
    fsck(&r);
    make_file(&r, c, "h", "1"); /* goes the new way up */
    CHECK_STATS(&r, x, 3, 3, 9);
    CHECK_STATS(&r, a, 0, 0, 0);
    CHECK_OK(RIG_OP(&r, rename, .parent = y, .name = rig_text("b"), .new_parent = 1,
                    .new_name = rig_text("a"), .flags = PROTO_RENAME_EXCHANGE));
    CHECK_STATS(&r, y, 1, 1, 3);
    CHECK_STATS(&r, x, 1, 2, 3);
    CHECK_STATS(&r, 1, 3, 5, 9);
    fsck(&r);
    CHECK_OK(RIG_OP(&r, rename, .parent = b, .name = rig_text("c"), .new_parent = y,
                    .new_name = rig_text("b"))); /* replaces the empty one */
    CHECK_STATS(&r, y, 3, 1, 9);
    CHECK_STATS(&r, 1, 3, 4, 9);
    fsck(&r);
    rig_close(&r);
}

/* What a writer had not committed may come with the command that moves the directory above it. */
TEST(a_fold_below_a_directory_that_moves)
{
    struct rig r;
    rig_open(&r);
    uint64_t a = make_dir(&r, 1, "a"), b = make_dir(&r, a, "b"), x = make_dir(&r, 1, "x");
    uint64_t file = make_file(&r, b, "f", "12345");
    struct namespace_fold fold = {.ino = file, .size = 70};
    r.folds = (struct namespace_fold_list){.at = &fold, .count = 1};
    CHECK_OK(RIG_OP(&r, rename, .parent = a, .name = rig_text("b"), .new_parent = x,
                    .new_name = rig_text("b")));
    r.folds.count = 0;
    CHECK_STATS(&r, b, 1, 0, 70);
    CHECK_STATS(&r, x, 1, 1, 70);
    CHECK_STATS(&r, a, 0, 0, 0);
    CHECK_STATS(&r, 1, 1, 3, 70);
    fsck(&r);
    rig_close(&r);
}

TEST(writers_are_counted_when_they_commit)
{
    struct rig r;
    rig_open(&r);
    rig_make_class(&r, 2);
    uint64_t a = make_dir(&r, 1, "a");
    CHECK_OK(RIG_OP(&r, create, .parent = a, .name = rig_text("f"), .type = PROTO_INODE_FILE,
                    .mode = 0644, .flags = PROTO_CREATE_WOPEN));
    uint64_t file = r.reply.result.ino, epoch = r.reply.result.cap_epoch;
    CHECK_STATS(&r, a, 1, 0, 0);
    CHECK_OK(RIG_OP(&r, commit, .ino = file, .cap_epoch = epoch, .size = 9000, .allocated = 9000));
    CHECK_STATS(&r, 1, 1, 1, 9000);
    CHECK_OK(
        RIG_OP(&r, lease_return, .ino = file, .has_final = true, .cap_epoch = epoch, .size = 9100));
    CHECK_STATS(&r, 1, 1, 1, 9100);
    set_size(&r, file, 10);
    CHECK_STATS(&r, a, 1, 0, 10);
    fsck(&r);
    rig_close(&r);
}

#define CHAIN 128u

/* As many directories in each other; the names are those of the last ones. */
static uint64_t chain(struct rig *r, uint64_t parent, const char *name, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        parent = make_dir(r, parent, i == 0 ? name : "d");
    }
    return parent;
}

TEST(directories_lie_so_deep_and_not_deeper)
{
    struct rig r;
    rig_open_needing(&r, 0);
    uint64_t bottom = 1, levels = 1;
    char name[16];
    while (levels + CHAIN < NAMESPACE_DEPTH_MAX) {
        (void)snprintf(name, sizeof name, "%llu", (unsigned long long)levels);
        uint64_t end = chain(&r, 1, name, CHAIN);
        if (bottom != 1) {
            CHECK_OK(RIG_OP(&r, rename, .parent = 1, .name = rig_text(name), .new_parent = bottom,
                            .new_name = rig_text("d")));
        }
        bottom = end;
        levels += CHAIN;
    }
    size_t left = NAMESPACE_DEPTH_MAX - levels;
    (void)chain(&r, 1, "tall", left + 1);
    CHECK_RC(RIG_OP(&r, rename, .parent = 1, .name = rig_text("tall"), .new_parent = bottom,
                    .new_name = rig_text("d")),
             ELOOP);
    uint64_t end = chain(&r, 1, "fits", left);
    CHECK_OK(RIG_OP(&r, rename, .parent = 1, .name = rig_text("fits"), .new_parent = bottom,
                    .new_name = rig_text("d")));
    CHECK_RC(RIG_OP(&r, create, .parent = end, .name = rig_text("d"), .mode = 0700,
                    .type = PROTO_INODE_DIRECTORY),
             ELOOP);
    make_file(&r, end, "file", "1");
    CHECK_STATS(&r, 1, 1, NAMESPACE_DEPTH_MAX - 1 + left + 1, 1);
    CHECK_EQ(stats_of(&r, 1).height, NAMESPACE_DEPTH_MAX - 1);
    CHECK_OK(RIG_OP(&r, unlink, .parent = end, .name = rig_text("file")));
    rig_close(&r);
}
