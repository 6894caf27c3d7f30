/*
 * chunk/extent_rebuild.c -- the `extent` engine, while a store is made anew: every chunk that the
 * index or the journal tells of is looked at, one after the other in order of keys; what is good of
 * it goes into a new index, by the same way as in a round. So that one has all that a start needs:
 * units in use, sums, marks are made of the chunks, whatever the old one said.
 *
 * Good is what matches its checksums on the medium and lies in units that no chunk before it has.
 */
#include "chunk/extent_rebuild_priv.h"

#include "base/crc32c.h"
#include "base/env.h"

#include <string.h>

#define REBUILD_CELLS 64u /* read at once */
#define REBUILD_BATCH (1u << 20)
#define WORD 64u

struct chunk_rebuilding {
    struct chunk_loading *l;
    struct chunk_extent *x;
    struct chunk_rebuild *of;
    struct loop_task task;
    struct kv_snapshot *snapshot; /* of the old index */
    struct kv_need need;
    struct kv_fetch fetch;
    struct chunk_key from; /* chunks before it are done */
    bool last;             /* there is none from it on */
    uint64_t *used;        /* a bit for each unit that is somebody's */
    uint8_t *bytes;
    struct kv *made; /* the new one */
    struct kv_batch batch;
    struct kv_room room;
    struct kv_checkpoint checkpoint;
    struct kv_stop stop;
    uint64_t index, journal_index; /* of records that the new one need not see; that there are */
    int rc;
};

/* ---- The end ---- */

static void rebuild_over(struct chunk_rebuilding *r, int rc)
{
    struct chunk_loading *l = r->l;
    struct chunk_extent *x = r->x;
    kv_need_release(&r->need);
    r->snapshot = kv_snapshot_free(r->snapshot);
    kv_batch_fini(&r->batch);
    const struct chunk_rebuild *of = x->s->opt.rebuild;
    bool drop = of->without_journal || of->journal_broken || r->journal_index < r->index;
    rc = rc < 0 ? rc : chunk_salvage_finish(x, drop);
    if (rc < 0 && l->error.code == 0) {
        rc = err_set(&l->error, rc, "the new index of '%s'", x->s->directory);
    }
    mem_free(r->used);
    mem_free(r->bytes);
    mem_free(r);
    chunk_start_rebuilt(x, rc);
}

static void rebuild_stopped(struct kv_stop *stop)
{
    struct chunk_rebuilding *r = container_of(stop, struct chunk_rebuilding, stop);
    r->made = kv_free(r->made);
    rebuild_over(r, r->rc);
}

static void rebuild_end(struct chunk_rebuilding *r, int rc)
{
    r->rc = rc;
    if (r->made == NULL) {
        rebuild_over(r, rc);
        return;
    }
    r->stop.done = rebuild_stopped;
    kv_stop(r->made, &r->stop);
}

static void rebuild_stable(struct kv_checkpoint *c, int rc)
{
    rebuild_end(container_of(c, struct chunk_rebuilding, checkpoint), rc);
}

/* ---- The new index ---- */

static void rebuild_room(struct kv_room *room)
{
    struct chunk_rebuilding *r = container_of(room, struct chunk_rebuilding, room);
    loop_defer(r->x->s->loop, &r->task);
}

/* 0: it has all that was gathered. -ERR_busy: the task comes again. */
static int made_commit(struct chunk_rebuilding *r, bool end)
{
    uint64_t index = kv_applied_index(r->made);
    int rc = kv_commit(r->made, &r->batch, end ? base_max(index, r->index) : index);
    if (rc == 0) {
        kv_batch_clear(&r->batch);
    } else if (rc == -ERR_busy) {
        r->room.done = rebuild_room;
        kv_room(r->made, &r->room);
    }
    return rc;
}

static int made_open(struct chunk_rebuilding *r)
{
    struct chunk_store *s = r->x->s;
    CLEANUP(mem_freep) char *path = mem_printf("%s/" CHUNK_INDEX_MADE, s->directory);
    const struct tree_options opt = chunk_extent_index_options(&s->opt, path, &s->super.target);
    struct chunk_index_key key = chunk_key_about();
    const struct chunk_about about = {.version = CHUNK_ABOUT_VERSION};
    uint8_t bytes[CHUNK_ABOUT_BYTES];
    struct tree_found found;
    chunk_about_encode(&about, bytes);
    int rc = path == NULL ? -ENOMEM : tree_create(&opt, &r->l->error);
    rc = rc < 0 ? rc : tree_open(&opt, &r->made, &found, &r->l->error);
    return rc < 0
               ? rc
               : kv_batch_put(&r->batch, chunk_index_slice(&key), kv_slice_of(bytes, sizeof bytes));
}

/* ---- Contents ---- */

static void rebuild_lost(struct chunk_rebuilding *r, const struct chunk_loss *loss)
{
    r->of->lost_count++;
    if (r->of->lost != NULL) {
        r->of->lost(r->of, loss);
    }
}

static bool run_is_free(const struct chunk_rebuilding *r, struct chunk_run run)
{
    bool is = run.block < r->x->units && run.count <= r->x->units - run.block;
    for (uint32_t i = 0; i < run.count && is; i++) {
        uint64_t unit = run.block + i;
        is = (r->used[unit / WORD] >> unit % WORD & 1) == 0;
    }
    return is;
}

static void run_take(struct chunk_rebuilding *r, struct chunk_run run)
{
    for (uint32_t i = 0; i < run.count; i++) {
        uint64_t unit = run.block + i;
        r->used[unit / WORD] |= UINT64_C(1) << unit % WORD;
    }
}

/* From the medium: 0, -ERR_bad_crc, of the disk. */
static int cells_read(struct chunk_rebuilding *r, const struct chunk_version *v, uint32_t cell,
                      uint32_t count)
{
    uint64_t unit = v->block[cell];
    uint32_t len = (count - 1) * CHUNK_CELL + chunk_cell_bytes(v->meta.length, cell + count - 1);
    int64_t got = chunk_medium_now(r->x->s, chunk_space_container(r->x, unit)->file,
                                   chunk_space_offset(r->x, unit), r->bytes, len);
    if (got < (int64_t)len) {
        return got < 0 ? (int)got : -ERR_short_msg;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bytes = chunk_cell_bytes(v->meta.length, cell + i);
        if (crc32c(0, r->bytes + (size_t)i * CHUNK_CELL, bytes) != v->crc[cell + i]) {
            return -ERR_bad_crc;
        }
    }
    return 0;
}

static int cells_check(struct chunk_rebuilding *r, const struct chunk_version *v)
{
    uint32_t cells = chunk_cells(v->meta.length), n = 1;
    int rc = 0;
    for (uint32_t cell = 0; cell < cells && rc == 0; cell += n) {
        for (n = 1; n < REBUILD_CELLS && cell + n < cells && v->block[cell] != 0 &&
                    v->block[cell + n] == v->block[cell] + n;) {
            n++;
        }
        rc = v->block[cell] == 0 ? 0 : cells_read(r, v, cell, n);
    }
    return rc;
}

/* Why it is not kept; NULL: it is, and its units are its own. `base` (may be NULL) is kept, and
 * shares cells with it. */
static const char *content_judge(struct chunk_rebuilding *r, const struct chunk_version *v,
                                 const struct chunk_version *base)
{
    const struct chunk_version *others[CHUNK_OTHERS] = {base};
    struct chunk_run run;
    if (chunk_digest(v->meta.length, v->crc) != v->meta.digest) {
        return "its description is not whole";
    }
    for (uint32_t at = 0; chunk_run_next(v, others, &at, &run);) {
        if (!run_is_free(r, run)) {
            return "it lies where another chunk does";
        }
    }
    int rc = cells_check(r, v);
    if (rc < 0) {
        return rc == -ERR_bad_crc ? "its bytes do not match their checksums"
                                  : "its bytes cannot be read";
    }
    for (uint32_t at = 0; chunk_run_next(v, others, &at, &run);) {
        run_take(r, run);
    }
    return NULL;
}

/* ---- Chunks ---- */

static void chunk_forget_index(struct chunk_entry *e)
{
    chunk_version_unref(e->indexed.committed);
    chunk_version_unref(e->indexed.pending);
    e->indexed = (struct chunk_indexed){0};
}

/* There was a committed content of which nothing is known any more; who has found that before has
 * told of it then. */
static bool chunk_lost_before(const struct chunk_entry *e)
{
    return e->indexed.exists && e->indexed.damaged && e->indexed.committed == NULL;
}

static void rebuild_chunk(struct chunk_rebuilding *r, struct chunk_entry *e)
{
    struct chunk_state st = chunk_state_of(e);
    struct chunk_loss loss = {.key = e->item.key, .chain = e->chain};
    bool missing = e->damaged && e->committed == NULL && !chunk_lost_before(e);
    loss.why = st.committed != NULL ? content_judge(r, st.committed, NULL)
               : missing            ? "its description is lost"
                                    : NULL;
    if (loss.why != NULL) {
        st.committed = NULL;
        st.damaged = true;
        rebuild_lost(r, &loss);
    }
    loss.pending = true;
    loss.why = st.pending == NULL ? NULL : content_judge(r, st.pending, st.committed);
    if (loss.why != NULL) {
        st.pending = NULL;
        rebuild_lost(r, &loss);
    }
    chunk_forget_index(e);
    const struct chunk_shot shot = {.e = e, .state = st, .known = e->known, .exists = true};
    chunk_index_shot(&r->batch, &shot);
    r->index = base_max(r->index, e->known);
    r->of->chunks++;
    r->of->bytes += st.committed == NULL ? 0 : st.committed->meta.length;
}

/* The first chunk of the old index from r->from on: 1; 0: none. Without a head: its cells are there
 * alone. */
static int walk_index(struct chunk_rebuilding *r, struct chunk_key *ret, bool *ret_head)
{
    struct chunk_index_key low = chunk_key_part(r->from, CHUNK_PART_HEAD);
    const uint8_t end = (uint8_t)(low.bytes[0] + 1);
    const struct kv_iter_options opt = {
        .lower = chunk_index_slice(&low), .upper = kv_slice_of(&end, 1), .need = &r->need};
    CLEANUP(kv_iter_freep) struct kv_iter *it = NULL;
    unsigned part = 0;
    int rc = kv_iter_new(r->snapshot, &opt, &it);
    rc = rc < 0 ? rc : kv_iter_seek(it, chunk_index_slice(&low));
    if (rc != 1) {
        return rc;
    }
    rc = chunk_key_part_decode(it->key, ret, &part);
    *ret_head = part == CHUNK_PART_HEAD;
    return rc < 0 ? rc : 1;
}

/* The next one, from there or from memory, where the journal has put it: 1, and what is known of it
 * is read; 0: there are no more; or -ERR_need and other errors. */
static int walk_next(struct chunk_rebuilding *r, struct chunk_key *ret, struct chunk_entry **ret_e)
{
    struct chunk_store *s = r->x->s;
    const struct chunk_item *item = chunk_index_next(&s->index, r->from);
    bool head = false;
    int rc = r->last ? 0 : walk_index(r, ret, &head);
    if (r->last || rc < 0 || (rc == 0 && item == NULL)) {
        return rc;
    }
    if (item != NULL && (rc == 0 || chunk_key_compare(item->key, *ret) <= 0)) {
        *ret = item->key;
        head = true;
    }
    *ret_e = head ? chunk_entry_get(s, *ret, true) : NULL;
    if (!head) {
        return 1;
    }
    if (*ret_e == NULL) {
        return -ENOMEM;
    }
    rc = (*ret_e)->loaded ? 0 : chunk_entry_read(r->x, *ret_e, &r->need);
    return rc < 0 ? rc : 1;
}

/* One that the journal has touched stays until the start is over. */
static void walk_past(struct chunk_rebuilding *r, struct chunk_key key, struct chunk_entry *e)
{
    struct chunk_store *s = r->x->s;
    r->from = key;
    r->last = !chunk_key_step(&r->from);
    if (e != NULL && e->holds == 0 && e->touched == 0) {
        chunk_entry_clean(s, e);
        chunk_index_remove(&s->index, key);
        chunk_entry_free(s, e);
    }
}

static void rebuild_fetched(struct kv_fetch *f, int rc)
{
    struct chunk_rebuilding *r = container_of(f, struct chunk_rebuilding, fetch);
    if (rc < 0) {
        rebuild_end(r, rc);
    } else {
        loop_defer(r->x->s->loop, &r->task);
    }
}

/* All are in the new index but for the last batch. */
static void rebuild_finish(struct chunk_rebuilding *r)
{
    int rc = made_commit(r, true);
    if (rc == 0) {
        r->checkpoint.done = rebuild_stable;
        kv_checkpoint(r->made, &r->checkpoint);
    } else if (rc != -ERR_busy) {
        rebuild_end(r, rc);
    }
}

/* A chunk at a time. */
static void rebuild_step(struct loop_task *t)
{
    struct chunk_rebuilding *r = container_of(t, struct chunk_rebuilding, task);
    struct chunk_entry *e = NULL;
    struct chunk_key key = {0};
    int rc = r->batch.len < REBUILD_BATCH ? 0 : made_commit(r, false);
    rc = rc < 0 ? rc : walk_next(r, &key, &e);
    if (rc == -ERR_need) {
        r->fetch = (struct kv_fetch){.need = &r->need, .done = rebuild_fetched};
        kv_fetch(r->x->index, &r->fetch);
    } else if (rc == 0) {
        rebuild_finish(r);
    } else if (rc == 1) {
        kv_need_release(&r->need);
        if (e == NULL) {
            rebuild_lost(r, &(struct chunk_loss){
                                .key = key, .gone = true, .why = "only a part of it is left"});
        } else if (e->exists) {
            rebuild_chunk(r, e);
        }
        walk_past(r, key, e);
        loop_defer(r->x->s->loop, &r->task);
    } else if (rc != -ERR_busy) {
        rebuild_end(r, rc);
    }
}

/* ---- Beginning ---- */

void chunk_rebuild_walk(struct chunk_loading *l, uint64_t journal_index)
{
    struct chunk_extent *x = l->x;
    struct chunk_rebuilding *r = mem_zalloc(sizeof *r);
    if (r == NULL) {
        chunk_start_rebuilt(x, -ENOMEM);
        return;
    }
    r->l = l;
    r->x = x;
    r->of = x->s->opt.rebuild;
    r->task.run = rebuild_step;
    r->journal_index = journal_index;
    r->index = base_max(kv_applied_index(x->index), journal_index);
    r->used = mem_calloc((size_t)(x->units / WORD + 1), sizeof *r->used);
    r->bytes = mem_aligned(CHUNK_UNIT, (size_t)REBUILD_CELLS * CHUNK_CELL);
    int rc =
        r->used == NULL || r->bytes == NULL ? -ENOMEM : kv_snapshot_new(x->index, &r->snapshot);
    rc = rc < 0 ? rc : made_open(r);
    for (size_t i = 0; i < x->container_count && rc == 0; i++) {
        run_take(r, (struct chunk_run){.block = i * CHUNK_CONTAINER_UNITS, .count = 1});
    }
    if (rc < 0) {
        rebuild_end(r, rc);
    } else {
        loop_defer(x->s->loop, &r->task);
    }
}

/* Where the index is whole it knows all that the journal has up to its number. Where a part of it
 * is an older state each chunk's head says what it knows, and the journal may have the rest. But
 * one that breaks off may tell of a chunk, and not of its removal: then only what is behind the
 * index is believed. */
void chunk_rebuild_begin(struct chunk_loading *l)
{
    struct chunk_rebuild *of = l->x->s->opt.rebuild;
    uint64_t applied = l->begin;
    int rc = 0;
    l->begin = of->index_sound ? applied : 0;
    if (!of->without_journal) {
        rc = chunk_replay_look(l);
    }
    l->begin = of->journal_broken ? applied : l->begin;
    if (rc < 0) {
        chunk_start_rebuilt(l->x, rc);
    } else {
        chunk_load_entries(l);
    }
}
