/*
 * tree/pivots.c -- see pivots.h.
 *
 * Header: version u8 | flags u8 (1: children) | slots u16 | cuts u16 | length of the low fence u16
 * | of the high one u16 | zero u16 | length of the block of pivots u32 | of the cuts u32 | zero
 * u32. Then: children u64 each | block of pivots | end of each cut u32 | cuts | low fence | high
 * fence.
 */
#include "tree/pivots.h"

#include "tree/message.h"
#include "wire/wire.h"

#define PIVOTS_VERSION 1u
#define PIVOTS_CHILDREN 1u

/* Bounds are empty where there is none. */
static bool pivots_below_high(struct kv_slice key, struct kv_slice high)
{
    return high.len == 0 || kv_slice_compare(key, high) < 0;
}

/* ---- writing ---- */

size_t tree_pivots_bound(const struct tree_pivots_source *s)
{
    size_t len = TREE_PIVOTS_HEADER_BYTES + TREE_BLOCK_HEADER_BYTES + s->low.len + s->high.len;
    for (uint32_t i = 0; i + 1 < s->slots; i++) {
        len += TREE_BLOCK_ENTRY_BYTES + s->pivot[i].len;
    }
    for (uint32_t i = 0; i < s->cuts; i++) {
        len += 4 + s->cut[i].len;
    }
    return len + (s->child == NULL ? 0 : 8 * (size_t)s->slots);
}

static void pivots_check_source(const struct tree_pivots_source *s)
{
    CHECK(s->slots <= TREE_PARTITIONS_MAX && s->cuts <= TREE_PARTITIONS_MAX);
    CHECK(s->low.len <= TREE_KEY_MAX && s->high.len <= TREE_KEY_MAX);
    CHECK(pivots_below_high(s->low, s->high));
    if (s->slots > 1) {
        CHECK(kv_slice_compare(s->low, s->pivot[0]) < 0);
        CHECK(pivots_below_high(s->pivot[s->slots - 2], s->high));
    }
}

/* Writes the block of pivots and returns its length. */
static int pivots_write_block(const struct tree_pivots_source *s, uint8_t *out, size_t *ret_len)
{
    struct tree_block_builder b;
    int rc = 0;
    tree_block_builder_init(&b, TREE_BLOCK_PIVOT);
    for (uint32_t i = 0; i + 1 < s->slots && rc == 0; i++) {
        struct tree_block_entry e = {.key = s->pivot[i]};
        rc = tree_block_builder_add(&b, &e);
    }
    *ret_len = rc == 0 && b.count > 0 ? tree_block_builder_finish(&b, out) : 0;
    tree_block_builder_fini(&b);
    return rc;
}

int tree_pivots_encode(const struct tree_pivots_source *s, uint8_t *out, size_t *ret_len)
{
    size_t bound = tree_pivots_bound(s), children = s->child == NULL ? 0 : 8 * (size_t)s->slots;
    size_t block_len = 0, cuts_len = 0;
    pivots_check_source(s);
    if (bound > TREE_RAW_MAX) {
        return -E2BIG;
    }
    int rc = pivots_write_block(s, out + TREE_PIVOTS_HEADER_BYTES + children, &block_len);
    if (rc < 0) {
        return rc;
    }
    for (uint32_t i = 0; i < s->cuts; i++) {
        CHECK(s->cut[i].len > 0 && s->cut[i].len <= TREE_KEY_MAX);
        cuts_len += s->cut[i].len;
    }
    struct wire_writer w = wire_writer_over(out, bound);
    wire_write_u8(&w, PIVOTS_VERSION);
    wire_write_u8(&w, s->child == NULL ? 0 : (uint8_t)PIVOTS_CHILDREN);
    wire_write_u16(&w, s->slots);
    wire_write_u16(&w, s->cuts);
    wire_write_u16(&w, (uint16_t)s->low.len);
    wire_write_u16(&w, (uint16_t)s->high.len);
    wire_write_u16(&w, 0);
    wire_write_u32(&w, (uint32_t)block_len);
    wire_write_u32(&w, (uint32_t)cuts_len);
    wire_write_u32(&w, 0);
    for (uint32_t i = 0; s->child != NULL && i < s->slots; i++) {
        wire_write_u64(&w, s->child[i]);
    }
    (void)wire_write_room(&w, block_len);
    uint32_t end = 0;
    for (uint32_t i = 0; i < s->cuts; i++) {
        end += (uint32_t)s->cut[i].len;
        wire_write_u32(&w, end);
    }
    for (uint32_t i = 0; i < s->cuts; i++) {
        wire_write_bytes(&w, s->cut[i].at, s->cut[i].len);
    }
    wire_write_bytes(&w, s->low.at, s->low.len);
    wire_write_bytes(&w, s->high.at, s->high.len);
    CHECK(!w.bad);
    *ret_len = w.len;
    return 0;
}

/* ---- reading ---- */

struct tree_pivots tree_pivots_view(const uint8_t *bytes)
{
    struct tree_pivots p = {.slots = wire_load_u16(bytes + 2), .cuts = wire_load_u16(bytes + 4)};
    size_t low_len = wire_load_u16(bytes + 6), high_len = wire_load_u16(bytes + 8);
    const uint8_t *at = bytes + TREE_PIVOTS_HEADER_BYTES;
    p.children = (bytes[1] & PIVOTS_CHILDREN) != 0 ? at : NULL;
    at += p.children == NULL ? 0 : 8 * (size_t)p.slots;
    if (p.slots > 1) {
        p.keys = tree_block_view(at);
    }
    at += wire_load_u32(bytes + 12);
    p.cut_ends = at;
    p.cut_keys = at + 4 * (size_t)p.cuts;
    at = p.cut_keys + wire_load_u32(bytes + 16);
    p.low = kv_slice_of(at, low_len);
    p.high = kv_slice_of(at + low_len, high_len);
    return p;
}

/* Everything that says where something is. */
static int pivots_check_lengths(const uint8_t *bytes, size_t len, const struct tree_node_header *n)
{
    if (len < TREE_PIVOTS_HEADER_BYTES) {
        return -ERR_short_msg;
    }
    uint64_t slots = wire_load_u16(bytes + 2), cuts = wire_load_u16(bytes + 4);
    uint32_t low_len = wire_load_u16(bytes + 6), high_len = wire_load_u16(bytes + 8);
    uint64_t block_len = wire_load_u32(bytes + 12), cuts_len = wire_load_u32(bytes + 16);
    unsigned flags = n->level == 0 ? 0 : PIVOTS_CHILDREN;
    if (bytes[0] != PIVOTS_VERSION) {
        return -ERR_bad_version;
    }
    bool zero = wire_load_u16(bytes + 10) == 0 && wire_load_u32(bytes + 20) == 0;
    if (bytes[1] != flags || slots != n->slots || !zero) {
        return -ERR_bad_value;
    }
    uint64_t expected = TREE_PIVOTS_HEADER_BYTES + (flags != 0 ? 8 * slots : 0) + block_len +
                        4 * cuts + cuts_len + low_len + high_len;
    bool fits = len == expected && len <= TREE_RAW_MAX && low_len <= TREE_KEY_MAX &&
                high_len <= TREE_KEY_MAX && (slots > 1) == (block_len > 0);
    return fits ? 0 : -ERR_bad_length;
}

static int pivots_check_block(const uint8_t *bytes, const struct tree_node_header *n)
{
    struct tree_block b;
    const uint8_t *at = bytes + TREE_PIVOTS_HEADER_BYTES + (n->level > 0 ? 8u * n->slots : 0);
    if (n->slots <= 1) {
        return 0;
    }
    int rc = tree_block_open(at, wire_load_u32(bytes + 12), TREE_BLOCK_PIVOT, &b);
    return rc < 0 ? rc : (b.count == n->slots - 1u ? 0 : -ERR_bad_value);
}

static int pivots_check_cut_ends(const struct tree_pivots *p, uint32_t cuts_len)
{
    uint32_t start = 0;
    for (uint32_t i = 0; i < p->cuts; i++) {
        uint32_t end = wire_load_u32(p->cut_ends + 4 * (size_t)i);
        if (end <= start || end - start > TREE_KEY_MAX || end > cuts_len) {
            return -ERR_bad_length;
        }
        start = end;
    }
    return start == cuts_len ? 0 : -ERR_bad_length;
}

static int pivots_check_fences(const struct tree_pivots *p, const struct tree_node_header *n)
{
    bool good = pivots_below_high(p->low, p->high);
    if (p->slots > 1) {
        uint8_t key[TREE_KEY_MAX];
        size_t len = tree_block_key(&p->keys, 0, key);
        good = good && kv_slice_compare(p->low, kv_slice_of(key, len)) < 0;
        len = tree_block_key(&p->keys, p->slots - 2u, key);
        good = good && pivots_below_high(kv_slice_of(key, len), p->high);
    }
    good = good && tree_fingerprint(p->low) == n->low_print;
    return good && tree_fingerprint(p->high) == n->high_print ? 0 : -ERR_bad_value;
}

/* Each partition that goes on has a cut, between the one before it and the end of its slot. */
static int pivots_check_cuts(const struct tree_pivots *p, const struct tree_node_header *n)
{
    uint32_t cut = 0;
    for (uint32_t i = 0; i < n->partition_count; i++) {
        const struct tree_partition *part = &n->partition[i];
        if (part->flags != TREE_PARTITION_MORE) {
            continue;
        }
        if (cut == p->cuts) {
            return -ERR_bad_value;
        }
        struct tree_pivots_bounds bounds;
        tree_pivots_bounds(p, part->slot, &bounds);
        bool goes_on = part[-1].flags == TREE_PARTITION_MORE; /* a first one never has the flag */
        struct kv_slice low = goes_on ? tree_pivots_cut(p, (uint16_t)(cut - 1)) : bounds.low;
        struct kv_slice key = tree_pivots_cut(p, (uint16_t)cut++);
        if (kv_slice_compare(low, key) >= 0 || !pivots_below_high(key, bounds.high)) {
            return -ERR_bad_value;
        }
    }
    return cut == p->cuts ? 0 : -ERR_bad_value;
}

int tree_pivots_open(const uint8_t *bytes, size_t len, const struct tree_node_header *n,
                     struct tree_pivots *ret)
{
    int rc = pivots_check_lengths(bytes, len, n);
    if (rc == 0) {
        rc = pivots_check_block(bytes, n);
    }
    if (rc < 0) {
        return rc;
    }
    struct tree_pivots p = tree_pivots_view(bytes);
    rc = pivots_check_cut_ends(&p, wire_load_u32(bytes + 16));
    if (rc == 0) {
        rc = pivots_check_fences(&p, n);
    }
    if (rc == 0) {
        rc = pivots_check_cuts(&p, n);
    }
    if (rc == 0) {
        *ret = p;
    }
    return rc;
}

/* ---- asking ---- */

bool tree_pivots_hold(const struct tree_pivots *p, struct kv_slice key)
{
    return kv_slice_compare(p->low, key) <= 0 && pivots_below_high(key, p->high);
}

uint16_t tree_pivots_slot(const struct tree_pivots *p, struct kv_slice key)
{
    CHECK(p->slots > 0);
    return p->slots > 1 ? (uint16_t)tree_block_upper(&p->keys, key) : 0;
}

uint64_t tree_pivots_child(const struct tree_pivots *p, uint16_t slot)
{
    CHECK(slot < p->slots && p->children != NULL);
    return wire_load_u64(p->children + 8 * (size_t)slot);
}

struct kv_slice tree_pivots_cut(const struct tree_pivots *p, uint16_t cut)
{
    CHECK(cut < p->cuts);
    const uint8_t *end = p->cut_ends + 4 * (size_t)cut;
    uint32_t start = cut == 0 ? 0 : wire_load_u32(end - 4);
    return kv_slice_of(p->cut_keys + start, wire_load_u32(end) - start);
}

void tree_pivots_bounds(const struct tree_pivots *p, uint16_t slot, struct tree_pivots_bounds *ret)
{
    CHECK(slot < p->slots);
    ret->low = p->low;
    ret->high = p->high;
    if (slot > 0) {
        size_t len = tree_block_key(&p->keys, slot - 1u, ret->low_key);
        ret->low = kv_slice_of(ret->low_key, len);
    }
    if (slot + 1 < p->slots) {
        size_t len = tree_block_key(&p->keys, slot, ret->high_key);
        ret->high = kv_slice_of(ret->high_key, len);
    }
}

uint32_t tree_pivots_find_run(const struct tree_pivots *p, const struct tree_node_header *n,
                              uint16_t slot, uint8_t run, struct kv_slice key)
{
    uint32_t i = tree_node_find(n, TREE_PARTITION_RUN, slot, run);
    const struct tree_partition *part = n->partition + i;
    if (i == n->partition_count || part->kind != TREE_PARTITION_RUN || part->slot != slot ||
        part->run != run) {
        return n->partition_count;
    }
    for (; i + 1 < n->partition_count; i++) {
        const struct tree_partition *next = &n->partition[i + 1];
        if (next->flags != TREE_PARTITION_MORE ||
            kv_slice_compare(tree_pivots_cut(p, next->cut), key) > 0) {
            break;
        }
    }
    return i;
}

/* ---- what lies in the slots ---- */

/* Between which keys partition i lies, with the cuts around it. */
static void pivots_part_bounds(const struct tree_pivots *p, const struct tree_node_header *n,
                               uint32_t i, struct tree_pivots_bounds *ret)
{
    const struct tree_partition *part = &n->partition[i];
    if (part->slot == TREE_SLOT_ALL) {
        ret->low = p->low;
        ret->high = p->high;
        return;
    }
    tree_pivots_bounds(p, part->slot, ret);
    if (part->flags == TREE_PARTITION_MORE) {
        ret->low = tree_pivots_cut(p, part->cut);
    }
    if (i + 1 < n->partition_count && part[1].flags == TREE_PARTITION_MORE) {
        ret->high = tree_pivots_cut(p, part[1].cut);
    }
}

/* Bodies that whoever folds messages may trust. Deleted ranges have a list of their own. */
static int pivots_check_messages(const struct tree_block *b)
{
    int rc = 0;
    for (uint32_t i = 0; i < b->count && rc == 0; i++) {
        struct tree_block_entry e;
        tree_block_get(b, i, &e);
        rc =
            e.type == TREE_RANGE_DELETE ? -ERR_bad_value : tree_message_check(e.type, e.body, NULL);
    }
    return rc;
}

int tree_pivots_open_block(const struct tree_pivots *p, const struct tree_node_header *n,
                           uint32_t i, const uint8_t *raw, struct tree_block *ret)
{
    CHECK(i < n->partition_count && n->partition[i].kind <= TREE_PARTITION_RUN);
    const struct tree_partition *part = &n->partition[i];
    bool leaf = part->kind == TREE_PARTITION_LEAF;
    struct tree_pivots_bounds bounds;
    struct tree_block b = {0};
    uint8_t key[TREE_KEY_MAX];
    int rc = tree_block_open(raw, part->raw_len, leaf ? TREE_BLOCK_LEAF : TREE_BLOCK_MESSAGE, &b);
    if (rc < 0) {
        return rc;
    }
    pivots_part_bounds(p, n, i, &bounds);
    size_t len = tree_block_key(&b, 0, key);
    bool inside = kv_slice_compare(bounds.low, kv_slice_of(key, len)) <= 0;
    len = tree_block_key(&b, b.count - 1, key);
    inside = inside && pivots_below_high(kv_slice_of(key, len), bounds.high);
    if (!inside || b.count != part->entries) {
        return -ERR_bad_value;
    }
    rc = leaf ? 0 : pivots_check_messages(&b);
    if (rc == 0) {
        *ret = b;
    }
    return rc;
}

int tree_pivots_open_ranges(const struct tree_pivots *p, const struct tree_node_header *n,
                            uint32_t i, const uint8_t *raw, struct tree_ranges *ret)
{
    CHECK(i < n->partition_count && n->partition[i].kind == TREE_PARTITION_RANGES);
    const struct tree_partition *part = &n->partition[i];
    struct tree_pivots_bounds bounds;
    struct tree_ranges r = {0};
    int rc = tree_ranges_open(raw, part->raw_len, &r);
    if (rc < 0) {
        return rc;
    }
    pivots_part_bounds(p, n, i, &bounds);
    struct kv_slice low = tree_ranges_get(&r, 0).low, high = tree_ranges_get(&r, r.count - 1).high;
    bool inside = kv_slice_compare(bounds.low, low) <= 0 &&
                  (bounds.high.len == 0 || kv_slice_compare(high, bounds.high) <= 0);
    if (!inside || r.count != part->entries) {
        return -ERR_bad_value;
    }
    *ret = r;
    return 0;
}
