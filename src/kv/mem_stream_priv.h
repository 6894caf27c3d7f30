/*
 * kv/mem_stream_priv.h -- images as streams: the frames of an image's file, made one after the
 * other (mem_frames.c), for a pin (mem_pin.c) and to find out how far a receiver has come
 * (mem_receiver.c). Blocks; one thread at a time. A block is verified before anything of it is
 * sent.
 */
#pragma once

#include "kv/frame.h"
#include "kv/image_file.h"

enum kv_mem_place {
    KV_MEM_PLACE_HEADER = 0,
    KV_MEM_PLACE_BLOCK = 1,  /* item: its number; offset */
    KV_MEM_PLACE_FOOTER = 2, /* item: count of blocks */
};

struct kv_mem_frames {
    struct disk *disk;
    const char *path; /* lent */
    bool open;
    struct kv_image_file f;
    uint64_t block; /* that is open; UINT64_MAX: none yet */
    bool ended;     /* behind the last one */
    uint64_t stream;
};
void kv_mem_frames_init(struct kv_mem_frames *x, struct disk *d, const char *path);
void kv_mem_frames_fini(struct kv_mem_frames *x);
/* As kv_pin_read(). */
NODISCARD int kv_mem_frames_get(struct kv_mem_frames *x, const struct kv_cursor *from, uint8_t *out,
                                struct kv_frame *ret, size_t *ret_len, struct err *e);
/* Reads on until `count` blocks were read. */
NODISCARD int kv_mem_frames_skip(struct kv_mem_frames *x, uint64_t count, struct err *e);

uint64_t kv_mem_stream_name(const struct kv_image_info *info);
