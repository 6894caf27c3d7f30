/* chunk/change.c -- commits, and what changes records only: drops, flags, deletion, the dead. */
#include "chunk/engine_priv.h"

/* ---- Commit ---- */

int chunk_store_commit(struct chunk_store *s, struct chunk_key key, struct chunk_identity identity)
{
    LOOP_OWNED(s->loop);
    struct chunk_entry *e = NULL;
    int known = chunk_entry_know(s, key, &e);
    if (known < 0) {
        return -EINVAL; /* with a pending content it would be in memory */
    }
    if (e == NULL || !e->exists) {
        return -ENOENT;
    }
    if (e->pending == NULL || e->locked ||
        !chunk_identity_equal(e->pending->meta.identity, identity)) {
        return -EINVAL;
    }
    chunk_entry_changed(s, e);
    struct chunk_version *old = e->committed, *v = chunk_version_ref(e->pending);
    v->unsent = false;
    if (old != NULL) {
        chunk_rest_version(s, e, old, v);
    }
    if (v->meta.whole) {
        s->damaged_count -= e->damaged ? 1 : 0;
        e->damaged = chunk_version_told(v);
        s->damaged_count += e->damaged ? 1 : 0;
    }
    chunk_entry_set(s, e, &e->pending, NULL);
    chunk_entry_set(s, e, &e->committed, v);
    chunk_entry_account(s, e);
    if (s->engine->committed != NULL) {
        s->engine->committed(s, e);
    }
    return 0;
}

/* ---- Changes ---- */

static void change_finish(struct chunk_work *w, int rc)
{
    struct chunk_change *c = w->of.change;
    c->work = NULL;
    chunk_work_free(w);
    c->done(c, rc);
}

static void drop_recorded(struct chunk_work *w, int rc)
{
    struct chunk_store *s = w->s;
    struct chunk_entry *e = w->e;
    e->locked = false;
    if (rc == 0) {
        chunk_rest_version(s, e, e->pending, e->committed);
        chunk_entry_set(s, e, &e->pending, NULL);
        chunk_entry_account(s, e);
        chunk_entry_rested(s, e);
    }
    chunk_work_end(w, rc);
}

static void drop_hot(struct chunk_work *w, int rc)
{
    if (rc < 0) {
        chunk_work_end(w, rc);
        return;
    }
    struct chunk_state st = chunk_state_of(w->e);
    st.pending = NULL;
    w->e->locked = true;
    w->s->engine->record(w, &st, drop_recorded);
}

static void drop_begin(struct chunk_work *w)
{
    struct chunk_entry *e = w->e;
    if (e->pending == NULL) {
        chunk_work_end(w, -EINVAL);
    } else if (e->committed == NULL && !e->damaged && e->last_ver == 0) {
        w->s->engine->remove(w, chunk_work_end);
    } else { /* also if nothing but last_ver is left: the number is not given again */
        w->s->engine->hot(w, false, drop_hot);
    }
}

static void flags_set(struct chunk_store *s, struct chunk_entry *e, uint16_t flags)
{
    struct chunk_version *v = e->committed != NULL ? e->committed : e->pending;
    bool damaged = (flags & CHUNK_DAMAGED) != 0;
    if (v != NULL) {
        v->meta.flags = (uint16_t)(flags & ~CHUNK_DAMAGED);
    }
    s->damaged_count -= e->damaged ? 1 : 0;
    s->damaged_count += damaged ? 1 : 0;
    e->damaged = damaged;
}

static uint16_t flags_get(const struct chunk_entry *e)
{
    const struct chunk_version *v = e->committed != NULL ? e->committed : e->pending;
    return (uint16_t)((v == NULL ? 0u : v->meta.flags) | (e->damaged ? CHUNK_DAMAGED : 0u));
}

static void flags_recorded(struct chunk_work *w, int rc)
{
    if (rc < 0) {
        flags_set(w->s, w->e, (uint16_t)w->at); /* as it was */
    }
    chunk_work_end(w, rc);
}

static void flags_hot(struct chunk_work *w, int rc)
{
    if (rc < 0) {
        chunk_work_end(w, rc);
        return;
    }
    const struct chunk_change *c = w->of.change;
    w->at = flags_get(w->e);
    flags_set(w->s, w->e, (uint16_t)(((w->at & ~(uint32_t)c->clear) | c->set) & CHUNK_FLAGS_ALL));
    struct chunk_state st = chunk_state_of(w->e);
    w->s->engine->record(w, &st, flags_recorded);
}

static void change_admitted(struct chunk_work *w, int rc)
{
    (void)rc;
    if (w->s->failed != 0) {
        chunk_work_end(w, -ERR_failed_before);
        return;
    }
    if (!w->e->exists) {
        chunk_work_end(w, -ENOENT);
        return;
    }
    if (w->of.change->op == CHUNK_DROP_PENDING) {
        drop_begin(w);
    } else if (w->of.change->op == CHUNK_SET_FLAGS) {
        w->s->engine->hot(w, false, flags_hot);
    } else {
        w->s->engine->remove(w, chunk_work_end);
    }
}

/* It may wait there. */
static void change_admit(struct chunk_work *w, chunk_next *next)
{
    if (w->s->engine->admit != NULL) {
        w->s->engine->admit(w, next);
    } else {
        next(w, 0);
    }
}

static void change_begin(struct chunk_work *w)
{
    change_admit(w, change_admitted);
}

/* ---- Removed data ---- */

static void remove_next(struct chunk_work *w);

static void remove_one_done(struct chunk_work *w, int rc)
{
    struct chunk_entry *e = w->e;
    chunk_work_leave(w);
    chunk_entry_settle(w->s, e);
    w->e = NULL;
    if (rc < 0) {
        w->finish(w, rc);
        return;
    }
    remove_next(w);
}

static void remove_admitted(struct chunk_work *w, int rc)
{
    if (rc == 0 && w->e->exists) {
        w->s->engine->remove(w, remove_one_done);
    } else {
        remove_one_done(w, rc);
    }
}

static void remove_one(struct chunk_work *w)
{
    change_admit(w, remove_admitted);
}

static void remove_read(struct chunk_ahead *a, int rc)
{
    struct chunk_work *w = container_of(a, struct chunk_work, ahead);
    if (rc < 0) {
        w->finish(w, rc);
    } else {
        remove_next(w);
    }
}

/* Also one that has no content yet: an update of it is under way, and is waited for. */
static int remove_find(struct chunk_store *s, struct chunk_key from, struct chunk_entry **ret)
{
    struct chunk_key key;
    struct chunk_entry *e = chunk_entry_of(chunk_index_next(&s->index, from));
    *ret = e;
    if (s->engine->next_of == NULL || (e != NULL && chunk_key_compare(e->item.key, from) == 0)) {
        return 0;
    }
    int rc = s->engine->next_of(s, from, &key);
    if (rc == 0 && (e == NULL || chunk_key_compare(key, e->item.key) < 0)) {
        *ret = chunk_entry_get(s, key, true);
        return *ret == NULL ? -ENOMEM : 0;
    }
    return rc == -ENOENT ? 0 : rc;
}

static void remove_over(struct chunk_work *w, int rc)
{
    if (rc == 0 && w->s->engine->removed != NULL) {
        w->s->engine->removed(w->s, w);
    } else {
        w->finish(w, rc);
    }
}

/* One after the other, each in its turn behind what was submitted before. w->cell: the next index.
 */
static void remove_next(struct chunk_work *w)
{
    struct chunk_key from = {w->of.change->key.data_id, w->cell};
    struct chunk_entry *e = NULL;
    int rc = w->turned ? 0 : remove_find(w->s, from, &e);
    if (rc == -ERR_need) {
        w->ahead.done = remove_read;
        w->ahead.from = from;
        rc = chunk_store_ahead(w->s, &w->ahead);
        if (rc == 0) {
            return;
        }
    }
    if (rc < 0 || e == NULL || e->item.key.data_id != from.data_id) {
        if (e != NULL) {
            chunk_entry_settle(w->s, e);
        }
        remove_over(w, rc);
        return;
    }
    w->turned = e->item.key.index == UINT32_MAX; /* there is none behind it */
    w->cell = e->item.key.index + 1;
    w->begin = remove_one;
    chunk_work_enqueue(w, e);
}

static void remove_listed(struct chunk_work *w, int rc)
{
    if (rc < 0 || w->of.change->op == CHUNK_FORGET_DEAD) {
        w->finish(w, rc);
        return;
    }
    remove_next(w);
}

static void remove_begin(struct chunk_work *w)
{
    struct chunk_store *s = w->s;
    const struct chunk_change *c = w->of.change;
    if (s->failed != 0) {
        w->finish(w, -ERR_failed_before);
        return;
    }
    w->next = remove_listed;
    uint64_t data_id = c->key.data_id;
    bool done =
        c->op == CHUNK_REMOVE_DATA ? chunk_dead_stable(s, data_id) : !chunk_store_dead(s, data_id);
    if (done) {
        remove_listed(w, 0); /* a repetition; what it may have left is removed again */
        return;
    }
    chunk_dead_append(s, w);
}

static void lossy_begin(struct chunk_work *w)
{
    struct chunk_store *s = w->s;
    bool set = w->of.change->op == CHUNK_SET_LOSSY;
    if (!set && s->failed != 0) {
        w->finish(w, -ERR_failed_before);
        return;
    }
    s->super.lossy = set;
    if (s->super_file == NULL) {
        w->finish(w, 0);
        return;
    }
    chunk_super_save(s, w);
}

void chunk_store_change(struct chunk_store *s, struct chunk_change *c)
{
    LOOP_OWNED(s->loop);
    CHECK(!s->stopping);
    struct chunk_work *w = chunk_work_new(s);
    bool of_chunk =
        c->op == CHUNK_DROP_PENDING || c->op == CHUNK_SET_FLAGS || c->op == CHUNK_DELETE;
    struct chunk_entry *e = of_chunk && w != NULL ? chunk_entry_get(s, c->key, true) : NULL;
    if (w == NULL || (of_chunk && e == NULL)) {
        if (w != NULL) {
            chunk_work_free(w);
        }
        c->work = s->refused.change;
        s->refused.change = c;
        loop_defer(s->loop, &s->task);
        return;
    }
    c->work = w;
    w->of.change = c;
    w->finish = change_finish;
    if (of_chunk) {
        w->begin = change_begin;
        chunk_work_enqueue(w, e);
        return;
    }
    bool lossy = c->op == CHUNK_SET_LOSSY || c->op == CHUNK_CLEAR_LOSSY;
    w->begin = lossy ? lossy_begin : remove_begin;
    chunk_work_ready(w);
}

/* ---- The dead ---- */

bool chunk_store_dead(const struct chunk_store *s, uint64_t data_id)
{
    return chunk_index_find(&s->dead, (struct chunk_key){data_id, 0}) != NULL;
}

size_t chunk_store_dead_list(const struct chunk_store *s, uint64_t after, struct chunk_dead *ret,
                             size_t max)
{
    size_t count = 0;
    struct chunk_key key = {after, 1};
    while (count < max) {
        struct chunk_item *item = chunk_index_next(&s->dead, key);
        if (item == NULL) {
            break;
        }
        const struct chunk_dead_item *d = container_of(item, struct chunk_dead_item, item);
        ret[count++] = (struct chunk_dead){.data_id = item->key.data_id, .time_ms = d->time_ms};
        key.data_id = item->key.data_id;
        key.index = 1;
    }
    return count;
}
