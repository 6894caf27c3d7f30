#include "tree/memtable.h"

#include <string.h>

#include "tree/memtable_priv.h"

#define CURSOR_LINE_BYTES 64u
#define CURSOR_AHEAD_BYTES 192u

/*
 * A key's versions hang in a chain, newest first; a reader takes the first at or below its limit.
 * While a batch is applied, what is published stays readable: the new version is put in front of
 * it. A second change of the key in the same batch takes the place of the first one, which nobody
 * can see. The version below the published one is taken out as soon as no live snapshot needs it,
 * so a chain is about as long as there are snapshots; its memory is used again when nobody can be
 * standing on it, which the limits of all readers tell.
 *
 * Range deletes cut the keys into pieces: an entry of the second table begins one and has a chain
 * of its own, of the range deletes that cover it. Pieces that were one share the older part of a
 * chain.
 */

static struct tree_memtable *memtable_free(struct tree_memtable *m)
{
    struct mem_budget *budget = m->budget;
    while (m->blocks != NULL) {
        struct memtable_block *b = m->blocks;
        m->blocks = b->next;
        size_t size = b->size;
        if (m->slab != NULL) {
            mem_slab_put(m->slab, b, size);
        } else {
            mem_free(b);
        }
        if (budget != NULL) {
            mem_budget_give(budget, size);
        }
    }
    mem_free(m);
    if (budget != NULL) {
        mem_budget_give(budget, sizeof *m);
    }
    return NULL;
}

int tree_memtable_new(const struct tree_memtable_options *opt, struct tree_memtable **ret)
{
    if (!tree_memtable_charge(opt->budget, opt->force, sizeof(struct tree_memtable))) {
        return -ENOMEM;
    }
    struct tree_memtable *m = mem_zalloc(sizeof *m);
    if (m == NULL) {
        if (opt->budget != NULL) {
            mem_budget_give(opt->budget, sizeof *m);
        }
        return -ENOMEM;
    }
    atomic_init(&m->refs, 1);
    m->budget = opt->budget;
    m->slab = opt->slab;
    m->base_msn = opt->base_msn;
    m->limit_bytes = opt->limit_bytes == 0 ? TREE_MEMTABLE_BYTES : opt->limit_bytes;
    m->block_bytes = opt->block_bytes;
    m->force = opt->force;
    m->bytes = sizeof *m;
    m->keys.indexed = true;
    *ret = m;
    return 0;
}

void tree_memtable_bound(struct tree_memtable *m)
{
    m->force = false;
}

struct tree_memtable *tree_memtable_ref(struct tree_memtable *m)
{
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

struct tree_memtable *tree_memtable_unref(struct tree_memtable *m)
{
    if (m != NULL && atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) == 1) {
        memtable_free(m);
    }
    return NULL;
}

void tree_memtable_freeze(struct tree_memtable *m)
{
    m->frozen = true;
}

struct tree_memtable_state tree_memtable_state(const struct tree_memtable *m)
{
    return (struct tree_memtable_state){
        .bytes = m->bytes,
        .key_count = atomic_load_explicit(&m->key_count, memory_order_relaxed),
        .range_count = m->range_count,
        .min_msn = m->min_msn,
        .max_msn = m->max_msn,
        .full = m->bytes >= m->limit_bytes,
    };
}

/* ---- reading ---- */

static struct tree_message version_message(const struct tree_memtable_version *v)
{
    return (struct tree_message){
        .type = (enum tree_message_type)v->type,
        .msn = atomic_load_explicit(&v->msn, memory_order_relaxed),
        .body = kv_slice_of(v->body, v->len),
    };
}

/* What covers a key, or NULL; *ret_at: the boundary at or before it, or NULL. */
static struct tree_memtable_version *range_at(const struct tree_memtable *m, struct kv_slice key,
                                              uint64_t limit, struct tree_memtable_entry **ret_at)
{
    *ret_at = tree_memtable_seek_back(&m->ranges, key);
    return *ret_at == NULL ? NULL : memtable_visible(*ret_at, limit);
}

static uint64_t deleted_msn(const struct tree_memtable_version *v)
{
    return v == NULL ? 0 : atomic_load_explicit(&v->msn, memory_order_relaxed);
}

static uint64_t range_msn_at(const struct tree_memtable *m, struct kv_slice key, uint64_t limit)
{
    struct tree_memtable_entry *at = NULL;
    return deleted_msn(range_at(m, key, limit, &at));
}

static bool memtable_nothing_at(const struct tree_memtable *m, uint64_t limit)
{
    return limit <= m->base_msn; /* and its reader may not even look: it does not protect us */
}

void tree_memtable_get(const struct tree_memtable *m, struct kv_slice key, uint64_t limit,
                       struct tree_memtable_found *ret)
{
    *ret = (struct tree_memtable_found){.message.type = TREE_NOTE};
    if (memtable_nothing_at(m, limit)) {
        return;
    }
    struct tree_memtable_entry *e = tree_memtable_find(&m->keys, key);
    if (e != NULL) {
        struct tree_memtable_version *v = memtable_visible(e, limit);
        if (v != NULL) {
            ret->message = version_message(v);
            ret->more = v->rest != NULL;
        }
    }
    if (atomic_load_explicit(&m->range_msn, memory_order_acquire) > ret->message.msn) {
        uint64_t msn = range_msn_at(m, key, limit);
        ret->range_msn = msn > ret->message.msn ? msn : 0;
    }
}

static struct kv_slice boundary_key(const struct tree_memtable_entry *e)
{
    return e == NULL ? kv_slice_of(NULL, 0) : memtable_entry_key(e);
}

static struct tree_memtable_entry *entry_after(const struct tree_memtable_entry *e)
{
    return atomic_load_explicit(&e->next, memory_order_acquire);
}

bool tree_memtable_range(const struct tree_memtable *m, uint64_t limit, struct kv_slice from,
                         struct tree_range *ret)
{
    if (memtable_nothing_at(m, limit)) {
        return false;
    }
    struct tree_memtable_entry *e =
        from.len == 0 ? NULL : tree_memtable_seek_back(&m->ranges, from);
    e = e == NULL ? tree_memtable_seek(&m->ranges, kv_slice_of(NULL, 0)) : e;
    for (; e != NULL; e = entry_after(e)) {
        struct tree_memtable_version *v = memtable_visible(e, limit);
        if (v != NULL) {
            ret->msn = atomic_load_explicit(&v->msn, memory_order_relaxed);
            ret->low = memtable_entry_key(e);
            ret->high = boundary_key(entry_after(e));
            ret->bare = false; /* whoever moves all of it looks at all of it */
            return true;
        }
    }
    return false;
}

/* ---- estimates ---- */

#define ESTIMATE_LOOKS 64u /* keys that are counted one by one */

static uint64_t entry_bytes(const struct tree_memtable_entry *e)
{
    const struct tree_memtable_version *v = atomic_load_explicit(&e->head, memory_order_acquire);
    return v == NULL ? 0 : (uint64_t)e->key_len + v->len;
}

struct tree_memtable_estimate tree_memtable_estimate(const struct tree_memtable *m,
                                                     struct kv_slice low, struct kv_slice high)
{
    struct tree_memtable_estimate r = {0};
    uint64_t all = atomic_load_explicit(&m->key_count, memory_order_relaxed);
    const struct tree_memtable_entry *e = tree_memtable_seek(&m->keys, low);
    unsigned looks = 0;
    while (e != NULL && looks < ESTIMATE_LOOKS &&
           (high.len == 0 || kv_slice_compare(memtable_entry_key(e), high) < 0)) {
        uint64_t bytes = entry_bytes(e);
        r.key_count += bytes > 0 ? 1 : 0;
        r.bytes += bytes;
        looks++;
        e = entry_after(e);
    }
    if (looks < ESTIMATE_LOOKS || r.key_count == 0) {
        return r;
    }
    uint64_t from = tree_memtable_rank(&m->keys, low), to = UINT64_C(1) << 32;
    to = high.len == 0 ? to : tree_memtable_rank(&m->keys, high);
    double part = to > from ? (double)(to - from) / (double)(UINT64_C(1) << 32) : 0;
    uint64_t keys = base_max((uint64_t)((double)all * part), r.key_count);
    r.bytes = (uint64_t)((double)r.bytes / (double)r.key_count * (double)keys);
    r.key_count = keys;
    return r;
}

/* ---- cursors ---- */

static struct tree_memtable_cursor *cursor_of(struct tree_source *s)
{
    return container_of(s, struct tree_memtable_cursor, base);
}

static void cursor_stand(struct tree_memtable_cursor *c, const struct tree_memtable_version *v)
{
    c->version = v;
    c->base.message = version_message(v);
}

/* On `e` or the nearest one that can be seen, forwards or backwards. */
static int cursor_land(struct tree_memtable_cursor *c, const struct tree_memtable_entry *e,
                       bool forwards)
{
    while (e != NULL) {
        struct tree_memtable_version *v = memtable_visible(e, c->limit);
        if (v != NULL) {
            c->entry = e;
            c->base.key = memtable_entry_key(e);
            cursor_stand(c, v);
            return 1;
        }
        e = forwards ? entry_after(e) : atomic_load_explicit(&e->prev, memory_order_acquire);
    }
    c->entry = NULL;
    return 0;
}

static int cursor_seek(struct tree_source *s, struct kv_slice key)
{
    struct tree_memtable_cursor *c = cursor_of(s);
    if (memtable_nothing_at(c->memtable, c->limit)) {
        return cursor_land(c, NULL, true);
    }
    return cursor_land(c, tree_memtable_seek(&c->memtable->keys, key), true);
}

static int cursor_seek_back(struct tree_source *s, struct kv_slice key)
{
    struct tree_memtable_cursor *c = cursor_of(s);
    const struct memtable_table *t = &c->memtable->keys;
    if (memtable_nothing_at(c->memtable, c->limit)) {
        return cursor_land(c, NULL, false);
    }
    return cursor_land(c, tree_memtable_seek_back(t, key), false);
}

/* Who goes on will want what is behind the entry: an entry, and mostly its version beside it. */
static void cursor_fetch_ahead(const struct tree_memtable_entry *e)
{
    const uint8_t *next = (const uint8_t *)atomic_load_explicit(&e->next, memory_order_relaxed);
    for (size_t at = 0; next != NULL && at < CURSOR_AHEAD_BYTES; at += CURSOR_LINE_BYTES) {
        __builtin_prefetch(next + at);
    }
}

static int cursor_next(struct tree_source *s)
{
    struct tree_memtable_cursor *c = cursor_of(s);
    CHECK(c->entry != NULL);
    int rc = cursor_land(c, entry_after(c->entry), true);
    if (rc == 1) {
        cursor_fetch_ahead(c->entry);
    }
    return rc;
}

static int cursor_prev(struct tree_source *s)
{
    struct tree_memtable_cursor *c = cursor_of(s);
    CHECK(c->entry != NULL);
    return cursor_land(c, atomic_load_explicit(&c->entry->prev, memory_order_acquire), false);
}

static int cursor_find(struct tree_source *s, struct kv_slice key)
{
    struct tree_memtable_cursor *c = cursor_of(s);
    struct tree_memtable_entry *e = NULL;
    if (!memtable_nothing_at(c->memtable, c->limit)) {
        e = c->print == 0 ? tree_memtable_find(&c->memtable->keys, key)
                          : tree_memtable_find_print(&c->memtable->keys, key, c->print);
    }
    bool found = e != NULL && memtable_visible(e, c->limit) != NULL;
    return cursor_land(c, found ? e : NULL, true);
}

static int cursor_older(struct tree_source *s)
{
    struct tree_memtable_cursor *c = cursor_of(s);
    CHECK(c->entry != NULL);
    if (c->version->rest == NULL) {
        return 0;
    }
    cursor_stand(c, c->version->rest);
    return 1;
}

static int cursor_covering(struct tree_source *s, struct kv_slice key, struct tree_range *ret)
{
    struct tree_memtable_cursor *c = cursor_of(s);
    struct tree_memtable_entry *at = NULL;
    *ret = (struct tree_range){0};
    if (memtable_nothing_at(c->memtable, c->limit)) {
        return 0;
    }
    struct tree_memtable_version *v = range_at(c->memtable, key, c->limit, &at);
    ret->msn = deleted_msn(v);
    ret->bare = v != NULL && !atomic_load_explicit(&v->inside, memory_order_relaxed);
    ret->low = boundary_key(at);
    at = at == NULL ? tree_memtable_seek(&c->memtable->ranges, kv_slice_of(NULL, 0))
                    : entry_after(at);
    ret->high = boundary_key(at);
    return 0;
}

static int cursor_range(struct tree_source *s, struct kv_slice from, struct tree_range *ret)
{
    struct tree_memtable_cursor *c = cursor_of(s);
    return tree_memtable_range(c->memtable, c->limit, from, ret) ? 1 : 0;
}

static const struct tree_source_ops cursor_ops = {
    .seek = cursor_seek,
    .seek_back = cursor_seek_back,
    .next = cursor_next,
    .prev = cursor_prev,
    .find = cursor_find,
    .older = cursor_older,
    .covering = cursor_covering,
    .range = cursor_range,
};

void tree_memtable_cursor_init(struct tree_memtable_cursor *c, const struct tree_memtable *m,
                               uint64_t limit)
{
    *c = (struct tree_memtable_cursor){
        .base.ops = &cursor_ops,
        .base.stable = true,
        .memtable = m,
        .limit = limit,
    };
    c->base.has_ranges = !memtable_nothing_at(m, limit) &&
                         atomic_load_explicit(&m->range_msn, memory_order_acquire) != 0;
}

/* ---- writing ---- */

/* A batch that is being applied. */
struct memtable_apply {
    struct tree_memtable *m;
    const struct tree_snapshots_view *view;
    uint64_t oldest_reader, youngest; /* youngest: 0 if there is no snapshot */
    struct tree_superseded superseded;
};

static uint64_t version_msn(const struct tree_memtable_version *v)
{
    return atomic_load_explicit(&v->msn, memory_order_relaxed);
}

static struct tree_memtable_version *version_older(const struct tree_memtable_version *v)
{
    return atomic_load_explicit(&v->older, memory_order_relaxed);
}

static struct tree_memtable_version *entry_head(const struct tree_memtable_entry *e)
{
    return atomic_load_explicit(&e->head, memory_order_relaxed);
}

/* Of this batch: nobody can see it, though somebody may pass over it. */
static bool version_unseen(const struct memtable_apply *a, const struct tree_memtable_version *v)
{
    return version_msn(v) > a->view->published;
}

/* It is in no chain any more, but who reads below `msn` may stand on it. Beyond what can be noted
 * the memory is lost until the memtable goes. */
static void version_retire(struct memtable_apply *a, struct tree_memtable_version *v, uint64_t msn)
{
    struct tree_memtable *m = a->m;
    if (v->held) {
        return;
    }
    if (msn <= a->oldest_reader) {
        tree_memtable_version_put(m, v);
    } else if (m->retired_count < MEMTABLE_RETIRED_MAX) {
        size_t i = (m->retired_first + m->retired_count++) % MEMTABLE_RETIRED_MAX;
        m->retired[i] = (struct memtable_retired){v, msn};
    }
}

static void memtable_collect_retired(struct memtable_apply *a)
{
    struct tree_memtable *m = a->m;
    while (m->retired_count > 0 && m->retired[m->retired_first].msn <= a->oldest_reader) {
        tree_memtable_version_put(m, m->retired[m->retired_first].version);
        m->retired_first = (m->retired_first + 1) % MEMTABLE_RETIRED_MAX;
        m->retired_count--;
    }
}

/* Takes out what lies below a published version and is of no use to any live snapshot. Who needs
 * `v` or what is newer stops there. */
static void version_prune(struct memtable_apply *a, struct tree_memtable_version *v, bool reuse)
{
    struct tree_memtable_version *old = version_older(v);
    while (old != NULL && !tree_snapshots_between(a->view, version_msn(old), version_msn(v))) {
        struct tree_memtable_version *next = version_older(old);
        atomic_store_explicit(&v->older, next, memory_order_release);
        if (reuse) {
            version_retire(a, old, version_msn(v));
        }
        old = next;
    }
}

/* The new version `v` comes in front of, or instead of, what `e` has. */
static void entry_push(struct memtable_apply *a, struct tree_memtable_entry *e,
                       struct tree_memtable_version *v, uint64_t msn)
{
    struct tree_memtable_version *now = entry_head(e);
    bool instead = now != NULL && version_unseen(a, now);
    v->held = false;
    atomic_store_explicit(&v->msn, msn, memory_order_relaxed);
    atomic_store_explicit(&v->older, instead ? version_older(now) : now, memory_order_relaxed);
    atomic_store_explicit(&e->head, v, memory_order_release);
    if (now == NULL) {
        memtable_count_keys(a->m, 1);
    } else if (instead) {
        version_retire(a, now, msn);
    } else {
        size_t size = tree_memtable_version_size(now);
        a->superseded.bytes += size;
        a->superseded.kept += a->youngest >= version_msn(now) ? size : 0;
    }
}

/* What is newest of a key for the writer: its version, or that a range delete came after it. */
static struct tree_message memtable_present(const struct tree_memtable *m, struct kv_slice key,
                                            const struct tree_memtable_version *now)
{
    struct tree_message ret = {.type = TREE_NOTE};
    if (now != NULL) {
        ret = version_message(now);
    }
    if (atomic_load_explicit(&m->range_msn, memory_order_relaxed) > ret.msn) {
        uint64_t msn = range_msn_at(m, key, UINT64_MAX);
        if (msn > ret.msn) {
            ret = (struct tree_message){.type = TREE_DELETE, .msn = msn};
        }
    }
    return ret;
}

static void version_set(struct tree_memtable_version *v, const struct tree_message *message,
                        struct tree_memtable_version *rest)
{
    v->type = (uint8_t)message->type;
    v->len = (uint32_t)message->body.len;
    v->rest = rest;
    if (message->body.len > 0 && message->body.at != v->body) {
        memmove(v->body, message->body.at, message->body.len);
    }
}

static size_t version_room(const struct tree_memtable_version *v)
{
    return tree_memtable_version_size(v) - sizeof *v;
}

/* A version of at least `len` bytes for a change of `e`: the one of this batch, if it has one with
 * so much room, else a new one. */
static struct tree_memtable_version *version_for(struct memtable_apply *a,
                                                 const struct tree_memtable_entry *e, size_t len)
{
    struct tree_memtable_version *now = e == NULL ? NULL : entry_head(e);
    bool again = now != NULL && version_unseen(a, now) && !now->held && len <= version_room(now);
    return again ? now : tree_memtable_version_new(a->m, len);
}

/* Puts a filled version in its place, in a new entry if there is none. */
static int memtable_place_version(struct memtable_apply *a, struct tree_memtable_entry *e,
                                  struct kv_slice key, struct tree_memtable_version *v,
                                  uint64_t msn)
{
    if (e != NULL && entry_head(e) == v) {
        atomic_store_explicit(&v->msn, msn, memory_order_relaxed);
        return 0;
    }
    if (e != NULL) {
        entry_push(a, e, v, msn);
        return 0;
    }
    atomic_store_explicit(&v->msn, msn, memory_order_relaxed);
    atomic_store_explicit(&v->older, NULL, memory_order_relaxed);
    if (tree_memtable_insert(a->m, &a->m->keys, key, v) == NULL) {
        tree_memtable_version_put(a->m, v);
        return -ENOMEM;
    }
    memtable_count_keys(a->m, 1);
    return 0;
}

/* Two upserts become one, or hang together. */
static int memtable_upsert_again(struct memtable_apply *a, struct tree_memtable_entry *e,
                                 const struct tree_message *newer, const struct tree_message *older)
{
    uint8_t folded[TREE_UPSERT_MAX];
    struct tree_room room = {.at = folded, .capacity = sizeof folded};
    struct tree_memtable_version *now = entry_head(e), *rest = now->rest;
    struct tree_message both = *newer;
    int rc = tree_message_combine(newer, older, &room, &both);
    CHECK(rc >= 0); /* there is room */
    if (rc == 0) {
        now->held = true; /* before version_for() could take it */
        rest = now;
    }
    struct tree_memtable_version *v = version_for(a, e, both.body.len);
    if (v == NULL) {
        return -ENOMEM;
    }
    version_set(v, &both, rest);
    return memtable_place_version(a, e, kv_slice_of(NULL, 0), v, newer->msn);
}

/* An upsert of a value that is known, or of a deleted one: the result is made where it will lie. */
static int memtable_upsert_known(struct memtable_apply *a, struct tree_memtable_entry *e,
                                 struct kv_slice key, const struct tree_message *newer,
                                 const struct tree_message *older)
{
    struct tree_message put;
    size_t len = tree_message_room(newer, older);
    struct tree_memtable_version *v = version_for(a, e, len);
    if (v == NULL) {
        return -ENOMEM;
    }
    struct tree_room room = {.at = v->body, .capacity = len};
    int rc = tree_message_combine(newer, older, &room, &put);
    CHECK(rc == 1);
    version_set(v, &put, NULL);
    return memtable_place_version(a, e, key, v, newer->msn);
}

/* Of a key in a deleted range comes a message: whoever passes over the range must look there. */
static void range_enter(const struct tree_memtable *m, struct kv_slice key)
{
    struct tree_memtable_entry *at = tree_memtable_seek_back(&m->ranges, key);
    struct tree_memtable_version *v = at == NULL ? NULL : entry_head(at);
    if (v != NULL) {
        atomic_store_explicit(&v->inside, true, memory_order_relaxed);
    }
}

static int memtable_change(struct memtable_apply *a, struct kv_slice key,
                           const struct tree_message *message)
{
    if (atomic_load_explicit(&a->m->range_msn, memory_order_relaxed) != 0) {
        range_enter(a->m, key);
    }
    struct tree_memtable_entry *e = tree_memtable_place(&a->m->keys, key);
    struct tree_memtable_version *now = e == NULL ? NULL : entry_head(e);
    if (now != NULL && !version_unseen(a, now)) {
        version_prune(a, now, true);
    }
    if (message->type == TREE_UPSERT) {
        struct tree_message older = memtable_present(a->m, key, now);
        if (older.type == TREE_UPSERT) {
            return memtable_upsert_again(a, e, message, &older);
        }
        if (older.type != TREE_NOTE) {
            return memtable_upsert_known(a, e, key, message, &older);
        }
    }
    struct tree_memtable_version *v = version_for(a, e, message->body.len);
    if (v == NULL) {
        return -ENOMEM;
    }
    version_set(v, message, NULL);
    return memtable_place_version(a, e, key, v, message->msn);
}

/* ---- range deletes ---- */

/* The boundary of this key; a new one is covered by what covers the piece that it cuts. */
static struct tree_memtable_entry *boundary_at(struct tree_memtable *m, struct kv_slice key)
{
    struct tree_memtable_entry *e = tree_memtable_place(&m->ranges, key);
    if (e != NULL) {
        return e;
    }
    e = m->ranges.before;
    return tree_memtable_insert(m, &m->ranges, key, e == NULL ? NULL : entry_head(e));
}

static int boundary_cover(struct memtable_apply *a, struct tree_memtable_entry *e, uint64_t msn)
{
    struct tree_memtable_version *now = entry_head(e);
    if (now != NULL && version_unseen(a, now)) {
        now = version_older(now); /* of this batch: the newer one says it all */
    } else if (now != NULL) {
        version_prune(a, now, false); /* several pieces may have it */
    }
    struct tree_memtable_version *v = tree_memtable_version_new(a->m, 0);
    if (v == NULL) {
        return -ENOMEM;
    }
    v->type = TREE_RANGE_DELETE;
    atomic_store_explicit(&v->inside, false, memory_order_relaxed);
    atomic_store_explicit(&v->msn, msn, memory_order_relaxed);
    atomic_store_explicit(&v->older, now, memory_order_relaxed);
    atomic_store_explicit(&e->head, v, memory_order_release);
    return 0;
}

static int memtable_delete_range(struct memtable_apply *a, struct kv_slice low,
                                 struct kv_slice high, uint64_t msn)
{
    if (kv_slice_compare(low, high) >= 0) {
        return 0;
    }
    struct tree_memtable_entry *e = boundary_at(a->m, low);
    struct tree_memtable_entry *end = e == NULL ? NULL : boundary_at(a->m, high);
    if (end == NULL) {
        return -ENOMEM;
    }
    atomic_store_explicit(&a->m->range_msn, msn, memory_order_release);
    int rc = 0;
    for (; rc == 0 && e != end; e = entry_after(e)) {
        rc = boundary_cover(a, e, msn);
    }
    a->m->range_count += rc == 0 ? 1 : 0;
    return rc;
}

/* ---- batches ---- */

static int memtable_apply_one(struct memtable_apply *a, const struct kv_batch_item *item,
                              uint64_t msn)
{
    uint8_t body[TREE_UPSERT_MAX];
    struct tree_message message = {.msn = msn, .body = item->value};
    switch (item->op) {
    case KV_PUT:
        message.type = TREE_PUT;
        break;
    case KV_DELETE:
        message.type = TREE_DELETE;
        break;
    case KV_UPSERT:
        message.type = TREE_UPSERT;
        message.body.len =
            tree_upsert_encode(item->value_len, item->field, item->field_count, body);
        message.body.at = body;
        break;
    case KV_DELETE_RANGE:
        return memtable_delete_range(a, item->key, item->value, msn);
    default:
        CHECK(false && "an operation of a batch");
    }
    return memtable_change(a, item->key, &message);
}

/* Takes the versions of this batch out again. They are nothing to anybody but who stands on them.
 */
static void entry_restore(struct memtable_apply *a, struct tree_memtable_entry *e, bool range)
{
    struct tree_memtable_version *v = e == NULL ? NULL : entry_head(e);
    while (v != NULL && version_unseen(a, v)) {
        v = version_older(v);
        atomic_store_explicit(&e->head, v, memory_order_release);
        memtable_count_keys(a->m, v == NULL && !range ? -1 : 0);
    }
}

static void memtable_undo(struct memtable_apply *a, const struct kv_batch *b, uint64_t count)
{
    struct kv_batch_reader r;
    struct kv_batch_item item;
    kv_batch_reader_init(&r, b);
    for (; count > 0 && kv_batch_reader_next(&r, &item); count--) {
        if (item.op != KV_DELETE_RANGE) {
            entry_restore(a, tree_memtable_place(&a->m->keys, item.key), false);
            continue;
        }
        struct tree_memtable_entry *e = tree_memtable_seek(&a->m->ranges, item.key);
        while (e != NULL && kv_slice_compare(memtable_entry_key(e), item.value) < 0) {
            entry_restore(a, e, true);
            e = entry_after(e);
        }
    }
}

int tree_memtable_apply(struct tree_memtable *m, const struct kv_batch *b, uint64_t msn,
                        const struct tree_snapshots_view *v, struct tree_superseded *ret)
{
    struct memtable_apply a = {.m = m, .view = v};
    struct kv_batch_reader r;
    struct kv_batch_item item;
    uint64_t count = 0, range_msn = atomic_load_explicit(&m->range_msn, memory_order_relaxed);
    uint64_t range_count = m->range_count;
    CHECK(!m->frozen);
    CHECK(msn > v->published);
    CHECK(msn > m->max_msn);
    CHECK(msn > m->base_msn);
    a.oldest_reader = tree_snapshots_oldest_reader(v, m->base_msn);
    if (!tree_snapshots_youngest(v, &a.youngest)) {
        a.youngest = 0;
    }
    memtable_collect_retired(&a);
    int rc = 0;
    kv_batch_reader_init(&r, b);
    while (rc == 0 && kv_batch_reader_next(&r, &item)) {
        rc = memtable_apply_one(&a, &item, msn + count);
        count++;
    }
    if (rc < 0) {
        memtable_undo(&a, b, count);
        m->range_count = range_count;
        atomic_store_explicit(&m->range_msn, range_msn, memory_order_relaxed);
        return rc;
    }
    if (count > 0) {
        m->min_msn = m->min_msn == 0 ? msn : m->min_msn;
        m->max_msn = msn + count - 1;
    }
    *ret = a.superseded;
    return 0;
}
