/*
 * kv/image.h -- an image: all records of one snapshot in key order, as the bytes of one file.
 * Layout: doc/format/image.md. Checkpoints of the memory engine and backups are images.
 *
 * Pure: bytes in, bytes out; reading and writing files is the caller's business. A file that is
 * damaged, torn, cut off, or a mixture of two is recognised: every byte is under a checksum that
 * begins with the image's id and the number of the block, and the footer counts all. Writers and
 * readers belong to one thread at a time; their memory is freed by _fini().
 *
 * Errors of reading: class ERR_corrupt, -ENOMEM. They never depend on anything but the bytes.
 */
#pragma once

#include "kv/kv.h"

#define KV_IMAGE_HEADER_BYTES 128u
#define KV_IMAGE_BLOCK_HEADER_BYTES 48u
#define KV_IMAGE_FOOTER_BYTES 64u
#define KV_IMAGE_RECORD_BYTES 6u        /* in front of each key and value */
#define KV_IMAGE_BLOCK_BYTES (1u << 20) /* of records in a block, but for one that is larger */
#define KV_IMAGE_BLOCK_MAX \
    (KV_IMAGE_BLOCK_BYTES + KV_IMAGE_RECORD_BYTES + KV_KEY_MAX + KV_VALUE_MAX)

enum kv_image_codec { KV_IMAGE_PLAIN = 0, KV_IMAGE_LZ4 = 1, KV_IMAGE_ZSTD = 2 };

struct kv_image_info {
    uint8_t id[16];    /* random, of this image */
    uint8_t owner[16]; /* whose state it is: the cluster's id */
    uint64_t index;    /* what a restart finds applied */
    uint64_t term;     /* the caller's */
    uint64_t records;  /* 0: not known before the end */
};

/* Header, then blocks, then the footer. */
struct kv_image_writer {
    struct kv_image_info info;
    enum kv_image_codec codec;
    size_t block_bytes;
    uint8_t *block, *packed; /* owned; a block header and its records */
    size_t len;              /* of the records in the block */
    uint32_t count;
    uint64_t blocks, records, bytes, file_bytes;
    uint32_t chain; /* of the blocks' checksums */
};
/* block_bytes 0: KV_IMAGE_BLOCK_BYTES, the most there may be. -ENOMEM. */
NODISCARD int kv_image_writer_init(struct kv_image_writer *w, const struct kv_image_info *info,
                                   enum kv_image_codec codec, size_t block_bytes);
void kv_image_writer_fini(struct kv_image_writer *w); /* all zero is fine */
void kv_image_header(struct kv_image_writer *w, uint8_t out[KV_IMAGE_HEADER_BYTES]);
/* Keys ascend. False: the block is full; take it and add again. */
NODISCARD bool kv_image_add(struct kv_image_writer *w, struct kv_slice key, struct kv_slice value);
static inline bool kv_image_has_block(const struct kv_image_writer *w)
{
    return w->count > 0;
}
/* The bytes of the block with what was added, lent until the next call. */
struct kv_slice kv_image_block(struct kv_image_writer *w);
void kv_image_footer(struct kv_image_writer *w, uint8_t out[KV_IMAGE_FOOTER_BYTES]);

struct kv_image_reader {
    struct kv_image_info info;
    uint64_t blocks, records, bytes;
    uint64_t offset; /* in the file, of what is expected next: where an error is */
    uint32_t chain;
    uint8_t *raw; /* owned: an unpacked block */
    const uint8_t *at;
    size_t left;
    uint32_t count; /* records left in the block */
    struct kv_slice last;
    uint8_t last_key[KV_KEY_MAX]; /* of the block before */
};
/* Takes the header. Nothing is owned after a failure. */
NODISCARD int kv_image_reader_init(struct kv_image_reader *r,
                                   const uint8_t header[KV_IMAGE_HEADER_BYTES]);
void kv_image_reader_fini(struct kv_image_reader *r);
/* How many bytes follow the header of the next block; bounded, not yet verified. */
NODISCARD int kv_image_block_size(const struct kv_image_reader *r,
                                  const uint8_t head[KV_IMAGE_BLOCK_HEADER_BYTES], size_t *ret);
/* Verifies and opens a whole block: header and bytes, lent until the next one. The one before was
 * read to its end. */
NODISCARD int kv_image_block_open(struct kv_image_reader *r, const uint8_t *block, size_t len);
/* 1 and the next record of the block, lent until the next block; 0: that was all of them. */
NODISCARD int kv_image_next(struct kv_image_reader *r, struct kv_slice *ret_key,
                            struct kv_slice *ret_value);
/* The footer ends the file, which is `file_bytes` long. */
NODISCARD int kv_image_end(const struct kv_image_reader *r,
                           const uint8_t footer[KV_IMAGE_FOOTER_BYTES], uint64_t file_bytes);
