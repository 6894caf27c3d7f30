/*
 * tree/filter.h -- a blocked Bloom filter over fingerprints of keys: says of an absent key mostly,
 * and of a present one never, that it is absent.
 *
 * All bits of a key lie in one block of 64 bytes, so a question costs one cache line; at 10 bits
 * per key about 1 % of absent keys pass. Serialised form and form in memory are the same; it begins
 * at a multiple of 64 where speed matters. Pure; a view owns nothing.
 */
#pragma once

#include "tree/tree_format.h"

#define TREE_FILTER_BLOCK_BYTES 64u
#define TREE_FILTER_HEADER_BYTES 64u
#define TREE_FILTER_BITS_MAX 32u /* per key */

/* Of which fingerprints: those of keys; or those of keys in runs of messages, so that each run of
 * a node is asked for by itself. */
enum tree_filter_kind { TREE_FILTER_NONE = 0, TREE_FILTER_BLOOM = 1, TREE_FILTER_RUNS = 2 };

struct tree_filter {
    const uint8_t *blocks;
    uint64_t keys; /* it was made for */
    uint32_t block_count;
    uint8_t probes, kind;
};

/* The fingerprint of a key in a run: in the block of the key's own, so that all runs that a node
 * has for a key are asked for at the price of one line. */
static inline uint64_t tree_filter_of_run(uint64_t fingerprint, uint8_t run)
{
    return fingerprint ^ (uint32_t)((run + 1u) * 0x85ebca77u);
}

/* Bits per key, at most `most`, with which filters of so many keys fit into so many bytes. Where
 * they would be less than the least that is worth a filter, that is the answer, and they do not. */
#define TREE_FILTER_BITS_LEAST 6u /* wrong for one absent key in 17 */
unsigned tree_filter_bits_fit(uint64_t room_bytes, uint64_t keys, unsigned most);
/* Bytes of a filter for so many keys (1 or more): within TREE_RAW_MAX, with fewer bits if need be.
 */
size_t tree_filter_bytes(uint64_t keys, unsigned bits_per_key);
/* Writes a filter of tree_filter_bytes(), of kind BLOOM; `fingerprint` has `keys` of them, repeated
 * ones are fine.
 */
size_t tree_filter_build(const uint64_t *fingerprint, uint64_t keys, unsigned bits_per_key,
                         uint64_t seed, uint8_t *out);

/* One that grows: an empty one made for so many keys, and what is added to it. `keys` counts those
 * that were new to it; there must be one before it is sealed. Bytes it was made with: of
 * tree_filter_bytes(). */
size_t tree_filter_begin(enum tree_filter_kind kind, uint64_t keys, unsigned bits_per_key,
                         uint8_t *out);
void tree_filter_add(uint8_t *bytes, const uint64_t *fingerprint, size_t count);
/* How many keys one of `len` bytes was made for, about. */
uint64_t tree_filter_capacity(size_t len, unsigned bits_per_key);

/* It goes to another place, or to disk for the first time: the checksum that belongs there. */
void tree_filter_seal(uint8_t *bytes, size_t len, uint64_t seed);

/* Checks all of it; what kind it is of is the caller's to look at. Class ERR_corrupt. */
NODISCARD int tree_filter_open(const uint8_t *bytes, size_t len, uint64_t seed,
                               struct tree_filter *ret);
/* The view of bytes that tree_filter_open() has accepted. */
struct tree_filter tree_filter_view(const uint8_t *bytes);
bool tree_filter_may_contain(const struct tree_filter *f, uint64_t fingerprint);
/* The line that will be asked, and that of the header, are fetched at the same time. */
void tree_filter_prefetch(const uint8_t *bytes, size_t len, uint64_t fingerprint);
