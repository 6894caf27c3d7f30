/*
 * chunk/extent_delta.c -- records of the journal of the `extent` engine: see extent_format.h. An
 * update is told as what it changes: a 4 KiB overwrite of a large chunk takes about 150 bytes.
 */
#include "base/mem.h"
#include "chunk/extent_format.h"
#include "chunk/extent_format_priv.h"

#include <string.h>

#define DELTA_DAMAGED 1u
#define DELTA_INSTALL 2u
#define DELTA_DROPS 4u
#define RECENT_NEW 0xffu /* not one of the base's: it follows */

/* ---- What differs ---- */

static bool cell_differs(const struct chunk_cells *kept, const struct chunk_cells *to,
                         uint32_t cell)
{
    return kept->crc[cell] != to->crc[cell] || kept->unit[cell] != to->unit[cell];
}

/* Cells from `cell` on that all differ and lie one behind the other. */
static uint32_t changed_run(const struct chunk_cells *kept, const struct chunk_cells *to,
                            uint32_t cell, uint32_t cells)
{
    uint32_t n = 1;
    while (cell + n < cells && cell_differs(kept, to, cell + n)) {
        n++;
    }
    return chunk_cells_run(to->unit, cell, cell + n);
}

static void write_cells(struct wire_writer *w, const struct chunk_cells *kept,
                        const struct chunk_cells *to)
{
    uint32_t cells = chunk_cells(to->length), runs = 0;
    size_t count_at = w->len;
    wire_write_u32(w, 0);
    for (uint32_t cell = 0; cell < cells;) {
        if (!cell_differs(kept, to, cell)) {
            cell++;
            continue;
        }
        uint32_t n = changed_run(kept, to, cell, cells);
        wire_write_u16(w, (uint16_t)cell);
        wire_write_u16(w, (uint16_t)n);
        chunk_write_unit(w, to->unit[cell]);
        for (uint32_t i = 0; i < n; i++) {
            wire_write_u32(w, to->crc[cell + i]);
        }
        runs++;
        cell += n;
    }
    wire_patch_u32(w, count_at, runs);
}

static void read_cells(struct wire_reader *r, struct chunk_cells *to)
{
    uint32_t cells = chunk_cells(to->length), next = 0, runs = wire_read_u32(r);
    for (uint32_t i = 0; i < runs && !r->bad; i++) {
        uint32_t cell = wire_read_u16(r), n = wire_read_u16(r);
        uint64_t unit = chunk_read_unit(r);
        r->bad = r->bad || cell < next || cell >= cells || n == 0 || n > cells - cell;
        for (uint32_t k = 0; k < n && !r->bad; k++) {
            to->unit[cell + k] = unit == 0 ? 0 : unit + k;
            to->crc[cell + k] = wire_read_u32(r);
        }
        next = cell + n;
    }
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
    wire_write_u8(w, CHUNK_INDEX_VERSION);
    wire_write_u8(w, (uint8_t)flags);
    wire_write_u64(w, d->key.data_id);
    wire_write_u32(w, d->key.index);
    wire_write_u32(w, d->chain);
    wire_write_u64(w, d->last_ver);
    if (type == CHUNK_JOURNAL_UPDATE) {
        chunk_write_meta(w, &d->meta);
    } else {
        wire_write_u16(w, d->flags);
    }
}

static int read_about(struct wire_reader *r, enum chunk_journal_type type, struct chunk_delta *ret)
{
    uint8_t version = wire_read_u8(r);
    if (!r->bad && version != CHUNK_INDEX_VERSION) {
        return -ERR_bad_version;
    }
    bool update = type == CHUNK_JOURNAL_UPDATE;
    unsigned flags = wire_read_u8(r);
    *ret = (struct chunk_delta){.damaged = (flags & DELTA_DAMAGED) != 0,
                                .install = (flags & DELTA_INSTALL) != 0,
                                .drops = (flags & DELTA_DROPS) != 0,
                                .key.data_id = wire_read_u64(r)};
    ret->key.index = wire_read_u32(r);
    ret->chain = wire_read_u32(r);
    ret->last_ver = wire_read_u64(r);
    if (update) {
        chunk_read_meta(r, &ret->meta);
    } else {
        ret->flags = wire_read_u16(r);
    }
    r->bad = r->bad || flags > 7 || (update ? ret->drops : ret->install) ||
             (ret->flags & ~CHUNK_FLAGS_ALL) != 0;
    return r->bad ? -ERR_bad_value : 0;
}

static void write_delta(struct wire_writer *w, enum chunk_journal_type type,
                        const struct chunk_delta *d, const struct chunk_delta_base *base,
                        const struct chunk_cells *kept, const struct chunk_cells *to)
{
    write_about(w, type, d);
    if (type == CHUNK_JOURNAL_UPDATE) {
        write_recent(w, d, base);
        write_cells(w, kept, to);
    }
}

/* Room for cells: CRCs behind their units. */
static int cells_new(uint32_t length, struct chunk_cells *ret)
{
    uint32_t cells = chunk_cells(length);
    uint64_t *unit = mem_alloc((size_t)cells * (sizeof *unit + sizeof *ret->crc) + 1);
    *ret = (struct chunk_cells){.length = length, .unit = unit};
    if (unit == NULL) {
        return -ENOMEM;
    }
    ret->crc = (uint32_t *)(void *)(unit + cells);
    return 0;
}

int chunk_delta_encode(enum chunk_journal_type type, const struct chunk_delta *d,
                       const struct chunk_delta_base *base, const struct chunk_cells *to,
                       uint8_t **ret, size_t *ret_len)
{
    struct chunk_cells kept;
    struct wire_writer count = {0};
    CHECK(to == NULL || to->length == d->meta.length);
    int rc = cells_new(d->meta.length, &kept);
    if (rc < 0) {
        return rc;
    }
    chunk_cells_keep(&base->cells, &kept);
    write_delta(&count, type, d, base, &kept, to);
    uint8_t *bytes = mem_alloc(count.len);
    if (bytes != NULL) {
        struct wire_writer w = wire_writer_over(bytes, count.len);
        write_delta(&w, type, d, base, &kept, to);
        CHECK(!w.bad && w.len == count.len);
        *ret = bytes;
        *ret_len = w.len;
    }
    mem_free(kept.unit);
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
    read_cells(&r, to);
    if (r.bad || r.left != 0) {
        return -ERR_bad_value;
    }
    return chunk_digest(to->length, to->crc) == d->meta.digest ? 0 : -ERR_bad_crc;
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
