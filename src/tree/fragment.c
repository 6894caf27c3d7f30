/*
 * tree/fragment.c -- see fragment.h.
 *
 * A sweep over all bounds in order. Live snapshots divide the numbers into classes; of each class
 * only the greatest number matters, for whoever sees a number of a class sees all of it. A heap for
 * each class has the ranges that have begun; those that have ended are dropped when they come up.
 */
#include "tree/fragment.h"

#include <stdlib.h>

#include "base/heap.h"
#include "base/mem.h"

struct fragment_source {
    struct heap_node node;
    const struct tree_ranges_item *item;
    size_t class;
};

struct fragment_sweep {
    struct fragment_source *source; /* in the order of their beginnings */
    struct kv_slice *bound;
    struct heap *begun; /* of each class, the newest one last */
    size_t count, bound_count, class_count;
    size_t next; /* source that has not begun */
    struct tree_ranges_item *out;
    size_t out_count, out_capacity;
    size_t last, last_count; /* the pieces between the bounds before */
};

static int fragment_compare_bounds(const void *a, const void *b)
{
    return kv_slice_compare(*(const struct kv_slice *)a, *(const struct kv_slice *)b);
}

static int fragment_compare_sources(const void *a, const void *b)
{
    const struct fragment_source *left = a, *right = b;
    return kv_slice_compare(left->item->low, right->item->low);
}

/* How many live snapshots do not see it. */
static size_t fragment_class(struct tree_fragment_live live, uint64_t msn)
{
    size_t low = 0, high = live.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (live.msn[middle] < msn) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void fragment_fini(struct fragment_sweep *s)
{
    for (size_t i = 0; s->begun != NULL && i < s->class_count; i++) {
        heap_fini(&s->begun[i]);
    }
    mem_free(s->begun);
    mem_free(s->source);
    mem_free(s->bound);
    mem_free(s->out);
}

static int fragment_init(struct fragment_sweep *s, const struct tree_ranges_item *items,
                         size_t count, struct tree_fragment_live live)
{
    *s = (struct fragment_sweep){.count = count, .class_count = live.count + 1};
    s->source = mem_calloc(count, sizeof *s->source);
    s->bound = mem_calloc(2 * count, sizeof *s->bound);
    s->begun = mem_calloc(s->class_count, sizeof *s->begun);
    if (s->source == NULL || s->bound == NULL || s->begun == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < s->class_count; i++) {
        CHECK(i == 0 || i == live.count || live.msn[i - 1] < live.msn[i]);
        heap_init(&s->begun[i]);
    }
    for (size_t i = 0; i < count; i++) {
        CHECK(items[i].msn != 0 && kv_slice_compare(items[i].low, items[i].high) < 0);
        s->source[i].item = &items[i];
        s->source[i].class = fragment_class(live, items[i].msn);
        s->bound[2 * i] = items[i].low;
        s->bound[2 * i + 1] = items[i].high;
    }
    qsort(s->source, count, sizeof *s->source, fragment_compare_sources);
    qsort(s->bound, 2 * count, sizeof *s->bound, fragment_compare_bounds);
    for (size_t i = 0; i < 2 * count; i++) {
        if (i == 0 || kv_slice_compare(s->bound[s->bound_count - 1], s->bound[i]) != 0) {
            s->bound[s->bound_count++] = s->bound[i];
        }
    }
    return 0;
}

static int fragment_begin(struct fragment_sweep *s, struct kv_slice at)
{
    while (s->next < s->count && kv_slice_compare(s->source[s->next].item->low, at) <= 0) {
        struct fragment_source *source = &s->source[s->next];
        int rc = heap_insert(&s->begun[source->class], &source->node, ~source->item->msn);
        if (rc < 0) {
            return rc;
        }
        s->next++;
    }
    return 0;
}

/* The greatest number of a class that covers what begins at `at`; 0: none. */
static uint64_t fragment_newest(struct heap *begun, struct kv_slice at)
{
    struct heap_node *first = heap_first(begun);
    while (first != NULL) {
        const struct tree_ranges_item *item =
            container_of(first, struct fragment_source, node)->item;
        if (kv_slice_compare(at, item->high) < 0) {
            return item->msn;
        }
        heap_remove(begun, first);
        first = heap_first(begun);
    }
    return 0;
}

/* The pieces that were just added go on where the ones before end, and say the same. */
static bool fragment_goes_on(const struct fragment_sweep *s, size_t start)
{
    const struct tree_ranges_item *last = &s->out[s->last], *added = &s->out[start];
    if (s->last_count == 0 || s->last_count != s->out_count - start ||
        kv_slice_compare(last->high, added->low) != 0) {
        return false;
    }
    for (size_t i = 0; i < s->last_count; i++) {
        if (last[i].msn != added[i].msn) {
            return false;
        }
    }
    return true;
}

static int fragment_between(struct fragment_sweep *s, struct kv_slice low, struct kv_slice high)
{
    size_t start = s->out_count;
    int rc = fragment_begin(s, low);
    for (size_t class = s->class_count; class -- > 0 && rc == 0;) {
        uint64_t msn = fragment_newest(&s->begun[class], low);
        if (msn == 0) {
            continue;
        }
        rc = mem_grow(&s->out, &s->out_capacity, s->out_count + 1, sizeof *s->out);
        if (rc == 0) {
            s->out[s->out_count++] =
                (struct tree_ranges_item){.low = low, .high = high, .msn = msn};
        }
    }
    if (rc < 0 || s->out_count == start) {
        return rc;
    }
    if (fragment_goes_on(s, start)) {
        for (size_t i = 0; i < s->last_count; i++) {
            s->out[s->last + i].high = high;
        }
        s->out_count = start;
        return 0;
    }
    s->last = start;
    s->last_count = s->out_count - start;
    return 0;
}

int tree_fragment(const struct tree_ranges_item *items, size_t count,
                  struct tree_fragment_live live, struct tree_ranges_item **ret, size_t *ret_count)
{
    struct fragment_sweep s;
    CHECK(count > 0);
    int rc = fragment_init(&s, items, count, live);
    for (size_t i = 0; i + 1 < s.bound_count && rc == 0; i++) {
        rc = fragment_between(&s, s.bound[i], s.bound[i + 1]);
    }
    if (rc == 0) {
        *ret = s.out;
        *ret_count = s.out_count;
        s.out = NULL;
    }
    fragment_fini(&s);
    return rc;
}
