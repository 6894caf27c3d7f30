#include "mount/call_priv.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

/*
 * Names of the mount itself: `.opendfs` in its root, which no listing shows, with `stats`: what the
 * library counts, in the text format of Prometheus. Made when it is opened; no server is asked.
 */

#define OWN_NAME ".opendfs"
#define OWN_STATS "stats"
#define OWN_DIR (MOUNT_OWN_FIRST + 0)
#define OWN_FILE (MOUNT_OWN_FIRST + 1)
#define OWN_MORE_BYTES 1024u

static struct opendfs_stat own_stat(const struct mount *m, uint64_t ino)
{
    bool directory = ino == OWN_DIR;
    int64_t now_ns = (int64_t)loop_wall_ns(m->env.loop);
    return (struct opendfs_stat){
        .ino = ino,
        .type = directory ? OPENDFS_TYPE_DIRECTORY : OPENDFS_TYPE_FILE,
        .mode = directory ? 0555 : 0444,
        .nlink = directory ? 2 : 1,
        .atime_ns = now_ns,
        .mtime_ns = now_ns,
        .ctime_ns = now_ns,
    };
}

bool mount_is_own_name(const struct mount *m, uint64_t dir, const char *name)
{
    return dir >= MOUNT_OWN_FIRST || (dir == m->root && strcmp(name, OWN_NAME) == 0);
}

bool mount_is_own(const struct mount_call *c)
{
    return mount_is_own_name(c->mount, c->ino, c->name);
}

void mount_own_lookup(struct mount_call *c)
{
    bool stats = c->ino == OWN_DIR && strcmp(c->name, OWN_STATS) == 0;
    bool self = c->ino >= MOUNT_OWN_FIRST && strcmp(c->name, ".") == 0;
    bool above = c->ino == OWN_DIR && strcmp(c->name, "..") == 0;
    if (above) {
        c->ino = c->mount->root;
        snprintf(c->name, sizeof c->name, ".");
        mount_lookup(c);
        return;
    }
    struct opendfs_stat st = own_stat(c->mount, c->ino == OWN_FILE ? OWN_FILE : OWN_DIR);
    if (stats) {
        st = own_stat(c->mount, OWN_FILE);
    } else if (!self && c->ino != c->mount->root) {
        c->answers->done(c, c->ino == OWN_DIR ? -ENOENT : -ENOTDIR);
        return;
    }
    c->answers->entry(c, &st);
}

void mount_own_getattr(struct mount_call *c)
{
    struct opendfs_stat st = own_stat(c->mount, c->ino);
    c->answers->attr(c, &st);
}

void mount_own_access(struct mount_call *c, unsigned rights)
{
    bool writes = (rights & OPENDFS_WRITE) != 0;
    bool runs = c->ino == OWN_FILE && (rights & OPENDFS_EXECUTE) != 0;
    c->answers->done(c, writes || runs ? -EACCES : 0);
}

static void counted(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    struct mount *m = c->mount;
    int rc = op->result < 0 ? (int)op->result : 0;
    struct mount_handle *h = rc == 0 ? mount_handle_new() : NULL;
    size_t room = rc == 0 ? op->data_len + OWN_MORE_BYTES : 0;
    char *at = h == NULL ? NULL : mem_alloc(room);
    rc = rc == 0 && at == NULL ? -ENOMEM : rc;
    if (rc == 0) {
        struct text t;
        text_init(&t, at, room);
        text_add_whole(&t, op->data, op->data_len);
        text_add(&t,
                 "# HELP opendfs_mount_calls_total Calls of the kernel that were answered.\n"
                 "# TYPE opendfs_mount_calls_total counter\nopendfs_mount_calls_total %llu\n"
                 "# HELP opendfs_mount_calls_waiting Calls of the kernel that are under way.\n"
                 "# TYPE opendfs_mount_calls_waiting gauge\nopendfs_mount_calls_waiting %zu\n"
                 "# HELP opendfs_mount_process_id The process that serves this mount.\n"
                 "# TYPE opendfs_mount_process_id gauge\nopendfs_mount_process_id %lld\n",
                 (unsigned long long)m->answered, m->call_count - 1,
                 (long long)loop_process_id(m->env.loop));
        h->ino = OWN_FILE;
        h->own = at;
        h->own_len = t.len;
    } else if (h != NULL) {
        mount_handle_free(h);
    }
    if (op->result >= 0) {
        opendfs_async_release(m->fs, op);
    }
    if (rc < 0) {
        c->answers->done(c, rc);
    } else {
        c->answers->opened(c, h);
    }
}

void mount_own_open(struct mount_call *c)
{
    if (c->ino != OWN_FILE || (c->flags & (OPENDFS_WRITE | OPENDFS_EXECUTE)) != 0) {
        c->answers->done(c, -EACCES);
        return;
    }
    c->op.done = counted;
    c->op.context = c;
    opendfs_async_metrics(c->mount->fs, &c->op, OPENDFS_METRICS_OWN);
}

void mount_own_read(struct mount_call *c)
{
    const struct mount_handle *h = c->handle;
    uint64_t from = base_min(c->offset, h->own_len);
    struct iovec v = {h->own + from, base_min(c->size, h->own_len - from)};
    c->answers->data(c, &v, v.iov_len > 0 ? 1 : 0);
}

void mount_own_opendir(struct mount_call *c)
{
    struct mount_handle *h = mount_handle_new();
    if (h == NULL) {
        c->answers->done(c, -ENOMEM);
        return;
    }
    h->ino = OWN_DIR;
    c->answers->opened(c, h);
}

void mount_own_readdir(struct mount_call *c)
{
    static const char *const names[] = {".", "..", OWN_STATS};
    const uint64_t inodes[] = {OWN_DIR, c->mount->root, OWN_FILE};
    size_t used = 0, n = 1;
    c->text = mem_alloc(c->size);
    if (c->text == NULL) {
        c->answers->done(c, -ENOMEM);
        return;
    }
    for (uint64_t at = c->offset; at < ARRAY_COUNT(names) && n > 0; at++) {
        struct opendfs_stat st = own_stat(c->mount, inodes[at]);
        st.type = at < 2 ? OPENDFS_TYPE_DIRECTORY : st.type;
        n = mount_fuse_dirent(c, c->text + used, c->size - used, names[at], &st, at + 1);
        used += n;
    }
    struct iovec v = {c->text, used};
    c->answers->data(c, &v, used > 0 ? 1 : 0);
}

void mount_own_release(struct mount_call *c)
{
    mem_free(c->handle->own);
    mount_handle_free(c->handle);
    c->answers->done(c, 0);
}
