#include "mount/mount.h"

#include "mount/call_priv.h"

#include <string.h>

/* The mount itself, and what all calls share. */

static void mount_stop_run(struct loop_task *t)
{
    struct mount *m = container_of(t, struct mount, stop_task);
    void (*stopped)(void *context) = m->stopped;
    m->stopped = NULL;
    if (stopped != NULL) {
        stopped(m->stopped_context);
    }
}

int mount_new(const struct mount_options *opt, struct mount **ret, struct err *e)
{
    LOOP_OWNED(opt->env->loop);
    struct mount *m = mem_zalloc(sizeof *m);
    if (m == NULL) {
        return err_set(e, -ENOMEM, "no memory for a mount");
    }
    m->env = *opt->env;
    m->fs = opt->fs;
    client_keep_replaced(m->fs);
    /* Who waits for us and whom we wait for share the machine: looking would take their core. */
    loop_set_polling(m->env.loop, 0);
    m->root = opt->root == 0 ? MOUNT_ROOT : opt->root;
    m->ended = opt->ended;
    m->ended_context = opt->context;
    m->stop_task.run = mount_stop_run;
    list_init(&m->calls);
    list_init(&m->dirs);
    int rc = mount_people_new(m, &m->people);
    rc = rc == 0 ? mount_fuse_new(m, opt, &m->fuse, e) : err_set(e, rc, "no memory for a mount");
    if (rc < 0) {
        mount_free(m);
        return rc;
    }
    *ret = m;
    return 0;
}

struct mount *mount_free(struct mount *m)
{
    if (m == NULL) {
        return NULL;
    }
    CHECK(list_empty(&m->calls));
    loop_undefer(m->env.loop, &m->stop_task);
    m->fuse = mount_fuse_free(m->fuse);
    m->people = mount_people_free(m->people);
    mem_free(m);
    return NULL;
}

static void mount_check_stopped(struct mount *m)
{
    if (m->stopping && m->call_count == 0) {
        loop_defer(m->env.loop, &m->stop_task);
    }
}

void mount_stop(struct mount *m, void (*stopped)(void *context), void *context)
{
    LOOP_OWNED(m->env.loop);
    mount_fuse_quiet(m->fuse);
    m->stopping = true;
    m->stopped = stopped;
    m->stopped_context = context;
    mount_check_stopped(m);
}

/* The kernel calls its root 1, whatever is mounted there; then the real root has the number of
 * ours.
 */
uint64_t mount_ino(const struct mount *m, uint64_t node)
{
    return node == MOUNT_ROOT ? m->root : node == m->root ? MOUNT_ROOT : node;
}

uint64_t mount_node(const struct mount *m, uint64_t ino)
{
    return mount_ino(m, ino);
}

void mount_call_begin(struct mount *m, struct mount_call *c)
{
    c->mount = m;
    list_push_back(&m->calls, &c->node);
    m->call_count++;
}

void mount_call_end(struct mount_call *c)
{
    struct mount *m = c->mount;
    mount_pieces_free(c);
    client_identity_put(m->fs, c->op.as);
    mem_free(c->text);
    list_remove(&c->node);
    m->call_count--;
    m->answered++;
    mount_check_stopped(m);
}

bool mount_op(struct mount_call *c, void (*done)(struct opendfs_op *op))
{
    c->op.done = done;
    c->op.context = c;
    c->op.at = c->ino;
    c->op.umask = c->umask;
    if (mount_is_own(c)) { /* what is allowed there has been done by now */
        c->answers->done(c, -EPERM);
        return false;
    }
    if (c->op.as != NULL) {
        return true;
    }
    int rc = mount_people_find(c, &c->op.as);
    if (rc < 0) {
        c->answers->done(c, -err_to_errno(rc));
    }
    return rc == 0;
}
