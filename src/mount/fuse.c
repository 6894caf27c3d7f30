#define FUSE_USE_VERSION 314
#include "mount/call_priv.h"

#include "base/log.h"
#include "disk/local.h"
#include "mount/fuse_io_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/*
 * The transport by libfuse, low level. Requests are read on the loop, as many as there are, and
 * become calls; answers go back from the loop when they are there. A write takes the buffer along
 * that its bytes came in: they are copied once, into what goes to the data nodes.
 */

#define FUSE_CALLS_MAX 512u /* of the kernel's background requests */

#define FUSE_NOTIFIERS 8u
#define FUSE_NOTIFICATIONS 65536u /* more than there are requests */
#define READ_AHEAD_BYTES (UINT64_C(1) << 20)

#define FLAG_EXEC 040 /* of open: the kernel's __FMODE_EXEC, told since there are flags to tell */

struct mount_fuse {
    struct mount *mount;
    struct fuse_session *session;
    struct loop_executor *notifier; /* tells the kernel what it would wait for us with */
    struct loop_fd watch;
    struct loop_task more;
    struct fuse_buf buf;
    struct mount_fuse_greeting greeting;
    bool mounted, watched, quiet;
    char *at; /* owned */
    uint64_t read_ahead_bytes;
};
struct fuse_call {
    struct mount_call c;
    fuse_req_t req;
    void *bytes; /* owned: the request, of a write */
};

static struct fuse_call *fuse_call_of(struct mount_call *c)
{
    return container_of(c, struct fuse_call, c);
}

/* --- answers ------------------------------------------------------------------------------------
 */

static void fuse_call_over(struct mount_call *c)
{
    struct fuse_call *f = fuse_call_of(c);
    mount_call_end(c);
    free(f->bytes); /* libfuse's */
    mem_free(f);
}

static mode_t mode_of(uint32_t type)
{
    return (mode_t)type << 12; /* DT_... and S_IF... */
}

static struct timespec time_of(int64_t ns)
{
    int64_t s = ns / 1000000000, rest = ns % 1000000000;
    return (struct timespec){.tv_sec = rest < 0 ? s - 1 : s,
                             .tv_nsec = rest < 0 ? rest + 1000000000 : rest};
}

static struct stat stat_of(const struct mount *m, const struct opendfs_stat *s)
{
    return (struct stat){.st_ino = mount_node(m, s->ino),
                         .st_mode = mode_of(s->type) | s->mode,
                         .st_nlink = s->nlink,
                         .st_uid = s->uid,
                         .st_gid = s->gid,
                         .st_rdev = s->rdev,
                         .st_size = (off_t)s->size_bytes,
                         .st_blocks = (blkcnt_t)((s->allocated_bytes + 511) / 512),
                         .st_blksize = MOUNT_IO_BYTES,
                         .st_atim = time_of(s->atime_ns),
                         .st_mtim = time_of(s->mtime_ns),
                         .st_ctim = time_of(s->ctime_ns)};
}

static struct fuse_entry_param entry_of(const struct mount *m, const struct opendfs_stat *s)
{
    return (struct fuse_entry_param){
        .ino = mount_node(m, s->ino), .generation = 1, .attr = stat_of(m, s)};
}

static void answer_done(struct mount_call *c, int rc)
{
    fuse_reply_err(fuse_call_of(c)->req, -rc);
    fuse_call_over(c);
}

static void answer_entry(struct mount_call *c, const struct opendfs_stat *s)
{
    struct fuse_entry_param e = entry_of(c->mount, s);
    fuse_reply_entry(fuse_call_of(c)->req, &e);
    fuse_call_over(c);
}

static void answer_attr(struct mount_call *c, const struct opendfs_stat *s)
{
    struct stat st = stat_of(c->mount, s);
    fuse_reply_attr(fuse_call_of(c)->req, &st, 0);
    fuse_call_over(c);
}

static void answer_text(struct mount_call *c, const char *text, size_t len)
{
    (void)len;
    fuse_reply_readlink(fuse_call_of(c)->req, text);
    fuse_call_over(c);
}

static struct fuse_file_info info_of(const struct mount_handle *h)
{
    return (struct fuse_file_info){.fh = (uint64_t)(uintptr_t)h,
                                   .direct_io = h->own != NULL}; /* nobody knows its size before */
}

static void answer_none(struct mount_call *c, int rc)
{
    (void)rc;
    fuse_call_over(c);
}

static const struct mount_answers no_answers = {.done = answer_none};

/* A handle that the kernel does not want any more (its opener was interrupted) is given back. */
static void handle_unwanted(struct mount_call *c, struct mount_handle *h, int rc)
{
    if (rc != -ENOENT) {
        fuse_call_over(c);
        return;
    }
    c->handle = h;
    c->answers = &no_answers;
    if (h->file == NULL) {
        mount_releasedir(c);
    } else {
        mount_release(c);
    }
}

static void answer_opened(struct mount_call *c, struct mount_handle *h)
{
    struct fuse_file_info info = info_of(h);
    handle_unwanted(c, h, fuse_reply_open(fuse_call_of(c)->req, &info));
}

static void answer_created(struct mount_call *c, const struct opendfs_stat *s,
                           struct mount_handle *h)
{
    struct fuse_file_info info = info_of(h);
    struct fuse_entry_param e = entry_of(c->mount, s);
    handle_unwanted(c, h, fuse_reply_create(fuse_call_of(c)->req, &e, &info));
}

static void answer_count(struct mount_call *c, size_t n)
{
    struct fuse_call *f = fuse_call_of(c);
    if (f->bytes != NULL) {
        fuse_reply_write(f->req, n);
    } else {
        fuse_reply_xattr(f->req, n);
    }
    fuse_call_over(c);
}

static void answer_copied(struct mount_call *c, size_t n)
{
    fuse_reply_write(fuse_call_of(c)->req, n);
    fuse_call_over(c);
}

static void answer_place(struct mount_call *c, uint64_t offset)
{
    fuse_reply_lseek(fuse_call_of(c)->req, (off_t)offset);
    fuse_call_over(c);
}

static void answer_data(struct mount_call *c, const struct iovec *iov, int count)
{
    fuse_reply_iov(fuse_call_of(c)->req, iov, count);
    fuse_call_over(c);
}

static void answer_space(struct mount_call *c, const struct opendfs_space *s)
{
    struct statvfs v = {.f_bsize = MOUNT_IO_BYTES,
                        .f_frsize = 4096,
                        .f_blocks = s->total_bytes / 4096,
                        .f_bfree = s->free_bytes / 4096,
                        .f_bavail = s->free_bytes / 4096,
                        .f_files = s->files + s->free_files,
                        .f_ffree = s->free_files,
                        .f_favail = s->free_files,
                        .f_namemax = MOUNT_NAME_MAX};
    fuse_reply_statfs(fuse_call_of(c)->req, &v);
    fuse_call_over(c);
}

static void answer_lock(struct mount_call *c, const struct opendfs_lock *l)
{
    struct flock f = {.l_type = l->type == OPENDFS_LOCK_NONE   ? F_UNLCK
                                : l->type == OPENDFS_LOCK_READ ? F_RDLCK
                                                               : F_WRLCK,
                      .l_whence = SEEK_SET,
                      .l_start = (off_t)l->start,
                      .l_pid = (pid_t)l->pid};
    f.l_len = l->last == OPENDFS_LOCK_LAST ? 0 : (off_t)(l->last - l->start + 1);
    fuse_reply_lock(fuse_call_of(c)->req, &f);
    fuse_call_over(c);
}

static const struct mount_answers fuse_answers = {.done = answer_done,
                                                  .entry = answer_entry,
                                                  .attr = answer_attr,
                                                  .text = answer_text,
                                                  .opened = answer_opened,
                                                  .created = answer_created,
                                                  .count = answer_count,
                                                  .copied = answer_copied,
                                                  .place = answer_place,
                                                  .data = answer_data,
                                                  .space = answer_space,
                                                  .lock = answer_lock};

size_t mount_fuse_groups(struct mount_call *c, uint32_t *groups, size_t max)
{
    int n = c->pid == 0 ? 0 : fuse_req_getgroups(fuse_call_of(c)->req, (int)max, groups);
    return n < 0 ? 0 : base_min((size_t)n, max);
}

size_t mount_fuse_dirent(struct mount_call *c, char *to, size_t room, const char *name,
                         const struct opendfs_stat *s, uint64_t next)
{
    fuse_req_t req = fuse_call_of(c)->req;
    size_t n;
    if (c->plus) {
        struct fuse_entry_param e = entry_of(c->mount, s);
        bool dots = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
        e.ino = dots ? 0 : e.ino; /* not looked up by that */
        n = fuse_add_direntry_plus(req, to, room, name, &e, (off_t)next);
    } else {
        struct stat st = stat_of(c->mount, s);
        n = fuse_add_direntry(req, to, room, name, &st, (off_t)next);
    }
    return n <= room ? n : 0;
}

/* --- requests -----------------------------------------------------------------------------------
 */

/* NULL: no memory, and it was said. */
static struct mount_call *call_new(fuse_req_t req, fuse_ino_t node, const char *name)
{
    struct mount_fuse *fuse = fuse_req_userdata(req);
    const struct fuse_ctx *who = fuse_req_ctx(req);
    struct fuse_call *f = mem_zalloc(sizeof *f);
    if (f == NULL) {
        fuse_reply_err(req, ENOMEM);
        return NULL;
    }
    struct mount_call *c = &f->c;
    f->req = req;
    c->answers = &fuse_answers;
    c->ino = mount_ino(fuse->mount, node);
    c->uid = who->uid;
    c->gid = who->gid;
    c->pid = who->pid;
    c->umask = who->umask;
    mount_call_begin(fuse->mount, c);
    if (name != NULL && strlen(name) > MOUNT_NAME_MAX) {
        answer_done(c, -ENAMETOOLONG);
        return NULL;
    }
    snprintf(c->name, sizeof c->name, "%s", name == NULL ? "" : name);
    return c;
}

static struct mount_call *call_of_file(fuse_req_t req, fuse_ino_t node,
                                       const struct fuse_file_info *info)
{
    struct mount_call *c = call_new(req, node, NULL);
    if (c != NULL && info != NULL) {
        c->handle = (struct mount_handle *)(uintptr_t)info->fh;
    }
    return c;
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct mount_call *c = call_new(req, parent, name);
    if (c != NULL) {
        mount_lookup(c);
    }
}

static void on_forget(fuse_req_t req, fuse_ino_t node, uint64_t count)
{
    (void)node;
    (void)count;
    fuse_reply_none(req);
}

static void on_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *info)
{
    struct mount_call *c = call_of_file(req, node, info);
    if (c != NULL) {
        mount_getattr(c);
    }
}

/* As other file systems have it: what is beyond the range becomes its end. */
static int64_t ns_of(const struct timespec *t)
{
    int64_t ns;
    bool beyond = __builtin_mul_overflow((int64_t)t->tv_sec, INT64_C(1000000000), &ns) ||
                  __builtin_add_overflow(ns, (int64_t)t->tv_nsec, &ns);
    return !beyond ? ns : t->tv_sec < 0 ? INT64_MIN : INT64_MAX;
}

static void on_setattr(fuse_req_t req, fuse_ino_t node, struct stat *st, int to_set,
                       struct fuse_file_info *info)
{
    static const unsigned mask_of[][2] = {{FUSE_SET_ATTR_MODE, OPENDFS_SET_MODE},
                                          {FUSE_SET_ATTR_UID, OPENDFS_SET_UID},
                                          {FUSE_SET_ATTR_GID, OPENDFS_SET_GID},
                                          {FUSE_SET_ATTR_SIZE, OPENDFS_SET_SIZE},
                                          {FUSE_SET_ATTR_ATIME, OPENDFS_SET_ATIME},
                                          {FUSE_SET_ATTR_MTIME, OPENDFS_SET_MTIME},
                                          {FUSE_SET_ATTR_ATIME_NOW, OPENDFS_SET_ATIME_NOW},
                                          {FUSE_SET_ATTR_MTIME_NOW, OPENDFS_SET_MTIME_NOW},
                                          {FUSE_SET_ATTR_KILL_SUID, OPENDFS_SET_KILL_PRIV}};
    struct mount_call *c = call_of_file(req, node, info);
    unsigned mask = 0;
    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < ARRAY_COUNT(mask_of); i++) {
        mask |= ((unsigned)to_set & mask_of[i][0]) != 0 ? mask_of[i][1] : 0;
    }
    if ((mask & OPENDFS_SET_ATIME_NOW) != 0) {
        mask &= ~(unsigned)OPENDFS_SET_ATIME;
    }
    if ((mask & OPENDFS_SET_MTIME_NOW) != 0) {
        mask &= ~(unsigned)OPENDFS_SET_MTIME;
    }
    c->values = (struct opendfs_stat){.mode = st->st_mode & 07777,
                                      .uid = st->st_uid,
                                      .gid = st->st_gid,
                                      .size_bytes = (uint64_t)st->st_size,
                                      .atime_ns = ns_of(&st->st_atim),
                                      .mtime_ns = ns_of(&st->st_mtim)};
    mount_setattr(c, mask);
}

static void on_readlink(fuse_req_t req, fuse_ino_t node)
{
    struct mount_call *c = call_new(req, node, NULL);
    if (c != NULL) {
        mount_readlink(c);
    }
}

static void on_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    struct mount_call *c = call_new(req, parent, name);
    if (c != NULL) {
        c->values = (struct opendfs_stat){
            .type = (mode & S_IFMT) >> 12, .mode = mode & 07777, .rdev = rdev};
        mount_make(c);
    }
}

static void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    on_mknod(req, parent, name, S_IFDIR | (mode & 07777), 0);
}

static void on_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    struct mount_call *c = call_new(req, parent, name);
    if (c == NULL) {
        return;
    }
    c->text = mem_strdup(target);
    c->values = (struct opendfs_stat){.type = OPENDFS_TYPE_SYMLINK};
    if (c->text == NULL) {
        answer_done(c, -ENOMEM);
    } else {
        mount_make(c);
    }
}

static void on_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct mount_call *c = call_new(req, parent, name);
    if (c != NULL) {
        mount_remove(c, false);
    }
}

static void on_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct mount_call *c = call_new(req, parent, name);
    if (c != NULL) {
        mount_remove(c, true);
    }
}

static void on_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent,
                      const char *to, unsigned flags)
{
    struct mount_call *c = call_new(req, parent, name);
    if (c == NULL) {
        return;
    }
    if (strlen(to) > MOUNT_NAME_MAX) {
        answer_done(c, -ENAMETOOLONG);
        return;
    }
    snprintf(c->to, sizeof c->to, "%s", to);
    c->flags = flags; /* the numbers are the kernel's */
    mount_rename(c, mount_ino(c->mount, to_parent));
}

static void on_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t parent, const char *name)
{
    struct mount_call *c = call_new(req, node, name);
    if (c != NULL) {
        mount_link(c, mount_ino(c->mount, parent));
    }
}

/* --- files --------------------------------------------------------------------------------------
 */

static unsigned open_flags(int flags)
{
    unsigned r = (flags & O_ACCMODE) == O_RDONLY   ? OPENDFS_READ
                 : (flags & O_ACCMODE) == O_WRONLY ? OPENDFS_WRITE
                                                   : OPENDFS_READ | OPENDFS_WRITE;
    r |= (flags & FLAG_EXEC) != 0 ? OPENDFS_EXECUTE : 0;
    r |= (flags & O_TRUNC) != 0 ? OPENDFS_TRUNCATE : 0;
    r |= (flags & O_EXCL) != 0 ? OPENDFS_EXCLUSIVE : 0;
    r |= (flags & O_APPEND) != 0 && r != OPENDFS_READ ? OPENDFS_APPEND : 0;
    return r | ((flags & (O_SYNC | O_DSYNC)) != 0 ? OPENDFS_SYNC : 0);
}

static void on_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *info)
{
    struct mount_call *c = call_new(req, node, NULL);
    if (c != NULL) {
        c->flags = open_flags(info->flags) & ~(unsigned)OPENDFS_EXCLUSIVE;
        mount_open(c);
    }
}

static void on_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *info)
{
    struct mount_call *c = call_new(req, parent, name);
    if (c != NULL) {
        c->flags = open_flags(info->flags);
        c->values.mode = mode & 07777;
        mount_create(c);
    }
}

static void on_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
                    struct fuse_file_info *info)
{
    struct mount_call *c = call_of_file(req, node, info);
    if (c != NULL) {
        c->size = size;
        c->offset = (uint64_t)off;
        mount_read(c);
    }
}

static void on_write_buf(fuse_req_t req, fuse_ino_t node, struct fuse_bufvec *in, off_t off,
                         struct fuse_file_info *info)
{
    struct mount_fuse *fuse = fuse_req_userdata(req);
    struct mount_call *c = call_of_file(req, node, info);
    if (c == NULL) {
        return;
    }
    const struct fuse_buf *b = &in->buf[in->idx];
    const char *from = (const char *)b->mem + in->off;
    c->size = b->size - in->off;
    c->offset = (uint64_t)off;
    if (in->count != 1 || (b->flags & FUSE_BUF_IS_FD) != 0) {
        answer_done(c, -EIO); /* not asked for: splicing is off */
        return;
    }
    c->flags = open_flags(info->flags);     /* of now: fcntl(2) changes them */
    fuse_call_of(c)->bytes = fuse->buf.mem; /* the next request gets another one */
    fuse->buf.mem = NULL;
    mount_write(c, from);
}

static void on_lseek(fuse_req_t req, fuse_ino_t node, off_t off, int whence,
                     struct fuse_file_info *info)
{
    struct mount_call *c = call_of_file(req, node, info);
    if (c != NULL) {
        c->offset = (uint64_t)off;
        mount_lseek(c, whence);
    }
}

static void on_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t off, off_t len,
                         struct fuse_file_info *info)
{
    struct mount_call *c = call_of_file(req, node, info);
    if (c != NULL) {
        c->offset = (uint64_t)off;
        mount_fallocate(c, mode, (uint64_t)len);
    }
}

static void on_copy(fuse_req_t req, fuse_ino_t node, off_t off, struct fuse_file_info *info,
                    fuse_ino_t to_node, off_t to_off, struct fuse_file_info *to, size_t len,
                    int flags)
{
    struct mount_call *c = call_of_file(req, node, info);
    (void)to_node;
    (void)flags;
    if (c != NULL) {
        c->offset = (uint64_t)off;
        c->size = len;
        mount_copy(c, (struct mount_handle *)(uintptr_t)to->fh, (uint64_t)to_off);
    }
}

static void on_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *info)
{
    struct mount_call *c = call_of_file(req, node, info);
    if (c != NULL) {
        c->lock.owner = info->lock_owner;
        mount_flush(c);
    }
}

static void on_fsync(fuse_req_t req, fuse_ino_t node, int data_only, struct fuse_file_info *info)
{
    struct mount_call *c = call_of_file(req, node, info);
    (void)data_only;
    if (c != NULL) {
        mount_fsync(c);
    }
}

static void on_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *info)
{
    struct mount_call *c = call_of_file(req, node, info);
    if (c != NULL) {
        mount_release(c);
    }
}

/* --- locks --------------------------------------------------------------------------------------
 */

static struct opendfs_lock lock_of(const struct flock *l, uint64_t owner)
{
    return (struct opendfs_lock){.kind = OPENDFS_LOCK_POSIX,
                                 .type = l->l_type == F_RDLCK   ? OPENDFS_LOCK_READ
                                         : l->l_type == F_WRLCK ? OPENDFS_LOCK_WRITE
                                                                : OPENDFS_LOCK_NONE,
                                 .start = (uint64_t)l->l_start,
                                 .last = l->l_len == 0 ? (uint64_t)OPENDFS_LOCK_LAST
                                                       : (uint64_t)(l->l_start + l->l_len - 1),
                                 .owner = owner,
                                 .pid = (uint32_t)l->l_pid};
}

static void on_interrupt(fuse_req_t req, void *data)
{
    struct mount_call *c = data;
    (void)req;
    if (c->waits) {
        client_op_cancel(&c->op);
    }
}

static void lock_asked(struct mount_call *c, bool wait)
{
    if (wait) {
        fuse_req_interrupt_func(fuse_call_of(c)->req, on_interrupt, c);
    }
    mount_lock(c, wait);
}

static void on_setlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *info,
                     struct flock *lock, int wait)
{
    struct mount_call *c = call_of_file(req, node, info);
    if (c != NULL) {
        c->lock = lock_of(lock, info->lock_owner);
        lock_asked(c, wait != 0 && c->lock.type != OPENDFS_LOCK_NONE);
    }
}

static void on_getlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *info,
                     struct flock *lock)
{
    struct mount_call *c = call_of_file(req, node, info);
    if (c != NULL) {
        c->lock = lock_of(lock, info->lock_owner);
        mount_lock_test(c);
    }
}

static void on_flock(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *info, int op)
{
    struct mount_call *c = call_of_file(req, node, info);
    if (c != NULL) {
        int type = op & ~LOCK_NB;
        c->lock = (struct opendfs_lock){.kind = OPENDFS_LOCK_FLOCK,
                                        .type = type == LOCK_SH   ? OPENDFS_LOCK_READ
                                                : type == LOCK_EX ? OPENDFS_LOCK_WRITE
                                                                  : OPENDFS_LOCK_NONE,
                                        .last = OPENDFS_LOCK_LAST,
                                        .owner = info->lock_owner,
                                        .pid = (uint32_t)c->pid};
        lock_asked(c, (op & LOCK_NB) == 0 && type != LOCK_UN);
    }
}

static void forget_work(struct loop_executor_job *j)
{
    struct mount_forget *f = container_of(j, struct mount_forget, job);
    (void)fuse_lowlevel_notify_inval_inode(f->fuse->session, mount_node(f->fuse->mount, f->ino), 0,
                                           0); /* it may have none, or have forgotten the file */
}

static void forget_done(struct loop_executor_job *j)
{
    struct mount_forget *f = container_of(j, struct mount_forget, job);
    if (j->refused < 0) { /* too many at once: as soon as there is room */
        mount_fuse_forget(f->fuse, f->ino, f);
        return;
    }
    f->done(f);
}

void mount_fuse_forget(struct mount_fuse *fuse, uint64_t ino, struct mount_forget *f)
{
    f->fuse = fuse;
    f->ino = ino;
    f->job.work = forget_work;
    f->job.done = forget_done;
    loop_executor_start(fuse->notifier, fuse->mount->env.loop, &f->job);
}

static void on_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *info)
{
    struct mount_call *c = call_new(req, node, NULL);
    (void)info;
    if (c != NULL) {
        mount_opendir(c);
    }
}

static void readdir_as(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
                       struct fuse_file_info *info, bool plus)
{
    struct mount_call *c = call_of_file(req, node, info);
    if (c != NULL) {
        c->size = size;
        c->offset = (uint64_t)off;
        c->plus = plus;
        mount_readdir(c);
    }
}

static void on_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
                       struct fuse_file_info *info)
{
    readdir_as(req, node, size, off, info, false);
}

static void on_readdirplus(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
                           struct fuse_file_info *info)
{
    readdir_as(req, node, size, off, info, true);
}

static void on_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *info)
{
    struct mount_call *c = call_of_file(req, node, info);
    if (c != NULL) {
        mount_releasedir(c);
    }
}

static void on_access(fuse_req_t req, fuse_ino_t node, int mask)
{
    struct mount_call *c = call_new(req, node, NULL);
    if (c != NULL) {
        mount_access(c, ((mask & R_OK) != 0 ? OPENDFS_READ : 0U) |
                            ((mask & W_OK) != 0 ? OPENDFS_WRITE : 0U) |
                            ((mask & X_OK) != 0 ? OPENDFS_EXECUTE : 0U));
    }
}

static void on_statfs(fuse_req_t req, fuse_ino_t node)
{
    struct mount_call *c = call_new(req, node, NULL);
    if (c != NULL) {
        mount_statfs(c);
    }
}

/* --- extended attributes ------------------------------------------------------------------------
 */

static void on_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value,
                        size_t size, int flags)
{
    struct mount_call *c = call_new(req, node, name);
    if (c == NULL) {
        return;
    }
    c->text = mem_alloc(size + 1);
    if (c->text == NULL) {
        answer_done(c, -ENOMEM);
        return;
    }
    memcpy(c->text, value, size);
    c->xattr = (struct opendfs_xattr){
        .name = c->name, .value = c->text, .size = size, .flags = (unsigned)flags};
    mount_setxattr(c);
}

static void on_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
    struct mount_call *c = call_new(req, node, name);
    if (c != NULL) {
        c->size = size;
        mount_getxattr(c);
    }
}

static void on_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
    struct mount_call *c = call_new(req, node, NULL);
    if (c != NULL) {
        c->size = size;
        mount_listxattr(c);
    }
}

static void on_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
    struct mount_call *c = call_new(req, node, name);
    if (c != NULL) {
        mount_removexattr(c);
    }
}

static void on_init(void *user, struct fuse_conn_info *conn)
{
    unsigned off = FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
                   FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE |
                   FUSE_CAP_READDIRPLUS_AUTO;
    unsigned on = FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_EXPORT_SUPPORT |
                  FUSE_CAP_DONT_MASK | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ASYNC_DIO |
                  FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_READDIRPLUS;
    (void)user;
    conn->want = (conn->want & ~off) | (on & conn->capable);
    conn->max_write = MOUNT_IO_BYTES;
    conn->max_read = MOUNT_IO_BYTES;
    conn->max_background = FUSE_CALLS_MAX;
    conn->congestion_threshold = FUSE_CALLS_MAX * 3 / 4;
    conn->time_gran = 1;
}

static const struct fuse_lowlevel_ops fuse_ops = {.init = on_init,
                                                  .lookup = on_lookup,
                                                  .forget = on_forget,
                                                  .getattr = on_getattr,
                                                  .setattr = on_setattr,
                                                  .readlink = on_readlink,
                                                  .mknod = on_mknod,
                                                  .mkdir = on_mkdir,
                                                  .symlink = on_symlink,
                                                  .unlink = on_unlink,
                                                  .rmdir = on_rmdir,
                                                  .rename = on_rename,
                                                  .link = on_link,
                                                  .open = on_open,
                                                  .create = on_create,
                                                  .read = on_read,
                                                  .write_buf = on_write_buf,
                                                  .lseek = on_lseek,
                                                  .fallocate = on_fallocate,
                                                  .copy_file_range = on_copy,
                                                  .flush = on_flush,
                                                  .fsync = on_fsync,
                                                  .fsyncdir = on_fsync,
                                                  .release = on_release,
                                                  .opendir = on_opendir,
                                                  .readdir = on_readdir,
                                                  .readdirplus = on_readdirplus,
                                                  .releasedir = on_releasedir,
                                                  .access = on_access,
                                                  .statfs = on_statfs,
                                                  .getlk = on_getlk,
                                                  .setlk = on_setlk,
                                                  .flock = on_flock,
                                                  .setxattr = on_setxattr,
                                                  .getxattr = on_getxattr,
                                                  .listxattr = on_listxattr,
                                                  .removexattr = on_removexattr};

/* --- the session --------------------------------------------------------------------------------
 */

/* All that is there, a bounded number of requests at a time. */
static void fuse_read(struct mount_fuse *f)
{
    struct loop *l = f->mount->env.loop;
    for (unsigned n = 0; n < 64 && !f->quiet; n++) {
        int got = fuse_session_receive_buf(f->session, &f->buf);
        if (got == -EAGAIN) {
            loop_fd_want(l, &f->watch, LOOP_READABLE);
            return;
        }
        if (got == -EINTR) {
            continue;
        }
        if (got <= 0) { /* unmounted, or the kernel has ended the connection */
            f->quiet = true;
            f->mount->ended(f->mount->ended_context, got == 0 || got == -ENODEV ? 0 : got);
            return;
        }
        fuse_session_process_buf(f->session, &f->buf);
    }
    if (!f->quiet) {
        loop_defer(l, &f->more);
    }
}

static void fuse_ready(struct loop_fd *w, unsigned events)
{
    struct mount_fuse *f = container_of(w, struct mount_fuse, watch);
    (void)events;
    fuse_read(f);
}

static void fuse_more(struct loop_task *t)
{
    fuse_read(container_of(t, struct mount_fuse, more));
}

static ssize_t io_read(int fd, void *buf, size_t size, void *user)
{
    struct mount_fuse *f = user;
    return mount_fuse_read(&f->greeting, fd, buf, size);
}

/* The 128 KiB that file systems of FUSE begin with are one request at a time, each with its way to
 * a data node; when they meet, the two sides can only agree on less. Who is not root has to do with
 * it. */
static void fuse_widen(struct mount_fuse *f)
{
    int rc = disk_local_read_ahead(f->at, f->read_ahead_bytes);
    if (rc < 0 && rc != -EACCES) {
        log_warn(f->mount->env.log, "the kernel reads ahead as far as it likes", LOG_RC(rc));
    }
}

static ssize_t io_writev(int fd, struct iovec *iov, int count, void *user)
{
    struct mount_fuse *f = user;
    bool met = f->greeting.over;
    ssize_t n = mount_fuse_writev(&f->greeting, fd, iov, count);
    if (!met && f->greeting.over && n >= 0) {
        fuse_widen(f);
    }
    return n;
}

static int fuse_begin(struct mount_fuse *f, const struct mount_options *opt, struct err *e)
{
    char option[512];
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    bool more = opt->options != NULL && opt->options[0] != '\0';
    int n = snprintf(option, sizeof option, "max_read=%u,fsname=%s,subtype=opendfs%s%s",
                     MOUNT_IO_BYTES, opt->source, more ? "," : "", more ? opt->options : "");
    bool fits = n > 0 && (size_t)n < sizeof option;
    if (!fits || fuse_opt_add_arg(&args, "opendfs") != 0 || fuse_opt_add_arg(&args, "-o") != 0 ||
        fuse_opt_add_arg(&args, option) != 0) {
        fuse_opt_free_args(&args);
        return err_set(e, fits ? -ENOMEM : -E2BIG, "mount options: %s",
                       fits ? "no memory" : "too long");
    }
    f->session = fuse_session_new(&args, &fuse_ops, sizeof fuse_ops, f);
    fuse_opt_free_args(&args);
    if (f->session == NULL) {
        return err_set(e, -EINVAL, "mount options '%s'", opt->options); /* libfuse has said why */
    }
    if (fuse_session_mount(f->session, opt->at) != 0) {
        return err_set(e, -EIO, "cannot be mounted on %s", opt->at);
    }
    f->mounted = true;
    static const struct fuse_custom_io io = {.read = io_read, .writev = io_writev};
    mount_fuse_greeting_init(&f->greeting);
    if (fuse_session_custom_io(f->session, &io, fuse_session_fd(f->session)) != 0) {
        return err_set(e, -ENOMEM, "no memory for a mount");
    }
    f->watch = (struct loop_fd){.ready = fuse_ready, .fd = fuse_session_fd(f->session)};
    int flags = fcntl(f->watch.fd, F_GETFL);
    if (flags < 0 || fcntl(f->watch.fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        return err_set(e, -errno, "/dev/fuse: cannot be read without waiting");
    }
    int rc = loop_fd_add(f->mount->env.loop, &f->watch);
    if (rc < 0) {
        return err_set(e, rc, "/dev/fuse: cannot be watched");
    }
    f->watched = true;
    return 0;
}

int mount_fuse_new(struct mount *m, const struct mount_options *opt, struct mount_fuse **ret,
                   struct err *e)
{
    struct mount_fuse *f = mem_zalloc(sizeof *f);
    if (f == NULL) {
        return err_set(e, -ENOMEM, "no memory for a mount");
    }
    f->mount = m;
    f->more.run = fuse_more;
    const struct loop_executor_options notifier = {
        .name = "notify", .max_threads = FUSE_NOTIFIERS, .max_queued = FUSE_NOTIFICATIONS};
    f->at = mem_strdup(opt->at);
    f->read_ahead_bytes = opt->read_ahead_bytes == 0 ? READ_AHEAD_BYTES : opt->read_ahead_bytes;
    int rc = f->at == NULL ? -ENOMEM : loop_executor_new(&notifier, &f->notifier);
    rc = rc < 0 ? err_set(e, rc, "no memory for a mount") : fuse_begin(f, opt, e);
    if (rc < 0) {
        mount_fuse_free(f);
        return rc;
    }
    *ret = f;
    loop_defer(m->env.loop, &f->more); /* an edge before the watch */
    return 0;
}

void mount_fuse_quiet(struct mount_fuse *f)
{
    f->quiet = true;
    loop_undefer(f->mount->env.loop, &f->more);
}

struct mount_fuse *mount_fuse_free(struct mount_fuse *f)
{
    if (f == NULL) {
        return NULL;
    }
    loop_undefer(f->mount->env.loop, &f->more);
    if (f->watched) {
        loop_fd_remove(f->mount->env.loop, &f->watch);
    }
    if (f->mounted) {
        fuse_session_unmount(f->session);
    }
    f->notifier = loop_executor_free(f->notifier);
    if (f->session != NULL) {
        fuse_session_destroy(f->session);
    }
    free(f->buf.mem);
    mem_free(f->at);
    mem_free(f);
    return NULL;
}
