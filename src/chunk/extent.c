/* chunk/extent.c -- the `extent` engine: containers, index, journal. Format, open, end. */
#include "chunk/extent_index_priv.h"
#include "chunk/extent_rebuild_priv.h"
#include "chunk/extent_room_priv.h"

#include "base/env.h"
#include "tree/tree.h"

#include <string.h>

#define ENTRY_BYTES (UINT64_C(64) << 20)
#define JOURNAL_MOST_BYTES (UINT64_C(192) << 20)

/* ---- Format ---- */

struct tree_options chunk_extent_index_options(const struct chunk_options *opt, const char *path,
                                               const struct uuid *target)
{
    return (struct tree_options){
        .env = opt->env, .path = path, .owner = target->bytes, .cache_bytes = opt->index_bytes};
}

static int extent_format(const struct chunk_options *opt, struct chunk_super *super, struct err *e)
{
    CLEANUP(mem_freep) char *index = mem_printf("%s/index", opt->directory);
    CLEANUP(mem_freep) char *journal = mem_printf("%s/journal", opt->directory);
    if (index == NULL || journal == NULL) {
        return -ENOMEM;
    }
    super->fan_out = 1; /* there are no directories */
    struct disk_req req = {.op = DISK_MKDIR, .path = journal};
    int64_t rc = disk_now(opt->env->disk, &req);
    if (rc < 0) {
        return err_set(e, (int)rc, "format: '%s'", journal);
    }
    struct tree_options tree = chunk_extent_index_options(opt, index, &super->target);
    rc = tree_create(&tree, e);
    return rc < 0 || opt->device == NULL ? (int)rc : chunk_device_claim(opt, &super->target, e);
}

/* ---- Open ---- */

static int extent_index_path(struct chunk_extent *x, char **ret, struct err *e)
{
    if (x->s->opt.rebuild != NULL) {
        return chunk_salvage_index(x, ret, e);
    }
    *ret = mem_printf("%s/index", x->s->directory);
    return *ret == NULL ? -ENOMEM : 0;
}

static int extent_open(struct chunk_store *s, struct err *e)
{
    CLEANUP(mem_freep) char *path = NULL;
    struct chunk_extent *x = mem_zalloc(sizeof *x);
    struct tree_found found = {0};
    if (x == NULL) {
        return -ENOMEM;
    }
    x->s = s;
    s->extent = x;
    x->journal_most_bytes = JOURNAL_MOST_BYTES;
    x->reborn = !s->super.clean && !s->rebooted;
    list_init(&x->growers);
    chunk_gather_init(x);
    list_init(&x->rested);
    list_init(&x->readings);
    list_init(&x->admits);
    list_init(&x->appending);
    list_init(&x->flips);
    list_init(&x->round.waiters);
    list_init(&x->round.next);
    s->opt.entry_bytes = s->opt.entry_bytes == 0 ? ENTRY_BYTES : s->opt.entry_bytes;
    chunk_backlog_init(x);
    int rc = chunk_space_open(x, e);
    rc = rc < 0 ? rc : extent_index_path(x, &path, e);
    struct tree_options tree = chunk_extent_index_options(&s->opt, path, &s->super.target);
    tree.reserve_bytes = chunk_room_left(s);
    tree.ahead_bytes = chunk_room_index(s);
    rc = rc < 0 ? rc : tree_open(&tree, &x->index, &found, e);
    x->newer = found.index;
    x->older = base_min(found.older, found.index); /* 0, too, if there is none: it knows nothing */
    return rc;
}

static void extent_close(struct chunk_store *s)
{
    struct chunk_extent *x = s->extent;
    if (x == NULL) {
        return;
    }
    for (struct list *node = list_pop_front(&x->rested); node != NULL;
         node = list_pop_front(&x->rested)) {
        mem_free(LIST_ENTRY(node, struct chunk_rest, node));
    }
    for (struct list *node = list_pop_front(&s->unsent); node != NULL;
         node = list_pop_front(&s->unsent)) {
        mem_free(LIST_ENTRY(node, struct chunk_rest, node));
    }
    mem_free(x->page);
    kv_need_release(&x->damage.need);
    chunk_rewrite_free(x);
    x->journal = journal_free(x->journal);
    x->index = kv_free(x->index);
    chunk_space_close(x);
    kv_batch_fini(&x->round.batch);
    mem_free(x);
    s->extent = NULL;
}

/* ---- The end ---- */

static void end_kv(struct kv_stop *stop)
{
    struct chunk_extent *x = container_of(stop, struct chunk_extent, kv_stop);
    x->kv_ended = true;
    chunk_stop_check(x->s);
}

static void end_journal(struct journal_stop *stop, int rc)
{
    struct chunk_extent *x = container_of(stop, struct chunk_extent, journal_stop);
    x->journal_ended = true;
    if (x->s->stop_rc == 0) {
        x->s->stop_rc = rc;
    }
    chunk_stop_check(x->s);
}

static bool extent_end(struct chunk_store *s)
{
    struct chunk_extent *x = s->extent;
    if (!x->ending) {
        x->ending = true;
        x->kv_stop.done = end_kv;
        x->journal_stop.done = end_journal;
        x->journal_ended = x->journal == NULL;
        kv_stop(x->index, &x->kv_stop);
        if (x->journal != NULL) {
            journal_stop(x->journal, &x->journal_stop);
        }
    }
    return x->kv_ended && x->journal_ended;
}

static bool extent_settled(const struct chunk_store *s)
{
    const struct chunk_extent *x = s->extent;
    return list_empty(&s->dirty) && x->flip_count == 0 && x->checkpointed && !x->checkpointing;
}

/* ---- Small things ---- */

static struct chunk_place extent_place(const struct chunk_store *s, const struct chunk_file *f,
                                       uint64_t block)
{
    (void)f;
    return (struct chunk_place){.file = chunk_space_container(s->extent, block)->file,
                                .offset = chunk_space_offset(s->extent, block)};
}

static void extent_hot(struct chunk_work *w, bool create, chunk_next *next)
{
    (void)create;
    next(w, 0);
}

/* An update of a chunk that did not come to be leaves units, which it gives back. */
static void extent_unmake(struct chunk_work *w, chunk_next *next)
{
    struct chunk_entry *e = w->e;
    if (!e->kept) {
        chunk_entry_clean(w->s, e);
        e->written = e->stable = e->change;
    }
    next(w, 0);
}

static void extent_figures(const struct chunk_store *s, struct chunk_store_info *ret)
{
    struct tree_space_info info = {0};
    tree_space_info(s->extent->space, &info);
    if (s->extent->device != NULL) {
        ret->total_bytes = s->extent->units * CHUNK_UNIT;
    }
    uint64_t units = chunk_room_units(s->extent) + info.free + s->extent->open.count;
    if (s->extent->asleep != NULL) {
        tree_space_info(s->extent->asleep, &info);
        units += info.free;
    }
    ret->free_bytes = units * CHUNK_UNIT;
    ret->low = ret->free_bytes < s->low_bytes + s->reserved_bytes;
    ret->wrong = s->extent->wrong;
}

const struct chunk_engine_ops chunk_engine_extent = {
    .on_disk = true,
    .joins = true,
    .format = extent_format,
    .open = extent_open,
    .close = extent_close,
    .start = chunk_extent_start,
    .load = chunk_extent_load,
    .know = chunk_extent_know,
    .forget = chunk_extent_forget,
    .next = chunk_extent_next,
    .next_of = chunk_extent_next_of,
    .next_damaged = chunk_extent_next_damaged,
    .ahead = chunk_extent_ahead,
    .ahead_end = chunk_extent_ahead_end,
    .hot = extent_hot,
    .place = extent_place,
    .reserve = chunk_extent_reserve,
    .unreserve = chunk_extent_unreserve,
    .write = chunk_extent_write,
    .waste = chunk_extent_waste,
    .unmake = extent_unmake,
    .admit = chunk_extent_admit,
    .record = chunk_extent_record,
    .remove = chunk_extent_remove,
    .committed = chunk_extent_committed,
    .damaged = chunk_extent_damaged,
    .rested = chunk_extent_rested,
    .sync = chunk_extent_sync,
    .removed = chunk_extent_removed,
    .tick = chunk_extent_tick,
    .round = chunk_extent_round,
    .settled = extent_settled,
    .end = extent_end,
    .figures = extent_figures,
};
