/*
 * tree/block.h -- a sorted block: entries in key order, searched where they lie.
 *
 * Its bytes on disk, unpacked, are its form in memory: tree_block_open() checks every bound and the
 * order once, and from then on nothing is decoded but what is asked for. Used for basements of
 * leaves, runs of messages, pivots and indexes of segments. A view owns nothing: the bytes are the
 * caller's and outlive it; any number of threads may read one. No checksum of its own: it lies in a
 * packed partition that has one.
 */
#pragma once

#include "tree/tree_format.h"

enum tree_block_kind {
    TREE_BLOCK_LEAF = 1,    /* key -> value, keys ascend */
    TREE_BLOCK_MESSAGE = 2, /* keys ascend, messages of one key from the newest to the oldest */
    TREE_BLOCK_PIVOT = 3,   /* keys ascend, no values */
    TREE_BLOCK_INDEX = 4, /* in the order of messages, type 0: where the blocks of a segment are */
};
#define TREE_BLOCK_HEADER_BYTES 24u
#define TREE_BLOCK_ENTRY_BYTES 12u /* head and offsets of one entry */

struct tree_block_entry {
    struct kv_slice key, body;
    uint64_t msn; /* messages and indexes; else 0 */
    uint8_t type; /* messages; else 0 */
};

struct tree_block {
    const uint8_t *heads, *offsets, *prefix, *keys, *bodies;
    uint64_t base_msn;
    uint32_t count, keys_len, bodies_len;
    uint16_t prefix_len;
    uint8_t kind;
};

/* Checks all of it. Class ERR_corrupt. */
NODISCARD int tree_block_open(const uint8_t *bytes, size_t len, enum tree_block_kind kind,
                              struct tree_block *ret);
/* The view of bytes that tree_block_open() has accepted; costs nothing. */
struct tree_block tree_block_view(const uint8_t *bytes);

/* The first entry whose key is >= `key`; its newest message. `count` when there is none. */
uint32_t tree_block_lower(const struct tree_block *b, struct kv_slice key, bool *ret_equal);
/* The first entry whose key is > `key`. */
uint32_t tree_block_upper(const struct tree_block *b, struct kv_slice key);
/* Entry i < count; `ret->key` is what follows the prefix of the block. */
void tree_block_get(const struct tree_block *b, uint32_t i, struct tree_block_entry *ret);
/* The whole key of entry i; returns its length. */
size_t tree_block_key(const struct tree_block *b, uint32_t i, uint8_t out[TREE_KEY_MAX]);

/* Walks both ways. `entry` has whole keys, lent until the next step. */
struct tree_block_iter {
    struct tree_block block;
    struct tree_block_entry entry;
    uint32_t at; /* block.count: it stands nowhere */
    uint8_t key[TREE_KEY_MAX];
};
void tree_block_iter_init(struct tree_block_iter *it, const struct tree_block *b);
/* False: there is no such entry, and it stands nowhere. */
bool tree_block_iter_seek(struct tree_block_iter *it, uint32_t i);
static inline bool tree_block_iter_next(struct tree_block_iter *it)
{
    return tree_block_iter_seek(it, it->at < it->block.count ? it->at + 1 : it->at);
}
static inline bool tree_block_iter_prev(struct tree_block_iter *it)
{
    return tree_block_iter_seek(it, it->at == 0 ? it->block.count : it->at - 1);
}

/*
 * Makes a block. Bytes are copied, memory is kept from one block to the next. Bounded: no block is
 * larger than TREE_RAW_MAX.
 */
struct tree_block_slot {
    uint32_t key_end, body_end;
    uint64_t msn;
    uint8_t type;
};
struct tree_block_builder {
    enum tree_block_kind kind;
    uint32_t count;
    size_t prefix_len; /* that all keys share */
    uint64_t msn_min, msn_max;
    uint8_t *keys, *bodies; /* owned */
    size_t keys_len, keys_capacity, bodies_len, bodies_capacity;
    struct tree_block_slot *slot; /* owned */
    size_t slot_capacity;
};
void tree_block_builder_init(struct tree_block_builder *b, enum tree_block_kind kind);
void tree_block_builder_fini(struct tree_block_builder *b); /* all zero is fine */
void tree_block_builder_clear(struct tree_block_builder *b);
/*
 * Entries come in the order of the kind: CHECKed, as are the limits of keys, bodies and types.
 * -ENOMEM; -E2BIG: the block would become too large, nothing has changed.
 */
NODISCARD int tree_block_builder_add(struct tree_block_builder *b,
                                     const struct tree_block_entry *e);
/* How long the block is at most; exact but for the lengths of message numbers. */
size_t tree_block_builder_bytes(const struct tree_block_builder *b);
/* What it will be exactly: looks at every entry. */
size_t tree_block_builder_len(const struct tree_block_builder *b);
size_t tree_block_builder_bytes_with(const struct tree_block_builder *b,
                                     const struct tree_block_entry *e);
/* Writes the block of at least one entry, into room for tree_block_builder_bytes(); returns its
 * length. The builder keeps its entries until it is cleared. */
size_t tree_block_builder_finish(const struct tree_block_builder *b, uint8_t *out);
