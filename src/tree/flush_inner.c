/*
 * tree/flush_inner.c -- messages come into the buffers of internal nodes.
 *
 * Slot by slot: what comes becomes a new run beside the others; where there would be too many, one
 * run of all; where a deleted range covers the whole slot, instead of all. Runs are cut into
 * partitions. A run whose deleted ranges would not fit into a partition ends at one of them, and
 * goes on as the next run.
 *
 * So a slot has no more runs than runs_max and one for each quarter of internal_raw that its node
 * has in bytes: 16 MiB at most, so 20 as nodes are shaped by default. TREE_SOURCES_MAX has room for
 * that many on each level of the highest tree, and of an older file (with a run for each 256 KiB of
 * ranges) on five. Numbers of runs, a byte, begin anew where all runs of a slot become one.
 */
#include "tree/flush_filter_priv.h"

#include <string.h>

#define RUN_RANGES_PARTS 16u /* bytes of ranges of a run: as many as so many partitions, */
#define RUN_RANGES_SHARE 4u  /* or this part of a buffer */
#define RUN_NUMBER_MAX (UINT8_MAX / 2)

/* A run that is being written. */
struct run_writer {
    struct flush_job *job;
    struct flush_plan *plan;
    struct tree_block_builder *builder;
    unsigned run;
    bool goes_on; /* it has a partition */
    struct kv_slice cut;
    struct tree_ranges_item *range; /* owned; keys are the arena's */
    size_t range_count, range_capacity, range_bytes;
};

/* ---- runs ---- */

static int run_seal(struct run_writer *w)
{
    struct flush_part part = {.kind = TREE_PARTITION_RUN, .run = (uint8_t)w->run, .cut = w->cut};
    if (w->builder->count == 0) {
        return 0;
    }
    CHECK(w->run <= UINT8_MAX);
    int rc = tree_flush_seal(w->job, w->builder, &part.part);
    rc = rc == 0 ? tree_flush_plan_part(w->plan, &part) : rc;
    w->goes_on = true;
    return rc;
}

static int run_seal_ranges(struct run_writer *w)
{
    struct flush_part part = {.kind = TREE_PARTITION_RANGES, .run = (uint8_t)w->run};
    struct flush_bytes bytes = {.kind = TREE_PARTITION_RANGES, .entries = (uint32_t)w->range_count};
    if (w->range_count == 0) {
        return 0;
    }
    CHECK(w->run <= UINT8_MAX);
    bytes.len = tree_ranges_bytes(w->range, w->range_count);
    bytes.at = tree_cache_get(w->job->f->cache, bytes.len);
    if (bytes.at == NULL) {
        return -ENOMEM;
    }
    size_t len = tree_ranges_encode(w->range, w->range_count, bytes.at);
    CHECK(len == bytes.len);
    w->range_count = 0;
    w->range_bytes = 0;
    int rc = tree_flush_part(w->job, &bytes, &part.part);
    return rc == 0 ? tree_flush_plan_part(w->plan, &part) : rc;
}

/* What comes next is of a newer run. */
static int run_end(struct run_writer *w)
{
    int rc = run_seal(w);
    rc = rc == 0 ? run_seal_ranges(w) : rc;
    w->run++;
    w->goes_on = false;
    w->cut = kv_slice_of(NULL, 0);
    return rc;
}

static int run_put(struct run_writer *w, struct kv_slice key, const struct tree_message *m,
                   size_t count)
{
    size_t bytes = tree_block_builder_bytes(w->builder);
    size_t more = (size_t)tree_flush_message_bytes(key, m, count);
    int rc = 0;
    if (w->builder->count > 0 && bytes + more > w->job->f->shape->part_raw) {
        rc = run_seal(w);
    }
    if (rc == 0 && w->builder->count == 0 && w->goes_on) {
        rc = tree_flush_dup(w->job, key, &w->cut);
    }
    for (size_t i = 0; i < count && rc == 0; i++) {
        struct tree_block_entry e = {
            .key = key, .body = m[i].body, .msn = m[i].msn, .type = (uint8_t)m[i].type};
        tree_flush_saw(w->job, m[i].msn);
        rc = tree_block_builder_add(w->builder, &e);
    }
    return rc == 0 ? tree_flush_print_run(w->job, key, w->run) : rc;
}

static size_t run_ranges_limit(const struct tree_shape *s)
{
    uint64_t parts = RUN_RANGES_PARTS * (uint64_t)s->part_raw;
    return (size_t)base_min(base_max(parts, s->internal_raw / RUN_RANGES_SHARE), TREE_RAW_MAX / 2);
}

/* Before the keys that it covers. */
static int run_put_range(struct run_writer *w, const struct tree_ranges_item *range)
{
    size_t limit = run_ranges_limit(w->job->f->shape);
    size_t bytes = tree_ranges_bytes(range, 1);
    struct tree_ranges_item item = {.msn = range->msn};
    int rc = 0;
    if (w->range_count > 0 && w->range_bytes + bytes > limit) {
        rc = run_end(w);
    }
    rc = rc == 0 ? tree_flush_dup(w->job, range->low, &item.low) : rc;
    rc = rc == 0 ? tree_flush_dup(w->job, range->high, &item.high) : rc;
    rc = rc == 0 ? mem_grow(&w->range, &w->range_capacity, w->range_count + 1, sizeof w->range[0])
                 : rc;
    if (rc == 0) {
        tree_flush_saw(w->job, range->msn);
        w->range[w->range_count++] = item;
        w->range_bytes += bytes;
    }
    return rc;
}

static void run_clip(struct run_writer *w, struct kv_slice end)
{
    if (w->range_count > 0 && kv_slice_compare(w->range[w->range_count - 1].high, end) > 0) {
        w->range[w->range_count - 1].high = end;
    }
}

static void run_writer_init(struct run_writer *w, struct flush_job *j, struct flush_plan *p,
                            unsigned run)
{
    *w = (struct run_writer){.job = j, .plan = p, .builder = &j->builder[0], .run = run};
    w->builder->kind = TREE_BLOCK_MESSAGE;
    tree_block_builder_clear(w->builder);
}

static void run_writer_fini(struct run_writer *w)
{
    mem_free(w->range);
}

/* ---- streams ---- */

/* Some messages on their way into a run. */
struct stream {
    struct tree_compact *messages;
    const struct tree_ranges_item *range;
    size_t range_count, range_at;
    bool counted;       /* it may be enough: */
    uint64_t older_msn; /* what has this number or a lower one was there already */
    bool stopped;
    bool bare; /* without the ranges: there is nothing below */
};

static bool stream_counts(const struct stream *s, uint64_t msn)
{
    return s->counted && msn > s->older_msn;
}

/* Ranges that begin at or before the key; an empty one: all. */
static int stream_ranges(struct run_writer *w, struct stream *s, struct kv_slice key)
{
    struct flush_job *j = w->job;
    int rc = 0;
    for (; s->range_at < s->range_count && rc == 0 && !s->stopped; s->range_at++) {
        const struct tree_ranges_item *range = &s->range[s->range_at];
        bool counts = stream_counts(s, range->msn);
        if (key.len > 0 && kv_slice_compare(range->low, key) > 0) {
            break;
        }
        if (counts && key.len == 0 && range->low.len > 0 && j->taken_bytes >= j->limit) {
            tree_flush_stop_at(j, range->low);
            s->stopped = true;
            break;
        }
        j->taken_bytes += counts ? tree_ranges_bytes(range, 1) : 0;
        rc = run_put_range(w, range);
    }
    return rc;
}

/* 1: go on. */
static int stream_step(struct run_writer *w, struct stream *s)
{
    size_t count = 0;
    struct kv_slice key = tree_compact_key(s->messages);
    const struct tree_message *m = tree_compact_messages(s->messages, &count);
    int rc = stream_ranges(w, s, key);
    rc = rc == 0 ? run_put(w, key, m, count) : rc;
    if (rc < 0) {
        return rc;
    }
    if (stream_counts(s, m[0].msn)) {
        s->stopped = tree_flush_took(w->job, key, tree_flush_message_bytes(key, m, count));
    }
    return s->stopped ? 0 : tree_compact_next(s->messages);
}

/* All of a range; if it is enough before its end, the job has stopped. */
static int stream_run(struct run_writer *w, struct stream *s, const struct flush_range *r,
                      const struct flush_more *more)
{
    if (r->high.len > 0 && kv_slice_compare(r->low, r->high) >= 0) {
        return 0;
    }
    int rc = tree_flush_messages(w->job, r, more, &s->messages);
    if (rc == 0) {
        s->range = tree_compact_ranges(s->messages, &s->range_count);
        s->range_count = s->bare ? 0 : s->range_count;
        rc = tree_compact_next(s->messages);
    }
    while (rc == 1) {
        rc = stream_step(w, s);
    }
    if (rc == 0 && !s->stopped) {
        rc = stream_ranges(w, s, kv_slice_of(NULL, 0));
    }
    if (rc == 0 && s->stopped) {
        run_clip(w, w->job->end);
    }
    s->messages = tree_compact_free(s->messages);
    return rc;
}

/* ---- slots ---- */

static struct kv_slice key_max(struct kv_slice a, struct kv_slice b)
{
    return kv_slice_compare(a, b) >= 0 ? a : b;
}

static enum flush_slot_kind slot_kind(const struct flush_job *j, const struct tree_head *h,
                                      uint16_t slot, bool covered)
{
    uint8_t run[256];
    unsigned count = tree_head_runs(h, slot, run);
    if (count == 0) {
        return FLUSH_ADD;
    }
    if (covered) {
        return FLUSH_VOID;
    }
    return count + 1 > j->f->shape->runs_max || run[0] > RUN_NUMBER_MAX ? FLUSH_MERGE : FLUSH_ADD;
}

int tree_flush_slot_choose(struct flush_job *j, const struct tree_node_at *node, uint16_t slot,
                           enum flush_slot_kind *ret)
{
    CLEANUP(tree_compact_freep) struct tree_compact *c = NULL;
    struct tree_pivots_bounds b;
    struct flush_more none = {0};
    size_t count = 0;
    tree_pivots_bounds(&node->head->pivots, slot, &b);
    struct flush_range all = {.low = b.low, .high = b.high};
    struct flush_range range = {.low = key_max(b.low, j->start), .high = b.high};
    *ret = FLUSH_KEEP;
    if (j->stopped || (b.high.len > 0 && kv_slice_compare(range.low, b.high) >= 0)) {
        return 0;
    }
    int rc = tree_flush_messages(j, &range, &none, &c);
    if (rc < 0) {
        return rc;
    }
    const struct tree_ranges_item *item = tree_compact_ranges(c, &count);
    rc = tree_compact_next(c);
    if (rc < 0 || (rc == 0 && count == 0)) {
        return rc;
    }
    *ret = slot_kind(j, node->head, slot, tree_flush_covers(item, count, &all));
    return 0;
}

/* All that is in the slot from now on as one run: what it has, and, from `start` on, what comes. */
static int slot_merge(struct run_writer *w, const struct tree_node_at *node, uint16_t slot,
                      const struct flush_range *all)
{
    struct flush_job *j = w->job;
    uint8_t number[256];
    unsigned count = tree_head_runs(node->head, slot, number);
    struct flush_more more = {.count = count}, old = {.count = count, .only = true};
    struct flush_range before = {.low = all->low, .high = key_max(all->low, j->start)};
    struct flush_range here = {.low = before.high, .high = all->high};
    struct stream first = {0}, last = {0};
    struct stream both = {.counted = true,
                          .older_msn = j->buffered ? 0 : node->head->header.msn_max};
    more.run = mem_calloc(count, sizeof more.run[0]);
    old.run = more.run;
    if (more.run == NULL) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < count; i++) {
        tree_node_source_run(&more.run[i], &j->from, node, slot, number[i]);
    }
    int rc = before.high.len > 0 ? stream_run(w, &first, &before, &old) : 0;
    rc = rc == 0 ? stream_run(w, &both, &here, &more) : rc;
    if (rc == 0 && both.stopped) {
        struct flush_range behind = {.low = j->end, .high = all->high};
        rc = stream_run(w, &last, &behind, &old);
    }
    for (unsigned i = 0; i < count; i++) {
        tree_node_source_fini(&more.run[i]);
    }
    mem_free(more.run);
    return rc;
}

static int slot_write(struct flush_job *j, struct flush_plan *p, const struct tree_node_at *node,
                      uint16_t slot, enum flush_slot_kind kind)
{
    struct run_writer w;
    struct tree_pivots_bounds b;
    uint8_t number[256];
    unsigned count = tree_head_runs(node->head, slot, number);
    tree_pivots_bounds(&node->head->pivots, slot, &b);
    struct flush_range all = {.low = b.low, .high = b.high};
    int rc = 0;
    run_writer_init(&w, j, p, kind == FLUSH_ADD && count > 0 ? number[0] + 1u : 0);
    if (kind == FLUSH_MERGE) {
        rc = slot_merge(&w, node, slot, &all);
    } else {
        struct flush_more none = {0};
        struct stream s = {.counted = true};
        all.low = key_max(all.low, j->start);
        rc = stream_run(&w, &s, &all, &none);
    }
    rc = rc == 0 ? run_end(&w) : rc;
    run_writer_fini(&w);
    return rc;
}

/* Fingerprints of all keys in runs that stay. */
static int slot_print(struct flush_job *j, const struct tree_head *h, uint16_t slot)
{
    const struct tree_node_header *n = &h->header;
    uint32_t i = tree_node_find(n, TREE_PARTITION_RUN, slot, 0);
    uint32_t end = tree_node_find(n, TREE_PARTITION_RUN, slot + 1, 0);
    int rc = 0;
    for (; i < end && rc == 0; i++) {
        struct tree_block_iter it;
        bool there = tree_part_pin(h->part[i]);
        CHECK(there); /* gathered */
        struct tree_block block = tree_block_view(h->part[i]->bytes);
        tree_block_iter_init(&it, &block);
        for (bool more = tree_block_iter_seek(&it, 0); more && rc == 0;) {
            rc = tree_flush_print_run(j, it.entry.key, n->partition[i].run);
            more = tree_block_iter_next(&it);
        }
        tree_part_unpin(h->part[i]);
    }
    return rc;
}

/* ---- nodes ---- */

bool tree_flush_inner_whole(const struct flush_job *j, const struct tree_head *h)
{
    const struct tree_shape *s = j->f->shape;
    if (s->filter_bits == 0 || h->header.entries == 0) {
        return false;
    }
    struct flush_worn worn = {.kind = TREE_FILTER_RUNS,
                              .keys = h->filter.keys,
                              .entries = h->header.entries,
                              .len = h->filter_len};
    return j->f->child_count == 2 || h->filter_bytes == NULL ||
           h->filter.kind != TREE_FILTER_RUNS || tree_flush_filter_worn(j->f, &worn);
}

struct inner_state {
    struct flush_plan plan;
    bool changed, kept; /* some runs stay as they are */
    bool whole;
};

static int inner_slot(struct flush_job *j, struct inner_state *st, const struct tree_node_at *node,
                      uint16_t slot)
{
    struct tree_pivots_bounds b;
    struct kv_slice low = {0};
    enum flush_slot_kind kind = FLUSH_KEEP;
    size_t before = st->plan.part_count;
    tree_pivots_bounds(&node->head->pivots, slot, &b);
    int rc = tree_flush_slot_choose(j, node, slot, &kind);
    rc = rc == 0 ? tree_flush_dup(j, b.low, &low) : rc;
    if (rc == 0) {
        uint64_t child = tree_pivots_child(&node->head->pivots, slot);
        rc = tree_flush_plan_slot(j, &st->plan, low, child);
        before = st->plan.part_count;
    }
    if (rc == 0 && (kind == FLUSH_KEEP || kind == FLUSH_ADD)) {
        rc = tree_flush_plan_keep(&st->plan, node, slot);
        st->kept = st->kept || st->plan.part_count > before;
        rc = rc == 0 && st->whole ? slot_print(j, node->head, slot) : rc;
    }
    if (rc == 0 && kind != FLUSH_KEEP) {
        st->changed = true;
        rc = slot_write(j, &st->plan, node, slot, kind);
    }
    return rc;
}

/* How many nodes the content of two makes. */
static size_t inner_count(const struct flush_job *j, const struct flush_plan *p)
{
    const struct tree_shape *s = j->f->shape;
    uint64_t raw = 0;
    for (size_t i = 0; i < p->part_count; i++) {
        raw += p->part[i].part->raw_len;
    }
    size_t count = (p->slot_count + s->fanout - 1) / s->fanout;
    bool large = raw > 2 * (uint64_t)s->internal_raw || p->part_count > TREE_PARTITIONS_MAX / 2;
    return count == 1 && large && p->slot_count > 1 ? 2 : count;
}

static int inner_make(struct flush_job *j, struct inner_state *st)
{
    struct tree_flush *f = j->f;
    struct flush_plan *p = &st->plan;
    struct flush_numbers numbers = {.count = f->child_count};
    size_t count = f->child_count == 1 ? 1 : inner_count(j, p);
    p->low = j->low;
    p->high = j->high;
    p->level = f->child[0].head->header.level;
    p->filtered = f->shape->filter_bits > 0;
    p->filter = st->whole || !st->kept ? NULL : f->child[0].head;
    p->clone = f->child_count == 2;
    tree_flush_plan_msn(p, j->msn_min, j->msn_max);
    for (unsigned c = 0; c < f->child_count; c++) {
        const struct tree_node_header *n = &f->child[c].head->header;
        numbers.block[c] = f->child[c].block;
        tree_flush_plan_msn(p, n->msn_min, n->msn_max);
        if (c >= count) {
            f->gone[f->gone_count++] = f->child[c].block;
        }
    }
    return tree_flush_plan_make(j, p, count, &numbers);
}

static int inner_children(struct flush_job *j)
{
    struct tree_flush *f = j->f;
    struct inner_state st = {.changed = f->child_count == 2};
    int rc = 0;
    for (unsigned c = 0; c < f->child_count; c++) {
        st.whole = st.whole || tree_flush_inner_whole(j, f->child[c].head);
    }
    for (unsigned c = 0; c < f->child_count; c++) {
        const struct tree_head *h = f->child[c].head;
        for (uint16_t s = 0; s < h->header.slots && rc == 0; s++) {
            rc = inner_slot(j, &st, &f->child[c], s);
        }
    }
    if (rc == 0 && st.changed) {
        rc = inner_make(j, &st);
    } else if (rc == 0) {
        j->made[0] = (struct flush_made){.block = f->child[0].block, .low = j->low};
        j->made_count = 1;
    }
    tree_flush_plan_fini(&st.plan);
    return rc;
}

/* ---- all that is below is deleted ---- */

int tree_flush_is_void(struct flush_job *j, bool *ret)
{
    CLEANUP(tree_compact_freep) struct tree_compact *c = NULL;
    struct flush_range all = {.low = j->low, .high = j->high};
    struct flush_range range = {.low = j->start, .high = j->high};
    struct flush_more none = {0};
    size_t count = 0;
    *ret = false;
    bool may = j->f->child_count == 1 && j->has_ranges && j->high.len > 0 &&
               kv_slice_compare(range.low, range.high) < 0;
    if (!may || j->f->child[0].head->header.level == 0) {
        return 0;
    }
    int rc = tree_flush_messages(j, &range, &none, &c);
    if (rc == 0) {
        const struct tree_ranges_item *item = tree_compact_ranges(c, &count);
        *ret = tree_flush_covers(item, count, &all);
    }
    return rc;
}

static int spine_leaf(struct flush_job *j)
{
    struct tree_head_builder b;
    struct tree_head *head = NULL;
    struct tree_pivots_source s = {.low = j->low, .high = j->high};
    tree_head_builder_init(&b, j->f->cache);
    b.header.block = tree_flush_spare(j);
    b.header.codec = j->f->shape->codec;
    memcpy(b.header.file_id, j->f->shape->file_id, sizeof b.header.file_id);
    int rc = tree_head_builder_finish(&b, &s, NULL, 0, &head);
    tree_head_builder_fini(&b);
    if (rc == 0) {
        tree_flush_out(j, head->header.block, head);
        j->made[0] =
            (struct flush_made){.block = head->header.block, .head = head, .low = head->pivots.low};
        j->made_count = 1;
    }
    return rc;
}

/* A stream as the only run of a slot. */
static int write_only(struct flush_job *j, struct flush_plan *p, const struct flush_range *r,
                      struct stream *s)
{
    struct run_writer w;
    struct flush_more none = {0};
    run_writer_init(&w, j, p, 0);
    int rc = stream_run(&w, s, r, &none);
    rc = rc == 0 ? run_end(&w) : rc;
    run_writer_fini(&w);
    return rc;
}

/* New empty nodes down to a leaf, the first with what is newer than the delete. */
static int inner_spine(struct flush_job *j)
{
    struct tree_flush *f = j->f;
    uint8_t top = f->child[0].head->header.level;
    struct flush_range range = {.low = j->start, .high = j->high};
    struct stream s = {.counted = true, .bare = true};
    int rc = spine_leaf(j);
    for (uint8_t level = 1; level <= top && rc == 0; level++) {
        struct flush_plan p = {.low = j->low, .high = j->high, .level = level};
        struct flush_numbers numbers = {0};
        p.filtered = f->shape->filter_bits > 0;
        rc = tree_flush_plan_slot(j, &p, j->low, j->made[0].block);
        if (rc == 0 && level == top) {
            rc = write_only(j, &p, &range, &s);
            tree_flush_plan_msn(&p, j->msn_min, j->msn_max);
        }
        rc = rc == 0 ? tree_flush_plan_make(j, &p, 1, &numbers) : rc;
        tree_flush_plan_fini(&p);
    }
    f->dropped[f->dropped_count++] = f->child[0].block;
    return rc;
}

/* ---- all ---- */

/* What the parent's buffer keeps. */
static int inner_rest(struct flush_job *j)
{
    struct flush_range range = {.low = j->end, .high = j->high};
    struct stream s = {0};
    CHECK(j->f->child_count == 1);
    j->rest = mem_zalloc(sizeof *j->rest);
    j->rest_print = j->print_count;
    return j->rest == NULL ? -ENOMEM : write_only(j, j->rest, &range, &s);
}

int tree_flush_inner(struct flush_job *j)
{
    bool empty = false;
    int rc = tree_flush_is_void(j, &empty);
    if (rc == 0) {
        rc = empty ? inner_spine(j) : inner_children(j);
    }
    return rc == 0 && j->buffered && j->stopped ? inner_rest(j) : rc;
}
