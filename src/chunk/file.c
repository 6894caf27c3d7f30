/* chunk/file.c -- the `file` engine: one file for each chunk. Format, open, end. */
#include "base/env.h"
#include "chunk/file_priv.h"

#include <string.h>

#define FAN_OUT 32u

/* ---- Format ---- */

static int format_make(struct disk *d, enum disk_op op, const char *path, struct err *e)
{
    struct disk_req req = {.op = op, .path = path};
    int64_t rc = disk_now(d, &req);
    return rc < 0 ? err_set(e, (int)rc, "format: '%s'", path) : 0;
}

static int file_format(const struct chunk_options *opt, struct chunk_super *super, struct err *e)
{
    struct disk *d = opt->env->disk;
    const char *root = opt->directory;
    super->fan_out = super->fan_out == 0 ? FAN_OUT : super->fan_out;
    uint32_t fan_out = super->fan_out;
    if (fan_out > 256 || (fan_out & (fan_out - 1)) != 0) {
        return err_set(e, -EINVAL, "fan-out of directories: %u", fan_out);
    }
    int rc = 0;
    for (uint32_t i = 0; i < fan_out && rc == 0; i++) {
        CLEANUP(mem_freep) char *upper = mem_printf("%s/%02x", root, i);
        if (upper == NULL) {
            return -ENOMEM;
        }
        rc = format_make(d, DISK_MKDIR, upper, e);
        for (uint32_t k = 0; k < fan_out && rc == 0; k++) {
            CLEANUP(mem_freep) char *lower = mem_printf("%s/%02x", upper, k);
            rc = lower == NULL ? -ENOMEM : format_make(d, DISK_MKDIR, lower, e);
        }
        rc = rc < 0 ? rc : format_make(d, DISK_SYNC_DIR, upper, e);
    }
    return rc;
}

/* ---- Open ---- */

static int file_open(struct chunk_store *s, struct err *e)
{
    size_t words = ((size_t)s->super.fan_out * s->super.fan_out + 63) / 64;
    s->dirty_dirs = mem_calloc(words, sizeof *s->dirty_dirs);
    if (s->dirty_dirs == NULL) {
        return -ENOMEM;
    }
    if (!s->super.clean) { /* names that went may come back */
        memset(s->dirty_dirs, 0xff, words * sizeof *s->dirty_dirs);
        s->dirs_dirty = true;
    }
    return chunk_scan(s, e);
}

static void file_close(struct chunk_store *s)
{
    mem_free(s->dirty_dirs);
}

static struct chunk_place file_place(const struct chunk_store *s, const struct chunk_file *f,
                                     uint64_t block)
{
    (void)s;
    return (struct chunk_place){.file = f->file, .offset = block * CHUNK_BLOCK};
}

static void file_figures(const struct chunk_store *s, struct chunk_store_info *ret)
{
    ret->low = s->free_bytes < s->low_bytes + s->reserved_bytes;
}

const struct chunk_engine_ops chunk_engine_file = {
    .on_disk = true,
    .joins = true,
    .format = file_format,
    .open = file_open,
    .close = file_close,
    .hot = chunk_file_hot,
    .place = file_place,
    .reserve = chunk_file_reserve,
    .unreserve = chunk_file_unreserve,
    .write = chunk_file_write,
    .waste = chunk_file_waste,
    .unmake = chunk_file_unmake,
    .record = chunk_file_record,
    .remove = chunk_file_remove,
    .sync = chunk_file_sync,
    .tick = chunk_file_tick,
    .round = chunk_file_round,
    .settled = chunk_file_settled,
    .figures = file_figures,
};
