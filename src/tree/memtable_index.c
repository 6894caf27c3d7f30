/*
 * tree/memtable_index.c -- entries of a table by their fingerprints: most reads are of one key, and
 * most keys that change have an entry already. Then this costs a line or two instead of a way down
 * the tree; and a memtable without the key costs one line.
 *
 * A bucket is a cache line: a tag for each of its entries, and whether an entry that belongs here
 * went into one behind. Nothing is ever removed. A reader finds every entry that it may see: it was
 * put in before the reader's limit was published, and what replaces a full index has all of the old
 * one, or leads to it.
 */
#include "tree/memtable_priv.h"

#include <string.h>

#define INDEX_FIRST 16u    /* buckets */
#define INDEX_COPIED 1024u /* one as large is copied for the last time: that takes a while */
/* Bytes of a memtable for each bucket: mostly the next index has room for all. */
#define INDEX_EACH 1024u
#define INDEX_FILL 5u   /* entries for each bucket, when it is full */
#define INDEX_REACH 16u /* buckets that an entry may lie in */
#define INDEX_PASSED 7u /* byte of the tags: it is not 0 when entries went further */
#define INDEX_LINE 64u

struct memtable_bucket {
    _Atomic uint64_t tags;
    _Atomic(struct tree_memtable_entry *) entry[MEMTABLE_BUCKET];
};
_Static_assert(sizeof(struct memtable_bucket) == INDEX_LINE, "a bucket is a cache line");

struct memtable_index {
    struct memtable_index *older;
    size_t count; /* the writer's */
    size_t mask;
    struct memtable_bucket *bucket;
};

static inline uint64_t index_tag(uint64_t print)
{
    return base_max(print >> 56, 1);
}

/* The top bit of each byte of `tags` that is `tag`; bytes above one of them may be wrong. */
static inline uint64_t index_matches(uint64_t tags, uint64_t tag)
{
    uint64_t ones = UINT64_C(0x0101010101010101), other = tags ^ tag * ones;
    return (other - ones) & ~other & ones << 7 & UINT64_MAX >> 8;
}

static struct tree_memtable_entry *bucket_find(const struct memtable_bucket *b, uint64_t tags,
                                               uint64_t tag, struct kv_slice key)
{
    for (uint64_t m = index_matches(tags, tag); m != 0; m &= m - 1) {
        size_t i = (size_t)__builtin_ctzll(m) / 8;
        struct tree_memtable_entry *e = atomic_load_explicit(&b->entry[i], memory_order_relaxed);
        if (e != NULL && e->key_len == key.len && memcmp(e->key, key.at, key.len) == 0) {
            return e;
        }
    }
    return NULL;
}

bool tree_memtable_index_find(const struct memtable_table *t, struct kv_slice key, uint64_t print,
                              struct tree_memtable_entry **ret)
{
    const struct memtable_index *x = atomic_load_explicit(&t->index, memory_order_acquire);
    uint64_t tag = index_tag(print);
    *ret = NULL;
    for (; x != NULL; x = x->older) {
        uint64_t tags = UINT64_MAX;
        for (size_t i = 0; i < INDEX_REACH && tags >> 8 * INDEX_PASSED != 0; i++) {
            const struct memtable_bucket *b = &x->bucket[(print + i) & x->mask];
            tags = atomic_load_explicit(&b->tags, memory_order_acquire);
            *ret = bucket_find(b, tags, tag, key);
            if (*ret != NULL) {
                return true;
            }
        }
    }
    return !atomic_load_explicit(&t->index_lacks, memory_order_acquire);
}

/* ---- the writer's ---- */

static bool bucket_put(struct memtable_bucket *b, uint64_t tag, struct tree_memtable_entry *e)
{
    uint64_t tags = atomic_load_explicit(&b->tags, memory_order_relaxed);
    for (size_t i = 0; i < MEMTABLE_BUCKET; i++) {
        if ((tags >> 8 * i & 0xff) == 0) {
            atomic_store_explicit(&b->entry[i], e, memory_order_relaxed);
            atomic_store_explicit(&b->tags, tags | tag << 8 * i, memory_order_release);
            return true;
        }
    }
    tags |= UINT64_C(1) << 8 * INDEX_PASSED;
    atomic_store_explicit(&b->tags, tags, memory_order_release);
    return false;
}

static void index_put(struct memtable_table *t, struct memtable_index *x,
                      struct tree_memtable_entry *e, uint64_t print)
{
    bool put = false;
    for (size_t i = 0; i < INDEX_REACH && !put; i++) {
        put = bucket_put(&x->bucket[(print + i) & x->mask], index_tag(print), e);
    }
    x->count++;
    if (!put) { /* many keys with nearly the same fingerprint: somebody means it */
        atomic_store_explicit(&t->index_lacks, true, memory_order_release);
    }
}

static struct memtable_index *index_new(struct tree_memtable *m, size_t buckets)
{
    size_t size = buckets * sizeof(struct memtable_bucket);
    struct memtable_index *x = tree_memtable_take(m, sizeof *x + size + INDEX_LINE);
    if (x == NULL) {
        return NULL;
    }
    uint8_t *at = (uint8_t *)(x + 1);
    at += (INDEX_LINE - (uintptr_t)at % INDEX_LINE) % INDEX_LINE;
    memset(at, 0, size);
    *x = (struct memtable_index){.mask = buckets - 1,
                                 .bucket = (struct memtable_bucket *)(void *)at};
    return x;
}

static void index_copy(struct memtable_table *t, struct memtable_index *to,
                       const struct memtable_index *from)
{
    for (size_t i = 0; i <= from->mask; i++) {
        const struct memtable_bucket *b = &from->bucket[i];
        for (size_t k = 0; k < MEMTABLE_BUCKET; k++) {
            struct tree_memtable_entry *e =
                atomic_load_explicit(&b->entry[k], memory_order_relaxed);
            if (e != NULL) {
                index_put(t, to, e, tree_fingerprint(memtable_entry_key(e)));
            }
        }
    }
}

/* One has room for all that the memtable will have, if its entries are of usual size; those before
 * it are small, so that it takes no more than a small memtable needs. */
static size_t index_next(const struct tree_memtable *m, size_t buckets)
{
    size_t most = INDEX_COPIED;
    if (buckets < INDEX_COPIED) {
        return 4 * buckets;
    }
    while (most < m->limit_bytes / INDEX_EACH) {
        most *= 2;
    }
    return base_max(most, 2 * buckets);
}

int tree_memtable_index_room(struct tree_memtable *m, struct memtable_table *t)
{
    struct memtable_index *x = atomic_load_explicit(&t->index, memory_order_relaxed);
    if (x != NULL && x->count < INDEX_FILL * (x->mask + 1)) {
        return 0;
    }
    size_t buckets = x == NULL ? 0 : x->mask + 1;
    struct memtable_index *more = index_new(m, x == NULL ? INDEX_FIRST : index_next(m, buckets));
    if (more == NULL) {
        return -ENOMEM;
    }
    if (x != NULL && buckets <= INDEX_COPIED) {
        index_copy(t, more, x);
    } else {
        more->older = x;
    }
    atomic_store_explicit(&t->index, more, memory_order_release);
    return 0;
}

void tree_memtable_index_put(struct memtable_table *t, struct tree_memtable_entry *e,
                             uint64_t print)
{
    index_put(t, atomic_load_explicit(&t->index, memory_order_relaxed), e, print);
}
