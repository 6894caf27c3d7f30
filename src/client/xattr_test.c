#include "client/client.h"

#include "client/fake_world_priv.h"
#include "testing/testing.h"

/* Extended attributes against the fake metadata server. */

static int set(struct world *w, const char *path, const char *name, const char *value,
               unsigned flags)
{
    const struct opendfs_xattr x = {
        .name = name, .value = value, .size = strlen(value), .flags = flags};
    return DO(w, setxattr, path, &x);
}

TEST(attributes_are_set_shown_and_removed)
{
    struct world w;
    char out[64];
    struct opendfs_stat v = {.mode = 0640};
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    CHECK_OK(DO(&w, create, "/d/f", &v, 0, "", 0));
    CHECK_EQ(DO(&w, getxattr, "/d/f", "user.a", out, sizeof out), -ENODATA);
    CHECK_OK(set(&w, "/d/f", "user.a", "hello", 0));
    CHECK_EQ(set(&w, "/d/f", "user.a", "x", OPENDFS_XATTR_CREATE), -EEXIST);
    CHECK_EQ(set(&w, "/d/f", "user.b", "x", OPENDFS_XATTR_REPLACE), -ENODATA);
    CHECK_EQ(DO(&w, getxattr, "/d/f", "user.a", NULL, 0), 5); /* how long is it? */
    memset(out, '-', sizeof out);
    CHECK_EQ(DO(&w, getxattr, "/d/f", "user.a", out, 5), 5);
    CHECK_BYTES(out, "hello-", 6);
    CHECK_EQ(DO(&w, getxattr, "/d/f", "user.a", out, 4), -ERANGE);
    CHECK_OK(set(&w, "/d/f", "user.empty", "", 0));
    CHECK_EQ(DO(&w, getxattr, "/d/f", "user.empty", out, 4), 0);
    CHECK_EQ(DO(&w, listxattr, "/d/f", out, sizeof out), 18);
    CHECK_BYTES(out, "user.a\0user.empty\0", 18);
    CHECK_EQ(DO(&w, listxattr, "/d/f", NULL, 0), 18);
    CHECK_EQ(DO(&w, listxattr, "/d/f", out, 17), -ERANGE);
    CHECK_OK(DO(&w, removexattr, "/d/f", "user.a"));
    CHECK_EQ(DO(&w, removexattr, "/d/f", "user.a"), -ENODATA);
    CHECK_TEXT(w.op.error, "/d/f: No data available");
    CHECK_EQ(DO(&w, getxattr, "/d/none", "user.a", out, sizeof out), -ENOENT);
    CHECK_EQ(DO(&w, removexattr, "/none/f", "user.a"), -ENOENT);
    CHECK_EQ(DO(&w, listxattr, "/d/f/g", out, sizeof out), -ENOTDIR);
    world_close(&w);
}

/* The kernel asks for it before the first write to a file that was opened. */
TEST(an_open_file_is_known_to_have_no_capabilities)
{
    struct world w;
    char out[8];
    world_open(&w, testing_seed());
    world_start(&w);
    struct opendfs_file *f = world_file(&w, "/f", OPENDFS_READ | OPENDFS_WRITE | OPENDFS_CREATE);
    unsigned before = w.cluster->xattrs_asked;
    CHECK_EQ(DO(&w, getxattr, "/f", "security.capability", out, sizeof out), -ENODATA);
    CHECK_EQ(w.cluster->xattrs_asked, before);
    CHECK_EQ(DO(&w, getxattr, "/f", "user.a", out, sizeof out), -ENODATA);
    CHECK_EQ(w.cluster->xattrs_asked, before + 1);
    CHECK_OK(set(&w, "/f", "security.capability", "yes", 0));
    CHECK_EQ(DO(&w, getxattr, "/f", "security.capability", out, sizeof out), 3);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(DO(&w, getxattr, "/f", "security.capability", out, sizeof out), 3);
    world_close(&w);
}

/* What the system's calls refuse is refused before a server is asked. */
TEST(names_and_values_have_limits)
{
    struct world w;
    char name[300];
    static char value[65537];
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    memset(name, 'n', sizeof name);
    memcpy(name, "user.", 5);
    name[256] = 0;
    struct opendfs_xattr x = {.name = name, .value = value, .size = 1};
    unsigned before = w.cluster->mutations;
    CHECK_EQ(DO(&w, setxattr, "/d", &x), -ERANGE);
    CHECK_EQ(DO(&w, getxattr, "/d", name, value, 1), -ERANGE);
    CHECK_EQ(DO(&w, removexattr, "/d", name), -ERANGE);
    CHECK_EQ(DO(&w, removexattr, "/d", ""), -ERANGE);
    CHECK_EQ(DO(&w, getxattr, "/d", NULL, value, 1), -ERANGE);
    x.name = "user.a";
    x.size = sizeof value;
    CHECK_EQ(DO(&w, setxattr, "/d", &x), -E2BIG);
    x.size = 1;
    x.flags = 4;
    CHECK_EQ(DO(&w, setxattr, "/d", &x), -EINVAL);
    CHECK_EQ(w.cluster->mutations, before);
    name[255] = 0;
    x = (struct opendfs_xattr){.name = name, .value = value, .size = 1};
    CHECK_OK(DO(&w, setxattr, "/d", &x));
    CHECK_OK(DO(&w, removexattr, "/d", name));
    world_close(&w);
}

TEST(links_are_followed_or_not)
{
    struct world w;
    char out[8];
    struct opendfs_stat v = {.mode = 0640};
    const struct opendfs_xattr x = {.name = "trusted.l", .value = "link", .size = 4};
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, create, "/f", &v, 0, "", 0));
    CHECK_OK(DO(&w, symlink, "f", "/l", NULL, 0));
    CHECK_OK(set(&w, "/l", "user.a", "file", 0));
    CHECK_OK(DO(&w, lsetxattr, "/l", &x));
    CHECK_EQ(DO(&w, lgetxattr, "/f", "user.a", out, sizeof out), 4);
    CHECK_EQ(DO(&w, lgetxattr, "/l", "user.a", out, sizeof out), -ENODATA);
    CHECK_EQ(DO(&w, getxattr, "/l", "user.a", out, sizeof out), 4);
    CHECK_EQ(DO(&w, getxattr, "/l", "trusted.l", out, sizeof out), -ENODATA);
    CHECK_EQ(DO(&w, lgetxattr, "/l", "trusted.l", out, sizeof out), 4);
    CHECK_EQ(DO(&w, llistxattr, "/l", NULL, 0), 10);
    CHECK_EQ(DO(&w, listxattr, "/l", NULL, 0), 7);
    CHECK_EQ(DO(&w, lremovexattr, "/l", "user.a"), -ENODATA);
    CHECK_OK(DO(&w, removexattr, "/l", "user.a"));
    CHECK_OK(DO(&w, lremovexattr, "/l", "trusted.l"));
    world_close(&w);
}

/* An answer is lost: the attribute is set once, and the same answer comes again. */
TEST(a_lost_answer_is_asked_for_again)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    w.cluster->meta_fault_op = PROTO_OP_setxattr;
    w.cluster->meta_fault = (struct fake_fault){.count = 1, .after = true};
    CHECK_OK(set(&w, "/d", "user.a", "x", OPENDFS_XATTR_CREATE)); /* twice would be EEXIST */
    CHECK_EQ(w.cluster->repeats, 1);
    w.cluster->meta_fault_op = PROTO_OP_removexattr;
    w.cluster->meta_fault = (struct fake_fault){.count = 1, .after = true};
    CHECK_OK(DO(&w, removexattr, "/d", "user.a"));
    world_close(&w);
}

/* The option goes with each new name; what the mode says is left to the server. */
TEST(the_umask_goes_beside_the_mode)
{
    struct world w;
    struct opendfs_stat v = {.mode = 0666};
    world_open(&w, testing_seed());
    w.opt.umask = 027;
    world_start(&w);
    CHECK_OK(DO(&w, mkdir, "/d", 0777));
    CHECK_EQ(w.cluster->umask, 027);
    CHECK_EQ(w.op.stat.mode, 0777);
    w.cluster->umask = 0;
    CHECK_OK(DO(&w, create, "/d/f", &v, 0, "", 0));
    CHECK_EQ(w.cluster->umask, 027);
    w.cluster->umask = 0;
    CHECK_OK(DO(&w, make_directories, "/d/e/f", 0777));
    CHECK_EQ(w.cluster->umask, 027);
    w.cluster->umask = 0;
    CHECK_OK(DO(&w, open, "/d/g", OPENDFS_WRITE | OPENDFS_CREATE, 0666));
    CHECK_EQ(w.cluster->umask, 027);
    CHECK_OK(DO(&w, close, w.op.file, NULL, 0));
    world_close(&w);
}

/* chattr +a: only to append; and who writes here already does not open the door for others. */
TEST(append_only_files_are_opened_to_append)
{
    struct world w;
    struct opendfs_stat v = {.mode = 0640};
    const unsigned append = OPENDFS_WRITE | OPENDFS_APPEND;
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, create, "/f", &v, 0, "", 0));
    fake_path(w.cluster, "f")->attr.flags |= PROTO_INODE_APPEND;
    CHECK_EQ(DO(&w, open, "/f", OPENDFS_WRITE, 0), -EPERM);
    CHECK_EQ(DO(&w, open, "/f", OPENDFS_READ | OPENDFS_WRITE, 0), -EPERM);
    CHECK_EQ(DO(&w, open, "/f", append | OPENDFS_TRUNCATE, 0), -EPERM);
    CHECK_EQ(w.cluster->executed[PROTO_OP_wopen % 1024], 0);
    CHECK_OK(DO(&w, open, "/f", append, 0));
    struct opendfs_file *f = w.op.file;
    CHECK_TRUE(w.cluster->appends);
    CHECK_EQ(DO(&w, open, "/f", OPENDFS_WRITE, 0), -EPERM);
    unsigned opens = w.cluster->opens;
    CHECK_OK(DO(&w, open, "/f", append, 0)); /* the rights of the second one are asked for, too */
    CHECK_EQ(w.cluster->opens, opens + 1);
    CHECK_OK(DO(&w, close, w.op.file, NULL, 0));
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}
