#include "kv/mem_receiver.h"

#include <inttypes.h>
#include <string.h>

#include "base/env.h"
#include "base/mem.h"
#include "disk/disk.h"
#include "kv/mem_stream_priv.h"
#include "loop/executor.h"
#include "loop/loop.h"

struct kv_mem_receiver {
    struct kv_receiver base;
    const struct env *env;
    char *directory, *partial;
    uint8_t owner[16];
    struct loop_executor *executor;
    struct kv_receive *put;
    struct loop_executor_job job;
    int rc;
    /* the executor's while it runs */
    struct disk_file *file;
    bool failed; /* a sync has */
    bool begun;  /* the reader has the header; it stands behind the last block */
    struct kv_image_reader reader;
    uint8_t *block;   /* that comes in: KV_IMAGE_BLOCK_HEADER_BYTES + KV_IMAGE_BLOCK_MAX */
    size_t block_len; /* of all of it, once its beginning is there */
    struct kv_cursor next;
};

static struct kv_mem_receiver *receiver_of(struct kv_receiver *x)
{
    return container_of(x, struct kv_mem_receiver, base);
}

static int receiver_now(struct kv_mem_receiver *x, struct disk_req *req)
{
    int64_t rc = disk_now(x->env->disk, req);
    return rc < 0 ? (int)rc : 0;
}

static int receiver_write(struct kv_mem_receiver *x, uint64_t offset, const void *bytes, size_t len)
{
    struct disk_req req = {.op = DISK_WRITE, .file = x->file, .offset = offset, .len = len};
    memcpy(&req.buf, &bytes, sizeof bytes); /* it is only read */
    int64_t put = disk_now(x->env->disk, &req);
    return put < 0 ? (int)put : (uint64_t)put < len ? -EIO : 0;
}

/* ---- frames ---- */

static int take_header(struct kv_mem_receiver *x, const struct kv_frame *f, struct err *e)
{
    if (f->len != KV_IMAGE_HEADER_BYTES) {
        return err_set(e, -ERR_bad_length, "header of an image");
    }
    if (x->begun) {
        kv_image_reader_fini(&x->reader);
        x->begun = false;
    }
    int rc = kv_image_reader_init(&x->reader, f->payload);
    if (rc < 0) {
        return rc == -ENOMEM ? rc : err_set(e, rc, "header of an image");
    }
    x->begun = true;
    const struct kv_image_info *info = &x->reader.info;
    if (memcmp(info->owner, x->owner, sizeof x->owner) != 0) {
        return err_set(e, -ERR_wrong_cluster, "image of index %" PRIu64, info->index);
    }
    if (f->at.stream != kv_mem_stream_name(info)) {
        return err_set(e, -ERR_bad_value, "the stream has the name of another checkpoint");
    }
    struct disk_req cut = {.op = DISK_TRUNCATE, .file = x->file};
    rc = receiver_now(x, &cut);
    return rc < 0 ? rc : receiver_write(x, 0, f->payload, f->len);
}

/* All of it is there: verified, record by record, then written. A reader cannot go back: after a
 * failure of the disk it is put back as it was. */
static int block_whole(struct kv_mem_receiver *x, uint64_t number, struct err *e)
{
    struct kv_image_reader *r = &x->reader;
    struct kv_slice key, value;
    uint64_t offset = r->offset;
    int rc = receiver_write(x, offset, x->block, x->block_len);
    if (rc < 0) {
        return rc;
    }
    rc = kv_image_block_open(r, x->block, x->block_len);
    while (rc >= 0) {
        rc = kv_image_next(r, &key, &value);
        if (rc == 0) {
            return 0;
        }
    }
    return rc == -ENOMEM ? rc : err_set(e, rc, "block %" PRIu64 " at %" PRIu64, number, offset);
}

static int take_block(struct kv_mem_receiver *x, const struct kv_frame *f, struct err *e)
{
    const struct kv_place *at = &f->at.place, *next = &f->next.place;
    size_t stored = 0;
    if (at->item != x->reader.blocks || at->part != 0) {
        return err_set(e, -ERR_bad_value, "block %" PRIu64 " is not the next one", at->item);
    }
    if (at->offset == 0) {
        int rc = f->len < KV_IMAGE_BLOCK_HEADER_BYTES
                     ? -ERR_short_msg
                     : kv_image_block_size(&x->reader, f->payload, &stored);
        if (rc < 0) {
            return err_set(e, rc, "block %" PRIu64, at->item);
        }
        x->block_len = KV_IMAGE_BLOCK_HEADER_BYTES + stored;
    }
    if (f->len == 0 || at->offset > x->block_len || f->len > x->block_len - at->offset) {
        return err_set(e, -ERR_bad_length, "block %" PRIu64, at->item);
    }
    memcpy(x->block + at->offset, f->payload, f->len);
    bool whole = at->offset + f->len == x->block_len;
    bool more = next->kind == KV_MEM_PLACE_BLOCK && next->part == 0;
    bool order = whole ? (more && next->item == at->item + 1 && next->offset == 0) ||
                             next->kind == KV_MEM_PLACE_FOOTER
                       : more && next->item == at->item && next->offset == at->offset + f->len;
    if (!order) {
        return err_set(e, -ERR_bad_value, "what follows block %" PRIu64, at->item);
    }
    return whole ? block_whole(x, at->item, e) : 0;
}

static int receiver_sync(struct kv_mem_receiver *x)
{
    struct disk_req sync = {.op = DISK_SYNC_ALL, .file = x->file};
    int rc = receiver_now(x, &sync);
    x->failed = x->failed || rc < 0; /* nobody knows what is there now */
    return rc;
}

static int receiver_name(struct kv_mem_receiver *x)
{
    CLEANUP(mem_freep)
    char *path = mem_printf("%s/%016" PRIx64 ".image", x->directory, x->reader.info.index);
    struct disk_req rename = {.op = DISK_RENAME, .path = x->partial, .path_to = path};
    struct disk_req sync = {.op = DISK_SYNC_DIR, .path = x->directory};
    struct disk_req close = {.op = DISK_CLOSE, .file = x->file};
    int rc = path == NULL ? -ENOMEM : receiver_now(x, &rename);
    if (rc < 0) {
        return rc;
    }
    rc = receiver_now(x, &sync);
    x->failed = true; /* there is nothing more to be put */
    x->file = NULL;
    (void)receiver_now(x, &close); /* it was synced */
    return rc;
}

static int take_footer(struct kv_mem_receiver *x, const struct kv_frame *f, struct err *e)
{
    struct kv_image_info info;
    uint64_t offset = x->reader.offset;
    if (f->len != KV_IMAGE_FOOTER_BYTES || f->at.place.item != x->reader.blocks) {
        return err_set(e, -ERR_bad_length, "footer of an image");
    }
    int rc = kv_image_end(&x->reader, f->payload, offset + f->len);
    if (rc < 0) {
        return err_set(e, rc, "footer of an image");
    }
    struct disk_req cut = {.op = DISK_TRUNCATE, .file = x->file, .len = offset + f->len};
    rc = receiver_now(x, &cut);
    rc = rc < 0 ? rc : receiver_write(x, offset, f->payload, f->len);
    rc = rc < 0 ? rc : receiver_sync(x);
    rc = rc < 0 ? rc : kv_image_file_verify(x->env->disk, x->partial, &info, e);
    return rc < 0 ? rc : receiver_name(x);
}

static int receiver_take(struct kv_mem_receiver *x, struct kv_receive *r)
{
    struct kv_frame f;
    if (x->failed) {
        return err_set(&r->err, -ERR_failed_before, "'%s'", x->partial);
    }
    int rc = kv_frame_open(&x->next, r->bytes, r->len, &f, &r->err);
    if (rc < 0) {
        return rc;
    }
    uint32_t kind = f.at.place.kind;
    if (f.last != (kind == KV_MEM_PLACE_FOOTER) || kind > KV_MEM_PLACE_FOOTER) {
        return err_set(&r->err, -ERR_bad_value, "end of the stream");
    }
    rc = kind == KV_MEM_PLACE_HEADER  ? take_header(x, &f, &r->err)
         : kind == KV_MEM_PLACE_BLOCK ? take_block(x, &f, &r->err)
                                      : take_footer(x, &f, &r->err);
    if (rc == 0) {
        x->next = f.next;
        r->whole = f.last;
    }
    return rc;
}

/* ---- one after the other ---- */

static void receiver_over(struct kv_mem_receiver *x)
{
    struct kv_receive *r = x->put;
    int rc = x->rc;
    x->put = NULL;
    x->base.putting = false;
    x->base.next = x->next;
    x->base.stored_bytes = x->begun ? x->reader.offset : 0;
    r->done(r, rc);
}

static void receiver_work(struct loop_executor_job *job)
{
    struct kv_mem_receiver *x = container_of(job, struct kv_mem_receiver, job);
    x->rc = receiver_take(x, x->put);
}

static void receiver_worked(struct loop_executor_job *job)
{
    struct kv_mem_receiver *x = container_of(job, struct kv_mem_receiver, job);
    x->rc = loop_executor_result(job, x->rc);
    receiver_over(x);
}

static void receiver_put(struct kv_receiver *base, struct kv_receive *r)
{
    struct kv_mem_receiver *x = receiver_of(base);
    x->put = r;
    x->job = (struct loop_executor_job){.work = receiver_work, .done = receiver_worked};
    loop_executor_start(x->executor, x->env->loop, &x->job);
}

static void receiver_free(struct kv_receiver *base)
{
    struct kv_mem_receiver *x = receiver_of(base);
    loop_executor_free(x->executor);
    if (x->file != NULL) {
        struct disk_req close = {.op = DISK_CLOSE, .file = x->file};
        (void)receiver_now(x, &close);
    }
    if (x->begun) {
        kv_image_reader_fini(&x->reader);
    }
    mem_free(x->block);
    mem_free(x->directory);
    mem_free(x->partial);
    mem_free(x);
}

static const struct kv_receiver_ops kv_mem_receiver_ops = {.put = receiver_put,
                                                           .free = receiver_free};

/* ---- going on ---- */

/* The frames that it has taken are those that can be made of what there is. *ret: the last one that
 * begins a block, or the footer, so that it is certain what follows. */
static int resume_cursor(struct kv_mem_receiver *x, struct kv_mem_frames *frames,
                         struct kv_cursor *ret)
{
    CLEANUP(mem_freep) uint8_t *out = mem_alloc(KV_FRAME_MAX);
    struct kv_cursor at = {0};
    struct kv_frame f = {0};
    size_t len = 0;
    int rc = out == NULL ? -ENOMEM : 0;
    *ret = at;
    while (rc == 0 && !f.last) {
        if (at.place.kind != KV_MEM_PLACE_HEADER && at.place.offset == 0) {
            *ret = at;
        }
        rc = kv_mem_frames_get(frames, &at, out, &f, &len, NULL);
        at = f.next;
    }
    bool ours = frames->stream == 0 || ret->stream == 0 || !frames->open ||
                memcmp(frames->f.reader.info.owner, x->owner, sizeof x->owner) == 0;
    return rc == -ENOMEM || (rc < 0 && !err_is(rc, ERR_corrupt)) ? rc : ours ? 0 : -ERR_bad_value;
}

/* The reader stands behind the blocks that are kept. */
static int resume_reader(struct kv_mem_receiver *x, struct kv_mem_frames *frames,
                         const struct kv_cursor *at)
{
    int rc = kv_mem_frames_skip(frames, at->place.item, NULL);
    if (rc < 0) {
        return rc;
    }
    if (memcmp(frames->f.reader.info.owner, x->owner, sizeof x->owner) != 0) {
        return -ERR_bad_value;
    }
    x->reader = frames->f.reader;
    frames->f.reader = (struct kv_image_reader){0};
    if (x->reader.last.at != NULL && x->reader.last.len > 0) {
        x->reader.last = kv_slice_of(x->reader.last_key, x->reader.last.len);
    }
    x->begun = true;
    x->next = *at;
    return 0;
}

static int receiver_resume(struct kv_mem_receiver *x)
{
    struct kv_mem_frames frames;
    struct kv_cursor at = {0};
    struct disk_req cut = {.op = DISK_TRUNCATE, .file = x->file};
    kv_mem_frames_init(&frames, x->env->disk, x->partial);
    /* An earlier life may have seen a sync fail: what counts is on the medium. */
    int rc = disk_refresh(x->env->disk, x->file);
    rc = rc < 0 ? rc : resume_cursor(x, &frames, &at);
    if (rc == 0 && at.stream != 0) {
        rc = resume_reader(x, &frames, &at);
    }
    kv_mem_frames_fini(&frames);
    if (rc < 0 && !err_is(rc, ERR_corrupt)) {
        return rc;
    }
    cut.len = x->begun ? x->reader.offset : 0;
    return receiver_now(x, &cut);
}

static int receiver_init(struct kv_mem_receiver *x, const struct kv_mem_receiver_options *opt,
                         struct err *e)
{
    struct loop *l = opt->env->loop;
    struct loop_executor_options own = {.name = "receiver",
                                        .max_threads = 1,
                                        .max_queued = 1,
                                        .simulated = loop_is_simulated(l) ? l : NULL};
    memcpy(x->owner, opt->owner, sizeof x->owner);
    x->directory = mem_strdup(opt->directory);
    x->partial = mem_printf("%s/receiving", opt->directory);
    x->block = mem_alloc(KV_IMAGE_BLOCK_HEADER_BYTES + KV_IMAGE_BLOCK_MAX);
    bool memory = x->directory != NULL && x->partial != NULL && x->block != NULL;
    int rc = memory ? loop_executor_new(&own, &x->executor) : -ENOMEM;
    if (rc < 0) {
        return rc;
    }
    struct disk_req open = {
        .op = DISK_OPEN, .path = x->partial, .flags = DISK_READ_WRITE | DISK_CREATE};
    rc = receiver_now(x, &open);
    x->file = rc < 0 ? NULL : open.file;
    if (rc == 0 && opt->again) {
        struct disk_req cut = {.op = DISK_TRUNCATE, .file = x->file};
        rc = receiver_now(x, &cut);
    } else if (rc == 0) {
        rc = receiver_resume(x);
    }
    return rc < 0 ? err_set(e, rc, "'%s'", x->partial) : 0;
}

int kv_mem_receiver_open(const struct kv_mem_receiver_options *opt, struct kv_receiver **ret,
                         struct err *e)
{
    struct kv_mem_receiver *x = mem_zalloc(sizeof *x);
    if (x == NULL) {
        return -ENOMEM;
    }
    x->base.ops = &kv_mem_receiver_ops;
    x->env = opt->env;
    int rc = receiver_init(x, opt, e);
    if (rc < 0) {
        receiver_free(&x->base);
        return rc;
    }
    x->base.next = x->next;
    x->base.stored_bytes = x->begun ? x->reader.offset : 0;
    *ret = &x->base;
    return 0;
}
