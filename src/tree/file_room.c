/*
 * tree/file_room.c -- the length of a tree file: who has found no room waits until it has grown;
 * what is free at its end, and large free ranges, go back to the file system after a checkpoint, or
 * stay its own, for when the disk is full.
 * One change of shape at a time. Nothing is ever filled with zeros.
 */
#include "tree/file_priv.h"

#define ROOM_STEP_SHARE 8u   /* of what it may grow by: a step is no larger, */
#define ROOM_STEP_UNITS 256u /* rather smaller, in units; */

static void shape_grow(struct tree_file *f, bool least);

/* ---- waiting ---- */

/* The first one that waits has its answer. */
static void room_answer(struct tree_file *f, int rc)
{
    struct list *node = list_pop_front(&f->shape.waiting);
    struct tree_file_room *r = LIST_ENTRY(node, struct tree_file_room, node);
    r->ready(r, rc);
}

void tree_file_room_fail(struct tree_file *f)
{
    if (f->shape.step != SHAPE_IDLE) {
        return; /* its end says it to them */
    }
    while (!list_empty(&f->shape.waiting)) {
        room_answer(f, f->failure.code);
    }
}

/* Serves those that wait, in order; the file grows for the first that finds nothing. */
void tree_file_room_run(struct tree_file *f)
{
    if (f->failure.code < 0) {
        tree_file_room_fail(f);
        return;
    }
    while (!list_empty(&f->shape.waiting)) {
        struct tree_file_room *r = LIST_ENTRY(f->shape.waiting.next, struct tree_file_room, node);
        if (tree_space_take(f->space, r->count, &r->extent) < 0) {
            if (f->shape.step == SHAPE_IDLE) {
                shape_grow(f, false);
            }
            return;
        }
        room_answer(f, 0);
    }
}

bool tree_file_room_take(struct tree_file *f, struct tree_file_room *r)
{
    if (list_empty(&f->shape.waiting) && tree_space_take(f->space, r->count, &r->extent) == 0) {
        return true;
    }
    list_push_back(&f->shape.waiting, &r->node);
    if (f->shape.step == SHAPE_IDLE) {
        shape_grow(f, false);
    }
    return false;
}

/* ---- growing ---- */

/* A step has ended; on goes whatever is due. */
static void shape_over(struct tree_file *f)
{
    f->shape.step = SHAPE_IDLE;
    if (f->failure.code < 0) {
        tree_file_room_fail(f);
    } else {
        tree_file_room_run(f);
        tree_file_room_settle(f);
    }
    tree_file_progress(f);
}

static void grow_done(struct disk_req *req, int64_t rc)
{
    struct tree_file *f = container_of(req, struct tree_file, shape.req);
    enum file_shape step = f->shape.step;
    if (rc == -EOPNOTSUPP && req->op == DISK_ALLOCATE) {
        f->shape.no_allocate = true;
        shape_grow(f, step == SHAPE_GROW_LEAST);
        return;
    }
    if (rc >= 0) {
        uint64_t grown = f->shape.target - tree_space_size(f->space);
        f->shape.may_grow -= f->shape.may_grow == UINT64_MAX ? 0 : grown;
        tree_space_resize(f->space, f->shape.target);
    } else if (step == SHAPE_GROW && f->failure.code == 0) {
        shape_grow(f, true);
        return;
    } else if (!list_empty(&f->shape.waiting)) {
        room_answer(f, (int)rc);
    }
    shape_over(f);
}

void tree_file_may_grow(struct tree_file *f, uint64_t bytes)
{
    f->shape.may_grow = bytes == UINT64_MAX ? bytes : bytes / FILE_UNIT;
}

/* A step that leaves others most of what there is; or not more than it must be. */
static uint64_t grow_target(const struct tree_file *f, uint32_t count, bool least)
{
    uint64_t size = tree_space_size(f->space), share = f->shape.may_grow / ROOM_STEP_SHARE;
    uint64_t whole = tree_space_grow_target(f->space, count, false);
    uint64_t exact = tree_space_grow_target(f->space, count, true);
    uint64_t step = base_align_up(exact, ROOM_STEP_UNITS);
    if (!least && whole - size <= share) {
        return whole;
    }
    return !least && step < whole && step - size <= share ? step : exact;
}

static void shape_grow(struct tree_file *f, bool least)
{
    struct file_shaper *s = &f->shape;
    if (list_empty(&s->waiting)) { /* they have found room meanwhile */
        shape_over(f);
        return;
    }
    const struct tree_file_room *r = LIST_ENTRY(s->waiting.next, struct tree_file_room, node);
    uint64_t size = tree_space_size(f->space);
    s->target = grow_target(f, r->count, least);
    s->step = least ? SHAPE_GROW_LEAST : SHAPE_GROW;
    s->req = (struct disk_req){.op = s->no_allocate ? DISK_TRUNCATE : DISK_ALLOCATE,
                               .file = f->file,
                               .offset = size * FILE_UNIT,
                               .len = (s->target - size) * FILE_UNIT,
                               .done = grow_done};
    if (s->no_allocate) {
        s->req.offset = 0;
        s->req.len = s->target * FILE_UNIT;
    }
    s->rc = s->target - size > s->may_grow ? -ENOSPC : tree_space_prepare(f->space, s->target);
    if (s->rc < 0) { /* as if the disk had said it, but later */
        loop_defer(f->env.loop, &s->task);
        return;
    }
    disk_submit(f->env.disk, &s->req);
}

static void shape_task(struct loop_task *t)
{
    struct tree_file *f = container_of(t, struct tree_file, shape.task);
    if (!list_empty(&f->shape.waiting)) {
        room_answer(f, f->shape.rc);
    }
    shape_over(f);
}

void tree_file_room_init(struct tree_file *f)
{
    list_init(&f->shape.waiting);
    f->shape.task.run = shape_task;
    f->shape.may_grow = UINT64_MAX;
}

/* ---- shrinking ---- */

static void trim_done(struct disk_req *req, int64_t rc)
{
    struct tree_file *f = container_of(req, struct tree_file, shape.req);
    (void)rc; /* what could not be cut off is taken again when the file grows */
    shape_over(f);
}

static void punch_done(struct disk_req *req, int64_t rc)
{
    struct tree_file *f = container_of(req, struct tree_file, shape.req);
    f->shape.no_punch = f->shape.no_punch || rc < 0;
    tree_space_hole_done(f->space, f->shape.hole, rc >= 0);
    shape_over(f);
}

/* ---- ahead ---- */

static void ahead_done(struct disk_req *req, int64_t rc)
{
    struct tree_file *f = container_of(req, struct tree_file, shape.req);
    if (rc >= 0) {
        tree_space_resize(f->space, f->shape.target);
    } else {
        f->shape.settling = false; /* until the next checkpoint */
    }
    shape_over(f);
}

/* True: the file grows, so that a checkpoint finds room also when others have filled the disk. */
static bool ahead_begin(struct tree_file *f)
{
    struct file_shaper *s = &f->shape;
    struct tree_space_info info;
    tree_space_info(f->space, &info);
    uint64_t missing = s->ahead - base_min(s->ahead, info.free);
    if (missing == 0 || s->no_allocate || missing > s->may_grow ||
        tree_space_prepare(f->space, info.size + missing) < 0) {
        return false;
    }
    s->may_grow -= s->may_grow == UINT64_MAX ? 0 : missing;
    s->step = SHAPE_AHEAD;
    s->target = info.size + missing;
    s->req = (struct disk_req){.op = DISK_ALLOCATE,
                               .file = f->file,
                               .offset = info.size * FILE_UNIT,
                               .len = missing * FILE_UNIT,
                               .done = ahead_done};
    disk_submit(f->env.disk, &s->req);
    return true;
}

void tree_file_room_settle(struct tree_file *f)
{
    struct file_shaper *s = &f->shape;
    if (s->step != SHAPE_IDLE || !s->settling || f->failure.code < 0 || f->stop != NULL) {
        return;
    }
    uint64_t target = tree_space_trim_target(f->space);
    s->req = (struct disk_req){.file = f->file};
    if (target < tree_space_size(f->space)) {
        s->step = SHAPE_TRIM;
        tree_space_resize(f->space, target);
        s->req.op = DISK_TRUNCATE;
        s->req.len = target * FILE_UNIT;
        s->req.done = trim_done;
    } else if (!s->no_punch && tree_space_hole(f->space, f->punch_units, &s->hole)) {
        s->step = SHAPE_PUNCH;
        s->req.op = DISK_PUNCH;
        s->req.offset = tree_space_offset(s->hole);
        s->req.len = tree_space_bytes(s->hole);
        s->req.done = punch_done;
    } else {
        s->settling = ahead_begin(f);
        return;
    }
    disk_submit(f->env.disk, &s->req);
}
