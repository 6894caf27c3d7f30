/* chunk/store.c -- format, open, free, figures, the index. */
#include "chunk/store.h"

#include "base/env.h"
#include "chunk/parts_priv.h"

#include <string.h>

#define FAN_OUT 32u

/* ---- Format ---- */

static int format_empty(struct disk *d, const char *directory, struct err *e)
{
    struct disk_req req = {.op = DISK_LIST, .path = directory};
    int64_t rc = disk_now(d, &req);
    if (rc < 0) {
        return err_set(e, (int)rc, "data directory '%s'", directory);
    }
    bool empty = true;
    for (size_t i = 0; i < req.names->count; i++) {
        empty = empty && strcmp(req.names->name[i], "lost+found") == 0;
    }
    mem_free(req.names);
    return empty ? 0 : err_set(e, -ENOTEMPTY, "data directory '%s'", directory);
}

static int format_make(struct disk *d, enum disk_op op, const char *path, struct err *e)
{
    struct disk_req req = {.op = op, .path = path};
    int64_t rc = disk_now(d, &req);
    return rc < 0 ? err_set(e, (int)rc, "format: '%s'", path) : 0;
}

static int format_directories(struct disk *d, const char *root, uint32_t fan_out, struct err *e)
{
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

/* Both copies of the superblock, last of all: without them it is no store. */
static int format_super(struct disk *d, const char *root, const struct chunk_super *super,
                        struct err *e)
{
    uint8_t bytes[CHUNK_BLOCK + CHUNK_SUPER_BYTES] = {0};
    CLEANUP(mem_freep) char *path = mem_printf("%s/super", root);
    CLEANUP(mem_freep) char *dead = mem_printf("%s/dead", root);
    if (path == NULL || dead == NULL) {
        return -ENOMEM;
    }
    chunk_super_encode(super, bytes);
    memcpy(bytes + CHUNK_BLOCK, bytes, CHUNK_SUPER_BYTES);
    int rc = disk_store(d, dead, bytes, 0);
    rc = rc < 0 ? rc : disk_store(d, path, bytes, sizeof bytes);
    return rc < 0 ? err_set(e, rc, "format: '%s'", path) : 0;
}

int chunk_store_format(const struct chunk_options *opt, const struct chunk_format_options *format,
                       struct err *e)
{
    if (opt->engine == CHUNK_ENGINE_RAM) {
        return 0;
    }
    struct disk *d = opt->env->disk;
    uint32_t fan_out = format->fan_out == 0 ? FAN_OUT : format->fan_out;
    if (fan_out > 256 || (fan_out & (fan_out - 1)) != 0) {
        return err_set(e, -EINVAL, "fan-out of directories: %u", fan_out);
    }
    int rc = format_empty(d, opt->directory, e);
    if (rc < 0) {
        return rc;
    }
    struct chunk_super super = {.number = 1,
                                .cluster = opt->cluster,
                                .target = format->target,
                                .stable_era = 1,
                                .fan_out = fan_out,
                                .clean = true};
    rc = format_directories(d, opt->directory, fan_out, e);
    rc = rc < 0 ? rc : format_make(d, DISK_SYNC_DIR, opt->directory, e);
    return rc < 0 ? rc : format_super(d, opt->directory, &super, e);
}

/* ---- Open ---- */

static int open_memory(struct chunk_store *s, const struct chunk_options *opt)
{
    s->opt = *opt;
    s->opt.ram_bytes = opt->ram_bytes == 0 ? UINT64_C(1) << 30 : opt->ram_bytes;
    s->opt.open_files = opt->open_files == 0 ? 1024 : opt->open_files;
    s->opt.parallel = opt->parallel == 0 ? 16 : opt->parallel;
    s->opt.flush_ms = opt->flush_ms == 0 ? 5000 : opt->flush_ms;
    s->opt.rest_ms = opt->rest_ms == 0 ? 60000 : opt->rest_ms;
    s->ram = opt->engine == CHUNK_ENGINE_RAM;
    s->loop = opt->env->loop;
    s->disk = opt->env->disk;
    s->task.run = chunk_works_run;
    s->timer.fire = chunk_tick;
    list_init(&s->lru);
    list_init(&s->dirty);
    list_init(&s->ready);
    list_init(&s->works);
    list_init(&s->sync_queue);
    list_init(&s->rests);
    list_init(&s->super_waiters);
    list_init(&s->dead_waiters);
    list_init(&s->dead_batch);
    s->directory = mem_strdup(opt->directory == NULL ? "" : opt->directory);
    s->opt.directory = s->directory;
    return s->directory == NULL ? -ENOMEM : 0;
}

static int open_ram(struct chunk_store *s)
{
    s->super.cluster = s->opt.cluster;
    loop_random_bytes(s->loop, s->super.target.bytes, sizeof s->super.target.bytes);
    s->super.incarnation = loop_random(s->loop) | 1;
    s->super.lossy = true;
    s->super.fan_out = 1;
    return 0;
}

static int open_space(struct chunk_store *s, struct err *e)
{
    struct disk_req req = {.op = DISK_STATFS, .path = s->directory};
    int64_t rc = disk_now(s->disk, &req);
    if (rc < 0) {
        return err_set(e, (int)rc, "free space of '%s'", s->directory);
    }
    s->total_bytes = req.stat.total_bytes;
    s->free_bytes = req.stat.free_bytes;
    s->low_bytes = s->opt.low_bytes;
    if (s->low_bytes == 0) {
        s->low_bytes = s->total_bytes / 50;
        if (s->total_bytes > UINT64_C(50) << 30) {
            s->low_bytes = base_max(s->low_bytes, UINT64_C(1) << 30);
        }
    }
    return 0;
}

static int open_file(struct chunk_store *s, struct err *e)
{
    int rc = chunk_super_open(s, e);
    if (rc < 0) {
        return rc;
    }
    uint8_t boot_id[16];
    loop_boot_id(s->loop, boot_id);
    s->rebooted =
        s->super.incarnation > 0 && memcmp(boot_id, s->super.boot_id, sizeof boot_id) != 0;
    s->super.lossy = s->super.lossy || (s->rebooted && !s->super.clean);
    size_t words = ((size_t)s->super.fan_out * s->super.fan_out + 63) / 64;
    s->dirty_dirs = mem_calloc(words, sizeof *s->dirty_dirs);
    if (s->dirty_dirs == NULL) {
        return -ENOMEM;
    }
    if (!s->super.clean) { /* names that went may come back */
        memset(s->dirty_dirs, 0xff, words * sizeof *s->dirty_dirs);
        s->dirs_dirty = true;
    }
    rc = chunk_dead_open(s, e);
    rc = rc < 0 ? rc : open_space(s, e);
    rc = rc < 0 ? rc : chunk_scan(s, e);
    if (rc < 0) {
        return rc;
    }
    s->era = base_max(s->era, s->super.stable_era) + 1;
    memcpy(s->super.boot_id, boot_id, sizeof boot_id);
    s->super.incarnation++;
    s->super.clean = false;
    rc = chunk_super_save_now(s);
    return rc < 0 ? err_set(e, rc, "superblock of '%s'", s->directory) : 0;
}

int chunk_store_open(const struct chunk_options *opt, struct chunk_store **ret, struct err *e)
{
    CLEANUP(chunk_store_freep) struct chunk_store *s = mem_zalloc(sizeof *s);
    if (s == NULL) {
        return -ENOMEM;
    }
    int rc = open_memory(s, opt);
    if (rc == 0) {
        rc = s->ram ? open_ram(s) : open_file(s, e);
    }
    if (rc < 0) {
        return rc;
    }
    s->round_at_ns = loop_now_ns(s->loop);
    if (!s->ram) {
        loop_timer_in(s->loop, &s->timer, 1000000);
    }
    *ret = s;
    s = NULL;
    return 0;
}

/* ---- End ---- */

static void close_now(struct chunk_store *s, struct disk_file *file)
{
    if (file != NULL) {
        struct disk_req req = {.op = DISK_CLOSE, .file = file};
        (void)disk_now(s->disk, &req);
    }
}

static void destroy_works(struct chunk_store *s)
{
    LIST_FOR_EACH_SAFE(node, &s->works)
    {
        struct chunk_work *w = LIST_ENTRY(node, struct chunk_work, all);
        list_remove(&w->node);
        if (w->own_pin.version == NULL && w->own_pin.file != NULL) {
            chunk_file_unref(w->own_pin.file); /* of a sync */
        }
        chunk_work_free(w);
    }
}

void chunk_store_destroy(struct chunk_store *s)
{
    destroy_works(s);
    struct chunk_key from = {0};
    for (struct chunk_item *item = chunk_index_next(&s->index, from); item != NULL;
         item = chunk_index_next(&s->index, from)) {
        from = item->key;
        chunk_index_remove(&s->index, from);
        chunk_entry_free(s, chunk_entry_of(item));
    }
    from = (struct chunk_key){0};
    for (struct chunk_item *item = chunk_index_next(&s->dead, from); item != NULL;
         item = chunk_index_next(&s->dead, from)) {
        from = item->key;
        chunk_index_remove(&s->dead, from);
        mem_free(container_of(item, struct chunk_dead_item, item));
    }
    chunk_index_fini(&s->index);
    chunk_index_fini(&s->dead);
    close_now(s, s->dead_file);
    close_now(s, s->super_file); /* gives up the lock, last */
    chunk_ram_fini(s);
    mem_free(s->dead_bytes);
    mem_free(s->dirty_dirs);
    mem_free(s->directory);
    mem_free(s);
}

struct chunk_store *chunk_store_free(struct chunk_store *s)
{
    if (s == NULL) {
        return NULL;
    }
    s->freed = true;
    if (s->loop != NULL) {
        loop_timer_cancel(s->loop, &s->timer);
        loop_undefer(s->loop, &s->task);
        loop_undefer(s->loop, &s->stopped);
    }
    if (s->in_flight == 0) {
        chunk_store_destroy(s);
    }
    return NULL;
}

/* ---- Figures ---- */

void chunk_store_info(const struct chunk_store *s, struct chunk_store_info *ret)
{
    *ret = (struct chunk_store_info){.target = s->super.target,
                                     .cluster = s->super.cluster,
                                     .incarnation = s->super.incarnation,
                                     .lossy = s->super.lossy,
                                     .rebooted = s->rebooted,
                                     .failed = s->failed,
                                     .chunk_count = s->exists_count,
                                     .damaged_count = s->damaged_count,
                                     .pending_count = s->pending_count,
                                     .dirty_count = s->dirty_count,
                                     .total_bytes = s->total_bytes,
                                     .free_bytes = s->free_bytes,
                                     .used_bytes = s->used_bytes,
                                     .reserved_bytes = s->reserved_bytes,
                                     .resting_bytes = s->resting_bytes};
    if (s->ram) {
        uint64_t used = (uint64_t)(s->page_count - s->free_count) * CHUNK_BLOCK;
        ret->total_bytes = s->opt.ram_bytes;
        ret->free_bytes = ret->total_bytes - base_min(used, ret->total_bytes);
        uint64_t low = s->opt.low_bytes == 0 ? ret->total_bytes / 50 : s->opt.low_bytes;
        ret->low = ret->free_bytes < low;
        return;
    }
    ret->low = s->free_bytes < s->low_bytes + s->reserved_bytes;
}

/* ---- Index ---- */

int chunk_store_lookup(struct chunk_store *s, struct chunk_key key, struct chunk_info *ret)
{
    LOOP_OWNED(s->loop);
    const struct chunk_entry *e = chunk_entry_get(s, key, false);
    if (e == NULL || !e->exists) {
        return -ENOENT;
    }
    chunk_entry_info(e, ret);
    return 0;
}

int chunk_store_next(struct chunk_store *s, struct chunk_key from, struct chunk_info *ret)
{
    LOOP_OWNED(s->loop);
    const struct chunk_entry *e = chunk_entry_of(chunk_index_next(&s->index, from));
    while (e != NULL && !e->exists) { /* in the making, or going */
        from = e->item.key;
        from.index++;
        from.data_id += from.index == 0 ? 1 : 0;
        if (from.index == 0 && from.data_id == 0) {
            return -ENOENT;
        }
        e = chunk_entry_of(chunk_index_next(&s->index, from));
    }
    if (e == NULL) {
        return -ENOENT;
    }
    chunk_entry_info(e, ret);
    return 0;
}
