/* chunk/store.c -- format, open, free, figures, the index. */
#include "chunk/store.h"

#include "base/env.h"
#include "chunk/engine_priv.h"

#include <string.h>

#define NOTED_LOOKS 1024u
#define TICK_FIRST_NS UINT64_C(1000000)

static const struct chunk_engine_ops *engine_of(const struct chunk_options *opt)
{
    switch (opt->engine) {
    case CHUNK_ENGINE_RAM:
        return &chunk_engine_ram;
    case CHUNK_ENGINE_EXTENT:
        return &chunk_engine_extent;
    case CHUNK_ENGINE_FILE:
    default:
        return &chunk_engine_file;
    }
}

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
    const struct chunk_engine_ops *engine = engine_of(opt);
    struct disk *d = opt->env->disk;
    struct chunk_super super = {.number = 1,
                                .cluster = opt->cluster,
                                .target = format->target,
                                .stable_era = 1,
                                .fan_out = format->fan_out,
                                .clean = true};
    if (!engine->on_disk) {
        return 0;
    }
    int rc = format_empty(d, opt->directory, e);
    rc = rc < 0 ? rc : engine->format(opt, &super, e);
    if (rc < 0) {
        return rc;
    }
    struct disk_req sync = {.op = DISK_SYNC_DIR, .path = opt->directory};
    int64_t synced = disk_now(d, &sync);
    return synced < 0 ? err_set(e, (int)synced, "format: '%s'", opt->directory)
                      : format_super(d, opt->directory, &super, e);
}

/* ---- Open ---- */

static int open_memory(struct chunk_store *s, const struct chunk_options *opt)
{
    s->opt = *opt;
    s->opt.ram_bytes = opt->ram_bytes == 0 ? UINT64_C(1) << 30 : opt->ram_bytes;
    s->opt.index_bytes = opt->index_bytes == 0 ? UINT64_C(64) << 20 : opt->index_bytes;
    s->opt.open_files = opt->open_files == 0 ? 1024 : opt->open_files;
    s->opt.parallel = opt->parallel == 0 ? 16 : opt->parallel;
    s->opt.flush_ms = opt->flush_ms == 0 ? 5000 : opt->flush_ms;
    s->opt.rest_ms = opt->rest_ms == 0 ? 60000 : opt->rest_ms;
    s->engine = engine_of(opt);
    s->loop = opt->env->loop;
    s->disk = opt->env->disk;
    s->task.run = chunk_works_run;
    s->timer.fire = chunk_tick;
    list_init(&s->lru);
    list_init(&s->dirty);
    list_init(&s->unstable);
    list_init(&s->ready);
    list_init(&s->works);
    list_init(&s->lookers);
    list_init(&s->sync_queue);
    list_init(&s->rests);
    list_init(&s->unsent);
    list_init(&s->clock);
    list_init(&s->super_waiters);
    list_init(&s->dead_waiters);
    list_init(&s->dead_batch);
    s->directory = mem_strdup(opt->directory == NULL ? "" : opt->directory);
    s->opt.directory = s->directory;
    return s->directory == NULL ? -ENOMEM : 0;
}

void chunk_store_low(struct chunk_store *s, uint64_t total_bytes)
{
    s->low_bytes = s->opt.low_bytes;
    if (s->low_bytes == 0) {
        s->low_bytes = total_bytes / 50;
        if (total_bytes > UINT64_C(50) << 30) {
            s->low_bytes = base_max(s->low_bytes, UINT64_C(1) << 30);
        }
    }
}

static int open_space(struct chunk_store *s, struct err *e)
{
    struct disk_req req = {.op = DISK_STATFS, .path = s->directory};
    int64_t rc = disk_now(s->disk, &req);
    if (rc < 0) {
        return err_set(e, (int)rc, "free space of '%s'", s->directory);
    }
    s->looked_ns = loop_now_ns(s->loop);
    s->total_bytes = req.stat.total_bytes;
    s->free_bytes = req.stat.free_bytes;
    chunk_store_low(s, s->total_bytes);
    return 0;
}

static int open_directory(struct chunk_store *s, struct err *e)
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
    rc = chunk_dead_open(s, e);
    rc = rc < 0 ? rc : open_space(s, e);
    rc = rc < 0 ? rc : s->engine->open(s, e);
    if (rc < 0) {
        return rc;
    }
    s->era = base_max(s->era, s->super.stable_era) + 1;
    s->super.stable_era = s->super.clean ? s->era : s->super.stable_era;
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
        rc = s->engine->on_disk ? open_directory(s, e) : s->engine->open(s, e);
    }
    if (rc < 0) {
        return rc;
    }
    *ret = s;
    s = NULL;
    return 0;
}

/* ---- Start ---- */

static void start_tell(struct loop_task *t)
{
    struct chunk_store *s = container_of(t, struct chunk_store, started_task);
    struct chunk_start *start = s->start;
    s->start = NULL;
    start->done(start, s->start_rc);
}

void chunk_store_started(struct chunk_store *s, int rc)
{
    if (rc < 0) {
        s->failed = rc; /* nothing is marked as good at its end */
    } else {
        s->started = true;
        s->round_at_ns = loop_now_ns(s->loop);
        loop_timer_in(s->loop, &s->timer, TICK_FIRST_NS);
    }
    s->start_rc = rc;
    s->started_task.run = start_tell;
    loop_defer(s->loop, &s->started_task);
}

void chunk_store_start(struct chunk_store *s, struct chunk_start *start)
{
    LOOP_OWNED(s->loop);
    CHECK(s->start == NULL);
    CHECK(!s->started);
    s->start = start;
    if (s->engine->start != NULL) {
        s->engine->start(s);
    } else {
        chunk_store_started(s, 0);
    }
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
    chunk_sums_fini(&s->sums);
    if (s->engine != NULL) {
        s->engine->close(s);
    }
    close_now(s, chunk_dead_copy_free(s->dead_copy));
    close_now(s, s->dead_file);
    close_now(s, s->super_file); /* gives up the lock, last */
    mem_free(s->dead_bytes);
    mem_free(s->directory);
    mem_free(s);
}

bool chunk_came_back(struct chunk_store *s)
{
    s->in_flight--;
    if (s->freed && s->in_flight == 0) {
        chunk_store_destroy(s);
        return false;
    }
    return !s->freed;
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
        loop_undefer(s->loop, &s->started_task);
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
    s->engine->figures(s, ret);
}

/* ---- Index ---- */

int chunk_store_lookup(struct chunk_store *s, struct chunk_key key, struct chunk_info *ret)
{
    LOOP_OWNED(s->loop);
    struct chunk_entry *e = NULL;
    int rc = chunk_entry_know(s, key, &e);
    if (rc < 0 || e == NULL || !e->exists) {
        return rc < 0 ? rc : -ENOENT;
    }
    chunk_entry_info(e, ret);
    return 0;
}

int chunk_store_next(struct chunk_store *s, struct chunk_key from, struct chunk_info *ret)
{
    LOOP_OWNED(s->loop);
    if (s->engine->next != NULL) {
        return s->engine->next(s, from, ret);
    }
    const struct chunk_entry *e = chunk_entry_of(chunk_index_next(&s->index, from));
    while (e != NULL && !e->exists) { /* in the making, or going */
        from = e->item.key;
        if (!chunk_key_step(&from)) {
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

/* ---- Holds ---- */

static void hold_take(struct chunk_hold *h, struct chunk_entry *e)
{
    h->entry = e;
    e->holds++;
}

int chunk_store_hold(struct chunk_store *s, struct chunk_hold *h)
{
    LOOP_OWNED(s->loop);
    CHECK(h->entry == NULL);
    struct chunk_entry *e = chunk_entry_get(s, h->key, true);
    if (e == NULL) {
        return -ENOMEM;
    }
    int rc = e->loaded ? 0 : s->engine->know(s, e);
    if (rc < 0) {
        chunk_entry_settle(s, e);
        return rc;
    }
    hold_take(h, e);
    return 0;
}

static void hold_finish(struct chunk_work *w, int rc)
{
    struct chunk_hold *h = w->of.hold;
    h->work = NULL;
    chunk_work_free(w);
    h->done(h, rc);
}

static void hold_begin(struct chunk_work *w)
{
    hold_take(w->of.hold, w->e);
    chunk_work_end(w, 0);
}

void chunk_store_hold_wait(struct chunk_store *s, struct chunk_hold *h)
{
    LOOP_OWNED(s->loop);
    CHECK(h->entry == NULL);
    struct chunk_entry *e = chunk_entry_get(s, h->key, true);
    struct chunk_work *w = e == NULL ? NULL : chunk_work_new(s);
    if (w == NULL) {
        if (e != NULL) {
            chunk_entry_settle(s, e);
        }
        h->work = s->refused.hold;
        s->refused.hold = h;
        loop_defer(s->loop, &s->task);
        return;
    }
    h->work = w;
    w->of.hold = h;
    w->begin = hold_begin;
    w->finish = hold_finish;
    chunk_work_enqueue(w, e);
}

void chunk_store_let_go(struct chunk_store *s, struct chunk_hold *h)
{
    LOOP_OWNED(s->loop);
    struct chunk_entry *e = h->entry;
    CHECK(e != NULL);
    h->entry = NULL;
    e->holds--;
    chunk_entry_settle(s, e);
}

/* ---- Walks ---- */

int chunk_store_next_pending(struct chunk_store *s, struct chunk_key *from, struct chunk_info *ret)
{
    LOOP_OWNED(s->loop);
    struct chunk_item *item = chunk_index_next(&s->index, *from);
    for (unsigned looks = 0; item != NULL; looks++) {
        const struct chunk_entry *e = chunk_entry_of(item);
        *from = item->key;
        if (e->exists && e->pending != NULL) {
            chunk_entry_info(e, ret);
            return 0;
        }
        if (looks == NOTED_LOOKS) {
            return -EAGAIN;
        }
        item = chunk_key_step(from) ? chunk_index_next(&s->index, *from) : NULL;
    }
    return -ENOENT;
}

/* Those that the index has, too, come when it is walked over. */
static bool damage_in_memory(const struct chunk_store *s, const struct chunk_entry *e)
{
    return e->exists && e->damaged &&
           (s->engine->next_damaged == NULL || !e->indexed.exists || !e->indexed.damaged);
}

int chunk_store_next_damaged(struct chunk_store *s, struct chunk_damage *d)
{
    LOOP_OWNED(s->loop);
    struct chunk_key from = d->behind ? d->key : (struct chunk_key){0};
    bool more = !d->indexed && (!d->behind || chunk_key_step(&from));
    struct chunk_item *item = more ? chunk_index_next(&s->index, from) : NULL;
    for (unsigned looks = 0; item != NULL; looks++) {
        const struct chunk_entry *e = chunk_entry_of(item);
        d->key = from = item->key;
        d->chain = e->chain;
        d->behind = true;
        if (damage_in_memory(s, e)) {
            return 0;
        }
        if (looks == NOTED_LOOKS) {
            return -EAGAIN;
        }
        item = chunk_key_step(&from) ? chunk_index_next(&s->index, from) : NULL;
    }
    if (!d->indexed) {
        *d = (struct chunk_damage){.indexed = true};
    }
    return s->engine->next_damaged == NULL ? -ENOENT : s->engine->next_damaged(s, d);
}

int chunk_store_ahead(struct chunk_store *s, struct chunk_ahead *a)
{
    LOOP_OWNED(s->loop);
    CHECK(!chunk_ahead_active(a) && s->engine->ahead != NULL);
    return s->engine->ahead(s, a);
}

void chunk_store_ahead_end(struct chunk_store *s, struct chunk_ahead *a)
{
    if (a->reading != NULL) {
        s->engine->ahead_end(s, a);
    }
}
