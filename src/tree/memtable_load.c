/*
 * tree/memtable_load.c -- fills a memtable with what was kept of another one: see memtable.h.
 *
 * Nobody reads yet, so there is nothing to publish and nothing to keep for snapshots: of each key
 * there is one version, and behind it what it does not fold with.
 */
#include "tree/memtable_priv.h"

#include <string.h>

/* What place() said is where the last entry of the table ends. */
static bool load_is_last(const struct memtable_table *t, const struct tree_memtable_entry *e)
{
    const struct tree_memtable_entry *last = e == NULL ? t->before : e;
    return last == NULL ? atomic_load_explicit(&t->first, memory_order_relaxed) == NULL
                        : atomic_load_explicit(&last->next, memory_order_relaxed) == NULL;
}

static struct tree_memtable_version *load_version(struct tree_memtable *m, uint64_t msn,
                                                  struct kv_slice body, uint8_t type)
{
    struct tree_memtable_version *v = tree_memtable_version_new(m, body.len);
    if (v != NULL) {
        atomic_init(&v->msn, msn);
        atomic_init(&v->older, NULL);
        v->type = type;
        if (body.len > 0) {
            memcpy(v->body, body.at, body.len);
        }
    }
    return v;
}

static void load_count(struct tree_memtable *m, uint64_t msn)
{
    m->min_msn = m->min_msn == 0 ? msn : base_min(m->min_msn, msn);
    m->max_msn = base_max(m->max_msn, msn);
}

int tree_memtable_load(struct tree_memtable *m, struct kv_slice key,
                       const struct tree_message *message)
{
    struct memtable_table *t = &m->keys;
    CHECK(!m->frozen);
    if (key.len == 0 || message->type == TREE_RANGE_DELETE || message->msn <= m->base_msn) {
        return -ERR_bad_value;
    }
    struct tree_memtable_entry *e = tree_memtable_place(t, key);
    if (!load_is_last(t, e) || (e != NULL && message->msn >= m->loaded->msn)) {
        return -ERR_bad_value;
    }
    struct tree_memtable_version *v =
        load_version(m, message->msn, message->body, (uint8_t)message->type);
    if (v == NULL) {
        return -ENOMEM;
    }
    if (e != NULL) {
        v->held = true;
        m->loaded->rest = v;
    } else if (tree_memtable_insert(m, t, key, v) == NULL) {
        tree_memtable_version_put(m, v);
        return -ENOMEM;
    } else {
        memtable_count_keys(m, 1);
    }
    m->loaded = v;
    load_count(m, message->msn);
    return 0;
}

/* The last boundary, of this key. NULL and *rc: it would not be the last, or no memory. */
static struct tree_memtable_entry *load_boundary(struct tree_memtable *m, struct kv_slice key,
                                                 int *rc)
{
    struct tree_memtable_entry *e = tree_memtable_place(&m->ranges, key);
    if (!load_is_last(&m->ranges, e)) {
        *rc = -ERR_bad_value;
        return NULL;
    }
    if (e == NULL) {
        e = tree_memtable_insert(m, &m->ranges, key, NULL);
        *rc = e == NULL ? -ENOMEM : 0;
    }
    return e;
}

int tree_memtable_load_range(struct tree_memtable *m, const struct tree_range *range)
{
    int rc = 0;
    CHECK(!m->frozen);
    if (range->msn <= m->base_msn || kv_slice_compare(range->low, range->high) >= 0) {
        return -ERR_bad_value;
    }
    struct tree_memtable_entry *low = load_boundary(m, range->low, &rc);
    if (low == NULL) {
        return rc;
    }
    CHECK(atomic_load_explicit(&low->head, memory_order_relaxed) == NULL); /* it is the last */
    struct tree_memtable_version *v =
        load_version(m, range->msn, kv_slice_of(NULL, 0), TREE_RANGE_DELETE);
    if (v == NULL) {
        return -ENOMEM;
    }
    atomic_store_explicit(&v->inside, true, memory_order_relaxed); /* nobody has looked */
    if (load_boundary(m, range->high, &rc) == NULL) {
        tree_memtable_version_put(m, v);
        return rc;
    }
    atomic_store_explicit(&low->head, v, memory_order_relaxed);
    uint64_t newest = atomic_load_explicit(&m->range_msn, memory_order_relaxed);
    atomic_store_explicit(&m->range_msn, base_max(newest, range->msn), memory_order_relaxed);
    m->range_count++;
    load_count(m, range->msn);
    return 0;
}
