/*
 * tree/filter.c -- see filter.h. After "Cache-, Hash- and Space-Efficient Bloom Filters" (Putze,
 * Sanders, Singler): the upper half of the fingerprint chooses a block, the lower half, multiplied
 * on by an odd number, the bits in it.
 *
 * Header: magic u32 | version u16 | kind u8 | probes u8 | blocks u32 | zero u32 | keys u64 | zeros
 * | checksum u64 at 56 over all but itself.
 */
#include "tree/filter.h"

#include "wire/wire.h"

#define FILTER_MAGIC 0x46425442u /* "BTBF" */
#define FILTER_VERSION 1u
#define FILTER_SUM_OFFSET 56u
#define FILTER_BLOCK_BITS (UINT64_C(8) * TREE_FILTER_BLOCK_BYTES)
#define FILTER_BLOCKS_MAX ((TREE_RAW_MAX - TREE_FILTER_HEADER_BYTES) / TREE_FILTER_BLOCK_BYTES)
#define FILTER_PROBES_MAX 12u
#define FILTER_STEP 0x9e3779b9u /* odd, bits well mixed: 2^32 / the golden ratio */

unsigned tree_filter_bits_fit(uint64_t room_bytes, uint64_t keys, unsigned most)
{
    uint64_t fit = base_min(room_bytes, UINT64_MAX / 8) * 8 / base_max(keys, 1);
    return (unsigned)base_min(base_max(fit, TREE_FILTER_BITS_LEAST), most);
}

static uint32_t filter_blocks(uint64_t keys, unsigned bits_per_key)
{
    CHECK(keys > 0 && bits_per_key > 0 && bits_per_key <= TREE_FILTER_BITS_MAX);
    uint64_t most = FILTER_BLOCKS_MAX * FILTER_BLOCK_BITS / bits_per_key;
    if (keys > most) {
        return FILTER_BLOCKS_MAX;
    }
    return (uint32_t)((keys * bits_per_key + FILTER_BLOCK_BITS - 1) / FILTER_BLOCK_BITS);
}

/* 0.69 times the bits per key; fewer where blocks fill unevenly. */
static uint8_t filter_probes(uint64_t keys, uint32_t blocks)
{
    uint64_t tenths = blocks * FILTER_BLOCK_BITS * 10 / keys; /* bits per key */
    uint64_t probes = (tenths * 62 / 100 + 5) / 10;
    return (uint8_t)(probes < 1 ? 1 : base_min(probes, FILTER_PROBES_MAX));
}

size_t tree_filter_bytes(uint64_t keys, unsigned bits_per_key)
{
    return TREE_FILTER_HEADER_BYTES +
           (size_t)filter_blocks(keys, bits_per_key) * TREE_FILTER_BLOCK_BYTES;
}

static size_t filter_block(uint64_t fingerprint, uint32_t blocks)
{
    return (size_t)((fingerprint >> 32) * blocks >> 32) * TREE_FILTER_BLOCK_BYTES;
}

static uint64_t filter_sum(uint64_t seed, const uint8_t *bytes, size_t len)
{
    uint64_t head = tree_sum(seed, bytes, FILTER_SUM_OFFSET);
    return tree_sum(head, bytes + TREE_FILTER_HEADER_BYTES, len - TREE_FILTER_HEADER_BYTES);
}

/* True: a bit of it was not set before. */
static bool filter_set(uint8_t *out, uint32_t blocks, uint8_t probes, uint64_t fingerprint)
{
    uint8_t *block = out + TREE_FILTER_HEADER_BYTES + filter_block(fingerprint, blocks);
    uint32_t hash = (uint32_t)fingerprint;
    uint32_t missing = 0;
    for (unsigned p = 0; p < probes; p++) {
        uint32_t bit = hash >> 23; /* 9 bits: one of 512 */
        uint8_t mask = (uint8_t)(1u << bit % 8);
        missing |= ~block[bit / 8] & mask;
        block[bit / 8] |= mask;
        hash *= FILTER_STEP;
    }
    return missing != 0;
}

size_t tree_filter_begin(enum tree_filter_kind kind, uint64_t keys, unsigned bits_per_key,
                         uint8_t *out)
{
    CHECK(kind == TREE_FILTER_BLOOM || kind == TREE_FILTER_RUNS);
    uint32_t blocks = filter_blocks(keys, bits_per_key);
    size_t len = tree_filter_bytes(keys, bits_per_key);
    memset(out, 0, len);
    wire_store_u32(out, FILTER_MAGIC);
    wire_store_u16(out + 4, FILTER_VERSION);
    out[6] = (uint8_t)kind;
    out[7] = filter_probes(keys, blocks);
    wire_store_u32(out + 8, blocks);
    return len;
}

void tree_filter_add(uint8_t *bytes, const uint64_t *fingerprint, size_t count)
{
    uint32_t blocks = wire_load_u32(bytes + 8);
    uint8_t probes = bytes[7];
    uint64_t keys = wire_load_u64(bytes + 16);
    for (size_t i = 0; i < count; i++) {
        keys += filter_set(bytes, blocks, probes, fingerprint[i]) ? 1 : 0;
    }
    wire_store_u64(bytes + 16, keys);
}

uint64_t tree_filter_capacity(size_t len, unsigned bits_per_key)
{
    CHECK(bits_per_key > 0 && len >= TREE_FILTER_HEADER_BYTES);
    return (len - TREE_FILTER_HEADER_BYTES) * 8 / bits_per_key;
}

size_t tree_filter_build(const uint64_t *fingerprint, uint64_t keys, unsigned bits_per_key,
                         uint64_t seed, uint8_t *out)
{
    size_t len = tree_filter_begin(TREE_FILTER_BLOOM, keys, bits_per_key, out);
    uint32_t blocks = wire_load_u32(out + 8);
    for (uint64_t i = 0; i < keys; i++) {
        (void)filter_set(out, blocks, out[7], fingerprint[i]);
    }
    wire_store_u64(out + 16, keys);
    tree_filter_seal(out, len, seed);
    return len;
}

void tree_filter_seal(uint8_t *bytes, size_t len, uint64_t seed)
{
    CHECK(len >= TREE_FILTER_HEADER_BYTES);
    wire_store_u64(bytes + FILTER_SUM_OFFSET, filter_sum(seed, bytes, len));
}

struct tree_filter tree_filter_view(const uint8_t *bytes)
{
    return (struct tree_filter){.blocks = bytes + TREE_FILTER_HEADER_BYTES,
                                .keys = wire_load_u64(bytes + 16),
                                .block_count = wire_load_u32(bytes + 8),
                                .probes = bytes[7],
                                .kind = bytes[6]};
}

int tree_filter_open(const uint8_t *bytes, size_t len, uint64_t seed, struct tree_filter *ret)
{
    if (len < TREE_FILTER_HEADER_BYTES) {
        return -ERR_short_msg;
    }
    if (wire_load_u32(bytes) != FILTER_MAGIC) {
        return -ERR_bad_magic;
    }
    if (len > TREE_RAW_MAX) {
        return -ERR_bad_length;
    }
    if (wire_load_u64(bytes + FILTER_SUM_OFFSET) != filter_sum(seed, bytes, len)) {
        return -ERR_bad_crc;
    }
    bool known = bytes[6] == TREE_FILTER_BLOOM || bytes[6] == TREE_FILTER_RUNS;
    if (wire_load_u16(bytes + 4) != FILTER_VERSION || !known) {
        return -ERR_bad_version;
    }
    uint64_t blocks = wire_load_u32(bytes + 8);
    if (len != TREE_FILTER_HEADER_BYTES + blocks * TREE_FILTER_BLOCK_BYTES || blocks == 0) {
        return -ERR_bad_length;
    }
    bool zero = wire_load_u32(bytes + 12) == 0 && tree_is_zero(bytes + 24, FILTER_SUM_OFFSET - 24);
    if (bytes[7] == 0 || bytes[7] > FILTER_PROBES_MAX || wire_load_u64(bytes + 16) == 0 || !zero) {
        return -ERR_bad_value;
    }
    *ret = tree_filter_view(bytes);
    return 0;
}

void tree_filter_prefetch(const uint8_t *bytes, size_t len, uint64_t fingerprint)
{
    size_t blocks = (len - TREE_FILTER_HEADER_BYTES) / TREE_FILTER_BLOCK_BYTES;
    __builtin_prefetch(bytes);
    __builtin_prefetch(bytes + TREE_FILTER_HEADER_BYTES +
                       filter_block(fingerprint, (uint32_t)blocks));
}

bool tree_filter_may_contain(const struct tree_filter *f, uint64_t fingerprint)
{
    const uint8_t *block = f->blocks + filter_block(fingerprint, f->block_count);
    uint32_t hash = (uint32_t)fingerprint;
    uint32_t missing = 0; /* without a branch: most questions need several bits */
    for (unsigned p = 0; p < f->probes; p++) {
        uint32_t bit = hash >> 23;
        missing |= ~((uint32_t)block[bit / 8] >> bit % 8) & 1;
        hash *= FILTER_STEP;
    }
    return missing == 0;
}
