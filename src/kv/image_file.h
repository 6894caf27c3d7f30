/*
 * kv/image_file.h -- reads the file of an image from beginning to end, one block at a time. Blocks:
 * for start-up and tools. The error says file and offset.
 */
#pragma once

#include "kv/image.h"

struct disk;
struct disk_file;

struct kv_image_file {
    struct disk *disk;
    const char *path; /* lent */
    struct disk_file *file;
    struct kv_image_reader reader;
    uint64_t size_bytes;
    uint8_t *bytes;   /* owned: a block and what follows it: header of the next, or the footer */
    size_t at, ahead; /* of what follows, in `bytes` */
};
NODISCARD int kv_image_file_open(struct disk *d, const char *path, struct kv_image_file *ret,
                                 struct err *e);
void kv_image_file_close(struct kv_image_file *f); /* all zero is fine */
/* 1: the reader has the next block open; 0: that was the last, and the footer agrees. */
NODISCARD int kv_image_file_block(struct kv_image_file *f, struct err *e);
/* As kv_image_next(), across blocks; slices are lent until the next call. */
NODISCARD int kv_image_file_next(struct kv_image_file *f, struct kv_slice *ret_key,
                                 struct kv_slice *ret_value, struct err *e);
/* Reads all of it, keeps nothing. */
NODISCARD int kv_image_file_verify(struct disk *d, const char *path, struct kv_image_info *ret,
                                   struct err *e);
