/*
 * tree/codec.h -- a packed partition: one byte that names the codec, then the bytes.
 *
 * A struct tree_codec holds the work memory of one thread, allocated once by _init: packing and
 * unpacking allocate nothing. Owner: the caller; one thread at a time. Errors of unpacking depend
 * on the bytes only: class ERR_corrupt.
 */
#pragma once

#include "tree/tree_format.h"

enum tree_codec_id { TREE_CODEC_NONE = 0, TREE_CODEC_LZ4 = 1, TREE_CODEC_ZSTD = 2 };

struct tree_codec_options {
    int lz4_acceleration; /* 1: best ratio; larger: faster; 0 means 1 */
    int zstd_level;       /* 1 .. TREE_CODEC_ZSTD_LEVEL_MAX; 0 means 1 */
    bool lz4_only;        /* packs with LZ4, in a tenth of the memory */
};
#define TREE_CODEC_ZSTD_LEVEL_MAX 9

struct tree_codec {
    struct tree_codec_options options;
    void *lz4, *zstd_pack, *zstd_unpack; /* owned work memory; the first two NULL: only unpacks */
    void *packer, *unpacker;             /* contexts of zstd, inside that memory */
};

/* `opt` NULL: it only unpacks, in a tenth of the memory. -ENOMEM. */
NODISCARD int tree_codec_init(struct tree_codec *c, const struct tree_codec_options *opt);
void tree_codec_fini(struct tree_codec *c);           /* all zero is fine */
size_t tree_codec_memory(const struct tree_codec *c); /* bytes it holds */

/* Room that packing `raw_len` bytes needs at most, and always gets by with. */
static inline size_t tree_codec_bound(size_t raw_len)
{
    return raw_len + 1;
}
/*
 * Packs 1 .. TREE_RAW_MAX bytes into `out` with room for tree_codec_bound() and returns the length;
 * what does not shrink is stored as it is. The same input gives the same bytes with one version of
 * the library.
 */
size_t tree_codec_pack(struct tree_codec *c, enum tree_codec_id id, const uint8_t *raw,
                       size_t raw_len, uint8_t *out);

/*
 * Unpacks to exactly `raw_len` bytes, which were checked to be at most TREE_RAW_MAX. On a failure
 * `raw` holds anything. -ERR_short_msg, -ERR_bad_version (unknown codec), -ERR_bad_length,
 * -ERR_bad_value.
 */
NODISCARD int tree_codec_unpack(struct tree_codec *c, const uint8_t *packed, size_t packed_len,
                                uint8_t *raw, size_t raw_len);
