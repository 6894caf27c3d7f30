/* chunk/read.c -- pins, reads into memory, verification. */
#include "chunk/read.h"

#include "base/crc32c.h"
#include "chunk/engine_priv.h"

#include <string.h>

#define VERIFY_BYTES ((size_t)64 * CHUNK_CELL)

/* ---- Pins ---- */

void chunk_pin_begin(struct chunk_store *s, struct chunk_pin *p, struct chunk_entry *e,
                     struct chunk_version *v)
{
    CHECK(v != NULL);
    const struct chunk_meta *m = &v->meta;
    p->offset = (uint32_t)base_min(p->offset, m->length);
    p->length = (uint32_t)base_min(p->length, m->length - p->offset);
    p->identity = m->identity;
    p->chunk_length = m->length;
    p->digest = m->digest;
    p->tgen = m->tgen;
    p->flags = (uint16_t)(m->flags | (e->damaged && v == e->committed ? CHUNK_DAMAGED : 0u));
    p->first_cell = p->offset / CHUNK_CELL;
    p->crc_count = p->length == 0 ? 0 : chunk_cells(p->offset + p->length) - p->first_cell;
    p->crc = v->crc + p->first_cell;
    p->entry = e;
    p->version = chunk_version_ref(v);
    v->unsent = false;
    p->file = e->file;
    if (p->file != NULL) {
        p->file->refs++;
    }
    p->number = ++s->pin_number;
    list_push_back(&e->pins, &p->node);
}

/* The content that is asked for: 0, -ENOENT, -ERR_corrupt. */
static int pin_find(struct chunk_entry *e, enum chunk_which which, bool damaged_too,
                    struct chunk_version **ret)
{
    if (e == NULL || !e->exists) {
        return -ENOENT;
    }
    struct chunk_version *v = which == CHUNK_PENDING ? e->pending : e->committed;
    if (which == CHUNK_COMMITTED && e->damaged && (v == NULL || !damaged_too)) {
        return -ERR_corrupt;
    }
    if (v == NULL) {
        return -ENOENT;
    }
    *ret = v;
    return 0;
}

int chunk_store_pin(struct chunk_store *s, struct chunk_pin *p)
{
    LOOP_OWNED(s->loop);
    struct chunk_entry *e = NULL;
    struct chunk_version *v = NULL;
    int rc = chunk_entry_know(s, p->key, &e);
    rc = rc < 0 ? rc : pin_find(e, p->which, false, &v);
    if (rc < 0) {
        return rc;
    }
    if (v->crc == NULL || (e->file == NULL && s->engine == &chunk_engine_file)) {
        return -ERR_need;
    }
    chunk_pin_begin(s, p, e, v);
    if (e->file != NULL) {
        chunk_entry_touch(s, e); /* pinned first: this may close files that nobody needs */
    }
    return 0;
}

void chunk_store_unpin(struct chunk_store *s, struct chunk_pin *p)
{
    LOOP_OWNED(s->loop);
    CHECK(p->version != NULL);
    struct chunk_entry *e = p->entry;
    list_remove(&p->node);
    chunk_version_unref(p->version);
    chunk_file_unref(p->file);
    p->version = NULL;
    p->file = NULL;
    p->entry = NULL;
    p->crc = NULL;
    chunk_entry_rested(s, e);
    chunk_entry_settle(s, e);
}

static void pin_finish(struct chunk_work *w, int rc)
{
    struct chunk_pin *p = w->of.pin;
    p->work = NULL;
    chunk_work_free(w);
    p->done(p, rc);
}

static void pin_hot(struct chunk_work *w, int rc)
{
    struct chunk_version *v = NULL;
    if (rc == 0) {
        rc = pin_find(w->e, w->of.pin->which, false, &v);
    }
    if (rc == 0) {
        chunk_pin_begin(w->s, w->of.pin, w->e, v);
    }
    chunk_work_end(w, rc);
}

static void pin_wait_begin(struct chunk_work *w)
{
    struct chunk_version *v = NULL;
    int rc = pin_find(w->e, w->of.pin->which, false, &v);
    if (rc < 0) {
        chunk_work_end(w, rc);
        return;
    }
    w->s->engine->hot(w, false, pin_hot);
}

/* NULL: no memory for it. */
static struct chunk_work *read_work(struct chunk_store *s, struct chunk_key key)
{
    struct chunk_entry *e = chunk_entry_get(s, key, true);
    struct chunk_work *w = e == NULL ? NULL : chunk_work_new(s);
    if (w == NULL) {
        if (e != NULL) {
            chunk_entry_settle(s, e);
        }
        loop_defer(s->loop, &s->task);
        return NULL;
    }
    chunk_work_enqueue(w, e);
    return w;
}

void chunk_store_pin_wait(struct chunk_store *s, struct chunk_pin *p)
{
    LOOP_OWNED(s->loop);
    struct chunk_work *w = read_work(s, p->key);
    if (w == NULL) {
        p->work = s->refused.pin;
        s->refused.pin = p;
        return;
    }
    p->work = w;
    w->of.pin = p;
    w->begin = pin_wait_begin;
    w->finish = pin_finish;
}

/* ---- Pieces ---- */

/* Bytes from `from` on that lie in one place, up to `end`. */
static struct chunk_piece piece_at(const struct chunk_store *s, const struct chunk_pin *p,
                                   uint32_t from, uint32_t end)
{
    const uint64_t *block = p->version->block;
    uint32_t cell = from / CHUNK_CELL, inside = from % CHUNK_CELL;
    uint64_t first = block[cell];
    uint32_t to = (uint32_t)base_min(end, (uint64_t)(cell + 1) * CHUNK_CELL);
    bool joins = s->engine->joins || first == 0;
    while (joins && to < end &&
           block[to / CHUNK_CELL] == (first == 0 ? 0 : first + (to / CHUNK_CELL - cell))) {
        to = (uint32_t)base_min(end, (uint64_t)to + CHUNK_CELL);
    }
    struct chunk_piece piece = {.len = to - from};
    if (first != 0) {
        struct chunk_place at = s->engine->place(s, p->file, first);
        piece.file = at.file;
        piece.offset = at.offset + inside;
        piece.bytes = at.bytes == NULL ? NULL : at.bytes + inside;
    }
    return piece;
}

uint32_t chunk_pin_pieces(struct chunk_store *s, const struct chunk_pin *p, uint32_t from,
                          struct chunk_piece *piece, unsigned max, unsigned *ret_count)
{
    uint32_t end = p->offset + p->length;
    unsigned count = 0;
    CHECK(from >= p->offset);
    while (from < end && count < max) {
        piece[count] = piece_at(s, p, from, end);
        from += piece[count].len;
        count++;
    }
    *ret_count = count;
    return from;
}

/* ---- Into memory ---- */

static void fetch_next(struct chunk_work *w);

static struct disk_req fetch_request(const struct chunk_work *w, const struct chunk_piece *p)
{
    if (w->past) {
        return chunk_medium_read(w->s, p->file, p->offset, w->to, p->len);
    }
    return (struct disk_req){
        .op = DISK_READ, .file = p->file, .offset = p->offset, .buf = w->to, .len = p->len};
}

static void fetch_got(struct chunk_work *w, int64_t got)
{
    if (chunk_medium_cannot(w->s, &w->io, got)) {
        w->past = false;
        fetch_next(w);
        return;
    }
    uint32_t wanted = w->wanted;
    if (got < (int64_t)wanted) {
        w->next(w, got < 0 ? (int)got : -ERR_short_msg);
        return;
    }
    w->at += wanted;
    w->to += wanted;
    fetch_next(w);
}

/* own_pin from w->at to w->end goes to w->to, then w->next. */
static void fetch_next(struct chunk_work *w)
{
    while (w->at < w->end) {
        struct chunk_piece piece = piece_at(w->s, &w->own_pin, w->at, w->end);
        if (piece.file != NULL) {
            w->io = fetch_request(w, &piece);
            w->wanted = piece.len;
            chunk_work_io(w, &w->io, fetch_got);
            return;
        }
        if (piece.bytes != NULL) {
            memcpy(w->to, piece.bytes, piece.len);
        } else {
            memset(w->to, 0, piece.len);
        }
        w->at += piece.len;
        w->to += piece.len;
    }
    w->next(w, 0);
}

static void fetch(struct chunk_work *w, uint32_t from, uint32_t end, uint8_t *to)
{
    w->at = from;
    w->end = end;
    w->to = to;
    fetch_next(w);
}

/* The cells that lie wholly in `from`..`end` match their CRCs. */
static bool fetch_good(const struct chunk_version *v, uint32_t from, uint32_t end,
                       const uint8_t *bytes)
{
    for (uint32_t cell = (from + CHUNK_CELL - 1) / CHUNK_CELL; cell * CHUNK_CELL < end; cell++) {
        uint32_t start = cell * CHUNK_CELL, len = chunk_cell_bytes(v->meta.length, cell);
        if (start + len <= end && crc32c(0, bytes + (start - from), len) != v->crc[cell]) {
            return false;
        }
    }
    return true;
}

static void unpin_own(struct chunk_work *w)
{
    if (w->own_pin.version != NULL) {
        chunk_store_unpin(w->s, &w->own_pin);
    }
}

/* ---- Read ---- */

static void read_finish(struct chunk_work *w, int rc)
{
    struct chunk_read *r = w->of.read;
    r->work = NULL;
    chunk_work_free(w);
    r->done(r, rc);
}

static void read_fetched(struct chunk_work *w, int rc)
{
    struct chunk_read *r = w->of.read;
    struct chunk_pin *p = &w->own_pin;
    bool bad =
        rc == 0 && r->verify && !fetch_good(p->version, p->offset, p->offset + p->length, r->to);
    if (bad || (rc < 0 && err_is(rc, EIO))) {
        rc = bad ? -ERR_bad_crc : err_is(rc, ERR_corrupt) ? rc : -ERR_corrupt;
        if (p->which == CHUNK_COMMITTED && w->e->committed == p->version) {
            chunk_entry_damage(w->s, w->e);
        }
    }
    unpin_own(w);
    chunk_work_end(w, rc);
}

static void read_hot(struct chunk_work *w, int rc)
{
    struct chunk_read *r = w->of.read;
    struct chunk_version *v = NULL;
    if (rc == 0) {
        rc = pin_find(w->e, r->pin.which, r->damaged_too, &v);
    }
    if (rc < 0) {
        chunk_work_end(w, rc);
        return;
    }
    struct chunk_pin *p = &w->own_pin;
    *p = (struct chunk_pin){
        .key = r->pin.key, .which = r->pin.which, .offset = r->pin.offset, .length = r->pin.length};
    chunk_pin_begin(w->s, p, w->e, v);
    struct chunk_pin out = *p;
    out.done = r->pin.done;
    out.entry = NULL;
    out.version = NULL;
    out.file = NULL;
    out.crc = r->crc;
    r->pin = out;
    list_init(&r->pin.node);
    if (r->crc != NULL && p->crc_count > 0) {
        memcpy(r->crc, p->crc, p->crc_count * sizeof *r->crc);
    }
    w->next = read_fetched;
    fetch(w, p->offset, p->offset + p->length, r->to);
}

static void read_begin(struct chunk_work *w)
{
    struct chunk_version *v = NULL;
    const struct chunk_read *r = w->of.read;
    int rc = pin_find(w->e, r->pin.which, r->damaged_too, &v);
    if (rc < 0) {
        chunk_work_end(w, rc);
        return;
    }
    w->s->engine->hot(w, false, read_hot);
}

void chunk_store_read(struct chunk_store *s, struct chunk_read *r)
{
    LOOP_OWNED(s->loop);
    struct chunk_work *w = read_work(s, r->pin.key);
    if (w == NULL) {
        r->work = s->refused.read;
        s->refused.read = r;
        return;
    }
    r->work = w;
    w->of.read = r;
    w->lane = r->lane;
    w->begin = read_begin;
    w->finish = read_finish;
}

/* ---- Verify ---- */

static void verify_finish(struct chunk_work *w, int rc)
{
    struct chunk_verify *v = w->of.verify;
    v->work = NULL;
    chunk_work_free(w);
    v->done(v, rc);
}

/* Committed first; turned: pending. */
static void verify_pin(struct chunk_work *w)
{
    struct chunk_entry *e = w->e;
    struct chunk_version *v = w->turned || e->committed == NULL ? e->pending : e->committed;
    w->own_pin = (struct chunk_pin){.which = v == e->pending ? CHUNK_PENDING : CHUNK_COMMITTED,
                                    .length = CHUNK_LENGTH_MAX};
    chunk_pin_begin(w->s, &w->own_pin, e, v);
    w->cell = 0;
}

static void verify_step(struct chunk_work *w);

/* Where nothing can be read past the page cache: what that has of the file goes, unless it is not
 * stable. Then `step`. */
static void verify_drop(struct chunk_work *w, void (*step)(struct chunk_work *w, int64_t got))
{
    w->own_pin.file = w->e->file;
    w->own_pin.file->refs++;
    w->io = (struct disk_req){.op = DISK_DROP, .file = w->own_pin.file->file};
    chunk_work_io(w, &w->io, step);
}

static void verify_over(struct chunk_work *w, int64_t got)
{
    (void)got; /* only a hint for the cache */
    chunk_file_unref(w->own_pin.file);
    chunk_work_end(w, w->kept);
}

static void verify_end(struct chunk_work *w, int rc)
{
    w->kept = rc;
    if (w->uncached && w->e->file != NULL) {
        verify_drop(w, verify_over);
    } else {
        chunk_work_end(w, rc);
    }
}

static void verify_bad(struct chunk_work *w, int rc)
{
    bool pending = w->own_pin.which == CHUNK_PENDING;
    unpin_own(w);
    if (!err_is(rc, EIO)) {
        verify_end(w, rc);
        return;
    }
    rc = err_is(rc, ERR_corrupt) ? rc : -ERR_corrupt;
    if (pending) {
        w->of.verify->pending_bad = w->kept == 0;
    } else {
        chunk_entry_damage(w->s, w->e);
    }
    w->kept = w->kept == 0 ? rc : w->kept;
    if (pending || w->e->pending == NULL) {
        verify_end(w, w->kept);
        return;
    }
    w->turned = true;
    verify_pin(w);
    verify_step(w);
}

/* The chunk has no file of its own: what the cache has of its cells goes, from w->at to w->end;
 * then `next`. */
static void verify_drop_cells(struct chunk_work *w);

static void verify_dropped_cells(struct chunk_work *w, int64_t got)
{
    (void)got; /* only a hint for the cache */
    verify_drop_cells(w);
}

static void verify_drop_cells(struct chunk_work *w)
{
    while (w->at < w->end) {
        struct chunk_piece piece = piece_at(w->s, &w->own_pin, w->at, w->end);
        w->at += piece.len;
        if (piece.file != NULL) {
            w->io = (struct disk_req){.op = DISK_DROP,
                                      .file = piece.file,
                                      .offset = piece.offset,
                                      .len = base_align_up(piece.len, CHUNK_CELL)};
            chunk_work_io(w, &w->io, verify_dropped_cells);
            return;
        }
    }
    w->next(w, 0);
}

static bool verify_by_cells(const struct chunk_work *w)
{
    return w->of.verify->medium && !w->past && w->own_pin.file == NULL && w->s->engine->on_disk;
}

static void verify_cleaned(struct chunk_work *w, int rc)
{
    (void)rc;
    verify_step(w);
}

static void verify_fetched(struct chunk_work *w, int rc)
{
    if (rc == 0 && !fetch_good(w->own_pin.version, w->cell * CHUNK_CELL, w->end, w->bytes)) {
        rc = -ERR_bad_crc;
    }
    if (rc < 0) {
        verify_bad(w, rc);
        return;
    }
    uint32_t from = w->cell * CHUNK_CELL;
    w->cell = (w->end + CHUNK_CELL - 1) / CHUNK_CELL;
    if (w->uncached && verify_by_cells(w)) { /* what nobody had asked for is not left there */
        w->uncached = false;
        w->at = from;
        w->next = verify_cleaned;
        verify_drop_cells(w);
        return;
    }
    verify_step(w);
}

static void verify_fetch(struct chunk_work *w, int rc)
{
    (void)rc; /* what the cache has is looked at if it did not go */
    w->next = verify_fetched;
    fetch(w, w->cell * CHUNK_CELL, w->end, w->bytes);
}

static void verify_step(struct chunk_work *w)
{
    while (w->cell * CHUNK_CELL >= w->own_pin.chunk_length) {
        bool more = w->own_pin.which == CHUNK_COMMITTED && w->e->pending != NULL;
        unpin_own(w);
        if (!more) {
            verify_end(w, w->kept);
            return;
        }
        w->turned = true;
        verify_pin(w);
    }
    w->at = w->cell * CHUNK_CELL;
    w->end = (uint32_t)base_min(w->own_pin.chunk_length, w->at + VERIFY_BYTES);
    if (!verify_by_cells(w)) {
        verify_fetch(w, 0);
        return;
    }
    struct chunk_piece piece = piece_at(w->s, &w->own_pin, w->at, w->end);
    w->uncached = piece.file != NULL &&
                  !disk_resident(w->s->disk, piece.file, piece.offset, base_max(piece.len, 1));
    w->next = verify_fetch;
    verify_drop_cells(w);
}

static void verify_dropped(struct chunk_work *w, int64_t got)
{
    (void)got; /* then what the cache has is looked at */
    chunk_file_unref(w->own_pin.file);
    verify_pin(w);
    verify_step(w);
}

static void verify_hot(struct chunk_work *w, int rc)
{
    struct chunk_entry *e = w->e;
    bool medium = w->of.verify->medium && w->s->engine->on_disk;
    w->bytes = rc == 0 ? mem_aligned(CHUNK_BLOCK, VERIFY_BYTES) : NULL;
    if (w->bytes == NULL) {
        chunk_work_end(w, rc == 0 ? -ENOMEM : rc);
        return;
    }
    w->past = medium && !w->s->through_cache;
    if (medium && !w->past && e->file != NULL) {
        const struct chunk_version *v = e->committed != NULL ? e->committed : e->pending;
        w->uncached =
            !disk_resident(w->s->disk, e->file->file, CHUNK_BLOCK, base_max(v->meta.length, 1));
        verify_drop(w, verify_dropped);
        return;
    }
    verify_pin(w);
    verify_step(w);
}

static void verify_begin(struct chunk_work *w)
{
    const struct chunk_entry *e = w->e;
    if (!e->exists) {
        chunk_work_end(w, -ENOENT);
    } else if (e->committed == NULL && e->pending == NULL) {
        chunk_work_end(w, e->damaged ? -ERR_corrupt : -ENOENT);
    } else {
        w->s->engine->hot(w, false, verify_hot);
    }
}

void chunk_store_verify(struct chunk_store *s, struct chunk_verify *v)
{
    LOOP_OWNED(s->loop);
    struct chunk_work *w = read_work(s, v->key);
    if (w == NULL) {
        v->work = s->refused.verify;
        s->refused.verify = v;
        return;
    }
    v->pending_bad = false;
    v->work = w;
    w->of.verify = v;
    w->lane = v->lane;
    w->begin = verify_begin;
    w->finish = verify_finish;
}
