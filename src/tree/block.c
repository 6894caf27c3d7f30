/*
 * tree/block.c -- see block.h.
 *
 * Header | heads | offsets | prefix | keys | bodies. What all keys share stands once. A head is the
 * first four bytes of what follows it, as a number: a search compares numbers that lie side by
 * side, without a branch, and looks at keys only where heads are equal.
 */
#include "tree/block.h"

#include <string.h>

#include "base/mem.h"
#include "wire/wire.h"

#define VARINT_MAX 10u

static bool block_has_messages(unsigned kind)
{
    return kind == TREE_BLOCK_MESSAGE || kind == TREE_BLOCK_INDEX;
}

/* Shorter keys are filled with zeros: where heads differ, they are in the order of their keys. */
static uint32_t block_head(const uint8_t *at, size_t len)
{
    if (len >= 4) {
        return __builtin_bswap32(wire_load_u32(at));
    }
    uint32_t head = 0;
    for (size_t i = 0; i < len; i++) {
        head |= (uint32_t)at[i] << (24 - 8 * i);
    }
    return head;
}

static int block_compare(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    size_t len = a_len < b_len ? a_len : b_len;
    int order = len > 0 ? memcmp(a, b, len) : 0;
    return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

static size_t varint_len(uint64_t v)
{
    size_t len = 1;
    while (v >= 0x80) {
        v >>= 7;
        len++;
    }
    return len;
}

static size_t varint_store(uint8_t *at, uint64_t v)
{
    size_t len = 0;
    while (v >= 0x80) {
        at[len++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    at[len++] = (uint8_t)v;
    return len;
}

/* 0: it is not one, or not the shortest form of its number. */
static size_t varint_load(const uint8_t *at, size_t left, uint64_t *ret)
{
    uint64_t v = 0;
    size_t max = left < VARINT_MAX ? left : VARINT_MAX;
    for (size_t i = 0; i < max; i++) {
        v |= (uint64_t)(at[i] & 0x7f) << (7 * i);
        if (at[i] < 0x80) {
            bool shortest = i == 0 || at[i] != 0;
            bool fits = i < VARINT_MAX - 1 || at[i] == 1;
            *ret = v;
            return shortest && fits ? i + 1 : 0;
        }
    }
    return 0;
}

/* ---- reading ---- */

static struct tree_block block_lay_out(const uint8_t *bytes)
{
    struct tree_block b = {.kind = bytes[0],
                           .prefix_len = wire_load_u16(bytes + 2),
                           .count = wire_load_u32(bytes + 4),
                           .base_msn = wire_load_u64(bytes + 8),
                           .keys_len = wire_load_u32(bytes + 16),
                           .bodies_len = wire_load_u32(bytes + 20),
                           .heads = bytes + TREE_BLOCK_HEADER_BYTES};
    b.offsets = b.heads + 4 * (size_t)b.count;
    b.prefix = b.offsets + 8 * (size_t)b.count;
    b.keys = b.prefix + b.prefix_len;
    b.bodies = b.keys + b.keys_len;
    return b;
}

struct tree_block tree_block_view(const uint8_t *bytes)
{
    return block_lay_out(bytes);
}

static uint32_t block_head_at(const struct tree_block *b, uint32_t i)
{
    return wire_load_u32(b->heads + 4 * (size_t)i);
}

static struct kv_slice block_tail(const struct tree_block *b, uint32_t i)
{
    const uint8_t *at = b->offsets + 8 * (size_t)i;
    uint32_t start = wire_load_u32(at);
    uint32_t end = i + 1 < b->count ? wire_load_u32(at + 8) : b->keys_len;
    return kv_slice_of(b->keys + start, end - start);
}

static struct kv_slice block_stored(const struct tree_block *b, uint32_t i)
{
    const uint8_t *at = b->offsets + 8 * (size_t)i + 4;
    uint32_t start = wire_load_u32(at);
    uint32_t end = i + 1 < b->count ? wire_load_u32(at + 8) : b->bodies_len;
    return kv_slice_of(b->bodies + start, end - start);
}

/* Takes type and number off the front of a message. */
static int block_open_message(const struct tree_block *b, struct tree_block_entry *e)
{
    const uint8_t *at = e->body.at;
    uint64_t delta = 0;
    size_t len = e->body.len < 2 ? 0 : varint_load(at + 1, e->body.len - 1, &delta);
    if (len == 0 || delta > UINT64_MAX - b->base_msn) {
        return -ERR_bad_value;
    }
    e->type = at[0];
    e->msn = b->base_msn + delta;
    e->body = kv_slice_of(at + 1 + len, e->body.len - 1 - len);
    return 0;
}

void tree_block_get(const struct tree_block *b, uint32_t i, struct tree_block_entry *ret)
{
    CHECK(i < b->count);
    *ret = (struct tree_block_entry){.key = block_tail(b, i), .body = block_stored(b, i)};
    if (block_has_messages(b->kind)) {
        CHECK(block_open_message(b, ret) == 0);
    }
}

size_t tree_block_key(const struct tree_block *b, uint32_t i, uint8_t out[TREE_KEY_MAX])
{
    CHECK(i < b->count);
    struct kv_slice tail = block_tail(b, i);
    memcpy(out, b->prefix, b->prefix_len);
    memcpy(out + b->prefix_len, tail.at, tail.len);
    return b->prefix_len + tail.len;
}

/* ---- checking ---- */

static int block_check_header(const uint8_t *bytes, size_t len, enum tree_block_kind kind)
{
    if (len < TREE_BLOCK_HEADER_BYTES) {
        return -ERR_short_msg;
    }
    uint64_t prefix = wire_load_u16(bytes + 2), count = wire_load_u32(bytes + 4);
    uint64_t areas = (uint64_t)wire_load_u32(bytes + 16) + wire_load_u32(bytes + 20);
    if (bytes[0] != kind) {
        return -ERR_bad_magic;
    }
    if (bytes[1] != 0) {
        return -ERR_bad_version;
    }
    bool fits = len == TREE_BLOCK_HEADER_BYTES + count * TREE_BLOCK_ENTRY_BYTES + prefix +
                           areas; /* < 2^38 */
    if (len > TREE_RAW_MAX || count == 0 || prefix > TREE_KEY_MAX || !fits) {
        return -ERR_bad_length;
    }
    return block_has_messages(kind) || wire_load_u64(bytes + 8) == 0 ? 0 : -ERR_bad_value;
}

/* All starts of keys and bodies, before anything behind them is looked at. */
static int block_check_offsets(const struct tree_block *b)
{
    uint32_t key = 0, body = 0;
    uint32_t longest = TREE_KEY_MAX - b->prefix_len;
    uint32_t body_max = TREE_BODY_MAX + (block_has_messages(b->kind) ? 1 + VARINT_MAX : 0);
    bool good = wire_load_u32(b->offsets) == 0 && wire_load_u32(b->offsets + 4) == 0;
    for (uint32_t i = 1; i <= b->count; i++) {
        const uint8_t *at = b->offsets + 8 * (size_t)i;
        uint32_t key_end = i < b->count ? wire_load_u32(at) : b->keys_len;
        uint32_t body_end = i < b->count ? wire_load_u32(at + 4) : b->bodies_len;
        good = good && key_end >= key && key_end - key <= longest && body_end >= body &&
               body_end - body <= body_max;
        key = key_end;
        body = body_end;
    }
    return good && key <= b->keys_len && body <= b->bodies_len ? 0 : -ERR_bad_length;
}

static int block_check_body(const struct tree_block *b, struct tree_block_entry *e)
{
    if (b->kind == TREE_BLOCK_PIVOT) {
        return e->body.len == 0 ? 0 : -ERR_bad_length;
    }
    if (!block_has_messages(b->kind)) {
        return 0;
    }
    int rc = block_open_message(b, e);
    if (rc < 0) {
        return rc;
    }
    bool known = b->kind == TREE_BLOCK_INDEX ? e->type == 0 : tree_message_type_valid(e->type);
    if (!known) {
        return -ERR_bad_value;
    }
    return e->body.len <= TREE_BODY_MAX ? 0 : -ERR_bad_length;
}

/* Keys ascend; those of messages may be equal, and then the numbers descend. */
static bool block_in_order(const struct tree_block *b, const struct tree_block_entry *last,
                           const struct tree_block_entry *e)
{
    int order = block_compare(last->key.at, last->key.len, e->key.at, e->key.len);
    return order < 0 || (order == 0 && block_has_messages(b->kind) && last->msn > e->msn);
}

static int block_check_entries(const struct tree_block *b)
{
    struct tree_block_entry e, last = {0};
    uint32_t last_head = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        e = (struct tree_block_entry){.key = block_tail(b, i), .body = block_stored(b, i)};
        uint32_t head = block_head_at(b, i);
        int rc = block_check_body(b, &e);
        if (rc < 0) {
            return rc;
        }
        if (head != block_head(e.key.at, e.key.len) || b->prefix_len + e.key.len == 0) {
            return -ERR_bad_value;
        }
        if (i > 0 && head <= last_head && !block_in_order(b, &last, &e)) {
            return -ERR_bad_value;
        }
        last = e;
        last_head = head;
    }
    return 0;
}

int tree_block_open(const uint8_t *bytes, size_t len, enum tree_block_kind kind,
                    struct tree_block *ret)
{
    int rc = block_check_header(bytes, len, kind);
    if (rc < 0) {
        return rc;
    }
    struct tree_block b = block_lay_out(bytes);
    rc = block_check_offsets(&b);
    if (rc == 0) {
        rc = block_check_entries(&b);
    }
    if (rc == 0) {
        *ret = b;
    }
    return rc;
}

/* ---- searching ---- */

/* How many of the first `count` heads are below `head`; the halves are chosen without a branch. */
static uint32_t block_heads_below(const uint8_t *heads, uint32_t count, uint32_t head)
{
    const uint8_t *at = heads;
    while (count > 1) {
        uint32_t half = count / 2;
        size_t step = 4 * (size_t)half;
        at += wire_load_u32(at + step - 4) < head ? step : 0;
        count -= half;
    }
    uint32_t below = (uint32_t)((size_t)(at - heads) / 4);
    return below + (wire_load_u32(at) < head ? 1 : 0);
}

/* Among [low, high), which all have the head of `rest`, the first that is not below it. */
static uint32_t block_search_equal(const struct tree_block *b, uint32_t low, uint32_t high,
                                   struct kv_slice rest, bool *ret_equal)
{
    bool equal = false;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct kv_slice tail = block_tail(b, middle);
        int order = block_compare(tail.at, tail.len, rest.at, rest.len);
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
            equal = order == 0; /* of the lowest that is not below: the last one that is kept */
        }
    }
    *ret_equal = equal;
    return low;
}

static uint32_t block_search_tail(const struct tree_block *b, struct kv_slice rest, bool *ret_equal)
{
    uint32_t head = block_head(rest.at, rest.len);
    uint32_t low = block_heads_below(b->heads, b->count, head);
    if (low == b->count || block_head_at(b, low) != head) {
        *ret_equal = false;
        return low;
    }
    uint32_t high = low + 1;
    if (high < b->count && block_head_at(b, high) == head) { /* rarely more than one */
        const uint8_t *from = b->heads + 4 * (size_t)high;
        high = head == UINT32_MAX ? b->count
                                  : high + block_heads_below(from, b->count - high, head + 1);
    }
    return block_search_equal(b, low, high, rest, ret_equal);
}

uint32_t tree_block_lower(const struct tree_block *b, struct kv_slice key, bool *ret_equal)
{
    size_t shared = key.len < b->prefix_len ? key.len : b->prefix_len;
    int order = shared > 0 ? memcmp(key.at, b->prefix, shared) : 0;
    *ret_equal = false;
    if (order != 0) {
        return order < 0 ? 0 : b->count;
    }
    if (key.len < b->prefix_len) {
        return 0;
    }
    const uint8_t *rest = key.at;
    return block_search_tail(b, kv_slice_of(rest + shared, key.len - shared), ret_equal);
}

uint32_t tree_block_upper(const struct tree_block *b, struct kv_slice key)
{
    bool equal = false;
    uint32_t i = tree_block_lower(b, key, &equal);
    if (!equal) {
        return i;
    }
    struct kv_slice found = block_tail(b, i++);
    while (i < b->count) { /* messages of the same key */
        struct kv_slice tail = block_tail(b, i);
        if (block_compare(tail.at, tail.len, found.at, found.len) != 0) {
            break;
        }
        i++;
    }
    return i;
}

void tree_block_iter_init(struct tree_block_iter *it, const struct tree_block *b)
{
    it->block = *b;
    it->entry = (struct tree_block_entry){0};
    it->at = b->count;
    memcpy(it->key, b->prefix, b->prefix_len);
}

bool tree_block_iter_seek(struct tree_block_iter *it, uint32_t i)
{
    const struct tree_block *b = &it->block;
    it->at = i < b->count ? i : b->count;
    if (it->at == b->count) {
        return false;
    }
    tree_block_get(b, i, &it->entry);
    struct kv_slice tail = it->entry.key;
    memcpy(it->key + b->prefix_len, tail.at, tail.len);
    it->entry.key = kv_slice_of(it->key, b->prefix_len + tail.len);
    return true;
}

/* ---- building ---- */

void tree_block_builder_init(struct tree_block_builder *b, enum tree_block_kind kind)
{
    *b = (struct tree_block_builder){.kind = kind};
}

void tree_block_builder_fini(struct tree_block_builder *b)
{
    mem_free(b->keys);
    mem_free(b->bodies);
    mem_free(b->slot);
    *b = (struct tree_block_builder){.kind = b->kind};
}

void tree_block_builder_clear(struct tree_block_builder *b)
{
    b->count = 0;
    b->prefix_len = 0;
    b->keys_len = 0;
    b->bodies_len = 0;
}

static struct kv_slice builder_key(const struct tree_block_builder *b, uint32_t i)
{
    size_t start = i == 0 ? 0 : b->slot[i - 1].key_end;
    return kv_slice_of(b->keys + start, b->slot[i].key_end - start);
}

/* Keys come in order: what the first and the new one share, all share. */
static size_t builder_prefix(const struct tree_block_builder *b, struct kv_slice key)
{
    if (b->count == 0) {
        return key.len;
    }
    size_t max = b->prefix_len < key.len ? b->prefix_len : key.len, len = 0;
    const uint8_t *at = key.at;
    if (max > 0 && memcmp(at, b->keys, max) == 0) {
        return max;
    }
    while (len < max && at[len] == b->keys[len]) {
        len++;
    }
    return len;
}

static size_t builder_size(const struct tree_block_builder *b, const struct tree_block_entry *e)
{
    size_t count = b->count, prefix = b->prefix_len, keys = b->keys_len, bodies = b->bodies_len;
    uint64_t spread = count > 0 ? b->msn_max - b->msn_min : 0;
    if (e != NULL) {
        prefix = builder_prefix(b, e->key);
        spread = count == 0 ? 0 : base_max(b->msn_max, e->msn) - base_min(b->msn_min, e->msn);
        keys += e->key.len;
        bodies += e->body.len;
        count++;
    }
    size_t message = block_has_messages(b->kind) ? 1 + varint_len(spread) : 0;
    return TREE_BLOCK_HEADER_BYTES + prefix + keys - count * prefix + bodies +
           count * (TREE_BLOCK_ENTRY_BYTES + message);
}

size_t tree_block_builder_bytes(const struct tree_block_builder *b)
{
    return builder_size(b, NULL);
}

size_t tree_block_builder_len(const struct tree_block_builder *b)
{
    size_t len = builder_size(b, NULL), most = varint_len(b->msn_max - b->msn_min);
    for (uint32_t i = 0; i < b->count && block_has_messages(b->kind); i++) {
        len -= most - varint_len(b->slot[i].msn - b->msn_min);
    }
    return len;
}

size_t tree_block_builder_bytes_with(const struct tree_block_builder *b,
                                     const struct tree_block_entry *e)
{
    return builder_size(b, e);
}

static void builder_check(const struct tree_block_builder *b, const struct tree_block_entry *e)
{
    bool message = block_has_messages(b->kind);
    CHECK(e->key.len > 0 && e->key.len <= TREE_KEY_MAX && e->body.len <= TREE_BODY_MAX);
    CHECK(b->kind != TREE_BLOCK_PIVOT || e->body.len == 0);
    CHECK(b->kind == TREE_BLOCK_MESSAGE ? tree_message_type_valid(e->type) : e->type == 0);
    CHECK(message || e->msn == 0);
    if (b->count > 0) {
        int order = kv_slice_compare(builder_key(b, b->count - 1), e->key);
        CHECK(order < 0 || (order == 0 && message && b->slot[b->count - 1].msn > e->msn));
    }
}

int tree_block_builder_add(struct tree_block_builder *b, const struct tree_block_entry *e)
{
    builder_check(b, e);
    bool full = b->keys_len + e->key.len > TREE_RAW_MAX; /* before the prefix is taken off */
    if (full || builder_size(b, e) > TREE_RAW_MAX) {
        return -E2BIG;
    }
    if (mem_grow(&b->keys, &b->keys_capacity, b->keys_len + e->key.len, 1) < 0 ||
        mem_grow(&b->bodies, &b->bodies_capacity, b->bodies_len + e->body.len, 1) < 0 ||
        mem_grow(&b->slot, &b->slot_capacity, b->count + 1, sizeof *b->slot) < 0) {
        return -ENOMEM;
    }
    b->prefix_len = builder_prefix(b, e->key);
    b->msn_min = b->count == 0 ? e->msn : base_min(b->msn_min, e->msn);
    b->msn_max = b->count == 0 ? e->msn : base_max(b->msn_max, e->msn);
    memcpy(b->keys + b->keys_len, e->key.at, e->key.len);
    if (e->body.len > 0) {
        memcpy(b->bodies + b->bodies_len, e->body.at, e->body.len);
    }
    b->keys_len += e->key.len;
    b->bodies_len += e->body.len;
    b->slot[b->count++] = (struct tree_block_slot){.key_end = (uint32_t)b->keys_len,
                                                   .body_end = (uint32_t)b->bodies_len,
                                                   .msn = e->msn,
                                                   .type = e->type};
    return 0;
}

/* Returns the end of the bodies at `at`. */
static uint8_t *builder_put_bodies(const struct tree_block_builder *b, uint8_t *offsets,
                                   uint8_t *at)
{
    const uint8_t *start = at;
    uint32_t from = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        const struct tree_block_slot *s = &b->slot[i];
        wire_store_u32(offsets + 8 * (size_t)i + 4, (uint32_t)(at - start));
        if (block_has_messages(b->kind)) {
            *at++ = s->type;
            at += varint_store(at, s->msn - b->msn_min);
        }
        if (s->body_end > from) {
            memcpy(at, b->bodies + from, s->body_end - from);
        }
        at += s->body_end - from;
        from = s->body_end;
    }
    return at;
}

static uint8_t *builder_put_keys(const struct tree_block_builder *b, uint8_t *heads,
                                 uint8_t *offsets, uint8_t *at)
{
    const uint8_t *start = at;
    for (uint32_t i = 0; i < b->count; i++) {
        struct kv_slice key = builder_key(b, i);
        const uint8_t *tail = (const uint8_t *)key.at + b->prefix_len;
        size_t len = key.len - b->prefix_len;
        wire_store_u32(heads + 4 * (size_t)i, block_head(tail, len));
        wire_store_u32(offsets + 8 * (size_t)i, (uint32_t)(at - start));
        memcpy(at, tail, len);
        at += len;
    }
    return at;
}

size_t tree_block_builder_finish(const struct tree_block_builder *b, uint8_t *out)
{
    CHECK(b->count > 0);
    uint8_t *heads = out + TREE_BLOCK_HEADER_BYTES;
    uint8_t *offsets = heads + 4 * (size_t)b->count;
    uint8_t *prefix = offsets + 8 * (size_t)b->count;
    uint8_t *keys = prefix + b->prefix_len;
    memcpy(prefix, b->keys, b->prefix_len);
    uint8_t *bodies = builder_put_keys(b, heads, offsets, keys);
    const uint8_t *end = builder_put_bodies(b, offsets, bodies);
    out[0] = (uint8_t)b->kind;
    out[1] = 0;
    wire_store_u16(out + 2, (uint16_t)b->prefix_len);
    wire_store_u32(out + 4, b->count);
    wire_store_u64(out + 8, block_has_messages(b->kind) ? b->msn_min : 0);
    wire_store_u32(out + 16, (uint32_t)(bodies - keys));
    wire_store_u32(out + 20, (uint32_t)(end - bodies));
    size_t len = (size_t)(end - out);
    CHECK(len == tree_block_builder_len(b));
    return len;
}
