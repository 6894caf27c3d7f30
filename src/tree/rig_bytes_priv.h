/* tree/rig_bytes_priv.h -- for tests: a disk with a few files that are bytes in memory, for those
 * who use disk_now() only. */
#pragma once

#include "base/mem.h"
#include "disk/disk.h"

#include <stdio.h>
#include <string.h>

#define RIG_FILES_MAX 4u

struct disk_file { /* this backend's */
    char path[64];
    uint8_t *at; /* owned */
    uint64_t len;
    size_t capacity;
};
struct rig_bytes {
    struct disk base;
    struct disk_file file[RIG_FILES_MAX];
    int64_t read_rc; /* of reads at read_at; 0: as it is */
    uint64_t read_at;
    int64_t write_rc;     /* of all writes */
    unsigned touch_after; /* reads, from now: then the first superblock changes; 0: never */
};

static inline struct rig_bytes *rig_bytes_of(struct disk *d)
{
    return container_of(d, struct rig_bytes, base);
}

static inline struct disk_file *rig_bytes_find(struct rig_bytes *b, const char *path)
{
    for (size_t i = 0; i < RIG_FILES_MAX; i++) {
        if (strcmp(b->file[i].path, path) == 0) {
            return &b->file[i];
        }
    }
    return NULL;
}

static inline int rig_bytes_resize(struct disk_file *f, uint64_t len)
{
    int rc = mem_grow(&f->at, &f->capacity, (size_t)len + 1, 1);
    if (rc == 0 && len > f->len) {
        memset(f->at + f->len, 0, (size_t)(len - f->len));
    }
    f->len = rc == 0 ? len : f->len;
    return rc;
}

static inline int64_t rig_bytes_open(struct rig_bytes *b, struct disk_req *req)
{
    struct disk_file *f = rig_bytes_find(b, req->path);
    if (f != NULL && (req->flags & DISK_EXCLUSIVE) != 0) {
        return -EEXIST;
    }
    if (f == NULL && (req->flags & DISK_CREATE) != 0) {
        f = rig_bytes_find(b, "");
        CHECK(f != NULL && strlen(req->path) < sizeof f->path);
        snprintf(f->path, sizeof f->path, "%s", req->path);
    }
    req->file = f;
    return f == NULL ? -ENOENT : 0;
}

static inline int64_t rig_bytes_read(struct rig_bytes *b, struct disk_req *req)
{
    const struct disk_file *f = req->file;
    if (b->read_rc != 0 && req->offset <= b->read_at && b->read_at < req->offset + req->len) {
        return b->read_rc;
    }
    uint64_t left = req->offset < f->len ? f->len - req->offset : 0;
    size_t len = (size_t)base_min(left, req->len);
    if (len > 0) {
        memcpy(req->buf, f->at + req->offset, len);
    }
    if (b->touch_after > 0 && --b->touch_after == 0) {
        req->file->at[40] ^= 1;
    }
    return (int64_t)len;
}

static inline int64_t rig_bytes_write(struct rig_bytes *b, struct disk_req *req)
{
    struct disk_file *f = req->file;
    int rc = b->write_rc != 0 ? (int)b->write_rc
                              : rig_bytes_resize(f, base_max(f->len, req->offset + req->len));
    if (rc < 0) {
        return rc;
    }
    memcpy(f->at + req->offset, req->buf, req->len);
    return (int64_t)req->len;
}

static inline void rig_bytes_forget(struct disk_file *f)
{
    mem_free(f->at);
    *f = (struct disk_file){.path = ""};
}

static inline int64_t rig_bytes_names(struct rig_bytes *b, struct disk_req *req)
{
    struct disk_file *f = rig_bytes_find(b, req->path), *to = NULL;
    if (f == NULL) {
        return -ENOENT;
    }
    if (req->op == DISK_REMOVE) {
        rig_bytes_forget(f);
        return 0;
    }
    to = rig_bytes_find(b, req->path_to);
    if (to != NULL) {
        rig_bytes_forget(to);
    }
    snprintf(f->path, sizeof f->path, "%s", req->path_to);
    return 0;
}

static inline int64_t rig_bytes_now(struct disk *d, struct disk_req *req)
{
    struct rig_bytes *b = rig_bytes_of(d);
    switch ((unsigned)req->op) {
    case DISK_OPEN:
        return rig_bytes_open(b, req);
    case DISK_READ:
        return rig_bytes_read(b, req);
    case DISK_WRITE:
        return rig_bytes_write(b, req);
    case DISK_TRUNCATE:
        return rig_bytes_resize(req->file, req->len);
    case DISK_STAT:
        if (req->file == NULL && rig_bytes_find(b, req->path) == NULL) {
            return -ENOENT;
        }
        req->stat.size_bytes = req->file == NULL ? 0 : req->file->len;
        return 0;
    case DISK_RENAME:
    case DISK_REMOVE:
        return rig_bytes_names(b, req);
    default: /* closing, syncing, dropping */
        return 0;
    }
}

static const struct disk_ops rig_bytes_ops = {.now = rig_bytes_now};

static inline void rig_bytes_init(struct rig_bytes *b)
{
    *b = (struct rig_bytes){.base.ops = &rig_bytes_ops};
}

static inline void rig_bytes_fini(struct rig_bytes *b)
{
    for (size_t i = 0; i < RIG_FILES_MAX; i++) {
        rig_bytes_forget(&b->file[i]);
    }
}

/* A new file, or other bytes in an old one. */
static inline struct disk_file *rig_bytes_put(struct rig_bytes *b, const char *path,
                                              const void *bytes, uint64_t len)
{
    struct disk_req open = {.path = path, .flags = DISK_CREATE};
    CHECK(rig_bytes_open(b, &open) == 0 && rig_bytes_resize(open.file, len) == 0);
    memcpy(open.file->at, bytes, (size_t)len);
    return open.file;
}
