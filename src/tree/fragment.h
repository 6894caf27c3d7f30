/*
 * tree/fragment.h -- makes a list of deleted ranges (ranges.h) out of ones in any order, which may
 * overlap: they are cut where others begin and end.
 *
 * Pure; time n log n for n ranges, and for each piece as many steps as there are live snapshots.
 */
#pragma once

#include "tree/ranges.h"

/* What snapshots see: one at n sees numbers <= n. Ascending. */
struct tree_fragment_live {
    const uint64_t *msn;
    size_t count;
};

/*
 * Each piece keeps the newest number that covers it and, of the older ones, those that are the
 * newest for some live snapshot; neighbours that are alike are one piece. The slices of *ret are
 * lent from `items`; the array is the caller's, freed with mem_free(). `items` are sound ranges
 * (low < high, number not 0: CHECKed), at least one. -ENOMEM.
 */
NODISCARD int tree_fragment(const struct tree_ranges_item *items, size_t count,
                            struct tree_fragment_live live, struct tree_ranges_item **ret,
                            size_t *ret_count);
