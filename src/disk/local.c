/* disk/local.c -- see local.h. Interrupted calls go on; partial ones are continued. */
#include "disk/local.h"

#include "base/mem.h"
#include "disk/disk.h"
#include "disk/ops_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define NS_PER_S 1000000000ll

struct disk_local_file {
    int fd;
    bool standard; /* not ours to close, no offsets */
};

static int result(int rc)
{
    return rc < 0 ? -errno : rc;
}

static int64_t to_ns(struct timespec t)
{
    return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

/* Times before 1970: the nanoseconds are positive still. */
static struct timespec from_ns(int64_t ns)
{
    int64_t s = ns / NS_PER_S, rest = ns % NS_PER_S;
    if (rest < 0) {
        s--;
        rest += NS_PER_S;
    }
    return (struct timespec){.tv_sec = s, .tv_nsec = rest};
}

static int stat_at(const char *path, int flags, struct disk_local_attr *ret)
{
    struct stat st;
    if (fstatat(AT_FDCWD, path, &st, flags) < 0) {
        return -errno;
    }
    *ret = (struct disk_local_attr){.mode = st.st_mode,
                                    .uid = st.st_uid,
                                    .gid = st.st_gid,
                                    .nlink = st.st_nlink,
                                    .device = st.st_dev,
                                    .ino = st.st_ino,
                                    .rdev = st.st_rdev,
                                    .size_bytes = (uint64_t)st.st_size,
                                    .allocated_bytes = (uint64_t)st.st_blocks * 512,
                                    .atime_ns = to_ns(st.st_atim),
                                    .mtime_ns = to_ns(st.st_mtim)};
    return 0;
}

int disk_local_lstat(const char *path, struct disk_local_attr *ret)
{
    return stat_at(path, AT_SYMLINK_NOFOLLOW, ret);
}

int disk_local_stat(const char *path, struct disk_local_attr *ret)
{
    return stat_at(path, 0, ret);
}

int disk_local_list(const char *path, struct disk_names **ret)
{
    struct disk_req req = {.op = DISK_LIST, .path = path};
    int64_t rc = disk_ops_run(&req, NULL);
    if (rc < 0) {
        return (int)rc;
    }
    *ret = req.names;
    return 0;
}

int64_t disk_local_readlink(const char *path, char *out, size_t size)
{
    ssize_t n = readlink(path, out, size);
    if (n < 0) {
        return -errno;
    }
    if ((size_t)n >= size) {
        return -ENAMETOOLONG;
    }
    out[n] = 0;
    return n;
}

int disk_local_symlink(const char *target, const char *path)
{
    return result(symlink(target, path));
}

int disk_local_link(const char *existing, const char *path)
{
    return result(linkat(AT_FDCWD, existing, AT_FDCWD, path, 0));
}

static int whole_of(const char *path, const char *last, char **ret)
{
    char *real = realpath(path, NULL);
    if (real == NULL) {
        return -errno;
    }
    const char *between = strcmp(real, "/") == 0 || *last == '\0' ? "" : "/";
    *ret = mem_printf("%s%s%s", real, between, last);
    free(real); /* NOLINT(cppcoreguidelines-no-malloc,cppcoreguidelines-owning-memory): of libc */
    return *ret == NULL ? -ENOMEM : 0;
}

int disk_local_whole(const char *path, char **ret)
{
    CLEANUP(mem_freep) char *copy = mem_strdup(path);
    if (copy == NULL) {
        return -ENOMEM;
    }
    for (size_t len = strlen(copy); len > 1 && copy[len - 1] == '/'; len--) {
        copy[len - 1] = '\0';
    }
    char *slash = strrchr(copy, '/');
    char *last = slash == NULL ? copy : slash + 1;
    if (*last == '\0' || strcmp(last, ".") == 0 || strcmp(last, "..") == 0) {
        return whole_of(copy, "", ret); /* its parent cannot be told from its name */
    }
    if (slash == NULL) {
        return whole_of(".", last, ret);
    }
    *slash = '\0';
    return whole_of(slash == copy ? "/" : copy, last, ret);
}

int disk_local_read_ahead(const char *at, uint64_t bytes)
{
    struct statx s;
    char path[96], text[32];
    if (statx(AT_FDCWD, at, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0, &s) < 0) {
        return -errno;
    }
    (void)snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", s.stx_dev_major,
                   s.stx_dev_minor);
    int len = snprintf(text, sizeof text, "%llu", (unsigned long long)(bytes / 1024));
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int rc = write(fd, text, (size_t)len) == len ? 0 : -EIO;
    close(fd);
    return rc;
}

int disk_local_mkdir(const char *path, uint32_t mode)
{
    return result(mkdir(path, mode));
}

int disk_local_mknod(const char *path, uint32_t mode, uint64_t rdev)
{
    return result(mknod(path, mode, rdev));
}

int disk_local_rename(const char *from, const char *to)
{
    return result(rename(from, to));
}

int disk_local_remove(const char *path)
{
    int rc = result(unlink(path));
    return rc == -EISDIR || rc == -EPERM ? result(rmdir(path)) : rc;
}

int disk_local_set(const char *path, const struct disk_local_attr *values, unsigned mask)
{
    if ((mask & DISK_LOCAL_OWNER) != 0 && lchown(path, values->uid, values->gid) < 0) {
        return -errno;
    }
    if ((mask & DISK_LOCAL_MODE) != 0 && !S_ISLNK(values->mode) &&
        chmod(path, values->mode & 07777u) < 0) {
        return -errno;
    }
    if ((mask & DISK_LOCAL_TIMES) != 0) {
        struct timespec times[2] = {from_ns(values->atime_ns), from_ns(values->mtime_ns)};
        return result(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW));
    }
    return 0;
}

static int wrap(int fd, bool standard, struct disk_local_file **ret)
{
    struct disk_local_file *f = mem_zalloc(sizeof *f);
    if (f == NULL) {
        if (!standard) {
            close(fd);
        }
        return -ENOMEM;
    }
    *f = (struct disk_local_file){.fd = fd, .standard = standard};
    *ret = f;
    return 0;
}

static int open_file(const char *path, int flags, struct disk_local_file **ret)
{
    int fd;
    do {
        fd = open(path, flags | O_CLOEXEC | O_NOCTTY, 0600);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        return -errno;
    }
    struct stat st;
    int rc = result(fstat(fd, &st));
    if (rc == 0 && S_ISDIR(st.st_mode)) {
        rc = -EISDIR;
    }
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return wrap(fd, !S_ISREG(st.st_mode), ret);
}

int disk_local_open(const char *path, struct disk_local_file **ret)
{
    return open_file(path, O_RDONLY, ret);
}

int disk_local_create(const char *path, struct disk_local_file **ret)
{
    return open_file(path, O_RDWR | O_CREAT | O_EXCL, ret);
}

int disk_local_standard(int number, struct disk_local_file **ret)
{
    return wrap(number, true, ret);
}

int64_t disk_local_list_xattrs(const char *path, char *names, size_t size)
{
    ssize_t n = llistxattr(path, names, size);
    return n < 0 ? -errno : n;
}

int64_t disk_local_get_xattr(const char *path, const char *name, void *value, size_t size)
{
    ssize_t n = lgetxattr(path, name, value, size);
    return n < 0 ? -errno : n;
}

int disk_local_set_xattr(const char *path, const char *name, const void *value, size_t len)
{
    return result(lsetxattr(path, name, value, len, 0));
}

int64_t disk_local_read(struct disk_local_file *f, void *out, size_t len, uint64_t offset)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = f->standard
                        ? read(f->fd, (char *)out + done, len - done)
                        : pread(f->fd, (char *)out + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    return (int64_t)done;
}

int disk_local_write(struct disk_local_file *f, const void *bytes, size_t len, uint64_t offset)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = f->standard ? write(f->fd, (const char *)bytes + done, len - done)
                                : pwrite(f->fd, (const char *)bytes + done, len - done,
                                         (off_t)(offset + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        done += (size_t)n;
    }
    return 0;
}

int disk_local_set_size(struct disk_local_file *f, uint64_t size_bytes)
{
    return result(ftruncate(f->fd, (off_t)size_bytes));
}

int disk_local_sync(struct disk_local_file *f)
{
    int rc = result(fsync(f->fd));
    return rc == -EINVAL && f->standard ? 0 : rc; /* pipes and terminals have nothing to sync */
}

int disk_local_close(struct disk_local_file *f)
{
    if (f == NULL) {
        return 0;
    }
    int rc = f->standard && f->fd <= 2 ? 0 : result(close(f->fd));
    mem_free(f);
    return rc == -EINTR ? 0 : rc; /* Linux has closed it in any case */
}
