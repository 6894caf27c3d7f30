/*
 * base/dict.c -- see dict.h.
 *
 * Chained buckets, a power of two of them. To grow or shrink, table[1] gets the new buckets and
 * each insertion moves a few from table[0]; a node is always in exactly one known place, because
 * buckets of table[0] below `moved` are empty for good:
 *
 *     bucket of table[0] < moved  ->  look in table[1]
 *     else                        ->  look in table[0]
 *
 * Only insertion moves: a search changes nothing, and an iterator survives searches and removals.
 * Growth doubles when there are as many nodes as buckets, so at one bucket per insertion the move
 * would end just before the next one is due; it goes MOVE_BUCKETS times as fast.
 */
#include "base/dict.h"

#include "base/mem.h"

#include <errno.h>
#include <xxhash.h>

#define BUCKETS_MIN 8u
#define MOVE_BUCKETS 4u
#define SHRINK_RATIO 8u /* fewer nodes than an eighth of the buckets: halve */

void dict_init(struct dict *d, const struct dict_ops *ops, void *owner, uint64_t seed)
{
    *d = (struct dict){.ops = ops, .owner = owner, .seed = seed};
}

static bool rehashing(const struct dict *d)
{
    return d->table[1].bucket != NULL;
}

static void table_free(struct dict_table *t)
{
    mem_free(t->bucket);
    *t = (struct dict_table){.bucket = NULL};
}

static void chain_drop(struct dict *d, struct dict_node *chain)
{
    while (chain != NULL) {
        struct dict_node *next = chain->next; /* `dropped` may free the node */
        d->count--;
        if (d->ops->dropped != NULL) {
            d->ops->dropped(chain, d->owner);
        }
        chain = next;
    }
}

static void table_drop(struct dict *d, struct dict_table *t)
{
    for (size_t i = 0; t->bucket != NULL && i <= t->mask; i++) {
        struct dict_node *chain = t->bucket[i];
        t->bucket[i] = NULL;
        chain_drop(d, chain);
    }
}

void dict_clear(struct dict *d)
{
    table_drop(d, &d->table[0]);
    table_drop(d, &d->table[1]);
    CHECK(d->count == 0);
    table_free(&d->table[1]);
    d->moved = 0;
}

void dict_fini(struct dict *d)
{
    dict_clear(d);
    table_free(&d->table[0]);
}

uint64_t dict_hash(const struct dict *d, const void *key, size_t len)
{
    return XXH3_64bits_withSeed(key, len, d->seed);
}

uint64_t dict_hash_u64(const struct dict *d, uint64_t key)
{
    return XXH3_64bits_withSeed(&key, sizeof key, d->seed);
}

/* Where the chain of `hash` begins. There must be a table. */
static struct dict_node **bucket_of(const struct dict *d, uint64_t hash)
{
    size_t index = (size_t)hash & d->table[0].mask;
    if (rehashing(d) && index < d->moved) {
        return &d->table[1].bucket[(size_t)hash & d->table[1].mask];
    }
    return &d->table[0].bucket[index];
}

struct dict_node *dict_find(struct dict *d, uint64_t hash, const void *key)
{
    struct dict_node *n = d->count > 0 ? *bucket_of(d, hash) : NULL;
    while (n != NULL && !(n->hash == hash && d->ops->equal(n, key))) {
        n = n->next;
    }
    return n;
}

static void move_bucket(struct dict *d)
{
    struct dict_node *n = d->table[0].bucket[d->moved];
    d->table[0].bucket[d->moved] = NULL;
    while (n != NULL) {
        struct dict_node *next = n->next;
        struct dict_node **to = &d->table[1].bucket[(size_t)n->hash & d->table[1].mask];
        n->next = *to;
        *to = n;
        n = next;
    }
    d->moved++;
}

static void move_some(struct dict *d)
{
    for (unsigned i = 0; i < MOVE_BUCKETS && d->moved <= d->table[0].mask; i++) {
        move_bucket(d);
    }
    if (d->moved > d->table[0].mask) {
        table_free(&d->table[0]);
        d->table[0] = d->table[1];
        d->table[1] = (struct dict_table){.bucket = NULL};
        d->moved = 0;
    }
}

/* How many buckets there should be for one node more. */
static size_t buckets_wanted(const struct dict *d)
{
    size_t now = d->table[0].mask + 1;
    if (d->count >= now) {
        return now <= SIZE_MAX / 2 ? now * 2 : now;
    }
    return now > BUCKETS_MIN && d->count < now / SHRINK_RATIO ? now / 2 : now;
}

/* A failure costs speed only: the next insertion tries again. */
static void resize_begin(struct dict *d)
{
    size_t wanted = buckets_wanted(d);
    if (wanted == d->table[0].mask + 1) {
        return;
    }
    struct dict_node **bucket = mem_calloc(wanted, sizeof(struct dict_node *));
    if (bucket != NULL) {
        d->table[1] = (struct dict_table){.bucket = bucket, .mask = wanted - 1};
        d->moved = 0;
    }
}

int dict_insert(struct dict *d, uint64_t hash, struct dict_node *node)
{
    if (d->table[0].bucket == NULL) {
        struct dict_node **bucket = mem_calloc(BUCKETS_MIN, sizeof(struct dict_node *));
        if (bucket == NULL) {
            return -ENOMEM;
        }
        d->table[0] = (struct dict_table){.bucket = bucket, .mask = BUCKETS_MIN - 1};
    }
    if (!rehashing(d)) {
        resize_begin(d);
    }
    if (rehashing(d)) {
        move_some(d);
    }
    struct dict_node **to = bucket_of(d, hash);
    node->hash = hash;
    node->next = *to;
    *to = node;
    d->count++;
    return 0;
}

void dict_remove(struct dict *d, struct dict_node *node)
{
    CHECK(d->count > 0);
    struct dict_node **at = bucket_of(d, node->hash);
    while (*at != NULL && *at != node) {
        at = &(*at)->next;
    }
    CHECK(*at == node); /* it is in this dictionary */
    *at = node->next;
    node->next = NULL;
    d->count--;
}

void dict_iter_init(struct dict_iter *it, struct dict *d)
{
    *it = (struct dict_iter){.dict = d};
}

struct dict_node *dict_iter_next(struct dict_iter *it)
{
    while (it->next == NULL && it->table < ARRAY_COUNT(it->dict->table)) {
        const struct dict_table *t = &it->dict->table[it->table];
        if (t->bucket == NULL || it->bucket > t->mask) {
            it->table++;
            it->bucket = 0;
        } else {
            it->next = t->bucket[it->bucket++];
        }
    }
    struct dict_node *node = it->next;
    it->next = node != NULL ? node->next : NULL; /* now: the body may remove `node` */
    return node;
}
