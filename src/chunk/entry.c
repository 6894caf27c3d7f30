/* chunk/entry.c -- entries, versions, files: counts, references, space that rests. */
#include "chunk/engine_priv.h"

#include "base/crc32c.h"
#include "wire/wire.h"

#include <string.h>

#define RUN_SAME 64u /* cells that are compared at once */

/* ---- Versions ---- */

int chunk_version_room(struct chunk_version *v, uint32_t cells)
{
    v->block = mem_zalloc(((size_t)cells + 1) * (sizeof *v->block + sizeof *v->crc));
    if (v->block == NULL) {
        return -ENOMEM;
    }
    v->crc = (uint32_t *)(void *)(v->block + cells + 1);
    return 0;
}

void chunk_version_cool(struct chunk_version *v)
{
    mem_free(v->block);
    v->block = NULL;
    v->crc = NULL;
}

struct chunk_version *chunk_version_new(uint32_t cells, unsigned recent_count)
{
    struct chunk_version *v = mem_zalloc(sizeof *v);
    if (v == NULL) {
        return NULL;
    }
    v->refs = 1;
    v->recent = mem_calloc((size_t)recent_count + 1, sizeof *v->recent);
    if (v->recent == NULL || chunk_version_room(v, cells) < 0) {
        chunk_version_unref(v);
        return NULL;
    }
    v->meta.recent_count = recent_count;
    return v;
}

struct chunk_version *chunk_version_ref(struct chunk_version *v)
{
    if (v != NULL) {
        v->refs++;
    }
    return v;
}

void chunk_version_unref(struct chunk_version *v)
{
    if (v == NULL || --v->refs > 0) {
        return;
    }
    chunk_version_cool(v);
    mem_free(v->recent);
    mem_free(v);
}

bool chunk_version_told(struct chunk_version *v)
{
    bool damaged = (v->meta.flags & CHUNK_DAMAGED) != 0;
    v->meta.flags = (uint16_t)(v->meta.flags & ~CHUNK_DAMAGED);
    return damaged;
}

void chunk_version_count(struct chunk_version *v)
{
    uint32_t cells = chunk_cells(v->meta.length), stored = 0;
    const uint64_t *block = v->block;
    for (uint32_t i = 0; i < cells; i++) {
        stored += block[i] != 0 ? 1 : 0;
    }
    v->stored = stored;
}

/* ---- Whose a block is ---- */

static bool run_has(const struct chunk_version *v, const struct chunk_version *const *other,
                    uint32_t cell)
{
    uint64_t block = v->block[cell];
    bool own = block != 0;
    for (unsigned i = 0; i < CHUNK_OTHERS && own; i++) {
        own = other[i] == NULL || cell >= chunk_cells(other[i]->meta.length) ||
              other[i]->block[cell] != block;
    }
    return own;
}

/* Many cells at once, for nearly all are the same in a content and the one before. */
static uint32_t run_skip(const struct chunk_version *v, const struct chunk_version *const *other,
                         uint32_t cell)
{
    for (unsigned i = 0; i < CHUNK_OTHERS; i++) {
        uint32_t both = other[i] == NULL ? 0
                                         : (uint32_t)base_min(chunk_cells(other[i]->meta.length),
                                                              chunk_cells(v->meta.length));
        while (cell % RUN_SAME == 0 && cell + RUN_SAME <= both &&
               memcmp(v->block + cell, other[i]->block + cell, RUN_SAME * sizeof *v->block) == 0) {
            cell += RUN_SAME;
        }
    }
    return cell;
}

bool chunk_run_next(const struct chunk_version *v, const struct chunk_version *const *other,
                    uint32_t *at, struct chunk_run *ret)
{
    uint32_t cells = v == NULL ? 0 : chunk_cells(v->meta.length);
    uint32_t from = v == NULL ? 0 : run_skip(v, other, *at);
    while (from < cells && !run_has(v, other, from)) {
        from = run_skip(v, other, from + 1);
    }
    if (from >= cells) {
        return false;
    }
    *ret = (struct chunk_run){.block = v->block[from], .count = 1};
    while (from + ret->count < cells && v->block[from + ret->count] == ret->block + ret->count &&
           run_has(v, other, from + ret->count)) {
        ret->count++;
    }
    *at = from + ret->count;
    return true;
}

uint32_t chunk_version_own(const struct chunk_version *v, const struct chunk_version *base)
{
    const struct chunk_version *other[CHUNK_OTHERS] = {base};
    struct chunk_run run;
    uint32_t own = 0;
    for (uint32_t at = 0; chunk_run_next(v, other, &at, &run);) {
        own += run.count;
    }
    return own;
}

static uint32_t version_table_blocks(const struct chunk_version *v)
{
    return v->meta.table_block == 0 ? 0 : (v->meta.table_bytes + CHUNK_BLOCK - 1) / CHUNK_BLOCK;
}

/* ---- Files and names ---- */

static void file_closed(struct disk_req *req, int64_t rc)
{
    (void)rc; /* what it wrote was synced, or will be lost with an error of its own */
    struct chunk_file *f = container_of(req, struct chunk_file, close);
    struct chunk_store *s = f->s;
    mem_free(f);
    s->in_flight--;
    if (s->freed && s->in_flight == 0) {
        chunk_store_destroy(s);
    } else {
        chunk_stop_check(s);
    }
}

struct chunk_file *chunk_file_new(struct chunk_store *s, struct disk_file *file)
{
    struct chunk_file *f = mem_zalloc(sizeof *f);
    if (f != NULL) {
        *f = (struct chunk_file){.refs = 1, .s = s, .file = file};
    }
    return f;
}

void chunk_file_unref(struct chunk_file *f)
{
    if (f == NULL || --f->refs > 0) {
        return;
    }
    f->close = (struct disk_req){.op = DISK_CLOSE, .file = f->file, .done = file_closed};
    if (f->s->freed) {
        (void)disk_now(f->s->disk, &f->close); /* the end of the store may block */
        mem_free(f);
        return;
    }
    f->s->in_flight++;
    disk_submit(f->s->disk, &f->close);
}

uint32_t chunk_directory(const struct chunk_store *s, struct chunk_key key)
{
    uint8_t bytes[12];
    wire_store_u64(bytes, key.data_id);
    wire_store_u32(bytes + 8, key.index);
    return crc32c(0, bytes, sizeof bytes) % (s->super.fan_out * s->super.fan_out);
}

char *chunk_directory_path(const struct chunk_store *s, uint32_t dir)
{
    return mem_printf("%s/%02x/%02x", s->directory, dir / s->super.fan_out, dir % s->super.fan_out);
}

char *chunk_path(const struct chunk_store *s, struct chunk_key key)
{
    uint32_t dir = chunk_directory(s, key);
    return mem_printf("%s/%02x/%02x/%016llx.%08x", s->directory, dir / s->super.fan_out,
                      dir % s->super.fan_out, (unsigned long long)key.data_id, key.index);
}

/* ---- Entries ---- */

struct chunk_entry *chunk_entry_get(struct chunk_store *s, struct chunk_key key, bool make)
{
    struct chunk_entry *e = chunk_entry_of(chunk_index_find(&s->index, key));
    if (e != NULL) {
        e->used = true;
        return e;
    }
    if (!make) {
        return NULL;
    }
    e = mem_zalloc(sizeof *e);
    if (e == NULL) {
        return NULL;
    }
    e->item.key = key;
    e->newest_slot = e->stable_slot = e->syncing_slot = CHUNK_NO_SLOT;
    list_init(&e->queue);
    list_init(&e->waiters);
    list_init(&e->pins);
    list_init(&e->resting);
    list_init(&e->lru);
    list_init(&e->dirty);
    list_init(&e->unstable);
    list_init(&e->sync);
    list_init(&e->rests);
    list_init(&e->flip);
    list_init(&e->clock);
    e->loaded = s->engine->know == NULL;
    if (chunk_index_insert(&s->index, &e->item) < 0) {
        mem_free(e);
        return NULL;
    }
    return e;
}

int chunk_entry_know(struct chunk_store *s, struct chunk_key key, struct chunk_entry **ret)
{
    struct chunk_entry *e = chunk_entry_get(s, key, s->engine->know != NULL);
    *ret = NULL;
    if (e == NULL) {
        return s->engine->know != NULL ? -ENOMEM : 0;
    }
    int rc = e->loaded || s->engine->know == NULL ? 0 : s->engine->know(s, e);
    if (rc == 0 && e->exists) {
        *ret = e;
    } else {
        chunk_entry_settle(s, e);
    }
    return rc;
}

static void entry_cool(struct chunk_store *s, struct chunk_entry *e)
{
    if (!list_empty(&e->lru)) {
        list_remove(&e->lru);
        s->hot_count--;
    }
    chunk_file_unref(e->file);
    e->file = NULL;
}

static void entry_forget_rest(struct chunk_store *s, struct chunk_entry *e)
{
    for (struct list *node = list_pop_front(&e->resting); node != NULL;
         node = list_pop_front(&e->resting)) {
        struct chunk_rest *r = LIST_ENTRY(node, struct chunk_rest, node);
        s->resting_bytes -= (uint64_t)r->count * CHUNK_BLOCK;
        mem_free(r);
    }
    list_remove(&e->rests);
}

void chunk_entry_free(struct chunk_store *s, struct chunk_entry *e)
{
    entry_cool(s, e);
    entry_forget_rest(s, e);
    list_remove(&e->dirty);
    list_remove(&e->unstable);
    list_remove(&e->sync);
    list_remove(&e->flip);
    list_remove(&e->clock);
    s->cached_bytes -= e->charged;
    chunk_version_unref(e->committed);
    chunk_version_unref(e->pending);
    chunk_version_unref(e->indexed.committed);
    chunk_version_unref(e->indexed.pending);
    mem_free(e);
}

void chunk_entry_settle(struct chunk_store *s, struct chunk_entry *e)
{
    if (e->exists || e->holds > 0 || !list_empty(&e->queue) || !list_empty(&e->pins) ||
        (s->engine->rested != NULL && !list_empty(&e->resting))) {
        return;
    }
    chunk_index_remove(&s->index, e->item.key);
    chunk_entry_free(s, e);
}

void chunk_entry_account(struct chunk_store *s, struct chunk_entry *e)
{
    uint64_t blocks = 0;
    if (e->committed != NULL) {
        blocks += (uint64_t)e->committed->stored + version_table_blocks(e->committed);
    }
    if (e->pending != NULL) {
        blocks += e->pending->own_blocks;
    }
    s->used_bytes -= e->accounted_bytes;
    e->accounted_bytes = blocks * CHUNK_BLOCK;
    s->used_bytes += e->accounted_bytes;
}

void chunk_entry_changed(struct chunk_store *s, struct chunk_entry *e)
{
    e->change++;
    if (list_empty(&e->dirty)) {
        list_push_back(&s->dirty, &e->dirty);
        s->dirty_count++;
    }
    if (list_empty(&e->unstable)) {
        list_push_back(&s->unstable, &e->unstable);
    }
}

void chunk_entry_clean(struct chunk_store *s, struct chunk_entry *e)
{
    if (!list_empty(&e->dirty)) {
        list_remove(&e->dirty);
        s->dirty_count--;
    }
    list_remove(&e->unstable);
}

void chunk_entry_set(struct chunk_store *s, struct chunk_entry *e, struct chunk_version **place,
                     struct chunk_version *v)
{
    if (place == &e->pending) {
        s->pending_count -= e->pending != NULL ? 1 : 0;
        s->pending_count += v != NULL ? 1 : 0;
    }
    chunk_version_unref(*place);
    *place = v;
    if (place == &e->committed) {
        chunk_sums_changed(s, e);
    }
    if (!e->exists && v != NULL) {
        e->exists = true;
        s->exists_count++;
    }
}

void chunk_entry_chain(struct chunk_store *s, struct chunk_entry *e, uint32_t chain)
{
    if (e->chain != chain) {
        e->chain = chain;
        chunk_sums_changed(s, e);
    }
}

void chunk_entry_gone(struct chunk_store *s, struct chunk_entry *e)
{
    if (s->engine->rested == NULL) {
        entry_forget_rest(s, e); /* it goes with the chunk's file */
    }
    entry_cool(s, e);
    chunk_entry_set(s, e, &e->pending, NULL);
    chunk_entry_set(s, e, &e->committed, NULL);
    chunk_entry_account(s, e);
    chunk_entry_clean(s, e);
    s->exists_count -= e->exists ? 1 : 0;
    s->damaged_count -= e->damaged ? 1 : 0;
    e->exists = e->damaged = e->fresh = false;
    e->life++;
    e->newest_slot = e->stable_slot = e->syncing_slot = CHUNK_NO_SLOT;
    e->last_ver = e->seq = 0;
    e->written = e->stable = e->change;
    e->next_block = e->tail_bytes = 0;
    e->tail_block = 0;
    chunk_sync_wake(e, 0);
}

void chunk_entry_damage(struct chunk_store *s, struct chunk_entry *e)
{
    if (e->damaged || !e->exists) {
        return;
    }
    e->damaged = true;
    s->damaged_count++;
    if (s->failed == 0) {
        chunk_entry_changed(s, e);
    }
    if (s->failed == 0 && s->engine->damaged != NULL) {
        s->engine->damaged(s, e);
    }
    s->opt.user->ops->damaged(s->opt.user, e->item.key);
}

static bool entry_cold_enough(const struct chunk_entry *e)
{
    return list_empty(&e->queue) && list_empty(&e->pins) && list_empty(&e->dirty) && !e->syncing &&
           e->holds == 0 && e->pending == NULL; /* a commit comes without waiting */
}

static void version_cool(struct chunk_version *v)
{
    if (v != NULL && v->meta.table_block != 0 && v->refs == 1) {
        chunk_version_cool(v);
    }
}

/* Looks at a few of the oldest only: no call takes long. */
static void hot_trim(struct chunk_store *s)
{
    for (unsigned tries = 8; tries > 0 && s->hot_count > s->opt.open_files; tries--) {
        struct chunk_entry *e = LIST_ENTRY(s->lru.next, struct chunk_entry, lru);
        if (entry_cold_enough(e)) {
            version_cool(e->committed);
            version_cool(e->pending);
            entry_cool(s, e);
        } else {
            list_remove(&e->lru);
            list_push_back(&s->lru, &e->lru);
        }
    }
}

void chunk_entry_touch(struct chunk_store *s, struct chunk_entry *e)
{
    if (list_empty(&e->lru)) {
        s->hot_count++;
    }
    list_remove(&e->lru);
    list_push_back(&s->lru, &e->lru);
    hot_trim(s);
}

void chunk_entry_info(const struct chunk_entry *e, struct chunk_info *ret)
{
    *ret = (struct chunk_info){.key = e->item.key,
                               .chain = e->chain,
                               .last_ver = e->last_ver,
                               .flags = e->damaged ? CHUNK_DAMAGED : 0,
                               .unstable = e->stable != e->change,
                               .allocated_bytes = e->accounted_bytes};
    const struct chunk_version *newest = e->pending != NULL ? e->pending : e->committed;
    if (e->committed != NULL) {
        const struct chunk_meta *m = &e->committed->meta;
        ret->committed = m->identity;
        ret->length = m->length;
        ret->digest = m->digest;
        ret->tgen = m->tgen;
        ret->flags = (uint16_t)(ret->flags | m->flags);
    }
    if (e->pending != NULL) {
        const struct chunk_meta *m = &e->pending->meta;
        ret->has_pending = true;
        ret->pending = m->identity;
        ret->pending_base = m->base;
        ret->pending_length = m->length;
        ret->pending_digest = m->digest;
        ret->pending_kind = m->kind;
        ret->pending_tgen = m->tgen;
        ret->pending_flags = m->flags;
        if (e->committed == NULL) {
            ret->tgen = m->tgen;
        }
    }
    if (newest != NULL) {
        ret->recent_count = newest->meta.recent_count;
        memcpy(ret->recent, newest->recent, newest->meta.recent_count * sizeof *newest->recent);
    }
}

/* ---- Space that rests ---- */

void chunk_entry_lets_go(struct chunk_entry *e, uint64_t block, uint32_t count)
{
    if (e->tail_block >= block && e->tail_block - block < count) {
        e->tail_block = 0; /* it may come back for another cell: nothing is appended there */
    }
}

static struct chunk_rest *rest_new(struct chunk_store *s, struct chunk_entry *e, uint64_t block,
                                   uint32_t count, uint64_t change)
{
    chunk_entry_lets_go(e, block, count);
    struct chunk_rest *r = mem_alloc(sizeof *r);
    if (r == NULL) {
        return NULL; /* `file`: found again by the next start; `ram` without memory loses a page */
    }
    *r = (struct chunk_rest){.change = change,
                             .number = s->pin_number,
                             .at_ns = loop_now_ns(s->loop) + s->opt.rest_ms * UINT64_C(1000000),
                             .block = block,
                             .count = count};
    s->resting_bytes += (uint64_t)count * CHUNK_BLOCK;
    return r;
}

void chunk_rest_add(struct chunk_store *s, struct chunk_entry *e, uint64_t block, uint32_t count,
                    uint64_t change)
{
    struct chunk_rest *r = rest_new(s, e, block, count, change);
    if (r == NULL) {
        return;
    }
    list_push_back(&e->resting, &r->node);
    if (list_empty(&e->rests)) {
        list_push_back(&s->rests, &e->rests);
    }
}

static void rest_unsent(struct chunk_store *s, struct chunk_entry *e, struct chunk_run run)
{
    struct chunk_rest *r = rest_new(s, e, run.block, run.count, e->change);
    if (r != NULL) {
        r->e = e;
        e->holds++;
        list_push_back(&s->unsent, &r->node);
    }
}

void chunk_rest_version(struct chunk_store *s, struct chunk_entry *e, struct chunk_version *old,
                        const struct chunk_version *other)
{
    const struct chunk_version *others[CHUNK_OTHERS] = {other};
    bool unsent = old->unsent && s->engine->know != NULL;
    struct chunk_run run;
    for (uint32_t at = 0; chunk_run_next(old, others, &at, &run);) {
        if (unsent) {
            rest_unsent(s, e, run);
        } else {
            chunk_rest_add(s, e, run.block, run.count, e->change);
        }
    }
    if (old->meta.table_block != 0) {
        chunk_rest_add(s, e, old->meta.table_block, version_table_blocks(old), e->change);
    }
}

bool chunk_rest_due(const struct chunk_store *s, const struct chunk_entry *e)
{
    if (list_empty(&e->resting)) {
        return false;
    }
    const struct chunk_rest *r = LIST_ENTRY(e->resting.next, struct chunk_rest, node);
    bool pinned = !list_empty(&e->pins) &&
                  LIST_ENTRY(e->pins.next, struct chunk_pin, node)->number <= r->number;
    /* The index has one owner of a block at a time, in whatever order it is told of changes. */
    uint64_t sure = s->engine->know != NULL ? e->told : e->stable;
    return !pinned && r->change <= sure && r->at_ns <= loop_tick_ns(s->loop);
}

void chunk_entry_rested(struct chunk_store *s, struct chunk_entry *e)
{
    if (s->engine->rested != NULL) {
        s->engine->rested(s, e);
    }
}

void chunk_entry_change(struct chunk_work *w)
{
    if (w->captured == 0) {
        chunk_entry_changed(w->s, w->e);
        w->captured = w->e->change;
    }
}

void chunk_store_fail(struct chunk_store *s, int rc, const char *reason)
{
    if (s->failed != 0) {
        return;
    }
    s->failed = rc;
    s->super.lossy = true;
    if (s->super_file != NULL && !s->freed) {
        chunk_super_save(s, NULL); /* if it works at all: the next start verifies anyway */
    }
    s->opt.user->ops->failed(s->opt.user, rc, reason);
}
