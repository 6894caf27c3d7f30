/*
 * tree/pivots.h -- the pivots of a node: which keys it holds, and which slot (a basement of a leaf,
 * a child of an internal node) holds which of them.
 *
 * Slot i holds pivot[i - 1] <= key < pivot[i], the first from the low fence, the last up to the
 * high fence. Where the messages of one run for one child lie in several partitions, cuts divide
 * them in the same way. The unpacked bytes are the form in memory, opened once with their header; a
 * view owns nothing.
 */
#pragma once

#include "tree/block.h"
#include "tree/node.h"
#include "tree/ranges.h"

#define TREE_PIVOTS_HEADER_BYTES 24u

struct tree_pivots {
    struct kv_slice low;    /* inclusive; empty: from the first key */
    struct kv_slice high;   /* exclusive; empty: to the last key */
    struct tree_block keys; /* slots - 1 of them; count 0: none */
    const uint8_t *children, *cut_ends, *cut_keys;
    uint16_t slots, cuts;
};

/* What to write; everything is lent. */
struct tree_pivots_source {
    struct kv_slice low, high;
    const struct kv_slice *pivot; /* slots - 1 */
    const uint64_t *child;        /* slots; NULL: a leaf */
    const struct kv_slice *cut;
    uint16_t slots, cuts;
};
/* Room that encoding needs at most. */
size_t tree_pivots_bound(const struct tree_pivots_source *s);
/* Pivots ascend between the fences: CHECKed. *ret_len is what was written. -ENOMEM; -E2BIG: more
 * than TREE_RAW_MAX. */
NODISCARD int tree_pivots_encode(const struct tree_pivots_source *s, uint8_t *out, size_t *ret_len);

/* Checks all of it, also against the header: slots, level, cuts of its partitions, fingerprints of
 * the fences. Class ERR_corrupt. */
NODISCARD int tree_pivots_open(const uint8_t *bytes, size_t len, const struct tree_node_header *n,
                               struct tree_pivots *ret);
/* The view of bytes that tree_pivots_open() has accepted. */
struct tree_pivots tree_pivots_view(const uint8_t *bytes);

/* True when the key lies between the fences. */
bool tree_pivots_hold(const struct tree_pivots *p, struct kv_slice key);
/* The slot of a key between the fences; there is at least one slot. */
uint16_t tree_pivots_slot(const struct tree_pivots *p, struct kv_slice key);
uint64_t tree_pivots_child(const struct tree_pivots *p, uint16_t slot);
struct kv_slice tree_pivots_cut(const struct tree_pivots *p, uint16_t cut);

/* Between which keys a slot lies; as fences are. */
struct tree_pivots_bounds {
    struct kv_slice low, high; /* lent: below, or in the pivots */
    uint8_t low_key[TREE_KEY_MAX], high_key[TREE_KEY_MAX];
};
void tree_pivots_bounds(const struct tree_pivots *p, uint16_t slot, struct tree_pivots_bounds *ret);

/*
 * Opens the unpacked bytes of partition i, a basement or a run: a sound block with as many entries
 * as the header says, all of whose keys belong where it is, and all of whose messages are ones of a
 * key (tree_message_check()). Class ERR_corrupt.
 */
NODISCARD int tree_pivots_open_block(const struct tree_pivots *p, const struct tree_node_header *n,
                                     uint32_t i, const uint8_t *raw, struct tree_block *ret);
/* The same of deleted ranges, which lie between the fences, or in their slot. */
NODISCARD int tree_pivots_open_ranges(const struct tree_pivots *p, const struct tree_node_header *n,
                                      uint32_t i, const uint8_t *raw, struct tree_ranges *ret);

/* The partition with the messages of `run` for a key of `slot`; partition_count: there is none. */
uint32_t tree_pivots_find_run(const struct tree_pivots *p, const struct tree_node_header *n,
                              uint16_t slot, uint8_t run, struct kv_slice key);
