/*
 * tree/tree_disk.c -- how much room there is on the disk, and who may still have some.
 *
 * What has been committed must get to the disk some day, and what gives space back (a checkpoint,
 * and moving deletes down to what they delete) takes some first. So a reserve is kept: room for a
 * checkpoint of everything that is not in one, and for the largest job. Whoever asks before he
 * commits (kv_disk) is told to take nothing more while there is only a little beside that, but what
 * removes; and nothing at all when the reserve itself is touched. Checkpoints and jobs may use it
 * up.
 *
 * Room is what is free in the file and what the file system has free, less what is to be left to
 * others there. The file system is asked from time to time, while there is reason to; between two
 * looks the file's own growth is counted. A write that found no room says more than all that, for a
 * while.
 */
#include "tree/tree_disk_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "tree/file_priv.h"
#include "tree/tree_priv.h"

#define DISK_LOOK_NS UINT64_C(1000000000)    /* the file system is asked, at most so often */
#define DISK_COUNT_NS UINT64_C(50000000)     /* the same, of what is needed */
#define DISK_REFUSED_NS UINT64_C(1000000000) /* for so long a refusal is believed */
#define DISK_SHARE 16u                       /* of the disk: more is not held back for comfort */
#define DISK_OTHERS_SHARE 8u                 /* nor left to others */
#define DISK_NODE_BYTES (2u * TREE_UNIT)     /* header and pivots, rounded up */
#define DISK_BLOCK_BYTES 64u                 /* of the tables of a checkpoint, for each node */

struct tree_disk {
    struct tree *t;
    struct disk_req req;
    struct loop_timer timer;
    bool busy, known, stopped;
    enum kv_disk level;
    uint64_t free_bytes, total_bytes; /* of the file system, at the last look */
    uint64_t had_bytes;               /* of that the file, then */
    uint64_t looked_ns, counted_ns;
    uint64_t refused_ns; /* until then */
    uint64_t committed;  /* since it was counted */
};

/* Of the file system's space. */
static uint64_t file_has(const struct tree_file_info *f)
{
    return (f->space.size - f->space.punched) * TREE_SPACE_UNIT;
}

static uint64_t disk_others(const struct tree_disk *d)
{
    return base_min(d->t->opt.reserve_bytes, d->total_bytes / DISK_OTHERS_SHARE);
}

/* By how much the file may grow. */
static uint64_t disk_growth(const struct tree_disk *d, const struct tree_file_info *f)
{
    uint64_t has = file_has(f), others = disk_others(d);
    uint64_t left = has >= d->had_bytes
                        ? d->free_bytes - base_min(d->free_bytes, has - d->had_bytes)
                        : d->free_bytes + (d->had_bytes - has);
    return left - base_min(left, others);
}

static uint64_t disk_room(const struct tree_disk *d, const struct tree_file_info *f)
{
    uint64_t own = f->space.free - base_min(f->space.free, f->space.punched);
    return own * TREE_SPACE_UNIT + disk_growth(d, f);
}

/* What one checkpoint of all there is would write now, at most about, and then the largest job. Of
 * a node with a change all may have to be written, where what it had is a part of older
 * checkpoints. */
static uint64_t disk_need(const struct tree_disk *d, const struct tree_file_info *f)
{
    struct tree *t = d->t;
    struct tree_nodes_info n;
    uint64_t tables = 0;
    tree_nodes_info(t->nodes, &n);
    for (unsigned i = 0; i < t->state->count; i++) {
        const struct tree_table *table = t->state->tables[i];
        tables += table->kept ? 0 : tree_memtable_state(table->memtable).bytes;
    }
    uint64_t whole = f->space.used * TREE_SPACE_UNIT / base_max(n.nodes, 1);
    uint64_t nodes = n.dirty_bytes + n.dirty_count * (DISK_NODE_BYTES + whole);
    uint64_t job = 2 * ((uint64_t)t->shape.internal_raw + t->shape.leaf_raw);
    return tables + tables / 16 + nodes + job + n.nodes * DISK_BLOCK_BYTES;
}

/* Held back beside the need, so that removing goes on when nothing else does. */
static uint64_t disk_comfort(const struct tree_disk *d)
{
    return base_min(d->t->opt.memtable_bytes, d->total_bytes / DISK_SHARE);
}

uint64_t tree_disk_room(const struct tree *t)
{
    const struct tree_disk *d = t->disk;
    struct tree_file_info f;
    if (!d->known) {
        return UINT64_MAX;
    }
    tree_file_info(t->file, &f);
    uint64_t room = disk_room(d, &f);
    return room - base_min(room, disk_need(d, &f) + disk_comfort(d));
}

static enum kv_disk disk_judge(const struct tree_disk *d, const struct tree_file_info *f)
{
    if (loop_now_ns(d->t->env.loop) < d->refused_ns) {
        return KV_DISK_FULL;
    }
    if (!d->known) {
        return KV_DISK_ROOM;
    }
    uint64_t room = disk_room(d, f), need = disk_need(d, f), comfort = disk_comfort(d);
    uint64_t more = d->level == KV_DISK_ROOM ? comfort : comfort + comfort / 4;
    return room < need ? KV_DISK_FULL : room < need + more ? KV_DISK_LOW : KV_DISK_ROOM;
}

static void disk_ask(struct tree_disk *d);

static void disk_count(struct tree_disk *d)
{
    struct tree *t = d->t;
    struct tree_file_info f;
    tree_file_info(t->file, &f);
    tree_file_may_grow(t->file,
                       d->known && t->opt.reserve_bytes > 0 ? disk_growth(d, &f) : UINT64_MAX);
    enum kv_disk was = d->level;
    d->level = disk_judge(d, &f);
    d->counted_ns = loop_now_ns(t->env.loop);
    d->committed = 0;
    if (was == KV_DISK_ROOM && d->level != KV_DISK_ROOM) {
        log_warn(t->env.log, "the disk has little room for the tree: changes are refused",
                 LOG_TEXT("file", t->path), LOG_U64("free", d->free_bytes),
                 LOG_U64("needed", disk_need(d, &f)));
    } else if (was != KV_DISK_ROOM && d->level == KV_DISK_ROOM) {
        log_info(t->env.log, "the disk has room for the tree again", LOG_TEXT("file", t->path));
    }
    if (d->level != KV_DISK_ROOM && !d->stopped && !loop_timer_active(&d->timer)) {
        loop_timer_in(t->env.loop, &d->timer, DISK_LOOK_NS);
    }
    if (was > d->level) {
        tree_room_wake(t);
        tree_maintain_kick(t);
    }
}

/* ---- the file system ---- */

static void disk_take(struct tree_disk *d, int64_t rc)
{
    struct tree_file_info f;
    tree_file_info(d->t->file, &f);
    d->known = rc >= 0;
    d->total_bytes = rc < 0 ? 0 : d->req.stat.total_bytes;
    d->free_bytes = rc < 0 ? 0 : d->req.stat.free_bytes;
    d->had_bytes = file_has(&f);
    d->looked_ns = loop_now_ns(d->t->env.loop);
}

static void disk_asked(struct disk_req *req, int64_t rc)
{
    struct tree_disk *d = container_of(req, struct tree_disk, req);
    d->busy = false;
    disk_take(d, rc);
    disk_count(d);
    tree_stop_check(d->t);
}

static void disk_ask(struct tree_disk *d)
{
    if (!d->busy && !d->stopped) {
        d->busy = true;
        d->req = (struct disk_req){.op = DISK_STATFS, .path = d->t->path, .done = disk_asked};
        disk_submit(d->t->env.disk, &d->req);
    }
}

static void disk_fired(struct loop_timer *timer)
{
    disk_ask(container_of(timer, struct tree_disk, timer));
}

/* ---- what others say and ask ---- */

static void disk_consider(struct tree_disk *d)
{
    uint64_t now = loop_now_ns(d->t->env.loop);
    bool many = d->committed >= disk_comfort(d) / 8 && d->known;
    if (!many && now - d->counted_ns < DISK_COUNT_NS) {
        return;
    }
    if (now - d->looked_ns >= DISK_LOOK_NS) {
        disk_ask(d);
    }
    disk_count(d);
}

void tree_disk_committed(struct tree *t, size_t bytes)
{
    t->disk->committed += bytes;
    disk_consider(t->disk);
}

void tree_disk_look(struct tree *t)
{
    if (!t->disk->stopped) {
        disk_count(t->disk);
    }
}

void tree_disk_refused(struct tree *t)
{
    struct tree_disk *d = t->disk;
    d->refused_ns = loop_now_ns(t->env.loop) + DISK_REFUSED_NS;
    if (!d->stopped) {
        disk_ask(d);
        disk_count(d);
    }
}

enum kv_disk tree_disk(struct kv *kv)
{
    struct tree *t = container_of(kv, struct tree, base);
    if (!t->opt.read_only && !t->stopping) {
        disk_consider(t->disk);
    }
    return t->disk->level;
}

/* ---- life ---- */

bool tree_disk_busy(const struct tree *t)
{
    return t->disk->busy;
}

void tree_disk_stop(struct tree *t)
{
    t->disk->stopped = true;
    loop_timer_cancel(t->env.loop, &t->disk->timer);
}

int tree_disk_new(struct tree *t)
{
    struct tree_disk *d = mem_zalloc(sizeof *d);
    if (d == NULL) {
        return -ENOMEM;
    }
    d->t = t;
    d->timer.fire = disk_fired;
    t->disk = d;
    if (!t->opt.read_only) {
        d->req = (struct disk_req){.op = DISK_STATFS, .path = t->path};
        disk_take(d, disk_now(t->env.disk, &d->req));
    }
    return 0;
}

void tree_disk_free(struct tree *t)
{
    struct tree_disk *d = t->disk;
    if (d != NULL) {
        CHECK(!d->busy);
        loop_timer_cancel(t->env.loop, &d->timer);
        mem_free(d);
        t->disk = NULL;
    }
}
