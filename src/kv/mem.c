#include "kv/mem.h"

#include <string.h>

#include "base/mem.h"
#include "base/rand.h"
#include "kv/image.h"
#include "kv/mem_loan_priv.h"
#include "kv/mem_store_priv.h"
#include "kv/mem_tree_priv.h"

/* Kinds of pieces that may be "missing", second word of their names. */
enum { KV_MEM_ID_KEY = 1, KV_MEM_ID_END = 2 };
#define KV_MEM_FULL_POLLS 3u

struct kv_mem {
    struct kv base;
    struct kv_mem_pool pool;
    struct kv_mem_tree tree;
    struct kv_owner *owner;
    struct rand rand;
    uint32_t need_permille, fetch_polls_max, busy_permille;
    bool strict;
    uint64_t cache_bytes; /* pretended */
    uint64_t index;
    struct kv_fetch *fetches, **fetches_end;
    struct kv_mem_store *store; /* NULL: without a directory */
    struct kv_checkpoint *checkpoints, **checkpoints_end;
    struct kv_checkpoint image, *saving; /* what the store writes, for whom; NULL: nothing */
    struct kv_room *rooms, **rooms_end;
    unsigned full; /* polls until there is room; */
    bool held;     /* these do not count */
    int failed;
    struct kv_stop *stop; /* called; NULL again when it is done */
    bool begun, stopped;
    uint64_t busy, dirty_bytes, saving_bytes;
    size_t snapshots, pins, under_way;
};

struct kv_mem_snapshot {
    struct kv_snapshot base;
    struct kv_mem_node *root;
    uint64_t key_count, bytes;
    struct list loans;
};

struct kv_mem_iter {
    struct kv_iter base;
    struct kv_mem_snapshot *snapshot;
    struct kv_need *need;
    uint32_t ahead;
    uint8_t *copy; /* strict: of the record it stands on */
    struct kv_mem_path path;
    struct kv_slice lower, upper; /* in `bounds` */
    uint8_t bounds[];
};

static struct kv_mem *kv_mem_of(struct kv *kv)
{
    return container_of(kv, struct kv_mem, base);
}

static struct kv_mem_snapshot *kv_mem_snapshot_of(struct kv_snapshot *s)
{
    return container_of(s, struct kv_mem_snapshot, base);
}

/* ---- pretending that records are elsewhere ---- */

static uint64_t kv_mem_hash(struct kv_slice key)
{
    const uint8_t *at = key.at;
    uint64_t h = 14695981039346656037U; /* FNV-1a */
    for (size_t i = 0; i < key.len; i++) {
        h = (h ^ at[i]) * 1099511628211U;
    }
    return h;
}

/* 0 when the piece can be read now, else -ERR_need, -ENOMEM, -ENOBUFS. */
static int kv_mem_touch(struct kv_mem *m, struct kv_need *need, struct kv_slice key, uint64_t kind)
{
    if (m->need_permille == 0) {
        return 0;
    }
    uint64_t id = kv_mem_hash(key);
    struct kv_need_item *item = kv_need_find(need, id, kind);
    if (item != NULL) {
        return item->pin != NULL ? 0 : -ERR_need;
    }
    if (!rand_chance(&m->rand, m->need_permille, 1000)) {
        return 0;
    }
    int rc = kv_need_add(need, &m->base, id, kind);
    return rc < 0 ? rc : -ERR_need;
}

static bool kv_mem_ends(const struct kv_mem *m)
{
    return m->stop != NULL || m->stopped;
}

static void kv_mem_wake(struct kv_mem *m)
{
    if (m->owner != NULL) {
        m->owner->wake(m->owner);
    }
}

static void kv_mem_fetch(struct kv *kv, struct kv_fetch *f)
{
    struct kv_mem *m = kv_mem_of(kv);
    CHECK(!kv_mem_ends(m));
    m->begun = true;
    f->next = NULL;
    f->engine[0] = rand_below(&m->rand, (uint64_t)m->fetch_polls_max + 1);
    *m->fetches_end = f;
    m->fetches_end = &f->next;
    m->under_way++;
    kv_mem_wake(m);
}

static void kv_mem_fetch_complete(struct kv_mem *m, struct kv_fetch *f)
{
    struct kv_need *n = f->need;
    for (size_t i = 0; i < n->count; i++) {
        if (n->item[i].pin == NULL) {
            n->item[i].pin = m;
            m->pins++;
        }
    }
    n->missing = 0;
    m->under_way--;
    f->done(f, 0);
}

static unsigned kv_mem_poll_fetches(struct kv_mem *m)
{
    struct kv_fetch *list = m->fetches;
    unsigned done = 0;
    m->fetches = NULL; /* callbacks may submit: those wait for the next poll */
    m->fetches_end = &m->fetches;
    while (list != NULL) {
        struct kv_fetch *f = list;
        list = f->next;
        if (f->engine[0] == 0) {
            kv_mem_fetch_complete(m, f);
            done++;
            continue;
        }
        f->engine[0]--;
        f->next = NULL;
        *m->fetches_end = f;
        m->fetches_end = &f->next;
    }
    return done;
}

static unsigned kv_mem_poll_checkpoints(struct kv_mem *m)
{
    struct kv_checkpoint *list = m->checkpoints;
    unsigned done = 0;
    m->checkpoints = NULL;
    m->checkpoints_end = &m->checkpoints;
    while (list != NULL) {
        struct kv_checkpoint *c = list;
        list = c->next;
        m->under_way--;
        bool first = done == 0 && m->store == NULL;
        m->dirty_bytes = first && m->failed == 0 ? 0 : m->dirty_bytes;
        c->done(c, m->failed < 0 ? m->failed : first ? 0 : -EALREADY);
        done++;
    }
    return done;
}

static unsigned kv_mem_poll_rooms(struct kv_mem *m)
{
    struct kv_room *list = m->rooms;
    unsigned done = 0;
    m->full -= m->full > 0 && !m->held ? 1 : 0;
    if (m->full > 0) {
        return 0;
    }
    m->rooms = NULL;
    m->rooms_end = &m->rooms;
    while (list != NULL) {
        struct kv_room *r = list;
        list = r->next;
        m->under_way--;
        r->done(r);
        done++;
    }
    return done;
}

static unsigned kv_mem_poll_stop(struct kv_mem *m)
{
    struct kv_stop *s = m->stop;
    if (s == NULL || m->under_way > 0 || m->saving != NULL) {
        return 0;
    }
    m->stop = NULL;
    m->stopped = true;
    s->done(s); /* may free it */
    return 1;
}

static unsigned kv_mem_poll(struct kv *kv)
{
    struct kv_mem *m = kv_mem_of(kv);
    unsigned done = kv_mem_poll_fetches(m);
    done += kv_mem_poll_checkpoints(m);
    done += kv_mem_poll_rooms(m);
    if (m->fetches != NULL || m->checkpoints != NULL || (m->full > 0 && !m->held)) {
        kv_mem_wake(m);
    }
    return done + kv_mem_poll_stop(m);
}

static void kv_mem_room(struct kv *kv, struct kv_room *r)
{
    struct kv_mem *m = kv_mem_of(kv);
    CHECK(!kv_mem_ends(m));
    m->begun = true;
    r->next = NULL;
    *m->rooms_end = r;
    m->rooms_end = &r->next;
    m->under_way++;
    kv_mem_wake(m);
}

static void kv_mem_stop(struct kv *kv, struct kv_stop *s)
{
    struct kv_mem *m = kv_mem_of(kv);
    CHECK(!kv_mem_ends(m));
    m->stop = s;
    m->full = 0;
    m->held = false;
    for (struct kv_fetch *f = m->fetches; f != NULL; f = f->next) {
        f->engine[0] = 0;
    }
    if (m->store != NULL) {
        kv_mem_store_cancel(m->store);
    }
    kv_mem_wake(m);
}

static int kv_mem_failed(struct kv *kv, struct err *e)
{
    const struct kv_mem *m = kv_mem_of(kv);
    return m->failed < 0 ? err_set(e, m->failed, "the engine was told to fail") : 0;
}

static void kv_mem_statistics(struct kv *kv, struct kv_statistics *ret)
{
    const struct kv_mem *m = kv_mem_of(kv);
    const struct mem_budget *b = m->pool.budget;
    uint64_t records = m->tree.bytes + KV_IMAGE_RECORD_BYTES * m->tree.key_count;
    *ret = (struct kv_statistics){.engine = "memory",
                                  .cache_used = b == NULL ? records : b->used_bytes,
                                  .cache_limit = m->cache_bytes,
                                  .dirty_bytes = m->dirty_bytes,
                                  .disk_bytes = UINT64_MAX,
                                  .busy = m->busy};
    kv_mem_store_statistics(m->store, ret);
}

static int kv_mem_pin(struct kv *kv, struct kv_pin **ret)
{
    return kv_mem_store_pin(kv_mem_of(kv)->store, ret);
}

static void kv_mem_saved(struct kv_checkpoint *image, int rc)
{
    struct kv_mem *m = container_of(image, struct kv_mem, image);
    struct kv_checkpoint *c = m->saving;
    m->dirty_bytes -= rc == 0 ? m->saving_bytes : 0;
    m->saving = NULL;
    if (m->stop != NULL) {
        kv_mem_wake(m);
    }
    c->done(c, rc);
}

static void kv_mem_checkpoint(struct kv *kv, struct kv_checkpoint *c)
{
    struct kv_mem *m = kv_mem_of(kv);
    CHECK(!kv_mem_ends(m));
    m->begun = true;
    c->next = NULL;
    c->index = m->index;
    if (m->store != NULL && m->saving == NULL && m->failed == 0) {
        m->saving = c;
        m->saving_bytes = m->dirty_bytes;
        m->image = (struct kv_checkpoint){.done = kv_mem_saved, .index = c->index, .term = c->term};
        kv_mem_store_checkpoint(m->store, &m->tree, &m->image);
        return;
    }
    *m->checkpoints_end = c;
    m->checkpoints_end = &c->next;
    m->under_way++;
    kv_mem_wake(m);
}

/* One image after the other, as fast as the disk takes it. */
static void kv_mem_checkpoint_hurry(struct kv *kv)
{
    (void)kv;
}

static void kv_mem_checkpoint_cancel(struct kv *kv)
{
    struct kv_mem *m = kv_mem_of(kv);
    if (m->store != NULL) {
        kv_mem_store_cancel(m->store);
    }
}

static void kv_mem_checkpoints(struct kv *kv, struct kv_checkpoints *ret)
{
    const struct kv_mem *m = kv_mem_of(kv);
    ret->durable_index = m->store == NULL ? 0 : kv_mem_store_durable(m->store);
    uint64_t all = m->tree.bytes + KV_IMAGE_RECORD_BYTES * m->tree.key_count;
    ret->whole = m->cache_bytes == 0;
    ret->next_bytes = m->store == NULL ? 0 : ret->whole ? all : m->dirty_bytes;
}

static void kv_mem_unpin(struct kv *kv, struct kv_need_item *item)
{
    struct kv_mem *m = kv_mem_of(kv);
    CHECK(m->pins > 0);
    if (item->id[1] == KV_MEM_ID_LOANS) {
        kv_mem_loans_return(item->pin);
    } else {
        CHECK(item->pin == m);
    }
    item->pin = NULL;
    m->pins--;
}

/* ---- snapshots and reads ---- */

static int kv_mem_snapshot(struct kv *kv, struct kv_snapshot **ret)
{
    struct kv_mem *m = kv_mem_of(kv);
    struct kv_mem_snapshot *s = mem_zalloc(sizeof *s);
    if (s == NULL) {
        return -ENOMEM;
    }
    s->base = (struct kv_snapshot){.kv = kv, .index = m->index};
    s->root = m->tree.root;
    s->root->ref++;
    s->key_count = m->tree.key_count;
    s->bytes = m->tree.bytes;
    list_init(&s->loans);
    m->snapshots++;
    *ret = &s->base;
    return 0;
}

static void kv_mem_snapshot_free(struct kv_snapshot *base)
{
    struct kv_mem_snapshot *s = kv_mem_snapshot_of(base);
    struct kv_mem *m = kv_mem_of(base->kv);
    CHECK(m->snapshots > 0);
    m->snapshots--;
    kv_mem_loans_end(&s->loans);
    kv_mem_node_unref(&m->pool, s->root);
    mem_free(s);
}

static int kv_mem_get(struct kv_snapshot *base, struct kv_slice key, struct kv_need *need,
                      struct kv_slice *ret)
{
    struct kv_mem_snapshot *s = kv_mem_snapshot_of(base);
    int rc = kv_mem_touch(kv_mem_of(base->kv), need, key, KV_MEM_ID_KEY);
    if (rc < 0) {
        return rc;
    }
    struct kv_mem_entry *e = kv_mem_find(s->root, key);
    if (e == NULL) {
        return 0;
    }
    struct kv_mem *m = kv_mem_of(base->kv);
    if (!m->strict) {
        *ret = kv_mem_value(e);
        return 1;
    }
    struct list *book;
    struct kv_slice value = kv_mem_value(e);
    rc = kv_mem_loan_book(base->kv, need, &book);
    m->pins += rc == 1 ? 1 : 0;
    rc = rc < 0 ? rc : kv_mem_loan(&s->loans, book, &value);
    if (rc < 0) {
        return rc;
    }
    *ret = value;
    return 1;
}

static void kv_mem_estimate(struct kv_snapshot *base, struct kv_slice low, struct kv_slice high,
                            struct kv_estimate *ret)
{
    struct kv_mem_snapshot *s = kv_mem_snapshot_of(base);
    double from = kv_mem_rank(s->root, low);
    double to = high.len == 0 ? 1 : kv_mem_rank(s->root, high);
    double part = to > from ? to - from : 0;
    ret->key_count = (uint64_t)(part * (double)s->key_count + 0.5);
    ret->bytes = (uint64_t)(part * (double)s->bytes + 0.5);
}

/* ---- iterators ---- */

static struct kv_mem_iter *kv_mem_iter_of(struct kv_iter *it)
{
    return container_of(it, struct kv_mem_iter, base);
}

/* Lists what is missing of the next records, too. */
static int kv_mem_iter_look_ahead(const struct kv_mem_iter *it, const struct kv_mem_path *from)
{
    struct kv_mem *m = kv_mem_of(it->snapshot->base.kv);
    struct kv_mem_path p = *from;
    int rc = -ERR_need;
    for (uint32_t i = 0; i < it->ahead && (rc == 0 || rc == -ERR_need); i++) {
        struct kv_mem_entry *e = kv_mem_path_entry(&p);
        bool above =
            e == NULL || (it->upper.len > 0 && kv_slice_compare(kv_mem_key(e), it->upper) >= 0);
        if (above) {
            rc = kv_mem_touch(m, it->need, it->lower, KV_MEM_ID_END);
            break;
        }
        rc = kv_mem_touch(m, it->need, kv_mem_key(e), KV_MEM_ID_KEY);
        kv_mem_path_next(&p);
    }
    return rc == 0 ? -ERR_need : rc;
}

/* strict: the record is a copy, and that of before is gone. */
static int kv_mem_iter_lend(struct kv_mem_iter *it, struct kv_slice *key, struct kv_slice *value)
{
    uint8_t *copy = NULL;
    if (!kv_mem_of(it->snapshot->base.kv)->strict) {
        return 0;
    }
    if (key->at != NULL) {
        copy = mem_alloc(key->len + value->len + 1);
        if (copy == NULL) {
            return -ENOMEM;
        }
        memcpy(copy, key->at, key->len);
        if (value->len > 0) {
            memcpy(copy + key->len, value->at, value->len);
        }
        *key = kv_slice_of(copy, key->len);
        *value = kv_slice_of(copy + key->len, value->len);
    }
    kv_mem_loan_spoil(it->copy, it->base.key.len + it->base.value.len);
    it->copy = copy;
    return 0;
}

/* Makes `p` the position, unless what lies there is missing. p NULL: nowhere. */
static int kv_mem_iter_land(struct kv_mem_iter *it, const struct kv_mem_path *p)
{
    struct kv_mem_entry *e = p == NULL ? NULL : kv_mem_path_entry(p);
    if (e != NULL) {
        bool below = kv_slice_compare(kv_mem_key(e), it->lower) < 0;
        bool above = it->upper.len > 0 && kv_slice_compare(kv_mem_key(e), it->upper) >= 0;
        e = below || above ? NULL : e;
    }
    struct kv_mem *m = kv_mem_of(it->snapshot->base.kv);
    int rc = e != NULL ? kv_mem_touch(m, it->need, kv_mem_key(e), KV_MEM_ID_KEY)
                       : kv_mem_touch(m, it->need, it->lower, KV_MEM_ID_END);
    if (rc == -ERR_need && e != NULL) {
        rc = kv_mem_iter_look_ahead(it, p);
    }
    struct kv_slice none = kv_slice_of(NULL, 0);
    struct kv_slice key = e == NULL ? none : kv_mem_key(e);
    struct kv_slice value = e == NULL ? none : kv_mem_value(e);
    rc = rc < 0 ? rc : kv_mem_iter_lend(it, &key, &value);
    if (rc < 0) {
        return rc;
    }
    if (e != NULL) {
        it->path = *p;
    }
    it->base.key = key;
    it->base.value = value;
    return e == NULL ? 0 : 1;
}

static int kv_mem_iter_seek(struct kv_iter *base, struct kv_slice key)
{
    struct kv_mem_iter *it = kv_mem_iter_of(base);
    struct kv_slice from = kv_slice_compare(key, it->lower) > 0 ? key : it->lower;
    struct kv_mem_path p;
    kv_mem_path_seek(&p, it->snapshot->root, from);
    return kv_mem_iter_land(it, &p);
}

static int kv_mem_iter_seek_back(struct kv_iter *base, struct kv_slice key)
{
    struct kv_mem_iter *it = kv_mem_iter_of(base);
    struct kv_mem_path p;
    bool bounded = it->upper.len > 0;
    bool whole = key.len == 0 || (bounded && kv_slice_compare(key, it->upper) >= 0);
    if (whole && !bounded) {
        kv_mem_path_end(&p, it->snapshot->root);
    } else {
        kv_mem_path_seek(&p, it->snapshot->root, whole ? it->upper : key);
        struct kv_mem_entry *e = kv_mem_path_entry(&p);
        if (!whole && e != NULL && kv_slice_compare(kv_mem_key(e), key) == 0) {
            return kv_mem_iter_land(it, &p);
        }
    }
    return kv_mem_iter_land(it, kv_mem_path_prev(&p) ? &p : NULL);
}

static int kv_mem_iter_next(struct kv_iter *base)
{
    struct kv_mem_iter *it = kv_mem_iter_of(base);
    struct kv_mem_path p = it->path;
    kv_mem_path_next(&p);
    return kv_mem_iter_land(it, &p);
}

static int kv_mem_iter_prev(struct kv_iter *base)
{
    struct kv_mem_iter *it = kv_mem_iter_of(base);
    struct kv_mem_path p = it->path;
    return kv_mem_iter_land(it, kv_mem_path_prev(&p) ? &p : NULL);
}

static void kv_mem_iter_free(struct kv_iter *base)
{
    struct kv_mem_iter *it = kv_mem_iter_of(base);
    kv_mem_loan_spoil(it->copy, base->key.len + base->value.len);
    mem_free(it);
}

static const struct kv_iter_ops kv_mem_iter_ops = {
    .seek = kv_mem_iter_seek,
    .seek_back = kv_mem_iter_seek_back,
    .next = kv_mem_iter_next,
    .prev = kv_mem_iter_prev,
    .free = kv_mem_iter_free,
};

static int kv_mem_iter(struct kv_snapshot *s, const struct kv_iter_options *opt,
                       struct kv_iter **ret)
{
    struct kv_mem_iter *it = mem_alloc(sizeof *it + opt->lower.len + opt->upper.len);
    if (it == NULL) {
        return -ENOMEM;
    }
    it->base = (struct kv_iter){.ops = &kv_mem_iter_ops};
    it->snapshot = kv_mem_snapshot_of(s);
    it->need = opt->need;
    it->ahead = opt->ahead;
    it->copy = NULL;
    it->lower = kv_slice_of(it->bounds, opt->lower.len);
    it->upper = kv_slice_of(it->bounds + opt->lower.len, opt->upper.len);
    if (opt->lower.len > 0) {
        memcpy(it->bounds, opt->lower.at, opt->lower.len);
    }
    if (opt->upper.len > 0) {
        memcpy(it->bounds + opt->lower.len, opt->upper.at, opt->upper.len);
    }
    *ret = &it->base;
    return 0;
}

/* ---- commits ---- */

/*
 * A small batch changes the tree in place and notes what it replaced; if memory is missing on the
 * way, all of it is put back, with nodes that were set aside before. A large one works on a copy of
 * what it touches, and the tree takes its root or drops it.
 */
#define KV_MEM_UNDO_MAX 64u
#define KV_MEM_RANGE_MAX 16u     /* records that range deletes of a small batch may hit */
#define KV_MEM_SAVED_BYTES 8192u /* of values that a small batch changes where they are */

struct kv_mem_undo {
    struct kv_mem_entry *now, *old; /* references; NULL: absent then */
    struct kv_mem_entry *in_place;  /* in the tree, changed; else NULL */
    const uint8_t *saved;           /* its value as it was */
};
struct kv_mem_change {
    struct kv_mem_tree *tree;
    struct kv_mem_undo undo[KV_MEM_UNDO_MAX + KV_MEM_RANGE_MAX];
    size_t count, in_ranges, saved_len;
    bool noted; /* else nothing can be undone */
    uint8_t saved[KV_MEM_SAVED_BYTES];
};

static void kv_mem_change_note(struct kv_mem_change *c, struct kv_mem_entry *now,
                               struct kv_mem_entry *old)
{
    CHECK(c->count < ARRAY_COUNT(c->undo));
    struct kv_mem_undo *u = &c->undo[c->count++];
    u->now = now;
    u->old = old;
    u->in_place = NULL;
}

/* May the value be changed where it is? Then that, after a note of what it was, allocates nothing
 * and looks for nothing twice: counters, statistics, records that keep their length. */
static bool kv_mem_in_place(struct kv_mem_change *c, struct kv_mem_entry *e)
{
    if (c->noted) {
        if (e->value_len > sizeof c->saved - c->saved_len) {
            return false;
        }
        uint8_t *saved = c->saved + c->saved_len;
        kv_mem_change_note(c, NULL, NULL);
        c->undo[c->count - 1].in_place = e;
        c->undo[c->count - 1].saved = saved;
        memcpy(saved, kv_mem_value(e).at, e->value_len);
        c->saved_len += e->value_len;
    }
    return true;
}

static bool kv_mem_upsert_in_place(struct kv_mem_change *c, const struct kv_batch_item *item)
{
    struct kv_mem_entry *e = kv_mem_tree_own_entry(c->tree, item->key);
    bool fits = e != NULL && e->value_len >= item->value_len && kv_mem_in_place(c, e);
    if (fits) {
        kv_fields_apply(e->bytes + e->key_len, e->value_len, item->field, item->field_count);
    }
    return fits;
}

static void kv_mem_change_put_at(struct kv_mem_change *c, const struct kv_mem_place *at,
                                 struct kv_mem_entry *e)
{
    struct kv_mem_entry *old = NULL;
    if (!c->noted) {
        kv_mem_place_put(c->tree, at, e, NULL);
        return;
    }
    e->ref++;
    kv_mem_place_put(c->tree, at, e, &old);
    kv_mem_change_note(c, e, old);
}

static int kv_mem_change_delete(struct kv_mem_change *c, struct kv_slice key)
{
    struct kv_mem_entry *old = NULL;
    int rc = kv_mem_tree_delete(c->tree, key, c->noted ? &old : NULL);
    if (rc == 0 && old != NULL) {
        kv_mem_change_note(c, NULL, old);
    }
    return rc;
}

/* Most ranges are empty, or nearly. -ENOBUFS: this one is not. */
static int kv_mem_change_delete_range(struct kv_mem_change *c, struct kv_slice low,
                                      struct kv_slice high)
{
    struct kv_mem_entry *e;
    int rc = 0;
    if (!c->noted) {
        return kv_mem_tree_delete_range(c->tree, low, high);
    }
    while (rc == 0 && (e = kv_mem_tree_first(c->tree, low, high)) != NULL) {
        rc = c->in_ranges++ < KV_MEM_RANGE_MAX ? kv_mem_change_delete(c, kv_mem_key(e)) : -ENOBUFS;
    }
    return rc;
}

static int kv_mem_upsert(struct kv_mem_change *c, const struct kv_batch_item *item)
{
    struct kv_mem_tree *t = c->tree;
    struct kv_mem_place at;
    if (kv_mem_upsert_in_place(c, item)) {
        return 0;
    }
    int rc = kv_mem_tree_place(t, item->key, &at);
    if (rc < 0) {
        return rc;
    }
    size_t old_len = at.entry == NULL ? 0 : at.entry->value_len;
    size_t len = (size_t)base_max(old_len, item->value_len);
    struct kv_mem_entry *e = kv_mem_entry_new(t->pool->budget, item->key, kv_slice_of(NULL, len));
    if (e == NULL) {
        return -ENOMEM;
    }
    uint8_t *value = e->bytes + e->key_len;
    memset(value + old_len, 0, len - old_len);
    if (old_len > 0) {
        memcpy(value, kv_mem_value(at.entry).at, old_len);
    }
    kv_fields_apply(value, len, item->field, item->field_count);
    kv_mem_change_put_at(c, &at, e);
    return 0;
}

static int kv_mem_put(struct kv_mem_change *c, const struct kv_batch_item *item)
{
    struct kv_mem_place at;
    int rc = kv_mem_tree_place(c->tree, item->key, &at);
    if (rc < 0) {
        return rc;
    }
    size_t len = item->value.len;
    bool own = len > 0 && at.entry != NULL && at.entry->ref == 1 && at.entry->value_len == len;
    if (own && kv_mem_in_place(c, at.entry)) {
        memcpy(at.entry->bytes + at.entry->key_len, item->value.at, len);
        return 0;
    }
    struct kv_mem_entry *e = kv_mem_entry_new(c->tree->pool->budget, item->key, item->value);
    if (e == NULL) {
        return -ENOMEM;
    }
    kv_mem_change_put_at(c, &at, e);
    return 0;
}

static int kv_mem_apply(struct kv_mem_change *c, const struct kv_batch_item *item)
{
    switch (item->op) {
    case KV_PUT:
        return kv_mem_put(c, item);
    case KV_DELETE:
        return kv_mem_change_delete(c, item->key);
    case KV_DELETE_RANGE:
        return kv_mem_change_delete_range(c, item->key, item->value);
    case KV_UPSERT:
        return kv_mem_upsert(c, item);
    default:
        CHECK(false && "an operation of a batch");
        return -EINVAL;
    }
}

static int kv_mem_apply_all(struct kv_mem_change *c, const struct kv_batch *b)
{
    struct kv_batch_reader r;
    struct kv_batch_item item;
    int rc = 0;
    kv_batch_reader_init(&r, b);
    while (rc == 0 && kv_batch_reader_next(&r, &item)) {
        rc = kv_mem_apply(c, &item);
    }
    return rc;
}

static void kv_mem_undo_one(struct kv_mem_tree *t, struct kv_mem_undo *u)
{
    if (u->in_place != NULL) {
        memcpy(u->in_place->bytes + u->in_place->key_len, u->saved, u->in_place->value_len);
        return;
    }
    int rc = u->old != NULL ? kv_mem_tree_put(t, u->old, NULL)
                            : kv_mem_tree_delete(t, kv_mem_key(u->now), NULL);
    CHECK(rc == 0);
    kv_mem_entry_unref(t->pool->budget, u->now);
}

/* Backwards; each step needs at most a node per level. */
static void kv_mem_change_undo(struct kv_mem_change *c)
{
    c->tree->pool->undoing = true;
    while (c->count > 0) {
        kv_mem_undo_one(c->tree, &c->undo[--c->count]);
    }
    c->tree->pool->undoing = false;
}

static int kv_mem_commit_small(struct kv_mem *m, const struct kv_batch *b)
{
    struct kv_mem_change c; /* its list is not touched beyond `count` */
    c.tree = &m->tree;
    c.count = c.in_ranges = c.saved_len = 0;
    c.noted = true;
    size_t nodes = (b->count + KV_MEM_RANGE_MAX) * (m->tree.root->height + 3U);
    int rc = kv_mem_pool_reserve(&m->pool, nodes);
    if (rc < 0) {
        return rc;
    }
    rc = kv_mem_apply_all(&c, b);
    if (rc < 0) {
        kv_mem_change_undo(&c);
        return rc;
    }
    for (size_t i = 0; i < c.count; i++) {
        kv_mem_entry_unref(m->pool.budget, c.undo[i].now);
        kv_mem_entry_unref(m->pool.budget, c.undo[i].old);
    }
    return 0;
}

static int kv_mem_commit_large(struct kv_mem *m, const struct kv_batch *b)
{
    struct kv_mem_tree work = m->tree;
    struct kv_mem_change c;
    c.tree = &work;
    c.count = c.in_ranges = c.saved_len = 0;
    c.noted = false;
    work.root->ref++; /* m->tree keeps the old state until all has succeeded */
    int rc = kv_mem_apply_all(&c, b);
    kv_mem_node_unref(&m->pool, rc == 0 ? m->tree.root : work.root);
    if (rc == 0) {
        m->tree = work;
    }
    return rc;
}

static bool kv_mem_is_full(struct kv_mem *m)
{
    if (m->full == 0 && m->busy_permille > 0 && rand_chance(&m->rand, m->busy_permille, 1000)) {
        m->full = 1 + (unsigned)rand_below(&m->rand, KV_MEM_FULL_POLLS);
        kv_mem_wake(m);
    }
    m->busy += m->full > 0 ? 1 : 0;
    return m->full > 0;
}

static int kv_mem_commit(struct kv *kv, const struct kv_batch *b, uint64_t index)
{
    struct kv_mem *m = kv_mem_of(kv);
    CHECK(!kv_mem_ends(m));
    m->begun = true;
    if (m->failed < 0 || kv_mem_is_full(m)) {
        return m->failed < 0 ? m->failed : -ERR_busy;
    }
    int rc = b->count <= KV_MEM_UNDO_MAX ? kv_mem_commit_small(m, b) : -ENOBUFS;
    if (rc == -ENOBUFS) {
        rc = kv_mem_commit_large(m, b);
    }
    if (rc == 0) {
        m->index = index;
        m->dirty_bytes += b->len;
    }
    return rc;
}

static uint64_t kv_mem_applied_index(struct kv *kv)
{
    return kv_mem_of(kv)->index;
}

static void kv_mem_free(struct kv *kv)
{
    struct kv_mem *m = kv_mem_of(kv);
    CHECK(m->snapshots == 0);
    CHECK(m->pins == 0);
    CHECK(m->under_way == 0 && m->saving == NULL && m->stop == NULL);
    CHECK(m->stopped || !m->begun);
    m->store = kv_mem_store_free(m->store);
    kv_mem_node_unref(&m->pool, m->tree.root);
    kv_mem_pool_fini(&m->pool);
    mem_free(m);
}

/* Its images are the only thing on a disk, and commits do not wait for them. */
static enum kv_disk kv_mem_disk(struct kv *kv)
{
    (void)kv;
    return KV_DISK_ROOM;
}

static const struct kv_ops kv_mem_ops = {
    .snapshot = kv_mem_snapshot,
    .snapshot_free = kv_mem_snapshot_free,
    .get = kv_mem_get,
    .iter = kv_mem_iter,
    .estimate = kv_mem_estimate,
    .fetch = kv_mem_fetch,
    .unpin = kv_mem_unpin,
    .commit = kv_mem_commit,
    .applied_index = kv_mem_applied_index,
    .checkpoint = kv_mem_checkpoint,
    .checkpoint_hurry = kv_mem_checkpoint_hurry,
    .checkpoint_cancel = kv_mem_checkpoint_cancel,
    .checkpoints = kv_mem_checkpoints,
    .room = kv_mem_room,
    .pin = kv_mem_pin,
    .failed = kv_mem_failed,
    .disk = kv_mem_disk,
    .statistics = kv_mem_statistics,
    .poll = kv_mem_poll,
    .stop = kv_mem_stop,
    .free = kv_mem_free,
};

static struct kv_mem *kv_mem_make(const struct kv_mem_options *opt)
{
    CHECK(opt->need_permille <= 1000 && opt->busy_permille < 1000);
    struct kv_mem *m = mem_zalloc(sizeof *m);
    if (m == NULL) {
        return NULL;
    }
    m->pool.budget = opt->budget;
    m->tree.pool = &m->pool;
    m->base.ops = &kv_mem_ops;
    m->base.resident = opt->need_permille == 0;
    m->owner = opt->owner;
    m->need_permille = opt->need_permille;
    m->fetch_polls_max = opt->fetch_polls_max;
    m->busy_permille = opt->busy_permille;
    m->strict = opt->strict;
    m->cache_bytes = opt->cache_bytes;
    m->fetches_end = &m->fetches;
    m->checkpoints_end = &m->checkpoints;
    m->rooms_end = &m->rooms;
    rand_seed(&m->rand, opt->seed);
    return m;
}

int kv_mem_new(const struct kv_mem_options *opt, struct kv **ret)
{
    struct kv_mem *m = kv_mem_make(opt);
    if (m == NULL) {
        return -ENOMEM;
    }
    m->tree.root = kv_mem_node_new(&m->pool, 0);
    if (m->tree.root == NULL) {
        mem_free(m);
        return -ENOMEM;
    }
    *ret = &m->base;
    return 0;
}

int kv_mem_open(const struct kv_mem_open_options *opt, struct kv **ret, struct err *e)
{
    struct kv_mem_store_options so = {.env = opt->env,
                                      .directory = opt->directory,
                                      .owner = opt->owner,
                                      .reserve_bytes = opt->reserve_bytes,
                                      .block_bytes = opt->image_block_bytes};
    struct kv_mem *m = kv_mem_make(&opt->mem);
    int rc = m == NULL ? -ENOMEM : kv_mem_store_open(&so, &m->tree, &m->store, e);
    if (rc < 0) {
        mem_free(m);
        return rc;
    }
    m->index = so.found_index;
    *ret = &m->base;
    return 0;
}

void kv_mem_set_full(struct kv *kv, bool full)
{
    struct kv_mem *m = kv_mem_of(kv);
    m->held = full;
    m->full = 1;
    kv_mem_wake(m);
}

void kv_mem_fail(struct kv *kv, int rc)
{
    CHECK(rc < 0);
    kv_mem_of(kv)->failed = rc;
}

void kv_mem_verify(struct kv *kv)
{
    struct kv_mem *m = kv_mem_of(kv);
    struct kv_mem_path p;
    uint64_t keys = 0, bytes = 0;
    struct kv_mem_entry *last = NULL;
    kv_mem_path_seek(&p, m->tree.root, kv_slice_of(NULL, 0));
    CHECK(p.depth == m->tree.root->height + 1U);
    for (struct kv_mem_entry *e; (e = kv_mem_path_entry(&p)) != NULL; kv_mem_path_next(&p)) {
        CHECK(e->ref > 0);
        CHECK(last == NULL || kv_slice_compare(kv_mem_key(last), kv_mem_key(e)) < 0);
        CHECK(kv_mem_find(m->tree.root, kv_mem_key(e)) == e);
        for (unsigned d = 0; d < p.depth; d++) {
            CHECK(p.node[d]->ref > 0);
            CHECK(p.node[d]->height == p.depth - 1 - d);
            CHECK(d == 0 || p.node[d]->count >= KV_MEM_FILL_MIN);
        }
        last = e;
        keys++;
        bytes += e->key_len + e->value_len;
    }
    CHECK(keys == m->tree.key_count);
    CHECK(bytes == m->tree.bytes);
}
