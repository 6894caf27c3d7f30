/*
 * chunk/extent_record.c -- the `extent` engine: what is appended to the journal. An update or a
 * change has one record; commits are told of many at a time, before anything else is told of the
 * same chunk, and when a round begins.
 */
#include "chunk/extent_index_priv.h"

#include <string.h>

#define FLIPS_MANY 64u
#define REMOVED_MANY 1024u /* chunks that the index does not know as they are */

/* ---- Appending ---- */

static void append_free(struct chunk_append *a)
{
    for (size_t i = 0; i < a->flip_count; i++) {
        struct chunk_entry *e = a->flip[i].e;
        e->holds--;
        e->recording--;
        if (!a->x->s->freed) {
            chunk_entry_settle(a->x->s, e);
        }
    }
    mem_free(a->flip);
    mem_free(a->bytes);
    mem_free(a);
}

static void append_over(struct journal_append *j, int rc)
{
    struct chunk_append *a = container_of(j, struct chunk_append, append);
    struct chunk_store *s = a->x->s;
    list_remove(&a->node);
    s->in_flight--;
    if (s->freed) {
        append_free(a);
        if (s->in_flight == 0) {
            chunk_store_destroy(s);
        }
        return;
    }
    a->done(a, rc);
    chunk_stop_check(s);
}

/* The plan of a work whose record has its cells, too; or NULL. */
static const struct chunk_plan *append_carried(const struct chunk_work *w)
{
    return w->plan != NULL && w->plan->carried_bytes > 0 ? w->plan : NULL;
}

static void append_submit(struct chunk_append *a, enum chunk_journal_type type,
                          enum journal_durability durability, size_t len)
{
    struct chunk_extent *x = a->x;
    const struct chunk_plan *carried = a->w == NULL ? NULL : append_carried(a->w);
    unsigned pieces = carried == NULL ? 0 : carried->iov_count;
    a->iov[0] = (struct iovec){.iov_base = a->bytes, .iov_len = len};
    if (carried != NULL) {
        CHECK(pieces < JOURNAL_IOV_MAX);
        memcpy(a->iov + 1, carried->iov, pieces * sizeof *a->iov);
        len += carried->carried_bytes;
    }
    a->append = (struct journal_append){.done = append_over,
                                        .iov = a->iov,
                                        .iov_count = 1 + pieces,
                                        .type = (uint16_t)type,
                                        .durability = durability};
    x->bytes_since += len;
    x->bytes_round += len;
    x->s->in_flight++;
    list_push_back(&x->appending, &a->node);
    journal_append(x->journal, &a->append);
}

static struct chunk_append *append_new(struct chunk_extent *x,
                                       void (*done)(struct chunk_append *a, int rc))
{
    struct chunk_append *a = mem_zalloc(sizeof *a);
    if (a != NULL) {
        a->x = x;
        a->done = done;
        list_init(&a->node);
    }
    return a;
}

void chunk_extent_journal_failed(struct journal_user *u, int rc, const char *reason)
{
    struct chunk_extent *x = container_of(u, struct chunk_extent, user);
    chunk_store_fail(x->s, rc, reason);
}

/* ---- Commits ---- */

/* Those that no record tells of now are told of by the next. */
static void flips_back(struct chunk_append *a)
{
    for (size_t i = 0; i < a->flip_count; i++) {
        const struct chunk_flip *f = &a->flip[i];
        if (f->life == f->e->life && list_empty(&f->e->flip)) {
            list_push_back(&a->x->flips, &f->e->flip);
            a->x->flip_count++;
        }
    }
}

static void flips_recorded(struct chunk_append *a, int rc)
{
    struct chunk_extent *x = a->x;
    for (size_t i = 0; i < a->flip_count && rc == 0; i++) {
        const struct chunk_flip *f = &a->flip[i];
        if (f->life == f->e->life) {
            f->e->written = base_max(f->e->written, f->change);
            chunk_backlog_named(x, f->e, a->append.index);
        }
    }
    if (rc < 0) {
        x->lists_rc = rc;
        flips_back(a);
    }
    append_free(a);
    x->lists_done++;
    chunk_extent_flips_done(x);
}

static int flips_encode(struct chunk_append *a, size_t *ret)
{
    CLEANUP(mem_freep) struct chunk_listed *listed = mem_calloc(a->flip_count, sizeof *listed);
    a->bytes = mem_alloc(CHUNK_LIST_BYTES_MAX);
    if (listed == NULL || a->bytes == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < a->flip_count; i++) {
        listed[i] =
            (struct chunk_listed){.key = a->flip[i].e->item.key, .identity = a->flip[i].identity};
    }
    *ret = chunk_list_encode(CHUNK_JOURNAL_COMMIT, listed, a->flip_count, a->bytes);
    return 0;
}

static int flips_append_some(struct chunk_extent *x)
{
    struct chunk_append *a = append_new(x, flips_recorded);
    size_t max = base_min(x->flip_count, CHUNK_LIST_MAX), len = 0;
    if (a == NULL) {
        return -ENOMEM;
    }
    a->flip = mem_calloc(max, sizeof *a->flip);
    if (a->flip == NULL) {
        append_free(a);
        return -ENOMEM;
    }
    for (size_t i = 0; i < max; i++) {
        struct chunk_entry *e = LIST_ENTRY(list_pop_front(&x->flips), struct chunk_entry, flip);
        e->holds++;
        e->recording++;
        a->flip[a->flip_count++] = (struct chunk_flip){
            .e = e, .identity = e->committed->meta.identity, .change = e->change, .life = e->life};
    }
    x->flip_count -= max;
    int rc = flips_encode(a, &len);
    if (rc < 0) {
        flips_back(a);
        append_free(a);
        return rc;
    }
    x->lists++;
    append_submit(a, CHUNK_JOURNAL_COMMIT, JOURNAL_WRITTEN, len);
    return 0;
}

int chunk_extent_flush_flips(struct chunk_extent *x)
{
    int rc = 0;
    while (rc == 0 && x->flip_count > 0) {
        rc = flips_append_some(x);
    }
    return rc;
}

void chunk_extent_committed(struct chunk_store *s, struct chunk_entry *e)
{
    struct chunk_extent *x = s->extent;
    chunk_entry_charge(s, e);
    chunk_rewrite_look(x, e);
    if (list_empty(&e->flip)) {
        list_push_back(&x->flips, &e->flip);
        x->flip_count++;
    }
    if (x->flip_count >= FLIPS_MANY && s->failed == 0) {
        int rc = chunk_extent_flush_flips(x);
        (void)rc; /* without memory the next round does it */
    }
}

static void flips_forget(struct chunk_extent *x, struct chunk_entry *e)
{
    if (!list_empty(&e->flip)) {
        list_remove(&e->flip);
        x->flip_count--;
    }
}

/* ---- Updates and changes ---- */

static void record_done(struct chunk_append *a, int rc)
{
    struct chunk_work *w = a->w;
    struct chunk_extent *x = a->x;
    const struct chunk_plan *carried = append_carried(w);
    uint64_t bytes = rc < 0 || carried == NULL ? 0 : carried->carried_bytes;
    w->e->recording--;
    if (rc == 0) {
        w->e->written = base_max(w->e->written, w->captured);
        chunk_backlog_named(x, w->e, a->append.index);
    }
    append_free(a);
    w->next(w, rc);
    chunk_carry_recorded(x, bytes); /* when the entry has what the record says */
}

static struct chunk_cells cells_of(const struct chunk_version *v)
{
    return v == NULL
               ? (struct chunk_cells){0}
               : (struct chunk_cells){.length = v->meta.length, .crc = v->crc, .unit = v->block};
}

static int record_encode(const struct chunk_work *w, const struct chunk_state *st, uint8_t **ret,
                         size_t *ret_len, enum chunk_journal_type *ret_type)
{
    const struct chunk_entry *e = w->e;
    const struct chunk_version *v = w->version;
    bool install = v != NULL && st->committed == v;
    bool update = install || (v != NULL && st->pending == v);
    struct chunk_delta d = {.key = e->item.key,
                            .chain = st->chain,
                            .last_ver = st->last_ver,
                            .damaged = st->damaged,
                            .install = install};
    struct chunk_delta_base base = {0};
    if (!update) {
        const struct chunk_version *flagged = st->committed != NULL ? st->committed : st->pending;
        d.drops = e->pending != NULL && st->pending == NULL;
        d.flags = flagged == NULL ? 0 : flagged->meta.flags;
        *ret_type = CHUNK_JOURNAL_CHANGE;
        return chunk_delta_encode(*ret_type, &d, &base, NULL, ret, ret_len);
    }
    if (v->meta.kind != CHUNK_WHOLE && e->committed != NULL) {
        base = (struct chunk_delta_base){.cells = cells_of(e->committed),
                                         .recent = e->committed->recent,
                                         .recent_count = e->committed->meta.recent_count};
    }
    d.meta = v->meta;
    d.carried_bytes = w->plan->carried_bytes;
    memcpy(d.recent, v->recent, v->meta.recent_count * sizeof *v->recent);
    struct chunk_cells to = cells_of(v);
    *ret_type = CHUNK_JOURNAL_UPDATE;
    return chunk_delta_encode(*ret_type, &d, &base, &to, ret, ret_len);
}

static int record_append(struct chunk_work *w, const struct chunk_state *st)
{
    struct chunk_extent *x = w->s->extent;
    enum chunk_journal_type type = CHUNK_JOURNAL_CHANGE;
    size_t len = 0;
    /* What it is made from must be what the journal has as committed. */
    int rc = list_empty(&w->e->flip) ? 0 : chunk_extent_flush_flips(x);
    struct chunk_append *a = rc < 0 ? NULL : append_new(x, record_done);
    if (a == NULL) {
        return -ENOMEM;
    }
    a->w = w;
    rc = record_encode(w, st, &a->bytes, &len, &type);
    if (rc < 0) {
        append_free(a);
        return rc;
    }
    chunk_entry_change(w);
    w->e->recording++;
    append_submit(a, type, JOURNAL_WRITTEN, len);
    return 0;
}

void chunk_extent_record(struct chunk_work *w, const struct chunk_state *st, chunk_next *next)
{
    w->next = next;
    int rc = record_append(w, st);
    if (rc < 0) {
        next(w, rc);
    }
}

/* ---- Damage ---- */

static void damage_recorded(struct chunk_append *a, int rc)
{
    const struct chunk_flip *f = a->flip;
    if (rc == 0 && f->life == f->e->life) {
        f->e->written = base_max(f->e->written, f->change);
        chunk_backlog_named(a->x, f->e, a->append.index);
    }
    append_free(a);
}

static int damage_append(struct chunk_extent *x, struct chunk_entry *e)
{
    const struct chunk_version *flagged = e->committed != NULL ? e->committed : e->pending;
    const struct chunk_delta_base none = {0};
    const struct chunk_delta d = {.key = e->item.key,
                                  .chain = e->chain,
                                  .last_ver = e->last_ver,
                                  .damaged = true,
                                  .flags = flagged == NULL ? 0 : flagged->meta.flags};
    size_t len = 0;
    int rc = list_empty(&e->flip) ? 0 : chunk_extent_flush_flips(x);
    struct chunk_append *a = rc < 0 ? NULL : append_new(x, damage_recorded);
    if (a == NULL) {
        return -ENOMEM;
    }
    a->flip = mem_calloc(1, sizeof *a->flip);
    rc = a->flip == NULL
             ? -ENOMEM
             : chunk_delta_encode(CHUNK_JOURNAL_CHANGE, &d, &none, NULL, &a->bytes, &len);
    if (rc < 0) {
        append_free(a);
        return rc;
    }
    a->flip_count = 1;
    a->flip[0] = (struct chunk_flip){.e = e, .change = e->change, .life = e->life};
    e->holds++;
    e->recording++;
    append_submit(a, CHUNK_JOURNAL_CHANGE, JOURNAL_WRITTEN, len);
    return 0;
}

/* So that a crash does not forget it. Nothing else of the chunk is on its way: whoever finds it
 * has the turn. */
void chunk_extent_damaged(struct chunk_store *s, struct chunk_entry *e)
{
    struct chunk_extent *x = s->extent;
    if (x->loaded && !x->ending) {
        int rc = damage_append(x, e);
        (void)rc; /* without memory the index alone is told, by the next round */
    }
}

/* ---- Removal ---- */

/* What it had rests until the record is stable; nobody can have it back. */
static void removed(struct chunk_store *s, struct chunk_entry *e, uint64_t index)
{
    struct chunk_version *committed = e->committed, *pending = e->pending;
    uint64_t stable = e->stable;
    chunk_version_ref(committed);
    chunk_version_ref(pending);
    flips_forget(s->extent, e);
    chunk_backlog_named(s->extent, e, index); /* a start takes all of it first */
    chunk_entry_gone(s, e);
    chunk_entry_changed(s, e);
    e->stable = stable;
    e->written = e->change;
    if (pending != NULL) {
        chunk_rest_version(s, e, pending, committed);
    }
    if (committed != NULL) {
        chunk_rest_version(s, e, committed, NULL);
    }
    chunk_version_unref(committed);
    chunk_version_unref(pending);
    if (!e->kept) {
        e->kept = true;
        e->holds++;
    }
}

static void remove_recorded(struct chunk_append *a, int rc)
{
    struct chunk_work *w = a->w;
    if (rc == 0) {
        removed(w->s, w->e, a->append.index);
    }
    append_free(a);
    w->next(w, rc);
}

static void remove_append(struct chunk_work *w)
{
    struct chunk_append *a = append_new(w->s->extent, remove_recorded);
    const struct chunk_listed one = {.key = w->e->item.key};
    if (a == NULL) {
        w->next(w, -ENOMEM);
        return;
    }
    a->w = w;
    a->bytes = mem_alloc(CHUNK_LIST_BYTES_MAX);
    if (a->bytes == NULL) {
        append_free(a);
        w->next(w, -ENOMEM);
        return;
    }
    append_submit(a, CHUNK_JOURNAL_DELETE, JOURNAL_WRITTEN,
                  chunk_list_encode(CHUNK_JOURNAL_DELETE, &one, 1, a->bytes));
}

/* Until the index knows of it, what it had stays in memory. One that has to stay there anyway does
 * not wait, for its removal makes room; nor does one when few wait for the index: memory is full of
 * others then. */
static bool remove_waits(const struct chunk_work *w)
{
    const struct chunk_entry *e = w->e;
    bool full = chunk_memory_full(w->s), costs = list_empty(&e->dirty) && e->pending == NULL;
    return full && costs && w->s->dirty_count >= REMOVED_MANY;
}

static void remove_again(struct chunk_work *w);

static void remove_try(struct chunk_work *w)
{
    if (remove_waits(w)) {
        chunk_round_join(w, remove_again);
    } else {
        remove_append(w);
    }
}

/* A round has made more stable. */
static void remove_again(struct chunk_work *w)
{
    if (w->kept < 0) {
        w->next(w, w->kept);
    } else {
        remove_try(w);
    }
}

void chunk_extent_remove(struct chunk_work *w, chunk_next *next)
{
    w->next = next;
    remove_try(w);
}

/* ---- What is stable ---- */

static void stable_recorded(struct chunk_append *a, int rc)
{
    struct chunk_extent *x = a->x;
    append_free(a);
    chunk_extent_synced(x, rc);
}

void chunk_extent_append_stable(struct chunk_extent *x, uint64_t index)
{
    struct chunk_append *a = append_new(x, stable_recorded);
    uint8_t *bytes = a == NULL ? NULL : mem_zalloc(CHUNK_STABLE_BYTES);
    if (bytes == NULL) {
        mem_free(a);
        chunk_extent_synced(x, -ENOMEM);
        return;
    }
    chunk_stable_encode(index, bytes);
    a->bytes = bytes;
    append_submit(a, CHUNK_JOURNAL_STABLE, JOURNAL_STABLE, CHUNK_STABLE_BYTES);
}
