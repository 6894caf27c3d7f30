/*
 * chunk/extent_rewrite.c -- the `extent` engine: a content that lies in too many pieces is written
 * once more, in few: in the background, one at a time, when the chunk rests and one piece is free.
 *
 * It is read and written by requests like any other's, so that it takes its turn; the update
 * changes nothing but where the cells lie. What it was rests as always, for pins and readers.
 */
#include "chunk/extent_index_priv.h"

#include <string.h>

#define WAITING_MAX 64u /* beyond: found again by the next commit, or when it is read again */
#define PIECES_MAX 32u

struct chunk_rewrite {
    struct chunk_extent *x;
    struct chunk_key waiting[WAITING_MAX]; /* the oldest first */
    size_t count;
    bool active;
    struct chunk_info info;
    struct chunk_read read;
    struct chunk_update update;
    uint8_t *bytes;
    uint32_t *crc;
    struct iovec iov;
};

static bool in_pieces(const struct chunk_version *v, uint32_t max)
{
    uint32_t pieces = 0, cells = chunk_cells(v->meta.length);
    uint64_t next = 0;
    for (uint32_t cell = 0; cell < cells && pieces <= max; cell++) {
        uint64_t unit = v->block[cell];
        pieces += unit != 0 && unit != next ? 1 : 0; /* holes do not part what lies together */
        next = unit != 0 ? unit + 1 : next;
    }
    return pieces > max;
}

/* ---- Those that wait ---- */

static void waiting_add(struct chunk_rewrite *r, struct chunk_key key)
{
    for (size_t i = 0; i < r->count; i++) {
        if (chunk_key_compare(r->waiting[i], key) == 0) {
            return;
        }
    }
    if (r->count < WAITING_MAX) {
        r->waiting[r->count++] = key;
    }
}

void chunk_rewrite_look(struct chunk_extent *x, const struct chunk_entry *e)
{
    uint32_t max = x->s->opt.pieces_max == 0 ? PIECES_MAX : x->s->opt.pieces_max;
    if (e->committed == NULL || !in_pieces(e->committed, max)) {
        return;
    }
    if (x->rewrite == NULL) {
        x->rewrite = mem_zalloc(sizeof *x->rewrite);
    }
    if (x->rewrite != NULL) { /* else another time */
        x->rewrite->x = x;
        waiting_add(x->rewrite, e->item.key);
    }
}

/* ---- One chunk ---- */

static void rewrite_over(struct chunk_rewrite *r)
{
    mem_freep(&r->bytes);
    mem_freep(&r->crc);
    r->active = false;
}

static void rewrite_written(struct chunk_update *u, int rc)
{
    struct chunk_rewrite *r = container_of(u, struct chunk_rewrite, update);
    rewrite_over(r);
    if (rc == -EINVAL || rc == -ERR_busy) { /* somebody was faster, or has it in hand */
        waiting_add(r, u->key);
    }
}

static void rewrite_read(struct chunk_read *read, int rc)
{
    struct chunk_rewrite *r = container_of(read, struct chunk_rewrite, read);
    struct chunk_store *s = r->x->s;
    const struct chunk_info *info = &r->info;
    bool same = rc == 0 && chunk_identity_equal(read->pin.identity, info->committed);
    if (!same || s->stopping || s->failed != 0) {
        rewrite_over(r);
        return;
    }
    r->iov = (struct iovec){.iov_base = r->bytes, .iov_len = info->length};
    r->update = (struct chunk_update){.done = rewrite_written,
                                      .key = info->key,
                                      .chain = info->chain,
                                      .identity = info->committed,
                                      .kind = CHUNK_WHOLE,
                                      .install = true,
                                      .moves = true,
                                      .new_length = info->length,
                                      .tgen = info->tgen,
                                      .last_ver = info->last_ver,
                                      .lane = DISK_SCRUBBING,
                                      .crc = r->crc,
                                      .crc_count = chunk_cells(info->length),
                                      .data = &r->iov,
                                      .data_count = 1};
    chunk_store_update(s, &r->update);
}

static void rewrite_begin(struct chunk_rewrite *r)
{
    const struct chunk_info *info = &r->info;
    r->bytes = mem_alloc(info->length);
    r->crc = mem_calloc(chunk_cells(info->length), sizeof *r->crc);
    r->active = true;
    if (r->bytes == NULL || r->crc == NULL) {
        rewrite_over(r);
        return;
    }
    r->read = (struct chunk_read){
        .done = rewrite_read,
        .pin = {.key = info->key, .which = CHUNK_COMMITTED, .length = info->length},
        .verify = true,
        .lane = DISK_SCRUBBING,
        .to = r->bytes,
        .crc = r->crc};
    chunk_store_read(r->x->s, &r->read);
}

static bool rewrite_has_room(struct chunk_extent *x, const struct chunk_info *info)
{
    struct tree_space_info space = {0};
    struct chunk_store_info all;
    tree_space_info(x->space, &space);
    chunk_store_info(x->s, &all);
    return !all.low && space.largest >= chunk_cells(info->length);
}

void chunk_rewrite_tick(struct chunk_extent *x)
{
    struct chunk_rewrite *r = x->rewrite;
    struct chunk_store *s = x->s;
    if (r == NULL || r->active || r->count == 0 || s->stopping || s->failed != 0) {
        return;
    }
    struct chunk_key key = r->waiting[0];
    memmove(r->waiting, r->waiting + 1, --r->count * sizeof key);
    int rc = chunk_store_lookup(s, key, &r->info);
    const struct chunk_entry *e = rc == 0 ? chunk_entry_get(s, key, false) : NULL;
    if (e == NULL || e->committed == NULL || r->info.length == 0 || e->damaged) {
        return; /* it comes back when it is read again */
    }
    if (e->pending != NULL || e->holds > 0 || !list_empty(&e->dirty)) {
        waiting_add(r, key); /* somebody is writing to it */
        return;
    }
    if (rewrite_has_room(x, &r->info)) {
        rewrite_begin(r);
    }
}

void chunk_rewrite_free(struct chunk_extent *x)
{
    if (x->rewrite != NULL) {
        mem_free(x->rewrite->bytes);
        mem_free(x->rewrite->crc);
        mem_free(x->rewrite);
        x->rewrite = NULL;
    }
}
