/*
 * tree/node_source.c -- see node_source.h.
 *
 * Where a source goes to is a spot: a part, pinned, and an entry in it. The source lets go of the
 * part it stands in only when the new spot is complete, so that a part that is missing leaves it
 * where it is. All messages of a key lie in one part, as cuts and pivots are keys.
 */
#include "tree/node_source.h"

#include "wire/wire.h"

struct spot {
    uint32_t part;
    struct tree_part *pinned; /* by this spot, or by the source if it stands there */
    struct tree_block block;
    uint32_t i;
};

static struct tree_node_source *source_of(struct tree_source *s)
{
    return container_of(s, struct tree_node_source, base);
}

static int source_miss(const struct tree_node_source *s, uint32_t part)
{
    struct tree_need_name name = {.block = s->block, .version = s->version, .part = part};
    int rc = tree_need_miss(s->from, &name);
    CHECK(rc < 0);
    return rc;
}

/* It stands nowhere. */
static int source_leave(struct tree_node_source *s)
{
    if (s->pinned != NULL) {
        tree_part_unpin(s->pinned);
        s->pinned = NULL;
    }
    s->at = s->first + s->count;
    return 0;
}

/* ---- spots ---- */

/* False: the part is not there. */
static bool spot_try(const struct tree_node_source *s, uint32_t part, struct spot *ret)
{
    struct tree_part *p = s->head->part[part];
    if (part != s->at && !tree_part_pin(p)) {
        return false;
    }
    *ret = (struct spot){.part = part, .pinned = p, .block = tree_block_view(p->bytes)};
    return true;
}

static int spot_open(const struct tree_node_source *s, uint32_t part, struct spot *ret)
{
    return spot_try(s, part, ret) ? 0 : source_miss(s, part);
}

static void spot_close(const struct tree_node_source *s, const struct spot *spot)
{
    if (spot->part != s->at) {
        tree_part_unpin(spot->pinned);
    }
}

static bool block_same_key(const struct tree_block *b, uint32_t i, uint32_t j)
{
    struct tree_block_entry left, right;
    size_t a = 4 * (size_t)i, z = 4 * (size_t)j;
    if (b->kind == TREE_BLOCK_LEAF || wire_load_u32(b->heads + a) != wire_load_u32(b->heads + z)) {
        return false;
    }
    tree_block_get(b, i, &left);
    tree_block_get(b, j, &right);
    return kv_slice_compare(left.key, right.key) == 0;
}

static void source_set_message(struct tree_node_source *s, const struct tree_block_entry *e)
{
    bool leaf = s->iter.block.kind == TREE_BLOCK_LEAF;
    s->base.message.type = leaf ? TREE_PUT : (enum tree_message_type)e->type;
    s->base.message.msn = e->msn;
    s->base.message.body = e->body;
}

/* The source takes over the part of the spot. */
static void source_enter(struct tree_node_source *s, const struct spot *spot)
{
    if (spot->part != s->at) {
        source_leave(s);
        s->at = spot->part;
        s->pinned = spot->pinned;
        tree_block_iter_init(&s->iter, &spot->block);
    }
    s->group = spot->i;
}

/* On the newest message of a key. */
static int source_stand(struct tree_node_source *s, const struct spot *spot)
{
    source_enter(s, spot);
    CHECK(tree_block_iter_seek(&s->iter, spot->i));
    s->base.key = s->iter.entry.key;
    source_set_message(s, &s->iter.entry);
    return 1;
}

/* On the spot, or if that is the end of its part, at the beginning of the next one. */
static int source_stand_from(struct tree_node_source *s, struct spot *spot)
{
    if (spot->i == spot->block.count) {
        uint32_t next = spot->part + 1;
        spot_close(s, spot);
        if (next == s->first + s->count) {
            return source_leave(s);
        }
        int rc = spot_open(s, next, spot);
        if (rc < 0) {
            return rc;
        }
    }
    return source_stand(s, spot);
}

/* On the last key before the spot, perhaps in the part before. */
static int source_stand_before(struct tree_node_source *s, struct spot *spot)
{
    if (spot->i == 0) {
        uint32_t part = spot->part;
        spot_close(s, spot);
        if (part == s->first) {
            return source_leave(s);
        }
        int rc = spot_open(s, part - 1, spot);
        if (rc < 0) {
            return rc;
        }
        spot->i = spot->block.count;
    }
    spot->i--;
    while (spot->i > 0 && block_same_key(&spot->block, spot->i - 1, spot->i)) {
        spot->i--;
    }
    return source_stand(s, spot);
}

/* ---- calls ---- */

/* The part that a key belongs to. */
static uint32_t source_part_of(const struct tree_node_source *s, struct kv_slice key)
{
    const struct tree_node_header *n = &s->head->header;
    if (n->level == 0) {
        return s->first + tree_pivots_slot(&s->head->pivots, key);
    }
    uint32_t low = s->first, high = s->first + s->count - 1;
    while (low < high) { /* the last one whose cut is not above the key */
        uint32_t middle = high - (high - low) / 2;
        struct kv_slice cut = tree_pivots_cut(&s->head->pivots, n->partition[middle].cut);
        if (kv_slice_compare(cut, key) <= 0) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

/* Does a key lie before (-1) or behind (1) all that the source may have? */
static int source_side(const struct tree_node_source *s, struct kv_slice key)
{
    struct tree_pivots_bounds bounds;
    bounds.low = s->head->pivots.low;
    bounds.high = s->head->pivots.high;
    if (s->head->header.level > 0) {
        tree_pivots_bounds(&s->head->pivots, s->head->header.partition[s->first].slot, &bounds);
    }
    if (kv_slice_compare(key, bounds.low) < 0) {
        return -1;
    }
    return bounds.high.len > 0 && kv_slice_compare(key, bounds.high) >= 0 ? 1 : 0;
}

static int source_seek(struct tree_source *base, struct kv_slice key)
{
    struct tree_node_source *s = source_of(base);
    struct spot spot;
    bool equal = false;
    if (s->count == 0) {
        return 0;
    }
    uint32_t part = key.len == 0 ? s->first : source_part_of(s, key);
    if (!spot_try(s, part, &spot)) {
        return source_side(s, key) > 0 ? source_leave(s) : source_miss(s, part);
    }
    spot.i = key.len == 0 ? 0 : tree_block_lower(&spot.block, key, &equal);
    return source_stand_from(s, &spot);
}

static int source_seek_back(struct tree_source *base, struct kv_slice key)
{
    struct tree_node_source *s = source_of(base);
    struct spot spot;
    if (s->count == 0) {
        return 0;
    }
    uint32_t part = key.len == 0 ? s->first + s->count - 1 : source_part_of(s, key);
    if (!spot_try(s, part, &spot)) {
        bool before = key.len > 0 && source_side(s, key) < 0;
        return before ? source_leave(s) : source_miss(s, part);
    }
    spot.i = key.len == 0 ? spot.block.count : tree_block_upper(&spot.block, key);
    return source_stand_before(s, &spot);
}

static struct spot source_spot(const struct tree_node_source *s)
{
    CHECK(s->pinned != NULL);
    return (struct spot){.part = s->at, .pinned = s->pinned, .block = s->iter.block, .i = s->group};
}

static int source_next(struct tree_source *base)
{
    struct tree_node_source *s = source_of(base);
    struct spot spot = source_spot(s);
    spot.i = s->iter.at + 1; /* behind the message it stands on */
    while (spot.i < spot.block.count && block_same_key(&spot.block, s->group, spot.i)) {
        spot.i++;
    }
    return source_stand_from(s, &spot);
}

/* Of records all are plain that are in the same part. */
static uint32_t source_plain(struct tree_source *base, struct kv_slice limit)
{
    const struct tree_node_source *s = source_of(base);
    const struct tree_block *b = &s->iter.block;
    uint32_t end = b->count, next = s->iter.at + 1;
    bool equal = false;
    if (s->pinned == NULL || b->kind != TREE_BLOCK_LEAF) {
        return 0;
    }
    if (limit.len > 0) {
        end = tree_block_lower(b, limit, &equal);
    }
    return end > next ? end - next : 0;
}

static void source_step(struct tree_source *base)
{
    struct tree_node_source *s = source_of(base);
    CHECK(tree_block_iter_next(&s->iter));
    s->group = s->iter.at;
    base->key = s->iter.entry.key;
    base->message.body = s->iter.entry.body; /* the rest is the same of all records */
}

static int source_prev(struct tree_source *base)
{
    struct tree_node_source *s = source_of(base);
    struct spot spot = source_spot(s);
    return source_stand_before(s, &spot);
}

/* Copies nothing: the key that it stands on is the caller's. */
static int source_find(struct tree_source *base, struct kv_slice key)
{
    struct tree_node_source *s = source_of(base);
    struct tree_block_entry e;
    struct spot spot;
    bool equal = false;
    if (s->count == 0) {
        return 0;
    }
    uint32_t part = source_part_of(s, key);
    if (!spot_try(s, part, &spot)) {
        return source_side(s, key) != 0 ? source_leave(s) : source_miss(s, part);
    }
    spot.i = tree_block_lower(&spot.block, key, &equal);
    if (!equal) {
        spot_close(s, &spot);
        return source_leave(s);
    }
    source_enter(s, &spot);
    s->iter.at = spot.i;
    tree_block_get(&spot.block, spot.i, &e);
    s->base.key = key;
    source_set_message(s, &e);
    return 1;
}

static int source_older(struct tree_source *base)
{
    struct tree_node_source *s = source_of(base);
    struct tree_block_entry e;
    CHECK(s->pinned != NULL);
    uint32_t i = s->iter.at + 1;
    if (i >= s->iter.block.count || !block_same_key(&s->iter.block, s->group, i)) {
        return 0;
    }
    s->iter.at = i;
    tree_block_get(&s->iter.block, i, &e);
    source_set_message(s, &e);
    return 1;
}

/* ---- deleted ranges ---- */

static int source_open_ranges(struct tree_node_source *s)
{
    if (s->pinned_ranges == NULL) {
        struct tree_part *p = s->head->part[s->ranges];
        if (!tree_part_pin(p)) {
            return source_miss(s, s->ranges);
        }
        s->pinned_ranges = p;
        s->list = tree_ranges_view(p->bytes);
    }
    return 0;
}

static int source_covering(struct tree_source *base, struct kv_slice key, struct tree_range *ret)
{
    struct tree_node_source *s = source_of(base);
    struct tree_range range = {0};
    if (base->has_ranges) {
        int rc = source_open_ranges(s);
        if (rc < 0) {
            return rc;
        }
        uint32_t i = tree_ranges_lower(&s->list, key);
        struct tree_ranges_item item = {0};
        if (i < s->list.count) {
            item = tree_ranges_get(&s->list, i); /* of several copies the newest */
            range.high = item.low;
        }
        if (i < s->list.count && kv_slice_compare(item.low, key) <= 0) {
            range = (struct tree_range){.msn = item.msn, .low = item.low, .high = item.high};
        } else if (i > 0) {
            range.low = tree_ranges_get(&s->list, i - 1).high;
        }
    }
    *ret = range;
    return 0;
}

static int source_range(struct tree_source *base, struct kv_slice from, struct tree_range *ret)
{
    struct tree_node_source *s = source_of(base);
    if (!base->has_ranges) {
        return 0;
    }
    int rc = source_open_ranges(s);
    if (rc < 0) {
        return rc;
    }
    uint32_t i = tree_ranges_lower(&s->list, from);
    if (i == s->list.count) {
        return 0;
    }
    struct tree_ranges_item item = tree_ranges_get(&s->list, i);
    *ret = (struct tree_range){.msn = item.msn, .low = item.low, .high = item.high};
    return 1;
}

/* ---- making ---- */

static const struct tree_source_ops node_source_ops = {
    .seek = source_seek,
    .seek_back = source_seek_back,
    .next = source_next,
    .prev = source_prev,
    .find = source_find,
    .older = source_older,
    .covering = source_covering,
    .range = source_range,
    .plain = source_plain,
    .step = source_step,
};

/* Not as a whole: the room for a key is large, and a read of one key needs none of it. */
static void source_init(struct tree_node_source *s, const struct tree_need_from *from,
                        const struct tree_node_at *node)
{
    s->base = (struct tree_source){.ops = &node_source_ops};
    s->from = from;
    s->head = node->head;
    s->block = node->block;
    s->version = node->version;
    s->ranges = node->head->header.partition_count;
    s->pinned = NULL;
    s->pinned_ranges = NULL;
    s->list = (struct tree_ranges){0};
    s->group = 0;
    s->iter.block = (struct tree_block){0};
    s->iter.at = 0;
}

static uint32_t run_end(const struct tree_node_header *n, uint16_t slot, uint8_t run)
{
    return run == UINT8_MAX ? tree_node_find(n, TREE_PARTITION_RUN, slot + 1, 0)
                            : tree_node_find(n, TREE_PARTITION_RUN, slot, (uint8_t)(run + 1));
}

void tree_node_source_run(struct tree_node_source *s, const struct tree_need_from *from,
                          const struct tree_node_at *node, uint16_t slot, uint8_t run)
{
    const struct tree_node_header *n = &node->head->header;
    CHECK(n->level > 0 && slot < n->slots);
    source_init(s, from, node);
    s->first = tree_node_find(n, TREE_PARTITION_RUN, slot, run);
    s->count = run_end(n, slot, run) - s->first;
    s->at = s->first + s->count;
    uint32_t i = tree_node_find(n, TREE_PARTITION_RANGES, slot, run);
    if (i < n->partition_count && n->partition[i].kind == TREE_PARTITION_RANGES &&
        n->partition[i].slot == slot && n->partition[i].run == run) {
        s->ranges = i;
        s->base.has_ranges = true;
    }
}

void tree_node_source_leaf(struct tree_node_source *s, const struct tree_need_from *from,
                           const struct tree_node_at *node)
{
    const struct tree_node_header *n = &node->head->header;
    CHECK(n->level == 0);
    source_init(s, from, node);
    s->first = 0; /* the first kind in the table */
    s->count = n->slots;
    s->at = s->first + s->count;
}

void tree_node_source_fini(struct tree_node_source *s)
{
    source_leave(s);
    if (s->pinned_ranges != NULL) {
        tree_part_unpin(s->pinned_ranges);
        s->pinned_ranges = NULL;
    }
}

int tree_node_source_keep(struct tree_node_source *s)
{
    if (s->pinned == NULL) {
        return 0;
    }
    int rc = tree_need_keep_part(s->from, s->pinned);
    if (rc == 0) {
        s->pinned = NULL; /* the list's now */
        source_leave(s);
    }
    return rc;
}
