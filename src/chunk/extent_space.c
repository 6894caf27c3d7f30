/*
 * chunk/extent_space.c -- containers of the `extent` engine: how they grow, who has which units, and
 * the writes into them.
 *
 * Units are taken before anything is written to them, and nobody else has them until they are given
 * back: what an update took in vain at once, what it wrote after a rest (rest.c). Unit 0 of each
 * container is its header, so that no extent goes over the end of one.
 */
#include "chunk/extent_priv.h"

#include "base/crc32c.h"
#include "wire/wire.h"

#include <string.h>

#define SPACE_MAGIC UINT32_C(0x5053434f) /* "OCSP" */
#define SPACE_VERSION 1u
#define SPACE_SECTOR 512u
#define SOON_BYTES (512u << 10) /* large updates go to the medium while more of them come */

/* ---- Headers ---- */

static void header_encode(const struct uuid *target, uint32_t number, uint8_t *to)
{
    memset(to, 0, CHUNK_UNIT);
    wire_store_u32(to, SPACE_MAGIC);
    wire_store_u32(to + 4, SPACE_VERSION);
    memcpy(to + 8, target->bytes, sizeof target->bytes);
    wire_store_u32(to + 24, number);
    wire_store_u32(to + SPACE_SECTOR - 4, crc32c(0, to, SPACE_SECTOR - 4));
}

static int header_check(const struct uuid *target, uint32_t number, const uint8_t *from)
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
    bool same = memcmp(from + 8, target->bytes, sizeof target->bytes) == 0 &&
                wire_load_u32(from + 24) == number;
    return same ? 0 : -ERR_bad_value;
}

static char *container_path(const char *root, uint32_t number)
{
    return mem_printf("%s/space.%04x", root, number);
}

/* ---- Places ---- */

static struct chunk_container *container_of_unit(const struct chunk_extent *x, uint64_t unit)
{
    CHECK(unit / CHUNK_CONTAINER_UNITS < x->container_count);
    return &x->container[unit / CHUNK_CONTAINER_UNITS];
}

struct chunk_place chunk_extent_place(const struct chunk_store *s, const struct chunk_file *f,
                                      uint64_t block)
{
    (void)f;
    return (struct chunk_place){.file = container_of_unit(s->extent, block)->file,
                                .offset = block % CHUNK_CONTAINER_UNITS * CHUNK_UNIT};
}

/* ---- Growing ---- */

/*
 * By steps: space allocated at the end of the last container; when that is full, first a new one:
 * made, its header written and synced, then its name. One step at a time, for all who wait.
 */
static void grow_submit(struct chunk_extent *x, const struct disk_req *req);
static void space_again(struct chunk_work *w, int rc);

/* Unit 0 of a container, if the new units begin with one. */
static void space_claim_header(struct chunk_extent *x, uint64_t first)
{
    struct tree_space_extent header = {.unit = first, .count = 1};
    if (first % CHUNK_CONTAINER_UNITS == 0) {
        CHECK(tree_space_claim(x->space, header) == 0);
    }
}

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
    uint64_t from = x->units % CHUNK_CONTAINER_UNITS;
    const struct disk_req req = {.op = DISK_ALLOCATE,
                                 .file = x->container[x->container_count - 1].file,
                                 .offset = from * CHUNK_UNIT,
                                 .len = CHUNK_GROW_UNITS * CHUNK_UNIT};
    grow_submit(x, &req);
}

/* The next request after this one is done. */
static void grow_next(struct chunk_extent *x, enum disk_op was)
{
    struct chunk_container *made = &x->container[x->container_count];
    struct disk_req req = {.file = made->file};
    switch (was) {
    case DISK_OPEN:
        req.op = DISK_WRITE;
        req.buf = x->header;
        req.len = CHUNK_UNIT;
        break;
    case DISK_WRITE:
        req.op = DISK_SYNC_ALL;
        break;
    case DISK_SYNC_ALL:
        req = (struct disk_req){.op = DISK_SYNC_DIR, .path = x->s->directory};
        break;
    case DISK_SYNC_DIR:
        x->container_count++;
        grow_allocate(x);
        return;
    default:
        x->units += CHUNK_GROW_UNITS;
        tree_space_resize(x->space, x->units);
        space_claim_header(x, x->units - CHUNK_GROW_UNITS);
        grow_over(x, 0);
        return;
    }
    grow_submit(x, &req);
}

static void grow_done(struct disk_req *req, int64_t rc)
{
    struct chunk_extent *x = container_of(req, struct chunk_extent, grow);
    struct chunk_store *s = x->s;
    s->in_flight--;
    if (s->freed) {
        if (s->in_flight == 0) {
            chunk_store_destroy(s);
        }
        return;
    }
    if (req->op == DISK_OPEN && rc >= 0) {
        x->container[x->container_count] = (struct chunk_container){.file = req->file};
    }
    if (rc < 0) { /* a container that is not whole is made anew by the next one who needs it */
        grow_over(x, (int)rc);
    } else {
        grow_next(x, req->op);
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

/* False: there is no memory for it, or it runs already. */
static int grow_begin(struct chunk_extent *x)
{
    if (x->growing) {
        return 0;
    }
    int rc = tree_space_prepare(x->space, x->units + CHUNK_GROW_UNITS);
    if (rc < 0) {
        return rc;
    }
    if (x->units % CHUNK_CONTAINER_UNITS != 0) {
        x->growing = true;
        grow_allocate(x);
        return 0;
    }
    uint32_t number = (uint32_t)(x->units / CHUNK_CONTAINER_UNITS);
    rc = mem_grow(&x->container, &x->container_capacity, (size_t)number + 1, sizeof *x->container);
    x->grow_path = rc < 0 ? NULL : container_path(x->s->directory, number);
    x->header = rc < 0 ? NULL : mem_aligned(CHUNK_UNIT, CHUNK_UNIT);
    if (x->grow_path == NULL || x->header == NULL) {
        mem_freep(&x->grow_path);
        mem_freep(&x->header);
        return -ENOMEM;
    }
    header_encode(&x->s->super.target, number, x->header);
    x->growing = true;
    const struct disk_req req = {
        .op = DISK_OPEN, .path = x->grow_path, .flags = DISK_READ_WRITE | DISK_CREATE};
    grow_submit(x, &req);
    return 0;
}

/* ---- Taking and giving ---- */

static void taken_give(struct chunk_extent *x, struct chunk_plan *p)
{
    for (unsigned i = p->taken_used; i < p->taken_count; i++) {
        struct tree_space_extent left = p->taken[i];
        uint32_t used = i == p->taken_used ? p->taken_part : 0;
        left.unit += used;
        left.count -= used;
        if (left.count > 0) {
            tree_space_give(x->space, left);
        }
    }
    mem_freep(&p->taken);
    p->taken_count = p->taken_used = p->taken_part = 0;
}

/* In one piece, or in a few; all or none. */
static int taken_get(struct chunk_extent *x, struct chunk_plan *p, uint32_t units)
{
    size_t capacity = 0;
    CHECK(p->taken_count == 0);
    while (units > 0) {
        int rc = mem_grow(&p->taken, &capacity, (size_t)p->taken_count + 1, sizeof *p->taken);
        struct tree_space_extent *one = rc < 0 ? NULL : &p->taken[p->taken_count];
        rc = rc < 0 ? rc : tree_space_take(x->space, units, one);
        rc = rc == -ENOSPC ? tree_space_take_some(x->space, units, one) : rc;
        if (rc < 0) {
            taken_give(x, p);
            return rc;
        }
        p->taken_count++;
        units -= one->count;
    }
    return 0;
}

/* The file system's, beside what the containers have already. */
static bool space_is_there(const struct chunk_store *s, uint64_t bytes)
{
    uint64_t keep = base_min(s->total_bytes / 1024, UINT64_C(256) << 20);
    return s->free_bytes >= keep && s->free_bytes - keep >= bytes;
}

static void space_try(struct chunk_work *w, bool grown)
{
    struct chunk_extent *x = w->s->extent;
    int rc = taken_get(x, w->plan, w->plan->new_blocks);
    if (rc != -ENOSPC) {
        w->next(w, rc);
        return;
    }
    bool may = space_is_there(w->s, CHUNK_GROW_UNITS * CHUNK_UNIT);
    rc = grown || !may ? -ENOSPC : grow_begin(x);
    if (rc < 0) {
        w->next(w, rc);
        return;
    }
    list_push_back(&x->growers, &w->ready);
}

static void space_again(struct chunk_work *w, int rc)
{
    if (rc < 0) {
        w->next(w, rc);
    } else {
        space_try(w, true);
    }
}

void chunk_extent_reserve(struct chunk_work *w, chunk_next *next)
{
    w->next = next;
    space_try(w, false);
}

void chunk_extent_unreserve(struct chunk_work *w)
{
    taken_give(w->s->extent, w->plan);
}
