/*
 * tree/codec.c -- see codec.h. The contexts of zstd live in memory of ours: the library allocates
 * nothing by itself, so that a budget knows all there is.
 */
#include "tree/codec.h"

#define ZSTD_STATIC_LINKING_ONLY /* contexts in the caller's memory; exported by the library */
#include <lz4.h>
#include <string.h>
#include <zstd.h>

#include "base/mem.h"

#define CODEC_ALIGN 64u

static int codec_init_unpack(struct tree_codec *c)
{
    size_t size = ZSTD_estimateDCtxSize();
    c->zstd_unpack = mem_aligned(CODEC_ALIGN, base_align_up(size, CODEC_ALIGN));
    if (c->zstd_unpack == NULL) {
        return -ENOMEM;
    }
    c->unpacker = ZSTD_initStaticDCtx(c->zstd_unpack, size);
    CHECK(c->unpacker != NULL);
    return 0;
}

static int codec_init_pack(struct tree_codec *c)
{
    c->lz4 = mem_alloc((size_t)LZ4_sizeofState());
    if (c->lz4 == NULL) {
        return -ENOMEM;
    }
    if (c->options.lz4_only) {
        return 0;
    }
    size_t size = ZSTD_estimateCCtxSize(c->options.zstd_level);
    c->zstd_pack = mem_aligned(CODEC_ALIGN, base_align_up(size, CODEC_ALIGN));
    if (c->zstd_pack == NULL) {
        return -ENOMEM;
    }
    c->packer = ZSTD_initStaticCCtx(c->zstd_pack, size);
    CHECK(c->packer != NULL);
    return 0;
}

int tree_codec_init(struct tree_codec *c, const struct tree_codec_options *opt)
{
    *c = (struct tree_codec){0};
    int rc = codec_init_unpack(c);
    if (rc == 0 && opt != NULL) {
        c->options = *opt;
        c->options.lz4_acceleration = opt->lz4_acceleration == 0 ? 1 : opt->lz4_acceleration;
        c->options.zstd_level = opt->zstd_level == 0 ? 1 : opt->zstd_level;
        CHECK(c->options.zstd_level > 0 && c->options.zstd_level <= TREE_CODEC_ZSTD_LEVEL_MAX);
        CHECK(c->options.lz4_acceleration > 0);
        rc = codec_init_pack(c);
    }
    if (rc < 0) {
        tree_codec_fini(c);
    }
    return rc;
}

void tree_codec_fini(struct tree_codec *c)
{
    mem_free(c->lz4);
    mem_free(c->zstd_pack);
    mem_free(c->zstd_unpack);
    *c = (struct tree_codec){0};
}

size_t tree_codec_memory(const struct tree_codec *c)
{
    return (c->zstd_unpack == NULL ? 0 : ZSTD_estimateDCtxSize()) +
           (c->lz4 == NULL ? 0 : (size_t)LZ4_sizeofState()) +
           (c->zstd_pack == NULL ? 0 : ZSTD_estimateCCtxSize(c->options.zstd_level));
}

/* 0: it would not become smaller. */
static size_t codec_squeeze(struct tree_codec *c, enum tree_codec_id id, const uint8_t *raw,
                            size_t raw_len, uint8_t *out)
{
    if (id == TREE_CODEC_LZ4) {
        int len = LZ4_compress_fast_extState(c->lz4, (const char *)raw, (char *)out, (int)raw_len,
                                             (int)raw_len - 1, c->options.lz4_acceleration);
        return len > 0 ? (size_t)len : 0;
    }
    if (id == TREE_CODEC_ZSTD) {
        CHECK(c->packer != NULL);
        size_t len =
            ZSTD_compressCCtx(c->packer, out, raw_len - 1, raw, raw_len, c->options.zstd_level);
        return ZSTD_isError(len) ? 0 : len;
    }
    return 0;
}

size_t tree_codec_pack(struct tree_codec *c, enum tree_codec_id id, const uint8_t *raw,
                       size_t raw_len, uint8_t *out)
{
    CHECK(raw_len > 0 && raw_len <= TREE_RAW_MAX);
    CHECK(id == TREE_CODEC_NONE || c->lz4 != NULL);
    size_t len = codec_squeeze(c, id, raw, raw_len, out + 1);
    if (len == 0) {
        out[0] = TREE_CODEC_NONE;
        memcpy(out + 1, raw, raw_len);
        return raw_len + 1;
    }
    CHECK(len < raw_len);
    out[0] = (uint8_t)id;
    return len + 1;
}

static int codec_expand(struct tree_codec *c, const uint8_t *packed, size_t len, uint8_t *raw,
                        size_t raw_len)
{
    const uint8_t *from = packed + 1;
    if (packed[0] == TREE_CODEC_LZ4) {
        int got = LZ4_decompress_safe((const char *)from, (char *)raw, (int)len, (int)raw_len);
        return got >= 0 && (size_t)got == raw_len ? 0 : -ERR_bad_value;
    }
    if (packed[0] == TREE_CODEC_ZSTD) {
        size_t got = ZSTD_decompressDCtx(c->unpacker, raw, raw_len, from, len);
        return got == raw_len ? 0 : -ERR_bad_value;
    }
    return -ERR_bad_version;
}

int tree_codec_unpack(struct tree_codec *c, const uint8_t *packed, size_t packed_len, uint8_t *raw,
                      size_t raw_len)
{
    CHECK(raw_len <= TREE_RAW_MAX);
    if (packed_len < 2) {
        return -ERR_short_msg;
    }
    size_t len = packed_len - 1;
    if (packed[0] == TREE_CODEC_NONE) {
        if (len != raw_len) {
            return -ERR_bad_length;
        }
        memcpy(raw, packed + 1, raw_len);
        return 0;
    }
    return len < raw_len ? codec_expand(c, packed, len, raw, raw_len) : -ERR_bad_length;
}
