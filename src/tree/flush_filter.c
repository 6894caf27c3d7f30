#include "tree/flush_filter_priv.h"

#include <string.h>

static int job_print(struct flush_job *j, uint64_t print)
{
    int rc = mem_grow(&j->print, &j->print_capacity, j->print_count + 1, sizeof j->print[0]);
    if (rc == 0) {
        j->print[j->print_count++] = print;
    }
    return rc;
}

int tree_flush_print(struct flush_job *j, struct kv_slice key)
{
    return j->f->shape->filter_bits == 0 ? 0 : job_print(j, tree_fingerprint(key));
}

int tree_flush_print_run(struct flush_job *j, struct kv_slice key, unsigned run)
{
    CHECK(run <= UINT8_MAX);
    return j->f->shape->filter_bits == 0
               ? 0
               : job_print(j, tree_filter_of_run(tree_fingerprint(key), (uint8_t)run));
}

/* Each run of a slot is asked for by itself on each level, so those have to be wrong more seldom;
 * and much less lies in buffers than in leaves. */
static unsigned filter_bits(const struct tree_flush *f, enum tree_filter_kind kind)
{
    unsigned bits = f->shape->filter_bits;
    if (kind == TREE_FILTER_RUNS) {
        return (unsigned)base_min(bits * 3 / 2, TREE_FILTER_BITS_MAX);
    }
    bits = f->leaf_bits > 0 ? (unsigned)base_min(bits, f->leaf_bits) : bits;
    return (unsigned)base_min(bits, TREE_FILTER_BITS_MAX);
}

/* Filters are most of what must stay in memory when names are looked up at random, so that there is
 * room for little more than there is: a leaf that gets much is written as a whole anyway. What
 * passes through a buffer stays in its filter until that is made anew. */
static uint64_t filter_room(enum tree_filter_kind kind, uint64_t count)
{
    return kind == TREE_FILTER_RUNS ? 2 * count + 1 : count + count / 4 + 1;
}

bool tree_flush_filter_worn(const struct tree_flush *f, const struct flush_worn *x)
{
    uint64_t capacity = tree_filter_capacity(x->len, filter_bits(f, x->kind));
    return x->keys > 2 * x->entries || x->keys > capacity + capacity / 4;
}

int tree_flush_filter(struct flush_job *j, const struct flush_filter *x, uint8_t **ret,
                      size_t *ret_len)
{
    unsigned bits = filter_bits(j->f, x->kind);
    uint64_t count = x->end - x->first;
    uint64_t keys = filter_room(x->kind, count);
    size_t len = x->base != NULL ? x->base_len : tree_filter_bytes(keys, bits);
    uint8_t *bytes = tree_cache_get(j->f->cache, len);
    if (bytes == NULL) {
        return -ENOMEM;
    }
    if (x->base != NULL) {
        memcpy(bytes, x->base, len);
    } else {
        CHECK(count > 0);
        (void)tree_filter_begin(x->kind, keys, bits, bytes);
    }
    if (count > 0) {
        tree_filter_add(bytes, j->print + x->first, count);
    }
    *ret = bytes;
    *ret_len = len;
    return 0;
}
