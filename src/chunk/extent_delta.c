/*
 * chunk/extent_delta.c -- records of the journal of the `extent` engine: see extent_format.h. An
 * update is told as what it changes: a 4 KiB overwrite of a large chunk takes about 150 bytes, and
 * its cell, where that is carried.
 */
#include "base/crc32c.h"
#include "base/mem.h"
#include "chunk/extent_format.h"
#include "chunk/extent_format_priv.h"

#include <string.h>

#define DELTA_DAMAGED 1u
#define DELTA_INSTALL 2u
#define DELTA_DROPS 4u
#define RECENT_NEW 0xffu /* not one of the base's: it follows */
#define SAME_CELLS 64u   /* compared at once */
#define DELTA_CARRIES                                                          \
    3u /* version of those that end with cells; of others the one of the index \
        */

/* ---- What differs ---- */

/* What chunk_cells_keep() makes of a base, without making it. */
struct kept {
    const struct chunk_cells *base;
    uint32_t count; /* of the base's cells; behind them are zeros */
    uint32_t zeros; /* the CRC of a whole cell of those */
};

static struct kept kept_of(const struct chunk_cells *base, uint32_t length)
{
    return (struct kept){.base = base,
                         .count =
                             (uint32_t)base_min(chunk_cells(base->length), chunk_cells(length)),
                         .zeros = crc32c_zeros(0, CHUNK_CELL)};
}

static bool cell_differs(const struct kept *kept, const struct chunk_cells *to, uint32_t cell)
{
    if (cell < kept->count) {
        return kept->base->crc[cell] != to->crc[cell] || kept->base->unit[cell] != to->unit[cell];
    }
    uint32_t bytes = chunk_cell_bytes(to->length, cell);
    uint32_t zeros = bytes == CHUNK_CELL ? kept->zeros : crc32c_zeros(0, bytes);
    return to->crc[cell] != zeros || to->unit[cell] != 0;
}

static bool cells_same(const struct kept *kept, const struct chunk_cells *to, uint32_t cell,
                       uint32_t n)
{
    return cell + n <= kept->count &&
           memcmp(kept->base->crc + cell, to->crc + cell, n * sizeof *to->crc) == 0 &&
           memcmp(kept->base->unit + cell, to->unit + cell, n * sizeof *to->unit) == 0;
}

/* The first that differs, from `cell` on; nearly all are the same. */
static uint32_t changed_next(const struct kept *kept, const struct chunk_cells *to, uint32_t cell,
                             uint32_t cells)
{
    while (cell < cells) {
        uint32_t n = (uint32_t)base_min(SAME_CELLS, cells - cell), end = cell + n;
        if (cells_same(kept, to, cell, n)) {
            cell = end;
            continue;
        }
        for (; cell < end; cell++) {
            if (cell_differs(kept, to, cell)) {
                return cell;
            }
        }
    }
    return cells;
}

/* Cells from `cell` on that all differ and lie one behind the other. */
static uint32_t changed_run(const struct kept *kept, const struct chunk_cells *to, uint32_t cell,
                            uint32_t cells)
{
    uint32_t n = 1;
    while (cell + n < cells && cell_differs(kept, to, cell + n)) {
        n++;
    }
    return chunk_cells_run(to->unit, cell, cell + n);
}

/* Of `n` cells: the last one of a chunk may be shorter. */
static uint32_t run_bytes(uint32_t length, uint32_t cell, uint32_t n)
{
    return (n - 1) * CHUNK_CELL + chunk_cell_bytes(length, cell + n - 1);
}

/* Returns the bytes of those that have a unit. */
static uint32_t write_cells(struct wire_writer *w, const struct kept *kept,
                            const struct chunk_cells *to)
{
    uint32_t cells = chunk_cells(to->length), runs = 0, bytes = 0;
    size_t count_at = w->len;
    wire_write_u32(w, 0);
    for (uint32_t cell = changed_next(kept, to, 0, cells); cell < cells;
         cell = changed_next(kept, to, cell, cells)) {
        uint32_t n = changed_run(kept, to, cell, cells);
        wire_write_u16(w, (uint16_t)cell);
        wire_write_u16(w, (uint16_t)n);
        chunk_write_unit(w, to->unit[cell]);
        for (uint32_t i = 0; i < n; i++) {
            wire_write_u32(w, to->crc[cell + i]);
        }
        bytes += to->unit[cell] == 0 ? 0 : run_bytes(to->length, cell, n);
        runs++;
        cell += n;
    }
    wire_patch_u32(w, count_at, runs);
    return bytes;
}

struct delta_run {
    uint32_t cell, count;
    uint64_t unit; /* of the first; 0: zeros */
};

/* Its CRCs follow. *next: where it may begin at the earliest. */
static struct delta_run read_run(struct wire_reader *r, uint32_t cells, uint32_t *next)
{
    struct delta_run run = {.cell = wire_read_u16(r)};
    run.count = wire_read_u16(r);
    run.unit = chunk_read_unit(r);
    r->bad = r->bad || run.cell < *next || run.cell >= cells || run.count == 0 ||
             run.count > cells - run.cell;
    *next = run.cell + run.count;
    return run;
}

/* Returns the bytes of those that have a unit. */
static uint32_t read_cells(struct wire_reader *r, struct chunk_cells *to)
{
    uint32_t cells = chunk_cells(to->length), next = 0, bytes = 0, runs = wire_read_u32(r);
    for (uint32_t i = 0; i < runs && !r->bad; i++) {
        struct delta_run run = read_run(r, cells, &next);
        for (uint32_t k = 0; k < run.count && !r->bad; k++) {
            to->unit[run.cell + k] = run.unit == 0 ? 0 : run.unit + k;
            to->crc[run.cell + k] = wire_read_u32(r);
        }
        bytes += r->bad || run.unit == 0 ? 0 : run_bytes(to->length, run.cell, run.count);
    }
    return bytes;
}

/* ---- Who made it ---- */

static unsigned recent_find(const struct chunk_delta_base *base, const struct chunk_recent *x)
{
    for (unsigned i = 0; i < base->recent_count; i++) {
        const struct chunk_recent *y = &base->recent[i];
        if (x->client == y->client && x->seq == y->seq && x->ver == y->ver &&
            x->result == y->result && x->time_ms == y->time_ms) {
            return i;
        }
    }
    return RECENT_NEW;
}

static void write_recent(struct wire_writer *w, const struct chunk_delta *d,
                         const struct chunk_delta_base *base)
{
    for (unsigned i = 0; i < d->meta.recent_count; i++) {
        unsigned at = recent_find(base, &d->recent[i]);
        wire_write_u8(w, (uint8_t)at);
        if (at == RECENT_NEW) {
            chunk_write_recent(w, &d->recent[i]);
        }
    }
}

static void read_recent(struct wire_reader *r, const struct chunk_delta_base *base,
                        struct chunk_delta *d)
{
    for (unsigned i = 0; i < d->meta.recent_count && !r->bad; i++) {
        unsigned at = wire_read_u8(r);
        if (at == RECENT_NEW) {
            chunk_read_recent(r, &d->recent[i]);
        } else if (at < base->recent_count) {
            d->recent[i] = base->recent[at];
        } else {
            r->bad = true;
        }
    }
}

/* ---- Deltas ---- */

static void write_about(struct wire_writer *w, enum chunk_journal_type type,
                        const struct chunk_delta *d)
{
    unsigned flags = (d->damaged ? DELTA_DAMAGED : 0u) | (d->install ? DELTA_INSTALL : 0u) |
                     (d->drops ? DELTA_DROPS : 0u);
    bool carries = type == CHUNK_JOURNAL_UPDATE && d->carried_bytes > 0;
    wire_write_u8(w, carries ? DELTA_CARRIES : CHUNK_INDEX_VERSION);
    wire_write_u8(w, (uint8_t)flags);
    wire_write_u64(w, d->key.data_id);
    wire_write_u32(w, d->key.index);
    wire_write_u32(w, d->chain);
    wire_write_u64(w, d->last_ver);
    if (carries) {
        wire_write_u32(w, d->carried_bytes);
    }
    if (type == CHUNK_JOURNAL_UPDATE) {
        chunk_write_meta(w, &d->meta);
    } else {
        wire_write_u16(w, d->flags);
    }
}

static int read_about(struct wire_reader *r, enum chunk_journal_type type, struct chunk_delta *ret)
{
    uint8_t version = wire_read_u8(r);
    bool update = type == CHUNK_JOURNAL_UPDATE, carries = update && version == DELTA_CARRIES;
    if (!r->bad && !carries && version != CHUNK_INDEX_VERSION) {
        return -ERR_bad_version;
    }
    unsigned flags = wire_read_u8(r);
    *ret = (struct chunk_delta){.damaged = (flags & DELTA_DAMAGED) != 0,
                                .install = (flags & DELTA_INSTALL) != 0,
                                .drops = (flags & DELTA_DROPS) != 0,
                                .key.data_id = wire_read_u64(r)};
    ret->key.index = wire_read_u32(r);
    ret->chain = wire_read_u32(r);
    ret->last_ver = wire_read_u64(r);
    ret->carried_bytes = carries ? wire_read_u32(r) : 0;
    if (update) {
        chunk_read_meta(r, &ret->meta);
    } else {
        ret->flags = wire_read_u16(r);
    }
    bool most = ret->carried_bytes <= CHUNK_CARRIED_MAX * CHUNK_CELL;
    r->bad = r->bad || flags > 7 || (update ? ret->drops : ret->install) ||
             (ret->flags & ~CHUNK_FLAGS_ALL) != 0 || carries != (ret->carried_bytes > 0) || !most;
    return r->bad ? -ERR_bad_value : 0;
}

static void write_delta(struct wire_writer *w, enum chunk_journal_type type,
                        const struct chunk_delta *d, const struct chunk_delta_base *base,
                        const struct kept *kept, const struct chunk_cells *to)
{
    write_about(w, type, d);
    if (type == CHUNK_JOURNAL_UPDATE) {
        write_recent(w, d, base);
        uint32_t bytes = write_cells(w, kept, to);
        CHECK(d->carried_bytes == 0 || d->carried_bytes == bytes);
    }
}

int chunk_delta_encode(enum chunk_journal_type type, const struct chunk_delta *d,
                       const struct chunk_delta_base *base, const struct chunk_cells *to,
                       uint8_t **ret, size_t *ret_len)
{
    const struct kept kept = kept_of(&base->cells, d->meta.length);
    struct wire_writer count = {0};
    CHECK(to == NULL || to->length == d->meta.length);
    write_delta(&count, type, d, base, &kept, to);
    uint8_t *bytes = mem_alloc(count.len);
    if (bytes != NULL) {
        struct wire_writer w = wire_writer_over(bytes, count.len);
        write_delta(&w, type, d, base, &kept, to);
        CHECK(!w.bad && w.len == count.len);
        *ret = bytes;
        *ret_len = w.len;
    }
    return bytes == NULL ? -ENOMEM : 0;
}

int chunk_delta_decode(enum chunk_journal_type type, const uint8_t *from, size_t len,
                       struct chunk_delta *ret)
{
    struct wire_reader r = wire_reader_over(from, len);
    int rc = read_about(&r, type, ret);
    bool more = type == CHUNK_JOURNAL_UPDATE;
    return rc == 0 && !more && r.left != 0 ? -ERR_bad_value : rc;
}

int chunk_delta_apply(const uint8_t *from, size_t len, const struct chunk_delta_base *base,
                      struct chunk_delta *d, struct chunk_cells *to)
{
    struct wire_reader r = wire_reader_over(from, len);
    int rc = read_about(&r, CHUNK_JOURNAL_UPDATE, d);
    if (rc < 0) {
        return rc;
    }
    CHECK(to->length == d->meta.length);
    read_recent(&r, base, d);
    chunk_cells_keep(&base->cells, to);
    uint32_t bytes = read_cells(&r, to);
    if (r.bad || r.left != d->carried_bytes || (r.left != 0 && r.left != bytes)) {
        return -ERR_bad_value;
    }
    return chunk_digest(to->length, to->crc) == d->meta.digest ? 0 : -ERR_bad_crc;
}

/* ---- Cells in a record ---- */

static void skip_recent(struct wire_reader *r, unsigned count)
{
    struct chunk_recent away;
    for (unsigned i = 0; i < count && !r->bad; i++) {
        if (wire_read_u8(r) == RECENT_NEW) {
            chunk_read_recent(r, &away);
        }
    }
}

/* Those of one run that have a unit. */
static unsigned carried_run(struct wire_reader *r, const struct delta_run *run, uint32_t length,
                            struct chunk_carried *ret, unsigned count)
{
    for (uint32_t k = 0; k < run->count && !r->bad; k++) {
        uint32_t crc = wire_read_u32(r), cell = run->cell + k;
        if (run->unit == 0) {
            continue;
        }
        r->bad = r->bad || count == CHUNK_CARRIED_MAX;
        if (!r->bad) {
            ret[count++] = (struct chunk_carried){.cell = cell,
                                                  .crc = crc,
                                                  .len = chunk_cell_bytes(length, cell),
                                                  .unit = run->unit + k};
        }
    }
    return count;
}

int chunk_delta_carried(const uint8_t *from, size_t len, struct chunk_delta *d,
                        struct chunk_carried ret[CHUNK_CARRIED_MAX])
{
    struct wire_reader r = wire_reader_over(from, len);
    uint32_t next = 0;
    size_t bytes = 0;
    unsigned count = 0;
    int rc = read_about(&r, CHUNK_JOURNAL_UPDATE, d);
    if (rc < 0 || d->carried_bytes == 0) {
        return rc;
    }
    skip_recent(&r, d->meta.recent_count);
    uint32_t runs = wire_read_u32(&r);
    for (uint32_t i = 0; i < runs && !r.bad; i++) {
        struct delta_run run = read_run(&r, chunk_cells(d->meta.length), &next);
        count = carried_run(&r, &run, d->meta.length, ret, count);
    }
    for (unsigned i = 0; i < count; i++) {
        bytes += ret[i].len;
    }
    if (r.bad || bytes != r.left || bytes != d->carried_bytes) {
        return -ERR_bad_value;
    }
    for (unsigned i = 0; i < count; i++) {
        ret[i].bytes = wire_read_bytes(&r, ret[i].len);
    }
    return (int)count;
}

/* ---- Lists ---- */

size_t chunk_list_encode(enum chunk_journal_type type, const struct chunk_listed *item,
                         size_t count, uint8_t to[CHUNK_LIST_BYTES_MAX])
{
    struct wire_writer w = wire_writer_over(to, CHUNK_LIST_BYTES_MAX);
    CHECK(count > 0 && count <= CHUNK_LIST_MAX);
    wire_write_u16(&w, CHUNK_INDEX_VERSION);
    wire_write_u16(&w, (uint16_t)count);
    for (size_t i = 0; i < count; i++) {
        wire_write_u64(&w, item[i].key.data_id);
        wire_write_u32(&w, item[i].key.index);
        if (type == CHUNK_JOURNAL_COMMIT) {
            wire_write_u32(&w, item[i].identity.aepoch);
            wire_write_u64(&w, item[i].identity.ver);
        }
    }
    CHECK(!w.bad);
    return w.len;
}

int chunk_list_decode(enum chunk_journal_type type, const uint8_t *from, size_t len,
                      struct chunk_listed *ret, size_t *ret_count)
{
    struct wire_reader r = wire_reader_over(from, len);
    uint16_t version = wire_read_u16(&r), count = wire_read_u16(&r);
    if (!r.bad && version != CHUNK_INDEX_VERSION) {
        return -ERR_bad_version;
    }
    r.bad = r.bad || count == 0 || count > CHUNK_LIST_MAX;
    for (size_t i = 0; i < count && !r.bad; i++) {
        ret[i] = (struct chunk_listed){.key.data_id = wire_read_u64(&r)};
        ret[i].key.index = wire_read_u32(&r);
        if (type == CHUNK_JOURNAL_COMMIT) {
            ret[i].identity.aepoch = wire_read_u32(&r);
            ret[i].identity.ver = wire_read_u64(&r);
            r.bad = r.bad || chunk_identity_none(ret[i].identity);
        }
    }
    *ret_count = count;
    return r.bad || r.left != 0 ? -ERR_bad_value : 0;
}

/* ---- What is stable ---- */

void chunk_stable_encode(uint64_t index, uint8_t to[CHUNK_STABLE_BYTES])
{
    memset(to, 0, CHUNK_STABLE_BYTES);
    wire_store_u16(to, CHUNK_INDEX_VERSION);
    wire_store_u64(to + 8, index);
}

int chunk_stable_decode(const uint8_t *from, size_t len, uint64_t *ret)
{
    if (len != CHUNK_STABLE_BYTES) {
        return -ERR_bad_length;
    }
    if (wire_load_u16(from) != CHUNK_INDEX_VERSION) {
        return -ERR_bad_version;
    }
    *ret = wire_load_u64(from + 8);
    return wire_load_u16(from + 2) == 0 && wire_load_u32(from + 4) == 0 ? 0 : -ERR_bad_value;
}
