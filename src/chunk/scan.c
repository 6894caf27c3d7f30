/*
 * chunk/scan.c -- start-up: every file is read once, its newest good record becomes the entry.
 * Blocks.
 *
 * Records of an era below the superblock's stable era were stable, and so was what they describe.
 * Later ones are believed only when all their cells and tables are good; then they are made stable
 * before anything is built upon them. What is bad, but not as a write that was cut short leaves it,
 * has gone bad since, and may have been synced: such a chunk is kept as damaged. A damaged record
 * may have been the newest, so the chunk is flagged; unless it is one that a dying process was
 * writing, which nobody was told of.
 */
#include "chunk/file_priv.h"

#include "base/crc32c.h"

#include <stdlib.h>
#include <string.h>

#define SCAN_BYTES ((size_t)64 * CHUNK_CELL)
#define SECTOR 512u

struct scan {
    struct chunk_store *s;
    uint8_t *buffer; /* SCAN_BYTES, aligned */
    uint8_t head[CHUNK_BLOCK];
    struct disk_file *file;
    const char *path;
    uint64_t size_bytes, allocated_bytes;
    struct chunk_record record[CHUNK_SLOTS]; /* good ones, newest first */
    uint8_t slot[CHUNK_SLOTS];
    unsigned count;
    uint8_t bad, torn;            /* slots, a bit each */
    uint64_t healed[CHUNK_SLOTS]; /* of a bad one: its number, when one flipped bit made it so; 0 */
    uint64_t max_seq;             /* of the good ones */
    bool rejected;
    bool dropped; /* it is read from the medium: may be torn as after a power cut */
    unsigned chosen;
    struct chunk_version *known; /* the newest content that is known to have been stable */
    bool asked;                  /* ... and whether there is one */
};

/* What a content is that may not have been stable. */
enum scan_fit {
    FIT_GOOD,
    FIT_BAD,  /* bytes have gone bad that were there once */
    FIT_TORN, /* not all of it was ever written, as far as can be seen */
};

/* Of a file that was dropped: from the medium, for others may have kept pages of it. */
static int64_t scan_read(struct scan *x, uint64_t offset, void *to, size_t len)
{
    if (x->dropped) {
        CHECK(len <= SCAN_BYTES);
        int64_t got = chunk_medium_now(x->s, x->file, offset, x->buffer, len);
        memcpy(to, x->buffer, got < 0 ? 0 : (size_t)got);
        return got;
    }
    struct disk_req req = {
        .op = DISK_READ, .file = x->file, .offset = offset, .buf = to, .len = len};
    return disk_now(x->s->disk, &req);
}

/* ---- Versions ---- */

static bool record_stable(const struct scan *x, const struct chunk_record *r)
{
    return r->era < x->s->super.stable_era || x->s->super.clean;
}

/* Tables and most cells are written to blocks that had nothing: what a power cut took of them are
 * sectors of zeros. */
static bool sectors_missing(const uint8_t *bytes, size_t len)
{
    for (size_t at = 0; at < len; at += SECTOR) {
        size_t n = base_min(SECTOR, len - at);
        uint8_t all = 0;
        for (size_t i = 0; i < n; i++) {
            all |= bytes[at + i];
        }
        if (all == 0) {
            return true;
        }
    }
    return false;
}

/* Appends go behind what a cell has: then the end of a sector is zeros, one byte at least. */
static bool ends_missing(const uint8_t *bytes, size_t len)
{
    for (size_t at = 0; at < len; at += SECTOR) {
        if (bytes[at + base_min(SECTOR, len - at) - 1] == 0) {
            return true;
        }
    }
    return false;
}

/* -ERR_short_msg: as a write leaves it that was cut short; other classes EIO: it has gone bad. */
static int version_fill(struct scan *x, struct chunk_version *v)
{
    struct chunk_meta *m = &v->meta;
    const uint8_t *bytes = m->table;
    CLEANUP(mem_freep) uint8_t *big = NULL;
    if (m->table_block != 0) {
        big = mem_alloc(m->table_bytes + 1u);
        if (big == NULL) {
            return -ENOMEM;
        }
        int64_t got = scan_read(x, (uint64_t)m->table_block * CHUNK_BLOCK, big, m->table_bytes);
        if (got < (int64_t)m->table_bytes) {
            return got < 0 ? (int)got : -ERR_short_msg;
        }
        if (crc32c(0, big, m->table_bytes) != m->table_crc) {
            return sectors_missing(big, m->table_bytes) ? -ERR_short_msg : -ERR_bad_crc;
        }
        bytes = big;
    }
    struct chunk_table t = {.length = m->length,
                            .crc = v->crc,
                            .block = v->block,
                            .recent = v->recent,
                            .recent_count = m->recent_count};
    int rc = chunk_table_decode(bytes, m->table_bytes, &t);
    m->table = NULL;
    if (rc == 0 && chunk_digest(m->length, v->crc) != m->digest) {
        rc = -ERR_bad_crc;
    }
    return rc;
}

/* *ret also when the table is bad (-EIO class): then without places, for a damaged chunk. */
static int version_load(struct scan *x, const struct chunk_meta *m, struct chunk_version **ret)
{
    struct chunk_version *v = chunk_version_new(chunk_cells(m->length), m->recent_count);
    if (v == NULL) {
        return -ENOMEM;
    }
    v->meta = *m;
    int rc = version_fill(x, v);
    if (rc < 0 && !err_is(rc, EIO)) {
        chunk_version_unref(v);
        return rc;
    }
    if (rc < 0) {
        memset(v->block, 0, chunk_cells(m->length) * sizeof *v->block);
        memset(v->recent, 0, m->recent_count * sizeof *v->recent);
    }
    chunk_version_count(v);
    *ret = v;
    return rc;
}

/* The newest content that was stable, if one can be had. It may be read through x->buffer. */
static int scan_known(struct scan *x)
{
    for (unsigned i = 0; i < x->count && !x->asked; i++) {
        if (!record_stable(x, &x->record[i]) || !x->record[i].has_committed) {
            continue;
        }
        int rc = version_load(x, &x->record[i].committed, &x->known);
        if (rc < 0) {
            chunk_version_unref(x->known);
            x->known = NULL;
        }
        if (rc < 0 && !err_is(rc, EIO)) {
            return rc;
        }
        break;
    }
    x->asked = true;
    return 0;
}

/* A cell that does not fit, `at` which is what the medium has. Was it all there once? */
static int cell_fit(const struct scan *x, const struct chunk_version *v, uint32_t cell,
                    const uint8_t *at)
{
    const struct chunk_version *known = x->known;
    uint32_t bytes = chunk_cell_bytes(v->meta.length, cell);
    bool same = known != NULL && cell < chunk_cells(known->meta.length) &&
                known->block[cell] == v->block[cell] && known->crc[cell] == v->crc[cell] &&
                chunk_cell_bytes(known->meta.length, cell) == bytes;
    return !same && ends_missing(at, bytes) ? FIT_TORN : FIT_BAD;
}

/* What is believed must be what the medium has: a sync that has failed leaves pages that look as if
 * they were written. Returns an enum scan_fit. */
static int run_fit(struct scan *x, const struct chunk_version *v, uint32_t cell, uint32_t n)
{
    size_t len = 0;
    for (uint32_t i = 0; i < n; i++) {
        len += chunk_cell_bytes(v->meta.length, cell + i);
    }
    int64_t got =
        chunk_medium_now(x->s, x->file, (uint64_t)v->block[cell] * CHUNK_BLOCK, x->buffer, len);
    if (got < (int64_t)len) {
        return got == -EIO ? FIT_BAD : got < 0 ? (int)got : FIT_TORN;
    }
    int fit = FIT_GOOD;
    for (uint32_t i = 0; i < n && fit >= 0 && fit < FIT_TORN; i++) {
        uint32_t bytes = chunk_cell_bytes(v->meta.length, cell + i);
        const uint8_t *at = x->buffer + (size_t)i * CHUNK_CELL;
        if (crc32c(0, at, bytes) == v->crc[cell + i]) {
            continue;
        }
        if (!x->asked) {
            int rc = scan_known(x);
            return rc < 0 ? rc : run_fit(x, v, cell, n);
        }
        fit = cell_fit(x, v, cell + i, at);
    }
    return fit;
}

/* Torn is what has one cell that is: all of it was never synced. */
static int version_fit(struct scan *x, const struct chunk_version *v)
{
    uint32_t cells = chunk_cells(v->meta.length);
    int fit = FIT_GOOD;
    for (uint32_t cell = 0; cell < cells;) {
        uint32_t n = 1;
        bool hole = v->block[cell] == 0;
        while (!hole && cell + n < cells && n < SCAN_BYTES / CHUNK_CELL &&
               v->block[cell + n] == v->block[cell] + n) {
            n++;
        }
        uint32_t bytes = chunk_cell_bytes(v->meta.length, cell);
        bool zeros = hole && v->crc[cell] == crc32c_zeros(0, bytes);
        int part = zeros ? FIT_GOOD : hole ? FIT_BAD : run_fit(x, v, cell, n);
        if (part < 0 || part == FIT_TORN) {
            return part;
        }
        fit = part > fit ? part : fit;
        cell += n;
    }
    return fit;
}

/* Where its last byte lies in the file. */
static uint64_t version_end(const struct chunk_version *v)
{
    uint32_t cells = chunk_cells(v->meta.length);
    uint64_t end = (uint64_t)v->meta.table_block * CHUNK_BLOCK +
                   (v->meta.table_block != 0 ? v->meta.table_bytes : 0);
    for (uint32_t cell = 0; cell < cells; cell++) {
        if (v->block[cell] != 0) {
            uint64_t bytes = chunk_cell_bytes(v->meta.length, cell);
            end = base_max(end, (uint64_t)v->block[cell] * CHUNK_BLOCK + bytes);
        }
    }
    return end;
}

/* ---- Records ---- */

static void scan_sort(struct scan *x)
{
    for (unsigned i = 1; i < x->count; i++) {
        for (unsigned k = i; k > 0 && x->record[k].seq > x->record[k - 1].seq; k--) {
            struct chunk_record r = x->record[k];
            x->record[k] = x->record[k - 1];
            x->record[k - 1] = r;
            uint8_t slot = x->slot[k];
            x->slot[k] = x->slot[k - 1];
            x->slot[k - 1] = slot;
        }
    }
}

static bool record_ours(const struct scan *x, const struct chunk_record *r, struct chunk_key key)
{
    return chunk_key_compare(r->key, key) == 0 &&
           memcmp(r->target, x->s->super.target.bytes, sizeof r->target) == 0;
}

/* Is it what a process has left that died while it wrote the record? Then it has the beginning of
 * one. A record with a flipped bit has that too, but flipping it back makes it good. `ret_seq`: its
 * number then. */
static bool slot_torn(const struct scan *x, const uint8_t *at, struct chunk_key key,
                      uint64_t *ret_seq)
{
    uint8_t copy[CHUNK_SLOT_BYTES];
    struct chunk_record r;
    memcpy(copy, at, sizeof copy);
    memset(copy, 0, 4);
    if (x->s->super.clean || (!chunk_record_begins(at) && !chunk_record_empty(copy))) {
        return false;
    }
    memcpy(copy, at, sizeof copy);
    for (unsigned bit = 0; bit < CHUNK_SLOT_BYTES * 8; bit++) {
        copy[bit / 8] = (uint8_t)(copy[bit / 8] ^ 1u << (bit % 8));
        if (chunk_record_decode(copy, &r) == 0 && record_ours(x, &r, key)) {
            *ret_seq = r.seq;
            return false;
        }
        copy[bit / 8] = at[bit / 8];
    }
    return true;
}

/* One wrong bit in the checksum alone: what it is of is whole. Either that bit has flipped, or a
 * process died with the last byte of a record in its hands, which is as good as written. (Bytes
 * that are wrong, too, differ from those with such a checksum in five bits at least.) */
static bool slot_heal(const struct scan *x, uint8_t *at, struct chunk_key key,
                      struct chunk_record *ret)
{
    for (unsigned bit = 0; bit < 32; bit++) {
        uint8_t *byte = at + CHUNK_SLOT_BYTES - 4 + bit / 8;
        *byte = (uint8_t)(*byte ^ 1u << (bit % 8));
        if (chunk_record_decode(at, ret) == 0 && record_ours(x, ret, key)) {
            return true;
        }
        *byte = (uint8_t)(*byte ^ 1u << (bit % 8));
    }
    return false;
}

static int scan_records(struct scan *x, struct chunk_key key)
{
    memset(x->head, 0, sizeof x->head);
    int64_t got = scan_read(x, 0, x->head, sizeof x->head);
    x->count = 0;
    x->bad = x->torn = 0;
    memset(x->healed, 0, sizeof x->healed);
    x->max_seq = 0;
    x->rejected = false;
    if (got < 0) {
        x->bad = (1u << CHUNK_SLOTS) - 1;
        return got == -EIO ? 0 : (int)got;
    }
    for (uint8_t i = 0; i < CHUNK_SLOTS; i++) {
        uint8_t *at = x->head + (size_t)i * CHUNK_SLOT_BYTES;
        struct chunk_record *r = &x->record[x->count];
        if (chunk_record_empty(at)) {
            continue;
        }
        bool good = chunk_record_decode(at, r) == 0 && record_ours(x, r, key);
        if (!good && !slot_heal(x, at, key, r)) {
            uint8_t *mask = slot_torn(x, at, key, &x->healed[i]) ? &x->torn : &x->bad;
            *mask = (uint8_t)(*mask | 1u << i);
            continue;
        }
        x->max_seq = base_max(x->max_seq, r->seq);
        x->s->era = base_max(x->s->era, r->era);
        x->s->recorded_era = x->s->era;
        x->slot[x->count++] = i;
    }
    scan_sort(x);
    return 0;
}

struct found {
    struct chunk_version *committed, *pending;
    bool damaged;
    bool changed; /* its next record will say something else */
};

static void found_fini(struct found *f)
{
    chunk_version_unref(f->committed);
    chunk_version_unref(f->pending);
    *f = (struct found){0};
}

/* How a content fits, with what version_load() has said of it: an enum scan_fit. What was stable is
 * only seen to be there; whether it is good, its readers and the check of all chunks find out. */
static int content_fit(struct scan *x, const struct chunk_version *v, bool stable, int rc)
{
    if (rc < 0) {
        return rc == -ERR_short_msg ? FIT_TORN : FIT_BAD;
    }
    if (stable) {
        return version_end(v) > x->size_bytes ? FIT_BAD : FIT_GOOD;
    }
    return version_fit(x, v);
}

/* 0 and what it holds; 1: not to be believed. */
static int scan_candidate(struct scan *x, const struct chunk_record *r, struct found *f)
{
    bool stable = record_stable(x, r);
    int fit = FIT_GOOD, fit_pending = FIT_GOOD;
    if (r->has_committed) {
        int rc = version_load(x, &r->committed, &f->committed);
        fit = f->committed == NULL ? rc : content_fit(x, f->committed, stable, rc);
    }
    if (fit >= 0 && r->has_pending) {
        int rc = version_load(x, &r->pending, &f->pending);
        fit_pending = f->pending == NULL ? rc : content_fit(x, f->pending, stable, rc);
    }
    if (fit < 0 || fit_pending < 0) {
        return fit < 0 ? fit : fit_pending;
    }
    bool told = r->has_pending && (r->pending.flags & CHUNK_DAMAGED) != 0; /* it came damaged */
    bool bad = fit != FIT_GOOD, bad_pending = fit_pending != FIT_GOOD && !told;
    f->damaged = r->damaged || bad;
    if (!stable && fit == FIT_TORN && !r->damaged) { /* else it was so when that was written */
        return 1;
    }
    f->changed = bad && !r->damaged && !stable; /* the record will say so */
    if (bad_pending && (stable || !r->has_committed)) {
        f->damaged = true;
        return stable ? 0 : 1;
    }
    if (bad_pending) { /* nobody was told of it as stable */
        chunk_version_unref(f->pending);
        f->pending = NULL;
        f->changed = true;
    }
    return 0;
}

/* ---- Entries ---- */

static int compare_blocks(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y ? 1 : 0;
}

static size_t blocks_of(const struct chunk_version *v, uint64_t *to)
{
    size_t count = 0;
    uint32_t cells = v == NULL ? 0 : chunk_cells(v->meta.length);
    for (uint32_t cell = 0; cell < cells; cell++) {
        if (v->block[cell] != 0) {
            to[count++] = v->block[cell];
        }
    }
    uint32_t table = v == NULL || v->meta.table_block == 0 ? 0 : v->meta.table_bytes;
    for (uint32_t i = 0; i * CHUNK_BLOCK < table; i++) {
        to[count++] = v->meta.table_block + i;
    }
    return count;
}

/* Space that the last run had not given back: whatever lies between what is in use. */
static void scan_gaps(struct scan *x, struct chunk_entry *e, const struct found *f)
{
    uint64_t used = e->accounted_bytes + CHUNK_BLOCK;
    if (x->allocated_bytes <= used || f->damaged) {
        return;
    }
    size_t max = (size_t)2 * (CHUNK_CELLS_MAX + CHUNK_TABLE_MAX / CHUNK_BLOCK + 1);
    CLEANUP(mem_freep) uint64_t *block = mem_calloc(max + 1, sizeof *block);
    if (block == NULL) {
        return; /* the next start */
    }
    size_t count = blocks_of(f->committed, block);
    count += blocks_of(f->pending, block + count);
    block[count++] = e->next_block;
    qsort(block, count, sizeof *block, compare_blocks);
    uint64_t next = 1;
    for (size_t i = 0; i < count; i++) {
        if (block[i] > next) {
            chunk_rest_add(x->s, e, next, (uint32_t)(block[i] - next), e->change);
        }
        next = base_max(next, block[i] + 1);
    }
}

static void entry_places(struct scan *x, struct chunk_entry *e, const struct found *f)
{
    uint64_t end = x->size_bytes;
    end = f->committed == NULL ? end : base_max(end, version_end(f->committed));
    end = f->pending == NULL ? end : base_max(end, version_end(f->pending));
    uint64_t blocks = base_max(1, (end + CHUNK_BLOCK - 1) / CHUNK_BLOCK);
    e->next_block = (uint32_t)base_min(blocks, CHUNK_BLOCK_LIMIT);
    if (f->pending != NULL) {
        const struct chunk_version *base = f->committed;
        uint32_t cells = chunk_cells(f->pending->meta.length);
        uint32_t others = base == NULL ? 0 : chunk_cells(base->meta.length), own = 0;
        for (uint32_t i = 0; i < cells; i++) {
            uint64_t block = f->pending->block[i];
            own += block != 0 && !(i < others && base->block[i] == block) ? 1 : 0;
        }
        uint32_t table = f->pending->meta.table_block == 0 ? 0 : f->pending->meta.table_bytes;
        f->pending->own_blocks = own + (table + CHUNK_BLOCK - 1) / CHUNK_BLOCK;
    }
}

/* Tables that are not in the record are fetched when they are needed. A pending content keeps its
 * own and its base's: the commit comes without waiting. */
static void version_slim(struct chunk_version *v, bool damaged)
{
    if (v != NULL && v->meta.table_block != 0 && (v->refs == 1 || damaged)) {
        chunk_version_cool(v);
    }
}

static int scan_entry(struct scan *x, struct chunk_key key, struct found *f)
{
    struct chunk_store *s = x->s;
    struct chunk_entry *e = chunk_entry_get(s, key, true);
    if (e == NULL) {
        return -ENOMEM;
    }
    const struct chunk_record *r = x->count > 0 ? &x->record[x->chosen] : NULL;
    e->bad_slots = x->bad | x->torn;
    e->damaged = f->damaged || x->bad != 0 || r == NULL;
    s->damaged_count += e->damaged ? 1 : 0;
    e->seq = x->max_seq;
    e->change = e->written = e->stable = 1;
    entry_places(x, e, f);
    if (r != NULL) {
        e->chain = r->chain;
        e->last_ver = r->last_ver;
        e->newest_slot = e->stable_slot = x->slot[x->chosen];
    }
    e->exists = true;
    s->exists_count++;
    bool slim = f->pending == NULL;
    chunk_entry_set(s, e, &e->committed, f->committed);
    chunk_entry_set(s, e, &e->pending, f->pending);
    chunk_entry_account(s, e);
    scan_gaps(x, e, f);
    if (slim || f->damaged) {
        version_slim(e->committed, f->damaged);
        version_slim(e->pending, f->damaged);
    }
    if (f->changed || x->chosen > 0 || x->torn != 0) {
        chunk_entry_changed(s, e); /* a record above those that are not believed */
    }
    *f = (struct found){0};
    return 0;
}

/* ---- Files ---- */

static int scan_remove(struct scan *x, struct chunk_key key)
{
    uint32_t dir = chunk_directory(x->s, key);
    struct disk_req req = {.op = DISK_REMOVE, .path = x->path};
    int64_t rc = disk_now(x->s->disk, &req);
    x->s->dirty_dirs[dir / 64] |= UINT64_C(1) << (dir % 64);
    x->s->dirs_dirty = true;
    return rc < 0 && rc != -ENOENT ? (int)rc : 0;
}

/* Chooses a record; 1: nothing of the chunk was ever stable. */
static int scan_choose(struct scan *x, struct found *f)
{
    if (x->count == 0 && x->bad == 0 && !x->s->super.clean) {
        return 1; /* in the making when the process died */
    }
    if (x->size_bytes < CHUNK_BLOCK) { /* the first write, in part; or cut off */
        bool lost = x->count > 0 && !record_stable(x, &x->record[0]);
        x->bad = (1u << CHUNK_SLOTS) - 1;
        x->count = 0;
        return lost ? 1 : 0;
    }
    for (x->chosen = 0; x->chosen < x->count; x->chosen++) {
        int rc = scan_candidate(x, &x->record[x->chosen], f);
        if (rc <= 0) {
            return rc;
        }
        found_fini(f);
        x->s->super.lossy = true;
    }
    /* Never stable, as power was lost. Where it was not, a sync that failed may have taken it, or
     * it was stable and has gone bad since: the record does not tell, so it is not thrown away. */
    if (x->bad == 0 && x->s->rebooted && !x->s->super.clean && x->count > 0) {
        return 1;
    }
    x->count = 0; /* there was something, and it is known no more */
    x->chosen = 0;
    f->damaged = true;
    return 0;
}

/* What one flipped bit has made of a record that is older than the one that is believed says
 * nothing; nor does a write that had changed no more than one bit there when its process died. */
static void scan_older(struct scan *x)
{
    for (unsigned i = 0; i < CHUNK_SLOTS && x->count > 0; i++) {
        uint8_t slot = (uint8_t)(1u << i);
        bool bad = (x->bad & slot) != 0 && x->healed[i] != 0;
        if (bad && x->healed[i] < x->record[x->chosen].seq) {
            x->bad = (uint8_t)(x->bad & ~slot);
            x->torn = (uint8_t)(x->torn | slot);
        }
    }
}

static int scan_stat(struct scan *x)
{
    struct disk_req req = {.op = DISK_STAT, .file = x->file};
    int64_t rc = disk_now(x->s->disk, &req);
    x->size_bytes = req.stat.size_bytes;
    x->allocated_bytes = req.stat.allocated_bytes;
    return (int)rc;
}

/*
 * A sync that failed leaves in the page cache, as clean, what it has not written; the process may
 * have died before it could note that. So what nobody is known to have synced is read from the
 * medium. What was dirty still is there; what is missing now was acknowledged once.
 */
static int scan_believe(struct scan *x, struct chunk_key key)
{
    bool stable = x->torn == 0 && x->bad == 0;
    for (unsigned i = 0; i < x->count; i++) {
        stable = stable && record_stable(x, &x->record[i]);
    }
    x->dropped = !stable && !x->s->rebooted;
    if (!x->dropped) {
        return 0;
    }
    uint64_t size_bytes = x->size_bytes, max_seq = x->max_seq;
    uint8_t cached[sizeof x->head];
    memcpy(cached, x->head, sizeof cached);
    int rc = disk_refresh(x->s->disk, x->file);
    rc = rc < 0 ? rc : scan_stat(x);
    rc = rc < 0 ? rc : scan_records(x, key);
    if (rc == 0 && (x->size_bytes < size_bytes || memcmp(cached, x->head, sizeof cached) != 0)) {
        x->s->super.lossy = true;
    }
    x->max_seq = base_max(x->max_seq, max_seq); /* pages that stay bring back what they have */
    return rc;
}

static int scan_opened(struct scan *x, struct chunk_key key)
{
    struct found f = {0};
    x->dropped = x->asked = false;
    int rc = scan_stat(x);
    rc = rc < 0 ? rc : scan_records(x, key);
    rc = rc < 0 ? rc : scan_believe(x, key);
    x->chosen = 0;
    int choice = rc < 0 ? rc : scan_choose(x, &f);
    bool remove = choice == 1;
    if (remove) {
        choice = scan_remove(x, key);
    } else if (choice == 0 && x->count > 0 && !record_stable(x, &x->record[x->chosen])) {
        struct disk_req req = {.op = DISK_SYNC_ALL, .file = x->file};
        choice = (int)disk_now(x->s->disk, &req);
    }
    if (choice == 0 && !remove) {
        scan_older(x);
        choice = scan_entry(x, key, &f);
    }
    found_fini(&f);
    chunk_version_unref(x->known);
    x->known = NULL;
    return choice;
}

static int scan_file(struct scan *x, struct chunk_key key)
{
    if (chunk_store_dead(x->s, key.data_id)) {
        return scan_remove(x, key);
    }
    struct disk_req req = {.op = DISK_OPEN, .path = x->path, .flags = DISK_READ_WRITE};
    int64_t rc = disk_now(x->s->disk, &req);
    if (rc < 0) {
        return (int)rc;
    }
    x->file = req.file;
    int result = scan_opened(x, key);
    req = (struct disk_req){.op = DISK_CLOSE, .file = x->file};
    (void)disk_now(x->s->disk, &req);
    return result;
}

/* 16 digits, a point, 8 digits; else it is no chunk and left alone. */
static bool scan_name(const char *name, struct chunk_key *ret)
{
    uint8_t id[8], index[4];
    char digits[17];
    if (strlen(name) != 25 || name[16] != '.') {
        return false;
    }
    memcpy(digits, name, 16);
    digits[16] = 0;
    if (text_unhex(id, sizeof id, digits) < 0 || text_unhex(index, sizeof index, name + 17) < 0) {
        return false;
    }
    *ret = (struct chunk_key){0};
    for (size_t i = 0; i < sizeof id; i++) {
        ret->data_id = ret->data_id << 8 | id[i];
    }
    for (size_t i = 0; i < sizeof index; i++) {
        ret->index = ret->index << 8 | index[i];
    }
    return true;
}

static int scan_directory(struct scan *x, uint32_t dir, struct err *e)
{
    CLEANUP(mem_freep) char *at = chunk_directory_path(x->s, dir);
    if (at == NULL) {
        return -ENOMEM;
    }
    struct disk_req req = {.op = DISK_LIST, .path = at};
    int64_t rc = disk_now(x->s->disk, &req);
    if (rc < 0) {
        int code = rc == -ENOENT ? -ERR_bad_magic : (int)rc;
        return err_set(e, code, "directory of chunks '%s'", at);
    }
    CLEANUP(mem_freep) struct disk_names *names = req.names;
    for (size_t i = 0; i < names->count; i++) {
        struct chunk_key key;
        if (!scan_name(names->name[i], &key) || chunk_directory(x->s, key) != dir) {
            continue;
        }
        CLEANUP(mem_freep) char *path = mem_printf("%s/%s", at, names->name[i]);
        if (path == NULL) {
            return -ENOMEM;
        }
        x->path = path;
        int result = scan_file(x, key);
        if (result < 0) {
            return err_set(e, result, "chunk '%s'", path);
        }
    }
    return 0;
}

int chunk_scan(struct chunk_store *s, struct err *e)
{
    CLEANUP(mem_freep) struct scan *x = mem_zalloc(sizeof *x);
    CLEANUP(mem_freep) uint8_t *buffer = mem_aligned(CHUNK_BLOCK, SCAN_BYTES);
    if (x == NULL || buffer == NULL) {
        return -ENOMEM;
    }
    x->s = s;
    x->buffer = buffer;
    uint32_t dirs = s->super.fan_out * s->super.fan_out;
    for (uint32_t dir = 0; dir < dirs; dir++) {
        int rc = scan_directory(x, dir, e);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}
