#include "base/lock.h"
#include "client/connect_priv.h"
#include "client/op_priv.h"
#include "opendfs/check.h"
#include "opendfs/lock.h"
#include "opendfs/sparse.h"
#include "opendfs/targets.h"
#include "opendfs/trash.h"
#include "opendfs/usage.h"
#include "opendfs/where.h"

#include <string.h>

/* The synchronous calls: an operation on the caller's stack, and a wait for it. */

struct call {
    struct opendfs_op op;
    struct lock_event done;
};

static void call_done(struct opendfs_op *op)
{
    struct call *c = op->context;
    lock_event_set(&c->done); /* the caller may return from here on */
}

static void call_init(struct call *c)
{
    memset(c, 0, sizeof *c);
    c->op.done = call_done;
    c->op.context = c;
    lock_event_init(&c->done);
}

static int64_t call_over(struct call *c)
{
    lock_event_fini(&c->done);
    if (c->op.result < 0) {
        client_note_error(c->op.error);
    }
    return c->op.result;
}

static int64_t call_wait(struct call *c)
{
    lock_event_wait(&c->done);
    return call_over(c);
}

int client_wait_ready(struct opendfs *fs, uint64_t ms)
{
    struct call c;
    call_init(&c);
    opendfs_async_stat(fs, &c.op, "/"); /* everybody may see the root's attributes */
    bool late = ms > 0 && !lock_event_wait_ms(&c.done, ms);
    if (late) {
        opendfs_async_cancel(fs, &c.op);
    }
    int rc = (int)(late || ms == 0 ? call_wait(&c) : call_over(&c));
    const char *why = strncmp(c.op.error, "/: ", 3) == 0 ? c.op.error + 3 : c.op.error;
    if (late && rc == -ECANCELED) {
        bool connected = strcmp(why, err_text(-ECANCELED)) == 0;
        client_note_error(connected ? "connected, but there is no metadata leader behind it" : why);
        return -ETIMEDOUT;
    }
    if (rc < 0) {
        client_note_error(why);
    }
    return rc;
}

int opendfs_stat(struct opendfs *fs, const char *path, struct opendfs_stat *ret)
{
    struct call c;
    call_init(&c);
    opendfs_async_stat(fs, &c.op, path);
    int rc = (int)call_wait(&c);
    if (rc == 0) {
        *ret = c.op.stat;
    }
    return rc;
}

int opendfs_lstat(struct opendfs *fs, const char *path, struct opendfs_stat *ret)
{
    struct call c;
    call_init(&c);
    opendfs_async_lstat(fs, &c.op, path);
    int rc = (int)call_wait(&c);
    if (rc == 0) {
        *ret = c.op.stat;
    }
    return rc;
}

int opendfs_mkdir(struct opendfs *fs, const char *path, uint32_t mode)
{
    struct call c;
    call_init(&c);
    opendfs_async_mkdir(fs, &c.op, path, mode);
    return (int)call_wait(&c);
}

int opendfs_make_directories(struct opendfs *fs, const char *path, uint32_t mode)
{
    struct call c;
    call_init(&c);
    opendfs_async_make_directories(fs, &c.op, path, mode);
    return (int)call_wait(&c);
}

int opendfs_rmdir(struct opendfs *fs, const char *path)
{
    struct call c;
    call_init(&c);
    opendfs_async_rmdir(fs, &c.op, path);
    return (int)call_wait(&c);
}

int opendfs_unlink(struct opendfs *fs, const char *path)
{
    struct call c;
    call_init(&c);
    opendfs_async_unlink(fs, &c.op, path);
    return (int)call_wait(&c);
}

int opendfs_rename(struct opendfs *fs, const char *from, const char *to, unsigned flags)
{
    struct call c;
    call_init(&c);
    opendfs_async_rename(fs, &c.op, from, to, flags);
    return (int)call_wait(&c);
}

int opendfs_link(struct opendfs *fs, const char *existing, const char *path)
{
    struct call c;
    call_init(&c);
    opendfs_async_link(fs, &c.op, existing, path);
    return (int)call_wait(&c);
}

int opendfs_symlink(struct opendfs *fs, const char *target, const char *path)
{
    struct call c;
    call_init(&c);
    opendfs_async_symlink(fs, &c.op, target, path, NULL, 0);
    return (int)call_wait(&c);
}

int opendfs_readlink(struct opendfs *fs, const char *path, char *out, size_t size)
{
    struct call c;
    call_init(&c);
    opendfs_async_readlink(fs, &c.op, path, out, size);
    return (int)call_wait(&c);
}

int opendfs_setattr(struct opendfs *fs, const char *path, const struct opendfs_stat *values,
                    unsigned mask)
{
    struct call c;
    call_init(&c);
    opendfs_async_setattr(fs, &c.op, path, values, mask);
    return (int)call_wait(&c);
}

int64_t opendfs_getxattr(struct opendfs *fs, const char *path, const char *name, void *value,
                         size_t size)
{
    struct call c;
    call_init(&c);
    opendfs_async_getxattr(fs, &c.op, path, name, value, size);
    return call_wait(&c);
}

int opendfs_setxattr(struct opendfs *fs, const char *path, const struct opendfs_xattr *xattr)
{
    struct call c;
    call_init(&c);
    opendfs_async_setxattr(fs, &c.op, path, xattr);
    return (int)call_wait(&c);
}

int64_t opendfs_listxattr(struct opendfs *fs, const char *path, char *names, size_t size)
{
    struct call c;
    call_init(&c);
    opendfs_async_listxattr(fs, &c.op, path, names, size);
    return call_wait(&c);
}

int opendfs_removexattr(struct opendfs *fs, const char *path, const char *name)
{
    struct call c;
    call_init(&c);
    opendfs_async_removexattr(fs, &c.op, path, name);
    return (int)call_wait(&c);
}

int64_t opendfs_lgetxattr(struct opendfs *fs, const char *path, const char *name, void *value,
                          size_t size)
{
    struct call c;
    call_init(&c);
    opendfs_async_lgetxattr(fs, &c.op, path, name, value, size);
    return call_wait(&c);
}

int opendfs_lsetxattr(struct opendfs *fs, const char *path, const struct opendfs_xattr *xattr)
{
    struct call c;
    call_init(&c);
    opendfs_async_lsetxattr(fs, &c.op, path, xattr);
    return (int)call_wait(&c);
}

int64_t opendfs_llistxattr(struct opendfs *fs, const char *path, char *names, size_t size)
{
    struct call c;
    call_init(&c);
    opendfs_async_llistxattr(fs, &c.op, path, names, size);
    return call_wait(&c);
}

int opendfs_lremovexattr(struct opendfs *fs, const char *path, const char *name)
{
    struct call c;
    call_init(&c);
    opendfs_async_lremovexattr(fs, &c.op, path, name);
    return (int)call_wait(&c);
}

/* --- directories --------------------------------------------------------------------------------
 */

/* While one page is read the next one is on its way. */
struct opendfs_dir {
    struct opendfs *fs;
    struct opendfs_op page; /* its entries are held until the next page */
    uint64_t ino;
    size_t next;
    bool ended, asked;
    struct call ahead; /* if `asked` */
};

static void dir_ask(struct opendfs_dir *d, const char *path, const char *after)
{
    call_init(&d->ahead);
    d->ahead.op.at = d->ino;
    d->asked = true;
    opendfs_async_list(d->fs, &d->ahead.op, path, after, 0);
}

/* The page that was asked for takes the place of the one that was read. */
static int dir_turn(struct opendfs_dir *d)
{
    if (!d->asked) { /* the one before has failed */
        dir_ask(d, NULL, d->page.entries[d->page.entry_count - 1].name);
    }
    int rc = (int)call_wait(&d->ahead);
    d->asked = false;
    if (rc < 0) {
        return rc;
    }
    opendfs_async_release(d->fs, &d->page);
    d->page = d->ahead.op;
    d->ino = d->page.stat.ino;
    d->next = 0;
    d->ended = d->page.at_end != 0 || d->page.entry_count == 0;
    if (!d->ended) {
        dir_ask(d, NULL, d->page.entries[d->page.entry_count - 1].name);
    }
    return 0;
}

int opendfs_opendir(struct opendfs *fs, const char *path, struct opendfs_dir **ret)
{
    struct opendfs_dir *d = mem_zalloc(sizeof *d);
    if (d == NULL) {
        client_note_error("no memory");
        return -ENOMEM;
    }
    d->fs = fs;
    dir_ask(d, path, NULL);
    int rc = dir_turn(d);
    if (rc < 0) {
        mem_free(d);
        return rc;
    }
    *ret = d;
    return 0;
}

int opendfs_readdir(struct opendfs_dir *d, struct opendfs_entry *ret)
{
    if (d->next == d->page.entry_count) {
        if (d->ended) {
            return 0;
        }
        int rc = dir_turn(d);
        if (rc < 0) {
            return rc;
        }
        if (d->page.entry_count == 0) {
            return 0;
        }
    }
    *ret = d->page.entries[d->next++];
    return 1;
}

void opendfs_closedir(struct opendfs_dir *d)
{
    if (d == NULL) {
        return;
    }
    if (d->asked) {
        opendfs_async_cancel(d->fs, &d->ahead.op);
        (void)call_wait(&d->ahead);
        opendfs_async_release(d->fs, &d->ahead.op);
    }
    opendfs_async_release(d->fs, &d->page);
    mem_free(d);
}

/* --- files --------------------------------------------------------------------------------------
 */

int opendfs_open(struct opendfs *fs, const char *path, unsigned flags, uint32_t mode,
                 struct opendfs_file **ret)
{
    struct call c;
    call_init(&c);
    opendfs_async_open(fs, &c.op, path, flags, mode);
    int rc = (int)call_wait(&c);
    if (rc == 0) {
        *ret = c.op.file;
    }
    return rc;
}

int64_t opendfs_pread(struct opendfs_file *file, void *buffer, size_t len, uint64_t offset)
{
    struct call c;
    call_init(&c);
    opendfs_async_pread(client_file_fs(file), &c.op, file, buffer, len, offset);
    return call_wait(&c);
}

int64_t opendfs_pwrite(struct opendfs_file *file, const void *buffer, size_t len, uint64_t offset)
{
    struct call c;
    call_init(&c);
    opendfs_async_pwrite(client_file_fs(file), &c.op, file, buffer, len, offset);
    return call_wait(&c);
}

int opendfs_fsync(struct opendfs_file *file)
{
    struct call c;
    call_init(&c);
    opendfs_async_fsync(client_file_fs(file), &c.op, file);
    return (int)call_wait(&c);
}

int opendfs_ftruncate(struct opendfs_file *file, uint64_t size_bytes)
{
    struct call c;
    call_init(&c);
    opendfs_async_ftruncate(client_file_fs(file), &c.op, file, size_bytes);
    return (int)call_wait(&c);
}

int opendfs_allocate(struct opendfs_file *file, unsigned mode, uint64_t offset, uint64_t len)
{
    struct call c;
    call_init(&c);
    opendfs_async_allocate(client_file_fs(file), &c.op, file, mode, offset, len);
    return (int)call_wait(&c);
}

int64_t opendfs_copy_range(const struct opendfs_copy *copy)
{
    struct call c;
    call_init(&c);
    opendfs_async_copy_range(client_file_fs(copy->from), &c.op, copy);
    return call_wait(&c);
}

int64_t opendfs_seek(struct opendfs_file *file, uint64_t offset, int whence)
{
    struct call c;
    call_init(&c);
    opendfs_async_seek(client_file_fs(file), &c.op, file, offset, whence);
    return call_wait(&c);
}

int opendfs_lock(struct opendfs_file *file, const struct opendfs_lock *lock, int wait)
{
    struct call c;
    call_init(&c);
    opendfs_async_lock(client_file_fs(file), &c.op, file, lock, wait);
    return (int)call_wait(&c);
}

int opendfs_lock_test(struct opendfs_file *file, struct opendfs_lock *lock)
{
    struct call c;
    call_init(&c);
    opendfs_async_lock_test(client_file_fs(file), &c.op, file, lock);
    return (int)call_wait(&c);
}

int opendfs_fstat(struct opendfs_file *file, struct opendfs_stat *ret)
{
    struct call c;
    call_init(&c);
    opendfs_async_fstat(client_file_fs(file), &c.op, file);
    int rc = (int)call_wait(&c);
    if (rc == 0) {
        *ret = c.op.stat;
    }
    return rc;
}

int opendfs_close(struct opendfs_file *file)
{
    struct call c;
    call_init(&c);
    opendfs_async_close(client_file_fs(file), &c.op, file, NULL, 0);
    return (int)call_wait(&c);
}

/* --- trash --------------------------------------------------------------------------------------
 */

int opendfs_trash_list(struct opendfs *fs, struct opendfs_trash_query *query,
                       struct opendfs_trash_page **ret)
{
    struct call c;
    call_init(&c);
    opendfs_async_trash_list(fs, &c.op, query);
    int rc = (int)call_wait(&c);
    if (rc == 0) { /* what the operation holds is one block: the caller's from here on */
        *ret = client_op_of(&c.op)->held;
    }
    return rc;
}

int opendfs_trash_restore(struct opendfs *fs, uint64_t ino, uint64_t at, const char *path)
{
    struct call c;
    call_init(&c);
    c.op.at = at;
    opendfs_async_trash_restore(fs, &c.op, ino, path);
    return (int)call_wait(&c);
}

int opendfs_trash_purge(struct opendfs *fs, const uint64_t *inos, size_t count)
{
    struct call c;
    call_init(&c);
    opendfs_async_trash_purge(fs, &c.op, inos, count);
    return (int)call_wait(&c);
}

int opendfs_trash_set_retention(struct opendfs *fs, const char *path, uint32_t seconds)
{
    struct call c;
    call_init(&c);
    opendfs_async_trash_set_retention(fs, &c.op, path, seconds);
    return (int)call_wait(&c);
}

int opendfs_trash_get_retention(struct opendfs *fs, const char *path, struct opendfs_retention *ret)
{
    struct call c;
    call_init(&c);
    opendfs_async_trash_get_retention(fs, &c.op, path, ret);
    return (int)call_wait(&c);
}

/* --- check --------------------------------------------------------------------------------------
 */

int opendfs_check_next(struct opendfs *fs, struct opendfs_check *check,
                       struct opendfs_check_page **ret)
{
    struct call c;
    call_init(&c);
    opendfs_async_check_next(fs, &c.op, check);
    int rc = (int)call_wait(&c);
    if (rc == 0) {
        *ret = client_op_of(&c.op)->held; /* the caller's from here on */
    }
    return rc;
}

/* --- where --------------------------------------------------------------------------------------
 */

int opendfs_where(struct opendfs *fs, const struct opendfs_where_query *query,
                  struct opendfs_where **ret)
{
    struct call c;
    call_init(&c);
    opendfs_async_where(fs, &c.op, query);
    int rc = (int)call_wait(&c);
    if (rc == 0) {
        *ret = client_op_of(&c.op)->held; /* the caller's from here on */
    }
    return rc;
}

int opendfs_names_next(struct opendfs *fs, struct opendfs_names *names,
                       struct opendfs_names_page **ret)
{
    struct call c;
    call_init(&c);
    opendfs_async_names_next(fs, &c.op, names);
    int rc = (int)call_wait(&c);
    if (rc == 0) {
        *ret = client_op_of(&c.op)->held;
    }
    return rc;
}

/* --- cluster ------------------------------------------------------------------------------------
 */

int opendfs_statfs(struct opendfs *fs, struct opendfs_space *ret)
{
    struct call c;
    call_init(&c);
    opendfs_async_statfs(fs, &c.op);
    int rc = (int)call_wait(&c);
    if (rc == 0) {
        *ret = c.op.space;
    }
    return rc;
}

int opendfs_statfs_at(struct opendfs *fs, const char *path, struct opendfs_space *ret)
{
    struct call c;
    call_init(&c);
    opendfs_async_statfs_at(fs, &c.op, path);
    int rc = (int)call_wait(&c);
    if (rc == 0) {
        *ret = c.op.space;
    }
    return rc;
}

int opendfs_dir_stats(struct opendfs *fs, const char *path, struct opendfs_dir_stats *ret)
{
    struct call c;
    call_init(&c);
    opendfs_async_dir_stats(fs, &c.op, path, ret);
    return (int)call_wait(&c);
}

int opendfs_set_quota(struct opendfs *fs, const char *path, const struct opendfs_quota *values,
                      unsigned mask)
{
    struct call c;
    call_init(&c);
    opendfs_async_set_quota(fs, &c.op, path, values, mask);
    return (int)call_wait(&c);
}

int opendfs_classes(struct opendfs *fs, struct opendfs_class **ret)
{
    struct call c;
    call_init(&c);
    opendfs_async_classes(fs, &c.op);
    int rc = (int)call_wait(&c);
    if (rc < 0) {
        return rc;
    }
    struct opendfs_class *copy = mem_alloc(c.op.data_len + 1);
    if (copy != NULL && c.op.data_len > 0) {
        memcpy(copy, c.op.data, c.op.data_len);
    }
    opendfs_async_release(fs, &c.op);
    if (copy == NULL) {
        return -ENOMEM;
    }
    *ret = copy;
    return rc;
}

int opendfs_create_class(struct opendfs *fs, const struct opendfs_class *values)
{
    struct call c;
    call_init(&c);
    opendfs_async_create_class(fs, &c.op, values);
    return (int)call_wait(&c);
}

int opendfs_set_class(struct opendfs *fs, const char *path, uint32_t class_id)
{
    struct call c;
    call_init(&c);
    opendfs_async_set_class(fs, &c.op, path, class_id);
    return (int)call_wait(&c);
}

int opendfs_plan_target(struct opendfs *fs, const struct opendfs_target_plan *plan)
{
    struct call c;
    call_init(&c);
    opendfs_async_plan_target(fs, &c.op, plan);
    return (int)call_wait(&c);
}

int opendfs_set_target(struct opendfs *fs, const struct opendfs_target_values *values)
{
    struct call c;
    call_init(&c);
    opendfs_async_set_target(fs, &c.op, values);
    return (int)call_wait(&c);
}

int opendfs_order_chain(struct opendfs *fs, const struct opendfs_chain_order *order)
{
    struct call c;
    call_init(&c);
    opendfs_async_order_chain(fs, &c.op, order);
    return (int)call_wait(&c);
}

int opendfs_set_balance(struct opendfs *fs, int on)
{
    struct call c;
    call_init(&c);
    opendfs_async_set_balance(fs, &c.op, on);
    return (int)call_wait(&c);
}

static int call_audit(struct opendfs *fs, const struct opendfs_audit *audit)
{
    struct call c;
    call_init(&c);
    opendfs_async_audit(fs, &c.op, audit);
    return (int)call_wait(&c);
}

int opendfs_audit_start(struct opendfs *fs)
{
    const struct opendfs_audit audit = {.release = 0};
    return call_audit(fs, &audit);
}

int opendfs_audit_release(struct opendfs *fs, uint64_t first, uint64_t last)
{
    const struct opendfs_audit audit = {.release = 1, .first = first, .last = last};
    return call_audit(fs, &audit);
}

int opendfs_status_json(struct opendfs *fs, char **ret)
{
    struct call c;
    call_init(&c);
    opendfs_async_status_json(fs, &c.op);
    int rc = (int)call_wait(&c);
    if (rc < 0) {
        return rc;
    }
    *ret = mem_alloc(c.op.data_len + 1);
    if (*ret != NULL) {
        memcpy(*ret, c.op.data, c.op.data_len + 1);
    }
    bool good = *ret != NULL;
    opendfs_async_release(fs, &c.op);
    return good ? 0 : -ENOMEM;
}
