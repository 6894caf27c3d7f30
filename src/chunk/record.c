/* chunk/record.c -- see record_format.h and doc/format/chunk.md. */
#include "chunk/record_format.h"

#include "base/crc32c.h"
#include "chunk/content_priv.h"

#define RECORD_MAGIC UINT32_C(0x4b48434f) /* "OCHK" */
#define SUPER_MAGIC UINT32_C(0x5553434f)  /* "OCSU" */
#define FORMAT_VERSION 1u
#define PRESENT_COMMITTED 1u
#define PRESENT_PENDING 2u
#define PRESENT_DAMAGED 4u

/* ---- Contents ---- */

void chunk_write_meta(struct wire_writer *w, const struct chunk_meta *m)
{
    wire_write_u32(w, m->identity.aepoch);
    wire_write_u64(w, m->identity.ver);
    wire_write_u32(w, m->base.aepoch);
    wire_write_u64(w, m->base.ver);
    wire_write_u8(w, m->kind);
    wire_write_u8(w, m->whole ? 1 : 0);
    wire_write_u32(w, m->length);
    wire_write_u32(w, m->digest);
    wire_write_u32(w, m->tgen);
    wire_write_u16(w, m->flags);
    wire_write_u8(w, (uint8_t)m->recent_count);
}

void chunk_read_meta(struct wire_reader *r, struct chunk_meta *m)
{
    *m = (struct chunk_meta){.identity.aepoch = wire_read_u32(r)};
    m->identity.ver = wire_read_u64(r);
    m->base.aepoch = wire_read_u32(r);
    m->base.ver = wire_read_u64(r);
    m->kind = wire_read_u8(r);
    uint8_t whole = wire_read_u8(r);
    m->whole = whole != 0;
    m->length = wire_read_u32(r);
    m->digest = wire_read_u32(r);
    m->tgen = wire_read_u32(r);
    m->flags = wire_read_u16(r);
    m->recent_count = wire_read_u8(r);
    r->bad = r->bad || m->length > CHUNK_LENGTH_MAX || m->recent_count > CHUNK_RECENT_MAX ||
             (m->flags & ~CHUNK_FLAGS_ALL) != 0 || whole > 1 || m->kind < CHUNK_WRITE ||
             m->kind > CHUNK_WHOLE || chunk_identity_none(m->identity);
}

void chunk_write_recent(struct wire_writer *w, const struct chunk_recent *x)
{
    wire_write_u64(w, x->client);
    wire_write_u64(w, x->seq);
    wire_write_u64(w, x->ver);
    wire_write_u32(w, x->result);
    wire_write_u64(w, x->time_ms);
}

void chunk_read_recent(struct wire_reader *r, struct chunk_recent *ret)
{
    ret->client = wire_read_u64(r);
    ret->seq = wire_read_u64(r);
    ret->ver = wire_read_u64(r);
    ret->result = wire_read_u32(r);
    ret->time_ms = wire_read_u64(r);
}

/* ---- Records ---- */

static void meta_encode(struct wire_writer *w, const struct chunk_meta *m)
{
    chunk_write_meta(w, m);
    wire_write_u32(w, m->table_block);
    wire_write_u32(w, m->table_bytes);
    wire_write_u32(w, m->table_crc);
    if (m->table_block == 0) {
        wire_write_bytes(w, m->table, m->table_bytes);
    }
}

void chunk_record_encode(const struct chunk_record *r, uint8_t to[CHUNK_SLOT_BYTES])
{
    memset(to, 0, CHUNK_SLOT_BYTES);
    struct wire_writer w = wire_writer_over(to, CHUNK_SLOT_BYTES - 4);
    wire_write_u32(&w, RECORD_MAGIC);
    wire_write_u16(&w, FORMAT_VERSION);
    wire_write_u16(&w, 0); /* the length, below */
    wire_write_bytes(&w, r->target, sizeof r->target);
    wire_write_u64(&w, r->key.data_id);
    wire_write_u32(&w, r->key.index);
    wire_write_u32(&w, r->chain);
    wire_write_u64(&w, r->seq);
    wire_write_u64(&w, r->era);
    wire_write_u64(&w, r->last_ver);
    uint8_t present =
        (uint8_t)((r->has_committed ? PRESENT_COMMITTED : 0u) |
                  (r->has_pending ? PRESENT_PENDING : 0u) | (r->damaged ? PRESENT_DAMAGED : 0u));
    wire_write_u8(&w, present);
    if (r->has_committed) {
        meta_encode(&w, &r->committed);
    }
    if (r->has_pending) {
        meta_encode(&w, &r->pending);
    }
    CHECK(!w.bad); /* tables that do not fit are not put into the record */
    wire_store_u16(to + 6, (uint16_t)w.len);
    wire_store_u32(to + CHUNK_SLOT_BYTES - 4, crc32c(0, to, CHUNK_SLOT_BYTES - 4));
}

static void meta_decode(struct wire_reader *r, struct chunk_meta *m)
{
    chunk_read_meta(r, m);
    m->table_block = wire_read_u32(r);
    m->table_bytes = wire_read_u32(r);
    m->table_crc = wire_read_u32(r);
    if (m->table_block == 0) {
        m->table = wire_read_bytes(r, m->table_bytes);
    }
    r->bad = r->bad || m->table_bytes > CHUNK_TABLE_MAX;
    if (!r->bad && m->table_block == 0) {
        r->bad = crc32c(0, m->table, m->table_bytes) != m->table_crc;
    }
}

int chunk_record_decode(const uint8_t from[CHUNK_SLOT_BYTES], struct chunk_record *ret)
{
    if (wire_load_u32(from) != RECORD_MAGIC) {
        return -ERR_bad_magic;
    }
    if (wire_load_u32(from + CHUNK_SLOT_BYTES - 4) != crc32c(0, from, CHUNK_SLOT_BYTES - 4)) {
        return -ERR_bad_crc;
    }
    if (wire_load_u16(from + 4) != FORMAT_VERSION) {
        return -ERR_bad_version;
    }
    size_t len = wire_load_u16(from + 6);
    if (len < 8 || len > CHUNK_SLOT_BYTES - 4) {
        return -ERR_bad_length;
    }
    struct wire_reader r = wire_reader_over(from + 8, len - 8);
    struct chunk_record x = {.has_committed = false};
    const uint8_t *target = wire_read_bytes(&r, sizeof x.target);
    if (target != NULL) {
        memcpy(x.target, target, sizeof x.target);
    }
    x.key.data_id = wire_read_u64(&r);
    x.key.index = wire_read_u32(&r);
    x.chain = wire_read_u32(&r);
    x.seq = wire_read_u64(&r);
    x.era = wire_read_u64(&r);
    x.last_ver = wire_read_u64(&r);
    uint8_t present = wire_read_u8(&r);
    x.has_committed = (present & PRESENT_COMMITTED) != 0;
    x.has_pending = (present & PRESENT_PENDING) != 0;
    x.damaged = (present & PRESENT_DAMAGED) != 0;
    if (x.has_committed) {
        meta_decode(&r, &x.committed);
    }
    if (x.has_pending) {
        meta_decode(&r, &x.pending);
    }
    if (r.bad) {
        return -ERR_short_msg;
    }
    bool good = r.left == 0 && x.seq != 0 && present <= 7 &&
                (x.has_committed || x.has_pending || x.damaged || x.last_ver != 0);
    if (good) {
        *ret = x;
    }
    return good ? 0 : -ERR_bad_value;
}

bool chunk_record_begins(const uint8_t from[CHUNK_SLOT_BYTES])
{
    return wire_load_u32(from) == RECORD_MAGIC;
}

bool chunk_record_empty(const uint8_t from[CHUNK_SLOT_BYTES])
{
    uint8_t all = 0;
    for (size_t i = 0; i < CHUNK_SLOT_BYTES; i++) {
        all |= from[i];
    }
    return all == 0;
}

/* ---- Tables ---- */

/* Cells from `cell` on that lie in blocks one after the other; holes belong to no run. */
static uint32_t run_length(const struct chunk_table *t, uint32_t cell, uint32_t cells)
{
    uint32_t n = 1;
    while (cell + n < cells && t->block[cell + n] == t->block[cell] + n) {
        n++;
    }
    return n;
}

size_t chunk_table_encode(const struct chunk_table *t, uint8_t *to, size_t size)
{
    struct wire_writer w = wire_writer_over(to, size);
    uint32_t cells = chunk_cells(t->length), runs = 0;
    for (uint32_t cell = 0; cell < cells; cell++) {
        wire_write_u32(&w, t->crc[cell]);
    }
    size_t count_at = w.len;
    wire_write_u32(&w, 0);
    for (uint32_t cell = 0; cell < cells;) {
        if (t->block[cell] == 0) {
            cell++;
            continue;
        }
        uint32_t n = run_length(t, cell, cells);
        wire_write_u32(&w, cell);
        wire_write_u32(&w, n);
        wire_write_u32(&w, (uint32_t)t->block[cell]);
        runs++;
        cell += n;
    }
    for (unsigned i = 0; i < t->recent_count; i++) {
        chunk_write_recent(&w, &t->recent[i]);
    }
    CHECK(!w.bad);
    if (to != NULL) {
        wire_store_u32(to + count_at, runs);
    }
    return w.len;
}

int chunk_table_decode(const uint8_t *from, size_t len, struct chunk_table *t)
{
    struct wire_reader r = wire_reader_over(from, len);
    uint32_t cells = chunk_cells(t->length);
    for (uint32_t cell = 0; cell < cells; cell++) {
        t->crc[cell] = wire_read_u32(&r);
        t->block[cell] = 0;
    }
    uint32_t runs = wire_read_u32(&r), next = 0;
    for (uint32_t i = 0; i < runs && !r.bad; i++) {
        uint32_t cell = wire_read_u32(&r), n = wire_read_u32(&r), block = wire_read_u32(&r);
        r.bad = r.bad || cell < next || cell >= cells || n == 0 || n > cells - cell || block == 0 ||
                block > UINT32_MAX - n;
        for (uint32_t k = 0; k < n && !r.bad; k++) {
            t->block[cell + k] = block + k;
        }
        next = cell + n;
    }
    for (unsigned i = 0; i < t->recent_count; i++) {
        chunk_read_recent(&r, &t->recent[i]);
    }
    return r.bad || r.left != 0 ? -ERR_bad_value : 0;
}

/* ---- Superblock ---- */

void chunk_super_encode(const struct chunk_super *x, uint8_t to[CHUNK_SUPER_BYTES])
{
    memset(to, 0, CHUNK_SUPER_BYTES);
    struct wire_writer w = wire_writer_over(to, CHUNK_SUPER_BYTES - 4);
    wire_write_u32(&w, SUPER_MAGIC);
    wire_write_u32(&w, FORMAT_VERSION);
    wire_write_u64(&w, x->number);
    wire_write_bytes(&w, x->cluster.bytes, sizeof x->cluster.bytes);
    wire_write_bytes(&w, x->target.bytes, sizeof x->target.bytes);
    wire_write_bytes(&w, x->boot_id, sizeof x->boot_id);
    wire_write_u64(&w, x->incarnation);
    wire_write_u64(&w, x->stable_era);
    wire_write_u32(&w, x->fan_out);
    wire_write_u8(&w, x->lossy ? 1 : 0);
    wire_write_u8(&w, x->clean ? 1 : 0);
    CHECK(!w.bad);
    wire_store_u32(to + CHUNK_SUPER_BYTES - 4, crc32c(0, to, CHUNK_SUPER_BYTES - 4));
}

static void super_read(struct wire_reader *r, void *to, size_t len)
{
    const uint8_t *at = wire_read_bytes(r, len);
    if (at != NULL) {
        memcpy(to, at, len);
    }
}

int chunk_super_decode(const uint8_t from[CHUNK_SUPER_BYTES], struct chunk_super *ret)
{
    if (wire_load_u32(from) != SUPER_MAGIC) {
        return -ERR_bad_magic;
    }
    if (wire_load_u32(from + CHUNK_SUPER_BYTES - 4) != crc32c(0, from, CHUNK_SUPER_BYTES - 4)) {
        return -ERR_bad_crc;
    }
    if (wire_load_u32(from + 4) != FORMAT_VERSION) {
        return -ERR_bad_version;
    }
    struct wire_reader r = wire_reader_over(from + 8, CHUNK_SUPER_BYTES - 12);
    struct chunk_super x = {.number = wire_read_u64(&r)};
    super_read(&r, x.cluster.bytes, sizeof x.cluster.bytes);
    super_read(&r, x.target.bytes, sizeof x.target.bytes);
    super_read(&r, x.boot_id, sizeof x.boot_id);
    x.incarnation = wire_read_u64(&r);
    x.stable_era = wire_read_u64(&r);
    x.fan_out = wire_read_u32(&r);
    x.lossy = wire_read_u8(&r) != 0;
    x.clean = wire_read_u8(&r) != 0;
    bool good = !r.bad && x.fan_out > 0 && x.fan_out <= 256 && (x.fan_out & (x.fan_out - 1)) == 0;
    if (good) {
        *ret = x;
    }
    return good ? 0 : -ERR_bad_value;
}

/* ---- List of the dead ---- */

void chunk_dead_encode(const struct chunk_dead_record *x, uint8_t to[CHUNK_DEAD_BYTES])
{
    wire_store_u64(to, x->data_id);
    wire_store_u64(to + 8, x->time_ms);
    wire_store_u64(to + 16, x->position);
    wire_store_u32(to + 24, x->forget ? 2 : 1);
    wire_store_u32(to + 28, crc32c(0, to, CHUNK_DEAD_BYTES - 4));
}

int chunk_dead_decode(const uint8_t from[CHUNK_DEAD_BYTES], struct chunk_dead_record *ret)
{
    if (wire_load_u32(from + 28) != crc32c(0, from, CHUNK_DEAD_BYTES - 4)) {
        return -ERR_bad_crc;
    }
    uint32_t op = wire_load_u32(from + 24);
    if (op < 1 || op > 2) {
        return -ERR_bad_value;
    }
    *ret = (struct chunk_dead_record){.data_id = wire_load_u64(from),
                                      .time_ms = wire_load_u64(from + 8),
                                      .position = wire_load_u64(from + 16),
                                      .forget = op == 2};
    return 0;
}
