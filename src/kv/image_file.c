#include "kv/image_file.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "disk/disk.h"

#define IMAGE_AHEAD KV_IMAGE_FOOTER_BYTES /* the larger of what may follow a block */
_Static_assert(IMAGE_AHEAD >= KV_IMAGE_BLOCK_HEADER_BYTES, "either fits");

static int image_fail(const struct kv_image_file *f, int rc, uint64_t offset, struct err *e)
{
    return rc == -ENOMEM ? rc : err_set(e, rc, "image '%s' at %" PRIu64, f->path, offset);
}

/* `len` bytes, or as many as the file has. */
static int64_t image_read(struct kv_image_file *f, uint64_t offset, void *out, size_t len)
{
    struct disk_req read = {
        .op = DISK_READ, .file = f->file, .offset = offset, .buf = out, .len = len};
    return disk_now(f->disk, &read);
}

/* Reads the header of the first block, or the footer. */
static int image_ahead(struct kv_image_file *f, struct err *e)
{
    int64_t rc = image_read(f, f->reader.offset, f->bytes, IMAGE_AHEAD);
    f->ahead = rc < 0 ? 0 : (size_t)rc;
    return rc < 0 ? image_fail(f, (int)rc, f->reader.offset, e) : 0;
}

static int image_begin(struct kv_image_file *f, struct err *e)
{
    uint8_t header[KV_IMAGE_HEADER_BYTES];
    struct disk_req open = {.op = DISK_OPEN, .path = f->path};
    int64_t rc = disk_now(f->disk, &open);
    if (rc < 0) {
        return err_set(e, (int)rc, "open image '%s'", f->path);
    }
    f->file = open.file;
    struct disk_req stat = {.op = DISK_STAT, .file = f->file};
    rc = disk_now(f->disk, &stat);
    f->size_bytes = stat.stat.size_bytes;
    rc = rc < 0 ? rc : image_read(f, 0, header, sizeof header);
    if (rc >= 0) {
        rc = rc == sizeof header ? kv_image_reader_init(&f->reader, header) : -ERR_short_msg;
    }
    return rc < 0 ? image_fail(f, (int)rc, 0, e) : image_ahead(f, e);
}

int kv_image_file_open(struct disk *d, const char *path, struct kv_image_file *ret, struct err *e)
{
    *ret = (struct kv_image_file){.disk = d, .path = path};
    ret->bytes = mem_alloc(KV_IMAGE_BLOCK_HEADER_BYTES + KV_IMAGE_BLOCK_MAX + IMAGE_AHEAD);
    int rc = ret->bytes == NULL ? -ENOMEM : image_begin(ret, e);
    if (rc < 0) {
        kv_image_file_close(ret);
    }
    return rc;
}

void kv_image_file_close(struct kv_image_file *f)
{
    kv_image_reader_fini(&f->reader);
    mem_free(f->bytes);
    f->bytes = NULL;
    if (f->file != NULL) {
        struct disk_req close = {.op = DISK_CLOSE, .file = f->file};
        (void)disk_now(f->disk, &close); /* nothing was written */
        f->file = NULL;
    }
}

/* What follows is no block. */
static int image_last(struct kv_image_file *f, int block_rc, struct err *e)
{
    bool end = f->ahead == KV_IMAGE_FOOTER_BYTES &&
               f->reader.offset + KV_IMAGE_FOOTER_BYTES == f->size_bytes;
    int rc = f->ahead < KV_IMAGE_FOOTER_BYTES ? -ERR_short_msg
             : end                            ? kv_image_end(&f->reader, f->bytes, f->size_bytes)
                                              : block_rc;
    return rc < 0 ? image_fail(f, rc, f->reader.offset, e) : 0;
}

int kv_image_file_block(struct kv_image_file *f, struct err *e)
{
    size_t stored = 0;
    memmove(f->bytes, f->bytes + f->at, f->ahead);
    f->at = 0;
    if (f->ahead < KV_IMAGE_FOOTER_BYTES) { /* the least that may follow */
        return image_last(f, -ERR_short_msg, e);
    }
    int rc = kv_image_block_size(&f->reader, f->bytes, &stored);
    if (rc < 0) {
        return image_last(f, rc, e);
    }
    uint64_t offset = f->reader.offset;
    size_t len = KV_IMAGE_BLOCK_HEADER_BYTES + stored, have = base_min(f->ahead, len);
    int64_t got = image_read(f, offset + have, f->bytes + have, len + IMAGE_AHEAD - have);
    if (got < 0) {
        return image_fail(f, (int)got, offset, e);
    }
    if (have + (size_t)got < len) {
        return image_fail(f, -ERR_short_msg, offset, e);
    }
    f->at = len;
    f->ahead = have + (size_t)got - len;
    rc = kv_image_block_open(&f->reader, f->bytes, len);
    return rc < 0 ? image_fail(f, rc, offset, e) : 1;
}

int kv_image_file_next(struct kv_image_file *f, struct kv_slice *ret_key,
                       struct kv_slice *ret_value, struct err *e)
{
    int rc = kv_image_next(&f->reader, ret_key, ret_value);
    while (rc == 0) {
        rc = kv_image_file_block(f, e);
        if (rc <= 0) {
            return rc;
        }
        rc = kv_image_next(&f->reader, ret_key, ret_value);
    }
    return rc < 0 ? image_fail(f, rc, f->reader.offset, e) : rc;
}

int kv_image_file_verify(struct disk *d, const char *path, struct kv_image_info *ret, struct err *e)
{
    struct kv_image_file f;
    struct kv_slice key, value;
    int rc = kv_image_file_open(d, path, &f, e);
    if (rc < 0) {
        return rc;
    }
    do {
        rc = kv_image_file_next(&f, &key, &value, e);
    } while (rc == 1);
    *ret = f.reader.info;
    ret->records = f.reader.records;
    kv_image_file_close(&f);
    return rc;
}
