/*
 * chunk/sums.c -- members of a chain have the same when these numbers are the same: for each chunk
 * with a committed content a hash of its key, identity and digest, and the sum of all of them, so
 * that the order does not matter and each change costs one subtraction and one addition. Kept with
 * each change in memory; a start builds it up with the index.
 *
 * There are two such sums. `digest` is what the metadata server compares: a difference makes it
 * tell somebody. `mark` is what ends a resync without a look at the chunks (doc/design/0068), so
 * that nothing may be equal that is not: each field is mixed in by itself, where the older number
 * takes chunk 1 of data 4 and chunk 0 of data 5 for the same; and both have to agree.
 *
 * An engine that does not have all entries in memory keeps the sums in its index, too. An entry
 * remembers what it has added, and to which chain: so nothing is ever taken from another sum than
 * the one that it was added to.
 */
#include "chunk/sums_priv.h"

#include "chunk/store_priv.h"

struct sum_item {
    struct chunk_item item;
    struct chunk_sum sum;
};

static uint64_t sum_mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15); /* golden ratio */
    h = (h ^ h >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return h ^ h >> 32;
}

struct chunk_sum chunk_sum_of(struct chunk_key key, const struct chunk_meta *m)
{
    uint64_t h = sum_mix(key.data_id, key.index);
    h = sum_mix(h, m->identity.aepoch);
    h = sum_mix(h, m->identity.ver);
    uint64_t mark = sum_mix(UINT64_C(0x6f70656e64667321), key.data_id); /* "opendfs!" */
    mark = sum_mix(mark, (uint64_t)key.index << 32 | m->identity.aepoch);
    mark = sum_mix(mark, m->identity.ver);
    return (struct chunk_sum){
        .count = 1, .digest = sum_mix(h, m->digest), .mark = sum_mix(mark, m->digest)};
}

void chunk_sum_add(struct chunk_sum *to, const struct chunk_sum *x)
{
    to->count += x->count;
    to->digest += x->digest;
    to->mark += x->mark;
}

void chunk_sum_take(struct chunk_sum *from, const struct chunk_sum *x)
{
    from->count -= x->count;
    from->digest -= x->digest;
    from->mark -= x->mark;
}

static struct sum_item *sum_find(const struct chunk_sums *x, uint32_t chain)
{
    struct chunk_item *item = chunk_index_find(&x->index, (struct chunk_key){.data_id = chain});
    return item == NULL ? NULL : container_of(item, struct sum_item, item);
}

static struct sum_item *sum_get(struct chunk_sums *x, uint32_t chain)
{
    struct sum_item *one = sum_find(x, chain);
    if (one != NULL) {
        return one;
    }
    one = mem_zalloc(sizeof *one);
    if (one == NULL) {
        return NULL;
    }
    one->item.key.data_id = chain;
    if (chunk_index_insert(&x->index, &one->item) < 0) {
        mem_free(one);
        return NULL;
    }
    return one;
}

void chunk_sums_changed(struct chunk_store *s, struct chunk_entry *e)
{
    struct sum_item *one = e->sum_chain == 0 ? NULL : sum_find(&s->sums, e->sum_chain);
    if (one != NULL) {
        CHECK(one->sum.count > 0);
        chunk_sum_take(&one->sum, &e->sum);
    }
    e->sum_chain = 0;
    if (e->committed == NULL || e->chain == 0) {
        return;
    }
    one = sum_get(&s->sums, e->chain);
    if (one == NULL) {
        s->sums.unknown = true; /* until the next start */
        return;
    }
    e->sum_chain = e->chain;
    e->sum = chunk_sum_of(e->item.key, &e->committed->meta);
    chunk_sum_add(&one->sum, &e->sum);
}

void chunk_sums_known(struct chunk_entry *e)
{
    bool counts = e->committed != NULL && e->chain != 0;
    e->sum_chain = counts ? e->chain : 0;
    e->sum = counts ? chunk_sum_of(e->item.key, &e->committed->meta) : (struct chunk_sum){0};
}

int chunk_sums_add(struct chunk_sums *x, uint32_t chain, struct chunk_sum sum)
{
    struct sum_item *one = sum_get(x, chain);
    if (one == NULL) {
        return -ENOMEM;
    }
    chunk_sum_add(&one->sum, &sum);
    return 0;
}

bool chunk_sums_next(const struct chunk_sums *x, uint64_t from, uint32_t *ret_chain,
                     struct chunk_sum *ret)
{
    struct chunk_item *item = chunk_index_next(&x->index, (struct chunk_key){.data_id = from});
    if (item == NULL) {
        return false;
    }
    *ret_chain = (uint32_t)item->key.data_id;
    *ret = container_of(item, struct sum_item, item)->sum;
    return true;
}

bool chunk_store_sum(const struct chunk_store *s, uint32_t chain, struct chunk_sum *ret)
{
    const struct sum_item *one = sum_find(&s->sums, chain);
    *ret = one == NULL ? (struct chunk_sum){0} : one->sum;
    return !s->sums.unknown;
}

void chunk_sums_fini(struct chunk_sums *x)
{
    struct chunk_key from = {0};
    for (struct chunk_item *item = chunk_index_next(&x->index, from); item != NULL;
         item = chunk_index_next(&x->index, from)) {
        from = item->key;
        chunk_index_remove(&x->index, from);
        mem_free(container_of(item, struct sum_item, item));
    }
    chunk_index_fini(&x->index);
}
