#include "kv/mem_stream_priv.h"

#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

#include "base/mem.h"
#include "disk/disk.h"

#define NO_BLOCK UINT64_MAX

uint64_t kv_mem_stream_name(const struct kv_image_info *info)
{
    uint64_t name = XXH3_64bits_withSeed(info->id, sizeof info->id, info->index);
    return name == 0 ? 1 : name;
}

void kv_mem_frames_init(struct kv_mem_frames *x, struct disk *d, const char *path)
{
    *x = (struct kv_mem_frames){.disk = d, .path = path, .block = NO_BLOCK};
}

void kv_mem_frames_fini(struct kv_mem_frames *x)
{
    if (x->open) {
        kv_image_file_close(&x->f);
        x->open = false;
    }
    x->block = NO_BLOCK;
    x->ended = false;
}

static int frames_open(struct kv_mem_frames *x, struct err *e)
{
    kv_mem_frames_fini(x);
    int rc = kv_image_file_open(x->disk, x->path, &x->f, e);
    if (rc == 0) {
        x->open = true;
        x->stream = kv_mem_stream_name(&x->f.reader.info);
    }
    return rc;
}

/* The next block is open, and all its records are sound; or that was the last one. What fails is
 * begun from the start again. */
static int frames_next(struct kv_mem_frames *x, struct err *e)
{
    struct kv_slice key, value;
    int rc = kv_image_file_block(&x->f, e);
    if (rc == 1) {
        x->block++;
        do {
            rc = kv_image_next(&x->f.reader, &key, &value);
        } while (rc == 1);
        rc = rc < 0 ? err_set(e, rc, "image '%s', block %" PRIu64, x->path, x->block) : rc;
    } else if (rc == 0) {
        x->ended = true;
    }
    if (rc < 0) {
        kv_mem_frames_fini(x);
    }
    return rc;
}

/* Blocks that were read: those in front of what is expected next. */
static uint64_t frames_read(const struct kv_mem_frames *x)
{
    return x->block == NO_BLOCK ? 0 : x->block + 1;
}

int kv_mem_frames_skip(struct kv_mem_frames *x, uint64_t count, struct err *e)
{
    int rc = 0;
    if (!x->open || x->ended || frames_read(x) > count) {
        rc = frames_open(x, e);
    }
    while (rc == 0 && !x->ended && frames_read(x) < count) {
        rc = frames_next(x, e);
    }
    return rc < 0 || frames_read(x) == count ? rc : -ERR_bad_value;
}

/* Where what follows the open block is. */
static int frames_after(struct kv_mem_frames *x, struct kv_place *ret, struct err *e)
{
    int rc = frames_next(x, e);
    *ret = (struct kv_place){.kind = x->ended ? KV_MEM_PLACE_FOOTER : KV_MEM_PLACE_BLOCK,
                             .item = x->ended ? frames_read(x) : x->block};
    return rc;
}

static int frames_refuse(const struct kv_place *p, struct err *e)
{
    return err_set(e, -ERR_bad_value,
                   "no frame begins at kind %" PRIu32 ", item %" PRIu64 ", offset %" PRIu64,
                   p->kind, p->item, p->offset);
}

static int frame_header(struct kv_mem_frames *x, struct kv_frame *f, uint8_t *out, struct err *e)
{
    int rc = frames_open(x, e);
    struct disk_req read = {.op = DISK_READ, .buf = out, .len = KV_IMAGE_HEADER_BYTES};
    if (rc == 0) {
        read.file = x->f.file;
        int64_t got = disk_now(x->disk, &read);
        rc = got < 0 ? (int)got : got < (int64_t)read.len ? -ERR_short_msg : 0;
    }
    f->len = KV_IMAGE_HEADER_BYTES;
    return rc < 0 ? rc : frames_after(x, &f->next.place, e);
}

static int frame_block(struct kv_mem_frames *x, struct kv_frame *f, uint8_t *out, struct err *e)
{
    const struct kv_place *at = &f->at.place;
    int rc = at->item == NO_BLOCK ? -ERR_bad_value : kv_mem_frames_skip(x, at->item + 1, e);
    if (rc == -ERR_bad_value || (rc == 0 && (at->part != 0 || at->offset >= x->f.at ||
                                             at->offset % KV_FRAME_PAYLOAD_MAX != 0))) {
        return frames_refuse(at, e);
    }
    if (rc < 0) {
        return rc;
    }
    f->len = base_min(KV_FRAME_PAYLOAD_MAX, x->f.at - (size_t)at->offset);
    memcpy(out, x->f.bytes + at->offset, f->len);
    f->next.place = *at;
    f->next.place.offset += f->len;
    return f->next.place.offset < x->f.at ? 0 : frames_after(x, &f->next.place, e);
}

static int frame_footer(struct kv_mem_frames *x, struct kv_frame *f, uint8_t *out, struct err *e)
{
    const struct kv_place *at = &f->at.place;
    bool there = x->open && x->ended && frames_read(x) == at->item;
    int rc = there ? 0 : kv_mem_frames_skip(x, at->item, e);
    if (rc == 0 && !x->ended) {
        rc = frames_next(x, e);
    }
    if (rc < 0 && rc != -ERR_bad_value) {
        return rc;
    }
    if (rc < 0 || !x->ended || at->part != 0 || at->offset != 0) {
        return frames_refuse(at, e);
    }
    memcpy(out, x->f.bytes, KV_IMAGE_FOOTER_BYTES); /* it was verified there */
    f->len = KV_IMAGE_FOOTER_BYTES;
    f->last = true;
    return 0;
}

int kv_mem_frames_get(struct kv_mem_frames *x, const struct kv_cursor *from, uint8_t *out,
                      struct kv_frame *ret, size_t *ret_len, struct err *e)
{
    uint8_t *payload = out + KV_FRAME_HEADER_BYTES;
    struct kv_frame f = {.at = *from};
    int rc = x->open ? 0 : frames_open(x, e);
    if (rc < 0) {
        return rc;
    }
    if (from->stream != x->stream && (from->stream != 0 || from->number != 0)) {
        return err_set(e, -ESTALE,
                       "stream %016" PRIx64 " is of a checkpoint that is not here any more",
                       from->stream);
    }
    f.at.stream = x->stream;
    switch (from->place.kind) {
    case KV_MEM_PLACE_HEADER:
        rc = frame_header(x, &f, payload, e);
        break;
    case KV_MEM_PLACE_BLOCK:
        rc = frame_block(x, &f, payload, e);
        break;
    case KV_MEM_PLACE_FOOTER:
        rc = frame_footer(x, &f, payload, e);
        break;
    default:
        rc = frames_refuse(&from->place, e);
        break;
    }
    if (rc == 0) {
        *ret_len = kv_frame_seal(&f, out);
        *ret = f;
    }
    return rc;
}
