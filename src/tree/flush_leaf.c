/*
 * tree/flush_leaf.c -- messages meet the records of leaves.
 *
 * Basements come in order. One that no message touches is handed on as it is; one that is deleted
 * as a whole is forgotten; the others are merged with their messages into new ones. What comes of
 * it is a list of basements, which is cut into leaves at the end, when it is known how many it
 * takes.
 *
 * Deleted ranges are applied even behind the key where a drain stops: who sees this version sees
 * the delete in the memtable as well.
 */
#include "tree/flush_filter_priv.h"

#include <string.h>

struct leaf_piece {
    struct kv_slice low; /* lent */
    struct tree_part *part;
    uint64_t origin; /* the block that had it; 0: it is new */
    size_t print_first;
};

/* A basement that is being filled. */
struct leaf_open {
    struct tree_block_builder *builder;
    struct kv_slice low;
    size_t print_first;
};

struct leaf_writer {
    struct flush_job *job;
    struct flush_leaf_choice choice;
    struct flush_leaf_walk walk;
    struct leaf_open now, full; /* the second is complete, unless a small rest joins it */
    struct leaf_piece *piece;   /* owned */
    size_t piece_count, piece_capacity, shared_count;
    uint64_t raw_bytes;
    struct tree_room room;
};

/* ---- deciding ---- */

static bool leaf_filter_is_good(const struct tree_flush *f, const struct tree_head *h)
{
    const struct tree_node_header *n = &h->header;
    if (f->shape->filter_bits == 0 || n->slots == 0) {
        return true;
    }
    uint32_t i = tree_node_find(n, TREE_PARTITION_FILTER, TREE_SLOT_ALL, 0);
    if (i == n->partition_count) {
        return false;
    }
    struct flush_worn worn = {.kind = TREE_FILTER_BLOOM,
                              .keys = n->partition[i].entries,
                              .entries = n->entries,
                              .len = n->partition[i].raw_len};
    return !tree_flush_filter_worn(f, &worn);
}

static bool leaf_is_whole(const struct flush_job *j)
{
    const struct tree_shape *s = j->f->shape;
    if (j->f->child_count != 1) {
        return true;
    }
    const struct tree_head *h = j->f->child[0].head;
    uint64_t raw = tree_head_raw_bytes(h);
    bool crumbs = h->header.slots > 2 + 2 * raw / s->basement_raw;
    return raw > s->leaf_raw || crumbs || !leaf_filter_is_good(j->f, h);
}

/* What the messages make of it at most. */
static uint64_t leaf_message_bytes(struct kv_slice key, const struct tree_message *m, size_t count)
{
    static const struct tree_message nothing = {.type = TREE_DELETE};
    uint64_t bytes = tree_flush_message_bytes(key, m, count);
    for (size_t i = 0; i < count; i++) {
        bytes += tree_message_room(&m[i], &nothing);
    }
    return bytes;
}

static uint64_t leaf_buffered_bytes(const struct flush_job *j)
{
    const struct tree_flush *f = j->f;
    uint64_t bytes = 0;
    for (unsigned c = 0; c < f->child_count; c++) {
        uint16_t slot = (uint16_t)(f->slot[f->depth - 1] + c);
        bytes += tree_head_slot_bytes(f->path[f->depth - 1].head, slot);
    }
    return bytes;
}

/* Bytes that come, as far as `most`. */
static int leaf_count(struct flush_job *j, uint64_t most, uint64_t *ret)
{
    CLEANUP(tree_compact_freep) struct tree_compact *c = NULL;
    struct flush_range range = {.low = j->start, .high = j->high};
    struct flush_more none = {0};
    uint64_t bytes = 0;
    int rc = tree_flush_messages(j, &range, &none, &c);
    for (rc = rc == 0 ? tree_compact_next(c) : rc; rc == 1 && bytes <= most;) {
        size_t count = 0;
        const struct tree_message *m = tree_compact_messages(c, &count);
        bytes += leaf_message_bytes(tree_compact_key(c), m, count);
        rc = tree_compact_next(c);
    }
    *ret = bytes;
    return rc < 0 ? rc : 0;
}

int tree_flush_leaf_choose(struct flush_job *j, struct flush_leaf_choice *ret)
{
    const struct tree_flush *f = j->f;
    struct flush_leaf_choice choice = {.whole = leaf_is_whole(j), .splits = f->child_count == 0};
    uint64_t bytes = 0, raw = 0;
    if (j->run != NULL && !j->has_ranges) {
        bytes = leaf_buffered_bytes(j); /* without looking at them: about */
    } else if (f->child_count > 0) {
        int rc = leaf_count(j, f->shape->leaf_raw, &bytes);
        if (rc < 0) {
            return rc;
        }
    }
    for (unsigned c = 0; c < f->child_count; c++) {
        raw += tree_head_raw_bytes(f->child[c].head);
    }
    choice.splits = choice.splits || raw + bytes > f->shape->leaf_raw;
    choice.whole = choice.whole || choice.splits;
    choice.skipped = bytes > f->shape->leaf_raw;
    *ret = choice;
    return 0;
}

int tree_flush_leaf_begin(struct flush_job *j, struct flush_leaf_walk *w)
{
    struct flush_range range = {.low = j->start, .high = j->high};
    struct flush_more none = {0};
    *w = (struct flush_leaf_walk){0};
    int rc = tree_flush_messages(j, &range, &none, &w->messages);
    if (rc == 0) {
        w->range = tree_compact_ranges(w->messages, &w->range_count);
        rc = tree_compact_next(w->messages);
        w->have = rc;
    }
    return rc < 0 ? rc : 0;
}

static bool key_below(struct kv_slice key, struct kv_slice high)
{
    return high.len == 0 || kv_slice_compare(key, high) < 0;
}

static bool walk_has_message(const struct flush_leaf_walk *w, struct kv_slice high)
{
    return w->have == 1 && key_below(tree_compact_key(w->messages), high);
}

enum flush_basement tree_flush_leaf_ask(const struct flush_job *j, struct flush_leaf_walk *w,
                                        const struct flush_leaf_choice *choice,
                                        const struct flush_range *bounds, uint32_t raw_len)
{
    bool message = walk_has_message(w, bounds->high);
    while (w->range_at < w->range_count &&
           kv_slice_compare(w->range[w->range_at].high, bounds->low) <= 0) {
        w->range_at++;
    }
    const struct tree_ranges_item *range = w->range + w->range_at;
    size_t count = w->range_count - w->range_at;
    bool touched = count > 0 && key_below(range->low, bounds->high);
    if (touched && !message && tree_flush_covers(range, count, bounds)) {
        return FLUSH_DROP;
    }
    bool crumb = choice->whole && raw_len < j->f->shape->basement_raw / 2;
    return message || touched || crumb ? FLUSH_READ : FLUSH_SHARE;
}

/* ---- basements ---- */

static int leaf_piece(struct leaf_writer *w, const struct leaf_piece *piece)
{
    int rc = mem_grow(&w->piece, &w->piece_capacity, w->piece_count + 1, sizeof w->piece[0]);
    if (rc < 0) {
        tree_part_unref(piece->part);
        return rc;
    }
    w->piece[w->piece_count++] = *piece;
    w->raw_bytes += piece->part->raw_len;
    return 0;
}

static int leaf_seal(struct leaf_writer *w, struct leaf_open *o)
{
    struct leaf_piece piece = {.low = o->low, .print_first = o->print_first};
    if (o->builder->count == 0) {
        return 0;
    }
    int rc = tree_flush_seal(w->job, o->builder, &piece.part);
    return rc < 0 ? rc : leaf_piece(w, &piece);
}

/* The basement is complete: the next one. */
static int leaf_turn(struct leaf_writer *w)
{
    int rc = leaf_seal(w, &w->full);
    struct tree_block_builder *empty = w->full.builder;
    if (rc == 0) {
        w->full = w->now;
        w->now.builder = empty;
    }
    return rc;
}

/* All of `now` behind what `full` has. */
static int leaf_join(struct leaf_writer *w)
{
    const struct tree_block_builder *from = w->now.builder;
    uint32_t key_start = 0, body_start = 0;
    int rc = 0;
    for (uint32_t i = 0; i < from->count && rc == 0; i++) {
        const struct tree_block_slot *slot = &from->slot[i];
        struct tree_block_entry e = {
            .key = kv_slice_of(from->keys + key_start, slot->key_end - key_start),
            .body = kv_slice_of(from->bodies + body_start, slot->body_end - body_start)};
        rc = tree_block_builder_add(w->full.builder, &e);
        key_start = slot->key_end;
        body_start = slot->body_end;
    }
    tree_block_builder_clear(w->now.builder);
    return rc;
}

/* What follows is no new basement, or nothing. */
static int leaf_end_stretch(struct leaf_writer *w)
{
    uint32_t small = w->job->f->shape->basement_raw / 4;
    int rc = 0;
    if (w->full.builder->count > 0 && w->now.builder->count > 0 &&
        tree_block_builder_bytes(w->now.builder) < small) {
        rc = leaf_join(w);
    }
    rc = rc == 0 ? leaf_seal(w, &w->full) : rc;
    return rc == 0 ? leaf_seal(w, &w->now) : rc;
}

static int leaf_put(struct leaf_writer *w, struct kv_slice key, struct kv_slice value)
{
    struct tree_block_builder *b = w->now.builder;
    struct tree_block_entry e = {.key = key, .body = value};
    size_t more = key.len + value.len + TREE_BLOCK_ENTRY_BYTES;
    int rc = 0;
    if (b->count > 0 && tree_block_builder_bytes(b) + more > w->job->f->shape->basement_raw) {
        rc = leaf_turn(w);
        b = w->now.builder;
    }
    if (rc == 0 && b->count == 0) {
        w->now.print_first = w->job->print_count;
        rc = tree_flush_dup(w->job, key, &w->now.low);
    }
    rc = rc == 0 ? tree_flush_print(w->job, key) : rc;
    return rc == 0 ? tree_block_builder_add(b, &e) : rc;
}

/* ---- merging ---- */

/* Moves on, unless it is enough. */
static int leaf_message_done(struct leaf_writer *w, const struct tree_message *m, size_t count)
{
    struct kv_slice key = tree_compact_key(w->walk.messages);
    uint64_t bytes = tree_flush_message_bytes(key, m, count);
    tree_flush_saw(w->job, m[0].msn);
    tree_flush_saw(w->job, m[count - 1].msn);
    bool enough = tree_flush_took(w->job, key, bytes);
    w->walk.have = enough ? 0 : tree_compact_next(w->walk.messages);
    return w->walk.have < 0 ? w->walk.have : 0;
}

/* The messages of a key, and what was there before (its address NULL: nothing). */
static int leaf_apply(struct leaf_writer *w, struct kv_slice value)
{
    size_t count = 0;
    const struct tree_message *m = tree_compact_messages(w->walk.messages, &count);
    int rc = value.at != NULL ? 1 : 0;
    for (size_t i = count; i > 0; i--) {
        rc = tree_message_apply(&m[i - 1], value, &w->room, &value);
        if (rc < 0) {
            return rc;
        }
        value = rc == 1 ? value : kv_slice_of(NULL, 0);
    }
    rc = rc == 1 ? leaf_put(w, tree_compact_key(w->walk.messages), value) : 0;
    return rc == 0 ? leaf_message_done(w, m, count) : rc;
}

static bool leaf_deleted(struct flush_leaf_walk *w, struct kv_slice key)
{
    while (w->range_at < w->range_count) {
        const struct tree_ranges_item *r = &w->range[w->range_at];
        if (kv_slice_compare(key, r->high) < 0) {
            return kv_slice_compare(r->low, key) <= 0;
        }
        w->range_at++;
    }
    return false;
}

static struct kv_slice leaf_value(const struct tree_block_iter *it)
{
    struct kv_slice body = it->entry.body;
    return kv_slice_of(body.at != NULL ? body.at : "", body.len);
}

/* A record, and messages of its key. */
static int leaf_record(struct leaf_writer *w, const struct tree_block_iter *it, bool message)
{
    bool gone = leaf_deleted(&w->walk, it->entry.key);
    if (message) {
        return leaf_apply(w, gone ? kv_slice_of(NULL, 0) : leaf_value(it));
    }
    return gone ? 0 : leaf_put(w, it->entry.key, it->entry.body);
}

/* Records of a block (NULL: none), and all messages below `high`. */
static int leaf_merge(struct leaf_writer *w, const struct tree_block *block, struct kv_slice high)
{
    struct tree_block_iter it;
    bool record = false, message = walk_has_message(&w->walk, high);
    int rc = 0;
    if (block != NULL) {
        tree_block_iter_init(&it, block);
        record = tree_block_iter_seek(&it, 0);
    }
    while (rc == 0 && (record || message)) {
        int order = !record ? 1 : !message ? -1 : 0;
        if (record && message) {
            order = kv_slice_compare(it.entry.key, tree_compact_key(w->walk.messages));
        }
        if (order <= 0) {
            rc = leaf_record(w, &it, order == 0);
            record = tree_block_iter_next(&it);
        } else {
            rc = leaf_apply(w, kv_slice_of(NULL, 0));
        }
        message = order >= 0 ? walk_has_message(&w->walk, high) : message;
    }
    return rc;
}

static int leaf_read(struct leaf_writer *w, struct tree_part *p, struct kv_slice high)
{
    bool there = tree_part_pin(p);
    CHECK(there); /* gathered */
    struct tree_block block = tree_block_view(p->bytes);
    int rc = leaf_merge(w, &block, high);
    tree_part_unpin(p);
    return rc;
}

/* ---- handing on ---- */

static int leaf_print_all(struct leaf_writer *w, struct tree_part *p)
{
    struct tree_block_iter it;
    int rc = 0;
    bool there = tree_part_pin(p);
    CHECK(there); /* gathered */
    struct tree_block block = tree_block_view(p->bytes);
    tree_block_iter_init(&it, &block);
    for (bool more = tree_block_iter_seek(&it, 0); more && rc == 0;) {
        rc = tree_flush_print(w->job, it.entry.key);
        more = tree_block_iter_next(&it);
    }
    tree_part_unpin(p);
    return rc;
}

static int leaf_share(struct leaf_writer *w, const struct tree_node_at *leaf, uint32_t i,
                      struct kv_slice low)
{
    struct leaf_piece piece = {.origin = leaf->block};
    int rc = leaf_end_stretch(w);
    piece.print_first = w->job->print_count;
    rc = rc == 0 ? tree_flush_dup(w->job, low, &piece.low) : rc;
    if (rc == 0 && w->choice.whole && w->job->f->shape->filter_bits > 0) {
        rc = leaf_print_all(w, leaf->head->part[i]);
    }
    if (rc < 0) {
        return rc;
    }
    piece.part = tree_part_ref(leaf->head->part[i]);
    w->shared_count++;
    return leaf_piece(w, &piece);
}

static int leaf_take(struct leaf_writer *w, const struct tree_node_at *leaf)
{
    const struct tree_head *h = leaf->head;
    int rc = h->header.slots == 0 ? leaf_merge(w, NULL, h->pivots.high) : 0;
    for (uint16_t i = 0; i < h->header.slots && rc == 0; i++) {
        struct tree_pivots_bounds b;
        tree_pivots_bounds(&h->pivots, i, &b);
        struct flush_range bounds = {.low = b.low, .high = b.high};
        enum flush_basement what =
            tree_flush_leaf_ask(w->job, &w->walk, &w->choice, &bounds, h->part[i]->raw_len);
        if (what == FLUSH_READ) {
            rc = leaf_read(w, h->part[i], b.high);
        } else if (what == FLUSH_SHARE) {
            rc = leaf_share(w, leaf, i, b.low);
        }
    }
    return rc;
}

static int leaf_take_all(struct leaf_writer *w)
{
    const struct tree_flush *f = w->job->f;
    int rc = f->child_count == 0 ? leaf_merge(w, NULL, w->job->high) : 0;
    for (unsigned c = 0; c < f->child_count && rc == 0; c++) {
        rc = leaf_take(w, &f->child[c]);
    }
    return rc == 0 ? leaf_end_stretch(w) : rc;
}

/* ---- leaves ---- */

/* Pieces [first, end) in a leaf. */
struct leaf_cut {
    size_t first, end;
    uint64_t block;
};

static int leaf_add_parts(struct leaf_writer *w, const struct leaf_cut *cut,
                          struct tree_head_builder *b)
{
    int rc = 0;
    for (size_t i = cut->first; i < cut->end && rc == 0; i++) {
        const struct leaf_piece *piece = &w->piece[i];
        struct tree_head_add add = {.kind = TREE_PARTITION_LEAF,
                                    .slot = (uint16_t)(i - cut->first)};
        struct tree_part *part = NULL;
        if (piece->origin == 0 || piece->origin == cut->block) {
            part = tree_part_ref(piece->part);
        } else {
            rc = tree_flush_clone(w->job, piece->part, &part);
        }
        if (rc == 0) {
            tree_head_builder_add(b, part, &add);
            tree_part_unref(part);
        }
    }
    return rc;
}

static struct tree_part *leaf_old_filter(const struct tree_head *h)
{
    uint32_t i = tree_node_find(&h->header, TREE_PARTITION_FILTER, TREE_SLOT_ALL, 0);
    return i < h->header.partition_count ? h->part[i] : NULL;
}

static int leaf_make_filter(struct leaf_writer *w, const struct leaf_cut *cut,
                            struct flush_bytes *ret)
{
    struct flush_job *j = w->job;
    bool last = cut->end == w->piece_count;
    struct flush_filter x = {.kind = TREE_FILTER_BLOOM,
                             .first = w->piece[cut->first].print_first,
                             .end = last ? j->print_count : w->piece[cut->end].print_first};
    struct tree_part *old = NULL;
    if (!w->choice.whole && w->shared_count > 0) {
        old = leaf_old_filter(j->f->child[0].head);
        bool there = tree_part_pin(old);
        CHECK(there); /* gathered */
        x.base = old->bytes;
        x.base_len = old->raw_len;
        x.first = 0;
    }
    int rc = tree_flush_filter(j, &x, &ret->at, &ret->len);
    if (old != NULL) {
        tree_part_unpin(old);
    }
    return rc;
}

static int leaf_add_filter(struct leaf_writer *w, const struct leaf_cut *cut,
                           struct tree_head_builder *b)
{
    struct flush_bytes bytes = {.kind = TREE_PARTITION_FILTER};
    struct tree_head_add add = {.kind = TREE_PARTITION_FILTER, .slot = TREE_SLOT_ALL};
    struct tree_part *part = NULL;
    if (cut->first == cut->end || w->job->f->shape->filter_bits == 0) {
        return 0;
    }
    int rc = leaf_make_filter(w, cut, &bytes);
    if (rc == 0) {
        bytes.entries = (uint32_t)base_min(tree_filter_view(bytes.at).keys, UINT32_MAX);
        rc = tree_flush_part(w->job, &bytes, &part);
    }
    if (rc == 0) {
        tree_head_builder_add(b, part, &add);
        tree_part_unref(part);
    }
    return rc;
}

static void leaf_header(const struct leaf_writer *w, uint64_t block, struct tree_node_header *n)
{
    const struct tree_flush *f = w->job->f;
    n->block = block;
    n->codec = f->shape->codec;
    memcpy(n->file_id, f->shape->file_id, sizeof n->file_id);
    n->msn_min = w->job->msn_min;
    n->msn_max = w->job->msn_max;
    for (unsigned c = 0; c < f->child_count; c++) {
        const struct tree_node_header *old = &f->child[c].head->header;
        bool both = n->msn_min > 0 && old->msn_min > 0;
        n->msn_min = both ? base_min(n->msn_min, old->msn_min) : n->msn_min + old->msn_min;
        n->msn_max = base_max(n->msn_max, old->msn_max);
    }
}

static int leaf_finish(struct leaf_writer *w, const struct leaf_cut *cut,
                       struct tree_head_builder *b, struct tree_head **ret)
{
    size_t count = cut->end - cut->first;
    bool last = cut->end == w->piece_count;
    struct tree_pivots_source s = {.low = cut->first == 0 ? w->job->low : w->piece[cut->first].low,
                                   .high = last ? w->job->high : w->piece[cut->end].low};
    if (count > TREE_PARTITIONS_MAX) {
        return -E2BIG;
    }
    struct kv_slice *pivot = mem_calloc(count + 1, sizeof *pivot);
    if (pivot == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 1; i < count; i++) {
        pivot[i - 1] = w->piece[cut->first + i].low;
    }
    s.pivot = pivot;
    s.slots = (uint16_t)count;
    int rc = tree_head_builder_finish(b, &s, NULL, 0, ret);
    mem_free(pivot);
    return rc;
}

static int leaf_make(struct leaf_writer *w, const struct leaf_cut *cut)
{
    struct flush_job *j = w->job;
    struct tree_head_builder b;
    struct tree_head *head = NULL;
    tree_head_builder_init(&b, j->f->cache);
    leaf_header(w, cut->block, &b.header);
    int rc = leaf_add_parts(w, cut, &b);
    rc = rc == 0 ? leaf_add_filter(w, cut, &b) : rc;
    rc = rc == 0 ? leaf_finish(w, cut, &b, &head) : rc;
    tree_head_builder_fini(&b);
    if (rc == 0) {
        tree_flush_out(j, cut->block, head);
        j->made[j->made_count++] =
            (struct flush_made){.block = cut->block, .head = head, .low = head->pivots.low};
    }
    return rc;
}

/* Leaves of three quarters, unless one is enough. */
static size_t leaf_count_of(const struct leaf_writer *w)
{
    uint32_t most = w->job->f->shape->leaf_raw, good = most / 4 * 3;
    if (w->raw_bytes <= most || !w->choice.splits) {
        return 1;
    }
    uint64_t count = (w->raw_bytes + good - 1) / good;
    return (size_t)base_min(base_min(count, w->piece_count), TREE_FLUSH_LEAVES_MAX);
}

static uint64_t leaf_block(struct flush_job *j, size_t i)
{
    return i < j->f->child_count ? j->f->child[i].block : tree_flush_spare(j);
}

static int leaf_make_all(struct leaf_writer *w)
{
    struct flush_job *j = w->job;
    size_t count = leaf_count_of(w), end = 0;
    uint64_t bytes = 0;
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        struct leaf_cut cut = {.first = end, .block = leaf_block(j, i)};
        uint64_t until =
            w->raw_bytes * (i + 1) / count;             /* ends where half of a piece is below it */
        size_t last = w->piece_count - (count - 1 - i); /* the others get one each, at least */
        do {
            end += end < last ? 1 : 0;
            bytes += end > 0 && end > cut.first ? w->piece[end - 1].part->raw_len : 0;
        } while (end < last && (i + 1 == count || bytes + w->piece[end].part->raw_len / 2 < until));
        cut.end = end;
        rc = leaf_make(w, &cut);
    }
    for (size_t i = count; i < j->f->child_count; i++) {
        j->f->gone[j->f->gone_count++] = j->f->child[i].block;
    }
    return rc;
}

static void leaf_writer_fini(struct leaf_writer *w)
{
    for (size_t i = 0; i < w->piece_count; i++) {
        tree_part_unref(w->piece[i].part);
    }
    mem_free(w->piece);
    tree_room_fini(&w->room);
    tree_compact_free(w->walk.messages);
}

static void leaf_unchanged(struct flush_job *j)
{
    j->made[0] = (struct flush_made){.block = j->f->child[0].block, .low = j->low};
    j->made_count = 1;
}

int tree_flush_leaves(struct flush_job *j, bool *ret_splits)
{
    struct leaf_writer w = {
        .job = j, .now.builder = &j->builder[0], .full.builder = &j->builder[1]};
    const struct flush_inside *inside = j->f->inside;
    int rc = 0;
    if (inside != NULL && inside->chosen) {
        w.choice = inside->choice;
    } else {
        rc = tree_flush_leaf_choose(j, &w.choice);
    }
    rc = rc == 0 ? tree_flush_leaf_begin(j, &w.walk) : rc;
    bool nothing = rc == 0 && w.walk.have == 0 && w.walk.range_count == 0;
    if (nothing && j->f->child_count == 1 && !w.choice.whole) {
        leaf_unchanged(j);
    } else if (rc == 0) {
        for (size_t i = 0; i < w.walk.range_count; i++) {
            tree_flush_saw(j, w.walk.range[i].msn);
        }
        rc = leaf_take_all(&w);
        rc = rc == 0 ? leaf_make_all(&w) : rc;
    }
    *ret_splits = w.choice.splits;
    leaf_writer_fini(&w);
    return rc;
}
