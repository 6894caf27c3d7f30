/* tree/file.c -- blocks of a tree file: numbers, writes, reads; see file.h. */
#include "tree/file.h"

#include "base/mem.h"
#include "tree/file_priv.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- failures ---- */

/* Nothing may be tried again: nobody knows what the disk holds. */
void tree_file_fail(struct tree_file *f, int rc, const char *what)
{
    if (f->failure.code == 0) {
        snprintf(f->failure.text, sizeof f->failure.text,
                 "%s failed (%s) at checkpoint %" PRIu64 ": nothing is written any more", what,
                 err_text(rc), f->frozen_number);
        f->failure.code = -ERR_failed_before;
    }
    tree_file_room_fail(f);
}

int tree_file_failed(const struct tree_file *f, struct err *e)
{
    if (e != NULL && f->failure.code < 0) {
        *e = f->failure;
    }
    return f->failure.code;
}

/* ---- what is under way ---- */

static bool file_idle(const struct tree_file *f)
{
    return list_empty(&f->writing) && list_empty(&f->late_writes) && list_empty(&f->late_commits) &&
           f->reading == 0 && f->shape.step == SHAPE_IDLE && !tree_file_commit_busy(f);
}

void tree_file_progress(struct tree_file *f)
{
    tree_file_commit_go(f);
    if (f->stop != NULL && file_idle(f)) {
        loop_defer(f->env.loop, &f->task);
    }
}

static void file_run(struct loop_task *t)
{
    struct tree_file *f = container_of(t, struct tree_file, task);
    struct list writes, commits;
    list_init(&writes);
    list_init(&commits);
    list_splice_back(&writes, &f->late_writes);
    list_splice_back(&commits, &f->late_commits);
    struct list *node = list_pop_front(&writes);
    for (; node != NULL; node = list_pop_front(&writes)) {
        struct tree_file_write *w = LIST_ENTRY(node, struct tree_file_write, node);
        w->done(w, w->rc);
    }
    node = list_pop_front(&commits);
    for (; node != NULL; node = list_pop_front(&commits)) {
        struct tree_file_commit *c = LIST_ENTRY(node, struct tree_file_commit, late);
        c->done(c, c->rc);
    }
    if (f->stop != NULL && file_idle(f)) {
        struct tree_file_stop *s = f->stop;
        f->stop = NULL;
        s->done(s);
    }
}

void tree_file_init(struct tree_file *f)
{
    f->task.run = file_run;
    list_init(&f->writing);
    list_init(&f->late_writes);
    list_init(&f->late_commits);
    tree_file_room_init(f);
}

void tree_file_stop(struct tree_file *f, struct tree_file_stop *s)
{
    LOOP_OWNED(f->env.loop);
    CHECK(f->stop == NULL);
    f->stop = s;
    loop_defer(f->env.loop, &f->task);
}

/* ---- which checkpoints are kept ---- */

/* All but those that are only pinned. */
static size_t retain_durable(const struct tree_file *f, uint64_t *kept)
{
    size_t count = 0;
    kept[count++] = f->super.checkpoint;
    if (f->older != 0) {
        kept[count++] = f->older;
    }
    if (f->frozen != NULL) {
        kept[count++] = f->frozen_number;
    }
    for (size_t i = 0; i < f->doubt_count; i++) {
        kept[count++] = f->doubt[i];
    }
    return count;
}

void tree_file_retain(struct tree_file *f)
{
    uint64_t kept[TREE_SPACE_RETAINED_MAX];
    size_t count = retain_durable(f, kept);
    for (size_t i = 0; i < FILE_PINS_MAX; i++) {
        if (f->pin[i].count > 0) {
            kept[count++] = f->pin[i].checkpoint;
        }
    }
    tree_space_retain(f->space, kept, count);
}

int tree_file_pin(struct tree_file *f, uint64_t checkpoint)
{
    struct file_pin *unused = NULL;
    for (size_t i = 0; i < FILE_PINS_MAX; i++) {
        struct file_pin *p = &f->pin[i];
        if (p->count > 0 && p->checkpoint == checkpoint) {
            p->count++;
            return 0;
        }
        unused = p->count == 0 ? p : unused;
    }
    if (checkpoint == 0 || (checkpoint != f->super.checkpoint && checkpoint != f->older)) {
        return -ENOENT;
    }
    if (unused == NULL) {
        return -ENOBUFS;
    }
    *unused = (struct file_pin){.checkpoint = checkpoint, .count = 1};
    tree_file_retain(f);
    return 0;
}

void tree_file_unpin(struct tree_file *f, uint64_t checkpoint)
{
    for (size_t i = 0; i < FILE_PINS_MAX; i++) {
        struct file_pin *p = &f->pin[i];
        if (p->count > 0 && p->checkpoint == checkpoint) {
            p->count--;
            tree_file_retain(f);
            tree_file_room_run(f);
            return;
        }
    }
    CHECK(false && "pinned");
}

const struct tree_super *tree_file_super(const struct tree_file *f)
{
    return &f->super;
}

uint64_t tree_file_pinned(const struct tree_file *f)
{
    uint64_t kept[TREE_SPACE_RETAINED_MAX];
    return tree_space_kept_without(f->space, kept, retain_durable(f, kept));
}

void tree_file_oldest(struct tree_file *f, uint64_t version)
{
    tree_space_oldest(f->space, version);
    tree_file_room_run(f);
}

uint64_t tree_file_number(const struct tree_file *f)
{
    return f->number;
}

int tree_file_freeze(struct tree_file *f, uint64_t *ret)
{
    LOOP_OWNED(f->env.loop);
    if (f->failure.code < 0 || f->frozen != NULL) {
        return f->failure.code < 0 ? f->failure.code : -EALREADY;
    }
    int rc = tree_btt_freeze(f->table, &f->frozen);
    if (rc < 0) {
        return rc;
    }
    f->frozen_number = f->number++;
    tree_file_retain(f);
    *ret = f->frozen_number;
    return 0;
}

/*
 * The next one goes to the same place, where the newest durable one is not. What died while it was
 * frozen stays until another one is durable: parts that were written for this one are clean, but
 * of newer versions of their nodes, which share them, nothing may be on disk yet.
 */
void tree_file_unfreeze(struct tree_file *f)
{
    tree_btt_abandon(f->table, f->frozen);
    f->frozen = NULL;
    f->number = f->frozen_number + 2;
    f->failed = f->failed == 0 ? f->frozen_number : f->failed;
    tree_space_retain_from(f->space, f->failed);
    tree_file_retain(f);
    tree_file_room_run(f);
}

void tree_file_thaw(struct tree_file *f)
{
    LOOP_OWNED(f->env.loop);
    CHECK(f->frozen != NULL && !tree_file_commit_busy(f));
    tree_file_unfreeze(f);
}

/* ---- numbers ---- */

static bool write_is_frozen(const struct tree_file *f, const struct tree_file_write *w)
{
    return f->frozen != NULL && w->birth <= f->frozen_number;
}

bool tree_file_frozen_writes(const struct tree_file *f)
{
    LIST_FOR_EACH(node, &f->writing)
    {
        if (write_is_frozen(f, LIST_ENTRY(node, struct tree_file_write, node))) {
            return true;
        }
    }
    return false;
}

/* Is there one for the same of the two tables? */
static bool file_writes_block(const struct tree_file *f, uint64_t block, bool frozen)
{
    LIST_FOR_EACH(node, &f->writing)
    {
        const struct tree_file_write *w = LIST_ENTRY(node, struct tree_file_write, node);
        if (w->block == block && write_is_frozen(f, w) == frozen) {
            return true;
        }
    }
    return false;
}

static int file_number_new(struct tree_file *f, bool fresh, uint8_t level, uint64_t *ret)
{
    uint64_t next = tree_btt_next_block(f->table);
    if (next > TREE_BTT_BLOCK_MAX) {
        return -ENOSPC;
    }
    int rc = tree_btt_extend(f->table, next);
    rc = rc < 0 ? rc : tree_btt_reserve(f->table, 1);
    if (rc < 0) {
        return rc;
    }
    *ret = tree_btt_alloc(f->table, fresh, level, f->number);
    tree_btt_unreserve(f->table, 1);
    return 0;
}

int tree_file_block_new(struct tree_file *f, uint8_t level, uint64_t *ret)
{
    LOOP_OWNED(f->env.loop);
    return f->failure.code < 0 ? f->failure.code : file_number_new(f, false, level, ret);
}

static struct tree_space_extent entry_extent(const struct tree_btt_entry *e)
{
    return (struct tree_space_extent){.unit = e->unit, .count = e->units};
}

/* The extents of an entry and the older ones behind it die; their numbers are not touched. */
static void extents_die(struct tree_file *f, struct tree_btt_entry e, uint64_t death,
                        uint64_t version)
{
    while (e.units > 0) {
        struct tree_space_life life = {.birth = e.birth, .death = death, .version = version};
        tree_space_defer(f->space, entry_extent(&e), &life);
        uint64_t link = e.link;
        e = (struct tree_btt_entry){0};
        if (link != 0) {
            tree_btt_get(f->table, link, &e);
        }
    }
}

/* The older extents of an entry have no numbers any more. Those of the frozen table just become
 * void: its chain goes on in the live one. */
static void links_release(struct tree_file *f, struct tree_btt *t, uint64_t link)
{
    struct tree_btt_entry e, none = {0};
    for (; link != 0; link = e.link) {
        tree_btt_get(t, link, &e);
        if (t == f->frozen) {
            tree_btt_put(t, link, &none);
        } else {
            tree_btt_release(t, link);
        }
    }
}

int tree_file_block_free(struct tree_file *f, uint64_t block, uint64_t version)
{
    LOOP_OWNED(f->env.loop);
    struct tree_btt_entry e;
    tree_btt_get(f->table, block, &e);
    CHECK(e.kind == TREE_BTT_NODE && !file_writes_block(f, block, false));
    if (f->failure.code < 0) {
        return f->failure.code;
    }
    size_t entries = 1 + (size_t)e.segment_count, extents = e.units > 0 ? entries : 0;
    int rc = tree_btt_reserve(f->table, entries);
    if (rc < 0) {
        return rc;
    }
    rc = tree_space_reserve(f->space, extents);
    if (rc == 0) {
        extents_die(f, e, f->number, version);
        links_release(f, f->table, e.link);
        tree_btt_release(f->table, block);
    }
    tree_btt_unreserve(f->table, entries);
    return rc;
}

/* May a checkpoint of this number list something? */
static bool file_may_know(const struct tree_file *f, uint64_t checkpoint)
{
    bool knows = checkpoint <= f->super.checkpoint || f->frozen != NULL;
    for (size_t i = 0; i < f->doubt_count; i++) {
        knows = knows || f->doubt[i] == checkpoint;
    }
    return knows;
}

int tree_file_piece_free(struct tree_file *f, struct tree_space_extent x, uint64_t birth,
                         uint64_t version)
{
    LOOP_OWNED(f->env.loop);
    int rc = f->failure.code < 0 ? f->failure.code : tree_space_reserve(f->space, 1);
    if (rc == 0) {
        struct tree_space_life life = {.birth = birth, .death = f->number, .version = version};
        life.death = file_may_know(f, birth) ? life.death : birth; /* of one that has failed */
        tree_space_defer(f->space, x, &life);
    }
    return rc;
}

int tree_file_find(const struct tree_file *f, uint64_t block, struct tree_file_place *ret)
{
    struct tree_btt_entry e;
    tree_btt_get(f->table, block, &e);
    if (e.kind != TREE_BTT_NODE || e.units == 0) {
        return -ENOENT;
    }
    *ret = (struct tree_file_place){.extent = entry_extent(&e),
                                    .header_len = e.header_len,
                                    .checksum = e.checksum,
                                    .birth = e.birth,
                                    .level = e.level,
                                    .flags = e.flags,
                                    .older_count = e.segment_count};
    return 0;
}

size_t tree_file_older(const struct tree_file *f, uint64_t block, struct tree_space_extent *ret,
                       size_t max)
{
    struct tree_btt_entry e;
    size_t count = 0;
    tree_btt_get(f->table, block, &e);
    for (uint64_t link = e.kind == TREE_BTT_NODE ? e.link : 0; link != 0; link = e.link) {
        tree_btt_get(f->table, link, &e);
        if (count < max) {
            ret[count] = entry_extent(&e);
        }
        count++;
    }
    return count;
}

uint64_t tree_file_block_limit(const struct tree_file *f)
{
    return tree_btt_next_block(f->table);
}

/* ---- writing ---- */

/* All that could fail at the end. */
static int write_reserve(struct tree_file *f, struct tree_file_write *w)
{
    struct tree_btt_entry e;
    bool frozen = write_is_frozen(f, w);
    tree_btt_get(frozen ? f->frozen : f->table, w->block, &e);
    CHECK(e.kind == TREE_BTT_NODE && (!w->append || e.units > 0));
    CHECK(e.segment_count < TREE_BTT_SEGMENTS_MAX || !w->append);
    /* Beside the block itself: the extents it has, one that a write for the other table appends in
     * the meantime, the one that this appends. */
    size_t count = 3 + (size_t)e.segment_count;
    int rc = tree_btt_reserve(f->table, count);
    if (rc < 0) {
        return rc;
    }
    w->reserved_blocks = count;
    rc = tree_space_reserve(f->space, count);
    if (rc < 0) {
        return rc;
    }
    w->reserved_extents = count;
    if (w->append) { /* for the frozen table it must be one that no chain holds */
        rc = file_number_new(f, frozen, w->level, &w->link);
        rc = rc < 0 || !frozen ? rc : tree_btt_extend(f->frozen, w->link);
    }
    return rc;
}

/* Of a write that did not come about. */
static void write_undo(struct tree_file *f, struct tree_file_write *w)
{
    if (w->link != 0) {
        tree_btt_release(f->table, w->link); /* of what is reserved */
        w->link = 0;
    }
}

static void write_over(struct tree_file *f, struct tree_file_write *w, int rc)
{
    tree_btt_unreserve(f->table, w->reserved_blocks);
    /* What was deferred took its share. */
    tree_space_unreserve(f->space, w->reserved_extents);
    w->reserved_blocks = 0;
    w->reserved_extents = 0;
    list_remove(&w->node);
    w->rc = rc;
}

static void table_install(struct tree_file *f, struct tree_btt *t, const struct tree_file_write *w)
{
    struct tree_btt_entry was;
    tree_btt_get(t, w->block, &was);
    struct tree_btt_entry now = {
        .kind = TREE_BTT_NODE,
        .flags = w->flags,
        .level = w->level,
        .units = (uint16_t)w->extent.count,
        .header_len = w->header_len,
        .unit = w->extent.unit,
        .checksum = w->checksum,
        .birth = w->birth,
    };
    if (w->append) {
        struct tree_btt_entry older = was;
        older.kind = TREE_BTT_SEGMENT;
        older.segment_count = 0;
        tree_btt_put(t, w->link, &older);
        now.link = w->link;
        now.segment_count = (uint8_t)(was.segment_count + 1);
    } else {
        links_release(f, t, was.link);
    }
    tree_btt_put(t, w->block, &now);
}

static void write_defer(struct tree_file *f, struct tree_file_write *w,
                        const struct tree_btt_entry *e, uint64_t death)
{
    size_t count = e->units == 0 ? 0 : 1 + (size_t)e->segment_count;
    CHECK(count <= w->reserved_extents);
    w->reserved_extents -= count;
    extents_die(f, *e, death, w->version);
}

/* The bytes are there: the tables that do not know a newer version of the block learn of it. */
static void write_install(struct tree_file *f, struct tree_file_write *w)
{
    struct tree_btt_entry live;
    tree_btt_get(f->table, w->block, &live);
    bool frozen = write_is_frozen(f, w);
    bool current = live.kind == TREE_BTT_NODE && live.birth <= w->birth;
    if (frozen) {
        table_install(f, f->frozen, w);
    }
    if (current) {
        if (!w->append) {
            write_defer(f, w, &live, frozen ? f->frozen_number : f->number);
        }
        table_install(f, f->table, w);
        return;
    }
    if (w->link != 0) {
        tree_btt_release(f->table, w->link);
    }
    struct tree_space_life life = {.birth = w->birth, .death = w->birth, .version = w->gone};
    if (frozen) {
        life.death = f->frozen_number + 1;
    }
    w->reserved_extents--;
    tree_space_defer(f->space, w->extent, &life);
}

static void write_done(struct disk_req *req, int64_t result)
{
    struct tree_file_write *w = container_of(req, struct tree_file_write, req);
    struct tree_file *f = w->file;
    int rc = result < 0 ? (int)result : (uint64_t)result != w->len ? -EIO : 0;
    rc = f->failure.code < 0 ? f->failure.code : rc;
    if (rc < 0) {
        tree_space_give(f->space, w->extent);
        write_undo(f, w);
    } else if (w->block != 0) {
        write_install(f, w);
    }
    write_over(f, w, rc);
    w->done(w, rc);
    tree_file_room_run(f);
    tree_file_progress(f);
}

static void write_submit(struct tree_file *f, struct tree_file_write *w)
{
    w->extent = w->room.extent;
    w->req = (struct disk_req){.op = DISK_WRITE,
                               .flags = DISK_SOON,
                               .file = f->file,
                               .offset = tree_space_offset(w->extent),
                               .buf = w->buf,
                               .len = w->len,
                               .done = write_done};
    disk_submit(f->env.disk, &w->req);
}

static void write_refuse(struct tree_file *f, struct tree_file_write *w, int rc)
{
    write_undo(f, w);
    write_over(f, w, rc);
    list_push_back(&f->late_writes, &w->node);
    loop_defer(f->env.loop, &f->task);
}

static void write_has_room(struct tree_file_room *r, int rc)
{
    struct tree_file_write *w = container_of(r, struct tree_file_write, room);
    if (rc < 0) {
        write_refuse(w->file, w, rc);
        tree_file_progress(w->file);
    } else {
        write_submit(w->file, w);
    }
}

static void write_check(const struct tree_file *f, const struct tree_file_write *w)
{
    CHECK(w->len > 0 && w->len % FILE_UNIT == 0 && w->len <= FILE_BLOB_MAX);
    CHECK((uintptr_t)w->buf % FILE_UNIT == 0 && w->header_len <= w->len);
    CHECK(w->birth > 0 && w->birth <= f->number);
    CHECK(w->block != 0 || !w->append);
    CHECK(w->block == 0 || !file_writes_block(f, w->block, write_is_frozen(f, w)));
}

void tree_file_write(struct tree_file *f, struct tree_file_write *w)
{
    LOOP_OWNED(f->env.loop);
    write_check(f, w);
    w->file = f;
    w->link = 0;
    w->reserved_blocks = 0;
    w->reserved_extents = 0;
    w->room =
        (struct tree_file_room){.count = (uint32_t)(w->len / FILE_UNIT), .ready = write_has_room};
    list_init(&w->node);
    int rc = f->failure.code;
    if (rc == 0 && w->block != 0) {
        rc = write_reserve(f, w);
    }
    if (rc < 0) {
        write_refuse(f, w, rc);
        return;
    }
    list_push_back(&f->writing, &w->node);
    if (tree_file_room_take(f, &w->room)) {
        write_submit(f, w);
    }
}

/* ---- reading ---- */

static void read_done(struct disk_req *req, int64_t result);

static void read_submit(struct tree_file *f, struct tree_file_read *r)
{
    r->req = (struct disk_req){.op = DISK_READ,
                               .file = f->file,
                               .offset = tree_space_offset(r->extent) + r->offset,
                               .buf = r->buf,
                               .len = r->len,
                               .done = read_done};
    disk_submit(f->env.disk, &r->req);
}

static void read_again(struct loop_timer *timer)
{
    struct tree_file_read *r = container_of(timer, struct tree_file_read, again);
    read_submit(r->file, r);
}

/* What passes (a path to the disk that is switched over, say) is worth some tries. */
static void read_done(struct disk_req *req, int64_t result)
{
    struct tree_file_read *r = container_of(req, struct tree_file_read, req);
    struct tree_file *f = r->file;
    int rc = result < 0 ? (int)result : result != (int64_t)r->len ? -EIO : 0;
    if (rc == -EIO && ++r->tries < FILE_READ_TRIES && f->stop == NULL) {
        r->again.fire = read_again;
        loop_timer_in(f->env.loop, &r->again, FILE_READ_AGAIN_NS << (r->tries - 1));
        return;
    }
    if (rc < 0) {
        err_set(&r->err, rc, "block %" PRIu64 ", read of %" PRIu32 " bytes at %" PRIu64 "+%" PRIu32,
                r->block, r->len, tree_space_offset(r->extent), r->offset);
    }
    f->reading--;
    r->done(r, rc);
    tree_file_progress(f);
}

void tree_file_read(struct tree_file *f, struct tree_file_read *r)
{
    LOOP_OWNED(f->env.loop);
    CHECK(r->offset % FILE_UNIT == 0 && r->len > 0 && r->len % FILE_UNIT == 0);
    CHECK((uint64_t)r->offset + r->len <= tree_space_bytes(r->extent));
    r->file = f;
    r->err = (struct err){0};
    r->again = (struct loop_timer){0};
    r->tries = 0;
    f->reading++;
    read_submit(f, r);
}

/* ---- all of it ---- */

void tree_file_info(struct tree_file *f, struct tree_file_info *ret)
{
    *ret = (struct tree_file_info){.newest = f->super.checkpoint,
                                   .older = f->older,
                                   .direct = f->direct,
                                   .size_bytes = tree_space_size(f->space) * FILE_UNIT};
    tree_space_info(f->space, &ret->space);
    ret->memory = sizeof *f + ret->space.memory + tree_btt_memory(f->table) +
                  f->place_count * sizeof *f->place;
    ret->memory += f->frozen == NULL ? 0 : tree_btt_memory(f->frozen);
    ret->memory += tree_file_commit_memory(f);
    if (f->shape.step == SHAPE_PUNCH) { /* nobody has it */
        ret->space.used -= f->shape.hole.count;
        ret->space.free += f->shape.hole.count;
    }
}

bool tree_file_sound(const struct tree_file *f)
{
    return tree_space_sound(f->space);
}

struct tree_file *tree_file_free(struct tree_file *f)
{
    if (f == NULL) {
        return NULL;
    }
    CHECK(file_idle(f));
    if (f->frozen != NULL) {
        tree_btt_free(f->frozen);
    }
    loop_undefer(f->env.loop, &f->task);
    if (f->file != NULL) {
        struct disk_req req = {.op = DISK_CLOSE, .file = f->file};
        (void)disk_now(f->env.disk, &req); /* what matters was synced */
    }
    tree_btt_free(f->table);
    tree_space_free(f->space);
    mem_free(f->place);
    mem_free(f);
    return NULL;
}
