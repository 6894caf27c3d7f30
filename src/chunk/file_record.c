/* chunk/file_record.c -- the `file` engine: opening of files, tables, writing of records. */
#include "chunk/file_priv.h"

#include "base/crc32c.h"

#include <string.h>

/* ---- File open, tables in memory ---- */

static void hot_tables(struct chunk_work *w);

static struct chunk_version *hot_missing(const struct chunk_entry *e)
{
    if (e->committed != NULL && e->committed->crc == NULL) {
        return e->committed;
    }
    return e->pending != NULL && e->pending->crc == NULL ? e->pending : NULL;
}

static int hot_decode(struct chunk_version *v, const uint8_t *bytes)
{
    if (crc32c(0, bytes, v->meta.table_bytes) != v->meta.table_crc) {
        return -ERR_bad_crc;
    }
    if (chunk_version_room(v, chunk_cells(v->meta.length)) < 0) {
        return -ENOMEM;
    }
    struct chunk_table t = {.length = v->meta.length,
                            .crc = v->crc,
                            .block = v->block,
                            .recent = v->recent,
                            .recent_count = v->meta.recent_count};
    int rc = chunk_table_decode(bytes, v->meta.table_bytes, &t);
    if (rc == 0 && chunk_digest(v->meta.length, v->crc) != v->meta.digest) {
        rc = -ERR_bad_crc;
    }
    if (rc < 0) {
        chunk_version_cool(v);
    }
    return rc;
}

static void hot_table_read(struct chunk_work *w, int64_t got)
{
    int rc = got < 0 ? (int)got : 0;
    struct chunk_version *v = w->loading;
    if (rc == 0) {
        rc = got < (int64_t)v->meta.table_bytes ? -ERR_short_msg : hot_decode(v, w->bytes);
    }
    mem_freep(&w->bytes);
    chunk_version_unref(v);
    w->loading = NULL;
    if (rc < 0) {
        if (err_is(rc, EIO)) {
            chunk_entry_damage(w->s, w->e);
            rc = err_is(rc, ERR_corrupt) ? rc : -ERR_corrupt;
        }
        w->next(w, rc);
        return;
    }
    hot_tables(w);
}

static void hot_tables(struct chunk_work *w)
{
    struct chunk_version *v = hot_missing(w->e);
    if (v == NULL) {
        w->next(w, 0);
        return;
    }
    w->bytes = mem_alloc(v->meta.table_bytes);
    if (w->bytes == NULL) {
        w->next(w, -ENOMEM);
        return;
    }
    w->loading = chunk_version_ref(v);
    w->io = (struct disk_req){.op = DISK_READ,
                              .file = w->e->file->file,
                              .offset = (uint64_t)v->meta.table_block * CHUNK_BLOCK,
                              .buf = w->bytes,
                              .len = v->meta.table_bytes};
    chunk_work_io(w, &w->io, hot_table_read);
}

static void hot_closed(struct chunk_work *w, int64_t rc)
{
    (void)rc;
    w->next(w, -ENOMEM);
}

static void hot_opened(struct chunk_work *w, int64_t rc)
{
    mem_freep(&w->path);
    if (rc < 0) {
        if (rc == -ENOENT && w->e->exists) {
            chunk_entry_damage(w->s, w->e); /* somebody took the file away */
            rc = -ERR_corrupt;
        }
        w->next(w, (int)rc);
        return;
    }
    struct chunk_file *f = chunk_file_new(w->s, w->io.file);
    if (f == NULL) {
        struct disk_file *file = w->io.file;
        w->io = (struct disk_req){.op = DISK_CLOSE, .file = file};
        chunk_work_io(w, &w->io, hot_closed);
        return;
    }
    w->e->file = f;
    chunk_entry_touch(w->s, w->e);
    hot_tables(w);
}

static void hot_open(struct chunk_work *w, uint32_t flags)
{
    w->io = (struct disk_req){.op = DISK_OPEN, .path = w->path, .flags = flags};
    chunk_work_io(w, &w->io, hot_opened);
}

/* A file in the way of a new chunk is what an update that failed has left behind. */
static void hot_way_clear(struct chunk_work *w, int64_t rc)
{
    if (rc < 0 && rc != -ENOENT) {
        mem_freep(&w->path);
        w->next(w, (int)rc);
        return;
    }
    w->e->fresh = true;
    hot_open(w, DISK_READ_WRITE | DISK_CREATE | DISK_EXCLUSIVE);
}

static void hot_created(struct chunk_work *w, int64_t rc)
{
    if (rc == -EEXIST) {
        w->io = (struct disk_req){.op = DISK_REMOVE, .path = w->path};
        chunk_work_io(w, &w->io, hot_way_clear);
        return;
    }
    w->e->fresh = rc == 0;
    hot_opened(w, rc);
}

void chunk_file_hot(struct chunk_work *w, bool create, chunk_next *next)
{
    struct chunk_store *s = w->s;
    struct chunk_entry *e = w->e;
    w->next = next;
    if (e->file != NULL) {
        chunk_entry_touch(s, e);
        hot_tables(w);
        return;
    }
    if (s->hot_count >= (size_t)s->opt.open_files * 2) {
        chunk_file_round(s); /* what holds them open are changes that are not stable */
        next(w, -ERR_busy);
        return;
    }
    w->path = chunk_path(s, e->item.key);
    if (w->path == NULL) {
        next(w, -ENOMEM);
        return;
    }
    if (e->exists || !create) {
        hot_open(w, DISK_READ_WRITE);
        return;
    }
    w->io = (struct disk_req){
        .op = DISK_OPEN, .path = w->path, .flags = DISK_READ_WRITE | DISK_CREATE | DISK_EXCLUSIVE};
    chunk_work_io(w, &w->io, hot_created);
}

/* ---- Records ---- */

/* Neither the newest record nor the newest stable one, nor one that a sync under way makes stable.
 */
static uint8_t record_slot(const struct chunk_entry *e)
{
    uint8_t used = (uint8_t)(e->newest_slot < CHUNK_SLOTS ? 1u << e->newest_slot : 0);
    used = (uint8_t)(used | (e->stable_slot < CHUNK_SLOTS ? 1u << e->stable_slot : 0));
    used = (uint8_t)(used | (e->syncing_slot < CHUNK_SLOTS ? 1u << e->syncing_slot : 0));
    uint8_t bad = (uint8_t)(e->bad_slots & ~used);
    used = bad != 0 ? (uint8_t)~bad : used;
    uint8_t slot = 0;
    while ((used >> slot & 1) != 0) {
        slot++;
    }
    CHECK(slot < CHUNK_SLOTS);
    return slot;
}

static void record_done(struct chunk_work *w, int64_t got)
{
    struct chunk_store *s = w->s;
    struct chunk_entry *e = w->e;
    int rc = got < 0 ? (int)got : 0;
    mem_freep(&w->bytes);
    if (rc == 0) {
        e->newest_slot = w->slot;
        e->written = w->captured;
        e->bad_slots = (uint8_t)(e->bad_slots & ~(1u << w->slot));
        if (e->bad_slots != 0) {
            chunk_entry_changed(s, e); /* the next record goes there */
        }
        if (s->dirty_count >= s->opt.open_files / 2 && !s->stopping) {
            chunk_file_round(s); /* in time, before all open files wait for it */
        }
    } else if (rc != -ENOSPC && rc != -EDQUOT && rc != -ERR_busy) {
        chunk_store_fail(s, rc, "a record could not be written");
    }
    w->next(w, rc);
}

static int record_bytes(struct chunk_work *w, const struct chunk_state *st, size_t len)
{
    struct chunk_store *s = w->s;
    struct chunk_record r = {.key = w->e->item.key,
                             .chain = st->chain,
                             .seq = w->e->seq,
                             .era = w->era == 0 ? s->era : w->era,
                             .last_ver = st->last_ver,
                             .damaged = st->damaged,
                             .has_committed = st->committed != NULL,
                             .has_pending = st->pending != NULL};
    memcpy(r.target, s->super.target.bytes, sizeof r.target);
    s->recorded_era = base_max(s->recorded_era, r.era);
    uint8_t table[2][CHUNK_TABLE_INLINE];
    struct chunk_version *v[2] = {st->committed, st->pending};
    struct chunk_meta *m[2] = {&r.committed, &r.pending};
    for (unsigned i = 0; i < 2; i++) {
        if (v[i] == NULL) {
            continue;
        }
        *m[i] = v[i]->meta;
        if (v[i]->meta.table_block == 0) {
            struct chunk_table t = {.length = v[i]->meta.length,
                                    .crc = v[i]->crc,
                                    .block = v[i]->block,
                                    .recent = v[i]->recent,
                                    .recent_count = v[i]->meta.recent_count};
            m[i]->table_bytes = (uint32_t)chunk_table_encode(&t, table[i], sizeof table[i]);
            m[i]->table_crc = crc32c(0, table[i], m[i]->table_bytes);
            m[i]->table = table[i];
        }
    }
    w->bytes = mem_zalloc(len);
    if (w->bytes == NULL) {
        return -ENOMEM;
    }
    chunk_record_encode(&r, w->bytes);
    return 0;
}

void chunk_file_record(struct chunk_work *w, const struct chunk_state *st, chunk_next *next)
{
    struct chunk_entry *e = w->e;
    w->next = next;
    chunk_entry_change(w);
    /* The first one fills the block, so that a file that was cut off shows. */
    bool first = e->newest_slot == CHUNK_NO_SLOT;
    w->slot = record_slot(e);
    size_t len = first ? CHUNK_BLOCK : CHUNK_SLOT_BYTES;
    CHECK(!first || w->slot == 0);
    e->seq++;
    int rc = record_bytes(w, st, len);
    if (rc < 0) {
        next(w, rc);
        return;
    }
    w->io = (struct disk_req){.op = DISK_WRITE,
                              .file = e->file->file,
                              .offset = (uint64_t)w->slot * CHUNK_SLOT_BYTES,
                              .buf = w->bytes,
                              .len = len};
    chunk_work_io(w, &w->io, record_done);
}
