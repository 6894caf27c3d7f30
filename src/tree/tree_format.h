/*
 * tree/tree_format.h -- what all structures of a tree file share: limits, places, checksums. The
 * layout is in doc/format/tree.md. Pure, any thread. Numbers are little-endian.
 *
 * A checksum is XXH3-64 with a seed made of the file's id, the number of the block and the
 * checkpoint at which the bytes were written (their birth): bytes of another file, another place or
 * another time fit nowhere, however sound they are.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "kv/batch.h"

#define TREE_FILE_ID_BYTES 16u
#define TREE_UNIT 4096u            /* of input, output and space */
#define TREE_NODE_MAX (16u << 20)  /* one extent of a node */
#define TREE_PARTITIONS_MAX 4096u  /* of one node */
#define TREE_EXTENTS_MAX 255u      /* older extents that a node still uses */
#define TREE_RAW_MAX (4u << 20)    /* one partition, unpacked */
#define TREE_KEY_MAX KV_KEY_MAX    /* bytes of a key */
#define TREE_BODY_MAX KV_VALUE_MAX /* of a value, and of the body of a message */
#define TREE_MESSAGE_TYPE_MAX 6u   /* 1 to 4 and 6 are in use, 5 is kept */

/* Numbers of blocks are below; above are places that are no nodes. */
#define TREE_BLOCK_LIMIT (UINT64_C(1) << 48)
#define TREE_PLACE_SEGMENT (UINT64_C(1) << 63) /* + the number of a memtable segment */

uint64_t tree_seed(const uint8_t file_id[TREE_FILE_ID_BYTES], uint64_t block, uint64_t birth);
uint64_t tree_sum(uint64_t seed, const void *bytes, size_t len);

/* What filters know of a key; the same in every file. */
uint64_t tree_fingerprint(struct kv_slice key);

static inline bool tree_message_type_valid(uint8_t type)
{
    return type >= 1 && type <= TREE_MESSAGE_TYPE_MAX && type != 5;
}

/* Fields and padding that are kept for later are zero. */
bool tree_is_zero(const uint8_t *at, size_t len);
