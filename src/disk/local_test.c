#include "disk/local.h"

#include "base/mem.h"
#include "disk/disk.h"
#include "testing/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct place {
    char at[64], path[192], other[192];
};

static void place_make(struct place *p)
{
    snprintf(p->at, sizeof p->at, "/tmp/opendfs-local-XXXXXX");
    CHECK_TRUE(mkdtemp(p->at) != NULL);
}

static const char *name(struct place *p, const char *n)
{
    snprintf(p->path, sizeof p->path, "%s/%s", p->at, n);
    return p->path;
}

static const char *second(struct place *p, const char *n)
{
    snprintf(p->other, sizeof p->other, "%s/%s", p->at, n);
    return p->other;
}

static void place_clear(struct place *p)
{
    CLEANUP(mem_freep) struct disk_names *names = NULL;
    CHECK_OK(disk_local_list(p->at, &names));
    for (size_t i = 0; i < names->count; i++) {
        CHECK_OK(disk_local_remove(name(p, names->name[i])));
    }
    CHECK_OK(disk_local_remove(p->at));
}

static void check_whole(const char *path, int rc, const char *want)
{
    CLEANUP(mem_freep) char *whole = NULL;
    CHECK_EQ(disk_local_whole(path, &whole), rc);
    if (rc == 0) {
        CHECK_TEXT(whole, want);
    }
}

/* What is there is not asked: a link at the end stays one, and so may what is gone. */
TEST(a_path_becomes_whole)
{
    struct place p;
    place_make(&p);
    char want[400];
    CHECK_OK(disk_local_symlink("nowhere", name(&p, "link")));
    check_whole(name(&p, "link"), 0, p.path);
    snprintf(want, sizeof want, "%s/link", p.at);
    check_whole(name(&p, "./link//"), 0, want);
    CHECK_OK(disk_local_mkdir(name(&p, "d"), 0700));
    check_whole(name(&p, "d/.."), 0, p.at);
    check_whole(name(&p, "d/../link"), 0, want);
    check_whole(name(&p, "d/."), 0, second(&p, "d"));
    check_whole(name(&p, "no/link"), -ENOENT, NULL);
    check_whole("/", 0, "/");
    check_whole("/tmp", 0, "/tmp");
    char here[200];
    CHECK_TRUE(getcwd(here, sizeof here) != NULL);
    check_whole(".", 0, here);
    snprintf(want, sizeof want, "%s/what", strcmp(here, "/") == 0 ? "" : here);
    check_whole("what", 0, want);
    place_clear(&p);
}

/* A file system may have none: then that is what is told. */
TEST(extended_attributes_of_local_files)
{
    struct place p;
    place_make(&p);
    struct disk_local_file *f = NULL;
    CHECK_OK(disk_local_create(name(&p, "f"), &f));
    CHECK_OK(disk_local_close(f));
    char got[64];
    CHECK_RC(disk_local_set_xattr(second(&p, "none"), "user.a", "1", 1), ENOENT);
    int rc = disk_local_set_xattr(p.path, "user.a", "value", 5);
    if (rc != -EOPNOTSUPP) {
        CHECK_OK(rc);
        CHECK_OK(disk_local_set_xattr(p.path, "user.b", "", 0));
        CHECK_EQ(disk_local_list_xattrs(p.path, got, sizeof got), 14);
        CHECK_EQ(disk_local_get_xattr(p.path, "user.a", got, sizeof got), 5);
        CHECK_BYTES(got, "value", 5);
        CHECK_EQ(disk_local_get_xattr(p.path, "user.b", got, sizeof got), 0);
        CHECK_RC((int)disk_local_get_xattr(p.path, "user.a", got, 4), ERANGE);
        CHECK_RC((int)disk_local_get_xattr(p.path, "user.c", got, sizeof got), ENODATA);
        CHECK_OK(disk_local_symlink("f", second(&p, "link")));
        CHECK_EQ(disk_local_list_xattrs(p.other, got, sizeof got), 0); /* not those of the file */
    }
    place_clear(&p);
}

TEST(only_file_systems_that_read_ahead_are_told_how_far)
{
    CHECK_RC(disk_local_read_ahead("/no/such/place", 1 << 20), ENOENT);
    CHECK_RC(disk_local_read_ahead("/proc/self", 1 << 20), ENOENT);
}

TEST(local_files_keep_bytes_and_attributes)
{
    struct place p;
    place_make(&p);
    struct disk_local_file *f = NULL;
    CHECK_OK(disk_local_create(name(&p, "f"), &f));
    CHECK_OK(disk_local_write(f, "hello", 5, 3));
    CHECK_OK(disk_local_sync(f));
    CHECK_OK(disk_local_set_size(f, 20));
    char got[32];
    CHECK_EQ(disk_local_read(f, got, sizeof got, 1), 19);
    CHECK_BYTES(got, "\0\0hello\0", 8);
    CHECK_OK(disk_local_close(f));
    CHECK_RC(disk_local_create(name(&p, "f"), &f), EEXIST);
    struct disk_local_attr a = {.mode = S_IFREG | 04751, .atime_ns = -1, .mtime_ns = 1234567890123};
    CHECK_OK(disk_local_set(name(&p, "f"), &a, DISK_LOCAL_MODE | DISK_LOCAL_TIMES));
    CHECK_OK(disk_local_link(name(&p, "f"), second(&p, "g")));
    struct disk_local_attr b;
    CHECK_OK(disk_local_lstat(second(&p, "g"), &b));
    CHECK_EQ(b.mode, S_IFREG | 04751);
    CHECK_EQ(b.atime_ns, -1);
    CHECK_EQ(b.mtime_ns, 1234567890123);
    CHECK_EQ(b.nlink, 2);
    CHECK_EQ(b.size_bytes, 20);
    CHECK_OK(disk_local_rename(name(&p, "g"), second(&p, "f")));
    place_clear(&p);
}

TEST(local_names_that_are_no_files)
{
    struct place p;
    place_make(&p);
    char target[16];
    CHECK_OK(disk_local_symlink("nowhere", name(&p, "s")));
    CHECK_EQ(disk_local_readlink(name(&p, "s"), target, sizeof target), 7);
    CHECK_TEXT(target, "nowhere");
    CHECK_EQ(disk_local_readlink(name(&p, "s"), target, 7), -ENAMETOOLONG);
    struct disk_local_attr a = {.mode = S_IFLNK | 0777, .mtime_ns = 77}, b;
    CHECK_OK(disk_local_set(name(&p, "s"), &a, DISK_LOCAL_MODE | DISK_LOCAL_TIMES));
    CHECK_OK(disk_local_lstat(name(&p, "s"), &b));
    CHECK_EQ(b.mtime_ns, 77);
    CHECK_RC(disk_local_stat(name(&p, "s"), &b), ENOENT);
    CHECK_OK(disk_local_mknod(name(&p, "fifo"), S_IFIFO | 0600, 0));
    CHECK_OK(disk_local_mkdir(name(&p, "d"), 0700));
    struct disk_local_file *f = NULL;
    CHECK_RC(disk_local_open(name(&p, "d"), &f), EISDIR);
    CHECK_RC(disk_local_open(name(&p, "none"), &f), ENOENT);
    place_clear(&p);
}
