/*
 * cluster/bad_disk.c -- a disk with a volatile cache, as a file on a FUSE file system, below a loop
 * device: at a power cut each sector that was written since the last flush is there or not, at
 * random, in any order.
 *
 * usage: bad_disk MOUNTPOINT BYTES (in the foreground, until it is unmounted)
 * MOUNTPOINT/disk is the disk. What is written to MOUNTPOINT/control:
 *   cut SEED   power fails: what was not flushed is tossed for, and everything is -EIO
 *   arm SEED N the same, as soon as N sectors are not flushed
 *   heal       it is back
 *   fail N     of N writes one fails with -EIO, without having written; 0: none
 * MOUNTPOINT/control says whether there is power, how many sectors the last cut has lost, and how
 * many of those that were not flushed it has kept.
 */
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fuse3/fuse.h>
#include <linux/falloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SECTOR 4096u /* what a disk writes at once; file systems count on it */

struct bad_disk {
    uint8_t *now, *stable;            /* as it is read; as it would be after a power cut */
    uint8_t *dirty;                   /* of each sector: written since the last flush */
    size_t size, dirty_count, cut_at; /* cut_at: 0: not armed */
    uint64_t random, fail_one_of, lost, kept;
    bool dead;
};

static struct bad_disk *disk_of(void)
{
    return fuse_get_context()->private_data;
}

static uint64_t disk_random(struct bad_disk *d)
{
    d->random ^= d->random << 13;
    d->random ^= d->random >> 7;
    d->random ^= d->random << 17;
    return d->random;
}

static bool is_disk(const char *path)
{
    return strcmp(path, "/disk") == 0;
}

/* ---- The cut ---- */

static void sectors_settle(struct bad_disk *d, bool cut)
{
    for (size_t i = 0; i < d->size / SECTOR; i++) {
        if (d->dirty[i] == 0) {
            continue;
        }
        bool keep = !cut || (disk_random(d) >> 20) % 2 == 0;
        uint8_t *from = keep ? d->now : d->stable, *to = keep ? d->stable : d->now;
        memcpy(to + i * SECTOR, from + i * SECTOR, SECTOR);
        d->dirty[i] = 0;
        d->lost += cut && !keep ? 1 : 0;
        d->kept += cut && keep ? 1 : 0;
    }
    d->dirty_count = 0;
}

static void disk_cut(struct bad_disk *d)
{
    d->lost = d->kept = 0;
    sectors_settle(d, true);
    d->dead = true;
    d->cut_at = 0;
}

/* The next number of a command; false: there is none. */
static bool number(const char **text, unsigned long long *ret)
{
    char *end = NULL;
    errno = 0;
    *ret = strtoull(*text, &end, 10);
    bool good = end != *text && errno == 0;
    *text = end;
    return good;
}

/* Is it that word? Then *text is what follows. */
static bool word(const char **text, const char *name)
{
    size_t len = strlen(name);
    bool is = strncmp(*text, name, len) == 0;
    *text += is ? len : 0;
    return is;
}

static int command(struct bad_disk *d, const char *text)
{
    unsigned long long n = 0, count = 0;
    if (word(&text, "cut ") && number(&text, &n)) {
        d->random = (n + 1) * UINT64_C(0x9e3779b97f4a7c15);
        disk_cut(d);
    } else if (word(&text, "arm ") && number(&text, &n) && number(&text, &count)) {
        d->random = (n + 1) * UINT64_C(0x9e3779b97f4a7c15);
        d->cut_at = (size_t)count;
    } else if (word(&text, "fail ") && number(&text, &n)) {
        d->fail_one_of = n;
    } else if (word(&text, "heal")) {
        d->dead = false;
        d->fail_one_of = 0;
    } else {
        return -EINVAL;
    }
    return 0;
}

/* ---- The file system ---- */

static int bad_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
    (void)fi;
    memset(st, 0, sizeof *st);
    if (strcmp(path, "/") == 0) {
        st->st_mode = S_IFDIR | 0700;
        st->st_nlink = 2;
        return 0;
    }
    if (!is_disk(path) && strcmp(path, "/control") != 0) {
        return -ENOENT;
    }
    st->st_mode = S_IFREG | 0600;
    st->st_nlink = 1;
    st->st_size = is_disk(path) ? (off_t)disk_of()->size : 64;
    st->st_blocks = st->st_size / 512;
    return 0;
}

static int bad_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t offset,
                       struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
    (void)path;
    (void)offset;
    (void)fi;
    (void)flags;
    return fill(buf, "disk", NULL, 0, 0) + fill(buf, "control", NULL, 0, 0) == 0 ? 0 : -ENOMEM;
}

/* What a cut changes is seen: nothing of it is cached above. */
static int bad_open(const char *path, struct fuse_file_info *fi)
{
    (void)path;
    fi->direct_io = 1;
    return 0;
}

static int control_read(const struct bad_disk *d, char *buf, size_t size, off_t offset)
{
    char text[64];
    int len = snprintf(text, sizeof text, "%s lost %llu kept %llu\n", d->dead ? "off" : "on",
                       (unsigned long long)d->lost, (unsigned long long)d->kept);
    size_t left = offset < len ? (size_t)(len - offset) : 0;
    size_t n = left < size ? left : size;
    memcpy(buf, text + (len - (int)left), n);
    return (int)n;
}

static int bad_read(const char *path, char *buf, size_t size, off_t offset,
                    struct fuse_file_info *fi)
{
    (void)fi;
    struct bad_disk *d = disk_of();
    if (!is_disk(path)) {
        return control_read(d, buf, size, offset);
    }
    if (d->dead) {
        return -EIO;
    }
    size_t at = (size_t)offset, n = at >= d->size ? 0 : d->size - at;
    n = n < size ? n : size;
    memcpy(buf, d->now + at, n);
    return (int)n;
}

static void disk_touch(struct bad_disk *d, size_t at, size_t len)
{
    for (size_t i = at / SECTOR; i <= (at + len - 1) / SECTOR; i++) {
        d->dirty_count += d->dirty[i] == 0 ? 1 : 0;
        d->dirty[i] = 1;
    }
    if (d->cut_at > 0 && d->dirty_count >= d->cut_at) {
        disk_cut(d);
    }
}

static int bad_write(const char *path, const char *buf, size_t size, off_t offset,
                     struct fuse_file_info *fi)
{
    (void)fi;
    struct bad_disk *d = disk_of();
    size_t at = (size_t)offset;
    if (!is_disk(path)) {
        char text[64] = {0};
        memcpy(text, buf, size < sizeof text - 1 ? size : sizeof text - 1);
        int rc = command(d, text);
        return rc < 0 ? rc : (int)size;
    }
    if (d->dead || (d->fail_one_of > 0 && disk_random(d) % d->fail_one_of == 0)) {
        return -EIO;
    }
    if (at > d->size || size > d->size - at || size == 0) {
        return -ENOSPC;
    }
    memcpy(d->now + at, buf, size);
    disk_touch(d, at, size);
    return (int)size;
}

static int bad_fsync(const char *path, int data_only, struct fuse_file_info *fi)
{
    (void)data_only;
    (void)fi;
    struct bad_disk *d = disk_of();
    if (is_disk(path) && d->dead) {
        return -EIO;
    }
    if (is_disk(path)) {
        sectors_settle(d, false);
    }
    return 0;
}

/* As a disk that forgets what is discarded, with the next flush. */
static int bad_fallocate(const char *path, int mode, off_t offset, off_t len,
                         struct fuse_file_info *fi)
{
    (void)fi;
    struct bad_disk *d = disk_of();
    size_t at = (size_t)offset, n = (size_t)len;
    if (!is_disk(path) || (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) == 0) {
        return -EOPNOTSUPP;
    }
    if (d->dead || n == 0 || at > d->size || n > d->size - at) {
        return -EIO;
    }
    memset(d->now + at, 0, n);
    disk_touch(d, at, n);
    return 0;
}

static int bad_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
    (void)fi;
    return is_disk(path) && (size_t)size != disk_of()->size ? -EINVAL : 0;
}

static const struct fuse_operations operations = {.getattr = bad_getattr,
                                                  .readdir = bad_readdir,
                                                  .open = bad_open,
                                                  .read = bad_read,
                                                  .write = bad_write,
                                                  .fsync = bad_fsync,
                                                  .fallocate = bad_fallocate,
                                                  .truncate = bad_truncate};

static uint8_t *pages(size_t len)
{
    void *at =
        mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

int main(int argc, char **argv)
{
    struct bad_disk d = {.random = 1};
    d.size = argc == 3 ? strtoull(argv[2], NULL, 10) / SECTOR * SECTOR : 0;
    if (d.size == 0) {
        fprintf(stderr, "usage: bad_disk MOUNTPOINT BYTES\n");
        return 2;
    }
    d.now = pages(d.size);
    d.stable = pages(d.size);
    d.dirty = pages(d.size / SECTOR);
    if (d.now == NULL || d.stable == NULL || d.dirty == NULL) {
        fprintf(stderr, "bad_disk: no memory\n");
        return 1;
    }
    /* One thread: what is read, written and cut has an order. */
    char *arguments[] = {argv[0], (char *)"-f", (char *)"-s", argv[1], NULL};
    return fuse_main(4, arguments, &operations, &d);
}
