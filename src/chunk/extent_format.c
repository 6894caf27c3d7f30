/* chunk/extent_format.c -- keys and values of the index: see extent_format.h. */
#include "chunk/extent_format.h"

#include "base/crc32c.h"
#include "chunk/extent_format_priv.h"

#include <string.h>

#define TAG_ABOUT 0u
#define TAG_CHUNK 1u
#define TAG_SLAB 2u
#define TAG_SUM 6u
#define GROUP_VERSION 1u
#define HEAD_VERSION 2u
#define ABOUT_BYTES_1 40u /* version 1 */
#define PRESENT_COMMITTED 1u
#define PRESENT_PENDING 2u
#define PRESENT_DAMAGED 4u

/* ---- Keys ---- */

static void key_add(struct chunk_index_key *k, uint64_t value, size_t bytes)
{
    CHECK(k->len + bytes <= sizeof k->bytes);
    for (size_t i = 0; i < bytes; i++) {
        k->bytes[k->len++] = (uint8_t)(value >> 8 * (bytes - 1 - i));
    }
}

static void key_add_chunk(struct chunk_index_key *k, struct chunk_key key)
{
    key_add(k, key.data_id, 8);
    key_add(k, key.index, 4);
}

struct chunk_index_key chunk_key_about(void)
{
    struct chunk_index_key k = {0};
    key_add(&k, TAG_ABOUT, 1);
    return k;
}

struct chunk_index_key chunk_key_part(struct chunk_key key, unsigned part)
{
    struct chunk_index_key k = {0};
    CHECK(part < CHUNK_PART_END);
    key_add(&k, TAG_CHUNK, 1);
    key_add_chunk(&k, key);
    key_add(&k, part, 1);
    return k;
}

struct chunk_index_key chunk_key_slab(uint64_t slab)
{
    struct chunk_index_key k = {0};
    key_add(&k, TAG_SLAB, 1);
    key_add(&k, slab, 8);
    return k;
}

struct chunk_index_key chunk_key_sum(uint32_t chain)
{
    struct chunk_index_key k = {0};
    key_add(&k, TAG_SUM, 1);
    key_add(&k, chain, 4);
    return k;
}

struct chunk_index_key chunk_key_mark(enum chunk_mark mark, uint32_t chain, struct chunk_key key)
{
    struct chunk_index_key k = {0};
    key_add(&k, mark, 1);
    key_add(&k, chain, 4);
    key_add_chunk(&k, key);
    return k;
}

struct key_reader {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static uint64_t key_take(struct key_reader *r, size_t bytes)
{
    uint64_t value = 0;
    r->bad = r->bad || r->left < bytes;
    for (size_t i = 0; i < bytes && !r->bad; i++) {
        value = value << 8 | r->at[i];
    }
    r->at += r->bad ? 0 : bytes;
    r->left -= r->bad ? 0 : bytes;
    return value;
}

static struct key_reader key_begin(struct kv_slice key, unsigned tag)
{
    struct key_reader r = {.at = key.at, .left = key.len};
    r.bad = key_take(&r, 1) != tag || r.bad;
    return r;
}

static struct chunk_key key_take_chunk(struct key_reader *r)
{
    struct chunk_key key = {.data_id = key_take(r, 8)};
    key.index = (uint32_t)key_take(r, 4);
    return key;
}

static int key_end(const struct key_reader *r)
{
    return r->bad || r->left != 0 ? -ERR_bad_value : 0;
}

int chunk_key_part_decode(struct kv_slice key, struct chunk_key *ret, unsigned *ret_part)
{
    struct key_reader r = key_begin(key, TAG_CHUNK);
    *ret = key_take_chunk(&r);
    *ret_part = (unsigned)key_take(&r, 1);
    r.bad = r.bad || *ret_part >= CHUNK_PART_END;
    return key_end(&r);
}

int chunk_key_slab_decode(struct kv_slice key, uint64_t *ret)
{
    struct key_reader r = key_begin(key, TAG_SLAB);
    *ret = key_take(&r, 8);
    r.bad = r.bad || *ret >= CHUNK_UNITS_MAX / CHUNK_SLAB_UNITS;
    return key_end(&r);
}

int chunk_key_sum_decode(struct kv_slice key, uint32_t *ret)
{
    struct key_reader r = key_begin(key, TAG_SUM);
    *ret = (uint32_t)key_take(&r, 4);
    return key_end(&r);
}

int chunk_key_mark_decode(struct kv_slice key, enum chunk_mark mark, uint32_t *ret_chain,
                          struct chunk_key *ret)
{
    struct key_reader r = key_begin(key, mark);
    *ret_chain = (uint32_t)key_take(&r, 4);
    *ret = key_take_chunk(&r);
    return key_end(&r);
}

/* ---- About the whole ---- */

void chunk_about_encode(const struct chunk_about *a, uint8_t to[CHUNK_ABOUT_BYTES])
{
    wire_store_u64(to, a->version);
    wire_store_u64(to + 8, a->chunks);
    wire_store_u64(to + 16, a->damaged);
    wire_store_u64(to + 24, a->pending);
    wire_store_u64(to + 32, a->units);
    wire_store_u64(to + CHUNK_ABOUT_KNOWN, a->known);
}

int chunk_about_decode(struct kv_slice from, struct chunk_about *ret)
{
    const uint8_t *at = from.at;
    if (from.len < 8) {
        return -ERR_bad_length;
    }
    uint64_t version = wire_load_u64(at);
    if (version == 0 || version > CHUNK_ABOUT_VERSION) {
        return -ERR_bad_version;
    }
    bool whole = from.len == CHUNK_ABOUT_BYTES;
    if (!whole && (version > 1 || from.len != ABOUT_BYTES_1)) {
        return -ERR_bad_length;
    }
    *ret = (struct chunk_about){.version = version,
                                .chunks = wire_load_u64(at + 8),
                                .damaged = wire_load_u64(at + 16),
                                .pending = wire_load_u64(at + 24),
                                .units = wire_load_u64(at + 32),
                                .known = whole ? wire_load_u64(at + CHUNK_ABOUT_KNOWN) : 0};
    return 0;
}

void chunk_sum_encode(const struct chunk_sum *x, uint8_t to[CHUNK_SUM_BYTES])
{
    wire_store_u64(to, x->count);
    wire_store_u64(to + 8, x->digest);
    wire_store_u64(to + 16, x->mark);
}

int chunk_sum_decode(struct kv_slice from, struct chunk_sum *ret)
{
    const uint8_t *at = from.at;
    if (from.len != CHUNK_SUM_BYTES) {
        return -ERR_bad_length;
    }
    *ret = (struct chunk_sum){.count = wire_load_u64(at),
                              .digest = wire_load_u64(at + 8),
                              .mark = wire_load_u64(at + 16)};
    return 0;
}

/* ---- Cells ---- */

void chunk_cells_keep(const struct chunk_cells *old, struct chunk_cells *to)
{
    uint32_t cells = chunk_cells(to->length), had = old == NULL ? 0 : chunk_cells(old->length);
    uint32_t keep = (uint32_t)base_min(cells, had), zeros = crc32c_zeros(0, CHUNK_CELL);
    if (keep > 0) {
        memcpy(to->crc, old->crc, keep * sizeof *to->crc);
        memcpy(to->unit, old->unit, keep * sizeof *to->unit);
    }
    for (uint32_t cell = keep; cell < cells; cell++) {
        uint32_t bytes = chunk_cell_bytes(to->length, cell);
        to->crc[cell] = bytes == CHUNK_CELL ? zeros : crc32c_zeros(0, bytes);
        to->unit[cell] = 0;
    }
}

/* Cells from `cell` on that lie one behind the other, or nowhere. */
uint32_t chunk_cells_run(const uint64_t *unit, uint32_t cell, uint32_t end)
{
    uint32_t n = 1;
    uint64_t step = unit[cell] == 0 ? 0 : 1;
    while (cell + n < end && unit[cell + n] == unit[cell] + step * n) {
        n++;
    }
    return n;
}

static void cells_encode(struct wire_writer *w, const uint32_t *crc, const uint64_t *unit,
                         unsigned cells)
{
    unsigned runs = 0;
    for (unsigned i = 0; i < cells; i++) {
        wire_write_u32(w, crc[i]);
    }
    size_t count_at = w->len;
    wire_write_u8(w, 0);
    for (unsigned i = 0; i < cells;) {
        unsigned n = chunk_cells_run(unit, i, cells);
        if (unit[i] != 0) {
            wire_write_u8(w, (uint8_t)i);
            wire_write_u8(w, (uint8_t)n);
            chunk_write_unit(w, unit[i]);
            runs++;
        }
        i += n;
    }
    if (!w->bad) {
        w->at[count_at] = (uint8_t)runs;
    }
}

static void cells_decode(struct wire_reader *r, unsigned cells, uint32_t *crc, uint64_t *unit)
{
    for (unsigned i = 0; i < cells; i++) {
        crc[i] = wire_read_u32(r);
        unit[i] = 0;
    }
    unsigned runs = wire_read_u8(r), next = 0;
    for (unsigned i = 0; i < runs && !r->bad; i++) {
        unsigned from = wire_read_u8(r), n = wire_read_u8(r);
        uint64_t first = chunk_read_unit(r);
        r->bad = r->bad || from < next || from >= cells || n == 0 || n > cells - from || first == 0;
        for (unsigned k = 0; k < n && !r->bad; k++) {
            unit[from + k] = first + k;
        }
        next = from + n;
    }
}

size_t chunk_group_encode(const uint32_t *crc, const uint64_t *unit, unsigned cells,
                          uint8_t to[CHUNK_GROUP_BYTES_MAX])
{
    struct wire_writer w = wire_writer_over(to, CHUNK_GROUP_BYTES_MAX);
    CHECK(cells > 0 && cells <= CHUNK_GROUP);
    wire_write_u8(&w, GROUP_VERSION);
    wire_write_u8(&w, (uint8_t)cells);
    cells_encode(&w, crc, unit, cells);
    CHECK(!w.bad);
    return w.len;
}

int chunk_group_decode(struct kv_slice from, unsigned cells, uint32_t *crc, uint64_t *unit)
{
    struct wire_reader r = wire_reader_over(from.at, from.len);
    uint8_t version = wire_read_u8(&r), count = wire_read_u8(&r);
    if (!r.bad && version != GROUP_VERSION) {
        return -ERR_bad_version;
    }
    r.bad = r.bad || count != cells || cells > CHUNK_GROUP;
    if (!r.bad) {
        cells_decode(&r, cells, crc, unit);
    }
    return r.bad || r.left != 0 ? -ERR_bad_value : 0;
}

/* ---- Contents ---- */

static void content_encode(struct wire_writer *w, const struct chunk_content *c)
{
    chunk_write_meta(w, &c->meta);
    for (unsigned i = 0; i < c->meta.recent_count; i++) {
        chunk_write_recent(w, &c->recent[i]);
    }
    CHECK(c->has_cells == chunk_content_is_small(c->meta.length));
    if (c->has_cells) {
        cells_encode(w, c->crc, c->unit, chunk_cells(c->meta.length));
    }
}

static void content_decode(struct wire_reader *r, struct chunk_content *c)
{
    chunk_read_meta(r, &c->meta);
    for (unsigned i = 0; i < c->meta.recent_count && !r->bad; i++) {
        chunk_read_recent(r, &c->recent[i]);
    }
    c->has_cells = !r->bad && chunk_content_is_small(c->meta.length);
    if (!c->has_cells) {
        return;
    }
    cells_decode(r, chunk_cells(c->meta.length), c->crc, c->unit);
    r->bad = r->bad || chunk_digest(c->meta.length, c->crc) != c->meta.digest;
}

size_t chunk_head_encode(const struct chunk_head *h, uint8_t to[CHUNK_HEAD_BYTES_MAX])
{
    struct wire_writer w = wire_writer_over(to, CHUNK_HEAD_BYTES_MAX);
    unsigned present = (h->has_committed ? PRESENT_COMMITTED : 0u) |
                       (h->has_pending ? PRESENT_PENDING : 0u) |
                       (h->damaged ? PRESENT_DAMAGED : 0u);
    wire_write_u8(&w, HEAD_VERSION);
    wire_write_u8(&w, (uint8_t)present);
    wire_write_u32(&w, h->chain);
    wire_write_u64(&w, h->last_ver);
    wire_write_u64(&w, h->known);
    wire_write_u32(&w, h->units);
    if (h->has_committed) {
        content_encode(&w, &h->committed);
    }
    if (h->has_pending) {
        content_encode(&w, &h->pending);
    }
    CHECK(!w.bad);
    return w.len;
}

int chunk_head_decode(struct kv_slice from, struct chunk_head *ret)
{
    struct wire_reader r = wire_reader_over(from.at, from.len);
    uint8_t version = wire_read_u8(&r), present = wire_read_u8(&r);
    if (!r.bad && (version == 0 || version > HEAD_VERSION)) {
        return -ERR_bad_version;
    }
    ret->has_committed = (present & PRESENT_COMMITTED) != 0;
    ret->has_pending = (present & PRESENT_PENDING) != 0;
    ret->damaged = (present & PRESENT_DAMAGED) != 0;
    ret->chain = wire_read_u32(&r);
    ret->last_ver = wire_read_u64(&r);
    ret->known = wire_read_u64(&r);
    ret->units = version == 1 ? CHUNK_UNITS_UNKNOWN : wire_read_u32(&r);
    r.bad = r.bad || present > 7 || (present == 0 && ret->last_ver == 0);
    if (ret->has_committed && !r.bad) {
        content_decode(&r, &ret->committed);
    }
    if (ret->has_pending && !r.bad) {
        content_decode(&r, &ret->pending);
    }
    return r.bad || r.left != 0 ? -ERR_bad_value : 0;
}
