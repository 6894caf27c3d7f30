/*
 * chunk/file_sync.c -- the `file` engine: what makes things stable, syncs of entries (one for all
 * that wait) and rounds in the background; and space that has rested.
 *
 * A sync of an entry takes its turn to write the record when memory is ahead of it, then leaves the
 * queue: updates go on while the file is being synced.
 */
#include "chunk/file_priv.h"

#include <string.h>

#define STOP_TRIES 8u
#define RELEASES_MAX 64u /* of a tick */

static void sync_entry(struct chunk_store *s, struct chunk_entry *e);
static void sync_pump(struct chunk_store *s);

/* ---- Entries ---- */

static void flush_over(struct chunk_work *w, int rc)
{
    struct chunk_store *s = w->s;
    struct chunk_entry *e = w->e;
    chunk_work_leave(w);
    e->syncing = false;
    e->holds--;
    s->sync_active--;
    chunk_work_free(w);
    chunk_sync_wake(e, rc);
    if (!list_empty(&e->waiters)) {
        sync_entry(s, e);
    }
    chunk_entry_settle(s, e);
    sync_pump(s);
}

static void flush_synced(struct chunk_work *w, int64_t got)
{
    struct chunk_store *s = w->s;
    struct chunk_entry *e = w->e;
    chunk_file_unref(w->own_pin.file);
    if (got < 0) {
        chunk_store_fail(s, (int)got, "a sync failed");
    }
    if (w->life == e->life) {
        e->syncing_slot = CHUNK_NO_SLOT;
        if (got >= 0) {
            e->stable_slot = w->slot;
            e->stable = w->captured;
            e->fresh = false;
        }
        if (e->stable == e->change) {
            chunk_entry_clean(s, e);
        }
    }
    flush_over(w, got < 0 ? (int)got : 0);
}

static void flush_file(struct chunk_work *w)
{
    struct chunk_entry *e = w->e;
    w->slot = e->newest_slot;
    w->captured = e->written;
    w->life = e->life;
    w->own_pin.file = e->file;
    e->file->refs++;
    e->syncing_slot = w->slot;
    w->io = (struct disk_req){.op = e->fresh ? DISK_SYNC_ALL : DISK_SYNC, .file = e->file->file};
    chunk_work_leave(w);
    chunk_work_io(w, &w->io, flush_synced);
}

static void flush_recorded(struct chunk_work *w, int rc)
{
    if (rc < 0) {
        flush_over(w, rc);
        return;
    }
    flush_file(w);
}

/* Does the round wait for this entry? Then what is written now is stable before the round is over,
 * and belongs to the era that it ends. */
static bool flush_of_round(const struct chunk_store *s, const struct chunk_entry *e)
{
    LIST_FOR_EACH(node, &e->waiters)
    {
        const struct chunk_waiter *waiter = LIST_ENTRY(node, struct chunk_waiter, node);
        if (s->round_active && waiter->work == s->round_sync.work) {
            return true;
        }
    }
    return false;
}

static void flush_hot(struct chunk_work *w, int rc)
{
    struct chunk_entry *e = w->e;
    if (rc < 0) {
        flush_over(w, rc);
        return;
    }
    if (e->written == e->change) {
        flush_file(w);
        return;
    }
    struct chunk_state st = chunk_state_of(e);
    w->captured = e->change;
    w->era = flush_of_round(w->s, e) ? w->s->round_era - 1 : 0;
    chunk_file_record(w, &st, flush_recorded);
}

/* A table that cannot be read is no reason against a record that says so. */
static void flush_hot_enough(struct chunk_work *w, int rc)
{
    bool damaged = rc < 0 && err_is(rc, ERR_corrupt) && w->e->file != NULL;
    flush_hot(w, damaged ? 0 : rc);
}

static void flush_begin(struct chunk_work *w)
{
    struct chunk_entry *e = w->e;
    if (w->s->failed != 0) {
        flush_over(w, -ERR_failed_before);
    } else if (!e->exists || e->stable == e->change) {
        flush_over(w, 0);
    } else {
        chunk_file_hot(w, false, flush_hot_enough);
    }
}

static void sync_pump(struct chunk_store *s)
{
    while (s->sync_active < s->opt.parallel && !list_empty(&s->sync_queue)) {
        struct chunk_work *w = chunk_work_new(s);
        if (w == NULL) {
            return; /* the next tick tries again */
        }
        struct list *node = list_pop_front(&s->sync_queue);
        struct chunk_entry *e = LIST_ENTRY(node, struct chunk_entry, sync);
        e->syncing = true;
        e->holds++;
        s->sync_active++;
        w->begin = flush_begin;
        chunk_work_enqueue(w, e);
    }
}

static void sync_entry(struct chunk_store *s, struct chunk_entry *e)
{
    if (!e->syncing && list_empty(&e->sync)) {
        list_push_back(&s->sync_queue, &e->sync);
    }
    sync_pump(s);
}

/* ---- Requests ---- */

static void sync_dirs(struct chunk_work *w);

static void sync_dir_done(struct chunk_work *w, int64_t got)
{
    mem_freep(&w->path);
    if (got < 0) {
        chunk_store_fail(w->s, (int)got, "a directory could not be synced");
        w->finish(w, (int)got);
        return;
    }
    w->dir++;
    sync_dirs(w);
}

static void sync_dirs(struct chunk_work *w)
{
    struct chunk_store *s = w->s;
    uint32_t dirs = s->super.fan_out * s->super.fan_out;
    while (w->dir < dirs && (w->dirs[w->dir / 64] >> (w->dir % 64) & 1) == 0) {
        w->dir++;
    }
    if (w->dir == dirs) {
        w->finish(w, 0);
        return;
    }
    w->path = chunk_directory_path(s, w->dir);
    if (w->path == NULL) {
        for (uint32_t dir = w->dir; dir < dirs; dir++) {
            s->dirty_dirs[dir / 64] |= w->dirs[dir / 64] & UINT64_C(1) << (dir % 64);
        }
        s->dirs_dirty = true;
        w->finish(w, -ENOMEM);
        return;
    }
    w->io = (struct disk_req){.op = DISK_SYNC_DIR, .path = w->path};
    chunk_work_io(w, &w->io, sync_dir_done);
}

/* Directories that changed, and those that a sync of others is still at. */
static bool sync_take_dirs(struct chunk_store *s, uint64_t *dirs, size_t words)
{
    bool any = s->dirs_dirty;
    memcpy(dirs, s->dirty_dirs, words * sizeof *dirs);
    LIST_FOR_EACH(node, &s->works)
    {
        const struct chunk_work *other = LIST_ENTRY(node, struct chunk_work, all);
        for (size_t i = 0; other->dirs != NULL && other->dirs != dirs && i < words; i++) {
            dirs[i] |= other->dirs[i];
            any = true;
        }
    }
    memset(s->dirty_dirs, 0, words * sizeof *dirs);
    s->dirs_dirty = false;
    return any;
}

/* Nothing is waited for any more. */
static void sync_waited(struct chunk_work *w)
{
    struct chunk_store *s = w->s;
    if (w->kept < 0 || w->of.sync->scope != CHUNK_SYNC_ALL) {
        w->finish(w, w->kept);
        return;
    }
    size_t words = ((size_t)s->super.fan_out * s->super.fan_out + 63) / 64;
    w->dirs = mem_calloc(words, sizeof *w->dirs);
    if (w->dirs == NULL) {
        w->finish(w, -ENOMEM);
        return;
    }
    if (!sync_take_dirs(s, w->dirs, words)) {
        w->finish(w, 0);
        return;
    }
    sync_dirs(w);
}

static void sync_wait(struct chunk_store *s, struct chunk_work *w, struct chunk_entry *e)
{
    struct chunk_waiter *waiter = &w->waiter[w->waiting++];
    *waiter = (struct chunk_waiter){.work = w, .change = e->change};
    list_push_back(&e->waiters, &waiter->node);
    sync_entry(s, e);
}

static bool sync_covers(const struct chunk_sync *c, const struct chunk_entry *e)
{
    return c->scope == CHUNK_SYNC_ALL || e->item.key.data_id == c->data_id;
}

static void sync_attach(struct chunk_store *s, struct chunk_work *w)
{
    const struct chunk_sync *c = w->of.sync;
    /* Keys may come twice: the dirty ones among them may be the last. */
    size_t max = c->scope == CHUNK_SYNC_KEYS ? c->key_count : s->dirty_count;
    w->waiter = mem_calloc(max + 1, sizeof *w->waiter);
    if (w->waiter == NULL) {
        w->kept = -ENOMEM;
        return;
    }
    /* The flushes that this starts begin later: the list does not change under the loop. */
    if (c->scope != CHUNK_SYNC_KEYS) {
        LIST_FOR_EACH(node, &s->dirty)
        {
            struct chunk_entry *e = LIST_ENTRY(node, struct chunk_entry, dirty);
            if (sync_covers(c, e)) {
                sync_wait(s, w, e);
            }
        }
        return;
    }
    for (size_t i = 0; i < c->key_count && w->waiting < max; i++) {
        struct chunk_entry *e = chunk_entry_get(s, c->key[i], false);
        if (e != NULL && !list_empty(&e->dirty)) {
            sync_wait(s, w, e);
        }
    }
}

void chunk_file_sync(struct chunk_store *s, struct chunk_work *w)
{
    w->begin = sync_waited;
    sync_attach(s, w);
    if (w->waiting == 0) {
        chunk_work_ready(w);
    }
}

/* ---- Rounds ---- */

static void round_done(struct chunk_sync *c, int rc)
{
    struct chunk_store *s = container_of(c, struct chunk_store, round_sync);
    s->round_active = false;
    if (rc == 0) {
        s->super.stable_era = s->round_era;
        chunk_super_save(s, NULL);
    } else if (s->stopping && (s->failed != 0 || ++s->stop_tries >= STOP_TRIES)) {
        s->stop_rc = rc;
        s->stop_failed = true;
    }
    chunk_stop_check(s);
}

bool chunk_file_settled(const struct chunk_store *s)
{
    return list_empty(&s->dirty) && !s->dirs_dirty;
}

/* Records made from now on belong to a new era. Those of older ones are written, or their entries
 * are dirty already, so that the sync of all covers them. What was synced one by one leaves nothing
 * to sync; but as long as its era is not over, a start takes it for what may be torn. */
void chunk_file_round(struct chunk_store *s)
{
    bool over = s->recorded_era < s->super.stable_era;
    if (s->round_active || s->failed != 0 || (chunk_file_settled(s) && over)) {
        return;
    }
    s->round_active = true;
    s->round_era = ++s->era;
    s->round_at_ns = loop_now_ns(s->loop);
    s->round_sync = (struct chunk_sync){.done = round_done, .scope = CHUNK_SYNC_ALL};
    chunk_sync_submit(s, &s->round_sync);
}

/* ---- Space that has rested ---- */

static void release_finish(struct chunk_work *w, int rc)
{
    (void)rc; /* what is left is tried again, or found by the next start */
    w->e->holds--;
    w->e->releasing = false;
    struct chunk_store *s = w->s;
    struct chunk_entry *e = w->e;
    chunk_work_free(w);
    chunk_entry_settle(s, e);
}

static void release_next(struct chunk_work *w, int rc);

static void release_punched(struct chunk_work *w, int64_t got)
{
    struct chunk_store *s = w->s;
    struct list *node = list_pop_front(&w->e->resting);
    struct chunk_rest *r = LIST_ENTRY(node, struct chunk_rest, node);
    uint64_t bytes = (uint64_t)r->count * CHUNK_BLOCK;
    s->resting_bytes -= bytes;
    s->free_bytes += got < 0 ? 0 : bytes;
    mem_free(r);
    if (list_empty(&w->e->resting)) {
        list_remove(&w->e->rests);
    }
    release_next(w, got < 0 ? (int)got : 0);
}

static void release_next(struct chunk_work *w, int rc)
{
    struct chunk_entry *e = w->e;
    if (rc < 0 || !e->exists || !chunk_rest_due(w->s, e)) {
        chunk_work_end(w, rc);
        return;
    }
    const struct chunk_rest *r = LIST_ENTRY(e->resting.next, struct chunk_rest, node);
    w->io = (struct disk_req){.op = DISK_PUNCH,
                              .file = e->file->file,
                              .offset = r->block * CHUNK_BLOCK,
                              .len = (uint64_t)r->count * CHUNK_BLOCK};
    chunk_work_io(w, &w->io, release_punched);
}

static void release_begin(struct chunk_work *w)
{
    if (!w->e->exists) {
        chunk_work_end(w, 0);
        return;
    }
    chunk_file_hot(w, false, release_next);
}

static void release_some(struct chunk_store *s)
{
    for (unsigned i = 0; i < RELEASES_MAX && !list_empty(&s->rests); i++) {
        struct chunk_entry *e = LIST_ENTRY(s->rests.next, struct chunk_entry, rests);
        list_remove(&e->rests);
        list_push_back(&s->rests, &e->rests);
        if (e->releasing || !e->exists || !chunk_rest_due(s, e)) {
            continue;
        }
        struct chunk_work *w = chunk_work_new(s);
        if (w == NULL) {
            return;
        }
        e->releasing = true;
        e->holds++;
        w->begin = release_begin;
        w->finish = release_finish;
        chunk_work_enqueue(w, e);
    }
}

/* ---- Once a second ---- */

void chunk_file_tick(struct chunk_store *s)
{
    if (s->stopping) { /* for what there was no memory, only */
        sync_pump(s);
        return;
    }
    uint64_t now = loop_now_ns(s->loop);
    bool many = s->dirty_count >= s->opt.open_files / 2;
    if (many || now - s->round_at_ns >= (uint64_t)s->opt.flush_ms * 1000000) {
        chunk_file_round(s);
    }
    sync_pump(s);
    release_some(s);
}
