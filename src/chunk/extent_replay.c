/*
 * chunk/extent_replay.c -- the `extent` engine, while it starts: what the journal tells is done
 * once more, in memory only. Twice it is read: first, what is stable is looked for, and which
 * chunks it tells of, so that what the index has of them can be had. A third time, if it has cells
 * that belong into containers: see extent_place.c.
 *
 * Records that a chunk's head in the index knows are passed over. A record may begin from a content
 * that is not to be had any more, because a later one, which the index knows, has deleted it: such
 * a chunk is broken until the deletion, or a whole content, comes.
 */
#include "chunk/extent_rebuild_priv.h"
#include "chunk/extent_room_priv.h"

#include <string.h>

#define RECORD_BYTES_MAX ((size_t)64 << 10)
#define SEGMENTS_REUSED 2u              /* so that what gives space back needs none */
#define QUEUE_BYTES ((size_t)256 << 20) /* of all works that there can be, about */

static struct chunk_loading *loading_of(struct journal_user *u)
{
    return container_of(u, struct chunk_extent, user)->loading;
}

/* ---- What is touched ---- */

static void replay_changed(struct chunk_store *s, struct chunk_entry *e, uint64_t index)
{
    chunk_entry_changed(s, e);
    e->written = e->change;
    e->known = index;
}

/* As it was before the first record that may not be stable. */
static int replay_touch(struct chunk_loading *l, struct chunk_entry *e, uint64_t index)
{
    if (index <= l->stable || e->touched != 0) {
        return 0;
    }
    int rc = mem_grow(&l->touched, &l->touched_capacity, l->touched_count + 1, sizeof *l->touched);
    if (rc < 0) {
        return rc;
    }
    struct chunk_touched *t = &l->touched[l->touched_count++];
    *t = (struct chunk_touched){.e = e, .was = chunk_state_of(e), .existed = e->exists};
    chunk_version_ref(t->was.committed);
    chunk_version_ref(t->was.pending);
    e->holds++;
    e->touched = (uint32_t)l->touched_count;
    return 0;
}

static int replay_break(struct chunk_loading *l, struct chunk_entry *e)
{
    struct chunk_store *s = l->x->s;
    int rc = e->broken ? 0
                       : mem_grow(&l->broken, &l->broken_capacity, l->broken_count + 1,
                                  sizeof(struct chunk_entry *));
    if (rc < 0) {
        return rc;
    }
    if (!e->broken) {
        l->broken[l->broken_count++] = e;
        e->holds++;
    }
    e->broken = true;
    chunk_entry_set(s, e, &e->pending, NULL);
    chunk_entry_set(s, e, &e->committed, NULL);
    return 0;
}

static void replay_damaged(struct chunk_store *s, struct chunk_entry *e, bool damaged)
{
    s->damaged_count -= e->damaged ? 1 : 0;
    s->damaged_count += damaged ? 1 : 0;
    e->damaged = damaged;
}

static void replay_exists(struct chunk_store *s, struct chunk_entry *e)
{
    if (!e->exists) {
        e->exists = true;
        s->exists_count++;
    }
}

/* ---- Updates ---- */

static void replay_install(struct chunk_store *s, struct chunk_entry *e,
                           const struct chunk_delta *d, struct chunk_version *v)
{
    chunk_entry_chain(s, e, d->chain);
    e->last_ver = d->last_ver;
    replay_exists(s, e);
    replay_damaged(s, e, d->damaged);
    if (d->install) {
        chunk_entry_set(s, e, &e->pending, NULL);
        chunk_entry_set(s, e, &e->committed, v);
        e->broken = false; /* the digest fits: it is all there */
    } else {
        chunk_entry_set(s, e, &e->pending, v);
    }
}

static int replay_build(const struct journal_record *r, const struct chunk_entry *e,
                        struct chunk_delta *d, struct chunk_version *v)
{
    struct chunk_delta_base base = {0};
    const struct chunk_version *old = e->committed;
    if (d->meta.kind != CHUNK_WHOLE && old != NULL) {
        base = (struct chunk_delta_base){
            .cells = {.length = old->meta.length, .crc = old->crc, .unit = old->block},
            .recent = old->recent,
            .recent_count = old->meta.recent_count};
    }
    struct chunk_cells to = {.length = d->meta.length, .crc = v->crc, .unit = v->block};
    int rc = chunk_delta_apply(r->bytes, r->len, &base, d, &to);
    if (rc == 0) {
        v->meta = d->meta;
        memcpy(v->recent, d->recent, d->meta.recent_count * sizeof *v->recent);
    }
    return rc;
}

static int replay_update(struct chunk_loading *l, const struct journal_record *r)
{
    struct chunk_store *s = l->x->s;
    CLEANUP(mem_freep) struct chunk_delta *d = mem_zalloc(sizeof *d);
    if (d == NULL) {
        return -ENOMEM;
    }
    int rc = chunk_delta_decode(CHUNK_JOURNAL_UPDATE, r->bytes, r->len, d);
    if (rc < 0) {
        return rc;
    }
    struct chunk_entry *e = chunk_entry_get(s, d->key, true);
    if (e == NULL) {
        return -ENOMEM;
    }
    if (r->index <= e->known) {
        return 0;
    }
    struct chunk_version *v = chunk_version_new(chunk_cells(d->meta.length), d->meta.recent_count);
    rc = v == NULL ? -ENOMEM : replay_touch(l, e, r->index);
    rc = rc < 0 ? rc : replay_build(r, e, d, v);
    if (rc == 0) {
        replay_install(s, e, d, v);
        replay_changed(s, e, r->index);
        return 0;
    }
    chunk_version_unref(v);
    /* Who made the base is not known either where the base is not. */
    if (rc == -ERR_bad_crc || (rc == -ERR_bad_value && e->committed == NULL)) {
        chunk_entry_chain(s, e, d->chain);
        e->last_ver = base_max(e->last_ver, d->last_ver);
        replay_exists(s, e);
        replay_changed(s, e, r->index);
        rc = replay_break(l, e);
    }
    return rc;
}

/* ---- Commits, changes, deletions ---- */

static int replay_commit(struct chunk_loading *l, const struct chunk_listed *one, uint64_t index)
{
    struct chunk_store *s = l->x->s;
    struct chunk_entry *e = chunk_entry_get(s, one->key, false);
    if (e == NULL || !e->exists || index <= e->known) {
        return 0;
    }
    int rc = replay_touch(l, e, index);
    if (rc < 0) {
        return rc;
    }
    replay_changed(s, e, index);
    if (e->pending != NULL && chunk_identity_equal(e->pending->meta.identity, one->identity)) {
        struct chunk_version *v = chunk_version_ref(e->pending);
        chunk_entry_set(s, e, &e->pending, NULL);
        chunk_entry_set(s, e, &e->committed, v);
        e->broken = false;
        if (v->meta.whole) {
            replay_damaged(s, e, chunk_version_told(v));
        }
        return 0;
    }
    bool done =
        e->committed != NULL && chunk_identity_equal(e->committed->meta.identity, one->identity);
    return done ? 0 : replay_break(l, e);
}

static int replay_change(struct chunk_loading *l, const struct journal_record *r)
{
    struct chunk_store *s = l->x->s;
    CLEANUP(mem_freep) struct chunk_delta *d = mem_zalloc(sizeof *d);
    int rc = d == NULL ? -ENOMEM : chunk_delta_decode(CHUNK_JOURNAL_CHANGE, r->bytes, r->len, d);
    struct chunk_entry *e = rc < 0 ? NULL : chunk_entry_get(s, d->key, false);
    if (e == NULL || !e->exists || r->index <= e->known) {
        return rc;
    }
    rc = replay_touch(l, e, r->index);
    if (rc < 0) {
        return rc;
    }
    chunk_entry_chain(s, e, d->chain);
    e->last_ver = d->last_ver;
    replay_damaged(s, e, d->damaged);
    if (d->drops) {
        chunk_entry_set(s, e, &e->pending, NULL);
    }
    struct chunk_version *flagged = e->committed != NULL ? e->committed : e->pending;
    if (flagged != NULL) {
        flagged->meta.flags = d->flags;
    }
    replay_changed(s, e, r->index);
    return 0;
}

static int replay_delete(struct chunk_loading *l, struct chunk_key key, uint64_t index)
{
    struct chunk_store *s = l->x->s;
    struct chunk_entry *e = chunk_entry_get(s, key, false);
    if (e == NULL || !e->exists || index <= e->known) {
        return 0;
    }
    int rc = replay_touch(l, e, index);
    if (rc < 0) {
        return rc;
    }
    chunk_entry_set(s, e, &e->pending, NULL);
    chunk_entry_set(s, e, &e->committed, NULL);
    replay_damaged(s, e, false);
    e->exists = e->broken = false;
    s->exists_count--;
    e->last_ver = 0;
    replay_changed(s, e, index);
    if (!e->kept) {
        e->kept = true;
        e->holds++;
    }
    return 0;
}

static int replay_list(struct chunk_loading *l, const struct journal_record *r)
{
    CLEANUP(mem_freep) struct chunk_listed *listed = mem_calloc(CHUNK_LIST_MAX, sizeof *listed);
    size_t count = 0;
    int rc =
        listed == NULL ? -ENOMEM : chunk_list_decode(r->type, r->bytes, r->len, listed, &count);
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = r->type == CHUNK_JOURNAL_COMMIT ? replay_commit(l, &listed[i], r->index)
                                             : replay_delete(l, listed[i].key, r->index);
    }
    return rc;
}

/* ---- Records ---- */

static int look_key(struct chunk_loading *l, struct chunk_key key)
{
    return chunk_entry_get(l->x->s, key, true) == NULL ? -ENOMEM : 0;
}

static int look_delta(struct chunk_loading *l, const struct journal_record *r)
{
    CLEANUP(mem_freep) struct chunk_delta *d = mem_zalloc(sizeof *d);
    int rc = d == NULL ? -ENOMEM : chunk_delta_decode(r->type, r->bytes, r->len, d);
    if (rc < 0) {
        return rc;
    }
    l->carried = l->carried || d->carried_bytes > 0;
    return look_key(l, d->key);
}

static int look_list(struct chunk_loading *l, const struct journal_record *r)
{
    CLEANUP(mem_freep) struct chunk_listed *listed = mem_calloc(CHUNK_LIST_MAX, sizeof *listed);
    size_t count = 0;
    int rc =
        listed == NULL ? -ENOMEM : chunk_list_decode(r->type, r->bytes, r->len, listed, &count);
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = look_key(l, listed[i].key);
    }
    return rc;
}

static int replay_look(struct chunk_loading *l, const struct journal_record *r)
{
    uint64_t index = 0;
    int rc = 0;
    if (r->type == CHUNK_JOURNAL_STABLE) {
        rc = chunk_stable_decode(r->bytes, r->len, &index);
        l->stable = base_max(l->stable, index);
    } else if (r->index <= l->begin) {
        l->doubted = r->index;
    } else {
        bool list = r->type == CHUNK_JOURNAL_COMMIT || r->type == CHUNK_JOURNAL_DELETE;
        rc = list ? look_list(l, r) : look_delta(l, r);
    }
    return rc;
}

static int replay_record(struct journal_user *u, const struct journal_record *r)
{
    struct chunk_loading *l = loading_of(u);
    if (l->looking || l->placing) {
        return l->looking ? replay_look(l, r) : chunk_place_record(l, r);
    }
    if (!l->seen && r->index > l->begin + 1 && l->x->s->opt.rebuild == NULL) {
        return -ERR_bad_sequence; /* what is between the index and this has been lost */
    }
    l->seen = true;
    if (r->index <= l->begin) {
        return 0;
    }
    switch (r->type) {
    case CHUNK_JOURNAL_UPDATE:
        return replay_update(l, r);
    case CHUNK_JOURNAL_CHANGE:
        return replay_change(l, r);
    case CHUNK_JOURNAL_COMMIT:
    case CHUNK_JOURNAL_DELETE:
        return replay_list(l, r);
    case CHUNK_JOURNAL_STABLE:
        return 0;
    default:
        return -ERR_bad_value;
    }
}

static int replay_cut(struct journal_user *u, uint64_t index)
{
    (void)u;
    (void)index;
    return -ERR_bad_value; /* nothing is ever taken back */
}

static const struct journal_user_ops replay_ops = {
    .record = replay_record, .cut = replay_cut, .failed = chunk_extent_journal_failed};

static int replay_open(struct chunk_extent *x, struct err *e)
{
    CLEANUP(mem_freep) char *directory = mem_printf("%s/journal", x->s->directory);
    struct journal_options opt = {.env = x->s->opt.env,
                                  .directory = directory,
                                  .name = "chunk_journal",
                                  .user = &x->user,
                                  .segment_bytes = chunk_room_segment(x->s),
                                  .least_bytes = 4 * RECORD_BYTES_MAX,
                                  .keep_segments = SEGMENTS_REUSED,
                                  .max_record_bytes = RECORD_BYTES_MAX,
                                  .queue_records = (size_t)2 * CHUNK_WORKS_MAX,
                                  .queue_bytes = QUEUE_BYTES,
                                  .salvage = x->s->opt.rebuild != NULL,
                                  .first_index =
                                      base_max(x->loading->begin, x->loading->about.known) + 1};
    memcpy(opt.owner, x->s->super.target.bytes, sizeof opt.owner);
    return directory == NULL ? -ENOMEM : journal_open(&opt, &x->journal, e);
}

/* While the store is made anew nothing is appended: it is closed at once. */
static int replay_close(struct chunk_loading *l)
{
    struct chunk_rebuild *rebuild = l->x->s->opt.rebuild;
    struct journal_info info;
    journal_info(l->x->journal, &info);
    l->journal_index = info.next_index - 1;
    if (rebuild != NULL) {
        rebuild->journal_broken = rebuild->journal_broken || info.gave_up;
    }
    l->x->journal = journal_free(l->x->journal);
    return 0;
}

int chunk_replay_look(struct chunk_loading *l)
{
    struct chunk_extent *x = l->x;
    struct chunk_rebuild *rebuild = x->s->opt.rebuild;
    x->user.ops = &replay_ops;
    l->looking = true;
    int rc = replay_open(x, &l->error);
    rc = rc < 0 ? rc : replay_close(l);
    l->looking = false;
    if (rc == -ENOENT && rebuild != NULL) {
        rebuild->journal_broken = rebuild->without_journal = true;
        rc = 0;
    }
    /* The index has records that none says are stable: of a start that did not come to its end. */
    l->doubted = l->doubted > l->stable ? l->doubted : 0;
    return rc;
}

/* What is left of all those contents is known now. Of an index of which parts are older a journal
 * that breaks off may tell of units that others have by now: then nothing is put anywhere. */
static int replay_place(struct chunk_loading *l)
{
    struct chunk_extent *x = l->x;
    const struct chunk_rebuild *rebuild = x->s->opt.rebuild;
    bool certain = rebuild == NULL || rebuild->index_sound || !rebuild->journal_broken;
    if (!l->carried || !certain) {
        return 0;
    }
    x->journal = journal_free(x->journal);
    l->placing = true;
    int rc = replay_open(x, &l->error);
    l->placing = false;
    return rc;
}

int chunk_replay(struct chunk_loading *l)
{
    struct chunk_extent *x = l->x;
    const struct chunk_rebuild *rebuild = x->s->opt.rebuild;
    int rc = rebuild != NULL && rebuild->without_journal ? 0 : replay_open(x, &l->error);
    rc = rc < 0 || x->journal == NULL ? rc : replay_place(l);
    if (rc < 0 || x->journal == NULL) {
        return rc;
    }
    if (rebuild != NULL) {
        return replay_close(l);
    }
    struct journal_info info;
    journal_info(x->journal, &info);
    l->journal_index = info.next_index - 1;
    return info.next_index > base_max(l->begin, l->about.known)
               ? 0
               : err_set(&l->error, -ERR_bad_sequence,
                         "the journal of '%s' ends before what the index has of it",
                         x->s->directory);
}
