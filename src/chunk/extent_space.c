/*
 * chunk/extent_space.c -- containers of the `extent` engine: how they grow, who has which units,
 * and how units come back.
 *
 * Units are taken before anything is written to them, and nobody else has them until they are given
 * back: what an update took in vain at once, what was written after a rest. Unit 0 of each
 * container is its header, so that no extent goes over the end of one.
 */
#include "chunk/extent_index_priv.h"
#include "chunk/extent_room_priv.h"

#include "base/crc32c.h"
#include "wire/wire.h"

#include <string.h>

#define SPACE_MAGIC UINT32_C(0x5053434f) /* "OCSP" */
#define SPACE_VERSION 1u
#define SPACE_SECTOR 512u
#define RELEASE_LOOK_MAX 64u
#define RELEASE_FAILED_MAX 64u /* between two ticks */
#define RELEASE_AGAIN_NS UINT64_C(1000000000)
#define OPEN_UNITS 64u       /* taken at once for small contents */
#define OPEN_UNITS_SMALL 16u /* of one that is small */

/* ---- Headers ---- */

void chunk_space_header(const struct uuid *target, uint32_t number, uint8_t *to)
{
    memset(to, 0, CHUNK_UNIT);
    wire_store_u32(to, SPACE_MAGIC);
    wire_store_u32(to + 4, SPACE_VERSION);
    memcpy(to + CHUNK_HEADER_OWNER, target->bytes, sizeof target->bytes);
    wire_store_u32(to + 24, number);
    wire_store_u32(to + SPACE_SECTOR - 4, crc32c(0, to, SPACE_SECTOR - 4));
}

int chunk_space_header_check(const struct uuid *target, uint32_t number, const uint8_t *from)
{
    if (wire_load_u32(from) != SPACE_MAGIC) {
        return -ERR_bad_magic;
    }
    if (wire_load_u32(from + SPACE_SECTOR - 4) != crc32c(0, from, SPACE_SECTOR - 4)) {
        return -ERR_bad_crc;
    }
    if (wire_load_u32(from + 4) != SPACE_VERSION) {
        return -ERR_bad_version;
    }
    bool same = memcmp(from + CHUNK_HEADER_OWNER, target->bytes, sizeof target->bytes) == 0 &&
                wire_load_u32(from + 24) == number;
    return same ? 0 : -ERR_bad_value;
}

static char *container_path(const char *root, uint32_t number)
{
    return mem_printf("%s/space.%04x", root, number);
}

struct chunk_container *chunk_space_container(const struct chunk_extent *x, uint64_t unit)
{
    CHECK(unit / CHUNK_CONTAINER_UNITS < x->container_count);
    return x->container[unit / CHUNK_CONTAINER_UNITS];
}

uint64_t chunk_space_offset(const struct chunk_extent *x, uint64_t unit)
{
    return chunk_space_container(x, unit)->begins + unit % CHUNK_CONTAINER_UNITS * CHUNK_UNIT;
}

/* ---- Open ---- */

int chunk_space_room(struct chunk_extent *x)
{
    int rc = mem_grow(&x->container, &x->container_capacity, x->container_count + 1,
                      sizeof *x->container);
    struct chunk_container *c = rc < 0 ? NULL : mem_zalloc(sizeof *c);
    if (c == NULL) {
        return -ENOMEM;
    }
    c->x = x;
    x->container[x->container_count] = c;
    return 0;
}

/* Its units: what was allocated in whole steps. */
static int container_look(struct chunk_extent *x, struct disk_file *file, uint32_t number)
{
    uint8_t head[CHUNK_UNIT];
    struct disk_req req = {.op = DISK_READ, .file = file, .buf = head, .len = sizeof head};
    int64_t got = disk_now(x->s->disk, &req);
    if (got < (int64_t)sizeof head) {
        return got < 0 ? (int)got : -ERR_short_msg;
    }
    int rc = chunk_space_header_check(&x->s->super.target, number, head);
    if (rc < 0) {
        return rc;
    }
    req = (struct disk_req){.op = DISK_STAT, .file = file};
    got = disk_now(x->s->disk, &req);
    uint64_t units = req.stat.size_bytes / CHUNK_UNIT / CHUNK_STEP_UNITS * CHUNK_STEP_UNITS;
    x->units = (uint64_t)number * CHUNK_CONTAINER_UNITS + base_min(units, CHUNK_CONTAINER_UNITS);
    return got < 0 ? (int)got : 0;
}

static int container_close(struct chunk_extent *x, struct disk_file *file, int rc)
{
    struct disk_req req = {.op = DISK_CLOSE, .file = file};
    (void)disk_now(x->s->disk, &req);
    return rc;
}

/* 1: there is one; 0: there is none of this number, or it was not yet whole when power failed. */
static int container_open(struct chunk_extent *x, uint32_t number, struct err *e)
{
    CLEANUP(mem_freep) char *path = container_path(x->s->directory, number);
    if (path == NULL) {
        return -ENOMEM;
    }
    struct disk_req req = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE};
    int64_t rc = disk_now(x->s->disk, &req);
    if (rc == -ENOENT) {
        return 0;
    }
    if (rc < 0) {
        return err_set(e, (int)rc, "'%s'", path);
    }
    struct disk_file *file = req.file;
    int fresh = chunk_file_fresh(x->s, file);
    if (fresh < 0) {
        err_set(e, fresh, "'%s', synced before it is used", path);
        return container_close(x, file, fresh);
    }
    req = (struct disk_req){.op = DISK_STAT, .file = file};
    rc = disk_now(x->s->disk, &req);
    bool begun = rc >= 0 && req.stat.size_bytes >= CHUNK_STEP_UNITS * CHUNK_UNIT;
    int bad = rc < 0 ? (int)rc : begun ? container_look(x, file, number) : 0;
    if (bad < 0 || !begun) {
        bad = bad < 0 ? err_set(e, bad, "'%s' is no container of this target", path) : 0;
        return container_close(x, file, bad);
    }
    bad = chunk_space_room(x);
    if (bad < 0) {
        return container_close(x, file, bad);
    }
    x->container[x->container_count]->file = file;
    chunk_container_wrote(x->container[x->container_count++], false); /* by whoever died, perhaps */
    return 1;
}

static void space_claim_header(struct chunk_extent *x, uint64_t unit)
{
    const struct tree_space_extent header = {.unit = unit, .count = 1};
    int rc = tree_space_claim(x->space, header);
    CHECK(rc == 0);
}

/* The end of the last container: what was begun behind it goes, and the end is stable, also when
 * a sync has failed before, so that it only looks like that. */
static int space_settle_end(struct chunk_extent *x)
{
    if (x->container_count == 0) {
        return 0;
    }
    uint64_t units = x->units - (x->container_count - 1) * CHUNK_CONTAINER_UNITS;
    struct disk_req req = {.op = DISK_TRUNCATE,
                           .file = x->container[x->container_count - 1]->file,
                           .len = units * CHUNK_UNIT};
    int64_t rc = disk_now(x->s->disk, &req);
    if (rc >= 0) {
        req = (struct disk_req){.op = DISK_SYNC_ALL, .file = req.file};
        rc = disk_now(x->s->disk, &req);
    }
    return rc < 0 ? (int)rc : 0;
}

static int space_open_files(struct chunk_extent *x, struct err *e)
{
    int rc = 0, more = 1;
    for (uint32_t number = 0; rc == 0 && more == 1; number++) {
        bool full = x->units == number * CHUNK_CONTAINER_UNITS;
        more = container_open(x, number, e);
        rc = more < 0 ? more : 0;
        if (more == 1 && !full) {
            rc = err_set(e, -ERR_bad_length, "'%s/space.%04x' is shorter than it was",
                         x->s->directory, number - 1);
        }
    }
    if (rc == 0 && !x->s->super.clean) {
        rc = err_set(e, space_settle_end(x), "the last container of '%s'", x->s->directory);
    }
    return rc;
}

int chunk_space_open(struct chunk_extent *x, struct err *e)
{
    const struct tree_space_options opt = {.grow_units = CHUNK_GROW_UNITS};
    int rc = tree_space_new(&opt, &x->space);
    int found = rc < 0 ? rc : chunk_device_open(x, e);
    rc = found == 0 ? space_open_files(x, e) : found < 0 ? found : 0;
    rc = rc < 0 ? rc : tree_space_prepare(x->space, x->units);
    if (rc < 0) {
        return rc;
    }
    if (x->units > 0) {
        tree_space_resize(x->space, x->units);
    }
    for (size_t i = 0; i < x->container_count; i++) {
        space_claim_header(x, i * CHUNK_CONTAINER_UNITS);
    }
    return 0;
}

void chunk_space_close(struct chunk_extent *x)
{
    for (size_t i = 0; i < x->container_count; i++) {
        if (x->device == NULL) {
            struct disk_req req = {.op = DISK_CLOSE, .file = x->container[i]->file};
            (void)disk_now(x->s->disk, &req);
        }
        mem_free(x->container[i]);
    }
    if (x->device != NULL) {
        struct disk_req req = {.op = DISK_CLOSE, .file = x->device};
        (void)disk_now(x->s->disk, &req);
    }
    mem_free(x->container);
    mem_free(x->grow_path);
    mem_free(x->header);
    x->space = tree_space_free(x->space);
    x->asleep = tree_space_free(x->asleep);
}

/* In regions, each of which an extent lies within. */
static uint32_t region_part(uint64_t unit, uint32_t count)
{
    return (uint32_t)base_min(count, TREE_SPACE_REGION_UNITS - unit % TREE_SPACE_REGION_UNITS);
}

int chunk_space_claim(struct chunk_extent *x, uint64_t unit, uint32_t count)
{
    while (count > 0) {
        uint32_t n = region_part(unit, count);
        const struct tree_space_extent one = {.unit = unit, .count = n};
        int rc = tree_space_claim(x->space, one);
        if (rc < 0) {
            return rc;
        }
        unit += n;
        count -= n;
    }
    return 0;
}

void chunk_space_give(struct chunk_extent *x, uint64_t unit, uint32_t count)
{
    while (count > 0) {
        uint32_t n = region_part(unit, count);
        tree_space_give(x->space, (struct tree_space_extent){.unit = unit, .count = n});
        unit += n;
        count -= n;
    }
}

bool chunk_space_unclaim(struct chunk_extent *x, uint64_t unit, uint32_t count)
{
    bool all = unit < x->units && count <= x->units - unit;
    for (uint32_t at = 0; all && at < count;) {
        uint32_t n = region_part(unit + at, count - at);
        const struct tree_space_extent one = {.unit = unit + at, .count = n};
        all = tree_space_all_used(x->space, one);
        at += n;
    }
    if (all) {
        chunk_space_give(x, unit, count);
    }
    return all;
}

/* ---- Growing ---- */

/*
 * By steps: space allocated at the end of the last container and its length made stable; when that
 * is full, first a new one: made, its header written and synced, then its name. One step at a time,
 * for all who wait.
 */
static void grow_submit(struct chunk_extent *x, const struct disk_req *req);
static void space_again(struct chunk_work *w, int rc);

static void grow_over(struct chunk_extent *x, int rc)
{
    struct list now;
    x->growing = false;
    mem_freep(&x->grow_path);
    mem_freep(&x->header);
    list_init(&now);
    list_splice_back(&now, &x->growers);
    for (struct list *node = list_pop_front(&now); node != NULL; node = list_pop_front(&now)) {
        space_again(LIST_ENTRY(node, struct chunk_work, ready), rc);
    }
}

static void grow_allocate(struct chunk_extent *x)
{
    const struct disk_req req = {.op = DISK_ALLOCATE,
                                 .file = x->container[x->container_count - 1]->file,
                                 .offset = x->units % CHUNK_CONTAINER_UNITS * CHUNK_UNIT,
                                 .len = x->grow_units * CHUNK_UNIT};
    grow_submit(x, &req);
}

static void grow_allocated(struct chunk_extent *x)
{
    uint64_t first = x->units;
    x->units += x->grow_units;
    x->s->free_bytes -= base_min(x->s->free_bytes, x->grow_units * CHUNK_UNIT);
    x->reckoned = true; /* a look may have seen it already */
    tree_space_resize(x->space, x->units);
    if (first % CHUNK_CONTAINER_UNITS == 0) {
        space_claim_header(x, first);
    }
    grow_over(x, 0);
}

/* Of a new container: the request after this one, which is done. */
static void grow_next(struct chunk_extent *x, enum disk_op was)
{
    struct disk_req req = {.file = x->container[x->container_count]->file};
    if (was == DISK_OPEN) { /* of an attempt whose sync failed no page may be left: design/0050 */
        req.op = DISK_TRUNCATE;
    } else if (was == DISK_TRUNCATE) {
        req.op = DISK_WRITE;
        req.buf = x->header;
        req.len = CHUNK_UNIT;
    } else if (was == DISK_WRITE) {
        req.op = DISK_SYNC_ALL;
    } else {
        req = (struct disk_req){.op = DISK_SYNC_DIR, .path = x->s->directory};
    }
    grow_submit(x, &req);
}

/* So that nothing lies behind an end that a power cut takes back. */
static void grow_sync(struct chunk_extent *x)
{
    const struct disk_req req = {.op = DISK_SYNC_ALL,
                                 .file = x->container[x->container_count - 1]->file};
    x->grow_made = true;
    grow_submit(x, &req);
}

/* A container that is not whole is made anew by the next one who needs it. */
static void grow_drop(struct chunk_extent *x)
{
    int rc = x->grow_rc;
    mem_free(x->container[x->container_count]);
    x->container[x->container_count] = NULL;
    x->grow_rc = 0;
    grow_over(x, rc);
}

static void grow_failed(struct chunk_extent *x, enum disk_op was, int rc)
{
    if (was == DISK_ALLOCATE || x->grow_made) {
        if (x->grow_made) { /* what else it should have made stable is lost, perhaps */
            chunk_store_fail(x->s, rc, "a sync failed");
        }
        x->grow_made = false;
        grow_over(x, rc);
        return;
    }
    x->grow_rc = rc;
    struct disk_file *file = x->container[x->container_count]->file;
    if (file == NULL) {
        grow_drop(x);
        return;
    }
    const struct disk_req req = {.op = DISK_CLOSE, .file = file};
    grow_submit(x, &req);
}

/* Nobody is told of a full disk by figures that were reckoned. */
static void grow_looked(struct chunk_extent *x, const struct disk_req *req, int64_t rc)
{
    if (rc >= 0) {
        x->s->total_bytes = req->stat.total_bytes;
        x->s->free_bytes = req->stat.free_bytes;
        x->reckoned = false;
    }
    grow_over(x, rc < 0 ? (int)rc : 0);
}

static void grow_done(struct disk_req *req, int64_t rc)
{
    struct chunk_extent *x = container_of(req, struct chunk_extent, grow);
    struct chunk_store *s = x->s;
    enum disk_op was = req->op;
    if (!chunk_came_back(s)) {
        return;
    }
    if (was == DISK_OPEN && rc >= 0) {
        x->container[x->container_count]->file = req->file;
    }
    if (was == DISK_STATFS) {
        grow_looked(x, req, rc);
    } else if (was == DISK_CLOSE) {
        grow_drop(x);
    } else if (rc < 0) {
        grow_failed(x, was, (int)rc);
    } else if (was == DISK_ALLOCATE) {
        grow_sync(x);
    } else if (x->grow_made) {
        x->grow_made = false;
        grow_allocated(x);
    } else if (was == DISK_SYNC_DIR) {
        x->container_count++;
        grow_allocate(x);
    } else {
        grow_next(x, was);
    }
    if (!x->grow_made) {
        chunk_extent_grown(x);
    }
    chunk_stop_check(s);
}

static void grow_submit(struct chunk_extent *x, const struct disk_req *req)
{
    x->grow = *req;
    x->grow.done = grow_done;
    x->s->in_flight++;
    disk_submit(x->s->disk, &x->grow);
}

static int grow_container(struct chunk_extent *x)
{
    uint32_t number = (uint32_t)x->container_count;
    int rc = chunk_space_room(x);
    x->grow_path = rc < 0 ? NULL : container_path(x->s->directory, number);
    x->header = rc < 0 ? NULL : mem_aligned(CHUNK_UNIT, CHUNK_UNIT);
    if (x->grow_path == NULL || x->header == NULL) {
        if (rc == 0) {
            mem_free(x->container[number]);
        }
        mem_freep(&x->grow_path);
        mem_freep(&x->header);
        return -ENOMEM;
    }
    chunk_space_header(&x->s->super.target, number, x->header);
    x->growing = true;
    const struct disk_req req = {
        .op = DISK_OPEN, .path = x->grow_path, .flags = DISK_READ_WRITE | DISK_CREATE};
    grow_submit(x, &req);
    return 0;
}

static int grow_begin(struct chunk_extent *x)
{
    if (x->growing) {
        return 0;
    }
    x->grow_units = chunk_room_step(x);
    if (x->grow_units == 0 && x->reckoned) {
        const struct disk_req look = {.op = DISK_STATFS, .path = x->s->directory};
        x->growing = true;
        grow_submit(x, &look);
        return 0;
    }
    int rc = x->grow_units == 0 ? -ENOSPC : tree_space_prepare(x->space, x->units + x->grow_units);
    if (rc < 0) {
        return rc;
    }
    if (x->units == x->container_count * CHUNK_CONTAINER_UNITS) {
        return grow_container(x);
    }
    x->growing = true;
    grow_allocate(x);
    return 0;
}

/* ---- What was free at the start ---- */

/* Nothing is free but what the containers grow by. */
static int space_used(uint64_t units, struct tree_space **ret)
{
    const struct tree_space_options opt = {.grow_units = CHUNK_GROW_UNITS};
    int rc = tree_space_new(&opt, ret);
    rc = rc < 0 ? rc : tree_space_prepare(*ret, units);
    if (rc < 0) {
        return rc;
    }
    tree_space_resize(*ret, units);
    for (uint64_t at = 0; at < units && rc == 0; at += TREE_SPACE_REGION_UNITS) {
        uint32_t n = (uint32_t)base_min(units - at, TREE_SPACE_REGION_UNITS);
        rc = tree_space_claim(*ret, (struct tree_space_extent){.unit = at, .count = n});
    }
    CHECK(rc == 0);
    return rc;
}

/* The kernel goes on sending what a socket has got, also when its process has died: pages of the
 * containers, which change when they are written. What had begun to rest then nobody knows. */
int chunk_space_sleep(struct chunk_extent *x)
{
    struct chunk_store *s = x->s;
    struct tree_space *used = NULL;
    if (!x->reborn || x->units == 0) {
        return 0;
    }
    int rc = space_used(x->units, &used);
    if (rc < 0) {
        used = tree_space_free(used);
        return rc;
    }
    x->asleep = x->space;
    x->space = used;
    x->wake_ns = loop_now_ns(s->loop) + s->opt.rest_ms * UINT64_C(1000000);
    return 0;
}

static void space_wake(struct chunk_extent *x)
{
    if (x->asleep != NULL && loop_tick_ns(x->s->loop) >= x->wake_ns) {
        tree_space_join(x->space, x->asleep);
        x->asleep = tree_space_free(x->asleep);
    }
}

/* There will be room soon. */
static int space_short(const struct chunk_extent *x, int rc)
{
    return rc == -ENOSPC && x->asleep != NULL ? -ERR_busy : rc;
}

/* ---- Taking and giving ---- */

static void taken_give(struct chunk_extent *x, struct chunk_plan *p)
{
    for (unsigned i = p->taken_used; i < p->taken_count; i++) {
        uint32_t used = i == p->taken_used ? p->taken_part : 0;
        chunk_space_give(x, p->taken[i].unit + used, p->taken[i].count - used);
    }
    mem_free(p->taken);
    p->taken = NULL;
    p->taken_count = p->taken_used = p->taken_part = 0;
}

static void open_give(struct chunk_extent *x)
{
    if (x->open.count > 0) {
        chunk_space_give(x, x->open.unit, x->open.count);
    }
    x->open = (struct tree_space_extent){0};
}

/* Small contents get their units one after the other out of a larger piece: to find one in a large
 * store takes long, and what lies side by side is written together. */
static bool open_take(struct chunk_extent *x, uint32_t units, struct tree_space_extent *ret)
{
    struct tree_space_extent *open = &x->open, more;
    if (open->count < units) {
        if (tree_space_take(x->space, OPEN_UNITS, &more) < 0) {
            return false;
        }
        if (open->count > 0 && open->unit + open->count == more.unit) {
            open->count += more.count;
        } else {
            open_give(x);
            *open = more;
        }
    }
    *ret = (struct tree_space_extent){.unit = open->unit, .count = units};
    open->unit += units;
    open->count -= units;
    return true;
}

static int space_take(struct chunk_extent *x, uint32_t units, struct tree_space_extent *ret)
{
    if (units <= OPEN_UNITS_SMALL && open_take(x, units, ret)) {
        return 0;
    }
    int rc = tree_space_take(x->space, units, ret);
    if (rc == -ENOSPC) {
        open_give(x);
        rc = tree_space_take_some(x->space, units, ret);
    }
    return rc;
}

/* In one piece, or in a few; all or none. */
static int taken_get(struct chunk_extent *x, struct chunk_plan *p, uint32_t units)
{
    size_t capacity = 0;
    CHECK(p->taken_count == 0);
    mem_free(p->taken);
    p->taken = NULL;
    while (units > 0) {
        int rc = mem_grow(&p->taken, &capacity, (size_t)p->taken_count + 1, sizeof *p->taken);
        struct tree_space_extent *one = rc < 0 ? NULL : &p->taken[p->taken_count];
        rc = rc < 0 ? rc : space_take(x, units, one);
        if (rc < 0) {
            taken_give(x, p);
            return rc;
        }
        p->taken_count++;
        units -= one->count;
    }
    return 0;
}

/* As often as it takes: others, too, get of what a step brings. */
static void space_try(struct chunk_work *w)
{
    struct chunk_extent *x = w->s->extent;
    space_wake(x);
    int rc = taken_get(x, w->plan, w->plan->taken_wanted);
    if (rc != -ENOSPC) {
        w->next(w, rc);
        return;
    }
    rc = grow_begin(x);
    if (rc < 0) {
        if (!list_empty(&x->s->unsent)) {
            chunk_extent_round(x->s); /* who tries again finds that */
        }
        w->next(w, space_short(x, rc));
        return;
    }
    list_push_back(&x->growers, &w->ready);
}

static void space_again(struct chunk_work *w, int rc)
{
    if (rc < 0) {
        w->next(w, space_short(w->s->extent, rc));
    } else {
        space_try(w);
    }
}

/* What was promised ends in the journal; it is trimmed when the index has a new checkpoint. */
bool chunk_journal_full(const struct chunk_extent *x)
{
    struct journal_info info;
    journal_info(x->journal, &info);
    return info.size_bytes >= x->journal_most_bytes;
}

void chunk_extent_reserve(struct chunk_work *w, chunk_next *next)
{
    w->next = next;
    chunk_extent_pace(w->s->extent);
    bool full = chunk_memory_full(w->s), behind = chunk_backlog_full(w->s->extent);
    if (full || behind) {
        next(w, -ERR_busy);
        return;
    }
    if (chunk_journal_full(w->s->extent)) {
        chunk_room_trim(w->s->extent);
        next(w, -ERR_busy);
        return;
    }
    if (w->of.update->kind != CHUNK_SET_LENGTH && chunk_room_refused(w->s->extent)) {
        next(w, -ENOSPC);
        return;
    }
    w->plan->taken_wanted = w->plan->new_cells;
    space_try(w);
}

void chunk_extent_unreserve(struct chunk_work *w)
{
    taken_give(w->s->extent, w->plan);
}

/* ---- Units that have rested ---- */

static void release_pump(struct chunk_extent *x);

static bool release_young(const struct chunk_store *s, const struct chunk_entry *e)
{
    const struct chunk_rest *first = LIST_ENTRY(e->resting.next, struct chunk_rest, node);
    return first->at_ns > loop_tick_ns(s->loop);
}

/* What an entry got to rest since it came to the front waits behind the others: one to which that
 * happens all the time would stay there. */
static void release_let_go(struct chunk_store *s, struct chunk_entry *e)
{
    e->holds--;
    e->releasing = false;
    if (list_empty(&e->resting)) {
        list_remove(&e->rests);
    } else if (release_young(s, e)) {
        list_remove(&e->rests);
        list_push_back(&s->rests, &e->rests);
    }
    chunk_entry_settle(s, e);
    chunk_forget_soon(s);
}

/* It was not punched: nobody gets it. All others have their turn before it is tried again. */
static void release_put_off(struct chunk_extent *x)
{
    struct chunk_release *r = &x->release;
    r->failed++;
    r->rest->at_ns = loop_now_ns(x->s->loop) + RELEASE_AGAIN_NS;
    list_remove(&r->rest->node);
    list_push_back(r->e == NULL ? &x->rested : &r->e->resting, &r->rest->node);
    if (r->e != NULL) {
        list_remove(&r->e->rests);
        list_push_back(&x->s->rests, &r->e->rests);
    }
}

static void release_over(struct chunk_extent *x, int rc)
{
    struct chunk_store *s = x->s;
    struct chunk_release *r = &x->release;
    struct chunk_entry *e = r->e;
    if (rc == 0) {
        s->resting_bytes -= (uint64_t)r->rest->count * CHUNK_UNIT;
        chunk_space_give(x, r->rest->block, r->rest->count);
        list_remove(&r->rest->node);
        mem_free(r->rest);
    } else {
        release_put_off(x);
    }
    r->e = NULL;
    r->rest = NULL;
    if (e != NULL) {
        release_let_go(s, e);
    }
    release_pump(x);
    chunk_stop_check(s);
}

static void release_submit(struct chunk_extent *x);

static void release_done(struct disk_req *req, int64_t rc)
{
    struct chunk_extent *x = container_of(req, struct chunk_extent, release.req);
    struct chunk_store *s = x->s;
    if (!chunk_came_back(s)) {
        return;
    }
    bool apart = req->op == DISK_PUNCH && (req->flags & DISK_KEEP_SIZE) == 0 && x->device == NULL;
    if (rc == -EOPNOTSUPP && (req->flags & DISK_KEEP_SIZE) != 0) {
        x->release.apart = true;
        release_submit(x);
    } else if (rc >= 0 && apart) {
        x->release.rest->punched = true;
        release_submit(x);
    } else {
        release_over(x, rc < 0 ? (int)rc : 0);
    }
}

/* It stays allocated, so that a write there does not fail for space: at once where that can be, for
 * a full disk may not give back what was punched before its next commit, or to others. */
static void release_submit(struct chunk_extent *x)
{
    struct chunk_release *r = &x->release;
    bool keep = x->device == NULL && !r->apart && !r->rest->punched;
    r->req = (struct disk_req){.op = r->rest->punched ? DISK_ALLOCATE : DISK_PUNCH,
                               .flags = keep ? DISK_KEEP_SIZE : 0,
                               .file = chunk_space_container(x, r->rest->block)->file,
                               .offset = chunk_space_offset(x, r->rest->block),
                               .len = (uint64_t)r->rest->count * CHUNK_UNIT,
                               .done = release_done};
    x->s->in_flight++;
    disk_submit(x->s->disk, &r->req);
}

static void release_begin(struct chunk_extent *x, struct chunk_entry *e, struct chunk_rest *rest)
{
    x->release.e = e;
    x->release.rest = rest;
    if (e != NULL) {
        e->holds++;
        e->releasing = true;
    }
    release_submit(x);
}

/* What nobody was ever sent: it need not be punched either. */
static void release_unsent(struct chunk_extent *x)
{
    struct chunk_store *s = x->s;
    for (unsigned i = 0; i < RELEASE_LOOK_MAX && !list_empty(&s->unsent) && !s->stopping;) {
        struct chunk_rest *rest = LIST_ENTRY(list_pop_front(&s->unsent), struct chunk_rest, node);
        struct chunk_entry *e = rest->e;
        if (rest->change > e->told) {
            list_push_back(&s->unsent, &rest->node);
            i++;
            continue;
        }
        s->resting_bytes -= (uint64_t)rest->count * CHUNK_UNIT;
        chunk_space_give(x, rest->block, rest->count);
        mem_free(rest);
        e->holds--;
        chunk_entry_settle(s, e);
    }
}

/* They began to rest in about this order: when the first of an entry's is too young, so are those
 * behind it, or they wait for one more rest at most. One that is held back by a pin, or not stable,
 * goes to the end. */
static void release_pump(struct chunk_extent *x)
{
    struct chunk_store *s = x->s;
    unsigned failed = x->release.failed; /* half of the tries are for each of both lists */
    if (x->release.rest == NULL && !s->stopping && !list_empty(&x->rested) &&
        failed < RELEASE_FAILED_MAX / 2) {
        struct chunk_rest *first = LIST_ENTRY(x->rested.next, struct chunk_rest, node);
        if (first->at_ns <= loop_tick_ns(s->loop)) {
            release_begin(x, NULL, first);
        }
    }
    for (unsigned i = 0; i < RELEASE_LOOK_MAX && !list_empty(&s->rests); i++) {
        if (x->release.rest != NULL || s->stopping || failed >= RELEASE_FAILED_MAX) {
            return;
        }
        struct chunk_entry *e = LIST_ENTRY(s->rests.next, struct chunk_entry, rests);
        struct chunk_rest *rest = LIST_ENTRY(e->resting.next, struct chunk_rest, node);
        if (release_young(s, e)) {
            return;
        }
        if (chunk_rest_due(s, e)) {
            release_begin(x, e, rest);
            return;
        }
        list_remove(&e->rests);
        list_push_back(&s->rests, &e->rests);
    }
}

void chunk_space_release(struct chunk_extent *x)
{
    x->release.failed = 0;
    space_wake(x);
    release_unsent(x);
    release_pump(x);
}

void chunk_extent_rested(struct chunk_store *s, struct chunk_entry *e)
{
    (void)e;
    release_pump(s->extent);
}
