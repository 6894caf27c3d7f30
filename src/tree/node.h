/*
 * tree/node.h -- the header of a node: who it is, and where its parts are. Its pivots: pivots.h.
 *
 * A node lies in an extent of its own: header, pivots, filter, partitions, zeros up to a multiple
 * of TREE_UNIT. A later header may go on using partitions of older extents of the node, so that a
 * run or one basement is written alone. The expected checksum of a header comes from the
 * translation table; without it, a header found by scanning says itself who it is
 * (tree_node_probe).
 *
 * Pure; a header and its arrays belong to one thread while they are changed. Errors of reading:
 * class ERR_corrupt, -ENOMEM.
 */
#pragma once

#include "tree/codec.h"
#include "tree/tree_format.h"

#define TREE_NODE_FIXED_BYTES 152u
#define TREE_NODE_PARTITION_BYTES 32u
#define TREE_NODE_EXTENT_BYTES 24u
#define TREE_NODE_HEADER_MAX                                                   \
    (TREE_NODE_FIXED_BYTES + TREE_PARTITIONS_MAX * TREE_NODE_PARTITION_BYTES + \
     TREE_EXTENTS_MAX * TREE_NODE_EXTENT_BYTES + 8u)

enum tree_partition_kind {
    TREE_PARTITION_LEAF = 1,   /* a basement: a block of a leaf; one per slot */
    TREE_PARTITION_RUN = 2,    /* a block of messages for one child */
    TREE_PARTITION_RANGES = 3, /* deleted ranges */
    TREE_PARTITION_FILTER = 4,
};
#define TREE_PARTITION_MORE 1u /* flag: goes on where the one before ends; a cut divides them */
#define TREE_SLOT_ALL 0xffffu  /* ranges and filters: of the whole node */

/* In the order of kind, slot, run: strictly, but for those that go on. */
struct tree_partition {
    uint8_t kind, run; /* of one slot, greater runs are newer */
    uint8_t flags;
    uint8_t extent; /* 0: the header's own; n: extent[n - 1] */
    uint16_t slot;  /* basement or child */
    uint16_t cut;   /* TREE_PARTITION_MORE: which cut is in front of it; set when decoded */
    uint32_t offset, packed_len, raw_len, entries;
    uint64_t sum; /* of the packed bytes: tree_node_sum() at the extent's birth */
};

/* An older extent. */
struct tree_extent {
    uint64_t offset; /* in the file */
    uint64_t birth;
    uint32_t len;
};

struct tree_node_header {
    uint8_t file_id[TREE_FILE_ID_BYTES];
    uint64_t block, birth, version;
    uint64_t msn_min, msn_max;
    uint64_t raw_bytes, entries;    /* of basements, runs and (bytes only) ranges; set by layout */
    uint64_t low_print, high_print; /* fingerprints of the fences */
    uint32_t header_len, total_len; /* set by layout */
    struct {
        uint32_t offset /* set by layout */, packed_len, raw_len;
        uint64_t sum;
    } pivots;
    struct {
        uint32_t offset /* set by layout */, len;
        uint8_t kind; /* enum tree_filter_kind */
    } filter;         /* over all runs; its checksum has the seed of the header */
    uint16_t slots, partition_count;
    uint8_t level; /* 0: a leaf */
    uint8_t codec; /* to pack with by default */
    uint8_t extent_count;
    struct tree_partition *partition; /* owned after decoding, else the caller's, as is: */
    struct tree_extent *extent;
};

/* Sets what is said above and where the parts of the own extent are: in the order of the table.
 * -E2BIG: it would be larger than TREE_NODE_MAX, or the header than TREE_NODE_HEADER_MAX. */
NODISCARD int tree_node_layout(struct tree_node_header *n);
/* Where the parts end and the zeros begin. */
uint32_t tree_node_used(const struct tree_node_header *n);
/* Writes header_len bytes; CHECKs what a decoder would refuse. Returns the checksum. */
uint64_t tree_node_encode(const struct tree_node_header *n, uint8_t *out);

/* What the translation table knows. */
struct tree_node_expect {
    const uint8_t *file_id;
    uint64_t block, birth, sum;
};
/*
 * `bytes` begin with the header and may go on. -ERR_short_msg when they end inside it. Allocates
 * the arrays, bounded by TREE_NODE_HEADER_MAX, once the checksum is right.
 */
NODISCARD int tree_node_decode(const uint8_t *bytes, size_t len, const struct tree_node_expect *x,
                               struct tree_node_header *ret);
void tree_node_fini(struct tree_node_header *n); /* of a decoded one; all zero is fine */

/* Who a header is that was found by scanning. */
struct tree_node_probe {
    uint8_t file_id[TREE_FILE_ID_BYTES];
    uint64_t block, birth, version, sum;
    uint32_t header_len, total_len;
    uint8_t level;
};
/* 0: a whole header with a good checksum. -ERR_short_msg: it may be one, of ret->header_len bytes;
 * else class ERR_corrupt. */
NODISCARD int tree_node_probe(const uint8_t *bytes, size_t len, struct tree_node_probe *ret);

/* The checksum of packed bytes that are written into an extent born at `birth`. */
uint64_t tree_node_sum(const struct tree_node_header *n, uint64_t birth, const uint8_t *packed,
                       size_t len);
/* The seed of what lies in an extent, 0 being the header's own: of filters, which have a checksum
 * inside as well. */
uint64_t tree_node_seed(const struct tree_node_header *n, uint8_t extent);

/* Checks packed_len bytes of partition i and unpacks them to raw_len bytes. What they hold is then
 * opened as what they are (block.h, ranges.h, filter.h). */
NODISCARD int tree_node_unpack(const struct tree_node_header *n, uint32_t i, const uint8_t *packed,
                               struct tree_codec *c, uint8_t *raw);
/* The same of the pivots. */
NODISCARD int tree_node_unpack_pivots(const struct tree_node_header *n, const uint8_t *packed,
                                      struct tree_codec *c, uint8_t *raw);

/* The first partition that is not before (kind, slot, run); partition_count when there is none. */
uint32_t tree_node_find(const struct tree_node_header *n, enum tree_partition_kind kind,
                        uint16_t slot, uint8_t run);
