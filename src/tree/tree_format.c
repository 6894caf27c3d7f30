/* tree/tree_format.c -- see tree_format.h. */
#include "tree/tree_format.h"

#include <xxhash.h>

#include "wire/wire.h"

uint64_t tree_seed(const uint8_t file_id[TREE_FILE_ID_BYTES], uint64_t block, uint64_t birth)
{
    uint8_t place[TREE_FILE_ID_BYTES + 16];
    memcpy(place, file_id, TREE_FILE_ID_BYTES);
    wire_store_u64(place + TREE_FILE_ID_BYTES, block);
    wire_store_u64(place + TREE_FILE_ID_BYTES + 8, birth);
    return XXH3_64bits(place, sizeof place);
}

uint64_t tree_sum(uint64_t seed, const void *bytes, size_t len)
{
    return XXH3_64bits_withSeed(bytes, len, seed);
}

uint64_t tree_fingerprint(struct kv_slice key)
{
    return XXH3_64bits(key.at, key.len);
}

bool tree_is_zero(const uint8_t *at, size_t len)
{
    uint8_t any = 0;
    for (size_t i = 0; i < len; i++) {
        any |= at[i];
    }
    return any == 0;
}
