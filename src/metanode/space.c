/*
 * metanode/space.c -- the file system of the server's directory: its size and what is free of it,
 * and what the log and the checkpoint images take there. Asked for from time to time, one request
 * of the disk after the other, so that `status` never waits for a disk.
 */
#include "metanode/metanode_priv.h"

#define SPACE_INTERVAL_NS (UINT64_C(10) * 1000000000)

static const char *const space_part[] = {
    [METANODE_SPACE_LOG] = "log", [METANODE_SPACE_STATE] = "state"};

static void space_next(struct metanode *m);

static void space_end(struct metanode *m)
{
    struct metanode_space *s = &m->space;
    s->busy = false;
    mem_free(s->path);
    s->path = NULL;
    if (s->stopped != NULL) {
        loop_defer(m->env->loop, s->stopped);
    } else {
        loop_timer_in(m->env->loop, &s->timer, SPACE_INTERVAL_NS);
    }
}

static void space_done(struct disk_req *req, int64_t rc)
{
    struct metanode_space *s = container_of(req, struct metanode_space, req);
    struct metanode *m = container_of(s, struct metanode, space);
    if (req->op == DISK_STATFS) {
        s->now.known = rc >= 0;
        s->now.total_bytes = rc < 0 ? 0 : req->stat.total_bytes;
        s->now.free_bytes = rc < 0 ? 0 : req->stat.free_bytes;
    } else if (req->op == DISK_LIST) {
        s->names = rc < 0 ? NULL : req->names;
    } else { /* one that has been removed since takes nothing */
        s->sum += rc < 0 ? 0 : req->stat.allocated_bytes;
    }
    space_next(m);
}

/* `path` is owned from here on. */
static void space_ask(struct metanode *m, enum disk_op op, char *path)
{
    struct metanode_space *s = &m->space;
    mem_free(s->path);
    s->path = path;
    if (path == NULL) {
        mem_free(s->names);
        s->names = NULL;
        space_end(m);
        return;
    }
    s->req = (struct disk_req){.op = op, .path = path, .done = space_done};
    disk_submit(m->env->disk, &s->req);
}

/* After the file system: each part's list, then its files. */
static void space_next(struct metanode *m)
{
    struct metanode_space *s = &m->space;
    if (s->names != NULL && s->file < s->names->count) {
        space_ask(m, DISK_STAT,
                  mem_printf("%s/%s/%s", m->opt.directory, space_part[s->part],
                             s->names->name[s->file++]));
        return;
    }
    if (s->req.op != DISK_STATFS) {
        s->now.part_bytes[s->part++] = s->sum;
    }
    mem_free(s->names);
    s->names = NULL;
    s->file = 0;
    s->sum = 0;
    if (s->part == METANODE_SPACE_PARTS || s->stopped != NULL) {
        space_end(m);
        return;
    }
    space_ask(m, DISK_LIST, mem_printf("%s/%s", m->opt.directory, space_part[s->part]));
}

static void space_look(struct loop_timer *t)
{
    struct metanode *m = container_of(t, struct metanode, space.timer);
    m->space.busy = true;
    m->space.part = 0;
    space_ask(m, DISK_STATFS, mem_strdup(m->opt.directory));
}

void metanode_space_start(struct metanode *m)
{
    m->space.timer.fire = space_look;
    space_look(&m->space.timer);
}

void metanode_space_stop(struct metanode *m, struct loop_task *stopped)
{
    struct metanode_space *s = &m->space;
    s->stopped = stopped;
    loop_timer_cancel(m->env->loop, &s->timer);
    if (!s->busy) {
        loop_defer(m->env->loop, stopped);
    }
}

void metanode_space_fini(struct metanode *m)
{
    CHECK(!m->space.busy);
    loop_timer_cancel(m->env->loop, &m->space.timer);
}
