/*
 * tree/ranges.h -- a list of deleted key ranges: which message number covers a key.
 *
 * Ranges ascend and do not overlap; the same range may stand several times with descending numbers,
 * the older ones for snapshots that still see them. Like a block it is searched where it lies, has
 * no checksum of its own (the packed partition has one), and a view owns nothing.
 */
#pragma once

#include "tree/tree_format.h"

#define TREE_RANGES_HEADER_BYTES 16u
#define TREE_RANGES_ENTRY_BYTES 16u

struct tree_ranges_item {
    struct kv_slice low, high; /* low <= key < high; low may be empty: from the first key */
    uint64_t msn;              /* of the delete; not 0 */
};

struct tree_ranges {
    const uint8_t *entries, *keys;
    uint32_t count;
};

/* Checks all of it. Class ERR_corrupt. */
NODISCARD int tree_ranges_open(const uint8_t *bytes, size_t len, struct tree_ranges *ret);
/* The view of bytes that tree_ranges_open() has accepted. */
struct tree_ranges tree_ranges_view(const uint8_t *bytes);
/* Range i < count, lent as long as the bytes. */
struct tree_ranges_item tree_ranges_get(const struct tree_ranges *r, uint32_t i);

/* The first range whose end lies beyond `key`: the only one (with its older copies) that can hold
 * it, or else the next one behind it. `count` when there is none. */
uint32_t tree_ranges_lower(const struct tree_ranges *r, struct kv_slice key);
/* The greatest number that is at most `msn_max` of a range that holds the key; 0: none. */
uint64_t tree_ranges_cover(const struct tree_ranges *r, struct kv_slice key, uint64_t msn_max);

/* What tree_ranges_encode() will write. */
size_t tree_ranges_bytes(const struct tree_ranges_item *range, size_t count);
/* Writes ranges in order (CHECKed, as are the limits), 1 or more, of at most TREE_RAW_MAX bytes. */
size_t tree_ranges_encode(const struct tree_ranges_item *range, size_t count, uint8_t *out);
