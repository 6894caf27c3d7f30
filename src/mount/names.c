#include "mount/call_priv.h"

#include <errno.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/stat.h>

/* Names and attributes: each call is one operation of the library. */

static void plain_done(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    c->answers->done(c, op->result < 0 ? (int)op->result : 0);
}

/* Of an inode, not of a name. */
static void node_done(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    c->answers->done(c, op->result < 0 ? mount_gone(op->result) : 0);
}

static void entry_done(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    if (op->result < 0) {
        c->answers->done(c, (int)op->result);
    } else {
        if (op->stat.type == OPENDFS_TYPE_DIRECTORY) {
            mount_dir_looked(c->mount, &op->stat);
        }
        c->answers->entry(c, &op->stat);
    }
}

static void attr_done(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    struct opendfs_stat removed;
    if (op->result == -ENOENT && mount_dir_removed(c->mount, c->ino, &removed)) {
        c->answers->attr(c, &removed);
    } else if (op->result < 0) {
        c->answers->done(c, mount_gone(op->result));
    } else {
        if (op->stat.type == OPENDFS_TYPE_DIRECTORY) {
            mount_dir_looked(c->mount, &op->stat);
        }
        c->answers->attr(c, &op->stat);
    }
}

/* --- looking ------------------------------------------------------------------------------------
 */

void mount_lookup(struct mount_call *c)
{
    if (mount_is_own(c)) {
        mount_own_lookup(c);
        return;
    }
    if (mount_op(c, entry_done)) {
        opendfs_async_lstat(c->mount->fs, &c->op, c->name);
    }
}

void mount_getattr(struct mount_call *c)
{
    if (mount_is_own(c)) {
        mount_own_getattr(c);
        return;
    }
    if (!mount_op(c, attr_done)) {
        return;
    }
    if (c->handle != NULL && c->handle->file != NULL) {
        opendfs_async_fstat(c->mount->fs, &c->op, c->handle->file);
    } else {
        opendfs_async_lstat(c->mount->fs, &c->op, "");
    }
}

static void readlink_done(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    if (op->result < 0) {
        c->answers->done(c, mount_gone(op->result));
    } else {
        c->answers->text(c, c->text, (size_t)op->result);
    }
}

void mount_readlink(struct mount_call *c)
{
    c->text = mem_zalloc(MOUNT_LINK_MAX + 1);
    if (c->text == NULL) {
        c->answers->done(c, -ENOMEM);
    } else if (mount_op(c, readlink_done)) {
        opendfs_async_readlink(c->mount->fs, &c->op, "", c->text, MOUNT_LINK_MAX + 1);
    }
}

static void statfs_done(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    if (op->result < 0) {
        c->answers->done(c, (int)op->result);
    } else {
        c->answers->space(c, &op->space);
    }
}

void mount_access(struct mount_call *c, unsigned rights)
{
    if (mount_is_own(c)) {
        mount_own_access(c, rights);
        return;
    }
    if (mount_op(c, node_done)) {
        opendfs_async_access(c->mount->fs, &c->op, "", rights);
    }
}

void mount_statfs(struct mount_call *c)
{
    c->ino = c->ino >= MOUNT_OWN_FIRST ? c->mount->root : c->ino;
    if (mount_op(c, statfs_done)) {
        opendfs_async_statfs(c->mount->fs, &c->op);
    }
}

/* --- changing -----------------------------------------------------------------------------------
 */

/* The size is a matter of the file: of an open one first, then the rest. */
static void resized(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    unsigned mask = c->flags & ~(unsigned)OPENDFS_SET_SIZE;
    if (op->result < 0) {
        c->answers->done(c, (int)op->result);
        return;
    }
    if (mask != 0) {
        c->op.done = attr_done;
        opendfs_async_setattr_ino(c->mount->fs, &c->op, c->ino, &c->values, mask);
        return;
    }
    c->op.done = attr_done;
    opendfs_async_fstat(c->mount->fs, &c->op, c->handle->file);
}

void mount_setattr(struct mount_call *c, unsigned mask)
{
    bool open = c->handle != NULL && c->handle->file != NULL;
    c->flags = mask;
    if (open && (mask & OPENDFS_SET_SIZE) != 0) {
        if (mount_op(c, resized)) {
            opendfs_async_ftruncate(c->mount->fs, &c->op, c->handle->file, c->values.size_bytes);
        }
    } else if (mount_op(c, attr_done)) {
        opendfs_async_setattr_ino(c->mount->fs, &c->op, c->ino, &c->values, mask);
    }
}

void mount_make(struct mount_call *c)
{
    if (!mount_op(c, entry_done)) {
        return;
    }
    if (c->values.type == OPENDFS_TYPE_DIRECTORY) {
        opendfs_async_mkdir(c->mount->fs, &c->op, c->name, c->values.mode);
    } else if (c->values.type == OPENDFS_TYPE_SYMLINK) {
        opendfs_async_symlink(c->mount->fs, &c->op, c->text, c->name, NULL, 0);
    } else if (c->values.type == OPENDFS_TYPE_FILE) {
        opendfs_async_create(c->mount->fs, &c->op, c->name, &c->values, OPENDFS_SET_MODE, "", 0);
    } else {
        opendfs_async_make_node(c->mount->fs, &c->op, c->name, &c->values, OPENDFS_SET_MODE);
    }
}

void mount_remove(struct mount_call *c, bool directory)
{
    if (!mount_op(c, plain_done)) {
        return;
    }
    if (directory) {
        opendfs_async_rmdir(c->mount->fs, &c->op, c->name);
    } else {
        opendfs_async_unlink(c->mount->fs, &c->op, c->name);
    }
}

void mount_rename(struct mount_call *c, uint64_t to_dir)
{
    if ((c->flags & ~(unsigned)(OPENDFS_RENAME_NOREPLACE | OPENDFS_RENAME_EXCHANGE)) != 0) {
        c->answers->done(c, -EINVAL);
    } else if (mount_is_own_name(c->mount, to_dir, c->to)) {
        c->answers->done(c, -EPERM);
    } else if (mount_op(c, plain_done)) {
        c->op.at_to = to_dir;
        opendfs_async_rename(c->mount->fs, &c->op, c->name, c->to, c->flags);
    }
}

void mount_link(struct mount_call *c, uint64_t dir)
{
    if (mount_is_own_name(c->mount, dir, c->name)) {
        c->answers->done(c, -EPERM);
    } else if (mount_op(c, entry_done)) {
        c->op.at_to = dir;
        opendfs_async_link(c->mount->fs, &c->op, "", c->name);
    }
}

/* --- extended attributes ------------------------------------------------------------------------
 */

static void value_done(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    if (op->result < 0) {
        c->answers->done(c, mount_gone(op->result));
    } else if (c->size == 0) {
        c->answers->count(c, (size_t)op->result);
    } else {
        struct iovec v = {c->text, (size_t)op->result};
        c->answers->data(c, &v, 1);
    }
}

static bool value_room(struct mount_call *c)
{
    c->text = c->size == 0 ? NULL : mem_zalloc(c->size);
    if (c->size > 0 && c->text == NULL) {
        c->answers->done(c, -ENOMEM);
        return false;
    }
    return mount_op(c, value_done);
}

void mount_getxattr(struct mount_call *c)
{
    if (c->ino >= MOUNT_OWN_FIRST) {
        c->answers->done(c, -ENODATA);
    } else if (value_room(c)) {
        opendfs_async_lgetxattr(c->mount->fs, &c->op, "", c->name, c->text, c->size);
    }
}

/* Names of `trusted.` are there for administrators, and nobody else hears of them. The servers know
 * of root only. */
static size_t names_plain(char *names, size_t len)
{
    static const char hidden[] = "trusted.";
    size_t to = 0;
    for (size_t from = 0, n; from < len; from += n) {
        n = strnlen(names + from, len - from - 1) + 1;
        if (strncmp(names + from, hidden, sizeof hidden - 1) != 0) {
            memmove(names + to, names + from, n);
            to += n;
        }
    }
    return to;
}

static void plain_names_done(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    if (op->result > 0) {
        op->result = (int64_t)names_plain(c->text, (size_t)op->result);
    }
    if (op->result > 0 && c->size > 0 && (size_t)op->result > c->size) {
        op->result = -ERANGE;
    }
    value_done(op);
}

void mount_listxattr(struct mount_call *c)
{
    bool own = c->ino >= MOUNT_OWN_FIRST;
    if (own && c->size == 0) {
        c->answers->count(c, 0);
    } else if (own) {
        c->answers->data(c, NULL, 0);
    } else if (c->uid == 0 && !mount_people_administrates(c)) {
        c->text = mem_zalloc(XATTR_LIST_MAX);
        if (c->text == NULL) {
            c->answers->done(c, -ENOMEM);
        } else if (mount_op(c, plain_names_done)) {
            opendfs_async_llistxattr(c->mount->fs, &c->op, "", c->text, XATTR_LIST_MAX);
        }
    } else if (value_room(c)) {
        opendfs_async_llistxattr(c->mount->fs, &c->op, "", c->text, c->size);
    }
}

void mount_setxattr(struct mount_call *c)
{
    if (mount_op(c, node_done)) {
        opendfs_async_lsetxattr(c->mount->fs, &c->op, "", &c->xattr);
    }
}

/* Only root may remove capabilities of a file by name: from others it is what the kernel does
 * before they write. */
static bool removes_capabilities(const struct mount_call *c)
{
    return c->uid != 0 && strcmp(c->name, "security.capability") == 0;
}

void mount_removexattr(struct mount_call *c)
{
    if (removes_capabilities(c)) {
        if (mount_op(c, node_done)) {
            opendfs_async_setattr_ino(c->mount->fs, &c->op, c->ino, &c->values,
                                      OPENDFS_SET_KILL_PRIV);
        }
        return;
    }
    if (mount_op(c, node_done)) {
        opendfs_async_lremovexattr(c->mount->fs, &c->op, "", c->name);
    }
}
