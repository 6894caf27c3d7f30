/* disk/disk.c -- see disk.h: the conveniences on top of disk_now(), the same on every backend. */
#include "disk/disk.h"

#include "base/mem.h"
#include "disk/request_priv.h"

#include <string.h>

int disk_file_fd(const struct disk_file *f)
{
    return f->fd;
}

static int disk_open_now(struct disk *d, const char *path, uint32_t flags, struct disk_file **ret)
{
    struct disk_req req = {.op = DISK_OPEN, .path = path, .flags = flags};
    int64_t rc = disk_now(d, &req);
    if (rc < 0) {
        return (int)rc;
    }
    *ret = req.file;
    return 0;
}

static int disk_close_now(struct disk *d, struct disk_file *f)
{
    struct disk_req req = {.op = DISK_CLOSE, .file = f};
    return (int)disk_now(d, &req);
}

static int disk_path_now(struct disk *d, enum disk_op op, const char *path)
{
    struct disk_req req = {.op = op, .path = path};
    return (int)disk_now(d, &req);
}

/* The directory that `path` lies in, in fresh memory. */
static char *disk_parent(const char *path)
{
    const char *end = path + strlen(path);
    while (end > path && end[-1] == '/') {
        end--;
    }
    while (end > path && end[-1] != '/') {
        end--;
    }
    while (end > path + 1 && end[-1] == '/') {
        end--;
    }
    return end == path ? mem_strdup(".") : mem_printf("%.*s", (int)(end - path), path);
}

static int disk_sync_parent(struct disk *d, const char *path)
{
    CLEANUP(mem_freep) char *parent = disk_parent(path);
    return parent == NULL ? -ENOMEM : disk_path_now(d, DISK_SYNC_DIR, parent);
}

/* ---- Loading ---- */

static int disk_size_now(struct disk *d, struct disk_file *f, uint64_t *ret)
{
    struct disk_req req = {.op = DISK_STAT, .file = f};
    int64_t rc = disk_now(d, &req);
    if (rc < 0) {
        return (int)rc;
    }
    *ret = req.stat.size_bytes;
    return 0;
}

/* One byte more than expected is asked for: so the end of the file is seen, also of one that grew
 * meanwhile or (as in /proc) does not tell its size. */
static int disk_load_file(struct disk *d, struct disk_file *f, size_t max, void **ret,
                          size_t *ret_len)
{
    CLEANUP(mem_freep) uint8_t *bytes = NULL;
    uint64_t size = 0;
    size_t len = 0;
    int64_t rc = disk_size_now(d, f, &size);
    if (rc < 0) {
        return (int)rc;
    }
    for (size_t capacity = 0; len == capacity; len = (size_t)rc) {
        if (size > max) {
            return -EFBIG;
        }
        capacity = (size_t)size + 1;
        uint8_t *grown = mem_realloc(bytes, capacity);
        if (grown == NULL) {
            return -ENOMEM;
        }
        bytes = grown;
        struct disk_req read = {.op = DISK_READ, .file = f, .buf = bytes, .len = capacity};
        rc = disk_now(d, &read);
        if (rc < 0) {
            return (int)rc;
        }
        size = size < max ? base_min(2 * size + DISK_UNIT, max) : size + 1;
    }
    bytes[len] = 0;
    *ret = bytes;
    *ret_len = len;
    bytes = NULL;
    return 0;
}

int disk_load(struct disk *d, const char *path, size_t max, void **ret, size_t *ret_len)
{
    struct disk_file *f = NULL;
    int rc = disk_open_now(d, path, DISK_READ_ONLY, &f);
    if (rc < 0) {
        return rc;
    }
    rc = disk_load_file(d, f, max, ret, ret_len);
    disk_close_now(d, f); /* nothing was written: its result says nothing */
    return rc;
}

/* ---- Storing ---- */

/* Takes over `f` in any case. */
static int disk_fill_and_close(struct disk *d, struct disk_file *f, const void *bytes, size_t len)
{
    struct disk_req write = {.op = DISK_WRITE, .file = f, .len = len};
    write.buf = (void *)bytes; /* only read from */
    int64_t rc = disk_now(d, &write);
    if (rc >= 0) {
        struct disk_req sync = {.op = DISK_SYNC_ALL, .file = f};
        rc = disk_now(d, &sync);
    }
    int closed = disk_close_now(d, f);
    return rc < 0 ? (int)rc : closed;
}

static int disk_store_as(struct disk *d, const char *path, const char *temporary, const void *bytes,
                         size_t len)
{
    struct disk_file *f = NULL;
    int rc = disk_path_now(d, DISK_REMOVE, temporary); /* left by a crash */
    if (rc < 0 && rc != -ENOENT) {
        return rc;
    }
    rc = disk_open_now(d, temporary, DISK_READ_WRITE | DISK_CREATE | DISK_EXCLUSIVE, &f);
    if (rc < 0) {
        return rc;
    }
    rc = disk_fill_and_close(d, f, bytes, len);
    if (rc >= 0) {
        struct disk_req rename = {.op = DISK_RENAME, .path = temporary, .path_to = path};
        rc = (int)disk_now(d, &rename);
    }
    if (rc < 0) {
        disk_path_now(d, DISK_REMOVE, temporary); /* the first error is the one to tell */
    }
    return rc;
}

int disk_store(struct disk *d, const char *path, const void *bytes, size_t len)
{
    CLEANUP(mem_freep) char *temporary = mem_printf("%s.new", path);
    if (temporary == NULL) {
        return -ENOMEM;
    }
    int rc = disk_store_as(d, path, temporary, bytes, len);
    return rc < 0 ? rc : disk_sync_parent(d, path);
}

/* ---- Directories ---- */

/* The parent of a level that exists is synced too: whoever made it may have died before doing so.
 * Parents that cannot be synced (/proc, read-only media) hold no new names. */
static int disk_make_level(struct disk *d, const char *path)
{
    int rc = disk_path_now(d, DISK_MKDIR, path);
    if (rc == 0) {
        return disk_sync_parent(d, path);
    }
    struct disk_req stat = {.op = DISK_STAT, .path = path};
    if (disk_now(d, &stat) < 0) {
        return rc;
    }
    (void)disk_sync_parent(d, path);
    return stat.stat.directory ? 0 : -ENOTDIR;
}

int disk_refresh(struct disk *d, struct disk_file *file)
{
    struct disk_req sync = {.op = DISK_SYNC, .file = file};
    struct disk_req drop = {.op = DISK_DROP, .file = file};
    int64_t rc = disk_now(d, &sync);
    rc = rc < 0 ? rc : disk_now(d, &drop);
    return rc < 0 ? (int)rc : 0;
}

int disk_make_directories(struct disk *d, const char *path)
{
    CLEANUP(mem_freep) char *level = mem_strdup(path);
    if (level == NULL) {
        return -ENOMEM;
    }
    size_t len = strlen(level);
    for (size_t i = 1; i <= len; i++) {
        if ((level[i] != '/' && level[i] != 0) || level[i - 1] == '/') {
            continue;
        }
        level[i] = 0;
        int rc = disk_make_level(d, level);
        if (rc < 0) {
            return rc;
        }
        level[i] = path[i];
    }
    return len == 0 ? -ENOENT : 0;
}
