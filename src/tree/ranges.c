/*
 * tree/ranges.c -- see ranges.h.
 *
 * Header: version u32 | count u32 | length of the keys u32 | zero u32. Entry: msn u64 | offset of
 * its keys u32 | length of low u16 | of high u16. Keys: low and high of each, one after the other.
 */
#include "tree/ranges.h"

#include "wire/wire.h"

#define RANGES_VERSION 1u

struct tree_ranges tree_ranges_view(const uint8_t *bytes)
{
    struct tree_ranges r = {.entries = bytes + TREE_RANGES_HEADER_BYTES,
                            .count = wire_load_u32(bytes + 4)};
    r.keys = r.entries + TREE_RANGES_ENTRY_BYTES * (size_t)r.count;
    return r;
}

static const uint8_t *ranges_entry(const struct tree_ranges *r, uint32_t i)
{
    return r->entries + TREE_RANGES_ENTRY_BYTES * (size_t)i;
}

struct tree_ranges_item tree_ranges_get(const struct tree_ranges *r, uint32_t i)
{
    CHECK(i < r->count);
    const uint8_t *at = ranges_entry(r, i);
    const uint8_t *low = r->keys + wire_load_u32(at + 8);
    size_t low_len = wire_load_u16(at + 12);
    return (struct tree_ranges_item){.low = kv_slice_of(low, low_len),
                                     .high = kv_slice_of(low + low_len, wire_load_u16(at + 14)),
                                     .msn = wire_load_u64(at)};
}

/* Ranges do not overlap, but for older copies of the one before. */
static bool range_may_follow(const struct tree_ranges_item *before,
                             const struct tree_ranges_item *range)
{
    if (kv_slice_compare(before->high, range->low) <= 0) {
        return true;
    }
    return kv_slice_compare(before->low, range->low) == 0 &&
           kv_slice_compare(before->high, range->high) == 0 && before->msn > range->msn;
}

static bool range_sound(const struct tree_ranges_item *r)
{
    return r->msn != 0 && kv_slice_compare(r->low, r->high) < 0;
}

static int ranges_check_lengths(const struct tree_ranges *r, uint64_t keys_len)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        const uint8_t *entry = ranges_entry(r, i);
        uint32_t low = wire_load_u16(entry + 12), high = wire_load_u16(entry + 14);
        if (wire_load_u32(entry + 8) != at || low > TREE_KEY_MAX || high > TREE_KEY_MAX) {
            return -ERR_bad_length;
        }
        at += low + high;
    }
    return at == keys_len ? 0 : -ERR_bad_length;
}

int tree_ranges_open(const uint8_t *bytes, size_t len, struct tree_ranges *ret)
{
    if (len < TREE_RANGES_HEADER_BYTES) {
        return -ERR_short_msg;
    }
    if (wire_load_u32(bytes) != RANGES_VERSION || wire_load_u32(bytes + 12) != 0) {
        return -ERR_bad_version;
    }
    uint64_t count = wire_load_u32(bytes + 4), keys_len = wire_load_u32(bytes + 8);
    uint64_t expected = TREE_RANGES_HEADER_BYTES + count * TREE_RANGES_ENTRY_BYTES + keys_len;
    if (count == 0 || len > TREE_RAW_MAX || len != expected) {
        return -ERR_bad_length;
    }
    struct tree_ranges r = tree_ranges_view(bytes);
    int rc = ranges_check_lengths(&r, keys_len);
    struct tree_ranges_item before = {0};
    for (uint32_t i = 0; i < r.count && rc == 0; i++) {
        struct tree_ranges_item range = tree_ranges_get(&r, i);
        bool good = range_sound(&range) && (i == 0 || range_may_follow(&before, &range));
        rc = good ? 0 : -ERR_bad_value;
        before = range;
    }
    if (rc == 0) {
        *ret = r;
    }
    return rc;
}

uint32_t tree_ranges_lower(const struct tree_ranges *r, struct kv_slice key)
{
    uint32_t low = 0, high = r->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (kv_slice_compare(tree_ranges_get(r, middle).high, key) <= 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

uint64_t tree_ranges_cover(const struct tree_ranges *r, struct kv_slice key, uint64_t msn_max)
{
    for (uint32_t i = tree_ranges_lower(r, key); i < r->count; i++) {
        struct tree_ranges_item range = tree_ranges_get(r, i);
        if (kv_slice_compare(range.low, key) > 0) {
            return 0;
        }
        if (range.msn <= msn_max) {
            return range.msn;
        }
    }
    return 0;
}

size_t tree_ranges_bytes(const struct tree_ranges_item *range, size_t count)
{
    size_t len = TREE_RANGES_HEADER_BYTES + count * TREE_RANGES_ENTRY_BYTES;
    for (size_t i = 0; i < count; i++) {
        len += range[i].low.len + range[i].high.len;
    }
    return len;
}

size_t tree_ranges_encode(const struct tree_ranges_item *range, size_t count, uint8_t *out)
{
    size_t len = tree_ranges_bytes(range, count);
    CHECK(count > 0 && len <= TREE_RAW_MAX);
    struct wire_writer w = wire_writer_over(out, len);
    wire_write_u32(&w, RANGES_VERSION);
    wire_write_u32(&w, (uint32_t)count);
    wire_write_u32(&w,
                   (uint32_t)(len - TREE_RANGES_HEADER_BYTES - count * TREE_RANGES_ENTRY_BYTES));
    wire_write_u32(&w, 0);
    uint32_t at = 0;
    for (size_t i = 0; i < count; i++) {
        const struct tree_ranges_item *r = &range[i];
        CHECK(r->low.len <= TREE_KEY_MAX && r->high.len <= TREE_KEY_MAX && range_sound(r));
        CHECK(i == 0 || range_may_follow(&range[i - 1], r));
        wire_write_u64(&w, r->msn);
        wire_write_u32(&w, at);
        wire_write_u16(&w, (uint16_t)r->low.len);
        wire_write_u16(&w, (uint16_t)r->high.len);
        at += (uint32_t)(r->low.len + r->high.len);
    }
    for (size_t i = 0; i < count; i++) {
        wire_write_bytes(&w, range[i].low.at, range[i].low.len);
        wire_write_bytes(&w, range[i].high.at, range[i].high.len);
    }
    CHECK(!w.bad && w.len == len);
    return len;
}
